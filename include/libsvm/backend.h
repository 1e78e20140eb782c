/* SPDX-License-Identifier: MIT */
/*
 * The contract between the core and a backend: a table of functions that drives one kind of device.
 *
 * Rules that hold for every op:
 *  - the core fills missing optional ops with ones that return -EOPNOTSUPP;
 *  - any thread may call, several at a time, no lock of the core is held unless the op says so; a
 *    backend takes its own. Ops of one device are not called after close(), nor once lost was seen,
 *    except those marked (lost ok);
 *  - no op may touch managed user addresses, call malloc or stdio, or wait for the device, unless
 *    marked (may block): those are never called from the service path;
 *  - work is asynchronous: it returns a point, and the point's timeline says when it is done;
 *  - addresses in binds are device virtual addresses of the shared VM.
 *
 * A backend gives two kinds of news, both through file descriptors that the core's loop watches: "a
 * timeline moved" or "the device is lost" (event_fd), and "device faults are pending" (fault_fd).
 */
#ifndef LIBSVM_BACKEND_H
#define LIBSVM_BACKEND_H

#include <libsvm/device.h>
#include <libsvm/hints.h>
#include <libsvm/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* Must match exactly: the contract is young and changes whole. */
#define SVM_BACKEND_ABI 2u

/* What happens in order on a device. Points of one timeline complete in the order of their values. */
enum svm_timeline {
	SVM_TIMELINE_BIND = 0,
	SVM_TIMELINE_COPY = 1,
	SVM_TIMELINE_WORK = 2,
};
#define SVM_TIMELINES 3u

/* A moment on a timeline: done when the timeline's completed value is >= value. 0: done already. */
struct svm_point {
	uint32_t timeline;
	uint32_t reserved;
	uint64_t value;
};

struct svm_backend_caps {
	uint32_t caps; /* SVM_CAP_* */
	uint32_t n_engines;
	uint64_t va_start;
	uint64_t va_end;
	uint64_t memory_size; /* bytes for chunks; multiple of SVM_BLOCK_SIZE */
};

/* Flags of struct svm_backend_open. */
#define SVM_OPEN_NATIVE \
	(1u << 0) /* the space is for system memory too: be native if device and kernel can */
#define SVM_OPEN_64K_UNITS \
	(1u << 1) /* what is bound and copied are whole, aligned units of 64 KiB, but for what the
		   * application took away itself */

/* What a device is opened with. All pointers are borrowed for the call, except as said. */
struct svm_backend_open {
	size_t size;
	const char *options;  /* what follows "BACKEND:" in the name, or "" */
	uint64_t window_base; /* the space's window */
	uint64_t window_size;
	int host_fd; /* memfd of shared host storage, offset = address - window_base; borrowed until close */
	uint32_t flags; /* SVM_OPEN_* */
	/* The application's address space to use as the shared VM, or NULL: make one. What svm_device_import() says of it
	 * holds; -EOPNOTSUPP from backends that cannot. After kill() and close() nothing of the library is bound there. */
	const struct svm_device_import *import;
	void (*log)(void *log_data, int level, const char *line); /* valid until close */
	void *log_data;
};

/* Flags of struct svm_bind. */
#define SVM_BIND_WRITE	(1u << 0) /* writable; else read-only (only with SVM_CAP_READ_ONLY) */
#define SVM_BIND_HOST	(1u << 1) /* to shared host storage; else to a chunk */
#define SVM_BIND_UNBIND (1u << 2) /* take the mapping away; the other flags are 0 */

/* Make [addr, addr + size) of the shared VM point to storage, replacing what was there, in one step as
 * seen by the device: it never meets a moment without the old or the new mapping. */
struct svm_bind {
	uint64_t addr; /* page aligned */
	uint64_t size; /* bytes, whole pages, within one block */
	uint32_t flags;
	uint32_t reserved;
	uint64_t chunk;	  /* handle of a chunk of this device */
	uint64_t offset;  /* bytes into the chunk, or into host_fd */
	void *host_alias; /* with SVM_BIND_HOST: the same bytes at the library's own mapping */
};

/* One end of a copy. */
struct svm_copy_end {
	void *host; /* library address, readable or writable without faults through the library; or NULL: */
	void *peer_dev; /* backend's device that owns the chunk (this one, or a peer with SVM_CAP_PEER_COPY) */
	uint64_t chunk;
	uint64_t offset; /* bytes into the chunk */
};

struct svm_copy {
	struct svm_copy_end dst;
	struct svm_copy_end src; /* all NULL and 0: fill with zeros */
	uint64_t size;		 /* bytes, whole pages */
};

/* The core waits for this one alone: do it in the calling thread if that is faster and takes no
 * longer than the copy itself. */
#define SVM_COPY_URGENT (1u << 0)

struct svm_device_fault {
	uint64_t addr;	 /* page aligned */
	uint32_t access; /* enum svm_access_mode */
	uint32_t reserved;
	uint64_t cookie; /* given back in fault_done() */
};

struct svm_work {
	uint64_t dst;
	uint64_t src; /* ignored for a fill */
	uint64_t size;
	uint32_t is_fill;
	uint32_t value; /* 0 to 255 */
};

/* Where a device should find bytes of system memory. */
enum svm_native_place {
	SVM_NATIVE_ANYWHERE = 0, /* no preference */
	SVM_NATIVE_OWN = 1,	 /* in its own memory */
	SVM_NATIVE_HOST = 2,	 /* in host memory, which it maps in place */
	SVM_NATIVE_OTHER = 3, /* in another device's memory: in place if it can, else host memory */
};

/* What a device may do with system memory, and what is to be ready for it. */
enum svm_native_access {
	SVM_NATIVE_ON_FAULT = 0, /* nothing asked */
	SVM_NATIVE_MAPPED = 1,	 /* keep a mapping across moves */
	SVM_NATIVE_IN_PLACE = 2, /* and its access never moves the page */
	SVM_NATIVE_FORBIDDEN = 3,
};

/* All hints of a span of system memory, as one device is to take them. */
struct svm_native_hints {
	uint32_t kinds; /* mask of 1 << enum svm_advice_kind: what is told now; the rest was told before */
	uint32_t place;	   /* enum svm_native_place: SVM_ADVICE_PREFERRED_LOCATION */
	int32_t numa_node; /* with SVM_NATIVE_HOST: the node, or -1 for any */
	uint32_t access;   /* enum svm_native_access: the three kinds that name a device */
	uint32_t read_mostly;
	uint32_t atomics;     /* enum svm_atomics */
	uint32_t migration;   /* enum svm_migration */
	uint32_t granularity; /* bytes, a power of two */
	void *peer_dev; /* with SVM_NATIVE_OTHER: that device, where it is of the same backend; for the call */
};

/* What native_query() says of a page. */
#define SVM_NATIVE_PAGE_OWN    (1u << 0) /* its bytes are in the device's own memory */
#define SVM_NATIVE_PAGE_MAPPED (1u << 1) /* the device has a valid mapping */

/* What one call of native_query() and native_prefetch() takes. */
#define SVM_NATIVE_BATCH_PAGES 1024u

/* What one call of bind() and copy() takes. */
#define SVM_BIND_BATCH 1024u
#define SVM_COPY_BATCH 512u

struct svm_backend_ops {
	uint32_t abi;	  /* SVM_BACKEND_ABI */
	uint32_t size;	  /* sizeof(struct svm_backend_ops) */
	const char *name; /* first part of device names */

	/* Mandatory (may block). Describe the i-th device that could be opened; -ENOENT past the last. */
	int (*enumerate)(unsigned int i, struct svm_device_info *ret_info);

	/* Mandatory (may block). Open a device. */
	int (*open)(const struct svm_backend_open *args, void **ret_dev);

	/* Mandatory (may block) (lost ok). No op is running and none follows. */
	void (*close)(void *dev);

	/* Mandatory. Constant after open. */
	void (*caps)(void *dev, struct svm_backend_caps *ret_caps);

	/* Four ops that are mandatory here, chunk_alloc(), chunk_free(), bind() and memory_kept(), are all absent in a
	 * backend whose devices are native and nothing else: they reach managed memory through the CPU's page tables.
	 *
	 * Mandatory. Storage of SVM_BLOCK_SIZE bytes of device memory, content undefined.
	 * -ENOSPC: memory is full. The core keeps to the budget that caps told. */
	int (*chunk_alloc)(void *dev, uint64_t *ret_chunk);

	/* Mandatory (lost ok). */
	void (*chunk_free)(void *dev, uint64_t chunk);

	/* With SVM_CAP_CPU_VISIBLE: the chunk at a library address, valid until chunk_free(). */
	int (*chunk_map)(void *dev, uint64_t chunk, void **ret_addr);

	/* Optional (may block). Managed memory comes or goes outside the window (registered memory):
	 * touches of it are faults of the shared VM until it is bound. */
	int (*span_add)(void *dev, uint64_t addr, uint64_t size);
	int (*span_remove)(void *dev, uint64_t addr, uint64_t size);

	/* Mandatory. Change the shared VM; entries are applied in order. When the point is reached the
	 * device cannot use the old mapping any more (TLBs are clean), also when the point failed: what could
	 * not be bound is unbound then. A call takes up to SVM_BIND_BATCH entries. -EAGAIN: the queue is full,
	 * nothing was taken; room comes with an event. */
	int (*bind)(void *dev, const struct svm_bind *binds, size_t n_binds,
		    struct svm_point *ret_point);

	/* With SVM_CAP_COPY_ENGINE. Copies run in order; flags SVM_COPY_*. A call takes up to SVM_COPY_BATCH
	 * copies. -EAGAIN as bind(). A peer stays open until the point is reached. */
	int (*copy)(void *dev, const struct svm_copy *copies, size_t n_copies, uint32_t flags,
		    struct svm_point *ret_point);

	/* With SVM_CAP_WORK. Copy or fill at shared addresses on an engine of the shared VM, of system memory too with
	 * SVM_CAP_NATIVE. -EAGAIN as bind(). */
	int (*work)(void *dev, const struct svm_work *work, struct svm_point *ret_point);

	/* With SVM_CAP_LAUNCH. Run kernel(args, i, n) for each i below n, in order with work(). args_size bytes
	 * of args are copied by the call. -EAGAIN as bind(). */
	int (*launch)(void *dev, void (*kernel)(const void *args, uint64_t index, uint64_t count),
		      const void *args, size_t args_size, uint64_t n, struct svm_point *ret_point);

	/* Mandatory. Readable when a timeline moved or the device is lost; the core calls event_ack(), then
	 * completed(), when it is. */
	int (*event_fd)(void *dev);
	void (*event_ack)(void *dev);

	/* Mandatory (lost ok). The completed value of a timeline, always stored. -ENODEV: the device is lost, nothing of
	 * it writes any more, and points above the value never will be reached. Another negative errno: the point of
	 * that value failed with it, and counts as reached; told once, before later points. */
	int (*completed)(void *dev, enum svm_timeline timeline, uint64_t *ret_value);

	/* With SVM_CAP_FAULTS. fault_read() returns how many it wrote, 0 for none. fault_done(): the fault
	 * is resolved (status 0: retry) or cannot be (negative errno: the device kills the work). */
	int (*fault_fd)(void *dev);
	int (*fault_read)(void *dev, struct svm_device_fault *faults, size_t n_faults);
	int (*fault_done)(void *dev, const struct svm_device_fault *fault, int status);

	/* Mandatory (may block) (lost ok). Make the device stop for good: nothing of it runs or
	 * writes memory when this returns. Its event_fd becomes readable and completed() says -ENODEV. */
	void (*kill)(void *dev);

	/* Mandatory (lost ok). After loss: 1 if chunks still hold their bytes, readable by chunk_map(). */
	int (*memory_kept)(void *dev);

	/*
	 * Native mode, with SVM_CAP_NATIVE; all optional. System memory is any address that the space does not manage. A
	 * device opened as native reaches all of it from open() on. A range is native or managed for a device, never both:
	 * one with bind() must not mirror the window, nor what span_add() tells of. Spans are page aligned and were mapped
	 * when the core looked; anybody may unmap them at any time.
	 */

	/* (may block). Tell the driver hints of a span. Told in full (kinds: all that are set) to a device opened later,
	 * and with kinds at their defaults when they are unset or the memory is gone. Calls do not overlap. 0 with
	 * *ret_outcome (EFFECTIVE when called, or DEGRADED with the reason); an errno counts as degraded. Absent:
	 * degraded, SVM_REASON_DRIVER. */
	int (*native_advise)(void *dev, uint64_t addr, uint64_t size,
			     const struct svm_native_hints *hints, struct svm_outcome *ret_outcome);

	/* (may block). Move a span to the device's own memory (SVM_NATIVE_OWN), or what is there home (SVM_NATIVE_HOST).
	 * Called by a thread of the core's that is there for it. 0 says that it was tried: what came of it the core asks
	 * native_query(). -EOPNOTSUPP: the driver has no such call; home is then done by a touch. Other errnos: some of
	 * it may have moved. */
	int (*native_prefetch)(void *dev, uint64_t addr, uint64_t size, enum svm_native_place to);

	/* (may block). Where pages are, SVM_NATIVE_PAGE_*, one byte each; it brings and moves nothing. Absent: the core
	 * knows from pagemap which pages are in no host memory, and takes them to be with the device if no other says
	 * so. */
	int (*native_query)(void *dev, uint64_t addr, size_t n_pages, uint8_t *ret_pages);
};

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
