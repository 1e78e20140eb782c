/* SPDX-License-Identifier: MIT */
/* Shown here: page masks agree with a plain array of booleans, at word edges too. */
#include "bits.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static const unsigned int edges[] = { 0,   1,	31,  62,  63,  64,  65, 127,
				      128, 255, 256, 447, 448, 510, 511 };

#define N_EDGES (sizeof(edges) / sizeof(edges[0]))

static void single_bits(void **state)
{
	struct svm_mask m;

	(void)state;
	svm_mask_zero(&m);
	assert_true(svm_mask_empty(&m));
	for (unsigned int i = 0; i < N_EDGES; i++) {
		svm_mask_set(&m, edges[i]);
		assert_true(svm_mask_test(&m, edges[i]));
		assert_int_equal(svm_mask_count(&m), i + 1);
	}
	for (unsigned int i = 0; i < N_EDGES; i++) {
		svm_mask_clear(&m, edges[i]);
		assert_false(svm_mask_test(&m, edges[i]));
		assert_int_equal(svm_mask_count(&m), N_EDGES - i - 1);
	}
	assert_true(svm_mask_empty(&m));
	svm_mask_fill(&m);
	assert_int_equal(svm_mask_count(&m), SVM_BLOCK_PAGES);
}

/* Every pair of edges as a range: exactly its pages are set, and it is found as one run. */
static void ranges_and_runs(void **state)
{
	(void)state;
	for (unsigned int a = 0; a < N_EDGES; a++) {
		for (unsigned int b = a; b < N_EDGES; b++) {
			unsigned int first = edges[a];
			unsigned int n = edges[b] - edges[a] + 1;
			unsigned int page = 0;
			struct svm_mask m;

			svm_mask_zero(&m);
			svm_mask_set_range(&m, first, n);
			for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
				assert_int_equal(svm_mask_test(&m, p), p >= first && p < first + n);
			assert_int_equal(svm_mask_run(&m, &page), n);
			assert_int_equal(page, first);
			page = first + n;
			assert_int_equal(svm_mask_run(&m, &page), 0);
		}
	}
}

static void empty_range_sets_nothing(void **state)
{
	struct svm_mask m;

	(void)state;
	svm_mask_zero(&m);
	svm_mask_set_range(&m, 64, 0);
	svm_mask_set_range(&m, SVM_BLOCK_PAGES, 0);
	assert_true(svm_mask_empty(&m));
}

static void run_may_start_within(void **state)
{
	unsigned int page = 70;
	struct svm_mask m;

	(void)state;
	svm_mask_zero(&m);
	svm_mask_set_range(&m, 60, 200);
	assert_int_equal(svm_mask_run(&m, &page), 190);
	assert_int_equal(page, 70);
}

/* Random masks: the runs, one after the other, are all set pages and nothing else. */
static void runs_cover_random_masks(void **state)
{
	unsigned int seed = 12345;

	(void)state;
	for (unsigned int round = 0; round < 200; round++) {
		unsigned int density = 1u + round % 16u;
		struct svm_mask m;
		struct svm_mask seen;
		unsigned int p;
		unsigned int n;
		unsigned int last_end = 0;

		svm_mask_zero(&m);
		svm_mask_zero(&seen);
		for (p = 0; p < SVM_BLOCK_PAGES; p++) {
			seed = seed * 1103515245u + 12345u;
			if ((seed >> 16) % 16u < density)
				svm_mask_set(&m, p);
		}
		for (p = 0; (n = svm_mask_run(&m, &p)) != 0; p += n) {
			/* Runs are whole: a page that is not set lies between two of them. */
			assert_true(last_end == 0 || p > last_end);
			last_end = p + n;
			svm_mask_set_range(&seen, p, n);
		}
		assert_true(svm_mask_equal(&m, &seen));
	}
}

static void set_algebra(void **state)
{
	struct svm_mask a;
	struct svm_mask b;
	struct svm_mask m;

	(void)state;
	svm_mask_zero(&a);
	svm_mask_zero(&b);
	svm_mask_set_range(&a, 0, 300);
	svm_mask_set_range(&b, 200, 300);
	assert_true(svm_mask_intersects(&a, &b));
	assert_false(svm_mask_subset(&a, &b));

	m = a;
	svm_mask_or(&m, &b);
	assert_int_equal(svm_mask_count(&m), 500);
	assert_true(svm_mask_subset(&a, &m));
	assert_true(svm_mask_subset(&b, &m));

	m = a;
	svm_mask_and(&m, &b);
	assert_int_equal(svm_mask_count(&m), 100);
	assert_true(svm_mask_subset(&m, &a));
	assert_true(svm_mask_subset(&m, &b));

	m = a;
	svm_mask_andnot(&m, &b);
	assert_int_equal(svm_mask_count(&m), 200);
	assert_false(svm_mask_intersects(&m, &b));
	assert_false(svm_mask_equal(&m, &a));

	svm_mask_zero(&m);
	assert_true(svm_mask_subset(&m, &a));
	assert_false(svm_mask_intersects(&m, &a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(single_bits),
		cmocka_unit_test(ranges_and_runs),
		cmocka_unit_test(empty_range_sets_nothing),
		cmocka_unit_test(run_may_start_within),
		cmocka_unit_test(runs_cover_random_masks),
		cmocka_unit_test(set_algebra),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
