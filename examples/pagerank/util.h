/* SPDX-License-Identifier: MIT */
/* What every part of pagerank needs: complaining, progress, and the time. */
#ifndef PAGERANK_UTIL_H
#define PAGERANK_UTIL_H

#include <stdint.h>

/*
 * Print "pagerank: <what>: <what the errno means>", one line, on standard error, and return err.
 * err is a negative errno, or 0 when the text says it all. The function that knows what went wrong
 * complains; its callers only pass the error on.
 */
int complain(int err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Told how much of some work is done; what says which part of it. */
typedef void progress_fn(void *progress_data, const char *what, unsigned int done,
			 unsigned int total);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t now_ns(void);

#endif
