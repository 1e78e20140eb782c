// SPDX-License-Identifier: MIT
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name,bugprone-macro-parentheses) */
/* (the C library's own parameter names are reserved ones) */
/*
 * The C library's entry points that a program reaches the kernel's DRM nodes through. Each does
 * what it always did, unless a node, its name or memory that a device uses is concerned.
 *
 * Calls go on as system calls rather than to the next library, so the order of libraries and a
 * call before their constructors do no harm; what has no system call (fopen, opendir) goes to the
 * next definition.
 */
/* Build systems set this; it would make open() and open64() one name. */
#undef _FILE_OFFSET_BITS

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "emu_core.h"
#define EMU_CTL
#include "emu_ctl.h"
#include "emu_fs.h"
#include "emu_gem.h"
#include "emu_log.h"
#include "emu_mem.h"
#include "emu_notify.h"
#include "emu_sync.h"
#include "emu_sys.h"

#define PATH_SIZE 1024

static long set_errno(long r)
{
	if (r >= 0)
		return r;
	errno = (int)-r;
	return -1;
}

__attribute__((constructor(101))) static void start(void)
{
	int r = emu_core_init();

	if (r < 0 && getenv("EMU_DEVICES"))
		emu_log(EMU_QUIET, "not set up: %s", strerror(-r));
}

__attribute__((destructor(101))) static void finish(void)
{
	emu_core_exit_report();
}

/* ---- open ---- */

static int do_openat(int dirfd, const char *path, int flags, mode_t mode)
{
	char buf[PATH_SIZE];
	const char *real = emu_fs_path_at(dirfd, path, buf, sizeof(buf));
	const char *node = emu_fs_node(real);

	if (node && !(flags & (O_PATH | O_DIRECTORY))) {
		int r = emu_node_open(node, flags);

		if (r != -ENOENT)
			return (int)set_errno(r);
	}
	return (int)set_errno(emu_sys_openat(dirfd, real, flags, mode));
}

#define OPEN_MODE(flags, mode)                   \
	mode_t mode = 0;                         \
	if ((flags) & (O_CREAT | __O_TMPFILE)) { \
		va_list ap;                      \
		va_start(ap, flags);             \
		mode = va_arg(ap, mode_t);       \
		va_end(ap);                      \
	}

EMU_EXPORT int open(const char *path, int flags, ...)
{
	OPEN_MODE(flags, mode)
	return do_openat(AT_FDCWD, path, flags, mode);
}

EMU_EXPORT int open64(const char *path, int flags, ...)
{
	OPEN_MODE(flags, mode)
	return do_openat(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

EMU_EXPORT int openat(int dirfd, const char *path, int flags, ...)
{
	OPEN_MODE(flags, mode)
	return do_openat(dirfd, path, flags, mode);
}

EMU_EXPORT int openat64(int dirfd, const char *path, int flags, ...)
{
	OPEN_MODE(flags, mode)
	return do_openat(dirfd, path, flags | O_LARGEFILE, mode);
}

/* What a fortified program calls when it opens without a mode. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);
int __openat64_2(int dirfd, const char *path, int flags);

EMU_EXPORT int __open_2(const char *path, int flags)
{
	return do_openat(AT_FDCWD, path, flags, 0);
}

EMU_EXPORT int __open64_2(const char *path, int flags)
{
	return do_openat(AT_FDCWD, path, flags | O_LARGEFILE, 0);
}

EMU_EXPORT int __openat_2(int dirfd, const char *path, int flags)
{
	return do_openat(dirfd, path, flags, 0);
}

EMU_EXPORT int __openat64_2(int dirfd, const char *path, int flags)
{
	return do_openat(dirfd, path, flags | O_LARGEFILE, 0);
}

/* The calling thread does what a kernel would do. */
static __thread unsigned at_work;

/* ---- close and its like: the last name of a thing may go ---- */

enum closing { CLOSING_OTHER, CLOSING_OURS, CLOSING_DMABUF };

static enum closing closing(int fd)
{
	struct emu_fdobj *o;

	if (!emu.ready)
		return CLOSING_OTHER;
	o = emu_fdobj_get(fd);
	if (o) {
		emu_fdobj_put(o);
		return CLOSING_OURS;
	}
	return emu_dmabuf_is(fd) ? CLOSING_DMABUF : CLOSING_OTHER;
}

static void closed(enum closing c)
{
	at_work++;
	if (c == CLOSING_DMABUF)
		emu_dmabuf_reap();
	/* With any other, too: a process that had the last name of a thing may have ended since, and nobody tells. */
	else if (emu.ready)
		emu_fdobj_reap();
	at_work--;
}

EMU_EXPORT int close(int fd)
{
	enum closing c = closing(fd);
	int r = emu_sys_close(fd);

	closed(c);
	return (int)set_errno(r);
}

EMU_EXPORT int dup2(int oldfd, int newfd)
{
	enum closing c = oldfd == newfd ? CLOSING_OTHER : closing(newfd);
	long r = syscall(SYS_dup2, oldfd, newfd);

	closed(c);
	return (int)r;
}

EMU_EXPORT int dup3(int oldfd, int newfd, int flags)
{
	enum closing c = oldfd == newfd ? CLOSING_OTHER : closing(newfd);
	long r = syscall(SYS_dup3, oldfd, newfd, flags);

	closed(c);
	return (int)r;
}

static int do_fcntl(int fd, int cmd, unsigned long arg)
{
	int r = emu_sys_fcntl(fd, cmd, arg);
	struct emu_fdobj *o;

	if (r < 0 || cmd != F_GETFL)
		return (int)set_errno(r);
	o = emu_fdobj_get_type(fd, EMU_FD_FILE);
	if (o) {
		/* A node is open for reading and writing, whatever its pipe is. */
		r = (r & ~O_ACCMODE) | O_RDWR;
		emu_fdobj_put(o);
	}
	return r;
}

EMU_EXPORT int fcntl(int fd, int cmd, ...)
{
	unsigned long arg;
	va_list ap;

	va_start(ap, cmd);
	arg = va_arg(ap, unsigned long);
	va_end(ap);
	return do_fcntl(fd, cmd, arg);
}

EMU_EXPORT int fcntl64(int fd, int cmd, ...)
{
	unsigned long arg;
	va_list ap;

	va_start(ap, cmd);
	arg = va_arg(ap, unsigned long);
	va_end(ap);
	return do_fcntl(fd, cmd, arg);
}

/* ---- ioctl ---- */

/* linux/userfaultfd.h: type 0xAA; registering and what changes page tables. */
#define UFFD_TYPE	     0xAA
#define UFFD_REGISTER_NR     0x00
#define UFFD_UNREGISTER_NR   0x01
#define UFFD_MOVE_NR	     0x05
#define UFFD_WRITEPROTECT_NR 0x06

struct uffd_range {
	uint64_t start, len;
};

struct uffd_move {
	uint64_t dst, src, len;
};

static int uffd_ioctl(int fd, unsigned long cmd, unsigned long arg)
{
	struct emu_invalidation inv = { .hit = inv.few };
	struct uffd_move m = { 0 };
	struct uffd_range w = { 0 };
	int r;

	if (_IOC_NR(cmd) == UFFD_MOVE_NR) {
		if (emu_user_read(&m, arg, sizeof(m)) < 0)
			return -EFAULT;
		emu_invalidate_begin(&inv, m.src, m.len, false);
	} else {
		if (emu_user_read(&w, arg, sizeof(w)) < 0)
			return -EFAULT;
		if (_IOC_NR(cmd) == UFFD_WRITEPROTECT_NR)
			emu_invalidate_begin(&inv, w.start, w.len, false);
	}
	r = emu_sys_ioctl(fd, cmd, arg);
	emu_invalidate_end(&inv);
	if (r == 0 && _IOC_NR(cmd) == UFFD_REGISTER_NR)
		emu_uffd_registered(w.start, w.len);
	if (r == 0 && _IOC_NR(cmd) == UFFD_UNREGISTER_NR)
		emu_uffd_unregistered(w.start, w.len);
	return r;
}

static bool uffd_of_interest(unsigned long cmd)
{
	if (!emu.ready || _IOC_TYPE(cmd) != UFFD_TYPE)
		return false;
	switch (_IOC_NR(cmd)) {
	case UFFD_REGISTER_NR:
	case UFFD_UNREGISTER_NR:
	case UFFD_MOVE_NR:
	case UFFD_WRITEPROTECT_NR:
		return true;
	default:
		return false;
	}
}

static bool ioctl_of_device(int fd, unsigned long cmd, unsigned long arg, int *ret)
{
	bool ours;

	at_work++;
	ours = emu_ioctl(fd, cmd, arg, ret);
	at_work--;
	return ours;
}

EMU_EXPORT int ioctl(int fd, unsigned long cmd, ...)
{
	unsigned long arg;
	va_list ap;
	int r;

	va_start(ap, cmd);
	arg = va_arg(ap, unsigned long);
	va_end(ap);
	if (uffd_of_interest(cmd))
		return (int)set_errno(uffd_ioctl(fd, cmd, arg));
	if (emu.ready && _IOC_TYPE(cmd) == UFFD_TYPE) {
		r = emu_sys_ioctl(fd, cmd, arg);
		/* A page came: whoever retries a fault looks again. */
		emu_sync_wake();
		return (int)set_errno(r);
	}
	if (emu.ready && ioctl_of_device(fd, cmd, arg, &r))
		return (int)set_errno(r);
	return (int)syscall(SYS_ioctl, fd, cmd, arg);
}

/* ---- memory ---- */

static void *do_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset)
{
	struct emu_invalidation inv = { .hit = inv.few };
	void *p = MAP_FAILED;
	int r;

	if (emu.ready && flags & MAP_FIXED)
		emu_invalidate_begin(&inv, (uint64_t)addr, size, true);
	if (fd < 0 || !emu.ready || !emu_mmap(fd, addr, size, prot, flags, offset, &r, &p))
		r = emu_sys_mmap(addr, size, prot, flags, fd, offset, &p);
	emu_invalidate_end(&inv);
	if (r < 0) {
		errno = -r;
		return MAP_FAILED;
	}
	return p;
}

EMU_EXPORT void *mmap(void *addr, size_t size, int prot, int flags, int fd, off_t offset)
{
	return do_mmap(addr, size, prot, flags, fd, (uint64_t)offset);
}

EMU_EXPORT void *mmap64(void *addr, size_t size, int prot, int flags, int fd, off64_t offset)
{
	return do_mmap(addr, size, prot, flags, fd, (uint64_t)offset);
}

static long notified(uint64_t addr, size_t size, long nr, long a, long b, long c, long d, long e)
{
	struct emu_invalidation inv = { .hit = inv.few };
	long r;

	if (emu.ready)
		emu_invalidate_begin(&inv, addr, size, nr == SYS_munmap || nr == SYS_mremap);
	r = syscall(nr, a, b, c, d, e);
	emu_invalidate_end(&inv);
	return r;
}

EMU_EXPORT int munmap(void *addr, size_t size)
{
	long r = notified((uint64_t)addr, size, SYS_munmap, (long)addr, (long)size, 0, 0, 0);

	if (r == 0 && emu.ready)
		emu_uffd_unregistered((uint64_t)addr, size);
	return (int)r;
}

EMU_EXPORT int mprotect(void *addr, size_t size, int prot)
{
	return (int)notified((uint64_t)addr, size, SYS_mprotect, (long)addr, (long)size, prot, 0,
			     0);
}

EMU_EXPORT void *mremap(void *addr, size_t old, size_t size, int flags, ...)
{
	void *to = NULL;
	va_list ap;

	if (flags & MREMAP_FIXED) {
		va_start(ap, flags);
		to = va_arg(ap, void *);
		va_end(ap);
	}
	return (void *)notified((uint64_t)addr, old, SYS_mremap, (long)addr, (long)old, (long)size,
				flags, (long)to);
}

static bool advice_takes_pages(int advice)
{
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_REMOVE:
	case MADV_FREE:
	case MADV_PAGEOUT:
	case MADV_COLD:
	case 24: /* MADV_DONTNEED_LOCKED */
	case 25: /* MADV_COLLAPSE */
		return true;
	default:
		return false;
	}
}

EMU_EXPORT int madvise(void *addr, size_t size, int advice)
{
	if (!advice_takes_pages(advice))
		return (int)syscall(SYS_madvise, addr, size, advice);
	return (int)notified((uint64_t)addr, size, SYS_madvise, (long)addr, (long)size, advice, 0,
			     0);
}

/* ---- names ---- */

static int do_fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
	char buf[PATH_SIZE];
	const char *real = emu_fs_path_at(dirfd, path, buf, sizeof(buf));
	int r = emu_sys_fstatat(dirfd, real, st, flags);

	if (r == 0)
		emu_fs_patch_stat(emu_fs_node(real), st);
	return (int)set_errno(r);
}

static int do_fstat(int fd, struct stat *st)
{
	struct emu_fdobj *o;
	struct emu_file *f;
	int r = emu_sys_fstat(fd, st);

	if (r < 0 || !emu.ready || !S_ISFIFO(st->st_mode))
		return (int)set_errno(r);
	o = emu_fdobj_get_type(fd, EMU_FD_FILE);
	if (!o)
		return 0;
	f = emu_container_of(o, struct emu_file, fd);
	st->st_mode = S_IFCHR | (f->render ? f->dev->mode : 0660);
	st->st_rdev = makedev(EMU_DRM_MAJOR, f->render ? f->dev->render_minor : f->dev->card_minor);
	emu_fdobj_put(o);
	return 0;
}

EMU_EXPORT int stat(const char *path, struct stat *st)
{
	return do_fstatat(AT_FDCWD, path, st, 0);
}

EMU_EXPORT int lstat(const char *path, struct stat *st)
{
	return do_fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

EMU_EXPORT int fstat(int fd, struct stat *st)
{
	return do_fstat(fd, st);
}

EMU_EXPORT int fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
	if (flags & AT_EMPTY_PATH && !path[0])
		return do_fstat(dirfd, st);
	return do_fstatat(dirfd, path, st, flags);
}

/* struct stat64 is struct stat on 64-bit machines. */
EMU_EXPORT int stat64(const char *path, struct stat64 *st)
{
	return do_fstatat(AT_FDCWD, path, (struct stat *)st, 0);
}

EMU_EXPORT int lstat64(const char *path, struct stat64 *st)
{
	return do_fstatat(AT_FDCWD, path, (struct stat *)st, AT_SYMLINK_NOFOLLOW);
}

EMU_EXPORT int fstat64(int fd, struct stat64 *st)
{
	return do_fstat(fd, (struct stat *)st);
}

EMU_EXPORT int fstatat64(int dirfd, const char *path, struct stat64 *st, int flags)
{
	return fstatat(dirfd, path, (struct stat *)st, flags);
}

/* Programs built against a C library older than 2.33 call these. */
int __xstat(int ver, const char *path, struct stat *st);
int __lxstat(int ver, const char *path, struct stat *st);
int __fxstat(int ver, int fd, struct stat *st);
int __xstat64(int ver, const char *path, struct stat64 *st);
int __lxstat64(int ver, const char *path, struct stat64 *st);
int __fxstat64(int ver, int fd, struct stat64 *st);

EMU_EXPORT int __xstat(int ver, const char *path, struct stat *st)
{
	(void)ver;
	return stat(path, st);
}

EMU_EXPORT int __lxstat(int ver, const char *path, struct stat *st)
{
	(void)ver;
	return lstat(path, st);
}

EMU_EXPORT int __fxstat(int ver, int fd, struct stat *st)
{
	(void)ver;
	return do_fstat(fd, st);
}

EMU_EXPORT int __xstat64(int ver, const char *path, struct stat64 *st)
{
	(void)ver;
	return stat64(path, st);
}

EMU_EXPORT int __lxstat64(int ver, const char *path, struct stat64 *st)
{
	(void)ver;
	return lstat64(path, st);
}

EMU_EXPORT int __fxstat64(int ver, int fd, struct stat64 *st)
{
	(void)ver;
	return do_fstat(fd, (struct stat *)st);
}

static void statx_node(struct statx *sx, mode_t mode, unsigned minor)
{
	sx->stx_mode = (uint16_t)(S_IFCHR | mode);
	sx->stx_rdev_major = EMU_DRM_MAJOR;
	sx->stx_rdev_minor = minor;
	sx->stx_size = 0;
}

EMU_EXPORT int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *sx)
{
	char buf[PATH_SIZE];
	const char *real = emu_fs_path_at(dirfd, path, buf, sizeof(buf));
	const char *node = emu_fs_node(real);
	const struct emu_device *dev;
	unsigned minor;
	bool render;
	long r = syscall(SYS_statx, dirfd, real, flags, mask, sx);

	dev = r == 0 && node ? emu_node_find(node, &render, &minor) : NULL;
	if (dev)
		statx_node(sx, render ? dev->mode : 0660, minor);
	if (r == 0 && flags & AT_EMPTY_PATH && !path[0]) {
		struct stat st;

		if (do_fstat(dirfd, &st) == 0 && S_ISCHR(st.st_mode) &&
		    major(st.st_rdev) == EMU_DRM_MAJOR)
			statx_node(sx, st.st_mode & 0777, minor(st.st_rdev));
	}
	return (int)r;
}

EMU_EXPORT int access(const char *path, int mode)
{
	char buf[PATH_SIZE];

	return (int)syscall(SYS_faccessat, AT_FDCWD, emu_fs_path(path, buf, sizeof(buf)), mode);
}

EMU_EXPORT int faccessat(int dirfd, const char *path, int mode, int flags)
{
	char buf[PATH_SIZE];
	const char *real = emu_fs_path_at(dirfd, path, buf, sizeof(buf));

	if (!flags)
		return (int)syscall(SYS_faccessat, dirfd, real, mode);
	return (int)syscall(439 /* faccessat2 */, dirfd, real, mode, flags);
}

/* ls -l asks for these. */
ssize_t getxattr(const char *path, const char *name, void *value, size_t size);
ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size);

EMU_EXPORT ssize_t getxattr(const char *path, const char *name, void *value, size_t size)
{
	char buf[PATH_SIZE];

	return syscall(SYS_getxattr, emu_fs_path(path, buf, sizeof(buf)), name, value, size);
}

EMU_EXPORT ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size)
{
	char buf[PATH_SIZE];

	return syscall(SYS_lgetxattr, emu_fs_path(path, buf, sizeof(buf)), name, value, size);
}

/* A node's fd is a pipe to the kernel; the program sees the node's name. */
static ssize_t node_link(const char *path, char *out, size_t size)
{
	struct emu_fdobj *o;
	struct emu_file *f;
	char name[32];
	int fd, n;

	if (sscanf(path, "/proc/self/fd/%d", &fd) != 1)
		return -1;
	o = emu_fdobj_get_type(fd, EMU_FD_FILE);
	if (!o)
		return -1;
	f = emu_container_of(o, struct emu_file, fd);
	n = snprintf(name, sizeof(name), f->render ? "/dev/dri/renderD%u" : "/dev/dri/card%u",
		     f->render ? f->dev->render_minor : f->dev->card_minor);
	emu_fdobj_put(o);
	n = (int)emu_min((uint64_t)n, size);
	memcpy(out, name, (size_t)n);
	return n;
}

static ssize_t do_readlinkat(int dirfd, const char *path, char *out, size_t size)
{
	char buf[PATH_SIZE];
	ssize_t n;

	if (emu.ready && path && !strncmp(path, "/proc/", 6)) {
		n = node_link(path, out, size);
		if (n >= 0)
			return n;
	}
	n = emu_sys_readlinkat(dirfd, emu_fs_path_at(dirfd, path, buf, sizeof(buf)), out, size);
	return set_errno(n);
}

EMU_EXPORT ssize_t readlink(const char *path, char *out, size_t size)
{
	return do_readlinkat(AT_FDCWD, path, out, size);
}

EMU_EXPORT ssize_t readlinkat(int dirfd, const char *path, char *out, size_t size)
{
	return do_readlinkat(dirfd, path, out, size);
}

ssize_t __readlink_chk(const char *path, char *out, size_t size, size_t have);
EMU_EXPORT ssize_t __readlink_chk(const char *path, char *out, size_t size, size_t have)
{
	return do_readlinkat(AT_FDCWD, path, out, emu_min(size, have));
}

/* ---- pagemap ---- */

static bool is_pagemap(int fd)
{
	static const char end[] = "/pagemap";
	char name[32], path[64];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	n = syscall(SYS_readlinkat, AT_FDCWD, name, path, sizeof(path) - 1);
	if (n < (ssize_t)sizeof(end))
		return false;
	path[n] = '\0';
	return !strcmp(path + n - (sizeof(end) - 1), end);
}

static ssize_t do_pread(int fd, void *buf, size_t size, off64_t offset)
{
	ssize_t r = syscall(SYS_pread64, fd, buf, size, offset);

	if (r >= 8 && offset % 8 == 0 && emu.ready && is_pagemap(fd))
		emu_away_mark((uint64_t)offset / 8 * EMU_PAGE, buf, (size_t)r / 8);
	return r;
}

EMU_EXPORT ssize_t pread(int fd, void *buf, size_t size, off_t offset)
{
	return do_pread(fd, buf, size, offset);
}

EMU_EXPORT ssize_t pread64(int fd, void *buf, size_t size, off64_t offset)
{
	return do_pread(fd, buf, size, offset);
}

/* The next library's definition; the pointer's type is the caller's. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

EMU_EXPORT FILE *fopen(const char *path, const char *mode)
{
	char buf[PATH_SIZE];

	return NEXT(fopen)(emu_fs_path(path, buf, sizeof(buf)), mode);
}

EMU_EXPORT FILE *fopen64(const char *path, const char *mode)
{
	char buf[PATH_SIZE];

	return NEXT(fopen64)(emu_fs_path(path, buf, sizeof(buf)), mode);
}

EMU_EXPORT DIR *opendir(const char *path)
{
	char buf[PATH_SIZE];

	/* cppcheck-suppress CastIntegerToAddressAtReturn ; it does not see the pointer's type */
	return NEXT(opendir)(emu_fs_path(path, buf, sizeof(buf)));
}

typedef int filter_fn(const struct dirent *);
typedef int compare_fn(const struct dirent **, const struct dirent **);

EMU_EXPORT int scandir(const char *path, struct dirent ***list, filter_fn *filter,
		       compare_fn *compare)
{
	char buf[PATH_SIZE];

	return NEXT(scandir)(emu_fs_path(path, buf, sizeof(buf)), list, filter, compare);
}

EMU_EXPORT int scandir64(const char *path, struct dirent64 ***list,
			 int (*filter)(const struct dirent64 *),
			 int (*compare)(const struct dirent64 **, const struct dirent64 **))
{
	char buf[PATH_SIZE];

	return NEXT(scandir64)(emu_fs_path(path, buf, sizeof(buf)), list, filter, compare);
}

EMU_EXPORT char *realpath(const char *path, char *out)
{
	char buf[PATH_SIZE];
	char *r = NEXT(realpath)(emu_fs_path(path, buf, sizeof(buf)), out);

	if (r)
		emu_fs_strip(r);
	return r;
}

/* ---- what tests ask for ---- */

EMU_EXPORT void emu_ctl_fail(int device, uint64_t nth, int err, unsigned nr)
{
	struct emu_inject *in = &emu.devices[device].inject[EMU_INJECT_ONCE];

	atomic_store(&in->at, 0);
	atomic_store(&in->seen, 0);
	atomic_store(&in->err, err);
	atomic_store(&in->nr, nr);
	atomic_store(&in->at, nth);
}

EMU_EXPORT void emu_ctl_wedge(int device, bool on)
{
	emu_device_ends(&emu.devices[device], &emu.devices[device].wedged, on);
}

EMU_EXPORT void emu_ctl_unplug(int device, bool on)
{
	emu_device_ends(&emu.devices[device], &emu.devices[device].unplugged, on);
}

EMU_EXPORT uint64_t emu_ctl_ioctls(int device, int nr)
{
	struct emu_device *d = &emu.devices[device];

	return nr < 0 ? atomic_load(&d->n_ioctls) : atomic_load(&d->n_by_nr[nr & 255]);
}

EMU_EXPORT bool emu_ctl_at_work(void)
{
	return at_work > 0;
}

EMU_EXPORT uint64_t emu_ctl_most_jobs(int device)
{
	return device >= 0 && device < emu.n_devices ? atomic_load(&emu.devices[device].most_jobs)
						     : 0;
}

EMU_EXPORT uint64_t emu_ctl_strict_count(void)
{
	return atomic_load(&emu.n_strict);
}

EMU_EXPORT void emu_invalidate(uint64_t start, uint64_t size)
{
	struct emu_invalidation inv;

	emu_invalidate_begin(&inv, start, size, false);
	emu_invalidate_end(&inv);
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name,bugprone-macro-parentheses) */
