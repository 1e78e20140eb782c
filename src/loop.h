/* SPDX-License-Identifier: MIT */
/*
 * One service thread's event loop: fd watches, a reader, timers, posts. Two engines behind it:
 * io_uring and epoll. Callbacks run in the loop's thread, hold no lock, and must not block.
 */
#ifndef SVM_LOOP_H
#define SVM_LOOP_H

#include "lock.h"
#include "trace.h"
#include "util.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct svm_loop;

/* Calls ready() while fd is readable (or has an error). Level-triggered: ready() empties it or removes the watch. */
struct svm_watch {
	int fd;
	void (*ready)(struct svm_watch *watch);
	/* private to the loop */
	struct svm_list node;
	uint32_t state;
};

/* Reads fd (non-blocking) into buffer and calls data() with the bytes read (> 0), or with a negative
 * errno other than EAGAIN and EINTR, which are retried; -EPIPE: end of file. After an error nothing more is
 * read; the owner still removes the reader. */
struct svm_reader {
	int fd;
	void *buffer;
	size_t size;
	void (*data)(struct svm_reader *reader, ssize_t n);
	/* Around each read(2), with its result, for what must not lie between it and the first look at what came. May be NULL. */
	void (*before)(struct svm_reader *reader);
	void (*after)(struct svm_reader *reader, ssize_t n);
	/* private to the loop */
	struct svm_list node;
	uint32_t state;
};

/* Zeroed before first use. */
struct svm_timer {
	uint64_t deadline_ns; /* CLOCK_MONOTONIC */
	void (*fire)(struct svm_timer *timer);
	/* private to the loop */
	struct svm_list node;
	bool armed;
	uint32_t n_cancelling;
};

/* Something to run in the loop's thread once. May be posted again from run(). Zeroed before first use; posting
 * what is queued already has no effect. */
struct svm_post {
	void (*run)(struct svm_post *post);
	/* private to the loop */
	struct svm_list node;
};

struct svm_loop_options {
	uint32_t kind;		 /* enum svm_loop_kind */
	uint32_t spin_us;	 /* see svm_space_options.spin_us */
	struct svm_trace *trace; /* wake-ups and spins are counted there; may be NULL */
};

/* -EOPNOTSUPP: SVM_LOOP_IO_URING is denied (sysctl, seccomp, kernel). */
int svm_loop_create(const struct svm_loop_options *options, struct svm_loop **ret_loop);
/* The loop does not run any more; watches, readers and timers must have been removed. */
void svm_loop_destroy(struct svm_loop *loop);
bool svm_loop_is_io_uring(const struct svm_loop *loop);

/* Serve until svm_loop_stop(). The calling thread is the loop's thread; blocks all signals first.
 * Sets svm_service_depth. Performs posts that are queued before it returns. */
int svm_loop_run(struct svm_loop *loop);
void svm_loop_stop(struct svm_loop *loop); /* any thread */
bool svm_loop_is_current(const struct svm_loop *loop);

/* Any thread. After remove returns, the callback does not run and will not run: from another thread it
 * waits for the loop's thread to let go (so no lock that callbacks take may be held). What its own callback has
 * removed may be removed again: that waits for the callback to end. Add: -EBADF, -ENOSPC (more
 * than 65536 in one loop), and errors of epoll_ctl(2). One watch or reader per fd and loop. */
int svm_loop_add_watch(struct svm_loop *loop, struct svm_watch *watch);
void svm_loop_remove_watch(struct svm_loop *loop, struct svm_watch *watch);
int svm_loop_add_reader(struct svm_loop *loop, struct svm_reader *reader);
void svm_loop_remove_reader(struct svm_loop *loop, struct svm_reader *reader);

/* Any thread. Set moves an armed timer. Cancel: returns whether it was armed; from another thread it
 * waits until a running fire() has ended. */
void svm_loop_set_timer(struct svm_loop *loop, struct svm_timer *timer, uint64_t deadline_ns);
bool svm_loop_cancel_timer(struct svm_loop *loop, struct svm_timer *timer);

/* Any thread, also from callbacks. Run once soon; never allocates. */
void svm_loop_post(struct svm_loop *loop, struct svm_post *post);

#endif
