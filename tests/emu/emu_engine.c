// SPDX-License-Identifier: MIT
#include "emu_engine.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "emu_alloc.h"
#include "emu_log.h"

/* How long the end of a queue waits for a job that hangs in the program's memory. */
#define JOIN_SECONDS 5

static unsigned generation;

void emu_engine_fork_child(void)
{
	generation++;
}

static void drop_inputs(struct emu_job *job)
{
	for (uint32_t i = 0; i < job->n_in; i++)
		emu_fence_unref(job->in[i]);
	emu_free(job->in);
}

void emu_job_drop(struct emu_job *job)
{
	drop_inputs(job);
	emu_fence_unref(job->done);
	job->release(job);
}

static void end_job(struct emu_queue *q, struct emu_job *job, int error)
{
	drop_inputs(job);
	emu_sync_lock();
	q->n_jobs--;
	emu_fence_signal_locked(job->done, error);
	emu_sync_unlock();
	emu_fence_unref(job->done);
	job->release(job);
}

static bool inputs_ready(const struct emu_job *job)
{
	for (uint32_t i = 0; i < job->n_in; i++)
		if (!job->in[i]->signaled)
			return false;
	return true;
}

/* The next job with its in-fences signalled, or NULL at the end. */
static struct emu_job *next_job(struct emu_queue *q)
{
	struct emu_job *job;

	emu_sync_lock();
	while (emu_list_empty(&q->jobs) && !q->stop)
		pthread_cond_wait(&q->cond, emu_sync_mutex());
	if (emu_list_empty(&q->jobs)) {
		emu_sync_unlock();
		return NULL;
	}
	job = emu_list_entry(q->jobs.next, struct emu_job, link);
	while (!inputs_ready(job) && !q->stop && !atomic_load(&q->killed))
		emu_sync_sleep();
	emu_list_del(&job->link);
	emu_sync_unlock();
	return job;
}

static void *worker(void *arg)
{
	struct emu_queue *q = arg;
	struct emu_job *job;

	while ((job = next_job(q))) {
		int r = -ECANCELED;

		if (!q->stop && !atomic_load(&q->killed))
			r = job->run(job);
		atomic_fetch_add(&q->n_done, 1);
		end_job(q, job, r);
	}
	return NULL;
}

/* The program's signals are its own threads' business. */
static int start_thread(struct emu_queue *q)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&q->thread, NULL, worker, q);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

int emu_queue_init(struct emu_queue *q)
{
	emu_list_init(&q->jobs);
	pthread_cond_init(&q->cond, NULL);
	q->generation = generation;
	return start_thread(q);
}

/* In the child of a fork: the thread stayed behind, and so did its jobs. */
static int adopt(struct emu_queue *q)
{
	if (q->generation == generation)
		return 0;
	q->generation = generation;
	emu_list_init(&q->jobs);
	q->n_jobs = 0;
	pthread_cond_init(&q->cond, NULL);
	return start_thread(q);
}

void emu_queue_kill(struct emu_queue *q)
{
	emu_sync_lock();
	atomic_store(&q->killed, true);
	pthread_cond_signal(&q->cond);
	emu_sync_wake_locked();
	emu_sync_unlock();
}

void emu_queue_finish(struct emu_queue *q)
{
	struct timespec ts;

	emu_sync_lock();
	q->stop = true;
	pthread_cond_signal(&q->cond);
	emu_sync_wake_locked();
	emu_sync_unlock();
	if (q->generation == generation) {
		clock_gettime(CLOCK_REALTIME, &ts);
		ts.tv_sec += JOIN_SECONDS;
		if (pthread_timedjoin_np(q->thread, NULL, &ts) != 0) {
			emu_strict(
				"a queue was destroyed while its job waits for a page of the program");
			pthread_join(q->thread, NULL);
		}
		pthread_cond_destroy(&q->cond);
	}
	emu_fence_unref(q->last);
	q->last = NULL;
}

int emu_queue_submit(struct emu_queue *q, struct emu_job *job)
{
	struct emu_fence *old;
	int r = adopt(q);

	if (r < 0)
		return r;
	emu_sync_lock();
	if (q->stop) {
		emu_sync_unlock();
		return -ECANCELED;
	}
	old = q->last;
	q->last = emu_fence_ref(job->done);
	q->n_jobs++;
	emu_list_add_tail(&q->jobs, &job->link);
	pthread_cond_signal(&q->cond);
	emu_sync_unlock();
	emu_fence_unref(old);
	return 0;
}

struct emu_fence *emu_queue_last(struct emu_queue *q)
{
	struct emu_fence *f;

	emu_sync_lock();
	f = emu_fence_ref(q->last);
	emu_sync_unlock();
	return f ? f : emu_fence_signaled();
}

/* The caller keeps others from submitting meanwhile. */
bool emu_queue_run_now(struct emu_queue *q, struct emu_job *job)
{
	bool now;

	emu_sync_lock();
	now = !q->n_jobs && !q->stop && inputs_ready(job);
	q->n_jobs += now;
	emu_sync_unlock();
	if (now)
		end_job(q, job, job->run(job));
	return now;
}

uint32_t emu_queue_length(struct emu_queue *q)
{
	uint32_t n;

	emu_sync_lock();
	n = q->n_jobs;
	emu_sync_unlock();
	return n;
}

void emu_queue_pause(struct emu_queue *q, uint64_t deadline_ns)
{
	emu_sync_lock();
	while (!q->stop && !atomic_load(&q->killed))
		if (!emu_sync_sleep_until(deadline_ns))
			break;
	emu_sync_unlock();
}
