// SPDX-License-Identifier: MIT
#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "rank.h"
#include "util.h"

#define DAMPING 0.85

/* ---- The kernel ------------------------------------------------------------------------------ */

_Static_assert(sizeof(struct rank_args) <= SVM_SOFT_ARGS_SIZE, "arguments fit a launch");

void rank_chunk(const void *data, uint64_t index, uint64_t count)
{
	const struct rank_args *args = data;
	uint64_t first = (args->first_chunk + index) * CHUNK_NODES;
	uint64_t end = first + CHUNK_NODES;
	struct partial sum = { 0 };

	(void)count;
	if (end > args->n_nodes)
		end = args->n_nodes;
	for (uint64_t i = first; i < end; i++) {
		const struct node *node = &args->nodes[i];
		double in = 0.0, rank;

		for (uint32_t k = 0; k < node->n_in; k++)
			in += args->rank[node->in[k]->index] / node->in[k]->n_out;
		rank = args->base + DAMPING * in;
		if (node->n_out == 0)
			sum.dangling += rank;
		sum.change += fabs(rank - args->rank[i]);
		args->next[i] = rank;
	}
	args->partials[index] = sum;
}

/* ---- One agent's share of an iteration ------------------------------------------------------- */

struct share {
	struct rank_args args;
	uint64_t n_chunks;
	size_t device;		/* index in the session; not used for the CPU */
	struct svm_fence *done; /* NULL: nothing under way */
};

static void share_on_cpu(const struct share *share)
{
	for (uint64_t i = 0; i < share->n_chunks; i++)
		rank_chunk(&share->args, i, share->n_chunks);
}

/* Bytes of a rank vector that the share writes, from args.next[args.first_chunk * CHUNK_NODES] on. */
static uint64_t share_bytes(const struct share *share)
{
	uint64_t first = share->args.first_chunk * CHUNK_NODES;
	uint64_t end = first + share->n_chunks * CHUNK_NODES;

	if (end > share->args.n_nodes)
		end = share->args.n_nodes;
	return (end - first) * sizeof(double);
}

/* Launch the kernel and let faults bring what it touches. */
static int launch(const struct rank_job *job, struct share *share)
{
	return svm_soft_launch(job->session->devices[share->device], rank_chunk, &share->args,
			       sizeof(share->args), share->n_chunks, NULL, &share->done);
}

/* Say what the kernel will touch, have it brought, launch, and let go of it when the kernel is done. */
static int launch_acquired(const struct rank_job *job, struct share *share)
{
	struct svm_device *device = job->session->devices[share->device];
	const struct graph *graph = job->graph;
	const struct rank_args *args = &share->args;
	const struct svm_access_range ranges[] = {
		{ graph->areas[AREA_NODES].addr, graph->areas[AREA_NODES].size, SVM_ACCESS_READ,
		  0 },
		{ graph->areas[AREA_IN].addr, graph->areas[AREA_IN].size, SVM_ACCESS_READ, 0 },
		{ (void *)args->rank, args->n_nodes * sizeof(double), SVM_ACCESS_READ, 0 },
		{ &args->next[args->first_chunk * CHUNK_NODES], share_bytes(share),
		  SVM_ACCESS_WRITE, 0 },
		{ args->partials, share->n_chunks * sizeof(struct partial), SVM_ACCESS_WRITE, 0 },
	};
	struct svm_access *access;
	int ret = svm_acquire(device, ranges, sizeof(ranges) / sizeof(ranges[0]), 0, &access, NULL);
	int err;

	if (ret)
		return ret;
	ret = launch(job, share);
	err = svm_release(access, share->done);
	return ret ? ret : err;
}

/*
 * A device that runs no kernels still has an engine that reads and writes the program's own
 * pointers. The CPU computes into the staging vector, the device moves the result to its place; it
 * first fills that with garbage (all ones is a NaN), so a byte not moved would be noticed.
 */
static int share_by_engine(const struct rank_job *job, struct share *share)
{
	struct svm_device *device = job->session->devices[share->device];
	uint64_t first = share->args.first_chunk * CHUNK_NODES;
	double *next = &share->args.next[first];
	uint64_t size = share_bytes(share);
	struct share on_cpu = *share;
	int ret = svm_device_fill(device, next, 0xff, size, NULL, NULL);

	if (ret)
		return ret;
	on_cpu.args.next = job->graph->staging;
	share_on_cpu(&on_cpu);
	return svm_device_copy(device, next, &job->graph->staging[first], size, NULL, &share->done);
}

int rank_by_engine(const struct svm_device_info *info, int engines_only)
{
	return engines_only || !(info->caps & SVM_CAP_LAUNCH);
}

static int share_start(const struct rank_job *job, struct share *share)
{
	const struct svm_device_info *info = &job->session->infos[share->device];
	int has_faults = (info->caps & SVM_CAP_FAULTS) != 0;
	int acquire = !has_faults || job->access == RANK_ACCESS_ACQUIRE ||
		      (job->access == RANK_ACCESS_AUTO && job->with_hints);
	int ret;

	if (rank_by_engine(info, job->engines_only))
		return share_by_engine(job, share);
	if (!acquire)
		return launch(job, share);
	ret = launch_acquired(job, share);
	/* All of the graph at once is more than the device's memory: faults bring it bit by bit. */
	if (ret == -ENOSPC && has_faults)
		ret = launch(job, share);
	return ret;
}

static int share_finish(struct share *share)
{
	int ret;

	if (!share->done)
		return 0;
	ret = svm_fence_wait(share->done, -1);
	svm_fence_unref(share->done);
	share->done = NULL;
	return ret;
}

/* ---- Turns ----------------------------------------------------------------------------------- */

/* Who works in an iteration: devices [first, first + n), or the CPU when n is 0. */
struct turn {
	size_t first;
	size_t n;
	char phase[PHASE_NAME_LENGTH];
};

static struct turn turn_of(const struct rank_job *job, unsigned int iteration)
{
	size_t n_devices = job->session ? job->session->n_devices : 0;
	size_t n_turns = n_devices + (n_devices > 1) + 1;
	size_t i = iteration % n_turns;
	struct turn turn = { .phase = "rank: CPU" };

	if (i < n_devices) {
		turn.first = i;
		turn.n = 1;
		snprintf(turn.phase, sizeof(turn.phase), "rank: device %zu", i);
	} else if (i + 1 < n_turns) {
		turn.n = n_devices;
		snprintf(turn.phase, sizeof(turn.phase), "rank: all devices");
	}
	return turn;
}

/* Cut the chunks into one share per agent of the turn. Returns how many shares have work. */
static size_t cut_shares(const struct graph *graph, const struct turn *turn,
			 const struct rank_args *args, struct share *shares)
{
	size_t n_agents = turn->n ? turn->n : 1;
	size_t n_shares = 0;

	for (size_t i = 0; i < n_agents; i++) {
		size_t first = graph->n_chunks * i / n_agents;
		size_t end = graph->n_chunks * (i + 1) / n_agents;

		if (first == end)
			continue;
		shares[n_shares] = (struct share){
			.args = *args,
			.n_chunks = end - first,
			.device = turn->first + i,
		};
		shares[n_shares].args.first_chunk = first;
		shares[n_shares].args.partials =
			&graph->partials[n_shares * graph->partials_stride];
		n_shares++;
	}
	return n_shares;
}

/* Start all shares, then wait for all: also when one fails, since the others use the graph. */
static int run_shares(const struct rank_job *job, struct share *shares, size_t n_shares)
{
	int ret = 0;

	for (size_t i = 0; i < n_shares; i++) {
		int err = share_start(job, &shares[i]);

		if (err)
			ret = complain(err, "cannot start work on device %zu", shares[i].device);
	}
	for (size_t i = 0; i < n_shares; i++) {
		int err = share_finish(&shares[i]);

		if (err)
			ret = complain(err, "work on device %zu failed", shares[i].device);
	}
	return ret;
}

/* Add the chunks' sums in the order of the chunks, whoever computed them. */
static struct partial add_partials(const struct share *shares, size_t n_shares)
{
	struct partial sum = { 0 };

	for (size_t i = 0; i < n_shares; i++) {
		for (uint64_t chunk = 0; chunk < shares[i].n_chunks; chunk++) {
			sum.dangling += shares[i].args.partials[chunk].dangling;
			sum.change += shares[i].args.partials[chunk].change;
		}
	}
	return sum;
}

static int run_turn(const struct rank_job *job, const struct turn *turn,
		    const struct rank_args *args, struct partial *ret_sum)
{
	struct share shares[SVM_MAX_DEVICES];
	size_t n_shares = cut_shares(job->graph, turn, args, shares);
	int ret = 0;

	if (turn->n > 0)
		ret = run_shares(job, shares, n_shares);
	else if (n_shares > 0)
		share_on_cpu(&shares[0]);
	if (!ret)
		*ret_sum = add_partials(shares, n_shares);
	return ret;
}

static int run_measured_turn(const struct rank_job *job, const struct turn *turn,
			     const struct rank_args *args, struct partial *ret_sum)
{
	struct phase_mark mark;
	int ret;

	if (!job->session || !job->phases)
		return run_turn(job, turn, args, ret_sum);
	ret = phase_begin(job->session, &mark);
	if (!ret)
		ret = run_turn(job, turn, args, ret_sum);
	if (!ret)
		ret = phase_end(job->session, job->graph, &mark,
				phase_get(job->phases, turn->phase));
	return ret;
}

/* Rank that files without includes hold before the first iteration, when all are equal. */
double rank_first_dangling(const struct graph *graph)
{
	uint64_t n = 0;

	for (size_t i = 0; i < graph->n_nodes; i++)
		n += graph->nodes[i].n_out == 0;
	return (double)n / (double)graph->n_nodes;
}

/* Who includes nothing has nobody to give its rank to: it goes to all alike. */
double rank_base(const struct graph *graph, double dangling)
{
	return (1.0 - DAMPING + DAMPING * dangling) / (double)graph->n_nodes;
}

int rank_graph(const struct rank_job *job, struct rank_result *ret_result)
{
	struct graph *graph = job->graph;
	struct partial sum = { .dangling = rank_first_dangling(graph) };

	for (unsigned int i = 0; i < job->n_iterations; i++) {
		struct turn turn = turn_of(job, i);
		struct rank_args args = {
			.nodes = graph->nodes,
			.rank = graph->rank[i % 2],
			.next = graph->rank[(i + 1) % 2],
			.n_nodes = graph->n_nodes,
			.base = rank_base(graph, sum.dangling),
		};
		int ret = run_measured_turn(job, &turn, &args, &sum);

		if (ret)
			return ret;
		if (job->progress)
			job->progress(job->progress_data, turn.phase, i + 1, job->n_iterations);
	}
	*ret_result = (struct rank_result){
		.rank = graph->rank[job->n_iterations % 2],
		.change = sum.change,
	};
	return 0;
}
