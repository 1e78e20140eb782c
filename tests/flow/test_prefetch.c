// SPDX-License-Identifier: MIT
/*
 * Prefetch: where bytes go, what the result records say, batches, progress, cancel, fences. Names
 * that begin with contract_ are rows of the contract that docs/architecture.md restates.
 */
#include "fixture.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#define PAGE  FIXTURE_PAGE
#define BLOCK FIXTURE_BLOCK
#define HOST  ((struct svm_location){ .kind = SVM_LOCATION_HOST })

static uint16_t bit_of(struct svm_device *device)
{
	return (uint16_t)(1u << svm_device_id(device));
}

static void assert_adds_up(const struct svm_prefetch_result *result, uint64_t size)
{
	assert_int_equal(result->bytes_moved + result->already_there + result->skipped_pinned +
				 result->failed,
			 size);
	assert_int_equal(result->reserved, 0);
	if (result->failed)
		assert_true(result->error < 0);
	else
		assert_int_equal(result->error, 0);
}

static void moves_there_and_back(struct svm_fixture *f)
{
	struct svm_prefetch_result result;
	struct svm_device *device;
	uint64_t size = 3 * BLOCK + 9 * PAGE;
	struct svm_stats before;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, size, 0);
	fixture_fill(p, size, 1);
	before = fixture_stats(f);
	assert_int_equal(svm_prefetch(f->space, p, size, svm_device_location(device), &result), 0);
	assert_adds_up(&result, size);
	assert_int_equal(result.bytes_moved, size);
	assert_int_equal(result.outcome.status, SVM_EFFECTIVE);
	fixture_assert_at(f, p, size, bit_of(device), false);
	assert_int_equal(fixture_stats(f).bytes_host_to_device - before.bytes_host_to_device, size);

	assert_int_equal(svm_prefetch(f->space, p, size, svm_device_location(device), &result), 0);
	assert_adds_up(&result, size);
	assert_int_equal(result.already_there, size);
	assert_int_equal(fixture_stats(f).bytes_host_to_device - before.bytes_host_to_device, size);

	assert_int_equal(svm_prefetch(f->space, p, size, HOST, &result), 0);
	assert_adds_up(&result, size);
	assert_int_equal(result.bytes_moved, size);
	fixture_assert_at(f, p, size, 0, true);
	/* It is mapped as well: no fault is needed. */
	before = fixture_stats(f);
	fixture_check(p, size, 1);
	assert_int_equal(fixture_stats(f).cpu_faults, before.cpu_faults);
	fixture_check_on(f, device, p, size, 1);
}

/* Under a device that can fault, the mapping is made too. */
static void prefetched_memory_needs_no_device_fault(struct svm_fixture *f)
{
	struct svm_device *device;
	uint64_t faults;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, 2 * BLOCK, 0);
	fixture_fill(p, 2 * BLOCK, 1);
	assert_int_equal(svm_prefetch(f->space, p, 2 * BLOCK, svm_device_location(device), NULL),
			 0);
	assert_int_equal(fixture_page(f, p).mapped,
			 fixture_has(device, SVM_CAP_FAULTS) ? bit_of(device) : 0);
	faults = fixture_stats(f).device_faults;
	fixture_check_on(f, device, p, 2 * BLOCK, 1);
	fixture_fill_on(f, device, p, 2 * BLOCK, 2);
	assert_int_equal(fixture_stats(f).device_faults, faults);
	fixture_check(p, 2 * BLOCK, 2);
}

static void populates_where_it_is_asked(struct svm_fixture *f)
{
	struct svm_prefetch_result result;
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, svm_device_location(device), &result), 0);
	assert_adds_up(&result, BLOCK);
	assert_int_equal(result.bytes_moved, BLOCK);
	fixture_assert_at(f, p, BLOCK, bit_of(device), false);
	fixture_check_zero(p, BLOCK);
	p = fixture_alloc(f, BLOCK, 0);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, HOST, &result), 0);
	assert_int_equal(result.bytes_moved, BLOCK);
	fixture_assert_at(f, p, BLOCK, 0, true);
	assert_int_equal(fixture_stats(f).bytes_host_to_device, 0);
	fixture_check_zero(p, BLOCK);
}

/* Only the pages of the (rounded) span move. */
static void parts_of_blocks(struct svm_fixture *f)
{
	struct svm_prefetch_result result;
	struct svm_device *one;
	struct svm_device *two;
	char *p;

	fixture_space(f, NULL);
	one = fixture_open(f, f->device);
	two = fixture_open(f, f->device);
	p = fixture_alloc(f, 2 * BLOCK, 0);
	fixture_fill(p, 2 * BLOCK, 1);
	/* From the last byte of page 9 to the first of page 20. */
	assert_int_equal(svm_prefetch(f->space, p + 10 * PAGE - 1, 10 * PAGE + 2,
				      svm_device_location(one), &result),
			 0);
	assert_adds_up(&result, 12 * PAGE);
	assert_int_equal(result.bytes_moved, 12 * PAGE);
	fixture_assert_at(f, p, 9 * PAGE, 0, true);
	fixture_assert_at(f, p + 9 * PAGE, 12 * PAGE, bit_of(one), false);
	fixture_assert_at(f, p + 21 * PAGE, 2 * BLOCK - 21 * PAGE, 0, true);
	/* Across the border of a block, and over pages of three owners. */
	assert_int_equal(svm_prefetch(f->space, p + 15 * PAGE, 600 * PAGE, svm_device_location(two),
				      &result),
			 0);
	assert_adds_up(&result, 600 * PAGE);
	assert_int_equal(result.bytes_moved, 600 * PAGE);
	fixture_assert_at(f, p + 9 * PAGE, 6 * PAGE, bit_of(one), false);
	fixture_assert_at(f, p + 15 * PAGE, 600 * PAGE, bit_of(two), false);
	fixture_check_on(f, one, p, 2 * BLOCK, 1);
	fixture_check(p, 2 * BLOCK, 1);
}

/* contract 3.5: a result record per range; the whole batch has one fence; no order inside. */
static void contract_3_5_batch_has_a_record_per_range(struct svm_fixture *f)
{
	enum { N = 64 };
	static struct svm_prefetch_range ranges[N];
	static struct svm_prefetch_result results[N];
	struct svm_prefetch *prefetch;
	struct svm_device *devices[2];
	uint64_t done;
	uint64_t total;
	char *p;

	fixture_space(f, NULL);
	devices[0] = fixture_open(f, f->device);
	devices[1] = fixture_open(f, f->device);
	p = fixture_alloc(f, N * 16 * PAGE, 0);
	fixture_fill(p, N * 16 * PAGE, 1);
	for (unsigned int i = 0; i < N; i++)
		ranges[i] = (struct svm_prefetch_range){
			.addr = p + i * 16 * PAGE,
			.size = (1 + i % 16) * PAGE,
			.to = i % 3 == 2 ? HOST : svm_device_location(devices[i % 3]),
		};
	assert_int_equal(svm_prefetch_start(f->space, ranges, N, NULL, 0, &prefetch), 0);
	assert_int_equal(svm_prefetch_wait(prefetch, -1, results, N), 0);
	assert_int_equal(svm_prefetch_progress(prefetch, &done, &total), 0);
	assert_int_equal(svm_prefetch_destroy(prefetch), 0);
	assert_int_equal(total, 8 * N / 16 * 17 * PAGE);
	assert_int_equal(done, total);
	for (unsigned int i = 0; i < N; i++) {
		assert_adds_up(&results[i], ranges[i].size);
		assert_int_equal(i % 3 == 2 ? results[i].already_there : results[i].bytes_moved,
				 ranges[i].size);
		fixture_assert_at(f, ranges[i].addr, ranges[i].size,
				  i % 3 == 2 ? 0 : bit_of(devices[i % 3]), i % 3 == 2);
		fixture_assert_at(f, (char *)ranges[i].addr + ranges[i].size,
				  16 * PAGE - ranges[i].size, 0, true);
	}
	fixture_check(p, N * 16 * PAGE, 1);
}

static void overlapping_random_batches(struct svm_fixture *f)
{
	enum { N = 24, N_PAGES = 4 * 512 };
	struct svm_prefetch_range ranges[N];
	struct svm_prefetch_result results[N];
	struct svm_prefetch *prefetch;
	struct svm_device *devices[2];
	char *p;

	fixture_space(f, NULL);
	devices[0] = fixture_open(f, f->device);
	devices[1] = fixture_open(f, fixture_devices[fixture_pick(f, fixture_n_devices)]);
	p = fixture_alloc(f, N_PAGES * PAGE, 0);
	fixture_fill(p, N_PAGES * PAGE, 3);
	for (unsigned int round = 0; round < 6; round++) {
		for (unsigned int i = 0; i < N; i++) {
			uint64_t first = fixture_pick(f, N_PAGES);
			uint64_t to = fixture_pick(f, 3);

			ranges[i] = (struct svm_prefetch_range){
				.addr = p + first * PAGE,
				.size = (1 + fixture_pick(f, N_PAGES - first)) * PAGE,
				.to = to == 2 ? HOST : svm_device_location(devices[to]),
			};
		}
		assert_int_equal(svm_prefetch_start(f->space, ranges, N, NULL, 0, &prefetch), 0);
		/* Memory may be used meanwhile. */
		for (uint64_t i = 0; i < N_PAGES; i += 37)
			assert_int_equal(((uint64_t *)(p + i * PAGE))[511],
					 fixture_word(3, i * 512 + 511));
		assert_int_equal(svm_prefetch_wait(prefetch, -1, results, N), 0);
		assert_int_equal(svm_prefetch_destroy(prefetch), 0);
		for (unsigned int i = 0; i < N; i++)
			assert_adds_up(&results[i], ranges[i].size);
	}
	fixture_check_on(f, devices[0], p, N_PAGES * PAGE, 3);
	fixture_check(p, N_PAGES * PAGE, 3);
}

/* contract 3.5: ordered after its wait fence. */
static void contract_3_5_waits_for_its_fence(struct svm_fixture *f)
{
	struct svm_prefetch_range range = { 0 };
	struct svm_prefetch_result result;
	struct svm_prefetch *prefetch;
	struct svm_device *device;
	struct svm_fence *wait;
	struct svm_fence *end;
	uint64_t done;
	uint64_t total;
	int fd;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, 2 * BLOCK, 0);
	fixture_fill(p, 2 * BLOCK, 1);
	range = (struct svm_prefetch_range){ .addr = p,
					     .size = 2 * BLOCK,
					     .to = svm_device_location(device) };
	assert_int_equal(svm_fence_create(f->space, &wait), 0);
	assert_int_equal(svm_prefetch_start(f->space, &range, 1, wait, 0, &prefetch), 0);
	/* Captured by the call: the caller's record may go. */
	memset(&range, 0xff, sizeof(range));
	assert_int_equal(svm_prefetch_fence(prefetch, &end), 0);
	assert_int_equal(svm_fence_export(end, &fd), 0);
	assert_int_equal(svm_prefetch_wait(prefetch, 0, NULL, 0), -ETIMEDOUT);
	assert_int_equal(svm_prefetch_wait(prefetch, 1000000, NULL, 0), -ETIMEDOUT);
	assert_int_equal(svm_prefetch_progress(prefetch, &done, &total), 0);
	assert_int_equal(done, 0);
	assert_int_equal(total, 2 * BLOCK);
	fixture_assert_at(f, p, 2 * BLOCK, 0, true);
	assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0), 0);
	/* What was written before the fence signals goes along. */
	fixture_fill(p, 2 * BLOCK, 2);
	assert_int_equal(svm_fence_signal(wait, 0), 0);
	svm_fence_unref(wait);
	assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, -1), 1);
	assert_int_equal(svm_fence_wait(end, 0), 0);
	assert_int_equal(svm_prefetch_wait(prefetch, 0, &result, 1), 0);
	assert_int_equal(result.bytes_moved, 2 * BLOCK);
	fixture_assert_at(f, p, 2 * BLOCK, bit_of(device), false);
	assert_int_equal(close(fd), 0);
	svm_fence_unref(end);
	assert_int_equal(svm_prefetch_destroy(prefetch), 0);
	fixture_check_on(f, device, p, 2 * BLOCK, 2);
}

static void cancel_before_the_start(struct svm_fixture *f)
{
	struct svm_prefetch_range ranges[2];
	struct svm_prefetch_result results[2];
	struct svm_prefetch *prefetch;
	struct svm_device *device;
	struct svm_fence *wait;
	struct svm_fence *end;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, 2 * BLOCK, 0);
	fixture_fill(p, 2 * BLOCK, 1);
	ranges[0] = (struct svm_prefetch_range){ .addr = p,
						 .size = BLOCK,
						 .to = svm_device_location(device) };
	ranges[1] = (struct svm_prefetch_range){ .addr = p + BLOCK,
						 .size = BLOCK,
						 .to = svm_device_location(device) };
	assert_int_equal(svm_fence_create(f->space, &wait), 0);
	assert_int_equal(svm_prefetch_start(f->space, ranges, 2, wait, 0, &prefetch), 0);
	assert_int_equal(svm_prefetch_fence(prefetch, &end), 0);
	assert_int_equal(svm_prefetch_cancel(prefetch), 0);
	assert_int_equal(svm_fence_wait(end, -1), -ECANCELED);
	assert_int_equal(svm_prefetch_wait(prefetch, -1, results, 2), -ECANCELED);
	for (unsigned int i = 0; i < 2; i++) {
		assert_adds_up(&results[i], BLOCK);
		assert_int_equal(results[i].failed, BLOCK);
		assert_int_equal(results[i].error, -ECANCELED);
	}
	assert_int_equal(svm_fence_signal(wait, 0), 0);
	svm_fence_unref(wait);
	svm_fence_unref(end);
	assert_int_equal(svm_prefetch_destroy(prefetch), 0);
	fixture_assert_at(f, p, 2 * BLOCK, 0, true);
	fixture_check(p, 2 * BLOCK, 1);
}

/* What moved stays moved, the rest counts as failed; bytes are right on both sides. */
/* Whose turn it is to do what the fence held back. */
static void *signal_fence(void *fence)
{
	return svm_fence_signal(fence, 0) == 0 ? fence : NULL;
}

static void cancel_on_the_way(struct svm_fixture *f)
{
	enum { N_BLOCKS = 48 };
	struct svm_prefetch_range range;
	struct svm_prefetch_result result;
	struct svm_prefetch *prefetch;
	struct svm_device *device;
	uint64_t total;
	uint64_t there = 0;
	char *p;
	int r;

	fixture_space(f, NULL);
	/* Each copy of a block takes 4 ms or more: there is time to be in the middle. */
	device = fixture_open_with(f, "memory=128M:latency=4000000");
	p = fixture_alloc(f, N_BLOCKS * BLOCK, 0);
	fixture_fill(p, N_BLOCKS * BLOCK, 1);
	range = (struct svm_prefetch_range){ .addr = p,
					     .size = N_BLOCKS * BLOCK,
					     .to = svm_device_location(device) };
	for (;;) {
		struct svm_fence *start;
		uint64_t done = 0;
		uint64_t last = 0;
		pthread_t thread;
		void *signalled;

		assert_int_equal(svm_fence_create(f->space, &start), 0);
		assert_int_equal(svm_prefetch_start(f->space, &range, 1, start, 0, &prefetch), 0);
		assert_int_equal(pthread_create(&thread, NULL, signal_fence, start), 0);
		while (done == 0) {
			assert_int_equal(svm_prefetch_progress(prefetch, &done, &total), 0);
			assert_true(done >= last && done <= total);
			last = done;
			sched_yield();
		}
		assert_int_equal(svm_prefetch_cancel(prefetch), 0);
		r = svm_prefetch_wait(prefetch, -1, &result, 1);
		assert_int_equal(pthread_join(thread, &signalled), 0);
		assert_ptr_equal(signalled, start);
		svm_fence_unref(start);
		if (r != 0)
			break;
		/* A device without that latency was done before this thread had its turn: once more. */
		assert_int_equal(result.bytes_moved, N_BLOCKS * BLOCK);
		assert_int_equal(svm_prefetch_destroy(prefetch), 0);
		assert_int_equal(svm_prefetch(f->space, p, N_BLOCKS * BLOCK,
					      (struct svm_location){ .kind = SVM_LOCATION_HOST },
					      NULL),
				 0);
	}
	assert_int_equal(r, -ECANCELED);
	assert_adds_up(&result, N_BLOCKS * BLOCK);
	assert_true(result.bytes_moved >= BLOCK);
	assert_true(result.failed >= BLOCK);
	assert_int_equal(result.error, -ECANCELED);
	for (unsigned int b = 0; b < N_BLOCKS; b++)
		there += fixture_page(f, p + b * BLOCK).devices ? BLOCK : 0;
	assert_int_equal(there, result.bytes_moved);
	assert_int_equal(svm_prefetch_destroy(prefetch), 0);
	fixture_check(p, N_BLOCKS * BLOCK, 1);
}

/* Destroying one that runs is a cancel, and waits. */
static void destroy_on_the_way(struct svm_fixture *f)
{
	struct svm_prefetch_range range;
	struct svm_prefetch *prefetch;
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "memory=64M:latency=2000000");
	p = fixture_alloc(f, 24 * BLOCK, 0);
	fixture_fill(p, 24 * BLOCK, 1);
	range = (struct svm_prefetch_range){ .addr = p,
					     .size = 24 * BLOCK,
					     .to = svm_device_location(device) };
	assert_int_equal(svm_prefetch_start(f->space, &range, 1, NULL, 0, &prefetch), 0);
	assert_int_equal(svm_space_destroy(f->space), -EBUSY);
	assert_int_equal(svm_prefetch_destroy(prefetch), 0);
	assert_int_equal(svm_prefetch_destroy(NULL), 0);
	fixture_check(p, 24 * BLOCK, 1);
	assert_int_equal(svm_device_close(device), 0);
	fixture_check(p, 24 * BLOCK, 1);
}

/* contract 3.5: the signal always fires, even on failure. */
static void contract_3_5_fence_fires_on_failure(struct svm_fixture *f)
{
	struct svm_prefetch_range range;
	struct svm_prefetch_result result;
	struct svm_prefetch *prefetch;
	struct svm_device *device;
	struct svm_fence *end;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "memory=4M");
	p = fixture_alloc(f, 4 * BLOCK, 0);
	fixture_fill(p, 4 * BLOCK, 1);
	/* Two blocks are pinned there, so that there is no room for others. */
	assert_int_equal(svm_pin(f->space, p, 2 * BLOCK, svm_device_location(device)), 0);
	range = (struct svm_prefetch_range){ .addr = p,
					     .size = 4 * BLOCK,
					     .to = svm_device_location(device) };
	assert_int_equal(svm_prefetch_start(f->space, &range, 1, NULL, 0, &prefetch), 0);
	assert_int_equal(svm_prefetch_fence(prefetch, &end), 0);
	assert_int_equal(svm_fence_wait(end, -1), -ENOSPC);
	svm_fence_unref(end);
	assert_int_equal(svm_prefetch_wait(prefetch, 0, &result, 1), -ENOSPC);
	assert_adds_up(&result, 4 * BLOCK);
	assert_int_equal(result.already_there, 2 * BLOCK);
	assert_int_equal(result.failed, 2 * BLOCK);
	assert_int_equal(result.error, -ENOSPC);
	assert_int_equal(result.outcome.status, SVM_DEGRADED);
	assert_int_equal(result.outcome.reason, SVM_REASON_NO_MEMORY);
	assert_int_equal(svm_prefetch_destroy(prefetch), 0);
	/* The pages that are pinned elsewhere are left out, and that is no failure. */
	assert_int_equal(svm_prefetch(f->space, p, 4 * BLOCK, HOST, &result), 0);
	assert_adds_up(&result, 4 * BLOCK);
	assert_int_equal(result.skipped_pinned, 2 * BLOCK);
	assert_int_equal(result.already_there, 2 * BLOCK);
	assert_int_equal(result.outcome.status, SVM_DEGRADED);
	assert_int_equal(result.outcome.reason, SVM_REASON_PINNED);
	assert_int_equal(svm_unpin(f->space, p, 2 * BLOCK, svm_device_location(device)), 0);
	fixture_check(p, 4 * BLOCK, 1);
}

/* contract 3.5: under read mostly the target gets a copy, and nothing is taken away. */
static void contract_3_5_prefetch_under_read_mostly_copies(struct svm_fixture *f)
{
	struct svm_advice advice = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };
	struct svm_prefetch_result result;
	struct svm_device *one;
	struct svm_device *two;
	bool copies;
	uint64_t faults;
	char *p;

	fixture_space(f, NULL);
	one = fixture_open(f, f->device);
	two = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	copies = fixture_duplicates(f, one, p);
	assert_int_equal(svm_advise(f->space, p, BLOCK, &advice, 1, NULL), 0);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, svm_device_location(one), &result), 0);
	assert_int_equal(result.bytes_moved, BLOCK);
	fixture_assert_at(f, p, BLOCK, bit_of(one), copies);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, svm_device_location(two), &result), 0);
	assert_int_equal(result.bytes_moved, BLOCK);
	fixture_assert_at(f, p, BLOCK, copies ? bit_of(one) | bit_of(two) : bit_of(two), copies);
	faults = fixture_stats(f).cpu_faults;
	fixture_check(p, BLOCK, 1);
	if (copies)
		assert_int_equal(fixture_stats(f).cpu_faults, faults);
	fixture_check_on(f, one, p, BLOCK, 1);
	fixture_check_on(f, two, p, BLOCK, 1);
	/* A write leaves one holder, and all see it. */
	fixture_fill_on(f, two, p, BLOCK, 2);
	fixture_assert_at(f, p, BLOCK, bit_of(two), false);
	fixture_check_on(f, one, p, BLOCK, 2);
	fixture_check(p, BLOCK, 2);
}

/* contract 3.5: host node to host node moves; one node is all there may be here. */
static void to_a_numa_node(struct svm_fixture *f)
{
	struct svm_location node = { .kind = SVM_LOCATION_HOST_NUMA, .id = 0 };
	struct svm_location here = { .kind = SVM_LOCATION_HOST_NUMA_CURRENT };
	struct svm_prefetch_result result;
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill_on(f, device, p, BLOCK, 1);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, node, &result), 0);
	assert_adds_up(&result, BLOCK);
	fixture_assert_at(f, p, BLOCK, 0, true);
	fixture_check(p, BLOCK, 1);
	fixture_fill_on(f, device, p, BLOCK, 2);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, here, &result), 0);
	assert_adds_up(&result, BLOCK);
	fixture_assert_at(f, p, BLOCK, 0, true);
	fixture_check(p, BLOCK, 2);
}

/* Lazily discarded memory is valid again, whatever its bytes are. */
static void lazily_discarded_memory_becomes_valid(struct svm_fixture *f)
{
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	assert_int_equal(svm_discard(f->space, p, BLOCK, SVM_DISCARD_LAZY), 0);
	assert_true(fixture_page(f, p).flags & SVM_PAGE_DISCARDED);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, svm_device_location(device), NULL), 0);
	assert_false(fixture_page(f, p).flags & SVM_PAGE_DISCARDED);
	fixture_fill_on(f, device, p, BLOCK, 2);
	fixture_check(p, BLOCK, 2);
	assert_int_equal(svm_discard(f->space, p, BLOCK, SVM_DISCARD_LAZY), 0);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, HOST, NULL), 0);
	assert_false(fixture_page(f, p).flags & SVM_PAGE_DISCARDED);
	fixture_fill(p, BLOCK, 3);
	fixture_check_on(f, device, p, BLOCK, 3);
}

static void refusals_start_nothing(struct svm_fixture *f)
{
	struct svm_prefetch *prefetch = (struct svm_prefetch *)f;
	struct svm_prefetch_range good;
	struct svm_prefetch_range ranges[2];
	struct svm_location gone;
	struct svm_device *device;
	uint64_t generation[2];
	struct svm_page_residency page;
	char *p;
	static const struct {
		int error;
		uint64_t offset;
		uint64_t size;
		struct svm_location to;
	} bad[] = {
		{ -EINVAL, 0, 0, { .kind = SVM_LOCATION_HOST } },
		{ -EINVAL, 0, PAGE, { .kind = SVM_LOCATION_NONE } },
		{ -EINVAL, 0, PAGE, { .kind = 99 } },
		{ -EINVAL, 0, PAGE, { .kind = SVM_LOCATION_HOST, .id = 1 } },
		{ -EINVAL, 0, PAGE, { .kind = SVM_LOCATION_HOST_NUMA, .id = 1000 } },
		{ -EINVAL, 0, PAGE, { .kind = SVM_LOCATION_HOST_NUMA_CURRENT, .id = 1 } },
		{ -ENODEV, 0, PAGE, { .kind = SVM_LOCATION_DEVICE, .id = 7 } },
		{ -ENODEV, 0, PAGE, { .kind = SVM_LOCATION_DEVICE, .id = 4000000000u } },
		{ -ENOENT, 0, 3 * BLOCK, { .kind = SVM_LOCATION_HOST } },
		{ -ENOENT, 64 * BLOCK, PAGE, { .kind = SVM_LOCATION_HOST } },
		{ -EOVERFLOW, 0, UINT64_MAX - PAGE, { .kind = SVM_LOCATION_HOST } },
	};

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, 2 * BLOCK, 0);
	fixture_fill(p, 2 * BLOCK, 1);
	good = (struct svm_prefetch_range){ .addr = p,
					    .size = BLOCK,
					    .to = svm_device_location(device) };
	assert_int_equal(svm_residency_query(f->space, p, 1, &page, 1, &generation[0]), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ranges[0] = good;
		ranges[1] = (struct svm_prefetch_range){ .addr = p + bad[i].offset,
							 .size = bad[i].size,
							 .to = bad[i].to };
		assert_int_equal(svm_prefetch_start(f->space, ranges, 2, NULL, 0, &prefetch),
				 bad[i].error);
		assert_int_equal(svm_prefetch(f->space, ranges[1].addr, ranges[1].size,
					      ranges[1].to, NULL),
				 bad[i].error);
	}
	assert_int_equal(svm_prefetch_start(f->space, &good, 0, NULL, 0, &prefetch), -EINVAL);
	assert_int_equal(svm_prefetch_start(f->space, NULL, 1, NULL, 0, &prefetch), -EINVAL);
	assert_int_equal(svm_prefetch_start(f->space, &good, 1, NULL, 1, &prefetch), -EINVAL);
	assert_int_equal(svm_prefetch_start(f->space, &good, 1, NULL, 0, NULL), -EINVAL);
	assert_int_equal(svm_prefetch_start(NULL, &good, 1, NULL, 0, &prefetch), -EINVAL);
	assert_ptr_equal(prefetch, f);
	assert_int_equal(svm_residency_query(f->space, p, 1, &page, 1, &generation[1]), 0);
	assert_int_equal(generation[0], generation[1]);
	fixture_assert_at(f, p, 2 * BLOCK, 0, true);

	assert_int_equal(svm_prefetch_start(f->space, &good, 1, NULL, 0, &prefetch), 0);
	{
		struct svm_prefetch_result results[2];

		assert_int_equal(svm_prefetch_wait(prefetch, -1, results, 2), -EINVAL);
		assert_int_equal(svm_prefetch_wait(NULL, -1, results, 1), -EINVAL);
		assert_int_equal(svm_prefetch_wait(prefetch, -1, results, 1), 0);
	}
	assert_int_equal(svm_prefetch_destroy(prefetch), 0);
	gone = svm_device_location(device);
	assert_int_equal(svm_device_close(device), 0);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, gone, NULL), -ENODEV);
	fixture_check(p, 2 * BLOCK, 1);
}

#define N_SMALL	   32u
#define SMALL_SIZE (16 * PAGE)

/* Small allocations share blocks, and what a batch asks for in one block moves at once; the records stay apart. */
static void small_ranges_move_together(struct svm_fixture *f)
{
	struct svm_prefetch_range ranges[N_SMALL + 1];
	struct svm_prefetch_result results[N_SMALL + 1];
	struct svm_prefetch *prefetch;
	struct svm_device *device;
	struct svm_location there;
	const struct svm_advice advice = { .kind = SVM_ADVICE_GRANULARITY, .value = PAGE };
	uint64_t before;
	uint64_t calls;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	there = svm_device_location(device);
	for (unsigned int i = 0; i < N_SMALL; i++) {
		ranges[i] = (struct svm_prefetch_range){ .addr = fixture_alloc(f, SMALL_SIZE, 0),
							 .size = SMALL_SIZE,
							 .to = there };
		fixture_fill(ranges[i].addr, SMALL_SIZE, i + 1);
	}
	/* One is there already, one has other hints, one is asked for twice. */
	assert_int_equal(svm_prefetch(f->space, ranges[5].addr, SMALL_SIZE, there, NULL), 0);
	assert_int_equal(svm_advise(f->space, ranges[9].addr, SMALL_SIZE, &advice, 1, NULL), 0);
	ranges[N_SMALL] = ranges[N_SMALL - 1];

	before = fixture_stats(f).transitions;
	assert_int_equal(svm_prefetch_start(f->space, ranges, N_SMALL + 1, NULL, 0, &prefetch), 0);
	assert_int_equal(svm_prefetch_wait(prefetch, -1, results, N_SMALL + 1), 0);
	assert_int_equal(svm_prefetch_destroy(prefetch), 0);
	calls = fixture_stats(f).transitions - before;
	for (unsigned int i = 0; i < N_SMALL + 1; i++) {
		bool moved = i != 5 && i != N_SMALL;

		assert_adds_up(&results[i], SMALL_SIZE);
		assert_int_equal(results[i].bytes_moved, moved ? SMALL_SIZE : 0);
		assert_int_equal(results[i].already_there, moved ? 0 : SMALL_SIZE);
		fixture_assert_at(f, ranges[i].addr, SMALL_SIZE, bit_of(device), false);
	}
	/* They lie in two or three blocks; the mapping of the one that was there may take a step of its own. */
	assert_in_range(calls, 1, 12);
	for (unsigned int i = 0; i < N_SMALL; i++)
		fixture_check(ranges[i].addr, SMALL_SIZE, i + 1);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(moves_there_and_back, FIXTURE_BOTH),
		FIXTURE_CASE(prefetched_memory_needs_no_device_fault, FIXTURE_DEVICES),
		FIXTURE_CASE(populates_where_it_is_asked, FIXTURE_BOTH),
		FIXTURE_CASE(parts_of_blocks, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_5_batch_has_a_record_per_range, FIXTURE_BOTH),
		FIXTURE_CASE(overlapping_random_batches, FIXTURE_BOTH),
		FIXTURE_CASE(small_ranges_move_together, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_5_waits_for_its_fence, FIXTURE_BOTH),
		FIXTURE_CASE(cancel_before_the_start, FIXTURE_VARIANTS),
		FIXTURE_CASE(cancel_on_the_way, FIXTURE_VARIANTS),
		FIXTURE_CASE(destroy_on_the_way, FIXTURE_VARIANTS),
		FIXTURE_CASE(contract_3_5_fence_fires_on_failure, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_5_prefetch_under_read_mostly_copies, FIXTURE_DEVICES),
		FIXTURE_CASE(to_a_numa_node, FIXTURE_BOTH),
		FIXTURE_CASE(lazily_discarded_memory_becomes_valid, FIXTURE_BOTH),
		FIXTURE_CASE(refusals_start_nothing, FIXTURE_DEVICES),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
