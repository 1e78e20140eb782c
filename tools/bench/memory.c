// SPDX-License-Identifier: MIT
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Room for size bytes at a multiple of 2 MiB. */
static char *reserve(uint64_t size)
{
	char *map = mmap(NULL, size + BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			 -1, 0);
	uint64_t before;

	if (map == MAP_FAILED)
		bench_fail(errno, "no room in the address space");
	before = BLOCK - 1 - ((uintptr_t)map - 1) % BLOCK;
	if (before)
		munmap(map, before);
	if (before < BLOCK)
		munmap(map + before + size, BLOCK - before);
	return map + before;
}

char *bench_map(uint64_t size, bool huge)
{
	char *map = mmap(reserve(size), size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

	if (map == MAP_FAILED)
		bench_fail(errno, "no memory for a baseline");
	/* Refused only by kernels without huge pages. */
	(void)madvise(map, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return map;
}

char *bench_map_fd(int fd, uint64_t size)
{
	char *map =
		mmap(reserve(size), size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);

	if (map == MAP_FAILED)
		bench_fail(errno, "no memory for a baseline");
	return map;
}

char *bench_map_memfd(uint64_t size, int *ret_fd)
{
	int fd = memfd_create("svm-bench", MFD_CLOEXEC);

	bench_check_errno(fd, "memfd_create");
	bench_check_errno(ftruncate(fd, (off_t)size), "ftruncate");
	*ret_fd = fd;
	return bench_map_fd(fd, size);
}

void bench_unmap(char *map, uint64_t size)
{
	bench_check_errno(munmap(map, size), "munmap");
}

void bench_touch(char *map, uint64_t size)
{
	for (uint64_t i = 0; i < size; i += PAGE)
		*(volatile uint64_t *)(map + i) = i + 1;
}

uint64_t bench_read_pages(const char *map, uint64_t size)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < size; i += PAGE)
		sum += *(const volatile uint64_t *)(map + i);
	return sum;
}

uint64_t bench_huge_bytes(const void *map, uint64_t size)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	uint64_t first = (uintptr_t)map;
	uint64_t total = 0;
	bool inside = false;
	char line[512];

	if (!file)
		bench_fail(errno, "/proc/self/smaps");
	while (fgets(line, sizeof(line), file)) {
		unsigned long long start;
		unsigned long long end;
		unsigned long long kb;

		if (sscanf(line, "%llx-%llx ", &start, &end) == 2)
			inside = start < first + size && end > first;
		else if (inside && sscanf(line, "AnonHugePages: %llu kB", &kb) == 1)
			total += kb * KIB;
	}
	fclose(file);
	return total < size ? total : size;
}

uint64_t bench_status_kb(const char *key)
{
	FILE *file = fopen("/proc/self/status", "re");
	size_t length = strlen(key);
	unsigned long long kb = 0;
	char line[256];

	if (!file)
		bench_fail(errno, "/proc/self/status");
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, key, length) == 0 && line[length] == ':')
			(void)sscanf(line + length + 1, "%llu", &kb);
	fclose(file);
	return kb;
}
