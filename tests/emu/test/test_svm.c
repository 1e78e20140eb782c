// SPDX-License-Identifier: MIT
/*
 * Mirrored address space: faults, prefetch, hints; and what a driver's page walk does when a
 * userfaultfd holds a page back, by the kernel that is emulated.
 */
#include "emu_test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FAULTING (EMU_XE_VM_LR | EMU_XE_VM_FAULT_MODE)
#define TOP	 (1ull << 47)

static void *anon(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

/* A mirror over the whole CPU address space, but for the batch. */
static void mirror(struct t_gpu *g)
{
	struct emu_xe_vm_bind b;

	t_gpu_open(g, 0, FAULTING);
	b = t_bind_op(g->vm, EMU_XE_OP_MAP, 0x20000000, TOP - 0x20000000, g->d.wb);
	b.bind.flags = EMU_XE_BIND_MIRROR;
	t_ok(t_ioctl(g->fd, EMU_XE_VM_BIND, &b));
}

static void gpu_writes_any_memory(void **state)
{
	struct t_gpu g;
	uint32_t *p = anon(4 * MIB);

	(void)state;
	mirror(&g);
	t_batch_store(&g, (uintptr_t)(p + 1000), 4711);
	t_ok(t_run(&g));
	assert_int_equal(p[1000], 4711);
	t_batch_fill(&g, (uintptr_t)p, 4 * MIB, 0x5a);
	t_ok(t_run(&g));
	assert_int_equal(p[MIB - 1], 0x5a5a5a5a);
	t_ok(munmap(p, 4 * MIB));
	t_gpu_close(&g);
}

static void bad_pointers_kill_the_queue(void **state)
{
	const struct {
		int prot;
		bool hole;
	} cases[] = { { PROT_READ | PROT_WRITE, true },
		      { PROT_READ, false },
		      { PROT_NONE, false } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		void *p = anon(2 * MIB);
		struct t_gpu g;

		mirror(&g);
		t_ok(cases[i].hole ? munmap(p, 2 * MIB) : mprotect(p, 2 * MIB, cases[i].prot));
		t_batch_store(&g, (uintptr_t)p, 1);
		assert_int_equal(t_run(&g), -EIO);
		assert_true(t_banned(&g));
		if (!cases[i].hole)
			t_ok(munmap(p, 2 * MIB));
		t_gpu_close(&g);
	}
}

/* A read, too, where the mirror is not read-only (fact 6 of the sheet). */
static void reading_readonly_memory_needs_a_readonly_mirror(void **state)
{
	struct emu_xe_vm_bind b;
	uint32_t *from = anon(2 * MIB), *to = anon(2 * MIB);
	struct t_gpu g;

	(void)state;
	from[0] = 31;
	t_ok(mprotect(from, 2 * MIB, PROT_READ));
	mirror(&g);
	t_batch_copy(&g, (uintptr_t)to, (uintptr_t)from, 64 * KIB);
	assert_int_equal(t_run(&g), -EIO);
	t_gpu_close(&g);
	mirror(&g);
	b = t_bind_op(g.vm, EMU_XE_OP_MAP, (uintptr_t)from, 2 * MIB, g.d.wb);
	b.bind.flags = EMU_XE_BIND_MIRROR | EMU_XE_BIND_READONLY;
	t_ok(t_ioctl(g.fd, EMU_XE_VM_BIND, &b));
	t_batch_copy(&g, (uintptr_t)to, (uintptr_t)from, 64 * KIB);
	t_ok(t_run(&g));
	assert_int_equal(to[0], 31);
	t_ok(munmap(from, 2 * MIB));
	t_ok(munmap(to, 2 * MIB));
	t_gpu_close(&g);
}

static int unmap(struct t_gpu *g, void *p, uint64_t size)
{
	struct emu_xe_vm_bind b = t_bind_op(g->vm, EMU_XE_OP_UNMAP, (uintptr_t)p, size, g->d.wb);

	return t_ioctl(g->fd, EMU_XE_VM_BIND, &b);
}

static void used_mirror_parts_cannot_be_unmapped(void **state)
{
	uint32_t *p = anon(4 * MIB);
	struct t_gpu g;

	(void)state;
	mirror(&g);
	t_ok(unmap(&g, p, 4 * MIB));
	t_gpu_close(&g);
	mirror(&g);
	t_batch_store(&g, (uintptr_t)p, 1);
	t_ok(t_run(&g));
	ROW("VM_BIND: UNMAP of a mirror part in use", EBUSY, unmap(&g, p, 4 * MIB));
	/* The CPU's munmap first; the collector runs before the next bind. */
	t_ok(munmap(p, 4 * MIB));
	ROW("VM_BIND: UNMAP of it after munmap", 0, unmap(&g, p, 4 * MIB));
	t_gpu_close(&g);
}

static uint64_t used(int fd, uint16_t instance)
{
	char buf[1024] = { 0 };
	struct emu_xe_query_mem_regions *m = (void *)buf;
	struct emu_xe_device_query q = { .query = EMU_XE_QUERY_MEM_REGIONS };

	t_ok(t_ioctl(fd, EMU_XE_DEVICE_QUERY, &q));
	q.data = (uintptr_t)buf;
	t_ok(t_ioctl(fd, EMU_XE_DEVICE_QUERY, &q));
	return m->mem_regions[instance].used;
}

static int prefetch(struct t_gpu *g, void *p, uint64_t size, uint32_t where)
{
	struct emu_xe_vm_bind b = t_bind_op(g->vm, EMU_XE_OP_PREFETCH, (uintptr_t)p, size, g->d.wb);

	b.bind.prefetch_mem_region_instance = where;
	return t_ioctl(g->fd, EMU_XE_VM_BIND, &b);
}

static void prefetch_moves_private_memory_only(void **state)
{
	char *p = anon(8 * MIB), *a = (char *)(((uintptr_t)p + 2 * MIB - 1) & ~(2 * MIB - 1));
	char *shared =
		mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *ro = anon(2 * MIB);
	struct t_gpu g;
	uint64_t before;

	(void)state;
	t_ok(mprotect(ro, 2 * MIB, PROT_READ));
	mirror(&g);
	before = g.d.vram ? used(g.fd, 1) : 0;
	if (g.d.vram) {
		t_ok(prefetch(&g, a, 4 * MIB, 1));
		assert_int_equal(used(g.fd, 1), before + 4 * MIB);
		t_ok(prefetch(&g, shared, 4 * MIB, 1));
		assert_int_equal(used(g.fd, 1), before + 4 * MIB);
		t_ok(prefetch(&g, a, 4 * MIB, 0));
		assert_int_equal(used(g.fd, 1), before);
		t_ok(prefetch(&g, a, 4 * MIB, EMU_XE_CONSULT));
		assert_int_equal(used(g.fd, 1), before + 4 * MIB);
	}
	ROW("PREFETCH: mirror over memory without write permission", EPERM,
	    prefetch(&g, ro, 2 * MIB, 0));
	ROW("PREFETCH: mirror over a BO's map", EIO, prefetch(&g, g.batch, 64 * KIB, 0));
	t_ok(munmap(ro, 2 * MIB));
	ROW("PREFETCH: mirror over a hole", 0, prefetch(&g, ro, 2 * MIB, 0));
	t_ok(munmap(p, 8 * MIB));
	t_ok(munmap(shared, 4 * MIB));
	t_gpu_close(&g);
}

static int location(struct t_gpu *g, void *p, uint64_t size, int fd, uint16_t region)
{
	struct emu_xe_madvise a = {
		.vm_id = g->vm, .type = EMU_XE_ADV_LOC, .start = (uintptr_t)p, .range = size
	};

	a.loc.devmem_fd = fd;
	a.loc.region_instance = region;
	return t_ioctl(g->fd, EMU_XE_MADVISE, &a);
}

static void hints_split_the_mirror_and_steer(void **state)
{
	struct emu_xe_mem_range_attr attr[8];
	struct emu_xe_vm_query_mem_range_attr q = { 0 };
	char *p = anon(8 * MIB), *a = (char *)(((uintptr_t)p + 2 * MIB - 1) & ~(2 * MIB - 1));
	int other = t_open(1);
	struct t_gpu g;
	uint64_t before;

	(void)state;
	mirror(&g);
	before = g.d.vram ? used(g.fd, 1) : 0;
	t_ok(location(&g, a, 2 * MIB, -1, 0));
	q.vm_id = g.vm;
	q.start = (uintptr_t)a;
	q.range = 2 * MIB;
	t_ok(t_ioctl(g.fd, EMU_XE_VM_QUERY_MEM_RANGE_ATTRS, &q));
	assert_int_equal(q.num_mem_ranges, 1);
	q.vector_of_mem_attr = (uintptr_t)attr;
	t_ok(t_ioctl(g.fd, EMU_XE_VM_QUERY_MEM_RANGE_ATTRS, &q));
	assert_int_equal(attr[0].start, (uintptr_t)a);
	assert_int_equal(attr[0].end, (uintptr_t)a + 2 * MIB);
	assert_int_equal(attr[0].devmem_fd, -1);
	if (g.d.vram) {
		t_batch_fill(&g, (uintptr_t)a, 4 * MIB, 1);
		t_ok(t_run(&g));
		/* The first half stays in system memory, the second goes to the device. */
		assert_int_equal(used(g.fd, 1), before + 2 * MIB);
		if (t_option("p2p"))
			ROW("MADVISE: device out of reach", ENOLINK,
			    location(&g, a, 2 * MIB, other, 1));
		else
			t_ok(location(&g, a, 2 * MIB, other, 1));
		t_ok(location(&g, a, 2 * MIB, g.fd, 1));
	}
	emu_ctl_unplug(1, true);
	if (g.d.vram)
		ROW("MADVISE: device unplugged", ENODEV, location(&g, a, 2 * MIB, other, 1));
	emu_ctl_unplug(1, false);
	t_ok(close(other));
	t_ok(munmap(p, 8 * MIB));
	t_gpu_close(&g);
}

/* ---- userfaultfd ---- */

struct manager {
	int uffd;
	pthread_t thread;
	_Atomic int n_events;
	int stop[2];
};

static void *serve(void *arg)
{
	struct manager *m = arg;
	struct pollfd p[2] = { { .fd = m->uffd, .events = POLLIN },
			       { .fd = m->stop[0], .events = POLLIN } };

	while (poll(p, 2, -1) > 0 && !p[1].revents) {
		struct uffd_msg msg;
		struct uffdio_zeropage z = { 0 };

		if (read(m->uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		m->n_events++;
		z.range.start = msg.arg.pagefault.address & ~4095ull;
		z.range.len = 4096;
		if (ioctl(m->uffd, UFFDIO_ZEROPAGE, &z) < 0 && errno != EEXIST)
			abort();
	}
	return NULL;
}

static bool watch(struct manager *m, void *p, size_t size)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uintptr_t)p, size },
				       .mode = UFFDIO_REGISTER_MODE_MISSING };

	*m = (struct manager){ 0 };
	m->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (m->uffd < 0)
		return false;
	t_ok(ioctl(m->uffd, UFFDIO_API, &api));
	t_ok(ioctl(m->uffd, UFFDIO_REGISTER, &reg));
	t_ok(pipe2(m->stop, O_CLOEXEC));
	t_ok(-pthread_create(&m->thread, NULL, serve, m));
	return true;
}

static void unwatch(struct manager *m)
{
	t_ok(close(m->stop[1]));
	t_ok(-pthread_join(m->thread, NULL));
	t_ok(close(m->stop[0]));
	t_ok(close(m->uffd));
}

static bool old_kernel(void)
{
	const char *uffd = t_option("uffd");

	return uffd && !strcmp(uffd, "efault");
}

static void userptr_bind_of_a_missing_page(void **state)
{
	char *p = anon(MIB);
	struct manager m;
	struct t_gpu g;
	int r;

	(void)state;
	if (!watch(&m, p, MIB))
		t_skip("no userfaultfd for this user");
	t_gpu_open(&g, 0, 0);
	r = t_bind_wait(g.fd, t_bind_user(g.vm, p, 0x200000000, 64 * KIB, g.d.wb), false);
	if (old_kernel()) {
		ROW("MAP_USERPTR: userfaultfd-missing page, before 7.3", EFAULT, r);
		assert_int_equal(m.n_events, 0);
		/* A page that is there is no event: the rule for programs on those kernels. */
		memset(p, 1, 64 * KIB);
		t_ok(t_bind_wait(g.fd, t_bind_user(g.vm, p, 0x200000000, 64 * KIB, g.d.wb), false));
	} else {
		ROW("MAP_USERPTR: userfaultfd-missing page, 7.3", 0, r);
		assert_int_equal(m.n_events, 16);
	}
	t_gpu_close(&g);
	unwatch(&m);
	t_ok(munmap(p, MIB));
}

static void mirror_fault_on_a_missing_page(void **state)
{
	char *p = anon(2 * MIB);
	struct manager m;
	struct t_gpu g;
	int r;

	(void)state;
	if (!watch(&m, p, 2 * MIB))
		t_skip("no userfaultfd for this user");
	mirror(&g);
	t_batch_store(&g, (uintptr_t)p + 0x100, 8);
	r = t_run(&g);
	if (old_kernel()) {
		assert_int_equal(r, -EIO);
		assert_int_equal(m.n_events, 0);
		ROW("PREFETCH: mirror, EFAULT inside", 0, prefetch(&g, p, 2 * MIB, 0));
	} else {
		t_ok(r);
		assert_true(m.n_events >= 1);
		assert_int_equal(p[0x100], 8);
	}
	t_gpu_close(&g);
	unwatch(&m);
	t_ok(munmap(p, 2 * MIB));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gpu_writes_any_memory),
		cmocka_unit_test(bad_pointers_kill_the_queue),
		cmocka_unit_test(reading_readonly_memory_needs_a_readonly_mirror),
		cmocka_unit_test(used_mirror_parts_cannot_be_unmapped),
		cmocka_unit_test(prefetch_moves_private_memory_only),
		cmocka_unit_test(hints_split_the_mirror_and_steer),
		cmocka_unit_test(userptr_bind_of_a_missing_page),
		cmocka_unit_test(mirror_fault_on_a_missing_page),
	};

	return T_MAIN(tests);
}
