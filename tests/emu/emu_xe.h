/* SPDX-License-Identifier: MIT */
/*
 * The emulated xe driver: its objects, and which file does what.
 *
 * Locks: vm->lock (for writing: VM_BIND, MADVISE, re-pinning, GPU faults; held while a page of
 * the program is waited for, as the driver holds it) > the page table's > emu.lock > sync.
 */
#ifndef EMU_XE_H
#define EMU_XE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "emu_core.h"
#include "emu_engine.h"
#include "emu_gem.h"
#include "emu_notify.h"
#include "emu_pt.h"
#include "emu_xe_prof.h"
#include "emu_xe_uapi.h"
#include "emu_mem.h"

#define EMU_KERNEL(major, minor) ((major) << 8 | (minor))
#define EMU_XE_MAX_TILES	 4
#define EMU_XE_MAX_FAULTS	 50

struct emu_xe_region {
	uint64_t size, visible_size;
	uint64_t visible_used, hidden_used; /* emu.lock */
};

struct emu_xe_device {
	struct emu_device *dev;
	const struct emu_xe_profile *prof;
	unsigned n_tiles;
	struct emu_xe_region region[1 + EMU_XE_MAX_TILES]; /* by instance; 0 is system memory */
	uint32_t region_mask;
	bool svm, p2p, nice, reset_all, prompt;
	uint64_t bind_delay_ns, exec_delay_ns, job_timeout_ns, svm_retry_ns;
	uint64_t hang_at;
	_Atomic uint64_t n_jobs;
	struct emu_list queues; /* emu.lock */
};

static inline struct emu_xe_device *emu_xe_dev(struct emu_device *dev)
{
	return dev->priv;
}

struct emu_xe_file {
	struct emu_ids vms, queues;
};

/* Memory taken from a region. */
struct emu_xe_charge {
	uint64_t size;
	uint16_t region;
	bool hidden;
};

enum emu_xe_purge { EMU_XE_WILLNEED, EMU_XE_DONTNEED, EMU_XE_PURGED };

struct emu_xe_vm;

struct emu_xe_bo {
	struct emu_bo base;
	uint32_t placement, flags;
	uint16_t caching;
	bool backed;
	struct emu_xe_charge charge;
	const struct emu_xe_vm *vm; /* private to it; compared, never followed */
	enum emu_xe_purge purge;
};

static inline struct emu_xe_bo *emu_xe_bo(struct emu_bo *bo)
{
	return emu_container_of(bo, struct emu_xe_bo, base);
}

enum emu_xe_vma_kind { EMU_XE_VMA_BO, EMU_XE_VMA_USER, EMU_XE_VMA_NULL, EMU_XE_VMA_MIRROR };

struct emu_xe_attr {
	int32_t devmem_fd;
	uint16_t policy, region_instance;
	uint32_t atomic, pat;
	uint32_t purge;
};

struct emu_xe_vma {
	struct emu_node node;
	_Atomic int refs;
	struct emu_xe_vm *vm; /* held */
	enum emu_xe_vma_kind kind;
	struct emu_bo *bo;
	uint64_t where; /* BO offset or CPU address */
	bool readonly, autoreset;
	struct emu_xe_attr attr, default_attr;
	struct emu_fence *ufence;     /* of the bind that made it, when that has a user fence */
	struct emu_notifier notifier; /* userptr */
	_Atomic bool invalid;	      /* userptr: pages went, to be pinned again */
};

/* A piece of a mirror that the GPU has used. */
struct emu_xe_range {
	struct emu_node node;
	_Atomic int refs;
	struct emu_xe_vm *vm; /* held */
	struct emu_notifier notifier;
	struct emu_xe_charge charge;
	struct emu_away away;
	_Atomic bool unmapped, mapped;
};

enum emu_xe_mode { EMU_XE_DMA_FENCE, EMU_XE_PREEMPT, EMU_XE_FAULTING };

struct emu_xe_vm {
	_Atomic int refs;
	struct emu_device *dev;
	uint32_t id, flags;
	enum emu_xe_mode mode;
	pthread_rwlock_t lock;
	bool closed;
	_Atomic bool banned;
	struct emu_tree vmas, ranges; /* lock */
	struct emu_pt pt;
	struct emu_queue bindq, rebindq;
	struct emu_list pending; /* binds under way: lock */
	_Atomic uint32_t n_queues, suspended;
	_Atomic bool has_invalid;
	uint32_t n_faults; /* emu.lock */
	struct emu_xe_vm_fault faults[EMU_XE_MAX_FAULTS];
};

struct emu_xe_queue {
	_Atomic int refs;
	struct emu_list link; /* device's queues */
	struct emu_device *dev;
	struct emu_xe_vm *vm; /* held */
	uint32_t id;
	uint16_t class, instance, gt;
	uint16_t width;
	_Atomic bool banned;
	struct emu_queue q;
};

/* Syncs of a bind or an exec. */
struct emu_xe_sync_entry {
	uint32_t type;
	bool signal;
	struct emu_syncobj *obj;
	struct emu_fence *fence;
	uint64_t value, addr;
};

struct emu_xe_syncs {
	uint32_t n, n_in, n_user;
	struct emu_xe_sync_entry *e;
};

/* emu_xe.c */
struct emu_xe_vm *emu_xe_vm_get(struct emu_file *file, uint32_t id);
struct emu_xe_queue *emu_xe_queue_get(struct emu_file *file, uint32_t id);

/* emu_xe_query.c */
int emu_xe_query_ioctl(struct emu_file *file, void *arg);
uint32_t emu_xe_listed_engines(struct emu_xe_device *x, struct emu_xe_engine *out);

/* emu_xe_bo.c */
int emu_xe_charge(struct emu_xe_device *x, struct emu_xe_charge *c, uint16_t region, uint64_t size,
		  bool visible);
void emu_xe_uncharge(struct emu_xe_device *x, struct emu_xe_charge *c);
int emu_xe_bo_back(struct emu_xe_device *x, struct emu_xe_bo *bo);
struct emu_bo *emu_xe_bo_alloc(struct emu_device *dev);
int emu_xe_export_check(struct emu_device *dev, struct emu_bo *bo);
int emu_xe_import_check(struct emu_device *dev, struct emu_bo *source);
int emu_xe_mmap_special(struct emu_file *file, void *addr, size_t size, int prot, int flags,
			uint64_t offset, void **ret_p);
int emu_xe_gem_create_ioctl(struct emu_file *file, void *arg);
int emu_xe_gem_mmap_offset_ioctl(struct emu_file *file, void *arg);

/* emu_xe_sync.c */
int emu_xe_syncs_parse(struct emu_xe_syncs *s, struct emu_file *file, uint64_t user, uint32_t n,
		       bool lr, bool bind);
void emu_xe_syncs_finish(struct emu_xe_syncs *s);
/* Takes the in-fences out, for a job. */
int emu_xe_syncs_inputs(struct emu_xe_syncs *s, struct emu_fence ***ret_in, uint32_t *ret_n);
/* Puts a fence into the syncobjs that are to signal. */
void emu_xe_syncs_publish(struct emu_xe_syncs *s, struct emu_fence *f);
const struct emu_xe_sync_entry *emu_xe_syncs_user(const struct emu_xe_syncs *s);
int emu_xe_wait_user_fence_ioctl(struct emu_file *file, void *arg);

/* emu_xe_vm.c */
struct emu_xe_vm *emu_xe_vm_ref(struct emu_xe_vm *vm);
void emu_xe_vm_unref(struct emu_xe_vm *vm);
void emu_xe_vm_close(struct emu_xe_vm *vm);
void emu_xe_vm_lock(struct emu_xe_vm *vm);
void emu_xe_vm_unlock(struct emu_xe_vm *vm);
int emu_xe_vm_create_ioctl(struct emu_file *file, void *arg);
int emu_xe_vm_destroy_ioctl(struct emu_file *file, void *arg);
int emu_xe_vm_get_property_ioctl(struct emu_file *file, void *arg);
void emu_xe_vm_log_fault(struct emu_xe_vm *vm, uint64_t addr, bool write, bool present);

/* emu_xe_vma.c */
struct emu_xe_vma *emu_xe_vma_of(struct emu_node *n);
struct emu_xe_vma *emu_xe_vma_new(struct emu_xe_vm *vm, uint64_t start, uint64_t end,
				  enum emu_xe_vma_kind kind);
struct emu_xe_vma *emu_xe_vma_clone(const struct emu_xe_vma *from, uint64_t start, uint64_t end);
void emu_xe_vma_ref(struct emu_xe_vma *v);
void emu_xe_vma_unref(struct emu_xe_vma *v);
/* Into the VM's tree, which takes over the reference; watches userptr memory. */
void emu_xe_vma_insert(struct emu_xe_vma *v);
/* Out of the tree, the reference goes to the caller. */
void emu_xe_vma_remove(struct emu_xe_vma *v);
void emu_xe_vma_pte(const struct emu_xe_vma *v, struct emu_pte *ret_pte);
/* Faults a userptr's pages in as the driver does. */
int emu_xe_vma_pin(struct emu_xe_vma *v);
/* Pins again what notifiers took; for EXEC and the rebind worker. LOCKING: vm->lock, writing. */
int emu_xe_vm_repin(struct emu_xe_vm *vm);

/* emu_xe_check.c */
int emu_xe_bind_check_op(struct emu_xe_vm *vm, const struct emu_xe_vm_bind_op *op);
int emu_xe_bind_check_bo(struct emu_xe_vm *vm, const struct emu_xe_vm_bind_op *op,
			 struct emu_xe_bo *bo);
bool emu_xe_pat_valid(const struct emu_xe_profile *p, uint32_t pat);

/* emu_xe_bind.c */
/* LOCKING: vm->lock, writing; no bind is under way any more. */
void emu_xe_bind_forget(struct emu_xe_vm *vm);
int emu_xe_vm_bind_ioctl(struct emu_file *file, void *arg);

/* emu_xe_svm.c */
bool emu_xe_svm_busy(struct emu_xe_vm *vm, uint64_t start, uint64_t end);
void emu_xe_svm_drop(struct emu_xe_vm *vm, uint64_t start, uint64_t end);
void emu_xe_svm_collect(struct emu_xe_vm *vm);
int emu_xe_svm_fault(struct emu_xe_vm *vm, struct emu_xe_vma *v, uint64_t addr, bool write);
int emu_xe_svm_prefetch(struct emu_xe_vm *vm, struct emu_xe_vma *v, uint64_t start, uint64_t end,
			uint32_t region);

/* emu_xe_madvise.c */
int emu_xe_madvise_ioctl(struct emu_file *file, void *arg);
int emu_xe_query_attrs_ioctl(struct emu_file *file, void *arg);

/* emu_xe_exec.c */
void emu_xe_queue_unref(struct emu_xe_queue *q);
void emu_xe_queue_close(struct emu_xe_queue *q);
void emu_xe_queue_ban(struct emu_xe_queue *q);
int emu_xe_queue_create_ioctl(struct emu_file *file, void *arg);
int emu_xe_queue_destroy_ioctl(struct emu_file *file, void *arg);
int emu_xe_queue_get_property_ioctl(struct emu_file *file, void *arg);
int emu_xe_queue_set_property_ioctl(struct emu_file *file, void *arg);
int emu_xe_exec_ioctl(struct emu_file *file, void *arg);

/* emu_xe_cmd.c: runs one batch. 0, or -EFAULT: the engine stopped (address in *ret_bad). */
int emu_xe_batch(struct emu_xe_queue *q, uint64_t addr, uint64_t *ret_bad);
int emu_xe_gpu_write(struct emu_xe_queue *q, uint64_t va, const void *p, size_t n,
		     uint64_t *ret_bad);

#endif
