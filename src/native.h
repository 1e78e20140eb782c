/* SPDX-License-Identifier: MIT */
/*
 * Native mode: system memory, which the kernel drivers of native devices mirror by themselves. The library
 * keeps its hints (ctx->system) and tells them to every native device, also to one that is opened later; it
 * asks drivers to move pages, and checks what came of it. It moves nothing and serves no fault there.
 *
 * System memory is not watched: a hint goes when the library finds the addresses unmapped, which it looks for
 * whenever it is asked about them.
 */
#ifndef SVM_NATIVE_H
#define SVM_NATIVE_H

#include "device.h"
#include "range.h"
#include <libsvm/memory.h>

/* Does the space take spans of system memory? */
bool svm_native_wanted(const struct svm_ctx *ctx);

/* LOCKING: none. 0 if each page of the span is managed or mapped system memory, else -ENOENT. */
int svm_native_check(struct svm_ctx *ctx, uint64_t start, uint64_t end);
/* LOCKING: NATIVE. Hints of system memory in the span that is not mapped any more are forgotten. */
void svm_native_forget_unmapped(struct svm_ctx *ctx, uint64_t start, uint64_t end);

/* LOCKING: NATIVE. Tell devices what hints of these kinds (mask) system memory in the span has now: one device (by id),
 * or all (~0). Returns the worst outcome. */
struct svm_outcome svm_native_tell(struct svm_ctx *ctx, uint64_t start, uint64_t end,
				   uint32_t kinds, uint32_t device);
/* LOCKING: NATIVE. A device that is about to be published: it learns of all hints. */
void svm_native_attach(struct svm_device *device);
/* LOCKING: NATIVE. A device that is gone: hints that name it revert to none. */
void svm_native_forget_device(struct svm_ctx *ctx, uint32_t id);
/* LOCKING: NATIVE, tree (write). The span has become managed: hints that it had as system memory stay with it. -ENOMEM. */
int svm_native_adopt(struct svm_ctx *ctx, uint64_t start, uint64_t end);
/* LOCKING: NATIVE, not tree. After that: drivers forget them. */
void svm_native_adopted(struct svm_ctx *ctx, uint64_t start, uint64_t end);

/* Where pages of system memory are. LOCKING: none; may block. At most SVM_NATIVE_BATCH_PAGES. */
int svm_native_where(struct svm_ctx *ctx, uint64_t addr, size_t n_pages,
		     struct svm_page_residency *pages);

struct svm_native_moved {
	uint64_t bytes_moved;
	uint64_t already_there;
	uint64_t skipped; /* a hint forbids it */
	uint64_t failed;
	int error;
	struct svm_outcome outcome;
};
/* Move [start, end) of system memory to a device (agent), or home (the CPU). LOCKING: none; may block. At most
 * SVM_NATIVE_BATCH_PAGES; the four counts add up. */
void svm_native_move(struct svm_ctx *ctx, uint64_t start, uint64_t end, uint32_t agent,
		     struct svm_native_moved *ret);

#endif
