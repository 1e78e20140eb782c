/* SPDX-License-Identifier: MIT */
/*
 * Shown here: entries of the real table work on this kernel, and failures are negative errnos,
 * never -1.
 */
#include "fixture.h"
#include "sys.h"
#include "uffd_uapi.h"
#include "util.h"
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <libsvm/types.h>
#include <numaif.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define PAGE ((size_t)SVM_PAGE_SIZE)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static const struct svm_sys *const sys = &svm_sys_real;

static void every_entry_is_there(void **state)
{
	const char *table = (const char *)sys;

	(void)state;
	assert_ptr_equal(svm_sys, sys);
	for (size_t i = 0; i < sizeof(*sys); i += sizeof(void (*)(void))) {
		void (*entry)(void);

		memcpy(&entry, table + i, sizeof(entry));
		assert_true(entry != NULL);
	}
}

static void memory(void **state)
{
	const char text[] = "second page";
	char copy[sizeof(text)];
	void *map;
	void *moved;
	int fd;

	(void)state;
	fd = sys->memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0);
	assert_int_equal(sys->ftruncate(fd, 2 * PAGE), 0);
	assert_int_equal(sys->mmap(NULL, SVM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
				   SVM_PAGE_SIZE, &map),
			 0);
	memcpy(map, text, sizeof(text));
	assert_int_equal(pread(fd, copy, sizeof(copy), SVM_PAGE_SIZE), sizeof(copy));
	assert_string_equal(copy, text);
	assert_int_equal(sys->fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					SVM_PAGE_SIZE, SVM_PAGE_SIZE),
			 0);
	assert_int_equal(*(char *)map, 0);
	assert_int_equal(sys->fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_int_equal(sys->ftruncate(fd, SVM_PAGE_SIZE), -EPERM);
	assert_int_equal(sys->mremap(map, SVM_PAGE_SIZE, 2 * PAGE, MREMAP_MAYMOVE, NULL, &moved),
			 0);
	assert_int_equal(sys->mprotect(moved, SVM_PAGE_SIZE, PROT_READ), 0);
	assert_int_equal(sys->madvise(moved, SVM_PAGE_SIZE, MADV_DONTNEED), 0);
	assert_int_equal(sys->munmap(moved, 2 * PAGE), 0);
	assert_int_equal(sys->close(fd), 0);

	map = &fd;
	assert_int_equal(sys->mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &map),
			 -EINVAL);
	assert_ptr_equal(map, &fd); /* written only on success */
	assert_int_equal(sys->munmap((void *)1, 1), -EINVAL);
	assert_int_equal(sys->mprotect((void *)1, 1, PROT_READ), -EINVAL);
	assert_int_equal(sys->madvise((void *)1, 1, MADV_DONTNEED), -EINVAL);
	assert_int_equal(sys->mremap((void *)1, 1, 1, 0, NULL, &map), -EINVAL);
	assert_int_equal(sys->fallocate(-1, 0, 0, 1), -EBADF);
	assert_int_equal(sys->ftruncate(-1, 1), -EBADF);
	assert_int_equal(sys->memfd_create("test", ~0u), -EINVAL);
}

static void numa(void **state)
{
	const unsigned long node0 = 1;
	unsigned int cpu = ~0u;
	unsigned int node = ~0u;
	int status = -1;
	void *map;
	int ret;

	(void)state;
	assert_int_equal(sys->getcpu(&cpu, &node), 0);
	assert_true(cpu < CPU_SETSIZE);
	assert_int_equal(sys->mmap(NULL, SVM_PAGE_SIZE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &map),
			 0);
	ret = sys->mbind(map, SVM_PAGE_SIZE, MPOL_PREFERRED, &node0, 8 * sizeof(node0), 0);
	if (ret == -ENOSYS) {
		assert_int_equal(sys->munmap(map, SVM_PAGE_SIZE), 0);
		print_message("the kernel is built without NUMA\n");
		skip();
	}
	assert_int_equal(ret, 0);
	*(char *)map = 1;
	assert_int_equal(sys->move_pages(0, 1, &map, NULL, &status, 0), 0);
	assert_int_equal(status, 0);
	assert_int_equal(sys->mbind(map, SVM_PAGE_SIZE, 999, NULL, 0, 0), -EINVAL);
	assert_int_equal(sys->move_pages(0, 1, &map, NULL, &status, ~0), -EINVAL);
	assert_int_equal(sys->munmap(map, SVM_PAGE_SIZE), 0);
}

static void files(void **state)
{
	char byte = 0;
	int fd;
	int n = -1;

	(void)state;
	if (fixture_valgrind()) {
		print_message("valgrind knows no userfaultfd(2)\n");
		skip();
	}
	fd = sys->open("/dev/zero", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(sys->read(fd, &byte, 1), 1);
	assert_int_equal(sys->write(fd, &byte, 1), 1);
	assert_int_equal(sys->fcntl(fd, F_GETFD, 0), FD_CLOEXEC);
	assert_int_equal(sys->ioctl(fd, FIONREAD, &n), -ENOTTY);
	assert_int_equal(sys->close(fd), 0);
	assert_int_equal(sys->close(fd), -EBADF);
	assert_int_equal(sys->open("/does/not/exist", O_RDONLY), -ENOENT);
	assert_int_equal(sys->read(-1, &byte, 1), -EBADF);
	assert_int_equal(sys->write(-1, &byte, 1), -EBADF);
	assert_int_equal(sys->fcntl(-1, F_GETFD, 0), -EBADF);
	assert_int_equal(sys->userfaultfd(~0), -EINVAL);
}

static void waiting_ends_on_time_and_on_events(void **state)
{
	const int64_t few_ms = 3000000;
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 42 };
	uint64_t one = 1;
	uint64_t before;
	int epfd;
	int fd;

	(void)state;
	fd = sys->eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(fd >= 0);
	epfd = sys->epoll_create(EPOLL_CLOEXEC);
	assert_true(epfd >= 0);
	assert_int_equal(sys->epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event), 0);
	assert_int_equal(sys->epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event), -EEXIST);
	event.data.u64 = 0;

	before = sys->clock_ns();
	assert_int_equal(sys->epoll_wait(epfd, &event, 1, few_ms), 0);
	assert_int_equal(sys->poll_one(fd, POLLIN, few_ms), 0);
	assert_true(sys->clock_ns() - before >= 2 * (uint64_t)few_ms);
	assert_int_equal(sys->epoll_wait(epfd, &event, 1, 0), 0);
	assert_int_equal(sys->poll_one(fd, POLLIN, 0), 0);

	assert_int_equal(sys->write(fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(sys->epoll_wait(epfd, &event, 1, -1), 1);
	assert_int_equal(event.data.u64, 42);
	assert_int_equal(sys->epoll_wait(epfd, &event, 1, few_ms), 1);
	assert_int_equal(sys->poll_one(fd, POLLIN, -1), 1);
	assert_int_equal(sys->poll_one(fd, POLLIN, INT64_MAX), 1);

	assert_int_equal(sys->close(fd), 0);
	assert_int_equal(sys->close(epfd), 0);
	assert_int_equal(sys->poll_one(fd, POLLIN, 0), -EBADF);
	assert_int_equal(sys->poll_one(-1, POLLIN, 0), -EBADF);
	assert_int_equal(sys->epoll_wait(epfd, &event, 1, 0), -EBADF);
	assert_int_equal(sys->epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event), -EBADF);
	assert_int_equal(sys->epoll_create(~0), -EINVAL);
	assert_int_equal(sys->eventfd(0, ~0), -EINVAL);
}

static void io_uring_waits(void **state)
{
	struct io_uring_params params = { 0 };
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	uint64_t before;
	int ret = sys->io_uring_init(4, &ring, &params);

	(void)state;
	if (ret == -EPERM || ret == -ENOSYS || ret == -EACCES) {
		print_message("io_uring is denied here: %s\n", strerror(-ret));
		skip();
	}
	assert_int_equal(ret, 0);
	before = sys->clock_ns();
	assert_int_equal(sys->io_uring_enter(&ring, 1, 3000000), -ETIME);
	assert_true(sys->clock_ns() - before >= 3000000);
	assert_int_equal(sys->io_uring_enter(&ring, 0, 0), 0);
	io_uring_prep_nop(io_uring_get_sqe(&ring));
	assert_int_equal(sys->io_uring_enter(&ring, 1, -1), 1);
	assert_int_equal(io_uring_peek_cqe(&ring, &cqe), 0);
	io_uring_cqe_seen(&ring, cqe);
	io_uring_queue_exit(&ring);
	assert_int_equal(sys->io_uring_init(0, &ring, &params), -EINVAL);
}

static void messages_carry_files(void **state)
{
	char byte = 'x';
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	int fds[2];
	int got;

	(void)state;
	assert_int_equal(sys->socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(&control.header), &fds[0], sizeof(int));
	assert_int_equal(sys->sendmsg(fds[0], &msg, 0), 1);
	memset(&control, 0, sizeof(control));
	byte = 0;
	assert_int_equal(sys->recvmsg(fds[1], &msg, MSG_CMSG_CLOEXEC), 1);
	assert_int_equal(byte, 'x');
	memcpy(&got, CMSG_DATA(&control.header), sizeof(int));
	assert_int_equal(sys->close(got), 0);
	assert_int_equal(sys->close(fds[0]), 0);
	msg.msg_control = NULL;
	msg.msg_controllen = 0;
	assert_int_equal(sys->sendmsg(fds[1], &msg, MSG_NOSIGNAL), -EPIPE);
	assert_int_equal(sys->close(fds[1]), 0);
	assert_int_equal(sys->recvmsg(fds[1], &msg, 0), -EBADF);
	assert_int_equal(sys->socketpair(-1, 0, 0, fds), -EAFNOSUPPORT);
}

static void processes(void **state)
{
	const char word[] = "from another process";
	char copy[sizeof(word)];
	int status;
	int pidfd;
	pid_t pid;

	(void)state;
	if (fixture_valgrind()) {
		print_message("valgrind knows no pidfd_open(2)\n");
		skip();
	}
	pid = sys->fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		for (;;)
			pause(); /* until it is killed */
	}
	memset(copy, 0, sizeof(copy));
	assert_int_equal(sys->process_vm_readv(pid, copy, sizeof(copy), svm_addr(word)),
			 sizeof(copy));
	assert_string_equal(copy, word);
	assert_int_equal(sys->process_vm_readv(pid, copy, sizeof(copy), 8), -EFAULT);
	pidfd = sys->pidfd_open(pid, 0);
	assert_true(pidfd >= 0);
	assert_int_equal(sys->poll_one(pidfd, POLLIN, 0), 0);
	assert_int_equal(sys->waitpid(pid, &status, WNOHANG), 0);
	assert_int_equal(sys->kill(pid, SIGKILL), 0);
	assert_int_equal(sys->poll_one(pidfd, POLLIN, -1), 1);
	assert_int_equal(sys->waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(sys->close(pidfd), 0);
	assert_int_equal(sys->kill(pid, SIGKILL), -ESRCH);
	assert_int_equal(sys->waitpid(pid, &status, 0), -ECHILD);
	assert_int_equal(sys->pidfd_open(-1, 0), -EINVAL);
}

struct thread_report {
	char name[16];
	sigset_t mask;
	int cpu;
};

static void *report(void *arg)
{
	struct thread_report *r = arg;

	if (pthread_getname_np(pthread_self(), r->name, sizeof(r->name)) ||
	    pthread_sigmask(SIG_SETMASK, NULL, &r->mask))
		return NULL;
	r->cpu = sched_getcpu();
	return arg;
}

static void *wait_then_report(void *arg)
{
	struct thread_report *r = arg;
	int fd = r->cpu;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) != sizeof(count))
		return NULL;
	return report(arg);
}

static void threads_are_named_bound_and_blocked(void **state)
{
	struct thread_report r = { .cpu = -1 };
	const uint64_t one = 1;
	cpu_set_t allowed;
	sigset_t before;
	sigset_t after;
	pthread_t thread;
	unsigned int cpu = 0;
	void *done;
	int fd;

	(void)state;
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
	assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	while (!CPU_ISSET(cpu, &allowed))
		cpu++;
	fd = sys->eventfd(0, EFD_CLOEXEC);
	assert_true(fd >= 0);
	r.cpu = fd;
	/* Longer than a name can be: cut, not refused. */
	assert_int_equal(
		sys->thread_create(&thread, "svm-thread-with-long-name", wait_then_report, &r), 0);
	assert_int_equal(sys->thread_set_cpu(thread, cpu), 0);
	assert_int_equal(sys->thread_set_cpu(thread, ~0u), -EINVAL);
	assert_int_equal(sys->write(fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(pthread_join(thread, &done), 0);
	assert_ptr_equal(done, &r);
	assert_string_equal(r.name, "svm-thread-with");
	assert_int_equal(r.cpu, cpu);
	for (int s = 1; s < NSIG; s++) {
		/* The two that cannot be blocked, and those that the C library keeps. */
		if (s != SIGKILL && s != SIGSTOP && (s < 32 || s >= SIGRTMIN))
			assert_int_equal(sigismember(&r.mask, s), 1);
	}
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
	for (int s = 1; s < NSIG; s++)
		assert_int_equal(sigismember(&after, s), sigismember(&before, s));
	assert_int_equal(sys->close(fd), 0);
}

static bool kernel_moves(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = SVM_UFFD_FEATURE_MOVE };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	bool moves = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;

	if (fd >= 0)
		assert_int_equal(close(fd), 0);
	return moves;
}

static bool huge_page_is_to_be_had(void)
{
	const uint64_t huge = UINT64_C(2) << 20;
	char *map =
		mmap(NULL, 2 * huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *start = (char *)(((uintptr_t)map + huge - 1u) & ~(uintptr_t)(huge - 1u));
	bool had;

	assert_ptr_not_equal(map, MAP_FAILED);
	memset(start, 1, huge);
	had = madvise(start, huge, MADV_COLLAPSE) == 0;
	assert_int_equal(munmap(map, 2 * huge), 0);
	return had;
}

/* Before anybody has an answer: one file descriptor is left, and the trial needs more. */
static void without_a_trial_there_is_no_answer(void **state)
{
	struct rlimit before;
	struct rlimit few;
	int fd = dup(STDERR_FILENO);
	int answer;

	(void)state;
	assert_true(fd >= 0);
	if (fixture_valgrind() || !kernel_moves() || !huge_page_is_to_be_had()) {
		assert_int_equal(close(fd), 0);
		print_message(
			"no UFFDIO_MOVE or no huge page here, or valgrind with limits of its own\n");
		skip();
	}
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = (rlim_t)fd + 1u;
	assert_int_equal(close(fd), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	answer = sys->move_spins();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(answer, -EAGAIN);
	/* A huge page is not to be had at each moment. */
	for (unsigned int i = 0; i < 100 && answer < 0; i++)
		answer = sys->move_spins();
	assert_true(answer >= 0);
}

/* The process in which it is tried is gone, and nobody heard of it. */
static void move_probe_leaves_nothing(void **state)
{
	int answer = sys->move_spins();

	(void)state;
	assert_true(answer == 0 || answer == 1 || answer == -EAGAIN);
	if (answer >= 0)
		assert_int_equal(sys->move_spins(), answer);
	assert_int_equal(waitpid(-1, NULL, __WALL), -1);
	assert_int_equal(errno, ECHILD);
}

static void clock_moves_forward(void **state)
{
	uint64_t a = sys->clock_ns();
	uint64_t b = sys->clock_ns();

	(void)state;
	assert_true(a > 0);
	assert_true(b >= a);
}

static void writing_nothing_brings_a_page_and_changes_no_byte(void **state)
{
	uint32_t *word = NULL;

	(void)state;
	if (fixture_valgrind()) {
		print_message("valgrind takes an address that may not be written for a mistake\n");
		skip();
	}
	assert_int_equal(sys->mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				   -1, 0, (void **)&word),
			 0);
	for (unsigned int i = 0; i < 2; i++) {
		unsigned char resident = 0;

		*word = i ? UINT32_C(0xfffff800) : UINT32_C(0x12345678);
		assert_int_equal(sys->write_nothing(word), 0);
		assert_int_equal(*word, i ? UINT32_C(0xfffff800) : UINT32_C(0x12345678));
		assert_int_equal(sys->write_nothing(word + 1024), 0);
		assert_int_equal(sys->mincore(word + 1024, 4096, &resident), 0);
		assert_int_equal(resident & 1u, 1);
	}
	assert_int_equal(sys->mprotect(word, 4096, PROT_READ), 0);
	assert_int_equal(sys->write_nothing(word), -EFAULT);
	assert_int_equal(sys->munmap(word, 8192), 0);
	assert_int_equal(sys->write_nothing(word), -EFAULT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_trial_there_is_no_answer),
		cmocka_unit_test(writing_nothing_brings_a_page_and_changes_no_byte),
		cmocka_unit_test(every_entry_is_there),
		cmocka_unit_test(memory),
		cmocka_unit_test(numa),
		cmocka_unit_test(files),
		cmocka_unit_test(waiting_ends_on_time_and_on_events),
		cmocka_unit_test(io_uring_waits),
		cmocka_unit_test(messages_carry_files),
		cmocka_unit_test(processes),
		cmocka_unit_test(threads_are_named_bound_and_blocked),
		cmocka_unit_test(move_probe_leaves_nothing),
		cmocka_unit_test(clock_moves_forward),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
