// SPDX-License-Identifier: MIT
/*
 * Acquire and release, device-side copy and fill: who holds what, who waits for whom, and what is
 * refused. Names that begin with contract_ are rows of the contract that docs/architecture.md restates.
 */
#include "fixture.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define PAGE  FIXTURE_PAGE
#define BLOCK FIXTURE_BLOCK
#define HOST  ((struct svm_location){ .kind = SVM_LOCATION_HOST })

static uint16_t bit_of(struct svm_device *device)
{
	return (uint16_t)(1u << svm_device_id(device));
}

static int acquire(struct svm_device *device, void *addr, uint64_t size, uint32_t access,
		   uint32_t flags, struct svm_access **ret_access)
{
	struct svm_access_range range = { .addr = addr, .size = size, .access = access };

	return svm_acquire(device, &range, 1, flags, ret_access, NULL);
}

/* Work on memory that the device holds. */
static void launch(struct svm_fixture *f, struct svm_device *device, void *addr, uint64_t size,
		   uint64_t pattern)
{
	struct svm_fixture_kernel args = { .addr = (uint64_t)addr, .pattern = pattern };

	if (!fixture_has(device, SVM_CAP_LAUNCH)) {
		fixture_fill_on(f, device, addr, size, pattern);
		return;
	}
	assert_int_equal(svm_soft_launch(device, fixture_kernel_fill, &args, sizeof(args),
					 size / PAGE, NULL, NULL),
			 0);
}

/* A device of the fixture's kind that cannot fault: what it acquires, it holds. */
static struct svm_device *open_holder(struct svm_fixture *f)
{
	return fixture_open_with(f, "faults=off");
}

static void acquired_memory_is_bound(struct svm_fixture *f)
{
	struct svm_access *access;
	struct svm_device *device;
	uint64_t size = 2 * BLOCK + 3 * PAGE;
	uint64_t faults;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, size, 0);
	fixture_fill(p, size, 1);
	assert_int_equal(acquire(device, p, size, SVM_ACCESS_WRITE, 0, &access), 0);
	fixture_assert_at(f, p, size, bit_of(device), false);
	assert_int_equal(fixture_page(f, p + size - PAGE).mapped, bit_of(device));
	faults = fixture_stats(f).device_faults;
	launch(f, device, p, size, 2);
	assert_int_equal(fixture_stats(f).device_faults, faults);
	assert_int_equal(svm_release(access, NULL), 0);
	fixture_assert_at(f, p, size, bit_of(device), false);
	fixture_check(p, size, 2);
}

/* One page is to be mapped in place, for which all of the block has to come home; its neighbour is to move. */
static void one_block_may_have_both(struct svm_fixture *f)
{
	struct svm_advice advice = { .kind = SVM_ADVICE_MIGRATION,
				     .value = SVM_MIGRATE_ON_PREFETCH };
	struct svm_access *access;
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = open_holder(f);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	assert_int_equal(svm_advise(f->space, p + 4 * PAGE, PAGE, &advice, 1, NULL), 0);
	assert_int_equal(acquire(device, p, 8 * PAGE, SVM_ACCESS_WRITE, 0, &access), 0);
	fixture_assert_at(f, p, 4 * PAGE, bit_of(device), false);
	if (fixture_has(device, SVM_CAP_HOST_ALIAS))
		fixture_assert_at(f, p + 4 * PAGE, PAGE, 0, true);
	fixture_assert_at(f, p + 5 * PAGE, 3 * PAGE, bit_of(device), false);
	launch(f, device, p, 8 * PAGE, 2);
	assert_int_equal(svm_release(access, NULL), 0);
	fixture_check(p, 8 * PAGE, 2);
}

/* ... and where its neighbour must not move, but another page of the block is held for a while. */
static void one_block_waits_for_its_holder(struct svm_fixture *f)
{
	struct svm_advice advice = { .kind = SVM_ADVICE_MIGRATION, .value = SVM_MIGRATE_NEVER };
	struct svm_access_range range = { .size = 8 * PAGE, .access = SVM_ACCESS_WRITE };
	struct svm_access *access;
	struct svm_device *device;
	struct svm_fence *ready;
	uint64_t before;
	char *p;

	fixture_space(f, NULL);
	device = open_holder(f);
	if (!fixture_has(device, SVM_CAP_HOST_ALIAS))
		return; /* refused, which is not what this is about */
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	range.addr = p;
	assert_int_equal(svm_advise(f->space, p + 4 * PAGE, PAGE, &advice, 1, NULL), 0);
	assert_int_equal(svm_host_acquire(f->space, p + 100 * PAGE, PAGE, SVM_ACCESS_WRITE, 0), 0);
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, &ready), 0);
	before = fixture_stats(f).transitions;
	(void)svm_fence_wait(ready, 50000000);
	/* It waits: nothing is moved to and fro meanwhile. */
	assert_in_range(fixture_stats(f).transitions - before, 0, 10);
	assert_int_equal(svm_host_release(f->space, p + 100 * PAGE, PAGE, SVM_ACCESS_WRITE), 0);
	(void)svm_fence_wait(ready, -1);
	svm_fence_unref(ready);
	assert_int_equal(svm_release(access, NULL), 0);
	fixture_check(p, BLOCK, 1);
}

/* ... and where one acquire asks for both, in either order: nobody else is in its way. */
static void one_acquire_may_have_both(struct svm_fixture *f)
{
	struct svm_advice advice = { .kind = SVM_ADVICE_MIGRATION, .value = SVM_MIGRATE_NEVER };
	struct svm_device *device;

	fixture_space(f, NULL);
	device = open_holder(f);
	if (!fixture_has(device, SVM_CAP_HOST_ALIAS))
		return; /* refused, which is not what this is about */
	for (unsigned int i = 0; i < 2; i++) {
		struct svm_access_range ranges[2] = {
			{ .size = 4 * PAGE, .access = SVM_ACCESS_WRITE },
			{ .size = 4 * PAGE, .access = SVM_ACCESS_WRITE },
		};
		struct svm_access *access;
		char *p = fixture_alloc(f, BLOCK, 0);

		fixture_fill(p, BLOCK, 1);
		assert_int_equal(svm_advise(f->space, p + 8 * PAGE, 4 * PAGE, &advice, 1, NULL), 0);
		ranges[i].addr = p;
		ranges[1 - i].addr = p + 8 * PAGE;
		assert_int_equal(svm_acquire(device, ranges, 2, 0, &access, NULL), 0);
		assert_int_equal(svm_release(access, NULL), 0);
		fixture_check(p, BLOCK, 1);
		fixture_free(f, p);
	}
}

/* ... and where an acquire has to wait for a fence with part of what it wants in hand: others get that meanwhile, and are
 * told, instead of having it taken from them again before they are looked at. */
static void who_waits_for_a_fence_takes_no_turns(struct svm_fixture *f)
{
	struct svm_access_range range = { .size = 2 * PAGE, .access = SVM_ACCESS_READ };
	struct svm_access *first;
	struct svm_access *second;
	struct svm_device *one;
	struct svm_device *two;
	struct svm_fence *done;
	struct svm_fence *ready;
	char *p;

	fixture_watchdog(20);
	fixture_space(f, NULL);
	one = fixture_open_with(f, "faults=off:readonly=off");
	two = fixture_open_with(f, "faults=off:readonly=off");
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p + PAGE, PAGE, 1);
	assert_int_equal(acquire(one, p + PAGE, PAGE, SVM_ACCESS_READ, 0, &first), 0);
	assert_int_equal(svm_fence_create(f->space, &done), 0);
	assert_int_equal(svm_release(first, done), 0);
	/* The first page is had at once; the second is still read by the first device. */
	range.addr = p;
	assert_int_equal(svm_acquire(two, &range, 1, 0, &second, &ready), 0);
	assert_int_equal(svm_fence_wait(ready, 0), -ETIMEDOUT);
	assert_int_equal(svm_discard(f->space, p, PAGE, 0), 0);
	assert_int_equal(svm_fence_wait(ready, 0), -ETIMEDOUT);
	assert_int_equal(svm_fence_signal(done, 0), 0);
	assert_int_equal(svm_fence_wait(ready, -1), 0);
	svm_fence_unref(ready);
	svm_fence_unref(done);
	assert_int_equal(svm_release(second, NULL), 0);
	fixture_check(p + PAGE, PAGE, 1);
}

static void ready_fence_says_when(struct svm_fixture *f)
{
	struct svm_access_range ranges[2];
	struct svm_access *access;
	struct svm_device *device;
	struct svm_fence *ready;
	char *p;
	char *q;
	int fd;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, 2 * BLOCK, 0);
	q = fixture_alloc(f, 5 * PAGE, 0);
	fixture_fill(p, 2 * BLOCK, 1);
	fixture_fill(q, 5 * PAGE, 2);
	ranges[0] = (struct svm_access_range){ .addr = p,
					       .size = 2 * BLOCK,
					       .access = SVM_ACCESS_READ };
	ranges[1] = (struct svm_access_range){ .addr = q,
					       .size = 5 * PAGE,
					       .access = SVM_ACCESS_WRITE };
	assert_int_equal(svm_acquire(device, ranges, 2, 0, &access, &ready), 0);
	memset(ranges, 0xff, sizeof(ranges));
	assert_int_equal(svm_fence_export(ready, &fd), 0);
	assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, -1), 1);
	assert_int_equal(svm_fence_wait(ready, -1), 0);
	assert_int_equal(close(fd), 0);
	svm_fence_unref(ready);
	launch(f, device, q, 5 * PAGE, 3);
	assert_int_equal(svm_release(access, NULL), 0);
	fixture_check(p, 2 * BLOCK, 1);
	fixture_check(q, 5 * PAGE, 3);
}

struct reader {
	struct svm_fixture *f;
	const uint64_t *word;
	uint64_t value;
	_Atomic bool done;
};

static void *read_word(void *arg)
{
	struct reader *reader = arg;

	reader->value = *(const volatile uint64_t *)reader->word;
	atomic_store(&reader->done, true);
	return NULL;
}

static void start_reader(struct reader *reader, pthread_t *thread)
{
	uint64_t before = fixture_stats(reader->f).cpu_faults;

	assert_int_equal(pthread_create(thread, NULL, read_word, reader), 0);
	while (fixture_stats(reader->f).cpu_faults == before)
		sched_yield(); /* the watchdog bounds it */
}

/* contract 3.8.2 and 3.8.3: a CPU touch of what a device holds blocks until it is released, and sees all that the
 * device wrote. */
static void contract_3_8_2_cpu_touch_waits_for_release(struct svm_fixture *f)
{
	struct svm_access *access;
	struct svm_device *device;
	struct reader reader = { .f = f };
	pthread_t thread;
	char *p;

	fixture_space(f, NULL);
	device = open_holder(f);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	assert_int_equal(acquire(device, p, BLOCK, SVM_ACCESS_WRITE, 0, &access), 0);
	reader.word = (const uint64_t *)(p + 300 * PAGE);
	start_reader(&reader, &thread);
	assert_false(atomic_load(&reader.done));
	launch(f, device, p, BLOCK, 2);
	assert_false(atomic_load(&reader.done));
	launch(f, device, p, BLOCK, 3);
	assert_false(atomic_load(&reader.done));
	fixture_assert_at(f, p, BLOCK, bit_of(device), false);
	assert_int_equal(svm_release(access, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(reader.value, fixture_word(3, 300 * 512));
	fixture_check(p, BLOCK, 3);
}

/* The same with a release whose fence is still open: the fence is what counts. */
static void contract_3_8_3_cpu_touch_waits_for_the_fence(struct svm_fixture *f)
{
	struct svm_access *access;
	struct svm_device *device;
	struct svm_fence *done;
	struct reader reader = { .f = f };
	pthread_t thread;
	char *p;

	fixture_space(f, NULL);
	device = open_holder(f);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	assert_int_equal(svm_fence_create(f->space, &done), 0);
	assert_int_equal(acquire(device, p, BLOCK, SVM_ACCESS_WRITE, 0, &access), 0);
	assert_int_equal(svm_release(access, done), 0);
	assert_int_equal(svm_host_acquire(f->space, p, PAGE, SVM_ACCESS_READ, SVM_HOST_TRY),
			 -EBUSY);
	reader.word = (const uint64_t *)(p + 511 * PAGE);
	start_reader(&reader, &thread);
	launch(f, device, p, BLOCK, 2);
	assert_false(atomic_load(&reader.done));
	fixture_assert_at(f, p, BLOCK, bit_of(device), false);
	assert_int_equal(svm_fence_signal(done, 0), 0);
	svm_fence_unref(done);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(reader.value, fixture_word(2, 511 * 512));
	assert_int_equal(svm_host_acquire(f->space, p, PAGE, SVM_ACCESS_READ, SVM_HOST_TRY), 0);
	assert_int_equal(svm_host_release(f->space, p, PAGE, SVM_ACCESS_READ), 0);
	fixture_check(p, BLOCK, 2);
}

/* An error of the work ends the access all the same. */
static void release_ends_with_a_failed_fence(struct svm_fixture *f)
{
	struct svm_access *access;
	struct svm_device *device;
	struct svm_fence *done;
	char *p;

	fixture_space(f, NULL);
	device = open_holder(f);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	assert_int_equal(svm_fence_create(f->space, &done), 0);
	assert_int_equal(acquire(device, p, BLOCK, SVM_ACCESS_WRITE, 0, &access), 0);
	assert_int_equal(svm_release(access, done), 0);
	assert_int_equal(svm_fence_signal(done, -EIO), 0);
	svm_fence_unref(done);
	fixture_check(p, BLOCK, 1);
}

/* contract 3.8.4: two devices, one of them writing: refused at submit. */
static void contract_3_8_4_two_writers_are_refused(struct svm_fixture *f)
{
	struct svm_access *first;
	struct svm_access *second = NULL;
	struct svm_device *one;
	struct svm_device *two;
	char *p;

	fixture_space(f, NULL);
	one = open_holder(f);
	two = open_holder(f);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	assert_int_equal(acquire(one, p + 100 * PAGE, 10 * PAGE, SVM_ACCESS_WRITE, 0, &first), 0);
	assert_int_equal(acquire(two, p + 109 * PAGE, PAGE, SVM_ACCESS_WRITE, 0, &second), -EBUSY);
	assert_int_equal(acquire(two, p + 100 * PAGE, PAGE, SVM_ACCESS_READ, 0, &second), -EBUSY);
	assert_int_equal(acquire(two, p, BLOCK, SVM_ACCESS_READ, SVM_ACQUIRE_TRY, &second), -EBUSY);
	assert_null(second);
	/* Pages beside are free. */
	assert_int_equal(acquire(two, p + 110 * PAGE, 10 * PAGE, SVM_ACCESS_WRITE, 0, &second), 0);
	launch(f, one, p + 100 * PAGE, 10 * PAGE, 2);
	launch(f, two, p + 110 * PAGE, 10 * PAGE, 3);
	assert_int_equal(svm_release(first, NULL), 0);
	/* The same device may hold a page twice. */
	assert_int_equal(acquire(two, p + 115 * PAGE, 10 * PAGE, SVM_ACCESS_WRITE, 0, &first), 0);
	assert_int_equal(svm_release(second, NULL), 0);
	assert_int_equal(acquire(one, p + 119 * PAGE, PAGE, SVM_ACCESS_READ, 0, &second), -EBUSY);
	assert_int_equal(svm_release(first, NULL), 0);
	assert_int_equal(acquire(one, p + 119 * PAGE, PAGE, SVM_ACCESS_READ, 0, &second), 0);
	assert_int_equal(svm_release(second, NULL), 0);
	fixture_check(p, 100 * PAGE, 1);
	fixture_check(p + 100 * PAGE, 10 * PAGE, 2);
	fixture_check(p + 110 * PAGE, 10 * PAGE, 3);
}

struct counter_args {
	uint64_t *counter;
};

static void kernel_count(const void *args, uint64_t index, uint64_t count)
{
	const struct counter_args *counter = args;

	(void)index;
	(void)count;
	__atomic_fetch_add(counter->counter, 1, __ATOMIC_RELAXED);
}

/* ... unless atomics across agents are asked for, and both can do them in host memory. */
static void contract_3_8_4_system_atomics_may_share(struct svm_fixture *f)
{
	struct svm_advice advice = { .kind = SVM_ADVICE_ATOMICS, .value = SVM_ATOMICS_SYSTEM };
	struct counter_args args;
	struct svm_outcome outcome;
	struct svm_access *first;
	struct svm_access *second = NULL;
	struct svm_device *one;
	struct svm_device *two;
	struct svm_fence *done[2];
	int r;

	fixture_space(f, NULL);
	one = open_holder(f);
	two = open_holder(f);
	args.counter = fixture_alloc(f, PAGE, 0);
	*args.counter = 5;
	assert_int_equal(svm_advise(f->space, args.counter, PAGE, &advice, 1, &outcome), 0);
	assert_int_equal(outcome.status,
			 fixture_has(one, SVM_CAP_SYSTEM_ATOMICS) ? SVM_EFFECTIVE : SVM_DEGRADED);
	assert_int_equal(acquire(one, args.counter, PAGE, SVM_ACCESS_WRITE, 0, &first), 0);
	r = acquire(two, args.counter, PAGE, SVM_ACCESS_WRITE, 0, &second);
	if (!fixture_has(one, SVM_CAP_HOST_ALIAS | SVM_CAP_SYSTEM_ATOMICS)) {
		assert_int_equal(r, -EBUSY);
		assert_int_equal(svm_release(first, NULL), 0);
		assert_int_equal(*args.counter, 5);
		return;
	}
	assert_int_equal(r, 0);
	fixture_assert_at(f, args.counter, PAGE, 0, true);
	assert_int_equal(
		svm_soft_launch(one, kernel_count, &args, sizeof(args), 20000, NULL, &done[0]), 0);
	assert_int_equal(
		svm_soft_launch(two, kernel_count, &args, sizeof(args), 20000, NULL, &done[1]), 0);
	for (unsigned int i = 0; i < 20000; i++)
		__atomic_fetch_add(args.counter, 1, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(svm_fence_wait(done[i], -1), 0);
		svm_fence_unref(done[i]);
	}
	assert_int_equal(svm_release(first, NULL), 0);
	assert_int_equal(svm_release(second, NULL), 0);
	assert_int_equal(*args.counter, 60005);
}

/* contract 3.8.1: any number of readers. Where the device's maps cannot be read-only, nobody would notice a write of
 * one of them, and the second is refused. */
static void contract_3_8_1_readers_share(struct svm_fixture *f)
{
	struct svm_access *first;
	struct svm_access *second;
	struct svm_device *one;
	struct svm_device *two;
	uint64_t wrong;
	int r;
	char *p;

	fixture_space(f, NULL);
	one = open_holder(f);
	two = open_holder(f);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	assert_int_equal(acquire(one, p, BLOCK, SVM_ACCESS_READ, 0, &first), 0);
	r = acquire(two, p, BLOCK, SVM_ACCESS_READ, 0, &second);
	if (!fixture_duplicates(f, one, p)) {
		assert_int_equal(r, -EBUSY);
		assert_int_equal(svm_release(first, NULL), 0);
		fixture_check(p, BLOCK, 1);
		return;
	}
	assert_int_equal(r, 0);
	assert_int_equal(fixture_page(f, p).devices, bit_of(one) | bit_of(two));
	assert_int_equal(fixture_page(f, p).mapped, bit_of(one) | bit_of(two));
	assert_int_equal(fixture_try_check_on(f, one, p, BLOCK, 1, &wrong), 0);
	assert_int_equal(wrong, 0);
	assert_int_equal(fixture_try_check_on(f, two, p, BLOCK, 1, &wrong), 0);
	assert_int_equal(wrong, 0);
	assert_int_equal(svm_release(first, NULL), 0);
	assert_int_equal(svm_release(second, NULL), 0);
	fixture_fill(p, BLOCK, 2);
	fixture_assert_at(f, p, BLOCK, 0, true);
	fixture_check_on(f, one, p, BLOCK, 2);
	fixture_check_on(f, two, p, BLOCK, 2);
}

/* The CPU may read along with a device that holds for reading, where all can be stopped from writing. */
static void released_while_waited_for(struct svm_fixture *f)
{
	struct svm_access *first;
	struct svm_access *second;
	struct svm_device *one;
	struct svm_device *two;
	struct svm_fence *done;
	struct svm_fence *ready;
	struct svm_access_range range;
	char *p;

	fixture_space(f, NULL);
	one = open_holder(f);
	two = open_holder(f);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	assert_int_equal(svm_fence_create(f->space, &done), 0);
	assert_int_equal(acquire(one, p, BLOCK, SVM_ACCESS_WRITE, 0, &first), 0);
	assert_int_equal(svm_release(first, done), 0);
	/* Released, its fence is open: trying is refused, waiting is not. */
	assert_int_equal(acquire(two, p, BLOCK, SVM_ACCESS_WRITE, SVM_ACQUIRE_TRY, &second),
			 -EBUSY);
	range = (struct svm_access_range){ .addr = p, .size = BLOCK, .access = SVM_ACCESS_WRITE };
	assert_int_equal(svm_acquire(two, &range, 1, 0, &second, &ready), 0);
	assert_int_equal(svm_fence_wait(ready, 1000000), -ETIMEDOUT);
	launch(f, one, p, BLOCK, 2);
	assert_int_equal(svm_fence_wait(ready, 0), -ETIMEDOUT);
	assert_int_equal(svm_fence_signal(done, 0), 0);
	assert_int_equal(svm_fence_wait(ready, -1), 0);
	fixture_assert_at(f, p, BLOCK, bit_of(two), false);
	launch(f, two, p, 100 * PAGE, 3);
	assert_int_equal(svm_release(second, NULL), 0);
	svm_fence_unref(done);
	svm_fence_unref(ready);
	fixture_check(p, 100 * PAGE, 3);
	for (uint64_t i = 100 * 512; i < BLOCK / 8; i++)
		if (((uint64_t *)p)[i] != fixture_word(2, i))
			assert_int_equal(((uint64_t *)p)[i], fixture_word(2, i));
}

/* A failed acquire holds nothing, also of the ranges that went well. */
static void failure_holds_nothing(struct svm_fixture *f)
{
	struct svm_access_range ranges[3];
	struct svm_access *first;
	struct svm_access *second = NULL;
	struct svm_device *one;
	struct svm_device *two;
	struct svm_fence *ready;
	char *p;

	fixture_space(f, NULL);
	one = open_holder(f);
	two = open_holder(f);
	p = fixture_alloc(f, 3 * BLOCK, 0);
	fixture_fill(p, 3 * BLOCK, 1);
	for (unsigned int i = 0; i < 3; i++)
		ranges[i] = (struct svm_access_range){ .addr = p + i * BLOCK,
						       .size = BLOCK,
						       .access = SVM_ACCESS_WRITE };
	assert_int_equal(acquire(one, p + 2 * BLOCK, PAGE, SVM_ACCESS_WRITE, 0, &first), 0);
	assert_int_equal(svm_acquire(two, ranges, 3, 0, &second, NULL), -EBUSY);
	assert_null(second);
	assert_false(fixture_page(f, p).flags & SVM_PAGE_PINNED);
	assert_false(fixture_page(f, p + BLOCK).flags & SVM_PAGE_PINNED);
	assert_true(fixture_page(f, p + 2 * BLOCK).flags & SVM_PAGE_PINNED);
	/* With a fence: the access is there all the same, and its end is the caller's. */
	assert_int_equal(svm_acquire(two, ranges, 3, 0, &second, &ready), 0);
	assert_int_equal(svm_fence_wait(ready, -1), -EBUSY);
	svm_fence_unref(ready);
	assert_int_equal(svm_release(second, NULL), 0);
	assert_false(fixture_page(f, p).flags & SVM_PAGE_PINNED);
	assert_int_equal(svm_acquire(one, ranges, 3, 0, &second, NULL), 0);
	assert_int_equal(svm_release(second, NULL), 0);
	assert_int_equal(svm_release(first, NULL), 0);
	fixture_check(p, 3 * BLOCK, 1);
}

/* What is open keeps the device, the memory and the space. */
static void open_access_keeps_things(struct svm_fixture *f)
{
	struct svm_access *access;
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	assert_int_equal(acquire(device, p, BLOCK, SVM_ACCESS_WRITE, 0, &access), 0);
	assert_int_equal(svm_device_close(device), -EBUSY);
	assert_int_equal(svm_space_destroy(f->space), -EBUSY);
	if (!fixture_has(device, SVM_CAP_FAULTS)) {
		/* Others need no promise that pages stay. */
		assert_int_equal(svm_free(f->space, p), -EBUSY);
		assert_int_equal(svm_discard(f->space, p, PAGE, 0), -EBUSY);
		assert_int_equal(svm_discard(f->space, p, PAGE, SVM_DISCARD_LAZY), -EBUSY);
		assert_int_equal(svm_pin(f->space, p, PAGE, HOST), -EBUSY);
	}
	launch(f, device, p, BLOCK, 2);
	assert_int_equal(svm_release(access, NULL), 0);
	fixture_check(p, BLOCK, 2);
	assert_int_equal(svm_device_close(device), 0);
	fixture_check(p, BLOCK, 2);
	fixture_free(f, p);
}

static void bad_arguments(struct svm_fixture *f)
{
	struct svm_access_range good;
	struct svm_access_range range;
	struct svm_access *access = (struct svm_access *)f;
	struct svm_fence *ready = (struct svm_fence *)f;
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	good = (struct svm_access_range){ .addr = p, .size = BLOCK, .access = SVM_ACCESS_READ };
	assert_int_equal(svm_acquire(NULL, &good, 1, 0, &access, NULL), -EINVAL);
	assert_int_equal(svm_acquire(device, NULL, 1, 0, &access, NULL), -EINVAL);
	assert_int_equal(svm_acquire(device, &good, 0, 0, &access, NULL), -EINVAL);
	assert_int_equal(svm_acquire(device, &good, 1, 2, &access, NULL), -EINVAL);
	assert_int_equal(svm_acquire(device, &good, 1, 0, NULL, NULL), -EINVAL);
	range = good;
	range.access = 0;
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, &ready), -EINVAL);
	range.access = 3;
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, &ready), -EINVAL);
	range = good;
	range.reserved = 1;
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, &ready), -EINVAL);
	range = good;
	range.size = 0;
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, &ready), -EINVAL);
	range.size = UINT64_MAX - 10;
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, &ready), -EOVERFLOW);
	range.size = BLOCK + 1;
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, &ready), -ENOENT);
	range = good;
	range.addr = p - 1;
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, &ready), -ENOENT);
	range.addr = (void *)f;
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, &ready), -ENOENT);
	assert_ptr_equal(access, f);
	assert_ptr_equal(ready, f);
	fixture_assert_at(f, p, BLOCK, 0, false);
	assert_int_equal(svm_release(NULL, NULL), 0);
	fixture_kill(f, device);
	assert_int_equal(svm_acquire(device, &good, 1, 0, &access, NULL), -ENODEV);
	assert_int_equal(svm_device_fill(device, p, 1, PAGE, NULL, NULL), -ENODEV);
	assert_ptr_equal(access, f);
	fixture_check_zero(p, BLOCK);
}

/* Any alignment, all lengths: compared with memcpy() and memset() on plain memory. */
static void device_copy_and_fill(struct svm_fixture *f)
{
	enum { SIZE = 40 * 4096 };
	static unsigned char model[2][SIZE];
	struct svm_device *device;
	struct svm_fence *done;
	unsigned char *p[2];
	uint64_t unit = 1;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	for (unsigned int i = 0; i < 2; i++) {
		p[i] = fixture_alloc(f, SIZE, 0);
		fixture_fill(p[i], SIZE, i);
		fixture_fill(model[i], SIZE, i);
	}
	/* Some engines know words only, and say so. */
	if (svm_device_fill(device, p[0] + 1, model[0][1], 1, NULL, NULL) == -EOPNOTSUPP)
		unit = 4;
	for (unsigned int round = 0; round < 40; round++) {
		uint64_t from = fixture_pick(f, SIZE / unit) * unit;
		uint64_t to = fixture_pick(f, SIZE / unit) * unit;
		uint64_t size =
			(1 + fixture_pick(f, (fixture_pick(f, 2) ? 64 : SIZE) / unit)) * unit;

		size = size > SIZE - from ? SIZE - from : size;
		size = size > SIZE - to ? SIZE - to : size;
		if (fixture_pick(f, 3)) {
			assert_int_equal(svm_device_copy(device, p[1] + to, p[0] + from, size, NULL,
							 &done),
					 0);
			memcpy(model[1] + to, model[0] + from, size);
		} else {
			assert_int_equal(svm_device_fill(device, p[0] + to, (uint8_t)round, size,
							 NULL, &done),
					 0);
			memset(model[0] + to, (uint8_t)round, size);
		}
		assert_int_equal(svm_fence_wait(done, -1), 0);
		svm_fence_unref(done);
		if (fixture_pick(f, 4) == 0)
			assert_int_equal(p[1][from], model[1][from]);
	}
	for (unsigned int i = 0; i < 2; i++)
		for (unsigned int k = 0; k < SIZE; k++)
			if (p[i][k] != model[i][k])
				assert_int_equal(p[i][k], model[i][k]);
	/* Overlaps are refused, touching ends are not; nothing at all is an error. */
	assert_int_equal(svm_device_copy(device, p[0] + 1, p[0], 2, NULL, NULL), -EINVAL);
	assert_int_equal(svm_device_copy(device, p[0], p[0] + 99, 100, NULL, NULL), -EINVAL);
	assert_int_equal(svm_device_copy(device, p[0], p[0] + 100, 100, NULL, NULL), 0);
	assert_int_equal(svm_device_copy(device, p[0], p[1], 0, NULL, NULL), -EINVAL);
	assert_int_equal(svm_device_fill(device, p[0], 1, 0, NULL, NULL), -EINVAL);
	assert_int_equal(svm_device_copy(device, p[0], model[1], 8, NULL, NULL), -ENOENT);
	assert_int_equal(svm_device_copy(NULL, p[0], p[1], 8, NULL, NULL), -EINVAL);
	assert_memory_equal(p[0], model[0] + 100, 100);
}

/* Work is ordered after its wait fence, and its memory is free again when it has ended. */
static void work_waits_for_its_fence(struct svm_fixture *f)
{
	struct svm_device *device;
	struct svm_fence *wait;
	struct svm_fence *done;
	unsigned char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	memset(p, 1, BLOCK);
	assert_int_equal(svm_fence_create(f->space, &wait), 0);
	assert_int_equal(svm_device_fill(device, p, 2, BLOCK, wait, &done), 0);
	assert_int_equal(svm_fence_wait(done, 1000000), -ETIMEDOUT);
	assert_int_equal(svm_fence_signal(wait, 0), 0);
	assert_int_equal(svm_fence_wait(done, -1), 0);
	svm_fence_unref(done);
	svm_fence_unref(wait);
	for (uint64_t i = 0; i < BLOCK; i++)
		if (p[i] != 2)
			assert_int_equal(p[i], 2);
	/* What it waits for has failed: so has it, and nothing is written. */
	assert_int_equal(svm_fence_create(f->space, &wait), 0);
	assert_int_equal(svm_device_fill(device, p, 3, BLOCK, wait, &done), 0);
	assert_int_equal(svm_fence_signal(wait, -ECANCELED), 0);
	assert_int_equal(svm_fence_wait(done, -1), -ECANCELED);
	svm_fence_unref(done);
	svm_fence_unref(wait);
	assert_int_equal(p[BLOCK - 1], 2);
}

/* A chain of fences over two devices: each adds to what the one before left. */
static void kernel_add(const void *args, uint64_t index, uint64_t count)
{
	const struct svm_fixture_kernel *kernel = args;
	uint64_t *words = (uint64_t *)kernel->addr;

	(void)count;
	words[index] = words[index] * 3 + kernel->pattern;
}

static void fences_chain_over_devices(struct svm_fixture *f)
{
	enum { N_WORDS = 4096, N_LINKS = 12 };
	struct svm_fixture_kernel args = { 0 };
	struct svm_device *devices[2];
	struct svm_fence *last = NULL;
	uint64_t *words;

	fixture_space(f, NULL);
	devices[0] = fixture_open_with(f, "faults=on");
	devices[1] = fixture_open_with(f, "faults=on:engines=3");
	words = fixture_alloc(f, N_WORDS * 8, 0);
	for (uint64_t i = 0; i < N_WORDS; i++)
		words[i] = i;
	args.addr = (uint64_t)words;
	for (unsigned int k = 0; k < N_LINKS; k++) {
		struct svm_fence *done;

		args.pattern = k;
		assert_int_equal(svm_soft_launch(devices[k % 2], kernel_add, &args, sizeof(args),
						 N_WORDS, last, &done),
				 0);
		svm_fence_unref(last);
		last = done;
	}
	assert_int_equal(svm_fence_wait(last, -1), 0);
	svm_fence_unref(last);
	for (uint64_t i = 0; i < N_WORDS; i++) {
		uint64_t expected = i;

		for (unsigned int k = 0; k < N_LINKS; k++)
			expected = expected * 3 + k;
		assert_int_equal(words[i], expected);
	}
}

/* Host residency on demand: present, mapped, and it stays. */
static void host_acquire_brings_and_keeps(struct svm_fixture *f)
{
	struct svm_prefetch_result result;
	struct svm_device *device;
	uint64_t faults;
	uint32_t flags;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill_on(f, device, p, BLOCK, 1);
	assert_int_equal(svm_host_acquire(f->space, p + 10 * PAGE, 100 * PAGE, SVM_ACCESS_WRITE, 0),
			 0);
	faults = fixture_stats(f).cpu_faults;
	fixture_assert_at(f, p + 10 * PAGE, 100 * PAGE, 0, true);
	flags = fixture_page(f, p + 109 * PAGE).flags;
	assert_int_equal(flags & (SVM_PAGE_CPU_READ | SVM_PAGE_CPU_WRITE | SVM_PAGE_PINNED),
			 SVM_PAGE_CPU_READ | SVM_PAGE_CPU_WRITE | SVM_PAGE_PINNED);
	for (uint64_t i = 10; i < 110; i++)
		fixture_fill(p + i * PAGE, PAGE, i);
	assert_int_equal(fixture_stats(f).cpu_faults, faults);
	/* It counts. */
	assert_int_equal(svm_host_acquire(f->space, p + 10 * PAGE, 100 * PAGE, SVM_ACCESS_WRITE,
					  SVM_HOST_TRY),
			 0);
	assert_int_equal(svm_host_release(f->space, p + 10 * PAGE, 100 * PAGE, SVM_ACCESS_READ),
			 -ENOENT);
	assert_int_equal(svm_host_release(f->space, p + 10 * PAGE, 100 * PAGE, SVM_ACCESS_WRITE),
			 0);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, svm_device_location(device), &result), 0);
	assert_int_equal(result.skipped_pinned, 100 * PAGE);
	fixture_assert_at(f, p + 10 * PAGE, 100 * PAGE, 0, true);
	assert_int_equal(svm_free(f->space, p), -EBUSY);
	assert_int_equal(svm_host_release(f->space, p + 10 * PAGE, 100 * PAGE, SVM_ACCESS_WRITE),
			 0);
	assert_int_equal(svm_host_release(f->space, p + 10 * PAGE, 100 * PAGE, SVM_ACCESS_WRITE),
			 -ENOENT);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, svm_device_location(device), &result), 0);
	assert_int_equal(result.skipped_pinned, 0);
	fixture_assert_at(f, p, BLOCK, bit_of(device), false);
	fixture_check(p, 10 * PAGE, 1);
	for (uint64_t i = 10; i < 110; i++)
		fixture_check(p + i * PAGE, PAGE, i);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(acquired_memory_is_bound, FIXTURE_BOTH),
		FIXTURE_CASE(one_block_may_have_both, FIXTURE_BOTH),
		FIXTURE_CASE(one_block_waits_for_its_holder, FIXTURE_DEVICES),
		FIXTURE_CASE(one_acquire_may_have_both, FIXTURE_DEVICES),
		FIXTURE_CASE(who_waits_for_a_fence_takes_no_turns, FIXTURE_ONCE | FIXTURE_SOFT),
		FIXTURE_CASE(ready_fence_says_when, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_8_1_readers_share, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_8_2_cpu_touch_waits_for_release, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_8_3_cpu_touch_waits_for_the_fence, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_8_4_two_writers_are_refused, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_8_4_system_atomics_may_share, FIXTURE_BOTH | FIXTURE_SOFT),
		FIXTURE_CASE(release_ends_with_a_failed_fence, FIXTURE_VARIANTS),
		FIXTURE_CASE(released_while_waited_for, FIXTURE_BOTH),
		FIXTURE_CASE(failure_holds_nothing, FIXTURE_BOTH),
		FIXTURE_CASE(open_access_keeps_things, FIXTURE_DEVICES),
		FIXTURE_CASE(bad_arguments, FIXTURE_DEVICES),
		FIXTURE_CASE(device_copy_and_fill, FIXTURE_BOTH),
		FIXTURE_CASE(work_waits_for_its_fence, FIXTURE_BOTH),
		FIXTURE_CASE(fences_chain_over_devices, FIXTURE_BOTH | FIXTURE_SOFT),
		FIXTURE_CASE(host_acquire_brings_and_keeps, FIXTURE_BOTH),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
