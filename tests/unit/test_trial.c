/* SPDX-License-Identifier: MIT */
/* Shown here: a trial says what came of it, ends whatever it does, and leaves nothing of itself. */
#include "fixture.h"
#include "trial.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define LIMIT_US 30000u
#define FOREVER	 1000000000u /* microseconds of CPU time that nothing here takes */
#define MS(n)                           \
	{                               \
		.tv_nsec = (n)*1000000L \
	}

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZED true
#elif defined(__has_feature)
#define THREAD_SANITIZED __has_feature(thread_sanitizer)
#else
#define THREAD_SANITIZED false
#endif

static _Alignas(64) char stack[SVM_TRIAL_STACK];
static _Atomic unsigned int n_signals;

static void count_signal(int number)
{
	(void)number;
	n_signals++;
}

/* Around each test: nobody hears of the process, and the thread's signals are as they were. */
static struct sigaction old_action;
static sigset_t old_set;

static int setup(void **state)
{
	struct sigaction action = { .sa_handler = count_signal };
	sigset_t set;

	(void)state;
	n_signals = 0;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	return sigaction(SIGCHLD, &action, &old_action) ||
	       pthread_sigmask(SIG_SETMASK, &set, &old_set);
}

static int teardown(void **state)
{
	sigset_t set;

	(void)state;
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &set), 0);
	for (int i = 1; i < SIGRTMIN; i++)
		assert_int_equal(sigismember(&set, i), i == SIGUSR2);
	/* ThreadSanitizer knows no other way than fork(). */
	if (!THREAD_SANITIZED)
		assert_int_equal(n_signals, 0);
	assert_int_equal(waitpid(-1, NULL, __WALL), -1);
	assert_int_equal(errno, ECHILD);
	return sigaction(SIGCHLD, &old_action, NULL) ||
	       pthread_sigmask(SIG_SETMASK, &old_set, NULL);
}

static int give(void *arg)
{
	return *(int *)arg;
}

static void what_it_returns_comes_back(void **state)
{
	(void)state;
	for (int i = 0; i < 256; i += 15)
		assert_int_equal(svm_trial_run(give, &i, stack, FOREVER), i);
}

struct look {
	pid_t pid;
	int fd;
};

static int look_around(void *arg)
{
	struct look *look = arg;
	sigset_t set;

	look->pid = getpid();
	if (sigprocmask(SIG_SETMASK, NULL, &set) < 0)
		return 2;
	for (int i = 1; i < 32; i++)
		if (i != SIGKILL && i != SIGSTOP && !sigismember(&set, i))
			return 3;
	return close(look->fd) == 0 ? 0 : 4;
}

static void it_has_the_memory_and_copies_of_files(void **state)
{
	struct look look = { .fd = dup(STDERR_FILENO) };

	(void)state;
	if (fixture_valgrind() || fixture_sanitized()) {
		print_message("the process has memory of its own under this tool\n");
		skip();
	}
	assert_true(look.fd >= 0);
	assert_int_equal(svm_trial_run(look_around, &look, stack, FOREVER), 0);
	assert_true(look.pid > 0 && look.pid != getpid());
	assert_int_equal(kill(look.pid, 0), -1);
	assert_int_equal(close(look.fd), 0);
}

/* Deaf to all signals that can be blocked. */
static int spin(void *arg)
{
	atomic_uint *n = arg;

	for (;;)
		atomic_fetch_add(n, 1u);
	return 0;
}

static void one_that_never_ends_is_killed(void **state)
{
	atomic_uint n = 0;
	unsigned int seen;

	(void)state;
	if (fixture_valgrind()) {
		print_message("valgrind does not say which process it is\n");
		skip();
	}
	assert_int_equal(svm_trial_run(spin, &n, stack, LIMIT_US), -ETIME);
	seen = atomic_load(&n);
	assert_true(seen > 0 || fixture_sanitized());
	/* It really is gone. */
	assert_int_equal(nanosleep(&(struct timespec)MS(5), NULL), 0);
	assert_int_equal(atomic_load(&n), seen);
}

static int sleep_long(void *arg)
{
	return nanosleep(arg, NULL) == 0 ? 7 : 1;
}

static void time_without_the_cpu_does_not_count(void **state)
{
	struct timespec pause = MS(LIMIT_US / 1000 * 5);

	(void)state;
	assert_int_equal(svm_trial_run(sleep_long, &pause, stack, LIMIT_US), 7);
}

static int die(void *arg)
{
	return kill(getpid(), *(int *)arg);
}

static void another_death_is_told_apart(void **state)
{
	int number = SIGKILL;

	(void)state;
	assert_int_equal(svm_trial_run(die, &number, stack, FOREVER), -ECANCELED);
}

static void *try_it(void *arg)
{
	static _Alignas(64) char stacks[4][SVM_TRIAL_STACK];
	atomic_uint n = 0;
	int i = *(int *)arg;

	for (unsigned int round = 0; round < 20; round++)
		if (svm_trial_run(give, &i, stacks[i], FOREVER) != i)
			return arg;
	return svm_trial_run(spin, &n, stacks[i], LIMIT_US) == -ETIME ? NULL : arg;
}

static void threads_try_at_once(void **state)
{
	pthread_t threads[4];
	int ids[4];

	(void)state;
	if (fixture_valgrind()) {
		print_message("valgrind does not say which process it is\n");
		skip();
	}
	for (int i = 0; i < 4; i++) {
		ids[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, try_it, &ids[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++) {
		void *wrong;

		assert_int_equal(pthread_join(threads[i], &wrong), 0);
		assert_null(wrong);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_it_returns_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(it_has_the_memory_and_copies_of_files, setup,
						teardown),
		cmocka_unit_test_setup_teardown(one_that_never_ends_is_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(time_without_the_cpu_does_not_count, setup,
						teardown),
		cmocka_unit_test_setup_teardown(another_death_is_told_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(threads_try_at_once, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
