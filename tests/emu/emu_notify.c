// SPDX-License-Identifier: MIT
#include "emu_notify.h"

#include <pthread.h>
#include <stdatomic.h>

#include "emu_alloc.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct emu_list notifiers = { &notifiers, &notifiers };
static _Atomic uint32_t n_notifiers;

void emu_notify_fork_child(void)
{
	pthread_mutex_init(&lock, NULL);
	/* Userptr bindings are of the parent's memory. */
	emu_list_init(&notifiers);
	atomic_store(&n_notifiers, 0);
}

void emu_notifier_add(struct emu_notifier *n)
{
	pthread_mutex_lock(&lock);
	emu_list_add_tail(&notifiers, &n->link);
	pthread_mutex_unlock(&lock);
	atomic_fetch_add(&n_notifiers, 1);
}

void emu_notifier_remove(struct emu_notifier *n)
{
	pthread_mutex_lock(&lock);
	if (n->link.next && !emu_list_empty(&n->link)) {
		emu_list_del(&n->link);
		atomic_fetch_sub(&n_notifiers, 1);
	}
	pthread_mutex_unlock(&lock);
}

void emu_invalidate_begin(struct emu_invalidation *inv, uint64_t start, uint64_t size, bool unmap)
{
	uint32_t total = atomic_load(&n_notifiers);

	inv->n = 0;
	inv->hit = inv->few;
	if (!total)
		return;
	/* More may come until the lock is held; those see the memory as it is after the change. */
	if (total > EMU_ARRAY_SIZE(inv->few)) {
		inv->hit = emu_alloc(total * sizeof(struct emu_notifier *));
		if (!inv->hit)
			return;
	}
	pthread_mutex_lock(&lock);
	emu_list_for_each(l, &notifiers)
	{
		struct emu_notifier *n = emu_list_entry(l, struct emu_notifier, link);

		if (n->start >= start + size || n->end <= start || inv->n == total)
			continue;
		n->get(n);
		inv->hit[inv->n++] = n;
	}
	pthread_mutex_unlock(&lock);
	for (uint32_t i = 0; i < inv->n; i++)
		inv->hit[i]->begin(inv->hit[i], start, start + size, unmap);
}

void emu_invalidate_end(struct emu_invalidation *inv)
{
	for (uint32_t i = 0; i < inv->n; i++) {
		inv->hit[i]->after(inv->hit[i]);
		inv->hit[i]->put(inv->hit[i]);
	}
	if (inv->hit != inv->few)
		emu_free(inv->hit);
}
