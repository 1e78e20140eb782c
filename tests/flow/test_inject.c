/* SPDX-License-Identifier: MIT */
/*
 * Shown here: each system call that the library makes in each of the main flows fails once, at each of its occurrences, with
 * each error that its manual page lists as possible there; reads come short, too. After each of them the flow ends in
 * time, no byte is wrong, later operations work, and nothing is left over when the space is gone.
 *
 * A flow is set up without failures; then one operation runs with the failure armed. Occurrences beyond the tenth, which are
 * much alike, are thinned out.
 */
#include "inject_scene.h"

#include "sys.h"
#include "uffd_uapi.h"
#include <stdatomic.h>

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

/* Returns how many of the calls there were. error 0: only count, into strike.seen. */
static unsigned int run(struct svm_fixture *f, const struct flow *flow, uint32_t loop,
			enum call call, unsigned int nth, int error)
{
	struct scene s = { .f = f };
	unsigned int seen;
	int r;

	(void)snprintf(s.what, sizeof(s.what), "%s: %s (%s) number %u: %s", flow->name,
		       error ? calls[call].name : "nothing", error ? calls[call].page : "", nth,
		       error == FORCED_SHORT ? "short" : strerror(-error));
	strike.call = error ? call : CALLS;
	strike.error = error;
	atomic_store(&strike.left, nth);
	r = act_armed(&s, flow, loop, &strike.armed);
	seen = atomic_load(&strike.seen[call]);
	if (error && atomic_load(&strike.left) == 0)
		n_injections++;
	if (r < 0 && (error == 0 || error == -EINTR || error == FORCED_SHORT))
		fail_msg("%s: %s", s.what, strerror(-r));
	check_and_end(&s);
	if (atomic_load(&kept.addr))
		(void)svm_sys_real.munmap(atomic_load(&kept.addr), atomic_load(&kept.size));
	atomic_store(&kept.addr, NULL);
	if (fixture_leaks(f))
		fail_msg("%s: something is left over", s.what);
	return seen;
}

/* Beyond the tenth they are much alike. */
static unsigned int next(unsigned int nth)
{
	return fixture_quick() == 2 ? fixture_next_failure(nth) : nth + 1u + nth / 10u * 5u;
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
			for (unsigned int nth = 1; nth <= n_calls[c]; nth = next(nth)) {
				fixture_watchdog(60);
				(void)run(f, flow, loop, (enum call)c, nth, calls[c].errors[e]);
			}
}

static void each_call_fails_once(struct svm_fixture *f, const char *name)
{
	static const uint32_t loops[] = { SVM_LOOP_EPOLL, SVM_LOOP_IO_URING };

	n_injections = 0;
	for (unsigned int i = 0; i < sizeof(flows) / sizeof(flows[0]); i++) {
		if (strcmp(flows[i].name, name) != 0)
			continue;
		for (unsigned int l = 0; l < 2; l++) {
			if (!has_loop(f, loops[l]))
				continue;
			hook_all();
			inject(f, &flows[i], loops[l]);
			svm_sys = &svm_sys_real;
		}
	}
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
