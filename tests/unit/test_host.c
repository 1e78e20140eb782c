/* SPDX-License-Identifier: MIT */
/*
 * Shown here: host storage of both kinds keeps every byte and its record true, on this kernel as it is
 * and with rungs of it left out. A server thread stands for the library's service: it resolves faults
 * as the record says, under the lock that stands for the block being busy.
 */
#include "fixture.h"
#include "host.h"
#include "host_kinds.h"
#include "sys.h"
#include "uffd_uapi.h"
#include "util.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define PAGE   ((uint64_t)SVM_PAGE_SIZE)
#define BLOCK  ((uint64_t)SVM_BLOCK_SIZE)
#define WINDOW (8 * BLOCK)
#define TOP    (UINT64_C(1) << 47)

/* A sanitizer keeps low addresses for itself. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#elif defined(__has_feature)
#define SANITIZED (__has_feature(thread_sanitizer) || __has_feature(address_sanitizer))
#else
#define SANITIZED false
#endif

/* ---- Faults on request ------------------------------------------------------------------------ */

static struct {
	unsigned long ioctl_request; /* this ioctl... */
	int advice;		     /* ...or this madvise()... */
	int error;		     /* ...fails so... */
	unsigned int skip;	     /* ...after so many calls... */
	unsigned int times;	     /* ...so often */
	unsigned int mmap_skip;	     /* mmap() fails at this call, 0: not */
	unsigned int any_skip;	     /* any call of the set-up fails at this one, 0: not */
	bool no_wake; /* nobody is woken: as for a thread that begins to wait just afterwards */
	unsigned long drop_request; /* at this ioctl, once, the application drops a page */
	char *drop;
	unsigned int n_moves;
	unsigned int n_copies;
} fake;

static bool fails_now(void)
{
	if (fake.skip > 0) {
		fake.skip--;
		return false;
	}
	if (fake.times == 0)
		return false;
	fake.times--;
	return true;
}

static bool any_fails_now(void)
{
	return fake.any_skip > 0 && --fake.any_skip == 0;
}

/* Returns whether the call is not to be made at all. */
static bool takes_wake_away(unsigned long request, void *arg)
{
	struct svm_uffdio_poison *poison = arg;
	struct uffdio_writeprotect *protect = arg;

	if (request == SVM_UFFDIO_POISON)
		poison->mode |= SVM_UFFDIO_POISON_MODE_DONTWAKE;
	if (request == UFFDIO_WRITEPROTECT && !(protect->mode & UFFDIO_WRITEPROTECT_MODE_WP))
		protect->mode |= UFFDIO_WRITEPROTECT_MODE_DONTWAKE;
	return request == UFFDIO_WAKE;
}

/* MOVE finds the page shared, and then it goes; write-protection finds it there, and then it goes. */
static int drop_page(int fd, unsigned long request, void *arg)
{
	int ret = request == SVM_UFFDIO_MOVE ? -EBUSY : svm_sys_real.ioctl(fd, request, arg);

	fake.drop_request = 0;
	assert_int_equal(madvise(fake.drop, PAGE, MADV_DONTNEED), 0);
	return ret;
}

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
	if (fake.drop_request && request == fake.drop_request)
		return drop_page(fd, request, arg);
	if (fake.no_wake && takes_wake_away(request, arg))
		return 0;
	if (request == SVM_UFFDIO_MOVE)
		fake.n_moves++;
	if (request == UFFDIO_COPY)
		fake.n_copies++;
	if (fake.ioctl_request && request == fake.ioctl_request && fails_now())
		return fake.error;
	if (request != UFFDIO_CONTINUE && any_fails_now())
		return -ENOMEM;
	return svm_sys_real.ioctl(fd, request, arg);
}

static int fake_madvise(void *addr, size_t size, int advice)
{
	if (fake.advice && advice == fake.advice && fails_now())
		return fake.error;
	/* That one is a wish, whose failure is no failure. */
	if (advice != MADV_HUGEPAGE && advice != MADV_NOHUGEPAGE && any_fails_now())
		return -ENOMEM;
	return svm_sys_real.madvise(addr, size, advice);
}

static int fake_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		     void **ret_addr)
{
	if ((fake.mmap_skip > 0 && --fake.mmap_skip == 0) || any_fails_now())
		return -ENOMEM;
	return svm_sys_real.mmap(addr, size, prot, flags, fd, offset, ret_addr);
}

static int fake_mprotect(void *addr, size_t size, int prot)
{
	return any_fails_now() ? -ENOMEM : svm_sys_real.mprotect(addr, size, prot);
}

static int fake_memfd_create(const char *name, unsigned int flags)
{
	return any_fails_now() ? -ENOMEM : svm_sys_real.memfd_create(name, flags);
}

static int fake_ftruncate(int fd, uint64_t size)
{
	return any_fails_now() ? -ENOMEM : svm_sys_real.ftruncate(fd, size);
}

static int fake_fcntl(int fd, int cmd, long arg)
{
	return any_fails_now() ? -ENOMEM : svm_sys_real.fcntl(fd, cmd, arg);
}

static struct svm_sys fake_sys;

static unsigned int count_entries(const char *path)
{
	unsigned int n = 0;
	DIR *dir = opendir(path);

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static unsigned int count_mappings(void)
{
	char line[512];
	unsigned int n = 0;
	FILE *file = fopen("/proc/self/maps", "re");

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		n += strstr(line, "libsvm") != NULL || strstr(line, "---p") != NULL;
	fclose(file);
	return n;
}

/* ---- A block with its service ----------------------------------------------------------------- */

enum where {
	WINDOW_PRIVATE,
	WINDOW_SHARED,
	REGISTERED,
};

struct variant {
	enum where where;
	uint32_t flags;
	bool no_continue_wp;
};

struct rig {
	struct svm_log log;
	struct svm_host host;
	struct svm_host_block block;
	enum where where;
	char *memory; /* registered */
	uint64_t memory_size;
	uint64_t stash;
	pthread_mutex_t lock; /* the block is busy */
	pthread_t server;
	bool serving;
	int stop_fd;
	unsigned int n_missing;
	unsigned int n_minor;
	unsigned int n_wp;
	unsigned int n_removed;
	unsigned int n_unmapped;
	int served_fd; /* eventfd: counts messages that were dealt with */
	int error;     /* of the server */
};

static struct svm_mask all_pages(void)
{
	struct svm_mask m;

	svm_mask_fill(&m);
	return m;
}

static struct svm_mask some_pages(unsigned int first, unsigned int n)
{
	struct svm_mask m;

	svm_mask_zero(&m);
	svm_mask_set_range(&m, first, n);
	return m;
}

static char *user_at(struct rig *rig, unsigned int page)
{
	return svm_ptr(rig->block.user + page * PAGE);
}

static char *lib_at(struct rig *rig, unsigned int page)
{
	return svm_host_addr(&rig->host, &rig->block, page);
}

static bool record_is_sane(const struct rig *rig)
{
	const struct svm_host_block *block = &rig->block;

	return svm_mask_subset(&block->cpu_ro, &block->cpu) &&
	       !svm_mask_intersects(&block->cpu, &block->poison) &&
	       (block->kind == SVM_HOST_PRIVATE ? !svm_mask_intersects(&block->cpu, &block->back)
						: svm_mask_subset(&block->cpu, &block->back));
}

static int serve_fault(struct rig *rig, uint64_t address, uint64_t flags)
{
	struct svm_host_block *block = &rig->block;
	unsigned int page = (unsigned int)((address - block->user) / PAGE);
	bool write = (flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP)) ||
		     !svm_host_can_protect(&rig->host, block);
	struct svm_mask one = some_pages(page, 1);
	int ret = 0;

	if (flags & UFFD_PAGEFAULT_FLAG_WP)
		rig->n_wp++;
	else if (flags & UFFD_PAGEFAULT_FLAG_MINOR)
		rig->n_minor++;
	else
		rig->n_missing++;

	if (svm_mask_test(&block->cpu, page) && !(write && svm_mask_test(&block->cpu_ro, page)))
		return svm_host_repair(&rig->host, block, page);
	if (!svm_mask_test(&block->cpu, page) && !svm_mask_test(&block->back, page))
		ret = svm_host_populate(&rig->host, block, &one, true);
	if (ret == 0)
		ret = svm_host_grant(&rig->host, block, &one, write);
	return ret;
}

static void serve_message(struct rig *rig, const struct uffd_msg *msg)
{
	struct svm_host_block *block = &rig->block;
	uint64_t one = 1;
	int ret = 0;

	switch (msg->event) {
	case UFFD_EVENT_PAGEFAULT:
		ret = serve_fault(rig, msg->arg.pagefault.address, msg->arg.pagefault.flags);
		/* An event waits in this queue, or a span has just been unmapped: the thread faults again. */
		if (ret == -EAGAIN || ret == -ENOENT)
			ret = svm_uffd_wake(&rig->host.reg_uffd,
					    svm_align_down(msg->arg.pagefault.address, PAGE), PAGE);
		break;
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP:
		*(msg->event == UFFD_EVENT_REMOVE ? &rig->n_removed : &rig->n_unmapped) += 1;
		for (uint64_t a = msg->arg.remove.start; a < msg->arg.remove.end; a += PAGE) {
			if (a < block->user || a >= block->user + BLOCK)
				continue;
			svm_mask_clear(&block->cpu, (unsigned int)((a - block->user) / PAGE));
			svm_mask_clear(&block->cpu_ro, (unsigned int)((a - block->user) / PAGE));
		}
		break;
	default:
		ret = -EPROTO;
		break;
	}
	if (ret < 0 && rig->error == 0)
		rig->error = ret;
	if (write(rig->served_fd, &one, sizeof(one)) != sizeof(one))
		rig->error = -EIO;
}

static void *serve(void *data)
{
	struct rig *rig = data;

	for (;;) {
		struct pollfd fds[3] = {
			{ .fd = rig->stop_fd, .events = POLLIN },
			{ .fd = rig->host.uffd.fd, .events = POLLIN },
			{ .fd = rig->host.reg_uffd.fd, .events = POLLIN },
		};
		struct uffd_msg msg;

		if (poll(fds, 3, -1) < 0)
			continue;
		if (fds[0].revents)
			return NULL;
		for (int i = 1; i < 3; i++) {
			if (!(fds[i].revents & POLLIN))
				continue;
			pthread_mutex_lock(&rig->lock);
			while (read(fds[i].fd, &msg, sizeof(msg)) == sizeof(msg))
				serve_message(rig, &msg);
			pthread_mutex_unlock(&rig->lock);
		}
	}
}

static void start_server(struct rig *rig)
{
	rig->stop_fd = eventfd(0, EFD_CLOEXEC);
	assert_true(rig->stop_fd >= 0);
	assert_int_equal(pthread_create(&rig->server, NULL, serve, rig), 0);
	rig->serving = true;
}

static void stop_server(struct rig *rig)
{
	uint64_t one = 1;

	if (!rig->serving)
		return;
	assert_int_equal(write(rig->stop_fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(pthread_join(rig->server, NULL), 0);
	close(rig->stop_fd);
	rig->serving = false;
	assert_int_equal(rig->error, 0);
}

static void print_line(void *data, int level, const char *line)
{
	(void)data;
	print_message("log %d: %s\n", level, line);
}

static void init_or_skip(struct rig *rig, uint32_t flags)
{
	int ret = svm_host_init(&rig->host, 0, WINDOW, PAGE, TOP, flags, &rig->log);

	if (ret == -EPERM || ret == -EOPNOTSUPP) {
		print_message("no userfaultfd here (error %d)\n", -ret);
		skip();
	}
	assert_int_equal(ret, 0);
}

static char *map_memory(uint64_t size)
{
	char *map = mmap(NULL, size + BLOCK, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *start;

	assert_true(map != MAP_FAILED);
	start = svm_ptr(svm_align_up(svm_addr(map), BLOCK));
	if (start > map)
		assert_int_equal(munmap(map, (size_t)(start - map)), 0);
	assert_int_equal(munmap(start + size, (size_t)(map + BLOCK - start)), 0);
	return start;
}

/* The record of the registered memory's only block, as the library starts it. */
static void take_in_memory(struct rig *rig)
{
	struct svm_mask all = all_pages();

	assert_int_equal(svm_host_register(&rig->host, svm_addr(rig->memory), rig->memory_size,
					   &rig->stash),
			 0);
	assert_int_equal((rig->stash ^ svm_addr(rig->memory)) % BLOCK, 0);
	rig->block.user = svm_addr(rig->memory);
	rig->block.stash = rig->stash;
	rig->block.registered = true;
	assert_int_equal(svm_host_present(&rig->host, &rig->block, &all, &rig->block.cpu), 0);
}

static void make_rig(struct rig *rig, const struct variant *variant)
{
	*rig = (struct rig){
		.log = { .fn = print_line, .level = SVM_LOG_WARN },
		.where = variant->where,
		.block = { .node = -1 },
	};
	assert_int_equal(pthread_mutex_init(&rig->lock, NULL), 0);
	rig->served_fd = eventfd(0, EFD_CLOEXEC);
	assert_true(rig->served_fd >= 0);
	init_or_skip(rig, variant->flags);
	if (variant->no_continue_wp)
		rig->host.uffd.features &= ~(UINT64_C(1) << 63);

	if (variant->where == REGISTERED) {
		rig->memory_size = BLOCK;
		rig->memory = map_memory(BLOCK);
		assert_int_equal(madvise(rig->memory, BLOCK, MADV_HUGEPAGE), 0);
		return;
	}
	rig->block.user = rig->host.window_base + 2 * BLOCK;
	rig->block.kind = variant->where == WINDOW_SHARED ? SVM_HOST_SHARED : SVM_HOST_PRIVATE;
	rig->block.stash = rig->host.stash_base + 2 * BLOCK;
	rig->block.alias = rig->host.alias_base + 2 * BLOCK;
	assert_int_equal(svm_host_arm(&rig->host, rig->block.user, BLOCK, rig->block.kind), 0);
}

/* As make_rig(), with nothing in the block and somebody to serve its faults. */
static void start_rig(struct rig *rig, void **state)
{
	make_rig(rig, *state);
	if (rig->where == REGISTERED)
		take_in_memory(rig);
	start_server(rig);
}

static void end_rig(struct rig *rig)
{
	stop_server(rig);
	assert_true(record_is_sane(rig));
	if (rig->where == REGISTERED) {
		if (rig->stash)
			assert_int_equal(svm_host_unregister(&rig->host, svm_addr(rig->memory),
							     rig->memory_size, rig->stash),
					 0);
		munmap(rig->memory, rig->memory_size);
	} else {
		assert_int_equal(svm_host_disarm(&rig->host, rig->block.user, BLOCK), 0);
	}
	svm_host_finish(&rig->host);
	close(rig->served_fd);
	pthread_mutex_destroy(&rig->lock);
}

static void populate(struct rig *rig, struct svm_mask pages, bool zero)
{
	assert_int_equal(svm_host_populate(&rig->host, &rig->block, &pages, zero), 0);
	assert_true(svm_mask_subset(&pages, &rig->block.back));
}

static void grant(struct rig *rig, struct svm_mask pages, bool write)
{
	assert_int_equal(svm_host_grant(&rig->host, &rig->block, &pages, write), 0);
	assert_true(svm_mask_subset(&pages, &rig->block.cpu));
	if (write)
		assert_false(svm_mask_intersects(&pages, &rig->block.cpu_ro));
	assert_true(record_is_sane(rig));
}

static void take(struct rig *rig, struct svm_mask pages)
{
	struct svm_mask mapped = pages;

	svm_mask_and(&mapped, &rig->block.cpu);
	assert_int_equal(svm_host_revoke(&rig->host, &rig->block, &pages), 0);
	assert_false(svm_mask_intersects(&pages, &rig->block.cpu));
	assert_true(svm_mask_subset(&mapped, &rig->block.back));
	assert_true(record_is_sane(rig));
}

static void lock(struct rig *rig)
{
	pthread_mutex_lock(&rig->lock);
}

static void unlock(struct rig *rig)
{
	pthread_mutex_unlock(&rig->lock);
}

/* Every word of a page its own value. */
static void fill_page(char *page, uint64_t seed)
{
	uint64_t *words = (void *)page;

	for (unsigned int i = 0; i < PAGE / 8; i++)
		words[i] = seed * UINT64_C(0x9e3779b97f4a7c15) + i;
}

static bool page_is(const char *page, uint64_t seed)
{
	const uint64_t *words = (const void *)page;

	for (unsigned int i = 0; i < PAGE / 8; i++)
		if (words[i] != seed * UINT64_C(0x9e3779b97f4a7c15) + i)
			return false;
	return true;
}

static bool page_is_zero(const char *page)
{
	for (unsigned int i = 0; i < PAGE; i++)
		if (page[i])
			return false;
	return true;
}

/* A thread that touches one byte. */
struct toucher {
	pthread_t thread;
	volatile char *addr;
	bool write;
	char value;
};

static void *touch(void *data)
{
	struct toucher *t = data;

	/* Atomic: who checks that a write is trapped reads the byte while the writer waits. */
	if (t->write)
		__atomic_store_n(t->addr, t->value, __ATOMIC_RELAXED);
	else
		t->value = __atomic_load_n(t->addr, __ATOMIC_RELAXED);
	return NULL;
}

static void start_touch(struct toucher *t)
{
	assert_int_equal(pthread_create(&t->thread, NULL, touch, t), 0);
}

static void end_touch(struct toucher *t)
{
	assert_int_equal(pthread_join(t->thread, NULL), 0);
}

/* Wait until the fault of a started toucher is in the queue; the server does not run. */
static void await_fault(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&poll_fd, 1, -1), 1);
}

/* So that the next await_fault() waits for a new one. */
static void forget_events(int fd)
{
	struct uffd_msg msg;

	while (read(fd, &msg, sizeof(msg)) == sizeof(msg))
		;
}

static int block_fd(struct rig *rig)
{
	return rig->block.registered ? rig->host.reg_uffd.fd : rig->host.uffd.fd;
}

static sigjmp_buf after_signal;

static void on_signal(int number)
{
	siglongjmp(after_signal, number);
}

/* The signal that a touch raises; 0: none. */
static int signal_of_touch(volatile char *addr, bool write)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct sigaction old_bus;
	struct sigaction old_segv;
	volatile int caught;

	assert_int_equal(sigaction(SIGBUS, &action, &old_bus), 0);
	assert_int_equal(sigaction(SIGSEGV, &action, &old_segv), 0);
	caught = sigsetjmp(after_signal, 1);
	if (caught == 0) {
		if (write)
			*addr = 1;
		else
			(void)*addr;
	}
	assert_int_equal(sigaction(SIGBUS, &old_bus, NULL), 0);
	assert_int_equal(sigaction(SIGSEGV, &old_segv, NULL), 0);
	return caught;
}

static int set_up(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	fake_sys = svm_sys_real;
	fake_sys.ioctl = fake_ioctl;
	fake_sys.madvise = fake_madvise;
	fake_sys.mmap = fake_mmap;
	fake_sys.mprotect = fake_mprotect;
	fake_sys.memfd_create = fake_memfd_create;
	fake_sys.ftruncate = fake_ftruncate;
	fake_sys.fcntl = fake_fcntl;
	svm_sys = &fake_sys;
	/* Who is not woken ends the program. */
	alarm(50 * fixture_slower());
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	alarm(0);
	svm_sys = &svm_sys_real;
	return 0;
}

/* ---- Window ----------------------------------------------------------------------------------- */

static void window_lies_within_limits(void **state)
{
	struct svm_host host;
	struct svm_log log = { 0 };
	uint64_t base;
	int ret;

	(void)state;
	ret = svm_host_init(&host, 0, WINDOW, PAGE, TOP, 0, &log);
	if (ret == -EPERM) {
		print_message("no userfaultfd here\n");
		skip();
	}
	assert_int_equal(ret, 0);
	assert_int_equal(host.window_base % BLOCK, 0);
	assert_int_equal(host.stash_base % BLOCK, 0);
	assert_int_equal(host.alias_base % BLOCK, 0);
	assert_true(host.window_base + WINDOW <= TOP);
	base = host.window_base;

	{
		/* Taken. */
		struct svm_host other;

		assert_int_equal(svm_host_init(&other, base, WINDOW, PAGE, TOP, 0, &log), -EEXIST);
		/* Outside. */
		assert_int_equal(svm_host_init(&other, base, WINDOW, PAGE, base, 0, &log), -EINVAL);
		assert_int_equal(svm_host_init(&other, base, WINDOW, base + PAGE, TOP, 0, &log),
				 -EINVAL);
		/* Too narrow. */
		assert_int_equal(svm_host_init(&other, 0, WINDOW, base, base + WINDOW - BLOCK, 0,
					       &log),
				 -ENOMEM);
	}
	svm_host_finish(&host);
	assert_int_equal(svm_host_init(&host, base, WINDOW, PAGE, TOP, 0, &log), 0);
	assert_true(host.window_base == base);
	svm_host_finish(&host);
	svm_host_finish(&host);
}

/* Not where the kernel would put it by itself. */
static void window_is_found_below_a_low_limit(void **state)
{
	const uint64_t top = UINT64_C(1) << 40;
	struct svm_host host;
	struct svm_log log = { 0 };
	int ret;

	(void)state;
	if (SANITIZED) {
		print_message("the sanitizer keeps low addresses for itself\n");
		skip();
	}
	ret = svm_host_init(&host, 0, WINDOW, 0, top, 0, &log);
	if (ret == -EPERM) {
		print_message("no userfaultfd here\n");
		skip();
	}
	assert_int_equal(ret, 0);
	assert_true(host.window_base > 0);
	assert_true(host.window_base + WINDOW <= top);
	svm_host_finish(&host);
}

static void file_size_limit_is_an_error_not_a_signal(void **state)
{
	struct rlimit old;
	struct rlimit limit;
	struct svm_host host;
	struct svm_log log = { 0 };
	int ret;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = PAGE;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ret = svm_host_init(&host, 0, WINDOW, PAGE, TOP, 0, &log);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	if (ret == -EPERM) {
		print_message("no userfaultfd here\n");
		skip();
	}
	assert_int_equal(ret, -EFBIG);
}

static void failed_init_leaves_nothing(void **state)
{
	unsigned int fds = count_entries("/proc/self/fd");
	unsigned int maps = count_mappings();
	struct svm_log log = { 0 };
	unsigned int n = 0;
	int ret;

	(void)state;
	do {
		struct svm_host host;

		n++;
		fake.any_skip = n;
		ret = svm_host_init(&host, 0, WINDOW, PAGE, TOP, 0, &log);
		/* The first call of all may be denied to this process, and the way after it works. */
		if (ret == 0)
			svm_host_finish(&host);
		else if (ret == -EPERM && n == 1) {
			print_message("no userfaultfd here\n");
			skip();
		}
		assert_int_equal(count_entries("/proc/self/fd"), fds);
		assert_int_equal(count_mappings(), maps);
	} while (fake.any_skip == 0);
	/* ioctls of two userfaultfds, memfd, truncate, seal, maps, advice. */
	assert_in_range(n, 14, 60);
}

static void failed_arming_can_be_repeated(void **state)
{
	const struct variant *variant = *state;
	const enum svm_host_kind kind = variant->where == WINDOW_SHARED ? SVM_HOST_SHARED
									: SVM_HOST_PRIVATE;
	struct rig rig = { .log = { .level = 0 } };
	unsigned int n = 0;
	int ret;

	init_or_skip(&rig, variant->flags);
	do {
		fake.any_skip = ++n;
		ret = svm_host_arm(&rig.host, rig.host.window_base, 2 * BLOCK, kind);
		assert_true(ret == 0 || ret == -ENOMEM);
		assert_int_equal(ret == 0, fake.any_skip > 0);
	} while (ret < 0);
	fake.any_skip = 0;
	assert_in_range(n, 4, 20);
	assert_int_equal(svm_host_disarm(&rig.host, rig.host.window_base, 2 * BLOCK), 0);
	/* Nothing there. */
	assert_int_equal(signal_of_touch(svm_ptr(rig.host.window_base), false), SIGSEGV);
	svm_host_finish(&rig.host);
}

/* Window of many blocks, few mappings. */
static void armed_neighbours_stay_one_mapping(void **state)
{
	struct rig rig = { .log = { .level = 0 } };
	unsigned int before;

	(void)state;
	init_or_skip(&rig, 0);
	before = count_mappings();
	for (uint64_t i = 0; i < WINDOW / BLOCK; i++)
		assert_int_equal(svm_host_arm(&rig.host, rig.host.window_base + i * BLOCK, BLOCK,
					      SVM_HOST_PRIVATE),
				 0);
	/* Both reservations have become accessible as a whole. */
	assert_true(count_mappings() <= before);
	for (uint64_t i = 0; i < WINDOW / BLOCK; i++)
		assert_int_equal(
			svm_host_disarm(&rig.host, rig.host.window_base + i * BLOCK, BLOCK), 0);
	assert_int_equal(count_mappings(), before);
	svm_host_finish(&rig.host);
}

/* Does smaps say of the mapping at addr that core dumps leave it out? */
static bool is_left_out_of_dumps(uint64_t addr)
{
	char line[512];
	bool inside = false;
	bool left_out = false;
	FILE *file = fopen("/proc/self/smaps", "re");

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		uint64_t start;
		uint64_t end;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2)
			inside = addr >= start && addr < end;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			left_out = strstr(line, " dd") != NULL;
	}
	fclose(file);
	return left_out;
}

/* What the program sees as its memory is dumped, once; also where there was other memory before. */
static void core_dumps_hold_the_user_view_alone(void **state)
{
	struct rig rig = { .log = { .level = 0 } };

	(void)state;
	init_or_skip(&rig, 0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(
			svm_host_arm(&rig.host, rig.host.window_base, BLOCK, SVM_HOST_PRIVATE), 0);
		assert_false(is_left_out_of_dumps(rig.host.window_base));
		assert_true(is_left_out_of_dumps(rig.host.stash_base));
		assert_true(is_left_out_of_dumps(rig.host.alias_base));
		assert_int_equal(svm_host_disarm(&rig.host, rig.host.window_base, BLOCK), 0);
	}
	svm_host_finish(&rig.host);
}

static void child_has_no_view(void **state)
{
	struct rig rig;
	pid_t pid;
	int status;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, some_pages(0, 1), true);
	grant(&rig, some_pages(0, 1), true);
	unlock(&rig);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const uint64_t views[] = { rig.block.user, rig.block.stash,
					   rig.where == REGISTERED
						   ? rig.block.stash
						   : rig.host.alias_base + 2 * BLOCK };

		for (size_t i = 0; i < SVM_ARRAY_SIZE(views); i++) {
			unsigned char resident;

			if (mincore(svm_ptr(views[i]), PAGE, &resident) == 0 || errno != ENOMEM)
				_exit(1);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	end_rig(&rig);
}

/* ---- Rights and bytes ------------------------------------------------------------------------- */

static void bytes_go_round(void **state)
{
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, all_pages(), false);
	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
			fill_page(lib_at(&rig, p), round * 1000 + p);
		grant(&rig, all_pages(), true);
		unlock(&rig);
		for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++) {
			assert_true(page_is(user_at(&rig, p), round * 1000 + p));
			fill_page(user_at(&rig, p), round * 2000 + p);
		}
		lock(&rig);
		take(&rig, all_pages());
		for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
			assert_true(page_is(lib_at(&rig, p), round * 2000 + p));
	}
	assert_int_equal(rig.n_missing + rig.n_minor + rig.n_wp, 0);
	grant(&rig, all_pages(), true);
	unlock(&rig);
	end_rig(&rig);
}

static void pieces_go_round(void **state)
{
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, some_pages(3, 60), true);
	for (unsigned int p = 3; p < 63; p++)
		fill_page(lib_at(&rig, p), p);
	grant(&rig, some_pages(10, 20), true);
	grant(&rig, some_pages(40, 5), true);
	for (unsigned int p = 10; p < 30; p++)
		assert_true(page_is(user_at(&rig, p), p));
	/* Over mapped and unmapped pages alike. */
	take(&rig, some_pages(0, 43));
	assert_true(svm_mask_test(&rig.block.cpu, 43));
	for (unsigned int p = 3; p < 63; p++)
		assert_true(page_is(lib_at(&rig, p), p));
	grant(&rig, some_pages(3, 60), true);
	for (unsigned int p = 3; p < 63; p++)
		assert_true(page_is(user_at(&rig, p), p));
	unlock(&rig);
	/* Pages beside them did not come to be. */
	assert_int_equal(svm_mask_count(&rig.block.cpu), 60);
	assert_true(page_is_zero(user_at(&rig, 100)));
	assert_int_equal(rig.n_missing + rig.n_minor, 1);
	end_rig(&rig);
}

/* MOVE takes a huge page as one; a piece out of it and back loses nothing. */
static void huge_pages_stay_huge(void **state)
{
	struct rig rig;

	start_rig(&rig, state);
	if (!rig.host.huge || !svm_uffd_has_move(&rig.host.uffd)) {
		end_rig(&rig);
		print_message("no transparent huge pages or no UFFDIO_MOVE here\n");
		skip();
	}
	lock(&rig);
	populate(&rig, all_pages(), true);
	if (fixture_huge_kb(rig.block.stash, BLOCK) == 0) {
		unlock(&rig);
		end_rig(&rig);
		print_message("the kernel gave no huge page\n");
		skip();
	}
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		fill_page(lib_at(&rig, p), p);
	for (unsigned int i = 0; i < 5; i++) {
		fake.n_moves = 0;
		grant(&rig, all_pages(), true);
		assert_int_equal(fake.n_moves, 1);
		assert_int_equal(fixture_huge_kb(rig.block.user, BLOCK), 2048);
		take(&rig, all_pages());
		assert_int_equal(fake.n_moves, 2);
		assert_int_equal(fixture_huge_kb(rig.block.stash, BLOCK), 2048);
	}
	grant(&rig, all_pages(), true);
	assert_int_equal(
		svm_host_protect(&rig.host, &rig.block, &(struct svm_mask){ { ~UINT64_C(0) } }), 0);
	take(&rig, some_pages(5, 100));
	for (unsigned int p = 5; p < 105; p++)
		assert_true(page_is(lib_at(&rig, p), p));
	grant(&rig, some_pages(5, 100), true);
	take(&rig, all_pages());
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		assert_true(page_is(lib_at(&rig, p), p));
	unlock(&rig);
	end_rig(&rig);
}

static void protecting_keeps_huge_pages(void **state)
{
	struct svm_mask all = all_pages();
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, all_pages(), true);
	grant(&rig, all_pages(), true);
	if (fixture_huge_kb(rig.block.user, BLOCK) == 0) {
		unlock(&rig);
		end_rig(&rig);
		print_message("the kernel gave no huge page\n");
		skip();
	}
	assert_int_equal(svm_host_protect(&rig.host, &rig.block, &all), 0);
	assert_int_equal(fixture_huge_kb(rig.block.user, BLOCK), 2048);
	grant(&rig, all_pages(), true);
	assert_int_equal(fixture_huge_kb(rig.block.user, BLOCK), 2048);
	assert_int_equal(svm_host_protect(&rig.host, &rig.block, &all), 0);
	take(&rig, all_pages());
	assert_int_equal(fixture_huge_kb(rig.block.stash, BLOCK), 2048);
	unlock(&rig);
	end_rig(&rig);
}

/* Each touch of a page without a mapping becomes one fault, and the server's answer wakes. */
static void first_touch_finds_zeros(void **state)
{
	struct rig rig;

	start_rig(&rig, state);
	for (unsigned int p = 0; p < 8; p++) {
		struct toucher t = { .addr = user_at(&rig, p * 64), .write = p & 1, .value = 7 };

		start_touch(&t);
		end_touch(&t);
		assert_int_equal(t.value, p & 1 ? 7 : 0);
	}
	lock(&rig);
	assert_true(rig.n_missing + rig.n_minor >= 8);
	assert_int_equal(svm_mask_count(&rig.block.cpu), 8);
	unlock(&rig);
	end_rig(&rig);
}

static void read_grant_traps_the_write(void **state)
{
	struct toucher t = { .write = true, .value = 'w' };
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	if (!svm_host_can_protect(&rig.host, &rig.block)) {
		struct svm_mask one = some_pages(0, 1);

		populate(&rig, one, true);
		assert_int_equal(svm_host_grant(&rig.host, &rig.block, &one, false), -EOPNOTSUPP);
		assert_int_equal(svm_host_protect(&rig.host, &rig.block, &one), -EOPNOTSUPP);
		assert_true(svm_mask_empty(&rig.block.cpu));
		unlock(&rig);
		end_rig(&rig);
		return;
	}
	populate(&rig, some_pages(0, 64), false);
	for (unsigned int p = 0; p < 64; p++)
		fill_page(lib_at(&rig, p), p);
	grant(&rig, some_pages(0, 32), false);
	assert_int_equal(svm_mask_count(&rig.block.cpu_ro), 32);
	/* Already good enough. */
	grant(&rig, some_pages(0, 32), false);
	unlock(&rig);
	for (unsigned int p = 0; p < 32; p++)
		assert_true(page_is(user_at(&rig, p), p));
	assert_int_equal(rig.n_wp + rig.n_missing + rig.n_minor, 0);

	t.addr = user_at(&rig, 9);
	start_touch(&t);
	end_touch(&t);
	lock(&rig);
	assert_int_equal(rig.n_wp, 1);
	assert_int_equal(*user_at(&rig, 9), 'w');
	assert_int_equal(svm_mask_count(&rig.block.cpu_ro), 31);
	take(&rig, some_pages(0, 64));
	assert_int_equal(*lib_at(&rig, 9), 'w');
	assert_true(page_is(lib_at(&rig, 10), 10));

	/* After that a read-write grant is one, although the page was protected when it was taken. */
	grant(&rig, some_pages(0, 64), true);
	unlock(&rig);
	for (unsigned int p = 0; p < 64; p++)
		*user_at(&rig, p) = (char)p;
	assert_int_equal(rig.n_wp, 1);
	end_rig(&rig);
}

static void protect_traps_until_granted(void **state)
{
	struct svm_mask pages = some_pages(8, 8);
	struct toucher t = { .write = true, .value = 'x' };
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	if (!svm_host_can_protect(&rig.host, &rig.block)) {
		unlock(&rig);
		end_rig(&rig);
		print_message("shared pages cannot be protected here (Linux 6.4)\n");
		skip();
	}
	populate(&rig, some_pages(0, 32), true);
	grant(&rig, some_pages(0, 32), true);
	/* Unmapped pages in the set are none of its business. */
	svm_mask_set_range(&pages, 100, 10);
	assert_int_equal(svm_host_protect(&rig.host, &rig.block, &pages), 0);
	assert_int_equal(svm_mask_count(&rig.block.cpu_ro), 8);
	assert_int_equal(svm_mask_count(&rig.block.cpu), 32);
	unlock(&rig);
	*user_at(&rig, 0) = 1;
	assert_int_equal(rig.n_wp, 0);
	t.addr = user_at(&rig, 10);
	start_touch(&t);
	end_touch(&t);
	assert_int_equal(rig.n_wp, 1);

	/* The zap of a protected page leaves a marker; the next grant must not be hindered by it. */
	lock(&rig);
	take(&rig, pages);
	grant(&rig, some_pages(8, 4), true);
	grant(&rig, some_pages(12, 4), false);
	unlock(&rig);
	*user_at(&rig, 8) = 2;
	assert_int_equal(rig.n_wp, 1);
	t.addr = user_at(&rig, 12);
	start_touch(&t);
	end_touch(&t);
	assert_int_equal(rig.n_wp, 2);
	assert_int_equal(*lib_at(&rig, 12), 'x');
	end_rig(&rig);
}

/* The server sleeps while a thread faults and the page is mapped for another reason: it must be woken. */
static void grant_wakes_who_waits(void **state)
{
	struct toucher t = { 0 };
	struct rig rig;

	make_rig(&rig, *state);
	if (rig.where == REGISTERED)
		take_in_memory(&rig);
	t.addr = user_at(&rig, 6);
	start_touch(&t);
	await_fault(block_fd(&rig));
	/* Two waiters at one page, and neighbours granted along. */
	populate(&rig, some_pages(0, 16), true);
	fill_page(lib_at(&rig, 6), 6);
	grant(&rig, some_pages(0, 16), true);
	end_touch(&t);
	assert_int_equal(t.value, *user_at(&rig, 6));
	/* The server starts now and sees the old fault: a repair of what is right. */
	start_server(&rig);
	t.addr = user_at(&rig, 200);
	start_touch(&t);
	end_touch(&t);
	end_rig(&rig);
}

/* Map a page that exists behind the record's back, and wake nobody. */
static void map_unrecorded(struct rig *rig, unsigned int page)
{
	const struct svm_uffd *uffd = rig->block.registered ? &rig->host.reg_uffd : &rig->host.uffd;
	uint64_t user = rig->block.user + page * PAGE;
	uint64_t done;

	if (rig->where == WINDOW_SHARED)
		assert_int_equal(svm_uffd_continue(uffd, user, PAGE, SVM_UFFD_NO_WAKE, &done), 0);
	else
		assert_int_equal(svm_uffd_copy(uffd, user, lib_at(rig, page), PAGE,
					       SVM_UFFD_NO_WAKE, &done),
				 0);
}

static void grant_of_a_mapped_page_wakes(void **state)
{
	struct toucher t = { 0 };
	struct rig rig;

	make_rig(&rig, *state);
	if (rig.where == REGISTERED)
		take_in_memory(&rig);
	t.addr = user_at(&rig, 6);
	start_touch(&t);
	await_fault(block_fd(&rig));
	populate(&rig, some_pages(6, 1), true);
	map_unrecorded(&rig, 6);
	/* The record does not know that it is mapped. */
	assert_int_equal(
		svm_host_grant(&rig.host, &rig.block, &(struct svm_mask){ { 1 << 6 } }, true), 0);
	end_touch(&t);

	/* And now it does; the page in the stash is stale. */
	*user_at(&rig, 6) = 'n';
	t.addr = user_at(&rig, 6);
	start_touch(&t);
	end_touch(&t);
	take(&rig, some_pages(6, 1));
	assert_int_equal(*lib_at(&rig, 6), 'n');

	/* A read grant of such a page protects it, and wakes as well. */
	if (svm_host_can_protect(&rig.host, &rig.block)) {
		forget_events(block_fd(&rig));
		start_touch(&t);
		await_fault(block_fd(&rig));
		map_unrecorded(&rig, 6);
		assert_int_equal(svm_host_grant(&rig.host, &rig.block,
						&(struct svm_mask){ { 1 << 6 } }, false),
				 0);
		end_touch(&t);
		assert_int_equal(t.value, 'n');
		t.write = true;
		t.value = 'w';
		start_server(&rig);
		start_touch(&t);
		end_touch(&t);
		stop_server(&rig);
		assert_int_equal(rig.n_wp, 1);
		take(&rig, some_pages(6, 1));
		assert_int_equal(*lib_at(&rig, 6), 'w');
	}
	grant(&rig, some_pages(6, 1), true);
	end_rig(&rig);
}

/* ---- Storage ---------------------------------------------------------------------------------- */

static void populate_zero_hides_stale_bytes(void **state)
{
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, some_pages(0, 40), false);
	for (unsigned int p = 0; p < 40; p++)
		fill_page(lib_at(&rig, p), p);
	populate(&rig, some_pages(10, 50), true);
	for (unsigned int p = 0; p < 10; p++)
		assert_true(page_is(lib_at(&rig, p), p));
	for (unsigned int p = 10; p < 60; p++)
		assert_true(page_is_zero(lib_at(&rig, p)));
	/* Without zero, what is there stays. */
	populate(&rig, some_pages(0, 12), false);
	assert_true(page_is(lib_at(&rig, 3), 3));
	/* Mapped pages are left alone. */
	grant(&rig, some_pages(0, 5), true);
	assert_int_equal(
		svm_host_populate(&rig.host, &rig.block, &(struct svm_mask){ { 31 } }, true), 0);
	assert_true(page_is(user_at(&rig, 3), 3));
	unlock(&rig);
	end_rig(&rig);
}

static void dropped_bytes_are_gone(void **state)
{
	struct svm_mask drop = some_pages(0, 20);
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, some_pages(0, 64), false);
	for (unsigned int p = 0; p < 64; p++)
		fill_page(lib_at(&rig, p), p);
	grant(&rig, some_pages(10, 20), true);
	/* Without unmap, only what is not mapped goes. */
	assert_int_equal(svm_host_drop(&rig.host, &rig.block, &drop, false), 0);
	assert_int_equal(svm_mask_count(&rig.block.cpu), 20);
	assert_true(page_is(user_at(&rig, 15), 15));
	assert_false(svm_mask_test(&rig.block.back, 5));
	assert_int_equal(svm_host_drop(&rig.host, &rig.block, &drop, true), 0);
	assert_false(svm_mask_intersects(&drop, &rig.block.cpu));
	assert_false(svm_mask_intersects(&drop, &rig.block.back));
	assert_true(page_is(user_at(&rig, 25), 25));
	unlock(&rig);
	/* The CPU finds zeros, never what was there. */
	for (unsigned int p = 0; p < 20; p++)
		assert_true(page_is_zero(user_at(&rig, p)));
	assert_int_equal(rig.n_missing + rig.n_minor, 20);

	lock(&rig);
	take(&rig, some_pages(0, 64));
	drop = some_pages(30, 30);
	assert_int_equal(svm_host_drop(&rig.host, &rig.block, &drop, false), 0);
	populate(&rig, some_pages(30, 30), true);
	for (unsigned int p = 30; p < 60; p++)
		assert_true(page_is_zero(lib_at(&rig, p)));
	assert_true(page_is(lib_at(&rig, 61), 61));
	unlock(&rig);
	end_rig(&rig);
}

static void drop_of_a_huge_page_gives_memory_back(void **state)
{
	struct svm_mask all = all_pages();
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, all, true);
	grant(&rig, all, true);
	assert_int_equal(svm_host_drop(&rig.host, &rig.block, &all, true), 0);
	assert_true(svm_mask_empty(&rig.block.cpu));
	assert_true(svm_mask_empty(&rig.block.back));
	assert_int_equal(fixture_huge_kb(rig.block.user, BLOCK), 0);
	populate(&rig, all, true);
	assert_true(page_is_zero(lib_at(&rig, 511)));
	unlock(&rig);
	end_rig(&rig);
}

static void failed_populate_leaves_a_true_record(void **state)
{
	struct svm_mask all = all_pages();
	struct svm_mask some = some_pages(0, 100);
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	fake.advice = MADV_POPULATE_WRITE;
	fake.error = -ENOMEM;
	fake.times = 1;
	assert_int_equal(svm_host_populate(&rig.host, &rig.block, &all, true), -ENOMEM);
	assert_true(svm_mask_empty(&rig.block.back));
	fake.error = -EFAULT;
	fake.times = 1;
	assert_int_equal(svm_host_populate(&rig.host, &rig.block, &all, true), -ENOMEM);
	fake.times = 0;
	if (rig.block.kind == SVM_HOST_PRIVATE) {
		fake.advice = 0;
		fake.ioctl_request = UFFDIO_COPY;
		fake.error = -ENOMEM;
		fake.skip = 3;
		fake.times = 1;
		assert_int_equal(svm_host_populate(&rig.host, &rig.block, &some, true), -ENOMEM);
		assert_int_equal(svm_mask_count(&rig.block.back), 48);
		fake.times = 0;
	}
	populate(&rig, all, true);
	grant(&rig, all, true);
	take(&rig, all);
	unlock(&rig);
	end_rig(&rig);
}

/* ---- Errors on the way ------------------------------------------------------------------------ */

/* What happens to each page when calls fail is in the record, so that a second try ends it. */
static void errors_leave_a_true_record(void **state)
{
	static const struct {
		unsigned long request;
		int error;
		unsigned int times;
	} faults[] = {
		{ SVM_UFFDIO_MOVE, -EAGAIN, 7 },     { SVM_UFFDIO_MOVE, -EAGAIN, 5000 },
		{ SVM_UFFDIO_MOVE, -ENOMEM, 1 },     { SVM_UFFDIO_MOVE, -EBUSY, 3 },
		{ SVM_UFFDIO_MOVE, -EINVAL, 4 },     { UFFDIO_COPY, -ENOMEM, 1 },
		{ UFFDIO_COPY, -EAGAIN, 9 },	     { UFFDIO_CONTINUE, -ENOMEM, 1 },
		{ UFFDIO_CONTINUE, -EAGAIN, 5000 },  { UFFDIO_WRITEPROTECT, -EAGAIN, 20 },
		{ UFFDIO_WRITEPROTECT, -ENOMEM, 1 }, { UFFDIO_WAKE, -EINVAL, 1 },
		{ UFFDIO_ZEROPAGE, -ENOMEM, 1 },
	};
	unsigned int step = fixture_quick() == 2 ? 9 : 3;
	struct svm_mask odd;
	struct rig rig;

	start_rig(&rig, state);
	for (unsigned int i = 0; i < SVM_MASK_WORDS; i++)
		odd.w[i] = UINT64_C(0xf0f0f0f0f0f0f0f0);
	for (size_t f = 0; f < SVM_ARRAY_SIZE(faults); f++) {
		for (unsigned int skip = 0; skip < 12; skip += step) {
			struct svm_mask all = all_pages();

			lock(&rig);
			populate(&rig, all, false);
			for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
				fill_page(lib_at(&rig, p), f + p);
			fake.ioctl_request = faults[f].request;
			fake.error = faults[f].error;
			fake.times = faults[f].times;
			fake.skip = skip;
			/* Whatever fails, bytes are where the record says. */
			for (unsigned int round = 0; round < 2; round++) {
				int ret = svm_host_grant(&rig.host, &rig.block, &odd, true);

				assert_true(svm_mask_subset(&rig.block.cpu_ro, &rig.block.cpu));
				if (ret == 0 && svm_host_can_protect(&rig.host, &rig.block))
					ret = svm_host_protect(&rig.host, &rig.block, &odd);
				if (ret == 0)
					svm_host_grant(&rig.host, &rig.block, &odd, true);
				for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
					assert_true(page_is(lib_at(&rig, p), f + p));
				svm_host_revoke(&rig.host, &rig.block, &all);
				assert_true(svm_mask_subset(&rig.block.cpu_ro, &rig.block.cpu));
				for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
					assert_true(page_is(lib_at(&rig, p), f + p));
			}
			fake.times = 0;
			fake.skip = 0;
			take(&rig, all);
			for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
				assert_true(page_is(lib_at(&rig, p), f + p));
			grant(&rig, all, true);
			for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
				assert_true(page_is(user_at(&rig, p), f + p));
			take(&rig, all);
			unlock(&rig);
		}
	}
	lock(&rig);
	grant(&rig, all_pages(), true);
	unlock(&rig);
	end_rig(&rig);
}

/* A page that the record calls mapped is missing: the program, or reclaim, has taken it. */
static void repair_maps_again(void **state)
{
	struct rig rig;
	unsigned int faults;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, some_pages(0, 8), false);
	for (unsigned int p = 0; p < 8; p++)
		fill_page(lib_at(&rig, p), p);
	grant(&rig, some_pages(0, 4), true);
	if (svm_host_can_protect(&rig.host, &rig.block))
		grant(&rig, some_pages(4, 4), false);
	else
		grant(&rig, some_pages(4, 4), true);
	unlock(&rig);

	/* As the application may do, at any time. */
	assert_int_equal(madvise(user_at(&rig, 0), 8 * PAGE, MADV_DONTNEED), 0);
	if (rig.where == REGISTERED && svm_uffd_has_move(&rig.host.uffd)) {
		/* Here the library is told. */
		lock(&rig);
		assert_int_equal(rig.n_removed, 1);
		assert_true(svm_mask_empty(&rig.block.cpu));
		unlock(&rig);
	}
	for (unsigned int p = 0; p < 8; p++) {
		if (rig.block.kind == SVM_HOST_SHARED)
			assert_true(page_is(user_at(&rig, p), p));
		else
			assert_true(page_is_zero(user_at(&rig, p)));
		*user_at(&rig, p) = 'r';
	}
	lock(&rig);
	take(&rig, some_pages(0, 8));
	for (unsigned int p = 0; p < 8; p++)
		assert_int_equal(*lib_at(&rig, p), 'r');
	grant(&rig, some_pages(0, 8), true);
	faults = rig.n_missing + rig.n_minor + rig.n_wp;
	/* A page that is first read and then written may take two. */
	assert_in_range(faults, 8, 16);
	/* A fault that was in the queue already, for a page that is right. */
	assert_int_equal(svm_host_repair(&rig.host, &rig.block, 3), 0);
	unlock(&rig);
	assert_int_equal(*user_at(&rig, 3), 'r');
	end_rig(&rig);
}

/* The library takes pages that the application has dropped a moment ago: they are zero pages now. */
static void dropped_pages_are_taken_as_zeros(void **state)
{
	struct svm_mask some = some_pages(0, 64);
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, some, false);
	for (unsigned int p = 0; p < 64; p++)
		fill_page(lib_at(&rig, p), p);
	grant(&rig, some, true);
	unlock(&rig);
	assert_int_equal(madvise(user_at(&rig, 10), 20 * PAGE, MADV_DONTNEED), 0);
	lock(&rig);
	/* As if the event, where there is one, were still in the queue. */
	rig.block.cpu = some;
	if (rig.block.kind == SVM_HOST_PRIVATE) {
		/* No memory for the zeros: those pages stay on record as mapped. */
		fake.ioctl_request = UFFDIO_COPY;
		fake.error = -ENOMEM;
		fake.times = 1;
		assert_int_equal(svm_host_revoke(&rig.host, &rig.block, &some), -ENOMEM);
		fake.times = 0;
		for (unsigned int p = 0; p < 64; p++)
			assert_true(svm_mask_test(&rig.block.cpu, p) !=
				    svm_mask_test(&rig.block.back, p));
	}
	take(&rig, some);
	for (unsigned int p = 0; p < 64; p++) {
		if (p >= 10 && p < 30 && rig.block.kind == SVM_HOST_PRIVATE)
			assert_true(page_is_zero(lib_at(&rig, p)));
		else
			assert_true(page_is(lib_at(&rig, p), p));
	}
	grant(&rig, some, true);
	unlock(&rig);
	end_rig(&rig);
}

/* Somebody read where the stash has no page, which makes the kernel put one there. */
static void stray_stash_pages_do_no_harm(void **state)
{
	struct svm_mask all = all_pages();
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	for (unsigned int round = 0; round < 2; round++) {
		populate(&rig, all, false);
		for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
			fill_page(lib_at(&rig, p), round + p);
		grant(&rig, all, true);
		for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p += round + 1)
			assert_int_equal(*(volatile char *)svm_ptr(rig.block.stash + p * PAGE), 0);
		take(&rig, all);
		for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
			assert_true(page_is(lib_at(&rig, p), round + p));
		assert_int_equal(svm_host_drop(&rig.host, &rig.block, &all, true), 0);
		assert_int_equal(*(volatile char *)svm_ptr(rig.block.stash + 5 * PAGE), 0);
		populate(&rig, some_pages(0, 20), true);
		assert_int_equal(svm_mask_count(&rig.block.back), 20);
		assert_true(page_is_zero(lib_at(&rig, 5)));
		fill_page(lib_at(&rig, 5), 5);
		grant(&rig, some_pages(0, 20), true);
		assert_true(page_is(user_at(&rig, 5), 5));
		take(&rig, some_pages(0, 20));
	}
	unlock(&rig);
	end_rig(&rig);
}

static void punched_shared_page_reads_zero(void **state)
{
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, some_pages(0, 2), false);
	fill_page(lib_at(&rig, 0), 1);
	grant(&rig, some_pages(0, 2), true);
	unlock(&rig);
	assert_int_equal(madvise(user_at(&rig, 0), PAGE, MADV_REMOVE), 0);
	assert_true(page_is_zero(user_at(&rig, 0)));
	lock(&rig);
	take(&rig, some_pages(0, 2));
	unlock(&rig);
	assert_int_equal(madvise(user_at(&rig, 0), PAGE, MADV_REMOVE), 0);
	lock(&rig);
	grant(&rig, some_pages(0, 2), true);
	unlock(&rig);
	assert_true(page_is_zero(user_at(&rig, 0)));
	end_rig(&rig);
}

/* A protected page whose record says writable (a protection that was half done): one write ends it. */
static void repair_lifts_a_stray_protection(void **state)
{
	struct toucher t = { .write = true, .value = 's' };
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, some_pages(0, 1), true);
	grant(&rig, some_pages(0, 1), true);
	assert_int_equal(svm_uffd_protect(rig.block.registered ? &rig.host.reg_uffd
							       : &rig.host.uffd,
					  rig.block.user, PAGE, true),
			 0);
	unlock(&rig);
	t.addr = user_at(&rig, 0);
	start_touch(&t);
	end_touch(&t);
	assert_int_equal(rig.n_wp, 1);
	end_rig(&rig);
}

/* ---- Pages that do not want to move ----------------------------------------------------------- */

/* Pins [addr, addr + size) as a driver does for DMA. */
static bool pin(struct io_uring *ring, void *addr, size_t size)
{
	struct iovec vec = { .iov_base = addr, .iov_len = size };

	if (io_uring_queue_init(2, ring, 0) < 0)
		return false;
	if (io_uring_register_buffers(ring, &vec, 1) < 0) {
		io_uring_queue_exit(ring);
		return false;
	}
	return true;
}

static void unpin(struct io_uring *ring)
{
	io_uring_unregister_buffers(ring);
	io_uring_queue_exit(ring);
}

static void pinned_pages_stay_mapped(void **state)
{
	struct svm_mask some = some_pages(0, 64);
	struct io_uring ring;
	struct rig rig;

	start_rig(&rig, state);
	if (!svm_uffd_has_move(&rig.host.uffd)) {
		end_rig(&rig);
		print_message("no UFFDIO_MOVE here, which tells pinned pages\n");
		skip();
	}
	lock(&rig);
	populate(&rig, some, false);
	for (unsigned int p = 0; p < 64; p++)
		fill_page(lib_at(&rig, p), p);
	grant(&rig, some, true);
	if (!pin(&ring, user_at(&rig, 20), 2 * PAGE)) {
		unlock(&rig);
		end_rig(&rig);
		print_message("io_uring does not register buffers here\n");
		skip();
	}
	assert_int_equal(svm_host_revoke(&rig.host, &rig.block, &some), -EBUSY);
	assert_int_equal(svm_mask_count(&rig.block.cpu), 2);
	assert_true(svm_mask_test(&rig.block.cpu, 20));
	assert_true(svm_mask_test(&rig.block.cpu, 21));
	assert_true(record_is_sane(&rig));
	for (unsigned int p = 0; p < 64; p++)
		assert_true(page_is(lib_at(&rig, p), p));
	unpin(&ring);
	take(&rig, some);
	grant(&rig, some, true);
	unlock(&rig);
	end_rig(&rig);
}

/* Pinned in one place, a huge page stays where it is: the kernel can neither move nor split it. */
static void pinned_huge_page_stays_mapped(void **state)
{
	struct svm_mask all = all_pages();
	struct svm_mask few = some_pages(0, 3);
	struct io_uring ring;
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, all, false);
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		fill_page(lib_at(&rig, p), p);
	grant(&rig, all, true);
	if (fixture_huge_kb(rig.block.user, BLOCK) == 0 || !pin(&ring, user_at(&rig, 300), PAGE)) {
		unlock(&rig);
		end_rig(&rig);
		print_message("no huge page, or io_uring does not register buffers here\n");
		skip();
	}
	assert_int_equal(svm_host_revoke(&rig.host, &rig.block, &all), -EBUSY);
	assert_int_equal(svm_host_revoke(&rig.host, &rig.block, &few), -EBUSY);
	assert_int_equal(svm_mask_count(&rig.block.cpu), SVM_BLOCK_PAGES);
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		assert_true(page_is(user_at(&rig, p), p));
	unpin(&ring);
	take(&rig, all);
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		assert_true(page_is(lib_at(&rig, p), p));
	grant(&rig, all, true);
	unlock(&rig);
	end_rig(&rig);
}

/* A page of the stash that is pinned (somebody copies from it by DMA) is granted by copy. */
static void pinned_stash_page_is_copied(void **state)
{
	struct svm_mask some = some_pages(0, 8);
	struct io_uring ring;
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, some, false);
	for (unsigned int p = 0; p < 8; p++)
		fill_page(lib_at(&rig, p), p);
	if (!pin(&ring, lib_at(&rig, 4), PAGE)) {
		unlock(&rig);
		end_rig(&rig);
		print_message("io_uring does not register buffers here\n");
		skip();
	}
	grant(&rig, some, true);
	for (unsigned int p = 0; p < 8; p++)
		assert_true(page_is(user_at(&rig, p), p));
	unpin(&ring);
	take(&rig, some);
	grant(&rig, some, true);
	unlock(&rig);
	end_rig(&rig);
}

/* The sanitizers make munlock() do nothing. */
static int unlock_memory(void *addr, size_t size)
{
	return (int)syscall(SYS_munlock, addr, size);
}

static void locked_view_is_served(void **state)
{
	struct svm_mask some = some_pages(0, 32);
	struct rig rig;
	int ret;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, some, false);
	for (unsigned int p = 0; p < 32; p++)
		fill_page(lib_at(&rig, p), p);
	grant(&rig, some, true);
	unlock(&rig);
	if (mlock2(user_at(&rig, 8), 16 * PAGE, MLOCK_ONFAULT) != 0) {
		end_rig(&rig);
		print_message("this process may not lock memory\n");
		skip();
	}
	lock(&rig);
	ret = svm_host_revoke(&rig.host, &rig.block, &some);
	if (rig.where == REGISTERED && svm_uffd_has_move(&rig.host.uffd)) {
		/* What the program locks in memory stays there. */
		assert_int_equal(ret, -EBUSY);
		assert_int_equal(svm_mask_count(&rig.block.cpu), 16);
		assert_int_equal(unlock_memory(user_at(&rig, 8), 16 * PAGE), 0);
		ret = svm_host_revoke(&rig.host, &rig.block, &some);
		assert_int_equal(mlock2(user_at(&rig, 8), 16 * PAGE, MLOCK_ONFAULT), 0);
	}
	assert_int_equal(ret, 0);
	assert_true(svm_mask_empty(&rig.block.cpu));
	for (unsigned int p = 0; p < 32; p++)
		assert_true(page_is(lib_at(&rig, p), p));
	grant(&rig, some, true);
	for (unsigned int p = 0; p < 32; p++)
		assert_true(page_is(user_at(&rig, p), p));
	unlock_memory(user_at(&rig, 8), 16 * PAGE);
	take(&rig, some);
	for (unsigned int p = 0; p < 32; p++)
		assert_true(page_is(lib_at(&rig, p), p));
	grant(&rig, some, true);
	unlock(&rig);
	end_rig(&rig);
}

/* ---- Registered memory ------------------------------------------------------------------------ */

static void memory_that_is_not_ours_to_manage(void **state)
{
	uint64_t stash = 77;
	struct rig rig;
	char *map;
	int fd;

	make_rig(&rig, *state);
	map = map_memory(BLOCK);
	/* A hole. */
	assert_int_equal(munmap(map + 8 * PAGE, PAGE), 0);
	assert_int_equal(svm_host_register(&rig.host, svm_addr(map), 16 * PAGE, &stash),
			 -EOPNOTSUPP);
	/* Ends too early. */
	assert_int_equal(svm_host_register(&rig.host, svm_addr(map), 9 * PAGE, &stash),
			 -EOPNOTSUPP);
	/* Read-only, not accessible, executable. */
	assert_int_equal(mprotect(map + 7 * PAGE, PAGE, PROT_READ), 0);
	assert_int_equal(svm_host_register(&rig.host, svm_addr(map), 8 * PAGE, &stash),
			 -EOPNOTSUPP);
	assert_int_equal(mprotect(map + 7 * PAGE, PAGE, PROT_NONE), 0);
	assert_int_equal(svm_host_register(&rig.host, svm_addr(map), 8 * PAGE, &stash),
			 -EOPNOTSUPP);
	/* Shared, a file, a private file mapping. */
	fd = memfd_create("test", MFD_CLOEXEC);
	assert_true(fd >= 0 && ftruncate(fd, (off_t)BLOCK) == 0);
	assert_ptr_equal(mmap(map, BLOCK, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS, -1, 0),
			 map);
	assert_int_equal(svm_host_register(&rig.host, svm_addr(map), PAGE, &stash), -EOPNOTSUPP);
	assert_ptr_equal(mmap(map, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
			 map);
	assert_int_equal(svm_host_register(&rig.host, svm_addr(map), PAGE, &stash), -EOPNOTSUPP);
	assert_ptr_equal(mmap(map, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0),
			 map);
	assert_int_equal(svm_host_register(&rig.host, svm_addr(map), PAGE, &stash), -EOPNOTSUPP);
	close(fd);
	/* Another userfaultfd, here the one of the window. */
	assert_ptr_equal(mmap(map, BLOCK, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0),
			 map);
	assert_int_equal(svm_uffd_register(&rig.host.uffd, svm_addr(map), PAGE, SVM_UFFD_MISSING),
			 0);
	assert_int_equal(svm_host_register(&rig.host, svm_addr(map), 4 * PAGE, &stash), -EBUSY);
	assert_int_equal(svm_uffd_unregister(&rig.host.uffd, svm_addr(map), PAGE), 0);
	assert_true(stash == 77);
	/* The refusals left it as it was: a child has it. */
	assert_int_equal(svm_host_register(&rig.host, svm_addr(map), 4 * PAGE, &stash), 0);
	rig.block.user = svm_addr(map);
	rig.block.registered = true;
	assert_int_equal(svm_host_unregister(&rig.host, svm_addr(map), 4 * PAGE, stash), 0);
	*map = 5;
	assert_int_equal(munmap(map, BLOCK), 0);
	end_rig(&rig);
}

static void failed_registration_leaves_nothing(void **state)
{
	struct rig rig;
	uint64_t stash;
	unsigned int n = 0;
	int ret;

	make_rig(&rig, *state);
	take_in_memory(&rig);
	assert_int_equal(svm_host_unregister(&rig.host, svm_addr(rig.memory), BLOCK, rig.stash), 0);
	rig.stash = 0;
	svm_mask_zero(&rig.block.cpu);
	do {
		unsigned int maps = count_mappings();

		fake.any_skip = ++n;
		ret = svm_host_register(&rig.host, svm_addr(rig.memory), BLOCK, &stash);
		if (ret < 0) {
			assert_true(ret == -ENOMEM || ret == -EOPNOTSUPP);
			fake.any_skip = 0;
			assert_int_equal(count_mappings(), maps);
			/* Nobody serves faults here: a touch would hang. */
			rig.memory[(n % SVM_BLOCK_PAGES) * PAGE] = 1;
		}
	} while (ret < 0);
	fake.any_skip = 0;
	assert_in_range(n, 5, 20);
	assert_int_equal(svm_host_unregister(&rig.host, svm_addr(rig.memory), BLOCK, stash), 0);
	end_rig(&rig);
}

static void registered_memory_keeps_its_bytes(void **state)
{
	const unsigned int first = 3;
	const unsigned int n = 600;
	struct svm_mask pages;
	struct rig rig;
	char *map;

	make_rig(&rig, *state);
	/* Starts and ends within a block, and has holes that are zero pages to be. */
	map = rig.memory;
	assert_int_equal(munmap(map, BLOCK), 0);
	map = map_memory(2 * BLOCK);
	rig.memory = map + first * PAGE;
	rig.memory_size = n * PAGE;
	for (unsigned int p = first; p < first + n; p += 2)
		fill_page(map + p * PAGE, p);
	assert_int_equal(
		svm_host_register(&rig.host, svm_addr(rig.memory), rig.memory_size, &rig.stash), 0);
	assert_int_equal(rig.stash % BLOCK, first * PAGE);
	rig.block.user = svm_addr(map);
	rig.block.stash = rig.stash - first * PAGE;
	rig.block.registered = true;

	pages = some_pages(first, SVM_BLOCK_PAGES - first);
	assert_int_equal(svm_host_present(&rig.host, &rig.block, &pages, &rig.block.cpu), 0);
	assert_true(svm_mask_subset(&rig.block.cpu, &pages));
	for (unsigned int p = first; p < SVM_BLOCK_PAGES; p += 2)
		assert_true(svm_mask_test(&rig.block.cpu, p));
	start_server(&rig);
	lock(&rig);
	take(&rig, rig.block.cpu);
	for (unsigned int p = first; p < SVM_BLOCK_PAGES; p++) {
		if ((p - first) % 2 == 0)
			assert_true(page_is(lib_at(&rig, p), p));
		else if (svm_mask_test(&rig.block.back, p))
			assert_true(page_is_zero(lib_at(&rig, p)));
	}
	fill_page(lib_at(&rig, first), 9999);
	unlock(&rig);
	/* The rest comes by faults. */
	assert_true(page_is(map + first * PAGE, 9999));
	for (unsigned int p = first + 1; p < SVM_BLOCK_PAGES; p++)
		assert_true((p - first) % 2 ? page_is_zero(map + p * PAGE)
					    : page_is(map + p * PAGE, p));
	end_rig(&rig);
	assert_int_equal(munmap(map, first * PAGE), 0);
	assert_int_equal(munmap(map + (first + n) * PAGE, 2 * BLOCK - (first + n) * PAGE), 0);
}

/* Kernels before 6.7. */
static int no_pagemap_scan(int fd, unsigned long request, void *arg)
{
	if (request == _IOC(_IOC_READ | _IOC_WRITE, 'f', 16, 96))
		return -ENOTTY;
	return svm_sys_real.ioctl(fd, request, arg);
}

/* A /proc of another kind, or none. */
static ssize_t no_pagemap(int fd, void *buffer, size_t size, uint64_t offset)
{
	(void)fd;
	(void)buffer;
	(void)size;
	(void)offset;
	return -EACCES;
}

static void present_without_scan_reads_the_pagemap(void **state)
{
	struct svm_mask scanned;
	struct svm_mask read;
	struct svm_mask all = all_pages();
	struct rig rig;

	make_rig(&rig, *state);
	assert_int_equal(madvise(rig.memory, BLOCK, MADV_NOHUGEPAGE), 0);
	for (unsigned int p = 7; p < SVM_BLOCK_PAGES; p += 3)
		fill_page(rig.memory + p * PAGE, p);
	take_in_memory(&rig);
	assert_int_equal(svm_host_present(&rig.host, &rig.block, &all, &scanned), 0);
	fake_sys.ioctl = no_pagemap_scan;
	assert_int_equal(svm_host_present(&rig.host, &rig.block, &all, &read), 0);
	fake_sys.ioctl = fake_ioctl;
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		assert_int_equal(svm_mask_test(&read, p), p >= 7 && (p - 7) % 3 == 0);
	assert_true(svm_mask_equal(&read, &scanned));
	start_server(&rig);
	lock(&rig);
	take(&rig, rig.block.cpu);
	unlock(&rig);
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		assert_true(svm_mask_test(&read, p) ? page_is(rig.memory + p * PAGE, p)
						    : page_is_zero(rig.memory + p * PAGE));
	end_rig(&rig);
}

static void present_without_pagemap_makes_pages(void **state)
{
	struct svm_mask present;
	struct svm_mask all = all_pages();
	struct rig rig;

	make_rig(&rig, *state);
	fill_page(rig.memory + 7 * PAGE, 7);
	/* A huge page would make all present. */
	take_in_memory(&rig);
	fake_sys.ioctl = no_pagemap_scan;
	fake_sys.pread = no_pagemap;
	assert_int_equal(svm_host_present(&rig.host, &rig.block, &all, &present), 0);
	assert_true(svm_mask_equal(&present, &all));
	fake_sys.ioctl = fake_ioctl;
	fake_sys.pread = svm_sys_real.pread;
	rig.block.cpu = present;
	/* Nobody serves: all is there. */
	assert_true(page_is(rig.memory + 7 * PAGE, 7));
	assert_true(page_is_zero(rig.memory + 511 * PAGE));
	take(&rig, all);
	assert_true(page_is(lib_at(&rig, 7), 7));
	assert_true(page_is_zero(lib_at(&rig, 100)));
	grant(&rig, all, true);
	end_rig(&rig);
}

/* A fork before the memory was registered left pages that parent and child share. */
static void pages_shared_with_a_child_are_taken(void **state)
{
	struct svm_mask all = all_pages();
	struct rig rig;
	int to_child[2];
	int status;
	pid_t pid;

	make_rig(&rig, *state);
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		fill_page(rig.memory + p * PAGE, p);
	assert_int_equal(pipe2(to_child, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char go;

		close(to_child[1]);
		if (read(to_child[0], &go, 1) < 0)
			_exit(1);
		for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
			if (!page_is(rig.memory + p * PAGE, p))
				_exit(2);
		_exit(0);
	}
	close(to_child[0]);
	take_in_memory(&rig);
	take(&rig, all);
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++) {
		assert_true(page_is(lib_at(&rig, p), p));
		fill_page(lib_at(&rig, p), p + 5000);
	}
	grant(&rig, all, true);
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		assert_true(page_is(rig.memory + p * PAGE, p + 5000));
	/* The child still has its own. */
	close(to_child[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	end_rig(&rig);
}

/* Reads what comes from a userfaultfd for one who is busy: what the application did is allowed, who waits for a page gets
 * zeros, and is counted. */
struct bystander {
	int fd;
	int stop_fd;
	unsigned int n_waited;
};

static void *stand_by(void *data)
{
	struct bystander *b = data;

	for (;;) {
		struct pollfd fds[2] = { { .fd = b->stop_fd, .events = POLLIN },
					 { .fd = b->fd, .events = POLLIN } };
		struct uffd_msg msg;

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents)
			return NULL;
		while (read(b->fd, &msg, sizeof(msg)) == sizeof(msg)) {
			struct uffdio_zeropage zero = {
				.range = { .start = msg.arg.pagefault.address & ~(PAGE - 1u),
					   .len = PAGE }
			};

			if (msg.event != UFFD_EVENT_PAGEFAULT)
				continue;
			b->n_waited++;
			(void)svm_sys_real.ioctl(b->fd, UFFDIO_ZEROPAGE, &zero);
		}
	}
}

/* The application drops a page while it is taken: whoever takes it must not fault, since he is the one who serves faults. */
static void a_page_that_goes_while_it_is_taken_is_not_waited_for(void **state)
{
	const unsigned int gone = 77;
	struct bystander bystander = { 0 };
	struct svm_mask all = all_pages();
	uint64_t one = 1;
	pthread_t thread;
	struct rig rig;

	make_rig(&rig, *state);
	assert_int_equal(madvise(rig.memory, BLOCK, MADV_NOHUGEPAGE), 0);
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		fill_page(rig.memory + p * PAGE, p);
	take_in_memory(&rig);
	bystander.fd = rig.host.reg_uffd.fd;
	bystander.stop_fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(pthread_create(&thread, NULL, stand_by, &bystander), 0);
	fake.drop = rig.memory + gone * PAGE;
	fake.drop_request = svm_uffd_has_move(&rig.host.uffd) ? SVM_UFFDIO_MOVE
							      : UFFDIO_WRITEPROTECT;
	take(&rig, all);
	assert_int_equal(fake.drop_request, 0);
	assert_int_equal(write(bystander.stop_fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(pthread_join(thread, NULL), 0);
	close(bystander.stop_fd);
	assert_int_equal(bystander.n_waited, 0);
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		assert_true(p == gone ? page_is_zero(lib_at(&rig, p))
				      : page_is(lib_at(&rig, p), p));
	end_rig(&rig);
}

/* The block is several mappings of the application's, as after advice of its own. */
static void memory_of_several_mappings_moves(void **state)
{
	struct svm_mask all = all_pages();
	struct rig rig;

	make_rig(&rig, *state);
	assert_int_equal(madvise(rig.memory + 100 * PAGE, 100 * PAGE, MADV_NOHUGEPAGE), 0);
	assert_int_equal(madvise(rig.memory + 333 * PAGE, PAGE, MADV_NOHUGEPAGE), 0);
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		fill_page(rig.memory + p * PAGE, p);
	take_in_memory(&rig);
	fake.n_moves = 0;
	fake.n_copies = 0;
	for (unsigned int i = 0; i < 2; i++) {
		take(&rig, all);
		for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
			assert_true(page_is(lib_at(&rig, p), p));
		grant(&rig, all, true);
		for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
			assert_true(page_is(rig.memory + p * PAGE, p));
	}
	if (svm_uffd_has_move(&rig.host.uffd)) {
		assert_int_equal(fake.n_copies, 0);
		assert_in_range(fake.n_moves, 4, 200);
	}
	end_rig(&rig);
}

static void unmapped_memory_is_forgotten(void **state)
{
	struct svm_mask all = all_pages();
	struct svm_mask gone = some_pages(100, 50);
	struct rig rig;

	make_rig(&rig, *state);
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		fill_page(rig.memory + p * PAGE, p);
	take_in_memory(&rig);
	start_server(&rig);
	lock(&rig);
	take(&rig, some_pages(100, 10));
	unlock(&rig);
	/* Returns when the server has read the event, where there is one. */
	assert_int_equal(munmap(rig.memory + 100 * PAGE, 50 * PAGE), 0);
	lock(&rig);
	assert_int_equal(rig.n_unmapped, 1);
	/* As if the event were still in the queue. */
	svm_mask_set_range(&rig.block.cpu, 110, 40);
	assert_int_equal(svm_host_protect(&rig.host, &rig.block, &gone), 0);
	assert_false(svm_mask_intersects(&rig.block.cpu, &gone));
	svm_mask_set_range(&rig.block.cpu, 110, 40);
	assert_int_equal(svm_host_protect(&rig.host, &rig.block, &all), 0);
	assert_int_equal(svm_host_revoke(&rig.host, &rig.block, &all), 0);
	assert_false(svm_mask_intersects(&rig.block.cpu, &gone));
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		assert_true(p >= 110 && p < 150 ? page_is_zero(lib_at(&rig, p))
						: page_is(lib_at(&rig, p), p));
	/* No view to put them in. */
	gone = some_pages(100, 10);
	for (unsigned int write = 0; write < 2; write++) {
		/* Those around it do have one. */
		struct svm_mask more = some_pages(98, 12);

		populate(&rig, gone, false);
		assert_int_equal(svm_host_grant(&rig.host, &rig.block, &more, write), -ENOENT);
		assert_true(svm_mask_test(&rig.block.cpu, 98) && svm_mask_test(&rig.block.cpu, 99));
		assert_false(svm_mask_intersects(&rig.block.cpu, &gone));
		/* They do not exist any more. */
		assert_false(svm_mask_intersects(&rig.block.back, &gone));
		take(&rig, some_pages(98, 2));
	}
	assert_int_equal(svm_host_drop(&rig.host, &rig.block, &gone, true), 0);
	grant(&rig, some_pages(0, 100), true);
	grant(&rig, some_pages(150, 362), true);
	unlock(&rig);
	assert_int_equal(munmap(rig.memory, BLOCK), 0);
	stop_server(&rig);
	svm_mask_zero(&rig.block.cpu);
	/* Wholly unmapped memory can be unregistered. */
	end_rig(&rig);
}

static void *remove_page(void *page)
{
	return madvise(page, PAGE, MADV_DONTNEED) == 0 ? NULL : page;
}

/* The kernel says EAGAIN on that userfaultfd until its event is read; whoever must read it is not made to wait. */
static void unread_event_is_eagain(void **state)
{
	struct svm_mask one = some_pages(3, 1);
	pthread_t remover;
	struct rig rig;

	make_rig(&rig, *state);
	fill_page(rig.memory + 3 * PAGE, 3);
	take_in_memory(&rig);
	take(&rig, all_pages());
	if (!svm_uffd_has_remove_events(&rig.host.reg_uffd)) {
		grant(&rig, all_pages(), true);
		end_rig(&rig);
		print_message("no REMOVE events without MOVE\n");
		skip();
	}
	assert_int_equal(pthread_create(&remover, NULL, remove_page, rig.memory + 200 * PAGE), 0);
	await_fault(rig.host.reg_uffd.fd);
	assert_int_equal(svm_host_grant(&rig.host, &rig.block, &one, true), -EAGAIN);
	assert_false(svm_mask_test(&rig.block.cpu, 3));
	assert_true(svm_mask_test(&rig.block.back, 3));
	start_server(&rig);
	assert_int_equal(pthread_join(remover, NULL), 0);
	lock(&rig);
	grant(&rig, one, true);
	unlock(&rig);
	assert_true(page_is(rig.memory + 3 * PAGE, 3));
	end_rig(&rig);
}

/* The application unmapped a part of what is zapped: the rest goes all the same, and nothing has failed. */
static void zapping_goes_on_behind_a_hole(void **state)
{
	char *memory = map_memory(BLOCK);

	(void)state;
	memset(memory, 1, 3 * PAGE);
	assert_int_equal(munmap(memory + PAGE, PAGE), 0);
	assert_int_equal(svm_host_zap(svm_addr(memory), 3 * PAGE), 0);
	assert_true(page_is_zero(memory));
	assert_true(page_is_zero(memory + 2 * PAGE));
	assert_int_equal(munmap(memory, PAGE), 0);
	assert_int_equal(munmap(memory + 2 * PAGE, BLOCK - 2 * PAGE), 0);
}

/* ---- Poison ----------------------------------------------------------------------------------- */

static void poison_raises_a_signal(void **state)
{
	struct svm_mask lost = some_pages(4, 3);
	int expected;
	struct rig rig;

	start_rig(&rig, state);
	expected = svm_uffd_has_poison(rig.block.registered ? &rig.host.reg_uffd : &rig.host.uffd)
			   ? SIGBUS
			   : SIGSEGV;
	lock(&rig);
	populate(&rig, some_pages(0, 16), false);
	for (unsigned int p = 0; p < 16; p++)
		fill_page(lib_at(&rig, p), p);
	grant(&rig, some_pages(0, 16), true);
	if (svm_host_can_protect(&rig.host, &rig.block))
		assert_int_equal(svm_host_protect(&rig.host, &rig.block, &lost), 0);
	take(&rig, lost);
	/* The protection above may have left markers. */
	assert_int_equal(svm_host_poison(&rig.host, &rig.block, &lost), 0);
	assert_int_equal(svm_host_poison(&rig.host, &rig.block, &lost), 0);
	assert_true(svm_mask_equal(&rig.block.poison, &lost));
	unlock(&rig);

	for (unsigned int p = 4; p < 7; p++) {
		assert_int_equal(signal_of_touch(user_at(&rig, p), false), expected);
		assert_int_equal(signal_of_touch(user_at(&rig, p), true), expected);
	}
	assert_int_equal(signal_of_touch(user_at(&rig, 3), true), 0);
	assert_int_equal(signal_of_touch(user_at(&rig, 7), true), 0);

	/* New content makes the page usable again. */
	lock(&rig);
	lost = some_pages(4, 1);
	populate(&rig, lost, false);
	fill_page(lib_at(&rig, 4), 44);
	assert_int_equal(svm_host_unpoison(&rig.host, &rig.block, &lost), 0);
	assert_true(page_is(lib_at(&rig, 4), 44));
	grant(&rig, lost, true);
	unlock(&rig);
	assert_true(page_is(user_at(&rig, 4), 44));
	assert_int_equal(signal_of_touch(user_at(&rig, 5), false), expected);

	/* As does a discard. */
	lock(&rig);
	lost = some_pages(4, 3);
	assert_int_equal(svm_host_drop(&rig.host, &rig.block, &lost, true), 0);
	assert_true(svm_mask_empty(&rig.block.poison));
	unlock(&rig);
	for (unsigned int p = 4; p < 7; p++)
		assert_true(page_is_zero(user_at(&rig, p)));
	end_rig(&rig);
}

/* A thread that waits for bytes that will not come gets the signal. */
struct victim {
	pthread_t thread;
	volatile char *addr;
	int caught;
};

static void *be_victim(void *data)
{
	struct victim *victim = data;

	victim->caught = signal_of_touch(victim->addr, false);
	return NULL;
}

static void poison_wakes(void **state)
{
	struct svm_mask one = some_pages(2, 1);
	struct victim victim;
	struct rig rig;

	make_rig(&rig, *state);
	if (rig.where == REGISTERED)
		take_in_memory(&rig);
	victim.addr = user_at(&rig, 2);
	assert_int_equal(pthread_create(&victim.thread, NULL, be_victim, &victim), 0);
	await_fault(block_fd(&rig));
	assert_int_equal(svm_host_poison(&rig.host, &rig.block, &one), 0);
	assert_int_equal(pthread_join(victim.thread, NULL), 0);
	assert_true(victim.caught == SIGBUS || victim.caught == SIGSEGV);
	assert_int_equal(svm_host_unpoison(&rig.host, &rig.block, &one), 0);
	end_rig(&rig);
}

/* Memory is given back while a thread waits for a page of it, whose fault nobody has read: it finds nothing there. */
static void disarming_wakes(void **state)
{
	struct victim victim;
	struct rig rig;

	make_rig(&rig, *state);
	victim.addr = user_at(&rig, 2);
	assert_int_equal(pthread_create(&victim.thread, NULL, be_victim, &victim), 0);
	await_fault(block_fd(&rig));
	assert_int_equal(svm_host_disarm(&rig.host, rig.block.user, BLOCK), 0);
	assert_int_equal(pthread_join(victim.thread, NULL), 0);
	assert_int_equal(victim.caught, SIGSEGV);
	/* As end_rig() wants it. */
	assert_int_equal(svm_host_arm(&rig.host, rig.block.user, BLOCK, rig.block.kind), 0);
	end_rig(&rig);
}

/* Poison comes between a thread's fault and its wait: the kernel takes a marker for an empty page and lets it wait, after
 * the wake-up. Its fault is then answered by poison again. */
static void poison_wakes_who_came_too_late_for_it(void **state)
{
	struct svm_mask one = some_pages(2, 1);
	struct victim victim;
	struct rig rig;

	make_rig(&rig, *state);
	if (rig.where == REGISTERED)
		take_in_memory(&rig);
	victim.addr = user_at(&rig, 2);
	assert_int_equal(pthread_create(&victim.thread, NULL, be_victim, &victim), 0);
	await_fault(block_fd(&rig));
	fake.no_wake = true;
	assert_int_equal(svm_host_poison(&rig.host, &rig.block, &one), 0);
	fake.no_wake = false;
	assert_int_equal(svm_host_poison(&rig.host, &rig.block, &one), 0);
	alarm(50 * fixture_slower()); /* it would wait for ever */
	assert_int_equal(pthread_join(victim.thread, NULL), 0);
	alarm(0);
	assert_true(victim.caught == SIGBUS || victim.caught == SIGSEGV);
	assert_int_equal(svm_host_unpoison(&rig.host, &rig.block, &one), 0);
	end_rig(&rig);
}

/* The application gave its memory new rights, or dropped it, and with that the mark. */
static void poison_comes_again(void **state)
{
	struct svm_mask one = some_pages(2, 1);
	struct victim victim;
	struct rig rig;

	make_rig(&rig, *state);
	if (rig.where != REGISTERED) {
		end_rig(&rig);
		return;
	}
	take_in_memory(&rig);
	victim.addr = user_at(&rig, 2);
	lock(&rig);
	take(&rig, one);
	assert_int_equal(svm_host_poison(&rig.host, &rig.block, &one), 0);
	assert_int_equal(mprotect(user_at(&rig, 2), PAGE, PROT_READ | PROT_WRITE), 0);
	if (svm_uffd_has_poison(&rig.host.reg_uffd) &&
	    !svm_uffd_has_remove_events(&rig.host.reg_uffd))
		assert_int_equal(madvise(user_at(&rig, 2), PAGE, MADV_DONTNEED), 0);
	assert_int_equal(svm_host_poison(&rig.host, &rig.block, &one), 0);
	unlock(&rig);
	assert_int_equal(pthread_create(&victim.thread, NULL, be_victim, &victim), 0);
	alarm(50); /* it would wait for ever */
	assert_int_equal(pthread_join(victim.thread, NULL), 0);
	alarm(0);
	assert_true(victim.caught == SIGBUS || victim.caught == SIGSEGV);
	assert_int_equal(svm_host_unpoison(&rig.host, &rig.block, &one), 0);
	end_rig(&rig);
}

/* The application protected its memory, so that the kernel moves no page of it. A mark then stays, since what would replace
 * it could not be taken out of sight again; bytes that are to be seen replace it. */
static void poison_in_protected_memory(void **state)
{
	const struct svm_mask kept = some_pages(2, 1);
	const struct svm_mask seen = some_pages(3, 1);
	bool by_grant;
	struct rig rig;

	start_rig(&rig, state);
	by_grant = svm_host_grant_unpoisons(&rig.host, &rig.block);
	assert_int_equal(by_grant, svm_uffd_has_poison(&rig.host.reg_uffd) &&
					   svm_uffd_has_move(&rig.host.reg_uffd));
	lock(&rig);
	populate(&rig, some_pages(0, 8), false);
	for (unsigned int p = 0; p < 8; p++)
		fill_page(lib_at(&rig, p), p);
	grant(&rig, some_pages(0, 8), true);
	take(&rig, some_pages(2, 2));
	assert_int_equal(svm_host_poison(&rig.host, &rig.block, &kept), 0);
	assert_int_equal(svm_host_poison(&rig.host, &rig.block, &seen), 0);
	assert_int_equal(mprotect(user_at(&rig, 2), 2 * PAGE, PROT_READ), 0);
	assert_int_equal(svm_host_unpoison(&rig.host, &rig.block, &kept), by_grant ? -EBUSY : 0);
	assert_true(record_is_sane(&rig));
	assert_int_equal(svm_mask_test(&rig.block.poison, 2), by_grant);
	assert_false(svm_mask_test(&rig.block.cpu, 2));
	fill_page(lib_at(&rig, 3), 33);
	if (!by_grant)
		assert_int_equal(svm_host_unpoison(&rig.host, &rig.block, &seen), 0);
	grant(&rig, seen, true);
	assert_false(svm_mask_test(&rig.block.poison, 3));
	assert_true(record_is_sane(&rig));
	unlock(&rig);
	assert_true(page_is(user_at(&rig, 3), 33));
	if (by_grant)
		assert_int_equal(signal_of_touch(user_at(&rig, 2), false), SIGBUS);
	assert_int_equal(mprotect(user_at(&rig, 2), 2 * PAGE, PROT_READ | PROT_WRITE), 0);
	lock(&rig);
	assert_int_equal(svm_host_unpoison(&rig.host, &rig.block, &kept), 0);
	unlock(&rig);
	assert_true(page_is(user_at(&rig, 2), 2));
	end_rig(&rig);
}

/* ---- Private to shared ------------------------------------------------------------------------ */

static void conversion_keeps_valid_bytes(void **state)
{
	struct svm_mask valid = some_pages(10, 200);
	struct svm_mask born;
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, all_pages(), false);
	for (unsigned int p = 0; p < SVM_BLOCK_PAGES; p++)
		fill_page(lib_at(&rig, p), p);
	if (rig.where == REGISTERED) {
		assert_int_equal(svm_host_convert(&rig.host, &rig.block, &valid, &born),
				 -EOPNOTSUPP);
		unlock(&rig);
		end_rig(&rig);
		return;
	}
	assert_int_equal(svm_host_convert(&rig.host, &rig.block, &valid, &born), 0);
	assert_int_equal(rig.block.kind, SVM_HOST_SHARED);
	assert_true(svm_mask_empty(&rig.block.cpu));
	assert_true(svm_mask_equal(&rig.block.back, &valid));
	for (unsigned int p = 10; p < 210; p++)
		assert_true(page_is(lib_at(&rig, p), p));
	unlock(&rig);
	assert_true(page_is(user_at(&rig, 100), 100));
	assert_true(page_is_zero(user_at(&rig, 300)));
	fill_page(user_at(&rig, 300), 300);
	lock(&rig);
	take(&rig, all_pages());
	assert_true(page_is(lib_at(&rig, 300), 300));
	/* A second time is nothing. */
	assert_int_equal(svm_host_convert(&rig.host, &rig.block, &valid, &born), 0);
	unlock(&rig);
	end_rig(&rig);
}

static void waiter_lives_through_conversion(void **state)
{
	struct svm_mask valid = some_pages(0, 1);
	struct toucher t = { 0 };
	struct svm_mask born;
	struct rig rig;

	make_rig(&rig, *state);
	populate(&rig, valid, false);
	fill_page(lib_at(&rig, 0), 8);
	t.addr = user_at(&rig, 0);
	start_touch(&t);
	await_fault(rig.host.uffd.fd);
	assert_int_equal(svm_host_convert(&rig.host, &rig.block, &valid, &born), 0);
	grant(&rig, valid, true);
	end_touch(&t);
	assert_int_equal(t.value, *user_at(&rig, 0));
	end_rig(&rig);
}

/* The program touches the block between the mapping and its registration, which then fails or not. */
static struct {
	struct rig *rig;
	int result;
} gap;

static int register_after_touch(int fd, unsigned long request, void *arg)
{
	if (request == UFFDIO_REGISTER) {
		/* Valid, changed; not valid, written, with a stale page in the stash and without; not valid, read. */
		*user_at(gap.rig, 1) = 'v';
		*user_at(gap.rig, 20) = 'n';
		*user_at(gap.rig, 300) = 'm';
		if (*user_at(gap.rig, 30) != 0)
			return -EPROTO;
		fake_sys.ioctl = fake_ioctl;
		if (gap.result < 0)
			return gap.result;
	}
	return fake_ioctl(fd, request, arg);
}

/* Pages 0 to 2 are valid, the stash has 40. */
static void convert_under_touches(struct rig *rig, int result, struct svm_mask *ret_born)
{
	struct svm_mask valid = some_pages(0, 3);

	populate(rig, some_pages(0, 40), false);
	for (unsigned int p = 0; p < 40; p++)
		fill_page(lib_at(rig, p), p);
	gap.rig = rig;
	gap.result = result;
	fake_sys.ioctl = register_after_touch;
	assert_int_equal(svm_host_convert(&rig->host, &rig->block, &valid, ret_born), result);
	assert_true(svm_mask_test(ret_born, 20) && svm_mask_test(ret_born, 300));
	assert_true(svm_mask_test(&rig->block.back, 20) && svm_mask_test(&rig->block.back, 300));
	assert_int_equal(*lib_at(rig, 1), 'v');
	assert_int_equal(*lib_at(rig, 20), 'n');
	assert_int_equal(lib_at(rig, 20)[1], 0);
	assert_int_equal(*lib_at(rig, 300), 'm');
}

static void touches_during_conversion_are_kept(void **state)
{
	struct svm_mask born;
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	convert_under_touches(&rig, 0, &born);
	assert_true(svm_mask_empty(&rig.block.cpu));
	assert_int_equal(svm_mask_count(&born), 3);
	assert_int_equal(svm_mask_count(&rig.block.back), 6);
	assert_true(svm_mask_test(&rig.block.back, 30));
	assert_true(page_is_zero(lib_at(&rig, 30)));
	unlock(&rig);
	/* Trapped again. */
	*user_at(&rig, 20) = 'o';
	lock(&rig);
	assert_int_equal(rig.n_minor, 1);
	assert_int_equal(*lib_at(&rig, 20), 'o');
	unlock(&rig);
	end_rig(&rig);
}

static void touches_during_a_failed_conversion_are_kept(void **state)
{
	struct svm_mask born;
	struct rig rig;

	start_rig(&rig, state);
	lock(&rig);
	convert_under_touches(&rig, -ENOMEM, &born);
	assert_int_equal(rig.block.kind, SVM_HOST_PRIVATE);
	assert_int_equal(svm_mask_count(&born), 2);
	assert_int_equal(svm_mask_count(&rig.block.back), 41);
	grant(&rig, born, true);
	unlock(&rig);
	assert_int_equal(*user_at(&rig, 20), 'n');
	assert_int_equal(*user_at(&rig, 300), 'm');
	lock(&rig);
	assert_int_equal(rig.n_minor + rig.n_missing, 0);
	unlock(&rig);
	end_rig(&rig);
}

static void failed_conversion_leaves_a_private_block(void **state)
{
	struct svm_mask valid = some_pages(0, 50);
	struct svm_mask back;
	unsigned int n = 0;
	struct svm_mask born;
	struct rig rig;
	int ret;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, some_pages(0, 60), false);
	for (unsigned int p = 0; p < 60; p++)
		fill_page(lib_at(&rig, p), p);
	back = rig.block.back;
	rig.log.fn = NULL;
	do {
		fake.any_skip = ++n;
		ret = svm_host_convert(&rig.host, &rig.block, &valid, &born);
		if (fake.any_skip > 0)
			break;
		/* Some failures at the end do not matter. */
		if (ret == 0)
			break;
		assert_int_equal(ret, -ENOMEM);
		assert_int_equal(rig.block.kind, SVM_HOST_PRIVATE);
		assert_true(svm_mask_equal(&rig.block.back, &back));
		assert_true(svm_mask_empty(&rig.block.cpu));
		for (unsigned int p = 0; p < 60; p++)
			assert_true(page_is(lib_at(&rig, p), p));
		grant(&rig, some_pages(0, 60), true);
		for (unsigned int p = 0; p < 60; p++)
			assert_true(page_is(user_at(&rig, p), p));
		take(&rig, some_pages(0, 60));
	} while (n < 50);
	fake.any_skip = 0;
	assert_int_equal(ret, 0);
	assert_in_range(n, 4, 20);
	for (unsigned int p = 0; p < 50; p++)
		assert_true(page_is(lib_at(&rig, p), p));
	unlock(&rig);
	end_rig(&rig);
}

/* ---- Placement -------------------------------------------------------------------------------- */

static int no_mbind(void *addr, size_t size, int mode, const unsigned long *nodes,
		    unsigned long max_node, unsigned int flags)
{
	(void)addr;
	(void)size;
	(void)mode;
	(void)nodes;
	(void)max_node;
	(void)flags;
	return -ENOSYS;
}

static void pages_are_placed_on_a_node(void **state)
{
	struct svm_mask some = some_pages(0, 100);
	struct rig rig;
	int status[3];
	int ret;

	start_rig(&rig, state);
	lock(&rig);
	populate(&rig, some, true);
	for (unsigned int p = 0; p < 100; p++)
		fill_page(lib_at(&rig, p), p);
	grant(&rig, some_pages(50, 50), true);
	assert_int_equal(svm_host_place(&rig.host, &rig.block, &some, rig.host.n_nodes), -EINVAL);
	assert_int_equal(svm_host_place(&rig.host, &rig.block, &some, -2), -EINVAL);
	assert_int_equal(rig.block.node, -1);
	ret = svm_host_place(&rig.host, &rig.block, &some, 0);
	if (ret == -EOPNOTSUPP) {
		unlock(&rig);
		end_rig(&rig);
		print_message("the kernel has no NUMA, or a filter forbids mbind()\n");
		skip();
	}
	assert_int_equal(ret, 0);
	assert_int_equal(rig.block.node, 0);
	{
		void *pages[3] = { user_at(&rig, 60), user_at(&rig, 99), lib_at(&rig, 10) };

		assert_int_equal(svm_sys_real.move_pages(0, 3, pages, NULL, status, 0), 0);
		for (unsigned int i = 0; i < 3; i++)
			assert_int_equal(status[i], 0);
	}
	for (unsigned int p = 0; p < 100; p++)
		assert_true(page_is(lib_at(&rig, p), p));
	/* New pages go there as well. */
	rig.host.n_nodes = 2;
	populate(&rig, some_pages(200, 20), true);
	rig.host.n_nodes = 1;
	take(&rig, some);
	grant(&rig, some_pages(200, 20), true);
	assert_int_equal(svm_host_place(&rig.host, &rig.block, &some, -1), 0);
	assert_int_equal(rig.block.node, -1);
	take(&rig, all_pages());
	for (unsigned int p = 0; p < 100; p++)
		assert_true(page_is(lib_at(&rig, p), p));
	fake_sys.mbind = no_mbind;
	assert_int_equal(svm_host_place(&rig.host, &rig.block, &some, 0), -EOPNOTSUPP);
	assert_int_equal(rig.block.node, -1);
	grant(&rig, some, true);
	unlock(&rig);
	end_rig(&rig);
}

/* ---- All at once ------------------------------------------------------------------------------ */

#define HAMMER_PAGES  64u
#define HAMMER_ROUNDS (fixture_quick() == 2 ? 60u : 300u)

struct hammer {
	struct rig *rig;
	pthread_t thread;
	unsigned int slot; /* own words in each page */
	bool *stop;
	uint64_t counts[HAMMER_PAGES];
};

static uint64_t step_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *seed >> 33;
}

static void *hammer(void *data)
{
	struct hammer *h = data;
	uint64_t seed = h->slot + 1;

	while (!__atomic_load_n(h->stop, __ATOMIC_ACQUIRE)) {
		unsigned int page = (unsigned int)(step_random(&seed) % HAMMER_PAGES);
		uint64_t *word = (void *)(user_at(h->rig, page) + h->slot * sizeof(*word));

		/* The library copies the page meanwhile, but never while this is possible. */
		if (__atomic_load_n(word, __ATOMIC_RELAXED) != h->counts[page])
			abort();
		__atomic_store_n(word, ++h->counts[page], __ATOMIC_RELAXED);
	}
	return NULL;
}

static struct svm_mask random_pages(uint64_t *seed)
{
	struct svm_mask m;

	svm_mask_zero(&m);
	m.w[0] = step_random(seed) | step_random(seed) << 32;
	if (step_random(seed) % 4 == 0)
		svm_mask_set_range(&m, 0, HAMMER_PAGES);
	return m;
}

static uint64_t word_at(struct rig *rig, unsigned int page, unsigned int slot)
{
	return __atomic_load_n((uint64_t *)(void *)lib_at(rig, page) + slot, __ATOMIC_RELAXED);
}

/* Pages without access do not change, whatever the program's threads do; and nothing they did is lost. */
static void no_write_is_lost_or_late(void **state)
{
	static uint64_t before[HAMMER_PAGES][2];
	struct hammer hammers[2];
	bool stop = false;
	uint64_t seed = 42;
	struct rig rig;

	start_rig(&rig, state);
	for (unsigned int i = 0; i < 2; i++) {
		hammers[i] = (struct hammer){ .rig = &rig, .slot = i, .stop = &stop };
		assert_int_equal(pthread_create(&hammers[i].thread, NULL, hammer, &hammers[i]), 0);
	}
	for (unsigned int round = 0; round < HAMMER_ROUNDS; round++) {
		struct svm_mask pages = random_pages(&seed);
		bool write = step_random(&seed) % 2;
		bool protect = step_random(&seed) % 3 == 0;
		bool leave = round % 4 == 0;
		uint64_t n_served;

		lock(&rig);
		if (leave)
			svm_mask_set_range(&pages, 0, HAMMER_PAGES);
		if (protect && svm_host_can_protect(&rig.host, &rig.block)) {
			assert_int_equal(svm_host_protect(&rig.host, &rig.block, &pages), 0);
			svm_mask_and(&pages, &rig.block.cpu);
		} else {
			assert_int_equal(svm_host_revoke(&rig.host, &rig.block, &pages), 0);
			svm_mask_and(&pages, &rig.block.back);
		}
		for (unsigned int p = 0; p < HAMMER_PAGES; p++)
			for (unsigned int i = 0; i < 2 && svm_mask_test(&pages, p); i++)
				before[p][i] = word_at(&rig, p, i);
		sched_yield();
		for (unsigned int p = 0; p < HAMMER_PAGES; p++)
			for (unsigned int i = 0; i < 2 && svm_mask_test(&pages, p); i++)
				assert_true(before[p][i] == word_at(&rig, p, i));
		if (!svm_host_can_protect(&rig.host, &rig.block))
			write = true;
		if (!leave)
			assert_int_equal(svm_host_grant(&rig.host, &rig.block, &pages, write), 0);
		unlock(&rig);
		/* The threads run into what is left to the server. */
		if (leave)
			assert_int_equal(read(rig.served_fd, &n_served, sizeof(n_served)),
					 sizeof(n_served));
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(hammers[i].thread, NULL), 0);
	lock(&rig);
	for (unsigned int i = 0; i < 2; i++)
		for (unsigned int p = 0; p < HAMMER_PAGES; p++)
			if (hammers[i].counts[p])
				assert_int_equal(word_at(&rig, p, i), hammers[i].counts[p]);
	assert_true(rig.n_missing + rig.n_minor + rig.n_wp >= 10);
	unlock(&rig);
	end_rig(&rig);
}

/* ---- Which kernels ---------------------------------------------------------------------------- */

static const struct variant private_full = { WINDOW_PRIVATE, 0, false };
static const struct variant private_old = { WINDOW_PRIVATE, SVM_SPACE_NO_MOVE | SVM_SPACE_NO_POISON,
					    false };
static const struct variant private_small = { WINDOW_PRIVATE, SVM_SPACE_NO_HUGE_PAGES, false };
static const struct variant private_user = { WINDOW_PRIVATE, SVM_SPACE_USER_MODE_ONLY, false };
static const struct variant shared_full = { WINDOW_SHARED, 0, false };
static const struct variant shared_old = { WINDOW_SHARED, SVM_SPACE_NO_MOVE | SVM_SPACE_NO_POISON,
					   true };
static const struct variant shared_user = { WINDOW_SHARED, SVM_SPACE_USER_MODE_ONLY, false };
static const struct variant registered_full = { REGISTERED, 0, false };
static const struct variant registered_old = { REGISTERED, SVM_SPACE_NO_MOVE | SVM_SPACE_NO_POISON,
					       false };
static const struct variant registered_user = { REGISTERED, SVM_SPACE_USER_MODE_ONLY, false };

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define ON(test, variant)                                                       \
	{                                                                       \
#test "_" #variant, test, set_up, tear_down, (void *)&(variant) \
	}
#define ON_PRIVATE(test)                                                        \
	ON(test, private_full), ON(test, private_old), ON(test, private_small), \
		ON(test, private_user)
#define ON_SHARED(test) ON(test, shared_full), ON(test, shared_old), ON(test, shared_user)
#define ON_REGISTERED(test) \
	ON(test, registered_full), ON(test, registered_old), ON(test, registered_user)
#define ON_ALL(test) ON_PRIVATE(test), ON_SHARED(test), ON_REGISTERED(test)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(window_lies_within_limits),
		TEST(window_is_found_below_a_low_limit),
		TEST(file_size_limit_is_an_error_not_a_signal),
		TEST(failed_init_leaves_nothing),
		ON_PRIVATE(failed_arming_can_be_repeated),
		ON_SHARED(failed_arming_can_be_repeated),
		TEST(armed_neighbours_stay_one_mapping),
		TEST(core_dumps_hold_the_user_view_alone),
		ON_ALL(child_has_no_view),
		ON_ALL(bytes_go_round),
		ON_ALL(pieces_go_round),
		ON(huge_pages_stay_huge, private_full),
		ON(huge_pages_stay_huge, registered_full),
		ON(protecting_keeps_huge_pages, private_full),
		ON(protecting_keeps_huge_pages, registered_full),
		ON_ALL(first_touch_finds_zeros),
		ON_ALL(read_grant_traps_the_write),
		ON_PRIVATE(protect_traps_until_granted),
		ON(protect_traps_until_granted, shared_full),
		ON(protect_traps_until_granted, shared_user),
		ON_REGISTERED(protect_traps_until_granted),
		ON_ALL(grant_wakes_who_waits),
		ON_ALL(grant_of_a_mapped_page_wakes),
		ON_ALL(populate_zero_hides_stale_bytes),
		ON_ALL(dropped_bytes_are_gone),
		ON_ALL(drop_of_a_huge_page_gives_memory_back),
		ON_ALL(failed_populate_leaves_a_true_record),
		ON_ALL(errors_leave_a_true_record),
		ON_ALL(repair_maps_again),
		ON_ALL(repair_lifts_a_stray_protection),
		ON_ALL(dropped_pages_are_taken_as_zeros),
		ON_PRIVATE(stray_stash_pages_do_no_harm),
		ON_REGISTERED(stray_stash_pages_do_no_harm),
		ON_SHARED(punched_shared_page_reads_zero),
		ON(pinned_pages_stay_mapped, private_full),
		ON(pinned_pages_stay_mapped, registered_full),
		ON(pinned_huge_page_stays_mapped, private_full),
		ON(pinned_huge_page_stays_mapped, registered_full),
		ON_PRIVATE(pinned_stash_page_is_copied),
		ON_REGISTERED(pinned_stash_page_is_copied),
		ON_ALL(locked_view_is_served),
		ON_REGISTERED(memory_that_is_not_ours_to_manage),
		ON_REGISTERED(failed_registration_leaves_nothing),
		ON_REGISTERED(registered_memory_keeps_its_bytes),
		ON_REGISTERED(present_without_scan_reads_the_pagemap),
		ON_REGISTERED(present_without_pagemap_makes_pages),
		ON_REGISTERED(pages_shared_with_a_child_are_taken),
		ON_REGISTERED(a_page_that_goes_while_it_is_taken_is_not_waited_for),
		ON_REGISTERED(memory_of_several_mappings_moves),
		ON_REGISTERED(unmapped_memory_is_forgotten),
		ON(unread_event_is_eagain, registered_full),
		ON(unread_event_is_eagain, registered_user),
		TEST(zapping_goes_on_behind_a_hole),
		ON_ALL(poison_raises_a_signal),
		ON_ALL(poison_wakes),
		ON_PRIVATE(disarming_wakes),
		ON_SHARED(disarming_wakes),
		ON_ALL(poison_wakes_who_came_too_late_for_it),
		ON_ALL(poison_comes_again),
		ON_REGISTERED(poison_in_protected_memory),
		ON_PRIVATE(conversion_keeps_valid_bytes),
		ON_REGISTERED(conversion_keeps_valid_bytes),
		ON_PRIVATE(waiter_lives_through_conversion),
		ON_PRIVATE(touches_during_conversion_are_kept),
		ON_PRIVATE(touches_during_a_failed_conversion_are_kept),
		ON_PRIVATE(failed_conversion_leaves_a_private_block),
		ON_ALL(pages_are_placed_on_a_node),
		ON_ALL(no_write_is_lost_or_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
