/* SPDX-License-Identifier: MIT */
/* Hints as values: what one range carries, how an advice changes it, how several add up in a query. */
#ifndef SVM_HINTS_H
#define SVM_HINTS_H

#include <libsvm/hints.h>
#include <stdbool.h>
#include <stdint.h>

struct svm_hints {
	struct svm_location preferred; /* NONE, HOST, HOST_NUMA or DEVICE */
	uint16_t accessed_by;	       /* bit i: device id i; the three masks are disjoint */
	uint16_t in_place;
	uint16_t no_access;
	uint8_t read_mostly;
	uint8_t atomics;	   /* enum svm_atomics */
	uint8_t migration;	   /* enum svm_migration */
	uint8_t granularity_shift; /* log2 of bytes */
};

/* Nothing set; granularity is a block. */
extern const struct svm_hints svm_hints_none;

/* Kind, value and kind of location are in range, and fields that the kind does not use are zero; -EINVAL otherwise.
 * Not checked: whether such a device is open, or such a node exists. */
int svm_hints_check(const struct svm_advice *advice);
/* Set one checked advice. */
void svm_hints_set(struct svm_hints *hints, const struct svm_advice *advice);
/* Unset kinds (mask of 1 << enum svm_advice_kind). */
void svm_hints_unset(struct svm_hints *hints, uint32_t kinds);
/* Device id is gone: whatever names it reverts to none. Returns whether anything changed. */
bool svm_hints_forget_device(struct svm_hints *hints, uint32_t id);
bool svm_hints_equal(const struct svm_hints *a, const struct svm_hints *b);

/* Query: start with the first range's hints, add the others, in any order. */
void svm_hints_summary(struct svm_advice_info *info, const struct svm_hints *hints);
void svm_hints_summary_add(struct svm_advice_info *info, const struct svm_hints *hints);

#endif
