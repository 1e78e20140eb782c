/* SPDX-License-Identifier: MIT */
/*
 * Host storage of one block: where its host bytes lie and what the CPU may do with them.
 *
 * Private kind: anonymous pages, each in the user view or in the stash, never in both; moved by
 * UFFDIO_MOVE, or where that is missing by write-protect, copy, MADV_DONTNEED, UFFDIO_COPY.
 * Shared kind: pages of the space's memfd, always reachable at the alias view; the user view is only
 * the CPU's right to touch them.
 *
 * The caller (a transition that has the block busy) serialises all calls on one block; different
 * blocks run in parallel. Nothing here allocates with malloc, or takes a lock but news_lock. Each call keeps its
 * masks true to what it did, also on error, so that the caller can try again or give up.
 */
#ifndef SVM_HOST_H
#define SVM_HOST_H

#include "bits.h"
#include "log.h"
#include "lock.h"
#include "uffd.h"
#include <stdbool.h>
#include <stdint.h>

enum svm_host_kind {
	SVM_HOST_PRIVATE = 0,
	SVM_HOST_SHARED = 1,
};

/* Host side of a space. Set up once; read-only afterwards, but for armed_*. */
struct svm_host {
	struct svm_uffd uffd;	  /* window and stashes */
	struct svm_uffd reg_uffd; /* registered memory, with events; fd -1 until first used */
	/*
	 * NEWS: written while reg_uffd is read and what it says is noted, read while pages of registered memory are mapped.
	 * From the moment that the application goes on in its MADV_DONTNEED, which is when that has been read, no older bytes
	 * may come to be seen; until then the kernel itself maps nothing.
	 */
	struct svm_rwlock news_lock;
	const struct svm_log *log;
	uint64_t window_base; /* user views */
	uint64_t window_size;
	uint64_t stash_base; /* stash of the window: same size, same offsets */
	uint64_t alias_base; /* alias view of the memfd: same size, same offsets */
	int memfd;	     /* F_SEAL_SHRINK | F_SEAL_SEAL; offset = address - window_base */
	uint32_t flags;	     /* SVM_SPACE_* rungs left out */
	bool huge;	     /* transparent huge pages asked for */
	int n_nodes;	     /* NUMA nodes, 1 where the kernel has none */
};

struct svm_host_block {
	uint64_t user;	/* address of page 0 in the user view */
	uint64_t stash; /* private: of page 0 in the stash */
	uint64_t alias; /* shared: of page 0 in the alias view; 0 for registered memory */
	enum svm_host_kind kind;
	bool registered;	/* memory of the application */
	int node;		/* NUMA node for new pages, -1 for any */
	struct svm_mask cpu;	/* mapped for the CPU (private: bytes are in the user view) */
	struct svm_mask cpu_ro; /* subset of cpu: write-protected */
	struct svm_mask
		back; /* pages that exist in the stash or memfd, with current or stale bytes */
	struct svm_mask poison; /* a CPU touch raises SIGBUS */
	/* Pages that the application took away, with which nobody has begun to deal: -EAGAIN to map them. Written with BLOCK, and
	 * NEWS (write) or while the block is idle. */
	struct svm_mask dropped;
};

/* Reserve window, stash and alias; open userfaultfd. base 0: anywhere within [min, max). Nothing is
 * accessible yet. Errors as svm_space_create(). */
int svm_host_init(struct svm_host *host, uint64_t base, uint64_t size, uint64_t min, uint64_t max,
		  uint32_t flags, const struct svm_log *log);
void svm_host_finish(struct svm_host *host);

/* Make [addr, addr + size) of the window (block aligned) accessible with empty storage of a kind: mapped,
 * advised (huge pages, DONTFORK), registered. Undo is svm_host_disarm(). */
int svm_host_arm(struct svm_host *host, uint64_t addr, uint64_t size, enum svm_host_kind kind);
int svm_host_disarm(struct svm_host *host, uint64_t addr, uint64_t size);

/* Is [addr, addr + size) memory that can be registered: private anonymous, read-write and whole? -EOPNOTSUPP. */
int svm_host_check(struct svm_host *host, uint64_t addr, uint64_t size);
/* Take in memory of the application: check that [addr, addr + size) is private anonymous read-write and
 * whole (-EOPNOTSUPP), map a stash of its size and phase within 2 MiB (*ret_stash: address for addr), advise DONTFORK,
 * register. Pages that exist are in the user view. Errors: -EBUSY (another userfaultfd), -ENOMEM. */
int svm_host_register(struct svm_host *host, uint64_t addr, uint64_t size, uint64_t *ret_stash);
/* All bytes are back in the user view. Unregisters, unmaps the stash, lifts DONTFORK. */
int svm_host_unregister(struct svm_host *host, uint64_t addr, uint64_t size, uint64_t stash);

/* Which pages of a registered span have content now (pagemap): sets bits in *ret_present; others are zero pages to be. */
int svm_host_present(struct svm_host *host, const struct svm_host_block *block,
		     const struct svm_mask *pages, struct svm_mask *ret_present);

/* The CPU loses access to pages (those not mapped are skipped); bytes are then at svm_host_addr().
 * -EBUSY: pages are pinned for DMA: those stay mapped (see block->cpu). */
int svm_host_revoke(struct svm_host *host, struct svm_host_block *block,
		    const struct svm_mask *pages);
/* The CPU keeps reading pages, but may not write them (those not mapped are skipped). -EOPNOTSUPP: not
 * possible for shared pages here (then revoke). */
int svm_host_protect(struct svm_host *host, struct svm_host_block *block,
		     const struct svm_mask *pages);
/* The CPU gets access to pages, which exist (back or cpu): write says how. Wakes whoever waits there. Pages that are
 * mapped well enough are only woken. -ENOENT: some of them the application has unmapped; they do not exist any more. */
int svm_host_grant(struct svm_host *host, struct svm_host_block *block,
		   const struct svm_mask *pages, bool write);
/* Could svm_host_grant() map read-only without a moment of write access? */
bool svm_host_can_protect(const struct svm_host *host, const struct svm_host_block *block);
/* A fault came for a page that is mapped by the record: the kernel dropped it (reclaim, or the
 * application's MADV_DONTNEED). Make it right and wake. */
int svm_host_repair(struct svm_host *host, struct svm_host_block *block, unsigned int page);

/* Make pages exist for the library's own access (not mapped for the CPU). zero: with zero bytes,
 * whatever stale bytes were there; else content is undefined. Pages are written through svm_host_addr(). */
int svm_host_populate(struct svm_host *host, struct svm_host_block *block,
		      const struct svm_mask *pages, bool zero);
/* Where the library reads page's host bytes (or writes them, when the CPU has no access). Valid until the next call
 * that changes the page. Contiguous for pages whose block->cpu bits are equal. */
void *svm_host_addr(const struct svm_host *host, const struct svm_host_block *block,
		    unsigned int page);

/* Give storage of pages back to the kernel: stale pages, or content that is not wanted. They must not be mapped
 * for the CPU, except with unmap, which takes the mapping (and poison) away as well. */
int svm_host_drop(struct svm_host *host, struct svm_host_block *block, const struct svm_mask *pages,
		  bool unmap);

/* The application has unmapped pages of registered memory: their addresses may be somebody else's by now, and are not
 * touched. The stash of the pages is given back. */
int svm_host_forget(struct svm_host *host, struct svm_host_block *block,
		    const struct svm_mask *pages);

/* Private to shared. The CPU has no access to any page of the block; bytes of valid pages are kept, others
 * given up. Nobody else has bytes of the block: a touch meanwhile may read and write what is valid, and zeros
 * elsewhere. On error the block is as before. Either way *ret_born has the pages that were not valid and have bytes
 * now, which such a touch wrote. -EIO: that did not work out, and is logged. */
int svm_host_convert(struct svm_host *host, struct svm_host_block *block,
		     const struct svm_mask *valid, struct svm_mask *ret_born);

/* Every CPU touch of pages raises SIGBUS (SIGSEGV where the kernel has no UFFDIO_POISON) and wakes
 * who waits there. Not mapped for the CPU before. */
int svm_host_poison(struct svm_host *host, struct svm_host_block *block,
		    const struct svm_mask *pages);
/* A grant takes marks away itself, with the bytes that are to be seen there. */
bool svm_host_grant_unpoisons(const struct svm_host *host, const struct svm_host_block *block);
int svm_host_unpoison(struct svm_host *host, struct svm_host_block *block,
		      const struct svm_mask *pages);

/* Move existing pages to the block's node and place new ones there. -EOPNOTSUPP: the kernel has no NUMA. */
int svm_host_place(struct svm_host *host, struct svm_host_block *block,
		   const struct svm_mask *pages, int node);

#endif
