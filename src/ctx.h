/* SPDX-License-Identifier: MIT */
/*
 * What the modules of one space share: the services below them, the address map, the devices. The
 * space (space.h) owns it; every other module borrows it.
 */
#ifndef SVM_CTX_H
#define SVM_CTX_H

#include "arena.h"
#include "host.h"
#include "lock.h"
#include "log.h"
#include "loop.h"
#include "stream.h"
#include "trace.h"
#include "tree.h"
#include "va.h"
#include "worker.h"
#include <libsvm/types.h>
#include <stdatomic.h>

#define SVM_MAX_THREADS 16u

/* User addresses end below the 47-bit line unless asked for otherwise (Documentation/arch/x86/x86_64/5level-paging.rst):
 * no device is ever given one that it cannot reach. */
#define SVM_USER_END (UINT64_C(1) << 47)

/* Sizes of lists of allocations that share a block. */
#define SVM_OWNER_SIZES 3u

struct svm_block;
struct svm_device;

struct svm_ctx {
	/* Set up once, constant while the space lives. */
	struct svm_log log;
	struct svm_arena arena;
	struct svm_trace trace;
	struct svm_host host;
	struct svm_loop *loops[SVM_MAX_THREADS];
	uint32_t n_loops;
	uint64_t op_timeout_ns;
	uint64_t cache_limit; /* bytes of stale host pages that may be kept */
	bool for_native;      /* SVM_SPACE_NATIVE */
	uint64_t unit; /* bytes: what moves together at least; 64 KiB with SVM_SPACE_64K_UNITS, else a page */
	const uint32_t *alive; /* a page that a forked child sees as zeros */

	struct svm_pool alloc_pool;
	struct svm_pool range_pool;
	struct svm_pool block_pool;
	struct svm_pool block_device_pool;
	struct svm_pool request_pool;
	struct svm_pool transition_pool;
	struct svm_pool hold_pool;
	struct svm_pool fence_pool;

	/* RANGE_TREE: the address map. Readers find ranges and blocks; writers add, remove, split, join. */
	struct svm_rwlock tree_lock;
	struct svm_tree ranges; /* struct svm_range.node, adjacent but never overlapping */
	struct svm_tree
		system; /* the same, of memory that is not managed and has hints; NATIVE, too, to change it */
	struct svm_va va; /* what is free in the window */
	struct svm_block **
		blocks; /* of the window, by block number; slots are set once, by compare-and-swap */
	uintptr_t *owners; /* of the window, by block number: owner.c */
	struct svm_pool owner_pools[SVM_OWNER_SIZES];
	uint64_t next_alloc_id;

	/* SPACE: slots change under it; readers load the pointer while an open device cannot go (their request, hold or
	 * the loop keeps it). */
	struct svm_lock space_lock;
	struct svm_device *_Atomic devices[SVM_MAX_DEVICES];

	/* NATIVE: telling native devices, in order, what is in ctx->system. */
	struct svm_lock native_lock;
	_Atomic uint32_t n_native; /* native devices that are open */
	struct svm_worker worker;  /* for calls of native devices that block */

	struct svm_streams streams; /* of CPU faults */

	_Atomic uint64_t generation;	/* grows with every commit */
	_Atomic int64_t cache_bytes;	/* stale host pages kept now */
	_Atomic uint32_t n_open_jobs;	/* accesses and prefetches that the application holds */
	_Atomic uint32_t n_open_fences; /* its references to fences */
};

/* -ECHILD in a forked child, else 0. Async-signal-safe. */
static inline int svm_ctx_check(const struct svm_ctx *ctx)
{
	return *(const volatile uint32_t *)ctx->alive ? 0 : -10 /* ECHILD */;
}

/* The loop that serves an address: neighbours go to the same one. */
static inline struct svm_loop *svm_ctx_loop(const struct svm_ctx *ctx, uint64_t addr)
{
	return ctx->loops[(addr >> (SVM_BLOCK_SHIFT + 4u)) % ctx->n_loops];
}

#endif
