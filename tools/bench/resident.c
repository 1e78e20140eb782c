// SPDX-License-Identifier: MIT
/*
 * Memory that is where it is used costs what plain memory costs: streaming reads, and a chain of reads
 * each of which depends on the last, over 1 GiB; before and after a trip to a device and back. Plain memory
 * has pages of the same size: anonymous huge pages beside private storage, a memfd beside shared.
 */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

/* "1.0x within noise": medians of equal things differ by this much on machines that are shared. */
#define NOISE 1.05

#define N_RANDOM (1u << 20)

struct part {
	struct bench_series stream; /* ms */
	struct bench_series random; /* ns per access */
};

static volatile uint64_t sink;

static void measure_one(const char *map, uint64_t size, size_t n_random, struct part *part)
{
	const uint64_t *words = (const uint64_t *)(const void *)map;
	const uint64_t n = size / sizeof(*words);
	uint64_t sum = 0;
	uint64_t at = 1;
	uint64_t start = bench_now();

	for (uint64_t i = 0; i < n; i++)
		sum += words[i];
	sink = sum;
	bench_add(&part->stream, (double)(bench_now() - start) / 1e6);

	start = bench_now();
	for (size_t i = 0; i < n_random; i++) {
		/* The word that was read decides the next place; size is a power of two. */
		at = (at * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407)) ^
		     (words[(at >> 20) & (n - 1)] & 1);
	}
	sink = at;
	bench_add(&part->random, (double)(bench_now() - start) / (double)n_random);
}

static void report(enum bench_storage storage, const char *when, const struct part *own,
		   const struct part *plain)
{
	char name[64];

	snprintf(name, sizeof(name), "resident.%s.stream.%s", bench_storage_name(storage), when);
	bench_compare(name, "ms", &own->stream, &plain->stream, BENCH_RATIO_MAX, NOISE);
	snprintf(name, sizeof(name), "resident.%s.random.%s", bench_storage_name(storage), when);
	bench_compare(name, "ns", &own->random, &plain->random, BENCH_RATIO_MAX, NOISE);
}

static void measure_both(const struct bench *bench, const char *own, const char *plain,
			 uint64_t size, enum bench_storage storage, const char *when)
{
	struct part own_part = { 0 };
	struct part plain_part = { 0 };

	for (unsigned int round = 0; round < bench->rounds; round++) {
		measure_one(plain, size, N_RANDOM / bench->shrink, &plain_part);
		measure_one(own, size, N_RANDOM / bench->shrink, &own_part);
	}
	report(storage, when, &own_part, &plain_part);
}

static void measure(const struct bench *bench, enum bench_storage storage)
{
	uint64_t size = GIB / bench->shrink;
	struct svm_space *space = bench_space(NULL);
	struct svm_device *device = bench_device(space, size, "");
	char *own = bench_alloc(space, storage, size);
	int fd = -1;
	char *plain = storage == BENCH_SHARED ? bench_map_memfd(size, &fd) : bench_map(size, true);

	bench_touch(plain, size);
	bench_touch(own, size);
	measure_both(bench, own, plain, size, storage, "new");

	bench_prefetch(space, own, size, svm_device_location(device));
	bench_prefetch(space, own, size, (struct svm_location){ .kind = SVM_LOCATION_HOST });
	measure_both(bench, own, plain, size, storage, "returned");
	if (storage == BENCH_PRIVATE)
		bench_figure("resident.private.huge-pages.returned", "bytes/byte",
			     (double)bench_huge_bytes(own, size) / (double)size,
			     (double)bench_huge_bytes(plain, size) / (double)size, BENCH_RATIO_MIN,
			     1.0);
	bench_unmap(plain, size);
	if (fd >= 0)
		close(fd);
	bench_check(svm_space_destroy(space), "cannot destroy a space");
}

void bench_resident(const struct bench *bench)
{
	measure(bench, BENCH_PRIVATE);
	measure(bench, BENCH_SHARED);
}
