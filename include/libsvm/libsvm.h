/* SPDX-License-Identifier: MIT */
/*
 * libsvm: one pointer for the CPU and every GPU of the machine.
 *
 * This header includes all others. Every function of the library:
 *  - returns 0 (or a documented positive value) or a negative errno;
 *  - writes its ret_* outputs only on success;
 *  - may be called from any thread, unless it says otherwise;
 *  - is not async-signal-safe, unless it says otherwise;
 *  - answers -ECHILD in a forked child for any object made before the fork.
 *
 * Errors and what they mean everywhere:
 *  -EINVAL      the caller's mistake: bad size, flag, enum value, alignment or NULL
 *  -ENOENT      an address of the span is not managed by the space; nothing was done
 *  -EEXIST      the span, or part of it, is managed already
 *  -EOVERFLOW   address plus size wraps around
 *  -ERANGE      a device cannot address the span, or the space has no room left in its window
 *  -EBUSY       in use (held, pinned or not released); retry when it is not
 *  -EAGAIN      the state moved meanwhile; call again
 *  -ENOSPC      device memory is full and nothing can be evicted
 *  -ENOMEM      host memory is short
 *  -EACCES      a no-access hint forbids it
 *  -ENOLINK     the memory cannot be reached in place, and moving it was forbidden
 *  -EOPNOTSUPP  the kernel or the device lacks the needed capability
 *  -ENODEV      the device is gone, closed or of another space
 *  -EIO         the only copy of the bytes was lost with a device
 *  -ECHILD      called in a forked child
 *  -ETIMEDOUT   the wait ended before the event
 *  -ECANCELED   cancelled by the caller
 */
#ifndef LIBSVM_LIBSVM_H
#define LIBSVM_LIBSVM_H

#include <libsvm/device.h>
#include <libsvm/fence.h>
#include <libsvm/hints.h>
#include <libsvm/memory.h>
#include <libsvm/soft.h>
#include <libsvm/space.h>
#include <libsvm/trace.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* The version these headers belong to. */
#define SVM_VERSION_MAJOR 0
#define SVM_VERSION_MINOR 1
#define SVM_VERSION_PATCH 0

/*
 * The version of the library linked at run time, as major * 10000 + minor * 100 + patch.
 * Safe in a forked child and in a signal handler.
 */
int svm_version(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
