// SPDX-License-Identifier: MIT
/*
 * A thread that calls into the shared VM, where others may keep that VM locked for as long as they like: it is the
 * application's, or mirrors memory that is not ours. The kernel holds the lock while a bind or a fault waits for a
 * userfaultfd (Linux 7.3, mm/hmm.c:hmm_range_fault_unlocked_timeout()), and whoever serves that one may need our service
 * thread first. So that one hands over what VM_BIND and EXEC are to do, and never waits for them.
 */
#include "xe_internal.h"
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

/* What waits for the thread. A call of bind() always fits in once all before it are through. */
#define N_JOBS 64u
#define N_OPS  (2u * SVM_BIND_BATCH)

struct svm_xe_job {
	uint64_t value; /* of the timeline of binds */
	uint32_t n_ops;
	struct svm_xe_change *change; /* who waits for it, or NULL */
};

/* ---- Handing over ----------------------------------------------------------------------------- */

/* LOCKING: s->lock; there is room. */
static uint64_t push(struct svm_xe_submitter *s, const struct svm_xe_bind_op *ops, uint32_t n,
		     struct svm_xe_change *change)
{
	s->jobs[s->tail++ % N_JOBS] =
		(struct svm_xe_job){ .value = ++s->value, .n_ops = n, .change = change };
	for (uint32_t i = 0; i < n; i++)
		s->ops[s->op_tail++ % N_OPS] = ops[i];
	pthread_cond_broadcast(&s->cond);
	return s->value;
}

static bool has_room(const struct svm_xe_submitter *s, uint32_t n)
{
	return s->tail - s->head < N_JOBS && s->op_tail - s->op_head + n <= N_OPS;
}

int svm_xe_submit_bind(struct svm_xe_device *dev, const struct svm_bind *binds, uint32_t n,
		       uint64_t *ret_value)
{
	struct svm_xe_submitter *s = &dev->submitter;
	uint64_t done = atomic_load(&dev->timelines[SVM_TIMELINE_BIND].done);
	int ret = 0;

	pthread_mutex_lock(&s->lock);
	if (!has_room(s, n) || !svm_xe_bind_has_room(dev, s->value, done, s->tail - s->head)) {
		ret = -EAGAIN;
	} else {
		for (uint32_t i = 0; i < n; i++)
			s->built[i] = svm_xe_bind_op(dev, &binds[i]);
		*ret_value = push(s, s->built, n, NULL);
	}
	pthread_mutex_unlock(&s->lock);
	return ret;
}

int svm_xe_submit_change(struct svm_xe_device *dev, struct svm_xe_change *change)
{
	struct svm_xe_submitter *s = &dev->submitter;
	uint64_t value;

	pthread_mutex_lock(&s->lock);
	while (!has_room(s, 1))
		pthread_cond_wait(&s->cond, &s->lock);
	value = push(s, &change->op, 1, change);
	while (!change->is_done)
		pthread_cond_wait(&s->cond, &s->lock);
	pthread_mutex_unlock(&s->lock);
	return change->ret < 0
		       ? change->ret
		       : svm_xe_timeline_wait(dev, SVM_TIMELINE_BIND, value, SVM_XE_CHANGE_NS);
}

void svm_xe_submit_work(struct svm_xe_device *dev)
{
	struct svm_xe_submitter *s = &dev->submitter;

	pthread_mutex_lock(&s->lock);
	s->has_work = true;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

/* ---- The thread ------------------------------------------------------------------------------- */

/* LOCKING: bind_lock. */
static void run_bind(struct svm_xe_device *dev, const struct svm_xe_job *job)
{
	int ret = -ENODEV;

	/* A VM of the application's outlives the loss: nothing is bound after it was cleared. */
	if (!atomic_load(&dev->is_lost))
		ret = svm_xe_bind_ops(dev, job->n_ops, job->value, true);
	/* Nobody may hear that this point was reached, or one after it. */
	if (ret < 0 && atomic_load(&dev->bind_limit) >= job->value)
		atomic_store(&dev->bind_limit, job->value - 1);
}

static void run_job(struct svm_xe_device *dev, const struct svm_xe_job *job)
{
	pthread_mutex_lock(&dev->bind_lock);
	if (job->change)
		job->change->ret = svm_xe_bind_change(dev, &dev->bind_ops[0], job->value);
	else
		run_bind(dev, job);
	pthread_mutex_unlock(&dev->bind_lock);
}

/* LOCKING: s->lock, given up meanwhile. */
static void next_job(struct svm_xe_device *dev)
{
	struct svm_xe_submitter *s = &dev->submitter;
	struct svm_xe_job job = s->jobs[s->head % N_JOBS];

	/* With the thread, nobody else touches bind_ops. */
	for (uint32_t i = 0; i < job.n_ops; i++)
		dev->bind_ops[i] = s->ops[(s->op_head + i) % N_OPS];
	pthread_mutex_unlock(&s->lock);
	run_job(dev, &job);
	pthread_mutex_lock(&s->lock);
	s->head++;
	s->op_head += job.n_ops;
	if (job.change)
		job.change->is_done = true;
	pthread_cond_broadcast(&s->cond);
}

static void *submit(void *data)
{
	struct svm_xe_device *dev = data;
	struct svm_xe_submitter *s = &dev->submitter;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		if (s->head != s->tail) {
			next_job(dev);
		} else if (s->has_work) {
			s->has_work = false;
			pthread_mutex_unlock(&s->lock);
			svm_xe_engine_run(&dev->work);
			pthread_mutex_lock(&s->lock);
		} else if (s->stop) {
			break;
		} else {
			pthread_cond_wait(&s->cond, &s->lock);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* ---- Life ------------------------------------------------------------------------------------- */

static size_t tables_size(void)
{
	return N_JOBS * sizeof(struct svm_xe_job) +
	       (N_OPS + SVM_BIND_BATCH) * sizeof(struct svm_xe_bind_op);
}

static int start_thread(struct svm_xe_device *dev)
{
	struct svm_xe_submitter *s = &dev->submitter;
	sigset_t all;
	sigset_t before;
	int ret;

	/* Signals are the application's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(&s->thread, NULL, submit, dev);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -ret;
}

int svm_xe_submit_start(struct svm_xe_device *dev)
{
	struct svm_xe_submitter *s = &dev->submitter;
	int ret;

	s->ops = svm_xe_map_anonymous(tables_size());
	if (!s->ops)
		return -ENOMEM;
	s->built = s->ops + N_OPS;
	s->jobs = (struct svm_xe_job *)(s->built + SVM_BIND_BATCH);
	ret = -pthread_mutex_init(&s->lock, NULL);
	if (ret < 0)
		goto err_tables;
	ret = -pthread_cond_init(&s->cond, NULL);
	if (ret < 0)
		goto err_lock;
	ret = start_thread(dev);
	if (ret < 0)
		goto err_cond;
	s->has_thread = true;
	return 0;

err_cond:
	pthread_cond_destroy(&s->cond);
err_lock:
	pthread_mutex_destroy(&s->lock);
err_tables:
	(void)munmap(s->ops, tables_size()); /* a whole mapping: else it leaks */
	return ret;
}

void svm_xe_submit_stop(struct svm_xe_device *dev)
{
	struct svm_xe_submitter *s = &dev->submitter;

	if (!s->has_thread)
		return;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	pthread_cond_destroy(&s->cond);
	pthread_mutex_destroy(&s->lock);
	(void)munmap(s->ops, tables_size()); /* as above */
	s->has_thread = false;
}
