/* SPDX-License-Identifier: MIT */
#include "block.h"

#include <errno.h>
#include <stdlib.h>

static struct svm_block **slot_of(struct svm_ctx *ctx, uint64_t addr, struct svm_alloc **ret_alloc)
{
	const struct svm_host *host = &ctx->host;
	struct svm_tree_node *node;

	*ret_alloc = NULL;
	if (addr - host->window_base < host->window_size)
		return &ctx->blocks[(addr - host->window_base) >> SVM_BLOCK_SHIFT];
	node = svm_tree_find(&ctx->ranges, addr);
	if (!node)
		return NULL;
	*ret_alloc = svm_range_of(node)->alloc;
	return &(*ret_alloc)
			->blocks[(addr >> SVM_BLOCK_SHIFT) -
				 ((*ret_alloc)->base >> SVM_BLOCK_SHIFT)];
}

struct svm_block *svm_block_find(struct svm_ctx *ctx, uint64_t addr)
{
	struct svm_alloc *alloc;
	struct svm_block **slot = slot_of(ctx, addr, &alloc);

	return slot ? __atomic_load_n(slot, __ATOMIC_ACQUIRE) : NULL;
}

static struct svm_block *block_new(struct svm_ctx *ctx, uint64_t base,
				   const struct svm_alloc *alloc)
{
	struct svm_block *block = svm_pool_get(&ctx->block_pool);
	const struct svm_host *host = &ctx->host;

	if (!block)
		return NULL;
	svm_lock_init(&block->lock, SVM_RANK_BLOCK);
	block->ctx = ctx;
	block->base = base;
	block->coh.at[SVM_AGENT_CPU] = &block->cpu;
	svm_list_init(&block->queue);
	svm_list_init(&block->holds);
	block->host.user = base;
	block->host.node = -1;
	if (alloc) {
		block->news = svm_pool_get(&ctx->request_pool);
		if (!block->news) {
			svm_block_delete(block);
			return NULL;
		}
		block->news->block = block;
		svm_list_init(&block->news->node);
		block->host.registered = true;
		block->host.stash = alloc->stash + (base - alloc->base);
	} else {
		block->host.stash = host->stash_base + (base - host->window_base);
		block->host.alias = host->alias_base + (base - host->window_base);
	}
	return block;
}

/* Pages of all allocations within a block that is made now. */
static void find_managed(struct svm_ctx *ctx, struct svm_block *block,
			 const struct svm_alloc *alloc)
{
	uint64_t end = block->base + SVM_BLOCK_SIZE;
	struct svm_tree_node *node = svm_tree_find_from(&ctx->ranges, block->base);

	for (; node && node->start < end; node = svm_tree_next(node)) {
		const struct svm_range *range = svm_range_of(node);
		struct svm_mask pages;

		if ((alloc && range->alloc != alloc) || range->alloc->dying)
			continue;
		svm_block_pages(block, node->start, node->end, &pages);
		svm_mask_or(&block->managed, &pages);
	}
}

/* Kind of the storage around addr. -ENOENT: nothing is, or was, managed in its block. */
static int kind_at(struct svm_ctx *ctx, uint64_t addr, const struct svm_alloc *alloc,
		   enum svm_host_kind *ret_kind)
{
	uint64_t base = svm_align_down(addr, SVM_BLOCK_SIZE);
	struct svm_tree_node *node = svm_tree_find_from(&ctx->ranges, base);

	if (alloc) {
		*ret_kind = SVM_HOST_PRIVATE;
		return 0;
	}
	if (node && node->start < base + SVM_BLOCK_SIZE) {
		*ret_kind = svm_range_of(node)->alloc->kind;
		return 0;
	}
	return svm_va_packed_kind(&ctx->va, addr, ret_kind);
}

int svm_block_get(struct svm_ctx *ctx, uint64_t addr, struct svm_block **ret_block)
{
	struct svm_alloc *alloc;
	struct svm_block **slot = slot_of(ctx, addr, &alloc);
	struct svm_block *block = slot ? __atomic_load_n(slot, __ATOMIC_ACQUIRE) : NULL;
	struct svm_block *expected = NULL;
	enum svm_host_kind kind;
	int r;

	if (block) {
		*ret_block = block;
		return 0;
	}
	if (!slot)
		return -ENOENT;
	r = kind_at(ctx, addr, alloc, &kind);
	if (r < 0)
		return r;
	block = block_new(ctx, svm_align_down(addr, SVM_BLOCK_SIZE), alloc);
	if (!block)
		return -ENOMEM;
	find_managed(ctx, block, alloc);
	block->host.kind = kind;
	block->shared = kind == SVM_HOST_SHARED;
	if (!__atomic_compare_exchange_n(slot, &expected, block, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE)) {
		svm_block_delete(block);
		block = expected;
	}
	*ret_block = block;
	return 0;
}

void svm_block_delete(struct svm_block *block)
{
	svm_lock_finish(&block->lock);
	svm_pool_put(&block->ctx->request_pool, block->news);
	svm_pool_put(&block->ctx->block_pool, block);
}

void svm_block_pages(const struct svm_block *block, uint64_t start, uint64_t end,
		     struct svm_mask *ret_pages)
{
	uint64_t block_end = block->base + SVM_BLOCK_SIZE;

	svm_mask_zero(ret_pages);
	start = svm_max_u64(start, block->base);
	end = svm_min_u64(end, block_end);
	if (start >= end)
		return;
	svm_mask_set_range(ret_pages, (unsigned int)((start - block->base) >> SVM_PAGE_SHIFT),
			   (unsigned int)((end - start) >> SVM_PAGE_SHIFT));
}

void svm_block_set_managed(struct svm_block *block, uint64_t start, uint64_t end, bool managed)
{
	struct svm_mask pages;

	svm_block_pages(block, start, end, &pages);
	svm_lock(&block->lock);
	if (managed)
		svm_mask_or(&block->managed, &pages);
	else
		svm_mask_andnot(&block->managed, &pages);
	svm_unlock(&block->lock);
}

struct svm_block_device *svm_block_add_device(struct svm_block *block, struct svm_device *device)
{
	struct svm_block_device *entry = svm_block_device_of(block, device->agent);

	if (entry)
		return entry;
	entry = svm_pool_get(&block->ctx->block_device_pool);
	if (!entry)
		return NULL;
	entry->block = block;
	entry->device = device;
	svm_list_init(&entry->chunk.lru);
	svm_lock(&device->blocks_lock);
	svm_list_add_tail(&device->blocks, &entry->node);
	svm_unlock(&device->blocks_lock);
	block->coh.at[device->agent] = &entry->agent;
	return entry;
}

void svm_block_remove_device(struct svm_block *block, struct svm_block_device *entry)
{
	struct svm_device *device = entry->device;

	svm_store_detach(&device->store, &entry->chunk);
	block->coh.at[device->agent] = NULL;
	svm_lock(&device->blocks_lock);
	svm_list_del(&entry->node);
	svm_unlock(&device->blocks_lock);
	svm_pool_put(&block->ctx->block_device_pool, entry);
}

void svm_block_correct_cpu(struct svm_block *block, const struct svm_mask *pages)
{
	struct svm_mask gone = *pages;

	svm_mask_and(&block->cpu.map_r, &block->host.cpu);
	svm_mask_and(&block->cpu.map_w, &block->host.cpu);
	svm_mask_andnot(&block->cpu.map_w, &block->host.cpu_ro);
	/* Nor does the host hold those for which there is no memory any more. */
	svm_mask_andnot(&gone, &block->host.cpu);
	svm_mask_andnot(&gone, &block->host.back);
	svm_mask_andnot(&block->cpu.res, &gone);
}

void svm_block_check(const struct svm_block *block)
{
#ifdef SVM_DEBUG
	const char *broken = svm_coh_check(&block->coh);

	if (broken) {
		svm_error(&block->ctx->log, "block %llx: invariant %s is broken",
			  (unsigned long long)block->base, broken);
		abort();
	}
#else
	(void)block;
#endif
}
