/* SPDX-License-Identifier: MIT */
/*
 * The io_uring engine: one IORING_OP_POLL_ADD per watch and reader, armed again after it was
 * served.
 *
 * Why polls and not reads: a userfaultfd must be non-blocking, and a read of a non-blocking file
 * that has nothing completes at once with EAGAIN. Why one-shot: a multishot poll reports edges;
 * arming again checks the level, and goes to the kernel in the same call that waits. And no buffer
 * of a reader is ever in the kernel's hands.
 *
 * The ring belongs to the loop's thread: requests die with the thread that submitted them, and
 * their completions run in it. Other threads only put slots on the lists here and wake the loop.
 *
 * The poll holds a reference to its file. So a removal from another thread waits until the poll is
 * gone: close() then really closes, and a peer sees it. A removal in the loop's thread cancels with
 * the next wait.
 */
#include "arena.h"
#include "loop_engine.h"
#include "sys.h"
#include <errno.h>
#include <liburing.h>
#include <poll.h>

#define RING_ENTRIES 64u
/* Completions of cancellations: nobody asks. No slot has this generation. */
#define TOKEN_IGNORE (UINT64_MAX - 1u)

struct uring_engine {
	struct io_uring ring;
	bool wake_armed;      /* wake_fd is polled */
	uint32_t n_in_flight; /* polls whose completion is still to come */

	/* LOCKING: loop->lock */
	struct svm_list to_arm;
	struct svm_list to_cancel;
};

/*
 * What kernels, sysctl kernel.io_uring_disabled and seccomp filters say to those who may not.
 * EINVAL: a kernel before 5.19 lacks the flags.
 */
static int denied(int ret)
{
	switch (ret) {
	case -EPERM:
	case -EACCES:
	case -ENOSYS:
	case -EINVAL:
		return -EOPNOTSUPP;
	default:
		return ret;
	}
}

static int uring_open(struct svm_loop *loop)
{
	/*
	 * Completions need no interrupt of the loop's thread: it asks for them, in waiting and in
	 * spinning.
	 */
	struct io_uring_params params = {
		.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
			 IORING_SETUP_SUBMIT_ALL,
	};
	struct uring_engine *engine = svm_arena_map(sizeof(*engine));
	int ret;

	if (!engine)
		return -ENOMEM;
	ret = svm_sys->io_uring_init(RING_ENTRIES, &engine->ring, &params);
	if (ret < 0) {
		svm_arena_unmap(engine, sizeof(*engine));
		return denied(ret);
	}
	svm_list_init(&engine->to_arm);
	svm_list_init(&engine->to_cancel);
	loop->engine_data = engine;
	return 0;
}

static void uring_close(struct svm_loop *loop)
{
	struct uring_engine *engine = loop->engine_data;

	io_uring_queue_exit(&engine->ring);
	svm_arena_unmap(engine, sizeof(*engine));
}

static int uring_add(struct svm_loop *loop, struct svm_loop_slot *slot)
{
	struct uring_engine *engine = loop->engine_data;
	/*
	 * The kernel sees the fd only when the loop's thread arms it; a bad one is refused here
	 * already.
	 */
	int ret = svm_sys->poll_one(svm_loop_slot_fd(slot), POLLIN, 0);

	if (ret < 0 && ret != -EINTR)
		return ret;
	svm_list_add_tail(&engine->to_arm, &slot->node);
	return 0;
}

static void uring_remove(struct svm_loop *loop, struct svm_loop_slot *slot)
{
	struct uring_engine *engine = loop->engine_data;

	svm_list_del(&slot->node);
	if (slot->in_flight)
		svm_list_add_tail(&engine->to_cancel, &slot->node);
}

/* LOCKING: loop->lock */
static void arm_later(struct uring_engine *engine, struct svm_loop_slot *slot)
{
	if (!slot->in_flight && !slot->dead && svm_list_empty(&slot->node))
		svm_list_add_tail(&engine->to_arm, &slot->node);
}

static void uring_served(struct svm_loop *loop, struct svm_loop_slot *slot)
{
	arm_later(loop->engine_data, slot);
}

/* Requests of an earlier run were cancelled when it ended. */
static void uring_start(struct svm_loop *loop)
{
	struct uring_engine *engine = loop->engine_data;

	svm_lock(&loop->lock);
	svm_list_for_each(node, &loop->watches)
		arm_later(engine,
			  &loop->slots[svm_list_entry(node, struct svm_watch, node)->state]);
	svm_list_for_each(node, &loop->readers)
		arm_later(engine,
			  &loop->slots[svm_list_entry(node, struct svm_reader, node)->state]);
	svm_unlock(&loop->lock);
}

static void prepare_poll(struct uring_engine *engine, struct io_uring_sqe *sqe, int fd,
			 uint64_t token)
{
	io_uring_prep_poll_add(sqe, fd, POLLIN);
	sqe->user_data = token;
	engine->n_in_flight++;
}

static void prepare_cancel(struct io_uring_sqe *sqe, uint64_t token)
{
	io_uring_prep_poll_remove(sqe, token);
	sqe->user_data = TOKEN_IGNORE;
}

static struct svm_loop_slot *pop(struct svm_list *list)
{
	struct svm_loop_slot *slot = svm_list_entry(list->next, struct svm_loop_slot, node);

	svm_list_del(&slot->node);
	return slot;
}

/* Write requests for what is on the lists. False: the submission queue is full before their end.
 * LOCKING: loop->lock */
static bool prepare(struct svm_loop *loop)
{
	struct uring_engine *engine = loop->engine_data;
	struct io_uring_sqe *sqe;

	/* First, so that a loop with much to arm still hears. */
	if (!engine->wake_armed) {
		sqe = io_uring_get_sqe(&engine->ring);
		if (!sqe)
			return false;
		prepare_poll(engine, sqe, loop->wake_fd, SVM_LOOP_TOKEN_WAKE);
		engine->wake_armed = true;
	}
	while (!svm_list_empty(&engine->to_cancel)) {
		sqe = io_uring_get_sqe(&engine->ring);
		if (!sqe)
			return false;
		prepare_cancel(sqe, svm_loop_token(loop, pop(&engine->to_cancel)));
	}
	while (!svm_list_empty(&engine->to_arm)) {
		struct svm_loop_slot *slot;

		sqe = io_uring_get_sqe(&engine->ring);
		if (!sqe)
			return false;
		slot = pop(&engine->to_arm);
		slot->in_flight = true;
		prepare_poll(engine, sqe, svm_loop_slot_fd(slot), svm_loop_token(loop, slot));
	}
	return true;
}

/* A poll has ended. Returns whether its slot is to be served. LOCKING: loop->lock */
static bool complete(struct svm_loop *loop, struct svm_loop_slot *slot, int res)
{
	slot->in_flight = false;
	if (slot->removed) {
		svm_loop_free_slot(loop, slot);
		return false;
	}
	switch (res) {
	case -ECANCELED:
	case -EAGAIN:
	case -EINTR:
	case -ENOMEM:
		arm_later(loop->engine_data, slot);
		return false;
	default:
		/*
		 * A file that cannot be polled: its watch is told, once. A reader finds out by
		 * reading.
		 */
		if (res < 0 && !slot->is_reader)
			slot->dead = true;
		return true;
	}
}

/* Take in completions; tokens of slots to serve go to loop->ready. Returns their number. */
static int reap(struct svm_loop *loop)
{
	struct uring_engine *engine = loop->engine_data;
	struct io_uring_cqe *cqes[SVM_LOOP_BATCH];
	unsigned int n = io_uring_peek_batch_cqe(&engine->ring, cqes, SVM_LOOP_BATCH);
	int n_ready = 0;

	if (n == 0)
		return 0;
	svm_lock(&loop->lock);
	for (unsigned int i = 0; i < n; i++) {
		uint64_t token = cqes[i]->user_data;
		struct svm_loop_slot *slot;

		if (token == TOKEN_IGNORE)
			continue;
		engine->n_in_flight--;
		if (token == SVM_LOOP_TOKEN_WAKE) {
			engine->wake_armed = false;
			continue;
		}
		slot = svm_loop_find_slot(loop, token);
		if (slot && complete(loop, slot, cqes[i]->res))
			loop->ready[n_ready++] = token;
	}
	svm_unlock(&loop->lock);
	io_uring_cq_advance(&engine->ring, n);
	return n_ready;
}

/*
 * The kernel has no memory for a request now, a limit is reached until completions are taken, or
 * time is up: all of them end in another look at the completions.
 */
static bool is_passing(int ret)
{
	return ret >= 0 || ret == -EINTR || ret == -ETIME || ret == -EAGAIN || ret == -EBUSY;
}

static int uring_wait(struct svm_loop *loop, int64_t timeout_ns)
{
	struct uring_engine *engine = loop->engine_data;
	int ret = 0;

	svm_lock(&loop->lock);
	if (!prepare(loop))
		timeout_ns = 0;
	svm_unlock(&loop->lock);

	if (timeout_ns != 0)
		ret = svm_sys->io_uring_enter(&engine->ring, 1, timeout_ns);
	else if (io_uring_sq_ready(&engine->ring))
		ret = svm_sys->io_uring_enter(&engine->ring, 0, 0);
	return is_passing(ret) ? reap(loop) : ret;
}

/* What is ready meanwhile is not served: the next run arms it again and finds it so. */
static void uring_stop(struct svm_loop *loop)
{
	struct uring_engine *engine = loop->engine_data;

	while (engine->n_in_flight) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&engine->ring);
		int ret;

		if (sqe) {
			io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY);
			sqe->user_data = TOKEN_IGNORE;
		}
		ret = svm_sys->io_uring_enter(&engine->ring, 1, -1);
		if (!is_passing(ret))
			break; /* not our ring any more: nothing will ever come from it */
		(void)reap(loop);
	}
}

const struct svm_loop_engine svm_loop_io_uring = {
	.open = uring_open,
	.close = uring_close,
	.start = uring_start,
	.stop = uring_stop,
	.add = uring_add,
	.remove = uring_remove,
	.wake_for_changes = true,
	.served = uring_served,
	.wait = uring_wait,
};
