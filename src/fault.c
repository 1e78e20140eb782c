/* SPDX-License-Identifier: MIT */
#include "fault.h"

#include "sys.h"
#include <errno.h>

static uint64_t page_of(uint64_t addr)
{
	return svm_align_down(addr, SVM_PAGE_SIZE);
}

static void trace_fault(struct svm_ctx *ctx, uint32_t kind, uint32_t device, uint64_t addr,
			uint64_t value)
{
	svm_trace_event(&ctx->trace, &(struct svm_event){ .kind = kind,
							  .addr = addr,
							  .size = SVM_PAGE_SIZE,
							  .device = device,
							  .value = value });
}

/* Let whoever touches the unit try again: it faults once more if the page is still not there. */
static void wake_page(struct svm_ctx *ctx, uint64_t addr)
{
	const struct svm_uffd *uffd = &ctx->host.uffd;
	int r;

	if (addr - ctx->host.window_base >= ctx->host.window_size)
		uffd = &ctx->host.reg_uffd;
	r = svm_uffd_wake(uffd, svm_align_down(addr, ctx->unit), ctx->unit);
	if (r < 0)
		svm_warn(&ctx->log, "fault at %llx: cannot wake (error %d)",
			 (unsigned long long)addr, -r);
}

/* Queue on the block of addr and run it. */
static int submit(struct svm_ctx *ctx, uint64_t addr, struct svm_request *request)
{
	struct svm_block *block;
	int r;

	svm_rwlock_read(&ctx->tree_lock);
	r = svm_block_get(ctx, addr, &block);
	if (r == 0) {
		request->block = block;
		svm_block_pages(block, svm_align_down(addr, ctx->unit),
				svm_align_down(addr, ctx->unit) + ctx->unit, &request->pages);
		svm_request_queue(request);
	}
	svm_rwlock_unlock(&ctx->tree_lock);
	if (r == 0)
		svm_block_run(block);
	return r;
}

static uint64_t request_addr(const struct svm_request *request)
{
	unsigned int page = 0;

	svm_mask_run(&request->pages, &page);
	return request->block->base + ((uint64_t)page << SVM_PAGE_SHIFT);
}

/* The touch has been served, or has become a signal. Else the address space is changing, and we have to read of it first; or
 * there was no way even to a signal: then it comes again. */
static void cpu_fault_done(struct svm_request *request)
{
	struct svm_ctx *ctx = request->data;

	if (request->status < 0)
		wake_page(ctx, request_addr(request));
	svm_pool_put(&ctx->request_pool, request);
}

static void forget_done(struct svm_request *request)
{
	struct svm_ctx *ctx = request->data;

	svm_pool_put(&ctx->request_pool, request);
}

/* LOCKING: tree. Memory that may come to a CPU that has not touched it yet: nothing was said about where it should be,
 * or how much of it should move. */
static bool may_come_unasked(const struct svm_range *range)
{
	const struct svm_hints *hints = &range->hints;

	return hints->migration == SVM_MIGRATE_ON_ACCESS && !hints->read_mostly &&
	       hints->preferred.kind != SVM_LOCATION_DEVICE && !hints->accessed_by &&
	       !hints->in_place && hints->granularity_shift == SVM_BLOCK_SHIFT;
}

/* LOCKING: tree, block. Pages that only a device holds, which nobody works on or has claimed. */
static bool waits_on_device(const struct svm_block *block, struct svm_mask *pages)
{
	struct svm_mask populated;

	svm_coh_populated(&block->coh, &populated);
	svm_mask_and(pages, &populated);
	svm_mask_andnot(pages, &block->cpu.res);
	return !block->busy && svm_list_empty(&block->queue) && svm_list_empty(&block->holds) &&
	       !svm_mask_empty(pages) &&
	       !svm_history_thrashing(&block->history, svm_sys->clock_ns());
}

/* LOCKING: tree. Queue the request that brings what a device holds of a block. NULL: none is needed, or wanted. */
static struct svm_block *bring(struct svm_ctx *ctx, const struct svm_alloc *alloc, uint64_t addr,
			       uint32_t flags)
{
	const struct svm_range *range = svm_range_find(ctx, addr);
	struct svm_block *block = range ? svm_block_find(ctx, addr) : NULL;
	struct svm_request *request;
	struct svm_mask pages;
	bool wanted;

	if (!block || range->alloc != alloc || !may_come_unasked(range))
		return NULL;
	svm_block_pages(block, range->node.start, range->node.end, &pages);
	svm_lock(&block->lock);
	svm_mask_and(&pages, &block->managed);
	wanted = waits_on_device(block, &pages);
	svm_unlock(&block->lock);
	request = wanted ? svm_pool_get(&ctx->request_pool) : NULL;
	if (!request)
		return NULL;
	request->block = block;
	request->kind = SVM_REQUEST_ACCESS;
	request->flags = SVM_REQUEST_TRY | flags;
	request->agent = SVM_AGENT_CPU;
	request->cause = SVM_CAUSE_PREFETCH;
	request->pages = pages;
	request->done = forget_done;
	request->data = ctx;
	svm_request_queue(request);
	return block;
}

/*
 * The CPU touches block after block: what a device holds of the next ones is brought while it is busy with this
 * one. The copies overlap with its work and with each other's waits, and most of the faults do not happen.
 */
static void read_ahead(struct svm_ctx *ctx, uint64_t addr, uint64_t start, uint32_t n)
{
	struct svm_block *blocks[SVM_STREAM_WINDOW];
	const struct svm_range *range;
	uint32_t n_blocks = 0;

	svm_rwlock_read(&ctx->tree_lock);
	range = svm_range_find(ctx, addr);
	for (uint32_t i = 0; i < n && range; i++) {
		struct svm_block *block = bring(ctx, range->alloc,
						start + (uint64_t)i * SVM_BLOCK_SIZE,
						i == 0 ? SVM_REQUEST_NO_MAP : 0);

		if (block)
			blocks[n_blocks++] = block;
	}
	svm_rwlock_unlock(&ctx->tree_lock);
	for (uint32_t i = 0; i < n_blocks; i++)
		svm_block_run(blocks[i]);
}

static void cpu_fault(struct svm_ctx *ctx, uint64_t addr, bool write)
{
	struct svm_request *request;

	svm_trace_count(&ctx->trace, SVM_COUNT_CPU_FAULTS, 1);
	trace_fault(ctx, SVM_EVENT_CPU_FAULT, ~0u, addr, write);
	if (svm_block_grant(ctx, addr))
		return;
	request = svm_pool_get(&ctx->request_pool);
	if (!request) {
		wake_page(ctx, addr);
		return;
	}
	request->kind = SVM_REQUEST_ACCESS;
	request->agent = SVM_AGENT_CPU;
	request->cause = SVM_CAUSE_FAULT;
	request->write = write;
	request->done = cpu_fault_done;
	request->data = ctx;
	if (submit(ctx, addr, request) < 0) {
		/* Freed, or unregistered, since: what is there now decides. */
		wake_page(ctx, addr);
		svm_pool_put(&ctx->request_pool, request);
	}
}

/* Somebody holds what the application took away, or a device does not let go of it. */
static void tell_failed_news(struct svm_ctx *ctx, int status)
{
	if (status < 0)
		svm_warn(&ctx->log,
			 "pages that were unmapped or dropped are still there (error %d)", -status);
}

static void news_done(struct svm_request *request);

/*
 * LOCKING: block. The pages that are noted in the block's news are to be forgotten, before anybody who asks for them from
 * now on. Whoever is in the queue by then has not been served since they went, and may as well be served after.
 */
static void queue_news(struct svm_block *block)
{
	struct svm_news *news = block->news;
	bool unmapped = !svm_mask_empty(&news->unmapped);
	struct svm_mask *pages = unmapped ? &news->unmapped : &news->dropped;

	news->queued = !svm_mask_empty(pages);
	if (!news->queued)
		return;
	news->request =
		(struct svm_request){ .block = block,
				      .kind = SVM_REQUEST_DISCARD,
				      .flags = SVM_REQUEST_NEWS | (unmapped ? SVM_REQUEST_GONE : 0),
				      .pages = *pages,
				      .left = *pages,
				      .done = news_done };
	svm_mask_zero(pages);
	svm_list_init(&news->request.space.node);
	svm_list_add_head(&block->queue, &news->request.node);
	block->n_runners++; /* for news_done(): the block lives until then */
}

static void news_done(struct svm_request *request)
{
	struct svm_block *block = request->block;

	tell_failed_news(block->ctx, request->status);
	svm_lock(&block->lock);
	queue_news(block);
	svm_unlock(&block->lock);
	svm_block_run(block);
}

/*
 * LOCKING: NEWS (write), tree. The block has a request for that, and notes what comes while it is under way. The reader
 * runs the block, which lives until then (n_runners).
 */
static void note_news(struct svm_fault_source *source, struct svm_block *block,
		      const struct svm_mask *pages, bool unmapped)
{
	struct svm_news *news = block->news;

	svm_lock(&block->lock);
	svm_mask_or(&block->host.dropped, pages);
	svm_mask_or(unmapped ? &news->unmapped : &news->dropped, pages);
	if (!news->queued)
		queue_news(block);
	if (svm_list_empty(&news->node)) {
		svm_list_add_tail(&source->noted, &news->node);
		block->n_runners++;
	}
	svm_unlock(&block->lock);
}

/* LOCKING: none. */
static void run_noted(struct svm_fault_source *source)
{
	while (!svm_list_empty(&source->noted)) {
		struct svm_news *news = svm_list_entry(source->noted.next, struct svm_news, node);

		svm_list_del(&news->node);
		svm_block_run(news->block);
	}
}

/*
 * LOCKING: tree. The first piece of [*addr, end) that is registered, up to the end of its registration and block. *addr
 * moves behind it. NULL: there is none. Memory that is being unregistered counts: who brings it home finds nothing to bring
 * it to.
 */
static struct svm_block *next_piece(struct svm_ctx *ctx, uint64_t *addr, uint64_t end,
				    struct svm_mask *ret_pages)
{
	while (*addr < end) {
		struct svm_tree_node *node = svm_tree_find_from(&ctx->ranges, *addr);
		const struct svm_alloc *alloc;
		struct svm_block *block;
		uint64_t start;

		if (!node || node->start >= end)
			break;
		alloc = svm_range_of(node)->alloc;
		start = svm_max_u64(*addr, node->start);
		*addr = svm_min_u64(svm_min_u64(end, alloc->base + alloc->size),
				    svm_align_down(start, SVM_BLOCK_SIZE) + SVM_BLOCK_SIZE);
		block = svm_block_find(ctx, start);
		if (!block)
			continue;
		svm_block_pages(block, start, *addr, ret_pages);
		return block;
	}
	*addr = end;
	return NULL;
}

/* LOCKING: NEWS (write). Before the application can go on: what devices hold of it is not wanted, and nobody maps it. */
static void note_gone(struct svm_fault_source *source, uint64_t start, uint64_t end, bool unmapped)
{
	struct svm_ctx *ctx = source->ctx;
	struct svm_block *block;
	struct svm_mask pages;

	svm_rwlock_read(&ctx->tree_lock);
	while ((block = next_piece(ctx, &start, end, &pages)) != NULL)
		note_news(source, block, &pages, unmapped);
	svm_rwlock_unlock(&ctx->tree_lock);
}

/* The application took registered memory away, or asked for zeros. Its pages are dealt with; hints go with a mapping. */
static void pages_gone(struct svm_ctx *ctx, uint64_t start, uint64_t end, bool unmapped)
{
	uint64_t addr;

	if (unmapped)
		svm_trace_event(&ctx->trace, &(struct svm_event){ .kind = SVM_EVENT_UNMAPPED,
								  .addr = start,
								  .size = end - start,
								  .device = ~0u });
	if (unmapped) {
		svm_rwlock_write(&ctx->tree_lock);
		for (addr = start; addr < end;) {
			struct svm_tree_node *node = svm_tree_find_from(&ctx->ranges, addr);
			uint64_t stop;

			if (!node || node->start >= end)
				break;
			addr = svm_max_u64(addr, node->start);
			stop = svm_min_u64(end, node->end);
			if (!svm_range_of(node)->alloc->dying)
				(void)svm_range_update(ctx, addr, stop, NULL, 0,
						       (1u << SVM_ADVICE_KINDS) - 1u);
			addr = stop;
		}
		svm_rwlock_unlock(&ctx->tree_lock);
	}
}

/* News of registered memory: where it is. False: another message. */
static bool is_news(const struct uffd_msg *message, uint64_t *ret_start, uint64_t *ret_end,
		    bool *ret_unmapped)
{
	*ret_unmapped = message->event != UFFD_EVENT_REMOVE;
	switch (message->event) {
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP:
		*ret_start = message->arg.remove.start;
		*ret_end = message->arg.remove.end;
		return true;
	case UFFD_EVENT_REMAP:
		*ret_start = message->arg.remap.from;
		*ret_end = message->arg.remap.from + message->arg.remap.len;
		return true;
	default:
		return false;
	}
}

static void handle_message(struct svm_ctx *ctx, const struct uffd_msg *message)
{
	uint64_t ahead = 0;
	uint64_t flags;
	uint64_t addr;
	uint64_t end;
	bool unmapped;
	uint32_t n;

	switch (message->event) {
	case UFFD_EVENT_PAGEFAULT:
		flags = message->arg.pagefault.flags;
		addr = page_of(message->arg.pagefault.address);
		/* Noted before it is served: the next fault of a thread that goes on may be another service thread's, and
		 * a stream is told by the order. */
		n = svm_streams_fault(&ctx->streams, svm_align_down(addr, SVM_BLOCK_SIZE), &ahead);
		cpu_fault(ctx, addr,
			  (flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP)) != 0);
		if (n != 0)
			read_ahead(ctx, addr, ahead, n);
		break;
	default:
		if (is_news(message, &addr, &end, &unmapped))
			pages_gone(ctx, addr, end, unmapped);
		else
			svm_warn(&ctx->log, "userfaultfd: unknown event %u", message->event);
	}
}

static struct svm_fault_source *source_of(struct svm_reader *reader)
{
	return svm_container_of(reader, struct svm_fault_source, reader);
}

static void before_read(struct svm_reader *reader)
{
	svm_rwlock_write(&source_of(reader)->ctx->host.news_lock);
}

static void after_read(struct svm_reader *reader, ssize_t n)
{
	struct svm_fault_source *source = source_of(reader);
	size_t count = n > 0 ? (size_t)n / sizeof(source->messages[0]) : 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t start;
		uint64_t end;
		bool unmapped;

		if (is_news(&source->messages[i], &start, &end, &unmapped))
			note_gone(source, start, end, unmapped);
	}
	svm_rwlock_unlock(&source->ctx->host.news_lock);
}

static void messages_read(struct svm_reader *reader, ssize_t n)
{
	struct svm_fault_source *source = source_of(reader);
	/* The reader's buffer is reused only after this returns. */
	size_t count = n > 0 ? (size_t)n / sizeof(source->messages[0]) : 0;

	if (n < 0) {
		svm_error(&source->ctx->log, "userfaultfd: read fails (error %d)", (int)-n);
		return;
	}
	run_noted(source);
	for (size_t i = 0; i < count; i++)
		handle_message(source->ctx, &source->messages[i]);
}

int svm_fault_start(struct svm_fault_source *source, struct svm_ctx *ctx, struct svm_loop *loop,
		    int fd)
{
	source->ctx = ctx;
	source->loop = loop;
	source->reader.fd = fd;
	source->reader.buffer = source->messages;
	source->reader.size = sizeof(source->messages);
	source->reader.data = messages_read;
	svm_list_init(&source->noted);
	/* Only registered memory has events. */
	if (fd == ctx->host.reg_uffd.fd) {
		source->reader.before = before_read;
		source->reader.after = after_read;
	}
	return svm_loop_add_reader(loop, &source->reader);
}

void svm_fault_stop(struct svm_fault_source *source)
{
	svm_loop_remove_reader(source->loop, &source->reader);
}

/* A device's fault under way. */
struct device_fault {
	struct svm_request request;
	struct svm_device *device;
	struct svm_device_fault fault;
};
_Static_assert(sizeof(struct device_fault) <= SVM_REQUEST_OBJECT,
	       "device faults come from the request pool");
_Static_assert(sizeof(struct svm_news) <= SVM_REQUEST_OBJECT, "news come from the request pool");

static void answer(struct svm_device *device, const struct svm_device_fault *fault, int status)
{
	int r;

	if (svm_device_is_lost(device))
		return;
	if (status < 0)
		trace_fault(device->ctx, SVM_EVENT_REFUSED, device->id, fault->addr,
			    (uint64_t)-status);
	r = device->ops.fault_done(device->dev, fault, status);
	if (r < 0)
		svm_device_lose(device, r);
}

static void device_fault_done(struct svm_request *request)
{
	struct device_fault *fault = svm_container_of(request, struct device_fault, request);
	struct svm_device *device = fault->device;

	/* -EAGAIN: the application's memory is changing; the device asks again. */
	answer(device, &fault->fault, request->status == -EAGAIN ? 0 : request->status);
	svm_pool_put(&device->ctx->request_pool, fault);
	svm_device_put(device);
}

static void device_fault(struct svm_device *device, const struct svm_device_fault *reported)
{
	struct svm_ctx *ctx = device->ctx;
	struct device_fault *fault = svm_pool_get(&ctx->request_pool);
	int r;

	svm_trace_count(&ctx->trace, SVM_COUNT_DEVICE_FAULTS, 1);
	trace_fault(ctx, SVM_EVENT_DEVICE_FAULT, device->id, reported->addr,
		    reported->access == SVM_ACCESS_WRITE);
	if (!fault) {
		answer(device, reported, 0); /* it faults again */
		return;
	}
	fault->device = device;
	fault->fault = *reported;
	fault->request.kind = SVM_REQUEST_ACCESS;
	fault->request.agent = device->agent;
	fault->request.cause = SVM_CAUSE_FAULT;
	fault->request.write = reported->access == SVM_ACCESS_WRITE;
	fault->request.done = device_fault_done;
	svm_device_get(device);
	/* What the CPU was about to get unasked is in use here. */
	svm_streams_stop(&ctx->streams, svm_align_down(reported->addr, SVM_BLOCK_SIZE));
	r = submit(ctx, page_of(reported->addr), &fault->request);
	if (r < 0) {
		answer(device, reported, r);
		svm_pool_put(&ctx->request_pool, fault);
		svm_device_put(device);
	}
}

void svm_fault_read_device(struct svm_device *device)
{
	struct svm_device_fault faults[SVM_FAULT_BATCH];
	int n = device->ops.fault_read(device->dev, faults, SVM_FAULT_BATCH);

	if (n < 0 || n > (int)SVM_FAULT_BATCH) {
		svm_device_lose(device, n < 0 ? n : -EPROTO);
		return;
	}
	for (int i = 0; i < n; i++)
		device_fault(device, &faults[i]);
}

static void settle_done(struct svm_request *request)
{
	struct svm_device *device = request->data;

	svm_pool_put(&device->ctx->request_pool, request);
	svm_device_put(device);
}

/* LOCKING: none. One block looks at its devices again; false: none is left that knows the device. */
static bool prompt_one(struct svm_device *device)
{
	struct svm_ctx *ctx = device->ctx;
	struct svm_request *request = svm_pool_get(&ctx->request_pool);
	struct svm_block_device *entry;
	struct svm_block *block = NULL;

	if (!request) {
		svm_error(&ctx->log, "device %s: no memory to report its loss to all blocks",
			  device->name);
		return false;
	}
	svm_rwlock_read(&ctx->tree_lock);
	svm_lock(&device->blocks_lock);
	if (!svm_list_empty(&device->blocks)) {
		entry = svm_list_entry(device->blocks.next, struct svm_block_device, node);
		block = entry->block;
		/* Each is prompted once: those dealt with leave the list, the others go to its end. */
		svm_list_del(&entry->node);
		svm_list_add_tail(&device->blocks, &entry->node);
	}
	svm_unlock(&device->blocks_lock);
	if (block) {
		request->block = block;
		request->kind = SVM_REQUEST_POISON; /* of no pages: any request notices the loss */
		request->done = settle_done;
		request->data = device;
		svm_device_get(device);
		svm_request_queue(request);
	}
	svm_rwlock_unlock(&ctx->tree_lock);
	if (block)
		svm_block_run(block);
	else
		svm_pool_put(&ctx->request_pool, request);
	return block != NULL;
}

void svm_fault_device_lost(struct svm_device *device)
{
	uint64_t n = 0;

	svm_lock(&device->blocks_lock);
	svm_list_for_each(node, &device->blocks)
		n++;
	svm_unlock(&device->blocks_lock);
	while (n-- > 0 && prompt_one(device))
		;
	svm_evict_run(device->ctx, device);
}
