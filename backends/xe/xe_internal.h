/* SPDX-License-Identifier: MIT */
/*
 * A GPU of the xe driver, in managed mode.
 *
 * Two VMs per device. The shared VM has managed memory at the application's addresses; it is made here, or the
 * application's (xe_import.c), and of any kind. The copy VM is the library's own: all chunks for good, and host
 * memory just as long as a copy uses it, so that no CPU page change ever waits for, or is undone by, this VM. It
 * is of the kind whose jobs end (no LR_MODE), which signals sync objects, and event_fd follows these. Other
 * kinds signal user fences only: words in memory, each with a thread that waits for it (xe_word.c).
 *
 * Where others may keep the shared VM locked, a thread makes the calls into it that the service path wants
 * (xe_submit.c).
 *
 * Locks, outermost first: memory_lock > an engine's lock > map_lock; span_lock > bind_lock; all > the submitter's lock >
 * event_lock > a word's lock. They are held over ioctls that do not wait for the device, and kill_lock over those that
 * do. With a submitter, bind_lock is held over calls that wait for the VM's lock: only that thread and kill() take it.
 */
#ifndef SVM_XE_INTERNAL_H
#define SVM_XE_INTERNAL_H

#include "../common/drm.h"
#include "xe_uapi.h"
#include <libsvm/backend.h>
#include <libsvm/space.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* ---- What the kernel says of a device (xe_probe.c) ------------------------------------------- */

enum svm_xe_copy_kind {
	SVM_XE_COPY_FAST,   /* XY_FAST_COPY_BLT */
	SVM_XE_COPY_MATRIX, /* MEM_COPY, rows of 4 KiB */
	SVM_XE_COPY_PAGES,  /* MEM_COPY in units of 256 bytes */
};

/* How one generation's copy engine wants its commands. */
struct svm_xe_blitter {
	enum svm_xe_copy_kind copy;
	bool tile_bits;	       /* XY_FAST_COPY: bits 31:30 of dword 1 set (12.50 and later) */
	uint32_t color_dwords; /* XY_FAST_COLOR; 0: fills are MEM_SET */
	uint32_t copy_mocs;    /* dword 9 of MEM_COPY */
	uint32_t fill_mocs;    /* dword 6 of MEM_SET, or dword 1 of XY_FAST_COLOR */
};

struct svm_xe_info {
	uint32_t ip; /* graphics version times 100: 1255 is 12.55 */
	uint32_t va_bits;
	uint16_t pat; /* write-back, coherent with the CPU, not compressed */
	bool has_vram;
	bool has_mirror;
	bool vram_64k; /* device memory is mapped in 64 KiB only */
	uint16_t vram; /* region instance */
	uint64_t vram_size;
	uint64_t vram_visible;
	uint64_t system_size;
	uint32_t n_copy; /* copy engines of the first GT */
	struct svm_xe_engine_instance copy;
	struct svm_xe_blitter blitter;
};

/* -errno, and *ret_what (static text) is what could not be had. */
int svm_xe_probe(int fd, struct svm_xe_info *ret_info, const char **ret_what);

/* ---- Names (xe_options.c) --------------------------------------------------------------------- */

/* Kinds of VMs, by what ends in them. */
enum svm_xe_mode {
	SVM_XE_MODE_JOBS,   /* jobs end: sync objects (no LR_MODE) */
	SVM_XE_MODE_LONG,   /* they need not: user fences only */
	SVM_XE_MODE_FAULTS, /* the same, and the kernel serves faults */
};

struct svm_xe_options {
	int32_t minor;	       /* of the render node, or -1 */
	uint32_t index;	       /* which device, where minor is -1 */
	bool which;	       /* the name says which */
	uint64_t memory;       /* 0: default */
	bool engine;	       /* copies by the copy engine where there is one */
	bool host;	       /* host memory mapped in place */
	bool system;	       /* chunks in system memory */
	bool units_64k;	       /* of the space: all that is bound is whole units of 64 KiB */
	enum svm_xe_mode mode; /* of a shared VM made here */
	bool has_mode;
};

/* What follows "xe:" in a device name. -EINVAL: *ret_where points at the part that is wrong. */
int svm_xe_options_parse(const char *string, struct svm_xe_options *ret_options,
			 const char **ret_where);

/* ---- Commands (xe_cmd.c) ---------------------------------------------------------------------- */

/* The longest command, and what ends a batch, in dwords. */
#define SVM_XE_CMD_MAX 16u
#define SVM_XE_CMD_END 8u

/* Can it do this at all? Before Xe2, and but for PVC, only whole dwords. */
bool svm_xe_cmd_fits(const struct svm_xe_blitter *b, uint64_t dst, uint64_t src, uint64_t size);
/* Write one command that copies (or fills) the beginning of [dst, dst + size), and say how much that is.
 * Returns its dwords. */
uint32_t svm_xe_cmd_copy(const struct svm_xe_blitter *b, uint32_t *dw, uint64_t dst, uint64_t src,
			 uint64_t size, uint64_t *ret_done);
uint32_t svm_xe_cmd_fill(const struct svm_xe_blitter *b, uint32_t *dw, uint64_t dst, uint64_t size,
			 uint8_t value, bool system, uint64_t *ret_done);
/* Store value at addr once all before is done, and end the batch. */
uint32_t svm_xe_cmd_end(uint32_t *dw, uint64_t addr, uint64_t value);

/* ---- Engines: a queue, its VM, and what waits for it (xe_engine.c) ---------------------------- */

#define SVM_XE_REQUESTS	 1024u /* a power of two */
#define SVM_XE_IN_FLIGHT 2u    /* batches */
/* Bytes that one batch moves: what a request may have to wait for, twice. */
#define SVM_XE_BATCH_BYTES (UINT64_C(16) << 20)
#define SVM_XE_BATCH_OPS   512u
#define SVM_XE_BATCH_SIZE  (UINT64_C(64) << 10) /* room for commands */
/* Commands of all batches, then a page for status. A batch is followed by at least a page that the engine
 * may read ahead. */
#define SVM_XE_CMDS_SIZE ((SVM_XE_IN_FLIGHT + 1) * SVM_XE_BATCH_SIZE)

#define SVM_XE_REQUEST_FILL	(1u << 0)
#define SVM_XE_REQUEST_HOST_DST (1u << 1) /* dst is a library address */
#define SVM_XE_REQUEST_HOST_SRC (1u << 2)

struct svm_xe_request {
	uint64_t dst;
	uint64_t src;
	uint64_t size;
	uint32_t flags;
	uint32_t value;
};

struct svm_xe_batch {
	uint64_t end;	  /* requests that are done with it */
	uint64_t map_end; /* host memory is mapped up to here */
	uint64_t seq;
};

struct svm_xe_device;

struct svm_xe_buffer {
	uint32_t handle;
	uint64_t size;
	void *map;
};

struct svm_xe_engine {
	struct svm_xe_device *dev;
	enum svm_timeline timeline;
	pthread_mutex_t lock;
	bool has_lock;
	uint32_t vm;
	uint32_t queue;
	uint32_t map_queue; /* binds and unbinds of host memory: apart, so that none waits for another batch */
	uint32_t unmap_queue;
	uint32_t map_syncobj;
	uint64_t map_point; /* lock: what jobs wait for; 0: nothing */
	struct svm_xe_buffer cmds;
	bool is_stopped;	/* lock: starts nothing any more */
	bool is_handed;		/* the submitter starts its batches */
	bool is_starting;	/* lock: it is about to, without the lock */
	pthread_cond_t started; /* with lock: no more is_starting */
	bool is_bound;		/* cmds, in the shared VM */
	uint64_t cmds_va;
	uint64_t seq;	     /* lock: batches started */
	uint64_t last_point; /* lock: of the last job or bind that the kernel took */
	uint64_t n_retired;  /* lock: batches done and told */
	struct svm_xe_batch batches[SVM_XE_IN_FLIGHT]; /* lock: by seq */
	uint64_t tail;				       /* lock: requests taken */
	uint64_t head;				       /* lock: requests in batches */
	uint64_t head_done; /* lock: bytes of the head's that are in batches */
	struct svm_xe_request *ring;
	struct svm_xe_bind_op *ops; /* lock: SVM_XE_BATCH_OPS */
};

int svm_xe_engine_init(struct svm_xe_device *dev, struct svm_xe_engine *engine,
		       enum svm_timeline timeline, uint32_t vm, uint64_t cmds_va);
/* Where its user fences are written, as the CPU and as the engine sees it. */
uint64_t *svm_xe_engine_word(const struct svm_xe_engine *engine);
/* Stop it (may block): no job of it runs any more. In a VM that signals user fences only, one that did not end in
 * time may: until what it can reach is unbound. */
void svm_xe_engine_stop(struct svm_xe_engine *engine, uint64_t patience_ns);
void svm_xe_engine_finish(struct svm_xe_engine *engine);
/* Queue requests, all or none (-EAGAIN), and start what can start. */
int svm_xe_engine_add(struct svm_xe_engine *engine, const struct svm_xe_request *requests, size_t n,
		      uint64_t *ret_value);
/* The timeline reached point: tell what is done, start what can start. */
void svm_xe_engine_advance(struct svm_xe_engine *engine, uint64_t point);
/* Nothing of it runs, with its timeline at point. */
bool svm_xe_engine_is_idle(struct svm_xe_engine *engine, uint64_t point);
/* Start what can start, of one that is_handed. For the submitter. */
void svm_xe_engine_run(struct svm_xe_engine *engine);
/* Map storage for good; jobs that start later find it. */
int svm_xe_engine_bind(struct svm_xe_engine *engine, struct svm_xe_bind_op *op);

/* ---- User fences (xe_word.c) ------------------------------------------------------------------ */

/* A word that counts up, and the thread that tells when. */
struct svm_xe_word {
	struct svm_xe_device *dev;
	uint64_t *addr; /* written by the kernel or by an engine */
	uint32_t queue; /* whose end ends the wait; 0: none */
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	uint64_t target;	/* lock: waits for this value; 0: for none */
	bool stop;		/* lock */
	_Atomic bool is_broken; /* nothing will write it any more */
};

/* Start the thread (may block). */
int svm_xe_word_start(struct svm_xe_device *dev, struct svm_xe_word *word, uint64_t *addr,
		      uint32_t queue);
/* End it (may block); accepts one that never started. */
void svm_xe_word_stop(struct svm_xe_word *word);
uint64_t svm_xe_word_read(const struct svm_xe_word *word);
/* Have event_fd fire when the word reaches the value. LOCKING: event_lock. */
void svm_xe_word_arm(struct svm_xe_word *word, uint64_t value);
/* Wait (may block) until it does. -ETIME; -EIO: its queue is banned. */
int svm_xe_word_wait(const struct svm_xe_word *word, uint64_t value, uint64_t timeout_ns);

/* ---- Calls into a VM that others may keep locked (xe_submit.c) -------------------------------- */

/* What a bind may take that is waited for: it queues behind all others. */
#define SVM_XE_CHANGE_NS UINT64_C(10000000000)

struct svm_xe_job;

/* A bind that somebody waits for. */
struct svm_xe_change {
	struct svm_xe_bind_op op;
	int ret;
	bool is_done;
};

struct svm_xe_submitter {
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock;
	pthread_cond_t cond; /* anything changed */
	bool stop;
	bool has_work;	  /* the engine of work may have something to start */
	uint64_t value;	  /* lock: of the last bind that was taken */
	uint64_t head;	  /* lock: jobs that are through */
	uint64_t tail;	  /* lock: jobs taken */
	uint64_t op_head; /* lock */
	uint64_t op_tail; /* lock */
	struct svm_xe_job *jobs;
	struct svm_xe_bind_op *ops;
	struct svm_xe_bind_op *built; /* lock: of the call that is being taken */
};

/* Start the thread (may block); end it once it did all that was handed over. */
int svm_xe_submit_start(struct svm_xe_device *dev);
void svm_xe_submit_stop(struct svm_xe_device *dev);
/* As bind(); the arguments were checked. */
int svm_xe_submit_bind(struct svm_xe_device *dev, const struct svm_bind *binds, uint32_t n,
		       uint64_t *ret_value);
/* As svm_xe_vm_change(). */
int svm_xe_submit_change(struct svm_xe_device *dev, struct svm_xe_change *change);
/* The engine of work has something to start. */
void svm_xe_submit_work(struct svm_xe_device *dev);

/* ---- The device ------------------------------------------------------------------------------- */

/* Storage is taken from the kernel by this many chunks. */
#define SVM_XE_SLAB_CHUNKS 8u

struct svm_xe_slab {
	struct svm_xe_buffer buffer; /* handle 0: not there yet; map NULL until asked for */
};

struct svm_xe_timeline {
	uint32_t syncobj; /* 0: it is a word */
	struct svm_xe_word word;
	uint64_t submitted;    /* event_lock: point of the sync object, not of the core */
	uint64_t reached;      /* event_lock */
	uint64_t armed;	       /* event_lock: event_fd fires at this one; 0: nothing is armed */
	_Atomic uint64_t done; /* what completed() says */
};

/* Failed binds that the core has not been told of. */
#define SVM_XE_FAILURES 64u

struct svm_xe_failure {
	uint64_t value;
	int status;
};

struct svm_xe_span {
	struct svm_xe_span *next;
	uint64_t addr;
	uint64_t size;
};

struct svm_xe_device {
	int fd;
	int event_fd;
	char node[24]; /* renderD128 */
	struct svm_xe_info info;
	struct svm_xe_options options;
	uint32_t caps;
	uint64_t memory;
	uint32_t placement;
	uint16_t caching;
	uint32_t gem_flags;
	bool has_engine;
	bool has_work;
	uint64_t window_base;
	uint64_t window_size;
	void (*log)(void *log_data, int level, const char *line);
	void *log_data;

	_Atomic bool is_lost;	 /* it is of no use any more */
	_Atomic bool is_settled; /* and nothing of it writes memory */
	pthread_mutex_t kill_lock;
	bool is_killed; /* kill_lock */

	uint32_t shared_vm;
	enum svm_xe_mode mode; /* of the shared VM */
	bool is_imported;      /* the shared VM is the application's */
	uint32_t mirror_flags; /* of binds that mirror */
	bool has_madvise;      /* the kernel takes hints on mirrored memory */
	bool is_mirrored;      /* it mirrors the CPU's addresses around what is managed */
	bool has_window;       /* managed memory may be bound in the shared VM */
	bool is_clear;	       /* kill_lock, or nobody else: nothing managed is bound any more */
	uint32_t bind_queue;   /* 0: the VM's own */
	uint64_t *bind_word;   /* a page of memory for it */
	uint32_t copy_vm;
	struct svm_xe_engine copy;
	struct svm_xe_engine work;

	pthread_mutex_t span_lock;
	struct svm_xe_span *spans; /* span_lock: managed memory outside the window */

	struct svm_xe_submitter submitter;
	pthread_mutex_t bind_lock;
	struct svm_xe_bind_op *bind_ops; /* bind_lock: SVM_BIND_BATCH */
	_Atomic uint64_t bind_limit;	 /* no point behind this one is reached any more */

	pthread_mutex_t event_lock;
	struct svm_xe_failure failures[SVM_XE_FAILURES]; /* event_lock: binds, a ring */
	uint64_t n_failed;				 /* event_lock */
	uint64_t n_told;				 /* event_lock */
	struct svm_xe_timeline timelines[SVM_TIMELINES];

	pthread_mutex_t map_lock; /* CPU mappings of slabs */
	pthread_mutex_t memory_lock;
	uint64_t n_chunks;
	uint64_t n_fresh; /* memory_lock: chunks from here on were never used */
	uint64_t n_free;  /* memory_lock: entries of free_chunks */
	uint32_t *free_chunks;
	_Atomic uint8_t *chunk_used;
	struct svm_xe_slab *slabs; /* memory_lock */
};

/* Where things are in the copy VM. Host memory and commands share a GiB, so that the upper page tables never
 * come and go under a bind that others would have to wait for. */
#define SVM_XE_COPY_CMDS_VA   (UINT64_C(1) << 30)
#define SVM_XE_COPY_HOST_VA   (SVM_XE_COPY_CMDS_VA + (UINT64_C(256) << 20))
#define SVM_XE_COPY_HOST_SIZE (UINT64_C(128) << 20) /* per batch in flight */
#define SVM_XE_COPY_CHUNKS_VA (UINT64_C(1) << 40)

/* The shared VM belongs to user addresses up to here; what is above is the backend's. */
#define SVM_XE_VA_START UINT64_C(0x10000)
#define SVM_XE_VA_END	(UINT64_C(1) << 47)

/* xe.c */
extern const struct svm_backend_ops svm_backend_xe;
__attribute__((format(printf, 3, 4))) void svm_xe_log(struct svm_xe_device *dev, int level,
						      const char *format, ...);
/* It failed for good. The first reason counts. */
void svm_xe_lose(struct svm_xe_device *dev, int reason, const char *what);
/* An ioctl said so: does that mean that the device is lost? Then it is, now. */
bool svm_xe_is_loss(struct svm_xe_device *dev, int error, const char *what);
/* Make event_fd readable. */
void svm_xe_raise(struct svm_xe_device *dev);
/* A point was submitted: have event_fd follow it. */
void svm_xe_follow(struct svm_xe_device *dev, enum svm_timeline timeline, uint64_t point);

/* Wait (may block) until a timeline reaches the point. -ETIME; others: it never will. */
int svm_xe_timeline_wait(struct svm_xe_device *dev, enum svm_timeline timeline, uint64_t point,
			 uint64_t timeout_ns);

/* xe_native.c */
/* The device and its options let it be native. */
bool svm_xe_native_could(const struct svm_xe_device *dev);
/* The shared VM mirrors all but the window from now on. Capabilities follow. */
int svm_xe_native_start(struct svm_xe_device *dev);
int svm_xe_native_advise(void *device, uint64_t addr, uint64_t size,
			 const struct svm_native_hints *hints, struct svm_outcome *ret_outcome);
int svm_xe_native_prefetch(void *device, uint64_t addr, uint64_t size, enum svm_native_place to);

/* xe_import.c */
/* Would the kernel take a bind of this kind? */
bool svm_xe_would_bind(struct svm_xe_device *dev, uint32_t vm, uint32_t op, uint32_t flags);
/* How many areas of the VM are in a span; -EINVAL where the kernel cannot tell (before 6.18). */
int svm_xe_count_areas(struct svm_xe_device *dev, uint32_t vm, uint64_t addr, uint64_t size,
		       uint32_t *ret_n);
/* Take what args->import says as file and shared VM. */
int svm_xe_import_file(struct svm_xe_device *dev, const struct svm_device_import *import);
int svm_xe_import_vm(struct svm_xe_device *dev, const struct svm_device_import *import);
/* Make it ready for binds. */
int svm_xe_import_take(struct svm_xe_device *dev);
/* Unbind all that is managed from the shared VM and wait for it (may block); what was mirrored is again. */
void svm_xe_import_clear(struct svm_xe_device *dev);
/* Make an area of the shared VM empty, or mirror the CPU's there (may block). */
int svm_xe_area_set(struct svm_xe_device *dev, uint64_t addr, uint64_t size, bool mirror);
int svm_xe_span_add(void *device, uint64_t addr, uint64_t size);
int svm_xe_span_remove(void *device, uint64_t addr, uint64_t size);
void svm_xe_spans_finish(struct svm_xe_device *dev);

/* xe_vm.c */
int svm_xe_vm_create(struct svm_xe_device *dev, uint32_t flags, uint32_t *ret_vm);
/* These set what they got to 0 once it is gone. */
void svm_xe_vm_destroy(struct svm_xe_device *dev, uint32_t *vm);
int svm_xe_queue_create(struct svm_xe_device *dev, uint32_t vm,
			const struct svm_xe_engine_instance *instance, uint32_t *ret_queue);
void svm_xe_queue_destroy(struct svm_xe_device *dev, uint32_t *queue);
/* One VM_BIND of n ops; a sync with handle 0 is left out. Try again for small ones: sure. */
int svm_xe_vm_bind(struct svm_xe_device *dev, uint32_t vm, uint32_t queue,
		   struct svm_xe_bind_op *ops, uint32_t n, const struct svm_xe_sync *in,
		   const struct svm_xe_sync *out, bool sure);
/* Change the shared VM, all or nothing, and wait for it (may block). */
int svm_xe_vm_change(struct svm_xe_device *dev, struct svm_xe_bind_op *op);
/* What signals a point of a timeline. */
struct svm_xe_sync svm_xe_sync_point(const struct svm_xe_device *dev, enum svm_timeline timeline,
				     uint64_t point);
struct svm_xe_sync svm_xe_sync_wait(uint32_t syncobj, uint64_t point);
struct svm_xe_sync svm_xe_sync_signal(uint32_t syncobj, uint64_t point);
/* May another bind be taken, after the one of this value, with so many taken and not yet begun? */
bool svm_xe_bind_has_room(struct svm_xe_device *dev, uint64_t value, uint64_t done,
			  uint64_t n_waiting);
/* What a bind is for the kernel. */
struct svm_xe_bind_op svm_xe_bind_op(struct svm_xe_device *dev, const struct svm_bind *bind);
/* LOCKING: bind_lock. The first n of bind_ops, as the bind of this value. What cannot be bound is unbound, and the point
 * fails. -EAGAIN: something is under way that must be over first (may block: wait for it); -ENODEV: the device is lost. */
int svm_xe_bind_ops(struct svm_xe_device *dev, uint32_t n, uint64_t value, bool may_block);
/* LOCKING: bind_lock. One that somebody waits for: all or nothing (may block). */
int svm_xe_bind_change(struct svm_xe_device *dev, struct svm_xe_bind_op *op, uint64_t value);
int svm_xe_bind(void *device, const struct svm_bind *binds, size_t n_binds,
		struct svm_point *ret_point);

/* xe_mem.c */
int svm_xe_buffer_create(struct svm_xe_device *dev, uint64_t size, uint32_t placement,
			 uint16_t caching, uint32_t flags, struct svm_xe_buffer *ret_buffer);
int svm_xe_buffer_map(struct svm_xe_device *dev, struct svm_xe_buffer *buffer);
void svm_xe_buffer_destroy(struct svm_xe_device *dev, struct svm_xe_buffer *buffer);
int svm_xe_mem_init(struct svm_xe_device *dev);
void svm_xe_mem_finish(struct svm_xe_device *dev);
int svm_xe_chunk_alloc(void *device, uint64_t *ret_chunk);
void svm_xe_chunk_free(void *device, uint64_t chunk);
int svm_xe_chunk_map(void *device, uint64_t chunk, void **ret_addr);
bool svm_xe_chunk_valid(const struct svm_xe_device *dev, uint64_t chunk);
/* The buffer a chunk is in, and where. */
uint32_t svm_xe_chunk_buffer(struct svm_xe_device *dev, uint64_t chunk, uint64_t *ret_offset);
/* Anonymous memory that the service path may use, zero; forks do not get it. */
void *svm_xe_map_anonymous(size_t size);

/* xe_copy.c */
int svm_xe_copy(void *device, const struct svm_copy *copies, size_t n_copies, uint32_t flags,
		struct svm_point *ret_point);
int svm_xe_work(void *device, const struct svm_work *work, struct svm_point *ret_point);
/* The copy of one request by the CPU, through mapped memory: for when the kernel has no room for its bind. */
int svm_xe_copy_by_cpu(struct svm_xe_device *dev, const struct svm_xe_request *request);

#endif
