/* SPDX-License-Identifier: MIT */
#include "fence.h"

#include "sys.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/sync_file.h>
#include <sys/eventfd.h>
#include <time.h>

struct svm_fence *svm_fence_new(struct svm_ctx *ctx)
{
	struct svm_fence *fence = svm_pool_get(&ctx->fence_pool);
	pthread_condattr_t attr;

	if (!fence)
		return NULL;
	fence->ctx = ctx;
	svm_lock_init(&fence->lock, SVM_RANK_FENCE);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&fence->cond, &attr);
	pthread_condattr_destroy(&attr);
	svm_list_init(&fence->waiters);
	fence->event_fd = -1;
	fence->watch.fd = -1;
	fence->refs = 1;
	return fence;
}

void svm_fence_get(struct svm_fence *fence)
{
	__atomic_fetch_add(&fence->refs, 1u, __ATOMIC_RELAXED);
}

struct svm_fence *svm_fence_hand_out(struct svm_fence *fence)
{
	atomic_fetch_add(&fence->ctx->n_open_fences, 1u);
	return fence;
}

void svm_fence_put(struct svm_fence *fence)
{
	if (!fence || __atomic_fetch_sub(&fence->refs, 1u, __ATOMIC_ACQ_REL) != 1u)
		return;
	if (fence->watch.fd >= 0) {
		/* Imported. It may become ready just now: then this waits for fd_ready(). */
		svm_loop_remove_watch(fence->ctx->loops[0], &fence->watch);
		svm_sys->close(fence->watch.fd);
	}
	if (fence->event_fd >= 0)
		svm_sys->close(fence->event_fd);
	pthread_cond_destroy(&fence->cond);
	svm_lock_finish(&fence->lock);
	svm_pool_put(&fence->ctx->fence_pool, fence);
}

/* An eventfd write cannot fail here: the counter goes from 0 to 1. */
static void raise_event(const struct svm_fence *fence)
{
	uint64_t one = 1;

	if (svm_sys->write(fence->event_fd, &one, sizeof(one)) < 0)
		svm_error(&fence->ctx->log, "fence: eventfd refuses its event");
}

/*
 * What an access held is free when those who sleep on its fence find it signalled; work that comes
 * after the fence does not end before that.
 */
static void run_waiters(struct svm_list *ready, int status, bool first)
{
	svm_list_for_each_safe(node, tmp, ready) {
		struct svm_fence_waiter *waiter =
			svm_list_entry(node, struct svm_fence_waiter, node);

		if (first && !waiter->first)
			continue;
		svm_list_del(node);
		waiter->fn(waiter, status);
	}
}

bool svm_fence_complete(struct svm_fence *fence, int status)
{
	struct svm_list ready;

	svm_list_init(&ready);
	svm_lock(&fence->lock);
	if (fence->decided) {
		svm_unlock(&fence->lock);
		return false;
	}
	fence->decided = true;
	fence->status = status;
	svm_list_splice_tail(&ready, &fence->waiters);
	svm_unlock(&fence->lock);
	run_waiters(&ready, status, true);
	svm_lock(&fence->lock);
	fence->signalled = true;
	if (fence->event_fd >= 0)
		raise_event(fence);
	pthread_cond_broadcast(&fence->cond);
	svm_unlock(&fence->lock);
	run_waiters(&ready, status, false);
	return true;
}

bool svm_fence_add_waiter(struct svm_fence *fence, struct svm_fence_waiter *waiter, int *ret_status)
{
	bool decided;

	svm_lock(&fence->lock);
	decided = fence->decided;
	if (decided)
		*ret_status = fence->status;
	else
		svm_list_add_tail(&fence->waiters, &waiter->node);
	svm_unlock(&fence->lock);
	return decided;
}

bool svm_fence_remove_waiter(struct svm_fence *fence, struct svm_fence_waiter *waiter)
{
	bool removed;

	svm_lock(&fence->lock);
	removed = !fence->decided;
	if (removed)
		svm_list_del(&waiter->node);
	svm_unlock(&fence->lock);
	return removed;
}

static void deadline_in(int64_t timeout_ns, struct timespec *ret_deadline)
{
	uint64_t now = svm_sys->clock_ns();
	uint64_t end = now + (uint64_t)timeout_ns;

	if (end < now || end > (uint64_t)INT64_MAX)
		end = (uint64_t)INT64_MAX;
	ret_deadline->tv_sec = (time_t)(end / 1000000000u);
	ret_deadline->tv_nsec = (long)(end % 1000000000u);
}

bool svm_fence_block(struct svm_fence *fence, int64_t timeout_ns, int *ret_status)
{
	struct timespec deadline;
	bool signalled;
	int r = 0;

	if (timeout_ns > 0)
		deadline_in(timeout_ns, &deadline);
	svm_lock(&fence->lock);
	while (!fence->signalled && r == 0) {
		if (timeout_ns < 0)
			r = pthread_cond_wait(&fence->cond, &fence->lock.mutex);
		else if (timeout_ns == 0)
			r = ETIMEDOUT;
		else
			r = pthread_cond_timedwait(&fence->cond, &fence->lock.mutex, &deadline);
	}
	signalled = fence->signalled;
	if (signalled)
		*ret_status = fence->status;
	svm_unlock(&fence->lock);
	return signalled;
}

/* One more reference, if the last one has not been given back. */
static bool get_living(struct svm_fence *fence)
{
	uint32_t refs = __atomic_load_n(&fence->refs, __ATOMIC_RELAXED);

	while (refs != 0)
		if (__atomic_compare_exchange_n(&fence->refs, &refs, refs + 1u, true,
						__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return true;
	return false;
}

/* What it ended with: sync_files tell, of others that they are ready is all. */
static int status_of(int fd)
{
	struct sync_file_info info = { 0 };
	int r = svm_sys->ioctl(fd, SYNC_IOC_FILE_INFO, &info);

	return r == 0 && info.status < 0 ? info.status : 0;
}

static void fd_ready(struct svm_watch *watch)
{
	struct svm_fence *fence = svm_container_of(watch, struct svm_fence, watch);

	svm_loop_remove_watch(fence->ctx->loops[0], watch);
	/* Waiters may give the last other reference back; or somebody has, and waits for us to be done. */
	if (!get_living(fence))
		return;
	svm_fence_complete(fence, status_of(watch->fd));
	svm_fence_put(fence);
}

int svm_fence_watch_fd(struct svm_fence *fence, int fd)
{
	int r;

	fence->watch.fd = fd;
	fence->watch.ready = fd_ready;
	r = svm_loop_add_watch(fence->ctx->loops[0], &fence->watch);
	if (r < 0)
		fence->watch.fd = -1;
	return r;
}

int svm_fence_export_fd(struct svm_fence *fence, int *ret_fd)
{
	int fd = -1;
	int r = 0;

	svm_lock(&fence->lock);
	if (fence->event_fd < 0) {
		r = svm_sys->eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (r >= 0) {
			fence->event_fd = r;
			if (fence->signalled)
				raise_event(fence);
		}
	}
	if (r >= 0)
		r = fd = svm_sys->fcntl(fence->event_fd, F_DUPFD_CLOEXEC, 0);
	svm_unlock(&fence->lock);
	if (r < 0)
		return r;
	*ret_fd = fd;
	return 0;
}

/* The public calls: the fork check, then the above. */

int svm_fence_signal(struct svm_fence *fence, int status)
{
	int r;

	if (!fence)
		return -EINVAL;
	r = svm_ctx_check(fence->ctx);
	if (r < 0)
		return r;
	if (!fence->by_application || status > 0)
		return -EINVAL;
	return svm_fence_complete(fence, status) ? 0 : -EALREADY;
}

int svm_fence_wait(struct svm_fence *fence, int64_t timeout_ns)
{
	int r;

	if (!fence)
		return -EINVAL;
	r = svm_ctx_check(fence->ctx);
	if (r == 0 && !svm_fence_block(fence, timeout_ns, &r))
		r = -ETIMEDOUT;
	return r;
}

int svm_fence_export(struct svm_fence *fence, int *ret_fd)
{
	int r;

	if (!fence || !ret_fd)
		return -EINVAL;
	r = svm_ctx_check(fence->ctx);
	return r < 0 ? r : svm_fence_export_fd(fence, ret_fd);
}

struct svm_fence *svm_fence_ref(struct svm_fence *fence)
{
	if (!fence || svm_ctx_check(fence->ctx) < 0)
		return fence;
	svm_fence_get(fence);
	return svm_fence_hand_out(fence);
}

void svm_fence_unref(struct svm_fence *fence)
{
	struct svm_ctx *ctx;

	if (!fence || svm_ctx_check(fence->ctx) < 0)
		return;
	ctx = fence->ctx;
	svm_fence_put(fence);
	atomic_fetch_sub(&ctx->n_open_fences, 1u);
}
