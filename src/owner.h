/* SPDX-License-Identifier: MIT */
/*
 * Which allocation an address of the window belongs to, without a search: a table by block number. A block that is one
 * allocation's alone names it; one that small allocations share names a list of them, with a bit for each page that one
 * starts at. Registered memory is not in it. ctx->tree_lock guards it as it guards the ranges.
 */
#ifndef SVM_OWNER_H
#define SVM_OWNER_H

#include "ctx.h"

struct svm_alloc;

int svm_owner_init(struct svm_ctx *ctx);
/* Nothing is owned any more. */
void svm_owner_finish(struct svm_ctx *ctx);

/* LOCKING: write. The allocation is not in the table yet, and overlaps nothing that is. -ENOMEM. */
int svm_owner_add(struct svm_ctx *ctx, struct svm_alloc *alloc);
/* LOCKING: write. Does nothing if it is not there. */
void svm_owner_remove(struct svm_ctx *ctx, struct svm_alloc *alloc);
/* LOCKING: read. NULL: nobody's, or not of the window. */
struct svm_alloc *svm_owner_at(const struct svm_ctx *ctx, uint64_t addr);

#endif
