/* SPDX-License-Identifier: MIT */
/*
 * Messages between the library and the process of a soft device: one shared mapping, seen by both.
 *
 * Commands go to the process through two rings, BIND and WORK: the library writes an entry and then
 * advances `submitted`, the process carries it out, writes its status and advances `done`. The library
 * reuses an entry only after it has told its caller the status, so a status is never overwritten unread.
 * Faults come back through one slot per engine, because an engine stops at its fault.
 *
 * A kernel gone wild may scribble over this mapping: the library takes `done`, statuses and slots
 * from it as suggestions that it bounds, never as indices.
 */
#ifndef SVM_SOFT_WIRE_H
#define SVM_SOFT_WIRE_H

#include <libsvm/soft.h>
#include <libsvm/types.h>
#include <linux/futex.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SVM_SOFT_MAX_ENGINES 16u
#define SVM_SOFT_CACHE_LINE  64u

/* Entries of the rings: powers of two. The last one of BIND is kept free for a span. */
#define SVM_SOFT_BINDS 4096u
#define SVM_SOFT_WORKS 1024u

enum svm_soft_bind_op {
	SVM_SOFT_BIND_NONE = 0,	    /* unbind */
	SVM_SOFT_BIND_MEMORY = 1,   /* map device memory */
	SVM_SOFT_BIND_HOST = 2,	    /* map shared host storage */
	SVM_SOFT_BIND_SPAN_ADD = 3, /* unbound from now on, whatever was there */
	SVM_SOFT_BIND_SPAN_REMOVE = 4,
};

#define SVM_SOFT_BIND_WRITE (1u << 0)
#define SVM_SOFT_BIND_LAST  (1u << 1) /* the caller's point: gets the status of its whole batch */
#define SVM_SOFT_BIND_SYNC \
	(1u << 2) /* status goes to sync_status and sync_fd, the caller waits there */

struct svm_soft_bind_cmd {
	uint64_t addr;
	uint64_t size;
	uint64_t offset; /* bytes into the file that op names */
	uint32_t op;	 /* enum svm_soft_bind_op */
	uint32_t flags;	 /* SVM_SOFT_BIND_* */
};

enum svm_soft_work_op {
	SVM_SOFT_WORK_COPY = 0,
	SVM_SOFT_WORK_FILL = 1,
	SVM_SOFT_WORK_LAUNCH = 2,
};

struct svm_soft_work_cmd {
	uint32_t op; /* enum svm_soft_work_op */
	uint32_t value;
	uint64_t dst;
	uint64_t src;
	uint64_t size;
	uint64_t n;
	void (*kernel)(const void *args, uint64_t index, uint64_t count);
	alignas(SVM_SOFT_CACHE_LINE) uint8_t args[SVM_SOFT_ARGS_SIZE];
};

/* Counts of a ring, and whether its consumer sleeps on `asleep` (1) and wants a futex wake. */
struct svm_soft_line {
	alignas(SVM_SOFT_CACHE_LINE) _Atomic uint64_t submitted; /* written by the library */
	_Atomic uint32_t asleep;
	alignas(SVM_SOFT_CACHE_LINE) _Atomic uint64_t done; /* written by the process */
};

/* Life of a fault slot. The engine moves it NONE -> PENDING and DONE -> NONE, the library the rest. */
enum svm_soft_fault_state {
	SVM_SOFT_FAULT_NONE = 0,
	SVM_SOFT_FAULT_PENDING = 1,   /* the engine waits; nobody has read it */
	SVM_SOFT_FAULT_TAKEN = 2,     /* given out by fault_read() */
	SVM_SOFT_FAULT_ANSWERING = 3, /* one fault_done() is writing the status */
	SVM_SOFT_FAULT_DONE = 4,      /* the engine may go on; futex wake follows */
};

struct svm_soft_fault {
	alignas(SVM_SOFT_CACHE_LINE) _Atomic uint32_t state; /* enum svm_soft_fault_state; futex */
	_Atomic uint32_t
		number; /* counts this engine's faults: an answer to an older one is refused */
	_Atomic uint64_t addr;	 /* page */
	_Atomic uint32_t access; /* enum svm_access_mode */
	_Atomic int32_t status;	 /* 0: retry */
};

/* Why the process ended by itself. Read once it is gone. */
struct svm_soft_death {
	_Atomic uint32_t is_set;
	_Atomic uint32_t access; /* enum svm_access_mode, or 0 */
	_Atomic uint64_t addr;
	_Atomic int32_t signal; /* 0: not a signal */
	_Atomic int32_t status; /* negative errno for the work that ran, or 0 */
};

struct svm_soft_ctl {
	/* 1: whoever completes something sets it to 0 and writes event_fd; further completions need not. */
	alignas(SVM_SOFT_CACHE_LINE) _Atomic uint32_t event_armed;
	_Atomic int32_t sync_status;
	struct svm_soft_death death;
	struct svm_soft_line bind;
	struct svm_soft_line work;
	struct svm_soft_fault faults[SVM_SOFT_MAX_ENGINES];
	_Atomic int32_t bind_status[SVM_SOFT_BINDS];
	_Atomic int32_t work_status[SVM_SOFT_WORKS];
	struct svm_soft_bind_cmd binds[SVM_SOFT_BINDS];
	struct svm_soft_work_cmd works[SVM_SOFT_WORKS];
};

/*
 * Addresses that belong to the process: the library reserves them while the device is open, so that no
 * memory it registers can lie there. What the process needs for itself (stacks, the shared mapping)
 * is inside, because a span may replace anything else that it inherited: the stack of whoever opened
 * the device, for one.
 *
 *   shared mapping, guard; then per thread: guard, signal stack, guard, stack
 */
#define SVM_SOFT_GUARD_SIZE  (UINT64_C(64) << 10)
#define SVM_SOFT_STACK_SIZE  (UINT64_C(2) << 20)
#define SVM_SOFT_SIGNAL_SIZE (UINT64_C(128) << 10) /* alternate signal stack of an engine */
#define SVM_SOFT_CTL_SIZE    (UINT64_C(2) << 20)   /* room for struct svm_soft_ctl and a guard */
/* Who has which stack: engine i has stack i. */
#define SVM_SOFT_INITIAL_STACK SVM_SOFT_MAX_ENGINES
#define SVM_SOFT_CONTROL_STACK (SVM_SOFT_MAX_ENGINES + 1u)
#define SVM_SOFT_N_STACKS      (SVM_SOFT_MAX_ENGINES + 2u)
#define SVM_SOFT_THREAD_SIZE   (SVM_SOFT_STACK_SIZE + SVM_SOFT_SIGNAL_SIZE + 2 * SVM_SOFT_GUARD_SIZE)
#define SVM_SOFT_OWN_SIZE      (SVM_SOFT_CTL_SIZE + SVM_SOFT_N_STACKS * SVM_SOFT_THREAD_SIZE)

_Static_assert(sizeof(struct svm_soft_ctl) + SVM_SOFT_GUARD_SIZE <= SVM_SOFT_CTL_SIZE,
	       "the shared mapping fits its place");

/* Start of thread i's part, a guard; its signal stack; its stack. */
static inline uint64_t svm_soft_guard_base(uint64_t own_base, uint32_t i)
{
	return own_base + SVM_SOFT_CTL_SIZE + i * SVM_SOFT_THREAD_SIZE;
}

static inline uint64_t svm_soft_signal_base(uint64_t own_base, uint32_t i)
{
	return svm_soft_guard_base(own_base, i) + SVM_SOFT_GUARD_SIZE;
}

static inline uint64_t svm_soft_stack_base(uint64_t own_base, uint32_t i)
{
	return svm_soft_signal_base(own_base, i) + SVM_SOFT_SIGNAL_SIZE + SVM_SOFT_GUARD_SIZE;
}

/*
 * Reserved in the same way, of the process alone: a home for the page table of each 2 MiB of device memory (soft_mmu.c),
 * and then who is where: n_chunks + 1 of these, and heads of lists.
 */
/* Device memory of 2 MiB. Chunks are counted from 1, so that 0 is none and memory that is new holds none. */
struct svm_soft_chunk {
	uint64_t addr;	/* the block that maps it whole and writable, or 0 */
	uint32_t next;	/* chunk in the same list of mmu.heads, or 0 */
	bool has_table; /* its home has */
};

/* A power of two. */
static inline uint32_t svm_soft_n_heads(uint32_t n_chunks)
{
	return n_chunks < 2 ? 1u : 1u << (32 - __builtin_clz(n_chunks - 1u));
}

static inline uint64_t svm_soft_table_size(uint32_t n_chunks)
{
	uint64_t size = (n_chunks + 1u) * sizeof(struct svm_soft_chunk) +
			svm_soft_n_heads(n_chunks) * sizeof(uint32_t);

	return (size + SVM_PAGE_SIZE - 1u) & ~(uint64_t)(SVM_PAGE_SIZE - 1u);
}

static inline uint64_t svm_soft_home_size(uint32_t n_chunks)
{
	return n_chunks * (uint64_t)SVM_BLOCK_SIZE + svm_soft_table_size(n_chunks);
}

/* Where a thread of the process runs: memory of a thread that the library had before the fork. */
struct svm_soft_thread {
	uint64_t tls;	   /* thread pointer */
	uint64_t tid_addr; /* where the C library keeps the thread's id; 0: not known */
	uint64_t stack_top;
};

/* What the process starts with; borrowed for the start of it. The fds are the
 * library's numbers, inherited. */
struct svm_soft_proc_args {
	uint64_t own_base;
	uint64_t window_base;
	uint64_t window_size;
	uint64_t home_base;
	uint32_t n_chunks;
	uint32_t n_engines;
	uint32_t faults;
	int ctl_fd;
	int memory_fd;
	int host_fd; /* -1: none */
	int event_fd;
	int fault_fd;
	int sync_fd;   /* eventfd: started, or a SYNC command is done */
	int parent_fd; /* pidfd of the library's process */
	int life_fd; /* read end of a pipe that only the library's process can hold open over exec */
	struct svm_soft_thread threads[SVM_SOFT_N_STACKS];
};

/* Body of the process: the only thread when called, on the initial stack, all signals blocked. */
_Noreturn void svm_soft_proc_run(const struct svm_soft_proc_args *args);

/* Wait while *word is value, and wake one or all who do. Shared between processes; the caller looks
 * at *word again whatever the result, so errors (EAGAIN, EINTR) need no other care. */
static inline void svm_soft_futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	(void)syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static inline void svm_soft_futex_wake(_Atomic uint32_t *word, int n)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);
}

#endif
