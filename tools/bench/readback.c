// SPDX-License-Identifier: MIT
/*
 * The CPU reads, in order, what is on a device: one word of every page, so that what is timed is how the
 * bytes get here and not what is done with them. Beside it, memcpy() of the same bytes from memory of the
 * device's kind (a memfd) to memory that exists, read in the same way; and what managers without
 * userfaultfd do: memory protected by mprotect(), a SIGSEGV handler that opens a block of 2 MiB and copies it.
 */
#include "bench.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct readback {
	uint64_t size;
	struct svm_space *space;
	struct svm_device *device;
	char *own;
	char *device_memory; /* a baseline's */
	char *host_memory;
	int device_fd;
	int host_fd; /* -1: private */
};

/* What the handler needs; one baseline runs at a time. */
static const struct readback *handled;

static void on_segv(int signal, siginfo_t *info, void *context)
{
	char *block = (char *)((uintptr_t)info->si_addr & ~(uintptr_t)(BLOCK - 1));

	(void)signal;
	(void)context;
	if (block < handled->host_memory || block >= handled->host_memory + handled->size)
		_exit(1); /* a crash of our own */
	if (mprotect(block, BLOCK, PROT_READ | PROT_WRITE))
		_exit(1);
	memcpy(block, handled->device_memory + (block - handled->host_memory), BLOCK);
}

/* GiB/s of a read of everything; the sum shows that the bytes are the right ones. */
static double timed_read(const char *map, uint64_t size, uint64_t start)
{
	const uint64_t n = size / PAGE;
	uint64_t sum = bench_read_pages(map, size);
	double seconds = (double)(bench_now() - start) / 1e9;

	if (sum != n + PAGE * (n * (n - 1) / 2))
		bench_fail(EIO, "readback: wrong bytes");
	return (double)size / GIB / seconds;
}

static double by_memcpy(const struct readback *r)
{
	uint64_t start = bench_now();

	memcpy(r->host_memory, r->device_memory, r->size);
	return timed_read(r->host_memory, r->size, start);
}

static double by_sigsegv(const struct readback *r)
{
	struct sigaction action = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
	struct sigaction before;
	double speed;

	handled = r;
	bench_check_errno(mprotect(r->host_memory, r->size, PROT_NONE), "mprotect");
	bench_check_errno(sigaction(SIGSEGV, &action, &before), "sigaction");
	speed = timed_read(r->host_memory, r->size, bench_now());
	bench_check_errno(sigaction(SIGSEGV, &before, NULL), "sigaction");
	return speed;
}

static double by_library(const struct readback *r)
{
	bench_prefetch(r->space, r->own, r->size, svm_device_location(r->device));
	return timed_read(r->own, r->size, bench_now());
}

static void set_up(struct readback *r, enum bench_storage storage, uint64_t size)
{
	*r = (struct readback){ .size = size, .host_fd = -1 };
	r->space = bench_space(NULL);
	r->device = bench_device(r->space, size, "");
	r->own = bench_alloc(r->space, storage, size);
	r->device_memory = bench_map_memfd(size, &r->device_fd);
	r->host_memory = storage == BENCH_SHARED ? bench_map_memfd(size, &r->host_fd)
						 : bench_map(size, true);
	bench_touch(r->own, size);
	bench_touch(r->device_memory, size);
	bench_touch(r->host_memory, size);
}

static void tear_down(struct readback *r)
{
	bench_unmap(r->device_memory, r->size);
	bench_unmap(r->host_memory, r->size);
	close(r->device_fd);
	if (r->host_fd >= 0)
		close(r->host_fd);
	bench_check(svm_space_destroy(r->space), "cannot destroy a space");
}

static void measure(const struct bench *bench, enum bench_storage storage)
{
	struct bench_series own = { 0 };
	struct bench_series copy = { 0 };
	struct bench_series segv = { 0 };
	struct readback r;
	char name[64];

	set_up(&r, storage, 256 * MIB / bench->shrink);
	(void)by_library(&r); /* device memory is touched for the first time */
	for (unsigned int round = 0; round < bench->rounds; round++) {
		bench_add(&copy, by_memcpy(&r));
		bench_add(&own, by_library(&r));
		bench_add(&segv, by_sigsegv(&r));
	}
	tear_down(&r);
	snprintf(name, sizeof(name), "readback.%s.memcpy", bench_storage_name(storage));
	bench_compare(name, "GiB/s", &own, &copy, BENCH_RATIO_MIN,
		      storage == BENCH_SHARED ? 0.5 : 0.85);
	snprintf(name, sizeof(name), "readback.%s.sigsegv", bench_storage_name(storage));
	bench_compare(name, "GiB/s", &own, &segv, BENCH_RATIO_MIN, 1.0);
}

void bench_readback(const struct bench *bench)
{
	measure(bench, BENCH_PRIVATE);
	measure(bench, BENCH_SHARED);
}
