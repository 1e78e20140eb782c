/* SPDX-License-Identifier: MIT */
/*
 * Kernels up to and including 7.3 before their fix ("userfaultfd: fix UFFDIO_MOVE livelock on large folio with extra
 * references", in 7.3.4 and stable kernels of that time; Linux 6.12.117 spins) try again for ever to split such a page
 * (mm/userfaultfd.c, move_pages()). Only a fatal signal ends that, so it is tried in a process that gets one after
 * some CPU time: time that passes while it does not run does not count.
 */
#include "move_probe.h"
#include "uffd_uapi.h"
#include "util.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE  ((size_t)4096)
#define HUGE  ((size_t)2 << 20)
#define STACK ((size_t)64 << 10)

#define CPU_LIMIT_US 100000 /* a move that splits a huge page takes some 10 */

#if defined(__SANITIZE_THREAD__)
#define WITH_TSAN
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WITH_TSAN
#endif
#endif

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* Exit statuses of the process that tries. */
enum { ENDS, NOT_TRIED };

/* All of it is the parent's memory, which waits meanwhile: as after vfork(2) the child shares it. */
struct trial {
	char *map;
	char *huge; /* one huge page */
	char *user; /* one page, where a piece of it shall go */
};

static int open_uffd(const struct trial *trial)
{
	struct uffdio_api api = { .api = UFFD_API, .features = SVM_UFFD_FEATURE_MOVE };
	struct uffdio_register reg = {
		.range = { .start = svm_addr(trial->user), .len = PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &reg) < 0)
		return -1;
	return fd;
}

static int limit_cpu_time(void)
{
	const struct itimerval limit = { .it_value = { .tv_usec = CPU_LIMIT_US } };
	const struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGPROF);
	if (sigaction(SIGPROF, &action, NULL) < 0 || sigprocmask(SIG_UNBLOCK, &set, NULL) < 0)
		return -1;
	return setitimer(ITIMER_PROF, &limit, NULL);
}

/* The process that tries. Nothing here may touch what the C library keeps about threads and files. */
static int try_move(void *arg)
{
	const struct trial *trial = arg;
	const struct iovec piece = { .iov_base = trial->huge + PAGE, .iov_len = PAGE };
	struct svm_uffdio_move move = {
		.dst = svm_addr(trial->user),
		.src = svm_addr(trial->huge),
		.len = PAGE,
	};
	int pipe_fds[2];
	int uffd;

	if (limit_cpu_time() < 0)
		_exit(NOT_TRIED);
	for (size_t i = 0; i < HUGE; i += PAGE)
		*(volatile char *)(trial->huge + i) = 1;
	/* 0 says that it is a huge page now, if it was none before. */
	if (madvise(trial->huge, HUGE, MADV_COLLAPSE) < 0)
		_exit(NOT_TRIED);
	/* A pipe holds a reference until it is read. */
	if (pipe2(pipe_fds, O_CLOEXEC) < 0 ||
	    vmsplice(pipe_fds[1], &piece, 1, SPLICE_F_NONBLOCK) < 0)
		_exit(NOT_TRIED);
	uffd = open_uffd(trial);
	if (uffd < 0)
		_exit(NOT_TRIED);
	(void)!ioctl(uffd, SVM_UFFDIO_MOVE, &move);
	_exit(ENDS);
}

/*
 * Neither fork() nor vfork(): no signal at its end and no handlers, so that the application need not know of it and its
 * wait() does not see it; and nothing is copied.
 */
static pid_t start_trial(struct trial *trial)
{
#ifdef WITH_TSAN
	/* ThreadSanitizer takes clone() for a fork and would repair, twice, a state that the two processes shared. Of
	 * the system call it knows nothing: with memory of its own the child can go on as if it were the parent. */
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_VFORK, NULL, NULL, NULL, 0L);

	if (pid == 0)
		_exit(try_move(trial));
	return pid;
#else
	return clone(try_move, trial->map + STACK, CLONE_VM | CLONE_VFORK, trial);
#endif
}

static int run_trial(struct trial *trial)
{
	sigset_t all;
	sigset_t before;
	int status;
	pid_t pid;

	/* No handler of the application's may run in the child, on its memory. */
	sigfillset(&all);
	if (sigprocmask(SIG_SETMASK, &all, &before) < 0)
		return 0;
	pid = start_trial(trial);
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return 0;
	while (waitpid(pid, &status, __WCLONE) < 0)
		if (errno != EINTR)
			return 0;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF;
}

static int probe(void)
{
	const size_t size = STACK + 2 * HUGE + PAGE;
	struct trial trial;
	int spins;

	trial.map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (trial.map == MAP_FAILED)
		return 0;
	trial.huge = svm_ptr(svm_align_up(svm_addr(trial.map) + STACK, HUGE));
	trial.user = trial.map + STACK + 2 * HUGE;
	(void)madvise(trial.huge, HUGE, MADV_HUGEPAGE);
	spins = run_trial(&trial);
	(void)munmap(trial.map, size);
	return spins;
}

int svm_move_probe(void)
{
	static atomic_int known = -1;
	int spins = atomic_load_explicit(&known, memory_order_relaxed);

	/* Two threads may try at the same time, and come to the same. */
	if (spins < 0) {
		spins = probe();
		atomic_store_explicit(&known, spins, memory_order_relaxed);
	}
	return spins;
}
