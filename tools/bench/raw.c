// SPDX-License-Identifier: MIT
/*
 * The least that a userspace pager can do: one thread, one userfaultfd; poll, read one message, resolve one
 * page, again. poll() because a userfaultfd beside which anything else is to be heard is non-blocking.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux 6.8, include/uapi/linux/userfaultfd.h; older headers lack them. */
#define RAW_FEATURE_MOVE (UINT64_C(1) << 16)
struct raw_move {
	uint64_t dst;
	uint64_t src;
	uint64_t len;
	uint64_t mode;
	int64_t move;
};
#define RAW_MOVE _IOWR(UFFDIO, 0x05, struct raw_move)

struct bench_raw {
	enum bench_storage storage;
	uint64_t size;
	char *user;  /* registered */
	char *store; /* stash, or other view of the memfd */
	int memfd;
	int uffd;
	int stop_fd;
	bool has_move;
	uint64_t spin_ns; /* how long to look for the next fault before sleeping */
	int cpu;
	atomic_bool stop;
	pthread_t thread;
};

static void resolve(struct bench_raw *raw, uint64_t addr)
{
	uint64_t page = addr & ~(PAGE - 1);
	uint64_t store = (uintptr_t)raw->store + (page - (uintptr_t)raw->user);
	int ret;

	if (raw->storage == BENCH_SHARED) {
		struct uffdio_continue c = { .range = { page, PAGE } };

		ret = ioctl(raw->uffd, UFFDIO_CONTINUE, &c);
	} else if (raw->has_move) {
		struct raw_move m = { .dst = page, .src = store, .len = PAGE };

		do {
			ret = ioctl(raw->uffd, RAW_MOVE, &m);
		} while (ret < 0 && errno == EAGAIN);
	} else {
		struct uffdio_copy c = { .dst = page, .src = store, .len = PAGE };

		ret = ioctl(raw->uffd, UFFDIO_COPY, &c);
	}
	bench_check_errno(ret, "raw loop: cannot resolve a fault");
}

static void *serve(void *arg)
{
	struct bench_raw *raw = arg;
	struct pollfd fds[2] = { { .fd = raw->uffd, .events = POLLIN },
				 { .fd = raw->stop_fd, .events = POLLIN } };

	uint64_t spin_end = 0;

	if (raw->cpu >= 0)
		bench_bind(raw->cpu);
	while (!atomic_load_explicit(&raw->stop, memory_order_relaxed)) {
		struct uffd_msg message;

		if (!raw->spin_ns || bench_now() >= spin_end)
			(void)poll(fds, 2, -1);
		if (read(raw->uffd, &message, sizeof(message)) == (ssize_t)sizeof(message)) {
			resolve(raw, message.arg.pagefault.address);
			if (raw->spin_ns)
				spin_end = bench_now() + raw->spin_ns;
		}
	}
	return NULL;
}

static int open_uffd(uint64_t features, int flags)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);

	if (fd < 0)
		return -errno;
	if (ioctl(fd, UFFDIO_API, &api) == 0)
		return fd;
	close(fd);
	return -EINVAL;
}

/* With the rights that the process has. */
static int open_any(uint64_t features)
{
	int fd = open_uffd(features, 0);

	return fd == -EPERM ? open_uffd(features, UFFD_USER_MODE_ONLY) : fd;
}

struct bench_raw *bench_raw_start(enum bench_storage storage, uint64_t size, int cpu,
				  uint32_t spin_us)
{
	struct bench_raw *raw = calloc(1, sizeof(*raw));
	struct uffdio_register reg;

	if (!raw)
		bench_fail(ENOMEM, "raw loop");
	*raw = (struct bench_raw){ .storage = storage,
				   .size = size,
				   .memfd = -1,
				   .cpu = cpu,
				   .spin_ns = (uint64_t)spin_us * 1000u };
	if (storage == BENCH_SHARED) {
		raw->store = bench_map_memfd(size, &raw->memfd);
		raw->user = bench_map_fd(raw->memfd, size);
		raw->uffd = open_any(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM);
	} else {
		raw->store = bench_map(size, true);
		raw->user = bench_map(size, true);
		raw->uffd = open_any(RAW_FEATURE_MOVE);
		raw->has_move = raw->uffd >= 0;
		if (!raw->has_move)
			raw->uffd = open_any(0);
	}
	bench_check(raw->uffd, "raw loop: userfaultfd");
	bench_touch(raw->store, size);
	reg = (struct uffdio_register){
		.range = { (uintptr_t)raw->user, size },
		.mode = UFFDIO_REGISTER_MODE_MISSING |
			(storage == BENCH_SHARED ? UFFDIO_REGISTER_MODE_MINOR : 0),
	};
	bench_check_errno(ioctl(raw->uffd, UFFDIO_REGISTER, &reg), "raw loop: register");
	raw->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bench_check_errno(raw->stop_fd, "eventfd");
	bench_check(-pthread_create(&raw->thread, NULL, serve, raw), "raw loop: thread");
	return raw;
}

char *bench_raw_memory(const struct bench_raw *raw)
{
	return raw->user;
}

void bench_raw_stop(struct bench_raw *raw)
{
	uint64_t one = 1;

	atomic_store(&raw->stop, true);
	bench_check_errno(write(raw->stop_fd, &one, sizeof(one)), "eventfd");
	bench_check(-pthread_join(raw->thread, NULL), "raw loop: thread");
	close(raw->stop_fd);
	close(raw->uffd);
	bench_unmap(raw->user, raw->size);
	bench_unmap(raw->store, raw->size);
	if (raw->memfd >= 0)
		close(raw->memfd);
	free(raw);
}
