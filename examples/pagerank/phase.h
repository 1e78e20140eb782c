/* SPDX-License-Identifier: MIT */
/* What a phase of the job cost, and where the bytes were when it ended: from the library's counters. */
#ifndef PAGERANK_PHASE_H
#define PAGERANK_PHASE_H

#include <stdint.h>

#include "graph.h"
#include "session.h"

#define PHASE_NAME_LENGTH 32u
/* build, place, each device alone, all devices, CPU, read back */
#define MAX_PHASES (SVM_MAX_DEVICES + 5u)

struct phase_cost {
	uint64_t time_ns;
	uint64_t cpu_faults;
	uint64_t device_faults;
	uint64_t host_to_device; /* bytes, as the next two */
	uint64_t device_to_host;
	uint64_t device_to_device;
};

struct phase {
	char name[PHASE_NAME_LENGTH];
	struct phase_cost cost;
	/* Bytes of the graph that each location held at the end; a duplicated page counts at each. */
	uint64_t on_host;
	uint64_t on_device[SVM_MAX_DEVICES];
};

/* The start of a phase. */
struct phase_mark {
	uint64_t time_ns;
	struct svm_stats stats;
};

/* All phases of one run. */
struct phase_list {
	size_t n;
	struct phase phases[MAX_PHASES];
};

/* The phase of that name, new at the end of the list or, for one that comes again, the old one. */
struct phase *phase_get(struct phase_list *list, const char *name);

/* Start measuring. Complains on failure. */
int phase_begin(const struct session *session, struct phase_mark *ret_mark);

/* Add the cost since the mark to the phase, and note where the graph is now. Complains on failure. */
int phase_end(const struct session *session, const struct graph *graph,
	      const struct phase_mark *mark, struct phase *phase);

/* Sum of the costs of all phases whose name begins so. */
struct phase_cost phase_sum(const struct phase_list *list, const char *prefix);

#endif
