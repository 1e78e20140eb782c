/* SPDX-License-Identifier: MIT */
/* A space: the context that its modules share, the threads that serve it, the pins of the application. */
#ifndef SVM_SPACE_H
#define SVM_SPACE_H

#include "access.h"
#include "fault.h"
#include "native.h"
#include <libsvm/space.h>

struct svm_space {
	struct svm_ctx ctx;
	pthread_t threads[SVM_MAX_THREADS];
	uint32_t n_running;
	struct svm_fault_source sources[SVM_MAX_THREADS]; /* of the window's userfaultfd */
	uint32_t n_sources;
	struct svm_fault_source reg_source; /* of that for registered memory */
	bool reg_started;		    /* SPACE */
	struct svm_list pins;		    /* SPACE: struct svm_pin */
	uint32_t flags;			    /* SVM_SPACE_* */
};

/* Round a span to pages: -EINVAL for size 0, -EOVERFLOW. */
/* A span of managed memory as it is handed out and moved: in whole units, which are managed if a part is. */
void svm_space_widen(const struct svm_ctx *ctx, uint64_t *start, uint64_t *end);
int svm_space_span(const void *addr, uint64_t size, uint64_t *ret_start, uint64_t *ret_end);

/* How every span call begins: fork check, span, coverage. LOCKING: keeps the tree lock for read on success. */
int svm_space_begin(struct svm_space *space, const void *addr, uint64_t size, uint64_t *ret_start,
		    uint64_t *ret_end);
/* The same where system memory is welcome, if the space takes it: each page is managed or mapped. LOCKING: keeps the
 * tree lock for read on success, and NATIVE too if *ret_native says that part of the span is system memory. */
int svm_space_begin_any(struct svm_space *space, const void *addr, uint64_t size,
			uint64_t *ret_start, uint64_t *ret_end, bool *ret_native);
void svm_space_end_any(struct svm_space *space, bool native);
/* LOCKING: tree (any). A location as the agent whose memory it is, and its NUMA node or -1. -EINVAL, -ENODEV. */
int svm_space_resolve(struct svm_ctx *ctx, struct svm_location location, uint32_t *ret_agent,
		      int *ret_node);

/* LOCKING: SPACE. Take registered memory out of management, all of it on the host. -EIO: poisoned pages stay so. */
int svm_memory_unregister(struct svm_space *space, struct svm_alloc *alloc);

#endif
