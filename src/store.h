/* SPDX-License-Identifier: MIT */
/*
 * A device's memory as a cache of blocks: a budget of chunks, the order of their use, and who waits
 * for one. It answers "no space" and names victims; evicting them is the caller's business.
 */
#ifndef SVM_STORE_H
#define SVM_STORE_H

#include "lock.h"
#include "util.h"
#include <libsvm/backend.h>
#include <stdatomic.h>
#include <stdbool.h>

struct svm_chunk;

/* Somebody tries to empty a chunk; lives with whoever does. */
struct svm_victim {
	struct svm_chunk *chunk; /* NULL once it is free */
	uint64_t round;		 /* when it was chosen */
};

/* Device storage of one block; lives in the block. */
struct svm_chunk {
	struct svm_list lru; /* in svm_store.lru while present */
	uint64_t handle;
	bool present;
	struct svm_victim *victim; /* set while somebody tries to empty it */
	uint64_t tried;		   /* round in which that failed */
};

/* Somebody who waits for a chunk; lives in a request. */
struct svm_store_waiter {
	struct svm_list node;
	uint64_t handle; /* what it was given */
	int status;	 /* 0 or why it gets none, once it is off the list */
};

struct svm_store {
	struct svm_lock lock; /* STORE: all below, and every svm_chunk of the device */
	const struct svm_backend_ops *ops;
	void *dev;
	uint64_t n_total;
	uint64_t n_used;
	bool refused;	     /* the backend had no room at the last try, whatever the budget says */
	struct svm_list lru; /* svm_chunk.lru, most recently used first */
	struct svm_list waiters; /* first come, first served */
	_Atomic uint32_t n_waiters;
	uint32_t n_evicting;
	uint64_t round;	    /* a chunk that failed in this round is not tried again in it */
	uint64_t transient; /* round in which a chunk failed for a reason that passes */
	_Atomic uint32_t
		runs; /* calls of the evictor that are not dealt with: one thread works, others count */
};

void svm_store_init(struct svm_store *store, const struct svm_backend_ops *ops, void *dev,
		    uint64_t memory_size);
void svm_store_finish(struct svm_store *store);

/* Storage for a block: its handle is the caller's until svm_store_attach() or svm_store_give(). -ENOSPC. Never ahead of
 * those who wait. */
int svm_store_take(struct svm_store *store, uint64_t *ret_handle);
/* A handle that was taken and is not needed. */
void svm_store_give(struct svm_store *store, uint64_t handle);
/* The handle becomes the chunk's, as most recently used. */
void svm_store_attach(struct svm_store *store, struct svm_chunk *chunk, uint64_t handle);
/* The chunk is used now. */
void svm_store_touch(struct svm_store *store, struct svm_chunk *chunk);
/* Its content is not wanted: the first to be evicted. */
void svm_store_age(struct svm_store *store, struct svm_chunk *chunk);
/* Free the chunk's storage. */
void svm_store_detach(struct svm_store *store, struct svm_chunk *chunk);

void svm_store_wait(struct svm_store *store, struct svm_store_waiter *waiter);
/* Take a waiter off the list; false if it is off already. */
bool svm_store_unwait(struct svm_store *store, struct svm_store_waiter *waiter);
/* Serve the first waiter from what is free: it is off the list then, with a handle or the backend's error as its status.
 * NULL: nobody waits, or nothing is free. */
struct svm_store_waiter *svm_store_serve(struct svm_store *store);
/* All waiters get -ENOSPC if no chunk can ever be evicted as things stand: moved to *ret_failed. */
void svm_store_fail_hopeless(struct svm_store *store, struct svm_list *ret_failed);
/* All waiters get status: moved to *ret_failed. */
void svm_store_fail_all(struct svm_store *store, int status, struct svm_list *ret_failed);

/* Choose the least recently used chunk that nobody has tried in this round. False if there is none, or enough
 * evictions for all waiters are under way. */
bool svm_store_choose(struct svm_store *store, struct svm_victim *victim);
/* The try has ended: status 0, -EAGAIN (in the way was something that passes), or another errno. */
void svm_store_chosen_done(struct svm_store *store, struct svm_victim *victim, int status);
/* Something changed that may let a failed try succeed. */
void svm_store_new_round(struct svm_store *store);

#endif
