// SPDX-License-Identifier: MIT
/* Fences and the lock and condition that everything of emu_sync.h shares. */
#include <errno.h>
#include <time.h>

#include "emu_alloc.h"
#include "emu_sync.h"
#include "emu_sys.h"

struct emu_fence_dep {
	struct emu_fence_cb cb;
	struct emu_fence *owner, *on;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond;
static uint64_t sequence;
static struct emu_list fences = { &fences, &fences };

static void init_cond(void)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&cond, &attr);
	pthread_condattr_destroy(&attr);
}

void emu_sync_init(void)
{
	init_cond();
}

void emu_sync_lock(void)
{
	pthread_mutex_lock(&lock);
}

void emu_sync_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

pthread_mutex_t *emu_sync_mutex(void)
{
	return &lock;
}

void emu_sync_sleep(void)
{
	pthread_cond_wait(&cond, &lock);
}

bool emu_sync_sleep_until(uint64_t deadline_ns)
{
	/* UINT64_MAX, "for ever", is a time in the year 2554. */
	struct timespec ts = { (time_t)(deadline_ns / 1000000000ull),
			       (long)(deadline_ns % 1000000000ull) };

	if (emu_now_ns() >= deadline_ns)
		return false;
	pthread_cond_timedwait(&cond, &lock, &ts);
	return true;
}

void emu_sync_wake_locked(void)
{
	sequence++;
	pthread_cond_broadcast(&cond);
}

uint64_t emu_sync_sequence(void)
{
	uint64_t s;

	emu_sync_lock();
	s = sequence;
	emu_sync_unlock();
	return s;
}

bool emu_sync_wait_change(uint64_t seen, uint64_t deadline_ns)
{
	bool changed = true;

	emu_sync_lock();
	while (sequence == seen && changed)
		changed = emu_sync_sleep_until(deadline_ns);
	changed = sequence != seen;
	emu_sync_unlock();
	return changed;
}

void emu_sync_wake(void)
{
	emu_sync_lock();
	emu_sync_wake_locked();
	emu_sync_unlock();
}

void emu_sync_fork_child(void)
{
	pthread_mutex_init(&lock, NULL);
	init_cond();
	emu_list_for_each_safe(n, &fences)
	{
		struct emu_fence *f = emu_list_entry(n, struct emu_fence, all);

		/* Callbacks would write to fds that the parent's threads serve. */
		f->signaled = true;
	}
}

static struct emu_fence *create(unsigned n_deps)
{
	struct emu_fence *f = emu_alloc(sizeof(*f) + n_deps * sizeof(struct emu_fence_dep));

	if (!f)
		return NULL;
	f->refs = 1;
	f->n_deps = n_deps;
	f->deps = n_deps ? (struct emu_fence_dep *)(f + 1) : NULL;
	emu_list_init(&f->cbs);
	return f;
}

struct emu_fence *emu_fence_create(void)
{
	struct emu_fence *f = create(0);

	if (!f)
		return NULL;
	emu_sync_lock();
	emu_list_add_tail(&fences, &f->all);
	emu_sync_unlock();
	return f;
}

struct emu_fence *emu_fence_signaled(void)
{
	struct emu_fence *f = emu_fence_create();

	if (f)
		emu_fence_signal(f, 0);
	return f;
}

struct emu_fence *emu_fence_ref(struct emu_fence *f)
{
	if (f)
		__atomic_add_fetch(&f->refs, 1, __ATOMIC_RELAXED);
	return f;
}

void emu_fence_unref_locked(struct emu_fence *f)
{
	if (!f || __atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (unsigned i = 0; i < f->n_deps; i++) {
		emu_list_del(&f->deps[i].cb.link);
		emu_fence_unref_locked(f->deps[i].on);
	}
	emu_list_del(&f->all);
	emu_free(f);
}

void emu_fence_unref(struct emu_fence *f)
{
	if (!f)
		return;
	emu_sync_lock();
	emu_fence_unref_locked(f);
	emu_sync_unlock();
}

void emu_fence_signal_locked(struct emu_fence *f, int error)
{
	if (f->signaled)
		return;
	f->signaled = true;
	f->error = error;
	f->time_ns = emu_now_ns();
	while (!emu_list_empty(&f->cbs)) {
		struct emu_fence_cb *cb = emu_list_entry(f->cbs.next, struct emu_fence_cb, link);

		emu_list_del(&cb->link);
		cb->fn(cb);
	}
	emu_sync_wake_locked();
}

void emu_fence_signal(struct emu_fence *f, int error)
{
	emu_sync_lock();
	emu_fence_signal_locked(f, error);
	emu_sync_unlock();
}

bool emu_fence_is_signaled(struct emu_fence *f)
{
	bool s;

	emu_sync_lock();
	s = f->signaled;
	emu_sync_unlock();
	return s;
}

int emu_fence_error(struct emu_fence *f)
{
	int e;

	emu_sync_lock();
	e = f->error;
	emu_sync_unlock();
	return e;
}

void emu_fence_wait(struct emu_fence *f)
{
	emu_sync_lock();
	while (!f->signaled)
		emu_sync_sleep();
	emu_sync_unlock();
}

bool emu_fence_wait_until(struct emu_fence *f, uint64_t deadline_ns)
{
	bool done;

	emu_sync_lock();
	while (!f->signaled && emu_sync_sleep_until(deadline_ns))
		;
	done = f->signaled;
	emu_sync_unlock();
	return done;
}

static void dep_done(struct emu_fence_cb *cb)
{
	struct emu_fence_dep *d = emu_container_of(cb, struct emu_fence_dep, cb);

	if (d->on->error && !d->owner->error)
		d->owner->error = d->on->error;
	if (--d->owner->n_pending == 0)
		emu_fence_signal_locked(d->owner, d->owner->error);
}

static void add_dep(struct emu_fence *f, unsigned i, struct emu_fence *on)
{
	struct emu_fence_dep *d = &f->deps[i];

	d->owner = f;
	d->on = emu_fence_ref(on);
	d->cb.fn = dep_done;
	emu_list_init(&d->cb.link);
	if (on->signaled) {
		if (on->error && !f->error)
			f->error = on->error;
		return;
	}
	f->n_pending++;
	emu_list_add_tail(&on->cbs, &d->cb.link);
}

struct emu_fence *emu_fence_merge(struct emu_fence *a, struct emu_fence *b)
{
	struct emu_fence *f;

	if (!a || !b || a == b)
		return a || b ? emu_fence_ref(a ? a : b) : emu_fence_signaled();
	f = create(2);
	if (!f)
		return NULL;
	emu_sync_lock();
	emu_list_add_tail(&fences, &f->all);
	add_dep(f, 0, a);
	add_dep(f, 1, b);
	if (!f->n_pending)
		emu_fence_signal_locked(f, f->error);
	emu_sync_unlock();
	return f;
}
