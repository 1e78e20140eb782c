/* SPDX-License-Identifier: MIT */
/*
 * Shown here: system calls and io_uring may read and write managed memory wherever its bytes are, as
 * they may any memory; where the kernel serves no faults of its own they answer EFAULT instead, and
 * svm_host_acquire() is the way. Pages that the kernel has pinned stay where DMA finds them.
 */
#include "process.h"
#include "fixture.h"
#include <liburing.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/utsname.h>

#define KIB  UINT64_C(1024)
#define MIB  (UINT64_C(1) << 20)
#define PAGE UINT64_C(4096)
#define SIZE (256 * KIB)

/* Where the bytes are when the call comes. */
enum place {
	NOWHERE, /* never touched */
	ON_HOST, /* mapped for the CPU */
	ON_DEVICE,
	ON_BOTH, /* duplicated: the CPU's mapping is read-only */
	HALF,	 /* every other 64 KiB on the device */
	N_PLACES,
};

/* How the kernel gets at them. */
enum way {
	WAY_READ,
	WAY_READV,
	WAY_PREAD, /* in the middle of the page */
	WAY_URING,
	WAY_URING_FIXED,
	N_WAYS,
};

static const char *const place_names[] = { "nowhere", "host", "device", "both", "half" };
static const char *const way_names[] = { "read", "readv", "pread", "io_uring",
					 "registered buffer" };

static int open_file(uint64_t pattern)
{
	uint8_t *map;
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)SIZE), 0);
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	fixture_fill(map, SIZE, pattern);
	munmap(map, SIZE);
	return fd;
}

static void check_file(int fd, uint64_t pattern)
{
	uint8_t *map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	fixture_check(map, SIZE, pattern);
	munmap(map, SIZE);
}

static uint8_t *make_memory(struct svm_fixture *f, struct svm_device *device, enum place place)
{
	struct svm_advice advice = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };
	uint8_t *data = fixture_alloc(f, SIZE, 0);

	if (place == NOWHERE)
		return data;
	fixture_fill(data, SIZE, 1);
	if (place == ON_BOTH) {
		assert_int_equal(svm_advise(f->space, data, SIZE, &advice, 1, NULL), 0);
		fixture_check_on(f, device, data, SIZE, 1);
	}
	if (place == ON_DEVICE)
		fixture_fill_on(f, device, data, SIZE, 1);
	for (uint64_t at = 0; place == HALF && at < SIZE; at += 128 * KIB)
		assert_int_equal(svm_prefetch(f->space, data + at, 64 * KIB,
					      svm_device_location(device), NULL),
				 0);
	return data;
}

static int ring_call(struct io_uring *ring, bool out, bool fixed, int fd, void *data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	int ret;

	if (fixed && out)
		io_uring_prep_write_fixed(sqe, fd, data, SIZE, 0, 0);
	else if (fixed)
		io_uring_prep_read_fixed(sqe, fd, data, SIZE, 0, 0);
	else if (out)
		io_uring_prep_write(sqe, fd, data, SIZE, 0);
	else
		io_uring_prep_read(sqe, fd, data, SIZE, 0);
	assert_int_equal(io_uring_submit(ring), 1);
	do
		ret = io_uring_wait_cqe(ring, &cqe);
	while (ret == -EINTR);
	assert_int_equal(ret, 0);
	ret = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return ret;
}

/* The file's bytes into the memory (or the reverse) in one call. Returns bytes, or a negative errno. */
static ssize_t transfer(struct io_uring *ring, enum way way, bool out, int fd, uint8_t *data)
{
	struct iovec parts[4];
	struct iovec whole = { data, SIZE };
	ssize_t n = 0;
	ssize_t more;
	int ret;

	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	for (unsigned int i = 0; i < 4; i++)
		parts[i] = (struct iovec){ data + i * SIZE / 4, SIZE / 4 };
	switch (way) {
	case WAY_READ:
		n = out ? write(fd, data, SIZE) : read(fd, data, SIZE);
		break;
	case WAY_READV:
		n = out ? writev(fd, parts, 4) : readv(fd, parts, 4);
		break;
	case WAY_PREAD:
		/* Two calls that meet in the middle of a page. */
		n = out ? pwrite(fd, data, SIZE / 2 + 100, 0) : pread(fd, data, SIZE / 2 + 100, 0);
		if (n < 0)
			break;
		assert_int_equal(n, SIZE / 2 + 100);
		more = out ? pwrite(fd, data + n, SIZE - (size_t)n, n)
			   : pread(fd, data + n, SIZE - (size_t)n, n);
		n = more < 0 ? more : n + more;
		break;
	case WAY_URING:
		return ring_call(ring, out, false, fd, data);
	case WAY_URING_FIXED:
		ret = io_uring_register_buffers(ring, &whole, 1);
		if (ret < 0)
			return ret;
		n = ring_call(ring, out, true, fd, data);
		assert_int_equal(io_uring_unregister_buffers(ring), 0);
		return n;
	case N_WAYS:
		break;
	}
	return n < 0 ? -errno : n;
}

/* Does the call meet a page that it cannot touch without the library? */
static bool needs_service(struct svm_fixture *f, const uint8_t *data, bool into_memory)
{
	for (uint64_t at = 0; at < SIZE; at += PAGE) {
		uint32_t flags = fixture_page(f, data + at).flags;

		if (!(flags & SVM_PAGE_CPU_READ) || (into_memory && !(flags & SVM_PAGE_CPU_WRITE)))
			return true;
	}
	return false;
}

/* Linux 6.1 pins a buffer that is registered without being able to wait for a page (io_pin_pages() in io_uring/rsrc.c); 6.12
 * waits. Between them either may be true. */
static bool registering_waits(void)
{
	struct utsname name;
	unsigned int major;
	unsigned int minor;

	assert_int_equal(uname(&name), 0);
	assert_int_equal(sscanf(name.release, "%u.%u", &major, &minor), 2);
	return major > 6 || (major == 6 && minor >= 12);
}

static void each_way_and_place(struct svm_fixture *f)
{
	struct svm_device *device;
	struct io_uring ring;
	bool has_ring = io_uring_queue_init(4, &ring, 0) == 0;
	bool serves;

	if (!has_ring)
		print_message("io_uring is denied here: its ways are left out\n");
	fixture_space(f, NULL);
	serves = fixture_space_has(f, SVM_SPACE_CAP_KERNEL_FAULTS);
	device = fixture_open(f, "soft:memory=16M");
	for (unsigned int i = 0; i < 2u * N_WAYS * N_PLACES; i++) {
		enum place place = i % N_PLACES;
		enum way way = i / N_PLACES % N_WAYS;
		bool write = i >= N_WAYS * N_PLACES;
		/* Registering a buffer wants to be able to write it. */
		bool into = !write || way == WAY_URING_FIXED;
		int fd = open_file(2);
		bool needs;
		uint8_t *data;
		ssize_t n;

		if (way >= WAY_URING && !has_ring) {
			close(fd);
			continue;
		}
		data = make_memory(f, device, place);
		needs = needs_service(f, data, into);
		n = transfer(&ring, way, write, fd, data);
		if (needs &&
		    (!serves || (way == WAY_URING_FIXED && n == -EFAULT && !registering_waits()))) {
			/* Up to the page that is missing, as for any bad address (read(2), write(2)). */
			if (n >= (ssize_t)SIZE)
				fail_msg("%s %s: not refused", way_names[way], place_names[place]);
			if (n < 0)
				assert_int_equal(n, -EFAULT);
			assert_int_equal(svm_host_acquire(f->space, data, SIZE,
							  into ? SVM_ACCESS_WRITE : SVM_ACCESS_READ,
							  0),
					 0);
			n = transfer(&ring, way, write, fd, data);
			assert_int_equal(svm_host_release(f->space, data, SIZE,
							  into ? SVM_ACCESS_WRITE
							       : SVM_ACCESS_READ),
					 0);
		}
		if (n != (ssize_t)SIZE)
			fail_msg("%s %s %s: %zd", way_names[way], write ? "out of" : "into",
				 place_names[place], n);
		if (write && place == NOWHERE) {
			uint8_t *map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);

			fixture_check_zero(map, SIZE);
			munmap(map, SIZE);
		} else if (write) {
			check_file(fd, 1);
			fixture_check_on(f, device, data, SIZE, 1);
			fixture_check(data, SIZE, 1);
		} else {
			fixture_check(data, SIZE, 2);
			fixture_check_on(f, device, data, SIZE, 2);
		}
		fixture_free(f, data);
		close(fd);
	}
	if (has_ring)
		io_uring_queue_exit(&ring);
}

/* A system call on memory that a device holds waits for its release, as any touch does. */
struct reader {
	int fd;
	uint8_t *data;
	ssize_t n;
};

static void *write_out(void *arg)
{
	struct reader *r = arg;

	r->n = pwrite(r->fd, r->data, SIZE, 0);
	return NULL;
}

static void held_by_a_device(struct svm_fixture *f)
{
	struct svm_access_range range;
	struct svm_access *access;
	struct svm_device *device;
	struct reader reader;
	pthread_t thread;
	uint64_t faults;

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M:faults=off");
	reader.fd = open_file(9);
	reader.data = make_memory(f, device, ON_HOST);
	range = (struct svm_access_range){ reader.data, SIZE, SVM_ACCESS_WRITE, 0 };
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, NULL), 0);
	if (!fixture_space_has(f, SVM_SPACE_CAP_KERNEL_FAULTS)) {
		write_out(&reader);
		assert_true(reader.n < 0);
		assert_int_equal(svm_host_acquire(f->space, reader.data, SIZE, SVM_ACCESS_READ,
						  SVM_HOST_TRY),
				 -EBUSY);
		assert_int_equal(svm_release(access, NULL), 0);
	} else {
		faults = fixture_stats(f).cpu_faults;
		assert_int_equal(pthread_create(&thread, NULL, write_out, &reader), 0);
		while (fixture_stats(f).cpu_faults == faults)
			sched_yield();
		check_file(reader.fd, 9);
		assert_int_equal(svm_release(access, NULL), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(reader.n, SIZE);
		check_file(reader.fd, 1);
	}
	close(reader.fd);
}

/* A registered buffer is pinned memory: the kernel writes to those pages however much later. */
static void pinned_pages_stay(struct svm_fixture *f)
{
	struct svm_prefetch_result result;
	struct svm_location host = { SVM_LOCATION_HOST, 0 };
	struct svm_device *device;
	struct io_uring ring;
	struct iovec whole;
	uint8_t *data;
	int fd;

	if (io_uring_queue_init(4, &ring, 0) < 0) {
		print_message("io_uring is denied here\n");
		skip();
	}
	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	for (unsigned int with_pin = 0; with_pin < 2; with_pin++) {
		data = make_memory(f, device, ON_HOST);
		/* Without svm_pin() the kernel alone knows, and only MOVE asks it. */
		if (!with_pin && !(fixture_space_has(f, SVM_SPACE_CAP_MOVE) &&
				   !(fixture_page(f, data).flags & SVM_PAGE_SHARED))) {
			fixture_free(f, data);
			continue;
		}
		fd = open_file(5);
		whole = (struct iovec){ data, SIZE };
		if (with_pin)
			assert_int_equal(svm_pin(f->space, data, SIZE, host), 0);
		assert_int_equal(io_uring_register_buffers(&ring, &whole, 1), 0);

		/* It says what it could not move, and moves none of it. */
		(void)svm_prefetch(f->space, data, SIZE, svm_device_location(device), &result);
		assert_int_equal(result.bytes_moved + result.already_there + result.skipped_pinned +
					 result.failed,
				 SIZE);
		if (with_pin) {
			assert_int_equal(result.skipped_pinned, SIZE);
			assert_int_equal(result.error, 0);
		}
		/* DMA into the pinned pages is seen by all, whatever was tried. */
		assert_int_equal(ring_call(&ring, false, true, fd, data), SIZE);
		fixture_check(data, SIZE, 5);
		assert_int_equal(io_uring_unregister_buffers(&ring), 0);
		if (with_pin)
			assert_int_equal(svm_unpin(f->space, data, SIZE, host), 0);
		fixture_check_on(f, device, data, SIZE, 5);
		fixture_check(data, SIZE, 5);
		close(fd);
		fixture_free(f, data);
	}
	io_uring_queue_exit(&ring);
}

/* Host acquire keeps memory usable while devices want it: they wait, and find what was written. */
static void host_acquire_lasts(struct svm_fixture *f)
{
	struct svm_device *device;
	struct svm_fence *done;
	struct svm_fixture_kernel kernel = { .pattern = 2 };
	uint8_t *data;
	int fd;

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	data = make_memory(f, device, ON_DEVICE);
	kernel.addr = (uint64_t)(uintptr_t)data;
	kernel.wrong = f->scratch;
	fd = open_file(2);
	assert_int_equal(svm_host_acquire(f->space, data, SIZE, SVM_ACCESS_WRITE, 0), 0);
	if (!fixture_has(device, SVM_CAP_LAUNCH)) {
		/* Nothing of it touches memory that it has not acquired, and it cannot have this. */
		assert_int_equal(svm_device_fill(device, data, 1, SIZE, NULL, NULL), -EBUSY);
		assert_int_equal(read(fd, data, SIZE), SIZE);
		assert_int_equal(svm_host_release(f->space, data, SIZE, SVM_ACCESS_WRITE), 0);
		fixture_check_on(f, device, data, SIZE, 2);
		close(fd);
		return;
	}
	assert_int_equal(svm_soft_launch(device, fixture_kernel_check, &kernel, sizeof(kernel),
					 SIZE / PAGE, NULL, &done),
			 0);
	assert_int_equal(svm_fence_wait(done, 20000000), -ETIMEDOUT);
	assert_int_equal(read(fd, data, SIZE), SIZE);
	assert_int_equal(svm_host_release(f->space, data, SIZE, SVM_ACCESS_WRITE), 0);
	assert_int_equal(svm_fence_wait(done, -1), 0);
	assert_int_equal(*kernel.wrong, 0);
	svm_fence_unref(done);
	close(fd);
}

/* What is lost cannot be written out as if it were there. */
static void lost_pages(struct svm_fixture *f)
{
	struct svm_device *device;
	uint8_t *data;
	ssize_t n;
	int fd;

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	data = make_memory(f, device, ON_DEVICE);
	fd = open_file(9);
	fixture_kill(f, device);
	n = pwrite(fd, data, SIZE, 0);
	assert_int_equal(n, -1);
	assert_true(errno == EFAULT || errno == EHWPOISON || errno == EIO);
	check_file(fd, 9);
	assert_int_equal(svm_discard(f->space, data, SIZE, 0), 0);
	assert_int_equal(svm_host_acquire(f->space, data, SIZE, SVM_ACCESS_WRITE, 0), 0);
	assert_int_equal(pread(fd, data, SIZE, 0), SIZE);
	assert_int_equal(svm_host_release(f->space, data, SIZE, SVM_ACCESS_WRITE), 0);
	fixture_check(data, SIZE, 9);
	close(fd);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(each_way_and_place, FIXTURE_VARIANTS),
		FIXTURE_CASE(held_by_a_device, FIXTURE_VARIANTS),
		FIXTURE_CASE(pinned_pages_stay, FIXTURE_VARIANTS),
		FIXTURE_CASE(host_acquire_lasts, FIXTURE_VARIANTS),
		FIXTURE_CASE(lost_pages, FIXTURE_VARIANTS),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
