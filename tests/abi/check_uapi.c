// SPDX-License-Identifier: MIT
/*
 * Our declarations of the kernel's interfaces against somebody else's, at compile time, by the script check_uapi:
 * with AGAINST_EMULATOR the emulator's, which were written independently, else the kernel's own headers.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>

#include "../../backends/xe/xe_uapi.h"
#ifdef AGAINST_EMULATOR
#include "../emu/emu_drm_uapi.h"
#include "../emu/emu_xe_uapi.h"
#define THEIRS(kernel, emulator) emulator
#else
#include <drm/drm.h>
#include <drm/xe_drm.h>
#define THEIRS(kernel, emulator) kernel
#endif

#define SAME_VALUE(a, b) _Static_assert((uint64_t)(a) == (uint64_t)(b), #a " is not " #b)
/* A name of ours, of the kernel's headers, of the emulator's. */
#define SAME(ours, kernel, emulator) SAME_VALUE(ours, THEIRS(kernel, emulator))
#define SIZE(ours, kernel, emulator) \
	SAME_VALUE(sizeof(struct ours), sizeof(struct THEIRS(kernel, emulator)))
/* A member of that struct. Here whole structs stay in view: each has one name in each place. */
#define AT(ours, o, kernel, k, emulator, e)  \
	SAME_VALUE(offsetof(struct ours, o), \
		   offsetof(struct THEIRS(kernel, emulator), THEIRS(k, e)))
/* It has the same name everywhere. */
#define HAS(ours, kernel, emulator, member) AT(ours, member, kernel, member, emulator, member)

/* ---- Requests: directions and sizes, too ------------------------------------------------------ */

SAME(SVM_DRM_VERSION, DRM_IOCTL_VERSION, EMU_DRM_VERSION);
SAME(SVM_DRM_GEM_CLOSE, DRM_IOCTL_GEM_CLOSE, EMU_DRM_GEM_CLOSE);
SAME(SVM_DRM_GET_CAP, DRM_IOCTL_GET_CAP, EMU_DRM_GET_CAP);
SAME(SVM_DRM_PRIME_HANDLE_TO_FD, DRM_IOCTL_PRIME_HANDLE_TO_FD, EMU_DRM_PRIME_HANDLE_TO_FD);
SAME(SVM_DRM_PRIME_FD_TO_HANDLE, DRM_IOCTL_PRIME_FD_TO_HANDLE, EMU_DRM_PRIME_FD_TO_HANDLE);
SAME(SVM_DRM_SYNCOBJ_CREATE, DRM_IOCTL_SYNCOBJ_CREATE, EMU_DRM_SYNCOBJ_CREATE);
SAME(SVM_DRM_SYNCOBJ_DESTROY, DRM_IOCTL_SYNCOBJ_DESTROY, EMU_DRM_SYNCOBJ_DESTROY);
SAME(SVM_DRM_SYNCOBJ_TIMELINE_WAIT, DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, EMU_DRM_SYNCOBJ_TIMELINE_WAIT);
SAME(SVM_DRM_SYNCOBJ_QUERY, DRM_IOCTL_SYNCOBJ_QUERY, EMU_DRM_SYNCOBJ_QUERY);
SAME(SVM_DRM_SYNCOBJ_EVENTFD, DRM_IOCTL_SYNCOBJ_EVENTFD, EMU_DRM_SYNCOBJ_EVENTFD);

SAME(SVM_XE_DEVICE_QUERY, DRM_IOCTL_XE_DEVICE_QUERY, EMU_XE_DEVICE_QUERY);
SAME(SVM_XE_GEM_CREATE, DRM_IOCTL_XE_GEM_CREATE, EMU_XE_GEM_CREATE);
SAME(SVM_XE_GEM_MMAP_OFFSET, DRM_IOCTL_XE_GEM_MMAP_OFFSET, EMU_XE_GEM_MMAP_OFFSET);
SAME(SVM_XE_VM_CREATE, DRM_IOCTL_XE_VM_CREATE, EMU_XE_VM_CREATE);
SAME(SVM_XE_VM_DESTROY, DRM_IOCTL_XE_VM_DESTROY, EMU_XE_VM_DESTROY);
SAME(SVM_XE_VM_BIND, DRM_IOCTL_XE_VM_BIND, EMU_XE_VM_BIND);
SAME(SVM_XE_QUEUE_CREATE, DRM_IOCTL_XE_EXEC_QUEUE_CREATE, EMU_XE_EXEC_QUEUE_CREATE);
SAME(SVM_XE_QUEUE_DESTROY, DRM_IOCTL_XE_EXEC_QUEUE_DESTROY, EMU_XE_EXEC_QUEUE_DESTROY);
SAME(SVM_XE_EXEC, DRM_IOCTL_XE_EXEC, EMU_XE_EXEC);
SAME(SVM_XE_WAIT_USER_FENCE, DRM_IOCTL_XE_WAIT_USER_FENCE, EMU_XE_WAIT_USER_FENCE);
SAME(SVM_XE_MADVISE, DRM_IOCTL_XE_MADVISE, EMU_XE_MADVISE);
SAME(SVM_XE_QUERY_MEM_RANGE, DRM_IOCTL_XE_VM_QUERY_MEM_RANGE_ATTRS,
     EMU_XE_VM_QUERY_MEM_RANGE_ATTRS);

/* ---- The core's ------------------------------------------------------------------------------- */

SIZE(svm_drm_version, drm_version, emu_drm_version);
AT(svm_drm_version, name_size, drm_version, name_len, emu_drm_version, name_len);
AT(svm_drm_version, name, drm_version, name, emu_drm_version, name);
SIZE(svm_drm_get_cap, drm_get_cap, emu_drm_get_cap);
HAS(svm_drm_get_cap, drm_get_cap, emu_drm_get_cap, value);
HAS(svm_drm_gem_close, drm_gem_close, emu_drm_gem_close, handle);
HAS(svm_drm_prime_handle, drm_prime_handle, emu_drm_prime_handle, flags);
HAS(svm_drm_prime_handle, drm_prime_handle, emu_drm_prime_handle, fd);
HAS(svm_drm_syncobj_create, drm_syncobj_create, emu_drm_syncobj_create, flags);
HAS(svm_drm_syncobj_destroy, drm_syncobj_destroy, emu_drm_syncobj_destroy, handle);
#define WAIT	    svm_drm_syncobj_timeline_wait
#define KERNEL_WAIT drm_syncobj_timeline_wait
#define EMU_WAIT    emu_drm_syncobj_timeline_wait
SIZE(WAIT, KERNEL_WAIT, EMU_WAIT);
HAS(WAIT, KERNEL_WAIT, EMU_WAIT, points);
AT(WAIT, timeout_ns, KERNEL_WAIT, timeout_nsec, EMU_WAIT, timeout_nsec);
AT(WAIT, n_handles, KERNEL_WAIT, count_handles, EMU_WAIT, count);
HAS(WAIT, KERNEL_WAIT, EMU_WAIT, flags);
AT(WAIT, deadline_ns, KERNEL_WAIT, deadline_nsec, EMU_WAIT, deadline_nsec);
#define ARRAY	     svm_drm_syncobj_timeline_array
#define KERNEL_ARRAY drm_syncobj_timeline_array
#define EMU_ARRAY    emu_drm_syncobj_timeline_array
SIZE(ARRAY, KERNEL_ARRAY, EMU_ARRAY);
HAS(ARRAY, KERNEL_ARRAY, EMU_ARRAY, points);
AT(ARRAY, n_handles, KERNEL_ARRAY, count_handles, EMU_ARRAY, count);
SIZE(svm_drm_syncobj_eventfd, drm_syncobj_eventfd, emu_drm_syncobj_eventfd);
HAS(svm_drm_syncobj_eventfd, drm_syncobj_eventfd, emu_drm_syncobj_eventfd, point);
HAS(svm_drm_syncobj_eventfd, drm_syncobj_eventfd, emu_drm_syncobj_eventfd, fd);
SAME(SVM_DRM_CAP_SYNCOBJ_TIMELINE, DRM_CAP_SYNCOBJ_TIMELINE, EMU_DRM_CAP_SYNCOBJ_TIMELINE);
SAME(SVM_DRM_WAIT_ALL, DRM_SYNCOBJ_WAIT_FLAGS_WAIT_ALL, EMU_SYNCOBJ_WAIT_ALL);
SAME(SVM_DRM_WAIT_FOR_SUBMIT, DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT, EMU_SYNCOBJ_WAIT_FOR_SUBMIT);
#ifndef AGAINST_EMULATOR
SAME_VALUE(SVM_DRM_TYPE, DRM_IOCTL_BASE);
SAME_VALUE(SVM_DRM_COMMAND_BASE, DRM_COMMAND_BASE);
SAME_VALUE(SVM_DRM_PRIME_CLOEXEC, DRM_CLOEXEC);
SAME_VALUE(SVM_DRM_PRIME_RDWR, DRM_RDWR);
#endif

/* ---- xe: queries ------------------------------------------------------------------------------ */

HAS(svm_xe_device_query, drm_xe_device_query, emu_xe_device_query, query);
HAS(svm_xe_device_query, drm_xe_device_query, emu_xe_device_query, size);
HAS(svm_xe_device_query, drm_xe_device_query, emu_xe_device_query, data);
SAME(SVM_XE_QUERY_ENGINES, DRM_XE_DEVICE_QUERY_ENGINES, EMU_XE_QUERY_ENGINES);
SAME(SVM_XE_QUERY_MEM_REGIONS, DRM_XE_DEVICE_QUERY_MEM_REGIONS, EMU_XE_QUERY_MEM_REGIONS);
SAME(SVM_XE_QUERY_CONFIG, DRM_XE_DEVICE_QUERY_CONFIG, EMU_XE_QUERY_CONFIG);
SAME(SVM_XE_QUERY_GT_LIST, DRM_XE_DEVICE_QUERY_GT_LIST, EMU_XE_QUERY_GT_LIST);
SIZE(svm_xe_engine_instance, drm_xe_engine_class_instance, emu_xe_engine_class_instance);
HAS(svm_xe_engine_instance, drm_xe_engine_class_instance, emu_xe_engine_class_instance,
    engine_class);
HAS(svm_xe_engine_instance, drm_xe_engine_class_instance, emu_xe_engine_class_instance,
    engine_instance);
HAS(svm_xe_engine_instance, drm_xe_engine_class_instance, emu_xe_engine_class_instance, gt_id);
SAME(SVM_XE_ENGINE_COPY, DRM_XE_ENGINE_CLASS_COPY, EMU_XE_COPY);
SAME(SVM_XE_ENGINE_VM_BIND, DRM_XE_ENGINE_CLASS_VM_BIND, EMU_XE_VM_BIND_CLASS);
SIZE(svm_xe_engine_info, drm_xe_engine, emu_xe_engine);
AT(svm_xe_query_engines, n_engines, drm_xe_query_engines, num_engines, emu_xe_query_engines,
   num_engines);
HAS(svm_xe_query_engines, drm_xe_query_engines, emu_xe_query_engines, engines);
SIZE(svm_xe_mem_region, drm_xe_mem_region, emu_xe_mem_region);
HAS(svm_xe_mem_region, drm_xe_mem_region, emu_xe_mem_region, mem_class);
HAS(svm_xe_mem_region, drm_xe_mem_region, emu_xe_mem_region, instance);
HAS(svm_xe_mem_region, drm_xe_mem_region, emu_xe_mem_region, min_page_size);
HAS(svm_xe_mem_region, drm_xe_mem_region, emu_xe_mem_region, total_size);
HAS(svm_xe_mem_region, drm_xe_mem_region, emu_xe_mem_region, cpu_visible_size);
AT(svm_xe_query_mem_regions, n_regions, drm_xe_query_mem_regions, num_mem_regions,
   emu_xe_query_mem_regions, num_mem_regions);
AT(svm_xe_query_mem_regions, regions, drm_xe_query_mem_regions, mem_regions,
   emu_xe_query_mem_regions, mem_regions);
HAS(svm_xe_query_config, drm_xe_query_config, emu_xe_query_config, info);
AT(svm_xe_query_config, n_params, drm_xe_query_config, num_params, emu_xe_query_config, num_params);
SAME(SVM_XE_CONFIG_HAS_VRAM, DRM_XE_QUERY_CONFIG_FLAG_HAS_VRAM, EMU_XE_CONFIG_HAS_VRAM);
SAME(SVM_XE_CONFIG_HAS_CPU_ADDR_MIRROR, DRM_XE_QUERY_CONFIG_FLAG_HAS_CPU_ADDR_MIRROR,
     EMU_XE_CONFIG_HAS_CPU_ADDR_MIRROR);
#ifndef AGAINST_EMULATOR
SAME_VALUE(SVM_XE_MEM_SYSTEM, DRM_XE_MEM_REGION_CLASS_SYSMEM);
SAME_VALUE(SVM_XE_MEM_VRAM, DRM_XE_MEM_REGION_CLASS_VRAM);
SAME_VALUE(SVM_XE_CONFIG_DEVICE, DRM_XE_QUERY_CONFIG_REV_AND_DEVICE_ID);
SAME_VALUE(SVM_XE_CONFIG_FLAGS, DRM_XE_QUERY_CONFIG_FLAGS);
SAME_VALUE(SVM_XE_CONFIG_ALIGNMENT, DRM_XE_QUERY_CONFIG_MIN_ALIGNMENT);
SAME_VALUE(SVM_XE_CONFIG_VA_BITS, DRM_XE_QUERY_CONFIG_VA_BITS);
SAME_VALUE(SVM_XE_GT_MAIN, DRM_XE_QUERY_GT_TYPE_MAIN);
#endif
SIZE(svm_xe_gt, drm_xe_gt, emu_xe_gt);
HAS(svm_xe_gt, drm_xe_gt, emu_xe_gt, gt_id);
HAS(svm_xe_gt, drm_xe_gt, emu_xe_gt, near_mem_regions);
HAS(svm_xe_gt, drm_xe_gt, emu_xe_gt, far_mem_regions);
HAS(svm_xe_gt, drm_xe_gt, emu_xe_gt, ip_ver_major);
HAS(svm_xe_gt, drm_xe_gt, emu_xe_gt, ip_ver_minor);
AT(svm_xe_query_gt_list, n_gts, drm_xe_query_gt_list, num_gt, emu_xe_query_gt_list, num_gt);
AT(svm_xe_query_gt_list, gts, drm_xe_query_gt_list, gt_list, emu_xe_query_gt_list, gt_list);

/* ---- xe: memory and address spaces ------------------------------------------------------------ */

HAS(svm_xe_gem_create, drm_xe_gem_create, emu_xe_gem_create, size);
HAS(svm_xe_gem_create, drm_xe_gem_create, emu_xe_gem_create, placement);
HAS(svm_xe_gem_create, drm_xe_gem_create, emu_xe_gem_create, flags);
HAS(svm_xe_gem_create, drm_xe_gem_create, emu_xe_gem_create, vm_id);
HAS(svm_xe_gem_create, drm_xe_gem_create, emu_xe_gem_create, handle);
HAS(svm_xe_gem_create, drm_xe_gem_create, emu_xe_gem_create, cpu_caching);
SAME(SVM_XE_GEM_NEEDS_VISIBLE_VRAM, DRM_XE_GEM_CREATE_FLAG_NEEDS_VISIBLE_VRAM,
     EMU_XE_GEM_NEEDS_VISIBLE_VRAM);
SAME(SVM_XE_CACHING_WB, DRM_XE_GEM_CPU_CACHING_WB, EMU_XE_CACHING_WB);
SAME(SVM_XE_CACHING_WC, DRM_XE_GEM_CPU_CACHING_WC, EMU_XE_CACHING_WC);
HAS(svm_xe_gem_mmap_offset, drm_xe_gem_mmap_offset, emu_xe_gem_mmap_offset, handle);
HAS(svm_xe_gem_mmap_offset, drm_xe_gem_mmap_offset, emu_xe_gem_mmap_offset, offset);
HAS(svm_xe_vm_create, drm_xe_vm_create, emu_xe_vm_create, flags);
HAS(svm_xe_vm_create, drm_xe_vm_create, emu_xe_vm_create, vm_id);
SAME(SVM_XE_VM_LR, DRM_XE_VM_CREATE_FLAG_LR_MODE, EMU_XE_VM_LR);
SAME(SVM_XE_VM_FAULT, DRM_XE_VM_CREATE_FLAG_FAULT_MODE, EMU_XE_VM_FAULT_MODE);
HAS(svm_xe_vm_destroy, drm_xe_vm_destroy, emu_xe_vm_destroy, vm_id);
#define OP	  svm_xe_bind_op
#define KERNEL_OP drm_xe_vm_bind_op
#define EMU_OP	  emu_xe_vm_bind_op
SIZE(OP, KERNEL_OP, EMU_OP);
HAS(OP, KERNEL_OP, EMU_OP, obj);
HAS(OP, KERNEL_OP, EMU_OP, pat_index);
AT(OP, obj_offset, KERNEL_OP, obj_offset, EMU_OP, where);
AT(OP, userptr, KERNEL_OP, userptr, EMU_OP, where);
HAS(OP, KERNEL_OP, EMU_OP, range);
HAS(OP, KERNEL_OP, EMU_OP, addr);
HAS(OP, KERNEL_OP, EMU_OP, op);
HAS(OP, KERNEL_OP, EMU_OP, flags);
HAS(OP, KERNEL_OP, EMU_OP, prefetch_mem_region_instance);
SAME(SVM_XE_BIND_MAP, DRM_XE_VM_BIND_OP_MAP, EMU_XE_OP_MAP);
SAME(SVM_XE_BIND_UNMAP, DRM_XE_VM_BIND_OP_UNMAP, EMU_XE_OP_UNMAP);
SAME(SVM_XE_BIND_MAP_USERPTR, DRM_XE_VM_BIND_OP_MAP_USERPTR, EMU_XE_OP_MAP_USERPTR);
SAME(SVM_XE_BIND_PREFETCH, DRM_XE_VM_BIND_OP_PREFETCH, EMU_XE_OP_PREFETCH);
SAME(SVM_XE_BIND_READONLY, DRM_XE_VM_BIND_FLAG_READONLY, EMU_XE_BIND_READONLY);
SAME(SVM_XE_BIND_IMMEDIATE, DRM_XE_VM_BIND_FLAG_IMMEDIATE, EMU_XE_BIND_IMMEDIATE);
SAME(SVM_XE_BIND_MIRROR, DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR, EMU_XE_BIND_MIRROR);
SAME(SVM_XE_BIND_AUTORESET, DRM_XE_VM_BIND_FLAG_MADVISE_AUTORESET, EMU_XE_BIND_AUTORESET);
SAME(SVM_XE_PREFETCH_PREFERRED, (uint32_t)DRM_XE_CONSULT_MEM_ADVISE_PREF_LOC, EMU_XE_CONSULT);
HAS(svm_xe_vm_bind, drm_xe_vm_bind, emu_xe_vm_bind, vm_id);
HAS(svm_xe_vm_bind, drm_xe_vm_bind, emu_xe_vm_bind, exec_queue_id);
HAS(svm_xe_vm_bind, drm_xe_vm_bind, emu_xe_vm_bind, bind);
AT(svm_xe_vm_bind, n_binds, drm_xe_vm_bind, num_binds, emu_xe_vm_bind, num_binds);
AT(svm_xe_vm_bind, binds, drm_xe_vm_bind, vector_of_binds, emu_xe_vm_bind, vector_of_binds);
AT(svm_xe_vm_bind, n_syncs, drm_xe_vm_bind, num_syncs, emu_xe_vm_bind, num_syncs);
HAS(svm_xe_vm_bind, drm_xe_vm_bind, emu_xe_vm_bind, syncs);
SIZE(svm_xe_sync, drm_xe_sync, emu_xe_sync);
HAS(svm_xe_sync, drm_xe_sync, emu_xe_sync, type);
HAS(svm_xe_sync, drm_xe_sync, emu_xe_sync, flags);
AT(svm_xe_sync, handle, drm_xe_sync, handle, emu_xe_sync, where);
AT(svm_xe_sync, addr, drm_xe_sync, addr, emu_xe_sync, where);
HAS(svm_xe_sync, drm_xe_sync, emu_xe_sync, timeline_value);
SAME(SVM_XE_SYNC_OBJECT, DRM_XE_SYNC_TYPE_SYNCOBJ, EMU_XE_SYNCOBJ);
SAME(SVM_XE_SYNC_TIMELINE, DRM_XE_SYNC_TYPE_TIMELINE_SYNCOBJ, EMU_XE_TIMELINE);
SAME(SVM_XE_SYNC_USER_FENCE, DRM_XE_SYNC_TYPE_USER_FENCE, EMU_XE_USER_FENCE);
SAME(SVM_XE_SYNC_SIGNAL, DRM_XE_SYNC_FLAG_SIGNAL, EMU_XE_SYNC_SIGNAL);
#define FENCE	     svm_xe_wait_user_fence
#define KERNEL_FENCE drm_xe_wait_user_fence
#define EMU_FENCE    emu_xe_wait_user_fence
HAS(FENCE, KERNEL_FENCE, EMU_FENCE, addr);
HAS(FENCE, KERNEL_FENCE, EMU_FENCE, op);
HAS(FENCE, KERNEL_FENCE, EMU_FENCE, flags);
HAS(FENCE, KERNEL_FENCE, EMU_FENCE, value);
HAS(FENCE, KERNEL_FENCE, EMU_FENCE, mask);
HAS(FENCE, KERNEL_FENCE, EMU_FENCE, timeout);
HAS(FENCE, KERNEL_FENCE, EMU_FENCE, exec_queue_id);
#ifndef AGAINST_EMULATOR
SAME_VALUE(SVM_XE_WAIT_GTE, DRM_XE_UFENCE_WAIT_OP_GTE);
#endif

/* ---- xe: attributes of mirrored memory -------------------------------------------------------- */

HAS(svm_xe_madvise, drm_xe_madvise, emu_xe_madvise, start);
HAS(svm_xe_madvise, drm_xe_madvise, emu_xe_madvise, range);
HAS(svm_xe_madvise, drm_xe_madvise, emu_xe_madvise, vm_id);
HAS(svm_xe_madvise, drm_xe_madvise, emu_xe_madvise, type);
AT(svm_xe_madvise, location.devmem_fd, drm_xe_madvise, preferred_mem_loc.devmem_fd, emu_xe_madvise,
   loc.devmem_fd);
AT(svm_xe_madvise, location.migration_policy, drm_xe_madvise, preferred_mem_loc.migration_policy,
   emu_xe_madvise, loc.migration_policy);
AT(svm_xe_madvise, location.region_instance, drm_xe_madvise, preferred_mem_loc.region_instance,
   emu_xe_madvise, loc.region_instance);
AT(svm_xe_madvise, atomic.value, drm_xe_madvise, atomic.val, emu_xe_madvise, u.val);
SAME(SVM_XE_ADVISE_LOCATION, DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC, EMU_XE_ADV_LOC);
SAME(SVM_XE_ADVISE_ATOMIC, DRM_XE_MEM_RANGE_ATTR_ATOMIC, EMU_XE_ADV_ATOMIC);
SAME(SVM_XE_ATOMIC_UNDEFINED, DRM_XE_ATOMIC_UNDEFINED, EMU_XE_ATOMIC_UNDEFINED);
SAME(SVM_XE_ATOMIC_DEVICE, DRM_XE_ATOMIC_DEVICE, EMU_XE_ATOMIC_DEVICE);
SAME(SVM_XE_ATOMIC_GLOBAL, DRM_XE_ATOMIC_GLOBAL, EMU_XE_ATOMIC_GLOBAL);
SAME(SVM_XE_ATOMIC_CPU, DRM_XE_ATOMIC_CPU, EMU_XE_ATOMIC_CPU);
#ifndef AGAINST_EMULATOR
SAME_VALUE(SVM_XE_LOCATION_DEFAULT, DRM_XE_PREFERRED_LOC_DEFAULT_DEVICE);
SAME_VALUE(SVM_XE_LOCATION_SYSTEM, DRM_XE_PREFERRED_LOC_DEFAULT_SYSTEM);
#endif
#define ATTR	    svm_xe_mem_range_attr
#define KERNEL_ATTR drm_xe_mem_range_attr
#define EMU_ATTR    emu_xe_mem_range_attr
SIZE(ATTR, KERNEL_ATTR, EMU_ATTR);
HAS(ATTR, KERNEL_ATTR, EMU_ATTR, start);
HAS(ATTR, KERNEL_ATTR, EMU_ATTR, end);
AT(ATTR, devmem_fd, KERNEL_ATTR, preferred_mem_loc.devmem_fd, EMU_ATTR, devmem_fd);
AT(ATTR, migration_policy, KERNEL_ATTR, preferred_mem_loc.migration_policy, EMU_ATTR,
   migration_policy);
AT(ATTR, atomic_value, KERNEL_ATTR, atomic.val, EMU_ATTR, atomic_val);
AT(ATTR, pat_index, KERNEL_ATTR, pat_index.val, EMU_ATTR, pat_val);
#define RANGE	     svm_xe_query_mem_range
#define KERNEL_RANGE drm_xe_vm_query_mem_range_attr
#define EMU_RANGE    emu_xe_vm_query_mem_range_attr
HAS(RANGE, KERNEL_RANGE, EMU_RANGE, vm_id);
AT(RANGE, n_ranges, KERNEL_RANGE, num_mem_ranges, EMU_RANGE, num_mem_ranges);
HAS(RANGE, KERNEL_RANGE, EMU_RANGE, start);
HAS(RANGE, KERNEL_RANGE, EMU_RANGE, range);
AT(RANGE, attr_size, KERNEL_RANGE, sizeof_mem_range_attr, EMU_RANGE, sizeof_mem_range_attr);
AT(RANGE, attrs, KERNEL_RANGE, vector_of_mem_attr, EMU_RANGE, vector_of_mem_attr);

/* ---- xe: queues ------------------------------------------------------------------------------- */

HAS(svm_xe_queue_create, drm_xe_exec_queue_create, emu_xe_exec_queue_create, width);
AT(svm_xe_queue_create, n_placements, drm_xe_exec_queue_create, num_placements,
   emu_xe_exec_queue_create, num_placements);
HAS(svm_xe_queue_create, drm_xe_exec_queue_create, emu_xe_exec_queue_create, vm_id);
HAS(svm_xe_queue_create, drm_xe_exec_queue_create, emu_xe_exec_queue_create, exec_queue_id);
HAS(svm_xe_queue_create, drm_xe_exec_queue_create, emu_xe_exec_queue_create, instances);
HAS(svm_xe_queue_destroy, drm_xe_exec_queue_destroy, emu_xe_exec_queue_destroy, exec_queue_id);
HAS(svm_xe_exec, drm_xe_exec, emu_xe_exec, exec_queue_id);
AT(svm_xe_exec, n_syncs, drm_xe_exec, num_syncs, emu_xe_exec, num_syncs);
HAS(svm_xe_exec, drm_xe_exec, emu_xe_exec, syncs);
HAS(svm_xe_exec, drm_xe_exec, emu_xe_exec, address);
AT(svm_xe_exec, n_batches, drm_xe_exec, num_batch_buffer, emu_xe_exec, num_batch_buffer);

/* That a difference is noticed. */
#ifdef SEEDED_MISTAKE
SAME(SVM_XE_EXEC, DRM_IOCTL_XE_VM_BIND, EMU_XE_VM_BIND);
#endif
