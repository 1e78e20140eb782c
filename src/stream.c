/* SPDX-License-Identifier: MIT */
#include "stream.h"

#include "util.h"
#include <libsvm/types.h>

#define BLOCK ((uint64_t)SVM_BLOCK_SIZE)

void svm_streams_init(struct svm_streams *streams)
{
	*streams = (struct svm_streams){ 0 };
	svm_lock_init(&streams->lock, SVM_RANK_LEAF);
}

void svm_streams_finish(struct svm_streams *streams)
{
	svm_lock_finish(&streams->lock);
}

/* LOCKING: streams->lock. The stream that this fault continues, or NULL. */
static struct svm_stream *find(struct svm_streams *streams, uint64_t block)
{
	for (uint32_t i = 0; i < SVM_STREAMS; i++) {
		struct svm_stream *s = &streams->s[i];

		/* Up to end: blocks of its window may be mapped already, and do not fault. */
		if (s->end != 0 && block > s->at && block <= s->end)
			return s;
	}
	return NULL;
}

/* LOCKING: streams->lock. */
static uint32_t go_on(struct svm_stream *s, uint64_t block, uint64_t *ret_start)
{
	uint32_t n = s->length < 3u ? 2u << s->length : SVM_STREAM_WINDOW;

	n = n < SVM_STREAM_WINDOW ? n : SVM_STREAM_WINDOW;
	s->length += s->length < SVM_STREAM_WINDOW;
	s->at = block;
	s->end = svm_max_u64(s->end, block + BLOCK);
	if (s->end - block > SVM_STREAM_WINDOW * BLOCK)
		return 0; /* enough is under way */
	*ret_start = s->end;
	s->end += n * BLOCK;
	return n;
}

uint32_t svm_streams_fault(struct svm_streams *streams, uint64_t block, uint64_t *ret_start)
{
	struct svm_stream *s;
	uint32_t n = 0;

	/* Many small faults in one block are the common case, and tell nothing. */
	if (atomic_load_explicit(&streams->last, memory_order_relaxed) == block)
		return 0;
	atomic_store_explicit(&streams->last, block, memory_order_relaxed);
	svm_lock(&streams->lock);
	s = find(streams, block);
	if (s) {
		n = go_on(s, block, ret_start);
	} else {
		s = &streams->s[streams->oldest];
		streams->oldest = (streams->oldest + 1u) % SVM_STREAMS;
		*s = (struct svm_stream){ .at = block, .end = block + BLOCK };
	}
	svm_unlock(&streams->lock);
	return n;
}

void svm_streams_stop(struct svm_streams *streams, uint64_t block)
{
	svm_lock(&streams->lock);
	for (uint32_t i = 0; i < SVM_STREAMS; i++) {
		struct svm_stream *s = &streams->s[i];

		if (block > s->at && block < s->end)
			*s = (struct svm_stream){ 0 };
	}
	svm_unlock(&streams->lock);
}
