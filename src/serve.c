/* SPDX-License-Identifier: MIT */
#include "serve.h"

#include "sys.h"
#include "transition.h"
#include <errno.h>
#include <semaphore.h>

/* Pages that a first touch makes at once where huge pages are not used: what the kernel's fault-around does for files
 * (fault_around_bytes, mm/memory.c). */
#define POPULATE_UNIT UINT64_C(65536)

/* How long to wait where the address space is changing, and how often: a second in all. */
#define AGAIN_NS  UINT64_C(200000)
#define AGAIN_MAX 5000u
/* Waits for a page that somebody refers to: the first is AGAIN_NS, each next one twice as long, 25 ms in all. */
#define BUSY_MAX 7u

enum verdict {
	VERDICT_DONE,  /* request->status says how */
	VERDICT_WAIT,  /* something in the way passes by itself */
	VERDICT_START, /* a transition is set up */
	VERDICT_AGAIN, /* something changed: look again */
};

/* What stands in the way of a step. */
enum conflict {
	CONFLICT_NONE,
	CONFLICT_PASSES, /* released, waits for its fence */
	CONFLICT_HELD,
};

static bool hold_conflicts(const struct svm_hold *hold, const struct svm_step *step)
{
	uint32_t a = hold->agent;

	if (hold->dead)
		return false;
	if ((step->stops & (1u << a)) && svm_mask_intersects(&step->revoke[a], &hold->pages))
		return true;
	if (hold->write && (step->stops & (1u << a)) &&
	    svm_mask_intersects(&step->protect[a], &hold->pages))
		return true;
	if (!hold->store)
		return false;
	/* Others read and write that storage behind our back: it neither goes nor gets a second copy. */
	return ((step->drops & (1u << a)) && svm_mask_intersects(&step->drop[a], &hold->pages)) ||
	       ((step->copies & (1u << a)) && svm_mask_intersects(&step->copy[a], &hold->pages));
}

static enum conflict find_conflict(const struct svm_block *block, const struct svm_step *step)
{
	enum conflict found = CONFLICT_NONE;

	svm_list_for_each(node, &block->holds) {
		const struct svm_hold *hold = svm_list_entry(node, struct svm_hold, node);

		if (!hold_conflicts(hold, step))
			continue;
		if (!hold->released)
			return CONFLICT_HELD;
		found = CONFLICT_PASSES;
	}
	return found;
}

/* A new hold of agent would clash with one that another agent has: both on a page, one of them for write. Agents
 * that both map host memory in place may, if atomics across them are asked for. */
static enum conflict hold_clash(const struct svm_block *block, const struct svm_hold *wanted,
				bool shared)
{
	enum conflict found = CONFLICT_NONE;

	svm_list_for_each(node, &block->holds) {
		const struct svm_hold *hold = svm_list_entry(node, struct svm_hold, node);

		if (hold->dead || hold->agent == wanted->agent ||
		    !svm_mask_intersects(&hold->pages, &wanted->pages))
			continue;
		if (!hold->write && !wanted->write && !hold->store && !wanted->store)
			continue;
		if (shared && !hold->store && !wanted->store)
			continue;
		if (!hold->released)
			return CONFLICT_HELD;
		found = CONFLICT_PASSES;
	}
	return found;
}

/* Pages that other agents hold: neighbours of a fault stay away from them. */
static void held_by_others(const struct svm_block *block, uint32_t agent,
			   struct svm_mask *ret_pages)
{
	svm_mask_zero(ret_pages);
	svm_list_for_each(node, &block->holds) {
		const struct svm_hold *hold = svm_list_entry(node, struct svm_hold, node);

		if (hold->agent != agent && !hold->dead)
			svm_mask_or(ret_pages, &hold->pages);
	}
}

static enum verdict done(struct svm_request *request, int status)
{
	request->status = status;
	return VERDICT_DONE;
}

/* A pin on a device lasts as long as the application likes: who asks for its pages is told at once. */
static bool is_pinned_elsewhere(const struct svm_request *request)
{
	svm_list_for_each(node, &request->block->holds) {
		const struct svm_hold *hold = svm_list_entry(node, struct svm_hold, node);

		if (hold->store && !hold->dead && hold->agent != request->agent &&
		    svm_mask_intersects(&hold->pages, &request->pages))
			return true;
	}
	return false;
}

static enum verdict conflict_verdict(struct svm_request *request, enum conflict conflict)
{
	if (conflict == CONFLICT_PASSES)
		return request->flags & SVM_REQUEST_TRY ? done(request, -EAGAIN) : VERDICT_WAIT;
	if (request->kind == SVM_REQUEST_ACCESS && request->cause == SVM_CAUSE_ACQUIRE &&
	    is_pinned_elsewhere(request))
		return done(request, request->agent == SVM_AGENT_CPU ? -EBUSY : -ENOLINK);
	/* A touch has nobody to tell; everyone else is told. */
	if (request->kind == SVM_REQUEST_ACCESS &&
	    (request->cause == SVM_CAUSE_FAULT || (request->flags & SVM_REQUEST_PATIENT)))
		return VERDICT_WAIT;
	return done(request, -EBUSY);
}

static struct svm_transition *transition_new(struct svm_request *request,
					     enum svm_transition_kind kind)
{
	struct svm_transition *t = svm_pool_get(&request->block->ctx->transition_pool);

	if (!t)
		return NULL;
	t->block = request->block;
	t->request = request;
	t->kind = kind;
	t->urgent = request->cause == SVM_CAUSE_FAULT && request->kind == SVM_REQUEST_ACCESS;
	return t;
}

/* Which agents' mappings can be made read-only in place, of those that have any. */
static uint32_t can_protect(const struct svm_block *block)
{
	uint32_t agents = svm_host_can_protect(&block->ctx->host, &block->host) ? 1u : 0u;

	for (uint32_t a = 1; a < SVM_AGENTS; a++) {
		const struct svm_block_device *entry = svm_block_device_of(block, a);

		if (entry && svm_device_has(entry->device, SVM_CAP_READ_ONLY))
			agents |= 1u << a;
	}
	return agents;
}

/* From which locations bytes get to dest without a stop on the host. */
static uint32_t can_copy(const struct svm_block *block, uint32_t dest)
{
	const struct svm_device *to = svm_device_of(block->ctx, dest);
	uint32_t locations = 1u;

	if (dest == SVM_LOC_HOST || !to)
		return ~0u;
	for (uint32_t l = 1; l < SVM_AGENTS; l++) {
		const struct svm_block_device *entry = svm_block_device_of(block, l);

		if (entry && l != dest &&
		    svm_device_has(to, SVM_CAP_PEER_COPY | SVM_CAP_COPY_ENGINE) &&
		    svm_device_has(entry->device, SVM_CAP_PEER_COPY) &&
		    entry->device->ops.copy == to->ops.copy && !svm_device_is_lost(entry->device))
			locations |= 1u << l;
	}
	return locations;
}

/* Storage that was given while the request waited, and is not needed after all. */
static void give_chunk(struct svm_request *request)
{
	if (!request->has_chunk)
		return;
	request->has_chunk = false;
	svm_store_give(&request->space_device->store, request->space.handle);
}

/* Set a step up as a transition: entries of its devices exist, storage is there. */
static enum verdict start_step(struct svm_request *request, struct svm_transition *t,
			       struct svm_transition **ret_t)
{
	struct svm_block *block = request->block;
	struct svm_device *to = svm_device_of(block->ctx, t->step.dest);
	struct svm_device *mapper =
		t->step.agent == SVM_AGENT_NONE ? NULL : svm_device_of(block->ctx, t->step.agent);
	enum conflict conflict = find_conflict(block, &t->step);
	enum verdict verdict = VERDICT_START;

	if (conflict != CONFLICT_NONE) {
		verdict = conflict_verdict(request, conflict);
		goto out;
	}
	if ((to && !svm_block_add_device(block, to)) ||
	    (mapper && !svm_block_add_device(block, mapper))) {
		verdict = done(request, -ENOMEM);
		goto out;
	}
	if (to && !svm_block_device_of(block, t->step.dest)->chunk.present) {
		int r = 0;

		if (request->has_chunk && request->space_device == to) {
			t->chunk = request->space.handle;
			request->has_chunk = false;
		} else {
			give_chunk(request);
			r = svm_store_take(&to->store, &t->chunk);
		}
		if (r == -ENOSPC) {
			request->space_device = to;
			request->waits_for_space = true;
			svm_list_init(&request->space.node);
			svm_store_wait(&to->store, &request->space);
			verdict = VERDICT_WAIT;
			goto out;
		}
		if (r < 0) {
			verdict = done(request, r);
			goto out;
		}
		t->has_chunk = true;
	}
	*ret_t = t;
	return VERDICT_START;
out:
	svm_pool_put(&block->ctx->transition_pool, t);
	return verdict;
}

/* Copies never read registered memory where the application could take it away under them: its pages go to the stash
 * first, and the CPU gets them back at its next touch. */
static void keep_out_of_user_view(const struct svm_block *block, struct svm_step *step)
{
	struct svm_mask mapped = step->copy[SVM_LOC_HOST];

	if (!block->host.registered || !(step->copies & 1u))
		return;
	svm_mask_and(&mapped, &block->cpu.map_r);
	svm_mask_andnot(&step->protect[SVM_AGENT_CPU], &mapped);
	if (svm_mask_empty(&mapped))
		return;
	svm_mask_or(&step->revoke[SVM_AGENT_CPU], &mapped);
	step->stops |= 1u;
}

static enum verdict start_goal(struct svm_request *request, struct svm_goal *goal,
			       struct svm_transition **ret_t)
{
	struct svm_transition *t = transition_new(request, SVM_TRANSITION_STEP);
	uint32_t dest = goal->agent;

	if (!t)
		return done(request, -ENOMEM);
	if (goal->kind == SVM_GOAL_LEAVE)
		dest = goal->dest;
	else if (goal->mode == SVM_COH_REMOTE || goal->kind != SVM_GOAL_ACCESS)
		dest = SVM_LOC_HOST;
	goal->can_protect = can_protect(request->block);
	goal->can_copy = can_copy(request->block, dest);
	if (svm_coh_plan(&request->block->coh, goal, &t->step)) {
		keep_out_of_user_view(request->block, &t->step);
		return start_step(request, t, ret_t);
	}
	svm_pool_put(&request->block->ctx->transition_pool, t);
	svm_mask_andnot(&request->left, &goal->pages);
	return VERDICT_AGAIN;
}

/* Pages that have bytes, and not on the host alone. */
static void away_from_host(const struct svm_block *block, struct svm_mask *ret_pages)
{
	struct svm_mask only;

	svm_coh_populated(&block->coh, ret_pages);
	svm_coh_only(&block->coh, SVM_LOC_HOST, &only);
	svm_mask_andnot(ret_pages, &only);
}

/*
 * The CPU lets go of the whole block, then its host storage becomes shared. While it does, the kernel serves touches by
 * itself for a moment (svm_host_convert()): it has to find all bytes on the host, and nobody else may have them.
 */
static enum verdict start_convert(struct svm_request *request, struct svm_transition **ret_t)
{
	struct svm_block *block = request->block;
	struct svm_goal home = { .kind = SVM_GOAL_ACCESS,
				 .mode = SVM_COH_MIGRATE,
				 .agent = SVM_AGENT_CPU };
	struct svm_transition *t;
	enum conflict conflict;

	away_from_host(block, &home.pages);
	if (!svm_mask_empty(&home.pages)) {
		request->converts = true;
		return start_goal(request, &home, ret_t);
	}
	t = transition_new(request, SVM_TRANSITION_CONVERT);
	if (!t)
		return done(request, -ENOMEM);
	t->step.agent = SVM_AGENT_NONE;
	t->step.revoke[SVM_AGENT_CPU] = block->cpu.map_r;
	t->step.pages = block->cpu.map_r;
	t->step.stops = svm_mask_empty(&block->cpu.map_r) ? 0 : 1u;
	conflict = find_conflict(block, &t->step);
	if (conflict != CONFLICT_NONE) {
		svm_pool_put(&block->ctx->transition_pool, t);
		return conflict_verdict(request, conflict);
	}
	*ret_t = t;
	return VERDICT_START;
}

/* A device died: what it held is taken from elsewhere, saved from memory that survived, or poisoned. */
static enum verdict handle_loss(struct svm_request *request, struct svm_block_device *entry,
				struct svm_transition **ret_t)
{
	struct svm_block *block = request->block;
	struct svm_device *device = entry->device;
	struct svm_transition *t;
	struct svm_mask only;
	struct svm_mask poisoned;
	struct svm_mask freed;

	svm_coh_only(&block->coh, device->agent, &only);
	svm_mask_andnot(&only, &block->coh.discarded);
	svm_mask_and(&only, &block->managed); /* the rest was freed */
	if (!svm_mask_empty(&only) && !entry->given_up &&
	    device->ops.memory_kept(device->dev) == 1) {
		struct svm_goal goal = { .kind = SVM_GOAL_LEAVE,
					 .agent = device->agent,
					 .pages = only,
					 .can_copy = ~0u };

		t = transition_new(request, SVM_TRANSITION_STEP);
		entry->given_up = true;
		if (t && svm_coh_plan(&block->coh, &goal, &t->step)) {
			t->for_loss = true;
			*ret_t = t;
			return VERDICT_START;
		}
		if (t)
			svm_pool_put(&block->ctx->transition_pool, t);
	}
	svm_coh_lose(&block->coh, device->agent, &poisoned);
	/* Pages that were freed are nobody's loss. */
	freed = poisoned;
	svm_mask_andnot(&freed, &block->managed);
	svm_mask_andnot(&block->coh.poisoned, &freed);
	svm_mask_and(&poisoned, &block->managed);
	svm_block_remove_device(block, entry);
	svm_list_for_each(node, &block->holds) {
		struct svm_hold *hold = svm_list_entry(node, struct svm_hold, node);

		if (hold->agent == device->agent)
			hold->dead = true;
	}
	svm_block_check(block);
	atomic_fetch_add_explicit(&block->ctx->generation, 1u, memory_order_relaxed);
	if (svm_mask_empty(&poisoned))
		return VERDICT_AGAIN;
	svm_trace_count(&block->ctx->trace, SVM_COUNT_PAGES_POISONED, svm_mask_count(&poisoned));
	svm_trace_event(&block->ctx->trace,
			&(struct svm_event){ .kind = SVM_EVENT_POISON,
					     .addr = block->base,
					     .size = (uint64_t)svm_mask_count(&poisoned)
						     << SVM_PAGE_SHIFT,
					     .device = device->id });
	t = transition_new(request, SVM_TRANSITION_POISON);
	if (!t)
		return VERDICT_AGAIN; /* a CPU touch comes as a fault, and is poisoned then */
	t->for_loss = true;
	t->step.pages = poisoned;
	*ret_t = t;
	return VERDICT_START;
}

static struct svm_block_device *lost_entry(const struct svm_block *block)
{
	for (uint32_t a = 1; a < SVM_AGENTS; a++) {
		struct svm_block_device *entry = svm_block_device_of(block, a);

		if (entry && svm_device_is_lost(entry->device))
			return entry;
	}
	return NULL;
}

static enum svm_whereabouts where_is(const struct svm_block *block, uint32_t agent,
				     unsigned int page)
{
	const struct svm_coh_agent *own = block->coh.at[agent];
	struct svm_mask populated;

	if (own && svm_mask_test(&own->res, page))
		return SVM_AT_OWN;
	if (agent != SVM_AGENT_CPU && svm_mask_test(&block->cpu.res, page))
		return SVM_AT_HOST;
	svm_coh_populated(&block->coh, &populated);
	return svm_mask_test(&populated, page) ? SVM_AT_PEER : SVM_AT_NONE;
}

static void pages_at(const struct svm_block *block, uint32_t agent, enum svm_whereabouts at,
		     struct svm_mask *ret)
{
	static const struct svm_mask none;
	const struct svm_mask *own = block->coh.at[agent] ? &block->coh.at[agent]->res : &none;

	svm_coh_populated(&block->coh, ret);
	switch (at) {
	case SVM_AT_NONE:
		for (unsigned int i = 0; i < SVM_MASK_WORDS; i++)
			ret->w[i] = ~ret->w[i];
		break;
	case SVM_AT_OWN:
		*ret = *own;
		break;
	case SVM_AT_HOST:
		*ret = block->cpu.res;
		svm_mask_andnot(ret, own);
		break;
	case SVM_AT_PEER:
		svm_mask_andnot(ret, own);
		svm_mask_andnot(ret, &block->cpu.res);
		break;
	}
}

/* The page, and what never moves without it. */
static void unit_of(const struct svm_block *block, unsigned int page, struct svm_mask *ret_pages)
{
	uint64_t unit = svm_max_u64(block->ctx->unit, SVM_PAGE_SIZE);
	uint64_t start = svm_align_down(block->base + ((uint64_t)page << SVM_PAGE_SHIFT), unit);

	svm_block_pages(block, start, start + unit, ret_pages);
}

/* Pages around one that a fault may bring along: of the same range, within the granularity. */
static void spread(const struct svm_block *block, const struct svm_range *range, unsigned int page,
		   enum svm_whereabouts at, struct svm_mask *ret_pages)
{
	uint64_t unit =
		svm_max_u64(UINT64_C(1) << range->hints.granularity_shift, block->ctx->unit);
	uint64_t addr = block->base + ((uint64_t)page << SVM_PAGE_SHIFT);
	uint64_t start;

	if (at == SVM_AT_NONE && !block->ctx->host.huge)
		unit = svm_min_u64(unit, POPULATE_UNIT);
	start = svm_align_down(addr, unit);
	svm_block_pages(block, svm_max_u64(start, range->node.start),
			svm_min_u64(start + unit, range->node.end), ret_pages);
}

/* Duplicates need everybody concerned to notice a write: the reader, who has a mapping now, and the CPU. */
static bool can_duplicate(const struct svm_block *block, uint32_t agent)
{
	const struct svm_device *device = svm_device_of(block->ctx, agent);

	if (!svm_host_can_protect(&block->ctx->host, &block->host))
		return false;
	return !device || svm_device_has(device, SVM_CAP_READ_ONLY);
}

static bool reaches_host(const struct svm_block *block, const struct svm_device *device)
{
	return device && svm_device_has(device, SVM_CAP_HOST_ALIAS) && !block->host.registered;
}

/* Pages of the request that have what it wants, whatever way they got there. */
static void access_satisfied(const struct svm_request *request, struct svm_mask *ret)
{
	const struct svm_coh_agent *at = request->block->coh.at[request->agent];
	const struct svm_block_device *entry = svm_block_device_of(request->block, request->agent);

	svm_mask_zero(ret);
	if (!at)
		return;
	*ret = request->write ? at->map_w : at->map_r;
	if (request->flags & SVM_REQUEST_IN_PLACE)
		svm_mask_and(ret, &at->remote);
	if (entry)
		svm_mask_andnot(ret, &entry->doubtful);
}

static bool wants_mapping(const struct svm_request *request)
{
	const struct svm_device *device = svm_device_of(request->block->ctx, request->agent);

	if (request->flags & SVM_REQUEST_NO_MAP)
		return false;
	if (request->cause == SVM_CAUSE_PREFETCH)
		/* Without recoverable faults a mapping is for acquired memory only. */
		return !device || svm_device_has(device, SVM_CAP_FAULTS);
	return request->cause != SVM_CAUSE_PIN || !device;
}

/* A transition that is not a step: on the request's pages. */
static enum verdict start_simple(struct svm_request *request, enum svm_transition_kind kind,
				 struct svm_transition **ret_t)
{
	*ret_t = transition_new(request, kind);
	if (!*ret_t)
		return done(request, -ENOMEM);
	(*ret_t)->step.pages = request->pages;
	return VERDICT_START;
}

/* Devices that are to keep a mapping wherever the bytes go, and can have one of host memory. */
static void note_followers(struct svm_request *request)
{
	const struct svm_block *block = request->block;
	const struct svm_range *range;
	unsigned int page = 0;

	if (svm_mask_run(&request->pages, &page) == 0)
		return;
	range = svm_range_at(block->ctx, block->base + ((uint64_t)page << SVM_PAGE_SHIFT));
	if (!range || !(range->hints.accessed_by | range->hints.in_place))
		return;
	for (uint32_t a = 1; a < SVM_AGENTS; a++) {
		struct svm_device *device = svm_device_of(block->ctx, a);

		if (!device ||
		    !((range->hints.accessed_by | range->hints.in_place) >> device->id & 1u))
			continue;
		if (svm_device_has(device, SVM_CAP_FAULTS) && reaches_host(block, device))
			request->followers |= (uint16_t)(1u << device->id);
	}
}

/* The mapping that a fault or an acquire asked for is there: what is left to do at the end. */
static enum verdict access_done(struct svm_request *request, struct svm_transition **ret_t)
{
	struct svm_block *block = request->block;
	struct svm_block_device *entry = svm_block_device_of(block, request->agent);
	bool is_cpu = request->agent == SVM_AGENT_CPU;

	/* A touch of what is mapped already: late news, or the kernel took the page (reclaim, MADV_DONTNEED). */
	if (is_cpu && request->cause == SVM_CAUSE_FAULT && !request->served) {
		svm_trace_count(&block->ctx->trace, SVM_COUNT_CPU_FAULTS_SPURIOUS, 1);
		return start_simple(request, SVM_TRANSITION_REPAIR, ret_t);
	}
	if (is_cpu && request->place && !request->placed) {
		request->placed = true;
		block->host.node = request->numa_node;
		return start_simple(request, SVM_TRANSITION_PLACE, ret_t);
	}
	if (entry && entry->chunk.present)
		svm_store_touch(&entry->device->store, &entry->chunk);
	if (request->cause == SVM_CAUSE_PREFETCH)
		svm_mask_andnot(&block->coh.discarded, &request->pages);
	if (is_cpu)
		note_followers(request);
	if (request->hold) {
		request->hold->block = block;
		svm_list_add_tail(&block->holds, &request->hold->node);
		if (entry)
			atomic_fetch_add(&entry->device->n_holds, 1u);
	}
	return done(request, 0);
}

/* Devices that a hint may name but that store no managed memory. */
static uint16_t native_only(const struct svm_ctx *ctx)
{
	uint16_t devices = 0;

	if (atomic_load(&((struct svm_ctx *)ctx)->n_native) == 0)
		return 0;
	for (uint32_t a = 1; a < SVM_AGENTS; a++) {
		const struct svm_device *device = svm_device_of(ctx, a);

		if (device && device->native_only)
			devices |= (uint16_t)(1u << device->id);
	}
	return devices;
}

static struct svm_policy_in policy_input(const struct svm_request *request,
					 const struct svm_range *range, enum svm_whereabouts at,
					 uint64_t now)
{
	const struct svm_block *block = request->block;
	const struct svm_device *device = svm_device_of(block->ctx, request->agent);

	return (struct svm_policy_in){
		.agent = request->agent,
		.cause = request->cause,
		.at = at,
		.write = request->write,
		.reaches_host = reaches_host(block, device),
		.can_duplicate = can_duplicate(block, request->agent),
		.system_atomics = device && svm_device_has(device, SVM_CAP_SYSTEM_ATOMICS),
		.thrashing = svm_history_thrashing(&block->history, now),
		.native = native_only(block->ctx),
		.hints = &range->hints,
	};
}

static void note_move(const struct svm_request *request, enum svm_whereabouts at, uint64_t now)
{
	struct svm_block *block = request->block;

	if (at != SVM_AT_HOST && at != SVM_AT_PEER)
		return;
	if (request->cause != SVM_CAUSE_FAULT && request->cause != SVM_CAUSE_ACQUIRE)
		return;
	if (!svm_history_moved(&block->history, request->agent, now))
		return;
	svm_trace_count(&block->ctx->trace, SVM_COUNT_THRASH_EVENTS, 1);
	svm_trace_event(&block->ctx->trace, &(struct svm_event){ .kind = SVM_EVENT_THRASH,
								 .addr = block->base,
								 .value = SVM_THRASH_THRESHOLD,
								 .device = ~0u });
}

static void nap_is_over(struct svm_timer *timer)
{
	struct svm_block *block = svm_container_of(timer, struct svm_block, nap);

	svm_lock(&block->lock);
	block->napping = false;
	svm_unlock(&block->lock);
	svm_block_run(block);
}

/* LOCKING: block. Look at it again then, or earlier. */
static void nap_until(struct svm_block *block, uint64_t end)
{
	if (block->napping)
		return;
	block->napping = true;
	block->n_runners++;
	block->nap.fire = nap_is_over;
	svm_loop_set_timer(svm_ctx_loop(block->ctx, block->base), &block->nap, end);
}

/* Agents pull the block to and fro, and it cannot be shared in place: each gets it for a while. */
static bool has_to_nap(const struct svm_request *request, enum svm_whereabouts at,
		       enum svm_coh_mode mode, uint64_t now)
{
	struct svm_block *block = request->block;
	uint64_t end;

	if (request->cause != SVM_CAUSE_FAULT || mode != SVM_COH_MIGRATE ||
	    (at != SVM_AT_HOST && at != SVM_AT_PEER))
		return false;
	end = svm_history_nap(&block->history, request->agent, now);
	if (end == 0)
		return false;
	nap_until(block, end);
	return true;
}

/* A change of kind takes the whole block from everybody, and poison with it. Where somebody holds other pages of it, or
 * others are lost, this request must neither wait for that nor fail of it: its own pages move instead of being mapped
 * in place. */
static bool may_convert(const struct svm_block *block)
{
	svm_list_for_each(node, &block->holds)
		if (!svm_list_entry(node, struct svm_hold, node)->dead)
			return false;
	return svm_mask_empty(&block->coh.poisoned);
}

static bool may_move_instead(const struct svm_request *request, const struct svm_range *range)
{
	return !(request->flags & SVM_REQUEST_IN_PLACE) &&
	       range->hints.migration != SVM_MIGRATE_NEVER;
}

/* Its pages should be in its own memory: no mapping in place is to keep them from it. */
static bool prefers_device(const struct svm_range *range, uint32_t agent)
{
	return range->hints.preferred.kind == SVM_LOCATION_DEVICE &&
	       range->hints.preferred.id == agent - 1u;
}

/* Pages of the block that the range's hints hold for: its own, and those of others with equal hints, as small
 * allocations have that share a block. */
static void pages_alike(const struct svm_block *block, const struct svm_range *range,
			struct svm_mask *ret_pages)
{
	uint64_t end = block->base + SVM_BLOCK_SIZE;
	struct svm_mask more;

	svm_block_pages(block, range->node.start, range->node.end, ret_pages);
	/* The registrations of one block of addresses have a block each. */
	if (block->host.registered)
		return;
	for (struct svm_tree_node *node = svm_tree_find_from(&block->ctx->ranges, block->base);
	     node && node->start < end; node = svm_tree_next(node)) {
		if (!svm_hints_equal(&svm_range_of(node)->hints, &range->hints))
			continue;
		svm_block_pages(block, node->start, node->end, &more);
		svm_mask_or(ret_pages, &more);
	}
}

/* Plan for the first page that is left, with all others of the block that are in the same case. */
static enum verdict serve_group(struct svm_request *request, unsigned int page,
				struct svm_transition **ret_t)
{
	struct svm_block *block = request->block;
	uint64_t addr = block->base + ((uint64_t)page << SVM_PAGE_SHIFT);
	const struct svm_range *range = svm_range_at(block->ctx, addr);
	enum svm_whereabouts at = where_is(block, request->agent, page);
	uint64_t now = svm_sys->clock_ns();
	struct svm_goal goal = { .kind = SVM_GOAL_ACCESS,
				 .agent = request->agent,
				 .write = request->write,
				 .map = wants_mapping(request) };
	struct svm_policy_in in;
	struct svm_action action;
	struct svm_mask group;
	struct svm_mask m;

	if (!range)
		return done(request, -ENOENT);
	in = policy_input(request, range, at, now);
	action = svm_policy(&in);
	/* A fault brings along what is of the same range only. */
	if (request->cause == SVM_CAUSE_FAULT)
		svm_block_pages(block, range->node.start, range->node.end, &group);
	else
		pages_alike(block, range, &group);
	pages_at(block, request->agent, at, &m);
	svm_mask_and(&group, &m);
	svm_mask_and(&group, &block->managed);
	if (action.error) {
		if (request->cause != SVM_CAUSE_PREFETCH)
			return done(request, action.error);
		svm_mask_and(&group, &request->left);
		svm_mask_or(&request->skipped, &group);
		svm_mask_andnot(&request->left, &group);
		return VERDICT_AGAIN;
	}
	if ((request->flags & SVM_REQUEST_IN_PLACE) &&
	    (at != SVM_AT_HOST || prefers_device(range, request->agent))) {
		svm_mask_and(&group, &request->left);
		svm_mask_andnot(&request->left, &group);
		return VERDICT_AGAIN;
	}
	if (request->cause == SVM_CAUSE_ACQUIRE && !request->write &&
	    action.mode == SVM_COH_MIGRATE && can_duplicate(block, request->agent)) {
		/* What others hold for reading can be read along: it is not moved away from them. */
		held_by_others(block, request->agent, &m);
		if (svm_mask_test(&m, page)) {
			action.mode = SVM_COH_DUPLICATE;
			svm_mask_and(&group, &m);
		} else {
			svm_mask_andnot(&group, &m);
		}
	}
	if (request->flags & (SVM_REQUEST_IN_PLACE | SVM_REQUEST_TO_HOST))
		action.mode = SVM_COH_REMOTE;
	block->host.node = -1;
	if (range->hints.preferred.kind == SVM_LOCATION_HOST_NUMA)
		block->host.node = (int)range->hints.preferred.id;
	if (request->place)
		block->host.node = request->numa_node;
	if (request->cause == SVM_CAUSE_FAULT && action.spread) {
		spread(block, range, page, at, &m);
		svm_mask_and(&group, &m);
		held_by_others(block, request->agent, &m);
		svm_mask_andnot(&group, &m);
		unit_of(block, page, &m);
		svm_mask_and(&m, &block->managed);
		svm_mask_or(&group, &m);
	} else {
		svm_mask_and(&group, &request->left);
	}
	if (request->cause == SVM_CAUSE_PREFETCH) {
		held_by_others(block, request->agent, &m);
		svm_mask_and(&m, &group);
		if (!svm_mask_empty(&m)) {
			svm_mask_or(&request->skipped, &m);
			svm_mask_andnot(&request->left, &m);
			return VERDICT_AGAIN;
		}
	}
	if (action.mode == SVM_COH_REMOTE && block->host.kind == SVM_HOST_PRIVATE) {
		away_from_host(block, &m);
		if ((request->flags & SVM_REQUEST_IN_PLACE) && !svm_mask_empty(&m)) {
			/* A hint moves nothing. */
			svm_mask_andnot(&request->left, &group);
			return VERDICT_AGAIN;
		}
		if (may_convert(block))
			return start_convert(request, ret_t);
		if (request->flags & SVM_REQUEST_TO_HOST)
			return done(request, -ENOSPC); /* which is why it was asked for */
		if (may_move_instead(request, range)) {
			action.mode = SVM_COH_MIGRATE;
		} else if (svm_mask_empty(&block->coh.poisoned)) {
			request->must_convert = true;
			return start_convert(request, ret_t); /* who holds it gives it back */
		} else {
			return done(request, -ENOLINK);
		}
	}
	if (has_to_nap(request, at, action.mode, now))
		return VERDICT_WAIT;
	goal.mode = action.mode;
	goal.pages = group;
	note_move(request, at, now);
	return start_goal(request, &goal, ret_t);
}

static enum verdict clear_doubts(struct svm_request *request, struct svm_block_device *entry,
				 struct svm_transition **ret_t)
{
	struct svm_goal goal = { .kind = SVM_GOAL_UNMAP,
				 .agent = request->agent,
				 .pages = entry->doubtful };

	svm_mask_and(&goal.pages, &entry->agent.map_r);
	if (svm_mask_empty(&goal.pages)) {
		svm_mask_zero(&entry->doubtful);
		return VERDICT_AGAIN;
	}
	return start_goal(request, &goal, ret_t);
}

/* The request is about memory on which agents may work at the same time: host memory in place, with atomics
 * across them. */
static bool has_system_atomics(const struct svm_request *request)
{
	const struct svm_block *block = request->block;
	const struct svm_device *device = svm_device_of(block->ctx, request->agent);
	const struct svm_range *range;
	unsigned int page = 0;

	if (device &&
	    !(reaches_host(block, device) && svm_device_has(device, SVM_CAP_SYSTEM_ATOMICS)))
		return false;
	if (svm_mask_run(&request->pages, &page) == 0)
		return false;
	range = svm_range_at(block->ctx, block->base + ((uint64_t)page << SVM_PAGE_SHIFT));
	return range && range->hints.atomics == SVM_ATOMICS_SYSTEM;
}

static bool hits(const struct svm_request *request, const struct svm_mask *pages)
{
	return svm_mask_intersects(&request->left, pages);
}

static enum verdict serve_access(struct svm_request *request, struct svm_transition **ret_t)
{
	struct svm_block *block = request->block;
	struct svm_device *device = svm_device_of(block->ctx, request->agent);
	struct svm_block_device *entry = svm_block_device_of(block, request->agent);
	struct svm_mask m;
	unsigned int page = 0;

	if (request->agent != SVM_AGENT_CPU &&
	    (!device || svm_device_is_lost(device) || atomic_load(&device->closing)))
		return done(request, -ENODEV);
	if (!svm_mask_subset(&request->left, &block->managed))
		return done(request, -ENOENT);
	if (hits(request, &block->coh.poisoned))
		return done(request, -EIO);
	if (entry && hits(request, &entry->doubtful))
		return clear_doubts(request, entry, ret_t);
	if (request->cause == SVM_CAUSE_FAULT || request->cause == SVM_CAUSE_ACQUIRE) {
		access_satisfied(request, &m);
		svm_mask_andnot(&request->left, &m);
	}
	if (request->hold) {
		enum conflict clash = hold_clash(block, request->hold, has_system_atomics(request));

		if (clash != CONFLICT_NONE)
			return conflict_verdict(request, clash);
	}
	if (svm_mask_run(&request->left, &page) == 0)
		return access_done(request, ret_t);
	/* Before another part of the request takes away what just came home for it. */
	if (request->converts && block->host.kind == SVM_HOST_PRIVATE &&
	    (may_convert(block) || (request->must_convert && svm_mask_empty(&block->coh.poisoned))))
		return start_convert(request, ret_t);
	return serve_group(request, page, ret_t);
}

/* Pages leave a device's memory: home, or to the device where they should live, if it has room. */
static enum verdict serve_leave(struct svm_request *request, struct svm_transition **ret_t)
{
	struct svm_goal goal = { .kind = SVM_GOAL_LEAVE,
				 .agent = request->agent,
				 .dest = SVM_LOC_HOST };
	struct svm_block *block = request->block;
	unsigned int page = 0;
	uint64_t addr;
	const struct svm_range *range;
	const struct svm_device *better;

	if (!block->coh.at[request->agent])
		return done(request, 0);
	svm_mask_and(&request->left, &block->coh.at[request->agent]->res);
	if (svm_mask_run(&request->left, &page) == 0)
		return done(request, 0);
	goal.pages = request->left;
	/* What svm_free() could not take back then: its bytes are nobody's, and there is no place for them any more. */
	svm_mask_andnot(&goal.pages, &block->managed);
	if (!svm_mask_empty(&goal.pages)) {
		goal = (struct svm_goal){ .kind = SVM_GOAL_DISCARD, .pages = goal.pages };
		return start_goal(request, &goal, ret_t);
	}
	goal.pages = request->left;
	addr = block->base + ((uint64_t)page << SVM_PAGE_SHIFT);
	range = svm_range_at(block->ctx, addr);
	if (request->kind == SVM_REQUEST_LEAVE && range &&
	    range->hints.preferred.kind == SVM_LOCATION_DEVICE) {
		uint32_t to = range->hints.preferred.id + 1u;
		const struct svm_block_device *there = svm_block_device_of(block, to);

		better = svm_device_of(block->ctx, to);
		if (to != request->agent && better && !svm_device_is_lost(better) && there &&
		    there->chunk.present && (can_copy(block, to) & (1u << request->agent))) {
			struct svm_mask m;

			svm_block_pages(block, range->node.start, range->node.end, &m);
			svm_mask_and(&goal.pages, &m);
			goal.dest = to;
		}
	}
	return start_goal(request, &goal, ret_t);
}

static enum verdict serve_forget(struct svm_request *request, struct svm_transition **ret_t)
{
	struct svm_block *block = request->block;
	struct svm_block_device *entry = svm_block_device_of(block, request->agent);
	struct svm_goal goal = { .kind = SVM_GOAL_UNMAP, .agent = request->agent };

	if (!entry)
		return done(request, 0);
	if (!svm_mask_empty(&entry->agent.res)) {
		svm_mask_fill(&request->left);
		return serve_leave(request, ret_t);
	}
	goal.pages = entry->agent.map_r;
	if (!svm_mask_empty(&goal.pages))
		return start_goal(request, &goal, ret_t);
	svm_block_remove_device(block, entry);
	return done(request, 0);
}

static enum verdict serve_discard(struct svm_request *request, struct svm_transition **ret_t)
{
	struct svm_block *block = request->block;
	struct svm_goal goal = { .kind = SVM_GOAL_DISCARD, .pages = request->left };
	enum verdict verdict;

	/* From here on these pages are this request's to deal with, and may be mapped again after it, or while it waits for a
	 * hold. What stays noted is what came later. */
	if (request->flags & SVM_REQUEST_NEWS) {
		block->host.dropped = block->news->dropped;
		svm_mask_or(&block->host.dropped, &block->news->unmapped);
	}
	if (svm_mask_empty(&request->left))
		return done(request, 0);
	verdict = start_goal(request, &goal, ret_t);
	if (verdict != VERDICT_AGAIN)
		return verdict;
	/* Nothing is held; a signal mark for touches of unmanaged pages may be. */
	svm_mask_and(&goal.pages, &block->host.poison);
	if (svm_mask_empty(&goal.pages))
		return done(request, 0);
	*ret_t = transition_new(request, SVM_TRANSITION_STEP);
	if (!*ret_t)
		return done(request, -ENOMEM);
	(*ret_t)->step.agent = SVM_AGENT_NONE;
	(*ret_t)->step.discard = true;
	(*ret_t)->step.pages = goal.pages;
	return VERDICT_START;
}

/* Everything to the CPU, writable, in the user view. */
static enum verdict serve_home(struct svm_request *request, struct svm_transition **ret_t)
{
	struct svm_block *block = request->block;
	struct svm_goal goal = { .kind = SVM_GOAL_ACCESS,
				 .mode = SVM_COH_MIGRATE,
				 .agent = SVM_AGENT_CPU,
				 .write = true,
				 .map = true };
	struct svm_mask populated;

	svm_coh_populated(&block->coh, &populated);
	svm_mask_and(&request->left, &populated);
	if (svm_mask_empty(&request->left))
		return done(request, 0);
	goal.pages = request->left;
	return start_goal(request, &goal, ret_t);
}

/* The mark of a page that was lost could not be made then, and no touch has asked for it since. */
static enum verdict serve_mark(struct svm_request *request, struct svm_transition **ret_t)
{
	const struct svm_block *block = request->block;
	enum verdict verdict;

	svm_mask_and(&request->left, &block->coh.poisoned);
	svm_mask_andnot(&request->left, &block->host.poison);
	if (svm_mask_empty(&request->left))
		return done(request, 0);
	verdict = start_simple(request, SVM_TRANSITION_POISON, ret_t);
	if (verdict == VERDICT_START)
		(*ret_t)->step.pages = request->left;
	return verdict;
}

/* Pages that the CPU may read and nobody holds for it: the mapping goes with the write that failed. */
static void take_read_only(const struct svm_request *request, struct svm_step *step)
{
	const struct svm_block *block = request->block;
	struct svm_mask *revoke = &step->revoke[SVM_AGENT_CPU];

	*revoke = request->pages;
	svm_mask_and(revoke, &block->cpu.map_r);
	svm_mask_andnot(revoke, &block->cpu.map_w);
	step->stops = svm_mask_empty(revoke) ? 0 : 1u;
	if (find_conflict(block, step) == CONFLICT_NONE)
		return;
	svm_mask_zero(revoke);
	step->stops = 0;
}

static enum verdict serve_poison(struct svm_request *request, struct svm_transition **ret_t)
{
	enum verdict verdict;
	if (svm_mask_empty(&request->left))
		return done(request, 0);
	/* Late news of a touch of what was freed since, and given out again: that one is served like any other. */
	if ((request->flags & SVM_REQUEST_UNMANAGED) &&
	    svm_mask_intersects(&request->left, &request->block->managed))
		return done(request, -EAGAIN);
	verdict = start_simple(request, SVM_TRANSITION_POISON, ret_t);
	if (verdict == VERDICT_START && request->write)
		take_read_only(request, &(*ret_t)->step);
	return verdict;
}

static enum verdict serve_unmap(struct svm_request *request, struct svm_transition **ret_t)
{
	const struct svm_block_device *entry = svm_block_device_of(request->block, request->agent);
	struct svm_goal goal = { .kind = SVM_GOAL_UNMAP, .agent = request->agent };

	if (!entry)
		return done(request, 0);
	svm_mask_and(&request->left, &entry->agent.remote);
	if (svm_mask_empty(&request->left))
		return done(request, 0);
	goal.pages = request->left;
	return start_goal(request, &goal, ret_t);
}

/* LOCKING: tree, block. One look at one request. */
static enum verdict serve_one(struct svm_request *request, struct svm_transition **ret_t)
{
	struct svm_block_device *lost = lost_entry(request->block);

	if (lost)
		return handle_loss(request, lost, ret_t);
	switch (request->kind) {
	case SVM_REQUEST_ACCESS:
		return serve_access(request, ret_t);
	case SVM_REQUEST_LEAVE:
		return serve_leave(request, ret_t);
	case SVM_REQUEST_FORGET:
		return serve_forget(request, ret_t);
	case SVM_REQUEST_DISCARD:
		return serve_discard(request, ret_t);
	case SVM_REQUEST_HOME:
		return serve_home(request, ret_t);
	case SVM_REQUEST_POISON:
		return serve_poison(request, ret_t);
	case SVM_REQUEST_UNMAP:
		return serve_unmap(request, ret_t);
	case SVM_REQUEST_MARK:
		return serve_mark(request, ret_t);
	case SVM_REQUEST_SETTLE:
		/* Those that are about to run the block end this one too, if they come later. */
		return request->node.prev == &request->block->queue &&
				       request->block->n_runners == 0
			       ? done(request, 0)
			       : VERDICT_WAIT;
	}
	return done(request, -EINVAL);
}

/*
 * LOCKING: block. The application's memory is changing (munmap, MADV_DONTNEED): the kernel refuses until the event has
 * been read and the application goes on, which may take turns of the loop and of the scheduler. A fault comes again by
 * itself. What the application took away must not be seen again: whatever keeps it from going is tried again, but for
 * a hold, which lasts as long as its owner likes.
 */
static bool tries_again(struct svm_request *request, int error)
{
	bool passes = error == -EAGAIN || ((request->flags & SVM_REQUEST_NEWS) && error != -EBUSY);

	if (!passes || (request->flags & SVM_REQUEST_TRY) || request->n_again == AGAIN_MAX ||
	    (request->kind == SVM_REQUEST_ACCESS && request->cause == SVM_CAUSE_FAULT))
		return false;
	request->n_again++;
	request->again_ns = svm_sys->clock_ns() + AGAIN_NS;
	return true;
}

/*
 * LOCKING: block. A page that the kernel does not move because somebody refers to it. As a rule that is over in a moment:
 * another thread's fault, or its munmap(), on any page of the same huge page, of which the kernel asks that nobody refers
 * to any part of it (Linux 7.3.4 and stable kernels of that time, mm/userfaultfd.c:move_pages_ptes(): EBUSY where older ones
 * tried for ever). Who has pinned it for DMA keeps it for as long as he likes.
 */
static bool waits_for_reference(struct svm_request *request, int error)
{
	if (error != -EBUSY || (request->flags & SVM_REQUEST_TRY) || request->n_busy == BUSY_MAX)
		return false;
	request->again_ns = svm_sys->clock_ns() + (AGAIN_NS << request->n_busy);
	request->n_busy++;
	return true;
}

/* LOCKING: block. It does not, yet; nobody may overtake it, who would see what it is to take away. */
static bool waits_to_try(struct svm_request *request)
{
	if (request->again_ns == 0)
		return false;
	if (svm_sys->clock_ns() >= request->again_ns) {
		request->again_ns = 0;
		return false;
	}
	nap_until(request->block, request->again_ns);
	return true;
}

/*
 * LOCKING: block. A touch that cannot be served ends in a signal, never in a hang or wrong bytes. The request becomes the
 * one for that where it is: what comes after it may make the page good again, and must find the mark to take away.
 */
static bool becomes_signal(struct svm_request *request, int status)
{
	unsigned int page = 0;

	if (status >= 0 || status == -EAGAIN || request->kind != SVM_REQUEST_ACCESS ||
	    request->cause != SVM_CAUSE_FAULT || request->agent != SVM_AGENT_CPU)
		return false;
	svm_mask_run(&request->pages, &page);
	svm_trace_event(&request->block->ctx->trace,
			&(struct svm_event){ .kind = SVM_EVENT_REFUSED,
					     .addr = request->block->base +
						     ((uint64_t)page << SVM_PAGE_SHIFT),
					     .size = SVM_PAGE_SIZE,
					     .device = ~0u,
					     .value = (uint64_t)-status });
	request->kind = SVM_REQUEST_POISON;
	request->flags = status == -ENOENT ? SVM_REQUEST_UNMANAGED : 0;
	request->left = request->pages;
	request->status = 0;
	return true;
}

/* LOCKING: tree, block. Serve the queue until a transition has to run; requests that are done move to finished. */
static struct svm_transition *schedule(struct svm_block *block, struct svm_list *finished)
{
	svm_list_for_each_safe(node, tmp, &block->queue) {
		struct svm_request *request = svm_list_entry(node, struct svm_request, node);
		struct svm_transition *t = NULL;
		enum verdict verdict;

		if (request->waits_for_space)
			continue;
		if (waits_to_try(request))
			return NULL;
		/* A hold promises all pages at once: what was there when it last looked may have been taken since. */
		if (request->hold)
			request->left = request->pages;
		do {
			verdict = serve_one(request, &t);
			if (verdict == VERDICT_DONE && becomes_signal(request, request->status))
				verdict = VERDICT_AGAIN;
		} while (verdict == VERDICT_AGAIN);
		if (verdict == VERDICT_START) {
			block->busy = true;
			return t;
		}
		if (verdict == VERDICT_DONE && (request->flags & SVM_REQUEST_NEWS) &&
		    request->status < 0 && tries_again(request, request->status)) {
			request->status = 0;
			nap_until(block, request->again_ns);
			return NULL;
		}
		if (verdict == VERDICT_DONE) {
			svm_list_del(node);
			svm_list_add_tail(finished, node);
		}
	}
	return NULL;
}

static void follow_done(struct svm_request *request)
{
	struct svm_device *device = request->data;

	svm_pool_put(&device->ctx->request_pool, request);
	svm_device_put(device);
}

/* Bytes are on the host now: map them for the devices that want to keep a mapping. A hint, so what fails is left to
 * the device's next fault. The request's block lives: its owner has not been told yet. */
static void follow(const struct svm_request *request)
{
	struct svm_block *block = request->block;
	struct svm_ctx *ctx = block->ctx;

	for (uint32_t a = 1; a < SVM_AGENTS; a++) {
		struct svm_request *follower;
		struct svm_device *device;

		if (!(request->followers >> (a - 1u) & 1u))
			continue;
		follower = svm_pool_get(&ctx->request_pool);
		if (!follower)
			return;
		svm_rwlock_read(&ctx->tree_lock);
		device = svm_device_of(ctx, a);
		if (!device || svm_block_find(ctx, block->base) != block) {
			svm_rwlock_unlock(&ctx->tree_lock);
			svm_pool_put(&ctx->request_pool, follower);
			continue;
		}
		svm_device_get(device);
		follower->block = block;
		follower->kind = SVM_REQUEST_ACCESS;
		follower->flags = SVM_REQUEST_TRY | SVM_REQUEST_IN_PLACE;
		follower->agent = a;
		follower->cause = SVM_CAUSE_ACQUIRE;
		/* Also what came along with them: it is of the same range. */
		follower->pages = request->moved;
		svm_mask_and(&follower->pages, &block->managed);
		svm_mask_or(&follower->pages, &request->pages);
		follower->done = follow_done;
		follower->data = device;
		svm_request_queue(follower);
		svm_rwlock_unlock(&ctx->tree_lock);
		svm_block_run(block);
	}
}

static void run_done(struct svm_list *finished)
{
	svm_list_for_each_safe(node, tmp, finished) {
		struct svm_request *request = svm_list_entry(node, struct svm_request, node);

		svm_list_del(node);
		give_chunk(request);
		if (request->followers && request->status == 0)
			follow(request);
		request->done(request);
	}
}

/* LOCKING: tree. Devices for whose memory somebody waits, as users of them. */
static unsigned int devices_waited_for(const struct svm_ctx *ctx,
				       struct svm_device *devices[SVM_MAX_DEVICES])
{
	unsigned int n = 0;

	for (uint32_t a = 1; a < SVM_AGENTS; a++) {
		struct svm_device *device = svm_device_of(ctx, a);

		if (!device || atomic_load(&device->store.n_waiters) == 0)
			continue;
		svm_device_get(device);
		devices[n++] = device;
	}
	return n;
}

/* LOCKING: block. A step that failed so did because a device of the block is lost. -EIO: an engine could not do its
 * work on what was dying. */
static bool ends_by_loss(const struct svm_block *block, int error)
{
	for (uint32_t a = 1; a < SVM_AGENTS; a++) {
		const struct svm_block_device *entry = svm_block_device_of(block, a);

		if (entry && svm_device_is_lost(entry->device) &&
		    (error == -ENODEV || error == -EIO))
			return true;
	}
	return false;
}

/* LOCKING: block. A transition has ended: what became of it, for its request. */
static void end_transition(struct svm_transition *t, struct svm_list *finished)
{
	struct svm_block *block = t->block;
	struct svm_request *request = t->request;
	int error = t->error;

	svm_trace_count(&block->ctx->trace, SVM_COUNT_TRANSITIONS, 1);
	block->busy = false;
	request->served |= !t->for_loss;
	if (t->kind == SVM_TRANSITION_POISON && !t->for_loss && error == 0)
		svm_mask_zero(&request->left);
	/* What could not be saved or poisoned is dealt with when it is touched. Loss of a device concerns those who
	 * want that device; the others find the pages elsewhere, or poisoned. */
	if (t->for_loss || ends_by_loss(block, error) || tries_again(request, error) ||
	    waits_for_reference(request, error))
		error = 0;
	else if (error == 0 && request->kind == SVM_REQUEST_LEAVE)
		svm_history_evicted(&block->history, svm_sys->clock_ns());
	if (error < 0 && !becomes_signal(request, error)) {
		request->status = error;
		svm_list_del(&request->node);
		svm_list_add_tail(finished, &request->node);
	} else if (error < 0 || (t->error == 0 && !t->for_loss)) {
		/* Looked at first: else one before it that waits for a fence may take away what it has just got, before it is
		 * told, and the two would take turns until that fence signals. */
		svm_list_del(&request->node);
		svm_list_add_head(&block->queue, &request->node);
	}
	svm_pool_put(&block->ctx->transition_pool, t);
}

/* What a look at a block found. */
struct look {
	struct svm_list finished;
	struct svm_transition *next;
	struct svm_device *devices[SVM_MAX_DEVICES];
	unsigned int n_devices;
};

/* ended: the transition that the caller owns has ended; NULL: the caller is a runner of the block. */
static void look_at(struct svm_ctx *ctx, struct svm_block *block, struct svm_transition *ended,
		    struct look *look)
{
	svm_list_init(&look->finished);
	look->next = NULL;
	svm_rwlock_read(&ctx->tree_lock);
	svm_lock(&block->lock);
	if (ended)
		end_transition(ended, &look->finished);
	else
		block->n_runners--;
	if (!block->busy)
		look->next = schedule(block, &look->finished);
	svm_unlock(&block->lock);
	look->n_devices = look->next ? 0 : devices_waited_for(ctx, look->devices);
	svm_rwlock_unlock(&ctx->tree_lock);
}

static void transition_done(struct svm_transition *t);

/* changed: a hold has ended. As the end of a transition, it may let chunks of the block be evicted. */
static void run_block(struct svm_block *block, struct svm_transition *ended, bool changed)
{
	struct svm_ctx *ctx = block->ctx;
	struct look look;

	for (;;) {
		changed |= ended != NULL;
		look_at(ctx, block, ended, &look);
		run_done(&look.finished);
		if (!look.next)
			break;
		ended = look.next;
		ended->done = transition_done;
		if (!svm_transition_run(ended))
			return; /* whoever resumes it runs the block then */
	}
	for (unsigned int i = 0; i < look.n_devices; i++) {
		if (changed)
			svm_store_new_round(&look.devices[i]->store);
		svm_evict_run(ctx, look.devices[i]);
		svm_device_put(look.devices[i]);
	}
}

static void transition_done(struct svm_transition *t)
{
	run_block(t->block, t, true);
}

void svm_block_run(struct svm_block *block)
{
	run_block(block, NULL, false);
}

void svm_request_queue(struct svm_request *request)
{
	request->left = request->pages;
	svm_list_init(&request->space.node);
	svm_lock(&request->block->lock);
	svm_list_add_tail(&request->block->queue, &request->node);
	request->block->n_runners++;
	svm_unlock(&request->block->lock);
}

/* LOCKING: tree, block. The pages that a fault on page gets, if it is one of those that need no decision and no step:
 * what serve_access() would come to with any policy that is not about duplicates or followers. */
static bool begin_grant(struct svm_block *block, const struct svm_range *range, unsigned int page,
			struct svm_mask *ret_pages)
{
	struct svm_mask unit;
	struct svm_mask wanted;

	if (block->busy || !svm_list_empty(&block->queue) || !svm_list_empty(&block->holds) ||
	    lost_entry(block))
		return false;
	spread(block, range, page, SVM_AT_OWN, &unit);
	svm_mask_and(&unit, &block->managed);
	svm_mask_andnot(&unit, &block->host.poison);
	svm_coh_grantable(&block->coh, &unit, ret_pages);
	/* What never moves without the page is mapped with it, or is mapped already. */
	unit_of(block, page, &wanted);
	svm_mask_and(&wanted, &block->managed);
	svm_mask_andnot(&wanted, &block->cpu.map_w);
	if (!svm_mask_test(ret_pages, page) || !svm_mask_subset(&wanted, ret_pages))
		return false;
	/* The record comes first: a thread that the grant wakes must find it true. */
	svm_coh_commit_grant(&block->coh, ret_pages);
	svm_block_check(block);
	block->busy = true;
	return true;
}

/* LOCKING: none. The grant has been tried; who came meanwhile is served. */
static void end_grant(struct svm_block *block, const struct svm_mask *pages, int error)
{
	bool waited_for;

	svm_lock(&block->lock);
	if (error < 0)
		svm_block_correct_cpu(block, pages);
	block->busy = false;
	waited_for = !svm_list_empty(&block->queue);
	block->n_runners += waited_for;
	svm_unlock(&block->lock);
	if (waited_for)
		svm_block_run(block);
}

bool svm_block_grant(struct svm_ctx *ctx, uint64_t addr)
{
	const struct svm_range *range;
	struct svm_block *block;
	struct svm_mask pages;
	bool begun = false;
	int r;

	svm_rwlock_read(&ctx->tree_lock);
	block = svm_block_find(ctx, addr);
	range = block ? svm_range_at(ctx, addr) : NULL;
	if (range && !range->hints.read_mostly && !range->hints.accessed_by &&
	    !range->hints.in_place) {
		svm_lock(&block->lock);
		begun = begin_grant(block, range,
				    (unsigned int)((addr - block->base) >> SVM_PAGE_SHIFT), &pages);
		svm_unlock(&block->lock);
	}
	svm_rwlock_unlock(&ctx->tree_lock);
	if (!begun)
		return false;
	svm_trace_count(&ctx->trace, SVM_COUNT_TRANSITIONS, 1);
	atomic_fetch_add_explicit(&ctx->generation, 1u, memory_order_relaxed);
	r = svm_host_grant(&ctx->host, &block->host, &pages, true);
	end_grant(block, &pages, r);
	return r == 0;
}

static void wake_waiter(struct svm_request *request)
{
	sem_post(request->data);
}

int svm_request_wait(struct svm_ctx *ctx, uint64_t addr, struct svm_request *request)
{
	sem_t sem;

	svm_rwlock_read(&ctx->tree_lock);
	request->block = svm_block_find(ctx, addr);
	if (!request->block) {
		svm_rwlock_unlock(&ctx->tree_lock);
		return -ENOENT;
	}
	sem_init(&sem, 0, 0);
	request->done = wake_waiter;
	/* cppcheck-suppress autoVariables ; done() is the last to look at it, before this returns */
	request->data = &sem;
	svm_request_queue(request);
	svm_rwlock_unlock(&ctx->tree_lock);
	svm_block_run(request->block);
	while (sem_wait(&sem) < 0)
		; /* EINTR: the only error there can be */
	sem_destroy(&sem);
	return request->status;
}

void svm_hold_remove(struct svm_hold *hold)
{
	struct svm_block *block = hold->block;
	struct svm_device *device = svm_device_of(block->ctx, hold->agent);

	svm_lock(&block->lock);
	svm_list_del(&hold->node);
	block->n_runners++;
	svm_unlock(&block->lock);
	run_block(block, NULL, true);
	if (device)
		atomic_fetch_sub(&device->n_holds, 1u);
}

/* Evicting: a victim's pages leave the device. */
struct eviction {
	struct svm_request request;
	struct svm_device *device;
	struct svm_victim victim;
};
_Static_assert(sizeof(struct eviction) <= SVM_REQUEST_OBJECT,
	       "evictions come from the request pool");

static void eviction_done(struct svm_request *request)
{
	struct eviction *eviction = svm_container_of(request, struct eviction, request);
	struct svm_device *device = eviction->device;
	struct svm_ctx *ctx = device->ctx;

	svm_store_chosen_done(&device->store, &eviction->victim, request->status);
	svm_pool_put(&ctx->request_pool, eviction);
	svm_evict_run(ctx, device);
	svm_device_put(device);
}

/* LOCKING: none. Start to evict one victim. -ENOENT: there is none to try now; -ENOMEM. */
static int evict_one(struct svm_ctx *ctx, struct svm_device *device)
{
	struct eviction *eviction = svm_pool_get(&ctx->request_pool);
	struct svm_block *block;

	if (!eviction)
		return -ENOMEM;
	/* The tree lock keeps the victim's block alive until the request is in its queue. */
	svm_rwlock_read(&ctx->tree_lock);
	if (!svm_store_choose(&device->store, &eviction->victim)) {
		svm_rwlock_unlock(&ctx->tree_lock);
		svm_pool_put(&ctx->request_pool, eviction);
		return -ENOENT;
	}
	block = svm_container_of(eviction->victim.chunk, struct svm_block_device, chunk)->block;
	svm_device_get(device);
	eviction->device = device;
	eviction->request.block = block;
	eviction->request.kind = SVM_REQUEST_LEAVE;
	eviction->request.flags = SVM_REQUEST_TRY;
	eviction->request.agent = device->agent;
	eviction->request.done = eviction_done;
	svm_mask_fill(&eviction->request.pages);
	svm_request_queue(&eviction->request);
	svm_rwlock_unlock(&ctx->tree_lock);
	svm_block_run(block);
	return 0;
}

/* What a request waited for is there, or will not come. */
static void resume_waiter(struct svm_store_waiter *waiter)
{
	struct svm_request *request = svm_container_of(waiter, struct svm_request, space);
	struct svm_block *block = request->block;
	bool failed = waiter->status < 0;
	struct svm_list finished;

	svm_list_init(&finished);
	svm_lock(&block->lock);
	request->waits_for_space = false;
	request->has_chunk = !failed;
	if (failed) {
		request->status = waiter->status;
		svm_list_del(&request->node);
		svm_list_add_tail(&finished, &request->node);
	}
	block->n_runners++;
	svm_unlock(&block->lock);
	run_done(&finished);
	svm_block_run(block);
}

static void resume_all(struct svm_list *failed)
{
	svm_list_for_each_safe(node, tmp, failed) {
		svm_list_del(node);
		resume_waiter(svm_list_entry(node, struct svm_store_waiter, node));
	}
}

static void evict(struct svm_ctx *ctx, struct svm_device *device)
{
	struct svm_store_waiter *waiter;
	struct svm_list failed;
	int r = 0;

	svm_list_init(&failed);
	if (svm_device_is_lost(device)) {
		svm_store_fail_all(&device->store, -ENODEV, &failed);
		resume_all(&failed);
		return;
	}
	do {
		while ((waiter = svm_store_serve(&device->store)) != NULL)
			resume_waiter(waiter);
		if (atomic_load(&device->store.n_waiters) == 0)
			break;
		r = evict_one(ctx, device);
	} while (r == 0);
	/* Without memory to evict nobody would look again. */
	if (r == -ENOMEM)
		svm_store_fail_all(&device->store, -ENOMEM, &failed);
	else
		svm_store_fail_hopeless(&device->store, &failed);
	resume_all(&failed);
}

void svm_evict_run(struct svm_ctx *ctx, struct svm_device *device)
{
	uint32_t n;

	/* One thread works at a time and looks again for the others: no recursion through the blocks it runs. */
	if (atomic_fetch_add(&device->store.runs, 1u) != 0)
		return;
	do {
		n = atomic_load(&device->store.runs);
		evict(ctx, device);
	} while (atomic_fetch_sub(&device->store.runs, n) != n);
}
