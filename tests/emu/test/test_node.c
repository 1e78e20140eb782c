// SPDX-License-Identifier: MIT
/* Nodes as files: names, descriptors, fork, passing on, waiting; failures on demand. */
#include "emu_test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#if HAVE_LIBDRM
#include <xf86drm.h>
#endif

static void nodes_are_character_devices(void **state)
{
	struct stat st, by_fd;
	char name[64], link[64] = "";
	int fd = t_open(0);

	(void)state;
	t_ok(stat("/dev/dri/renderD128", &st));
	assert_true(S_ISCHR(st.st_mode));
	assert_int_equal(major(st.st_rdev), 226);
	assert_int_equal(minor(st.st_rdev), 128);
	t_ok(fstat(fd, &by_fd));
	assert_true(S_ISCHR(by_fd.st_mode));
	assert_int_equal(by_fd.st_rdev, st.st_rdev);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	assert_int_equal(readlink(name, link, sizeof(link) - 1), 19);
	assert_string_equal(link, "/dev/dri/renderD128");
	assert_int_equal(open("/dev/dri/renderD190", O_RDWR), -1);
	assert_int_equal(errno, ENOENT);
	t_ok(access("/dev/dri/card0", R_OK));
	t_ok(close(fd));
}

static void names_lead_to_nodes_from_everywhere(void **state)
{
	DIR *d = opendir("/dev/dri");
	struct dirent *e;
	int dir, fd, n = 0;
	char link[256] = "";

	(void)state;
	assert_non_null(d);
	while ((e = readdir(d)))
		n += !strncmp(e->d_name, "card", 4) || !strncmp(e->d_name, "renderD", 7);
	assert_int_equal(n, 4);
	t_ok(closedir(d));
	dir = open("/dev/dri", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	fd = openat(dir, "renderD129", O_RDWR);
	assert_true(fd >= 0);
	t_ok(close(fd));
	t_ok(close(dir));
	assert_true(readlink("/sys/dev/char/226:128", link, sizeof(link) - 1) > 0);
	assert_non_null(strstr(link, "drm/renderD128"));
	fd = open("/dev/dri/by-path/pci-0000:03:00.0-render", O_RDWR);
	assert_true(fd >= 0);
	t_ok(close(fd));
}

static void libdrm_lists_the_devices(void **state)
{
#if HAVE_LIBDRM
	drmDevicePtr devices[8];
	drmVersionPtr v;
	int n = drmGetDevices2(0, devices, 8), fd;

	(void)state;
	assert_int_equal(n, 2);
	for (int i = 0; i < n; i++) {
		assert_int_equal(devices[i]->bustype, DRM_BUS_PCI);
		assert_int_equal(devices[i]->deviceinfo.pci->vendor_id, 0x8086);
		fd = open(devices[i]->nodes[DRM_NODE_RENDER], O_RDWR | O_CLOEXEC);
		assert_true(fd >= 0);
		assert_int_equal(drmGetNodeTypeFromFd(fd), DRM_NODE_RENDER);
		v = drmGetVersion(fd);
		assert_non_null(v);
		assert_string_equal(v->name, "xe");
		assert_int_equal(v->version_major, 1);
		assert_int_equal(v->version_minor, 1);
		drmFreeVersion(v);
		t_ok(close(fd));
	}
	drmFreeDevices(devices, n);
#else
	(void)state;
	t_skip("built without libdrm");
#endif
}

/* Ids live in the open file: its duplicates see them, another open does not. */
static void objects_belong_to_the_open_file(void **state)
{
	int a = t_open(0), b = dup(a), c = t_open(0);
	uint32_t vm = t_vm(a, 0);

	(void)state;
	assert_int_equal(t_vm_destroy(c, vm), -ENOENT);
	t_ok(close(a));
	t_ok(t_vm_destroy(b, vm));
	assert_int_equal(t_vm_destroy(b, vm), -ENOENT);
	assert_int_equal(t_vm(c, 0), 1);
	t_ok(t_vm_destroy(c, 1));
	a = dup2(b, 100);
	assert_int_equal(a, 100);
	t_ok(close(b));
	b = dup3(a, c, O_CLOEXEC);
	assert_int_equal(b, c);
	t_ok(close(a));
	a = fcntl(b, F_DUPFD_CLOEXEC, 50);
	t_ok(close(b));
	t_ok(t_vm_destroy(a, t_vm(a, 0)));
	t_ok(close(a));
	assert_int_equal(t_ioctl(a, EMU_XE_VM_DESTROY, &vm), -EBADF);
}

static int pass(int fd)
{
	char space[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v,
			    .msg_iovlen = 1,
			    .msg_control = space,
			    .msg_controllen = sizeof(space) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int pair[2], got = -1;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	t_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	assert_int_equal(sendmsg(pair[0], &m, 0), 1);
	t_ok(close(fd));
	assert_int_equal(recvmsg(pair[1], &m, MSG_CMSG_CLOEXEC), 1);
	c = CMSG_FIRSTHDR(&m);
	if (!c)
		fail_msg("no descriptor came");
	else
		memcpy(&got, CMSG_DATA(c), sizeof(got));
	t_ok(close(pair[0]));
	t_ok(close(pair[1]));
	return got;
}

static void a_passed_descriptor_is_the_same_file(void **state)
{
	int fd = t_open(0);
	uint32_t vm = t_vm(fd, 0);

	(void)state;
	fd = pass(fd);
	t_ok(t_vm_destroy(fd, vm));
	t_ok(close(fd));
}

static int child_status(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int child_opens_and_runs(void)
{
	struct t_gpu g;

	t_gpu_open(&g, 1, 0);
	g.batch[0] = 0x05000000;
	if (t_run(&g) < 0)
		return 1;
	t_gpu_close(&g);
	return 0;
}

/* Their run-times keep locks over a fork of a threaded program, or refuse it (seen with GCC 12). */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

static void fork_leaves_both_sides_working(void **state)
{
	struct t_gpu g;
	pid_t pid;

	(void)state;
	if (UNDER_SANITIZER)
		t_skip("a sanitizer's run-time does not survive threads after a fork");
	t_gpu_open(&g, 0, 0);
	pid = fork();
	if (pid == 0) {
		/* What was inherited can be used, what is opened works. */
		uint32_t vm = t_vm(g.fd, 0);

		if (t_vm_destroy(g.fd, vm) < 0)
			_exit(2);
		_exit(child_opens_and_runs());
	}
	g.batch[0] = 0x05000000;
	t_ok(t_run(&g));
	assert_int_equal(child_status(pid), 0);
	t_gpu_close(&g);
}

static void sync_file_wakes_poll_epoll_and_io_uring(void **state)
{
	struct emu_drm_syncobj_handle h = { .flags = EMU_SYNCOBJ_HANDLE_FLAG_SYNC_FILE };
	struct epoll_event ev = { .events = EPOLLIN };
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	struct pollfd p = { .events = POLLIN };
	struct t_gpu g;
	int ep, r;

	(void)state;
	t_gpu_open(&g, 0, 0);
	/* A circle, ended once everybody waits. */
	g.batch[0] = 0x18800001 | 1 << 8;
	g.batch[1] = (uint32_t)g.batch_addr;
	g.batch[2] = 0;
	t_ok(t_submit(&g));
	h.handle = g.sync;
	t_ok(t_ioctl(g.fd, EMU_DRM_SYNCOBJ_HANDLE_TO_FD, &h));
	p.fd = h.fd;
	assert_int_equal(poll(&p, 1, 0), 0);
	ep = epoll_create1(EPOLL_CLOEXEC);
	t_ok(epoll_ctl(ep, EPOLL_CTL_ADD, h.fd, &ev));
	r = io_uring_queue_init(4, &ring, 0);
	if (r == 0) {
		io_uring_prep_poll_add(io_uring_get_sqe(&ring), h.fd, POLLIN);
		assert_int_equal(io_uring_submit(&ring), 1);
		assert_int_equal(io_uring_peek_cqe(&ring, &cqe), -EAGAIN);
	}
	g.batch[0] = 0x05000000;
	assert_int_equal(epoll_wait(ep, &ev, 1, 10000), 1);
	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_true(p.revents & POLLIN);
	if (r == 0) {
		t_ok(io_uring_wait_cqe(&ring, &cqe));
		assert_true(cqe->res & POLLIN);
		io_uring_queue_exit(&ring);
	} else {
		print_message("io_uring not to be had: %d\n", r);
	}
	t_ok(close(ep));
	t_ok(close(h.fd));
	t_gpu_close(&g);
}

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	t_ok(closedir(d));
	return n;
}

static void nothing_stays_after_close(void **state)
{
	int before, after;

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct t_gpu g;
		uint32_t vm, bo;

		before = count_fds();
		t_gpu_open(&g, 0, 0);
		vm = t_vm(g.fd, EMU_XE_VM_LR);
		bo = t_bo(g.fd, MIB, 1, 0);
		t_ok(t_bind_wait(g.fd, t_bind_bo(vm, bo, 0, MIB, MIB, g.d.wb), true));
		t_ok(t_bo_close(g.fd, bo));
		t_ok(t_vm_destroy(g.fd, vm));
		t_gpu_close(&g);
		after = count_fds();
		assert_int_equal(before, after);
	}
}

/* A child that has the file, too, is the last to close it, by its end. */
static void nothing_stays_after_the_end_of_a_child(void **state)
{
	int before = count_fds();
	int fd = t_open(0);
	int ends[2];
	char byte;
	pid_t pid;

	(void)state;
	t_ok(pipe2(ends, O_CLOEXEC));
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)!read(ends[0], &byte, 1);
		_exit(0);
	}
	t_ok(close(ends[0]));
	t_ok(close(fd));
	assert_int_equal(write(ends[1], "", 1), 1);
	assert_int_equal(child_status(pid), 0);
	t_ok(close(ends[1]));
	assert_int_equal(count_fds(), before);
}

static void the_nth_ioctl_fails_once(void **state)
{
	struct emu_drm_get_cap cap = { .capability = EMU_DRM_CAP_SYNCOBJ };
	int fd = t_open(0);

	(void)state;
	emu_ctl_fail(0, 2, ENOMEM, 0x0c);
	t_ok(ioctl(fd, EMU_DRM_GET_CAP, &cap));
	assert_int_equal(ioctl(fd, EMU_DRM_GET_CAP, &cap), -1);
	assert_int_equal(errno, ENOMEM);
	t_ok(ioctl(fd, EMU_DRM_GET_CAP, &cap));
	emu_ctl_fail(0, 1, EINTR, 0);
	assert_int_equal(ioctl(fd, EMU_DRM_GET_CAP, &cap), -1);
	assert_int_equal(errno, EINTR);
	t_ok(ioctl(fd, EMU_DRM_GET_CAP, &cap));
	emu_ctl_fail(0, 0, 0, 0);
	assert_true(emu_ctl_ioctls(0, 0x0c) >= 5);
	t_ok(close(fd));
}

/* A wedged device: everything answers ECANCELED, the end of the file cleans up. */
static void wedged_device_can_be_closed(void **state)
{
	int before = count_fds();
	struct t_gpu g;

	(void)state;
	t_gpu_open(&g, 1, 0);
	emu_ctl_wedge(1, true);
	assert_int_equal(t_submit(&g), -ECANCELED);
	assert_int_equal(t_syncobj_wait(g.fd, g.sync, 0), -ECANCELED);
	t_ok(munmap(g.batch, 64 * KIB));
	t_ok(close(g.fd));
	emu_ctl_wedge(1, false);
	assert_int_equal(before, count_fds());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nodes_are_character_devices),
		cmocka_unit_test(names_lead_to_nodes_from_everywhere),
		cmocka_unit_test(libdrm_lists_the_devices),
		cmocka_unit_test(objects_belong_to_the_open_file),
		cmocka_unit_test(a_passed_descriptor_is_the_same_file),
		cmocka_unit_test(fork_leaves_both_sides_working),
		cmocka_unit_test(sync_file_wakes_poll_epoll_and_io_uring),
		cmocka_unit_test(nothing_stays_after_close),
		cmocka_unit_test(nothing_stays_after_the_end_of_a_child),
		cmocka_unit_test(the_nth_ioctl_fails_once),
		cmocka_unit_test(wedged_device_can_be_closed),
	};

	return T_MAIN(tests);
}
