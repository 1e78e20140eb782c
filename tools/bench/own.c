// SPDX-License-Identifier: MIT
#include "bench.h"

#include <errno.h>
#include <stdio.h>

struct svm_space *bench_space(const struct svm_space_options *options)
{
	struct svm_space *space;

	bench_check(svm_space_create(options, &space), "cannot create a space");
	return space;
}

struct svm_device *bench_device(struct svm_space *space, uint64_t size, const char *more_options)
{
	struct svm_device *device;
	char name[SVM_NAME_LENGTH];

	/* Some blocks more than asked for: nothing is to be evicted. */
	snprintf(name, sizeof(name), "soft:memory=%lluM%s",
		 (unsigned long long)size / MIB / 2 * 2 + 64, more_options);
	bench_check(svm_device_open(space, name, &device), "cannot open a soft device");
	return device;
}

char *bench_alloc(struct svm_space *space, enum bench_storage storage, uint64_t size)
{
	void *map;

	bench_check(svm_alloc(space, size, storage == BENCH_SHARED ? SVM_ALLOC_SHARED : 0, &map),
		    "cannot allocate managed memory");
	return map;
}

void bench_prefetch(struct svm_space *space, char *map, uint64_t size, struct svm_location to)
{
	struct svm_prefetch_result result;

	bench_check(svm_prefetch(space, map, size, to, &result), "prefetch");
	if (result.failed || result.skipped_pinned)
		bench_fail(EIO, "a prefetch left pages behind");
}

char *bench_alloc_unmapped(struct svm_space *space, enum bench_storage storage, uint64_t size)
{
	const struct svm_advice advice = { .kind = SVM_ADVICE_GRANULARITY, .value = PAGE };
	struct svm_device *device = bench_device(space, size, "");
	char *map = bench_alloc(space, storage, size);

	bench_touch(map, size);
	bench_prefetch(space, map, size, svm_device_location(device));
	/* What a device holds comes home when it closes, and waits there to be touched. */
	bench_check(svm_device_close(device), "cannot close a soft device");
	bench_check(svm_advise(space, map, size, &advice, 1, NULL), "advise");
	return map;
}

const char *bench_storage_name(enum bench_storage storage)
{
	return storage == BENCH_SHARED ? "shared" : "private";
}
