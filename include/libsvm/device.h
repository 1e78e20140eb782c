/* SPDX-License-Identifier: MIT */
/*
 * Devices: enumerate, open, query, close; acquire and release; copy and fill at shared addresses.
 */
#ifndef LIBSVM_DEVICE_H
#define LIBSVM_DEVICE_H

#include <libsvm/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* What a device can do: one bit per promise. */
#define SVM_CAP_FAULTS \
	(1u << 0) /* a touch of unmapped managed memory waits until the library brings it */
#define SVM_CAP_READ_ONLY   (1u << 1) /* its mappings can be read-only */
#define SVM_CAP_HOST_ALIAS  (1u << 2) /* maps host memory of the shared kind in place */
#define SVM_CAP_CPU_VISIBLE (1u << 3) /* the CPU can read and write its memory through a mapping */
#define SVM_CAP_PEER_COPY \
	(1u << 4) /* copies to and from memory of devices of the same backend directly */
#define SVM_CAP_COPY_ENGINE (1u << 5) /* has an engine for the library's own copies */
#define SVM_CAP_WORK	    (1u << 6) /* svm_device_copy() and svm_device_fill() */
#define SVM_CAP_LAUNCH	    (1u << 7) /* svm_soft_launch() */
#define SVM_CAP_ATOMICS	    (1u << 8) /* atomics on its own memory */
#define SVM_CAP_SYSTEM_ATOMICS \
	(1u << 9) /* atomics on host memory in place, coherent with the CPU */
/* Its kernel driver mirrors the address space by itself: it uses system memory. A device that is native and nothing else
 * has no managed memory of its own, and reaches the host's through the CPU's page tables: its accesses to it count
 * as the CPU's. */
#define SVM_CAP_NATIVE (1u << 10)
/* And its faults go through userfaultfd: it may touch managed memory that is elsewhere, and gets it. Without, and being
 * native only, its touch of managed memory that was not acquired for it fails as its driver does. */
#define SVM_CAP_NATIVE_UFFD (1u << 11)

#define SVM_NAME_LENGTH 64u

struct svm_device_info {
	size_t size;		    /* set by the caller to sizeof(struct svm_device_info) */
	char name[SVM_NAME_LENGTH]; /* what svm_device_open() takes, or was given */
	char backend[16];
	uint32_t id;	      /* svm_device_id(); ~0 for one that is only enumerated */
	uint32_t caps;	      /* SVM_CAP_* */
	uint64_t memory_size; /* bytes of its own memory */
	uint64_t memory_used; /* bytes of it that hold storage of this space */
	uint64_t va_start;    /* first address it reaches */
	uint64_t va_end;      /* end of what it reaches, exclusive */
	uint32_t n_engines;
	uint32_t is_lost;
};

/*
 * List devices that can be opened. *n_infos is the room on entry and the number that exist on
 * return, which may be larger. infos[i].size must be set. infos may be NULL with *n_infos 0.
 * A soft device is listed once and can be opened any number of times.
 * Errors: -EINVAL, -ECHILD.
 */
int svm_device_enumerate(struct svm_space *space, struct svm_device_info *infos, size_t *n_infos);

/*
 * Open a device by name: "BACKEND[:WHICH][:KEY=VALUE...]", for example "soft:memory=64M:faults=off"
 * (soft.h lists the soft device's keys). Hints and memory of the space hold for it from now on.
 *
 * Errors: -EINVAL (name, unknown key or value); -ENOENT (no such device); -ENODEV (no such backend);
 * -ENOSPC (SVM_MAX_DEVICES are open); -ERANGE (it cannot reach the window or registered memory);
 * -ENOMEM, -EMFILE, -EAGAIN from the kernel; -ECHILD.
 */
int svm_device_open(struct svm_space *space, const char *name, struct svm_device **ret_device);

/* The address space of a device that the application made, and keeps. */
struct svm_device_import {
	size_t size; /* sizeof(struct svm_device_import) */
	int32_t fd; /* its open file of the device; duplicated: the caller's own stays the caller's */
	uint32_t vm_id;	   /* of an address space made through this open file */
	uint32_t flags;	   /* SVM_IMPORT_* */
	uint32_t reserved; /* 0 */
};

/* The address space mirrors the CPU's, over the window too (xe: a bind with CPU_ADDR_MIRROR): the library takes
 * what it manages out of the mirror, and puts it back at close. Needs an address space whose faults are served. */
#define SVM_IMPORT_MIRRORED (1u << 0)
/* Nothing but managed memory is bound there, and no queue is made: no SVM_CAP_WORK. */
#define SVM_IMPORT_NO_WORK (1u << 1)

/*
 * As svm_device_open(), in an address space of the application's: managed memory is bound into it, and its own
 * batches use the CPU's pointers, between svm_acquire() and svm_release(). name is "BACKEND[:KEY=VALUE...]".
 * The library binds addresses of the window and of registered memory, and, but for SVM_IMPORT_NO_WORK, 256 KiB
 * at an address that it has mapped for the CPU; they must not be used otherwise. It never looks at, waits for or
 * changes anything else there. It makes other objects (buffers, queues, an address space for its copies) in the open
 * file, and gives all back at close, which leaves the address space as it was. Close the device before the
 * address space. After a loss of the device its binds are gone, too.
 *
 * Errors: as svm_device_open(); -EINVAL (options, or a name with WHICH); -EBADF; -ENODEV (the fd is not of a
 * device of this backend, or the address space is dead); -ENOENT (no such address space in this open file: one
 * belongs to the file that made it); -EEXIST (the window is in use there); -EOPNOTSUPP (the backend imports none,
 * the kernel lacks something, or it is of a kind that cannot be used, as SVM_IMPORT_MIRRORED without faults). One
 * line of the log names what is missing. Nothing has changed then.
 */
int svm_device_import(struct svm_space *space, const char *name,
		      const struct svm_device_import *options, struct svm_device **ret_device);

/*
 * Close a device: what only it holds comes home first, then hints that name it revert to none. A
 * lost device closes too. NULL is accepted. Waits for transitions, and for copies, fills and launches.
 * Errors: -EBUSY (an access of it is open, or memory is pinned on it); -ENOMEM (no room on the host
 * for its bytes: nothing is closed); -ECHILD.
 */
int svm_device_close(struct svm_device *device);

/* Describe an open device. Errors: -EINVAL (info->size), -ECHILD. */
int svm_device_query(struct svm_device *device, struct svm_device_info *info);

/* The small number that stands for it in locations, masks and hints; reused after close. */
uint32_t svm_device_id(struct svm_device *device);

/* Location of its memory. */
struct svm_location svm_device_location(struct svm_device *device);

struct svm_access_range {
	void *addr;
	uint64_t size;	 /* bytes; the span is rounded to pages */
	uint32_t access; /* enum svm_access_mode */
	uint32_t reserved;
};

/* Memory handed to a device, from acquire to release. */
struct svm_access;

#define SVM_ACQUIRE_TRY (1u << 0) /* -EBUSY instead of waiting for fences of other work */

/*
 * Hand memory to a device: every page becomes present and bound for it (moved, duplicated or mapped
 * in place as the hints say) and stays so until released. *ret_ready (may be NULL: then the call
 * waits) signals when the device may start; its status is what went wrong, and then nothing is held.
 * While a device that cannot fault holds a page, a CPU touch waits for the release and its fence.
 * Pages for a device that is native only go to the host, and are held there without SVM_CAP_NATIVE_UFFD; the CPU may
 * use them meanwhile. The kernel may still reclaim pages of shared storage (SVM_ALLOC_SHARED) under memory pressure, and
 * a touch by such a device's driver then fails as it does for memory that was not acquired, until the CPU touches the
 * page: mlock() what must not fail, or use private storage, which the kernel brings back by itself. System memory may be
 * part of the ranges for a native device, and needs nothing done.
 *
 * Errors at once: span errors; -EINVAL; -ENODEV (lost); -EACCES (no-access hint); -ENOMEM; -ECHILD.
 * Errors at once or in the fence: -EBUSY (another device holds a page, one of the two for write,
 * and has not released it); -ENOSPC; -ENOLINK; -EIO (poisoned); -ENODEV (lost meanwhile).
 * The caller owns *ret_access and ends it with svm_release(), also when the fence says failure.
 */
int svm_acquire(struct svm_device *device, const struct svm_access_range *ranges, size_t n_ranges,
		uint32_t flags, struct svm_access **ret_access, struct svm_fence **ret_ready);

/*
 * End an access: pages stay where they are and are free to move once done (may be NULL: now) has
 * signalled. The library keeps its own reference to done. access is gone after the call, also when
 * the device was lost. NULL is accepted. Errors: -ECHILD.
 */
int svm_release(struct svm_access *access, struct svm_fence *done);

/*
 * Copy size bytes from src to dst, or fill dst with size bytes of value, by the device's engine,
 * through shared addresses: the spans are acquired, the work runs after wait (may be NULL), and they
 * are released at its end, which is *ret_done (may be NULL: then the call waits). The spans must
 * not overlap. Works on any byte alignment, but for Intel GPUs of the generations TGL, DG1, DG2 and MTL, whose engine
 * moves units of 4 bytes: addresses and size are multiples of 4 there. Native devices also take system memory, where the process's
 * own rights hold: what is not mapped so fails with the driver's error.
 *
 * Errors: as svm_acquire(); -EOPNOTSUPP (no SVM_CAP_WORK, or an alignment the engine lacks); -EINVAL (overlap).
 */
int svm_device_copy(struct svm_device *device, void *dst, const void *src, uint64_t size,
		    struct svm_fence *wait, struct svm_fence **ret_done);
int svm_device_fill(struct svm_device *device, void *dst, uint8_t value, uint64_t size,
		    struct svm_fence *wait, struct svm_fence **ret_done);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
