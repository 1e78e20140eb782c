/* SPDX-License-Identifier: MIT */
#include "flow_soak.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MIN_SAMPLES 8u

static uint32_t count_entries(const char *path)
{
	DIR *dir = opendir(path);
	uint32_t n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		(void)closedir(dir);
	return n;
}

static uint32_t count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	const struct dirent *entry;
	uint32_t n = 0;

	while (dir && (entry = readdir(dir)) != NULL) {
		char path[300];
		char name[5] = "";
		int fd;

		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		n += read(fd, name, 4) == 4 && strcmp(name, "iou-") != 0;
		(void)close(fd);
	}
	if (dir)
		(void)closedir(dir);
	return n;
}

/* Bytes of a small file of the kernel that are c. */
static uint32_t count_bytes(const char *path, char c)
{
	char text[4096];
	uint32_t n = 0;
	ssize_t got;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && (got = read(fd, text, sizeof(text))) > 0)
		for (ssize_t i = 0; i < got; i++)
			n += text[i] == c;
	if (fd >= 0)
		(void)close(fd);
	return n;
}

struct flow_counts flow_count(void)
{
	struct flow_counts counts = {
		.maps = count_bytes("/proc/self/maps", '\n'),
		.fds = count_entries("/proc/self/fd"),
		.threads = count_threads(),
		.children = count_bytes("/proc/thread-self/children", ' '),
	};
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long pages;

	if (file && fscanf(file, "%*u %lu", &pages) == 1)
		counts.rss = (uint32_t)(pages * 4u);
	if (file)
		(void)fclose(file);
	return counts;
}

void flow_sample(struct flow_samples *samples, const struct flow_counts *counts)
{
	if (samples->step == 0)
		samples->step = 1;
	if (samples->skip++ % samples->step != 0)
		return;
	if (samples->n == FLOW_SAMPLES) {
		samples->n /= 2u;
		for (uint32_t i = 0; i < samples->n; i++)
			samples->at[i] = samples->at[2u * i];
		samples->step *= 2u;
	}
	samples->at[samples->n++] = *counts;
}

static struct flow_counts most_of(const struct flow_counts *at, uint32_t n)
{
	struct flow_counts most = { 0 };

	for (uint32_t i = 0; i < n; i++) {
		most.rss = at[i].rss > most.rss ? at[i].rss : most.rss;
		most.maps = at[i].maps > most.maps ? at[i].maps : most.maps;
		most.fds = at[i].fds > most.fds ? at[i].fds : most.fds;
		most.threads = at[i].threads > most.threads ? at[i].threads : most.threads;
		most.children = at[i].children > most.children ? at[i].children : most.children;
	}
	return most;
}

const char *flow_not_flat(const struct flow_samples *samples, char *text, size_t size)
{
	uint32_t start = samples->n / 4u;
	uint32_t half = (samples->n - start) / 2u;
	struct flow_counts before = most_of(samples->at + start, half);
	struct flow_counts after = most_of(samples->at + start + half, samples->n - start - half);
	const struct {
		const char *what;
		uint32_t before;
		uint32_t after;
		uint32_t more;
	} counts[] = {
		{ "KiB of memory", before.rss, after.rss, before.rss / 8u + 8192u },
		{ "mappings", before.maps, after.maps, 16 },
		{ "file descriptors", before.fds, after.fds, 0 },
		{ "threads", before.threads, after.threads, 0 },
		{ "children", before.children, after.children, 0 },
	};

	if (samples->n < MIN_SAMPLES) {
		(void)snprintf(text, size, "only %u samples: too short", samples->n);
		return text;
	}
	for (unsigned int i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		if (counts[i].after <= counts[i].before + counts[i].more)
			continue;
		(void)snprintf(text, size, "%s grow: %u, then %u", counts[i].what, counts[i].before,
			       counts[i].after);
		return text;
	}
	return NULL;
}

void flow_print_counts(const char *who, double seconds, const struct flow_counts *counts)
{
	(void)printf("%7.0f s  %-6s  %7u KiB  %5u mappings  %4u fds  %3u threads  %3u children\n",
		     seconds, who, counts->rss, counts->maps, counts->fds, counts->threads,
		     counts->children);
	(void)fflush(stdout);
}
