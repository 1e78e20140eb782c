// SPDX-License-Identifier: MIT
/*
 * What the library takes for itself, per byte that it manages: by its own counter, and by what the process
 * grew beyond the bytes that were touched.
 */
#include "bench.h"

#include <math.h>
#include <stdio.h>

static uint64_t metadata_of(struct svm_space *space)
{
	struct svm_stats stats = { .size = sizeof(stats) };

	bench_check(svm_stats_query(space, &stats), "stats");
	return stats.metadata_bytes;
}

/* 1 GiB, all of it on the host first, then all on a device. */
static void measure_full(const struct bench *bench)
{
	uint64_t size = GIB / bench->shrink;
	struct svm_space *space = bench_space(NULL);
	struct svm_device *device = bench_device(space, size, "");
	uint64_t before = metadata_of(space);
	char *map = bench_alloc(space, BENCH_PRIVATE, size);

	bench_touch(map, size);
	bench_figure("metadata.on-host", "bytes/byte",
		     (double)(metadata_of(space) - before) / (double)size, NAN, BENCH_VALUE_MAX,
		     0.001);
	bench_prefetch(space, map, size, svm_device_location(device));
	bench_figure("metadata.on-device", "bytes/byte",
		     (double)(metadata_of(space) - before) / (double)size, NAN, BENCH_VALUE_MAX,
		     0.001);
	bench_check(svm_space_destroy(space), "cannot destroy a space");
}

/* 64 GiB of which one block in a hundred is touched: all growth is laid on the bytes of those. */
static void measure_sparse(const struct bench *bench)
{
	const struct svm_space_options options = { .size = sizeof(options),
						   .window_size = 80 * GIB };
	uint64_t size = 64 * GIB / bench->shrink;
	struct svm_space *space = bench_space(&options);
	uint64_t before = metadata_of(space);
	uint64_t rss_before = bench_status_kb("VmRSS");
	uint64_t tables_before = bench_status_kb("VmPTE");
	char *map = bench_alloc(space, BENCH_PRIVATE, size);
	uint64_t touched = 0;
	double rss;
	double tables;

	for (uint64_t at = 0; at < size; at += 100 * BLOCK, touched += BLOCK)
		bench_touch(map + at, BLOCK);
	bench_figure("metadata.sparse", "bytes/byte",
		     (double)(metadata_of(space) - before) / (double)touched, NAN, BENCH_VALUE_MAX,
		     0.001);
	rss = (double)(bench_status_kb("VmRSS") - rss_before) * KIB;
	tables = (double)(bench_status_kb("VmPTE") - tables_before) * KIB;
	/* Resident memory may exceed what was touched by the metadata, and by a MiB of stacks and the like. */
	bench_figure("metadata.sparse.resident", "MiB", rss / MIB, (double)touched / MIB,
		     BENCH_RATIO_MAX, 1.001 + 1.0 * MIB / (double)touched);
	bench_figure("metadata.sparse.page-tables", "bytes/byte", tables / (double)touched, NAN,
		     BENCH_INFO, 0);
	bench_check(svm_space_destroy(space), "cannot destroy a space");
}

void bench_metadata(const struct bench *bench)
{
	measure_full(bench);
	measure_sparse(bench);
}
