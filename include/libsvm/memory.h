/* SPDX-License-Identifier: MIT */
/*
 * Managed memory: allocate it, or register what the application has; free, discard, pin; ask where it is.
 *
 * Spans: calls that take (addr, size) round the start down and the end up to the page. Size 0 is
 * -EINVAL, a wrap -EOVERFLOW, a page in the span that is not managed -ENOENT with nothing done.
 *
 * A CPU touch that cannot be served (no memory, or a device that fails to give what it holds) raises SIGBUS, or SIGSEGV
 * where the kernel has no UFFDIO_POISON, and so do later ones until a call asks for the page: svm_host_acquire(), whatever
 * the hints say, or svm_prefetch(). Pages that were lost with a device (SVM_PAGE_POISONED) come back by svm_discard().
 */
#ifndef LIBSVM_MEMORY_H
#define LIBSVM_MEMORY_H

#include <libsvm/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

#define SVM_ALLOC_SHARED \
	(1u << 0) /* shared host storage: devices with the capability reach it in place */

/*
 * Allocate size bytes, rounded up to pages, zero-filled, at an address of the space's window.
 * Nothing is populated before its first use. 2 MiB and more is aligned to 2 MiB.
 *
 * Errors: -EINVAL (size 0, unknown flags); -ERANGE (the window is full); -ENOMEM; -EIO (a device that fails keeps
 * what was at these addresses before); -ECHILD.
 */
int svm_alloc(struct svm_space *space, uint64_t size, uint32_t flags, void **ret_addr);

/*
 * Free an allocation by the address that svm_alloc() returned. Waits for transitions on it.
 * NULL is accepted. A later touch raises SIGBUS or SIGSEGV until the address is given out again.
 *
 * Errors: -ENOENT (not the start of an allocation: foreign, freed, or inside one); -EBUSY (held or
 * pinned: nothing was freed); -ECHILD.
 */
int svm_free(struct svm_space *space, void *addr);

/*
 * Let the space manage memory of the application: private anonymous, readable and writable pages
 * (malloc, mmap), with their current bytes. addr and size must be page aligned: neighbours on the
 * same page would become managed as well. The memory is not inherited by a forked child while it
 * is registered. Unregister before unmapping it. MADV_DONTNEED on it is a discard; without
 * SVM_SPACE_CAP_MOVE (before Linux 6.8) it is not noticed, and bytes that a device holds come back.
 *
 * With SVM_SPACE_64K_UNITS addr and size are multiples of 64 KiB.
 *
 * Errors: -EINVAL (misaligned, size 0, flags not 0); -EEXIST (managed already, in this space, or bound in an
 * imported address space); -EBUSY (another userfaultfd, or another space, has it, or a native device has
 * touched it as system memory); -EOPNOTSUPP (not private anonymous
 * memory, or not readable and writable, or a hole); -ENOMEM; -ECHILD.
 */
int svm_register(struct svm_space *space, void *addr, uint64_t size, uint32_t flags);

/*
 * Give registered memory back to the application, with its current bytes, all on the host. The span
 * must be one that was registered. Waits for transitions on it.
 *
 * Errors: -ENOENT (no such registration); -EBUSY (held or pinned); -EIO (bytes were lost with a
 * device: those pages stay poisoned; it is unregistered all the same); -ECHILD.
 */
int svm_unregister(struct svm_space *space, void *addr, uint64_t size);

#define SVM_DISCARD_LAZY \
	(1u << 0) /* keep mappings; content is free to go when evicted, until prefetched */

/*
 * The content of the span is no longer wanted. Without flags it is gone at once: all agents lose
 * their mapping, storage is given back, the next touch sees zeros, and pages that were poisoned are
 * usable again. With SVM_DISCARD_LAZY only eviction profits: it skips the copy. Writing to lazily
 * discarded memory without a prefetch may lose the write, as the flag says.
 *
 * Errors: span errors; -EINVAL (unknown flags); -EBUSY (held or pinned: nothing was done); -ECHILD.
 */
int svm_discard(struct svm_space *space, void *addr, uint64_t size, uint32_t flags);

/*
 * Move the span to a location and keep it there until unpinned; for DMA by others. A host pin
 * (HOST, HOST_NUMA) also keeps the CPU mapping valid, so the kernel can take page references
 * through the address. Pins count: each svm_pin() wants its svm_unpin() with the same span and
 * location. Blocks until the pages are there. A CPU touch of a page pinned on a device waits for the
 * unpin; -ENOLINK is what an acquire by another device gets.
 *
 * Errors: span errors; -EINVAL (location); -ENODEV (device); -EOPNOTSUPP (a device that is native only);
 * -EBUSY (held or pinned elsewhere);
 * -ENOSPC (device memory); -ENOMEM; -EIO (poisoned); -ECHILD.
 */
int svm_pin(struct svm_space *space, void *addr, uint64_t size, struct svm_location location);

/* Undo one svm_pin() of the same span and location. Errors: -ENOENT (no such pin), -ECHILD. */
int svm_unpin(struct svm_space *space, void *addr, uint64_t size, struct svm_location location);

#define SVM_HOST_TRY (1u << 0) /* -EBUSY instead of waiting for a device to release */

/*
 * Make the span present and mapped for the CPU, and keep it so until svm_host_release(): system calls
 * can then use it even where the kernel serves no faults of its own (SVM_SPACE_CAP_KERNEL_FAULTS
 * absent), or does not wait where it needs to (Linux 6.1: registering a buffer with io_uring). access is an enum
 * svm_access_mode. Counts, as svm_pin() does. Blocks.
 *
 * Errors: span errors; -EINVAL; -EBUSY (SVM_HOST_TRY, or pinned on a device); -ENOMEM; -EIO; -ECHILD.
 */
int svm_host_acquire(struct svm_space *space, void *addr, uint64_t size, uint32_t access,
		     uint32_t flags);

/* Undo one svm_host_acquire() of the same span and access. Errors: -ENOENT, -ECHILD. */
int svm_host_release(struct svm_space *space, void *addr, uint64_t size, uint32_t access);

/* Flags of struct svm_page_residency. */
#define SVM_PAGE_HOST	   (1u << 0) /* host memory holds the current bytes */
#define SVM_PAGE_CPU_READ  (1u << 1) /* the CPU has a valid mapping */
#define SVM_PAGE_CPU_WRITE (1u << 2) /* and may write through it */
#define SVM_PAGE_POISONED  (1u << 3) /* bytes lost with a device */
#define SVM_PAGE_PINNED	   (1u << 4) /* pinned or held */
#define SVM_PAGE_DISCARDED (1u << 5) /* lazily discarded */
#define SVM_PAGE_SHARED	   (1u << 6) /* host storage is of the shared kind */
#define SVM_PAGE_SYSTEM	   (1u << 7) /* system memory: of the other flags only HOST is told */

struct svm_page_residency {
	uint32_t flags;	  /* SVM_PAGE_*; 0 and no devices: not populated */
	uint16_t devices; /* bit i: device id i holds the current bytes */
	uint16_t mapped;  /* bit i: device id i has a valid mapping */
};

/*
 * Per page: where the current bytes are and who maps them. A snapshot: pages may move at once.
 * pages has n_pages entries, one per page of the rounded span. *ret_generation (may be NULL) grows
 * with every change of placement in the space; two equal values around two calls mean that nothing moved.
 * Never faults and never waits for a migration. System memory (hints.h) is asked about of its devices' drivers, which
 * may take a moment.
 *
 * Errors: span errors; -EINVAL (n_pages is not the page count of the span); -ECHILD.
 */
int svm_residency_query(struct svm_space *space, const void *addr, uint64_t size,
			struct svm_page_residency *pages, size_t n_pages, uint64_t *ret_generation);

struct svm_pointer_info {
	size_t size;	 /* set by the caller to sizeof(struct svm_pointer_info) */
	uint64_t base;	 /* start of the allocation or registration */
	uint64_t length; /* its size in bytes, whole pages */
	uint64_t id;	 /* unique within the space, never reused */
	uint32_t is_svm; /* 0: not managed by this space, the other fields but is_native are 0 */
	uint32_t is_registered;
	uint32_t is_shared; /* this page's host storage is of the shared kind */
	uint32_t is_native; /* system memory that native devices of the space reach */
};

/*
 * What is this address? Any address will do. Never faults, never waits for a migration.
 * Errors: -EINVAL (info->size), -ECHILD.
 */
int svm_pointer_query(struct svm_space *space, const void *addr, struct svm_pointer_info *info);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
