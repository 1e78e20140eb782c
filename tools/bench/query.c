// SPDX-License-Identifier: MIT
/*
 * Hints and queries at random addresses of memory that is cut into many ranges: runs of pages with equal
 * hints. And pointer queries over as many allocations. Beside each, binary search in a plain sorted array of
 * as many addresses: what is logarithmic by construction, with what this machine's caches make of it. "No worse than
 * logarithmic": from 100 ranges to 10^4 and 10^6 the time grows by no larger a factor than that of the search.
 */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define N_SIZES 3u

static const size_t sizes[N_SIZES] = { 100, 10000, 1000000 };

#define RANGE_PAGES 2u
#define N_OPS	    100000u

struct map {
	struct svm_space *space;
	char *base;
	size_t n_ranges;
	size_t n_ops;
	uint64_t *starts; /* a baseline's: sorted */
	void **allocs;
};

static volatile uint64_t sink;

static void *range_addr(const struct map *map, uint64_t *random)
{
	return map->base + bench_random(random) % map->n_ranges * (RANGE_PAGES * PAGE);
}

/* Each pair of calls cuts a range in two and joins it again. */
static void advise(const struct map *map, uint64_t *random)
{
	const struct svm_advice advice = { .kind = SVM_ADVICE_GRANULARITY, .value = 64 * KIB };

	for (size_t i = 0; i < map->n_ops / 2; i++) {
		void *addr = range_addr(map, random);

		bench_check(svm_advise(map->space, addr, PAGE, &advice, 1, NULL), "advise");
		bench_check(svm_unadvise(map->space, addr, PAGE, 1u << SVM_ADVICE_GRANULARITY),
			    "unadvise");
	}
}

static void residency(const struct map *map, uint64_t *random)
{
	struct svm_page_residency page;

	for (size_t i = 0; i < map->n_ops; i++)
		bench_check(svm_residency_query(map->space, range_addr(map, random), PAGE, &page, 1,
						NULL),
			    "residency query");
}

static void pointer(const struct map *map, uint64_t *random)
{
	struct svm_pointer_info info = { .size = sizeof(info) };

	for (size_t i = 0; i < map->n_ops; i++) {
		bench_check(svm_pointer_query(map->space, range_addr(map, random), &info),
			    "pointer query");
		sink = info.base;
	}
}

static void pointer_to_alloc(const struct map *map, uint64_t *random)
{
	struct svm_pointer_info info = { .size = sizeof(info) };

	for (size_t i = 0; i < map->n_ops; i++) {
		bench_check(svm_pointer_query(map->space,
					      map->allocs[bench_random(random) % map->n_ranges],
					      &info),
			    "pointer query");
		sink = info.base;
	}
}

static void search(const struct map *map, uint64_t *random)
{
	for (size_t i = 0; i < map->n_ops; i++) {
		uint64_t key = (uintptr_t)range_addr(map, random);
		size_t low = 0;
		size_t high = map->n_ranges;

		while (high - low > 1) {
			size_t middle = (low + high) / 2;

			if (map->starts[middle] <= key)
				low = middle;
			else
				high = middle;
		}
		sink = low;
	}
}

struct op {
	const char *name;
	void (*run)(const struct map *map, uint64_t *random);
	double limit_ns; /* at the largest size; 0: none */
};

static const struct op ops[] = {
	{ "search", search, 0 },
	{ "advise", advise, 0 },
	{ "residency", residency, 0 },
	{ "pointer", pointer, 300 },
	{ "pointer-to-allocs", pointer_to_alloc, 0 },
};
#define N_OP_KINDS (sizeof(ops) / sizeof(ops[0]))

/* Every second range has a hint of its own, so no two neighbours join. */
static void cut(const struct map *map)
{
	const struct svm_advice advice = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };

	for (size_t i = 1; i < map->n_ranges; i += 2)
		bench_check(svm_advise(map->space, map->base + i * RANGE_PAGES * PAGE,
				       RANGE_PAGES * PAGE, &advice, 1, NULL),
			    "advise");
}

static void set_up(struct map *map, size_t n_ranges, size_t n_ops)
{
	*map = (struct map){ .space = bench_space(NULL), .n_ranges = n_ranges, .n_ops = n_ops };
	map->base = bench_alloc(map->space, BENCH_PRIVATE, n_ranges * RANGE_PAGES * PAGE);
	map->starts = calloc(n_ranges, sizeof(*map->starts));
	map->allocs = calloc(n_ranges, sizeof(*map->allocs));
	if (!map->starts || !map->allocs)
		bench_fail(ENOMEM, "no memory for addresses");
	for (size_t i = 0; i < n_ranges; i++)
		map->starts[i] = (uintptr_t)map->base + i * RANGE_PAGES * PAGE;
	cut(map);
	for (size_t i = 0; i < n_ranges; i++)
		map->allocs[i] = bench_alloc(map->space, BENCH_PRIVATE, PAGE);
}

static void measure_size(const struct bench *bench, size_t n_ranges,
			 struct bench_series series[N_OP_KINDS])
{
	struct map map;
	uint64_t random = 88172645463325252u;

	set_up(&map, n_ranges, N_OPS / bench->shrink);
	for (unsigned int round = 0; round < bench->rounds; round++)
		for (size_t i = 0; i < N_OP_KINDS; i++) {
			uint64_t start = bench_now();

			ops[i].run(&map, &random);
			bench_add(&series[i], (double)(bench_now() - start) / (double)map.n_ops);
		}
	free(map.starts);
	free(map.allocs);
	bench_check(svm_space_destroy(map.space), "cannot destroy a space");
}

void bench_queries(const struct bench *bench)
{
	struct bench_series series[N_SIZES][N_OP_KINDS] = { 0 };
	size_t shrink = bench->shrink == 1 ? 1 : 100;

	for (size_t s = 0; s < N_SIZES; s++)
		measure_size(bench, s ? sizes[s] / shrink : sizes[s], series[s]);
	for (size_t i = 1; i < N_OP_KINDS; i++)
		for (size_t s = 0; s < N_SIZES; s++) {
			bool limited = s == N_SIZES - 1 && ops[i].limit_ns > 0;
			char name[64];

			snprintf(name, sizeof(name), "query.%s.%zu", ops[i].name, sizes[s]);
			bench_figure(name, "ns", bench_median(&series[s][i]),
				     bench_median(&series[s][0]),
				     limited ? BENCH_VALUE_MAX : BENCH_INFO, ops[i].limit_ns);
		}
	for (size_t i = 1; i < N_OP_KINDS; i++)
		for (size_t s = 1; s < N_SIZES; s++) {
			char name[64];

			snprintf(name, sizeof(name), "query.%s.growth-to-%zu", ops[i].name,
				 sizes[s]);
			bench_figure(name, "times",
				     bench_median(&series[s][i]) / bench_median(&series[0][i]),
				     bench_median(&series[s][0]) / bench_median(&series[0][0]),
				     BENCH_RATIO_MAX, 1.0);
		}
}
