// SPDX-License-Identifier: MIT
#include "emu_fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "emu_core.h"
#include "emu_sys.h"

static bool below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (!path[n] || path[n] == '/');
}

static bool is_ours(const char *path)
{
	if (below(path, "/dev/dri") || below(path, "/sys/class/drm") ||
	    below(path, "/sys/bus/pci/devices") || below(path, "/sys/devices/emu"))
		return true;
	return !strncmp(path, "/sys/dev/char/226:", 18);
}

/* "/dev//dri/./card0" is rare but legal: repeated slashes and single dots go first. */
static bool normalise(const char *path, char *buf, size_t size)
{
	size_t n = 0;

	for (const char *p = path; *p; p++) {
		if (p[0] == '/' && p[1] == '/')
			continue;
		if (p[0] == '/' && p[1] == '.' && (p[2] == '/' || !p[2])) {
			p++;
			continue;
		}
		if (n + 1 >= size)
			return false;
		buf[n++] = *p;
	}
	buf[n] = 0;
	return true;
}

const char *emu_fs_path(const char *path, char *buf, size_t size)
{
	char clean[512] = "";

	if (!emu.ready || !path || path[0] != '/' || !normalise(path, clean, sizeof(clean)))
		return path;
	if (!is_ours(clean))
		return path;
	if ((size_t)snprintf(buf, size, "%s%s", emu.root, clean) >= size)
		return path;
	return buf;
}

const char *emu_fs_path_at(int dirfd, const char *path, char *buf, size_t size)
{
	char link[32], dir[512];
	ssize_t n;

	if (!emu.ready || !path)
		return path;
	if (path[0] == '/' || dirfd == AT_FDCWD || !path[0])
		return emu_fs_path(path, buf, size);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
	n = emu_sys_readlinkat(AT_FDCWD, link, dir, sizeof(dir) - 1);
	if (n < 0)
		return path;
	dir[n] = 0;
	if (!below(dir, emu.root) || (size_t)snprintf(buf, size, "%s/%s", dir, path) >= size)
		return path;
	return buf;
}

const char *emu_fs_node(const char *path)
{
	size_t n;

	if (!emu.ready || !path)
		return NULL;
	n = strlen(emu.root);
	if (strncmp(path, emu.root, n) != 0 || strncmp(path + n, "/dev/dri/", 9) != 0)
		return NULL;
	path += n + 9;
	/* by-path links lead to the nodes. */
	if (!strncmp(path, "by-path/", 8)) {
		static const char card[] = "-card", render[] = "-render";
		static __thread char node[32];
		unsigned bus = 0;
		const char *dash = strrchr(path, '-');

		if (!dash || sscanf(path, "by-path/pci-0000:%x:", &bus) != 1 || bus < 3)
			return NULL;
		if (!strcmp(dash, card))
			snprintf(node, sizeof(node), "card%u", bus - 3);
		else if (!strcmp(dash, render))
			snprintf(node, sizeof(node), "renderD%u", bus - 3 + 128);
		else
			return NULL;
		path = node;
	}
	return strchr(path, '/') ? NULL : path;
}

void emu_fs_patch_stat(const char *node, struct stat *st)
{
	const struct emu_device *dev;
	bool render;
	unsigned minor;

	dev = node ? emu_node_find(node, &render, &minor) : NULL;
	if (!dev || S_ISLNK(st->st_mode))
		return;
	st->st_mode = S_IFCHR | (render ? dev->mode : 0660);
	st->st_rdev = makedev(EMU_DRM_MAJOR, minor);
	st->st_size = 0;
	st->st_blocks = 0;
}

void emu_fs_strip(char *path)
{
	size_t n;

	if (!emu.ready)
		return;
	n = strlen(emu.root);
	if (!strncmp(path, emu.root, n) && path[n] == '/')
		memmove(path, path + n, strlen(path + n) + 1);
}
