// SPDX-License-Identifier: MIT
#include "emu_gem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "emu_alloc.h"
#include "emu_drm_uapi.h"
#include "emu_log.h"
#include "emu_sys.h"

static int make_memfd(uint64_t size, struct emu_bo *bo)
{
	struct stat st;
	long fd = syscall(SYS_memfd_create, "emu-bo", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	fd = emu_fd_to_high((int)fd);
	if (syscall(SYS_ftruncate, fd, size) < 0) {
		r = -errno;
		emu_sys_close((int)fd);
		return r == -EFBIG || r == -EINVAL ? -ENOMEM : r;
	}
	r = emu_sys_fstat((int)fd, &st);
	if (r < 0) {
		emu_sys_close((int)fd);
		return r;
	}
	bo->memfd = (int)fd;
	bo->st_dev = st.st_dev;
	bo->st_ino = st.st_ino;
	return 0;
}

static void publish(struct emu_bo *bo)
{
	emu_lock();
	bo->offset = bo->dev->next_offset;
	bo->dev->next_offset += emu_align_up(bo->size, EMU_PAGE);
	emu_list_add_tail(&bo->dev->bos, &bo->link);
	emu_unlock();
}

int emu_bo_init(struct emu_bo *bo, struct emu_device *dev, uint64_t size)
{
	int r;

	bo->refs = 1;
	bo->dev = dev;
	bo->size = size;
	r = make_memfd(size, bo);
	if (r < 0)
		return r;
	publish(bo);
	return 0;
}

struct emu_bo *emu_bo_ref(struct emu_bo *bo)
{
	__atomic_add_fetch(&bo->refs, 1, __ATOMIC_RELAXED);
	return bo;
}

void emu_bo_unref(struct emu_bo *bo)
{
	emu_lock();
	if (__atomic_sub_fetch(&bo->refs, 1, __ATOMIC_ACQ_REL)) {
		emu_unlock();
		return;
	}
	emu_list_del(&bo->link);
	emu_unlock();
	if (bo->release)
		bo->release(bo);
	if (bo->map)
		emu_sys_munmap(bo->map, bo->size);
	if (bo->source)
		emu_bo_unref(bo->source);
	else
		emu_sys_close(bo->memfd);
	emu_free(bo);
}

void *emu_bo_map(struct emu_bo *bo)
{
	void *p = __atomic_load_n(&bo->map, __ATOMIC_ACQUIRE), *none = NULL;

	if (bo->source)
		return emu_bo_map(bo->source);
	if (bo->gone)
		return NULL;
	if (p)
		return p;
	if (emu_sys_mmap(NULL, bo->size, PROT_READ | PROT_WRITE, MAP_SHARED, bo->memfd, 0, &p) < 0)
		return NULL;
	if (__atomic_compare_exchange_n(&bo->map, &none, p, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE))
		return p;
	emu_sys_munmap(p, bo->size);
	return none;
}

void emu_bo_purge(struct emu_bo *bo)
{
	bo->gone = true;
	bo->cpu_hidden = true;
	if (syscall(SYS_ftruncate, bo->memfd, 0) < 0)
		emu_log(EMU_REPORT, "purge failed");
}

/* ---- handles ---- */

int emu_handle_create(struct emu_file *file, struct emu_bo *bo, uint32_t *ret_handle)
{
	int r;

	emu_lock();
	r = emu_ids_add(&file->gems, bo, ret_handle);
	if (r == 0) {
		__atomic_add_fetch(&bo->refs, 1, __ATOMIC_RELAXED);
		bo->n_handles++;
	}
	emu_unlock();
	return r;
}

struct emu_bo *emu_handle_get(struct emu_file *file, uint32_t handle)
{
	struct emu_bo *bo;

	emu_lock();
	bo = emu_ids_get(&file->gems, handle);
	if (bo)
		emu_bo_ref(bo);
	emu_unlock();
	return bo;
}

static int handle_close(struct emu_file *file, uint32_t handle)
{
	struct emu_bo *bo;

	emu_lock();
	bo = emu_ids_remove(&file->gems, handle);
	if (bo)
		bo->n_handles--;
	emu_unlock();
	if (!bo)
		return -EINVAL;
	emu_bo_unref(bo);
	return 0;
}

void emu_gem_file_close(struct emu_file *file)
{
	for (uint32_t h = 1; h < file->gems.n; h++)
		if (emu_ids_get(&file->gems, h))
			handle_close(file, h);
}

int emu_gem_close_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_gem_close *a = arg;

	return handle_close(file, a->handle);
}

/* ---- mmap ---- */

/* The BO whose offset range holds [offset, offset + size) and that the file has a handle to. */
static int find_by_offset(struct emu_file *file, uint64_t offset, uint64_t size,
			  struct emu_bo **ret_bo)
{
	int r = -EINVAL;

	emu_lock();
	emu_list_for_each(n, &file->dev->bos)
	{
		struct emu_bo *bo = emu_list_entry(n, struct emu_bo, link);

		if (offset < bo->offset || offset - bo->offset >= bo->size ||
		    size > emu_align_up(bo->size, EMU_PAGE) - (offset - bo->offset))
			continue;
		r = -EACCES;
		for (uint32_t h = 1; h < file->gems.n && r < 0; h++)
			if (file->gems.slot[h] == bo)
				r = 0;
		if (r == 0)
			*ret_bo = emu_bo_ref(bo);
		break;
	}
	emu_unlock();
	return r;
}

/* A mapping that gives a bus error when touched: pages beyond the end of an empty file. */
static int map_nothing(void *addr, size_t size, int prot, int flags, void **ret_p)
{
	long fd = syscall(SYS_memfd_create, "emu-bo-hidden", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = emu_sys_mmap(addr, size, prot, flags, (int)fd, 0, ret_p);
	emu_sys_close((int)fd);
	return r;
}

int emu_gem_mmap(struct emu_file *file, void *addr, size_t size, int prot, int flags,
		 uint64_t offset, void **ret_p)
{
	struct emu_bo *bo;
	int r = find_by_offset(file, offset, size, &bo);

	if (r < 0)
		return r;
	r = bo->mmap_check ? bo->mmap_check(bo) : 0;
	if (r == 0 && bo->cpu_hidden)
		r = map_nothing(addr, size, prot, flags, ret_p);
	else if (r == 0)
		r = emu_sys_mmap(addr, size, prot, flags, bo->memfd, offset - bo->offset, ret_p);
	emu_bo_unref(bo);
	return r;
}
