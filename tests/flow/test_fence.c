/* SPDX-License-Identifier: MIT */
/*
 * Shown here: fences signal once, from the application, from imported fds and from work; their exported
 * fds work with poll, epoll and io_uring; any number of threads wait; they outlive devices; as the
 * argument of other calls they order work.
 */
#include "process.h"
#include "fixture.h"
#include <liburing.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>

#define MIB	  (UINT64_C(1) << 20)
#define MS	  INT64_C(1000000)
#define N_THREADS 8u

/* No fence of these tests takes longer. */
#define LIMIT_NS (INT64_C(20000) * MS)

static struct svm_fence *new_fence(struct svm_fixture *f)
{
	struct svm_fence *fence;

	assert_int_equal(svm_fence_create(f->space, &fence), 0);
	return fence;
}

static bool is_readable(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	int n = poll(&poll_fd, 1, 0);

	assert_true(n >= 0);
	return n == 1 && (poll_fd.revents & POLLIN);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
	return (int64_t)ts.tv_sec * 1000 * MS + ts.tv_nsec;
}

static void create_signal_wait(struct svm_fixture *f)
{
	static const int status[] = { 0, -EIO, -ENODEV, -1000 };

	fixture_space(f, NULL);
	for (unsigned int i = 0; i < 4; i++) {
		struct svm_fence *fence = new_fence(f);

		assert_int_equal(svm_fence_wait(fence, 0), -ETIMEDOUT);
		assert_int_equal(svm_fence_signal(fence, status[i]), 0);
		assert_int_equal(svm_fence_wait(fence, 0), status[i]);
		assert_int_equal(svm_fence_wait(fence, -1), status[i]);
		assert_int_equal(svm_fence_wait(fence, 1), status[i]);
		assert_int_equal(svm_fence_signal(fence, 0), -EALREADY);
		assert_int_equal(svm_fence_wait(fence, 0), status[i]);
		svm_fence_unref(fence);
	}
}

static void wait_times_out(struct svm_fixture *f)
{
	struct svm_fence *fence;
	int64_t start;

	fixture_space(f, NULL);
	fence = new_fence(f);
	start = now_ns();
	assert_int_equal(svm_fence_wait(fence, 50 * MS), -ETIMEDOUT);
	assert_true(now_ns() - start >= 50 * MS);
	/* The longest time there is does not wrap into the past. */
	assert_int_equal(svm_fence_signal(fence, -EIO), 0);
	assert_int_equal(svm_fence_wait(fence, INT64_MAX), -EIO);
	svm_fence_unref(fence);
}

static void references(struct svm_fixture *f)
{
	struct svm_fence *fence;

	fixture_space(f, NULL);
	fence = new_fence(f);
	assert_ptr_equal(svm_fence_ref(fence), fence);
	svm_fence_unref(fence);
	assert_int_equal(svm_space_destroy(f->space), -EBUSY);
	assert_int_equal(svm_fence_signal(fence, 0), 0);
	assert_int_equal(svm_fence_wait(fence, 0), 0);
	svm_fence_unref(fence);
	fixture_space_end(f);
}

static void *wait_long(void *fence)
{
	return (void *)(intptr_t)svm_fence_wait(fence, LIMIT_NS);
}

static void many_threads_wait(struct svm_fixture *f)
{
	pthread_t threads[N_THREADS];
	struct svm_fence *fence;

	fixture_space(f, NULL);
	fence = new_fence(f);
	for (unsigned int i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, wait_long, fence), 0);
	assert_int_equal(svm_fence_wait(fence, 10 * MS), -ETIMEDOUT);
	assert_int_equal(svm_fence_signal(fence, -ENOLINK), 0);
	for (unsigned int i = 0; i < N_THREADS; i++) {
		void *ret;

		assert_int_equal(pthread_join(threads[i], &ret), 0);
		assert_int_equal((intptr_t)ret, -ENOLINK);
	}
	svm_fence_unref(fence);
}

/* Of many that signal at once exactly one does. */
static void *try_signal(void *fence)
{
	return (void *)(intptr_t)svm_fence_signal(fence, -EIO);
}

static void one_signal_wins(struct svm_fixture *f)
{
	fixture_space(f, NULL);
	for (unsigned int round = 0; round < 50; round++) {
		struct svm_fence *fence = new_fence(f);
		pthread_t threads[4];
		unsigned int n_won = 0;

		for (unsigned int i = 0; i < 4; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, try_signal, fence), 0);
		for (unsigned int i = 0; i < 4; i++) {
			void *ret;

			assert_int_equal(pthread_join(threads[i], &ret), 0);
			n_won += (intptr_t)ret == 0;
			assert_true((intptr_t)ret == 0 || (intptr_t)ret == -EALREADY);
		}
		assert_int_equal(n_won, 1);
		svm_fence_unref(fence);
	}
}

/* ---- Export ----------------------------------------------------------------------------------- */

static void export_before_and_after(struct svm_fixture *f)
{
	struct svm_fence *fence;
	int early;
	int late;

	fixture_space(f, NULL);
	fence = new_fence(f);
	assert_int_equal(svm_fence_export(fence, &early), 0);
	assert_true(fcntl(early, F_GETFD) & FD_CLOEXEC);
	assert_false(is_readable(early));
	assert_int_equal(svm_fence_signal(fence, -EIO), 0);
	assert_int_equal(svm_fence_export(fence, &late), 0);
	assert_int_not_equal(early, late);
	assert_true(is_readable(early));
	assert_true(is_readable(late));
	assert_true(is_readable(late));
	/* The caller owns its fds: they outlive the fence. */
	close(early);
	svm_fence_unref(fence);
	assert_true(is_readable(late));
	close(late);
}

static void *signal_it(void *fence)
{
	(void)svm_fence_wait(fence, 20 * MS);
	return (void *)(intptr_t)svm_fence_signal(fence, 0);
}

static void poll_epoll_and_io_uring(struct svm_fixture *f)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	struct pollfd poll_fd;
	struct svm_fence *fence;
	pthread_t thread;
	bool has_ring;
	void *ret;
	int epoll;
	int fd;
	int n;

	fixture_space(f, NULL);
	fence = new_fence(f);
	assert_int_equal(svm_fence_export(fence, &fd), 0);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	assert_true(epoll >= 0);
	assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
	has_ring = io_uring_queue_init(4, &ring, 0) == 0;
	if (has_ring) {
		sqe = io_uring_get_sqe(&ring);
		io_uring_prep_poll_add(sqe, fd, POLLIN);
		assert_int_equal(io_uring_submit(&ring), 1);
		assert_int_equal(io_uring_peek_cqe(&ring, &cqe), -EAGAIN);
	} else {
		print_message("io_uring is denied here: that part is left out\n");
	}
	assert_int_equal(epoll_wait(epoll, &event, 1, 0), 0);

	assert_int_equal(pthread_create(&thread, NULL, signal_it, fence), 0);
	/* The completion of the request on the ring may interrupt either. */
	do
		n = epoll_wait(epoll, &event, 1, PROCESS_LIMIT_MS);
	while (n < 0 && errno == EINTR);
	assert_int_equal(n, 1);
	poll_fd = (struct pollfd){ .fd = fd, .events = POLLIN };
	do
		n = poll(&poll_fd, 1, PROCESS_LIMIT_MS);
	while (n < 0 && errno == EINTR);
	assert_int_equal(n, 1);
	if (has_ring) {
		assert_int_equal(io_uring_wait_cqe(&ring, &cqe), 0);
		assert_true(cqe->res & POLLIN);
		io_uring_cqe_seen(&ring, cqe);
		io_uring_queue_exit(&ring);
	}
	assert_int_equal(pthread_join(thread, &ret), 0);
	assert_int_equal((intptr_t)ret, 0);
	assert_int_equal(svm_fence_wait(fence, 0), 0);
	close(epoll);
	close(fd);
	svm_fence_unref(fence);
}

/* ---- Import ----------------------------------------------------------------------------------- */

static void import_eventfd(struct svm_fixture *f)
{
	struct svm_fence *fence;
	int fd = eventfd(0, EFD_CLOEXEC);
	uint64_t one = 1;

	fixture_space(f, NULL);
	assert_int_equal(svm_fence_import(f->space, fd, &fence), 0);
	assert_int_equal(svm_fence_wait(fence, 20 * MS), -ETIMEDOUT);
	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(svm_fence_wait(fence, LIMIT_NS), 0);
	svm_fence_unref(fence);
	/* Ready before the import. */
	assert_int_equal(svm_fence_import(f->space, fd, &fence), 0);
	/* The caller's fd is its own. */
	assert_int_equal(close(fd), 0);
	assert_int_equal(svm_fence_wait(fence, LIMIT_NS), 0);
	svm_fence_unref(fence);
}

static void import_pidfd_pipe_and_own(struct svm_fixture *f)
{
	struct svm_fence *source;
	struct svm_fence *fence;
	int pipe_fds[2];
	int pid_fd;
	int fd;
	pid_t pid;

	fixture_space(f, NULL);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		char c;

		close(pipe_fds[1]);
		(void)!read(pipe_fds[0], &c, 1);
		_exit(0);
	}
	assert_true(pid > 0);
	pid_fd = process_open(pid);
	assert_true(pid_fd >= 0);
	assert_int_equal(svm_fence_import(f->space, pid_fd, &fence), 0);
	assert_int_equal(svm_fence_wait(fence, 20 * MS), -ETIMEDOUT);
	close(pipe_fds[1]);
	assert_int_equal(svm_fence_wait(fence, LIMIT_NS), 0);
	svm_fence_unref(fence);
	close(pid_fd);
	close(pipe_fds[0]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);

	/* A fence becomes readable once and stays so, as a sync_file does: one space's export is another's import. */
	source = new_fence(f);
	assert_int_equal(svm_fence_export(source, &fd), 0);
	assert_int_equal(svm_fence_import(f->space, fd, &fence), 0);
	close(fd);
	assert_int_equal(svm_fence_wait(fence, 0), -ETIMEDOUT);
	assert_int_equal(svm_fence_signal(source, -EIO), 0);
	/* The fd carries no status. */
	assert_int_equal(svm_fence_wait(fence, LIMIT_NS), 0);
	svm_fence_unref(source);
	svm_fence_unref(fence);
}

/* Given up just when it becomes ready, which two threads then deal with. */
static void import_given_up(struct svm_fixture *f)
{
	fixture_space(f, NULL);
	for (unsigned int i = 0; i < 500; i++) {
		struct svm_fence *fence;
		int fd = eventfd(0, EFD_CLOEXEC);
		uint64_t one = 1;

		assert_true(fd >= 0);
		assert_int_equal(svm_fence_import(f->space, fd, &fence), 0);
		assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
		if (i % 2)
			sched_yield();
		svm_fence_unref(fence);
		close(fd);
	}
	/* Never ready, and given up. */
	for (unsigned int i = 0; i < 50; i++) {
		struct svm_fence *fence;
		int fd = eventfd(0, EFD_CLOEXEC);

		assert_int_equal(svm_fence_import(f->space, fd, &fence), 0);
		close(fd);
		svm_fence_unref(fence);
	}
}

/* ---- Fences of work, and as arguments --------------------------------------------------------- */

static void add_one(const void *args, uint64_t index, uint64_t count)
{
	uint64_t *words = *(uint64_t *const *)args;

	(void)count;
	words[index]++;
}

static void work_waits(struct svm_fixture *f)
{
	struct svm_device *device;
	struct svm_fence *go;
	struct svm_fence *first;
	struct svm_fence *second;
	uint64_t *words;

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=8M");
	words = fixture_alloc(f, MIB, 0);
	words[0] = 5;
	go = new_fence(f);
	assert_int_equal(svm_soft_launch(device, add_one, &words, sizeof(words), 1, go, &first), 0);
	assert_int_equal(svm_soft_launch(device, add_one, &words, sizeof(words), 1, first, &second),
			 0);
	assert_int_equal(svm_fence_wait(second, 30 * MS), -ETIMEDOUT);
	assert_int_equal(words[0], 5);
	assert_int_equal(svm_fence_signal(go, 0), 0);
	assert_int_equal(svm_fence_wait(second, LIMIT_NS), 0);
	assert_int_equal(svm_fence_wait(first, 0), 0);
	assert_int_equal(words[0], 7);
	svm_fence_unref(go);
	svm_fence_unref(first);
	svm_fence_unref(second);

	/* Work that waits for something which fails does not run, and says why. */
	go = new_fence(f);
	assert_int_equal(svm_soft_launch(device, add_one, &words, sizeof(words), 1, go, &first), 0);
	assert_int_equal(svm_fence_signal(go, -ECANCELED), 0);
	svm_fence_unref(go);
	assert_int_equal(svm_fence_wait(first, LIMIT_NS), -ECANCELED);
	assert_int_equal(words[0], 7);
	svm_fence_unref(first);
}

static void prefetch_and_fill_wait(struct svm_fixture *f)
{
	struct svm_prefetch_range range;
	struct svm_prefetch *prefetch;
	struct svm_device *device;
	struct svm_fence *go;
	struct svm_fence *done;
	uint8_t *bytes;
	uint64_t n_done;
	int fd;

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=8M");
	bytes = fixture_alloc(f, 4 * MIB, 0);
	memset(bytes, 3, 4 * MIB);
	range = (struct svm_prefetch_range){ bytes, 4 * MIB, svm_device_location(device) };

	/* By an imported fence, while the other end of it is the application's. */
	fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(svm_fence_import(f->space, fd, &go), 0);
	assert_int_equal(svm_prefetch_start(f->space, &range, 1, go, 0, &prefetch), 0);
	svm_fence_unref(go);
	assert_int_equal(svm_prefetch_wait(prefetch, 30 * MS, NULL, 0), -ETIMEDOUT);
	assert_int_equal(svm_prefetch_progress(prefetch, &n_done, NULL), 0);
	assert_int_equal(n_done, 0);
	fixture_assert_at(f, bytes, 4 * MIB, 0, true);
	assert_int_equal(eventfd_write(fd, 1), 0);
	assert_int_equal(svm_prefetch_wait(prefetch, LIMIT_NS, NULL, 0), 0);
	fixture_assert_at(f, bytes, 4 * MIB, 1, false);
	assert_int_equal(svm_prefetch_destroy(prefetch), 0);
	close(fd);

	go = new_fence(f);
	assert_int_equal(svm_device_fill(device, bytes, 9, 2 * MIB, go, &done), 0);
	assert_int_equal(svm_fence_wait(done, 20 * MS), -ETIMEDOUT);
	assert_int_equal(svm_fence_signal(go, 0), 0);
	assert_int_equal(svm_fence_wait(done, LIMIT_NS), 0);
	assert_int_equal(bytes[2 * MIB - 1], 9);
	assert_int_equal(bytes[2 * MIB], 3);
	svm_fence_unref(go);
	svm_fence_unref(done);

	/* A prefetch that is cancelled while it waits ends at once. */
	go = new_fence(f);
	assert_int_equal(svm_prefetch_start(f->space, &range, 1, go, 0, &prefetch), 0);
	assert_int_equal(svm_prefetch_cancel(prefetch), 0);
	assert_int_equal(svm_prefetch_wait(prefetch, LIMIT_NS, NULL, 0), -ECANCELED);
	assert_int_equal(svm_prefetch_destroy(prefetch), 0);
	svm_fence_unref(go);
}

static void *read_byte(void *addr)
{
	return (void *)(uintptr_t) * (volatile uint8_t *)addr;
}

/* What a device that cannot fault holds is the CPU's again when the release's fence signals, not before. */
static void release_waits(struct svm_fixture *f)
{
	struct svm_access_range range;
	struct svm_access *access;
	struct svm_device *device;
	struct svm_fence *done;
	pthread_t thread;
	uint8_t *bytes;
	void *ret;

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=8M:faults=off");
	bytes = fixture_alloc(f, 2 * MIB, 0);
	memset(bytes, 1, 2 * MIB);
	range = (struct svm_access_range){ bytes, 2 * MIB, SVM_ACCESS_WRITE, 0 };
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, NULL), 0);
	done = new_fence(f);
	assert_int_equal(svm_release(access, done), 0);
	assert_int_equal(pthread_create(&thread, NULL, read_byte, bytes), 0);
	assert_int_equal(svm_fence_wait(done, 30 * MS), -ETIMEDOUT);
	fixture_assert_at(f, bytes, 2 * MIB, 1, false);
	/* The library has its own reference: the application's may go first. */
	assert_ptr_equal(svm_fence_ref(done), done);
	svm_fence_unref(done);
	assert_int_equal(svm_fence_signal(done, 0), 0);
	svm_fence_unref(done);
	assert_int_equal(pthread_join(thread, &ret), 0);
	assert_int_equal((uintptr_t)ret, 1);
	assert_int_equal(fixture_page(f, bytes).devices, 0);
}

static void outlives_device(struct svm_fixture *f)
{
	struct svm_device *device;
	struct svm_fence *good;
	struct svm_fence *bad;
	uint64_t *words;
	int fd;

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=8M");
	words = fixture_alloc(f, 4096, 0);
	assert_int_equal(svm_soft_launch(device, add_one, &words, sizeof(words), 1, NULL, &good),
			 0);
	assert_int_equal(svm_fence_wait(good, LIMIT_NS), 0);
	assert_int_equal(svm_soft_kill(device), 0);
	assert_int_equal(svm_soft_launch(device, add_one, &words, sizeof(words), 1, NULL, &bad),
			 -ENODEV);
	assert_int_equal(svm_device_close(device), 0);
	assert_int_equal(svm_fence_wait(good, 0), 0);
	assert_int_equal(svm_fence_export(good, &fd), 0);
	assert_true(is_readable(fd));
	close(fd);
	svm_fence_unref(good);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(create_signal_wait, FIXTURE_ONCE),
		FIXTURE_CASE(wait_times_out, FIXTURE_ONCE),
		FIXTURE_CASE(references, FIXTURE_ONCE),
		FIXTURE_CASE(many_threads_wait, FIXTURE_ONCE),
		FIXTURE_CASE(one_signal_wins, FIXTURE_ONCE),
		FIXTURE_CASE(export_before_and_after, FIXTURE_ONCE),
		FIXTURE_CASE(poll_epoll_and_io_uring, FIXTURE_VARIANTS),
		FIXTURE_CASE(import_eventfd, FIXTURE_VARIANTS),
		FIXTURE_CASE(import_pidfd_pipe_and_own, FIXTURE_VARIANTS),
		FIXTURE_CASE(import_given_up, FIXTURE_VARIANTS),
		FIXTURE_CASE(work_waits, FIXTURE_VARIANTS | FIXTURE_SOFT),
		FIXTURE_CASE(prefetch_and_fill_wait, FIXTURE_VARIANTS),
		FIXTURE_CASE(release_waits, FIXTURE_VARIANTS),
		FIXTURE_CASE(outlives_device, FIXTURE_VARIANTS | FIXTURE_SOFT),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
