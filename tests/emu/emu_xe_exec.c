// SPDX-License-Identifier: MIT
/* Exec queues and EXEC (xe_exec_queue.c, xe_exec.c). */
#include <errno.h>
#include <string.h>

#include "emu_alloc.h"
#include "emu_log.h"
#include "emu_mem.h"
#include "emu_sys.h"
#include "emu_xe.h"

#define MAX_WIDTH	9
#define MAX_EXTENSIONS	16
#define MAX_OUTSTANDING 1000

/* ---- create ---- */

enum { PROPERTY_PRIORITY, PROPERTY_TIMESLICE };

static int check_property(struct emu_xe_device *x, const struct emu_xe_ext_set_property *e)
{
	if (e->pad)
		return -EINVAL;
	switch (e->property) {
	case PROPERTY_PRIORITY:
		if (e->value > 2)
			return -EINVAL;
		return e->value > 1 && !x->nice ? -EPERM : 0;
	case PROPERTY_TIMESLICE:
		/* Microseconds; the limits of a kernel built without the option to change them. */
		return e->value < 1 || e->value > 10000000 ? -EINVAL : 0;
	default:
		return -EINVAL;
	}
}

static int check_extensions(struct emu_xe_device *x, uint64_t at)
{
	struct emu_xe_ext_set_property e;
	int r;

	for (int n = 0; at; n++) {
		if (n >= MAX_EXTENSIONS)
			return -E2BIG;
		if (emu_user_read(&e.base, at, sizeof(e.base)) < 0)
			return -EFAULT;
		if (e.base.pad || e.base.name)
			return -EINVAL;
		if (emu_user_read(&e, at, sizeof(e)) < 0)
			return -EFAULT;
		r = check_property(x, &e);
		if (r < 0)
			return r;
		at = e.base.next;
	}
	return 0;
}

static bool engine_listed(struct emu_xe_device *x, const struct emu_xe_engine_class_instance *e)
{
	struct emu_xe_engine all[EMU_XE_MAX_TILES * 16] = { 0 };
	uint32_t n = emu_xe_listed_engines(x, all);

	for (uint32_t i = 0; i < n; i++)
		if (all[i].instance.engine_class == e->engine_class &&
		    all[i].instance.engine_instance == e->engine_instance &&
		    all[i].instance.gt_id == e->gt_id)
			return true;
	return false;
}

static int check_engines(struct emu_xe_device *x, const struct emu_xe_exec_queue_create *a,
			 const struct emu_xe_engine_class_instance *e)
{
	uint32_t n = (uint32_t)a->width * a->num_placements;

	for (uint32_t i = 0; i < n; i++) {
		if (!engine_listed(x, &e[i]))
			return -EINVAL;
		if (e[i].engine_class != e[0].engine_class || e[i].gt_id != e[0].gt_id)
			return -EINVAL;
		if (e[i].pad && emu.strict)
			emu_strict("EXEC_QUEUE_CREATE: pad of an engine is not zero");
	}
	/* Parallel submission takes neighbours. */
	for (uint32_t p = 0; p < a->num_placements; p++)
		for (uint32_t w = 1; w < a->width; w++)
			if (e[w * a->num_placements + p].engine_instance !=
			    e[(w - 1) * a->num_placements + p].engine_instance + 1)
				return -EINVAL;
	if (a->width > 1 && e[0].engine_class != EMU_XE_VIDEO_DECODE &&
	    e[0].engine_class != EMU_XE_VIDEO_ENHANCE)
		return -EOPNOTSUPP;
	return 0;
}

static int load_engines(const struct emu_xe_exec_queue_create *a,
			struct emu_xe_engine_class_instance *e)
{
	uint32_t n = (uint32_t)a->width * a->num_placements;

	if (a->flags & ~EMU_XE_QUEUE_LOW_LATENCY || a->reserved[0] || a->reserved[1])
		return -EINVAL;
	if (!n || n > MAX_WIDTH)
		return -EINVAL;
	return emu_user_read(e, a->instances, n * sizeof(*e));
}

static int queue_new(struct emu_file *file, const struct emu_xe_exec_queue_create *a,
		     struct emu_xe_vm *vm, const struct emu_xe_engine_class_instance *e,
		     struct emu_xe_queue **ret_q)
{
	struct emu_xe_queue *q = emu_alloc(sizeof(*q));
	int r;

	if (!q)
		return -ENOMEM;
	q->refs = 1;
	q->dev = file->dev;
	q->class = e->engine_class;
	q->instance = e->engine_instance;
	q->gt = e->gt_id;
	q->width = a->width;
	r = emu_queue_init(&q->q);
	if (r < 0) {
		emu_free(q);
		return r == -EAGAIN ? -ENOMEM : r;
	}
	q->vm = emu_xe_vm_ref(vm);
	/* A bind queue runs no jobs that the VM would have to wait for. */
	if (q->class != EMU_XE_VM_BIND_CLASS)
		atomic_fetch_add(&vm->n_queues, 1);
	emu_lock();
	emu_list_add_tail(&emu_xe_dev(file->dev)->queues, &q->link);
	emu_unlock();
	*ret_q = q;
	return 0;
}

static int create_on_vm(struct emu_file *file, struct emu_xe_exec_queue_create *a,
			const struct emu_xe_engine_class_instance *e)
{
	struct emu_xe_file *xf = file->priv;
	struct emu_xe_vm *vm = emu_xe_vm_get(file, a->vm_id);
	struct emu_xe_queue *q = NULL;
	int r;

	if (!vm)
		return -ENOENT;
	r = vm->closed || atomic_load(&vm->banned) ? -ENOENT : 0;
	if (r == 0)
		r = check_extensions(emu_xe_dev(file->dev), a->extensions);
	if (r == 0)
		r = queue_new(file, a, vm, e, &q);
	emu_xe_vm_unref(vm);
	if (r < 0 || !q)
		return r;
	emu_lock();
	r = emu_ids_add(&xf->queues, q, &q->id);
	emu_unlock();
	if (r < 0) {
		emu_xe_queue_close(q);
		return r;
	}
	a->exec_queue_id = q->id;
	return 0;
}

int emu_xe_queue_create_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_device *x = emu_xe_dev(file->dev);
	struct emu_xe_engine_class_instance e[MAX_WIDTH];
	struct emu_xe_exec_queue_create *a = arg;
	int r = load_engines(a, e);

	if (r < 0)
		return r;
	if (e[0].gt_id >= x->n_tiles)
		return -EINVAL;
	if (e[0].engine_class == EMU_XE_VM_BIND_CLASS) {
		if (a->width != 1 || a->num_placements != 1 || e[0].engine_instance)
			return -EINVAL;
		return create_on_vm(file, a, e);
	}
	r = check_engines(x, a, e);
	return r < 0 ? r : create_on_vm(file, a, e);
}

/* ---- destroy ---- */

void emu_xe_queue_unref(struct emu_xe_queue *q)
{
	if (atomic_fetch_sub(&q->refs, 1) != 1)
		return;
	emu_queue_finish(&q->q);
	emu_lock();
	emu_list_del(&q->link);
	emu_unlock();
	if (q->class != EMU_XE_VM_BIND_CLASS)
		atomic_fetch_sub(&q->vm->n_queues, 1);
	emu_xe_vm_unref(q->vm);
	emu_free(q);
}

/* Running jobs are killed; a bind queue's binds are not: they run to their end. */
void emu_xe_queue_close(struct emu_xe_queue *q)
{
	struct emu_fence *last;

	if (q->class != EMU_XE_VM_BIND_CLASS) {
		emu_queue_kill(&q->q);
	} else {
		last = emu_queue_last(&q->q);
		if (last) {
			emu_fence_wait(last);
			emu_fence_unref(last);
		}
	}
	emu_xe_queue_unref(q);
}

/* A job whose results are there may still be on its way out. */
#define WAY_OUT_NS 50000000

static bool unfinished(struct emu_xe_queue *q)
{
	struct emu_fence *last;
	bool busy;

	if (q->class == EMU_XE_VM_BIND_CLASS || atomic_load(&q->banned))
		return false;
	last = emu_queue_last(&q->q);
	busy = last && !emu_fence_wait_until(last, emu_now_ns() + WAY_OUT_NS);
	emu_fence_unref(last);
	return busy;
}

int emu_xe_queue_destroy_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_exec_queue_destroy *a = arg;
	struct emu_xe_file *xf = file->priv;
	struct emu_xe_queue *q;

	if (a->pad || a->reserved[0] || a->reserved[1])
		return -EINVAL;
	emu_lock();
	q = emu_ids_remove(&xf->queues, a->exec_queue_id);
	emu_unlock();
	if (!q)
		return -ENOENT;
	if (unfinished(q))
		emu_strict("EXEC_QUEUE_DESTROY: queue %u has unfinished jobs", a->exec_queue_id);
	emu_xe_queue_close(q);
	return 0;
}

/* ---- properties ---- */

int emu_xe_queue_get_property_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_exec_queue_property *a = arg;
	struct emu_xe_queue *q;
	int r = 0;

	if (a->reserved[0] || a->reserved[1])
		return -EINVAL;
	if (a->extensions && emu.strict) {
		emu_strict("EXEC_QUEUE_GET_PROPERTY: extensions is not zero");
		return -EINVAL;
	}
	q = emu_xe_queue_get(file, a->exec_queue_id);
	if (!q)
		return -ENOENT;
	if (a->property)
		r = -EINVAL;
	else
		a->value = atomic_load(&q->banned);
	emu_xe_queue_unref(q);
	return r;
}

/* Property 5, the priority in a group of queues: no queue here is in one. */
int emu_xe_queue_set_property_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_exec_queue_property *a = arg;
	struct emu_xe_queue *q;

	if (a->reserved[0] || a->reserved[1] || a->property != 5)
		return -EINVAL;
	q = emu_xe_queue_get(file, a->exec_queue_id);
	if (!q)
		return -ENOENT;
	emu_xe_queue_unref(q);
	return -EINVAL;
}

/* ---- jobs ---- */

struct exec_job {
	struct emu_job job;
	struct emu_xe_queue *queue; /* held */
	uint32_t n_batches;
	uint64_t batch[MAX_WIDTH];
	bool write_fence;
	uint64_t fence_addr, fence_value;
};

void emu_xe_queue_ban(struct emu_xe_queue *q)
{
	atomic_store(&q->banned, true);
	emu_queue_kill(&q->q);
}

/* The engine met what it cannot pass: its queue is gone, by option all queues of the device. */
static void engine_reset(struct emu_xe_queue *q)
{
	struct emu_xe_device *x = emu_xe_dev(q->dev);

	if (!x->reset_all) {
		emu_xe_queue_ban(q);
		return;
	}
	emu_lock();
	emu_list_for_each(l, &x->queues)
	{
		struct emu_xe_queue *other = emu_list_entry(l, struct emu_xe_queue, link);

		if (other->class != EMU_XE_VM_BIND_CLASS)
			emu_xe_queue_ban(other);
	}
	emu_unlock();
}

static int hang(struct emu_xe_queue *q)
{
	struct emu_xe_device *x = emu_xe_dev(q->dev);

	/* Long-running work has no time limit: only the end of the queue ends it. */
	emu_queue_pause(&q->q, q->vm->mode == EMU_XE_DMA_FENCE ? emu_now_ns() + x->job_timeout_ns
							       : UINT64_MAX);
	if (q->q.stop || atomic_load(&q->q.killed))
		return -ECANCELED;
	emu_log(EMU_REPORT, "queue %u: job timed out", q->id);
	engine_reset(q);
	return -ETIME;
}

static int run_batches(struct exec_job *ej, uint64_t *ret_bad)
{
	int r = 0;

	for (uint32_t i = 0; i < ej->n_batches && r == 0; i++)
		r = emu_xe_batch(ej->queue, ej->batch[i], ret_bad);
	if (r == 0 && ej->write_fence)
		r = emu_xe_gpu_write(ej->queue, ej->fence_addr, &ej->fence_value, 8, ret_bad);
	return r;
}

static int exec_run(struct emu_job *job)
{
	struct exec_job *ej = emu_container_of(job, struct exec_job, job);
	struct emu_xe_queue *q = ej->queue;
	struct emu_xe_device *x = emu_xe_dev(q->dev);
	uint64_t bad = 0;
	int r;

	if (x->exec_delay_ns)
		emu_queue_pause(&q->q, emu_now_ns() + x->exec_delay_ns);
	if (atomic_fetch_add(&x->n_jobs, 1) + 1 == x->hang_at)
		return hang(q);
	r = run_batches(ej, &bad);
	if (r == -ETIME) {
		emu_log(EMU_REPORT, "queue %u: job timed out", q->id);
		engine_reset(q);
		return r;
	}
	if (r == -ECANCELED)
		return r;
	if (r < 0) {
		emu_log(EMU_REPORT, "queue %u: engine stopped at %#llx", q->id,
			(unsigned long long)bad);
		engine_reset(q);
		return -EIO;
	}
	return 0;
}

static void exec_release(struct emu_job *job)
{
	struct exec_job *ej = emu_container_of(job, struct exec_job, job);

	emu_free(ej);
}

/* How deep programs queue, for emu_ctl_most_jobs(). */
static void note_jobs(struct emu_xe_queue *q)
{
	uint64_t n = emu_queue_length(&q->q);
	uint64_t most = atomic_load(&q->dev->most_jobs);

	while (n > most && !atomic_compare_exchange_weak(&q->dev->most_jobs, &most, n))
		;
}

static int submit(struct emu_xe_queue *q, const struct emu_xe_exec *a, const uint64_t *batch,
		  struct emu_xe_syncs *syncs)
{
	const struct emu_xe_sync_entry *user = emu_xe_syncs_user(syncs);
	struct exec_job *ej = emu_alloc(sizeof(*ej));
	struct emu_fence *done = emu_fence_create();
	int r = -ENOMEM;

	if (!ej || !done)
		goto err;
	r = emu_xe_syncs_inputs(syncs, &ej->job.in, &ej->job.n_in);
	if (r < 0)
		goto err;
	ej->queue = q;
	ej->n_batches = a->num_batch_buffer;
	memcpy(ej->batch, batch, sizeof(ej->batch));
	if (user) {
		ej->write_fence = true;
		ej->fence_addr = user->addr;
		ej->fence_value = user->value;
	}
	ej->job.done = emu_fence_ref(done);
	ej->job.run = exec_run;
	ej->job.release = exec_release;
	emu_xe_syncs_publish(syncs, done);
	r = emu_queue_submit(&q->q, &ej->job);
	if (r < 0) {
		emu_fence_signal(done, r);
		emu_job_drop(&ej->job);
	} else {
		note_jobs(q);
	}
	emu_fence_unref(done);
	return r;

err:
	emu_fence_unref(done);
	emu_free(ej);
	return r;
}

/* ---- EXEC ---- */

static int load_batches(const struct emu_xe_exec *a, uint64_t *batch)
{
	if (a->num_batch_buffer <= 1) {
		batch[0] = a->address;
		return 0;
	}
	return emu_user_read(batch, a->address, a->num_batch_buffer * sizeof(*batch));
}

/* Nothing to run: the out-fences stand for the queue being idle. */
static int exec_nothing(struct emu_xe_queue *q, struct emu_xe_syncs *syncs)
{
	struct emu_fence *last;

	if (q->vm->mode != EMU_XE_DMA_FENCE)
		return 0;
	if (syncs->n_in)
		return -EOPNOTSUPP;
	last = emu_queue_last(&q->q);
	if (!last)
		return -ENOMEM;
	emu_xe_syncs_publish(syncs, last);
	emu_fence_unref(last);
	return 0;
}

static int exec_synced(struct emu_xe_queue *q, const struct emu_xe_exec *a, const uint64_t *batch,
		       struct emu_xe_syncs *syncs)
{
	struct emu_xe_vm *vm = q->vm;
	int r = 0;

	if (atomic_load(&vm->has_invalid) && vm->mode != EMU_XE_FAULTING) {
		emu_xe_vm_lock(vm);
		r = emu_xe_vm_repin(vm);
		emu_xe_vm_unlock(vm);
		if (r < 0)
			return r;
	}
	pthread_rwlock_rdlock(&vm->lock);
	if (vm->closed || atomic_load(&vm->banned))
		r = -ECANCELED;
	else if (!a->num_batch_buffer)
		r = exec_nothing(q, syncs);
	else
		r = submit(q, a, batch, syncs);
	pthread_rwlock_unlock(&vm->lock);
	return r;
}

static int exec_on(struct emu_file *file, struct emu_xe_queue *q, const struct emu_xe_exec *a)
{
	struct emu_xe_syncs syncs;
	uint64_t batch[MAX_WIDTH] = { 0 };
	int r;

	if (q->class == EMU_XE_VM_BIND_CLASS)
		return -EINVAL;
	if (a->num_batch_buffer && a->num_batch_buffer != q->width)
		return -EINVAL;
	if (atomic_load(&q->banned))
		return -ECANCELED;
	if (emu_queue_length(&q->q) >= MAX_OUTSTANDING)
		return -EAGAIN;
	r = emu_xe_syncs_parse(&syncs, file, a->syncs, a->num_syncs,
			       q->vm->mode != EMU_XE_DMA_FENCE, false);
	if (r < 0)
		return r;
	r = load_batches(a, batch);
	if (r == 0)
		r = exec_synced(q, a, batch, &syncs);
	emu_xe_syncs_finish(&syncs);
	return r;
}

int emu_xe_exec_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_exec *a = arg;
	struct emu_xe_queue *q;
	int r;

	if (a->extensions || a->pad[0] || a->pad[1] || a->pad[2] || a->reserved[0] ||
	    a->reserved[1] || a->num_syncs > EMU_XE_MAX_SYNCS)
		return -EINVAL;
	q = emu_xe_queue_get(file, a->exec_queue_id);
	if (!q)
		return -ENOENT;
	r = exec_on(file, q, a);
	emu_xe_queue_unref(q);
	return r;
}
