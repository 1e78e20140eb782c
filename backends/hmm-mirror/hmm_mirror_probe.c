/* SPDX-License-Identifier: MIT */
/* What the driver of this kernel can, found by trying on memory of our own. */
#include "hmm_mirror_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* Linux 6.1 */
#endif

#define PAGE	      ((size_t)SVM_PAGE_SIZE)
#define PROBE_MS      5000
#define PROBE_POLL_MS 20

/* A userfaultfd that gets faults from the kernel, too; the device's are such. */
static int open_uffd(void)
{
	const int flags = O_CLOEXEC | O_NONBLOCK;
	struct uffdio_api api = { .api = UFFD_API };
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = -1;

	if (device >= 0) {
		fd = ioctl(device, USERFAULTFD_IOC_NEW, flags);
		close(device);
	}
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, flags);
	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

struct probe {
	int fd;
	uint64_t addr;
	uint8_t *buffer;
	_Atomic bool done;
	int error;
};

static void *read_missing(void *arg)
{
	struct probe *probe = arg;
	struct svm_hmm_cmd cmd = { .addr = probe->addr,
				   .ptr = (uintptr_t)probe->buffer,
				   .n_pages = 1 };

	probe->error = ioctl(probe->fd, SVM_HMM_READ_UNLOCKED, &cmd) < 0 ? -errno : 0;
	atomic_store(&probe->done, true);
	return NULL;
}

/* Serve the page if an event comes for it. */
static bool serve(int uffd, const struct probe *probe)
{
	struct uffdio_zeropage zero = { .range = { probe->addr, PAGE } };
	struct pollfd poll_fd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg message;
	bool seen = false;

	for (int ms = 0; ms < PROBE_MS && !atomic_load(&probe->done); ms += PROBE_POLL_MS) {
		if (poll(&poll_fd, 1, PROBE_POLL_MS) <= 0 ||
		    read(uffd, &message, sizeof(message)) != (ssize_t)sizeof(message))
			continue;
		seen |= message.event == UFFD_EVENT_PAGEFAULT;
		(void)ioctl(uffd, UFFDIO_ZEROPAGE, &zero);
	}
	return seen;
}

static bool probe_uffd(struct svm_hmm_device *dev)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct probe probe = { .fd = dev->fd, .buffer = dev->pages };
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int uffd = open_uffd();
	pthread_t thread;
	bool seen = false;

	if (page == MAP_FAILED || uffd < 0)
		goto out;
	probe.addr = (uintptr_t)page;
	reg.range = (struct uffdio_range){ probe.addr, PAGE };
	if (ioctl(uffd, UFFDIO_REGISTER, &reg) < 0 ||
	    pthread_create(&thread, NULL, read_missing, &probe) != 0)
		goto out;
	seen = serve(uffd, &probe);
	/* Whoever still waits gets a plain page: a userfaultfd that is closed lets go. */
	close(uffd);
	uffd = -1;
	pthread_join(thread, NULL);
	seen = seen && probe.error == 0;
out:
	if (uffd >= 0)
		close(uffd);
	if (page != MAP_FAILED)
		munmap(page, PAGE);
	return seen;
}

static bool probe_exclusive(struct svm_hmm_device *dev)
{
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (page == MAP_FAILED)
		return false;
	*(volatile char *)page = 1;
	r = svm_hmm_exclusive(dev, (uintptr_t)page);
	munmap(page, PAGE);
	return r == 0;
}

void svm_hmm_probe(struct svm_hmm_device *dev, bool want_uffd)
{
	dev->has_exclusive = probe_exclusive(dev);
	dev->has_uffd = want_uffd && probe_uffd(dev);
}
