// SPDX-License-Identifier: MIT
#include "emu_pt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "emu_alloc.h"
#include "emu_gem.h"
#include "emu_log.h"
#include "emu_mem.h"
#include "emu_util.h"

/* A fault that is resolved again and again without progress is not. */
#define MAX_TRIES 256
/* How long the end of a device waits for an access that hangs in the program's memory. */
#define CUT_SECONDS 1

struct span {
	struct emu_node node;
	struct emu_pte pte;
};

static struct span *span_of(struct emu_node *n)
{
	return emu_container_of(n, struct span, node);
}

void emu_bus_init(struct emu_bus *bus)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	/* Copies follow each other without a gap. */
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&bus->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

void emu_bus_cut(struct emu_bus *bus, bool cut)
{
	struct timespec ts;

	bus->cut = cut;
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += CUT_SECONDS;
	if (pthread_rwlock_timedwrlock(&bus->lock, &ts) != 0) {
		emu_log(EMU_REPORT,
			"a device ended while an access of it waits for a page of the program");
		return;
	}
	pthread_rwlock_unlock(&bus->lock);
}

void emu_pt_init(struct emu_pt *pt, struct emu_bus *bus, bool scratch)
{
	pthread_rwlock_init(&pt->lock, NULL);
	pt->bus = bus;
	pt->spans = (struct emu_tree){ 0 };
	pt->scratch = scratch;
}

static void drop(struct emu_pt *pt, struct span *s)
{
	emu_tree_remove(&pt->spans, &s->node);
	if (s->pte.bo)
		emu_bo_unref(s->pte.bo);
	emu_free(s);
}

void emu_pt_finish(struct emu_pt *pt)
{
	struct emu_node *n;

	while ((n = emu_tree_first(&pt->spans, 0)))
		drop(pt, span_of(n));
	pthread_rwlock_destroy(&pt->lock);
}

static struct span *add(struct emu_pt *pt, uint64_t start, uint64_t end, const struct emu_pte *pte)
{
	struct span *s = emu_alloc(sizeof(*s));

	if (!s)
		return NULL;
	s->node.start = start;
	s->node.end = end;
	s->pte = *pte;
	if (pte->bo)
		emu_bo_ref(pte->bo);
	emu_tree_insert(&pt->spans, &s->node);
	return s;
}

/* Cuts a span in two at addr, which lies inside it. */
static void cut(struct emu_pt *pt, struct span *s, uint64_t addr)
{
	struct emu_pte tail = s->pte;
	uint64_t end = s->node.end;

	if (tail.kind != EMU_PTE_NULL)
		tail.where += addr - s->node.start;
	/* The order in the tree does not change: the span only gets shorter. */
	s->node.end = addr;
	if (!add(pt, addr, end, &tail)) {
		emu_log(EMU_QUIET, "out of memory in a page table");
		abort();
	}
}

void emu_pt_unmap_locked(struct emu_pt *pt, uint64_t va, uint64_t size)
{
	struct emu_node *n = emu_tree_at(&pt->spans, va);

	if (n && n->start < va)
		cut(pt, span_of(n), va);
	n = emu_tree_at(&pt->spans, va + size);
	if (n && n->start < va + size)
		cut(pt, span_of(n), va + size);
	while ((n = emu_tree_first(&pt->spans, va)) && n->start < va + size)
		drop(pt, span_of(n));
}

int emu_pt_map_locked(struct emu_pt *pt, uint64_t va, uint64_t size, const struct emu_pte *pte)
{
	emu_pt_unmap_locked(pt, va, size);
	return add(pt, va, va + size, pte) ? 0 : -ENOMEM;
}

void emu_pt_begin(struct emu_pt *pt)
{
	pthread_rwlock_wrlock(&pt->lock);
}

void emu_pt_end(struct emu_pt *pt)
{
	pthread_rwlock_unlock(&pt->lock);
}

void emu_pt_unmap(struct emu_pt *pt, uint64_t va, uint64_t size)
{
	emu_pt_begin(pt);
	emu_pt_unmap_locked(pt, va, size);
	emu_pt_end(pt);
}

int emu_pt_map(struct emu_pt *pt, uint64_t va, uint64_t size, const struct emu_pte *pte)
{
	int r;

	emu_pt_begin(pt);
	r = emu_pt_map_locked(pt, va, size, pte);
	emu_pt_end(pt);
	return r;
}

bool emu_pt_lookup(struct emu_pt *pt, uint64_t va, struct emu_pte *ret_pte, uint64_t *ret_run)
{
	struct emu_node *n = emu_tree_at(&pt->spans, va);

	if (!n)
		return false;
	*ret_pte = span_of(n)->pte;
	if (ret_pte->kind != EMU_PTE_NULL)
		ret_pte->where += va - n->start;
	*ret_run = n->end - va;
	return true;
}

static int touch(const struct emu_pte *pte, char *buf, size_t n, bool write)
{
	char *map;

	switch (pte->kind) {
	case EMU_PTE_NULL:
		if (!write)
			memset(buf, 0, n);
		return 0;
	case EMU_PTE_USER:
		return write ? emu_user_write(pte->where, buf, n)
			     : emu_user_read(buf, pte->where, n);
	case EMU_PTE_BO:
		map = emu_bo_map(pte->bo);
		if (!map)
			return -EFAULT;
		memcpy(write ? map + pte->where : buf, write ? buf : map + pte->where, n);
		return 0;
	}
	return -EFAULT;
}

/* One piece: as far as one span goes. 0 with *ret_done > 0, or -EFAULT. LOCKING: read locks. */
static int access_piece(struct emu_pt *pt, uint64_t va, char *buf, size_t size, bool write,
			size_t *ret_done)
{
	struct emu_pte pte;
	uint64_t run;

	if (emu_pt_lookup(pt, va, &pte, &run)) {
		if (write && pte.readonly)
			return -EFAULT;
		*ret_done = emu_min(size, run);
		return touch(&pte, buf, *ret_done, write);
	}
	if (!pt->scratch)
		return -EFAULT;
	*ret_done = emu_min(size, EMU_PAGE - (va & (EMU_PAGE - 1)));
	if (!write)
		memset(buf, 0, *ret_done);
	return 0;
}

int emu_pt_access(struct emu_pt *pt, uint64_t va, void *buf, size_t size, bool write,
		  emu_pt_fault_fn *fault, void *ctx, uint64_t *ret_bad)
{
	unsigned tries = 0;
	char *p = buf;

	while (size) {
		size_t done = 0;
		int r;

		pthread_rwlock_rdlock(&pt->bus->lock);
		pthread_rwlock_rdlock(&pt->lock);
		r = pt->bus->cut ? -ECANCELED : access_piece(pt, va, p, size, write, &done);
		pthread_rwlock_unlock(&pt->lock);
		pthread_rwlock_unlock(&pt->bus->lock);
		if (r == -ECANCELED)
			return r;
		if (r < 0) {
			if (fault && tries++ < MAX_TRIES && fault(ctx, va, write) == 0)
				continue;
			*ret_bad = va;
			return -EFAULT;
		}
		tries = 0;
		va += done;
		p += done;
		size -= done;
	}
	return 0;
}
