/* SPDX-License-Identifier: MIT */
/*
 * The runtime that embed.c plays: an open file, a VM, a queue and a batch of its own, over the xe driver's ioctls. A real one
 * includes <drm/xe_drm.h>, which older systems lack; what is declared here has the same layout.
 */
#ifndef EMBED_H
#define EMBED_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct xe_vm {
	uint64_t extensions;
	uint32_t flags, id;
	uint64_t reserved[2];
};

struct xe_buffer {
	uint64_t extensions, size;
	uint32_t placement, flags, vm_id, handle;
	uint16_t caching, pad[3];
	uint64_t reserved[2];
};

struct xe_offset {
	uint64_t extensions;
	uint32_t handle, flags;
	uint64_t offset, reserved[2];
};

struct xe_bind {
	uint64_t extensions;
	uint32_t vm_id, queue_id, pad, n_binds;
	struct {
		uint64_t extensions;
		uint32_t handle;
		uint16_t pat, pad;
		uint64_t offset, range, addr;
		uint32_t op, flags, region, pad2;
		uint64_t reserved[3];
	} op;
	uint32_t pad2, n_syncs;
	uint64_t syncs, reserved[2];
};

struct xe_engine {
	uint16_t class, instance, gt, pad;
};

struct xe_queue {
	uint64_t extensions;
	uint16_t width, n_placements;
	uint32_t vm_id, flags, id;
	uint64_t engines, reserved[2];
};

struct xe_sync {
	uint64_t extensions;
	uint32_t type, flags;
	uint64_t handle, value, reserved[2];
};

struct xe_exec {
	uint64_t extensions;
	uint32_t queue_id, n_syncs;
	uint64_t syncs, addr;
	uint16_t n_batches, pad[3];
	uint64_t reserved[2];
};

struct drm_syncobj {
	uint32_t handle, flags;
	int32_t fd;
	uint32_t pad;
	uint64_t point;
};

struct drm_syncobj_create {
	uint32_t handle, flags;
};

struct xe_end {
	uint32_t id, pad;
	uint64_t reserved[2];
};

struct drm_gem_close {
	uint32_t handle, pad;
};

struct runtime {
	int fd;
	uint32_t vm, queue, syncobj, buffer;
	uint32_t *batch; /* mapped, at BATCH_VA in the VM */
};

#define BATCH_VA     (UINT64_C(1) << 47) /* out of the CPU's reach: no pointer is ever there */
#define BATCH_SIZE   UINT64_C(65536)
#define COPY_DWORD   0x17000003u /* MI_COPY_MEM_MEM */
#define STORE_DWORD  0x10000002u /* MI_STORE_DATA_IMM */
#define END_OF_BATCH 0x05000000u

static inline int runtime_call(const struct runtime *rt, unsigned long request, void *arg)
{
	int r;

	do
		r = ioctl(rt->fd, request, arg);
	while (r < 0 && (errno == EINTR || errno == EAGAIN));
	return r < 0 ? -errno : 0;
}

/* Returns 0 or a negative errno. */
static inline int runtime_open(struct runtime *rt, const char *node)
{
	static const uint16_t write_back[] = {
		2, 3, 0
	}; /* by generation; others cannot map system memory */
	struct xe_engine engine = { .class = 1 };
	struct xe_vm vm = { 0 };
	struct xe_buffer buffer = { .size = BATCH_SIZE, .placement = 1, .caching = 1 };
	struct xe_offset offset = { 0 };
	struct xe_queue queue = { .width = 1, .n_placements = 1, .engines = (uintptr_t)&engine };
	struct drm_syncobj_create syncobj = { 0 };
	struct xe_sync sync = { .flags = 1 };
	struct xe_bind bind = { .n_binds = 1, .n_syncs = 1, .syncs = (uintptr_t)&sync };
	int r;

	rt->fd = open(node, O_RDWR | O_CLOEXEC);
	if (rt->fd < 0)
		return -errno;
	r = runtime_call(rt, _IOWR('d', 0x43, struct xe_vm), &vm);
	queue.vm_id = bind.vm_id = rt->vm = vm.id;
	if (r == 0)
		r = runtime_call(rt, _IOWR('d', 0x41, struct xe_buffer), &buffer);
	offset.handle = rt->buffer = buffer.handle;
	if (r == 0)
		r = runtime_call(rt, _IOWR('d', 0x42, struct xe_offset), &offset);
	if (r == 0)
		r = runtime_call(rt, _IOWR('d', 0xbf, struct drm_syncobj_create), &syncobj);
	sync.handle = rt->syncobj = syncobj.handle;
	if (r < 0)
		return r;
	rt->batch = mmap(NULL, BATCH_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, rt->fd,
			 (off_t)offset.offset);
	if (rt->batch == MAP_FAILED) {
		rt->batch = NULL;
		return -errno;
	}
	bind.op.handle = buffer.handle;
	bind.op.range = BATCH_SIZE;
	bind.op.addr = BATCH_VA;
	r = -EINVAL;
	for (unsigned int i = 0; i < 3 && r == -EINVAL; i++) {
		bind.op.pat = write_back[i];
		r = runtime_call(rt, _IOW('d', 0x45, struct xe_bind), &bind);
	}
	/* The copy engines need not begin with number 0. */
	for (; r == 0 && engine.instance < 8; engine.instance++) {
		r = runtime_call(rt, _IOWR('d', 0x46, struct xe_queue), &queue);
		if (r != -EINVAL)
			break;
		r = 0;
	}
	rt->queue = queue.id;
	return r;
}

/* Run the batch after the bind that the syncobj stands for; the syncobj stands for the batch then. *ret_fd is its
 * sync_file. */
static inline int runtime_run(struct runtime *rt, int *ret_fd)
{
	struct xe_sync syncs[2] = { { .handle = rt->syncobj },
				    { .handle = rt->syncobj, .flags = 1 } };
	struct xe_exec exec = { .queue_id = rt->queue,
				.n_syncs = 2,
				.syncs = (uintptr_t)syncs,
				.addr = BATCH_VA,
				.n_batches = 1 };
	struct drm_syncobj export = { .handle = rt->syncobj, .flags = 1 };
	int r = runtime_call(rt, _IOW('d', 0x49, struct xe_exec), &exec);

	if (r == 0)
		r = runtime_call(rt, _IOWR('d', 0xc1, struct drm_syncobj), &export);
	if (r == 0)
		*ret_fd = export.fd;
	return r;
}

static inline void runtime_close(struct runtime *rt)
{
	struct xe_end queue = { .id = rt->queue };
	struct xe_end vm = { .id = rt->vm };
	struct drm_syncobj_create syncobj = { .handle = rt->syncobj };
	struct drm_gem_close buffer = { .handle = rt->buffer };

	if (rt->queue)
		runtime_call(rt, _IOW('d', 0x47, struct xe_end), &queue);
	if (rt->vm)
		runtime_call(rt, _IOW('d', 0x44, struct xe_end), &vm);
	if (rt->syncobj)
		runtime_call(rt, _IOWR('d', 0xc0, struct drm_syncobj_create), &syncobj);
	if (rt->batch)
		munmap(rt->batch, BATCH_SIZE);
	if (rt->buffer)
		runtime_call(rt, _IOW('d', 0x09, struct drm_gem_close), &buffer);
	if (rt->fd >= 0)
		close(rt->fd);
}

#endif
