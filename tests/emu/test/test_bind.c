// SPDX-License-Identifier: MIT
/* VM_BIND: areas that are replaced, split and merged, arrays, undo, pending fences, purging. */
#include "emu_test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define VA 0x200000000ull

static uint32_t count(struct t_gpu *g, uint64_t start, uint64_t size)
{
	struct emu_xe_vm_query_mem_range_attr q = { .vm_id = g->vm, .start = start, .range = size };

	t_ok(t_ioctl(g->fd, EMU_XE_VM_QUERY_MEM_RANGE_ATTRS, &q));
	return q.num_mem_ranges;
}

static void map_replaces_and_splits(void **state)
{
	struct t_gpu g;
	uint32_t a, b;
	uint32_t *pa, *pb;

	(void)state;
	t_gpu_open(&g, 0, 0);
	a = t_bo(g.fd, MIB, 1, 0);
	b = t_bo(g.fd, MIB, 1, 0);
	pa = t_map(g.fd, a, MIB);
	pb = t_map(g.fd, b, MIB);
	t_ok(t_bind_wait(g.fd, t_bind_bo(g.vm, a, 0, VA, MIB, g.d.wb), false));
	assert_int_equal(count(&g, VA, MIB), 1);
	t_ok(t_bind_wait(g.fd, t_bind_bo(g.vm, b, 0, VA + 256 * KIB, 256 * KIB, g.d.wb), false));
	assert_int_equal(count(&g, VA, MIB), 3);
	for (uint64_t at = 0; at < MIB; at += 128 * KIB) {
		t_batch_store(&g, VA + at, (uint32_t)at + 1);
		t_ok(t_run(&g));
	}
	assert_int_equal(pa[0], 1);
	assert_int_equal(pa[256 * KIB / 4], 0);
	assert_int_equal(pb[0], 256 * KIB + 1);
	assert_int_equal(pb[128 * KIB / 4], 384 * KIB + 1);
	assert_int_equal(pa[512 * KIB / 4], 512 * KIB + 1);
	t_ok(t_bind_wait(g.fd, t_bind_op(g.vm, EMU_XE_OP_UNMAP, VA + 64 * KIB, 896 * KIB, g.d.wb),
			 false));
	assert_int_equal(count(&g, VA, MIB), 2);
	t_batch_store(&g, VA + MIB - 8, 77);
	t_ok(t_run(&g));
	assert_int_equal(pa[MIB / 4 - 2], 77);
	t_batch_store(&g, VA + 512 * KIB, 1);
	t_ok(t_run(&g));
	assert_true(t_banned(&g));
	t_ok(munmap(pa, MIB));
	t_ok(munmap(pb, MIB));
	t_ok(t_bo_close(g.fd, a));
	t_ok(t_bo_close(g.fd, b));
	t_gpu_close(&g);
}

static void an_array_is_all_or_nothing(void **state)
{
	struct emu_xe_vm_bind_op op[3] = { { 0 } };
	struct emu_xe_vm_bind b = { .num_binds = 3, .vector_of_binds = (uintptr_t)op };
	char *hole =
		mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct t_gpu g;
	uint32_t bo;

	(void)state;
	t_ok(munmap(hole + MIB, MIB));
	t_gpu_open(&g, 0, 0);
	bo = t_bo(g.fd, MIB, 1, 0);
	b.vm_id = g.vm;
	op[0] = t_bind_bo(g.vm, bo, 0, VA, MIB, g.d.wb).bind;
	op[1] = t_bind_bo(g.vm, bo, 0, VA + 2 * MIB, MIB, g.d.wb).bind;
	op[2] = t_bind_op(g.vm, EMU_XE_OP_UNMAP, VA + 2 * MIB, 512 * KIB, g.d.wb).bind;
	t_ok(t_bind_wait(g.fd, b, false));
	assert_int_equal(count(&g, VA, 4 * MIB), 2);
	/* The last one fails: the first two never happened. */
	op[0] = t_bind_op(g.vm, EMU_XE_OP_UNMAP, VA, 256 * KIB, g.d.wb).bind;
	op[1] = t_bind_bo(g.vm, bo, 0, VA + 8 * MIB, MIB, g.d.wb).bind;
	op[2] = t_bind_user(g.vm, hole, VA + 16 * MIB, 2 * MIB, g.d.wb).bind;
	ROW("VM_BIND array: last op fails", EFAULT, t_ioctl(g.fd, EMU_XE_VM_BIND, &b));
	assert_int_equal(count(&g, VA, 32 * MIB), 2);
	t_batch_store(&g, VA, 1);
	t_ok(t_run(&g));
	assert_false(t_banned(&g));
	t_ok(munmap(hole, MIB));
	t_ok(t_bo_close(g.fd, bo));
	t_gpu_close(&g);
}

/* UNMAP while the MAP's user fence has not been written: EBUSY. */
static void unmap_before_the_user_fence_is_busy(void **state)
{
	uint64_t word __attribute__((aligned(8))) = 0;
	struct emu_xe_sync s = { .type = EMU_XE_USER_FENCE,
				 .flags = EMU_XE_SYNC_SIGNAL,
				 .where = (uintptr_t)&word,
				 .timeline_value = 7 };
	struct emu_xe_wait_user_fence w = {
		.addr = (uintptr_t)&word, .value = 7, .mask = ~0ull, .timeout = -1
	};
	struct emu_xe_vm_bind b, u;
	struct t_gpu g;
	uint32_t bo;

	(void)state;
	if (!t_option("bind-delay"))
		t_skip("needs bind-delay");
	t_gpu_open(&g, 0, 0);
	bo = t_bo(g.fd, MIB, 1, 0);
	b = t_bind_bo(g.vm, bo, 0, VA, MIB, g.d.wb);
	b.num_syncs = 1;
	b.syncs = (uintptr_t)&s;
	u = t_bind_op(g.vm, EMU_XE_OP_UNMAP, VA, MIB, g.d.wb);
	t_ok(t_ioctl(g.fd, EMU_XE_VM_BIND, &b));
	ROW("VM_BIND: UNMAP before the user fence", EBUSY, t_ioctl(g.fd, EMU_XE_VM_BIND, &u));
	t_ok(t_ioctl(g.fd, EMU_XE_WAIT_USER_FENCE, &w));
	while (t_ioctl(g.fd, EMU_XE_VM_BIND, &u) == -EBUSY)
		;
	t_ok(t_bo_close(g.fd, bo));
	t_gpu_close(&g);
}

static void unmap_all_takes_every_area_of_a_bo(void **state)
{
	struct emu_xe_vm_bind u;
	struct t_gpu g;
	uint32_t bo;

	(void)state;
	t_gpu_open(&g, 0, 0);
	bo = t_bo(g.fd, MIB, 1, 0);
	for (int i = 0; i < 4; i++)
		t_ok(t_bind_wait(g.fd,
				 t_bind_bo(g.vm, bo, 0, VA + (uint64_t)i * 4 * MIB, MIB, g.d.wb),
				 false));
	assert_int_equal(count(&g, VA, 32 * MIB), 4);
	u = t_bind_op(g.vm, EMU_XE_OP_UNMAP_ALL, 0, 0, g.d.wb);
	u.bind.obj = bo;
	t_ok(t_bind_wait(g.fd, u, false));
	assert_int_equal(count(&g, VA, 32 * MIB), 0);
	t_ok(t_bo_close(g.fd, bo));
	t_gpu_close(&g);
}

static void closed_handle_stays_mapped(void **state)
{
	struct t_gpu g;
	uint32_t bo, *p;

	(void)state;
	t_gpu_open(&g, 0, 0);
	bo = t_bo(g.fd, MIB, 1, 0);
	p = t_map(g.fd, bo, MIB);
	t_ok(t_bind_wait(g.fd, t_bind_bo(g.vm, bo, 0, VA, MIB, g.d.wb), false));
	t_ok(t_bo_close(g.fd, bo));
	t_batch_store(&g, VA, 9);
	t_ok(t_run(&g));
	assert_int_equal(p[0], 9);
	t_ok(munmap(p, MIB));
	t_gpu_close(&g);
}

static sigjmp_buf bus_jump;

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(bus_jump, 1);
}

/* True when a read of the address is a bus error. */
static bool bus_error_at(volatile char *p)
{
	struct sigaction sa = { .sa_handler = on_bus }, old;
	volatile bool hit = false;

	t_ok(sigaction(SIGBUS, &sa, &old));
	if (sigsetjmp(bus_jump, 1) == 0)
		(void)*p;
	else
		hit = true;
	t_ok(sigaction(SIGBUS, &old, NULL));
	return hit;
}

static uint64_t region(int fd, uint16_t instance, uint64_t *ret_visible)
{
	char buf[1024] = { 0 };
	struct emu_xe_query_mem_regions *m = (void *)buf;
	struct emu_xe_device_query q = { .query = EMU_XE_QUERY_MEM_REGIONS };

	t_ok(t_ioctl(fd, EMU_XE_DEVICE_QUERY, &q));
	assert_true(q.size <= sizeof(buf));
	q.data = (uintptr_t)buf;
	t_ok(t_ioctl(fd, EMU_XE_DEVICE_QUERY, &q));
	assert_true(instance < m->num_mem_regions);
	*ret_visible = m->mem_regions[instance].cpu_visible_size;
	return m->mem_regions[instance].total_size - m->mem_regions[instance].used;
}

static void vram_has_a_size_and_is_given_back(void **state)
{
	struct emu_xe_gem_create a = { .size = 64 * MIB,
				       .placement = 2,
				       .cpu_caching = EMU_XE_CACHING_WC };
	uint32_t handle[64];
	uint64_t visible, room;
	struct t_gpu g;
	int n = 0, r;

	(void)state;
	t_gpu_open(&g, 0, 0);
	if (!g.d.vram) {
		t_gpu_close(&g);
		t_skip("no device memory");
	}
	room = region(g.fd, 1, &visible);
	while ((r = t_ioctl(g.fd, EMU_XE_GEM_CREATE, &a)) == 0) {
		handle[n++] = a.handle;
		a.handle = 0;
	}
	ROW("GEM_CREATE: VRAM exhausted", ENOMEM, r);
	assert_int_equal(n, room / (64 * MIB));
	/* With system memory allowed it spills. */
	a.placement = 3;
	t_ok(t_ioctl(g.fd, EMU_XE_GEM_CREATE, &a));
	t_ok(t_bo_close(g.fd, a.handle));
	while (n)
		t_ok(t_bo_close(g.fd, handle[--n]));
	assert_int_equal(region(g.fd, 1, &visible), room);
	t_gpu_close(&g);
}

static void small_bar_hides_what_is_out_of_the_window(void **state)
{
	struct emu_xe_gem_create a = { .size = 64 * MIB,
				       .placement = 2,
				       .cpu_caching = EMU_XE_CACHING_WC };
	uint64_t visible = 0, room;
	struct t_gpu g;
	uint32_t hidden;
	char *p;

	(void)state;
	t_gpu_open(&g, 0, 0);
	room = g.d.vram ? region(g.fd, 1, &visible) : 0;
	if (!room || visible >= room) {
		t_gpu_close(&g);
		t_skip("all of the device memory is visible");
	}
	hidden = t_bo(g.fd, MIB, 2, 0);
	p = t_map(g.fd, hidden, MIB);
	assert_true(bus_error_at(p));
	t_ok(munmap(p, MIB));
	a.flags = EMU_XE_GEM_NEEDS_VISIBLE_VRAM;
	t_ok(t_ioctl(g.fd, EMU_XE_GEM_CREATE, &a));
	p = t_map(g.fd, a.handle, a.size);
	assert_false(bus_error_at(p));
	p[0] = 1;
	t_ok(munmap(p, a.size));
	t_ok(t_bo_close(g.fd, a.handle));
	a.handle = 0;
	a.size = visible + MIB;
	ROW("GEM_CREATE: larger than the visible window", ENOMEM,
	    t_ioctl(g.fd, EMU_XE_GEM_CREATE, &a));
	t_ok(t_bo_close(g.fd, hidden));
	t_gpu_close(&g);
}

static void prime_shares_memory_between_devices(void **state)
{
	struct emu_drm_prime_handle h = { .flags = O_CLOEXEC | O_RDWR }, i = { 0 }, again;
	struct t_gpu g, other;
	uint32_t bo, *p, *q;

	(void)state;
	t_gpu_open(&g, 0, 0);
	t_gpu_open(&other, 1, 0);
	bo = t_bo(g.fd, MIB, 1, 0);
	p = t_map(g.fd, bo, MIB);
	h.handle = bo;
	t_ok(t_ioctl(g.fd, EMU_DRM_PRIME_HANDLE_TO_FD, &h));
	assert_int_equal(lseek(h.fd, 0, SEEK_END), MIB);
	q = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, h.fd, 0);
	assert_ptr_not_equal(q, MAP_FAILED);
	p[5] = 55;
	assert_int_equal(q[5], 55);
	i.fd = h.fd;
	t_ok(t_ioctl(other.fd, EMU_DRM_PRIME_FD_TO_HANDLE, &i));
	again = (struct emu_drm_prime_handle){ .fd = h.fd };
	t_ok(t_ioctl(other.fd, EMU_DRM_PRIME_FD_TO_HANDLE, &again));
	assert_int_equal(again.handle, i.handle);
	again = (struct emu_drm_prime_handle){ .fd = h.fd };
	t_ok(t_ioctl(g.fd, EMU_DRM_PRIME_FD_TO_HANDLE, &again));
	assert_int_equal(again.handle, bo);
	/* The exporter's handle and the fd may go: the importer holds the memory. */
	t_ok(close(h.fd));
	t_ok(t_bo_close(g.fd, bo));
	ROW("VM_BIND: 13 imported BO with non-coherent pat", EINVAL,
	    t_bind_wait(other.fd, t_bind_bo(other.vm, i.handle, 0, VA, MIB, other.d.wb ? 0 : 3),
			false));
	t_ok(t_bind_wait(other.fd, t_bind_bo(other.vm, i.handle, 0, VA, MIB, other.d.wb), false));
	t_batch_store(&other, VA + 64, 99);
	t_ok(t_run(&other));
	assert_int_equal(p[16], 99);
	t_ok(munmap(p, MIB));
	t_ok(munmap(q, MIB));
	t_ok(t_bo_close(other.fd, i.handle));
	t_gpu_close(&other);
	t_gpu_close(&g);
}

static int advise(struct t_gpu *g, uint32_t type, uint32_t val)
{
	struct emu_xe_madvise a = { .vm_id = g->vm, .type = type, .start = VA, .range = MIB };

	a.u.val = val;
	return t_ioctl(g->fd, EMU_XE_MADVISE, &a);
}

static void purgeable_buffers_refuse_use(void **state)
{
	struct emu_drm_prime_handle h = { .flags = O_CLOEXEC };
	struct emu_xe_gem_mmap_offset off = { 0 };
	struct t_gpu g;
	uint32_t bo;

	(void)state;
	t_gpu_open(&g, 0, 0);
	bo = off.handle = h.handle = t_bo(g.fd, MIB, 1, 0);
	t_ok(t_bind_wait(g.fd, t_bind_bo(g.vm, bo, 0, VA, MIB, g.d.wb), false));
	t_ok(advise(&g, EMU_XE_ADV_PURGEABLE, 1));
	t_ok(t_ioctl(g.fd, EMU_XE_GEM_MMAP_OFFSET, &off));
	ROW("mmap: DONTNEED BO", EBUSY,
	    mmap(NULL, MIB, PROT_READ, MAP_SHARED, g.fd, (off_t)off.offset) == MAP_FAILED ? -errno
											  : 0);
	ROW("VM_BIND: MAP of a DONTNEED BO", EBUSY,
	    t_bind_wait(g.fd, t_bind_bo(g.vm, bo, 0, VA + 4 * MIB, MIB, g.d.wb), false));
	ROW("PRIME_HANDLE_TO_FD: DONTNEED BO", EBUSY,
	    t_ioctl(g.fd, EMU_DRM_PRIME_HANDLE_TO_FD, &h));
	ROW("VM_BIND: PREFETCH of a DONTNEED BO", EBUSY,
	    t_bind_wait(g.fd, t_bind_op(g.vm, EMU_XE_OP_PREFETCH, VA, MIB, g.d.wb), false));
	t_ok(advise(&g, EMU_XE_ADV_PURGEABLE, 0));
	t_ok(t_bind_wait(g.fd, t_bind_bo(g.vm, bo, 0, VA + 4 * MIB, MIB, g.d.wb), false));
	t_ok(t_bo_close(g.fd, bo));
	t_gpu_close(&g);
}

struct hammer {
	struct t_gpu *g;
	uint64_t base;
	unsigned seed;
	int failed;
};

static void *hammer_thread(void *arg)
{
	struct hammer *h = arg;
	uint32_t bo = t_bo(h->g->fd, MIB, 1, 0);

	for (int i = 0; i < 300; i++) {
		uint64_t at = (uint64_t)(rand_r(&h->seed) % 200) * 4096, n = 4096;
		uint32_t op = rand_r(&h->seed) % 3 ? EMU_XE_OP_MAP : EMU_XE_OP_UNMAP;
		struct emu_xe_vm_bind b = t_bind_op(h->g->vm, op, h->base + at,
						    n * (1ull + (uint64_t)(rand_r(&h->seed) % 16)),
						    h->g->d.wb);

		b.bind.obj = op == EMU_XE_OP_MAP ? bo : 0;
		if (t_ioctl(h->g->fd, EMU_XE_VM_BIND, &b) < 0)
			h->failed++;
	}
	t_ok(t_bo_close(h->g->fd, bo));
	return NULL;
}

static void threads_bind_at_once(void **state)
{
	struct hammer h[4];
	pthread_t t[4];
	struct t_gpu g;

	(void)state;
	t_gpu_open(&g, 0, 0);
	for (unsigned i = 0; i < 4; i++) {
		h[i] = (struct hammer){ .g = &g,
					.base = VA + (uint64_t)(i / 2) * 8 * MIB,
					.seed = i + 1 };
		t_ok(-pthread_create(&t[i], NULL, hammer_thread, &h[i]));
	}
	for (unsigned i = 0; i < 4; i++) {
		t_ok(-pthread_join(t[i], NULL));
		assert_int_equal(h[i].failed, 0);
	}
	t_gpu_close(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(map_replaces_and_splits),
		cmocka_unit_test(an_array_is_all_or_nothing),
		cmocka_unit_test(unmap_before_the_user_fence_is_busy),
		cmocka_unit_test(unmap_all_takes_every_area_of_a_bo),
		cmocka_unit_test(closed_handle_stays_mapped),
		cmocka_unit_test(vram_has_a_size_and_is_given_back),
		cmocka_unit_test(small_bar_hides_what_is_out_of_the_window),
		cmocka_unit_test(prime_shares_memory_between_devices),
		cmocka_unit_test(purgeable_buffers_refuse_use),
		cmocka_unit_test(threads_bind_at_once),
	};

	return T_MAIN(tests);
}
