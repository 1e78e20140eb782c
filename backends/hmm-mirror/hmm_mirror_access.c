/* SPDX-License-Identifier: MIT */
/* The hmm-mirror backend's ways to memory: migrations, looks, and the engine's reads and writes. */
#include "hmm_mirror_internal.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define PAGE ((uint64_t)SVM_PAGE_SIZE)
/* A page that others pull away again between its arrival and our write: so often is it asked for. */
#define TRIES 10000u

/* One for all devices of the process: a migration that one tries takes entries from another's mirror. */
static pthread_mutex_t driver_lock = PTHREAD_MUTEX_INITIALIZER;

static void *ptr_of(uint64_t addr)
{
	return (void *)(uintptr_t)addr; // NOLINT(performance-no-int-to-ptr): addresses are integers
}

static int command(struct svm_hmm_device *dev, unsigned long request, uint64_t addr, size_t n_pages,
		   void *buffer)
{
	int r;

	do {
		struct svm_hmm_cmd cmd = { .addr = addr,
					   .ptr = (uintptr_t)buffer,
					   .n_pages = n_pages };

		r = ioctl(dev->fd, request, &cmd) < 0 ? -errno : 0;
		/* EBUSY: mappings changed for a whole second (mm/hmm.c); they will calm down. */
	} while (r == -EINTR || r == -EAGAIN || (r == -EBUSY && !atomic_load(&dev->is_dead)));
	return r;
}

/* ---- Places ----------------------------------------------------------------------------------- */

int svm_hmm_snapshot(struct svm_hmm_device *dev, uint64_t addr, size_t n_pages, uint8_t *ret_prot)
{
	return command(dev, SVM_HMM_SNAPSHOT, addr, n_pages, ret_prot);
}

static bool is_own(uint8_t prot)
{
	uint8_t place = prot & SVM_HMM_PROT_PLACE;

	return prot != SVM_HMM_PROT_ERROR &&
	       (place == SVM_HMM_PLACE_PRIVATE || place == SVM_HMM_PLACE_COHERENT);
}

static bool is_writable(uint8_t prot)
{
	return prot != SVM_HMM_PROT_ERROR && (prot & SVM_HMM_PROT_ACCESS) == SVM_HMM_PROT_WRITE;
}

/* LOCKING: driver_lock. What cannot move stays, and is no error; the rest of the span moves all the same. */
static int migrate(struct svm_hmm_device *dev, uint64_t addr, size_t n_pages, bool to_device)
{
	int r = command(dev, to_device ? SVM_HMM_MIGRATE_TO_DEV : SVM_HMM_MIGRATE_TO_SYS, addr,
			n_pages, dev->scratch);
	int second;

	/* Some page did not come: of a file, or there was no memory. */
	if (r == 0 || r == -ENOENT)
		return 0;
	if (r != -EINVAL || n_pages == 1)
		return r == -EINVAL ? 0 : r;
	/* A hole, or a mapping that the driver does not migrate, ends the walk: go around it. */
	r = migrate(dev, addr, n_pages / 2u, to_device);
	second = migrate(dev, addr + n_pages / 2u * PAGE, n_pages - n_pages / 2u, to_device);
	return r ? r : second;
}

int svm_hmm_migrate(struct svm_hmm_device *dev, uint64_t addr, size_t n_pages, bool to_device)
{
	int r = 0;

	pthread_mutex_lock(&driver_lock);
	while (n_pages && r == 0) {
		size_t n = n_pages < SVM_NATIVE_BATCH_PAGES ? n_pages : SVM_NATIVE_BATCH_PAGES;

		r = migrate(dev, addr, n, to_device);
		addr += n * PAGE;
		n_pages -= n;
	}
	pthread_mutex_unlock(&driver_lock);
	return r;
}

int svm_hmm_exclusive(struct svm_hmm_device *dev, uint64_t addr)
{
	uint8_t prot = 0;
	int r;

	pthread_mutex_lock(&driver_lock);
	r = svm_hmm_snapshot(dev, addr, 1, &prot);
	/* On a page of its own memory the device needs nobody's leave. */
	if (r == 0 && !is_own(prot))
		r = command(dev, SVM_HMM_EXCLUSIVE, addr, 1, dev->scratch);
	pthread_mutex_unlock(&driver_lock);
	return r;
}

/* LOCKING: driver_lock. Pages that are in device memory may be touched after this (see hmm_mirror_internal.h). */
static int complete_mirror(struct svm_hmm_device *dev, uint64_t addr, size_t n_pages)
{
	int r = command(dev, SVM_HMM_MIGRATE_TO_DEV, addr, n_pages, dev->scratch);

	if (r == 0)
		return 0;
	return command(dev, SVM_HMM_MIGRATE_TO_SYS, addr, n_pages, dev->scratch);
}

/* ---- The engine ------------------------------------------------------------------------------- */

/* LOCKING: driver_lock. */
static int transfer(struct svm_hmm_device *dev, uint64_t addr, size_t n_pages, uint8_t *buffer,
		    bool write)
{
	int r;

	if (!write)
		return command(dev, SVM_HMM_READ, addr, n_pages, buffer);
	pthread_mutex_lock(&dev->write_lock);
	r = atomic_load(&dev->is_dead) ? -ENODEV
				       : command(dev, SVM_HMM_WRITE, addr, n_pages, buffer);
	pthread_mutex_unlock(&dev->write_lock);
	return r;
}

/* What one look at pages tells of the first ones, all alike. */
struct run {
	size_t n_pages;
	bool own;      /* in the device's own memory */
	bool writable; /* mapped so that a write waits for nobody */
};

/* LOCKING: driver_lock. */
static int look_at(struct svm_hmm_device *dev, uint64_t addr, size_t n_pages, struct run *ret)
{
	uint8_t prot[SVM_HMM_SLICE];
	int r = svm_hmm_snapshot(dev, addr, n_pages, prot);
	size_t n = 1;

	if (r < 0)
		return r;
	while (n < n_pages && is_own(prot[n]) == is_own(prot[0]) &&
	       is_writable(prot[n]) == is_writable(prot[0]))
		n++;
	*ret = (struct run){ n, is_own(prot[0]), is_writable(prot[0]) };
	return 0;
}

/*
 * Bring pages that userfaultfd may guard. No lock is held: this waits for whoever serves them. The driver's locked
 * walk is kept from such pages, as it fails there, and with CONFIG_DEBUG_VM fills the kernel's log. Nor has it an
 * unlocked write: what came read-only is asked for as a write of the process.
 */
static int fault_in(struct svm_hmm_device *dev, uint64_t addr, size_t n_pages, uint8_t *buffer,
		    bool write, bool *ret_refused)
{
	int r = command(dev, SVM_HMM_READ_UNLOCKED, addr, n_pages, buffer);

	if (r < 0 || !write)
		return r;
	r = madvise(ptr_of(addr), n_pages * PAGE, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
	/* The address space is changing, or a signal came: the next look finds out. */
	*ret_refused = r < 0 && r != -EAGAIN && r != -EINTR;
	return 0;
}

/* Read or write the first pages, which are alike. */
static int transfer_run(struct svm_hmm_device *dev, uint64_t addr, size_t n_pages, uint8_t *buffer,
			bool write, size_t *ret_done)
{
	bool refused = false;
	struct run run;
	int r;

	for (unsigned int try = 0; try < TRIES; try++) {
		pthread_mutex_lock(&driver_lock);
		r = look_at(dev, addr, n_pages, &run);
		if (r == 0 && run.own)
			r = complete_mirror(dev, addr, run.n_pages);
		/* What the process itself may not write the driver refuses, and says why. */
		if (r < 0 || run.own || !dev->has_uffd || (write && (run.writable || refused))) {
			r = r ? r : transfer(dev, addr, run.n_pages, buffer, write);
			pthread_mutex_unlock(&driver_lock);
			*ret_done = run.n_pages;
			/* Taken away since we looked: once more. */
			if (r == -EFAULT && dev->has_uffd && !refused)
				continue;
			return r;
		}
		pthread_mutex_unlock(&driver_lock);
		*ret_done = run.n_pages;
		r = fault_in(dev, addr, run.n_pages, write ? dev->pages : buffer, write, &refused);
		if (r < 0 || !write)
			return r;
		if (atomic_load(&dev->is_dead))
			return -ENODEV;
	}
	return -EBUSY;
}

static int transfer_pages(struct svm_hmm_device *dev, uint64_t addr, size_t n_pages,
			  uint8_t *buffer, bool write)
{
	size_t n;
	int r = 0;

	for (size_t i = 0; i < n_pages && r == 0; i += n)
		r = transfer_run(dev, addr + i * PAGE, n_pages - i, buffer + i * PAGE, write, &n);
	return r;
}

/* The driver writes whole pages, which would undo what the CPU writes to their other bytes at that time: pages that
 * are written in part are the CPU's to write. */
static int write_part(struct svm_hmm_device *dev, uint64_t addr, uint64_t size, uint8_t *buffer)
{
	struct iovec from = { buffer, size };
	struct iovec to = { ptr_of(addr), size };
	ssize_t n;

	do {
		if (atomic_load(&dev->is_dead))
			return -ENODEV;
		n = process_vm_writev(getpid(), &from, 1, &to, 1, 0);
	} while (n < 0 && (errno == EINTR || errno == EAGAIN));
	if (n < 0)
		return errno == EPERM ? -EFAULT : -errno;
	return n == (ssize_t)size ? 0 : -EFAULT;
}

static int write_bytes(struct svm_hmm_device *dev, uint64_t addr, uint64_t size, uint8_t *buffer)
{
	uint64_t head = (PAGE - addr % PAGE) % PAGE;
	uint64_t body;
	int r = 0;

	head = head < size ? head : size;
	if (head)
		r = write_part(dev, addr, head, buffer);
	body = (size - head) / PAGE * PAGE;
	if (r == 0 && body)
		r = transfer_pages(dev, addr + head, body / PAGE, buffer + head, true);
	if (r == 0 && head + body < size)
		r = write_part(dev, addr + head + body, size - head - body, buffer + head + body);
	return r;
}

int svm_hmm_do_work(struct svm_hmm_device *dev, const struct svm_work *work)
{
	/* One page less than the buffer holds, so that any alignment fits. */
	const uint64_t most = (SVM_HMM_SLICE - 1u) * PAGE;
	int r = 0;

	if (work->is_fill)
		memset(dev->buffer, (int)work->value, most);
	for (uint64_t done = 0, size; done < work->size && r == 0; done += size) {
		uint64_t src = work->src + done;
		uint64_t first = src - src % PAGE;

		size = work->size - done < most ? work->size - done : most;
		if (!work->is_fill)
			r = transfer_pages(dev, first, (src % PAGE + size + PAGE - 1u) / PAGE,
					   dev->buffer, false);
		if (r == 0)
			r = write_bytes(dev, work->dst + done, size,
					dev->buffer + (work->is_fill ? 0 : src % PAGE));
	}
	return r;
}
