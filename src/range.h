/* SPDX-License-Identifier: MIT */
/*
 * Ranges: runs of managed addresses with equal hints, each within one allocation or registration.
 * They carry the hints apart from mappings and placement, so hints survive eviction and unmapping and
 * die with the memory. All functions need ctx->tree_lock, for write where they say so.
 *
 * System memory, which the space does not manage, has a tree of its own, of those runs that have any hint. It
 * changes under NATIVE as well, so that either of the two locks is enough to look at it.
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
/* The allocation or registration of a managed address, if it is not dying, or NULL. In the window: without a search. */
struct svm_alloc *svm_range_alloc(const struct svm_ctx *ctx, uint64_t addr);
/* 0 if all of [start, end) is managed, else -ENOENT. */
int svm_range_check(const struct svm_ctx *ctx, uint64_t start, uint64_t end);
/* The range after this one, if it starts before end and is adjacent; else NULL. */
struct svm_range *svm_range_next(const struct svm_range *range, uint64_t end);

/* LOCKING: write. Set checked advice and unset kinds on all of [start, end), which is managed. All or nothing: -ENOMEM. */
int svm_range_update(struct svm_ctx *ctx, uint64_t start, uint64_t end,
		     const struct svm_advice *advice, size_t n_advice, uint32_t unset_kinds);
/* LOCKING: write. Hints that name device id revert to none, everywhere. */
void svm_range_forget_device(struct svm_ctx *ctx, uint32_t id);

/* LOCKING: write. The pool has n ranges: so many taken by the next updates under this lock cannot fail. -ENOMEM. */
int svm_range_reserve(struct svm_ctx *ctx, uint64_t n);

/* A part of a span that is managed throughout, or not at all. */
struct svm_piece {
	uint64_t start;
	uint64_t end;
	bool system; /* not managed */
};

/* The piece of [addr, end) that begins at addr. -ENOENT: neither: free addresses of the window, memory that is being
 * freed, no addresses of a program. Whether anything is mapped there is not looked at. */
int svm_range_piece(const struct svm_ctx *ctx, uint64_t addr, uint64_t end,
		    struct svm_piece *ret_piece);
#define svm_for_each_piece(ctx, piece, from, to)                                                \
	for (uint64_t at_ = (from); at_ < (to) && svm_range_piece(ctx, at_, to, &(piece)) == 0; \
	     at_ = (piece).end)

/* Hints at addr, managed or system memory, and where the run of equal ones ends, at most at end. NULL: as
 * svm_range_piece(). */
const struct svm_hints *svm_range_run(const struct svm_ctx *ctx, uint64_t addr, uint64_t end,
				      uint64_t *ret_end);

/* Hints of system memory at addr, and where the run ends. */
const struct svm_hints *svm_system_run(const struct svm_ctx *ctx, uint64_t addr, uint64_t end,
				       uint64_t *ret_end);
/* How many ranges svm_system_update() takes at most. */
uint64_t svm_system_needs(const struct svm_ctx *ctx, uint64_t start, uint64_t end);
/* LOCKING: NATIVE, write. As svm_range_update(), of system memory; where no hint is left nothing is kept. */
int svm_system_update(struct svm_ctx *ctx, uint64_t start, uint64_t end,
		      const struct svm_advice *advice, size_t n_advice, uint32_t unset_kinds);
/* LOCKING: NATIVE, write. Hints of one range of system memory that name device id revert to none; the range may go. Returns
 * the kinds that changed. */
uint32_t svm_system_forget_device(struct svm_ctx *ctx, struct svm_tree_node *node, uint32_t id);
/* LOCKING: write. Managed [start, end) takes over hints that it had before. */
int svm_range_inherit(struct svm_ctx *ctx, uint64_t start, uint64_t end,
		      const struct svm_hints *hints);

static inline struct svm_range *svm_range_of(struct svm_tree_node *node)
{
	return svm_container_of(node, struct svm_range, node);
}

#endif
