/* SPDX-License-Identifier: MIT */
/*
 * What memory should hold, byte by byte: the flat array that random_flow compares with.
 *
 * A byte is known, is one of two values (a device died while it wrote), or is anything until it has been
 * read. A page may be lazily discarded (its bytes may change at any time until it is prefetched), or lost
 * (its only copy died: touches end in a signal until it is discarded).
 */
#ifndef FLOW_MODEL_H
#define FLOW_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLOW_PAGE ((uint64_t)4096)

enum flow_byte {
	FLOW_KNOWN = 0,
	FLOW_EITHER = 1,
	FLOW_ANY = 2,
};

#define FLOW_PAGE_VAGUE (1u << 0) /* some byte of it is not FLOW_KNOWN */
#define FLOW_PAGE_LAZY	(1u << 1) /* lazily discarded: reading tells nothing */
#define FLOW_PAGE_LOST	(1u << 2) /* was seen to be lost */

struct flow_model {
	uint64_t size; /* whole pages */
	uint8_t *value;
	uint8_t *other; /* the second possibility of FLOW_EITHER */
	uint8_t *state; /* enum flow_byte */
	uint8_t *pages; /* FLOW_PAGE_* */
};

/* All zeros, known. False: no memory. */
bool flow_model_init(struct flow_model *model, uint64_t size);
void flow_model_finish(struct flow_model *model);

/* Zero, known, whatever it was: what a discard or a fresh allocation gives. Whole pages. */
void flow_model_zero(struct flow_model *model, uint64_t offset, uint64_t size);
/* bytes were written. Those of a lazily discarded page stay unknown. */
void flow_model_write(struct flow_model *model, uint64_t offset, uint64_t size,
		      const uint8_t *bytes);
/* bytes may have been written. */
void flow_model_maybe(struct flow_model *model, uint64_t offset, uint64_t size,
		      const uint8_t *bytes);
/* Nothing is known of the span, except that it stays as it is. */
void flow_model_forget(struct flow_model *model, uint64_t offset, uint64_t size);
/* Whole pages: set and clear FLOW_PAGE_*. */
void flow_model_mark(struct flow_model *model, uint64_t offset, uint64_t size, uint8_t set,
		     uint8_t clear);
/* Some page of the span has one of the marks. */
bool flow_model_marked(const struct flow_model *model, uint64_t offset, uint64_t size,
		       uint8_t marks);

/* bytes were read. Returns the offset (from the span's start) of the first that cannot be, or size; what was
 * vague is known from now on. */
uint64_t flow_model_check(struct flow_model *model, uint64_t offset, uint64_t size,
			  const uint8_t *bytes);

/* The number that follows from one. */
static inline uint64_t flow_mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* Byte i of the pattern of a key. */
static inline uint8_t flow_pattern(uint64_t key, uint64_t i)
{
	return (uint8_t)(flow_mix(key + (i >> 3)) >> ((i & 7u) * 8u));
}

#endif
