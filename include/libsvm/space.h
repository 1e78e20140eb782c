/* SPDX-License-Identifier: MIT */
/*
 * A space: a window of virtual addresses that means the same to the CPU and to all its devices,
 * with the fault service that keeps it coherent.
 *
 * Lifetime: everything made from a space (devices, memory, fences, accesses, prefetches) belongs to
 * it; svm_space_destroy() refuses while the application still holds accesses, prefetches, pins or fences.
 * Fork: managed memory is absent in the child, and every call there answers -ECHILD. The child may
 * exec or exit; it must not touch managed addresses.
 */
#ifndef LIBSVM_SPACE_H
#define LIBSVM_SPACE_H

#include <libsvm/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

enum svm_log_level {
	SVM_LOG_ERROR = 0, /* something was lost or refused that should not have been */
	SVM_LOG_WARN = 1,  /* works, but slower or weaker than it could */
	SVM_LOG_INFO = 2,  /* one line per device and per space */
	SVM_LOG_DEBUG = 3, /* one line per unusual event */
};

/* Which event loop engine to use. */
enum svm_loop_kind {
	SVM_LOOP_AUTO = 0, /* epoll, by which a lone fault costs less */
	SVM_LOOP_EPOLL = 1,
	SVM_LOOP_IO_URING = 2, /* -EOPNOTSUPP from svm_space_create() where it is denied */
};

/* Flags of struct svm_space_options: rungs of the kernel ladder that are left out on purpose. */
#define SVM_SPACE_USER_MODE_ONLY \
	(1u << 0) /* as an unprivileged process gets: no faults from system calls */
#define SVM_SPACE_NO_MOVE	 (1u << 1) /* do without UFFDIO_MOVE, as before Linux 6.8 */
#define SVM_SPACE_NO_POISON	 (1u << 2) /* do without UFFDIO_POISON, as before Linux 6.6 */
#define SVM_SPACE_NO_HUGE_PAGES	 (1u << 3) /* do not ask for transparent huge pages */
#define SVM_SPACE_DEFAULT_SHARED (1u << 4) /* every allocation gets shared host storage */
#define SVM_SPACE_NATIVE \
	(1u              \
	 << 5) /* for system memory too (hints.h): devices are opened as native where they can be */
/* Memory is handed out, acquired, hinted and moved in units of 64 KiB: spans are rounded to them (a discard inwards), and
 * svm_register() wants them. Devices whose own memory is mapped in such units only (of xe: DG2, Ponte Vecchio) hold memory
 * of such spaces in it; of others they do in the host's. Not with SVM_SPACE_NATIVE. */
#define SVM_SPACE_64K_UNITS (1u << 6)

/* Zero means "the default" in each field. */
struct svm_space_options {
	size_t size; /* sizeof(struct svm_space_options) */
	uint64_t window_base; /* address of the window, 2 MiB aligned; default: chosen so that devices reach it */
	uint64_t window_size; /* bytes, multiple of 2 MiB; default 256 GiB, or less where limits forbid it */
	uint32_t flags;	    /* SVM_SPACE_* */
	uint32_t loop;	    /* enum svm_loop_kind */
	uint32_t n_threads; /* service threads, 1 to 16; default 1 */
	int32_t service_cpu; /* CPU number + 1 to which service threads are bound; default: not bound */
	uint32_t spin_us; /* longest time, in microseconds, the service spins for the next fault before it
				      * sleeps; it adapts below that; default 0: sleeps at once */
	uint32_t op_timeout_ms; /* a device operation that takes longer means the device is lost; time in which the
				 * process stands still (SIGSTOP, a debugger) for over a quarter of this does not
				 * count; default 10000 */
	uint64_t host_cache_size; /* bytes of stale host pages kept for reuse; default a sixteenth of the machine's
				   * memory, at least 256 MiB; ~0 for no cache */
	uint32_t log_level; /* enum svm_log_level that is still reported */
	uint32_t reserved;  /* 0 */
	void (*log)(void *log_data, int level,
		    const char *line); /* called from any thread, never from a fault
								    * path's lock; must not call the library;
								    * default: nothing is logged */
	void *log_data;
};

/* Capabilities of a space, probed when it is created. */
#define SVM_SPACE_CAP_KERNEL_FAULTS \
	(1u << 0)			 /* system calls may touch non-resident managed memory */
#define SVM_SPACE_CAP_MOVE     (1u << 1) /* private host storage moves without a copy */
#define SVM_SPACE_CAP_POISON   (1u << 2) /* lost pages raise SIGBUS through UFFDIO_POISON */
#define SVM_SPACE_CAP_IO_URING (1u << 3) /* the loop runs on io_uring */
#define SVM_SPACE_CAP_HUGE_PAGES \
	(1u << 4) /* transparent huge pages are available for private storage */
#define SVM_SPACE_CAP_SHARED_READ_ONLY \
	(1u << 5) /* shared host pages can be mapped read-only (Linux 6.4) */

struct svm_space_info {
	size_t size; /* set by the caller to sizeof(struct svm_space_info) */
	uint64_t window_base;
	uint64_t window_size;
	uint64_t window_free; /* bytes of the window not yet given out */
	uint32_t caps;	      /* SVM_SPACE_CAP_* */
	uint32_t n_devices;
	uint32_t n_threads;
	uint32_t n_numa_nodes;
};

/*
 * Create a space. options may be NULL.
 *
 * Errors: -EINVAL (unknown flags or values, misaligned window, a page size that is not 4 KiB);
 * -EEXIST (something is mapped in the window asked for); -ENOMEM (no room for the window);
 * -EPERM (the kernel grants no userfaultfd in any of its three ways); -EOPNOTSUPP (no userfaultfd,
 * or the loop asked for is denied); -EMFILE, -ENFILE, -EAGAIN from the kernel.
 * Starts n_threads threads with all signals blocked. The caller owns *ret_space.
 */
int svm_space_create(const struct svm_space_options *options, struct svm_space **ret_space);

/*
 * Destroy a space: closes its devices (bytes come home first, then everything is unmapped). Memory
 * that was registered stays with the application, with its current bytes; allocated memory is gone.
 * NULL is accepted. Blocks until running transitions end.
 *
 * Errors: -EBUSY (an access, a prefetch, a pin or a fence is still held; nothing was done); -ENOMEM (no room
 * on the host for what a device holds: it stays open); -ECHILD.
 */
int svm_space_destroy(struct svm_space *space);

/* Describe a space. Errors: -EINVAL (size is 0 or not a known one), -ECHILD. */
int svm_space_query(struct svm_space *space, struct svm_space_info *info);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
