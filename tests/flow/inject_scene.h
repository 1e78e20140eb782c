/* SPDX-License-Identifier: MIT */
/*
 * The main flows as tests see them that let system calls fail: a scene is set up, one operation runs with a failure armed,
 * and when that is over bytes are right or said to be lost, later operations work, and all can be given back.
 *
 * Each program that includes this arms failures in its own way.
 */
#ifndef FLOW_INJECT_SCENE_H
#define FLOW_INJECT_SCENE_H

#include "fixture.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE	 FIXTURE_PAGE
#define BLOCK	 FIXTURE_BLOCK
#define HOST	 ((struct svm_location){ .kind = SVM_LOCATION_HOST })
#define N_BLOCKS 3u

/* ---- Touches that may end in a signal ------------------------------------------------------------ */

static sigjmp_buf jump;

static void on_signal(int number)
{
	siglongjmp(jump, number);
}

static int touch(volatile uint64_t *word, bool write, uint64_t *value)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct sigaction old[2];
	int number;

	sigemptyset(&action.sa_mask);
	(void)sigaction(SIGBUS, &action, &old[0]);
	(void)sigaction(SIGSEGV, &action, &old[1]);
	number = sigsetjmp(jump, 1);
	if (number == 0 && write)
		*word = *value;
	else if (number == 0)
		*value = *word;
	(void)sigaction(SIGBUS, &old[0], NULL);
	(void)sigaction(SIGSEGV, &old[1], NULL);
	return number ? -EFAULT : 0;
}

/* ---- The scene ----------------------------------------------------------------------------------- */

struct scene {
	struct svm_fixture *f;
	struct svm_device *device;
	struct svm_access *access;
	uint64_t *words[N_BLOCKS]; /* managed blocks: word 0 of some pages is followed */
	uint64_t expected[N_BLOCKS];
	uint64_t *own; /* memory of the application */
	bool registered;
	bool may_die; /* what fails may end the device */
	bool lossy;   /* the device died: its bytes may be lost */
	char what[160];
};

#define FOLLOWED 70u /* the page of each block whose first word is followed */

static uint64_t *followed(const struct scene *s, unsigned int b)
{
	return s->words[b] + FOLLOWED * PAGE / 8u;
}

static int use(struct scene *s, unsigned int b, bool write)
{
	struct svm_access_range range = { .addr = followed(s, b),
					  .size = 8,
					  .access = write ? SVM_ACCESS_WRITE : SVM_ACCESS_READ };
	int r;

	r = svm_acquire(s->device, &range, 1, 0, &s->access, NULL);
	if (r < 0)
		return r;
	r = svm_release(s->access, NULL);
	s->access = NULL;
	return r;
}

static int write_word(struct scene *s, unsigned int b)
{
	uint64_t value = s->expected[b] + 1000u;
	int r = touch(followed(s, b), true, &value);

	if (r == 0)
		s->expected[b] = value;
	return r;
}

static int there(struct scene *s, unsigned int b)
{
	return svm_prefetch(s->f->space, s->words[b], BLOCK, svm_device_location(s->device), NULL);
}

static int act_alloc(struct scene *s)
{
	void *addr;
	uint64_t value = 1;
	int r = svm_alloc(s->f->space, 3u * BLOCK, 0, &addr);

	if (r < 0)
		return r;
	r = touch(addr, true, &value);
	assert_int_equal(svm_free(s->f->space, addr), 0);
	return r;
}

static int act_register(struct scene *s)
{
	int r = svm_register(s->f->space, s->own, BLOCK, 0);

	s->registered = r == 0;
	if (r < 0)
		return r;
	r = svm_prefetch(s->f->space, s->own, BLOCK, svm_device_location(s->device), NULL);
	if (svm_unregister(s->f->space, s->own, BLOCK) < 0)
		return -EIO; /* tried again when it is over */
	s->registered = false;
	return r;
}

static int act_cpu_fault(struct scene *s)
{
	int r = there(s, 0);

	return r ? r : write_word(s, 0);
}

static int act_device_fault(struct scene *s)
{
	char *page = (char *)s->words[1] + 100u * PAGE;
	uint64_t wrong = 0;
	int r = fixture_try_fill_on(s->f, s->device, page, PAGE, 3);

	r = r ? r : fixture_try_check_on(s->f, s->device, page, PAGE, 3, &wrong);
	/* Who says that it was done has done it. */
	if (r == 0 && wrong)
		fail_msg("%s: %llu words are wrong", s->what, (unsigned long long)wrong);
	return r;
}

static int act_acquire(struct scene *s)
{
	int r = use(s, 0, true);

	return r ? r : write_word(s, 0);
}

static int act_prefetch(struct scene *s)
{
	int r = there(s, 1);

	return r ? r : svm_prefetch(s->f->space, s->words[1], BLOCK, HOST, NULL);
}

static int act_evict(struct scene *s)
{
	int r = 0;

	for (unsigned int b = 0; b < N_BLOCKS && r == 0; b++)
		r = there(s, b);
	return r ? r : write_word(s, 0);
}

static int act_advise(struct scene *s)
{
	struct svm_advice advice[2] = { { .kind = SVM_ADVICE_ACCESS_IN_PLACE,
					  .device = svm_device_id(s->device) },
					{ .kind = SVM_ADVICE_GRANULARITY, .value = 65536 } };
	int r = svm_advise(s->f->space, followed(s, 1), 8, advice, 2, NULL);

	r = r ? r : use(s, 1, true);
	return r ? r : write_word(s, 1);
}

static int act_discard(struct scene *s)
{
	int r = svm_discard(s->f->space, s->words[0], 4u * PAGE, 0);

	return r ? r
		 : svm_discard(s->f->space, (char *)s->words[0] + 8u * PAGE, PAGE,
			       SVM_DISCARD_LAZY);
}

static int act_pin(struct scene *s)
{
	struct svm_location to[2] = { svm_device_location(s->device), HOST };
	int r = 0;

	for (unsigned int i = 0; i < 2 && r == 0; i++) {
		r = svm_pin(s->f->space, s->words[0], 8u * PAGE, to[i]);
		if (r == 0)
			assert_int_equal(svm_unpin(s->f->space, s->words[0], 8u * PAGE, to[i]), 0);
	}
	return r;
}

static int act_device(struct scene *s)
{
	int r = svm_device_close(s->device);

	if (r < 0)
		return r;
	s->device = NULL;
	return svm_device_open(s->f->space, "soft:memory=4M", &s->device);
}

static int act_loss(struct scene *s)
{
	int r = there(s, 0);

	s->lossy = true;
	assert_int_equal(svm_soft_kill(s->device), 0);
	(void)write_word(s, 0);
	(void)write_word(s, 1);
	return r;
}

static int act_fork(struct scene *s)
{
	int r = there(s, 1);
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct svm_space_info info = { .size = sizeof(info) };

		_exit(svm_space_query(s->f->space, &info) == -ECHILD ? 0 : 1);
	}
	if (child < 0)
		return -errno;
	while (waitpid(child, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	assert_int_equal(status, 0);
	return r ? r : write_word(s, 1);
}

static const struct flow {
	const char *name;
	int (*act)(struct scene *s); /* NULL: creating the space */
} flows[] = {
	{ "space", NULL },
	{ "alloc", act_alloc },
	{ "register", act_register },
	{ "cpu fault", act_cpu_fault },
	{ "device fault", act_device_fault },
	{ "acquire", act_acquire },
	{ "prefetch", act_prefetch },
	{ "evict", act_evict },
	{ "advise", act_advise },
	{ "discard", act_discard },
	{ "pin", act_pin },
	{ "device", act_device },
	{ "loss", act_loss },
	{ "fork", act_fork },
};

static void (*scene_log)(void *data, int level, const char *line); /* NULL: nowhere */

static int create(struct svm_fixture *f, uint32_t loop)
{
	struct svm_space_options o = {
		.size = sizeof(o), .loop = loop, .log_level = SVM_LOG_DEBUG, .log = scene_log
	};
	int r = svm_space_create(&o, &f->space);

	if (r < 0)
		f->space = NULL;
	return r;
}

/* Where io_uring is denied, flows are run without. */
static bool has_loop(struct svm_fixture *f, uint32_t loop)
{
	int r = create(f, loop);

	if (r == -EOPNOTSUPP && loop == SVM_LOOP_IO_URING) {
		print_message("io_uring is denied here: left out\n");
		return false;
	}
	assert_int_equal(r, 0);
	fixture_space_end(f);
	return true;
}

#define works(s, call)                                                                      \
	do {                                                                                \
		int works_ = (call);                                                        \
		if (works_ != 0)                                                            \
			fail_msg("%s: later, %s: %s", (s)->what, #call, strerror(-works_)); \
	} while (0)

static void set_up(struct scene *s)
{
	works(s, svm_device_open(s->f->space, "soft:memory=4M", &s->device));
	for (unsigned int b = 0; b < N_BLOCKS; b++) {
		void *addr;

		works(s, svm_alloc(s->f->space, BLOCK, 0, &addr));
		s->words[b] = addr;
		works(s, write_word(s, b));
	}
	s->own = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(s->own, MAP_FAILED);
	s->own[1] = 77;
}

/* The scene, and its operation with *armed set. Returns what that returned; the scene stands in any case. */
static int act_armed(struct scene *s, const struct flow *flow, uint32_t loop, _Atomic bool *armed)
{
	int r = 0;

	if (!flow->act) {
		atomic_store(armed, true);
		r = create(s->f, loop);
		if (r == 0)
			r = svm_space_destroy(s->f->space);
		atomic_store(armed, false);
		if (r < 0 && s->f->space)
			works(s, svm_space_destroy(s->f->space));
		s->f->space = NULL;
	}
	works(s, create(s->f, loop));
	set_up(s);
	if (flow->act) {
		atomic_store(armed, true);
		r = flow->act(s);
		atomic_store(armed, false);
	}
	return r;
}

/* The device is lost. A launch that fails with it may be told first. */
static bool is_gone(struct scene *s)
{
	struct svm_device_info info = { .size = sizeof(info) };
	int r = use(s, 0, false);

	for (unsigned int i = 0; i < 10000; i++) {
		works(s, svm_device_query(s->device, &info));
		if (info.is_lost || r != -ENODEV)
			return info.is_lost;
		(void)poll(NULL, 0, 1);
	}
	fail_msg("%s: a device that is gone is not said to be lost", s->what);
	return true;
}

/* Everything is over: bytes are right, or said to be lost; all works. */
static void check_and_end(struct scene *s)
{
	uint64_t value;

	if (s->registered)
		works(s, svm_unregister(s->f->space, s->own, BLOCK));
	assert_int_equal(s->own[1], 77);
	if (s->device && is_gone(s)) {
		s->lossy |= s->may_die;
		works(s, svm_device_close(s->device));
		s->device = NULL;
	}
	if (!s->device)
		works(s, svm_device_open(s->f->space, "soft:memory=4M", &s->device));
	for (unsigned int b = 0; b < N_BLOCKS; b++) {
		if (s->lossy && (fixture_page(s->f, followed(s, b)).flags & SVM_PAGE_POISONED)) {
			assert_int_equal(touch(followed(s, b), false, &value), -EFAULT);
			works(s, svm_discard(s->f->space, s->words[b], BLOCK, 0));
			s->expected[b] = 0;
		}
		if (s->lossy)
			works(s, svm_discard(s->f->space, s->words[b], FOLLOWED * PAGE, 0));
		/* What an earlier failure had refused is served now. */
		works(s, svm_prefetch(s->f->space, followed(s, b), 8, HOST, NULL));
		works(s, touch(followed(s, b), false, &value));
		if (value != s->expected[b])
			fail_msg("%s: block %u: %llx instead of %llx", s->what, b,
				 (unsigned long long)value, (unsigned long long)s->expected[b]);
		works(s, use(s, b, true));
		works(s, write_word(s, b));
	}
	works(s, act_alloc(s));
	works(s, svm_device_close(s->device));
	for (unsigned int b = 0; b < N_BLOCKS; b++) {
		works(s, touch(followed(s, b), false, &value));
		assert_int_equal(value, s->expected[b]);
		works(s, svm_free(s->f->space, s->words[b]));
	}
	fixture_space_end(s->f);
	assert_int_equal(munmap(s->own, BLOCK), 0);
}

#endif
