// SPDX-License-Identifier: MIT
/*
 * PRIME: BOs as fds and back. The fd is a duplicate of the BO's memfd: it can be mapped, seeked
 * and sent to another process, whose emulator takes it by its name. While an fd of this process
 * names the buffer, the buffer lives.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "emu_alloc.h"
#include "emu_drm_uapi.h"
#include "emu_gem.h"
#include "emu_log.h"
#include "emu_mem.h"
#include "emu_sync_file.h"
#include "emu_sys.h"

struct dmabuf {
	struct emu_list link;
	struct emu_bo *bo;
};

static struct emu_list dmabufs = { &dmabufs, &dmabufs };

/* LOCKING: emu.lock. */
static struct dmabuf *find(uint64_t dev, uint64_t ino)
{
	emu_list_for_each(n, &dmabufs)
	{
		struct dmabuf *d = emu_list_entry(n, struct dmabuf, link);

		if (d->bo->st_dev == dev && d->bo->st_ino == ino)
			return d;
	}
	return NULL;
}

/* The exported BO behind an fd (new reference), or NULL. */
static struct emu_bo *bo_of_fd(int fd)
{
	struct emu_bo *bo = NULL;
	struct dmabuf *d;
	struct stat st;

	if (emu_list_empty(&dmabufs) || emu_sys_fstat(fd, &st) < 0)
		return NULL;
	emu_lock();
	d = find(st.st_dev, st.st_ino);
	if (d)
		bo = emu_bo_ref(d->bo);
	emu_unlock();
	return bo;
}

bool emu_dmabuf_is(int fd)
{
	struct emu_bo *bo = bo_of_fd(fd);

	if (!bo)
		return false;
	emu_bo_unref(bo);
	return true;
}

/* Fds of the process, but not the emulator's own, that name the memory. */
struct dirent64_raw {
	uint64_t ino;
	int64_t off;
	unsigned short reclen;
	unsigned char type;
	char name[];
};

static bool named_by_fd(const struct emu_bo *bo)
{
	char buf[2048] __attribute__((aligned(8)));
	int dir = emu_sys_openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	bool hit = false;
	long got;

	if (dir < 0)
		return true;
	while (!hit && (got = syscall(SYS_getdents64, dir, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < got && !hit;) {
			struct dirent64_raw *d = (struct dirent64_raw *)(buf + at);
			int fd = atoi(d->name);
			struct stat st;

			at += d->reclen;
			if (d->name[0] == '.' || fd == bo->memfd || fd == dir)
				continue;
			hit = emu_sys_fstat(fd, &st) == 0 && st.st_dev == bo->st_dev &&
			      st.st_ino == bo->st_ino;
		}
	}
	emu_sys_close(dir);
	return hit;
}

static struct dmabuf *take_unnamed(void)
{
	struct dmabuf *found = NULL;

	emu_lock();
	emu_list_for_each(n, &dmabufs)
	{
		struct dmabuf *d = emu_list_entry(n, struct dmabuf, link);

		if (!named_by_fd(d->bo)) {
			emu_list_del(n);
			found = d;
			break;
		}
	}
	emu_unlock();
	return found;
}

void emu_dmabuf_reap(void)
{
	struct dmabuf *d;

	while ((d = take_unnamed())) {
		emu_bo_unref(d->bo);
		emu_free(d);
	}
}

static int remember(struct emu_bo *bo)
{
	struct dmabuf *d = emu_alloc(sizeof(*d));
	bool known;

	if (!d)
		return -ENOMEM;
	emu_lock();
	known = find(bo->st_dev, bo->st_ino);
	if (!known) {
		d->bo = emu_bo_ref(bo);
		emu_list_add_tail(&dmabufs, &d->link);
	}
	emu_unlock();
	if (known)
		emu_free(d);
	return 0;
}

#define PRIME_FLAGS (O_CLOEXEC | O_RDWR)

static int export_bo(struct emu_file *file, struct emu_bo *bo, uint32_t flags)
{
	struct emu_bo *real = bo->source ? bo->source : bo;
	int r = file->dev->driver->export_check(file->dev, bo);
	int fd;

	if (r < 0)
		return r;
	fd = emu_sys_fcntl(real->memfd, flags & O_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
	if (fd < 0)
		return fd;
	r = remember(real);
	if (r < 0) {
		emu_sys_close(fd);
		return r;
	}
	return fd;
}

int emu_prime_handle_to_fd_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_prime_handle *a = arg;
	struct emu_bo *bo;
	int r;

	if (a->flags & ~(uint32_t)PRIME_FLAGS)
		return -EINVAL;
	bo = emu_handle_get(file, a->handle);
	if (!bo)
		return -ENOENT;
	r = export_bo(file, bo, a->flags);
	emu_bo_unref(bo);
	if (r < 0)
		return r;
	a->fd = r;
	return 0;
}

/* A dma-buf of another process's emulator or of a real driver (udmabuf), by its name. */
static bool looks_like_dmabuf(int fd)
{
	char path[32], link[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = emu_sys_readlinkat(AT_FDCWD, path, link, sizeof(link) - 1);
	if (n < 0)
		return false;
	link[n] = 0;
	return !strncmp(link, "/memfd:emu-bo", 13) || !strncmp(link, "/dmabuf:", 8);
}

/* An existing handle of the file for the same memory, as drm_prime.c keeps it. */
static bool existing_handle(struct emu_file *file, uint64_t dev, uint64_t ino, uint32_t *ret_handle)
{
	bool found = false;

	emu_lock();
	for (uint32_t h = 1; h < file->gems.n && !found; h++) {
		struct emu_bo *bo = file->gems.slot[h];

		if (bo && bo->st_dev == dev && bo->st_ino == ino) {
			*ret_handle = h;
			found = true;
		}
	}
	emu_unlock();
	return found;
}

static void fill_import(struct emu_bo *bo, struct emu_device *dev, uint64_t size)
{
	bo->refs = 1;
	bo->dev = dev;
	bo->size = size;
	bo->imported = true;
	bo->cpu_hidden = true;
	emu_lock();
	bo->offset = dev->next_offset;
	dev->next_offset += emu_align_up(size, EMU_PAGE);
	emu_list_add_tail(&dev->bos, &bo->link);
	emu_unlock();
}

static int import_local(struct emu_device *dev, struct emu_bo *source, struct emu_bo **ret_bo)
{
	struct emu_bo *bo;
	int r;

	r = dev->driver->import_check(dev, source);
	if (r < 0)
		return r;
	bo = dev->driver->bo_alloc(dev);
	if (!bo)
		return -ENOMEM;
	bo->source = emu_bo_ref(source);
	bo->memfd = source->memfd;
	bo->st_dev = source->st_dev;
	bo->st_ino = source->st_ino;
	fill_import(bo, dev, source->size);
	*ret_bo = bo;
	return 0;
}

static int import_foreign(struct emu_device *dev, int fd, struct emu_bo **ret_bo)
{
	long size = syscall(SYS_lseek, fd, 0, SEEK_END);
	struct emu_bo *bo;
	struct stat st;
	int own, r;

	if (size <= 0)
		return -EINVAL;
	r = emu_sys_fstat(fd, &st);
	if (r < 0)
		return r;
	own = emu_sys_fcntl(fd, F_DUPFD_CLOEXEC, 700);
	if (own < 0)
		return own;
	bo = dev->driver->bo_alloc(dev);
	if (!bo) {
		emu_sys_close(own);
		return -ENOMEM;
	}
	bo->memfd = own;
	bo->st_dev = st.st_dev;
	bo->st_ino = st.st_ino;
	fill_import(bo, dev, (uint64_t)size);
	*ret_bo = bo;
	return 0;
}

static int import_fd(struct emu_file *file, int fd, struct emu_bo **ret_bo)
{
	struct emu_bo *source = bo_of_fd(fd);
	int r;

	if (!source)
		return looks_like_dmabuf(fd) ? import_foreign(file->dev, fd, ret_bo) : -EINVAL;
	if (source->dev == file->dev) {
		*ret_bo = source;
		return 0;
	}
	r = import_local(file->dev, source, ret_bo);
	emu_bo_unref(source);
	return r;
}

int emu_prime_fd_to_handle_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_prime_handle *a = arg;
	struct emu_bo *bo;
	struct stat st;
	int r;

	if (emu_sys_fstat(a->fd, &st) < 0)
		return -EBADF;
	if (existing_handle(file, st.st_dev, st.st_ino, &a->handle))
		return 0;
	r = import_fd(file, a->fd, &bo);
	if (r < 0)
		return r;
	r = emu_handle_create(file, bo, &a->handle);
	emu_bo_unref(bo);
	return r;
}

static int export_sync_file(uint64_t arg)
{
	struct emu_dma_buf_sync_file a;
	struct emu_fence *f;
	int fd;

	if (emu_user_read(&a, arg, sizeof(a)) < 0)
		return -EFAULT;
	f = emu_fence_signaled();
	if (!f)
		return -ENOMEM;
	fd = emu_sync_file_create(f, "dma-buf");
	emu_fence_unref(f);
	if (fd < 0)
		return fd;
	a.fd = fd;
	return emu_user_write(arg, &a, sizeof(a));
}

bool emu_dmabuf_ioctl(int fd, unsigned long cmd, unsigned long arg, int *ret_r)
{
	if (_IOC_TYPE(cmd) != 'b' || !emu_dmabuf_is(fd))
		return false;
	if (cmd == EMU_DMA_BUF_SYNC)
		*ret_r = 0;
	else if (cmd == EMU_DMA_BUF_EXPORT_SYNC_FILE)
		*ret_r = export_sync_file(arg);
	else
		*ret_r = -ENOTTY;
	return true;
}
