/* SPDX-License-Identifier: MIT */
/*
 * What a process has, and whether it stays so.
 *
 * Flat means: the samples after the first quarter, which is for warming up (pools and allocators grow to what they need at
 * most), are split in two halves. Of the later half no file descriptors, threads and children may be more than the most of
 * the earlier one; mappings 16 more, and resident memory an eighth and 8 MiB more, which is what allocators and the
 * kernel's huge pages make it differ by.
 */
#ifndef FLOW_SOAK_H
#define FLOW_SOAK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLOW_SAMPLES 4096u

struct flow_counts {
	uint32_t rss; /* KiB */
	uint32_t maps;
	uint32_t fds;
	uint32_t threads; /* but those that the kernel runs for an io_uring: they stay for a while after it has gone */
	uint32_t children;
};

struct flow_samples {
	uint32_t n; /* all that were taken; of more than FLOW_SAMPLES every second one is forgotten */
	uint32_t step;
	uint32_t skip;
	struct flow_counts at[FLOW_SAMPLES];
};

/* Of the calling process. */
struct flow_counts flow_count(void);
void flow_sample(struct flow_samples *samples, const struct flow_counts *counts);
/* NULL, or which count is not flat; too few samples are not flat, either. */
const char *flow_not_flat(const struct flow_samples *samples, char *text, size_t size);
void flow_print_counts(const char *who, double seconds, const struct flow_counts *counts);

#endif
