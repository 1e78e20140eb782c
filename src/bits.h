/* SPDX-License-Identifier: MIT */
/* Page masks of a block, and small helpers on them. Values, no locks. */
#ifndef SVM_BITS_H
#define SVM_BITS_H

#include <libsvm/types.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define SVM_PAGE_SHIFT	12u
#define SVM_BLOCK_SHIFT 21u
#define SVM_BLOCK_PAGES 512u
#define SVM_MASK_WORDS	(SVM_BLOCK_PAGES / 64u)

/* Bit i: page i of a block. */
struct svm_mask {
	uint64_t w[SVM_MASK_WORDS];
};

static inline void svm_mask_zero(struct svm_mask *m)
{
	memset(m, 0, sizeof(*m));
}

static inline void svm_mask_fill(struct svm_mask *m)
{
	memset(m, 0xff, sizeof(*m));
}

static inline bool svm_mask_test(const struct svm_mask *m, unsigned int page)
{
	return (m->w[page / 64u] >> (page % 64u)) & 1u;
}

static inline void svm_mask_set(struct svm_mask *m, unsigned int page)
{
	m->w[page / 64u] |= UINT64_C(1) << (page % 64u);
}

static inline void svm_mask_clear(struct svm_mask *m, unsigned int page)
{
	m->w[page / 64u] &= ~(UINT64_C(1) << (page % 64u));
}

/* Set pages [first, first + n). */
static inline void svm_mask_set_range(struct svm_mask *m, unsigned int first, unsigned int n)
{
	unsigned int end = first + n;

	while (first < end) {
		unsigned int bit = first % 64u;
		unsigned int len = 64u - bit < end - first ? 64u - bit : end - first;
		uint64_t run = len == 64u ? ~UINT64_C(0) : (UINT64_C(1) << len) - 1u;

		m->w[first / 64u] |= run << bit;
		first += len;
	}
}

static inline bool svm_mask_empty(const struct svm_mask *m)
{
	uint64_t any = 0;

	for (unsigned int i = 0; i < SVM_MASK_WORDS; i++)
		any |= m->w[i];
	return any == 0;
}

static inline unsigned int svm_mask_count(const struct svm_mask *m)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < SVM_MASK_WORDS; i++)
		n += (unsigned int)__builtin_popcountll(m->w[i]);
	return n;
}

static inline bool svm_mask_equal(const struct svm_mask *a, const struct svm_mask *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static inline void svm_mask_or(struct svm_mask *m, const struct svm_mask *a)
{
	for (unsigned int i = 0; i < SVM_MASK_WORDS; i++)
		m->w[i] |= a->w[i];
}

static inline void svm_mask_and(struct svm_mask *m, const struct svm_mask *a)
{
	for (unsigned int i = 0; i < SVM_MASK_WORDS; i++)
		m->w[i] &= a->w[i];
}

static inline void svm_mask_andnot(struct svm_mask *m, const struct svm_mask *a)
{
	for (unsigned int i = 0; i < SVM_MASK_WORDS; i++)
		m->w[i] &= ~a->w[i];
}

static inline bool svm_mask_intersects(const struct svm_mask *a, const struct svm_mask *b)
{
	uint64_t any = 0;

	for (unsigned int i = 0; i < SVM_MASK_WORDS; i++)
		any |= a->w[i] & b->w[i];
	return any != 0;
}

/* a is within b. */
static inline bool svm_mask_subset(const struct svm_mask *a, const struct svm_mask *b)
{
	uint64_t any = 0;

	for (unsigned int i = 0; i < SVM_MASK_WORDS; i++)
		any |= a->w[i] & ~b->w[i];
	return any == 0;
}

/*
 * The next run of set pages at or after *page: returns its length (0: none) and moves *page to its
 * start. To walk all runs: for (p = 0; (n = svm_mask_run(m, &p)) != 0; p += n).
 */
static inline unsigned int svm_mask_run(const struct svm_mask *m, unsigned int *page)
{
	unsigned int p = *page;
	unsigned int end;

	while (p < SVM_BLOCK_PAGES) {
		uint64_t w = m->w[p / 64u] >> (p % 64u);

		if (w) {
			p += (unsigned int)__builtin_ctzll(w);
			break;
		}
		p = (p / 64u + 1u) * 64u;
	}
	if (p >= SVM_BLOCK_PAGES)
		return 0;
	end = p;
	while (end < SVM_BLOCK_PAGES) {
		uint64_t w = ~(m->w[end / 64u] >> (end % 64u));
		unsigned int ones = w ? (unsigned int)__builtin_ctzll(w) : 64u;
		unsigned int left = 64u - end % 64u;

		if (ones < left) {
			end += ones;
			break;
		}
		end += left;
	}
	*page = p;
	return end - p;
}

#endif
