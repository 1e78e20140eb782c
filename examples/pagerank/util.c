// SPDX-License-Identifier: MIT
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util.h"

int complain(int err, const char *format, ...)
{
	/* Wipe a progress bar on a terminal. */
	const char *wipe = isatty(STDERR_FILENO) ? "\r\033[K" : "";
	char what[512];
	va_list args;

	va_start(args, format);
	// NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it is set, the line before
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	fflush(stdout); /* or the two streams mix up when both go to one file */
	/* One call: the library's own threads may have something to say as well. */
	fprintf(stderr, "%spagerank: %s%s%s\n", wipe, what, err ? ": " : "",
		err ? strerror(-err) : "");
	return err;
}

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
