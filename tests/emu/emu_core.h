/* SPDX-License-Identifier: MIT */
/*
 * What the emulated drivers share: devices, open files, handles, ioctl dispatch, failures on
 * demand, and the report at exit.
 *
 * A file descriptor that the emulator hands out is the read end of a pipe whose write end it
 * keeps. So it is a real fd (poll, epoll, io_uring, dup, SCM_RIGHTS and fork work by themselves),
 * it is recognised by its inode, and it is gone for good when the kernel says that no read end
 * is left.
 *
 * Locks, outermost first: a driver's own (long) locks; emu.lock (tables, never over a wait);
 * the lock of emu_sync.c; the allocator's. fork() takes the last three.
 */
#ifndef EMU_CORE_H
#define EMU_CORE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "emu_pt.h"
#include "emu_util.h"

enum emu_strictness { EMU_STRICT_OFF, EMU_STRICT_REPORT, EMU_STRICT_ABORT };

#define EMU_MAX_DEVICES 8

/* Table of numbers to objects, lowest free number first, from 1. Guarded by emu.lock. */
struct emu_ids {
	void **slot;
	uint32_t n;
};

int emu_ids_add(struct emu_ids *ids, void *obj, uint32_t *ret_id);
void *emu_ids_get(const struct emu_ids *ids, uint32_t id);
void *emu_ids_remove(struct emu_ids *ids, uint32_t id);
uint32_t emu_ids_count(const struct emu_ids *ids);
void emu_ids_finish(struct emu_ids *ids);

/* What an fd of the emulator's stands for. */
enum emu_fd_type { EMU_FD_FILE, EMU_FD_SYNC_FILE, EMU_FD_SYNCOBJ };

struct emu_fdobj {
	struct emu_list link;
	enum emu_fd_type type;
	int refs;
	int wr;
	uint64_t dev, ino;
	void (*release)(struct emu_fdobj *obj); /* called without locks */
};

/* Makes the fd and puts the object (one reference, the table's) into the table. Gives the fd. */
int emu_fdobj_create(struct emu_fdobj *obj, enum emu_fd_type type, bool cloexec,
		     void (*release)(struct emu_fdobj *));
/* A new reference to the object behind an fd, or NULL. */
struct emu_fdobj *emu_fdobj_get(int fd);
struct emu_fdobj *emu_fdobj_get_type(int fd, enum emu_fd_type type);
void emu_fdobj_put(struct emu_fdobj *obj);
/* Drops what no fd names any more. */
void emu_fdobj_reap(void);

struct emu_bo;
struct emu_device;
struct emu_file;

struct emu_ioctl {
	unsigned nr;
	unsigned long cmd; /* direction and size as the kernel has them */
	int (*fn)(struct emu_file *file, void *arg);
	unsigned since; /* kernel version << 8 that brought it; 0: always */
	bool primary_only;
	const char *name;
};

struct emu_driver {
	const char *name;
	const char *date, *desc;
	int major, minor, patch;
	const struct emu_ioctl *ioctls;
	size_t n_ioctls;
	int (*device_init)(struct emu_device *dev);
	int (*file_open)(struct emu_file *file);
	void (*file_close)(struct emu_file *file);
	/* In the child of a fork: makes locks anew that another thread may have held. */
	void (*fork_child)(struct emu_file *file);
	/* Errno before anything else of an ioctl is looked at, or 0. */
	int (*gate)(struct emu_device *dev);
	/* An mmap of an offset that is no BO's; -ENOENT: not mine either. */
	int (*mmap_special)(struct emu_file *file, void *addr, size_t size, int prot, int flags,
			    uint64_t offset, void **ret_p);
	/* A zeroed BO of the driver for memory that is imported. */
	struct emu_bo *(*bo_alloc)(struct emu_device *dev);
	/* PRIME: refusal of an export or import, 0 when allowed. */
	int (*export_check)(struct emu_device *dev, struct emu_bo *bo);
	int (*import_check)(struct emu_device *dev, struct emu_bo *bo);
	void (*counts)(struct emu_file *file, uint32_t *ret_vms, uint32_t *ret_queues);
};

extern const struct emu_driver emu_xe_driver;

/* Fail ioctl number `at` (counted from 1), or each `every`-th; nr 0: any. */
struct emu_inject {
	_Atomic uint64_t at;
	_Atomic uint64_t every;
	_Atomic int err;
	_Atomic unsigned nr;
	_Atomic uint64_t seen;
};

enum { EMU_INJECT_ONCE, EMU_INJECT_EINTR, EMU_INJECT_EAGAIN, EMU_INJECT_ENOMEM, EMU_N_INJECT };

struct emu_device {
	const struct emu_driver *driver;
	int index;
	unsigned card_minor, render_minor;
	unsigned kernel;		/* major << 8 | minor */
	unsigned mode;			/* of the render node */
	char name[16];			/* of the driver, as it says */
	_Atomic bool wedged, unplugged; /* emu_device_ends() */
	struct emu_bus bus;
	bool uffd_waits;
	uint64_t next_offset;
	struct emu_list bos; /* those with an mmap offset */
	struct emu_inject inject[EMU_N_INJECT];
	uint64_t wedge_at, unplug_at;
	_Atomic uint64_t n_ioctls;
	_Atomic uint64_t n_by_nr[256];
	_Atomic uint64_t most_jobs; /* unfinished at a time, on one engine queue */
	void *priv;
};

struct emu_file {
	struct emu_fdobj fd;
	struct emu_device *dev;
	bool render;
	bool inherited; /* opened before a fork, seen in the child */
	struct emu_ids gems, syncobjs;
	void *priv;
};

struct emu_global {
	pthread_mutex_t lock;
	struct emu_device devices[EMU_MAX_DEVICES];
	int n_devices;
	enum emu_strictness strict;
	const char *options;
	const char *root; /* the tree that stands in for /dev/dri and parts of /sys */
	_Atomic uint64_t n_strict, n_leaked, n_files;
	struct emu_list fds;
	bool ready;
};

extern struct emu_global emu;

int emu_core_init(void);
void emu_core_exit_report(void);

void emu_lock(void);
void emu_unlock(void);

/* Opens a node by its path below /dev/dri, e.g. "renderD128"; -ENOENT when it is not one. */
int emu_node_open(const char *name, int flags);
/*
 * A device is wedged or unplugged, which *how says, or is not any more. Before anybody is told it stops touching memory:
 * that is what drivers owe (Documentation/gpu/drm-uapi.rst, "Driver prerequisites" of device wedging).
 */
void emu_device_ends(struct emu_device *dev, _Atomic bool *how, bool on);
struct emu_device *emu_node_find(const char *name, bool *ret_render, unsigned *ret_minor);

/* Any ioctl of the program. False: not an fd of the emulator's. */
bool emu_ioctl(int fd, unsigned long cmd, unsigned long arg, int *ret_r);
bool emu_mmap(int fd, void *addr, size_t size, int prot, int flags, uint64_t offset, int *ret_r,
	      void **ret_p);

/* Ioctls that every DRM driver has (emu_drm.c). */
extern const struct emu_ioctl emu_drm_ioctls[];
extern const size_t emu_n_drm_ioctls;

#endif
