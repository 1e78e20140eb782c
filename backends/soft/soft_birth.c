// SPDX-License-Identifier: MIT
/*
 * The fork that makes the process of a soft device.
 *
 * A child of a process with threads may not count on anything that needs locks of other parts of the
 * program: those of an allocator may be held for ever by a thread that is not there. Creating a
 * thread allocates. So the threads that the process will need are created here, before the fork, with
 * their stacks at the process's own addresses; each only leaves word of where its stack and its thread
 * control block are and waits for its end. The child inherits their memory and starts bare kernel
 * threads on it, which then look to libraries (thread-local variables, sanitizers) like the originals.
 */
#include "soft_internal.h"
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#if defined(__x86_64__)
#include <asm/prctl.h>
#endif

/* Room left between the frames of a waiting thread and those of its successor on the same stack. */
#define FRAMES_SIZE (UINT64_C(64) << 10)

struct birth {
	struct svm_soft_proc_args *args;
	_Atomic uint32_t n_ready;  /* futex: threads that wait */
	_Atomic uint32_t released; /* futex: 1, they may end */
	pid_t pid;
	int error;
};

/* What one waiting thread is given. */
struct seat {
	struct birth *birth;
	struct svm_soft_thread *thread;
	pthread_t id;
};

static uint64_t thread_pointer(void)
{
	uint64_t tp = 0;

#if defined(__x86_64__)
	/* Fails only for a bad code or address. */
	(void)syscall(SYS_arch_prctl, ARCH_GET_FS, &tp);
#elif defined(__aarch64__)
	__asm__("mrs %0, tpidr_el0" : "=r"(tp));
#else
#error "soft: how does a thread of this machine learn its thread pointer?"
#endif
	return tp;
}

/* The C library has the kernel clear the id that it keeps of a thread when the thread ends. Kernels
 * without CONFIG_CHECKPOINT_RESTORE do not say where: then the id stays that of the thread here. */
static uint64_t tid_addr(void)
{
	uint64_t addr = 0;

	return prctl(PR_GET_TID_ADDRESS, &addr, 0, 0, 0) ? 0 : addr;
}

static void *wait_main(void *arg)
{
	const struct seat *seat = arg;
	struct birth *birth = seat->birth;

	seat->thread->tls = thread_pointer();
	seat->thread->tid_addr = tid_addr();
	seat->thread->stack_top = ((uint64_t)(uintptr_t)__builtin_frame_address(0) - FRAMES_SIZE) &
				  ~UINT64_C(63);
	atomic_fetch_add(&birth->n_ready, 1);
	svm_soft_futex_wake(&birth->n_ready, 1);
	while (!atomic_load(&birth->released))
		svm_soft_futex_wait(&birth->released, 0);
	return NULL;
}

static void *fork_main(void *arg)
{
	struct birth *birth = arg;

	birth->pid = fork();
	if (birth->pid == 0)
		svm_soft_proc_run(birth->args);
	birth->error = birth->pid < 0 ? -errno : 0;
	return NULL;
}

/* A thread on stack i of the process's addresses. */
static int thread_create(const struct svm_soft_proc_args *args, uint32_t i, void *(*fn)(void *),
			 void *arg, pthread_t *ret_id)
{
	void *signal_stack = (void *)(uintptr_t)svm_soft_signal_base(args->own_base, i);
	void *stack = (void *)(uintptr_t)svm_soft_stack_base(args->own_base, i);
	pthread_attr_t attr;
	int ret;

	if (mprotect(signal_stack, SVM_SOFT_SIGNAL_SIZE, PROT_READ | PROT_WRITE) ||
	    mprotect(stack, SVM_SOFT_STACK_SIZE, PROT_READ | PROT_WRITE))
		return -errno;
	ret = -pthread_attr_init(&attr);
	if (ret)
		return ret;
	ret = -pthread_attr_setstack(&attr, stack, SVM_SOFT_STACK_SIZE);
	if (ret == 0)
		ret = -pthread_create(ret_id, &attr, fn, arg);
	(void)pthread_attr_destroy(&attr);
	return ret;
}

/* Fork in a thread of the initial stack, once all n others wait. */
static int fork_there(struct birth *birth, uint32_t n)
{
	pthread_t id = 0;
	uint32_t ready;
	int ret;

	while ((ready = atomic_load(&birth->n_ready)) != n)
		svm_soft_futex_wait(&birth->n_ready, ready);
	ret = thread_create(birth->args, SVM_SOFT_INITIAL_STACK, fork_main, birth, &id);
	if (ret)
		return ret;
	ret = -pthread_join(id, NULL);
	return ret ? ret : birth->error;
}

static int fork_with_threads(struct birth *birth)
{
	struct seat seats[SVM_SOFT_N_STACKS];
	struct svm_soft_proc_args *args = birth->args;
	uint32_t n = 0;
	int ret = 0;

	/* Control, then the engines. */
	for (; ret == 0 && n < args->n_engines + 1; n++) {
		uint32_t i = n ? n - 1 : SVM_SOFT_CONTROL_STACK;

		seats[n] = (struct seat){ .birth = birth, .thread = &args->threads[i] };
		ret = thread_create(args, i, wait_main, &seats[n], &seats[n].id);
		if (ret)
			break;
	}
	if (ret == 0)
		ret = fork_there(birth, n);
	atomic_store(&birth->released, 1);
	svm_soft_futex_wake(&birth->released, INT_MAX);
	while (n > 0)
		(void)pthread_join(seats[--n].id, NULL);
	return ret;
}

int svm_soft_fork(struct svm_soft_proc_args *args, pid_t *ret_pid)
{
	struct birth birth = { .args = args, .pid = -1 };
	void *stacks = (void *)(uintptr_t)svm_soft_guard_base(args->own_base, 0);
	sigset_t all;
	sigset_t old;
	int ret;

	/* No handler of the application may run in the child. The threads inherit the mask. */
	sigfillset(&all);
	ret = -pthread_sigmask(SIG_SETMASK, &all, &old);
	if (ret)
		return ret;
	ret = fork_with_threads(&birth);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	/* From now on the stacks are the child's alone, and a reservation here. */
	if (mmap(stacks, SVM_SOFT_OWN_SIZE - SVM_SOFT_CTL_SIZE, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED &&
	    ret == 0)
		ret = -errno;
	/* Also with an error: what was born must be ended. */
	*ret_pid = birth.pid;
	return ret;
}
