/* SPDX-License-Identifier: MIT */
/*
 * Every OS effect of the library goes through this table, so that tests can fail or fake any of them.
 * Entries return 0 or a positive result, or a negative errno (never errno itself); mmap-like
 * entries return the address or a negative errno cast to uintptr_t range: see svm_sys_mmap().
 */
#ifndef SVM_SYS_H
#define SVM_SYS_H

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

struct io_uring;
struct io_uring_params;

struct svm_sys {
	/* On success *ret_addr gets the address. */
	int (*mmap)(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		    void **ret_addr);
	int (*mremap)(void *old, size_t old_size, size_t new_size, int flags, void *new_addr,
		      void **ret_addr);
	int (*munmap)(void *addr, size_t size);
	int (*mprotect)(void *addr, size_t size, int prot);
	int (*madvise)(void *addr, size_t size, int advice);
	/* As a touch that writes, but nothing is written, and what a userfaultfd would have to bring is not waited for:
	 * -EFAULT. word is aligned. */
	int (*write_nothing)(void *word);
	int (*msync)(void *addr, size_t size, int flags);
	int (*mincore)(void *addr, size_t size, unsigned char *ret_pages);
	int (*mbind)(void *addr, size_t size, int mode, const unsigned long *nodes,
		     unsigned long max_node, unsigned int flags);
	int (*move_pages)(pid_t pid, unsigned long n, void **pages, const int *nodes, int *status,
			  int flags);
	int (*getcpu)(unsigned int *ret_cpu, unsigned int *ret_node);
	int (*memfd_create)(const char *name, unsigned int flags);
	int (*ftruncate)(int fd, uint64_t size);
	int (*fallocate)(int fd, int mode, uint64_t offset, uint64_t size);
	int (*fcntl)(int fd, int cmd, long arg);
	int (*ioctl)(int fd, unsigned long request, void *arg);
	int (*userfaultfd)(int flags);
	int (*move_spins)(void); /* not 0: UFFDIO_MOVE may never return, see move_probe.h */
	int (*open)(const char *path, int flags);
	int (*close)(int fd);
	ssize_t (*read)(int fd, void *buffer, size_t size);
	ssize_t (*pread)(int fd, void *buffer, size_t size, uint64_t offset);
	ssize_t (*write)(int fd, const void *buffer, size_t size);
	ssize_t (*process_vm_readv)(pid_t pid, void *local, size_t size, uint64_t remote);
	int (*eventfd)(unsigned int initial, int flags);
	int (*epoll_create)(int flags);
	int (*epoll_ctl)(int epfd, int op, int fd, struct epoll_event *event);
	int (*epoll_wait)(int epfd, struct epoll_event *events, int n_events, int64_t timeout_ns);
	int (*poll_one)(int fd, short events, int64_t timeout_ns); /* 1 ready, 0 timed out */
	int (*io_uring_init)(unsigned int entries, struct io_uring *ring,
			     struct io_uring_params *params);
	int (*io_uring_enter)(struct io_uring *ring, unsigned int wait_nr,
			      int64_t timeout_ns); /* submit and wait */
	int (*socketpair)(int domain, int type, int protocol, int fds[2]);
	ssize_t (*sendmsg)(int fd, const struct msghdr *msg, int flags);
	ssize_t (*recvmsg)(int fd, struct msghdr *msg, int flags);
	pid_t (*fork)(void);
	int (*pidfd_open)(pid_t pid, unsigned int flags);
	int (*kill)(pid_t pid, int signal);
	int (*waitpid)(pid_t pid, int *ret_status, int options); /* the pid */
	int (*thread_create)(pthread_t *ret_thread, const char *name, void *(*fn)(void *),
			     void *arg); /* all signals blocked */
	int (*thread_set_cpu)(pthread_t thread, unsigned int cpu);
	uint64_t (*clock_ns)(void); /* CLOCK_MONOTONIC */
};

extern const struct svm_sys svm_sys_real;
/* What the library uses: svm_sys_real unless a test put its own table here (before any space exists). */
extern const struct svm_sys *svm_sys;

/* open() of the table, again when interrupted. */
int svm_sys_open(const char *path, int flags);

#endif
