/* SPDX-License-Identifier: MIT */
/*
 * Shown here: a device's memory as a cache, without a device: the budget, the order of use, who is
 * chosen to be evicted, who waits and in which order, and when waiting is given up.
 */
#include "fixture.h"

#include "store.h"
#include <errno.h>
#include <string.h>

#define N 4u

static struct svm_store store;
static struct svm_chunk chunks[N];
static struct {
	int alloc_error;
	uint64_t next; /* handle */
	unsigned int n_allocs;
	unsigned int n_live;
	uint64_t last_freed;
} memory;

static int chunk_alloc(void *dev, uint64_t *ret_chunk)
{
	assert_ptr_equal(dev, &memory);
	memory.n_allocs++;
	if (memory.alloc_error)
		return memory.alloc_error;
	memory.n_live++;
	*ret_chunk = ++memory.next;
	return 0;
}

static void chunk_free(void *dev, uint64_t chunk)
{
	assert_ptr_equal(dev, &memory);
	assert_true(memory.n_live > 0);
	memory.n_live--;
	memory.last_freed = chunk;
}

static const struct svm_backend_ops ops = { .chunk_alloc = chunk_alloc, .chunk_free = chunk_free };

static int set_up(void **state)
{
	(void)state;
	memset(&memory, 0, sizeof(memory));
	memset(chunks, 0, sizeof(chunks));
	memset(&store, 0xa5, sizeof(store)); /* svm_store_init() leaves nothing to chance */
	for (unsigned int i = 0; i < N; i++)
		svm_list_init(&chunks[i].lru);
	svm_store_init(&store, &ops, &memory, N * (uint64_t)SVM_BLOCK_SIZE);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < N; i++)
		svm_store_detach(&store, &chunks[i]);
	svm_store_finish(&store);
	return memory.n_live ? -1 : 0;
}

/* Chunks 0 to n - 1 are there; n - 1 was used last. */
static void fill(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		uint64_t handle;

		assert_int_equal(svm_store_take(&store, &handle), 0);
		svm_store_attach(&store, &chunks[i], handle);
	}
}

static void wait_for(struct svm_store_waiter *waiter)
{
	*waiter = (struct svm_store_waiter){ .status = 1 };
	svm_list_init(&waiter->node);
	svm_store_wait(&store, waiter);
}

static unsigned int count(const struct svm_list *list)
{
	unsigned int n = 0;

	svm_list_for_each(node, list)
		n++;
	return n;
}

/* How many waiters are told that there is no hope, as things stand. */
static unsigned int n_hopeless(int expected_status)
{
	struct svm_list failed;
	unsigned int n;

	svm_list_init(&failed);
	svm_store_fail_hopeless(&store, &failed);
	n = count(&failed);
	svm_list_for_each_safe(node, tmp, &failed) {
		assert_int_equal(svm_list_entry(node, struct svm_store_waiter, node)->status,
				 expected_status);
		svm_list_del(node);
	}
	return n;
}

static void try_all(int status)
{
	struct svm_victim victims[N];
	unsigned int n = 0;

	while (n < N && svm_store_choose(&store, &victims[n]))
		n++;
	while (n > 0)
		svm_store_chosen_done(&store, &victims[--n], status);
}

static void the_budget_is_kept(void **state)
{
	uint64_t handles[N];
	uint64_t more = 77;

	(void)state;
	for (unsigned int i = 0; i < N; i++)
		assert_int_equal(svm_store_take(&store, &handles[i]), 0);
	assert_int_equal(svm_store_take(&store, &more), -ENOSPC);
	assert_int_equal(memory.n_allocs, N);
	assert_int_equal(more, 77);
	svm_store_give(&store, handles[2]);
	assert_int_equal(memory.last_freed, handles[2]);
	assert_int_equal(svm_store_take(&store, &handles[2]), 0);
	for (unsigned int i = 0; i < N; i++)
		svm_store_give(&store, handles[i]);
	assert_int_equal(store.n_used, 0);
}

static void an_error_of_the_backend_is_passed_on_and_uses_nothing(void **state)
{
	static const int strange[] = { -ETIMEDOUT, -EAGAIN, -EBUSY, -EINVAL, -EINTR, 1 };
	uint64_t handle;

	(void)state;
	memory.alloc_error = -ENODEV;
	assert_int_equal(svm_store_take(&store, &handle), -ENODEV);
	assert_int_equal(store.n_used, 0);
	/* Those that mean something else to the core, or nothing, are failures of the device. */
	for (unsigned int i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
		memory.alloc_error = strange[i];
		assert_int_equal(svm_store_take(&store, &handle), -EIO);
		assert_int_equal(store.n_used, 0);
	}
	memory.alloc_error = 0;
	fill(N);
}

static void victims_come_in_order_of_use(void **state)
{
	struct svm_store_waiter waiters[N];
	struct svm_victim victims[N + 1u];

	(void)state;
	fill(N);
	for (unsigned int i = 0; i < N; i++)
		wait_for(&waiters[i]);
	svm_store_touch(&store, &chunks[0]);
	svm_store_age(&store, &chunks[2]);
	for (unsigned int i = 0; i < N; i++)
		assert_true(svm_store_choose(&store, &victims[i]));
	assert_ptr_equal(victims[0].chunk, &chunks[2]);
	assert_ptr_equal(victims[1].chunk, &chunks[1]);
	assert_ptr_equal(victims[2].chunk, &chunks[3]);
	assert_ptr_equal(victims[3].chunk, &chunks[0]);
	for (unsigned int i = 0; i < N; i++) {
		svm_store_chosen_done(&store, &victims[i], -EBUSY);
		assert_true(svm_store_unwait(&store, &waiters[i]));
	}
}

static void no_more_victims_than_waiters(void **state)
{
	struct svm_store_waiter waiters[2];
	struct svm_victim victims[3];

	(void)state;
	fill(N);
	assert_false(svm_store_choose(&store, &victims[0]));
	wait_for(&waiters[0]);
	assert_true(svm_store_choose(&store, &victims[0]));
	assert_false(svm_store_choose(&store, &victims[1]));
	wait_for(&waiters[1]);
	assert_true(svm_store_choose(&store, &victims[1]));
	assert_false(svm_store_choose(&store, &victims[2]));
	for (unsigned int i = 0; i < 2; i++) {
		svm_store_chosen_done(&store, &victims[i], 0);
		assert_true(svm_store_unwait(&store, &waiters[i]));
		assert_false(svm_store_unwait(&store, &waiters[i]));
	}
	assert_int_equal(atomic_load(&store.n_waiters), 0);
}

static void a_try_that_failed_is_not_repeated_in_its_round(void **state)
{
	struct svm_store_waiter waiter;
	struct svm_victim victim;

	(void)state;
	fill(2);
	wait_for(&waiter);
	assert_true(svm_store_choose(&store, &victim));
	assert_ptr_equal(victim.chunk, &chunks[0]);
	svm_store_chosen_done(&store, &victim, -EBUSY);
	assert_true(svm_store_choose(&store, &victim));
	assert_ptr_equal(victim.chunk, &chunks[1]);
	svm_store_chosen_done(&store, &victim, -EBUSY);
	assert_false(svm_store_choose(&store, &victim));
	svm_store_new_round(&store);
	assert_true(svm_store_choose(&store, &victim));
	assert_ptr_equal(victim.chunk, &chunks[0]);
	/* Something changed during the try: it counts for the round in which it began. */
	svm_store_new_round(&store);
	svm_store_chosen_done(&store, &victim, -EBUSY);
	assert_true(svm_store_choose(&store, &victim));
	assert_ptr_equal(victim.chunk, &chunks[0]);
	svm_store_chosen_done(&store, &victim, -EBUSY);
	assert_true(svm_store_unwait(&store, &waiter));
}

static void waiters_are_served_in_order(void **state)
{
	struct svm_store_waiter waiters[3];
	uint64_t handle;

	(void)state;
	fill(N);
	assert_null(svm_store_serve(&store));
	for (unsigned int i = 0; i < 3; i++)
		wait_for(&waiters[i]);
	assert_null(svm_store_serve(&store));
	svm_store_detach(&store, &chunks[0]);
	/* Nobody overtakes. */
	assert_int_equal(svm_store_take(&store, &handle), -ENOSPC);
	assert_ptr_equal(svm_store_serve(&store), &waiters[0]);
	assert_int_equal(waiters[0].status, 0);
	assert_int_equal(waiters[0].handle, memory.next);
	assert_null(svm_store_serve(&store));
	assert_false(svm_store_unwait(&store, &waiters[0]));
	/* One in the middle goes away. */
	wait_for(&waiters[0]);
	assert_true(svm_store_unwait(&store, &waiters[2]));
	svm_store_detach(&store, &chunks[1]);
	svm_store_detach(&store, &chunks[2]);
	assert_ptr_equal(svm_store_serve(&store), &waiters[1]);
	assert_ptr_equal(svm_store_serve(&store), &waiters[0]);
	assert_null(svm_store_serve(&store));
	svm_store_give(&store, memory.next);
	svm_store_give(&store, memory.next - 1u);
	svm_store_give(&store, memory.next - 2u);
}

static void a_waiter_gets_the_error_of_the_backend(void **state)
{
	struct svm_store_waiter waiters[2];

	(void)state;
	fill(N);
	wait_for(&waiters[0]);
	wait_for(&waiters[1]);
	svm_store_detach(&store, &chunks[0]);
	memory.alloc_error = -EIO;
	assert_ptr_equal(svm_store_serve(&store), &waiters[0]);
	assert_int_equal(waiters[0].status, -EIO);
	memory.alloc_error = 0;
	assert_ptr_equal(svm_store_serve(&store), &waiters[1]);
	assert_int_equal(waiters[1].status, 0);
	svm_store_give(&store, waiters[1].handle);
}

static void hope_ends_when_all_were_tried_and_held(void **state)
{
	struct svm_store_waiter waiters[2];

	(void)state;
	fill(N);
	wait_for(&waiters[0]);
	wait_for(&waiters[1]);
	assert_int_equal(n_hopeless(-ENOSPC), 0); /* none was tried */
	try_all(-EBUSY);
	try_all(-EBUSY);
	assert_int_equal(n_hopeless(-ENOSPC), 2);
	assert_int_equal(atomic_load(&store.n_waiters), 0);
	assert_false(svm_store_unwait(&store, &waiters[0]));
	assert_int_equal(n_hopeless(-ENOSPC), 0);
}

static void hope_stays_while_what_is_in_the_way_passes(void **state)
{
	struct svm_store_waiter waiter;
	struct svm_victim victim;
	uint64_t handle;

	(void)state;
	fill(N);
	wait_for(&waiter);
	/* Busy for the moment, or used again at once. */
	for (int status = 0; status >= -EAGAIN; status -= EAGAIN) {
		svm_store_new_round(&store);
		for (unsigned int i = 0; i < N; i++) {
			assert_true(svm_store_choose(&store, &victim));
			svm_store_chosen_done(&store, &victim, i == 1 ? status : -EBUSY);
		}
		assert_int_equal(n_hopeless(-ENOSPC), 0);
	}
	/* A try is under way. */
	svm_store_new_round(&store);
	assert_true(svm_store_choose(&store, &victim));
	assert_int_equal(n_hopeless(-ENOSPC), 0);
	svm_store_chosen_done(&store, &victim, -EBUSY);
	/* A chunk was taken by a request that is under way. */
	assert_true(svm_store_unwait(&store, &waiter));
	svm_store_detach(&store, &chunks[0]);
	assert_int_equal(svm_store_take(&store, &handle), 0);
	wait_for(&waiter);
	for (unsigned int i = 0; i < N; i++)
		try_all(-EBUSY);
	assert_int_equal(n_hopeless(-ENOSPC), 0);
	svm_store_give(&store, handle);
	/* There is room now: somebody is about to be served. */
	assert_int_equal(n_hopeless(-ENOSPC), 0);
	assert_ptr_equal(svm_store_serve(&store), &waiter);
	svm_store_give(&store, waiter.handle);
}

/* Others use the memory of the device as well. */
static void no_hope_where_the_backend_has_less_than_it_said(void **state)
{
	struct svm_store_waiter waiter;
	uint64_t handle;

	(void)state;
	memory.alloc_error = -ENOSPC;
	assert_int_equal(svm_store_take(&store, &handle), -ENOSPC);
	wait_for(&waiter);
	assert_null(svm_store_serve(&store));
	assert_int_equal(n_hopeless(-ENOSPC), 1);

	memory.alloc_error = 0;
	fill(2);
	memory.alloc_error = -ENOSPC;
	assert_int_equal(svm_store_take(&store, &handle), -ENOSPC);
	wait_for(&waiter);
	assert_int_equal(n_hopeless(-ENOSPC), 0); /* two can be evicted */
	try_all(-EBUSY);
	try_all(-EBUSY);
	/* What is freed now is room again. */
	svm_store_detach(&store, &chunks[0]);
	assert_int_equal(n_hopeless(-ENOSPC), 0);
	assert_null(svm_store_serve(&store));
	assert_int_equal(n_hopeless(-ENOSPC), 1);
}

static void all_waiters_fail_with_the_device(void **state)
{
	struct svm_store_waiter waiters[2];
	struct svm_list failed;

	(void)state;
	wait_for(&waiters[0]);
	wait_for(&waiters[1]);
	svm_list_init(&failed);
	svm_store_fail_all(&store, -ENODEV, &failed);
	assert_int_equal(count(&failed), 2);
	assert_ptr_equal(failed.next, &waiters[0].node);
	assert_int_equal(waiters[0].status, -ENODEV);
	assert_int_equal(waiters[1].status, -ENODEV);
	assert_int_equal(atomic_load(&store.n_waiters), 0);
}

static void detach_while_chosen(void **state)
{
	struct svm_store_waiter waiter;
	struct svm_victim victim;

	(void)state;
	fill(N);
	wait_for(&waiter);
	assert_true(svm_store_choose(&store, &victim));
	assert_ptr_equal(victim.chunk, &chunks[0]);
	svm_store_detach(&store, &chunks[0]);
	assert_null(victim.chunk);
	assert_false(chunks[0].present);
	assert_int_equal(memory.n_live, N - 1u);
	/* Touches of a chunk that is gone are late, not wrong. */
	svm_store_touch(&store, &chunks[0]);
	svm_store_age(&store, &chunks[0]);
	svm_store_detach(&store, &chunks[0]);
	assert_int_equal(memory.n_live, N - 1u);
	svm_store_chosen_done(&store, &victim, 0);
	assert_int_equal(store.n_evicting, 0);
	assert_ptr_equal(svm_store_serve(&store), &waiter);
	/* The chunk comes back as one that nobody has tried. */
	svm_store_attach(&store, &chunks[0], waiter.handle);
	wait_for(&waiter);
	svm_store_age(&store, &chunks[0]);
	assert_true(svm_store_choose(&store, &victim));
	assert_ptr_equal(victim.chunk, &chunks[0]);
	svm_store_chosen_done(&store, &victim, 0);
	assert_true(svm_store_unwait(&store, &waiter));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(the_budget_is_kept),
		TEST(an_error_of_the_backend_is_passed_on_and_uses_nothing),
		TEST(victims_come_in_order_of_use),
		TEST(no_more_victims_than_waiters),
		TEST(a_try_that_failed_is_not_repeated_in_its_round),
		TEST(waiters_are_served_in_order),
		TEST(a_waiter_gets_the_error_of_the_backend),
		TEST(hope_ends_when_all_were_tried_and_held),
		TEST(hope_stays_while_what_is_in_the_way_passes),
		TEST(no_hope_where_the_backend_has_less_than_it_said),
		TEST(all_waiters_fail_with_the_device),
		TEST(detach_while_chosen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
