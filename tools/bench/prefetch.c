// SPDX-License-Identifier: MIT
/*
 * Prefetch of 1 GiB to a device and back, beside memcpy() between memory of the same kinds. And many small
 * allocations in one batch, beside one large one of the same size.
 */
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct svm_location host = { .kind = SVM_LOCATION_HOST };

static double speed(uint64_t size, uint64_t start)
{
	return (double)size / GIB / ((double)(bench_now() - start) / 1e9);
}

static double timed_prefetch(struct svm_space *space, char *map, uint64_t size,
			     struct svm_location to)
{
	uint64_t start = bench_now();

	bench_prefetch(space, map, size, to);
	return speed(size, start);
}

static double timed_memcpy(char *dst, const char *src, uint64_t size)
{
	uint64_t start = bench_now();

	memcpy(dst, src, size);
	return speed(size, start);
}

static void measure_large(const struct bench *bench, enum bench_storage storage)
{
	uint64_t size = GIB / bench->shrink;
	struct svm_space *space = bench_space(NULL);
	struct svm_device *device = bench_device(space, size, "");
	struct svm_location there = svm_device_location(device);
	char *own = bench_alloc(space, storage, size);
	int device_fd;
	int host_fd = -1;
	char *device_memory = bench_map_memfd(size, &device_fd);
	char *host_memory = storage == BENCH_SHARED ? bench_map_memfd(size, &host_fd)
						    : bench_map(size, true);
	struct bench_series own_to = { 0 };
	struct bench_series own_back = { 0 };
	struct bench_series copy_to = { 0 };
	struct bench_series copy_back = { 0 };
	char name[64];

	bench_touch(own, size);
	bench_touch(device_memory, size);
	bench_touch(host_memory, size);
	bench_prefetch(space, own, size, there); /* device memory is touched for the first time */
	bench_prefetch(space, own, size, host);
	for (unsigned int round = 0; round < bench->rounds; round++) {
		bench_add(&copy_to, timed_memcpy(device_memory, host_memory, size));
		bench_add(&own_to, timed_prefetch(space, own, size, there));
		bench_add(&copy_back, timed_memcpy(host_memory, device_memory, size));
		bench_add(&own_back, timed_prefetch(space, own, size, host));
	}
	bench_unmap(device_memory, size);
	bench_unmap(host_memory, size);
	close(device_fd);
	if (host_fd >= 0)
		close(host_fd);
	bench_check(svm_space_destroy(space), "cannot destroy a space");
	snprintf(name, sizeof(name), "prefetch.%s.to-device", bench_storage_name(storage));
	bench_compare(name, "GiB/s", &own_to, &copy_to, BENCH_RATIO_MIN, 0.9);
	snprintf(name, sizeof(name), "prefetch.%s.to-host", bench_storage_name(storage));
	bench_compare(name, "GiB/s", &own_back, &copy_back, BENCH_RATIO_MIN, 0.9);
}

#define N_SMALL	   1024u
#define SMALL_SIZE (64 * KIB)

static double timed_batch(struct svm_space *space, struct svm_prefetch_range *ranges, size_t n,
			  struct svm_location to)
{
	struct svm_prefetch *prefetch;
	uint64_t start;
	double result;

	for (size_t i = 0; i < n; i++)
		ranges[i].to = to;
	start = bench_now();
	bench_check(svm_prefetch_start(space, ranges, n, NULL, 0, &prefetch), "prefetch");
	bench_check(svm_prefetch_wait(prefetch, -1, NULL, 0), "prefetch");
	result = speed(n * SMALL_SIZE, start);
	bench_check(svm_prefetch_destroy(prefetch), "prefetch");
	return result;
}

static void measure_small(const struct bench *bench)
{
	size_t n = N_SMALL / bench->shrink;
	uint64_t size = n * SMALL_SIZE;
	struct svm_space *space = bench_space(NULL);
	struct svm_device *device = bench_device(space, size * 2, "");
	struct svm_location there = svm_device_location(device);
	char *large = bench_alloc(space, BENCH_PRIVATE, size);
	struct svm_prefetch_range *ranges = calloc(n, sizeof(*ranges));
	struct bench_series small_to = { 0 };
	struct bench_series small_back = { 0 };
	struct bench_series large_to = { 0 };
	struct bench_series large_back = { 0 };

	if (!ranges)
		bench_fail(ENOMEM, "no memory for ranges");
	for (size_t i = 0; i < n; i++) {
		ranges[i].addr = bench_alloc(space, BENCH_PRIVATE, SMALL_SIZE);
		ranges[i].size = SMALL_SIZE;
		bench_touch(ranges[i].addr, SMALL_SIZE);
	}
	bench_touch(large, size);
	for (unsigned int round = 0; round <= bench->rounds; round++) {
		double to = timed_prefetch(space, large, size, there);
		double batch_to = timed_batch(space, ranges, n, there);
		double back = timed_prefetch(space, large, size, host);
		double batch_back = timed_batch(space, ranges, n, host);

		if (round == 0)
			continue; /* device memory was touched for the first time */
		bench_add(&large_to, to);
		bench_add(&small_to, batch_to);
		bench_add(&large_back, back);
		bench_add(&small_back, batch_back);
	}
	free(ranges);
	bench_check(svm_space_destroy(space), "cannot destroy a space");
	bench_compare("prefetch.batch-of-64k.to-device", "GiB/s", &small_to, &large_to,
		      BENCH_RATIO_MIN, 0.7);
	bench_compare("prefetch.batch-of-64k.to-host", "GiB/s", &small_back, &large_back,
		      BENCH_RATIO_MIN, 0.7);
}

void bench_prefetches(const struct bench *bench)
{
	measure_large(bench, BENCH_PRIVATE);
	measure_large(bench, BENCH_SHARED);
	measure_small(bench);
}
