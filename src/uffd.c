/* SPDX-License-Identifier: MIT */
/* Negotiation and the resolve ioctls of one userfaultfd. */
#include "uffd.h"
#include "sys.h"
#include "uffd_uapi.h"
#include "util.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#define PAGE UINT64_C(4096)

/*
 * How often a call that made no progress is tried again. The kernel's EAGAIN is mostly over by the
 * next try (a page table entry changed under it), but two kinds last: a huge page that cannot be
 * split because a piece of it is pinned, and, on a userfaultfd with events, an UNMAP, REMOVE or
 * REMAP event that nobody has read yet. The reader of the latter may be the caller itself, so the
 * tries must end.
 */
#define TRIES 256u

/* Not a bit of the kernel's: UFFDIO_CONTINUE has its write-protect mode, found by trying. */
#define FEATURE_CONTINUE_WP (UINT64_C(1) << 63)

#define FEATURES_NEEDED                                                           \
	((uint64_t)(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM | \
		    UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM))

static int open_device(int flags)
{
	int dev = svm_sys_open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd;

	if (dev < 0)
		return dev;
	/* The flags are the argument itself. */
	fd = svm_sys->ioctl(dev, USERFAULTFD_IOC_NEW, svm_ptr((uint64_t)flags));
	svm_sys->close(dev);
	return fd;
}

/* Is it worth trying the next way? Out of files or memory is not: it would fail as well. */
static bool is_denied(int error)
{
	return error != -EMFILE && error != -ENFILE && error != -ENOMEM;
}

static int open_fd(uint32_t flags, bool *ret_kernel_faults)
{
	int fd;

	if (!(flags & SVM_UFFD_USER_MODE_ONLY)) {
		*ret_kernel_faults = true;
		fd = open_device(O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0 || !is_denied(fd))
			return fd;
		fd = svm_sys->userfaultfd(O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0 || !is_denied(fd))
			return fd;
	}
	*ret_kernel_faults = false;
	return svm_sys->userfaultfd(O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
}

static int handshake(int fd, uint64_t features, uint64_t *ret_available)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int ret = svm_sys->ioctl(fd, UFFDIO_API, &api);

	if (ret < 0)
		return ret;
	*ret_available = api.features;
	return 0;
}

/* What the kernel has: asked on a userfaultfd of its own, because the first handshake is final. */
static int probe_features(uint32_t flags, uint64_t *ret_available)
{
	bool kernel_faults;
	int fd = open_fd(flags, &kernel_faults);
	int ret;

	if (fd < 0)
		return fd;
	ret = handshake(fd, 0, ret_available);
	svm_sys->close(fd);
	return ret;
}

static uint64_t choose_features(uint64_t available, uint32_t flags)
{
	uint64_t wanted = FEATURES_NEEDED | UFFD_FEATURE_EXACT_ADDRESS | SVM_UFFD_FEATURE_POISON |
			  SVM_UFFD_FEATURE_MOVE;

	if (flags & SVM_UFFD_NO_MOVE)
		wanted &= ~SVM_UFFD_FEATURE_MOVE;
	if (flags & SVM_UFFD_NO_POISON)
		wanted &= ~SVM_UFFD_FEATURE_POISON;
	wanted &= available;
	/*
	 * With REMOVE events MADV_DONTNEED blocks until the event is read, even in the thread that
	 * would read it; without MOVE it is our only way to take pages away.
	 */
	if (flags & SVM_UFFD_EVENTS)
		wanted |= available &
			  (wanted & SVM_UFFD_FEATURE_MOVE
				   ? UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE |
					     UFFD_FEATURE_EVENT_REMAP
				   : UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMAP);
	return wanted;
}

/*
 * The kernel checks the mode bits before it looks for the memory: on memory that is not registered
 * EINVAL means an unknown mode, and ENOENT a known one (fs/userfaultfd.c, userfaultfd_continue()).
 */
static bool probe_continue_wp(int fd)
{
	static const char probe;
	struct uffdio_continue arg = {
		.range = { .start = svm_align_down(svm_addr(&probe), PAGE), .len = PAGE },
		.mode = SVM_UFFDIO_CONTINUE_MODE_WP,
	};

	return svm_sys->ioctl(fd, UFFDIO_CONTINUE, &arg) != -EINVAL;
}

static int open_error(int error, const struct svm_log *log)
{
	switch (error) {
	case -EPERM:
	case -EACCES:
		svm_error(log, "userfaultfd: all ways denied: give access to /dev/userfaultfd or "
			       "see sysctl vm.unprivileged_userfaultfd");
		return -EPERM;
	case -ENOSYS:
	case -EINVAL:
		svm_error(log, "userfaultfd: the kernel has none");
		return -EOPNOTSUPP;
	default:
		svm_error(log, "userfaultfd: cannot be opened: error %d", -error);
		return error;
	}
}

int svm_uffd_open(struct svm_uffd *uffd, uint32_t flags, const struct svm_log *log)
{
	uint64_t available;
	uint64_t features;
	bool kernel_faults;
	int fd;
	int ret;

	uffd->fd = -1;
	uffd->features = 0;
	uffd->kernel_faults = false;

	ret = probe_features(flags, &available);
	if (ret < 0)
		return open_error(ret, log);
	if ((available & FEATURES_NEEDED) != FEATURES_NEEDED) {
		svm_error(log, "userfaultfd: the kernel lacks features 0x%llx",
			  (unsigned long long)(FEATURES_NEEDED & ~available));
		return -EOPNOTSUPP;
	}
	features = choose_features(available, flags);
	/* Without an answer it may. */
	if ((features & SVM_UFFD_FEATURE_MOVE) && svm_sys->move_spins() != 0) {
		svm_info(
			log,
			"userfaultfd: UFFDIO_MOVE of this kernel may spin for ever, doing without");
		features = choose_features(available, flags | SVM_UFFD_NO_MOVE);
	}
	fd = open_fd(flags, &kernel_faults);
	if (fd < 0)
		return open_error(fd, log);
	ret = handshake(fd, features, &available);
	if (ret < 0) {
		svm_sys->close(fd);
		return open_error(ret, log);
	}

	if (probe_continue_wp(fd))
		features |= FEATURE_CONTINUE_WP;
	uffd->fd = fd;
	uffd->features = features;
	uffd->kernel_faults = kernel_faults;
	return 0;
}

void svm_uffd_close(struct svm_uffd *uffd)
{
	if (uffd->fd >= 0)
		svm_sys->close(uffd->fd);
	uffd->fd = -1;
	uffd->features = 0;
}

bool svm_uffd_has_move(const struct svm_uffd *uffd)
{
	return uffd->features & SVM_UFFD_FEATURE_MOVE;
}

bool svm_uffd_has_poison(const struct svm_uffd *uffd)
{
	return uffd->features & SVM_UFFD_FEATURE_POISON;
}

bool svm_uffd_has_remove_events(const struct svm_uffd *uffd)
{
	return uffd->features & UFFD_FEATURE_EVENT_REMOVE;
}

bool svm_uffd_has_continue_wp(const struct svm_uffd *uffd)
{
	return uffd->features & FEATURE_CONTINUE_WP;
}

int svm_uffd_register(const struct svm_uffd *uffd, uint64_t addr, uint64_t size, uint32_t modes)
{
	struct uffdio_register arg = { .range = { .start = addr, .len = size } };

	if (modes & SVM_UFFD_MISSING)
		arg.mode |= UFFDIO_REGISTER_MODE_MISSING;
	if (modes & SVM_UFFD_WP)
		arg.mode |= UFFDIO_REGISTER_MODE_WP;
	if (modes & SVM_UFFD_MINOR)
		arg.mode |= UFFDIO_REGISTER_MODE_MINOR;
	return svm_sys->ioctl(uffd->fd, UFFDIO_REGISTER, &arg);
}

int svm_uffd_unregister(const struct svm_uffd *uffd, uint64_t addr, uint64_t size)
{
	struct uffdio_range arg = { .start = addr, .len = size };

	return svm_sys->ioctl(uffd->fd, UFFDIO_UNREGISTER, &arg);
}

/* The argument of the resolve calls, which come in two shapes: (dst, src, len, mode, result) and
 * (start, len, mode, result). */
union resolve_arg {
	struct {
		uint64_t dst;
		uint64_t src;
		uint64_t len;
		uint64_t mode;
		int64_t result;
	} two;
	struct {
		uint64_t start;
		uint64_t len;
		uint64_t mode;
		int64_t result;
	} one;
};

_Static_assert(sizeof(((union resolve_arg *)0)->two) == sizeof(struct uffdio_copy), "same shape");
_Static_assert(sizeof(((union resolve_arg *)0)->two) == sizeof(struct svm_uffdio_move),
	       "same shape");
_Static_assert(sizeof(((union resolve_arg *)0)->one) == sizeof(struct uffdio_zeropage),
	       "same shape");
_Static_assert(sizeof(((union resolve_arg *)0)->one) == sizeof(struct uffdio_continue),
	       "same shape");
_Static_assert(sizeof(((union resolve_arg *)0)->one) == sizeof(struct svm_uffdio_poison),
	       "same shape");

struct resolve {
	unsigned long request;
	uint64_t addr;
	uint64_t src; /* two addresses only */
	uint64_t size;
	uint64_t mode;
	uint32_t flags;
	bool two;
};

/* One ioctl for size bytes from offset done. *ret_result is what the kernel wrote: a count, an errno or
 * nothing (0). */
static int resolve_once(const struct svm_uffd *uffd, const struct resolve *r, uint64_t done,
			uint64_t size, int64_t *ret_result)
{
	union resolve_arg arg;
	int ret;

	if (r->two) {
		arg.two.dst = r->addr + done;
		arg.two.src = r->src + done;
		arg.two.len = size;
		arg.two.mode = r->mode;
		arg.two.result = 0;
	} else {
		arg.one.start = r->addr + done;
		arg.one.len = size;
		arg.one.mode = r->mode;
		arg.one.result = 0;
	}
	ret = svm_sys->ioctl(uffd->fd, r->request, &arg);
	*ret_result = r->two ? arg.two.result : arg.one.result;
	return ret < 0 ? ret : 0;
}

/* The error that the kernel has for a span that is not within one mapping. MOVE has ENOENT for holes. */
static bool may_be_too_wide(const struct resolve *r, int error)
{
	return error == -EINVAL || (error == -ENOENT && r->request != SVM_UFFDIO_MOVE);
}

static int resolve(const struct svm_uffd *uffd, const struct resolve *r, uint64_t *ret_done)
{
	uint64_t done = 0;
	uint64_t width = r->size;
	unsigned int tries = 0;
	bool existed = false;
	int ret = 0;

	assert(r->addr % PAGE == 0 && r->size % PAGE == 0);

	while (done < r->size) {
		uint64_t size = svm_min_u64(width, r->size - done);
		int64_t result;

		ret = resolve_once(uffd, r, done, size, &result);
		if (ret == 0 || result > 0) {
			done += ret == 0 ? size : svm_min_u64((uint64_t)result, size);
			tries = 0;
			width = svm_min_u64(2 * width, r->size);
			/* A short count comes as EAGAIN, whatever stopped it; the next call tells. */
			ret = ret == -EAGAIN ? 0 : ret;
		} else if (ret == -EEXIST && !(r->flags & SVM_UFFD_EXCLUSIVE)) {
			existed = true;
			done += PAGE;
			tries = 0;
			ret = 0;
		} else if (size > PAGE && may_be_too_wide(r, ret)) {
			width = svm_align_down(size / 2, PAGE);
			ret = 0;
		} else if ((ret == -EAGAIN || ret == -EINTR) && ++tries < TRIES) {
			ret = 0;
		}
		if (ret < 0)
			break;
	}
	/*
	 * The kernel wakes for what it resolved, not for a page that was there: a thread that faulted on
	 * it before it came would sleep on.
	 */
	if (existed && !(r->flags & SVM_UFFD_NO_WAKE)) {
		int error = svm_uffd_wake(uffd, r->addr, done);

		if (ret == 0)
			ret = error;
	}
	*ret_done = done;
	return ret == -EINTR ? -EAGAIN : ret;
}

static uint64_t mode_bits(uint32_t flags)
{
	uint64_t mode = 0;

	if (flags & SVM_UFFD_NO_WAKE)
		mode |= UFFDIO_COPY_MODE_DONTWAKE;
	if (flags & SVM_UFFD_READ_ONLY)
		mode |= UFFDIO_COPY_MODE_WP;
	return mode;
}

int svm_uffd_move(const struct svm_uffd *uffd, uint64_t dst, uint64_t src, uint64_t size,
		  uint32_t flags, uint64_t *ret_done)
{
	const struct resolve r = {
		.request = SVM_UFFDIO_MOVE,
		.addr = dst,
		.src = src,
		.size = size,
		.mode = mode_bits(flags),
		.flags = flags,
		.two = true,
	};

	/* Moved pages arrive writable: the kernel has no other mode. */
	assert(!(flags & SVM_UFFD_READ_ONLY));
	return resolve(uffd, &r, ret_done);
}

int svm_uffd_copy(const struct svm_uffd *uffd, uint64_t dst, const void *src, uint64_t size,
		  uint32_t flags, uint64_t *ret_done)
{
	const struct resolve r = {
		.request = UFFDIO_COPY,
		.addr = dst,
		.src = svm_addr(src),
		.size = size,
		.mode = mode_bits(flags),
		.flags = flags,
		.two = true,
	};

	return resolve(uffd, &r, ret_done);
}

int svm_uffd_zero(const struct svm_uffd *uffd, uint64_t addr, uint64_t size, uint32_t flags,
		  uint64_t *ret_done)
{
	const struct resolve r = {
		.request = UFFDIO_ZEROPAGE,
		.addr = addr,
		.size = size,
		.mode = mode_bits(flags),
		.flags = flags,
	};

	assert(!(flags & SVM_UFFD_READ_ONLY));
	return resolve(uffd, &r, ret_done);
}

int svm_uffd_continue(const struct svm_uffd *uffd, uint64_t addr, uint64_t size, uint32_t flags,
		      uint64_t *ret_done)
{
	const struct resolve r = {
		.request = UFFDIO_CONTINUE,
		.addr = addr,
		.size = size,
		.mode = mode_bits(flags),
		.flags = flags,
	};

	return resolve(uffd, &r, ret_done);
}

int svm_uffd_poison(const struct svm_uffd *uffd, uint64_t addr, uint64_t size, uint32_t flags,
		    uint64_t *ret_done)
{
	const struct resolve r = {
		.request = SVM_UFFDIO_POISON,
		.addr = addr,
		.size = size,
		.mode = mode_bits(flags),
		.flags = flags,
	};

	assert(!(flags & SVM_UFFD_READ_ONLY));
	return resolve(uffd, &r, ret_done);
}

int svm_uffd_protect(const struct svm_uffd *uffd, uint64_t addr, uint64_t size, bool protect)
{
	struct uffdio_writeprotect arg = {
		.range = { .start = addr, .len = size },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	int ret = -EAGAIN;

	for (unsigned int i = 0; i < TRIES && (ret == -EAGAIN || ret == -EINTR); i++)
		ret = svm_sys->ioctl(uffd->fd, UFFDIO_WRITEPROTECT, &arg);
	return ret == -EINTR ? -EAGAIN : ret;
}

int svm_uffd_wake(const struct svm_uffd *uffd, uint64_t addr, uint64_t size)
{
	struct uffdio_range arg = { .start = addr, .len = size };

	if (size == 0)
		return 0;
	return svm_sys->ioctl(uffd->fd, UFFDIO_WAKE, &arg);
}
