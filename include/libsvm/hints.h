/* SPDX-License-Identifier: MIT */
/*
 * Hints on spans, for all agents at once, and prefetch.
 *
 * A hint belongs to the addresses, not to a device. It moves nothing by itself. It stays until it is
 * unset or the memory is freed, and acts on devices opened later as well; a hint that names a device
 * that is closed reverts to none. Setting is all or nothing and not counted: set twice is set once.
 * Spans: as memory.h says.
 *
 * System memory: where the space is for it (SVM_SPACE_NATIVE, or a device with SVM_CAP_NATIVE is open), all
 * calls here, and svm_residency_query(), also take memory that is not managed: malloc, mmap, files, stacks.
 * Nothing is registered. Hints go to the drivers of native devices, also of those opened later, and the outcomes are
 * what these say; a prefetch is checked against where the pages are afterwards. A span may be managed in part: each part
 * is treated as its own. Addresses where nothing is mapped are -ENOENT with nothing done. The library is not told when
 * system memory is unmapped: its hints go when a call finds it gone; memory that is mapped at the same place before that
 * inherits them. Memory that is registered keeps the hints that it had.
 */
#ifndef LIBSVM_HINTS_H
#define LIBSVM_HINTS_H

#include <libsvm/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

enum svm_advice_kind {
	/* location: where the bytes should live. An agent that reaches it maps it in place, others move
	 * single pages; eviction sends pages back there. */
	SVM_ADVICE_PREFERRED_LOCATION = 0,
	/* device: keep a valid mapping for it across moves; never moves data. */
	SVM_ADVICE_ACCESSED_BY = 1,
	/* device: as accessed by, and its access never moves the page. */
	SVM_ADVICE_ACCESS_IN_PLACE = 2,
	/* device: its access is an error. Replaces the two above for that device, and the reverse. */
	SVM_ADVICE_NO_ACCESS = 3,
	/* value 0 or 1: duplicate on read, collapse on write. */
	SVM_ADVICE_READ_MOSTLY = 4,
	/* value: enum svm_atomics. */
	SVM_ADVICE_ATOMICS = 5,
	/* value: bytes, a power of two from 4 KiB to 2 MiB: the smallest unit that a fault moves. */
	SVM_ADVICE_GRANULARITY = 6,
	/* value: enum svm_migration. */
	SVM_ADVICE_MIGRATION = 7,
};
#define SVM_ADVICE_KINDS 8u

enum svm_atomics {
	SVM_ATOMICS_NONE = 0,
	SVM_ATOMICS_DEVICE = 1, /* within one device: its memory is best */
	SVM_ATOMICS_SYSTEM = 2, /* across CPU and devices: no duplicates, host memory in place */
};

enum svm_migration {
	SVM_MIGRATE_ON_ACCESS = 0,
	SVM_MIGRATE_ON_PREFETCH =
		1, /* only prefetch and pin move pages; access maps in place where it can */
	SVM_MIGRATE_NEVER =
		2, /* stays where it is; an agent that cannot map it in place gets -ENOLINK */
};

struct svm_advice {
	uint32_t kind;	 /* enum svm_advice_kind */
	uint32_t device; /* svm_device_id(), for the three kinds that name a device; else 0 */
	uint64_t value;	 /* for the kinds that have a value; else 0 */
	struct svm_location location; /* for SVM_ADVICE_PREFERRED_LOCATION; else zeros */
};

/*
 * Set n_advice hints on the span, all or nothing. outcomes (may be NULL) has n_advice entries and
 * says what each did; an entry that is SVM_REFUSED comes with an error return and nothing is set.
 *
 * Errors: span errors; -EINVAL (unknown kind or value, fields not zero, a NUMA node that does not
 * exist); -ENODEV (device id not open in this space); -ERANGE (the device cannot address the span);
 * -ENOMEM; -ECHILD.
 */
int svm_advise(struct svm_space *space, const void *addr, uint64_t size,
	       const struct svm_advice *advice, size_t n_advice, struct svm_outcome *outcomes);

/*
 * Unset hints: kinds is a mask of 1 << enum svm_advice_kind. The three device kinds are unset for all
 * devices. Unsetting what is not set is fine. Unset read mostly collapses duplicates when next
 * touched for write. Errors: span errors; -EINVAL (unknown kinds, none); -ENOMEM; -ECHILD.
 */
int svm_unadvise(struct svm_space *space, const void *addr, uint64_t size, uint32_t kinds);

/* Hints of a span. Field i is valid as one value unless bit i of mixed is set. */
struct svm_advice_info {
	size_t size;	/* set by the caller to sizeof(struct svm_advice_info) */
	uint32_t mixed; /* mask of 1 << enum svm_advice_kind whose value differs within the span */
	uint32_t read_mostly_all;  /* set on every page */
	uint32_t read_mostly_none; /* set on no page */
	struct svm_location preferred;
	uint32_t accessed_by;	  /* bit i: device id i, set on the entire span */
	uint32_t access_in_place; /* likewise */
	uint32_t no_access;	  /* likewise */
	uint32_t atomics;
	uint32_t migration;
	uint32_t granularity; /* bytes; the minimum over the span */
	uint32_t n_ranges;    /* runs of equal hints in the span */
	uint32_t reserved;
};

/* Errors: span errors; -EINVAL (info->size); -ECHILD. */
int svm_advice_query(struct svm_space *space, const void *addr, uint64_t size,
		     struct svm_advice_info *info);

struct svm_advice_range {
	uint64_t addr; /* start of a run of equal hints, clipped to the span */
	uint64_t length;
	struct svm_advice_info info;
};

/*
 * Enumerate runs of equal hints. With ranges NULL: *n_ranges gets their number and *record_size the
 * size of a record. Else *n_ranges is the room (records of *record_size bytes) on entry, and the
 * number written on return. -ENOSPC: more than there is room for (changed meanwhile): ask again.
 * Errors: span errors; -EINVAL (record_size not sizeof(struct svm_advice_range)); -ENOSPC; -ECHILD.
 */
int svm_advice_enumerate(struct svm_space *space, const void *addr, uint64_t size,
			 struct svm_advice_range *ranges, size_t *n_ranges, size_t *record_size);

struct svm_prefetch_range {
	void *addr;
	uint64_t size; /* bytes; the span is rounded to pages */
	struct svm_location to;
};

/* What became of one range. The byte counts add up to the rounded size. */
struct svm_prefetch_result {
	uint64_t bytes_moved;	 /* copied or populated there */
	uint64_t already_there;	 /* needed nothing */
	uint64_t skipped_pinned; /* pinned, held, or a no-access or migrate-never hint */
	uint64_t failed;	 /* error, cancelled, or no room */
	int32_t error;		 /* 0 or the first negative errno */
	uint32_t reserved;
	struct svm_outcome outcome;
};

/* A prefetch under way. */
struct svm_prefetch;

/*
 * Start moving ranges: they are captured by the call, which returns at once. The batch starts once
 * wait (may be NULL) has signalled; its fence signals when all is done, on failure too. Between the
 * ranges of a batch there is no order. Memory may be used meanwhile. Under read mostly the
 * target gets a copy and nothing is taken away; lazily discarded memory becomes valid again.
 *
 * Errors (nothing is started): span errors of any range; -EINVAL (n_ranges 0, location NONE,
 * flags not 0, NUMA node); -ENODEV; -EOPNOTSUPP (system memory to a device that is not native, or managed
 * memory to one that is nothing else); -ENOMEM; -EAGAIN (no thread); -ECHILD. What happens later is in the results.
 * In the results of system memory, pages that the driver left where they were count as failed; the error then is
 * that of its call, or 0 with an outcome that is SVM_DEGRADED.
 * The caller owns *ret_prefetch and ends it with svm_prefetch_destroy().
 */
int svm_prefetch_start(struct svm_space *space, const struct svm_prefetch_range *ranges,
		       size_t n_ranges, struct svm_fence *wait, uint32_t flags,
		       struct svm_prefetch **ret_prefetch);

/* The fence that signals when the prefetch has ended; a new reference. Errors: -ECHILD. */
int svm_prefetch_fence(struct svm_prefetch *prefetch, struct svm_fence **ret_fence);

/* Bytes dealt with so far and in total. Either may be NULL. Never blocks. Errors: -ECHILD. */
int svm_prefetch_progress(struct svm_prefetch *prefetch, uint64_t *ret_done, uint64_t *ret_total);

/* Start no further blocks. What moved stays moved; the rest counts as failed with -ECANCELED. */
int svm_prefetch_cancel(struct svm_prefetch *prefetch);

/*
 * Wait for the end and copy out the result records (results may be NULL; else n_results must be the
 * number of ranges). timeout_ns < 0 waits for ever. Returns the first error of the ranges, or 0.
 * Errors: -ETIMEDOUT; -EINVAL; -ECHILD; else as the ranges say.
 */
int svm_prefetch_wait(struct svm_prefetch *prefetch, int64_t timeout_ns,
		      struct svm_prefetch_result *results, size_t n_results);

/* Forget a prefetch; cancels and waits for what is in flight. NULL is accepted. */
int svm_prefetch_destroy(struct svm_prefetch *prefetch);

/* svm_prefetch_start() of one range, wait, destroy. result may be NULL. */
int svm_prefetch(struct svm_space *space, void *addr, uint64_t size, struct svm_location to,
		 struct svm_prefetch_result *result);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
