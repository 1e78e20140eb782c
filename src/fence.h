/* SPDX-License-Identifier: MIT */
/*
 * Fences: the public object, and how the core waits for one.
 *
 * A fence signals once; waiters added before run just before, in the signalling thread, with no lock held.
 * References: the application's, and one for whoever signals it, who holds it until that is done.
 */
#ifndef SVM_FENCE_H
#define SVM_FENCE_H

#include "ctx.h"
#include "lock.h"
#include "loop.h"
#include "util.h"
#include <libsvm/fence.h>
#include <pthread.h>

struct svm_fence_waiter {
	struct svm_list node;
	bool first; /* runs before anybody finds the fence signalled */
	void (*fn)(struct svm_fence_waiter *waiter, int status);
};

struct svm_fence {
	struct svm_ctx *ctx;
	struct svm_lock lock; /* FENCE: all below */
	pthread_cond_t cond;
	struct svm_list waiters;
	int event_fd;	     /* -1 until exported */
	int status;	     /* valid once decided */
	bool decided;	     /* waiters run, or have run */
	bool signalled;	     /* and those who sleep may go on */
	bool by_application; /* svm_fence_signal() is allowed */
	/* Imported: watched until readable. */
	struct svm_watch watch;
	uint32_t refs; /* atomic */
};

/* A fence with one reference. NULL: no memory. */
struct svm_fence *svm_fence_new(struct svm_ctx *ctx);
/* Signal; the first call wins, later ones do nothing and return false. */
bool svm_fence_complete(struct svm_fence *fence, int status);
/* Add a waiter, or return true if it is too late for one (the waiter is not used then). */
bool svm_fence_add_waiter(struct svm_fence *fence, struct svm_fence_waiter *waiter,
			  int *ret_status);
/* Take a waiter back; false if it runs or ran already. */
bool svm_fence_remove_waiter(struct svm_fence *fence, struct svm_fence_waiter *waiter);
/* Sleep until it signals: timeout_ns < 0 for ever, 0 not at all. False: it has not; *ret_status is only written if it has,
 * and may be any error, -ETIMEDOUT among them. */
bool svm_fence_block(struct svm_fence *fence, int64_t timeout_ns, int *ret_status);
/* Import an fd of which the fence becomes the owner. */
int svm_fence_watch_fd(struct svm_fence *fence, int fd);
int svm_fence_export_fd(struct svm_fence *fence, int *ret_fd);
void svm_fence_get(struct svm_fence *fence);
/* A reference becomes the application's, which ends it with svm_fence_unref(). */
struct svm_fence *svm_fence_hand_out(struct svm_fence *fence);
void svm_fence_put(struct svm_fence *fence);

#endif
