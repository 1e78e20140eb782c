/* SPDX-License-Identifier: MIT */
#include "va.h"

#include <errno.h>

/* Packed blocks that are tried before a new one is opened: keeps the search short under fragmentation. */
#define MAX_TRIES 8u

struct span {
	struct svm_tree_node node;
};

struct packed {
	struct svm_tree_node node;
	struct svm_list link; /* in roomy[], or alone when full */
	struct svm_mask used;
	enum svm_host_kind kind;
};

int svm_va_init(struct svm_va *va, struct svm_arena *arena, struct svm_host *host)
{
	struct span *span;

	va->host = host;
	svm_tree_init(&va->free);
	svm_tree_init(&va->packed);
	svm_list_init(&va->roomy[SVM_HOST_PRIVATE]);
	svm_list_init(&va->roomy[SVM_HOST_SHARED]);
	svm_pool_init(&va->span_pool, arena, sizeof(struct span));
	svm_pool_init(&va->packed_pool, arena, sizeof(struct packed));
	va->free_bytes = host->window_size;
	span = svm_pool_get(&va->span_pool);
	if (!span) {
		svm_va_finish(va);
		return -ENOMEM;
	}
	span->node.start = host->window_base;
	span->node.end = host->window_base + host->window_size;
	return svm_tree_insert(&va->free, &span->node);
}

void svm_va_finish(struct svm_va *va)
{
	while (va->free.root) {
		struct span *span = svm_container_of(va->free.root, struct span, node);

		svm_tree_remove(&va->free, &span->node);
		svm_pool_put(&va->span_pool, span);
	}
	while (va->packed.root) {
		struct packed *packed = svm_container_of(va->packed.root, struct packed, node);

		svm_tree_remove(&va->packed, &packed->node);
		svm_pool_put(&va->packed_pool, packed);
	}
	svm_pool_finish(&va->span_pool);
	svm_pool_finish(&va->packed_pool);
}

static int take_span(struct svm_va *va, uint64_t size, uint64_t *ret_addr)
{
	for (struct svm_tree_node *n = svm_tree_find_from(&va->free, 0); n; n = svm_tree_next(n)) {
		if (n->end - n->start < size)
			continue;
		*ret_addr = n->start;
		if (n->end - n->start == size) {
			svm_tree_remove(&va->free, n);
			svm_pool_put(&va->span_pool, svm_container_of(n, struct span, node));
		} else {
			/* The order does not change: the node only shrinks. */
			n->start += size;
		}
		va->free_bytes -= size;
		return 0;
	}
	return -ERANGE;
}

static void give_span(struct svm_va *va, uint64_t addr, uint64_t size)
{
	struct svm_tree_node *next = svm_tree_find_from(&va->free, addr);
	struct svm_tree_node *prev = next ? svm_tree_prev(next) : NULL;
	struct span *span;

	if (!next && va->free.root) {
		prev = va->free.root;
		while (prev->right)
			prev = prev->right;
	}
	va->free_bytes += size;
	if (prev && prev->end == addr) {
		uint64_t end = addr + size;

		if (next && next->start == end) {
			end = next->end;
			svm_tree_remove(&va->free, next);
			svm_pool_put(&va->span_pool, svm_container_of(next, struct span, node));
		}
		prev->end = end;
		return;
	}
	if (next && next->start == addr + size) {
		next->start = addr;
		return;
	}
	span = svm_pool_get(&va->span_pool);
	if (!span) {
		/* The addresses are lost to the space until it ends: better than handing one out twice. */
		va->free_bytes -= size;
		svm_warn(va->host->log, "no memory to keep %llu bytes of the window",
			 (unsigned long long)size);
		return;
	}
	span->node.start = addr;
	span->node.end = addr + size;
	(void)svm_tree_insert(&va->free, &span->node);
}

static int alloc_blocks(struct svm_va *va, uint64_t size, enum svm_host_kind kind,
			uint64_t *ret_addr)
{
	uint64_t length = svm_align_up(size, SVM_BLOCK_SIZE);
	uint64_t addr;
	int r = take_span(va, length, &addr);

	if (r < 0)
		return r;
	r = svm_host_arm(va->host, addr, length, kind);
	if (r < 0) {
		give_span(va, addr, length);
		return r;
	}
	*ret_addr = addr;
	return 0;
}

/* First free run of n pages. */
static bool find_run(const struct packed *packed, unsigned int n, unsigned int *ret_page)
{
	struct svm_mask room;
	unsigned int page;
	unsigned int run;

	for (unsigned int i = 0; i < SVM_MASK_WORDS; i++)
		room.w[i] = ~packed->used.w[i];
	for (page = 0; (run = svm_mask_run(&room, &page)) != 0; page += run) {
		if (run >= n) {
			*ret_page = page;
			return true;
		}
	}
	return false;
}

static struct packed *open_packed(struct svm_va *va, enum svm_host_kind kind, int *ret_error)
{
	struct packed *packed = svm_pool_get(&va->packed_pool);
	uint64_t addr;

	if (!packed) {
		*ret_error = -ENOMEM;
		return NULL;
	}
	*ret_error = alloc_blocks(va, SVM_BLOCK_SIZE, kind, &addr);
	if (*ret_error < 0) {
		svm_pool_put(&va->packed_pool, packed);
		return NULL;
	}
	packed->kind = kind;
	packed->node.start = addr;
	packed->node.end = addr + SVM_BLOCK_SIZE;
	(void)svm_tree_insert(&va->packed, &packed->node);
	svm_list_add_head(&va->roomy[kind], &packed->link);
	return packed;
}

static int alloc_packed(struct svm_va *va, uint64_t size, enum svm_host_kind kind,
			uint64_t *ret_addr)
{
	unsigned int n = (unsigned int)(size >> SVM_PAGE_SHIFT);
	unsigned int tries = 0;
	unsigned int page = 0; /* of a new block */
	struct packed *packed = NULL;
	struct svm_mask room;
	int r;

	svm_list_for_each(node, &va->roomy[kind]) {
		struct packed *p = svm_list_entry(node, struct packed, link);

		if (find_run(p, n, &page)) {
			packed = p;
			break;
		}
		if (++tries == MAX_TRIES)
			break;
	}
	if (!packed) {
		packed = open_packed(va, kind, &r);
		if (!packed)
			return r;
	}
	svm_mask_set_range(&packed->used, page, n);
	svm_mask_fill(&room);
	if (svm_mask_equal(&packed->used, &room))
		svm_list_del(&packed->link);
	*ret_addr = packed->node.start + ((uint64_t)page << SVM_PAGE_SHIFT);
	return 0;
}

int svm_va_alloc(struct svm_va *va, uint64_t size, enum svm_host_kind kind, uint64_t *ret_addr)
{
	/* Half a block and more gets blocks of its own: huge pages, and no neighbours that move along. */
	if (size > SVM_BLOCK_SIZE / 2u)
		return alloc_blocks(va, size, kind, ret_addr);
	return alloc_packed(va, size, kind, ret_addr);
}

void svm_va_free(struct svm_va *va, uint64_t addr, uint64_t size)
{
	struct svm_tree_node *node = svm_tree_find(&va->packed, addr);
	struct svm_mask gone;
	struct packed *packed;

	if (!node) {
		uint64_t length = svm_align_up(size, SVM_BLOCK_SIZE);

		if (svm_host_disarm(va->host, addr, length) == 0)
			give_span(va, addr, length);
		return;
	}
	packed = svm_container_of(node, struct packed, node);
	svm_mask_zero(&gone);
	svm_mask_set_range(&gone, (unsigned int)((addr - node->start) >> SVM_PAGE_SHIFT),
			   (unsigned int)(size >> SVM_PAGE_SHIFT));
	svm_mask_andnot(&packed->used, &gone);
	/* An empty packed block stays open: the next small allocation comes soon. */
	svm_list_del(&packed->link);
	svm_list_add_head(&va->roomy[packed->kind], &packed->link);
}

int svm_va_packed_kind(const struct svm_va *va, uint64_t addr, enum svm_host_kind *ret_kind)
{
	struct svm_tree_node *node = svm_tree_find(&va->packed, addr);

	if (!node)
		return -ENOENT;
	*ret_kind = svm_container_of(node, struct packed, node)->kind;
	return 0;
}
