// SPDX-License-Identifier: MIT
/*
 * The whole job of the demo (examples/pagerank), by its own code: build the graph, place it with hints, rank
 * it on two soft devices and the CPU in turn, read the result. Beside it, the same job with hand-written
 * copies (hand.c). Timed from before the graph is built until the result was read; opening devices, and
 * reading the tree of headers, come before. Both must give the same result, to the last bit.
 */
#include "bench.h"

#include "hand.h"
#include "../../examples/pagerank/place.h"
#include "../../examples/pagerank/rank.h"
#include "../../examples/pagerank/scan.h"
#include "../../examples/pagerank/session.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_ITERATIONS 24u /* as the demo */

struct job {
	struct scan scan;
	uint32_t n_copies;
	double *expected;
	size_t n_nodes;
};

/* The CPU reads the result. */
static void read_result(struct job *job, const struct graph *graph, const double *rank)
{
	size_t size = graph->n_nodes * sizeof(double);

	if (!job->expected) {
		job->expected = malloc(size);
		if (!job->expected)
			bench_fail(ENOMEM, "job: no memory");
		memcpy(job->expected, rank, size);
		job->n_nodes = graph->n_nodes;
	}
	if (graph->n_nodes != job->n_nodes || memcmp(rank, job->expected, size) != 0)
		bench_fail(EIO, "job: the results differ");
}

static double ms_since(uint64_t start)
{
	return (double)(bench_now() - start) / 1e6;
}

static double by_hand(struct job *job)
{
	const struct graph_options options = { .n_copies = job->n_copies, .n_shares = 1 };
	struct hand_device devices[HAND_DEVICES];
	struct graph size = {
		.n_nodes = job->scan.n_files * job->n_copies,
		.n_edges = job->scan.n_edges * job->n_copies,
	};
	struct graph graph;
	uint64_t start;
	double ms;

	size.n_chunks = (size.n_nodes + CHUNK_NODES - 1) / CHUNK_NODES;
	for (unsigned int i = 0; i < HAND_DEVICES; i++)
		hand_start(&devices[i], &size);
	start = bench_now();
	bench_check(graph_build(NULL, &job->scan, &options, &graph), "job: graph");
	read_result(job, &graph, hand_rank(&graph, devices, N_ITERATIONS));
	ms = ms_since(start);
	bench_check(graph_free(&graph), "job: graph");
	for (unsigned int i = 0; i < HAND_DEVICES; i++)
		hand_stop(&devices[i]);
	return ms;
}

static double by_library(struct job *job, bool with_hints)
{
	const struct graph_options options = { .n_copies = job->n_copies,
					       .n_shares = HAND_DEVICES };
	struct device_list list;
	struct session session;
	struct graph graph;
	struct rank_job rank_job = { .session = &session,
				     .graph = &graph,
				     .n_iterations = N_ITERATIONS,
				     .with_hints = with_hints };
	struct rank_result result;
	struct place_notes notes;
	uint64_t start;
	double ms;

	bench_check(device_list_choose("soft,soft", &list), "job: devices");
	bench_check(session_open(&list, &session), "job: devices");
	start = bench_now();
	bench_check(graph_build(session.space, &job->scan, &options, &graph), "job: graph");
	if (with_hints)
		bench_check(place_graph(&session, &graph, &notes), "job: hints");
	bench_check(rank_graph(&rank_job, &result), "job: rank");
	read_result(job, &graph, result.rank);
	ms = ms_since(start);
	bench_check(graph_free(&graph), "job: graph");
	bench_check(session_close(&session), "job: devices");
	return ms;
}

static void no_progress(void *data, const char *what, unsigned int done, unsigned int total)
{
	(void)data;
	(void)what;
	(void)done;
	(void)total;
}

void bench_job(const struct bench *bench)
{
	struct bench_series hand = { 0 };
	struct bench_series hints = { 0 };
	struct bench_series faults = { 0 };
	struct job job = { 0 };
	uint64_t copies;

	bench_check(scan_tree("/usr/include", no_progress, NULL, &job.scan), "job: /usr/include");
	/* As large as the demo makes it. */
	copies = 64 * MIB / bench->shrink / graph_bytes_per_copy(&job.scan);
	job.n_copies = copies ? (uint32_t)copies : 1;
	for (unsigned int round = 0; round < bench->rounds; round++) {
		bench_add(&hand, by_hand(&job));
		bench_add(&hints, by_library(&job, true));
		bench_add(&faults, by_library(&job, false));
	}
	free(job.expected);
	scan_free(&job.scan);
	bench_compare("job.with-hints", "ms", &hints, &hand, BENCH_RATIO_MAX, 1.1);
	bench_compare("job.without-hints", "ms", &faults, &hand, BENCH_INFO, 0);
}
