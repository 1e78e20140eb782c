/* SPDX-License-Identifier: MIT */
/* The public calls that give memory or work to a device: acquire, release, copy, fill, launch. */
#include "space.h"

#include <errno.h>
#include <libsvm/device.h>
#include <libsvm/soft.h>
#include <string.h>

/* An access of the application is a job. */
static struct svm_job *job_of(struct svm_access *access)
{
	return (struct svm_job *)access;
}

/* Who is to be handed memory, and how much of it has to be seen to. */
struct acquire {
	struct svm_device *device;
	bool leave_managed; /* the device's own touch of managed memory brings it */
	bool unmovable; /* what add_range() is to add now: pieces with memory that must not move, or all others */
	struct svm_job_range *out;
	size_t room;
	size_t n;
};

/* LOCKING: tree. Does a hint keep the device from part of the span? */
static bool is_forbidden(const struct svm_ctx *ctx, const struct svm_device *device, uint64_t start,
			 uint64_t end)
{
	const struct svm_hints *hints;

	while (start < end && (hints = svm_range_run(ctx, start, end, &start)) != NULL)
		if (hints->no_access >> device->id & 1u)
			return true;
	return false;
}

/* LOCKING: tree. Does a hint keep part of the span where it is? */
static bool is_unmovable(const struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	const struct svm_hints *hints;

	while (start < end && (hints = svm_range_run(ctx, start, end, &start)) != NULL)
		if (hints->migration == SVM_MIGRATE_NEVER)
			return true;
	return false;
}

/* The pieces of managed memory of one range. System memory is there for a native device, and for no other. */
static int add_range(struct acquire *acquire, const struct svm_access_range *range)
{
	struct svm_device *device = acquire->device;
	struct svm_ctx *ctx = device->ctx;
	struct svm_access_range copy = *range; /* before the lock: it may be managed memory */
	struct svm_job_range part = { .numa_node = -1,
				      .write = copy.access == SVM_ACCESS_WRITE,
				      .agent = device->native_only ? SVM_AGENT_CPU
								   : device->agent };
	bool native = svm_device_has(device, SVM_CAP_NATIVE);
	struct svm_piece piece;
	int r;

	if ((copy.access != SVM_ACCESS_READ && copy.access != SVM_ACCESS_WRITE) || copy.reserved)
		return -EINVAL;
	r = svm_space_span(copy.addr, copy.size, &part.start, &part.end);
	if (r == 0)
		svm_space_widen(ctx, &part.start, &part.end);
	if (r == 0 && native)
		r = svm_native_check(ctx, part.start, part.end);
	if (r < 0)
		return r;
	piece.end = part.start;
	svm_rwlock_read(&ctx->tree_lock);
	if (!native)
		r = svm_range_check(ctx, part.start, part.end);
	if (r == 0 && is_forbidden(ctx, device, part.start, part.end))
		r = -EACCES;
	while (piece.end < part.end && r == 0) {
		r = svm_range_piece(ctx, piece.end, part.end, &piece);
		if (r < 0 || piece.system || acquire->leave_managed ||
		    is_unmovable(ctx, piece.start, piece.end) != acquire->unmovable)
			continue;
		if (acquire->n < acquire->room) {
			acquire->out[acquire->n] = part;
			acquire->out[acquire->n].start = piece.start;
			acquire->out[acquire->n].end = piece.end;
		}
		acquire->n++;
	}
	svm_rwlock_unlock(&ctx->tree_lock);
	return r;
}

static int add_ranges(struct acquire *acquire, const struct svm_access_range *ranges,
		      size_t n_ranges)
{
	int r = 0;

	acquire->n = 0;
	/* What must not move may have to have its block changed, so that it can be mapped in place: before other pages of the
	 * block are held, which stand in the way. */
	for (unsigned int pass = 0; pass < 2; pass++) {
		acquire->unmovable = pass == 0;
		for (size_t i = 0; i < n_ranges && r == 0; i++)
			r = add_range(acquire, &ranges[i]);
	}
	return r;
}

/* A device that can fault needs no promise that pages stay: it asks again. */
static bool asks_again(const struct svm_device *device)
{
	return svm_device_has(device, device->native_only ? SVM_CAP_NATIVE_UFFD : SVM_CAP_FAULTS);
}

static int acquire(struct svm_device *device, const struct svm_access_range *ranges,
		   size_t n_ranges, uint32_t flags, bool for_work, struct svm_job **ret_job)
{
	struct acquire acquire = { .device = device,
				   .leave_managed = for_work && device->native_only &&
						    asks_again(device) };
	struct svm_job *job;
	int r;

	if (!ranges || n_ranges == 0 || (flags & ~SVM_ACQUIRE_TRY))
		return -EINVAL;
	/* A number that no array can have is refused before the array is read. */
	if (n_ranges > SIZE_MAX / sizeof(struct svm_job_range))
		return -EINVAL;
	if (svm_device_is_lost(device) || atomic_load(&device->no_work))
		return -ENODEV;
	r = add_ranges(&acquire, ranges, n_ranges);
	while (r == 0) {
		acquire.room = acquire.n;
		r = svm_job_new(device->ctx, device, SVM_CAUSE_ACQUIRE, acquire.room, &job);
		if (r < 0)
			return r;
		job->hold = !asks_again(device);
		job->request_flags = flags & SVM_ACQUIRE_TRY ? SVM_REQUEST_TRY : 0;
		acquire.out = job->ranges;
		r = add_ranges(&acquire, ranges, n_ranges);
		if (r == 0 && acquire.n <= acquire.room) {
			job->n_ranges = acquire.n;
			svm_job_start(job, NULL);
			*ret_job = job;
			return 0;
		}
		/* Memory came or went meanwhile: there are more pieces now. */
		svm_job_release(job, NULL);
	}
	return r;
}

int svm_acquire(struct svm_device *device, const struct svm_access_range *ranges, size_t n_ranges,
		uint32_t flags, struct svm_access **ret_access, struct svm_fence **ret_ready)
{
	struct svm_job *job;
	int r;

	if (!device || !ret_access)
		return -EINVAL;
	r = svm_ctx_check(device->ctx);
	if (r < 0)
		return r;
	/* Counted before the look at no_work: svm_device_close() does it in the other order. */
	atomic_fetch_add(&device->n_accesses, 1u);
	r = acquire(device, ranges, n_ranges, flags, false, &job);
	if (r < 0)
		goto err_count;
	if (!ret_ready) {
		(void)svm_job_wait(job, -1, &r);
		if (r < 0) {
			svm_job_release(job, NULL);
			r = r == -EAGAIN ? -EBUSY : r;
			goto err_count;
		}
	} else {
		svm_fence_get(job->ready);
		*ret_ready = svm_fence_hand_out(job->ready);
	}
	atomic_fetch_add(&device->ctx->n_open_jobs, 1u);
	job->counted = true;
	*ret_access = (struct svm_access *)job;
	return 0;

err_count:
	atomic_fetch_sub(&device->n_accesses, 1u);
	return r;
}

int svm_release(struct svm_access *access, struct svm_fence *done)
{
	struct svm_job *job = job_of(access);
	struct svm_ctx *ctx;
	int r;

	if (!access)
		return 0;
	ctx = job->ctx;
	r = svm_ctx_check(ctx);
	if (r < 0)
		return r;
	/* An acquire that is still under way has nothing that could be given back. */
	(void)svm_job_wait(job, -1, &r);
	svm_job_release(job, done);
	atomic_fetch_sub(&ctx->n_open_jobs, 1u);
	return 0;
}

enum work_kind { WORK_MEMORY, WORK_LAUNCH };

/* Work under way: waits for the caller's fence, then for its memory, then runs. */
struct work {
	struct svm_ctx *ctx;
	struct svm_device *device; /* as a user */
	struct svm_job *access;	   /* memory acquired for it, or NULL */
	struct svm_fence *done;
	struct svm_fence *wait;
	struct svm_fence_waiter waiter;
	struct svm_point_waiter point_waiter;
	int status; /* of the fence it waited for */
	enum work_kind kind;
	struct svm_work memory;
	void (*kernel)(const void *args, uint64_t index, uint64_t count);
	uint64_t n;
	size_t args_size;
	unsigned char args[SVM_SOFT_ARGS_SIZE];
};

static void work_end(struct work *work, int status)
{
	struct svm_fence *done = work->done;

	/* Memory first: whoever waits for the fence may touch it at once. */
	if (work->access)
		svm_job_release(work->access, NULL);
	if (work->kind == WORK_MEMORY)
		svm_device_end_work(work->device);
	svm_device_put(work->device);
	svm_arena_unmap(work, sizeof(*work));
	svm_fence_complete(done, status);
	svm_fence_put(done);
}

static void work_submit(struct work *work);

static void work_reached(struct svm_point_waiter *waiter)
{
	work_end(waiter->data, waiter->status);
}

static void work_queue_has_room(struct svm_point_waiter *waiter)
{
	if (waiter->status < 0)
		work_end(waiter->data, waiter->status);
	else
		work_submit(waiter->data);
}

static void work_submit(struct work *work)
{
	struct svm_device *device = work->device;
	struct svm_point point;
	int r;

	work->point_waiter.data = work;
	for (;;) {
		if (work->kind == WORK_MEMORY)
			r = svm_device_work(device, &work->memory, &point);
		else
			r = svm_device_launch(device, work->kernel, work->args, work->args_size,
					      work->n, &point);
		if (r != -EAGAIN)
			break;
		work->point_waiter.fn = work_queue_has_room;
		if (!svm_device_wait_room(device, &point, &work->point_waiter))
			return;
		if (work->point_waiter.status < 0) {
			r = work->point_waiter.status;
			break;
		}
	}
	if (r < 0) {
		work_end(work, r);
		return;
	}
	work->point_waiter.fn = work_reached;
	if (svm_device_wait(device, &point, &work->point_waiter))
		work_end(work, work->point_waiter.status);
}

static void work_acquired(struct svm_fence_waiter *waiter, int status)
{
	struct work *work = svm_container_of(waiter, struct work, waiter);

	if (work->status < 0)
		status = work->status;
	if (status < 0)
		work_end(work, status);
	else
		work_submit(work);
}

static void work_ready(struct svm_fence_waiter *waiter, int status)
{
	struct work *work = svm_container_of(waiter, struct work, waiter);

	if (work->wait)
		svm_fence_put(work->wait);
	work->wait = NULL;
	work->status = status;
	if (!work->access) {
		work_acquired(waiter, 0);
		return;
	}
	/* Also after a failure: memory can be given back only when all of it is there. */
	work->waiter.fn = work_acquired;
	if (svm_fence_add_waiter(work->access->ready, &work->waiter, &status))
		work_acquired(&work->waiter, status);
}

/* Run it after wait; the caller gets its end in *ret_done, or waits for it. */
static int work_start(struct work *work, struct svm_fence *wait, struct svm_fence **ret_done)
{
	struct svm_fence *done = work->done;
	int status = 0;
	int r;

	svm_fence_get(done);
	work->wait = wait;
	work->waiter.fn = work_ready;
	if (wait)
		svm_fence_get(wait);
	if (!wait || svm_fence_add_waiter(wait, &work->waiter, &status))
		work_ready(&work->waiter, status);
	if (ret_done) {
		*ret_done = svm_fence_hand_out(done);
		return 0;
	}
	(void)svm_fence_block(done, -1, &r);
	svm_fence_put(done);
	return r;
}

static int work_new(struct svm_device *device, enum work_kind kind, struct work **ret_work)
{
	struct work *work = svm_arena_map(sizeof(*work));

	if (!work)
		return -ENOMEM;
	work->done = svm_fence_new(device->ctx);
	if (!work->done) {
		svm_arena_unmap(work, sizeof(*work));
		return -ENOMEM;
	}
	work->ctx = device->ctx;
	work->device = device;
	work->kind = kind;
	svm_device_get(device);
	*ret_work = work;
	return 0;
}

static void work_drop(struct work *work)
{
	svm_fence_put(work->done);
	svm_device_put(work->device);
	svm_arena_unmap(work, sizeof(*work));
}

static int memory_work(struct svm_device *device, const struct svm_work *memory,
		       const struct svm_access_range *ranges, size_t n_ranges,
		       struct svm_fence *wait, struct svm_fence **ret_done)
{
	struct work *work;
	int r = svm_ctx_check(device->ctx);

	if (r < 0)
		return r;
	if (!svm_device_has(device, SVM_CAP_WORK))
		return -EOPNOTSUPP;
	r = work_new(device, WORK_MEMORY, &work);
	if (r < 0)
		return r;
	work->memory = *memory;
	/* Counted before the look at no_work: svm_device_close() does it in the other order. */
	svm_device_begin_work(device);
	r = acquire(device, ranges, n_ranges, 0, true, &work->access);
	if (r < 0) {
		svm_device_end_work(device);
		work_drop(work);
		return r;
	}
	return work_start(work, wait, ret_done);
}

int svm_device_copy(struct svm_device *device, void *dst, const void *src, uint64_t size,
		    struct svm_fence *wait, struct svm_fence **ret_done)
{
	struct svm_access_range ranges[2] = {
		{ .addr = (void *)src, .size = size, .access = SVM_ACCESS_READ },
		{ .addr = dst, .size = size, .access = SVM_ACCESS_WRITE },
	};
	struct svm_work work = { .dst = svm_addr(dst), .src = svm_addr(src), .size = size };
	uint64_t distance = work.dst > work.src ? work.dst - work.src : work.src - work.dst;

	if (!device || distance < size)
		return -EINVAL;
	return memory_work(device, &work, ranges, 2, wait, ret_done);
}

int svm_device_fill(struct svm_device *device, void *dst, uint8_t value, uint64_t size,
		    struct svm_fence *wait, struct svm_fence **ret_done)
{
	struct svm_access_range range = { .addr = dst, .size = size, .access = SVM_ACCESS_WRITE };
	struct svm_work work = { .dst = svm_addr(dst), .size = size, .is_fill = 1, .value = value };

	if (!device)
		return -EINVAL;
	return memory_work(device, &work, &range, 1, wait, ret_done);
}

int svm_soft_launch(struct svm_device *device,
		    void (*kernel)(const void *args, uint64_t index, uint64_t count),
		    const void *args, size_t args_size, uint64_t n, struct svm_fence *wait,
		    struct svm_fence **ret_done)
{
	struct work *work;
	int r;

	if (!device || !kernel || n == 0 || args_size > SVM_SOFT_ARGS_SIZE || (args_size && !args))
		return -EINVAL;
	r = svm_ctx_check(device->ctx);
	if (r < 0)
		return r;
	if (!svm_device_has(device, SVM_CAP_LAUNCH))
		return -EOPNOTSUPP;
	if (svm_device_is_lost(device) || atomic_load(&device->no_work))
		return -ENODEV;
	r = work_new(device, WORK_LAUNCH, &work);
	if (r < 0)
		return r;
	work->kernel = kernel;
	work->n = n;
	work->args_size = args_size;
	if (args_size)
		memcpy(work->args, args, args_size);
	return work_start(work, wait, ret_done);
}

int svm_soft_kill(struct svm_device *device)
{
	int r;

	if (!device)
		return -EINVAL;
	r = svm_ctx_check(device->ctx);
	if (r < 0)
		return r;
	if (strcmp(device->ops.name, "soft") != 0)
		return -EOPNOTSUPP;
	svm_device_lose(device, -ENODEV);
	return 0;
}
