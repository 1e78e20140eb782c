// SPDX-License-Identifier: MIT
/*
 * The copy engine of a soft device: a thread of the library, which reaches host memory and, as it maps
 * them whole, the memories of soft devices. Its bandwidth and latency are limited as asked: it waits
 * for the moment when the modelled engine would have moved a piece, and then moves it.
 */
#include "soft_internal.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* How much is copied between two looks at whether the device is still there. */
#define PIECE_SIZE (UINT64_C(256) << 10)
/* The same where bandwidth is limited: pieces are what the limit is made of. */
#define PACED_PIECE_SIZE (UINT64_C(64) << 10)
/* A smaller copy is for somebody who waits for it and looks at it next. */
#define STREAM_SIZE (UINT64_C(64) << 10)
/* How far ahead of the loads the next lines are asked for. Measured on an EPYC, ms for 1 GiB from huge pages to small ones:
 * not at all 114, 256 bytes 102, 512 to 768 bytes 99 to 101, from 1 KiB on 108; memcpy() of all at once 102. */
#define PREFETCH_AHEAD 640
/* How late the engine may have come to the next copy and still count as having had no pause. */
#define PACE_SLACK_NS UINT64_C(1000000)

static uint64_t clock_ns(void)
{
	struct timespec ts;

	/* CLOCK_MONOTONIC exists everywhere: no failure is listed for it. */
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* ---- One copy --------------------------------------------------------------------------------- */

static int end_check(const struct svm_soft_device *dev, const struct svm_copy_end *end,
		     uint64_t size)
{
	const struct svm_soft_device *owner = end->peer_dev;

	if (end->host)
		return owner || end->chunk || end->offset ? -EINVAL : 0;
	if (!owner || owner->magic != dev->magic)
		return -EINVAL;
	if (owner != dev && !(dev->options.peer && owner->options.peer))
		return -EOPNOTSUPP;
	if (!svm_soft_chunk_valid(owner, end->chunk))
		return -EINVAL;
	if (end->offset % SVM_PAGE_SIZE || end->offset > SVM_BLOCK_SIZE ||
	    size > SVM_BLOCK_SIZE - end->offset)
		return -EINVAL;
	return 0;
}

static bool is_fill(const struct svm_copy_end *src)
{
	return !src->host && !src->peer_dev && !src->chunk && !src->offset;
}

static int copy_check(const struct svm_soft_device *dev, const struct svm_copy *copy)
{
	int ret;

	if (copy->size == 0 || copy->size % SVM_PAGE_SIZE)
		return -EINVAL;
	ret = end_check(dev, &copy->dst, copy->size);
	if (ret == 0 && !is_fill(&copy->src))
		ret = end_check(dev, &copy->src, copy->size);
	return ret;
}

/* The bytes of a lost memory are lost, though they happen to lie there still. */
static bool end_lost(const struct svm_soft_device *dev, const struct svm_copy_end *end)
{
	const struct svm_soft_device *owner = end->peer_dev;

	return owner && owner != dev && atomic_load(&owner->is_dead) && !owner->options.keep;
}

static uint8_t *end_addr(const struct svm_copy_end *end)
{
	const struct svm_soft_device *owner = end->peer_dev;

	if (end->host)
		return end->host;
	return owner->memory + svm_soft_chunk_offset(end->chunk) + end->offset;
}

/* Past the caches, as a real engine copies: what is written whole need not be read before, and a block would only drive
 * out what others use. The C library's memcpy() does so from some MiB on, far more than a piece. Not in builds for coverage
 * (SVM_PLAIN_COPIES): each round of a loop is counted atomically there, and that waits for the stores. */
static void copy_past_caches(uint8_t *dst, const uint8_t *src, uint64_t size)
{
#if defined(__SSE2__) && !defined(SVM_PLAIN_COPIES)
	const __m128i *from = (const __m128i *)src;
	__m128i *to = (__m128i *)dst;

	if (((uintptr_t)dst | (uintptr_t)src | size) % 64u == 0) {
		for (uint64_t i = 0; i < size / sizeof(*to); i += 4) {
			__m128i a = _mm_load_si128(from + i);
			__m128i b = _mm_load_si128(from + i + 1);
			__m128i c = _mm_load_si128(from + i + 2);
			__m128i d = _mm_load_si128(from + i + 3);

			/* An address past the end does no harm. */
			_mm_prefetch((const char *)(from + i) + PREFETCH_AHEAD, _MM_HINT_NTA);
			_mm_stream_si128(to + i, a);
			_mm_stream_si128(to + i + 1, b);
			_mm_stream_si128(to + i + 2, c);
			_mm_stream_si128(to + i + 3, d);
		}
		/* Such stores obey no order of their own: before anybody is told. */
		_mm_sfence();
		return;
	}
#endif
	memcpy(dst, src, size);
}

static void copy_piece(const struct svm_copy *copy, uint64_t offset, uint64_t size)
{
	uint8_t *dst = end_addr(&copy->dst) + offset;

	if (is_fill(&copy->src))
		memset(dst, 0, size);
	else if (size >= STREAM_SIZE)
		copy_past_caches(dst, end_addr(&copy->src) + offset, size);
	else
		memcpy(dst, end_addr(&copy->src) + offset, size);
}

/* Wait until the clock says due_ns, or the device dies or closes: -ENODEV. */
static int pace(struct svm_soft_copier *copier, uint64_t due_ns)
{
	struct timespec due = {
		.tv_sec = (time_t)(due_ns / UINT64_C(1000000000)),
		.tv_nsec = (long)(due_ns % UINT64_C(1000000000)),
	};
	int ret;

	pthread_mutex_lock(&copier->lock);
	while (!copier->dead && !copier->stop && clock_ns() < due_ns)
		(void)pthread_cond_timedwait(&copier->work, &copier->lock, &due);
	ret = copier->dead || copier->stop ? -ENODEV : 0;
	pthread_mutex_unlock(&copier->lock);
	return ret;
}

/* On the engine's thread. -ENODEV: the device went away before it was done; -EIO: a peer did. */
static int copy_run(struct svm_soft_device *dev, const struct svm_copy *copy)
{
	struct svm_soft_copier *copier = &dev->copier;
	uint64_t bandwidth = dev->options.bandwidth;
	uint64_t piece_size = bandwidth ? PACED_PIECE_SIZE : PIECE_SIZE;
	uint64_t now = clock_ns();
	uint64_t due = now > copier->free_ns + PACE_SLACK_NS ? now : copier->free_ns;
	uint64_t size;

	if (dev->options.latency_ns)
		due = now + dev->options.latency_ns;
	for (uint64_t offset = 0; offset < copy->size; offset += size) {
		size = copy->size - offset < piece_size ? copy->size - offset : piece_size;
		if (bandwidth)
			due += size * UINT64_C(1000000000) / bandwidth;
		/* Also with no limits: it is here that the death of the device is seen. */
		if (pace(copier, due))
			return -ENODEV;
		if (end_lost(dev, &copy->dst) || end_lost(dev, &copy->src))
			return -EIO;
		copy_piece(copy, offset, size);
	}
	copier->free_ns = due;
	return 0;
}

/* ---- The engine ------------------------------------------------------------------------------- */

/* LOCKING: copier's lock. */
static void run_end(struct svm_soft_copier *copier)
{
	if (--copier->n_running == 0)
		pthread_cond_broadcast(&copier->still);
}

/* LOCKING: copier's lock. */
static bool may_run(const struct svm_soft_device *dev)
{
	const struct svm_soft_copier *copier = &dev->copier;

	return !copier->dead && copier->head != dev->timelines[SVM_TIMELINE_COPY].submitted;
}

static void *engine_main(void *arg)
{
	struct svm_soft_device *dev = arg;
	struct svm_soft_copier *copier = &dev->copier;
	int first = 0;

	(void)prctl(PR_SET_NAME, "svm-soft-copy");
	pthread_mutex_lock(&copier->lock);
	for (;;) {
		struct svm_soft_copy_cmd cmd;
		int status;

		while (!copier->stop && !may_run(dev))
			pthread_cond_wait(&copier->work, &copier->lock);
		if (copier->stop)
			break;
		cmd = copier->ring[copier->head % SVM_SOFT_COPIES];
		copier->n_running++;
		pthread_mutex_unlock(&copier->lock);

		status = copy_run(dev, &cmd.copy);
		if (first == 0)
			first = status;

		pthread_mutex_lock(&copier->lock);
		/* A copy that the loss cut short never happened: its point is not reached. */
		if (status != -ENODEV) {
			atomic_store_explicit(&copier->status[copier->head % SVM_SOFT_COPIES],
					      cmd.is_last ? first : 0, memory_order_relaxed);
			copier->head++;
			atomic_store(&copier->done, copier->head);
		}
		if (cmd.is_last)
			first = 0;
		run_end(copier);
		pthread_mutex_unlock(&copier->lock);
		if (cmd.is_last || status == -ENODEV)
			svm_soft_signal(dev);
		pthread_mutex_lock(&copier->lock);
	}
	pthread_mutex_unlock(&copier->lock);
	return NULL;
}

int svm_soft_copier_init(struct svm_soft_device *dev)
{
	struct svm_soft_copier *copier = &dev->copier;
	pthread_condattr_t attr;
	int ret;

	ret = -pthread_condattr_init(&attr);
	if (ret < 0)
		return ret;
	ret = -pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (ret == 0)
		ret = -pthread_cond_init(&copier->work, &attr);
	(void)pthread_condattr_destroy(&attr);
	if (ret < 0)
		return ret;
	ret = -pthread_cond_init(&copier->still, NULL);
	if (ret < 0)
		goto err_work;
	ret = -pthread_mutex_init(&copier->lock, NULL);
	if (ret < 0)
		goto err_still;
	return 0;
err_still:
	(void)pthread_cond_destroy(&copier->still);
err_work:
	(void)pthread_cond_destroy(&copier->work);
	return ret;
}

/* Not at the first copy: that may come in the service path, where creating a thread would allocate. */
int svm_soft_copier_start(struct svm_soft_device *dev)
{
	struct svm_soft_copier *copier = &dev->copier;
	sigset_t all;
	sigset_t old;
	int ret;

	sigfillset(&all);
	ret = -pthread_sigmask(SIG_SETMASK, &all, &old);
	if (ret < 0)
		return ret;
	ret = -pthread_create(&copier->thread, NULL, engine_main, dev);
	copier->has_thread = ret == 0;
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret;
}

void svm_soft_copier_halt(struct svm_soft_device *dev)
{
	struct svm_soft_copier *copier = &dev->copier;

	pthread_mutex_lock(&copier->lock);
	copier->dead = true;
	pthread_cond_broadcast(&copier->work);
	pthread_mutex_unlock(&copier->lock);
}

void svm_soft_copier_drain(struct svm_soft_device *dev)
{
	struct svm_soft_copier *copier = &dev->copier;

	pthread_mutex_lock(&copier->lock);
	while (copier->n_running > 0)
		pthread_cond_wait(&copier->still, &copier->lock);
	pthread_mutex_unlock(&copier->lock);
}

void svm_soft_copier_finish(struct svm_soft_device *dev)
{
	struct svm_soft_copier *copier = &dev->copier;

	pthread_mutex_lock(&copier->lock);
	copier->stop = true;
	pthread_cond_broadcast(&copier->work);
	pthread_mutex_unlock(&copier->lock);
	if (copier->has_thread)
		(void)pthread_join(copier->thread, NULL);
	(void)pthread_mutex_destroy(&copier->lock);
	(void)pthread_cond_destroy(&copier->still);
	(void)pthread_cond_destroy(&copier->work);
}

/* ---- The op ----------------------------------------------------------------------------------- */

static int copy_now(struct svm_soft_device *dev, const struct svm_copy *copies, size_t n_copies)
{
	for (size_t i = 0; i < n_copies; i++) {
		if (end_lost(dev, &copies[i].dst) || end_lost(dev, &copies[i].src))
			return -EIO;
		copy_piece(&copies[i], 0, copies[i].size);
	}
	return 0;
}

/* In the calling thread, if nothing is before it in the order: 1 done, 0 to be queued. */
static int copy_inline(struct svm_soft_device *dev, const struct svm_copy *copies, size_t n_copies)
{
	struct svm_soft_copier *copier = &dev->copier;
	bool take;
	int ret;

	if (dev->options.bandwidth || dev->options.latency_ns)
		return 0;
	pthread_mutex_lock(&copier->lock);
	take = !copier->dead && copier->head == dev->timelines[SVM_TIMELINE_COPY].submitted;
	copier->n_running += take;
	pthread_mutex_unlock(&copier->lock);
	if (!take)
		return 0;
	ret = copy_now(dev, copies, n_copies);
	pthread_mutex_lock(&copier->lock);
	run_end(copier);
	take = copier->dead;
	pthread_mutex_unlock(&copier->lock);
	/* completed() held the news of the loss back until we were done. */
	if (take)
		svm_soft_signal(dev);
	return ret < 0 ? ret : 1;
}

static int copy_queue(struct svm_soft_device *dev, const struct svm_copy *copies, size_t n_copies,
		      uint64_t *ret_value)
{
	struct svm_soft_timeline *timeline = &dev->timelines[SVM_TIMELINE_COPY];
	struct svm_soft_copier *copier = &dev->copier;
	int ret;

	/* submitted is what the engine looks at: it changes under both locks. */
	pthread_mutex_lock(&timeline->lock);
	ret = svm_soft_timeline_reserve(timeline, (uint32_t)n_copies, 0);
	if (ret < 0)
		goto unlock;
	pthread_mutex_lock(&copier->lock);
	for (size_t i = 0; i < n_copies; i++) {
		copier->ring[timeline->submitted % SVM_SOFT_COPIES] =
			(struct svm_soft_copy_cmd){ copies[i], i + 1 == n_copies };
		timeline->submitted++;
	}
	*ret_value = timeline->submitted;
	pthread_cond_signal(&copier->work);
	pthread_mutex_unlock(&copier->lock);
unlock:
	pthread_mutex_unlock(&timeline->lock);
	return ret;
}

int svm_soft_copy(void *device, const struct svm_copy *copies, size_t n_copies, uint32_t flags,
		  struct svm_point *ret_point)
{
	struct svm_soft_device *dev = device;
	uint64_t value = 0;
	int ret;

	if (n_copies == 0 || n_copies > SVM_COPY_BATCH || flags & ~SVM_COPY_URGENT)
		return -EINVAL;
	for (size_t i = 0; i < n_copies; i++) {
		ret = copy_check(dev, &copies[i]);
		if (ret < 0)
			return ret;
	}
	if (atomic_load(&dev->is_dead)) {
		/* No engine any more; memory that survived is saved by the caller's own hands. */
		ret = dev->options.keep ? copy_now(dev, copies, n_copies) : -ENODEV;
	} else {
		ret = flags & SVM_COPY_URGENT ? copy_inline(dev, copies, n_copies) : 0;
		if (ret == 0)
			ret = copy_queue(dev, copies, n_copies, &value);
	}
	if (ret < 0)
		return ret;
	*ret_point = (struct svm_point){ .timeline = SVM_TIMELINE_COPY, .value = value };
	return 0;
}
