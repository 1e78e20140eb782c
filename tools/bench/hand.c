// SPDX-License-Identifier: MIT
#include "hand.h"

#include "bench.h"
#include "../../examples/pagerank/rank.h"
#include <errno.h>
#include <linux/futex.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* How often to look before sleeping: what the soft device's engine does at most. */
#define SPINS 2000u

struct hand_control {
	_Atomic uint32_t submitted; /* futex */
	_Atomic uint32_t done;	    /* futex */
	struct rank_args args;
	uint64_t n_chunks;
};

static void wait_for_change(_Atomic uint32_t *word, uint32_t old)
{
	for (unsigned int i = 0; i < SPINS; i++) {
		if (atomic_load_explicit(word, memory_order_acquire) != old)
			return;
		__asm__ volatile("" ::: "memory");
	}
	while (atomic_load(word) == old)
		(void)syscall(SYS_futex, word, FUTEX_WAIT, old, NULL, NULL, 0);
}

static void add_one(_Atomic uint32_t *word)
{
	atomic_fetch_add(word, 1);
	(void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

_Noreturn static void work(struct hand_control *control)
{
	uint32_t n = 0;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		wait_for_change(&control->submitted, n++);
		for (uint64_t i = 0; i < control->n_chunks; i++)
			rank_chunk(&control->args, i, control->n_chunks);
		add_one(&control->done);
	}
}

static char *carve(char **next, uint64_t size)
{
	char *part = *next;

	*next += (size + PAGE - 1) / PAGE * PAGE;
	return part;
}

void hand_start(struct hand_device *device, const struct graph *graph)
{
	uint64_t vector_size = graph->n_nodes * sizeof(double);
	uint64_t nodes_size = graph->n_nodes * sizeof(struct node);
	uint64_t in_size = graph->n_edges * sizeof(struct node *);
	uint64_t partials_size = graph->n_chunks * sizeof(struct partial);
	char *next;

	*device = (struct hand_device){ .memory_size = nodes_size + in_size + 2 * vector_size +
						       partials_size + 8 * PAGE };
	device->memory = bench_map_memfd(device->memory_size, &device->fd);
	next = device->memory;
	device->nodes = (struct node *)(void *)carve(&next, nodes_size);
	device->in = (struct node **)(void *)carve(&next, in_size);
	device->rank[0] = (double *)(void *)carve(&next, vector_size);
	device->rank[1] = (double *)(void *)carve(&next, vector_size);
	device->partials = (struct partial *)(void *)carve(&next, partials_size);
	device->control = mmap(NULL, sizeof(*device->control), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (device->control == MAP_FAILED)
		bench_fail(errno, "job: mmap");
	device->pid = fork();
	bench_check_errno(device->pid, "job: fork");
	if (device->pid == 0)
		work(device->control);
}

void hand_stop(struct hand_device *device)
{
	bench_check_errno(kill(device->pid, SIGKILL), "job: kill");
	bench_check_errno(waitpid(device->pid, NULL, 0), "job: waitpid");
	bench_unmap(device->memory, device->memory_size);
	munmap(device->control, sizeof(*device->control));
	close(device->fd);
}

/* The hand-written part: copy what the kernel follows, each pointer changed to point into the copy. */
static void copy_graph(struct hand_device *device, const struct graph *graph)
{
	struct node **in = graph->areas[AREA_IN].addr;

	for (size_t i = 0; i < graph->n_nodes; i++) {
		device->nodes[i] = graph->nodes[i];
		device->nodes[i].in = device->in + (graph->nodes[i].in - in);
	}
	for (size_t i = 0; i < graph->n_edges; i++)
		device->in[i] = device->nodes + (in[i] - graph->nodes);
}

struct share {
	uint64_t first_chunk;
	uint64_t n_chunks;
};

static uint64_t first_node(const struct share *share)
{
	return share->first_chunk * CHUNK_NODES;
}

static uint64_t n_nodes_of(const struct graph *graph, const struct share *share)
{
	uint64_t end = first_node(share) + share->n_chunks * CHUNK_NODES;

	return (end < graph->n_nodes ? end : graph->n_nodes) - first_node(share);
}

static void start(struct hand_device *device, struct graph *graph, const struct rank_args *args,
		  const struct share *share, unsigned int iteration)
{
	unsigned int from = iteration % 2;

	/* What it ranked itself, in full, it still has. */
	if (iteration == 0 || device->valid[from] != iteration)
		memcpy(device->rank[from], graph->rank[from], graph->n_nodes * sizeof(double));
	device->control->args = *args;
	device->control->args.nodes = device->nodes;
	device->control->args.rank = device->rank[from];
	device->control->args.next = device->rank[!from];
	device->control->args.partials = device->partials;
	device->control->args.first_chunk = share->first_chunk;
	device->control->n_chunks = share->n_chunks;
	device->n_launches++;
	add_one(&device->control->submitted);
}

static void finish(struct hand_device *device, struct graph *graph, const struct share *share,
		   unsigned int iteration, struct partial *partials)
{
	unsigned int to = (iteration + 1) % 2;
	uint64_t first = first_node(share);
	uint64_t n = n_nodes_of(graph, share);

	wait_for_change(&device->control->done, (uint32_t)device->n_launches - 1);
	memcpy(&graph->rank[to][first], &device->rank[to][first], n * sizeof(double));
	memcpy(partials, device->partials, share->n_chunks * sizeof(*partials));
	device->valid[to] = n == graph->n_nodes ? iteration + 1 : 0;
}

/* The turns of rank_graph(): each device alone, both together, the CPU. */
static void run_turn(struct graph *graph, struct hand_device devices[HAND_DEVICES],
		     const struct rank_args *args, unsigned int iteration)
{
	unsigned int turn = iteration % (HAND_DEVICES + 2);
	unsigned int first = turn < HAND_DEVICES ? turn : 0;
	unsigned int n = turn < HAND_DEVICES ? 1 : turn == HAND_DEVICES ? HAND_DEVICES : 0;
	struct share shares[HAND_DEVICES];

	for (unsigned int i = 0; i < n; i++) {
		shares[i].first_chunk = graph->n_chunks * i / n;
		shares[i].n_chunks = graph->n_chunks * (i + 1) / n - shares[i].first_chunk;
		start(&devices[first + i], graph, args, &shares[i], iteration);
	}
	for (unsigned int i = 0; i < n; i++)
		finish(&devices[first + i], graph, &shares[i], iteration,
		       &graph->partials[shares[i].first_chunk]);
	for (uint64_t i = 0; n == 0 && i < graph->n_chunks; i++)
		rank_chunk(args, i, graph->n_chunks);
}

const double *hand_rank(struct graph *graph, struct hand_device devices[HAND_DEVICES],
			unsigned int n_iterations)
{
	double dangling = rank_first_dangling(graph);

	for (unsigned int i = 0; i < HAND_DEVICES; i++)
		copy_graph(&devices[i], graph);
	for (unsigned int i = 0; i < n_iterations; i++) {
		const struct rank_args args = {
			.nodes = graph->nodes,
			.rank = graph->rank[i % 2],
			.next = graph->rank[(i + 1) % 2],
			.partials = graph->partials,
			.n_nodes = graph->n_nodes,
			.base = rank_base(graph, dangling),
		};

		run_turn(graph, devices, &args, i);
		dangling = 0;
		for (uint64_t c = 0; c < graph->n_chunks; c++)
			dangling += graph->partials[c].dangling;
	}
	return graph->rank[n_iterations % 2];
}
