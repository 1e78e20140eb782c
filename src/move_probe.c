/* SPDX-License-Identifier: MIT */
/*
 * Kernels up to and including 7.3 before their fix ("userfaultfd: fix UFFDIO_MOVE livelock on large folio with extra
 * references", in 7.3.4 and stable kernels of that time; Linux 6.12.117 spins) try again for ever to split such a page
 * (mm/userfaultfd.c, move_pages()). Only a fatal signal ends that, so it is tried in a process that gets one after
 * some CPU time.
 */
#include "move_probe.h"
#include "trial.h"
#include "uffd_uapi.h"
#include "util.h"
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define HUGE ((size_t)2 << 20)

#define CPU_LIMIT_US 100000 /* a move that splits a huge page takes some 10 */

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* What the process that tries says. Where no huge page is to be had now, one may come later; where the kernel makes none,
 * none ever does. */
enum { ENDS, NO_HUGE_PAGES, NOT_TRIED };

/* All of it is the caller's memory, which waits meanwhile. */
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

/* In a process of its own, see svm_trial_run(). */
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

	for (size_t i = 0; i < HUGE; i += PAGE)
		*(volatile char *)(trial->huge + i) = 1;
	/* 0 says that it is a huge page now, if it was none before; EINVAL, that there are none (madvise(2)). */
	if (madvise(trial->huge, HUGE, MADV_COLLAPSE) < 0)
		return errno == EINVAL ? NO_HUGE_PAGES : NOT_TRIED;
	/* A pipe holds a reference until it is read. */
	if (pipe2(pipe_fds, O_CLOEXEC) < 0 ||
	    vmsplice(pipe_fds[1], &piece, 1, SPLICE_F_NONBLOCK) < 0)
		return NOT_TRIED;
	uffd = open_uffd(trial);
	if (uffd < 0)
		return NOT_TRIED;
	(void)!ioctl(uffd, SVM_UFFDIO_MOVE, &move);
	return ENDS;
}

/* As svm_move_probe(). */
static int probe(void)
{
	const size_t size = SVM_TRIAL_STACK + 2 * HUGE + PAGE;
	struct trial trial;
	int said;

	trial.map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (trial.map == MAP_FAILED)
		return -EAGAIN;
	trial.huge = svm_ptr(svm_align_up(svm_addr(trial.map) + SVM_TRIAL_STACK, HUGE));
	trial.user = trial.map + SVM_TRIAL_STACK + 2 * HUGE;
	(void)madvise(trial.huge, HUGE, MADV_HUGEPAGE);
	said = svm_trial_run(try_move, &trial, trial.map, CPU_LIMIT_US);
	(void)munmap(trial.map, size);
	if (said == ENDS || said == NO_HUGE_PAGES)
		return 0;
	return said == -ETIME ? 1 : -EAGAIN;
}

int svm_move_probe(void)
{
	static atomic_int known = -1;
	int spins = atomic_load_explicit(&known, memory_order_relaxed);

	/* Two threads may try at the same time, and come to the same. */
	if (spins < 0) {
		spins = probe();
		if (spins >= 0)
			atomic_store_explicit(&known, spins, memory_order_relaxed);
	}
	return spins;
}
