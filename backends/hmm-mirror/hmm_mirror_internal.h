/* SPDX-License-Identifier: MIT */
/*
 * The hmm-mirror backend: a native device over the kernel's test_hmm driver. The driver mirrors the process
 * by itself and has memory of its own, but no engine: a thread of the backend is the engine, and reads
 * and writes through the driver, page by page.
 *
 * The driver's rule: a page in private device memory whose entry in the driver's mirror was lost (by
 * fork(), mprotect(), mremap(), the split of a mapping, a change of the page before it, or a migration that another device tried) must not be read: Linux
 * 7.3 takes the device page for a system page then, and oopses. So before pages that are in device memory
 * are touched, MIGRATE_TO_DEV is asked for once more: success means that the mirror is complete; otherwise the
 * pages come home first. `driver_lock` keeps every migration of ours out between the look and the touch.
 *
 * Threads: the core's, for hints and prefetches; the engine. Locks: driver_lock, then write_lock; lock alone.
 */
#ifndef SVM_HMM_MIRROR_INTERNAL_H
#define SVM_HMM_MIRROR_INTERNAL_H

#include "hmm_mirror_uapi.h"
#include <libsvm/backend.h>
#include <libsvm/space.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define SVM_HMM_QUEUE	 64u
#define SVM_HMM_FAILURES 64u  /* points that failed and were not told yet: no more than wait */
#define SVM_HMM_SLICE	 256u /* pages that the engine moves at a time */

struct svm_hmm_options {
	uint32_t minor;
	uint64_t memory; /* bytes told as its memory; 0: default */
	bool uffd;	 /* use faults through userfaultfd if the kernel has them */
};

/* Of the part of a device name after "hmm-mirror:". -EINVAL: *ret_where is what is wrong. */
int svm_hmm_options_parse(const char *string, struct svm_hmm_options *ret_options,
			  const char **ret_where);

struct svm_hmm_failure {
	uint64_t value;
	int error;
};

struct svm_hmm_device {
	uint32_t minor;
	int fd;
	int event_fd;
	bool has_uffd;	    /* READ_UNLOCKED raises userfaultfd events */
	bool has_exclusive; /* atomics on pages of the host */
	uint64_t memory;

	uint8_t *scratch; /* driver_lock: SVM_NATIVE_BATCH_PAGES pages that migrations write to */
	uint8_t *buffer;  /* engine: SVM_HMM_SLICE + 1 pages */
	uint8_t *pages;	  /* engine: SVM_HMM_SLICE pages that are read to no purpose */

	pthread_mutex_t
		write_lock; /* held while memory is written; never over a wait for userfaultfd */
	_Atomic bool is_dead;

	pthread_t engine;
	pthread_mutex_t lock; /* all below */
	pthread_cond_t changed;
	bool closing;
	struct svm_work ring[SVM_HMM_QUEUE];
	uint64_t submitted;
	uint64_t completed;
	struct svm_hmm_failure failures[SVM_HMM_FAILURES];
	uint64_t failures_head; /* next to tell */
	uint64_t failures_tail;
};

/* Look into what the kernel can: has_uffd and has_exclusive. Touches only memory of its own. */
void svm_hmm_probe(struct svm_hmm_device *dev, bool want_uffd);

/* All of these: negative errno or 0; addr and size in whole pages. */
/* Where pages are: a byte of the driver's per page. At most SVM_NATIVE_BATCH_PAGES. */
int svm_hmm_snapshot(struct svm_hmm_device *dev, uint64_t addr, size_t n_pages, uint8_t *ret_prot);
int svm_hmm_migrate(struct svm_hmm_device *dev, uint64_t addr, size_t n_pages, bool to_device);
/* Take a page of the host exclusively, as an atomic of the device would. -EOPNOTSUPP: not this kind of memory. */
int svm_hmm_exclusive(struct svm_hmm_device *dev, uint64_t addr);
/* What the engine does; any alignment. Waits for userfaultfd where the device has it. */
int svm_hmm_do_work(struct svm_hmm_device *dev, const struct svm_work *work);

#endif
