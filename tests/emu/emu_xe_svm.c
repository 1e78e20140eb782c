// SPDX-License-Identifier: MIT
/*
 * Mirrored memory (xe_svm.c, drm_gpusvm.c): pieces of the program's address space that the GPU
 * used, where they are held, and how they get there.
 *
 * The bytes never leave the program's memory; that a piece is in device memory is kept as an
 * account. A CPU access therefore does not bring it back.
 */
#include <errno.h>

#include "emu_alloc.h"
#include "emu_log.h"
#include "emu_mem.h"
#include "emu_sys.h"
#include "emu_xe.h"

static struct emu_xe_range *range_of(struct emu_node *n)
{
	return n ? emu_container_of(n, struct emu_xe_range, node) : NULL;
}

static void range_unref(struct emu_xe_range *rg)
{
	if (atomic_fetch_sub(&rg->refs, 1) != 1)
		return;
	emu_away_clear(&rg->away);
	if (rg->charge.size)
		emu_xe_uncharge(emu_xe_dev(rg->vm->dev), &rg->charge);
	emu_xe_vm_unref(rg->vm);
	emu_free(rg);
}

static void get(struct emu_notifier *n)
{
	atomic_fetch_add(&emu_container_of(n, struct emu_xe_range, notifier)->refs, 1);
}

static void put(struct emu_notifier *n)
{
	range_unref(emu_container_of(n, struct emu_xe_range, notifier));
}

/* Pages change: the GPU faults again. Addresses go: the collector takes the piece later. */
static void begin(struct emu_notifier *n, uint64_t start, uint64_t end, bool unmap)
{
	struct emu_xe_range *rg = emu_container_of(n, struct emu_xe_range, notifier);

	(void)start;
	(void)end;
	atomic_store(&rg->mapped, false);
	if (unmap) {
		atomic_store(&rg->unmapped, true);
		emu_away_clear(&rg->away);
	}
	emu_pt_unmap(&rg->vm->pt, rg->node.start, rg->node.end - rg->node.start);
}

/* A fault that failed because of the old state looks again. */
static void after(struct emu_notifier *n)
{
	(void)n;
	emu_sync_wake();
}

static void remove_range(struct emu_xe_range *rg)
{
	emu_notifier_remove(&rg->notifier);
	emu_tree_remove(&rg->vm->ranges, &rg->node);
	emu_pt_unmap(&rg->vm->pt, rg->node.start, rg->node.end - rg->node.start);
	range_unref(rg);
}

void emu_xe_svm_drop(struct emu_xe_vm *vm, uint64_t start, uint64_t end)
{
	struct emu_node *n;

	while ((n = emu_tree_first(&vm->ranges, start)) && n->start < end)
		remove_range(range_of(n));
}

bool emu_xe_svm_busy(struct emu_xe_vm *vm, uint64_t start, uint64_t end)
{
	struct emu_node *n = emu_tree_first(&vm->ranges, start);

	return n && n->start < end;
}

static void autoreset(struct emu_xe_vm *vm, uint64_t start, uint64_t end)
{
	struct emu_node *n = emu_tree_first(&vm->vmas, start);

	for (; n && n->start < end; n = emu_tree_next(&vm->vmas, n)) {
		struct emu_xe_vma *v = emu_xe_vma_of(n);

		if (v->kind == EMU_XE_VMA_MIRROR && v->autoreset)
			v->attr = v->default_attr;
	}
}

void emu_xe_svm_collect(struct emu_xe_vm *vm)
{
	struct emu_node *n = emu_tree_first(&vm->ranges, 0);

	while (n) {
		struct emu_xe_range *rg = range_of(n);
		uint64_t start = n->start, end = n->end;

		if (atomic_load(&rg->unmapped)) {
			remove_range(rg);
			autoreset(vm, start, end);
		}
		n = emu_tree_first(&vm->ranges, end);
	}
}

/* ---- pieces ---- */

static bool fits(struct emu_xe_vm *vm, const struct emu_xe_vma *v, const struct emu_area *a,
		 uint64_t start, uint64_t size)
{
	if (start < a->start || start + size > a->end)
		return false;
	if (start < v->node.start || start + size > v->node.end)
		return false;
	return !emu_xe_svm_busy(vm, start, start + size);
}

/* The largest chunk that fits both address spaces and no other piece. */
static uint64_t chunk_size(struct emu_xe_vm *vm, const struct emu_xe_vma *v,
			   const struct emu_area *a, uint64_t addr)
{
	static const uint64_t sizes[] = { 2ull << 20, 64ull << 10 };
	bool dgfx = emu_xe_dev(vm->dev)->prof->dgfx;

	for (size_t i = 0; i < EMU_ARRAY_SIZE(sizes); i++) {
		uint64_t start = emu_align_down(addr, sizes[i]);

		if (!fits(vm, v, a, start, sizes[i]))
			continue;
		if (i == 1 && dgfx && !emu_user_is_present(start, sizes[i]))
			continue;
		return sizes[i];
	}
	return EMU_PAGE;
}

static struct emu_xe_range *new_range(struct emu_xe_vm *vm, uint64_t start, uint64_t size)
{
	struct emu_xe_range *rg = emu_alloc(sizeof(*rg));

	if (!rg)
		return NULL;
	rg->refs = 1;
	rg->vm = emu_xe_vm_ref(vm);
	rg->node.start = rg->notifier.start = start;
	rg->node.end = rg->notifier.end = start + size;
	rg->notifier.begin = begin;
	rg->notifier.after = after;
	rg->notifier.get = get;
	rg->notifier.put = put;
	emu_list_init(&rg->notifier.link);
	emu_tree_insert(&vm->ranges, &rg->node);
	emu_notifier_add(&rg->notifier);
	return rg;
}

static struct emu_xe_range *find_or_new(struct emu_xe_vm *vm, const struct emu_xe_vma *v,
					const struct emu_area *a, uint64_t addr)
{
	struct emu_xe_range *rg = range_of(emu_tree_at(&vm->ranges, addr));
	uint64_t size;

	if (rg)
		return rg;
	size = chunk_size(vm, v, a, addr);
	return new_range(vm, emu_align_down(addr, size), size);
}

/* Into device memory when the kind of memory, its size and the room there allow it. */
static void migrate(struct emu_xe_range *rg, const struct emu_area *a, uint32_t region)
{
	struct emu_xe_device *x = emu_xe_dev(rg->vm->dev);
	uint64_t size = rg->node.end - rg->node.start;

	if (rg->charge.size && rg->charge.region == region)
		return;
	emu_away_clear(&rg->away);
	if (rg->charge.size)
		emu_xe_uncharge(x, &rg->charge);
	if (!region || a->kind != EMU_AREA_ANON)
		return;
	if (x->prof->vram_64k && size < 0x10000)
		return;
	/* Memory that a userfaultfd watches stays; it has events of its own. */
	if (emu_uffd_overlaps(rg->node.start, size))
		return;
	if (emu_xe_charge(x, &rg->charge, (uint16_t)region, size, false) < 0)
		rg->charge.size = 0;
	else
		emu_away_set(&rg->away, rg->node.start, rg->node.end);
}

static int map_range(struct emu_xe_range *rg, const struct emu_xe_vma *v, const struct emu_area *a)
{
	struct emu_pte pte = { .kind = EMU_PTE_USER,
			       .where = rg->node.start,
			       .readonly = v->readonly || !a->write };
	uint64_t size = rg->node.end - rg->node.start;
	int r;

	atomic_store(&rg->mapped, true);
	r = emu_pt_map(&rg->vm->pt, rg->node.start, size, &pte);
	if (!atomic_load(&rg->mapped))
		emu_pt_unmap(&rg->vm->pt, rg->node.start, size);
	return r;
}

/* Where a fault or CONSULT puts a piece: 0 system memory, else a region. */
static uint32_t preferred(const struct emu_xe_vm *vm, const struct emu_xe_vma *v)
{
	if (!emu_xe_dev(vm->dev)->prof->dgfx || v->attr.devmem_fd == -1)
		return 0;
	if (v->attr.devmem_fd > 0 && v->attr.region_instance)
		return v->attr.region_instance;
	return 1;
}

static int area_for(const struct emu_xe_vma *v, uint64_t addr, struct emu_area *a)
{
	if (emu_area_find(addr, a) < 0 || a->start > addr)
		return -ENOENT;
	if (a->kind == EMU_AREA_SPECIAL)
		return -EIO;
	return !v->readonly && !a->write ? -EPERM : 0;
}

/* ---- faults ---- */

static int fault_once(struct emu_xe_vm *vm, struct emu_xe_vma *v, uint64_t addr, bool write)
{
	struct emu_xe_range *rg;
	struct emu_area a;
	int r = area_for(v, addr, &a);

	if (r < 0)
		return r;
	if (write && v->readonly)
		return -EPERM;
	rg = find_or_new(vm, v, &a, addr);
	if (!rg)
		return -ENOMEM;
	migrate(rg, &a, preferred(vm, v));
	r = emu_user_populate(rg->node.start, rg->node.end - rg->node.start, !v->readonly,
			      vm->dev->uffd_waits);
	return r < 0 ? r : map_range(rg, v, &a);
}

/*
 * The driver retries EFAULT with the lock held and without end; here the end is reported, since
 * no test is helped by a hang.
 */
int emu_xe_svm_fault(struct emu_xe_vm *vm, struct emu_xe_vma *v, uint64_t addr, bool write)
{
	uint64_t end = emu_now_ns() + emu_xe_dev(vm->dev)->svm_retry_ns;
	int r;

	emu_xe_svm_collect(vm);
	for (;;) {
		uint64_t seen = emu_sync_sequence();

		r = fault_once(vm, v, addr, write);
		if (r != -EFAULT)
			return r;
		/* A page that comes, by a userfaultfd's manager too, wakes this. */
		if (!emu_sync_wait_change(seen, end))
			break;
	}
	emu_strict("VM %u: mirror fault at %#llx cannot be resolved; the kernel would retry for "
		   "ever with the VM locked",
		   vm->id, (unsigned long long)addr);
	return r;
}

/* ---- prefetch ---- */

static bool swallowed(int r)
{
	return r == -EFAULT || r == -EPERM || r == -EOPNOTSUPP;
}

static int prefetch_area(struct emu_xe_vm *vm, struct emu_xe_vma *v, const struct emu_area *a,
			 uint64_t start, uint64_t end, uint32_t region)
{
	while (start < end) {
		struct emu_xe_range *rg = find_or_new(vm, v, a, start);
		int r;

		if (!rg)
			return -ENOMEM;
		migrate(rg, a, region);
		r = emu_user_populate(rg->node.start, rg->node.end - rg->node.start, !v->readonly,
				      vm->dev->uffd_waits);
		if (swallowed(r))
			return 0;
		if (r < 0)
			return r;
		r = map_range(rg, v, a);
		if (r < 0)
			return r;
		start = rg->node.end;
	}
	return 0;
}

int emu_xe_svm_prefetch(struct emu_xe_vm *vm, struct emu_xe_vma *v, uint64_t start, uint64_t end,
			uint32_t region)
{
	int r = 0;

	if (region == EMU_XE_CONSULT)
		region = preferred(vm, v);
	while (start < end && r == 0) {
		struct emu_area a;

		if (emu_area_find(start, &a) < 0 || a.start >= end)
			return 0;
		start = emu_max(start, a.start);
		if (a.kind == EMU_AREA_SPECIAL)
			return -EIO;
		if (!a.write && !v->readonly)
			return -EPERM;
		r = prefetch_area(vm, v, &a, start, emu_min(end, a.end), region);
		start = emu_min(end, a.end);
	}
	return r;
}
