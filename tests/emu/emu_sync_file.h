/* SPDX-License-Identifier: MIT */
/*
 * sync_file: a fence as an fd that is readable once the fence has signalled.
 */
#ifndef EMU_SYNC_FILE_H
#define EMU_SYNC_FILE_H

#include "emu_sync.h"

/* A new fd (close on exec), or a negative errno. */
int emu_sync_file_create(struct emu_fence *fence, const char *name);
/* The fence behind a sync_file's fd (new reference), or NULL. */
struct emu_fence *emu_sync_file_fence(int fd);

#endif
