/* SPDX-License-Identifier: MIT */
/*
 * The names: /dev/dri, /sys/dev/char/226:* and /sys/class/drm lead into a real tree that the
 * launcher made. So directory reading, links and small files are the kernel's own work; only the
 * nodes themselves have to be told apart.
 */
#ifndef EMU_FS_H
#define EMU_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#define EMU_DRM_MAJOR 226

/* The path inside the tree, in buf, or the path itself when it is none of ours. */
const char *emu_fs_path(const char *path, char *buf, size_t size);
/* The same for a path relative to a directory fd, which may be in the tree. */
const char *emu_fs_path_at(int dirfd, const char *path, char *buf, size_t size);
/* Name of the node below /dev/dri that a translated path ends in, or NULL. */
const char *emu_fs_node(const char *path);
/* Turns the tree's placeholder into a character device. */
void emu_fs_patch_stat(const char *node, struct stat *st);
/* Takes the tree's root off the front of a path that goes back to the program. */
void emu_fs_strip(char *path);

#endif
