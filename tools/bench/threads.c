// SPDX-License-Identifier: MIT
/*
 * Several threads, each taking lone faults on blocks of its own, beside one: how many faults are served in
 * a second, all together. The service has one thread, as by default, and nothing is bound to a CPU.
 */
#include "bench.h"

#include <pthread.h>
#include <stdio.h>

#define N_FAULTS    4096u /* per round, all threads together */
#define MAX_THREADS 8u

struct toucher {
	pthread_t thread;
	pthread_barrier_t *start;
	char *map;
	size_t n;
};

static void *touch(void *arg)
{
	struct toucher *toucher = arg;

	(void)pthread_barrier_wait(toucher->start);
	bench_touch(toucher->map, toucher->n * PAGE);
	return NULL;
}

/* Faults per second. map has room for all, each thread's part in whole blocks. */
static double run(char *map, unsigned int n_threads, size_t n)
{
	struct toucher touchers[MAX_THREADS];
	pthread_barrier_t start;
	uint64_t begin;

	bench_check(-pthread_barrier_init(&start, NULL, n_threads + 1), "barrier");
	for (unsigned int i = 0; i < n_threads; i++) {
		touchers[i] =
			(struct toucher){ .start = &start,
					  .map = map + i * BLOCK * ((n / n_threads + 511) / 512),
					  .n = n / n_threads };
		bench_check(-pthread_create(&touchers[i].thread, NULL, touch, &touchers[i]),
			    "thread");
	}
	(void)pthread_barrier_wait(&start);
	begin = bench_now();
	for (unsigned int i = 0; i < n_threads; i++)
		bench_check(-pthread_join(touchers[i].thread, NULL), "thread");
	begin = bench_now() - begin;
	(void)pthread_barrier_destroy(&start);
	return (double)n / ((double)begin / 1e9);
}

static void measure(const struct bench *bench, enum bench_storage storage)
{
	static const unsigned int counts[] = { 1, 2, 4, 8 };
	size_t n = N_FAULTS / bench->shrink;
	uint64_t slice = (n / 512 + MAX_THREADS) * BLOCK;
	struct bench_series series[4] = { 0 };
	struct svm_space *space = bench_space(NULL);
	char *map = bench_alloc_unmapped(space, storage, slice * bench->rounds * 4);

	for (unsigned int round = 0; round < bench->rounds; round++)
		for (unsigned int i = 0; i < 4; i++)
			bench_add(&series[i], run(map + (round * 4 + i) * slice, counts[i], n));
	for (unsigned int i = 1; i < 4; i++) {
		char name[64];

		snprintf(name, sizeof(name), "threads.%s.%u", bench_storage_name(storage),
			 counts[i]);
		bench_compare(name, "faults/s", &series[i], &series[0], BENCH_RATIO_MIN, 1.0);
	}
	bench_check(svm_space_destroy(space), "cannot destroy a space");
}

void bench_threads(const struct bench *bench)
{
	measure(bench, BENCH_PRIVATE);
	measure(bench, BENCH_SHARED);
}
