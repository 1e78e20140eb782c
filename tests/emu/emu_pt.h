/* SPDX-License-Identifier: MIT */
/*
 * A GPU's page table: spans of GPU addresses that lead to a BO, to CPU addresses of the program
 * (userptr), or to nothing that reads as zero. An engine walks it with the lock held for reading,
 * so a change waits for accesses under way, as a TLB invalidation does.
 */
#ifndef EMU_PT_H
#define EMU_PT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "emu_tree.h"

struct emu_bo;

enum emu_pte_kind { EMU_PTE_BO, EMU_PTE_USER, EMU_PTE_NULL };

struct emu_pte {
	enum emu_pte_kind kind;
	struct emu_bo *bo; /* held while in the table */
	uint64_t where;	   /* offset in the BO, or CPU address */
	bool readonly;
};

/* A device's way to memory. Held for reading by an engine while it touches any. */
struct emu_bus {
	pthread_rwlock_t lock;
	_Atomic bool cut;
};

struct emu_pt {
	pthread_rwlock_t lock;
	struct emu_bus *bus;
	struct emu_tree spans;
	bool scratch; /* what is not mapped reads zero and takes writes */
};

void emu_bus_init(struct emu_bus *bus);
/* A device ends: no engine of it begins an access from now on, and those under way are waited for, but not for ever. */
void emu_bus_cut(struct emu_bus *bus, bool cut);

void emu_pt_init(struct emu_pt *pt, struct emu_bus *bus, bool scratch);
void emu_pt_finish(struct emu_pt *pt);
/* Replaces whatever was there. 0 or -ENOMEM. */
int emu_pt_map(struct emu_pt *pt, uint64_t va, uint64_t size, const struct emu_pte *pte);
void emu_pt_unmap(struct emu_pt *pt, uint64_t va, uint64_t size);
/* Several changes at once: the table is seen before all or after all of them. */
void emu_pt_begin(struct emu_pt *pt);
void emu_pt_end(struct emu_pt *pt);
/* LOCKING: between begin and end. */
int emu_pt_map_locked(struct emu_pt *pt, uint64_t va, uint64_t size, const struct emu_pte *pte);
void emu_pt_unmap_locked(struct emu_pt *pt, uint64_t va, uint64_t size);
/* The translation of va and how far it runs; false: not mapped. No reference is taken. */
bool emu_pt_lookup(struct emu_pt *pt, uint64_t va, struct emu_pte *ret_pte, uint64_t *ret_run);

/*
 * A miss during an access: maps the page and returns 0, or a negative errno: the access fails.
 * Called without the lock.
 */
typedef int emu_pt_fault_fn(void *ctx, uint64_t va, bool write);

/*
 * One engine access. 0, -EFAULT with the address in *ret_bad (and a part of the bytes done), or -ECANCELED: the bus
 * is cut.
 */
int emu_pt_access(struct emu_pt *pt, uint64_t va, void *buf, size_t size, bool write,
		  emu_pt_fault_fn *fault, void *ctx, uint64_t *ret_bad);

#endif
