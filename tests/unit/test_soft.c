// SPDX-License-Identifier: MIT
/*
 * The soft backend through its table alone: binding, faults, work, copies, limits, and death at any
 * moment. The test plays the core: it waits on the fds, asks completed() and serves faults. Each test
 * checks at its end that fds, threads, processes and mappings are back to what they were.
 */
#include "../../backends/soft/soft_internal.h"
#include "fixture.h"
#include "util.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <cmocka.h>

#define PAGE	    ((uint64_t)SVM_PAGE_SIZE)
#define BLOCK	    ((uint64_t)SVM_BLOCK_SIZE)
#define WINDOW_SIZE (UINT64_C(512) << 20)
#define WAIT_MS	    20000

static const struct svm_backend_ops *const ops = &svm_backend_soft;

/* What the core would be to its devices. */
struct rig {
	uint8_t *window; /* addresses only */
	uint8_t *alias;
	int host_fd;
	char log[1024];
	unsigned int n_lines;
	/* before */
	unsigned int n_fds;
	unsigned int n_threads;
	unsigned int n_maps;
};

/* ---- Counting --------------------------------------------------------------------------------- */

static unsigned int count_entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Mappings that the backend makes: files of its name. */
static unsigned int count_maps(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	unsigned int n = 0;
	char line[512];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		n += strstr(line, "svm-soft") != NULL;
	fclose(file);
	return n;
}

static void count_all(unsigned int *ret_fds, unsigned int *ret_threads, unsigned int *ret_maps)
{
	*ret_fds = count_entries("/proc/self/fd");
	*ret_threads = count_entries("/proc/self/task");
	*ret_maps = count_maps();
}

/* A thread that was joined may still be on its way out. */
static void count_settled(unsigned int n_threads_before, unsigned int max_ms, unsigned int *ret_fds,
			  unsigned int *ret_threads, unsigned int *ret_maps)
{
	count_all(ret_fds, ret_threads, ret_maps);
	while (*ret_threads > n_threads_before && max_ms-- > 0) {
		(void)poll(NULL, 0, 1);
		count_all(ret_fds, ret_threads, ret_maps);
	}
}

/* None may be there. Those that are must not fail the tests that follow, too. */
static unsigned int take_children(void)
{
	siginfo_t info;
	unsigned int n = 0;
	pid_t pid;

	while (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | WNOHANG) == 0) {
		char path[64];
		FILE *file;

		/* One that lives has no pid here: ask for them. */
		(void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
		file = fopen(path, "re");
		if (!file)
			break;
		while (fscanf(file, "%d", &pid) == 1)
			(void)kill(pid, SIGKILL);
		fclose(file);
		if (waitpid(-1, NULL, 0) > 0)
			n++;
	}
	return n;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* ---- The rig ---------------------------------------------------------------------------------- */

static void keep_line(void *data, int level, const char *line)
{
	struct rig *rig = data;
	size_t used = strlen(rig->log);

	(void)level;
	rig->n_lines++;
	(void)snprintf(rig->log + used, sizeof(rig->log) - used, "%s\n", line);
}

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	count_all(&rig->n_fds, &rig->n_threads, &rig->n_maps);
	rig->host_fd = memfd_create("host", MFD_CLOEXEC);
	assert_true(rig->host_fd >= 0);
	assert_int_equal(ftruncate(rig->host_fd, (off_t)WINDOW_SIZE), 0);
	rig->window = mmap(NULL, WINDOW_SIZE + BLOCK, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(rig->window, MAP_FAILED);
	assert_int_equal(madvise(rig->window, WINDOW_SIZE + BLOCK, MADV_DONTFORK), 0);
	rig->window += BLOCK - (uintptr_t)rig->window % BLOCK;
	rig->alias = mmap(NULL, WINDOW_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, rig->host_fd, 0);
	assert_ptr_not_equal(rig->alias, MAP_FAILED);
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;
	unsigned int n_children = take_children();
	unsigned int n_threads;
	unsigned int n_maps;
	unsigned int n_fds;

	/* The window stays: its exact reservation is not remembered, and it costs addresses only. */
	assert_int_equal(munmap(rig->alias, WINDOW_SIZE), 0);
	close(rig->host_fd);
	count_settled(rig->n_threads, 10000, &n_fds, &n_threads, &n_maps);
	assert_int_equal(n_fds, rig->n_fds);
	assert_int_equal(n_threads, rig->n_threads);
	assert_int_equal(n_maps, rig->n_maps);
	assert_int_equal(n_children, 0);
	free(rig);
	return 0;
}

static int try_open(struct rig *rig, const char *options, struct svm_soft_device **ret_dev)
{
	struct svm_backend_open args = {
		.size = sizeof(args),
		.options = options,
		.window_base = (uint64_t)(uintptr_t)rig->window,
		.window_size = WINDOW_SIZE,
		.host_fd = rig->host_fd,
		.log = keep_line,
		.log_data = rig,
	};
	void *dev;
	int ret = ops->open(&args, &dev);

	if (ret == 0)
		*ret_dev = dev;
	return ret;
}

static struct svm_soft_device *open_device(struct rig *rig, const char *options)
{
	struct svm_soft_device *dev = NULL;

	assert_int_equal(try_open(rig, options, &dev), 0);
	if (!dev)
		abort();
	return dev;
}

static uint64_t at(const struct rig *rig, uint64_t offset)
{
	return (uint64_t)(uintptr_t)rig->window + offset;
}

static bool readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

/* Wait for a point: 0, or what completed() says of it. */
static int wait_point(struct svm_soft_device *dev, struct svm_point point)
{
	uint64_t value = 0;
	int ret;

	for (;;) {
		ret = ops->completed(dev, point.timeline, &value);
		if (ret < 0 || value >= point.value)
			return ret;
		assert_true(readable(ops->event_fd(dev), WAIT_MS));
		ops->event_ack(dev);
	}
}

static void expect_done(struct svm_soft_device *dev, struct svm_point point)
{
	assert_int_equal(wait_point(dev, point), 0);
}

/* Wait until the loss is told. */
static void expect_lost(struct svm_soft_device *dev)
{
	uint64_t value;

	while (ops->completed(dev, SVM_TIMELINE_BIND, &value) != -ENODEV) {
		assert_true(readable(ops->event_fd(dev), WAIT_MS));
		ops->event_ack(dev);
	}
	assert_int_equal(ops->completed(dev, SVM_TIMELINE_WORK, &value), -ENODEV);
	assert_int_equal(ops->completed(dev, SVM_TIMELINE_COPY, &value), -ENODEV);
	ops->event_ack(dev);
	assert_false(readable(ops->event_fd(dev), 0));
}

static int bind_one(struct svm_soft_device *dev, uint64_t addr, uint64_t size, uint32_t flags,
		    uint64_t chunk, uint64_t offset)
{
	struct svm_bind b = {
		.addr = addr, .size = size, .flags = flags, .chunk = chunk, .offset = offset
	};
	struct svm_point point;
	int ret = ops->bind(dev, &b, 1, &point);

	return ret < 0 ? ret : wait_point(dev, point);
}

static uint64_t new_chunk(struct svm_soft_device *dev)
{
	uint64_t chunk;

	assert_int_equal(ops->chunk_alloc(dev, &chunk), 0);
	return chunk;
}

static int run(struct svm_soft_device *dev, void (*kernel)(const void *, uint64_t, uint64_t),
	       const void *args, size_t args_size, uint64_t n, struct svm_point *ret_point)
{
	return ops->launch(dev, kernel, args, args_size, n, ret_point);
}

static int copy_one(struct svm_soft_device *dev, struct svm_copy_end dst, struct svm_copy_end src,
		    uint64_t size, uint32_t flags, struct svm_point *ret_point)
{
	struct svm_copy copy = { dst, src, size };

	return ops->copy(dev, &copy, 1, flags, ret_point);
}

static struct svm_copy_end host_end(void *host)
{
	return (struct svm_copy_end){ .host = host };
}

static struct svm_copy_end chunk_end(struct svm_soft_device *dev, uint64_t chunk, uint64_t offset)
{
	return (struct svm_copy_end){ .peer_dev = dev, .chunk = chunk, .offset = offset };
}

static const struct svm_copy_end no_end;

/* Fault of the device, waited for as the core does: the fd must say that there is one. */
static struct svm_device_fault next_fault(struct svm_soft_device *dev)
{
	struct svm_device_fault fault;

	do {
		assert_true(readable(ops->fault_fd(dev), WAIT_MS));
	} while (ops->fault_read(dev, &fault, 1) == 0);
	return fault;
}

/* ---- Kernels ---------------------------------------------------------------------------------- */

struct kernel_args {
	uint64_t addr;
	uint64_t value;
	uint64_t stride;
	uint64_t other;
};

/* An access that the compiler neither drops nor doubles. */
static volatile uint64_t *word(uint64_t addr)
{
	return (volatile uint64_t *)(uintptr_t)addr;
}

static void k_add(const void *args, uint64_t i, uint64_t n)
{
	const struct kernel_args *a = args;

	(void)n;
	*word(a->addr + i * a->stride) += a->value;
}

/* Also where it must not: one test stores to address 0. */
__attribute__((no_sanitize("undefined"))) static void k_store(const void *args, uint64_t i,
							      uint64_t n)
{
	const struct kernel_args *a = args;

	(void)n;
	*word(a->addr + i * a->stride) = a->value + i;
}

/* other gets what is at addr. */
static void k_load(const void *args, uint64_t i, uint64_t n)
{
	const struct kernel_args *a = args;

	(void)n;
	*word(a->other + i * a->stride) = *word(a->addr + i * a->stride);
}

/* Says at addr that it runs, and runs until somebody stops it. */
static void k_spin(const void *args, uint64_t i, uint64_t n)
{
	const struct kernel_args *a = args;

	(void)i;
	(void)n;
	*word(a->addr) = 1;
	for (;;)
		(void)*word(a->addr);
}

/* Count index i, and the call, with atomics: engines meet on them. */
static void k_count(const void *args, uint64_t i, uint64_t n)
{
	const struct kernel_args *a = args;
	_Atomic uint8_t *counts = (_Atomic uint8_t *)(uintptr_t)a->addr;

	if (n == a->value)
		atomic_fetch_add_explicit(&counts[i], 1, memory_order_relaxed);
}

/* Reads until the flag at other is set; reports anything but the two patterns there. */
static void k_watch(const void *args, uint64_t i, uint64_t n)
{
	const struct kernel_args *a = args;
	_Atomic uint64_t *flag = (_Atomic uint64_t *)(uintptr_t)a->other;

	(void)i;
	(void)n;
	atomic_store(&flag[1], 1);
	while (atomic_load(&flag[0]) == 0) {
		uint64_t v = *word(a->addr);

		if (v != a->value && v != a->value + 1)
			atomic_store(&flag[2], v);
		atomic_fetch_add(&flag[3], 1);
	}
}

static void k_nothing(const void *args, uint64_t i, uint64_t n)
{
	(void)args;
	(void)i;
	(void)n;
}

static void k_check_args(const void *args, uint64_t i, uint64_t n)
{
	const uint8_t *bytes = args;
	uint64_t addr;

	(void)n;
	memcpy(&addr, bytes, sizeof(addr));
	for (unsigned int k = sizeof(addr); k < SVM_SOFT_ARGS_SIZE; k++) {
		if (bytes[k] != (uint8_t)k)
			return;
	}
	*word(addr) = i + 1;
}

/* ---- Options and facts ------------------------------------------------------------------------ */

static void options_refuse_what_is_wrong(void **state)
{
	static const char *const bad[] = {
		":",
		"memory",
		"memory=",
		"memory=0",
		"memory=1M",
		"memory=3M",
		"memory=-2M",
		"memory=+2M",
		"memory= 2M",
		"memory=2m",
		"memory=2MB",
		"memory=2T",
		"memory=0x200000",
		"memory=1025G",
		"memory=18014398509481984K",
		"memory=99999999999999999999",
		"memory=2M:",
		":memory=2M",
		"memory=2M::keep=on",
		"memory=2M:memory=4M",
		"Memory=2M",
		"memor=2M",
		"memory2=2M",
		"faults",
		"faults=",
		"faults=1",
		"faults=yes",
		"faults=ON",
		"faults=on ",
		"faults=onn",
		"host=on",
		"host=off",
		"host=",
		"readonly=alias",
		"peer=2",
		"visible=no",
		"keep=kept",
		"engines=0",
		"engines=17",
		"engines=1K",
		"engines=",
		"engines=-1",
		"engines=4294967297",
		"bandwidth=",
		"bandwidth=fast",
		"bandwidth=-1",
		"bandwidth=1.5G",
		"latency=1K",
		"latency=10000000001",
		"latency=1us",
		"=",
		"=on",
		"faults=on,keep=on",
		"unknown=1",
		"faults=on:x",
	};
	struct rig *rig = *state;
	struct svm_soft_device *dev = NULL;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		rig->n_lines = 0;
		rig->log[0] = '\0';
		if (try_open(rig, bad[i], &dev) != -EINVAL)
			fail_msg("'%s' is not refused", bad[i]);
		if (rig->n_lines != 1)
			fail_msg("'%s' gave %u lines", bad[i], rig->n_lines);
		assert_null(dev);
	}
	(void)try_open(rig, "faults=on:engines=99", &dev);
	assert_non_null(strstr(rig->log, "engines=99"));
}

static void options_mean_what_they_say(void **state)
{
	const uint32_t all = SVM_CAP_FAULTS | SVM_CAP_READ_ONLY | SVM_CAP_HOST_ALIAS |
			     SVM_CAP_CPU_VISIBLE | SVM_CAP_PEER_COPY | SVM_CAP_COPY_ENGINE |
			     SVM_CAP_WORK | SVM_CAP_LAUNCH | SVM_CAP_ATOMICS |
			     SVM_CAP_SYSTEM_ATOMICS;
	const struct {
		const char *options;
		uint64_t without;
		uint64_t memory;
		uint64_t n_engines;
	} rows[] = {
		{ "", 0, UINT64_C(256) << 20, 1 },
		{ "memory=2M", 0, UINT64_C(2) << 20, 1 },
		{ "memory=2097152", 0, UINT64_C(2) << 20, 1 },
		{ "memory=2048K:engines=16", 0, UINT64_C(2) << 20, 16 },
		{ "memory=1G", 0, UINT64_C(1) << 30, 1 },
		{ "faults=off", SVM_CAP_FAULTS, UINT64_C(256) << 20, 1 },
		{ "host=none", SVM_CAP_HOST_ALIAS | SVM_CAP_SYSTEM_ATOMICS, UINT64_C(256) << 20,
		  1 },
		{ "readonly=off", SVM_CAP_READ_ONLY, UINT64_C(256) << 20, 1 },
		{ "peer=off", SVM_CAP_PEER_COPY, UINT64_C(256) << 20, 1 },
		{ "visible=off", SVM_CAP_CPU_VISIBLE, UINT64_C(256) << 20, 1 },
		{ "keep=on:bandwidth=0:latency=0:faults=on:host=alias:readonly=on:peer=on:visible=on",
		  0, UINT64_C(256) << 20, 1 },
		{ "bandwidth=10G:latency=10000000000:keep=off", 0, UINT64_C(256) << 20, 1 },
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct svm_soft_device *dev = open_device(rig, rows[i].options);
		struct svm_backend_caps caps;

		ops->caps(dev, &caps);
		assert_int_equal(caps.caps, all & ~rows[i].without);
		assert_int_equal(caps.memory_size, rows[i].memory);
		assert_int_equal(caps.n_engines, rows[i].n_engines);
		assert_true(caps.va_end > caps.va_start);
		ops->close(dev);
	}
	assert_int_equal(rig->n_lines, 0);
}

static void enumerate_lists_one(void **state)
{
	struct svm_device_info info = { .size = sizeof(info) };

	(void)state;
	assert_int_equal(ops->enumerate(0, &info), 0);
	assert_string_equal(info.name, "soft");
	assert_string_equal(info.backend, "soft");
	assert_int_equal(info.size, sizeof(info));
	assert_int_equal(info.id, UINT32_MAX);
	assert_int_equal(info.memory_size, UINT64_C(256) << 20);
	assert_int_equal(info.n_engines, 1);
	assert_int_equal(ops->enumerate(1, &info), -ENOENT);
}

static void open_refuses_bad_windows(void **state)
{
	struct rig *rig = *state;
	const struct svm_backend_open good = {
		.size = sizeof(good),
		.options = "",
		.window_base = (uint64_t)(uintptr_t)rig->window,
		.window_size = WINDOW_SIZE,
		.host_fd = rig->host_fd,
	};
	struct svm_backend_open args;
	void *dev = NULL;

	args = good;
	args.size = sizeof(args) - 1;
	assert_int_equal(ops->open(&args, &dev), -EINVAL);
	args = good;
	args.options = NULL;
	assert_int_equal(ops->open(&args, &dev), -EINVAL);
	args = good;
	args.window_base = 0;
	assert_int_equal(ops->open(&args, &dev), -EINVAL);
	args = good;
	args.window_size = 0;
	assert_int_equal(ops->open(&args, &dev), -EINVAL);
	args = good;
	args.window_base += 512;
	assert_int_equal(ops->open(&args, &dev), -EINVAL);
	args = good;
	args.window_size -= 1;
	assert_int_equal(ops->open(&args, &dev), -EINVAL);
	args = good;
	args.window_size = UINT64_MAX - PAGE + 1;
	assert_int_equal(ops->open(&args, &dev), -EINVAL);
	args = good;
	args.window_base = UINT64_C(1) << 47;
	assert_int_equal(ops->open(&args, &dev), -ERANGE);
	assert_null(dev);

	/* No shared host storage: nothing to map in place. */
	args = good;
	args.host_fd = -1;
	assert_int_equal(ops->open(&args, &dev), 0);
	struct svm_backend_caps caps;
	ops->caps(dev, &caps);
	assert_false(caps.caps & (SVM_CAP_HOST_ALIAS | SVM_CAP_SYSTEM_ATOMICS));
	ops->close(dev);
}

/* Out of fds at each of them in turn: the errno, and nothing left behind (teardown counts). */
static void open_fails_cleanly_without_fds(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = NULL;
	unsigned int n_failed = 0;
	int top = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int ret = 0;

	/* Give n_failed fds of room above what is open now. */
	assert_true(top >= 0);
	close(top);
	for (;;) {
		struct rlimit old;
		struct rlimit low;

		assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
		low = old;
		low.rlim_cur = (rlim_t)top + n_failed;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
		ret = try_open(rig, "", &dev);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
		if (ret == 0)
			break;
		assert_int_equal(ret, -EMFILE);
		n_failed++;
		assert_true(n_failed < 64);
	}
	assert_true(n_failed >= 8);
	ops->close(dev);
}

/* ---- Storage ---------------------------------------------------------------------------------- */

static void chunks_run_out_and_come_back(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "memory=8M");
	uint64_t chunks[4];
	uint64_t again;
	void *addr;

	for (unsigned int i = 0; i < 4; i++) {
		chunks[i] = new_chunk(dev);
		assert_int_equal(ops->chunk_map(dev, chunks[i], &addr), 0);
		assert_int_equal((uintptr_t)addr % BLOCK, 0);
		memset(addr, (int)i + 1, BLOCK);
	}
	assert_int_equal(ops->chunk_alloc(dev, &again), -ENOSPC);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(ops->chunk_map(dev, chunks[i], &addr), 0);
		assert_int_equal(((uint8_t *)addr)[BLOCK - 1], i + 1);
	}
	ops->chunk_free(dev, chunks[2]);
	assert_int_equal(ops->chunk_map(dev, chunks[2], &addr), -EINVAL);
	ops->chunk_free(dev, chunks[2]);
	again = new_chunk(dev);
	assert_int_equal(again, chunks[2]);
	assert_int_equal(ops->chunk_alloc(dev, &again), -ENOSPC);
	assert_int_equal(ops->chunk_map(dev, 0, &addr), -EINVAL);
	assert_int_equal(ops->chunk_map(dev, 5, &addr), -EINVAL);
	ops->close(dev);
}

static void invisible_memory_is_not_mapped(void **state)
{
	struct svm_soft_device *dev = open_device(*state, "visible=off");
	void *addr;

	assert_int_equal(ops->chunk_map(dev, new_chunk(dev), &addr), -EOPNOTSUPP);
	ops->close(dev);
}

/* ---- Binding ---------------------------------------------------------------------------------- */

static void kernels_reach_bound_memory(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "faults=off");
	uint64_t chunk = new_chunk(dev);
	struct kernel_args args = { .addr = at(rig, BLOCK), .value = 5, .stride = 8 };
	struct svm_point point;
	uint64_t *bytes;

	assert_int_equal(ops->chunk_map(dev, chunk, (void **)&bytes), 0);
	for (unsigned int i = 0; i < BLOCK / 8; i++)
		bytes[i] = i;
	assert_int_equal(bind_one(dev, at(rig, BLOCK), BLOCK, SVM_BIND_WRITE, chunk, 0), 0);
	assert_int_equal(run(dev, k_add, &args, sizeof(args), BLOCK / 8, &point), 0);
	expect_done(dev, point);
	for (unsigned int i = 0; i < BLOCK / 8; i++)
		assert_int_equal(bytes[i], i + 5);
	ops->close(dev);
}

static void parts_of_blocks_bind_to_parts_of_chunks(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "faults=off");
	uint64_t chunk = new_chunk(dev);
	struct kernel_args args = { .addr = at(rig, 3 * PAGE), .value = 100, .stride = PAGE };
	struct svm_point point;
	uint8_t *bytes;

	assert_int_equal(ops->chunk_map(dev, chunk, (void **)&bytes), 0);
	memset(bytes, 0, BLOCK);
	/* Pages 3 and 4 swapped. */
	assert_int_equal(bind_one(dev, at(rig, 3 * PAGE), PAGE, SVM_BIND_WRITE, chunk, 8 * PAGE),
			 0);
	assert_int_equal(bind_one(dev, at(rig, 4 * PAGE), PAGE, SVM_BIND_WRITE, chunk, 7 * PAGE),
			 0);
	assert_int_equal(run(dev, k_store, &args, sizeof(args), 2, &point), 0);
	expect_done(dev, point);
	assert_int_equal(*(uint64_t *)(void *)(bytes + 8 * PAGE), 100);
	assert_int_equal(*(uint64_t *)(void *)(bytes + 7 * PAGE), 101);
	ops->close(dev);
}

/* What the pages of the window are in the process, as the kernel sees it. */
#define N_MMU_BLOCKS 5u
#define N_MMU_CHUNKS 3u
#define N_MMU_PAGES  (N_MMU_BLOCKS * (BLOCK / PAGE))

struct page_is {
	char kind; /* '-' nothing, 'r' or 'w' */
	uint64_t offset;
};

static void look_at_pages(const struct rig *rig, const struct svm_soft_device *dev,
			  struct page_is *pages)
{
	uint64_t window = at(rig, 0);
	char line[256];
	char path[64];
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)dev->pid);
	maps = fopen(path, "re");
	assert_non_null(maps);
	memset(pages, 0, N_MMU_PAGES * sizeof(*pages));
	while (fgets(line, sizeof(line), maps)) {
		uint64_t start;
		uint64_t end;
		uint64_t offset;
		char mode[5];

		assert_int_equal(sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64, &start, &end,
					mode, &offset),
				 4);
		for (uint64_t p = 0; p < N_MMU_PAGES; p++) {
			uint64_t addr = window + p * PAGE;

			if (addr < start || addr >= end)
				continue;
			pages[p].kind = mode[1] == 'w' ? 'w' : mode[0] == 'r' ? 'r' : '-';
			pages[p].offset = pages[p].kind == '-' ? 0 : offset + (addr - start);
		}
	}
	fclose(maps);
}

/* Page tables move with whole blocks, out of the way of all else that is bound, replaced and unbound in part: each page must be
 * what the last bind said, and hold what it should. */
static void pages_are_what_was_bound_last(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "faults=off:memory=16M");
	static struct page_is model[N_MMU_PAGES];
	static struct page_is found[N_MMU_PAGES];
	uint64_t chunks[N_MMU_CHUNKS];
	uint64_t *result = (uint64_t *)(void *)(rig->alias + WINDOW_SIZE - BLOCK);
	uint64_t random = 1;
	struct svm_point point;

	for (unsigned int c = 0; c < N_MMU_CHUNKS; c++) {
		uint8_t *bytes;

		chunks[c] = new_chunk(dev);
		assert_int_equal(ops->chunk_map(dev, chunks[c], (void **)&bytes), 0);
		for (uint64_t p = 0; p < BLOCK / PAGE; p++)
			*(uint64_t *)(void *)(bytes + p * PAGE) =
				svm_soft_chunk_offset(chunks[c]) + p * PAGE;
	}
	assert_int_equal(bind_one(dev, at(rig, WINDOW_SIZE - BLOCK), BLOCK,
				  SVM_BIND_WRITE | SVM_BIND_HOST, 0, WINDOW_SIZE - BLOCK),
			 0);
	for (uint64_t p = 0; p < N_MMU_PAGES; p++)
		model[p] = (struct page_is){ .kind = '-' };
	for (unsigned int step = 0; step < 2000; step++) {
		uint64_t block;
		uint64_t from = 0;
		uint64_t n = BLOCK / PAGE;
		uint64_t chunk;
		struct page_is is;
		uint32_t flags;

		random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
		block = (random >> 33) % N_MMU_BLOCKS;
		chunk = chunks[(random >> 36) % N_MMU_CHUNKS];
		if ((random >> 40) % 8 == 0) {
			from = (random >> 44) % (BLOCK / PAGE);
			n = 1 + (random >> 54) % (BLOCK / PAGE - from);
		}
		is.kind = "wwww--r"[(random >> 50) % 7];
		flags = is.kind == '-' ? SVM_BIND_UNBIND : is.kind == 'w' ? SVM_BIND_WRITE : 0;
		is.offset = svm_soft_chunk_offset(chunk);
		assert_int_equal(bind_one(dev, at(rig, block * BLOCK + from * PAGE), n * PAGE,
					  flags, is.kind == '-' ? 0 : chunk,
					  is.kind == '-' ? 0 : from * PAGE),
				 0);
		for (uint64_t p = from; p < from + n; p++) {
			struct page_is *page = &model[block * (BLOCK / PAGE) + p];

			page->kind = is.kind;
			page->offset = is.kind == '-' ? 0 : is.offset + p * PAGE;
		}
		if (step % 16 != 0)
			continue;
		look_at_pages(rig, dev, found);
		for (uint64_t p = 0; p < N_MMU_PAGES; p++) {
			if (found[p].kind != model[p].kind || found[p].offset != model[p].offset)
				fail_msg("step %u, page %" PRIu64 ": %c %" PRIx64
					 " instead of %c %" PRIx64,
					 step, p, found[p].kind, found[p].offset, model[p].kind,
					 model[p].offset);
		}
		/* Through the tables: the first bound page, by an engine. */
		for (uint64_t p = random % N_MMU_PAGES; p < N_MMU_PAGES; p++) {
			struct kernel_args args = { .addr = at(rig, p * PAGE),
						    .other = at(rig, WINDOW_SIZE - BLOCK) };

			if (model[p].kind == '-')
				continue;
			*result = UINT64_MAX;
			assert_int_equal(run(dev, k_load, &args, sizeof(args), 1, &point), 0);
			expect_done(dev, point);
			assert_int_equal(*result, model[p].offset);
			break;
		}
	}
	ops->close(dev);
}

static void host_alias_is_shared_both_ways(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "faults=off");
	struct kernel_args args = { .addr = at(rig, 0), .value = 1, .stride = 8 };
	struct svm_point point;
	uint64_t *alias = (uint64_t *)(void *)(rig->alias + 2 * BLOCK);

	alias[0] = 41;
	alias[1] = 51;
	assert_int_equal(
		bind_one(dev, at(rig, 0), BLOCK, SVM_BIND_WRITE | SVM_BIND_HOST, 0, 2 * BLOCK), 0);
	assert_int_equal(run(dev, k_add, &args, sizeof(args), 2, &point), 0);
	expect_done(dev, point);
	assert_int_equal(alias[0], 42);
	assert_int_equal(alias[1], 52);
	ops->close(dev);
}

static void entries_apply_in_order(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "faults=off");
	uint64_t first = new_chunk(dev);
	uint64_t second = new_chunk(dev);
	struct svm_bind binds[] = {
		{ .addr = at(rig, 0), .size = BLOCK, .flags = SVM_BIND_WRITE, .chunk = first },
		{ .addr = at(rig, 0), .size = BLOCK, .flags = SVM_BIND_UNBIND },
		{ .addr = at(rig, 0), .size = BLOCK, .flags = SVM_BIND_WRITE, .chunk = second },
	};
	struct kernel_args args = { .addr = at(rig, 0), .value = 7, .stride = 8 };
	struct svm_point point;
	uint64_t *bytes;

	assert_int_equal(ops->bind(dev, binds, 3, &point), 0);
	assert_int_equal(point.timeline, SVM_TIMELINE_BIND);
	expect_done(dev, point);
	assert_int_equal(run(dev, k_store, &args, sizeof(args), 1, &point), 0);
	expect_done(dev, point);
	assert_int_equal(ops->chunk_map(dev, second, (void **)&bytes), 0);
	assert_int_equal(bytes[0], 7);
	ops->close(dev);
}

static void bind_refuses_what_is_wrong(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "");
	struct svm_soft_device *poor = open_device(rig, "host=none:readonly=off");
	uint64_t chunk = new_chunk(dev);
	uint64_t end = at(rig, WINDOW_SIZE);
	const struct svm_bind bad[] = {
		{ at(rig, 0), 0, SVM_BIND_WRITE, 0, chunk, 0, NULL },
		{ at(rig, 1), PAGE, SVM_BIND_WRITE, 0, chunk, 0, NULL },
		{ at(rig, 0), PAGE + 1, SVM_BIND_WRITE, 0, chunk, 0, NULL },
		{ at(rig, 0), PAGE, SVM_BIND_WRITE, 0, chunk, 8, NULL },
		{ at(rig, BLOCK - PAGE), 2 * PAGE, SVM_BIND_WRITE, 0, chunk, 0, NULL },
		{ at(rig, 0), 2 * BLOCK, SVM_BIND_WRITE, 0, chunk, 0, NULL },
		{ at(rig, 0), 2 * PAGE, SVM_BIND_WRITE, 0, chunk, BLOCK - PAGE, NULL },
		{ at(rig, 0), PAGE, SVM_BIND_WRITE, 0, chunk, UINT64_MAX - PAGE + 1, NULL },
		{ at(rig, 0), PAGE, SVM_BIND_WRITE, 0, 0, 0, NULL },
		{ at(rig, 0), PAGE, SVM_BIND_WRITE, 0, chunk + 1, 0, NULL },
		{ at(rig, 0), PAGE, SVM_BIND_WRITE | SVM_BIND_UNBIND, 0, 0, 0, NULL },
		{ at(rig, 0), PAGE, 1u << 3, 0, chunk, 0, NULL },
		{ end, PAGE, SVM_BIND_WRITE, 0, chunk, 0, NULL },
		{ end - PAGE, PAGE, SVM_BIND_HOST, 0, 0, WINDOW_SIZE, NULL },
		{ at(rig, 0) - BLOCK, PAGE, SVM_BIND_UNBIND, 0, 0, 0, NULL },
		{ UINT64_MAX - PAGE + 1, PAGE, SVM_BIND_UNBIND, 0, 0, 0, NULL },
	};
	struct svm_bind one = { at(rig, 0), PAGE, SVM_BIND_HOST | SVM_BIND_WRITE, 0, 0, 0, NULL };
	struct svm_point point;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (ops->bind(dev, &bad[i], 1, &point) != -EINVAL)
			fail_msg("row %zu is not refused", i);
	}
	assert_int_equal(ops->bind(dev, &one, 0, &point), -EINVAL);
	assert_int_equal(ops->bind(dev, &one, SVM_BIND_BATCH + 1, &point), -EINVAL);
	assert_int_equal(ops->bind(poor, &one, 1, &point), -EOPNOTSUPP);
	one.flags = 0;
	one.chunk = new_chunk(poor);
	assert_int_equal(ops->bind(poor, &one, 1, &point), -EOPNOTSUPP);
	one.flags = SVM_BIND_WRITE;
	assert_int_equal(ops->bind(poor, &one, 1, &point), 0);
	ops->close(poor);
	ops->close(dev);
}

/* A device without faults would die of the smallest gap between two mappings. */
static void rebinding_leaves_no_gap(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "faults=off:engines=2");
	uint64_t chunks[2] = { new_chunk(dev), new_chunk(dev) };
	struct kernel_args args = { .addr = at(rig, 0), .value = 1000, .other = at(rig, BLOCK) };
	_Atomic uint64_t *flag = (_Atomic uint64_t *)(void *)rig->alias;
	unsigned int n = fixture_quick() == 2 ? 300 : 3000;
	struct svm_point point;
	uint64_t *bytes;

	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(ops->chunk_map(dev, chunks[i], (void **)&bytes), 0);
		bytes[0] = 1000 + i;
	}
	assert_int_equal(bind_one(dev, at(rig, BLOCK), PAGE, SVM_BIND_WRITE | SVM_BIND_HOST, 0, 0),
			 0);
	assert_int_equal(bind_one(dev, at(rig, 0), BLOCK, 0, chunks[0], 0), 0);
	assert_int_equal(run(dev, k_watch, &args, sizeof(args), 2, &point), 0);
	for (unsigned int i = 1; i < n; i++) {
		uint32_t flags = i % 3 ? SVM_BIND_WRITE : 0;
		uint64_t size = i % 5 ? BLOCK : PAGE;

		assert_int_equal(bind_one(dev, at(rig, 0), size, flags, chunks[i % 2], 0), 0);
	}
	atomic_store(&flag[0], 1);
	expect_done(dev, point);
	assert_int_equal(atomic_load(&flag[1]), 1);
	assert_int_equal(atomic_load(&flag[2]), 0);
	assert_true(atomic_load(&flag[3]) > 0);
	ops->close(dev);
}

static void *bind_own_blocks(void *arg)
{
	void **in = arg;
	struct rig *rig = in[0];
	struct svm_soft_device *dev = in[1];
	unsigned int thread = (unsigned int)(uintptr_t)in[2];
	uint64_t chunk = new_chunk(dev);
	struct svm_bind binds[64];
	struct svm_point point = { 0 };
	unsigned int n = fixture_quick() == 2 ? 80 : 400;
	unsigned int n_again = 0;
	uint64_t last = 0;

	for (unsigned int i = 0; i < 64; i++) {
		binds[i] = (struct svm_bind){
			.addr = at(rig, thread * BLOCK + i * PAGE),
			.size = PAGE,
			.flags = SVM_BIND_WRITE,
			.chunk = chunk,
			.offset = i * PAGE,
		};
	}
	for (unsigned int i = 0; i < n;) {
		int ret = ops->bind(dev, binds, 64, &point);
		uint64_t value;

		if (ret == 0) {
			/* Points of a timeline come in the order of their values. */
			assert_true(point.value > last);
			last = point.value;
			i++;
			continue;
		}
		assert_int_equal(ret, -EAGAIN);
		n_again++;
		/* Several threads wait on one fd here, so it may be acknowledged by another. */
		(void)readable(ops->event_fd(dev), 1);
		ops->event_ack(dev);
		assert_int_equal(ops->completed(dev, SVM_TIMELINE_BIND, &value), 0);
	}
	for (uint64_t value = 0; value < last;) {
		assert_int_equal(ops->completed(dev, SVM_TIMELINE_BIND, &value), 0);
		if (value < last && readable(ops->event_fd(dev), 1))
			ops->event_ack(dev);
	}
	in[3] = (void *)(uintptr_t)n_again;
	return NULL;
}

static void threads_bind_together(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "faults=off:memory=16M");
	pthread_t threads[4];
	void *in[4][4];
	struct kernel_args args = { .value = 9, .stride = PAGE };
	struct svm_point point;

	for (unsigned int i = 0; i < 4; i++) {
		in[i][0] = rig;
		in[i][1] = dev;
		in[i][2] = (void *)(uintptr_t)i;
		assert_int_equal(pthread_create(&threads[i], NULL, bind_own_blocks, in[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	for (unsigned int i = 0; i < 4; i++) {
		args.addr = at(rig, i * BLOCK);
		assert_int_equal(run(dev, k_store, &args, sizeof(args), 64, &point), 0);
		expect_done(dev, point);
	}
	ops->close(dev);
}

static void full_rings_say_again(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "faults=on");
	struct kernel_args args = { .addr = at(rig, 0), .value = 1, .stride = 8 };
	struct svm_device_fault fault;
	struct svm_point first;
	struct svm_point point;
	unsigned int n = 1;
	int ret;

	/* The first launch stops at a fault, so nothing after it starts. */
	assert_int_equal(run(dev, k_add, &args, sizeof(args), 1, &first), 0);
	fault = next_fault(dev);
	while ((ret = run(dev, k_nothing, NULL, 0, 1, &point)) == 0)
		n++;
	assert_int_equal(ret, -EAGAIN);
	assert_int_equal(n, SVM_SOFT_WORKS);
	assert_int_equal(bind_one(dev, at(rig, 0), PAGE, SVM_BIND_WRITE | SVM_BIND_HOST, 0, 0), 0);
	assert_int_equal(ops->fault_done(dev, &fault, 0), 0);
	expect_done(dev, point);
	assert_int_equal(run(dev, k_nothing, NULL, 0, 1, &point), 0);
	expect_done(dev, point);
	ops->close(dev);
}

static uint64_t mappings_of_a_process(void)
{
	unsigned long long n = 0;
	FILE *file = fopen("/proc/sys/vm/max_map_count", "re");

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%llu", &n), 1);
	fclose(file);
	return n;
}

/* The kernel's limit on mappings of a process is a limit on pieces of the device's page table. */
static void bind_without_room_fails_and_unbinds(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "");
	uint64_t chunk = new_chunk(dev);
	struct kernel_args args = { .addr = at(rig, 0), .value = 3, .stride = 2 * PAGE };
	struct svm_point point;
	struct svm_device_fault fault;
	struct svm_bind binds[256];
	uint64_t n = 0;
	int ret;

	/* ThreadSanitizer maps memory at an engine's first signal: let that be before there is no room. */
	assert_int_equal(run(dev, k_store, &args, sizeof(args), 1, &point), 0);
	fault = next_fault(dev);
	assert_int_equal(bind_one(dev, at(rig, 0), PAGE, SVM_BIND_WRITE, chunk, 0), 0);
	assert_int_equal(ops->fault_done(dev, &fault, 0), 0);
	expect_done(dev, point);

	/* Every page a piece of its own: all are the same page of the chunk. Many at a time as long as there is room. */
	while (n + 4 * SVM_ARRAY_SIZE(binds) < mappings_of_a_process()) {
		for (size_t i = 0; i < SVM_ARRAY_SIZE(binds); i++, n++)
			binds[i] = (struct svm_bind){ .addr = at(rig, n * PAGE),
						      .size = PAGE,
						      .flags = n % 2 ? 0 : SVM_BIND_WRITE,
						      .chunk = chunk };
		assert_true(n < WINDOW_SIZE / PAGE);
		assert_int_equal(ops->bind(dev, binds, SVM_ARRAY_SIZE(binds), &point), 0);
		assert_int_equal(wait_point(dev, point), 0);
	}
	while ((ret = bind_one(dev, at(rig, n * PAGE), PAGE, n % 2 ? 0 : SVM_BIND_WRITE, chunk,
			       0)) == 0) {
		n++;
		assert_true(n < WINDOW_SIZE / PAGE);
	}
	assert_int_equal(ret, -ENOMEM);
	/* Again and again: what fails does not eat what is left. */
	for (unsigned int i = 0; i < 50; i++)
		assert_int_equal(bind_one(dev, at(rig, n * PAGE), PAGE, 0, chunk, 0), -ENOMEM);
	/* Replacing one that is bound needs no room. */
	assert_int_equal(bind_one(dev, at(rig, 2 * PAGE), PAGE, SVM_BIND_WRITE, chunk, 0), 0);
	assert_int_equal(run(dev, k_store, &args, sizeof(args), 4, &point), 0);
	expect_done(dev, point);
	/* What failed is unbound, */
	args.addr = at(rig, n * PAGE);
	assert_int_equal(run(dev, k_store, &args, sizeof(args), 1, &point), 0);
	fault = next_fault(dev);
	assert_int_equal(fault.addr, at(rig, n * PAGE));
	/* and with room it binds. */
	assert_int_equal(bind_one(dev, at(rig, 0), BLOCK, SVM_BIND_UNBIND, 0, 0), 0);
	assert_int_equal(bind_one(dev, at(rig, n * PAGE), PAGE, SVM_BIND_WRITE, chunk, 0), 0);
	assert_int_equal(ops->fault_done(dev, &fault, 0), 0);
	expect_done(dev, point);
	ops->close(dev);
}

/* ---- Spans ------------------------------------------------------------------------------------ */

static uint8_t *map_private(uint64_t size)
{
	uint8_t *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	return map;
}

static void spans_replace_what_was_inherited(void **state)
{
	struct rig *rig = *state;
	uint8_t *memory = map_private(4 * PAGE);
	struct svm_soft_device *dev;
	struct kernel_args args = { .addr = (uint64_t)(uintptr_t)memory,
				    .value = 1,
				    .stride = PAGE };
	struct svm_device_fault fault;
	struct svm_point point;
	uint64_t chunk;
	uint64_t *bytes;

	memset(memory, 7, 4 * PAGE);
	dev = open_device(rig, "");
	chunk = new_chunk(dev);
	assert_int_equal(ops->chunk_map(dev, chunk, (void **)&bytes), 0);
	bytes[0] = 10;
	/* Memory of the application that nobody told the device about is a copy of it. */
	assert_int_equal(run(dev, k_add, &args, sizeof(args), 1, &point), 0);
	expect_done(dev, point);
	assert_int_equal(memory[0], 7);

	assert_int_equal(ops->span_add(dev, args.addr, 4 * PAGE), 0);
	assert_int_equal(run(dev, k_add, &args, sizeof(args), 1, &point), 0);
	fault = next_fault(dev);
	assert_int_equal(fault.addr, args.addr);
	assert_int_equal(bind_one(dev, args.addr, PAGE, SVM_BIND_WRITE, chunk, 0), 0);
	assert_int_equal(ops->fault_done(dev, &fault, 0), 0);
	expect_done(dev, point);
	assert_int_equal(bytes[0], 11);
	ops->close(dev);
	assert_int_equal(munmap(memory, 4 * PAGE), 0);
}

static void spans_join_and_split(void **state)
{
	struct rig *rig = *state;
	uint8_t *memory = map_private(16 * PAGE);
	uint64_t base = (uint64_t)(uintptr_t)memory;
	struct svm_soft_device *dev = open_device(rig, "");

	assert_int_equal(ops->span_add(dev, base, 4 * PAGE), 0);
	assert_int_equal(ops->span_add(dev, base + 8 * PAGE, 4 * PAGE), 0);
	assert_int_equal(ops->span_add(dev, base + 4 * PAGE, 4 * PAGE), 0);
	assert_int_equal(dev->n_spans, 1);
	assert_true(svm_soft_covers(dev, base, 12 * PAGE));
	assert_false(svm_soft_covers(dev, base, 13 * PAGE));
	assert_int_equal(ops->span_add(dev, base + 11 * PAGE, 2 * PAGE), -EEXIST);
	assert_int_equal(ops->span_add(dev, base + 2 * PAGE, PAGE), -EEXIST);
	assert_int_equal(ops->span_remove(dev, base + 11 * PAGE, 2 * PAGE), -ENOENT);
	assert_int_equal(ops->span_remove(dev, base + 3 * PAGE, PAGE), 0);
	assert_int_equal(dev->n_spans, 2);
	assert_true(svm_soft_covers(dev, base, 3 * PAGE));
	assert_false(svm_soft_covers(dev, base + 3 * PAGE, PAGE));
	assert_int_equal(ops->span_remove(dev, base, 3 * PAGE), 0);
	assert_int_equal(ops->span_remove(dev, base + 4 * PAGE, 8 * PAGE), 0);
	assert_int_equal(dev->n_spans, 0);
	assert_int_equal(ops->span_remove(dev, base, PAGE), -ENOENT);

	assert_int_equal(ops->span_add(dev, base + 1, PAGE), -EINVAL);
	assert_int_equal(ops->span_add(dev, base, 0), -EINVAL);
	assert_int_equal(ops->span_add(dev, 0, PAGE), -EINVAL);
	assert_int_equal(ops->span_add(dev, UINT64_MAX - PAGE + 1, PAGE), -EINVAL);
	assert_int_equal(ops->span_add(dev, at(rig, PAGE), PAGE), -EINVAL);
	assert_int_equal(ops->span_add(dev, dev->own_base + PAGE, PAGE), -EINVAL);
	ops->close(dev);
	assert_int_equal(munmap(memory, 16 * PAGE), 0);
}

/* The device must live on when the memory it was opened from becomes managed: heap, data, and the stack of
 * the thread that opened it. */
static void *open_on_this_stack(void *arg)
{
	void **in = arg;

	in[1] = open_device(in[0], "engines=2");
	return NULL;
}

/* The initial thread of the process does, asleep in its system call. */
static bool waits_on_own_stack(struct svm_soft_device *dev)
{
	unsigned long long v[8] = { 0 };
	char path[64];
	FILE *file;
	int n;

	(void)snprintf(path, sizeof(path), "/proc/%d/syscall", (int)dev->pid);
	for (uint64_t start = now_ns(); now_ns() - start < (uint64_t)WAIT_MS * 1000000;) {
		file = fopen(path, "re");
		assert_non_null(file);
		n = fscanf(file, "%llu %llx %llx %llx %llx %llx %llx %llx", &v[0], &v[1], &v[2],
			   &v[3], &v[4], &v[5], &v[6], &v[7]);
		fclose(file);
		if (n == 8)
			return v[7] > dev->own_base && v[7] < dev->own_base + SVM_SOFT_OWN_SIZE;
	}
	return false;
}

static void spans_may_cover_the_opener_stack(void **state)
{
	struct rig *rig = *state;
	const uint64_t stack_size = UINT64_C(1) << 20;
	uint8_t *stack = map_private(stack_size);
	struct svm_soft_device *dev;
	pthread_attr_t attr;
	pthread_t thread;
	void *in[2] = { rig, NULL };
	struct svm_point point;

	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstack(&attr, stack, stack_size), 0);
	assert_int_equal(pthread_create(&thread, &attr, open_on_this_stack, in), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	pthread_attr_destroy(&attr);
	dev = in[1];
	assert_true(waits_on_own_stack(dev));
	assert_int_equal(ops->span_add(dev, (uint64_t)(uintptr_t)stack, stack_size), 0);
	/* Make the process run, stop and go on. */
	assert_int_equal(kill(dev->pid, SIGSTOP), 0);
	assert_int_equal(kill(dev->pid, SIGCONT), 0);
	for (unsigned int i = 0; i < 100; i++) {
		assert_int_equal(run(dev, k_nothing, NULL, 0, 2, &point), 0);
		expect_done(dev, point);
	}
	ops->close(dev);
	assert_int_equal(munmap(stack, stack_size), 0);
}

/* Enough of them that the table grows several times. */
static void many_spans(void **state)
{
	struct rig *rig = *state;
	const uint64_t n = 2000;
	uint8_t *memory = mmap(NULL, 2 * n * PAGE, PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t base = (uint64_t)(uintptr_t)memory;
	struct svm_soft_device *dev;

	assert_ptr_not_equal(memory, MAP_FAILED);
	dev = open_device(rig, "");
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(ops->span_add(dev, base + 2 * i * PAGE, PAGE), 0);
	assert_int_equal(dev->n_spans, n);
	for (uint64_t i = 0; i < 2 * n; i++)
		assert_int_equal(svm_soft_covers(dev, base + i * PAGE, PAGE), i % 2 == 0);
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(ops->span_remove(dev, base + 2 * i * PAGE, PAGE), 0);
	assert_int_equal(dev->n_spans, 0);
	ops->close(dev);
	assert_int_equal(munmap(memory, 2 * n * PAGE), 0);
}

/* ---- Faults ----------------------------------------------------------------------------------- */

static void faults_tell_address_and_access(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "");
	struct kernel_args args = { .addr = at(rig, 5 * PAGE + 16),
				    .other = at(rig, BLOCK + 40),
				    .stride = 8 };
	uint64_t *source = (uint64_t *)(void *)(rig->alias + 5 * PAGE + 16);
	uint64_t *target = (uint64_t *)(void *)(rig->alias + BLOCK + 40);
	struct svm_device_fault fault;
	struct svm_point point;

	*source = 77;
	assert_int_equal(run(dev, k_load, &args, sizeof(args), 1, &point), 0);
	fault = next_fault(dev);
	assert_int_equal(fault.addr, at(rig, 5 * PAGE));
	assert_int_equal(fault.access, SVM_ACCESS_READ);
	assert_int_equal(bind_one(dev, at(rig, 5 * PAGE), PAGE, SVM_BIND_HOST, 0, 5 * PAGE), 0);
	assert_int_equal(ops->fault_done(dev, &fault, 0), 0);

	fault = next_fault(dev);
	assert_int_equal(fault.addr, at(rig, BLOCK));
	assert_int_equal(fault.access, SVM_ACCESS_WRITE);
	/* Answered with nothing changed: it comes again. */
	assert_int_equal(ops->fault_done(dev, &fault, 0), 0);
	fault = next_fault(dev);
	assert_int_equal(fault.addr, at(rig, BLOCK));
	/* Bound for reading only: a write faults still, and says so. */
	assert_int_equal(bind_one(dev, at(rig, BLOCK), PAGE, SVM_BIND_HOST, 0, BLOCK), 0);
	assert_int_equal(ops->fault_done(dev, &fault, 0), 0);
	fault = next_fault(dev);
	assert_int_equal(fault.addr, at(rig, BLOCK));
	assert_int_equal(fault.access, SVM_ACCESS_WRITE);
	assert_int_equal(
		bind_one(dev, at(rig, BLOCK), PAGE, SVM_BIND_HOST | SVM_BIND_WRITE, 0, BLOCK), 0);
	assert_int_equal(ops->fault_done(dev, &fault, 0), 0);
	expect_done(dev, point);
	assert_int_equal(*target, 77);
	ops->close(dev);
}

static void unbound_again_faults_again(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "");
	struct kernel_args args = { .addr = at(rig, 0), .value = 1, .stride = 8 };
	struct svm_device_fault fault;
	struct svm_point point;

	for (unsigned int i = 0; i < 50; i++) {
		assert_int_equal(run(dev, k_add, &args, sizeof(args), 1, &point), 0);
		fault = next_fault(dev);
		assert_int_equal(fault.addr, at(rig, 0));
		assert_int_equal(
			bind_one(dev, at(rig, 0), PAGE, SVM_BIND_WRITE | SVM_BIND_HOST, 0, 0), 0);
		assert_int_equal(ops->fault_done(dev, &fault, 0), 0);
		expect_done(dev, point);
		assert_int_equal(bind_one(dev, at(rig, 0), PAGE, SVM_BIND_UNBIND, 0, 0), 0);
	}
	assert_int_equal(*(uint64_t *)(void *)rig->alias, 50);
	ops->close(dev);
}

static void engines_fault_at_the_same_time(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "engines=4");
	struct kernel_args args = { .addr = at(rig, 0), .value = 20, .stride = PAGE };
	struct svm_device_fault faults[4];
	struct svm_point point;
	uint64_t start = now_ns();
	uint32_t seen = 0;

	assert_int_equal(run(dev, k_store, &args, sizeof(args), 4, &point), 0);
	for (unsigned int i = 0; i < 4; i++) {
		while (atomic_load(&dev->ctl->faults[i].state) != SVM_SOFT_FAULT_PENDING)
			assert_true(now_ns() - start < (uint64_t)WAIT_MS * 1000000);
	}
	/* All are there. With room for one at a time none is forgotten. */
	for (unsigned int i = 0; i < 4; i++)
		faults[i] = next_fault(dev);
	for (unsigned int i = 0; i < 4; i++)
		seen |= 1u << ((faults[i].addr - at(rig, 0)) / PAGE);
	assert_int_equal(seen, 0xf);
	assert_int_equal(ops->fault_read(dev, faults, 4), 0);
	assert_false(readable(ops->fault_fd(dev), 0));
	assert_int_equal(bind_one(dev, at(rig, 0), BLOCK, SVM_BIND_WRITE | SVM_BIND_HOST, 0, 0), 0);
	/* In another order than they came. */
	for (unsigned int i = 4; i-- > 0;)
		assert_int_equal(ops->fault_done(dev, &faults[i], 0), 0);
	expect_done(dev, point);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(*(uint64_t *)(void *)(rig->alias + i * PAGE), 20 + i);
	ops->close(dev);
}

static void answers_to_no_fault_are_refused(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "");
	struct kernel_args args = { .addr = at(rig, 0), .value = 1, .stride = PAGE };
	struct svm_device_fault fault = { .cookie = 256 };
	struct svm_device_fault older;
	struct svm_point point;

	assert_int_equal(ops->fault_done(dev, &fault, 0), -ENOENT);
	fault.cookie = 257;
	assert_int_equal(ops->fault_done(dev, &fault, 0), -EINVAL);
	assert_int_equal(run(dev, k_store, &args, sizeof(args), 2, &point), 0);
	older = next_fault(dev);
	assert_int_equal(ops->fault_done(dev, &older, 1), -EINVAL);
	assert_int_equal(bind_one(dev, at(rig, 0), PAGE, SVM_BIND_WRITE | SVM_BIND_HOST, 0, 0), 0);
	assert_int_equal(ops->fault_done(dev, &older, 0), 0);
	fault = next_fault(dev);
	assert_int_equal(ops->fault_done(dev, &older, 0), -ENOENT);
	assert_int_equal(
		bind_one(dev, at(rig, PAGE), PAGE, SVM_BIND_WRITE | SVM_BIND_HOST, 0, PAGE), 0);
	assert_int_equal(ops->fault_done(dev, &fault, 0), 0);
	assert_int_equal(ops->fault_done(dev, &fault, 0), -ENOENT);
	expect_done(dev, point);
	ops->close(dev);
}

static void unserved_fault_fails_the_work_then_the_device(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "engines=2");
	struct kernel_args args = { .addr = at(rig, 0), .value = 1, .stride = PAGE };
	struct svm_device_fault fault;
	struct svm_point first;
	struct svm_point point;
	struct svm_point after;

	assert_int_equal(run(dev, k_nothing, NULL, 0, 1, &first), 0);
	assert_int_equal(run(dev, k_store, &args, sizeof(args), 1, &point), 0);
	assert_int_equal(run(dev, k_nothing, NULL, 0, 1, &after), 0);
	expect_done(dev, first);
	fault = next_fault(dev);
	assert_int_equal(ops->fault_done(dev, &fault, -EACCES), 0);
	assert_int_equal(wait_point(dev, point), -EACCES);
	assert_int_equal(wait_point(dev, after), -ENODEV);
	expect_lost(dev);
	assert_int_equal(rig->n_lines, 1);
	assert_int_equal(run(dev, k_nothing, NULL, 0, 1, &after), -ENODEV);
	ops->close(dev);
}

static void unbound_touch_without_faults_loses_the_device(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "faults=off");
	struct kernel_args args = { .addr = at(rig, 3 * BLOCK), .value = 1, .stride = PAGE };
	struct svm_point point;
	char where[32];

	assert_int_equal(ops->fault_fd(dev), -EOPNOTSUPP);
	assert_int_equal(run(dev, k_store, &args, sizeof(args), 1, &point), 0);
	assert_int_equal(wait_point(dev, point), -ENODEV);
	expect_lost(dev);
	assert_int_equal(rig->n_lines, 1);
	(void)snprintf(where, sizeof(where), "write=0x%llx", (unsigned long long)args.addr);
	assert_non_null(strstr(rig->log, where));
	ops->close(dev);
}

static void write_to_read_only_without_faults_loses_the_device(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "faults=off");
	struct kernel_args args = { .addr = at(rig, 0), .other = at(rig, BLOCK), .stride = 8 };
	struct svm_point point;

	*(uint64_t *)(void *)rig->alias = 5;
	assert_int_equal(bind_one(dev, at(rig, 0), PAGE, SVM_BIND_HOST, 0, 0), 0);
	assert_int_equal(
		bind_one(dev, at(rig, BLOCK), PAGE, SVM_BIND_HOST | SVM_BIND_WRITE, 0, BLOCK), 0);
	assert_int_equal(run(dev, k_load, &args, sizeof(args), 1, &point), 0);
	expect_done(dev, point);
	assert_int_equal(*(uint64_t *)(void *)(rig->alias + BLOCK), 5);
	assert_int_equal(run(dev, k_add, &args, sizeof(args), 1, &point), 0);
	assert_int_equal(wait_point(dev, point), -ENODEV);
	assert_int_equal(*(uint64_t *)(void *)rig->alias, 5);
	ops->close(dev);
}

static void touch_outside_is_fatal_also_with_faults(void **state)
{
	struct rig *rig = *state;
	const uint64_t wild[] = { 0, 8, at(rig, WINDOW_SIZE), UINT64_C(0xdead000000000000) };

	for (unsigned int i = 0; i < 4; i++) {
		struct svm_soft_device *dev = open_device(rig, "");
		struct kernel_args args = { .addr = wild[i], .value = 1, .stride = 8 };
		struct svm_device_fault fault;
		struct svm_point point;
		uint64_t value;

		assert_int_equal(run(dev, k_store, &args, sizeof(args), 1, &point), 0);
		/* The core reads faults and events as they come. */
		while (ops->completed(dev, SVM_TIMELINE_WORK, &value) == 0) {
			struct pollfd fds[] = { { .fd = ops->event_fd(dev), .events = POLLIN },
						{ .fd = ops->fault_fd(dev), .events = POLLIN } };

			assert_true(poll(fds, 2, WAIT_MS) > 0);
			assert_int_equal(ops->fault_read(dev, &fault, 1), 0);
			ops->event_ack(dev);
		}
		assert_true(value < point.value);
		ops->close(dev);
	}
}

static void k_jump(const void *args, uint64_t i, uint64_t n)
{
	const struct kernel_args *a = args;
	void (*go)(void);

	(void)i;
	(void)n;
	memcpy(&go, &a->addr, sizeof(go));
	go();
}

static void k_abort(const void *args, uint64_t i, uint64_t n)
{
	(void)args;
	(void)i;
	(void)n;
	__builtin_trap();
}

static void k_past_the_end(const void *args, uint64_t i, uint64_t n)
{
	k_add(args, i, n);
}

/* Running unbound memory is not an access that can be served; nor are traps and bus errors. */
static void other_exceptions_lose_the_device(void **state)
{
	struct rig *rig = *state;
	struct kernel_args args = { .addr = at(rig, WINDOW_SIZE - BLOCK), .stride = 8 };
	void (*const kernels[])(const void *, uint64_t, uint64_t) = { k_jump, k_abort,
								      k_past_the_end };

	for (unsigned int i = 0; i < 3; i++) {
		struct svm_soft_device *dev = open_device(rig, "");
		struct svm_point point;

		assert_int_equal(bind_one(dev, args.addr, BLOCK, SVM_BIND_WRITE | SVM_BIND_HOST, 0,
					  WINDOW_SIZE - BLOCK),
				 0);
		/* The file is shorter than what is bound: SIGBUS. */
		if (i == 2)
			assert_int_equal(ftruncate(rig->host_fd, (off_t)(WINDOW_SIZE - BLOCK)), 0);
		assert_int_equal(run(dev, kernels[i], &args, sizeof(args), 1, &point), 0);
		assert_int_equal(wait_point(dev, point), -ENODEV);
		ops->close(dev);
	}
}

/* ---- Work ------------------------------------------------------------------------------------- */

static void every_index_runs_once(void **state)
{
	static const uint64_t sizes[] = { 1, 2, 3, 4, 7, 64, 1000, 100003, BLOCK };
	static const char *const options[] = { "engines=1", "engines=4", "engines=16:faults=off" };
	struct rig *rig = *state;

	for (unsigned int o = 0; o < 3; o++) {
		struct svm_soft_device *dev = open_device(rig, options[o]);
		struct svm_point point;

		assert_int_equal(
			bind_one(dev, at(rig, 0), BLOCK, SVM_BIND_WRITE | SVM_BIND_HOST, 0, 0), 0);
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			struct kernel_args args = { .addr = at(rig, 0), .value = sizes[s] };

			memset(rig->alias, 0, BLOCK);
			assert_int_equal(run(dev, k_count, &args, sizeof(args), sizes[s], &point),
					 0);
			expect_done(dev, point);
			for (uint64_t i = 0; i < BLOCK; i++) {
				if (rig->alias[i] != (i < sizes[s]))
					fail_msg("n=%llu: index %llu ran %u times",
						 (unsigned long long)sizes[s],
						 (unsigned long long)i, rig->alias[i]);
			}
		}
		ops->close(dev);
	}
}

static void launches_run_in_order(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "engines=2");
	struct kernel_args args = { .addr = at(rig, 0), .stride = 8 };
	struct svm_point point = { 0 };
	uint64_t *words = (uint64_t *)(void *)rig->alias;

	assert_int_equal(bind_one(dev, at(rig, 0), BLOCK, SVM_BIND_WRITE | SVM_BIND_HOST, 0, 0), 0);
	for (unsigned int i = 1; i <= 500; i++) {
		args.value = i * UINT64_C(1000);
		assert_int_equal(run(dev, k_store, &args, sizeof(args), 100, &point), 0);
	}
	expect_done(dev, point);
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(words[i], 500000 + i);
	ops->close(dev);
}

static void arguments_are_copied_by_the_call(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "");
	uint8_t args[SVM_SOFT_ARGS_SIZE + 1];
	uint64_t addr = at(rig, 0);
	struct svm_point point;

	for (unsigned int i = 0; i < sizeof(args); i++)
		args[i] = (uint8_t)i;
	memcpy(args, &addr, sizeof(addr));
	*(uint64_t *)(void *)rig->alias = 0;
	assert_int_equal(bind_one(dev, addr, PAGE, SVM_BIND_WRITE | SVM_BIND_HOST, 0, 0), 0);
	assert_int_equal(run(dev, k_check_args, args, SVM_SOFT_ARGS_SIZE, 1, &point), 0);
	memset(args, 0, sizeof(args));
	expect_done(dev, point);
	assert_int_equal(*(uint64_t *)(void *)rig->alias, 1);

	assert_int_equal(run(dev, NULL, args, 8, 1, &point), -EINVAL);
	assert_int_equal(run(dev, k_nothing, args, 8, 0, &point), -EINVAL);
	assert_int_equal(run(dev, k_nothing, args, SVM_SOFT_ARGS_SIZE + 1, 1, &point), -EINVAL);
	assert_int_equal(run(dev, k_nothing, NULL, 8, 1, &point), -EINVAL);
	ops->close(dev);
}

static void work_copies_and_fills(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "");
	struct svm_work fill = {
		.dst = at(rig, 100), .size = 3 * PAGE + 77, .is_fill = 1, .value = 0xab
	};
	struct svm_work copy = { .dst = at(rig, 5 * PAGE + 1),
				 .src = at(rig, 99),
				 .size = 2 * PAGE + 3 };
	struct svm_point point;

	memset(rig->alias, 1, 16 * PAGE);
	assert_int_equal(ops->work(dev, &fill, &point), 0);
	assert_int_equal(point.timeline, SVM_TIMELINE_WORK);
	/* Through faults, page by page. */
	for (unsigned int i = 0; i < 4; i++) {
		struct svm_device_fault fault = next_fault(dev);
		uint64_t offset = fault.addr - at(rig, 0);

		assert_int_equal(fault.access, SVM_ACCESS_WRITE);
		assert_int_equal(bind_one(dev, fault.addr, PAGE, SVM_BIND_WRITE | SVM_BIND_HOST, 0,
					  offset),
				 0);
		assert_int_equal(ops->fault_done(dev, &fault, 0), 0);
	}
	expect_done(dev, point);
	assert_int_equal(bind_one(dev, at(rig, 0), BLOCK, SVM_BIND_WRITE | SVM_BIND_HOST, 0, 0), 0);
	assert_int_equal(ops->work(dev, &copy, &point), 0);
	expect_done(dev, point);
	for (uint64_t i = 0; i < 16 * PAGE; i++) {
		uint8_t want = i >= 100 && i < 100 + fill.size ? 0xab : 1;

		if (i >= 5 * PAGE + 1 && i < 5 * PAGE + 1 + copy.size)
			want = i == 5 * PAGE + 1 ? 1 : 0xab;
		assert_int_equal(rig->alias[i], want);
	}

	fill.size = 0;
	assert_int_equal(ops->work(dev, &fill, &point), -EINVAL);
	fill.size = 1;
	fill.value = 256;
	assert_int_equal(ops->work(dev, &fill, &point), -EINVAL);
	fill.value = 1;
	fill.is_fill = 2;
	assert_int_equal(ops->work(dev, &fill, &point), -EINVAL);
	fill.is_fill = 1;
	fill.dst = at(rig, WINDOW_SIZE);
	assert_int_equal(ops->work(dev, &fill, &point), -EINVAL);
	copy.src = at(rig, WINDOW_SIZE - 1);
	assert_int_equal(ops->work(dev, &copy, &point), -EINVAL);
	ops->close(dev);
}

/* ---- Copies ----------------------------------------------------------------------------------- */

static void copies_move_bytes_in_order(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "visible=off");
	uint64_t chunk = new_chunk(dev);
	struct svm_copy copies[3] = {
		{ chunk_end(dev, chunk, 0), host_end(rig->alias), BLOCK },
		{ chunk_end(dev, chunk, PAGE), no_end, PAGE },
		{ host_end(rig->alias + BLOCK), chunk_end(dev, chunk, 0), BLOCK },
	};
	struct svm_point point;

	for (uint64_t i = 0; i < BLOCK; i++)
		rig->alias[i] = (uint8_t)(i * 7 + i / PAGE);
	assert_int_equal(ops->copy(dev, copies, 3, 0, &point), 0);
	assert_int_equal(point.timeline, SVM_TIMELINE_COPY);
	assert_true(point.value > 0);
	expect_done(dev, point);
	assert_memory_equal(rig->alias + BLOCK, rig->alias, PAGE);
	assert_memory_equal(rig->alias + BLOCK + 2 * PAGE, rig->alias + 2 * PAGE, BLOCK - 2 * PAGE);
	for (uint64_t i = 0; i < PAGE; i++)
		assert_int_equal(rig->alias[BLOCK + PAGE + i], 0);
	ops->close(dev);
}

static void urgent_copies_are_done_at_once(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "");
	struct svm_soft_device *slow = open_device(rig, "latency=1000");
	uint64_t chunk = new_chunk(dev);
	struct svm_point point;

	memset(rig->alias, 3, PAGE);
	assert_int_equal(copy_one(dev, chunk_end(dev, chunk, 0), host_end(rig->alias), PAGE,
				  SVM_COPY_URGENT, &point),
			 0);
	assert_int_equal(point.value, 0);
	assert_int_equal(copy_one(dev, host_end(rig->alias + PAGE), chunk_end(dev, chunk, 0), PAGE,
				  SVM_COPY_URGENT, &point),
			 0);
	assert_int_equal(point.value, 0);
	assert_memory_equal(rig->alias + PAGE, rig->alias, PAGE);
	/* A modelled engine takes its time. */
	assert_int_equal(
		copy_one(slow, host_end(rig->alias), no_end, PAGE, SVM_COPY_URGENT, &point), 0);
	assert_true(point.value > 0);
	expect_done(slow, point);
	ops->close(slow);
	ops->close(dev);
}

static void peers_copy_directly(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *a = open_device(rig, "memory=4M");
	struct svm_soft_device *b = open_device(rig, "memory=4M:visible=off");
	struct svm_soft_device *loner = open_device(rig, "memory=4M:peer=off");
	uint64_t chunk_a = new_chunk(a);
	uint64_t chunk_b = new_chunk(b);
	uint64_t chunk_l = new_chunk(loner);
	struct svm_point point;
	uint8_t *bytes;

	assert_int_equal(ops->chunk_map(a, chunk_a, (void **)&bytes), 0);
	memset(bytes, 0x5a, BLOCK);
	assert_int_equal(copy_one(a, chunk_end(b, chunk_b, PAGE), chunk_end(a, chunk_a, 0), PAGE, 0,
				  &point),
			 0);
	expect_done(a, point);
	assert_int_equal(
		copy_one(b, host_end(rig->alias), chunk_end(b, chunk_b, PAGE), PAGE, 0, &point), 0);
	expect_done(b, point);
	assert_memory_equal(rig->alias, bytes, PAGE);
	assert_int_equal(copy_one(a, chunk_end(loner, chunk_l, 0), chunk_end(a, chunk_a, 0), PAGE,
				  0, &point),
			 -EOPNOTSUPP);
	assert_int_equal(copy_one(loner, chunk_end(loner, chunk_l, 0), chunk_end(a, chunk_a, 0),
				  PAGE, 0, &point),
			 -EOPNOTSUPP);

	/* A peer that is lost has no bytes to give. */
	ops->kill(b);
	assert_int_equal(
		copy_one(a, host_end(rig->alias), chunk_end(b, chunk_b, 0), PAGE, 0, &point), 0);
	assert_int_equal(wait_point(a, point), -EIO);
	assert_int_equal(copy_one(a, host_end(rig->alias), chunk_end(b, chunk_b, 0), PAGE,
				  SVM_COPY_URGENT, &point),
			 -EIO);
	/* And it was a failure of that copy alone. */
	assert_int_equal(
		copy_one(a, host_end(rig->alias), chunk_end(a, chunk_a, 0), PAGE, 0, &point), 0);
	expect_done(a, point);
	ops->close(loner);
	ops->close(b);
	ops->close(a);
}

static void copy_refuses_what_is_wrong(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "");
	uint64_t chunk = new_chunk(dev);
	struct svm_copy_end host = host_end(rig->alias);
	struct svm_copy_end good = chunk_end(dev, chunk, 0);
	struct svm_copy_end both = good;
	const struct svm_copy bad[] = {
		{ good, host, 0 },
		{ good, host, PAGE - 1 },
		{ chunk_end(dev, chunk, 8), host, PAGE },
		{ chunk_end(dev, chunk, BLOCK), host, PAGE },
		{ chunk_end(dev, chunk, BLOCK - PAGE), host, 2 * PAGE },
		{ chunk_end(dev, chunk, UINT64_MAX - PAGE + 1), host, PAGE },
		{ chunk_end(dev, 0, 0), host, PAGE },
		{ chunk_end(dev, chunk + 1, 0), host, PAGE },
		{ good, chunk_end(dev, chunk + 1, 0), PAGE },
		{ good, chunk_end(NULL, chunk, 0), PAGE },
		{ no_end, host, PAGE },
	};
	struct svm_copy one = { good, host, PAGE };
	struct svm_point point;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (ops->copy(dev, &bad[i], 1, 0, &point) != -EINVAL)
			fail_msg("row %zu is not refused", i);
	}
	assert_int_equal(ops->copy(dev, &one, 0, 0, &point), -EINVAL);
	assert_int_equal(ops->copy(dev, &one, SVM_COPY_BATCH + 1, 0, &point), -EINVAL);
	assert_int_equal(ops->copy(dev, &one, 1, 2, &point), -EINVAL);
	both.host = rig->alias;
	one.dst = both;
	assert_int_equal(ops->copy(dev, &one, 1, 0, &point), -EINVAL);
	ops->close(dev);
}

static void full_copy_ring_says_again(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "latency=2000000");
	struct svm_copy copies[SVM_COPY_BATCH];
	struct svm_point point;
	uint64_t value;

	for (unsigned int i = 0; i < SVM_COPY_BATCH; i++)
		copies[i] = (struct svm_copy){ host_end(rig->alias), no_end, PAGE };
	assert_int_equal(ops->copy(dev, copies, SVM_COPY_BATCH, 0, &point), 0);
	assert_int_equal(ops->copy(dev, copies, SVM_COPY_BATCH, 0, &point), 0);
	assert_int_equal(ops->copy(dev, copies, SVM_COPY_BATCH, 0, &point), -EAGAIN);
	assert_int_equal(ops->completed(dev, SVM_TIMELINE_COPY, &value), 0);
	/* Closed with all of that under way: no wait for it. */
	value = now_ns();
	ops->close(dev);
	assert_true(now_ns() - value < UINT64_C(1000000000));
}

/* Milliseconds that copies take on a device with these options: the best of three, as the machine may
 * have other things to do. */
static uint64_t time_copies(struct rig *rig, const char *options, uint64_t size, unsigned int n)
{
	struct svm_soft_device *dev = open_device(rig, options);
	uint64_t best = UINT64_MAX;

	for (unsigned int k = 0; k < 3; k++) {
		struct svm_point point = { 0 };
		uint64_t start = now_ns();

		for (unsigned int i = 0; i < n; i++)
			assert_int_equal(copy_one(dev, host_end(rig->alias),
						  host_end(rig->alias + 8 * BLOCK), size, 0,
						  &point),
					 0);
		expect_done(dev, point);
		start = now_ns() - start;
		best = start < best ? start : best;
	}
	ops->close(dev);
	return best / 1000000;
}

static void bandwidth_and_latency_are_limited(void **state)
{
	struct rig *rig = *state;
	unsigned int slower = fixture_slower();

	memset(rig->alias, 1, 16 * BLOCK);
	/* 4 MiB at 64 MiB/s and at 16 MiB/s: 62 ms and 250 ms. */
	assert_in_range(time_copies(rig, "bandwidth=64M", 2 * BLOCK, 1), 60, 180 * slower);
	assert_in_range(time_copies(rig, "bandwidth=16M", 2 * BLOCK, 1), 240, 720 * slower);
	/* In one piece or in many, the same. */
	assert_in_range(time_copies(rig, "bandwidth=64M", 16 * PAGE, 64), 60, 180 * slower);
	/* 10 copies of 5 ms at least each. */
	assert_in_range(time_copies(rig, "latency=5000000", PAGE, 10), 50, 200 * slower);
	assert_in_range(time_copies(rig, "", PAGE, 10), 0, 40 * slower);
}

/* ---- Death ------------------------------------------------------------------------------------ */

/* The process goes without being asked, as in an unplug. */
static void murder(struct svm_soft_device *dev)
{
	assert_int_equal(kill(dev->pid, SIGKILL), 0);
}

static void assert_refuses_all(struct rig *rig, struct svm_soft_device *dev)
{
	struct svm_work fill = { .dst = at(rig, 0), .size = 1, .is_fill = 1 };
	struct svm_bind unbind = { .addr = at(rig, 0), .size = PAGE, .flags = SVM_BIND_UNBIND };
	struct svm_device_fault fault;
	struct svm_point point;
	uint64_t chunk;

	assert_int_equal(ops->bind(dev, &unbind, 1, &point), -ENODEV);
	assert_int_equal(ops->work(dev, &fill, &point), -ENODEV);
	assert_int_equal(run(dev, k_nothing, NULL, 0, 1, &point), -ENODEV);
	assert_int_equal(ops->chunk_alloc(dev, &chunk), -ENODEV);
	assert_int_equal(ops->span_add(dev, UINT64_C(0x10000000), PAGE), -ENODEV);
	assert_int_equal(ops->span_remove(dev, UINT64_C(0x10000000), PAGE), -ENODEV);
	assert_int_equal(ops->fault_read(dev, &fault, 1), 0);
}

static void death_during_a_launch(void **state)
{
	struct rig *rig = *state;

	for (unsigned int by_kill = 0; by_kill < 2; by_kill++) {
		struct svm_soft_device *dev = open_device(rig, "engines=2");
		struct kernel_args args = { .addr = at(rig, 0) };
		_Atomic uint64_t *alive = (_Atomic uint64_t *)(void *)rig->alias;
		struct svm_point point;
		uint64_t before;

		atomic_store(alive, 0);
		assert_int_equal(
			bind_one(dev, at(rig, 0), PAGE, SVM_BIND_WRITE | SVM_BIND_HOST, 0, 0), 0);
		assert_int_equal(run(dev, k_spin, &args, sizeof(args), 1, &point), 0);
		before = now_ns();
		while (atomic_load(alive) == 0)
			assert_true(now_ns() - before < (uint64_t)WAIT_MS * 1000000);
		if (by_kill)
			ops->kill(dev);
		else
			murder(dev);
		assert_int_equal(wait_point(dev, point), -ENODEV);
		expect_lost(dev);
		assert_refuses_all(rig, dev);
		ops->kill(dev);
		ops->close(dev);
	}
}

static void death_during_a_fault(void **state)
{
	struct rig *rig = *state;

	for (unsigned int taken = 0; taken < 2; taken++) {
		struct svm_soft_device *dev = open_device(rig, "");
		struct kernel_args args = { .addr = at(rig, 0), .value = 1 };
		struct svm_device_fault fault = { 0 };
		struct svm_point point;

		assert_int_equal(run(dev, k_store, &args, sizeof(args), 1, &point), 0);
		assert_true(readable(ops->fault_fd(dev), WAIT_MS));
		if (taken)
			fault = next_fault(dev);
		murder(dev);
		expect_lost(dev);
		/* The service may be in the middle of it. */
		if (taken)
			assert_int_equal(ops->fault_done(dev, &fault, 0), 0);
		else
			(void)ops->fault_read(dev, &fault, 1);
		ops->close(dev);
	}
}

static void death_during_copies(void **state)
{
	struct rig *rig = *state;

	for (unsigned int by_kill = 0; by_kill < 2; by_kill++) {
		struct svm_soft_device *dev = open_device(rig, "bandwidth=1M");
		struct svm_point point;
		uint8_t last;
		uint64_t start = now_ns();

		memset(rig->alias, 0, BLOCK);
		memset(rig->alias + BLOCK, 9, BLOCK);
		for (unsigned int i = 0; i < 8; i++)
			assert_int_equal(copy_one(dev, host_end(rig->alias),
						  host_end(rig->alias + BLOCK), BLOCK, 0, &point),
					 0);
		if (by_kill)
			ops->kill(dev);
		else
			murder(dev);
		assert_int_equal(wait_point(dev, point), -ENODEV);
		expect_lost(dev);
		/* Not the 16 s that the copies would have taken. */
		assert_true(now_ns() - start < UINT64_C(2000000000));
		/* Nothing writes after the loss was told. */
		last = rig->alias[BLOCK - 1];
		memset(rig->alias, last, BLOCK);
		assert_int_equal(copy_one(dev, host_end(rig->alias), no_end, PAGE, 0, &point),
				 -ENODEV);
		ops->close(dev);
		for (uint64_t i = 0; i < BLOCK; i++)
			assert_int_equal(rig->alias[i], last);
	}
}

/* A copy that is under way when the process dies may still write: the loss is told after it. */
static void loss_waits_for_a_copy_under_way(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "");
	uint8_t *source = map_private(PAGE);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uintptr_t)source, PAGE },
				       .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_zeropage zero = { .range = { (uintptr_t)source, PAGE } };
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	struct svm_point point;
	struct uffd_msg msg;
	uint64_t value;

	assert_true(uffd >= 0);
	assert_int_equal(ioctl(uffd, UFFDIO_API, &api), 0);
	assert_int_equal(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
	rig->alias[0] = 1;
	assert_int_equal(copy_one(dev, host_end(rig->alias), host_end(source), PAGE, 0, &point), 0);
	assert_int_equal(read(uffd, &msg, sizeof(msg)), sizeof(msg));
	/* The engine is in the middle of the copy now. */
	murder(dev);
	assert_true(readable(ops->event_fd(dev), WAIT_MS));
	ops->event_ack(dev);
	for (unsigned int i = 0; i < SVM_TIMELINES; i++)
		assert_int_equal(ops->completed(dev, i, &value), 0);
	assert_false(readable(ops->event_fd(dev), 50));
	assert_int_equal(ioctl(uffd, UFFDIO_ZEROPAGE, &zero), 0);
	expect_lost(dev);
	assert_int_equal(rig->alias[0], 0);
	ops->close(dev);
	close(uffd);
	assert_int_equal(munmap(source, PAGE), 0);
}

static void memory_is_kept_or_lost(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *kept = open_device(rig, "keep=on");
	struct svm_soft_device *hidden = open_device(rig, "keep=on:visible=off");
	struct svm_soft_device *lost = open_device(rig, "keep=off");
	struct svm_soft_device *all[] = { kept, hidden, lost };
	uint64_t chunks[3];
	struct svm_point point;
	void *bytes;

	for (unsigned int i = 0; i < 3; i++) {
		struct kernel_args args = { .addr = at(rig, 0), .value = 60 + i };

		chunks[i] = new_chunk(all[i]);
		assert_int_equal(bind_one(all[i], at(rig, 0), BLOCK, SVM_BIND_WRITE, chunks[i], 0),
				 0);
		assert_int_equal(run(all[i], k_store, &args, sizeof(args), 1, &point), 0);
		expect_done(all[i], point);
		murder(all[i]);
		expect_lost(all[i]);
	}
	assert_int_equal(ops->memory_kept(kept), 1);
	assert_int_equal(ops->memory_kept(hidden), 0);
	assert_int_equal(ops->memory_kept(lost), 0);
	assert_int_equal(ops->chunk_map(kept, chunks[0], &bytes), 0);
	assert_int_equal(*(uint64_t *)bytes, 60);
	assert_int_equal(ops->chunk_map(lost, chunks[2], &bytes), -ENODEV);

	assert_int_equal(copy_one(kept, host_end(rig->alias), chunk_end(kept, chunks[0], 0), PAGE,
				  0, &point),
			 0);
	assert_int_equal(point.value, 0);
	assert_int_equal(*(uint64_t *)(void *)rig->alias, 60);
	assert_int_equal(copy_one(hidden, host_end(rig->alias), chunk_end(hidden, chunks[1], 0),
				  PAGE, 0, &point),
			 0);
	assert_int_equal(*(uint64_t *)(void *)rig->alias, 61);
	assert_int_equal(copy_one(lost, host_end(rig->alias), chunk_end(lost, chunks[2], 0), PAGE,
				  0, &point),
			 -ENODEV);
	for (unsigned int i = 0; i < 3; i++) {
		ops->chunk_free(all[i], chunks[i]);
		ops->close(all[i]);
	}
}

static void death_during_a_span_op(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "");
	uint8_t *memory = map_private(PAGE);

	/* Nobody answers, and nobody has noticed the death yet. */
	murder(dev);
	assert_int_equal(ops->span_add(dev, (uint64_t)(uintptr_t)memory, PAGE), -ENODEV);
	expect_lost(dev);
	ops->close(dev);
	assert_int_equal(munmap(memory, PAGE), 0);
}

/* An application that waits for any child takes ours, too. */
static void somebody_else_reaps_the_process(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "");

	murder(dev);
	assert_int_equal(waitpid(-1, NULL, 0), dev->pid);
	expect_lost(dev);
	ops->close(dev);

	dev = open_device(rig, "");
	assert_ptr_not_equal(signal(SIGCHLD, SIG_IGN), SIG_ERR);
	ops->kill(dev);
	expect_lost(dev);
	ops->close(dev);
	assert_ptr_not_equal(signal(SIGCHLD, SIG_DFL), SIG_ERR);
}

static void *kill_it(void *arg)
{
	ops->kill(arg);
	return NULL;
}

static void kill_from_several_threads(void **state)
{
	struct rig *rig = *state;

	for (unsigned int round = 0; round < 10; round++) {
		struct svm_soft_device *dev = open_device(rig, "");
		pthread_t threads[3];
		uint64_t value;

		for (unsigned int i = 0; i < 3; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, kill_it, dev), 0);
		while (ops->completed(dev, SVM_TIMELINE_BIND, &value) == 0) {
			assert_true(readable(ops->event_fd(dev), WAIT_MS));
			ops->event_ack(dev);
		}
		for (unsigned int i = 0; i < 3; i++)
			assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(ops->completed(dev, SVM_TIMELINE_BIND, &value), -ENODEV);
		ops->close(dev);
	}
}

static volatile sig_atomic_t n_handled;

static void on_signal(int signal)
{
	(void)signal;
	n_handled++;
}

static void signals_for_the_application_do_not_matter(void **state)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGALRM, SIGPIPE, SIGCHLD };
	struct rig *rig = *state;
	struct sigaction action = { .sa_handler = on_signal };
	struct sigaction old;
	struct svm_soft_device *dev;
	struct svm_point point;

	assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
	dev = open_device(rig, "engines=2");
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		assert_int_equal(kill(dev->pid, signals[i]), 0);
	assert_int_equal(run(dev, k_nothing, NULL, 0, 100, &point), 0);
	expect_done(dev, point);
	/* The mask of this thread is its own again. */
	n_handled = 0;
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(n_handled, 1);
	ops->close(dev);
	assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
}

static _Atomic uint64_t *handler_word;

static void on_abort(int signal)
{
	(void)signal;
	atomic_fetch_add(handler_word, 1);
}

static void k_raise(const void *args, uint64_t i, uint64_t n)
{
	(void)args;
	(void)i;
	(void)n;
	(void)raise(SIGABRT);
}

static void handlers_of_the_application_do_not_run_there(void **state)
{
	struct rig *rig = *state;
	struct sigaction action = { .sa_handler = on_abort };
	struct sigaction old;
	struct svm_soft_device *dev;
	struct svm_point point;

	handler_word = (_Atomic uint64_t *)(void *)rig->alias;
	assert_int_equal(sigaction(SIGABRT, &action, &old), 0);
	dev = open_device(rig, "");
	assert_int_equal(run(dev, k_raise, NULL, 0, 1, &point), 0);
	assert_int_equal(wait_point(dev, point), -ENODEV);
	assert_int_equal(atomic_load(handler_word), 0);
	assert_int_equal(sigaction(SIGABRT, &old, NULL), 0);
	assert_non_null(strstr(rig->log, "signal=6"));
	ops->close(dev);
}

static void the_process_holds_nothing_of_ours(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *other = open_device(rig, "");
	struct svm_soft_device *dev;
	char path[64];
	int ends[2];
	char byte;

	assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
	dev = open_device(rig, "");
	close(ends[1]);
	/* The end of file arrives although the device lives. */
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
	/* 8 fds of its own; with a sanitizer stderr, too. And the two entries for . and .. */
	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)dev->pid);
	assert_in_range(count_entries(path), 10, 11);
	ops->close(dev);
	ops->close(other);
}

/* Send one fd with a byte, and receive it. */
static void send_fd(int socket, int fd)
{
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .space = { 0 } };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.space,
			      .msg_controllen = sizeof(control.space) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(socket, &msg, 0) != 1)
		_exit(3);
}

static int receive_fd(int socket)
{
	char byte;
	struct iovec iov = { &byte, 1 };
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.space,
			      .msg_controllen = sizeof(control.space) };
	struct cmsghdr *c;
	int fd = -1;

	assert_int_equal(recvmsg(socket, &msg, MSG_CMSG_CLOEXEC), 1);
	c = CMSG_FIRSTHDR(&msg);
	if (!c)
		fail_msg("no fd came");
	else
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static void *open_and_end(void *arg)
{
	void **in = arg;

	return try_open(in[0], "engines=2", (struct svm_soft_device **)&in[1]) ? NULL : in;
}

/*
 * A process like the application: it opens a device in a thread that ends, which must not matter,
 * sends us the pidfd of the device's process, and goes. A busy device is as mortal as an idle one.
 */
static void be_an_application(struct rig *rig, int socket, unsigned int how)
{
	struct kernel_args args = { .addr = at(rig, 0) };
	struct svm_soft_device *dev;
	void *in[2] = { rig, NULL };
	struct svm_point point;
	pthread_t thread;
	void *opened;
	char byte;

	if (pthread_create(&thread, NULL, open_and_end, in) || pthread_join(thread, &opened) ||
	    !opened)
		_exit(2);
	dev = in[1];
	if (bind_one(dev, at(rig, 0), PAGE, SVM_BIND_WRITE | SVM_BIND_HOST, 0, 0) ||
	    run(dev, k_spin, &args, sizeof(args), 1, &point))
		_exit(2);
	send_fd(socket, dev->pid_fd);
	if (read(socket, &byte, 1) != 1)
		_exit(2);
	if (how == 0)
		_exit(0);
	if (how == 1)
		(void)kill(getpid(), SIGKILL);
	/* A child holds what was open, and stays until the socket is closed. */
	if (how == 3) {
		if (fork() == 0)
			(void)!read(socket, &byte, 1);
		_exit(0);
	}
	/* It stays, as another program, which reads from the socket until that is closed. */
	if (dup2(socket, 0) == 0)
		(void)execlp("cat", "cat", (char *)NULL);
	_exit(2);
}

static void the_process_ends_with_the_application(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	for (unsigned int how = 0; how < 4; how++) {
		siginfo_t info;
		int sockets[2];
		int pid_fd;
		pid_t pid;

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
		pid = fork();
		if (pid == 0) {
			close(sockets[0]);
			be_an_application(rig, sockets[1], how);
		}
		close(sockets[1]);
		pid_fd = receive_fd(sockets[0]);
		assert_false(readable(pid_fd, 100));
		assert_int_equal(write(sockets[0], "x", 1), 1);
		assert_true(readable(pid_fd, WAIT_MS));
		close(pid_fd);
		memset(&info, 0, sizeof(info));
		if (how == 2)
			assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG), 0);
		assert_int_equal(info.si_pid, 0);
		close(sockets[0]);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		/* And what it left behind. */
		while (waitpid(-1, NULL, 0) > 0)
			;
	}
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

/* ---- Idle ------------------------------------------------------------------------------------- */

/* Times that any thread of a process went to sleep: each time that it woke up it did once more. */
static uint64_t count_sleeps(pid_t pid, const char *name)
{
	char path[64 + sizeof(((struct dirent *)0)->d_name)];
	struct dirent *entry;
	uint64_t total = 0;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		unsigned long long sleeps = 0;
		char comm[32] = "";
		char line[256];
		bool found = false;
		FILE *file;

		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)pid,
			       entry->d_name);
		file = fopen(path, "re");
		assert_non_null(file);
		while (fgets(line, sizeof(line), file)) {
			(void)sscanf(line, "Name: %31s", comm);
			found |= sscanf(line, "voluntary_ctxt_switches: %llu", &sleeps) == 1;
		}
		fclose(file);
		assert_true(found);
		if (!name || strcmp(comm, name) == 0)
			total += sleeps;
	}
	closedir(dir);
	return total;
}

static void idle_devices_do_not_run(void **state)
{
	struct rig *rig = *state;
	struct svm_soft_device *dev = open_device(rig, "engines=4");
	struct svm_point point;
	uint64_t sleeps = 0;
	uint64_t before = 1;

	/* After work, not only before any. */
	for (unsigned int i = 0; i < 100; i++) {
		assert_int_equal(run(dev, k_nothing, NULL, 0, 100, &point), 0);
		expect_done(dev, point);
		assert_int_equal(bind_one(dev, at(rig, 0), PAGE, SVM_BIND_UNBIND, 0, 0), 0);
		assert_int_equal(copy_one(dev, host_end(rig->alias), no_end, PAGE, 0, &point), 0);
		expect_done(dev, point);
	}
	ops->event_ack(dev);
	/* They fall asleep when the machine lets them come that far, and then nobody wakes up. */
	for (unsigned int i = 0; i < 20 && sleeps != before; i++) {
		before = sleeps;
		assert_false(readable(ops->event_fd(dev), 300));
		sleeps = count_sleeps(dev->pid, NULL) + count_sleeps(getpid(), "svm-soft-copy");
	}
	assert_true(sleeps > 0);
	assert_int_equal(sleeps, before);
	ops->close(dev);
}

/* ---- Several ---------------------------------------------------------------------------------- */

static void *open_and_close(void *arg)
{
	struct rig *rig = arg;

	for (unsigned int i = 0; i < 10; i++) {
		struct svm_soft_device *dev = open_device(rig, "engines=2");
		struct svm_point point;

		assert_int_equal(run(dev, k_nothing, NULL, 0, 10, &point), 0);
		expect_done(dev, point);
		ops->close(dev);
	}
	return NULL;
}

static void devices_open_and_close_in_parallel(void **state)
{
	struct rig *rig = *state;
	pthread_t threads[3];

	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, open_and_close, rig), 0);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* What is made once per process (a sanitizer's own thread) is made before the first count, and the device's thread is gone. */
static int warm_up(void **state)
{
	struct rig *rig;
	void *own = NULL;
	unsigned int n_threads;
	unsigned int n_maps;
	unsigned int n_fds;

	if (setup(&own))
		return -1;
	rig = own;
	ops->close(open_device(rig, ""));
	assert_int_equal(munmap(rig->alias, WINDOW_SIZE), 0);
	close(rig->host_fd);
	/* A sanitizer's thread stays: not for long, then. */
	count_settled(rig->n_threads, 1000, &n_fds, &n_threads, &n_maps);
	free(rig);
	*state = NULL;
	return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(options_refuse_what_is_wrong),
		CASE(options_mean_what_they_say),
		CASE(enumerate_lists_one),
		CASE(open_refuses_bad_windows),
		CASE(open_fails_cleanly_without_fds),
		CASE(chunks_run_out_and_come_back),
		CASE(invisible_memory_is_not_mapped),
		CASE(kernels_reach_bound_memory),
		CASE(parts_of_blocks_bind_to_parts_of_chunks),
		CASE(pages_are_what_was_bound_last),
		CASE(host_alias_is_shared_both_ways),
		CASE(entries_apply_in_order),
		CASE(bind_refuses_what_is_wrong),
		CASE(rebinding_leaves_no_gap),
		CASE(threads_bind_together),
		CASE(full_rings_say_again),
		CASE(bind_without_room_fails_and_unbinds),
		CASE(spans_replace_what_was_inherited),
		CASE(spans_join_and_split),
		CASE(spans_may_cover_the_opener_stack),
		CASE(many_spans),
		CASE(faults_tell_address_and_access),
		CASE(unbound_again_faults_again),
		CASE(engines_fault_at_the_same_time),
		CASE(answers_to_no_fault_are_refused),
		CASE(unserved_fault_fails_the_work_then_the_device),
		CASE(unbound_touch_without_faults_loses_the_device),
		CASE(write_to_read_only_without_faults_loses_the_device),
		CASE(touch_outside_is_fatal_also_with_faults),
		CASE(other_exceptions_lose_the_device),
		CASE(every_index_runs_once),
		CASE(launches_run_in_order),
		CASE(arguments_are_copied_by_the_call),
		CASE(work_copies_and_fills),
		CASE(copies_move_bytes_in_order),
		CASE(urgent_copies_are_done_at_once),
		CASE(peers_copy_directly),
		CASE(copy_refuses_what_is_wrong),
		CASE(full_copy_ring_says_again),
		CASE(bandwidth_and_latency_are_limited),
		CASE(death_during_a_launch),
		CASE(death_during_a_fault),
		CASE(death_during_copies),
		CASE(loss_waits_for_a_copy_under_way),
		CASE(memory_is_kept_or_lost),
		CASE(death_during_a_span_op),
		CASE(somebody_else_reaps_the_process),
		CASE(kill_from_several_threads),
		CASE(signals_for_the_application_do_not_matter),
		CASE(handlers_of_the_application_do_not_run_there),
		CASE(the_process_holds_nothing_of_ours),
		CASE(the_process_ends_with_the_application),
		CASE(idle_devices_do_not_run),
		CASE(devices_open_and_close_in_parallel),
	};

	return cmocka_run_group_tests(tests, warm_up, NULL);
}
