/* SPDX-License-Identifier: MIT */
#include "range.h"

#include <errno.h>

int svm_range_add(struct svm_ctx *ctx, struct svm_alloc *alloc)
{
	struct svm_range *range = svm_pool_get(&ctx->range_pool);
	int r;

	if (!range)
		return -ENOMEM;
	range->node.start = alloc->base;
	range->node.end = alloc->base + alloc->size;
	range->alloc = alloc;
	range->hints = svm_hints_none;
	r = svm_tree_insert(&ctx->ranges, &range->node);
	if (r < 0)
		svm_pool_put(&ctx->range_pool, range);
	return r;
}

void svm_range_remove(struct svm_ctx *ctx, struct svm_alloc *alloc)
{
	uint64_t end = alloc->base + alloc->size;
	struct svm_tree_node *node = svm_tree_find(&ctx->ranges, alloc->base);

	while (node && node->start < end) {
		struct svm_tree_node *next = svm_tree_next(node);

		svm_tree_remove(&ctx->ranges, node);
		svm_pool_put(&ctx->range_pool, svm_range_of(node));
		node = next;
	}
}

struct svm_range *svm_range_at(const struct svm_ctx *ctx, uint64_t addr)
{
	struct svm_tree_node *node = svm_tree_find(&ctx->ranges, addr);

	return node ? svm_range_of(node) : NULL;
}

struct svm_range *svm_range_find(const struct svm_ctx *ctx, uint64_t addr)
{
	struct svm_tree_node *node = svm_tree_find(&ctx->ranges, addr);

	if (!node || svm_range_of(node)->alloc->dying)
		return NULL;
	return svm_range_of(node);
}

struct svm_range *svm_range_next(const struct svm_range *range, uint64_t end)
{
	struct svm_tree_node *next;

	if (range->node.end >= end)
		return NULL;
	next = svm_tree_next(&range->node);
	if (!next || next->start != range->node.end || svm_range_of(next)->alloc->dying)
		return NULL;
	return svm_range_of(next);
}

int svm_range_check(const struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	const struct svm_range *range = svm_range_find(ctx, start);
	uint64_t covered = start;

	for (; range; range = svm_range_next(range, end))
		covered = range->node.end;
	return covered >= end ? 0 : -ENOENT;
}

/* Cut the range that contains addr in two, with a node that the caller brings. */
static void split(struct svm_ctx *ctx, struct svm_range *range, uint64_t addr,
		  struct svm_range *right)
{
	right->node.start = addr;
	right->node.end = range->node.end;
	right->alloc = range->alloc;
	right->hints = range->hints;
	range->node.end = addr;
	(void)svm_tree_insert(&ctx->ranges, &right->node);
}

static void join_if_equal(struct svm_ctx *ctx, struct svm_range *left, struct svm_range *right)
{
	if (left->alloc != right->alloc || left->node.end != right->node.start ||
	    !svm_hints_equal(&left->hints, &right->hints))
		return;
	svm_tree_remove(&ctx->ranges, &right->node);
	left->node.end = right->node.end;
	svm_pool_put(&ctx->range_pool, right);
}

/* Join equal neighbours from the range before start to the one after end. */
static void join_span(struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	struct svm_tree_node *node = svm_tree_find_from(&ctx->ranges, start);
	struct svm_tree_node *prev = node ? svm_tree_prev(node) : NULL;

	node = prev ? prev : node;
	while (node && node->start <= end) {
		struct svm_tree_node *next = svm_tree_next(node);
		uint64_t old_end = node->end;

		if (!next)
			break;
		join_if_equal(ctx, svm_range_of(node), svm_range_of(next));
		if (node->end == old_end)
			node = next;
	}
}

int svm_range_update(struct svm_ctx *ctx, uint64_t start, uint64_t end,
		     const struct svm_advice *advice, size_t n_advice, uint32_t unset_kinds)
{
	struct svm_range *first = svm_range_find(ctx, start);
	struct svm_range *last = svm_range_find(ctx, end - 1u);
	struct svm_range *spare[2] = { NULL, NULL };
	bool cut_first = first->node.start < start;
	bool cut_last = last->node.end > end;

	if (cut_first && !(spare[0] = svm_pool_get(&ctx->range_pool)))
		return -ENOMEM;
	if (cut_last && !(spare[1] = svm_pool_get(&ctx->range_pool))) {
		svm_pool_put(&ctx->range_pool, spare[0]);
		return -ENOMEM;
	}
	if (cut_last)
		split(ctx, last, end, spare[1]);
	if (cut_first) {
		split(ctx, first, start, spare[0]);
		first = spare[0];
	}
	for (struct svm_range *range = first; range; range = svm_range_next(range, end)) {
		svm_hints_unset(&range->hints, unset_kinds);
		for (size_t i = 0; i < n_advice; i++)
			svm_hints_set(&range->hints, &advice[i]);
	}
	join_span(ctx, start, end);
	return 0;
}

void svm_range_forget_device(struct svm_ctx *ctx, uint32_t id)
{
	struct svm_tree_node *node = svm_tree_find_from(&ctx->ranges, 0);
	bool changed = false;

	for (; node; node = svm_tree_next(node))
		changed |= svm_hints_forget_device(&svm_range_of(node)->hints, id);
	if (changed)
		join_span(ctx, 0, UINT64_MAX);
}
