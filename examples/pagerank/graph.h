/* SPDX-License-Identifier: MIT */
/*
 * The graph: nodes, arrays of pointers and names, all linked by plain pointers. In managed memory the
 * same pointers work on the CPU and on every device, so nothing is translated, packed or copied by
 * hand anywhere in this program.
 */
#ifndef PAGERANK_GRAPH_H
#define PAGERANK_GRAPH_H

#include <stddef.h>
#include <stdint.h>

#include <libsvm/libsvm.h>

#include "scan.h"

/* One header file. Nodes never change once the graph is built; the ranks live in vectors of their own. */
struct node {
	const char *name;
	struct node **in;  /* files that include this one */
	struct node **out; /* files that this one includes */
	uint32_t n_in;
	uint32_t n_out;
	uint32_t index; /* of this node in graph.nodes and in the rank vectors */
};

/* What a chunk of nodes adds to sums over all nodes. */
struct partial {
	double dangling; /* rank of nodes that include nothing */
	double change;	 /* sum of |new rank - old rank| */
};

/*
 * Nodes are ranked in chunks of this many: the unit of work of an agent. Its part of a rank vector is
 * whole pages, so two devices that write different chunks never write the same page.
 */
#define CHUNK_NODES 1024u

/* The allocations that a graph is made of. */
enum graph_area {
	AREA_NODES,
	AREA_IN,
	AREA_OUT,
	AREA_NAMES,
	AREA_RANK_A,
	AREA_RANK_B,
	AREA_STAGING,
	AREA_PARTIALS,
	N_AREAS,
};

struct area {
	void *addr;
	uint64_t size; /* bytes; 0: not allocated */
};

struct graph {
	struct svm_space *space; /* NULL: in ordinary memory */
	struct area areas[N_AREAS];
	/* The same, typed. */
	struct node *nodes;
	double *rank[2];	  /* what is read and what is written take turns */
	double *staging;	  /* a third vector, or NULL */
	struct partial *partials; /* n_shares times partials_stride of them */
	size_t partials_stride;	  /* whole pages, for the same reason as CHUNK_NODES */
	size_t n_nodes;
	size_t n_edges;
	size_t n_chunks;
};

struct graph_options {
	uint32_t n_copies; /* the graph, this many times over: a bigger job of the same shape */
	uint32_t n_shares; /* agents that work at the same time, at most */
	int with_staging;
};

/*
 * Build the graph of a scan in managed memory, or in ordinary memory when space is NULL, by CPU.
 * Complains on failure, and then has freed all.
 */
int graph_build(struct svm_space *space, const struct scan *scan,
		const struct graph_options *options, struct graph *ret_graph);

/* Free a graph. Complains when memory cannot be freed. */
int graph_free(struct graph *graph);

/* Bytes that one copy of a graph takes, to choose the number of copies by. */
uint64_t graph_bytes_per_copy(const struct scan *scan);

#endif
