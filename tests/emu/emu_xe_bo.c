// SPDX-License-Identifier: MIT
/* Buffer objects of xe: where they are placed, what the CPU may map (xe_bo.c, xe_dma_buf.c). */
#include <errno.h>
#include <sys/mman.h>

#include "emu_alloc.h"
#include "emu_log.h"
#include "emu_mem.h"
#include "emu_sys.h"
#include "emu_xe.h"

#define MAX_EXTENSIONS 16

/* ---- memory of regions ---- */

static bool take_locked(struct emu_xe_region *rg, struct emu_xe_charge *c, bool visible)
{
	uint64_t hidden_size = rg->size - rg->visible_size;

	if (!visible && hidden_size - rg->hidden_used >= c->size) {
		rg->hidden_used += c->size;
		c->hidden = true;
		return true;
	}
	if (rg->visible_size - rg->visible_used < c->size)
		return false;
	rg->visible_used += c->size;
	c->hidden = false;
	return true;
}

static void give_locked(struct emu_xe_device *x, struct emu_xe_charge *c)
{
	struct emu_xe_region *rg = &x->region[c->region];

	if (c->hidden)
		rg->hidden_used -= c->size;
	else
		rg->visible_used -= c->size;
	c->size = 0;
}

/* What the program said it does not need goes first. LOCKING: emu.lock. */
static bool purge_one(struct emu_xe_device *x, uint16_t region)
{
	emu_list_for_each(n, &x->dev->bos)
	{
		struct emu_bo *b = emu_list_entry(n, struct emu_bo, link);
		struct emu_xe_bo *bo = emu_xe_bo(b);

		if (b->imported || bo->purge != EMU_XE_DONTNEED || bo->charge.region != region ||
		    !bo->charge.size)
			continue;
		give_locked(x, &bo->charge);
		bo->purge = EMU_XE_PURGED;
		emu_bo_purge(b);
		return true;
	}
	return false;
}

int emu_xe_charge(struct emu_xe_device *x, struct emu_xe_charge *c, uint16_t region, uint64_t size,
		  bool visible)
{
	bool ok;

	c->region = region;
	c->size = size;
	emu_lock();
	do
		ok = take_locked(&x->region[region], c, visible);
	while (!ok && purge_one(x, region));
	if (!ok)
		c->size = 0;
	emu_unlock();
	return ok ? 0 : -ENOMEM;
}

void emu_xe_uncharge(struct emu_xe_device *x, struct emu_xe_charge *c)
{
	emu_lock();
	give_locked(x, c);
	emu_unlock();
}

static bool fits_anywhere(struct emu_xe_device *x, uint32_t placement, uint64_t size)
{
	for (unsigned i = 0; i <= x->n_tiles; i++)
		if (placement & 1u << i && size <= x->region[i].size)
			return true;
	return false;
}

/* Device memory first, where it is allowed at all; system memory is the spill. */
int emu_xe_bo_back(struct emu_xe_device *x, struct emu_xe_bo *bo)
{
	bool visible = bo->flags & EMU_XE_GEM_NEEDS_VISIBLE_VRAM;
	int r = -ENOMEM;

	if (bo->backed || bo->base.imported)
		return 0;
	for (uint16_t i = 1; i <= x->n_tiles && r < 0; i++)
		if (bo->placement & 1u << i)
			r = emu_xe_charge(x, &bo->charge, i, bo->base.size, visible);
	if (r < 0 && bo->placement & 1)
		r = emu_xe_charge(x, &bo->charge, 0, bo->base.size, true);
	if (r < 0)
		return r;
	bo->backed = true;
	bo->base.cpu_hidden = bo->charge.hidden && !(bo->placement & 1);
	return 0;
}

static void bo_release(struct emu_bo *b)
{
	struct emu_xe_bo *bo = emu_xe_bo(b);

	if (bo->charge.size)
		emu_xe_uncharge(emu_xe_dev(b->dev), &bo->charge);
}

static int mmap_check(struct emu_bo *b)
{
	switch (emu_xe_bo(b)->purge) {
	case EMU_XE_DONTNEED:
		return -EBUSY;
	case EMU_XE_PURGED:
		return -EINVAL;
	case EMU_XE_WILLNEED:
		break;
	}
	return emu_xe_bo_back(emu_xe_dev(b->dev), emu_xe_bo(b));
}

struct emu_bo *emu_xe_bo_alloc(struct emu_device *dev)
{
	struct emu_xe_bo *bo = emu_alloc(sizeof(*bo));

	(void)dev;
	if (!bo)
		return NULL;
	bo->base.release = bo_release;
	bo->base.mmap_check = mmap_check;
	return &bo->base;
}

/* ---- PRIME ---- */

int emu_xe_export_check(struct emu_device *dev, struct emu_bo *b)
{
	struct emu_xe_bo *bo = emu_xe_bo(b);

	(void)dev;
	if (bo->vm)
		return -EPERM;
	if (bo->purge == EMU_XE_DONTNEED)
		return -EBUSY;
	return bo->purge == EMU_XE_PURGED ? -EINVAL : 0;
}

/* Without a path between the devices a buffer must be able to move to system memory. */
int emu_xe_import_check(struct emu_device *dev, struct emu_bo *source)
{
	struct emu_xe_device *x = emu_xe_dev(dev);

	if (x->p2p || source->dev->driver != &emu_xe_driver || emu_xe_bo(source)->placement & 1)
		return 0;
	return -EOPNOTSUPP;
}

/* ---- GEM_CREATE ---- */

/* No extension of GEM_CREATE is of use here; the chain is checked as the driver checks it. */
static int check_extensions(uint64_t at)
{
	struct emu_xe_ext_set_property e;

	for (int n = 0; at; n++) {
		if (n >= MAX_EXTENSIONS)
			return -E2BIG;
		if (emu_user_read(&e.base, at, sizeof(e.base)) < 0)
			return -EFAULT;
		if (e.base.pad || e.base.name)
			return -EINVAL;
		if (emu_user_read(&e, at, sizeof(e)) < 0)
			return -EFAULT;
		/* Property 0: protected content; type 0 means none. */
		if (e.pad || e.property || e.value)
			return -EINVAL;
		at = e.base.next;
	}
	return 0;
}

static int check_create(struct emu_xe_device *x, const struct emu_xe_gem_create *a)
{
	uint32_t vram = a->placement & ~1u;

	if (a->pad[0] || a->pad[1] || a->pad[2] || a->reserved[0] || a->reserved[1])
		return -EINVAL;
	if (!a->placement || a->placement & ~x->region_mask)
		return -EINVAL;
	if (a->flags & ~(EMU_XE_GEM_DEFER_BACKING | EMU_XE_GEM_SCANOUT |
			 EMU_XE_GEM_NEEDS_VISIBLE_VRAM | EMU_XE_GEM_NO_COMPRESSION))
		return -EINVAL;
	if (a->handle)
		return -EINVAL;
	if (!a->size || !emu_is_aligned(a->size, EMU_PAGE))
		return -EINVAL;
	if (a->flags & EMU_XE_GEM_NO_COMPRESSION && x->prof->ip < 2000)
		return -EOPNOTSUPP;
	if (a->flags & EMU_XE_GEM_NEEDS_VISIBLE_VRAM && !vram)
		return -EINVAL;
	if (a->cpu_caching != EMU_XE_CACHING_WB && a->cpu_caching != EMU_XE_CACHING_WC)
		return -EINVAL;
	if (vram && a->cpu_caching != EMU_XE_CACHING_WC)
		return -EINVAL;
	if (a->flags & EMU_XE_GEM_SCANOUT && a->cpu_caching == EMU_XE_CACHING_WB)
		return -EINVAL;
	return 0;
}

static int bo_create(struct emu_file *file, const struct emu_xe_gem_create *a,
		     const struct emu_xe_vm *vm, struct emu_bo **ret_bo)
{
	struct emu_xe_bo *bo;
	struct emu_bo *b;
	int r;

	if (!fits_anywhere(emu_xe_dev(file->dev), a->placement, a->size))
		return -ENOSPC;
	b = emu_xe_bo_alloc(file->dev);
	if (!b)
		return -ENOMEM;
	r = emu_bo_init(b, file->dev, a->size);
	if (r < 0) {
		emu_free(emu_xe_bo(b));
		return r;
	}
	bo = emu_xe_bo(b);
	bo->placement = a->placement;
	bo->flags = a->flags;
	bo->caching = a->cpu_caching;
	bo->vm = vm;
	if (!(a->flags & EMU_XE_GEM_DEFER_BACKING)) {
		r = emu_xe_bo_back(emu_xe_dev(file->dev), bo);
		if (r < 0) {
			emu_bo_unref(b);
			return r;
		}
	}
	*ret_bo = b;
	return 0;
}

int emu_xe_gem_create_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_device *x = emu_xe_dev(file->dev);
	struct emu_xe_gem_create *a = arg;
	struct emu_xe_vm *vm = NULL;
	struct emu_bo *bo = NULL;
	int r = check_create(x, a);

	if (r < 0)
		return r;
	if (a->vm_id) {
		vm = emu_xe_vm_get(file, a->vm_id);
		if (!vm)
			return -ENOENT;
	}
	if (a->placement & ~1u && x->prof->vram_64k && !emu_is_aligned(a->size, 0x10000))
		r = -EINVAL;
	if (r == 0)
		r = check_extensions(a->extensions);
	if (r == 0)
		r = bo_create(file, a, vm, &bo);
	if (vm)
		emu_xe_vm_unref(vm);
	if (r < 0)
		return r;
	r = emu_handle_create(file, bo, &a->handle);
	emu_bo_unref(bo);
	return r;
}

/* ---- mapping ---- */

int emu_xe_gem_mmap_offset_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_device *x = emu_xe_dev(file->dev);
	struct emu_xe_gem_mmap_offset *a = arg;
	struct emu_bo *bo;

	if (a->extensions || a->reserved[0] || a->reserved[1] ||
	    a->flags & ~EMU_XE_MMAP_PCI_BARRIER)
		return -EINVAL;
	if (a->flags & EMU_XE_MMAP_PCI_BARRIER) {
		if (a->handle || !x->prof->dgfx)
			return -EINVAL;
		a->offset = EMU_XE_PCI_BARRIER_OFFSET;
		return 0;
	}
	bo = emu_handle_get(file, a->handle);
	if (!bo)
		return -ENOENT;
	a->offset = bo->offset;
	emu_bo_unref(bo);
	return 0;
}

/* The barrier page: a store to it is all a program may do with it. */
int emu_xe_mmap_special(struct emu_file *file, void *addr, size_t size, int prot, int flags,
			uint64_t offset, void **ret_p)
{
	struct emu_xe_device *x = emu_xe_dev(file->dev);

	if (offset != EMU_XE_PCI_BARRIER_OFFSET)
		return -ENOENT;
	if (!x->prof->dgfx || size > EMU_PAGE || (flags & MAP_TYPE) == MAP_PRIVATE ||
	    prot & (PROT_READ | PROT_EXEC))
		return -EINVAL;
	return emu_sys_mmap(addr, size, prot, MAP_SHARED | MAP_ANONYMOUS | (flags & MAP_FIXED), -1,
			    0, ret_p);
}
