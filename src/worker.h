/* SPDX-License-Identifier: MIT */
/* A thread for what may block, in the order it was queued. It starts when it is first wanted. */
#ifndef SVM_WORKER_H
#define SVM_WORKER_H

#include "lock.h"
#include "util.h"

struct svm_worker_task {
	struct svm_list node;
	/* In the worker's thread, no lock held; the task is its owner's again. */
	void (*run)(struct svm_worker_task *task);
};

struct svm_worker {
	struct svm_lock lock; /* LOOP: all below */
	pthread_cond_t cond;
	pthread_t thread;
	struct svm_list queue;
	bool started;
	bool stopping;
};

void svm_worker_init(struct svm_worker *worker);
/* Have the thread, or say why not (negative errno). Not from the service path. */
int svm_worker_start(struct svm_worker *worker);
/* The thread has been started. Any thread; never waits. */
void svm_worker_queue(struct svm_worker *worker, struct svm_worker_task *task);
/* Nobody queues any more: ends what is queued, and the thread. */
void svm_worker_finish(struct svm_worker *worker);

#endif
