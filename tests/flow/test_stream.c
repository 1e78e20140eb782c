// SPDX-License-Identifier: MIT
/*
 * The CPU reads block after block of what is on a device: the next blocks come before they are touched,
 * unless something was said about where memory should be.
 */
#include "fixture.h"

#include <sched.h>

#define PAGE	 FIXTURE_PAGE
#define BLOCK	 FIXTURE_BLOCK
#define N_BLOCKS 8u

static volatile uint64_t sink;

static void touch(const char *addr)
{
	sink = *(const volatile uint64_t *)(const void *)addr;
}

static char *on_device(struct svm_fixture *f, struct svm_device **ret_device)
{
	char *p;

	fixture_space(f, NULL);
	*ret_device = fixture_open(f, f->device);
	p = fixture_alloc(f, N_BLOCKS * BLOCK, 0);
	fixture_fill(p, N_BLOCKS * BLOCK, 1);
	assert_int_equal(svm_prefetch(f->space, p, N_BLOCKS * BLOCK,
				      svm_device_location(*ret_device), NULL),
			 0);
	return p;
}

/* The watchdog ends a wait for what does not come. */
static void wait_for_host(struct svm_fixture *f, const char *addr, uint32_t flags)
{
	while ((fixture_page(f, addr).flags & (SVM_PAGE_HOST | flags)) != (SVM_PAGE_HOST | flags))
		(void)sched_yield();
	/* The record comes before the mapping. What is asked for now waits until the block is at rest. */
	if (flags)
		assert_int_equal(svm_prefetch(f->space, (char *)(uintptr_t)addr, PAGE,
					      (struct svm_location){ .kind = SVM_LOCATION_HOST },
					      NULL),
				 0);
}

static void the_next_blocks_come_unasked(struct svm_fixture *f)
{
	struct svm_device *device;
	char *p = on_device(f, &device);
	uint64_t faults = fixture_stats(f).cpu_faults;

	touch(p);
	touch(p + BLOCK);
	/* Two blocks: the first waits for a touch, which tells that the reader got there; the second needs none. */
	wait_for_host(f, p + 2 * BLOCK, 0);
	wait_for_host(f, p + 3 * BLOCK, SVM_PAGE_CPU_READ);
	assert_int_equal(fixture_stats(f).cpu_faults - faults, 2);
	assert_int_equal(fixture_page(f, p + 2 * BLOCK).flags & SVM_PAGE_CPU_READ, 0);
	touch(p + 3 * BLOCK);
	assert_int_equal(fixture_stats(f).cpu_faults - faults, 2);
	touch(p + 2 * BLOCK);
	assert_int_equal(fixture_stats(f).cpu_faults - faults, 3);
	for (unsigned int i = 4; i < N_BLOCKS; i++)
		wait_for_host(f, p + i * BLOCK, i == 4 ? 0 : SVM_PAGE_CPU_READ);
	/* Each byte came once, and is the right one. */
	fixture_check(p, N_BLOCKS * BLOCK, 1);
	assert_int_equal(fixture_stats(f).cpu_faults - faults, 4);
	fixture_fill_on(f, device, p, N_BLOCKS * BLOCK, 2);
	fixture_check(p, N_BLOCKS * BLOCK, 2);
}

static void only_within_an_allocation(struct svm_fixture *f)
{
	struct svm_prefetch_result result;
	struct svm_device *device;
	char *p[2];

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	for (unsigned int i = 0; i < 2; i++) {
		p[i] = fixture_alloc(f, 2 * BLOCK, 0);
		fixture_fill(p[i], 2 * BLOCK, i + 1);
		assert_int_equal(svm_prefetch(f->space, p[i], 2 * BLOCK,
					      svm_device_location(device), NULL),
				 0);
	}
	for (unsigned int i = 0; i < 2; i++) {
		touch(p[i]);
		touch(p[i] + BLOCK);
		if (i == 1)
			break;
		/* What has been asked for is done before this. */
		touch(fixture_alloc(f, BLOCK, 0));
		assert_int_equal(svm_prefetch(f->space, p[1], 2 * BLOCK,
					      svm_device_location(device), &result),
				 0);
		assert_int_equal(result.already_there, 2 * BLOCK);
	}
	for (unsigned int i = 0; i < 2; i++)
		fixture_check(p[i], 2 * BLOCK, i + 1);
}

/* The fault of another block is served after those before it, and a prefetch waits for what was asked for. */
static void assert_nothing_came(struct svm_fixture *f, char *p, struct svm_device *device)
{
	struct svm_prefetch_result result;

	touch(p);
	touch(p + BLOCK);
	touch(fixture_alloc(f, BLOCK, 0));
	assert_int_equal(svm_prefetch(f->space, p + 2 * BLOCK, (N_BLOCKS - 2) * BLOCK,
				      svm_device_location(device), &result),
			 0);
	assert_int_equal(result.bytes_moved, 0);
	assert_int_equal(result.already_there, (N_BLOCKS - 2) * BLOCK);
}

static void hints_keep_memory_where_it_is(struct svm_fixture *f)
{
	struct svm_device *device;
	char *p = on_device(f, &device);
	const struct svm_advice advice[] = {
		{ .kind = SVM_ADVICE_PREFERRED_LOCATION, .location = svm_device_location(device) },
		{ .kind = SVM_ADVICE_GRANULARITY, .value = 64 * 1024 },
		{ .kind = SVM_ADVICE_MIGRATION, .value = SVM_MIGRATE_ON_PREFETCH },
	};

	for (unsigned int i = 0; i < sizeof(advice) / sizeof(advice[0]); i++) {
		assert_int_equal(svm_advise(f->space, p, N_BLOCKS * BLOCK, &advice[i], 1, NULL), 0);
		assert_nothing_came(f, p, device);
		assert_int_equal(svm_unadvise(f->space, p, N_BLOCKS * BLOCK, 1u << advice[i].kind),
				 0);
		assert_int_equal(svm_prefetch(f->space, p, N_BLOCKS * BLOCK,
					      svm_device_location(device), NULL),
				 0);
	}
	fixture_check(p, N_BLOCKS * BLOCK, 1);
}

/* What is pinned on the device stays there. */
static void pinned_blocks_do_not_come(struct svm_fixture *f)
{
	struct svm_device *device;
	char *p = on_device(f, &device);
	char *rest = p + 2 * BLOCK;

	assert_int_equal(
		svm_pin(f->space, rest, (N_BLOCKS - 2) * BLOCK, svm_device_location(device)), 0);
	assert_nothing_came(f, p, device);
	assert_int_equal(
		svm_unpin(f->space, rest, (N_BLOCKS - 2) * BLOCK, svm_device_location(device)), 0);
	fixture_check(p, N_BLOCKS * BLOCK, 1);
}

/* Read while a device reads and writes the same blocks: no byte is old. */
static void both_at_once(struct svm_fixture *f)
{
	struct svm_device *device;
	char *p = on_device(f, &device);

	for (uint64_t pattern = 1; pattern < 12; pattern++) {
		fixture_check(p, N_BLOCKS / 2 * BLOCK, pattern);
		fixture_fill_on(f, device, p, N_BLOCKS * BLOCK, pattern + 1);
	}
	fixture_check(p, N_BLOCKS * BLOCK, 12);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(the_next_blocks_come_unasked, FIXTURE_BOTH),
		FIXTURE_CASE(only_within_an_allocation, FIXTURE_ONCE),
		FIXTURE_CASE(hints_keep_memory_where_it_is, FIXTURE_DEVICES),
		FIXTURE_CASE(pinned_blocks_do_not_come, FIXTURE_DEVICES),
		FIXTURE_CASE(both_at_once, FIXTURE_BOTH),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
