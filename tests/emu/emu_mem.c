// SPDX-License-Identifier: MIT
#include "emu_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "emu_alloc.h"
#include "emu_sys.h"
#include "emu_util.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

/* Documentation/admin-guide/mm/pagemap.rst: bit 63 present, 62 swapped, 57 write-protected. */
#define PM_PRESENT (1ull << 63)
#define PM_SWAP	   (1ull << 62)
#define PM_UFFD_WP (1ull << 57)

static pthread_mutex_t away_lock = PTHREAD_MUTEX_INITIALIZER;
static int pid;

void emu_mem_init(void)
{
	pid = (int)syscall(SYS_getpid);
}

int emu_pid(void)
{
	return pid;
}

static int transfer(long nr, const void *local, uint64_t remote, size_t n)
{
	size_t done = 0;

	while (done < n) {
		struct iovec l = { (char *)local + done, n - done };
		struct iovec r = { (void *)(remote + done), n - done };
		/* The last one goes by the stack: it has to be as wide as a register. */
		long got = syscall(nr, (long)pid, &l, 1L, &r, 1L, 0L);

		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got <= 0)
			return -EFAULT;
		done += (size_t)got;
	}
	return 0;
}

/* A CPU reads memory mapped for writing only; process_vm_readv() does not. */
static int read_write_only(void *dst, uint64_t src, size_t n);

int emu_user_read(void *dst, uint64_t src, size_t n)
{
	if (transfer(SYS_process_vm_readv, dst, src, n) == 0)
		return 0;
	return read_write_only(dst, src, n);
}

int emu_user_write(uint64_t dst, const void *src, size_t n)
{
	return transfer(SYS_process_vm_writev, src, dst, n);
}

/* ---- areas: /proc/self/maps, read in pieces into a buffer on the stack ---- */

struct lines {
	int fd;
	size_t have, used;
	char buf[4096];
};

/* The next line without its newline, or NULL. Long lines lose their tail. */
static char *next_line(struct lines *l)
{
	for (;;) {
		char *nl = memchr(l->buf + l->used, '\n', l->have - l->used);
		char *line = l->buf + l->used;
		long got;

		if (nl) {
			*nl = 0;
			l->used = (size_t)(nl - l->buf) + 1;
			return line;
		}
		memmove(l->buf, line, l->have - l->used);
		l->have -= l->used;
		l->used = 0;
		if (l->have == sizeof(l->buf))
			l->have = sizeof(l->buf) / 2;
		got = syscall(SYS_read, l->fd, l->buf + l->have, sizeof(l->buf) - l->have);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return NULL;
		l->have += (size_t)got;
	}
}

static uint64_t hex(const char **p)
{
	uint64_t v = 0;

	for (;; (*p)++) {
		char c = **p;

		if (c >= '0' && c <= '9')
			v = v << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uint64_t)(c - 'a' + 10);
		else
			return v;
	}
}

static enum emu_area_kind kind_of(bool shared, const char *path)
{
	if (!strncmp(path, "/memfd:emu-bo", 13) || !strncmp(path, "[vvar", 5) ||
	    !strncmp(path, "[vsyscall", 9) || !strncmp(path, "/dmabuf:", 8))
		return EMU_AREA_SPECIAL;
	if (!strncmp(path, "/dev/", 5) && strncmp(path, "/dev/shm/", 9) != 0 &&
	    strncmp(path, "/dev/zero", 9) != 0 && strncmp(path, "/dev/hugepages/", 15) != 0)
		return EMU_AREA_SPECIAL;
	if (shared || path[0] == '/')
		return EMU_AREA_SHARED;
	return EMU_AREA_ANON;
}

static bool parse_area(const char *line, struct emu_area *a)
{
	const char *p = line, *path;
	bool shared;

	a->start = hex(&p);
	if (*p++ != '-')
		return false;
	a->end = hex(&p);
	if (*p++ != ' ')
		return false;
	a->read = p[0] == 'r';
	a->write = p[1] == 'w';
	shared = p[3] == 's';
	path = p + strcspn(p, "/[");
	a->kind = kind_of(shared, path);
	return true;
}

int emu_area_find(uint64_t addr, struct emu_area *ret_area)
{
	struct lines l = { 0 };
	char *line;
	int r = -ENOENT;

	l.fd = emu_sys_openat(AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	if (l.fd < 0)
		return l.fd;
	while ((line = next_line(&l))) {
		if (!parse_area(line, ret_area) || ret_area->end <= addr)
			continue;
		r = 0;
		break;
	}
	if (emu_sys_close(l.fd) < 0)
		return -EIO;
	return r;
}

static int read_write_only(void *dst, uint64_t src, size_t n)
{
	struct emu_area a;
	long got;
	int fd;

	if (emu_area_find(src, &a) < 0 || a.start > src || n > a.end - src || a.read || !a.write)
		return -EFAULT;
	fd = emu_sys_openat(AT_FDCWD, "/proc/self/mem", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return -EFAULT;
	got = syscall(SYS_pread64, fd, dst, n, src);
	if (emu_sys_close(fd) < 0)
		return -EFAULT;
	return got == (long)n ? 0 : -EFAULT;
}

/* ---- userfaultfd registrations, seen as they are made ---- */

struct uffd_span {
	struct emu_list link;
	uint64_t start, end;
};

static pthread_mutex_t uffd_lock = PTHREAD_MUTEX_INITIALIZER;
static struct emu_list uffd_spans = { &uffd_spans, &uffd_spans };

void emu_mem_fork_child(void)
{
	pthread_mutex_init(&away_lock, NULL);
	pid = (int)syscall(SYS_getpid);
	pthread_mutex_init(&uffd_lock, NULL);
}

static void add_span(uint64_t start, uint64_t end)
{
	struct uffd_span *s;

	if (start >= end)
		return;
	s = emu_alloc(sizeof(*s));
	if (!s)
		return;
	s->start = start;
	s->end = end;
	emu_list_add_tail(&uffd_spans, &s->link);
}

static void cut_spans(uint64_t start, uint64_t end)
{
	emu_list_for_each_safe(n, &uffd_spans)
	{
		struct uffd_span *s = emu_list_entry(n, struct uffd_span, link);

		if (s->start >= end || s->end <= start)
			continue;
		add_span(s->start, emu_min(s->end, start));
		add_span(emu_max(s->start, end), s->end);
		emu_list_del(n);
		emu_free(s);
	}
}

void emu_uffd_registered(uint64_t start, uint64_t size)
{
	pthread_mutex_lock(&uffd_lock);
	cut_spans(start, start + size);
	add_span(start, start + size);
	pthread_mutex_unlock(&uffd_lock);
}

void emu_uffd_unregistered(uint64_t start, uint64_t size)
{
	pthread_mutex_lock(&uffd_lock);
	cut_spans(start, start + size);
	pthread_mutex_unlock(&uffd_lock);
}

static bool span_known(uint64_t start, uint64_t end)
{
	bool hit = false;

	pthread_mutex_lock(&uffd_lock);
	emu_list_for_each(n, &uffd_spans)
	{
		struct uffd_span *s = emu_list_entry(n, struct uffd_span, link);

		hit |= s->start < end && s->end > start;
	}
	pthread_mutex_unlock(&uffd_lock);
	return hit;
}

/* VmFlags of smaps: um missing, ui minor, uw write-protect. */
static bool has_uffd_flag(const char *line)
{
	return strstr(line, " um") || strstr(line, " ui") || strstr(line, " uw");
}

/* A closed userfaultfd leaves its spans in the list: the kernel's own word decides. */
bool emu_uffd_overlaps(uint64_t start, uint64_t size)
{
	struct lines l = { 0 };
	struct emu_area a = { 0 };
	bool hit = false;
	char *line;

	if (!span_known(start, start + size))
		return false;
	l.fd = emu_sys_openat(AT_FDCWD, "/proc/self/smaps", O_RDONLY | O_CLOEXEC, 0);
	if (l.fd < 0)
		return true;
	while (!hit && (line = next_line(&l))) {
		struct emu_area head;

		if (parse_area(line, &head))
			a = head;
		else if (!strncmp(line, "VmFlags:", 8) && a.start < start + size && a.end > start)
			hit = has_uffd_flag(line);
		if (a.start >= start + size)
			break;
	}
	if (emu_sys_close(l.fd) < 0)
		return hit;
	return hit;
}

/* ---- pages ---- */

/* Every page of the span passes: present (or swapped), and not write-protected when wp counts. */
static bool pagemap_all(uint64_t start, uint64_t size, bool wp)
{
	uint64_t entry[64];
	int fd = emu_sys_openat(AT_FDCWD, "/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
	uint64_t page = start / EMU_PAGE, end = (start + size + EMU_PAGE - 1) / EMU_PAGE;
	bool ok = fd >= 0;

	while (ok && page < end) {
		size_t n = emu_min(end - page, EMU_ARRAY_SIZE(entry));
		long got = syscall(SYS_pread64, fd, entry, n * 8, page * 8);

		if (got <= 0) {
			ok = false;
			break;
		}
		for (size_t i = 0; i < (size_t)got / 8; i++)
			ok &= (entry[i] & (PM_PRESENT | PM_SWAP)) && !(wp && entry[i] & PM_UFFD_WP);
		page += (uint64_t)got / 8;
	}
	if (fd >= 0 && emu_sys_close(fd) < 0)
		return false;
	return ok;
}

bool emu_user_is_present(uint64_t start, uint64_t size)
{
	return pagemap_all(start, size, false);
}

static int check_areas(uint64_t start, uint64_t end, bool write)
{
	uint64_t addr = start;

	while (addr < end) {
		struct emu_area a;

		if (emu_area_find(addr, &a) < 0 || a.start > addr)
			return -EFAULT;
		if (a.kind == EMU_AREA_SPECIAL || !a.read)
			return -EFAULT;
		if (write && !a.write)
			return -EPERM;
		addr = a.end;
	}
	return 0;
}

static int populate(uint64_t start, uint64_t size, bool write)
{
	int advice = write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;

	for (;;) {
		int r = emu_sys_madvise(start, size, advice);

		if (r == -EINTR || r == -EAGAIN)
			continue;
		return r < 0 ? -EFAULT : 0;
	}
}

int emu_user_populate(uint64_t start, uint64_t size, bool write, bool uffd_waits)
{
	uint64_t from = emu_align_down(start, EMU_PAGE), to = emu_align_up(start + size, EMU_PAGE);
	int r = check_areas(from, to, write);

	if (r < 0)
		return r;
	if (!uffd_waits && emu_uffd_overlaps(from, to - from) &&
	    !pagemap_all(from, to - from, write))
		return -EFAULT;
	return populate(from, to - from, write);
}

/* ---- pages that are with a device ---- */

static struct emu_list away = { &away, &away };

void emu_away_set(struct emu_away *a, uint64_t start, uint64_t end)
{
	emu_away_clear(a);
	pthread_mutex_lock(&away_lock);
	a->start = start;
	a->end = end;
	emu_list_add_tail(&away, &a->link);
	pthread_mutex_unlock(&away_lock);
}

void emu_away_clear(struct emu_away *a)
{
	pthread_mutex_lock(&away_lock);
	if (a->link.next) {
		emu_list_del(&a->link);
		a->link.next = NULL;
	}
	pthread_mutex_unlock(&away_lock);
}

static bool is_away(uint64_t addr)
{
	emu_list_for_each(l, &away)
	{
		const struct emu_away *a = emu_list_entry(l, struct emu_away, link);

		if (addr >= a->start && addr < a->end)
			return true;
	}
	return false;
}

void emu_away_mark(uint64_t addr, uint64_t *entries, size_t n)
{
	pthread_mutex_lock(&away_lock);
	for (size_t i = 0; i < n && !emu_list_empty(&away); i++)
		if (entries[i] & PM_PRESENT && is_away(addr + i * EMU_PAGE))
			entries[i] = PM_SWAP;
	pthread_mutex_unlock(&away_lock);
}
