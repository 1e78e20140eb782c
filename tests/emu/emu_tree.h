/* SPDX-License-Identifier: MIT */
/*
 * An ordered set of half-open spans that never overlap (a treap). The caller embeds the node and
 * serialises access. Used for GPU page tables and for the lists of virtual memory areas.
 */
#ifndef EMU_TREE_H
#define EMU_TREE_H

#include <stdint.h>

struct emu_node {
	struct emu_node *left, *right;
	uint64_t start, end;
	uint32_t prio;
};

struct emu_tree {
	struct emu_node *root;
	uint32_t seed;
};

/* The span must not overlap one in the tree. */
void emu_tree_insert(struct emu_tree *t, struct emu_node *n);
void emu_tree_remove(struct emu_tree *t, struct emu_node *n);
/* The first span that ends after addr, or NULL: it holds addr or lies above. */
struct emu_node *emu_tree_first(const struct emu_tree *t, uint64_t addr);
/* The span that holds addr, or NULL. */
struct emu_node *emu_tree_at(const struct emu_tree *t, uint64_t addr);
static inline struct emu_node *emu_tree_next(const struct emu_tree *t, const struct emu_node *n)
{
	return emu_tree_first(t, n->end);
}

#endif
