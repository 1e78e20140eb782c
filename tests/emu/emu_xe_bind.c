// SPDX-License-Identifier: MIT
/*
 * VM_BIND (xe_vm.c): the areas change at once, under the VM's lock and all or none; the page
 * table changes when the job's in-fences have signalled, all of an ioctl in one step.
 */
#include <errno.h>
#include <string.h>

#include "emu_alloc.h"
#include "emu_log.h"
#include "emu_mem.h"
#include "emu_sys.h"
#include "emu_xe.h"

/* ---- what an ioctl does, kept so that it can be undone ---- */

struct change {
	struct emu_xe_vma *vma; /* held */
	bool inserted;
};

struct pt_op {
	uint64_t va, size;
	bool map;
	struct emu_xe_vma *vma; /* held; for map */
};

struct binding {
	struct emu_xe_vm *vm;
	struct emu_fence *done; /* of the job to come */
	bool user_fence;
	struct change *change;
	uint32_t n_changes, cap_changes;
	struct pt_op *op;
	uint32_t n_ops, cap_ops;
};

static int grow(void **array, uint32_t n, uint32_t *cap, size_t elem)
{
	uint32_t want = *cap ? *cap * 2 : 16;
	void *more;

	if (n < *cap)
		return 0;
	more = emu_alloc(want * elem);
	if (!more)
		return -ENOMEM;
	if (n)
		memcpy(more, *array, n * elem);
	emu_free(*array);
	*array = more;
	*cap = want;
	return 0;
}

static int log_change(struct binding *b, struct emu_xe_vma *v, bool inserted)
{
	int r = grow((void **)&b->change, b->n_changes, &b->cap_changes, sizeof(*b->change));

	if (r < 0)
		return r;
	emu_xe_vma_ref(v);
	b->change[b->n_changes++] = (struct change){ v, inserted };
	return 0;
}

static int add_pt_op(struct binding *b, uint64_t va, uint64_t size, struct emu_xe_vma *map)
{
	int r = grow((void **)&b->op, b->n_ops, &b->cap_ops, sizeof(*b->op));

	if (r < 0)
		return r;
	if (map)
		emu_xe_vma_ref(map);
	b->op[b->n_ops++] = (struct pt_op){ va, size, map != NULL, map };
	return 0;
}

static int insert(struct binding *b, struct emu_xe_vma *v)
{
	int r = log_change(b, v, true);

	if (r < 0)
		return r;
	emu_xe_vma_ref(v);
	emu_xe_vma_insert(v);
	return 0;
}

static int take_out(struct binding *b, struct emu_xe_vma *v)
{
	int r = log_change(b, v, false);

	if (r < 0)
		return r;
	emu_xe_vma_remove(v);
	emu_xe_vma_unref(v);
	return 0;
}

static void undo(struct binding *b)
{
	while (b->n_changes) {
		struct change *c = &b->change[--b->n_changes];

		if (c->inserted) {
			emu_xe_vma_remove(c->vma);
			emu_xe_vma_unref(c->vma);
		} else {
			emu_xe_vma_ref(c->vma);
			emu_xe_vma_insert(c->vma);
		}
		emu_xe_vma_unref(c->vma);
	}
}

static void drop_ops(struct pt_op *op, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (op[i].vma)
			emu_xe_vma_unref(op[i].vma);
	emu_free(op);
}

static void binding_finish(struct binding *b)
{
	for (uint32_t i = 0; i < b->n_changes; i++)
		emu_xe_vma_unref(b->change[i].vma);
	emu_free(b->change);
	drop_ops(b->op, b->n_ops);
	emu_fence_unref(b->done);
}

/* ---- areas ---- */

static bool pending(const struct emu_xe_vma *v)
{
	return v->ufence && !emu_fence_is_signaled(v->ufence);
}

static bool deferred(const struct emu_xe_vm *vm, uint32_t flags)
{
	return vm->mode == EMU_XE_FAULTING && !(flags & EMU_XE_BIND_IMMEDIATE);
}

static bool default_attributes(const struct emu_xe_vma *v)
{
	return !memcmp(&v->attr, &v->default_attr, sizeof(v->attr));
}

/* What stays of an area that loses a part. Userptr memory is pinned anew, as the driver does. */
static int keep(struct binding *b, const struct emu_xe_vma *v, uint64_t start, uint64_t end)
{
	struct emu_xe_vma *part;
	int r;

	if (start >= end)
		return 0;
	part = emu_xe_vma_clone(v, start, end);
	if (!part)
		return -ENOMEM;
	r = part->kind == EMU_XE_VMA_USER ? emu_xe_vma_pin(part) : 0;
	if (r == 0)
		r = insert(b, part);
	if (r == 0 && part->kind == EMU_XE_VMA_USER && b->vm->mode != EMU_XE_FAULTING)
		r = add_pt_op(b, start, end - start, part);
	emu_xe_vma_unref(part);
	return r;
}

static int cut_one(struct binding *b, struct emu_xe_vma *v, uint64_t start, uint64_t end,
		   bool by_mirror)
{
	uint64_t from = emu_max(start, v->node.start), to = emu_min(end, v->node.end);
	bool whole = from == v->node.start && to == v->node.end;
	int r;

	if (pending(v))
		return -EBUSY;
	if (v->kind == EMU_XE_VMA_MIRROR && !(by_mirror && whole) &&
	    emu_xe_svm_busy(b->vm, from, to))
		return -EBUSY;
	emu_xe_vma_ref(v);
	r = take_out(b, v);
	if (r == 0)
		r = keep(b, v, v->node.start, from);
	if (r == 0)
		r = keep(b, v, to, v->node.end);
	if (r == 0 && v->kind != EMU_XE_VMA_MIRROR)
		r = add_pt_op(b, from, to - from, NULL);
	emu_xe_vma_unref(v);
	return r;
}

static int cut(struct binding *b, uint64_t start, uint64_t end, bool by_mirror)
{
	struct emu_node *n;
	int r = 0;

	while (r == 0 && (n = emu_tree_first(&b->vm->vmas, start)) && n->start < end)
		r = cut_one(b, emu_xe_vma_of(n), start, end, by_mirror);
	return r;
}

static void set_defaults(struct emu_xe_vma *v, const struct emu_xe_vm_bind_op *op)
{
	v->readonly = op->flags & EMU_XE_BIND_READONLY;
	v->autoreset = op->flags & EMU_XE_BIND_AUTORESET;
	v->attr.pat = op->pat_index;
	v->default_attr = v->attr;
}

/* Puts a new area in; it is mapped now unless faults are to do that. Eats the reference. */
static int place(struct binding *b, struct emu_xe_vma *v, const struct emu_xe_vm_bind_op *op)
{
	uint64_t start = v->node.start, end = v->node.end;
	int r;

	set_defaults(v, op);
	if (b->user_fence)
		v->ufence = emu_fence_ref(b->done);
	r = cut(b, start, end, v->kind == EMU_XE_VMA_MIRROR);
	if (r == 0)
		r = insert(b, v);
	if (r == 0 && v->kind != EMU_XE_VMA_MIRROR &&
	    (!deferred(b->vm, op->flags) || b->vm->flags & EMU_XE_VM_SCRATCH))
		r = add_pt_op(b, start, end - start, deferred(b->vm, op->flags) ? NULL : v);
	emu_xe_vma_unref(v);
	return r;
}

/* ---- operations ---- */

static int do_map_bo(struct binding *b, const struct emu_xe_vm_bind_op *op, struct emu_bo *bo)
{
	struct emu_xe_bo *xbo = emu_xe_bo(bo);
	struct emu_xe_vma *v;
	int r;

	if (xbo->purge != EMU_XE_WILLNEED)
		return xbo->purge == EMU_XE_DONTNEED ? -EBUSY : -EINVAL;
	r = emu_xe_bo_back(emu_xe_dev(b->vm->dev), xbo);
	if (r < 0)
		return r;
	v = emu_xe_vma_new(b->vm, op->addr, op->addr + op->range, EMU_XE_VMA_BO);
	if (!v)
		return -ENOMEM;
	v->bo = emu_bo_ref(bo);
	v->where = op->where;
	return place(b, v, op);
}

static int do_map_user(struct binding *b, const struct emu_xe_vm_bind_op *op)
{
	struct emu_xe_vma *v =
		emu_xe_vma_new(b->vm, op->addr, op->addr + op->range, EMU_XE_VMA_USER);
	int r;

	if (!v)
		return -ENOMEM;
	v->where = op->where;
	v->readonly = op->flags & EMU_XE_BIND_READONLY;
	r = emu_xe_vma_pin(v);
	if (r < 0) {
		emu_xe_vma_unref(v);
		return r;
	}
	return place(b, v, op);
}

static struct emu_xe_vma *mirror_at(struct emu_xe_vm *vm, uint64_t addr,
				    const struct emu_xe_vm_bind_op *op)
{
	struct emu_node *n = emu_tree_at(&vm->vmas, addr);
	struct emu_xe_vma *v = emu_xe_vma_of(n);

	if (!v || v->kind != EMU_XE_VMA_MIRROR || !default_attributes(v) ||
	    v->attr.pat != op->pat_index || v->readonly != !!(op->flags & EMU_XE_BIND_READONLY) ||
	    v->autoreset != !!(op->flags & EMU_XE_BIND_AUTORESET))
		return NULL;
	return v;
}

/* A mirror grows together with neighbours that are just like it. */
static int do_map_mirror(struct binding *b, const struct emu_xe_vm_bind_op *op)
{
	uint64_t start = op->addr, end = op->addr + op->range;
	struct emu_xe_vma *v = start ? mirror_at(b->vm, start - 1, op) : NULL;

	if (v)
		start = v->node.start;
	v = mirror_at(b->vm, end, op);
	if (v)
		end = v->node.end;
	v = emu_xe_vma_new(b->vm, start, end, EMU_XE_VMA_MIRROR);
	return v ? place(b, v, op) : -ENOMEM;
}

static int do_map(struct binding *b, const struct emu_xe_vm_bind_op *op, struct emu_bo *bo)
{
	struct emu_xe_vma *v;

	if (op->flags & EMU_XE_BIND_MIRROR)
		return do_map_mirror(b, op);
	if (!(op->flags & EMU_XE_BIND_NULL))
		return do_map_bo(b, op, bo);
	v = emu_xe_vma_new(b->vm, op->addr, op->addr + op->range, EMU_XE_VMA_NULL);
	return v ? place(b, v, op) : -ENOMEM;
}

static int do_unmap_all(struct binding *b, struct emu_bo *bo)
{
	struct emu_node *n = emu_tree_first(&b->vm->vmas, 0);
	int r = 0;

	while (n && r == 0) {
		struct emu_xe_vma *v = emu_xe_vma_of(n);
		uint64_t start = n->start, end = n->end;

		if (v->bo == bo)
			r = cut(b, start, end, false);
		n = emu_tree_first(&b->vm->vmas, end);
	}
	return r;
}

static int prefetch_one(struct binding *b, struct emu_xe_vma *v, const struct emu_xe_vm_bind_op *op)
{
	uint64_t start = emu_max(op->addr, v->node.start);
	uint64_t end = emu_min(op->addr + op->range, v->node.end);
	int r = 0;

	if (v->kind == EMU_XE_VMA_MIRROR) {
		if (b->vm->dev->kernel < EMU_KERNEL(6, 16))
			return -EINVAL;
		return emu_xe_svm_prefetch(b->vm, v, start, end, op->prefetch_mem_region_instance);
	}
	if (v->kind == EMU_XE_VMA_BO && emu_xe_bo(v->bo)->purge != EMU_XE_WILLNEED)
		return emu_xe_bo(v->bo)->purge == EMU_XE_DONTNEED ? -EBUSY : -EINVAL;
	if (v->kind == EMU_XE_VMA_USER) {
		atomic_store(&v->invalid, false);
		r = emu_xe_vma_pin(v);
	}
	return r < 0 ? r : add_pt_op(b, v->node.start, v->node.end - v->node.start, v);
}

static int do_prefetch(struct binding *b, const struct emu_xe_vm_bind_op *op)
{
	struct emu_node *n = emu_tree_first(&b->vm->vmas, op->addr);
	int r = 0;

	for (; n && n->start < op->addr + op->range && r == 0; n = emu_tree_next(&b->vm->vmas, n))
		r = prefetch_one(b, emu_xe_vma_of(n), op);
	return r;
}

static int do_op(struct binding *b, const struct emu_xe_vm_bind_op *op, struct emu_bo *bo)
{
	switch ((enum emu_xe_bind_opcode)op->op) {
	case EMU_XE_OP_MAP:
		return do_map(b, op, bo);
	case EMU_XE_OP_UNMAP:
		return cut(b, op->addr, op->addr + op->range, false);
	case EMU_XE_OP_MAP_USERPTR:
		return do_map_user(b, op);
	case EMU_XE_OP_UNMAP_ALL:
		return do_unmap_all(b, bo);
	case EMU_XE_OP_PREFETCH:
		return do_prefetch(b, op);
	}
	return -EINVAL;
}

/* ---- the job ---- */

struct bind_job {
	struct emu_job job;
	struct emu_xe_vm *vm;
	struct emu_queue *queue;
	struct pt_op *op;
	uint32_t n_ops;
	bool write_fence, ran;
	uint64_t fence_addr, fence_value;
};

static int apply_one(struct emu_xe_vm *vm, const struct pt_op *op)
{
	struct emu_pte pte;
	int r;

	if (!op->map) {
		emu_pt_unmap_locked(&vm->pt, op->va, op->size);
		return 0;
	}
	emu_xe_vma_pte(op->vma, &pte);
	r = emu_pt_map_locked(&vm->pt, op->va, op->size, &pte);
	/* Pages that went meanwhile: their notifier may have unmapped too early. */
	if (op->vma->kind == EMU_XE_VMA_USER && atomic_load(&op->vma->invalid))
		emu_pt_unmap_locked(&vm->pt, op->va, op->size);
	return r;
}

static int bind_run(struct emu_job *job)
{
	struct bind_job *bj = emu_container_of(job, struct bind_job, job);
	uint64_t delay = emu_xe_dev(bj->vm->dev)->bind_delay_ns;
	int r = 0;

	if (delay)
		emu_queue_pause(bj->queue, emu_now_ns() + delay);
	emu_pt_begin(&bj->vm->pt);
	for (uint32_t i = 0; i < bj->n_ops && r == 0; i++)
		r = apply_one(bj->vm, &bj->op[i]);
	emu_pt_end(&bj->vm->pt);
	bj->ran = true;
	return r;
}

/* After the fence has signalled: who sees the value may replace what was bound (xe_sync.c:user_fence_worker()). */
static void write_user_fence(const struct bind_job *bj)
{
	if (emu_user_write(bj->fence_addr, &bj->fence_value, 8) < 0)
		emu_strict("VM_BIND: user fence at %#llx cannot be written",
			   (unsigned long long)bj->fence_addr);
	emu_sync_wake();
}

static void bind_release(struct emu_job *job)
{
	struct bind_job *bj = emu_container_of(job, struct bind_job, job);

	if (bj->write_fence && bj->ran)
		write_user_fence(bj);
	drop_ops(bj->op, bj->n_ops);
	emu_xe_vm_unref(bj->vm);
	emu_free(bj);
}

/* ---- binds that touch the same page table wait for each other, whatever their queues ---- */

#define TABLE_SPAN (2ull << 20)

struct under_way {
	struct emu_list link;
	uint64_t start, end;
	struct emu_fence *done;
};

static void forget(struct under_way *u)
{
	emu_list_del(&u->link);
	emu_fence_unref(u->done);
	emu_free(u);
}

void emu_xe_bind_forget(struct emu_xe_vm *vm)
{
	emu_list_for_each_safe(n, &vm->pending) forget(emu_list_entry(n, struct under_way, link));
}

/* True when the page table that holds addr serves areas outside of [start, end), too. */
static bool table_in_use(struct emu_xe_vm *vm, uint64_t addr, uint64_t start, uint64_t end)
{
	uint64_t low = emu_align_down(addr, TABLE_SPAN), high = low + TABLE_SPAN;
	struct emu_node *n = emu_tree_first(&vm->vmas, low);

	for (; n && n->start < high; n = emu_tree_next(&vm->vmas, n))
		if (n->start < start || n->end > end)
			return true;
	return false;
}

/* A table that comes or goes with the bind counts whole. */
static void span_of_ops(const struct binding *b, struct under_way *ret_u)
{
	ret_u->start = UINT64_MAX;
	ret_u->end = 0;
	for (uint32_t i = 0; i < b->n_ops; i++) {
		uint64_t start = b->op[i].va, end = start + b->op[i].size;
		bool low = table_in_use(b->vm, start, start, end);
		bool high = table_in_use(b->vm, end - 1, start, end);

		ret_u->start =
			emu_min(ret_u->start, low ? start : emu_align_down(start, TABLE_SPAN));
		ret_u->end = emu_max(ret_u->end, high ? end : emu_align_up(end, TABLE_SPAN));
	}
}

/* Adds what the bind has to wait for to its inputs, and the bind to what others wait for. */
static int order(struct binding *b, struct emu_job *job)
{
	struct under_way *u = emu_alloc(sizeof(*u));
	struct emu_fence **in;
	uint32_t n = job->n_in;

	if (!u)
		return -ENOMEM;
	span_of_ops(b, u);
	emu_list_for_each_safe(l, &b->vm->pending)
	{
		struct under_way *other = emu_list_entry(l, struct under_way, link);

		if (emu_fence_is_signaled(other->done))
			forget(other);
		else
			n++;
	}
	in = emu_alloc((n + 1) * sizeof(struct emu_fence *));
	if (!in) {
		emu_free(u);
		return -ENOMEM;
	}
	if (job->n_in)
		memcpy(in, job->in, job->n_in * sizeof(struct emu_fence *));
	emu_free(job->in);
	job->in = in;
	emu_list_for_each(l, &b->vm->pending)
	{
		struct under_way *other = emu_list_entry(l, struct under_way, link);

		if (other->start < u->end && other->end > u->start)
			in[job->n_in++] = emu_fence_ref(other->done);
	}
	u->done = emu_fence_ref(b->done);
	emu_list_add_tail(&b->vm->pending, &u->link);
	return 0;
}

/* Hands the page table work to the queue. On success the job owns the operations. */
static int submit(struct binding *b, struct emu_queue *queue, struct emu_xe_syncs *syncs)
{
	const struct emu_xe_sync_entry *user = emu_xe_syncs_user(syncs);
	struct bind_job *bj = emu_alloc(sizeof(*bj));
	int r;

	if (!bj)
		return -ENOMEM;
	r = emu_xe_syncs_inputs(syncs, &bj->job.in, &bj->job.n_in);
	if (r == 0 && b->n_ops)
		r = order(b, &bj->job);
	if (r < 0) {
		emu_free(bj);
		return r;
	}
	bj->vm = emu_xe_vm_ref(b->vm);
	bj->queue = queue;
	bj->op = b->op;
	bj->n_ops = b->n_ops;
	if (user) {
		bj->write_fence = true;
		bj->fence_addr = user->addr;
		bj->fence_value = user->value;
	}
	bj->job.done = emu_fence_ref(b->done);
	bj->job.run = bind_run;
	bj->job.release = bind_release;
	b->op = NULL;
	b->n_ops = 0;
	if (emu_xe_dev(b->vm->dev)->prompt && emu_queue_run_now(queue, &bj->job))
		return 0;
	r = emu_queue_submit(queue, &bj->job);
	if (r < 0) {
		emu_fence_signal(b->done, r);
		emu_job_drop(&bj->job);
	}
	return r;
}

/*
 * No page table work: the out-fences stand for what the queue does already. In-fences are
 * refused here, although the areas have changed: so does the driver.
 */
static int publish_idle(struct binding *b, struct emu_queue *queue, struct emu_xe_syncs *syncs)
{
	const struct emu_xe_sync_entry *user = emu_xe_syncs_user(syncs);
	struct emu_fence *last;
	int r = 0;

	if (syncs->n_in)
		return -EOPNOTSUPP;
	if (!syncs->n)
		return 0;
	if (user)
		return submit(b, queue, syncs);
	last = emu_queue_last(queue);
	if (!last)
		return -ENOMEM;
	emu_xe_syncs_publish(syncs, last);
	emu_fence_unref(last);
	return r;
}

static int execute(struct binding *b, struct emu_queue *queue, const struct emu_xe_vm_bind_op *ops,
		   struct emu_bo **bos, uint32_t n, struct emu_xe_syncs *syncs)
{
	int r = 0;

	for (uint32_t i = 0; i < n && r == 0; i++)
		r = do_op(b, &ops[i], bos[i]);
	if (r < 0) {
		undo(b);
		return r;
	}
	if (!b->n_ops)
		return publish_idle(b, queue, syncs);
	r = submit(b, queue, syncs);
	if (r == 0)
		emu_xe_syncs_publish(syncs, b->done);
	return r;
}

/* ---- the ioctl ---- */

static int load_ops(const struct emu_xe_vm_bind *a, struct emu_xe_vm_bind_op **ret_ops)
{
	size_t size = (size_t)a->num_binds * sizeof(**ret_ops);
	struct emu_xe_vm_bind_op *ops;

	if (!a->num_binds)
		return 0;
	ops = emu_alloc(size);
	if (!ops)
		return a->num_binds > 1 ? -ENOBUFS : -ENOMEM;
	if (a->num_binds == 1) {
		*ops = a->bind;
	} else if (emu_user_read(ops, a->vector_of_binds, size) < 0) {
		emu_free(ops);
		return -EFAULT;
	}
	*ret_ops = ops;
	return 0;
}

static int check_ops(struct emu_xe_vm *vm, const struct emu_xe_vm_bind_op *ops, uint32_t n)
{
	int r = 0;

	for (uint32_t i = 0; i < n && r == 0; i++)
		r = emu_xe_bind_check_op(vm, &ops[i]);
	return r;
}

static int check_ranges(struct emu_xe_vm *vm, const struct emu_xe_vm_bind_op *ops, uint32_t n)
{
	uint64_t top = 1ull << emu_xe_dev(vm->dev)->prof->va_bits;

	for (uint32_t i = 0; i < n; i++)
		if (ops[i].range > top || ops[i].addr > top - ops[i].range)
			return -EINVAL;
	return 0;
}

static int find_bos(struct emu_file *file, struct emu_xe_vm *vm,
		    const struct emu_xe_vm_bind_op *ops, struct emu_bo **bos, uint32_t n)
{
	int r = 0;

	for (uint32_t i = 0; i < n && r == 0; i++) {
		if (!ops[i].obj)
			continue;
		bos[i] = emu_handle_get(file, ops[i].obj);
		r = bos[i] ? emu_xe_bind_check_bo(vm, &ops[i], emu_xe_bo(bos[i])) : -ENOENT;
	}
	return r;
}

static int bind_locked(struct emu_file *file, struct emu_xe_vm *vm, struct emu_queue *queue,
		       const struct emu_xe_vm_bind *a, const struct emu_xe_vm_bind_op *ops,
		       struct emu_bo **bos)
{
	struct binding b = { .vm = vm };
	struct emu_xe_syncs syncs;
	int r;

	if (vm->closed || atomic_load(&vm->banned))
		return -ENOENT;
	r = check_ranges(vm, ops, a->num_binds);
	if (r == 0)
		r = find_bos(file, vm, ops, bos, a->num_binds);
	if (r < 0)
		return r;
	r = emu_xe_syncs_parse(&syncs, file, a->syncs, a->num_syncs, vm->mode != EMU_XE_DMA_FENCE,
			       true);
	if (r < 0)
		return r;
	b.done = emu_fence_create();
	b.user_fence = syncs.n_user;
	if (!b.done)
		r = -ENOMEM;
	else if (!a->num_binds && syncs.n_user)
		r = -EOPNOTSUPP;
	else
		r = execute(&b, queue, ops, bos, a->num_binds, &syncs);
	binding_finish(&b);
	emu_xe_syncs_finish(&syncs);
	return r;
}

static int find_queue(struct emu_file *file, struct emu_xe_vm *vm, uint32_t id,
		      struct emu_xe_queue **ret_q)
{
	struct emu_xe_queue *q;

	*ret_q = NULL;
	if (!id)
		return 0;
	q = emu_xe_queue_get(file, id);
	if (!q)
		return -ENOENT;
	if (q->class != EMU_XE_VM_BIND_CLASS || q->vm != vm) {
		emu_xe_queue_unref(q);
		return -EINVAL;
	}
	*ret_q = q;
	return 0;
}

static int bind_checked(struct emu_file *file, struct emu_xe_vm *vm, const struct emu_xe_vm_bind *a,
			const struct emu_xe_vm_bind_op *ops)
{
	struct emu_xe_queue *q;
	struct emu_bo **bos;
	int r = find_queue(file, vm, a->exec_queue_id, &q);

	if (r < 0)
		return r;
	bos = emu_alloc((a->num_binds + 1) * sizeof(struct emu_bo *));
	if (bos) {
		emu_xe_vm_lock(vm);
		emu_xe_svm_collect(vm);
		r = bind_locked(file, vm, q ? &q->q : &vm->bindq, a, ops, bos);
		emu_xe_vm_unlock(vm);
		for (uint32_t i = 0; i < a->num_binds; i++)
			if (bos[i])
				emu_bo_unref(bos[i]);
		emu_free(bos);
	} else {
		r = a->num_binds > 1 ? -ENOBUFS : -ENOMEM;
	}
	if (q)
		emu_xe_queue_unref(q);
	return r;
}

int emu_xe_vm_bind_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_vm_bind_op *ops = NULL;
	struct emu_xe_vm_bind *a = arg;
	struct emu_xe_vm *vm;
	int r;

	vm = emu_xe_vm_get(file, a->vm_id);
	if (!vm)
		return -EINVAL;
	r = -EINVAL;
	if (a->pad || a->pad2 || a->reserved[0] || a->reserved[1] || a->extensions ||
	    a->num_syncs > EMU_XE_MAX_SYNCS)
		goto out;
	r = load_ops(a, &ops);
	if (r == 0)
		r = check_ops(vm, ops, a->num_binds);
	if (r == 0)
		r = bind_checked(file, vm, a, ops);
	emu_free(ops);
out:
	emu_xe_vm_unref(vm);
	return r;
}
