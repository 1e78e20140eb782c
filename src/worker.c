/* SPDX-License-Identifier: MIT */
#include "worker.h"

#include "sys.h"
#include <assert.h>

void svm_worker_init(struct svm_worker *worker)
{
	svm_lock_init(&worker->lock, SVM_RANK_LOOP);
	pthread_cond_init(&worker->cond, NULL);
	svm_list_init(&worker->queue);
	worker->started = false;
	worker->stopping = false;
}

static void *work(void *arg)
{
	struct svm_worker *worker = arg;

	svm_lock(&worker->lock);
	for (;;) {
		struct svm_list *node = worker->queue.next;
		struct svm_worker_task *task;

		if (node == &worker->queue) {
			if (worker->stopping)
				break;
			pthread_cond_wait(&worker->cond, &worker->lock.mutex);
			continue;
		}
		task = svm_list_entry(node, struct svm_worker_task, node);
		svm_list_del(node);
		svm_unlock(&worker->lock);
		task->run(task);
		svm_lock(&worker->lock);
	}
	svm_unlock(&worker->lock);
	return NULL;
}

int svm_worker_start(struct svm_worker *worker)
{
	int r = 0;

	svm_lock(&worker->lock);
	if (!worker->started)
		r = svm_sys->thread_create(&worker->thread, "svm-native", work, worker);
	if (r == 0)
		worker->started = true;
	svm_unlock(&worker->lock);
	return r;
}

void svm_worker_queue(struct svm_worker *worker, struct svm_worker_task *task)
{
	svm_lock(&worker->lock);
	assert(worker->started && !worker->stopping);
	svm_list_add_tail(&worker->queue, &task->node);
	pthread_cond_signal(&worker->cond);
	svm_unlock(&worker->lock);
}

void svm_worker_finish(struct svm_worker *worker)
{
	bool started;

	svm_lock(&worker->lock);
	started = worker->started;
	worker->stopping = true;
	pthread_cond_signal(&worker->cond);
	svm_unlock(&worker->lock);
	if (started)
		pthread_join(worker->thread, NULL);
	pthread_cond_destroy(&worker->cond);
	svm_lock_finish(&worker->lock);
}
