// SPDX-License-Identifier: MIT
/*
 * Device memory as a cache: working sets of several times its size, what is evicted and what never,
 * what happens when nothing can be; the bounded cache of stale host pages; thrashing.
 */
#include "fixture.h"

#include <errno.h>
#include <string.h>

#define PAGE	 FIXTURE_PAGE
#define BLOCK	 FIXTURE_BLOCK
#define HOST	 ((struct svm_location){ .kind = SVM_LOCATION_HOST })
#define N_CHUNKS 8u /* of the fixture's devices: 16 MiB */
#define N_SMALL	 4u /* where the number does not matter: 8 MiB */

static uint16_t bit_of(struct svm_device *device)
{
	return (uint16_t)(1u << svm_device_id(device));
}

static uint64_t memory_used(struct svm_device *device)
{
	struct svm_device_info info = { .size = sizeof(info) };

	assert_int_equal(svm_device_query(device, &info), 0);
	assert_true(info.memory_used <= info.memory_size);
	return info.memory_used;
}

static int acquire(struct svm_device *device, void *addr, uint64_t size, uint32_t access,
		   struct svm_access **ret_access)
{
	struct svm_access_range range = { .addr = addr, .size = size, .access = access };

	return svm_acquire(device, &range, 1, 0, ret_access, NULL);
}

/* A use of the block. */
static void use(struct svm_device *device, void *addr)
{
	struct svm_access *access;

	assert_int_equal(acquire(device, addr, BLOCK, SVM_ACCESS_WRITE, &access), 0);
	assert_int_equal(svm_release(access, NULL), 0);
}

/* Four times the memory, written and read in pieces that fit; every byte is looked at by the device and the CPU. */
static void working_set_of_four_times_the_memory(struct svm_fixture *f)
{
	enum { SIZE = 4 * N_SMALL };
	struct svm_device *device;
	struct svm_stats stats;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "memory=8M");
	p = fixture_alloc(f, SIZE * BLOCK, 0);
	for (uint64_t b = 0; b < SIZE; b++) {
		/* A third comes from the CPU first. */
		if (b % 3 == 0) {
			fixture_fill(p + b * BLOCK, BLOCK, 1000 + b);
			fixture_check_on(f, device, p + b * BLOCK, BLOCK, 1000 + b);
		}
		fixture_fill_on(f, device, p + b * BLOCK, BLOCK, b);
		assert_true(memory_used(device) <= N_SMALL * BLOCK);
	}
	stats = fixture_stats(f);
	assert_int_equal(stats.pages_evicted, (SIZE - N_SMALL) * 512);
	assert_true(fixture_events(f, SVM_EVENT_EVICT) >= SIZE - N_SMALL);
	for (uint64_t b = 0; b < SIZE; b++)
		fixture_check_on(f, device, p + b * BLOCK, BLOCK, b);
	for (uint64_t b = 0; b < SIZE; b++)
		fixture_check(p + b * BLOCK, BLOCK, b);
	assert_int_equal(fixture_stats(f).pages_poisoned, 0);
}

/* The same in one launch or prefetch, where a device needs no acquire. */
static void one_launch_over_four_times_the_memory(struct svm_fixture *f)
{
	enum { SIZE = 4 * N_SMALL };
	struct svm_prefetch_result result;
	struct svm_device *device;
	uint64_t there = 0;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "memory=8M");
	p = fixture_alloc(f, SIZE * BLOCK, 0);
	if (fixture_has(device, SVM_CAP_FAULTS)) {
		fixture_fill_on(f, device, p, SIZE * BLOCK, 1);
		fixture_check_on(f, device, p, SIZE * BLOCK, 1);
	} else {
		fixture_fill(p, SIZE * BLOCK, 1);
	}
	assert_int_equal(
		svm_prefetch(f->space, p, SIZE * BLOCK, svm_device_location(device), &result), 0);
	assert_int_equal(result.bytes_moved + result.already_there, SIZE * BLOCK);
	for (uint64_t b = 0; b < SIZE; b++)
		there += fixture_page(f, p + b * BLOCK).devices != 0;
	assert_int_equal(there, N_SMALL);
	assert_int_equal(memory_used(device), N_SMALL * BLOCK);
	fixture_check(p, SIZE * BLOCK, 1);
	assert_int_equal(memory_used(device), 0);
}

/* Two devices push each other's blocks around. */
static void two_devices_over_their_memory(struct svm_fixture *f)
{
	enum { SIZE = 12 };
	uint64_t pattern[SIZE] = { 0 };
	struct svm_device *devices[2];
	char *p;

	fixture_space(f, NULL);
	devices[0] = fixture_open_with(f, "memory=8M");
	devices[1] = fixture_open_with(f, "memory=4M");
	p = fixture_alloc(f, SIZE * BLOCK, 0);
	for (uint64_t round = 1; round <= 60; round++) {
		uint64_t b = fixture_pick(f, SIZE);
		uint64_t agent = fixture_pick(f, 5);

		if (agent == 4) {
			if (pattern[b])
				fixture_check(p + b * BLOCK, BLOCK, pattern[b]);
			fixture_fill(p + b * BLOCK, BLOCK, round);
		} else {
			if (pattern[b])
				fixture_check_on(f, devices[agent % 2], p + b * BLOCK, BLOCK,
						 pattern[b]);
			fixture_fill_on(f, devices[agent % 2], p + b * BLOCK, BLOCK, round);
		}
		pattern[b] = round;
	}
	for (uint64_t b = 0; b < SIZE; b++)
		if (pattern[b])
			fixture_check(p + b * BLOCK, BLOCK, pattern[b]);
		else
			fixture_check_zero(p + b * BLOCK, BLOCK);
}

/* Use, not arrival, decides: the oldest block that was used again outlives younger ones. */
static void used_blocks_survive_older_ones(struct svm_fixture *f)
{
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, (N_CHUNKS + 3) * BLOCK, 0);
	for (uint64_t b = 0; b < N_CHUNKS; b++)
		fixture_fill_on(f, device, p + b * BLOCK, BLOCK, b);
	fixture_assert_at(f, p, N_CHUNKS * BLOCK, bit_of(device), false);
	use(device, p);
	use(device, p + 2 * BLOCK);
	for (uint64_t b = N_CHUNKS; b < N_CHUNKS + 3; b++) {
		fixture_fill_on(f, device, p + b * BLOCK, BLOCK, b);
		fixture_assert_at(f, p + b * BLOCK, BLOCK, bit_of(device), false);
	}
	fixture_assert_at(f, p, BLOCK, bit_of(device), false);
	fixture_assert_at(f, p + 1 * BLOCK, BLOCK, 0, true);
	fixture_assert_at(f, p + 2 * BLOCK, BLOCK, bit_of(device), false);
	fixture_assert_at(f, p + 3 * BLOCK, 2 * BLOCK, 0, true);
	fixture_assert_at(f, p + 5 * BLOCK, (N_CHUNKS - 5) * BLOCK, bit_of(device), false);
	for (uint64_t b = 0; b < N_CHUNKS + 3; b++)
		fixture_check(p + b * BLOCK, BLOCK, b);
}

static void pinned_blocks_are_never_evicted(struct svm_fixture *f)
{
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "memory=8M");
	p = fixture_alloc(f, 4 * N_SMALL * BLOCK, 0);
	fixture_fill(p, 3 * BLOCK, 1);
	/* A single page keeps its block's storage, not its other pages. */
	assert_int_equal(svm_pin(f->space, p, 2 * BLOCK, svm_device_location(device)), 0);
	assert_int_equal(
		svm_pin(f->space, p + 2 * BLOCK + 5 * PAGE, PAGE, svm_device_location(device)), 0);
	for (uint64_t b = 3; b < 4 * N_SMALL; b++) {
		fixture_fill_on(f, device, p + b * BLOCK, BLOCK, b);
		fixture_assert_at(f, p, 2 * BLOCK, bit_of(device), false);
		fixture_assert_at(f, p + 2 * BLOCK + 5 * PAGE, PAGE, bit_of(device), false);
	}
	assert_int_equal(svm_unpin(f->space, p, 2 * BLOCK, svm_device_location(device)), 0);
	assert_int_equal(svm_unpin(f->space, p + 2 * BLOCK + 5 * PAGE, PAGE,
				   svm_device_location(device)),
			 0);
	for (uint64_t b = 3; b < 3 + N_SMALL; b++)
		fixture_check_on(f, device, p + b * BLOCK, BLOCK, b);
	fixture_assert_at(f, p, 2 * BLOCK, 0, true);
	fixture_check(p, 3 * BLOCK, 1);
	for (uint64_t b = 3; b < 4 * N_SMALL; b++)
		fixture_check(p + b * BLOCK, BLOCK, b);
}

/* What no device holds can be used in host memory where the device reaches it; else there is no room. */
static void no_space_when_all_is_held(struct svm_fixture *f)
{
	struct svm_access *held;
	struct svm_access *more = NULL;
	struct svm_fixture_kernel args = { .pattern = 9 };
	struct svm_device *device;
	char *p;
	int r;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "memory=8M:faults=off");
	p = fixture_alloc(f, (N_SMALL + 2) * BLOCK, 0);
	fixture_fill(p, N_SMALL * BLOCK, 1);
	fixture_fill(p + N_SMALL * BLOCK, 2 * BLOCK, 2);
	assert_int_equal(acquire(device, p, N_SMALL * BLOCK, SVM_ACCESS_WRITE, &held), 0);
	fixture_assert_at(f, p, N_SMALL * BLOCK, bit_of(device), false);
	r = acquire(device, p + N_SMALL * BLOCK, 2 * BLOCK, SVM_ACCESS_WRITE, &more);
	if (fixture_has(device, SVM_CAP_HOST_ALIAS)) {
		assert_int_equal(r, 0);
		fixture_assert_at(f, p + N_SMALL * BLOCK, 2 * BLOCK, 0, true);
		assert_int_equal(fixture_page(f, p + N_SMALL * BLOCK).mapped, bit_of(device));
		args.addr = (uint64_t)p + N_SMALL * BLOCK;
		assert_int_equal(svm_soft_launch(device, fixture_kernel_fill, &args, sizeof(args),
						 2 * 512, NULL, NULL),
				 0);
	} else {
		assert_int_equal(r, -ENOSPC);
		assert_null(more);
		fixture_assert_at(f, p + N_SMALL * BLOCK, 2 * BLOCK, 0, true);
		assert_int_equal(svm_pin(f->space, p + N_SMALL * BLOCK, BLOCK,
					 svm_device_location(device)),
				 -ENOSPC);
	}
	args.addr = (uint64_t)p;
	args.pattern = 8;
	assert_int_equal(svm_soft_launch(device, fixture_kernel_fill, &args, sizeof(args),
					 N_SMALL * 512, NULL, NULL),
			 0);
	assert_int_equal(svm_release(more, NULL), 0);
	assert_int_equal(svm_release(held, NULL), 0);
	/* With room again it goes where it belongs; what is mapped in place stays until it is told to. */
	if (r == 0)
		assert_int_equal(svm_prefetch(f->space, p + N_SMALL * BLOCK, 2 * BLOCK,
					      svm_device_location(device), NULL),
				 0);
	assert_int_equal(
		acquire(device, p + (N_SMALL - 1) * BLOCK, 3 * BLOCK, SVM_ACCESS_WRITE, &held), 0);
	fixture_assert_at(f, p + (N_SMALL - 1) * BLOCK, 3 * BLOCK, bit_of(device), false);
	assert_int_equal(svm_release(held, NULL), 0);
	fixture_check(p, N_SMALL * BLOCK, 8);
	fixture_check(p + N_SMALL * BLOCK, 2 * BLOCK, r == 0 ? 9 : 2);
}

/* Who waits for room that only a fence will make gets it then. */
static void room_comes_with_a_release(struct svm_fixture *f)
{
	struct svm_access_range range;
	struct svm_access *held;
	struct svm_access *more;
	struct svm_device *device;
	struct svm_fence *done;
	struct svm_fence *ready;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "faults=off:host=none");
	p = fixture_alloc(f, 2 * N_CHUNKS * BLOCK, 0);
	fixture_fill(p, 2 * N_CHUNKS * BLOCK, 1);
	assert_int_equal(svm_fence_create(f->space, &done), 0);
	assert_int_equal(acquire(device, p, N_CHUNKS * BLOCK, SVM_ACCESS_WRITE, &held), 0);
	assert_int_equal(svm_release(held, done), 0);
	range = (struct svm_access_range){ .addr = p + N_CHUNKS * BLOCK,
					   .size = 3 * BLOCK,
					   .access = SVM_ACCESS_WRITE };
	assert_int_equal(svm_acquire(device, &range, 1, 0, &more, &ready), 0);
	assert_int_equal(svm_fence_wait(ready, 2000000), -ETIMEDOUT);
	assert_int_equal(svm_fence_signal(done, 0), 0);
	assert_int_equal(svm_fence_wait(ready, -1), 0);
	fixture_assert_at(f, p + N_CHUNKS * BLOCK, 3 * BLOCK, bit_of(device), false);
	svm_fence_unref(ready);
	svm_fence_unref(done);
	assert_int_equal(svm_release(more, NULL), 0);
	fixture_check(p, 2 * N_CHUNKS * BLOCK, 1);
}

/* Lazily discarded pages go first, and without a copy. */
static void discarded_blocks_go_first(struct svm_fixture *f)
{
	struct svm_device *device;
	struct svm_stats before;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, (N_CHUNKS + 1) * BLOCK, 0);
	for (uint64_t b = 0; b < N_CHUNKS; b++)
		fixture_fill_on(f, device, p + b * BLOCK, BLOCK, b);
	assert_int_equal(svm_discard(f->space, p + 5 * BLOCK, BLOCK, SVM_DISCARD_LAZY), 0);
	before = fixture_stats(f);
	fixture_fill_on(f, device, p + N_CHUNKS * BLOCK, BLOCK, N_CHUNKS);
	assert_int_equal(fixture_stats(f).bytes_device_to_host, before.bytes_device_to_host);
	fixture_assert_at(f, p + 5 * BLOCK, BLOCK, 0, false);
	for (uint64_t b = 0; b <= N_CHUNKS; b++)
		if (b != 5)
			fixture_assert_at(f, p + b * BLOCK, BLOCK, bit_of(device), false);
	for (uint64_t b = 0; b <= N_CHUNKS; b++)
		if (b != 5)
			fixture_check(p + b * BLOCK, BLOCK, b);
	/* New memory, as fresh memory is. */
	fixture_check_zero(p + 5 * BLOCK, BLOCK);
}

/* A copy that others have needs none either. */
static void duplicates_go_without_a_copy(struct svm_fixture *f)
{
	struct svm_advice advice = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };
	struct svm_device *device;
	struct svm_stats before;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "memory=8M");
	p = fixture_alloc(f, 2 * N_SMALL * BLOCK, 0);
	fixture_fill(p, 2 * N_SMALL * BLOCK, 1);
	assert_int_equal(svm_advise(f->space, p, 2 * N_SMALL * BLOCK, &advice, 1, NULL), 0);
	before = fixture_stats(f);
	for (uint64_t b = 0; b < 2 * N_SMALL; b++) {
		struct svm_access *access;

		assert_int_equal(acquire(device, p + b * BLOCK, BLOCK, SVM_ACCESS_READ, &access),
				 0);
		assert_int_equal(svm_release(access, NULL), 0);
	}
	if (fixture_duplicates(f, device, p))
		assert_int_equal(fixture_stats(f).bytes_device_to_host,
				 before.bytes_device_to_host);
	else
		assert_int_equal(fixture_stats(f).bytes_device_to_host -
					 before.bytes_device_to_host,
				 N_SMALL * BLOCK);
	assert_int_equal(fixture_stats(f).pages_evicted - before.pages_evicted, N_SMALL * 512);
	fixture_check(p, 2 * N_SMALL * BLOCK, 1);
}

/* Evicted pages go to the device where they should live, if they have a place there. */
static void eviction_goes_to_the_preferred_location(struct svm_fixture *f)
{
	struct svm_advice advice = { .kind = SVM_ADVICE_PREFERRED_LOCATION };
	struct svm_device *small;
	struct svm_device *home;
	bool direct;
	char *p;

	fixture_space(f, NULL);
	home = fixture_open(f, f->device);
	small = fixture_open_with(f, "memory=2M");
	direct = fixture_has(home, SVM_CAP_PEER_COPY);
	p = fixture_alloc(f, 2 * BLOCK, 0);
	advice.location = svm_device_location(home);
	assert_int_equal(svm_advise(f->space, p, BLOCK, &advice, 1, NULL), 0);
	/* Half of the block stays there, and with it the storage of the whole. */
	fixture_fill_on(f, home, p, BLOCK, 1);
	fixture_check_on(f, small, p, 100 * PAGE, 1);
	fixture_assert_at(f, p, 100 * PAGE, bit_of(small), false);
	fixture_assert_at(f, p + 100 * PAGE, BLOCK - 100 * PAGE, bit_of(home), false);
	fixture_fill_on(f, small, p + BLOCK, BLOCK, 2);
	fixture_assert_at(f, p, 100 * PAGE, direct ? bit_of(home) : 0, !direct);
	fixture_assert_at(f, p + BLOCK, BLOCK, bit_of(small), false);
	fixture_check(p, BLOCK, 1);
	fixture_check(p + BLOCK, BLOCK, 2);
}

static void closing_brings_everything_home(struct svm_fixture *f)
{
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "memory=8M");
	p = fixture_alloc(f, 2 * N_SMALL * BLOCK, 0);
	for (uint64_t b = 0; b < 2 * N_SMALL; b++)
		fixture_fill_on(f, device, p + b * BLOCK, BLOCK, b);
	assert_int_equal(svm_device_close(device), 0);
	fixture_assert_at(f, p, 2 * N_SMALL * BLOCK, 0, true);
	for (uint64_t b = 0; b < 2 * N_SMALL; b++)
		fixture_check(p + b * BLOCK, BLOCK, b);
}

static void freed_memory_makes_room(struct svm_fixture *f)
{
	struct svm_device *device;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "memory=8M");
	for (uint64_t round = 0; round < 6; round++) {
		char *p = fixture_alloc(f, N_SMALL * BLOCK, 0);

		for (uint64_t b = 0; b < N_SMALL; b++)
			fixture_fill_on(f, device, p + b * BLOCK, BLOCK, round);
		assert_int_equal(memory_used(device), N_SMALL * BLOCK);
		fixture_check(p + (round % N_SMALL) * BLOCK, BLOCK, round);
		fixture_free(f, p);
		assert_int_equal(memory_used(device), 0);
	}
	assert_int_equal(fixture_stats(f).pages_evicted, 0);
}

/* Host pages that became stale are kept for the way back, up to a limit. */
static void run_with_cache(struct svm_fixture *f, uint64_t option, uint64_t limit)
{
	struct svm_space_options options = { .host_cache_size = option };
	struct svm_device *device;
	uint64_t most = 0;
	char *p;

	fixture_space(f, &options);
	device = fixture_open_with(f, "memory=8M");
	p = fixture_alloc(f, 2 * N_SMALL * BLOCK, 0);
	fixture_fill(p, 2 * N_SMALL * BLOCK, 1);
	for (unsigned int round = 0; round < 2; round++) {
		for (uint64_t b = 0; b < 2 * N_SMALL; b++) {
			uint64_t kept;

			fixture_fill_on(f, device, p + b * BLOCK, BLOCK, b);
			kept = fixture_stats(f).host_cache_bytes;
			assert_true(kept <= limit);
			most = kept > most ? kept : most;
		}
		for (uint64_t b = 0; b < 2 * N_SMALL; b++) {
			fixture_check(p + b * BLOCK, BLOCK, b);
			assert_true(fixture_stats(f).host_cache_bytes <= limit);
		}
	}
	/* It is used as far as it goes. */
	assert_int_equal(most, limit < N_SMALL * BLOCK ? limit : N_SMALL * BLOCK);
	fixture_free(f, p);
	assert_int_equal(fixture_stats(f).host_cache_bytes, 0);
	fixture_space_end(f);
}

static void host_cache_is_bounded(struct svm_fixture *f)
{
	run_with_cache(f, 3 * BLOCK, 3 * BLOCK);
	run_with_cache(f, UINT64_MAX, 0);
	run_with_cache(f, 0, UINT64_C(256) << 20);
}

static void kernel_touch(const void *args, uint64_t index, uint64_t count)
{
	volatile uint64_t *word = *(uint64_t *const *)args;

	(void)index;
	(void)count;
	*word += 1;
}

/* A page that goes to and fro within 500 us three times is noticed, and what it counts is right. */
static void thrashing_is_noticed(struct svm_fixture *f)
{
	struct svm_device *devices[2];
	uint64_t *word;
	uint64_t n = 0;

	fixture_slow_clock();
	fixture_space(f, NULL);
	devices[0] = fixture_open_with(f, "faults=on");
	devices[1] = fixture_open_with(f, "faults=on");
	word = fixture_alloc(f, PAGE, 0);
	/* Three in time are enough; how many it takes to have them is up to the machine. */
	while (fixture_stats(f).thrash_events == 0) {
		for (unsigned int i = 0; i < 2; i++)
			assert_int_equal(svm_soft_launch(devices[i], kernel_touch, &word,
							 sizeof(word), 1, NULL, NULL),
					 0);
		*(volatile uint64_t *)word += 1;
		n += 3;
	}
	assert_true(fixture_events(f, SVM_EVENT_THRASH) >= 1);
	for (unsigned int round = 0; round < 50; round++) {
		for (unsigned int i = 0; i < 2; i++)
			assert_int_equal(svm_soft_launch(devices[i], kernel_touch, &word,
							 sizeof(word), 1, NULL, NULL),
					 0);
		*(volatile uint64_t *)word += 1;
		n += 3;
	}
	assert_int_equal(*word, n);
	/* Where all can reach host memory, it ends there: no move is left. */
	if (fixture_has(devices[0], SVM_CAP_HOST_ALIAS) && fixture_stats(f).thrash_events == 1)
		assert_true(fixture_stats(f).device_faults < 2 * n);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(working_set_of_four_times_the_memory, FIXTURE_BOTH | FIXTURE_ROOM),
		FIXTURE_CASE(one_launch_over_four_times_the_memory, FIXTURE_BOTH | FIXTURE_SOFT),
		FIXTURE_CASE(two_devices_over_their_memory, FIXTURE_BOTH),
		FIXTURE_CASE(used_blocks_survive_older_ones, FIXTURE_DEVICES | FIXTURE_ROOM),
		FIXTURE_CASE(pinned_blocks_are_never_evicted, FIXTURE_BOTH | FIXTURE_ROOM),
		FIXTURE_CASE(no_space_when_all_is_held, FIXTURE_BOTH | FIXTURE_SOFT),
		FIXTURE_CASE(room_comes_with_a_release, FIXTURE_VARIANTS),
		FIXTURE_CASE(discarded_blocks_go_first, FIXTURE_DEVICES | FIXTURE_ROOM),
		FIXTURE_CASE(duplicates_go_without_a_copy, FIXTURE_DEVICES),
		FIXTURE_CASE(eviction_goes_to_the_preferred_location,
			     FIXTURE_DEVICES | FIXTURE_ROOM),
		FIXTURE_CASE(closing_brings_everything_home, FIXTURE_BOTH),
		FIXTURE_CASE(freed_memory_makes_room, FIXTURE_BOTH | FIXTURE_ROOM),
		FIXTURE_CASE(host_cache_is_bounded, FIXTURE_VARIANTS),
		FIXTURE_CASE(thrashing_is_noticed, FIXTURE_VARIANTS | FIXTURE_SOFT),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
