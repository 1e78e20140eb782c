/* SPDX-License-Identifier: MIT */
/* The engine that works everywhere. The kernel's epoll set is safe to change from any thread. */
#include "arena.h"
#include "loop_engine.h"
#include "sys.h"
#include <assert.h>
#include <errno.h>
#include <sys/epoll.h>

struct epoll_engine {
	int fd;
	struct epoll_event events[SVM_LOOP_BATCH];
};

static int epoll_open(struct svm_loop *loop)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = SVM_LOOP_TOKEN_WAKE };
	struct epoll_engine *engine = svm_arena_map(sizeof(*engine));
	int ret;

	if (!engine)
		return -ENOMEM;
	ret = svm_sys->epoll_create(EPOLL_CLOEXEC);
	if (ret < 0)
		goto err_unmap;
	engine->fd = ret;
	ret = svm_sys->epoll_ctl(engine->fd, EPOLL_CTL_ADD, loop->wake_fd, &event);
	if (ret < 0)
		goto err_close;
	loop->engine_data = engine;
	return 0;

err_close:
	(void)svm_sys->close(engine->fd);
err_unmap:
	svm_arena_unmap(engine, sizeof(*engine));
	return ret;
}

static void epoll_close(struct svm_loop *loop)
{
	struct epoll_engine *engine = loop->engine_data;

	(void)svm_sys->close(engine->fd);
	svm_arena_unmap(engine, sizeof(*engine));
}

/*
 * A reader's fd may be read by other loops as well: EPOLLEXCLUSIVE wakes one of those that sleep.
 * (An event that woke a loop is not passed on when that loop's reader is removed before it reads: a
 * shared reader must be removed from all loops before it matters that nobody listens.)
 */
static int epoll_add(struct svm_loop *loop, struct svm_loop_slot *slot)
{
	const struct epoll_engine *engine = loop->engine_data;
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = svm_loop_token(loop, slot) };

	if (slot->is_reader)
		event.events |= EPOLLEXCLUSIVE;
	return svm_sys->epoll_ctl(engine->fd, EPOLL_CTL_ADD, svm_loop_slot_fd(slot), &event);
}

static void epoll_remove(struct svm_loop *loop, struct svm_loop_slot *slot)
{
	const struct epoll_engine *engine = loop->engine_data;
	int ret;

	if (slot->dead && slot->removed)
		return; /* was taken out when it died */
	ret = svm_sys->epoll_ctl(engine->fd, EPOLL_CTL_DEL, svm_loop_slot_fd(slot), NULL);
	/* Closing the file took it out already. */
	assert(ret == 0 || ret == -EBADF || ret == -ENOENT);
	(void)ret;
}

static int epoll_wait_ready(struct svm_loop *loop, int64_t timeout_ns)
{
	struct epoll_engine *engine = loop->engine_data;
	int n = svm_sys->epoll_wait(engine->fd, engine->events, SVM_LOOP_BATCH, timeout_ns);
	int n_ready = 0;

	if (n == -EINTR)
		return 0;
	for (int i = 0; i < n; i++) {
		if (engine->events[i].data.u64 != SVM_LOOP_TOKEN_WAKE)
			loop->ready[n_ready++] = engine->events[i].data.u64;
	}
	return n < 0 ? n : n_ready;
}

const struct svm_loop_engine svm_loop_epoll = {
	.open = epoll_open,
	.close = epoll_close,
	.add = epoll_add,
	.remove = epoll_remove,
	.wait = epoll_wait_ready,
};
