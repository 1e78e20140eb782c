// SPDX-License-Identifier: MIT
/* The ioctls that every DRM driver answers. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "emu_core.h"
#include "emu_drm_uapi.h"
#include "emu_gem.h"
#include "emu_mem.h"
#include "emu_sync.h"

/* As drm_copy_field(): what fits is copied, the whole length is told. */
static int copy_field(uint64_t *len, uint64_t to, const char *text)
{
	uint64_t have = strlen(text), n = emu_min(*len, have);

	*len = have;
	return n && to ? emu_user_write(to, text, n) : 0;
}

static int version(struct emu_file *file, void *arg)
{
	const struct emu_driver *d = file->dev->driver;
	struct emu_drm_version *v = arg;
	int r;

	v->major = d->major;
	v->minor = d->minor;
	v->patch = d->patch;
	r = copy_field(&v->name_len, v->name, file->dev->name);
	if (r == 0)
		r = copy_field(&v->date_len, v->date, d->date);
	if (r == 0)
		r = copy_field(&v->desc_len, v->desc, d->desc);
	return r;
}

static int get_unique(struct emu_file *file, void *arg)
{
	struct emu_drm_unique *u = arg;
	char name[32];

	snprintf(name, sizeof(name), "pci:0000:%02x:00.0", file->dev->index + 3);
	if (u->len >= strlen(name) && emu_user_write(u->ptr, name, strlen(name)) < 0)
		return -EFAULT;
	u->len = strlen(name);
	return 0;
}

static int set_version(struct emu_file *file, void *arg)
{
	struct emu_drm_set_version *v = arg;

	if (v->di_major != -1 && (v->di_major != 1 || v->di_minor < 0 || v->di_minor > 4))
		return -EINVAL;
	v->di_major = 1;
	v->di_minor = 4;
	v->dd_major = file->dev->driver->major;
	v->dd_minor = file->dev->driver->minor;
	return 0;
}

static int get_cap(struct emu_file *file, void *arg)
{
	struct emu_drm_get_cap *c = arg;

	(void)file;
	switch (c->capability) {
	case EMU_DRM_CAP_TIMESTAMP_MONO:
	case EMU_DRM_CAP_SYNCOBJ:
	case EMU_DRM_CAP_SYNCOBJ_TIMELINE:
		c->value = 1;
		return 0;
	case EMU_DRM_CAP_PRIME:
		c->value = 3;
		return 0;
	default:
		break;
	}
	/* The rest is of display hardware, which none of the devices has. */
	return -EOPNOTSUPP;
}

static int set_client_cap(struct emu_file *file, void *arg)
{
	(void)file;
	(void)arg;
	return -EOPNOTSUPP;
}

/* Printable and not too long; kept nowhere, since nothing here shows it. */
static int set_client_name(struct emu_file *file, void *arg)
{
	struct emu_drm_set_client_name *n = arg;
	char name[64];

	(void)file;
	if (n->len > sizeof(name))
		return -EINVAL;
	if (!n->len)
		return 0;
	if (emu_user_read(name, n->name, n->len) < 0)
		return -EFAULT;
	for (uint64_t i = 0; i + 1 < n->len; i++)
		if (name[i] <= ' ' || name[i] > '~')
			return -EINVAL;
	return 0;
}

#define PRIMARY true

const struct emu_ioctl emu_drm_ioctls[] = {
	{ 0x00, EMU_DRM_VERSION, version, 0, false, "VERSION" },
	{ 0x01, EMU_DRM_GET_UNIQUE, get_unique, 0, PRIMARY, "GET_UNIQUE" },
	{ 0x07, EMU_DRM_SET_VERSION, set_version, 0, PRIMARY, "SET_VERSION" },
	{ 0x09, EMU_DRM_GEM_CLOSE, emu_gem_close_ioctl, 0, false, "GEM_CLOSE" },
	{ 0x0c, EMU_DRM_GET_CAP, get_cap, 0, false, "GET_CAP" },
	{ 0x0d, EMU_DRM_SET_CLIENT_CAP, set_client_cap, 0, PRIMARY, "SET_CLIENT_CAP" },
	{ 0x1e, _IO('d', 0x1e), NULL, 0, PRIMARY, "SET_MASTER" },
	{ 0x1f, _IO('d', 0x1f), NULL, 0, PRIMARY, "DROP_MASTER" },
	{ 0x2d, EMU_DRM_PRIME_HANDLE_TO_FD, emu_prime_handle_to_fd_ioctl, 0, false,
	  "PRIME_HANDLE_TO_FD" },
	{ 0x2e, EMU_DRM_PRIME_FD_TO_HANDLE, emu_prime_fd_to_handle_ioctl, 0, false,
	  "PRIME_FD_TO_HANDLE" },
	/* Of display hardware: known to the kernel, not supported by a driver without it. */
	{ 0xa0, _IOC(_IOC_READ | _IOC_WRITE, 'd', 0xa0, 64), NULL, 0, PRIMARY,
	  "MODE_GETRESOURCES" },
	{ 0xb5, _IOC(_IOC_READ | _IOC_WRITE, 'd', 0xb5, 16), NULL, 0, PRIMARY,
	  "MODE_GETPLANERESOURCES" },
	{ 0xbf, EMU_DRM_SYNCOBJ_CREATE, emu_syncobj_create_ioctl, 0, false, "SYNCOBJ_CREATE" },
	{ 0xc0, EMU_DRM_SYNCOBJ_DESTROY, emu_syncobj_destroy_ioctl, 0, false, "SYNCOBJ_DESTROY" },
	{ 0xc1, EMU_DRM_SYNCOBJ_HANDLE_TO_FD, emu_syncobj_handle_to_fd_ioctl, 0, false,
	  "SYNCOBJ_HANDLE_TO_FD" },
	{ 0xc2, EMU_DRM_SYNCOBJ_FD_TO_HANDLE, emu_syncobj_fd_to_handle_ioctl, 0, false,
	  "SYNCOBJ_FD_TO_HANDLE" },
	{ 0xc3, EMU_DRM_SYNCOBJ_WAIT, emu_syncobj_wait_ioctl, 0, false, "SYNCOBJ_WAIT" },
	{ 0xc4, EMU_DRM_SYNCOBJ_RESET, emu_syncobj_reset_ioctl, 0, false, "SYNCOBJ_RESET" },
	{ 0xc5, EMU_DRM_SYNCOBJ_SIGNAL, emu_syncobj_signal_ioctl, 0, false, "SYNCOBJ_SIGNAL" },
	{ 0xca, EMU_DRM_SYNCOBJ_TIMELINE_WAIT, emu_syncobj_timeline_wait_ioctl, 0, false,
	  "SYNCOBJ_TIMELINE_WAIT" },
	{ 0xcb, EMU_DRM_SYNCOBJ_QUERY, emu_syncobj_query_ioctl, 0, false, "SYNCOBJ_QUERY" },
	{ 0xcc, EMU_DRM_SYNCOBJ_TRANSFER, emu_syncobj_transfer_ioctl, 0, false,
	  "SYNCOBJ_TRANSFER" },
	{ 0xcd, EMU_DRM_SYNCOBJ_TIMELINE_SIGNAL, emu_syncobj_timeline_signal_ioctl, 0, false,
	  "SYNCOBJ_TIMELINE_SIGNAL" },
	{ 0xcf, EMU_DRM_SYNCOBJ_EVENTFD, emu_syncobj_eventfd_ioctl, 6 << 8 | 6, false,
	  "SYNCOBJ_EVENTFD" },
	{ 0xd1, EMU_DRM_SET_CLIENT_NAME, set_client_name, 6 << 8 | 13, false, "SET_CLIENT_NAME" },
};
const size_t emu_n_drm_ioctls = EMU_ARRAY_SIZE(emu_drm_ioctls);
