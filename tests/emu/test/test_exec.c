// SPDX-License-Identifier: MIT
/* Engines: batches run through the VM's page table, in order, with fences and faults. */
#include "emu_test.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define VA	0x200000000ull
#define SCRATCH 0x300000000ull

static const uint32_t modes[] = { 0, EMU_XE_VM_LR, EMU_XE_VM_LR | EMU_XE_VM_FAULT_MODE };

/* Calls fn once per VM mode that the device has. */
static void each_mode(void (*fn)(struct t_gpu *g))
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		struct t_gpu g;
		struct t_device d;
		int fd = t_open(0);

		t_query(fd, &d);
		t_ok(close(fd));
		if (modes[i] & EMU_XE_VM_FAULT_MODE && !d.usm)
			continue;
		t_gpu_open(&g, 0, modes[i]);
		fn(&g);
		t_gpu_close(&g);
	}
}

static int bind_wait(struct t_gpu *g, struct emu_xe_vm_bind b)
{
	return t_bind_wait(g->fd, b, g->flags & EMU_XE_VM_LR);
}

static void store(struct t_gpu *g)
{
	uint32_t bo = t_bo(g->fd, MIB, g->d.vram ? 2 : 1, 0);
	uint32_t *p = t_map(g->fd, bo, MIB);

	t_ok(bind_wait(g, t_bind_bo(g->vm, bo, 0, VA, MIB, g->d.wb)));
	t_batch_store(g, VA + 0x1234, 0xcafe0001);
	t_ok(t_run(g));
	assert_int_equal(p[0x1234 / 4], 0xcafe0001);
	t_ok(munmap(p, MIB));
	t_ok(bind_wait(g, t_bind_op(g->vm, EMU_XE_OP_UNMAP, VA, MIB, g->d.wb)));
	t_ok(t_bo_close(g->fd, bo));
}

static void batch_stores_through_page_table(void **state)
{
	(void)state;
	each_mode(store);
}

static void copy_fill(struct t_gpu *g)
{
	uint32_t vram = t_bo(g->fd, 2 * MIB, g->d.vram ? 2 : 1, 0);
	unsigned char *host =
		mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(host != MAP_FAILED);
	for (size_t i = 0; i < 2 * MIB; i++)
		host[i] = (unsigned char)(i * 7 + i / 4096);
	t_ok(bind_wait(g, t_bind_bo(g->vm, vram, 0, VA, 2 * MIB, g->d.wb)));
	t_ok(bind_wait(g, t_bind_user(g->vm, host, SCRATCH, 2 * MIB, g->d.wb)));
	t_batch_copy(g, VA, SCRATCH, 2 * MIB);
	t_ok(t_run(g));
	t_batch_fill(g, SCRATCH, 2 * MIB, 0xab);
	t_ok(t_run(g));
	for (size_t i = 0; i < 2 * MIB; i++)
		assert_int_equal(host[i], 0xab);
	t_batch_copy(g, SCRATCH, VA, 2 * MIB);
	t_ok(t_run(g));
	for (size_t i = 0; i < 2 * MIB; i++)
		assert_int_equal(host[i], (unsigned char)(i * 7 + i / 4096));
	t_ok(bind_wait(g, t_bind_op(g->vm, EMU_XE_OP_UNMAP, VA, 2 * MIB, g->d.wb)));
	t_ok(bind_wait(g, t_bind_op(g->vm, EMU_XE_OP_UNMAP, SCRATCH, 2 * MIB, g->d.wb)));
	t_ok(munmap(host, 2 * MIB));
	t_ok(t_bo_close(g->fd, vram));
}

static void copies_and_fills_userptr_and_bo(void **state)
{
	(void)state;
	each_mode(copy_fill);
}

static void unbound(struct t_gpu *g)
{
	t_batch_store(g, VA, 1);
	if (g->flags & EMU_XE_VM_LR)
		ROW("WAIT_USER_FENCE: queue reset", EIO, t_run(g));
	else
		t_ok(t_run(g)); /* fences of a banned queue signal, with an error */
	assert_true(t_banned(g));
	ROW("EXEC: queue banned", ECANCELED, t_submit(g));
}

static void unbound_address_bans_the_queue(void **state)
{
	(void)state;
	each_mode(unbound);
}

static void readonly_binding(struct t_gpu *g)
{
	void *host = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct emu_xe_vm_bind b = t_bind_user(g->vm, host, VA, MIB, g->d.wb);

	b.bind.flags = EMU_XE_BIND_READONLY;
	t_ok(bind_wait(g, b));
	t_batch_store(g, VA, 1);
	if (g->flags & EMU_XE_VM_LR)
		assert_int_equal(t_run(g), -EIO);
	else
		t_ok(t_run(g));
	assert_true(t_banned(g));
	assert_int_equal(*(int *)host, 0);
	t_ok(munmap(host, MIB));
}

static void write_to_readonly_binding_bans(void **state)
{
	(void)state;
	each_mode(readonly_binding);
}

static void scratch_page_takes_stray_accesses(void **state)
{
	struct t_gpu g;

	(void)state;
	t_gpu_open(&g, 0, EMU_XE_VM_SCRATCH);
	t_batch_store(&g, VA, 1);
	t_ok(t_run(&g));
	assert_false(t_banned(&g));
	t_gpu_close(&g);
}

static void unknown_command_bans(void **state)
{
	struct t_gpu g;

	(void)state;
	t_gpu_open(&g, 0, 0);
	g.batch[0] = 0x77770000;
	t_ok(t_run(&g));
	assert_true(t_banned(&g));
	t_gpu_close(&g);
}

static void fence_error_shows_in_sync_file(void **state)
{
	struct emu_sync_file_info info = { 0 };
	struct emu_drm_syncobj_handle h = { .flags = EMU_SYNCOBJ_HANDLE_FLAG_SYNC_FILE };
	struct pollfd p = { .events = POLLIN };
	struct t_gpu g;

	(void)state;
	t_gpu_open(&g, 0, 0);
	t_batch_store(&g, VA, 1);
	t_ok(t_submit(&g));
	h.handle = g.sync;
	t_ok(t_ioctl(g.fd, EMU_DRM_SYNCOBJ_HANDLE_TO_FD, &h));
	p.fd = h.fd;
	assert_int_equal(poll(&p, 1, 10000), 1);
	t_ok(t_ioctl(h.fd, EMU_SYNC_IOC_FILE_INFO, &info));
	assert_int_equal(info.status, -EIO);
	t_ok(close(h.fd));
	t_gpu_close(&g);
}

/* A bind that waits for a fence is not seen by a batch that does not wait for the bind. */
static void exec_does_not_wait_for_binds(void **state)
{
	struct emu_xe_sync in = { .type = EMU_XE_SYNCOBJ };
	struct emu_xe_vm_bind b;
	struct t_gpu busy, g;
	uint32_t bo;

	(void)state;
	t_gpu_open(&g, 0, 0);
	t_gpu_open(&busy, 0, 0);
	/* A circle of NOOPs keeps the other queue's fence pending. */
	busy.batch[0] = 0x18800001 | 1 << 8;
	busy.batch[1] = (uint32_t)busy.batch_addr;
	busy.batch[2] = 0;
	t_ok(t_submit(&busy));
	{
		struct emu_drm_syncobj_handle h = { .handle = busy.sync,
						    .flags = EMU_SYNCOBJ_HANDLE_FLAG_SYNC_FILE };
		struct emu_drm_syncobj_handle i = { .flags = EMU_SYNCOBJ_HANDLE_FLAG_SYNC_FILE };

		t_ok(t_ioctl(busy.fd, EMU_DRM_SYNCOBJ_HANDLE_TO_FD, &h));
		i.handle = t_syncobj(g.fd, false);
		i.fd = h.fd;
		t_ok(t_ioctl(g.fd, EMU_DRM_SYNCOBJ_FD_TO_HANDLE, &i));
		t_ok(close(h.fd));
		in.where = i.handle;
	}
	bo = t_bo(g.fd, MIB, 1, 0);
	b = t_bind_bo(g.vm, bo, 0, VA, MIB, g.d.wb);
	b.num_syncs = 1;
	b.syncs = (uintptr_t)&in;
	t_ok(t_ioctl(g.fd, EMU_XE_VM_BIND, &b));
	t_batch_store(&g, VA, 1);
	t_ok(t_run(&g));
	assert_true(t_banned(&g));
	busy.batch[0] = 0x05000000;
	t_ok(t_wait(&busy, 10000000000ll));
	t_ok(t_syncobj_destroy(g.fd, (uint32_t)in.where));
	t_ok(t_bo_close(g.fd, bo));
	t_gpu_close(&busy);
	t_gpu_close(&g);
}

static void endless_batch_times_out(void **state)
{
	struct t_gpu g;

	(void)state;
	t_gpu_open(&g, 0, 0);
	g.batch[0] = 0x18800001 | 1 << 8;
	g.batch[1] = (uint32_t)g.batch_addr;
	g.batch[2] = 0;
	t_ok(t_submit(&g));
	ROW("SYNCOBJ_WAIT: timeout", ETIME, t_wait(&g, 1000000));
	t_ok(t_wait(&g, 20000000000ll));
	assert_true(t_banned(&g));
	t_gpu_close(&g);
}

static void syncobj_eventfd_fires_at_completion(void **state)
{
	struct emu_drm_syncobj_eventfd a = { 0 };
	struct pollfd p = { .events = POLLIN };
	struct t_gpu g;

	(void)state;
	t_gpu_open(&g, 0, 0);
	a.handle = g.sync;
	a.fd = p.fd = eventfd(0, EFD_CLOEXEC);
	t_ok(t_ioctl(g.fd, EMU_DRM_SYNCOBJ_EVENTFD, &a));
	assert_int_equal(poll(&p, 1, 0), 0);
	g.batch[0] = 0x05000000;
	t_ok(t_submit(&g));
	assert_int_equal(poll(&p, 1, 10000), 1);
	t_ok(close(a.fd));
	t_gpu_close(&g);
}

static void vm_faults_are_reported(void **state)
{
	struct emu_xe_vm_fault f[50];
	struct emu_xe_vm_get_property a = { 0 };
	struct t_gpu g;

	(void)state;
	t_gpu_open(&g, 0, 0);
	a.vm_id = g.vm;
	t_ok(t_ioctl(g.fd, EMU_XE_VM_GET_PROPERTY, &a));
	assert_int_equal(a.size, 0);
	t_batch_store(&g, VA + 8, 1);
	t_ok(t_run(&g));
	t_ok(t_ioctl(g.fd, EMU_XE_VM_GET_PROPERTY, &a));
	assert_int_equal(a.size, sizeof(f[0]));
	a.data = (uintptr_t)f;
	t_ok(t_ioctl(g.fd, EMU_XE_VM_GET_PROPERTY, &a));
	assert_int_equal(f[0].address, VA);
	assert_int_equal(f[0].access_type, 1);
	t_gpu_close(&g);
}

/* munmap of bound memory: the next batch finds nothing there, the one before found it all. */
static void vanished(struct t_gpu *g)
{
	void *host = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	t_ok(bind_wait(g, t_bind_user(g->vm, host, VA, MIB, g->d.wb)));
	t_batch_store(g, VA, 1);
	t_ok(t_run(g));
	assert_int_equal(*(int *)host, 1);
	t_ok(madvise(host, MIB, MADV_DONTNEED));
	/* Pages went, addresses stay: pinned again, zeros. */
	t_batch_store(g, VA + 4, 2);
	t_ok(t_run(g));
	assert_int_equal(((int *)host)[0], 0);
	assert_int_equal(((int *)host)[1], 2);
	t_ok(munmap(host, MIB));
	t_ok(t_submit(g) == 0 ? 0 : -1);
	if (g->flags & EMU_XE_VM_LR)
		assert_int_equal(t_wait(g, 10000000000ll), -EIO);
	else
		t_ok(t_wait(g, 10000000000ll));
	assert_true(t_banned(g));
}

static void userptr_follows_the_cpu_page_table(void **state)
{
	(void)state;
	each_mode(vanished);
}

/* Nobody is told of the end of a device while one of its engines still writes. */
static void ended_device_writes_no_more(void **state)
{
	const size_t size = 64 * MIB;
	volatile unsigned char *host =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct t_gpu g;

	(void)state;
	assert_true(host != MAP_FAILED);
	t_gpu_open(&g, 0, 0);
	t_ok(bind_wait(&g, t_bind_user(g.vm, (void *)host, VA, size, g.d.wb)));
	t_batch_fill(&g, VA, size, 0xab);
	t_ok(t_submit(&g));
	while (host[0] != 0xab)
		(void)sched_yield();
	emu_ctl_wedge(0, true);
	memset((void *)host, 0x11, size);
	t_ok(munmap(g.batch, 64 * KIB));
	t_ok(close(g.fd));
	emu_ctl_wedge(0, false);
	for (size_t i = 0; i < size; i++)
		if (host[i] != 0x11)
			fail_msg("byte %zu was written after the end", i);
	t_ok(munmap((void *)host, size));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(batch_stores_through_page_table),
		cmocka_unit_test(copies_and_fills_userptr_and_bo),
		cmocka_unit_test(unbound_address_bans_the_queue),
		cmocka_unit_test(write_to_readonly_binding_bans),
		cmocka_unit_test(scratch_page_takes_stray_accesses),
		cmocka_unit_test(unknown_command_bans),
		cmocka_unit_test(fence_error_shows_in_sync_file),
		cmocka_unit_test(exec_does_not_wait_for_binds),
		cmocka_unit_test(endless_batch_times_out),
		cmocka_unit_test(syncobj_eventfd_fires_at_completion),
		cmocka_unit_test(vm_faults_are_reported),
		cmocka_unit_test(userptr_follows_the_cpu_page_table),
		cmocka_unit_test(ended_device_writes_no_more),
	};

	return T_MAIN(tests);
}
