// SPDX-License-Identifier: MIT
/* VMs of xe: life, lock, faults (xe_vm.c). */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "emu_alloc.h"
#include "emu_log.h"
#include "emu_mem.h"
#include "emu_sys.h"
#include "emu_xe.h"

/* Longer than any wait that ends by itself. */
#define LOCK_SECONDS 10

struct emu_xe_vm *emu_xe_vm_ref(struct emu_xe_vm *vm)
{
	atomic_fetch_add(&vm->refs, 1);
	return vm;
}

void emu_xe_vm_unref(struct emu_xe_vm *vm)
{
	if (atomic_fetch_sub(&vm->refs, 1) != 1)
		return;
	emu_pt_finish(&vm->pt);
	pthread_rwlock_destroy(&vm->lock);
	emu_free(vm);
}

/* Says so when it takes suspiciously long: the classic is a fault handler that binds. */
void emu_xe_vm_lock(struct emu_xe_vm *vm)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += LOCK_SECONDS;
	if (pthread_rwlock_timedwrlock(&vm->lock, &ts) == 0)
		return;
	emu_strict("VM %u: lock not had for %d s; does a fault handler call into a VM whose "
		   "other user waits for that handler?",
		   vm->id, LOCK_SECONDS);
	pthread_rwlock_wrlock(&vm->lock);
}

void emu_xe_vm_unlock(struct emu_xe_vm *vm)
{
	pthread_rwlock_unlock(&vm->lock);
}

/* ---- create ---- */

static uint32_t known_flags(const struct emu_device *dev)
{
	uint32_t f = EMU_XE_VM_SCRATCH | EMU_XE_VM_LR | EMU_XE_VM_FAULT_MODE;

	return dev->kernel >= EMU_KERNEL(7, 2) ? f | EMU_XE_VM_NO_OVERCOMMIT : f;
}

static int check_create(struct emu_xe_device *x, const struct emu_xe_vm_create *a)
{
	bool fault = a->flags & EMU_XE_VM_FAULT_MODE;

	if (a->extensions)
		return -EINVAL;
	if (fault && !x->prof->usm)
		return -EINVAL;
	if (a->reserved[0] || a->reserved[1] || a->flags & ~known_flags(x->dev))
		return -EINVAL;
	if (a->flags & EMU_XE_VM_SCRATCH && fault && !x->prof->scratch_faults)
		return -EINVAL;
	if (fault && !(a->flags & EMU_XE_VM_LR))
		return -EINVAL;
	if (a->flags & EMU_XE_VM_NO_OVERCOMMIT && !fault)
		return -EINVAL;
	return 0;
}

static enum emu_xe_mode mode_of(uint32_t flags)
{
	if (flags & EMU_XE_VM_FAULT_MODE)
		return EMU_XE_FAULTING;
	return flags & EMU_XE_VM_LR ? EMU_XE_PREEMPT : EMU_XE_DMA_FENCE;
}

static int vm_new(struct emu_device *dev, uint32_t flags, struct emu_xe_vm **ret_vm)
{
	struct emu_xe_vm *vm = emu_alloc(sizeof(*vm));
	int r;

	if (!vm)
		return -ENOMEM;
	vm->refs = 1;
	vm->dev = dev;
	vm->flags = flags;
	vm->mode = mode_of(flags);
	emu_list_init(&vm->pending);
	pthread_rwlock_init(&vm->lock, NULL);
	emu_pt_init(&vm->pt, &dev->bus, flags & EMU_XE_VM_SCRATCH);
	r = emu_queue_init(&vm->bindq);
	if (r < 0)
		goto err_free;
	if (vm->mode == EMU_XE_PREEMPT) {
		r = emu_queue_init(&vm->rebindq);
		if (r < 0)
			goto err_bindq;
	}
	*ret_vm = vm;
	return 0;

err_bindq:
	emu_queue_finish(&vm->bindq);
err_free:
	emu_xe_vm_unref(vm);
	return r == -EAGAIN ? -ENOMEM : r;
}

int emu_xe_vm_create_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_device *x = emu_xe_dev(file->dev);
	struct emu_xe_file *xf = file->priv;
	struct emu_xe_vm_create *a = arg;
	struct emu_xe_vm *vm;
	int r = check_create(x, a);

	if (r < 0)
		return r;
	r = vm_new(file->dev, a->flags, &vm);
	if (r < 0)
		return r;
	emu_lock();
	r = emu_ids_add(&xf->vms, vm, &vm->id);
	emu_unlock();
	if (r < 0) {
		emu_xe_vm_close(vm);
		return r;
	}
	a->vm_id = vm->id;
	return 0;
}

/* ---- destroy ---- */

static void drop_vmas(struct emu_xe_vm *vm)
{
	struct emu_node *n;

	emu_xe_svm_drop(vm, 0, UINT64_MAX);
	while ((n = emu_tree_first(&vm->vmas, 0))) {
		struct emu_xe_vma *v = emu_xe_vma_of(n);

		emu_xe_vma_remove(v);
		emu_xe_vma_unref(v);
	}
}

/* Takes over the table's reference. Binds under way are waited for, as the driver does. */
void emu_xe_vm_close(struct emu_xe_vm *vm)
{
	struct emu_fence *last = emu_queue_last(&vm->bindq);

	if (last) {
		emu_fence_wait(last);
		emu_fence_unref(last);
	}
	emu_queue_finish(&vm->bindq);
	if (vm->mode == EMU_XE_PREEMPT)
		emu_queue_finish(&vm->rebindq);
	emu_xe_vm_lock(vm);
	vm->closed = true;
	emu_xe_bind_forget(vm);
	drop_vmas(vm);
	emu_xe_vm_unlock(vm);
	emu_pt_unmap(&vm->pt, 0, UINT64_MAX - EMU_PAGE);
	emu_xe_vm_unref(vm);
}

int emu_xe_vm_destroy_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_file *xf = file->priv;
	struct emu_xe_vm_destroy *a = arg;
	struct emu_xe_vm *vm;
	int r = 0;

	if (a->pad || a->reserved[0] || a->reserved[1])
		return -EINVAL;
	emu_lock();
	vm = emu_ids_get(&xf->vms, a->vm_id);
	if (!vm)
		r = -ENOENT;
	else if (vm->mode == EMU_XE_PREEMPT && atomic_load(&vm->n_queues))
		r = -EBUSY;
	else
		emu_ids_remove(&xf->vms, a->vm_id);
	emu_unlock();
	if (r == 0)
		emu_xe_vm_close(vm);
	return r;
}

/* ---- faults ---- */

static uint64_t canonical(const struct emu_xe_vm *vm, uint64_t addr)
{
	unsigned bits = emu_xe_dev(vm->dev)->prof->va_bits;

	return (uint64_t)((int64_t)(addr << (64 - bits)) >> (64 - bits));
}

void emu_xe_vm_log_fault(struct emu_xe_vm *vm, uint64_t addr, bool write, bool present)
{
	emu_log(EMU_TRACE, "VM %u: GPU fault at %#llx (%s)", vm->id, (unsigned long long)addr,
		write ? "write" : "read");
	emu_lock();
	if (vm->n_faults < EMU_XE_MAX_FAULTS) {
		struct emu_xe_vm_fault *f = &vm->faults[vm->n_faults++];

		f->address = canonical(vm, emu_align_down(addr, EMU_PAGE));
		f->address_precision = 4096;
		f->access_type = write;
		f->fault_type = present && write ? 1 : 0;
	}
	emu_unlock();
}

static int copy_faults(struct emu_xe_vm *vm, struct emu_xe_vm_get_property *a)
{
	struct emu_xe_vm_fault copy[EMU_XE_MAX_FAULTS];
	uint32_t n;

	emu_lock();
	n = vm->n_faults;
	memcpy(copy, vm->faults, sizeof(copy));
	emu_unlock();
	if (!a->size) {
		a->size = (uint32_t)(n * sizeof(copy[0]));
		return 0;
	}
	if (a->size > n * sizeof(copy[0]) || a->size % sizeof(copy[0]))
		return -EINVAL;
	return emu_user_write(a->data, copy, a->size);
}

int emu_xe_vm_get_property_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_vm_get_property *a = arg;
	struct emu_xe_vm *vm;
	int r;

	if (a->extensions || a->pad || a->reserved[0] || a->reserved[1] || a->reserved[2])
		return -EINVAL;
	vm = emu_xe_vm_get(file, a->vm_id);
	if (!vm)
		return -ENOENT;
	r = a->property ? -EINVAL : copy_faults(vm, a);
	emu_xe_vm_unref(vm);
	return r;
}
