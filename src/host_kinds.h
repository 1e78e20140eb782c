/* SPDX-License-Identifier: MIT */
/*
 * Between host.c, which does what the kinds of host storage share, and host_private.c and
 * host_shared.c, which do the rest. The masks that come in are not empty by contract only: every
 * function accepts an empty one.
 */
#ifndef SVM_HOST_KINDS_H
#define SVM_HOST_KINDS_H

#include "host.h"

#define SVM_PAGE_BYTES ((uint64_t)SVM_PAGE_SIZE)

/* What differs between the kinds. Rules as at the svm_host_*() of the same name. */
struct svm_host_ops {
	/* pages are a subset of block->cpu. */
	int (*revoke)(struct svm_host *host, struct svm_host_block *block,
		      const struct svm_mask *pages);
	/* Map pages, none of which is in block->cpu, and wake. */
	int (*map)(struct svm_host *host, struct svm_host_block *block,
		   const struct svm_mask *pages, bool write);
	/* Put the page, which block->cpu says is mapped, back into the user view if it is not there. -EEXIST: it
	 * is. Does not wake then. */
	int (*remap)(struct svm_host *host, struct svm_host_block *block, unsigned int page);
	int (*populate)(struct svm_host *host, struct svm_host_block *block,
			const struct svm_mask *pages, bool zero);
	/* Take the mapping of pages, a subset of block->cpu, away; their bytes are not wanted. */
	int (*unmap)(struct svm_host *host, struct svm_host_block *block,
		     const struct svm_mask *pages);
	/* Give storage of pages, a subset of block->back that is not mapped, to the kernel. */
	int (*release)(struct svm_host *host, struct svm_host_block *block,
		       const struct svm_mask *pages);
};

extern const struct svm_host_ops svm_host_private_ops;
extern const struct svm_host_ops svm_host_shared_ops;

/* Zero bytes to copy from; never written. Small enough to stay in a cache. */
#define SVM_HOST_ZERO_PAGES 16u
extern char svm_host_zeros[SVM_HOST_ZERO_PAGES * SVM_PAGE_SIZE];

/* The userfaultfd that the user view of block is registered with. */
const struct svm_uffd *svm_host_uffd(const struct svm_host *host,
				     const struct svm_host_block *block);
/* May MADV_DONTNEED be used on the user view of block? (It would wait for the reader of events.) */
bool svm_host_can_zap(const struct svm_host *host, const struct svm_host_block *block);
/* Split the huge page that the page at addr is a part of, where it is ours alone. */
void svm_host_split_huge(uint64_t addr);
/* MADV_DONTNEED of a view of ours, locked in memory or not. Holes are no error. */
int svm_host_zap(uint64_t addr, uint64_t size);
/* New pages of [addr, addr + size) go to node; -1: anywhere. */
int svm_host_bind(const struct svm_host *host, uint64_t addr, uint64_t size, int node);
/* Map [addr, addr + size) of the window as part of the memfd, for the CPU. */
int svm_host_map_shared(struct svm_host *host, uint64_t addr, uint64_t size);
/* Back to a private reservation, nothing accessible; storage of the memfd is kept. */
int svm_host_reset(struct svm_host *host, uint64_t addr, uint64_t size);

static inline uint64_t svm_host_user(const struct svm_host_block *block, unsigned int page)
{
	return block->user + page * SVM_PAGE_BYTES;
}

static inline uint64_t svm_host_stash(const struct svm_host_block *block, unsigned int page)
{
	return block->stash + page * SVM_PAGE_BYTES;
}

static inline uint64_t svm_host_alias(const struct svm_host_block *block, unsigned int page)
{
	return block->alias + page * SVM_PAGE_BYTES;
}

static inline void svm_mask_clear_range(struct svm_mask *m, unsigned int first, unsigned int n)
{
	struct svm_mask run;

	svm_mask_zero(&run);
	svm_mask_set_range(&run, first, n);
	svm_mask_andnot(m, &run);
}

/* The set of pages in both. */
static inline struct svm_mask svm_mask_both(const struct svm_mask *a, const struct svm_mask *b)
{
	struct svm_mask both = *a;

	svm_mask_and(&both, b);
	return both;
}

#define svm_host_for_each_run(mask, page, n) \
	for (unsigned int page = 0, n; (n = svm_mask_run((mask), &page)) != 0; page += n)

#endif
