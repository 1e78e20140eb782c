// SPDX-License-Identifier: MIT
/* The emulated xe driver: its table, its devices and open files. */
#include "emu_xe.h"

#include <errno.h>
#include <string.h>

#include "emu_alloc.h"
#include "emu_log.h"
#include "emu_opt.h"

struct emu_xe_vm *emu_xe_vm_get(struct emu_file *file, uint32_t id)
{
	struct emu_xe_file *xf = file->priv;
	struct emu_xe_vm *vm;

	emu_lock();
	vm = emu_ids_get(&xf->vms, id);
	if (vm)
		emu_xe_vm_ref(vm);
	emu_unlock();
	return vm;
}

struct emu_xe_queue *emu_xe_queue_get(struct emu_file *file, uint32_t id)
{
	struct emu_xe_file *xf = file->priv;
	struct emu_xe_queue *q;

	emu_lock();
	q = emu_ids_get(&xf->queues, id);
	if (q)
		atomic_fetch_add(&q->refs, 1);
	emu_unlock();
	return q;
}

static uint64_t visible(uint64_t size, const char *bar)
{
	uint64_t v;

	if (!emu_opt_parse_size(bar, &v))
		return size;
	return emu_min(size, v);
}

static void set_regions(struct emu_xe_device *x, const char *options)
{
	int index = x->dev->index;
	char bar[64];

	x->region[0].size = x->region[0].visible_size = emu_opt_u64(options, index, "sysmem");
	x->region_mask = 1;
	if (!x->prof->dgfx)
		return;
	emu_opt_value(options, index, "bar", bar, sizeof(bar));
	for (unsigned t = 1; t <= x->n_tiles; t++) {
		x->region[t].size = emu_opt_u64(options, index, "vram");
		x->region[t].visible_size = visible(x->region[t].size, bar);
		x->region_mask |= 1u << t;
	}
}

static int device_init(struct emu_device *dev)
{
	struct emu_xe_device *x = emu_alloc(sizeof(*x));
	const char *o = emu.options;
	int i = dev->index;
	char text[64];

	if (!x)
		return -ENOMEM;
	emu_opt_value(o, i, "profile", text, sizeof(text));
	x->prof = emu_xe_profile(text);
	if (!x->prof)
		return -EINVAL;
	x->dev = dev;
	x->n_tiles = (unsigned)emu_opt_u64(o, i, "tiles");
	if (!x->n_tiles || x->n_tiles > EMU_XE_MAX_TILES)
		x->n_tiles = x->prof->n_tiles;
	set_regions(x, o);
	x->svm = x->prof->usm && dev->kernel >= EMU_KERNEL(6, 15) && emu_opt_bool(o, i, "svm");
	x->p2p = emu_opt_bool(o, i, "p2p");
	x->nice = emu_opt_bool(o, i, "nice");
	emu_opt_value(o, i, "reset", text, sizeof(text));
	x->reset_all = !strcmp(text, "device");
	emu_opt_value(o, i, "binds", text, sizeof(text));
	x->prompt = !strcmp(text, "prompt");
	x->bind_delay_ns = emu_opt_u64(o, i, "bind-delay") * 1000;
	x->exec_delay_ns = emu_opt_u64(o, i, "exec-delay") * 1000;
	x->job_timeout_ns = emu_opt_u64(o, i, "job-timeout") * 1000000;
	x->svm_retry_ns = emu_opt_u64(o, i, "svm-retry") * 1000000;
	x->hang_at = emu_opt_u64(o, i, "hang");
	emu_list_init(&x->queues);
	dev->priv = x;
	return 0;
}

static int file_open(struct emu_file *file)
{
	file->priv = emu_alloc(sizeof(struct emu_xe_file));
	return file->priv ? 0 : -ENOMEM;
}

/* As the driver's: queues are killed first, so that no VM waits for their jobs. */
static void file_close(struct emu_file *file)
{
	struct emu_xe_file *xf = file->priv;

	for (uint32_t id = 1; id < xf->queues.n; id++) {
		struct emu_xe_queue *q;

		emu_lock();
		q = emu_ids_remove(&xf->queues, id);
		emu_unlock();
		if (q)
			emu_xe_queue_close(q);
	}
	for (uint32_t id = 1; id < xf->vms.n; id++) {
		struct emu_xe_vm *vm;

		emu_lock();
		vm = emu_ids_remove(&xf->vms, id);
		emu_unlock();
		if (vm)
			emu_xe_vm_close(vm);
	}
	emu_ids_finish(&xf->queues);
	emu_ids_finish(&xf->vms);
	emu_free(xf);
}

static void fork_child(struct emu_file *file)
{
	struct emu_xe_file *xf = file->priv;

	for (uint32_t id = 1; id < xf->vms.n; id++) {
		struct emu_xe_vm *vm = xf->vms.slot[id];

		if (!vm)
			continue;
		pthread_rwlock_init(&vm->lock, NULL);
		pthread_rwlock_init(&vm->pt.lock, NULL);
		atomic_store(&vm->suspended, 0);
	}
}

static void counts(struct emu_file *file, uint32_t *ret_vms, uint32_t *ret_queues)
{
	struct emu_xe_file *xf = file->priv;

	*ret_vms = emu_ids_count(&xf->vms);
	*ret_queues = emu_ids_count(&xf->queues);
}

/* Wedged is told before anything else, unplugged included. */
static int gate(struct emu_device *dev)
{
	return atomic_load(&dev->wedged) ? -ECANCELED : 0;
}

/* Performance streams: known, and refused as on a machine without the unit. */
static int observation_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_observation_param *p = arg;

	(void)file;
	return p->extensions || p->observation_type > 1 ? -EINVAL : -ENODEV;
}

static const struct emu_ioctl ioctls[] = {
	{ 0x0, EMU_XE_DEVICE_QUERY, emu_xe_query_ioctl, 0, false, "DEVICE_QUERY" },
	{ 0x1, EMU_XE_GEM_CREATE, emu_xe_gem_create_ioctl, 0, false, "GEM_CREATE" },
	{ 0x2, EMU_XE_GEM_MMAP_OFFSET, emu_xe_gem_mmap_offset_ioctl, 0, false, "GEM_MMAP_OFFSET" },
	{ 0x3, EMU_XE_VM_CREATE, emu_xe_vm_create_ioctl, 0, false, "VM_CREATE" },
	{ 0x4, EMU_XE_VM_DESTROY, emu_xe_vm_destroy_ioctl, 0, false, "VM_DESTROY" },
	{ 0x5, EMU_XE_VM_BIND, emu_xe_vm_bind_ioctl, 0, false, "VM_BIND" },
	{ 0x6, EMU_XE_EXEC_QUEUE_CREATE, emu_xe_queue_create_ioctl, 0, false, "EXEC_QUEUE_CREATE" },
	{ 0x7, EMU_XE_EXEC_QUEUE_DESTROY, emu_xe_queue_destroy_ioctl, 0, false,
	  "EXEC_QUEUE_DESTROY" },
	{ 0x8, EMU_XE_EXEC_QUEUE_GET_PROPERTY, emu_xe_queue_get_property_ioctl, 0, false,
	  "EXEC_QUEUE_GET_PROPERTY" },
	{ 0x9, EMU_XE_EXEC, emu_xe_exec_ioctl, 0, false, "EXEC" },
	{ 0xa, EMU_XE_WAIT_USER_FENCE, emu_xe_wait_user_fence_ioctl, 0, false, "WAIT_USER_FENCE" },
	{ 0xb, EMU_XE_OBSERVATION, observation_ioctl, EMU_KERNEL(6, 11), false, "OBSERVATION" },
	{ 0xc, EMU_XE_MADVISE, emu_xe_madvise_ioctl, EMU_KERNEL(6, 18), false, "MADVISE" },
	{ 0xd, EMU_XE_VM_QUERY_MEM_RANGE_ATTRS, emu_xe_query_attrs_ioctl, EMU_KERNEL(6, 18), false,
	  "VM_QUERY_MEM_RANGE_ATTRS" },
	{ 0xe, EMU_XE_EXEC_QUEUE_SET_PROPERTY, emu_xe_queue_set_property_ioctl, EMU_KERNEL(7, 0),
	  false, "EXEC_QUEUE_SET_PROPERTY" },
	{ 0xf, EMU_XE_VM_GET_PROPERTY, emu_xe_vm_get_property_ioctl, EMU_KERNEL(7, 2), false,
	  "VM_GET_PROPERTY" },
};

const struct emu_driver emu_xe_driver = {
	.name = "xe",
	.date = "20201103",
	.desc = "Intel Xe2 Graphics",
	.major = 1,
	.minor = 1,
	.patch = 0,
	.ioctls = ioctls,
	.n_ioctls = EMU_ARRAY_SIZE(ioctls),
	.device_init = device_init,
	.file_open = file_open,
	.file_close = file_close,
	.fork_child = fork_child,
	.gate = gate,
	.mmap_special = emu_xe_mmap_special,
	.bo_alloc = emu_xe_bo_alloc,
	.export_check = emu_xe_export_check,
	.import_check = emu_xe_import_check,
	.counts = counts,
};
