// SPDX-License-Identifier: MIT
/*
 * A space with a device and memory in use, and nobody who touches anything: how often any thread of the
 * library, or of the device's process, wakes up. The kernel's count of voluntary context switches tells, and
 * the library's own counter.
 */
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t number_of(const char *path, const char *key)
{
	FILE *file = fopen(path, "re");
	size_t length = strlen(key);
	uint64_t value = 0;
	char line[256];

	if (!file)
		return 0; /* it has ended meanwhile */
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, key, length) == 0)
			value = strtoull(line + length, NULL, 10);
	fclose(file);
	return value;
}

/* Of all threads of a process but the calling one. */
static uint64_t switches_of(pid_t process)
{
	const struct dirent *entry;
	uint64_t sum = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)process);
	dir = opendir(path);
	if (!dir)
		return 0;
	while ((entry = readdir(dir)) != NULL) {
		long tid = strtol(entry->d_name, NULL, 10);

		if (tid <= 0 || tid == (long)gettid())
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%ld/status", (int)process, tid);
		sum += number_of(path, "voluntary_ctxt_switches:");
	}
	closedir(dir);
	return sum;
}

/* Of this process and its children: soft devices. */
static uint64_t switches(void)
{
	uint64_t sum = switches_of(getpid());
	const struct dirent *entry;
	DIR *dir = opendir("/proc");

	if (!dir)
		bench_fail(errno, "/proc");
	while ((entry = readdir(dir)) != NULL) {
		long pid = strtol(entry->d_name, NULL, 10);
		char path[64];

		if (pid <= 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%ld/status", pid);
		if (number_of(path, "PPid:") == (uint64_t)getpid())
			sum += switches_of((pid_t)pid);
	}
	closedir(dir);
	return sum;
}

static uint64_t wakeups_of(struct svm_space *space)
{
	struct svm_stats stats = { .size = sizeof(stats) };

	bench_check(svm_stats_query(space, &stats), "stats");
	return stats.wakeups;
}

void bench_idle(const struct bench *bench)
{
	/* The watchdog of the last operation looks once more after a quarter of its time, 2.5 s, and then no more. */
	const struct timespec settle = { .tv_sec = 3 };
	const struct timespec time = { .tv_sec = bench->shrink == 1 ? 3 : 1 };
	struct svm_space *space = bench_space(NULL);
	struct svm_device *device = bench_device(space, 4 * BLOCK, "");
	char *map = bench_alloc(space, BENCH_PRIVATE, 4 * BLOCK);
	uint64_t n_switches;
	uint64_t n_wakeups;

	bench_touch(map, 4 * BLOCK);
	bench_prefetch(space, map, 4 * BLOCK, svm_device_location(device));
	bench_check_errno(nanosleep(&settle, NULL), "nanosleep");
	n_switches = switches();
	n_wakeups = wakeups_of(space);
	bench_check_errno(nanosleep(&time, NULL), "nanosleep");
	n_switches = switches() - n_switches;
	n_wakeups = wakeups_of(space) - n_wakeups;
	bench_figure("idle.context-switches", "1/s", (double)n_switches / (double)time.tv_sec, NAN,
		     BENCH_VALUE_MAX, 0);
	bench_figure("idle.wakeups", "1/s", (double)n_wakeups / (double)time.tv_sec, NAN,
		     BENCH_VALUE_MAX, 0);
	bench_check(svm_space_destroy(space), "cannot destroy a space");
}
