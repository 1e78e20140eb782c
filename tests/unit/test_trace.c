/* SPDX-License-Identifier: MIT */
/*
 * Shown here: every counter arrives in its field; events come out whole and in order, those that
 * were overwritten are counted, and a reader beside busy writers never sees a torn event.
 */
#include "trace.c" // NOLINT(bugprone-suspicious-include): a writer is stopped in the middle
#include "util.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static struct svm_arena arena;
static struct svm_trace trace;

static int setup(void **state)
{
	(void)state;
	return svm_trace_init(&trace, &arena);
}

static int teardown(void **state)
{
	(void)state;
	svm_trace_finish(&trace);
	return atomic_load(&arena.bytes) == 0 ? 0 : -1;
}

static void counters_reach_their_fields(void **state)
{
	struct svm_stats stats;
	/* The order of enum svm_counter is that of the fields. */
	const char *first = (const char *)&stats + offsetof(struct svm_stats, cpu_faults);

	(void)state;
	memset(&stats, 0xee, sizeof(stats));
	for (unsigned int i = 0; i < SVM_COUNTERS; i++) {
		svm_trace_count(&trace, (enum svm_counter)i, 100u + i);
		svm_trace_count(&trace, (enum svm_counter)i, 1000);
	}
	svm_trace_stats(&trace, &stats);
	for (unsigned int i = 0; i < SVM_COUNTERS; i++) {
		uint64_t field;

		memcpy(&field, first + i * sizeof(field), sizeof(field));
		assert_int_equal(field, 1100u + i);
	}
	assert_int_equal(stats.cpu_faults, 1100);
	assert_int_equal(stats.thrash_events, 1100 + SVM_COUNT_THRASH_EVENTS);
	assert_int_equal(stats.spins_hit, 1100 + SVM_COUNT_SPINS_HIT);
	assert_int_equal(stats.events_lost, 0);
	/* Not ours to fill. */
	assert_int_equal(stats.metadata_bytes, UINT64_C(0xeeeeeeeeeeeeeeee));
	assert_int_equal(stats.host_cache_bytes, UINT64_C(0xeeeeeeeeeeeeeeee));
}

static void write_numbered(uint64_t first, uint64_t n)
{
	for (uint64_t i = first; i < first + n; i++) {
		const struct svm_event event = {
			.addr = i,
			.size = ~i,
			.value = i * 3,
			.kind = SVM_EVENT_MIGRATE,
			.device = 7,
			.from = 1,
			.to = 2,
		};

		svm_trace_event(&trace, &event);
	}
}

static void events_come_out_as_they_went_in(void **state)
{
	const uint64_t before = svm_sys->clock_ns();
	struct svm_event events[8];
	uint64_t cursor = 0;
	uint64_t lost = 99;

	(void)state;
	assert_int_equal(svm_trace_read(&trace, &cursor, events, 8, &lost), 0);
	assert_int_equal(lost, 0);
	assert_int_equal(cursor, 0);

	write_numbered(10, 5);
	assert_int_equal(svm_trace_read(&trace, &cursor, events, 3, &lost), 3);
	assert_int_equal(cursor, 3);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(events[i].addr, 10 + i);
		assert_int_equal(events[i].size, ~(uint64_t)(10 + i));
		assert_int_equal(events[i].value, (10 + i) * 3);
		assert_int_equal(events[i].kind, SVM_EVENT_MIGRATE);
		assert_int_equal(events[i].device, 7);
		assert_int_equal(events[i].from, 1);
		assert_int_equal(events[i].to, 2);
		assert_true(events[i].time_ns >= before &&
			    events[i].time_ns <= svm_sys->clock_ns());
	}
	assert_int_equal(svm_trace_read(&trace, &cursor, events, 8, NULL), 2);
	assert_int_equal(events[0].addr, 13);
	assert_int_equal(svm_trace_read(&trace, &cursor, events, 8, NULL), 0);
}

static void overwritten_events_are_counted(void **state)
{
	static struct svm_event events[SVM_TRACE_EVENTS + 1];
	struct svm_stats stats;
	uint64_t cursor = 0;
	uint64_t lost;

	(void)state;
	write_numbered(0, SVM_TRACE_EVENTS);
	assert_int_equal(svm_trace_read(&trace, &cursor, events, 1, &lost), 1);
	assert_int_equal(lost, 0);
	svm_trace_stats(&trace, &stats);
	assert_int_equal(stats.events_lost, 0);

	/*
	 * One has been read; 100 more take the places of events 0 to 99, so 99 unread ones are
	 * gone.
	 */
	write_numbered(SVM_TRACE_EVENTS, 100);
	assert_int_equal(svm_trace_read(&trace, &cursor, events, SVM_TRACE_EVENTS + 1, &lost),
			 SVM_TRACE_EVENTS);
	assert_int_equal(lost, 99);
	for (unsigned int i = 0; i < SVM_TRACE_EVENTS; i++)
		assert_int_equal(events[i].addr, 100 + i);
	svm_trace_stats(&trace, &stats);
	assert_int_equal(stats.events_lost, 100);
}

/*
 * A writer that stops in the middle for a whole round of the ring: the event whose turn comes in
 * its slot is given up, and readers pass it without waiting.
 */
static void stopped_writer_costs_one_event(void **state)
{
	static struct svm_event events[SVM_TRACE_EVENTS];
	struct svm_trace_slot *slot = &trace.slots[0];
	uint64_t cursor = 0;
	uint64_t lost;

	(void)state;
	assert_int_equal(atomic_fetch_add(&trace.head, 1), 0);
	assert_true(claim(slot, 0));
	write_numbered(1, 10);
	/* Not complete yet: readers stop before it. */
	assert_int_equal(svm_trace_read(&trace, &cursor, events, SVM_TRACE_EVENTS, &lost), 0);
	assert_int_equal(lost, 0);
	assert_int_equal(cursor, 0);

	write_numbered(11, SVM_TRACE_EVENTS); /* event 4096 meets the stopped writer */
	assert_int_equal(svm_trace_read(&trace, &cursor, events, SVM_TRACE_EVENTS, &lost),
			 SVM_TRACE_EVENTS - 1);
	assert_int_equal(lost, 11 + 1);
	assert_int_equal(cursor, SVM_TRACE_EVENTS + 11);
	for (unsigned int i = 0; i < SVM_TRACE_EVENTS - 1; i++)
		assert_int_equal(events[i].addr, 11 + i + (i >= SVM_TRACE_EVENTS - 11 ? 1 : 0));

	/* It goes on: its own event is long gone, and the one given up stays so. */
	leave(slot, 0);
	cursor = SVM_TRACE_EVENTS;
	assert_int_equal(svm_trace_read(&trace, &cursor, events, SVM_TRACE_EVENTS, &lost), 10);
	assert_int_equal(lost, 1);

	/* The next round uses the slot again. */
	write_numbered(SVM_TRACE_EVENTS + 11, SVM_TRACE_EVENTS);
	assert_int_equal(svm_trace_read(&trace, &cursor, events, SVM_TRACE_EVENTS, &lost),
			 SVM_TRACE_EVENTS);
	assert_int_equal(lost, 0);
}

/*
 * A writer so late that a whole round went by before it began: it must not touch what is there now.
 */
static void late_writer_is_dropped(void **state)
{
	struct svm_event event;
	uint64_t cursor = SVM_TRACE_EVENTS;

	(void)state;
	assert_int_equal(atomic_fetch_add(&trace.head, 1), 0);
	write_numbered(1, SVM_TRACE_EVENTS);
	assert_false(claim(&trace.slots[0], 0));
	assert_int_equal(svm_trace_read(&trace, &cursor, &event, 1, NULL), 1);
	assert_int_equal(event.addr, SVM_TRACE_EVENTS);
}

static void bad_arguments(void **state)
{
	struct svm_event event;
	uint64_t cursor = 0;

	(void)state;
	assert_int_equal(svm_trace_read(&trace, NULL, &event, 1, NULL), -EINVAL);
	assert_int_equal(svm_trace_read(&trace, &cursor, NULL, 1, NULL), -EINVAL);
	assert_int_equal(svm_trace_read(&trace, &cursor, NULL, 0, NULL), 0);
	assert_int_equal(svm_trace_read(&trace, &cursor, &event, SIZE_MAX, NULL), -EINVAL);
	cursor = 1;
	assert_int_equal(svm_trace_read(&trace, &cursor, &event, 1, NULL), -EINVAL);
	assert_int_equal(cursor, 1);
}

static int no_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		   void **ret_addr)
{
	(void)addr;
	(void)size;
	(void)prot;
	(void)flags;
	(void)fd;
	(void)offset;
	(void)ret_addr;
	return -ENOMEM;
}

static void init_without_memory(void **state)
{
	struct svm_sys scarce = svm_sys_real;
	struct svm_trace other;
	uint64_t bytes = atomic_load(&arena.bytes);

	(void)state;
	scarce.mmap = no_mmap;
	svm_sys = &scarce;
	assert_int_equal(svm_trace_init(&other, &arena), -ENOMEM);
	svm_sys = &svm_sys_real;
	assert_int_equal(atomic_load(&arena.bytes), bytes);
}

#define N_WRITERS  3
#define PER_WRITER 40000

static void *write_many(void *arg)
{
	const uint64_t *number = arg;

	write_numbered(*number * PER_WRITER, PER_WRITER);
	return NULL;
}

static void no_torn_events_beside_writers(void **state)
{
	static struct svm_event events[256];
	uint64_t next[N_WRITERS] = { 0 }; /* lowest number that may still come from each writer */
	uint64_t numbers[N_WRITERS];
	pthread_t threads[N_WRITERS];
	uint64_t cursor = 0;
	uint64_t n_read = 0;
	uint64_t n_lost = 0;

	(void)state;
	for (unsigned int i = 0; i < N_WRITERS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, &numbers[i]), 0);
	}
	while (n_read + n_lost < (uint64_t)N_WRITERS * PER_WRITER) {
		uint64_t lost = 0;
		int n = svm_trace_read(&trace, &cursor, events, SVM_ARRAY_SIZE(events), &lost);

		assert_true(n >= 0);
		for (int i = 0; i < n; i++) {
			uint64_t number = events[i].addr;
			uint64_t writer = number / PER_WRITER;

			assert_true(writer < N_WRITERS);
			assert_int_equal(events[i].size, ~number);
			assert_int_equal(events[i].value, number * 3);
			/* Each writer's events keep their order. */
			assert_true(number % PER_WRITER >= next[writer]);
			next[writer] = number % PER_WRITER + 1;
		}
		n_read += (uint64_t)n;
		n_lost += lost;
		assert_int_equal(n_read + n_lost, cursor);
		if (n == 0)
			sched_yield();
	}
	for (unsigned int i = 0; i < N_WRITERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(cursor, (uint64_t)N_WRITERS * PER_WRITER);
	assert_true(n_read > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(counters_reach_their_fields, setup, teardown),
		cmocka_unit_test_setup_teardown(events_come_out_as_they_went_in, setup, teardown),
		cmocka_unit_test_setup_teardown(overwritten_events_are_counted, setup, teardown),
		cmocka_unit_test_setup_teardown(stopped_writer_costs_one_event, setup, teardown),
		cmocka_unit_test_setup_teardown(late_writer_is_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_arguments, setup, teardown),
		cmocka_unit_test_setup_teardown(init_without_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(no_torn_events_beside_writers, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
