/* SPDX-License-Identifier: MIT */
/* Balanced tree of non-overlapping spans [start, end). Intrusive, no allocation, no locks. */
#ifndef SVM_TREE_H
#define SVM_TREE_H

#include <stdbool.h>
#include <stdint.h>

struct svm_tree_node {
	uint64_t start;
	uint64_t end; /* exclusive, > start */
	struct svm_tree_node *parent;
	struct svm_tree_node *left;
	struct svm_tree_node *right;
	int height;
};

struct svm_tree {
	struct svm_tree_node *root;
	uint64_t n_nodes;
};

void svm_tree_init(struct svm_tree *tree);
/* -EEXIST when it overlaps a node of the tree, -EINVAL when empty. */
int svm_tree_insert(struct svm_tree *tree, struct svm_tree_node *node);
void svm_tree_remove(struct svm_tree *tree, struct svm_tree_node *node);
/* The node that contains addr, or NULL. */
struct svm_tree_node *svm_tree_find(const struct svm_tree *tree, uint64_t addr);
/* The first node whose end is > addr (it contains addr, or lies after), or NULL. */
struct svm_tree_node *svm_tree_find_from(const struct svm_tree *tree, uint64_t addr);
struct svm_tree_node *svm_tree_next(const struct svm_tree_node *node);
struct svm_tree_node *svm_tree_prev(const struct svm_tree_node *node);
/* The whole of [start, end) is covered by nodes without a hole. */
bool svm_tree_covers(const struct svm_tree *tree, uint64_t start, uint64_t end);
/* Order, balance, parents and count are right. */
bool svm_tree_validate(const struct svm_tree *tree);

#endif
