/* SPDX-License-Identifier: MIT */
/*
 * Ranges: runs of managed addresses with equal hints, each within one allocation or registration.
 * They carry the hints apart from mappings and placement, so hints survive eviction and unmapping and
 * die with the memory. All functions need ctx->tree_lock, for write where they say so.
 */
#ifndef SVM_RANGE_H
#define SVM_RANGE_H

#include "ctx.h"
#include "hints.h"
#include "tree.h"

/* Memory that came by one svm_alloc() or svm_register(). */
struct svm_alloc {
	uint64_t base;
	uint64_t size;
	uint64_t id;
	uint64_t stash; /* registered: stash address that belongs to base */
	struct svm_block **
		blocks; /* registered: by block number, from the block that holds base; else NULL */
	enum svm_host_kind kind; /* of its storage when it was made */
	bool registered;
	bool dying; /* being freed: not found any more */
};

struct svm_range {
	struct svm_tree_node node;
	struct svm_alloc *alloc;
	struct svm_hints hints;
};

/* LOCKING: write. -EEXIST: part of it is managed; -ENOMEM. */
int svm_range_add(struct svm_ctx *ctx, struct svm_alloc *alloc);
/* LOCKING: write. Remove all ranges of an allocation. */
void svm_range_remove(struct svm_ctx *ctx, struct svm_alloc *alloc);

/* The range of an address, also of memory that is being freed, or NULL. */
struct svm_range *svm_range_at(const struct svm_ctx *ctx, uint64_t addr);
/* The range of a managed address that is not dying, or NULL. */
struct svm_range *svm_range_find(const struct svm_ctx *ctx, uint64_t addr);
/* 0 if all of [start, end) is managed, else -ENOENT. */
int svm_range_check(const struct svm_ctx *ctx, uint64_t start, uint64_t end);
/* The range after this one, if it starts before end and is adjacent; else NULL. */
struct svm_range *svm_range_next(const struct svm_range *range, uint64_t end);

/* LOCKING: write. Set checked advice and unset kinds on all of [start, end), which is managed. All or nothing: -ENOMEM. */
int svm_range_update(struct svm_ctx *ctx, uint64_t start, uint64_t end,
		     const struct svm_advice *advice, size_t n_advice, uint32_t unset_kinds);
/* LOCKING: write. Hints that name device id revert to none, everywhere. */
void svm_range_forget_device(struct svm_ctx *ctx, uint32_t id);

static inline struct svm_range *svm_range_of(struct svm_tree_node *node)
{
	return svm_container_of(node, struct svm_range, node);
}

#endif
