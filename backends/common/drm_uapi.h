/* SPDX-License-Identifier: MIT */
/*
 * The DRM core's uAPI, as much as backends use. Declared here from Linux 7.3, include/uapi/drm/drm.h:
 * the headers of the machine that builds may be older than the kernel that runs.
 */
#ifndef SVM_DRM_UAPI_H
#define SVM_DRM_UAPI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

#define SVM_DRM_TYPE	     'd'
#define SVM_DRM_COMMAND_BASE 0x40u /* a driver's own ioctls start here */

struct svm_drm_version {
	int32_t major;
	int32_t minor;
	int32_t patch;
	int32_t pad;
	uint64_t name_size; /* room in, length out */
	uint64_t name;
	uint64_t date_size;
	uint64_t date;
	uint64_t desc_size;
	uint64_t desc;
};
static_assert(sizeof(struct svm_drm_version) == 64, "layout");

struct svm_drm_get_cap {
	uint64_t capability;
	uint64_t value;
};

struct svm_drm_gem_close {
	uint32_t handle;
	uint32_t pad;
};

struct svm_drm_prime_handle {
	uint32_t handle;
	uint32_t flags;
	int32_t fd;
};
static_assert(sizeof(struct svm_drm_prime_handle) == 12, "layout");

struct svm_drm_syncobj_create {
	uint32_t handle;
	uint32_t flags;
};

struct svm_drm_syncobj_destroy {
	uint32_t handle;
	uint32_t pad;
};

struct svm_drm_syncobj_timeline_wait {
	uint64_t handles;
	uint64_t points;
	int64_t timeout_ns; /* absolute, CLOCK_MONOTONIC */
	uint32_t n_handles;
	uint32_t flags;
	uint32_t first_signaled;
	uint32_t pad;
	uint64_t deadline_ns;
};
static_assert(sizeof(struct svm_drm_syncobj_timeline_wait) == 48, "layout");

struct svm_drm_syncobj_timeline_array {
	uint64_t handles;
	uint64_t points;
	uint32_t n_handles;
	uint32_t flags;
};
static_assert(sizeof(struct svm_drm_syncobj_timeline_array) == 24, "layout");

struct svm_drm_syncobj_eventfd {
	uint32_t handle;
	uint32_t flags;
	uint64_t point;
	int32_t fd;
	uint32_t pad;
};
static_assert(sizeof(struct svm_drm_syncobj_eventfd) == 24, "layout");

#define SVM_DRM_IOWR(nr, type) _IOWR(SVM_DRM_TYPE, nr, type)
#define SVM_DRM_IOW(nr, type)  _IOW(SVM_DRM_TYPE, nr, type)

#define SVM_DRM_VERSION		      SVM_DRM_IOWR(0x00, struct svm_drm_version)
#define SVM_DRM_GEM_CLOSE	      SVM_DRM_IOW(0x09, struct svm_drm_gem_close)
#define SVM_DRM_GET_CAP		      SVM_DRM_IOWR(0x0c, struct svm_drm_get_cap)
#define SVM_DRM_PRIME_HANDLE_TO_FD    SVM_DRM_IOWR(0x2d, struct svm_drm_prime_handle)
#define SVM_DRM_PRIME_FD_TO_HANDLE    SVM_DRM_IOWR(0x2e, struct svm_drm_prime_handle)
#define SVM_DRM_SYNCOBJ_CREATE	      SVM_DRM_IOWR(0xbf, struct svm_drm_syncobj_create)
#define SVM_DRM_SYNCOBJ_DESTROY	      SVM_DRM_IOWR(0xc0, struct svm_drm_syncobj_destroy)
#define SVM_DRM_SYNCOBJ_TIMELINE_WAIT SVM_DRM_IOWR(0xca, struct svm_drm_syncobj_timeline_wait)
#define SVM_DRM_SYNCOBJ_QUERY	      SVM_DRM_IOWR(0xcb, struct svm_drm_syncobj_timeline_array)
#define SVM_DRM_SYNCOBJ_EVENTFD	      SVM_DRM_IOWR(0xcf, struct svm_drm_syncobj_eventfd)

#define SVM_DRM_CAP_SYNCOBJ_TIMELINE 0x14u

#define SVM_DRM_PRIME_CLOEXEC 0x80000u /* O_CLOEXEC */
#define SVM_DRM_PRIME_RDWR    0x2u     /* O_RDWR */

#define SVM_DRM_WAIT_ALL	(1u << 0)
#define SVM_DRM_WAIT_FOR_SUBMIT (1u << 1)

#endif
