// SPDX-License-Identifier: MIT
/* sync_file: a fence as a pollable fd. A byte in its pipe makes it readable for ever. */
#include "emu_sync_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "emu_alloc.h"
#include "emu_drm_uapi.h"
#include "emu_log.h"
#include "emu_mem.h"

struct sync_file {
	struct emu_fdobj fd;
	struct emu_fence *fence;
	struct emu_fence_cb cb;
	char name[32];
};

static void mark(struct sync_file *sf)
{
	if (syscall(SYS_write, sf->fd.wr, "", 1) != 1)
		emu_log(EMU_TRACE, "sync_file without readers signalled");
}

static void signaled(struct emu_fence_cb *cb)
{
	mark(emu_container_of(cb, struct sync_file, cb));
}

static void release(struct emu_fdobj *obj)
{
	struct sync_file *sf = emu_container_of(obj, struct sync_file, fd);

	emu_sync_lock();
	emu_list_del(&sf->cb.link);
	emu_sync_unlock();
	emu_fence_unref(sf->fence);
	emu_free(sf);
}

int emu_sync_file_create(struct emu_fence *fence, const char *name)
{
	struct sync_file *sf = emu_alloc(sizeof(*sf));
	int fd;

	if (!sf)
		return -ENOMEM;
	sf->fence = emu_fence_ref(fence);
	sf->cb.fn = signaled;
	emu_list_init(&sf->cb.link);
	snprintf(sf->name, sizeof(sf->name), "%.31s", name);
	fd = emu_fdobj_create(&sf->fd, EMU_FD_SYNC_FILE, true, release);
	if (fd < 0) {
		emu_fence_unref(sf->fence);
		emu_free(sf);
		return fd;
	}
	emu_sync_lock();
	if (fence->signaled)
		mark(sf);
	else
		emu_list_add_tail(&fence->cbs, &sf->cb.link);
	emu_sync_unlock();
	return fd;
}

struct emu_fence *emu_sync_file_fence(int fd)
{
	struct emu_fdobj *o = emu_fdobj_get_type(fd, EMU_FD_SYNC_FILE);
	struct emu_fence *f;

	if (!o)
		return NULL;
	f = emu_fence_ref(emu_container_of(o, struct sync_file, fd)->fence);
	emu_fdobj_put(o);
	return f;
}

static int status_of(struct emu_fence *f)
{
	int s;

	emu_sync_lock();
	s = !f->signaled ? 0 : f->error ? f->error : 1;
	emu_sync_unlock();
	return s;
}

static int file_info(struct sync_file *sf, uint64_t arg)
{
	struct emu_sync_file_info info;
	struct emu_sync_fence_info one = { .obj_name = "emu", .driver_name = "emu" };

	if (emu_user_read(&info, arg, sizeof(info)) < 0)
		return -EFAULT;
	if (info.flags || info.pad)
		return -EINVAL;
	one.status = status_of(sf->fence);
	one.timestamp_ns = sf->fence->time_ns;
	if (info.num_fences) {
		if (emu_user_write(info.fence_info, &one, sizeof(one)) < 0)
			return -EFAULT;
	}
	memcpy(info.name, sf->name, sizeof(info.name));
	info.status = one.status;
	info.num_fences = 1;
	return emu_user_write(arg, &info, sizeof(info));
}

static int merge(struct sync_file *sf, uint64_t arg)
{
	struct emu_sync_merge m;
	struct emu_fence *other, *both;
	int fd;

	if (emu_user_read(&m, arg, sizeof(m)) < 0)
		return -EFAULT;
	if (m.flags || m.pad)
		return -EINVAL;
	other = emu_sync_file_fence(m.fd2);
	if (!other)
		return -ENOENT;
	both = emu_fence_merge(sf->fence, other);
	emu_fence_unref(other);
	if (!both)
		return -ENOMEM;
	m.name[31] = 0;
	fd = emu_sync_file_create(both, m.name);
	emu_fence_unref(both);
	if (fd < 0)
		return fd;
	m.fence = fd;
	return emu_user_write(arg, &m, sizeof(m));
}

int emu_sync_file_ioctl(struct emu_fdobj *obj, unsigned long cmd, unsigned long arg)
{
	struct sync_file *sf = emu_container_of(obj, struct sync_file, fd);

	switch (cmd) {
	case EMU_SYNC_IOC_FILE_INFO:
		return file_info(sf, arg);
	case EMU_SYNC_IOC_MERGE:
		return merge(sf, arg);
	default:
		return -ENOTTY;
	}
}
