/* SPDX-License-Identifier: MIT */
#include "flow_state.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static uint8_t *arena;
static uint64_t arena_at;
static pthread_mutex_t arena_lock = PTHREAD_MUTEX_INITIALIZER;

static struct region *free_region(struct worker *w)
{
	for (unsigned int i = 0; i < N_REGIONS; i++)
		if (!w->regions[i].live)
			return &w->regions[i];
	return NULL;
}

struct region *flow_any_region(struct worker *w, struct dice *d)
{
	unsigned int first = (unsigned int)flow_pick(d, N_REGIONS);

	for (unsigned int i = 0; i < N_REGIONS; i++) {
		struct region *r = &w->regions[(first + i) % N_REGIONS];

		if (r->live)
			return r;
	}
	return NULL;
}

static uint64_t pick_size(struct dice *d)
{
	switch (flow_pick(d, 10)) {
	case 0:
	case 1:
	case 2:
		return (1u + flow_pick(d, 8)) * FLOW_PAGE;
	case 3:
	case 4:
	case 5:
		return (1u + flow_pick(d, 64)) * FLOW_PAGE;
	case 6:
	case 7:
		return (1u + flow_pick(d, 300)) * FLOW_PAGE;
	case 8:
		return BLOCK;
	default:
		return (1u + flow_pick(d, 1300)) * FLOW_PAGE;
	}
}

/* A span of a region: bytes, pages, or much of it. */
void flow_pick_span(struct dice *d, const struct region *r, uint64_t *ret_offset,
		    uint64_t *ret_size)
{
	uint64_t kind = flow_pick(d, 10);
	uint64_t size;
	uint64_t offset;

	if (kind < 2)
		size = 1u + flow_pick(d, 200);
	else if (kind < 5)
		size = 1u + flow_pick(d, 4u * FLOW_PAGE);
	else if (kind < 8)
		size = (1u + flow_pick(d, 32)) * FLOW_PAGE;
	else
		size = r->size;
	if (size > r->size)
		size = r->size;
	offset = flow_pick(d, r->size - size + 1u);
	if (kind >= 5 && size < r->size)
		offset = offset / FLOW_PAGE * FLOW_PAGE;
	*ret_offset = offset;
	*ret_size = size;
}

void flow_whole_pages(uint64_t *offset, uint64_t *size)
{
	uint64_t end = (*offset + *size + FLOW_PAGE - 1u) / FLOW_PAGE * FLOW_PAGE;

	*offset = *offset / FLOW_PAGE * FLOW_PAGE;
	*size = end - *offset;
}

void flow_op_alloc(struct worker *w, struct dice *d)
{
	struct region *r = free_region(w);
	uint64_t size = pick_size(d);
	uint64_t asked = size - (flow_chance(d, 30) ? flow_pick(d, FLOW_PAGE) : 0);
	uint32_t flags = flow_chance(d, 30) ? SVM_ALLOC_SHARED : 0;
	void *addr;
	int e;

	if (!r || w->bytes + size > WORKER_BYTES)
		return;
	e = svm_alloc(flow.space, asked, flags, &addr);
	/* A hostile device may keep what was at these addresses before, but not for ever. */
	for (unsigned int i = 0; i < 1000u && e < 0 && flow.config.hostile; i++)
		e = svm_alloc(flow.space, asked, flags, &addr);
	if (e < 0)
		flow_fail("svm_alloc(%llx): %d", (unsigned long long)asked, e);
	*r = (struct region){ .live = true, .addr = addr, .size = size };
	if (!flow_model_init(&r->model, size))
		flow_fail("no memory for the model");
	w->bytes += size;
	flow_note(w, flags ? "shared" : NULL, r, -1, 0, size, 0, e);
}

static void drop_region(struct worker *w, struct region *r)
{
	for (unsigned int i = 0; i < N_ITEMS; i++)
		if (w->items[i].region == r && w->items[i].kind == ITEM_PREFETCH)
			flow_end_item(w, &w->items[i]);
	w->bytes -= r->size;
	flow_model_finish(&r->model);
	r->live = false;
}

static void do_free(struct worker *w, struct region *r)
{
	int e = svm_free(flow.space, r->addr);
	bool held = flow_is_held(w, r, 0, r->size);

	flow_note(w, NULL, r, -1, 0, r->size, held, e);
	if (held) {
		flow_expect("svm_free of held memory", e, -EBUSY);
		flow_settle(w, r, 0, r->size);
		e = svm_free(flow.space, r->addr);
	}
	for (unsigned int i = 0; i < 1000u && e < 0 && flow.config.hostile; i++)
		e = svm_free(flow.space, r->addr);
	flow_expect("svm_free", e, 0);
	/* Prefetches that are still under way find nothing there, or something else: either is fine. */
	drop_region(w, r);
}

void flow_op_free(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);

	if (!r || r->registered)
		return;
	if (flow_chance(d, 60))
		flow_settle(w, r, 0, r->size);
	if (flow_chance(d, 30)) {
		flow_settle_for_cpu(w, r, 0, r->size);
		flow_cpu_read(w, r, 0, r->size);
	}
	do_free(w, r);
}

/* Memory of the arena is given out once; page neighbours belong to any worker. */
static uint8_t *take_arena(uint64_t size)
{
	uint8_t *addr = NULL;

	(void)pthread_mutex_lock(&arena_lock);
	if (arena_at + size <= ARENA) {
		addr = arena + arena_at;
		arena_at += size;
	}
	(void)pthread_mutex_unlock(&arena_lock);
	return addr;
}

void flow_op_register(struct worker *w, struct dice *d)
{
	struct region *r = free_region(w);
	uint64_t size = (1u + flow_pick(d, flow_chance(d, 80) ? 100 : 900)) * FLOW_PAGE;
	uint64_t key = flow_roll(d);
	uint64_t written = flow_pick(d, 3);
	uint8_t *addr;
	int e;

	if (!r || w->bytes + size > WORKER_BYTES)
		return;
	addr = take_arena(size);
	if (!addr)
		return;
	*r = (struct region){ .live = true, .registered = true, .addr = addr, .size = size };
	if (!flow_model_init(&r->model, size))
		flow_fail("no memory for the model");
	w->bytes += size;
	/* Nothing, half or all of it exists. */
	if (written) {
		uint64_t n = size / (3u - written);

		for (uint64_t i = 0; i < n; i++)
			w->buffer[i] = flow_pattern(key, i);
		memcpy(addr, w->buffer, n);
		flow_model_write(&r->model, 0, n, w->buffer);
	}
	e = svm_register(flow.space, addr, size, 0);
	flow_note(w, NULL, r, -1, 0, size, written, e);
	flow_expect("svm_register", e, 0);
}

/* The application may have unmapped [hole, hole + hole_size) of it. */
static void unregister(struct worker *w, struct region *r, uint64_t hole, uint64_t hole_size)
{
	bool held = flow_is_held(w, r, 0, r->size);
	bool lost;
	int e;

	if (held) {
		flow_expect("svm_unregister of held memory",
			    svm_unregister(flow.space, r->addr, r->size), -EBUSY);
		flow_settle(w, r, 0, r->size);
	}
	lost = atomic_load(&flow.bytes_lost);
	e = svm_unregister(flow.space, r->addr, r->size);
	for (unsigned int i = 0; i < 1000u && e < 0 && flow.config.hostile; i++) {
		struct svm_pointer_info info = { .size = sizeof(info) };

		/* -EIO may mean that it is done, with losses. */
		if (e == -EIO &&
		    (svm_pointer_query(flow.space, r->addr, &info) < 0 || !info.is_svm))
			break;
		e = svm_unregister(flow.space, r->addr, r->size);
	}
	flow_note(w, NULL, r, -1, 0, r->size, lost, e);
	lost |= atomic_load(&flow.bytes_lost);
	if (e != 0 && !(e == -EIO && lost))
		flow_fail("svm_unregister: %d", e);
	if (e == 0 && flow_model_marked(&r->model, 0, r->size, FLOW_PAGE_LOST))
		flow_fail("svm_unregister: 0, though pages are lost");
	for (uint64_t at = 0; at < r->size; at += FLOW_PAGE) {
		int number;

		if (at - hole < hole_size)
			continue;
		number = flow_touch(w->buffer, r->addr + at, FLOW_PAGE);
		if (number && e == 0)
			flow_fail("page %p of unregistered memory: signal %d",
				  (void *)(r->addr + at), number);
		flow_model_mark(&r->model, at, 1, 0, FLOW_PAGE_LAZY);
		if (!number)
			flow_check_bytes(w, r, at, FLOW_PAGE, w->buffer, "the CPU (unregistered)");
	}
	drop_region(w, r);
}

static void do_unregister(struct worker *w, struct region *r)
{
	unregister(w, r, 0, 0);
}

void flow_op_unregister(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);

	if (!r || !r->registered)
		return;
	if (flow_chance(d, 60))
		flow_settle(w, r, 0, r->size);
	do_unregister(w, r);
}

/* The application asks the kernel for zeros itself, in memory of its own. */
void flow_op_app_discard(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	uint64_t offset;
	uint64_t size;

	if (!r || !r->registered || !flow.hears_of_drops)
		return;
	flow_pick_span(d, r, &offset, &size);
	flow_whole_pages(&offset, &size);
	flow_settle(w, r, offset, size);
	if (flow_model_marked(&r->model, offset, size, FLOW_PAGE_LOST) ||
	    atomic_load(&flow.bytes_lost))
		return;
	flow_note(w, NULL, r, -1, offset, size, 0, 0);
	if (madvise(r->addr + offset, size, MADV_DONTNEED) < 0)
		flow_fail("madvise: %d", errno);
	flow_model_zero(&r->model, offset, size);
	/* The library hears of it before a touch that comes later, not before other calls. */
	flow_cpu_read(w, r, offset, size);
}

/* The application unmaps a piece of its memory before it unregisters it, as it should not. The rest stays as it is. */
void flow_op_app_unmap(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	uint64_t offset;
	uint64_t size;

	if (!r || !r->registered)
		return;
	flow_pick_span(d, r, &offset, &size);
	flow_whole_pages(&offset, &size);
	flow_settle(w, r, 0, r->size);
	flow_note(w, NULL, r, -1, offset, size, 0, 0);
	/* By a mapping of nothing: the address must not be given to somebody else, it is the arena's. */
	if (mmap(r->addr + offset, size, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		flow_fail("mmap: %d", errno);
	flow_model_zero(&r->model, offset, size);
	if (flow_chance(d, 60)) {
		flow_cpu_read(w, r, 0, offset);
		flow_cpu_read(w, r, offset + size, r->size - offset - size);
	}
	unregister(w, r, offset, size);
}

/* The application makes a piece of its memory read-only for a while. Whatever else cannot be done with it then, its bytes
 * stay, and can be read. */
void flow_op_app_protect(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	struct slot *s;
	struct svm_location to = flow_pick_location(d, &s);
	uint64_t offset;
	uint64_t size;
	int e;

	if (r && r->registered) {
		flow_pick_span(d, r, &offset, &size);
		flow_whole_pages(&offset, &size);
		flow_settle(w, r, offset, size);
		if (mprotect(r->addr + offset, size, PROT_READ) < 0)
			flow_fail("mprotect: %d", errno);
		e = svm_prefetch(flow.space, r->addr + offset, size, to, NULL);
		flow_note(w, NULL, r, s ? (int)(s - flow.slots) : -1, offset, size, 0, e);
		if (flow_chance(d, 50))
			flow_cpu_read(w, r, offset, size);
		if (mprotect(r->addr + offset, size, PROT_READ | PROT_WRITE) < 0)
			flow_fail("mprotect: %d", errno);
		flow_cpu_read(w, r, offset, size);
	}
	if (s)
		flow_leave_slot(s);
}

void flow_end_region(struct worker *w, struct region *r)
{
	flow_note(w, "at the end", r, -1, 0, r->size, 0, 0);
	flow_cpu_read(w, r, 0, r->size);
	if (r->registered)
		do_unregister(w, r);
	else
		do_free(w, r);
}

void *flow_map_or_die(uint64_t size, int flags)
{
	void *addr = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		flow_fail("mmap of %llx bytes: %d", (unsigned long long)size, errno);
	return addr;
}

void flow_arena_init(void)
{
	arena = flow_map_or_die(ARENA, MAP_PRIVATE);
}

void flow_arena_reset(void)
{
	if (mmap(arena, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) != arena)
		flow_fail("mmap: %d", errno);
	arena_at = 0;
}

void flow_arena_finish(void)
{
	(void)munmap(arena, ARENA);
}
