// SPDX-License-Identifier: MIT
/*
 * Our declarations of what userfaultfd gained, against a kernel's header that has all of it: src/uffd_uapi.h compares
 * what the header at hand has, and this sees to it that it has everything.
 */
#include "../../src/uffd_uapi.h"

#if !defined(UFFD_FEATURE_POISON) || !defined(UFFD_FEATURE_MOVE) || \
	!defined(UFFDIO_CONTINUE_MODE_WP) || !defined(UFFDIO_MOVE) || !defined(UFFDIO_POISON)
#error "the header is too old to compare with"
#endif

#define SAME(a, b)	       _Static_assert((a) == (b), #a " is not " #b)
#define AT(ours, o, theirs, t) SAME(offsetof(struct ours, o), offsetof(struct theirs, t))

#include <stddef.h>

SAME(sizeof(struct svm_uffdio_move), sizeof(struct uffdio_move));
AT(svm_uffdio_move, dst, uffdio_move, dst);
AT(svm_uffdio_move, src, uffdio_move, src);
AT(svm_uffdio_move, len, uffdio_move, len);
AT(svm_uffdio_move, mode, uffdio_move, mode);
AT(svm_uffdio_move, move, uffdio_move, move);
SAME(sizeof(struct svm_uffdio_poison), sizeof(struct uffdio_poison));
AT(svm_uffdio_poison, mode, uffdio_poison, mode);
AT(svm_uffdio_poison, updated, uffdio_poison, updated);

#ifdef SEEDED_MISTAKE
SAME(SVM_UFFDIO_MOVE, UFFDIO_POISON);
#endif
