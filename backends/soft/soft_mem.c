// SPDX-License-Identifier: MIT
/* Storage and addresses of a soft device: its chunks, and the spans of the shared VM. */
#include "soft_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- Chunks: handle = index + 1, so that 0 is none ------------------------------------------- */

int svm_soft_mem_init(struct svm_soft_device *dev)
{
	dev->n_chunks = dev->options.memory / SVM_BLOCK_SIZE;
	dev->free_chunks = calloc(dev->n_chunks, sizeof(*dev->free_chunks));
	dev->chunk_used = calloc(dev->n_chunks, sizeof(*dev->chunk_used));
	if (!dev->free_chunks || !dev->chunk_used) {
		svm_soft_mem_finish(dev);
		return -ENOMEM;
	}
	return 0;
}

void svm_soft_mem_finish(struct svm_soft_device *dev)
{
	free(dev->free_chunks);
	free((void *)dev->chunk_used);
	dev->free_chunks = NULL;
	dev->chunk_used = NULL;
	if (dev->spans)
		(void)munmap(dev->spans, dev->max_spans * sizeof(*dev->spans));
	dev->spans = NULL;
}

bool svm_soft_chunk_valid(const struct svm_soft_device *dev, uint64_t chunk)
{
	return chunk >= 1 && chunk <= dev->n_chunks && atomic_load(&dev->chunk_used[chunk - 1]);
}

uint64_t svm_soft_chunk_offset(uint64_t chunk)
{
	return (chunk - 1) * SVM_BLOCK_SIZE;
}

int svm_soft_chunk_alloc(void *device, uint64_t *ret_chunk)
{
	struct svm_soft_device *dev = device;
	uint64_t index;
	int ret = 0;

	if (atomic_load(&dev->is_dead))
		return -ENODEV;
	pthread_mutex_lock(&dev->memory_lock);
	if (dev->n_free > 0) {
		index = dev->free_chunks[--dev->n_free];
	} else if (dev->n_fresh < dev->n_chunks) {
		index = dev->n_fresh++;
	} else {
		ret = -ENOSPC;
		goto unlock;
	}
	atomic_store(&dev->chunk_used[index], 1);
	*ret_chunk = index + 1;
unlock:
	pthread_mutex_unlock(&dev->memory_lock);
	return ret;
}

void svm_soft_chunk_free(void *device, uint64_t chunk)
{
	struct svm_soft_device *dev = device;

	pthread_mutex_lock(&dev->memory_lock);
	if (svm_soft_chunk_valid(dev, chunk)) {
		atomic_store(&dev->chunk_used[chunk - 1], 0);
		dev->free_chunks[dev->n_free++] = (uint32_t)(chunk - 1);
	}
	pthread_mutex_unlock(&dev->memory_lock);
}

int svm_soft_chunk_map(void *device, uint64_t chunk, void **ret_addr)
{
	struct svm_soft_device *dev = device;

	if (!dev->options.visible)
		return -EOPNOTSUPP;
	if (!svm_soft_chunk_valid(dev, chunk))
		return -EINVAL;
	if (atomic_load(&dev->is_dead) && !dev->options.keep)
		return -ENODEV;
	*ret_addr = dev->memory + svm_soft_chunk_offset(chunk);
	return 0;
}

/* ---- Spans ------------------------------------------------------------------------------------ */

/* LOCKING: span_lock. The first span that ends after addr, or n_spans. */
static size_t span_find(const struct svm_soft_device *dev, uint64_t addr)
{
	size_t low = 0;
	size_t high = dev->n_spans;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (dev->spans[middle].end <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_within(uint64_t addr, uint64_t size, uint64_t start, uint64_t end)
{
	return addr >= start && addr < end && size <= end - addr;
}

bool svm_soft_covers(struct svm_soft_device *dev, uint64_t addr, uint64_t size)
{
	bool within = false;
	size_t i;

	if (is_within(addr, size, dev->window_base, dev->window_base + dev->window_size))
		return true;
	pthread_mutex_lock(&dev->span_lock);
	i = span_find(dev, addr);
	if (i < dev->n_spans)
		within = is_within(addr, size, dev->spans[i].start, dev->spans[i].end);
	pthread_mutex_unlock(&dev->span_lock);
	return within;
}

/* LOCKING: span_op_lock. Room for one more entry, so that changes to the table cannot fail. */
static int span_make_room(struct svm_soft_device *dev)
{
	size_t max = dev->max_spans ? dev->max_spans * 2 : SVM_PAGE_SIZE / sizeof(*dev->spans);
	struct svm_soft_span *old = dev->spans;
	size_t old_max = dev->max_spans;
	void *map;

	if (dev->n_spans < dev->max_spans)
		return 0;
	map = mmap(NULL, max * sizeof(*dev->spans), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return -errno;
	pthread_mutex_lock(&dev->span_lock);
	if (old)
		memcpy(map, old, dev->n_spans * sizeof(*dev->spans));
	dev->spans = map;
	dev->max_spans = max;
	pthread_mutex_unlock(&dev->span_lock);
	if (old)
		(void)munmap(old, old_max * sizeof(*old));
	return 0;
}

/* LOCKING: span_lock. Put `with` (n entries) in place of entries [i, i + n_old). */
static void span_replace(struct svm_soft_device *dev, size_t i, size_t n_old,
			 const struct svm_soft_span *with, size_t n)
{
	memmove(&dev->spans[i + n], &dev->spans[i + n_old],
		(dev->n_spans - i - n_old) * sizeof(*dev->spans));
	if (n)
		memcpy(&dev->spans[i], with, n * sizeof(*with));
	dev->n_spans = dev->n_spans - n_old + n;
}

static void span_insert(struct svm_soft_device *dev, uint64_t start, uint64_t end)
{
	struct svm_soft_span span = { start, end };
	size_t n_old = 0;
	size_t i;

	pthread_mutex_lock(&dev->span_lock);
	/* Neighbours that touch become one: a bind may lie across them. */
	i = span_find(dev, start - 1);
	if (i < dev->n_spans && dev->spans[i].end == start) {
		span.start = dev->spans[i].start;
		n_old++;
	}
	if (i + n_old < dev->n_spans && dev->spans[i + n_old].start == end) {
		span.end = dev->spans[i + n_old].end;
		n_old++;
	}
	span_replace(dev, i, n_old, &span, 1);
	pthread_mutex_unlock(&dev->span_lock);
}

/* The span is within one entry. */
static void span_cut(struct svm_soft_device *dev, uint64_t start, uint64_t end)
{
	struct svm_soft_span rest[2];
	size_t n = 0;
	size_t i;

	pthread_mutex_lock(&dev->span_lock);
	i = span_find(dev, start);
	if (dev->spans[i].start < start)
		rest[n++] = (struct svm_soft_span){ dev->spans[i].start, start };
	if (dev->spans[i].end > end)
		rest[n++] = (struct svm_soft_span){ end, dev->spans[i].end };
	span_replace(dev, i, 1, rest, n);
	pthread_mutex_unlock(&dev->span_lock);
}

/* LOCKING: span_op_lock, the only writer of the table. */
static bool span_overlaps(const struct svm_soft_device *dev, uint64_t start, uint64_t end)
{
	size_t i = span_find(dev, start);

	return i < dev->n_spans && dev->spans[i].start < end;
}

/* LOCKING: span_op_lock. Have the process do it, and wait. */
static int span_command(struct svm_soft_device *dev, uint32_t op, uint64_t addr, uint64_t size)
{
	struct svm_soft_timeline *timeline = &dev->timelines[SVM_TIMELINE_BIND];
	struct svm_soft_bind_cmd cmd = {
		.addr = addr, .size = size, .op = op, .flags = SVM_SOFT_BIND_SYNC
	};
	int ret;

	pthread_mutex_lock(&timeline->lock);
	ret = svm_soft_timeline_reserve(timeline, 1, 0);
	if (ret == 0) {
		dev->ctl->binds[timeline->submitted % SVM_SOFT_BINDS] = cmd;
		atomic_store(&dev->ctl->bind.submitted, ++timeline->submitted);
	}
	pthread_mutex_unlock(&timeline->lock);
	if (ret < 0)
		return ret;
	svm_soft_line_kick(&dev->ctl->bind);
	return svm_soft_sync_wait(dev);
}

static bool span_valid(const struct svm_soft_device *dev, uint64_t addr, uint64_t size)
{
	uint64_t window_end = dev->window_base + dev->window_size;
	uint64_t home_end = dev->home_base + svm_soft_home_size((uint32_t)dev->n_chunks);

	if (size == 0 || addr == 0 || (addr | size) % SVM_PAGE_SIZE || addr + size < addr)
		return false;
	if (addr < window_end && addr + size > dev->window_base)
		return false;
	/* Ours while the device is open: the application cannot have memory there. */
	if (addr < home_end && addr + size > dev->home_base)
		return false;
	return addr >= dev->own_base + SVM_SOFT_OWN_SIZE || addr + size <= dev->own_base;
}

int svm_soft_span_add(void *device, uint64_t addr, uint64_t size)
{
	struct svm_soft_device *dev = device;
	int ret;

	if (!span_valid(dev, addr, size))
		return -EINVAL;
	if (atomic_load(&dev->is_dead))
		return -ENODEV;
	pthread_mutex_lock(&dev->span_op_lock);
	ret = span_overlaps(dev, addr, addr + size) ? -EEXIST : span_make_room(dev);
	if (ret == 0)
		ret = span_command(dev, SVM_SOFT_BIND_SPAN_ADD, addr, size);
	if (ret == 0)
		span_insert(dev, addr, addr + size);
	pthread_mutex_unlock(&dev->span_op_lock);
	return ret;
}

int svm_soft_span_remove(void *device, uint64_t addr, uint64_t size)
{
	struct svm_soft_device *dev = device;
	int ret;

	if (!span_valid(dev, addr, size))
		return -EINVAL;
	if (atomic_load(&dev->is_dead))
		return -ENODEV;
	pthread_mutex_lock(&dev->span_op_lock);
	ret = svm_soft_covers(dev, addr, size) ? span_make_room(dev) : -ENOENT;
	if (ret == 0)
		ret = span_command(dev, SVM_SOFT_BIND_SPAN_REMOVE, addr, size);
	if (ret == 0)
		span_cut(dev, addr, addr + size);
	pthread_mutex_unlock(&dev->span_op_lock);
	return ret;
}
