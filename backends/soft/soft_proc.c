// SPDX-License-Identifier: MIT
/*
 * The process of a soft device: its engines, and the thread that has its MMU (soft_mmu.c) map what they reach.
 *
 * It is a fork of the application without exec, because kernels are addresses of native functions.
 *
 * A touch of what is not bound is a SIGSEGV of the engine. With recoverable faults the handler tells
 * the library and sleeps until it has an answer; returning from the handler retries the instruction.
 * userfaultfd of this process, handed to the library, would be the other way to get there. It was not
 * taken because a fresh mapping can be registered only after mmap() has made it reachable: a
 * touch in that moment finds a zero page instead of a fault, and a read-only binding would need a
 * write-protect of its own on top. One mmap() with the right protection has no such moment.
 *
 * Threads: the initial one ends the process with the application; "control" carries out BIND; engine 0 carries out WORK and shares launches with the other engines.
 * Asynchronous signals are blocked in all of them: ^C in a terminal is for the application.
 *
 * Nothing here calls malloc or stdio: their locks may have been held at the fork, and the heap is the
 * application's, which may register any page of it.
 */
#ifdef __has_feature
#define HAS_FEATURE(feature) __has_feature(feature)
#else
#define HAS_FEATURE(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
#define HAS_TSAN 1
#else
#define HAS_TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
#define HAS_ASAN 1
#else
#define HAS_ASAN 0
#endif

/*
 * ThreadSanitizer keeps notes of each atomic variable in memory that it maps where something is free; in this process that
 * is where the library's may have managed memory by now, and then the window lies over it: an engine that looked there
 * faulted, and its handler waited for what the engine held. So here is nothing for it to look at.
 */
#if HAS_TSAN && defined(__clang__)
#if __has_attribute(disable_sanitizer_instrumentation)
#pragma clang attribute push(__attribute__((disable_sanitizer_instrumentation)), \
			     apply_to = function)
#define NOT_INSTRUMENTED 1
#endif
#endif

#include "soft_mmu.h"
#include <errno.h>
#include <libsvm/types.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <ucontext.h>

/*
 * ThreadSanitizer still has in its memory, a copy too, which threads of the application touched what before the
 * fork: an engine that touches the same addresses, in other memory, would be told of races with them.
 */
#if HAS_TSAN
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
#endif

/* Looking at a ring before sleeping: the bounds of a budget that grows when looking paid off. */
#define SPIN_MIN 16u
#define SPIN_MAX 2000u

/* Bind completions that may share one event. */
#define BINDS_PER_EVENT 16u

/* A launch that is shared between engines. */
struct grid {
	_Atomic uint32_t generation; /* futex: helpers wait for the next one */
	_Atomic uint32_t n_busy;     /* futex: helpers that have not finished it */
	_Atomic uint64_t next;	     /* first index that nobody has taken */
	const struct svm_soft_work_cmd *cmd;
	uint64_t run; /* indices taken at a time */
};

/* This process is one device: its state. Written only after the fork, so the application's copy of
 * these variables stays as the linker made it. */
static struct {
	struct svm_soft_proc_args args;
	struct svm_soft_ctl *ctl;
	struct grid grid;
	struct svm_soft_work_cmd cmd; /* engine 0: the command that runs */
} proc;

_Noreturn static void leave(void)
{
	/* Not exit(), nor a sanitizer's version of _exit(): there is nothing of ours to flush, and
	 * other threads are in the middle of things. */
	for (;;)
		(void)syscall(SYS_exit_group, 1);
}

/* End the device because of what an engine did; the library reads the reason once we are gone. */
_Noreturn static void die(int signal, uint64_t addr, uint32_t access, int status)
{
	struct svm_soft_death *death = &proc.ctl->death;

	/* Another thread is leaving: let it write its reason. */
	while (atomic_exchange(&death->is_set, 1))
		(void)syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
	atomic_store(&death->signal, signal);
	atomic_store(&death->addr, addr);
	atomic_store(&death->access, access);
	atomic_store(&death->status, status);
	leave();
}

static void add_one(int fd)
{
	static const uint64_t one = 1;

	/* An eventfd takes 8 bytes at once. It refuses (EAGAIN) only near 2^64, when it is readable. */
	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void signal_event(void)
{
	if (atomic_exchange(&proc.ctl->event_armed, 0))
		add_one(proc.args.event_fd);
}

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Wait until the ring has more than `seen` entries. */
static void line_wait(struct svm_soft_line *line, uint64_t seen, uint32_t *spin)
{
	for (uint32_t i = 0; i < *spin; i++) {
		if (atomic_load_explicit(&line->submitted, memory_order_acquire) != seen) {
			*spin = *spin * 2 < SPIN_MAX ? *spin * 2 : SPIN_MAX;
			return;
		}
		pause_cpu();
	}
	*spin = *spin / 2 > SPIN_MIN ? *spin / 2 : SPIN_MIN;
	/* Pairs with svm_soft_line_kick(): either we see the entry or it sees us asleep. */
	for (;;) {
		atomic_store(&line->asleep, 1);
		if (atomic_load(&line->submitted) != seen)
			break;
		svm_soft_futex_wait(&line->asleep, 1);
	}
	atomic_store(&line->asleep, 0);
}

/* prctl() as the system call: a sanitizer's wrapper looks at what it keeps of the thread, and that is where the library's
 * process may have registered memory by now, so that the window lies over it. */
static void set_name(const char *name)
{
	(void)syscall(SYS_prctl, PR_SET_NAME, name, 0, 0, 0);
}

/* ---- Binding ---------------------------------------------------------------------------------- */

static int control_main(void *arg)
{
	struct svm_soft_ctl *ctl = proc.ctl;
	uint32_t spin = SPIN_MIN;
	uint32_t n_silent = 0;
	uint64_t seq = 0;
	int first = 0;

	(void)arg;
	set_name("svm-soft-ctl");
	for (;;) {
		struct svm_soft_bind_cmd cmd;
		int status;

		line_wait(&ctl->bind, seq, &spin);
		cmd = ctl->binds[seq % SVM_SOFT_BINDS];
		status = svm_soft_mmu_run(&cmd);
		if (status == -ENOTRECOVERABLE)
			die(0, cmd.addr, 0, 0);
		if (!(cmd.flags & SVM_SOFT_BIND_SYNC) && first == 0)
			first = status;
		atomic_store_explicit(&ctl->bind_status[seq % SVM_SOFT_BINDS],
				      cmd.flags & SVM_SOFT_BIND_LAST ? first : 0,
				      memory_order_relaxed);
		seq++;
		atomic_store(&ctl->bind.done, seq);
		if (cmd.flags & SVM_SOFT_BIND_SYNC) {
			atomic_store(&ctl->sync_status, status);
			add_one(proc.args.sync_fd);
		}
		if (cmd.flags & SVM_SOFT_BIND_LAST) {
			first = 0;
			n_silent++;
		}
		/* A SYNC command has no event of its own, and may be what a silent one counted on. */
		if (n_silent == BINDS_PER_EVENT ||
		    (n_silent && atomic_load(&ctl->bind.submitted) == seq)) {
			n_silent = 0;
			signal_event();
		}
	}
	return 0;
}

/* ---- Engines ---------------------------------------------------------------------------------- */

static void grid_take(const struct svm_soft_work_cmd *cmd, uint64_t run)
{
	uint64_t n = cmd->n;

	for (;;) {
		uint64_t first =
			atomic_fetch_add_explicit(&proc.grid.next, run, memory_order_relaxed);
		uint64_t end;

		if (first >= n)
			return;
		end = n - first < run ? n : first + run;
		for (uint64_t i = first; i < end; i++)
			cmd->kernel(cmd->args, i, n);
	}
}

/* Runs short enough that engines finish together, long enough that taking one costs nothing. */
static uint64_t run_length(uint64_t n, uint32_t n_engines)
{
	uint64_t run = n / ((uint64_t)n_engines * 8u);

	return run < 1 ? 1 : run > 4096 ? 4096 : run;
}

static void launch(const struct svm_soft_work_cmd *cmd)
{
	uint32_t n_helpers = proc.args.n_engines - 1;
	uint32_t busy;

	proc.grid.cmd = cmd;
	proc.grid.run = run_length(cmd->n, proc.args.n_engines);
	atomic_store(&proc.grid.next, 0);
	if (n_helpers == 0 || cmd->n == 1) {
		grid_take(cmd, proc.grid.run);
		return;
	}
	atomic_store(&proc.grid.n_busy, n_helpers);
	atomic_fetch_add(&proc.grid.generation, 1);
	svm_soft_futex_wake(&proc.grid.generation, INT_MAX);
	grid_take(cmd, proc.grid.run);
	while ((busy = atomic_load(&proc.grid.n_busy)) != 0)
		svm_soft_futex_wait(&proc.grid.n_busy, busy);
}

static void run_work(const struct svm_soft_work_cmd *cmd)
{
	void *dst = (void *)(uintptr_t)cmd->dst;

	switch (cmd->op) {
	case SVM_SOFT_WORK_COPY:
		memmove(dst, (const void *)(uintptr_t)cmd->src, cmd->size);
		break;
	case SVM_SOFT_WORK_FILL:
		memset(dst, (int)cmd->value, cmd->size);
		break;
	case SVM_SOFT_WORK_LAUNCH:
		launch(cmd);
		break;
	default:
		die(0, cmd->dst, 0, 0);
	}
}

static const int fault_signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS };

/* Let this thread take what its own instructions raise, on a stack that is there for it. */
static void engine_init(uint32_t i)
{
	stack_t stack = {
		.ss_sp = (void *)(uintptr_t)svm_soft_signal_base(proc.args.own_base, i),
		.ss_size = SVM_SOFT_SIGNAL_SIZE,
	};
	sigset_t set;

	set_name("svm-soft-engine");
#if HAS_TSAN
	AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
	AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
	sigemptyset(&set);
	for (size_t n = 0; n < sizeof(fault_signals) / sizeof(fault_signals[0]); n++)
		sigaddset(&set, fault_signals[n]);
	if (sigaltstack(&stack, NULL) || sigprocmask(SIG_UNBLOCK, &set, NULL))
		die(0, 0, 0, 0);
}

static int leader_main(void *arg)
{
	struct svm_soft_ctl *ctl = proc.ctl;
	uint32_t spin = SPIN_MIN;
	uint64_t seq = 0;

	(void)arg;
	engine_init(0);
	for (;;) {
		line_wait(&ctl->work, seq, &spin);
		proc.cmd = ctl->works[seq % SVM_SOFT_WORKS];
		run_work(&proc.cmd);
		atomic_store_explicit(&ctl->work_status[seq % SVM_SOFT_WORKS], 0,
				      memory_order_relaxed);
		seq++;
		atomic_store(&ctl->work.done, seq);
		signal_event();
	}
	return 0;
}

static int helper_main(void *arg)
{
	uint32_t seen = 0;

	engine_init((uint32_t)(uintptr_t)arg);
	for (;;) {
		while (atomic_load(&proc.grid.generation) == seen)
			svm_soft_futex_wait(&proc.grid.generation, seen);
		seen++;
		grid_take(proc.grid.cmd, proc.grid.run);
		if (atomic_fetch_sub(&proc.grid.n_busy, 1) == 1)
			svm_soft_futex_wake(&proc.grid.n_busy, 1);
	}
	return 0;
}

/* ---- Faults ----------------------------------------------------------------------------------- */

#if defined(__aarch64__)
/* Record of the exception syndrome in a signal frame (arch/arm64/include/uapi/asm/sigcontext.h). */
#define ARM64_ESR_MAGIC	     0x45535201u
#define ARM64_ESR_CLASS(e)   (((e) >> 26) & 0x3fu)
#define ARM64_DATA_ABORT_EL0 0x24u
#define ARM64_ESR_WRITE	     (1u << 6)

struct arm64_record {
	uint32_t magic;
	uint32_t size;
};
#endif

/* How the instruction touched memory: enum svm_access_mode, or 0 where it did not read or write. */
static uint32_t fault_access(const ucontext_t *uc)
{
#if defined(__x86_64__)
	/* Page-fault error code (arch/x86/include/asm/trap_pf.h): bit 1 write, bit 4 fetch. */
	uint64_t code = (uint64_t)uc->uc_mcontext.gregs[REG_ERR];

	if (code & (1u << 4))
		return 0;
	return code & (1u << 1) ? SVM_ACCESS_WRITE : SVM_ACCESS_READ;
#elif defined(__aarch64__)
	const uint8_t *at = uc->uc_mcontext.__reserved;
	const uint8_t *end = at + sizeof(uc->uc_mcontext.__reserved);

	while (at + sizeof(struct arm64_record) + sizeof(uint64_t) <= end) {
		struct arm64_record record;
		uint64_t esr;

		memcpy(&record, at, sizeof(record));
		if (record.magic == ARM64_ESR_MAGIC) {
			memcpy(&esr, at + sizeof(record), sizeof(esr));
			if (ARM64_ESR_CLASS(esr) != ARM64_DATA_ABORT_EL0)
				return 0;
			return esr & ARM64_ESR_WRITE ? SVM_ACCESS_WRITE : SVM_ACCESS_READ;
		}
		if (record.magic == 0 || record.size == 0)
			break;
		at += record.size;
	}
	return SVM_ACCESS_WRITE; /* it may have been one */
#else
	(void)uc;
	return SVM_ACCESS_WRITE; /* not told here: it may have been one */
#endif
}

/* Which engine this is: by its alternate stack, as thread-local variables of a shared object may need
 * memory at their first use. n_engines: none. */
static uint32_t fault_engine(const ucontext_t *uc)
{
	uint64_t sp = (uint64_t)(uintptr_t)uc->uc_stack.ss_sp;
	uint32_t i = 0;

	while (i < proc.args.n_engines && svm_soft_signal_base(proc.args.own_base, i) != sp)
		i++;
	return i;
}

/* Whether the address is managed is for the library to say: it knows all spans. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	uint64_t addr = (uint64_t)(uintptr_t)info->si_addr & ~(uint64_t)(SVM_PAGE_SIZE - 1);
	uint32_t engine = fault_engine(uc);
	uint32_t access = fault_access(uc);
	struct svm_soft_fault *slot;
	int saved_errno = errno;
	uint32_t state;
	int status;

	if (signal != SIGSEGV || (info->si_code != SEGV_MAPERR && info->si_code != SEGV_ACCERR))
		die(signal, addr, 0, 0);
	if (!proc.args.faults || engine == proc.args.n_engines || access == 0)
		die(signal, addr, access, 0);

	slot = &proc.ctl->faults[engine];
	atomic_store(&slot->addr, addr);
	atomic_store(&slot->access, access);
	atomic_fetch_add(&slot->number, 1);
	atomic_store(&slot->state, SVM_SOFT_FAULT_PENDING);
	add_one(proc.args.fault_fd);
	while ((state = atomic_load(&slot->state)) != SVM_SOFT_FAULT_DONE)
		svm_soft_futex_wait(&slot->state, state);
	status = atomic_load(&slot->status);
	atomic_store(&slot->state, SVM_SOFT_FAULT_NONE);
	if (status)
		die(signal, addr, access, status);
	errno = saved_errno;
}

static int catch_faults(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	sigfillset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(fault_signals) / sizeof(fault_signals[0]); i++) {
		/* Debuggers and abort() end the process by themselves. */
		if (fault_signals[i] == SIGTRAP || fault_signals[i] == SIGABRT)
			continue;
		if (sigaction(fault_signals[i], &action, NULL))
			return -errno;
	}
	return 0;
}

/* ---- Start and end ---------------------------------------------------------------------------- */

/* The application's handlers must not run here. */
static void reset_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };

	sigemptyset(&action.sa_mask);
	/* EINVAL: SIGKILL, SIGSTOP and what the C library keeps for itself. */
	for (int i = 1; i < NSIG; i++)
		(void)sigaction(i, &action, NULL);
}

/* Close all but these fds. */
static int close_others(int *fds, unsigned int n)
{
	unsigned int from = 0;

	for (unsigned int i = 1; i < n; i++) {
		for (unsigned int k = i; k > 0 && fds[k] < fds[k - 1]; k--) {
			int fd = fds[k];

			fds[k] = fds[k - 1];
			fds[k - 1] = fd;
		}
	}
	for (unsigned int i = 0; i < n; i++) {
		unsigned int fd = (unsigned int)fds[i];

		if (fds[i] < 0 || fd < from)
			continue;
		if (fd > from && close_range(from, fd - 1, 0))
			return -errno;
		from = fd + 1;
	}
	return close_range(from, UINT_MAX, 0) ? -errno : 0;
}

static int close_foreign_fds(void)
{
	int fds[] = {
		proc.args.ctl_fd,
		proc.args.memory_fd,
		proc.args.host_fd,
		proc.args.event_fd,
		proc.args.fault_fd,
		proc.args.sync_fd,
		proc.args.parent_fd,
		proc.args.life_fd,
#if HAS_ASAN || HAS_TSAN
		STDERR_FILENO, /* for what the sanitizer has to say about a kernel */
#endif
	};

	return close_others(fds, sizeof(fds) / sizeof(fds[0]));
}

/* The application may go away at any instant, by exit or exec: then so do we. A pidfd tells the first;
 * the pipe, closed on exec, the second. Neither depends on the thread that opened the device. */
_Noreturn static void watch(void)
{
	struct pollfd fds[] = {
		{ .fd = proc.args.parent_fd, .events = POLLIN },
		{ .fd = proc.args.life_fd, .events = POLLIN },
	};

	while (poll(fds, 2, -1) < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOMEM))
		;
	leave();
}

/* clone() under the other name that it has: one that ThreadSanitizer does not take for a fork. */
extern int __clone(int (*fn)(void *), void *stack, int flags, void *arg, ...);

/* See soft_birth.c. Nobody waits for the end of these threads: they have none. */
static int start_thread(uint32_t i, int (*fn)(void *), void *arg)
{
	const struct svm_soft_thread *thread = &proc.args.threads[i];
	void *stack = (void *)(uintptr_t)thread->stack_top;
	void *tls = (void *)(uintptr_t)thread->tls;
	void *tid = (void *)(uintptr_t)thread->tid_addr;
	int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
		    CLONE_SYSVSEM | CLONE_SETTLS | (tid ? CLONE_CHILD_SETTID : 0);

	return __clone(fn, stack, flags, arg, (pid_t *)NULL, tls, tid) < 0 ? -errno : 0;
}

static int start_all(void)
{
	uint32_t n = proc.args.n_engines;
	int ret;

	ret = svm_soft_mmu_init(&proc.args);
	if (ret == 0)
		ret = catch_faults();
	if (ret == 0)
		ret = start_thread(SVM_SOFT_CONTROL_STACK, control_main, NULL);
	if (ret == 0)
		ret = start_thread(0, leader_main, NULL);
	for (uint32_t i = 1; ret == 0 && i < n; i++)
		ret = start_thread(i, helper_main, (void *)(uintptr_t)i);
	return ret;
}

_Noreturn void svm_soft_proc_run(const struct svm_soft_proc_args *args)
{
	int ret;

	proc.args = *args;
	proc.ctl = (struct svm_soft_ctl *)(uintptr_t)args->own_base;
	set_name("svm-soft");
	reset_signals();
	/* Without the shared mapping there is no way to say why; the library sees the end of us. */
	if (svm_soft_map_fixed(args->own_base, sizeof(struct svm_soft_ctl), PROT_READ | PROT_WRITE,
			       MAP_SHARED, args->ctl_fd, 0) < 0)
		leave();
	ret = close_foreign_fds();
	if (ret == 0)
		ret = start_all();
	atomic_store(&proc.ctl->sync_status, ret);
	add_one(proc.args.sync_fd);
	if (ret < 0)
		leave();
	watch();
}

#ifdef NOT_INSTRUMENTED
#pragma clang attribute pop
#endif
