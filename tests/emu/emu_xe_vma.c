// SPDX-License-Identifier: MIT
/* Virtual memory areas of a VM; userptr areas and what happens when their pages go. */
#include <errno.h>

#include "emu_alloc.h"
#include "emu_log.h"
#include "emu_mem.h"
#include "emu_xe.h"

struct emu_xe_vma *emu_xe_vma_of(struct emu_node *n)
{
	return n ? emu_container_of(n, struct emu_xe_vma, node) : NULL;
}

void emu_xe_vma_ref(struct emu_xe_vma *v)
{
	atomic_fetch_add(&v->refs, 1);
}

void emu_xe_vma_unref(struct emu_xe_vma *v)
{
	if (atomic_fetch_sub(&v->refs, 1) != 1)
		return;
	if (v->bo)
		emu_bo_unref(v->bo);
	emu_fence_unref(v->ufence);
	emu_xe_vm_unref(v->vm);
	emu_free(v);
}

static void notifier_get(struct emu_notifier *n)
{
	emu_xe_vma_ref(emu_container_of(n, struct emu_xe_vma, notifier));
}

static void notifier_put(struct emu_notifier *n)
{
	emu_xe_vma_unref(emu_container_of(n, struct emu_xe_vma, notifier));
}

/* All jobs of the VM, on whichever queue. */
static void wait_jobs(struct emu_xe_vm *vm)
{
	struct emu_xe_device *x = emu_xe_dev(vm->dev);
	struct emu_fence *f;

	for (uint32_t skip = 0;; skip++) {
		struct emu_xe_queue *found = NULL;
		uint32_t i = 0;

		emu_lock();
		emu_list_for_each(l, &x->queues)
		{
			struct emu_xe_queue *q = emu_list_entry(l, struct emu_xe_queue, link);

			if (q->vm == vm && i++ == skip) {
				found = q;
				atomic_fetch_add(&q->refs, 1);
				break;
			}
		}
		emu_unlock();
		if (!found)
			return;
		f = emu_queue_last(&found->q);
		if (f) {
			emu_fence_wait(f);
			emu_fence_unref(f);
		}
		emu_xe_queue_unref(found);
	}
}

/*
 * The order matters against a bind that is about to map the area: invalid is set first, and the
 * bind looks at it after it has mapped.
 */
static void userptr_begin(struct emu_notifier *n, uint64_t start, uint64_t end, bool unmap)
{
	struct emu_xe_vma *v = emu_container_of(n, struct emu_xe_vma, notifier);
	struct emu_xe_vm *vm = v->vm;

	(void)start;
	(void)end;
	(void)unmap;
	if (vm->mode == EMU_XE_DMA_FENCE)
		wait_jobs(vm);
	if (vm->mode == EMU_XE_PREEMPT)
		atomic_fetch_add(&vm->suspended, 1);
	atomic_store(&v->invalid, true);
	atomic_store(&vm->has_invalid, true);
	emu_pt_unmap(&vm->pt, v->node.start, v->node.end - v->node.start);
}

struct rebind {
	struct emu_job job;
	struct emu_xe_vm *vm;
};

/* The rebind worker: any failure but a vanished range costs the VM. */
static int rebind_run(struct emu_job *job)
{
	struct emu_xe_vm *vm = emu_container_of(job, struct rebind, job)->vm;
	int r;

	emu_xe_vm_lock(vm);
	r = emu_xe_vm_repin(vm);
	emu_xe_vm_unlock(vm);
	if (r < 0) {
		emu_log(EMU_REPORT, "VM %u banned: VM worker error: %d", vm->id, r);
		atomic_store(&vm->banned, true);
	}
	return r;
}

static void rebind_release(struct emu_job *job)
{
	struct rebind *rb = emu_container_of(job, struct rebind, job);

	atomic_fetch_sub(&rb->vm->suspended, 1);
	emu_sync_wake();
	emu_xe_vm_unref(rb->vm);
	emu_free(rb);
}

static void userptr_after(struct emu_notifier *n)
{
	struct emu_xe_vm *vm = emu_container_of(n, struct emu_xe_vma, notifier)->vm;
	struct rebind *rb;

	if (vm->mode != EMU_XE_PREEMPT)
		return;
	rb = emu_alloc(sizeof(*rb));
	if (!rb)
		return;
	rb->vm = emu_xe_vm_ref(vm);
	rb->job.run = rebind_run;
	rb->job.release = rebind_release;
	rb->job.done = emu_fence_create();
	if (!rb->job.done || emu_queue_submit(&vm->rebindq, &rb->job) < 0) {
		atomic_store(&vm->banned, true);
		emu_fence_unref(rb->job.done);
		rebind_release(&rb->job);
	}
}

struct emu_xe_vma *emu_xe_vma_new(struct emu_xe_vm *vm, uint64_t start, uint64_t end,
				  enum emu_xe_vma_kind kind)
{
	struct emu_xe_vma *v = emu_alloc(sizeof(*v));

	if (!v)
		return NULL;
	v->refs = 1;
	v->vm = emu_xe_vm_ref(vm);
	v->node.start = start;
	v->node.end = end;
	v->kind = kind;
	v->notifier.begin = userptr_begin;
	v->notifier.after = userptr_after;
	v->notifier.get = notifier_get;
	v->notifier.put = notifier_put;
	emu_list_init(&v->notifier.link);
	return v;
}

struct emu_xe_vma *emu_xe_vma_clone(const struct emu_xe_vma *from, uint64_t start, uint64_t end)
{
	struct emu_xe_vma *v = emu_xe_vma_new(from->vm, start, end, from->kind);

	if (!v)
		return NULL;
	if (from->bo)
		v->bo = emu_bo_ref(from->bo);
	if (from->kind == EMU_XE_VMA_BO || from->kind == EMU_XE_VMA_USER)
		v->where = from->where + (start - from->node.start);
	v->readonly = from->readonly;
	v->autoreset = from->autoreset;
	v->attr = from->attr;
	v->default_attr = from->default_attr;
	return v;
}

void emu_xe_vma_insert(struct emu_xe_vma *v)
{
	emu_tree_insert(&v->vm->vmas, &v->node);
	if (v->kind != EMU_XE_VMA_USER)
		return;
	v->notifier.start = v->where;
	v->notifier.end = v->where + (v->node.end - v->node.start);
	emu_notifier_add(&v->notifier);
}

void emu_xe_vma_remove(struct emu_xe_vma *v)
{
	if (v->kind == EMU_XE_VMA_USER)
		emu_notifier_remove(&v->notifier);
	emu_tree_remove(&v->vm->vmas, &v->node);
}

void emu_xe_vma_pte(const struct emu_xe_vma *v, struct emu_pte *ret_pte)
{
	*ret_pte = (struct emu_pte){
		.kind = v->kind == EMU_XE_VMA_BO     ? EMU_PTE_BO
			: v->kind == EMU_XE_VMA_USER ? EMU_PTE_USER
						     : EMU_PTE_NULL,
		.bo = v->bo,
		.where = v->where,
		.readonly = v->readonly,
	};
}

int emu_xe_vma_pin(struct emu_xe_vma *v)
{
	return emu_user_populate(v->where, v->node.end - v->node.start, !v->readonly,
				 v->vm->dev->uffd_waits);
}

static int repin_one(struct emu_xe_vm *vm, struct emu_xe_vma *v)
{
	struct emu_pte pte;
	int r;

	atomic_store(&v->invalid, false);
	r = emu_xe_vma_pin(v);
	/* A range that is gone stays unmapped, silently: the GPU finds out. */
	if (r == -EFAULT)
		return 0;
	if (r < 0)
		return r;
	if (vm->mode == EMU_XE_FAULTING)
		return 0;
	emu_xe_vma_pte(v, &pte);
	r = emu_pt_map(&vm->pt, v->node.start, v->node.end - v->node.start, &pte);
	if (atomic_load(&v->invalid))
		emu_pt_unmap(&vm->pt, v->node.start, v->node.end - v->node.start);
	return r;
}

int emu_xe_vm_repin(struct emu_xe_vm *vm)
{
	struct emu_node *n;
	int r = 0;

	if (!atomic_exchange(&vm->has_invalid, false))
		return 0;
	for (n = emu_tree_first(&vm->vmas, 0); n && r == 0; n = emu_tree_next(&vm->vmas, n)) {
		struct emu_xe_vma *v = emu_xe_vma_of(n);

		if (v->kind == EMU_XE_VMA_USER && atomic_load(&v->invalid))
			r = repin_one(vm, v);
	}
	if (r < 0)
		atomic_store(&vm->has_invalid, true);
	return r;
}
