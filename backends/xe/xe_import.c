// SPDX-License-Identifier: MIT
/*
 * The application's VM as the shared one: what it is, by asking the kernel in ways that change nothing; and leaving it as
 * it was. VM_BIND looks at its arguments before its queue (xe_vm.c:xe_vm_bind_ioctl()), so with a queue that
 * nobody has it says -ENOENT for what it would do and -EINVAL for what it would not.
 */
#include "xe_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NO_QUEUE	UINT32_MAX
#define GIVE_BACK_TRIES 16

/* ---- Questions -------------------------------------------------------------------------------- */

bool svm_xe_would_bind(struct svm_xe_device *dev, uint32_t vm, uint32_t op, uint32_t flags)
{
	struct svm_xe_bind_op bind = { .op = op,
				       .flags = flags,
				       .pat_index = dev->info.pat,
				       .addr = SVM_XE_VA_START,
				       .range = SVM_PAGE_SIZE };

	return svm_xe_vm_bind(dev, vm, NO_QUEUE, &bind, 1, NULL, NULL, true) == -ENOENT;
}

/* A bind of nothing: 0, or what stands in its way. */
static int bind_nothing(struct svm_xe_device *dev, uint32_t vm)
{
	struct svm_xe_sync sync = { .type = SVM_XE_SYNC_OBJECT, .flags = SVM_XE_SYNC_SIGNAL };
	int ret = svm_drm_syncobj_create(dev->fd, &sync.handle);

	if (ret < 0)
		return ret;
	ret = svm_xe_vm_bind(dev, vm, 0, NULL, 0, NULL, &sync, true);
	svm_drm_syncobj_destroy(dev->fd, sync.handle);
	return ret;
}

int svm_xe_count_areas(struct svm_xe_device *dev, uint32_t vm, uint64_t addr, uint64_t size,
		       uint32_t *ret_n)
{
	struct svm_xe_query_mem_range arg = { .vm_id = vm, .start = addr, .range = size };
	int ret = svm_drm_ioctl_sure(dev->fd, SVM_XE_QUERY_MEM_RANGE, &arg);

	if (ret == 0)
		*ret_n = arg.n_ranges;
	return ret;
}

/* ---- Taking ----------------------------------------------------------------------------------- */

int svm_xe_import_file(struct svm_xe_device *dev, const struct svm_device_import *import)
{
	char driver[16];
	int ret;

	(void)snprintf(dev->node, sizeof(dev->node), "fd %d", import->fd);
	dev->is_imported = true;
	dev->fd = fcntl(import->fd, F_DUPFD_CLOEXEC, 1);
	if (dev->fd < 0) {
		ret = -errno;
		svm_xe_log(dev, SVM_LOG_ERROR, "cannot be duplicated (error %d)", -ret);
		return ret;
	}
	ret = svm_drm_driver(dev->fd, driver, sizeof(driver));
	if (ret == -ENOTTY || ret == -EINVAL || ret == -EOPNOTSUPP) {
		svm_xe_log(dev, SVM_LOG_ERROR, "not an open file of a DRM device");
		return -ENODEV;
	}
	if (ret < 0) {
		svm_xe_log(dev, SVM_LOG_ERROR, "says not what it is (error %d)", -ret);
		return ret == -EPERM ? -EACCES : ret;
	}
	if (strcmp(driver, "xe") != 0) {
		svm_xe_log(dev, SVM_LOG_ERROR, "driven by '%s', not by xe", driver);
		return -ENODEV;
	}
	return 0;
}

static int read_mode(struct svm_xe_device *dev, uint32_t vm)
{
	int ret;

	if (!svm_xe_would_bind(dev, vm, SVM_XE_BIND_UNMAP, 0)) {
		svm_xe_log(dev, SVM_LOG_ERROR,
			   "no VM %u in this open file (a VM belongs to the one that made it)", vm);
		return -ENOENT;
	}
	ret = bind_nothing(dev, vm);
	if (ret == -ENOENT) {
		svm_xe_log(dev, SVM_LOG_ERROR, "VM %u is banned or closed", vm);
		return -ENODEV;
	}
	if (ret < 0 && ret != -EOPNOTSUPP) {
		svm_xe_log(dev, SVM_LOG_ERROR, "VM %u: VM_BIND of nothing (error %d)", vm, -ret);
		return ret;
	}
	dev->mode = ret == 0 ? SVM_XE_MODE_JOBS : SVM_XE_MODE_LONG;
	if (svm_xe_would_bind(dev, vm, SVM_XE_BIND_MAP, SVM_XE_BIND_MIRROR))
		dev->mode = SVM_XE_MODE_FAULTS;
	return 0;
}

int svm_xe_import_vm(struct svm_xe_device *dev, const struct svm_device_import *import)
{
	uint64_t window_end = dev->window_base + dev->window_size;
	uint32_t n = 0;
	int ret = read_mode(dev, import->vm_id);

	if (ret < 0)
		return ret;
	dev->is_mirrored = import->flags & SVM_IMPORT_MIRRORED;
	dev->mirror_flags = SVM_XE_BIND_MIRROR;
	if (dev->is_mirrored && dev->mode != SVM_XE_MODE_FAULTS) {
		svm_xe_log(dev, SVM_LOG_ERROR, "VM %u has no CPU_ADDR_MIRROR (LR_MODE|FAULT_MODE)",
			   import->vm_id);
		return -EOPNOTSUPP;
	}
	if (dev->is_mirrored && dev->options.units_64k) {
		svm_xe_log(dev, SVM_LOG_ERROR,
			   "mirrored memory comes in pages, not in units of 64 KiB");
		return -EOPNOTSUPP;
	}
	ret = svm_xe_count_areas(dev, import->vm_id, dev->window_base, dev->window_size, &n);
	/* A mirror there would have the kernel wait, in the VM's lock, for the thread that has to bind in it. */
	if (ret == 0 && n && !dev->is_mirrored) {
		svm_xe_log(dev, SVM_LOG_ERROR, "VM %u has %u areas in the window [%llx, %llx)",
			   import->vm_id, n, (unsigned long long)dev->window_base,
			   (unsigned long long)window_end);
		return -EEXIST;
	}
	dev->shared_vm = import->vm_id;
	return 0;
}

int svm_xe_import_take(struct svm_xe_device *dev)
{
	static const struct svm_xe_engine_instance binder = { .engine_class =
								      SVM_XE_ENGINE_VM_BIND };
	int ret = svm_xe_queue_create(dev, dev->shared_vm, &binder, &dev->bind_queue);

	if (ret == 0 && dev->is_mirrored)
		ret = svm_xe_area_set(dev, dev->window_base, dev->window_size, false);
	dev->has_window = ret == 0;
	return ret;
}

/* ---- Areas ------------------------------------------------------------------------------------ */

/* An area of the shared VM becomes empty, or as it was before. */
int svm_xe_area_set(struct svm_xe_device *dev, uint64_t addr, uint64_t size, bool mirror)
{
	struct svm_xe_bind_op op = {
		.op = mirror ? SVM_XE_BIND_MAP : SVM_XE_BIND_UNMAP,
		.flags = mirror ? dev->mirror_flags : 0,
		.pat_index = dev->info.pat,
		.addr = addr,
		.range = size,
	};

	return svm_xe_vm_change(dev, &op);
}

static bool is_gone(int error)
{
	return error == -ECANCELED || error == -ENODEV || error == -ENOENT;
}

/* What stays is there as long as the VM: any failure but the end of the device is taken for one that may pass. */
static int area_set_surely(struct svm_xe_device *dev, uint64_t addr, uint64_t size, bool mirror)
{
	int ret = -EIO;

	for (int i = 0; i < GIVE_BACK_TRIES && ret < 0 && !is_gone(ret); i++)
		ret = svm_xe_area_set(dev, addr, size, mirror);
	return ret;
}

static int give_back(struct svm_xe_device *dev, uint64_t addr, uint64_t size)
{
	/* First of all nothing of ours, and no device that still uses it. */
	int ret = area_set_surely(dev, addr, size, false);

	return ret < 0 || !dev->is_mirrored || !dev->is_imported
		       ? ret
		       : area_set_surely(dev, addr, size, true);
}

void svm_xe_import_clear(struct svm_xe_device *dev)
{
	struct svm_xe_span *span;
	int ret;

	if (dev->is_clear)
		return;
	dev->is_clear = true;
	ret = dev->has_window ? give_back(dev, dev->window_base, dev->window_size) : 0;
	pthread_mutex_lock(&dev->span_lock);
	for (span = dev->spans; span && ret == 0; span = span->next)
		ret = give_back(dev, span->addr, span->size);
	pthread_mutex_unlock(&dev->span_lock);
	if (ret == 0 && dev->work.is_bound)
		ret = give_back(dev, dev->work.cmds_va, dev->work.cmds.size);
	/* A device that is gone has nothing bound. */
	if (ret < 0 && !is_gone(ret))
		svm_xe_log(dev, SVM_LOG_ERROR, "managed memory stays bound in VM %u (error %d)",
			   dev->shared_vm, -ret);
}

/* ---- Managed memory outside the window -------------------------------------------------------- */

int svm_xe_span_add(void *device, uint64_t addr, uint64_t size)
{
	struct svm_xe_device *dev = device;
	struct svm_xe_span *span;
	uint64_t end = addr + size;
	uint32_t n = 0;
	int ret = 0;

	if (!dev->is_imported && dev->mode == SVM_XE_MODE_JOBS)
		return 0;
	if (atomic_load(&dev->is_lost))
		return 0;
	span = malloc(sizeof(*span));
	if (!span)
		return -ENOMEM;
	*span = (struct svm_xe_span){ .addr = addr, .size = size };
	if (dev->is_mirrored)
		ret = svm_xe_area_set(dev, addr, size, false);
	else if (dev->is_imported && svm_xe_count_areas(dev, dev->shared_vm, addr, size, &n) == 0 &&
		 n)
		ret = -EEXIST;
	if (ret < 0) {
		svm_xe_log(dev, SVM_LOG_ERROR, "[%llx, %llx) is in use in VM %u (error %d)",
			   (unsigned long long)addr, (unsigned long long)end, dev->shared_vm, -ret);
		free(span);
		return ret;
	}
	pthread_mutex_lock(&dev->span_lock);
	span->next = dev->spans;
	dev->spans = span;
	pthread_mutex_unlock(&dev->span_lock);
	return 0;
}

int svm_xe_span_remove(void *device, uint64_t addr, uint64_t size)
{
	struct svm_xe_device *dev = device;
	struct svm_xe_span **link;
	struct svm_xe_span *span;

	pthread_mutex_lock(&dev->span_lock);
	link = &dev->spans;
	while (*link && ((*link)->addr != addr || (*link)->size != size))
		link = &(*link)->next;
	span = *link;
	if (span)
		*link = span->next;
	pthread_mutex_unlock(&dev->span_lock);
	if (!span)
		return 0;
	free(span);
	/* What was bound is unbound by the core. */
	if (dev->is_mirrored && !atomic_load(&dev->is_lost))
		return area_set_surely(dev, addr, size, true);
	return 0;
}

void svm_xe_spans_finish(struct svm_xe_device *dev)
{
	while (dev->spans) {
		struct svm_xe_span *span = dev->spans;

		dev->spans = span->next;
		free(span);
	}
}
