/* SPDX-License-Identifier: MIT */
/* Shown here: a worker runs what is queued in its thread, in order, all of it, and nothing before it is started. */
#include "worker.h"

#include "sys.h"
#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define N_TASKS	  1000u
#define N_QUEUERS 4u

struct task {
	struct svm_worker_task task;
	unsigned int id;
};

static struct {
	pthread_t thread; /* in which tasks have run */
	unsigned int ids[N_TASKS];
	unsigned int n;
} ran;

static void note(struct svm_worker_task *task)
{
	struct task *t = svm_container_of(task, struct task, task);

	/* Aborts where a lock is held. */
	svm_lock_assert_none();
	if (ran.n == 0)
		ran.thread = pthread_self();
	if (!pthread_equal(ran.thread, pthread_self()))
		abort();
	ran.ids[ran.n++] = t->id;
	/* It is ours again: the worker does not look at it any more. */
	memset(t, 0xff, sizeof(*t));
}

/* ---- Threads that are counted, or not to be had ------------------------------------------------ */

static struct svm_sys fake_sys;
static unsigned int n_threads;
static int thread_error;

static int fake_thread_create(pthread_t *ret_thread, const char *name, void *(*fn)(void *arg),
			      void *arg)
{
	if (thread_error)
		return thread_error;
	n_threads++;
	return svm_sys_real.thread_create(ret_thread, name, fn, arg);
}

static int setup(void **state)
{
	(void)state;
	memset(&ran, 0, sizeof(ran));
	n_threads = 0;
	thread_error = 0;
	fake_sys = svm_sys_real;
	fake_sys.thread_create = fake_thread_create;
	svm_sys = &fake_sys;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	svm_sys = &svm_sys_real;
	return 0;
}

/* ---- Tests ------------------------------------------------------------------------------------- */

static void no_thread_before_it_is_wanted(void **state)
{
	struct svm_worker worker;

	(void)state;
	svm_worker_init(&worker);
	assert_int_equal(n_threads, 0);
	svm_worker_finish(&worker);
	assert_int_equal(n_threads, 0);
}

static void tasks_run_in_order_in_one_thread(void **state)
{
	static struct task tasks[N_TASKS];
	struct svm_worker worker;

	(void)state;
	svm_worker_init(&worker);
	assert_int_equal(svm_worker_start(&worker), 0);
	for (unsigned int i = 0; i < N_TASKS; i++) {
		tasks[i] = (struct task){ .task.run = note, .id = i };
		svm_worker_queue(&worker, &tasks[i].task);
	}
	/* What is queued is done first. */
	svm_worker_finish(&worker);
	assert_int_equal(ran.n, N_TASKS);
	for (unsigned int i = 0; i < N_TASKS; i++)
		assert_int_equal(ran.ids[i], i);
	assert_false(pthread_equal(ran.thread, pthread_self()));
}

static void starting_twice_is_starting_once(void **state)
{
	struct task task = { .task.run = note, .id = 1 };
	struct svm_worker worker;

	(void)state;
	svm_worker_init(&worker);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(svm_worker_start(&worker), 0);
	assert_int_equal(n_threads, 1);
	svm_worker_queue(&worker, &task.task);
	svm_worker_finish(&worker);
	assert_int_equal(ran.n, 1);
}

static void without_a_thread_it_says_so_and_may_be_asked_again(void **state)
{
	struct task task = { .task.run = note, .id = 7 };
	struct svm_worker worker;

	(void)state;
	svm_worker_init(&worker);
	thread_error = -EAGAIN;
	assert_int_equal(svm_worker_start(&worker), -EAGAIN);
	assert_int_equal(svm_worker_start(&worker), -EAGAIN);
	thread_error = 0;
	assert_int_equal(svm_worker_start(&worker), 0);
	svm_worker_queue(&worker, &task.task);
	svm_worker_finish(&worker);
	assert_int_equal(ran.n, 1);
	assert_int_equal(ran.ids[0], 7);

	/* Nor does the end wait for a thread that never was. */
	svm_worker_init(&worker);
	thread_error = -EAGAIN;
	assert_int_equal(svm_worker_start(&worker), -EAGAIN);
	svm_worker_finish(&worker);
}

/* A task that blocks holds nobody up who queues. */
static sem_t begun;
static sem_t may_end;

static void block(struct svm_worker_task *task)
{
	sem_post(&begun);
	while (sem_wait(&may_end) < 0)
		;
	note(task);
}

static void queueing_does_not_wait_for_what_runs(void **state)
{
	struct task tasks[4];
	struct svm_worker worker;

	(void)state;
	assert_int_equal(sem_init(&begun, 0, 0), 0);
	assert_int_equal(sem_init(&may_end, 0, 0), 0);
	svm_worker_init(&worker);
	assert_int_equal(svm_worker_start(&worker), 0);
	tasks[0] = (struct task){ .task.run = block, .id = 0 };
	svm_worker_queue(&worker, &tasks[0].task);
	while (sem_wait(&begun) < 0)
		;
	for (unsigned int i = 1; i < 4; i++) {
		tasks[i] = (struct task){ .task.run = note, .id = i };
		svm_worker_queue(&worker, &tasks[i].task);
	}
	assert_int_equal(sem_post(&may_end), 0);
	svm_worker_finish(&worker);
	assert_int_equal(ran.n, 4);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(ran.ids[i], i);
	sem_destroy(&begun);
	sem_destroy(&may_end);
}

/* A task may queue the next one, itself too. */
static struct svm_worker own_worker;
static unsigned int n_again;

static void again(struct svm_worker_task *task)
{
	if (++n_again < 100)
		svm_worker_queue(&own_worker, task);
	else
		sem_post(&may_end);
}

static void a_task_may_queue_itself_again(void **state)
{
	struct svm_worker_task task = { .run = again };

	(void)state;
	n_again = 0;
	assert_int_equal(sem_init(&may_end, 0, 0), 0);
	svm_worker_init(&own_worker);
	assert_int_equal(svm_worker_start(&own_worker), 0);
	svm_worker_queue(&own_worker, &task);
	while (sem_wait(&may_end) < 0)
		;
	svm_worker_finish(&own_worker);
	assert_int_equal(n_again, 100);
	sem_destroy(&may_end);
}

/* Many threads queue, and each one's tasks are in its order. */
struct queuer {
	struct svm_worker *worker;
	struct task *tasks;
	unsigned int first;
	pthread_t thread;
};

static void *queue_all(void *arg)
{
	struct queuer *q = arg;

	for (unsigned int i = 0; i < N_TASKS / N_QUEUERS; i++) {
		q->tasks[i] = (struct task){ .task.run = note, .id = q->first + i };
		svm_worker_queue(q->worker, &q->tasks[i].task);
	}
	return NULL;
}

static void threads_queue_at_once(void **state)
{
	static struct task tasks[N_TASKS];
	struct queuer queuers[N_QUEUERS];
	unsigned int next[N_QUEUERS] = { 0 };
	struct svm_worker worker;

	(void)state;
	svm_worker_init(&worker);
	assert_int_equal(svm_worker_start(&worker), 0);
	for (unsigned int q = 0; q < N_QUEUERS; q++) {
		queuers[q] = (struct queuer){ .worker = &worker,
					      .tasks = tasks + q * (N_TASKS / N_QUEUERS),
					      .first = q * (N_TASKS / N_QUEUERS) };
		assert_int_equal(pthread_create(&queuers[q].thread, NULL, queue_all, &queuers[q]),
				 0);
	}
	for (unsigned int q = 0; q < N_QUEUERS; q++)
		assert_int_equal(pthread_join(queuers[q].thread, NULL), 0);
	svm_worker_finish(&worker);
	assert_int_equal(ran.n, N_TASKS);
	for (unsigned int i = 0; i < N_TASKS; i++) {
		unsigned int q = ran.ids[i] / (N_TASKS / N_QUEUERS);

		assert_int_equal(ran.ids[i], queuers[q].first + next[q]++);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(no_thread_before_it_is_wanted, setup, teardown),
		cmocka_unit_test_setup_teardown(tasks_run_in_order_in_one_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(starting_twice_is_starting_once, setup, teardown),
		cmocka_unit_test_setup_teardown(without_a_thread_it_says_so_and_may_be_asked_again,
						setup, teardown),
		cmocka_unit_test_setup_teardown(queueing_does_not_wait_for_what_runs, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_task_may_queue_itself_again, setup, teardown),
		cmocka_unit_test_setup_teardown(threads_queue_at_once, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
