/* SPDX-License-Identifier: MIT */
/*
 * A page that the kernel waits for: its userfaultfd is served by the test, when the test likes. A driver that meets it
 * waits with the VM locked (Linux 7.3), so this is how a test has a VM locked for as long as it wants.
 */
#ifndef XE_HELD_H
#define XE_HELD_H

#include "../emu/emu_ctl.h"
#include "fixture.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct held {
	uint8_t *page;
	int uffd;
};

/* False: this process may not serve faults of the kernel. */
static inline bool held_open(struct held *h)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	/* Without O_NONBLOCK its poll() says POLLERR at once (fs/userfaultfd.c:userfaultfd_poll()). */
	h->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (h->uffd < 0)
		return false;
	h->page = mmap(NULL, FIXTURE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);
	assert_ptr_not_equal(h->page, MAP_FAILED);
	reg.range.start = (uintptr_t)h->page;
	reg.range.len = FIXTURE_PAGE;
	assert_int_equal(ioctl(h->uffd, UFFDIO_API, &api), 0);
	assert_int_equal(ioctl(h->uffd, UFFDIO_REGISTER, &reg), 0);
	return true;
}

/* Does somebody wait for the page, within so long? */
static inline bool held_poll(struct held *h, int timeout_ms)
{
	struct pollfd p = { .fd = h->uffd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1 && p.revents == POLLIN;
}

/* Until somebody does. */
static inline void held_wait(struct held *h)
{
	struct uffd_msg msg;

	assert_true(held_poll(h, 10000));
	assert_int_equal(read(h->uffd, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(msg.event, UFFD_EVENT_PAGEFAULT);
	assert_int_equal(msg.arg.pagefault.address & ~(FIXTURE_PAGE - 1), (uintptr_t)h->page);
}

/* Let them go on. */
static inline void held_serve(struct held *h)
{
	struct uffdio_zeropage zero = { .range = { .start = (uintptr_t)h->page,
						   .len = FIXTURE_PAGE } };

	assert_int_equal(ioctl(h->uffd, UFFDIO_ZEROPAGE, &zero), 0);
}

static inline void held_close(struct held *h)
{
	assert_int_equal(munmap(h->page, FIXTURE_PAGE), 0);
	assert_int_equal(close(h->uffd), 0);
}

/* ---- The library beside it -------------------------------------------------------------------- */

/* Numbers of ioctls, as the emulator counts them. */
#define HELD_BIND  0x45
#define HELD_EXEC  0x49
#define HELD_QUERY 0xcb /* SYNCOBJ_QUERY: how the library looks at what is done */

/* Blocks of the managed memory that held_serve_others() wants: the device has all up to HELD_FRESH. */
#define HELD_BLOCKS 5u
#define HELD_FRESH  3u

struct held_job {
	struct svm_fixture *f;
	struct svm_device *device;
	volatile uint8_t *at;
	int result;
};

static inline void *held_touch(void *data)
{
	struct held_job *job = data;

	job->result = *job->at;
	return NULL;
}

static inline void *held_fill(void *data)
{
	struct held_job *job = data;

	job->result = svm_device_fill(job->device, (void *)job->at, 9, FIXTURE_PAGE, NULL, NULL);
	return NULL;
}

static inline void *held_prefetch(void *data)
{
	struct held_job *job = data;

	job->result = svm_prefetch(job->f->space, (void *)job->at, FIXTURE_BLOCK,
				   svm_device_location(job->device), NULL);
	return NULL;
}

/* Until an ioctl of this number has begun. */
static inline void held_expect(int nr, uint64_t before)
{
	const struct timespec pause = { .tv_nsec = 100000 };

	for (int i = 0; i < 100000 && emu_ctl_ioctls(0, nr) == before; i++)
		(void)nanosleep(&pause, NULL);
	assert_true(emu_ctl_ioctls(0, nr) > before);
}

/*
 * The device's VM is locked until the page is served; who serves it needs the library first. The library has something to do
 * in that VM: take a block out of it (the CPU touches what the device has), or start work in it and see that a copy is
 * done. Its service thread must not be the one that waits for the lock.
 */
static inline void held_serve_others(struct svm_fixture *f, struct svm_device *device,
				     struct held *held, uint8_t *managed, bool work)
{
	struct held_job jobs[2] = { { f, device, managed, 0 }, { f, device, managed, 0 } };
	uint64_t before = emu_ctl_ioctls(0, work ? HELD_EXEC : HELD_BIND);
	unsigned int n = work ? 2 : 1;
	pthread_t threads[2];

	jobs[1].at = managed + 2 * FIXTURE_BLOCK;
	assert_int_equal(pthread_create(&threads[0], NULL, work ? held_fill : held_touch, &jobs[0]),
			 0);
	held_expect(work ? HELD_EXEC : HELD_BIND, before);
	if (work) {
		before = emu_ctl_ioctls(0, HELD_QUERY);
		assert_int_equal(pthread_create(&threads[1], NULL, held_prefetch, &jobs[1]), 0);
		held_expect(HELD_QUERY, before);
	}
	for (unsigned int i = HELD_FRESH; i < HELD_BLOCKS; i++) {
		volatile uint8_t *fresh = managed + i * FIXTURE_BLOCK;

		*fresh = (uint8_t)i;
		assert_int_equal(*fresh, i);
	}
	held_serve(held);
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(jobs[0].result, work ? 0 : 5);
	assert_int_equal(jobs[1].result, 0);
	assert_int_equal(managed[0], work ? 9 : 5);
}

/* Managed memory for that. */
static inline uint8_t *held_managed(struct svm_fixture *f, struct svm_device *device)
{
	uint8_t *managed = fixture_alloc(f, HELD_BLOCKS * FIXTURE_BLOCK, 0);

	memset(managed, 5, HELD_FRESH * FIXTURE_BLOCK);
	assert_int_equal(svm_prefetch(f->space, managed, 2 * FIXTURE_BLOCK,
				      svm_device_location(device), NULL),
			 0);
	/* Bound, so that work in it needs no bind. */
	assert_int_equal(svm_device_fill(device, managed, 5, 2 * FIXTURE_BLOCK, NULL, NULL), 0);
	return managed;
}

#endif
