/* SPDX-License-Identifier: MIT */
/* The interface of the kernel's test_hmm driver, /dev/hmm_dmirror<N> (lib/test_hmm_uapi.h, Linux 7.3), declared anew: the
 * kernel does not install that header. Every command is synchronous. */
#ifndef SVM_HMM_MIRROR_UAPI_H
#define SVM_HMM_MIRROR_UAPI_H

#include <stdint.h>
#include <sys/ioctl.h>

struct svm_hmm_cmd {
	uint64_t addr; /* page aligned */
	uint64_t ptr;  /* buffer of npages pages, or of npages bytes for a snapshot */
	uint64_t n_pages;
	uint64_t n_done;   /* out, on success */
	uint64_t n_faults; /* out, on success */
};
_Static_assert(sizeof(struct svm_hmm_cmd) == 40, "layout of the kernel");

#define SVM_HMM_READ		_IOWR('H', 0, struct svm_hmm_cmd)
#define SVM_HMM_WRITE		_IOWR('H', 1, struct svm_hmm_cmd)
#define SVM_HMM_MIGRATE_TO_DEV	_IOWR('H', 2, struct svm_hmm_cmd)
#define SVM_HMM_MIGRATE_TO_SYS	_IOWR('H', 3, struct svm_hmm_cmd)
#define SVM_HMM_SNAPSHOT	_IOWR('H', 4, struct svm_hmm_cmd)
#define SVM_HMM_EXCLUSIVE	_IOWR('H', 5, struct svm_hmm_cmd)
#define SVM_HMM_CHECK_EXCLUSIVE _IOWR('H', 6, struct svm_hmm_cmd)
#define SVM_HMM_RELEASE		_IOWR('H', 7, struct svm_hmm_cmd)
#define SVM_HMM_FLAGS		_IOWR('H', 8, struct svm_hmm_cmd) /* the flags are in n_pages */
#define SVM_HMM_READ_UNLOCKED	_IOWR('H', 9, struct svm_hmm_cmd) /* waits for userfaultfd; 7.3 */

#define SVM_HMM_FLAG_FAIL_ALLOC 1u /* the next allocation fails */

/* A byte of a snapshot. */
#define SVM_HMM_PROT_ERROR     0xffu
#define SVM_HMM_PROT_ACCESS    0x03u /* 1 read, 2 write */
#define SVM_HMM_PROT_WRITE     0x02u
#define SVM_HMM_PROT_PLACE     0x70u
#define SVM_HMM_PLACE_PRIVATE  0x20u /* in this device's memory, which the CPU does not reach */
#define SVM_HMM_PLACE_COHERENT 0x40u /* in this device's memory, which the CPU maps */

#define SVM_HMM_NODES 4u /* two with private memory, then two with coherent memory */

#endif
