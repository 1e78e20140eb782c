/* SPDX-License-Identifier: MIT */
#include "transition.h"

#include "backend.h"
#include "sys.h"
#include "util.h"
#include <assert.h>
#include <errno.h>

/* Binds and copies given to a backend at a time: bounds the stack. */
#define BATCH 32u

/* The entries of all agents of a step exist as long as it runs. */
static struct svm_device *device_of(const struct svm_transition *t, uint32_t agent)
{
	const struct svm_block_device *entry = svm_block_device_of(t->block, agent);

	assert(entry && entry->device);
	return entry->device;
}

static void resume(struct svm_transition *t)
{
	if (atomic_fetch_sub(&t->pending, 1u) != 1u)
		return;
	if (svm_transition_run(t))
		t->done(t);
}

static void point_reached(struct svm_point_waiter *waiter)
{
	resume(waiter->data);
}

/* The first error counts. */
static void note_status(struct svm_transition *t, int status)
{
	if (status < 0 && !t->error)
		t->error = status;
}

/* What became of a stage's part for a device. */
static int status_of(const struct svm_transition *t, uint32_t agent)
{
	return t->refused[agent] ? t->refused[agent] : t->waiters[agent].status;
}

/*
 * Start waiting for a device's point; or for its queue, after -EAGAIN. After another error, too: what the
 * device took before it still uses the block's storage.
 */
static void wait_for(struct svm_transition *t, struct svm_device *device, int result,
		     const struct svm_point *point)
{
	struct svm_point_waiter *waiter = &t->waiters[device->agent];
	bool reached;

	if (result < 0 && result != -EAGAIN)
		t->refused[device->agent] = result;
	waiter->fn = point_reached;
	waiter->data = t;
	atomic_fetch_add(&t->pending, 1u);
	if (result == -EAGAIN) {
		t->again = true;
		reached = svm_device_wait_room(device, point, waiter);
	} else {
		reached = svm_device_wait(device, point, waiter);
	}
	if (reached)
		atomic_fetch_sub(&t->pending, 1u);
}

/* Collects binds of one device and hands them over in batches. */
struct bind_batch {
	struct svm_device *device;
	struct svm_bind binds[BATCH];
	size_t n;
	struct svm_point point;
	int result;
};

static void bind_flush(struct bind_batch *batch)
{
	struct svm_point point;
	int r;

	if (batch->n == 0 || batch->result < 0) {
		batch->n = 0; /* after a failure nothing more is handed over */
		return;
	}
	r = svm_device_bind(batch->device, batch->binds, batch->n, &point);
	batch->n = 0;
	if (r < 0)
		batch->result = r;
	/* Room on the queue is waited for where that refused; anything else, where the last call got. */
	if (r >= 0 || r == -EAGAIN)
		batch->point = point;
}

static struct svm_bind *bind_add(struct bind_batch *batch)
{
	if (batch->n == BATCH)
		bind_flush(batch);
	batch->binds[batch->n] = (struct svm_bind){ 0 };
	return &batch->binds[batch->n++];
}

/* Point pages at what the device should see. Runs have equal target and rights. */
static void add_binds(const struct svm_transition *t, struct bind_batch *batch,
		      const struct svm_mask *pages, bool write, bool remote)
{
	const struct svm_block *block = t->block;
	const struct svm_block_device *entry = svm_block_device_of(block, batch->device->agent);
	unsigned int n;

	for (unsigned int p = 0; (n = svm_mask_run(pages, &p)) != 0; p += n) {
		struct svm_bind *bind = bind_add(batch);
		uint64_t offset = (uint64_t)p << SVM_PAGE_SHIFT;

		bind->addr = block->base + offset;
		bind->size = (uint64_t)n << SVM_PAGE_SHIFT;
		bind->flags = write ? SVM_BIND_WRITE : 0;
		if (remote) {
			bind->flags |= SVM_BIND_HOST;
			bind->host_alias = svm_ptr(block->host.alias + offset);
			bind->offset = bind->addr - block->ctx->host.window_base;
		} else {
			bind->chunk = entry->chunk.handle;
			bind->offset = offset;
		}
	}
}

static void add_unbinds(const struct svm_transition *t, struct bind_batch *batch,
			const struct svm_mask *pages)
{
	unsigned int n;

	for (unsigned int p = 0; (n = svm_mask_run(pages, &p)) != 0; p += n) {
		struct svm_bind *bind = bind_add(batch);

		bind->addr = t->block->base + ((uint64_t)p << SVM_PAGE_SHIFT);
		bind->size = (uint64_t)n << SVM_PAGE_SHIFT;
		bind->flags = SVM_BIND_UNBIND;
	}
}

static void stop_device(struct svm_transition *t, uint32_t agent)
{
	const struct svm_coh_agent *at = t->block->coh.at[agent];
	struct bind_batch batch = { .device = device_of(t, agent) };
	struct svm_mask own = t->step.protect[agent];
	struct svm_mask remote = own;

	if (svm_device_is_lost(batch.device))
		return; /* nothing of it runs any more */
	add_unbinds(t, &batch, &t->step.revoke[agent]);
	svm_mask_and(&remote, &at->remote);
	svm_mask_andnot(&own, &at->remote);
	add_binds(t, &batch, &own, false, false);
	add_binds(t, &batch, &remote, false, true);
	bind_flush(&batch);
	wait_for(t, batch.device, batch.result, &batch.point);
}

/* What the CPU could not let go of (pinned pages) is taken out of the step, which then fails. */
static void stop_cpu(struct svm_transition *t)
{
	struct svm_host *host = &t->block->ctx->host;
	struct svm_host_block *hb = &t->block->host;
	struct svm_mask *revoke = &t->step.revoke[SVM_AGENT_CPU];
	struct svm_mask *protect = &t->step.protect[SVM_AGENT_CPU];
	int r = 0;

	if (!(t->step.stops & 1u) || t->step.discard)
		return; /* discard takes mapping and storage away in one go */
	if (!svm_mask_empty(revoke))
		r = svm_host_revoke(host, hb, revoke);
	if (r < 0)
		svm_mask_andnot(revoke, &hb->cpu);
	note_status(t, r);
	if (svm_mask_empty(protect))
		return;
	r = svm_host_protect(host, hb, protect);
	if (r < 0) {
		/* Those that are still writable keep their mapping. */
		struct svm_mask writable = hb->cpu;

		svm_mask_andnot(&writable, &hb->cpu_ro);
		svm_mask_andnot(protect, &writable);
	}
	note_status(t, r);
}

static void stage_stop(struct svm_transition *t)
{
	stop_cpu(t);
	for (uint32_t a = 1; a < SVM_AGENTS; a++)
		if (t->step.stops & (1u << a))
			stop_device(t, a);
}

/* LOCKING: none; takes the block's. */
static void commit(struct svm_transition *t,
		   void (*fn)(struct svm_coh *coh, const struct svm_step *step))
{
	struct svm_block *block = t->block;

	svm_lock(&block->lock);
	fn(&block->coh, &t->step);
	svm_block_check(block);
	svm_unlock(&block->lock);
	atomic_fetch_add_explicit(&block->ctx->generation, 1u, memory_order_relaxed);
}

static void stopped(struct svm_transition *t)
{
	for (uint32_t a = 1; a < SVM_AGENTS; a++) {
		struct svm_block_device *entry;

		if (!(t->step.stops & (1u << a)))
			continue;
		entry = svm_block_device_of(t->block, a);
		if (status_of(t, a) < 0 && !svm_device_is_lost(entry->device)) {
			/* Who knows which of them took effect: on record they all are as they were. */
			svm_mask_or(&entry->doubtful, &t->step.revoke[a]);
			svm_mask_or(&entry->doubtful, &t->step.protect[a]);
			svm_mask_zero(&t->step.revoke[a]);
			svm_mask_zero(&t->step.protect[a]);
			note_status(t, status_of(t, a));
		}
		svm_mask_andnot(&entry->doubtful, &t->step.revoke[a]);
	}
	commit(t, svm_coh_commit_stop);
}

struct copy_batch {
	struct svm_device *device;
	struct svm_copy copies[BATCH];
	size_t n;
	uint32_t flags;
	struct svm_point point;
	int result;
};

/* An end of a copy as the CPU reaches it. NULL: *ret_error says why not. */
static char *cpu_end(const struct svm_copy_end *end, struct svm_device *device, int *ret_error)
{
	void *map = NULL;

	if (end->host)
		return end->host;
	*ret_error = svm_backend_error(device->ops.chunk_map(end->peer_dev, end->chunk, &map));
	if (*ret_error < 0)
		return NULL;
	if (!map) {
		*ret_error = -EIO; /* the backend breaks its contract */
		return NULL;
	}
	return (char *)map + end->offset;
}

static bool has_kept_bytes(const struct svm_device *device)
{
	return device->ops.memory_kept(device->dev) == 1;
}

/*
 * ThreadSanitizer does not see that the kernel comes between the application's last write to a page and our reading it:
 * the page was write-protected, or taken out of its sight.
 */
#ifdef SVM_TSAN
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
#endif

static void copy_page_bytes(char *dst, const char *src, uint64_t size)
{
#ifdef SVM_TSAN
	AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
#endif
	memcpy(dst, src, size);
#ifdef SVM_TSAN
	AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
}

/* The CPU does it, through visible device memory: no engine, or the device died and its memory did
 * not. */
static int copy_by_cpu(struct copy_batch *batch)
{
	for (size_t i = 0; i < batch->n; i++) {
		const struct svm_copy *copy = &batch->copies[i];
		int error = 0;
		char *dst = cpu_end(&copy->dst, batch->device, &error);
		const char *src;

		if (!dst)
			return error;
		if (!copy->src.host && !copy->src.peer_dev) {
			memset(dst, 0, copy->size);
			continue;
		}
		src = cpu_end(&copy->src, batch->device, &error);
		if (!src)
			return error;
		copy_page_bytes(dst, src, copy->size);
	}
	return 0;
}

static void copy_flush(struct copy_batch *batch)
{
	struct svm_point point = { .timeline = SVM_TIMELINE_COPY };
	bool lost;
	int r;

	if (batch->n == 0 || batch->result < 0) {
		batch->n = 0; /* after a failure nothing more is handed over */
		return;
	}
	lost = svm_device_is_lost(batch->device); /* it may be so a moment later */
	if (lost && !has_kept_bytes(batch->device))
		r = -ENODEV; /* what its memory shows now is nobody's bytes */
	else if (lost || !svm_device_has(batch->device, SVM_CAP_COPY_ENGINE))
		r = copy_by_cpu(batch);
	else
		r = svm_device_copies(batch->device, batch->copies, batch->n, batch->flags, &point);
	/* However a dead device refuses: who decides by the error is to find that it is lost. */
	if (r < 0 && r != -EAGAIN && svm_device_is_lost(batch->device))
		r = -ENODEV;
	batch->n = 0;
	if (r < 0)
		batch->result = r;
	if (r == -EAGAIN || (r >= 0 && point.value))
		batch->point = point;
}

static struct svm_copy_end end_of(const struct svm_transition *t, uint32_t loc, unsigned int page)
{
	const struct svm_block *block = t->block;
	const struct svm_block_device *entry = svm_block_device_of(block, loc);

	if (loc == SVM_LOC_HOST)
		return (struct svm_copy_end){ .host = svm_host_addr(&block->ctx->host, &block->host,
								    page) };
	return (struct svm_copy_end){
		.peer_dev = entry->device->dev,
		.chunk = entry->chunk.handle,
		.offset = (uint64_t)page << SVM_PAGE_SHIFT,
	};
}

/* Copy pages from a location (or zeros) to the step's destination. */
static void add_copies(const struct svm_transition *t, struct copy_batch *batch, uint32_t from,
		       bool zeros, const struct svm_mask *pages)
{
	unsigned int n;

	for (unsigned int p = 0; (n = svm_mask_run(pages, &p)) != 0; p += n) {
		struct svm_copy *copy;

		if (batch->n == BATCH)
			copy_flush(batch);
		copy = &batch->copies[batch->n++];
		*copy = (struct svm_copy){ .dst = end_of(t, t->step.dest, p),
					   .size = (uint64_t)n << SVM_PAGE_SHIFT };
		if (!zeros)
			copy->src = end_of(t, from, p);
	}
}

/* Host bytes are contiguous only where all pages are in the same view. */
static void add_copies_from(const struct svm_transition *t, struct copy_batch *batch, uint32_t from)
{
	struct svm_mask mapped = t->step.copy[from];
	struct svm_mask backed = mapped;

	if (from == SVM_LOC_HOST) {
		svm_mask_and(&mapped, &t->block->host.cpu);
		svm_mask_andnot(&backed, &t->block->host.cpu);
		add_copies(t, batch, from, false, &mapped);
	}
	add_copies(t, batch, from, false, &backed);
}

static int prepare_host(struct svm_transition *t)
{
	struct svm_host *host = &t->block->ctx->host;
	struct svm_mask arriving;
	int r = 0;

	svm_mask_zero(&arriving);
	for (uint32_t l = 1; l < SVM_AGENTS; l++)
		if (t->step.copies & (1u << l))
			svm_mask_or(&arriving, &t->step.copy[l]);
	if (!svm_mask_empty(&arriving))
		r = svm_host_populate(host, &t->block->host, &arriving, false);
	if (r == 0 && !svm_mask_empty(&t->step.populate))
		r = svm_host_populate(host, &t->block->host, &t->step.populate, true);
	return r;
}

/* A touch that could not be served left a signal mark: the pages are served now, wherever they go. */
static int heal(struct svm_transition *t)
{
	struct svm_mask healed = t->block->host.poison;

	if (t->request->flags & SVM_REQUEST_GONE)
		return 0;
	svm_mask_and(&healed, &t->step.pages);
	if (t->step.agent == SVM_AGENT_CPU &&
	    svm_host_grant_unpoisons(&t->block->ctx->host, &t->block->host))
		svm_mask_andnot(&healed, &t->step.map);
	if (svm_mask_empty(&healed))
		return 0;
	return svm_host_unpoison(&t->block->ctx->host, &t->block->host, &healed);
}

static void prepare_device(struct svm_transition *t)
{
	struct svm_block_device *entry = svm_block_device_of(t->block, t->step.dest);

	if (entry->chunk.present || !t->has_chunk)
		return;
	svm_store_attach(&entry->device->store, &entry->chunk, t->chunk);
	t->has_chunk = false;
}

/* Which engine copies from one location to the step's destination: the destination's, else the source's. */
static struct svm_device *copier(const struct svm_transition *t, uint32_t from)
{
	uint32_t agent = t->step.dest != SVM_LOC_HOST ? t->step.dest : from;

	return device_of(t, agent);
}

static void stage_copy(struct svm_transition *t)
{
	struct copy_batch batch = { .flags = t->urgent ? SVM_COPY_URGENT : 0,
				    .point = { .timeline = SVM_TIMELINE_COPY } };
	int r;

	r = heal(t);
	if (r == 0 && t->step.dest == SVM_LOC_HOST)
		r = prepare_host(t);
	if (r < 0) {
		note_status(t, r);
		return;
	}
	if (t->step.dest != SVM_LOC_HOST)
		prepare_device(t);
	for (uint32_t l = 0; l < SVM_AGENTS; l++) {
		struct svm_device *device;

		if (!(t->step.copies & (1u << l)))
			continue;
		device = copier(t, l);
		if (batch.device != device) {
			copy_flush(&batch);
			if (batch.device)
				wait_for(t, batch.device, batch.result, &batch.point);
			batch.device = device;
			batch.result = 0;
			batch.point = (struct svm_point){ .timeline = SVM_TIMELINE_COPY };
		}
		add_copies_from(t, &batch, l);
	}
	if (t->step.dest != SVM_LOC_HOST && !svm_mask_empty(&t->step.populate)) {
		batch.device = device_of(t, t->step.dest);
		add_copies(t, &batch, 0, true, &t->step.populate);
	}
	copy_flush(&batch);
	if (batch.device)
		wait_for(t, batch.device, batch.result, &batch.point);
}

/*
 * Bytes of a device that others have copied, the CPU or the engine of a peer: they count only if the device was alive
 * all the time. Its own engine says so by reaching the point; here it has to be asked.
 */
static void check_source(struct svm_transition *t, uint32_t from)
{
	struct svm_device *device = device_of(t, from);

	if (copier(t, from) == device && svm_device_has(device, SVM_CAP_COPY_ENGINE))
		return;
	svm_device_check(device);
	if (svm_device_is_lost(device) && !has_kept_bytes(device))
		note_status(t, -ENODEV);
}

static void copied(struct svm_transition *t)
{
	for (uint32_t a = 1; a < SVM_AGENTS; a++)
		note_status(t, status_of(t, a));
	for (uint32_t l = 1; l < SVM_AGENTS; l++)
		if (t->step.copies & (1u << l))
			check_source(t, l);
}

/* Stale host pages are kept as long as the cache has room: the bytes come back to pages that exist. */
static void account_stale(struct svm_transition *t)
{
	struct svm_block *block = t->block;
	struct svm_ctx *ctx = block->ctx;
	struct svm_mask stale = block->host.back;
	uint32_t n;
	int64_t delta;

	svm_mask_andnot(&stale, &block->cpu.res);
	n = svm_mask_count(&stale);
	delta = ((int64_t)n - (int64_t)block->n_stale) * (int64_t)SVM_PAGE_SIZE;
	if (delta > 0 && atomic_load(&ctx->cache_bytes) + delta > (int64_t)ctx->cache_limit) {
		int r = svm_host_drop(&ctx->host, &block->host, &stale, false);

		if (r < 0)
			svm_warn(&ctx->log, "host pages could not be given back (error %d)", -r);
		stale = block->host.back;
		svm_mask_andnot(&stale, &block->cpu.res);
		n = svm_mask_count(&stale);
		delta = ((int64_t)n - (int64_t)block->n_stale) * (int64_t)SVM_PAGE_SIZE;
	}
	block->n_stale = n;
	if (delta)
		atomic_fetch_add(&ctx->cache_bytes, delta);
}

/* The device neither keeps bytes of the block nor maps its chunk. */
static bool is_unused(const struct svm_block_device *entry)
{
	struct svm_mask own = entry->agent.map_r;

	svm_mask_andnot(&own, &entry->agent.remote);
	return svm_mask_empty(&entry->agent.res) && svm_mask_empty(&own);
}

/* What the CPU still maps was not dropped. Who says that nothing is there would not look for what it writes from now on. */
static void keep_mapped(struct svm_block *block, const struct svm_mask *pages)
{
	struct svm_mask kept = *pages;

	svm_mask_and(&kept, &block->host.cpu);
	svm_lock(&block->lock);
	svm_mask_or(&block->cpu.res, &kept);
	svm_mask_or(&block->cpu.map_r, &kept);
	svm_mask_andnot(&kept, &block->host.cpu_ro);
	svm_mask_or(&block->cpu.map_w, &kept);
	svm_block_check(block);
	svm_unlock(&block->lock);
}

static void give_back(struct svm_transition *t)
{
	struct svm_block *block = t->block;

	if (t->step.discard) {
		int r;

		if (t->request->flags & SVM_REQUEST_GONE)
			r = svm_host_forget(&block->ctx->host, &block->host, &t->step.pages);
		else
			r = svm_host_drop(&block->ctx->host, &block->host, &t->step.pages, true);
		if (r < 0)
			keep_mapped(block, &t->step.pages);
		note_status(t, r);
	}
	for (uint32_t a = 1; a < SVM_AGENTS; a++) {
		struct svm_block_device *entry;

		if (!(t->step.drops & (1u << a)))
			continue;
		entry = svm_block_device_of(block, a);
		if (is_unused(entry))
			svm_store_detach(&entry->device->store, &entry->chunk);
	}
}

static uint64_t bytes_of(const struct svm_mask *pages)
{
	return (uint64_t)svm_mask_count(pages) << SVM_PAGE_SHIFT;
}

static void trace_pages(const struct svm_transition *t, uint32_t kind, uint32_t from,
			const struct svm_mask *pages)
{
	unsigned int first = 0;

	if (svm_mask_run(pages, &first) == 0)
		return;
	svm_trace_event(&t->block->ctx->trace,
			&(struct svm_event){
				.kind = kind,
				.addr = t->block->base + ((uint64_t)first << SVM_PAGE_SHIFT),
				.size = bytes_of(pages),
				.device = ~0u,
				.from = (uint16_t)from,
				.to = (uint16_t)t->step.dest,
			});
}

/* What the step did, for counters, events and the request's result. */
static void record(struct svm_transition *t)
{
	struct svm_trace *trace = &t->block->ctx->trace;
	bool evict = t->request->kind == SVM_REQUEST_LEAVE;

	if (!svm_mask_empty(&t->step.populate)) {
		svm_trace_count(trace, SVM_COUNT_BYTES_POPULATED, bytes_of(&t->step.populate));
		trace_pages(t, SVM_EVENT_POPULATE, t->step.dest, &t->step.populate);
		svm_mask_or(&t->request->moved, &t->step.populate);
	}
	for (uint32_t l = 0; l < SVM_AGENTS; l++) {
		const struct svm_mask *pages = &t->step.copy[l];
		enum svm_counter direction = SVM_COUNT_BYTES_DEVICE_TO_DEVICE;

		if (!(t->step.copies & (1u << l)))
			continue;
		if (l == SVM_LOC_HOST)
			direction = SVM_COUNT_BYTES_HOST_TO_DEVICE;
		else if (t->step.dest == SVM_LOC_HOST)
			direction = SVM_COUNT_BYTES_DEVICE_TO_HOST;
		svm_trace_count(trace, direction, bytes_of(pages));
		svm_trace_count(trace,
				t->step.duplicate ? SVM_COUNT_PAGES_DUPLICATED
						  : SVM_COUNT_PAGES_MIGRATED,
				svm_mask_count(pages));
		trace_pages(t,
			    evict		? SVM_EVENT_EVICT
			    : t->step.duplicate ? SVM_EVENT_DUPLICATE
						: SVM_EVENT_MIGRATE,
			    l, pages);
		svm_mask_or(&t->request->moved, pages);
	}
	if (evict)
		svm_trace_count(trace, SVM_COUNT_PAGES_EVICTED,
				svm_mask_count(&t->step.drop[t->request->agent]));
	else if (!t->step.duplicate && !t->step.discard)
		for (uint32_t l = 0; l < SVM_AGENTS; l++) {
			struct svm_mask gone = t->step.drop[l];

			if (!(t->step.drops & (1u << l)))
				continue;
			svm_mask_andnot(&gone, &t->step.copy[l]);
			svm_trace_count(trace, SVM_COUNT_PAGES_INVALIDATED, svm_mask_count(&gone));
		}
}

/* The CPU's mapping. The record comes first: a thread that the grant wakes must find it true. */
static void map_cpu(struct svm_transition *t)
{
	struct svm_host *host = &t->block->ctx->host;
	struct svm_host_block *hb = &t->block->host;
	struct svm_mask read_only = t->step.map;
	int r = 0;

	svm_mask_andnot(&read_only, &t->step.map_w);
	commit(t, svm_coh_commit_map);
	if (!svm_mask_empty(&t->step.map_w))
		r = svm_host_grant(host, hb, &t->step.map_w, true);
	if (r == 0 && !svm_mask_empty(&read_only))
		r = svm_host_grant(host, hb, &read_only, false);
	if (r < 0) {
		note_status(t, r);
		svm_lock(&t->block->lock);
		svm_block_correct_cpu(t->block, &t->step.map);
		svm_unlock(&t->block->lock);
	}
}

static void stage_map(struct svm_transition *t)
{
	struct bind_batch batch;
	struct svm_mask read_only;

	if (t->step.agent == SVM_AGENT_NONE || svm_mask_empty(&t->step.map))
		return;
	if (t->step.agent == SVM_AGENT_CPU) {
		map_cpu(t);
		return;
	}
	batch = (struct bind_batch){ .device = device_of(t, t->step.agent) };
	read_only = t->step.map;
	svm_mask_andnot(&read_only, &t->step.map_w);
	add_binds(t, &batch, &t->step.map_w, true, t->step.remote);
	add_binds(t, &batch, &read_only, false, t->step.remote);
	bind_flush(&batch);
	wait_for(t, batch.device, batch.result, &batch.point);
}

static void mapped(struct svm_transition *t)
{
	if (t->step.agent == SVM_AGENT_NONE || t->step.agent == SVM_AGENT_CPU ||
	    svm_mask_empty(&t->step.map))
		return;
	note_status(t, status_of(t, t->step.agent));
	/* Some of it may be in place: on record it is, so that it will be taken away before the bytes move. */
	commit(t, svm_coh_commit_map);
	if (t->error)
		svm_mask_or(&svm_block_device_of(t->block, t->step.agent)->doubtful, &t->step.map);
}

/* Everything stops for the CPU, then the block's host bytes change kind. */
static void convert(struct svm_transition *t)
{
	struct svm_block *block = t->block;
	struct svm_mask valid = block->cpu.res;
	struct svm_mask marks = block->host.poison;
	struct svm_mask populated;
	struct svm_mask born;
	int r;

	/* Left by touches that could not be served. The next one finds out anew. */
	svm_mask_andnot(&marks, &block->coh.poisoned);
	svm_mask_zero(&born);
	r = svm_host_unpoison(&block->ctx->host, &block->host, &marks);
	if (r == 0)
		r = svm_host_convert(&block->ctx->host, &block->host, &valid, &born);
	note_status(t, r);
	svm_lock(&block->lock);
	if (r == 0)
		block->shared = true;
	/* A page that was touched while the mapping changed exists now, with what was written: the host holds it. Only pages
	 * that nobody holds can be meant, the others were there before. */
	svm_coh_populated(&block->coh, &populated);
	svm_mask_andnot(&born, &populated);
	svm_mask_or(&block->cpu.res, &born);
	svm_block_check(block);
	svm_unlock(&block->lock);
	if (r < 0)
		return;
	svm_trace_count(&block->ctx->trace, SVM_COUNT_BLOCKS_CONVERTED, 1);
	svm_trace_event(&block->ctx->trace, &(struct svm_event){ .kind = SVM_EVENT_CONVERT,
								 .addr = block->base,
								 .size = SVM_BLOCK_SIZE,
								 .device = ~0u });
}

static void poison(struct svm_transition *t)
{
	struct svm_host *host = &t->block->ctx->host;
	struct svm_host_block *hb = &t->block->host;
	struct svm_mask pages = t->step.pages;
	struct svm_mask mapped = pages;

	/* A write that cannot be had has to fail, although the page can be read. */
	if (t->step.stops) {
		stop_cpu(t);
		commit(t, svm_coh_commit_stop);
	}
	/* What the CPU maps otherwise is there after all: the touch is tried again. */
	svm_mask_and(&mapped, &hb->cpu);
	svm_mask_andnot(&pages, &hb->cpu);
	if (!svm_mask_empty(&mapped))
		note_status(t, svm_host_grant(host, hb, &mapped, false));
	if (!svm_mask_empty(&pages))
		note_status(t, svm_host_poison(host, hb, &pages));
}

static void repair(struct svm_transition *t)
{
	unsigned int n;

	for (unsigned int p = 0; (n = svm_mask_run(&t->step.pages, &p)) != 0; p += n)
		for (unsigned int i = 0; i < n; i++)
			note_status(t,
				    svm_host_repair(&t->block->ctx->host, &t->block->host, p + i));
}

static void place(struct svm_transition *t)
{
	struct svm_mask pages = t->step.pages;
	int r;

	svm_mask_and(&pages, &t->block->cpu.res);
	r = svm_host_place(&t->block->ctx->host, &t->block->host, &pages, t->block->host.node);
	/* A kernel without NUMA has one node: everything is on it. */
	note_status(t, r == -EOPNOTSUPP ? 0 : r);
}

/* What is not a step of the coherence machine, and waits for nobody. */
static void run_simple(struct svm_transition *t)
{
	if (t->kind == SVM_TRANSITION_POISON)
		poison(t);
	else if (t->kind == SVM_TRANSITION_REPAIR)
		repair(t);
	else
		place(t);
}

static void finish(struct svm_transition *t)
{
	if (t->has_chunk) {
		struct svm_device *device = device_of(t, t->step.dest);

		svm_store_give(&device->store, t->chunk);
		t->has_chunk = false;
	}
	if (t->error) {
		struct svm_block_device *entry = svm_block_device_of(t->block, t->step.dest);

		/* Nothing came to be in it, so nothing would ever leave it and give it back. */
		if (entry && entry->chunk.present && is_unused(entry))
			svm_store_detach(&entry->device->store, &entry->chunk);
	}
	account_stale(t);
}

/* One stage. Sets the next one. */
static void advance(struct svm_transition *t)
{
	switch (t->stage) {
	case SVM_STAGE_STOP:
		t->stage = SVM_STAGE_STOPPING;
		stage_stop(t);
		break;
	case SVM_STAGE_STOPPING:
		if (t->again) {
			t->stage = SVM_STAGE_STOP;
			break;
		}
		stopped(t);
		t->stage = SVM_STAGE_COPY;
		if (t->kind == SVM_TRANSITION_CONVERT && !t->error)
			convert(t);
		if (t->kind != SVM_TRANSITION_STEP)
			t->stage = SVM_STAGE_DONE;
		break;
	case SVM_STAGE_COPY:
		t->stage = SVM_STAGE_COPYING;
		stage_copy(t);
		break;
	case SVM_STAGE_COPYING:
		if (t->again) {
			t->stage = SVM_STAGE_COPY;
			break;
		}
		copied(t);
		if (t->error)
			break;
		commit(t, svm_coh_commit_data);
		give_back(t);
		record(t);
		t->stage = SVM_STAGE_MAP;
		break;
	case SVM_STAGE_MAP:
		t->stage = SVM_STAGE_MAPPING;
		stage_map(t);
		break;
	case SVM_STAGE_MAPPING:
		if (t->again) {
			t->stage = SVM_STAGE_MAP;
			break;
		}
		mapped(t);
		t->stage = SVM_STAGE_DONE;
		break;
	case SVM_STAGE_DONE:
		break;
	}
	/* A stop that is to be redone goes on in spite of an error: what stopped has to be recorded. */
	if (t->error && (t->stage == SVM_STAGE_COPY || t->stage == SVM_STAGE_MAP))
		t->stage = SVM_STAGE_DONE;
}

static bool may_wait(enum svm_stage stage)
{
	return stage == SVM_STAGE_STOPPING || stage == SVM_STAGE_COPYING ||
	       stage == SVM_STAGE_MAPPING;
}

bool svm_transition_run(struct svm_transition *t)
{
	if (t->kind != SVM_TRANSITION_STEP && t->kind != SVM_TRANSITION_CONVERT) {
		run_simple(t);
		finish(t);
		return true;
	}
	while (t->stage != SVM_STAGE_DONE) {
		/* Entering a stage that waits: the count keeps its completions from resuming us before all are set up. */
		if (!may_wait(t->stage)) {
			t->again = false;
			for (uint32_t a = 0; a < SVM_AGENTS; a++)
				t->waiters[a].status = t->refused[a] = 0;
			atomic_store(&t->pending, 1u);
			advance(t);
			if (may_wait(t->stage) && atomic_fetch_sub(&t->pending, 1u) != 1u)
				return false; /* the last event resumes it */
			continue;
		}
		advance(t);
		if (t->error && may_wait(t->stage))
			t->stage = SVM_STAGE_DONE;
	}
	finish(t);
	return true;
}
