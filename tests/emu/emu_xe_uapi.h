/* SPDX-License-Identifier: MIT */
/*
 * The xe ioctls as the emulator knows them: written for it, from the layouts of Linux 7.3's
 * include/uapi/drm/xe_drm.h, and held against the kernel's header by test/check_uapi.
 */
#ifndef EMU_XE_UAPI_H
#define EMU_XE_UAPI_H

#include <linux/ioctl.h>
#include <stdint.h>

struct emu_xe_extension {
	uint64_t next;
	uint32_t name, pad;
};

struct emu_xe_ext_set_property {
	struct emu_xe_extension base;
	uint32_t property, pad;
	uint64_t value;
	uint64_t reserved[2];
};

struct emu_xe_device_query {
	uint64_t extensions;
	uint32_t query, size;
	uint64_t data;
	uint64_t reserved[2];
};

struct emu_xe_engine_class_instance {
	uint16_t engine_class, engine_instance, gt_id, pad;
};

struct emu_xe_engine {
	struct emu_xe_engine_class_instance instance;
	uint64_t reserved[3];
};

struct emu_xe_query_engines {
	uint32_t num_engines, pad;
	struct emu_xe_engine engines[];
};

struct emu_xe_mem_region {
	uint16_t mem_class, instance;
	uint32_t min_page_size;
	uint64_t total_size, used, cpu_visible_size, cpu_visible_used;
	uint64_t reserved[6];
};

struct emu_xe_query_mem_regions {
	uint32_t num_mem_regions, pad;
	struct emu_xe_mem_region mem_regions[];
};

struct emu_xe_query_config {
	uint32_t num_params, pad;
	uint64_t info[5];
};

struct emu_xe_gt {
	uint16_t type, tile_id, gt_id, pad[3];
	uint32_t reference_clock;
	uint64_t near_mem_regions, far_mem_regions;
	uint16_t ip_ver_major, ip_ver_minor, ip_ver_rev, pad2;
	uint64_t reserved[7];
};

struct emu_xe_query_gt_list {
	uint32_t num_gt, pad;
	struct emu_xe_gt gt_list[];
};

struct emu_xe_query_topology_mask {
	uint16_t gt_id, type;
	uint32_t num_bytes;
};

struct emu_xe_query_engine_cycles {
	struct emu_xe_engine_class_instance eci;
	int32_t clockid;
	uint32_t width;
	uint64_t engine_cycles, cpu_timestamp, cpu_delta;
};

struct emu_xe_query_uc_fw_version {
	uint16_t uc_type, pad;
	uint32_t branch_ver, major_ver, minor_ver, patch_ver, pad2;
	uint64_t reserved;
};

struct emu_xe_gem_create {
	uint64_t extensions, size;
	uint32_t placement, flags, vm_id, handle;
	uint16_t cpu_caching, pad[3];
	uint64_t reserved[2];
};

struct emu_xe_gem_mmap_offset {
	uint64_t extensions;
	uint32_t handle, flags;
	uint64_t offset;
	uint64_t reserved[2];
};

struct emu_xe_vm_create {
	uint64_t extensions;
	uint32_t flags, vm_id;
	uint64_t reserved[2];
};

struct emu_xe_vm_destroy {
	uint32_t vm_id, pad;
	uint64_t reserved[2];
};

struct emu_xe_vm_bind_op {
	uint64_t extensions;
	uint32_t obj;
	uint16_t pat_index, pad;
	uint64_t where; /* obj_offset, userptr or cpu_addr_mirror_offset */
	uint64_t range, addr;
	uint32_t op, flags, prefetch_mem_region_instance, pad2;
	uint64_t reserved[3];
};

struct emu_xe_vm_bind {
	uint64_t extensions;
	uint32_t vm_id, exec_queue_id, pad, num_binds;
	union {
		struct emu_xe_vm_bind_op bind;
		uint64_t vector_of_binds;
	};
	uint32_t pad2, num_syncs;
	uint64_t syncs;
	uint64_t reserved[2];
};

struct emu_xe_sync {
	uint64_t extensions;
	uint32_t type, flags;
	uint64_t where; /* handle or address */
	uint64_t timeline_value;
	uint64_t reserved[2];
};

struct emu_xe_exec_queue_create {
	uint64_t extensions;
	uint16_t width, num_placements;
	uint32_t vm_id, flags, exec_queue_id;
	uint64_t instances;
	uint64_t reserved[2];
};

struct emu_xe_exec_queue_destroy {
	uint32_t exec_queue_id, pad;
	uint64_t reserved[2];
};

struct emu_xe_exec_queue_property {
	uint64_t extensions;
	uint32_t exec_queue_id, property;
	uint64_t value;
	uint64_t reserved[2];
};

struct emu_xe_exec {
	uint64_t extensions;
	uint32_t exec_queue_id, num_syncs;
	uint64_t syncs, address;
	uint16_t num_batch_buffer, pad[3];
	uint64_t reserved[2];
};

struct emu_xe_wait_user_fence {
	uint64_t extensions, addr;
	uint16_t op, flags;
	uint32_t pad;
	uint64_t value, mask;
	int64_t timeout;
	uint32_t exec_queue_id, pad2;
	uint64_t reserved[2];
};

struct emu_xe_observation_param {
	uint64_t extensions;
	uint64_t observation_type, observation_op, param;
};

struct emu_xe_madvise {
	uint64_t extensions, start, range;
	uint32_t vm_id, type;
	union {
		struct {
			int32_t devmem_fd;
			uint16_t migration_policy, region_instance;
			uint64_t reserved;
		} loc;
		struct {
			uint32_t val, pad;
			uint64_t reserved; /* purge state: retained_ptr */
		} u;
	};
	uint64_t reserved[2];
};

struct emu_xe_mem_range_attr {
	uint64_t extensions, start, end;
	int32_t devmem_fd;
	uint32_t migration_policy;
	uint32_t atomic_val, atomic_reserved;
	uint32_t pat_val, pat_reserved;
	uint64_t reserved[2];
};

struct emu_xe_vm_query_mem_range_attr {
	uint64_t extensions;
	uint32_t vm_id, num_mem_ranges;
	uint64_t start, range, sizeof_mem_range_attr, vector_of_mem_attr;
	uint64_t reserved[2];
};

struct emu_xe_vm_get_property {
	uint64_t extensions;
	uint32_t vm_id, property, size, pad;
	uint64_t data; /* or value */
	uint64_t reserved[3];
};

struct emu_xe_vm_fault {
	uint64_t address;
	uint32_t address_precision;
	uint8_t access_type, fault_type, fault_level, pad;
	uint64_t reserved[4];
};

#define EMU_XE_R(nr, type)  _IOC(_IOC_READ, 'd', 0x40 + (nr), sizeof(type))
#define EMU_XE_W(nr, type)  _IOC(_IOC_WRITE, 'd', 0x40 + (nr), sizeof(type))
#define EMU_XE_RW(nr, type) _IOC(_IOC_READ | _IOC_WRITE, 'd', 0x40 + (nr), sizeof(type))

#define EMU_XE_DEVICE_QUERY		EMU_XE_RW(0x0, struct emu_xe_device_query)
#define EMU_XE_GEM_CREATE		EMU_XE_RW(0x1, struct emu_xe_gem_create)
#define EMU_XE_GEM_MMAP_OFFSET		EMU_XE_RW(0x2, struct emu_xe_gem_mmap_offset)
#define EMU_XE_VM_CREATE		EMU_XE_RW(0x3, struct emu_xe_vm_create)
#define EMU_XE_VM_DESTROY		EMU_XE_W(0x4, struct emu_xe_vm_destroy)
#define EMU_XE_VM_BIND			EMU_XE_W(0x5, struct emu_xe_vm_bind)
#define EMU_XE_EXEC_QUEUE_CREATE	EMU_XE_RW(0x6, struct emu_xe_exec_queue_create)
#define EMU_XE_EXEC_QUEUE_DESTROY	EMU_XE_W(0x7, struct emu_xe_exec_queue_destroy)
#define EMU_XE_EXEC_QUEUE_GET_PROPERTY	EMU_XE_RW(0x8, struct emu_xe_exec_queue_property)
#define EMU_XE_EXEC			EMU_XE_W(0x9, struct emu_xe_exec)
#define EMU_XE_WAIT_USER_FENCE		EMU_XE_RW(0xa, struct emu_xe_wait_user_fence)
#define EMU_XE_OBSERVATION		EMU_XE_W(0xb, struct emu_xe_observation_param)
#define EMU_XE_MADVISE			EMU_XE_W(0xc, struct emu_xe_madvise)
#define EMU_XE_VM_QUERY_MEM_RANGE_ATTRS EMU_XE_RW(0xd, struct emu_xe_vm_query_mem_range_attr)
#define EMU_XE_EXEC_QUEUE_SET_PROPERTY	EMU_XE_W(0xe, struct emu_xe_exec_queue_property)
#define EMU_XE_VM_GET_PROPERTY		EMU_XE_RW(0xf, struct emu_xe_vm_get_property)

enum emu_xe_query_id {
	EMU_XE_QUERY_ENGINES,
	EMU_XE_QUERY_MEM_REGIONS,
	EMU_XE_QUERY_CONFIG,
	EMU_XE_QUERY_GT_LIST,
	EMU_XE_QUERY_HWCONFIG,
	EMU_XE_QUERY_GT_TOPOLOGY,
	EMU_XE_QUERY_ENGINE_CYCLES,
	EMU_XE_QUERY_UC_FW_VERSION,
	EMU_XE_QUERY_OA_UNITS,
	EMU_XE_QUERY_PXP_STATUS,
	EMU_XE_QUERY_EU_STALL,
	EMU_XE_N_QUERIES,
};

#define EMU_XE_CONFIG_HAS_VRAM			       (1u << 0)
#define EMU_XE_CONFIG_HAS_LOW_LATENCY		       (1u << 1)
#define EMU_XE_CONFIG_HAS_CPU_ADDR_MIRROR	       (1u << 2)
#define EMU_XE_CONFIG_HAS_NO_COMPRESSION	       (1u << 3)
#define EMU_XE_CONFIG_HAS_DISABLE_STATE_CACHE_PERF_FIX (1u << 4)
#define EMU_XE_CONFIG_HAS_PURGING		       (1u << 5)

enum emu_xe_engine_class {
	EMU_XE_RENDER,
	EMU_XE_COPY,
	EMU_XE_VIDEO_DECODE,
	EMU_XE_VIDEO_ENHANCE,
	EMU_XE_COMPUTE,
	EMU_XE_VM_BIND_CLASS,
};

#define EMU_XE_GEM_DEFER_BACKING      (1u << 0)
#define EMU_XE_GEM_SCANOUT	      (1u << 1)
#define EMU_XE_GEM_NEEDS_VISIBLE_VRAM (1u << 2)
#define EMU_XE_GEM_NO_COMPRESSION     (1u << 3)
#define EMU_XE_CACHING_WB	      1
#define EMU_XE_CACHING_WC	      2

#define EMU_XE_MMAP_PCI_BARRIER	  (1u << 0)
#define EMU_XE_PCI_BARRIER_OFFSET 0x50000ull

#define EMU_XE_VM_SCRATCH	(1u << 0)
#define EMU_XE_VM_LR		(1u << 1)
#define EMU_XE_VM_FAULT_MODE	(1u << 2)
#define EMU_XE_VM_NO_OVERCOMMIT (1u << 3)

enum emu_xe_bind_opcode {
	EMU_XE_OP_MAP,
	EMU_XE_OP_UNMAP,
	EMU_XE_OP_MAP_USERPTR,
	EMU_XE_OP_UNMAP_ALL,
	EMU_XE_OP_PREFETCH,
};

#define EMU_XE_BIND_READONLY   (1u << 0)
#define EMU_XE_BIND_IMMEDIATE  (1u << 1)
#define EMU_XE_BIND_NULL       (1u << 2)
#define EMU_XE_BIND_DUMPABLE   (1u << 3)
#define EMU_XE_BIND_CHECK_PXP  (1u << 4)
#define EMU_XE_BIND_MIRROR     (1u << 5)
#define EMU_XE_BIND_AUTORESET  (1u << 6)
#define EMU_XE_BIND_DECOMPRESS (1u << 7)
#define EMU_XE_CONSULT	       0xffffffffu

enum emu_xe_sync_type { EMU_XE_SYNCOBJ, EMU_XE_TIMELINE, EMU_XE_USER_FENCE };
#define EMU_XE_SYNC_SIGNAL (1u << 0)
#define EMU_XE_MAX_SYNCS   1024

#define EMU_XE_QUEUE_LOW_LATENCY (1u << 0)
#define EMU_XE_UFENCE_ABSTIME	 (1u << 0)

enum emu_xe_madvise_type {
	EMU_XE_ADV_LOC,
	EMU_XE_ADV_ATOMIC,
	EMU_XE_ADV_PAT,
	EMU_XE_ADV_PURGEABLE,
};

enum emu_xe_atomic {
	EMU_XE_ATOMIC_UNDEFINED,
	EMU_XE_ATOMIC_DEVICE,
	EMU_XE_ATOMIC_GLOBAL,
	EMU_XE_ATOMIC_CPU
};

#endif
