/* SPDX-License-Identifier: MIT */
#include "range.h"

#include "owner.h"

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
		goto err_range;
	r = svm_owner_add(ctx, alloc);
	if (r < 0)
		goto err_tree;
	return 0;

err_tree:
	svm_tree_remove(&ctx->ranges, &range->node);
err_range:
	svm_pool_put(&ctx->range_pool, range);
	return r;
}

void svm_range_remove(struct svm_ctx *ctx, struct svm_alloc *alloc)
{
	uint64_t end = alloc->base + alloc->size;
	struct svm_tree_node *node = svm_tree_find(&ctx->ranges, alloc->base);

	svm_owner_remove(ctx, alloc);
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

struct svm_alloc *svm_range_alloc(const struct svm_ctx *ctx, uint64_t addr)
{
	struct svm_alloc *owner = svm_owner_at(ctx, addr);
	const struct svm_range *range;

	if (owner)
		return owner->dying ? NULL : owner;
	/* Nothing in the window is anybody's and not in the table. */
	if (ctx->owners && addr - ctx->host.window_base < ctx->host.window_size)
		return NULL;
	range = svm_range_find(ctx, addr);
	return range ? range->alloc : NULL;
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
	const struct svm_alloc *owner = svm_owner_at(ctx, start);
	const struct svm_range *range;
	uint64_t covered = start;

	/* However many ranges it is cut into: an allocation is covered by them. */
	if (owner && !owner->dying && end - owner->base <= owner->size)
		return 0;
	range = svm_range_find(ctx, start);
	for (; range; range = svm_range_next(range, end))
		covered = range->node.end;
	return covered >= end ? 0 : -ENOENT;
}

/* Cut the range that contains addr in two, with a node that the caller brings. */
static void split(struct svm_tree *tree, struct svm_range *range, uint64_t addr,
		  struct svm_range *right)
{
	right->node.start = addr;
	right->node.end = range->node.end;
	right->alloc = range->alloc;
	right->hints = range->hints;
	range->node.end = addr;
	(void)svm_tree_insert(tree, &right->node);
}

static void join_if_equal(struct svm_ctx *ctx, struct svm_tree *tree, struct svm_range *left,
			  struct svm_range *right)
{
	if (left->alloc != right->alloc || left->node.end != right->node.start ||
	    !svm_hints_equal(&left->hints, &right->hints))
		return;
	svm_tree_remove(tree, &right->node);
	left->node.end = right->node.end;
	svm_pool_put(&ctx->range_pool, right);
}

/* Join equal neighbours from the range before start to the one after end. */
static void join_span(struct svm_ctx *ctx, struct svm_tree *tree, uint64_t start, uint64_t end)
{
	struct svm_tree_node *node = svm_tree_find_from(tree, start);
	struct svm_tree_node *prev = node ? svm_tree_prev(node) : NULL;

	node = prev ? prev : node;
	while (node && node->start <= end) {
		struct svm_tree_node *next = svm_tree_next(node);
		uint64_t old_end = node->end;

		if (!next)
			break;
		join_if_equal(ctx, tree, svm_range_of(node), svm_range_of(next));
		if (node->end == old_end)
			node = next;
	}
}

/* Make start and end edges of the ranges they lie in. */
static int cut_edges(struct svm_ctx *ctx, struct svm_tree *tree, uint64_t start, uint64_t end)
{
	const uint64_t edges[2] = { start, end };
	struct svm_range *spare[2] = { NULL, NULL };

	for (unsigned int i = 0; i < 2; i++) {
		const struct svm_tree_node *node = svm_tree_find(tree, edges[i]);

		if (!node || node->start == edges[i])
			continue;
		spare[i] = svm_pool_get(&ctx->range_pool);
		if (!spare[i]) {
			svm_pool_put(&ctx->range_pool, spare[0]);
			return -ENOMEM;
		}
	}
	for (unsigned int i = 0; i < 2; i++)
		if (spare[i])
			split(tree, svm_range_of(svm_tree_find(tree, edges[i])), edges[i],
			      spare[i]);
	return 0;
}

static void change(struct svm_hints *hints, const struct svm_advice *advice, size_t n_advice,
		   uint32_t unset_kinds)
{
	svm_hints_unset(hints, unset_kinds);
	for (size_t i = 0; i < n_advice; i++)
		svm_hints_set(hints, &advice[i]);
}

int svm_range_update(struct svm_ctx *ctx, uint64_t start, uint64_t end,
		     const struct svm_advice *advice, size_t n_advice, uint32_t unset_kinds)
{
	int r = cut_edges(ctx, &ctx->ranges, start, end);

	if (r < 0)
		return r;
	for (struct svm_range *range = svm_range_find(ctx, start); range;
	     range = svm_range_next(range, end))
		change(&range->hints, advice, n_advice, unset_kinds);
	join_span(ctx, &ctx->ranges, start, end);
	return 0;
}

int svm_range_inherit(struct svm_ctx *ctx, uint64_t start, uint64_t end,
		      const struct svm_hints *hints)
{
	int r = cut_edges(ctx, &ctx->ranges, start, end);

	if (r < 0)
		return r;
	for (struct svm_range *range = svm_range_find(ctx, start); range;
	     range = svm_range_next(range, end))
		range->hints = *hints;
	join_span(ctx, &ctx->ranges, start, end);
	return 0;
}

int svm_range_reserve(struct svm_ctx *ctx, uint64_t n)
{
	struct svm_list taken;
	uint64_t i = 0;

	/* What is back in the pool stays there: only holders of the lock take from it. */
	svm_list_init(&taken);
	for (; i < n; i++) {
		struct svm_list *object = svm_pool_get(&ctx->range_pool);

		if (!object)
			break;
		svm_list_add_tail(&taken, object);
	}
	svm_list_for_each_safe(object, tmp, &taken)
		svm_pool_put(&ctx->range_pool, object);
	return i == n ? 0 : -ENOMEM;
}

int svm_range_piece(const struct svm_ctx *ctx, uint64_t addr, uint64_t end,
		    struct svm_piece *ret_piece)
{
	const struct svm_tree_node *node = svm_tree_find_from(&ctx->ranges, addr);
	uint64_t stop = end;

	if (node && node->start <= addr) {
		const struct svm_range *range = svm_range_find(ctx, addr);

		if (!range)
			return -ENOENT;
		for (; range; range = svm_range_next(range, end))
			stop = range->node.end;
		*ret_piece = (struct svm_piece){ addr, svm_min_u64(stop, end), false };
		return 0;
	}
	if (addr - ctx->host.window_base < ctx->host.window_size)
		return -ENOENT;
	if (node)
		stop = svm_min_u64(stop, node->start);
	if (addr < ctx->host.window_base)
		stop = svm_min_u64(stop, ctx->host.window_base);
	if (stop > SVM_USER_END)
		return -ENOENT;
	*ret_piece = (struct svm_piece){ addr, stop, true };
	return 0;
}

const struct svm_hints *svm_system_run(const struct svm_ctx *ctx, uint64_t addr, uint64_t end,
				       uint64_t *ret_end)
{
	struct svm_tree_node *node = svm_tree_find_from(&ctx->system, addr);

	if (node && node->start <= addr) {
		*ret_end = svm_min_u64(end, node->end);
		return &svm_range_of(node)->hints;
	}
	*ret_end = node ? svm_min_u64(end, node->start) : end;
	return &svm_hints_none;
}

const struct svm_hints *svm_range_run(const struct svm_ctx *ctx, uint64_t addr, uint64_t end,
				      uint64_t *ret_end)
{
	const struct svm_range *range;
	struct svm_piece piece;

	if (svm_range_piece(ctx, addr, end, &piece) < 0)
		return NULL;
	if (piece.system)
		return svm_system_run(ctx, addr, piece.end, ret_end);
	range = svm_range_find(ctx, addr);
	*ret_end = svm_min_u64(end, range->node.end);
	return &range->hints;
}

/* The next stretch of [addr, end) that has no node. */
static bool next_gap(const struct svm_ctx *ctx, uint64_t addr, uint64_t end, uint64_t *ret_start,
		     uint64_t *ret_end)
{
	const struct svm_tree_node *node = svm_tree_find_from(&ctx->system, addr);

	while (node && node->start <= addr) {
		addr = node->end;
		node = svm_tree_next(node);
	}
	if (addr >= end)
		return false;
	*ret_start = addr;
	*ret_end = node ? svm_min_u64(end, node->start) : end;
	return true;
}

uint64_t svm_system_needs(const struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	uint64_t n = 2;
	uint64_t stop = start;

	while (next_gap(ctx, stop, end, &start, &stop))
		n++;
	return n;
}

int svm_system_update(struct svm_ctx *ctx, uint64_t start, uint64_t end,
		      const struct svm_advice *advice, size_t n_advice, uint32_t unset_kinds)
{
	struct svm_tree_node *node;
	uint64_t gap;
	uint64_t stop = start;
	int r = svm_range_reserve(ctx, svm_system_needs(ctx, start, end));

	if (r < 0)
		return r;
	(void)cut_edges(ctx, &ctx->system, start, end);
	while (next_gap(ctx, stop, end, &gap, &stop)) {
		struct svm_range *range = svm_pool_get(&ctx->range_pool);

		range->node.start = gap;
		range->node.end = stop;
		range->hints = svm_hints_none;
		(void)svm_tree_insert(&ctx->system, &range->node);
	}
	node = svm_tree_find_from(&ctx->system, start);
	while (node && node->start < end) {
		struct svm_tree_node *next = svm_tree_next(node);
		struct svm_range *range = svm_range_of(node);

		change(&range->hints, advice, n_advice, unset_kinds);
		if (svm_hints_equal(&range->hints, &svm_hints_none)) {
			svm_tree_remove(&ctx->system, node);
			svm_pool_put(&ctx->range_pool, range);
		}
		node = next;
	}
	join_span(ctx, &ctx->system, start, end);
	return 0;
}

uint32_t svm_system_forget_device(struct svm_ctx *ctx, struct svm_tree_node *node, uint32_t id)
{
	struct svm_range *range = svm_range_of(node);
	struct svm_hints old = range->hints;
	uint64_t start = node->start;
	uint64_t end = node->end;
	uint32_t kinds = 0;

	if (!svm_hints_forget_device(&range->hints, id))
		return 0;
	kinds |= old.preferred.kind != range->hints.preferred.kind
			 ? 1u << SVM_ADVICE_PREFERRED_LOCATION
			 : 0;
	kinds |= old.accessed_by != range->hints.accessed_by ? 1u << SVM_ADVICE_ACCESSED_BY : 0;
	kinds |= old.in_place != range->hints.in_place ? 1u << SVM_ADVICE_ACCESS_IN_PLACE : 0;
	kinds |= old.no_access != range->hints.no_access ? 1u << SVM_ADVICE_NO_ACCESS : 0;
	if (svm_hints_equal(&range->hints, &svm_hints_none)) {
		svm_tree_remove(&ctx->system, node);
		svm_pool_put(&ctx->range_pool, range);
	}
	join_span(ctx, &ctx->system, start, end);
	return kinds;
}

void svm_range_forget_device(struct svm_ctx *ctx, uint32_t id)
{
	struct svm_tree_node *node = svm_tree_find_from(&ctx->ranges, 0);
	bool changed = false;

	for (; node; node = svm_tree_next(node))
		changed |= svm_hints_forget_device(&svm_range_of(node)->hints, id);
	if (changed)
		join_span(ctx, &ctx->ranges, 0, UINT64_MAX);
}
