// SPDX-License-Identifier: MIT
/*
 * Sequential first touch: one word of every page is written, in new memory. Beside it, the same in a new
 * memfd, where the kernel serves the faults.
 */
#include "bench.h"

#include <stdio.h>
#include <unistd.h>

static double by_kernel(uint64_t size)
{
	int fd;
	char *map = bench_map_memfd(size, &fd);
	uint64_t start = bench_now();
	double ms;

	bench_touch(map, size);
	ms = (double)(bench_now() - start) / 1e6;
	bench_unmap(map, size);
	close(fd);
	return ms;
}

static double by_library(struct svm_space *space, enum bench_storage storage, uint64_t size)
{
	char *map = bench_alloc(space, storage, size);
	uint64_t start = bench_now();
	double ms;

	bench_touch(map, size);
	ms = (double)(bench_now() - start) / 1e6;
	bench_check(svm_free(space, map), "free");
	return ms;
}

static void measure(const struct bench *bench, const char *kind, enum bench_storage storage,
		    uint32_t flags)
{
	const struct svm_space_options options = { .size = sizeof(options), .flags = flags };
	struct svm_space *space = bench_space(&options);
	uint64_t size = 256 * MIB / bench->shrink;
	struct bench_series own = { 0 };
	struct bench_series kernel = { 0 };
	char name[64];

	for (unsigned int round = 0; round < bench->rounds; round++) {
		bench_add(&kernel, by_kernel(size));
		bench_add(&own, by_library(space, storage, size));
	}
	bench_check(svm_space_destroy(space), "cannot destroy a space");
	snprintf(name, sizeof(name), "touch.%s", kind);
	bench_compare(name, "ms", &own, &kernel, BENCH_RATIO_MAX, 1.3);
}

void bench_first_touch(const struct bench *bench)
{
	measure(bench, "private", BENCH_PRIVATE, 0);
	measure(bench, "private-small-pages", BENCH_PRIVATE, SVM_SPACE_NO_HUGE_PAGES);
	measure(bench, "shared", BENCH_SHARED, 0);
}
