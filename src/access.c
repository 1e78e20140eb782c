/* SPDX-License-Identifier: MIT */
#include "access.h"

#include "native.h"
#include <errno.h>

int svm_job_new(struct svm_ctx *ctx, struct svm_device *device, enum svm_cause cause,
		size_t n_ranges, struct svm_job **ret_job)
{
	struct svm_job *job;
	size_t size;

	if (n_ranges > (SIZE_MAX - sizeof(*job)) / sizeof(job->ranges[0]))
		return -EINVAL;
	size = sizeof(*job) + n_ranges * sizeof(job->ranges[0]);
	job = svm_arena_map(size);
	if (!job)
		return -ENOMEM;
	job->ready = svm_fence_new(ctx);
	if (!job->ready) {
		svm_arena_unmap(job, size);
		return -ENOMEM;
	}
	svm_arena_account(&ctx->arena, (int64_t)size);
	job->ctx = ctx;
	job->device = device;
	if (device)
		svm_device_get(device);
	job->cause = cause;
	job->map_size = size;
	job->n_ranges = n_ranges;
	job->n_given = n_ranges;
	job->ranges = (struct svm_job_range *)(job + 1);
	for (size_t i = 0; i < n_ranges; i++) {
		job->ranges[i].numa_node = -1;
		job->ranges[i].part_of = i;
	}
	svm_lock_init(&job->lock, SVM_RANK_ACCESS);
	svm_list_init(&job->holds);
	*ret_job = job;
	return 0;
}

static void job_delete(struct svm_job *job)
{
	struct svm_ctx *ctx = job->ctx;

	if (job->device)
		svm_device_put(job->device);
	svm_fence_put(job->ready);
	svm_lock_finish(&job->lock);
	svm_arena_account(&ctx->arena, -(int64_t)job->map_size);
	svm_arena_unmap(job, job->map_size);
}

static void pump(struct svm_job *job, uint32_t n_ended);

static uint64_t bytes_in(const struct svm_mask *pages)
{
	return (uint64_t)svm_mask_count(pages) << SVM_PAGE_SHIFT;
}

/* Pages of a range within the block at base. */
static void pages_within(const struct svm_job_range *range, uint64_t base, struct svm_mask *ret)
{
	uint64_t start = svm_max_u64(range->start, base);
	uint64_t end = svm_min_u64(range->end, base + SVM_BLOCK_SIZE);

	svm_mask_zero(ret);
	svm_mask_set_range(ret, (unsigned int)((start - base) >> SVM_PAGE_SHIFT),
			   (unsigned int)((end - start) >> SVM_PAGE_SHIFT));
}

/* LOCKING: job->lock. Add up what became of one range's part of a block. */
static void account_range(struct svm_job_range *range, const struct svm_job_slot *slot)
{
	struct svm_prefetch_result *result = &range->result;
	const struct svm_request *request = &slot->request;
	struct svm_mask rest;
	struct svm_mask moved;
	int status = request->status;

	pages_within(range, slot->base, &rest);
	svm_mask_and(&rest, &request->pages);
	moved = request->moved;
	svm_mask_and(&moved, &rest);
	svm_mask_andnot(&rest, &moved);
	result->bytes_moved += bytes_in(&moved);
	if (status == -EBUSY) {
		/* In the way is what somebody holds, or has pinned for DMA. */
		result->skipped_pinned += bytes_in(&rest);
		result->outcome = (struct svm_outcome){ SVM_DEGRADED, SVM_REASON_PINNED };
		status = 0;
	} else if (status < 0) {
		result->failed += bytes_in(&rest);
		result->outcome.status = SVM_DEGRADED;
		if (status == -ENOSPC || status == -ENOMEM)
			result->outcome.reason = SVM_REASON_NO_MEMORY;
	} else {
		struct svm_mask skipped = request->skipped;

		svm_mask_and(&skipped, &rest);
		svm_mask_andnot(&rest, &skipped);
		result->skipped_pinned += bytes_in(&skipped);
		result->already_there += bytes_in(&rest);
		if (!svm_mask_empty(&skipped))
			result->outcome = (struct svm_outcome){ SVM_DEGRADED, SVM_REASON_PINNED };
	}
	if (status < 0 && !result->error)
		result->error = status;
}

/* LOCKING: job->lock. Add up what became of one block's part. */
static void account(struct svm_job *job, const struct svm_job_slot *slot)
{
	for (size_t i = 0; i < slot->n_ranges; i++)
		account_range(&slot->range[i], slot);
	job->bytes_done += bytes_in(&slot->request.pages);
	if (slot->request.status < 0 && !job->error)
		job->error = slot->request.status;
}

/* Device memory is full of what may not leave: the rest of the acquired memory can be used in place. */
static bool fall_back_to_host(struct svm_job_slot *slot)
{
	const struct svm_job *job = slot->job;
	struct svm_request *request = &slot->request;

	return request->status == -ENOSPC && job->cause == SVM_CAUSE_ACQUIRE && job->device &&
	       svm_device_has(job->device, SVM_CAP_HOST_ALIAS) &&
	       !(request->flags & SVM_REQUEST_TO_HOST) && !request->block->host.registered;
}

static void slot_done(struct svm_request *request)
{
	struct svm_job_slot *slot = request->data;
	struct svm_job *job = slot->job;
	struct svm_hold *unused = NULL;

	if (fall_back_to_host(slot)) {
		struct svm_block *block = request->block;

		svm_rwlock_read(&job->ctx->tree_lock);
		request->flags |= SVM_REQUEST_TO_HOST;
		request->status = 0;
		svm_request_queue(request);
		svm_rwlock_unlock(&job->ctx->tree_lock);
		svm_block_run(block);
		return;
	}
	svm_lock(&job->lock);
	account(job, slot);
	if (slot->hold && request->status == 0)
		svm_list_add_tail(&job->holds, &slot->hold->owned);
	else
		unused = slot->hold;
	slot->used = false;
	svm_unlock(&job->lock);
	svm_pool_put(&job->ctx->hold_pool, unused);
	pump(job, 1);
}

/* LOCKING: job->lock. Small ranges that come one after the other and lie in one block make one request: a transition
 * costs the same for one page and for all. Not where holds are made, which are counted by range, nor where pages
 * are asked for twice: the second time they are there already. Registrations that share a block of addresses have
 * each a block of their own. */
static void add_neighbours(struct svm_job *job, struct svm_job_slot *slot)
{
	const struct svm_host *host = &job->ctx->host;

	if (slot->base - host->window_base >= host->window_size)
		return;
	while (job->cause == SVM_CAUSE_PREFETCH && job->next_addr == 0 &&
	       job->next_range < job->n_ranges) {
		const struct svm_job_range *range = &job->ranges[job->next_range];
		uint64_t block_end = slot->base + SVM_BLOCK_SIZE;
		struct svm_mask pages;

		if (range->system || range->agent != slot->range->agent ||
		    range->write != slot->range->write ||
		    range->numa_node != slot->range->numa_node || range->start < slot->base ||
		    range->start >= block_end)
			return;
		pages_within(range, slot->base, &pages);
		if (svm_mask_intersects(&pages, &slot->request.pages))
			return;
		svm_mask_or(&slot->request.pages, &pages);
		slot->n_ranges++;
		if (range->end <= block_end)
			job->next_range++;
		else
			job->next_addr = block_end;
	}
}

/* LOCKING: job->lock. The next piece of the walk, put into a slot; NULL: none, or no slot. */
static struct svm_job_slot *next_piece(struct svm_job *job)
{
	struct svm_job_slot *slot = NULL;
	struct svm_job_range *range;
	uint64_t start;
	uint64_t end;

	while (job->next_range < job->n_ranges && job->ranges[job->next_range].system)
		job->next_range++;
	if (job->next_range == job->n_ranges || (job->error && job->cause != SVM_CAUSE_PREFETCH) ||
	    job->cancelled)
		return NULL;
	for (size_t i = 0; i < SVM_JOB_SLOTS && !slot; i++)
		if (!job->slots[i].used)
			slot = &job->slots[i];
	if (!slot)
		return NULL;
	range = &job->ranges[job->next_range];
	start = svm_max_u64(job->next_addr, range->start);
	end = svm_min_u64(svm_align_down(start, SVM_BLOCK_SIZE) + SVM_BLOCK_SIZE, range->end);
	if (end == range->end) {
		job->next_range++;
		job->next_addr = 0;
	} else {
		job->next_addr = end;
	}
	*slot = (struct svm_job_slot){ .job = job,
				       .range = range,
				       .n_ranges = 1,
				       .base = svm_align_down(start, SVM_BLOCK_SIZE),
				       .used = true };
	slot->request.kind = SVM_REQUEST_ACCESS;
	slot->request.flags = job->request_flags;
	slot->request.agent = range->agent;
	slot->request.cause = job->cause;
	slot->request.write = range->write;
	slot->request.place = range->numa_node >= 0;
	slot->request.numa_node = range->numa_node;
	slot->request.done = slot_done;
	slot->request.data = slot;
	/* Page numbers for now: the block is not known yet. */
	svm_mask_set_range(&slot->request.pages,
			   (unsigned int)((start & (SVM_BLOCK_SIZE - 1u)) >> SVM_PAGE_SHIFT),
			   (unsigned int)((end - start) >> SVM_PAGE_SHIFT));
	add_neighbours(job, slot);
	slot->request.space.handle = start;
	job->n_flying++;
	return slot;
}

static int make_hold(struct svm_job *job, struct svm_job_slot *slot)
{
	struct svm_hold *hold = svm_pool_get(&job->ctx->hold_pool);

	if (!hold)
		return -ENOMEM;
	svm_list_init(&hold->node);
	svm_list_init(&hold->owned);
	hold->agent = slot->range->agent;
	hold->write = slot->range->write;
	hold->store = job->hold_store;
	hold->pages = slot->request.pages;
	slot->hold = hold;
	slot->request.hold = hold;
	return 0;
}

static void submit(struct svm_job *job, struct svm_job_slot *slot)
{
	struct svm_ctx *ctx = job->ctx;
	struct svm_request *request = &slot->request;
	uint64_t addr = request->space.handle;
	struct svm_block *block;
	int r = 0;

	request->space.handle = 0;
	if (job->hold)
		r = make_hold(job, slot);
	if (r == 0) {
		svm_rwlock_read(&ctx->tree_lock);
		r = svm_block_get(ctx, addr, &block);
		if (r == 0) {
			request->block = block;
			svm_request_queue(request);
		}
		svm_rwlock_unlock(&ctx->tree_lock);
	}
	if (r == 0) {
		svm_block_run(block);
		return;
	}
	request->status = r;
	slot_done(request);
}

/* LOCKING: job->lock. What was not started because of an error or a cancel. */
static void account_rest(struct svm_job *job)
{
	int error = job->cancelled ? -ECANCELED : job->error;

	while (job->next_range < job->n_ranges) {
		struct svm_job_range *range = &job->ranges[job->next_range++];
		uint64_t start = svm_max_u64(job->next_addr, range->start);

		job->next_addr = 0;
		if (range->system)
			continue;
		range->result.failed += range->end - start;
		range->result.outcome.status = SVM_DEGRADED;
		if (!range->result.error)
			range->result.error = error;
		if (!job->error)
			job->error = error;
	}
}

/* Fill free slots; at the end of all, signal. One thread at a time: others leave it to that one. n_ended requests have
 * come back: counted only here, so that the job cannot end, and be freed, before the caller has let go of it. */
static void pump(struct svm_job *job, uint32_t n_ended)
{
	struct svm_job_slot *slot;
	bool finished;
	int error;

	svm_lock(&job->lock);
	job->n_flying -= n_ended;
	if (job->pumping || !job->started) {
		svm_unlock(&job->lock);
		return;
	}
	job->pumping = true;
	while ((slot = next_piece(job)) != NULL) {
		svm_unlock(&job->lock);
		submit(job, slot);
		svm_lock(&job->lock);
	}
	job->pumping = false;
	finished = job->n_flying == 0 && !job->finished;
	if (finished) {
		account_rest(job);
		job->finished = true;
	}
	error = job->error;
	svm_unlock(&job->lock);
	if (finished) {
		/* The application may free the job from here on: the fence needs its own reference. */
		struct svm_fence *ready = job->ready;

		svm_fence_get(ready);
		svm_fence_complete(ready, error);
		svm_fence_put(ready);
	}
}

/* One part of system memory has been dealt with. Returns whether to go on. */
static bool account_system(struct svm_job *job, struct svm_job_range *range, uint64_t size,
			   const struct svm_native_moved *moved)
{
	struct svm_prefetch_result *result = &range->result;
	bool go_on;

	svm_lock(&job->lock);
	job->bytes_done += size;
	result->bytes_moved += moved->bytes_moved;
	result->already_there += moved->already_there;
	result->skipped_pinned += moved->skipped;
	result->failed += moved->failed;
	if (!result->error)
		result->error = moved->error;
	if (moved->outcome.status > result->outcome.status)
		result->outcome = moved->outcome;
	if (moved->error && !job->error)
		job->error = moved->error;
	go_on = !job->cancelled;
	svm_unlock(&job->lock);
	return go_on;
}

/* In the worker's thread. */
static void move_system(struct svm_worker_task *task)
{
	struct svm_job *job = svm_container_of(task, struct svm_job, system_task);
	const uint64_t most = (uint64_t)SVM_NATIVE_BATCH_PAGES << SVM_PAGE_SHIFT;
	bool go_on;

	svm_lock(&job->lock);
	go_on = !job->cancelled;
	svm_unlock(&job->lock);
	for (size_t i = 0; i < job->n_ranges; i++) {
		struct svm_job_range *range = &job->ranges[i];

		for (uint64_t addr = range->start, stop; range->system && addr < range->end;
		     addr = stop) {
			struct svm_native_moved moved = { .error = -ECANCELED };

			stop = svm_min_u64(range->end, addr + most);
			if (go_on) {
				svm_native_move(job->ctx, addr, stop, range->agent, &moved);
			} else {
				stop = range->end;
				moved.failed = stop - addr;
				moved.outcome.status = SVM_DEGRADED;
			}
			go_on = account_system(job, range, stop - addr, &moved) && go_on;
		}
	}
	pump(job, 1);
}

/* LOCKING: job->lock. */
static bool has_system(const struct svm_job *job)
{
	for (size_t i = 0; i < job->n_ranges; i++)
		if (job->ranges[i].system)
			return true;
	return false;
}

static void start_now(struct svm_fence_waiter *waiter, int status)
{
	struct svm_job *job = svm_container_of(waiter, struct svm_job, wait_waiter);
	struct svm_fence *fence = job->wait_fence;
	bool system;

	(void)status; /* ordered after the fence, whatever became of its work */
	svm_lock(&job->lock);
	job->started = true;
	job->wait_fence = NULL;
	system = has_system(job);
	/* One for us: the worker must not end the job while we look at it. */
	job->n_flying += system ? 2u : 1u;
	svm_unlock(&job->lock);
	if (system) {
		job->system_task.run = move_system;
		svm_worker_queue(&job->ctx->worker, &job->system_task);
	}
	pump(job, 1);
	svm_fence_put(fence);
}

void svm_job_start(struct svm_job *job, struct svm_fence *wait)
{
	int status;

	for (size_t i = 0; i < job->n_ranges; i++)
		job->bytes_total += job->ranges[i].end - job->ranges[i].start;
	if (wait) {
		svm_fence_get(wait);
		job->wait_fence = wait;
		job->wait_waiter.fn = start_now;
		if (!svm_fence_add_waiter(wait, &job->wait_waiter, &status))
			return;
	}
	start_now(&job->wait_waiter, 0);
}

void svm_job_result(const struct svm_job *job, size_t i, struct svm_prefetch_result *ret)
{
	*ret = (struct svm_prefetch_result){ 0 };
	for (size_t k = 0; k < job->n_ranges; k++) {
		const struct svm_prefetch_result *part = &job->ranges[k].result;

		if (job->ranges[k].part_of != i)
			continue;
		ret->bytes_moved += part->bytes_moved;
		ret->already_there += part->already_there;
		ret->skipped_pinned += part->skipped_pinned;
		ret->failed += part->failed;
		ret->error = ret->error ? ret->error : part->error;
		if (part->outcome.status > ret->outcome.status)
			ret->outcome = part->outcome;
	}
}

void svm_job_cancel(struct svm_job *job)
{
	bool never_started;

	svm_lock(&job->lock);
	job->cancelled = true;
	never_started = !job->started && job->wait_fence;
	svm_unlock(&job->lock);
	/* One that still waits for its fence ends now: nobody else would. */
	if (never_started && svm_fence_remove_waiter(job->wait_fence, &job->wait_waiter))
		start_now(&job->wait_waiter, 0);
}

bool svm_job_wait(struct svm_job *job, int64_t timeout_ns, int *ret_error)
{
	return svm_fence_block(job->ready, timeout_ns, ret_error);
}

static void end_holds(struct svm_job *job)
{
	struct svm_ctx *ctx = job->ctx;

	svm_list_for_each_safe(node, tmp, &job->holds) {
		struct svm_hold *hold = svm_list_entry(node, struct svm_hold, owned);

		svm_list_del(node);
		svm_hold_remove(hold);
		svm_pool_put(&ctx->hold_pool, hold);
	}
}

static void release_now(struct svm_fence_waiter *waiter, int status)
{
	struct svm_job *job = svm_container_of(waiter, struct svm_job, release_waiter);

	(void)status; /* its end ends the access, whatever became of the work */
	end_holds(job);
	if (job->counted)
		atomic_fetch_sub(&job->device->n_accesses, 1u);
	svm_fence_put(job->release_fence);
	job_delete(job);
}

void svm_job_release(struct svm_job *job, struct svm_fence *done)
{
	int status;

	if (done) {
		svm_list_for_each(node, &job->holds) {
			struct svm_hold *hold = svm_list_entry(node, struct svm_hold, owned);

			svm_lock(&hold->block->lock);
			hold->released = true;
			svm_unlock(&hold->block->lock);
		}
		svm_fence_get(done);
		job->release_fence = done;
		job->release_waiter.fn = release_now;
		job->release_waiter.first = true;
		if (!svm_fence_add_waiter(done, &job->release_waiter, &status))
			return;
	}
	release_now(&job->release_waiter, 0);
}
