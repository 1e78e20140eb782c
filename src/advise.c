/* SPDX-License-Identifier: MIT */
/* The public hint and prefetch calls. */
#include "space.h"

#include "sys.h"
#include <errno.h>
#include <libsvm/hints.h>

#define ALL_KINDS ((1u << SVM_ADVICE_KINDS) - 1u)
/* Advice of one call is copied first: it may lie in managed memory. */
#define MAX_ADVICE 32u

/* LOCKING: tree. The device a hint names: -ENODEV, -ERANGE. */
static int check_device(const struct svm_ctx *ctx, uint32_t id, uint64_t start, uint64_t end)
{
	const struct svm_device *device = id < SVM_MAX_DEVICES ? svm_device_of(ctx, id + 1u) : NULL;

	if (!device || atomic_load(&((struct svm_device *)device)->closing))
		return -ENODEV;
	return device->caps.va_start > start || device->caps.va_end < end ? -ERANGE : 0;
}

/* LOCKING: tree. Locations are resolved to what is stored. */
static int check_advice(struct svm_ctx *ctx, struct svm_advice *advice, uint64_t start,
			uint64_t end)
{
	uint32_t agent;
	int node;
	int r = svm_hints_check(advice);

	if (r < 0)
		return r;
	switch (advice->kind) {
	case SVM_ADVICE_PREFERRED_LOCATION:
		if (advice->location.kind == SVM_LOCATION_NONE)
			return 0;
		if (advice->location.kind == SVM_LOCATION_DEVICE)
			return check_device(ctx, advice->location.id, start, end);
		r = svm_space_resolve(ctx, advice->location, &agent, &node);
		if (r == 0 && advice->location.kind == SVM_LOCATION_HOST_NUMA_CURRENT)
			advice->location =
				(struct svm_location){ SVM_LOCATION_HOST_NUMA, (uint32_t)node };
		return r;
	case SVM_ADVICE_ACCESSED_BY:
	case SVM_ADVICE_ACCESS_IN_PLACE:
	case SVM_ADVICE_NO_ACCESS:
		return check_device(ctx, advice->device, start, end);
	default:
		return 0;
	}
}

static struct svm_outcome degraded(uint32_t reason)
{
	return (struct svm_outcome){ SVM_DEGRADED, reason };
}

/* LOCKING: tree. First reason why a device of the space lacks caps for the span; REASON_NONE: all have them. */
static bool all_have(const struct svm_ctx *ctx, uint32_t caps)
{
	for (uint32_t a = 1; a < SVM_AGENTS; a++) {
		const struct svm_device *device = svm_device_of(ctx, a);

		if (device && !svm_device_is_lost(device) && !svm_device_has(device, caps))
			return false;
	}
	return true;
}

/* LOCKING: tree. Part of the span is registered memory, which devices cannot map in place. */
static bool has_registered(const struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	for (const struct svm_range *r = svm_range_find(ctx, start); r; r = svm_range_next(r, end))
		if (r->alloc->registered)
			return true;
	return false;
}

/* LOCKING: tree. An earlier hint on the span that goes before this kind (contract: migration, read mostly, preferred
 * location, accessed by). */
static bool is_overridden(const struct svm_ctx *ctx, uint32_t kind, uint64_t start, uint64_t end)
{
	for (const struct svm_range *r = svm_range_find(ctx, start); r;
	     r = svm_range_next(r, end)) {
		const struct svm_hints *h = &r->hints;

		if (kind == SVM_ADVICE_READ_MOSTLY &&
		    (h->migration == SVM_MIGRATE_NEVER || h->atomics == SVM_ATOMICS_SYSTEM))
			return true;
		if (kind == SVM_ADVICE_PREFERRED_LOCATION &&
		    (h->migration == SVM_MIGRATE_NEVER || h->read_mostly))
			return true;
		if ((kind == SVM_ADVICE_ACCESSED_BY || kind == SVM_ADVICE_ACCESS_IN_PLACE) &&
		    (h->migration == SVM_MIGRATE_NEVER || h->read_mostly))
			return true;
	}
	return false;
}

/* LOCKING: tree. In-place access of one device to the span. */
static struct svm_outcome in_place_outcome(const struct svm_ctx *ctx,
					   const struct svm_device *device, uint64_t start,
					   uint64_t end)
{
	if (!svm_device_has(device, SVM_CAP_HOST_ALIAS))
		return degraded(SVM_REASON_NOT_REACHABLE);
	if (has_registered(ctx, start, end))
		return degraded(SVM_REASON_REGISTERED);
	return (struct svm_outcome){ SVM_EFFECTIVE, SVM_REASON_NONE };
}

/* LOCKING: tree. What setting the (checked) advice does, seen from all devices. */
static struct svm_outcome outcome_of(const struct svm_ctx *ctx, const struct svm_advice *advice,
				     uint64_t start, uint64_t end)
{
	struct svm_outcome effective = { SVM_EFFECTIVE, SVM_REASON_NONE };

	if (is_overridden(ctx, advice->kind, start, end))
		return degraded(SVM_REASON_OVERRIDDEN);
	switch (advice->kind) {
	case SVM_ADVICE_PREFERRED_LOCATION:
		if (advice->location.kind != SVM_LOCATION_HOST &&
		    advice->location.kind != SVM_LOCATION_HOST_NUMA)
			return effective;
		if (!all_have(ctx, SVM_CAP_HOST_ALIAS))
			return degraded(SVM_REASON_NOT_REACHABLE);
		return has_registered(ctx, start, end) ? degraded(SVM_REASON_REGISTERED)
						       : effective;
	case SVM_ADVICE_ACCESSED_BY:
	case SVM_ADVICE_ACCESS_IN_PLACE:
		return in_place_outcome(ctx, svm_device_of(ctx, advice->device + 1u), start, end);
	case SVM_ADVICE_READ_MOSTLY:
		if (!advice->value)
			return effective;
		return all_have(ctx, SVM_CAP_READ_ONLY) ? effective
							: degraded(SVM_REASON_NO_READ_ONLY_MAPS);
	case SVM_ADVICE_ATOMICS:
		if (advice->value == SVM_ATOMICS_DEVICE && !all_have(ctx, SVM_CAP_ATOMICS))
			return degraded(SVM_REASON_NO_DEVICE_ATOMICS);
		if (advice->value == SVM_ATOMICS_SYSTEM) {
			if (!all_have(ctx, SVM_CAP_HOST_ALIAS))
				return degraded(SVM_REASON_NOT_REACHABLE);
			if (!all_have(ctx, SVM_CAP_SYSTEM_ATOMICS))
				return degraded(SVM_REASON_NO_DEVICE_ATOMICS);
			if (has_registered(ctx, start, end))
				return degraded(SVM_REASON_REGISTERED);
		}
		return effective;
	default:
		return effective;
	}
}

static uint32_t refusal(int error, const struct svm_advice *advice)
{
	if (error == -EINVAL && advice->kind == SVM_ADVICE_PREFERRED_LOCATION &&
	    advice->location.kind == SVM_LOCATION_HOST_NUMA)
		return SVM_REASON_NO_SUCH_NODE;
	return error == -ENODEV	  ? SVM_REASON_NO_SUCH_DEVICE
	       : error == -ERANGE ? SVM_REASON_NOT_REACHABLE
	       : error == -ENOMEM ? SVM_REASON_NO_MEMORY
				  : SVM_REASON_NONE;
}

static void unmap_done(struct svm_request *request)
{
	struct svm_ctx *ctx = request->data;

	svm_pool_put(&ctx->request_pool, request);
}

/* LOCKING: tree, block. */
static bool maps_in_place(const struct svm_block *block, uint32_t agent,
			  const struct svm_mask *pages)
{
	const struct svm_block_device *entry = svm_block_device_of(block, agent);

	return entry && svm_mask_intersects(&entry->agent.remote, pages);
}

/* Pages are to live with agent, a device, which maps them in host memory: it loses that mapping, so that its next
 * access brings them. Nobody waits for it, and what is in use stays. */
static void unmap_in_place(struct svm_ctx *ctx, uint32_t agent, uint64_t start, uint64_t end)
{
	for (uint64_t addr = start; addr < end;
	     addr = svm_align_down(addr, SVM_BLOCK_SIZE) + SVM_BLOCK_SIZE) {
		struct svm_request *request = svm_pool_get(&ctx->request_pool);
		struct svm_block *block;
		bool mapped = false;

		if (!request)
			return;
		svm_rwlock_read(&ctx->tree_lock);
		block = svm_block_find(ctx, addr);
		if (block) {
			svm_block_pages(block, start, end, &request->pages);
			svm_lock(&block->lock);
			/* A transition may be about to map them. */
			mapped = block->busy || maps_in_place(block, agent, &request->pages);
			svm_unlock(&block->lock);
		}
		if (mapped) {
			request->block = block;
			request->kind = SVM_REQUEST_UNMAP;
			request->flags = SVM_REQUEST_TRY;
			request->agent = agent;
			request->done = unmap_done;
			request->data = ctx;
			svm_request_queue(request);
		}
		svm_rwlock_unlock(&ctx->tree_lock);
		if (mapped)
			svm_block_run(block);
		else
			svm_pool_put(&ctx->request_pool, request);
	}
}

int svm_advise(struct svm_space *space, const void *addr, uint64_t size,
	       const struct svm_advice *advice, size_t n_advice, struct svm_outcome *outcomes)
{
	struct svm_advice copy[MAX_ADVICE];
	struct svm_outcome found[MAX_ADVICE] = { 0 };
	struct svm_ctx *ctx;
	uint64_t start;
	uint64_t end;
	int r;

	if (!space || !advice || n_advice == 0 || n_advice > MAX_ADVICE)
		return -EINVAL;
	ctx = &space->ctx;
	r = svm_ctx_check(ctx);
	if (r == 0)
		r = svm_space_span(addr, size, &start, &end);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n_advice; i++)
		copy[i] = advice[i];
	svm_rwlock_write(&ctx->tree_lock);
	r = svm_range_check(ctx, start, end);
	for (size_t i = 0; i < n_advice && r == 0; i++) {
		r = check_advice(ctx, &copy[i], start, end);
		if (r < 0)
			found[i] = (struct svm_outcome){ SVM_REFUSED, refusal(r, &copy[i]) };
	}
	/* One after the other, so that the second of a call sees what the first has set. */
	for (size_t i = 0; i < n_advice && r == 0; i++)
		found[i] = outcome_of(ctx, &copy[i], start, end);
	if (r == 0)
		r = svm_range_update(ctx, start, end, copy, n_advice, 0);
	svm_rwlock_unlock(&ctx->tree_lock);
	for (size_t i = 0; i < n_advice && r == 0; i++)
		if (copy[i].kind == SVM_ADVICE_PREFERRED_LOCATION &&
		    copy[i].location.kind == SVM_LOCATION_DEVICE)
			unmap_in_place(ctx, copy[i].location.id + 1u, start, end);
	for (size_t i = 0; i < n_advice && outcomes; i++)
		outcomes[i] = found[i];
	return r;
}

int svm_unadvise(struct svm_space *space, const void *addr, uint64_t size, uint32_t kinds)
{
	struct svm_ctx *ctx;
	uint64_t start;
	uint64_t end;
	int r;

	if (!space || kinds == 0 || (kinds & ~ALL_KINDS))
		return -EINVAL;
	ctx = &space->ctx;
	r = svm_ctx_check(ctx);
	if (r == 0)
		r = svm_space_span(addr, size, &start, &end);
	if (r < 0)
		return r;
	svm_rwlock_write(&ctx->tree_lock);
	r = svm_range_check(ctx, start, end);
	if (r == 0)
		r = svm_range_update(ctx, start, end, NULL, 0, kinds);
	svm_rwlock_unlock(&ctx->tree_lock);
	return r;
}

int svm_advice_query(struct svm_space *space, const void *addr, uint64_t size,
		     struct svm_advice_info *info)
{
	struct svm_advice_info found = { 0 };
	uint64_t start;
	uint64_t end;
	int r;

	if (!info || info->size != sizeof(*info))
		return -EINVAL;
	r = svm_space_begin(space, addr, size, &start, &end);
	if (r < 0)
		return r;
	for (struct svm_range *range = svm_range_find(&space->ctx, start); range;
	     range = svm_range_next(range, end)) {
		if (found.n_ranges == 0)
			svm_hints_summary(&found, &range->hints);
		else
			svm_hints_summary_add(&found, &range->hints);
	}
	svm_rwlock_unlock(&space->ctx.tree_lock);
	*info = found;
	return 0;
}

/* The i-th range of a span. LOCKING: tree. */
static size_t collect(struct svm_ctx *ctx, uint64_t start, uint64_t end, size_t skip,
		      struct svm_advice_range *out, size_t n_out)
{
	size_t i = 0;
	size_t n = 0;

	for (struct svm_range *range = svm_range_find(ctx, start); range;
	     range = svm_range_next(range, end), i++) {
		if (i < skip || n == n_out)
			continue;
		out[n].addr = svm_max_u64(start, range->node.start);
		out[n].length = svm_min_u64(end, range->node.end) - out[n].addr;
		svm_hints_summary(&out[n].info, &range->hints);
		n++;
	}
	return n_out ? n : i;
}

int svm_advice_enumerate(struct svm_space *space, const void *addr, uint64_t size,
			 struct svm_advice_range *ranges, size_t *n_ranges, size_t *record_size)
{
	struct svm_advice_range *copy = NULL;
	uint64_t start;
	uint64_t end;
	size_t room;
	size_t n;
	int r;

	if (!n_ranges || !record_size || (ranges && *record_size != sizeof(*ranges)))
		return -EINVAL;
	room = ranges ? *n_ranges : 0;
	if (room > SIZE_MAX / sizeof(*copy))
		return -EINVAL;
	if (room) {
		/* Not straight into the caller's array: it may be managed, and a lock is held. */
		copy = svm_arena_map(room * sizeof(*copy));
		if (!copy)
			return -ENOMEM;
	}
	r = svm_space_begin(space, addr, size, &start, &end);
	if (r < 0)
		goto out;
	n = collect(&space->ctx, start, end, 0, NULL, 0);
	if (ranges && n > room)
		r = -ENOSPC;
	else if (ranges)
		(void)collect(&space->ctx, start, end, 0, copy, room);
	svm_rwlock_unlock(&space->ctx.tree_lock);
	if (r < 0)
		goto out;
	for (size_t i = 0; i < n && ranges; i++)
		ranges[i] = copy[i];
	*n_ranges = n;
	*record_size = sizeof(*ranges);
out:
	if (copy)
		svm_arena_unmap(copy, room * sizeof(*copy));
	return r;
}

/* A prefetch of the application is a job. */
static struct svm_job *job_of(struct svm_prefetch *prefetch)
{
	return (struct svm_job *)prefetch;
}

/* Fill in one range of a job; the caller's record is read before the lock. */
static int add_range(struct svm_space *space, const struct svm_prefetch_range *range,
		     struct svm_job_range *ret)
{
	struct svm_prefetch_range copy = *range;
	int r = svm_space_begin(space, copy.addr, copy.size, &ret->start, &ret->end);

	if (r < 0)
		return r;
	r = svm_space_resolve(&space->ctx, copy.to, &ret->agent, &ret->numa_node);
	if (r == 0 && ret->agent != SVM_AGENT_CPU)
		r = check_device(&space->ctx, ret->agent - 1u, ret->start, ret->end);
	svm_rwlock_unlock(&space->ctx.tree_lock);
	return r;
}

int svm_prefetch_start(struct svm_space *space, const struct svm_prefetch_range *ranges,
		       size_t n_ranges, struct svm_fence *wait, uint32_t flags,
		       struct svm_prefetch **ret_prefetch)
{
	struct svm_job *job;
	int r;

	if (!space || !ranges || n_ranges == 0 || flags || !ret_prefetch)
		return -EINVAL;
	r = svm_ctx_check(&space->ctx);
	if (r == 0)
		r = svm_job_new(&space->ctx, NULL, SVM_CAUSE_PREFETCH, n_ranges, &job);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n_ranges && r == 0; i++)
		r = add_range(space, &ranges[i], &job->ranges[i]);
	if (r < 0) {
		svm_job_release(job, NULL);
		return r;
	}
	atomic_fetch_add(&space->ctx.n_open_jobs, 1u);
	svm_job_start(job, wait);
	*ret_prefetch = (struct svm_prefetch *)job;
	return 0;
}

int svm_prefetch_fence(struct svm_prefetch *prefetch, struct svm_fence **ret_fence)
{
	int r;

	if (!prefetch || !ret_fence)
		return -EINVAL;
	r = svm_ctx_check(job_of(prefetch)->ctx);
	if (r < 0)
		return r;
	svm_fence_get(job_of(prefetch)->ready);
	*ret_fence = svm_fence_hand_out(job_of(prefetch)->ready);
	return 0;
}

int svm_prefetch_progress(struct svm_prefetch *prefetch, uint64_t *ret_done, uint64_t *ret_total)
{
	struct svm_job *job = job_of(prefetch);
	uint64_t done;
	int r;

	if (!prefetch)
		return -EINVAL;
	r = svm_ctx_check(job->ctx);
	if (r < 0)
		return r;
	svm_lock(&job->lock);
	done = job->bytes_done;
	svm_unlock(&job->lock);
	if (ret_done)
		*ret_done = done;
	if (ret_total)
		*ret_total = job->bytes_total;
	return 0;
}

int svm_prefetch_cancel(struct svm_prefetch *prefetch)
{
	int r;

	if (!prefetch)
		return -EINVAL;
	r = svm_ctx_check(job_of(prefetch)->ctx);
	if (r == 0)
		svm_job_cancel(job_of(prefetch));
	return r;
}

int svm_prefetch_wait(struct svm_prefetch *prefetch, int64_t timeout_ns,
		      struct svm_prefetch_result *results, size_t n_results)
{
	struct svm_job *job = job_of(prefetch);
	int r;

	if (!prefetch || (results && n_results != job->n_ranges))
		return -EINVAL;
	r = svm_ctx_check(job->ctx);
	if (r < 0)
		return r;
	r = svm_job_wait(job, timeout_ns);
	if (r == -ETIMEDOUT && svm_job_wait(job, 0) == -ETIMEDOUT)
		return r;
	for (size_t i = 0; i < job->n_ranges && results; i++)
		results[i] = job->ranges[i].result;
	for (size_t i = 0; i < job->n_ranges; i++)
		if (job->ranges[i].result.error)
			return job->ranges[i].result.error;
	return 0;
}

int svm_prefetch_destroy(struct svm_prefetch *prefetch)
{
	struct svm_job *job = job_of(prefetch);
	struct svm_ctx *ctx;
	int r;

	if (!prefetch)
		return 0;
	ctx = job->ctx;
	r = svm_ctx_check(ctx);
	if (r < 0)
		return r;
	svm_job_cancel(job);
	(void)svm_job_wait(job, -1); /* its result was for svm_prefetch_wait() */
	svm_job_release(job, NULL);
	atomic_fetch_sub(&ctx->n_open_jobs, 1u);
	return 0;
}

int svm_prefetch(struct svm_space *space, void *addr, uint64_t size, struct svm_location to,
		 struct svm_prefetch_result *result)
{
	struct svm_prefetch_range range = { .addr = addr, .size = size, .to = to };
	struct svm_prefetch *prefetch;
	int r = svm_prefetch_start(space, &range, 1, NULL, 0, &prefetch);
	int error;

	if (r < 0)
		return r;
	r = svm_prefetch_wait(prefetch, -1, result, result ? 1u : 0u);
	error = svm_prefetch_destroy(prefetch);
	return r < 0 ? r : error;
}
