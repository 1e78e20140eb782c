/* SPDX-License-Identifier: MIT */
/*
 * The caller waits in vfork(2), so a thread watches the process. A timer in it would not do: kernels deliver those of
 * CPU time on the way back to user mode (CONFIG_POSIX_CPU_TIMERS_TASK_WORK, kernel/time/posix-cpu-timers.c), and what
 * never goes back never hears of them. Loops in the kernel ask for SIGKILL.
 */
#include "trial.h"
#include "util.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_NS 1000000 /* how often it is looked at */

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_US UINT64_C(1000)

struct watch {
	uint64_t cpu_limit_ns;
	_Atomic pid_t pid; /* the kernel stores it before the process begins */
	atomic_bool over;  /* it has ended, but its number is not free yet */
	bool killed;
};

static uint64_t cpu_time_of(pid_t pid)
{
	struct timespec ts;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &ts) < 0)
		return 0;
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void *watch_process(void *data)
{
	const struct timespec pause = { .tv_nsec = LOOK_NS };
	struct watch *watch = data;

	while (!atomic_load(&watch->over)) {
		pid_t pid = atomic_load(&watch->pid);

		if (pid > 0 && !watch->killed && cpu_time_of(pid) >= watch->cpu_limit_ns)
			watch->killed = kill(pid, SIGKILL) == 0;
		(void)nanosleep(&pause, NULL);
	}
	return NULL;
}

/* Its thread needs no more than the process. */
static int start_watch(pthread_t *ret_thread, struct watch *watch)
{
	pthread_attr_t attr;
	int r = pthread_attr_init(&attr);

	if (r != 0)
		return r;
	r = pthread_attr_setstacksize(&attr, SVM_TRIAL_STACK);
	if (r == 0)
		r = pthread_create(ret_thread, &attr, watch_process, watch);
	pthread_attr_destroy(&attr);
	return r;
}

/*
 * Neither fork() nor vfork(): no signal at its end and no handlers, so that the application need not know of it and its
 * wait() does not see it; and nothing is copied. But ThreadSanitizer knows fork() alone: after any other way a lock of its
 * own may be held for ever in the process, or be repaired twice in memory that two processes share.
 */
static pid_t start_process(int (*fn)(void *arg), void *arg, void *stack, _Atomic pid_t *ret_pid)
{
#ifdef SVM_TSAN
	pid_t pid = fork();

	(void)stack;
	if (pid == 0)
		_exit(fn(arg));
	atomic_store(ret_pid, pid);
	return pid;
#else
	const int flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID;

	return clone(fn, (char *)stack + SVM_TRIAL_STACK, flags, arg, ret_pid);
#endif
}

int svm_trial_run(int (*fn)(void *arg), void *arg, void *stack, uint64_t cpu_limit_us)
{
	struct watch watch = { .cpu_limit_ns = cpu_limit_us * NS_PER_US };
	pthread_t thread;
	sigset_t all;
	sigset_t before;
	siginfo_t info;
	int status;
	pid_t pid;

	/* No handler of the application's may run in the process, on its memory, nor in the thread. */
	sigfillset(&all);
	if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
		return -EAGAIN;
	if (start_watch(&thread, &watch) != 0) {
		(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
		return -EAGAIN;
	}
	pid = start_process(fn, arg, stack, &watch.pid);
	/* Valgrind makes fork(2) of vfork(2), so it may still run. It is kept until nobody means it by its number. */
	while (pid >= 0 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | __WALL) < 0 &&
	       errno == EINTR)
		;
	atomic_store(&watch.over, true);
	(void)pthread_join(thread, NULL);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return -EAGAIN;
	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -EAGAIN;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return watch.killed ? -ETIME : -ECANCELED;
}
