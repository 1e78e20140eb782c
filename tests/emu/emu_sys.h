/* SPDX-License-Identifier: MIT */
/*
 * System calls made without the C library's wrappers: the emulator interposes those, and a call
 * of its own must not come back to it. Results are 0 or positive, or a negative errno.
 */
#ifndef EMU_SYS_H
#define EMU_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

int emu_sys_openat(int dirfd, const char *path, int flags, mode_t mode);
int emu_sys_close(int fd);
int emu_sys_ioctl(int fd, unsigned long cmd, unsigned long arg);
int emu_sys_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		 void **ret_p);
int emu_sys_munmap(void *addr, size_t size);
int emu_sys_madvise(uint64_t addr, size_t size, int advice);
int emu_sys_fstat(int fd, struct stat *st);
int emu_sys_fstatat(int dirfd, const char *path, struct stat *st, int flags);
int emu_sys_fcntl(int fd, int cmd, unsigned long arg);
ssize_t emu_sys_readlinkat(int dirfd, const char *path, char *buf, size_t size);

/* Moves an internal fd out of the way of the program's numbers; closes the given one. */
int emu_fd_to_high(int fd);
/* A pipe: the read end is the program's (flags as open's), the write end the emulator's. */
int emu_sys_pipe(int cloexec, int *ret_rd, int *ret_wr);
/* True when no read end of the pipe is left anywhere. */
int emu_sys_pipe_orphaned(int wr);
uint64_t emu_now_ns(void);

#endif
