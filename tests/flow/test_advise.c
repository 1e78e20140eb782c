// SPDX-License-Identifier: MIT
/*
 * Hints: each row of the contract that docs/architecture.md restates, by its number: spans (3.1),
 * precedence (3.2), preferred location (3.3), access (3.4), read mostly, discard and pin (3.5; prefetch
 * has tests of its own), queries (3.7), coherence (3.8; the rows about holding are in test_acquire.c).
 */
#include "fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE	FIXTURE_PAGE
#define BLOCK	FIXTURE_BLOCK
#define N_PAGES 512u
#define NONE	((struct svm_location){ .kind = SVM_LOCATION_NONE })
#define HOST	((struct svm_location){ .kind = SVM_LOCATION_HOST })
#define ALL	((1u << SVM_ADVICE_KINDS) - 1u)

static uint16_t bit_of(struct svm_device *device)
{
	return (uint16_t)(1u << svm_device_id(device));
}

static struct svm_advice prefer(struct svm_location location)
{
	return (struct svm_advice){ .kind = SVM_ADVICE_PREFERRED_LOCATION, .location = location };
}

static struct svm_advice for_device(enum svm_advice_kind kind, struct svm_device *device)
{
	return (struct svm_advice){ .kind = kind, .device = svm_device_id(device) };
}

static struct svm_advice with_value(enum svm_advice_kind kind, uint64_t value)
{
	return (struct svm_advice){ .kind = kind, .value = value };
}

static struct svm_outcome advise(struct svm_fixture *f, void *p, uint64_t size,
				 struct svm_advice advice)
{
	struct svm_outcome outcome = { 77, 77 };

	assert_int_equal(svm_advise(f->space, p, size, &advice, 1, &outcome), 0);
	return outcome;
}

static struct svm_advice_info query(struct svm_fixture *f, const void *p, uint64_t size)
{
	struct svm_advice_info info = { .size = sizeof(info) };

	assert_int_equal(svm_advice_query(f->space, p, size, &info), 0);
	return info;
}

static uint64_t generation(struct svm_fixture *f, const void *p)
{
	struct svm_page_residency page;
	uint64_t value;

	assert_int_equal(svm_residency_query(f->space, p, 1, &page, 1, &value), 0);
	return value;
}

/* Each page with a pattern of its own, so that single ones can be checked. */
static void fill_pages(char *p, unsigned int n, uint64_t pattern)
{
	for (unsigned int i = 0; i < n; i++)
		fixture_fill(p + i * PAGE, PAGE, pattern + i);
}

static void check_pages(const char *p, unsigned int n, uint64_t pattern)
{
	for (unsigned int i = 0; i < n; i++)
		fixture_check(p + i * PAGE, PAGE, pattern + i);
}

static uint64_t copied(struct svm_fixture *f)
{
	struct svm_stats stats = fixture_stats(f);

	return stats.bytes_host_to_device + stats.bytes_device_to_host +
	       stats.bytes_device_to_device;
}

/* ---- 3.1 Ranges ------------------------------------------------------------------------------- */

static void contract_3_1_R1_rounds_to_pages(struct svm_fixture *f)
{
	struct svm_advice advice = with_value(SVM_ADVICE_READ_MOSTLY, 1);
	struct svm_advice_info info = { .size = sizeof(info) };
	struct svm_page_residency page;
	char *p;

	fixture_space(f, NULL);
	p = fixture_alloc(f, 8 * PAGE, 0);
	/* From the last byte of page 1 to the first of page 4. */
	advise(f, p + 2 * PAGE - 1, 2 * PAGE + 2, advice);
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(query(f, p + i * PAGE, PAGE).read_mostly_all, i >= 1 && i <= 4);
	assert_int_equal(svm_unadvise(f->space, p + 2 * PAGE + 5, 1, 1u << SVM_ADVICE_READ_MOSTLY),
			 0);
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(query(f, p + i * PAGE, PAGE).read_mostly_all,
				 i == 1 || i == 3 || i == 4);

	assert_int_equal(svm_advise(f->space, p, 0, &advice, 1, NULL), -EINVAL);
	assert_int_equal(svm_unadvise(f->space, p, 0, ALL), -EINVAL);
	assert_int_equal(svm_advice_query(f->space, p, 0, &info), -EINVAL);
	assert_int_equal(svm_discard(f->space, p, 0, 0), -EINVAL);
	assert_int_equal(svm_pin(f->space, p, 0, HOST), -EINVAL);
	assert_int_equal(svm_unpin(f->space, p, 0, HOST), -EINVAL);
	assert_int_equal(svm_host_acquire(f->space, p, 0, SVM_ACCESS_READ, 0), -EINVAL);
	assert_int_equal(svm_residency_query(f->space, p, 0, &page, 0, NULL), -EINVAL);

	assert_int_equal(svm_advise(f->space, p, UINT64_MAX, &advice, 1, NULL), -EOVERFLOW);
	assert_int_equal(svm_unadvise(f->space, p, UINT64_MAX, ALL), -EOVERFLOW);
	assert_int_equal(svm_advice_query(f->space, p, UINT64_MAX, &info), -EOVERFLOW);
	assert_int_equal(svm_discard(f->space, p, UINT64_MAX, 0), -EOVERFLOW);
	assert_int_equal(svm_pin(f->space, p, UINT64_MAX, HOST), -EOVERFLOW);
	assert_int_equal(svm_unpin(f->space, p, UINT64_MAX, HOST), -EOVERFLOW);
	assert_int_equal(svm_host_acquire(f->space, p, UINT64_MAX, SVM_ACCESS_READ, 0), -EOVERFLOW);
	assert_int_equal(svm_residency_query(f->space, p, UINT64_MAX, &page, 1, NULL), -EOVERFLOW);
}

static void contract_3_1_R2_a_hole_changes_nothing(struct svm_fixture *f)
{
	struct svm_advice advice[2] = { with_value(SVM_ADVICE_READ_MOSTLY, 1), prefer(HOST) };
	struct svm_advice_info info = { .size = sizeof(info) };
	struct svm_outcome outcomes[2];
	char *p;

	fixture_space(f, NULL);
	/* Three neighbours, the one in the middle goes. */
	p = fixture_alloc(f, BLOCK, 0);
	assert_ptr_equal(fixture_alloc(f, BLOCK, 0), p + BLOCK);
	assert_ptr_equal(fixture_alloc(f, BLOCK, 0), p + 2 * BLOCK);
	fixture_free(f, p + BLOCK);
	fixture_fill(p, BLOCK, 1);
	assert_int_equal(svm_advise(f->space, p, 3 * BLOCK, advice, 1, NULL), -ENOENT);
	assert_int_equal(svm_advise(f->space, p + BLOCK - PAGE, 2 * PAGE, advice, 1, NULL),
			 -ENOENT);
	assert_int_equal(svm_advise(f->space, p + 2 * BLOCK - 1, 2, advice, 1, NULL), -ENOENT);
	assert_int_equal(svm_advise(f->space, f, 1, advice, 1, NULL), -ENOENT);
	assert_int_equal(svm_advice_query(f->space, p, 3 * BLOCK, &info), -ENOENT);
	assert_int_equal(svm_discard(f->space, p, 3 * BLOCK, 0), -ENOENT);
	assert_int_equal(svm_discard(f->space, p, 3 * BLOCK, SVM_DISCARD_LAZY), -ENOENT);
	assert_int_equal(svm_pin(f->space, p, 3 * BLOCK, HOST), -ENOENT);
	assert_int_equal(svm_host_acquire(f->space, p, 3 * BLOCK, SVM_ACCESS_READ, 0), -ENOENT);
	assert_int_equal(query(f, p, BLOCK).read_mostly_none, 1);
	assert_int_equal(query(f, p + 2 * BLOCK, BLOCK).read_mostly_none, 1);
	fixture_check(p, BLOCK, 1);
	assert_int_equal(fixture_page(f, p).flags & (SVM_PAGE_PINNED | SVM_PAGE_DISCARDED), 0);

	/* All or nothing among several hints, too; and unset refuses a hole as well. */
	advice[1].location.kind = 99;
	assert_int_equal(svm_advise(f->space, p, BLOCK, advice, 2, outcomes), -EINVAL);
	assert_int_equal(outcomes[1].status, SVM_REFUSED);
	assert_int_equal(query(f, p, BLOCK).read_mostly_none, 1);
	advise(f, p, BLOCK, advice[0]);
	assert_int_equal(svm_unadvise(f->space, p, 3 * BLOCK, ALL), -ENOENT);
	assert_int_equal(query(f, p, BLOCK).read_mostly_all, 1);
	/* Two allocations side by side are one span. */
	assert_ptr_equal(fixture_alloc(f, BLOCK, 0), p + BLOCK);
	advise(f, p, 3 * BLOCK, advice[0]);
	assert_int_equal(query(f, p, 3 * BLOCK).read_mostly_all, 1);
}

static void contract_3_1_R3_is_not_counted(struct svm_fixture *f)
{
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	for (unsigned int i = 0; i < 3; i++) {
		advise(f, p, BLOCK, prefer(svm_device_location(device)));
		advise(f, p, BLOCK, for_device(SVM_ADVICE_ACCESSED_BY, device));
	}
	assert_int_equal(query(f, p, BLOCK).n_ranges, 1);
	assert_int_equal(svm_unadvise(f->space, p + PAGE, PAGE, ALL), 0);
	assert_int_equal(query(f, p, BLOCK).n_ranges, 3);
	assert_int_equal(svm_unadvise(f->space, p, BLOCK, ALL), 0);
	assert_int_equal(svm_unadvise(f->space, p, BLOCK, ALL), 0);
	assert_int_equal(query(f, p, BLOCK).n_ranges, 1);
	assert_int_equal(query(f, p, BLOCK).preferred.kind, SVM_LOCATION_NONE);
	assert_int_equal(query(f, p, BLOCK).accessed_by, 0);
	assert_int_equal(query(f, p, BLOCK).mixed, 0);
	assert_int_equal(svm_unadvise(f->space, p, BLOCK, 0), -EINVAL);
	assert_int_equal(svm_unadvise(f->space, p, BLOCK, 1u << SVM_ADVICE_KINDS), -EINVAL);
}

static void contract_3_1_R4_setting_moves_nothing(struct svm_fixture *f)
{
	struct svm_device *device;
	struct svm_advice all[16];
	unsigned int n = 0;
	uint64_t before;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, 2 * BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	fixture_fill_on(f, device, p + BLOCK, BLOCK, 2);
	all[n++] = prefer(svm_device_location(device));
	all[n++] = prefer(HOST);
	all[n++] = prefer(NONE);
	all[n++] = for_device(SVM_ADVICE_ACCESSED_BY, device);
	all[n++] = for_device(SVM_ADVICE_ACCESS_IN_PLACE, device);
	all[n++] = for_device(SVM_ADVICE_NO_ACCESS, device);
	all[n++] = with_value(SVM_ADVICE_READ_MOSTLY, 1);
	all[n++] = with_value(SVM_ADVICE_READ_MOSTLY, 0);
	all[n++] = with_value(SVM_ADVICE_ATOMICS, SVM_ATOMICS_DEVICE);
	all[n++] = with_value(SVM_ADVICE_ATOMICS, SVM_ATOMICS_SYSTEM);
	all[n++] = with_value(SVM_ADVICE_GRANULARITY, 65536);
	all[n++] = with_value(SVM_ADVICE_MIGRATION, SVM_MIGRATE_NEVER);
	all[n++] = with_value(SVM_ADVICE_MIGRATION, SVM_MIGRATE_ON_PREFETCH);
	before = generation(f, p);
	for (unsigned int i = 0; i < n; i++)
		advise(f, p, 2 * BLOCK, all[i]);
	assert_int_equal(svm_unadvise(f->space, p, 2 * BLOCK, ALL), 0);
	assert_int_equal(generation(f, p), before);
	fixture_assert_at(f, p, BLOCK, 0, true);
	fixture_assert_at(f, p + BLOCK, BLOCK, bit_of(device), false);
	/* The two exceptions. */
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, svm_device_location(device), NULL), 0);
	fixture_assert_at(f, p, BLOCK, bit_of(device), false);
	assert_int_equal(svm_pin(f->space, p, 2 * BLOCK, HOST), 0);
	fixture_assert_at(f, p, 2 * BLOCK, 0, true);
	assert_int_equal(svm_unpin(f->space, p, 2 * BLOCK, HOST), 0);
	fixture_check(p, BLOCK, 1);
	fixture_check(p + BLOCK, BLOCK, 2);
}

static void contract_3_1_R5_hints_live_with_the_pages(struct svm_fixture *f)
{
	struct svm_device *device;
	struct svm_advice_info info;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "memory=4M");
	p = fixture_alloc(f, 4 * BLOCK, 0);
	/* On memory that is not populated yet. */
	advise(f, p, 4 * BLOCK, prefer(svm_device_location(device)));
	advise(f, p + PAGE, PAGE, with_value(SVM_ADVICE_GRANULARITY, 65536));
	/* Moves, evictions and discards do not touch them. */
	for (unsigned int b = 0; b < 4; b++)
		fixture_fill_on(f, device, p + b * BLOCK, BLOCK, b);
	assert_true(fixture_stats(f).pages_evicted > 0);
	for (unsigned int b = 0; b < 4; b++)
		fixture_check(p + b * BLOCK, BLOCK, b);
	assert_int_equal(svm_discard(f->space, p, 4 * BLOCK, 0), 0);
	info = query(f, p, 4 * BLOCK);
	assert_int_equal(info.preferred.kind, SVM_LOCATION_DEVICE);
	assert_int_equal(info.preferred.id, svm_device_id(device));
	assert_int_equal(info.mixed, 1u << SVM_ADVICE_GRANULARITY);
	assert_int_equal(info.granularity, 65536);
	/* They end with the memory. */
	fixture_free(f, p);
	assert_ptr_equal(fixture_alloc(f, 4 * BLOCK, 0), p);
	info = query(f, p, 4 * BLOCK);
	assert_int_equal(info.preferred.kind, SVM_LOCATION_NONE);
	assert_int_equal(info.n_ranges, 1);
	assert_int_equal(info.mixed, 0);
}

/* The reset rule for memory that the application unmaps. */
static void contract_3_1_R5_unmapped_memory_forgets(struct svm_fixture *f)
{
	char *map =
		mmap(NULL, 2 * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	fixture_space(f, NULL);
	fixture_fill(map, 2 * BLOCK, 1);
	assert_int_equal(svm_register(f->space, map, 2 * BLOCK, 0), 0);
	advise(f, map, 2 * BLOCK, with_value(SVM_ADVICE_READ_MOSTLY, 1));
	/* Unmapped, and in the same moment somebody else's: the late news must not touch what is there now. */
	assert_ptr_equal(mmap(map + BLOCK, BLOCK, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 map + BLOCK);
	fixture_fill(map + BLOCK, BLOCK, 2);
	while (!query(f, map + BLOCK, BLOCK).read_mostly_none)
		sched_yield(); /* the event is on its way; the watchdog bounds it */
	assert_int_equal(query(f, map, BLOCK).read_mostly_all, 1);
	fixture_check(map, BLOCK, 1);
	fixture_check(map + BLOCK, BLOCK, 2);
	assert_int_equal(svm_unregister(f->space, map, 2 * BLOCK), 0);
	fixture_space_end(f);
	fixture_check(map, BLOCK, 1);
	fixture_check(map + BLOCK, BLOCK, 2);
	assert_int_equal(munmap(map, 2 * BLOCK), 0);
}

static void contract_3_1_R6_closing_a_device_drops_its_hints(struct svm_fixture *f)
{
	struct svm_advice_info info;
	struct svm_device *gone;
	struct svm_device *stays;
	char *p;

	fixture_space(f, NULL);
	stays = fixture_open(f, f->device);
	gone = fixture_open(f, f->device);
	p = fixture_alloc(f, 2 * BLOCK, 0);
	fixture_fill_on(f, gone, p, 2 * BLOCK, 1);
	advise(f, p, BLOCK, prefer(svm_device_location(gone)));
	advise(f, p + BLOCK, BLOCK, prefer(svm_device_location(stays)));
	advise(f, p, 2 * BLOCK, for_device(SVM_ADVICE_ACCESSED_BY, gone));
	advise(f, p, 2 * BLOCK, for_device(SVM_ADVICE_ACCESSED_BY, stays));
	advise(f, p, PAGE, for_device(SVM_ADVICE_NO_ACCESS, gone));
	assert_int_equal(svm_device_close(gone), 0);
	fixture_assert_at(f, p, 2 * BLOCK, 0, true);
	fixture_check(p, 2 * BLOCK, 1);
	info = query(f, p, BLOCK);
	assert_int_equal(info.preferred.kind, SVM_LOCATION_NONE);
	assert_int_equal(info.accessed_by, bit_of(stays));
	assert_int_equal(info.no_access, 0);
	assert_int_equal(info.n_ranges, 1);
	info = query(f, p + BLOCK, BLOCK);
	assert_int_equal(info.preferred.kind, SVM_LOCATION_DEVICE);
	assert_int_equal(info.preferred.id, svm_device_id(stays));
	/* The next one with its number has none of them. */
	gone = fixture_open(f, f->device);
	assert_int_equal(svm_device_id(gone), 1);
	fixture_fill_on(f, gone, p, 2 * BLOCK, 2);
	fixture_check(p, 2 * BLOCK, 2);
}

static void contract_3_1_R6_a_lost_device_keeps_its_hints(struct svm_fixture *f)
{
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	advise(f, p, BLOCK, prefer(svm_device_location(device)));
	fixture_kill(f, device);
	assert_int_equal(query(f, p, BLOCK).preferred.kind, SVM_LOCATION_DEVICE);
	fixture_check(p, BLOCK, 1);
	assert_int_equal(svm_device_close(device), 0);
	assert_int_equal(query(f, p, BLOCK).preferred.kind, SVM_LOCATION_NONE);
	fixture_check(p, BLOCK, 1);
}

/* ---- 3.2 Precedence --------------------------------------------------------------------------- */

static void contract_3_2_forbidden_migration_goes_first(struct svm_fixture *f)
{
	struct svm_prefetch_result result;
	struct svm_outcome outcome;
	struct svm_device *device;
	struct svm_access *access;
	struct svm_access_range range;
	int r;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "faults=off");
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	advise(f, p, BLOCK, with_value(SVM_ADVICE_MIGRATION, SVM_MIGRATE_NEVER));
	outcome = advise(f, p, BLOCK, with_value(SVM_ADVICE_READ_MOSTLY, 1));
	assert_int_equal(outcome.status, SVM_DEGRADED);
	assert_int_equal(outcome.reason, SVM_REASON_OVERRIDDEN);
	outcome = advise(f, p, BLOCK, prefer(svm_device_location(device)));
	assert_int_equal(outcome.status, SVM_DEGRADED);
	assert_int_equal(outcome.reason, SVM_REASON_OVERRIDDEN);
	range = (struct svm_access_range){ .addr = p, .size = BLOCK, .access = SVM_ACCESS_READ };
	r = svm_acquire(device, &range, 1, 0, &access, NULL);
	if (fixture_has(device, SVM_CAP_HOST_ALIAS)) {
		assert_int_equal(r, 0);
		fixture_assert_at(f, p, BLOCK, 0, true);
		assert_int_equal(svm_release(access, NULL), 0);
	} else {
		assert_int_equal(r, -ENOLINK);
	}
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, svm_device_location(device), &result), 0);
	assert_int_equal(result.skipped_pinned, BLOCK);
	fixture_assert_at(f, p, BLOCK, 0, true);
	/* What was overridden was kept: it acts once the other hint is gone. */
	assert_int_equal(svm_unadvise(f->space, p, BLOCK, 1u << SVM_ADVICE_MIGRATION), 0);
	assert_int_equal(query(f, p, BLOCK).read_mostly_all, 1);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, svm_device_location(device), &result), 0);
	assert_int_equal(result.bytes_moved, BLOCK);
	fixture_assert_at(f, p, BLOCK, bit_of(device), fixture_duplicates(f, device, p));
	fixture_check_on(f, device, p, BLOCK, 1);
	fixture_check(p, BLOCK, 1);
}

static void contract_3_2_read_mostly_before_preferred(struct svm_fixture *f)
{
	struct svm_outcome outcome;
	struct svm_device *device;
	bool reaches;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	reaches = fixture_has(device, SVM_CAP_HOST_ALIAS);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	advise(f, p, BLOCK, with_value(SVM_ADVICE_READ_MOSTLY, 1));
	outcome = advise(f, p, BLOCK, prefer(HOST));
	assert_int_equal(outcome.status, SVM_DEGRADED);
	assert_int_equal(outcome.reason, SVM_REASON_OVERRIDDEN);
	fixture_check_on(f, device, p, BLOCK, 1);
	if (fixture_duplicates(f, device, p))
		fixture_assert_at(f, p, BLOCK, bit_of(device), true);
	/* A write is no business of read mostly: the preferred location counts again, as it does afterwards. */
	fixture_fill(p, BLOCK, 2);
	fixture_assert_at(f, p, BLOCK, 0, true);
	assert_int_equal(svm_unadvise(f->space, p, BLOCK, 1u << SVM_ADVICE_READ_MOSTLY), 0);
	assert_int_equal(query(f, p, BLOCK).preferred.kind, SVM_LOCATION_HOST);
	fixture_check_on(f, device, p, BLOCK, 2);
	fixture_assert_at(f, p, BLOCK, reaches ? 0 : bit_of(device), reaches);
}

static void contract_3_2_preferred_before_accessed_by(struct svm_fixture *f)
{
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	advise(f, p, BLOCK, for_device(SVM_ADVICE_ACCESS_IN_PLACE, device));
	advise(f, p, BLOCK, prefer(svm_device_location(device)));
	fixture_check_on(f, device, p, BLOCK, 1);
	fixture_assert_at(f, p, BLOCK, bit_of(device), false);
	/* Without it the other acts again. */
	advise(f, p, BLOCK, prefer(NONE));
	fixture_fill(p, BLOCK, 2);
	fixture_check_on(f, device, p, PAGE, 2);
	if (fixture_has(device, SVM_CAP_HOST_ALIAS))
		fixture_assert_at(f, p, BLOCK, 0, true);
	else
		fixture_assert_at(f, p, PAGE, bit_of(device), false);
}

/* ---- 3.3 Preferred location ------------------------------------------------------------------- */

static void contract_3_3_row_1_remote_agents_map_it(struct svm_fixture *f)
{
	struct svm_outcome outcome;
	struct svm_device *device;
	uint64_t before;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	outcome = advise(f, p, BLOCK, prefer(HOST));
	if (!fixture_has(device, SVM_CAP_HOST_ALIAS)) {
		assert_int_equal(outcome.status, SVM_DEGRADED);
		assert_int_equal(outcome.reason, SVM_REASON_NOT_REACHABLE);
		return; /* row 2 */
	}
	assert_int_equal(outcome.status, SVM_EFFECTIVE);
	before = copied(f);
	fixture_check_on(f, device, p, BLOCK, 1);
	fixture_assert_at(f, p, BLOCK, 0, true);
	assert_int_equal(fixture_page(f, p).mapped, bit_of(device));
	fixture_fill_on(f, device, p, BLOCK, 2);
	fixture_check(p, BLOCK, 2);
	fixture_fill(p, BLOCK, 3);
	fixture_check_on(f, device, p, BLOCK, 3);
	fixture_assert_at(f, p, BLOCK, 0, true);
	assert_int_equal(copied(f), before);
}

static void contract_3_3_row_2_others_move_one_page(struct svm_fixture *f)
{
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "host=none");
	p = fixture_alloc(f, BLOCK, 0);
	fill_pages(p, N_PAGES, 1);
	advise(f, p, BLOCK, prefer(HOST));
	fixture_check_on(f, device, p + 7 * PAGE, PAGE, 8);
	fixture_assert_at(f, p, 7 * PAGE, 0, true);
	fixture_assert_at(f, p + 7 * PAGE, PAGE, bit_of(device), false);
	fixture_assert_at(f, p + 8 * PAGE, (N_PAGES - 8) * PAGE, 0, true);
	/* The CPU is such an agent where a device's memory is preferred. */
	advise(f, p, BLOCK, prefer(svm_device_location(device)));
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, svm_device_location(device), NULL), 0);
	fixture_check(p + 9 * PAGE, PAGE, 10);
	fixture_assert_at(f, p, 9 * PAGE, bit_of(device), false);
	fixture_assert_at(f, p + 9 * PAGE, PAGE, 0, true);
	fixture_assert_at(f, p + 10 * PAGE, (N_PAGES - 10) * PAGE, bit_of(device), false);
	check_pages(p, N_PAGES, 1);
}

static void contract_3_3_row_3_elsewhere_moves_to_the_toucher(struct svm_fixture *f)
{
	struct svm_device *one;
	struct svm_device *two;
	char *p;

	fixture_space(f, NULL);
	one = fixture_open(f, f->device);
	two = fixture_open(f, f->device);
	p = fixture_alloc(f, 2 * BLOCK, 0);
	fill_pages(p, 2 * N_PAGES, 1);
	/* On the host, while `one` is preferred. */
	advise(f, p, BLOCK, prefer(svm_device_location(one)));
	fixture_check_on(f, two, p + 5 * PAGE, PAGE, 6);
	fixture_assert_at(f, p + 5 * PAGE, PAGE, bit_of(two), false);
	/* On `one`, while the host is preferred. */
	advise(f, p + BLOCK, BLOCK, prefer(HOST));
	assert_int_equal(svm_prefetch(f->space, p + BLOCK, BLOCK, svm_device_location(one), NULL),
			 0);
	fixture_check_on(f, two, p + BLOCK + 5 * PAGE, PAGE, N_PAGES + 6);
	/* Without a direct way it passes the host. There it is where it should be, and in reach, for which the block
	 * becomes shared: all of it comes home. */
	if (fixture_has(one, SVM_CAP_HOST_ALIAS) && !fixture_has(one, SVM_CAP_PEER_COPY)) {
		fixture_assert_at(f, p + BLOCK + 5 * PAGE, 2 * PAGE, 0, true);
	} else {
		fixture_assert_at(f, p + BLOCK + 5 * PAGE, PAGE, bit_of(two), false);
		fixture_assert_at(f, p + BLOCK + 6 * PAGE, PAGE, bit_of(one), false);
	}
	check_pages(p, 2 * N_PAGES, 1);
}

static void contract_3_3_row_4_the_next_access_brings_it_back(struct svm_fixture *f)
{
	struct svm_device *device;
	uint64_t faults;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fill_pages(p, N_PAGES, 1);
	advise(f, p, BLOCK, prefer(svm_device_location(device)));
	for (unsigned int i = 0; i < N_PAGES; i += 100)
		fixture_check_on(f, device, p + i * PAGE, PAGE, 1 + i);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, svm_device_location(device), NULL), 0);
	fixture_fill(p + 100 * PAGE, PAGE, 4000);
	fixture_assert_at(f, p + 100 * PAGE, PAGE, 0, true);
	assert_int_equal(fixture_page(f, p + 100 * PAGE).mapped, 0);
	faults = fixture_stats(f).device_faults;
	fixture_check_on(f, device, p + 100 * PAGE, PAGE, 4000);
	assert_int_equal(fixture_stats(f).device_faults - faults,
			 fixture_has(device, SVM_CAP_FAULTS));
	fixture_assert_at(f, p, BLOCK, bit_of(device), false);
	check_pages(p, 100, 1);
	fixture_check(p + 100 * PAGE, PAGE, 4000);
	check_pages(p + 101 * PAGE, N_PAGES - 101, 102);
}

/* The new preferred device mapped it in place: it must fault, to get it. Nothing is copied by the hint. */
static void contract_3_3_row_5_the_new_location_loses_its_mapping(struct svm_fixture *f)
{
	struct svm_device *device;
	uint64_t before;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "host=alias");
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	advise(f, p, BLOCK, prefer(HOST));
	fixture_check_on(f, device, p, BLOCK, 1);
	assert_int_equal(fixture_page(f, p).mapped, bit_of(device));
	before = copied(f);
	advise(f, p, BLOCK, prefer(svm_device_location(device)));
	while (fixture_page(f, p).mapped || fixture_page(f, p + BLOCK - PAGE).mapped)
		sched_yield(); /* the watchdog bounds it */
	assert_int_equal(copied(f), before);
	fixture_assert_at(f, p, BLOCK, 0, true);
	fixture_check_on(f, device, p, BLOCK, 1);
	fixture_assert_at(f, p, BLOCK, bit_of(device), false);
	fixture_check(p, BLOCK, 1);
}

static void contract_3_3_row_6_prefetch_elsewhere_is_obeyed(struct svm_fixture *f)
{
	struct svm_device *one;
	struct svm_device *two;
	char *p;

	fixture_space(f, NULL);
	one = fixture_open(f, f->device);
	two = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	advise(f, p, BLOCK, prefer(svm_device_location(one)));
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, svm_device_location(two), NULL), 0);
	fixture_assert_at(f, p, BLOCK, bit_of(two), false);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, HOST, NULL), 0);
	fixture_assert_at(f, p, BLOCK, 0, true);
	assert_int_equal(query(f, p, BLOCK).preferred.kind, SVM_LOCATION_DEVICE);
	assert_int_equal(query(f, p, BLOCK).preferred.id, svm_device_id(one));
	advise(f, p, BLOCK, prefer(HOST));
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, svm_device_location(one), NULL), 0);
	fixture_assert_at(f, p, BLOCK, bit_of(one), false);
	assert_int_equal(query(f, p, BLOCK).preferred.kind, SVM_LOCATION_HOST);
	fixture_check(p, BLOCK, 1);
}

static void contract_3_3_row_7_first_population(struct svm_fixture *f)
{
	struct svm_device *one;
	struct svm_device *two;
	bool reaches;
	char *p;

	fixture_space(f, NULL);
	one = fixture_open(f, f->device);
	two = fixture_open(f, f->device);
	reaches = fixture_has(one, SVM_CAP_HOST_ALIAS);
	p = fixture_alloc(f, 4 * BLOCK, 0);
	advise(f, p, BLOCK, prefer(HOST));
	fixture_fill_on(f, one, p, BLOCK, 1);
	fixture_assert_at(f, p, BLOCK, reaches ? 0 : bit_of(one), reaches);
	advise(f, p + BLOCK, 3 * BLOCK, prefer(svm_device_location(one)));
	fixture_fill_on(f, one, p + BLOCK, BLOCK, 2);
	fixture_assert_at(f, p + BLOCK, BLOCK, bit_of(one), false);
	/* Those who cannot map it there get it themselves. */
	fixture_fill_on(f, two, p + 2 * BLOCK, BLOCK, 3);
	fixture_assert_at(f, p + 2 * BLOCK, BLOCK, bit_of(two), false);
	fixture_fill(p + 3 * BLOCK, BLOCK, 4);
	fixture_assert_at(f, p + 3 * BLOCK, BLOCK, 0, true);
	for (unsigned int b = 0; b < 4; b++)
		fixture_check(p + b * BLOCK, BLOCK, 1 + b);
}

static void kernel_touch(const void *args, uint64_t index, uint64_t count)
{
	volatile uint64_t *word = *(uint64_t *const *)args;

	(void)index;
	(void)count;
	*word += 1;
}

/* L wins: the page goes there at each of its touches. The event says so, and nothing hangs or gets lost. */
static void contract_3_3_row_8_thrashing_is_reported(struct svm_fixture *f)
{
	struct svm_device *devices[2];
	uint64_t *word;
	uint64_t n = 0;

	fixture_slow_clock();
	fixture_space(f, NULL);
	devices[0] = fixture_open_with(f, "faults=on");
	devices[1] = fixture_open_with(f, "faults=on");
	word = fixture_alloc(f, PAGE, 0);
	advise(f, word, PAGE, prefer(svm_device_location(devices[0])));
	while (fixture_stats(f).thrash_events == 0)
		for (unsigned int i = 0; i < 2; i++, n++)
			assert_int_equal(svm_soft_launch(devices[i], kernel_touch, &word,
							 sizeof(word), 1, NULL, NULL),
					 0);
	assert_true(fixture_events(f, SVM_EVENT_THRASH) >= 1);
	for (unsigned int i = 0; i < 40; i++, n++)
		assert_int_equal(svm_soft_launch(devices[(i + 1) % 2], kernel_touch, &word,
						 sizeof(word), 1, NULL, NULL),
				 0);
	fixture_assert_at(f, word, PAGE, bit_of(devices[0]), false);
	assert_int_equal(*(volatile uint64_t *)word, n);
}

/* ---- 3.4 Access ------------------------------------------------------------------------------- */

static void contract_3_4_accessed_by_keeps_a_mapping(struct svm_fixture *f)
{
	struct svm_outcome outcome;
	struct svm_device *device;
	uint64_t faults;
	uint64_t moved;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill_on(f, device, p, BLOCK, 1);
	outcome = advise(f, p, BLOCK, for_device(SVM_ADVICE_ACCESSED_BY, device));
	if (!fixture_has(device, SVM_CAP_HOST_ALIAS)) {
		assert_int_equal(outcome.status, SVM_DEGRADED);
		assert_int_equal(outcome.reason, SVM_REASON_NOT_REACHABLE);
		/* The mapping is cleared: a later access faults, it is not an error. */
		fixture_fill(p, BLOCK, 2);
		fixture_check_on(f, device, p, BLOCK, 2);
		return;
	}
	assert_int_equal(outcome.status, SVM_EFFECTIVE);
	fixture_fill(p, BLOCK, 2);
	fixture_assert_at(f, p, BLOCK, 0, true);
	if (!fixture_has(device, SVM_CAP_FAULTS))
		return; /* maps only what it acquires */
	while (!fixture_page(f, p + BLOCK - PAGE).mapped)
		sched_yield(); /* it follows the move; the watchdog bounds it */
	faults = fixture_stats(f).device_faults;
	moved = copied(f);
	fixture_check_on(f, device, p, BLOCK, 2);
	assert_int_equal(fixture_stats(f).device_faults, faults);
	assert_int_equal(copied(f), moved);
	fixture_assert_at(f, p, BLOCK, 0, true);
	/* Unset leaves the mapping, and takes the hint from the query. */
	assert_int_equal(svm_unadvise(f->space, p, BLOCK, 1u << SVM_ADVICE_ACCESSED_BY), 0);
	assert_int_equal(query(f, p, BLOCK).accessed_by, 0);
	fixture_fill_on(f, device, p, BLOCK, 3);
	fixture_check(p, BLOCK, 3);
}

static void contract_3_4_in_place_never_moves(struct svm_fixture *f)
{
	struct svm_outcome outcome;
	struct svm_device *device;
	uint64_t before;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fill_pages(p, N_PAGES, 1);
	outcome = advise(f, p, BLOCK, for_device(SVM_ADVICE_ACCESS_IN_PLACE, device));
	before = copied(f);
	fixture_check_on(f, device, p + 3 * PAGE, PAGE, 4);
	fixture_fill_on(f, device, p + 4 * PAGE, PAGE, 5);
	if (fixture_has(device, SVM_CAP_HOST_ALIAS)) {
		assert_int_equal(outcome.status, SVM_EFFECTIVE);
		fixture_assert_at(f, p, BLOCK, 0, true);
		assert_int_equal(copied(f), before);
	} else {
		/* It cannot: then as little as possible moves. */
		assert_int_equal(outcome.status, SVM_DEGRADED);
		assert_int_equal(outcome.reason, SVM_REASON_NOT_REACHABLE);
		fixture_assert_at(f, p + 3 * PAGE, 2 * PAGE, bit_of(device), false);
		assert_int_equal(copied(f) - before, 2 * PAGE);
	}
	check_pages(p, N_PAGES, 1);
}

static void contract_3_4_no_access_is_terminal(struct svm_fixture *f)
{
	struct svm_fixture_kernel args = { .pattern = 2 };
	struct svm_access_range range;
	struct svm_access *access = NULL;
	struct svm_device_info info = { .size = sizeof(info) };
	struct svm_device *device;
	struct svm_device *other;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	other = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	advise(f, p + PAGE, PAGE, for_device(SVM_ADVICE_NO_ACCESS, device));
	range = (struct svm_access_range){ .addr = p, .size = BLOCK, .access = SVM_ACCESS_READ };
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, NULL), -EACCES);
	assert_int_equal(svm_device_fill(device, p + PAGE, 1, 1, NULL, NULL), -EACCES);
	assert_null(access);
	/* Pages beside, and other agents, are not concerned. */
	fixture_check_on(f, device, p, PAGE, 1);
	fixture_check_on(f, other, p, BLOCK, 1);
	fixture_check(p, BLOCK, 1);
	if (!fixture_has(device, SVM_CAP_FAULTS))
		return;
	args.addr = (uint64_t)p + PAGE;
	assert_int_equal(svm_soft_launch(device, fixture_kernel_fill, &args, sizeof(args), 1, NULL,
					 NULL),
			 -EACCES);
	assert_int_equal(svm_device_query(device, &info), 0);
	assert_int_equal(info.is_lost, 1);
	fixture_check(p, BLOCK, 1);
	fixture_check_on(f, other, p, BLOCK, 1);
}

static void contract_3_4_the_last_one_set_counts(struct svm_fixture *f)
{
	static const enum svm_advice_kind kinds[] = { SVM_ADVICE_ACCESSED_BY,
						      SVM_ADVICE_ACCESS_IN_PLACE,
						      SVM_ADVICE_NO_ACCESS };
	struct svm_device *one;
	struct svm_device *two;
	char *p;

	fixture_space(f, NULL);
	one = fixture_open(f, f->device);
	two = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	advise(f, p, BLOCK, for_device(SVM_ADVICE_ACCESSED_BY, two));
	for (unsigned int i = 0; i < 9; i++) {
		enum svm_advice_kind kind = kinds[(i * 2) % 3];
		struct svm_advice_info info;

		advise(f, p, BLOCK, for_device(kind, one));
		info = query(f, p, BLOCK);
		assert_int_equal(info.accessed_by & bit_of(one),
				 kind == SVM_ADVICE_ACCESSED_BY ? bit_of(one) : 0);
		assert_int_equal(info.access_in_place & bit_of(one),
				 kind == SVM_ADVICE_ACCESS_IN_PLACE ? bit_of(one) : 0);
		assert_int_equal(info.no_access & bit_of(one),
				 kind == SVM_ADVICE_NO_ACCESS ? bit_of(one) : 0);
		assert_int_equal(info.accessed_by & bit_of(two), bit_of(two));
	}
}

/* ---- 3.5 Read mostly, discard, pin ------------------------------------------------------------ */

static void contract_3_5_read_mostly_duplicates_and_collapses(struct svm_fixture *f)
{
	struct svm_outcome outcome;
	struct svm_device *one;
	struct svm_device *two;
	uint32_t flags;
	bool copies;
	char *p;

	fixture_space(f, NULL);
	one = fixture_open(f, f->device);
	two = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	copies = fixture_duplicates(f, one, p);
	outcome = advise(f, p, BLOCK, with_value(SVM_ADVICE_READ_MOSTLY, 1));
	assert_int_equal(outcome.status, copies ? SVM_EFFECTIVE : SVM_DEGRADED);
	assert_int_equal(outcome.reason, copies ? SVM_REASON_NONE : SVM_REASON_NO_READ_ONLY_MAPS);
	for (uint64_t round = 1; round < 7; round++) {
		fixture_check_on(f, one, p, BLOCK, round);
		fixture_check_on(f, two, p, BLOCK, round);
		fixture_check(p, BLOCK, round);
		if (copies) {
			fixture_assert_at(f, p, BLOCK, bit_of(one) | bit_of(two), true);
			flags = fixture_page(f, p + 77 * PAGE).flags;
			assert_int_equal(flags & (SVM_PAGE_CPU_READ | SVM_PAGE_CPU_WRITE),
					 SVM_PAGE_CPU_READ);
		}
		/* Each writer in turn becomes the only holder. */
		if (round % 3 == 0)
			fixture_fill(p, BLOCK, round + 1);
		else
			fixture_fill_on(f, round % 3 == 1 ? one : two, p, BLOCK, round + 1);
		fixture_assert_at(f, p, BLOCK,
				  round % 3 == 0   ? 0
				  : round % 3 == 1 ? bit_of(one)
						   : bit_of(two),
				  round % 3 == 0);
	}
	if (copies)
		assert_true(fixture_stats(f).pages_duplicated >= 6u * 2u * N_PAGES);
	assert_true(!copies || fixture_stats(f).pages_invalidated >= 6u * N_PAGES);
}

/* Unset: what is duplicated collapses at the next write, and no new duplicates are made. */
static void contract_3_5_unset_read_mostly_collapses(struct svm_fixture *f)
{
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	advise(f, p, BLOCK, with_value(SVM_ADVICE_READ_MOSTLY, 1));
	fixture_check_on(f, device, p, BLOCK, 1);
	assert_int_equal(svm_unadvise(f->space, p, BLOCK, 1u << SVM_ADVICE_READ_MOSTLY), 0);
	fixture_fill(p, BLOCK, 2);
	fixture_assert_at(f, p, BLOCK, 0, true);
	fixture_check_on(f, device, p, BLOCK, 2);
	fixture_assert_at(f, p, BLOCK, bit_of(device), false);
	fixture_check(p, BLOCK, 2);
	fixture_assert_at(f, p, BLOCK, 0, true);
}

static void contract_3_5_discard_gives_zeros(struct svm_fixture *f)
{
	struct svm_device_info info = { .size = sizeof(info) };
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, 3 * BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	fixture_fill_on(f, device, p + BLOCK, BLOCK, 2);
	fill_pages(p + 2 * BLOCK, N_PAGES, 3);
	assert_int_equal(svm_discard(f->space, p, 2 * BLOCK, 0), 0);
	fixture_assert_at(f, p, 2 * BLOCK, 0, false);
	assert_int_equal(fixture_page(f, p).mapped, 0);
	assert_int_equal(fixture_page(f, p).flags & (SVM_PAGE_CPU_READ | SVM_PAGE_CPU_WRITE), 0);
	assert_int_equal(svm_device_query(device, &info), 0);
	assert_int_equal(info.memory_used, 0);
	fixture_check_zero(p, 2 * BLOCK);
	/* A part of a block: neighbours keep their bytes. */
	assert_int_equal(svm_discard(f->space, p + 2 * BLOCK + 10 * PAGE, 5 * PAGE, 0), 0);
	check_pages(p + 2 * BLOCK, 10, 3);
	fixture_check_zero(p + 2 * BLOCK + 10 * PAGE, 5 * PAGE);
	check_pages(p + 2 * BLOCK + 15 * PAGE, N_PAGES - 15, 18);
	/* A write after it is kept, whoever writes. */
	fixture_fill_on(f, device, p, BLOCK, 5);
	assert_int_equal(svm_discard(f->space, p, BLOCK, 0), 0);
	fixture_fill_on(f, device, p, PAGE, 6);
	fixture_check(p, PAGE, 6);
	fixture_check_zero(p + PAGE, BLOCK - PAGE);
	assert_int_equal(svm_discard(f->space, p, BLOCK, 2), -EINVAL);
}

struct writer {
	uint64_t *word;
	_Atomic bool done;
};

static void *write_word(void *arg)
{
	struct writer *writer = arg;

	*(volatile uint64_t *)writer->word += 1;
	atomic_store(&writer->done, true);
	return NULL;
}

static void contract_3_5_pin_moves_and_keeps(struct svm_fixture *f)
{
	struct svm_access_range range;
	struct svm_access *access = NULL;
	struct svm_location where;
	struct svm_device *one;
	struct svm_device *two;
	struct writer writer = { 0 };
	pthread_t thread;
	uint64_t faults;
	char *p;

	fixture_space(f, NULL);
	one = fixture_open(f, f->device);
	two = fixture_open(f, f->device);
	where = svm_device_location(one);
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill(p, BLOCK, 1);
	assert_int_equal(svm_pin(f->space, p, BLOCK, where), 0);
	fixture_assert_at(f, p, BLOCK, bit_of(one), false);
	assert_true(fixture_page(f, p).flags & SVM_PAGE_PINNED);
	/* Others: refused at once where somebody can be told, and nothing moves. */
	range = (struct svm_access_range){ .addr = p, .size = PAGE, .access = SVM_ACCESS_READ };
	assert_int_equal(svm_acquire(two, &range, 1, 0, &access, NULL), -ENOLINK);
	assert_null(access);
	assert_int_equal(svm_pin(f->space, p, PAGE, HOST), -EBUSY);
	assert_int_equal(svm_pin(f->space, p, PAGE, svm_device_location(two)), -EBUSY);
	assert_int_equal(svm_host_acquire(f->space, p, PAGE, SVM_ACCESS_READ, 0), -EBUSY);
	assert_int_equal(svm_discard(f->space, p, PAGE, 0), -EBUSY);
	assert_int_equal(svm_free(f->space, p), -EBUSY);
	assert_int_equal(svm_device_close(one), -EBUSY);
	assert_int_equal(svm_space_destroy(f->space), -EBUSY);
	fixture_fill_on(f, one, p, BLOCK, 2);
	/* It counts, and wants the same span and location. */
	assert_int_equal(svm_pin(f->space, p, BLOCK, where), 0);
	assert_int_equal(svm_unpin(f->space, p, PAGE, where), -ENOENT);
	assert_int_equal(svm_unpin(f->space, p, BLOCK, HOST), -ENOENT);
	assert_int_equal(svm_unpin(f->space, p, BLOCK, where), 0);
	/* A CPU touch waits for the last one. */
	writer.word = (uint64_t *)p;
	faults = fixture_stats(f).cpu_faults;
	assert_int_equal(pthread_create(&thread, NULL, write_word, &writer), 0);
	while (fixture_stats(f).cpu_faults == faults)
		sched_yield();
	fixture_check_on(f, one, p, BLOCK, 2);
	assert_false(atomic_load(&writer.done));
	assert_int_equal(svm_unpin(f->space, p, BLOCK, where), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(svm_unpin(f->space, p, BLOCK, where), -ENOENT);
	assert_int_equal(*(uint64_t *)p, fixture_word(2, 0) + 1);
	*(uint64_t *)p -= 1;
	fixture_check(p, BLOCK, 2);
	fixture_check_on(f, two, p, BLOCK, 2);
}

/* A pin to the host keeps the CPU's mapping, so that references taken through it stay good. */
static void contract_3_5_host_pin_keeps_the_mapping(struct svm_fixture *f)
{
	struct svm_access_range range;
	struct svm_access *access;
	struct svm_device *device;
	uint64_t faults;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "faults=off");
	p = fixture_alloc(f, BLOCK, 0);
	fixture_fill_on(f, device, p, BLOCK, 1);
	assert_int_equal(svm_pin(f->space, p, BLOCK, HOST), 0);
	faults = fixture_stats(f).cpu_faults;
	range = (struct svm_access_range){ .addr = p, .size = BLOCK, .access = SVM_ACCESS_WRITE };
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, NULL), -EBUSY);
	fixture_check(p, BLOCK, 1);
	fixture_fill(p, BLOCK, 2);
	assert_int_equal(fixture_stats(f).cpu_faults, faults);
	assert_int_equal(svm_unpin(f->space, p, BLOCK, HOST), 0);
	fixture_check_on(f, device, p, BLOCK, 2);
}

/* ---- The other hints -------------------------------------------------------------------------- */

static void granularity_bounds_what_a_fault_moves(struct svm_fixture *f)
{
	static const uint64_t sizes[] = { 4096, 65536, 1u << 20, 2u << 20 };
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open_with(f, "faults=on");
	fixture_need(device, SVM_CAP_FAULTS, "recoverable faults");
	for (unsigned int i = 0; i < 4; i++) {
		uint64_t unit = sizes[i];
		uint64_t start = 300 * PAGE / unit * unit;

		p = fixture_alloc(f, BLOCK, 0);
		fill_pages(p, N_PAGES, 1);
		advise(f, p, BLOCK, with_value(SVM_ADVICE_GRANULARITY, unit));
		assert_int_equal(query(f, p, BLOCK).granularity, unit);
		fixture_check_on(f, device, p + 300 * PAGE, PAGE, 301);
		if (start)
			fixture_assert_at(f, p, start, 0, true);
		fixture_assert_at(f, p + start, unit, bit_of(device), false);
		if (start + unit < BLOCK)
			fixture_assert_at(f, p + start + unit, BLOCK - start - unit, 0, true);
		check_pages(p, N_PAGES, 1);
	}
	assert_int_equal(
		svm_advise(f->space, p, BLOCK,
			   &(struct svm_advice){ .kind = SVM_ADVICE_GRANULARITY, .value = 5000 }, 1,
			   NULL),
		-EINVAL);
	assert_int_equal(
		svm_advise(f->space, p, BLOCK,
			   &(struct svm_advice){ .kind = SVM_ADVICE_GRANULARITY, .value = 2048 }, 1,
			   NULL),
		-EINVAL);
	assert_int_equal(svm_advise(f->space, p, BLOCK,
				    &(struct svm_advice){ .kind = SVM_ADVICE_GRANULARITY,
							  .value = 4u << 20 },
				    1, NULL),
			 -EINVAL);
}

/* Only prefetch and pin move: access maps in place where it can, else it moves what it has to. */
static void migration_on_prefetch_only(struct svm_fixture *f)
{
	struct svm_device *device;
	bool reaches;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	reaches = fixture_has(device, SVM_CAP_HOST_ALIAS);
	p = fixture_alloc(f, BLOCK, 0);
	fill_pages(p, N_PAGES, 1);
	advise(f, p, BLOCK, with_value(SVM_ADVICE_MIGRATION, SVM_MIGRATE_ON_PREFETCH));
	fixture_check_on(f, device, p + 8 * PAGE, PAGE, 9);
	fixture_assert_at(f, p + 8 * PAGE, PAGE, reaches ? 0 : bit_of(device), reaches);
	fixture_assert_at(f, p + 9 * PAGE, PAGE, 0, true);
	assert_int_equal(svm_prefetch(f->space, p, BLOCK, svm_device_location(device), NULL), 0);
	fixture_assert_at(f, p, BLOCK, bit_of(device), false);
	check_pages(p, N_PAGES, 1);
}

static void refused_advice_is_not_stored(struct svm_fixture *f)
{
	static const struct {
		struct svm_advice advice;
		int error;
		uint32_t reason;
	} bad[] = {
		{ { .kind = 8 }, -EINVAL, SVM_REASON_NONE },
		{ { .kind = SVM_ADVICE_READ_MOSTLY, .value = 2 }, -EINVAL, SVM_REASON_NONE },
		{ { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1, .device = 1 },
		  -EINVAL,
		  SVM_REASON_NONE },
		{ { .kind = SVM_ADVICE_ATOMICS, .value = 3 }, -EINVAL, SVM_REASON_NONE },
		{ { .kind = SVM_ADVICE_MIGRATION, .value = 3 }, -EINVAL, SVM_REASON_NONE },
		{ { .kind = SVM_ADVICE_PREFERRED_LOCATION, .value = 1 }, -EINVAL, SVM_REASON_NONE },
		{ { .kind = SVM_ADVICE_PREFERRED_LOCATION,
		    .location = { SVM_LOCATION_HOST_NUMA, 999 } },
		  -EINVAL,
		  SVM_REASON_NO_SUCH_NODE },
		{ { .kind = SVM_ADVICE_PREFERRED_LOCATION, .location = { SVM_LOCATION_DEVICE, 3 } },
		  -ENODEV,
		  SVM_REASON_NO_SUCH_DEVICE },
		{ { .kind = SVM_ADVICE_ACCESSED_BY, .device = 3 },
		  -ENODEV,
		  SVM_REASON_NO_SUCH_DEVICE },
		{ { .kind = SVM_ADVICE_NO_ACCESS, .device = 300 },
		  -ENODEV,
		  SVM_REASON_NO_SUCH_DEVICE },
		{ { .kind = SVM_ADVICE_ACCESS_IN_PLACE, .device = 0, .value = 1 },
		  -EINVAL,
		  SVM_REASON_NONE },
	};
	struct svm_advice_info before;
	struct svm_advice_info after;
	char *p;

	fixture_space(f, NULL);
	fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	before = query(f, p, BLOCK);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct svm_advice advice[2] = { with_value(SVM_ADVICE_GRANULARITY, 4096),
						bad[i].advice };
		struct svm_outcome outcomes[2];

		assert_int_equal(svm_advise(f->space, p, BLOCK, advice, 2, outcomes), bad[i].error);
		assert_int_equal(outcomes[1].status, SVM_REFUSED);
		assert_int_equal(outcomes[1].reason, bad[i].reason);
		after = query(f, p, BLOCK);
		assert_memory_equal(&before, &after, sizeof(before));
	}
	assert_int_equal(svm_advise(f->space, p, BLOCK, NULL, 1, NULL), -EINVAL);
	assert_int_equal(svm_advise(f->space, p, BLOCK, &bad[0].advice, 0, NULL), -EINVAL);
	assert_int_equal(svm_advise(NULL, p, BLOCK, &bad[0].advice, 1, NULL), -EINVAL);
}

/* ---- 3.7 Queries ------------------------------------------------------------------------------ */

static void contract_3_7_Q1_summary(struct svm_fixture *f)
{
	struct svm_advice_info info;
	struct svm_device *one;
	struct svm_device *two;
	char *p;

	fixture_space(f, NULL);
	one = fixture_open(f, f->device);
	two = fixture_open(f, f->device);
	p = fixture_alloc(f, 4 * BLOCK, 0);
	advise(f, p, 2 * BLOCK, prefer(svm_device_location(one)));
	advise(f, p, 4 * BLOCK, for_device(SVM_ADVICE_ACCESSED_BY, one));
	advise(f, p + BLOCK, BLOCK, for_device(SVM_ADVICE_ACCESSED_BY, two));
	advise(f, p + BLOCK, BLOCK, with_value(SVM_ADVICE_READ_MOSTLY, 1));
	advise(f, p, BLOCK, with_value(SVM_ADVICE_GRANULARITY, 65536));
	info = query(f, p, 4 * BLOCK);
	assert_int_equal(info.mixed,
			 1u << SVM_ADVICE_PREFERRED_LOCATION | 1u << SVM_ADVICE_ACCESSED_BY |
				 1u << SVM_ADVICE_READ_MOSTLY | 1u << SVM_ADVICE_GRANULARITY);
	assert_int_equal(info.read_mostly_all, 0);
	assert_int_equal(info.read_mostly_none, 0);
	assert_int_equal(info.granularity, 65536);
	assert_int_equal(info.accessed_by, bit_of(one));
	assert_int_equal(info.n_ranges, 3);
	info = query(f, p + BLOCK, BLOCK);
	assert_int_equal(info.mixed, 0);
	assert_int_equal(info.read_mostly_all, 1);
	assert_int_equal(info.accessed_by, bit_of(one) | bit_of(two));
	assert_int_equal(info.preferred.id, svm_device_id(one));
	info = query(f, p + 2 * BLOCK, 2 * BLOCK);
	assert_int_equal(info.mixed, 0);
	assert_int_equal(info.read_mostly_none, 1);
	info.size = 1;
	assert_int_equal(svm_advice_query(f->space, p, BLOCK, &info), -EINVAL);
}

static void contract_3_7_Q2_enumerate(struct svm_fixture *f)
{
	struct svm_advice_range ranges[8];
	size_t record = 0;
	size_t n = 0;
	char *p;

	fixture_space(f, NULL);
	p = fixture_alloc(f, 4 * BLOCK, 0);
	advise(f, p + BLOCK, PAGE, with_value(SVM_ADVICE_READ_MOSTLY, 1));
	assert_int_equal(svm_advice_enumerate(f->space, p + PAGE, 2 * BLOCK, NULL, &n, &record), 0);
	assert_int_equal(n, 3);
	assert_int_equal(record, sizeof(ranges[0]));
	/* It changes in between: more than there is room for. */
	advise(f, p + BLOCK + 5 * PAGE, PAGE, with_value(SVM_ADVICE_READ_MOSTLY, 1));
	assert_int_equal(svm_advice_enumerate(f->space, p + PAGE, 2 * BLOCK, ranges, &n, &record),
			 -ENOSPC);
	n = 8;
	assert_int_equal(svm_advice_enumerate(f->space, p + PAGE, 2 * BLOCK, ranges, &n, &record),
			 0);
	assert_int_equal(n, 5);
	assert_int_equal(ranges[0].addr, (uint64_t)p + PAGE);
	assert_int_equal(ranges[0].length, BLOCK - PAGE);
	assert_int_equal(ranges[1].addr, (uint64_t)p + BLOCK);
	assert_int_equal(ranges[1].length, PAGE);
	assert_int_equal(ranges[1].info.read_mostly_all, 1);
	assert_int_equal(ranges[2].length, 4 * PAGE);
	assert_int_equal(ranges[2].info.read_mostly_none, 1);
	assert_int_equal(ranges[3].addr, (uint64_t)p + BLOCK + 5 * PAGE);
	assert_int_equal(ranges[4].addr + ranges[4].length, (uint64_t)p + PAGE + 2 * BLOCK);
	record = sizeof(ranges[0]) - 8;
	assert_int_equal(svm_advice_enumerate(f->space, p, BLOCK, ranges, &n, &record), -EINVAL);
	assert_int_equal(svm_advice_enumerate(f->space, p, BLOCK, ranges, NULL, &record), -EINVAL);
}

static void contract_3_7_Q3_residency_has_a_generation(struct svm_fixture *f)
{
	struct svm_page_residency pages[4];
	struct svm_device *device;
	uint64_t last;
	uint64_t now;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = fixture_alloc(f, BLOCK, 0);
	last = generation(f, p);
	assert_int_equal(generation(f, p), last);
	for (unsigned int i = 0; i < 4; i++) {
		if (i % 2)
			fixture_fill_on(f, device, p, BLOCK, i);
		else
			fixture_fill(p, BLOCK, i);
		now = generation(f, p);
		assert_true(now > last);
		assert_int_equal(generation(f, p), now);
		last = now;
	}
	assert_int_equal(svm_residency_query(f->space, p + 1, 3 * PAGE, pages, 4, &now), 0);
	assert_int_equal(pages[3].devices, bit_of(device));
	assert_int_equal(svm_residency_query(f->space, p, 3 * PAGE, pages, 4, &now), -EINVAL);
	assert_int_equal(svm_residency_query(f->space, p, 3 * PAGE, NULL, 3, &now), -EINVAL);
	assert_int_equal(svm_residency_query(f->space, p, PAGE, pages, 1, NULL), 0);
}

/* Also into managed memory that is not there: the query fills it in by itself. */
static void queries_may_write_to_managed_memory(struct svm_fixture *f)
{
	struct svm_page_residency *pages;
	struct svm_device *device;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	pages = fixture_alloc(f, PAGE, 0);
	fixture_fill_on(f, device, pages, PAGE, 1);
	assert_int_equal(svm_residency_query(f->space, pages, PAGE, pages, 1, NULL), 0);
	assert_int_equal(pages[0].devices, bit_of(device));
	fixture_assert_at(f, pages, PAGE, 0, true);
}

static void contract_3_7_Q4_pointer_query(struct svm_fixture *f)
{
	struct svm_pointer_info info = { .size = sizeof(info) };
	struct svm_pointer_info again = { .size = sizeof(again) };
	char *map =
		mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *p;
	char *q;

	assert_ptr_not_equal(map, MAP_FAILED);
	fixture_space(f, NULL);
	p = fixture_alloc(f, 3 * PAGE, 0);
	q = fixture_alloc(f, BLOCK, SVM_ALLOC_SHARED);
	assert_int_equal(svm_pointer_query(f->space, p + 2 * PAGE + 17, &info), 0);
	assert_int_equal(info.is_svm, 1);
	assert_int_equal(info.base, (uint64_t)p);
	assert_int_equal(info.length, 3 * PAGE);
	assert_int_equal(info.is_registered, 0);
	assert_int_equal(info.is_native, 0);
	assert_int_equal(info.is_shared, f->variant->flags & SVM_SPACE_DEFAULT_SHARED ? 1 : 0);
	assert_int_equal(svm_pointer_query(f->space, q, &again), 0);
	assert_int_equal(again.is_shared, 1);
	assert_int_not_equal(again.id, info.id);
	/* It populated nothing. */
	fixture_assert_at(f, p, 3 * PAGE, 0, false);
	assert_int_equal(svm_register(f->space, map + PAGE, 2 * PAGE, 0), 0);
	assert_int_equal(svm_pointer_query(f->space, map + 2 * PAGE, &again), 0);
	assert_int_equal(again.is_svm, 1);
	assert_int_equal(again.is_registered, 1);
	assert_int_equal(again.base, (uint64_t)map + PAGE);
	assert_int_equal(svm_pointer_query(f->space, map, &again), 0);
	assert_int_equal(again.is_svm, 0);
	assert_int_equal(svm_pointer_query(f->space, NULL, &again), 0);
	assert_int_equal(again.is_svm, 0);
	assert_int_equal(svm_pointer_query(f->space, (void *)UINTPTR_MAX, &again), 0);
	assert_int_equal(again.is_svm, 0);
	assert_int_equal(again.base | again.length | again.id, 0);
	/* Numbers are not used again. */
	fixture_free(f, p);
	assert_int_equal(svm_pointer_query(f->space, p, &again), 0);
	assert_int_equal(again.is_svm, 0);
	p = fixture_alloc(f, 3 * PAGE, 0);
	assert_int_equal(svm_pointer_query(f->space, p, &again), 0);
	assert_true(again.id > info.id);
	info.size = 4;
	assert_int_equal(svm_pointer_query(f->space, p, &info), -EINVAL);
	fixture_space_end(f);
	assert_int_equal(munmap(map, 4 * PAGE), 0);
}

/* ---- 3.8 Coherence ---------------------------------------------------------------------------- */

/* At any time one writable holder, or any number of readers: looked at between random accesses under random hints. */
static void contract_3_8_1_one_writer_or_readers(struct svm_fixture *f)
{
	static struct svm_page_residency pages[2 * N_PAGES];
	struct svm_device *devices[2];
	uint64_t pattern[8] = { 0 };
	char *p;

	fixture_space(f, NULL);
	devices[0] = fixture_open(f, f->device);
	devices[1] = fixture_open(f, f->device);
	p = fixture_alloc(f, 2 * BLOCK, 0);
	for (uint64_t round = 1; round <= 60; round++) {
		uint64_t piece = fixture_pick(f, 8);
		uint64_t agent = fixture_pick(f, 3);
		char *at = p + piece * 128 * PAGE;
		const struct svm_advice hints[] = {
			with_value(SVM_ADVICE_READ_MOSTLY, fixture_pick(f, 2)),
			prefer(fixture_pick(f, 2) ? HOST : NONE),
			prefer(svm_device_location(devices[fixture_pick(f, 2)])),
			for_device(SVM_ADVICE_ACCESSED_BY, devices[fixture_pick(f, 2)]),
			for_device(SVM_ADVICE_ACCESS_IN_PLACE, devices[fixture_pick(f, 2)]),
			with_value(SVM_ADVICE_GRANULARITY, UINT64_C(4096) << fixture_pick(f, 10)),
		};

		if (fixture_pick(f, 2))
			advise(f, p + fixture_pick(f, 8) * 128 * PAGE, 128 * PAGE,
			       hints[fixture_pick(f, 6)]);
		if (fixture_pick(f, 2)) {
			pattern[piece] = round;
			if (agent == 2)
				fixture_fill(at, 128 * PAGE, round);
			else
				fixture_fill_on(f, devices[agent], at, 128 * PAGE, round);
		} else if (pattern[piece]) {
			if (agent == 2)
				fixture_check(at, 128 * PAGE, pattern[piece]);
			else
				fixture_check_on(f, devices[agent], at, 128 * PAGE, pattern[piece]);
		}
		assert_int_equal(
			svm_residency_query(f->space, p, 2 * BLOCK, pages, 2 * N_PAGES, NULL), 0);
		for (unsigned int i = 0; i < 2 * N_PAGES; i++) {
			bool host = (pages[i].flags & SVM_PAGE_HOST) != 0;
			unsigned int holders =
				(unsigned int)__builtin_popcount(pages[i].devices) + host;

			if (pages[i].flags & SVM_PAGE_CPU_WRITE)
				assert_true(host && holders == 1);
			if (pages[i].flags & SVM_PAGE_CPU_READ)
				assert_true(host);
			/* A mapping is of memory that holds the bytes: its own, or the host's in place. */
			if (pages[i].mapped & ~pages[i].devices)
				assert_true(host);
		}
	}
	for (unsigned int piece = 0; piece < 8; piece++)
		if (pattern[piece])
			fixture_check(p + piece * 128 * PAGE, 128 * PAGE, pattern[piece]);
		else
			fixture_check_zero(p + piece * 128 * PAGE, 128 * PAGE);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(contract_3_1_R1_rounds_to_pages, FIXTURE_ONCE),
		FIXTURE_CASE(contract_3_1_R2_a_hole_changes_nothing, FIXTURE_ONCE),
		FIXTURE_CASE(contract_3_1_R3_is_not_counted, FIXTURE_ONCE),
		FIXTURE_CASE(contract_3_1_R4_setting_moves_nothing, FIXTURE_DEVICES),
		FIXTURE_CASE(contract_3_1_R5_hints_live_with_the_pages, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_1_R5_unmapped_memory_forgets, FIXTURE_VARIANTS),
		FIXTURE_CASE(contract_3_1_R6_closing_a_device_drops_its_hints, FIXTURE_DEVICES),
		FIXTURE_CASE(contract_3_1_R6_a_lost_device_keeps_its_hints, FIXTURE_DEVICES),
		FIXTURE_CASE(contract_3_2_forbidden_migration_goes_first, FIXTURE_DEVICES),
		FIXTURE_CASE(contract_3_2_read_mostly_before_preferred, FIXTURE_DEVICES),
		FIXTURE_CASE(contract_3_2_preferred_before_accessed_by, FIXTURE_DEVICES),
		FIXTURE_CASE(contract_3_3_row_1_remote_agents_map_it, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_3_row_2_others_move_one_page, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_3_row_3_elsewhere_moves_to_the_toucher, FIXTURE_DEVICES),
		FIXTURE_CASE(contract_3_3_row_4_the_next_access_brings_it_back, FIXTURE_DEVICES),
		FIXTURE_CASE(contract_3_3_row_5_the_new_location_loses_its_mapping,
			     FIXTURE_DEVICES),
		FIXTURE_CASE(contract_3_3_row_6_prefetch_elsewhere_is_obeyed, FIXTURE_DEVICES),
		FIXTURE_CASE(contract_3_3_row_7_first_population, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_3_row_8_thrashing_is_reported,
			     FIXTURE_VARIANTS | FIXTURE_SOFT),
		FIXTURE_CASE(contract_3_4_accessed_by_keeps_a_mapping, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_4_in_place_never_moves, FIXTURE_BOTH | FIXTURE_ROOM),
		FIXTURE_CASE(contract_3_4_no_access_is_terminal, FIXTURE_DEVICES | FIXTURE_SOFT),
		FIXTURE_CASE(contract_3_4_the_last_one_set_counts, FIXTURE_ONCE),
		FIXTURE_CASE(contract_3_5_read_mostly_duplicates_and_collapses, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_5_unset_read_mostly_collapses, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_5_discard_gives_zeros, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_5_pin_moves_and_keeps, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_5_host_pin_keeps_the_mapping, FIXTURE_BOTH),
		FIXTURE_CASE(granularity_bounds_what_a_fault_moves, FIXTURE_BOTH),
		FIXTURE_CASE(migration_on_prefetch_only, FIXTURE_DEVICES),
		FIXTURE_CASE(refused_advice_is_not_stored, FIXTURE_ONCE),
		FIXTURE_CASE(contract_3_7_Q1_summary, FIXTURE_ONCE),
		FIXTURE_CASE(contract_3_7_Q2_enumerate, FIXTURE_ONCE),
		FIXTURE_CASE(contract_3_7_Q3_residency_has_a_generation, FIXTURE_DEVICES),
		FIXTURE_CASE(queries_may_write_to_managed_memory, FIXTURE_BOTH),
		FIXTURE_CASE(contract_3_7_Q4_pointer_query, FIXTURE_VARIANTS),
		FIXTURE_CASE(contract_3_8_1_one_writer_or_readers, FIXTURE_BOTH),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
