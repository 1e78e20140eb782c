/* SPDX-License-Identifier: MIT */
/* PageRank over a graph, by the devices of a session and the CPU in turn. */
#ifndef PAGERANK_RANK_H
#define PAGERANK_RANK_H

#include "graph.h"
#include "phase.h"
#include "session.h"
#include "util.h"

struct rank_args {
	const struct node *nodes;
	const double *rank;	  /* of the last iteration */
	double *next;		  /* of this iteration */
	struct partial *partials; /* one per chunk of this launch */
	uint64_t n_nodes;
	uint64_t first_chunk; /* the grid's index 0 is this chunk */
	double base;	      /* what each node gets, however few include it */
};

/*
 * The kernel. Rank one chunk of nodes: a file is as important as the files that include it say, each of
 * which shares its own importance out among all it includes. Runs on devices and on the CPU alike; it
 * follows the graph's pointers and calls nothing. data is a struct rank_args.
 */
void rank_chunk(const void *data, uint64_t index, uint64_t count);

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
		*phases; /* gets one phase "rank: WHO" for each who, unless it or session is NULL */
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

/* Parts of it, for who does the turns otherwise: what each node gets in an iteration, from what nodes without
 * includes held before it; and that before the first iteration. */
double rank_base(const struct graph *graph, double dangling);
double rank_first_dangling(const struct graph *graph);

/* 1 if the program has to compute on the CPU for this device, which only moves and fills memory. */
int rank_by_engine(const struct svm_device_info *info, int engines_only);

#endif
