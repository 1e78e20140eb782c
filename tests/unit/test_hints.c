/* SPDX-License-Identifier: MIT */
/* Hints as values: what is accepted, what setting and unsetting change, what a query over several ranges says. */
#include "bits.h"
#include "hints.h"
#include "util.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define KIND(k)	  (1u << (k))
#define ALL_KINDS (KIND(SVM_ADVICE_KINDS) - 1u)

static struct svm_advice with_value(uint32_t kind, uint64_t value)
{
	return (struct svm_advice){ .kind = kind, .value = value };
}

static struct svm_advice for_device(uint32_t kind, uint32_t device)
{
	return (struct svm_advice){ .kind = kind, .device = device };
}

static struct svm_advice preferred(uint32_t kind, uint32_t id)
{
	return (struct svm_advice){ .kind = SVM_ADVICE_PREFERRED_LOCATION,
				    .location = { kind, id } };
}

static void set(struct svm_hints *hints, struct svm_advice advice)
{
	assert_int_equal(svm_hints_check(&advice), 0);
	svm_hints_set(hints, &advice);
}

static void assert_check(struct svm_advice advice, int expected)
{
	assert_int_equal(svm_hints_check(&advice), expected);
}

/* ---- What is accepted ------------------------------------------------------------------------- */

static void contract_3_7_unknown_advice_is_invalid(void **state)
{
	(void)state;
	assert_check(with_value(SVM_ADVICE_KINDS, 0), -EINVAL);
	assert_check(with_value(UINT32_MAX, 0), -EINVAL);
}

static void contract_3_3_location_ids(void **state)
{
	(void)state;
	assert_check(preferred(SVM_LOCATION_NONE, 0), 0);
	assert_check(preferred(SVM_LOCATION_HOST, 0), 0);
	assert_check(preferred(SVM_LOCATION_HOST_NUMA, 0), 0);
	assert_check(preferred(SVM_LOCATION_HOST_NUMA, 3), 0);
	assert_check(preferred(SVM_LOCATION_HOST_NUMA_CURRENT, 0), 0);
	assert_check(preferred(SVM_LOCATION_DEVICE, 0), 0);
	assert_check(preferred(SVM_LOCATION_DEVICE, SVM_MAX_DEVICES - 1u), 0);
	assert_check(preferred(SVM_LOCATION_NONE, 1), -EINVAL);
	assert_check(preferred(SVM_LOCATION_HOST, 1), -EINVAL);
	assert_check(preferred(SVM_LOCATION_HOST_NUMA_CURRENT, 1), -EINVAL);
	assert_check(preferred(SVM_LOCATION_DEVICE + 1u, 0), -EINVAL);
	assert_check(preferred(UINT32_MAX, 0), -EINVAL);
}

static void values_out_of_range_are_invalid(void **state)
{
	static const struct {
		uint64_t value;
		uint32_t kind;
		int expected;
	} rows[] = {
		{ 0, SVM_ADVICE_READ_MOSTLY, 0 },
		{ 1, SVM_ADVICE_READ_MOSTLY, 0 },
		{ 2, SVM_ADVICE_READ_MOSTLY, -EINVAL },
		{ SVM_ATOMICS_SYSTEM, SVM_ADVICE_ATOMICS, 0 },
		{ SVM_ATOMICS_SYSTEM + 1, SVM_ADVICE_ATOMICS, -EINVAL },
		{ SVM_MIGRATE_NEVER, SVM_ADVICE_MIGRATION, 0 },
		{ SVM_MIGRATE_NEVER + 1, SVM_ADVICE_MIGRATION, -EINVAL },
		{ SVM_PAGE_SIZE, SVM_ADVICE_GRANULARITY, 0 },
		{ 65536, SVM_ADVICE_GRANULARITY, 0 },
		{ SVM_BLOCK_SIZE, SVM_ADVICE_GRANULARITY, 0 },
		{ 0, SVM_ADVICE_GRANULARITY, -EINVAL },
		{ SVM_PAGE_SIZE / 2, SVM_ADVICE_GRANULARITY, -EINVAL },
		{ SVM_BLOCK_SIZE * UINT64_C(2), SVM_ADVICE_GRANULARITY, -EINVAL },
		{ UINT64_C(3) * SVM_PAGE_SIZE, SVM_ADVICE_GRANULARITY, -EINVAL },
		/* The low half alone would be a good value. */
		{ UINT64_C(1) << 32, SVM_ADVICE_READ_MOSTLY, -EINVAL },
		{ (UINT64_C(1) << 32) + SVM_PAGE_SIZE, SVM_ADVICE_GRANULARITY, -EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < SVM_ARRAY_SIZE(rows); i++)
		assert_check(with_value(rows[i].kind, rows[i].value), rows[i].expected);
}

static void contract_3_7_fields_that_a_kind_does_not_use_must_be_zero(void **state)
{
	(void)state;
	for (uint32_t kind = 0; kind < SVM_ADVICE_KINDS; kind++) {
		bool names_device = kind == SVM_ADVICE_ACCESSED_BY ||
				    kind == SVM_ADVICE_ACCESS_IN_PLACE ||
				    kind == SVM_ADVICE_NO_ACCESS;
		struct svm_advice good = { .kind = kind,
					   .value = kind == SVM_ADVICE_GRANULARITY ? SVM_PAGE_SIZE
										   : 0 };
		struct svm_advice bad;

		assert_check(good, 0);
		bad = good;
		bad.device = 1;
		assert_check(bad, names_device ? 0 : -EINVAL);
		if (names_device || kind == SVM_ADVICE_PREFERRED_LOCATION) {
			bad = good;
			bad.value = 1;
			assert_check(bad, -EINVAL);
		}
		if (kind != SVM_ADVICE_PREFERRED_LOCATION) {
			bad = good;
			bad.location.kind = SVM_LOCATION_HOST;
			assert_check(bad, -EINVAL);
			bad = good;
			bad.location.id = 1;
			assert_check(bad, -EINVAL);
		}
	}
}

/* ---- Set, unset ------------------------------------------------------------------------------- */

static void contract_3_4_access_hints_exclude_each_other_for_a_device(void **state)
{
	static const uint32_t kinds[] = { SVM_ADVICE_ACCESSED_BY, SVM_ADVICE_ACCESS_IN_PLACE,
					  SVM_ADVICE_NO_ACCESS };

	(void)state;
	for (size_t first = 0; first < SVM_ARRAY_SIZE(kinds); first++) {
		for (size_t last = 0; last < SVM_ARRAY_SIZE(kinds); last++) {
			struct svm_hints hints = svm_hints_none;

			set(&hints, for_device(kinds[first], 3));
			set(&hints, for_device(kinds[first], 14));
			set(&hints, for_device(kinds[last], 3));
			assert_int_equal(hints.accessed_by >> 3 & 1,
					 kinds[last] == SVM_ADVICE_ACCESSED_BY);
			assert_int_equal(hints.in_place >> 3 & 1,
					 kinds[last] == SVM_ADVICE_ACCESS_IN_PLACE);
			assert_int_equal(hints.no_access >> 3 & 1,
					 kinds[last] == SVM_ADVICE_NO_ACCESS);
			/* Other devices keep theirs. */
			assert_int_equal(hints.accessed_by >> 14,
					 kinds[first] == SVM_ADVICE_ACCESSED_BY);
			assert_int_equal(hints.in_place >> 14,
					 kinds[first] == SVM_ADVICE_ACCESS_IN_PLACE);
			assert_int_equal(hints.no_access >> 14,
					 kinds[first] == SVM_ADVICE_NO_ACCESS);
		}
	}
}

/* One set of hints with every kind set. */
static struct svm_hints everything(void)
{
	struct svm_hints hints = svm_hints_none;

	set(&hints, preferred(SVM_LOCATION_DEVICE, 2));
	set(&hints, for_device(SVM_ADVICE_ACCESSED_BY, 0));
	set(&hints, for_device(SVM_ADVICE_ACCESS_IN_PLACE, 1));
	set(&hints, for_device(SVM_ADVICE_NO_ACCESS, 3));
	set(&hints, with_value(SVM_ADVICE_READ_MOSTLY, 1));
	set(&hints, with_value(SVM_ADVICE_ATOMICS, SVM_ATOMICS_DEVICE));
	set(&hints, with_value(SVM_ADVICE_GRANULARITY, 65536));
	set(&hints, with_value(SVM_ADVICE_MIGRATION, SVM_MIGRATE_ON_PREFETCH));
	return hints;
}

/* Kinds in which two sets of hints differ. */
static uint32_t differing(const struct svm_hints *a, const struct svm_hints *b)
{
	struct svm_advice_info info;

	svm_hints_summary(&info, a);
	svm_hints_summary_add(&info, b);
	return info.mixed;
}

static void each_kind_is_set_by_itself(void **state)
{
	const struct svm_hints all = everything();

	(void)state;
	assert_int_equal(all.preferred.kind, SVM_LOCATION_DEVICE);
	assert_int_equal(all.preferred.id, 2);
	assert_int_equal(all.accessed_by, 1u << 0);
	assert_int_equal(all.in_place, 1u << 1);
	assert_int_equal(all.no_access, 1u << 3);
	assert_int_equal(all.read_mostly, 1);
	assert_int_equal(all.atomics, SVM_ATOMICS_DEVICE);
	assert_int_equal(all.granularity_shift, 16);
	assert_int_equal(all.migration, SVM_MIGRATE_ON_PREFETCH);
	assert_int_equal(differing(&all, &svm_hints_none), ALL_KINDS);
}

static void each_kind_is_unset_by_itself(void **state)
{
	const struct svm_hints all = everything();

	(void)state;
	for (uint32_t kind = 0; kind < SVM_ADVICE_KINDS; kind++) {
		struct svm_hints hints = all;

		svm_hints_unset(&hints, KIND(kind));
		assert_int_equal(differing(&hints, &all), KIND(kind));
		assert_int_equal(differing(&hints, &svm_hints_none), ALL_KINDS & ~KIND(kind));
		assert_false(svm_hints_equal(&hints, &all));
	}
}

static void contract_3_1_set_and_unset_do_not_count(void **state)
{
	struct svm_hints once = everything();
	struct svm_hints twice = everything();

	(void)state;
	set(&twice, for_device(SVM_ADVICE_ACCESSED_BY, 0));
	set(&twice, with_value(SVM_ADVICE_READ_MOSTLY, 1));
	assert_true(svm_hints_equal(&once, &twice));
	svm_hints_unset(&twice, ALL_KINDS);
	assert_true(svm_hints_equal(&twice, &svm_hints_none));
	svm_hints_unset(&twice, ALL_KINDS);
	assert_true(svm_hints_equal(&twice, &svm_hints_none));
}

static void read_mostly_and_preferred_can_be_set_to_none(void **state)
{
	struct svm_hints hints = everything();

	(void)state;
	set(&hints, with_value(SVM_ADVICE_READ_MOSTLY, 0));
	set(&hints, preferred(SVM_LOCATION_NONE, 0));
	assert_int_equal(hints.read_mostly, 0);
	assert_int_equal(hints.preferred.kind, SVM_LOCATION_NONE);
}

static void contract_3_1_r6_a_device_that_goes_takes_its_name_along(void **state)
{
	struct svm_hints hints;

	(void)state;
	for (uint32_t id = 0; id < 4; id++) {
		hints = everything();
		assert_true(svm_hints_forget_device(&hints, id));
		assert_int_equal(hints.preferred.kind,
				 id == 2 ? SVM_LOCATION_NONE : SVM_LOCATION_DEVICE);
		assert_int_equal(hints.preferred.id, id == 2 ? 0 : 2);
		assert_int_equal(hints.accessed_by, id == 0 ? 0 : 1u << 0);
		assert_int_equal(hints.in_place, id == 1 ? 0 : 1u << 1);
		assert_int_equal(hints.no_access, id == 3 ? 0 : 1u << 3);
		assert_int_equal(hints.read_mostly, 1);
		assert_false(svm_hints_forget_device(&hints, id));
	}
}

static void forgetting_a_device_leaves_host_nodes_of_that_number(void **state)
{
	struct svm_hints hints = svm_hints_none;

	(void)state;
	set(&hints, preferred(SVM_LOCATION_HOST_NUMA, 2));
	assert_false(svm_hints_forget_device(&hints, 2));
	assert_int_equal(hints.preferred.kind, SVM_LOCATION_HOST_NUMA);
}

static void hints_are_equal_field_by_field(void **state)
{
	struct svm_hints a;
	struct svm_hints b;

	(void)state;
	/* Whatever lies in the padding. */
	memset(&a, 0, sizeof(a));
	memset(&b, 0xff, sizeof(b));
	b.preferred = a.preferred;
	b.accessed_by = b.in_place = b.no_access = 0;
	b.read_mostly = b.atomics = b.migration = b.granularity_shift = 0;
	assert_true(svm_hints_equal(&a, &b));
	b.preferred.id = 1;
	assert_false(svm_hints_equal(&a, &b));
}

/* ---- Query ------------------------------------------------------------------------------------ */

static void contract_3_7_q1_uniform_hints_are_told_as_they_are(void **state)
{
	const struct svm_hints all = everything();
	struct svm_advice_info info;

	(void)state;
	svm_hints_summary(&info, &all);
	for (uint32_t n = 2; n <= 3; n++) {
		svm_hints_summary_add(&info, &all);
		assert_int_equal(info.n_ranges, n);
	}
	assert_int_equal(info.size, sizeof(info));
	assert_int_equal(info.mixed, 0);
	assert_int_equal(info.preferred.kind, SVM_LOCATION_DEVICE);
	assert_int_equal(info.preferred.id, 2);
	assert_int_equal(info.accessed_by, 1u << 0);
	assert_int_equal(info.access_in_place, 1u << 1);
	assert_int_equal(info.no_access, 1u << 3);
	assert_int_equal(info.read_mostly_all, 1);
	assert_int_equal(info.read_mostly_none, 0);
	assert_int_equal(info.atomics, SVM_ATOMICS_DEVICE);
	assert_int_equal(info.migration, SVM_MIGRATE_ON_PREFETCH);
	assert_int_equal(info.granularity, 65536);
	assert_int_equal(info.reserved, 0);
}

static void contract_3_7_q1_no_hints_at_all(void **state)
{
	struct svm_advice_info info;

	(void)state;
	svm_hints_summary(&info, &svm_hints_none);
	svm_hints_summary_add(&info, &svm_hints_none);
	assert_int_equal(info.mixed, 0);
	assert_int_equal(info.preferred.kind, SVM_LOCATION_NONE);
	assert_int_equal(info.read_mostly_all, 0);
	assert_int_equal(info.read_mostly_none, 1);
	assert_int_equal(info.granularity, SVM_BLOCK_SIZE);
}

static void contract_3_7_q1_read_mostly_all_and_none(void **state)
{
	struct svm_hints on = svm_hints_none;
	const struct svm_hints *order[][3] = {
		{ &on, &on, &svm_hints_none },
		{ &svm_hints_none, &on, &on },
		{ &svm_hints_none, &svm_hints_none, &on },
		{ &on, &svm_hints_none, &on },
	};

	(void)state;
	on.read_mostly = 1;
	for (size_t i = 0; i < SVM_ARRAY_SIZE(order); i++) {
		struct svm_advice_info info;

		svm_hints_summary(&info, order[i][0]);
		svm_hints_summary_add(&info, order[i][1]);
		svm_hints_summary_add(&info, order[i][2]);
		assert_int_equal(info.mixed, KIND(SVM_ADVICE_READ_MOSTLY));
		assert_int_equal(info.read_mostly_all, 0);
		assert_int_equal(info.read_mostly_none, 0);
	}
}

static void contract_3_7_q1_granularity_is_the_minimum(void **state)
{
	static const uint8_t shifts[][3] = { { 12, 16, 21 }, { 21, 16, 12 }, { 16, 12, 21 } };

	(void)state;
	for (size_t i = 0; i < SVM_ARRAY_SIZE(shifts); i++) {
		struct svm_hints hints = svm_hints_none;
		struct svm_advice_info info;

		hints.granularity_shift = shifts[i][0];
		svm_hints_summary(&info, &hints);
		for (size_t k = 1; k < 3; k++) {
			hints.granularity_shift = shifts[i][k];
			svm_hints_summary_add(&info, &hints);
		}
		assert_int_equal(info.granularity, SVM_PAGE_SIZE);
		assert_int_equal(info.mixed, KIND(SVM_ADVICE_GRANULARITY));
	}
}

static void contract_3_7_q1_devices_are_those_of_the_entire_span(void **state)
{
	struct svm_hints hints = svm_hints_none;
	struct svm_advice_info info;

	(void)state;
	hints.accessed_by = 1u << 0 | 1u << 1;
	hints.in_place = 1u << 2 | 1u << 3;
	hints.no_access = 1u << 4 | 1u << 5;
	svm_hints_summary(&info, &hints);
	hints.accessed_by = 1u << 1;
	hints.in_place = 1u << 2;
	hints.no_access = 1u << 5 | 1u << 0;
	svm_hints_summary_add(&info, &hints);
	assert_int_equal(info.accessed_by, 1u << 1);
	assert_int_equal(info.access_in_place, 1u << 2);
	assert_int_equal(info.no_access, 1u << 5);
	assert_int_equal(info.mixed, KIND(SVM_ADVICE_ACCESSED_BY) |
					     KIND(SVM_ADVICE_ACCESS_IN_PLACE) |
					     KIND(SVM_ADVICE_NO_ACCESS));
	/* Once mixed, a range that equals what is left does not make it uniform. */
	hints.no_access = 1u << 5;
	svm_hints_summary_add(&info, &hints);
	assert_int_equal(info.mixed, KIND(SVM_ADVICE_ACCESSED_BY) |
					     KIND(SVM_ADVICE_ACCESS_IN_PLACE) |
					     KIND(SVM_ADVICE_NO_ACCESS));
}

static void contract_3_7_q1_mixed_does_not_depend_on_the_order(void **state)
{
	const struct svm_hints all = everything();
	const struct svm_hints *ranges[3] = { &all, &svm_hints_none, &all };

	(void)state;
	for (size_t odd = 0; odd < 3; odd++) {
		struct svm_advice_info info;

		for (size_t i = 0; i < 3; i++)
			ranges[i] = i == odd ? &svm_hints_none : &all;
		svm_hints_summary(&info, ranges[0]);
		svm_hints_summary_add(&info, ranges[1]);
		svm_hints_summary_add(&info, ranges[2]);
		assert_int_equal(info.mixed, ALL_KINDS);
		assert_int_equal(info.n_ranges, 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(contract_3_7_unknown_advice_is_invalid),
		cmocka_unit_test(contract_3_3_location_ids),
		cmocka_unit_test(values_out_of_range_are_invalid),
		cmocka_unit_test(contract_3_7_fields_that_a_kind_does_not_use_must_be_zero),
		cmocka_unit_test(contract_3_4_access_hints_exclude_each_other_for_a_device),
		cmocka_unit_test(each_kind_is_set_by_itself),
		cmocka_unit_test(each_kind_is_unset_by_itself),
		cmocka_unit_test(contract_3_1_set_and_unset_do_not_count),
		cmocka_unit_test(read_mostly_and_preferred_can_be_set_to_none),
		cmocka_unit_test(contract_3_1_r6_a_device_that_goes_takes_its_name_along),
		cmocka_unit_test(forgetting_a_device_leaves_host_nodes_of_that_number),
		cmocka_unit_test(hints_are_equal_field_by_field),
		cmocka_unit_test(contract_3_7_q1_uniform_hints_are_told_as_they_are),
		cmocka_unit_test(contract_3_7_q1_no_hints_at_all),
		cmocka_unit_test(contract_3_7_q1_read_mostly_all_and_none),
		cmocka_unit_test(contract_3_7_q1_granularity_is_the_minimum),
		cmocka_unit_test(contract_3_7_q1_devices_are_those_of_the_entire_span),
		cmocka_unit_test(contract_3_7_q1_mixed_does_not_depend_on_the_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
