/* SPDX-License-Identifier: MIT */
/* The hmm-mirror backend's table: which devices there are, opening and closing, the engine, hints, what happened. */
#include "hmm_mirror_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE ((size_t)SVM_PAGE_SIZE)
#define DEFAULT_MEMORY \
	(UINT64_C(256) << 20) /* what coherent ones have; the others get as much as there is */
#define VA_END	     (UINT64_C(1) << 47)
#define SCRATCH_SIZE (SVM_NATIVE_BATCH_PAGES * PAGE)
#define BUFFER_SIZE  ((SVM_HMM_SLICE + 1u) * PAGE)

static void say(const struct svm_backend_open *args, const char *what, const char *name, int error)
{
	char line[160];

	if (!args->log)
		return;
	(void)snprintf(line, sizeof(line), "hmm-mirror: %s '%.64s' (error %d)", what, name, -error);
	args->log(args->log_data, SVM_LOG_ERROR, line);
}

static void add_one(int fd)
{
	static const uint64_t one = 1;

	/* EAGAIN cannot be: the count is far below 2^64. */
	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* ---- Which there are -------------------------------------------------------------------------- */

static void node_name(uint32_t minor, char *name, size_t size)
{
	(void)snprintf(name, size, "/dev/hmm_dmirror%u", minor);
}

static int hmm_enumerate(unsigned int i, struct svm_device_info *ret_info)
{
	for (uint32_t minor = 0; minor < SVM_HMM_NODES; minor++) {
		char node[32];

		node_name(minor, node, sizeof(node));
		if (access(node, R_OK | W_OK) < 0 || i-- > 0)
			continue;
		*ret_info = (struct svm_device_info){
			.size = sizeof(*ret_info),
			.backend = "hmm-mirror",
			.caps = SVM_CAP_NATIVE | SVM_CAP_WORK,
			.memory_size = DEFAULT_MEMORY,
			.va_end = VA_END,
			.n_engines = 1,
		};
		(void)snprintf(ret_info->name, sizeof(ret_info->name), "hmm-mirror:%u", minor);
		return 0;
	}
	return -ENOENT;
}

/* ---- Life ------------------------------------------------------------------------------------- */

/* Nodes that this process has open: two mirrors of one device in a process would lose what the other writes. */
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static bool is_open[SVM_HMM_NODES];

static int claim(uint32_t minor)
{
	int r = 0;

	pthread_mutex_lock(&open_lock);
	if (is_open[minor])
		r = -EBUSY;
	is_open[minor] = true;
	pthread_mutex_unlock(&open_lock);
	return r;
}

static void unclaim(uint32_t minor)
{
	pthread_mutex_lock(&open_lock);
	is_open[minor] = false;
	pthread_mutex_unlock(&open_lock);
}

/* LOCKING: dev->lock. */
static void end_work(struct svm_hmm_device *dev, int error)
{
	dev->completed++;
	if (error) {
		struct svm_hmm_failure *failure =
			&dev->failures[dev->failures_tail++ % SVM_HMM_FAILURES];

		*failure = (struct svm_hmm_failure){ dev->completed, error };
	}
	add_one(dev->event_fd);
}

static void *engine(void *arg)
{
	struct svm_hmm_device *dev = arg;

	pthread_mutex_lock(&dev->lock);
	while (!dev->closing) {
		struct svm_work work;
		int r;

		/* Failures that nobody has asked for are not run over. */
		if (dev->completed == dev->submitted || atomic_load(&dev->is_dead) ||
		    dev->failures_tail - dev->failures_head == SVM_HMM_FAILURES) {
			pthread_cond_wait(&dev->changed, &dev->lock);
			continue;
		}
		work = dev->ring[dev->completed % SVM_HMM_QUEUE];
		pthread_mutex_unlock(&dev->lock);
		r = svm_hmm_do_work(dev, &work);
		pthread_mutex_lock(&dev->lock);
		if (!atomic_load(&dev->is_dead))
			end_work(dev, r);
	}
	pthread_mutex_unlock(&dev->lock);
	return NULL;
}

static int start_engine(struct svm_hmm_device *dev)
{
	sigset_t all;
	sigset_t old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&dev->engine, NULL, engine, dev);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r == 0)
		(void)pthread_setname_np(dev->engine, "svm-hmm-mirror");
	return r;
}

static int map_buffers(struct svm_hmm_device *dev)
{
	uint8_t *map = mmap(NULL, SCRATCH_SIZE + 2u * BUFFER_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return -errno;
	dev->scratch = map;
	dev->buffer = map + SCRATCH_SIZE;
	dev->pages = dev->buffer + BUFFER_SIZE;
	return 0;
}

static int open_node(struct svm_hmm_device *dev, const struct svm_backend_open *args)
{
	char node[32];
	int r;

	node_name(dev->minor, node, sizeof(node));
	dev->fd = open(node, O_RDWR | O_CLOEXEC);
	if (dev->fd >= 0)
		return 0;
	r = -errno;
	say(args, "cannot open", node, r);
	return r == -ENOENT || r == -ENXIO ? -ENOENT : r;
}

static void delete (struct svm_hmm_device *dev)
{
	if (dev->scratch)
		munmap(dev->scratch, SCRATCH_SIZE + 2u * BUFFER_SIZE);
	if (dev->event_fd >= 0)
		close(dev->event_fd);
	if (dev->fd >= 0)
		close(dev->fd);
	pthread_cond_destroy(&dev->changed);
	pthread_mutex_destroy(&dev->lock);
	pthread_mutex_destroy(&dev->write_lock);
	unclaim(dev->minor);
	free(dev);
}

static int hmm_open(const struct svm_backend_open *args, void **ret_dev)
{
	struct svm_hmm_options options;
	struct svm_hmm_device *dev;
	const char *where = "";
	int r = svm_hmm_options_parse(args->options, &options, &where);

	if (r < 0) {
		say(args, "unknown or bad option at", where, r);
		return r;
	}
	r = claim(options.minor);
	if (r < 0)
		return r;
	dev = calloc(1, sizeof(*dev));
	if (!dev) {
		unclaim(options.minor);
		return -ENOMEM;
	}
	dev->minor = options.minor;
	dev->fd = -1;
	dev->event_fd = -1;
	dev->memory = options.memory ? options.memory : DEFAULT_MEMORY;
	pthread_mutex_init(&dev->lock, NULL);
	pthread_mutex_init(&dev->write_lock, NULL);
	pthread_cond_init(&dev->changed, NULL);
	r = open_node(dev, args);
	if (r == 0)
		r = map_buffers(dev);
	if (r == 0) {
		dev->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		r = dev->event_fd < 0 ? -errno : 0;
	}
	if (r == 0) {
		svm_hmm_probe(dev, options.uffd);
		r = start_engine(dev);
	}
	if (r < 0) {
		delete (dev);
		return r;
	}
	*ret_dev = dev;
	return 0;
}

static void hmm_close(void *device)
{
	struct svm_hmm_device *dev = device;

	pthread_mutex_lock(&dev->lock);
	dev->closing = true;
	pthread_cond_signal(&dev->changed);
	pthread_mutex_unlock(&dev->lock);
	pthread_join(dev->engine, NULL);
	/* The driver brings home what is in its memory when its file is closed. */
	delete (dev);
}

static void hmm_caps(void *device, struct svm_backend_caps *ret_caps)
{
	const struct svm_hmm_device *dev = device;

	*ret_caps = (struct svm_backend_caps){
		.caps = SVM_CAP_NATIVE | SVM_CAP_WORK | (dev->has_uffd ? SVM_CAP_NATIVE_UFFD : 0) |
			(dev->has_exclusive ? SVM_CAP_SYSTEM_ATOMICS : 0),
		.n_engines = 1,
		.va_end = VA_END,
		.memory_size = dev->memory,
	};
}

/* ---- Work ------------------------------------------------------------------------------------- */

static int hmm_work(void *device, const struct svm_work *work, struct svm_point *ret_point)
{
	struct svm_hmm_device *dev = device;
	int r = 0;

	pthread_mutex_lock(&dev->lock);
	if (atomic_load(&dev->is_dead)) {
		r = -ENODEV;
	} else if (dev->submitted - dev->completed == SVM_HMM_QUEUE) {
		r = -EAGAIN;
	} else {
		dev->ring[dev->submitted++ % SVM_HMM_QUEUE] = *work;
		*ret_point = (struct svm_point){ .timeline = SVM_TIMELINE_WORK,
						 .value = dev->submitted };
		pthread_cond_signal(&dev->changed);
	}
	pthread_mutex_unlock(&dev->lock);
	return r;
}

static int hmm_event_fd(void *device)
{
	const struct svm_hmm_device *dev = device;

	return dev->event_fd;
}

static void hmm_event_ack(void *device)
{
	const struct svm_hmm_device *dev = device;
	uint64_t count;

	while (read(dev->event_fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

static int hmm_completed(void *device, enum svm_timeline timeline, uint64_t *ret_value)
{
	struct svm_hmm_device *dev = device;
	int r = 0;

	pthread_mutex_lock(&dev->lock);
	*ret_value = timeline == SVM_TIMELINE_WORK ? dev->completed : 0;
	if (timeline == SVM_TIMELINE_WORK && dev->failures_head != dev->failures_tail) {
		const struct svm_hmm_failure *failure =
			&dev->failures[dev->failures_head++ % SVM_HMM_FAILURES];

		*ret_value = failure->value;
		r = failure->error;
		pthread_cond_signal(&dev->changed);
	} else if (atomic_load(&dev->is_dead)) {
		r = -ENODEV;
	}
	pthread_mutex_unlock(&dev->lock);
	return r;
}

static void hmm_kill(void *device)
{
	struct svm_hmm_device *dev = device;

	/* The engine may wait for userfaultfd, and be served by our caller; it writes nothing any more. */
	atomic_store(&dev->is_dead, true);
	pthread_mutex_lock(&dev->write_lock);
	pthread_mutex_unlock(&dev->write_lock);
	add_one(dev->event_fd);
}

/* ---- System memory ---------------------------------------------------------------------------- */

static struct svm_outcome degraded(uint32_t reason)
{
	return (struct svm_outcome){ SVM_DEGRADED, reason };
}

/* The driver stores no hints. Its accesses are in place and never move a page; so much is what hints can ask for. The
 * core itself keeps to no-access and migrate-never hints. */
static int hmm_native_advise(void *device, uint64_t addr, uint64_t size,
			     const struct svm_native_hints *hints, struct svm_outcome *ret_outcome)
{
	struct svm_hmm_device *dev = device;
	int r;

	(void)size;
	if (hints->kinds & (1u << SVM_ADVICE_PREFERRED_LOCATION) && hints->place == SVM_NATIVE_OWN)
		*ret_outcome = degraded(SVM_REASON_DRIVER); /* only a prefetch brings it */
	if (hints->kinds & (1u << SVM_ADVICE_READ_MOSTLY) && hints->read_mostly)
		*ret_outcome = degraded(SVM_REASON_DRIVER);
	if (hints->kinds & (1u << SVM_ADVICE_ATOMICS) && hints->atomics == SVM_ATOMICS_SYSTEM) {
		r = dev->has_exclusive ? svm_hmm_exclusive(dev, addr) : -EOPNOTSUPP;
		if (r == -ENODEV)
			return r;
		if (r < 0)
			*ret_outcome = degraded(SVM_REASON_NO_DEVICE_ATOMICS);
	}
	return 0;
}

static int hmm_native_prefetch(void *device, uint64_t addr, uint64_t size, enum svm_native_place to)
{
	struct svm_hmm_device *dev = device;

	if (atomic_load(&dev->is_dead))
		return -ENODEV;
	return svm_hmm_migrate(dev, addr, size / PAGE, to == SVM_NATIVE_OWN);
}

static int hmm_native_query(void *device, uint64_t addr, size_t n_pages, uint8_t *ret_pages)
{
	struct svm_hmm_device *dev = device;
	int r = svm_hmm_snapshot(dev, addr, n_pages, ret_pages);

	for (size_t i = 0; i < n_pages && r == 0; i++) {
		uint8_t prot = ret_pages[i];
		uint8_t place = prot & SVM_HMM_PROT_PLACE;

		ret_pages[i] = 0;
		if (prot == SVM_HMM_PROT_ERROR)
			continue;
		if (place == SVM_HMM_PLACE_PRIVATE || place == SVM_HMM_PLACE_COHERENT)
			ret_pages[i] |= SVM_NATIVE_PAGE_OWN;
		if (prot & SVM_HMM_PROT_ACCESS)
			ret_pages[i] |= SVM_NATIVE_PAGE_MAPPED;
	}
	return r;
}

const struct svm_backend_ops svm_backend_hmm_mirror = {
	.abi = SVM_BACKEND_ABI,
	.size = sizeof(struct svm_backend_ops),
	.name = "hmm-mirror",
	.enumerate = hmm_enumerate,
	.open = hmm_open,
	.close = hmm_close,
	.caps = hmm_caps,
	.work = hmm_work,
	.event_fd = hmm_event_fd,
	.event_ack = hmm_event_ack,
	.completed = hmm_completed,
	.kill = hmm_kill,
	.native_advise = hmm_native_advise,
	.native_prefetch = hmm_native_prefetch,
	.native_query = hmm_native_query,
};
