/* SPDX-License-Identifier: MIT */
/* PageRank over a graph, by the devices of a session and the CPU in turn. */
#ifndef PAGERANK_RANK_H
#define PAGERANK_RANK_H

#include "graph.h"
#include "phase.h"
#include "session.h"
#include "util.h"

/* When device work is put between acquire and release. */
enum rank_access {
	RANK_ACCESS_AUTO,    /* with hints yes, without hints only where faults do not work */
	RANK_ACCESS_FAULTS,  /* only where faults do not work */
	RANK_ACCESS_ACQUIRE, /* always */
};

struct rank_job {
	const struct session *session; /* NULL: by CPU alone, in any memory */
	struct graph *graph;
	unsigned int n_iterations;
	enum rank_access access;
	int with_hints;
	int engines_only; /* use no kernels, as if no device had SVM_CAP_LAUNCH */
	struct phase_list
		*phases; /* gets one phase "rank: WHO" for each who; not used without session */
	progress_fn *progress; /* may be NULL */
	void *progress_data;
};

struct rank_result {
	const double *rank; /* of all nodes by index: one of the graph's vectors; their sum is 1 */
	double change;	    /* sum of |new - old| in the last iteration */
};

/*
 * Iterations go round: each device alone, all devices together (each a part of the nodes), the CPU.
 * Whoever ranks a node runs the same instructions in the same order, so the result is the same to the
 * last bit. Complains on failure.
 */
int rank_graph(const struct rank_job *job, struct rank_result *ret_result);

/* 1 if the program has to compute on the CPU for this device, which only moves and fills memory. */
int rank_by_engine(const struct svm_device_info *info, int engines_only);

#endif
