/* SPDX-License-Identifier: MIT */
/* Shown here: which faults make a stream, how far ahead of it is asked for, and what ends it. */
#include "stream.h"

#include "util.h"
#include <libsvm/types.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define BLOCK ((uint64_t)SVM_BLOCK_SIZE)
#define BASE  (UINT64_C(1) << 40)

static struct svm_streams streams;

static int setup(void **state)
{
	(void)state;
	svm_streams_init(&streams);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	svm_streams_finish(&streams);
	return 0;
}

static uint64_t block(uint64_t i)
{
	return BASE + i * BLOCK;
}

/* A fault in block i asks for n blocks from block first on. */
static void faults(uint64_t i, uint32_t n, uint64_t first)
{
	uint64_t start = 0;

	assert_int_equal(svm_streams_fault(&streams, block(i), &start), n);
	if (n)
		assert_int_equal(start, block(first));
}

static void one_fault_is_no_stream(void **state)
{
	(void)state;
	faults(0, 0, 0);
	faults(0, 0, 0);
	faults(7, 0, 0);
	faults(100, 0, 0);
}

static void the_window_grows_while_its_first_blocks_fault(void **state)
{
	(void)state;
	faults(0, 0, 0);
	faults(1, 2, 2);
	faults(1, 0, 0); /* another page of it */
	faults(2, 4, 4);
	faults(4, 8, 8);
	faults(8, 8, 16);
	faults(16, 8, 24);
}

static void blocks_that_did_not_come_in_time_ask_for_no_more(void **state)
{
	(void)state;
	faults(0, 0, 0);
	faults(1, 2, 2);
	faults(2, 4, 4);
	faults(3, 8, 8);
	/* Blocks up to 16 are under way: at most a window, and what is left of the one before. */
	faults(4, 0, 0);
	faults(7, 0, 0);
	faults(8, 8, 16);
}

static void going_back_or_far_ahead_is_another_stream(void **state)
{
	(void)state;
	faults(10, 0, 0);
	faults(9, 0, 0);
	faults(8, 0, 0);
	faults(20, 0, 0);
	faults(22, 0, 0);
}

static void several_streams_at_a_time(void **state)
{
	(void)state;
	for (uint64_t s = 0; s < SVM_STREAMS; s++)
		faults(1000 * s, 0, 0);
	for (uint64_t s = 0; s < SVM_STREAMS; s++)
		faults(1000 * s + 1, 2, 1000 * s + 2);
	for (uint64_t s = 0; s < SVM_STREAMS; s++)
		faults(1000 * s + 2, 4, 1000 * s + 4);
	/* One more takes the place of the oldest. */
	faults(9000, 0, 0);
	faults(4, 0, 0);
}

static void a_stream_that_others_cross_ends(void **state)
{
	(void)state;
	faults(0, 0, 0);
	faults(1, 2, 2);
	svm_streams_stop(&streams, block(1)); /* behind it */
	svm_streams_stop(&streams, block(4)); /* not asked for yet */
	faults(2, 4, 4);
	svm_streams_stop(&streams, block(5));
	faults(4, 0, 0);
	faults(5, 2, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_fault_is_no_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(the_window_grows_while_its_first_blocks_fault,
						setup, teardown),
		cmocka_unit_test_setup_teardown(blocks_that_did_not_come_in_time_ask_for_no_more,
						setup, teardown),
		cmocka_unit_test_setup_teardown(going_back_or_far_ahead_is_another_stream, setup,
						teardown),
		cmocka_unit_test_setup_teardown(several_streams_at_a_time, setup, teardown),
		cmocka_unit_test_setup_teardown(a_stream_that_others_cross_ends, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
