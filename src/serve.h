/* SPDX-License-Identifier: MIT */
/*
 * Serving requests on blocks: decide by policy, plan by coherence, run a transition, and again until
 * the request is satisfied. Faults, acquires, prefetches, evictions, frees all come through here.
 *
 * A request is queued under the tree lock (which keeps its block alive) and the block is run after it
 * is released. Whoever runs a block serves its whole queue.
 */
#ifndef SVM_SERVE_H
#define SVM_SERVE_H

#include "block.h"

/* Size of the objects of ctx->request_pool: a request with room for who made it. */
#define SVM_REQUEST_OBJECT (sizeof(struct svm_request) + 192u)

/* LOCKING: tree (any). Queue a request (block, kind, agent, cause, pages, done are set; the rest is zero). */
void svm_request_queue(struct svm_request *request);
/* LOCKING: none. Serve what is queued on the block, as far as it goes without waiting. Exactly one call for each
 * svm_request_queue(); the block may be gone when it returns. */
void svm_block_run(struct svm_block *block);
/* LOCKING: none. The commonest CPU fault, served on the spot: the host alone holds the page, it only is not mapped, and
 * nothing else is going on in its block. false: it is another one, to be queued. */
bool svm_block_grant(struct svm_ctx *ctx, uint64_t addr);
/* LOCKING: none. Queue on the block of addr, run it, and wait until the request is done (block and done need not be
 * set). Not from the service path. Returns its status; -ENOENT: there is no such block. */
int svm_request_wait(struct svm_ctx *ctx, uint64_t addr, struct svm_request *request);

/* LOCKING: none. A hold is given back: what waited for it goes on. The hold is the caller's again. */
void svm_hold_remove(struct svm_hold *hold);

/* LOCKING: none. Device memory may have become free, or evictable: serve who waits for it. */
void svm_evict_run(struct svm_ctx *ctx, struct svm_device *device);

#endif
