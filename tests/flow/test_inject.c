/* SPDX-License-Identifier: MIT */
/*
 * Shown here: each system call that the library makes in each of the main flows fails once, at each of its occurrences, with
 * each error that its manual page lists as possible there; reads come short, too. After each of them the flow ends in
 * time, no byte is wrong, later operations work, and nothing is left over when the space is gone.
 *
 * A flow is set up without failures; then one operation runs with the failure armed. Occurrences beyond the tenth, which are
 * much alike, are thinned out.
 */
#include "fixture.h"

#include "sys.h"
#include "uffd_uapi.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE	     FIXTURE_PAGE
#define BLOCK	     FIXTURE_BLOCK
#define HOST	     ((struct svm_location){ .kind = SVM_LOCATION_HOST })
#define N_BLOCKS     3u
#define FORCED_SHORT 1 /* instead of an errno: half of what was asked for */

enum call {
	MMAP,
	MUNMAP,
	MPROTECT,
	MADVISE,
	POPULATE,
	MEMFD_CREATE,
	FTRUNCATE,
	FALLOCATE,
	FCNTL,
	USERFAULTFD,
	OPEN,
	PREAD,
	READ,
	EVENTFD,
	EPOLL_CREATE,
	EPOLL_CTL,
	EPOLL_WAIT,
	POLL,
	IO_URING_INIT,
	IO_URING_ENTER,
	THREAD_CREATE,
	MBIND,
	MOVE_PAGES,
	RESOLVE,
	PROTECT,
	REGISTER,
	CALLS,
};

#define MAX_ERRORS 5u

/* What the manual page of each lists, of what can be where the library calls it. Not EINVAL, EBADF and EFAULT, which would be
 * mistakes of ours; not what a call with these arguments never says. */
static const struct {
	const char *name;
	const char *page;
	int errors[MAX_ERRORS];
} calls[CALLS] = {
	[MMAP] = { "mmap", "mmap(2)", { -ENOMEM, -EAGAIN } },
	/* Of a piece of what the kernel has merged, which needs one mapping more. */
	[MUNMAP] = { "munmap", "munmap(2)", { -ENOMEM } },
	[MPROTECT] = { "mprotect", "mprotect(2)", { -ENOMEM } },
	/* Not ENOMEM, which says that there are holes. */
	[MADVISE] = { "madvise", "madvise(2)", { -EAGAIN } },
	[POPULATE] = { "madvise to populate", "madvise(2)", { -ENOMEM, -EAGAIN } },
	[MEMFD_CREATE] = { "memfd_create", "memfd_create(2)", { -EMFILE, -ENFILE, -ENOMEM } },
	[FTRUNCATE] = { "ftruncate", "truncate(2)", { -EINTR } },
	[FALLOCATE] = { "fallocate", "fallocate(2)", { -EINTR } },
	[FCNTL] = { "fcntl", "fcntl(2)", { -EAGAIN } },
	[USERFAULTFD] = { "userfaultfd", "userfaultfd(2)", { -EMFILE, -ENFILE, -ENOMEM } },
	[OPEN] = { "open", "open(2)", { -EINTR, -EMFILE, -ENFILE, -ENOMEM } },
	[PREAD] = { "pread", "read(2)", { -EINTR } },
	[READ] = { "read", "read(2)", { -EINTR, -EAGAIN, FORCED_SHORT } },
	[EVENTFD] = { "eventfd", "eventfd(2)", { -EMFILE, -ENFILE, -ENOMEM, -ENODEV } },
	[EPOLL_CREATE] = { "epoll_create", "epoll_create(2)", { -EMFILE, -ENFILE, -ENOMEM } },
	[EPOLL_CTL] = { "epoll_ctl to add", "epoll_ctl(2)", { -ENOMEM, -ENOSPC } },
	[EPOLL_WAIT] = { "epoll_wait", "epoll_wait(2)", { -EINTR } },
	[POLL] = { "poll", "poll(2)", { -EINTR, -ENOMEM } },
	[IO_URING_INIT] = { "io_uring_setup",
			    "io_uring_setup(2)",
			    { -EMFILE, -ENFILE, -ENOMEM, -EPERM } },
	[IO_URING_ENTER] = { "io_uring_enter", "io_uring_enter(2)", { -EINTR, -EAGAIN, -EBUSY } },
	[THREAD_CREATE] = { "pthread_create", "pthread_create(3)", { -EAGAIN } },
	[MBIND] = { "mbind", "mbind(2)", { -ENOMEM } },
	[MOVE_PAGES] = { "move_pages", "move_pages(2)", { -ENOMEM } },
	[RESOLVE] = { "ioctl to resolve", "ioctl_userfaultfd(2)", { -EAGAIN, -ENOMEM } },
	[PROTECT] = { "ioctl to write-protect", "ioctl_userfaultfd(2)", { -EAGAIN, -ENOMEM } },
	[REGISTER] = { "ioctl to register", "ioctl_userfaultfd(2)", { -ENOMEM } },
};

/* ---- Failing on demand ------------------------------------------------------------------------- */

static struct {
	enum call call;		   /* CALLS: none */
	_Atomic unsigned int left; /* occurrences until the one that fails; 0: it is over */
	int error;
	_Atomic unsigned int seen[CALLS]; /* while armed */
	_Atomic bool armed;
} strike = { .call = CALLS };

static unsigned int n_injections;

/* 0: go on. */
static int strikes(enum call call)
{
	unsigned int left;

	if (!atomic_load(&strike.armed))
		return 0;
	atomic_fetch_add(&strike.seen[call], 1u);
	if (call != strike.call)
		return 0;
	left = atomic_load(&strike.left);
	while (left > 0)
		if (atomic_compare_exchange_weak(&strike.left, &left, left - 1u))
			return left == 1u ? strike.error : 0;
	return 0;
}

#define HOOK(call, type, name, params, args)                   \
	static type hook_##name params                         \
	{                                                      \
		int error = strikes(call);                     \
		return error ? error : svm_sys_real.name args; \
	}

HOOK(MMAP, int, mmap,
     (void *addr, size_t size, int prot, int flags, int fd, uint64_t offset, void **ret_addr),
     (addr, size, prot, flags, fd, offset, ret_addr))

/* What could not be unmapped stays, for want of anything better: the test does it in the end. */
static struct {
	_Atomic(char *) addr;
	_Atomic size_t size;
} kept;

static int hook_munmap(void *addr, size_t size)
{
	int error = strikes(MUNMAP);

	if (error == 0) {
		uintptr_t offset = (uintptr_t)atomic_load(&kept.addr) - (uintptr_t)addr;

		if (offset < size)
			atomic_store(&kept.addr, NULL); /* with what was around it */
		return svm_sys_real.munmap(addr, size);
	}
	atomic_store(&kept.size, size);
	atomic_store(&kept.addr, addr);
	return error;
}

HOOK(MPROTECT, int, mprotect, (void *addr, size_t size, int prot), (addr, size, prot))
HOOK(advice == MADV_POPULATE_WRITE || advice == MADV_POPULATE_READ ? POPULATE : MADVISE, int,
     madvise, (void *addr, size_t size, int advice), (addr, size, advice))
HOOK(MEMFD_CREATE, int, memfd_create, (const char *name, unsigned int flags), (name, flags))
HOOK(FTRUNCATE, int, ftruncate, (int fd, uint64_t size), (fd, size))
HOOK(FALLOCATE, int, fallocate, (int fd, int mode, uint64_t offset, uint64_t size),
     (fd, mode, offset, size))
HOOK(FCNTL, int, fcntl, (int fd, int cmd, long arg), (fd, cmd, arg))
HOOK(USERFAULTFD, int, userfaultfd, (int flags), (flags))
HOOK(OPEN, int, open, (const char *path, int flags), (path, flags))
HOOK(PREAD, ssize_t, pread, (int fd, void *buffer, size_t size, uint64_t offset),
     (fd, buffer, size, offset))
HOOK(EVENTFD, int, eventfd, (unsigned int initial, int flags), (initial, flags))
HOOK(EPOLL_CREATE, int, epoll_create, (int flags), (flags))
HOOK(EPOLL_WAIT, int, epoll_wait,
     (int epfd, struct epoll_event *events, int n_events, int64_t timeout_ns),
     (epfd, events, n_events, timeout_ns))
HOOK(POLL, int, poll_one, (int fd, short events, int64_t timeout_ns), (fd, events, timeout_ns))
HOOK(IO_URING_INIT, int, io_uring_init,
     (unsigned int entries, struct io_uring *ring, struct io_uring_params *params),
     (entries, ring, params))
HOOK(IO_URING_ENTER, int, io_uring_enter,
     (struct io_uring * ring, unsigned int wait_nr, int64_t timeout_ns),
     (ring, wait_nr, timeout_ns))
HOOK(THREAD_CREATE, int, thread_create,
     (pthread_t * ret_thread, const char *name, void *(*fn)(void *), void *arg),
     (ret_thread, name, fn, arg))
HOOK(MBIND, int, mbind,
     (void *addr, size_t size, int mode, const unsigned long *nodes, unsigned long max_node,
      unsigned int flags),
     (addr, size, mode, nodes, max_node, flags))
HOOK(MOVE_PAGES, int, move_pages,
     (pid_t pid, unsigned long n, void **pages, const int *nodes, int *status, int flags),
     (pid, n, pages, nodes, status, flags))

static ssize_t hook_read(int fd, void *buffer, size_t size)
{
	int error;

	/* A loop reads its wake-up only when it knows that there is one, and an eventfd is read whole. */
	if (size == sizeof(uint64_t))
		return svm_sys_real.read(fd, buffer, size);
	error = strikes(READ);
	if (error == FORCED_SHORT)
		size = size > 2u * sizeof(struct uffd_msg) ? size / 2u : size;
	return error < 0 ? error : svm_sys_real.read(fd, buffer, size);
}

static int hook_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	int error = op == EPOLL_CTL_ADD ? strikes(EPOLL_CTL) : 0;

	return error ? error : svm_sys_real.epoll_ctl(epfd, op, fd, event);
}

static int hook_ioctl(int fd, unsigned long request, void *arg)
{
	int error = 0;

	switch (request) {
	case UFFDIO_COPY:
	case UFFDIO_ZEROPAGE:
	case UFFDIO_CONTINUE:
	case SVM_UFFDIO_MOVE:
	case SVM_UFFDIO_POISON:
		error = strikes(RESOLVE);
		break;
	case UFFDIO_WRITEPROTECT:
		error = strikes(PROTECT);
		break;
	case UFFDIO_REGISTER:
		error = strikes(REGISTER);
		break;
	default:
		break;
	}
	return error ? error : svm_sys_real.ioctl(fd, request, arg);
}

static struct svm_sys hooked;

static void hook_all(void)
{
	hooked = svm_sys_real;
	hooked.mmap = hook_mmap;
	hooked.munmap = hook_munmap;
	hooked.mprotect = hook_mprotect;
	hooked.madvise = hook_madvise;
	hooked.memfd_create = hook_memfd_create;
	hooked.ftruncate = hook_ftruncate;
	hooked.fallocate = hook_fallocate;
	hooked.fcntl = hook_fcntl;
	hooked.userfaultfd = hook_userfaultfd;
	hooked.open = hook_open;
	hooked.pread = hook_pread;
	hooked.read = hook_read;
	hooked.eventfd = hook_eventfd;
	hooked.epoll_create = hook_epoll_create;
	hooked.epoll_ctl = hook_epoll_ctl;
	hooked.epoll_wait = hook_epoll_wait;
	hooked.poll_one = hook_poll_one;
	hooked.io_uring_init = hook_io_uring_init;
	hooked.io_uring_enter = hook_io_uring_enter;
	hooked.thread_create = hook_thread_create;
	hooked.mbind = hook_mbind;
	hooked.move_pages = hook_move_pages;
	hooked.ioctl = hook_ioctl;
	svm_sys = &hooked;
}

/* ---- Touches that may end in a signal ------------------------------------------------------------ */

static sigjmp_buf jump;

static void on_signal(int number)
{
	siglongjmp(jump, number);
}

static int touch(volatile uint64_t *word, bool write, uint64_t *value)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct sigaction old[2];
	int number;

	sigemptyset(&action.sa_mask);
	(void)sigaction(SIGBUS, &action, &old[0]);
	(void)sigaction(SIGSEGV, &action, &old[1]);
	number = sigsetjmp(jump, 1);
	if (number == 0 && write)
		*word = *value;
	else if (number == 0)
		*value = *word;
	(void)sigaction(SIGBUS, &old[0], NULL);
	(void)sigaction(SIGSEGV, &old[1], NULL);
	return number ? -EFAULT : 0;
}

/* ---- The scene ----------------------------------------------------------------------------------- */

struct scene {
	struct svm_fixture *f;
	struct svm_device *device;
	struct svm_access *access;
	uint64_t *words[N_BLOCKS]; /* managed blocks: word 0 of some pages is followed */
	uint64_t expected[N_BLOCKS];
	uint64_t *own; /* memory of the application */
	bool registered;
	bool lossy; /* the device died: its bytes may be lost */
	char what[160];
};

#define FOLLOWED 70u /* the page of each block whose first word is followed */

static uint64_t *followed(const struct scene *s, unsigned int b)
{
	return s->words[b] + FOLLOWED * PAGE / 8u;
}

static int use(struct scene *s, unsigned int b, bool write)
{
	struct svm_access_range range = { .addr = followed(s, b),
					  .size = 8,
					  .access = write ? SVM_ACCESS_WRITE : SVM_ACCESS_READ };
	int r;

	r = svm_acquire(s->device, &range, 1, 0, &s->access, NULL);
	if (r < 0)
		return r;
	r = svm_release(s->access, NULL);
	s->access = NULL;
	return r;
}

static int write_word(struct scene *s, unsigned int b)
{
	uint64_t value = s->expected[b] + 1000u;
	int r = touch(followed(s, b), true, &value);

	if (r == 0)
		s->expected[b] = value;
	return r;
}

static int there(struct scene *s, unsigned int b)
{
	return svm_prefetch(s->f->space, s->words[b], BLOCK, svm_device_location(s->device), NULL);
}

static int act_alloc(struct scene *s)
{
	void *addr;
	uint64_t value = 1;
	int r = svm_alloc(s->f->space, 3u * BLOCK, 0, &addr);

	if (r < 0)
		return r;
	r = touch(addr, true, &value);
	assert_int_equal(svm_free(s->f->space, addr), 0);
	return r;
}

static int act_register(struct scene *s)
{
	int r = svm_register(s->f->space, s->own, BLOCK, 0);

	s->registered = r == 0;
	if (r < 0)
		return r;
	r = svm_prefetch(s->f->space, s->own, BLOCK, svm_device_location(s->device), NULL);
	if (svm_unregister(s->f->space, s->own, BLOCK) < 0)
		return -EIO; /* tried again when it is over */
	s->registered = false;
	return r;
}

static int act_cpu_fault(struct scene *s)
{
	int r = there(s, 0);

	return r ? r : write_word(s, 0);
}

static int act_device_fault(struct scene *s)
{
	char *page = (char *)s->words[1] + 100u * PAGE;
	uint64_t wrong = 0;
	int r = fixture_try_fill_on(s->f, s->device, page, PAGE, 3);

	r = r ? r : fixture_try_check_on(s->f, s->device, page, PAGE, 3, &wrong);
	/* Who says that it was done has done it. */
	if (r == 0 && wrong)
		fail_msg("%s: %llu words are wrong", s->what, (unsigned long long)wrong);
	return r;
}

static int act_acquire(struct scene *s)
{
	int r = use(s, 0, true);

	return r ? r : write_word(s, 0);
}

static int act_prefetch(struct scene *s)
{
	int r = there(s, 1);

	return r ? r : svm_prefetch(s->f->space, s->words[1], BLOCK, HOST, NULL);
}

static int act_evict(struct scene *s)
{
	int r = 0;

	for (unsigned int b = 0; b < N_BLOCKS && r == 0; b++)
		r = there(s, b);
	return r ? r : write_word(s, 0);
}

static int act_advise(struct scene *s)
{
	struct svm_advice advice[2] = { { .kind = SVM_ADVICE_ACCESS_IN_PLACE,
					  .device = svm_device_id(s->device) },
					{ .kind = SVM_ADVICE_GRANULARITY, .value = 65536 } };
	int r = svm_advise(s->f->space, followed(s, 1), 8, advice, 2, NULL);

	r = r ? r : use(s, 1, true);
	return r ? r : write_word(s, 1);
}

static int act_discard(struct scene *s)
{
	int r = svm_discard(s->f->space, s->words[0], 4u * PAGE, 0);

	return r ? r
		 : svm_discard(s->f->space, (char *)s->words[0] + 8u * PAGE, PAGE,
			       SVM_DISCARD_LAZY);
}

static int act_pin(struct scene *s)
{
	struct svm_location to[2] = { svm_device_location(s->device), HOST };
	int r = 0;

	for (unsigned int i = 0; i < 2 && r == 0; i++) {
		r = svm_pin(s->f->space, s->words[0], 8u * PAGE, to[i]);
		if (r == 0)
			assert_int_equal(svm_unpin(s->f->space, s->words[0], 8u * PAGE, to[i]), 0);
	}
	return r;
}

static int act_device(struct scene *s)
{
	int r = svm_device_close(s->device);

	if (r < 0)
		return r;
	s->device = NULL;
	return svm_device_open(s->f->space, "soft:memory=4M", &s->device);
}

static int act_loss(struct scene *s)
{
	int r = there(s, 0);

	s->lossy = true;
	assert_int_equal(svm_soft_kill(s->device), 0);
	(void)write_word(s, 0);
	(void)write_word(s, 1);
	return r;
}

static int act_fork(struct scene *s)
{
	int r = there(s, 1);
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct svm_space_info info = { .size = sizeof(info) };

		_exit(svm_space_query(s->f->space, &info) == -ECHILD ? 0 : 1);
	}
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	return r ? r : write_word(s, 1);
}

static const struct flow {
	const char *name;
	int (*act)(struct scene *s); /* NULL: creating the space */
} flows[] = {
	{ "space", NULL },
	{ "alloc", act_alloc },
	{ "register", act_register },
	{ "cpu fault", act_cpu_fault },
	{ "device fault", act_device_fault },
	{ "acquire", act_acquire },
	{ "prefetch", act_prefetch },
	{ "evict", act_evict },
	{ "advise", act_advise },
	{ "discard", act_discard },
	{ "pin", act_pin },
	{ "device", act_device },
	{ "loss", act_loss },
	{ "fork", act_fork },
};

static int create(struct svm_fixture *f, uint32_t loop)
{
	struct svm_space_options o = { .size = sizeof(o), .loop = loop };
	int r = svm_space_create(&o, &f->space);

	if (r < 0)
		f->space = NULL;
	return r;
}

#define works(s, call)                                                                      \
	do {                                                                                \
		int works_ = (call);                                                        \
		if (works_ != 0)                                                            \
			fail_msg("%s: later, %s: %s", (s)->what, #call, strerror(-works_)); \
	} while (0)

static void set_up(struct scene *s)
{
	works(s, svm_device_open(s->f->space, "soft:memory=4M", &s->device));
	for (unsigned int b = 0; b < N_BLOCKS; b++) {
		void *addr;

		works(s, svm_alloc(s->f->space, BLOCK, 0, &addr));
		s->words[b] = addr;
		works(s, write_word(s, b));
	}
	s->own = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(s->own, MAP_FAILED);
	s->own[1] = 77;
}

/* Everything is over: bytes are right, or said to be lost; all works. */
static void check_and_end(struct scene *s)
{
	struct svm_device_info info = { .size = sizeof(info) };
	uint64_t value;

	if (s->registered)
		works(s, svm_unregister(s->f->space, s->own, BLOCK));
	assert_int_equal(s->own[1], 77);
	if (s->device && svm_device_query(s->device, &info) == 0 && info.is_lost) {
		works(s, svm_device_close(s->device));
		s->device = NULL;
	}
	if (!s->device)
		works(s, svm_device_open(s->f->space, "soft:memory=4M", &s->device));
	for (unsigned int b = 0; b < N_BLOCKS; b++) {
		if (s->lossy && (fixture_page(s->f, followed(s, b)).flags & SVM_PAGE_POISONED)) {
			assert_int_equal(touch(followed(s, b), false, &value), -EFAULT);
			works(s, svm_discard(s->f->space, s->words[b], BLOCK, 0));
			s->expected[b] = 0;
		}
		if (s->lossy)
			works(s, svm_discard(s->f->space, s->words[b], FOLLOWED * PAGE, 0));
		/* What an earlier failure had refused is served now. */
		works(s, svm_prefetch(s->f->space, followed(s, b), 8, HOST, NULL));
		works(s, touch(followed(s, b), false, &value));
		if (value != s->expected[b])
			fail_msg("%s: block %u: %llx instead of %llx", s->what, b,
				 (unsigned long long)value, (unsigned long long)s->expected[b]);
		works(s, use(s, b, true));
		works(s, write_word(s, b));
	}
	works(s, act_alloc(s));
	works(s, svm_device_close(s->device));
	for (unsigned int b = 0; b < N_BLOCKS; b++) {
		works(s, touch(followed(s, b), false, &value));
		assert_int_equal(value, s->expected[b]);
		works(s, svm_free(s->f->space, s->words[b]));
	}
	fixture_space_end(s->f);
	assert_int_equal(munmap(s->own, BLOCK), 0);
	if (atomic_load(&kept.addr))
		(void)svm_sys_real.munmap(atomic_load(&kept.addr), atomic_load(&kept.size));
	atomic_store(&kept.addr, NULL);
	if (fixture_leaks(s->f))
		fail_msg("%s: something is left over", s->what);
}

/* Returns how many of the calls there were. error 0: only count, into strike.seen. */
static unsigned int run(struct svm_fixture *f, const struct flow *flow, uint32_t loop,
			enum call call, unsigned int nth, int error)
{
	struct scene s = { .f = f };
	unsigned int seen;
	int r = 0;

	(void)snprintf(s.what, sizeof(s.what), "%s: %s (%s) number %u: %s", flow->name,
		       error ? calls[call].name : "nothing", error ? calls[call].page : "", nth,
		       error == FORCED_SHORT ? "short" : strerror(-error));
	strike.call = error ? call : CALLS;
	strike.error = error;
	atomic_store(&strike.left, nth);
	if (!flow->act) {
		atomic_store(&strike.armed, true);
		r = create(f, loop);
		if (r == 0)
			r = svm_space_destroy(f->space);
		atomic_store(&strike.armed, false);
		if (r < 0 && f->space)
			works(&s, svm_space_destroy(f->space));
		f->space = NULL;
	}
	works(&s, create(f, loop));
	set_up(&s);
	if (flow->act) {
		atomic_store(&strike.armed, true);
		r = flow->act(&s);
		atomic_store(&strike.armed, false);
	}
	seen = atomic_load(&strike.seen[call]);
	if (error && atomic_load(&strike.left) == 0)
		n_injections++;
	if (r < 0 && (error == 0 || error == -EINTR || error == FORCED_SHORT))
		fail_msg("%s: %s", s.what, strerror(-r));
	check_and_end(&s);
	return seen;
}

static void inject(struct svm_fixture *f, const struct flow *flow, uint32_t loop)
{
	unsigned int n_calls[CALLS];

	memset(strike.seen, 0, sizeof(strike.seen));
	(void)run(f, flow, loop, MMAP, 0, 0);
	for (unsigned int c = 0; c < CALLS; c++)
		n_calls[c] = atomic_load(&strike.seen[c]);
	for (unsigned int c = 0; c < CALLS; c++)
		for (unsigned int e = 0; e < MAX_ERRORS && calls[c].errors[e]; e++)
			for (unsigned int nth = 1; nth <= n_calls[c]; nth += 1u + nth / 10u * 5u) {
				fixture_watchdog(60);
				(void)run(f, flow, loop, (enum call)c, nth, calls[c].errors[e]);
			}
}

static void each_call_fails_once(struct svm_fixture *f, const char *name)
{
	static const uint32_t loops[] = { SVM_LOOP_AUTO, SVM_LOOP_EPOLL };

	hook_all();
	n_injections = 0;
	for (unsigned int i = 0; i < sizeof(flows) / sizeof(flows[0]); i++) {
		if (strcmp(flows[i].name, name) != 0)
			continue;
		for (unsigned int l = 0; l < 2; l++)
			inject(f, &flows[i], loops[l]);
	}
	svm_sys = &svm_sys_real;
	print_message("%s: %u failures\n", name, n_injections);
	assert_true(n_injections > 0);
}

#define FLOW(function, name)                        \
	static void function(struct svm_fixture *f) \
	{                                           \
		each_call_fails_once(f, name);      \
	}

FLOW(space_comes_and_goes, "space")
FLOW(memory_comes_and_goes, "alloc")
FLOW(memory_is_registered, "register")
FLOW(the_cpu_faults, "cpu fault")
FLOW(a_device_faults, "device fault")
FLOW(memory_is_acquired, "acquire")
FLOW(memory_is_prefetched, "prefetch")
FLOW(memory_is_evicted, "evict")
FLOW(memory_is_mapped_in_place, "advise")
FLOW(memory_is_discarded, "discard")
FLOW(memory_is_pinned, "pin")
FLOW(a_device_comes_and_goes, "device")
FLOW(a_device_is_lost, "loss")
FLOW(the_process_forks, "fork")

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(space_comes_and_goes, FIXTURE_ONCE),
		FIXTURE_CASE(memory_comes_and_goes, FIXTURE_ONCE),
		FIXTURE_CASE(memory_is_registered, FIXTURE_ONCE),
		FIXTURE_CASE(the_cpu_faults, FIXTURE_ONCE),
		FIXTURE_CASE(a_device_faults, FIXTURE_ONCE),
		FIXTURE_CASE(memory_is_acquired, FIXTURE_ONCE),
		FIXTURE_CASE(memory_is_prefetched, FIXTURE_ONCE),
		FIXTURE_CASE(memory_is_evicted, FIXTURE_ONCE),
		FIXTURE_CASE(memory_is_mapped_in_place, FIXTURE_ONCE),
		FIXTURE_CASE(memory_is_discarded, FIXTURE_ONCE),
		FIXTURE_CASE(memory_is_pinned, FIXTURE_ONCE),
		FIXTURE_CASE(a_device_comes_and_goes, FIXTURE_ONCE),
		FIXTURE_CASE(a_device_is_lost, FIXTURE_ONCE),
		FIXTURE_CASE(the_process_forks, FIXTURE_ONCE),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
