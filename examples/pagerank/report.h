/* SPDX-License-Identifier: MIT */
/* What the user sees: progress, tables, and the same as JSON. */
#ifndef PAGERANK_REPORT_H
#define PAGERANK_REPORT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "graph.h"
#include "phase.h"
#include "place.h"
#include "scan.h"

#define TOP_NODES 10u

/* A node of the top ten, copied out of the graph. */
struct top_node {
	char *name;
	double rank; /* share of the rank of one copy of the graph */
	uint32_t n_in;
	uint32_t n_out;
};

struct top {
	size_t n;
	struct top_node nodes[TOP_NODES];
};

/* One run of the job. */
struct run {
	int done;
	int with_hints;
	struct phase_list phases;
	struct place_notes notes;
	double change;	/* in the last iteration */
	size_t n_wrong; /* ranks that differ from those of the CPU alone */
};

/* All that there is to tell. */
struct report {
	const char *directory;
	const struct scan *scan;
	size_t n_devices;
	struct svm_device_info devices[SVM_MAX_DEVICES];
	uint32_t by_engine; /* bit i: device i only moves and fills, the CPU computes */
	uint64_t scan_ns;
	uint64_t cpu_only_ns; /* the ranking by CPU alone in ordinary memory */
	uint64_t n_nodes;
	uint64_t n_edges;
	uint32_t n_copies;
	unsigned int n_iterations;
	int hints_with_acquire; /* the run with hints puts device work between acquire and release */
	struct run runs[2];	/* without hints, with hints */
	struct top top;
};

/* ---- Progress: a bar on a terminal, a few plain lines elsewhere ---- */

#define PROGRESS_STEPS 32u

struct progress {
	FILE *out;
	int is_terminal;
	const char *title;  /* what is going on */
	const char *unit;   /* what is counted */
	unsigned int shown; /* how far the last one shown was, in 1/PROGRESS_STEPS */
};

void progress_init(struct progress *progress, FILE *out);
void progress_start(struct progress *progress, const char *title, const char *unit);

/* A progress function for scan_tree() and rank_job; progress_data is a struct progress. */
void progress_show(void *progress_data, const char *what, unsigned int done, unsigned int total);

/* ---- Results ---- */

/* Copy the highest ranked nodes of the graph's first copy out. Equal ones in order of their index. */
int top_find(const struct graph *graph, const double *rank, uint32_t n_copies, struct top *ret_top);
void top_free(struct top *top);

/* Before the runs: what will be ranked, on what. */
void report_print_job(const struct report *report);

/* After a run: its phases. */
void report_print_run(const struct report *report, const struct run *run);

/* After all runs: what hints saved, and the top ten. */
void report_print_end(const struct report *report);

/* All of it in one JSON object. */
void report_print_json(const struct report *report);

#endif
