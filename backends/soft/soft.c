// SPDX-License-Identifier: MIT
/* The soft device's table: what the core asks for, turned into commands for its process. */
#include "soft_internal.h"
#include <errno.h>
#include <string.h>

/* ---- Timelines -------------------------------------------------------------------------------- */

/* What the process says is done, within what was asked for. */
static uint64_t timeline_done(const struct svm_soft_timeline *t)
{
	uint64_t done = atomic_load(t->done);

	return done > t->submitted || done < t->reported ? t->reported : done;
}

/* LOCKING: t's lock. Go over what is done: 0, or the status of the first failure. With stop_before it
 * stays unreported, for completed() to find. */
static int timeline_advance(struct svm_soft_timeline *t, bool stop_before)
{
	uint64_t done = timeline_done(t);

	while (t->reported < done) {
		int status = atomic_load(&t->status[t->reported % t->n_entries]);

		if (status && stop_before)
			return status;
		t->reported++;
		if (status)
			/* -ENODEV would say that the device is lost. */
			return status > 0 || status < -4095 || status == -ENODEV ? -EIO : status;
	}
	return 0;
}

int svm_soft_timeline_reserve(struct svm_soft_timeline *t, uint32_t n, uint32_t n_spare)
{
	if (t->submitted - t->reported + n > t->n_entries - n_spare)
		(void)timeline_advance(t, true);
	return t->submitted - t->reported + n > t->n_entries - n_spare ? -EAGAIN : 0;
}

void svm_soft_line_kick(struct svm_soft_line *line)
{
	/* Pairs with line_wait() of the process. */
	if (atomic_load(&line->asleep) && atomic_exchange(&line->asleep, 0))
		svm_soft_futex_wake(&line->asleep, 1);
}

static void add_one(int fd)
{
	static const uint64_t one = 1;

	/* EAGAIN cannot be: the count is far below 2^64. */
	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void svm_soft_signal(struct svm_soft_device *dev)
{
	if (atomic_exchange(&dev->ctl->event_armed, 0))
		add_one(dev->event_fd);
}

/* A failure that completed() has yet to tell. */
static bool has_news(struct svm_soft_device *dev)
{
	bool news = false;

	for (unsigned int i = 0; i < SVM_TIMELINES && !news; i++) {
		struct svm_soft_timeline *t = &dev->timelines[i];

		pthread_mutex_lock(&t->lock);
		news = timeline_advance(t, true) != 0;
		pthread_mutex_unlock(&t->lock);
	}
	return news;
}

static int soft_completed(void *device, enum svm_timeline timeline, uint64_t *ret_value)
{
	struct svm_soft_device *dev = device;
	struct svm_soft_timeline *t = &dev->timelines[timeline];
	/* Asked first: what is done after this was read is all that ever will be. */
	bool stopped = svm_soft_stopped(dev);
	int status;

	pthread_mutex_lock(&t->lock);
	status = timeline_advance(t, false);
	*ret_value = t->reported;
	pthread_mutex_unlock(&t->lock);
	if (!stopped)
		return status;
	if (status) {
		/* There is more to tell, at least the loss. */
		svm_soft_signal(dev);
		return status;
	}
	/* How work failed is told before the loss, which would end the questions. */
	return atomic_load(&dev->is_killed) || !has_news(dev) ? -ENODEV : 0;
}

/* ---- Binding and work ------------------------------------------------------------------------- */

static int bind_check(struct svm_soft_device *dev, const struct svm_bind *b)
{
	uint64_t last = b->addr + b->size - 1;

	if (b->size == 0 || (b->addr | b->size | b->offset) % SVM_PAGE_SIZE)
		return -EINVAL;
	if (last < b->addr || b->addr / SVM_BLOCK_SIZE != last / SVM_BLOCK_SIZE)
		return -EINVAL;
	if (b->flags & SVM_BIND_UNBIND)
		return b->flags == SVM_BIND_UNBIND ? 0 : -EINVAL;
	if (b->flags & ~(SVM_BIND_WRITE | SVM_BIND_HOST))
		return -EINVAL;
	if (!(b->flags & SVM_BIND_WRITE) && !dev->options.read_only)
		return -EOPNOTSUPP;
	if (b->flags & SVM_BIND_HOST) {
		if (!dev->options.host)
			return -EOPNOTSUPP;
		/* The file is as long as the window. */
		return b->offset > dev->window_size || b->size > dev->window_size - b->offset
			       ? -EINVAL
			       : 0;
	}
	if (!svm_soft_chunk_valid(dev, b->chunk))
		return -EINVAL;
	return b->offset > SVM_BLOCK_SIZE || b->size > SVM_BLOCK_SIZE - b->offset ? -EINVAL : 0;
}

static struct svm_soft_bind_cmd bind_cmd(const struct svm_bind *b, bool is_last)
{
	struct svm_soft_bind_cmd cmd = {
		.addr = b->addr,
		.size = b->size,
		.offset = b->offset,
		.op = SVM_SOFT_BIND_HOST,
		.flags = is_last ? SVM_SOFT_BIND_LAST : 0,
	};

	if (b->flags & SVM_BIND_WRITE)
		cmd.flags |= SVM_SOFT_BIND_WRITE;
	if (b->flags & SVM_BIND_UNBIND) {
		cmd.op = SVM_SOFT_BIND_NONE;
	} else if (!(b->flags & SVM_BIND_HOST)) {
		cmd.op = SVM_SOFT_BIND_MEMORY;
		cmd.offset += svm_soft_chunk_offset(b->chunk);
	}
	return cmd;
}

static int soft_bind(void *device, const struct svm_bind *binds, size_t n_binds,
		     struct svm_point *ret_point)
{
	struct svm_soft_device *dev = device;
	struct svm_soft_timeline *t = &dev->timelines[SVM_TIMELINE_BIND];
	uint64_t value;
	int ret;

	if (n_binds == 0 || n_binds > SVM_BIND_BATCH)
		return -EINVAL;
	for (size_t i = 0; i < n_binds; i++) {
		ret = bind_check(dev, &binds[i]);
		if (ret < 0)
			return ret;
		if (!svm_soft_covers(dev, binds[i].addr, binds[i].size))
			return -EINVAL;
	}
	if (atomic_load(&dev->is_dead))
		return -ENODEV;
	pthread_mutex_lock(&t->lock);
	/* One entry stays free: a span op has nobody to retry it. */
	ret = svm_soft_timeline_reserve(t, (uint32_t)n_binds, 1);
	if (ret < 0)
		goto unlock;
	for (size_t i = 0; i < n_binds; i++)
		dev->ctl->binds[(t->submitted + i) % SVM_SOFT_BINDS] =
			bind_cmd(&binds[i], i + 1 == n_binds);
	t->submitted += n_binds;
	value = t->submitted;
	atomic_store(&dev->ctl->bind.submitted, value);
unlock:
	pthread_mutex_unlock(&t->lock);
	if (ret < 0)
		return ret;
	svm_soft_line_kick(&dev->ctl->bind);
	*ret_point = (struct svm_point){ .timeline = SVM_TIMELINE_BIND, .value = value };
	return 0;
}

static int work_submit(struct svm_soft_device *dev, const struct svm_soft_work_cmd *cmd,
		       const void *args, size_t args_size, struct svm_point *ret_point)
{
	struct svm_soft_timeline *t = &dev->timelines[SVM_TIMELINE_WORK];
	struct svm_soft_work_cmd *entry;
	uint64_t value;
	int ret;

	if (atomic_load(&dev->is_dead))
		return -ENODEV;
	pthread_mutex_lock(&t->lock);
	ret = svm_soft_timeline_reserve(t, 1, 0);
	if (ret < 0)
		goto unlock;
	entry = &dev->ctl->works[t->submitted % SVM_SOFT_WORKS];
	*entry = *cmd;
	if (args_size)
		memcpy(entry->args, args, args_size);
	value = ++t->submitted;
	atomic_store(&dev->ctl->work.submitted, value);
unlock:
	pthread_mutex_unlock(&t->lock);
	if (ret < 0)
		return ret;
	svm_soft_line_kick(&dev->ctl->work);
	*ret_point = (struct svm_point){ .timeline = SVM_TIMELINE_WORK, .value = value };
	return 0;
}

static int soft_work(void *device, const struct svm_work *work, struct svm_point *ret_point)
{
	struct svm_soft_device *dev = device;
	struct svm_soft_work_cmd cmd = {
		.op = work->is_fill ? SVM_SOFT_WORK_FILL : SVM_SOFT_WORK_COPY,
		.value = work->value,
		.dst = work->dst,
		.src = work->src,
		.size = work->size,
	};

	if (work->size == 0 || work->is_fill > 1 || work->value > UINT8_MAX)
		return -EINVAL;
	if (!svm_soft_covers(dev, work->dst, work->size))
		return -EINVAL;
	if (!work->is_fill && !svm_soft_covers(dev, work->src, work->size))
		return -EINVAL;
	return work_submit(dev, &cmd, NULL, 0, ret_point);
}

static int soft_launch(void *device, void (*kernel)(const void *, uint64_t, uint64_t),
		       const void *args, size_t args_size, uint64_t n, struct svm_point *ret_point)
{
	struct svm_soft_work_cmd cmd = { .op = SVM_SOFT_WORK_LAUNCH, .n = n, .kernel = kernel };

	if (!kernel || n == 0 || args_size > SVM_SOFT_ARGS_SIZE || (args_size && !args))
		return -EINVAL;
	return work_submit(device, &cmd, args, args_size, ret_point);
}

/* ---- Faults ----------------------------------------------------------------------------------- */

/* A fault is named by its engine and how many that engine had before. */
#define COOKIE_ENGINES 256u

static void fault_answer(struct svm_soft_fault *slot, int status)
{
	atomic_store(&slot->status, status);
	atomic_store(&slot->state, SVM_SOFT_FAULT_DONE);
	svm_soft_futex_wake(&slot->state, 1);
}

static bool fault_move(struct svm_soft_fault *slot, uint32_t from, uint32_t to)
{
	return atomic_compare_exchange_strong(&slot->state, &from, to);
}

/* One engine's fault, if it has one that nobody has read: 1 and *ret_fault. */
static int fault_take(struct svm_soft_device *dev, uint32_t engine,
		      struct svm_device_fault *ret_fault)
{
	struct svm_soft_fault *slot = &dev->ctl->faults[engine];
	uint64_t addr;

	if (!fault_move(slot, SVM_SOFT_FAULT_PENDING, SVM_SOFT_FAULT_TAKEN))
		return 0;
	addr = atomic_load(&slot->addr);
	if (!svm_soft_covers(dev, addr, SVM_PAGE_SIZE)) {
		/* Not an address of the shared VM: nobody can bring it. */
		fault_answer(slot, -ENODEV);
		return 0;
	}
	*ret_fault = (struct svm_device_fault){
		.addr = addr,
		.access = atomic_load(&slot->access) == SVM_ACCESS_READ ? SVM_ACCESS_READ
									: SVM_ACCESS_WRITE,
		.cookie = (uint64_t)atomic_load(&slot->number) * COOKIE_ENGINES + engine,
	};
	return 1;
}

static int soft_fault_read(void *device, struct svm_device_fault *faults, size_t n_faults)
{
	struct svm_soft_device *dev = device;
	uint32_t n_engines = dev->options.n_engines;
	uint32_t i = 0;
	uint64_t count;
	int n = 0;

	/* Before looking: a fault that comes later makes it readable again. EAGAIN: there is none. */
	(void)!read(dev->fault_fd, &count, sizeof(count));
	for (; i < n_engines && (size_t)n < n_faults; i++)
		n += fault_take(dev, i, &faults[n]);
	/* No room: the rest may be waiting, so it stays readable. */
	if (i < n_engines)
		add_one(dev->fault_fd);
	return n;
}

static int soft_fault_done(void *device, const struct svm_device_fault *fault, int status)
{
	struct svm_soft_device *dev = device;
	uint32_t engine = (uint32_t)(fault->cookie % COOKIE_ENGINES);
	struct svm_soft_fault *slot;

	if (engine >= dev->options.n_engines || status > 0)
		return -EINVAL;
	slot = &dev->ctl->faults[engine];
	if (atomic_load(&slot->number) != fault->cookie / COOKIE_ENGINES)
		return -ENOENT;
	if (!fault_move(slot, SVM_SOFT_FAULT_TAKEN, SVM_SOFT_FAULT_ANSWERING))
		return -ENOENT;
	fault_answer(slot, status);
	return 0;
}

/* ---- Facts ------------------------------------------------------------------------------------ */

static int soft_enumerate(unsigned int i, struct svm_device_info *ret_info)
{
	struct svm_soft_options options;
	const char *where;
	const char *why;
	int ret;

	if (i > 0)
		return -ENOENT;
	ret = svm_soft_options_parse("", &options, &why, &where);
	if (ret < 0)
		return ret;
	*ret_info = (struct svm_device_info){
		.size = ret_info->size,
		.name = "soft",
		.backend = "soft",
		.id = UINT32_MAX,
		.caps = svm_soft_options_caps(&options),
		.memory_size = options.memory,
		.va_start = SVM_SOFT_VA_START,
		.va_end = SVM_SOFT_VA_END,
		.n_engines = options.n_engines,
	};
	return 0;
}

static void soft_caps(void *device, struct svm_backend_caps *ret_caps)
{
	const struct svm_soft_device *dev = device;

	*ret_caps = (struct svm_backend_caps){
		.caps = dev->caps,
		.n_engines = dev->options.n_engines,
		.va_start = SVM_SOFT_VA_START,
		.va_end = SVM_SOFT_VA_END,
		.memory_size = dev->options.memory,
	};
}

static int soft_event_fd(void *device)
{
	const struct svm_soft_device *dev = device;

	return dev->epoll_fd;
}

static int soft_fault_fd(void *device)
{
	const struct svm_soft_device *dev = device;

	return dev->options.faults ? dev->fault_fd : -EOPNOTSUPP;
}

static int soft_memory_kept(void *device)
{
	const struct svm_soft_device *dev = device;

	return dev->options.keep && dev->options.visible;
}

const struct svm_backend_ops svm_backend_soft = {
	.abi = SVM_BACKEND_ABI,
	.size = sizeof(struct svm_backend_ops),
	.name = "soft",
	.enumerate = soft_enumerate,
	.open = svm_soft_open,
	.close = svm_soft_close,
	.caps = soft_caps,
	.chunk_alloc = svm_soft_chunk_alloc,
	.chunk_free = svm_soft_chunk_free,
	.chunk_map = svm_soft_chunk_map,
	.span_add = svm_soft_span_add,
	.span_remove = svm_soft_span_remove,
	.bind = soft_bind,
	.copy = svm_soft_copy,
	.work = soft_work,
	.launch = soft_launch,
	.event_fd = soft_event_fd,
	.event_ack = svm_soft_event_ack,
	.completed = soft_completed,
	.fault_fd = soft_fault_fd,
	.fault_read = soft_fault_read,
	.fault_done = soft_fault_done,
	.kill = svm_soft_kill_device,
	.memory_kept = soft_memory_kept,
};
