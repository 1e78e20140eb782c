/* SPDX-License-Identifier: MIT */
/*
 * The real table: thin wrappers that turn -1 and errno into a negative errno. EINTR is passed on.
 */
#include "sys.h"
#include "move_probe.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <liburing.h>
#include <numaif.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S  INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)
/*
 * Linux cuts thread names here (prctl(2), PR_SET_NAME), and refuses longer ones in
 * pthread_setname_np().
 */
#define THREAD_NAME_SIZE 16

static int result(int ret)
{
	return ret < 0 ? -errno : ret;
}

static ssize_t result_size(ssize_t ret)
{
	return ret < 0 ? -errno : ret;
}

static int real_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		     void **ret_addr)
{
	void *map = mmap(addr, size, prot, flags, fd, (off_t)offset);

	if (map == MAP_FAILED)
		return -errno;
	*ret_addr = map;
	return 0;
}

static int real_mremap(void *old, size_t old_size, size_t new_size, int flags, void *new_addr,
		       void **ret_addr)
{
	void *map = mremap(old, old_size, new_size, flags, new_addr);

	if (map == MAP_FAILED)
		return -errno;
	*ret_addr = map;
	return 0;
}

static int real_munmap(void *addr, size_t size)
{
	return result(munmap(addr, size));
}

static int real_mprotect(void *addr, size_t size, int prot)
{
	return result(mprotect(addr, size, prot));
}

static int real_madvise(void *addr, size_t size, int advice)
{
	return result(madvise(addr, size, advice));
}

static int real_msync(void *addr, size_t size, int flags)
{
	return result(msync(addr, size, flags));
}

static int real_mincore(void *addr, size_t size, unsigned char *ret_pages)
{
	return result(mincore(addr, size, ret_pages));
}

static int real_mbind(void *addr, size_t size, int mode, const unsigned long *nodes,
		      unsigned long max_node, unsigned int flags)
{
	return result((int)mbind(addr, size, mode, nodes, max_node, flags));
}

static int real_move_pages(pid_t pid, unsigned long n, void **pages, const int *nodes, int *status,
			   int flags)
{
	return result((int)move_pages(pid, n, pages, nodes, status, flags));
}

static int real_getcpu(unsigned int *ret_cpu, unsigned int *ret_node)
{
	return result(getcpu(ret_cpu, ret_node));
}

static int real_memfd_create(const char *name, unsigned int flags)
{
	return result(memfd_create(name, flags));
}

static int real_ftruncate(int fd, uint64_t size)
{
	return result(ftruncate(fd, (off_t)size));
}

static int real_fallocate(int fd, int mode, uint64_t offset, uint64_t size)
{
	return result(fallocate(fd, mode, (off_t)offset, (off_t)size));
}

static int real_fcntl(int fd, int cmd, long arg)
{
	return result(fcntl(fd, cmd, arg));
}

static int real_ioctl(int fd, unsigned long request, void *arg)
{
	return result(ioctl(fd, request, arg));
}

static int real_userfaultfd(int flags)
{
	return result((int)syscall(SYS_userfaultfd, flags));
}

static int real_open(const char *path, int flags)
{
	return result(open(path, flags));
}

/*
 * A futex operation that changes the second word by nothing, atomically. It brings the page by fixup_user_fault()
 * without leave to drop the mmap lock, so a userfaultfd cannot make it wait (fault_in_user_writeable() of
 * kernel/futex/core.c, handle_userfault() of fs/userfaultfd.c). Should the word be a futex of somebody, and hold the number
 * compared with, one waiter may wake for nothing, as futex(2) allows.
 */
static int real_write_nothing(void *word)
{
	static uint32_t nobody_waits;

	return result((int)syscall(SYS_futex, &nobody_waits, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 1,
				   0L, word, FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0x800)));
}

static int real_close(int fd)
{
	int ret = result(close(fd));

	/*
	 * Linux has given the number back by then: trying again could close somebody else's file
	 * (close(2)).
	 */
	return ret == -EINTR ? 0 : ret;
}

static ssize_t real_read(int fd, void *buffer, size_t size)
{
	return result_size(read(fd, buffer, size));
}

static ssize_t real_pread(int fd, void *buffer, size_t size, uint64_t offset)
{
	return result_size(pread(fd, buffer, size, (off_t)offset));
}

static ssize_t real_write(int fd, const void *buffer, size_t size)
{
	return result_size(write(fd, buffer, size));
}

static ssize_t real_process_vm_readv(pid_t pid, void *local, size_t size, uint64_t remote)
{
	struct iovec to = { .iov_base = local, .iov_len = size };
	struct iovec from = { .iov_base = (void *)(uintptr_t)remote, .iov_len = size };

	return result_size(process_vm_readv(pid, &to, 1, &from, 1, 0));
}

static int real_eventfd(unsigned int initial, int flags)
{
	return result(eventfd(initial, flags));
}

static int real_epoll_create(int flags)
{
	return result(epoll_create1(flags));
}

static int real_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	return result(epoll_ctl(epfd, op, fd, event));
}

static struct timespec to_timespec(int64_t ns)
{
	return (struct timespec){ .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };
}

/* Rounded up: a timer must not be found early and waited for again and again. */
static int to_ms(int64_t ns)
{
	if (ns < 0)
		return -1;
	if (ns > INT64_C(0x7fffffff) * NS_PER_MS)
		return 0x7fffffff;
	return (int)((ns + NS_PER_MS - 1) / NS_PER_MS);
}

static int real_epoll_wait(int epfd, struct epoll_event *events, int n_events, int64_t timeout_ns)
{
	struct timespec ts;
	int ret;

	if (timeout_ns <= 0)
		return result(epoll_wait(epfd, events, n_events, timeout_ns < 0 ? -1 : 0));
	ts = to_timespec(timeout_ns);
	ret = result(epoll_pwait2(epfd, events, n_events, &ts, NULL));
	/* Unknown to kernels before 5.11, and to seccomp filters that are older than it. */
	if (ret == -ENOSYS || ret == -EPERM)
		ret = result(epoll_wait(epfd, events, n_events, to_ms(timeout_ns)));
	return ret;
}

static int real_poll_one(int fd, short events, int64_t timeout_ns)
{
	struct pollfd p = { .fd = fd, .events = events };
	struct timespec ts = to_timespec(timeout_ns < 0 ? 0 : timeout_ns);
	int ret;

	if (fd < 0)
		return -EBADF; /* poll(2) takes that for an entry to skip */
	ret = result(ppoll(&p, 1, timeout_ns < 0 ? NULL : &ts, NULL));
	if (ret > 0 && (p.revents & POLLNVAL))
		return -EBADF;
	return ret;
}

static int real_io_uring_init(unsigned int entries, struct io_uring *ring,
			      struct io_uring_params *params)
{
	return io_uring_queue_init_params(entries, ring, params);
}

static int real_io_uring_enter(struct io_uring *ring, unsigned int wait_nr, int64_t timeout_ns)
{
	struct __kernel_timespec ts;
	struct io_uring_cqe *cqe;

	if (wait_nr == 0)
		return io_uring_submit(ring);
	if (timeout_ns < 0)
		return io_uring_submit_and_wait(ring, wait_nr);
	ts.tv_sec = timeout_ns / NS_PER_S;
	ts.tv_nsec = timeout_ns % NS_PER_S;
	return io_uring_submit_and_wait_timeout(ring, &cqe, wait_nr, &ts, NULL);
}

static int real_socketpair(int domain, int type, int protocol, int fds[2])
{
	return result(socketpair(domain, type, protocol, fds));
}

static ssize_t real_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	return result_size(sendmsg(fd, msg, flags));
}

static ssize_t real_recvmsg(int fd, struct msghdr *msg, int flags)
{
	return result_size(recvmsg(fd, msg, flags));
}

static pid_t real_fork(void)
{
	return result(fork());
}

static int real_pidfd_open(pid_t pid, unsigned int flags)
{
	return result((int)syscall(SYS_pidfd_open, pid, flags));
}

static int real_kill(pid_t pid, int signal)
{
	return result(kill(pid, signal));
}

static int real_waitpid(pid_t pid, int *ret_status, int options)
{
	return result(waitpid(pid, ret_status, options));
}

static int real_thread_create(pthread_t *ret_thread, const char *name, void *(*fn)(void *),
			      void *arg)
{
	char short_name[THREAD_NAME_SIZE];
	sigset_t all, before;
	pthread_t thread;
	int ret;

	/* Inherited by the thread: a signal never finds it with everything open. */
	sigfillset(&all);
	ret = -pthread_sigmask(SIG_SETMASK, &all, &before);
	if (ret < 0)
		return ret;
	ret = -pthread_create(&thread, NULL, fn, arg);
	(void)pthread_sigmask(SIG_SETMASK, &before,
			      NULL); /* a mask the kernel gave us: cannot fail */
	if (ret < 0)
		return ret;

	(void)snprintf(short_name, sizeof(short_name), "%s", name);
	(void)pthread_setname_np(
		thread, short_name); /* only for people who look: a thread without is fine */
	*ret_thread = thread;
	return 0;
}

static int real_thread_set_cpu(pthread_t thread, unsigned int cpu)
{
	cpu_set_t set;

	if (cpu >= CPU_SETSIZE)
		return -EINVAL;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return -pthread_setaffinity_np(thread, sizeof(set), &set);
}

static uint64_t real_clock_ns(void)
{
	struct timespec ts;

	/* Fails only for a clock that the kernel does not have; it always has this one. */
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * (uint64_t)NS_PER_S + (uint64_t)ts.tv_nsec;
}

const struct svm_sys svm_sys_real = {
	.mmap = real_mmap,
	.mremap = real_mremap,
	.munmap = real_munmap,
	.mprotect = real_mprotect,
	.madvise = real_madvise,
	.write_nothing = real_write_nothing,
	.msync = real_msync,
	.mincore = real_mincore,
	.mbind = real_mbind,
	.move_pages = real_move_pages,
	.getcpu = real_getcpu,
	.memfd_create = real_memfd_create,
	.ftruncate = real_ftruncate,
	.fallocate = real_fallocate,
	.fcntl = real_fcntl,
	.ioctl = real_ioctl,
	.userfaultfd = real_userfaultfd,
	.move_spins = svm_move_probe,
	.open = real_open,
	.close = real_close,
	.read = real_read,
	.pread = real_pread,
	.write = real_write,
	.process_vm_readv = real_process_vm_readv,
	.eventfd = real_eventfd,
	.epoll_create = real_epoll_create,
	.epoll_ctl = real_epoll_ctl,
	.epoll_wait = real_epoll_wait,
	.poll_one = real_poll_one,
	.io_uring_init = real_io_uring_init,
	.io_uring_enter = real_io_uring_enter,
	.socketpair = real_socketpair,
	.sendmsg = real_sendmsg,
	.recvmsg = real_recvmsg,
	.fork = real_fork,
	.pidfd_open = real_pidfd_open,
	.kill = real_kill,
	.waitpid = real_waitpid,
	.thread_create = real_thread_create,
	.thread_set_cpu = real_thread_set_cpu,
	.clock_ns = real_clock_ns,
};

const struct svm_sys *svm_sys = &svm_sys_real;

int svm_sys_open(const char *path, int flags)
{
	int fd;

	do
		fd = svm_sys->open(path, flags);
	while (fd == -EINTR);
	return fd;
}
