/* SPDX-License-Identifier: MIT */
/* A runtime of its own on an xe device: open file, VM, queue, private memory at GPU-only addresses, batches. */
#ifndef XE_APP_H
#define XE_APP_H

#include "../../backends/xe/xe_uapi.h"
#include "../emu/emu_ctl.h"
#include "fixture.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define APP_NODE      "/dev/dri/renderD128"
#define APP_VA	      (UINT64_C(1) << 47) /* its own memory: batch, data, fence */
#define APP_BATCH     UINT64_C(65536)
#define APP_DATA      (APP_VA + APP_BATCH)
#define APP_FENCE     (APP_DATA + 4096)
#define APP_SIZE      (APP_BATCH + 8192)
#define APP_JOBS      0u
#define APP_LONG      SVM_XE_VM_LR
#define APP_FAULTS    (SVM_XE_VM_LR | SVM_XE_VM_FAULT)
#define APP_MIRRORED  (UINT64_C(1) << 47)
#define APP_WAIT_NS   INT64_C(10000000000)
#define APP_COPY      0x17000003u /* MI_COPY_MEM_MEM: a dword */
#define APP_STORE     0x10000002u /* MI_STORE_DATA_IMM: a dword */
#define APP_END	      0x05000000u
#define APP_SYNC_FILE 1u /* DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE */

struct app_syncobj_handle {
	uint32_t handle;
	uint32_t flags;
	int32_t fd;
	uint32_t pad;
	uint64_t point;
};
#define APP_SYNCOBJ_TO_FD SVM_DRM_IOWR(0xc1, struct app_syncobj_handle)

struct app {
	int fd;
	uint32_t vm;
	uint32_t mode;
	uint32_t queue;
	uint32_t handle;
	uint32_t syncobj;
	uint16_t pat;
	uint8_t *map;
	uint32_t n; /* dwords of the batch */
	uint64_t n_runs;
};

static inline int app_ioctl(int fd, unsigned long request, void *arg)
{
	int r;

	do
		r = ioctl(fd, request, arg);
	while (r < 0 && (errno == EINTR || errno == EAGAIN));
	return r < 0 ? -errno : 0;
}

#define APP_DO(app, request, arg) assert_int_equal(app_ioctl((app)->fd, request, arg), 0)

static inline int app_bind(struct app *app, struct svm_xe_bind_op op)
{
	static uint64_t word __attribute__((aligned(8)));
	struct svm_xe_sync sync = { .type = SVM_XE_SYNC_USER_FENCE,
				    .flags = SVM_XE_SYNC_SIGNAL,
				    .addr = (uintptr_t)&word,
				    .timeline_value = word + 1 };
	struct svm_xe_vm_bind arg = {
		.vm_id = app->vm, .n_binds = 1, .bind = op, .n_syncs = 1, .syncs = (uintptr_t)&sync
	};
	struct svm_xe_wait_user_fence wait = { .addr = (uintptr_t)&word,
					       .op = SVM_XE_WAIT_GTE,
					       .value = word + 1,
					       .mask = UINT64_MAX,
					       .timeout = APP_WAIT_NS };
	int r;

	arg.bind.pat_index = app->pat;
	if (app->mode != APP_JOBS && op.op == SVM_XE_BIND_MAP && op.obj)
		arg.bind.flags |= SVM_XE_BIND_IMMEDIATE;
	r = app_ioctl(app->fd, SVM_XE_VM_BIND, &arg);
	return r < 0 ? r : app_ioctl(app->fd, SVM_XE_WAIT_USER_FENCE, &wait);
}

static inline int app_bind_own(struct app *app, uint64_t addr)
{
	return app_bind(app, (struct svm_xe_bind_op){ .op = SVM_XE_BIND_MAP,
						      .obj = app->handle,
						      .addr = addr,
						      .range = APP_SIZE });
}

static inline int app_mirror(struct app *app)
{
	return app_bind(app, (struct svm_xe_bind_op){ .op = SVM_XE_BIND_MAP,
						      .flags = SVM_XE_BIND_MIRROR,
						      .range = APP_MIRRORED });
}

/* False: the device has no such VMs. */
static inline bool app_open(struct app *app, uint32_t mode)
{
	/* Page attributes that are write-back on some generation; on others they cannot map system memory. */
	static const uint16_t write_back[] = { 2, 3, 0 };
	struct svm_xe_vm_create vm = { .flags = mode };
	struct svm_xe_engine_instance copy = { .engine_class = SVM_XE_ENGINE_COPY };
	struct svm_xe_queue_create queue = { .width = 1,
					     .n_placements = 1,
					     .instances = (uintptr_t)&copy };
	struct svm_xe_gem_create gem = { .size = APP_SIZE,
					 .placement = 1,
					 .cpu_caching = SVM_XE_CACHING_WB };
	struct svm_xe_gem_mmap_offset offset = { 0 };
	struct svm_drm_syncobj_create syncobj = { 0 };
	int r;

	*app = (struct app){ .mode = mode };
	app->fd = open(APP_NODE, O_RDWR | O_CLOEXEC);
	assert_true(app->fd >= 0);
	r = app_ioctl(app->fd, SVM_XE_VM_CREATE, &vm);
	if (r == -EINVAL && mode == APP_FAULTS) {
		assert_int_equal(close(app->fd), 0);
		return false;
	}
	assert_int_equal(r, 0);
	app->vm = vm.vm_id;
	queue.vm_id = vm.vm_id;
	/* The engines of the copy class need not begin with number 0. */
	while ((r = app_ioctl(app->fd, SVM_XE_QUEUE_CREATE, &queue)) == -EINVAL &&
	       copy.engine_instance < 8)
		copy.engine_instance++;
	assert_int_equal(r, 0);
	r = -1;
	app->queue = queue.exec_queue_id;
	APP_DO(app, SVM_XE_GEM_CREATE, &gem);
	app->handle = offset.handle = gem.handle;
	APP_DO(app, SVM_XE_GEM_MMAP_OFFSET, &offset);
	app->map = mmap(NULL, APP_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, app->fd,
			(off_t)offset.offset);
	assert_ptr_not_equal(app->map, MAP_FAILED);
	APP_DO(app, SVM_DRM_SYNCOBJ_CREATE, &syncobj);
	app->syncobj = syncobj.handle;
	for (unsigned int i = 0; i < 3 && r != 0; i++) {
		app->pat = write_back[i];
		r = app_bind_own(app, APP_VA);
	}
	assert_int_equal(r, 0);
	return true;
}

static inline void app_close(struct app *app)
{
	struct svm_xe_queue_destroy queue = { .exec_queue_id = app->queue };
	struct svm_xe_vm_destroy vm = { .vm_id = app->vm };
	struct svm_drm_gem_close gem = { .handle = app->handle };
	struct svm_drm_syncobj_destroy syncobj = { .handle = app->syncobj };

	APP_DO(app, SVM_XE_QUEUE_DESTROY, &queue);
	APP_DO(app, SVM_XE_VM_DESTROY, &vm);
	assert_int_equal(munmap(app->map, APP_SIZE), 0);
	APP_DO(app, SVM_DRM_GEM_CLOSE, &gem);
	APP_DO(app, SVM_DRM_SYNCOBJ_DESTROY, &syncobj);
	assert_int_equal(close(app->fd), 0);
}

/* ---- Batches ---------------------------------------------------------------------------------- */

static inline void app_emit(struct app *app, uint32_t dw)
{
	assert_true(app->n < APP_BATCH / 4 - 1024);
	((uint32_t *)app->map)[app->n++] = dw;
}

static inline void app_emit_addr(struct app *app, const volatile void *addr)
{
	app_emit(app, (uint32_t)(uintptr_t)addr);
	app_emit(app, (uint32_t)((uintptr_t)addr >> 32));
}

/* *dst = *src, by the engine. */
static inline void app_copy(struct app *app, volatile void *dst, const volatile void *src)
{
	app_emit(app, APP_COPY);
	app_emit_addr(app, dst);
	app_emit_addr(app, src);
}

static inline void app_store(struct app *app, volatile void *dst, uint32_t value)
{
	app_emit(app, APP_STORE);
	app_emit_addr(app, dst);
	app_emit(app, value);
}

static inline void app_reset(struct app *app)
{
	app->n = 0;
}

static inline volatile uint64_t *app_fence(struct app *app)
{
	return (volatile uint64_t *)(app->map + (APP_FENCE - APP_VA));
}

/* Start the batch. Its end is point n_runs of the fence word, or the fence of the syncobj. */
static inline int app_start(struct app *app)
{
	struct svm_xe_sync sync = { .flags = SVM_XE_SYNC_SIGNAL };
	struct svm_xe_exec arg = { .exec_queue_id = app->queue,
				   .n_syncs = 1,
				   .syncs = (uintptr_t)&sync,
				   .address = APP_VA,
				   .n_batches = 1 };
	int r;

	app_emit(app, APP_END);
	if (app->mode == APP_JOBS) {
		sync.type = SVM_XE_SYNC_OBJECT;
		sync.handle = app->syncobj;
	} else {
		sync.type = SVM_XE_SYNC_USER_FENCE;
		sync.addr = APP_FENCE;
		sync.timeline_value = app->n_runs + 1;
	}
	r = app_ioctl(app->fd, SVM_XE_EXEC, &arg);
	app->n_runs += r == 0;
	return r;
}

/* 0; -EIO: the queue was banned. With jobs that end the fence is no proof of success: a store at the end is. */
static inline int app_wait(struct app *app)
{
	struct svm_xe_wait_user_fence wait = { .addr = (uintptr_t)app_fence(app),
					       .op = SVM_XE_WAIT_GTE,
					       .value = app->n_runs,
					       .mask = UINT64_MAX,
					       .timeout = APP_WAIT_NS,
					       .exec_queue_id = app->queue };
	struct app_syncobj_handle export = { .handle = app->syncobj, .flags = APP_SYNC_FILE };
	struct pollfd p = { .events = POLLIN };

	if (app->mode != APP_JOBS)
		return app_ioctl(app->fd, SVM_XE_WAIT_USER_FENCE, &wait);
	APP_DO(app, APP_SYNCOBJ_TO_FD, &export);
	p.fd = export.fd;
	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_int_equal(close(export.fd), 0);
	return 0;
}

/* How many areas of the VM are in a span; -EINVAL on kernels that cannot tell. */
static inline int app_areas(struct app *app, uint64_t addr, uint64_t size)
{
	struct svm_xe_query_mem_range arg = { .vm_id = app->vm, .start = addr, .range = size };
	int r = app_ioctl(app->fd, SVM_XE_QUERY_MEM_RANGE, &arg);

	return r < 0 ? r : (int)arg.n_ranges;
}

#endif
