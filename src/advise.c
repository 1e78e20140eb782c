/* SPDX-License-Identifier: MIT */
/* The public hint and prefetch calls. */
#include "space.h"

#include "sys.h"
#include <assert.h>
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

/* LOCKING: tree. What a device can do with managed memory. One that reaches it through the CPU's page tables finds it on
 * the host, in place, and traps where the CPU does. */
static bool has_for_managed(const struct svm_device *device, uint32_t caps)
{
	if (device->native_only)
		caps &= ~(SVM_CAP_HOST_ALIAS | SVM_CAP_READ_ONLY);
	return svm_device_has(device, caps);
}

/* LOCKING: tree. No device of the space lacks caps for managed memory. */
static bool all_have(const struct svm_ctx *ctx, uint32_t caps)
{
	for (uint32_t a = 1; a < SVM_AGENTS; a++) {
		const struct svm_device *device = svm_device_of(ctx, a);

		if (device && !svm_device_is_lost(device) && !has_for_managed(device, caps))
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

/* LOCKING: tree. The CPU's mapping of the span can be made read-only, so that a device may have a copy. Not of shared memory
 * before Linux 6.4; what becomes shared later is not known here. */
static bool cpu_can_share(const struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	if (svm_uffd_has_continue_wp(&ctx->host.uffd))
		return true;
	for (const struct svm_range *r = svm_range_find(ctx, start); r; r = svm_range_next(r, end))
		if (r->alloc->kind == SVM_HOST_SHARED)
			return false;
	return true;
}

/* LOCKING: tree. An earlier hint on the span that goes before this kind (contract: migration, read mostly, preferred
 * location, accessed by). */
static bool is_overridden(const struct svm_ctx *ctx, uint32_t kind, uint64_t start, uint64_t end)
{
	const struct svm_hints *h;

	for (uint64_t addr = start;
	     addr < end && (h = svm_range_run(ctx, addr, end, &addr)) != NULL;) {
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
	if (!has_for_managed(device, SVM_CAP_HOST_ALIAS))
		return degraded(SVM_REASON_NOT_REACHABLE);
	if (!device->native_only && has_registered(ctx, start, end))
		return degraded(SVM_REASON_REGISTERED);
	return (struct svm_outcome){ SVM_EFFECTIVE, SVM_REASON_NONE };
}

/* LOCKING: tree. What setting the (checked) advice does to managed memory, seen from all devices. */
static struct svm_outcome outcome_of(const struct svm_ctx *ctx, const struct svm_advice *advice,
				     uint64_t start, uint64_t end)
{
	struct svm_outcome effective = { SVM_EFFECTIVE, SVM_REASON_NONE };

	switch (advice->kind) {
	case SVM_ADVICE_PREFERRED_LOCATION:
		if (advice->location.kind == SVM_LOCATION_DEVICE &&
		    svm_device_of(ctx, advice->location.id + 1u)->native_only)
			return degraded(SVM_REASON_NOT_REACHABLE);
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
		return all_have(ctx, SVM_CAP_READ_ONLY) && cpu_can_share(ctx, start, end)
			       ? effective
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

/* LOCKING: tree. What setting the (checked) advice does to system memory, before any driver was told. */
static struct svm_outcome system_outcome(const struct svm_ctx *ctx, const struct svm_advice *advice)
{
	const struct svm_device *device = NULL;

	switch (advice->kind) {
	case SVM_ADVICE_PREFERRED_LOCATION:
		if (advice->location.kind == SVM_LOCATION_DEVICE)
			device = svm_device_of(ctx, advice->location.id + 1u);
		if (advice->location.kind == SVM_LOCATION_HOST_NUMA && ctx->host.n_nodes > 1)
			return degraded(SVM_REASON_SINGLE_NODE);
		break;
	case SVM_ADVICE_ACCESSED_BY:
	case SVM_ADVICE_ACCESS_IN_PLACE:
		device = svm_device_of(ctx, advice->device + 1u);
		break;
	default:
		break;
	}
	/* Other devices do not reach it at all. */
	if (device && !svm_device_has(device, SVM_CAP_NATIVE))
		return degraded(SVM_REASON_NOT_REACHABLE);
	return (struct svm_outcome){ SVM_EFFECTIVE, SVM_REASON_NONE };
}

static void worst(struct svm_outcome *outcome, struct svm_outcome other)
{
	if (other.status > outcome->status)
		*outcome = other;
}

/* LOCKING: tree. What setting the (checked) advice does to the span. */
static struct svm_outcome span_outcome(const struct svm_ctx *ctx, const struct svm_advice *advice,
				       uint64_t start, uint64_t end)
{
	struct svm_outcome outcome = { SVM_EFFECTIVE, SVM_REASON_NONE };
	struct svm_piece piece;

	if (is_overridden(ctx, advice->kind, start, end))
		return degraded(SVM_REASON_OVERRIDDEN);
	svm_for_each_piece(ctx, piece, start, end)
		worst(&outcome, piece.system ? system_outcome(ctx, advice)
					     : outcome_of(ctx, advice, piece.start, piece.end));
	return outcome;
}

/* LOCKING: tree (write), and NATIVE where the span has system memory. All or nothing. */
static int update(struct svm_ctx *ctx, uint64_t start, uint64_t end,
		  const struct svm_advice *advice, size_t n_advice, uint32_t unset_kinds)
{
	struct svm_piece piece;
	uint64_t needed = 0;
	int r;

	svm_for_each_piece(ctx, piece, start, end)
		needed += piece.system ? svm_system_needs(ctx, piece.start, piece.end) : 2u;
	r = svm_range_reserve(ctx, needed);
	if (r < 0)
		return r;
	svm_for_each_piece(ctx, piece, start, end)
	{
		if (piece.system)
			r = svm_system_update(ctx, piece.start, piece.end, advice, n_advice,
					      unset_kinds);
		else
			r = svm_range_update(ctx, piece.start, piece.end, advice, n_advice,
					     unset_kinds);
		assert(r == 0);
	}
	return 0;
}

/* LOCKING: NATIVE. Tell native devices of one kind of hint (mask), on the parts of the span that are system memory. */
static struct svm_outcome tell_native(struct svm_ctx *ctx, uint64_t start, uint64_t end,
				      uint32_t kinds, uint32_t device)
{
	struct svm_outcome outcome = { SVM_EFFECTIVE, SVM_REASON_NONE };

	for (uint64_t addr = start; addr < end;) {
		struct svm_piece piece;
		int r;

		svm_rwlock_read(&ctx->tree_lock);
		r = svm_range_piece(ctx, addr, end, &piece);
		svm_rwlock_unlock(&ctx->tree_lock);
		if (r < 0)
			break; /* freed since */
		if (piece.system)
			worst(&outcome,
			      svm_native_tell(ctx, piece.start, piece.end, kinds, device));
		addr = piece.end;
	}
	return outcome;
}

static bool names_device(uint32_t kind)
{
	return kind == SVM_ADVICE_ACCESSED_BY || kind == SVM_ADVICE_ACCESS_IN_PLACE ||
	       kind == SVM_ADVICE_NO_ACCESS;
}

/*
 * How a change of hints begins. LOCKING: keeps the tree lock for write on success, and NATIVE too where *ret_native
 * says that part of the span is system memory, which it may always be from here on.
 */
static int begin_change(struct svm_ctx *ctx, uint64_t start, uint64_t end, bool *ret_native)
{
	struct svm_piece piece = { .end = start };
	int r;

	*ret_native = false;
	svm_rwlock_write(&ctx->tree_lock);
	r = svm_range_check(ctx, start, end);
	if (r == 0)
		return 0;
	svm_rwlock_unlock(&ctx->tree_lock);
	if (!svm_native_wanted(ctx))
		return r;
	svm_lock(&ctx->native_lock);
	svm_native_forget_unmapped(ctx, start, end);
	r = svm_native_check(ctx, start, end);
	if (r < 0)
		goto err_native;
	svm_rwlock_write(&ctx->tree_lock);
	for (; piece.end < end && r == 0;)
		r = svm_range_piece(ctx, piece.end, end, &piece);
	if (r < 0)
		goto err_tree;
	*ret_native = true;
	return 0;

err_tree:
	svm_rwlock_unlock(&ctx->tree_lock);
err_native:
	svm_unlock(&ctx->native_lock);
	return r;
}

int svm_advise(struct svm_space *space, const void *addr, uint64_t size,
	       const struct svm_advice *advice, size_t n_advice, struct svm_outcome *outcomes)
{
	struct svm_advice copy[MAX_ADVICE];
	struct svm_outcome found[MAX_ADVICE] = { 0 };
	struct svm_ctx *ctx;
	uint64_t start;
	uint64_t end;
	bool native;
	int r;

	if (!space || !advice || n_advice == 0 || n_advice > MAX_ADVICE)
		return -EINVAL;
	ctx = &space->ctx;
	r = svm_ctx_check(ctx);
	if (r == 0)
		r = svm_space_span(addr, size, &start, &end);
	if (r < 0)
		return r;
	svm_space_widen(ctx, &start, &end);
	for (size_t i = 0; i < n_advice; i++)
		copy[i] = advice[i];
	r = begin_change(ctx, start, end, &native);
	if (r < 0)
		goto out;
	for (size_t i = 0; i < n_advice && r == 0; i++) {
		r = check_advice(ctx, &copy[i], start, end);
		if (r < 0)
			found[i] = (struct svm_outcome){ SVM_REFUSED, refusal(r, &copy[i]) };
	}
	/* One after the other, so that the second of a call sees what the first has set. */
	for (size_t i = 0; i < n_advice && r == 0; i++)
		found[i] = span_outcome(ctx, &copy[i], start, end);
	if (r == 0)
		r = update(ctx, start, end, copy, n_advice, 0);
	svm_rwlock_unlock(&ctx->tree_lock);
	for (size_t i = 0; i < n_advice && r == 0 && native; i++)
		worst(&found[i], tell_native(ctx, start, end, 1u << copy[i].kind,
					     names_device(copy[i].kind) ? copy[i].device : ~0u));
	if (native)
		svm_unlock(&ctx->native_lock);
	for (size_t i = 0; i < n_advice && r == 0; i++)
		if (copy[i].kind == SVM_ADVICE_PREFERRED_LOCATION &&
		    copy[i].location.kind == SVM_LOCATION_DEVICE)
			unmap_in_place(ctx, copy[i].location.id + 1u, start, end);
out:
	for (size_t i = 0; i < n_advice && outcomes; i++)
		outcomes[i] = found[i];
	return r;
}

int svm_unadvise(struct svm_space *space, const void *addr, uint64_t size, uint32_t kinds)
{
	struct svm_ctx *ctx;
	uint64_t start;
	uint64_t end;
	bool native;
	int r;

	if (!space || kinds == 0 || (kinds & ~ALL_KINDS))
		return -EINVAL;
	ctx = &space->ctx;
	r = svm_ctx_check(ctx);
	if (r == 0)
		r = svm_space_span(addr, size, &start, &end);
	if (r < 0)
		return r;
	svm_space_widen(ctx, &start, &end);
	r = begin_change(ctx, start, end, &native);
	if (r < 0)
		return r;
	r = update(ctx, start, end, NULL, 0, kinds);
	svm_rwlock_unlock(&ctx->tree_lock);
	if (r == 0 && native)
		(void)tell_native(ctx, start, end, kinds, ~0u);
	if (native)
		svm_unlock(&ctx->native_lock);
	return r;
}

int svm_advice_query(struct svm_space *space, const void *addr, uint64_t size,
		     struct svm_advice_info *info)
{
	struct svm_advice_info found = { 0 };
	const struct svm_hints *hints;
	uint64_t start;
	uint64_t end;
	bool native;
	int r;

	if (!info || info->size != sizeof(*info))
		return -EINVAL;
	r = svm_space_begin_any(space, addr, size, &start, &end, &native);
	if (r < 0)
		return r;
	for (uint64_t a = start; a < end && (hints = svm_range_run(&space->ctx, a, end, &a));) {
		if (found.n_ranges == 0)
			svm_hints_summary(&found, hints);
		else
			svm_hints_summary_add(&found, hints);
	}
	svm_space_end_any(space, native);
	*info = found;
	return 0;
}

/* How many runs of equal hints a span has; out gets the first n_out of them. LOCKING: tree. */
static size_t collect(struct svm_ctx *ctx, uint64_t start, uint64_t end,
		      struct svm_advice_range *out, size_t n_out)
{
	const struct svm_hints *hints;
	size_t n = 0;

	for (uint64_t addr = start, stop;
	     addr < end && (hints = svm_range_run(ctx, addr, end, &stop)) != NULL;
	     addr = stop, n++) {
		if (n >= n_out)
			continue;
		out[n].addr = addr;
		out[n].length = stop - addr;
		svm_hints_summary(&out[n].info, hints);
	}
	return n;
}

int svm_advice_enumerate(struct svm_space *space, const void *addr, uint64_t size,
			 struct svm_advice_range *ranges, size_t *n_ranges, size_t *record_size)
{
	struct svm_advice_range *copy = NULL;
	uint64_t start;
	uint64_t end;
	size_t room;
	size_t n;
	bool native;
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
	r = svm_space_begin_any(space, addr, size, &start, &end, &native);
	if (r < 0)
		goto out;
	n = collect(&space->ctx, start, end, copy, room);
	if (ranges && n > room)
		r = -ENOSPC;
	svm_space_end_any(space, native);
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

/* LOCKING: tree. Can the device (NULL: the host) have memory of this kind? */
static bool can_store(const struct svm_device *device, bool system)
{
	if (!device)
		return true;
	return system ? svm_device_has(device, SVM_CAP_NATIVE) : !device->native_only;
}

/* The pieces of the i-th range of the caller, written to out as far as there is room; *n_out goes up by their number. */
static int add_range(struct svm_space *space, const struct svm_prefetch_range *range, size_t i,
		     struct svm_job_range *out, size_t room, size_t *n_out)
{
	struct svm_prefetch_range copy = *range; /* before the lock: it may be managed memory */
	struct svm_ctx *ctx = &space->ctx;
	struct svm_job_range part = { .part_of = i };
	struct svm_piece piece;
	bool native;
	int r = svm_space_begin_any(space, copy.addr, copy.size, &part.start, &part.end, &native);

	if (r < 0)
		return r;
	svm_space_widen(ctx, &part.start, &part.end);
	r = svm_space_resolve(ctx, copy.to, &part.agent, &part.numa_node);
	if (r == 0 && part.agent != SVM_AGENT_CPU)
		r = check_device(ctx, part.agent - 1u, part.start, part.end);
	svm_for_each_piece(ctx, piece, part.start, part.end)
	{
		if (r == 0 && !can_store(svm_device_of(ctx, part.agent), piece.system))
			r = -EOPNOTSUPP;
		if (r < 0)
			break;
		if (*n_out < room) {
			out[*n_out] = part;
			out[*n_out].start = piece.start;
			out[*n_out].end = piece.end;
			out[*n_out].system = piece.system;
		}
		++*n_out;
	}
	svm_space_end_any(space, native);
	return r;
}

static int add_ranges(struct svm_space *space, const struct svm_prefetch_range *ranges,
		      size_t n_ranges, struct svm_job_range *out, size_t room, size_t *ret_n)
{
	int r = 0;

	*ret_n = 0;
	for (size_t i = 0; i < n_ranges && r == 0; i++)
		r = add_range(space, &ranges[i], i, out, room, ret_n);
	return r;
}

/* A job of the pieces that the ranges consist of. */
static int new_prefetch(struct svm_space *space, const struct svm_prefetch_range *ranges,
			size_t n_ranges, struct svm_job **ret_job)
{
	struct svm_job *job = NULL;
	size_t room;
	size_t n;
	int r = add_ranges(space, ranges, n_ranges, NULL, 0, &room);

	while (r >= 0) {
		r = svm_job_new(&space->ctx, NULL, SVM_CAUSE_PREFETCH, room, &job);
		if (r < 0)
			return r;
		r = add_ranges(space, ranges, n_ranges, job->ranges, room, &n);
		if (r >= 0 && n <= room) {
			job->n_ranges = n;
			job->n_given = n_ranges;
			*ret_job = job;
			return 0;
		}
		/* Memory came or went meanwhile: there are more pieces now. */
		svm_job_release(job, NULL);
		room = n;
	}
	return r;
}

static int need_worker(struct svm_job *job)
{
	for (size_t i = 0; i < job->n_ranges; i++)
		if (job->ranges[i].system)
			return svm_worker_start(&job->ctx->worker);
	return 0;
}

int svm_prefetch_start(struct svm_space *space, const struct svm_prefetch_range *ranges,
		       size_t n_ranges, struct svm_fence *wait, uint32_t flags,
		       struct svm_prefetch **ret_prefetch)
{
	struct svm_job *job = NULL;
	int r;

	if (!space || !ranges || n_ranges == 0 || flags || !ret_prefetch)
		return -EINVAL;
	/* A number that no array can have is refused before the array is read. */
	if (n_ranges > SIZE_MAX / sizeof(struct svm_job_range))
		return -EINVAL;
	r = svm_ctx_check(&space->ctx);
	if (r == 0)
		r = new_prefetch(space, ranges, n_ranges, &job);
	if (r < 0)
		return r;
	r = need_worker(job);
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
	int error = 0;
	int r;

	if (!prefetch || (results && n_results != job->n_given))
		return -EINVAL;
	r = svm_ctx_check(job->ctx);
	if (r < 0)
		return r;
	if (!svm_job_wait(job, timeout_ns, &r))
		return -ETIMEDOUT;
	for (size_t i = 0; i < job->n_given; i++) {
		struct svm_prefetch_result result;

		svm_job_result(job, i, &result);
		if (results)
			results[i] = result;
		error = error ? error : result.error;
	}
	return error;
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
	(void)svm_job_wait(job, -1, &r); /* its result was for svm_prefetch_wait() */
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
