/* SPDX-License-Identifier: MIT */
/* Counters and events of a space. Values and fields are only ever appended. */
#ifndef LIBSVM_TRACE_H
#define LIBSVM_TRACE_H

#include <libsvm/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* Counters since the space was created. */
struct svm_stats {
	size_t size;		      /* set by the caller to sizeof(struct svm_stats) */
	uint64_t cpu_faults;	      /* fault events read */
	uint64_t cpu_faults_spurious; /* that needed nothing */
	uint64_t device_faults;
	uint64_t bytes_populated;      /* first copies made */
	uint64_t bytes_host_to_device; /* copied */
	uint64_t bytes_device_to_host;
	uint64_t bytes_device_to_device;
	uint64_t pages_migrated;
	uint64_t pages_duplicated;
	uint64_t pages_invalidated; /* copies or mappings taken away because of a write */
	uint64_t pages_evicted;
	uint64_t pages_poisoned;
	uint64_t blocks_converted; /* private to shared host storage */
	uint64_t transitions;
	uint64_t binds; /* bind and unbind entries given to backends */
	uint64_t thrash_events;
	uint64_t wakeups;	   /* times a service thread woke up */
	uint64_t spins_hit;	   /* faults that were caught spinning */
	uint64_t host_cache_bytes; /* stale host pages kept now */
	uint64_t metadata_bytes;   /* memory that the library holds for itself now */
	uint64_t events_lost;	   /* overwritten before they were read */
};

/* Errors: -EINVAL (stats->size), -ECHILD. */
int svm_stats_query(struct svm_space *space, struct svm_stats *stats);

enum svm_event_kind {
	SVM_EVENT_CPU_FAULT = 1,    /* addr; value: 1 for write */
	SVM_EVENT_DEVICE_FAULT = 2, /* device, addr; value: 1 for write */
	SVM_EVENT_MIGRATE =
		3, /* addr, size; from and to are location numbers: 0 host, id + 1 device */
	SVM_EVENT_DUPLICATE = 4,   /* addr, size, from, to */
	SVM_EVENT_POPULATE = 5,	   /* addr, size, to */
	SVM_EVENT_EVICT = 6,	   /* addr, size, from, to */
	SVM_EVENT_THRASH = 7,	   /* addr; value: moves within the window of time */
	SVM_EVENT_POISON = 8,	   /* addr, size, device */
	SVM_EVENT_DEVICE_LOST = 9, /* device */
	SVM_EVENT_CONVERT = 10,	   /* addr, size: private to shared */
	SVM_EVENT_REFUSED = 11,	   /* addr; value: errno of a fault that could not be served */
	SVM_EVENT_WATCHDOG = 12,   /* device; value: milliseconds that an operation was late */
	SVM_EVENT_UNMAPPED = 13,   /* addr, size: the application unmapped registered memory */
};

struct svm_event {
	uint64_t time_ns; /* CLOCK_MONOTONIC */
	uint64_t addr;
	uint64_t size; /* bytes */
	uint64_t value;
	uint32_t kind;	 /* enum svm_event_kind */
	uint32_t device; /* id, or ~0 */
	uint16_t from;
	uint16_t to;
	uint32_t reserved;
};

/*
 * Read events from a ring that keeps the latest few thousand. *cursor is 0 at first and advances; a
 * reader that falls behind skips what was overwritten and *ret_lost (may be NULL) gets the number of
 * those. Returns the number of events written, 0 when there are none. Any number of readers.
 * Errors: -EINVAL, -ECHILD.
 */
int svm_events_read(struct svm_space *space, uint64_t *cursor, struct svm_event *events,
		    size_t n_events, uint64_t *ret_lost);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
