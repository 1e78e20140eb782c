/* SPDX-License-Identifier: MIT */
#include "flow_state.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PATIENCE 80
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PATIENCE 80
#endif
#endif
#ifndef PATIENCE
#define PATIENCE 20 /* seconds without an operation that ends */
#endif

static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t watch_cond = PTHREAD_COND_INITIALIZER;
static bool watch_ends;
static pthread_t watch;

/* What each worker was doing, and where in the kernel each thread is. */
static void print_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *entry;

	for (unsigned int i = 0; i < flow.config.n_workers; i++)
		(void)fprintf(stderr, "worker %u: op %u (%s)\n", i,
			      __atomic_load_n(&flow.workers[i].doing.op, __ATOMIC_RELAXED),
			      flow_op_name(__atomic_load_n(&flow.workers[i].doing.kind,
							   __ATOMIC_RELAXED)));
	while (tasks && (entry = readdir(tasks)) != NULL) {
		char path[300];
		char text[3][200] = { "", "", "" };
		static const char *const files[] = { "comm", "wchan", "syscall" };

		if (entry->d_name[0] == '.')
			continue;
		for (unsigned int i = 0; i < 3; i++) {
			ssize_t n;
			int fd;

			(void)snprintf(path, sizeof(path), "/proc/self/task/%s/%s", entry->d_name,
				       files[i]);
			fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd < 0)
				continue;
			n = read(fd, text[i], sizeof(text[i]) - 1u);
			text[i][n > 0 ? n : 0] = '\0';
			text[i][strcspn(text[i], "\n")] = '\0';
			(void)close(fd);
		}
		(void)fprintf(stderr, "thread %s %s: %s, %s\n", entry->d_name, text[0], text[1],
			      text[2]);
	}
	if (tasks)
		(void)closedir(tasks);
}

static void *watchdog(void *arg)
{
	uint64_t before = UINT64_MAX;

	(void)arg;
	(void)pthread_mutex_lock(&watch_lock);
	while (!watch_ends) {
		uint64_t now = __atomic_load_n(&flow.order->report->n_done, __ATOMIC_RELAXED) +
			       flow_n_notes();
		uint64_t started =
			__atomic_load_n(&flow.order->report->n_started, __ATOMIC_RELAXED);
		uint64_t done = __atomic_load_n(&flow.order->report->n_done, __ATOMIC_RELAXED);
		struct timespec until;

		unsigned int patience = flow.order->patience ? flow.order->patience : PATIENCE;

		if (now == before) {
			print_threads();
			flow_fail(
				"nothing has moved for %u seconds: %llu operations of %llu under way",
				patience, (unsigned long long)(started - done),
				(unsigned long long)started);
		}
		before = now;
		(void)clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += patience;
		(void)pthread_cond_timedwait(&watch_cond, &watch_lock, &until);
	}
	(void)pthread_mutex_unlock(&watch_lock);
	return NULL;
}

void flow_watch_start(void)
{
	watch_ends = false;
	if (pthread_create(&watch, NULL, watchdog, NULL) != 0)
		flow_fail("pthread_create");
}

void flow_watch_end(void)
{
	(void)pthread_mutex_lock(&watch_lock);
	watch_ends = true;
	(void)pthread_cond_signal(&watch_cond);
	(void)pthread_mutex_unlock(&watch_lock);
	(void)pthread_join(watch, NULL);
}
