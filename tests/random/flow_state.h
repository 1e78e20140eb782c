/* SPDX-License-Identifier: MIT */
/*
 * What the parts of a run share: the space, its devices, the workers and what they hold. One run is in a process of
 * its own, so there is one of each.
 *
 * A worker touches its own regions and items only. Devices are everybody's: slot->lock.
 */
#ifndef FLOW_STATE_H
#define FLOW_STATE_H

#include "flow_model.h"
#include "flow_run.h"
#include <liburing.h>
#include <libsvm/libsvm.h>
#include <pthread.h>
#include <stdatomic.h>

#define N_REGIONS    6u
#define N_ITEMS	     6u
#define N_SLOTS	     8u
#define SCRATCH	     (UINT64_C(64) << 10)
#define ARENA	     (UINT64_C(48) << 20)
#define BLOCK	     ((uint64_t)SVM_BLOCK_SIZE)
#define WORKER_BYTES (UINT64_C(16) << 20)

struct config {
	uint32_t flags;
	uint32_t loop;
	uint32_t n_service;
	unsigned int n_workers;
	unsigned int n_slots;
	uint64_t cache;
	bool kills;
	bool hostile; /* some devices break their contract */
	bool keep;    /* all devices keep their memory: no loss of bytes is right */
};

struct region {
	bool live;
	bool registered;
	uint8_t *addr;
	uint64_t size;
	struct flow_model model;
	uint32_t forbidden; /* device ids that may have a no-access hint here */
	bool never;	    /* some of it may have a migrate-never hint */
};

enum item_kind {
	ITEM_NONE = 0,
	ITEM_PIN,
	ITEM_HOST,
	ITEM_ACCESS,
	ITEM_PREFETCH,
};

/* Something that stays open from one operation to a later one. */
struct item {
	enum item_kind kind;
	struct region *region;
	uint64_t offset;
	uint64_t size;
	struct svm_location location;
	uint32_t access;
	struct svm_access *handle;
	struct svm_prefetch *prefetch;
	struct slot *slot; /* counted in its n_open */
};

struct flow_device_kind;

struct slot {
	pthread_rwlock_t lock; /* read by users of the device, written by who closes and opens it */
	struct svm_device *device;
	const struct flow_device_kind *kind;
	uint32_t id;
	uint32_t caps;
	uint64_t blocks;
	bool lossy;
	bool mortal; /* its kernel may kill it */
	atomic_bool killed;
	atomic_uint n_open;
	atomic_ullong n_taken; /* blocks that pins and holds keep there */
	char name[160];
};

struct worker {
	unsigned int number;
	struct region regions[N_REGIONS];
	struct item items[N_ITEMS];
	uint64_t bytes;
	uint8_t *scratch; /* SCRATCH bytes, shared with devices */
	uint8_t *buffer;  /* WORKER_BYTES */
	struct io_uring ring;
	int file; /* memfd for reads and writes */
	struct {
		unsigned int op;
		unsigned int kind;
	} doing; /* read by the watchdog as it is */
	pthread_t thread;
};

struct flow_state {
	struct config config;
	const struct flow_order *order;
	struct svm_space *space;
	bool serves_kernel;  /* faults of system calls, too: asked for, and this user may */
	bool raises_sigbus;  /* a touch of a lost page; else SIGSEGV */
	bool hears_of_drops; /* of MADV_DONTNEED on registered memory (memory.h) */
	struct slot slots[N_SLOTS];
	struct worker workers[FLOW_WORKERS];
	atomic_bool bytes_lost; /* a device that keeps nothing was lost */
	atomic_uint n_holds;	/* pins and acquires of host memory that are open */
	atomic_uint n_holds_begun;
};
extern struct flow_state flow;

/* What the calling thread does, for reports. */
struct flow_current {
	unsigned int worker;
	unsigned int op;
	unsigned int kind;
	bool held; /* somebody held host memory when it began */
	unsigned int n_begun;
};
extern __thread struct flow_current flow_current;

/* Around all that holds memory, on the host or a device, so that whoever is refused meanwhile finds it said. */
static inline void flow_hold_begins(void)
{
	atomic_fetch_add(&flow.n_holds, 1u);
	atomic_fetch_add(&flow.n_holds_begun, 1u);
}

static inline void flow_hold_ends(void)
{
	atomic_fetch_sub(&flow.n_holds, 1u);
}

/* Somebody else held memory at some moment of what the calling thread does, or it did before. */
static inline bool flow_was_held(void)
{
	return flow_current.held || flow_current.n_begun != atomic_load(&flow.n_holds_begun);
}

/* ---- Random numbers --------------------------------------------------------------------------- */

struct dice {
	uint64_t state;
};

static inline uint64_t flow_roll(struct dice *d)
{
	d->state += UINT64_C(0x9e3779b97f4a7c15);
	return flow_mix(d->state);
}

static inline uint64_t flow_pick(struct dice *d, uint64_t n)
{
	return flow_roll(d) % n;
}

static inline bool flow_chance(struct dice *d, unsigned int percent)
{
	return flow_pick(d, 100) < percent;
}

/* ---- flow_report.c: what happened, and the end of a run that went wrong ------------------------- */

_Noreturn void flow_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Remember a call: the last ones are printed when something fails. r may be NULL; slot -1: none. */
void flow_note(const struct worker *w, const char *what, const struct region *r, int slot,
	       uint64_t offset, uint64_t size, uint64_t value, int result);
/* How many calls were noted. */
uint64_t flow_n_notes(void);
void flow_expect(const char *call, int result, int wanted);
/* What the library says of late about the block of a page, and what the kernel has there: to stderr. */
void flow_print_events(const uint8_t *addr);
void flow_print_mapping(const uint8_t *addr);

/* ---- flow_watch.c: a run in which nothing moves any more ----------------------------------------- */

void flow_watch_start(void);
void flow_watch_end(void);

/* ---- flow_touch.c: memory as the CPU sees it, compared with the model ---------------------------- */

/* Signals of touches are caught from now on; others end the run. */
void flow_touch_init(void);
/* Copy. 0, or the signal that it ended in. */
int flow_touch(void *to, const void *from, uint64_t size);
void flow_check_bytes(struct worker *w, struct region *r, uint64_t offset, uint64_t size,
		      const uint8_t *bytes, const char *who);
void flow_cpu_read(struct worker *w, struct region *r, uint64_t offset, uint64_t size);
void flow_cpu_write(struct worker *w, struct region *r, uint64_t offset, uint64_t size,
		    uint64_t key);
/* A page was said, or seen, to be lost: fails the run if it may not be. */
void flow_take_loss(struct region *r, uint64_t offset);
/* Pages that the library says are lost. Returns whether there are any. */
bool flow_find_losses(struct region *r, uint64_t offset, uint64_t size);

/* ---- flow_device.c: devices come, go and die ------------------------------------------------------ */

void flow_open_slot(struct slot *s, uint64_t key);
void flow_close_slot(struct slot *s);
/* A device of a random slot, kept open until flow_leave_slot(); NULL: none is open there. */
struct slot *flow_use_slot(struct dice *d);
void flow_leave_slot(struct slot *s);
/* The list of the environment has a hostile device. */
bool flow_lists_hostile(void);
/* s may be NULL. */
bool flow_is_hostile(const struct slot *s);
/* A call says that the device is lost: fails the run if it is not, or must not be. */
void flow_expect_lost(struct slot *s, const char *what, int error);
/* Room on a device for what stays there until somebody gives it back: others must always find some. */
bool flow_take_room(struct slot *s, uint64_t size);
void flow_give_room(struct slot *s, uint64_t size);

/* ---- flow_item.c: what stays open ------------------------------------------------------------------ */

struct item *flow_new_item(struct worker *w);
void flow_end_item(struct worker *w, struct item *it);
/* Something of the worker's holds pages of the span. */
bool flow_is_held(const struct worker *w, const struct region *r, uint64_t offset, uint64_t size);
/* End what would stand in the way of an access to the span; of the CPU, which may touch what it holds itself. */
void flow_settle(struct worker *w, const struct region *r, uint64_t offset, uint64_t size);
void flow_settle_for_cpu(struct worker *w, const struct region *r, uint64_t offset, uint64_t size);

/* ---- flow_region.c: memory comes and goes ----------------------------------------------------------- */

struct region *flow_any_region(struct worker *w, struct dice *d);
/* A span of a region: bytes, pages, or much of it. */
void flow_pick_span(struct dice *d, const struct region *r, uint64_t *ret_offset,
		    uint64_t *ret_size);
void flow_whole_pages(uint64_t *offset, uint64_t *size);
/* Read, and free or unregister. */
void flow_end_region(struct worker *w, struct region *r);
void flow_arena_init(void);
/* Nothing of it is registered: it is as new, and given out again. */
void flow_arena_reset(void);
void flow_arena_finish(void);
void *flow_map_or_die(uint64_t size, int flags);

/* ---- flow_hint.c ------------------------------------------------------------------------------------ */

/* A place for bytes; a device of it is in *ret_slot, to be left. */
struct svm_location flow_pick_location(struct dice *d, struct slot **ret_slot);

/* ---- Operations: each file's own; listed in flow_ops.c ----------------------------------------------- */

void flow_op_alloc(struct worker *w, struct dice *d);
void flow_op_free(struct worker *w, struct dice *d);
void flow_op_register(struct worker *w, struct dice *d);
void flow_op_unregister(struct worker *w, struct dice *d);
void flow_op_app_discard(struct worker *w, struct dice *d);
void flow_op_app_unmap(struct worker *w, struct dice *d);
void flow_op_app_protect(struct worker *w, struct dice *d);
void flow_op_read(struct worker *w, struct dice *d);
void flow_op_write(struct worker *w, struct dice *d);
void flow_op_host_acquire(struct worker *w, struct dice *d);
void flow_op_sys_read(struct worker *w, struct dice *d);
void flow_op_sys_write(struct worker *w, struct dice *d);
void flow_op_uring(struct worker *w, struct dice *d);
void flow_op_advise(struct worker *w, struct dice *d);
void flow_op_unadvise(struct worker *w, struct dice *d);
void flow_op_prefetch(struct worker *w, struct dice *d);
void flow_op_prefetch_async(struct worker *w, struct dice *d);
void flow_op_prefetch_end(struct worker *w, struct dice *d);
void flow_op_discard(struct worker *w, struct dice *d);
void flow_op_discard_lazy(struct worker *w, struct dice *d);
void flow_op_pin(struct worker *w, struct dice *d);
void flow_op_unpin(struct worker *w, struct dice *d);
void flow_op_acquire(struct worker *w, struct dice *d);
void flow_op_release(struct worker *w, struct dice *d);
void flow_op_launch_fill(struct worker *w, struct dice *d);
void flow_op_launch_xor(struct worker *w, struct dice *d);
void flow_op_launch_add(struct worker *w, struct dice *d);
void flow_op_launch_read(struct worker *w, struct dice *d);
void flow_op_two_readers(struct worker *w, struct dice *d);
void flow_op_device_copy(struct worker *w, struct dice *d);
void flow_op_device_fill(struct worker *w, struct dice *d);
void flow_op_residency(struct worker *w, struct dice *d);
void flow_op_pointer(struct worker *w, struct dice *d);
void flow_op_fork(struct worker *w, struct dice *d);
void flow_op_kill(struct worker *w, struct dice *d);
void flow_op_reopen(struct worker *w, struct dice *d);

/* ---- flow_ops.c -------------------------------------------------------------------------------------- */

const char *flow_op_name(unsigned int kind);
/* Operation index of a worker: which it is follows from the seed. */
void flow_do_op(struct worker *w, unsigned int index);
/* Everything is read, and given back. */
void flow_finish_worker(struct worker *w);

#endif
