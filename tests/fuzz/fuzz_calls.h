/* SPDX-License-Identifier: MIT */
/*
 * Bytes as a sequence of calls of the public API, on one space with up to three devices. Every byte string means
 * something; what is refused is refused by the library. Memory that is managed is also read and written, by the CPU and
 * by kernels. One sequence starts and ends with nothing open.
 */
#ifndef FUZZ_CALLS_H
#define FUZZ_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

/* The next number; zeros when the input has ended. */
uint64_t fuzz_take(struct fuzz_input *input, unsigned int bytes);
bool fuzz_ended(const struct fuzz_input *input);

/* Names that svm_device_open() may be asked for: the sequence picks among them. */
struct fuzz_devices {
	const char *const *names;
	unsigned int n_names;
};

/* Run the sequence to its end. A touch of managed memory may raise SIGBUS or SIGSEGV: that skips the touch. */
void fuzz_calls(struct fuzz_input *input, const struct fuzz_devices *devices);

/* Once, at the start of the program. */
void fuzz_start(void);

#endif
