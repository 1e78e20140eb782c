/* SPDX-License-Identifier: MIT */
/*
 * The common part: who may call back when, timers, posts, sleeping and spinning.
 *
 * Sleeping and waking. The loop's thread decides under the lock that there is nothing to do and
 * sets `sleeping`; whoever adds something under the same lock and finds it set writes the wake-up
 * fd. So nothing is lost, and a busy loop costs its posters no system call. The write happens under
 * the lock, too: the thing added may end the loop's life, and the loop cannot see it before the
 * lock is free.
 *
 * Letting go. `running` names the item whose callback runs. Removal takes the item out under the
 * lock, then waits until it is not running and the engine does not have it in flight. The loop's
 * thread does not wait for itself: it looks an item up by token again after each callback.
 */
#include "arena.h"
#include "loop_engine.h"
#include "sys.h"
#include <assert.h>
#include <errno.h>
#include <libsvm/space.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>

/* Reads of one reader before others get their turn. */
#define READS_PER_TURN 4
/* Readers that a spin looks at directly, without asking the engine. */
#define SPIN_READERS 4u
/* The shortest spin, as a part of the longest: a loop that found nothing for long still tries. */
#define SPIN_MIN_PART 16u

static _Thread_local const struct svm_loop *current;

bool svm_loop_is_current(const struct svm_loop *loop)
{
	return current == loop;
}

bool svm_loop_is_io_uring(const struct svm_loop *loop)
{
	return loop->engine == &svm_loop_io_uring;
}

/* --- create, destroy --- */

/* AUTO: by epoll, which stays armed, a lone fault costs 0.4 to 0.6 us less (docs/architecture.md). */
static int open_engine(struct svm_loop *loop, uint32_t kind)
{
	loop->engine = kind == SVM_LOOP_IO_URING ? &svm_loop_io_uring : &svm_loop_epoll;
	return loop->engine->open(loop);
}

int svm_loop_create(const struct svm_loop_options *options, struct svm_loop **ret_loop)
{
	struct svm_loop *loop;
	int ret;

	if (options->kind > SVM_LOOP_IO_URING)
		return -EINVAL;
	loop = svm_arena_map(sizeof(*loop));
	if (!loop)
		return -ENOMEM;
	loop->slots = svm_arena_map(SVM_LOOP_SLOTS * sizeof(*loop->slots));
	if (!loop->slots) {
		ret = -ENOMEM;
		goto err_unmap_loop;
	}
	loop->trace = options->trace;
	loop->spin_max_ns = (uint64_t)options->spin_us * 1000u;
	loop->spin_ns = loop->spin_max_ns;
	svm_list_init(&loop->free_slots);
	svm_list_init(&loop->watches);
	svm_list_init(&loop->readers);
	svm_list_init(&loop->timers);
	svm_list_init(&loop->due);
	svm_list_init(&loop->posts);
	svm_list_init(&loop->running_posts);

	ret = svm_sys->eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ret < 0)
		goto err_unmap_slots;
	loop->wake_fd = ret;
	ret = open_engine(loop, options->kind);
	if (ret < 0)
		goto err_close_wake_fd;
	/* Without attributes glibc allocates nothing and cannot fail here. */
	ret = -pthread_cond_init(&loop->let_go, NULL);
	if (ret < 0)
		goto err_close_engine;
	svm_lock_init(&loop->lock, SVM_RANK_LOOP);
	*ret_loop = loop;
	return 0;

err_close_engine:
	loop->engine->close(loop);
err_close_wake_fd:
	(void)svm_sys->close(loop->wake_fd);
err_unmap_slots:
	svm_arena_unmap(loop->slots, SVM_LOOP_SLOTS * sizeof(*loop->slots));
err_unmap_loop:
	svm_arena_unmap(loop, sizeof(*loop));
	return ret;
}

void svm_loop_destroy(struct svm_loop *loop)
{
	int ret;

	if (!loop)
		return;
	assert(!loop->active);
	assert(svm_list_empty(&loop->watches) && svm_list_empty(&loop->readers));
	assert(svm_list_empty(&loop->timers));
	loop->engine->close(loop);
	(void)svm_sys->close(loop->wake_fd);
	ret = pthread_cond_destroy(&loop->let_go);
	assert(ret == 0);
	(void)ret;
	svm_lock_finish(&loop->lock);
	svm_arena_unmap(loop->slots, SVM_LOOP_SLOTS * sizeof(*loop->slots));
	svm_arena_unmap(loop, sizeof(*loop));
}

/* --- waking and letting go --- */

/* LOCKING: loop->lock */
static void wake(struct svm_loop *loop)
{
	const uint64_t one = 1;
	ssize_t n;

	if (!loop->sleeping || loop->woken)
		return;
	loop->woken = true;
	/* The counter is 0 or woken would be set, so the kernel has no reason to refuse. */
	do {
		n = svm_sys->write(loop->wake_fd, &one, sizeof(one));
	} while (n == -EINTR);
	assert(n == sizeof(one));
}

/* The loop's thread is up again. LOCKING: loop->lock */
static void got_up(struct svm_loop *loop)
{
	uint64_t count;
	ssize_t n;

	loop->sleeping = false;
	if (!loop->woken)
		return;
	loop->woken = false;
	do {
		n = svm_sys->read(loop->wake_fd, &count, sizeof(count));
	} while (n == -EINTR);
	assert(n == sizeof(count));
}

/* LOCKING: loop->lock; released while it waits. */
static void wait_let_go(struct svm_loop *loop)
{
	/* Fails only for a mutex that is not ours. */
	if (pthread_cond_wait(&loop->let_go, &loop->lock.mutex) != 0)
		abort();
}

/* LOCKING: loop->lock */
static void tell_let_go(struct svm_loop *loop)
{
	if (pthread_cond_broadcast(&loop->let_go) != 0)
		abort();
}

/* The callback of item is about to run, without the lock. LOCKING: loop->lock, dropped */
static void begin_callback(struct svm_loop *loop, const void *item)
{
	loop->running = item;
	svm_unlock(&loop->lock);
}

/* LOCKING: takes loop->lock */
static void end_callback(struct svm_loop *loop)
{
	svm_lock(&loop->lock);
	loop->running = NULL;
	tell_let_go(loop);
}

/* --- watches and readers --- */

struct svm_loop_slot *svm_loop_find_slot(struct svm_loop *loop, uint64_t token)
{
	uint32_t index = (uint32_t)token;
	struct svm_loop_slot *slot;

	if (index >= loop->n_slots)
		return NULL;
	slot = &loop->slots[index];
	return slot->item && svm_loop_token(loop, slot) == token ? slot : NULL;
}

void svm_loop_free_slot(struct svm_loop *loop, struct svm_loop_slot *slot)
{
	svm_list_del(&slot->node);
	slot->item = NULL;
	slot->generation++;
	if (slot->generation == (uint32_t)(SVM_LOOP_TOKEN_WAKE >> 32))
		slot->generation = 0;
	svm_list_add_head(&loop->free_slots, &slot->node);
	tell_let_go(loop);
}

/* LOCKING: loop->lock */
static struct svm_loop_slot *new_slot(struct svm_loop *loop)
{
	struct svm_loop_slot *slot;

	if (!svm_list_empty(&loop->free_slots)) {
		slot = svm_list_entry(loop->free_slots.next, struct svm_loop_slot, node);
		svm_list_del(&slot->node);
		return slot;
	}
	if (loop->n_slots == SVM_LOOP_SLOTS)
		return NULL;
	slot = &loop->slots[loop->n_slots++];
	svm_list_init(&slot->node);
	return slot;
}

/* item->state is the number of its slot. */
static int add_item(struct svm_loop *loop, void *item, bool is_reader, struct svm_list *node,
		    uint32_t *state)
{
	struct svm_loop_slot *slot;
	int ret;

	svm_lock(&loop->lock);
	slot = new_slot(loop);
	if (!slot) {
		ret = -ENOSPC;
		goto out;
	}
	slot->item = item;
	slot->is_reader = is_reader;
	slot->removed = false;
	slot->in_flight = false;
	slot->dead = false;
	ret = loop->engine->add(loop, slot);
	if (ret < 0) {
		svm_loop_free_slot(loop, slot);
		goto out;
	}
	*state = (uint32_t)(slot - loop->slots);
	svm_list_add_tail(is_reader ? &loop->readers : &loop->watches, node);
	if (loop->engine->wake_for_changes)
		wake(loop);
out:
	svm_unlock(&loop->lock);
	return ret;
}

static void remove_item(struct svm_loop *loop, const void *item, struct svm_list *node,
			uint32_t state)
{
	struct svm_loop_slot *slot;
	uint32_t generation;
	bool in_flight = false;

	svm_lock(&loop->lock);
	assert(state < loop->n_slots);
	slot = &loop->slots[state];
	generation = slot->generation;
	/* Else its callback has removed it, and may still run. */
	if (slot->item == item && !slot->removed) {
		svm_list_del(node);
		slot->removed = true;
		loop->engine->remove(loop, slot);
		in_flight = slot->in_flight;
		if (!in_flight)
			svm_loop_free_slot(loop, slot);
	}
	if (!svm_loop_is_current(loop)) {
		if (in_flight)
			wake(loop);
		/* The generation moves on when the engine has let go. */
		while (loop->active &&
		       (loop->running == item || (in_flight && slot->generation == generation)))
			wait_let_go(loop);
	}
	svm_unlock(&loop->lock);
}

int svm_loop_add_watch(struct svm_loop *loop, struct svm_watch *watch)
{
	return add_item(loop, watch, false, &watch->node, &watch->state);
}

void svm_loop_remove_watch(struct svm_loop *loop, struct svm_watch *watch)
{
	remove_item(loop, watch, &watch->node, watch->state);
}

int svm_loop_add_reader(struct svm_loop *loop, struct svm_reader *reader)
{
	return add_item(loop, reader, true, &reader->node, &reader->state);
}

void svm_loop_remove_reader(struct svm_loop *loop, struct svm_reader *reader)
{
	remove_item(loop, reader, &reader->node, reader->state);
}

/* Still registered? LOCKING: loop->lock */
static struct svm_loop_slot *live_slot(struct svm_loop *loop, uint64_t token)
{
	struct svm_loop_slot *slot = svm_loop_find_slot(loop, token);

	return slot && !slot->removed ? slot : NULL;
}

/*
 * Read once. *ret_more: there may be more. Returns whether data() was called. LOCKING: loop->lock,
 * dropped and taken again: slot and reader may be gone afterwards.
 */
static bool read_once(struct svm_loop *loop, struct svm_loop_slot *slot, bool *ret_more)
{
	struct svm_reader *reader = slot->item;
	uint64_t token = svm_loop_token(loop, slot);
	size_t size = reader->size;
	bool called = false;
	ssize_t n;

	begin_callback(loop, reader);
	if (reader->before)
		reader->before(reader);
	n = svm_sys->read(reader->fd, reader->buffer, size);
	if (reader->after)
		reader->after(reader, n);
	if (n == 0)
		n = -EPIPE;
	if (n < 0 && n != -EAGAIN && n != -EINTR) {
		/*
		 * It would fail again and again: nothing more is read, until the owner removes it.
		 */
		svm_lock(&loop->lock);
		slot = live_slot(loop, token);
		if (slot) {
			slot->dead = true;
			loop->engine->remove(loop, slot);
		}
		svm_unlock(&loop->lock);
	}
	if (n != -EAGAIN && n != -EINTR) {
		reader->data(reader, n);
		called = true;
	}
	end_callback(loop);
	/* A short read took all there was. */
	*ret_more = n == -EINTR || (n > 0 && (size_t)n == size);
	return called;
}

/* Returns whether data came. */
static bool serve_reader(struct svm_loop *loop, uint64_t token)
{
	struct svm_loop_slot *slot;
	bool served = false;
	bool more = true;

	svm_lock(&loop->lock);
	for (int i = 0; i < READS_PER_TURN && more; i++) {
		slot = live_slot(loop, token);
		if (!slot || slot->dead)
			break;
		served |= read_once(loop, slot, &more);
	}
	svm_unlock(&loop->lock);
	return served;
}

static void serve_watch(struct svm_loop *loop, uint64_t token)
{
	struct svm_loop_slot *slot;

	svm_lock(&loop->lock);
	slot = live_slot(loop, token);
	if (slot) {
		struct svm_watch *watch = slot->item;

		begin_callback(loop, watch);
		watch->ready(watch);
		end_callback(loop);
	}
	svm_unlock(&loop->lock);
}

/* Returns whether a callback ran. */
static bool serve_token(struct svm_loop *loop, uint64_t token)
{
	struct svm_loop_slot *slot;
	bool is_reader;
	bool served = true;

	svm_lock(&loop->lock);
	slot = live_slot(loop, token);
	is_reader = slot && slot->is_reader;
	svm_unlock(&loop->lock);
	if (!slot)
		return false;

	if (is_reader)
		served = serve_reader(loop, token);
	else
		serve_watch(loop, token);

	if (loop->engine->served) {
		svm_lock(&loop->lock);
		slot = live_slot(loop, token);
		if (slot && !slot->dead)
			loop->engine->served(loop, slot);
		svm_unlock(&loop->lock);
	}
	return served;
}

/* Ask the engine and serve what it says. Returns how many callbacks ran, or a negative errno. */
static int wait_and_serve(struct svm_loop *loop, int64_t timeout_ns)
{
	int n = loop->engine->wait(loop, timeout_ns);
	int served = 0;

	for (int i = 0; i < n; i++)
		served += serve_token(loop, loop->ready[i]);
	return n < 0 ? n : served;
}

/* --- timers --- */

/* LOCKING: loop->lock */
static void insert_timer(struct svm_loop *loop, struct svm_timer *timer)
{
	struct svm_list *after = loop->timers.prev;

	/* From the end: most timers are set to end last. */
	while (after != &loop->timers &&
	       svm_list_entry(after, struct svm_timer, node)->deadline_ns > timer->deadline_ns)
		after = after->prev;
	svm_list_add_head(after, &timer->node);
}

void svm_loop_set_timer(struct svm_loop *loop, struct svm_timer *timer, uint64_t deadline_ns)
{
	svm_lock(&loop->lock);
	if (timer->armed)
		svm_list_del(&timer->node);
	timer->deadline_ns = deadline_ns;
	timer->armed = timer->n_cancelling == 0;
	if (timer->armed) {
		insert_timer(loop, timer);
		if (deadline_ns < loop->sleep_deadline_ns)
			wake(loop);
	}
	svm_unlock(&loop->lock);
}

bool svm_loop_cancel_timer(struct svm_loop *loop, struct svm_timer *timer)
{
	bool armed;

	svm_lock(&loop->lock);
	armed = timer->armed;
	if (armed) {
		svm_list_del(&timer->node);
		timer->armed = false;
	}
	if (!svm_loop_is_current(loop)) {
		/*
		 * A fire() that sets its timer again must not get ahead of us for ever: that has no
		 * effect now.
		 */
		timer->n_cancelling++;
		while (loop->active && loop->running == timer)
			wait_let_go(loop);
		timer->n_cancelling--;
	}
	svm_unlock(&loop->lock);
	return armed;
}

/* Those that are due now; one that is set again from fire() waits for the next pass. */
static void run_timers(struct svm_loop *loop)
{
	uint64_t now;

	svm_lock(&loop->lock);
	if (svm_list_empty(&loop->timers))
		goto out;
	now = svm_sys->clock_ns();
	while (!svm_list_empty(&loop->timers)) {
		struct svm_list *first = loop->timers.next;

		if (svm_list_entry(first, struct svm_timer, node)->deadline_ns > now)
			break;
		svm_list_del(first);
		svm_list_add_tail(&loop->due, first);
	}
	while (!svm_list_empty(&loop->due)) {
		struct svm_timer *timer = svm_list_entry(loop->due.next, struct svm_timer, node);

		svm_list_del(&timer->node);
		timer->armed = false;
		begin_callback(loop, timer);
		timer->fire(timer);
		end_callback(loop);
	}
out:
	svm_unlock(&loop->lock);
}

/* --- posts --- */

void svm_loop_post(struct svm_loop *loop, struct svm_post *post)
{
	svm_lock(&loop->lock);
	/* Not queued: zeroed by its owner, or left pointing to itself. */
	if (!post->node.next || svm_list_empty(&post->node)) {
		svm_list_add_tail(&loop->posts, &post->node);
		wake(loop);
	}
	svm_unlock(&loop->lock);
}

/* Those that are queued now; one that is posted again from run() waits for the next pass. Returns
 * whether there were any. */
static bool run_posts(struct svm_loop *loop)
{
	bool any;

	svm_lock(&loop->lock);
	any = !svm_list_empty(&loop->posts);
	svm_list_splice_tail(&loop->running_posts, &loop->posts);
	while (!svm_list_empty(&loop->running_posts)) {
		struct svm_post *post =
			svm_list_entry(loop->running_posts.next, struct svm_post, node);

		svm_list_del(&post->node);
		svm_unlock(&loop->lock);
		post->run(post);
		svm_lock(&loop->lock);
	}
	svm_unlock(&loop->lock);
	return any;
}

void svm_loop_stop(struct svm_loop *loop)
{
	svm_lock(&loop->lock);
	loop->stopping = true;
	wake(loop);
	svm_unlock(&loop->lock);
}

/* --- running --- */

/* Something besides fds is to be done at once. LOCKING: loop->lock */
static bool has_work(const struct svm_loop *loop)
{
	return loop->stopping || !svm_list_empty(&loop->posts);
}

/* LOCKING: loop->lock */
static uint64_t next_deadline(const struct svm_loop *loop)
{
	if (svm_list_empty(&loop->timers))
		return UINT64_MAX;
	return svm_list_entry(loop->timers.next, struct svm_timer, node)->deadline_ns;
}

static void count(struct svm_loop *loop, enum svm_counter counter)
{
	if (loop->trace)
		svm_trace_count(loop->trace, counter, 1);
}

/* Look at readers without asking the engine first: one system call less per fault. */
static int read_directly(struct svm_loop *loop)
{
	uint64_t tokens[SPIN_READERS];
	unsigned int n = 0;
	int served = 0;

	svm_lock(&loop->lock);
	svm_list_for_each(node, &loop->readers) {
		const struct svm_reader *reader = svm_list_entry(node, struct svm_reader, node);

		if (n == SPIN_READERS)
			break;
		tokens[n++] = svm_loop_token(loop, &loop->slots[reader->state]);
	}
	svm_unlock(&loop->lock);
	for (unsigned int i = 0; i < n; i++)
		served += serve_reader(loop, tokens[i]);
	return served;
}

/*
 * Look for work without sleeping, for as long as that paid lately. Returns 1 when there was some.
 */
static int spin(struct svm_loop *loop)
{
	uint64_t end = svm_sys->clock_ns() + loop->spin_ns;
	uint64_t now;
	int ret;

	do {
		bool work;

		ret = read_directly(loop);
		if (ret == 0)
			ret = wait_and_serve(loop, 0);
		if (ret < 0)
			return ret;
		now = svm_sys->clock_ns();
		svm_lock(&loop->lock);
		work = has_work(loop) || next_deadline(loop) <= now;
		svm_unlock(&loop->lock);
		if (ret > 0 || work) {
			loop->spin_ns = svm_min_u64(loop->spin_ns * 2u, loop->spin_max_ns);
			count(loop, SVM_COUNT_SPINS_HIT);
			return 1;
		}
	} while (now < end);
	loop->spin_ns = svm_max_u64(loop->spin_ns / 2u, loop->spin_max_ns / SPIN_MIN_PART);
	return 0;
}

/*
 * Sleep until something happens, unless something is to be done already. Returns as
 * wait_and_serve().
 */
static int sleep_and_serve(struct svm_loop *loop)
{
	int64_t timeout_ns = -1;
	uint64_t deadline;
	int n;
	int served = 0;

	svm_lock(&loop->lock);
	deadline = next_deadline(loop);
	if (has_work(loop)) {
		timeout_ns = 0;
	} else if (deadline != UINT64_MAX) {
		uint64_t now = svm_sys->clock_ns();

		timeout_ns = deadline > now ? (int64_t)svm_min_u64(deadline - now, INT64_MAX) : 0;
	}
	loop->sleeping = timeout_ns != 0;
	loop->sleep_deadline_ns = deadline;
	svm_unlock(&loop->lock);

	svm_lock_assert_none();
	n = loop->engine->wait(loop, timeout_ns);
	if (timeout_ns != 0) {
		svm_lock(&loop->lock);
		got_up(loop);
		svm_unlock(&loop->lock);
		count(loop, SVM_COUNT_WAKEUPS);
	}
	for (int i = 0; i < n; i++)
		served += serve_token(loop, loop->ready[i]);
	return n < 0 ? n : served;
}

static int serve_until_stopped(struct svm_loop *loop)
{
	bool served = false; /* something other than a timer, in the last pass */
	int ret = 0;

	while (ret >= 0) {
		bool stopping;
		bool posted;

		run_timers(loop);
		svm_lock(&loop->lock);
		stopping = loop->stopping;
		svm_unlock(&loop->lock);
		posted = run_posts(loop);
		if (stopping && !posted)
			return 0;
		served |= posted;

		ret = 0;
		if (served && loop->spin_ns)
			ret = spin(loop);
		if (ret == 0)
			ret = sleep_and_serve(loop);
		served = ret > 0;
	}
	return ret;
}

int svm_loop_run(struct svm_loop *loop)
{
	sigset_t all;
	sigset_t before;
	int ret;

	sigfillset(&all);
	ret = -pthread_sigmask(SIG_SETMASK, &all, &before);
	if (ret < 0)
		return ret;
	current = loop;
	svm_service_depth++;
	svm_lock(&loop->lock);
	assert(!loop->active);
	loop->active = true;
	svm_unlock(&loop->lock);
	if (loop->engine->start)
		loop->engine->start(loop);

	ret = serve_until_stopped(loop);

	if (loop->engine->stop)
		loop->engine->stop(loop);
	svm_lock(&loop->lock);
	loop->active = false;
	loop->stopping = false;
	tell_let_go(loop);
	svm_unlock(&loop->lock);
	svm_service_depth--;
	current = NULL;
	(void)pthread_sigmask(SIG_SETMASK, &before,
			      NULL); /* a mask the kernel gave us: cannot fail */
	return ret;
}
