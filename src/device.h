/* SPDX-License-Identifier: MIT */
/*
 * An attached device: its backend's state, its timelines and who waits on them, its store, its loss.
 *
 * Lifetime: made by svm_device_open(), freed at the end of svm_device_close(), which makes sure that
 * nothing refers to it: no holds, no chunks, no waiters, no request on its behalf.
 */
#ifndef SVM_DEVICE_H
#define SVM_DEVICE_H

#include "ctx.h"
#include "store.h"
#include <libsvm/backend.h>
#include <libsvm/device.h>
#include <semaphore.h>
#include <stdatomic.h>

/* Waits for a point; lives in a transition, a job or a work record. */
struct svm_point_waiter {
	struct svm_list node;
	uint64_t value;
	uint64_t since_ns; /* by the device's clock, which leaves out stalled_ns */
	bool for_room;	   /* of a queue, not for what the point came to */
	int status;	   /* 0, or what the point failed with, or why the device was lost */
	void (*fn)(struct svm_point_waiter *waiter);
	void *data;
};

/* A value to wait for: whatever the device tells next. No point has it. */
#define SVM_NEXT_EVENT UINT64_MAX

/* Failed points that are remembered for waiters who come late. */
#define SVM_FAILURES 16u

struct svm_timeline_state {
	struct svm_list waiters;
	uint64_t completed;
	uint64_t submitted; /* the latest point seen */
	uint64_t refused_ns; /* when a full queue was first met, since a call or a point got through; 0: not */
	bool refused_again; /* since the watchdog last looked */
	uint64_t n_failures;
	uint64_t failed[SVM_FAILURES]; /* ring: values, and what they failed with */
	int failure[SVM_FAILURES];
};

struct svm_device {
	struct svm_ctx *ctx;
	struct svm_backend_ops ops;
	void *dev; /* the backend's */
	struct svm_backend_caps caps;
	bool native_only; /* managed memory is reached through the CPU's page tables: its accesses are the CPU's */
	uint32_t id;
	uint32_t agent; /* id + 1: also the number of its location */
	char name[SVM_NAME_LENGTH];
	struct svm_store store;

	struct svm_lock lock; /* FENCE: timelines */
	struct svm_timeline_state timelines[SVM_TIMELINES];
	uint64_t n_events; /* FENCE: that the device has told of */
	uint64_t stalled_ns; /* FENCE: how long the process has stood still while the watchdog was set */
	struct svm_lock
		kill_lock; /* BACKEND: held while the backend kills it, so that all wait for that */
	_Atomic int lost;  /* 0, or the negative errno that says why; set once nothing of it runs */
	bool lost_handled;

	struct svm_lock blocks_lock; /* STORE: list of all blocks that know the device */
	struct svm_list blocks;	     /* struct svm_block_device.node */
	_Atomic uint32_t n_holds;    /* holds and pins of the application */
	_Atomic uint32_t n_accesses; /* what svm_acquire() gave out, until it has ended */
	_Atomic uint32_t n_users;    /* who works with it now, plus one until it is closed */
	sem_t unused;		     /* posted when n_users reaches 0 */
	_Atomic uint32_t
		n_works;  /* copies and fills under way, which hold memory of their own accord */
	sem_t work_ended; /* posted by each that ends while no_work is set */
	_Atomic bool no_work; /* takes no new accesses, copies, fills or launches */
	_Atomic bool closing;

	struct svm_loop *loop;
	struct svm_watch event_watch;
	struct svm_watch fault_watch;
	struct svm_timer watchdog;
	struct svm_timer loss; /* set at once, by whoever finds the device lost */
	_Atomic bool watched;  /* the watchdog will look at who waits now */
	/* Set by the layer above before svm_device_start(): called in the loop's thread. */
	void (*on_lost)(struct svm_device *device);
	void (*on_faults)(struct svm_device *device);
};

/* Make a device by name, in the application's address space unless import is NULL; it is not yet in ctx->devices and
 * nothing runs. Errors as svm_device_open() and svm_device_import(). */
int svm_device_new(struct svm_ctx *ctx, const char *name, const struct svm_device_import *import,
		   struct svm_device **ret_device);
/* Watch it from the loop. */
int svm_device_start(struct svm_device *device);
/* Stop watching; no callback runs any more. Not from the loop. */
void svm_device_stop(struct svm_device *device);
/* A copy or fill has begun, or ended; wait until none is left. Not from the loop. */
void svm_device_begin_work(struct svm_device *device);
void svm_device_end_work(struct svm_device *device);
void svm_device_wait_works(struct svm_device *device);
/* Nothing finds it any more: wait for its last user. Its events are still watched. */
void svm_device_drain(struct svm_device *device);
/* Close the backend's device and free. */
void svm_device_delete(struct svm_device *device);

static inline bool svm_device_is_lost(const struct svm_device *device)
{
	return atomic_load(&((struct svm_device *)device)->lost) != 0;
}

static inline bool svm_device_has(const struct svm_device *device, uint32_t caps)
{
	return (device->caps.caps & caps) == caps;
}

/* Use it beyond the tree lock: it is not deleted before the last user has put it. */
void svm_device_get(struct svm_device *device);
void svm_device_put(struct svm_device *device);

/* LOCKING: tree (any), or something else that keeps the device open: a user, a hold, an entry in a block. The device
 * behind an agent number, or NULL. */
static inline struct svm_device *svm_device_of(const struct svm_ctx *ctx, uint32_t agent)
{
	return agent == 0 ? NULL : atomic_load(&((struct svm_ctx *)ctx)->devices[agent - 1u]);
}

/* Wait for a point: returns true if it is reached, or the device lost (waiter->status says); else waiter->fn runs once it is, in
 * the loop's thread or that of another waiter, with no lock held. */
bool svm_device_wait(struct svm_device *device, const struct svm_point *point,
		     struct svm_point_waiter *waiter);
/* Wait until there may be room on a timeline that answered -EAGAIN, with refused from that call. */
bool svm_device_wait_room(struct svm_device *device, const struct svm_point *refused,
			  struct svm_point_waiter *waiter);

/* The backend's ops, with what was submitted noted. On error *ret_point is for svm_device_wait_room(). Room that does not
 * come within op_timeout is the loss of the device. */
int svm_device_bind(struct svm_device *device, const struct svm_bind *binds, size_t n_binds,
		    struct svm_point *ret_point);
int svm_device_copies(struct svm_device *device, const struct svm_copy *copies, size_t n_copies,
		      uint32_t flags, struct svm_point *ret_point);
int svm_device_work(struct svm_device *device, const struct svm_work *work,
		    struct svm_point *ret_point);
int svm_device_launch(struct svm_device *device,
		      void (*kernel)(const void *args, uint64_t index, uint64_t count),
		      const void *args, size_t args_size, uint64_t n, struct svm_point *ret_point);

/* Is it alive? Asks the backend; if not, it is lost when this returns. */
void svm_device_check(struct svm_device *device);

/* Declare it lost, for reason (negative errno): its waiters end now, on_lost() runs in the loop. Any thread. */
void svm_device_lose(struct svm_device *device, int reason);

#endif
