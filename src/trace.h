/* SPDX-License-Identifier: MIT */
/* Counters and the event ring of a space. Writers never wait and never allocate. */
#ifndef SVM_TRACE_H
#define SVM_TRACE_H

#include "arena.h"
#include <libsvm/trace.h>
#include <stdatomic.h>

/* One per counter of struct svm_stats that only grows; same order and meaning. */
enum svm_counter {
	SVM_COUNT_CPU_FAULTS,
	SVM_COUNT_CPU_FAULTS_SPURIOUS,
	SVM_COUNT_DEVICE_FAULTS,
	SVM_COUNT_BYTES_POPULATED,
	SVM_COUNT_BYTES_HOST_TO_DEVICE,
	SVM_COUNT_BYTES_DEVICE_TO_HOST,
	SVM_COUNT_BYTES_DEVICE_TO_DEVICE,
	SVM_COUNT_PAGES_MIGRATED,
	SVM_COUNT_PAGES_DUPLICATED,
	SVM_COUNT_PAGES_INVALIDATED,
	SVM_COUNT_PAGES_EVICTED,
	SVM_COUNT_PAGES_POISONED,
	SVM_COUNT_BLOCKS_CONVERTED,
	SVM_COUNT_TRANSITIONS,
	SVM_COUNT_BINDS,
	SVM_COUNT_THRASH_EVENTS,
	SVM_COUNT_WAKEUPS,
	SVM_COUNT_SPINS_HIT,
	SVM_COUNTERS,
};

#define SVM_TRACE_EVENTS 4096u /* ring size, power of two */

struct svm_trace {
	_Atomic uint64_t counters[SVM_COUNTERS];
	struct svm_arena *arena;
	struct svm_trace_slot *slots; /* SVM_TRACE_EVENTS of them, a mapping */
	_Atomic uint64_t head;	      /* events ever written */
};

int svm_trace_init(struct svm_trace *trace, struct svm_arena *arena);
void svm_trace_finish(struct svm_trace *trace);

static inline void svm_trace_count(struct svm_trace *trace, enum svm_counter counter, uint64_t n)
{
	atomic_fetch_add_explicit(&trace->counters[counter], n, memory_order_relaxed);
}

/* Lock-free; time_ns is filled in. A slot that is being read is detected by the reader (sequence count). */
void svm_trace_event(struct svm_trace *trace, const struct svm_event *event);
/* As svm_events_read(). */
int svm_trace_read(struct svm_trace *trace, uint64_t *cursor, struct svm_event *events,
		   size_t n_events, uint64_t *ret_lost);
/* Fill the counters of stats (not host_cache_bytes, metadata_bytes); events_lost is what the ring has overwritten. */
void svm_trace_stats(struct svm_trace *trace, struct svm_stats *stats);

#endif
