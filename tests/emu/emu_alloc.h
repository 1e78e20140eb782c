/* SPDX-License-Identifier: MIT */
/*
 * Memory of the emulator itself. Never malloc: an ioctl may come from a thread that serves page
 * faults of a thread which sleeps inside malloc. One mapping, made at start and never grown, so
 * that a program which counts its mappings sees no difference.
 */
#ifndef EMU_ALLOC_H
#define EMU_ALLOC_H

#include <stddef.h>

int emu_alloc_init(void);
/* Zeroed memory, or NULL when the arena is full. */
void *emu_alloc(size_t size);
void emu_free(void *ptr);
char *emu_strdup(const char *s);

/* Fork: the lock is taken around it and made anew in the child. */
void emu_alloc_lock(void);
void emu_alloc_unlock(void);
void emu_alloc_reset_lock(void);

#endif
