/* SPDX-License-Identifier: MIT */
/*
 * What every backend over a DRM driver does the same way: render nodes, ioctls, buffer handles and
 * sync objects. All functions give 0 or a negative errno; nothing here allocates or waits, except as said.
 */
#ifndef SVM_DRM_H
#define SVM_DRM_H

#include "drm_uapi.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Minor numbers of render nodes (drivers/gpu/drm/drm_drv.c): 64 of them. */
#define SVM_DRM_RENDER_FIRST 128u
#define SVM_DRM_RENDER_LAST  191u

/* "/dev/dri/renderD191" and its end. */
#define SVM_DRM_PATH 24u

/* ioctl(), again after EINTR and EAGAIN. */
int svm_drm_ioctl(int fd, unsigned long request, void *arg);
/* The same for small requests whose failure nobody could mend: memory that is short for a moment is
 * asked for some more times. */
int svm_drm_ioctl_sure(int fd, unsigned long request, void *arg);
/* For requests that give something back: what they leave behind lives until the file is closed, so any failure but
 * that the object is not known is taken for one that may pass. */
int svm_drm_ioctl_give_back(int fd, unsigned long request, void *arg);

/* Open render node number minor and say which driver has it (room bytes at ret_driver). -ENOENT: no node. */
int svm_drm_render_open(unsigned int minor, char *ret_driver, size_t room, int *ret_fd);
/* Which driver's file is this? -ENOTTY and the like: none's. */
int svm_drm_driver(int fd, char *ret_driver, size_t room);
int svm_drm_cap(int fd, uint64_t capability, uint64_t *ret_value);

int svm_drm_gem_close(int fd, uint32_t handle);
int svm_drm_prime_export(int fd, uint32_t handle, int *ret_fd);
int svm_drm_prime_import(int fd, int prime_fd, uint32_t *ret_handle);

int svm_drm_syncobj_create(int fd, uint32_t *ret_handle);
void svm_drm_syncobj_destroy(int fd, uint32_t handle);
/* The points that n timelines have reached. */
int svm_drm_timeline_query(int fd, const uint32_t *handles, uint64_t *ret_points, uint32_t n);
/* Make event_fd readable when the point is reached, at once if it is. */
int svm_drm_timeline_event(int fd, uint32_t handle, uint64_t point, int event_fd);
/* Wait (may block) until the point is reached or timeout_ns is over: -ETIME. */
int svm_drm_timeline_wait(int fd, uint32_t handle, uint64_t point, uint64_t timeout_ns);
/* The kernel knows svm_drm_timeline_event(): Linux 6.6. */
bool svm_drm_has_timeline_event(int fd);

#endif
