/* SPDX-License-Identifier: MIT */
/* Shown here: the table of owners against an array with one entry per page, at random, and at its limits. */
#include "owner.h"

#include "range.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define PAGE	 ((uint64_t)SVM_PAGE_SIZE)
#define BLOCK	 ((uint64_t)SVM_BLOCK_SIZE)
#define BASE	 (UINT64_C(1) << 40)
#define N_BLOCKS 12u
#define N_PAGES	 (N_BLOCKS * SVM_BLOCK_PAGES)

static struct svm_ctx ctx;
static struct svm_alloc *model[N_PAGES];

static int setup(void **state)
{
	(void)state;
	memset(&ctx, 0, sizeof(ctx));
	memset(model, 0, sizeof(model));
	ctx.host.window_base = BASE;
	ctx.host.window_size = N_BLOCKS * BLOCK;
	return svm_owner_init(&ctx);
}

static int teardown(void **state)
{
	(void)state;
	/* Pools check that every list has been given back. */
	svm_owner_finish(&ctx);
	return 0;
}

static uint64_t at(uint64_t page)
{
	return BASE + page * PAGE;
}

static void note(struct svm_alloc *alloc, struct svm_alloc *owner)
{
	for (uint64_t p = 0; p < alloc->size / PAGE; p++)
		model[(alloc->base - BASE) / PAGE + p] = owner;
}

static struct svm_alloc *add(uint64_t page, uint64_t n_pages)
{
	struct svm_alloc *alloc = calloc(1, sizeof(*alloc));

	assert_non_null(alloc);
	alloc->base = at(page);
	alloc->size = n_pages * PAGE;
	assert_int_equal(svm_owner_add(&ctx, alloc), 0);
	note(alloc, alloc);
	return alloc;
}

static void drop(struct svm_alloc *alloc)
{
	svm_owner_remove(&ctx, alloc);
	note(alloc, NULL);
	free(alloc);
}

static void assert_as_model(void)
{
	for (uint64_t p = 0; p < N_PAGES; p++) {
		assert_ptr_equal(svm_owner_at(&ctx, at(p)), model[p]);
		assert_ptr_equal(svm_owner_at(&ctx, at(p) + PAGE - 1u), model[p]);
	}
}

static void whole_blocks_have_one_owner(void **state)
{
	struct svm_alloc *alloc;

	(void)state;
	/* The last of its blocks is its own in part only. */
	alloc = add(SVM_BLOCK_PAGES, 2 * SVM_BLOCK_PAGES + 3);
	assert_as_model();
	drop(alloc);
	assert_as_model();
}

static void nothing_outside_the_window(void **state)
{
	struct svm_alloc elsewhere = { .base = BASE - BLOCK, .size = BLOCK };

	(void)state;
	assert_int_equal(svm_owner_add(&ctx, &elsewhere), 0);
	assert_null(svm_owner_at(&ctx, BASE - 1u));
	assert_null(svm_owner_at(&ctx, BASE + N_BLOCKS * BLOCK));
	assert_null(svm_owner_at(&ctx, 0));
	assert_null(svm_owner_at(&ctx, UINT64_MAX));
	svm_owner_remove(&ctx, &elsewhere);
}

static void a_block_full_of_single_pages(void **state)
{
	struct svm_alloc *allocs[SVM_BLOCK_PAGES];

	(void)state;
	/* In an order that is neither up nor down. */
	for (unsigned int i = 0; i < SVM_BLOCK_PAGES; i++)
		allocs[i] = add(i * 77u % SVM_BLOCK_PAGES, 1);
	assert_as_model();
	for (unsigned int i = 0; i < SVM_BLOCK_PAGES; i++)
		drop(allocs[i]);
	assert_as_model();
}

static bool is_free(uint64_t page, uint64_t n_pages)
{
	for (uint64_t p = page; p < page + n_pages; p++)
		if (model[p])
			return false;
	return true;
}

/* As the layout of the window gives addresses out: small ones share blocks, others begin at a block. */
static void random_layouts(void **state)
{
	struct svm_alloc *allocs[512] = { NULL };
	uint64_t seed = 20261;

	(void)state;
	for (unsigned int round = 0; round < 20000; round++) {
		unsigned int i;

		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
		i = (unsigned int)(seed >> 33) % 512u;
		if (allocs[i]) {
			drop(allocs[i]);
			allocs[i] = NULL;
		} else if (seed >> 60) {
			uint64_t n = 1 + (seed >> 20) % 24;
			uint64_t page = (seed >> 40) % (4 * SVM_BLOCK_PAGES);

			if (page % SVM_BLOCK_PAGES + n <= SVM_BLOCK_PAGES && is_free(page, n))
				allocs[i] = add(page, n);
		} else {
			uint64_t n = SVM_BLOCK_PAGES / 2 + 1 + (seed >> 20) % 1000;
			uint64_t page = (4 + (seed >> 40) % 5) * SVM_BLOCK_PAGES;
			uint64_t room =
				(n + SVM_BLOCK_PAGES - 1) / SVM_BLOCK_PAGES * SVM_BLOCK_PAGES;

			if (is_free(page, room))
				allocs[i] = add(page, n);
		}
		if (round % 500 == 0)
			assert_as_model();
	}
	assert_as_model();
	for (unsigned int i = 0; i < 512; i++)
		if (allocs[i])
			drop(allocs[i]);
	assert_as_model();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(whole_blocks_have_one_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_outside_the_window, setup, teardown),
		cmocka_unit_test_setup_teardown(a_block_full_of_single_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(random_layouts, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
