/* SPDX-License-Identifier: MIT */
/*
 * Shown here: hints, prefetches and pins that name a NUMA node of the host put pages on that node, as the
 * kernel tells (move_pages(2)), wherever they come from. Skipped on machines with one node.
 */
#include "fixture.h"
#include <numa.h>
#include <numaif.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE	FIXTURE_PAGE
#define BLOCK	FIXTURE_BLOCK
#define N_PAGES (2u * (unsigned int)(BLOCK / PAGE))
#define SIZE	((uint64_t)N_PAGES * PAGE)

static struct svm_location node_of(unsigned int node)
{
	return (struct svm_location){ .kind = SVM_LOCATION_HOST_NUMA, .id = node };
}

static bool has_two_nodes(void)
{
	return numa_available() >= 0 && numa_bitmask_isbitset(numa_all_nodes_ptr, 0) &&
	       numa_bitmask_isbitset(numa_all_nodes_ptr, 1);
}

static void hints_that_name_nodes(struct svm_fixture *f)
{
	(void)f;
	print_message("this machine has one NUMA node with memory\n");
	skip();
}

/* From now on this thread runs on the CPUs of a node, so that what is not asked for lands there. */
static void run_on(int node)
{
	assert_int_equal(numa_run_on_node(node), 0);
}

/* Fails unless every page of the span is on the node; the CPU has touched them all. */
#define assert_on(p, size, node) assert_on_(p, size, node, __FILE__, __LINE__)
static void assert_on_(char *p, uint64_t size, int node, const char *file, int line)
{
	static void *pages[N_PAGES];
	static int status[N_PAGES];
	unsigned long n = size / PAGE;

	assert_true(n <= N_PAGES);
	for (unsigned long i = 0; i < n; i++) {
		pages[i] = p + i * PAGE;
		(void)*(volatile char *)pages[i];
	}
	assert_int_equal(move_pages(0, n, pages, NULL, status, 0), 0);
	for (unsigned long i = 0; i < n; i++) {
		if (status[i] == node)
			continue;
		print_error("page %lu is on node %d, not %d\n", i, status[i], node);
		_fail(file, line);
	}
}

static void prefer(struct svm_fixture *f, char *p, uint64_t size, unsigned int node)
{
	struct svm_advice advice = { .kind = SVM_ADVICE_PREFERRED_LOCATION,
				     .location = node_of(node) };
	struct svm_outcome outcome;

	assert_int_equal(svm_advise(f->space, p, size, &advice, 1, &outcome), 0);
	/* Degraded where a device cannot map host memory in place. */
	assert_int_not_equal(outcome.status, SVM_REFUSED);
}

static const uint32_t kinds[] = { 0, SVM_ALLOC_SHARED };

/* contract 3.3: first population is at the preferred location, whichever CPU touches. */
static void first_touch_is_on_the_preferred_node(struct svm_fixture *f)
{
	fixture_space(f, NULL);
	for (unsigned int kind = 0; kind < 2; kind++) {
		for (unsigned int node = 0; node < 2; node++) {
			char *p = fixture_alloc(f, SIZE, kinds[kind]);

			run_on(!node);
			prefer(f, p, SIZE, node);
			fixture_fill(p, SIZE, 1);
			assert_on(p, SIZE, (int)node);
			fixture_free(f, p);
		}
	}
}

/* Half a block each: nodes are of pages, not of blocks. */
static void two_nodes_share_a_block(struct svm_fixture *f)
{
	fixture_space(f, NULL);
	for (unsigned int kind = 0; kind < 2; kind++) {
		char *p = fixture_alloc(f, SIZE, kinds[kind]);

		run_on(0);
		prefer(f, p, SIZE, 0);
		prefer(f, p + BLOCK / 2, BLOCK, 1);
		fixture_fill(p, SIZE, 1);
		assert_on(p, BLOCK / 2, 0);
		assert_on(p + BLOCK / 2, BLOCK, 1);
		assert_on(p + BLOCK + BLOCK / 2, BLOCK / 2, 0);
		fixture_check(p, SIZE, 1);
	}
}

/* What a device had comes home to the preferred node, also where it had been on another one before. */
static void bytes_come_home_to_the_preferred_node(struct svm_fixture *f)
{
	struct svm_device *device;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	for (unsigned int kind = 0; kind < 2; kind++) {
		for (unsigned int node = 0; node < 2; node++) {
			char *p = fixture_alloc(f, SIZE, kinds[kind]);

			run_on(!node);
			fixture_fill(p, SIZE, 1);
			assert_int_equal(svm_prefetch(f->space, p, SIZE, node_of(!node), NULL), 0);
			assert_on(p, SIZE, !node);
			assert_int_equal(svm_prefetch(f->space, p, SIZE,
						      svm_device_location(device), NULL),
					 0);
			fixture_fill_on(f, device, p, SIZE, 2);
			prefer(f, p, SIZE, node);
			fixture_check(p, SIZE, 2);
			assert_on(p, SIZE, (int)node);
			fixture_free(f, p);
		}
	}
}

/* contract 3.5: host node to host node moves; the hint that names another node stays without effect on it. */
static void prefetch_moves_between_nodes(struct svm_fixture *f)
{
	struct svm_prefetch_result result;

	fixture_space(f, NULL);
	for (unsigned int kind = 0; kind < 2; kind++) {
		char *p = fixture_alloc(f, SIZE, kinds[kind]);

		run_on(0);
		fixture_fill(p, SIZE, 1);
		for (unsigned int i = 1; i <= 4; i++) {
			unsigned int node = i % 2;

			assert_int_equal(svm_prefetch(f->space, p, SIZE, node_of(node), &result),
					 0);
			assert_int_equal(result.failed, 0);
			assert_int_equal(result.outcome.status, SVM_EFFECTIVE);
			assert_on(p, SIZE, (int)node);
			fixture_check(p, SIZE, i);
			fixture_fill(p, SIZE, i + 1);
			assert_on(p, SIZE, (int)node);
		}
		fixture_free(f, p);
	}
}

/* From a device, and of memory that nobody has touched. */
static void prefetch_lands_on_the_node(struct svm_fixture *f)
{
	struct svm_device *device;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	for (unsigned int kind = 0; kind < 2; kind++) {
		for (unsigned int node = 0; node < 2; node++) {
			char *p = fixture_alloc(f, SIZE, kinds[kind]);

			run_on(!node);
			assert_int_equal(svm_prefetch(f->space, p, SIZE, node_of(node), NULL), 0);
			fixture_check_zero(p, SIZE);
			fixture_fill(p, SIZE, 7);
			assert_on(p, SIZE, (int)node);

			fixture_fill_on(f, device, p, SIZE, 1);
			assert_int_equal(svm_prefetch(f->space, p, SIZE, node_of(!node), NULL), 0);
			fixture_check(p, SIZE, 1);
			assert_on(p, SIZE, !node);
			fixture_free(f, p);
		}
	}
}

/* Resolved when it is asked for: the node of the caller's CPU at that time. */
static void current_node_is_the_callers(struct svm_fixture *f)
{
	struct svm_location here = { .kind = SVM_LOCATION_HOST_NUMA_CURRENT };
	struct svm_advice advice = { .kind = SVM_ADVICE_PREFERRED_LOCATION, .location = here };
	struct svm_advice_info info = { .size = sizeof(info) };

	fixture_space(f, NULL);
	for (int node = 0; node < 2; node++) {
		char *p = fixture_alloc(f, SIZE, 0);

		run_on(node);
		assert_int_equal(svm_advise(f->space, p, SIZE, &advice, 1, NULL), 0);
		assert_int_equal(svm_advice_query(f->space, p, SIZE, &info), 0);
		assert_int_equal(info.preferred.kind, SVM_LOCATION_HOST_NUMA);
		assert_int_equal(info.preferred.id, node);
		run_on(!node);
		fixture_fill(p, SIZE, 1);
		assert_on(p, SIZE, node);
		assert_int_equal(svm_prefetch(f->space, p, SIZE, here, NULL), 0);
		fixture_check(p, SIZE, 1);
		assert_on(p, SIZE, !node);
		fixture_free(f, p);
	}
}

static void pin_holds_on_the_node(struct svm_fixture *f)
{
	fixture_space(f, NULL);
	for (unsigned int kind = 0; kind < 2; kind++) {
		char *p = fixture_alloc(f, SIZE, kinds[kind]);

		run_on(0);
		fixture_fill(p, SIZE, 1);
		assert_int_equal(svm_prefetch(f->space, p, SIZE, node_of(0), NULL), 0);
		assert_on(p, SIZE, 0);
		assert_int_equal(svm_pin(f->space, p, SIZE, node_of(1)), 0);
		assert_on(p, SIZE, 1);
		fixture_check(p, SIZE, 1);
		assert_int_equal(svm_unpin(f->space, p, SIZE, node_of(1)), 0);
		fixture_free(f, p);
	}
}

static void registered_memory_moves_between_nodes(struct svm_fixture *f)
{
	struct svm_device *device;
	char *p;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	run_on(0);
	fixture_fill(p, SIZE, 1);
	assert_int_equal(svm_register(f->space, p, SIZE, 0), 0);
	assert_int_equal(svm_prefetch(f->space, p, SIZE, node_of(1), NULL), 0);
	fixture_check(p, SIZE, 1);
	assert_on(p, SIZE, 1);
	fixture_fill_on(f, device, p, SIZE, 2);
	assert_int_equal(svm_prefetch(f->space, p, SIZE, node_of(0), NULL), 0);
	fixture_check(p, SIZE, 2);
	assert_on(p, SIZE, 0);
	assert_int_equal(svm_unregister(f->space, p, SIZE), 0);
	fixture_check(p, SIZE, 2);
	assert_int_equal(munmap(p, SIZE), 0);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(first_touch_is_on_the_preferred_node, FIXTURE_VARIANTS),
		FIXTURE_CASE(two_nodes_share_a_block, FIXTURE_VARIANTS),
		FIXTURE_CASE(bytes_come_home_to_the_preferred_node, FIXTURE_BOTH),
		FIXTURE_CASE(prefetch_moves_between_nodes, FIXTURE_VARIANTS),
		FIXTURE_CASE(prefetch_lands_on_the_node, FIXTURE_BOTH),
		FIXTURE_CASE(current_node_is_the_callers, FIXTURE_VARIANTS),
		FIXTURE_CASE(pin_holds_on_the_node, FIXTURE_VARIANTS),
		FIXTURE_CASE(registered_memory_moves_between_nodes, FIXTURE_BOTH),
	};

	static const struct svm_fixture_case none[] = {
		FIXTURE_CASE(hints_that_name_nodes, FIXTURE_ONCE),
	};

	if (!has_two_nodes())
		return fixture_main(argc, argv, none, 1);
	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
