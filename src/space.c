/* SPDX-License-Identifier: MIT */
#include "space.h"

#include "backend.h"
#include "owner.h"
#include "sys.h"
#include "transition.h"
#include <errno.h>
#include <fcntl.h>
#include <libsvm/libsvm.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEFAULT_WINDOW	   (UINT64_C(256) << 30)
#define SMALLEST_WINDOW	   (UINT64_C(1) << 30)
#define LEAST_CACHE	   (UINT64_C(256) << 20)
#define DEFAULT_TIMEOUT_MS 10000u
#define MS		   UINT64_C(1000000)

#define KNOWN_FLAGS                                                              \
	(SVM_SPACE_USER_MODE_ONLY | SVM_SPACE_NO_MOVE | SVM_SPACE_NO_POISON |    \
	 SVM_SPACE_NO_HUGE_PAGES | SVM_SPACE_DEFAULT_SHARED | SVM_SPACE_NATIVE | \
	 SVM_SPACE_64K_UNITS)

int svm_version(void)
{
	return SVM_VERSION_MAJOR * 10000 + SVM_VERSION_MINOR * 100 + SVM_VERSION_PATCH;
}

int svm_space_span(const void *addr, uint64_t size, uint64_t *ret_start, uint64_t *ret_end)
{
	uint64_t start = svm_addr(addr);
	uint64_t end;

	if (size == 0)
		return -EINVAL;
	if (__builtin_add_overflow(start, size, &end) || end > UINT64_MAX - SVM_PAGE_SIZE)
		return -EOVERFLOW;
	*ret_start = svm_align_down(start, SVM_PAGE_SIZE);
	*ret_end = svm_align_up(end, SVM_PAGE_SIZE);
	return 0;
}

void svm_space_widen(const struct svm_ctx *ctx, uint64_t *start, uint64_t *end)
{
	*start = svm_align_down(*start, ctx->unit);
	*end = svm_align_up(*end, ctx->unit);
}

int svm_space_begin(struct svm_space *space, const void *addr, uint64_t size, uint64_t *ret_start,
		    uint64_t *ret_end)
{
	int r;

	if (!space)
		return -EINVAL;
	r = svm_ctx_check(&space->ctx);
	if (r == 0)
		r = svm_space_span(addr, size, ret_start, ret_end);
	if (r < 0)
		return r;
	svm_rwlock_read(&space->ctx.tree_lock);
	r = svm_range_check(&space->ctx, *ret_start, *ret_end);
	if (r < 0)
		svm_rwlock_unlock(&space->ctx.tree_lock);
	return r;
}

/* LOCKING: tree. */
static int check_pieces(const struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	struct svm_piece piece = { .end = start };
	int r = 0;

	while (piece.end < end && r == 0)
		r = svm_range_piece(ctx, piece.end, end, &piece);
	return r;
}

int svm_space_begin_any(struct svm_space *space, const void *addr, uint64_t size,
			uint64_t *ret_start, uint64_t *ret_end, bool *ret_native)
{
	struct svm_ctx *ctx;
	int r = svm_space_begin(space, addr, size, ret_start, ret_end);

	*ret_native = false;
	if (r != -ENOENT || !svm_native_wanted(&space->ctx))
		return r;
	ctx = &space->ctx;
	svm_lock(&ctx->native_lock);
	svm_native_forget_unmapped(ctx, *ret_start, *ret_end);
	r = svm_native_check(ctx, *ret_start, *ret_end);
	if (r < 0) {
		svm_unlock(&ctx->native_lock);
		return r;
	}
	svm_rwlock_read(&ctx->tree_lock);
	r = check_pieces(ctx, *ret_start, *ret_end);
	*ret_native = true;
	if (r < 0)
		svm_space_end_any(space, true);
	return r;
}

void svm_space_end_any(struct svm_space *space, bool native)
{
	svm_rwlock_unlock(&space->ctx.tree_lock);
	if (native)
		svm_unlock(&space->ctx.native_lock);
}

int svm_space_resolve(struct svm_ctx *ctx, struct svm_location location, uint32_t *ret_agent,
		      int *ret_node)
{
	unsigned int node = 0;
	int r;

	*ret_node = -1;
	*ret_agent = SVM_AGENT_CPU;
	switch (location.kind) {
	case SVM_LOCATION_HOST:
		return location.id ? -EINVAL : 0;
	case SVM_LOCATION_HOST_NUMA:
		if (location.id >= (uint32_t)ctx->host.n_nodes)
			return -EINVAL;
		*ret_node = (int)location.id;
		return 0;
	case SVM_LOCATION_HOST_NUMA_CURRENT:
		if (location.id)
			return -EINVAL;
		r = svm_sys->getcpu(NULL, &node);
		if (r == 0)
			*ret_node = (int)node;
		return r;
	case SVM_LOCATION_DEVICE:
		if (location.id >= SVM_MAX_DEVICES || !atomic_load(&ctx->devices[location.id]))
			return -ENODEV;
		*ret_agent = location.id + 1u;
		return 0;
	default:
		return -EINVAL;
	}
}

static int check_options(const struct svm_space_options *o)
{
	if (o->size != sizeof(*o) || (o->flags & ~KNOWN_FLAGS) || o->loop > SVM_LOOP_IO_URING ||
	    o->n_threads > SVM_MAX_THREADS || o->service_cpu < 0 || o->log_level > SVM_LOG_DEBUG ||
	    o->reserved)
		return -EINVAL;
	/* System memory comes in pages. */
	if (o->flags & SVM_SPACE_NATIVE && o->flags & SVM_SPACE_64K_UNITS)
		return -EINVAL;
	if (o->window_base % SVM_BLOCK_SIZE || o->window_size % SVM_BLOCK_SIZE)
		return -EINVAL;
	if (o->window_base &&
	    (o->window_base >= SVM_USER_END || o->window_size > SVM_USER_END - o->window_base))
		return -EINVAL;
	if (o->window_size > SVM_USER_END)
		return -EINVAL;
	return sysconf(_SC_PAGESIZE) == (long)SVM_PAGE_SIZE ? 0 : -EINVAL;
}

/* What all devices that could be opened can address. */
static void common_reach(const struct svm_log *log, uint64_t *ret_start, uint64_t *ret_end)
{
	struct svm_backend_ops ops;
	uint64_t start = SVM_BLOCK_SIZE;
	uint64_t end = SVM_USER_END;
	int r;

	for (unsigned int b = 0; (r = svm_backend_nth(b, log, &ops)) != -ENOENT; b++) {
		struct svm_device_info info = { .size = sizeof(info) };

		for (unsigned int i = 0; r == 0 && ops.enumerate(i, &info) == 0; i++) {
			/* A device that shares nothing with the others is left out: it is refused at open. */
			if (svm_max_u64(start, info.va_start) >= svm_min_u64(end, info.va_end))
				continue;
			start = svm_max_u64(start, info.va_start);
			end = svm_min_u64(end, info.va_end);
		}
	}
	*ret_start = start;
	*ret_end = end;
}

static int init_host(struct svm_ctx *ctx, const struct svm_space_options *o)
{
	uint64_t size = o->window_size ? o->window_size : DEFAULT_WINDOW;
	uint64_t start;
	uint64_t end;
	int r;

	common_reach(&ctx->log, &start, &end);
	for (;;) {
		r = svm_host_init(&ctx->host, o->window_base, size, start, end, o->flags,
				  &ctx->log);
		/* Limits on address space (RLIMIT_AS, containers): a smaller window is better than none. */
		if (r != -ENOMEM || o->window_size || size / 2u < SMALLEST_WINDOW)
			return r;
		size /= 2u;
	}
}

static void init_pools(struct svm_ctx *ctx)
{
	svm_pool_init(&ctx->alloc_pool, &ctx->arena, sizeof(struct svm_alloc));
	svm_pool_init(&ctx->range_pool, &ctx->arena, sizeof(struct svm_range));
	svm_pool_init(&ctx->block_pool, &ctx->arena, sizeof(struct svm_block));
	svm_pool_init(&ctx->block_device_pool, &ctx->arena, sizeof(struct svm_block_device));
	svm_pool_init(&ctx->request_pool, &ctx->arena, SVM_REQUEST_OBJECT);
	svm_pool_init(&ctx->transition_pool, &ctx->arena, sizeof(struct svm_transition));
	svm_pool_init(&ctx->hold_pool, &ctx->arena, sizeof(struct svm_hold));
	svm_pool_init(&ctx->fence_pool, &ctx->arena, sizeof(struct svm_fence));
}

static void finish_pools(struct svm_ctx *ctx)
{
	svm_pool_finish(&ctx->alloc_pool);
	svm_pool_finish(&ctx->range_pool);
	svm_pool_finish(&ctx->block_pool);
	svm_pool_finish(&ctx->block_device_pool);
	svm_pool_finish(&ctx->request_pool);
	svm_pool_finish(&ctx->transition_pool);
	svm_pool_finish(&ctx->hold_pool);
	svm_pool_finish(&ctx->fence_pool);
}

/* A page that the kernel wipes in children: how every call knows that it is in one (MADV_WIPEONFORK, madvise(2)). */
static int make_alive(struct svm_ctx *ctx)
{
	void *page;
	int r = svm_sys->mmap(NULL, SVM_PAGE_SIZE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &page);

	if (r < 0)
		return r;
	r = svm_sys->madvise(page, SVM_PAGE_SIZE, MADV_WIPEONFORK);
	if (r < 0) {
		svm_sys->munmap(page, SVM_PAGE_SIZE);
		return r;
	}
	*(uint32_t *)page = 1u;
	ctx->alive = page;
	return 0;
}

static size_t table_size(const struct svm_ctx *ctx)
{
	return (size_t)(ctx->host.window_size >> SVM_BLOCK_SHIFT) * sizeof(struct svm_block *);
}

static void *service_thread(void *arg)
{
	struct svm_loop *loop = arg;

	svm_loop_run(loop);
	return NULL;
}

static void stop_threads(struct svm_space *space)
{
	struct svm_ctx *ctx = &space->ctx;

	for (uint32_t i = 0; i < space->n_sources; i++)
		svm_fault_stop(&space->sources[i]);
	if (space->reg_started)
		svm_fault_stop(&space->reg_source);
	for (uint32_t i = 0; i < space->n_running; i++) {
		svm_loop_stop(ctx->loops[i]);
		pthread_join(space->threads[i], NULL);
	}
	for (uint32_t i = 0; i < ctx->n_loops; i++)
		svm_loop_destroy(ctx->loops[i]);
}

static int start_threads(struct svm_space *space, const struct svm_space_options *o)
{
	struct svm_ctx *ctx = &space->ctx;
	struct svm_loop_options loop_options = { .kind = o->loop,
						 .spin_us = o->spin_us,
						 .trace = &ctx->trace };
	uint32_t n = o->n_threads ? o->n_threads : 1u;
	int r = 0;

	for (uint32_t i = 0; i < n && r == 0; i++) {
		r = svm_loop_create(&loop_options, &ctx->loops[i]);
		if (r == 0)
			ctx->n_loops++;
	}
	for (uint32_t i = 0; i < n && r == 0; i++) {
		r = svm_sys->thread_create(&space->threads[i], "svm-service", service_thread,
					   ctx->loops[i]);
		if (r < 0)
			break;
		space->n_running++;
		if (o->service_cpu > 0)
			r = svm_sys->thread_set_cpu(space->threads[i],
						    (unsigned int)o->service_cpu - 1u);
	}
	for (uint32_t i = 0; i < n && r == 0; i++) {
		r = svm_fault_start(&space->sources[i], ctx, ctx->loops[i], ctx->host.uffd.fd);
		if (r == 0)
			space->n_sources++;
	}
	if (r < 0)
		stop_threads(space);
	return r;
}

static void log_capabilities(const struct svm_ctx *ctx)
{
	const struct svm_host *host = &ctx->host;

	svm_info(&ctx->log, "space: window [%llx, %llx), %s, %s faults, %s, %s",
		 (unsigned long long)host->window_base,
		 (unsigned long long)(host->window_base + host->window_size),
		 svm_loop_is_io_uring(ctx->loops[0]) ? "io_uring" : "epoll",
		 host->uffd.kernel_faults ? "user and kernel" : "user-mode",
		 svm_uffd_has_move(&host->uffd) ? "move" : "copy",
		 svm_uffd_has_poison(&host->uffd) ? "poison" : "no poison");
}

/* Bytes that come back to pages that exist come at the speed of memcpy(); new pages have to be cleared first, which takes
 * as long again. So a working set of a sixteenth of the machine's memory may go to and fro. */
static uint64_t default_cache(void)
{
	long n_pages = sysconf(_SC_PHYS_PAGES);

	return svm_max_u64(n_pages > 0 ? (uint64_t)n_pages * SVM_PAGE_SIZE / 16u : 0, LEAST_CACHE);
}

int svm_space_create(const struct svm_space_options *options, struct svm_space **ret_space)
{
	struct svm_space_options o = { .size = sizeof(o) };
	struct svm_space *space;
	struct svm_ctx *ctx;
	int r;

	if (!ret_space)
		return -EINVAL;
	if (options) {
		if (options->size != sizeof(o))
			return -EINVAL;
		o = *options;
	}
	r = check_options(&o);
	if (r < 0)
		return r;
	space = svm_arena_map(sizeof(*space));
	if (!space)
		return -ENOMEM;
	ctx = &space->ctx;
	ctx->log = (struct svm_log){ .fn = o.log, .data = o.log_data, .level = o.log_level };
	ctx->op_timeout_ns = (o.op_timeout_ms ? o.op_timeout_ms : DEFAULT_TIMEOUT_MS) * MS;
	ctx->cache_limit = o.host_cache_size ? o.host_cache_size : default_cache();
	if (o.host_cache_size == UINT64_MAX)
		ctx->cache_limit = 0;
	space->flags = o.flags;
	ctx->for_native = (o.flags & SVM_SPACE_NATIVE) != 0;
	ctx->unit = o.flags & SVM_SPACE_64K_UNITS ? 65536u : SVM_PAGE_SIZE;
	svm_list_init(&space->pins);
	svm_arena_account(&ctx->arena, (int64_t)sizeof(*space));
	svm_lock_init(&ctx->space_lock, SVM_RANK_SPACE);
	svm_lock_init(&ctx->native_lock, SVM_RANK_NATIVE);
	svm_worker_init(&ctx->worker);
	svm_streams_init(&ctx->streams);
	svm_rwlock_init(&ctx->tree_lock, SVM_RANK_RANGE_TREE);
	svm_tree_init(&ctx->ranges);
	svm_tree_init(&ctx->system);
	init_pools(ctx);

	r = make_alive(ctx);
	if (r < 0)
		goto err_pools;
	r = svm_trace_init(&ctx->trace, &ctx->arena);
	if (r < 0)
		goto err_alive;
	r = init_host(ctx, &o);
	if (r < 0)
		goto err_trace;
	r = svm_va_init(&ctx->va, &ctx->arena, &ctx->host);
	if (r < 0)
		goto err_host;
	r = svm_owner_init(ctx);
	if (r < 0)
		goto err_va;
	r = -ENOMEM;
	ctx->blocks = svm_arena_map(table_size(ctx));
	if (!ctx->blocks)
		goto err_owner;
	r = start_threads(space, &o);
	if (r < 0)
		goto err_blocks;
	log_capabilities(ctx);
	*ret_space = space;
	return 0;

err_blocks:
	svm_arena_unmap(ctx->blocks, table_size(ctx));
err_owner:
	svm_owner_finish(ctx);
err_va:
	svm_va_finish(&ctx->va);
err_host:
	svm_host_finish(&ctx->host);
err_trace:
	svm_trace_finish(&ctx->trace);
err_alive:
	svm_sys->munmap((void *)ctx->alive, SVM_PAGE_SIZE);
err_pools:
	finish_pools(ctx);
	svm_streams_finish(&ctx->streams);
	svm_worker_finish(&ctx->worker);
	svm_rwlock_finish(&ctx->tree_lock);
	svm_lock_finish(&ctx->native_lock);
	svm_lock_finish(&ctx->space_lock);
	svm_arena_unmap(space, sizeof(*space));
	return r;
}

/* What the application still holds keeps the space. */
static bool in_use(struct svm_space *space)
{
	return atomic_load(&space->ctx.n_open_jobs) != 0 ||
	       atomic_load(&space->ctx.n_open_fences) != 0 || !svm_list_empty(&space->pins);
}

static struct svm_alloc *first_alloc(struct svm_ctx *ctx, bool registered)
{
	struct svm_tree_node *node;
	struct svm_alloc *found = NULL;

	svm_rwlock_read(&ctx->tree_lock);
	for (node = svm_tree_find_from(&ctx->ranges, 0); node && !found; node = svm_tree_next(node))
		if (svm_range_of(node)->alloc->registered == registered)
			found = svm_range_of(node)->alloc;
	svm_rwlock_unlock(&ctx->tree_lock);
	return found;
}

/* All threads have ended: what is left is only memory. */
static void delete_system(struct svm_ctx *ctx)
{
	struct svm_tree_node *node;

	while ((node = svm_tree_find_from(&ctx->system, 0)) != NULL) {
		svm_tree_remove(&ctx->system, node);
		svm_pool_put(&ctx->range_pool, svm_range_of(node));
	}
}

static void delete_map(struct svm_ctx *ctx)
{
	struct svm_alloc *alloc;
	uint64_t n_blocks = ctx->host.window_size >> SVM_BLOCK_SHIFT;

	while ((alloc = first_alloc(ctx, false)) != NULL) {
		uint64_t first = (alloc->base - ctx->host.window_base) >> SVM_BLOCK_SHIFT;
		uint64_t last = (alloc->base + alloc->size - 1u - ctx->host.window_base) >>
				SVM_BLOCK_SHIFT;

		for (uint64_t b = first; b <= last; b++) {
			if (ctx->blocks[b])
				svm_block_delete(ctx->blocks[b]);
			ctx->blocks[b] = NULL;
		}
		svm_range_remove(ctx, alloc);
		svm_pool_put(&ctx->alloc_pool, alloc);
	}
	/* Blocks whose memory was freed stay for the next allocation; a look at the whole table only if there are any. */
	for (uint64_t b = 0; b < n_blocks && ctx->block_pool.n_used != 0; b++)
		if (ctx->blocks[b])
			svm_block_delete(ctx->blocks[b]);
}

int svm_space_destroy(struct svm_space *space)
{
	struct svm_ctx *ctx;
	struct svm_alloc *alloc;
	int r;

	if (!space)
		return 0;
	ctx = &space->ctx;
	r = svm_ctx_check(ctx);
	if (r < 0)
		return r;
	svm_lock(&ctx->space_lock);
	r = in_use(space) ? -EBUSY : 0;
	svm_unlock(&ctx->space_lock);
	for (uint32_t i = 0; i < SVM_MAX_DEVICES && r == 0; i++)
		r = svm_device_close(atomic_load(&ctx->devices[i]));
	if (r < 0)
		return r;
	svm_lock(&ctx->space_lock);
	while ((alloc = first_alloc(ctx, true)) != NULL) {
		r = svm_memory_unregister(space, alloc);
		if (r < 0 && r != -EIO)
			break;
		r = 0;
	}
	svm_unlock(&ctx->space_lock);
	if (r < 0)
		return r;
	svm_worker_finish(&ctx->worker);
	stop_threads(space);
	delete_system(ctx);
	delete_map(ctx);
	svm_arena_unmap(ctx->blocks, table_size(ctx));
	svm_owner_finish(ctx);
	svm_va_finish(&ctx->va);
	svm_host_finish(&ctx->host);
	svm_trace_finish(&ctx->trace);
	finish_pools(ctx);
	svm_streams_finish(&ctx->streams);
	svm_rwlock_finish(&ctx->tree_lock);
	svm_lock_finish(&ctx->native_lock);
	svm_lock_finish(&ctx->space_lock);
	svm_sys->munmap((void *)ctx->alive, SVM_PAGE_SIZE);
	svm_arena_unmap(space, sizeof(*space));
	return 0;
}

static uint32_t space_caps(const struct svm_ctx *ctx)
{
	const struct svm_host *host = &ctx->host;
	uint32_t caps = 0;

	caps |= host->uffd.kernel_faults ? SVM_SPACE_CAP_KERNEL_FAULTS : 0;
	caps |= svm_uffd_has_move(&host->uffd) ? SVM_SPACE_CAP_MOVE : 0;
	caps |= svm_uffd_has_poison(&host->uffd) ? SVM_SPACE_CAP_POISON : 0;
	caps |= svm_loop_is_io_uring(ctx->loops[0]) ? SVM_SPACE_CAP_IO_URING : 0;
	caps |= host->huge ? SVM_SPACE_CAP_HUGE_PAGES : 0;
	caps |= svm_uffd_has_continue_wp(&host->uffd) ? SVM_SPACE_CAP_SHARED_READ_ONLY : 0;
	return caps;
}

int svm_space_query(struct svm_space *space, struct svm_space_info *info)
{
	struct svm_ctx *ctx;
	int r;

	if (!space || !info || info->size != sizeof(*info))
		return -EINVAL;
	ctx = &space->ctx;
	r = svm_ctx_check(ctx);
	if (r < 0)
		return r;
	*info = (struct svm_space_info){
		.size = sizeof(*info),
		.window_base = ctx->host.window_base,
		.window_size = ctx->host.window_size,
		.caps = space_caps(ctx),
		.n_threads = ctx->n_loops,
		.n_numa_nodes = (uint32_t)ctx->host.n_nodes,
	};
	svm_rwlock_read(&ctx->tree_lock);
	info->window_free = ctx->va.free_bytes;
	for (uint32_t i = 0; i < SVM_MAX_DEVICES; i++)
		info->n_devices += atomic_load(&ctx->devices[i]) != NULL;
	svm_rwlock_unlock(&ctx->tree_lock);
	return 0;
}

int svm_stats_query(struct svm_space *space, struct svm_stats *stats)
{
	struct svm_ctx *ctx;
	int r;

	if (!space || !stats || stats->size != sizeof(*stats))
		return -EINVAL;
	ctx = &space->ctx;
	r = svm_ctx_check(ctx);
	if (r < 0)
		return r;
	svm_trace_stats(&ctx->trace, stats);
	stats->host_cache_bytes =
		(uint64_t)svm_max_u64(0, (uint64_t)atomic_load(&ctx->cache_bytes));
	stats->metadata_bytes = atomic_load(&ctx->arena.bytes);
	return 0;
}

int svm_events_read(struct svm_space *space, uint64_t *cursor, struct svm_event *events,
		    size_t n_events, uint64_t *ret_lost)
{
	int r;

	if (!space || !cursor || !events || n_events == 0)
		return -EINVAL;
	r = svm_ctx_check(&space->ctx);
	return r < 0 ? r : svm_trace_read(&space->ctx.trace, cursor, events, n_events, ret_lost);
}

int svm_fence_create(struct svm_space *space, struct svm_fence **ret_fence)
{
	struct svm_fence *fence;
	int r;

	if (!space || !ret_fence)
		return -EINVAL;
	r = svm_ctx_check(&space->ctx);
	if (r < 0)
		return r;
	fence = svm_fence_new(&space->ctx);
	if (!fence)
		return -ENOMEM;
	fence->by_application = true;
	*ret_fence = svm_fence_hand_out(fence);
	return 0;
}

/* -EPERM for what has no events, as a file on disk: io_uring would call it ready at once (epoll_ctl(2)). */
static int check_pollable(int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = svm_sys->epoll_create(EPOLL_CLOEXEC);
	int r;

	if (epoll < 0)
		return epoll;
	r = svm_sys->epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
	svm_sys->close(epoll);
	return r;
}

int svm_fence_import(struct svm_space *space, int fd, struct svm_fence **ret_fence)
{
	struct svm_fence *fence;
	int copy;
	int r;

	if (!space || !ret_fence)
		return -EINVAL;
	r = svm_ctx_check(&space->ctx);
	if (r == 0)
		r = check_pollable(fd);
	if (r < 0)
		return r;
	copy = svm_sys->fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return copy;
	fence = svm_fence_new(&space->ctx);
	if (!fence) {
		svm_sys->close(copy);
		return -ENOMEM;
	}
	r = svm_fence_watch_fd(fence, copy);
	if (r < 0) {
		svm_sys->close(copy);
		svm_fence_put(fence);
		return r;
	}
	*ret_fence = svm_fence_hand_out(fence);
	return 0;
}
