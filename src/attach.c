/* SPDX-License-Identifier: MIT */
/* The public device calls: enumerate, open, query, close. */
#include "space.h"

#include "backend.h"
#include <errno.h>
#include <libsvm/device.h>
#include <string.h>

int svm_device_enumerate(struct svm_space *space, struct svm_device_info *infos, size_t *n_infos)
{
	struct svm_backend_ops ops;
	size_t room;
	size_t n = 0;
	int r;

	if (!space || !n_infos || (*n_infos && !infos))
		return -EINVAL;
	r = svm_ctx_check(&space->ctx);
	if (r < 0)
		return r;
	room = *n_infos;
	for (size_t i = 0; i < room; i++)
		if (infos[i].size != sizeof(infos[i]))
			return -EINVAL;
	for (unsigned int b = 0; (r = svm_backend_nth(b, &space->ctx.log, &ops)) != -ENOENT; b++) {
		struct svm_device_info info = { .size = sizeof(info) };

		for (unsigned int i = 0; r == 0 && ops.enumerate(i, &info) == 0; i++) {
			info.id = ~0u;
			if (n < room)
				infos[n] = info;
			n++;
		}
	}
	*n_infos = n;
	return 0;
}

/* LOCKING: SPACE. The device learns of the registered memory. */
static int tell_spans(struct svm_ctx *ctx, struct svm_device *device)
{
	struct svm_tree_node *node;
	uint64_t after = 0;
	int r = 0;

	/* SPACE keeps registrations as they are; the tree lock must not be held over an op that may block. */
	while (r == 0) {
		const struct svm_alloc *alloc = NULL;

		svm_rwlock_read(&ctx->tree_lock);
		for (node = svm_tree_find_from(&ctx->ranges, after); node && !alloc;
		     node = svm_tree_next(node))
			if (svm_range_of(node)->alloc->registered)
				alloc = svm_range_of(node)->alloc;
		svm_rwlock_unlock(&ctx->tree_lock);
		if (!alloc)
			break;
		after = alloc->base + alloc->size;
		if (device->caps.va_start > alloc->base || device->caps.va_end < after)
			r = -ERANGE;
		else
			r = device->ops.span_add(device->dev, alloc->base, alloc->size);
	}
	return r;
}

static int open_locked(struct svm_ctx *ctx, const char *name,
		       const struct svm_device_import *import, struct svm_device **ret_device)
{
	struct svm_device *device;
	uint32_t id = 0;
	int r;

	while (id < SVM_MAX_DEVICES && atomic_load(&ctx->devices[id]))
		id++;
	if (id == SVM_MAX_DEVICES)
		return -ENOSPC;
	r = svm_device_new(ctx, name, import, &device);
	if (r < 0)
		return r;
	device->id = id;
	device->agent = id + 1u;
	device->on_faults = svm_fault_read_device;
	device->on_lost = svm_fault_device_lost;
	r = tell_spans(ctx, device);
	if (r < 0)
		goto err_device;
	r = svm_device_start(device);
	if (r < 0)
		goto err_device;
	svm_lock(&ctx->native_lock);
	if (svm_device_has(device, SVM_CAP_NATIVE)) {
		svm_native_attach(device);
		atomic_fetch_add(&ctx->n_native, 1u);
	}
	svm_rwlock_write(&ctx->tree_lock);
	atomic_store(&ctx->devices[id], device);
	svm_rwlock_unlock(&ctx->tree_lock);
	svm_unlock(&ctx->native_lock);
	svm_info(&ctx->log, "device %u: %s, %llu MiB, capabilities %x", id, device->name,
		 (unsigned long long)(device->caps.memory_size >> 20), device->caps.caps);
	*ret_device = device;
	return 0;

err_device:
	svm_device_drain(device);
	svm_device_delete(device);
	return r;
}

static int open_device(struct svm_space *space, const char *name,
		       const struct svm_device_import *import, struct svm_device **ret_device)
{
	int r = svm_ctx_check(&space->ctx);

	if (r < 0)
		return r;
	svm_lock(&space->ctx.space_lock);
	r = open_locked(&space->ctx, name, import, ret_device);
	svm_unlock(&space->ctx.space_lock);
	return r;
}

int svm_device_open(struct svm_space *space, const char *name, struct svm_device **ret_device)
{
	if (!space || !name || !ret_device)
		return -EINVAL;
	return open_device(space, name, NULL, ret_device);
}

int svm_device_import(struct svm_space *space, const char *name,
		      const struct svm_device_import *options, struct svm_device **ret_device)
{
	if (!space || !name || !options || !ret_device)
		return -EINVAL;
	if (options->size != sizeof(*options) || options->reserved ||
	    options->flags & ~(SVM_IMPORT_MIRRORED | SVM_IMPORT_NO_WORK))
		return -EINVAL;
	return open_device(space, name, options, ret_device);
}

/* LOCKING: SPACE. All blocks give up what the device holds of them. */
static int empty_device(struct svm_ctx *ctx, struct svm_device *device)
{
	for (;;) {
		struct svm_request request = { .kind = SVM_REQUEST_FORGET, .agent = device->agent };
		uint64_t addr = 0;
		bool any;
		int r;

		svm_rwlock_read(&ctx->tree_lock);
		svm_lock(&device->blocks_lock);
		any = !svm_list_empty(&device->blocks);
		if (any) {
			const struct svm_block *block =
				svm_list_entry(device->blocks.next, struct svm_block_device, node)
					->block;
			unsigned int page = 0;

			/* A block of registered memory is found by an address of that memory. */
			addr = block->base;
			if (svm_mask_run(&block->managed, &page))
				addr += (uint64_t)page << SVM_PAGE_SHIFT;
		}
		svm_unlock(&device->blocks_lock);
		svm_rwlock_unlock(&ctx->tree_lock);
		if (!any)
			return 0;
		r = svm_request_wait(ctx, addr, &request);
		/* Without a block there was nobody to serve it: it went meanwhile, with what the device had there. */
		if (r < 0 && request.block)
			return r;
	}
}

/* Nothing of the application holds it, and nothing will. */
static int stop_use(struct svm_ctx *ctx, struct svm_device *device)
{
	bool busy;

	atomic_store(&device->no_work, true);
	busy = atomic_load(&device->n_accesses) != 0;
	/* What copies and fills hold, nobody else can give back. */
	if (!busy)
		svm_device_wait_works(device);
	svm_rwlock_write(&ctx->tree_lock);
	busy = busy || atomic_load(&device->n_holds);
	atomic_store(&device->closing, !busy);
	atomic_store(&device->no_work, !busy);
	svm_rwlock_unlock(&ctx->tree_lock);
	return busy ? -EBUSY : 0;
}

static int close_locked(struct svm_ctx *ctx, struct svm_device *device)
{
	int r = stop_use(ctx, device);

	if (r < 0)
		return r;
	r = empty_device(ctx, device);
	if (r < 0) {
		atomic_store(&device->closing, false);
		atomic_store(&device->no_work, false);
		return r;
	}
	svm_lock(&ctx->native_lock);
	svm_rwlock_write(&ctx->tree_lock);
	atomic_store(&ctx->devices[device->id], NULL);
	svm_range_forget_device(ctx, device->id);
	svm_rwlock_unlock(&ctx->tree_lock);
	svm_native_forget_device(ctx, device->id);
	if (svm_device_has(device, SVM_CAP_NATIVE))
		atomic_fetch_sub(&ctx->n_native, 1u);
	svm_unlock(&ctx->native_lock);
	svm_device_drain(device);
	svm_device_stop(device);
	svm_device_delete(device);
	return 0;
}

int svm_device_close(struct svm_device *device)
{
	struct svm_ctx *ctx;
	int r;

	if (!device)
		return 0;
	ctx = device->ctx;
	r = svm_ctx_check(ctx);
	if (r < 0)
		return r;
	svm_lock(&ctx->space_lock);
	r = close_locked(ctx, device);
	svm_unlock(&ctx->space_lock);
	return r;
}

int svm_device_query(struct svm_device *device, struct svm_device_info *info)
{
	struct svm_device_info found = { .size = sizeof(found) };
	int r;

	if (!device || !info || info->size != sizeof(*info))
		return -EINVAL;
	r = svm_ctx_check(device->ctx);
	if (r < 0)
		return r;
	memcpy(found.name, device->name, sizeof(found.name));
	strncpy(found.backend, device->ops.name, sizeof(found.backend) - 1u);
	found.id = device->id;
	found.caps = device->caps.caps;
	found.memory_size = device->caps.memory_size;
	found.va_start = device->caps.va_start;
	found.va_end = device->caps.va_end;
	found.n_engines = device->caps.n_engines;
	found.is_lost = svm_device_is_lost(device);
	svm_lock(&device->store.lock);
	found.memory_used = device->store.n_used * SVM_BLOCK_SIZE;
	svm_unlock(&device->store.lock);
	*info = found;
	return 0;
}

uint32_t svm_device_id(struct svm_device *device)
{
	return device->id;
}

struct svm_location svm_device_location(struct svm_device *device)
{
	return (struct svm_location){ SVM_LOCATION_DEVICE, device->id };
}
