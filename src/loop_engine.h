/* SPDX-License-Identifier: MIT */
/*
 * Between loop.c and its engines. The loop owns what is registered (slots), who may call back when,
 * timers, posts and sleeping; an engine only turns fds into tokens of those that are ready.
 */
#ifndef SVM_LOOP_ENGINE_H
#define SVM_LOOP_ENGINE_H

#include "loop.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Watches and readers of one loop. Slots are a mapping that is touched as it is used. */
#define SVM_LOOP_SLOTS 65536u
/* Tokens that one wait returns. */
#define SVM_LOOP_BATCH 64u
/* A token of the wake-up fd; no slot has this generation. */
#define SVM_LOOP_TOKEN_WAKE UINT64_MAX

/*
 * A registration. The kernel knows it by a token, slot number and generation: an event that comes
 * late, for a watch that is gone and perhaps freed, finds a newer generation and is dropped.
 * Guarded by the loop's lock.
 */
struct svm_loop_slot {
	void *item;	      /* struct svm_watch or svm_reader; NULL: free */
	struct svm_list node; /* free slots (loop), or slots the engine has work for */
	uint32_t generation;
	bool is_reader;
	bool removed;	/* by its owner; the engine has not let go yet */
	bool in_flight; /* the engine will hear of it once more, whatever is done */
	bool dead;	/* failed for good: not to be armed again */
};

struct svm_loop_engine {
	/* Once, by svm_loop_create(). Keeps its own state in loop->engine_data. */
	int (*open)(struct svm_loop *loop);
	void (*close)(struct svm_loop *loop);

	/*
	 * In the loop's thread, around its run. stop() leaves nothing in flight. Either may be
	 * NULL.
	 */
	void (*start)(struct svm_loop *loop);
	void (*stop)(struct svm_loop *loop);

	/*
	 * LOCKING: loop->lock held, any thread. After add() the loop makes sure that the loop's
	 * thread does not stay asleep, if wake_for_changes. remove() sees slot->removed; what it
	 * cannot let go of at once stays in_flight.
	 */
	int (*add)(struct svm_loop *loop, struct svm_loop_slot *slot);
	void (*remove)(struct svm_loop *loop, struct svm_loop_slot *slot);
	bool wake_for_changes;

	/* A ready slot was served. LOCKING: loop->lock held, the loop's thread. May be NULL. */
	void (*served)(struct svm_loop *loop, struct svm_loop_slot *slot);

	/*
	 * Wait (-1: without limit, 0: not at all) and store tokens of what is ready in loop->ready.
	 * Returns their number; 0 on time-out or interruption. No lock held, the loop's thread.
	 */
	int (*wait)(struct svm_loop *loop, int64_t timeout_ns);
};

extern const struct svm_loop_engine svm_loop_epoll;
extern const struct svm_loop_engine svm_loop_io_uring;

struct svm_loop {
	/* Constant after create */
	const struct svm_loop_engine *engine;
	void *engine_data;
	int wake_fd; /* eventfd, non-blocking */
	struct svm_trace *trace;
	uint64_t spin_max_ns;

	/* The loop's thread only */
	uint64_t ready[SVM_LOOP_BATCH];
	uint64_t spin_ns; /* what the next spin may take: adapts below spin_max_ns */

	struct svm_lock lock;  /* LOOP: all below */
	pthread_cond_t let_go; /* running, in_flight or active changed */
	bool active;	       /* a thread is in svm_loop_run() */
	bool stopping;
	bool sleeping; /* the loop's thread is waiting, or about to and will not look again */
	bool woken;    /* wake_fd was written since */
	uint64_t sleep_deadline_ns; /* when it gets up by itself */
	const void *running;	    /* the watch, reader or timer whose callback runs */

	struct svm_loop_slot *slots;
	uint32_t n_slots; /* ever used */
	struct svm_list free_slots;
	struct svm_list watches;
	struct svm_list readers;

	struct svm_list timers; /* by deadline; equal ones in the order they were set */
	struct svm_list due;	/* timers whose turn it is in this pass */
	struct svm_list posts;
	struct svm_list running_posts; /* posts of this pass */
};

static inline uint64_t svm_loop_token(const struct svm_loop *loop, const struct svm_loop_slot *slot)
{
	return (uint64_t)slot->generation << 32 | (uint64_t)(slot - loop->slots);
}

/* The slot of a token, also when it was removed and is still in flight; NULL when it is gone.
 * LOCKING: loop->lock held. */
struct svm_loop_slot *svm_loop_find_slot(struct svm_loop *loop, uint64_t token);

/* The engine let go of a removed slot. LOCKING: loop->lock held. */
void svm_loop_free_slot(struct svm_loop *loop, struct svm_loop_slot *slot);

static inline int svm_loop_slot_fd(const struct svm_loop_slot *slot)
{
	return slot->is_reader ? ((const struct svm_reader *)slot->item)->fd
			       : ((const struct svm_watch *)slot->item)->fd;
}

#endif
