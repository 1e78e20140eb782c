/* SPDX-License-Identifier: MIT */
#include "owner.h"

#include "range.h"
#include <assert.h>
#include <errno.h>

/* Allocations that share a block. Lists come in sizes; the largest has room for one per page. */
struct owner_list {
	struct svm_mask starts; /* pages where one starts */
	uint32_t n;
	uint32_t size;		    /* which of sizes[] */
	struct svm_alloc *allocs[]; /* by address */
};

static const uint32_t sizes[SVM_OWNER_SIZES] = { 16, 64, SVM_BLOCK_PAGES };

/* A slot with this bit set points to a list. */
#define IS_LIST ((uintptr_t)1)

static size_t table_size(const struct svm_ctx *ctx)
{
	return (size_t)(ctx->host.window_size >> SVM_BLOCK_SHIFT) * sizeof(*ctx->owners);
}

int svm_owner_init(struct svm_ctx *ctx)
{
	/* Touched where it is used only. */
	ctx->owners = svm_arena_map(table_size(ctx));
	if (!ctx->owners)
		return -ENOMEM;
	for (uint32_t i = 0; i < SVM_OWNER_SIZES; i++)
		svm_pool_init(&ctx->owner_pools[i], &ctx->arena,
			      sizeof(struct owner_list) + sizes[i] * sizeof(struct svm_alloc *));
	return 0;
}

void svm_owner_finish(struct svm_ctx *ctx)
{
	for (uint32_t i = 0; i < SVM_OWNER_SIZES; i++)
		svm_pool_finish(&ctx->owner_pools[i]);
	svm_arena_unmap(ctx->owners, table_size(ctx));
}

static bool in_window(const struct svm_ctx *ctx, uint64_t addr)
{
	return ctx->owners && addr - ctx->host.window_base < ctx->host.window_size;
}

static uintptr_t *slot_of(const struct svm_ctx *ctx, uint64_t addr)
{
	return &ctx->owners[(addr - ctx->host.window_base) >> SVM_BLOCK_SHIFT];
}

static struct owner_list *list_of(uintptr_t slot)
{
	return slot & IS_LIST ? (struct owner_list *)(slot & ~IS_LIST) : NULL;
}

static unsigned int page_of(uint64_t addr)
{
	return (unsigned int)((addr & (SVM_BLOCK_SIZE - 1u)) >> SVM_PAGE_SHIFT);
}

/* How many start at pages [0, page]. */
static uint32_t n_up_to(const struct owner_list *list, unsigned int page)
{
	uint32_t n = 0;

	for (unsigned int w = 0; w < page / 64u; w++)
		n += (uint32_t)__builtin_popcountll(list->starts.w[w]);
	return n + (uint32_t)__builtin_popcountll(list->starts.w[page / 64u] << (63u - page % 64u));
}

/* A list with room for one more in the place of the slot's. */
static int make_room(struct svm_ctx *ctx, uintptr_t *slot)
{
	struct owner_list *old = list_of(*slot);
	uint32_t size = old ? old->size + 1u : 0;
	struct owner_list *list;

	if (old && old->n < sizes[old->size])
		return 0;
	assert(size < SVM_OWNER_SIZES);
	list = svm_pool_get(&ctx->owner_pools[size]);
	if (!list)
		return -ENOMEM;
	if (old) {
		list->starts = old->starts;
		list->n = old->n;
		memcpy(list->allocs, old->allocs, old->n * sizeof(struct svm_alloc *));
		svm_pool_put(&ctx->owner_pools[old->size], old);
	}
	list->size = size;
	*slot = (uintptr_t)list | IS_LIST;
	return 0;
}

static int add_to_list(struct svm_ctx *ctx, struct svm_alloc *alloc)
{
	uintptr_t *slot = slot_of(ctx, alloc->base);
	unsigned int page = page_of(alloc->base);
	struct owner_list *list;
	uint32_t at;
	int r = make_room(ctx, slot);

	if (r < 0)
		return r;
	list = list_of(*slot);
	at = n_up_to(list, page);
	memmove(&list->allocs[at + 1u], &list->allocs[at],
		(list->n - at) * sizeof(struct svm_alloc *));
	list->allocs[at] = alloc;
	list->n++;
	svm_mask_set(&list->starts, page);
	return 0;
}

static void remove_from_list(struct svm_ctx *ctx, const struct svm_alloc *alloc)
{
	uintptr_t *slot = slot_of(ctx, alloc->base);
	struct owner_list *list = list_of(*slot);
	unsigned int page = page_of(alloc->base);
	uint32_t at;

	if (!list || !svm_mask_test(&list->starts, page))
		return;
	at = n_up_to(list, page) - 1u;
	list->n--;
	memmove(&list->allocs[at], &list->allocs[at + 1u],
		(list->n - at) * sizeof(struct svm_alloc *));
	svm_mask_clear(&list->starts, page);
	if (list->n > 0)
		return;
	svm_pool_put(&ctx->owner_pools[list->size], list);
	*slot = 0;
}

/* The layout of the window gives whole blocks to whatever is larger (va.h). */
static bool shares_block(const struct svm_alloc *alloc)
{
	return alloc->size <= SVM_BLOCK_SIZE / 2u;
}

static void set_slots(struct svm_ctx *ctx, const struct svm_alloc *alloc, uintptr_t value)
{
	uintptr_t *last = slot_of(ctx, alloc->base + alloc->size - 1u);

	for (uintptr_t *slot = slot_of(ctx, alloc->base); slot <= last; slot++)
		*slot = value;
}

int svm_owner_add(struct svm_ctx *ctx, struct svm_alloc *alloc)
{
	if (!in_window(ctx, alloc->base))
		return 0;
	if (shares_block(alloc))
		return add_to_list(ctx, alloc);
	set_slots(ctx, alloc, (uintptr_t)alloc);
	return 0;
}

void svm_owner_remove(struct svm_ctx *ctx, struct svm_alloc *alloc)
{
	if (!in_window(ctx, alloc->base))
		return;
	if (shares_block(alloc))
		remove_from_list(ctx, alloc);
	else if (*slot_of(ctx, alloc->base) == (uintptr_t)alloc)
		set_slots(ctx, alloc, 0);
}

struct svm_alloc *svm_owner_at(const struct svm_ctx *ctx, uint64_t addr)
{
	const struct owner_list *list;
	struct svm_alloc *alloc;
	uintptr_t slot;

	if (!in_window(ctx, addr))
		return NULL;
	slot = *slot_of(ctx, addr);
	list = list_of(slot);
	alloc = (struct svm_alloc *)slot;
	if (list) {
		uint32_t n = n_up_to(list, page_of(addr));

		alloc = n ? list->allocs[n - 1u] : NULL;
	}
	return alloc && addr - alloc->base < alloc->size ? alloc : NULL;
}
