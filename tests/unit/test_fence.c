/* SPDX-License-Identifier: MIT */
/*
 * Shown here: a fence signals once, to its waiters in order, to those who block, and through exported
 * fds; what time-outs mean; imported fds; references; what happens without fds or memory.
 */
#include "fixture.h"

#include "fence.h"
#include "sys.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/epoll.h>
#include <unistd.h>

static uint32_t alive = 1;
static struct svm_ctx ctx;
static pthread_t loop_thread;
static struct svm_sys fake_sys;
static struct {
	int eventfd_error;
	int fcntl_error;
	int mmap_error;
	int epoll_ctl_error;
} fails;

static int fake_eventfd(unsigned int initial, int flags)
{
	return fails.eventfd_error ? fails.eventfd_error : svm_sys_real.eventfd(initial, flags);
}

static int fake_fcntl(int fd, int cmd, long arg)
{
	return fails.fcntl_error ? fails.fcntl_error : svm_sys_real.fcntl(fd, cmd, arg);
}

static int fake_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		     void **ret_addr)
{
	if (fails.mmap_error)
		return fails.mmap_error;
	return svm_sys_real.mmap(addr, size, prot, flags, fd, offset, ret_addr);
}

static int fake_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	if (fails.epoll_ctl_error && op == EPOLL_CTL_ADD)
		return fails.epoll_ctl_error;
	return svm_sys_real.epoll_ctl(epfd, op, fd, event);
}

static void *serve(void *arg)
{
	return (void *)(intptr_t)svm_loop_run(arg);
}

static int set_up(void **state)
{
	const struct svm_loop_options options = { .kind = SVM_LOOP_EPOLL };

	if (fixture_setup(state) < 0)
		return -1;
	memset(&fails, 0, sizeof(fails));
	fake_sys = svm_sys_real;
	fake_sys.eventfd = fake_eventfd;
	fake_sys.fcntl = fake_fcntl;
	fake_sys.mmap = fake_mmap;
	fake_sys.epoll_ctl = fake_epoll_ctl;
	svm_sys = &fake_sys;
	memset(&ctx, 0, sizeof(ctx));
	alive = 1;
	ctx.alive = &alive;
	ctx.n_loops = 1;
	svm_pool_init(&ctx.fence_pool, &ctx.arena, sizeof(struct svm_fence));
	if (svm_loop_create(&options, &ctx.loops[0]) < 0)
		return -1;
	return pthread_create(&loop_thread, NULL, serve, ctx.loops[0]);
}

static int tear_down(void **state)
{
	void *status = NULL;
	uint64_t n_left;

	svm_loop_stop(ctx.loops[0]);
	pthread_join(loop_thread, &status);
	/* The loop drops its own reference after the waiters have run. */
	n_left = ctx.fence_pool.n_used;
	svm_loop_destroy(ctx.loops[0]);
	if (n_left == 0)
		svm_pool_finish(&ctx.fence_pool);
	svm_sys = &svm_sys_real;
	return fixture_teardown(state) < 0 || n_left || status || atomic_load(&ctx.n_open_fences)
		       ? -1
		       : 0;
}

/* ---- Waiters ----------------------------------------------------------------------------------- */

struct counter {
	struct svm_fence_waiter waiter;
	unsigned int n_calls;
	unsigned int position;
	int status;
};

static unsigned int n_called;

static void count(struct svm_fence_waiter *waiter, int status)
{
	struct counter *counter = svm_container_of(waiter, struct counter, waiter);

	counter->n_calls++;
	counter->position = n_called++;
	counter->status = status;
}

static void add(struct svm_fence *fence, struct counter *counter)
{
	int status = 77;

	*counter = (struct counter){ .waiter.fn = count };
	assert_false(svm_fence_add_waiter(fence, &counter->waiter, &status));
	assert_int_equal(status, 77);
}

/* What it ended with, or -ETIMEDOUT if it has not. */
static int wait_for(struct svm_fence *fence, int64_t timeout_ns)
{
	int status = 0;

	return svm_fence_block(fence, timeout_ns, &status) ? status : -ETIMEDOUT;
}

static struct svm_fence *new_fence(void)
{
	struct svm_fence *fence = svm_fence_new(&ctx);

	assert_non_null(fence);
	return fence;
}

static void waiters_run_once_in_order(void **state)
{
	struct svm_fence *fence = new_fence();
	struct counter counters[3];

	(void)state;
	n_called = 0;
	for (unsigned int i = 0; i < 3; i++)
		add(fence, &counters[i]);
	assert_true(svm_fence_remove_waiter(fence, &counters[1].waiter));
	assert_int_equal(n_called, 0);
	assert_true(svm_fence_complete(fence, -EIO));
	assert_int_equal(n_called, 2);
	assert_int_equal(counters[0].position, 0);
	assert_int_equal(counters[1].n_calls, 0);
	assert_int_equal(counters[2].position, 1);
	assert_int_equal(counters[2].status, -EIO);
	/* The first signal counts. */
	assert_false(svm_fence_complete(fence, 0));
	assert_int_equal(n_called, 2);
	assert_false(svm_fence_remove_waiter(fence, &counters[0].waiter));
	assert_int_equal(wait_for(fence, -1), -EIO);
	svm_fence_put(fence);
}

static void a_late_waiter_is_told_at_once(void **state)
{
	struct svm_fence *fence = new_fence();
	struct counter counter = { .waiter.fn = count };
	int status = 77;

	(void)state;
	assert_true(svm_fence_complete(fence, -ENOSPC));
	assert_true(svm_fence_add_waiter(fence, &counter.waiter, &status));
	assert_int_equal(status, -ENOSPC);
	assert_int_equal(counter.n_calls, 0);
	svm_fence_put(fence);
}

struct last_reference {
	struct svm_fence_waiter waiter;
	struct svm_fence *fence;
};

static void drop(struct svm_fence_waiter *waiter, int status)
{
	(void)status;
	svm_fence_put(svm_container_of(waiter, struct last_reference, waiter)->fence);
}

static void a_waiter_may_drop_a_reference(void **state)
{
	struct svm_fence *fence = new_fence();
	struct last_reference last = { .waiter.fn = drop, .fence = fence };
	int status;

	(void)state;
	svm_fence_get(fence);
	assert_false(svm_fence_add_waiter(fence, &last.waiter, &status));
	assert_true(svm_fence_complete(fence, 0));
	assert_int_equal(ctx.fence_pool.n_used, 1);
	svm_fence_put(fence);
	assert_int_equal(ctx.fence_pool.n_used, 0);
	svm_fence_put(NULL);
}

/* ---- Blocking ---------------------------------------------------------------------------------- */

/* What a fence ended with is told apart from a wait that was too short. */
static void a_fence_that_failed_with_a_timeout_has_ended(void **state)
{
	struct svm_fence *fence = new_fence();
	int status = 1;

	(void)state;
	assert_false(svm_fence_block(fence, 0, &status));
	assert_false(svm_fence_block(fence, 1, &status));
	assert_int_equal(status, 1);
	svm_fence_complete(fence, -ETIMEDOUT);
	assert_true(svm_fence_block(fence, 0, &status));
	assert_int_equal(status, -ETIMEDOUT);
	assert_true(svm_fence_block(fence, -1, &status));
	svm_fence_put(fence);
}

static void time_outs(void **state)
{
	struct svm_fence *fence = new_fence();
	uint64_t before = svm_sys_real.clock_ns();

	(void)state;
	assert_int_equal(wait_for(fence, 0), -ETIMEDOUT);
	assert_int_equal(wait_for(fence, 1), -ETIMEDOUT);
	assert_int_equal(wait_for(fence, 20000000), -ETIMEDOUT);
	assert_true(svm_sys_real.clock_ns() - before >= 20000000u);
	svm_fence_complete(fence, 0);
	assert_int_equal(wait_for(fence, 0), 0);
	assert_int_equal(wait_for(fence, INT64_MAX), 0);
	svm_fence_put(fence);
}

static void *complete_it(void *arg)
{
	svm_fence_complete(arg, -EBUSY);
	return NULL;
}

/* Neither the longest time nor none at all is a short one by overflow. */
static void blocking_until_another_thread_signals(void **state)
{
	static const int64_t timeouts[] = { -1, INT64_MIN, INT64_MAX, INT64_C(10000000000) };

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct svm_fence *fence = new_fence();
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, complete_it, fence), 0);
		assert_int_equal(wait_for(fence, timeouts[i]), -EBUSY);
		assert_int_equal(pthread_join(thread, NULL), 0);
		svm_fence_put(fence);
	}
}

/* ---- Export ------------------------------------------------------------------------------------ */

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	assert_true(poll(&p, 1, 0) >= 0);
	return (p.revents & POLLIN) != 0;
}

/* A program that closed its standard input gets 0 for the next file, and a file it is like any other. */
static void a_file_with_number_0_is_closed_too(void **state)
{
	struct svm_fence *fence = new_fence();
	int input = fcntl(0, F_DUPFD_CLOEXEC, 100);
	int fd;

	(void)state;
	assert_true(input >= 0);
	assert_int_equal(close(0), 0);
	assert_int_equal(svm_fence_export_fd(fence, &fd), 0);
	svm_fence_put(fence);
	assert_int_equal(close(fd), 0);
	assert_int_equal(fcntl(0, F_GETFD), -1);
	assert_int_equal(dup2(input, 0), 0);
	assert_int_equal(close(input), 0);
}

static void exported_fds_become_readable_and_stay_so(void **state)
{
	struct svm_fence *fence = new_fence();
	int fds[3];

	(void)state;
	assert_int_equal(svm_fence_export_fd(fence, &fds[0]), 0);
	assert_int_equal(svm_fence_export_fd(fence, &fds[1]), 0);
	assert_int_not_equal(fds[0], fds[1]);
	assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
	assert_false(is_readable(fds[0]));
	svm_fence_complete(fence, -EIO);
	assert_int_equal(svm_fence_export_fd(fence, &fds[2]), 0);
	/* They are the caller's own: the fence may go first. */
	svm_fence_put(fence);
	for (unsigned int i = 0; i < 3; i++) {
		assert_true(is_readable(fds[i]));
		assert_int_equal(close(fds[i]), 0);
	}
}

static void export_of_what_has_signalled(void **state)
{
	struct svm_fence *fence = new_fence();
	int fd;

	(void)state;
	svm_fence_complete(fence, 0);
	assert_int_equal(svm_fence_export_fd(fence, &fd), 0);
	assert_true(is_readable(fd));
	assert_int_equal(close(fd), 0);
	svm_fence_put(fence);
}

static void export_without_fds(void **state)
{
	struct svm_fence *fence = new_fence();
	int fd = 77;

	(void)state;
	fails.eventfd_error = -EMFILE;
	assert_int_equal(svm_fence_export_fd(fence, &fd), -EMFILE);
	fails.eventfd_error = 0;
	fails.fcntl_error = -ENFILE;
	assert_int_equal(svm_fence_export_fd(fence, &fd), -ENFILE);
	assert_int_equal(fd, 77);
	fails.fcntl_error = 0;
	assert_int_equal(svm_fence_export_fd(fence, &fd), 0);
	svm_fence_complete(fence, 0);
	assert_true(is_readable(fd));
	assert_int_equal(close(fd), 0);
	svm_fence_put(fence);
}

/* ---- Import ------------------------------------------------------------------------------------ */

static int new_event(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	return fd;
}

static void raise_event(int fd)
{
	const uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static void an_imported_fd_signals(void **state)
{
	struct svm_fence *fence = new_fence();
	int mine = new_event();
	int copy = dup(mine);

	(void)state;
	assert_int_equal(svm_fence_watch_fd(fence, copy), 0);
	assert_int_equal(wait_for(fence, 1000000), -ETIMEDOUT);
	raise_event(mine);
	assert_int_equal(wait_for(fence, -1), 0);
	svm_fence_put(fence);
	/* The fence owned the copy, and nothing else. It goes when the thread that signalled lets go, too. */
	while (fcntl(copy, F_GETFD) != -1)
		sched_yield();
	assert_int_equal(close(mine), 0);
}

static void an_imported_fd_that_never_signals_is_let_go(void **state)
{
	struct svm_fence *fence = new_fence();

	(void)state;
	assert_int_equal(svm_fence_watch_fd(fence, new_event()), 0);
	svm_fence_put(fence);
	assert_int_equal(ctx.fence_pool.n_used, 0);
}

/* The last reference goes while the fd becomes readable. */
static void import_and_put_race(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 300; i++) {
		struct svm_fence *fence = new_fence();
		int mine = new_event();

		assert_int_equal(svm_fence_watch_fd(fence, dup(mine)), 0);
		raise_event(mine);
		if (i % 3 == 0)
			sched_yield();
		svm_fence_put(fence);
		assert_int_equal(close(mine), 0);
	}
	assert_int_equal(ctx.fence_pool.n_used, 0);
}

static void import_that_cannot_be_watched(void **state)
{
	struct svm_fence *fence = new_fence();
	int fd = new_event();

	(void)state;
	fails.epoll_ctl_error = -ENOMEM;
	assert_int_equal(svm_fence_watch_fd(fence, fd), -ENOMEM);
	fails.epoll_ctl_error = 0;
	/* It is still the caller's. */
	svm_fence_put(fence);
	assert_int_equal(close(fd), 0);
}

/* ---- Public calls ------------------------------------------------------------------------------ */

static void only_fences_of_the_application_are_signalled_by_it(void **state)
{
	struct svm_fence *fence = svm_fence_hand_out(new_fence());

	(void)state;
	assert_int_equal(svm_fence_signal(NULL, 0), -EINVAL);
	assert_int_equal(svm_fence_signal(fence, 0), -EINVAL);
	fence->by_application = true;
	assert_int_equal(svm_fence_signal(fence, 1), -EINVAL);
	assert_int_equal(svm_fence_signal(fence, -EIO), 0);
	assert_int_equal(svm_fence_signal(fence, 0), -EALREADY);
	assert_int_equal(svm_fence_wait(fence, -1), -EIO);
	svm_fence_unref(fence);
}

static void references_are_counted(void **state)
{
	struct svm_fence *fence = svm_fence_hand_out(new_fence());

	(void)state;
	assert_int_equal(atomic_load(&ctx.n_open_fences), 1);
	assert_ptr_equal(svm_fence_ref(fence), fence);
	assert_int_equal(atomic_load(&ctx.n_open_fences), 2);
	svm_fence_unref(fence);
	assert_int_equal(ctx.fence_pool.n_used, 1);
	svm_fence_unref(fence);
	assert_int_equal(ctx.fence_pool.n_used, 0);
	assert_null(svm_fence_ref(NULL));
	svm_fence_unref(NULL);
}

static void a_forked_child_is_refused(void **state)
{
	struct svm_fence *fence = svm_fence_hand_out(new_fence());
	int fd = 77;

	(void)state;
	fence->by_application = true;
	alive = 0;
	assert_int_equal(svm_fence_signal(fence, 0), -ECHILD);
	assert_int_equal(svm_fence_wait(fence, 0), -ECHILD);
	assert_int_equal(svm_fence_export(fence, &fd), -ECHILD);
	assert_int_equal(fd, 77);
	assert_ptr_equal(svm_fence_ref(fence), fence);
	svm_fence_unref(fence);
	assert_int_equal(ctx.fence_pool.n_used, 1);
	alive = 1;
	svm_fence_unref(fence);
}

static void no_memory_for_a_fence(void **state)
{
	static struct svm_fence *fences[8192];
	unsigned int n = 0;

	(void)state;
	fails.mmap_error = -ENOMEM;
	while (n < 8192 && (fences[n] = svm_fence_new(&ctx)) != NULL)
		n++;
	assert_true(n < 8192);
	fails.mmap_error = 0;
	while (n > 0)
		svm_fence_put(fences[--n]);
	svm_fence_put(new_fence());
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(waiters_run_once_in_order),
		TEST(a_late_waiter_is_told_at_once),
		TEST(a_waiter_may_drop_a_reference),
		TEST(a_fence_that_failed_with_a_timeout_has_ended),
		TEST(time_outs),
		TEST(blocking_until_another_thread_signals),
		TEST(a_file_with_number_0_is_closed_too),
		TEST(exported_fds_become_readable_and_stay_so),
		TEST(export_of_what_has_signalled),
		TEST(export_without_fds),
		TEST(an_imported_fd_signals),
		TEST(an_imported_fd_that_never_signals_is_let_go),
		TEST(import_and_put_race),
		TEST(import_that_cannot_be_watched),
		TEST(only_fences_of_the_application_are_signalled_by_it),
		TEST(references_are_counted),
		TEST(a_forked_child_is_refused),
		TEST(no_memory_for_a_fence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
