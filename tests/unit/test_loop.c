/* SPDX-License-Identifier: MIT */
/*
 * Shown here: what the loop promises, on both engines: every test of the table runs on epoll and on
 * io_uring.
 */
#include "arena.h"
#include "loop.h"
#include "sys.h"
#include "util.h"
#include <errno.h>
#include <fcntl.h>
#include <libsvm/space.h>
#include <libsvm/types.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#define MS UINT64_C(1000000)

/* --- the fixture: a loop and its thread --- */

struct engine {
	uint32_t kind;
};

static const struct engine engine_epoll = { .kind = SVM_LOOP_EPOLL };
static const struct engine engine_io_uring = { .kind = SVM_LOOP_IO_URING };

struct runner {
	struct svm_loop *loop;
	pthread_t thread;
	int result; /* of svm_loop_run(), after the thread ended */
};

static struct svm_sys table; /* the OS as the loop sees it */
static struct svm_arena arena;
static struct svm_trace trace;
static atomic_int n_waits;  /* calls of epoll_wait and io_uring_enter */
static atomic_int n_writes; /* calls of write, which only a wake-up makes */
static sem_t goes_to_sleep; /* posted before each wait that may last */

static void note_wait(int64_t timeout_ns)
{
	atomic_fetch_add(&n_waits, 1);
	if (timeout_ns != 0)
		sem_post(&goes_to_sleep);
}

static int counting_epoll_wait(int epfd, struct epoll_event *events, int n_events,
			       int64_t timeout_ns)
{
	note_wait(timeout_ns);
	return svm_sys_real.epoll_wait(epfd, events, n_events, timeout_ns);
}

static int counting_io_uring_enter(struct io_uring *ring, unsigned int wait_nr, int64_t timeout_ns)
{
	note_wait(wait_nr ? timeout_ns : 0);
	return svm_sys_real.io_uring_enter(ring, wait_nr, timeout_ns);
}

static ssize_t counting_write(int fd, const void *buffer, size_t size)
{
	atomic_fetch_add(&n_writes, 1);
	return svm_sys_real.write(fd, buffer, size);
}

static atomic_int deny_errno;

static int denied_io_uring_init(unsigned int entries, struct io_uring *ring,
				struct io_uring_params *params)
{
	(void)entries;
	(void)ring;
	(void)params;
	return -atomic_load(&deny_errno);
}

static int setup(void **state)
{
	(void)state;
	table = svm_sys_real;
	table.epoll_wait = counting_epoll_wait;
	table.io_uring_enter = counting_io_uring_enter;
	table.write = counting_write;
	atomic_store(&deny_errno, EPERM);
	svm_sys = &table;
	return sem_init(&goes_to_sleep, 0, 0) ? -1 : svm_trace_init(&trace, &arena);
}

static int teardown(void **state)
{
	(void)state;
	svm_trace_finish(&trace);
	svm_sys = &svm_sys_real;
	return sem_destroy(&goes_to_sleep);
}

/* Skips the test where the kernel of this machine denies io_uring. */
static struct svm_loop *create_loop(void **state, uint32_t spin_us)
{
	const struct engine *engine = *state;
	const struct svm_loop_options options = {
		.kind = engine->kind,
		.spin_us = spin_us,
		.trace = &trace,
	};
	struct svm_loop *loop = NULL;
	int ret = svm_loop_create(&options, &loop);

	if (ret == -EOPNOTSUPP && engine->kind == SVM_LOOP_IO_URING) {
		print_message("io_uring is denied on this machine\n");
		skip();
	}
	assert_int_equal(ret, 0);
	assert_int_equal(svm_loop_is_io_uring(loop), engine->kind == SVM_LOOP_IO_URING);
	return loop;
}

static void *run_loop(void *arg)
{
	struct runner *r = arg;

	r->result = svm_loop_run(r->loop);
	return NULL;
}

static void start(struct runner *r)
{
	assert_int_equal(svm_sys->thread_create(&r->thread, "test-loop", run_loop, r), 0);
}

static void stop(struct runner *r)
{
	svm_loop_stop(r->loop);
	assert_int_equal(pthread_join(r->thread, NULL), 0);
	assert_int_equal(r->result, 0);
}

/* Not started yet. */
static struct runner new_runner(void **state, uint32_t spin_us)
{
	return (struct runner){ .loop = create_loop(state, spin_us) };
}

/* A wait that never comes to its end is a failure, not a hang. */
static bool wait_sem(sem_t *sem)
{
	struct timespec until;

	if (clock_gettime(CLOCK_REALTIME, &until))
		return false;
	until.tv_sec += 20;
	while (sem_timedwait(sem, &until) < 0) {
		if (errno != EINTR)
			return false;
	}
	return true;
}

static int new_eventfd(unsigned int initial, int flags)
{
	int fd = eventfd(initial, flags | EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	return fd;
}

static void signal_eventfd(int fd)
{
	const uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static uint64_t counted(enum svm_counter counter)
{
	return atomic_load(&trace.counters[counter]);
}

/* A post that tells when the loop has come by: what was asked before is done, or seen. */
struct visit {
	struct svm_post post;
	sem_t done;
};

static void visit_run(struct svm_post *post)
{
	sem_post(&svm_container_of(post, struct visit, post)->done);
}

static void visit(struct svm_loop *loop)
{
	struct visit v = { .post = { .run = visit_run } };

	assert_int_equal(sem_init(&v.done, 0, 0), 0);
	svm_loop_post(loop, &v.post);
	assert_true(wait_sem(&v.done));
	assert_int_equal(sem_destroy(&v.done), 0);
}

static void forget_sleeps(struct svm_post *post)
{
	while (sem_trywait(&goes_to_sleep) == 0)
		;
	visit_run(post);
}

/*
 * Until what is ready now was served, and the loop's thread is asleep or about to be. (A visit
 * comes before the look at the fds in each pass, so two of them have a whole look in between.)
 */
static void let_sleep(struct svm_loop *loop)
{
	struct visit v = { .post = { .run = forget_sleeps } };

	visit(loop);
	visit(loop);
	assert_int_equal(sem_init(&v.done, 0, 0), 0);
	svm_loop_post(loop, &v.post);
	assert_true(wait_sem(&v.done));
	assert_int_equal(sem_destroy(&v.done), 0);
	assert_true(wait_sem(&goes_to_sleep));
}

/* --- posts --- */

struct surroundings {
	struct svm_post post;
	struct svm_loop *loop;
	sem_t done;
	pthread_t thread;
	bool is_current;
	int service_depth;
	sigset_t mask;
};

static void look_around(struct svm_post *post)
{
	struct surroundings *s = svm_container_of(post, struct surroundings, post);

	s->thread = pthread_self();
	s->is_current = svm_loop_is_current(s->loop);
	s->service_depth = svm_service_depth;
	if (pthread_sigmask(SIG_SETMASK, NULL, &s->mask))
		sigemptyset(&s->mask);
	sem_post(&s->done);
}

static void post_runs_in_the_loops_thread(void **state)
{
	struct runner r = new_runner(state, 0);
	struct surroundings s = { .post = { .run = look_around }, .loop = r.loop };

	assert_int_equal(sem_init(&s.done, 0, 0), 0);
	/* The loop blocks signals by itself, too. */
	assert_int_equal(pthread_create(&r.thread, NULL, run_loop, &r), 0);
	svm_loop_post(r.loop, &s.post);
	assert_true(wait_sem(&s.done));
	assert_true(pthread_equal(s.thread, r.thread));
	assert_true(s.is_current);
	assert_int_equal(s.service_depth, 1);
	assert_int_equal(sigismember(&s.mask, SIGTERM), 1);
	assert_int_equal(sigismember(&s.mask, SIGSEGV), 1);
	assert_false(svm_loop_is_current(r.loop));
	assert_int_equal(svm_service_depth, 0);
	stop(&r);
	svm_loop_destroy(r.loop);
	assert_int_equal(sem_destroy(&s.done), 0);
}

struct counted_post {
	struct svm_post post;
	struct svm_loop *loop;
	int again; /* how often it posts itself */
	int runs;
};

static void count_run(struct svm_post *post)
{
	struct counted_post *p = svm_container_of(post, struct counted_post, post);

	p->runs++;
	if (p->again-- > 0)
		svm_loop_post(p->loop, post);
}

/* Before the loop runs, twice in a row, from its own callback, and with a stop already there. */
static void queued_posts_run_once_each(void **state)
{
	struct runner r = new_runner(state, 0);
	struct counted_post a = { .post = { .run = count_run }, .loop = r.loop };
	struct counted_post b = { .post = { .run = count_run }, .loop = r.loop, .again = 5 };

	svm_loop_post(r.loop, &a.post);
	svm_loop_post(r.loop, &a.post);
	svm_loop_post(r.loop, &b.post);
	svm_loop_stop(r.loop);
	assert_int_equal(svm_loop_run(r.loop), 0);
	assert_int_equal(a.runs, 1);
	assert_int_equal(b.runs, 6);
	assert_int_equal(counted(SVM_COUNT_WAKEUPS), 0);

	/* A stop is used up by the run it ended. */
	svm_loop_post(r.loop, &a.post);
	start(&r);
	visit(r.loop);
	assert_int_equal(a.runs, 2);
	stop(&r);
	svm_loop_destroy(r.loop);
}

static void own_posts_make_no_system_call(void **state)
{
	struct runner r = new_runner(state, 0);
	struct counted_post p = { .post = { .run = count_run }, .loop = r.loop, .again = 1000 };
	int writes;

	svm_loop_post(r.loop, &p.post);
	writes = atomic_load(&n_writes);
	svm_loop_stop(r.loop);
	assert_int_equal(svm_loop_run(r.loop), 0);
	assert_int_equal(p.runs, 1001);
	assert_int_equal(atomic_load(&n_writes), writes);
	svm_loop_destroy(r.loop);
}

#define N_POSTERS 4
#define N_ROUNDS  2000
#define N_BURST	  8

struct poster {
	struct svm_loop *loop;
	pthread_t thread;
	bool failed;
	struct visit visits[N_BURST];
};

/* Bursts of posts, then a wait for all of them: the loop goes to sleep all the time, and each lost
 * wake-up would be a wait without end. */
static void *post_and_wait(void *arg)
{
	struct poster *p = arg;

	for (int round = 0; round < N_ROUNDS; round++) {
		int n = 1 + round % N_BURST;

		for (int i = 0; i < n; i++)
			svm_loop_post(p->loop, &p->visits[i].post);
		for (int i = 0; i < n; i++) {
			if (!wait_sem(&p->visits[i].done)) {
				p->failed = true;
				return NULL;
			}
		}
	}
	return NULL;
}

static void no_wakeup_is_lost(void **state)
{
	static struct poster posters[N_POSTERS];
	struct runner r = new_runner(state, 0);

	start(&r);
	for (int i = 0; i < N_POSTERS; i++) {
		posters[i] = (struct poster){ .loop = r.loop };
		for (int v = 0; v < N_BURST; v++) {
			posters[i].visits[v].post.run = visit_run;
			assert_int_equal(sem_init(&posters[i].visits[v].done, 0, 0), 0);
		}
		assert_int_equal(
			pthread_create(&posters[i].thread, NULL, post_and_wait, &posters[i]), 0);
	}
	for (int i = 0; i < N_POSTERS; i++) {
		assert_int_equal(pthread_join(posters[i].thread, NULL), 0);
		assert_false(posters[i].failed);
		for (int v = 0; v < N_BURST; v++)
			assert_int_equal(sem_destroy(&posters[i].visits[v].done), 0);
	}
	stop(&r);
	svm_loop_destroy(r.loop);
}

/* --- timers --- */

#define N_TIMERS 20

static struct {
	const struct svm_timer *order[N_TIMERS + 4];
	uint64_t fired_ns[N_TIMERS + 4];
	int n;
	sem_t last;
} fired;

static void note_fired(struct svm_timer *timer)
{
	fired.order[fired.n] = timer;
	fired.fired_ns[fired.n] = svm_sys_real.clock_ns();
	fired.n++;
}

static void note_last(struct svm_timer *timer)
{
	note_fired(timer);
	sem_post(&fired.last);
}

static void reset_fired(void)
{
	memset(&fired, 0, sizeof(fired));
	assert_int_equal(sem_init(&fired.last, 0, 0), 0);
}

static void timers_fire_in_order_and_not_early(void **state)
{
	struct svm_timer timers[N_TIMERS] = { 0 };
	struct svm_timer last = { .fire = note_last };
	struct runner r = new_runner(state, 0);
	uint64_t base;

	reset_fired();
	start(&r);
	let_sleep(r.loop); /* setting a timer must wake it */
	base = svm_sys_real.clock_ns() + 20 * MS;
	svm_loop_set_timer(r.loop, &last, base + 20 * MS);
	/* In an order of jumps (7 and 20 have no common divisor), two of each deadline. */
	for (unsigned int i = 0; i < N_TIMERS; i++) {
		unsigned int t = i * 7 % N_TIMERS;

		timers[t].fire = note_fired;
		svm_loop_set_timer(r.loop, &timers[t], base + t / 2 * MS);
	}
	assert_true(wait_sem(&fired.last));
	assert_int_equal(fired.n, N_TIMERS + 1);
	for (int i = 0; i < N_TIMERS; i++) {
		assert_true(fired.fired_ns[i] >= fired.order[i]->deadline_ns);
		if (i > 0)
			assert_true(fired.order[i]->deadline_ns >= fired.order[i - 1]->deadline_ns);
	}
	assert_ptr_equal(fired.order[N_TIMERS], &last);
	stop(&r);
	svm_loop_destroy(r.loop);
}

static void equal_deadlines_fire_as_they_were_set(void **state)
{
	struct svm_timer timers[5] = { 0 };
	struct runner r = new_runner(state, 0);

	reset_fired();
	for (int i = 0; i < 5; i++) {
		timers[i].fire = i == 4 ? note_last : note_fired;
		svm_loop_set_timer(r.loop, &timers[i], 5);
	}
	start(&r);
	assert_true(wait_sem(&fired.last));
	for (int i = 0; i < 5; i++)
		assert_ptr_equal(fired.order[i], &timers[i]);
	stop(&r);
	svm_loop_destroy(r.loop);
}

static void timers_move_and_cancel(void **state)
{
	struct svm_timer far = { .fire = note_fired };
	struct svm_timer moved = { .fire = note_last };
	struct runner r = new_runner(state, 0);
	uint64_t now;

	reset_fired();
	start(&r);
	assert_false(svm_loop_cancel_timer(r.loop, &far));
	now = svm_sys_real.clock_ns();
	svm_loop_set_timer(r.loop, &far, now + 5 * MS);
	svm_loop_set_timer(r.loop, &moved, now + 1000000 * MS);
	svm_loop_set_timer(r.loop, &far, UINT64_MAX);
	let_sleep(r.loop);
	/* Earlier than what the loop sleeps for. */
	svm_loop_set_timer(r.loop, &moved, svm_sys_real.clock_ns() + MS);
	assert_true(wait_sem(&fired.last));
	assert_int_equal(fired.n, 1);
	assert_true(svm_loop_cancel_timer(r.loop, &far));
	assert_false(svm_loop_cancel_timer(r.loop, &far));
	assert_false(svm_loop_cancel_timer(r.loop, &moved));
	stop(&r);
	svm_loop_destroy(r.loop);
}

struct repeating {
	struct svm_timer timer;
	struct svm_loop *loop;
	sem_t entered;	  /* posted by the first fire() */
	sem_t cancelling; /* stays posted */
	atomic_int n_entered;
	atomic_int n_left; /* fire() is through */
};

/* Sets itself again, and is slow to leave, so that a cancel that does not wait would show. */
static void fire_slowly(struct svm_timer *timer)
{
	struct repeating *rep = svm_container_of(timer, struct repeating, timer);

	svm_loop_set_timer(rep->loop, timer, 0);
	if (atomic_fetch_add(&rep->n_entered, 1) == 0)
		sem_post(&rep->entered);
	if (!wait_sem(&rep->cancelling))
		return;
	sem_post(&rep->cancelling);
	for (int i = 0; i < 1000; i++)
		sched_yield();
	atomic_fetch_add(&rep->n_left, 1);
}

static void cancel_waits_for_a_running_fire(void **state)
{
	struct runner r = new_runner(state, 0);
	struct repeating rep = { .timer = { .fire = fire_slowly }, .loop = r.loop };
	bool was_set;
	int n;

	assert_int_equal(sem_init(&rep.entered, 0, 0), 0);
	assert_int_equal(sem_init(&rep.cancelling, 0, 0), 0);
	start(&r);
	svm_loop_set_timer(r.loop, &rep.timer, 0);
	assert_true(wait_sem(&rep.entered));
	sem_post(&rep.cancelling);
	/* Where this thread is held up here, it is not the first fire that is cancelled. */
	was_set = svm_loop_cancel_timer(r.loop, &rep.timer);
	n = atomic_load(&rep.n_entered);
	assert_int_equal(atomic_load(&rep.n_left), n);
	if (n == 1)
		assert_true(was_set);
	/* Although it had set itself, it is not due any more. */
	visit(r.loop);
	assert_int_equal(atomic_load(&rep.n_entered), n);
	stop(&r);
	svm_loop_destroy(r.loop);
	assert_int_equal(sem_destroy(&rep.entered), 0);
	assert_int_equal(sem_destroy(&rep.cancelling), 0);
}

/* --- watches --- */

struct counted_watch {
	struct svm_watch watch;
	struct svm_loop *loop;
	bool drain;
	struct counted_watch *victim; /* removed by ready(); may be itself */
	atomic_int calls;
	int wanted; /* calls after which done is posted */
	sem_t done;
};

static void watch_ready(struct svm_watch *watch)
{
	struct counted_watch *w = svm_container_of(watch, struct counted_watch, watch);
	uint64_t value;
	ssize_t n;

	if (w->drain) {
		do {
			n = read(watch->fd, &value, sizeof(value));
		} while (n < 0 && errno == EINTR);
		if (n < 0)
			return; /* nothing there: a late event, which is not a call to count */
	}
	if (w->victim)
		svm_loop_remove_watch(w->loop, &w->victim->watch);
	if (atomic_fetch_add(&w->calls, 1) + 1 == w->wanted)
		sem_post(&w->done);
}

static void init_watch(struct counted_watch *w, struct svm_loop *loop, int fd, int wanted)
{
	memset(w, 0, sizeof(*w));
	w->watch.fd = fd;
	w->watch.ready = watch_ready;
	w->loop = loop;
	w->wanted = wanted;
	assert_int_equal(sem_init(&w->done, 0, 0), 0);
}

/* ready() takes one of three counts per call: it is called for each. */
static void watches_are_level_triggered(void **state)
{
	struct runner r = new_runner(state, 0);
	struct counted_watch w;
	int fd = new_eventfd(3, EFD_SEMAPHORE);

	init_watch(&w, r.loop, fd, 3);
	w.drain = true;
	assert_int_equal(svm_loop_add_watch(r.loop, &w.watch), 0);
	start(&r);
	assert_true(wait_sem(&w.done));
	let_sleep(r.loop);
	assert_int_equal(atomic_load(&w.calls), 3);
	svm_loop_remove_watch(r.loop, &w.watch);

	/* Again, and this time while the loop sleeps. */
	atomic_store(&w.calls, 0);
	assert_int_equal(svm_loop_add_watch(r.loop, &w.watch), 0);
	let_sleep(r.loop);
	for (int i = 0; i < 3; i++)
		signal_eventfd(fd);
	assert_true(wait_sem(&w.done));
	svm_loop_remove_watch(r.loop, &w.watch);
	stop(&r);
	svm_loop_destroy(r.loop);
	assert_int_equal(close(fd), 0);
}

static void watch_removes_itself(void **state)
{
	struct runner r = new_runner(state, 0);
	struct counted_watch w;
	int fd = new_eventfd(1, 0);

	start(&r);
	for (int round = 0; round < 50; round++) {
		init_watch(&w, r.loop, fd, 1);
		w.victim = &w;
		assert_int_equal(svm_loop_add_watch(r.loop, &w.watch), 0);
		assert_true(wait_sem(&w.done));
		visit(r.loop);
		assert_int_equal(atomic_load(&w.calls), 1);
		memset(&w, 0xdd, sizeof(w));
	}
	stop(&r);
	svm_loop_destroy(r.loop);
	assert_int_equal(close(fd), 0);
}

/* Two are ready at the same time and each removes the other: only one may be called. */
static void watch_removes_another_that_is_ready(void **state)
{
	struct svm_loop *loop = create_loop(state, 0);
	struct runner r = { .loop = loop };
	struct counted_watch w[2];
	int fds[2] = { new_eventfd(1, 0), new_eventfd(1, 0) };

	for (int i = 0; i < 2; i++) {
		init_watch(&w[i], loop, fds[i], 1);
		w[i].drain = true;
		w[i].victim = &w[1 - i];
		assert_int_equal(svm_loop_add_watch(loop, &w[i].watch), 0);
	}
	start(&r);
	while (atomic_load(&w[0].calls) + atomic_load(&w[1].calls) == 0)
		visit(loop);
	let_sleep(loop);
	assert_int_equal(atomic_load(&w[0].calls) + atomic_load(&w[1].calls), 1);
	svm_loop_remove_watch(loop, &w[atomic_load(&w[0].calls) ? 0 : 1].watch);
	stop(&r);
	svm_loop_destroy(loop);
	assert_int_equal(close(fds[0]), 0);
	assert_int_equal(close(fds[1]), 0);
}

/* The loop calls ready() all the time; once remove returns, the memory is the owner's alone. */
static void remove_from_another_thread_under_load(void **state)
{
	struct runner r = new_runner(state, 0);
	int fd = new_eventfd(1, 0);

	start(&r);
	for (int round = 0; round < 300; round++) {
		struct counted_watch *w = malloc(sizeof(*w));

		assert_non_null(w);
		init_watch(w, r.loop, fd, 1 + round % 3);
		assert_int_equal(svm_loop_add_watch(r.loop, &w->watch), 0);
		if (round % 4)
			assert_true(wait_sem(&w->done));
		svm_loop_remove_watch(r.loop, &w->watch);
		assert_int_equal(sem_destroy(&w->done), 0);
		memset(w, 0xdd, sizeof(*w)); /* a late call would jump to 0xdddd... */
		free(w);
	}
	stop(&r);
	svm_loop_destroy(r.loop);
	assert_int_equal(close(fd), 0);
}

/* Its file is released, not only its callbacks: the peer of a socket sees the close at once. */
static void removed_files_are_let_go(void **state)
{
	struct runner r = new_runner(state, 0);
	int fds[2];

	start(&r);
	for (int round = 0; round < 20; round++) {
		struct counted_watch w;

		assert_int_equal(
			socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
		init_watch(&w, r.loop, fds[0], 1);
		assert_int_equal(svm_loop_add_watch(r.loop, &w.watch), 0);
		let_sleep(r.loop);
		svm_loop_remove_watch(r.loop, &w.watch);
		assert_int_equal(close(fds[0]), 0);
		assert_int_equal(send(fds[1], "x", 1, MSG_NOSIGNAL), -1);
		assert_int_equal(errno, EPIPE);
		assert_int_equal(close(fds[1]), 0);
		assert_int_equal(atomic_load(&w.calls), 0);
	}
	stop(&r);
	svm_loop_destroy(r.loop);
}

#define N_MANY 300

/* More than one wait returns, and more than the submission queue holds. */
static void many_watches(void **state)
{
	static struct counted_watch w[N_MANY];
	struct runner r = new_runner(state, 0);

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < N_MANY; i++) {
			init_watch(&w[i], r.loop, new_eventfd(1, 0), 1);
			w[i].drain = true;
			assert_int_equal(svm_loop_add_watch(r.loop, &w[i].watch), 0);
		}
		start(&r);
		for (int i = 0; i < N_MANY; i++)
			assert_true(wait_sem(&w[i].done));
		if (round == 1)
			stop(&r); /* removal works with and without a thread */
		for (int i = 0; i < N_MANY; i++) {
			svm_loop_remove_watch(r.loop, &w[i].watch);
			assert_int_equal(atomic_load(&w[i].calls), 1);
			assert_int_equal(close(w[i].watch.fd), 0);
			assert_int_equal(sem_destroy(&w[i].done), 0);
		}
		if (round != 1)
			stop(&r);
	}
	svm_loop_destroy(r.loop);
}

/* There are fewer places than watches come and go in the life of a loop. */
static void places_are_used_again(void **state)
{
	struct counted_watch w;
	struct runner r = new_runner(state, 0);
	int fd = new_eventfd(0, 0);

	init_watch(&w, r.loop, fd, 1);
	for (unsigned int i = 0; i < 70000; i++) {
		assert_int_equal(svm_loop_add_watch(r.loop, &w.watch), 0);
		svm_loop_remove_watch(r.loop, &w.watch);
	}
	assert_int_equal(sem_destroy(&w.done), 0);
	svm_loop_destroy(r.loop);
	assert_int_equal(close(fd), 0);
}

/* None is ready, so nothing but the loop itself gets all of them to the kernel. */
static void last_of_many_watches_is_heard(void **state)
{
	static struct counted_watch w[N_MANY];
	struct runner r = new_runner(state, 0);

	for (int i = 0; i < N_MANY; i++) {
		init_watch(&w[i], r.loop, new_eventfd(0, 0), 1);
		w[i].drain = true;
		assert_int_equal(svm_loop_add_watch(r.loop, &w[i].watch), 0);
	}
	start(&r);
	signal_eventfd(w[N_MANY - 1].watch.fd);
	assert_true(wait_sem(&w[N_MANY - 1].done));
	for (int i = 0; i < N_MANY; i++) {
		svm_loop_remove_watch(r.loop, &w[i].watch);
		assert_int_equal(close(w[i].watch.fd), 0);
		assert_int_equal(sem_destroy(&w[i].done), 0);
	}
	stop(&r);
	svm_loop_destroy(r.loop);
}

/* A loop that ran and stopped serves its watches again, in another thread. */
static void loop_runs_again(void **state)
{
	struct runner r = new_runner(state, 0);
	struct counted_watch w;
	int fd = new_eventfd(0, 0);

	init_watch(&w, r.loop, fd, 1);
	w.drain = true;
	assert_int_equal(svm_loop_add_watch(r.loop, &w.watch), 0);
	for (int round = 0; round < 10; round++) {
		w.wanted = round + 1;
		start(&r);
		signal_eventfd(fd);
		assert_true(wait_sem(&w.done));
		stop(&r);
	}
	assert_int_equal(atomic_load(&w.calls), 10);
	svm_loop_remove_watch(r.loop, &w.watch);
	svm_loop_destroy(r.loop);
	assert_int_equal(close(fd), 0);
}

static void bad_files_are_refused(void **state)
{
	struct svm_loop *loop = create_loop(state, 0);
	struct svm_watch watch = { .fd = -1, .ready = watch_ready };
	struct svm_reader reader = { .fd = -1 };

	assert_int_equal(svm_loop_add_watch(loop, &watch), -EBADF);
	assert_int_equal(svm_loop_add_reader(loop, &reader), -EBADF);
	svm_loop_destroy(loop);
}

/* --- readers --- */

struct collector {
	struct svm_reader reader;
	char buffer[16];
	size_t n_bytes;
	size_t wanted;
	unsigned int sum;
	bool too_long;
	int error;
	int n_errors;
	sem_t done; /* wanted bytes, or an error */
};

static void collect(struct svm_reader *reader, ssize_t n)
{
	struct collector *c = svm_container_of(reader, struct collector, reader);

	if (n < 0) {
		c->error = (int)n;
		c->n_errors++;
		sem_post(&c->done);
		return;
	}
	if ((size_t)n > sizeof(c->buffer))
		c->too_long = true;
	for (ssize_t i = 0; i < n; i++)
		c->sum += (unsigned char)c->buffer[i];
	c->n_bytes += (size_t)n;
	if (c->n_bytes == c->wanted)
		sem_post(&c->done);
}

static void init_collector(struct collector *c, int fd, size_t wanted)
{
	memset(c, 0, sizeof(*c));
	c->reader = (struct svm_reader){
		.fd = fd,
		.buffer = c->buffer,
		.size = sizeof(c->buffer),
		.data = collect,
	};
	c->wanted = wanted;
	assert_int_equal(sem_init(&c->done, 0, 0), 0);
}

static void reader_gets_all_bytes_then_the_end(void **state)
{
	struct runner r = new_runner(state, 0);
	struct collector c;
	unsigned int sum = 0;
	size_t total = 0;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	init_collector(&c, fds[0], 0);
	for (unsigned int i = 0; i < 1000; i++)
		c.wanted += i % 40 + 1;
	start(&r);
	assert_int_equal(svm_loop_add_reader(r.loop, &c.reader), 0);
	/* Shorter and longer than the buffer. */
	for (unsigned int i = 0; i < 1000; i++) {
		char bytes[40];
		size_t n = i % 40 + 1;

		memset(bytes, (int)(i % 200), sizeof(bytes));
		assert_int_equal(write(fds[1], bytes, n), (ssize_t)n);
		sum += i % 200 * (unsigned int)n;
		total += n;
	}
	assert_true(wait_sem(&c.done));
	assert_int_equal(c.n_bytes, total);
	assert_int_equal(c.sum, sum);
	assert_false(c.too_long);

	assert_int_equal(close(fds[1]), 0);
	assert_true(wait_sem(&c.done));
	let_sleep(r.loop);
	svm_loop_remove_reader(r.loop, &c.reader);
	/* Told once, though the pipe stays readable. */
	assert_int_equal(c.error, -EPIPE);
	assert_int_equal(c.n_errors, 1);
	stop(&r);
	svm_loop_destroy(r.loop);
	assert_int_equal(close(fds[0]), 0);
}

struct leaving_reader {
	struct collector collector;
	struct svm_loop *loop;
};

static void collect_and_leave(struct svm_reader *reader, ssize_t n)
{
	struct collector *c = svm_container_of(reader, struct collector, reader);

	svm_loop_remove_reader(svm_container_of(c, struct leaving_reader, collector)->loop, reader);
	collect(reader, n);
}

/* There is more to read, which is not read any more: asleep, and in a spin, where the engine still has
 * the reader when it leaves. */
static void reader_removes_itself(void **state)
{
	/* Several times: which of the two ways finds the bytes in a spin is left to chance. */
	for (unsigned int round = 0; round < 20; round++) {
		struct runner r = new_runner(state, round % 4 ? 100000 : 0);
		struct leaving_reader l = { 0 };
		const char bytes[48] = { 1 };
		int fds[2];

		assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
		init_collector(&l.collector, fds[0], sizeof(l.collector.buffer));
		l.collector.reader.data = collect_and_leave;
		l.loop = r.loop;
		start(&r);
		assert_int_equal(svm_loop_add_reader(r.loop, &l.collector.reader), 0);
		visit(r.loop);
		assert_int_equal(write(fds[1], bytes, sizeof(bytes)), sizeof(bytes));
		assert_true(wait_sem(&l.collector.done));
		visit(r.loop);
		assert_int_equal(l.collector.n_bytes, sizeof(l.collector.buffer));
		assert_int_equal(l.collector.n_errors, 0);
		stop(&r);
		svm_loop_destroy(r.loop);
		assert_int_equal(close(fds[0]), 0);
		assert_int_equal(close(fds[1]), 0);
	}
}

struct writer {
	int fd;
	atomic_bool stop;
	bool failed;
};

static void *write_always(void *arg)
{
	struct writer *w = arg;
	const char bytes[64] = { 1 };

	while (!atomic_load(&w->stop)) {
		struct pollfd p = { .fd = w->fd, .events = POLLOUT };

		if (write(w->fd, bytes, sizeof(bytes)) < 0 && errno != EAGAIN) {
			w->failed = true;
			break;
		}
		/* The pipe is full while nobody reads: look at stop in between. */
		if (poll(&p, 1, 10) < 0 && errno != EINTR)
			w->failed = true;
	}
	return NULL;
}

static void remove_reader_from_another_thread_under_load(void **state)
{
	struct runner r = new_runner(state, 0);
	struct writer w = { 0 };
	pthread_t thread;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	w.fd = fds[1];
	start(&r);
	assert_int_equal(pthread_create(&thread, NULL, write_always, &w), 0);
	for (int round = 0; round < 300; round++) {
		struct collector *c = malloc(sizeof(*c));

		assert_non_null(c);
		init_collector(c, fds[0], 16);
		assert_int_equal(svm_loop_add_reader(r.loop, &c->reader), 0);
		if (round % 4)
			assert_true(wait_sem(&c->done));
		svm_loop_remove_reader(r.loop, &c->reader);
		assert_int_equal(c->error, 0);
		assert_int_equal(sem_destroy(&c->done), 0);
		memset(c, 0xdd, sizeof(*c));
		free(c);
	}
	atomic_store(&w.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_false(w.failed);
	stop(&r);
	svm_loop_destroy(r.loop);
	assert_int_equal(close(fds[0]), 0);
	assert_int_equal(close(fds[1]), 0);
}

/* --- a userfaultfd, which is what readers are for --- */

#define N_FAULT_PAGES 512u

struct fault_server {
	struct svm_reader reader;
	struct uffd_msg msgs[8];
	int uffd;
	char *memory;
	atomic_uint n_served;
	atomic_int failed; /* errno */
};

/* Page i gets bytes of value i % 251. */
static void serve_faults(struct svm_reader *reader, ssize_t n)
{
	static _Thread_local char page[SVM_PAGE_SIZE];
	struct fault_server *s = svm_container_of(reader, struct fault_server, reader);

	if (n < 0 || (size_t)n % sizeof(s->msgs[0])) {
		atomic_store(&s->failed, n < 0 ? (int)-n : EPROTO);
		return;
	}
	for (size_t i = 0; i < (size_t)n / sizeof(s->msgs[0]); i++) {
		uint64_t addr = s->msgs[i].arg.pagefault.address & ~(uint64_t)(SVM_PAGE_SIZE - 1);
		struct uffdio_copy copy = { .dst = addr,
					    .src = svm_addr(page),
					    .len = SVM_PAGE_SIZE };

		if (s->msgs[i].event != UFFD_EVENT_PAGEFAULT) {
			atomic_store(&s->failed, EPROTO);
			return;
		}
		memset(page, (int)((addr - svm_addr(s->memory)) / SVM_PAGE_SIZE % 251),
		       sizeof(page));
		if (ioctl(s->uffd, UFFDIO_COPY, &copy) && errno != EEXIST) {
			atomic_store(&s->failed, errno);
			return;
		}
		atomic_fetch_add(&s->n_served, 1);
	}
}

static char *map_pages(void)
{
	char *memory = mmap(NULL, (size_t)N_FAULT_PAGES * SVM_PAGE_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(memory != MAP_FAILED);
	return memory;
}

static int open_uffd(char *memory)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = svm_addr(memory),
			   .len = (uint64_t)N_FAULT_PAGES * SVM_PAGE_SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = svm_sys_real.userfaultfd(O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0) {
		print_message("userfaultfd is denied on this machine: %s\n", strerror(-fd));
		return -1;
	}
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &reg), 0);
	return fd;
}

struct toucher {
	pthread_t thread;
	const volatile char *memory;
	unsigned int first;
	unsigned int step;
	unsigned int n_wrong;
};

static void *touch_pages(void *arg)
{
	struct toucher *t = arg;

	for (unsigned int p = t->first; p < N_FAULT_PAGES; p += t->step) {
		if ((unsigned char)t->memory[(size_t)p * SVM_PAGE_SIZE + p] != p % 251)
			t->n_wrong++;
	}
	return NULL;
}

/* Two threads touch every page, each in its own order; n_loops loops read the same userfaultfd. */
static void serve_userfaultfd(void **state, unsigned int n_loops, uint32_t spin_us)
{
	struct runner runners[2];
	struct fault_server servers[2] = { 0 };
	struct toucher touchers[2] = { { .step = 1 }, { .step = 3 } };
	unsigned int n_served = 0;
	struct svm_loop *first = create_loop(state, spin_us);
	char *memory = map_pages();
	int uffd = open_uffd(memory);

	if (uffd < 0) {
		svm_loop_destroy(first);
		assert_int_equal(munmap(memory, (size_t)N_FAULT_PAGES * SVM_PAGE_SIZE), 0);
		skip();
	}
	for (unsigned int i = 0; i < n_loops; i++) {
		runners[i].loop = i == 0 ? first : create_loop(state, spin_us);
		servers[i] = (struct fault_server){
			.reader = { .fd = uffd,
				    .buffer = servers[i].msgs,
				    .size = sizeof(servers[i].msgs),
				    .data = serve_faults },
			.uffd = uffd,
			.memory = memory,
		};
		start(&runners[i]);
		assert_int_equal(svm_loop_add_reader(runners[i].loop, &servers[i].reader), 0);
	}
	for (unsigned int i = 0; i < 2; i++) {
		touchers[i].memory = memory;
		assert_int_equal(
			pthread_create(&touchers[i].thread, NULL, touch_pages, &touchers[i]), 0);
	}
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(touchers[i].thread, NULL), 0);
		assert_int_equal(touchers[i].n_wrong, 0);
	}
	for (unsigned int i = 0; i < n_loops; i++) {
		svm_loop_remove_reader(runners[i].loop, &servers[i].reader);
		stop(&runners[i]);
		svm_loop_destroy(runners[i].loop);
		assert_int_equal(atomic_load(&servers[i].failed), 0);
		n_served += atomic_load(&servers[i].n_served);
	}
	assert_true(n_served >= N_FAULT_PAGES);
	assert_int_equal(close(uffd), 0);
	assert_int_equal(munmap(memory, (size_t)N_FAULT_PAGES * SVM_PAGE_SIZE), 0);
}

static void reader_serves_faults(void **state)
{
	serve_userfaultfd(state, 1, 0);
}

static void reader_serves_faults_spinning(void **state)
{
	serve_userfaultfd(state, 1, 200);
}

static void two_loops_read_one_userfaultfd(void **state)
{
	serve_userfaultfd(state, 2, 0);
}

/* --- sleeping and spinning --- */

/* With everything registered and nothing to do, a loop is not seen at all. */
static void idle_loop_makes_no_wakeups(void **state)
{
	struct runner r = new_runner(state, 100);
	struct svm_timer far = { .fire = note_fired };
	struct counted_watch w;
	struct collector c;
	int fd = new_eventfd(0, 0);
	int quiet = new_eventfd(0, 0);
	int fds[2];
	uint64_t wakeups;
	int waits;

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	init_watch(&w, r.loop, fd, 1);
	w.drain = true;
	init_collector(&c, fds[0], 1);
	start(&r);
	assert_int_equal(svm_loop_add_watch(r.loop, &w.watch), 0);
	assert_int_equal(svm_loop_add_reader(r.loop, &c.reader), 0);
	svm_loop_set_timer(r.loop, &far, svm_sys_real.clock_ns() + 3600000 * MS);
	signal_eventfd(fd);
	assert_true(wait_sem(&w.done));
	let_sleep(r.loop);

	wakeups = counted(SVM_COUNT_WAKEUPS);
	waits = atomic_load(&n_waits);
	assert_true(wakeups > 0);
	assert_int_equal(svm_sys_real.poll_one(quiet, POLLIN, 100 * (int64_t)MS), 0);
	assert_int_equal(counted(SVM_COUNT_WAKEUPS), wakeups);
	assert_int_equal(atomic_load(&n_waits), waits);

	assert_true(svm_loop_cancel_timer(r.loop, &far));
	svm_loop_remove_watch(r.loop, &w.watch);
	svm_loop_remove_reader(r.loop, &c.reader);
	stop(&r);
	svm_loop_destroy(r.loop);
	assert_int_equal(close(fd), 0);
	assert_int_equal(close(quiet), 0);
	assert_int_equal(close(fds[0]), 0);
	assert_int_equal(close(fds[1]), 0);
}

/* One byte at a time, the next only when the last has arrived. */
static void ping(struct svm_loop *loop, int n_rounds)
{
	struct collector c;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	init_collector(&c, fds[0], 1);
	assert_int_equal(svm_loop_add_reader(loop, &c.reader), 0);
	for (int i = 0; i < n_rounds; i++) {
		assert_int_equal(write(fds[1], "x", 1), 1);
		assert_true(wait_sem(&c.done));
		c.wanted++;
	}
	svm_loop_remove_reader(loop, &c.reader);
	assert_int_equal(c.n_bytes, n_rounds);
	assert_int_equal(close(fds[0]), 0);
	assert_int_equal(close(fds[1]), 0);
}

static void spinning_catches_events(void **state)
{
	struct runner r = new_runner(state, 100000);
	struct svm_timer soon = { .fire = note_last };

	start(&r);
	ping(r.loop, 200);
	assert_true(counted(SVM_COUNT_SPINS_HIT) > 100);
	assert_true(counted(SVM_COUNT_WAKEUPS) < 100);

	/* A timer is not held up by a spin, nor lost in it. */
	reset_fired();
	svm_loop_set_timer(r.loop, &soon, svm_sys_real.clock_ns() + MS);
	assert_true(wait_sem(&fired.last));
	stop(&r);
	svm_loop_destroy(r.loop);
}

static void no_spinning_unless_asked(void **state)
{
	struct runner r = new_runner(state, 0);

	start(&r);
	ping(r.loop, 50);
	stop(&r);
	assert_int_equal(counted(SVM_COUNT_SPINS_HIT), 0);
	assert_true(counted(SVM_COUNT_WAKEUPS) > 0);
	svm_loop_destroy(r.loop);
}

/* --- a kernel that says no --- */

static int interrupted_waits; /* that many more are interrupted */
static int broken_wait;	      /* errno of the wait after those, 0 for none */

static int trouble(void)
{
	if (interrupted_waits > 0) {
		interrupted_waits--;
		return -EINTR;
	}
	return -broken_wait;
}

static int troubled_epoll_wait(int epfd, struct epoll_event *events, int n_events,
			       int64_t timeout_ns)
{
	int ret = trouble();

	return ret ? ret : svm_sys_real.epoll_wait(epfd, events, n_events, timeout_ns);
}

static int troubled_io_uring_enter(struct io_uring *ring, unsigned int wait_nr, int64_t timeout_ns)
{
	int ret = trouble();

	return ret ? ret : svm_sys_real.io_uring_enter(ring, wait_nr, timeout_ns);
}

static void interrupted_waits_go_on(void **state)
{
	struct runner r = new_runner(state, 0);

	table.epoll_wait = troubled_epoll_wait;
	table.io_uring_enter = troubled_io_uring_enter;
	interrupted_waits = 5;
	broken_wait = 0;
	start(&r);
	ping(r.loop, 10);
	stop(&r);
	assert_int_equal(interrupted_waits, 0);
	svm_loop_destroy(r.loop);
}

static void broken_wait_ends_the_run(void **state)
{
	struct runner r = new_runner(state, 0);
	struct counted_watch w;
	int fd = new_eventfd(0, 0);

	table.epoll_wait = troubled_epoll_wait;
	table.io_uring_enter = troubled_io_uring_enter;
	interrupted_waits = 0;
	broken_wait = EBADF;
	init_watch(&w, r.loop, fd, 1);
	assert_int_equal(svm_loop_add_watch(r.loop, &w.watch), 0);
	assert_int_equal(svm_loop_run(r.loop), -EBADF);
	svm_loop_remove_watch(r.loop, &w.watch);
	assert_false(svm_loop_is_current(r.loop));
	assert_int_equal(svm_service_depth, 0);
	svm_loop_destroy(r.loop);
	assert_int_equal(close(fd), 0);
}

/* Closed by mistake before the loop's thread came to poll it: a call or none, but no storm of them. */
static void watch_of_a_closed_file_is_left_alone(void **state)
{
	struct runner r = new_runner(state, 0);
	struct counted_watch w;
	int low = new_eventfd(0, 0);
	/* A number that no other thread, such as one of a sanitizer, gets for a file of its own meanwhile. */
	int fd = fcntl(low, F_DUPFD_CLOEXEC, 500);

	assert_true(fd >= 500);
	assert_int_equal(close(low), 0);
	init_watch(&w, r.loop, fd, 1);
	assert_int_equal(svm_loop_add_watch(r.loop, &w.watch), 0);
	assert_int_equal(close(fd), 0);
	start(&r);
	let_sleep(r.loop);
	assert_int_equal(atomic_load(&w.calls), svm_loop_is_io_uring(r.loop) ? 1 : 0);
	svm_loop_remove_watch(r.loop, &w.watch);
	stop(&r);
	svm_loop_destroy(r.loop);
}

static void io_uring_denied(void **state)
{
	static const int errnos[] = { EPERM, EACCES, ENOSYS, EINVAL };
	struct svm_loop_options options = { .kind = SVM_LOOP_IO_URING };
	struct svm_loop *loop = NULL;

	(void)state;
	table.io_uring_init = denied_io_uring_init;
	for (unsigned int i = 0; i < SVM_ARRAY_SIZE(errnos); i++) {
		atomic_store(&deny_errno, errnos[i]);
		options.kind = SVM_LOOP_IO_URING;
		assert_int_equal(svm_loop_create(&options, &loop), -EOPNOTSUPP);
		assert_null(loop);
		options.kind = SVM_LOOP_AUTO;
		assert_int_equal(svm_loop_create(&options, &loop), 0);
		assert_false(svm_loop_is_io_uring(loop));
		svm_loop_destroy(loop);
		loop = NULL;
	}
	/* Not a denial: passed on. */
	atomic_store(&deny_errno, ENOMEM);
	options.kind = SVM_LOOP_IO_URING;
	assert_int_equal(svm_loop_create(&options, &loop), -ENOMEM);
	options.kind = 99;
	assert_int_equal(svm_loop_create(&options, &loop), -EINVAL);
	assert_null(loop);
	svm_loop_destroy(NULL);
}

static int calls_left; /* the one after those fails */
static int n_open;     /* files and mappings that are open */

static bool fails_now(void)
{
	return calls_left-- == 0;
}

static int failing_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
			void **ret_addr)
{
	if (fails_now())
		return -ENOMEM;
	n_open++;
	return svm_sys_real.mmap(addr, size, prot, flags, fd, offset, ret_addr);
}

static int failing_munmap(void *addr, size_t size)
{
	n_open--;
	return svm_sys_real.munmap(addr, size);
}

static int failing_eventfd(unsigned int initial, int flags)
{
	if (fails_now())
		return -EMFILE;
	n_open++;
	return svm_sys_real.eventfd(initial, flags);
}

static int failing_epoll_create(int flags)
{
	if (fails_now())
		return -EMFILE;
	n_open++;
	return svm_sys_real.epoll_create(flags);
}

static int failing_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	if (fails_now())
		return -ENOSPC;
	return svm_sys_real.epoll_ctl(epfd, op, fd, event);
}

static int failing_close(int fd)
{
	n_open--;
	return svm_sys_real.close(fd);
}

static int failing_io_uring_init(unsigned int entries, struct io_uring *ring,
				 struct io_uring_params *params)
{
	if (fails_now())
		return -ENOMEM;
	return svm_sys_real.io_uring_init(entries, ring, params);
}

/* The n-th call fails, for every n until none does: each time nothing is left open. */
static void failed_create_leaves_nothing(void **state)
{
	const struct engine *engine = *state;
	const struct svm_loop_options options = { .kind = engine->kind };
	struct svm_loop *loop = NULL;
	int ret = -1;
	int n;

	svm_loop_destroy(create_loop(state, 0)); /* skips where there is none */
	table.mmap = failing_mmap;
	table.munmap = failing_munmap;
	table.eventfd = failing_eventfd;
	table.epoll_create = failing_epoll_create;
	table.epoll_ctl = failing_epoll_ctl;
	table.close = failing_close;
	table.io_uring_init = failing_io_uring_init;
	n_open = 0;
	for (n = 0; ret < 0; n++) {
		assert_true(n < 20);
		calls_left = n;
		ret = svm_loop_create(&options, &loop);
		if (ret < 0) {
			assert_null(loop);
			assert_int_equal(n_open, 0);
		}
	}
	assert_true(n > 3);
	svm_loop_destroy(loop);
	assert_int_equal(n_open, 0);
}

#define ON(engine, test)                                                              \
	{                                                                             \
#test "_on_" #engine, test, setup, teardown, (void *)&engine_##engine \
	}
#define ON_EACH(test) ON(epoll, test), ON(io_uring, test)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH(post_runs_in_the_loops_thread),
		ON_EACH(queued_posts_run_once_each),
		ON_EACH(own_posts_make_no_system_call),
		ON_EACH(no_wakeup_is_lost),
		ON_EACH(timers_fire_in_order_and_not_early),
		ON_EACH(equal_deadlines_fire_as_they_were_set),
		ON_EACH(timers_move_and_cancel),
		ON_EACH(cancel_waits_for_a_running_fire),
		ON_EACH(watches_are_level_triggered),
		ON_EACH(watch_removes_itself),
		ON_EACH(watch_removes_another_that_is_ready),
		ON_EACH(remove_from_another_thread_under_load),
		ON_EACH(removed_files_are_let_go),
		ON_EACH(many_watches),
		ON_EACH(places_are_used_again),
		ON_EACH(last_of_many_watches_is_heard),
		ON_EACH(loop_runs_again),
		ON_EACH(bad_files_are_refused),
		ON_EACH(reader_gets_all_bytes_then_the_end),
		ON_EACH(reader_removes_itself),
		ON_EACH(remove_reader_from_another_thread_under_load),
		ON_EACH(reader_serves_faults),
		ON_EACH(reader_serves_faults_spinning),
		ON_EACH(two_loops_read_one_userfaultfd),
		ON_EACH(idle_loop_makes_no_wakeups),
		ON_EACH(spinning_catches_events),
		ON_EACH(no_spinning_unless_asked),
		ON_EACH(interrupted_waits_go_on),
		ON_EACH(broken_wait_ends_the_run),
		ON_EACH(watch_of_a_closed_file_is_left_alone),
		ON_EACH(failed_create_leaves_nothing),
		cmocka_unit_test_setup_teardown(io_uring_denied, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
