// SPDX-License-Identifier: MIT
#include "emu_tree.h"

#include <stddef.h>

static uint32_t next_prio(struct emu_tree *t)
{
	uint32_t x = t->seed ? t->seed : 0x9e3779b9u;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	t->seed = x;
	return x;
}

/* Spans below addr go to *lo, the others to *hi. */
static void split(struct emu_node *root, uint64_t addr, struct emu_node **lo, struct emu_node **hi)
{
	while (root) {
		if (root->start < addr) {
			*lo = root;
			lo = &root->right;
			root = root->right;
		} else {
			*hi = root;
			hi = &root->left;
			root = root->left;
		}
	}
	*lo = NULL;
	*hi = NULL;
}

static struct emu_node *join(struct emu_node *lo, struct emu_node *hi)
{
	struct emu_node *root = NULL, **link = &root;

	while (lo && hi) {
		if (lo->prio > hi->prio) {
			*link = lo;
			link = &lo->right;
			lo = lo->right;
		} else {
			*link = hi;
			link = &hi->left;
			hi = hi->left;
		}
	}
	*link = lo ? lo : hi;
	return root;
}

void emu_tree_insert(struct emu_tree *t, struct emu_node *n)
{
	struct emu_node **link = &t->root;

	n->prio = next_prio(t);
	while (*link && (*link)->prio >= n->prio)
		link = n->start < (*link)->start ? &(*link)->left : &(*link)->right;
	split(*link, n->start, &n->left, &n->right);
	*link = n;
}

void emu_tree_remove(struct emu_tree *t, struct emu_node *n)
{
	struct emu_node **link = &t->root;

	while (*link != n)
		link = n->start < (*link)->start ? &(*link)->left : &(*link)->right;
	*link = join(n->left, n->right);
	n->left = n->right = NULL;
}

struct emu_node *emu_tree_first(const struct emu_tree *t, uint64_t addr)
{
	struct emu_node *n = t->root, *best = NULL;

	while (n) {
		if (n->end > addr) {
			best = n;
			n = n->left;
		} else {
			n = n->right;
		}
	}
	return best;
}

struct emu_node *emu_tree_at(const struct emu_tree *t, uint64_t addr)
{
	struct emu_node *n = emu_tree_first(t, addr);

	return n && n->start <= addr ? n : NULL;
}
