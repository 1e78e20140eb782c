/* SPDX-License-Identifier: MIT */
/*
 * Shown here: an attached device alone, over a fake backend: its timelines and who waits on them, a full
 * queue, the watchdog, loss and its reasons, and what opening refuses.
 */
#include "fixture.h"

#include "device.h"
#include "fake_backend.h"
#include "sys.h"
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <time.h>

#define PAGE  FIXTURE_PAGE
#define BLOCK FIXTURE_BLOCK
#define BASE  UINT64_C(0x100000000000)
#define MS    UINT64_C(1000000)

static struct svm_ctx ctx;
static struct svm_device *device;
static pthread_t loop_thread;
static sem_t lost_told;
static unsigned int n_lost_told;
static struct svm_sys fake_sys;
static int mmap_error;
static int epoll_ctl_error;
static _Atomic uint64_t clock_ahead_ns;

static uint64_t fake_clock_ns(void)
{
	return svm_sys_real.clock_ns() + atomic_load(&clock_ahead_ns);
}

static int fake_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		     void **ret_addr)
{
	if (mmap_error)
		return mmap_error;
	return svm_sys_real.mmap(addr, size, prot, flags, fd, offset, ret_addr);
}

static int fake_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	if (epoll_ctl_error && op == EPOLL_CTL_ADD)
		return epoll_ctl_error;
	return svm_sys_real.epoll_ctl(epfd, op, fd, event);
}

static void *serve(void *arg)
{
	return (void *)(intptr_t)svm_loop_run(arg);
}

static void on_lost(struct svm_device *lost)
{
	assert_ptr_equal(lost, device);
	n_lost_told++;
	sem_post(&lost_told);
}

static void on_faults(struct svm_device *at)
{
	struct svm_device_fault faults[4];
	int n = at->ops.fault_read(at->dev, faults, 4);

	for (int i = 0; i < n; i++)
		(void)at->ops.fault_done(at->dev, &faults[i], -EACCES);
}

static int set_up(void **state)
{
	const struct svm_loop_options options = { .kind = SVM_LOOP_EPOLL };

	if (fixture_setup(state) < 0)
		return -1;
	fake_reset();
	fake.pace = FAKE_ON_COMMAND;
	mmap_error = 0;
	epoll_ctl_error = 0;
	n_lost_told = 0;
	atomic_store(&clock_ahead_ns, 0);
	fake_sys = svm_sys_real;
	fake_sys.clock_ns = fake_clock_ns;
	fake_sys.mmap = fake_mmap;
	fake_sys.epoll_ctl = fake_epoll_ctl;
	svm_sys = &fake_sys;
	memset(&ctx, 0, sizeof(ctx));
	ctx.host.window_base = BASE;
	ctx.host.window_size = 8u * BLOCK;
	ctx.op_timeout_ns = 5000u * MS;
	ctx.n_loops = 1;
	device = NULL;
	sem_init(&lost_told, 0, 0);
	if (svm_trace_init(&ctx.trace, &ctx.arena) < 0 ||
	    svm_loop_create(&options, &ctx.loops[0]) < 0)
		return -1;
	return pthread_create(&loop_thread, NULL, serve, ctx.loops[0]);
}

static void close_device(void)
{
	svm_device_drain(device);
	svm_device_stop(device);
	svm_device_delete(device);
	device = NULL;
}

static int tear_down(void **state)
{
	if (device)
		close_device();
	svm_loop_stop(ctx.loops[0]);
	pthread_join(loop_thread, NULL);
	svm_loop_destroy(ctx.loops[0]);
	svm_trace_finish(&ctx.trace);
	sem_destroy(&lost_told);
	svm_sys = &svm_sys_real;
	fake_unplug();
	return fixture_teardown(state) < 0 || fake_wrong() || fake_n_open() ||
			       atomic_load(&ctx.arena.bytes)
		       ? -1
		       : 0;
}

static void open_device(void)
{
	assert_int_equal(svm_device_new(&ctx, "fake:some=option", NULL, &device), 0);
	device->agent = 1;
	device->on_lost = on_lost;
	device->on_faults = on_faults;
	assert_int_equal(svm_device_start(device), 0);
}

static struct svm_point submit_bind(void)
{
	const struct svm_bind bind = { .addr = BASE, .size = PAGE, .flags = SVM_BIND_UNBIND };
	struct svm_point point;

	assert_int_equal(svm_device_bind(device, &bind, 1, &point), 0);
	return point;
}

static struct svm_point submit_copy(void)
{
	static char page[SVM_PAGE_SIZE];
	const struct svm_copy copy = { .dst.host = page, .size = PAGE };
	struct svm_point point;

	assert_int_equal(svm_device_copies(device, &copy, 1, 0, &point), 0);
	return point;
}

struct waiter {
	struct svm_point_waiter waiter;
	sem_t reached;
	unsigned int position;
};

static unsigned int n_reached;

static void reached(struct svm_point_waiter *w)
{
	struct waiter *waiter = svm_container_of(w, struct waiter, waiter);

	waiter->position = n_reached++;
	sem_post(&waiter->reached);
}

static void init_waiter(struct waiter *waiter)
{
	memset(waiter, 0, sizeof(*waiter));
	waiter->waiter.fn = reached;
	waiter->waiter.status = 77;
	sem_init(&waiter->reached, 0, 0);
}

static void await(struct waiter *waiter, int status)
{
	while (sem_wait(&waiter->reached) < 0)
		assert_int_equal(errno, EINTR);
	assert_int_equal(waiter->waiter.status, status);
}

static bool has_run(struct waiter *waiter)
{
	return sem_trywait(&waiter->reached) == 0;
}

/* ---- Timelines --------------------------------------------------------------------------------- */

static void what_is_done_is_not_waited_for(void **state)
{
	const struct svm_point none = { .timeline = SVM_TIMELINE_BIND };
	struct svm_point point;
	struct waiter waiter;

	(void)state;
	open_device();
	init_waiter(&waiter);
	assert_true(svm_device_wait(device, &none, &waiter.waiter));
	assert_int_equal(waiter.waiter.status, 0);
	point = submit_bind();
	fake_complete(1);
	/* Asked at once: the event may still be on its way. */
	assert_true(svm_device_wait(device, &point, &waiter.waiter));
	assert_int_equal(waiter.waiter.status, 0);
	assert_false(has_run(&waiter));
}

static void waiters_run_when_their_point_is_reached(void **state)
{
	struct svm_point points[3];
	struct waiter waiters[3];

	(void)state;
	open_device();
	n_reached = 0;
	for (unsigned int i = 0; i < 3; i++) {
		points[i] = submit_bind();
		init_waiter(&waiters[i]);
	}
	/* In another order than that of the points. */
	assert_false(svm_device_wait(device, &points[2], &waiters[2].waiter));
	assert_false(svm_device_wait(device, &points[0], &waiters[0].waiter));
	assert_false(svm_device_wait(device, &points[1], &waiters[1].waiter));
	fake_complete(1);
	await(&waiters[0], 0);
	assert_false(has_run(&waiters[1]));
	fake_complete(2);
	await(&waiters[1], 0);
	await(&waiters[2], 0);
	assert_int_equal(waiters[0].position, 0);
}

static void timelines_do_not_wait_for_each_other(void **state)
{
	struct svm_point bind;
	struct svm_point copy;
	struct waiter waiters[2];

	(void)state;
	open_device();
	init_waiter(&waiters[0]);
	init_waiter(&waiters[1]);
	bind = submit_bind();
	copy = submit_copy();
	assert_int_equal(bind.timeline, SVM_TIMELINE_BIND);
	assert_int_equal(copy.timeline, SVM_TIMELINE_COPY);
	assert_false(svm_device_wait(device, &copy, &waiters[1].waiter));
	assert_false(svm_device_wait(device, &bind, &waiters[0].waiter));
	/* Binds go first in the fake. */
	fake_complete(1);
	await(&waiters[0], 0);
	assert_false(has_run(&waiters[1]));
	fake_complete(1);
	await(&waiters[1], 0);
}

static void one_waiter_finds_out_for_others(void **state)
{
	struct svm_point points[2];
	struct waiter waiters[2];

	(void)state;
	open_device();
	for (unsigned int i = 0; i < 2; i++) {
		points[i] = submit_bind();
		init_waiter(&waiters[i]);
	}
	assert_false(svm_device_wait(device, &points[0], &waiters[0].waiter));
	fake_complete(2);
	assert_true(svm_device_wait(device, &points[1], &waiters[1].waiter));
	await(&waiters[0], 0);
	assert_false(has_run(&waiters[1]));
}

static void a_full_queue_is_waited_for(void **state)
{
	const struct svm_bind bind = { .addr = BASE, .size = PAGE, .flags = SVM_BIND_UNBIND };
	struct svm_point point;
	struct waiter waiter;

	(void)state;
	fake.queue = 2;
	open_device();
	init_waiter(&waiter);
	submit_bind();
	submit_bind();
	assert_int_equal(svm_device_bind(device, &bind, 1, &point), -EAGAIN);
	assert_int_equal(point.timeline, SVM_TIMELINE_BIND);
	assert_false(svm_device_wait_room(device, &point, &waiter.waiter));
	fake_complete(2);
	await(&waiter, 0);
	submit_bind();
	fake_complete(1);
	/* With nothing under way there is nothing to wait for. */
	assert_true(svm_device_wait_room(
		device, &(struct svm_point){ .timeline = SVM_TIMELINE_COPY }, &waiter.waiter));
	assert_int_equal(waiter.waiter.status, 0);
}

/* Room on a queue is room, whatever the work came to that made it. */
static void failed_work_makes_room(void **state)
{
	const struct svm_bind bind = { .addr = BASE, .size = PAGE, .flags = SVM_BIND_UNBIND };
	struct svm_point point;
	struct waiter waiter;

	(void)state;
	fake.queue = 1;
	open_device();
	init_waiter(&waiter);
	fake_fail_point(FAKE_BIND, 1, -ENOSPC);
	submit_bind();
	assert_int_equal(svm_device_bind(device, &bind, 1, &point), -EAGAIN);
	assert_false(svm_device_wait_room(device, &point, &waiter.waiter));
	fake_complete(1);
	await(&waiter, 0);
}

/* It refuses for some reason or other, and has not yet been found dead. */
static void a_dead_device_refuses_for_being_lost(void **state)
{
	const struct svm_bind bind = { .addr = BASE, .size = PAGE, .flags = SVM_BIND_UNBIND };
	struct svm_point point;

	(void)state;
	open_device();
	fake_fail(FAKE_BIND, 1, -EINVAL, 1);
	fake_die();
	assert_int_equal(svm_device_bind(device, &bind, 1, &point), -ENODEV);
	assert_true(svm_device_is_lost(device));
}

/* Errors that mean something else to callers are not for a backend to say. */
static void strange_errors_are_input_output_errors(void **state)
{
	static const int errors[] = { -EINTR, -ETIMEDOUT, -EBUSY, -ECHILD, -EPERM, -EINVAL };
	const struct svm_bind bind = { .addr = BASE, .size = PAGE, .flags = SVM_BIND_UNBIND };
	struct svm_point point;

	(void)state;
	open_device();
	for (unsigned int i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct waiter waiter;

		fake_fail(FAKE_BIND, 1, errors[i], 1);
		assert_int_equal(svm_device_bind(device, &bind, 1, &point), -EIO);
		init_waiter(&waiter);
		fake_fail_point(FAKE_BIND, 1, errors[i]);
		point = submit_bind();
		fake_complete(1);
		if (svm_device_wait(device, &point, &waiter.waiter))
			assert_int_equal(waiter.waiter.status, -EIO);
		else
			await(&waiter, -EIO);
	}
}

/* With nothing under way, an event says that there is room; one that came since the refusal counts. */
static void a_queue_that_is_full_of_nothing_waits_for_an_event(void **state)
{
	const struct svm_bind bind = { .addr = BASE, .size = PAGE, .flags = SVM_BIND_UNBIND };
	struct svm_point point;
	struct waiter waiter;

	(void)state;
	open_device();
	init_waiter(&waiter);
	fake_fail(FAKE_BIND, 1, -EAGAIN, 1);
	assert_int_equal(svm_device_bind(device, &bind, 1, &point), -EAGAIN);
	if (!svm_device_wait_room(device, &point, &waiter.waiter))
		await(&waiter, 0);
	submit_bind();
}

static void errors_of_the_backend_come_through(void **state)
{
	const struct svm_bind bind = { .addr = BASE, .size = PAGE, .flags = SVM_BIND_UNBIND };
	struct svm_point point;
	struct waiter waiter;

	(void)state;
	open_device();
	init_waiter(&waiter);
	fake_fail(FAKE_BIND, 1, -ENOMEM, 1);
	assert_int_equal(svm_device_bind(device, &bind, 1, &point), -ENOMEM);
	/* It was not taken. */
	assert_int_equal(device->timelines[SVM_TIMELINE_BIND].submitted, 0);
	assert_false(svm_device_is_lost(device));
	assert_int_equal(svm_device_launch(device, NULL, NULL, 0, 1, &point), -EOPNOTSUPP);
}

static void a_failed_point_is_reached_with_its_error(void **state)
{
	struct svm_point points[3];
	struct waiter waiters[3];

	(void)state;
	open_device();
	fake_fail_point(FAKE_BIND, 2, -ENOSPC);
	for (unsigned int i = 0; i < 3; i++) {
		points[i] = submit_bind();
		init_waiter(&waiters[i]);
		assert_false(svm_device_wait(device, &points[i], &waiters[i].waiter));
	}
	fake_complete(3);
	await(&waiters[0], 0);
	await(&waiters[1], -ENOSPC);
	await(&waiters[2], 0);
	/* Who asks later is told as well. */
	assert_true(svm_device_wait(device, &points[1], &waiters[1].waiter));
	assert_int_equal(waiters[1].waiter.status, -ENOSPC);
	assert_false(svm_device_is_lost(device));
}

/* ---- Loss -------------------------------------------------------------------------------------- */

static void await_lost(void)
{
	while (sem_wait(&lost_told) < 0)
		assert_int_equal(errno, EINTR);
	assert_int_equal(n_lost_told, 1);
}

static void loss_ends_all_waits(void **state)
{
	struct svm_point points[2];
	struct waiter waiters[2];

	(void)state;
	open_device();
	points[0] = submit_bind();
	points[1] = submit_copy();
	for (unsigned int k = 0; k < 2; k++) {
		init_waiter(&waiters[k]);
		assert_false(svm_device_wait(device, &points[k], &waiters[k].waiter));
	}
	fake_die();
	await(&waiters[0], -ENODEV);
	await(&waiters[1], -ENODEV);
	await_lost();
	assert_true(svm_device_is_lost(device));
	/* Who comes later is told at once. */
	assert_true(svm_device_wait(device, &points[0], &waiters[0].waiter));
	assert_int_equal(waiters[0].waiter.status, -ENODEV);
}

/* A backend may fail with any error; to those who wait, the device is gone. */
static void waiters_are_told_of_the_loss_whatever_its_reason(void **state)
{
	struct svm_point point;
	struct waiter waiter;

	(void)state;
	open_device();
	point = submit_bind();
	init_waiter(&waiter);
	assert_false(svm_device_wait(device, &point, &waiter.waiter));
	svm_device_lose(device, -ETIMEDOUT);
	await(&waiter, -ENODEV);
	await_lost();
	assert_true(svm_device_wait(device, &point, &waiter.waiter));
	assert_int_equal(waiter.waiter.status, -ENODEV);
}

static void what_was_done_before_the_loss_counts(void **state)
{
	struct svm_point points[2];
	struct waiter waiters[2];

	(void)state;
	open_device();
	for (unsigned int i = 0; i < 2; i++) {
		points[i] = submit_bind();
		init_waiter(&waiters[i]);
		assert_false(svm_device_wait(device, &points[i], &waiters[i].waiter));
	}
	fake_complete(1);
	fake_die();
	await(&waiters[0], 0);
	await(&waiters[1], -ENODEV);
	await_lost();
}

static void the_first_reason_counts(void **state)
{
	(void)state;
	open_device();
	svm_device_lose(device, -EIO);
	svm_device_lose(device, -ENODEV);
	assert_int_equal(atomic_load(&device->lost), -EIO);
	await_lost();
}

/* The op knows before the event is read. */
static void an_op_that_finds_the_device_gone_is_believed(void **state)
{
	const struct svm_bind bind = { .addr = BASE, .size = PAGE, .flags = SVM_BIND_UNBIND };
	struct svm_point point;

	(void)state;
	open_device();
	fake_die_at(FAKE_BIND, 1);
	assert_int_equal(svm_device_bind(device, &bind, 1, &point), -ENODEV);
	assert_int_equal(atomic_load(&device->lost), -ENODEV);
	await_lost();
}

static void a_wait_that_finds_the_device_gone_is_believed(void **state)
{
	struct svm_point point;
	struct waiter waiter;

	(void)state;
	open_device();
	init_waiter(&waiter);
	point = submit_bind();
	fake_die();
	if (svm_device_wait(device, &point, &waiter.waiter))
		assert_int_equal(waiter.waiter.status, -ENODEV);
	else
		await(&waiter, -ENODEV);
	await_lost();
}

static void faults_come_up_until_the_device_is_lost(void **state)
{
	uint64_t value;

	(void)state;
	open_device();
	assert_int_equal(fake_read(BASE, &value), -EACCES);
	fake_die();
	await_lost();
	assert_int_equal(fake_read(BASE, &value), -ENODEV);
}

/* ---- Watchdog ---------------------------------------------------------------------------------- */

static void a_device_that_never_signals_is_given_up(void **state)
{
	uint64_t before = svm_sys_real.clock_ns();
	struct svm_point point;
	struct waiter waiter;

	(void)state;
	ctx.op_timeout_ns = 60u * MS;
	open_device();
	init_waiter(&waiter);
	point = submit_copy();
	assert_false(svm_device_wait(device, &point, &waiter.waiter));
	await(&waiter, -ENODEV);
	assert_true(svm_sys_real.clock_ns() - before >= ctx.op_timeout_ns);
	await_lost();
}

static void progress_keeps_the_watchdog_quiet(void **state)
{
	(void)state;
	ctx.op_timeout_ns = 400u * MS;
	open_device();
	/* Twice the time in all, each wait a part of it. */
	for (uint64_t start = svm_sys_real.clock_ns();
	     svm_sys_real.clock_ns() - start < 2u * ctx.op_timeout_ns;) {
		struct svm_point point = submit_bind();
		struct waiter waiter;
		struct timespec until;

		init_waiter(&waiter);
		assert_false(svm_device_wait(device, &point, &waiter.waiter));
		assert_int_equal(clock_gettime(CLOCK_REALTIME, &until), 0);
		until.tv_nsec += 50000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		/* A device that takes its time: nothing is told before it is done. */
		assert_int_equal(sem_timedwait(&waiter.reached, &until), -1);
		fake_complete(1);
		await(&waiter, 0);
	}
	assert_false(svm_device_is_lost(device));
}

static void work_may_take_as_long_as_it_likes(void **state)
{
	const struct svm_work work = { .dst = BASE, .size = PAGE, .is_fill = 1 };
	struct waiter waiters[2];
	struct svm_point point;

	(void)state;
	ctx.op_timeout_ns = 40u * MS;
	open_device();
	init_waiter(&waiters[0]);
	init_waiter(&waiters[1]);
	assert_int_equal(svm_device_work(device, &work, &point), 0);
	assert_false(svm_device_wait(device, &point, &waiters[0].waiter));
	point = submit_copy();
	/* The copy is what is given up; its time starts with its wait. */
	assert_false(svm_device_wait(device, &point, &waiters[1].waiter));
	await(&waiters[1], -ENODEV);
	await(&waiters[0], -ENODEV);
	await_lost();
}

static void sleep_ns(uint64_t ns)
{
	const struct timespec time = { .tv_sec = (time_t)(ns / 1000000000u),
				       .tv_nsec = (long)(ns % 1000000000u) };

	while (nanosleep(&time, NULL) < 0)
		assert_int_equal(errno, EINTR);
}

/* A process that is stopped finds more time gone than it has lived through. */
static void time_that_stood_still_does_not_count(void **state)
{
	struct svm_point point;
	struct waiter waiter;
	uint64_t before;

	(void)state;
	ctx.op_timeout_ns = 400u * MS;
	open_device();
	init_waiter(&waiter);
	point = submit_bind();
	assert_false(svm_device_wait(device, &point, &waiter.waiter));
	atomic_fetch_add(&clock_ahead_ns, 10u * ctx.op_timeout_ns);
	sleep_ns(ctx.op_timeout_ns / 2u);
	assert_false(svm_device_is_lost(device));
	fake_complete(1);
	await(&waiter, 0);
	/* What never comes is given up all the same, later. */
	before = svm_sys_real.clock_ns();
	point = submit_bind();
	assert_false(svm_device_wait(device, &point, &waiter.waiter));
	atomic_fetch_add(&clock_ahead_ns, 10u * ctx.op_timeout_ns);
	await(&waiter, -ENODEV);
	assert_true(svm_sys_real.clock_ns() - before >= ctx.op_timeout_ns / 2u);
	await_lost();
}

/* Who was refused has given up for another reason; that is over when the next one is refused. */
static void a_refusal_of_long_ago_does_not_count(void **state)
{
	const struct svm_bind bind = { .addr = BASE, .size = PAGE, .flags = SVM_BIND_UNBIND };
	struct svm_point point;

	(void)state;
	ctx.op_timeout_ns = 60u * MS;
	open_device();
	for (unsigned int i = 0; i < 3; i++) {
		fake_fail(FAKE_BIND, 1, -EAGAIN, 1);
		assert_int_equal(svm_device_bind(device, &bind, 1, &point), -EAGAIN);
		fake_fail(FAKE_BIND, 1, -ENOMEM, 1);
		assert_int_equal(svm_device_bind(device, &bind, 1, &point), -ENOMEM);
		sleep_ns(2u * ctx.op_timeout_ns);
	}
	assert_false(svm_device_is_lost(device));
	submit_bind();
	fake_complete(1);
}

static void who_is_refused_for_too_long_finds_the_device_lost(void **state)
{
	const struct svm_bind bind = { .addr = BASE, .size = PAGE, .flags = SVM_BIND_UNBIND };
	uint64_t before = svm_sys_real.clock_ns();
	struct svm_point point;
	int r;

	(void)state;
	ctx.op_timeout_ns = 60u * MS;
	open_device();
	fake_fail(FAKE_BIND, 1, -EAGAIN, UINT32_MAX);
	do
		r = svm_device_bind(device, &bind, 1, &point);
	while (r == -EAGAIN);
	assert_int_equal(r, -ENODEV);
	assert_true(svm_sys_real.clock_ns() - before >= ctx.op_timeout_ns);
	await_lost();
}

/* ---- Opening ----------------------------------------------------------------------------------- */

static void open_refuses(int error)
{
	struct svm_device *none = (struct svm_device *)&ctx;

	assert_int_equal(svm_device_new(&ctx, "fake", NULL, &none), error);
	assert_ptr_equal(none, &ctx);
	assert_int_equal(fake_n_open(), 0);
}

static void what_opening_refuses(void **state)
{
	char name[2u * SVM_NAME_LENGTH + 1u];
	struct svm_device *none;

	(void)state;
	memset(name, 'x', sizeof(name) - 1u);
	name[sizeof(name) - 1u] = '\0';
	assert_int_equal(svm_device_new(&ctx, name, NULL, &none), -EINVAL);
	assert_int_equal(svm_device_new(&ctx, "nobody", NULL, &none), -ENODEV);
	fake_fail(FAKE_OPEN, 1, -ENOENT, 1);
	open_refuses(-ENOENT);
	/* Caps that are not true. */
	fake.caps = SVM_CAP_LAUNCH | SVM_CAP_COPY_ENGINE;
	open_refuses(-EPROTO);
	fake.caps = FAKE_CAPS_ALL;
	fake.memory_size = BLOCK + PAGE;
	open_refuses(-EPROTO);
	fake.memory_size = 0;
	/* The window is out of its reach, at either end. */
	fake.va_start = BASE + PAGE;
	open_refuses(-ERANGE);
	fake.va_start = 0;
	fake.va_end = BASE + ctx.host.window_size - 1u;
	open_refuses(-ERANGE);
	fake.va_end++;
	mmap_error = -ENOMEM;
	open_refuses(-ENOMEM);
	mmap_error = 0;
	open_device();
	assert_string_equal(device->name, "fake:some=option");
	assert_int_equal(device->store.n_total, fake.n_chunks);
}

static void a_device_that_cannot_be_watched_goes_again(void **state)
{
	(void)state;
	assert_int_equal(svm_device_new(&ctx, "fake", NULL, &device), 0);
	epoll_ctl_error = -ENOMEM;
	assert_int_equal(svm_device_start(device), -ENOMEM);
	epoll_ctl_error = 0;
	svm_device_drain(device);
	svm_device_delete(device);
	device = NULL;
}

static void *put_user(void *arg)
{
	svm_device_put(arg);
	return NULL;
}

static void closing_waits_for_the_last_user(void **state)
{
	pthread_t thread;

	(void)state;
	open_device();
	svm_device_get(device);
	assert_int_equal(pthread_create(&thread, NULL, put_user, device), 0);
	close_device();
	assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(what_is_done_is_not_waited_for),
		TEST(waiters_run_when_their_point_is_reached),
		TEST(timelines_do_not_wait_for_each_other),
		TEST(one_waiter_finds_out_for_others),
		TEST(a_full_queue_is_waited_for),
		TEST(failed_work_makes_room),
		TEST(a_dead_device_refuses_for_being_lost),
		TEST(strange_errors_are_input_output_errors),
		TEST(a_queue_that_is_full_of_nothing_waits_for_an_event),
		TEST(errors_of_the_backend_come_through),
		TEST(loss_ends_all_waits),
		TEST(waiters_are_told_of_the_loss_whatever_its_reason),
		TEST(a_failed_point_is_reached_with_its_error),
		TEST(what_was_done_before_the_loss_counts),
		TEST(the_first_reason_counts),
		TEST(an_op_that_finds_the_device_gone_is_believed),
		TEST(a_wait_that_finds_the_device_gone_is_believed),
		TEST(faults_come_up_until_the_device_is_lost),
		TEST(a_device_that_never_signals_is_given_up),
		TEST(progress_keeps_the_watchdog_quiet),
		TEST(work_may_take_as_long_as_it_likes),
		TEST(time_that_stood_still_does_not_count),
		TEST(a_refusal_of_long_ago_does_not_count),
		TEST(who_is_refused_for_too_long_finds_the_device_lost),
		TEST(what_opening_refuses),
		TEST(a_device_that_cannot_be_watched_goes_again),
		TEST(closing_waits_for_the_last_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
