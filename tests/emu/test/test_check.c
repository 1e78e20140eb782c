// SPDX-License-Identifier: MIT
/*
 * Every argument check of the fact sheet's tables, one row each: what is wrong and the errno.
 * Runs on several platforms; rows about hardware that the platform lacks are counted as such.
 */
#include "emu_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int fd;
static struct t_device dev;
#define BADPTR 0x10ull

static int setup(void **state)
{
	(void)state;
	fd = t_open(0);
	t_query(fd, &dev);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return close(fd);
}

static int raw(unsigned long cmd, void *arg)
{
	return ioctl(fd, cmd, arg) < 0 ? -errno : 0;
}

/* ---- any ---- */

static void any_ioctl(void **state)
{
	struct emu_xe_vm_create a[2] = { { 0 } };
	struct emu_drm_get_cap cap = { .capability = EMU_DRM_CAP_SYNCOBJ };

	(void)state;
	ROW("any: driver ioctl number unknown", EINVAL, raw(_IOWR('d', 0x60, int), a));
	ROW("any: core ioctl number unknown", EINVAL, raw(_IOWR('d', 0xfe, int), a));
	ROW("any: type byte is not 'd'", ENOTTY, raw(_IOWR('x', 0x43, int), a));
	ROW("any: node's ioctl for the primary node", EACCES, raw(EMU_DRM_GET_UNIQUE, a));
	ROW("any: argument unreadable", EFAULT, raw(EMU_XE_VM_CREATE, (void *)BADPTR));
	/* A shorter struct: flags only. A longer one: the rest is not looked at. */
	t_ok(raw(_IOC(_IOC_READ | _IOC_WRITE, 'd', 0x43, 16), a));
	t_ok(t_vm_destroy(fd, a[0].vm_id));
	a[1].flags = 0xffff;
	a[0].vm_id = 0;
	t_ok(raw(_IOC(_IOC_READ | _IOC_WRITE, 'd', 0x43, 64), a));
	t_ok(t_vm_destroy(fd, a[0].vm_id));
	t_ok(raw(EMU_DRM_GET_CAP, &cap));
	assert_int_equal(cap.value, 1);
	{
		/* Memory mapped for writing only can be read by a CPU, so it can by an ioctl. */
		struct emu_drm_get_cap *w =
			mmap(NULL, 4096, PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		assert_ptr_not_equal(w, MAP_FAILED);
		w->capability = EMU_DRM_CAP_SYNCOBJ;
		ROW("any: argument in write-only memory", 0, raw(EMU_DRM_GET_CAP, w));
		t_ok(munmap(w, 4096));
	}
	emu_ctl_wedge(0, true);
	ROW("any: device wedged", ECANCELED, raw(EMU_DRM_GET_CAP, &cap));
	ROW("any: device wedged, also GEM_CLOSE", ECANCELED, t_bo_close(fd, 1));
	emu_ctl_unplug(0, true);
	ROW("any: wedged goes before unplugged", ECANCELED, raw(EMU_DRM_GET_CAP, &cap));
	emu_ctl_wedge(0, false);
	ROW("any: device unplugged", ENODEV, raw(EMU_DRM_GET_CAP, &cap));
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0x100000000), MAP_FAILED);
	ROW("mmap: device unplugged", ENODEV, -errno);
	ROW("open: device unplugged", ENODEV, open("/dev/dri/renderD128", O_RDWR) < 0 ? -errno : 0);
	emu_ctl_unplug(0, false);
}

static void device_query(void **state)
{
	struct emu_xe_query_config c;
	struct emu_xe_query_uc_fw_version uc = { .uc_type = 0 };
	struct emu_xe_device_query good = { .query = EMU_XE_QUERY_CONFIG,
					    .size = sizeof(c),
					    .data = (uintptr_t)&c };
	struct emu_xe_device_query ucq = { .query = EMU_XE_QUERY_UC_FW_VERSION,
					   .size = sizeof(uc),
					   .data = (uintptr_t)&uc };
	struct emu_xe_device_query regions = { .query = EMU_XE_QUERY_MEM_REGIONS };

	(void)state;
#define Q(what, want, change) \
	BAD("DEVICE_QUERY: " what, want, fd, EMU_XE_DEVICE_QUERY, good, change)
	Q("extensions", EINVAL, a.extensions = 1);
	Q("reserved[0]", EINVAL, a.reserved[0] = 1);
	Q("reserved[1]", EINVAL, a.reserved[1] = 1);
	Q("query id too high", EINVAL, a.query = EMU_XE_N_QUERIES);
	Q("size not exact (short)", EINVAL, a.size--);
	Q("size not exact (long)", EINVAL, a.size++);
	Q("data unwritable", EFAULT, a.data = BADPTR);
	Q("good", 0, a.size = sizeof(c));
	t_ok(t_ioctl(fd, EMU_XE_DEVICE_QUERY, &regions));
	regions.data = BADPTR;
	ROW("DEVICE_QUERY: MEM_REGIONS unwritable", ENOSPC,
	    t_ioctl(fd, EMU_XE_DEVICE_QUERY, &regions));
#undef Q
	ROW("DEVICE_QUERY: UC_FW_VERSION", 0, t_ioctl(fd, EMU_XE_DEVICE_QUERY, &ucq));
	uc.pad = 1;
	ROW("DEVICE_QUERY: UC_FW_VERSION pad", EINVAL, t_ioctl(fd, EMU_XE_DEVICE_QUERY, &ucq));
	uc.pad = 0;
	uc.pad2 = 1;
	ROW("DEVICE_QUERY: UC_FW_VERSION pad2", EINVAL, t_ioctl(fd, EMU_XE_DEVICE_QUERY, &ucq));
	uc.pad2 = 0;
	uc.uc_type = 1;
	ROW("DEVICE_QUERY: firmware not running", ENODEV, t_ioctl(fd, EMU_XE_DEVICE_QUERY, &ucq));
}

static void gem_create(void **state)
{
	struct emu_xe_ext_set_property ext = { 0 };
	struct emu_xe_gem_create good = { .size = MIB,
					  .placement = 1,
					  .cpu_caching = EMU_XE_CACHING_WB };
	struct emu_xe_gem_create huge = good;

	(void)state;
#define C(what, want, change) BAD("GEM_CREATE: " what, want, fd, EMU_XE_GEM_CREATE, good, change)
	C("pad", EINVAL, a.pad[1] = 1);
	C("reserved", EINVAL, a.reserved[1] = 1);
	C("no placement", EINVAL, a.placement = 0);
	C("placement outside the mask", EINVAL, a.placement = 1u << 20);
	C("unknown flag", EINVAL, a.flags = 1u << 4);
	C("handle not zero", EINVAL, a.handle = 1);
	C("size zero", EINVAL, a.size = 0);
	C("size not in pages", EINVAL, a.size = 4097);
	if (!(dev.flags & EMU_XE_CONFIG_HAS_NO_COMPRESSION))
		C("NO_COMPRESSION before graphics 20", EOPNOTSUPP,
		  a.flags = EMU_XE_GEM_NO_COMPRESSION);
	C("NEEDS_VISIBLE_VRAM without VRAM", EINVAL, a.flags = EMU_XE_GEM_NEEDS_VISIBLE_VRAM);
	C("cpu_caching 0", EINVAL, a.cpu_caching = 0);
	C("cpu_caching 3", EINVAL, a.cpu_caching = 3);
	C("SCANOUT with WB", EINVAL, a.flags = EMU_XE_GEM_SCANOUT);
	if (dev.vram)
		C("VRAM with WB", EINVAL, a.placement = 2);
	C("vm unknown", ENOENT, a.vm_id = 77);
	if (dev.min_align == 0x10000)
		C("VRAM not in 64 KiB", EINVAL,
		  (a.placement = 3, a.cpu_caching = EMU_XE_CACHING_WC, a.size = 4096));
	C("extension unreadable", EFAULT, a.extensions = BADPTR);
	ext.base.name = 9;
	C("extension name", EINVAL, a.extensions = (uintptr_t)&ext);
	ext.base.name = 0;
	ext.base.pad = 1;
	C("extension pad", EINVAL, a.extensions = (uintptr_t)&ext);
	ext.base.pad = 0;
	ext.property = 5;
	C("extension property", EINVAL, a.extensions = (uintptr_t)&ext);
	ext.property = 0;
	ext.base.next = (uintptr_t)&ext;
	C("extension chain too long", E2BIG, a.extensions = (uintptr_t)&ext);
#undef C
	huge.size = 1ull << 50;
	ROW("GEM_CREATE: larger than system memory", ENOSPC, t_ioctl(fd, EMU_XE_GEM_CREATE, &huge));
	if (dev.vram) {
		huge.placement = 2;
		huge.cpu_caching = EMU_XE_CACHING_WC;
		huge.size = 1ull << 40;
		ROW("GEM_CREATE: larger than VRAM", ENOSPC, t_ioctl(fd, EMU_XE_GEM_CREATE, &huge));
	}
}

static void gem_mmap_offset(void **state)
{
	uint32_t bo = t_bo(fd, MIB, 1, 0);
	struct emu_xe_gem_mmap_offset good = { .handle = bo };

	(void)state;
#define M(what, want, change) \
	BAD("GEM_MMAP_OFFSET: " what, want, fd, EMU_XE_GEM_MMAP_OFFSET, good, change)
	M("extensions", EINVAL, a.extensions = 1);
	M("reserved", EINVAL, a.reserved[0] = 1);
	M("flags", EINVAL, a.flags = 2);
	M("handle unknown", ENOENT, a.handle = 999);
	M("barrier with handle", EINVAL, a.flags = EMU_XE_MMAP_PCI_BARRIER);
	if (dev.vram)
		M("barrier", 0, (a.flags = EMU_XE_MMAP_PCI_BARRIER, a.handle = 0));
	else
		M("barrier on an integrated GPU", EINVAL,
		  (a.flags = EMU_XE_MMAP_PCI_BARRIER, a.handle = 0));
#undef M
	if (dev.vram) {
		void *p = mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, EMU_XE_PCI_BARRIER_OFFSET);

		assert_ptr_not_equal(p, MAP_FAILED);
		*(volatile int *)p = 1;
		t_ok(munmap(p, 4096));
		p = mmap(NULL, 8192, PROT_WRITE, MAP_SHARED, fd, EMU_XE_PCI_BARRIER_OFFSET);
		ROW("mmap: barrier larger than a page", EINVAL, p == MAP_FAILED ? -errno : 0);
		p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			 EMU_XE_PCI_BARRIER_OFFSET);
		ROW("mmap: barrier readable", EINVAL, p == MAP_FAILED ? -errno : 0);
		p = mmap(NULL, 4096, PROT_WRITE, MAP_PRIVATE, fd, EMU_XE_PCI_BARRIER_OFFSET);
		ROW("mmap: barrier private", EINVAL, p == MAP_FAILED ? -errno : 0);
	}
	ROW("mmap: offset of nothing", EINVAL,
	    mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0x900000000000) == MAP_FAILED ? -errno : 0);
	t_ok(t_bo_close(fd, bo));
	ROW("GEM_CLOSE: handle unknown", EINVAL, t_bo_close(fd, bo));
}

static void vm_create_destroy(void **state)
{
	struct emu_xe_vm_create good = { 0 };
	uint32_t vm = t_vm(fd, 0), lr = t_vm(fd, EMU_XE_VM_LR), queue;
	struct emu_xe_vm_destroy gone = { .vm_id = vm };

	(void)state;
#define V(what, want, change) BAD("VM_CREATE: " what, want, fd, EMU_XE_VM_CREATE, good, change)
	V("extensions", EINVAL, a.extensions = 1);
	V("reserved", EINVAL, a.reserved[1] = 1);
	V("unknown flag", EINVAL, a.flags = 1u << 4);
	V("FAULT_MODE without LR_MODE", EINVAL, a.flags = EMU_XE_VM_FAULT_MODE);
	V("NO_VM_OVERCOMMIT without FAULT_MODE", EINVAL,
	  a.flags = EMU_XE_VM_LR | EMU_XE_VM_NO_OVERCOMMIT);
	if (!dev.usm)
		V("FAULT_MODE without the hardware", EINVAL,
		  a.flags = EMU_XE_VM_LR | EMU_XE_VM_FAULT_MODE);
	if (dev.usm && dev.va_bits == 57)
		V("SCRATCH_PAGE with FAULT_MODE", EINVAL,
		  a.flags = EMU_XE_VM_LR | EMU_XE_VM_FAULT_MODE | EMU_XE_VM_SCRATCH);
#undef V
#define D(what, want, change) BAD("VM_DESTROY: " what, want, fd, EMU_XE_VM_DESTROY, gone, change)
	D("pad", EINVAL, a.pad = 1);
	D("reserved", EINVAL, a.reserved[0] = 1);
	D("vm unknown", ENOENT, a.vm_id = 999);
	queue = t_queue(fd, lr, EMU_XE_COPY, 0);
	D("preempt-fence VM with queues", EBUSY, a.vm_id = lr);
	t_ok(t_queue_destroy(fd, queue));
	D("preempt-fence VM without", 0, a.vm_id = lr);
#undef D
	/* A VM without preempt fences may go first; its queue then refuses work. */
	queue = t_queue(fd, vm, EMU_XE_COPY, 0);
	t_ok(t_vm_destroy(fd, vm));
	{
		struct emu_xe_exec e = { .exec_queue_id = queue, .num_batch_buffer = 1 };

		ROW("EXEC: VM closed", ECANCELED, t_ioctl(fd, EMU_XE_EXEC, &e));
	}
	t_ok(t_queue_destroy(fd, queue));
}

/* ---- VM_BIND ---- */

static uint32_t bad_pat(void)
{
	return 200;
}

static void vm_bind_arguments(void **state)
{
	uint32_t vm = t_vm(fd, 0), bo = t_bo(fd, 2 * MIB, 1, 0), other = t_vm(fd, 0);
	uint32_t queue = t_queue(fd, vm, EMU_XE_COPY, 0);
	uint32_t bindq = t_queue(fd, other, EMU_XE_VM_BIND_CLASS, 0);
	struct emu_xe_vm_bind good = t_bind_bo(vm, bo, 0, 16 * MIB, MIB, dev.wb);
	void *host = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct emu_xe_vm_bind user = t_bind_user(vm, host, 16 * MIB, MIB, dev.wb);
	struct emu_xe_vm_bind unmap = t_bind_op(vm, EMU_XE_OP_UNMAP, 16 * MIB, MIB, dev.wb);
	struct emu_xe_vm_bind fetch = t_bind_op(vm, EMU_XE_OP_PREFETCH, 16 * MIB, MIB, dev.wb);
	struct emu_xe_vm_bind all = t_bind_op(vm, EMU_XE_OP_UNMAP_ALL, 0, 0, dev.wb);
	struct emu_xe_vm_bind twice;

	(void)state;
#define B(what, want, change) BAD("VM_BIND: " what, want, fd, EMU_XE_VM_BIND, good, change)
	B("1 vm unknown", EINVAL, a.vm_id = 999);
	B("2 pad", EINVAL, a.pad = 1);
	B("2 pad2", EINVAL, a.pad2 = 1);
	B("2 reserved", EINVAL, a.reserved[0] = 1);
	B("2 extensions", EINVAL, a.extensions = 1);
	B("2 too many syncs", EINVAL, a.num_syncs = 1025);
	B("3 array too large", ENOBUFS, (a.num_binds = 1u << 24, a.vector_of_binds = BADPTR));
	B("3 array unreadable", EFAULT, (a.num_binds = 2, a.vector_of_binds = BADPTR));
	B("4 mirror on a VM without faults", EINVAL,
	  (a.bind.flags = EMU_XE_BIND_MIRROR, a.bind.obj = 0));
	B("5 pat index too high", EINVAL, a.bind.pat_index = (uint16_t)bad_pat());
	if (dev.wb == 2)
		B("5 pat index reserved", EINVAL, a.bind.pat_index = 17);
	B("6 op unknown", EINVAL, a.bind.op = 5);
	B("6 flag unknown", EINVAL, a.bind.flags = 1u << 8);
	B("6 MAP without object", EINVAL, a.bind.obj = 0);
	B("6 NULL with object", EINVAL, a.bind.flags = EMU_XE_BIND_NULL);
	B("6 NULL with offset", EINVAL,
	  (a.bind.flags = EMU_XE_BIND_NULL, a.bind.obj = 0, a.bind.where = 4096));
	B("6 AUTORESET without mirror", EINVAL, a.bind.flags = EMU_XE_BIND_AUTORESET);
	B("6 prefetch region on MAP", EINVAL, a.bind.prefetch_mem_region_instance = 1);
	B("7 offset unaligned", EINVAL, a.bind.where = 1);
	B("7 address unaligned", EINVAL, a.bind.addr = 1);
	B("7 range unaligned", EINVAL, a.bind.range = 1);
	B("7 range zero", EINVAL, a.bind.range = 0);
	if (!dev.vram || dev.wb != 2 || dev.va_bits == 57)
		B("8 DECOMPRESS unsupported", EOPNOTSUPP, a.bind.flags = EMU_XE_BIND_DECOMPRESS);
	else
		B("8 DECOMPRESS with compressed pat", EINVAL,
		  (a.bind.flags = EMU_XE_BIND_DECOMPRESS, a.bind.pat_index = 9));
	B("9 queue unknown", ENOENT, a.exec_queue_id = 999);
	B("9 queue of another class", EINVAL, a.exec_queue_id = queue);
	B("9 queue of another VM", EINVAL, a.exec_queue_id = bindq);
	B("12 range beyond the VM", EINVAL, a.bind.range = 1ull << 60);
	B("12 end beyond the VM", EINVAL, a.bind.addr = (1ull << dev.va_bits) - 4096);
	B("12 sign-extended address", EINVAL, a.bind.addr = 0xffff800000000000ull);
	B("13 object unknown", ENOENT, a.bind.obj = 999);
	B("13 range beyond the object", EINVAL, a.bind.range = 4 * MIB);
	B("13 offset beyond the object", EINVAL, a.bind.where = 2 * MIB);
	if (dev.wb)
		B("13 WB object with non-coherent pat", EINVAL, a.bind.pat_index = 0);
	else
		B("13 WB object with non-coherent pat", EINVAL, a.bind.pat_index = 3);
#undef B
#define B(what, want, good, change) BAD("VM_BIND: " what, want, fd, EMU_XE_VM_BIND, good, change)
	B("6 UNMAP with object", EINVAL, unmap, a.bind.obj = bo);
	B("5 UNMAP with bad pat", EINVAL, unmap, a.bind.pat_index = (uint16_t)bad_pat());
	B("6 UNMAP with NULL flag", EINVAL, unmap, a.bind.flags = EMU_XE_BIND_NULL);
	B("6 UNMAP with DECOMPRESS", EINVAL, unmap, a.bind.flags = EMU_XE_BIND_DECOMPRESS);
	B("6 MAP_USERPTR with object", EINVAL, user, a.bind.obj = bo);
	B("6 MAP_USERPTR non-coherent", EINVAL, user, a.bind.pat_index = dev.wb ? 0 : 3);
	if (dev.wb == 2 && dev.va_bits == 48)
		B("6 MAP_USERPTR compressed", EINVAL, user, a.bind.pat_index = 9);
	B("7 userptr unaligned", EINVAL, user, a.bind.where += 8);
	B("6 PREFETCH with object", EINVAL, fetch, a.bind.obj = bo);
	B("6 PREFETCH to no region", EINVAL, fetch, a.bind.prefetch_mem_region_instance = 30);
	B("6 UNMAP_ALL without object", EINVAL, all, a.bind.obj = 0);
	B("6 UNMAP_ALL with address", EINVAL, all, (a.bind.obj = bo, a.bind.addr = 4096));
	B("6 UNMAP_ALL with range", EINVAL, all, (a.bind.obj = bo, a.bind.range = 4096));
	/* Arguments go before the queue, the queue before the object. */
	B("order: pat before queue", EINVAL, good,
	  (a.bind.pat_index = (uint16_t)bad_pat(), a.exec_queue_id = 999));
	B("order: queue before object", ENOENT, good, (a.exec_queue_id = 999, a.bind.obj = 998));
	B("order: range before object", EINVAL, good, (a.bind.addr = 1ull << 60, a.bind.obj = 998));
	/* Good ones, so that the rows above do not pass for the wrong reason. */
	B("MAP good", 0, good, (void)a);
	B("MAP_USERPTR good", 0, user, (void)a);
	B("PREFETCH good", 0, fetch, (void)a);
	B("UNMAP good", 0, unmap, (void)a);
	B("UNMAP of nothing", 0, unmap, a.bind.addr = 64 * MIB);
	B("UNMAP_ALL good", 0, all, a.bind.obj = bo);
#undef B
	twice = good;
	twice.bind.obj = 0;
	twice.bind.flags = EMU_XE_BIND_NULL;
	ROW("VM_BIND: MAP NULL", 0, t_ioctl(fd, EMU_XE_VM_BIND, &twice));
	t_ok(t_queue_destroy(fd, queue));
	t_ok(t_queue_destroy(fd, bindq));
	t_ok(t_vm_destroy(fd, vm));
	t_ok(t_vm_destroy(fd, other));
	t_ok(t_bo_close(fd, bo));
	t_ok(munmap(host, MIB));
}

static void vm_bind_strict(void **state)
{
	uint32_t vm = t_vm(fd, 0), other = t_vm(fd, 0), bo = t_bo(fd, MIB, 1, vm);
	struct emu_xe_vm_bind good = t_bind_bo(vm, bo, 0, 16 * MIB, MIB, dev.wb);
	uint64_t before = emu_ctl_strict_count();

	(void)state;
#define S(what, want, change) BAD("strict VM_BIND: " what, want, fd, EMU_XE_VM_BIND, good, change)
	S("op pad", EINVAL, a.bind.pad = 1);
	S("op pad2", EINVAL, a.bind.pad2 = 1);
	S("op reserved", EINVAL, a.bind.reserved[2] = 1);
	S("op extensions", EINVAL, a.bind.extensions = 1);
	S("private BO into another VM", EINVAL, a.vm_id = other);
	assert_int_equal(emu_ctl_strict_count(), before + 5);
	S("private BO into its VM", 0, (void)a);
#undef S
	t_ok(t_vm_destroy(fd, vm));
	t_ok(t_vm_destroy(fd, other));
	t_ok(t_bo_close(fd, bo));
}

static void vm_bind_64k(void **state)
{
	uint32_t vm, bo;
	struct emu_xe_vm_bind good;

	(void)state;
	if (dev.min_align != 0x10000)
		t_skip("the platform has no 64 KiB rule");
	vm = t_vm(fd, 0);
	bo = t_bo(fd, MIB, 2, 0);
	good = t_bind_bo(vm, bo, 0, 16 * MIB, 512 * KIB, dev.wb);
#define K(what, want, change) BAD("VM_BIND: 13 64K " what, want, fd, EMU_XE_VM_BIND, good, change)
	K("address", EINVAL, a.bind.addr += 4096);
	K("range", EINVAL, a.bind.range -= 4096);
	K("offset", EINVAL, a.bind.where += 4096);
	K("good", 0, (void)a);
#undef K
	t_ok(t_vm_destroy(fd, vm));
	t_ok(t_bo_close(fd, bo));
}

static void vm_bind_userptr(void **state)
{
	uint32_t vm = t_vm(fd, 0), bo = t_bo(fd, MIB, 1, 0);
	char *p = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *map = t_map(fd, bo, MIB);
	struct emu_xe_vm_bind good = t_bind_user(vm, p, 16 * MIB, MIB, dev.wb);

	(void)state;
	t_ok(munmap(p + 2 * MIB, MIB));
	t_ok(mprotect(p + 3 * MIB, MIB, PROT_READ));
#define U(what, want, change) BAD("MAP_USERPTR: " what, want, fd, EMU_XE_VM_BIND, good, change)
	U("hole", EFAULT, a.bind.where += 2 * MIB);
	U("partly a hole", EFAULT, a.bind.range = 3 * MIB);
	U("no write permission", EPERM, a.bind.where += 3 * MIB);
	U("no write permission, READONLY", 0,
	  (a.bind.where += 3 * MIB, a.bind.flags = EMU_XE_BIND_READONLY));
	U("a BO's map", EFAULT, a.bind.where = (uintptr_t)map);
#undef U
	t_ok(munmap(map, MIB));
	t_ok(t_vm_destroy(fd, vm));
	t_ok(munmap(p, 2 * MIB));
	t_ok(munmap(p + 3 * MIB, MIB));
	t_ok(t_bo_close(fd, bo));
}

static void syncs(void **state)
{
	uint32_t vm = t_vm(fd, 0), lr = t_vm(fd, EMU_XE_VM_LR), bo = t_bo(fd, MIB, 1, 0);
	uint32_t empty = t_syncobj(fd, false), full = t_syncobj(fd, true);
	uint64_t word = 0;
	struct emu_xe_sync two[2];
	struct emu_xe_vm_bind b = t_bind_bo(vm, bo, 0, 16 * MIB, MIB, dev.wb);
	struct emu_xe_sync good = { .type = EMU_XE_SYNCOBJ,
				    .flags = EMU_XE_SYNC_SIGNAL,
				    .where = empty };

	(void)state;
	b.num_syncs = 1;
#define Y(what, want, change)                                              \
	do {                                                               \
		struct emu_xe_sync a = good;                               \
		b.vm_id = vm;                                              \
		b.syncs = (uintptr_t)&a;                                   \
		change;                                                    \
		ROW("sync: " what, want, t_ioctl(fd, EMU_XE_VM_BIND, &b)); \
	} while (0)
	Y("type unknown", EINVAL, a.type = 3);
	Y("flag unknown", EINVAL, a.flags = 2);
	Y("reserved", EINVAL, a.reserved[0] = 1);
	Y("extensions (strict)", EINVAL, a.extensions = 1);
	Y("array unreadable", EFAULT, b.syncs = BADPTR);
	Y("upper half of the handle", EINVAL, a.where |= 1ull << 32);
	Y("syncobj unknown", ENOENT, a.where = 999);
	Y("empty in-fence", EINVAL, a.flags = 0);
	Y("signalled in-fence", 0, (a.flags = 0, a.where = full));
	Y("timeline value zero", EINVAL, a.type = EMU_XE_TIMELINE);
	Y("timeline unknown", ENOENT,
	  (a.type = EMU_XE_TIMELINE, a.timeline_value = 1, a.where = 999));
	Y("timeline point not submitted", EINVAL,
	  (a.type = EMU_XE_TIMELINE, a.timeline_value = 5, a.flags = 0));
	Y("user fence as in-fence", EOPNOTSUPP,
	  (a.type = EMU_XE_USER_FENCE, a.flags = 0, a.where = (uintptr_t)&word));
	Y("user fence unaligned", EINVAL,
	  (a.type = EMU_XE_USER_FENCE, a.where = (uintptr_t)&word + 4));
	Y("user fence unreadable", EFAULT, (a.type = EMU_XE_USER_FENCE, a.where = BADPTR & ~7ull));
	Y("syncobj signalled by an LR VM", EOPNOTSUPP, b.vm_id = lr);
	Y("timeline signalled by an LR VM", EOPNOTSUPP,
	  (b.vm_id = lr, a.type = EMU_XE_TIMELINE, a.timeline_value = 1));
	Y("good", 0, (void)a);
#undef Y
	two[0] = two[1] = (struct emu_xe_sync){ .type = EMU_XE_USER_FENCE,
						.flags = EMU_XE_SYNC_SIGNAL,
						.where = (uintptr_t)&word };
	b.vm_id = vm;
	b.num_syncs = 2;
	b.syncs = (uintptr_t)two;
	ROW("sync: two user fences", EINVAL, t_ioctl(fd, EMU_XE_VM_BIND, &b));
	t_ok(t_vm_destroy(fd, vm));
	t_ok(t_vm_destroy(fd, lr));
	t_ok(t_bo_close(fd, bo));
	t_ok(t_syncobj_destroy(fd, empty));
	t_ok(t_syncobj_destroy(fd, full));
}

static void vm_bind_empty(void **state)
{
	uint32_t vm = t_vm(fd, 0), lr = t_vm(fd, EMU_XE_VM_LR), out = t_syncobj(fd, false);
	uint32_t full = t_syncobj(fd, true);
	uint64_t word = 0;
	struct emu_xe_sync s = { .type = EMU_XE_SYNCOBJ,
				 .flags = EMU_XE_SYNC_SIGNAL,
				 .where = out };
	struct emu_xe_vm_bind b = { .vm_id = vm, .num_syncs = 1, .syncs = (uintptr_t)&s };
	struct emu_xe_vm_bind u = t_bind_op(vm, EMU_XE_OP_UNMAP, 16 * MIB, MIB, dev.wb);

	(void)state;
	ROW("VM_BIND: 15 no binds, out-fence", 0, t_ioctl(fd, EMU_XE_VM_BIND, &b));
	t_ok(t_syncobj_wait(fd, out, 1000000000));
	b.vm_id = lr;
	ROW("VM_BIND: 15 no binds, LR, out-fence", EOPNOTSUPP, t_ioctl(fd, EMU_XE_VM_BIND, &b));
	b.vm_id = vm;
	s = (struct emu_xe_sync){ .type = EMU_XE_SYNCOBJ, .where = full };
	ROW("VM_BIND: 15 no binds, in-fence", EOPNOTSUPP, t_ioctl(fd, EMU_XE_VM_BIND, &b));
	u.num_syncs = 1;
	u.syncs = (uintptr_t)&s;
	ROW("VM_BIND: UNMAP of nothing, in-fence", EOPNOTSUPP, t_ioctl(fd, EMU_XE_VM_BIND, &u));
	s = (struct emu_xe_sync){ .type = EMU_XE_USER_FENCE,
				  .flags = EMU_XE_SYNC_SIGNAL,
				  .where = (uintptr_t)&word };
	ROW("VM_BIND: 15 no binds, user fence", EOPNOTSUPP, t_ioctl(fd, EMU_XE_VM_BIND, &b));
	t_ok(t_vm_destroy(fd, vm));
	t_ok(t_vm_destroy(fd, lr));
	t_ok(t_syncobj_destroy(fd, out));
	t_ok(t_syncobj_destroy(fd, full));
}

/* ---- queues and EXEC ---- */

static void queue_create(void **state)
{
	uint32_t vm = t_vm(fd, 0);
	struct emu_xe_engine_class_instance e[2] = { { .engine_class = EMU_XE_COPY } };
	struct emu_xe_ext_set_property ext = { .property = 0, .value = 1 };
	struct emu_xe_exec_queue_create good = {
		.width = 1, .num_placements = 1, .vm_id = vm, .instances = (uintptr_t)e
	};

	(void)state;
#define E(what, want, change)                                                                      \
	do {                                                                                       \
		memset(e, 0, sizeof(e));                                                           \
		e[0].engine_class = e[1].engine_class = EMU_XE_COPY;                               \
		BAD("EXEC_QUEUE_CREATE: " what, want, fd, EMU_XE_EXEC_QUEUE_CREATE, good, change); \
	} while (0)
	E("flags", EINVAL, a.flags = 2);
	E("reserved", EINVAL, a.reserved[0] = 1);
	E("width zero", EINVAL, a.width = 0);
	E("too many", EINVAL, a.num_placements = 10);
	E("instances unreadable", EFAULT, a.instances = BADPTR);
	E("gt unknown", EINVAL, e[0].gt_id = 9);
	E("engine unknown", EINVAL, e[0].engine_instance = 99);
	E("class unknown", EINVAL, e[0].engine_class = 9);
	E("mixed classes", EINVAL, (a.num_placements = 2, e[1].engine_class = EMU_XE_COMPUTE));
	E("parallel, not neighbours", EINVAL,
	  (a.width = 2, e[0].engine_class = e[1].engine_class = EMU_XE_VIDEO_DECODE));
	E("bind queue, width", EINVAL,
	  (a.width = 2, e[0].engine_class = e[1].engine_class = EMU_XE_VM_BIND_CLASS));
	E("bind queue, instance", EINVAL,
	  (e[0].engine_class = EMU_XE_VM_BIND_CLASS, e[0].engine_instance = 1));
	E("bind queue, vm unknown", ENOENT,
	  (e[0].engine_class = EMU_XE_VM_BIND_CLASS, a.vm_id = 999));
	E("vm unknown", ENOENT, a.vm_id = 999);
	E("extension unreadable", EFAULT, a.extensions = BADPTR);
	E("priority too high", EINVAL, (ext.value = 3, a.extensions = (uintptr_t)&ext));
	E("priority not allowed", EPERM, (ext.value = 2, a.extensions = (uintptr_t)&ext));
	E("timeslice zero", EINVAL,
	  (ext.property = 1, ext.value = 0, a.extensions = (uintptr_t)&ext));
	E("extension property unknown", EINVAL,
	  (ext.property = 50, a.extensions = (uintptr_t)&ext));
	E("extension chain too long", E2BIG,
	  (ext.property = 0, ext.value = 1, ext.base.next = (uintptr_t)&ext,
	   a.extensions = (uintptr_t)&ext));
	if (dev.va_bits == 57)
		E("parallel on a copy engine", EOPNOTSUPP, (a.width = 2, e[1].engine_instance = 1));
#undef E
	t_ok(t_vm_destroy(fd, vm));
}

static void queue_calls(void **state)
{
	uint32_t vm = t_vm(fd, 0), q = t_queue(fd, vm, EMU_XE_COPY, 0);
	struct emu_xe_exec_queue_destroy gone = { .exec_queue_id = q };
	struct emu_xe_exec_queue_property prop = { .exec_queue_id = q };
	struct emu_xe_exec_queue_property set = { .exec_queue_id = q, .property = 5 };

	(void)state;
	assert_int_equal(q, 1);
#define P(what, want, change)                                                                 \
	BAD("EXEC_QUEUE_GET_PROPERTY: " what, want, fd, EMU_XE_EXEC_QUEUE_GET_PROPERTY, prop, \
	    change)
	P("reserved", EINVAL, a.reserved[0] = 1);
	P("extensions (strict)", EINVAL, a.extensions = 1);
	P("queue unknown", ENOENT, a.exec_queue_id = 999);
	P("property unknown", EINVAL, a.property = 1);
	P("good", 0, (void)a);
#undef P
#define P(what, want, change) \
	BAD("EXEC_QUEUE_SET_PROPERTY: " what, want, fd, EMU_XE_EXEC_QUEUE_SET_PROPERTY, set, change)
	P("reserved", EINVAL, a.reserved[1] = 1);
	P("property is not 5", EINVAL, a.property = 4);
	P("queue unknown", ENOENT, a.exec_queue_id = 999);
	P("value too high", EINVAL, a.value = 3);
	P("not multi-queue", EINVAL, a.value = 1);
#undef P
#define P(what, want, change) \
	BAD("EXEC_QUEUE_DESTROY: " what, want, fd, EMU_XE_EXEC_QUEUE_DESTROY, gone, change)
	P("pad", EINVAL, a.pad = 1);
	P("reserved", EINVAL, a.reserved[0] = 1);
	P("queue unknown", ENOENT, a.exec_queue_id = 999);
	P("good", 0, (void)a);
#undef P
	t_ok(t_vm_destroy(fd, vm));
}

static void exec(void **state)
{
	struct t_gpu g;
	struct emu_xe_exec good = { .num_batch_buffer = 1 };
	uint32_t bindq, out = t_syncobj(fd, false);
	struct emu_xe_sync s = { .type = EMU_XE_SYNCOBJ };

	(void)state;
	t_gpu_open(&g, 0, 0);
	bindq = t_queue(g.fd, g.vm, EMU_XE_VM_BIND_CLASS, 0);
	good.exec_queue_id = g.queue;
	good.address = g.batch_addr;
	g.batch[0] = 0x05000000;
#define X(what, want, change) BAD("EXEC: " what, want, g.fd, EMU_XE_EXEC, good, change)
	X("extensions", EINVAL, a.extensions = 1);
	X("pad", EINVAL, a.pad[2] = 1);
	X("reserved", EINVAL, a.reserved[1] = 1);
	X("too many syncs", EINVAL, a.num_syncs = 1025);
	X("queue unknown", ENOENT, a.exec_queue_id = 999);
	X("bind queue", EINVAL, a.exec_queue_id = bindq);
	X("batches are not the width", EINVAL, a.num_batch_buffer = 2);
	X("syncs unreadable", EFAULT, (a.num_syncs = 1, a.syncs = BADPTR));
	s.where = g.sync;
	X("empty in-fence", EINVAL, (a.num_syncs = 1, a.syncs = (uintptr_t)&s));
	s.flags = EMU_XE_SYNC_SIGNAL;
	X("no batch, out-fence", 0,
	  (a.num_batch_buffer = 0, a.num_syncs = 1, a.syncs = (uintptr_t)&s));
	s.flags = 0;
	X("no batch, in-fence", EOPNOTSUPP,
	  (a.num_batch_buffer = 0, a.num_syncs = 1, a.syncs = (uintptr_t)&s));
	X("good", 0, (void)a);
#undef X
	t_ok(t_queue_destroy(g.fd, bindq));
	/* 1000 jobs outstanding. */
	g.batch[0] = 0x18800001 | 1 << 8;
	g.batch[1] = (uint32_t)g.batch_addr;
	g.batch[2] = 0;
	{
		int r = 0, n = 0;

		while (n < 1200 && (r = ioctl(g.fd, EMU_XE_EXEC, &good)) == 0)
			n++;
		ROW("EXEC: 1000 jobs outstanding", EAGAIN, r < 0 ? -errno : 0);
		assert_in_range(n, 999, 1000);
	}
	g.batch[0] = 0x05000000;
	t_ok(t_run(&g));
	t_gpu_close(&g);
	t_ok(t_syncobj_destroy(fd, out));
}

static void wait_user_fence(void **state)
{
	uint64_t word __attribute__((aligned(8))) = 5;
	struct emu_xe_wait_user_fence good = { .addr = (uintptr_t)&word,
					       .value = 5,
					       .mask = ~0ull };

	(void)state;
#define W(what, want, change) \
	BAD("WAIT_USER_FENCE: " what, want, fd, EMU_XE_WAIT_USER_FENCE, good, change)
	W("extensions", EINVAL, a.extensions = 1);
	W("pad", EINVAL, a.pad = 1);
	W("pad2", EINVAL, a.pad2 = 1);
	W("reserved", EINVAL, a.reserved[0] = 1);
	W("flags", EINVAL, a.flags = 2);
	W("op", EINVAL, a.op = 6);
	W("address unaligned", EINVAL, a.addr += 4);
	W("queue unknown", ENOENT, a.exec_queue_id = 999);
	W("address unreadable", EFAULT, a.addr = BADPTR & ~7ull);
	W("EQ true", 0, (void)a);
	W("EQ false, poll", ETIME, a.value = 6);
	W("EQ false, short wait", ETIME, (a.value = 6, a.timeout = 1000000));
	W("EQ false, past absolute time", ETIME,
	  (a.value = 6, a.timeout = 1, a.flags = EMU_XE_UFENCE_ABSTIME));
	W("EQ under mask", 0, (a.value = 0xff05, a.mask = 0xff));
	W("NEQ", 0, (a.op = 1, a.value = 6));
	W("GT", ETIME, a.op = 2);
	W("GT true", 0, (a.op = 2, a.value = 4));
	W("GTE", 0, a.op = 3);
	W("LT", ETIME, a.op = 4);
	W("LTE", 0, a.op = 5);
#undef W
}

static void madvise_query(void **state)
{
	uint32_t vm = t_vm(fd, 0), lr, zero = 0, one = 1;
	struct emu_xe_madvise good = {
		.start = 16 * MIB, .range = MIB, .type = EMU_XE_ADV_ATOMIC, .vm_id = vm
	};
	struct emu_xe_mem_range_attr attr[4];
	struct emu_xe_vm_query_mem_range_attr query = { .vm_id = vm,
							.start = 16 * MIB,
							.range = MIB };

	(void)state;
#define A(what, want, change) BAD("MADVISE: " what, want, fd, EMU_XE_MADVISE, good, change)
	A("vm unknown", EINVAL, a.vm_id = 999);
	A("start unaligned", EINVAL, a.start += 1);
	A("range unaligned", EINVAL, a.range += 1);
	A("range below a page", EINVAL, a.range = 0);
	A("reserved", EINVAL, a.reserved[1] = 1);
	A("type unknown", EINVAL, a.type = 4);
	A("extensions (strict)", EINVAL, a.extensions = 1);
	A("atomic value", EINVAL, a.u.val = 4);
	A("atomic pad", EINVAL, a.u.pad = 1);
	A("atomic reserved", EINVAL, a.u.reserved = 1);
	A("pat value", EINVAL, (a.type = EMU_XE_ADV_PAT, a.u.val = 200));
	A("pat pad", EINVAL, (a.type = EMU_XE_ADV_PAT, a.u.val = dev.wb, a.u.pad = 1));
	A("loc fd below -1", EINVAL, (a.type = EMU_XE_ADV_LOC, a.loc.devmem_fd = -2));
	A("loc policy", EINVAL, (a.type = EMU_XE_ADV_LOC, a.loc.migration_policy = 2));
	A("loc region without fd", EINVAL, (a.type = EMU_XE_ADV_LOC, a.loc.region_instance = 1));
	A("loc reserved", EINVAL, (a.type = EMU_XE_ADV_LOC, a.loc.reserved = 1));
	A("loc fd not open", ENOENT,
	  (a.type = EMU_XE_ADV_LOC, a.loc.devmem_fd = 900, a.loc.region_instance = 1));
	A("loc fd not xe", ENOENT,
	  (a.type = EMU_XE_ADV_LOC, a.loc.devmem_fd = 2, a.loc.region_instance = 1));
	A("loc region not VRAM", ENOENT,
	  (a.type = EMU_XE_ADV_LOC, a.loc.devmem_fd = fd, a.loc.region_instance = 9));
	A("purge value", EINVAL, (a.type = EMU_XE_ADV_PURGEABLE, a.u.val = 2));
	A("purge pad", EINVAL, (a.type = EMU_XE_ADV_PURGEABLE, a.u.pad = 1));
	A("purge pointer unreadable", EFAULT,
	  (a.type = EMU_XE_ADV_PURGEABLE, a.u.reserved = BADPTR));
	A("purge pointer not zero", EINVAL,
	  (a.type = EMU_XE_ADV_PURGEABLE, a.u.reserved = (uintptr_t)&one));
	A("purge good", 0, (a.type = EMU_XE_ADV_PURGEABLE, a.u.reserved = (uintptr_t)&zero));
	A("empty range", 0, (void)a);
#undef A
#define Q(what, want, change)                                                                    \
	BAD("VM_QUERY_MEM_RANGE_ATTRS: " what, want, fd, EMU_XE_VM_QUERY_MEM_RANGE_ATTRS, query, \
	    change)
	Q("vm unknown", EINVAL, a.vm_id = 999);
	Q("number without size", EINVAL, a.num_mem_ranges = 1);
	Q("size without number", EINVAL, a.sizeof_mem_range_attr = 64);
	Q("wrong size", EINVAL,
	  (a.num_mem_ranges = 1, a.sizeof_mem_range_attr = 63,
	   a.vector_of_mem_attr = (uintptr_t)attr));
	Q("reserved (strict)", EINVAL, a.reserved[0] = 1);
	Q("empty", 0, (void)a);
	lr = t_bo(fd, MIB, 1, 0);
	t_ok(t_bind_wait(fd, t_bind_bo(vm, lr, 0, 16 * MIB, 512 * KIB, dev.wb), false));
	t_ok(t_bind_wait(fd, t_bind_bo(vm, lr, 0, 16 * MIB + 512 * KIB, 512 * KIB, dev.wb), false));
	Q("more areas than slots", ENOSPC,
	  (a.num_mem_ranges = 1, a.sizeof_mem_range_attr = 64,
	   a.vector_of_mem_attr = (uintptr_t)attr));
	Q("vector unwritable", EFAULT,
	  (a.num_mem_ranges = 2, a.sizeof_mem_range_attr = 64, a.vector_of_mem_attr = BADPTR));
#undef Q
	t_ok(t_ioctl(fd, EMU_XE_VM_QUERY_MEM_RANGE_ATTRS, &query));
	assert_int_equal(query.num_mem_ranges, 2);
	assert_int_equal(query.sizeof_mem_range_attr, 64);
	query.vector_of_mem_attr = (uintptr_t)attr;
	t_ok(t_ioctl(fd, EMU_XE_VM_QUERY_MEM_RANGE_ATTRS, &query));
	assert_int_equal(attr[0].start, 16 * MIB);
	assert_int_equal(attr[1].end, 17 * MIB);
	assert_int_equal(attr[1].pat_val, dev.wb);
	/* DEVICE needs VRAM, or atomics in system memory; GLOBAL needs both places. */
	good.u.val = EMU_XE_ATOMIC_GLOBAL;
	ROW("MADVISE: GLOBAL on a system BO", EINVAL, t_ioctl(fd, EMU_XE_MADVISE, &good));
	t_ok(t_vm_destroy(fd, vm));
	t_ok(t_bo_close(fd, lr));
}

static void vm_get_property(void **state)
{
	uint32_t vm = t_vm(fd, 0);
	struct emu_xe_vm_get_property good = { .vm_id = vm };

	(void)state;
#define P(what, want, change) \
	BAD("VM_GET_PROPERTY: " what, want, fd, EMU_XE_VM_GET_PROPERTY, good, change)
	P("extensions", EINVAL, a.extensions = 1);
	P("pad", EINVAL, a.pad = 1);
	P("reserved", EINVAL, a.reserved[2] = 1);
	P("vm unknown", ENOENT, a.vm_id = 999);
	P("property unknown", EINVAL, a.property = 1);
	P("size beyond the faults", EINVAL, a.size = 48);
	P("good", 0, (void)a);
#undef P
	t_ok(t_vm_destroy(fd, vm));
}

static void prime(void **state)
{
	uint32_t vm = t_vm(fd, 0), private = t_bo(fd, MIB, 1, vm), bo = t_bo(fd, MIB, 1, 0);
	struct emu_drm_prime_handle good = { .handle = bo, .flags = O_CLOEXEC | O_RDWR };
	struct emu_drm_prime_handle import = { .fd = fd };

	(void)state;
#define R(what, want, change) \
	BAD("PRIME_HANDLE_TO_FD: " what, want, fd, EMU_DRM_PRIME_HANDLE_TO_FD, good, change)
	R("flags", EINVAL, a.flags = 1);
	R("handle unknown", ENOENT, a.handle = 999);
	R("VM-private BO", EPERM, a.handle = private);
#undef R
#define R(what, want, change) \
	BAD("PRIME_FD_TO_HANDLE: " what, want, fd, EMU_DRM_PRIME_FD_TO_HANDLE, import, change)
	R("fd not open", EBADF, a.fd = 900);
	R("fd is no dma-buf", EINVAL, (void)a);
#undef R
	t_ok(t_vm_destroy(fd, vm));
	t_ok(t_bo_close(fd, private));
	t_ok(t_bo_close(fd, bo));
}

static void syncobj(void **state)
{
	uint32_t s = t_syncobj(fd, false), none = 999;
	struct emu_drm_syncobj_create create = { 0 };
	struct emu_drm_syncobj_destroy gone = { .handle = 999 };
	struct emu_drm_syncobj_handle handle = { .handle = s, .fd = 2 };
	struct emu_drm_syncobj_wait wait = { .handles = (uintptr_t)&s, .count = 1 };
	struct emu_drm_syncobj_timeline_wait twait = { .handles = (uintptr_t)&s, .count = 1 };
	struct emu_drm_syncobj_array array = { .handles = (uintptr_t)&s, .count = 1 };
	struct emu_drm_syncobj_timeline_array tarray = { .handles = (uintptr_t)&s,
							 .points = BADPTR,
							 .count = 1 };
	struct emu_drm_syncobj_transfer move = { .src_handle = s, .dst_handle = s };
	struct emu_drm_syncobj_eventfd event = { .handle = s, .fd = 2 };

	(void)state;
	BAD("SYNCOBJ_CREATE: flags", EINVAL, fd, EMU_DRM_SYNCOBJ_CREATE, create, a.flags = 2);
	BAD("SYNCOBJ_DESTROY: pad", EINVAL, fd, EMU_DRM_SYNCOBJ_DESTROY, gone, a.pad = 1);
	BAD("SYNCOBJ_DESTROY: unknown", EINVAL, fd, EMU_DRM_SYNCOBJ_DESTROY, gone, (void)a);
	BAD("SYNCOBJ_HANDLE_TO_FD: pad", EINVAL, fd, EMU_DRM_SYNCOBJ_HANDLE_TO_FD, handle,
	    a.pad = 1);
	BAD("SYNCOBJ_HANDLE_TO_FD: flags", EINVAL, fd, EMU_DRM_SYNCOBJ_HANDLE_TO_FD, handle,
	    a.flags = 8);
	BAD("SYNCOBJ_HANDLE_TO_FD: unknown", EINVAL, fd, EMU_DRM_SYNCOBJ_HANDLE_TO_FD, handle,
	    a.handle = 999);
	BAD("SYNCOBJ_HANDLE_TO_FD: empty as sync_file", EINVAL, fd, EMU_DRM_SYNCOBJ_HANDLE_TO_FD,
	    handle, a.flags = 1);
	BAD("SYNCOBJ_FD_TO_HANDLE: not a syncobj", EINVAL, fd, EMU_DRM_SYNCOBJ_FD_TO_HANDLE, handle,
	    (void)a);
	BAD("SYNCOBJ_FD_TO_HANDLE: not a sync_file", EINVAL, fd, EMU_DRM_SYNCOBJ_FD_TO_HANDLE,
	    handle, a.flags = 1);
	BAD("SYNCOBJ_WAIT: flags", EINVAL, fd, EMU_DRM_SYNCOBJ_WAIT, wait, a.flags = 16);
	BAD("SYNCOBJ_WAIT: unknown", ENOENT, fd, EMU_DRM_SYNCOBJ_WAIT, wait,
	    a.handles = (uintptr_t)&none);
	BAD("SYNCOBJ_WAIT: handles unreadable", EFAULT, fd, EMU_DRM_SYNCOBJ_WAIT, wait,
	    a.handles = BADPTR);
	BAD("SYNCOBJ_WAIT: no fence", EINVAL, fd, EMU_DRM_SYNCOBJ_WAIT, wait, (void)a);
	BAD("SYNCOBJ_WAIT: no fence, for submit", ETIME, fd, EMU_DRM_SYNCOBJ_WAIT, wait,
	    a.flags = EMU_SYNCOBJ_WAIT_FOR_SUBMIT);
	BAD("SYNCOBJ_WAIT: none", 0, fd, EMU_DRM_SYNCOBJ_WAIT, wait, a.count = 0);
	BAD("SYNCOBJ_TIMELINE_WAIT: flags", EINVAL, fd, EMU_DRM_SYNCOBJ_TIMELINE_WAIT, twait,
	    a.flags = 16);
	BAD("SYNCOBJ_TIMELINE_WAIT: points unreadable", EFAULT, fd, EMU_DRM_SYNCOBJ_TIMELINE_WAIT,
	    twait, a.points = BADPTR);
	BAD("SYNCOBJ_RESET: pad", EINVAL, fd, EMU_DRM_SYNCOBJ_RESET, array, a.pad = 1);
	BAD("SYNCOBJ_RESET: none", EINVAL, fd, EMU_DRM_SYNCOBJ_RESET, array, a.count = 0);
	BAD("SYNCOBJ_SIGNAL: pad", EINVAL, fd, EMU_DRM_SYNCOBJ_SIGNAL, array, a.pad = 1);
	BAD("SYNCOBJ_SIGNAL: unknown", ENOENT, fd, EMU_DRM_SYNCOBJ_SIGNAL, array,
	    a.handles = (uintptr_t)&none);
	BAD("SYNCOBJ_TIMELINE_SIGNAL: flags", EINVAL, fd, EMU_DRM_SYNCOBJ_TIMELINE_SIGNAL, tarray,
	    a.flags = 1);
	BAD("SYNCOBJ_TIMELINE_SIGNAL: points unreadable", EFAULT, fd,
	    EMU_DRM_SYNCOBJ_TIMELINE_SIGNAL, tarray, (void)a);
	BAD("SYNCOBJ_QUERY: flags", EINVAL, fd, EMU_DRM_SYNCOBJ_QUERY, tarray, a.flags = 2);
	BAD("SYNCOBJ_QUERY: points unwritable", EFAULT, fd, EMU_DRM_SYNCOBJ_QUERY, tarray, (void)a);
	BAD("SYNCOBJ_TRANSFER: pad", EINVAL, fd, EMU_DRM_SYNCOBJ_TRANSFER, move, a.pad = 1);
	BAD("SYNCOBJ_TRANSFER: unknown", ENOENT, fd, EMU_DRM_SYNCOBJ_TRANSFER, move,
	    a.src_handle = 999);
	BAD("SYNCOBJ_TRANSFER: no fence", EINVAL, fd, EMU_DRM_SYNCOBJ_TRANSFER, move, (void)a);
	BAD("SYNCOBJ_EVENTFD: flags", EINVAL, fd, EMU_DRM_SYNCOBJ_EVENTFD, event, a.flags = 1);
	BAD("SYNCOBJ_EVENTFD: pad", EINVAL, fd, EMU_DRM_SYNCOBJ_EVENTFD, event, a.pad = 1);
	BAD("SYNCOBJ_EVENTFD: unknown", ENOENT, fd, EMU_DRM_SYNCOBJ_EVENTFD, event, a.handle = 999);
	BAD("SYNCOBJ_EVENTFD: fd not open", EBADF, fd, EMU_DRM_SYNCOBJ_EVENTFD, event, a.fd = 900);
	BAD("SYNCOBJ_EVENTFD: not an eventfd", EINVAL, fd, EMU_DRM_SYNCOBJ_EVENTFD, event, (void)a);
	t_ok(t_syncobj_destroy(fd, s));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(any_ioctl),	 TEST(device_query),
		TEST(gem_create),	 TEST(gem_mmap_offset),
		TEST(vm_create_destroy), TEST(vm_bind_arguments),
		TEST(vm_bind_strict),	 TEST(vm_bind_64k),
		TEST(vm_bind_userptr),	 TEST(syncs),
		TEST(vm_bind_empty),	 TEST(queue_create),
		TEST(queue_calls),	 TEST(exec),
		TEST(wait_user_fence),	 TEST(madvise_query),
		TEST(vm_get_property),	 TEST(prime),
		TEST(syncobj),
	};

	return T_MAIN(tests);
}
