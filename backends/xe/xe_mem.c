// SPDX-License-Identifier: MIT
/* Buffers, and the chunks that are cut out of them: handle = index + 1, so that 0 is none. */
#include "xe_internal.h"
#include <errno.h>
#include <sys/mman.h>

#define SLAB_SIZE ((uint64_t)SVM_XE_SLAB_CHUNKS * SVM_BLOCK_SIZE)

void *svm_xe_map_anonymous(size_t size)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return map == MAP_FAILED ? NULL : map;
}

/* ---- Buffers ---------------------------------------------------------------------------------- */

int svm_xe_buffer_create(struct svm_xe_device *dev, uint64_t size, uint32_t placement,
			 uint16_t caching, uint32_t flags, struct svm_xe_buffer *ret_buffer)
{
	struct svm_xe_gem_create arg = {
		.size = size, .placement = placement, .flags = flags, .cpu_caching = caching
	};
	int ret = svm_drm_ioctl(dev->fd, SVM_XE_GEM_CREATE, &arg);

	if (ret == 0)
		*ret_buffer = (struct svm_xe_buffer){ .handle = arg.handle, .size = size };
	return ret;
}

int svm_xe_buffer_map(struct svm_xe_device *dev, struct svm_xe_buffer *buffer)
{
	struct svm_xe_gem_mmap_offset arg = { .handle = buffer->handle };
	void *map;
	int ret;

	if (buffer->map)
		return 0;
	ret = svm_drm_ioctl_sure(dev->fd, SVM_XE_GEM_MMAP_OFFSET, &arg);
	if (ret < 0)
		return ret;
	map = mmap(NULL, buffer->size, PROT_READ | PROT_WRITE, MAP_SHARED, dev->fd,
		   (off_t)arg.offset);
	if (map == MAP_FAILED)
		return -errno;
	/* Nothing of ours is for children; they could keep device memory alive. */
	(void)madvise(map, buffer->size, MADV_DONTFORK);
	buffer->map = map;
	return 0;
}

void svm_xe_buffer_destroy(struct svm_xe_device *dev, struct svm_xe_buffer *buffer)
{
	if (buffer->map)
		(void)munmap(buffer->map, buffer->size);
	if (buffer->handle)
		(void)svm_drm_gem_close(dev->fd, buffer->handle);
	*buffer = (struct svm_xe_buffer){ 0 };
}

/* ---- Chunks ----------------------------------------------------------------------------------- */

static uint64_t n_slabs(const struct svm_xe_device *dev)
{
	return (dev->n_chunks + SVM_XE_SLAB_CHUNKS - 1) / SVM_XE_SLAB_CHUNKS;
}

int svm_xe_mem_init(struct svm_xe_device *dev)
{
	dev->n_chunks = dev->memory / SVM_BLOCK_SIZE;
	dev->free_chunks = svm_xe_map_anonymous(dev->n_chunks * sizeof(*dev->free_chunks));
	dev->chunk_used = svm_xe_map_anonymous(dev->n_chunks * sizeof(*dev->chunk_used));
	dev->slabs = svm_xe_map_anonymous(n_slabs(dev) * sizeof(*dev->slabs));
	return dev->free_chunks && dev->chunk_used && dev->slabs ? 0 : -ENOMEM;
}

void svm_xe_mem_finish(struct svm_xe_device *dev)
{
	for (uint64_t i = 0; dev->slabs && i < n_slabs(dev); i++)
		svm_xe_buffer_destroy(dev, &dev->slabs[i].buffer);
	if (dev->free_chunks)
		(void)munmap(dev->free_chunks, dev->n_chunks * sizeof(*dev->free_chunks));
	if (dev->chunk_used)
		(void)munmap((void *)dev->chunk_used, dev->n_chunks * sizeof(*dev->chunk_used));
	if (dev->slabs)
		(void)munmap(dev->slabs, n_slabs(dev) * sizeof(*dev->slabs));
}

bool svm_xe_chunk_valid(const struct svm_xe_device *dev, uint64_t chunk)
{
	return chunk >= 1 && chunk <= dev->n_chunks && atomic_load(&dev->chunk_used[chunk - 1]);
}

uint32_t svm_xe_chunk_buffer(struct svm_xe_device *dev, uint64_t chunk, uint64_t *ret_offset)
{
	/* A slab with a used chunk stays as it is. */
	*ret_offset = (chunk - 1) % SVM_XE_SLAB_CHUNKS * SVM_BLOCK_SIZE;
	return dev->slabs[(chunk - 1) / SVM_XE_SLAB_CHUNKS].buffer.handle;
}

/* LOCKING: memory_lock. Take a slab from the kernel and give it its place in the copy VM. */
static int slab_get(struct svm_xe_device *dev, uint64_t index)
{
	struct svm_xe_buffer *buffer = &dev->slabs[index].buffer;
	uint64_t left = (dev->n_chunks - index * SVM_XE_SLAB_CHUNKS) * SVM_BLOCK_SIZE;
	uint64_t size = left < SLAB_SIZE ? left : SLAB_SIZE;
	struct svm_xe_bind_op op = {
		.op = SVM_XE_BIND_MAP,
		.pat_index = dev->info.pat,
		.addr = SVM_XE_COPY_CHUNKS_VA + index * SLAB_SIZE,
		.range = size,
	};
	int ret;

	if (buffer->handle)
		return 0;
	ret = svm_xe_buffer_create(dev, size, dev->placement, dev->caching, dev->gem_flags, buffer);
	if (ret < 0 || !dev->has_engine)
		return ret;
	op.obj = buffer->handle;
	ret = svm_xe_engine_bind(&dev->copy, &op);
	if (ret < 0)
		svm_xe_buffer_destroy(dev, buffer);
	return ret;
}

/* LOCKING: memory_lock. */
static int take_chunk(struct svm_xe_device *dev, uint64_t *ret_index)
{
	int ret;

	/* Used before: bound already. Last in, first out. */
	if (dev->n_free > 0) {
		*ret_index = dev->free_chunks[--dev->n_free];
		return 0;
	}
	if (dev->n_fresh == dev->n_chunks)
		return -ENOSPC;
	ret = slab_get(dev, dev->n_fresh / SVM_XE_SLAB_CHUNKS);
	if (ret < 0)
		return svm_xe_is_loss(dev, ret, "memory") ? -ENODEV : -ENOSPC;
	*ret_index = dev->n_fresh++;
	return 0;
}

int svm_xe_chunk_alloc(void *device, uint64_t *ret_chunk)
{
	struct svm_xe_device *dev = device;
	uint64_t index;
	int ret;

	if (atomic_load(&dev->is_lost))
		return -ENODEV;
	pthread_mutex_lock(&dev->memory_lock);
	ret = take_chunk(dev, &index);
	if (ret == 0) {
		atomic_store(&dev->chunk_used[index], 1);
		*ret_chunk = index + 1;
	}
	pthread_mutex_unlock(&dev->memory_lock);
	return ret;
}

void svm_xe_chunk_free(void *device, uint64_t chunk)
{
	struct svm_xe_device *dev = device;

	pthread_mutex_lock(&dev->memory_lock);
	if (svm_xe_chunk_valid(dev, chunk)) {
		atomic_store(&dev->chunk_used[chunk - 1], 0);
		dev->free_chunks[dev->n_free++] = (uint32_t)(chunk - 1);
	}
	pthread_mutex_unlock(&dev->memory_lock);
}

int svm_xe_chunk_map(void *device, uint64_t chunk, void **ret_addr)
{
	struct svm_xe_device *dev = device;
	struct svm_xe_slab *slab;
	uint64_t offset;
	int ret;

	if (!(dev->caps & SVM_CAP_CPU_VISIBLE))
		return -EOPNOTSUPP;
	if (!svm_xe_chunk_valid(dev, chunk))
		return -EINVAL;
	/* A wedged device's memory reads as zeros (xe_bo_cpu_fault()): not a byte of it may be taken for data. */
	if (atomic_load(&dev->is_lost))
		return -ENODEV;
	(void)svm_xe_chunk_buffer(dev, chunk, &offset);
	slab = &dev->slabs[(chunk - 1) / SVM_XE_SLAB_CHUNKS];
	pthread_mutex_lock(&dev->map_lock);
	ret = svm_xe_buffer_map(dev, &slab->buffer);
	pthread_mutex_unlock(&dev->map_lock);
	if (ret < 0)
		return svm_xe_is_loss(dev, ret, "GEM_MMAP_OFFSET") ? -ENODEV : ret;
	*ret_addr = (uint8_t *)slab->buffer.map + offset;
	return 0;
}
