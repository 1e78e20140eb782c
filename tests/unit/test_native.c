/* SPDX-License-Identifier: MIT */
/*
 * Shown here, on a fake device: which spaces take system memory; its hints are kept, told to native devices in full
 * and in order, also to those that open later, and go when the memory goes; spans that are managed in part; prefetches
 * that are checked against where pages are; how a device that is native and nothing else gets at managed memory.
 */
#include "fixture.h"

#include "fake_backend.h"
#include "space.h"
#include "sys.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE	FIXTURE_PAGE
#define WINDOW	(16u * FIXTURE_BLOCK)
#define KIND(k) (1u << SVM_ADVICE_##k)
#define HOST	((struct svm_location){ .kind = SVM_LOCATION_HOST })

static struct svm_space *make_space(struct svm_fixture *f, uint32_t flags)
{
	struct svm_space_options options = { .size = sizeof(options),
					     .window_size = WINDOW,
					     .flags = flags };

	fake_reset();
	return fixture_space(f, &options);
}

static struct svm_device *open_native(struct svm_fixture *f)
{
	struct svm_device *device;

	fake.caps = SVM_CAP_NATIVE | SVM_CAP_WORK;
	assert_int_equal(svm_device_open(f->space, "fake-native", &device), 0);
	return device;
}

static void *map(uint64_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static void *at(void *base, uint64_t page)
{
	return (char *)base + page * PAGE;
}

static uint64_t number(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

static int advise(struct svm_fixture *f, void *p, uint64_t size, struct svm_advice advice,
		  struct svm_outcome *outcome)
{
	return svm_advise(f->space, p, size, &advice, 1, outcome);
}

static int set_granularity(struct svm_fixture *f, void *p, uint64_t size, uint64_t value)
{
	return advise(f, p, size,
		      (struct svm_advice){ .kind = SVM_ADVICE_GRANULARITY, .value = value }, NULL);
}

static struct svm_advice_info query(struct svm_fixture *f, const void *p, uint64_t size)
{
	struct svm_advice_info info = { .size = sizeof(info) };

	assert_int_equal(svm_advice_query(f->space, p, size, &info), 0);
	return info;
}

static void assert_outcome(struct svm_outcome outcome, uint32_t status, uint32_t reason)
{
	assert_int_equal(outcome.status, status);
	assert_int_equal(outcome.reason, reason);
}

/* Each call that takes system memory, on one page. Returns what all of them say. */
static int all_calls(struct svm_fixture *f, void *p)
{
	struct svm_advice advice = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };
	struct svm_advice_info info = { .size = sizeof(info) };
	struct svm_page_residency page;
	size_t n = 0;
	size_t record = 0;
	int r = svm_advise(f->space, p, PAGE, &advice, 1, NULL);

	assert_int_equal(svm_advice_query(f->space, p, PAGE, &info), r);
	assert_int_equal(svm_advice_enumerate(f->space, p, PAGE, NULL, &n, &record), r);
	assert_int_equal(svm_residency_query(f->space, p, PAGE, &page, 1, NULL), r);
	assert_int_equal(svm_prefetch(f->space, p, PAGE, HOST, NULL), r);
	assert_int_equal(svm_unadvise(f->space, p, PAGE, KIND(READ_MOSTLY)), r);
	return r;
}

static void system_memory_is_for_native_spaces(struct svm_fixture *f)
{
	void *p = map(PAGE);
	struct svm_pointer_info info = { .size = sizeof(info) };
	struct svm_device *device;
	int local = 0;

	make_space(f, 0);
	assert_int_equal(all_calls(f, p), -ENOENT);
	device = open_native(f);
	assert_int_equal(all_calls(f, p), 0);
	/* The stack. */
	assert_int_equal(all_calls(f, (void *)(number(&local) / PAGE * PAGE)), 0);
	assert_int_equal(svm_pointer_query(f->space, p, &info), 0);
	assert_int_equal(info.is_svm, 0);
	assert_int_equal(info.is_native, 1);
	/* What is for managed memory alone stays so. */
	assert_int_equal(svm_discard(f->space, p, PAGE, 0), -ENOENT);
	assert_int_equal(svm_pin(f->space, p, PAGE, HOST), -ENOENT);
	assert_int_equal(svm_host_acquire(f->space, p, PAGE, SVM_ACCESS_READ, 0), -ENOENT);
	assert_int_equal(svm_device_close(device), 0);
	assert_int_equal(all_calls(f, p), -ENOENT);
	fixture_space_end(f);
	make_space(f, SVM_SPACE_NATIVE);
	assert_int_equal(all_calls(f, p), 0);
	assert_int_equal(svm_pointer_query(f->space, p, &info), 0);
	assert_int_equal(info.is_native, 0);
	munmap(p, PAGE);
	assert_int_equal(fake_wrong(), 0);
}

static void what_is_no_memory_is_refused_whole(struct svm_fixture *f)
{
	struct svm_space_info info = { .size = sizeof(info) };
	void *p = map(3 * PAGE);

	make_space(f, SVM_SPACE_NATIVE);
	munmap(at(p, 1), PAGE);
	assert_int_equal(set_granularity(f, p, 3 * PAGE, 4096), -ENOENT);
	assert_int_equal(query(f, p, PAGE).granularity, SVM_BLOCK_SIZE);
	assert_int_equal(query(f, at(p, 2), PAGE).granularity, SVM_BLOCK_SIZE);
	assert_int_equal(all_calls(f, at(p, 1)), -ENOENT);
	/* Free addresses of the window, and no addresses at all. */
	assert_int_equal(svm_space_query(f->space, &info), 0);
	assert_int_equal(all_calls(f, (void *)(uintptr_t)info.window_base), -ENOENT);
	assert_int_equal(all_calls(f, (void *)(UINT64_C(1) << 47)), -ENOENT);
	assert_int_equal(all_calls(f, (void *)(UINTPTR_MAX - 8 * PAGE)), -ENOENT);
	munmap(p, PAGE);
	munmap(at(p, 2), PAGE);
}

static void hints_split_join_and_go(struct svm_fixture *f)
{
	struct svm_advice_range runs[3];
	size_t n = 3;
	size_t record = sizeof(runs[0]);
	struct svm_advice_info info;
	void *p = map(10 * PAGE);

	make_space(f, SVM_SPACE_NATIVE);
	assert_int_equal(set_granularity(f, at(p, 2), 6 * PAGE, 65536), 0);
	assert_int_equal(set_granularity(f, at(p, 4), PAGE, 4096), 0);
	info = query(f, p, 10 * PAGE);
	assert_int_equal(info.n_ranges, 5);
	assert_int_equal(info.mixed, KIND(GRANULARITY));
	assert_int_equal(info.granularity, 4096);
	assert_int_equal(svm_advice_enumerate(f->space, at(p, 1), 4 * PAGE, runs, &n, &record), 0);
	assert_int_equal(n, 3);
	assert_int_equal(runs[0].addr, number(at(p, 1)));
	assert_int_equal(runs[0].length, PAGE);
	assert_int_equal(runs[0].info.granularity, SVM_BLOCK_SIZE);
	assert_int_equal(runs[1].length, 2 * PAGE);
	assert_int_equal(runs[2].info.granularity, 4096);
	/* Equal again: one run. */
	assert_int_equal(set_granularity(f, at(p, 4), PAGE, 65536), 0);
	assert_int_equal(query(f, at(p, 2), 6 * PAGE).n_ranges, 1);
	assert_int_equal(svm_unadvise(f->space, p, 10 * PAGE, KIND(GRANULARITY)), 0);
	info = query(f, p, 10 * PAGE);
	assert_int_equal(info.n_ranges, 1);
	assert_int_equal(info.granularity, SVM_BLOCK_SIZE);
	assert_int_equal(f->space->ctx.system.n_nodes, 0);
	munmap(p, 10 * PAGE);
}

static void each_kind_is_told_with_its_value(struct svm_fixture *f)
{
	struct svm_outcome outcome;
	struct fake_advice told;
	struct svm_device *device;
	void *p = map(4 * PAGE);
	uint32_t id;

	make_space(f, 0);
	device = open_native(f);
	id = svm_device_id(device);
	const struct {
		struct svm_advice advice;
		uint32_t place;
		uint32_t access;
	} cases[] = {
		{ { .kind = SVM_ADVICE_PREFERRED_LOCATION, .location = HOST }, SVM_NATIVE_HOST, 0 },
		{ { .kind = SVM_ADVICE_PREFERRED_LOCATION,
		    .location = { SVM_LOCATION_DEVICE, id } },
		  SVM_NATIVE_OWN,
		  0 },
		{ { .kind = SVM_ADVICE_ACCESSED_BY, .device = id },
		  SVM_NATIVE_OWN,
		  SVM_NATIVE_MAPPED },
		{ { .kind = SVM_ADVICE_ACCESS_IN_PLACE, .device = id },
		  SVM_NATIVE_OWN,
		  SVM_NATIVE_IN_PLACE },
		{ { .kind = SVM_ADVICE_NO_ACCESS, .device = id },
		  SVM_NATIVE_OWN,
		  SVM_NATIVE_FORBIDDEN },
		{ { .kind = SVM_ADVICE_ATOMICS, .value = SVM_ATOMICS_SYSTEM },
		  SVM_NATIVE_OWN,
		  SVM_NATIVE_FORBIDDEN },
		{ { .kind = SVM_ADVICE_GRANULARITY, .value = 65536 },
		  SVM_NATIVE_OWN,
		  SVM_NATIVE_FORBIDDEN },
		{ { .kind = SVM_ADVICE_MIGRATION, .value = SVM_MIGRATE_ON_PREFETCH },
		  SVM_NATIVE_OWN,
		  SVM_NATIVE_FORBIDDEN },
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(advise(f, at(p, 1), 2 * PAGE, cases[i].advice, &outcome), 0);
		assert_outcome(outcome, SVM_EFFECTIVE, SVM_REASON_NONE);
		assert_int_equal(fake_n_advice(), i + 1u);
		told = fake_advice(i);
		assert_int_equal(told.addr, number(at(p, 1)));
		assert_int_equal(told.size, 2 * PAGE);
		assert_int_equal(told.hints.kinds, 1u << cases[i].advice.kind);
		assert_int_equal(told.hints.place, cases[i].place);
		assert_int_equal(told.hints.numa_node, -1);
		assert_int_equal(told.hints.access, cases[i].access);
		assert_null(told.hints.peer_dev);
	}
	assert_int_equal(told.hints.atomics, SVM_ATOMICS_SYSTEM);
	assert_int_equal(told.hints.granularity, 65536);
	assert_int_equal(told.hints.migration, SVM_MIGRATE_ON_PREFETCH);
	/* Unset: told the default, of these kinds. */
	assert_int_equal(svm_unadvise(f->space, p, 4 * PAGE, KIND(ATOMICS) | KIND(NO_ACCESS)), 0);
	told = fake_advice(fake_n_advice() - 2u);
	assert_int_equal(told.addr, number(at(p, 1)));
	assert_int_equal(told.hints.kinds, KIND(ATOMICS) | KIND(NO_ACCESS));
	assert_int_equal(told.hints.atomics, SVM_ATOMICS_NONE);
	assert_int_equal(told.hints.access, SVM_NATIVE_ON_FAULT);
	assert_int_equal(told.hints.granularity, 65536);
	munmap(p, 4 * PAGE);
	assert_int_equal(fake_wrong(), 0);
}

static void outcomes_are_the_drivers(struct svm_fixture *f)
{
	struct svm_advice read_mostly = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };
	struct svm_outcome outcome;
	void *p = map(PAGE);

	make_space(f, 0);
	open_native(f);
	fake_answer_advice((struct svm_outcome){ SVM_DEGRADED, SVM_REASON_NO_READ_ONLY_MAPS });
	assert_int_equal(advise(f, p, PAGE, read_mostly, &outcome), 0);
	assert_outcome(outcome, SVM_DEGRADED, SVM_REASON_NO_READ_ONLY_MAPS);
	fake_answer_advice((struct svm_outcome){ 0 });
	fake_fail(FAKE_NATIVE_ADVISE, 1, -EOPNOTSUPP, 1);
	assert_int_equal(advise(f, p, PAGE, read_mostly, &outcome), 0);
	assert_outcome(outcome, SVM_DEGRADED, SVM_REASON_DRIVER);
	fake_fail(FAKE_NATIVE_ADVISE, 1, -ENOLINK, 1);
	assert_int_equal(advise(f, p, PAGE, read_mostly, &outcome), 0);
	assert_outcome(outcome, SVM_DEGRADED, SVM_REASON_NOT_REACHABLE);
	fake_fail(FAKE_NATIVE_ADVISE, 1, -ENOMEM, 1);
	assert_int_equal(advise(f, p, PAGE, read_mostly, &outcome), 0);
	assert_outcome(outcome, SVM_DEGRADED, SVM_REASON_NO_MEMORY);
	assert_int_equal(advise(f, p, PAGE, read_mostly, &outcome), 0);
	assert_outcome(outcome, SVM_EFFECTIVE, SVM_REASON_NONE);
	assert_int_equal(query(f, p, PAGE).read_mostly_all, 1);
	munmap(p, PAGE);
}

static void a_device_that_opens_later_learns_all(struct svm_fixture *f)
{
	struct svm_advice preferred = { .kind = SVM_ADVICE_PREFERRED_LOCATION, .location = HOST };
	struct svm_device *device;
	struct fake_advice told;
	void *p = map(4 * PAGE);

	make_space(f, SVM_SPACE_NATIVE);
	assert_int_equal(set_granularity(f, p, 2 * PAGE, 65536), 0);
	assert_int_equal(advise(f, at(p, 1), 2 * PAGE, preferred, NULL), 0);
	device = open_native(f);
	assert_int_equal(fake_n_advice(), 3);
	told = fake_advice(0);
	assert_int_equal(told.addr, number(p));
	assert_int_equal(told.size, PAGE);
	assert_int_equal(told.hints.kinds, KIND(GRANULARITY));
	told = fake_advice(1);
	assert_int_equal(told.hints.kinds, KIND(GRANULARITY) | KIND(PREFERRED_LOCATION));
	assert_int_equal(told.hints.place, SVM_NATIVE_HOST);
	told = fake_advice(2);
	assert_int_equal(told.addr, number(at(p, 2)));
	assert_int_equal(told.hints.kinds, KIND(PREFERRED_LOCATION));
	/* Hints that name it go with it; the others stay for the next one. */
	preferred.location = svm_device_location(device);
	assert_int_equal(advise(f, p, 4 * PAGE, preferred, NULL), 0);
	assert_int_equal(svm_device_close(device), 0);
	assert_int_equal(query(f, p, 4 * PAGE).preferred.kind, SVM_LOCATION_NONE);
	assert_int_equal(f->space->ctx.system.n_nodes, 1);
	open_native(f);
	told = fake_advice(fake_n_advice() - 1u);
	assert_int_equal(told.size, 2 * PAGE);
	assert_int_equal(told.hints.kinds, KIND(GRANULARITY));
	munmap(p, 4 * PAGE);
}

/* Memory of the space between two pages of the application. */
static void spans_may_be_managed_in_part(struct svm_fixture *f)
{
	struct svm_advice_info info;
	struct svm_page_residency pages[8];
	struct svm_prefetch_result result;
	void *p = map(8 * PAGE);

	make_space(f, 0);
	open_native(f);
	memset(p, 7, 8 * PAGE);
	assert_int_equal(svm_register(f->space, at(p, 2), 2 * PAGE, 0), 0);
	assert_int_equal(svm_register(f->space, at(p, 5), PAGE, 0), 0);
	assert_int_equal(set_granularity(f, p, 8 * PAGE, 65536), 0);
	info = query(f, p, 8 * PAGE);
	assert_int_equal(info.mixed, 0);
	assert_int_equal(info.granularity, 65536);
	assert_int_equal(info.n_ranges, 5);
	/* Only the parts that are system memory were told. */
	assert_int_equal(fake_n_advice(), 3);
	assert_int_equal(fake_advice(0).size, 2 * PAGE);
	assert_int_equal(fake_advice(1).addr, number(at(p, 4)));
	assert_int_equal(fake_advice(2).addr, number(at(p, 6)));
	assert_int_equal(svm_residency_query(f->space, p, 8 * PAGE, pages, 8, NULL), 0);
	for (unsigned int i = 0; i < 8; i++) {
		bool system = i != 2 && i != 3 && i != 5;

		assert_int_equal((pages[i].flags & SVM_PAGE_SYSTEM) != 0, system);
		assert_true(pages[i].flags & SVM_PAGE_HOST);
	}
	assert_int_equal(svm_prefetch(f->space, p, 8 * PAGE, HOST, &result), 0);
	assert_int_equal(result.already_there, 8 * PAGE);
	assert_int_equal(svm_unadvise(f->space, p, 8 * PAGE, KIND(GRANULARITY)), 0);
	assert_int_equal(query(f, p, 8 * PAGE).granularity, SVM_BLOCK_SIZE);
	assert_int_equal(svm_unregister(f->space, at(p, 2), 2 * PAGE), 0);
	assert_int_equal(svm_unregister(f->space, at(p, 5), PAGE), 0);
	munmap(p, 8 * PAGE);
	assert_int_equal(fake_wrong(), 0);
}

static void registering_keeps_hints(struct svm_fixture *f)
{
	void *p = map(4 * PAGE);
	struct fake_advice told;

	make_space(f, 0);
	open_native(f);
	assert_int_equal(set_granularity(f, p, 3 * PAGE, 65536), 0);
	assert_int_equal(svm_register(f->space, at(p, 1), 3 * PAGE, 0), 0);
	assert_int_equal(query(f, at(p, 1), 2 * PAGE).granularity, 65536);
	assert_int_equal(query(f, at(p, 3), PAGE).granularity, SVM_BLOCK_SIZE);
	assert_int_equal(query(f, p, PAGE).granularity, 65536);
	/* The driver has nothing to do with it any more. */
	told = fake_advice(fake_n_advice() - 1u);
	assert_int_equal(told.addr, number(at(p, 1)));
	assert_int_equal(told.hints.granularity, SVM_BLOCK_SIZE);
	assert_int_equal(svm_unregister(f->space, at(p, 1), 3 * PAGE), 0);
	assert_int_equal(query(f, at(p, 1), 3 * PAGE).granularity, SVM_BLOCK_SIZE);
	munmap(p, 4 * PAGE);
}

static void unmapped_memory_forgets(struct svm_fixture *f)
{
	struct fake_advice told;
	void *p = map(6 * PAGE);

	make_space(f, 0);
	open_native(f);
	assert_int_equal(set_granularity(f, p, 6 * PAGE, 65536), 0);
	munmap(at(p, 2), 2 * PAGE);
	assert_int_equal(all_calls(f, at(p, 2)), -ENOENT);
	told = fake_advice(fake_n_advice() - 1u);
	assert_int_equal(told.hints.granularity, SVM_BLOCK_SIZE);
	/* Other memory at the same place starts afresh; the neighbours keep theirs. */
	assert_ptr_equal(mmap(at(p, 2), 2 * PAGE, PROT_READ,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 at(p, 2));
	assert_int_equal(query(f, at(p, 2), 2 * PAGE).granularity, SVM_BLOCK_SIZE);
	assert_int_equal(query(f, p, 2 * PAGE).granularity, 65536);
	assert_int_equal(query(f, at(p, 4), 2 * PAGE).granularity, 65536);
	munmap(p, 6 * PAGE);
	assert_int_equal(svm_advice_query(f->space, p, 6 * PAGE,
					  &(struct svm_advice_info){
						  .size = sizeof(struct svm_advice_info) }),
			 -ENOENT);
	assert_int_equal(f->space->ctx.system.n_nodes, 0);
}

static void prefetches_are_checked(struct svm_fixture *f)
{
	struct svm_page_residency pages[8];
	struct svm_prefetch_result result;
	struct svm_location to;
	struct svm_device *device;
	void *p = map(8 * PAGE);

	make_space(f, 0);
	device = open_native(f);
	to = svm_device_location(device);
	memset(p, 1, 8 * PAGE);
	assert_int_equal(svm_prefetch(f->space, p, 2 * PAGE, to, &result), 0);
	assert_int_equal(result.bytes_moved, 2 * PAGE);
	fake_stick(number(at(p, 3)), PAGE);
	assert_int_equal(svm_prefetch(f->space, p, 4 * PAGE, to, &result), 0);
	assert_int_equal(result.bytes_moved, PAGE);
	assert_int_equal(result.already_there, 2 * PAGE);
	assert_int_equal(result.failed, PAGE);
	assert_outcome(result.outcome, SVM_DEGRADED, SVM_REASON_DRIVER);
	assert_int_equal(svm_residency_query(f->space, p, 8 * PAGE, pages, 8, NULL), 0);
	assert_int_equal(pages[0].devices, 1u << svm_device_id(device));
	assert_int_equal(pages[0].mapped, 1u << svm_device_id(device));
	assert_int_equal(pages[0].flags, SVM_PAGE_SYSTEM);
	assert_int_equal(pages[3].devices, 0);
	assert_int_equal(pages[3].flags, SVM_PAGE_SYSTEM | SVM_PAGE_HOST);
	/* Hints that forbid it. */
	assert_int_equal(advise(f, at(p, 4), PAGE,
				(struct svm_advice){ .kind = SVM_ADVICE_NO_ACCESS,
						     .device = svm_device_id(device) },
				NULL),
			 0);
	assert_int_equal(advise(f, at(p, 5), PAGE,
				(struct svm_advice){ .kind = SVM_ADVICE_MIGRATION,
						     .value = SVM_MIGRATE_NEVER },
				NULL),
			 0);
	assert_int_equal(svm_prefetch(f->space, at(p, 4), 3 * PAGE, to, &result), 0);
	assert_int_equal(result.skipped_pinned, 2 * PAGE);
	assert_int_equal(result.bytes_moved, PAGE);
	assert_outcome(result.outcome, SVM_DEGRADED, SVM_REASON_PINNED);
	/* An error is told with what moved all the same. */
	fake_stick(0, 0);
	fake_fail(FAKE_NATIVE_PREFETCH, 1, -ENOMEM, 1);
	assert_int_equal(svm_prefetch(f->space, at(p, 7), PAGE, to, &result), -ENOMEM);
	assert_int_equal(result.failed, PAGE);
	assert_outcome(result.outcome, SVM_DEGRADED, SVM_REASON_NO_MEMORY);
	/* Home again: pages 0, 1, 2 and 6 were away. */
	assert_int_equal(svm_prefetch(f->space, p, 8 * PAGE, HOST, &result), 0);
	assert_int_equal(result.bytes_moved, 4 * PAGE);
	assert_int_equal(result.already_there, 4 * PAGE);
	munmap(p, 8 * PAGE);
	assert_int_equal(fake_wrong(), 0);
}

static void a_driver_without_ops_is_no_failure(struct svm_fixture *f)
{
	struct svm_prefetch_result result;
	struct svm_page_residency page;
	struct svm_device *device;
	void *p = map(PAGE);

	make_space(f, 0);
	device = open_native(f);
	memset(p, 1, PAGE);
	fake_fail(FAKE_NATIVE_PREFETCH, 1, -EOPNOTSUPP, 1);
	assert_int_equal(svm_prefetch(f->space, p, PAGE, svm_device_location(device), &result),
			 -EOPNOTSUPP);
	assert_int_equal(result.failed, PAGE);
	/* Then it is the kernel who knows what is on the host: it all is. */
	fake_fail(FAKE_NATIVE_QUERY, 1, -EOPNOTSUPP, 1);
	assert_int_equal(svm_residency_query(f->space, p, PAGE, &page, 1, NULL), 0);
	assert_int_equal(page.flags, SVM_PAGE_SYSTEM | SVM_PAGE_HOST);
	assert_int_equal(page.devices, 0);
	/* The way home is a touch. */
	assert_int_equal(svm_prefetch(f->space, p, PAGE, svm_device_location(device), NULL), 0);
	fake_fail(FAKE_NATIVE_PREFETCH, 1, -EOPNOTSUPP, 1);
	assert_int_equal(svm_prefetch(f->space, p, PAGE, HOST, &result), 0);
	munmap(p, PAGE);
}

static void where_there_is_no_storage(struct svm_fixture *f)
{
	struct svm_device *device;
	struct svm_location to;
	void *managed;
	void *p = map(PAGE);

	make_space(f, SVM_SPACE_NATIVE);
	managed = fixture_alloc(f, PAGE, 0);
	assert_int_equal(svm_device_open(f->space, "fake", &device), 0);
	to = svm_device_location(device);
	assert_int_equal(svm_prefetch(f->space, p, PAGE, to, NULL), -EOPNOTSUPP);
	assert_int_equal(svm_prefetch(f->space, managed, PAGE, to, NULL), 0);
	assert_int_equal(svm_device_close(device), 0);
	device = open_native(f);
	to = svm_device_location(device);
	assert_int_equal(svm_prefetch(f->space, p, PAGE, to, NULL), 0);
	assert_int_equal(svm_prefetch(f->space, managed, PAGE, to, NULL), -EOPNOTSUPP);
	assert_int_equal(svm_pin(f->space, managed, PAGE, to), -EOPNOTSUPP);
	munmap(p, PAGE);
	assert_int_equal(fake_wrong(), 0);
}

static void prefetches_wait_and_are_cancelled(struct svm_fixture *f)
{
	struct svm_prefetch_range range = { .size = 3 * PAGE };
	struct svm_prefetch_result result;
	struct svm_prefetch *prefetch;
	struct svm_fence *gate;
	uint64_t done;
	uint64_t total;
	void *p = map(3 * PAGE);

	make_space(f, 0);
	range.addr = p;
	range.to = svm_device_location(open_native(f));
	assert_int_equal(svm_fence_create(f->space, &gate), 0);
	assert_int_equal(svm_prefetch_start(f->space, &range, 1, gate, 0, &prefetch), 0);
	assert_int_equal(svm_prefetch_progress(prefetch, &done, &total), 0);
	assert_int_equal(done, 0);
	assert_int_equal(total, 3 * PAGE);
	assert_int_equal(fake_calls(FAKE_NATIVE_PREFETCH), 0);
	assert_int_equal(svm_prefetch_cancel(prefetch), 0);
	assert_int_equal(svm_prefetch_wait(prefetch, -1, &result, 1), -ECANCELED);
	assert_int_equal(result.failed, 3 * PAGE);
	assert_int_equal(svm_prefetch_destroy(prefetch), 0);
	assert_int_equal(fake_calls(FAKE_NATIVE_PREFETCH), 0);
	assert_int_equal(svm_prefetch_start(f->space, &range, 1, gate, 0, &prefetch), 0);
	assert_int_equal(svm_fence_signal(gate, 0), 0);
	assert_int_equal(svm_prefetch_wait(prefetch, -1, &result, 1), 0);
	assert_int_equal(result.bytes_moved, 3 * PAGE);
	assert_int_equal(svm_prefetch_destroy(prefetch), 0);
	svm_fence_unref(gate);
	munmap(p, 3 * PAGE);
}

/* Acquired memory is on the host, mapped, and stays; then the device's own way to it works. */
static void a_native_device_reaches_what_was_acquired(struct svm_fixture *f)
{
	struct svm_access_range range = { .size = 2 * PAGE, .access = SVM_ACCESS_WRITE };
	struct svm_device *device;
	struct svm_access *access;
	struct svm_page_residency page;
	char *managed;
	char *p = map(2 * PAGE);

	make_space(f, 0);
	device = open_native(f);
	managed = fixture_alloc(f, 4 * PAGE, 0);
	range.addr = managed;
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, NULL), 0);
	page = fixture_page(f, managed);
	assert_int_equal(page.flags,
			 SVM_PAGE_HOST | SVM_PAGE_CPU_READ | SVM_PAGE_CPU_WRITE | SVM_PAGE_PINNED);
	assert_int_equal(page.devices, 0);
	assert_int_equal(svm_release(access, NULL), 0);
	assert_false(fixture_page(f, managed).flags & SVM_PAGE_PINNED);
	/* System memory needs nothing, and may be part of it. */
	range.addr = p;
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, NULL), 0);
	assert_int_equal(svm_release(access, NULL), 0);
	memset(p, 5, PAGE);
	assert_int_equal(svm_device_copy(device, managed + 100, p, PAGE, NULL, NULL), 0);
	assert_int_equal(managed[100], 5);
	assert_int_equal(managed[99], 0);
	assert_int_equal(managed[PAGE + 99], 5);
	assert_int_equal(managed[PAGE + 100], 0);
	assert_int_equal(svm_device_fill(device, p, 9, 2 * PAGE, NULL, NULL), 0);
	assert_int_equal(p[2 * PAGE - 1], 9);
	/* A hint keeps it out, on both kinds of memory; and what is not there is not. */
	assert_int_equal(advise(f, p, PAGE,
				(struct svm_advice){ .kind = SVM_ADVICE_NO_ACCESS,
						     .device = svm_device_id(device) },
				NULL),
			 0);
	assert_int_equal(svm_device_fill(device, p, 1, 2 * PAGE, NULL, NULL), -EACCES);
	assert_int_equal(p[2 * PAGE - 1], 9);
	munmap(p, 2 * PAGE);
	assert_int_equal(svm_device_fill(device, p, 1, PAGE, NULL, NULL), -ENOENT);
	assert_int_equal(fake_wrong(), 0);
}

static void a_lost_device_is_told_nothing(struct svm_fixture *f)
{
	struct svm_page_residency page;
	struct svm_prefetch_result result;
	struct svm_device_info info = { .size = sizeof(info) };
	struct svm_device *device;
	void *p = map(PAGE);
	unsigned int calls;

	make_space(f, 0);
	device = open_native(f);
	memset(p, 3, PAGE);
	assert_int_equal(svm_prefetch(f->space, p, PAGE, svm_device_location(device), NULL), 0);
	fake_die();
	do
		assert_int_equal(svm_device_query(device, &info), 0);
	while (!info.is_lost);
	calls = fake_calls(FAKE_NATIVE_ADVISE) + fake_calls(FAKE_NATIVE_PREFETCH) +
		fake_calls(FAKE_NATIVE_QUERY);
	assert_int_equal(set_granularity(f, p, PAGE, 65536), 0);
	assert_int_equal(svm_prefetch(f->space, p, PAGE, svm_device_location(device), &result),
			 -ENODEV);
	assert_int_equal(result.failed, PAGE);
	assert_int_equal(svm_prefetch(f->space, p, PAGE, HOST, NULL), 0);
	assert_int_equal(svm_residency_query(f->space, p, PAGE, &page, 1, NULL), 0);
	assert_int_equal(page.devices, 0);
	assert_int_equal(svm_device_fill(device, p, 1, PAGE, NULL, NULL), -ENODEV);
	assert_int_equal(fake_calls(FAKE_NATIVE_ADVISE) + fake_calls(FAKE_NATIVE_PREFETCH) +
				 fake_calls(FAKE_NATIVE_QUERY),
			 calls);
	assert_int_equal(svm_device_close(device), 0);
	munmap(p, PAGE);
	assert_int_equal(fake_wrong(), 0);
}

static void answers_that_are_none_count_as_refusals(struct svm_fixture *f)
{
	struct svm_prefetch_result result;
	struct svm_outcome outcome;
	struct svm_device *device;
	void *p = map(PAGE);

	make_space(f, 0);
	device = open_native(f);
	fake_answer_advice((struct svm_outcome){ 77, 99 });
	assert_int_equal(advise(f, p, PAGE,
				(struct svm_advice){ .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 },
				&outcome),
			 0);
	assert_outcome(outcome, SVM_DEGRADED, SVM_REASON_DRIVER);
	fake_fail(FAKE_NATIVE_PREFETCH, 1, 5, 1);
	assert_int_equal(svm_prefetch(f->space, p, PAGE, svm_device_location(device), &result),
			 -EPROTO);
	assert_int_equal(result.failed, PAGE);
	munmap(p, PAGE);
}

/* A driver's error may be the one that a wait ends with when it was too short. */
static void a_driver_that_timed_out_has_answered(struct svm_fixture *f)
{
	struct svm_prefetch_result result = { 0 };
	void *p = map(PAGE);

	make_space(f, 0);
	fake_fail(FAKE_NATIVE_PREFETCH, 1, -ETIMEDOUT, 1);
	assert_int_equal(svm_prefetch(f->space, p, PAGE, svm_device_location(open_native(f)),
				      &result),
			 -ETIMEDOUT);
	assert_int_equal(result.failed, PAGE);
	assert_int_equal(result.error, -ETIMEDOUT);
	munmap(p, PAGE);
}

static bool no_memory;

static int scarce_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		       void **ret_addr)
{
	return no_memory ? -ENOMEM
			 : svm_sys_real.mmap(addr, size, prot, flags, fd, offset, ret_addr);
}

static int no_thread(pthread_t *ret_thread, const char *name, void *(*fn)(void *), void *arg)
{
	return no_memory ? -EAGAIN : svm_sys_real.thread_create(ret_thread, name, fn, arg);
}

static void without_memory_nothing_changes(struct svm_fixture *f)
{
	const uint64_t n = 2048;
	struct svm_sys scarce = svm_sys_real;
	struct svm_device *device;
	void *p = map(2 * n * PAGE);
	int r = 0;

	scarce.mmap = scarce_mmap;
	scarce.thread_create = no_thread;
	no_memory = false;
	svm_sys = &scarce;
	make_space(f, 0);
	device = open_native(f);
	assert_int_equal(set_granularity(f, p, PAGE, 65536), 0);
	no_memory = true;
	assert_int_equal(svm_prefetch(f->space, p, PAGE, svm_device_location(device), NULL),
			 -ENOMEM);
	/* Every second page has a hint, until there is no memory for one more. */
	for (uint64_t i = 0; i < n && r == 0; i++)
		r = set_granularity(f, at(p, 2 * i), PAGE, 65536);
	assert_int_equal(r, -ENOMEM);
	/* Needs a range for each gap. */
	assert_int_equal(set_granularity(f, p, 2 * n * PAGE, 4096), -ENOMEM);
	assert_int_equal(query(f, p, PAGE).granularity, 65536);
	assert_int_equal(query(f, at(p, 1), PAGE).granularity, SVM_BLOCK_SIZE);
	no_memory = false;
	assert_int_equal(set_granularity(f, p, 2 * n * PAGE, 4096), 0);
	assert_int_equal(query(f, p, 2 * n * PAGE).n_ranges, 1);
	munmap(p, 2 * n * PAGE);
	fixture_space_end(f);
	svm_sys = &svm_sys_real;
}

struct racer {
	struct svm_fixture *f;
	void *memory;
	_Atomic bool stop;
	unsigned int n;
};

static void *advise_on(void *arg)
{
	struct racer *racer = arg;

	while (!atomic_load(&racer->stop)) {
		int r = set_granularity(racer->f, racer->memory, 8 * PAGE, 65536);

		if (r == 0)
			r = svm_unadvise(racer->f->space, at(racer->memory, 3), 2 * PAGE,
					 KIND(GRANULARITY));
		if (r < 0)
			abort();
		racer->n++;
	}
	return NULL;
}

/* The last thing that the device was told of a page is what the library says of it. */
static void devices_come_and_go_under_advice(struct svm_fixture *f)
{
	struct racer racer = { .f = f };
	pthread_t thread;

	make_space(f, SVM_SPACE_NATIVE);
	racer.memory = map(8 * PAGE);
	assert_int_equal(pthread_create(&thread, NULL, advise_on, &racer), 0);
	for (unsigned int i = 0; i < 50; i++)
		assert_int_equal(svm_device_close(open_native(f)), 0);
	atomic_store(&racer.stop, true);
	pthread_join(thread, NULL);
	assert_true(racer.n > 0);
	munmap(racer.memory, 8 * PAGE);
	assert_int_equal(fake_wrong(), 0);
}

static const struct svm_fixture_case cases[] = {
	FIXTURE_CASE(system_memory_is_for_native_spaces, FIXTURE_ONCE),
	FIXTURE_CASE(what_is_no_memory_is_refused_whole, FIXTURE_ONCE),
	FIXTURE_CASE(hints_split_join_and_go, FIXTURE_ONCE),
	FIXTURE_CASE(each_kind_is_told_with_its_value, FIXTURE_ONCE),
	FIXTURE_CASE(outcomes_are_the_drivers, FIXTURE_ONCE),
	FIXTURE_CASE(a_device_that_opens_later_learns_all, FIXTURE_ONCE),
	FIXTURE_CASE(spans_may_be_managed_in_part, FIXTURE_ONCE),
	FIXTURE_CASE(registering_keeps_hints, FIXTURE_ONCE),
	FIXTURE_CASE(unmapped_memory_forgets, FIXTURE_ONCE),
	FIXTURE_CASE(prefetches_are_checked, FIXTURE_ONCE),
	FIXTURE_CASE(a_driver_without_ops_is_no_failure, FIXTURE_ONCE),
	FIXTURE_CASE(where_there_is_no_storage, FIXTURE_ONCE),
	FIXTURE_CASE(prefetches_wait_and_are_cancelled, FIXTURE_ONCE),
	FIXTURE_CASE(a_native_device_reaches_what_was_acquired, FIXTURE_ONCE),
	FIXTURE_CASE(a_lost_device_is_told_nothing, FIXTURE_ONCE),
	FIXTURE_CASE(answers_that_are_none_count_as_refusals, FIXTURE_ONCE),
	FIXTURE_CASE(a_driver_that_timed_out_has_answered, FIXTURE_ONCE),
	FIXTURE_CASE(without_memory_nothing_changes, FIXTURE_ONCE),
	FIXTURE_CASE(devices_come_and_go_under_advice, FIXTURE_ONCE),
};

int main(int argc, char **argv)
{
	int r;

	fake_reset();
	r = fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
	fake_unplug();
	return r;
}
