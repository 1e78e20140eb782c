/* SPDX-License-Identifier: MIT */
/*
 * Byte strings as calls of the public API on soft devices, with system calls that fail on the way: each failure is one
 * that the call's manual page lists.
 */
#include "fuzz_calls.h"
#include "sys.h"
#include "util.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {
	"soft:memory=4M",
	"soft:memory=4M:faults=off",
	"soft:memory=4M:host=none",
	"soft:memory=4M:faults=off:host=none:readonly=off",
	"soft:memory=6M:readonly=off:visible=off",
	"soft:memory=2M:peer=off",
};
static const struct fuzz_devices devices = { names, SVM_ARRAY_SIZE(names) };

/* ---- System calls that fail ------------------------------------------------------------------- */

enum call {
	NO_CALL,
	MMAP,
	MPROTECT,
	MADVISE,
	MEMFD,
	FTRUNCATE,
	FALLOCATE,
	READ,
	EVENTFD,
	EPOLL_CTL,
	EPOLL_WAIT,
	URING,
	SOCKETPAIR,
	FORK,
	THREAD,
};

static const struct {
	enum call call;
	int error;
} failures[] = {
	{ NO_CALL, 0 },	     { MMAP, -ENOMEM },	    { MPROTECT, -ENOMEM },   { MADVISE, -EAGAIN },
	{ MEMFD, -EMFILE },  { FTRUNCATE, -EINTR }, { FALLOCATE, -EINTR },   { READ, -EINTR },
	{ READ, -EAGAIN },   { EVENTFD, -EMFILE },  { EPOLL_CTL, -ENOMEM },  { EPOLL_WAIT, -EINTR },
	{ URING, -EINTR },   { URING, -EAGAIN },    { SOCKETPAIR, -EMFILE }, { FORK, -EAGAIN },
	{ THREAD, -EAGAIN }, { MEMFD, -ENOMEM },
};

static unsigned int failure;
static atomic_int left; /* calls until it fails */

static bool fails(enum call call)
{
	return failures[failure].call == call && atomic_fetch_sub(&left, 1) == 1;
}

#define FAIL(call)       \
	if (fails(call)) \
	return failures[failure].error

static int fail_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		     void **ret_addr)
{
	FAIL(MMAP);
	return svm_sys_real.mmap(addr, size, prot, flags, fd, offset, ret_addr);
}

static int fail_mprotect(void *addr, size_t size, int prot)
{
	FAIL(MPROTECT);
	return svm_sys_real.mprotect(addr, size, prot);
}

static int fail_madvise(void *addr, size_t size, int advice)
{
	FAIL(MADVISE);
	return svm_sys_real.madvise(addr, size, advice);
}

static int fail_memfd(const char *name, unsigned int flags)
{
	FAIL(MEMFD);
	return svm_sys_real.memfd_create(name, flags);
}

static int fail_ftruncate(int fd, uint64_t size)
{
	FAIL(FTRUNCATE);
	return svm_sys_real.ftruncate(fd, size);
}

static int fail_fallocate(int fd, int mode, uint64_t offset, uint64_t size)
{
	FAIL(FALLOCATE);
	return svm_sys_real.fallocate(fd, mode, offset, size);
}

static ssize_t fail_read(int fd, void *buffer, size_t size)
{
	FAIL(READ);
	return svm_sys_real.read(fd, buffer, size);
}

static int fail_eventfd(unsigned int initial, int flags)
{
	FAIL(EVENTFD);
	return svm_sys_real.eventfd(initial, flags);
}

static int fail_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	if (op == EPOLL_CTL_ADD)
		FAIL(EPOLL_CTL);
	return svm_sys_real.epoll_ctl(epfd, op, fd, event);
}

static int fail_epoll_wait(int epfd, struct epoll_event *events, int n_events, int64_t timeout_ns)
{
	FAIL(EPOLL_WAIT);
	return svm_sys_real.epoll_wait(epfd, events, n_events, timeout_ns);
}

static int fail_uring(struct io_uring *ring, unsigned int wait_nr, int64_t timeout_ns)
{
	FAIL(URING);
	return svm_sys_real.io_uring_enter(ring, wait_nr, timeout_ns);
}

static int fail_socketpair(int domain, int type, int protocol, int fds[2])
{
	FAIL(SOCKETPAIR);
	return svm_sys_real.socketpair(domain, type, protocol, fds);
}

static pid_t fail_fork(void)
{
	FAIL(FORK);
	return svm_sys_real.fork();
}

static int fail_thread(pthread_t *ret_thread, const char *name, void *(*fn)(void *), void *arg)
{
	FAIL(THREAD);
	return svm_sys_real.thread_create(ret_thread, name, fn, arg);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_start();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct svm_sys sys;
	struct fuzz_input input = { data, size };

	sys = svm_sys_real;
	sys.mmap = fail_mmap;
	sys.mprotect = fail_mprotect;
	sys.madvise = fail_madvise;
	sys.memfd_create = fail_memfd;
	sys.ftruncate = fail_ftruncate;
	sys.fallocate = fail_fallocate;
	sys.read = fail_read;
	sys.eventfd = fail_eventfd;
	sys.epoll_ctl = fail_epoll_ctl;
	sys.epoll_wait = fail_epoll_wait;
	sys.io_uring_enter = fail_uring;
	sys.socketpair = fail_socketpair;
	sys.fork = fail_fork;
	sys.thread_create = fail_thread;
	svm_sys = &sys;
	failure = (unsigned int)(fuzz_take(&input, 1) % SVM_ARRAY_SIZE(failures));
	atomic_store(&left, (int)fuzz_take(&input, 1) + 1);
	fuzz_calls(&input, &devices);
	svm_sys = &svm_sys_real;
	return 0;
}
