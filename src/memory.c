/* SPDX-License-Identifier: MIT */
/* The public memory calls: allocate, free, register, unregister, discard, pin, residency, pointers. */
#include "space.h"

#include "sys.h"
#include <errno.h>
#include <libsvm/memory.h>

/* Blocks of [start, end), by their first address within it. */
#define for_each_block_addr(addr, start, end)       \
	for (uint64_t addr = (start); addr < (end); \
	     addr = svm_align_down(addr, SVM_BLOCK_SIZE) + SVM_BLOCK_SIZE)

/* LOCKING: tree (any). Does somebody hold pages of [start, end)? */
static bool is_held(struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	bool held = false;

	for_each_block_addr(addr, start, end)
	{
		struct svm_block *block = svm_block_find(ctx, addr);
		struct svm_mask pages;

		if (!block)
			continue;
		svm_block_pages(block, start, end, &pages);
		svm_lock(&block->lock);
		svm_list_for_each(node, &block->holds) {
			const struct svm_hold *hold = svm_list_entry(node, struct svm_hold, node);

			held |= svm_mask_intersects(&hold->pages, &pages);
		}
		svm_unlock(&block->lock);
		if (held)
			return true;
	}
	return false;
}

/* One request of a kind on each block of [start, end) that exists; all are done when it returns. First error. */
static int request_all(struct svm_ctx *ctx, uint64_t start, uint64_t end,
		       enum svm_request_kind kind, uint32_t flags)
{
	int error = 0;

	for_each_block_addr(addr, start, end)
	{
		struct svm_request request = { .kind = kind,
					       .flags = flags,
					       .agent = SVM_AGENT_CPU };
		uint64_t stop =
			svm_min_u64(svm_align_down(addr, SVM_BLOCK_SIZE) + SVM_BLOCK_SIZE, end);
		int r;

		svm_mask_set_range(&request.pages,
				   (unsigned int)((addr & (SVM_BLOCK_SIZE - 1u)) >> SVM_PAGE_SHIFT),
				   (unsigned int)((stop - addr) >> SVM_PAGE_SHIFT));
		r = svm_request_wait(ctx, addr, &request);
		if (r < 0 && r != -ENOENT && !error)
			error = r;
	}
	return error;
}

/* LOCKING: tree (write). All blocks of [start, end) are quiet: no request, no transition, nobody about to look. */
static bool is_quiet(struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	bool quiet = true;

	for_each_block_addr(addr, start, end)
	{
		struct svm_block *block = svm_block_find(ctx, addr);

		if (!block)
			continue;
		svm_lock(&block->lock);
		quiet &= !block->busy && block->n_runners == 0 && svm_list_empty(&block->queue);
		svm_unlock(&block->lock);
	}
	return quiet;
}

/* Blocks that held pages of a touch that was refused carry a signal mark: new memory starts without. */
static int clear_marks(struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	return request_all(ctx, start, end, SVM_REQUEST_DISCARD, 0);
}

/* LOCKING: tree (write). Whole blocks whose addresses are given out anew: nothing of the past counts. */
static void reset_blocks(struct svm_ctx *ctx, uint64_t start, uint64_t end, enum svm_host_kind kind)
{
	for_each_block_addr(addr, start, end)
	{
		struct svm_block *block = svm_block_find(ctx, addr);

		if (!block)
			continue;
		svm_lock(&block->lock);
		atomic_fetch_sub(&ctx->cache_bytes,
				 (int64_t)block->n_stale * (int64_t)SVM_PAGE_SIZE);
		block->n_stale = 0;
		block->host.kind = kind;
		block->shared = kind == SVM_HOST_SHARED;
		svm_mask_zero(&block->host.cpu);
		svm_mask_zero(&block->host.cpu_ro);
		svm_mask_zero(&block->host.back);
		svm_mask_zero(&block->host.poison);
		block->history = (struct svm_history){ 0 };
		svm_unlock(&block->lock);
	}
}

static void set_managed(struct svm_ctx *ctx, uint64_t start, uint64_t end, bool managed)
{
	for_each_block_addr(addr, start, end)
	{
		struct svm_block *block = svm_block_find(ctx, addr);

		if (block)
			svm_block_set_managed(block, start, end, managed);
	}
}

/* LOCKING: tree (write). Blocks that had other memory before (svm_free() leaves them private) get storage that is
 * shared from the start. The reverse is not needed: a shared block in private memory was converted. */
static void start_shared(struct svm_ctx *ctx, const struct svm_alloc *alloc)
{
	if (alloc->kind != SVM_HOST_SHARED)
		return;
	for_each_block_addr(addr, alloc->base, alloc->base + alloc->size)
	{
		struct svm_block *block = svm_block_find(ctx, addr);

		if (!block)
			continue;
		svm_lock(&block->lock);
		/* One that is shared with other small allocations is so already, and may be busy. */
		if (block->host.kind != SVM_HOST_SHARED) {
			block->host.kind = SVM_HOST_SHARED;
			block->shared = true;
		}
		svm_unlock(&block->lock);
	}
}

int svm_alloc(struct svm_space *space, uint64_t size, uint32_t flags, void **ret_addr)
{
	struct svm_ctx *ctx;
	struct svm_alloc *alloc;
	uint64_t addr;
	int r;

	if (!space || !ret_addr || size == 0 || (flags & ~SVM_ALLOC_SHARED))
		return -EINVAL;
	ctx = &space->ctx;
	r = svm_ctx_check(ctx);
	if (r < 0)
		return r;
	if (size > ctx->host.window_size)
		return -ERANGE;
	alloc = svm_pool_get(&ctx->alloc_pool);
	if (!alloc)
		return -ENOMEM;
	alloc->size = svm_align_up(size, ctx->unit);
	if ((flags & SVM_ALLOC_SHARED) || (space->flags & SVM_SPACE_DEFAULT_SHARED))
		alloc->kind = SVM_HOST_SHARED;

	svm_rwlock_write(&ctx->tree_lock);
	alloc->id = ++ctx->next_alloc_id;
	r = svm_va_alloc(&ctx->va, alloc->size, alloc->kind, &addr);
	if (r == 0) {
		alloc->base = addr;
		start_shared(ctx, alloc);
	}
	svm_rwlock_unlock(&ctx->tree_lock);
	if (r < 0)
		goto err_alloc;
	svm_rwlock_write(&ctx->tree_lock);
	r = svm_range_add(ctx, alloc);
	if (r == 0)
		set_managed(ctx, addr, addr + alloc->size, true);
	svm_rwlock_unlock(&ctx->tree_lock);
	if (r < 0)
		goto err_va;
	/* Late touches of what was here before make no new ones once it is managed. */
	r = clear_marks(ctx, addr, addr + alloc->size);
	if (r < 0) {
		r = r == -ENOMEM ? r : -EIO;
		goto err_range;
	}
	*ret_addr = svm_ptr(addr);
	return 0;

err_range:
	svm_rwlock_write(&ctx->tree_lock);
	set_managed(ctx, addr, addr + alloc->size, false);
	svm_range_remove(ctx, alloc);
	svm_rwlock_unlock(&ctx->tree_lock);
err_va:
	svm_rwlock_write(&ctx->tree_lock);
	svm_va_free(&ctx->va, addr, alloc->size);
	svm_rwlock_unlock(&ctx->tree_lock);
err_alloc:
	svm_pool_put(&ctx->alloc_pool, alloc);
	return r;
}

/* Take the allocation at addr out of everybody's sight. */
static int begin_free(struct svm_ctx *ctx, uint64_t addr, struct svm_alloc **ret_alloc)
{
	struct svm_range *range;
	int r = 0;

	svm_rwlock_write(&ctx->tree_lock);
	range = svm_range_find(ctx, addr);
	if (!range || range->alloc->base != addr || range->alloc->registered) {
		r = -ENOENT;
	} else if (is_held(ctx, addr, addr + range->alloc->size)) {
		r = -EBUSY;
	} else {
		*ret_alloc = range->alloc;
		range->alloc->dying = true;
		set_managed(ctx, addr, addr + range->alloc->size, false);
	}
	svm_rwlock_unlock(&ctx->tree_lock);
	return r;
}

int svm_free(struct svm_space *space, void *addr)
{
	struct svm_ctx *ctx;
	struct svm_alloc *alloc;
	uint64_t start = svm_addr(addr);
	uint64_t end;
	int r;

	if (!space)
		return -EINVAL;
	ctx = &space->ctx;
	r = svm_ctx_check(ctx);
	if (r < 0 || !addr)
		return r;
	r = begin_free(ctx, start, &alloc);
	if (r < 0)
		return r;
	end = start + alloc->size;
	r = request_all(ctx, start, end, SVM_REQUEST_DISCARD, 0);
	if (r < 0)
		svm_warn(&ctx->log, "free of %llx: storage could not be given back (error %d)",
			 (unsigned long long)start, -r);
	svm_rwlock_write(&ctx->tree_lock);
	if (alloc->size > SVM_BLOCK_SIZE / 2u) {
		/* Its blocks go as a whole: late touches must have been answered. */
		while (!is_quiet(ctx, start, svm_align_up(end, SVM_BLOCK_SIZE))) {
			svm_rwlock_unlock(&ctx->tree_lock);
			(void)request_all(ctx, start, svm_align_up(end, SVM_BLOCK_SIZE),
					  SVM_REQUEST_SETTLE, 0);
			svm_rwlock_write(&ctx->tree_lock);
		}
		svm_va_free(&ctx->va, start, alloc->size);
		reset_blocks(ctx, start, svm_align_up(end, SVM_BLOCK_SIZE), SVM_HOST_PRIVATE);
	} else {
		svm_va_free(&ctx->va, start, alloc->size);
	}
	svm_range_remove(ctx, alloc);
	svm_rwlock_unlock(&ctx->tree_lock);
	svm_pool_put(&ctx->alloc_pool, alloc);
	return 0;
}

static size_t n_blocks_of(const struct svm_alloc *alloc)
{
	return (size_t)(((alloc->base + alloc->size - 1u) >> SVM_BLOCK_SHIFT) -
			(alloc->base >> SVM_BLOCK_SHIFT) + 1u);
}

static size_t blocks_size(const struct svm_alloc *alloc)
{
	return n_blocks_of(alloc) * sizeof(struct svm_block *);
}

/* What the application has in the pages now is the first copy. */
static int adopt_pages(struct svm_ctx *ctx, const struct svm_alloc *alloc)
{
	for_each_block_addr(addr, alloc->base, alloc->base + alloc->size)
	{
		struct svm_block *block;
		struct svm_mask present;
		int r = svm_block_get(ctx, addr, &block);

		if (r == 0)
			r = svm_host_present(&ctx->host, &block->host, &block->managed, &present);
		if (r < 0)
			return r;
		block->cpu.res = present;
		block->cpu.map_r = present;
		block->cpu.map_w = present;
		block->host.cpu = present;
	}
	return 0;
}

static void delete_blocks(struct svm_alloc *alloc)
{
	for (size_t i = 0; alloc->blocks && i < n_blocks_of(alloc); i++)
		if (alloc->blocks[i])
			svm_block_delete(alloc->blocks[i]);
}

/* LOCKING: SPACE. Devices learn of the span; all or none. */
static int tell_devices(struct svm_ctx *ctx, const struct svm_alloc *alloc)
{
	for (uint32_t i = 0; i < SVM_MAX_DEVICES; i++) {
		struct svm_device *device = atomic_load(&ctx->devices[i]);
		int r;

		if (!device || svm_device_is_lost(device))
			continue;
		r = device->caps.va_start > alloc->base ||
				    device->caps.va_end < alloc->base + alloc->size
			    ? -ERANGE
			    : device->ops.span_add(device->dev, alloc->base, alloc->size);
		if (r == -ENODEV) {
			/* Dead, but not known to be: what it has not been told of must not be taken for our mistake. */
			svm_device_lose(device, r);
			continue;
		}
		if (r < 0) {
			while (i-- > 0) {
				device = atomic_load(&ctx->devices[i]);
				if (device && !svm_device_is_lost(device))
					(void)device->ops.span_remove(device->dev, alloc->base,
								      alloc->size);
			}
			return r;
		}
	}
	return 0;
}

static void untell_devices(struct svm_ctx *ctx, const struct svm_alloc *alloc)
{
	for (uint32_t i = 0; i < SVM_MAX_DEVICES; i++) {
		struct svm_device *device = atomic_load(&ctx->devices[i]);
		int r;

		if (!device || svm_device_is_lost(device))
			continue;
		r = device->ops.span_remove(device->dev, alloc->base, alloc->size);
		if (r < 0 && r != -ENODEV)
			svm_warn(&ctx->log, "device %s: span could not be removed (error %d)",
				 device->name, -r);
	}
}

/* Part of [start, end) belongs to the space already. */
static bool is_managed(struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	struct svm_tree_node *node;
	bool managed;

	if (start < ctx->host.window_base + ctx->host.window_size && ctx->host.window_base < end)
		return true;
	svm_rwlock_read(&ctx->tree_lock);
	node = svm_tree_find_from(&ctx->ranges, start);
	managed = node && node->start < end;
	svm_rwlock_unlock(&ctx->tree_lock);
	return managed;
}

/* LOCKING: SPACE. */
static int register_locked(struct svm_space *space, struct svm_alloc *alloc)
{
	struct svm_ctx *ctx = &space->ctx;
	uint64_t end = alloc->base + alloc->size;
	int r;

	if (is_managed(ctx, alloc->base, end))
		return -EEXIST;
	r = tell_devices(ctx, alloc);
	if (r < 0)
		return r;
	r = svm_host_register(&ctx->host, alloc->base, alloc->size, &alloc->stash);
	if (r < 0)
		goto err_devices;
	if (!space->reg_started) {
		/* One reader, in one loop: the order of the application's events matters. */
		r = svm_fault_start(&space->reg_source, ctx, ctx->loops[0], ctx->host.reg_uffd.fd);
		if (r < 0)
			goto err_host;
		space->reg_started = true;
	}
	svm_lock(&ctx->native_lock);
	svm_rwlock_write(&ctx->tree_lock);
	alloc->id = ++ctx->next_alloc_id;
	r = svm_range_add(ctx, alloc);
	if (r == 0) {
		r = adopt_pages(ctx, alloc);
		if (r == 0)
			r = svm_native_adopt(ctx, alloc->base, end);
		if (r < 0)
			svm_range_remove(ctx, alloc);
	}
	svm_rwlock_unlock(&ctx->tree_lock);
	if (r == 0)
		svm_native_adopted(ctx, alloc->base, end);
	svm_unlock(&ctx->native_lock);
	if (r < 0)
		goto err_host;
	return 0;

err_host:
	(void)svm_host_unregister(&ctx->host, alloc->base, alloc->size, alloc->stash);
	delete_blocks(alloc);
err_devices:
	untell_devices(ctx, alloc);
	return r;
}

int svm_register(struct svm_space *space, void *addr, uint64_t size, uint32_t flags)
{
	struct svm_ctx *ctx;
	struct svm_alloc *alloc;
	uint64_t end;
	int r;

	if (!space || flags || !addr || size == 0 || svm_addr(addr) % SVM_PAGE_SIZE ||
	    size % SVM_PAGE_SIZE)
		return -EINVAL;
	if (__builtin_add_overflow(svm_addr(addr), size, &end))
		return -EOVERFLOW;
	ctx = &space->ctx;
	r = svm_ctx_check(ctx);
	if (r < 0)
		return r;
	if ((svm_addr(addr) | size) % ctx->unit)
		return -EINVAL;
	if (is_managed(ctx, svm_addr(addr), end))
		return -EEXIST;
	/* Before anything is mapped: what the library maps for itself must not come to lie in a hole of the span. */
	r = svm_host_check(&ctx->host, svm_addr(addr), size);
	if (r < 0)
		return r;
	alloc = svm_pool_get(&ctx->alloc_pool);
	if (!alloc)
		return -ENOMEM;
	alloc->base = svm_addr(addr);
	alloc->size = size;
	alloc->registered = true;
	alloc->blocks = svm_arena_map(blocks_size(alloc));
	if (!alloc->blocks) {
		svm_pool_put(&ctx->alloc_pool, alloc);
		return -ENOMEM;
	}
	svm_lock(&ctx->space_lock);
	r = register_locked(space, alloc);
	svm_unlock(&ctx->space_lock);
	if (r < 0) {
		svm_arena_unmap(alloc->blocks, blocks_size(alloc));
		svm_pool_put(&ctx->alloc_pool, alloc);
	}
	return r;
}

/* LOCKING: tree (write). Nothing of the registered memory is anywhere but in the user view. */
static bool is_home(struct svm_ctx *ctx, const struct svm_alloc *alloc)
{
	for (size_t i = 0; i < n_blocks_of(alloc); i++) {
		const struct svm_block *block = alloc->blocks[i];
		struct svm_mask populated;

		if (!block)
			continue;
		for (uint32_t a = 1; a < SVM_AGENTS; a++)
			if (block->coh.at[a])
				return false;
		svm_coh_populated(&block->coh, &populated);
		if (!svm_mask_subset(&populated, &block->cpu.map_w))
			return false;
	}
	return is_quiet(ctx, alloc->base, alloc->base + alloc->size);
}

static int bring_home(struct svm_ctx *ctx, const struct svm_alloc *alloc)
{
	uint64_t end = alloc->base + alloc->size;
	int r = request_all(ctx, alloc->base, end, SVM_REQUEST_HOME, 0);

	for (uint32_t a = 1; a < SVM_AGENTS && r == 0; a++) {
		for_each_block_addr(addr, alloc->base, end)
		{
			struct svm_request request = { .kind = SVM_REQUEST_FORGET, .agent = a };

			r = r ? r : svm_request_wait(ctx, addr, &request);
		}
	}
	/* What is lost must not read as zeros once the kernel alone serves it. */
	r = r ? r : request_all(ctx, alloc->base, end, SVM_REQUEST_MARK, 0);
	return r ? r : request_all(ctx, alloc->base, end, SVM_REQUEST_SETTLE, 0);
}

int svm_memory_unregister(struct svm_space *space, struct svm_alloc *alloc)
{
	struct svm_ctx *ctx = &space->ctx;
	bool poisoned = false;
	bool home;
	int r = 0;

	svm_rwlock_write(&ctx->tree_lock);
	if (is_held(ctx, alloc->base, alloc->base + alloc->size))
		r = -EBUSY;
	else
		alloc->dying = true;
	svm_rwlock_unlock(&ctx->tree_lock);
	if (r < 0)
		return r;
	do {
		r = bring_home(ctx, alloc);
		svm_rwlock_write(&ctx->tree_lock);
		if (r < 0) {
			alloc->dying = false;
			svm_rwlock_unlock(&ctx->tree_lock);
			return r;
		}
		home = is_home(ctx, alloc);
		if (!home)
			svm_rwlock_unlock(&ctx->tree_lock);
	} while (!home);
	for (size_t i = 0; i < n_blocks_of(alloc); i++) {
		struct svm_block *block = alloc->blocks[i];

		if (!block)
			continue;
		poisoned |= !svm_mask_empty(&block->coh.poisoned);
		atomic_fetch_sub(&ctx->cache_bytes,
				 (int64_t)block->n_stale * (int64_t)SVM_PAGE_SIZE);
	}
	r = svm_host_unregister(&ctx->host, alloc->base, alloc->size, alloc->stash);
	if (r < 0)
		svm_warn(&ctx->log, "unregister of %llx: error %d", (unsigned long long)alloc->base,
			 -r);
	delete_blocks(alloc);
	svm_range_remove(ctx, alloc);
	svm_rwlock_unlock(&ctx->tree_lock);
	untell_devices(ctx, alloc);
	svm_arena_unmap(alloc->blocks, blocks_size(alloc));
	svm_pool_put(&ctx->alloc_pool, alloc);
	return poisoned ? -EIO : 0;
}

int svm_unregister(struct svm_space *space, void *addr, uint64_t size)
{
	struct svm_ctx *ctx;
	struct svm_range *range;
	struct svm_alloc *alloc = NULL;
	int r;

	if (!space)
		return -EINVAL;
	ctx = &space->ctx;
	r = svm_ctx_check(ctx);
	if (r < 0)
		return r;
	svm_lock(&ctx->space_lock);
	svm_rwlock_read(&ctx->tree_lock);
	range = svm_range_find(ctx, svm_addr(addr));
	if (range && range->alloc->registered && range->alloc->base == svm_addr(addr) &&
	    range->alloc->size == size)
		alloc = range->alloc;
	svm_rwlock_unlock(&ctx->tree_lock);
	r = alloc ? svm_memory_unregister(space, alloc) : -ENOENT;
	svm_unlock(&ctx->space_lock);
	return r;
}

/* Mark populated pages of a block; chunks that hold nothing else are the first to be evicted. */
static void discard_lazily(struct svm_block *block, uint64_t start, uint64_t end)
{
	struct svm_mask pages;
	struct svm_mask populated;

	svm_block_pages(block, start, end, &pages);
	svm_lock(&block->lock);
	svm_coh_populated(&block->coh, &populated);
	svm_mask_and(&pages, &populated);
	svm_mask_or(&block->coh.discarded, &pages);
	for (uint32_t a = 1; a < SVM_AGENTS; a++) {
		struct svm_block_device *entry = svm_block_device_of(block, a);

		/* Whether it has a chunk is for the store to say: a transition may be giving it one. */
		if (entry && svm_mask_subset(&entry->agent.res, &block->coh.discarded))
			svm_store_age(&entry->device->store, &entry->chunk);
	}
	svm_unlock(&block->lock);
}

int svm_discard(struct svm_space *space, void *addr, uint64_t size, uint32_t flags)
{
	uint64_t start;
	uint64_t end;
	int r;

	if (flags & ~SVM_DISCARD_LAZY)
		return -EINVAL;
	r = svm_space_begin(space, addr, size, &start, &end);
	if (r < 0)
		return r;
	/* Not a byte of what was not named. */
	start = svm_align_up(start, space->ctx.unit);
	end = svm_align_down(end, space->ctx.unit);
	if (start >= end) {
		svm_rwlock_unlock(&space->ctx.tree_lock);
		return 0;
	}
	if (is_held(&space->ctx, start, end)) {
		r = -EBUSY;
	} else if (flags & SVM_DISCARD_LAZY) {
		for_each_block_addr(a, start, end)
		{
			struct svm_block *block = svm_block_find(&space->ctx, a);

			if (block)
				discard_lazily(block, start, end);
		}
	}
	svm_rwlock_unlock(&space->ctx.tree_lock);
	if (r < 0 || (flags & SVM_DISCARD_LAZY))
		return r;
	return request_all(&space->ctx, start, end, SVM_REQUEST_DISCARD, 0);
}

/* A pin, or a host acquire, of the application. */
struct svm_pin {
	struct svm_list node;
	uint64_t start;
	uint64_t end;
	struct svm_location location;
	uint32_t access; /* host acquire; 0: a pin */
	struct svm_job *job;
};

static int make_pin(struct svm_space *space, uint64_t start, uint64_t end, uint32_t agent,
		    int numa_node, enum svm_cause cause, bool write, uint32_t flags,
		    struct svm_job **ret_job)
{
	struct svm_ctx *ctx = &space->ctx;
	struct svm_job *job;
	int r;

	svm_rwlock_read(&ctx->tree_lock);
	r = svm_job_new(ctx, svm_device_of(ctx, agent), cause, 1, &job);
	svm_rwlock_unlock(&ctx->tree_lock);
	if (r < 0)
		return r;
	job->hold = true;
	job->hold_store = agent != SVM_AGENT_CPU;
	job->request_flags = flags;
	job->ranges[0].start = start;
	job->ranges[0].end = end;
	job->ranges[0].agent = agent;
	job->ranges[0].write = write;
	job->ranges[0].numa_node = numa_node;
	svm_job_start(job, NULL);
	(void)svm_job_wait(job, -1, &r);
	if (r < 0) {
		svm_job_release(job, NULL);
		return r == -EAGAIN ? -EBUSY : r;
	}
	*ret_job = job;
	return 0;
}

static int add_pin(struct svm_space *space, uint64_t start, uint64_t end,
		   struct svm_location location, uint32_t access, struct svm_job *job)
{
	struct svm_pin *pin = svm_arena_map(sizeof(*pin));

	if (!pin) {
		svm_job_release(job, NULL);
		return -ENOMEM;
	}
	pin->start = start;
	pin->end = end;
	pin->location = location;
	pin->access = access;
	pin->job = job;
	svm_lock(&space->ctx.space_lock);
	svm_list_add_head(&space->pins, &pin->node);
	svm_unlock(&space->ctx.space_lock);
	return 0;
}

static int remove_pin(struct svm_space *space, const void *addr, uint64_t size,
		      struct svm_location location, uint32_t access)
{
	struct svm_pin *found = NULL;
	uint64_t start;
	uint64_t end;
	int r;

	if (!space)
		return -EINVAL;
	r = svm_ctx_check(&space->ctx);
	if (r == 0)
		r = svm_space_span(addr, size, &start, &end);
	if (r < 0)
		return r;
	svm_space_widen(&space->ctx, &start, &end);
	svm_lock(&space->ctx.space_lock);
	svm_list_for_each(node, &space->pins) {
		struct svm_pin *pin = svm_list_entry(node, struct svm_pin, node);

		if (pin->start == start && pin->end == end && pin->access == access &&
		    pin->location.kind == location.kind && pin->location.id == location.id) {
			found = pin;
			break;
		}
	}
	if (found)
		svm_list_del(&found->node);
	svm_unlock(&space->ctx.space_lock);
	if (!found)
		return -ENOENT;
	svm_job_release(found->job, NULL);
	svm_arena_unmap(found, sizeof(*found));
	return 0;
}

int svm_pin(struct svm_space *space, void *addr, uint64_t size, struct svm_location location)
{
	struct svm_job *job = NULL;
	uint64_t start;
	uint64_t end;
	uint32_t agent;
	int numa_node;
	int r = svm_space_begin(space, addr, size, &start, &end);

	if (r < 0)
		return r;
	svm_space_widen(&space->ctx, &start, &end);
	r = svm_space_resolve(&space->ctx, location, &agent, &numa_node);
	if (r == 0 && agent != SVM_AGENT_CPU && svm_device_of(&space->ctx, agent)->native_only)
		r = -EOPNOTSUPP;
	svm_rwlock_unlock(&space->ctx.tree_lock);
	if (r == 0)
		r = make_pin(space, start, end, agent, numa_node, SVM_CAUSE_PIN, true, 0, &job);
	return r < 0 ? r : add_pin(space, start, end, location, 0, job);
}

int svm_unpin(struct svm_space *space, void *addr, uint64_t size, struct svm_location location)
{
	return remove_pin(space, addr, size, location, 0);
}

int svm_host_acquire(struct svm_space *space, void *addr, uint64_t size, uint32_t access,
		     uint32_t flags)
{
	static const struct svm_location none;
	struct svm_job *job;
	uint64_t start;
	uint64_t end;
	int r;

	if ((flags & ~SVM_HOST_TRY) || (access != SVM_ACCESS_READ && access != SVM_ACCESS_WRITE))
		return -EINVAL;
	r = svm_space_begin(space, addr, size, &start, &end);
	if (r < 0)
		return r;
	svm_rwlock_unlock(&space->ctx.tree_lock);
	svm_space_widen(&space->ctx, &start, &end);
	r = make_pin(space, start, end, SVM_AGENT_CPU, -1, SVM_CAUSE_ACQUIRE,
		     access == SVM_ACCESS_WRITE,
		     flags & SVM_HOST_TRY ? SVM_REQUEST_TRY : SVM_REQUEST_PATIENT, &job);
	return r < 0 ? r : add_pin(space, start, end, none, access, job);
}

int svm_host_release(struct svm_space *space, void *addr, uint64_t size, uint32_t access)
{
	static const struct svm_location none;

	if (access != SVM_ACCESS_READ && access != SVM_ACCESS_WRITE)
		return -EINVAL;
	return remove_pin(space, addr, size, none, access);
}

/* LOCKING: block. */
static void describe_page(const struct svm_block *block, unsigned int page,
			  struct svm_page_residency *ret)
{
	const struct svm_coh *coh = &block->coh;

	*ret = (struct svm_page_residency){ 0 };
	ret->flags |= svm_mask_test(&block->cpu.res, page) ? SVM_PAGE_HOST : 0;
	ret->flags |= svm_mask_test(&block->cpu.map_r, page) ? SVM_PAGE_CPU_READ : 0;
	ret->flags |= svm_mask_test(&block->cpu.map_w, page) ? SVM_PAGE_CPU_WRITE : 0;
	ret->flags |= svm_mask_test(&coh->poisoned, page) ? SVM_PAGE_POISONED : 0;
	ret->flags |= svm_mask_test(&coh->discarded, page) ? SVM_PAGE_DISCARDED : 0;
	ret->flags |= block->shared ? SVM_PAGE_SHARED : 0;
	svm_list_for_each(node, &block->holds)
		if (svm_mask_test(&svm_list_entry(node, struct svm_hold, node)->pages, page))
			ret->flags |= SVM_PAGE_PINNED;
	for (uint32_t a = 1; a < SVM_AGENTS; a++) {
		if (!coh->at[a])
			continue;
		ret->devices |= (uint16_t)(svm_mask_test(&coh->at[a]->res, page) << (a - 1u));
		ret->mapped |= (uint16_t)(svm_mask_test(&coh->at[a]->map_r, page) << (a - 1u));
	}
}

/* At most this many pages are described under one lock: into a buffer, as pages[] may itself be managed memory. */
#define DESCRIBE_BATCH 64u

/* Describe up to n_left managed pages from addr on, all of one block. Returns how many. */
static size_t describe_managed(struct svm_ctx *ctx, uint64_t addr, size_t n_left,
			       struct svm_page_residency *pages)
{
	struct svm_page_residency batch[DESCRIBE_BATCH] = { 0 };
	unsigned int first = (unsigned int)((addr & (SVM_BLOCK_SIZE - 1u)) >> SVM_PAGE_SHIFT);
	size_t n = svm_min_u64(svm_min_u64(DESCRIBE_BATCH, SVM_BLOCK_PAGES - first), n_left);
	struct svm_block *block;

	svm_rwlock_read(&ctx->tree_lock);
	block = svm_block_find(ctx, addr);
	if (block) {
		svm_lock(&block->lock);
		for (size_t k = 0; k < n; k++)
			describe_page(block, first + (unsigned int)k, &batch[k]);
		svm_unlock(&block->lock);
	}
	svm_rwlock_unlock(&ctx->tree_lock);
	memcpy(pages, batch, n * sizeof(batch[0]));
	return n;
}

/* The same of system memory. */
static int describe_system(struct svm_ctx *ctx, uint64_t addr, size_t n,
			   struct svm_page_residency *pages)
{
	struct svm_page_residency batch[SVM_NATIVE_BATCH_PAGES];
	int r = svm_native_where(ctx, addr, n, batch);

	if (r == 0)
		memcpy(pages, batch, n * sizeof(batch[0]));
	return r;
}

int svm_residency_query(struct svm_space *space, const void *addr, uint64_t size,
			struct svm_page_residency *pages, size_t n_pages, uint64_t *ret_generation)
{
	struct svm_piece piece;
	uint64_t generation;
	uint64_t start;
	uint64_t end;
	bool native;
	int r;

	if (!pages)
		return -EINVAL;
	r = svm_space_begin_any(space, addr, size, &start, &end, &native);
	if (r < 0)
		return r;
	svm_space_end_any(space, native);
	if (n_pages != (end - start) >> SVM_PAGE_SHIFT)
		return -EINVAL;
	generation = atomic_load(&space->ctx.generation);
	for (size_t i = 0; i < n_pages;) {
		uint64_t a = start + ((uint64_t)i << SVM_PAGE_SHIFT);
		size_t n;

		svm_rwlock_read(&space->ctx.tree_lock);
		if (!native || svm_range_piece(&space->ctx, a, end, &piece) < 0)
			piece = (struct svm_piece){ a, end, false };
		svm_rwlock_unlock(&space->ctx.tree_lock);
		n = (size_t)((piece.end - a) >> SVM_PAGE_SHIFT);
		if (piece.system) {
			n = svm_min_u64(n, SVM_NATIVE_BATCH_PAGES);
			r = describe_system(&space->ctx, a, n, &pages[i]);
			if (r < 0)
				return r;
		} else {
			n = describe_managed(&space->ctx, a, n, &pages[i]);
		}
		i += n;
	}
	if (ret_generation)
		*ret_generation = generation;
	return 0;
}

int svm_pointer_query(struct svm_space *space, const void *addr, struct svm_pointer_info *info)
{
	struct svm_pointer_info found = { .size = sizeof(found) };
	const struct svm_alloc *alloc;
	uint64_t page = svm_align_down(svm_addr(addr), SVM_PAGE_SIZE);
	int r;

	if (!space || !info || info->size != sizeof(*info))
		return -EINVAL;
	r = svm_ctx_check(&space->ctx);
	if (r < 0)
		return r;
	svm_rwlock_read(&space->ctx.tree_lock);
	alloc = svm_range_alloc(&space->ctx, svm_addr(addr));
	if (alloc) {
		struct svm_block *block = svm_block_find(&space->ctx, svm_addr(addr));

		found.base = alloc->base;
		found.length = alloc->size;
		found.id = alloc->id;
		found.is_svm = 1;
		found.is_registered = alloc->registered;
		found.is_shared = alloc->kind == SVM_HOST_SHARED;
		if (block) {
			svm_lock(&block->lock);
			found.is_shared = block->shared;
			svm_unlock(&block->lock);
		}
	}
	svm_rwlock_unlock(&space->ctx.tree_lock);
	found.is_native = !found.is_svm && atomic_load(&space->ctx.n_native) != 0 &&
			  svm_native_check(&space->ctx, page, page + SVM_PAGE_SIZE) == 0;
	*info = found;
	return 0;
}
