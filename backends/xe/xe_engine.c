// SPDX-License-Identifier: MIT
/*
 * An engine: requests go into a ring; up to SVM_XE_IN_FLIGHT batches of them run at a time, and what
 * arrives meanwhile makes the next batch, so a lone request starts at once and a stream goes in few ioctls.
 *
 * A batch of number seq is three steps: host memory is mapped (a bind that signals map_point), the commands
 * run (a job that waits for map_point and signals point 2 seq - 1 of the timeline), host memory is unmapped
 * (a bind that waits for 2 seq - 1 and signals 2 seq). Without host memory the job itself signals 2 seq.
 * A signalled point does not say that the job succeeded: its last command stores seq, which does.
 */
#include "xe_internal.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* How long a job that was told to end may take: above the kernel's own limits for resets. */
#define STOP_NS	  UINT64_C(10000000000)
#define HUGE_PAGE UINT64_C(0x200000)

struct build {
	uint64_t head;
	uint64_t head_done;
	uint64_t bytes;
	uint64_t cursor; /* next free address for host memory */
	uint64_t window_end;
	uint32_t n_requests;
	uint32_t n_ops;
	uint32_t n_dwords;
};

static uint64_t *status_of(const struct svm_xe_engine *e)
{
	return (uint64_t *)((uint8_t *)e->cmds.map + SVM_XE_IN_FLIGHT * SVM_XE_BATCH_SIZE);
}

uint64_t *svm_xe_engine_word(const struct svm_xe_engine *e)
{
	return status_of(e) + 1;
}

static uint64_t status_va(const struct svm_xe_engine *e)
{
	return e->cmds_va + SVM_XE_IN_FLIGHT * SVM_XE_BATCH_SIZE;
}

static uint64_t host_window(uint64_t seq)
{
	return SVM_XE_COPY_HOST_VA + seq % SVM_XE_IN_FLIGHT * SVM_XE_COPY_HOST_SIZE;
}

/* ---- Building a batch ------------------------------------------------------------------------- */

/* Give host memory an address in the VM: one where large pages stay large. False: no room left. */
static bool place_host(struct svm_xe_engine *e, struct build *b, uint64_t host, uint64_t size,
		       bool write, uint64_t *ret_va)
{
	uint64_t va = b->cursor;

	if (size >= HUGE_PAGE / 2)
		va += (host - va) % HUGE_PAGE;
	if (b->n_ops == SVM_XE_BATCH_OPS || va + size > b->window_end)
		return false;
	e->ops[b->n_ops++] = (struct svm_xe_bind_op){
		.op = SVM_XE_BIND_MAP_USERPTR,
		.flags = write ? 0 : SVM_XE_BIND_READONLY,
		.pat_index = e->dev->info.pat,
		.userptr = host,
		.addr = va,
		.range = size,
	};
	b->cursor = va + size;
	*ret_va = va;
	return true;
}

/* The next command, of the request at head. False: the batch is full. */
static bool build_one(struct svm_xe_engine *e, struct build *b, uint32_t *dw)
{
	const struct svm_xe_request *r = &e->ring[b->head % SVM_XE_REQUESTS];
	const struct svm_xe_blitter *blitter = &e->dev->info.blitter;
	struct build before = *b;
	uint64_t dst = r->dst + b->head_done;
	uint64_t src = r->src + b->head_done;
	uint64_t left = r->size - b->head_done;
	uint64_t done;

	if (r->flags & SVM_XE_REQUEST_HOST_SRC && !place_host(e, b, src, left, false, &src))
		return false;
	if (r->flags & SVM_XE_REQUEST_HOST_DST && !place_host(e, b, dst, left, true, &dst)) {
		*b = before;
		return false;
	}
	if (r->flags & SVM_XE_REQUEST_FILL)
		b->n_dwords += svm_xe_cmd_fill(
			blitter, dw + b->n_dwords, dst, left, (uint8_t)r->value,
			r->flags & SVM_XE_REQUEST_HOST_DST || e->dev->caching == SVM_XE_CACHING_WB,
			&done);
	else
		b->n_dwords += svm_xe_cmd_copy(blitter, dw + b->n_dwords, dst, src, left, &done);
	b->bytes += done;
	b->head_done += done;
	if (b->head_done == r->size) {
		b->head++;
		b->head_done = 0;
		b->n_requests++;
	}
	return true;
}

/* LOCKING: e->lock. Commands of up to max_requests into the place of batch seq. */
static void build(struct svm_xe_engine *e, uint64_t seq, uint32_t max_requests, struct build *b)
{
	uint32_t *dw =
		(uint32_t *)((uint8_t *)e->cmds.map + seq % SVM_XE_IN_FLIGHT * SVM_XE_BATCH_SIZE);
	uint32_t room = SVM_XE_BATCH_SIZE / sizeof(*dw) - SVM_XE_CMD_MAX - SVM_XE_CMD_END;

	*b = (struct build){
		.head = e->head,
		.head_done = e->head_done,
		.cursor = host_window(seq),
		.window_end = host_window(seq) + SVM_XE_COPY_HOST_SIZE,
	};
	while (b->head < e->tail && b->n_requests < max_requests && b->n_dwords <= room &&
	       b->bytes < SVM_XE_BATCH_BYTES) {
		if (!build_one(e, b, dw))
			break;
	}
	b->n_dwords += svm_xe_cmd_end(dw + b->n_dwords, status_va(e), seq);
}

/* ---- Running a batch -------------------------------------------------------------------------- */

static int map_host(struct svm_xe_engine *e, uint32_t n_ops, bool sure)
{
	struct svm_xe_sync out = svm_xe_sync_signal(e->map_syncobj, e->map_point + 1);
	int ret;

	if (n_ops == 0)
		return 0;
	ret = svm_xe_vm_bind(e->dev, e->vm, e->map_queue, e->ops, n_ops, NULL, &out, sure);
	if (ret == 0)
		e->map_point++;
	return ret;
}

static int unmap_host(struct svm_xe_engine *e, uint64_t seq, uint64_t end,
		      const struct svm_xe_sync *in, const struct svm_xe_sync *out)
{
	struct svm_xe_bind_op op = {
		.op = SVM_XE_BIND_UNMAP,
		.pat_index = e->dev->info.pat,
		.addr = host_window(seq),
		.range = end - host_window(seq),
	};

	return svm_xe_vm_bind(e->dev, e->vm, e->unmap_queue, &op, 1, in, out, true);
}

static int run_job(struct svm_xe_engine *e, uint64_t seq, uint64_t point)
{
	struct svm_xe_sync syncs[2];
	struct svm_xe_exec arg = {
		.exec_queue_id = e->queue,
		.syncs = (uintptr_t)syncs,
		.address = e->cmds_va + seq % SVM_XE_IN_FLIGHT * SVM_XE_BATCH_SIZE,
		.n_batches = 1,
	};

	if (e->map_point)
		syncs[arg.n_syncs++] = svm_xe_sync_wait(e->map_syncobj, e->map_point);
	syncs[arg.n_syncs] = svm_xe_sync_point(e->dev, e->timeline, point);
	/* The fence of a bind is at an address of the CPU, that of a job at one of the VM. */
	if (syncs[arg.n_syncs].type == SVM_XE_SYNC_USER_FENCE)
		syncs[arg.n_syncs].addr = status_va(e) + sizeof(uint64_t);
	arg.n_syncs++;

	/* The engine reads what was written before the ioctl. */
	atomic_thread_fence(memory_order_seq_cst);
	return svm_drm_ioctl_sure(e->dev->fd, SVM_XE_EXEC, &arg);
}

/* LOCKING: e->lock. The job is batch seq, and ends at the point. */
static void job_started(struct svm_xe_engine *e, uint64_t seq, const struct build *b,
			uint64_t point)
{
	e->last_point = point;
	e->batches[seq % SVM_XE_IN_FLIGHT] = (struct svm_xe_batch){ .end = b->head, .seq = seq };
	e->seq = seq;
	e->head = b->head;
	e->head_done = b->head_done;
	svm_xe_follow(e->dev, e->timeline, point);
}

/* LOCKING: e->lock. */
static void job_failed(struct svm_xe_engine *e, int ret, const char *what)
{
	if (!svm_xe_is_loss(e->dev, ret, what))
		svm_xe_lose(e->dev, -EIO, what);
	svm_xe_follow(e->dev, e->timeline, e->last_point);
}

/* LOCKING: e->lock. Commands are written and host memory is mapped: nothing may stop it now but the end of the device. */
static int run(struct svm_xe_engine *e, uint64_t seq, const struct build *b)
{
	uint32_t syncobj = e->dev->timelines[e->timeline].syncobj;
	struct svm_xe_sync in = svm_xe_sync_wait(syncobj, 2 * seq - 1);
	struct svm_xe_sync out = svm_xe_sync_signal(syncobj, 2 * seq);
	const char *what = "EXEC";
	int ret;

	ret = run_job(e, seq, b->n_ops ? 2 * seq - 1 : 2 * seq);
	if (ret == 0)
		e->last_point = b->n_ops ? 2 * seq - 1 : 2 * seq;
	if (ret == 0 && b->n_ops) {
		what = "VM_BIND";
		ret = unmap_host(e, seq, b->cursor, &in, &out);
	}
	if (ret < 0) {
		/* Host memory stays mapped: only the end of the VM is sure to take it away. The job may run. */
		job_failed(e, ret, what);
		return ret;
	}
	job_started(e, seq, b, 2 * seq);
	return 0;
}

/* LOCKING: e->lock. The kernel cannot map this one request's host memory. */
static int run_by_cpu(struct svm_xe_engine *e, int why)
{
	int ret;

	/* In order: after what is under way, which will lead here again. */
	if (e->seq != e->n_retired)
		return -EBUSY;
	ret = svm_xe_copy_by_cpu(e->dev, &e->ring[e->head % SVM_XE_REQUESTS]);
	if (ret < 0) {
		svm_xe_log(e->dev, SVM_LOG_ERROR,
			   "host memory of a copy cannot be mapped (error %d)", -why);
		svm_xe_lose(e->dev, -EIO, "copy");
		return ret;
	}
	e->head++;
	atomic_store(&e->dev->timelines[e->timeline].done, e->head);
	/* No fence tells the core: this does. */
	svm_xe_raise(e->dev);
	return 0;
}

/* LOCKING: e->lock. */
static int start(struct svm_xe_engine *e)
{
	uint64_t seq = e->seq + 1;
	uint32_t max = UINT32_MAX;
	struct build b;

	for (;;) {
		int ret;

		build(e, seq, max, &b);
		/* A batch of many can be made smaller. */
		ret = map_host(e, b.n_ops, b.n_requests <= 1);
		if (ret == 0)
			return run(e, seq, &b);
		if (svm_xe_is_loss(e->dev, ret, "VM_BIND"))
			return ret;
		if (b.n_requests <= 1)
			return run_by_cpu(e, ret);
		max = b.n_requests / 2;
	}
}

/* LOCKING: e->lock. */
static bool may_start(const struct svm_xe_engine *e)
{
	return !e->is_stopped && e->head < e->tail && e->seq - e->n_retired < SVM_XE_IN_FLIGHT &&
	       !atomic_load(&e->dev->is_lost);
}

/* LOCKING: e->lock. */
static void pump(struct svm_xe_engine *e)
{
	if (e->is_handed && may_start(e))
		svm_xe_submit_work(e->dev);
	while (!e->is_handed && may_start(e)) {
		if (start(e) < 0)
			break;
	}
}

/* EXEC may wait for the VM's lock: not under e->lock, which the service path takes. Work maps no host memory. */
void svm_xe_engine_run(struct svm_xe_engine *e)
{
	pthread_mutex_lock(&e->lock);
	while (may_start(e)) {
		uint64_t seq = e->seq + 1;
		struct build b;
		int ret;

		build(e, seq, UINT32_MAX, &b);
		e->is_starting = true;
		pthread_mutex_unlock(&e->lock);
		ret = run_job(e, seq, 2 * seq);
		pthread_mutex_lock(&e->lock);
		e->is_starting = false;
		pthread_cond_broadcast(&e->started);
		if (ret < 0) {
			job_failed(e, ret, "EXEC");
			break;
		}
		job_started(e, seq, &b, 2 * seq);
		/* Whoever saw it end before it was known here did not retire it. */
		svm_xe_raise(e->dev);
	}
	pthread_mutex_unlock(&e->lock);
}

/* ---- Interface -------------------------------------------------------------------------------- */

int svm_xe_engine_add(struct svm_xe_engine *e, const struct svm_xe_request *requests, size_t n,
		      uint64_t *ret_value)
{
	uint64_t done;
	int ret = 0;

	pthread_mutex_lock(&e->lock);
	done = atomic_load(&e->dev->timelines[e->timeline].done);
	if (n > SVM_XE_REQUESTS - (e->tail - done))
		ret = -EAGAIN;
	for (size_t i = 0; ret == 0 && i < n; i++)
		e->ring[e->tail++ % SVM_XE_REQUESTS] = requests[i];
	*ret_value = e->tail;
	if (ret == 0)
		pump(e);
	pthread_mutex_unlock(&e->lock);
	return ret;
}

void svm_xe_engine_advance(struct svm_xe_engine *e, uint64_t point)
{
	pthread_mutex_lock(&e->lock);
	while (e->n_retired < e->seq && point >= 2 * (e->n_retired + 1)) {
		const struct svm_xe_batch *batch =
			&e->batches[(e->n_retired + 1) % SVM_XE_IN_FLIGHT];

		if (__atomic_load_n(status_of(e), __ATOMIC_ACQUIRE) < batch->seq) {
			svm_xe_lose(e->dev, -EIO,
				    "a job did not reach its end, its queue is banned");
			break;
		}
		atomic_store(&e->dev->timelines[e->timeline].done, batch->end);
		e->n_retired++;
	}
	pump(e);
	pthread_mutex_unlock(&e->lock);
}

bool svm_xe_engine_is_idle(struct svm_xe_engine *e, uint64_t point)
{
	bool idle;

	pthread_mutex_lock(&e->lock);
	idle = point >= e->last_point ||
	       atomic_load(&e->dev->timelines[e->timeline].word.is_broken);
	pthread_mutex_unlock(&e->lock);
	return idle;
}

int svm_xe_engine_bind(struct svm_xe_engine *e, struct svm_xe_bind_op *op)
{
	struct svm_xe_sync out;
	int ret;

	pthread_mutex_lock(&e->lock);
	out = svm_xe_sync_signal(e->map_syncobj, e->map_point + 1);
	ret = svm_xe_vm_bind(e->dev, e->vm, e->map_queue, op, 1, NULL, &out, true);
	if (ret == 0)
		e->map_point++;
	pthread_mutex_unlock(&e->lock);
	return ret;
}

/* ---- Life ------------------------------------------------------------------------------------- */

static int init_buffers(struct svm_xe_engine *e)
{
	struct svm_xe_bind_op op = { .op = SVM_XE_BIND_MAP,
				     .pat_index = e->dev->info.pat,
				     .addr = e->cmds_va };
	int ret;

	e->ring = svm_xe_map_anonymous(SVM_XE_REQUESTS * sizeof(*e->ring));
	e->ops = svm_xe_map_anonymous(SVM_XE_BATCH_OPS * sizeof(*e->ops));
	if (!e->ring || !e->ops)
		return -ENOMEM;
	/* System memory: the CPU reads what the engine stores. */
	ret = svm_xe_buffer_create(e->dev, SVM_XE_CMDS_SIZE, 1, SVM_XE_CACHING_WB, 0, &e->cmds);
	if (ret == 0)
		ret = svm_xe_buffer_map(e->dev, &e->cmds);
	if (ret < 0)
		return ret;
	op.obj = e->cmds.handle;
	op.range = e->cmds.size;
	if (e->timeline == SVM_TIMELINE_COPY)
		return svm_xe_engine_bind(e, &op);
	/* In the shared VM at an address that no other memory has: the CPU's. */
	e->cmds_va = (uintptr_t)e->cmds.map;
	op.addr = e->cmds_va;
	/* Even if the wait fails. */
	e->is_bound = true;
	ret = svm_xe_vm_change(e->dev, &op);
	if (ret == 0 && e->dev->mode != SVM_XE_MODE_JOBS)
		ret = svm_xe_word_start(e->dev, &e->dev->timelines[e->timeline].word,
					svm_xe_engine_word(e), e->queue);
	return ret;
}

static int init_queues(struct svm_xe_engine *e)
{
	static const struct svm_xe_engine_instance binder = { .engine_class =
								      SVM_XE_ENGINE_VM_BIND };
	int ret = svm_xe_queue_create(e->dev, e->vm, &e->dev->info.copy, &e->queue);

	/* Only copies map host memory. */
	if (ret < 0 || e->timeline != SVM_TIMELINE_COPY)
		return ret;
	ret = svm_xe_queue_create(e->dev, e->vm, &binder, &e->map_queue);
	return ret < 0 ? ret : svm_xe_queue_create(e->dev, e->vm, &binder, &e->unmap_queue);
}

int svm_xe_engine_init(struct svm_xe_device *dev, struct svm_xe_engine *e,
		       enum svm_timeline timeline, uint32_t vm, uint64_t cmds_va)
{
	int ret;

	e->dev = dev;
	e->timeline = timeline;
	e->vm = vm;
	e->cmds_va = cmds_va;
	ret = pthread_mutex_init(&e->lock, NULL);
	if (ret)
		return -ret;
	ret = pthread_cond_init(&e->started, NULL);
	if (ret) {
		pthread_mutex_destroy(&e->lock);
		return -ret;
	}
	e->has_lock = true;
	e->is_handed = timeline == SVM_TIMELINE_WORK && dev->submitter.has_thread;
	ret = timeline == SVM_TIMELINE_COPY ? svm_drm_syncobj_create(dev->fd, &e->map_syncobj) : 0;
	if (ret == 0)
		ret = init_queues(e);
	return ret < 0 ? ret : init_buffers(e);
}

void svm_xe_engine_stop(struct svm_xe_engine *e, uint64_t patience_ns)
{
	uint64_t point;

	if (!e->has_lock)
		return;
	pthread_mutex_lock(&e->lock);
	e->is_stopped = true;
	while (e->is_starting)
		pthread_cond_wait(&e->started, &e->lock);
	point = e->last_point;
	pthread_mutex_unlock(&e->lock);
	if (point && patience_ns)
		(void)svm_xe_timeline_wait(e->dev, e->timeline, point, patience_ns);
	svm_xe_queue_destroy(e->dev, &e->queue);
	/* A killed job writes no user fence. */
	if (!e->dev->timelines[e->timeline].syncobj)
		return;
	/* It signals once it is off the engine. A device that is gone runs none. */
	if (point && svm_xe_timeline_wait(e->dev, e->timeline, point, STOP_NS) == -ETIME)
		svm_xe_log(e->dev, SVM_LOG_ERROR, "a job does not end");
}

void svm_xe_engine_finish(struct svm_xe_engine *e)
{
	if (!e->has_lock)
		return;
	svm_xe_queue_destroy(e->dev, &e->map_queue);
	svm_xe_queue_destroy(e->dev, &e->unmap_queue);
	svm_xe_word_stop(&e->dev->timelines[e->timeline].word);
	if (e->map_syncobj)
		svm_drm_syncobj_destroy(e->dev->fd, e->map_syncobj);
	svm_xe_buffer_destroy(e->dev, &e->cmds);
	if (e->ring)
		(void)munmap(e->ring, SVM_XE_REQUESTS * sizeof(*e->ring));
	if (e->ops)
		(void)munmap(e->ops, SVM_XE_BATCH_OPS * sizeof(*e->ops));
	pthread_cond_destroy(&e->started);
	pthread_mutex_destroy(&e->lock);
	e->has_lock = false;
}
