/* SPDX-License-Identifier: MIT */
/*
 * Streams: runs of faults, block after block, that tell what will be touched next. It only watches and
 * counts; who asks brings the blocks.
 *
 * A window of blocks is asked for ahead of the reader. Its first block should be left to fault (cheaply, as
 * its bytes are there by then): that fault is how the reader's progress is seen, and asks for the next window
 * while the rest of this one lasts.
 */
#ifndef SVM_STREAM_H
#define SVM_STREAM_H

#include "lock.h"
#include <stdatomic.h>
#include <stdint.h>

/* Streams at a time, and blocks of a window once it has grown. */
#define SVM_STREAMS	  4u
#define SVM_STREAM_WINDOW 8u

struct svm_stream {
	uint64_t at;	 /* address of the block of its last fault */
	uint64_t end;	 /* where the next window starts */
	uint32_t length; /* faults in a row */
};

struct svm_streams {
	struct svm_lock lock;  /* LEAF: all but last */
	_Atomic uint64_t last; /* block of the last fault */
	uint32_t oldest;
	struct svm_stream s[SVM_STREAMS];
};

void svm_streams_init(struct svm_streams *streams);
void svm_streams_finish(struct svm_streams *streams);

/* LOCKING: none. A fault in the block that starts at address block. Returns how many blocks should be brought from
 * *ret_start on, or 0. */
uint32_t svm_streams_fault(struct svm_streams *streams, uint64_t block, uint64_t *ret_start);
/* LOCKING: none. Somebody else wants that block: what is ahead of a stream there is left alone from now on. */
void svm_streams_stop(struct svm_streams *streams, uint64_t block);

#endif
