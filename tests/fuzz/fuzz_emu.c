/* SPDX-License-Identifier: MIT */
/*
 * The emulated device nodes under arbitrary ioctls: every byte string is a sequence of calls on one open file. Arguments
 * are made of words that mean something (handles, sizes, addresses of memory that is here), so that not all is refused.
 * A call that fails may change nothing, and a closed file leaves nothing behind.
 */
#include "../emu/emu_core.h"
#include "../emu/emu_drm_uapi.h"
#include "../emu/emu_sys.h"
#include "../emu/emu_xe_uapi.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAGE	   4096u
#define MEMORY	   (64u * PAGE)	 /* what user pointers and arrays point to */
#define ARG_SIZE   (16u * 1024u) /* the largest that an ioctl number can say */
#define MAX_MAPS   16u
#define MAX_FDS	   32u
#define FIRST_ADDR 0x1000000u /* of the device's address space */

/* From here on something of this process may be mapped: a job must not be sent there. */
#define OTHERS_START UINT64_C(0x7fff0000)
#define OTHERS_END   (UINT64_C(1) << 47)

struct fuzz_file {
	const uint8_t *data;
	size_t size;
	int fd;
	struct {
		void *map;
		size_t size;
	} maps[MAX_MAPS];
	unsigned int n_maps;
	int fds[MAX_FDS];
	unsigned int n_fds;
	uint64_t mmap_offset;
};

struct counts {
	uint32_t gems, syncobjs, vms, queues;
};

static uint8_t *memory;
static _Alignas(8) uint8_t arg[ARG_SIZE];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	if (setenv("EMU_DEVICES", "xe", 1) ||
	    setenv("EMU_OPTIONS",
		   "log=quiet,strict=off,vram=64M,sysmem=64M,job-timeout=50,check=on", 1) ||
	    setenv("EMU_ROOT", "/nowhere", 1))
		abort();
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || emu_core_init() < 0)
		abort();
	return 0;
}

/* The next number; zeros when the input has ended. */
static uint64_t take(struct fuzz_file *f, unsigned int bytes)
{
	uint64_t value = 0;

	while (bytes-- > 0 && f->size > 0) {
		value = value << 8 | *f->data++;
		f->size--;
	}
	return value;
}

static uint64_t take_word(struct fuzz_file *f)
{
	uint64_t low;

	switch (take(f, 1) % 10u) {
	case 0:
		return take(f, 1);
	case 1: /* two halves */
		low = take(f, 1);
		return take(f, 1) << 32 | low;
	case 2: /* an array */
		return (uintptr_t)memory + take(f, 1) * 64u;
	case 3: /* pages of memory */
		return (uintptr_t)memory + take(f, 1) % 64u * PAGE;
	case 4:
		return FIRST_ADDR + take(f, 1) * (64u << 10);
	case 5:
		return take(f, 1) * PAGE;
	case 6: /* a bit of either half */
		return UINT64_C(1) << take(f, 1) % 64u;
	case 7:
		return take(f, 8);
	default:
		return 0;
	}
}

/* No address of anything else in this process, wherever it may begin. */
static void keep_out(uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i + 8u <= size; i += 4u) {
		uint64_t value;

		memcpy(&value, bytes + i, sizeof(value));
		if (value < OTHERS_START || value >= OTHERS_END ||
		    value - (uintptr_t)memory < MEMORY)
			continue;
		value |= UINT64_C(1) << 63;
		memcpy(bytes + i, &value, sizeof(value));
	}
}

static void fill(struct fuzz_file *f, uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size && f->size > 0; i += 8u) {
		uint64_t word = take_word(f);

		memcpy(bytes + i, &word, size - i < 8u ? size - i : 8u);
	}
	keep_out(bytes, size);
}

static struct counts count(const struct fuzz_file *f)
{
	struct emu_fdobj *obj = emu_fdobj_get_type(f->fd, EMU_FD_FILE);
	struct emu_file *file = emu_container_of(obj, struct emu_file, fd);
	struct counts c;

	emu_lock();
	c.gems = emu_ids_count(&file->gems);
	c.syncobjs = emu_ids_count(&file->syncobjs);
	file->dev->driver->counts(file, &c.vms, &c.queues);
	emu_unlock();
	emu_fdobj_put(obj);
	return c;
}

static void keep_fd(struct fuzz_file *f, int fd)
{
	if (fd < 0)
		return;
	if (f->n_fds < MAX_FDS)
		f->fds[f->n_fds++] = fd;
	else
		emu_sys_close(fd);
}

/* An ioctl by what is in arg. */
static int call(struct fuzz_file *f, unsigned long cmd)
{
	struct counts before = count(f);
	struct counts after;
	int r = 0;

	/* Nobody would end a wait. */
	if (cmd == EMU_DRM_SYNCOBJ_WAIT)
		((struct emu_drm_syncobj_wait *)arg)->timeout_nsec = 0;
	if (cmd == EMU_DRM_SYNCOBJ_TIMELINE_WAIT)
		((struct emu_drm_syncobj_timeline_wait *)arg)->timeout_nsec = 0;
	if (cmd == EMU_XE_WAIT_USER_FENCE)
		((struct emu_xe_wait_user_fence *)arg)->timeout = 0;
	if (!emu_ioctl(f->fd, cmd, (uintptr_t)arg, &r))
		abort();
	after = count(f);
	if (r < 0 && memcmp(&before, &after, sizeof(before))) {
		(void)fprintf(stderr, "ioctl %#lx failed with %d and changed what there is\n", cmd,
			      r);
		abort();
	}
	if (r == 0 && cmd == EMU_DRM_PRIME_HANDLE_TO_FD)
		keep_fd(f, ((struct emu_drm_prime_handle *)arg)->fd);
	if (r == 0 && cmd == EMU_DRM_SYNCOBJ_HANDLE_TO_FD)
		keep_fd(f, ((struct emu_drm_syncobj_handle *)arg)->fd);
	if (r == 0 && cmd == EMU_XE_GEM_MMAP_OFFSET)
		f->mmap_offset = ((struct emu_xe_gem_mmap_offset *)arg)->offset;
	return r;
}

static int call_with(struct fuzz_file *f, unsigned long cmd, const void *from, size_t size)
{
	memcpy(arg, from, size);
	return call(f, cmd);
}

static void any_ioctl(struct fuzz_file *f)
{
	size_t n_all = emu_n_drm_ioctls + emu_xe_driver.n_ioctls;
	size_t i = take(f, 1) % n_all;
	const struct emu_ioctl *entry = i < emu_n_drm_ioctls
						? &emu_drm_ioctls[i]
						: &emu_xe_driver.ioctls[i - emu_n_drm_ioctls];
	unsigned long cmd = entry->cmd;
	uint8_t other = (uint8_t)take(f, 1);
	size_t size;

	/* Older and newer programs: another size, another direction. */
	if (other >= 0xf0)
		cmd = _IOC(take(f, 1) % 4u, 'd', _IOC_NR(cmd), take(f, 2) % ARG_SIZE);
	size = _IOC_SIZE(cmd);
	memset(arg, 0, sizeof(arg));
	fill(f, arg, size);
	(void)call(f, cmd);
}

static void map(struct fuzz_file *f)
{
	size_t size = (take(f, 1) % 64u + 1u) * PAGE;
	int prot = (int)(take(f, 1) % 4u);
	uint64_t offset = take(f, 1) ? f->mmap_offset : take_word(f);
	void *p = NULL;
	int r = 0;

	if (f->n_maps == MAX_MAPS)
		return;
	if (!emu_mmap(f->fd, NULL, size, prot, MAP_SHARED, offset, &r, &p))
		abort();
	if (r < 0)
		return;
	f->maps[f->n_maps].map = p;
	f->maps[f->n_maps++].size = size;
}

/* A VM, a BO that is bound, a syncobj and a copy queue: each has the number 1. */
static void set_up(struct fuzz_file *f)
{
	struct emu_xe_vm_create vm = { .flags = (uint32_t)take(f, 1) };
	struct emu_xe_gem_create bo = { .size = 1u << 20, .placement = 1, .cpu_caching = 1 };
	struct emu_xe_engine_class_instance copy = { .engine_class = EMU_XE_COPY };
	struct emu_xe_exec_queue_create queue = {
		.width = 1, .num_placements = 1, .vm_id = 1, .instances = (uintptr_t)&copy
	};
	struct emu_xe_vm_bind bind = {
		.vm_id = 1,
		.num_binds = 1,
		.bind = { .obj = 1, .range = 1u << 20, .addr = FIRST_ADDR, .pat_index = 1 },
	};
	struct emu_drm_syncobj_create sync = { 0 };

	memset(arg, 0, sizeof(arg));
	(void)call_with(f, EMU_XE_VM_CREATE, &vm, sizeof(vm));
	(void)call_with(f, EMU_XE_GEM_CREATE, &bo, sizeof(bo));
	(void)call_with(f, EMU_XE_EXEC_QUEUE_CREATE, &queue, sizeof(queue));
	(void)call_with(f, EMU_XE_VM_BIND, &bind, sizeof(bind));
	(void)call_with(f, EMU_DRM_SYNCOBJ_CREATE, &sync, sizeof(sync));
}

/* Commands, as the program would have written them: into a mapping, or into memory. */
static void write_bytes(struct fuzz_file *f)
{
	uint8_t bytes[256] = { 0 };
	size_t at = take(f, 1) * 64u;
	size_t size = take(f, 1) % sizeof(bytes);

	fill(f, bytes, size);
	memcpy(memory + at, bytes, size);
}

static void finish(struct fuzz_file *f)
{
	for (unsigned int i = 0; i < f->n_maps; i++)
		if (emu_sys_munmap(f->maps[i].map, f->maps[i].size) < 0)
			abort();
	for (unsigned int i = 0; i < f->n_fds; i++)
		emu_sys_close(f->fds[i]);
	emu_sys_close(f->fd);
	emu_fdobj_reap();
	if (!emu_list_empty(&emu.fds)) {
		(void)fprintf(stderr, "something is open after all was closed\n");
		abort();
	}
	memset(memory, 0, MEMORY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_file f = { .data = data, .size = size };

	f.fd = emu_node_open("renderD128", O_RDWR | O_CLOEXEC);
	if (f.fd < 0)
		abort();
	if (take(&f, 1) % 4u)
		set_up(&f);
	while (f.size > 0) {
		switch (take(&f, 1) % 8u) {
		case 0:
			map(&f);
			break;
		case 1:
		case 2:
			write_bytes(&f);
			break;
		default:
			any_ioctl(&f);
			break;
		}
	}
	finish(&f);
	return 0;
}
