/* SPDX-License-Identifier: MIT */
/*
 * The demo's job as one writes it without shared memory: each device is a process with memory of its own,
 * the graph is copied there and its pointers are changed to point into the copy, rank vectors are copied
 * to and fro. Nothing of the library is used.
 */
#ifndef SVM_BENCH_HAND_H
#define SVM_BENCH_HAND_H

#include "../../examples/pagerank/graph.h"
#include <sys/types.h>

#define HAND_DEVICES 2u

struct hand_control;

/* A device: runs rank_chunk() on what is in its memory. */
struct hand_device {
	pid_t pid;
	struct hand_control *control; /* shared with it */
	char *memory;		      /* its memory, as it sees it and as the copies do */
	uint64_t memory_size;
	int fd;
	uint64_t n_launches;
	/* In its memory: */
	struct node *nodes;
	struct node **in;
	double *rank[2];
	struct partial *partials;
	uint64_t valid[2]; /* of rank[i]: iteration whose vector it has in full, 0 none */
};

/* Start a device with room for a copy of the graph. Its memory is untouched, as a new device's is. */
void hand_start(struct hand_device *device, const struct graph *graph);
void hand_stop(struct hand_device *device);

/* Rank a graph in ordinary memory by two devices and the CPU in turn, as rank_graph() does. Returns the vector. */
const double *hand_rank(struct graph *graph, struct hand_device devices[HAND_DEVICES],
			unsigned int n_iterations);

#endif
