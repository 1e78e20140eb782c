// SPDX-License-Identifier: MIT
#include "fixture.h"

#include "arena.h"
#include "emu/emu_ctl.h"
#include "sys.h"
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define NS_PER_S UINT64_C(1000000000)
/* The kernel may still be busy with the end of a thread, a process or a ring that we have seen the end of. */
#define SETTLE_NS (2u * NS_PER_S)

/* Devices start threads in a fork of this process, which has threads itself. */
const char *__tsan_default_options(
	void); // NOLINT(bugprone-reserved-identifier): the sanitizer's name
const char *__tsan_default_options(void) // NOLINT(bugprone-reserved-identifier)
{
	return "die_after_fork=0";
}

/*
 * The library maps other storage over a user view while the application may touch it: the kernel makes the touch wait
 * as a fault, an order that the sanitizer cannot see. It takes mmap() for a write of all the bytes.
 */
const char *__tsan_default_suppressions(
	void); // NOLINT(bugprone-reserved-identifier): the sanitizer's name
const char *__tsan_default_suppressions(void) // NOLINT(bugprone-reserved-identifier)
{
	return "race:svm_host_map_shared\n"
	       "race:svm_host_reset\n";
}

bool fixture_sanitized(void)
{
	return SANITIZED;
}

unsigned int fixture_slower(void)
{
	static unsigned int slower;
	const char *given = getenv("SVM_TEST_SLOWER");
	unsigned long n = given ? strtoul(given, NULL, 10) : 1;

	if (!slower)
		slower = n >= 1 && n <= 1000 ? (unsigned int)n : 1;
	return slower;
}

unsigned int fixture_quick(void)
{
	const char *given = getenv("SVM_TEST_QUICK");

	return given && (given[0] == '1' || given[0] == '2') && !given[1]
		       ? (unsigned int)(given[0] - '0')
		       : 0;
}

unsigned int fixture_next_failure(unsigned int nth)
{
	return fixture_quick() == 2 ? 8 * nth + 2 : nth + 1;
}

static struct svm_sys slow_sys;

static uint64_t slow_clock_ns(void)
{
	return svm_sys_real.clock_ns() / fixture_slower();
}

void fixture_slow_clock(void)
{
	slow_sys = *svm_sys;
	slow_sys.clock_ns = slow_clock_ns;
	svm_sys = &slow_sys;
}

/* It is seen by what it preloads. */
bool fixture_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload && strstr(preload, "vgpreload");
}

/* ---- What glibc keeps ------------------------------------------------------------------------- */

#define TUNABLES "glibc.pthread.stack_cache_size=0:glibc.malloc.arena_max=1"

#if !SANITIZED
/*
 * glibc keeps stacks of threads that have ended, and gives threads heaps of their own: mappings that come and go
 * without a leak. Both can be switched off at the start of a program only. Not under valgrind, which would not follow.
 */
static __attribute__((constructor)) void start_without_caches(int argc, char **argv, char **envp)
{
	const char *tunables = getenv("GLIBC_TUNABLES");
	char all[512];

	(void)argc;
	(void)envp;
	if (fixture_valgrind())
		return;
	if (tunables && strstr(tunables, TUNABLES))
		return;
	(void)snprintf(all, sizeof(all), "%s%s%s", tunables ? tunables : "", tunables ? ":" : "",
		       TUNABLES);
	if (setenv("GLIBC_TUNABLES", all, 1) == 0)
		(void)execv("/proc/self/exe", argv);
	perror("fixture: cannot start again without the caches of glibc");
	_exit(99);
}
#endif

/* ---- Malloc guard ----------------------------------------------------------------------------- */

#if !SANITIZED
/* glibc's own, under its other names (malloc/malloc.c). */
void *__libc_malloc(size_t size);	      // NOLINT(bugprone-reserved-identifier)
void *__libc_calloc(size_t n, size_t size);   // NOLINT(bugprone-reserved-identifier)
void *__libc_realloc(void *old, size_t size); // NOLINT(bugprone-reserved-identifier)
void __libc_free(void *old);		      // NOLINT(bugprone-reserved-identifier)

static void check_service(const char *what)
{
	static const char rest[] = "() in the service path, which must not allocate\n";
	struct iovec line[] = {
		{ (void *)what, strlen(what) },
		{ (void *)rest, sizeof(rest) - 1 },
	};

	/* The end of an emulated queue is the end of a thread, for which glibc frees; by an ioctl or a close. */
	if (svm_service_depth == 0 || (emu_ctl_at_work && emu_ctl_at_work()))
		return;
	svm_service_depth = 0;
	(void)!writev(STDERR_FILENO, line, 2);
	abort();
}

// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): the C library's are reserved
void *malloc(size_t size)
{
	check_service("malloc");
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	check_service("calloc");
	return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	check_service("realloc");
	return __libc_realloc(old, size);
}

void free(void *old)
{
	if (old)
		check_service("free");
	__libc_free(old);
}
// NOLINTEND(readability-inconsistent-declaration-parameter-name)
#endif

/* ---- Tables ----------------------------------------------------------------------------------- */

#define VISIBLE(rest) rest ":visible=on", rest ":visible=off"
#define PEER(rest)    VISIBLE(rest ":peer=on"), VISIBLE(rest ":peer=off")
#define RO(rest)      PEER(rest ":readonly=on"), PEER(rest ":readonly=off")
#define HOST(rest)    RO(rest ":host=alias"), RO(rest ":host=none")

const char *fixture_devices[FIXTURE_MAX_DEVICES] = {
	HOST("soft:memory=16M:faults=on"),
	HOST("soft:memory=16M:faults=off"),
};
unsigned int fixture_n_devices = 32;

static __attribute__((constructor)) void read_devices(void)
{
	static char names[1024];
	const char *given = getenv("SVM_TEST_DEVICES");
	char *save = NULL;

	if (!given)
		return;
	fixture_n_devices = 0;
	(void)snprintf(names, sizeof(names), "%s", given);
	for (char *name = strtok_r(names, " ", &save);
	     name && fixture_n_devices < FIXTURE_MAX_DEVICES; name = strtok_r(NULL, " ", &save))
		fixture_devices[fixture_n_devices++] = name;
	if (fixture_n_devices == 0 || strlen(given) >= sizeof(names)) {
		(void)fprintf(stderr, "fixture: SVM_TEST_DEVICES: no names, or too long\n");
		_exit(2);
	}
}

bool fixture_soft(void)
{
	return strncmp(fixture_devices[0], "soft", 4) == 0;
}

const struct svm_fixture_variant fixture_variants[] = {
	{ .name = "default" },
	{ .name = "no_move", .flags = SVM_SPACE_NO_MOVE },
	{ .name = "no_huge_pages", .flags = SVM_SPACE_NO_HUGE_PAGES },
	{ .name = "default_shared", .flags = SVM_SPACE_DEFAULT_SHARED },
	{ .name = "user_mode_only", .flags = SVM_SPACE_USER_MODE_ONLY },
	{ .name = "no_poison", .flags = SVM_SPACE_NO_POISON },
	{ .name = "no_move_no_huge_pages", .flags = SVM_SPACE_NO_MOVE | SVM_SPACE_NO_HUGE_PAGES },
	{ .name = "least",
	  .flags = SVM_SPACE_USER_MODE_ONLY | SVM_SPACE_NO_MOVE | SVM_SPACE_NO_POISON |
		   SVM_SPACE_NO_HUGE_PAGES,
	  .loop = SVM_LOOP_EPOLL },
	{ .name = "epoll", .loop = SVM_LOOP_EPOLL },
	{ .name = "io_uring", .loop = SVM_LOOP_IO_URING },
	{ .name = "epoll_3_threads", .loop = SVM_LOOP_EPOLL, .n_threads = 3 },
	{ .name = "io_uring_3_threads", .loop = SVM_LOOP_IO_URING, .n_threads = 3 },
	{ .name = "default_shared_3_threads", .flags = SVM_SPACE_DEFAULT_SHARED, .n_threads = 3 },
};
const unsigned int fixture_n_variants = sizeof(fixture_variants) / sizeof(fixture_variants[0]);

/* Those of the quick form, as indices: all, faults but nothing else, no faults, nothing. */
static const unsigned int quick_devices[] = { 0, FIXTURE_MAX_DEVICES / 2 - 1,
					      FIXTURE_MAX_DEVICES / 2, FIXTURE_MAX_DEVICES - 1 };
/* Those of the quickest: both kinds of storage, the oldest kernel, both loops, one thread and more. */
static const char *const quickest_variants[] = { "default", "default_shared", "least",
						 "io_uring_3_threads" };

/* The variant of what does not run over all. */
static const struct svm_fixture_variant *default_variant(void)
{
	const char *name = getenv("SVM_TEST_VARIANT");

	if (!name)
		return &fixture_variants[0];
	for (unsigned int i = 0; i < fixture_n_variants; i++)
		if (strcmp(fixture_variants[i].name, name) == 0)
			return &fixture_variants[i];
	(void)fprintf(stderr, "fixture: SVM_TEST_VARIANT=%s is none of the variants\n", name);
	_exit(2);
}

/* ---- Counting --------------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static _Noreturn void give_up(const char *what)
{
	(void)fprintf(stderr, "fixture: %s: %s\n", what, strerror(errno));
	abort();
}

/* The numbers that are names in a directory of /proc, in the order of the directory. */
static unsigned int read_numbers(const char *path, int *numbers, unsigned int room)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	unsigned int n = 0;

	if (!dir)
		give_up(path);
	while ((entry = readdir(dir)) != NULL) {
		char *end;
		long number = strtol(entry->d_name, &end, 10);

		if (*end || number == dirfd(dir))
			continue;
		if (n == room)
			give_up("too many to count");
		numbers[n++] = (int)number;
	}
	(void)closedir(dir);
	return n;
}

/* All of a file, as a string that lives until the next call. */
static char *read_whole(const char *path)
{
	static char text[1u << 20];
	size_t n = 0;
	ssize_t r;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	while ((r = read(fd, text + n, sizeof(text) - 1 - n)) != 0) {
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 || (n += (size_t)r) == sizeof(text) - 1)
			break;
	}
	(void)close(fd);
	text[n] = '\0';
	return r < 0 ? NULL : text;
}

/* Mappings that change without anybody's fault. */
static bool is_fluid(const char *name)
{
	static const char *const kernels[] = { "[heap]", "[stack]",    "[vdso]",
					       "[vvar",	 "[vsyscall]", "[uprobes]" };

	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++)
		if (strncmp(name, kernels[i], strlen(kernels[i])) == 0)
			return true;
	if (strstr(name, ".so") || strstr(name, "/locale"))
		return true;
	/* Sanitizers map anonymous memory and name it. */
	return (SANITIZED || fixture_valgrind()) && (name[0] == '\0' || name[0] == '[');
}

static void count_maps(struct svm_fixture_count *count)
{
	char *save = NULL;
	char *text = read_whole("/proc/self/maps");

	if (!text)
		give_up("/proc/self/maps");
	count->n_maps = 0;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct svm_fixture_map map;
		int name = 0;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*s %*s %*s %n", &map.start, &map.end,
			   &name) != 2)
			give_up("a line of /proc/self/maps");
		if (is_fluid(line + name))
			continue;
		if (count->n_maps && count->maps[count->n_maps - 1].end == map.start) {
			count->maps[count->n_maps - 1].end = map.end;
			continue;
		}
		if (count->n_maps == FIXTURE_MAX_MAPS)
			give_up("too many mappings to compare");
		count->maps[count->n_maps++] = map;
	}
}

/* Not every kernel has /proc/PID/task/TID/children. */
static unsigned int find_children(int *kids, unsigned int room)
{
	static int all[65536];
	siginfo_t info;
	unsigned int n = 0;
	unsigned int n_all;

	if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 && errno == ECHILD)
		return 0;
	n_all = read_numbers("/proc", all, sizeof(all) / sizeof(all[0]));
	for (unsigned int i = 0; i < n_all; i++) {
		const char *text;
		const char *after;
		char path[64];
		int parent;

		(void)snprintf(path, sizeof(path), "/proc/%d/stat", all[i]);
		text = read_whole(path);
		after = text ? strrchr(text, ')') : NULL;
		if (!after || sscanf(after, ") %*c %d", &parent) != 1 || parent != getpid())
			continue;
		/* Names functions for the sanitizer, which starts it when it wants the first one. */
		if (SANITIZED && strstr(text, "(llvm-symbolizer)"))
			continue;
		if (n == room)
			give_up("too many children to count");
		kids[n++] = all[i];
	}
	return n;
}

/* A thread of the kernel's that io_uring keeps in the process for 5 s after its last work (io_uring/io-wq.c,
 * WORKER_IDLE_TIMEOUT), whatever became of the ring. */
static bool is_io_worker(int thread)
{
	char path[64];
	const char *name;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/comm", thread);
	name = read_whole(path);
	return name && strncmp(name, "iou-wrk-", 8) == 0;
}

/* Of two a sanitizer's symbolizer is at the other end. */
static bool is_pipe(int fd)
{
	char path[64];
	char name[16] = "";

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, name, sizeof(name) - 1) > 0 && strncmp(name, "pipe:", 5) == 0;
}

static void count_all(struct svm_fixture_count *count)
{
	unsigned int n;

	n = read_numbers("/proc/self/fd", count->fds, FIXTURE_MAX_FDS);
	count->n_fds = 0;
	for (unsigned int i = 0; i < n; i++)
		if (!(SANITIZED && is_pipe(count->fds[i])))
			count->fds[count->n_fds++] = count->fds[i];
	n = read_numbers("/proc/self/task", count->threads, FIXTURE_MAX_THREADS);
	count->n_threads = 0;
	for (unsigned int i = 0; i < n; i++)
		if (!is_io_worker(count->threads[i]))
			count->threads[count->n_threads++] = count->threads[i];
	count->n_kids = find_children(count->kids, FIXTURE_MAX_KIDS);
	count_maps(count);
}

static bool is_among(int number, const int *numbers, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		if (numbers[i] == number)
			return true;
	return false;
}

/* A number, with what a link of that name in /proc points to. */
static void say_link(const char *what, const char *directory, int number)
{
	char path[64];
	char name[256];
	ssize_t r;

	(void)snprintf(path, sizeof(path), "%s/%d", directory, number);
	r = readlink(path, name, sizeof(name) - 1);
	name[r < 0 ? 0 : r] = '\0';
	(void)fprintf(stderr, "leak: %s %d (%s)\n", what, number, name);
}

/* A number, with the first line of a file below it in /proc. */
static void say_line(const char *what, const char *directory, int number, const char *file)
{
	char path[64];
	const char *text;

	(void)snprintf(path, sizeof(path), "%s/%d/%s", directory, number, file);
	text = read_whole(path);
	text = text ? text : "?";
	(void)fprintf(stderr, "%s %d (%.*s)\n", what, number, (int)strcspn(text, "\n"), text);
}

/* How many parts of [start, end) were not mapped before. */
static unsigned int new_maps(const struct svm_fixture_count *before, uint64_t start, uint64_t end,
			     bool say)
{
	unsigned int n = 0;
	unsigned int i = 0;

	while (start < end) {
		uint64_t stop = end;

		while (i < before->n_maps && before->maps[i].end <= start)
			i++;
		if (i < before->n_maps && before->maps[i].start <= start) {
			start = before->maps[i].end;
			continue;
		}
		if (i < before->n_maps && before->maps[i].start < end)
			stop = before->maps[i].start;
		n++;
		if (say)
			(void)fprintf(stderr,
				      "leak: mapping %" PRIx64 "-%" PRIx64 " (%" PRIu64 " KiB)\n",
				      start, stop, (stop - start) >> 10);
		start = stop;
	}
	return n;
}

/* The line of /proc/self/maps at an address. */
static void say_mapping(uint64_t addr)
{
	char *save = NULL;
	char *text = read_whole("/proc/self/maps");

	for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save)) {
		uint64_t start;
		uint64_t end;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2 && start <= addr &&
		    addr < end)
			(void)fprintf(stderr, "      which starts as %s\n", line);
	}
}

static unsigned int compare(const struct svm_fixture_count *before,
			    const struct svm_fixture_count *now, bool say)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < now->n_fds; i++) {
		if (is_among(now->fds[i], before->fds, before->n_fds))
			continue;
		n++;
		if (say)
			say_link("fd", "/proc/self/fd", now->fds[i]);
	}
	for (unsigned int i = 0; i < before->n_fds; i++) {
		if (is_among(before->fds[i], now->fds, now->n_fds))
			continue;
		n++;
		if (say)
			(void)fprintf(stderr, "fd %d was closed, and it was not the test's own\n",
				      before->fds[i]);
	}
	for (unsigned int i = 0; i < now->n_threads; i++) {
		if (is_among(now->threads[i], before->threads, before->n_threads))
			continue;
		n++;
		if (say)
			say_line("leak: thread", "/proc/self/task", now->threads[i], "comm");
	}
	for (unsigned int i = 0; i < now->n_kids; i++) {
		if (is_among(now->kids[i], before->kids, before->n_kids))
			continue;
		n++;
		if (say)
			say_line("leak: process", "/proc", now->kids[i], "stat");
	}
	for (unsigned int i = 0; i < now->n_maps; i++) {
		unsigned int found = new_maps(before, now->maps[i].start, now->maps[i].end, say);

		n += found;
		if (found && say)
			say_mapping(now->maps[i].start);
	}
	return n;
}

unsigned long fixture_huge_kb(uint64_t addr, uint64_t size)
{
	char line[512];
	unsigned long sum = 0;
	bool inside = false;
	FILE *file = fopen("/proc/self/smaps", "re");

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		uint64_t start;
		uint64_t end;
		unsigned long kb;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2)
			inside = start < addr + size && end > addr;
		else if (inside && sscanf(line, "AnonHugePages: %lu kB", &kb) == 1)
			sum += kb;
	}
	fclose(file);
	return sum;
}

unsigned int fixture_leaks(struct svm_fixture *f)
{
	/* Asleep between looks: on one CPU the kernel's work waits for ours. */
	static const struct timespec pause = { .tv_nsec = 200000 };
	static struct svm_fixture_count now;
	uint64_t deadline = now_ns() + fixture_slower() * SETTLE_NS;

	for (;;) {
		count_all(&now);
		if (compare(&f->before, &now, false) == 0)
			return 0;
		if (now_ns() > deadline)
			return compare(&f->before, &now, true);
		(void)nanosleep(&pause, NULL);
	}
}

void fixture_recount(struct svm_fixture *f)
{
	count_all(&f->before);
}

/* ---- Watchdog --------------------------------------------------------------------------------- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	const char *test;
	uint64_t deadline; /* 0: it may end */
	unsigned int seconds;
	bool is_up;
} dog = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Where each thread is: a hang is easier to understand with that. */
static void say_threads(void)
{
	static int threads[FIXTURE_MAX_THREADS];
	unsigned int n = read_numbers("/proc/self/task", threads, FIXTURE_MAX_THREADS);

	for (unsigned int i = 0; i < n; i++) {
		say_line("thread", "/proc/self/task", threads[i], "comm");
		say_line("      waits in", "/proc/self/task", threads[i], "wchan");
	}
}

static void *watch(void *arg)
{
	(void)pthread_mutex_lock(&dog.lock);
	dog.is_up = true;
	(void)pthread_cond_signal(&dog.changed);
	while (dog.deadline) {
		struct timespec until = {
			.tv_sec = (time_t)(dog.deadline / NS_PER_S),
			.tv_nsec = (long)(dog.deadline % NS_PER_S),
		};

		if (now_ns() < dog.deadline) {
			(void)pthread_cond_timedwait(&dog.changed, &dog.lock, &until);
			continue;
		}
		(void)fprintf(stderr, "watchdog: %s takes longer than %u s\n", dog.test,
			      dog.seconds);
		say_threads();
		abort();
	}
	(void)pthread_mutex_unlock(&dog.lock);
	return arg;
}

void fixture_watchdog(unsigned int seconds)
{
	(void)pthread_mutex_lock(&dog.lock);
	dog.seconds = (SANITIZED || fixture_valgrind() ? 4 * seconds : seconds) * fixture_slower();
	dog.deadline = seconds ? now_ns() + dog.seconds * NS_PER_S : 0;
	(void)pthread_cond_signal(&dog.changed);
	(void)pthread_mutex_unlock(&dog.lock);
}

static void start_watchdog(const char *test)
{
	pthread_condattr_t attr;
	sigset_t all;
	sigset_t old;

	dog.test = test;
	if (pthread_condattr_init(&attr) || pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) ||
	    pthread_cond_init(&dog.changed, &attr))
		give_up("watchdog");
	(void)pthread_condattr_destroy(&attr);
	fixture_watchdog(FIXTURE_TIMEOUT);
	dog.is_up = false;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&dog.thread, NULL, watch, NULL))
		give_up("watchdog");
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	/* Asleep, not half way into its start: a test may fork, and the child must not find a sanitizer's locks taken. */
	(void)pthread_mutex_lock(&dog.lock);
	while (!dog.is_up)
		(void)pthread_cond_wait(&dog.changed, &dog.lock);
	(void)pthread_mutex_unlock(&dog.lock);
}

static void stop_watchdog(void)
{
	fixture_watchdog(0);
	(void)pthread_join(dog.thread, NULL);
	(void)pthread_cond_destroy(&dog.changed);
}

/* ---- Setup and teardown ----------------------------------------------------------------------- */

/* One test of fixture_main(): cmocka's initial state. */
struct instance {
	const struct svm_fixture_case *what;
	const char *device;
	const struct svm_fixture_variant *variant;
	char name[FIXTURE_NAME];
};

static struct svm_fixture fixture;

static uint64_t program_seed(void)
{
	static uint64_t seed;
	const char *given = getenv("SVM_TEST_SEED");

	if (seed)
		return seed;
	seed = given ? strtoull(given, NULL, 0)
		     : (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();
	seed = seed ? seed : 1;
	/* Not to stdout: what is said there before a skip is its reason. */
	(void)fprintf(stderr, "seed %" PRIu64 " (SVM_TEST_SEED=%" PRIu64 " repeats it)\n", seed,
		      seed);
	if (SANITIZED)
		(void)fputs(
			"fixture: under sanitizers malloc is not guarded and only mapped files are compared\n",
			stderr);
	return seed;
}

uint64_t fixture_random(struct svm_fixture *f)
{
	f->random += UINT64_C(0x9e3779b97f4a7c15);
	return fixture_word(f->seed, f->random) ^ fixture_word(f->seed + 1u, f->random) << 1;
}

int fixture_setup(void **state)
{
	const struct instance *instance = *state;
	struct svm_fixture *f = &fixture;

	*f = (struct svm_fixture){ .seed = program_seed(),
				   .test = instance ? instance->name : "a test",
				   .device = instance ? instance->device : fixture_devices[0],
				   .variant = instance ? instance->variant : default_variant() };
	f->scratch = mmap(NULL, FIXTURE_SCRATCH, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			  -1, 0);
	if (f->scratch == MAP_FAILED)
		return -1;
	start_watchdog(f->test);
	count_all(&f->before);
	*state = f;
	return 0;
}

int fixture_teardown(void **state)
{
	struct svm_fixture *f = *state;
	unsigned int n_leaks;
	int r = 0;

	if (f->space) {
		r = svm_space_destroy(f->space);
		if (r < 0)
			(void)fprintf(stderr, "fixture: svm_space_destroy: %s\n", strerror(-r));
		f->space = NULL;
	}
	if (svm_sys == &slow_sys)
		svm_sys = &svm_sys_real;
	n_leaks = fixture_leaks(f);
	stop_watchdog();
	(void)munmap(f->scratch, FIXTURE_SCRATCH);
	return r < 0 || n_leaks ? -1 : 0;
}

/* ---- Spaces and devices ----------------------------------------------------------------------- */

static void log_line(void *data, int level, const char *line)
{
	static char name[] = "log: ";
	static char end[] = "\n";
	struct iovec parts[] = {
		{ name, sizeof(name) - 1 },
		{ (void *)line, strlen(line) },
		{ end, 1 },
	};

	(void)data;
	(void)level;
	(void)!writev(STDERR_FILENO, parts, 3);
}

struct svm_space *fixture_space(struct svm_fixture *f, const struct svm_space_options *options)
{
	struct svm_space_options o = { .size = sizeof(o) };
	int r;

	assert_null(f->space);
	if (options)
		o = *options;
	o.size = sizeof(o);
	o.flags |= f->variant->flags;
	o.loop = o.loop ? o.loop : f->variant->loop;
	o.n_threads = o.n_threads ? o.n_threads : f->variant->n_threads;
	if (!o.log) {
		o.log = log_line;
		o.log_level = SVM_LOG_WARN;
	}
	r = svm_space_create(&o, &f->space);
	if (r == -EOPNOTSUPP && o.loop == SVM_LOOP_IO_URING) {
		print_message("io_uring is denied here\n");
		skip();
	}
	assert_int_equal(r, 0);
	return f->space;
}

bool fixture_space_has(struct svm_fixture *f, uint32_t caps)
{
	struct svm_space_info info = { .size = sizeof(info) };

	assert_int_equal(svm_space_query(f->space, &info), 0);
	return (info.caps & caps) == caps;
}

int fixture_loss_signal(struct svm_fixture *f)
{
	return fixture_space_has(f, SVM_SPACE_CAP_POISON) ? SIGBUS : SIGSEGV;
}

void fixture_space_end(struct svm_fixture *f)
{
	struct svm_space *space = f->space;

	f->space = NULL;
	assert_int_equal(svm_space_destroy(space), 0);
}

/* How many devices of a backend there are. */
static size_t count_devices(struct svm_fixture *f, const char *backend, size_t length)
{
	struct svm_device_info infos[SVM_MAX_DEVICES + 1];
	size_t n = SVM_MAX_DEVICES + 1;
	size_t n_found = 0;

	for (size_t i = 0; i < n; i++)
		infos[i].size = sizeof(infos[i]);
	assert_int_equal(svm_device_enumerate(f->space, infos, &n), 0);
	for (size_t i = 0; i < n && i <= SVM_MAX_DEVICES; i++)
		n_found += strlen(infos[i].backend) == length &&
			   memcmp(infos[i].backend, backend, length) == 0;
	return n_found;
}

/* The keys that soft devices share with others. */
static bool is_common(const char *part)
{
	static const char *const keys[] = { "memory=", "host=", "copy=", "placement=" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (strncmp(part, keys[i], strlen(keys[i])) == 0)
			return true;
	return false;
}

/* A device of the backend under test that is as name says, as far as it can be. */
static void name_here(struct svm_fixture *f, const char *name, char *ret_name)
{
	const char *backend = fixture_devices[0];
	size_t length = strcspn(backend, ":");
	size_t n = count_devices(f, backend, length);
	int used;

	if (n == 0)
		fail_msg("no device of backend %.*s", (int)length, backend);
	used = snprintf(ret_name, FIXTURE_NAME, "%.*s:%zu", (int)length, backend,
			f->n_opened++ % n);
	for (const char *part = name; *part; part += *part == ':') {
		length = strcspn(part, ":");
		if (is_common(part))
			used += snprintf(ret_name + used, FIXTURE_NAME - (size_t)used, ":%.*s",
					 (int)length, part);
		assert_true(used < (int)FIXTURE_NAME);
		part += length;
	}
}

struct svm_device *fixture_open(struct svm_fixture *f, const char *name)
{
	struct svm_device *device = NULL;
	char here[FIXTURE_NAME];

	if (!fixture_soft()) {
		name_here(f, name, here);
		name = here;
	}
	assert_int_equal(svm_device_open(f->space, name, &device), 0);
	return device;
}

struct svm_device *fixture_open_with(struct svm_fixture *f, const char *more)
{
	char name[FIXTURE_NAME];
	size_t n = 0;
	const char *part = f->device;

	while (*part) {
		size_t length = strcspn(part, ":");
		size_t key = strcspn(part, "=:");
		const char *again = more;
		bool replaced = false;

		while (*again) {
			replaced |= part[key] == '=' && strncmp(again, part, key + 1) == 0;
			again += strcspn(again, ":");
			again += *again == ':';
		}
		assert_true(n + length + 2 < sizeof(name));
		if (!replaced) {
			memcpy(name + n, part, length);
			n += length;
			name[n++] = ':';
		}
		part += length;
		part += *part == ':';
	}
	assert_true(n + strlen(more) < sizeof(name));
	memcpy(name + n, more, strlen(more) + 1);
	return fixture_open(f, name);
}

bool fixture_has(struct svm_device *device, uint32_t caps)
{
	struct svm_device_info info = { .size = sizeof(info) };

	assert_int_equal(svm_device_query(device, &info), 0);
	return (info.caps & caps) == caps;
}

bool fixture_duplicates(struct svm_fixture *f, struct svm_device *device, const void *addr)
{
	return fixture_has(device, SVM_CAP_READ_ONLY) &&
	       (!(fixture_page(f, addr).flags & SVM_PAGE_SHARED) ||
		fixture_space_has(f, SVM_SPACE_CAP_SHARED_READ_ONLY));
}

void fixture_need(struct svm_device *device, uint32_t caps, const char *what)
{
	if (fixture_has(device, caps))
		return;
	print_message("the device has no %s\n", what);
	skip();
}

static void wedge(struct svm_device *device, bool on)
{
	void (*emu_ctl_wedge)(int device, bool on) = NULL;
	struct svm_device_info info = { .size = sizeof(info) };
	const char *which;

	*(void **)&emu_ctl_wedge = dlsym(RTLD_DEFAULT, "emu_ctl_wedge");
	if (!emu_ctl_wedge)
		fail_msg("only a soft or an emulated device can be made to die");
	assert_int_equal(svm_device_query(device, &info), 0);
	which = strchr(info.name, ':');
	assert_non_null(which);
	emu_ctl_wedge(atoi(which + 1), on);
}

void fixture_kill(struct svm_fixture *f, struct svm_device *device)
{
	struct svm_device_info info = { .size = sizeof(info) };
	struct svm_access_range range = { .size = FIXTURE_PAGE, .access = SVM_ACCESS_WRITE };
	struct svm_access *access;

	if (fixture_has(device, SVM_CAP_LAUNCH)) {
		assert_int_equal(svm_soft_kill(device), 0);
		return;
	}
	range.addr = fixture_alloc(f, FIXTURE_PAGE, 0);
	wedge(device, true);
	/* Nobody is told: the next call finds out. */
	do {
		if (svm_acquire(device, &range, 1, 0, &access, NULL) == 0)
			assert_int_equal(svm_release(access, NULL), 0);
		assert_int_equal(svm_device_query(device, &info), 0);
	} while (!info.is_lost);
	/* The emulator is to see everything given back. */
	wedge(device, false);
	fixture_free(f, range.addr);
}

void *fixture_alloc(struct svm_fixture *f, uint64_t size, uint32_t flags)
{
	void *addr = NULL;

	assert_int_equal(svm_alloc(f->space, size, flags, &addr), 0);
	return addr;
}

void fixture_free(struct svm_fixture *f, void *addr)
{
	assert_int_equal(svm_free(f->space, addr), 0);
}

struct svm_stats fixture_stats(struct svm_fixture *f)
{
	struct svm_stats stats = { .size = sizeof(stats) };

	assert_int_equal(svm_stats_query(f->space, &stats), 0);
	return stats;
}

unsigned int fixture_events(struct svm_fixture *f, enum svm_event_kind kind)
{
	struct svm_event events[64];
	uint64_t cursor = 0;
	unsigned int n_found = 0;
	int n;

	while ((n = svm_events_read(f->space, &cursor, events, 64, NULL)) > 0)
		for (int i = 0; i < n; i++)
			n_found += events[i].kind == kind;
	assert_int_equal(n, 0);
	return n_found;
}

struct svm_page_residency fixture_page(struct svm_fixture *f, const void *addr)
{
	struct svm_page_residency page;

	assert_int_equal(svm_residency_query(f->space, addr, 1, &page, 1, NULL), 0);
	return page;
}

void fixture_assert_at_(struct svm_fixture *f, const void *addr, uint64_t size, uint16_t devices,
			bool host, const char *file, int line)
{
	struct svm_page_residency pages[512];

	for (uint64_t done = 0; done < size;
	     done += sizeof(pages) / sizeof(pages[0]) * FIXTURE_PAGE) {
		uint64_t left = size - done;
		uint64_t part = left < FIXTURE_BLOCK ? left : FIXTURE_BLOCK;
		uint64_t n = (part + FIXTURE_PAGE - 1) / FIXTURE_PAGE;

		_assert_int_equal((LargestIntegralType)svm_residency_query(
					  f->space, (const char *)addr + done, part, pages, n,
					  NULL),
				  0, file, line);
		for (uint64_t i = 0; i < n; i++) {
			bool at_host = (pages[i].flags & SVM_PAGE_HOST) != 0;

			if (pages[i].devices == devices && at_host == host)
				continue;
			print_error("page %" PRIu64 " of the span: devices %x%s, expected %x%s\n",
				    done / FIXTURE_PAGE + i, pages[i].devices,
				    at_host ? " and host" : "", devices, host ? " and host" : "");
			_fail(file, line);
		}
	}
}

/* ---- Bytes ------------------------------------------------------------------------------------ */

#define WORDS (FIXTURE_PAGE / sizeof(uint64_t))

/* Patterns take most of the time of a test, and all that orders them is in the kernel. */
#define NOT_TRACKED __attribute__((no_sanitize("thread")))

NOT_TRACKED void fixture_fill(void *addr, uint64_t size, uint64_t pattern)
{
	uint64_t *words = addr;

	for (uint64_t i = 0; i < size / sizeof(*words); i++)
		words[i] = fixture_word(pattern, i);
}

NOT_TRACKED void fixture_check_(const void *addr, uint64_t size, uint64_t pattern, const char *file,
				int line)
{
	const uint64_t *words = addr;

	for (uint64_t i = 0; i < size / sizeof(*words); i++) {
		uint64_t found = words[i];

		if (found == fixture_word(pattern, i))
			continue;
		print_error("word %" PRIu64 " (page %" PRIu64 "): %" PRIx64 " instead of %" PRIx64
			    " of pattern %" PRIu64 "\n",
			    i, i / WORDS, found, fixture_word(pattern, i), pattern);
		_fail(file, line);
	}
}

NOT_TRACKED void fixture_check_zero_(const void *addr, uint64_t size, const char *file, int line)
{
	const uint64_t *words = addr;

	for (uint64_t i = 0; i < size / sizeof(*words); i++) {
		uint64_t found = words[i];

		if (!found)
			continue;
		print_error("word %" PRIu64 " (page %" PRIu64 "): %" PRIx64 " instead of zero\n", i,
			    i / WORDS, found);
		_fail(file, line);
	}
}

NOT_TRACKED void fixture_kernel_fill(const void *args, uint64_t index, uint64_t count)
{
	const struct svm_fixture_kernel *kernel = args;
	uint64_t *words = (uint64_t *)(kernel->addr + index * FIXTURE_PAGE);

	(void)count;
	for (uint64_t i = 0; i < WORDS; i++)
		words[i] = fixture_word(kernel->pattern, index * WORDS + i);
}

NOT_TRACKED void fixture_kernel_check(const void *args, uint64_t index, uint64_t count)
{
	const struct svm_fixture_kernel *kernel = args;
	const uint64_t *words = (const uint64_t *)(kernel->addr + index * FIXTURE_PAGE);
	uint64_t wrong = 0;

	(void)count;
	for (uint64_t i = 0; i < WORDS; i++)
		wrong += words[i] != fixture_word(kernel->pattern, index * WORDS + i);
	if (wrong)
		__atomic_fetch_add(kernel->wrong, wrong, __ATOMIC_RELAXED);
}

static int run_kernel(struct svm_device *device, void (*kernel)(const void *, uint64_t, uint64_t),
		      const struct svm_fixture_kernel *args, uint64_t size, uint32_t access)
{
	struct svm_access_range range = { .addr = (void *)args->addr,
					  .size = size,
					  .access = access };
	struct svm_access *held = NULL;
	int r = 0;

	if (!fixture_has(device, SVM_CAP_FAULTS))
		r = svm_acquire(device, &range, 1, 0, &held, NULL);
	if (r == 0)
		r = svm_soft_launch(device, kernel, args, sizeof(*args),
				    (size + FIXTURE_PAGE - 1) / FIXTURE_PAGE, NULL, NULL);
	assert_int_equal(svm_release(held, NULL), 0);
	return r;
}

/* What the patterns of a device without kernels go through. It stays on the host. */
static void *open_staging(struct svm_fixture *f)
{
	struct svm_advice advice = { .kind = SVM_ADVICE_PREFERRED_LOCATION,
				     .location = { .kind = SVM_LOCATION_HOST } };
	void *staging = fixture_alloc(f, FIXTURE_BLOCK, 0);

	assert_int_equal(svm_advise(f->space, staging, FIXTURE_BLOCK, &advice, 1, NULL), 0);
	return staging;
}

NOT_TRACKED static void fill_part(uint64_t *words, uint64_t size, uint64_t pattern, uint64_t first)
{
	for (uint64_t i = 0; i < size / sizeof(*words); i++)
		words[i] = fixture_word(pattern, first + i);
}

NOT_TRACKED static uint64_t check_part(const uint64_t *words, uint64_t size, uint64_t pattern,
				       uint64_t first)
{
	uint64_t n_wrong = 0;

	for (uint64_t i = 0; i < size / sizeof(*words); i++)
		n_wrong += words[i] != fixture_word(pattern, first + i);
	return n_wrong;
}

static int fill_by_engine(struct svm_fixture *f, struct svm_device *device, uint8_t *addr,
			  uint64_t size, uint64_t pattern)
{
	void *staging = open_staging(f);
	uint64_t part;
	int r = 0;

	for (uint64_t done = 0; r == 0 && done < size; done += part) {
		part = size - done < FIXTURE_BLOCK ? size - done : FIXTURE_BLOCK;
		fill_part(staging, part, pattern, done / sizeof(uint64_t));
		r = svm_device_copy(device, addr + done, staging, part, NULL, NULL);
	}
	fixture_free(f, staging);
	return r;
}

static int check_by_engine(struct svm_fixture *f, struct svm_device *device, const uint8_t *addr,
			   uint64_t size, uint64_t pattern, uint64_t *ret_wrong)
{
	void *staging = open_staging(f);
	uint64_t part;
	int r = 0;

	*ret_wrong = 0;
	for (uint64_t done = 0; r == 0 && done < size; done += part) {
		part = size - done < FIXTURE_BLOCK ? size - done : FIXTURE_BLOCK;
		r = svm_device_copy(device, staging, addr + done, part, NULL, NULL);
		if (r == 0)
			*ret_wrong += check_part(staging, part, pattern, done / sizeof(uint64_t));
	}
	fixture_free(f, staging);
	return r;
}

static uint64_t whole_pages(uint64_t size)
{
	return (size + FIXTURE_PAGE - 1) / FIXTURE_PAGE * FIXTURE_PAGE;
}

int fixture_try_fill_on(struct svm_fixture *f, struct svm_device *device, void *addr, uint64_t size,
			uint64_t pattern)
{
	struct svm_fixture_kernel args = { .addr = (uint64_t)addr, .pattern = pattern };

	if (!fixture_has(device, SVM_CAP_LAUNCH))
		return fill_by_engine(f, device, addr, whole_pages(size), pattern);
	return run_kernel(device, fixture_kernel_fill, &args, size, SVM_ACCESS_WRITE);
}

int fixture_try_check_on(struct svm_fixture *f, struct svm_device *device, const void *addr,
			 uint64_t size, uint64_t pattern, uint64_t *ret_wrong)
{
	struct svm_fixture_kernel args = { .addr = (uint64_t)addr,
					   .pattern = pattern,
					   .wrong = f->scratch };
	int r;

	if (!fixture_has(device, SVM_CAP_LAUNCH))
		return check_by_engine(f, device, addr, whole_pages(size), pattern, ret_wrong);
	*args.wrong = 0;
	r = run_kernel(device, fixture_kernel_check, &args, size, SVM_ACCESS_READ);
	*ret_wrong = *args.wrong;
	return r;
}

/* ---- Children --------------------------------------------------------------------------------- */

static _Noreturn void be_child(void (*body)(void *arg), void *arg, int error_fd)
{
	/* Those that cmocka catches, to jump back into a test that is not the child's. */
	static const int signals[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS, SIGABRT, SIGALRM };
	static const struct rlimit no_core;

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)signal(signals[i], SIG_DFL);
	(void)setrlimit(RLIMIT_CORE, &no_core);
	/* Before the watchdog: a child that hangs is one failed test. */
	(void)alarm((SANITIZED ? 4 : 1) * fixture_slower() * FIXTURE_TIMEOUT * 2 / 3);
	if (dup2(error_fd, STDERR_FILENO) < 0 || setenv("CMOCKA_TEST_ABORT", "1", 1))
		_exit(98);
	body(arg);
	_exit(0);
}

int fixture_in_child(void (*body)(void *arg), void *arg, char *text, size_t text_size)
{
	int status = 0;
	int pipe_fds[2];
	size_t n = 0;
	pid_t pid;
	char extra[512] = "";

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	(void)fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		be_child(body, arg, pipe_fds[1]);
	(void)close(pipe_fds[1]);
	for (;;) {
		bool room = text && n + 1 < text_size;
		ssize_t r = read(pipe_fds[0], room ? text + n : extra,
				 room ? text_size - 1 - n : sizeof(extra));

		if (r == 0 || (r < 0 && errno != EINTR))
			break;
		if (r > 0 && room)
			n += (size_t)r;
	}
	if (text)
		text[n] = '\0';
	(void)close(pipe_fds[0]);
	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	return status;
}

/* ---- Running ---------------------------------------------------------------------------------- */

#define MAX_TESTS 4096u

static void run_body(void **state)
{
	struct svm_fixture *f = *state;
	const struct instance *instance =
		(const struct instance *)(f->test - offsetof(struct instance, name));

	/* Before the test has anything that a skip would leave behind. */
	if (f->variant->loop == SVM_LOOP_IO_URING) {
		fixture_space(f, NULL);
		fixture_space_end(f);
	}
	if (!fixture_soft()) {
		const char *why = NULL;

		if (instance->what->over & FIXTURE_SOFT)
			why = "it launches kernels on soft devices or kills them";
		else if (instance->what->over & FIXTURE_EXACT)
			why = "it counts what moves, and staging memory would count";
		else if (instance->what->over & FIXTURE_ROOM && strstr(f->device, "host=none"))
			why = "it fills the device's memory, which staging memory needs some of";
		if (why) {
			print_message("%s\n", why);
			skip();
		}
	}
	instance->what->body(f);
}

static unsigned int n_tests;
static struct instance instances[MAX_TESTS];
static struct CMUnitTest tests[MAX_TESTS];

static void add_test(const struct svm_fixture_case *what, const char *device,
		     const struct svm_fixture_variant *variant)
{
	struct instance *instance = &instances[n_tests];
	const char *over = variant ? variant->name : device;

	if (n_tests == MAX_TESTS)
		give_up("too many tests");
	instance->what = what;
	instance->device = device ? device : fixture_devices[0];
	instance->variant = variant ? variant : default_variant();
	(void)snprintf(instance->name, sizeof(instance->name), "%s%s%s", what->name,
		       over ? "/" : "", over ? over : "");
	tests[n_tests++] = (struct CMUnitTest){
		.name = instance->name,
		.test_func = run_body,
		.setup_func = fixture_setup,
		.teardown_func = fixture_teardown,
		.initial_state = instance,
	};
}

static bool is_chosen(unsigned int device)
{
	if (!fixture_quick() || !fixture_soft())
		return true;
	if (fixture_quick() == 2)
		return device == 0 || device == FIXTURE_MAX_DEVICES - 1;
	for (unsigned int i = 0; i < sizeof(quick_devices) / sizeof(quick_devices[0]); i++)
		if (quick_devices[i] == device)
			return true;
	return false;
}

static bool is_chosen_variant(unsigned int variant)
{
	if (!fixture_quick() || variant == 0)
		return true;
	/* Of another backend's devices, which are many, only the default. */
	if (!fixture_soft())
		return false;
	if (fixture_quick() == 1)
		return true;
	for (unsigned int i = 0; i < sizeof(quickest_variants) / sizeof(quickest_variants[0]); i++)
		if (strcmp(quickest_variants[i], fixture_variants[variant].name) == 0)
			return true;
	return false;
}

int fixture_main(int argc, char **argv, const struct svm_fixture_case *cases, unsigned int n_cases)
{
	for (unsigned int i = 0; i < n_cases; i++) {
		if ((cases[i].over & FIXTURE_BOTH) == FIXTURE_ONCE)
			add_test(&cases[i], NULL, NULL);
		for (unsigned int d = 0; d < fixture_n_devices && (cases[i].over & FIXTURE_DEVICES);
		     d++)
			if (is_chosen(d))
				add_test(&cases[i], fixture_devices[d], NULL);
		for (unsigned int v = 0;
		     v < fixture_n_variants && (cases[i].over & FIXTURE_VARIANTS); v++)
			if (is_chosen_variant(v))
				add_test(&cases[i], NULL, &fixture_variants[v]);
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	/* What has been reported stays so when a test takes the program down. */
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	return _cmocka_run_group_tests(program_invocation_short_name, tests, n_tests, NULL, NULL);
}
