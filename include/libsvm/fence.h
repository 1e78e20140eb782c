/* SPDX-License-Identifier: MIT */
/*
 * Fences: objects that signal once, with a result, and export a pollable fd.
 *
 * Reference counted: every call that returns a fence gives the caller one reference, ended with
 * svm_fence_unref(). Fences may outlive the space's devices, not the space.
 */
#ifndef LIBSVM_FENCE_H
#define LIBSVM_FENCE_H

#include <libsvm/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* Make a fence that the application signals itself. Errors: -ENOMEM, -ECHILD. */
int svm_fence_create(struct svm_space *space, struct svm_fence **ret_fence);

/*
 * Make a fence from a pollable fd (sync_file, eventfd, pidfd, ...) that becomes readable once and
 * stays so. The fd is duplicated; the caller keeps its own. Its status is 0, or the error that a sync_file
 * ended with. Errors: -EBADF, -EMFILE, -EPERM (not
 * pollable), -ENOMEM, -ECHILD.
 */
int svm_fence_import(struct svm_space *space, int fd, struct svm_fence **ret_fence);

/* Signal a fence made by svm_fence_create(): status is 0 or a negative errno.
 * Errors: -EINVAL (another kind of fence, status > 0), -EALREADY (signalled), -ECHILD. */
int svm_fence_signal(struct svm_fence *fence, int status);

/*
 * Wait until it signals. timeout_ns < 0 waits for ever, 0 polls. Returns the fence's status: 0, or
 * the negative errno of the work it stands for (-ENODEV: the device was lost first).
 * Errors: -ETIMEDOUT, -ECHILD. Not from the log callback.
 */
int svm_fence_wait(struct svm_fence *fence, int64_t timeout_ns);

/*
 * A new fd, owned by the caller, close-on-exec, that polls readable once the fence has signalled.
 * Do not read from it. Errors: -EMFILE, -ENFILE, -ENOMEM, -ECHILD.
 */
int svm_fence_export(struct svm_fence *fence, int *ret_fd);

/* Another reference. Returns its argument. */
struct svm_fence *svm_fence_ref(struct svm_fence *fence);

/* Give a reference back. NULL is accepted. Does nothing in a forked child. */
void svm_fence_unref(struct svm_fence *fence);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
