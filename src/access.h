/* SPDX-License-Identifier: MIT */
/*
 * Many blocks at once: acquire, prefetch, pin. A job walks its spans block by block with a bounded
 * number of requests in flight, and signals one fence at the end.
 */
#ifndef SVM_ACCESS_H
#define SVM_ACCESS_H

#include "fence.h"
#include "serve.h"
#include <libsvm/hints.h>

/* Requests of one job under way at a time: enough to keep a copy engine and a service thread busy. */
#define SVM_JOB_SLOTS 16u

struct svm_job_range {
	uint64_t start; /* page aligned */
	uint64_t end;
	uint32_t agent;
	bool write;
	bool system;	/* prefetch of system memory: moved by the drivers of native devices */
	int numa_node;	/* prefetch to a node; -1: any */
	size_t part_of; /* which of the caller's ranges this is a piece of */
	struct svm_prefetch_result result;
};

struct svm_job;

struct svm_job_slot {
	struct svm_request request;
	struct svm_job *job;
	struct svm_job_range
		*range; /* the first of n_ranges whose parts in one block it deals with */
	size_t n_ranges;
	uint64_t base; /* address of that block */
	struct svm_hold *hold;
	bool used;
};

struct svm_job {
	struct svm_ctx *ctx;
	struct svm_device *device; /* whose it is, as a user; NULL: the CPU's, or many */
	enum svm_cause cause;
	uint32_t request_flags;
	bool hold;		 /* pages are held until svm_job_release() */
	bool hold_store;	 /* it is the storage that is held */
	bool counted;		 /* in device->n_accesses */
	struct svm_fence *ready; /* signals at the end of the work */
	size_t map_size;

	struct svm_lock lock; /* ACCESS: all below */
	size_t n_ranges;
	size_t n_given; /* ranges of the caller */
	struct svm_job_range *ranges;
	struct svm_worker_task system_task; /* moves the pieces that are system memory */
	size_t next_range;		    /* where the walk is */
	uint64_t next_addr;
	uint32_t n_flying;
	bool pumping;
	bool started;
	bool cancelled;
	bool finished;
	int error; /* acquire: the first; stops the walk */
	uint64_t bytes_done;
	uint64_t bytes_total;
	struct svm_list holds; /* svm_hold.owned */
	struct svm_job_slot slots[SVM_JOB_SLOTS];

	/* What starts it, and what ends its holds. */
	struct svm_fence *wait_fence;
	struct svm_fence_waiter wait_waiter;
	struct svm_fence *release_fence;
	struct svm_fence_waiter release_waiter;
};

/* Make a job with room for n_ranges, which the caller fills in (start, end, agent, write, numa_node). The device, if
 * any, is kept. */
int svm_job_new(struct svm_ctx *ctx, struct svm_device *device, enum svm_cause cause,
		size_t n_ranges, struct svm_job **ret_job);
/* Start once wait (NULL: now) has signalled. */
void svm_job_start(struct svm_job *job, struct svm_fence *wait);
/* Result of the i-th of the caller's ranges. It has ended. */
void svm_job_result(const struct svm_job *job, size_t i, struct svm_prefetch_result *ret);
void svm_job_cancel(struct svm_job *job);
/* Wait for its end as svm_fence_block(); what it ended with is its first error. */
bool svm_job_wait(struct svm_job *job, int64_t timeout_ns, int *ret_error);
/* It has ended. Give its holds back once done (NULL: now) has signalled, then free it. */
void svm_job_release(struct svm_job *job, struct svm_fence *done);

#endif
