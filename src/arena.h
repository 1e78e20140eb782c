/* SPDX-License-Identifier: MIT */
/* Pools of equal objects over mmap: usable in the service path, where malloc is forbidden. */
#ifndef SVM_ARENA_H
#define SVM_ARENA_H

#include "lock.h"
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that all pools of a space, and its direct mappings, hold: svm_stats.metadata_bytes. */
struct svm_arena {
	_Atomic uint64_t bytes;
};

struct svm_pool_slab;

struct svm_pool {
	struct svm_lock lock; /* LEAF: free list and slabs */
	struct svm_arena *arena;
	size_t object_size; /* rounded to 16 */
	void *free;
	struct svm_pool_slab *slabs;
	uint64_t n_used;
};

void svm_pool_init(struct svm_pool *pool, struct svm_arena *arena, size_t object_size);
/* All objects must be back: asserts it. Unmaps the slabs. */
void svm_pool_finish(struct svm_pool *pool);
/* A zeroed object, 16-byte aligned, or NULL when the kernel has no memory. */
void *svm_pool_get(struct svm_pool *pool);
/* NULL is accepted. Under AddressSanitizer the object is poisoned until it is given out again. */
void svm_pool_put(struct svm_pool *pool, void *object);

/* A zeroed mapping of size bytes (rounded to pages; MAP_NORESERVE, so untouched pages cost nothing), not counted
 * beyond what svm_arena_account() is told. NULL when the kernel has no memory. */
void *svm_arena_map(size_t size);
void svm_arena_unmap(void *map, size_t size);
void svm_arena_account(struct svm_arena *arena, int64_t bytes);

/* Not 0 in service threads while they serve: the test fixture's malloc aborts then. */
extern _Thread_local int svm_service_depth;

#endif
