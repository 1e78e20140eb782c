// SPDX-License-Identifier: MIT
/* Address spaces, queues, and binding in the shared VM. */
#include "xe_internal.h"
#include <errno.h>

/* Calls of bind() under way. */
#define BINDS_IN_FLIGHT 256u
#define UNIT		UINT64_C(65536)

int svm_xe_vm_create(struct svm_xe_device *dev, uint32_t flags, uint32_t *ret_vm)
{
	struct svm_xe_vm_create arg = { .flags = flags };
	int ret = svm_drm_ioctl_sure(dev->fd, SVM_XE_VM_CREATE, &arg);

	if (ret == 0)
		*ret_vm = arg.vm_id;
	return ret;
}

void svm_xe_vm_destroy(struct svm_xe_device *dev, uint32_t *vm)
{
	struct svm_xe_vm_destroy arg = { .vm_id = *vm };

	/* Fails only where the device is gone: nothing runs in the VM then. */
	if (*vm && svm_drm_ioctl_give_back(dev->fd, SVM_XE_VM_DESTROY, &arg) == 0)
		*vm = 0;
}

int svm_xe_queue_create(struct svm_xe_device *dev, uint32_t vm,
			const struct svm_xe_engine_instance *instance, uint32_t *ret_queue)
{
	struct svm_xe_queue_create arg = {
		.width = 1, .n_placements = 1, .vm_id = vm, .instances = (uintptr_t)instance
	};
	int ret = svm_drm_ioctl_sure(dev->fd, SVM_XE_QUEUE_CREATE, &arg);

	if (ret == 0)
		*ret_queue = arg.exec_queue_id;
	return ret;
}

void svm_xe_queue_destroy(struct svm_xe_device *dev, uint32_t *queue)
{
	struct svm_xe_queue_destroy arg = { .exec_queue_id = *queue };

	if (*queue && svm_drm_ioctl_give_back(dev->fd, SVM_XE_QUEUE_DESTROY, &arg) == 0)
		*queue = 0;
}

struct svm_xe_sync svm_xe_sync_wait(uint32_t syncobj, uint64_t point)
{
	return (struct svm_xe_sync){ .type = SVM_XE_SYNC_TIMELINE,
				     .handle = syncobj,
				     .timeline_value = point };
}

struct svm_xe_sync svm_xe_sync_signal(uint32_t syncobj, uint64_t point)
{
	struct svm_xe_sync sync = svm_xe_sync_wait(syncobj, point);

	sync.flags = SVM_XE_SYNC_SIGNAL;
	return sync;
}

struct svm_xe_sync svm_xe_sync_point(const struct svm_xe_device *dev, enum svm_timeline timeline,
				     uint64_t point)
{
	const struct svm_xe_timeline *t = &dev->timelines[timeline];

	if (t->syncobj)
		return svm_xe_sync_signal(t->syncobj, point);
	return (struct svm_xe_sync){ .type = SVM_XE_SYNC_USER_FENCE,
				     .flags = SVM_XE_SYNC_SIGNAL,
				     .addr = (uintptr_t)t->word.addr,
				     .timeline_value = point };
}

int svm_xe_vm_bind(struct svm_xe_device *dev, uint32_t vm, uint32_t queue,
		   struct svm_xe_bind_op *ops, uint32_t n, const struct svm_xe_sync *in,
		   const struct svm_xe_sync *out, bool sure)
{
	struct svm_xe_sync syncs[2];
	struct svm_xe_vm_bind arg = {
		.vm_id = vm, .exec_queue_id = queue, .n_binds = n, .syncs = (uintptr_t)syncs
	};

	if (n == 1)
		arg.bind = ops[0];
	else
		arg.binds = (uintptr_t)ops;
	if (in)
		syncs[arg.n_syncs++] = *in;
	if (out)
		syncs[arg.n_syncs++] = *out;
	return sure ? svm_drm_ioctl_sure(dev->fd, SVM_XE_VM_BIND, &arg)
		    : svm_drm_ioctl(dev->fd, SVM_XE_VM_BIND, &arg);
}

/* ---- The shared VM ---------------------------------------------------------------------------- */

/* Chunks are mapped in units of 64 KiB only. */
static bool has_units(const struct svm_xe_device *dev)
{
	return dev->info.vram_64k && dev->caching == SVM_XE_CACHING_WC;
}

static int bind_check(struct svm_xe_device *dev, const struct svm_bind *b)
{
	uint64_t last = b->addr + b->size - 1;

	if (b->size == 0 || (b->addr | b->size | b->offset) % SVM_PAGE_SIZE)
		return -EINVAL;
	if (last < b->addr || b->addr / SVM_BLOCK_SIZE != last / SVM_BLOCK_SIZE)
		return -EINVAL;
	if (b->addr < SVM_XE_VA_START || last >= SVM_XE_VA_END)
		return -EINVAL;
	if (b->flags & SVM_BIND_UNBIND)
		return b->flags == SVM_BIND_UNBIND ? 0 : -EINVAL;
	if (b->flags & ~(SVM_BIND_WRITE | SVM_BIND_HOST))
		return -EINVAL;
	if (b->flags & SVM_BIND_HOST) {
		if (!dev->options.host)
			return -EOPNOTSUPP;
		return !b->host_alias || (uintptr_t)b->host_alias % SVM_PAGE_SIZE ? -EINVAL : 0;
	}
	if (!svm_xe_chunk_valid(dev, b->chunk))
		return -EINVAL;
	if (has_units(dev) && (b->addr | b->size | b->offset) % UNIT)
		return -EINVAL;
	return b->offset > SVM_BLOCK_SIZE || b->size > SVM_BLOCK_SIZE - b->offset ? -EINVAL : 0;
}

static struct svm_xe_bind_op unbind_op(const struct svm_xe_device *dev, uint64_t addr,
				       uint64_t size)
{
	/* The application took away a part of a unit: none of it can stay. */
	uint64_t unit = has_units(dev) ? UNIT : SVM_PAGE_SIZE;
	uint64_t start = addr / unit * unit;
	uint64_t end = (addr + size + unit - 1) / unit * unit;

	return (struct svm_xe_bind_op){ .op = SVM_XE_BIND_UNMAP,
					.addr = start,
					.range = end - start,
					.pat_index = dev->info.pat };
}

/* A MAP over what is mapped replaces it: the device never meets a hole. */
struct svm_xe_bind_op svm_xe_bind_op(struct svm_xe_device *dev, const struct svm_bind *b)
{
	struct svm_xe_bind_op op = unbind_op(dev, b->addr, b->size);

	if (b->flags & SVM_BIND_UNBIND)
		return op;
	op.addr = b->addr;
	op.range = b->size;
	op.flags = b->flags & SVM_BIND_WRITE ? 0 : SVM_XE_BIND_READONLY;
	/* Where the kernel serves faults it would leave the page tables to them. */
	op.flags |= dev->mode == SVM_XE_MODE_JOBS ? 0 : SVM_XE_BIND_IMMEDIATE;
	if (b->flags & SVM_BIND_HOST) {
		op.op = SVM_XE_BIND_MAP_USERPTR;
		op.userptr = (uintptr_t)b->host_alias;
	} else {
		op.op = SVM_XE_BIND_MAP;
		op.obj = svm_xe_chunk_buffer(dev, b->chunk, &op.obj_offset);
		op.obj_offset += b->offset;
	}
	return op;
}

/* LOCKING: bind_lock. All n ops in order, in pieces that the kernel has room for; the last carries the fence. */
static int bind_pieces(struct svm_xe_device *dev, uint32_t n, const struct svm_xe_sync *out,
		       bool sure)
{
	bool is_idle = out->type != SVM_XE_SYNC_USER_FENCE ||
		       svm_xe_word_read(&dev->timelines[SVM_TIMELINE_BIND].word) + 1 ==
			       out->timeline_value;
	uint32_t piece = n;

	for (uint32_t i = 0; i < n;) {
		uint32_t count = n - i < piece ? n - i : piece;
		int ret = svm_xe_vm_bind(dev, dev->shared_vm, dev->bind_queue, &dev->bind_ops[i],
					 count, NULL, i + count == n ? out : NULL, sure);

		/* What has a user fence cannot be replaced before it: no piece may meet that after another one. */
		if (ret == -ENOBUFS && count > 1 && !is_idle)
			return -EBUSY;
		if (ret == -ENOBUFS && count > 1) {
			piece = (count + 1) / 2;
			continue;
		}
		if (ret < 0)
			return ret;
		i += count;
	}
	return 0;
}

/* LOCKING: bind_lock. The kernel undid a piece that failed: old mappings are back. They must not stay, and nobody may
 * take what they point to before they are gone: the point fails, once it is reached. */
static int unbind_all(struct svm_xe_device *dev, uint32_t n, const struct svm_xe_sync *out, int why)
{
	int ret;

	for (uint32_t i = 0; i < n; i++)
		dev->bind_ops[i] = unbind_op(dev, dev->bind_ops[i].addr, dev->bind_ops[i].range);
	ret = bind_pieces(dev, n, out, true);
	if (ret < 0 && !svm_xe_is_loss(dev, ret, "VM_BIND"))
		svm_xe_lose(dev, -EIO, "memory cannot be unbound");
	if (ret < 0)
		return -ENODEV;
	/* Nothing but unbinds: that is what was asked for. */
	if (why == 0)
		return 0;
	pthread_mutex_lock(&dev->event_lock);
	dev->failures[dev->n_failed++ % SVM_XE_FAILURES] =
		(struct svm_xe_failure){ .value = out->timeline_value, .status = why };
	pthread_mutex_unlock(&dev->event_lock);
	return 0;
}

static bool is_unbind(const struct svm_xe_device *dev, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (dev->bind_ops[i].op != SVM_XE_BIND_UNMAP)
			return false;
	return true;
}

static uint64_t submitted_to(struct svm_xe_device *dev)
{
	uint64_t submitted;

	pthread_mutex_lock(&dev->event_lock);
	submitted = dev->timelines[SVM_TIMELINE_BIND].submitted;
	pthread_mutex_unlock(&dev->event_lock);
	return submitted;
}

int svm_xe_bind_ops(struct svm_xe_device *dev, uint32_t n, uint64_t value, bool may_block)
{
	struct svm_xe_timeline *t = &dev->timelines[SVM_TIMELINE_BIND];
	struct svm_xe_sync out = svm_xe_sync_point(dev, SVM_TIMELINE_BIND, value);
	uint64_t submitted = submitted_to(dev);
	int ret = bind_pieces(dev, n, &out, false);

	/* Short of memory for a moment. ENOBUFS is not: it asks for smaller pieces. */
	if (ret == -ENOMEM)
		ret = bind_pieces(dev, n, &out, true);
	/* User fences: a bind of these addresses is under way. Its end is an event; or it was, just now. */
	if (ret == -EBUSY && !t->syncobj) {
		if (submitted > atomic_load(&t->done) && !may_block)
			return -EAGAIN;
		if (may_block && submitted)
			(void)svm_xe_timeline_wait(dev, SVM_TIMELINE_BIND, submitted,
						   SVM_XE_CHANGE_NS);
		ret = bind_pieces(dev, n, &out, false);
	}
	if (ret < 0) {
		if (!svm_xe_is_loss(dev, ret, "VM_BIND"))
			ret = unbind_all(dev, n, &out, is_unbind(dev, n) ? 0 : ret);
		if (ret < 0)
			return -ENODEV;
	}
	svm_xe_follow(dev, SVM_TIMELINE_BIND, value);
	return 0;
}

bool svm_xe_bind_has_room(struct svm_xe_device *dev, uint64_t value, uint64_t done,
			  uint64_t n_waiting)
{
	bool has_room;

	pthread_mutex_lock(&dev->event_lock);
	has_room = dev->n_failed - dev->n_told + n_waiting < SVM_XE_FAILURES;
	pthread_mutex_unlock(&dev->event_lock);
	return has_room && value - done < BINDS_IN_FLIGHT;
}

static int bind_locked(struct svm_xe_device *dev, const struct svm_bind *binds, uint32_t n,
		       uint64_t *ret_value)
{
	uint64_t submitted = submitted_to(dev);
	uint64_t done = atomic_load(&dev->timelines[SVM_TIMELINE_BIND].done);
	int ret;

	if (!svm_xe_bind_has_room(dev, submitted, done, 0))
		return -EAGAIN;
	if (atomic_load(&dev->is_lost))
		return -ENODEV;
	for (uint32_t i = 0; i < n; i++)
		dev->bind_ops[i] = svm_xe_bind_op(dev, &binds[i]);
	ret = svm_xe_bind_ops(dev, n, submitted + 1, false);
	if (ret == 0)
		*ret_value = submitted + 1;
	return ret;
}

int svm_xe_bind(void *device, const struct svm_bind *binds, size_t n_binds,
		struct svm_point *ret_point)
{
	struct svm_xe_device *dev = device;
	uint64_t value = 0;
	int ret;

	if (n_binds == 0 || n_binds > SVM_BIND_BATCH)
		return -EINVAL;
	for (size_t i = 0; i < n_binds; i++) {
		ret = bind_check(dev, &binds[i]);
		if (ret < 0)
			return ret;
	}
	if (atomic_load(&dev->is_lost))
		return -ENODEV;
	if (dev->submitter.has_thread) {
		ret = svm_xe_submit_bind(dev, binds, (uint32_t)n_binds, &value);
	} else {
		pthread_mutex_lock(&dev->bind_lock);
		ret = bind_locked(dev, binds, (uint32_t)n_binds, &value);
		pthread_mutex_unlock(&dev->bind_lock);
	}
	if (ret < 0)
		return atomic_load(&dev->is_lost) ? -ENODEV : ret;
	*ret_point = (struct svm_point){ .timeline = SVM_TIMELINE_BIND, .value = value };
	return 0;
}

int svm_xe_bind_change(struct svm_xe_device *dev, struct svm_xe_bind_op *op, uint64_t value)
{
	const struct svm_xe_timeline *t = &dev->timelines[SVM_TIMELINE_BIND];
	uint64_t submitted = submitted_to(dev);
	struct svm_xe_sync out;
	int ret;

	/* What has a user fence cannot be replaced before it. */
	if (!t->syncobj && submitted)
		(void)svm_xe_timeline_wait(dev, SVM_TIMELINE_BIND, submitted, SVM_XE_CHANGE_NS);
	out = svm_xe_sync_point(dev, SVM_TIMELINE_BIND, value);
	ret = svm_xe_vm_bind(dev, dev->shared_vm, dev->bind_queue, op, 1, NULL, &out, true);
	if (ret == 0)
		svm_xe_follow(dev, SVM_TIMELINE_BIND, value);
	return ret;
}

int svm_xe_vm_change(struct svm_xe_device *dev, struct svm_xe_bind_op *op)
{
	struct svm_xe_change change = { .op = *op };
	uint64_t value;
	int ret;

	if (dev->submitter.has_thread)
		return svm_xe_submit_change(dev, &change);
	pthread_mutex_lock(&dev->bind_lock);
	value = submitted_to(dev) + 1;
	ret = svm_xe_bind_change(dev, op, value);
	pthread_mutex_unlock(&dev->bind_lock);
	return ret < 0 ? ret
		       : svm_xe_timeline_wait(dev, SVM_TIMELINE_BIND, value, SVM_XE_CHANGE_NS);
}
