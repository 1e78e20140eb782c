/* SPDX-License-Identifier: MIT */
/*
 * The few macros and the list that every file of the emulator uses.
 */
#ifndef EMU_UTIL_H
#define EMU_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EMU_EXPORT __attribute__((visibility("default")))
#define EMU_UNUSED __attribute__((unused))
#define EMU_PAGE   4096ull

#define EMU_ARRAY_SIZE(a)		    (sizeof(a) / sizeof((a)[0]))
#define emu_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline uint64_t emu_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t emu_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline uint64_t emu_align_down(uint64_t v, uint64_t a)
{
	return v & ~(a - 1);
}

static inline uint64_t emu_align_up(uint64_t v, uint64_t a)
{
	return (v + a - 1) & ~(a - 1);
}

static inline bool emu_is_aligned(uint64_t v, uint64_t a)
{
	return (v & (a - 1)) == 0;
}

/* Circular list; a head is a node that points at itself when empty. */
struct emu_list {
	struct emu_list *prev, *next;
};

static inline void emu_list_init(struct emu_list *head)
{
	head->prev = head->next = head;
}

static inline bool emu_list_empty(const struct emu_list *head)
{
	return head->next == head;
}

static inline void emu_list_add_tail(struct emu_list *head, struct emu_list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

/* Leaves the node pointing at itself, so that a second removal is harmless. */
static inline void emu_list_del(struct emu_list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	emu_list_init(node);
}

#define emu_list_entry(node, type, member) emu_container_of(node, type, member)
/* NOLINTBEGIN(bugprone-macro-parentheses): the first argument is a name to declare */
#define emu_list_for_each(node, head) \
	for (struct emu_list *node = (head)->next; node != (head); node = node->next)
#define emu_list_for_each_safe(node, head)                                                    \
	for (struct emu_list *node = (head)->next, *node##_next = node->next; node != (head); \
	     node = node##_next, node##_next = node->next)

/* NOLINTEND(bugprone-macro-parentheses) */

#endif
