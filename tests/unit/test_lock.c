/* SPDX-License-Identifier: MIT */
/*
 * Shown here: locks exclude, writers are preferred, and the order checker aborts on each breach.
 * The checker is a part of debug builds; it is compiled into this program whatever the build is.
 */
#undef SVM_DEBUG
#define SVM_DEBUG 1
#include "lock.c" // NOLINT(bugprone-suspicious-include): see above
#include "util.h"
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <cmocka.h>

static struct svm_lock space, block, fence, leaf, fence2;
static struct svm_rwlock ranges;

static int setup(void **state)
{
	(void)state;
	svm_lock_init(&space, SVM_RANK_SPACE);
	svm_rwlock_init(&ranges, SVM_RANK_RANGE_TREE);
	svm_lock_init(&block, SVM_RANK_BLOCK);
	svm_lock_init(&fence, SVM_RANK_FENCE);
	svm_lock_init(&fence2, SVM_RANK_FENCE);
	svm_lock_init(&leaf, SVM_RANK_LEAF);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	svm_lock_finish(&space);
	svm_rwlock_finish(&ranges);
	svm_lock_finish(&block);
	svm_lock_finish(&fence);
	svm_lock_finish(&fence2);
	svm_lock_finish(&leaf);
	return 0;
}

static void rising_order_is_fine(void **state)
{
	(void)state;
	svm_lock_assert_none();
	svm_lock(&space);
	svm_rwlock_read(&ranges);
	svm_lock(&block);
	svm_lock(&leaf);
	svm_lock_assert_held(&space);
	svm_lock_assert_held(&leaf);
	/* Released in any order. */
	svm_unlock(&space);
	svm_unlock(&leaf);
	svm_lock(&fence);
	svm_unlock(&block);
	svm_rwlock_unlock(&ranges);
	svm_unlock(&fence);
	svm_lock_assert_none();
	svm_rwlock_write(&ranges);
	svm_rwlock_unlock(&ranges);
	svm_lock_assert_none();
}

static void falling_order(void)
{
	svm_lock(&block);
	svm_lock(&space);
}

static void falling_order_rwlock(void)
{
	svm_lock(&block);
	svm_rwlock_read(&ranges);
}

static void falling_order_after_release(void)
{
	svm_lock(&space);
	svm_lock(&block);
	svm_unlock(&space);
	svm_rwlock_write(&ranges);
}

static void equal_rank(void)
{
	svm_lock(&fence);
	svm_lock(&fence2);
}

static void same_lock_twice(void)
{
	svm_lock(&leaf);
	svm_lock(&leaf);
}

static void read_twice(void)
{
	svm_rwlock_read(&ranges);
	svm_rwlock_read(&ranges);
}

static void release_not_held(void)
{
	svm_unlock(&block);
}

static void assert_held_of_free_lock(void)
{
	svm_lock(&space);
	svm_lock_assert_held(&block);
}

static void assert_none_with_lock(void)
{
	svm_lock(&leaf);
	svm_lock_assert_none();
}

static void no_rank(void)
{
	struct svm_lock lock;

	svm_lock_init(&lock, (enum svm_lock_rank)0);
	svm_lock(&lock);
}

static void breach_aborts(void **state)
{
	static const struct {
		void (*fn)(void);
		const char *says;
	} breaches[] = {
		{ falling_order, "libsvm: locks are taken in wrong order\n" },
		{ falling_order_rwlock, "libsvm: locks are taken in wrong order\n" },
		{ falling_order_after_release, "libsvm: locks are taken in wrong order\n" },
		{ equal_rank, "libsvm: locks are taken in wrong order\n" },
		{ same_lock_twice, "libsvm: a lock is taken twice by one thread\n" },
		{ read_twice, "libsvm: a lock is taken twice by one thread\n" },
		{ release_not_held, "libsvm: a lock is released that is not held\n" },
		{ assert_held_of_free_lock, "libsvm: a lock that is needed here is not held\n" },
		{ assert_none_with_lock, "libsvm: a thread is about to wait with a lock held\n" },
		{ no_rank, "libsvm: a lock has no rank\n" },
	};

	(void)state;
	for (unsigned int i = 0; i < SVM_ARRAY_SIZE(breaches); i++) {
		char said[128] = "";
		int fds[2];
		int status;
		ssize_t n;
		pid_t pid;

		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			const struct rlimit no_core = { 0, 0 };

			/* CMocka catches the signal of a test; this one is to kill. */
			if (signal(SIGABRT, SIG_DFL) == SIG_ERR ||
			    setrlimit(RLIMIT_CORE, &no_core) || dup2(fds[1], STDERR_FILENO) < 0)
				_exit(2);
			breaches[i].fn();
			_exit(0);
		}
		assert_int_equal(close(fds[1]), 0);
		n = read(fds[0], said, sizeof(said) - 1);
		assert_true(n >= 0);
		assert_int_equal(close(fds[0]), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_string_equal(said, breaches[i].says);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGABRT);
	}
}

static unsigned int counter; /* guarded by block */

static void *count_up(void *arg)
{
	(void)arg;
	for (int i = 0; i < 20000; i++) {
		svm_lock(&block);
		counter++;
		svm_unlock(&block);
	}
	return NULL;
}

static void threads_exclude_each_other(void **state)
{
	pthread_t threads[4];

	(void)state;
	counter = 0;
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_up, NULL), 0);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(counter, 80000);
}

static int writer_ready; /* guarded by ranges */

static void *write_once(void *arg)
{
	sem_t *about_to_wait = arg;

	sem_post(about_to_wait);
	svm_rwlock_write(&ranges);
	writer_ready = 1;
	svm_rwlock_unlock(&ranges);
	return NULL;
}

/* While a reader is in and a writer waits, a second reader must not get in before the writer. */
static void writers_are_preferred(void **state)
{
	sem_t about_to_wait;
	pthread_t thread;
	int ret;

	(void)state;
	writer_ready = 0;
	assert_int_equal(sem_init(&about_to_wait, 0, 0), 0);
	svm_rwlock_read(&ranges);
	assert_int_equal(pthread_create(&thread, NULL, write_once, &about_to_wait), 0);
	while (sem_wait(&about_to_wait) < 0)
		assert_int_equal(errno, EINTR);
	/* The writer shows itself to others as soon as it waits: reading is then refused. */
	do {
		ret = pthread_rwlock_tryrdlock(&ranges.rwlock);
		if (ret == 0) {
			assert_int_equal(pthread_rwlock_unlock(&ranges.rwlock), 0);
			sched_yield();
		}
	} while (ret == 0);
	assert_int_equal(ret, EBUSY);
	assert_int_equal(writer_ready, 0);
	svm_rwlock_unlock(&ranges);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(writer_ready, 1);
	assert_int_equal(sem_destroy(&about_to_wait), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(rising_order_is_fine, setup, teardown),
		cmocka_unit_test_setup_teardown(breach_aborts, setup, teardown),
		cmocka_unit_test_setup_teardown(threads_exclude_each_other, setup, teardown),
		cmocka_unit_test_setup_teardown(writers_are_preferred, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
