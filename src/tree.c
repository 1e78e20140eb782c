/* SPDX-License-Identifier: MIT */
/* An AVL tree: heights of siblings differ by one at most, a leaf has height 1. */
#include "tree.h"
#include <errno.h>
#include <stddef.h>

static int height(const struct svm_tree_node *node)
{
	return node ? node->height : 0;
}

/* Positive: the left side is higher. */
static int lean(const struct svm_tree_node *node)
{
	return height(node->left) - height(node->right);
}

static void update_height(struct svm_tree_node *node)
{
	int l = height(node->left);
	int r = height(node->right);

	node->height = 1 + (l > r ? l : r);
}

/* Let parent (or the root) point to replacement where it pointed to node. */
static void replace_child(struct svm_tree *tree, struct svm_tree_node *parent,
			  const struct svm_tree_node *node, struct svm_tree_node *replacement)
{
	if (!parent)
		tree->root = replacement;
	else if (parent->left == node)
		parent->left = replacement;
	else
		parent->right = replacement;
	if (replacement)
		replacement->parent = parent;
}

/*
 *     node            up
 *    /    \          /  \
 *   up     c   ->   a    node
 *  /  \                 /    \
 * a    b               b      c
 */
static struct svm_tree_node *rotate_right(struct svm_tree *tree, struct svm_tree_node *node)
{
	struct svm_tree_node *up = node->left;

	replace_child(tree, node->parent, node, up);
	node->left = up->right;
	if (node->left)
		node->left->parent = node;
	up->right = node;
	node->parent = up;
	update_height(node);
	update_height(up);
	return up;
}

/* The mirror image of rotate_right(). */
static struct svm_tree_node *rotate_left(struct svm_tree *tree, struct svm_tree_node *node)
{
	struct svm_tree_node *up = node->right;

	replace_child(tree, node->parent, node, up);
	node->right = up->left;
	if (node->right)
		node->right->parent = node;
	up->left = node;
	node->parent = up;
	update_height(node);
	update_height(up);
	return up;
}

/* Restore heights and balance from node up to the root. */
static void rebalance(struct svm_tree *tree, struct svm_tree_node *node)
{
	while (node) {
		update_height(node);
		if (lean(node) > 1) {
			if (lean(node->left) < 0)
				rotate_left(tree, node->left);
			node = rotate_right(tree, node);
		} else if (lean(node) < -1) {
			if (lean(node->right) > 0)
				rotate_right(tree, node->right);
			node = rotate_left(tree, node);
		}
		node = node->parent;
	}
}

static struct svm_tree_node *leftmost(struct svm_tree_node *node)
{
	while (node && node->left)
		node = node->left;
	return node;
}

void svm_tree_init(struct svm_tree *tree)
{
	tree->root = NULL;
	tree->n_nodes = 0;
}

int svm_tree_insert(struct svm_tree *tree, struct svm_tree_node *node)
{
	struct svm_tree_node **link = &tree->root;
	struct svm_tree_node *parent = NULL;

	if (node->start >= node->end)
		return -EINVAL;
	while (*link) {
		parent = *link;
		if (node->end <= parent->start)
			link = &parent->left;
		else if (node->start >= parent->end)
			link = &parent->right;
		else
			return -EEXIST;
	}
	node->parent = parent;
	node->left = NULL;
	node->right = NULL;
	node->height = 1;
	*link = node;
	tree->n_nodes++;
	rebalance(tree, parent);
	return 0;
}

void svm_tree_remove(struct svm_tree *tree, struct svm_tree_node *node)
{
	struct svm_tree_node *start; /* the lowest node whose subtree changes */

	if (node->left && node->right) {
		struct svm_tree_node *next = leftmost(node->right);

		start = next;
		if (next->parent != node) {
			start = next->parent;
			replace_child(tree, next->parent, next, next->right);
			next->right = node->right;
			next->right->parent = next;
		}
		next->left = node->left;
		next->left->parent = next;
		replace_child(tree, node->parent, node, next);
	} else {
		start = node->parent;
		replace_child(tree, node->parent, node, node->left ? node->left : node->right);
	}
	rebalance(tree, start);
	node->parent = NULL;
	node->left = NULL;
	node->right = NULL;
	node->height = 0;
	tree->n_nodes--;
}

struct svm_tree_node *svm_tree_find_from(const struct svm_tree *tree, uint64_t addr)
{
	struct svm_tree_node *node = tree->root;
	struct svm_tree_node *best = NULL;

	while (node) {
		if (node->end > addr) {
			best = node;
			node = node->left;
		} else {
			node = node->right;
		}
	}
	return best;
}

struct svm_tree_node *svm_tree_find(const struct svm_tree *tree, uint64_t addr)
{
	struct svm_tree_node *node = svm_tree_find_from(tree, addr);

	return node && node->start <= addr ? node : NULL;
}

struct svm_tree_node *svm_tree_next(const struct svm_tree_node *node)
{
	if (node->right)
		return leftmost(node->right);
	while (node->parent && node->parent->right == node)
		node = node->parent;
	return node->parent;
}

struct svm_tree_node *svm_tree_prev(const struct svm_tree_node *node)
{
	if (node->left) {
		struct svm_tree_node *prev = node->left;

		while (prev->right)
			prev = prev->right;
		return prev;
	}
	while (node->parent && node->parent->left == node)
		node = node->parent;
	return node->parent;
}

bool svm_tree_covers(const struct svm_tree *tree, uint64_t start, uint64_t end)
{
	const struct svm_tree_node *node = svm_tree_find(tree, start);

	while (start < end) {
		if (!node || node->start > start)
			return false;
		start = node->end;
		node = svm_tree_next(node);
	}
	return true;
}

/* Each node lies within (low, high), the span its ancestors leave it. */
static bool validate_below(const struct svm_tree_node *node, const struct svm_tree_node *parent,
			   uint64_t low, uint64_t high, uint64_t *n_nodes)
{
	if (!node)
		return true;
	++*n_nodes;
	return node->parent == parent && node->start < node->end && node->start >= low &&
	       node->end <= high && lean(node) >= -1 && lean(node) <= 1 &&
	       validate_below(node->left, node, low, node->start, n_nodes) &&
	       validate_below(node->right, node, node->end, high, n_nodes) &&
	       node->height == 1 + (height(node->left) > height(node->right) ? height(node->left)
									     : height(node->right));
}

bool svm_tree_validate(const struct svm_tree *tree)
{
	uint64_t n_nodes = 0;

	return validate_below(tree->root, NULL, 0, UINT64_MAX, &n_nodes) &&
	       n_nodes == tree->n_nodes;
}
