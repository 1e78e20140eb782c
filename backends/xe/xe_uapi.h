/* SPDX-License-Identifier: MIT */
/*
 * The xe driver's uAPI, as much as this backend uses. Declared here from Linux 7.3,
 * include/uapi/drm/xe_drm.h; all of it exists since 6.8, the driver's first kernel, except as said.
 */
#ifndef SVM_XE_UAPI_H
#define SVM_XE_UAPI_H

#include "../common/drm_uapi.h"

/* ---- DEVICE_QUERY ----------------------------------------------------------------------------- */

struct svm_xe_device_query {
	uint64_t extensions;
	uint32_t query;
	uint32_t size; /* 0: says the size; then exactly that */
	uint64_t data;
	uint64_t reserved[2];
};
static_assert(sizeof(struct svm_xe_device_query) == 40, "layout");

#define SVM_XE_QUERY_ENGINES	 0u
#define SVM_XE_QUERY_MEM_REGIONS 1u
#define SVM_XE_QUERY_CONFIG	 2u
#define SVM_XE_QUERY_GT_LIST	 3u

struct svm_xe_engine_instance {
	uint16_t engine_class;
	uint16_t engine_instance;
	uint16_t gt_id;
	uint16_t pad;
};
static_assert(sizeof(struct svm_xe_engine_instance) == 8, "layout");

#define SVM_XE_ENGINE_COPY    1u
#define SVM_XE_ENGINE_VM_BIND 5u

struct svm_xe_engine_info {
	struct svm_xe_engine_instance instance;
	uint64_t reserved[3];
};
static_assert(sizeof(struct svm_xe_engine_info) == 32, "layout");

struct svm_xe_query_engines {
	uint32_t n_engines;
	uint32_t pad;
	struct svm_xe_engine_info engines[];
};

struct svm_xe_mem_region {
	uint16_t mem_class;
	uint16_t instance; /* names it: bit number in placements */
	uint32_t min_page_size;
	uint64_t total_size;
	uint64_t used;
	uint64_t cpu_visible_size;
	uint64_t cpu_visible_used;
	uint64_t reserved[6];
};
static_assert(sizeof(struct svm_xe_mem_region) == 88, "layout");

#define SVM_XE_MEM_SYSTEM 0u
#define SVM_XE_MEM_VRAM	  1u

struct svm_xe_query_mem_regions {
	uint32_t n_regions;
	uint32_t pad;
	struct svm_xe_mem_region regions[];
};

struct svm_xe_query_config {
	uint32_t n_params;
	uint32_t pad;
	uint64_t info[];
};

/* Indices of info[]. */
#define SVM_XE_CONFIG_DEVICE	0u /* device id | revision << 16 */
#define SVM_XE_CONFIG_FLAGS	1u
#define SVM_XE_CONFIG_ALIGNMENT 2u
#define SVM_XE_CONFIG_VA_BITS	3u

#define SVM_XE_CONFIG_HAS_VRAM		  (UINT64_C(1) << 0)
#define SVM_XE_CONFIG_HAS_CPU_ADDR_MIRROR (UINT64_C(1) << 2) /* 6.15 */

struct svm_xe_gt {
	uint16_t type;
	uint16_t tile_id;
	uint16_t gt_id;
	uint16_t pad[3];
	uint32_t reference_clock;
	uint64_t near_mem_regions; /* bits by instance */
	uint64_t far_mem_regions;
	uint16_t ip_ver_major; /* 0 before Meteor Lake */
	uint16_t ip_ver_minor;
	uint16_t ip_ver_rev;
	uint16_t pad2;
	uint64_t reserved[7];
};
static_assert(sizeof(struct svm_xe_gt) == 96, "layout");
static_assert(offsetof(struct svm_xe_gt, near_mem_regions) == 16, "layout");

#define SVM_XE_GT_MAIN 0u

struct svm_xe_query_gt_list {
	uint32_t n_gts;
	uint32_t pad;
	struct svm_xe_gt gts[];
};

/* ---- Memory ----------------------------------------------------------------------------------- */

struct svm_xe_gem_create {
	uint64_t extensions;
	uint64_t size;
	uint32_t placement;
	uint32_t flags;
	uint32_t vm_id;
	uint32_t handle;
	uint16_t cpu_caching;
	uint16_t pad[3];
	uint64_t reserved[2];
};
static_assert(sizeof(struct svm_xe_gem_create) == 56, "layout");

#define SVM_XE_GEM_NEEDS_VISIBLE_VRAM (1u << 2)

#define SVM_XE_CACHING_WB 1u
#define SVM_XE_CACHING_WC 2u

struct svm_xe_gem_mmap_offset {
	uint64_t extensions;
	uint32_t handle;
	uint32_t flags;
	uint64_t offset;
	uint64_t reserved[2];
};
static_assert(sizeof(struct svm_xe_gem_mmap_offset) == 40, "layout");

/* ---- Address spaces --------------------------------------------------------------------------- */

struct svm_xe_vm_create {
	uint64_t extensions;
	uint32_t flags;
	uint32_t vm_id;
	uint64_t reserved[2];
};
static_assert(sizeof(struct svm_xe_vm_create) == 32, "layout");

#define SVM_XE_VM_LR	(1u << 1)
#define SVM_XE_VM_FAULT (1u << 2)

struct svm_xe_vm_destroy {
	uint32_t vm_id;
	uint32_t pad;
	uint64_t reserved[2];
};
static_assert(sizeof(struct svm_xe_vm_destroy) == 24, "layout");

struct svm_xe_bind_op {
	uint64_t extensions;
	uint32_t obj;
	uint16_t pat_index;
	uint16_t pad;
	union {
		uint64_t obj_offset;
		uint64_t userptr;
	};
	uint64_t range;
	uint64_t addr;
	uint32_t op;
	uint32_t flags;
	uint32_t prefetch_mem_region_instance;
	uint32_t pad2;
	uint64_t reserved[3];
};
static_assert(sizeof(struct svm_xe_bind_op) == 80, "layout");

#define SVM_XE_BIND_MAP		0u
#define SVM_XE_BIND_UNMAP	1u
#define SVM_XE_BIND_MAP_USERPTR 2u
#define SVM_XE_BIND_PREFETCH	4u

#define SVM_XE_BIND_READONLY  (1u << 0)
#define SVM_XE_BIND_IMMEDIATE (1u << 1)
#define SVM_XE_BIND_MIRROR    (1u << 5) /* 6.15 */
#define SVM_XE_BIND_AUTORESET (1u << 6) /* 6.18 */

#define SVM_XE_PREFETCH_PREFERRED UINT32_MAX /* 6.18 */

struct svm_xe_vm_bind {
	uint64_t extensions;
	uint32_t vm_id;
	uint32_t exec_queue_id;
	uint32_t pad;
	uint32_t n_binds;
	union {
		struct svm_xe_bind_op bind; /* n_binds == 1 */
		uint64_t binds;		    /* pointer, n_binds > 1 */
	};
	uint32_t pad2;
	uint32_t n_syncs;
	uint64_t syncs;
	uint64_t reserved[2];
};
static_assert(sizeof(struct svm_xe_vm_bind) == 136, "layout");

struct svm_xe_sync {
	uint64_t extensions;
	uint32_t type;
	uint32_t flags;
	union {
		/* Both halves: an initializer of the handle alone leaves the other one undefined, and the kernel looks. */
		struct {
			uint32_t handle;
			uint32_t handle_pad;
		};
		uint64_t addr;
	};
	uint64_t timeline_value;
	uint64_t reserved[2];
};
static_assert(sizeof(struct svm_xe_sync) == 48, "layout");

#define SVM_XE_SYNC_OBJECT     0u
#define SVM_XE_SYNC_TIMELINE   1u
#define SVM_XE_SYNC_USER_FENCE 2u
#define SVM_XE_SYNC_SIGNAL     (1u << 0)

struct svm_xe_wait_user_fence {
	uint64_t extensions;
	uint64_t addr;
	uint16_t op;
	uint16_t flags;
	uint32_t pad;
	uint64_t value;
	uint64_t mask;
	int64_t timeout; /* ns from now; what is left of it comes back */
	uint32_t exec_queue_id;
	uint32_t pad2;
	uint64_t reserved[2];
};
static_assert(sizeof(struct svm_xe_wait_user_fence) == 72, "layout");
static_assert(offsetof(struct svm_xe_wait_user_fence, timeout) == 40, "layout");

#define SVM_XE_WAIT_GTE 3u

/* ---- Attributes of mirrored memory: 6.18 ------------------------------------------------------ */

struct svm_xe_madvise {
	uint64_t extensions;
	uint64_t start;
	uint64_t range;
	uint32_t vm_id;
	uint32_t type;
	union {
		struct {
			int32_t devmem_fd;
			uint16_t migration_policy;
			uint16_t region_instance;
			uint64_t reserved;
		} location;
		struct {
			uint32_t value;
			uint32_t pad;
			uint64_t reserved;
		} atomic;
	};
	uint64_t reserved[2];
};
static_assert(sizeof(struct svm_xe_madvise) == 64, "layout");
static_assert(offsetof(struct svm_xe_madvise, location) == 32, "layout");

#define SVM_XE_ADVISE_LOCATION 0u
#define SVM_XE_ADVISE_ATOMIC   1u

#define SVM_XE_LOCATION_DEFAULT 0 /* memory of the device that faults */
#define SVM_XE_LOCATION_SYSTEM	(-1)

#define SVM_XE_ATOMIC_UNDEFINED 0u
#define SVM_XE_ATOMIC_DEVICE	1u
#define SVM_XE_ATOMIC_GLOBAL	2u
#define SVM_XE_ATOMIC_CPU	3u

struct svm_xe_mem_range_attr {
	uint64_t extensions;
	uint64_t start;
	uint64_t end;
	int32_t devmem_fd;
	uint32_t migration_policy;
	uint32_t atomic_value;
	uint32_t atomic_reserved;
	uint32_t pat_index;
	uint32_t pat_reserved;
	uint64_t reserved[2];
};
static_assert(sizeof(struct svm_xe_mem_range_attr) == 64, "layout");
static_assert(offsetof(struct svm_xe_mem_range_attr, atomic_value) == 32, "layout");

struct svm_xe_query_mem_range {
	uint64_t extensions;
	uint32_t vm_id;
	uint32_t n_ranges;
	uint64_t start;
	uint64_t range;
	uint64_t attr_size;
	uint64_t attrs;
	uint64_t reserved[2];
};
static_assert(sizeof(struct svm_xe_query_mem_range) == 64, "layout");

/* ---- Queues ----------------------------------------------------------------------------------- */

struct svm_xe_queue_create {
	uint64_t extensions;
	uint16_t width;
	uint16_t n_placements;
	uint32_t vm_id;
	uint32_t flags;
	uint32_t exec_queue_id;
	uint64_t instances;
	uint64_t reserved[2];
};
static_assert(sizeof(struct svm_xe_queue_create) == 48, "layout");

struct svm_xe_queue_destroy {
	uint32_t exec_queue_id;
	uint32_t pad;
	uint64_t reserved[2];
};
static_assert(sizeof(struct svm_xe_queue_destroy) == 24, "layout");

struct svm_xe_exec {
	uint64_t extensions;
	uint32_t exec_queue_id;
	uint32_t n_syncs;
	uint64_t syncs;
	uint64_t address;
	uint16_t n_batches;
	uint16_t pad[3];
	uint64_t reserved[2];
};
static_assert(sizeof(struct svm_xe_exec) == 56, "layout");

/* ---- Requests --------------------------------------------------------------------------------- */

#define SVM_XE_DEVICE_QUERY    SVM_DRM_IOWR(0x40, struct svm_xe_device_query)
#define SVM_XE_GEM_CREATE      SVM_DRM_IOWR(0x41, struct svm_xe_gem_create)
#define SVM_XE_GEM_MMAP_OFFSET SVM_DRM_IOWR(0x42, struct svm_xe_gem_mmap_offset)
#define SVM_XE_VM_CREATE       SVM_DRM_IOWR(0x43, struct svm_xe_vm_create)
#define SVM_XE_VM_DESTROY      SVM_DRM_IOW(0x44, struct svm_xe_vm_destroy)
#define SVM_XE_VM_BIND	       SVM_DRM_IOW(0x45, struct svm_xe_vm_bind)
#define SVM_XE_QUEUE_CREATE    SVM_DRM_IOWR(0x46, struct svm_xe_queue_create)
#define SVM_XE_QUEUE_DESTROY   SVM_DRM_IOW(0x47, struct svm_xe_queue_destroy)
#define SVM_XE_EXEC	       SVM_DRM_IOW(0x49, struct svm_xe_exec)
#define SVM_XE_WAIT_USER_FENCE SVM_DRM_IOWR(0x4a, struct svm_xe_wait_user_fence)
#define SVM_XE_MADVISE	       SVM_DRM_IOW(0x4c, struct svm_xe_madvise)
#define SVM_XE_QUERY_MEM_RANGE SVM_DRM_IOWR(0x4d, struct svm_xe_query_mem_range)

static_assert(SVM_XE_DEVICE_QUERY == 0xc0286440u, "request");
static_assert(SVM_XE_GEM_CREATE == 0xc0386441u, "request");
static_assert(SVM_XE_GEM_MMAP_OFFSET == 0xc0286442u, "request");
static_assert(SVM_XE_VM_CREATE == 0xc0206443u, "request");
static_assert(SVM_XE_VM_DESTROY == 0x40186444u, "request");
static_assert(SVM_XE_VM_BIND == 0x40886445u, "request");
static_assert(SVM_XE_QUEUE_CREATE == 0xc0306446u, "request");
static_assert(SVM_XE_QUEUE_DESTROY == 0x40186447u, "request");
static_assert(SVM_XE_EXEC == 0x40386449u, "request");
static_assert(SVM_XE_WAIT_USER_FENCE == 0xc048644au, "request");
static_assert(SVM_XE_MADVISE == 0x4040644cu, "request");
static_assert(SVM_XE_QUERY_MEM_RANGE == 0xc040644du, "request");

#endif
