/* SPDX-License-Identifier: MIT */
/*
 * Fences, sync objects, timelines and sync_files, as every DRM driver shares them.
 *
 * A fence signals once, with 0 or a negative errno. One lock guards all of it; each change wakes
 * all waiters, who look again: simple, and right before fast.
 */
#ifndef EMU_SYNC_H
#define EMU_SYNC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "emu_core.h"

struct emu_fence_cb {
	struct emu_list link;
	/* Called with the sync lock held. */
	void (*fn)(struct emu_fence_cb *cb);
};

struct emu_fence {
	struct emu_list all; /* for the child of a fork */
	int refs;
	bool signaled;
	int error;
	uint64_t time_ns;
	struct emu_list cbs;
	/* A merged fence signals when these have. */
	unsigned n_deps, n_pending;
	struct emu_fence_dep *deps;
};

struct emu_fence *emu_fence_create(void);
struct emu_fence *emu_fence_ref(struct emu_fence *f);
void emu_fence_unref(struct emu_fence *f);
void emu_fence_signal(struct emu_fence *f, int error);
bool emu_fence_is_signaled(struct emu_fence *f);
int emu_fence_error(struct emu_fence *f);
void emu_fence_wait(struct emu_fence *f);
bool emu_fence_wait_until(struct emu_fence *f, uint64_t deadline_ns);
/* A new fence that signals after both (either may be NULL). */
struct emu_fence *emu_fence_merge(struct emu_fence *a, struct emu_fence *b);
struct emu_fence *emu_fence_signaled(void);

struct emu_point {
	struct emu_list link;
	uint64_t seq;
	struct emu_fence *fence; /* signals after all earlier points, too */
};

struct emu_syncobj {
	int refs;
	struct emu_fence *fence; /* the last one put in, or NULL */
	struct emu_list points;	 /* rising; empty for a binary one */
	uint64_t last_signaled;
	struct emu_list eventfds;
};

struct emu_syncobj *emu_syncobj_get(struct emu_file *file, uint32_t handle);
void emu_syncobj_unref(struct emu_syncobj *s);
void emu_syncobj_replace(struct emu_syncobj *s, struct emu_fence *f);
void emu_syncobj_add_point(struct emu_syncobj *s, uint64_t point, struct emu_fence *f);
/* The fence (new reference) that a wait for the point waits for; NULL when not submitted. */
struct emu_fence *emu_syncobj_fence(struct emu_syncobj *s, uint64_t point);
void emu_syncobj_file_close(struct emu_file *file);

int emu_sync_file_ioctl(struct emu_fdobj *obj, unsigned long cmd, unsigned long arg);

/* Handlers of the ioctl table. */
int emu_syncobj_create_ioctl(struct emu_file *file, void *arg);
int emu_syncobj_destroy_ioctl(struct emu_file *file, void *arg);
int emu_syncobj_handle_to_fd_ioctl(struct emu_file *file, void *arg);
int emu_syncobj_fd_to_handle_ioctl(struct emu_file *file, void *arg);
int emu_syncobj_wait_ioctl(struct emu_file *file, void *arg);
int emu_syncobj_timeline_wait_ioctl(struct emu_file *file, void *arg);
int emu_syncobj_reset_ioctl(struct emu_file *file, void *arg);
int emu_syncobj_signal_ioctl(struct emu_file *file, void *arg);
int emu_syncobj_timeline_signal_ioctl(struct emu_file *file, void *arg);
int emu_syncobj_query_ioctl(struct emu_file *file, void *arg);
int emu_syncobj_transfer_ioctl(struct emu_file *file, void *arg);
int emu_syncobj_eventfd_ioctl(struct emu_file *file, void *arg);

void emu_sync_init(void);
/* The one lock, for those who keep state that waits on fences (queues). */
void emu_sync_lock(void);
void emu_sync_unlock(void);
pthread_mutex_t *emu_sync_mutex(void);
/* LOCKING: sync lock held; woken by every signalled fence and by emu_sync_wake(). */
void emu_sync_sleep(void);
/* LOCKING: as above; deadline of CLOCK_MONOTONIC, false when it has passed. */
bool emu_sync_sleep_until(uint64_t deadline_ns);
/* Counts wake-ups; a waiter that looks at memory takes it first, then looks, then waits. */
uint64_t emu_sync_sequence(void);
/* Until the count is another; false at the deadline. */
bool emu_sync_wait_change(uint64_t seen, uint64_t deadline_ns);
void emu_sync_wake(void);
void emu_sync_wake_locked(void);
/* LOCKING: sync lock held. */
void emu_fence_signal_locked(struct emu_fence *f, int error);
void emu_fence_unref_locked(struct emu_fence *f);
void emu_sync_fork_child(void);

#endif
