// SPDX-License-Identifier: MIT
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "graph.h"
#include "util.h"

static uint64_t round_up(uint64_t size)
{
	return (size + SVM_PAGE_SIZE - 1) / SVM_PAGE_SIZE * SVM_PAGE_SIZE;
}

/* Zeroed memory that is not managed; with huge pages, as managed memory has them, so that times compare. */
static void *ordinary_alloc(uint64_t size)
{
	void *addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		return NULL;
	(void)madvise(addr, size, MADV_HUGEPAGE); /* a wish */
	return addr;
}

static int ordinary_free(void *addr, uint64_t size)
{
	return addr && munmap(addr, size) ? -errno : 0;
}

/* Zeroed memory for one area: managed, so every agent may use it, or ordinary. */
static int area_alloc(struct graph *graph, enum graph_area which, uint64_t size)
{
	struct area *area = &graph->areas[which];
	int ret = 0;

	if (size == 0)
		size = 1; /* a tree without any edge */
	if (graph->space)
		ret = svm_alloc(graph->space, size, 0, &area->addr);
	else if (!(area->addr = ordinary_alloc(size)))
		ret = -ENOMEM;
	if (ret)
		return complain(ret, "cannot allocate %llu bytes for the graph",
				(unsigned long long)size);
	area->size = size;
	return 0;
}

int graph_free(struct graph *graph)
{
	int ret = 0;

	for (int i = 0; i < N_AREAS; i++) {
		struct area *area = &graph->areas[i];
		int err = 0;

		if (graph->space)
			err = svm_free(graph->space, area->addr);
		else
			err = ordinary_free(area->addr, area->size);
		if (err)
			ret = complain(err, "cannot free a part of the graph");
	}
	*graph = (struct graph){ 0 };
	return ret;
}

static size_t names_size(const struct scan *scan)
{
	size_t size = 0;

	for (size_t i = 0; i < scan->n_files; i++)
		size += strlen(scan->paths[i]) + 1;
	return size;
}

static int alloc_areas(struct graph *graph, const struct scan *scan,
		       const struct graph_options *options)
{
	size_t edges_size = graph->n_edges * sizeof(struct node *);
	size_t vector_size = graph->n_nodes * sizeof(double);
	size_t stride_size = round_up(graph->n_chunks * sizeof(struct partial));
	const uint64_t sizes[N_AREAS] = {
		[AREA_NODES] = graph->n_nodes * sizeof(struct node),
		[AREA_IN] = edges_size,
		[AREA_OUT] = edges_size,
		[AREA_NAMES] = names_size(scan),
		[AREA_RANK_A] = vector_size,
		[AREA_RANK_B] = vector_size,
		[AREA_STAGING] = vector_size,
		[AREA_PARTIALS] = options->n_shares * stride_size,
	};

	for (int i = 0; i < N_AREAS; i++) {
		int ret = i == AREA_STAGING && !options->with_staging
				  ? 0
				  : area_alloc(graph, i, sizes[i]);

		if (ret)
			return ret;
	}
	graph->nodes = graph->areas[AREA_NODES].addr;
	graph->rank[0] = graph->areas[AREA_RANK_A].addr;
	graph->rank[1] = graph->areas[AREA_RANK_B].addr;
	graph->staging = graph->areas[AREA_STAGING].addr;
	graph->partials = graph->areas[AREA_PARTIALS].addr;
	graph->partials_stride = stride_size / sizeof(struct partial);
	return 0;
}

/* All copies of a file share its name. */
static void link_names(struct graph *graph, const struct scan *scan)
{
	char *name = graph->areas[AREA_NAMES].addr;

	for (size_t i = 0; i < scan->n_files; i++) {
		size_t size = strlen(scan->paths[i]) + 1;

		memcpy(name, scan->paths[i], size);
		for (size_t node = i; node < graph->n_nodes; node += scan->n_files)
			graph->nodes[node].name = name;
		name += size;
	}
}

static void link_out(struct graph *graph, const struct scan *scan)
{
	struct node **next = graph->areas[AREA_OUT].addr;

	for (size_t i = 0; i < graph->n_nodes; i++) {
		size_t file = i % scan->n_files;
		struct node *copy = &graph->nodes[i - file]; /* file 0 of the same copy */
		struct node *node = &graph->nodes[i];

		node->index = (uint32_t)i;
		node->out = next;
		node->n_out = scan->first_edge[file + 1] - scan->first_edge[file];
		for (uint32_t k = 0; k < node->n_out; k++)
			*next++ = &copy[scan->edges[scan->first_edge[file] + k]];
	}
}

/* The other direction follows from the pointers themselves: count, place, fill. */
static void link_in(struct graph *graph)
{
	struct node **next = graph->areas[AREA_IN].addr;

	for (size_t i = 0; i < graph->n_nodes; i++) {
		for (uint32_t k = 0; k < graph->nodes[i].n_out; k++)
			graph->nodes[i].out[k]->n_in++;
	}
	for (size_t i = 0; i < graph->n_nodes; i++) {
		graph->nodes[i].in = next;
		next += graph->nodes[i].n_in;
		graph->nodes[i].n_in = 0;
	}
	for (size_t i = 0; i < graph->n_nodes; i++) {
		for (uint32_t k = 0; k < graph->nodes[i].n_out; k++) {
			struct node *target = graph->nodes[i].out[k];

			target->in[target->n_in++] = &graph->nodes[i];
		}
	}
}

int graph_build(struct svm_space *space, const struct scan *scan,
		const struct graph_options *options, struct graph *ret_graph)
{
	struct graph graph = {
		.space = space,
		.n_nodes = scan->n_files * options->n_copies,
		.n_edges = scan->n_edges * options->n_copies,
	};
	int ret;

	if (graph.n_nodes > UINT32_MAX)
		return complain(-E2BIG, "%zu files, %u times", scan->n_files, options->n_copies);
	graph.n_chunks = (graph.n_nodes + CHUNK_NODES - 1) / CHUNK_NODES;

	ret = alloc_areas(&graph, scan, options);
	if (ret) {
		graph_free(&graph);
		return ret;
	}
	link_names(&graph, scan);
	link_out(&graph, scan);
	link_in(&graph);
	for (size_t i = 0; i < graph.n_nodes; i++)
		graph.rank[0][i] = 1.0 / (double)graph.n_nodes;
	*ret_graph = graph;
	return 0;
}

uint64_t graph_bytes_per_copy(const struct scan *scan)
{
	return scan->n_files * (sizeof(struct node) + 2 * sizeof(double)) +
	       scan->n_edges * 2 * sizeof(struct node *);
}
