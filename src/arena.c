/* SPDX-License-Identifier: MIT */
#include "arena.h"
#include "sys.h"
#include "util.h"
#include <libsvm/types.h>
#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#endif

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#define poison(ptr, size)   ASAN_POISON_MEMORY_REGION(ptr, size)
#define unpoison(ptr, size) ASAN_UNPOISON_MEMORY_REGION(ptr, size)
#else
#define poison(ptr, size)   ((void)(ptr), (void)(size))
#define unpoison(ptr, size) ((void)(ptr), (void)(size))
#endif

#define OBJECT_ALIGN 16u
/* A pool begins with a slab for a few objects; each slab is twice the one before, up to this: most pools of a space never
 * hold more than that, and are counted in whole slabs. */
#define SLAB_SIZE    (64u << 10)
#define SLAB_OBJECTS 8u

_Thread_local int svm_service_depth;

/*
 * At the start of each slab. Objects from n_carved on were never given out: they are still zero,
 * and their pages untouched. Only the newest slab has such objects.
 */
struct svm_pool_slab {
	struct svm_pool_slab *next;
	size_t size;
	size_t n_carved;
};

#define SLAB_HEADER \
	((sizeof(struct svm_pool_slab) + OBJECT_ALIGN - 1u) & ~(size_t)(OBJECT_ALIGN - 1u))

/* An object that was put back: the first bytes link to the next. */
struct free_object {
	struct free_object *next;
};

void *svm_arena_map(size_t size)
{
	void *map;
	int ret;

	ret = svm_sys->mmap(NULL, svm_align_up(size, SVM_PAGE_SIZE), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, &map);
	return ret < 0 ? NULL : map;
}

void svm_arena_unmap(void *map, size_t size)
{
	int ret;

	if (!map)
		return;
	size = svm_align_up(size, SVM_PAGE_SIZE);
	ret = svm_sys->munmap(map, size);
	/* The kernel merges neighbours, and may have no room for one mapping more: the addresses stay ours then, and the
	 * memory goes. */
	if (ret < 0)
		(void)svm_sys->madvise(map, size, MADV_DONTNEED);
}

void svm_arena_account(struct svm_arena *arena, int64_t bytes)
{
	atomic_fetch_add_explicit(&arena->bytes, (uint64_t)bytes, memory_order_relaxed);
}

void svm_pool_init(struct svm_pool *pool, struct svm_arena *arena, size_t object_size)
{
	assert(object_size > 0);
	svm_lock_init(&pool->lock, SVM_RANK_LEAF);
	pool->arena = arena;
	pool->object_size = svm_align_up(object_size, OBJECT_ALIGN);
	pool->free = NULL;
	pool->slabs = NULL;
	pool->n_used = 0;
}

void svm_pool_finish(struct svm_pool *pool)
{
	assert(pool->n_used == 0);
	while (pool->slabs) {
		struct svm_pool_slab *slab = pool->slabs;
		size_t size = slab->size;

		pool->slabs = slab->next;
		unpoison(slab, size);
		svm_arena_unmap(slab, size);
		svm_arena_account(pool->arena, -(int64_t)size);
	}
	pool->free = NULL;
	svm_lock_finish(&pool->lock);
}

/* LOCKING: pool->lock */
static struct svm_pool_slab *add_slab(struct svm_pool *pool)
{
	size_t least = SLAB_HEADER + SLAB_OBJECTS * pool->object_size;
	size_t size = least;
	struct svm_pool_slab *slab;

	if (pool->slabs)
		size = svm_max_u64(svm_min_u64(2u * pool->slabs->size, SLAB_SIZE), least);
	size = svm_align_up(size, SVM_PAGE_SIZE);
	slab = svm_arena_map(size);
	if (!slab)
		return NULL;
	slab->size = size;
	slab->next = pool->slabs;
	pool->slabs = slab;
	poison((char *)slab + SLAB_HEADER, size - SLAB_HEADER);
	svm_arena_account(pool->arena, (int64_t)size);
	return slab;
}

/* An object that was never used, and so is zero. LOCKING: pool->lock */
static void *carve(struct svm_pool *pool)
{
	struct svm_pool_slab *slab = pool->slabs;
	char *object;

	if (!slab || SLAB_HEADER + (slab->n_carved + 1u) * pool->object_size > slab->size)
		slab = add_slab(pool);
	if (!slab)
		return NULL;
	object = (char *)slab + SLAB_HEADER + slab->n_carved * pool->object_size;
	slab->n_carved++;
	unpoison(object, pool->object_size);
	return object;
}

void *svm_pool_get(struct svm_pool *pool)
{
	struct free_object *object;
	bool used_before = false;

	svm_lock(&pool->lock);
	object = pool->free;
	if (object) {
		used_before = true;
		unpoison(object, pool->object_size);
		pool->free = object->next;
	} else {
		object = carve(pool);
	}
	if (object)
		pool->n_used++;
	svm_unlock(&pool->lock);

	if (used_before)
		memset(object, 0, pool->object_size);
	return object;
}

void svm_pool_put(struct svm_pool *pool, void *object)
{
	struct free_object *freed = object;

	if (!freed)
		return;
	svm_lock(&pool->lock);
	assert(pool->n_used > 0);
	pool->n_used--;
	freed->next = pool->free;
	pool->free = freed;
	poison(freed, pool->object_size);
	svm_unlock(&pool->lock);
}
