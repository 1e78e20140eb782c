// SPDX-License-Identifier: MIT
#include "emu_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static unsigned n_rows, n_skips;

int t_ioctl(int fd, unsigned long cmd, const void *arg)
{
	int r;

	do
		r = ioctl(fd, cmd, arg);
	while (r < 0 && (errno == EINTR || errno == EAGAIN));
	return r < 0 ? -errno : r;
}

int t_open(int device)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/dri/renderD%d", 128 + device);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void list_row(const char *what, int want, const char *fn)
{
	const char *path = getenv("EMU_ROWS");
	FILE *f = path ? fopen(path, "ae") : NULL;

	if (!f)
		return;
	fprintf(f, "| %s | %s | `%s` |\n", what, want ? strerrorname_np(-want) : "accepted", fn);
	fclose(f);
}

void t_row(const char *what, int want, int got, const char *fn, int line)
{
	n_rows++;
	list_row(what, want, fn);
	if (want != got)
		fail_msg("%s:%d: %s: want %d, got %d", fn, line, what, want, got);
}

void t_note_skip(const char *why)
{
	n_skips++;
	print_message("skipped: %s\n", why);
}

uint64_t t_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* The emulator's own option, as the launcher passed it on; NULL when it was not given. */
const char *t_option(const char *name)
{
	static char value[64];
	const char *p = getenv("EMU_OPTIONS");
	size_t n = strlen(name);

	while (p && *p) {
		size_t len = strcspn(p, ",");

		if (len > n && !strncmp(p, name, n) && p[n] == '=') {
			snprintf(value, sizeof(value), "%.*s", (int)(len - n - 1), p + n + 1);
			return value;
		}
		p += len + (p[len] == ',');
	}
	return NULL;
}

static uint32_t gt_ip(int fd)
{
	char buf[512] = { 0 };
	struct emu_xe_device_query q = { .query = EMU_XE_QUERY_GT_LIST };
	struct emu_xe_query_gt_list *l = (void *)buf;

	t_ok(t_ioctl(fd, EMU_XE_DEVICE_QUERY, &q));
	assert_true(q.size <= sizeof(buf));
	q.data = (uintptr_t)buf;
	t_ok(t_ioctl(fd, EMU_XE_DEVICE_QUERY, &q));
	return l->gt_list[0].ip_ver_major * 100u + l->gt_list[0].ip_ver_minor;
}

/* As section 4.4 of the facts about PAT says a program should choose. */
static uint32_t wb_index(uint32_t ip, uint64_t va_bits)
{
	if (ip >= 2000)
		return 2;
	if (ip >= 1270)
		return 3;
	return va_bits == 57 ? 3 : 0;
}

void t_query(int fd, struct t_device *ret_d)
{
	struct emu_xe_query_config c = { 0 };
	struct emu_xe_device_query q = { .query = EMU_XE_QUERY_CONFIG,
					 .size = sizeof(c),
					 .data = (uintptr_t)&c };

	t_ok(t_ioctl(fd, EMU_XE_DEVICE_QUERY, &q));
	ret_d->flags = c.info[1];
	ret_d->min_align = c.info[2];
	ret_d->va_bits = c.info[3];
	ret_d->vram = c.info[1] & EMU_XE_CONFIG_HAS_VRAM;
	ret_d->usm = c.info[1] & EMU_XE_CONFIG_HAS_CPU_ADDR_MIRROR;
	ret_d->wb = wb_index(gt_ip(fd), c.info[3]);
	ret_d->copy = 0;
}

uint32_t t_vm(int fd, uint32_t flags)
{
	struct emu_xe_vm_create a = { .flags = flags };

	t_ok(t_ioctl(fd, EMU_XE_VM_CREATE, &a));
	assert_true(a.vm_id >= 1);
	return a.vm_id;
}

int t_vm_destroy(int fd, uint32_t vm)
{
	struct emu_xe_vm_destroy a = { .vm_id = vm };

	return t_ioctl(fd, EMU_XE_VM_DESTROY, &a);
}

uint32_t t_bo(int fd, uint64_t size, uint32_t placement, uint32_t vm)
{
	struct emu_xe_gem_create a = { .size = size, .placement = placement, .vm_id = vm };

	a.cpu_caching = placement & ~1u ? EMU_XE_CACHING_WC : EMU_XE_CACHING_WB;
	t_ok(t_ioctl(fd, EMU_XE_GEM_CREATE, &a));
	return a.handle;
}

void *t_map(int fd, uint32_t bo, uint64_t size)
{
	struct emu_xe_gem_mmap_offset a = { .handle = bo };
	void *p;

	t_ok(t_ioctl(fd, EMU_XE_GEM_MMAP_OFFSET, &a));
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)a.offset);
	assert_true(p != MAP_FAILED);
	return p;
}

int t_bo_close(int fd, uint32_t bo)
{
	struct emu_drm_gem_close a = { .handle = bo };

	return t_ioctl(fd, EMU_DRM_GEM_CLOSE, &a);
}

struct emu_xe_vm_bind t_bind_op(uint32_t vm, uint32_t op, uint64_t addr, uint64_t size,
				uint32_t pat)
{
	struct emu_xe_vm_bind b = { .vm_id = vm, .num_binds = 1 };

	b.bind.op = op;
	b.bind.addr = addr;
	b.bind.range = size;
	b.bind.pat_index = (uint16_t)pat;
	return b;
}

struct emu_xe_vm_bind t_bind_bo(uint32_t vm, uint32_t bo, uint64_t offset, uint64_t addr,
				uint64_t size, uint32_t pat)
{
	struct emu_xe_vm_bind b = t_bind_op(vm, EMU_XE_OP_MAP, addr, size, pat);

	b.bind.obj = bo;
	b.bind.where = offset;
	return b;
}

struct emu_xe_vm_bind t_bind_user(uint32_t vm, const void *p, uint64_t addr, uint64_t size,
				  uint32_t pat)
{
	struct emu_xe_vm_bind b = t_bind_op(vm, EMU_XE_OP_MAP_USERPTR, addr, size, pat);

	b.bind.where = (uintptr_t)p;
	return b;
}

int t_bind_wait(int fd, struct emu_xe_vm_bind b, bool lr)
{
	uint64_t word __attribute__((aligned(8))) = 0;
	struct emu_xe_sync s = { .flags = EMU_XE_SYNC_SIGNAL };
	struct emu_xe_wait_user_fence w = {
		.addr = (uintptr_t)&word, .value = 1, .mask = ~0ull, .timeout = -1
	};
	uint32_t obj = lr ? 0 : t_syncobj(fd, false);
	int r;

	s.type = lr ? EMU_XE_USER_FENCE : EMU_XE_SYNCOBJ;
	s.where = lr ? (uintptr_t)&word : obj;
	s.timeline_value = 1;
	b.num_syncs = 1;
	b.syncs = (uintptr_t)&s;
	r = t_ioctl(fd, EMU_XE_VM_BIND, &b);
	if (r == 0)
		r = lr ? t_ioctl(fd, EMU_XE_WAIT_USER_FENCE, &w)
		       : t_syncobj_wait(fd, obj, INT64_MAX);
	if (obj)
		t_ok(t_syncobj_destroy(fd, obj));
	return r;
}

uint32_t t_queue(int fd, uint32_t vm, uint16_t class, uint16_t instance)
{
	struct emu_xe_engine_class_instance e = { .engine_class = class,
						  .engine_instance = instance };
	struct emu_xe_exec_queue_create a = {
		.width = 1, .num_placements = 1, .vm_id = vm, .instances = (uintptr_t)&e
	};

	t_ok(t_ioctl(fd, EMU_XE_EXEC_QUEUE_CREATE, &a));
	assert_true(a.exec_queue_id >= 1);
	return a.exec_queue_id;
}

int t_queue_destroy(int fd, uint32_t queue)
{
	struct emu_xe_exec_queue_destroy a = { .exec_queue_id = queue };

	return t_ioctl(fd, EMU_XE_EXEC_QUEUE_DESTROY, &a);
}

uint32_t t_syncobj(int fd, bool signaled)
{
	struct emu_drm_syncobj_create a = { .flags = signaled };

	t_ok(t_ioctl(fd, EMU_DRM_SYNCOBJ_CREATE, &a));
	return a.handle;
}

int t_syncobj_destroy(int fd, uint32_t handle)
{
	struct emu_drm_syncobj_destroy a = { .handle = handle };

	return t_ioctl(fd, EMU_DRM_SYNCOBJ_DESTROY, &a);
}

int t_syncobj_wait(int fd, uint32_t handle, int64_t timeout_ns)
{
	int64_t now = (int64_t)t_now();
	struct emu_drm_syncobj_wait a = { .handles = (uintptr_t)&handle, .count = 1 };

	a.timeout_nsec = timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
	return t_ioctl(fd, EMU_DRM_SYNCOBJ_WAIT, &a);
}

/* ---- a GPU in a hand ---- */

#define BATCH_SIZE (64 * KIB)
#define FENCE_AT   (48 * KIB)

void t_gpu_open(struct t_gpu *g, int device, uint32_t vm_flags)
{
	*g = (struct t_gpu){ .fd = t_open(device), .flags = vm_flags };
	t_query(g->fd, &g->d);
	g->vm = t_vm(g->fd, vm_flags);
	g->bo = t_bo(g->fd, BATCH_SIZE, 1, g->vm);
	g->batch = t_map(g->fd, g->bo, BATCH_SIZE);
	g->fence = (uint64_t *)((char *)g->batch + FENCE_AT);
	g->batch_addr = 0x10000000;
	t_ok(t_bind_wait(g->fd, t_bind_bo(g->vm, g->bo, 0, g->batch_addr, BATCH_SIZE, g->d.wb),
			 vm_flags & EMU_XE_VM_LR));
	g->queue = t_queue(g->fd, g->vm, EMU_XE_COPY, 0);
	g->sync = t_syncobj(g->fd, false);
}

void t_gpu_close(struct t_gpu *g)
{
	t_ok(t_queue_destroy(g->fd, g->queue));
	t_ok(t_syncobj_destroy(g->fd, g->sync));
	t_ok(munmap(g->batch, BATCH_SIZE));
	t_ok(t_vm_destroy(g->fd, g->vm));
	t_ok(t_bo_close(g->fd, g->bo));
	t_ok(close(g->fd));
}

int t_submit(struct t_gpu *g)
{
	bool lr = g->flags & EMU_XE_VM_LR;
	struct emu_xe_sync s = { .flags = EMU_XE_SYNC_SIGNAL };
	struct emu_xe_exec a = { .exec_queue_id = g->queue,
				 .num_syncs = 1,
				 .num_batch_buffer = 1,
				 .address = g->batch_addr,
				 .syncs = (uintptr_t)&s };

	s.type = lr ? EMU_XE_USER_FENCE : EMU_XE_SYNCOBJ;
	s.where = lr ? g->batch_addr + FENCE_AT : g->sync;
	s.timeline_value = ++g->fence_value;
	return t_ioctl(g->fd, EMU_XE_EXEC, &a);
}

int t_wait(struct t_gpu *g, int64_t timeout_ns)
{
	struct emu_xe_wait_user_fence w = { .addr = (uintptr_t)g->fence,
					    .value = g->fence_value,
					    .mask = ~0ull,
					    .timeout = timeout_ns,
					    .exec_queue_id = g->queue };

	if (g->flags & EMU_XE_VM_LR)
		return t_ioctl(g->fd, EMU_XE_WAIT_USER_FENCE, &w);
	return t_syncobj_wait(g->fd, g->sync, timeout_ns);
}

int t_run(struct t_gpu *g)
{
	int r = t_submit(g);

	return r < 0 ? r : t_wait(g, 10000000000ll);
}

bool t_banned(struct t_gpu *g)
{
	struct emu_xe_exec_queue_property a = { .exec_queue_id = g->queue };

	t_ok(t_ioctl(g->fd, EMU_XE_EXEC_QUEUE_GET_PROPERTY, &a));
	return a.value;
}

static uint32_t *put(uint32_t *p, uint32_t v)
{
	*p = v;
	return p + 1;
}

static uint32_t *put_addr(uint32_t *p, uint64_t addr)
{
	p = put(p, (uint32_t)addr);
	return put(p, (uint32_t)(addr >> 32));
}

#define BATCH_END 0x05000000

void t_batch_store(struct t_gpu *g, uint64_t addr, uint32_t value)
{
	uint32_t *p = g->batch;

	p = put(p, 0x10000002);
	p = put_addr(p, addr);
	p = put(p, value);
	put(p, BATCH_END);
}

static bool has_mem_copy(const struct t_gpu *g)
{
	return g->d.wb == 2 || g->d.va_bits == 57;
}

static uint32_t *copy_command(struct t_gpu *g, uint32_t *p, uint64_t dst, uint64_t src,
			      uint64_t size)
{
	if (has_mem_copy(g)) {
		p = put(p, 0x56880008);
		p = put(p, (uint32_t)(size / 256 - 1));
		p = put(put(put(p, 0), 0), 0);
		p = put_addr(p, src);
		p = put_addr(p, dst);
		return put(p, 0);
	}
	p = put(p, 0x50800008);
	p = put(p, 3u << 24 | 4096 | (gt_ip(g->fd) || g->d.min_align == 0x10000 ? 3u << 30 : 0));
	p = put(p, 0);
	p = put(p, (uint32_t)(size / 4096) << 16 | 1024);
	p = put_addr(p, dst);
	p = put(put(p, 0), 4096);
	return put_addr(p, src);
}

void t_batch_copy(struct t_gpu *g, uint64_t dst, uint64_t src, uint64_t size)
{
	put(copy_command(g, g->batch, dst, src, size), BATCH_END);
}

void t_batch_fill(struct t_gpu *g, uint64_t dst, uint64_t size, uint8_t byte)
{
	bool wide = gt_ip(g->fd) || g->d.min_align == 0x10000;
	uint32_t *p = g->batch;

	if (has_mem_copy(g)) {
		p = put(p, 0x56c20005);
		p = put(p, 4095);
		p = put(p, (uint32_t)(size / 4096) - 1);
		p = put(p, 4095);
		p = put_addr(p, dst);
		p = put(p, (uint32_t)byte << 24);
	} else {
		p = put(p, wide ? 0x5110000e : 0x51100009);
		p = put(p, 4095);
		p = put(p, 0);
		p = put(p, (uint32_t)(size / 4096) << 16 | 1024);
		p = put_addr(p, dst);
		p = put(p, 0);
		p = put(p, byte * 0x01010101u);
		for (int i = 8; i < (wide ? 16 : 11); i++)
			p = put(p, 0);
	}
	put(p, BATCH_END);
}

int t_main(const struct CMUnitTest *tests, size_t n)
{
	int failed;

	if (!emu_ctl_ioctls) {
		fputs("not under the emulator: run by emu_launch\n", stderr);
		return 77;
	}
	failed = _cmocka_run_group_tests("emu", tests, n, NULL, NULL);
	printf("%u rows checked\n%zu passed, %d failed, %u skipped\n", n_rows,
	       n - (size_t)failed - n_skips, failed, n_skips);
	return failed != 0;
}
