/* SPDX-License-Identifier: MIT */
/*
 * What is done with a page that somebody wants, row by row of the contracts; and when a block counts as
 * thrashing. Agent 0 is the CPU, agent 1 is device 0, agent 2 is device 1.
 */
#include "policy.h"
#include "util.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#define CPU	    0u
#define DEV0	    1u
#define DEV1	    2u
#define BIT(device) ((uint16_t)(1u << (device)))

#define NO_HINTS                                      \
	{                                             \
		.preferred = { SVM_LOCATION_NONE, 0 } \
	}
#define PREFERS_HOST                                  \
	{                                             \
		.preferred = { SVM_LOCATION_HOST, 0 } \
	}
#define PREFERS_NODE                                       \
	{                                                  \
		.preferred = { SVM_LOCATION_HOST_NUMA, 1 } \
	}
#define PREFERS_DEVICE(d)                                 \
	{                                                 \
		.preferred = { SVM_LOCATION_DEVICE, (d) } \
	}

enum expected {
	MOVE_UNIT,	/* the unit of migration around it moves to the agent */
	MOVE_PAGE,	/* this page alone moves to the agent */
	IN_PLACE,	/* mapped in host memory */
	COPY,		/* a further copy, read-only */
	REFUSED_ACCESS, /* -EACCES */
	REFUSED_LINK,	/* -ENOLINK */
};

struct row {
	struct svm_policy_in in; /* without hints */
	struct svm_hints hints;
	enum expected expected;
};

static enum expected name_action(const struct svm_action *action)
{
	if (action->error == -EACCES)
		return REFUSED_ACCESS;
	if (action->error == -ENOLINK)
		return REFUSED_LINK;
	assert_int_equal(action->error, 0);
	if (action->mode == SVM_COH_REMOTE)
		return IN_PLACE;
	if (action->mode == SVM_COH_DUPLICATE)
		return COPY;
	return action->spread ? MOVE_UNIT : MOVE_PAGE;
}

static void expect_rows(const struct row *rows, size_t n_rows)
{
	for (size_t i = 0; i < n_rows; i++) {
		struct svm_policy_in in = rows[i].in;
		struct svm_action action;

		in.hints = &rows[i].hints;
		action = svm_policy(&in);
		if (name_action(&action) != rows[i].expected)
			print_message("row %zu\n", i);
		assert_int_equal(name_action(&action), rows[i].expected);
	}
}

#define EXPECT_ROWS(...)                                           \
	do {                                                       \
		static const struct row rows_[] = { __VA_ARGS__ }; \
		expect_rows(rows_, SVM_ARRAY_SIZE(rows_));         \
	} while (0)

/* ---- No hints --------------------------------------------------------------------------------- */

static void without_hints_pages_go_to_who_touches_them(void **state)
{
	(void)state;
	EXPECT_ROWS(
		{ { .agent = CPU, .at = SVM_AT_NONE }, NO_HINTS, MOVE_UNIT },
		{ { .agent = CPU, .at = SVM_AT_OWN }, NO_HINTS, MOVE_UNIT },
		{ { .agent = CPU, .at = SVM_AT_PEER, .write = true }, NO_HINTS, MOVE_UNIT },
		{ { .agent = DEV0, .at = SVM_AT_NONE }, NO_HINTS, MOVE_UNIT },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true }, NO_HINTS, MOVE_UNIT },
		{ { .agent = DEV0, .at = SVM_AT_PEER, .reaches_host = true }, NO_HINTS, MOVE_UNIT },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .cause = SVM_CAUSE_ACQUIRE },
		  NO_HINTS,
		  MOVE_UNIT });
}

/* ---- 3.3 Preferred location ------------------------------------------------------------------- */

static void contract_3_3_row_1_map_in_place_when_resident_at_preferred(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true },
		      PREFERS_HOST,
		      IN_PLACE },
		    { { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true },
		      PREFERS_NODE,
		      IN_PLACE },
		    { { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true, .write = true },
		      PREFERS_HOST,
		      IN_PLACE },
		    { { .agent = DEV0,
			.at = SVM_AT_HOST,
			.reaches_host = true,
			.cause = SVM_CAUSE_ACQUIRE },
		      PREFERS_HOST,
		      IN_PLACE });
}

static void contract_3_3_row_2_single_page_when_preferred_is_out_of_reach(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = DEV0, .at = SVM_AT_HOST }, PREFERS_HOST, MOVE_PAGE },
		    { { .agent = DEV0, .at = SVM_AT_PEER, .reaches_host = true },
		      PREFERS_DEVICE(1),
		      MOVE_PAGE },
		    { { .agent = CPU, .at = SVM_AT_PEER }, PREFERS_DEVICE(0), MOVE_PAGE },
		    { { .agent = CPU, .at = SVM_AT_PEER, .write = true },
		      PREFERS_DEVICE(0),
		      MOVE_PAGE });
}

static void contract_3_3_row_3_first_touch_when_not_at_preferred(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = DEV0, .at = SVM_AT_PEER, .reaches_host = true },
		      PREFERS_HOST,
		      MOVE_PAGE },
		    { { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true },
		      PREFERS_DEVICE(1),
		      MOVE_UNIT },
		    { { .agent = CPU, .at = SVM_AT_PEER }, PREFERS_HOST, MOVE_UNIT });
}

static void contract_3_3_row_4_preferred_location_brings_its_pages_back(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true },
		      PREFERS_DEVICE(0),
		      MOVE_UNIT },
		    { { .agent = DEV0, .at = SVM_AT_PEER, .reaches_host = true },
		      PREFERS_DEVICE(0),
		      MOVE_UNIT },
		    { { .agent = CPU, .at = SVM_AT_PEER }, PREFERS_HOST, MOVE_UNIT });
}

static void contract_3_3_row_6_prefetch_elsewhere_is_obeyed(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = DEV0,
			.at = SVM_AT_HOST,
			.reaches_host = true,
			.cause = SVM_CAUSE_PREFETCH },
		      PREFERS_HOST,
		      MOVE_UNIT },
		    { { .agent = DEV0, .at = SVM_AT_PEER, .cause = SVM_CAUSE_PREFETCH },
		      PREFERS_DEVICE(1),
		      MOVE_UNIT },
		    { { .agent = CPU, .at = SVM_AT_PEER, .cause = SVM_CAUSE_PREFETCH },
		      PREFERS_DEVICE(0),
		      MOVE_UNIT },
		    { { .agent = DEV0,
			.at = SVM_AT_HOST,
			.reaches_host = true,
			.cause = SVM_CAUSE_PREFETCH },
		      { .migration = SVM_MIGRATE_ON_PREFETCH },
		      MOVE_UNIT });
}

static void contract_3_3_row_7_first_population_at_preferred(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = DEV0, .at = SVM_AT_NONE, .reaches_host = true },
		      PREFERS_HOST,
		      IN_PLACE },
		    { { .agent = DEV0, .at = SVM_AT_NONE }, PREFERS_HOST, MOVE_PAGE },
		    { { .agent = DEV0, .at = SVM_AT_NONE, .reaches_host = true },
		      PREFERS_DEVICE(0),
		      MOVE_UNIT });
}

static void contract_3_3_row_8_thrashing_pages_go_to_the_preferred_location(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = DEV0, .at = SVM_AT_PEER, .reaches_host = true, .thrashing = true },
		      PREFERS_HOST,
		      IN_PLACE },
		    { { .agent = DEV0, .at = SVM_AT_PEER, .thrashing = true },
		      PREFERS_HOST,
		      MOVE_PAGE },
		    { { .agent = DEV0, .at = SVM_AT_PEER, .reaches_host = true, .thrashing = true },
		      PREFERS_DEVICE(0),
		      MOVE_UNIT },
		    { { .agent = DEV0, .at = SVM_AT_PEER, .reaches_host = true, .thrashing = true },
		      { .in_place = BIT(0) },
		      IN_PLACE });
}

/* ---- 3.4 Accessed by, no access --------------------------------------------------------------- */

static void contract_3_4_access_in_place_never_migrates(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true },
		      { .in_place = BIT(0) },
		      IN_PLACE },
		    { { .agent = DEV0, .at = SVM_AT_NONE, .reaches_host = true },
		      { .in_place = BIT(0) },
		      IN_PLACE },
		    /* Where it cannot, no more than the page. */
		    { { .agent = DEV0, .at = SVM_AT_HOST }, { .in_place = BIT(0) }, MOVE_PAGE },
		    { { .agent = DEV0, .at = SVM_AT_PEER, .reaches_host = true },
		      { .in_place = BIT(0) },
		      MOVE_PAGE },
		    /* It is said of device 0 alone. */
		    { { .agent = DEV1, .at = SVM_AT_HOST, .reaches_host = true },
		      { .in_place = BIT(0) },
		      MOVE_UNIT });
}

static void contract_3_4_accessed_by_alone_lets_an_access_migrate(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true },
		      { .accessed_by = BIT(0) },
		      MOVE_UNIT });
}

static void contract_3_4_no_access_is_refused_whatever_the_cause(void **state)
{
	(void)state;
	EXPECT_ROWS(
		{ { .agent = DEV0, .at = SVM_AT_OWN }, { .no_access = BIT(0) }, REFUSED_ACCESS },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .cause = SVM_CAUSE_ACQUIRE },
		  { .no_access = BIT(0) },
		  REFUSED_ACCESS },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .cause = SVM_CAUSE_PREFETCH },
		  { .no_access = BIT(0) },
		  REFUSED_ACCESS },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .cause = SVM_CAUSE_PIN },
		  { .no_access = BIT(0) },
		  REFUSED_ACCESS },
		{ { .agent = DEV1, .at = SVM_AT_HOST }, { .no_access = BIT(0) }, MOVE_UNIT },
		{ { .agent = CPU, .at = SVM_AT_PEER }, { .no_access = 0x7fff }, MOVE_UNIT });
}

/* ---- 3.5 Read mostly, pin --------------------------------------------------------------------- */

static void contract_3_5_read_mostly_copies_on_read(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = DEV0, .at = SVM_AT_HOST, .can_duplicate = true },
		      { .read_mostly = 1 },
		      COPY },
		    { { .agent = DEV0, .at = SVM_AT_PEER, .can_duplicate = true },
		      { .read_mostly = 1 },
		      COPY },
		    { { .agent = CPU, .at = SVM_AT_PEER, .can_duplicate = true },
		      { .read_mostly = 1 },
		      COPY },
		    { { .agent = CPU,
			.at = SVM_AT_PEER,
			.can_duplicate = true,
			.cause = SVM_CAUSE_PREFETCH },
		      { .read_mostly = 1 },
		      COPY },
		    { { .agent = DEV0,
			.at = SVM_AT_HOST,
			.can_duplicate = true,
			.cause = SVM_CAUSE_ACQUIRE },
		      { .read_mostly = 1 },
		      COPY });
}

static void contract_3_5_read_mostly_collapses_on_write(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = DEV0, .at = SVM_AT_HOST, .can_duplicate = true, .write = true },
		      { .read_mostly = 1 },
		      MOVE_UNIT },
		    { { .agent = CPU, .at = SVM_AT_OWN, .can_duplicate = true, .write = true },
		      { .read_mostly = 1 },
		      MOVE_UNIT });
}

static void contract_3_5_read_mostly_degrades_where_writes_cannot_be_trapped(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = DEV0, .at = SVM_AT_HOST }, { .read_mostly = 1 }, MOVE_UNIT },
		    { { .agent = CPU, .at = SVM_AT_PEER }, { .read_mostly = 1 }, MOVE_UNIT },
		    { { .agent = DEV0, .at = SVM_AT_HOST, .cause = SVM_CAUSE_PREFETCH },
		      { .read_mostly = 1 },
		      MOVE_UNIT });
}

static void contract_3_5_pin_moves_exclusively(void **state)
{
	(void)state;
	EXPECT_ROWS(
		{ { .agent = DEV0,
		    .at = SVM_AT_HOST,
		    .can_duplicate = true,
		    .cause = SVM_CAUSE_PIN },
		  { .read_mostly = 1 },
		  MOVE_UNIT },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true, .cause = SVM_CAUSE_PIN },
		  PREFERS_HOST,
		  MOVE_UNIT });
}

/* "CPU faults on pinned pages are fatal" is not copied: there is no errno for a load. */
static void contract_3_5_cpu_always_gets_its_page(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = CPU, .at = SVM_AT_PEER },
		      { .migration = SVM_MIGRATE_NEVER },
		      MOVE_PAGE },
		    { { .agent = CPU, .at = SVM_AT_PEER },
		      { .migration = SVM_MIGRATE_ON_PREFETCH },
		      MOVE_PAGE },
		    { { .agent = CPU, .at = SVM_AT_NONE },
		      { .migration = SVM_MIGRATE_NEVER },
		      MOVE_UNIT },
		    { { .agent = CPU, .at = SVM_AT_OWN },
		      { .migration = SVM_MIGRATE_NEVER },
		      MOVE_UNIT });
}

/* ---- 3.2 Precedence --------------------------------------------------------------------------- */

static void contract_3_2_forbidden_migration_goes_first(void **state)
{
	(void)state;
	EXPECT_ROWS(
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true, .can_duplicate = true },
		  { .migration = SVM_MIGRATE_NEVER, .read_mostly = 1 },
		  IN_PLACE },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true },
		  { .migration = SVM_MIGRATE_NEVER, .preferred = { SVM_LOCATION_DEVICE, 0 } },
		  IN_PLACE },
		{ { .agent = DEV0, .at = SVM_AT_HOST },
		  { .migration = SVM_MIGRATE_NEVER },
		  REFUSED_LINK },
		{ { .agent = DEV0, .at = SVM_AT_PEER, .reaches_host = true },
		  { .migration = SVM_MIGRATE_NEVER },
		  REFUSED_LINK },
		{ { .agent = DEV0, .at = SVM_AT_PEER, .reaches_host = true, .thrashing = true },
		  { .migration = SVM_MIGRATE_NEVER },
		  REFUSED_LINK },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .cause = SVM_CAUSE_PREFETCH },
		  { .migration = SVM_MIGRATE_NEVER },
		  REFUSED_LINK },
		{ { .agent = DEV0, .at = SVM_AT_OWN, .cause = SVM_CAUSE_PREFETCH },
		  { .migration = SVM_MIGRATE_NEVER },
		  MOVE_UNIT },
		{ { .agent = DEV0, .at = SVM_AT_OWN },
		  { .migration = SVM_MIGRATE_NEVER },
		  MOVE_UNIT },
		{ { .agent = DEV0, .at = SVM_AT_NONE },
		  { .migration = SVM_MIGRATE_NEVER },
		  MOVE_UNIT });
}

static void contract_3_2_read_duplication_goes_before_preferred_location(void **state)
{
	(void)state;
	EXPECT_ROWS(
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true, .can_duplicate = true },
		  { .read_mostly = 1, .preferred = { SVM_LOCATION_HOST, 0 } },
		  COPY },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true, .can_duplicate = true },
		  { .read_mostly = 1, .in_place = BIT(0) },
		  COPY },
		/* Overridden, not forgotten: a write brings the preference out. */
		{ { .agent = DEV0,
		    .at = SVM_AT_HOST,
		    .reaches_host = true,
		    .can_duplicate = true,
		    .write = true },
		  { .read_mostly = 1, .preferred = { SVM_LOCATION_HOST, 0 } },
		  IN_PLACE });
}

static void contract_3_2_preferred_location_goes_before_accessed_by(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true },
		      { .preferred = { SVM_LOCATION_DEVICE, 0 }, .in_place = BIT(0) },
		      MOVE_UNIT });
}

static void contract_3_2_hints_go_before_heuristics(void **state)
{
	(void)state;
	EXPECT_ROWS(
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true, .thrashing = true },
		  PREFERS_DEVICE(0),
		  MOVE_UNIT },
		{ { .agent = DEV0, .at = SVM_AT_PEER, .reaches_host = true, .thrashing = true },
		  NO_HINTS,
		  IN_PLACE },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true, .thrashing = true },
		  NO_HINTS,
		  IN_PLACE },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .thrashing = true }, NO_HINTS, MOVE_UNIT });
}

static void system_atomics_forbid_duplicates_and_work_in_place(void **state)
{
	(void)state;
	EXPECT_ROWS(
		{ { .agent = DEV0,
		    .at = SVM_AT_HOST,
		    .reaches_host = true,
		    .system_atomics = true,
		    .can_duplicate = true },
		  { .atomics = SVM_ATOMICS_SYSTEM, .read_mostly = 1 },
		  IN_PLACE },
		{ { .agent = DEV0, .at = SVM_AT_PEER, .reaches_host = true, .system_atomics = true },
		  { .atomics = SVM_ATOMICS_SYSTEM },
		  IN_PLACE },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true },
		  { .atomics = SVM_ATOMICS_SYSTEM },
		  MOVE_UNIT },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .system_atomics = true },
		  { .atomics = SVM_ATOMICS_SYSTEM },
		  MOVE_UNIT },
		{ { .agent = CPU, .at = SVM_AT_PEER, .can_duplicate = true },
		  { .atomics = SVM_ATOMICS_SYSTEM, .read_mostly = 1 },
		  MOVE_UNIT },
		{ { .agent = CPU,
		    .at = SVM_AT_PEER,
		    .can_duplicate = true,
		    .cause = SVM_CAUSE_PREFETCH },
		  { .atomics = SVM_ATOMICS_SYSTEM, .read_mostly = 1 },
		  MOVE_UNIT });
}

static void pages_that_a_native_device_may_touch_stay_on_the_host(void **state)
{
	/* Device 1 reaches managed memory through the CPU's page tables; device 0 does not. */
	const uint16_t native = BIT(1);

	(void)state;
	EXPECT_ROWS(
		/* Near it is the host: preferred there, or accessed by it. */
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true, .native = native },
		  PREFERS_DEVICE(1),
		  IN_PLACE },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .native = native },
		  PREFERS_DEVICE(1),
		  MOVE_PAGE },
		{ { .agent = CPU, .at = SVM_AT_PEER, .native = native },
		  PREFERS_DEVICE(1),
		  MOVE_UNIT },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true, .native = native },
		  { .accessed_by = BIT(1) },
		  IN_PLACE },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true, .native = native },
		  { .in_place = BIT(1) },
		  IN_PLACE },
		/* A preferred location goes before it, and others' hints do not count. */
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true, .native = native },
		  { .preferred = { SVM_LOCATION_DEVICE, 0 }, .accessed_by = BIT(1) },
		  MOVE_UNIT },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true, .native = native },
		  { .accessed_by = BIT(2) },
		  MOVE_UNIT },
		{ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true },
		  { .accessed_by = BIT(1) },
		  MOVE_UNIT }, );
}

static void migration_on_prefetch_only_maps_in_place_where_it_can(void **state)
{
	(void)state;
	EXPECT_ROWS({ { .agent = DEV0, .at = SVM_AT_HOST, .reaches_host = true },
		      { .migration = SVM_MIGRATE_ON_PREFETCH },
		      IN_PLACE },
		    { { .agent = DEV0, .at = SVM_AT_HOST },
		      { .migration = SVM_MIGRATE_ON_PREFETCH },
		      MOVE_PAGE },
		    { { .agent = DEV0, .at = SVM_AT_OWN },
		      { .migration = SVM_MIGRATE_ON_PREFETCH },
		      MOVE_UNIT },
		    { { .agent = DEV0, .at = SVM_AT_PEER, .reaches_host = true },
		      { .migration = SVM_MIGRATE_ON_PREFETCH },
		      MOVE_PAGE });
}

/* Whatever is asked, the answer is one that the coherence code can carry out, and one that is allowed. */
static void every_combination_has_a_lawful_answer(void **state)
{
	static const struct svm_location places[] = {
		{ SVM_LOCATION_NONE, 0 },      { SVM_LOCATION_HOST, 0 },
		{ SVM_LOCATION_HOST_NUMA, 1 }, { SVM_LOCATION_DEVICE, 0 },
		{ SVM_LOCATION_DEVICE, 1 },
	};
	uint32_t n = 0;

	(void)state;
	for (uint32_t bits = 0; bits < 1u << 16; bits++) {
		struct svm_hints hints = {
			.read_mostly = bits & 1u,
			.in_place = bits >> 1 & 1u,
			.no_access = bits >> 2 & 1u,
			.atomics = bits >> 3 & 1u ? SVM_ATOMICS_SYSTEM : SVM_ATOMICS_NONE,
			.migration = (uint8_t)(bits >> 4 & 3u),
		};
		struct svm_policy_in in = {
			.agent = bits >> 6 & 1u,
			.cause = (enum svm_cause)(bits >> 7 & 3u),
			.at = (enum svm_whereabouts)(bits >> 9 & 3u),
			.write = bits >> 11 & 1u,
			.reaches_host = bits >> 12 & 1u,
			.can_duplicate = bits >> 13 & 1u,
			.system_atomics = bits >> 14 & 1u,
			.thrashing = bits >> 15 & 1u,
			.hints = &hints,
		};
		struct svm_action action;

		if (hints.migration > SVM_MIGRATE_NEVER ||
		    (in.agent == CPU && in.at == SVM_AT_HOST))
			continue;
		for (size_t i = 0; i < SVM_ARRAY_SIZE(places); i++) {
			hints.preferred = places[i];
			action = svm_policy(&in);
			n++;
			if (in.agent == CPU && in.cause != SVM_CAUSE_PREFETCH)
				assert_int_equal(action.error, 0);
			if (action.error)
				continue;
			assert_false(hints.no_access && in.agent == DEV0);
			if (action.mode == SVM_COH_DUPLICATE) {
				assert_true(in.can_duplicate && hints.read_mostly);
				assert_false(in.write && in.cause != SVM_CAUSE_PREFETCH);
				assert_false(hints.atomics == SVM_ATOMICS_SYSTEM);
			}
			if (action.mode == SVM_COH_REMOTE)
				assert_true(in.agent != CPU && in.reaches_host);
			if (hints.migration == SVM_MIGRATE_NEVER && in.agent != CPU &&
			    in.cause != SVM_CAUSE_PIN)
				assert_true(in.at != SVM_AT_PEER);
		}
	}
	assert_true(n > 100000u);
}

/* ---- 3.6 Thrashing ---------------------------------------------------------------------------- */

#define SECOND UINT64_C(1000000000)

static void contract_3_6_third_quick_move_to_and_fro_makes_a_block_thrash(void **state)
{
	struct svm_history history = { 0 };
	uint64_t now = 5 * SECOND;

	(void)state;
	assert_false(svm_history_moved(&history, DEV0, now));
	assert_false(svm_history_moved(&history, CPU, now += SVM_THRASH_LAPSE_NS));
	assert_false(svm_history_moved(&history, DEV0, now += SVM_THRASH_LAPSE_NS));
	assert_false(svm_history_thrashing(&history, now));
	assert_true(svm_history_moved(&history, CPU, now += SVM_THRASH_LAPSE_NS));
	assert_true(svm_history_thrashing(&history, now));
}

static void contract_3_6_pin_ends_after_150_ms(void **state)
{
	struct svm_history history = { 0 };
	uint64_t now = 5 * SECOND;

	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		svm_history_moved(&history, i & 1u, now);
	assert_int_equal(SVM_THRASH_PIN_NS, 150000000u);
	assert_true(svm_history_thrashing(&history, now + SVM_THRASH_PIN_NS - 1));
	assert_false(svm_history_thrashing(&history, now + SVM_THRASH_PIN_NS));
}

static void slow_moves_and_moves_to_the_same_agent_are_no_thrashing(void **state)
{
	struct svm_history slow = { 0 };
	struct svm_history same = { 0 };
	uint64_t now = 5 * SECOND;

	(void)state;
	for (uint32_t i = 0; i < 100; i++) {
		now += SVM_THRASH_LAPSE_NS + 1;
		assert_false(svm_history_moved(&slow, i & 1u, now));
		assert_false(svm_history_moved(&same, DEV0, now));
	}
	for (uint32_t i = 0; i < 100; i++)
		assert_false(svm_history_moved(&same, DEV0, now));
	assert_false(svm_history_thrashing(&slow, now));
	assert_false(svm_history_thrashing(&same, now));
}

static void contract_3_6_an_epoch_without_moves_is_forgotten(void **state)
{
	struct svm_history history = { 0 };
	uint64_t now = 5 * SECOND;

	(void)state;
	svm_history_moved(&history, DEV0, now);
	svm_history_moved(&history, CPU, now);
	svm_history_moved(&history, DEV0, now);
	now += SVM_THRASH_EPOCH_NS + 1;
	assert_false(svm_history_moved(&history, CPU, now));
	assert_false(svm_history_moved(&history, DEV0, now));
	assert_false(svm_history_moved(&history, CPU, now));
	assert_true(svm_history_moved(&history, DEV0, now));
}

static void thrashing_is_reported_once_for_each_pin(void **state)
{
	struct svm_history history = { 0 };
	uint64_t now = 5 * SECOND;
	uint32_t n_reported = 0;

	(void)state;
	for (uint32_t i = 0; i < 40; i++)
		n_reported += svm_history_moved(&history, i & 1u, now);
	assert_int_equal(n_reported, 1);
	now += 2 * SVM_THRASH_PIN_NS;
	for (uint32_t i = 0; i < 40; i++)
		n_reported += svm_history_moved(&history, i & 1u, now);
	assert_int_equal(n_reported, 2);
}

static void after_a_pin_it_takes_three_quick_moves_again(void **state)
{
	struct svm_history history = { 0 };
	uint64_t now = 5 * SECOND;

	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		svm_history_moved(&history, i & 1u, now);
	now += SVM_THRASH_PIN_NS;
	assert_false(svm_history_moved(&history, CPU, now));
	assert_false(svm_history_moved(&history, DEV0, now));
	assert_false(svm_history_moved(&history, CPU, now));
	assert_true(svm_history_moved(&history, DEV0, now));
}

static void the_first_move_of_a_block_is_no_move_back(void **state)
{
	struct svm_history history = { 0 };

	(void)state;
	/* A clock that has just started: no earlier move is made up. */
	assert_false(svm_history_moved(&history, DEV0, 1));
	assert_int_equal(history.n_events, 0);
	assert_false(svm_history_thrashing(&history, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_hints_pages_go_to_who_touches_them),
		cmocka_unit_test(contract_3_3_row_1_map_in_place_when_resident_at_preferred),
		cmocka_unit_test(contract_3_3_row_2_single_page_when_preferred_is_out_of_reach),
		cmocka_unit_test(contract_3_3_row_3_first_touch_when_not_at_preferred),
		cmocka_unit_test(contract_3_3_row_4_preferred_location_brings_its_pages_back),
		cmocka_unit_test(contract_3_3_row_6_prefetch_elsewhere_is_obeyed),
		cmocka_unit_test(contract_3_3_row_7_first_population_at_preferred),
		cmocka_unit_test(contract_3_3_row_8_thrashing_pages_go_to_the_preferred_location),
		cmocka_unit_test(contract_3_4_access_in_place_never_migrates),
		cmocka_unit_test(contract_3_4_accessed_by_alone_lets_an_access_migrate),
		cmocka_unit_test(contract_3_4_no_access_is_refused_whatever_the_cause),
		cmocka_unit_test(contract_3_5_read_mostly_copies_on_read),
		cmocka_unit_test(contract_3_5_read_mostly_collapses_on_write),
		cmocka_unit_test(contract_3_5_read_mostly_degrades_where_writes_cannot_be_trapped),
		cmocka_unit_test(contract_3_5_pin_moves_exclusively),
		cmocka_unit_test(contract_3_5_cpu_always_gets_its_page),
		cmocka_unit_test(contract_3_2_forbidden_migration_goes_first),
		cmocka_unit_test(contract_3_2_read_duplication_goes_before_preferred_location),
		cmocka_unit_test(contract_3_2_preferred_location_goes_before_accessed_by),
		cmocka_unit_test(contract_3_2_hints_go_before_heuristics),
		cmocka_unit_test(system_atomics_forbid_duplicates_and_work_in_place),
		cmocka_unit_test(pages_that_a_native_device_may_touch_stay_on_the_host),
		cmocka_unit_test(migration_on_prefetch_only_maps_in_place_where_it_can),
		cmocka_unit_test(every_combination_has_a_lawful_answer),
		cmocka_unit_test(contract_3_6_third_quick_move_to_and_fro_makes_a_block_thrash),
		cmocka_unit_test(contract_3_6_pin_ends_after_150_ms),
		cmocka_unit_test(slow_moves_and_moves_to_the_same_agent_are_no_thrashing),
		cmocka_unit_test(contract_3_6_an_epoch_without_moves_is_forgotten),
		cmocka_unit_test(thrashing_is_reported_once_for_each_pin),
		cmocka_unit_test(after_a_pin_it_takes_three_quick_moves_again),
		cmocka_unit_test(the_first_move_of_a_block_is_no_move_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
