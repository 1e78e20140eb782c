/* SPDX-License-Identifier: MIT */
/*
 * Queues: a thread that runs jobs in order, each after its in-fences, and signals a fence.
 */
#ifndef EMU_ENGINE_H
#define EMU_ENGINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "emu_sync.h"

struct emu_job {
	struct emu_list link;
	struct emu_fence **in; /* references, given to the job */
	uint32_t n_in;
	struct emu_fence *done;
	/* The result is the fence's error. Not called once the queue was killed. */
	int (*run)(struct emu_job *job);
	/* After the fence signalled; frees the job. */
	void (*release)(struct emu_job *job);
};

struct emu_queue {
	pthread_t thread;
	pthread_cond_t cond;
	struct emu_list jobs;
	uint32_t n_jobs; /* those running, too */
	bool stop;
	_Atomic bool killed;
	unsigned generation;
	struct emu_fence *last; /* of the job submitted last */
	_Atomic uint64_t n_done;
};

int emu_queue_init(struct emu_queue *q);
/* Jobs not begun end with ECANCELED; waits for the one that runs. */
void emu_queue_finish(struct emu_queue *q);
/* No job of it runs again; those pending end with ECANCELED. */
void emu_queue_kill(struct emu_queue *q);
int emu_queue_submit(struct emu_queue *q, struct emu_job *job);
/* Runs the job here and now when the queue is idle and nothing has to be waited for. */
bool emu_queue_run_now(struct emu_queue *q, struct emu_job *job);
/* For a job that was refused: gives back what it holds. */
void emu_job_drop(struct emu_job *job);
/* The fence of the last job, or one that has signalled. */
struct emu_fence *emu_queue_last(struct emu_queue *q);
uint32_t emu_queue_length(struct emu_queue *q);
/* Called in a job: waits until the deadline, or until the queue is killed or stopped. */
void emu_queue_pause(struct emu_queue *q, uint64_t deadline_ns);
void emu_engine_fork_child(void);

#endif
