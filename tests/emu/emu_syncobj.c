// SPDX-License-Identifier: MIT
/*
 * Sync objects, binary and timeline. Rules and errnos as drivers/gpu/drm/drm_syncobj.c has them.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "emu_alloc.h"
#include "emu_drm_uapi.h"
#include "emu_log.h"
#include "emu_mem.h"
#include "emu_sync.h"
#include "emu_sync_file.h"
#include "emu_sys.h"

/* A waiting SYNCOBJ_EVENTFD. */
struct waiter {
	struct emu_list link;
	struct emu_fence_cb cb;
	struct emu_fence *fence; /* NULL while the point is not submitted */
	uint64_t point;
	bool available;
	int eventfd;
};

struct syncobj_fd {
	struct emu_fdobj fd;
	struct emu_syncobj *obj;
};

static struct emu_syncobj *create(void)
{
	struct emu_syncobj *s = emu_alloc(sizeof(*s));

	if (!s)
		return NULL;
	s->refs = 1;
	emu_list_init(&s->points);
	emu_list_init(&s->eventfds);
	return s;
}

struct emu_syncobj *emu_syncobj_get(struct emu_file *file, uint32_t handle)
{
	struct emu_syncobj *s;

	emu_lock();
	s = emu_ids_get(&file->syncobjs, handle);
	if (s)
		s->refs++;
	emu_unlock();
	return s;
}

/* ---- points; LOCKING: sync lock held for all of them ---- */

static void drop_points(struct emu_syncobj *s, struct emu_list *ret_dead)
{
	emu_list_for_each_safe(n, &s->points)
	{
		emu_list_del(n);
		emu_list_add_tail(ret_dead, n);
	}
}

/* Points whose fence has signalled only leave their number behind. */
static void prune(struct emu_syncobj *s, struct emu_list *ret_dead)
{
	emu_list_for_each_safe(n, &s->points)
	{
		struct emu_point *p = emu_list_entry(n, struct emu_point, link);

		if (!p->fence->signaled)
			break;
		s->last_signaled = emu_max(s->last_signaled, p->seq);
		emu_list_del(n);
		emu_list_add_tail(ret_dead, n);
	}
}

static void free_points(struct emu_list *dead)
{
	emu_list_for_each_safe(n, dead)
	{
		struct emu_point *p = emu_list_entry(n, struct emu_point, link);

		emu_list_del(n);
		emu_fence_unref(p->fence);
		emu_free(p);
	}
}

static uint64_t last_submitted(const struct emu_syncobj *s)
{
	if (emu_list_empty(&s->points))
		return s->last_signaled;
	return emu_list_entry(s->points.prev, struct emu_point, link)->seq;
}

enum lookup { MISSING, DONE, PENDING };

static enum lookup look(struct emu_syncobj *s, uint64_t point, struct emu_fence **ret_fence)
{
	if (!point) {
		if (!s->fence)
			return MISSING;
		*ret_fence = s->fence;
		return s->fence->signaled ? DONE : PENDING;
	}
	if (point <= s->last_signaled) {
		*ret_fence = NULL;
		return DONE;
	}
	emu_list_for_each(n, &s->points)
	{
		struct emu_point *p = emu_list_entry(n, struct emu_point, link);

		if (p->seq < point)
			continue;
		*ret_fence = p->fence;
		return p->fence->signaled ? DONE : PENDING;
	}
	return MISSING;
}

struct emu_fence *emu_syncobj_fence(struct emu_syncobj *s, uint64_t point)
{
	struct emu_fence *f = NULL;
	enum lookup l;

	emu_sync_lock();
	l = look(s, point, &f);
	emu_fence_ref(f);
	emu_sync_unlock();
	return l == DONE && !f ? emu_fence_signaled() : f;
}

/* ---- eventfds ---- */

static void fire(struct waiter *w)
{
	uint64_t one = 1;

	if (syscall(SYS_write, w->eventfd, &one, sizeof(one)) != sizeof(one))
		emu_log(EMU_TRACE, "eventfd full");
}

/* LOCKING: sync lock held. */
static void free_waiter(struct waiter *w)
{
	emu_fence_unref_locked(w->fence);
	emu_sys_close(w->eventfd);
	emu_free(w);
}

/* Called with the sync lock held; the waiter stays in its list until the object is looked at. */
static void waiter_signaled(struct emu_fence_cb *cb)
{
	struct waiter *w = emu_container_of(cb, struct waiter, cb);

	fire(w);
	emu_list_del(&w->link);
	free_waiter(w);
}

static void check_waiter(struct emu_syncobj *s, struct waiter *w)
{
	struct emu_fence *f = NULL;
	enum lookup l;

	if (w->fence)
		return;
	l = look(s, w->point, &f);
	if (l == MISSING)
		return;
	if (l == DONE || w->available) {
		waiter_signaled(&w->cb);
		return;
	}
	w->fence = emu_fence_ref(f);
	emu_list_add_tail(&f->cbs, &w->cb.link);
}

static void changed(struct emu_syncobj *s)
{
	emu_list_for_each_safe(n, &s->eventfds)
		check_waiter(s, emu_list_entry(n, struct waiter, link));
	emu_sync_wake_locked();
}

void emu_syncobj_unref(struct emu_syncobj *s)
{
	struct emu_list dead;
	int refs;

	emu_lock();
	refs = --s->refs;
	emu_unlock();
	if (refs)
		return;
	emu_list_init(&dead);
	emu_sync_lock();
	emu_list_for_each_safe(n, &s->eventfds)
	{
		struct waiter *w = emu_list_entry(n, struct waiter, link);

		emu_list_del(n);
		emu_list_del(&w->cb.link);
		free_waiter(w);
	}
	drop_points(s, &dead);
	emu_sync_unlock();
	free_points(&dead);
	emu_fence_unref(s->fence);
	emu_free(s);
}

void emu_syncobj_replace(struct emu_syncobj *s, struct emu_fence *f)
{
	struct emu_list dead;
	struct emu_fence *old;

	emu_list_init(&dead);
	emu_fence_ref(f);
	emu_sync_lock();
	drop_points(s, &dead);
	s->last_signaled = 0;
	old = s->fence;
	s->fence = f;
	changed(s);
	emu_sync_unlock();
	free_points(&dead);
	emu_fence_unref(old);
}

void emu_syncobj_add_point(struct emu_syncobj *s, uint64_t point, struct emu_fence *f)
{
	struct emu_point *p = emu_alloc(sizeof(*p));
	struct emu_fence *before, *old;
	struct emu_list dead;

	if (!p)
		return;
	emu_list_init(&dead);
	emu_sync_lock();
	before = emu_fence_ref(s->fence);
	emu_sync_unlock();
	p->seq = point;
	p->fence = emu_fence_merge(before, f);
	emu_fence_unref(before);
	emu_fence_ref(p->fence);
	emu_sync_lock();
	if (point <= last_submitted(s) && last_submitted(s))
		emu_strict("syncobj point %llu added after %llu", (unsigned long long)point,
			   (unsigned long long)last_submitted(s));
	emu_list_add_tail(&s->points, &p->link);
	old = s->fence;
	s->fence = p->fence;
	prune(s, &dead);
	changed(s);
	emu_sync_unlock();
	free_points(&dead);
	emu_fence_unref(old);
}

void emu_syncobj_file_close(struct emu_file *file)
{
	for (uint32_t id = 1; id < file->syncobjs.n; id++) {
		struct emu_syncobj *s;

		emu_lock();
		s = emu_ids_remove(&file->syncobjs, id);
		emu_unlock();
		if (s)
			emu_syncobj_unref(s);
	}
}

/* ---- ioctls ---- */

static int add_handle(struct emu_file *file, struct emu_syncobj *s, uint32_t *ret_handle)
{
	int r;

	emu_lock();
	r = emu_ids_add(&file->syncobjs, s, ret_handle);
	emu_unlock();
	return r;
}

int emu_syncobj_create_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_syncobj_create *a = arg;
	struct emu_syncobj *s;
	int r;

	if (a->flags & ~EMU_SYNCOBJ_CREATE_SIGNALED)
		return -EINVAL;
	s = create();
	if (!s)
		return -ENOMEM;
	if (a->flags & EMU_SYNCOBJ_CREATE_SIGNALED) {
		s->fence = emu_fence_signaled();
		if (!s->fence) {
			emu_syncobj_unref(s);
			return -ENOMEM;
		}
	}
	r = add_handle(file, s, &a->handle);
	if (r < 0)
		emu_syncobj_unref(s);
	return r;
}

int emu_syncobj_destroy_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_syncobj_destroy *a = arg;
	struct emu_syncobj *s;

	if (a->pad)
		return -EINVAL;
	emu_lock();
	s = emu_ids_remove(&file->syncobjs, a->handle);
	emu_unlock();
	if (!s)
		return -EINVAL;
	emu_syncobj_unref(s);
	return 0;
}

static void syncobj_fd_release(struct emu_fdobj *obj)
{
	struct syncobj_fd *sf = emu_container_of(obj, struct syncobj_fd, fd);

	emu_syncobj_unref(sf->obj);
	emu_free(sf);
}

static int export_object(struct emu_file *file, struct emu_drm_syncobj_handle *a)
{
	struct emu_syncobj *s = emu_syncobj_get(file, a->handle);
	struct syncobj_fd *sf;
	int r;

	if (!s)
		return -EINVAL;
	sf = emu_alloc(sizeof(*sf));
	if (!sf) {
		emu_syncobj_unref(s);
		return -ENOMEM;
	}
	sf->obj = s;
	r = emu_fdobj_create(&sf->fd, EMU_FD_SYNCOBJ, true, syncobj_fd_release);
	if (r < 0) {
		emu_syncobj_unref(s);
		emu_free(sf);
		return r;
	}
	a->fd = r;
	return 0;
}

static int export_sync_file(struct emu_file *file, struct emu_drm_syncobj_handle *a)
{
	struct emu_syncobj *s = emu_syncobj_get(file, a->handle);
	struct emu_fence *f;
	int r;

	if (!s)
		return -ENOENT;
	f = emu_syncobj_fence(s, a->point);
	emu_syncobj_unref(s);
	if (!f)
		return -EINVAL;
	r = emu_sync_file_create(f, "drm_syncobj");
	emu_fence_unref(f);
	if (r < 0)
		return r;
	a->fd = r;
	return 0;
}

static int check_handle_args(const struct emu_drm_syncobj_handle *a)
{
	if (a->pad ||
	    a->flags & ~(EMU_SYNCOBJ_HANDLE_FLAG_SYNC_FILE | EMU_SYNCOBJ_HANDLE_FLAG_TIMELINE))
		return -EINVAL;
	if (a->point && !(a->flags & EMU_SYNCOBJ_HANDLE_FLAG_TIMELINE))
		return -EINVAL;
	if (a->flags == EMU_SYNCOBJ_HANDLE_FLAG_TIMELINE)
		return -EINVAL;
	return 0;
}

int emu_syncobj_handle_to_fd_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_syncobj_handle *a = arg;
	int r = check_handle_args(a);

	if (r < 0)
		return r;
	return a->flags ? export_sync_file(file, a) : export_object(file, a);
}

static int import_sync_file(struct emu_file *file, struct emu_drm_syncobj_handle *a)
{
	struct emu_fence *f = emu_sync_file_fence(a->fd);
	struct emu_syncobj *s;

	if (!f)
		return -EINVAL;
	s = emu_syncobj_get(file, a->handle);
	if (!s) {
		emu_fence_unref(f);
		return -ENOENT;
	}
	if (a->point)
		emu_syncobj_add_point(s, a->point, f);
	else
		emu_syncobj_replace(s, f);
	emu_syncobj_unref(s);
	emu_fence_unref(f);
	return 0;
}

static int import_object(struct emu_file *file, struct emu_drm_syncobj_handle *a)
{
	struct emu_fdobj *o = emu_fdobj_get_type(a->fd, EMU_FD_SYNCOBJ);
	struct emu_syncobj *s;
	int r;

	if (!o)
		return -EINVAL;
	s = emu_container_of(o, struct syncobj_fd, fd)->obj;
	emu_lock();
	s->refs++;
	r = emu_ids_add(&file->syncobjs, s, &a->handle);
	emu_unlock();
	emu_fdobj_put(o);
	if (r < 0)
		emu_syncobj_unref(s);
	return r;
}

int emu_syncobj_fd_to_handle_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_syncobj_handle *a = arg;
	int r = check_handle_args(a);

	if (r < 0)
		return r;
	return a->flags ? import_sync_file(file, a) : import_object(file, a);
}

/* The objects of an array of handles, each with a reference. */
struct set {
	uint32_t n;
	struct emu_syncobj **obj;
	uint64_t *point;
};

static void set_finish(struct set *s)
{
	for (uint32_t i = 0; i < s->n; i++)
		emu_syncobj_unref(s->obj[i]);
	emu_free(s->obj);
	emu_free(s->point);
}

static int set_init(struct set *s, struct emu_file *file, uint64_t handles, uint64_t points,
		    uint32_t count)
{
	uint32_t *ids = emu_alloc(count * sizeof(*ids));
	int r = -ENOMEM;

	*s = (struct set){ 0 };
	s->obj = emu_alloc(count * sizeof(struct emu_syncobj *));
	s->point = emu_alloc(count * sizeof(*s->point));
	if (!ids || !s->obj || !s->point)
		goto out;
	r = emu_user_read(ids, handles, count * sizeof(*ids));
	if (r == 0 && points)
		r = emu_user_read(s->point, points, count * sizeof(*s->point));
	while (r == 0 && s->n < count) {
		s->obj[s->n] = emu_syncobj_get(file, ids[s->n]);
		if (s->obj[s->n])
			s->n++;
		else
			r = -ENOENT;
	}
out:
	emu_free(ids);
	if (r < 0)
		set_finish(s);
	return r;
}

/* One look at all: 1 done, 0 not yet, negative errno. LOCKING: sync lock. */
static int wait_look(struct set *s, uint32_t flags, uint32_t *ret_first)
{
	uint32_t n_done = 0;

	for (uint32_t i = 0; i < s->n; i++) {
		struct emu_fence *f = NULL;
		enum lookup l = look(s->obj[i], s->point[i], &f);

		if (l == MISSING) {
			if (!(flags & (EMU_SYNCOBJ_WAIT_FOR_SUBMIT | EMU_SYNCOBJ_WAIT_AVAILABLE)))
				return -EINVAL;
			continue;
		}
		if (l == PENDING && !(flags & EMU_SYNCOBJ_WAIT_AVAILABLE))
			continue;
		if (!n_done++)
			*ret_first = i;
	}
	return flags & EMU_SYNCOBJ_WAIT_ALL ? n_done == s->n : n_done > 0;
}

static int wait_set(struct set *s, uint32_t flags, int64_t timeout, uint32_t *ret_first)
{
	uint64_t deadline = timeout < 0 ? 0 : (uint64_t)timeout;
	uint32_t first = ~0u;
	int r;

	emu_sync_lock();
	while ((r = wait_look(s, flags, &first)) == 0) {
		if (!emu_sync_sleep_until(deadline)) {
			r = -ETIME;
			break;
		}
	}
	emu_sync_unlock();
	if (r > 0)
		*ret_first = first;
	return r > 0 ? 0 : r;
}

int emu_syncobj_wait_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_syncobj_wait *a = arg;
	struct set s;
	int r;

	if (a->flags &
	    ~(EMU_SYNCOBJ_WAIT_ALL | EMU_SYNCOBJ_WAIT_FOR_SUBMIT | EMU_SYNCOBJ_WAIT_DEADLINE))
		return -EINVAL;
	if (!a->count)
		return 0;
	r = set_init(&s, file, a->handles, 0, a->count);
	if (r < 0)
		return r;
	r = wait_set(&s, a->flags, a->timeout_nsec, &a->first_signaled);
	set_finish(&s);
	return r;
}

int emu_syncobj_timeline_wait_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_syncobj_timeline_wait *a = arg;
	struct set s;
	int r;

	if (a->flags & ~(EMU_SYNCOBJ_WAIT_ALL | EMU_SYNCOBJ_WAIT_FOR_SUBMIT |
			 EMU_SYNCOBJ_WAIT_AVAILABLE | EMU_SYNCOBJ_WAIT_DEADLINE))
		return -EINVAL;
	if (!a->count)
		return 0;
	r = set_init(&s, file, a->handles, a->points, a->count);
	if (r < 0)
		return r;
	r = wait_set(&s, a->flags, a->timeout_nsec, &a->first_signaled);
	set_finish(&s);
	return r;
}

int emu_syncobj_reset_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_syncobj_array *a = arg;
	struct set s;
	int r;

	if (a->pad || !a->count)
		return -EINVAL;
	r = set_init(&s, file, a->handles, 0, a->count);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < s.n; i++)
		emu_syncobj_replace(s.obj[i], NULL);
	set_finish(&s);
	return 0;
}

static int signal_set(struct set *s, bool timeline)
{
	struct emu_fence *f = emu_fence_signaled();

	if (!f)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n; i++) {
		if (timeline && s->point[i])
			emu_syncobj_add_point(s->obj[i], s->point[i], f);
		else
			emu_syncobj_replace(s->obj[i], f);
	}
	emu_fence_unref(f);
	return 0;
}

int emu_syncobj_signal_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_syncobj_array *a = arg;
	struct set s;
	int r;

	if (a->pad || !a->count)
		return -EINVAL;
	r = set_init(&s, file, a->handles, 0, a->count);
	if (r < 0)
		return r;
	r = signal_set(&s, false);
	set_finish(&s);
	return r;
}

int emu_syncobj_timeline_signal_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_syncobj_timeline_array *a = arg;
	struct set s;
	int r;

	if (a->flags || !a->count)
		return -EINVAL;
	r = set_init(&s, file, a->handles, a->points, a->count);
	if (r < 0)
		return r;
	r = signal_set(&s, true);
	set_finish(&s);
	return r;
}

int emu_syncobj_query_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_syncobj_timeline_array *a = arg;
	struct emu_list dead;
	struct set s;
	int r;

	if (a->flags & ~EMU_SYNCOBJ_QUERY_LAST_SUBMITTED || !a->count)
		return -EINVAL;
	r = set_init(&s, file, a->handles, 0, a->count);
	if (r < 0)
		return r;
	emu_list_init(&dead);
	emu_sync_lock();
	for (uint32_t i = 0; i < s.n; i++) {
		prune(s.obj[i], &dead);
		s.point[i] = a->flags ? last_submitted(s.obj[i]) : s.obj[i]->last_signaled;
	}
	emu_sync_unlock();
	free_points(&dead);
	r = emu_user_write(a->points, s.point, a->count * sizeof(*s.point));
	set_finish(&s);
	return r;
}

/* The source's fence, after a wait for its submission where the flags ask for that. */
static int transfer_source(struct emu_syncobj *src, uint64_t point, uint32_t flags,
			   struct emu_fence **ret_fence)
{
	*ret_fence = emu_syncobj_fence(src, point);
	if (*ret_fence)
		return 0;
	if (!(flags & EMU_SYNCOBJ_WAIT_FOR_SUBMIT))
		return -EINVAL;
	emu_sync_lock();
	for (;;) {
		struct emu_fence *f = NULL;

		if (look(src, point, &f) != MISSING)
			break;
		emu_sync_sleep();
	}
	emu_sync_unlock();
	*ret_fence = emu_syncobj_fence(src, point);
	return *ret_fence ? 0 : -EINVAL;
}

int emu_syncobj_transfer_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_syncobj_transfer *a = arg;
	struct emu_syncobj *src, *dst;
	struct emu_fence *f;
	int r = -ENOENT;

	if (a->pad)
		return -EINVAL;
	dst = emu_syncobj_get(file, a->dst_handle);
	if (!dst)
		return -ENOENT;
	src = emu_syncobj_get(file, a->src_handle);
	if (!src)
		goto out_dst;
	r = transfer_source(src, a->src_point, a->flags, &f);
	emu_syncobj_unref(src);
	if (r < 0)
		goto out_dst;
	if (a->dst_point)
		emu_syncobj_add_point(dst, a->dst_point, f);
	else
		emu_syncobj_replace(dst, f);
	emu_fence_unref(f);
out_dst:
	emu_syncobj_unref(dst);
	return r;
}

/* An fd of our own for the program's eventfd; EINVAL when it is another kind of file. */
static int take_eventfd(int fd)
{
	static const char want[] = "anon_inode:[eventfd]";
	char path[32], link[64];
	char digits[12];
	unsigned v = (unsigned)fd, n = 0, at = 14;
	ssize_t got;
	int own;

	own = emu_sys_fcntl(fd, F_DUPFD_CLOEXEC, 700);
	if (own < 0)
		own = emu_sys_fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return own;
	__builtin_memcpy(path, "/proc/self/fd/", 14);
	do {
		digits[n++] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	while (n)
		path[at++] = digits[--n];
	path[at] = 0;
	got = emu_sys_readlinkat(AT_FDCWD, path, link, sizeof(link));
	if (got != sizeof(want) - 1 || __builtin_memcmp(link, want, sizeof(want) - 1) != 0) {
		emu_sys_close(own);
		return -EINVAL;
	}
	return own;
}

int emu_syncobj_eventfd_ioctl(struct emu_file *file, void *arg)
{
	struct emu_drm_syncobj_eventfd *a = arg;
	struct emu_syncobj *s;
	struct waiter *w;
	int r;

	if (a->flags & ~EMU_SYNCOBJ_WAIT_AVAILABLE || a->pad)
		return -EINVAL;
	s = emu_syncobj_get(file, a->handle);
	if (!s)
		return -ENOENT;
	r = take_eventfd(a->fd);
	if (r < 0)
		goto out;
	w = emu_alloc(sizeof(*w));
	if (!w) {
		emu_sys_close(r);
		r = -ENOMEM;
		goto out;
	}
	w->eventfd = r;
	w->point = a->point;
	w->available = a->flags & EMU_SYNCOBJ_WAIT_AVAILABLE;
	w->cb.fn = waiter_signaled;
	emu_list_init(&w->cb.link);
	emu_sync_lock();
	emu_list_add_tail(&s->eventfds, &w->link);
	check_waiter(s, w);
	emu_sync_unlock();
	r = 0;
out:
	emu_syncobj_unref(s);
	return r;
}
