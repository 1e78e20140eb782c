// SPDX-License-Identifier: MIT
/* Syncs of VM_BIND and EXEC, and the wait for a user fence (xe_sync.c, xe_wait_user_fence.c). */
#include <errno.h>

#include "emu_alloc.h"
#include "emu_log.h"
#include "emu_mem.h"
#include "emu_sync.h"
#include "emu_sys.h"
#include "emu_xe.h"

static int parse_syncobj(struct emu_xe_sync_entry *e, struct emu_file *file,
			 const struct emu_xe_sync *s, bool lr)
{
	bool timeline = s->type == EMU_XE_TIMELINE;

	if (e->signal && lr)
		return -EOPNOTSUPP;
	if (s->where >> 32)
		return -EINVAL;
	if (timeline && !s->timeline_value)
		return -EINVAL;
	e->obj = emu_syncobj_get(file, (uint32_t)s->where);
	if (!e->obj)
		return -ENOENT;
	e->value = timeline ? s->timeline_value : 0;
	if (e->signal)
		return 0;
	e->fence = emu_syncobj_fence(e->obj, e->value);
	return e->fence ? 0 : -EINVAL;
}

static int parse_user_fence(struct emu_xe_sync_entry *e, const struct emu_xe_sync *s, bool bind)
{
	uint64_t probe;

	if (!e->signal)
		return -EOPNOTSUPP;
	if (s->where & 7)
		return -EINVAL;
	/* Of a bind it is the program's memory, of an exec the GPU's address. */
	if (bind && emu_user_read(&probe, s->where, sizeof(probe)) < 0)
		return -EFAULT;
	e->addr = s->where;
	e->value = s->timeline_value;
	return 0;
}

static int parse_one(struct emu_xe_syncs *all, struct emu_file *file, uint64_t user, bool lr,
		     bool bind)
{
	struct emu_xe_sync_entry *e = &all->e[all->n];
	struct emu_xe_sync s;
	int r;

	if (emu_user_read(&s, user, sizeof(s)) < 0)
		return -EFAULT;
	if (s.flags & ~EMU_XE_SYNC_SIGNAL || s.reserved[0] || s.reserved[1])
		return -EINVAL;
	if (s.extensions && emu.strict) {
		emu_strict("sync.extensions is not zero");
		return -EINVAL;
	}
	e->type = s.type;
	e->signal = s.flags & EMU_XE_SYNC_SIGNAL;
	switch (s.type) {
	case EMU_XE_SYNCOBJ:
	case EMU_XE_TIMELINE:
		r = parse_syncobj(e, file, &s, lr);
		break;
	case EMU_XE_USER_FENCE:
		r = parse_user_fence(e, &s, bind);
		break;
	default:
		return -EINVAL;
	}
	all->n++;
	all->n_in += r == 0 && !e->signal;
	all->n_user += r == 0 && s.type == EMU_XE_USER_FENCE;
	return r;
}

int emu_xe_syncs_parse(struct emu_xe_syncs *s, struct emu_file *file, uint64_t user, uint32_t n,
		       bool lr, bool bind)
{
	int r = 0;

	*s = (struct emu_xe_syncs){ 0 };
	if (!n)
		return 0;
	s->e = emu_alloc(n * sizeof(*s->e));
	if (!s->e)
		return -ENOMEM;
	for (uint32_t i = 0; i < n && r == 0; i++)
		r = parse_one(s, file, user + i * sizeof(struct emu_xe_sync), lr, bind);
	if (r == 0 && s->n_user > 1)
		r = -EINVAL;
	if (r < 0)
		emu_xe_syncs_finish(s);
	return r;
}

void emu_xe_syncs_finish(struct emu_xe_syncs *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		if (s->e[i].obj)
			emu_syncobj_unref(s->e[i].obj);
		emu_fence_unref(s->e[i].fence);
	}
	emu_free(s->e);
	*s = (struct emu_xe_syncs){ 0 };
}

int emu_xe_syncs_inputs(struct emu_xe_syncs *s, struct emu_fence ***ret_in, uint32_t *ret_n)
{
	uint32_t n = 0;

	*ret_in = NULL;
	*ret_n = 0;
	if (!s->n_in)
		return 0;
	*ret_in = emu_alloc(s->n_in * sizeof(struct emu_fence *));
	if (!*ret_in)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n; i++)
		if (s->e[i].fence)
			(*ret_in)[n++] = emu_fence_ref(s->e[i].fence);
	*ret_n = n;
	return 0;
}

void emu_xe_syncs_publish(struct emu_xe_syncs *s, struct emu_fence *f)
{
	for (uint32_t i = 0; i < s->n; i++) {
		struct emu_xe_sync_entry *e = &s->e[i];

		if (!e->signal || !e->obj)
			continue;
		if (e->type == EMU_XE_TIMELINE)
			emu_syncobj_add_point(e->obj, e->value, f);
		else
			emu_syncobj_replace(e->obj, f);
	}
}

const struct emu_xe_sync_entry *emu_xe_syncs_user(const struct emu_xe_syncs *s)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (s->e[i].type == EMU_XE_USER_FENCE)
			return &s->e[i];
	return NULL;
}

/* ---- WAIT_USER_FENCE ---- */

enum compare { EQ, NEQ, GT, GTE, LT, LTE, N_COMPARE };

static bool holds(uint64_t have, const struct emu_xe_wait_user_fence *a)
{
	uint64_t l = have & a->mask, r = a->value & a->mask;

	switch ((enum compare)a->op) {
	case EQ:
		return l == r;
	case NEQ:
		return l != r;
	case GT:
		return l > r;
	case GTE:
		return l >= r;
	case LT:
		return l < r;
	case LTE:
		return l <= r;
	case N_COMPARE:
		break;
	}
	return false;
}

static uint64_t deadline_of(const struct emu_xe_wait_user_fence *a)
{
	uint64_t now = emu_now_ns();

	if (a->timeout < 0)
		return UINT64_MAX;
	if (a->flags & EMU_XE_UFENCE_ABSTIME)
		return (uint64_t)a->timeout;
	return (uint64_t)a->timeout > UINT64_MAX - now ? UINT64_MAX : now + (uint64_t)a->timeout;
}

/* How far the device's completions have come; it changes when one happens. */
static int wait_loop(struct emu_xe_wait_user_fence *a, struct emu_xe_queue *q, uint64_t deadline)
{
	for (;;) {
		uint64_t have, seen = emu_sync_sequence();

		if (emu_user_read(&have, a->addr, sizeof(have)) < 0)
			return -EFAULT;
		if (holds(have, a))
			return 0;
		if (q && atomic_load(&q->banned))
			return -EIO;
		if (!emu_sync_wait_change(seen, deadline))
			return -ETIME;
	}
}

int emu_xe_wait_user_fence_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_wait_user_fence *a = arg;
	struct emu_xe_queue *q = NULL;
	uint64_t deadline, now;
	int r;

	if (a->extensions || a->pad || a->pad2 || a->reserved[0] || a->reserved[1])
		return -EINVAL;
	if (a->flags & ~EMU_XE_UFENCE_ABSTIME || a->op >= N_COMPARE || a->addr & 7)
		return -EINVAL;
	if (a->exec_queue_id) {
		q = emu_xe_queue_get(file, a->exec_queue_id);
		if (!q)
			return -ENOENT;
	}
	deadline = deadline_of(a);
	r = wait_loop(a, q, deadline);
	if (q)
		emu_xe_queue_unref(q);
	now = emu_now_ns();
	if (a->timeout >= 0 && !(a->flags & EMU_XE_UFENCE_ABSTIME))
		a->timeout = now >= deadline ? 0 : (int64_t)(deadline - now);
	return r;
}
