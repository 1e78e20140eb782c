// SPDX-License-Identifier: MIT
/* What older kernels do not have, and the errno that stands for it (section 5.1 of the facts). */
#include "emu_test.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static unsigned kernel(void)
{
	const char *text = t_option("kernel");
	unsigned major = 7, minor = 3;

	if (text && sscanf(text, "%u.%u", &major, &minor) != 2)
		fail();
	return major << 8 | minor;
}

/* Present from a version on, EINVAL before. */
static int since(unsigned major, unsigned minor, int present)
{
	return kernel() >= (major << 8 | minor) ? present : EINVAL;
}

static void ioctls_by_version(void **state)
{
	struct emu_xe_madvise advise = { .range = 4096, .type = EMU_XE_ADV_ATOMIC };
	struct emu_xe_vm_get_property get = { .vm_id = 999 };
	struct emu_xe_exec_queue_property set = { .exec_queue_id = 999, .property = 5 };
	struct emu_xe_observation_param obs = { 0 };
	struct emu_xe_vm_query_mem_range_attr query = { 0 };
	int fd = t_open(0);
	uint32_t vm = t_vm(fd, 0);

	(void)state;
	advise.vm_id = query.vm_id = vm;
	ROW("kernel: OBSERVATION since 6.11", since(6, 11, ENODEV),
	    t_ioctl(fd, EMU_XE_OBSERVATION, &obs));
	ROW("kernel: MADVISE since 6.18", since(6, 18, 0), t_ioctl(fd, EMU_XE_MADVISE, &advise));
	ROW("kernel: VM_QUERY_MEM_RANGE_ATTRS since 6.18", since(6, 18, 0),
	    t_ioctl(fd, EMU_XE_VM_QUERY_MEM_RANGE_ATTRS, &query));
	ROW("kernel: EXEC_QUEUE_SET_PROPERTY since 7.0", since(7, 0, ENOENT),
	    t_ioctl(fd, EMU_XE_EXEC_QUEUE_SET_PROPERTY, &set));
	ROW("kernel: VM_GET_PROPERTY since 7.2", since(7, 2, ENOENT),
	    t_ioctl(fd, EMU_XE_VM_GET_PROPERTY, &get));
	advise.type = EMU_XE_ADV_PURGEABLE;
	ROW("kernel: PURGEABLE since 7.2", since(7, 2, 0), t_ioctl(fd, EMU_XE_MADVISE, &advise));
	t_ok(t_vm_destroy(fd, vm));
	t_ok(close(fd));
}

static void flags_by_version(void **state)
{
	struct emu_xe_vm_create create = { .flags = EMU_XE_VM_LR | EMU_XE_VM_FAULT_MODE |
						    EMU_XE_VM_NO_OVERCOMMIT };
	struct emu_xe_vm_bind b;
	struct t_device d;
	int fd = t_open(0);
	uint32_t vm = t_vm(fd, EMU_XE_VM_LR | EMU_XE_VM_FAULT_MODE);

	(void)state;
	t_query(fd, &d);
	assert_int_equal(d.usm, kernel() >= (6 << 8 | 15));
	b = t_bind_op(vm, EMU_XE_OP_MAP, 0x10000000, 0x10000000, d.wb);
	b.bind.flags = EMU_XE_BIND_MIRROR | EMU_XE_BIND_AUTORESET;
	ROW("kernel: MADVISE_AUTORESET since 6.18", since(6, 18, 0),
	    t_ioctl(fd, EMU_XE_VM_BIND, &b));
	b.bind.flags = EMU_XE_BIND_MIRROR;
	ROW("kernel: CPU_ADDR_MIRROR since 6.15", since(6, 15, 0), t_ioctl(fd, EMU_XE_VM_BIND, &b));
	b.bind.flags = 0;
	b.bind.op = EMU_XE_OP_PREFETCH;
	b.bind.prefetch_mem_region_instance = EMU_XE_CONSULT;
	ROW("kernel: CONSULT since 6.18", since(6, 18, 0), t_ioctl(fd, EMU_XE_VM_BIND, &b));
	/* The dry run of the facts, 8d: a bogus queue tells what would have been accepted. */
	b.exec_queue_id = ~0u;
	ROW("kernel: dry run by a bogus queue", since(6, 18, ENOENT),
	    t_ioctl(fd, EMU_XE_VM_BIND, &b));
	ROW("kernel: NO_VM_OVERCOMMIT since 7.2", since(7, 2, 0),
	    t_ioctl(fd, EMU_XE_VM_CREATE, &create));
	t_ok(close(fd));
}

/* By option a GPU fault takes every queue of the device with it. */
static void a_device_reset_bans_all_queues(void **state)
{
	const char *reset = t_option("reset");
	struct t_gpu a, b;

	(void)state;
	t_gpu_open(&a, 0, 0);
	t_gpu_open(&b, 0, 0);
	t_batch_store(&a, 0x700000000, 1);
	t_ok(t_run(&a));
	assert_true(t_banned(&a));
	assert_int_equal(t_banned(&b), reset != NULL);
	t_gpu_close(&b);
	t_gpu_close(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ioctls_by_version),
		cmocka_unit_test(flags_by_version),
		cmocka_unit_test(a_device_reset_bans_all_queues),
	};

	return T_MAIN(tests);
}
