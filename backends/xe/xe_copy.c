// SPDX-License-Identifier: MIT
/* Copies of the library and work of the application, as requests to their engines. */
#include "xe_internal.h"
#include <errno.h>
#include <string.h>

/* ---- Copies ----------------------------------------------------------------------------------- */

static bool is_none(const struct svm_copy_end *end)
{
	return !end->host && !end->peer_dev && !end->chunk && !end->offset;
}

/* One end as an address: of the library's, or of the copy VM. */
static int end_addr(struct svm_xe_device *dev, const struct svm_copy_end *end, uint64_t size,
		    uint64_t *ret_addr, bool *ret_host)
{
	*ret_host = end->host != NULL;
	if (end->host) {
		*ret_addr = (uintptr_t)end->host;
		return *ret_addr % SVM_PAGE_SIZE ? -EINVAL : 0;
	}
	/* Memory of other devices is out of reach: no SVM_CAP_PEER_COPY. */
	if (end->peer_dev != dev || !svm_xe_chunk_valid(dev, end->chunk))
		return -EINVAL;
	if (end->offset % SVM_PAGE_SIZE || end->offset > SVM_BLOCK_SIZE ||
	    size > SVM_BLOCK_SIZE - end->offset)
		return -EINVAL;
	*ret_addr = SVM_XE_COPY_CHUNKS_VA + (end->chunk - 1) * SVM_BLOCK_SIZE + end->offset;
	return 0;
}

static int copy_request(struct svm_xe_device *dev, const struct svm_copy *copy,
			struct svm_xe_request *ret)
{
	bool host;
	int r;

	if (copy->size == 0 || copy->size % SVM_PAGE_SIZE || copy->size > SVM_BLOCK_SIZE)
		return -EINVAL;
	*ret = (struct svm_xe_request){ .size = copy->size };
	r = end_addr(dev, &copy->dst, copy->size, &ret->dst, &host);
	ret->flags |= host ? SVM_XE_REQUEST_HOST_DST : 0;
	if (r < 0)
		return r;
	if (is_none(&copy->src)) {
		ret->flags |= SVM_XE_REQUEST_FILL;
		return 0;
	}
	r = end_addr(dev, &copy->src, copy->size, &ret->src, &host);
	ret->flags |= host ? SVM_XE_REQUEST_HOST_SRC : 0;
	return r;
}

int svm_xe_copy(void *device, const struct svm_copy *copies, size_t n_copies, uint32_t flags,
		struct svm_point *ret_point)
{
	struct svm_xe_request requests[SVM_COPY_BATCH];
	struct svm_xe_device *dev = device;
	uint64_t value;
	int ret;

	if (n_copies == 0 || n_copies > SVM_COPY_BATCH || flags & ~SVM_COPY_URGENT)
		return -EINVAL;
	if (!dev->has_engine)
		return -EOPNOTSUPP;
	for (size_t i = 0; i < n_copies; i++) {
		ret = copy_request(dev, &copies[i], &requests[i]);
		if (ret < 0)
			return ret;
	}
	if (atomic_load(&dev->is_lost))
		return -ENODEV;
	ret = svm_xe_engine_add(&dev->copy, requests, n_copies, &value);
	if (ret < 0)
		return ret;
	*ret_point = (struct svm_point){ .timeline = SVM_TIMELINE_COPY, .value = value };
	return 0;
}

/* Where the CPU finds it, or NULL. */
static void *cpu_addr(struct svm_xe_device *dev, uint64_t addr, bool is_host)
{
	uint64_t at = addr - SVM_XE_COPY_CHUNKS_VA;
	void *map;

	if (is_host)
		return (void *)(uintptr_t)addr;
	if (svm_xe_chunk_map(dev, at / SVM_BLOCK_SIZE + 1, &map) < 0)
		return NULL;
	return (uint8_t *)map + at % SVM_BLOCK_SIZE;
}

int svm_xe_copy_by_cpu(struct svm_xe_device *dev, const struct svm_xe_request *r)
{
	void *dst = cpu_addr(dev, r->dst, r->flags & SVM_XE_REQUEST_HOST_DST);
	const void *src = NULL;

	if (!(r->flags & SVM_XE_REQUEST_FILL)) {
		src = cpu_addr(dev, r->src, r->flags & SVM_XE_REQUEST_HOST_SRC);
		if (!src)
			return -EOPNOTSUPP;
	}
	if (!dst)
		return -EOPNOTSUPP;
	if (src)
		memcpy(dst, src, r->size);
	else
		memset(dst, (int)r->value, r->size);
	/* Out of the write-combining buffers, before the engine looks. */
	atomic_thread_fence(memory_order_seq_cst);
	return 0;
}

/* ---- Work ------------------------------------------------------------------------------------- */

static bool in_reach(uint64_t addr, uint64_t size)
{
	return addr >= SVM_XE_VA_START && addr < SVM_XE_VA_END && size <= SVM_XE_VA_END - addr;
}

int svm_xe_work(void *device, const struct svm_work *work, struct svm_point *ret_point)
{
	struct svm_xe_device *dev = device;
	struct svm_xe_request request = {
		.dst = work->dst,
		.src = work->is_fill ? 0 : work->src,
		.size = work->size,
		.flags = work->is_fill ? SVM_XE_REQUEST_FILL : 0,
		.value = work->value,
	};
	uint64_t value;
	int ret;

	if (!dev->has_engine)
		return -EOPNOTSUPP;
	if (work->size == 0 || work->is_fill > 1 || work->value > UINT8_MAX)
		return -EINVAL;
	if (!in_reach(work->dst, work->size) ||
	    (!work->is_fill && !in_reach(work->src, work->size)))
		return -EINVAL;
	if (!svm_xe_cmd_fits(&dev->info.blitter, request.dst, request.src, request.size))
		return -EOPNOTSUPP;
	if (atomic_load(&dev->is_lost))
		return -ENODEV;
	ret = svm_xe_engine_add(&dev->work, &request, 1, &value);
	if (ret < 0)
		return ret;
	*ret_point = (struct svm_point){ .timeline = SVM_TIMELINE_WORK, .value = value };
	return 0;
}
