/* SPDX-License-Identifier: MIT */
/*
 * The program's changes to its own page tables, as an MMU notifier tells them to a driver.
 *
 * munmap, mremap, mprotect, madvise, mmap over something, and userfaultfd's write-protect and
 * move are seen as they are called. What the C library or the kernel does by itself is not; a
 * test can say it with emu_invalidate().
 */
#ifndef EMU_NOTIFY_H
#define EMU_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "emu_util.h"

struct emu_notifier {
	struct emu_list link;
	uint64_t start, end;
	/* Before the change: stop using the pages; may wait. After it. Neither holds a lock. */
	void (*begin)(struct emu_notifier *n, uint64_t start, uint64_t end, bool unmap);
	void (*after)(struct emu_notifier *n);
	void (*get)(struct emu_notifier *n);
	void (*put)(struct emu_notifier *n);
};

void emu_notifier_add(struct emu_notifier *n);
void emu_notifier_remove(struct emu_notifier *n);

struct emu_invalidation {
	struct emu_notifier **hit;
	struct emu_notifier *few[8];
	uint32_t n;
};

/* unmap: the addresses go, not only the pages. */
void emu_invalidate_begin(struct emu_invalidation *inv, uint64_t start, uint64_t size, bool unmap);
void emu_invalidate_end(struct emu_invalidation *inv);
void emu_notify_fork_child(void);

#endif
