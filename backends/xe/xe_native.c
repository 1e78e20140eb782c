// SPDX-License-Identifier: MIT
/*
 * Native mode: the shared VM mirrors the CPU's page tables (xe_svm.c, Linux 6.15) everywhere but where memory is managed.
 * The window stays out: the kernel serves a mirror's fault with the VM locked, and waits there for whoever serves a
 * userfaultfd, who would wait for the same lock to bind what the device wants.
 */
#include "xe_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <libsvm/hints.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The VM is locked while a span is moved: not for longer than that takes. */
#define PREFETCH_SIZE (UINT64_C(32) << 20)
/* Below this a piece that cannot be moved is left alone. */
#define PREFETCH_UNIT (UINT64_C(64) << 10)

/* ---- What kernel and device have -------------------------------------------------------------- */

/* A page that is missing in a userfaultfd: does the kernel wait for it when a device wants it (7.3), or fail? */
struct uffd_probe {
	int uffd;
	int end; /* readable: over */
	void *page;
	bool asked;
};

static void *serve_page(void *data)
{
	struct uffd_probe *probe = data;
	struct pollfd fds[2] = { { .fd = probe->uffd, .events = POLLIN },
				 { .fd = probe->end, .events = POLLIN } };
	struct uffdio_zeropage zero = { .range = { .start = (uintptr_t)probe->page,
						   .len = SVM_PAGE_SIZE } };
	struct uffd_msg msg;

	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[0].revents && read(probe->uffd, &msg, sizeof(msg)) == sizeof(msg)) {
			probe->asked = true;
			(void)ioctl(probe->uffd, UFFDIO_ZEROPAGE, &zero);
		}
		if (fds[1].revents)
			break;
	}
	return NULL;
}

/* One that serves system calls, too. */
static int open_uffd(void)
{
	int flags = O_CLOEXEC | O_NONBLOCK;
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = -1;

	if (device >= 0) {
		fd = ioctl(device, USERFAULTFD_IOC_NEW, flags);
		(void)close(device);
	}
	return fd >= 0 ? fd : (int)syscall(SYS_userfaultfd, flags);
}

static int register_page(struct uffd_probe *probe)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { .start = (uintptr_t)probe->page,
						  .len = SVM_PAGE_SIZE },
				       .mode = UFFDIO_REGISTER_MODE_MISSING };

	if (ioctl(probe->uffd, UFFDIO_API, &api) < 0)
		return -errno;
	return ioctl(probe->uffd, UFFDIO_REGISTER, &reg) < 0 ? -errno : 0;
}

/* Bind the page in a VM that is thrown away. */
static int bind_page(struct svm_xe_device *dev, void *page)
{
	struct svm_xe_sync out = { .type = SVM_XE_SYNC_OBJECT, .flags = SVM_XE_SYNC_SIGNAL };
	struct svm_xe_bind_op op = { .op = SVM_XE_BIND_MAP_USERPTR,
				     .flags = SVM_XE_BIND_READONLY,
				     .pat_index = dev->info.pat,
				     .userptr = (uintptr_t)page,
				     .addr = SVM_XE_VA_START,
				     .range = SVM_PAGE_SIZE };
	uint32_t vm;
	int ret = svm_xe_vm_create(dev, 0, &vm);

	if (ret < 0)
		return ret;
	ret = svm_drm_syncobj_create(dev->fd, &out.handle);
	if (ret == 0)
		ret = svm_xe_vm_bind(dev, vm, 0, &op, 1, NULL, &out, true);
	/* The bind is over before the page goes: the end of a VM waits for binds (xe_vm.c). */
	svm_xe_vm_destroy(dev, &vm);
	if (out.handle)
		svm_drm_syncobj_destroy(dev->fd, out.handle);
	return ret;
}

static bool faults_wait_for_uffd(struct svm_xe_device *dev)
{
	static const uint64_t one = 1;
	struct uffd_probe probe = { .uffd = open_uffd(), .end = eventfd(0, EFD_CLOEXEC) };
	pthread_t thread;
	sigset_t all;
	sigset_t before;
	int ret = -1;

	probe.page = svm_xe_map_anonymous(SVM_PAGE_SIZE);
	if (probe.uffd >= 0 && probe.end >= 0 && probe.page && register_page(&probe) == 0) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		ret = pthread_create(&thread, NULL, serve_page, &probe);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	if (ret == 0) {
		ret = bind_page(dev, probe.page);
		(void)!write(probe.end, &one, sizeof(one));
		pthread_join(thread, NULL);
	}
	if (probe.page)
		(void)munmap(probe.page, SVM_PAGE_SIZE);
	if (probe.uffd >= 0)
		(void)close(probe.uffd);
	if (probe.end >= 0)
		(void)close(probe.end);
	return ret == 0 && probe.asked;
}

bool svm_xe_native_could(const struct svm_xe_device *dev)
{
	return dev->info.has_mirror &&
	       (!dev->options.has_mode || dev->options.mode == SVM_XE_MODE_FAULTS);
}

/* What is outside of the window, of a VM of our own. */
static int mirror_rest(struct svm_xe_device *dev)
{
	uint64_t end = dev->window_base + dev->window_size;
	int ret = svm_xe_area_set(dev, SVM_XE_VA_START, dev->window_base - SVM_XE_VA_START, true);

	return ret < 0 || end >= SVM_XE_VA_END
		       ? ret
		       : svm_xe_area_set(dev, end, SVM_XE_VA_END - end, true);
}

int svm_xe_native_start(struct svm_xe_device *dev)
{
	/* Nothing is there, so that nothing changes: 0 from kernels that know the call. */
	struct svm_xe_madvise nothing = { .start = dev->window_base,
					  .range = SVM_PAGE_SIZE,
					  .vm_id = dev->shared_vm,
					  .type = SVM_XE_ADVISE_ATOMIC };
	int ret;

	if (!dev->is_imported) {
		dev->mirror_flags = SVM_XE_BIND_MIRROR;
		if (svm_xe_would_bind(dev, dev->shared_vm, SVM_XE_BIND_MAP,
				      SVM_XE_BIND_MIRROR | SVM_XE_BIND_AUTORESET))
			dev->mirror_flags |= SVM_XE_BIND_AUTORESET;
		ret = mirror_rest(dev);
		if (ret < 0)
			return ret;
	}
	dev->has_madvise = svm_drm_ioctl_sure(dev->fd, SVM_XE_MADVISE, &nothing) == 0;
	dev->caps |= SVM_CAP_NATIVE;
	if (faults_wait_for_uffd(dev))
		dev->caps |= SVM_CAP_NATIVE_UFFD;
	if (!dev->has_madvise)
		svm_xe_log(dev, SVM_LOG_WARN,
			   "no MADVISE (Linux 6.18): hints on system memory have no effect");
	return 0;
}

/* ---- Hints ------------------------------------------------------------------------------------ */

static void degrade(struct svm_outcome *outcome, enum svm_outcome_reason reason)
{
	if (outcome->status == SVM_EFFECTIVE)
		*outcome = (struct svm_outcome){ SVM_DEGRADED, reason };
}

static int advise(struct svm_xe_device *dev, uint64_t addr, uint64_t size,
		  struct svm_xe_madvise arg)
{
	arg.start = addr;
	arg.range = size;
	arg.vm_id = dev->shared_vm;
	return svm_drm_ioctl_sure(dev->fd, SVM_XE_MADVISE, &arg);
}

static int advise_location(struct svm_xe_device *dev, uint64_t addr, uint64_t size, int32_t fd,
			   uint16_t region)
{
	struct svm_xe_madvise arg = { .type = SVM_XE_ADVISE_LOCATION };

	arg.location.devmem_fd = fd;
	arg.location.region_instance = region;
	return advise(dev, addr, size, arg);
}

#define LOCATION_KINDS                                                        \
	(1u << SVM_ADVICE_PREFERRED_LOCATION | 1u << SVM_ADVICE_ACCESSED_BY | \
	 1u << SVM_ADVICE_ACCESS_IN_PLACE | 1u << SVM_ADVICE_MIGRATION)

/* Is an access to leave the bytes where they are? */
static bool stays(const struct svm_native_hints *hints)
{
	return hints->access == SVM_NATIVE_IN_PLACE || hints->migration != SVM_MIGRATE_ON_ACCESS;
}

static int tell_location(struct svm_xe_device *dev, uint64_t addr, uint64_t size,
			 const struct svm_native_hints *hints, int32_t *ret_fd,
			 struct svm_outcome *outcome)
{
	const struct svm_xe_device *peer = hints->peer_dev;
	int ret;

	*ret_fd = SVM_XE_LOCATION_DEFAULT;
	if (hints->place == SVM_NATIVE_HOST || hints->place == SVM_NATIVE_OTHER || stays(hints))
		*ret_fd = SVM_XE_LOCATION_SYSTEM;
	if (hints->place == SVM_NATIVE_HOST && hints->numa_node >= 0)
		degrade(outcome, SVM_REASON_DRIVER); /* it takes any node */
	/* The kernel compares fd numbers: an old one of the same number is to be forgotten first. */
	ret = advise_location(dev, addr, size, *ret_fd, 0);
	if (ret < 0 || hints->place != SVM_NATIVE_OTHER || stays(hints))
		return ret;
	if (peer && peer->info.has_vram) {
		ret = advise_location(dev, addr, size, peer->fd, peer->info.vram);
		if (ret == 0)
			*ret_fd = peer->fd;
		else if (ret != -ENOLINK && ret != -ENOENT && ret != -EINVAL && ret != -ENODEV)
			return ret;
	}
	if (*ret_fd == SVM_XE_LOCATION_SYSTEM)
		degrade(outcome, SVM_REASON_NOT_REACHABLE);
	return 0;
}

static int tell_atomics(struct svm_xe_device *dev, uint64_t addr, uint64_t size,
			const struct svm_native_hints *hints, uint32_t *ret_value)
{
	struct svm_xe_madvise arg = { .type = SVM_XE_ADVISE_ATOMIC };

	*ret_value = hints->atomics == SVM_ATOMICS_DEVICE   ? SVM_XE_ATOMIC_DEVICE
		     : hints->atomics == SVM_ATOMICS_SYSTEM ? SVM_XE_ATOMIC_GLOBAL
							    : SVM_XE_ATOMIC_UNDEFINED;
	arg.atomic.value = *ret_value;
	return advise(dev, addr, size, arg);
}

/* The kernel says 0 also where it stored nothing: does all of the span have it? */
static int has_attributes(struct svm_xe_device *dev, uint64_t addr, uint64_t size,
			  const int32_t *fd, const uint32_t *atomic, bool *ret_has)
{
	struct svm_xe_query_mem_range arg = { .vm_id = dev->shared_vm,
					      .start = addr,
					      .range = size };
	struct svm_xe_mem_range_attr *attrs;
	uint64_t next = addr;
	int ret = svm_drm_ioctl_sure(dev->fd, SVM_XE_QUERY_MEM_RANGE, &arg);

	*ret_has = false;
	if (ret < 0 || arg.n_ranges == 0)
		return ret;
	attrs = calloc(arg.n_ranges, sizeof(*attrs));
	if (!attrs)
		return -ENOMEM;
	arg.attrs = (uintptr_t)attrs;
	arg.attr_size = sizeof(*attrs);
	ret = svm_drm_ioctl_sure(dev->fd, SVM_XE_QUERY_MEM_RANGE, &arg);
	for (uint32_t i = 0; ret == 0 && i < arg.n_ranges; i++) {
		if (attrs[i].start > next || (fd && attrs[i].devmem_fd != *fd) ||
		    (atomic && attrs[i].atomic_value != *atomic))
			break;
		next = attrs[i].end;
	}
	*ret_has = ret == 0 && next >= addr + size;
	free(attrs);
	return ret;
}

int svm_xe_native_advise(void *device, uint64_t addr, uint64_t size,
			 const struct svm_native_hints *hints, struct svm_outcome *ret_outcome)
{
	struct svm_xe_device *dev = device;
	bool places = hints->kinds & LOCATION_KINDS;
	bool atomics = hints->kinds & 1u << SVM_ADVICE_ATOMICS;
	uint32_t atomic = 0;
	int32_t fd = 0;
	bool has = true;
	int ret = 0;

	if (!dev->has_madvise)
		return -EOPNOTSUPP;
	if (atomic_load(&dev->is_lost))
		return -ENODEV;
	/* What the driver knows nothing of. Its own units are 4 KiB, 64 KiB and 2 MiB, as they fit. */
	if ((hints->kinds & 1u << SVM_ADVICE_READ_MOSTLY && hints->read_mostly) ||
	    (hints->kinds & 1u << SVM_ADVICE_GRANULARITY && hints->granularity != SVM_BLOCK_SIZE) ||
	    (hints->kinds & 1u << SVM_ADVICE_ACCESSED_BY && hints->access == SVM_NATIVE_MAPPED) ||
	    (hints->kinds & 1u << SVM_ADVICE_NO_ACCESS && hints->access == SVM_NATIVE_FORBIDDEN))
		degrade(ret_outcome, SVM_REASON_DRIVER);
	if (places)
		ret = tell_location(dev, addr, size, hints, &fd, ret_outcome);
	if (ret == 0 && atomics)
		ret = tell_atomics(dev, addr, size, hints, &atomic);
	if (ret == 0 && (places || atomics))
		ret = has_attributes(dev, addr, size, places ? &fd : NULL, atomics ? &atomic : NULL,
				     &has);
	if (ret < 0)
		return svm_xe_is_loss(dev, ret, "MADVISE") ? -ENODEV : ret;
	if (!has)
		degrade(ret_outcome, SVM_REASON_DRIVER);
	return 0;
}

/* ---- Moving ----------------------------------------------------------------------------------- */

/* One area of the VM at a time: the driver stops at the first that is no mirror. Kernels that do not tell areas have no
 * attributes, which make them. */
static bool is_one_area(struct svm_xe_device *dev, uint64_t addr, uint64_t size)
{
	uint32_t n = 1;

	return svm_xe_count_areas(dev, dev->shared_vm, addr, size, &n) < 0 || n <= 1;
}

static int prefetch(struct svm_xe_device *dev, uint64_t addr, uint64_t size, uint32_t region)
{
	struct svm_xe_bind_op op = { .op = SVM_XE_BIND_PREFETCH,
				     .pat_index = dev->info.pat,
				     .addr = addr,
				     .range = size,
				     .prefetch_mem_region_instance = region };

	/* The pages have moved when it returns, if they have: no fence is needed, and none is to keep others off. */
	return svm_xe_vm_bind(dev, dev->shared_vm, 0, &op, 1, NULL, NULL, true);
}

/* A mapping that cannot be moved (read-only, of a device) fails all of the span: halve it. */
static int prefetch_parts(struct svm_xe_device *dev, uint64_t addr, uint64_t size, uint32_t region)
{
	uint64_t half = (size / 2 + PREFETCH_UNIT - 1) & ~(PREFETCH_UNIT - 1);
	bool divide = size > PREFETCH_UNIT && half < size;
	int first = -EPERM;
	int second;

	if (!divide || (size <= PREFETCH_SIZE && is_one_area(dev, addr, size)))
		first = prefetch(dev, addr, size, region);
	if (!divide || (first != -EPERM && first != -EIO))
		return first;
	first = prefetch_parts(dev, addr, half, region);
	second = prefetch_parts(dev, addr + half, size - half, region);
	return first < 0 ? first : second;
}

int svm_xe_native_prefetch(void *device, uint64_t addr, uint64_t size, enum svm_native_place to)
{
	struct svm_xe_device *dev = device;
	uint32_t region = to == SVM_NATIVE_OWN && dev->info.has_vram ? dev->info.vram : 0;
	int ret;

	if (atomic_load(&dev->is_lost))
		return -ENODEV;
	ret = prefetch_parts(dev, addr, size, region);
	/* Before 6.16 there is none for mirrored memory. */
	if (ret == -EINVAL)
		return -EOPNOTSUPP;
	return ret < 0 && svm_xe_is_loss(dev, ret, "PREFETCH") ? -ENODEV : ret;
}
