// SPDX-License-Identifier: MIT
#include "emu_sys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "emu_util.h"

/* High enough to stay clear of small programs, below the usual soft limit of 1024. */
#define HIGH_FD 700

static long ret(long r)
{
	return r < 0 ? -errno : r;
}

int emu_sys_openat(int dirfd, const char *path, int flags, mode_t mode)
{
	return (int)ret(syscall(SYS_openat, dirfd, path, flags, mode));
}

int emu_sys_close(int fd)
{
	return (int)ret(syscall(SYS_close, fd));
}

int emu_sys_ioctl(int fd, unsigned long cmd, unsigned long arg)
{
	return (int)ret(syscall(SYS_ioctl, fd, cmd, arg));
}

int emu_sys_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		 void **ret_p)
{
	long r = syscall(SYS_mmap, addr, size, prot, flags, fd, offset);

	if (r == -1)
		return -errno;
	*ret_p = (void *)r;
	return 0;
}

int emu_sys_munmap(void *addr, size_t size)
{
	return (int)ret(syscall(SYS_munmap, addr, size));
}

int emu_sys_madvise(uint64_t addr, size_t size, int advice)
{
	return (int)ret(syscall(SYS_madvise, addr, size, advice));
}

int emu_sys_fstat(int fd, struct stat *st)
{
	return (int)ret(syscall(SYS_fstat, fd, st));
}

int emu_sys_fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
	return (int)ret(syscall(SYS_newfstatat, dirfd, path, st, flags));
}

int emu_sys_fcntl(int fd, int cmd, unsigned long arg)
{
	return (int)ret(syscall(SYS_fcntl, fd, cmd, arg));
}

ssize_t emu_sys_readlinkat(int dirfd, const char *path, char *buf, size_t size)
{
	return ret(syscall(SYS_readlinkat, dirfd, path, buf, size));
}

int emu_fd_to_high(int fd)
{
	int high = emu_sys_fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);

	/* A low limit of open files: the number stays where it is. */
	if (high < 0)
		return fd;
	if (emu_sys_close(fd) < 0)
		return high;
	return high;
}

int emu_sys_pipe(int cloexec, int *ret_rd, int *ret_wr)
{
	int fds[2];

	if (syscall(SYS_pipe2, fds, cloexec ? O_CLOEXEC : 0) < 0)
		return -errno;
	*ret_rd = fds[0];
	*ret_wr = emu_fd_to_high(fds[1]);
	if (*ret_wr == fds[1] && emu_sys_fcntl(fds[1], F_SETFD, FD_CLOEXEC) < 0)
		return 0;
	return 0;
}

int emu_sys_pipe_orphaned(int wr)
{
	struct pollfd p = { .fd = wr, .events = POLLOUT };
	struct timespec zero = { 0 };

	return syscall(SYS_ppoll, &p, 1, &zero, NULL, 8) == 1 && (p.revents & POLLERR);
}

uint64_t emu_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}
