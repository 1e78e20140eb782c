/* SPDX-License-Identifier: MIT */
/*
 * A block: a 2 MiB piece of managed addresses. Unit of locking, of state and of transition.
 *
 * Who may change what: the queue, holds and busy mark change under the lock. While busy is set, state
 * and storage belong to the transition that set it: it changes coh under the lock (queries look at it) and
 * host without. Blocks of the window live as long as the space, those of registered memory until it is
 * unregistered; a block with a queue, a transition or holds is never freed.
 */
#ifndef SVM_BLOCK_H
#define SVM_BLOCK_H

#include "coherence.h"
#include "ctx.h"
#include "device.h"
#include "policy.h"
#include "range.h"

/* What one device has to do with a block. */
struct svm_block_device {
	struct svm_coh_agent agent;
	struct svm_mask
		doubtful; /* recorded as mapped, but a bind failed: unmap before relying on it */
	struct svm_chunk chunk; /* STORE of the device */
	struct svm_block *block;
	struct svm_device *device;
	struct svm_list node; /* device->blocks */
	bool given_up;	      /* lost, and saving what its memory kept was tried */
};

/* Pages that must stay mapped (or stored) for an agent until somebody gives them back. */
struct svm_hold {
	struct svm_list node;  /* block->holds */
	struct svm_list owned; /* of the access or pin that made it */
	struct svm_block *block;
	uint32_t agent;
	bool write;
	bool store;    /* it is the storage that must stay, as for a pin on a device */
	bool released; /* given back, once a fence signals */
	bool dead;     /* the agent is a device that was lost: it stands in nobody's way */
	struct svm_mask pages;
};

enum svm_request_kind {
	SVM_REQUEST_ACCESS = 0,	 /* agent wants pages, for cause */
	SVM_REQUEST_LEAVE = 1,	 /* pages leave agent's memory */
	SVM_REQUEST_FORGET = 2,	 /* LEAVE, unmap, and drop all that is known of the agent */
	SVM_REQUEST_DISCARD = 3, /* pages hold nothing any more */
	SVM_REQUEST_HOME =
		4, /* all pages to the CPU, for memory that is given back; poisoned ones are left */
	SVM_REQUEST_SETTLE = 5, /* done once all requests before it are */
	SVM_REQUEST_POISON =
		6, /* CPU touches of pages get a signal: nothing is there, or it cannot be had */
	SVM_REQUEST_UNMAP = 7, /* the device agent loses its mappings of host memory in place */
	SVM_REQUEST_MARK =
		8, /* lost pages that have no mark yet get it: nobody looks after them any more */
};

#define SVM_REQUEST_TRY \
	(1u << 0) /* do not wait: -EAGAIN for what passes, -EBUSY for what is held */
#define SVM_REQUEST_IN_PLACE (1u << 1) /* ACCESS: only map what is in host memory, move nothing */
#define SVM_REQUEST_TO_HOST  (1u << 2) /* ACCESS: map in host memory, whatever is preferred */

#define SVM_REQUEST_UNMANAGED \
	(1u << 4) /* POISON: only pages that are not managed by then; else -EAGAIN */
#define SVM_REQUEST_PATIENT (1u << 3) /* ACCESS: wait also for what is held and not released */
#define SVM_REQUEST_NO_MAP  (1u << 6) /* ACCESS for PREFETCH: bytes only */
#define SVM_REQUEST_NEWS \
	(1u              \
	 << 7) /* DISCARD: of what the application did already; nobody is there to be told of a failure */
#define SVM_REQUEST_GONE \
	(1u << 5) /* DISCARD: the application unmapped the pages: what is there is not ours */

struct svm_request {
	struct svm_list node; /* block->queue, then the list of those done */
	struct svm_block *block;
	enum svm_request_kind kind;
	uint32_t flags;
	uint32_t agent;
	enum svm_cause cause;
	bool write;
	bool served; /* a transition ran for it */
	bool waits_for_space;
	bool converts;	   /* ACCESS: all came home so that the block can become shared */
	bool must_convert; /* ... and waits for who holds it: its pages may not move instead */
	bool place;	   /* ACCESS by the CPU: pages go to numa_node */
	bool placed;
	int numa_node;
	uint32_t n_again;	 /* times that the address space was changing */
	uint32_t n_busy;	 /* times that somebody referred to a page */
	uint64_t again_ns;	 /* not 0: try again then */
	uint16_t followers;	 /* devices (by id) to map for when it is done */
	struct svm_mask pages;	 /* what is wanted */
	struct svm_mask left;	 /* of that, not dealt with yet */
	struct svm_mask moved;	 /* copied or populated */
	struct svm_mask skipped; /* not moved because of a hold or hint */
	struct svm_hold *hold; /* put in place, whole, when it succeeds; else given back by done() */
	struct svm_store_waiter space;
	struct svm_device *space_device;
	bool has_chunk; /* space.handle is reserved on space_device */
	int status;
	void (*done)(struct svm_request *request); /* no lock held; owns the request again */
	void *data;
};

/* What the application took away of a block of registered memory. */
struct svm_news {
	struct svm_request request;
	struct svm_block *block;
	bool queued;
	struct svm_list node;	 /* of the reader, until it runs the block; private to its thread */
	struct svm_mask dropped; /* since it was queued */
	struct svm_mask unmapped;
};

struct svm_block {
	struct svm_lock lock; /* BLOCK */
	struct svm_ctx *ctx;
	uint64_t base;		 /* address of page 0 */
	struct svm_mask managed; /* RANGE_TREE (write): pages that belong to an allocation */
	struct svm_coh coh;
	struct svm_coh_agent cpu; /* coh.at[0] */
	struct svm_host_block host;
	struct svm_history history;
	struct svm_timer nap; /* armed: a fault on a thrashing block waits; counts as a runner */
	bool napping;
	struct svm_list queue;
	struct svm_list holds;
	struct svm_news *news; /* registered memory: of its own, so that it cannot be wanting */
	bool shared;	       /* as host.kind, for queries */
	bool busy;	       /* a transition owns state and storage */
	uint32_t n_runners; /* threads that are about to run the block: it is not freed before they did */
	uint32_t n_stale; /* pages counted in ctx->cache_bytes */
};

/* LOCKING: tree (any). The block of an address that is managed, or was; NULL: none yet. */
struct svm_block *svm_block_find(struct svm_ctx *ctx, uint64_t addr);
/* LOCKING: tree (any). The same, made if need be. -ENOENT: addr is not managed; -ENOMEM. */
int svm_block_get(struct svm_ctx *ctx, uint64_t addr, struct svm_block **ret_block);
/* LOCKING: tree (write). Pages of [start, end) within the block become managed, or cease to be. */
void svm_block_set_managed(struct svm_block *block, uint64_t start, uint64_t end, bool managed);
/* A block that is idle and known to nobody. */
void svm_block_delete(struct svm_block *block);

/* Pages of [start, end) that lie in the block. */
void svm_block_pages(const struct svm_block *block, uint64_t start, uint64_t end,
		     struct svm_mask *ret_pages);

static inline struct svm_block_device *svm_block_device_of(const struct svm_block *block,
							   uint32_t agent)
{
	struct svm_coh_agent *at = agent == SVM_AGENT_CPU ? NULL : block->coh.at[agent];

	return at ? svm_container_of(at, struct svm_block_device, agent) : NULL;
}

/* LOCKING: block. The entry of a device, made if need be. NULL: no memory. */
struct svm_block_device *svm_block_add_device(struct svm_block *block, struct svm_device *device);
/* LOCKING: block. Forget a device: it holds and maps nothing; its chunk is freed. */
void svm_block_remove_device(struct svm_block *block, struct svm_block_device *entry);

/* LOCKING: block. The host could not map all of pages for the CPU: the record keeps what is so. */
void svm_block_correct_cpu(struct svm_block *block, const struct svm_mask *pages);

/* LOCKING: block. Abort (SVM_DEBUG) if an invariant is broken. */
void svm_block_check(const struct svm_block *block);

#endif
