/* SPDX-License-Identifier: MIT */
/*
 * One userfaultfd: negotiation, registration, and the resolve ioctls with the kernel's retry rules.
 * Functions on spans work through all of it: EAGAIN (mm is changing) is retried, a short count is
 * continued, EEXIST (page there already) skips that page and counts as done, a span over several
 * mappings, which the kernel refuses, is done piece by piece. Retries without any
 * progress end with -EAGAIN: with SVM_UFFD_EVENTS the kernel says so until an event that waits to be
 * read has been read, which may be the caller's own job. Any thread.
 */
#ifndef SVM_UFFD_H
#define SVM_UFFD_H

#include "log.h"
#include <stdbool.h>
#include <stdint.h>

struct svm_uffd {
	int fd;		    /* -1: closed; close-on-exec, non-blocking */
	uint64_t features;  /* UFFD_FEATURE_* that were granted */
	bool kernel_faults; /* system calls fault too */
};

#define SVM_UFFD_EVENTS \
	(1u << 0) /* ask for UNMAP, REMOVE and REMAP events where the kernel has them */
#define SVM_UFFD_USER_MODE_ONLY (1u << 1) /* do not try the privileged ways */
#define SVM_UFFD_NO_MOVE	(1u << 2)
#define SVM_UFFD_NO_POISON	(1u << 3)

/* Open by /dev/userfaultfd, userfaultfd(0), userfaultfd(UFFD_USER_MODE_ONLY), the first that works
 * (contract 3.10). Errors: -EPERM when all are denied, -EOPNOTSUPP when the kernel has none or lacks
 * missing/minor/wp on shmem, else as the kernel says. */
int svm_uffd_open(struct svm_uffd *uffd, uint32_t flags, const struct svm_log *log);
void svm_uffd_close(struct svm_uffd *uffd);

bool svm_uffd_has_move(const struct svm_uffd *uffd);
bool svm_uffd_has_poison(const struct svm_uffd *uffd);
/* MADV_DONTNEED on memory registered here blocks until its event is read. */
bool svm_uffd_has_remove_events(const struct svm_uffd *uffd);
/* UFFDIO_CONTINUE can map write-protected (Linux 6.4). */
bool svm_uffd_has_continue_wp(const struct svm_uffd *uffd);

#define SVM_UFFD_MISSING (1u << 0)
#define SVM_UFFD_WP	 (1u << 1)
#define SVM_UFFD_MINOR	 (1u << 2)

int svm_uffd_register(const struct svm_uffd *uffd, uint64_t addr, uint64_t size, uint32_t modes);
int svm_uffd_unregister(const struct svm_uffd *uffd, uint64_t addr, uint64_t size);

/* Flags of the resolve calls. */
#define SVM_UFFD_NO_WAKE   (1u << 0)
#define SVM_UFFD_READ_ONLY (1u << 1) /* the page arrives write-protected */
#define SVM_UFFD_EXCLUSIVE (1u << 2) /* a page that is there already stops the call with -EEXIST */

/* Move pages; src pages must be present (a hole is -ENOENT). *ret_done (never NULL) gets the bytes
 * moved also on error. -EBUSY: a page is pinned or shared with a child. */
int svm_uffd_move(const struct svm_uffd *uffd, uint64_t dst, uint64_t src, uint64_t size,
		  uint32_t flags, uint64_t *ret_done);
int svm_uffd_copy(const struct svm_uffd *uffd, uint64_t dst, const void *src, uint64_t size,
		  uint32_t flags, uint64_t *ret_done);
int svm_uffd_zero(const struct svm_uffd *uffd, uint64_t addr, uint64_t size, uint32_t flags,
		  uint64_t *ret_done);
int svm_uffd_continue(const struct svm_uffd *uffd, uint64_t addr, uint64_t size, uint32_t flags,
		      uint64_t *ret_done);
int svm_uffd_poison(const struct svm_uffd *uffd, uint64_t addr, uint64_t size, uint32_t flags,
		    uint64_t *ret_done);
/* Set (protect) or lift write protection of present pages; lifting wakes. */
int svm_uffd_protect(const struct svm_uffd *uffd, uint64_t addr, uint64_t size, bool protect);
int svm_uffd_wake(const struct svm_uffd *uffd, uint64_t addr, uint64_t size);

#endif
