// SPDX-License-Identifier: MIT
/* MADVISE and VM_QUERY_MEM_RANGE_ATTRS (xe_vm_madvise.c, xe_vm.c). */
#include <errno.h>
#include <string.h>

#include "emu_alloc.h"
#include "emu_log.h"
#include "emu_mem.h"
#include "emu_xe.h"

#define MAX_ATTRS 65536

/* ---- arguments ---- */

static int check_loc(const struct emu_xe_device *x, const struct emu_xe_madvise *a)
{
	if (a->loc.devmem_fd < -1 || a->loc.migration_policy > 1 || a->loc.reserved)
		return -EINVAL;
	if (a->loc.region_instance && (a->loc.devmem_fd <= 0 || x->dev->kernel < EMU_KERNEL(7, 0)))
		return -EINVAL;
	return 0;
}

static int check_args(const struct emu_xe_device *x, const struct emu_xe_madvise *a)
{
	if (!emu_is_aligned(a->start, EMU_PAGE) || !emu_is_aligned(a->range, EMU_PAGE) ||
	    a->range < EMU_PAGE || a->reserved[0] || a->reserved[1])
		return -EINVAL;
	switch (a->type) {
	case EMU_XE_ADV_LOC:
		return check_loc(x, a);
	case EMU_XE_ADV_ATOMIC:
		return a->u.val > EMU_XE_ATOMIC_CPU || a->u.pad || a->u.reserved ? -EINVAL : 0;
	case EMU_XE_ADV_PAT:
		return a->u.pad || a->u.reserved || !emu_xe_pat_valid(x->prof, a->u.val) ? -EINVAL
											 : 0;
	case EMU_XE_ADV_PURGEABLE:
		if (x->dev->kernel < EMU_KERNEL(7, 2))
			return -EINVAL;
		return a->u.val > 1 || a->u.pad ? -EINVAL : 0;
	default:
		return -EINVAL;
	}
}

/* The place where "kept" is reported must be writable memory that holds zero. */
static int check_retained(const struct emu_xe_madvise *a)
{
	uint32_t zero;

	if (a->type != EMU_XE_ADV_PURGEABLE || !a->u.reserved)
		return 0;
	if (emu_user_read(&zero, a->u.reserved, sizeof(zero)) < 0)
		return -EFAULT;
	return zero ? -EINVAL : 0;
}

static int check_strict(const struct emu_xe_madvise *a)
{
	if (!a->extensions || !emu.strict)
		return 0;
	emu_strict("MADVISE: extensions is not zero");
	return -EINVAL;
}

/* ---- the device that a preferred location names ---- */

static int resolve_loc(struct emu_xe_vm *vm, const struct emu_xe_madvise *a)
{
	struct emu_fdobj *o;
	struct emu_device *other;
	uint16_t region = a->loc.region_instance;
	int r = 0;

	if (a->type != EMU_XE_ADV_LOC || a->loc.devmem_fd <= 0)
		return 0;
	o = emu_fdobj_get_type(a->loc.devmem_fd, EMU_FD_FILE);
	if (!o)
		return -ENOENT;
	other = emu_container_of(o, struct emu_file, fd)->dev;
	if (other->driver != &emu_xe_driver || !region || region >= 32 ||
	    !(emu_xe_dev(other)->region_mask & 1u << region))
		r = -ENOENT;
	else if (atomic_load(&other->unplugged))
		r = -ENODEV;
	else if (other != vm->dev && !(emu_xe_dev(other)->p2p && emu_xe_dev(vm->dev)->p2p))
		r = -ENOLINK;
	emu_fdobj_put(o);
	return r;
}

/* ---- areas in the range ---- */

static int check_bo_atomic(const struct emu_xe_device *x, const struct emu_xe_bo *bo, uint32_t val)
{
	bool vram = bo->placement & ~1u, sys = bo->placement & 1;

	if (val == EMU_XE_ATOMIC_CPU && !sys)
		return -EINVAL;
	if (val == EMU_XE_ATOMIC_DEVICE && !vram && !(sys && x->prof->smem_atomics))
		return -EINVAL;
	return val == EMU_XE_ATOMIC_GLOBAL && !(vram && sys) ? -EINVAL : 0;
}

static int check_pat(const struct emu_xe_device *x, const struct emu_xe_vma *v, uint32_t pat)
{
	bool coherent = x->prof->pat_coherent & 1u << pat;
	bool host = v->kind == EMU_XE_VMA_USER || v->kind == EMU_XE_VMA_MIRROR ||
		    (v->kind == EMU_XE_VMA_BO &&
		     (emu_xe_bo(v->bo)->caching == EMU_XE_CACHING_WB || v->bo->imported));

	return !x->prof->dgfx && host && !coherent ? -EINVAL : 0;
}

static int check_vma(struct emu_xe_vm *vm, const struct emu_xe_vma *v,
		     const struct emu_xe_madvise *a)
{
	struct emu_xe_device *x = emu_xe_dev(vm->dev);

	if (a->type == EMU_XE_ADV_ATOMIC && v->kind == EMU_XE_VMA_BO)
		return check_bo_atomic(x, emu_xe_bo(v->bo), a->u.val);
	if (a->type == EMU_XE_ADV_PAT)
		return check_pat(x, v, a->u.val);
	return 0;
}

/* One area becomes up to three. A part of a userptr area loses its CPU address in the driver. */
static int split(struct emu_xe_vma *v, uint64_t start, uint64_t end)
{
	uint64_t from = emu_max(start, v->node.start), to = emu_min(end, v->node.end);
	uint64_t edge[4] = { v->node.start, from, to, v->node.end };
	struct emu_xe_vma *part[3] = { NULL };

	if (from == v->node.start && to == v->node.end)
		return 0;
	if (v->kind == EMU_XE_VMA_USER)
		return -EFAULT;
	for (int i = 0; i < 3; i++) {
		if (edge[i] == edge[i + 1])
			continue;
		part[i] = emu_xe_vma_clone(v, edge[i], edge[i + 1]);
		if (!part[i])
			goto err_parts;
	}
	emu_xe_vma_remove(v);
	for (int i = 0; i < 3; i++)
		if (part[i])
			emu_xe_vma_insert(part[i]);
	emu_xe_vma_unref(v);
	return 0;

err_parts:
	for (int i = 0; i < 3; i++)
		if (part[i])
			emu_xe_vma_unref(part[i]);
	return -ENOMEM;
}

static int split_all(struct emu_xe_vm *vm, uint64_t start, uint64_t end)
{
	struct emu_node *n = emu_tree_first(&vm->vmas, start);
	int r = 0;

	while (n && n->start < end && r == 0) {
		uint64_t next = n->end;
		struct emu_xe_vma *v = emu_xe_vma_of(n);

		if (v->kind == EMU_XE_VMA_MIRROR || v->kind == EMU_XE_VMA_USER)
			r = split(v, start, end);
		n = emu_tree_first(&vm->vmas, next);
	}
	return r;
}

static bool set_loc(struct emu_xe_vma *v, const struct emu_xe_madvise *a)
{
	if (v->kind != EMU_XE_VMA_MIRROR)
		return false;
	/* The number alone decides: another device behind it, or another region, goes unseen. */
	if (v->attr.devmem_fd == a->loc.devmem_fd && v->attr.policy == a->loc.migration_policy) {
		if (v->attr.region_instance != a->loc.region_instance)
			emu_strict(
				"MADVISE: same fd with another region has no effect; set -1 first");
		return false;
	}
	v->attr.devmem_fd = a->loc.devmem_fd;
	v->attr.policy = a->loc.migration_policy;
	v->attr.region_instance = a->loc.region_instance;
	return true;
}

static bool bo_all_dontneed(struct emu_xe_vm *vm, struct emu_bo *bo)
{
	for (struct emu_node *n = emu_tree_first(&vm->vmas, 0); n; n = emu_tree_next(&vm->vmas, n))
		if (emu_xe_vma_of(n)->bo == bo && !emu_xe_vma_of(n)->attr.purge)
			return false;
	return true;
}

static void set_purge(struct emu_xe_vm *vm, struct emu_xe_vma *v, uint32_t val)
{
	struct emu_xe_bo *bo;

	if (v->kind != EMU_XE_VMA_BO)
		return;
	bo = emu_xe_bo(v->bo);
	v->attr.purge = val;
	emu_lock();
	if (bo->purge != EMU_XE_PURGED)
		bo->purge = val && bo_all_dontneed(vm, v->bo) ? EMU_XE_DONTNEED : EMU_XE_WILLNEED;
	emu_unlock();
}

/* Only a changed value costs the translations of the area. */
static bool apply(struct emu_xe_vm *vm, struct emu_xe_vma *v, const struct emu_xe_madvise *a)
{
	bool changed;

	switch ((enum emu_xe_madvise_type)a->type) {
	case EMU_XE_ADV_LOC:
		return set_loc(v, a);
	case EMU_XE_ADV_ATOMIC:
		changed = v->attr.atomic != a->u.val;
		v->attr.atomic = a->u.val;
		return changed;
	case EMU_XE_ADV_PAT:
		changed = v->attr.pat != a->u.val;
		v->attr.pat = a->u.val;
		return changed;
	case EMU_XE_ADV_PURGEABLE:
		set_purge(vm, v, a->u.val);
		return a->u.val;
	}
	return false;
}

static void apply_all(struct emu_xe_vm *vm, const struct emu_xe_madvise *a)
{
	uint64_t end = a->start + a->range;
	struct emu_node *n = emu_tree_first(&vm->vmas, a->start);

	for (; n && n->start < end; n = emu_tree_next(&vm->vmas, n)) {
		uint64_t from = emu_max(a->start, n->start), to = emu_min(end, n->end);

		if (apply(vm, emu_xe_vma_of(n), a))
			emu_pt_unmap(&vm->pt, from, to - from);
	}
}

/* 1 when all buffers of the range still have their contents. */
static int report_retained(struct emu_xe_vm *vm, const struct emu_xe_madvise *a)
{
	struct emu_node *n = emu_tree_first(&vm->vmas, a->start);
	uint32_t kept = 1;

	if (a->type != EMU_XE_ADV_PURGEABLE || !a->u.reserved)
		return 0;
	for (; n && n->start < a->start + a->range; n = emu_tree_next(&vm->vmas, n))
		if (emu_xe_vma_of(n)->bo && emu_xe_bo(emu_xe_vma_of(n)->bo)->purge == EMU_XE_PURGED)
			kept = 0;
	return emu_user_write(a->u.reserved, &kept, sizeof(kept));
}

static int madvise_locked(struct emu_xe_vm *vm, const struct emu_xe_madvise *a)
{
	uint64_t end = a->start + a->range;
	struct emu_node *n;
	int r;

	if (vm->closed || atomic_load(&vm->banned))
		return -ENOENT;
	r = resolve_loc(vm, a);
	if (r == 0)
		r = split_all(vm, a->start, end);
	if (r < 0)
		return r;
	for (n = emu_tree_first(&vm->vmas, a->start); n && n->start < end && r == 0;
	     n = emu_tree_next(&vm->vmas, n))
		r = check_vma(vm, emu_xe_vma_of(n), a);
	if (r < 0)
		return r;
	apply_all(vm, a);
	return report_retained(vm, a);
}

/* MADVISE takes addresses as the CPU writes them. */
static uint64_t without_sign(const struct emu_xe_device *x, uint64_t addr)
{
	return addr & ((1ull << x->prof->va_bits) - 1);
}

int emu_xe_madvise_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_madvise *a = arg;
	struct emu_xe_vm *vm = emu_xe_vm_get(file, a->vm_id);
	struct emu_xe_device *x = emu_xe_dev(file->dev);
	int r;

	if (!vm)
		return -EINVAL;
	r = check_args(x, a);
	if (r == 0)
		r = check_strict(a);
	if (r == 0)
		r = check_retained(a);
	if (r == 0) {
		a->start = without_sign(x, a->start);
		emu_xe_vm_lock(vm);
		emu_xe_svm_collect(vm);
		r = madvise_locked(vm, a);
		emu_xe_vm_unlock(vm);
	}
	emu_xe_vm_unref(vm);
	return r;
}

/* ---- query ---- */

static void fill(const struct emu_xe_vma *v, struct emu_xe_mem_range_attr *out)
{
	*out = (struct emu_xe_mem_range_attr){
		.start = v->node.start,
		.end = v->node.end,
		.devmem_fd = v->attr.devmem_fd,
		.migration_policy = v->attr.policy,
		.atomic_val = v->attr.atomic,
		.pat_val = v->attr.pat,
	};
}

static uint32_t count_vmas(struct emu_xe_vm *vm, uint64_t start, uint64_t end)
{
	struct emu_node *n = emu_tree_first(&vm->vmas, start);
	uint32_t count = 0;

	for (; n && n->start < end; n = emu_tree_next(&vm->vmas, n))
		count++;
	return count;
}

static int fill_all(struct emu_xe_vm *vm, struct emu_xe_vm_query_mem_range_attr *a)
{
	uint32_t n = count_vmas(vm, a->start, a->start + a->range), i = 0;
	struct emu_xe_mem_range_attr *out;
	struct emu_node *node;
	int r;

	if (n > a->num_mem_ranges)
		return -ENOSPC;
	out = emu_alloc((n + 1) * sizeof(*out));
	if (!out)
		return n > 1 ? -ENOBUFS : -ENOMEM;
	for (node = emu_tree_first(&vm->vmas, a->start); i < n;
	     node = emu_tree_next(&vm->vmas, node))
		fill(emu_xe_vma_of(node), &out[i++]);
	r = n ? emu_user_write(a->vector_of_mem_attr, out, n * sizeof(*out)) : 0;
	emu_free(out);
	a->num_mem_ranges = n;
	return r;
}

static int query_locked(struct emu_xe_vm *vm, struct emu_xe_vm_query_mem_range_attr *a)
{
	if (a->num_mem_ranges)
		return fill_all(vm, a);
	a->num_mem_ranges = count_vmas(vm, a->start, a->start + a->range);
	a->sizeof_mem_range_attr = sizeof(struct emu_xe_mem_range_attr);
	return 0;
}

int emu_xe_query_attrs_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_vm_query_mem_range_attr *a = arg;
	bool count = !a->num_mem_ranges;
	struct emu_xe_vm *vm;
	int r;

	if (count != !a->sizeof_mem_range_attr || count != !a->vector_of_mem_attr)
		return -EINVAL;
	if (!count && (a->sizeof_mem_range_attr != sizeof(struct emu_xe_mem_range_attr) ||
		       a->num_mem_ranges > MAX_ATTRS))
		return -EINVAL;
	if ((a->reserved[0] || a->reserved[1] || a->extensions) && emu.strict) {
		emu_strict("VM_QUERY_MEM_RANGE_ATTRS: reserved or extensions is not zero");
		return -EINVAL;
	}
	vm = emu_xe_vm_get(file, a->vm_id);
	if (!vm)
		return -EINVAL;
	pthread_rwlock_rdlock(&vm->lock);
	r = query_locked(vm, a);
	pthread_rwlock_unlock(&vm->lock);
	emu_xe_vm_unref(vm);
	return r;
}
