// SPDX-License-Identifier: MIT
/*
 * Faults of the CPU and of soft devices in all capability combinations: who touches what first, who
 * wrote last, and that every byte is the one written last. Where a device cannot fault its memory is
 * acquired around each launch.
 */
#include "fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE  FIXTURE_PAGE
#define BLOCK FIXTURE_BLOCK

static void cpu_first_touch_reads_zero(struct svm_fixture *f)
{
	static const uint64_t sizes[] = { 1, PAGE, 3 * PAGE, BLOCK, BLOCK + PAGE, 3 * BLOCK - PAGE };

	fixture_space(f, NULL);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t size = (sizes[i] + PAGE - 1) / PAGE * PAGE;
		char *p = fixture_alloc(f, sizes[i], 0);

		assert_int_equal((uint64_t)p % PAGE, 0);
		fixture_assert_at(f, p, size, 0, false);
		fixture_check_zero(p, size);
		fixture_assert_at(f, p, size, 0, true);
		fixture_fill(p, size, i);
		fixture_check(p, size, i);
		fixture_free(f, p);
		/* The same addresses again: nothing of the past. */
		p = fixture_alloc(f, sizes[i], 0);
		fixture_check_zero(p, size);
		fixture_fill(p, size, 99);
	}
}

/* Faults that needed something: a touch beside one that is being served may be reported, too. */
static uint64_t cpu_faults(const struct svm_stats *stats)
{
	return stats->cpu_faults - stats->cpu_faults_spurious;
}

/* What is asked for now comes after the faults that were reported: those that needed nothing have been told apart then. */
static struct svm_stats stats_at_rest(struct svm_fixture *f, void *addr, uint64_t size)
{
	assert_int_equal(svm_prefetch(f->space, addr, size,
				      (struct svm_location){ .kind = SVM_LOCATION_HOST }, NULL),
			 0);
	return fixture_stats(f);
}

static void first_touch_is_counted_and_traced(struct svm_fixture *f)
{
	struct svm_event events[32];
	struct svm_stats stats;
	uint64_t cursor = 0;
	volatile char *p;
	bool faulted = false;
	bool populated = false;
	int n;

	fixture_space(f, NULL);
	p = fixture_alloc(f, BLOCK, 0);
	p[5 * PAGE + 7] = 1;
	stats = stats_at_rest(f, (void *)(p + 5 * PAGE), PAGE);
	assert_int_equal(cpu_faults(&stats), 1);
	assert_true(stats.bytes_populated >= PAGE && stats.bytes_populated <= BLOCK);
	assert_int_equal(stats.bytes_host_to_device + stats.bytes_device_to_host, 0);
	n = svm_events_read(f->space, &cursor, events, 32, NULL);
	assert_true(n >= 2);
	for (int i = 0; i < n; i++) {
		if (events[i].kind == SVM_EVENT_CPU_FAULT) {
			faulted = true;
			assert_int_equal(events[i].addr, (uint64_t)p + 5 * PAGE);
			assert_int_equal(events[i].value, 1);
		} else if (events[i].kind == SVM_EVENT_POPULATE) {
			populated = true;
			assert_int_equal(events[i].size, stats.bytes_populated);
			assert_int_equal(events[i].to, 0);
		}
	}
	assert_true(faulted && populated);
}

struct zero_args {
	const uint64_t *words;
	uint64_t *wrong;
};

static void kernel_count_nonzero(const void *args, uint64_t index, uint64_t count)
{
	const struct zero_args *zero = args;
	const uint64_t *words = zero->words + index * PAGE / sizeof(*words);
	uint64_t wrong = 0;

	(void)count;
	for (uint64_t i = 0; i < PAGE / sizeof(*words); i++)
		wrong += words[i] != 0;
	if (wrong)
		__atomic_fetch_add(zero->wrong, wrong, __ATOMIC_RELAXED);
}

static uint64_t count_nonzero_by_engine(struct svm_fixture *f, struct svm_device *device,
					const uint64_t *words, uint64_t size)
{
	uint64_t *copy = fixture_alloc(f, size, 0);
	uint64_t n = 0;

	memset(copy, 0xff, size);
	assert_int_equal(svm_device_copy(device, copy, words, size, NULL, NULL), 0);
	for (uint64_t i = 0; i < size / sizeof(*words); i++)
		n += copy[i] != 0;
	fixture_free(f, copy);
	return n;
}

static uint64_t count_nonzero_on(struct svm_fixture *f, struct svm_device *device,
				 const uint64_t *words, uint64_t size)
{
	struct zero_args args = { .words = words, .wrong = f->scratch };
	struct svm_access_range range = { .addr = (void *)words,
					  .size = size,
					  .access = SVM_ACCESS_READ };
	struct svm_access *held = NULL;

	if (!fixture_has(device, SVM_CAP_LAUNCH))
		return count_nonzero_by_engine(f, device, words, size);
	*args.wrong = 0;
	if (!fixture_has(device, SVM_CAP_FAULTS))
		assert_int_equal(svm_acquire(device, &range, 1, 0, &held, NULL), 0);
	assert_int_equal(svm_soft_launch(device, kernel_count_nonzero, &args, sizeof(args),
					 size / PAGE, NULL, NULL),
			 0);
	assert_int_equal(svm_release(held, NULL), 0);
	return *args.wrong;
}

static void device_first_touch_reads_zero(struct svm_fixture *f)
{
	struct svm_device *device;
	uint64_t *words;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	/* Stale bytes of others lie in the device's memory: they must not shine through. */
	words = fixture_alloc(f, 2 * BLOCK, 0);
	fixture_fill_on(f, device, words, 2 * BLOCK, 77);
	fixture_free(f, words);

	words = fixture_alloc(f, 2 * BLOCK, 0);
	assert_int_equal(count_nonzero_on(f, device, words, 2 * BLOCK), 0);
	fixture_assert_at(f, words, 2 * BLOCK, (uint16_t)(1u << svm_device_id(device)), false);
	fixture_check_zero(words, 2 * BLOCK);
}

static void device_and_cpu_read_each_other(struct svm_fixture *f)
{
	struct svm_device *device;
	uint64_t size = 2 * BLOCK + 5 * PAGE;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, size, 0);
	for (uint64_t round = 0; round < 3; round++) {
		fixture_fill(p, size, 2 * round);
		fixture_check_on(f, device, p, size, 2 * round);
		fixture_check(p, size, 2 * round);
		fixture_fill_on(f, device, p, size, 2 * round + 1);
		fixture_check(p, size, 2 * round + 1);
		fixture_check_on(f, device, p, size, 2 * round + 1);
	}
}

/* Registered memory: its pages have content before, are those of the application after, and neither start nor end
 * where a block does. */
static void registered_memory_is_shared(struct svm_fixture *f)
{
	uint64_t size = 2 * BLOCK + 7 * PAGE;
	struct svm_device *device;
	char *map = mmap(NULL, size + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	char *p = map + PAGE;

	assert_ptr_not_equal(map, MAP_FAILED);
	memset(map, 0x11, PAGE);
	memset(map + PAGE + size, 0x22, PAGE);
	/* Some of it has never been touched. */
	fixture_fill(p, BLOCK, 1);
	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	assert_int_equal(svm_register(f->space, p, size, 0), 0);
	fixture_check_on(f, device, p, BLOCK, 1);
	fixture_check(p, BLOCK, 1);
	fixture_check_zero(p + BLOCK, size - BLOCK);
	fixture_fill_on(f, device, p, size, 2);
	fixture_check(p, size, 2);
	fixture_fill_on(f, device, p, size, 3);
	assert_int_equal(svm_unregister(f->space, p, size), 0);
	fixture_check(p, size, 3);
	for (uint64_t i = 0; i < PAGE; i++) {
		assert_int_equal(map[i], 0x11);
		assert_int_equal(map[PAGE + size + i], 0x22);
	}
	fixture_space_end(f);
	fixture_check(p, size, 3);
	assert_int_equal(munmap(map, size + 2 * PAGE), 0);
}

struct stamp_args {
	unsigned char *bytes;
	uint32_t offset;
	uint32_t value;
};

static void kernel_stamp(const void *args, uint64_t index, uint64_t count)
{
	const struct stamp_args *stamp = args;

	(void)count;
	stamp->bytes[index * PAGE + stamp->offset] = (unsigned char)stamp->value;
}

static void stamp_on(struct svm_device *device, void *p, uint64_t size, uint32_t offset,
		     uint32_t value)
{
	struct stamp_args args = { .bytes = p, .offset = offset, .value = value };
	struct svm_access_range range = { .addr = p, .size = size, .access = SVM_ACCESS_WRITE };
	struct svm_access *held = NULL;

	if (!fixture_has(device, SVM_CAP_LAUNCH)) {
		for (uint64_t i = 0; i < size; i += PAGE) {
			int r = svm_device_fill(device, (char *)p + i + offset, (uint8_t)value, 1,
						NULL, NULL);

			if (r == -EOPNOTSUPP) {
				print_message("its engine cannot write single bytes\n");
				skip();
			}
			assert_int_equal(r, 0);
		}
		return;
	}
	if (!fixture_has(device, SVM_CAP_FAULTS))
		assert_int_equal(svm_acquire(device, &range, 1, 0, &held, NULL), 0);
	assert_int_equal(svm_soft_launch(device, kernel_stamp, &args, sizeof(args), size / PAGE,
					 NULL, NULL),
			 0);
	assert_int_equal(svm_release(held, NULL), 0);
}

/* A write of one byte keeps all others of the page, whoever wrote them. */
static void single_bytes_of_a_page_meet(struct svm_fixture *f)
{
	struct svm_device *one;
	struct svm_device *two;
	unsigned char *p;

	fixture_space(f, NULL);
	one = fixture_open(f, f->device);
	two = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 5);
	stamp_on(one, p, BLOCK, 8, 0xa1);
	stamp_on(two, p, BLOCK, 9, 0xa2);
	for (uint64_t i = 0; i < BLOCK; i += PAGE)
		p[i + 10] = 0xa3;
	stamp_on(one, p, BLOCK, 11, 0xa4);
	for (uint64_t i = 0; i < BLOCK; i += PAGE) {
		const uint64_t *words = (const uint64_t *)(p + i);
		static const unsigned char stamped[] = { 0xa1, 0xa2, 0xa3, 0xa4 };
		uint64_t expected = fixture_word(5, i / sizeof(uint64_t) + 1);

		memcpy(&expected, stamped, sizeof(stamped));
		assert_int_equal(words[1], expected);
		assert_int_equal(words[0], fixture_word(5, i / sizeof(uint64_t)));
		for (uint64_t w = 2; w < PAGE / sizeof(uint64_t); w++)
			if (words[w] != fixture_word(5, i / sizeof(uint64_t) + w))
				assert_int_equal(words[w],
						 fixture_word(5, i / sizeof(uint64_t) + w));
	}
}

/* Runs of pages of three blocks, written and read by a random agent each time, against a record of who wrote what. */
static void random_pages_on_different_devices(struct svm_fixture *f)
{
	enum { N_PAGES = 3 * 512, N_DEVICES = 3, N_ROUNDS = 150 };
	static uint64_t written[N_PAGES];
	struct svm_device *devices[N_DEVICES];
	char *p;

	fixture_space(f, NULL);
	devices[0] = fixture_open(f, f->device);
	devices[1] = fixture_open(f, f->device);
	devices[2] = fixture_open(f, fixture_devices[fixture_pick(f, fixture_n_devices)]);
	p = fixture_alloc(f, N_PAGES * PAGE, fixture_pick(f, 4) == 0 ? SVM_ALLOC_SHARED : 0);
	memset(written, 0, sizeof(written));
	for (uint64_t round = 1; round <= N_ROUNDS; round++) {
		uint64_t first = fixture_pick(f, N_PAGES);
		uint64_t n = 1 + fixture_pick(f, fixture_pick(f, 4) == 0 ? 300 : 4);
		uint64_t agent = fixture_pick(f, N_DEVICES + 1);
		bool write = fixture_pick(f, 2) == 0;

		n = first + n > N_PAGES ? N_PAGES - first : n;
		if (write && agent < N_DEVICES) {
			/* In the record each page has a pattern of its own: that of a kernel counts from its first page. */
			fixture_fill_on(f, devices[agent], p + first * PAGE, n * PAGE, round);
		} else if (write) {
			fixture_fill(p + first * PAGE, n * PAGE, round);
		}
		for (uint64_t i = first; i < first + n; i++) {
			const uint64_t *words = (const uint64_t *)(p + i * PAGE);

			if (write)
				written[i] = round << 16 | (i - first);
			else if (agent < N_DEVICES)
				continue;
			else if (written[i])
				for (uint64_t w = 0; w < PAGE / 8; w += 73)
					assert_int_equal(
						words[w],
						fixture_word(written[i] >> 16,
							     (written[i] & 0xffff) * (PAGE / 8) +
								     w));
			else
				assert_int_equal(words[0], 0);
		}
		if (!write && agent < N_DEVICES && written[first] && (written[first] & 0xffff) == 0)
			fixture_check_on(f, devices[agent], p + first * PAGE, PAGE,
					 written[first] >> 16);
	}
	for (uint64_t i = 0; i < N_PAGES; i++) {
		const uint64_t *words = (const uint64_t *)(p + i * PAGE);

		for (uint64_t w = 0; w < PAGE / 8; w++) {
			uint64_t expected =
				written[i] ? fixture_word(written[i] >> 16,
							  (written[i] & 0xffff) * (PAGE / 8) + w)
					   : 0;

			if (words[w] != expected) {
				print_error("page %llu word %llu\n", (unsigned long long)i,
					    (unsigned long long)w);
				assert_int_equal(words[w], expected);
			}
		}
	}
}

/* Every other page is the device's, the rest the CPU's, at the same time. */
static void cpu_and_device_work_in_one_block(struct svm_fixture *f)
{
	enum { N_PAGES = 512 };
	static struct svm_access_range ranges[N_PAGES / 2];
	struct svm_access *held = NULL;
	struct svm_device *device;
	struct svm_fence *done[N_PAGES / 2];
	char *staging;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	staging = fixture_alloc(f, BLOCK, 0); /* for an engine to copy from */
	fixture_fill(p, BLOCK, 1);
	for (unsigned int i = 0; i < N_PAGES / 2; i++)
		fixture_fill(staging + i * PAGE, PAGE, 1000 + i);
	for (unsigned int i = 0; i < N_PAGES / 2; i++)
		ranges[i] = (struct svm_access_range){ .addr = p + 2 * i * PAGE,
						       .size = PAGE,
						       .access = SVM_ACCESS_WRITE };
	if (!fixture_has(device, SVM_CAP_FAULTS))
		assert_int_equal(svm_acquire(device, ranges, N_PAGES / 2, 0, &held, NULL), 0);
	for (unsigned int i = 0; i < N_PAGES / 2; i++) {
		struct svm_fixture_kernel args = { .addr = (uint64_t)p + 2 * i * PAGE,
						   .pattern = 1000 + i };

		if (fixture_has(device, SVM_CAP_LAUNCH))
			assert_int_equal(svm_soft_launch(device, fixture_kernel_fill, &args,
							 sizeof(args), 1, NULL, &done[i]),
					 0);
		else
			assert_int_equal(svm_device_copy(device, (void *)args.addr,
							 staging + i * PAGE, PAGE, NULL, &done[i]),
					 0);
		fixture_fill(p + (2 * i + 1) * PAGE, PAGE, 5000 + i);
	}
	for (unsigned int i = 0; i < N_PAGES / 2; i++) {
		assert_int_equal(svm_fence_wait(done[i], -1), 0);
		svm_fence_unref(done[i]);
	}
	assert_int_equal(svm_release(held, NULL), 0);
	for (unsigned int i = 0; i < N_PAGES / 2; i++) {
		fixture_check(p + 2 * i * PAGE, PAGE, 1000 + i);
		fixture_check(p + (2 * i + 1) * PAGE, PAGE, 5000 + i);
	}
}

/* One fault is answered with all of the block that is valid: the rest of it costs none. */
static void one_fault_brings_the_block(struct svm_fixture *f)
{
	struct svm_device *device;
	struct svm_stats before;
	struct svm_stats after;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, 2 * BLOCK, 0);
	fixture_fill_on(f, device, p, 2 * BLOCK, 1);
	before = fixture_stats(f);
	fixture_check(p, 2 * BLOCK, 1);
	after = stats_at_rest(f, p, 2 * BLOCK);
	assert_int_equal(cpu_faults(&after) - cpu_faults(&before), 2);
	assert_int_equal(after.bytes_device_to_host - before.bytes_device_to_host, 2 * BLOCK);
	fixture_fill(p, 2 * BLOCK, 2);
	assert_int_equal(fixture_stats(f).cpu_faults, after.cpu_faults);
	if (!fixture_has(device, SVM_CAP_FAULTS))
		return;
	fixture_check_on(f, device, p, 2 * BLOCK, 2);
	assert_int_equal(fixture_stats(f).device_faults - after.device_faults, 2);
	fixture_fill_on(f, device, p, 2 * BLOCK, 3);
	assert_int_equal(fixture_stats(f).device_faults - after.device_faults, 2);
}

struct toucher {
	char *p;
	uint64_t size;
	pthread_barrier_t *start;
	uint64_t wrong;
	unsigned int number;
};

static void *touch_all(void *arg)
{
	struct toucher *t = arg;
	uint64_t n = t->size / PAGE;

	(void)pthread_barrier_wait(t->start);
	for (uint64_t i = 0; i < n; i++) {
		/* Each from another place on. */
		uint64_t page = (i + t->number * 37u) % n;
		const uint64_t *words = (const uint64_t *)(t->p + page * PAGE);

		t->wrong += words[511] != fixture_word(4, page * 512 + 511);
	}
	return NULL;
}

static void many_threads_touch_at_once(struct svm_fixture *f)
{
	enum { N_THREADS = 6 };
	struct toucher touchers[N_THREADS];
	pthread_t threads[N_THREADS];
	pthread_barrier_t start;
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, 4 * BLOCK, 0);
	assert_int_equal(pthread_barrier_init(&start, NULL, N_THREADS), 0);
	for (unsigned int round = 0; round < 3; round++) {
		fixture_fill_on(f, device, p, 4 * BLOCK, 4);
		for (unsigned int i = 0; i < N_THREADS; i++) {
			touchers[i] = (struct toucher){
				.p = p, .size = 4 * BLOCK, .start = &start, .number = i
			};
			assert_int_equal(pthread_create(&threads[i], NULL, touch_all, &touchers[i]),
					 0);
		}
		for (unsigned int i = 0; i < N_THREADS; i++) {
			assert_int_equal(pthread_join(threads[i], NULL), 0);
			assert_int_equal(touchers[i].wrong, 0);
		}
	}
	assert_int_equal(pthread_barrier_destroy(&start), 0);
}

/* Without recoverable faults a touch of what was not acquired ends the device, and nothing else. */
static void touch_without_acquire_is_fatal(struct svm_fixture *f)
{
	struct svm_fixture_kernel args = { .pattern = 2 };
	struct svm_device_info info = { .size = sizeof(info) };
	struct svm_device *device;
	struct svm_device *other;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "faults=off");
	other = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	args.addr = (uint64_t)p;
	assert_int_equal(svm_soft_launch(device, fixture_kernel_fill, &args, sizeof(args), 1, NULL,
					 NULL),
			 -ENODEV);
	assert_int_equal(svm_device_query(device, &info), 0);
	assert_int_equal(info.is_lost, 1);
	fixture_check(p, BLOCK, 1);
	fixture_check_on(f, other, p, BLOCK, 1);
	assert_int_equal(svm_device_close(device), 0);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(cpu_first_touch_reads_zero, FIXTURE_VARIANTS),
		FIXTURE_CASE(first_touch_is_counted_and_traced, FIXTURE_VARIANTS),
		FIXTURE_CASE(device_first_touch_reads_zero, FIXTURE_BOTH),
		FIXTURE_CASE(device_and_cpu_read_each_other, FIXTURE_BOTH),
		FIXTURE_CASE(registered_memory_is_shared, FIXTURE_BOTH),
		FIXTURE_CASE(single_bytes_of_a_page_meet, FIXTURE_BOTH),
		FIXTURE_CASE(random_pages_on_different_devices, FIXTURE_BOTH),
		FIXTURE_CASE(cpu_and_device_work_in_one_block, FIXTURE_BOTH),
		FIXTURE_CASE(one_fault_brings_the_block, FIXTURE_BOTH),
		FIXTURE_CASE(many_threads_touch_at_once, FIXTURE_BOTH),
		FIXTURE_CASE(touch_without_acquire_is_fatal, FIXTURE_DEVICES | FIXTURE_SOFT),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
