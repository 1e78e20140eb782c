/* SPDX-License-Identifier: MIT */
/*
 * Shown here: the tree against an array of spans, by hand and at random; and that validate() sees
 * damage.
 */
#include "tree.h"
#include "util.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

static void empty_tree(void **state)
{
	struct svm_tree tree;

	(void)state;
	svm_tree_init(&tree);
	assert_true(svm_tree_validate(&tree));
	assert_null(svm_tree_find(&tree, 0));
	assert_null(svm_tree_find_from(&tree, 0));
	assert_true(svm_tree_covers(&tree, 5, 5));
	assert_false(svm_tree_covers(&tree, 5, 6));
}

static void bounds_are_half_open(void **state)
{
	struct svm_tree_node a = { .start = 10, .end = 20 };
	struct svm_tree_node b = { .start = 20, .end = 30 };
	struct svm_tree_node c = { .start = 40, .end = 50 };
	struct svm_tree tree;

	(void)state;
	svm_tree_init(&tree);
	assert_int_equal(svm_tree_insert(&tree, &b), 0);
	assert_int_equal(svm_tree_insert(&tree, &a), 0);
	assert_int_equal(svm_tree_insert(&tree, &c), 0);
	assert_true(svm_tree_validate(&tree));

	assert_null(svm_tree_find(&tree, 9));
	assert_ptr_equal(svm_tree_find(&tree, 10), &a);
	assert_ptr_equal(svm_tree_find(&tree, 19), &a);
	assert_ptr_equal(svm_tree_find(&tree, 20), &b);
	assert_null(svm_tree_find(&tree, 30));
	assert_ptr_equal(svm_tree_find_from(&tree, 0), &a);
	assert_ptr_equal(svm_tree_find_from(&tree, 30), &c);
	assert_ptr_equal(svm_tree_find_from(&tree, 49), &c);
	assert_null(svm_tree_find_from(&tree, 50));

	assert_ptr_equal(svm_tree_next(&a), &b);
	assert_ptr_equal(svm_tree_next(&b), &c);
	assert_null(svm_tree_next(&c));
	assert_ptr_equal(svm_tree_prev(&c), &b);
	assert_null(svm_tree_prev(&a));

	assert_true(svm_tree_covers(&tree, 10, 30));
	assert_true(svm_tree_covers(&tree, 15, 25));
	assert_false(svm_tree_covers(&tree, 9, 30));
	assert_false(svm_tree_covers(&tree, 10, 31));
	assert_false(svm_tree_covers(&tree, 25, 45));
}

static void refusals_change_nothing(void **state)
{
	struct svm_tree_node a = { .start = 10, .end = 20 };
	struct svm_tree_node bad[] = {
		{ .start = 5, .end = 11 },  { .start = 19, .end = 25 }, { .start = 10, .end = 20 },
		{ .start = 12, .end = 13 }, { .start = 0, .end = 100 },
	};
	struct svm_tree_node empty = { .start = 30, .end = 30 };
	struct svm_tree_node backward = { .start = 31, .end = 30 };
	struct svm_tree tree;

	(void)state;
	svm_tree_init(&tree);
	assert_int_equal(svm_tree_insert(&tree, &a), 0);
	for (unsigned int i = 0; i < SVM_ARRAY_SIZE(bad); i++)
		assert_int_equal(svm_tree_insert(&tree, &bad[i]), -EEXIST);
	assert_int_equal(svm_tree_insert(&tree, &empty), -EINVAL);
	assert_int_equal(svm_tree_insert(&tree, &backward), -EINVAL);
	assert_int_equal(tree.n_nodes, 1);
	assert_ptr_equal(tree.root, &a);
	assert_true(svm_tree_validate(&tree));
}

static void ends_of_the_address_space(void **state)
{
	struct svm_tree_node low = { .start = 0, .end = 1 };
	struct svm_tree_node high = { .start = UINT64_MAX - 1, .end = UINT64_MAX };
	struct svm_tree tree;

	(void)state;
	svm_tree_init(&tree);
	assert_int_equal(svm_tree_insert(&tree, &high), 0);
	assert_int_equal(svm_tree_insert(&tree, &low), 0);
	assert_true(svm_tree_validate(&tree));
	assert_ptr_equal(svm_tree_find(&tree, 0), &low);
	assert_ptr_equal(svm_tree_find(&tree, UINT64_MAX - 1), &high);
	assert_null(svm_tree_find(&tree, UINT64_MAX));
}

#define N_SORTED 4096

/* Sorted input is the worst case of a tree without balance. */
static void sorted_input_stays_low(void **state)
{
	static struct svm_tree_node nodes[N_SORTED];
	struct svm_tree tree;

	(void)state;
	svm_tree_init(&tree);
	for (unsigned int i = 0; i < N_SORTED; i++) {
		nodes[i].start = i;
		nodes[i].end = i + 1u;
		assert_int_equal(svm_tree_insert(&tree, &nodes[i]), 0);
	}
	assert_true(svm_tree_validate(&tree));
	assert_true(tree.root->height <= 17); /* AVL: below 1.45 log2(n) */
	assert_true(svm_tree_covers(&tree, 0, N_SORTED));
	for (unsigned int i = 0; i < N_SORTED; i++) {
		svm_tree_remove(&tree, &nodes[i]);
		if (i % 64 == 0)
			assert_true(svm_tree_validate(&tree));
	}
	assert_null(tree.root);
	assert_int_equal(tree.n_nodes, 0);
}

#define SPACE  256u
#define ROUNDS 20000

/* The model: which node, if any, owns each of a few addresses. */
static struct svm_tree_node *owner[SPACE];

static bool model_free(uint64_t start, uint64_t end)
{
	for (uint64_t a = start; a < end; a++) {
		if (owner[a])
			return false;
	}
	return true;
}

static void compare_with_model(const struct svm_tree *tree)
{
	const struct svm_tree_node *walk = svm_tree_find_from(tree, 0);
	const struct svm_tree_node *last = NULL;
	struct svm_tree_node *following = NULL;

	assert_true(svm_tree_validate(tree));
	for (unsigned int a = SPACE; a-- > 0;) {
		if (owner[a])
			following = owner[a];
		assert_ptr_equal(svm_tree_find(tree, a), owner[a]);
		assert_ptr_equal(svm_tree_find_from(tree, a), following);
	}
	for (unsigned int a = 0; a < SPACE; a++) {
		if (!owner[a] || owner[a] == last)
			continue;
		assert_ptr_equal(walk, owner[a]);
		assert_ptr_equal(svm_tree_prev(walk), last);
		last = walk;
		walk = svm_tree_next(walk);
	}
	assert_null(walk);
}

static void random_operations(void **state)
{
	static struct svm_tree_node nodes[SPACE];
	const char *given = getenv("SVM_TEST_SEED");
	unsigned int seed = given ? (unsigned int)strtoul(given, NULL, 0)
				  : (unsigned int)time(NULL);
	unsigned int n_used = 0;
	struct svm_tree tree;

	(void)state;
	print_message("SVM_TEST_SEED=%u\n", seed);
	svm_tree_init(&tree);
	memset(owner, 0, sizeof(owner));
	for (unsigned int round = 0; round < ROUNDS; round++) {
		unsigned int addr = (unsigned int)rand_r(&seed) % SPACE;
		struct svm_tree_node *node = owner[addr];
		/* Fill and empty it in turns, so that all sizes come by. */
		bool growing = (round / 500) % 2 == 0;

		if (node && (!growing || rand_r(&seed) % 4 == 0)) {
			for (uint64_t a = node->start; a < node->end; a++)
				owner[a] = NULL;
			svm_tree_remove(&tree, node);
			*node = (struct svm_tree_node){ 0 };
			n_used--;
		} else {
			unsigned int end = addr + 1 + (unsigned int)rand_r(&seed) % 4u;
			bool is_free;
			unsigned int i = 0;
			int ret;

			if (end > SPACE)
				end = SPACE;
			is_free = model_free(addr, end);
			while (nodes[i].end)
				i++;
			nodes[i].start = addr;
			nodes[i].end = end;
			ret = svm_tree_insert(&tree, &nodes[i]);
			assert_int_equal(ret, is_free ? 0 : -EEXIST);
			if (is_free) {
				for (unsigned int a = addr; a < end; a++)
					owner[a] = &nodes[i];
				n_used++;
			} else {
				nodes[i].end = 0;
			}
		}
		assert_int_equal(tree.n_nodes, n_used);
		if (round % 16 == 0)
			compare_with_model(&tree);
		if (round % 8 == 0) {
			unsigned int a = (unsigned int)rand_r(&seed) % SPACE;
			unsigned int b = a + (unsigned int)rand_r(&seed) % (SPACE - a);
			bool covered = true;

			for (unsigned int i = a; i < b; i++)
				covered = covered && owner[i];
			assert_int_equal(svm_tree_covers(&tree, a, b), covered);
		}
	}
}

static void validate_sees_damage(void **state)
{
	struct svm_tree_node nodes[7];
	struct svm_tree tree;
	struct svm_tree_node *mid;

	(void)state;
	svm_tree_init(&tree);
	for (uint64_t i = 0; i < 7; i++) {
		nodes[i] = (struct svm_tree_node){ .start = i * 10u, .end = i * 10u + 5u };
		assert_int_equal(svm_tree_insert(&tree, &nodes[i]), 0);
	}
	assert_true(svm_tree_validate(&tree));
	mid = tree.root->left;

	tree.n_nodes++;
	assert_false(svm_tree_validate(&tree));
	tree.n_nodes--;

	mid->parent = mid;
	assert_false(svm_tree_validate(&tree));
	mid->parent = tree.root;

	mid->height++;
	assert_false(svm_tree_validate(&tree));
	mid->height--;

	mid->end = tree.root->end;
	assert_false(svm_tree_validate(&tree));
	mid->end = mid->start + 5u;

	mid->left->end = mid->left->start;
	assert_false(svm_tree_validate(&tree));
	mid->left->end = mid->left->start + 5u;
	assert_true(svm_tree_validate(&tree));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_tree),
		cmocka_unit_test(bounds_are_half_open),
		cmocka_unit_test(refusals_change_nothing),
		cmocka_unit_test(ends_of_the_address_space),
		cmocka_unit_test(sorted_input_stays_low),
		cmocka_unit_test(random_operations),
		cmocka_unit_test(validate_sees_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
