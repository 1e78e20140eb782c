// SPDX-License-Identifier: MIT
#include "emu_core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "emu_alloc.h"
#include "emu_engine.h"
#include "emu_gem.h"
#include "emu_log.h"
#include "emu_mem.h"
#include "emu_notify.h"
#include "emu_opt.h"
#include "emu_sync.h"
#include "emu_sys.h"

struct emu_global emu = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.fds = { &emu.fds, &emu.fds },
};

void emu_lock(void)
{
	pthread_mutex_lock(&emu.lock);
}

void emu_unlock(void)
{
	pthread_mutex_unlock(&emu.lock);
}

/* ---- numbers ---- */

static int ids_grow(struct emu_ids *ids)
{
	uint32_t n = ids->n ? ids->n * 2 : 16;
	void **slot = emu_alloc(n * sizeof(*slot));

	if (!slot)
		return -ENOMEM;
	if (ids->n)
		memcpy(slot, ids->slot, ids->n * sizeof(*slot));
	emu_free(ids->slot);
	ids->slot = slot;
	ids->n = n;
	return 0;
}

int emu_ids_add(struct emu_ids *ids, void *obj, uint32_t *ret_id)
{
	uint32_t id = 1;
	int r;

	while (id < ids->n && ids->slot[id])
		id++;
	if (id >= ids->n) {
		r = ids_grow(ids);
		if (r < 0)
			return r;
	}
	ids->slot[id] = obj;
	*ret_id = id;
	return 0;
}

void *emu_ids_get(const struct emu_ids *ids, uint32_t id)
{
	return id < ids->n ? ids->slot[id] : NULL;
}

void *emu_ids_remove(struct emu_ids *ids, uint32_t id)
{
	void *obj = emu_ids_get(ids, id);

	if (obj)
		ids->slot[id] = NULL;
	return obj;
}

uint32_t emu_ids_count(const struct emu_ids *ids)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < ids->n; i++)
		n += ids->slot[i] != NULL;
	return n;
}

void emu_ids_finish(struct emu_ids *ids)
{
	emu_free(ids->slot);
	ids->slot = NULL;
	ids->n = 0;
}

/* ---- file descriptors ---- */

int emu_fdobj_create(struct emu_fdobj *obj, enum emu_fd_type type, bool cloexec,
		     void (*release)(struct emu_fdobj *))
{
	struct stat st;
	int rd, r;

	r = emu_sys_pipe(cloexec, &rd, &obj->wr);
	if (r < 0)
		return r;
	r = emu_sys_fstat(rd, &st);
	if (r < 0) {
		emu_sys_close(rd);
		emu_sys_close(obj->wr);
		return r;
	}
	obj->type = type;
	obj->refs = 1;
	obj->dev = st.st_dev;
	obj->ino = st.st_ino;
	obj->release = release;
	emu_lock();
	emu_list_add_tail(&emu.fds, &obj->link);
	emu_unlock();
	return rd;
}

struct emu_fdobj *emu_fdobj_get(int fd)
{
	struct emu_fdobj *found = NULL;
	struct stat st;

	if (!emu.ready || emu_list_empty(&emu.fds))
		return NULL;
	if (emu_sys_fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode))
		return NULL;
	emu_lock();
	emu_list_for_each(n, &emu.fds)
	{
		struct emu_fdobj *o = emu_list_entry(n, struct emu_fdobj, link);

		if (o->ino == st.st_ino && o->dev == st.st_dev) {
			o->refs++;
			found = o;
			break;
		}
	}
	emu_unlock();
	return found;
}

struct emu_fdobj *emu_fdobj_get_type(int fd, enum emu_fd_type type)
{
	struct emu_fdobj *o = emu_fdobj_get(fd);

	if (!o || o->type == type)
		return o;
	emu_fdobj_put(o);
	return NULL;
}

void emu_fdobj_put(struct emu_fdobj *obj)
{
	int refs;

	emu_lock();
	refs = --obj->refs;
	emu_unlock();
	if (refs)
		return;
	emu_sys_close(obj->wr);
	obj->release(obj);
}

/* One whose read ends are all gone, taken out of the table with its reference. */
static struct emu_fdobj *take_orphan(void)
{
	struct emu_fdobj *found = NULL;

	emu_lock();
	emu_list_for_each(n, &emu.fds)
	{
		struct emu_fdobj *o = emu_list_entry(n, struct emu_fdobj, link);

		if (emu_sys_pipe_orphaned(o->wr)) {
			emu_list_del(n);
			found = o;
			break;
		}
	}
	emu_unlock();
	return found;
}

void emu_fdobj_reap(void)
{
	struct emu_fdobj *o;

	while ((o = take_orphan()))
		emu_fdobj_put(o);
}

/* ---- nodes ---- */

struct emu_device *emu_node_find(const char *name, bool *ret_render, unsigned *ret_minor)
{
	char want[32];

	for (int i = 0; i < emu.n_devices; i++) {
		struct emu_device *d = &emu.devices[i];

		for (int render = 0; render < 2; render++) {
			snprintf(want, sizeof(want), render ? "renderD%u" : "card%u",
				 render ? d->render_minor : d->card_minor);
			if (strcmp(name, want) != 0)
				continue;
			*ret_render = render;
			*ret_minor = render ? d->render_minor : d->card_minor;
			return d;
		}
	}
	return NULL;
}

static void count_leaks(struct emu_file *file, const char *when)
{
	uint32_t gems, syncobjs, vms = 0, queues = 0;

	emu_lock();
	gems = emu_ids_count(&file->gems);
	syncobjs = emu_ids_count(&file->syncobjs);
	if (file->dev->driver->counts)
		file->dev->driver->counts(file, &vms, &queues);
	emu_unlock();
	/* No ioctl could have given anything back. */
	if (atomic_load(&file->dev->wedged) || atomic_load(&file->dev->unplugged))
		return;
	if (!(gems + syncobjs + vms + queues))
		return;
	atomic_fetch_add(&emu.n_leaked, gems + syncobjs + vms + queues);
	emu_log(EMU_REPORT, "leak: %s%u %s with %u BOs, %u VMs, %u queues, %u syncobjs",
		file->dev->driver->name, file->dev->index, when, gems, vms, queues, syncobjs);
}

static void file_release(struct emu_fdobj *obj)
{
	struct emu_file *file = emu_container_of(obj, struct emu_file, fd);

	if (!file->inherited)
		count_leaks(file, "closed");
	file->dev->driver->file_close(file);
	emu_gem_file_close(file);
	emu_syncobj_file_close(file);
	emu_ids_finish(&file->gems);
	emu_ids_finish(&file->syncobjs);
	emu_free(file);
}

/* The node is root's. The C library's geteuid() may be wrong in a thread that changed its own ids. */
static bool may_open(const struct emu_device *dev, int flags)
{
	int mode = flags & O_ACCMODE;
	unsigned want = (mode != O_WRONLY ? 4u : 0) | (mode != O_RDONLY ? 2u : 0);

	return syscall(SYS_geteuid) == 0 || (dev->mode & want) == want;
}

int emu_node_open(const char *name, int flags)
{
	struct emu_device *dev;
	struct emu_file *file;
	bool render = false;
	unsigned minor;
	int r;

	dev = emu_node_find(name, &render, &minor);
	if (!dev)
		return -ENOENT;
	if (render && !may_open(dev, flags))
		return -EACCES;
	if (atomic_load(&dev->unplugged))
		return -ENODEV;
	file = emu_alloc(sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->dev = dev;
	file->render = render;
	r = dev->driver->file_open(file);
	if (r < 0)
		goto err_free;
	r = emu_fdobj_create(&file->fd, EMU_FD_FILE, flags & O_CLOEXEC, file_release);
	if (r < 0)
		goto err_close;
	if (flags & O_NONBLOCK && emu_sys_fcntl(r, F_SETFL, O_NONBLOCK) < 0)
		emu_log(EMU_TRACE, "O_NONBLOCK not set on fd %d", r);
	atomic_fetch_add(&emu.n_files, 1);
	return r;

err_close:
	dev->driver->file_close(file);
err_free:
	emu_free(file);
	return r;
}

/* ---- ioctl ---- */

static int injected(struct emu_device *dev, unsigned nr)
{
	for (int i = 0; i < EMU_N_INJECT; i++) {
		struct emu_inject *in = &dev->inject[i];
		unsigned want = atomic_load(&in->nr);
		uint64_t at = atomic_load(&in->at), every = atomic_load(&in->every), n;

		if ((!at && !every) || (want && want != nr))
			continue;
		n = atomic_fetch_add(&in->seen, 1) + 1;
		if (n == at || (every && n % every == 0))
			return -atomic_load(&in->err);
	}
	return 0;
}

void emu_device_ends(struct emu_device *dev, _Atomic bool *how, bool on)
{
	_Atomic bool *other = how == &dev->wedged ? &dev->unplugged : &dev->wedged;

	if (atomic_load(how) == on)
		return;
	emu_bus_cut(&dev->bus, on || atomic_load(other));
	atomic_store(how, on);
}

static int gate(struct emu_device *dev)
{
	uint64_t n = atomic_fetch_add(&dev->n_ioctls, 1) + 1;

	if (dev->wedge_at && n >= dev->wedge_at)
		emu_device_ends(dev, &dev->wedged, true);
	if (dev->unplug_at && n >= dev->unplug_at)
		emu_device_ends(dev, &dev->unplugged, true);
	if (dev->driver->gate) {
		int r = dev->driver->gate(dev);

		if (r < 0)
			return r;
	}
	return atomic_load(&dev->unplugged) ? -ENODEV : 0;
}

static const struct emu_ioctl *find_ioctl(const struct emu_ioctl *t, size_t n, unsigned nr)
{
	for (size_t i = 0; i < n; i++)
		if (t[i].nr == nr)
			return &t[i];
	return NULL;
}

static const struct emu_ioctl *ioctl_for(struct emu_device *dev, unsigned nr)
{
	const struct emu_driver *d = dev->driver;
	const struct emu_ioctl *i;

	if (nr >= 0x40 && nr < 0xa0)
		i = find_ioctl(d->ioctls, d->n_ioctls, nr - 0x40);
	else
		i = find_ioctl(emu_drm_ioctls, emu_n_drm_ioctls, nr);
	return i && i->since <= dev->kernel ? i : NULL;
}

#define ARG_ON_STACK 256

/*
 * Sizes as drm_ioctl() treats them: the user's and the kernel's direction must both have the bit;
 * a shorter struct is extended by zeros, a longer one is carried whole; results go back even when
 * the handler failed.
 */
static int run_ioctl(struct emu_file *file, const struct emu_ioctl *i, unsigned long cmd,
		     unsigned long arg)
{
	unsigned long both = cmd & i->cmd;
	unsigned in = both & (_IOC_WRITE << _IOC_DIRSHIFT) ? _IOC_SIZE(cmd) : 0;
	unsigned out = both & ((unsigned)_IOC_READ << _IOC_DIRSHIFT) ? _IOC_SIZE(cmd) : 0;
	size_t size = emu_max(emu_max(in, out), _IOC_SIZE(i->cmd));
	char stack[ARG_ON_STACK] __attribute__((aligned(16))) = { 0 };
	char *buf = stack;
	int r;

	if (size > sizeof(stack)) {
		buf = emu_alloc(size);
		if (!buf)
			return -ENOMEM;
	}
	r = in ? emu_user_read(buf, arg, in) : 0;
	if (r == 0) {
		r = i->fn(file, buf);
		if (out && emu_user_write(arg, buf, out) < 0)
			r = -EFAULT;
	}
	if (buf != stack)
		emu_free(buf);
	return r;
}

static int file_ioctl(struct emu_file *file, unsigned long cmd, unsigned long arg)
{
	unsigned nr = _IOC_NR(cmd);
	const struct emu_ioctl *i;
	int r;

	r = gate(file->dev);
	if (r < 0)
		return r;
	if (_IOC_TYPE(cmd) != 'd')
		return -ENOTTY;
	atomic_fetch_add(&file->dev->n_by_nr[nr & 255], 1);
	i = ioctl_for(file->dev, nr);
	if (!i)
		return -EINVAL;
	if (i->primary_only && file->render)
		return -EACCES;
	if (!i->fn)
		return -EOPNOTSUPP;
	r = injected(file->dev, nr);
	if (r < 0)
		return r;
	return run_ioctl(file, i, cmd, arg);
}

bool emu_ioctl(int fd, unsigned long cmd, unsigned long arg, int *ret_r)
{
	struct emu_fdobj *o = emu_fdobj_get(fd);

	if (!o)
		return emu_dmabuf_ioctl(fd, cmd, arg, ret_r);
	switch (o->type) {
	case EMU_FD_FILE:
		*ret_r = file_ioctl(emu_container_of(o, struct emu_file, fd), cmd, arg);
		if (emu_log_level >= EMU_TRACE)
			emu_log(EMU_TRACE, "fd %d ioctl %#lx -> %d", fd, cmd, *ret_r);
		break;
	case EMU_FD_SYNC_FILE:
		*ret_r = emu_sync_file_ioctl(o, cmd, arg);
		break;
	case EMU_FD_SYNCOBJ:
		*ret_r = -ENOTTY;
		break;
	}
	emu_fdobj_put(o);
	return true;
}

bool emu_mmap(int fd, void *addr, size_t size, int prot, int flags, uint64_t offset, int *ret_r,
	      void **ret_p)
{
	struct emu_fdobj *o = emu_fdobj_get(fd);
	struct emu_file *file;
	int r;

	if (!o)
		return false;
	if (o->type != EMU_FD_FILE) {
		emu_fdobj_put(o);
		*ret_r = -ENODEV;
		return true;
	}
	file = emu_container_of(o, struct emu_file, fd);
	if (atomic_load(&file->dev->unplugged)) {
		*ret_r = -ENODEV;
	} else {
		r = file->dev->driver->mmap_special(file, addr, size, prot, flags, offset, ret_p);
		*ret_r = r == -ENOENT ? emu_gem_mmap(file, addr, size, prot, flags, offset, ret_p)
				      : r;
	}
	emu_fdobj_put(o);
	return true;
}

/* ---- start, fork, end ---- */

static void fork_prepare(void)
{
	emu_lock();
	emu_sync_lock();
	emu_alloc_lock();
}

static void fork_parent(void)
{
	emu_alloc_unlock();
	emu_sync_unlock();
	emu_unlock();
}

/*
 * The child has a copy of the tables and none of the threads. What was pending counts as done;
 * what it inherited is not its leak.
 */
static void fork_child(void)
{
	emu_alloc_reset_lock();
	emu_sync_fork_child();
	pthread_mutex_init(&emu.lock, NULL);
	emu_mem_fork_child();
	emu_notify_fork_child();
	emu_engine_fork_child();
	for (int i = 0; i < emu.n_devices; i++)
		emu_bus_init(&emu.devices[i].bus);
	emu_list_for_each(n, &emu.fds)
	{
		struct emu_fdobj *o = emu_list_entry(n, struct emu_fdobj, link);

		struct emu_file *file = emu_container_of(o, struct emu_file, fd);

		if (o->type != EMU_FD_FILE)
			continue;
		file->inherited = true;
		file->dev->driver->fork_child(file);
	}
	atomic_store(&emu.n_leaked, 0);
	atomic_store(&emu.n_strict, 0);
	atomic_store(&emu.n_files, 0);
}

static void parse_fail(struct emu_device *dev, const char *text)
{
	struct emu_inject *in = &dev->inject[EMU_INJECT_ONCE];
	char name[16] = "";
	unsigned long long at = 0;
	unsigned nr = 0;

	if (sscanf(text, "%llu:%15[A-Z0-9]:%x", &at, name, &nr) < 2)
		return;
	in->err = emu_opt_errno(name);
	in->nr = nr;
	in->at = in->err ? at : 0;
}

static void set_every(struct emu_device *dev, int slot, const char *opt, int err)
{
	dev->inject[slot].err = err;
	dev->inject[slot].every = emu_opt_u64(emu.options, dev->index, opt);
}

static unsigned parse_kernel(const char *text)
{
	unsigned major = 7, minor = 3;

	if (sscanf(text, "%u.%u", &major, &minor) < 1)
		return 7 << 8 | 3;
	return major << 8 | (minor & 255);
}

static void device_options(struct emu_device *dev)
{
	char text[64];

	emu_opt_value(emu.options, dev->index, "kernel", text, sizeof(text));
	dev->kernel = parse_kernel(text);
	emu_opt_value(emu.options, dev->index, "mode", text, sizeof(text));
	dev->mode = (unsigned)strtoul(text, NULL, 8) & 0777;
	emu_opt_value(emu.options, dev->index, "driver", text, sizeof(text));
	snprintf(dev->name, sizeof(dev->name), "%.15s", text[0] ? text : dev->driver->name);
	emu_opt_value(emu.options, dev->index, "uffd", text, sizeof(text));
	dev->uffd_waits = !strcmp(text, "event") ||
			  (!strcmp(text, "auto") && dev->kernel >= (7 << 8 | 3));
	emu_opt_value(emu.options, dev->index, "fail", text, sizeof(text));
	parse_fail(dev, text);
	set_every(dev, EMU_INJECT_EINTR, "eintr", EINTR);
	set_every(dev, EMU_INJECT_EAGAIN, "eagain", EAGAIN);
	set_every(dev, EMU_INJECT_ENOMEM, "enomem", ENOMEM);
	dev->wedge_at = emu_opt_u64(emu.options, dev->index, "wedge");
	dev->unplug_at = emu_opt_u64(emu.options, dev->index, "unplug");
}

static const struct emu_driver *const drivers[] = { &emu_xe_driver };

static int add_device(const char *name, size_t n)
{
	struct emu_device *dev = &emu.devices[emu.n_devices];

	if (emu.n_devices == EMU_MAX_DEVICES)
		return -E2BIG;
	for (size_t i = 0; i < EMU_ARRAY_SIZE(drivers); i++)
		if (strlen(drivers[i]->name) == n && !memcmp(drivers[i]->name, name, n))
			dev->driver = drivers[i];
	if (!dev->driver)
		return -ENOENT;
	dev->index = emu.n_devices;
	dev->card_minor = (unsigned)emu.n_devices;
	dev->render_minor = 128 + (unsigned)emu.n_devices;
	dev->next_offset = 0x100000000ull;
	emu_bus_init(&dev->bus);
	emu_list_init(&dev->bos);
	device_options(dev);
	emu.n_devices++;
	return dev->driver->device_init(dev);
}

static int add_devices(const char *list)
{
	while (*list) {
		size_t n = strcspn(list, ",");
		int r = add_device(list, n);

		if (r < 0) {
			emu_log(EMU_REPORT, "device '%.*s' not set up: %s", (int)n, list,
				strerror(-r));
			return r;
		}
		list += n + (list[n] == ',');
	}
	return 0;
}

static void global_options(void)
{
	char text[64];

	emu_opt_value(emu.options, -1, "strict", text, sizeof(text));
	emu.strict = !strcmp(text, "off")     ? EMU_STRICT_OFF
		     : !strcmp(text, "abort") ? EMU_STRICT_ABORT
					      : EMU_STRICT_REPORT;
	emu_opt_value(emu.options, -1, "log", text, sizeof(text));
	emu_log_level = !strcmp(text, "quiet")	 ? EMU_QUIET
			: !strcmp(text, "trace") ? EMU_TRACE
						 : EMU_REPORT;
}

int emu_core_init(void)
{
	const char *list = getenv("EMU_DEVICES");
	int r;

	emu.options = getenv("EMU_OPTIONS");
	emu.root = getenv("EMU_ROOT");
	if (!list || !emu.root)
		return -ENOENT;
	emu_mem_init();
	r = emu_alloc_init();
	if (r < 0)
		return r;
	global_options();
	emu_sync_init();
	r = add_devices(list);
	if (r < 0)
		return r;
	r = pthread_atfork(fork_prepare, fork_parent, fork_child);
	if (r)
		return -r;
	emu.ready = true;
	return 0;
}

static void append_report(void)
{
	const char *path = getenv("EMU_REPORT");
	char line[160];
	int fd, n;

	if (!path)
		return;
	fd = emu_sys_openat(AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	n = snprintf(line, sizeof(line), "pid %d files %llu strict %llu leaked %llu\n", emu_pid(),
		     (unsigned long long)emu.n_files, (unsigned long long)emu.n_strict,
		     (unsigned long long)emu.n_leaked);
	if (syscall(SYS_write, fd, line, n) != n)
		emu_log(EMU_REPORT, "report not written to %s", path);
	emu_sys_close(fd);
}

void emu_core_exit_report(void)
{
	if (!emu.ready)
		return;
	emu_fdobj_reap();
	emu_list_for_each(n, &emu.fds)
	{
		struct emu_fdobj *o = emu_list_entry(n, struct emu_fdobj, link);
		struct emu_file *file = emu_container_of(o, struct emu_file, fd);

		if (o->type == EMU_FD_FILE && !file->inherited)
			count_leaks(file, "still open at exit");
	}
	if (atomic_load(&emu.n_files) || atomic_load(&emu.n_strict))
		append_report();
}
