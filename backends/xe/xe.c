// SPDX-License-Identifier: MIT
/* The xe backend's table: which devices there are, opening and closing, what happened. */
#include "xe_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* What a job may take when its device is given up: more than any of ours needs. */
#define PATIENCE_NS UINT64_C(1000000000)

#define WAIT_TRIES 16

/* ---- News ------------------------------------------------------------------------------------- */

void svm_xe_log(struct svm_xe_device *dev, int level, const char *format, ...)
{
	char text[200];
	char line[256];
	va_list args;

	if (!dev->log)
		return;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)snprintf(line, sizeof(line), "xe %s: %s", dev->node, text);
	dev->log(dev->log_data, level, line);
}

void svm_xe_raise(struct svm_xe_device *dev)
{
	static const uint64_t one = 1;

	/* EAGAIN cannot be: the count is far below 2^64. */
	while (write(dev->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void svm_xe_lose(struct svm_xe_device *dev, int reason, const char *what)
{
	if (atomic_exchange(&dev->is_lost, true))
		return;
	svm_xe_log(dev, SVM_LOG_ERROR, "given up: %s (error %d)", what, -reason);
	svm_xe_raise(dev);
}

bool svm_xe_is_loss(struct svm_xe_device *dev, int error, const char *what)
{
	/* Wedged, or the queue is banned; unplugged; the VM is banned. */
	if (error == -ECANCELED || error == -ENODEV || error == -ENOENT)
		svm_xe_lose(dev, -ENODEV, what);
	return atomic_load(&dev->is_lost);
}

/* LOCKING: event_lock. The next point that is news: each bind is one, a batch is two (xe_engine.c). */
static void arm(struct svm_xe_device *dev, enum svm_timeline timeline)
{
	struct svm_xe_timeline *t = &dev->timelines[timeline];
	uint64_t step = timeline == SVM_TIMELINE_BIND ? 1 : 2;
	int ret;

	if (t->armed || t->reached >= t->submitted)
		return;
	t->armed = t->reached / step * step + step;
	/* The second half of a batch may have failed. */
	if (t->armed > t->submitted)
		t->armed = t->submitted;
	if (!t->syncobj) {
		svm_xe_word_arm(&t->word, t->armed);
		return;
	}
	ret = svm_drm_timeline_event(dev->fd, t->syncobj, t->armed, dev->event_fd);
	if (ret == 0)
		return;
	/* Nothing will say when what runs is over: kill() finds out. */
	if (!svm_xe_is_loss(dev, ret, "SYNCOBJ_EVENTFD"))
		svm_xe_lose(dev, ret, "SYNCOBJ_EVENTFD");
	atomic_store(&dev->is_settled, true);
}

void svm_xe_follow(struct svm_xe_device *dev, enum svm_timeline timeline, uint64_t point)
{
	pthread_mutex_lock(&dev->event_lock);
	dev->timelines[timeline].submitted = point;
	arm(dev, timeline);
	pthread_mutex_unlock(&dev->event_lock);
}

/* Ask how far all timelines are: one ioctl at most. */
static int look(struct svm_xe_device *dev, uint64_t *ret_points)
{
	uint32_t handles[SVM_TIMELINES];
	uint64_t points[SVM_TIMELINES] = { 0 };
	uint32_t n = 0;
	int ret = 0;

	for (unsigned int i = 0; i < SVM_TIMELINES; i++)
		if (dev->timelines[i].syncobj)
			handles[n++] = dev->timelines[i].syncobj;
	pthread_mutex_lock(&dev->event_lock);
	if (n)
		ret = svm_drm_timeline_query(dev->fd, handles, points, n);
	n = 0;
	for (unsigned int i = 0; i < SVM_TIMELINES; i++) {
		const struct svm_xe_timeline *t = &dev->timelines[i];

		/* A word that nobody ever waited for is not there. */
		ret_points[i] = t->syncobj	     ? points[n++]
				: t->word.has_thread ? svm_xe_word_read(&t->word)
						     : 0;
	}
	for (unsigned int i = 0; ret == 0 && i < SVM_TIMELINES; i++) {
		struct svm_xe_timeline *t = &dev->timelines[i];

		t->reached = ret_points[i];
		if (t->armed && t->armed <= t->reached)
			t->armed = 0;
		arm(dev, (enum svm_timeline)i);
	}
	pthread_mutex_unlock(&dev->event_lock);
	return ret;
}

int svm_xe_timeline_wait(struct svm_xe_device *dev, enum svm_timeline timeline, uint64_t point,
			 uint64_t timeout_ns)
{
	const struct svm_xe_timeline *t = &dev->timelines[timeline];
	int ret = -EIO;

	if (t->syncobj)
		return svm_drm_timeline_wait(dev->fd, t->syncobj, point, timeout_ns);
	/* As there: one failure is no answer yet. */
	for (int i = 0; i < WAIT_TRIES && t->word.has_thread && ret < 0 && ret != -ETIME; i++)
		ret = svm_xe_word_wait(&t->word, point, timeout_ns);
	return ret;
}

static void xe_event_ack(void *device)
{
	struct svm_xe_device *dev = device;
	uint64_t points[SVM_TIMELINES];
	uint64_t count;
	int ret;

	while (read(dev->event_fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	if (atomic_load(&dev->is_settled))
		return;
	ret = look(dev, points);
	if (ret < 0) {
		/* Wedged or unplugged: then nothing runs. */
		if (!svm_xe_is_loss(dev, ret, "SYNCOBJ_QUERY"))
			svm_xe_lose(dev, ret, "SYNCOBJ_QUERY");
		atomic_store(&dev->is_settled, true);
		return;
	}
	atomic_store(&dev->timelines[SVM_TIMELINE_BIND].done, points[SVM_TIMELINE_BIND]);
	if (dev->has_engine)
		svm_xe_engine_advance(&dev->copy, points[SVM_TIMELINE_COPY]);
	if (dev->has_work)
		svm_xe_engine_advance(&dev->work, points[SVM_TIMELINE_WORK]);
	if (!atomic_load(&dev->is_lost))
		return;
	/* What ran on when the loss came is over, or will be news. The application's own work goes on, in a VM of
	 * its own: kill() takes the memory from under it. */
	if (dev->has_engine && !svm_xe_engine_is_idle(&dev->copy, points[SVM_TIMELINE_COPY]))
		return;
	if (dev->has_work && !svm_xe_engine_is_idle(&dev->work, points[SVM_TIMELINE_WORK]))
		return;
	atomic_store(&dev->is_settled, true);
}

static int xe_event_fd(void *device)
{
	const struct svm_xe_device *dev = device;

	return dev->event_fd;
}

/* The next bind up to *value that failed: its status, and its value in *value. */
static int next_failure(struct svm_xe_device *dev, uint64_t *value)
{
	const struct svm_xe_failure *next;
	int status = 0;

	pthread_mutex_lock(&dev->event_lock);
	next = &dev->failures[dev->n_told % SVM_XE_FAILURES];
	if (dev->n_told < dev->n_failed && next->value <= *value) {
		*value = next->value;
		status = next->status;
		dev->n_told++;
	}
	pthread_mutex_unlock(&dev->event_lock);
	return status;
}

static int xe_completed(void *device, enum svm_timeline timeline, uint64_t *ret_value)
{
	struct svm_xe_device *dev = device;
	/* Asked first: nothing is done after that. */
	bool settled = atomic_load(&dev->is_settled);

	*ret_value = atomic_load(&dev->timelines[timeline].done);
	if (timeline == SVM_TIMELINE_BIND) {
		uint64_t limit = atomic_load(&dev->bind_limit);
		int status;

		if (*ret_value > limit)
			*ret_value = limit;
		status = next_failure(dev, ret_value);

		if (status < 0)
			return status;
	}
	return settled ? -ENODEV : 0;
}

/* ---- What a device can do --------------------------------------------------------------------- */

/* Device memory that is mapped in 64 KiB only cannot hold single pages of a block: such devices keep
 * their chunks in system memory, unless the space has such units. */
static bool chunks_in_system(const struct svm_xe_info *info, const struct svm_xe_options *options)
{
	return options->system || !info->has_vram || (info->vram_64k && !options->units_64k);
}

static uint64_t usable_memory(const struct svm_xe_info *info, const struct svm_xe_options *options)
{
	uint64_t size = info->vram_size;

	if (chunks_in_system(info, options))
		size = info->system_size / 2;
	else if (!options->engine || info->n_copy == 0)
		size = info->vram_visible;
	return size / SVM_BLOCK_SIZE * SVM_BLOCK_SIZE;
}

static uint64_t default_memory(const struct svm_xe_info *info, const struct svm_xe_options *options)
{
	/* A quarter is left to others and to the kernel. */
	uint64_t size = usable_memory(info, options) / 4 * 3;

	return options->memory ? options->memory : size / SVM_BLOCK_SIZE * SVM_BLOCK_SIZE;
}

/* Ponte Vecchio's atomics work on device memory only (xe_pci.c: has_device_atomics_on_smem). */
static bool atomics_in_system(const struct svm_xe_info *info)
{
	return info->ip != 1260;
}

static uint32_t find_caps(const struct svm_xe_info *info, const struct svm_xe_options *options)
{
	bool engine = options->engine && info->n_copy > 0;
	uint32_t caps = SVM_CAP_READ_ONLY;

	caps |= chunks_in_system(info, options) && !atomics_in_system(info) ? 0 : SVM_CAP_ATOMICS;
	caps |= options->host ? SVM_CAP_HOST_ALIAS : 0;
	/* Across a bus the CPU's atomics and the device's do not see each other. */
	caps |= options->host && !info->has_vram ? SVM_CAP_SYSTEM_ATOMICS : 0;
	caps |= engine ? SVM_CAP_COPY_ENGINE | SVM_CAP_WORK : 0;
	if (!engine || chunks_in_system(info, options) || info->vram_visible >= info->vram_size)
		caps |= SVM_CAP_CPU_VISIBLE;
	return caps;
}

/* ---- Which devices there are ------------------------------------------------------------------ */

/* The index-th xe device from *minor on. 0: *minor and *ret_fd; -ENOENT past the last. *ret_denied: the last
 * errno of a node that could not be looked at. */
static int find_nth(uint32_t index, unsigned int *ret_minor, int *ret_fd, int *ret_denied)
{
	*ret_denied = 0;
	for (unsigned int minor = SVM_DRM_RENDER_FIRST; minor <= SVM_DRM_RENDER_LAST; minor++) {
		char driver[16];
		int fd;
		int ret = svm_drm_render_open(minor, driver, sizeof(driver), &fd);

		if (ret < 0) {
			*ret_denied = ret == -ENOENT ? *ret_denied : ret;
			continue;
		}
		if (strcmp(driver, "xe") == 0 && index-- == 0) {
			*ret_minor = minor;
			*ret_fd = fd;
			return 0;
		}
		(void)close(fd);
	}
	return -ENOENT;
}

static int xe_enumerate(unsigned int i, struct svm_device_info *ret_info)
{
	struct svm_xe_options options = { .engine = true, .host = true };
	struct svm_xe_info info;
	unsigned int minor;
	const char *what;
	int denied;
	int fd;
	int ret = 0;

	/* Only those that could be opened count. */
	for (uint32_t index = 0; ret == 0; index++) {
		ret = find_nth(index, &minor, &fd, &denied);
		if (ret < 0)
			break;
		ret = svm_xe_probe(fd, &info, &what);
		(void)close(fd);
		if (ret == 0 && i-- == 0)
			break;
		ret = 0;
	}
	if (ret < 0)
		return ret;
	(void)snprintf(ret_info->name, sizeof(ret_info->name), "xe:renderD%u", minor);
	(void)snprintf(ret_info->backend, sizeof(ret_info->backend), "xe");
	ret_info->caps = find_caps(&info, &options);
	ret_info->memory_size = default_memory(&info, &options);
	ret_info->memory_used = 0;
	ret_info->va_start = SVM_XE_VA_START;
	ret_info->va_end = SVM_XE_VA_END;
	ret_info->n_engines = info.n_copy;
	ret_info->is_lost = 0;
	return 0;
}

/* ---- Opening ---------------------------------------------------------------------------------- */

static int open_minor(struct svm_xe_device *dev, unsigned int minor)
{
	char driver[16];
	int fd;
	int ret;

	(void)snprintf(dev->node, sizeof(dev->node), "renderD%u", minor);
	ret = svm_drm_render_open(minor, driver, sizeof(driver), &fd);
	if (ret == -EACCES || ret == -EPERM)
		svm_xe_log(dev, SVM_LOG_ERROR,
			   "no permission for /dev/dri/%s (its group is often 'render')",
			   dev->node);
	else if (ret == -ENOENT)
		svm_xe_log(dev, SVM_LOG_ERROR, "no such node in /dev/dri");
	else if (ret < 0)
		svm_xe_log(dev, SVM_LOG_ERROR, "/dev/dri/%s cannot be opened (error %d)", dev->node,
			   -ret);
	if (ret < 0)
		return ret;
	if (strcmp(driver, "xe") != 0) {
		svm_xe_log(dev, SVM_LOG_ERROR, "driven by '%s', not by xe", driver);
		(void)close(fd);
		return -ENODEV;
	}
	dev->fd = fd;
	return 0;
}

static int open_node(struct svm_xe_device *dev)
{
	unsigned int minor;
	int denied;
	int ret;

	if (dev->options.minor >= 0)
		return open_minor(dev, (unsigned int)dev->options.minor);
	ret = find_nth(dev->options.index, &minor, &dev->fd, &denied);
	if (ret == 0) {
		(void)snprintf(dev->node, sizeof(dev->node), "renderD%u", minor);
		return 0;
	}
	(void)snprintf(dev->node, sizeof(dev->node), "%u", dev->options.index);
	if (denied) {
		svm_xe_log(dev, SVM_LOG_ERROR,
			   "no such device; a node in /dev/dri cannot be opened (error %d)",
			   -denied);
		return denied == -EPERM ? -EACCES : denied;
	}
	svm_xe_log(dev, SVM_LOG_ERROR, "no such device of this driver in /dev/dri");
	return ret;
}

/* A chunk that others leave no room for may spill into system memory, where atomics work in it: not on each
 * device, and not in VMs of long-running jobs (xe_pt.c:xe_atomic_for_system()). */
static bool may_spill(const struct svm_xe_device *dev)
{
	return dev->mode == SVM_XE_MODE_JOBS && atomics_in_system(&dev->info);
}

static int set_limits(struct svm_xe_device *dev, const struct svm_device_import *import)
{
	const struct svm_xe_info *info = &dev->info;
	uint64_t usable = usable_memory(info, &dev->options);

	dev->has_engine = dev->options.engine && info->n_copy > 0;
	dev->caps = find_caps(info, &dev->options);
	dev->has_work = dev->has_engine && !(import && import->flags & SVM_IMPORT_NO_WORK);
	if (!dev->has_work)
		dev->caps &= ~SVM_CAP_WORK;
	dev->memory = default_memory(info, &dev->options);
	dev->placement = 1;
	dev->caching = SVM_XE_CACHING_WB;
	if (!chunks_in_system(info, &dev->options)) {
		dev->placement = 1u << info->vram | (may_spill(dev) ? 1u : 0);
		dev->caching = SVM_XE_CACHING_WC;
		dev->gem_flags = dev->has_engine ? 0 : SVM_XE_GEM_NEEDS_VISIBLE_VRAM;
	} else if (info->has_vram && !dev->options.system) {
		svm_xe_log(dev, SVM_LOG_WARN,
			   "device memory is mapped in 64 KiB only: chunks are in system memory "
			   "(SVM_SPACE_64K_UNITS)");
	}
	if (dev->memory == 0 || dev->memory > usable) {
		svm_xe_log(dev, SVM_LOG_ERROR, "memory of %llu bytes: it has %llu",
			   (unsigned long long)dev->memory, (unsigned long long)usable);
		return -EINVAL;
	}
	if (!dev->has_engine)
		svm_xe_log(dev, SVM_LOG_WARN, "no copy engine: the CPU copies");
	return 0;
}

/* The shared VM, and what tells of its binds. */
static int start_shared(struct svm_xe_device *dev, const char **ret_what)
{
	static const uint32_t flags[] = {
		[SVM_XE_MODE_JOBS] = 0,
		[SVM_XE_MODE_LONG] = SVM_XE_VM_LR,
		[SVM_XE_MODE_FAULTS] = SVM_XE_VM_LR | SVM_XE_VM_FAULT,
	};
	int ret = 0;

	*ret_what = dev->mode == SVM_XE_MODE_FAULTS ? "a VM whose faults are served" : "VM_CREATE";
	if (!dev->is_imported)
		ret = svm_xe_vm_create(dev, flags[dev->mode], &dev->shared_vm);
	if (ret == -EINVAL && dev->mode != SVM_XE_MODE_JOBS)
		ret = -EOPNOTSUPP;
	if (ret == 0 && dev->mode != SVM_XE_MODE_JOBS) {
		*ret_what = "a thread for user fences";
		dev->bind_word = svm_xe_map_anonymous(SVM_PAGE_SIZE);
		ret = dev->bind_word
			      ? svm_xe_word_start(dev, &dev->timelines[SVM_TIMELINE_BIND].word,
						  dev->bind_word, 0)
			      : -ENOMEM;
	}
	/* Whose lock is not ours alone. */
	if (ret == 0 && (dev->is_imported || dev->is_mirrored)) {
		*ret_what = "a thread for binds";
		ret = svm_xe_submit_start(dev);
	}
	dev->has_window = ret == 0 && !dev->is_imported;
	if (ret == 0 && dev->is_imported) {
		*ret_what = "a queue for binds";
		ret = svm_xe_import_take(dev);
	}
	if (ret < 0 || !dev->is_mirrored)
		return ret;
	*ret_what = "CPU_ADDR_MIRROR";
	return svm_xe_native_start(dev);
}

static int start(struct svm_xe_device *dev, const char **ret_what)
{
	int ret = 0;

	*ret_what = "memory for tables";
	dev->bind_ops = svm_xe_map_anonymous(SVM_BIND_BATCH * sizeof(*dev->bind_ops));
	if (!dev->bind_ops)
		return -ENOMEM;
	ret = svm_xe_mem_init(dev);
	if (ret < 0)
		return ret;
	*ret_what = "SYNCOBJ_CREATE";
	for (unsigned int i = 0; i < SVM_TIMELINES && ret == 0; i++)
		if (dev->mode == SVM_XE_MODE_JOBS || i == SVM_TIMELINE_COPY)
			ret = svm_drm_syncobj_create(dev->fd, &dev->timelines[i].syncobj);
	if (ret < 0)
		return ret;
	ret = start_shared(dev, ret_what);
	if (ret < 0 || !dev->has_engine)
		return ret;
	*ret_what = "VM_CREATE";
	ret = svm_xe_vm_create(dev, 0, &dev->copy_vm);
	if (ret < 0)
		return ret;
	*ret_what = "a queue of the copy engine";
	ret = svm_xe_engine_init(dev, &dev->copy, SVM_TIMELINE_COPY, dev->copy_vm,
				 SVM_XE_COPY_CMDS_VA);
	if (ret < 0 || !dev->has_work)
		return ret;
	return svm_xe_engine_init(dev, &dev->work, SVM_TIMELINE_WORK, dev->shared_vm, 0);
}

/* Where the end of the VM does not take the memory from under what runs there. */
static void leave_shared(struct svm_xe_device *dev)
{
	if (dev->shared_vm && (dev->is_imported || dev->mode != SVM_XE_MODE_JOBS))
		svm_xe_import_clear(dev);
}

/* Accepts a device that was never finished. */
static void destroy(struct svm_xe_device *dev)
{
	svm_xe_engine_stop(&dev->copy, PATIENCE_NS);
	svm_xe_engine_stop(&dev->work, PATIENCE_NS);
	leave_shared(dev);
	svm_xe_submit_stop(dev);
	svm_xe_engine_finish(&dev->copy);
	svm_xe_engine_finish(&dev->work);
	svm_xe_queue_destroy(dev, &dev->bind_queue);
	svm_xe_vm_destroy(dev, &dev->copy_vm);
	if (!dev->is_imported)
		svm_xe_vm_destroy(dev, &dev->shared_vm);
	svm_xe_word_stop(&dev->timelines[SVM_TIMELINE_BIND].word);
	svm_xe_mem_finish(dev);
	svm_xe_spans_finish(dev);
	if (dev->bind_word)
		(void)munmap(dev->bind_word, SVM_PAGE_SIZE);
	for (unsigned int i = 0; i < SVM_TIMELINES; i++) {
		if (dev->timelines[i].syncobj)
			svm_drm_syncobj_destroy(dev->fd, dev->timelines[i].syncobj);
	}
	if (dev->bind_ops)
		(void)munmap(dev->bind_ops, SVM_BIND_BATCH * sizeof(*dev->bind_ops));
	if (dev->event_fd >= 0)
		(void)close(dev->event_fd);
	if (dev->fd >= 0)
		(void)close(dev->fd);
	pthread_mutex_destroy(&dev->kill_lock);
	pthread_mutex_destroy(&dev->span_lock);
	pthread_mutex_destroy(&dev->bind_lock);
	pthread_mutex_destroy(&dev->event_lock);
	pthread_mutex_destroy(&dev->memory_lock);
	pthread_mutex_destroy(&dev->map_lock);
	free(dev);
}

static int init_locks(struct svm_xe_device *dev)
{
	pthread_mutex_t *locks[] = { &dev->kill_lock,  &dev->span_lock,	  &dev->bind_lock,
				     &dev->event_lock, &dev->memory_lock, &dev->map_lock };

	for (size_t i = 0; i < sizeof(locks) / sizeof(locks[0]); i++) {
		int ret = pthread_mutex_init(locks[i], NULL);

		if (ret == 0)
			continue;
		while (i > 0)
			pthread_mutex_destroy(locks[--i]);
		return -ret;
	}
	return 0;
}

static int open_device(struct svm_xe_device *dev, const struct svm_backend_open *args)
{
	const struct svm_device_import *import = args->import;
	const char *what = NULL;
	int ret = import ? svm_xe_import_file(dev, import) : open_node(dev);

	if (ret < 0)
		return ret;
	if (dev->fd == 0) {
		/* No hint can name that number (xe_vm_madvise.c). */
		dev->fd = fcntl(0, F_DUPFD_CLOEXEC, 1);
		(void)close(0);
		if (dev->fd < 0)
			return -EMFILE;
	}
	dev->mode = dev->options.mode;
	ret = svm_xe_probe(dev->fd, &dev->info, &what);
	if (ret == 0 && args->flags & SVM_OPEN_NATIVE && !import) {
		dev->is_mirrored = svm_xe_native_could(dev);
		dev->mode = dev->is_mirrored ? SVM_XE_MODE_FAULTS : dev->options.mode;
		if (!dev->is_mirrored)
			svm_xe_log(
				dev, SVM_LOG_INFO,
				"not native: device, kernel (CPU_ADDR_MIRROR, Linux 6.15) or options");
	}
	if (ret == 0) {
		ret = import ? svm_xe_import_vm(dev, import) : 0;
		if (ret == 0)
			ret = set_limits(dev, import);
		if (ret < 0)
			return ret;
		dev->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		what = "eventfd";
		ret = dev->event_fd < 0 ? -errno : start(dev, &what);
	}
	if (ret < 0)
		svm_xe_log(dev, SVM_LOG_ERROR, "cannot be used: %s (error %d)", what, -ret);
	return ret;
}

static int xe_open(const struct svm_backend_open *args, void **ret_dev)
{
	struct svm_xe_device *dev;
	const char *where;
	int ret;

	if (args->size != sizeof(*args))
		return -EINVAL;
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	dev->fd = -1;
	dev->event_fd = -1;
	dev->bind_limit = UINT64_MAX;
	dev->window_base = args->window_base;
	dev->window_size = args->window_size;
	dev->log = args->log;
	dev->log_data = args->log_data;
	(void)snprintf(dev->node, sizeof(dev->node), "device");
	ret = svm_xe_options_parse(args->options, &dev->options, &where);
	if (ret < 0)
		svm_xe_log(dev, SVM_LOG_ERROR,
			   "option '%.40s': want [renderDN or N][:memory=SIZE][:copy=engine|cpu]"
			   "[:host=alias|none][:placement=vram|system][:vm=jobs|long|faults]",
			   where);
	dev->options.units_64k = args->flags & SVM_OPEN_64K_UNITS;
	if (ret == 0 && args->import && (dev->options.which || dev->options.has_mode)) {
		svm_xe_log(dev, SVM_LOG_ERROR, "option '%.40s': the open file and its VM say that",
			   args->options);
		ret = -EINVAL;
	}
	if (ret == 0)
		ret = init_locks(dev);
	if (ret < 0) {
		free(dev);
		return ret;
	}
	ret = open_device(dev, args);
	if (ret < 0) {
		destroy(dev);
		return ret;
	}
	svm_xe_log(dev, SVM_LOG_INFO, "graphics %u.%02u, %llu MiB of %s memory%s",
		   dev->info.ip / 100, dev->info.ip % 100, (unsigned long long)(dev->memory >> 20),
		   dev->placement == 1 ? "system" : "device",
		   dev->has_engine ? "" : ", no copy engine");
	*ret_dev = dev;
	return 0;
}

static void xe_close(void *device)
{
	destroy(device);
}

static void xe_caps(void *device, struct svm_backend_caps *ret_caps)
{
	const struct svm_xe_device *dev = device;

	*ret_caps = (struct svm_backend_caps){
		.caps = dev->caps,
		.n_engines = dev->info.n_copy,
		.va_start = SVM_XE_VA_START,
		.va_end = SVM_XE_VA_END,
		.memory_size = dev->memory,
	};
}

/* ---- The end ---------------------------------------------------------------------------------- */

static void xe_kill(void *device)
{
	struct svm_xe_device *dev = device;

	atomic_store(&dev->is_lost, true);
	pthread_mutex_lock(&dev->kill_lock);
	if (!dev->is_killed) {
		svm_xe_engine_stop(&dev->copy, PATIENCE_NS);
		svm_xe_engine_stop(&dev->work, PATIENCE_NS);
		leave_shared(dev);
		/* Whoever is in a bind is through it then, and finds the loss or no VM the next time. */
		pthread_mutex_lock(&dev->bind_lock);
		svm_xe_vm_destroy(dev, &dev->copy_vm);
		if (!dev->is_imported)
			svm_xe_vm_destroy(dev, &dev->shared_vm);
		pthread_mutex_unlock(&dev->bind_lock);
		dev->is_killed = true;
		atomic_store(&dev->is_settled, true);
		svm_xe_raise(dev);
	}
	pthread_mutex_unlock(&dev->kill_lock);
}

static int xe_memory_kept(void *device)
{
	(void)device;
	return 0;
}

const struct svm_backend_ops svm_backend_xe = {
	.abi = SVM_BACKEND_ABI,
	.size = sizeof(struct svm_backend_ops),
	.name = "xe",
	.enumerate = xe_enumerate,
	.open = xe_open,
	.close = xe_close,
	.caps = xe_caps,
	.chunk_alloc = svm_xe_chunk_alloc,
	.chunk_free = svm_xe_chunk_free,
	.chunk_map = svm_xe_chunk_map,
	.span_add = svm_xe_span_add,
	.span_remove = svm_xe_span_remove,
	.bind = svm_xe_bind,
	.copy = svm_xe_copy,
	.work = svm_xe_work,
	.event_fd = xe_event_fd,
	.event_ack = xe_event_ack,
	.completed = xe_completed,
	.kill = xe_kill,
	.memory_kept = xe_memory_kept,
	.native_advise = svm_xe_native_advise,
	.native_prefetch = svm_xe_native_prefetch,
};
