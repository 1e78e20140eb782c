// SPDX-License-Identifier: MIT
#include "drm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* How often memory that is short for a moment is asked for again. */
#define SURE_TRIES 16

int svm_drm_ioctl(int fd, unsigned long request, void *arg)
{
	int ret;

	do
		ret = ioctl(fd, request, arg);
	while (ret < 0 && (errno == EINTR || errno == EAGAIN));
	return ret < 0 ? -errno : 0;
}

int svm_drm_ioctl_sure(int fd, unsigned long request, void *arg)
{
	int ret = -ENOMEM;

	for (int i = 0; i < SURE_TRIES && (ret == -ENOMEM || ret == -ENOBUFS); i++)
		ret = svm_drm_ioctl(fd, request, arg);
	return ret;
}

int svm_drm_ioctl_give_back(int fd, unsigned long request, void *arg)
{
	int ret = -EIO;

	for (int i = 0; i < SURE_TRIES && ret < 0 && ret != -ENOENT; i++)
		ret = svm_drm_ioctl(fd, request, arg);
	return ret;
}

int svm_drm_driver(int fd, char *ret_driver, size_t room)
{
	char name[32] = { 0 };
	struct svm_drm_version version = { .name_size = sizeof(name) - 1, .name = (uintptr_t)name };
	int ret = svm_drm_ioctl_sure(fd, SVM_DRM_VERSION, &version);

	if (ret == 0)
		(void)snprintf(ret_driver, room, "%s", name);
	return ret;
}

int svm_drm_render_open(unsigned int minor, char *ret_driver, size_t room, int *ret_fd)
{
	char path[SVM_DRM_PATH];
	int ret;
	int fd;

	(void)snprintf(path, sizeof(path), "/dev/dri/renderD%u", minor);
	do
		fd = open(path, O_RDWR | O_CLOEXEC);
	while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return -errno;
	ret = svm_drm_driver(fd, ret_driver, room);
	if (ret < 0) {
		(void)close(fd);
		return ret;
	}
	*ret_fd = fd;
	return 0;
}

int svm_drm_cap(int fd, uint64_t capability, uint64_t *ret_value)
{
	struct svm_drm_get_cap cap = { .capability = capability };
	int ret = svm_drm_ioctl_sure(fd, SVM_DRM_GET_CAP, &cap);

	if (ret == 0)
		*ret_value = cap.value;
	return ret;
}

int svm_drm_gem_close(int fd, uint32_t handle)
{
	struct svm_drm_gem_close arg = { .handle = handle };

	return svm_drm_ioctl_give_back(fd, SVM_DRM_GEM_CLOSE, &arg);
}

int svm_drm_prime_export(int fd, uint32_t handle, int *ret_fd)
{
	struct svm_drm_prime_handle arg = { .handle = handle,
					    .flags = SVM_DRM_PRIME_CLOEXEC | SVM_DRM_PRIME_RDWR,
					    .fd = -1 };
	int ret = svm_drm_ioctl(fd, SVM_DRM_PRIME_HANDLE_TO_FD, &arg);

	if (ret == 0)
		*ret_fd = arg.fd;
	return ret;
}

int svm_drm_prime_import(int fd, int prime_fd, uint32_t *ret_handle)
{
	struct svm_drm_prime_handle arg = { .fd = prime_fd };
	int ret = svm_drm_ioctl(fd, SVM_DRM_PRIME_FD_TO_HANDLE, &arg);

	if (ret == 0)
		*ret_handle = arg.handle;
	return ret;
}

int svm_drm_syncobj_create(int fd, uint32_t *ret_handle)
{
	struct svm_drm_syncobj_create arg = { 0 };
	int ret = svm_drm_ioctl_sure(fd, SVM_DRM_SYNCOBJ_CREATE, &arg);

	if (ret == 0)
		*ret_handle = arg.handle;
	return ret;
}

void svm_drm_syncobj_destroy(int fd, uint32_t handle)
{
	struct svm_drm_syncobj_destroy arg = { .handle = handle };

	/* Fails only where the device is gone, and with it the object. */
	(void)svm_drm_ioctl_give_back(fd, SVM_DRM_SYNCOBJ_DESTROY, &arg);
}

int svm_drm_timeline_query(int fd, const uint32_t *handles, uint64_t *ret_points, uint32_t n)
{
	struct svm_drm_syncobj_timeline_array arg = { .handles = (uintptr_t)handles,
						      .points = (uintptr_t)ret_points,
						      .n_handles = n };

	return svm_drm_ioctl_sure(fd, SVM_DRM_SYNCOBJ_QUERY, &arg);
}

int svm_drm_timeline_event(int fd, uint32_t handle, uint64_t point, int event_fd)
{
	struct svm_drm_syncobj_eventfd arg = { .handle = handle, .point = point, .fd = event_fd };

	return svm_drm_ioctl_sure(fd, SVM_DRM_SYNCOBJ_EVENTFD, &arg);
}

int svm_drm_timeline_wait(int fd, uint32_t handle, uint64_t point, uint64_t timeout_ns)
{
	struct svm_drm_syncobj_timeline_wait arg = { .handles = (uintptr_t)&handle,
						     .points = (uintptr_t)&point,
						     .n_handles = 1 };
	struct timespec now;
	int ret = -EIO;

	if (clock_gettime(CLOCK_MONOTONIC, &now) < 0)
		return -errno;
	arg.timeout_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec + (int64_t)timeout_ns;
	/* Whoever waits is about to take something from under what runs: one failure is no answer yet. */
	for (int i = 0; i < SURE_TRIES && ret < 0 && ret != -ETIME; i++)
		ret = svm_drm_ioctl(fd, SVM_DRM_SYNCOBJ_TIMELINE_WAIT, &arg);
	return ret;
}

bool svm_drm_has_timeline_event(int fd)
{
	/* No object has handle 0: a kernel that knows the call says so, others do not know the number. */
	return svm_drm_timeline_event(fd, 0, 0, -1) == -ENOENT;
}
