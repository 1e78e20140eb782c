/* SPDX-License-Identifier: MIT */
/* Finding a backend by name: those linked in, then plug-ins. */
#ifndef SVM_BACKEND_FIND_H
#define SVM_BACKEND_FIND_H

#include "log.h"
#include <libsvm/backend.h>
#include <stdbool.h>

/* What is looked through, up to a NULL: the tables linked in, unless a test put its own list here (before any space
 * exists). */
extern const struct svm_backend_ops *const *svm_backends;

/* The table of the backend whose name is the first length bytes of name, checked and with defaults for optional ops in *ret_ops. -ENODEV: none. */
int svm_backend_find(const char *name, size_t length, const struct svm_log *log,
		     struct svm_backend_ops *ret_ops);
/* The i-th backend that is linked in, or -ENOENT past the last. */
int svm_backend_nth(unsigned int i, const struct svm_log *log, struct svm_backend_ops *ret_ops);
/* Of a table that svm_backend_find() gave: its devices have no managed memory of their own. */
bool svm_backend_is_native_only(const struct svm_backend_ops *ops);
/* What callers are told of a backend's failure: 0, or one of the errors that the interface knows and whose meaning is the
 * same to all. -EAGAIN is not among them: where it means a full queue, its caller has dealt with it before. */
int svm_backend_error(int error);
/* Capabilities fit the ops and each other: 0, or -EPROTO with a log line. */
int svm_backend_check_caps(const struct svm_backend_ops *ops, const struct svm_backend_caps *caps,
			   const struct svm_log *log);

#endif
