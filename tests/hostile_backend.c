/* SPDX-License-Identifier: MIT */
#include "hostile_backend.h"

#include "backend.h"
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BLOCK	   ((uint64_t)SVM_BLOCK_SIZE)
#define MAX_OPEN   8u
#define MAX_CHUNKS 16u
#define MAX_COPIES 4096u
#define MAX_QUEUED 64u
#define HANDLE(i)  (UINT64_C(0xbad00000) + (i))

/* A call that is under way. */
struct call {
	uint64_t value;
	uint64_t due_ns;
	int error; /* its point fails so */
	unsigned int first;
	unsigned int n_copies;
};

struct queue {
	struct call calls[MAX_QUEUED];
	unsigned int head;
	unsigned int tail;
	uint64_t submitted;
	uint64_t completed;
	uint64_t failed;
	int error;
};

static struct hostile {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool is_open;
	bool dead;
	bool closing;
	pthread_t thread;
	uint64_t random;
	uint32_t lies;
	uint32_t n_chunks;
	uint32_t n_calls;
	uint32_t n_looks;
	int event_fd;
	int fault_fd;
	char *memory;
	bool used[MAX_CHUNKS];
	struct queue queues[2];
	struct svm_copy copies[MAX_COPIES]; /* ring */
	unsigned int copy_tail;
} devices[MAX_OPEN];
static pthread_mutex_t devices_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* LOCKING: dev->lock, here and below. */
static uint64_t pick(struct hostile *dev, uint64_t n)
{
	uint64_t x = (dev->random += UINT64_C(0x9e3779b97f4a7c15));

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (x ^ (x >> 31)) % n;
}

static bool lies(struct hostile *dev, uint32_t lie, unsigned int percent)
{
	return (dev->lies & lie) && pick(dev, 100) < percent;
}

static void raise_fd(int fd)
{
	static const uint64_t one = 1;

	(void)!write(fd, &one, sizeof(one));
}

static void die(struct hostile *dev, bool quiet)
{
	dev->dead = true;
	for (unsigned int t = 0; t < 2; t++)
		dev->queues[t].head = dev->queues[t].tail;
	if (!quiet)
		raise_fd(dev->event_fd);
	pthread_cond_broadcast(&dev->changed);
}

static int any_error(struct hostile *dev)
{
	static const int errors[] = { -EIO,   -ENOMEM, -EINVAL, -EPERM,	    -EINTR,
				      -EBUSY, -EFAULT, -ENOSPC, -ETIMEDOUT, -ECANCELED };

	return errors[pick(dev, sizeof(errors) / sizeof(errors[0]))];
}

/* A call begins. Not 0: that is its answer. */
static int enter(struct hostile *dev)
{
	dev->n_calls++;
	if ((dev->lies & HOSTILE_DIES) && dev->n_calls == 40)
		die(dev, false);
	if (dev->dead)
		return -ENODEV;
	if (lies(dev, HOSTILE_STORM, 30))
		raise_fd(dev->event_fd);
	return lies(dev, HOSTILE_FAILS, 6) ? any_error(dev) : 0;
}

/* ---- Life --------------------------------------------------------------------------------------- */

static int hostile_enumerate(unsigned int i, struct svm_device_info *ret_info)
{
	(void)ret_info;
	(void)i;
	return -ENOENT;
}

static uint64_t option(const char *options, const char *name, uint64_t otherwise)
{
	size_t length = strlen(name);

	for (const char *o = options; o && *o; o = strchr(o, ':') ? strchr(o, ':') + 1 : NULL)
		if (strncmp(o, name, length) == 0 && o[length] == '=')
			return strtoull(o + length + 1u, NULL, 0);
	return otherwise;
}

static char *end_at(struct hostile *dev, const struct svm_copy_end *end)
{
	return end->host
		       ? end->host
		       : dev->memory + (end->chunk - HANDLE(0)) % MAX_CHUNKS * BLOCK + end->offset;
}

static void carry_out(struct hostile *dev, struct queue *queue)
{
	const struct call *call = &queue->calls[queue->head % MAX_QUEUED];

	for (unsigned int i = 0; i < call->n_copies && call->error == 0; i++) {
		const struct svm_copy *copy = &dev->copies[(call->first + i) % MAX_COPIES];

		if (!copy->src.host && !copy->src.peer_dev)
			memset(end_at(dev, &copy->dst), 0, copy->size);
		else
			memcpy(end_at(dev, &copy->dst), end_at(dev, &copy->src), copy->size);
	}
	queue->completed = call->value;
	if (call->error) {
		queue->failed = call->value;
		queue->error = call->error;
	}
	queue->head++;
	raise_fd(dev->event_fd);
}

/* The thread that does what is queued, when it is due. A failed point waits to be told before the next. */
static void *work_on(void *arg)
{
	struct hostile *dev = arg;

	pthread_mutex_lock(&dev->lock);
	while (!dev->closing) {
		uint64_t next = UINT64_MAX;
		struct timespec until;

		for (unsigned int t = 0; t < 2; t++) {
			struct queue *queue = &dev->queues[t];
			uint64_t due;

			if (queue->head == queue->tail || queue->error)
				continue;
			due = queue->calls[queue->head % MAX_QUEUED].due_ns;
			if (due <= now_ns()) {
				carry_out(dev, queue);
				next = 0;
			} else if (due < next) {
				next = due;
			}
		}
		if (next == 0)
			continue;
		(void)clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += 2000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		if (next == UINT64_MAX)
			pthread_cond_wait(&dev->changed, &dev->lock);
		else
			(void)pthread_cond_timedwait(&dev->changed, &dev->lock, &until);
	}
	pthread_mutex_unlock(&dev->lock);
	return NULL;
}

static int hostile_open(const struct svm_backend_open *args, void **ret_dev)
{
	pthread_condattr_t attr;
	struct hostile *dev = NULL;

	pthread_mutex_lock(&devices_lock);
	for (unsigned int i = 0; i < MAX_OPEN && !dev; i++)
		if (!devices[i].is_open)
			dev = &devices[i];
	if (dev) {
		memset(dev, 0, sizeof(*dev));
		dev->is_open = true;
	}
	pthread_mutex_unlock(&devices_lock);
	if (!dev)
		return -EMFILE;
	pthread_mutex_init(&dev->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&dev->changed, &attr);
	pthread_condattr_destroy(&attr);
	dev->random = option(args->options, "seed", 1);
	dev->lies = (uint32_t)option(args->options, "lies", 0);
	dev->n_chunks = (uint32_t)option(args->options, "memory", 4);
	if (dev->n_chunks > MAX_CHUNKS)
		dev->n_chunks = MAX_CHUNKS;
	dev->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	dev->fault_fd = eventfd(dev->lies & (HOSTILE_FAULTS | HOSTILE_MANY_FAULTS) ? 1 : 0,
				EFD_CLOEXEC | EFD_NONBLOCK);
	dev->memory = mmap(NULL, MAX_CHUNKS * BLOCK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (dev->event_fd < 0 || dev->fault_fd < 0 || dev->memory == MAP_FAILED ||
	    pthread_create(&dev->thread, NULL, work_on, dev) != 0)
		abort(); /* the test cannot work */
	*ret_dev = dev;
	return 0;
}

static void hostile_close(void *device)
{
	struct hostile *dev = device;

	pthread_mutex_lock(&dev->lock);
	dev->closing = true;
	pthread_cond_broadcast(&dev->changed);
	pthread_mutex_unlock(&dev->lock);
	pthread_join(dev->thread, NULL);
	close(dev->event_fd);
	close(dev->fault_fd);
	munmap(dev->memory, MAX_CHUNKS * BLOCK);
	pthread_cond_destroy(&dev->changed);
	pthread_mutex_destroy(&dev->lock);
	pthread_mutex_lock(&devices_lock);
	dev->is_open = false;
	pthread_mutex_unlock(&devices_lock);
}

static void hostile_caps(void *device, struct svm_backend_caps *ret_caps)
{
	const struct hostile *dev = device;

	*ret_caps = (struct svm_backend_caps){
		.caps = SVM_CAP_COPY_ENGINE | SVM_CAP_READ_ONLY | SVM_CAP_HOST_ALIAS |
			SVM_CAP_CPU_VISIBLE |
			(dev->lies & (HOSTILE_FAULTS | HOSTILE_MANY_FAULTS) ? SVM_CAP_FAULTS : 0),
		.n_engines = 1,
		.va_end = UINT64_C(1) << 47,
		.memory_size = dev->n_chunks * BLOCK,
	};
}

static void hostile_kill(void *device)
{
	struct hostile *dev = device;

	pthread_mutex_lock(&dev->lock);
	die(dev, (dev->lies & HOSTILE_QUIET) != 0);
	pthread_mutex_unlock(&dev->lock);
}

static int hostile_memory_kept(void *device)
{
	const struct hostile *dev = device;

	return (dev->lies & HOSTILE_DIES) != 0;
}

/* ---- Chunks --------------------------------------------------------------------------------------- */

static int hostile_chunk_alloc(void *device, uint64_t *ret_chunk)
{
	struct hostile *dev = device;
	unsigned int i = 0;
	int r;

	pthread_mutex_lock(&dev->lock);
	r = enter(dev);
	while (i < dev->n_chunks && dev->used[i])
		i++;
	if (r == 0 && i == dev->n_chunks)
		r = -ENOSPC;
	if (r == 0 && !(dev->lies & HOSTILE_SAME_CHUNK))
		dev->used[i] = true;
	if (r == 0)
		*ret_chunk = HANDLE(dev->lies & HOSTILE_SAME_CHUNK ? 0 : i);
	pthread_mutex_unlock(&dev->lock);
	return r;
}

static void hostile_chunk_free(void *device, uint64_t chunk)
{
	struct hostile *dev = device;

	pthread_mutex_lock(&dev->lock);
	dev->used[(chunk - HANDLE(0)) % MAX_CHUNKS] = false;
	pthread_mutex_unlock(&dev->lock);
}

static int hostile_chunk_map(void *device, uint64_t chunk, void **ret_addr)
{
	struct hostile *dev = device;
	int r = 0;

	pthread_mutex_lock(&dev->lock);
	*ret_addr = dev->memory + (chunk - HANDLE(0)) % MAX_CHUNKS * BLOCK;
	if (dev->dead || lies(dev, HOSTILE_MAPS, 50)) {
		r = pick(dev, 2) ? -EAGAIN : 0;
		*ret_addr = NULL;
	}
	pthread_mutex_unlock(&dev->lock);
	return r;
}

/* ---- Work ------------------------------------------------------------------------------------------- */

static int submit(struct hostile *dev, enum svm_timeline timeline, const struct svm_copy *copies,
		  size_t n_copies, struct svm_point *ret_point)
{
	struct queue *queue = &dev->queues[timeline];
	struct call *call;
	int r;

	pthread_mutex_lock(&dev->lock);
	r = enter(dev);
	if (r == 0 && (dev->lies & HOSTILE_FULL_FOREVER) && dev->n_calls >= 20)
		r = -EAGAIN;
	if (r == 0 && lies(dev, HOSTILE_FULL, 20)) {
		r = -EAGAIN;
		raise_fd(dev->event_fd);
	}
	if (r == 0 && queue->tail - queue->head == MAX_QUEUED)
		r = -EAGAIN;
	if (r < 0)
		goto unlock;
	call = &queue->calls[queue->tail++ % MAX_QUEUED];
	*call = (struct call){ .value = ++queue->submitted,
			       .first = dev->copy_tail,
			       .n_copies = (unsigned int)n_copies };
	/* 64 calls of 32 copies each at most. */
	for (size_t i = 0; i < n_copies; i++)
		dev->copies[dev->copy_tail++ % MAX_COPIES] = copies[i];
	if (lies(dev, HOSTILE_POINTS_FAIL, 6))
		call->error = pick(dev, 4) ? any_error(dev) : -EAGAIN;
	if (lies(dev, HOSTILE_LATE, 40))
		call->due_ns = now_ns() + pick(dev, 4000000);
	if ((dev->lies & HOSTILE_NEVER) && dev->n_calls >= 20)
		call->due_ns = UINT64_MAX;
	*ret_point = (struct svm_point){ .timeline = timeline, .value = queue->submitted };
	if ((dev->lies & HOSTILE_TIMELINE) && dev->n_calls >= 20)
		ret_point->timeline = 77;
	pthread_cond_broadcast(&dev->changed);
unlock:
	pthread_mutex_unlock(&dev->lock);
	return r;
}

static int hostile_bind(void *device, const struct svm_bind *binds, size_t n_binds,
			struct svm_point *ret_point)
{
	(void)binds;
	(void)n_binds;
	return submit(device, SVM_TIMELINE_BIND, NULL, 0, ret_point);
}

static int hostile_copy(void *device, const struct svm_copy *copies, size_t n_copies,
			uint32_t flags, struct svm_point *ret_point)
{
	(void)flags;
	return submit(device, SVM_TIMELINE_COPY, copies, n_copies, ret_point);
}

/* ---- News --------------------------------------------------------------------------------------------- */

static int hostile_event_fd(void *device)
{
	const struct hostile *dev = device;

	return dev->event_fd;
}

static void hostile_event_ack(void *device)
{
	struct hostile *dev = device;
	uint64_t count;

	pthread_mutex_lock(&dev->lock);
	if (!dev->dead)
		(void)!read(dev->event_fd, &count, sizeof(count));
	pthread_mutex_unlock(&dev->lock);
}

static int hostile_completed(void *device, enum svm_timeline timeline, uint64_t *ret_value)
{
	struct hostile *dev = device;
	struct queue *queue;
	int r = 0;

	if (timeline > SVM_TIMELINE_COPY) {
		*ret_value = 0;
		return 0;
	}
	queue = &dev->queues[timeline];
	pthread_mutex_lock(&dev->lock);
	*ret_value = queue->completed;
	dev->n_looks++;
	if (queue->error) {
		r = queue->error;
		queue->error = 0;
		raise_fd(dev->event_fd);
		pthread_cond_broadcast(&dev->changed);
	} else if (dev->dead) {
		r = -ENODEV;
	} else if (queue->head == queue->tail && lies(dev, HOSTILE_VALUES, 50)) {
		*ret_value = pick(dev, 2) ? UINT64_MAX - pick(dev, 3) : pick(dev, 1000000);
		if (*ret_value < queue->completed)
			*ret_value = 0;
	} else if (lies(dev, HOSTILE_NEWS, 50)) {
		*ret_value = queue->head == queue->tail ? queue->completed + dev->n_looks
							: queue->completed;
		r = any_error(dev);
	}
	pthread_mutex_unlock(&dev->lock);
	return r;
}

static int hostile_fault_fd(void *device)
{
	const struct hostile *dev = device;

	return dev->fault_fd;
}

static int hostile_fault_read(void *device, struct svm_device_fault *faults, size_t n_faults)
{
	static const uint64_t addresses[] = { 0,
					      4096,
					      UINT64_C(0x7ffffffff000),
					      UINT64_C(0xffff800000000000),
					      UINT64_C(0xfffffffffffff000),
					      UINT64_C(0x123456789) };
	struct hostile *dev = device;
	uint64_t count;
	unsigned int n = 0;

	pthread_mutex_lock(&dev->lock);
	(void)!read(dev->fault_fd, &count, sizeof(count));
	for (unsigned int i = 0; i < 4 && i < n_faults; i++)
		faults[n++] = (struct svm_device_fault){ .addr = addresses[pick(dev, 6)],
							 .access = (uint32_t)pick(dev, 9),
							 .cookie = pick(dev, 2) };
	if (dev->lies & HOSTILE_MANY_FAULTS)
		n = 100000;
	pthread_mutex_unlock(&dev->lock);
	return (int)n;
}

static int hostile_fault_done(void *device, const struct svm_device_fault *fault, int status)
{
	struct hostile *dev = device;

	(void)fault;
	(void)status;
	pthread_mutex_lock(&dev->lock);
	if (pick(dev, 100) < 90 && !dev->closing)
		raise_fd(dev->fault_fd);
	pthread_mutex_unlock(&dev->lock);
	return 0;
}

static const struct svm_backend_ops hostile_ops = {
	.abi = SVM_BACKEND_ABI,
	.size = sizeof(struct svm_backend_ops),
	.name = "hostile",
	.enumerate = hostile_enumerate,
	.open = hostile_open,
	.close = hostile_close,
	.caps = hostile_caps,
	.chunk_alloc = hostile_chunk_alloc,
	.chunk_free = hostile_chunk_free,
	.chunk_map = hostile_chunk_map,
	.bind = hostile_bind,
	.copy = hostile_copy,
	.event_fd = hostile_event_fd,
	.event_ack = hostile_event_ack,
	.completed = hostile_completed,
	.fault_fd = hostile_fault_fd,
	.fault_read = hostile_fault_read,
	.fault_done = hostile_fault_done,
	.kill = hostile_kill,
	.memory_kept = hostile_memory_kept,
};

static const struct svm_backend_ops *const *own_backends;

void hostile_plug(void)
{
	static const struct svm_backend_ops *list[16];
	unsigned int n = 0;

	if (own_backends)
		return;
	own_backends = svm_backends;
	for (; n < 14 && own_backends[n]; n++)
		list[n] = own_backends[n];
	list[n] = &hostile_ops;
	svm_backends = list;
}

void hostile_unplug(void)
{
	if (own_backends)
		svm_backends = own_backends;
	own_backends = NULL;
}
