// SPDX-License-Identifier: MIT
/*
 * System calls of the threads that serve, per lone fault and per 2 MiB block that streams back from a
 * device, counted one by one: a workload runs in a child process, and this process follows all threads of
 * it but the one that touches, with ptrace(). (Slow, which is no matter for a count.)
 */
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Linux 5.3, include/uapi/linux/ptrace.h; the C library has the types, with names of its own. */
#define GET_SYSCALL_INFO 0x420e
#define INFO_ENTRY	 1u
struct syscall_info {
	uint8_t op;
	uint8_t pad[3];
	uint32_t arch;
	uint64_t instruction_pointer;
	uint64_t stack_pointer;
	uint64_t nr;
	uint64_t args[6];
	uint64_t more[2];
};

#define MAX_NR 512u

/* Between the child that works and this process. */
struct shared {
	atomic_int ready;    /* child: set up, follow my threads */
	atomic_int attached; /* here: they are followed */
	atomic_int counting; /* child: now */
};

static struct shared *shared;

struct counts {
	uint64_t n[MAX_NR];
};

static void nap(void)
{
	const struct timespec ms = { .tv_nsec = 1000000 };

	(void)nanosleep(&ms, NULL);
}

/* ---- In the child ---- */

/* Set up before, counted between, torn down after. */
static void counted(void (*work)(char *map, uint64_t n, uint64_t step), char *map, uint64_t n,
		    uint64_t step)
{
	atomic_store(&shared->ready, 1);
	while (!atomic_load(&shared->attached))
		nap();
	atomic_store(&shared->counting, 1);
	work(map, n, step);
	nap(); /* what was started is finished */
	atomic_store(&shared->counting, 0);
}

static void touch_steps(char *map, uint64_t n, uint64_t step)
{
	for (uint64_t i = 0; i < n; i++)
		*(volatile uint64_t *)(map + i * step) = i;
}

static void read_steps(char *map, uint64_t n, uint64_t step)
{
	(void)bench_read_pages(map, n * step);
}

static void raw_faults(enum bench_storage storage, uint64_t n)
{
	struct bench_raw *raw = bench_raw_start(storage, n * PAGE, -1, 0);

	counted(touch_steps, bench_raw_memory(raw), n, PAGE);
	bench_raw_stop(raw);
}

static void own_faults(enum bench_storage storage, uint64_t n)
{
	struct svm_space *space = bench_space(NULL);

	counted(touch_steps, bench_alloc_unmapped(space, storage, n * PAGE), n, PAGE);
	bench_check(svm_space_destroy(space), "cannot destroy a space");
}

static void own_stream(enum bench_storage storage, uint64_t n)
{
	struct svm_space *space = bench_space(NULL);
	struct svm_device *device = bench_device(space, n * BLOCK, "");
	char *map = bench_alloc(space, storage, n * BLOCK);

	bench_touch(map, n * BLOCK);
	bench_prefetch(space, map, n * BLOCK, svm_device_location(device));
	counted(read_steps, map, n, BLOCK);
	bench_check(svm_space_destroy(space), "cannot destroy a space");
}

static void own_first_touch(enum bench_storage storage, uint64_t n)
{
	struct svm_space *space = bench_space(NULL);

	counted(touch_steps, bench_alloc(space, storage, n * BLOCK), n, BLOCK);
	bench_check(svm_space_destroy(space), "cannot destroy a space");
}

/* ---- Following ---- */

static void follow_thread(pid_t tid)
{
	int status;

	bench_check_errno(ptrace(PTRACE_SEIZE, tid, NULL, (void *)PTRACE_O_TRACESYSGOOD),
			  "syscalls: cannot follow a thread (ptrace)");
	bench_check_errno(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL), "syscalls: ptrace");
	bench_check_errno(waitpid(tid, &status, __WALL), "syscalls: waitpid");
	bench_check_errno(ptrace(PTRACE_SYSCALL, tid, NULL, NULL), "syscalls: ptrace");
}

static void follow(pid_t child)
{
	const struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)child);
	dir = opendir(path);
	if (!dir)
		bench_fail(errno, path);
	while ((entry = readdir(dir)) != NULL) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (tid > 0 && tid != child)
			follow_thread(tid);
	}
	closedir(dir);
}

static void count_stop(pid_t tid, struct counts *counts)
{
	struct syscall_info info = { 0 };

	if (!atomic_load(&shared->counting))
		return;
	bench_check_errno(ptrace(GET_SYSCALL_INFO, tid, (void *)sizeof(info), &info),
			  "syscalls: ptrace");
	if (info.op == INFO_ENTRY && info.nr < MAX_NR)
		counts->n[info.nr]++;
}

/* Until the child has ended. */
static void follow_to_end(pid_t child, struct counts *counts)
{
	for (;;) {
		int status;
		pid_t tid = waitpid(-1, &status, __WALL);
		int signal = 0;

		bench_check_errno(tid, "syscalls: waitpid");
		if (!WIFSTOPPED(status)) {
			if (tid != child)
				continue;
			if (!WIFEXITED(status) || WEXITSTATUS(status))
				bench_fail(EIO, "syscalls: the child failed");
			return;
		}
		if (WSTOPSIG(status) == (SIGTRAP | 0x80))
			count_stop(tid, counts);
		else if (status >> 16 == 0)
			signal = WSTOPSIG(status);
		/* A thread may have died meanwhile. */
		(void)ptrace(PTRACE_SYSCALL, tid, NULL, (void *)(uintptr_t)signal);
	}
}

static void count(void (*work)(enum bench_storage storage, uint64_t n), enum bench_storage storage,
		  uint64_t n, struct counts *ret_counts)
{
	pid_t child;

	memset(ret_counts, 0, sizeof(*ret_counts));
	memset(shared, 0, sizeof(*shared));
	child = fork();
	bench_check_errno(child, "fork");
	if (child == 0) {
		alarm(60);
		work(storage, n);
		_exit(EXIT_SUCCESS);
	}
	while (!atomic_load(&shared->ready)) {
		if (waitpid(child, NULL, WNOHANG) != 0)
			bench_fail(EIO, "syscalls: the child failed");
		nap();
	}
	follow(child);
	atomic_store(&shared->attached, 1);
	follow_to_end(child, ret_counts);
}

/* ---- Figures ---- */

static uint64_t reads(const struct counts *counts)
{
	return counts->n[SYS_read] + counts->n[SYS_readv] + counts->n[SYS_pread64];
}

/* What gets or changes memory. */
static uint64_t memory_calls(const struct counts *counts)
{
	return counts->n[SYS_mmap] + counts->n[SYS_munmap] + counts->n[SYS_mremap] +
	       counts->n[SYS_brk] + counts->n[SYS_madvise] + counts->n[SYS_mprotect] +
	       counts->n[SYS_fallocate];
}

static uint64_t total(const struct counts *counts)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < MAX_NR; i++)
		sum += counts->n[i];
	return sum;
}

static void report(const char *what, enum bench_storage storage, const char *which, uint64_t own,
		   double raw, uint64_t n, enum bench_rule rule, double limit)
{
	char name[64];

	snprintf(name, sizeof(name), "syscalls.%s.%s.%s", what, bench_storage_name(storage), which);
	bench_figure(name, "calls", (double)own / (double)n, raw / (double)n, rule, limit);
}

static void measure_faults(enum bench_storage storage, uint64_t n)
{
	struct counts own;
	struct counts raw;

	count(raw_faults, storage, n, &raw);
	count(own_faults, storage, n, &own);
	report("fault", storage, "read", reads(&own), (double)reads(&raw), n, BENCH_VALUE_MAX, 1);
	report("fault", storage, "ioctl", own.n[SYS_ioctl], (double)raw.n[SYS_ioctl], n,
	       BENCH_VALUE_MAX, 1);
	report("fault", storage, "memory", memory_calls(&own), (double)memory_calls(&raw), n,
	       BENCH_VALUE_MAX, 0);
	report("fault", storage, "all", total(&own), (double)total(&raw), n, BENCH_INFO, 0);
}

static void measure_blocks(const char *what, void (*work)(enum bench_storage storage, uint64_t n),
			   enum bench_storage storage, uint64_t n)
{
	struct counts own;

	count(work, storage, n, &own);
	report(what, storage, "read", reads(&own), NAN, n, BENCH_INFO, 0);
	report(what, storage, "ioctl", own.n[SYS_ioctl], NAN, n, BENCH_INFO, 0);
	report(what, storage, "memory", memory_calls(&own), NAN, n, BENCH_INFO, 0);
	report(what, storage, "all", total(&own), NAN, n, BENCH_INFO, 0);
}

void bench_syscalls(const struct bench *bench)
{
	uint64_t n_faults = 2048 / bench->shrink;
	uint64_t n_blocks = 64 / bench->shrink;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		bench_fail(errno, "mmap");
	for (int storage = BENCH_PRIVATE; storage <= BENCH_SHARED; storage++) {
		measure_faults((enum bench_storage)storage, n_faults);
		measure_blocks("stream", own_stream, (enum bench_storage)storage, n_blocks);
		measure_blocks("touch", own_first_touch, (enum bench_storage)storage, n_blocks);
	}
	munmap(shared, sizeof(*shared));
}
