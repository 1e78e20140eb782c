/* SPDX-License-Identifier: MIT */
/* Hints for the graph: said once, for all devices together. */
#ifndef PAGERANK_PLACE_H
#define PAGERANK_PLACE_H

#include "graph.h"
#include "session.h"

/* What the library answered to one hint. */
struct place_note {
	const char *hint;
	const char *target;
	struct svm_outcome outcome;
};

#define MAX_PLACE_NOTES 16u

struct place_notes {
	size_t n;
	struct place_note notes[MAX_PLACE_NOTES];
};

/*
 * Advise and prefetch:
 *  - what never changes and devices read (nodes, incoming edges) is read mostly and accessed by all
 *    devices: each gets a copy of its own, now, by prefetch;
 *  - what changes in each iteration (rank vectors, partial sums) prefers the host and is accessed by
 *    all devices: they write it in place, where they reach host memory.
 * Complains on failure.
 */
int place_graph(const struct session *session, const struct graph *graph,
		struct place_notes *ret_notes);

/* One or two words for a status, a few for a reason. */
const char *place_status_name(uint32_t status);
const char *place_reason_name(uint32_t reason);

#endif
