// SPDX-License-Identifier: MIT
/*
 * What VM_BIND refuses before it does anything, in the driver's order: vm_bind_ioctl_check_args()
 * and xe_vm_bind_ioctl_validate_bo() of xe_vm.c.
 */
#include <errno.h>

#include "emu_log.h"
#include "emu_xe.h"

bool emu_xe_pat_valid(const struct emu_xe_profile *p, uint32_t pat)
{
	return pat < p->n_pat && !(p->pat_reserved & 1u << pat);
}

static bool coherent(const struct emu_xe_profile *p, uint32_t pat)
{
	return p->pat_coherent & 1u << pat;
}

static bool compressed(const struct emu_xe_profile *p, uint32_t pat)
{
	return p->pat_compressed & 1u << pat;
}

static uint32_t known_flags(const struct emu_xe_device *x)
{
	uint32_t f = EMU_XE_BIND_READONLY | EMU_XE_BIND_IMMEDIATE | EMU_XE_BIND_NULL |
		     EMU_XE_BIND_DUMPABLE | EMU_XE_BIND_CHECK_PXP;

	if (x->dev->kernel >= EMU_KERNEL(6, 15))
		f |= EMU_XE_BIND_MIRROR;
	if (x->dev->kernel >= EMU_KERNEL(6, 18))
		f |= EMU_XE_BIND_AUTORESET;
	if (x->dev->kernel >= EMU_KERNEL(7, 1))
		f |= EMU_XE_BIND_DECOMPRESS;
	return f;
}

/* The driver ignores these; a correct program sends zeros. */
static int check_ignored(const struct emu_xe_vm_bind_op *op)
{
	if (!emu.strict)
		return 0;
	if (!(op->extensions || op->pad || op->pad2 || op->reserved[0] || op->reserved[1] ||
	      op->reserved[2]))
		return 0;
	emu_strict("VM_BIND: pads, reserved or extensions of a bind op are not zero");
	return -EINVAL;
}

static int check_map(const struct emu_xe_vm_bind_op *op)
{
	bool null = op->flags & EMU_XE_BIND_NULL, mirror = op->flags & EMU_XE_BIND_MIRROR;

	if (null && mirror)
		return -EINVAL;
	if (null || mirror)
		return op->obj || op->where ? -EINVAL : 0;
	return op->obj ? 0 : -EINVAL;
}

/* NVL-P, an integrated part: 2-way coherent, or the 1-way index 19. */
static bool nvlp_refuses(const struct emu_xe_profile *p, uint32_t pat)
{
	return p->ip == 3510 && !(p->pat_2way & 1u << pat) && pat != 19;
}

static int check_pat_use(const struct emu_xe_profile *p, const struct emu_xe_vm_bind_op *op)
{
	uint32_t pat = op->pat_index;
	bool user = op->op == EMU_XE_OP_MAP_USERPTR, mirror = op->flags & EMU_XE_BIND_MIRROR;

	if (user && (!coherent(p, pat) || compressed(p, pat)))
		return -EINVAL;
	if (mirror && !p->dgfx && !coherent(p, pat))
		return -EINVAL;
	return (user || mirror) && nvlp_refuses(p, pat) ? -EINVAL : 0;
}

static int check_flags(const struct emu_xe_vm_bind_op *op)
{
	uint32_t map_only = EMU_XE_BIND_NULL | EMU_XE_BIND_MIRROR | EMU_XE_BIND_AUTORESET |
			    EMU_XE_BIND_DECOMPRESS;

	if (op->flags & map_only && op->op != EMU_XE_OP_MAP)
		return -EINVAL;
	if (op->flags & EMU_XE_BIND_AUTORESET && !(op->flags & EMU_XE_BIND_MIRROR))
		return -EINVAL;
	return 0;
}

static int check_prefetch(const struct emu_xe_device *x, const struct emu_xe_vm_bind_op *op)
{
	uint32_t region = op->prefetch_mem_region_instance;

	if (op->op != EMU_XE_OP_PREFETCH)
		return region ? -EINVAL : 0;
	if (region == EMU_XE_CONSULT)
		return x->dev->kernel >= EMU_KERNEL(6, 18) ? 0 : -EINVAL;
	return region < 32 && x->region_mask & 1u << region ? 0 : -EINVAL;
}

static int check_object(const struct emu_xe_vm_bind_op *op)
{
	switch (op->op) {
	case EMU_XE_OP_MAP:
		return check_map(op);
	case EMU_XE_OP_UNMAP:
	case EMU_XE_OP_MAP_USERPTR:
	case EMU_XE_OP_PREFETCH:
		return op->obj ? -EINVAL : 0;
	case EMU_XE_OP_UNMAP_ALL:
		return !op->obj || op->addr || op->range ? -EINVAL : 0;
	default:
		return -EINVAL;
	}
}

static int check_alignment(const struct emu_xe_vm_bind_op *op)
{
	if (!emu_is_aligned(op->where, EMU_PAGE) || !emu_is_aligned(op->addr, EMU_PAGE) ||
	    !emu_is_aligned(op->range, EMU_PAGE))
		return -EINVAL;
	return !op->range && op->op != EMU_XE_OP_UNMAP_ALL ? -EINVAL : 0;
}

static int check_decompress(const struct emu_xe_profile *p, const struct emu_xe_vm_bind_op *op)
{
	if (!(op->flags & EMU_XE_BIND_DECOMPRESS))
		return 0;
	if (compressed(p, op->pat_index))
		return -EINVAL;
	return p->ip >= 2000 && p->dgfx && p->flat_ccs ? 0 : -EOPNOTSUPP;
}

int emu_xe_bind_check_op(struct emu_xe_vm *vm, const struct emu_xe_vm_bind_op *op)
{
	struct emu_xe_device *x = emu_xe_dev(vm->dev);
	int r;

	if (op->flags & EMU_XE_BIND_MIRROR && (vm->mode != EMU_XE_FAULTING || !x->svm))
		return -EINVAL;
	if (!emu_xe_pat_valid(x->prof, op->pat_index))
		return -EINVAL;
	if (op->flags & ~known_flags(x))
		return -EINVAL;
	r = check_object(op);
	if (r == 0)
		r = check_flags(op);
	if (r == 0)
		r = check_pat_use(x->prof, op);
	if (r == 0)
		r = check_prefetch(x, op);
	if (r == 0)
		r = check_ignored(op);
	if (r == 0)
		r = check_alignment(op);
	return r < 0 ? r : check_decompress(x->prof, op);
}

static int check_placement(struct emu_xe_device *x, const struct emu_xe_vm_bind_op *op,
			   struct emu_xe_bo *bo)
{
	if (!x->prof->vram_64k || !(bo->placement & ~1u) || op->op == EMU_XE_OP_UNMAP_ALL)
		return 0;
	return emu_is_aligned(op->addr, 0x10000) && emu_is_aligned(op->range, 0x10000) &&
			       emu_is_aligned(op->where, 0x10000)
		       ? 0
		       : -EINVAL;
}

int emu_xe_bind_check_bo(struct emu_xe_vm *vm, const struct emu_xe_vm_bind_op *op,
			 struct emu_xe_bo *bo)
{
	struct emu_xe_device *x = emu_xe_dev(vm->dev);
	uint32_t pat = op->pat_index;

	if (op->range > bo->base.size || op->where > bo->base.size - op->range)
		return -EINVAL;
	if (bo->flags & EMU_XE_GEM_NO_COMPRESSION && compressed(x->prof, pat))
		return -EINVAL;
	if (check_placement(x, op, bo) < 0)
		return -EINVAL;
	if ((bo->caching == EMU_XE_CACHING_WB || bo->base.imported) && !coherent(x->prof, pat))
		return -EINVAL;
	if (bo->base.imported && (compressed(x->prof, pat) || nvlp_refuses(x->prof, pat)))
		return -EINVAL;
	if (bo->vm && bo->vm != vm && emu.strict && op->op == EMU_XE_OP_MAP) {
		emu_strict("VM_BIND: a BO private to one VM bound into another");
		return -EINVAL;
	}
	return 0;
}
