/* SPDX-License-Identifier: MIT */
/*
 * Shown here: the whole core over a fake backend. One fixed flow (CPU touches, prefetches, device faults,
 * evictions, pins, acquires, duplicates, mapping in place, work, discard, close) is run again and again,
 * each time with another failure in it: of every call of every op of the backend, and of calls of the
 * operating system. Each time the state is valid afterwards, every byte is right or its loss is
 * reported, nothing hangs or leaks, and the same memory works when the failure is over.
 */
#include "fixture.h"

#include "fake_backend.h"
#include "space.h"
#include "sys.h"
#include "uffd_uapi.h"
#include <errno.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE	  FIXTURE_PAGE
#define BLOCK	  FIXTURE_BLOCK
#define WINDOW	  (32u * BLOCK)
#define HOST	  ((struct svm_location){ .kind = SVM_LOCATION_HOST })
#define N_BLOCKS  4u /* three private ones and one of shared storage */
#define SHARED	  3u
#define N_WATCHED 5u

/* Pages of each block whose bytes are followed. */
static const unsigned int watched[N_WATCHED] = { 0, 1, 6, 100, 511 };

/* ---- Touches that may end in a signal ---------------------------------------------------------- */

static sigjmp_buf touch_failed;
static struct sigaction old_bus;
static struct sigaction old_segv;

static void on_signal(int signal)
{
	siglongjmp(touch_failed, signal);
}

static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigemptyset(&action.sa_mask);
	assert_int_equal(sigaction(SIGBUS, &action, &old_bus), 0);
	assert_int_equal(sigaction(SIGSEGV, &action, &old_segv), 0);
}

static void release_signals(void)
{
	(void)sigaction(SIGBUS, &old_bus, NULL);
	(void)sigaction(SIGSEGV, &old_segv, NULL);
}

static int cpu_write(volatile uint64_t *word, uint64_t value)
{
	catch_signals();
	if (sigsetjmp(touch_failed, 1) != 0) {
		release_signals();
		return -EFAULT;
	}
	*word = value;
	release_signals();
	return 0;
}

static int cpu_read(const volatile uint64_t *word, uint64_t *ret_value)
{
	catch_signals();
	if (sigsetjmp(touch_failed, 1) != 0) {
		release_signals();
		return -EFAULT;
	}
	*ret_value = *word;
	release_signals();
	return 0;
}

/* ---- The flow ---------------------------------------------------------------------------------- */

struct flow {
	struct svm_fixture *f;
	struct svm_device *device;
	char *block[N_BLOCKS];
	uint64_t expected[N_BLOCKS][N_WATCHED];
	uint64_t next_value;
	unsigned int n_errors; /* calls and touches that failed, and the last of them: */
	int last_error;
	int last_line;
	unsigned int n_odd; /* of these, with an error that no loss explains, and the last: */
	int odd_error;
	bool may_lose; /* the device may die: poisoned pages are a fair report */
	unsigned int n_lost;
	const char *what; /* for messages */
};

static uint64_t *word_of(const struct flow *flow, unsigned int b, unsigned int i)
{
	return (uint64_t *)(void *)(flow->block[b] + watched[i] * PAGE);
}

#define note(flow, r) note_at(flow, r, __LINE__)
static void note_at(struct flow *flow, int r, int line)
{
	if (r == 0)
		return;
	flow->n_errors++;
	flow->last_error = r;
	flow->last_line = line;
	if (r != -ENODEV && r != -EIO && r != -EFAULT) {
		flow->n_odd++;
		flow->odd_error = r;
	}
}

/* What has to work, and what the run was about if it does not. */
#define works(flow, call)                                                               \
	do {                                                                            \
		int works_ = (call);                                                    \
		if (works_ != 0)                                                        \
			fail_msg("%s: %s: %s", (flow)->what, #call, strerror(-works_)); \
	} while (0)

static bool has(const struct flow *flow, uint32_t caps)
{
	(void)flow;
	return (fake.caps & caps) == caps;
}

static void wrong_bytes(const struct flow *flow, unsigned int b, unsigned int i, uint64_t found)
{
	fail_msg("%s: block %u, page %u: %llx instead of %llx", flow->what, b, watched[i],
		 (unsigned long long)found, (unsigned long long)flow->expected[b][i]);
}

static void write_by_cpu(struct flow *flow, unsigned int b)
{
	for (unsigned int i = 0; i < N_WATCHED; i++) {
		uint64_t value = ++flow->next_value;
		int r = cpu_write(word_of(flow, b, i), value);

		if (r == 0)
			flow->expected[b][i] = value;
		note(flow, r);
	}
}

static void read_by_cpu(struct flow *flow, unsigned int b)
{
	for (unsigned int i = 0; i < N_WATCHED; i++) {
		uint64_t found = 0;
		int r = cpu_read(word_of(flow, b, i), &found);

		if (r == 0 && found != flow->expected[b][i])
			wrong_bytes(flow, b, i, found);
		note(flow, r);
	}
}

/* A device without faults is given the memory first. */
static void use_by_device(struct flow *flow, unsigned int b, bool write)
{
	struct svm_access_range range = { .addr = flow->block[b],
					  .size = BLOCK,
					  .access = write ? SVM_ACCESS_WRITE : SVM_ACCESS_READ };
	struct svm_access *access = NULL;
	int r = 0;

	if (!has(flow, SVM_CAP_FAULTS))
		r = svm_acquire(flow->device, &range, 1, 0, &access, NULL);
	note(flow, r);
	for (unsigned int i = 0; i < N_WATCHED && r == 0; i += 2) {
		uint64_t found = 0;
		uint64_t value = ++flow->next_value;

		r = fake_read((uint64_t)word_of(flow, b, i), &found);
		if (r == 0 && found != flow->expected[b][i])
			wrong_bytes(flow, b, i, found);
		if (r == 0 && write) {
			r = fake_write((uint64_t)word_of(flow, b, i), value);
			if (r == 0)
				flow->expected[b][i] = value;
		}
		note(flow, r);
	}
	assert_int_equal(svm_release(access, NULL), 0);
}

static void prefetch(struct flow *flow, unsigned int b, struct svm_location to)
{
	note(flow, svm_prefetch(flow->f->space, flow->block[b], BLOCK, to, NULL));
}

static void advise(struct flow *flow, unsigned int b, uint32_t kind, uint32_t device,
		   uint64_t value)
{
	const struct svm_advice advice = { .kind = kind, .device = device, .value = value };

	note(flow, svm_advise(flow->f->space, flow->block[b], BLOCK, &advice, 1, NULL));
}

static void step_touch(struct flow *flow)
{
	for (unsigned int b = 0; b < N_BLOCKS; b++)
		write_by_cpu(flow, b);
}

static void step_prefetch(struct flow *flow)
{
	prefetch(flow, 0, svm_device_location(flow->device));
}

static void step_device_fault(struct flow *flow)
{
	use_by_device(flow, 1, true);
	use_by_device(flow, 0, false);
}

static void step_read_back(struct flow *flow)
{
	read_by_cpu(flow, 0);
	write_by_cpu(flow, 1);
}

/* Three blocks in a memory of two. */
static void step_evict(struct flow *flow)
{
	for (unsigned int b = 0; b < 3; b++)
		prefetch(flow, b, svm_device_location(flow->device));
	use_by_device(flow, 0, true);
	read_by_cpu(flow, 1);
}

static void step_pin(struct flow *flow)
{
	struct svm_space *space = flow->f->space;
	struct svm_location there = svm_device_location(flow->device);
	int r = svm_pin(space, flow->block[0], BLOCK, HOST);

	note(flow, r);
	if (r == 0)
		works(flow, svm_unpin(space, flow->block[0], BLOCK, HOST));
	r = svm_pin(space, flow->block[1], PAGE * 8u, there);
	note(flow, r);
	if (r == 0)
		works(flow, svm_unpin(space, flow->block[1], PAGE * 8u, there));
}

static void step_acquire(struct flow *flow)
{
	struct svm_access_range ranges[2] = {
		{ .addr = flow->block[1], .size = BLOCK, .access = SVM_ACCESS_WRITE },
		{ .addr = flow->block[2], .size = 16u * PAGE, .access = SVM_ACCESS_READ },
	};
	struct svm_access *access = NULL;
	struct svm_fence *done = NULL;
	int r = svm_acquire(flow->device, ranges, 2, 0, &access, NULL);

	note(flow, r);
	if (r < 0)
		return;
	r = svm_fence_create(flow->f->space, &done);
	note(flow, r);
	works(flow, svm_release(access, r < 0 ? NULL : done));
	if (r < 0)
		return;
	works(flow, svm_fence_signal(done, 0));
	svm_fence_unref(done);
	write_by_cpu(flow, 1);
}

static void step_duplicate(struct flow *flow)
{
	advise(flow, 2, SVM_ADVICE_READ_MOSTLY, 0, 1);
	write_by_cpu(flow, 2);
	use_by_device(flow, 2, false);
	read_by_cpu(flow, 2);
	write_by_cpu(flow, 2);
	use_by_device(flow, 2, true);
	note(flow,
	     svm_unadvise(flow->f->space, flow->block[2], BLOCK, 1u << SVM_ADVICE_READ_MOSTLY));
}

/* Shared storage, and private storage that becomes shared. */
static void step_in_place(struct flow *flow)
{
	if (!has(flow, SVM_CAP_HOST_ALIAS))
		return;
	advise(flow, SHARED, SVM_ADVICE_ACCESS_IN_PLACE, svm_device_id(flow->device), 0);
	use_by_device(flow, SHARED, true);
	read_by_cpu(flow, SHARED);
	advise(flow, 2, SVM_ADVICE_ACCESS_IN_PLACE, svm_device_id(flow->device), 0);
	write_by_cpu(flow, 2);
	use_by_device(flow, 2, true);
	write_by_cpu(flow, 2);
}

static void step_work(struct flow *flow)
{
	int r = svm_device_fill(flow->device, flow->block[1] + 200u * PAGE, 7, 3u * PAGE, NULL,
				NULL);

	note(flow, r);
	if (r == 0)
		r = svm_device_copy(flow->device, flow->block[0] + 300u * PAGE,
				    flow->block[1] + 200u * PAGE, 3u * PAGE, NULL, NULL);
	note(flow, r);
	if (r == 0) {
		uint64_t found = 0;

		r = cpu_read((uint64_t *)(void *)(flow->block[0] + 301u * PAGE), &found);
		if (r == 0)
			assert_int_equal(found, UINT64_C(0x0707070707070707));
		note(flow, r);
	}
}

/* Pages 0 and 1 of block 0 become zero. */
static void step_discard(struct flow *flow)
{
	int r = svm_discard(flow->f->space, flow->block[0], 2u * PAGE, 0);

	note(flow, r);
	for (unsigned int i = 0; i < 2; i++) {
		uint64_t found = 0;

		/* If it failed, it may have come that far. */
		if (r == 0 || (cpu_read(word_of(flow, 0, i), &found) == 0 && found == 0))
			flow->expected[0][i] = 0;
	}
}

static void (*const steps[])(struct flow *flow) = {
	step_touch,   step_prefetch,  step_device_fault, step_read_back, step_evict,   step_pin,
	step_acquire, step_duplicate, step_in_place,	 step_work,	 step_discard,
};
#define N_STEPS (sizeof(steps) / sizeof(steps[0]))

static int open_space(struct flow *flow, const struct svm_space_options *options)
{
	struct svm_space_options o = { .size = sizeof(o),
				       .window_size = WINDOW,
				       .op_timeout_ms = 5000 };
	int r;

	if (options)
		o = *options;
	o.flags |= flow->f->variant->flags;
	o.loop = flow->f->variant->loop;
	r = svm_space_create(&o, &flow->f->space);
	if (r < 0) {
		flow->f->space = NULL;
		return r;
	}
	r = svm_device_open(flow->f->space, "fake", &flow->device);
	for (unsigned int b = 0; b < N_BLOCKS && r == 0; b++) {
		void *addr = NULL;

		r = svm_alloc(flow->f->space, BLOCK, b == SHARED ? SVM_ALLOC_SHARED : 0, &addr);
		flow->block[b] = addr;
	}
	if (r < 0) {
		int destroyed = svm_space_destroy(flow->f->space);

		if (destroyed < 0) /* the failure may have hit here, too */
			destroyed = svm_space_destroy(flow->f->space);
		assert_int_equal(destroyed, 0);
		flow->f->space = NULL;
	}
	return r;
}

/* All blocks are in a state that the coherence machine allows. */
static void check_blocks(const struct flow *flow)
{
	struct svm_ctx *ctx = &flow->f->space->ctx;

	svm_rwlock_read(&ctx->tree_lock);
	for (uint64_t b = 0; b < WINDOW / BLOCK; b++) {
		struct svm_block *block =
			ctx->blocks[b]; // NOLINT(clang-analyzer-core.NullDereference): there is a space
		const char *broken;

		if (!block)
			continue;
		svm_lock(&block->lock);
		broken = svm_coh_check(&block->coh);
		svm_unlock(&block->lock);
		if (broken)
			print_error("%s: block %u: %s is broken\n", flow->what, (unsigned int)b,
				    broken);
		assert_null(broken);
	}
	svm_rwlock_unlock(&ctx->tree_lock);
}

static bool is_poisoned(const struct flow *flow, const void *addr)
{
	return (fixture_page(flow->f, addr).flags & SVM_PAGE_POISONED) != 0;
}

/* Poisoned pages become zero pages. */
static void give_up_lost(struct flow *flow, unsigned int b)
{
	for (unsigned int page = 0; page < SVM_BLOCK_PAGES && flow->may_lose; page++) {
		char *addr = flow->block[b] + page * PAGE;

		if (is_poisoned(flow, addr))
			works(flow, svm_discard(flow->f->space, addr, PAGE, 0));
	}
}

/* Whatever failed is over: what is not lost is there, and a lost page says so. */
static void check_bytes(struct flow *flow)
{
	for (unsigned int b = 0; b < N_BLOCKS; b++) {
		for (unsigned int i = 0; i < N_WATCHED; i++) {
			uint64_t *word = word_of(flow, b, i);
			uint64_t found = 0;
			int r = svm_prefetch(flow->f->space, word, 8, HOST, NULL);

			if (flow->may_lose && is_poisoned(flow, word)) {
				assert_int_equal(r, -EIO);
				assert_int_equal(cpu_read(word, &found), -EFAULT);
				flow->expected[b][i] = 0;
				flow->n_lost++;
				continue;
			}
			if (r < 0)
				fail_msg("%s: block %u, page %u: prefetch to the host: %s",
					 flow->what, b, watched[i], strerror(-r));
			if (cpu_read(word, &found) < 0)
				fail_msg("%s: block %u, page %u cannot be read", flow->what, b,
					 watched[i]);
			if (found != flow->expected[b][i])
				wrong_bytes(flow, b, i, found);
		}
		give_up_lost(flow, b);
	}
}

static bool is_lost(struct flow *flow)
{
	struct svm_device_info info = { .size = sizeof(info) };

	works(flow, svm_device_query(flow->device, &info));
	return info.is_lost;
}

/* The same memory goes on working. */
static void check_later(struct flow *flow)
{
	unsigned int before = flow->n_errors;

	if (is_lost(flow)) {
		works(flow, svm_device_close(flow->device));
		works(flow, svm_device_open(flow->f->space, "fake", &flow->device));
	}
	for (unsigned int b = 0; b < 2; b++) {
		prefetch(flow, b, svm_device_location(flow->device));
		use_by_device(flow, b, true);
	}
	for (unsigned int b = 0; b < N_BLOCKS; b++)
		write_by_cpu(flow, b);
	if (flow->n_errors != before)
		fail_msg("%s: a later operation fails (%s, line %d)", flow->what,
			 strerror(-flow->last_error), flow->last_line);
	check_bytes(flow);
}

static void end(struct flow *flow)
{
	works(flow, svm_device_close(flow->device));
	assert_int_equal(fake_n_chunks(), 0);
	for (unsigned int b = 0; b < N_BLOCKS; b++) {
		for (unsigned int i = 0; i < N_WATCHED; i++) {
			uint64_t found = 0;

			works(flow, cpu_read(word_of(flow, b, i), &found));
			if (found != flow->expected[b][i])
				wrong_bytes(flow, b, i, found);
		}
		works(flow, svm_free(flow->f->space, flow->block[b]));
	}
	fixture_space_end(flow->f);
	assert_int_equal(fake_n_open(), 0);
	if (fake_wrong())
		fail_msg("%s: the backend's contract was broken", flow->what);
}

static void run_steps(struct flow *flow)
{
	for (unsigned int i = 0; i < N_STEPS; i++)
		steps[i](flow);
}

/* Close is part of the flow: it may fail, too. */
static void try_close(struct flow *flow)
{
	int r;

	use_by_device(flow, 1, true);
	r = svm_device_close(flow->device);
	note(flow, r);
	if (r < 0)
		return;
	fake_heal();
	r = svm_device_open(flow->f->space, "fake", &flow->device);
	note(flow, r);
	if (r < 0)
		works(flow, svm_device_open(flow->f->space, "fake", &flow->device));
}

static void finish(struct flow *flow)
{
	fake_heal();
	check_blocks(flow);
	check_bytes(flow);
	check_later(flow);
	check_blocks(flow);
	end(flow);
}

/* ---- The flow as it is ------------------------------------------------------------------------- */

static const uint32_t caps_of[] = {
	FAKE_CAPS_ALL,
	FAKE_CAPS_ALL & ~SVM_CAP_FAULTS,
	FAKE_CAPS_ALL & ~SVM_CAP_COPY_ENGINE,
	FAKE_CAPS_ALL & ~(SVM_CAP_READ_ONLY | SVM_CAP_HOST_ALIAS | SVM_CAP_CPU_VISIBLE),
};
#define N_CAPS (sizeof(caps_of) / sizeof(caps_of[0]))

static void nothing_fails(struct svm_fixture *f)
{
	for (unsigned int c = 0; c < N_CAPS; c++) {
		for (unsigned int pace = FAKE_AT_ONCE; pace <= FAKE_BY_THREAD; pace++) {
			struct flow flow = { .f = f, .what = "nothing fails" };

			fake_reset();
			fake.caps = caps_of[c];
			fake.pace = (enum fake_pace)pace;
			assert_int_equal(open_space(&flow, NULL), 0);
			run_steps(&flow);
			try_close(&flow);
			assert_int_equal(flow.n_errors, 0);
			finish(&flow);
			assert_int_equal(flow.n_lost, 0);
		}
	}
	fake_unplug();
}

/* ---- Failing ops ------------------------------------------------------------------------------- */

/* How it fails. */
#define KEEP   (1u << 0) /* memory survives the loss of the device */
#define POINT  (1u << 1) /* the call is taken, and its point fails */
#define CORPSE (1u << 2) /* memory that did not survive can be mapped, and shows something */
#define HIDDEN (1u << 3) /* with KEEP: it survives, and nobody can get at it */

/* One run with the nth call of op failing with error; 0: the device dies there. False: there is no nth call. */
static bool run_with_failure(struct svm_fixture *f, uint32_t caps, enum fake_pace pace,
			     enum fake_op op, unsigned int nth, int error, unsigned int how)
{
	char what[96];
	struct flow flow = { .f = f, .what = what };
	bool was_there;
	int r;

	(void)snprintf(what, sizeof(what), "caps %x, pace %u: %s call %u: %s%s", caps,
		       (unsigned int)pace, fake_op_names[op], nth,
		       error ? strerror(-error) : "death",
		       how & HIDDEN   ? ", memory hidden"
		       : how & KEEP   ? ", memory kept"
		       : how & CORPSE ? ", memory garbage"
		       : how & POINT  ? ", by its point"
				      : "");
	fake_reset();
	fake.caps = caps;
	fake.pace = pace;
	fake.keep = (how & KEEP) != 0;
	fake.corpse = (how & CORPSE) != 0;
	if (error == 0)
		fake_die_at(op, nth);
	else if (how & POINT)
		fake_fail_point(op, nth, error);
	else
		fake_fail(op, nth, error, 1);
	/* Without an answer to its faults a device is of no use. */
	flow.may_lose = error == 0 || op == FAKE_FAULT_READ || op == FAKE_FAULT_DONE;
	r = open_space(&flow, NULL);
	if (r < 0) {
		assert_int_equal(op, FAKE_OPEN);
		assert_int_equal(r, error);
		fake_heal();
		assert_int_equal(open_space(&flow, NULL), 0);
	}
	run_steps(&flow);
	try_close(&flow);
	was_there = fake_calls(op) >= nth;
	/* A full queue is nothing that anybody should notice. */
	if (error == -EAGAIN && flow.n_errors)
		fail_msg("%s: %u calls fail, the last with %s in line %d", what, flow.n_errors,
			 strerror(-flow.last_error), flow.last_line);
	finish(&flow);
	/* However it refuses what is left to do: the device is gone, and that is what its users are told. */
	if (error == 0 && flow.n_odd)
		fail_msg("%s: %u calls fail with another error, the last with %s", what, flow.n_odd,
			 strerror(-flow.odd_error));
	if ((how & (KEEP | HIDDEN)) == KEEP && flow.n_lost)
		fail_msg("%s: %u pages lost", what, flow.n_lost);
	return was_there;
}

static void each_call_fails_once(struct svm_fixture *f, uint32_t caps, enum fake_pace pace,
				 enum fake_op op, int error, unsigned int how)
{
	unsigned int n = 1;

	fixture_watchdog(60);
	while (run_with_failure(f, caps, pace, op, n, error, how))
		n = fixture_next_failure(n);
	/* The flow reaches the op. */
	assert_true(n > 1);
	fake_unplug();
}

static void each_open_fails_once(struct svm_fixture *f)
{
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_OPEN, -EMFILE, 0);
}

static void each_chunk_alloc_fails_once(struct svm_fixture *f)
{
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_CHUNK_ALLOC, -ENOMEM, 0);
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_BY_THREAD, FAKE_CHUNK_ALLOC, -ENOSPC, 0);
	each_call_fails_once(f, caps_of[1], FAKE_AT_ONCE, FAKE_CHUNK_ALLOC, -ENOSPC, 0);
}

static void each_chunk_map_fails_once(struct svm_fixture *f)
{
	each_call_fails_once(f, caps_of[2], FAKE_AT_ONCE, FAKE_CHUNK_MAP, -ENOMEM, 0);
}

static void each_bind_fails_once(struct svm_fixture *f)
{
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_BIND, -ENOMEM, 0);
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_BY_THREAD, FAKE_BIND, -EIO, 0);
	each_call_fails_once(f, caps_of[1], FAKE_AT_ONCE, FAKE_BIND, -ENOMEM, 0);
}

static void each_bind_finds_the_queue_full_once(struct svm_fixture *f)
{
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_BIND, -EAGAIN, 0);
	each_call_fails_once(f, caps_of[1], FAKE_BY_THREAD, FAKE_BIND, -EAGAIN, 0);
}

static void each_copy_fails_once(struct svm_fixture *f)
{
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_COPY, -ENOMEM, 0);
	each_call_fails_once(f, caps_of[3], FAKE_BY_THREAD, FAKE_COPY, -EIO, 0);
}

static void each_copy_finds_the_queue_full_once(struct svm_fixture *f)
{
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_COPY, -EAGAIN, 0);
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_BY_THREAD, FAKE_COPY, -EAGAIN, 0);
}

static void each_point_fails_once(struct svm_fixture *f)
{
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_BIND, -ENOMEM, POINT);
	each_call_fails_once(f, caps_of[1], FAKE_BY_THREAD, FAKE_BIND, -EIO, POINT);
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_BY_THREAD, FAKE_COPY, -EIO, POINT);
	each_call_fails_once(f, caps_of[3], FAKE_AT_ONCE, FAKE_COPY, -ENOMEM, POINT);
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_WORK, -EIO, POINT);
}

static void each_work_fails_once(struct svm_fixture *f)
{
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_WORK, -EIO, 0);
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_BY_THREAD, FAKE_WORK, -EAGAIN, 0);
}

static void each_fault_op_fails_once(struct svm_fixture *f)
{
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_FAULT_READ, -EIO, 0);
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_FAULT_DONE, -EIO, KEEP);
}

static void the_device_dies_at_each_bind(struct svm_fixture *f)
{
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_BIND, 0, 0);
	each_call_fails_once(f, caps_of[1], FAKE_BY_THREAD, FAKE_BIND, 0, KEEP);
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_BIND, 0, CORPSE);
	each_call_fails_once(f, caps_of[2], FAKE_AT_ONCE, FAKE_BIND, 0, CORPSE);
	each_call_fails_once(f, caps_of[3], FAKE_AT_ONCE, FAKE_BIND, 0, KEEP | HIDDEN);
}

static void the_device_dies_at_each_copy(struct svm_fixture *f)
{
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_BY_THREAD, FAKE_COPY, 0, 0);
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_COPY, 0, KEEP);
}

static void the_device_dies_at_each_other_op(struct svm_fixture *f)
{
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_CHUNK_ALLOC, 0, KEEP);
	each_call_fails_once(f, caps_of[2], FAKE_AT_ONCE, FAKE_CHUNK_MAP, 0, CORPSE);
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_AT_ONCE, FAKE_FAULT_READ, 0, 0);
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_BY_THREAD, FAKE_FAULT_DONE, 0, KEEP);
	each_call_fails_once(f, FAKE_CAPS_ALL, FAKE_BY_THREAD, FAKE_WORK, 0, 0);
}

/* Room for one call at a time. */
static void a_queue_of_one(struct svm_fixture *f)
{
	for (unsigned int c = 0; c < N_CAPS; c++) {
		struct flow flow = { .f = f, .what = "a queue of one" };

		fake_reset();
		fake.caps = caps_of[c];
		fake.pace = FAKE_BY_THREAD;
		fake.queue = 1;
		assert_int_equal(open_space(&flow, NULL), 0);
		run_steps(&flow);
		try_close(&flow);
		assert_int_equal(flow.n_errors, 0);
		finish(&flow);
	}
	fake_unplug();
}

/* ---- A device that stops answering ------------------------------------------------------------- */

static void given_up_when_it_never_signals(struct svm_fixture *f)
{
	const struct svm_space_options options = { .size = sizeof(options),
						   .window_size = WINDOW,
						   .op_timeout_ms = 60 };
	unsigned int n_given_up = 0;

	for (unsigned int from = 0; from < N_STEPS; from++) {
		char what[64];
		struct flow flow = { .f = f, .what = what, .may_lose = true };

		(void)snprintf(what, sizeof(what), "no signal from step %u on", from);
		fake_reset();
		assert_int_equal(open_space(&flow, &options), 0);
		for (unsigned int i = 0; i < N_STEPS; i++) {
			/* Work of the application may take as long as it likes: nobody would give it up. */
			if (i >= from && steps[i] == step_work)
				continue;
			if (i == from)
				fake.pace = FAKE_ON_COMMAND;
			steps[i](&flow);
		}
		if (is_lost(&flow)) {
			n_given_up++;
			assert_int_equal(fixture_events(f, SVM_EVENT_WATCHDOG), 1);
			assert_int_equal(fixture_events(f, SVM_EVENT_DEVICE_LOST), 1);
		}
		fake.pace = FAKE_AT_ONCE;
		finish(&flow);
	}
	assert_true(n_given_up >= N_STEPS - 2u);
	fake_unplug();
}

/* ---- Single things that failed once ------------------------------------------------------------ */

static struct flow open_plain(struct svm_fixture *f, const char *what)
{
	struct flow flow = { .f = f, .what = what };

	assert_int_equal(open_space(&flow, NULL), 0);
	return flow;
}

/* Every second page of a block is with the device: as many runs as can be, many batches of copies and binds. */
static void many_runs_in_one_block(struct svm_fixture *f)
{
	static const enum fake_op ops[] = { FAKE_COPY, FAKE_BIND };
	unsigned int step = fixture_quick() == 2 ? 11 : 1;

	for (unsigned int o = 0; o < 2; o++) {
		for (unsigned int nth = 1; nth <= 12; nth += step) {
			const struct svm_advice fine = { .kind = SVM_ADVICE_GRANULARITY,
							 .value = PAGE };
			struct flow flow;
			uint64_t found;

			fake_reset();
			flow = open_plain(f, "many runs");
			assert_int_equal(svm_advise(f->space, flow.block[0], BLOCK, &fine, 1, NULL),
					 0);
			for (unsigned int p = 0; p < 512; p++)
				*(uint64_t *)(void *)(flow.block[0] + p * PAGE) = p + 1u;
			for (unsigned int p = 0; p < 512; p += 2)
				assert_int_equal(fake_write((uint64_t)flow.block[0] + p * PAGE,
							    p + 1000u),
						 0);
			fake_fail(ops[o], nth, nth % 2 ? -ENOMEM : -EAGAIN, 1);
			(void)svm_prefetch(f->space, flow.block[0], BLOCK, HOST, NULL);
			for (unsigned int p = 0; p < 512; p += 2)
				(void)fake_read((uint64_t)flow.block[0] + p * PAGE, &found);
			(void)svm_prefetch(f->space, flow.block[0], BLOCK,
					   svm_device_location(flow.device), NULL);
			fake_heal();
			check_blocks(&flow);
			assert_int_equal(svm_prefetch(f->space, flow.block[0], BLOCK, HOST, NULL),
					 0);
			for (unsigned int p = 0; p < 512; p++) {
				found = 0;
				assert_int_equal(
					cpu_read((uint64_t *)(void *)(flow.block[0] + p * PAGE),
						 &found),
					0);
				assert_int_equal(found, p % 2 ? p + 1u : p + 1000u);
			}
			assert_int_equal(svm_device_close(flow.device), 0);
			fixture_space_end(f);
			assert_int_equal(fake_wrong(), 0);
		}
	}
	fake_unplug();
}

/* Zeros made on the device wait for room in the queue of copies, not for that of another timeline. */
static void a_first_touch_waits_for_the_queue_of_copies(struct svm_fixture *f)
{
	struct svm_prefetch_range ranges[2];
	struct svm_prefetch *prefetch_of[2];
	struct flow flow;

	fake_reset();
	fake.queue = 1;
	fake.pace = FAKE_ON_COMMAND;
	flow = open_plain(f, "first touch");
	for (unsigned int i = 0; i < 2; i++) {
		ranges[i] = (struct svm_prefetch_range){ flow.block[i], BLOCK,
							 svm_device_location(flow.device) };
		assert_int_equal(
			svm_prefetch_start(f->space, &ranges[i], 1, NULL, 0, &prefetch_of[i]), 0);
	}
	/* The second was told once that there is no room, and asks no more until there is. */
	fake_await_calls(FAKE_COPY, 2);
	assert_int_equal(svm_prefetch_wait(prefetch_of[1], 20000000, NULL, 0), -ETIMEDOUT);
	assert_int_equal(fake_calls(FAKE_COPY), 2);
	fake.pace = FAKE_AT_ONCE;
	fake_complete(~0u);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(svm_prefetch_wait(prefetch_of[i], -1, NULL, 0), 0);
		assert_int_equal(svm_prefetch_destroy(prefetch_of[i]), 0);
	}
	assert_int_equal(fake_calls(FAKE_COPY), 3);
	finish(&flow);
	fake_unplug();
}

/* The backend has less memory than its caps say, and nothing that could be evicted. */
static void less_memory_than_was_said(struct svm_fixture *f)
{
	struct svm_prefetch_result result;
	struct flow flow;

	fake_reset();
	fake.n_chunks = 0;
	fake.memory_size = 4u * BLOCK;
	flow = open_plain(f, "less memory than was said");
	step_touch(&flow);
	assert_int_equal(svm_prefetch(f->space, flow.block[0], BLOCK,
				      svm_device_location(flow.device), &result),
			 -ENOSPC);
	assert_int_equal(result.outcome.reason, SVM_REASON_NO_MEMORY);
	check_bytes(&flow);
	fake.n_chunks = 1;
	for (unsigned int b = 0; b < 3; b++)
		prefetch(&flow, b, svm_device_location(flow.device));
	assert_int_equal(flow.n_errors, 0);
	fake.n_chunks = 2;
	finish(&flow);
	fake_unplug();
}

/* An op says that the device is gone before the event does: nobody may take that for a failure of the host's pages. */
static void a_touch_outlives_the_device(struct svm_fixture *f)
{
	struct flow flow;
	unsigned int block;

	fake_reset();
	flow = open_plain(f, "death at an unbind");
	flow.may_lose = true;
	/* Of a kind that can be on both sides. */
	block = fixture_space_has(f, SVM_SPACE_CAP_SHARED_READ_ONLY) ? SHARED : 0;
	write_by_cpu(&flow, block);
	advise(&flow, block, SVM_ADVICE_READ_MOSTLY, 0, 1);
	use_by_device(&flow, block, false);
	fake_die_at(FAKE_BIND, 1);
	/* The write has to take the device's copy away. */
	write_by_cpu(&flow, block);
	assert_int_equal(flow.n_errors, 0);
	assert_true(is_lost(&flow));
	finish(&flow);
	assert_int_equal(flow.n_lost, 0);
	fake_unplug();
}

/* The engine fails a copy because its device is dying, and says so before the device says that it is dead. Its memory is
 * kept, so the touch that wants the bytes gets them. */
static void a_copy_fails_of_the_death_to_come(struct svm_fixture *f)
{
	struct flow flow;

	fake_reset();
	fake.keep = true;
	flow = open_plain(f, "death at a copy");
	write_by_cpu(&flow, 0);
	use_by_device(&flow, 0, true);
	fake_fail_point_and_die(FAKE_COPY, 1, -EIO);
	read_by_cpu(&flow, 0);
	assert_int_equal(flow.n_errors, 0);
	assert_true(is_lost(&flow));
	finish(&flow);
	fake_unplug();
}

/* A block with a lost page cannot become shared, which is no loss of the other pages. */
static void in_place_beside_a_lost_page(struct svm_fixture *f)
{
	struct svm_advice in_place[2] = { { .kind = SVM_ADVICE_ACCESS_IN_PLACE },
					  { .kind = SVM_ADVICE_MIGRATION,
					    .value = SVM_MIGRATE_NEVER } };
	struct flow flow;
	uint64_t *word;
	uint64_t found;

	fake_reset();
	flow = open_plain(f, "in place beside a lost page");
	flow.may_lose = true;
	write_by_cpu(&flow, 0);
	assert_int_equal(svm_prefetch(f->space, flow.block[0], PAGE,
				      svm_device_location(flow.device), NULL),
			 0);
	fake_die();
	assert_int_equal(cpu_read(word_of(&flow, 0, 0), &found), -EFAULT);
	assert_int_equal(svm_device_close(flow.device), 0);
	assert_int_equal(svm_device_open(f->space, "fake", &flow.device), 0);
	word = word_of(&flow, 0, 3);
	in_place[0].device = svm_device_id(flow.device);
	assert_int_equal(svm_advise(f->space, word, PAGE, in_place, 2, NULL), 0);
	assert_int_equal(fake_read((uint64_t)word, &found), -ENOLINK);
	assert_int_equal(cpu_read(word, &found), 0);
	assert_int_equal(found, flow.expected[0][3]);
	assert_int_equal(svm_unadvise(f->space, word, PAGE, (1u << SVM_ADVICE_MIGRATION)), 0);
	finish(&flow);
	fake_unplug();
}

/* An acquire waits for device memory for its last pages, and the first ones are taken meanwhile: in the end it holds
 * them all. */
static void an_acquire_holds_what_was_taken_while_it_waited(struct svm_fixture *f)
{
	struct svm_access_range held[2];
	struct svm_access_range mixed;
	struct svm_access *first;
	struct svm_access *second;
	struct svm_fence *done;
	struct svm_fence *ready;
	struct flow flow;
	char *word;

	fake_reset();
	fake.caps = caps_of[1];
	flow = open_plain(f, "taken while it waited");
	for (unsigned int i = 0; i < 2; i++)
		held[i] = (struct svm_access_range){ .addr = flow.block[i],
						     .size = BLOCK,
						     .access = SVM_ACCESS_WRITE };
	word = flow.block[SHARED];
	advise(&flow, SHARED, SVM_ADVICE_ACCESS_IN_PLACE, svm_device_id(flow.device), 0);
	assert_int_equal(svm_unadvise(f->space, word + BLOCK / 2u, BLOCK / 2u,
				      1u << SVM_ADVICE_ACCESS_IN_PLACE),
			 0);
	assert_int_equal(svm_acquire(flow.device, held, 2, 0, &first, NULL), 0);
	assert_int_equal(svm_fence_create(f->space, &done), 0);
	assert_int_equal(svm_release(first, done), 0);
	mixed = (struct svm_access_range){ .addr = word,
					   .size = BLOCK,
					   .access = SVM_ACCESS_WRITE };
	assert_int_equal(svm_acquire(flow.device, &mixed, 1, 0, &second, &ready), 0);
	assert_int_equal(svm_fence_wait(ready, 20000000), -ETIMEDOUT);
	assert_int_equal(svm_discard(f->space, word, PAGE, 0), 0);
	assert_int_equal(svm_fence_signal(done, 0), 0);
	assert_int_equal(svm_fence_wait(ready, -1), 0);
	assert_int_equal(fake_write((uint64_t)word, 1), 0);
	flow.expected[SHARED][0] = 1;
	assert_int_equal(svm_release(second, NULL), 0);
	svm_fence_unref(done);
	svm_fence_unref(ready);
	finish(&flow);
	fake_unplug();
}

/* While a block becomes shared there is a moment in which the kernel serves touches of it by itself. The CPU reads what a
 * device holds just then, and writes over it. */
static struct {
	uint64_t *read;
	uint64_t *write;
	uint64_t value; /* to write */
	uint64_t found;
	unsigned int n;
	bool refuse;
} moment;

static int moment_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		       void **ret_addr)
{
	uint64_t start = (uint64_t)(uintptr_t)addr;
	int r = svm_sys_real.mmap(addr, size, prot, flags, fd, offset, ret_addr);

	if (r == 0 && (flags & MAP_FIXED) && (flags & MAP_SHARED) && moment.read &&
	    (uint64_t)(uintptr_t)moment.read - start < size) {
		if (moment.n++ == 0) {
			moment.found = *(volatile uint64_t *)moment.read;
			*(volatile uint64_t *)moment.write = moment.value;
		}
	}
	return r;
}

/* Not a test's own: service threads of a test that failed still call through it. */
static struct svm_sys sys;

static void a_block_becomes_shared_under_touches(struct svm_fixture *f)
{
	struct flow flow;

	for (unsigned int c = 0; c < 3; c += 2) {
		struct svm_advice in_place = { .kind = SVM_ADVICE_ACCESS_IN_PLACE };
		uint64_t *word;
		uint64_t found;

		fake_reset();
		fake.caps = caps_of[c];
		sys = svm_sys_real;
		sys.mmap = moment_mmap;
		svm_sys = &sys;
		flow = open_plain(f, "becomes shared");
		write_by_cpu(&flow, 0);
		assert_int_equal(svm_prefetch(f->space, flow.block[0], 8u * PAGE,
					      svm_device_location(flow.device), NULL),
				 0);
		moment.n = 0;
		moment.read = word_of(&flow, 0, 0);
		moment.write = word_of(&flow, 0, 1);
		moment.value = ++flow.next_value;
		word = word_of(&flow, 0, 3);
		in_place.device = svm_device_id(flow.device);
		assert_int_equal(svm_advise(f->space, word, PAGE, &in_place, 1, NULL), 0);
		assert_int_equal(fake_read((uint64_t)word, &found), 0);
		assert_int_equal(found, flow.expected[0][3]);
		assert_int_equal(moment.n, 1);
		assert_int_equal(moment.found, flow.expected[0][0]);
		flow.expected[0][1] = moment.value;
		assert_int_equal(fake_read((uint64_t)moment.write, &found), 0);
		assert_int_equal(found, moment.value);
		moment.read = NULL;
		assert_true(fixture_page(f, word).flags & SVM_PAGE_SHARED);
		finish(&flow);
		svm_sys = &svm_sys_real;
	}
	fake_unplug();
}

/* ... and then it does not, for want of memory: what was written meanwhile, also to pages that did not exist, is there. */
static int moment_ioctl(int fd, unsigned long request, void *arg)
{
	struct uffdio_register *r = arg;

	if (request == UFFDIO_REGISTER && moment.refuse &&
	    r->range.start <= (uint64_t)moment.read && r->mode & UFFDIO_REGISTER_MODE_MINOR) {
		moment.refuse = false;
		return -ENOMEM;
	}
	return svm_sys_real.ioctl(fd, request, arg);
}

static void a_block_stays_private_under_touches(struct svm_fixture *f)
{
	struct svm_advice in_place = { .kind = SVM_ADVICE_ACCESS_IN_PLACE };
	struct flow flow;
	uint64_t *fresh;
	uint64_t found;
	void *map;

	fake_reset();
	fake.caps = caps_of[0];
	sys = svm_sys_real;
	sys.mmap = moment_mmap;
	sys.ioctl = moment_ioctl;
	svm_sys = &sys;
	flow = open_plain(f, "stays private");
	assert_int_equal(svm_alloc(f->space, BLOCK, 0, &map), 0);
	assert_int_equal(cpu_write(map, 5), 0);
	/* The first touch may have made all pages at once. */
	assert_int_equal(svm_discard(f->space, (char *)map + PAGE, BLOCK - PAGE, 0), 0);
	fresh = (uint64_t *)(void *)((char *)map + 300 * PAGE);
	moment.n = 0;
	moment.refuse = true;
	moment.read = map;
	moment.write = fresh;
	moment.value = 77;
	in_place.device = svm_device_id(flow.device);
	assert_int_equal(svm_advise(f->space, map, PAGE, &in_place, 1, NULL), 0);
	/* Whether it fails or finds another way does not matter here. */
	if (fake_read((uint64_t)map, &found) == 0)
		assert_int_equal(found, 5);
	assert_false(moment.refuse);
	assert_in_range(moment.n, 1, 2);
	assert_int_equal(moment.found, 5);
	moment.read = NULL;
	assert_int_equal(cpu_read(fresh, &found), 0);
	assert_int_equal(found, 77);
	assert_int_equal(cpu_read(map, &found), 0);
	assert_int_equal(found, 5);
	assert_int_equal(fake_read((uint64_t)fresh, &found), 0);
	assert_int_equal(found, 77);
	assert_int_equal(svm_free(f->space, map), 0);
	finish(&flow);
	svm_sys = &svm_sys_real;
	fake_unplug();
}

/* What queries say of a device and of its pages is what was said and done. */
static void queries_tell_what_was_done(struct svm_fixture *f)
{
	struct svm_device_info info = { .size = sizeof(info) };
	struct flow flow;
	void *page;

	fake_reset();
	flow = open_plain(f, "queries");
	page = flow.block[0];
	assert_int_equal(svm_device_query(flow.device, &info), 0);
	assert_string_equal(info.name, "fake");
	assert_string_equal(info.backend, "fake");
	assert_int_equal(info.id, svm_device_id(flow.device));
	assert_int_equal(info.memory_used, 0);
	write_by_cpu(&flow, 0);
	assert_int_equal(fixture_page(f, page).flags & SVM_PAGE_SHARED, 0);
	prefetch(&flow, 0, svm_device_location(flow.device));
	assert_int_equal(svm_device_query(flow.device, &info), 0);
	assert_int_equal(info.memory_used, BLOCK);
	assert_int_equal(fixture_page(f, page).flags & SVM_PAGE_DISCARDED, 0);
	assert_int_equal(svm_discard(f->space, page, PAGE, SVM_DISCARD_LAZY), 0);
	assert_true(fixture_page(f, page).flags & SVM_PAGE_DISCARDED);
	assert_int_equal(fixture_page(f, (char *)page + PAGE).flags & SVM_PAGE_DISCARDED, 0);
	/* Asked for again, it is not given up any more. */
	prefetch(&flow, 0, svm_device_location(flow.device));
	assert_int_equal(fixture_page(f, page).flags & SVM_PAGE_DISCARDED, 0);
	assert_int_equal(flow.n_errors, 0);
	finish(&flow);
	fake_unplug();
}

/* One acquire of a device without faults: some pages move to it, others are to be mapped in place, for which all of the
 * block comes home once, not again and again. */
static void an_acquire_that_moves_and_maps_in_place(struct svm_fixture *f)
{
	struct svm_access_range range;
	struct svm_advice in_place = { .kind = SVM_ADVICE_ACCESS_IN_PLACE };
	struct svm_access *access;
	struct flow flow;

	fake_reset();
	fake.caps = caps_of[1];
	flow = open_plain(f, "moves and maps in place");
	write_by_cpu(&flow, 0);
	in_place.device = svm_device_id(flow.device);
	assert_int_equal(svm_advise(f->space, word_of(&flow, 0, 3), PAGE, &in_place, 1, NULL), 0);
	range = (struct svm_access_range){ .addr = flow.block[0],
					   .size = BLOCK,
					   .access = SVM_ACCESS_WRITE };
	assert_int_equal(svm_acquire(flow.device, &range, 1, 0, &access, NULL), 0);
	assert_int_equal(fake_write((uint64_t)word_of(&flow, 0, 3), 5), 0);
	assert_int_equal(fake_write((uint64_t)word_of(&flow, 0, 0), 6), 0);
	flow.expected[0][3] = 5;
	flow.expected[0][0] = 6;
	assert_int_equal(svm_release(access, NULL), 0);
	finish(&flow);
	fake_unplug();
}

/* The library reads that registered memory was unmapped, and before it can act on that the application unregisters it.
 * Its bytes are on a device. */
static ssize_t unmapping_read(int fd, void *buffer, size_t size)
{
	ssize_t n = svm_sys_real.read(fd, buffer, size);
	const struct uffd_msg *message = buffer;
	const struct timespec moment = { .tv_nsec = 50000000 };

	if (n >= (ssize_t)sizeof(*message) && message->event == UFFD_EVENT_UNMAP)
		(void)nanosleep(&moment, NULL);
	return n;
}

static void unregister_overtakes_the_news_of_munmap(struct svm_fixture *f)
{
	struct flow flow;
	char *map =
		mmap(NULL, 16u * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	memset(map, 5, 16u * PAGE);
	fake_reset();
	fake.caps = caps_of[1];
	sys = svm_sys_real;
	sys.read = unmapping_read;
	svm_sys = &sys;
	flow = open_plain(f, "unmapped, then unregistered");
	assert_int_equal(svm_register(f->space, map, 16u * PAGE, 0), 0);
	assert_int_equal(
		svm_prefetch(f->space, map, 16u * PAGE, svm_device_location(flow.device), NULL), 0);
	assert_int_equal(munmap(map, 16u * PAGE), 0);
	assert_int_equal(svm_unregister(f->space, map, 16u * PAGE), 0);
	finish(&flow);
	svm_sys = &svm_sys_real;
	fake_unplug();
}

/* The application drops pages that are on their way home. What it dropped is not to be seen again, not even for the moment
 * until they are discarded. */
static struct {
	uint64_t start;
	uint64_t end;
	uint64_t old;
	_Atomic bool watches;
	_Atomic bool saw_old;
} dropping;

static int dropping_ioctl(int fd, unsigned long request, void *arg)
{
	int r = svm_sys_real.ioctl(fd, request, arg);
	const uint64_t *dst = arg; /* the first member of both */

	if (r == 0 && atomic_load(&dropping.watches) &&
	    (request == UFFDIO_COPY || request == SVM_UFFDIO_MOVE) && *dst >= dropping.start &&
	    *dst < dropping.end && *(volatile uint64_t *)*dst == dropping.old)
		atomic_store(&dropping.saw_old, true);
	return r;
}

static void dropped_on_the_way_home(struct svm_fixture *f)
{
	struct svm_prefetch_range range;
	struct svm_prefetch *started;
	struct flow flow;
	uint64_t found;
	bool is_told;
	char *map =
		mmap(NULL, 16u * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	memset(map, 5, 16u * PAGE);
	dropping.start = (uint64_t)map;
	dropping.end = dropping.start + 16u * PAGE;
	dropping.old = UINT64_C(0x0505050505050505);
	atomic_store(&dropping.watches, false);
	atomic_store(&dropping.saw_old, false);
	fake_reset();
	fake.caps = caps_of[1];
	sys = svm_sys_real;
	sys.ioctl = dropping_ioctl;
	svm_sys = &sys;
	flow = open_plain(f, "dropped on the way home");
	assert_int_equal(svm_register(f->space, map, 16u * PAGE, 0), 0);
	is_told = svm_uffd_has_remove_events(&f->space->ctx.host.reg_uffd);
	if (is_told) {
		unsigned int n;

		assert_int_equal(svm_prefetch(f->space, map, 16u * PAGE,
					      svm_device_location(flow.device), NULL),
				 0);
		fake.pace = FAKE_ON_COMMAND;
		n = fake_calls(FAKE_COPY);
		range = (struct svm_prefetch_range){ map, 16u * PAGE, HOST };
		assert_int_equal(svm_prefetch_start(f->space, &range, 1, NULL, 0, &started), 0);
		fake_await_calls(FAKE_COPY, n + 1u);
		assert_int_equal(madvise(map, 16u * PAGE, MADV_DONTNEED), 0);
		atomic_store(&dropping.watches, true);
		fake.pace = FAKE_AT_ONCE;
		assert_int_equal(fake_complete(1), 1);
		for (unsigned int page = 0; page < 16; page++) {
			assert_int_equal(cpu_read((uint64_t *)(void *)(map + page * PAGE), &found),
					 0);
			assert_int_equal(found, 0);
		}
		assert_int_equal(svm_prefetch_wait(started, -1, NULL, 0), 0);
		assert_int_equal(svm_prefetch_destroy(started), 0);
		assert_false(atomic_load(&dropping.saw_old));
	}
	assert_int_equal(svm_unregister(f->space, map, 16u * PAGE), 0);
	finish(&flow);
	assert_int_equal(munmap(map, 16u * PAGE), 0);
	svm_sys = &svm_sys_real;
	fake_unplug();
	if (!is_told) {
		print_message("without UFFDIO_MOVE nobody hears of MADV_DONTNEED\n");
		skip();
	}
}

/* A thread touches a page that dies with its device, gets its signal, and discards the page at once: before the service
 * thread that marked the page has dealt with the touch. */
static struct {
	struct svm_block *block;
	_Atomic bool armed;
} mark;

static unsigned int queue_length(struct svm_block *block)
{
	unsigned int n = 0;

	svm_lock(&block->lock);
	svm_list_for_each(node, &block->queue)
		n++;
	svm_unlock(&block->lock);
	return n;
}

static int mark_ioctl(int fd, unsigned long request, void *arg)
{
	int r = svm_sys_real.ioctl(fd, request, arg);

	if (request == SVM_UFFDIO_POISON && atomic_exchange(&mark.armed, false))
		while (queue_length(mark.block) < 2)
			sched_yield(); /* the discard is on its way */
	return r;
}

static void *die_in_the_copy(void *arg)
{
	fake_await_calls(FAKE_COPY, *(unsigned int *)arg);
	fake_die();
	return NULL;
}

static void a_discard_comes_after_the_signal(struct svm_fixture *f)
{
	struct svm_ctx *ctx;
	struct flow flow;
	uint64_t value = 1;
	unsigned int n;
	pthread_t thread;

	fixture_watchdog(30);
	fake_reset();
	fake.caps = caps_of[1];
	sys = svm_sys_real;
	sys.ioctl = mark_ioctl;
	svm_sys = &sys;
	flow = open_plain(f, "discarded after its signal");
	flow.may_lose = true;
	write_by_cpu(&flow, 0);
	prefetch(&flow, 0, svm_device_location(flow.device));
	ctx = &f->space->ctx;
	svm_rwlock_read(&ctx->tree_lock);
	mark.block = svm_block_find(ctx, (uint64_t)flow.block[0]);
	svm_rwlock_unlock(&ctx->tree_lock);
	fake.pace = FAKE_ON_COMMAND;
	n = fake_calls(FAKE_COPY) + 1u;
	assert_int_equal(pthread_create(&thread, NULL, die_in_the_copy, &n), 0);
	atomic_store(&mark.armed, svm_uffd_has_poison(&ctx->host.uffd));
	assert_int_equal(cpu_read(word_of(&flow, 0, 0), &value), -EFAULT);
	assert_int_equal(svm_discard(f->space, flow.block[0], BLOCK, 0), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(cpu_read(word_of(&flow, 0, 0), &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(svm_device_close(flow.device), 0);
	for (unsigned int b = 0; b < N_BLOCKS; b++)
		assert_int_equal(svm_free(f->space, flow.block[b]), 0);
	fixture_space_end(f);
	svm_sys = &svm_sys_real;
	fake_unplug();
}

/* All that the pool has, once what was used before is back but for n_kept objects: who has dealt with one may be about to
 * put it back. */
#define N_TAKEN 65536u

static unsigned int take_all(struct svm_pool *pool, void **taken, unsigned int n_kept)
{
	unsigned int n = 0;
	bool settled = false;

	while (!settled) {
		while (n < N_TAKEN && (taken[n] = svm_pool_get(pool)) != NULL)
			n++;
		assert_true(n < N_TAKEN);
		svm_lock(&pool->lock);
		settled = pool->n_used == n + n_kept;
		svm_unlock(&pool->lock);
		sched_yield();
	}
	return n;
}

/* The kernel has no more memory, while a test says so; somebody may wait for it to be asked for. */
static _Atomic enum { MEMORY_THERE, NO_MEMORY, NO_MEMORY_TOLD } memory;
static sem_t refused;

static int short_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		      void **ret_addr)
{
	if (atomic_load(&memory) == MEMORY_THERE)
		return svm_sys_real.mmap(addr, size, prot, flags, fd, offset, ret_addr);
	if (atomic_load(&memory) == NO_MEMORY_TOLD)
		(void)sem_post(&refused);
	return -ENOMEM;
}

/* The pool of requests is empty and the kernel has no more: who waits for device memory is told. */
static void no_memory_to_evict(struct svm_fixture *f)
{
	static void *taken[N_TAKEN];
	struct svm_prefetch_range range;
	struct svm_prefetch *started;
	struct svm_fence *start;
	struct svm_pool *pool;
	struct flow flow;
	unsigned int n;

	fake_reset();
	sys = svm_sys_real;
	sys.mmap = short_mmap;
	svm_sys = &sys;
	flow = open_plain(f, "no memory to evict");
	step_touch(&flow);
	prefetch(&flow, 0, svm_device_location(flow.device));
	prefetch(&flow, 1, svm_device_location(flow.device));
	assert_int_equal(svm_fence_create(f->space, &start), 0);
	range = (struct svm_prefetch_range){ flow.block[2], BLOCK,
					     svm_device_location(flow.device) };
	assert_int_equal(svm_prefetch_start(f->space, &range, 1, start, 0, &started), 0);
	pool = &f->space->ctx.request_pool;
	atomic_store(&memory, NO_MEMORY);
	n = take_all(pool, taken, 0);
	assert_int_equal(svm_fence_signal(start, 0), 0);
	assert_int_equal(svm_prefetch_wait(started, -1, NULL, 0), -ENOMEM);
	atomic_store(&memory, MEMORY_THERE);
	while (n > 0)
		svm_pool_put(pool, taken[--n]);
	assert_int_equal(svm_prefetch_destroy(started), 0);
	svm_fence_unref(start);
	prefetch(&flow, 2, svm_device_location(flow.device));
	assert_int_equal(flow.n_errors, 0);
	finish(&flow);
	svm_sys = &svm_sys_real;
	fake_unplug();
}

/* The application drops pages that a device has, when there is no memory for the step that drops them there, or already
 * for the request for it: they are not seen again. */
static void drop_without_memory(struct svm_fixture *f, bool request)
{
	static void *taken[N_TAKEN];
	uint64_t value = 1;
	struct svm_pool *pool;
	struct flow flow;
	unsigned int n_blocks;
	unsigned int n;
	bool is_told;
	char *map =
		mmap(NULL, 16u * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	memset(map, 5, 16u * PAGE);
	assert_int_equal(sem_init(&refused, 0, 0), 0);
	fake_reset();
	fake.caps = caps_of[1];
	sys = svm_sys_real;
	sys.mmap = short_mmap;
	svm_sys = &sys;
	flow = open_plain(f, "dropped, without memory");
	assert_int_equal(svm_register(f->space, map, 16u * PAGE, 0), 0);
	is_told = svm_uffd_has_remove_events(&f->space->ctx.host.reg_uffd);
	if (!is_told)
		goto out;
	assert_int_equal(
		svm_prefetch(f->space, map, 16u * PAGE, svm_device_location(flow.device), NULL), 0);
	pool = request ? &f->space->ctx.request_pool : &f->space->ctx.transition_pool;
	atomic_store(&memory, NO_MEMORY);
	/* Each block has one, for news of what the application drops. */
	n_blocks =
		(unsigned int)(((uint64_t)map + 16u * PAGE - 1u) / BLOCK - (uint64_t)map / BLOCK) +
		1u;
	n = take_all(pool, taken, request ? n_blocks : 0);
	atomic_store(&memory, NO_MEMORY_TOLD);
	assert_int_equal(madvise(map, 8u * PAGE, MADV_DONTNEED), 0);
	assert_int_equal(madvise(map + 8u * PAGE, 8u * PAGE, MADV_DONTNEED), 0);
	/* The news need no request; what they lead to needs a transition, and finds no memory for it. */
	while (!request && sem_wait(&refused) < 0)
		;
	atomic_store(&memory, MEMORY_THERE);
	while (n > 0)
		svm_pool_put(pool, taken[--n]);
	for (unsigned int p = 0; p < 16; p++) {
		assert_int_equal(cpu_read((uint64_t *)(void *)(map + p * PAGE), &value), 0);
		assert_int_equal(value, 0);
	}
out:
	assert_int_equal(svm_unregister(f->space, map, 16u * PAGE), 0);
	assert_int_equal(munmap(map, 16u * PAGE), 0);
	finish(&flow);
	svm_sys = &svm_sys_real;
	(void)sem_destroy(&refused);
	fake_unplug();
	if (!is_told) {
		print_message("without UFFDIO_MOVE nobody hears of MADV_DONTNEED\n");
		skip();
	}
}

static void dropped_pages_go_when_there_is_memory(struct svm_fixture *f)
{
	drop_without_memory(f, false);
}

static void dropped_pages_go_without_a_request(struct svm_fixture *f)
{
	drop_without_memory(f, true);
}

/* The kernel refuses an operation on userfaultfds, so often. */
static struct {
	unsigned long request;
	int error;
	_Atomic unsigned int n;
} refusing;

static int refusing_ioctl(int fd, unsigned long request, void *arg)
{
	if (request == refusing.request && refusing.n > 0) {
		refusing.n--;
		return refusing.error;
	}
	return svm_sys_real.ioctl(fd, request, arg);
}

static void refuse(unsigned long request, int error)
{
	refusing.request = request;
	refusing.error = error;
	refusing.n = 0;
	sys = svm_sys_real;
	sys.ioctl = refusing_ioctl;
	svm_sys = &sys;
}

static void needs(struct svm_fixture *f, uint32_t cap, const char *name)
{
	bool has;

	fixture_space(f, NULL);
	has = fixture_space_has(f, cap);
	fixture_space_end(f);
	if (has)
		return;
	print_message("no %s here: nothing to fail\n", name);
	skip();
}

/* The address space is changing for long: a touch of a lost page still ends in a signal. */
static void a_lost_page_is_touched_while_memory_changes(struct svm_fixture *f)
{
	struct flow flow;
	uint64_t found;

	needs(f, SVM_SPACE_CAP_POISON, "UFFDIO_POISON");
	fake_reset();
	refuse(SVM_UFFDIO_POISON, -EAGAIN);
	flow = open_plain(f, "touch of a lost page");
	flow.may_lose = true;
	use_by_device(&flow, 0, true);
	/* More than the tries of two calls: the one that comes with the loss, and that of the touch. */
	refusing.n = 600;
	fake_die();
	assert_int_equal(cpu_read(word_of(&flow, 0, 0), &found), -EFAULT);
	assert_int_equal(refusing.n, 0);
	finish(&flow);
	svm_sys = &svm_sys_real;
	fake_unplug();
}

/* The mark of a lost page could not be made when it was lost. Whoever gets the memory back must not find zeros. */
static void lost_pages_are_marked_before_memory_is_given_back(struct svm_fixture *f)
{
	struct flow flow;
	uint64_t found;
	char *map;

	needs(f, SVM_SPACE_CAP_POISON, "UFFDIO_POISON");
	map = mmap(NULL, 16u * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	memset(map, 5, 16u * PAGE);
	fake_reset();
	refuse(SVM_UFFDIO_POISON, -EAGAIN);
	fake.caps = caps_of[1];
	flow = open_plain(f, "given back with lost pages");
	flow.may_lose = true;
	assert_int_equal(svm_register(f->space, map, 16u * PAGE, 0), 0);
	assert_int_equal(
		svm_prefetch(f->space, map, 8u * PAGE, svm_device_location(flow.device), NULL), 0);
	/* More than the tries of one call. */
	refusing.n = 600;
	fake_die();
	assert_int_equal(svm_unregister(f->space, map, 16u * PAGE), -EIO);
	assert_int_equal(refusing.n, 0);
	for (unsigned int page = 0; page < 16; page++) {
		uint64_t *word = (uint64_t *)(void *)(map + page * PAGE);

		assert_int_equal(cpu_read(word, &found), page < 8 ? -EFAULT : 0);
		if (page >= 8)
			assert_int_equal(found, UINT64_C(0x0505050505050505));
	}
	finish(&flow);
	assert_int_equal(munmap(map, 16u * PAGE), 0);
	svm_sys = &svm_sys_real;
	fake_unplug();
}

/* svm_free() could not take pages from a device, and gave the addresses back all the same. The device is closed, or dies:
 * what it still had there has no place to go to, and is not missed. */
static void a_device_keeps_what_was_freed(struct svm_fixture *f)
{
	for (unsigned int dies = 0; dies < 2; dies++) {
		struct svm_stats stats = { .size = sizeof(stats) };
		struct flow flow;
		void *whole;
		void *small;

		fake_reset();
		flow = open_plain(f, "freed, and kept by the device");
		flow.may_lose = true;
		assert_int_equal(svm_alloc(f->space, BLOCK, 0, &whole), 0);
		assert_int_equal(svm_alloc(f->space, 4u * PAGE, 0, &small), 0);
		memset(whole, 1, BLOCK);
		memset(small, 2, 4u * PAGE);
		assert_int_equal(svm_prefetch(f->space, whole, BLOCK,
					      svm_device_location(flow.device), NULL),
				 0);
		assert_int_equal(svm_prefetch(f->space, small, 4u * PAGE,
					      svm_device_location(flow.device), NULL),
				 0);
		assert_int_equal(fake_n_chunks(), 2);
		fake_fail(FAKE_BIND, 1, -EIO, 1000);
		assert_int_equal(svm_free(f->space, whole), 0);
		assert_int_equal(svm_free(f->space, small), 0);
		fake_heal();
		assert_int_equal(fake_n_chunks(), 2);
		if (dies)
			fake_die();
		assert_int_equal(svm_device_close(flow.device), 0);
		assert_int_equal(svm_stats_query(f->space, &stats), 0);
		assert_int_equal(stats.pages_poisoned, 0);
		assert_int_equal(svm_device_open(f->space, "fake", &flow.device), 0);
		finish(&flow);
	}
	fake_unplug();
}

/* Several threads may look at what became readable: who finds nothing has been told of nothing wrong. */
static void news_of_no_fault_does_no_harm(struct svm_fixture *f)
{
	struct svm_device_info info = { .size = sizeof(info) };
	struct flow flow;

	fake_reset();
	flow = open_plain(f, "no fault to read");
	fake_tell_of_no_fault();
	fake_await_calls(FAKE_FAULT_READ, 1);
	write_by_cpu(&flow, 0);
	prefetch(&flow, 0, svm_device_location(flow.device));
	assert_int_equal(svm_device_query(flow.device, &info), 0);
	assert_false(info.is_lost);
	finish(&flow);
	fake_unplug();
}

/* A touch for which there is no request comes again, until there is one. */
struct shortage {
	struct svm_fixture *f;
	uint64_t n_faults; /* before the touch */
	struct svm_pool *pool;
	void **taken;
	unsigned int n;
};

static void *end_shortage(void *arg)
{
	struct shortage *shortage = arg;

	/* Not before the touch: others may ask for memory, too. */
	while (fixture_stats(shortage->f).cpu_faults == shortage->n_faults)
		(void)sched_yield();
	while (sem_trywait(&refused) == 0)
		;
	while (sem_wait(&refused) < 0)
		;
	atomic_store(&memory, MEMORY_THERE);
	while (shortage->n > 0)
		svm_pool_put(shortage->pool, shortage->taken[--shortage->n]);
	return NULL;
}

static void a_touch_without_memory_comes_again(struct svm_fixture *f)
{
	static void *taken[N_TAKEN];
	struct shortage shortage = { .f = f, .taken = taken };
	struct flow flow;
	pthread_t thread;

	assert_int_equal(sem_init(&refused, 0, 0), 0);
	fake_reset();
	sys = svm_sys_real;
	sys.mmap = short_mmap;
	svm_sys = &sys;
	flow = open_plain(f, "touched, without memory");
	write_by_cpu(&flow, 0);
	prefetch(&flow, 0, svm_device_location(flow.device));
	shortage.pool = &f->space->ctx.request_pool;
	atomic_store(&memory, NO_MEMORY);
	shortage.n = take_all(shortage.pool, taken, 0);
	shortage.n_faults = fixture_stats(f).cpu_faults;
	atomic_store(&memory, NO_MEMORY_TOLD);
	assert_int_equal(pthread_create(&thread, NULL, end_shortage, &shortage), 0);
	read_by_cpu(&flow, 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(flow.n_errors, 0);
	finish(&flow);
	svm_sys = &svm_sys_real;
	(void)sem_destroy(&refused);
	fake_unplug();
}

/* A device does not give its copy up, so the CPU may not write: that ends in a signal, although the CPU can read the page. */
static void a_write_that_cannot_be_had_is_a_signal(struct svm_fixture *f)
{
	struct flow flow;
	uint64_t found;

	fake_reset();
	flow = open_plain(f, "no write");
	write_by_cpu(&flow, 0);
	advise(&flow, 0, SVM_ADVICE_READ_MOSTLY, 0, 1);
	use_by_device(&flow, 0, false);
	read_by_cpu(&flow, 0);
	assert_int_equal(flow.n_errors, 0);
	assert_true(fixture_page(f, word_of(&flow, 0, 0)).flags & SVM_PAGE_CPU_READ);
	fake_fail(FAKE_BIND, 1, -EIO, 1000);
	assert_int_equal(cpu_write(word_of(&flow, 0, 0), 1), -EFAULT);
	fake_heal();
	assert_int_equal(svm_prefetch(f->space, flow.block[0], BLOCK, HOST, NULL), 0);
	assert_int_equal(cpu_read(word_of(&flow, 0, 0), &found), 0);
	assert_int_equal(found, flow.expected[0][0]);
	finish(&flow);
	fake_unplug();
}

/* Pages that the host alone holds, and that nobody maps, are granted as they are, without a request: those around the one
 * that is touched, as far as its hints say, and no others. */
static void a_touch_of_what_the_host_holds_needs_no_request(struct svm_fixture *f)
{
	static const unsigned int touched[] = { 100, 6, 511 };
	static void *taken[N_TAKEN];
	const struct svm_advice advice = { .kind = SVM_ADVICE_GRANULARITY, .value = 16u * PAGE };
	struct svm_pool *pool;
	struct flow flow;
	unsigned int n;

	fake_reset();
	sys = svm_sys_real;
	sys.mmap = short_mmap;
	svm_sys = &sys;
	flow = open_plain(f, "granted as it is");
	step_touch(&flow);
	assert_int_equal(svm_advise(f->space, flow.block[0], BLOCK, &advice, 1, NULL), 0);
	/* In a memory of two. */
	for (unsigned int b = 0; b < 3; b++)
		prefetch(&flow, b, svm_device_location(flow.device));
	assert_int_equal(fixture_page(f, flow.block[0]).flags, SVM_PAGE_HOST);
	pool = &f->space->ctx.request_pool;
	atomic_store(&memory, NO_MEMORY);
	n = take_all(pool, taken, 0);
	for (unsigned int i = 0; i < sizeof(touched) / sizeof(touched[0]); i++) {
		char *page = flow.block[0] + touched[i] * PAGE;
		char *unit = page - touched[i] % 16u * PAGE;
		uint64_t found;

		assert_int_equal(cpu_read((uint64_t *)(void *)page, &found), 0);
		for (unsigned int p = 0; p < 16; p++)
			assert_true(fixture_page(f, unit + p * PAGE).flags & SVM_PAGE_CPU_READ);
		if (unit > flow.block[0])
			assert_false(fixture_page(f, unit - PAGE).flags & SVM_PAGE_CPU_READ);
		if (unit + 16u * PAGE < flow.block[0] + BLOCK)
			assert_false(fixture_page(f, unit + 16u * PAGE).flags & SVM_PAGE_CPU_READ);
	}
	atomic_store(&memory, MEMORY_THERE);
	while (n > 0)
		svm_pool_put(pool, taken[--n]);
	assert_int_equal(flow.n_errors, 0);
	finish(&flow);
	svm_sys = &svm_sys_real;
	fake_unplug();
}

/* Nobody has to touch a page for its loss to be noticed, and be it the only block that the device had. */
static void a_loss_is_noticed_without_a_touch(struct svm_fixture *f)
{
	struct flow flow;

	fake_reset();
	flow = open_plain(f, "lost, and not touched");
	flow.may_lose = true;
	write_by_cpu(&flow, 0);
	prefetch(&flow, 0, svm_device_location(flow.device));
	fake_die();
	/* The watchdog ends a wait for what does not come. */
	while (fixture_stats(f).pages_poisoned < N_WATCHED)
		(void)sched_yield();
	assert_true(is_poisoned(&flow, word_of(&flow, 0, 0)));
	finish(&flow);
	assert_int_equal(flow.n_lost, N_WATCHED);
	fake_unplug();
}

static int acquire_page(struct flow *flow, char *p)
{
	struct svm_access_range range = { .addr = p, .size = PAGE, .access = SVM_ACCESS_WRITE };
	struct svm_access *access = NULL;
	int r = svm_acquire(flow->device, &range, 1, 0, &access, NULL);

	if (access)
		assert_int_equal(svm_release(access, NULL), 0);
	return r;
}

/* Meanwhile the kernel does not move it. A moment is waited for; what lasts is told. */
static void a_page_that_somebody_refers_to_is_waited_for(struct svm_fixture *f)
{
	struct flow flow;
	char *p;

	needs(f, SVM_SPACE_CAP_MOVE, "UFFDIO_MOVE");
	fake_reset();
	refuse(SVM_UFFDIO_MOVE, -EBUSY);
	flow = open_plain(f, "a page that is referred to");
	p = fixture_alloc(f, BLOCK, 0);
	memset(p, 1, BLOCK);
	atomic_store(&refusing.n, 12);
	assert_int_equal(acquire_page(&flow, p), 0);
	assert_int_equal(atomic_load(&refusing.n), 0);
	fixture_assert_at(f, p, PAGE, 1, false);
	atomic_store(&refusing.n, UINT32_MAX);
	assert_int_equal(acquire_page(&flow, p + BLOCK / 2u), -EBUSY);
	atomic_store(&refusing.n, 0);
	fixture_assert_at(f, p + BLOCK / 2u, PAGE, 0, true);
	for (uint64_t at = 0; at < BLOCK; at++)
		assert_int_equal(p[at], 1);
	fixture_free(f, p);
	finish(&flow);
	svm_sys = &svm_sys_real;
	fake_unplug();
}

/* The kernel refuses to take pages back. */
static struct {
	uint64_t start;
	uint64_t end;
	int error;
	_Atomic unsigned int n; /* so often */
} keeping;

static int keeping_madvise(void *addr, size_t size, int advice)
{
	unsigned int n = atomic_load(&keeping.n);

	if (advice == MADV_DONTNEED && (uint64_t)addr >= keeping.start &&
	    (uint64_t)addr < keeping.end)
		while (n > 0)
			if (atomic_compare_exchange_weak(&keeping.n, &n, n - 1u))
				return keeping.error;
	return svm_sys_real.madvise(addr, size, advice);
}

static void keep(const char *p, int error, unsigned int n)
{
	keeping.start = (uint64_t)p;
	keeping.end = keeping.start + BLOCK;
	keeping.error = error;
	atomic_store(&keeping.n, n);
}

/* For longer than one step goes on trying: others follow. */
static void dropped_memory_goes_when_the_kernel_lets_it(struct svm_fixture *f)
{
	struct flow flow;
	char *p;

	fake_reset();
	sys = svm_sys_real;
	sys.madvise = keeping_madvise;
	svm_sys = &sys;
	flow = open_plain(f, "dropped while the kernel refuses");
	p = fixture_alloc(f, BLOCK, 0);
	memset(p, 1, BLOCK);
	keep(p, -EAGAIN, 300);
	assert_int_equal(svm_discard(f->space, p, BLOCK, 0), 0);
	assert_int_equal(atomic_load(&keeping.n), 0);
	fixture_check_zero(p, BLOCK);
	memset(p, 1, BLOCK);
	keep(p, -EAGAIN, 300);
	fixture_free(f, p);
	assert_int_equal(atomic_load(&keeping.n), 0);
	finish(&flow);
	svm_sys = &svm_sys_real;
	fake_unplug();
}

/* It never does. Then pages are as they were, for everybody: what is written next gets to the device. */
static void a_discard_that_fails_loses_no_later_write(struct svm_fixture *f)
{
	struct flow flow;
	uint64_t found;

	fake_reset();
	sys = svm_sys_real;
	sys.madvise = keeping_madvise;
	svm_sys = &sys;
	flow = open_plain(f, "a discard fails");
	write_by_cpu(&flow, 0);
	keep(flow.block[0], -EIO, 1000);
	assert_int_equal(svm_discard(f->space, flow.block[0], BLOCK, 0), -EIO);
	keep(flow.block[0], 0, 0);
	write_by_cpu(&flow, 0);
	for (unsigned int i = 0; i < N_WATCHED; i++) {
		assert_int_equal(fake_read((uint64_t)word_of(&flow, 0, i), &found), 0);
		assert_int_equal(found, flow.expected[0][i]);
	}
	finish(&flow);
	svm_sys = &svm_sys_real;
	fake_unplug();
}

/* ---- Failing system calls ---------------------------------------------------------------------- */

enum os_call {
	OS_MMAP,
	OS_MPROTECT,
	OS_MADVISE,
	OS_POPULATE, /* madvise(2) with MADV_POPULATE_WRITE */
	OS_MEMFD_CREATE,
	OS_FTRUNCATE,
	OS_FALLOCATE,
	OS_FCNTL,
	OS_USERFAULTFD,
	OS_OPEN,
	OS_READ,
	OS_EVENTFD,
	OS_EPOLL_CREATE,
	OS_EPOLL_CTL,
	OS_EPOLL_WAIT,
	OS_IO_URING_INIT,
	OS_IO_URING_ENTER,
	OS_THREAD_CREATE,
	OS_RESOLVE,  /* UFFDIO_COPY, _ZEROPAGE, _CONTINUE, _MOVE, _POISON */
	OS_PROTECT,  /* UFFDIO_WRITEPROTECT */
	OS_REGISTER, /* UFFDIO_REGISTER */
	OS_CALLS,
};

static const char *const os_call_names[OS_CALLS] = {
	"mmap",		  "mprotect",	   "madvise",	    "madvise (populate)",
	"memfd_create",	  "ftruncate",	   "fallocate",	    "fcntl",
	"userfaultfd",	  "open",	   "read",	    "eventfd",
	"epoll_create",	  "epoll_ctl",	   "epoll_wait",    "io_uring_init",
	"io_uring_enter", "thread_create", "resolve ioctl", "write-protect ioctl",
	"register ioctl",
};

static struct {
	enum os_call call;
	_Atomic unsigned int left; /* calls until the one that fails; 0: over */
	int error;
} os;

static bool fails(enum os_call call)
{
	unsigned int left = atomic_load(&os.left);

	if (call != os.call)
		return false;
	while (left > 0)
		if (atomic_compare_exchange_weak(&os.left, &left, left - 1u))
			return left == 1u;
	return false;
}

static int os_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		   void **ret_addr)
{
	return fails(OS_MMAP) ? os.error
			      : svm_sys_real.mmap(addr, size, prot, flags, fd, offset, ret_addr);
}

static int os_mprotect(void *addr, size_t size, int prot)
{
	return fails(OS_MPROTECT) ? os.error : svm_sys_real.mprotect(addr, size, prot);
}

static int os_madvise(void *addr, size_t size, int advice)
{
	if (fails(advice == MADV_POPULATE_WRITE ? OS_POPULATE : OS_MADVISE))
		return os.error;
	return svm_sys_real.madvise(addr, size, advice);
}

static int os_memfd_create(const char *name, unsigned int flags)
{
	return fails(OS_MEMFD_CREATE) ? os.error : svm_sys_real.memfd_create(name, flags);
}

static int os_ftruncate(int fd, uint64_t size)
{
	return fails(OS_FTRUNCATE) ? os.error : svm_sys_real.ftruncate(fd, size);
}

static int os_fallocate(int fd, int mode, uint64_t offset, uint64_t size)
{
	return fails(OS_FALLOCATE) ? os.error : svm_sys_real.fallocate(fd, mode, offset, size);
}

static int os_fcntl(int fd, int cmd, long arg)
{
	return fails(OS_FCNTL) ? os.error : svm_sys_real.fcntl(fd, cmd, arg);
}

static int os_userfaultfd(int flags)
{
	return fails(OS_USERFAULTFD) ? os.error : svm_sys_real.userfaultfd(flags);
}

static int os_open(const char *path, int flags)
{
	return fails(OS_OPEN) ? os.error : svm_sys_real.open(path, flags);
}

static ssize_t os_read(int fd, void *buffer, size_t size)
{
	/* A loop reads its wake-up only when it knows that there is one. */
	if ((size != sizeof(uint64_t) || os.error == -EINTR) && fails(OS_READ))
		return os.error;
	return svm_sys_real.read(fd, buffer, size);
}

static int os_eventfd(unsigned int initial, int flags)
{
	return fails(OS_EVENTFD) ? os.error : svm_sys_real.eventfd(initial, flags);
}

static int os_epoll_create(int flags)
{
	return fails(OS_EPOLL_CREATE) ? os.error : svm_sys_real.epoll_create(flags);
}

static int os_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	/* Only what takes memory can lack it. */
	if (op == EPOLL_CTL_ADD && fails(OS_EPOLL_CTL))
		return os.error;
	return svm_sys_real.epoll_ctl(epfd, op, fd, event);
}

static int os_epoll_wait(int epfd, struct epoll_event *events, int n_events, int64_t timeout_ns)
{
	return fails(OS_EPOLL_WAIT) ? os.error
				    : svm_sys_real.epoll_wait(epfd, events, n_events, timeout_ns);
}

static int os_io_uring_init(unsigned int entries, struct io_uring *ring,
			    struct io_uring_params *params)
{
	return fails(OS_IO_URING_INIT) ? os.error
				       : svm_sys_real.io_uring_init(entries, ring, params);
}

static int os_io_uring_enter(struct io_uring *ring, unsigned int wait_nr, int64_t timeout_ns)
{
	return fails(OS_IO_URING_ENTER) ? os.error
					: svm_sys_real.io_uring_enter(ring, wait_nr, timeout_ns);
}

static int os_thread_create(pthread_t *ret_thread, const char *name, void *(*fn)(void *), void *arg)
{
	return fails(OS_THREAD_CREATE) ? os.error
				       : svm_sys_real.thread_create(ret_thread, name, fn, arg);
}

static int os_ioctl(int fd, unsigned long request, void *arg)
{
	bool fail = false;

	switch (request) {
	case UFFDIO_COPY:
	case UFFDIO_ZEROPAGE:
	case UFFDIO_CONTINUE:
	case SVM_UFFDIO_MOVE:
	case SVM_UFFDIO_POISON:
		fail = fails(OS_RESOLVE);
		break;
	case UFFDIO_WRITEPROTECT:
		fail = fails(OS_PROTECT);
		break;
	case UFFDIO_REGISTER:
		fail = fails(OS_REGISTER);
		break;
	default:
		break;
	}
	return fail ? os.error : svm_sys_real.ioctl(fd, request, arg);
}

/* What the manual pages list: mmap(2), mprotect(2), madvise(2), memfd_create(2), ftruncate(2), fallocate(2), fcntl(2),
 * userfaultfd(2), open(2), read(2), eventfd(2), epoll_create(2), epoll_ctl(2), epoll_wait(2), io_uring_setup(2),
 * io_uring_enter(2), pthread_create(3), ioctl_userfaultfd(2). Not ENOMEM of MADV_DONTNEED: it has zapped by then. */
static const struct {
	enum os_call call;
	int error;
} os_failures[] = {
	{ OS_MMAP, -ENOMEM },	       { OS_MMAP, -EAGAIN },
	{ OS_MPROTECT, -ENOMEM },      { OS_MADVISE, -EAGAIN },
	{ OS_POPULATE, -ENOMEM },      { OS_POPULATE, -EAGAIN },
	{ OS_MEMFD_CREATE, -ENOMEM },  { OS_FTRUNCATE, -EINTR },
	{ OS_FALLOCATE, -EINTR },      { OS_FCNTL, -EAGAIN },
	{ OS_USERFAULTFD, -ENOMEM },   { OS_OPEN, -EINTR },
	{ OS_OPEN, -ENOMEM },	       { OS_READ, -EINTR },
	{ OS_READ, -EAGAIN },	       { OS_EVENTFD, -ENOMEM },
	{ OS_EPOLL_CREATE, -ENOMEM },  { OS_EPOLL_CTL, -ENOMEM },
	{ OS_EPOLL_WAIT, -EINTR },     { OS_IO_URING_INIT, -ENOMEM },
	{ OS_IO_URING_ENTER, -EINTR }, { OS_IO_URING_ENTER, -EAGAIN },
	{ OS_THREAD_CREATE, -EAGAIN }, { OS_RESOLVE, -EAGAIN },
	{ OS_RESOLVE, -ENOMEM },       { OS_PROTECT, -EAGAIN },
	{ OS_PROTECT, -ENOMEM },       { OS_REGISTER, -ENOMEM },
};
#define N_OS_FAILURES (sizeof(os_failures) / sizeof(os_failures[0]))

/* False: there is no nth call. */
static bool run_with_os_failure(struct svm_fixture *f, unsigned int failure, unsigned int nth)
{
	char what[96];
	struct flow flow = { .f = f, .what = what };
	bool was_there;
	int r;

	(void)snprintf(what, sizeof(what), "%s call %u: %s",
		       os_call_names[os_failures[failure].call], nth,
		       strerror(-os_failures[failure].error));
	fake_reset();
	os.call = os_failures[failure].call;
	os.error = os_failures[failure].error;
	atomic_store(&os.left, nth);
	r = open_space(&flow, NULL);
	if (r < 0) {
		/* An interrupted call is made again. Pools and tables have one error: no memory. */
		assert_int_not_equal(os.error, -EINTR);
		if (r != os.error && !(os.call == OS_MMAP && r == -ENOMEM))
			fail_msg("%s: open: %s", what, strerror(-r));
		atomic_store(&os.left, 0);
		assert_int_equal(open_space(&flow, NULL), 0);
		finish(&flow);
		return true;
	}
	run_steps(&flow);
	try_close(&flow);
	was_there = atomic_load(&os.left) == 0;
	atomic_store(&os.left, 0);
	/* Nobody should hear of an interrupted call. */
	if (os.error == -EINTR && flow.n_errors)
		fail_msg("%s: %u calls fail, the last with %s in line %d", what, flow.n_errors,
			 strerror(-flow.last_error), flow.last_line);
	finish(&flow);
	return was_there;
}

static void system_calls_fail_once(struct svm_fixture *f)
{
	static const struct svm_fixture_variant epoll = { .name = "epoll", .loop = SVM_LOOP_EPOLL };
	const struct svm_fixture_variant *usual = f->variant;

	sys = svm_sys_real;
	sys.mmap = os_mmap;
	sys.mprotect = os_mprotect;
	sys.madvise = os_madvise;
	sys.memfd_create = os_memfd_create;
	sys.ftruncate = os_ftruncate;
	sys.fallocate = os_fallocate;
	sys.fcntl = os_fcntl;
	sys.userfaultfd = os_userfaultfd;
	sys.open = os_open;
	sys.read = os_read;
	sys.eventfd = os_eventfd;
	sys.epoll_create = os_epoll_create;
	sys.epoll_ctl = os_epoll_ctl;
	sys.epoll_wait = os_epoll_wait;
	sys.io_uring_init = os_io_uring_init;
	sys.io_uring_enter = os_io_uring_enter;
	sys.thread_create = os_thread_create;
	sys.ioctl = os_ioctl;
	svm_sys = &sys;
	/* io_uring reads by itself. */
	for (unsigned int failure = 0; failure < N_OS_FAILURES; failure++) {
		unsigned int nth = 1;

		fixture_watchdog(60);
		f->variant = usual;
		if (os_failures[failure].call >= OS_READ &&
		    os_failures[failure].call <= OS_EPOLL_WAIT)
			f->variant = &epoll;
		/* All of the first calls, fewer and fewer of the many later ones, which are much alike. */
		while (run_with_os_failure(f, failure, nth))
			nth = fixture_next_failure(nth + nth / 12u);
	}
	svm_sys = &svm_sys_real;
	fake_unplug();
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(nothing_fails, FIXTURE_ONCE),
		FIXTURE_CASE(each_open_fails_once, FIXTURE_ONCE),
		FIXTURE_CASE(a_discard_comes_after_the_signal, FIXTURE_ONCE),
		FIXTURE_CASE(dropped_pages_go_when_there_is_memory, FIXTURE_ONCE),
		FIXTURE_CASE(dropped_pages_go_without_a_request, FIXTURE_ONCE),
		FIXTURE_CASE(each_chunk_alloc_fails_once, FIXTURE_ONCE),
		FIXTURE_CASE(each_chunk_map_fails_once, FIXTURE_ONCE),
		FIXTURE_CASE(each_bind_fails_once, FIXTURE_ONCE),
		FIXTURE_CASE(each_bind_finds_the_queue_full_once, FIXTURE_ONCE),
		FIXTURE_CASE(each_copy_fails_once, FIXTURE_ONCE),
		FIXTURE_CASE(each_copy_finds_the_queue_full_once, FIXTURE_ONCE),
		FIXTURE_CASE(each_point_fails_once, FIXTURE_ONCE),
		FIXTURE_CASE(each_work_fails_once, FIXTURE_ONCE),
		FIXTURE_CASE(each_fault_op_fails_once, FIXTURE_ONCE),
		FIXTURE_CASE(the_device_dies_at_each_bind, FIXTURE_ONCE),
		FIXTURE_CASE(the_device_dies_at_each_copy, FIXTURE_ONCE),
		FIXTURE_CASE(the_device_dies_at_each_other_op, FIXTURE_ONCE),
		FIXTURE_CASE(a_queue_of_one, FIXTURE_ONCE),
		FIXTURE_CASE(given_up_when_it_never_signals, FIXTURE_ONCE),
		FIXTURE_CASE(many_runs_in_one_block, FIXTURE_ONCE),
		FIXTURE_CASE(a_first_touch_waits_for_the_queue_of_copies, FIXTURE_ONCE),
		FIXTURE_CASE(less_memory_than_was_said, FIXTURE_ONCE),
		FIXTURE_CASE(a_touch_outlives_the_device, FIXTURE_ONCE),
		FIXTURE_CASE(a_copy_fails_of_the_death_to_come, FIXTURE_ONCE),
		FIXTURE_CASE(in_place_beside_a_lost_page, FIXTURE_ONCE),
		FIXTURE_CASE(an_acquire_holds_what_was_taken_while_it_waited, FIXTURE_ONCE),
		FIXTURE_CASE(a_block_becomes_shared_under_touches, FIXTURE_ONCE),
		FIXTURE_CASE(a_block_stays_private_under_touches, FIXTURE_ONCE),
		FIXTURE_CASE(queries_tell_what_was_done, FIXTURE_ONCE),
		FIXTURE_CASE(an_acquire_that_moves_and_maps_in_place, FIXTURE_ONCE),
		FIXTURE_CASE(unregister_overtakes_the_news_of_munmap, FIXTURE_ONCE),
		FIXTURE_CASE(dropped_on_the_way_home, FIXTURE_ONCE),
		FIXTURE_CASE(no_memory_to_evict, FIXTURE_ONCE),
		FIXTURE_CASE(a_lost_page_is_touched_while_memory_changes, FIXTURE_ONCE),
		FIXTURE_CASE(lost_pages_are_marked_before_memory_is_given_back, FIXTURE_ONCE),
		FIXTURE_CASE(a_device_keeps_what_was_freed, FIXTURE_ONCE),
		FIXTURE_CASE(news_of_no_fault_does_no_harm, FIXTURE_ONCE),
		FIXTURE_CASE(a_touch_without_memory_comes_again, FIXTURE_ONCE),
		FIXTURE_CASE(a_write_that_cannot_be_had_is_a_signal, FIXTURE_ONCE),
		FIXTURE_CASE(a_touch_of_what_the_host_holds_needs_no_request, FIXTURE_ONCE),
		FIXTURE_CASE(a_loss_is_noticed_without_a_touch, FIXTURE_ONCE),
		FIXTURE_CASE(a_page_that_somebody_refers_to_is_waited_for, FIXTURE_ONCE),
		FIXTURE_CASE(dropped_memory_goes_when_the_kernel_lets_it, FIXTURE_ONCE),
		FIXTURE_CASE(a_discard_that_fails_loses_no_later_write, FIXTURE_ONCE),
		FIXTURE_CASE(system_calls_fail_once, FIXTURE_ONCE),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
