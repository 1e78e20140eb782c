/* SPDX-License-Identifier: MIT */
/*
 * Buffer objects: memory is a memfd, so it can be mapped, shared between devices and passed to
 * other processes as an fd that looks and works like a dma-buf.
 */
#ifndef EMU_GEM_H
#define EMU_GEM_H

#include <stdbool.h>
#include <stdint.h>

#include "emu_core.h"

struct emu_bo {
	int refs;
	uint32_t n_handles;
	struct emu_device *dev;
	uint64_t size, offset; /* offset: what mmap of the node takes */
	struct emu_list link;  /* in its device */
	int memfd;
	uint64_t st_dev, st_ino;
	void *map;	       /* the emulator's own view, made when first needed */
	struct emu_bo *source; /* imported: the exporter's BO, when it is in this process */
	bool imported;
	bool gone;	 /* purged: no access finds anything */
	bool cpu_hidden; /* a CPU access is a bus error: out of the window, or not ours to map */
	/* Driver's part: called once, without locks, before the memory goes. */
	void (*release)(struct emu_bo *bo);
	int (*mmap_check)(struct emu_bo *bo);
};

/* Sets up the common part with zeroed memory of its own; one reference. */
int emu_bo_init(struct emu_bo *bo, struct emu_device *dev, uint64_t size);
struct emu_bo *emu_bo_ref(struct emu_bo *bo);
void emu_bo_unref(struct emu_bo *bo);
void *emu_bo_map(struct emu_bo *bo);
/* Throws the contents away: maps give bus errors from now on. */
void emu_bo_purge(struct emu_bo *bo);

int emu_handle_create(struct emu_file *file, struct emu_bo *bo, uint32_t *ret_handle);
struct emu_bo *emu_handle_get(struct emu_file *file, uint32_t handle);

void emu_gem_file_close(struct emu_file *file);
int emu_gem_mmap(struct emu_file *file, void *addr, size_t size, int prot, int flags,
		 uint64_t offset, void **ret_p);

int emu_gem_close_ioctl(struct emu_file *file, void *arg);
int emu_prime_handle_to_fd_ioctl(struct emu_file *file, void *arg);
int emu_prime_fd_to_handle_ioctl(struct emu_file *file, void *arg);

/* True and a result when the fd is a dma-buf of the emulator's and the ioctl a dma-buf's. */
bool emu_dmabuf_ioctl(int fd, unsigned long cmd, unsigned long arg, int *ret_r);
/* Before an fd is closed: is it a dma-buf? After: drop the buffer when no fd names it. */
bool emu_dmabuf_is(int fd);
void emu_dmabuf_reap(void);

#endif
