/* SPDX-License-Identifier: MIT */
/*
 * What the kernel's <linux/userfaultfd.h> gained after Linux 6.1, the oldest headers this builds
 * with. Values were read from that header and mm/userfaultfd.c of Linux 6.18; where the header at
 * hand has a name too, the compiler compares the two.
 */
#ifndef SVM_UFFD_UAPI_H
#define SVM_UFFD_UAPI_H

#include <linux/ioctl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>

/* Feature bits. */
#define SVM_UFFD_FEATURE_POISON (UINT64_C(1) << 14) /* Linux 6.6 */
#define SVM_UFFD_FEATURE_MOVE	(UINT64_C(1) << 16) /* Linux 6.8 */

/* Mode bit of UFFDIO_CONTINUE, Linux 6.4. It has no feature bit: see svm_uffd_has_continue_wp(). */
#define SVM_UFFDIO_CONTINUE_MODE_WP (UINT64_C(1) << 1)

/* Linux 6.8 */
struct svm_uffdio_move {
	uint64_t dst;
	uint64_t src;
	uint64_t len;
	uint64_t mode;
	int64_t move; /* out: bytes moved, or a negative errno */
};

#define SVM_UFFDIO_MOVE_MODE_DONTWAKE (UINT64_C(1) << 0)
#define SVM_UFFDIO_MOVE		      _IOWR(UFFDIO, 0x05, struct svm_uffdio_move)

/* Linux 6.6 */
struct svm_uffdio_poison {
	struct uffdio_range range;
	uint64_t mode;
	int64_t updated; /* out: bytes poisoned, or a negative errno */
};

#define SVM_UFFDIO_POISON_MODE_DONTWAKE (UINT64_C(1) << 0)
#define SVM_UFFDIO_POISON		_IOWR(UFFDIO, 0x08, struct svm_uffdio_poison)

_Static_assert(sizeof(struct svm_uffdio_move) == 40, "layout of the kernel");
_Static_assert(sizeof(struct svm_uffdio_poison) == 32, "layout of the kernel");

#ifdef UFFD_FEATURE_POISON
_Static_assert(SVM_UFFD_FEATURE_POISON == UFFD_FEATURE_POISON, "as the kernel header says");
#endif
#ifdef UFFD_FEATURE_MOVE
_Static_assert(SVM_UFFD_FEATURE_MOVE == UFFD_FEATURE_MOVE, "as the kernel header says");
#endif
#ifdef UFFDIO_CONTINUE_MODE_WP
_Static_assert(SVM_UFFDIO_CONTINUE_MODE_WP == UFFDIO_CONTINUE_MODE_WP, "as the kernel header says");
#endif
#ifdef UFFDIO_MOVE
_Static_assert(SVM_UFFDIO_MOVE == UFFDIO_MOVE, "as the kernel header says");
_Static_assert(SVM_UFFDIO_MOVE_MODE_DONTWAKE == UFFDIO_MOVE_MODE_DONTWAKE,
	       "as the kernel header says");
#endif
#ifdef UFFDIO_POISON
_Static_assert(SVM_UFFDIO_POISON == UFFDIO_POISON, "as the kernel header says");
_Static_assert(SVM_UFFDIO_POISON_MODE_DONTWAKE == UFFDIO_POISON_MODE_DONTWAKE,
	       "as the kernel header says");
#endif

/* The modes of all resolve calls agree in these two bits, which uffd.c relies on. */
_Static_assert(UFFDIO_COPY_MODE_DONTWAKE == 1 && UFFDIO_ZEROPAGE_MODE_DONTWAKE == 1 &&
		       UFFDIO_CONTINUE_MODE_DONTWAKE == 1,
	       "one bit for all");
_Static_assert(UFFDIO_COPY_MODE_WP == SVM_UFFDIO_CONTINUE_MODE_WP, "one bit for both");

#endif
