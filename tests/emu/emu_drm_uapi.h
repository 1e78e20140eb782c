/* SPDX-License-Identifier: MIT */
/*
 * Layouts of the ioctls that all DRM drivers share, written for the emulator from the kernel's
 * documented layouts (include/uapi/drm/drm.h, linux/sync_file.h, linux/dma-buf.h); held against
 * the kernel's headers by test/check_uapi.
 */
#ifndef EMU_DRM_UAPI_H
#define EMU_DRM_UAPI_H

#include <linux/ioctl.h>
#include <stdint.h>

struct emu_drm_version {
	int32_t major, minor, patch;
	uint32_t pad;
	uint64_t name_len, name;
	uint64_t date_len, date;
	uint64_t desc_len, desc;
};

struct emu_drm_unique {
	uint64_t len, ptr;
};

struct emu_drm_get_cap {
	uint64_t capability, value;
};

struct emu_drm_set_version {
	int32_t di_major, di_minor, dd_major, dd_minor;
};

struct emu_drm_set_client_name {
	uint64_t len, name;
};

struct emu_drm_gem_close {
	uint32_t handle, pad;
};

struct emu_drm_prime_handle {
	uint32_t handle, flags;
	int32_t fd;
};

struct emu_drm_syncobj_create {
	uint32_t handle, flags;
};

struct emu_drm_syncobj_destroy {
	uint32_t handle, pad;
};

struct emu_drm_syncobj_handle {
	uint32_t handle, flags;
	int32_t fd;
	uint32_t pad;
	uint64_t point;
};

struct emu_drm_syncobj_wait {
	uint64_t handles;
	int64_t timeout_nsec;
	uint32_t count, flags, first_signaled, pad;
	uint64_t deadline_nsec;
};

struct emu_drm_syncobj_timeline_wait {
	uint64_t handles, points;
	int64_t timeout_nsec;
	uint32_t count, flags, first_signaled, pad;
	uint64_t deadline_nsec;
};

struct emu_drm_syncobj_array {
	uint64_t handles;
	uint32_t count, pad;
};

struct emu_drm_syncobj_timeline_array {
	uint64_t handles, points;
	uint32_t count, flags;
};

struct emu_drm_syncobj_transfer {
	uint32_t src_handle, dst_handle;
	uint64_t src_point, dst_point;
	uint32_t flags, pad;
};

struct emu_drm_syncobj_eventfd {
	uint32_t handle, flags;
	uint64_t point;
	int32_t fd;
	uint32_t pad;
};

struct emu_sync_merge {
	char name[32];
	int32_t fd2, fence;
	uint32_t flags, pad;
};

struct emu_sync_fence_info {
	char obj_name[32], driver_name[32];
	int32_t status;
	uint32_t flags;
	uint64_t timestamp_ns;
};

struct emu_sync_file_info {
	char name[32];
	int32_t status;
	uint32_t flags, num_fences, pad;
	uint64_t fence_info;
};

struct emu_dma_buf_sync_file {
	uint32_t flags;
	int32_t fd;
};

#define EMU_DRM_R(nr, type)  _IOC(_IOC_READ, 'd', nr, sizeof(type))
#define EMU_DRM_W(nr, type)  _IOC(_IOC_WRITE, 'd', nr, sizeof(type))
#define EMU_DRM_RW(nr, type) _IOC(_IOC_READ | _IOC_WRITE, 'd', nr, sizeof(type))

#define EMU_DRM_VERSION			EMU_DRM_RW(0x00, struct emu_drm_version)
#define EMU_DRM_GET_UNIQUE		EMU_DRM_RW(0x01, struct emu_drm_unique)
#define EMU_DRM_SET_VERSION		EMU_DRM_RW(0x07, struct emu_drm_set_version)
#define EMU_DRM_GEM_CLOSE		EMU_DRM_W(0x09, struct emu_drm_gem_close)
#define EMU_DRM_GET_CAP			EMU_DRM_RW(0x0c, struct emu_drm_get_cap)
#define EMU_DRM_SET_CLIENT_CAP		EMU_DRM_W(0x0d, struct emu_drm_get_cap)
#define EMU_DRM_PRIME_HANDLE_TO_FD	EMU_DRM_RW(0x2d, struct emu_drm_prime_handle)
#define EMU_DRM_PRIME_FD_TO_HANDLE	EMU_DRM_RW(0x2e, struct emu_drm_prime_handle)
#define EMU_DRM_SYNCOBJ_CREATE		EMU_DRM_RW(0xbf, struct emu_drm_syncobj_create)
#define EMU_DRM_SYNCOBJ_DESTROY		EMU_DRM_RW(0xc0, struct emu_drm_syncobj_destroy)
#define EMU_DRM_SYNCOBJ_HANDLE_TO_FD	EMU_DRM_RW(0xc1, struct emu_drm_syncobj_handle)
#define EMU_DRM_SYNCOBJ_FD_TO_HANDLE	EMU_DRM_RW(0xc2, struct emu_drm_syncobj_handle)
#define EMU_DRM_SYNCOBJ_WAIT		EMU_DRM_RW(0xc3, struct emu_drm_syncobj_wait)
#define EMU_DRM_SYNCOBJ_RESET		EMU_DRM_RW(0xc4, struct emu_drm_syncobj_array)
#define EMU_DRM_SYNCOBJ_SIGNAL		EMU_DRM_RW(0xc5, struct emu_drm_syncobj_array)
#define EMU_DRM_SYNCOBJ_TIMELINE_WAIT	EMU_DRM_RW(0xca, struct emu_drm_syncobj_timeline_wait)
#define EMU_DRM_SYNCOBJ_QUERY		EMU_DRM_RW(0xcb, struct emu_drm_syncobj_timeline_array)
#define EMU_DRM_SYNCOBJ_TRANSFER	EMU_DRM_RW(0xcc, struct emu_drm_syncobj_transfer)
#define EMU_DRM_SYNCOBJ_TIMELINE_SIGNAL EMU_DRM_RW(0xcd, struct emu_drm_syncobj_timeline_array)
#define EMU_DRM_SYNCOBJ_EVENTFD		EMU_DRM_RW(0xcf, struct emu_drm_syncobj_eventfd)
#define EMU_DRM_SET_CLIENT_NAME		EMU_DRM_RW(0xd1, struct emu_drm_set_client_name)

#define EMU_SYNC_IOC_MERGE _IOC(_IOC_READ | _IOC_WRITE, '>', 3, sizeof(struct emu_sync_merge))
#define EMU_SYNC_IOC_FILE_INFO \
	_IOC(_IOC_READ | _IOC_WRITE, '>', 4, sizeof(struct emu_sync_file_info))
#define EMU_DMA_BUF_SYNC _IOC(_IOC_WRITE, 'b', 0, 8)
#define EMU_DMA_BUF_EXPORT_SYNC_FILE \
	_IOC(_IOC_READ | _IOC_WRITE, 'b', 2, sizeof(struct emu_dma_buf_sync_file))

/* GET_CAP */
#define EMU_DRM_CAP_DUMB_BUFFER	     0x1
#define EMU_DRM_CAP_PRIME	     0x5
#define EMU_DRM_CAP_TIMESTAMP_MONO   0x6
#define EMU_DRM_CAP_SYNCOBJ	     0x13
#define EMU_DRM_CAP_SYNCOBJ_TIMELINE 0x14

#define EMU_SYNCOBJ_CREATE_SIGNALED	  1u
#define EMU_SYNCOBJ_HANDLE_FLAG_SYNC_FILE 1u
#define EMU_SYNCOBJ_HANDLE_FLAG_TIMELINE  2u
#define EMU_SYNCOBJ_WAIT_ALL		  1u
#define EMU_SYNCOBJ_WAIT_FOR_SUBMIT	  2u
#define EMU_SYNCOBJ_WAIT_AVAILABLE	  4u
#define EMU_SYNCOBJ_WAIT_DEADLINE	  8u
#define EMU_SYNCOBJ_QUERY_LAST_SUBMITTED  1u

#endif
