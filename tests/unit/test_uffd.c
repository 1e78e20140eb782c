/* SPDX-License-Identifier: MIT */
/*
 * Shown here: which userfaultfd is opened and what is asked of it, and that the calls on spans do the
 * whole span or say how far they came, on this kernel and with kernels faked by the OS table.
 */
#include "fixture.h"
#include "sys.h"
#include "uffd.h"
#include "uffd_uapi.h"
#include "util.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libsvm/types.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
#include <cmocka.h>

#define PAGE  ((uint64_t)SVM_PAGE_SIZE)
#define BLOCK ((uint64_t)SVM_BLOCK_SIZE)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static const struct svm_log no_log;

/* ---- A kernel that answers as a test wants ---------------------------------------------------- */

static struct {
	int open_error;		    /* of /dev/userfaultfd */
	int syscall_error;	    /* of userfaultfd(), any mode */
	int privileged_error;	    /* of userfaultfd() without UFFD_USER_MODE_ONLY */
	uint64_t hidden_features;   /* not reported by the handshake */
	bool no_continue_wp;	    /* a kernel before 6.4 */
	unsigned long fail_request; /* this ioctl... */
	int fail_error;		    /* ...fails so... */
	unsigned int fail_times;    /* ...so often */
	uint64_t short_count;	    /* MOVE does no more than this at once */
	unsigned int n_calls;	    /* of fail_request, or of MOVE with short_count */
	unsigned int n_opens;	    /* of /dev/userfaultfd */
	unsigned int n_syscalls;
	int last_syscall_flags;
	bool move_spins; /* whatever this kernel's does */
} fake;

static int fake_move_spins(void)
{
	return fake.move_spins ? 1 : svm_sys_real.move_spins();
}

static int fake_open(const char *path, int flags)
{
	fake.n_opens++;
	return fake.open_error ? fake.open_error : svm_sys_real.open(path, flags);
}

static int fake_userfaultfd(int flags)
{
	fake.n_syscalls++;
	fake.last_syscall_flags = flags;
	if (fake.syscall_error)
		return fake.syscall_error;
	if (fake.privileged_error && !(flags & UFFD_USER_MODE_ONLY))
		return fake.privileged_error;
	return svm_sys_real.userfaultfd(flags);
}

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
	int ret;

	if (fake.fail_times > 0 && request == fake.fail_request) {
		fake.n_calls++;
		fake.fail_times--;
		return fake.fail_error;
	}
	if (request == UFFDIO_CONTINUE && fake.no_continue_wp &&
	    (((struct uffdio_continue *)arg)->mode & SVM_UFFDIO_CONTINUE_MODE_WP))
		return -EINVAL;
	if (request == SVM_UFFDIO_MOVE && fake.short_count) {
		struct svm_uffdio_move *move = arg;
		uint64_t len = move->len;

		fake.n_calls++;
		if (len > fake.short_count) {
			move->len = fake.short_count;
			ret = svm_sys_real.ioctl(fd, request, arg);
			move->len = len;
			return ret < 0 ? ret : -EAGAIN;
		}
	}
	ret = svm_sys_real.ioctl(fd, request, arg);
	if (request == UFFDIO_API)
		((struct uffdio_api *)arg)->features &= ~fake.hidden_features;
	return ret;
}

static struct svm_sys fake_sys;

static int set_up(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	fake_sys = svm_sys_real;
	fake_sys.open = fake_open;
	fake_sys.userfaultfd = fake_userfaultfd;
	fake_sys.ioctl = fake_ioctl;
	fake_sys.move_spins = fake_move_spins;
	svm_sys = &fake_sys;
	/* A thread that is not woken ends the program. */
	alarm(30 * fixture_slower());
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	alarm(0);
	svm_sys = &svm_sys_real;
	return 0;
}

static unsigned int count_fds(void)
{
	unsigned int n = 0;
	DIR *dir = opendir("/proc/self/fd");

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Open, or skip where this process gets none. */
static void open_or_skip(struct svm_uffd *uffd, uint32_t flags)
{
	int ret = svm_uffd_open(uffd, flags, &no_log);

	if (ret == -EPERM || ret == -EOPNOTSUPP) {
		print_message("no userfaultfd here (error %d)\n", -ret);
		skip();
	}
	assert_int_equal(ret, 0);
}

static char *map_aligned(uint64_t size)
{
	char *room = mmap(NULL, size + BLOCK, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *start;

	assert_true(room != MAP_FAILED);
	start = svm_ptr(svm_align_up(svm_addr(room), BLOCK));
	if (start > room)
		assert_int_equal(munmap(room, (size_t)(start - room)), 0);
	assert_int_equal(munmap(start + size, (size_t)(room + BLOCK - start)), 0);
	assert_int_equal(mprotect(start, size, PROT_READ | PROT_WRITE), 0);
	return start;
}

/* ---- Opening ---------------------------------------------------------------------------------- */

static void first_way_that_works_is_taken(void **state)
{
	struct svm_uffd uffd;

	(void)state;
	open_or_skip(&uffd, 0);
	assert_true(uffd.fd >= 0);
	assert_int_equal(fcntl(uffd.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(fcntl(uffd.fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_true(uffd.features & UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	assert_false(uffd.features & (UINT64_C(1) << 13)); /* WP_UNPOPULATED would stop MOVE */
	assert_true(fake.n_opens > 0);
	svm_uffd_close(&uffd);
	assert_int_equal(uffd.fd, -1);
}

static void system_call_when_device_is_denied(void **state)
{
	static const int errors[] = { -ENOENT, -EACCES, -EPERM, -ENXIO };
	struct svm_uffd uffd;

	(void)state;
	for (size_t i = 0; i < SVM_ARRAY_SIZE(errors); i++) {
		fake.open_error = errors[i];
		fake.n_syscalls = 0;
		open_or_skip(&uffd, 0);
		assert_true(fake.n_syscalls > 0);
		svm_uffd_close(&uffd);
	}
}

static void device_without_new_ioctl_is_no_end(void **state)
{
	struct svm_uffd uffd;
	unsigned int fds = count_fds();

	(void)state;
	fake.fail_request = USERFAULTFD_IOC_NEW;
	fake.fail_error = -EPERM;
	fake.fail_times = 2;
	open_or_skip(&uffd, 0);
	assert_int_equal(count_fds(), fds + 1);
	svm_uffd_close(&uffd);
	assert_int_equal(count_fds(), fds);
}

static void user_mode_is_the_last_resort(void **state)
{
	struct svm_uffd uffd;

	(void)state;
	fake.open_error = -EACCES;
	fake.privileged_error = -EPERM;
	open_or_skip(&uffd, 0);
	assert_false(uffd.kernel_faults);
	assert_true(fake.last_syscall_flags & UFFD_USER_MODE_ONLY);
	svm_uffd_close(&uffd);
}

static void user_mode_on_request(void **state)
{
	struct svm_uffd uffd;

	(void)state;
	open_or_skip(&uffd, SVM_UFFD_USER_MODE_ONLY);
	assert_false(uffd.kernel_faults);
	assert_int_equal(fake.n_opens, 0);
	svm_uffd_close(&uffd);
}

static void denials_have_their_errors(void **state)
{
	static const struct {
		int open_error;
		int syscall_error;
		int expected;
	} cases[] = {
		{ -EACCES, -EPERM, -EPERM },   { -ENOENT, -ENOSYS, -EOPNOTSUPP },
		{ -EMFILE, 0, -EMFILE },       { -ENFILE, 0, -ENFILE },
		{ -EACCES, -EMFILE, -EMFILE }, { -ENOENT, -ENOMEM, -ENOMEM },
	};
	unsigned int fds = count_fds();

	(void)state;
	for (size_t i = 0; i < SVM_ARRAY_SIZE(cases); i++) {
		struct svm_uffd uffd;

		fake.open_error = cases[i].open_error;
		fake.syscall_error = cases[i].syscall_error;
		assert_int_equal(svm_uffd_open(&uffd, 0, &no_log), cases[i].expected);
		assert_int_equal(uffd.fd, -1);
		svm_uffd_close(&uffd);
	}
	assert_int_equal(count_fds(), fds);
}

static void handshake_errors_leak_nothing(void **state)
{
	unsigned int fds = count_fds();
	struct svm_uffd uffd;

	(void)state;
	for (unsigned int nth = 1; nth <= 2; nth++) {
		fake.fail_request = UFFDIO_API;
		fake.fail_error = -ENOMEM;
		fake.fail_times = nth;
		assert_int_equal(svm_uffd_open(&uffd, 0, &no_log), -ENOMEM);
		assert_int_equal(count_fds(), fds);
	}
}

static void kernel_without_shmem_faults_is_refused(void **state)
{
	static const uint64_t needed[] = { UFFD_FEATURE_PAGEFAULT_FLAG_WP,
					   UFFD_FEATURE_MISSING_SHMEM, UFFD_FEATURE_MINOR_SHMEM,
					   UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
	struct svm_uffd uffd;

	(void)state;
	for (size_t i = 0; i < SVM_ARRAY_SIZE(needed); i++) {
		int ret;

		fake.hidden_features = needed[i];
		ret = svm_uffd_open(&uffd, 0, &no_log);
		if (ret == -EPERM) {
			print_message("no userfaultfd here\n");
			skip();
		}
		assert_int_equal(ret, -EOPNOTSUPP);
	}
}

static void rungs_can_be_left_out(void **state)
{
	struct svm_uffd uffd;

	(void)state;
	open_or_skip(&uffd, SVM_UFFD_NO_MOVE | SVM_UFFD_NO_POISON);
	assert_false(svm_uffd_has_move(&uffd));
	assert_false(svm_uffd_has_poison(&uffd));
	svm_uffd_close(&uffd);

	fake.hidden_features = SVM_UFFD_FEATURE_MOVE | SVM_UFFD_FEATURE_POISON;
	open_or_skip(&uffd, 0);
	assert_false(svm_uffd_has_move(&uffd));
	assert_false(svm_uffd_has_poison(&uffd));
	svm_uffd_close(&uffd);

	fake.hidden_features = 0;
	fake.move_spins = true;
	open_or_skip(&uffd, SVM_UFFD_EVENTS);
	assert_false(svm_uffd_has_move(&uffd));
	assert_false(svm_uffd_has_remove_events(&uffd));
	svm_uffd_close(&uffd);

	fake.no_continue_wp = true;
	open_or_skip(&uffd, 0);
	assert_false(svm_uffd_has_continue_wp(&uffd));
	svm_uffd_close(&uffd);
}

/* REMOVE events would make MADV_DONTNEED wait, which is needed without MOVE. */
static void events_fit_the_way_pages_are_taken(void **state)
{
	struct svm_uffd uffd;

	(void)state;
	open_or_skip(&uffd, SVM_UFFD_EVENTS);
	assert_true(uffd.features & UFFD_FEATURE_EVENT_UNMAP);
	assert_true(uffd.features & UFFD_FEATURE_EVENT_REMAP);
	assert_int_equal(svm_uffd_has_remove_events(&uffd), svm_uffd_has_move(&uffd));
	svm_uffd_close(&uffd);

	open_or_skip(&uffd, SVM_UFFD_EVENTS | SVM_UFFD_NO_MOVE);
	assert_true(uffd.features & UFFD_FEATURE_EVENT_UNMAP);
	assert_false(svm_uffd_has_remove_events(&uffd));
	svm_uffd_close(&uffd);

	open_or_skip(&uffd, 0);
	assert_false(uffd.features & (UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE |
				      UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_FORK));
	svm_uffd_close(&uffd);
}

/* ---- Two registered views and a file ----------------------------------------------------------- */

struct views {
	struct svm_uffd uffd;
	char *user;   /* missing, wp */
	char *stash;  /* wp */
	char *shared; /* missing, minor, wp */
	char *alias;
	int memfd;
};

static void open_views(struct views *v)
{
	open_or_skip(&v->uffd, 0);
	v->user = map_aligned(2 * BLOCK);
	v->stash = map_aligned(2 * BLOCK);
	v->shared = map_aligned(BLOCK);
	v->memfd = memfd_create("test", MFD_CLOEXEC);
	assert_true(v->memfd >= 0);
	assert_int_equal(ftruncate(v->memfd, (off_t)BLOCK), 0);
	assert_ptr_equal(mmap(v->shared, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			      v->memfd, 0),
			 v->shared);
	v->alias = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, v->memfd, 0);
	assert_true(v->alias != MAP_FAILED);
	assert_int_equal(madvise(v->user, 2 * BLOCK, MADV_NOHUGEPAGE), 0);
	assert_int_equal(madvise(v->stash, 2 * BLOCK, MADV_NOHUGEPAGE), 0);
	assert_int_equal(svm_uffd_register(&v->uffd, svm_addr(v->user), 2 * BLOCK,
					   SVM_UFFD_MISSING | SVM_UFFD_WP),
			 0);
	assert_int_equal(svm_uffd_register(&v->uffd, svm_addr(v->stash), 2 * BLOCK, SVM_UFFD_WP),
			 0);
	assert_int_equal(svm_uffd_register(&v->uffd, svm_addr(v->shared), BLOCK,
					   SVM_UFFD_MISSING | SVM_UFFD_MINOR | SVM_UFFD_WP),
			 0);
}

static void close_views(struct views *v)
{
	munmap(v->user, 2 * BLOCK);
	munmap(v->stash, 2 * BLOCK);
	munmap(v->shared, BLOCK);
	munmap(v->alias, BLOCK);
	close(v->memfd);
	svm_uffd_close(&v->uffd);
}

static void skip_without_move(struct views *v)
{
	if (svm_uffd_has_move(&v->uffd))
		return;
	close_views(v);
	print_message("no UFFDIO_MOVE here (Linux 6.8), or one that may not end\n");
	skip();
}

struct toucher {
	pthread_t thread;
	volatile char *addr;
	bool write;
	char value;
};

static void *touch(void *data)
{
	struct toucher *t = data;

	/* Atomic: who checks that a write is trapped reads the byte while the writer waits. */
	if (t->write)
		__atomic_store_n(t->addr, t->value, __ATOMIC_RELAXED);
	else
		t->value = __atomic_load_n(t->addr, __ATOMIC_RELAXED);
	return NULL;
}

/* Start a thread that touches, and wait for its fault. */
static uint64_t touch_and_fault(const struct svm_uffd *uffd, struct toucher *t)
{
	struct pollfd poll_fd = { .fd = uffd->fd, .events = POLLIN };
	struct uffd_msg msg;

	assert_int_equal(pthread_create(&t->thread, NULL, touch, t), 0);
	assert_int_equal(poll(&poll_fd, 1, -1), 1);
	assert_int_equal(read(uffd->fd, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(msg.event, UFFD_EVENT_PAGEFAULT);
	assert_int_equal(svm_align_down(msg.arg.pagefault.address, PAGE),
			 svm_align_down(svm_addr((const char *)t->addr), PAGE));
	return msg.arg.pagefault.flags;
}

static void join(struct toucher *t)
{
	assert_int_equal(pthread_join(t->thread, NULL), 0);
}

static void another_userfaultfd_is_busy(void **state)
{
	struct svm_uffd other;
	struct views v;

	(void)state;
	open_views(&v);
	open_or_skip(&other, 0);
	assert_int_equal(svm_uffd_register(&other, svm_addr(v.user), PAGE, SVM_UFFD_MISSING),
			 -EBUSY);
	assert_int_equal(svm_uffd_unregister(&v.uffd, svm_addr(v.user), 2 * BLOCK), 0);
	assert_int_equal(svm_uffd_register(&other, svm_addr(v.user), PAGE, SVM_UFFD_MISSING), 0);
	svm_uffd_close(&other);
	close_views(&v);
}

static void move_takes_the_whole_span(void **state)
{
	uint64_t done;
	struct views v;

	(void)state;
	open_views(&v);
	skip_without_move(&v);
	memset(v.stash, 'a', 2 * BLOCK);
	assert_int_equal(svm_uffd_move(&v.uffd, svm_addr(v.user), svm_addr(v.stash), 2 * BLOCK, 0,
				       &done),
			 0);
	assert_int_equal(done, 2 * BLOCK);
	for (uint64_t i = 0; i < 2 * BLOCK; i += PAGE)
		assert_int_equal(v.user[i], 'a');
	close_views(&v);
}

/* A pipe holds a piece of the huge page: it cannot be split, and the call says so instead of trying for ever. */
static void piece_of_a_held_huge_page_stays(void **state)
{
	char *huge = map_aligned(BLOCK);
	struct iovec piece = { .iov_base = huge + 5 * PAGE, .iov_len = PAGE };
	uint64_t done;
	struct views v;
	int pipe_fds[2];
	int ret;

	(void)state;
	open_views(&v);
	memset(huge, 1, BLOCK);
	ret = svm_uffd_has_move(&v.uffd) ? madvise(huge, BLOCK, MADV_COLLAPSE) : -1;
	if (ret < 0) {
		print_message(svm_uffd_has_move(&v.uffd)
				      ? "no huge page to be had here\n"
				      : "no UFFDIO_MOVE here that ends (Linux 6.8)\n");
		munmap(huge, BLOCK);
		close_views(&v);
		skip();
	}
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_int_equal(vmsplice(pipe_fds[1], &piece, 1, 0), PAGE);
	ret = svm_uffd_move(&v.uffd, svm_addr(v.user), svm_addr(huge), PAGE, 0, &done);
	assert_true(ret == -EBUSY || ret == -EAGAIN);
	assert_int_equal(done, 0);
	assert_int_equal(huge[0], 1);
	assert_int_equal(close(pipe_fds[0]), 0);
	assert_int_equal(close(pipe_fds[1]), 0);
	assert_int_equal(svm_uffd_move(&v.uffd, svm_addr(v.user), svm_addr(huge), PAGE, 0, &done),
			 0);
	assert_int_equal(v.user[0], 1);
	assert_int_equal(munmap(huge, BLOCK), 0);
	close_views(&v);
}

static void move_stops_at_a_hole(void **state)
{
	uint64_t done;
	struct views v;

	(void)state;
	open_views(&v);
	skip_without_move(&v);
	memset(v.stash, 'a', 3 * PAGE);
	assert_int_equal(svm_uffd_move(&v.uffd, svm_addr(v.user), svm_addr(v.stash), 5 * PAGE, 0,
				       &done),
			 -ENOENT);
	assert_int_equal(done, 3 * PAGE);
	close_views(&v);
}

static void page_that_is_there_is_skipped_or_stops(void **state)
{
	uint64_t done;
	struct views v;

	(void)state;
	open_views(&v);
	skip_without_move(&v);
	memset(v.stash, 'a', 4 * PAGE);
	assert_int_equal(
		svm_uffd_copy(&v.uffd, svm_addr(v.user + 2 * PAGE), v.alias, PAGE, 0, &done), 0);
	assert_int_equal(svm_uffd_move(&v.uffd, svm_addr(v.user), svm_addr(v.stash), 4 * PAGE,
				       SVM_UFFD_EXCLUSIVE, &done),
			 -EEXIST);
	assert_int_equal(done, 2 * PAGE);
	assert_int_equal(svm_uffd_move(&v.uffd, svm_addr(v.user + done), svm_addr(v.stash + done),
				       2 * PAGE, 0, &done),
			 0);
	assert_int_equal(done, 2 * PAGE);
	assert_int_equal(v.user[0], 'a');
	assert_int_equal(v.user[2 * PAGE], 0);
	assert_int_equal(v.user[3 * PAGE], 'a');
	assert_int_equal(v.stash[2 * PAGE], 'a');
	close_views(&v);
}

static void short_counts_are_continued(void **state)
{
	uint64_t done;
	struct views v;

	(void)state;
	open_views(&v);
	skip_without_move(&v);
	memset(v.stash, 'a', 10 * PAGE);
	fake.short_count = 3 * PAGE;
	assert_int_equal(svm_uffd_move(&v.uffd, svm_addr(v.user), svm_addr(v.stash), 10 * PAGE, 0,
				       &done),
			 0);
	assert_int_equal(done, 10 * PAGE);
	assert_int_equal(fake.n_calls, 4);
	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(v.user[i * PAGE], 'a');
	close_views(&v);
}

/* EAGAIN and EINTR are tried again, but not for ever. */
static void retries_end(void **state)
{
	static const struct {
		unsigned long request;
		int error;
	} cases[] = {
		{ UFFDIO_COPY, -EAGAIN },	 { UFFDIO_COPY, -EINTR },
		{ UFFDIO_ZEROPAGE, -EAGAIN },	 { UFFDIO_CONTINUE, -EAGAIN },
		{ SVM_UFFDIO_POISON, -EAGAIN },	 { UFFDIO_WRITEPROTECT, -EAGAIN },
		{ UFFDIO_WRITEPROTECT, -EINTR },
	};
	struct views v;

	(void)state;
	open_views(&v);
	memset(v.alias, 'a', BLOCK);
	for (size_t i = 0; i < SVM_ARRAY_SIZE(cases); i++) {
		/* Once with an end to it, once without. */
		for (unsigned int storm = 0; storm < 2; storm++) {
			uint64_t user = svm_addr(v.user + (2 * i + storm) * PAGE);
			uint64_t shared = svm_addr(v.shared + (2 * i + storm) * PAGE);
			uint64_t done = 99;
			int ret;

			if (cases[i].request == SVM_UFFDIO_POISON && !svm_uffd_has_poison(&v.uffd))
				continue;
			fake.fail_request = cases[i].request;
			fake.fail_error = cases[i].error;
			fake.fail_times = storm ? 1000000 : 5;
			fake.n_calls = 0;
			switch (cases[i].request) {
			case UFFDIO_COPY:
				ret = svm_uffd_copy(&v.uffd, user, v.alias, PAGE, 0, &done);
				break;
			case UFFDIO_ZEROPAGE:
				ret = svm_uffd_zero(&v.uffd, user, PAGE, 0, &done);
				break;
			case UFFDIO_CONTINUE:
				ret = svm_uffd_continue(&v.uffd, shared, PAGE, 0, &done);
				break;
			case SVM_UFFDIO_POISON:
				ret = svm_uffd_poison(&v.uffd, user, PAGE, 0, &done);
				break;
			default:
				done = storm ? 0 : PAGE;
				ret = svm_uffd_protect(&v.uffd, svm_addr(v.user), PAGE, true);
				break;
			}
			assert_int_equal(ret, storm ? -EAGAIN : 0);
			assert_int_equal(done, storm ? 0 : PAGE);
			assert_in_range(fake.n_calls, 5, 10000);
			fake.fail_times = 0;
		}
	}
	close_views(&v);
}

static void errors_say_how_far_it_came(void **state)
{
	uint64_t done;
	struct views v;

	(void)state;
	open_views(&v);
	fake.fail_request = UFFDIO_COPY;
	fake.fail_error = -ENOMEM;
	fake.fail_times = 1;
	assert_int_equal(svm_uffd_copy(&v.uffd, svm_addr(v.user), v.alias, 2 * PAGE, 0, &done),
			 -ENOMEM);
	assert_int_equal(done, 0);
	/* A source that ends: the first page is copied. */
	assert_int_equal(munmap(v.alias + PAGE, BLOCK - PAGE), 0);
	assert_int_equal(svm_uffd_copy(&v.uffd, svm_addr(v.user), v.alias, 2 * PAGE, 0, &done),
			 -EFAULT);
	assert_int_equal(done, PAGE);
	/* Nothing registered. */
	assert_int_equal(svm_uffd_copy(&v.uffd, svm_addr(v.alias), v.user, PAGE, 0, &done),
			 -ENOENT);
	assert_int_equal(done, 0);
	close_views(&v);
}

static void copy_and_zero_wake(void **state)
{
	struct toucher t = { 0 };
	uint64_t done;
	struct views v;

	(void)state;
	open_views(&v);
	memset(v.alias, 'c', PAGE);
	t.addr = v.user + 5;
	assert_false(touch_and_fault(&v.uffd, &t) &
		     (UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_MINOR));
	assert_int_equal(svm_uffd_copy(&v.uffd, svm_addr(v.user), v.alias, PAGE, 0, &done), 0);
	join(&t);
	assert_int_equal(t.value, 'c');

	t.addr = v.user + PAGE;
	touch_and_fault(&v.uffd, &t);
	assert_int_equal(svm_uffd_zero(&v.uffd, svm_addr(v.user), 2 * PAGE, 0, &done), 0);
	join(&t);
	assert_int_equal(t.value, 0);
	assert_int_equal(v.user[0], 'c');
	close_views(&v);
}

/* The kernel wakes for what it brings, so a page that is there already needs a wake of its own. */
static void waiter_on_a_page_that_is_there_is_woken(void **state)
{
	struct toucher t = { 0 };
	uint64_t done;
	struct views v;

	(void)state;
	open_views(&v);
	memset(v.alias, 'c', PAGE);
	t.addr = v.user;
	touch_and_fault(&v.uffd, &t);
	assert_int_equal(svm_uffd_copy(&v.uffd, svm_addr(v.user), v.alias, PAGE, SVM_UFFD_NO_WAKE,
				       &done),
			 0);
	assert_int_equal(svm_uffd_copy(&v.uffd, svm_addr(v.user), v.alias, PAGE, 0, &done), 0);
	assert_int_equal(done, PAGE);
	join(&t);
	assert_int_equal(t.value, 'c');

	memset(v.alias, 'd', PAGE);
	t.addr = v.shared;
	touch_and_fault(&v.uffd, &t);
	assert_int_equal(
		svm_uffd_continue(&v.uffd, svm_addr(v.shared), PAGE, SVM_UFFD_NO_WAKE, &done), 0);
	assert_int_equal(svm_uffd_wake(&v.uffd, svm_addr(v.shared), PAGE), 0);
	join(&t);
	assert_int_equal(t.value, 'd');
	assert_int_equal(svm_uffd_wake(&v.uffd, svm_addr(v.shared), 0), 0);
	close_views(&v);
}

static void write_protection_traps_and_is_lifted(void **state)
{
	struct toucher t = { .write = true, .value = 'w' };
	uint64_t done;
	struct views v;

	(void)state;
	open_views(&v);
	memset(v.alias, 'c', PAGE);
	assert_int_equal(svm_uffd_copy(&v.uffd, svm_addr(v.user), v.alias, PAGE, SVM_UFFD_READ_ONLY,
				       &done),
			 0);
	assert_int_equal(v.user[9], 'c');
	t.addr = v.user;
	assert_true(touch_and_fault(&v.uffd, &t) & UFFD_PAGEFAULT_FLAG_WP);
	assert_int_equal(__atomic_load_n(v.user, __ATOMIC_RELAXED), 'c');
	assert_int_equal(svm_uffd_protect(&v.uffd, svm_addr(v.user), PAGE, false), 0);
	join(&t);
	assert_int_equal(v.user[0], 'w');

	assert_int_equal(svm_uffd_protect(&v.uffd, svm_addr(v.user), PAGE, true), 0);
	assert_true(touch_and_fault(&v.uffd, &t) & UFFD_PAGEFAULT_FLAG_WP);
	assert_int_equal(svm_uffd_protect(&v.uffd, svm_addr(v.user), PAGE, false), 0);
	join(&t);
	assert_int_equal(svm_uffd_protect(&v.uffd, svm_addr(v.alias), PAGE, true), -ENOENT);
	close_views(&v);
}

static void continue_maps_what_the_file_has(void **state)
{
	struct toucher t = { 0 };
	uint64_t done;
	struct views v;

	(void)state;
	open_views(&v);
	memset(v.alias, 'm', 2 * PAGE);
	t.addr = v.shared;
	assert_true(touch_and_fault(&v.uffd, &t) & UFFD_PAGEFAULT_FLAG_MINOR);
	assert_int_equal(svm_uffd_continue(&v.uffd, svm_addr(v.shared), 3 * PAGE, 0, &done),
			 -EFAULT);
	assert_int_equal(done, 2 * PAGE);
	join(&t);
	assert_int_equal(t.value, 'm');
	if (!svm_uffd_has_continue_wp(&v.uffd)) {
		close_views(&v);
		print_message("UFFDIO_CONTINUE has no write-protect mode here (Linux 6.4)\n");
		skip();
	}
	memset(v.alias + 2 * PAGE, 'r', PAGE);
	assert_int_equal(svm_uffd_continue(&v.uffd, svm_addr(v.shared + 2 * PAGE), PAGE,
					   SVM_UFFD_READ_ONLY, &done),
			 0);
	assert_int_equal(v.shared[2 * PAGE], 'r');
	t = (struct toucher){ .addr = v.shared + 2 * PAGE, .write = true, .value = 'x' };
	assert_true(touch_and_fault(&v.uffd, &t) & UFFD_PAGEFAULT_FLAG_WP);
	assert_int_equal(v.alias[2 * PAGE], 'r');
	assert_int_equal(svm_uffd_protect(&v.uffd, svm_addr(v.shared + 2 * PAGE), PAGE, false), 0);
	join(&t);
	assert_int_equal(v.alias[2 * PAGE], 'x');
	close_views(&v);
}

static sigjmp_buf after_signal;

static void on_signal(int number)
{
	siglongjmp(after_signal, number);
}

static void poisoned_page_raises_sigbus(void **state)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct sigaction old;
	uint64_t done;
	struct views v;
	int caught;

	(void)state;
	open_views(&v);
	if (!svm_uffd_has_poison(&v.uffd)) {
		close_views(&v);
		print_message("no UFFDIO_POISON here (Linux 6.6)\n");
		skip();
	}
	assert_int_equal(svm_uffd_poison(&v.uffd, svm_addr(v.user), 2 * PAGE, 0, &done), 0);
	assert_int_equal(done, 2 * PAGE);
	assert_int_equal(sigaction(SIGBUS, &action, &old), 0);
	caught = sigsetjmp(after_signal, 1);
	if (caught == 0)
		v.user[PAGE] = 1;
	assert_int_equal(caught, SIGBUS);
	assert_int_equal(sigaction(SIGBUS, &old, NULL), 0);
	close_views(&v);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(first_way_that_works_is_taken),
		TEST(system_call_when_device_is_denied),
		TEST(device_without_new_ioctl_is_no_end),
		TEST(user_mode_is_the_last_resort),
		TEST(user_mode_on_request),
		TEST(denials_have_their_errors),
		TEST(handshake_errors_leak_nothing),
		TEST(kernel_without_shmem_faults_is_refused),
		TEST(rungs_can_be_left_out),
		TEST(events_fit_the_way_pages_are_taken),
		TEST(another_userfaultfd_is_busy),
		TEST(move_takes_the_whole_span),
		TEST(move_stops_at_a_hole),
		TEST(piece_of_a_held_huge_page_stays),
		TEST(page_that_is_there_is_skipped_or_stops),
		TEST(short_counts_are_continued),
		TEST(retries_end),
		TEST(errors_say_how_far_it_came),
		TEST(copy_and_zero_wake),
		TEST(waiter_on_a_page_that_is_there_is_woken),
		TEST(write_protection_traps_and_is_lifted),
		TEST(continue_maps_what_the_file_has),
		TEST(poisoned_page_raises_sigbus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
