/* SPDX-License-Identifier: MIT */
/*
 * Shown here: ranges split, join and are found as the hints of single pages say, by hand and at random
 * against an array of pages; that an update is all or nothing without memory; that a device is forgotten.
 */
#include "fixture.h"

#include "range.h"
#include "sys.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE	FIXTURE_PAGE
#define BASE	UINT64_C(0x10000000)
#define N_PAGES 64u

static struct svm_ctx ctx;
static struct svm_alloc allocs[3];
static struct svm_sys fake_sys;
static int mmap_error;

static int fake_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		     void **ret_addr)
{
	if (mmap_error)
		return mmap_error;
	return svm_sys_real.mmap(addr, size, prot, flags, fd, offset, ret_addr);
}

static int set_up(void **state)
{
	(void)state;
	fake_sys = svm_sys_real;
	fake_sys.mmap = fake_mmap;
	svm_sys = &fake_sys;
	mmap_error = 0;
	memset(&ctx, 0, sizeof(ctx));
	memset(allocs, 0, sizeof(allocs));
	svm_tree_init(&ctx.ranges);
	svm_pool_init(&ctx.range_pool, &ctx.arena, sizeof(struct svm_range));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 3; i++)
		if (allocs[i].size)
			svm_range_remove(&ctx, &allocs[i]);
	svm_pool_finish(&ctx.range_pool);
	svm_sys = &svm_sys_real;
	return ctx.ranges.n_nodes || atomic_load(&ctx.arena.bytes) ? -1 : 0;
}

static uint64_t at(uint64_t page)
{
	return BASE + page * PAGE;
}

static void add(unsigned int i, uint64_t first, uint64_t n)
{
	allocs[i].base = at(first);
	allocs[i].size = n * PAGE;
	allocs[i].id = i + 1u;
	assert_int_equal(svm_range_add(&ctx, &allocs[i]), 0);
}

static const struct svm_advice read_mostly = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };

static struct svm_advice accessed_by(uint32_t device)
{
	return (struct svm_advice){ .kind = SVM_ADVICE_ACCESSED_BY, .device = device };
}

static int set(uint64_t first, uint64_t end, struct svm_advice advice)
{
	return svm_range_update(&ctx, at(first), at(end), &advice, 1, 0);
}

static int unset(uint64_t first, uint64_t end, uint32_t kinds)
{
	return svm_range_update(&ctx, at(first), at(end), NULL, 0, kinds);
}

static void assert_range(uint64_t page, uint64_t first, uint64_t end)
{
	const struct svm_range *range = svm_range_find(&ctx, at(page));

	assert_non_null(range);
	assert_int_equal((range->node.start - BASE) / PAGE, first);
	assert_int_equal((range->node.end - BASE) / PAGE, end);
}

static void an_update_cuts_what_it_must(void **state)
{
	(void)state;
	add(0, 0, 16);
	assert_int_equal(set(4, 8, read_mostly), 0);
	assert_int_equal(ctx.ranges.n_nodes, 3);
	assert_range(3, 0, 4);
	assert_range(4, 4, 8);
	assert_range(8, 8, 16);
	assert_true(svm_range_find(&ctx, at(5))->hints.read_mostly);
	assert_false(svm_range_find(&ctx, at(8))->hints.read_mostly);
	/* At its edges nothing is cut. */
	assert_int_equal(set(0, 4, accessed_by(1)), 0);
	assert_int_equal(set(8, 16, accessed_by(2)), 0);
	assert_int_equal(ctx.ranges.n_nodes, 3);
	/* From the middle of one to the middle of another. */
	assert_int_equal(set(2, 10, accessed_by(3)), 0);
	assert_int_equal(ctx.ranges.n_nodes, 5);
	assert_range(2, 2, 4);
	assert_range(9, 8, 10);
	assert_int_equal(svm_range_find(&ctx, at(2))->hints.accessed_by, 1u << 1 | 1u << 3);
	assert_int_equal(svm_range_find(&ctx, at(5))->hints.accessed_by, 1u << 3);
	assert_true(svm_tree_validate(&ctx.ranges));
}

static void equal_neighbours_join(void **state)
{
	(void)state;
	add(0, 0, 16);
	assert_int_equal(set(4, 8, read_mostly), 0);
	/* To the left, to the right, then all. */
	assert_int_equal(set(2, 4, read_mostly), 0);
	assert_range(5, 2, 8);
	assert_int_equal(set(8, 9, read_mostly), 0);
	assert_range(5, 2, 9);
	assert_int_equal(set(3, 5, read_mostly), 0);
	assert_int_equal(ctx.ranges.n_nodes, 3);
	assert_int_equal(unset(0, 16, 1u << SVM_ADVICE_READ_MOSTLY), 0);
	assert_int_equal(ctx.ranges.n_nodes, 1);
	assert_range(7, 0, 16);
	/* Unset of what is not set is fine. */
	assert_int_equal(unset(3, 7, (1u << SVM_ADVICE_KINDS) - 1u), 0);
	assert_int_equal(ctx.ranges.n_nodes, 1);
}

static void allocations_never_join(void **state)
{
	(void)state;
	add(0, 0, 8);
	add(1, 8, 8);
	assert_int_equal(set(4, 12, read_mostly), 0);
	assert_int_equal(ctx.ranges.n_nodes, 4);
	assert_int_equal(unset(0, 16, 1u << SVM_ADVICE_READ_MOSTLY), 0);
	assert_int_equal(ctx.ranges.n_nodes, 2);
	assert_range(7, 0, 8);
	assert_range(8, 8, 16);
}

static void unset_and_set_are_one_update(void **state)
{
	const struct svm_advice advice[2] = { accessed_by(4), read_mostly };

	(void)state;
	add(0, 0, 8);
	assert_int_equal(set(0, 8, accessed_by(1)), 0);
	assert_int_equal(
		svm_range_update(&ctx, at(0), at(4), advice, 2, 1u << SVM_ADVICE_ACCESSED_BY), 0);
	assert_int_equal(svm_range_find(&ctx, at(0))->hints.accessed_by, 1u << 4);
	assert_true(svm_range_find(&ctx, at(0))->hints.read_mostly);
	assert_int_equal(svm_range_find(&ctx, at(4))->hints.accessed_by, 1u << 1);
}

static void coverage(void **state)
{
	(void)state;
	add(0, 0, 4);
	add(1, 4, 4);
	add(2, 10, 4);
	assert_int_equal(set(2, 3, read_mostly), 0);
	assert_int_equal(svm_range_check(&ctx, at(0), at(8)), 0);
	assert_int_equal(svm_range_check(&ctx, at(3), at(5)), 0);
	assert_int_equal(svm_range_check(&ctx, at(0), at(9)), -ENOENT);
	assert_int_equal(svm_range_check(&ctx, at(6), at(12)), -ENOENT);
	assert_int_equal(svm_range_check(&ctx, at(8), at(10)), -ENOENT);
	assert_int_equal(svm_range_check(&ctx, at(9), at(11)), -ENOENT);
	assert_int_equal(svm_range_check(&ctx, at(13), at(14)), 0);
	assert_int_equal(svm_range_check(&ctx, at(13), at(15)), -ENOENT);
	assert_null(svm_range_find(&ctx, at(8)));
	assert_null(svm_range_next(svm_range_find(&ctx, at(7)), at(12)));
	assert_null(svm_range_next(svm_range_find(&ctx, at(3)), at(4)));
	assert_non_null(svm_range_next(svm_range_find(&ctx, at(3)), at(4) + 1u));
}

static void what_is_dying_is_seen_by_those_who_finish_it_only(void **state)
{
	(void)state;
	add(0, 0, 4);
	add(1, 4, 4);
	allocs[1].dying = true;
	assert_null(svm_range_find(&ctx, at(5)));
	assert_non_null(svm_range_at(&ctx, at(5)));
	assert_null(svm_range_next(svm_range_find(&ctx, at(0)), at(8)));
	assert_int_equal(svm_range_check(&ctx, at(0), at(5)), -ENOENT);
	assert_int_equal(svm_range_check(&ctx, at(0), at(4)), 0);
}

static void what_is_managed_is_not_added_again(void **state)
{
	struct svm_alloc twice = { .base = at(3), .size = 2 * PAGE };

	(void)state;
	add(0, 0, 4);
	assert_int_equal(svm_range_add(&ctx, &twice), -EEXIST);
	assert_int_equal(ctx.range_pool.n_used, 1);
	twice.base = at(4);
	assert_int_equal(svm_range_add(&ctx, &twice), 0);
	svm_range_remove(&ctx, &twice);
	assert_int_equal(ctx.range_pool.n_used, 1);
	assert_non_null(svm_range_find(&ctx, at(3)));
}

/* All objects that the pool has, so that the next comes from the kernel. */
static unsigned int drain(struct svm_range **taken, unsigned int room, unsigned int leave)
{
	unsigned int n = 0;

	mmap_error = -ENOMEM;
	while (n < room && (taken[n] = svm_pool_get(&ctx.range_pool)) != NULL)
		n++;
	assert_true(n < room && n >= leave);
	for (unsigned int i = 0; i < leave; i++)
		svm_pool_put(&ctx.range_pool, taken[--n]);
	return n;
}

static void without_memory_nothing_is_changed(void **state)
{
	static struct svm_range *taken[4096];
	struct svm_alloc one_more = { .base = at(40), .size = PAGE };
	unsigned int n;

	(void)state;
	add(0, 0, 16);
	assert_int_equal(set(8, 12, read_mostly), 0);
	n = drain(taken, 4096, 1);
	/* Two cuts are needed and there is room for one. */
	assert_int_equal(set(2, 6, accessed_by(1)), -ENOMEM);
	assert_int_equal(set(2, 10, accessed_by(1)), -ENOMEM);
	assert_int_equal(ctx.ranges.n_nodes, 3);
	assert_range(2, 0, 8);
	assert_int_equal(svm_range_find(&ctx, at(2))->hints.accessed_by, 0);
	assert_int_equal(svm_range_find(&ctx, at(9))->hints.accessed_by, 0);
	/* One cut is possible, at either end; the object was given back each time. */
	assert_int_equal(set(0, 6, accessed_by(1)), 0);
	assert_range(7, 6, 8);
	assert_int_equal(set(7, 8, accessed_by(2)), -ENOMEM);
	assert_int_equal(svm_range_add(&ctx, &one_more), -ENOMEM);
	/* None is needed. */
	assert_int_equal(set(0, 16, accessed_by(3)), 0);
	assert_true(svm_tree_validate(&ctx.ranges));
	while (n > 0)
		svm_pool_put(&ctx.range_pool, taken[--n]);
	mmap_error = 0;
	assert_int_equal(set(7, 8, accessed_by(2)), 0);
}

static void a_device_that_goes_leaves_no_trace(void **state)
{
	const struct svm_advice preferred = { .kind = SVM_ADVICE_PREFERRED_LOCATION,
					      .location = { SVM_LOCATION_DEVICE, 2 } };
	const struct svm_advice no_access = { .kind = SVM_ADVICE_NO_ACCESS, .device = 2 };
	const struct svm_advice in_place = { .kind = SVM_ADVICE_ACCESS_IN_PLACE, .device = 2 };

	(void)state;
	add(0, 0, 16);
	add(1, 20, 4);
	assert_int_equal(set(0, 2, preferred), 0);
	assert_int_equal(set(4, 6, accessed_by(2)), 0);
	assert_int_equal(set(8, 10, no_access), 0);
	assert_int_equal(set(10, 12, accessed_by(3)), 0);
	assert_int_equal(set(20, 21, in_place), 0);
	svm_range_forget_device(&ctx, 1);
	assert_int_equal(ctx.ranges.n_nodes, 9);
	svm_range_forget_device(&ctx, 2);
	assert_int_equal(ctx.ranges.n_nodes, 4);
	assert_range(0, 0, 10);
	assert_range(11, 10, 12);
	assert_range(15, 12, 16);
	assert_range(22, 20, 24);
	assert_int_equal(svm_range_find(&ctx, at(0))->hints.preferred.kind, SVM_LOCATION_NONE);
	assert_int_equal(svm_range_find(&ctx, at(11))->hints.accessed_by, 1u << 3);
	assert_true(svm_tree_validate(&ctx.ranges));
}

/* One entry per page: the hints it should have, and whose it is (0: nobody's). */
struct model {
	struct svm_hints hints;
	unsigned int owner;
};

static void compare(const struct model *model)
{
	uint64_t n_ranges = 0;

	for (unsigned int p = 0; p < N_PAGES; p++) {
		const struct svm_range *range = svm_range_find(&ctx, at(p));
		bool starts;

		assert_int_equal(range != NULL, model[p].owner != 0);
		if (!range)
			continue;
		assert_ptr_equal(range->alloc, &allocs[model[p].owner - 1u]);
		assert_true(svm_hints_equal(&range->hints, &model[p].hints));
		starts = p == 0 || model[p - 1u].owner != model[p].owner ||
			 !svm_hints_equal(&model[p - 1u].hints, &model[p].hints);
		assert_int_equal(range->node.start == at(p), starts);
		n_ranges += starts;
	}
	assert_int_equal(ctx.ranges.n_nodes, n_ranges);
	assert_true(svm_tree_validate(&ctx.ranges));
}

static struct svm_advice random_advice(uint64_t (*next)(void))
{
	struct svm_advice advice = { .kind = (uint32_t)(next() % 3u) };

	if (advice.kind == 0)
		return accessed_by((uint32_t)(next() % 3u));
	if (advice.kind == 1)
		return (struct svm_advice){ .kind = SVM_ADVICE_READ_MOSTLY, .value = next() % 2u };
	return (struct svm_advice){ .kind = SVM_ADVICE_PREFERRED_LOCATION,
				    .location = { SVM_LOCATION_DEVICE, (uint32_t)(next() % 2u) } };
}

static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state += UINT64_C(0x9e3779b97f4a7c15);
	return fixture_word(3, random_state) >> 8;
}

static void as_an_array_of_pages_says(void **state)
{
	static const unsigned int bounds[] = { 0, 20, 41, N_PAGES };
	const char *given = getenv("SVM_TEST_SEED");
	struct model model[N_PAGES] = { 0 };

	(void)state;
	random_state = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
	print_message("SVM_TEST_SEED=%llu\n", (unsigned long long)random_state);
	for (unsigned int i = 0; i < 3; i++) {
		add(i, bounds[i], bounds[i + 1u] - bounds[i]);
		for (unsigned int p = bounds[i]; p < bounds[i + 1u]; p++)
			model[p] = (struct model){ svm_hints_none, i + 1u };
	}
	for (unsigned int round = 0; round < 3000; round++) {
		uint64_t first = next_random() % N_PAGES;
		uint64_t end = first + 1u + next_random() % (N_PAGES - first);
		struct svm_advice advice = random_advice(next_random);
		uint32_t kinds = (uint32_t)(next_random() % 4u == 0
						    ? next_random() % (1u << SVM_ADVICE_KINDS)
						    : 0);
		uint32_t gone = (uint32_t)(next_random() % 40u);

		assert_int_equal(svm_range_update(&ctx, at(first), at(end), &advice, 1, kinds), 0);
		for (uint64_t p = first; p < end; p++) {
			svm_hints_unset(&model[p].hints, kinds);
			svm_hints_set(&model[p].hints, &advice);
		}
		if (gone < 3) {
			svm_range_forget_device(&ctx, gone);
			for (unsigned int p = 0; p < N_PAGES; p++)
				svm_hints_forget_device(&model[p].hints, gone);
		}
		compare(model);
	}
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(an_update_cuts_what_it_must),
		TEST(equal_neighbours_join),
		TEST(allocations_never_join),
		TEST(unset_and_set_are_one_update),
		TEST(coverage),
		TEST(what_is_dying_is_seen_by_those_who_finish_it_only),
		TEST(what_is_managed_is_not_added_again),
		TEST(without_memory_nothing_is_changed),
		TEST(a_device_that_goes_leaves_no_trace),
		TEST(as_an_array_of_pages_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
