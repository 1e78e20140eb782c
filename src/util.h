/* SPDX-License-Identifier: MIT */
/* Intrusive list, alignment, container_of, the sanitizer that sees threads. */
#ifndef SVM_UTIL_H
#define SVM_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__SANITIZE_THREAD__)
#define SVM_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SVM_TSAN 1
#endif
#endif

#define SVM_ARRAY_SIZE(a)		    (sizeof(a) / sizeof((a)[0]))
#define svm_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline uint64_t svm_align_down(uint64_t v, uint64_t to)
{
	return v & ~(to - 1u);
}

/* The caller has checked that v + to - 1 does not wrap. */
static inline uint64_t svm_align_up(uint64_t v, uint64_t to)
{
	return (v + to - 1u) & ~(to - 1u);
}

static inline uint64_t svm_min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t svm_max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline void *svm_ptr(uint64_t addr)
{
	return (void *)(uintptr_t)
		addr; // NOLINT(performance-no-int-to-ptr): addresses are integers here
}

static inline uint64_t svm_addr(const void *ptr)
{
	return (uint64_t)(uintptr_t)ptr;
}

/* Doubly linked ring; the head is a node too. */
struct svm_list {
	struct svm_list *prev;
	struct svm_list *next;
};

static inline void svm_list_init(struct svm_list *l)
{
	l->prev = l;
	l->next = l;
}

static inline bool svm_list_empty(const struct svm_list *l)
{
	return l->next == l;
}

static inline void svm_list_add_tail(struct svm_list *head, struct svm_list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

static inline void svm_list_add_head(struct svm_list *head, struct svm_list *node)
{
	svm_list_add_tail(head->next, node);
}

/* The node may be removed again: it is left pointing to itself. */
static inline void svm_list_del(struct svm_list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	svm_list_init(node);
}

/* Move all nodes of from to the end of to. */
static inline void svm_list_splice_tail(struct svm_list *to, struct svm_list *from)
{
	if (svm_list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	svm_list_init(from);
}

#define svm_list_entry(node, type, member) svm_container_of(node, type, member)
#define svm_list_for_each(node, head) \
	for (struct svm_list *node = (head)->next; node != (head); node = node->next)
#define svm_list_for_each_safe(node, tmp, head)                                       \
	for (struct svm_list *node = (head)->next, *tmp = node->next; node != (head); \
	     node = tmp, tmp = node->next)

#endif
