// SPDX-License-Identifier: MIT
/*
 * A lone 4 KiB CPU fault on a page whose bytes are on the host: the smallest unit that is granted is set
 * to one page, so that every touch is a fault. Beside it, a raw loop over memory of the same kind, its
 * thread on the same CPU as the library's. One thread touches page after page and takes the time of each.
 */
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define N_FAULTS 2048u /* per round */

enum placement { SAME_CPU, OTHER_CPU, OTHER_CPU_SPIN, N_PLACEMENTS };

static const char *const placement_names[] = { "same-cpu", "other-cpu", "other-cpu-spin" };

struct part {
	struct bench_series p50;
	struct bench_series p99;
};

static void touch_all(char *map, uint32_t *samples, size_t n, struct part *part)
{
	uint64_t before = bench_now();

	for (size_t i = 0; i < n; i++) {
		uint64_t after;

		(*(volatile uint64_t *)(map + i * PAGE))++;
		after = bench_now();
		samples[i] = (uint32_t)(after - before);
		before = after;
	}
	bench_add(&part->p99, bench_percentile(samples, n, 99) / 1e3);
	bench_add(&part->p50, bench_percentile(samples, n, 50) / 1e3);
}

static void report(enum bench_storage storage, enum placement placement, const struct part *own,
		   const struct part *raw)
{
	char name[64];

	snprintf(name, sizeof(name), "fault.%s.%s.p50", bench_storage_name(storage),
		 placement_names[placement]);
	bench_compare(name, "us", &own->p50, &raw->p50, BENCH_RATIO_MAX, 1.25);
	snprintf(name, sizeof(name), "fault.%s.%s.p99", bench_storage_name(storage),
		 placement_names[placement]);
	bench_compare(name, "us", &own->p99, &raw->p99, BENCH_RATIO_MAX, 1.25);
}

static void measure(const struct bench *bench, enum bench_storage storage, enum placement placement,
		    const int cpus[2])
{
	size_t n = N_FAULTS / bench->shrink;
	uint64_t slice = (n * PAGE + BLOCK - 1) / BLOCK * BLOCK;
	uint64_t size = slice * (bench->rounds + 1);
	int service = placement == SAME_CPU ? cpus[0] : cpus[1];
	uint32_t spin_us = placement == OTHER_CPU_SPIN ? 200 : 0;
	const struct svm_space_options options = { .size = sizeof(options),
						   .service_cpu = service + 1,
						   .spin_us = spin_us };
	struct svm_space *space = bench_space(&options);
	char *own = bench_alloc_unmapped(space, storage, size);
	struct bench_raw *loop = bench_raw_start(storage, size, service, spin_us);
	char *raw = bench_raw_memory(loop);
	uint32_t *samples = calloc(n, sizeof(*samples));
	struct part own_part = { 0 };
	struct part raw_part = { 0 };
	struct part warm_up = { 0 };

	if (!samples)
		bench_fail(ENOMEM, "no memory for samples");
	bench_bind(cpus[0]);
	for (unsigned int round = 0; round <= bench->rounds; round++) {
		touch_all(raw + round * slice, samples, n, round ? &raw_part : &warm_up);
		touch_all(own + round * slice, samples, n, round ? &own_part : &warm_up);
	}
	bench_bind(-1);
	free(samples);
	bench_raw_stop(loop);
	bench_check(svm_space_destroy(space), "cannot destroy a space");
	report(storage, placement, &own_part, &raw_part);
}

void bench_fault(const struct bench *bench)
{
	int cpus[2];
	unsigned int n_cpus = bench_cpus(cpus);

	for (int storage = BENCH_PRIVATE; storage <= BENCH_SHARED; storage++)
		for (int placement = SAME_CPU; placement < N_PLACEMENTS; placement++) {
			if (placement != SAME_CPU && n_cpus < 2) {
				bench_note("fault.%s.%s needs two CPUs",
					   bench_storage_name((enum bench_storage)storage),
					   placement_names[placement]);
				continue;
			}
			measure(bench, (enum bench_storage)storage, (enum placement)placement,
				cpus);
		}
}
