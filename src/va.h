/* SPDX-License-Identifier: MIT */
/*
 * The layout of the window: which addresses are given out. Two sizes: spans of whole blocks,
 * and runs of pages packed into blocks of their own kind. No locks: RANGE_TREE (write) serialises.
 */
#ifndef SVM_VA_H
#define SVM_VA_H

#include "arena.h"
#include "bits.h"
#include "host.h"
#include "tree.h"
#include "util.h"

struct svm_va {
	struct svm_host *host;
	struct svm_tree free;	  /* spans of whole blocks, never adjacent */
	struct svm_tree packed;	  /* blocks that are shared by small runs */
	struct svm_list roomy[2]; /* packed blocks with free pages, by kind */
	struct svm_pool span_pool;
	struct svm_pool packed_pool;
	uint64_t free_bytes;
};

int svm_va_init(struct svm_va *va, struct svm_arena *arena, struct svm_host *host);
void svm_va_finish(struct svm_va *va);

/* Give out size bytes (whole pages) with storage of a kind, armed. -ERANGE: the window is full; -ENOMEM. */
int svm_va_alloc(struct svm_va *va, uint64_t size, enum svm_host_kind kind, uint64_t *ret_addr);
/* Take them back; their pages hold nothing any more. Spans of whole blocks are disarmed (the error, if any, is
 * logged by the host module and the addresses are not given out again). */
void svm_va_free(struct svm_va *va, uint64_t addr, uint64_t size);

/* The kind of a packed block that contains addr; -ENOENT: addr is in none. */
int svm_va_packed_kind(const struct svm_va *va, uint64_t addr, enum svm_host_kind *ret_kind);

#endif
