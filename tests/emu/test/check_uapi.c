// SPDX-License-Identifier: MIT
/*
 * The emulator's layouts and numbers against the kernel's headers, at compile time, by
 * tests/abi/check_uapi with the headers of a newer suite. What an older header lacks is said.
 */
#include <stddef.h>
#include <stdint.h>

#include <drm/drm.h>
#include <drm/xe_drm.h>
#include <linux/dma-buf.h>
#include <linux/sync_file.h>

#include "../emu_drm_uapi.h"
#include "../emu_xe_uapi.h"

#define SAME(a, b)	       _Static_assert((uint64_t)(a) == (uint64_t)(b), #a " is not " #b)
#define SIZE(ours, theirs)     SAME(sizeof(struct ours), sizeof(struct theirs))
#define AT(ours, f, theirs, g) SAME(offsetof(struct ours, f), offsetof(struct theirs, g))

/* core */
SAME(EMU_DRM_VERSION, DRM_IOCTL_VERSION);
SAME(EMU_DRM_GET_UNIQUE, DRM_IOCTL_GET_UNIQUE);
SAME(EMU_DRM_SET_VERSION, DRM_IOCTL_SET_VERSION);
SAME(EMU_DRM_GEM_CLOSE, DRM_IOCTL_GEM_CLOSE);
SAME(EMU_DRM_GET_CAP, DRM_IOCTL_GET_CAP);
SAME(EMU_DRM_SET_CLIENT_CAP, DRM_IOCTL_SET_CLIENT_CAP);
SAME(EMU_DRM_PRIME_HANDLE_TO_FD, DRM_IOCTL_PRIME_HANDLE_TO_FD);
SAME(EMU_DRM_PRIME_FD_TO_HANDLE, DRM_IOCTL_PRIME_FD_TO_HANDLE);
SAME(EMU_DRM_SYNCOBJ_CREATE, DRM_IOCTL_SYNCOBJ_CREATE);
SAME(EMU_DRM_SYNCOBJ_DESTROY, DRM_IOCTL_SYNCOBJ_DESTROY);
SAME(EMU_DRM_SYNCOBJ_HANDLE_TO_FD, DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD);
SAME(EMU_DRM_SYNCOBJ_FD_TO_HANDLE, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE);
SAME(EMU_DRM_SYNCOBJ_WAIT, DRM_IOCTL_SYNCOBJ_WAIT);
SAME(EMU_DRM_SYNCOBJ_RESET, DRM_IOCTL_SYNCOBJ_RESET);
SAME(EMU_DRM_SYNCOBJ_SIGNAL, DRM_IOCTL_SYNCOBJ_SIGNAL);
SAME(EMU_DRM_SYNCOBJ_TIMELINE_WAIT, DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT);
SAME(EMU_DRM_SYNCOBJ_QUERY, DRM_IOCTL_SYNCOBJ_QUERY);
SAME(EMU_DRM_SYNCOBJ_TRANSFER, DRM_IOCTL_SYNCOBJ_TRANSFER);
SAME(EMU_DRM_SYNCOBJ_TIMELINE_SIGNAL, DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL);
SAME(EMU_DRM_SYNCOBJ_EVENTFD, DRM_IOCTL_SYNCOBJ_EVENTFD);
SAME(EMU_DRM_SET_CLIENT_NAME, DRM_IOCTL_SET_CLIENT_NAME);
SAME(EMU_SYNC_IOC_MERGE, SYNC_IOC_MERGE);
SAME(EMU_SYNC_IOC_FILE_INFO, SYNC_IOC_FILE_INFO);
SAME(EMU_DMA_BUF_SYNC, DMA_BUF_IOCTL_SYNC);
SAME(EMU_DMA_BUF_EXPORT_SYNC_FILE, DMA_BUF_IOCTL_EXPORT_SYNC_FILE);
AT(emu_drm_version, name_len, drm_version, name_len);
AT(emu_drm_version, desc, drm_version, desc);
AT(emu_drm_syncobj_handle, point, drm_syncobj_handle, point);
AT(emu_drm_syncobj_wait, timeout_nsec, drm_syncobj_wait, timeout_nsec);
AT(emu_drm_syncobj_wait, first_signaled, drm_syncobj_wait, first_signaled);
AT(emu_drm_syncobj_timeline_wait, points, drm_syncobj_timeline_wait, points);
AT(emu_drm_syncobj_timeline_array, flags, drm_syncobj_timeline_array, flags);
AT(emu_drm_syncobj_transfer, dst_point, drm_syncobj_transfer, dst_point);
AT(emu_drm_syncobj_eventfd, fd, drm_syncobj_eventfd, fd);
AT(emu_sync_merge, fence, sync_merge_data, fence);
AT(emu_sync_file_info, fence_info, sync_file_info, sync_fence_info);
SIZE(emu_sync_fence_info, sync_fence_info);
SAME(EMU_DRM_CAP_PRIME, DRM_CAP_PRIME);
SAME(EMU_DRM_CAP_SYNCOBJ, DRM_CAP_SYNCOBJ);
SAME(EMU_DRM_CAP_SYNCOBJ_TIMELINE, DRM_CAP_SYNCOBJ_TIMELINE);
SAME(EMU_SYNCOBJ_HANDLE_FLAG_TIMELINE, DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_TIMELINE);
SAME(EMU_SYNCOBJ_WAIT_AVAILABLE, DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE);

/* xe: request codes, so directions and sizes too */
SAME(EMU_XE_DEVICE_QUERY, DRM_IOCTL_XE_DEVICE_QUERY);
SAME(EMU_XE_GEM_CREATE, DRM_IOCTL_XE_GEM_CREATE);
SAME(EMU_XE_GEM_MMAP_OFFSET, DRM_IOCTL_XE_GEM_MMAP_OFFSET);
SAME(EMU_XE_VM_CREATE, DRM_IOCTL_XE_VM_CREATE);
SAME(EMU_XE_VM_DESTROY, DRM_IOCTL_XE_VM_DESTROY);
SAME(EMU_XE_VM_BIND, DRM_IOCTL_XE_VM_BIND);
SAME(EMU_XE_EXEC_QUEUE_CREATE, DRM_IOCTL_XE_EXEC_QUEUE_CREATE);
SAME(EMU_XE_EXEC_QUEUE_DESTROY, DRM_IOCTL_XE_EXEC_QUEUE_DESTROY);
SAME(EMU_XE_EXEC_QUEUE_GET_PROPERTY, DRM_IOCTL_XE_EXEC_QUEUE_GET_PROPERTY);
SAME(EMU_XE_EXEC, DRM_IOCTL_XE_EXEC);
SAME(EMU_XE_WAIT_USER_FENCE, DRM_IOCTL_XE_WAIT_USER_FENCE);
SAME(EMU_XE_OBSERVATION, DRM_IOCTL_XE_OBSERVATION);
#ifdef DRM_IOCTL_XE_MADVISE
SAME(EMU_XE_MADVISE, DRM_IOCTL_XE_MADVISE);
SAME(EMU_XE_VM_QUERY_MEM_RANGE_ATTRS, DRM_IOCTL_XE_VM_QUERY_MEM_RANGE_ATTRS);
AT(emu_xe_madvise, type, drm_xe_madvise, type);
AT(emu_xe_madvise, loc.devmem_fd, drm_xe_madvise, preferred_mem_loc.devmem_fd);
AT(emu_xe_madvise, loc.migration_policy, drm_xe_madvise, preferred_mem_loc.migration_policy);
AT(emu_xe_madvise, u.val, drm_xe_madvise, atomic.val);
AT(emu_xe_madvise, reserved, drm_xe_madvise, reserved);
SIZE(emu_xe_mem_range_attr, drm_xe_mem_range_attr);
AT(emu_xe_mem_range_attr, devmem_fd, drm_xe_mem_range_attr, preferred_mem_loc.devmem_fd);
AT(emu_xe_mem_range_attr, atomic_val, drm_xe_mem_range_attr, atomic.val);
AT(emu_xe_mem_range_attr, pat_val, drm_xe_mem_range_attr, pat_index.val);
AT(emu_xe_vm_query_mem_range_attr, vector_of_mem_attr, drm_xe_vm_query_mem_range_attr,
   vector_of_mem_attr);
SAME(EMU_XE_ADV_LOC, DRM_XE_MEM_RANGE_ATTR_PREFERRED_LOC);
SAME(EMU_XE_ADV_ATOMIC, DRM_XE_MEM_RANGE_ATTR_ATOMIC);
SAME(EMU_XE_ADV_PAT, DRM_XE_MEM_RANGE_ATTR_PAT);
SAME(EMU_XE_ATOMIC_CPU, DRM_XE_ATOMIC_CPU);
#define HAVE_MADVISE 1
#else
#define HAVE_MADVISE 0
#endif
#ifdef DRM_IOCTL_XE_EXEC_QUEUE_SET_PROPERTY
SAME(EMU_XE_EXEC_QUEUE_SET_PROPERTY, DRM_IOCTL_XE_EXEC_QUEUE_SET_PROPERTY);
#define HAVE_SET_PROPERTY 1
#else
#define HAVE_SET_PROPERTY 0
#endif
#ifdef DRM_IOCTL_XE_VM_GET_PROPERTY
SAME(EMU_XE_VM_GET_PROPERTY, DRM_IOCTL_XE_VM_GET_PROPERTY);
SIZE(emu_xe_vm_fault, xe_vm_fault);
AT(emu_xe_vm_fault, access_type, xe_vm_fault, access_type);
#define HAVE_GET_PROPERTY 1
#else
#define HAVE_GET_PROPERTY 0
#endif

SIZE(emu_xe_engine, drm_xe_engine);
SIZE(emu_xe_mem_region, drm_xe_mem_region);
AT(emu_xe_mem_region, cpu_visible_size, drm_xe_mem_region, cpu_visible_size);
SIZE(emu_xe_gt, drm_xe_gt);
AT(emu_xe_gt, reference_clock, drm_xe_gt, reference_clock);
AT(emu_xe_gt, near_mem_regions, drm_xe_gt, near_mem_regions);
AT(emu_xe_gt, ip_ver_major, drm_xe_gt, ip_ver_major);
SIZE(emu_xe_query_uc_fw_version, drm_xe_query_uc_fw_version);
SIZE(emu_xe_query_engine_cycles, drm_xe_query_engine_cycles);
AT(emu_xe_query_engine_cycles, cpu_delta, drm_xe_query_engine_cycles, cpu_delta);
SIZE(emu_xe_query_topology_mask, drm_xe_query_topology_mask);
AT(emu_xe_gem_create, cpu_caching, drm_xe_gem_create, cpu_caching);
AT(emu_xe_gem_create, handle, drm_xe_gem_create, handle);
AT(emu_xe_vm_bind, num_syncs, drm_xe_vm_bind, num_syncs);
AT(emu_xe_vm_bind, bind, drm_xe_vm_bind, bind);
SIZE(emu_xe_vm_bind_op, drm_xe_vm_bind_op);
AT(emu_xe_vm_bind_op, where, drm_xe_vm_bind_op, userptr);
AT(emu_xe_vm_bind_op, pat_index, drm_xe_vm_bind_op, pat_index);
AT(emu_xe_vm_bind_op, prefetch_mem_region_instance, drm_xe_vm_bind_op,
   prefetch_mem_region_instance);
SIZE(emu_xe_sync, drm_xe_sync);
AT(emu_xe_sync, where, drm_xe_sync, addr);
AT(emu_xe_sync, timeline_value, drm_xe_sync, timeline_value);
AT(emu_xe_exec, address, drm_xe_exec, address);
AT(emu_xe_exec, num_batch_buffer, drm_xe_exec, num_batch_buffer);
AT(emu_xe_wait_user_fence, timeout, drm_xe_wait_user_fence, timeout);
AT(emu_xe_wait_user_fence, exec_queue_id, drm_xe_wait_user_fence, exec_queue_id);
AT(emu_xe_exec_queue_create, instances, drm_xe_exec_queue_create, instances);
SIZE(emu_xe_ext_set_property, drm_xe_ext_set_property);

SAME(EMU_XE_QUERY_UC_FW_VERSION, DRM_XE_DEVICE_QUERY_UC_FW_VERSION);
SAME(EMU_XE_QUERY_EU_STALL, DRM_XE_DEVICE_QUERY_EU_STALL);
SAME(EMU_XE_CONFIG_HAS_VRAM, DRM_XE_QUERY_CONFIG_FLAG_HAS_VRAM);
SAME(EMU_XE_CONFIG_HAS_CPU_ADDR_MIRROR, DRM_XE_QUERY_CONFIG_FLAG_HAS_CPU_ADDR_MIRROR);
SAME(EMU_XE_COPY, DRM_XE_ENGINE_CLASS_COPY);
SAME(EMU_XE_VM_BIND_CLASS, DRM_XE_ENGINE_CLASS_VM_BIND);
SAME(EMU_XE_GEM_DEFER_BACKING, DRM_XE_GEM_CREATE_FLAG_DEFER_BACKING);
SAME(EMU_XE_GEM_NEEDS_VISIBLE_VRAM, DRM_XE_GEM_CREATE_FLAG_NEEDS_VISIBLE_VRAM);
SAME(EMU_XE_CACHING_WB, DRM_XE_GEM_CPU_CACHING_WB);
SAME(EMU_XE_MMAP_PCI_BARRIER, DRM_XE_MMAP_OFFSET_FLAG_PCI_BARRIER);
SAME(EMU_XE_VM_SCRATCH, DRM_XE_VM_CREATE_FLAG_SCRATCH_PAGE);
SAME(EMU_XE_VM_LR, DRM_XE_VM_CREATE_FLAG_LR_MODE);
SAME(EMU_XE_VM_FAULT_MODE, DRM_XE_VM_CREATE_FLAG_FAULT_MODE);
SAME(EMU_XE_OP_PREFETCH, DRM_XE_VM_BIND_OP_PREFETCH);
SAME(EMU_XE_OP_MAP_USERPTR, DRM_XE_VM_BIND_OP_MAP_USERPTR);
SAME(EMU_XE_OP_UNMAP_ALL, DRM_XE_VM_BIND_OP_UNMAP_ALL);
SAME(EMU_XE_BIND_READONLY, DRM_XE_VM_BIND_FLAG_READONLY);
SAME(EMU_XE_BIND_NULL, DRM_XE_VM_BIND_FLAG_NULL);
SAME(EMU_XE_BIND_MIRROR, DRM_XE_VM_BIND_FLAG_CPU_ADDR_MIRROR);
SAME(EMU_XE_USER_FENCE, DRM_XE_SYNC_TYPE_USER_FENCE);
SAME(EMU_XE_SYNC_SIGNAL, DRM_XE_SYNC_FLAG_SIGNAL);
SAME(EMU_XE_UFENCE_ABSTIME, DRM_XE_UFENCE_WAIT_FLAG_ABSTIME);

#if !HAVE_MADVISE || !HAVE_SET_PROPERTY || !HAVE_GET_PROPERTY
#pragma message("the header lacks newer ioctls: those rows are not compared")
#endif

/* That a difference is noticed. */
#ifdef SEEDED_MISTAKE
SAME(EMU_XE_EXEC, DRM_IOCTL_XE_VM_BIND);
#endif
