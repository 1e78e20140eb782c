// SPDX-License-Identifier: MIT
/*
 * User fences: VMs of long-running jobs signal nothing that can be polled (xe_sync.c:xe_sync_entry_parse()), only a
 * word in memory. A thread sleeps in the kernel until it has the value that is waited for, and writes event_fd.
 */
#include "xe_internal.h"
#include <errno.h>
#include <signal.h>
#include <time.h>

/* How long one wait lasts at most: an end of the device does not wake it. */
#define SLICE_NS UINT64_C(200000000)

uint64_t svm_xe_word_read(const struct svm_xe_word *word)
{
	return __atomic_load_n(word->addr, __ATOMIC_ACQUIRE);
}

int svm_xe_word_wait(const struct svm_xe_word *word, uint64_t value, uint64_t timeout_ns)
{
	struct svm_xe_wait_user_fence arg = {
		.addr = (uintptr_t)word->addr,
		.op = SVM_XE_WAIT_GTE,
		.value = value,
		.mask = UINT64_MAX,
		.timeout = (int64_t)timeout_ns,
		.exec_queue_id = word->queue,
	};

	if (svm_xe_word_read(word) >= value)
		return 0;
	/* After EINTR the time that is left is in arg. */
	return svm_drm_ioctl_sure(word->dev->fd, SVM_XE_WAIT_USER_FENCE, &arg);
}

static void tell(struct svm_xe_word *word, uint64_t target, int ret)
{
	struct svm_xe_device *dev = word->dev;

	if (ret < 0 && svm_xe_word_read(word) < target) {
		atomic_store(&word->is_broken, true);
		if (ret == -EIO)
			svm_xe_lose(dev, ret, "a job did not reach its end, its queue is banned");
		else if (!svm_xe_is_loss(dev, ret, "WAIT_USER_FENCE"))
			svm_xe_lose(dev, ret, "WAIT_USER_FENCE");
	}
	svm_xe_raise(dev);
}

static void *wait_for_word(void *data)
{
	struct svm_xe_word *word = data;

	pthread_mutex_lock(&word->lock);
	while (!word->stop) {
		uint64_t target = word->target;
		int ret;

		if (target == 0) {
			pthread_cond_wait(&word->cond, &word->lock);
			continue;
		}
		pthread_mutex_unlock(&word->lock);
		ret = svm_xe_word_wait(word, target, SLICE_NS);
		pthread_mutex_lock(&word->lock);
		if (ret == -ETIME)
			continue;
		/* Whoever looked meanwhile may wait for the next one already. */
		if (word->target == target)
			word->target = 0;
		tell(word, target, ret);
	}
	pthread_mutex_unlock(&word->lock);
	return NULL;
}

void svm_xe_word_arm(struct svm_xe_word *word, uint64_t value)
{
	pthread_mutex_lock(&word->lock);
	word->target = value;
	pthread_cond_signal(&word->cond);
	pthread_mutex_unlock(&word->lock);
}

int svm_xe_word_start(struct svm_xe_device *dev, struct svm_xe_word *word, uint64_t *addr,
		      uint32_t queue)
{
	sigset_t all;
	sigset_t before;
	int ret;

	word->dev = dev;
	word->addr = addr;
	word->queue = queue;
	ret = pthread_mutex_init(&word->lock, NULL);
	if (ret)
		return -ret;
	ret = pthread_cond_init(&word->cond, NULL);
	if (ret)
		goto err_lock;
	/* Signals are the application's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(&word->thread, NULL, wait_for_word, word);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (ret)
		goto err_cond;
	word->has_thread = true;
	return 0;

err_cond:
	pthread_cond_destroy(&word->cond);
err_lock:
	pthread_mutex_destroy(&word->lock);
	return -ret;
}

void svm_xe_word_stop(struct svm_xe_word *word)
{
	if (!word->has_thread)
		return;
	pthread_mutex_lock(&word->lock);
	word->stop = true;
	pthread_cond_signal(&word->cond);
	pthread_mutex_unlock(&word->lock);
	pthread_join(word->thread, NULL);
	pthread_cond_destroy(&word->cond);
	pthread_mutex_destroy(&word->lock);
	word->has_thread = false;
}
