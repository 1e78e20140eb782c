/* SPDX-License-Identifier: MIT */
/*
 * The ring: event number i goes to slot i % SVM_TRACE_EVENTS. A slot's mark tells what is in it:
 *
 *   0                  nothing yet
 *   2i + 1             event i is being written
 *   2i + 2             event i is complete
 *   SKIP | 2i + 1, + 2 event i was given up: when its turn came, a writer one round behind was
 *                      still busy in the slot (+ 1) and now has left (+ 2); nothing to read
 *
 * Marks of a slot only grow (but for SKIP), so a reader sees whether its event is still to come, is
 * there, or is gone. Words are stored with release and loaded with acquire instead of fences, which
 * ThreadSanitizer does not know: a reader that met a word of a newer event also sees the newer
 * mark.
 */
#include "trace.h"
#include "sys.h"
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#define SKIP	    (UINT64_C(1) << 63)
#define EVENT_WORDS (sizeof(struct svm_event) / sizeof(uint64_t))

static_assert(sizeof(struct svm_event) % sizeof(uint64_t) == 0, "events are copied word by word");
static_assert((SVM_TRACE_EVENTS & (SVM_TRACE_EVENTS - 1u)) == 0, "slots are found by masking");

struct svm_trace_slot {
	_Atomic uint64_t mark;
	_Atomic uint64_t words[EVENT_WORDS];
};

#define RING_SIZE (SVM_TRACE_EVENTS * sizeof(struct svm_trace_slot))

int svm_trace_init(struct svm_trace *trace, struct svm_arena *arena)
{
	struct svm_trace_slot *slots = svm_arena_map(RING_SIZE);

	if (!slots)
		return -ENOMEM;
	for (unsigned int i = 0; i < SVM_COUNTERS; i++)
		atomic_init(&trace->counters[i], 0);
	atomic_init(&trace->head, 0);
	trace->arena = arena;
	trace->slots = slots;
	svm_arena_account(arena, RING_SIZE);
	return 0;
}

void svm_trace_finish(struct svm_trace *trace)
{
	svm_arena_unmap(trace->slots, RING_SIZE);
	svm_arena_account(trace->arena, -(int64_t)RING_SIZE);
	trace->slots = NULL;
}

/*
 * Make the slot ours to write event i. False: another writer is in it, and event i is marked as
 * skipped.
 */
static bool claim(struct svm_trace_slot *slot, uint64_t i)
{
	uint64_t mark = atomic_load_explicit(&slot->mark, memory_order_relaxed);

	for (;;) {
		uint64_t own = 2u * i + 1u;

		if ((mark & ~SKIP) > own)
			return false; /* a whole round late: newer events went by */
		if (mark & 1u)
			own |= SKIP;
		if (atomic_compare_exchange_weak_explicit(
			    &slot->mark, &mark, own, memory_order_acq_rel, memory_order_relaxed))
			return !(own & SKIP);
	}
}

/* Event i is written. Later events that had to be skipped meanwhile left their mark. */
static void leave(struct svm_trace_slot *slot, uint64_t i)
{
	uint64_t mark = 2u * i + 1u;

	while (!atomic_compare_exchange_weak_explicit(&slot->mark, &mark, mark + 1u,
						      memory_order_acq_rel, memory_order_relaxed))
		;
}

void svm_trace_event(struct svm_trace *trace, const struct svm_event *event)
{
	struct svm_event stamped = *event;
	uint64_t words[EVENT_WORDS];
	struct svm_trace_slot *slot;
	uint64_t i;

	stamped.time_ns = svm_sys->clock_ns();
	memcpy(words, &stamped, sizeof(words));

	i = atomic_fetch_add_explicit(&trace->head, 1, memory_order_relaxed);
	slot = &trace->slots[i & (SVM_TRACE_EVENTS - 1u)];
	if (!claim(slot, i))
		return;
	for (unsigned int w = 0; w < EVENT_WORDS; w++)
		atomic_store_explicit(&slot->words[w], words[w], memory_order_release);
	leave(slot, i);
}

enum slot_state {
	SLOT_PENDING, /* the event is still to come */
	SLOT_READ,
	SLOT_GONE,
};

static enum slot_state read_slot(struct svm_trace_slot *slot, uint64_t i,
				 struct svm_event *ret_event)
{
	uint64_t words[EVENT_WORDS];
	uint64_t mark = atomic_load_explicit(&slot->mark, memory_order_acquire);

	if (mark & SKIP)
		return (mark & ~SKIP) < 2u * i + 1u ? SLOT_PENDING : SLOT_GONE;
	if (mark != 2u * i + 2u)
		return mark < 2u * i + 2u ? SLOT_PENDING : SLOT_GONE;
	for (unsigned int w = 0; w < EVENT_WORDS; w++)
		words[w] = atomic_load_explicit(&slot->words[w], memory_order_acquire);
	if (atomic_load_explicit(&slot->mark, memory_order_relaxed) != mark)
		return SLOT_GONE;
	memcpy(ret_event, words, sizeof(words));
	return SLOT_READ;
}

int svm_trace_read(struct svm_trace *trace, uint64_t *cursor, struct svm_event *events,
		   size_t n_events, uint64_t *ret_lost)
{
	uint64_t head = atomic_load_explicit(&trace->head, memory_order_relaxed);
	uint64_t lost = 0;
	uint64_t i;
	size_t n = 0;

	if (!cursor || (!events && n_events) || n_events > INT_MAX || *cursor > head)
		return -EINVAL;
	i = *cursor;
	if (head - i > SVM_TRACE_EVENTS) {
		lost = head - i - SVM_TRACE_EVENTS;
		i += lost;
	}
	for (; i < head && n < n_events; i++) {
		enum slot_state state;

		state = read_slot(&trace->slots[i & (SVM_TRACE_EVENTS - 1u)], i, &events[n]);
		if (state == SLOT_PENDING)
			break;
		if (state == SLOT_READ)
			n++;
		else
			lost++;
	}
	*cursor = i;
	if (ret_lost)
		*ret_lost = lost;
	return (int)n;
}

void svm_trace_stats(struct svm_trace *trace, struct svm_stats *stats)
{
	uint64_t *const fields[SVM_COUNTERS] = {
		[SVM_COUNT_CPU_FAULTS] = &stats->cpu_faults,
		[SVM_COUNT_CPU_FAULTS_SPURIOUS] = &stats->cpu_faults_spurious,
		[SVM_COUNT_DEVICE_FAULTS] = &stats->device_faults,
		[SVM_COUNT_BYTES_POPULATED] = &stats->bytes_populated,
		[SVM_COUNT_BYTES_HOST_TO_DEVICE] = &stats->bytes_host_to_device,
		[SVM_COUNT_BYTES_DEVICE_TO_HOST] = &stats->bytes_device_to_host,
		[SVM_COUNT_BYTES_DEVICE_TO_DEVICE] = &stats->bytes_device_to_device,
		[SVM_COUNT_PAGES_MIGRATED] = &stats->pages_migrated,
		[SVM_COUNT_PAGES_DUPLICATED] = &stats->pages_duplicated,
		[SVM_COUNT_PAGES_INVALIDATED] = &stats->pages_invalidated,
		[SVM_COUNT_PAGES_EVICTED] = &stats->pages_evicted,
		[SVM_COUNT_PAGES_POISONED] = &stats->pages_poisoned,
		[SVM_COUNT_BLOCKS_CONVERTED] = &stats->blocks_converted,
		[SVM_COUNT_TRANSITIONS] = &stats->transitions,
		[SVM_COUNT_BINDS] = &stats->binds,
		[SVM_COUNT_THRASH_EVENTS] = &stats->thrash_events,
		[SVM_COUNT_WAKEUPS] = &stats->wakeups,
		[SVM_COUNT_SPINS_HIT] = &stats->spins_hit,
	};
	uint64_t head = atomic_load_explicit(&trace->head, memory_order_relaxed);

	for (unsigned int i = 0; i < SVM_COUNTERS; i++)
		*fields[i] = atomic_load_explicit(&trace->counters[i], memory_order_relaxed);
	stats->events_lost = head > SVM_TRACE_EVENTS ? head - SVM_TRACE_EVENTS : 0;
}
