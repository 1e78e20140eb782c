/* SPDX-License-Identifier: MIT */
#include "store.h"

#include "backend.h"
#include <errno.h>

void svm_store_init(struct svm_store *store, const struct svm_backend_ops *ops, void *dev,
		    uint64_t memory_size)
{
	svm_lock_init(&store->lock, SVM_RANK_STORE);
	store->ops = ops;
	store->dev = dev;
	store->n_total = memory_size / SVM_BLOCK_SIZE;
	store->n_used = 0;
	store->refused = false;
	svm_list_init(&store->lru);
	svm_list_init(&store->waiters);
	atomic_init(&store->n_waiters, 0);
	store->n_evicting = 0;
	store->round = 1;
	store->transient = 0;
	atomic_init(&store->runs, 0);
}

void svm_store_finish(struct svm_store *store)
{
	svm_lock_finish(&store->lock);
}

/* LOCKING: store->lock. */
static void free_locked(struct svm_store *store, uint64_t handle)
{
	store->ops->chunk_free(store->dev, handle);
	store->n_used--;
	store->refused = false;
}

/* LOCKING: store->lock. */
static int take_locked(struct svm_store *store, uint64_t *ret_handle)
{
	int r;

	if (store->n_used == store->n_total)
		return -ENOSPC;
	r = svm_backend_error(store->ops->chunk_alloc(store->dev, ret_handle));
	if (r == 0)
		store->n_used++;
	store->refused = r == -ENOSPC;
	return r;
}

int svm_store_take(struct svm_store *store, uint64_t *ret_handle)
{
	int r;

	svm_lock(&store->lock);
	r = svm_list_empty(&store->waiters) ? take_locked(store, ret_handle) : -ENOSPC;
	svm_unlock(&store->lock);
	return r;
}

void svm_store_give(struct svm_store *store, uint64_t handle)
{
	svm_lock(&store->lock);
	free_locked(store, handle);
	svm_unlock(&store->lock);
}

void svm_store_attach(struct svm_store *store, struct svm_chunk *chunk, uint64_t handle)
{
	svm_lock(&store->lock);
	chunk->handle = handle;
	chunk->present = true;
	chunk->tried = 0;
	svm_list_add_head(&store->lru, &chunk->lru);
	svm_unlock(&store->lock);
}

void svm_store_touch(struct svm_store *store, struct svm_chunk *chunk)
{
	svm_lock(&store->lock);
	if (chunk->present) {
		svm_list_del(&chunk->lru);
		svm_list_add_head(&store->lru, &chunk->lru);
	}
	svm_unlock(&store->lock);
}

void svm_store_age(struct svm_store *store, struct svm_chunk *chunk)
{
	svm_lock(&store->lock);
	if (chunk->present) {
		svm_list_del(&chunk->lru);
		svm_list_add_tail(&store->lru, &chunk->lru);
	}
	svm_unlock(&store->lock);
}

void svm_store_detach(struct svm_store *store, struct svm_chunk *chunk)
{
	svm_lock(&store->lock);
	if (chunk->present) {
		svm_list_del(&chunk->lru);
		chunk->present = false;
		if (chunk->victim)
			chunk->victim->chunk = NULL;
		chunk->victim = NULL;
		free_locked(store, chunk->handle);
	}
	svm_unlock(&store->lock);
}

void svm_store_wait(struct svm_store *store, struct svm_store_waiter *waiter)
{
	svm_lock(&store->lock);
	/* What failed was for others, and may have changed since: changes are only told while somebody waits. */
	if (svm_list_empty(&store->waiters))
		store->round++;
	svm_list_add_tail(&store->waiters, &waiter->node);
	atomic_fetch_add(&store->n_waiters, 1u);
	svm_unlock(&store->lock);
}

static void unwait_locked(struct svm_store *store, struct svm_store_waiter *waiter)
{
	svm_list_del(&waiter->node);
	atomic_fetch_sub(&store->n_waiters, 1u);
}

bool svm_store_unwait(struct svm_store *store, struct svm_store_waiter *waiter)
{
	bool waits;

	svm_lock(&store->lock);
	waits = !svm_list_empty(&waiter->node);
	if (waits)
		unwait_locked(store, waiter);
	svm_unlock(&store->lock);
	return waits;
}

struct svm_store_waiter *svm_store_serve(struct svm_store *store)
{
	struct svm_store_waiter *waiter = NULL;
	uint64_t handle = 0;
	int r = -ENOSPC;

	svm_lock(&store->lock);
	if (!svm_list_empty(&store->waiters))
		r = take_locked(store, &handle);
	/* No space is waited for; any other error is the waiter's. */
	if (r != -ENOSPC) {
		waiter = svm_list_entry(store->waiters.next, struct svm_store_waiter, node);
		unwait_locked(store, waiter);
		waiter->handle = r == 0 ? handle : 0;
		waiter->status = r;
	}
	svm_unlock(&store->lock);
	return waiter;
}

static bool any_untried(const struct svm_store *store)
{
	svm_list_for_each(node, &store->lru) {
		const struct svm_chunk *chunk = svm_list_entry(node, struct svm_chunk, lru);

		if (chunk->victim || chunk->tried != store->round)
			return true;
	}
	return false;
}

/* LOCKING: store->lock. */
static void fail_locked(struct svm_store *store, int status, struct svm_list *ret_failed)
{
	while (!svm_list_empty(&store->waiters)) {
		struct svm_store_waiter *waiter =
			svm_list_entry(store->waiters.next, struct svm_store_waiter, node);

		unwait_locked(store, waiter);
		waiter->status = status;
		svm_list_add_tail(ret_failed, &waiter->node);
	}
}

void svm_store_fail_hopeless(struct svm_store *store, struct svm_list *ret_failed)
{
	uint64_t n_attached = 0;

	svm_lock(&store->lock);
	svm_list_for_each(node, &store->lru)
		n_attached++;
	/* Chunks that were taken and not yet attached belong to requests under way: they pass as well. */
	if (store->n_evicting == 0 && store->transient != store->round && !any_untried(store) &&
	    n_attached == store->n_used && (store->n_used == store->n_total || store->refused))
		fail_locked(store, -ENOSPC, ret_failed);
	svm_unlock(&store->lock);
}

void svm_store_fail_all(struct svm_store *store, int status, struct svm_list *ret_failed)
{
	svm_lock(&store->lock);
	fail_locked(store, status, ret_failed);
	svm_unlock(&store->lock);
}

bool svm_store_choose(struct svm_store *store, struct svm_victim *victim)
{
	bool found = false;

	svm_lock(&store->lock);
	if (store->n_evicting < atomic_load(&store->n_waiters)) {
		for (struct svm_list *node = store->lru.prev; node != &store->lru && !found;
		     node = node->prev) {
			struct svm_chunk *chunk = svm_list_entry(node, struct svm_chunk, lru);

			if (chunk->victim || chunk->tried == store->round)
				continue;
			chunk->victim = victim;
			victim->chunk = chunk;
			victim->round = store->round;
			store->n_evicting++;
			found = true;
		}
	}
	svm_unlock(&store->lock);
	return found;
}

void svm_store_chosen_done(struct svm_store *store, struct svm_victim *victim, int status)
{
	svm_lock(&store->lock);
	store->n_evicting--;
	if (victim->chunk) {
		victim->chunk->victim = NULL;
		/* Still there although its pages left: somebody used it again at once. */
		victim->chunk->tried = victim->round;
		if (status == 0 || status == -EAGAIN)
			store->transient = victim->round;
	}
	svm_unlock(&store->lock);
}

void svm_store_new_round(struct svm_store *store)
{
	svm_lock(&store->lock);
	store->round++;
	svm_unlock(&store->lock);
}
