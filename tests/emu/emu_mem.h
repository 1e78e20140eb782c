/* SPDX-License-Identifier: MIT */
/*
 * The program's own memory as a driver sees it: copied from and to without a signal when an
 * address is bad, faulted in as the kernel's range walk does, described area by area.
 */
#ifndef EMU_MEM_H
#define EMU_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "emu_util.h"

/* 0 or -EFAULT. A page that a userfaultfd holds back is waited for. */
int emu_user_read(void *dst, uint64_t src, size_t n);
int emu_user_write(uint64_t dst, const void *src, size_t n);

enum emu_area_kind {
	EMU_AREA_ANON,	  /* private, anonymous: may move to device memory */
	EMU_AREA_SHARED,  /* files, memfds, shared mappings */
	EMU_AREA_SPECIAL, /* a mapped BO or device: no pages that a driver may take */
};

struct emu_area {
	uint64_t start, end;
	bool read, write;
	enum emu_area_kind kind;
};

/* The first area of the process that ends after addr. 0, or -ENOENT. */
int emu_area_find(uint64_t addr, struct emu_area *ret_area);

/*
 * Every page of the span present (and writable): 0, -EFAULT for a hole or an area without pages
 * or a page that cannot come, -EPERM for a write to memory without write permission. Waits for a
 * userfaultfd's manager when uffd_waits, else such a page is -EFAULT.
 */
int emu_user_populate(uint64_t start, uint64_t size, bool write, bool uffd_waits);

/* All pages of the span are present in the CPU's page table. */
bool emu_user_is_present(uint64_t start, uint64_t size);
/* The span was registered with a userfaultfd for missing pages and still is. */
bool emu_uffd_overlaps(uint64_t start, uint64_t size);
void emu_uffd_registered(uint64_t start, uint64_t size);
void emu_uffd_unregistered(uint64_t start, uint64_t size);

void emu_mem_init(void);
void emu_mem_fork_child(void);
int emu_pid(void);

/* Spans of the program's memory whose bytes are with a device: pagemap says "swapped" of them, as of the kernel's
 * device-private pages. */
struct emu_away {
	struct emu_list link; /* empty: it is not */
	uint64_t start, end;
};
void emu_away_set(struct emu_away *a, uint64_t start, uint64_t end);
void emu_away_clear(struct emu_away *a);
/* What read() of pagemap gave, from the page of addr on. */
void emu_away_mark(uint64_t addr, uint64_t *entries, size_t n);

#endif
