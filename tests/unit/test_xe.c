// SPDX-License-Identifier: MIT
/*
 * The xe backend through its table alone, on emulated GPUs: names, memory, binding, copies, work, limits,
 * failures of any ioctl, loss. The test plays the core. Without the emulator around it, it shows what the
 * backend says where there is no such device.
 */
#include "../../backends/xe/xe_internal.h"
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#define PAGE	((uint64_t)SVM_PAGE_SIZE)
#define BLOCK	((uint64_t)SVM_BLOCK_SIZE)
#define WINDOW	UINT64_C(0x100000000000)
#define WAIT_MS 20000
#define NR_EXEC 0x49u
#define NR_BIND 0x45u

static const struct svm_backend_ops *const ops = &svm_backend_xe;

/* The emulator's controls (tests/emu/emu_ctl.h), looked up: they are there only under it. */
static struct {
	void (*inject)(int device, uint64_t nth, int err, unsigned int nr);
	void (*wedge)(int device, bool on);
	void (*unplug)(int device, bool on);
	uint64_t (*ioctls)(int device, int nr);
	uint64_t (*strict_count)(void);
} emu;

struct rig {
	uint8_t *host; /* what a stash or an alias would be */
	uint64_t host_size;
	void *dev;
	char log[2048];
	unsigned int n_fds;
	uint64_t n_strict;
};

static unsigned int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	unsigned int n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		/* The emulator keeps its own high up. */
		n += atoi(entry->d_name) < 700;
	closedir(dir);
	return n;
}

static void keep_line(void *data, int level, const char *line)
{
	struct rig *rig = data;
	size_t used = strlen(rig->log);

	(void)level;
	(void)snprintf(rig->log + used, sizeof(rig->log) - used, "%s\n", line);
}

/* The kind of the shared VM is the environment's: XE_TEST_VM. */
static int try_open(struct rig *rig, const char *options, void **ret_dev)
{
	const char *vm = getenv("XE_TEST_VM");
	char text[128];
	struct svm_backend_open args = {
		.size = sizeof(args),
		.options = text,
		.window_base = WINDOW,
		.window_size = UINT64_C(1) << 40,
		.host_fd = -1,
		.log = keep_line,
		.log_data = rig,
	};

	(void)snprintf(text, sizeof(text), "%s%s%s", options, vm ? *options ? ":vm=" : "vm=" : "",
		       vm ? vm : "");
	return ops->open(&args, ret_dev);
}

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->n_fds = count_fds();
	rig->n_strict = emu.strict_count ? emu.strict_count() : 0;
	rig->host_size = UINT64_C(96) << 20;
	rig->host = mmap(NULL, rig->host_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	assert_ptr_not_equal(rig->host, MAP_FAILED);
	*state = rig;
	return 0;
}

static int setup_open(void **state)
{
	struct rig *rig;

	if (setup(state) < 0)
		return -1;
	rig = *state;
	assert_int_equal(try_open(rig, "memory=64M", &rig->dev), 0);
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	if (rig->dev)
		ops->close(rig->dev);
	assert_int_equal(munmap(rig->host, rig->host_size), 0);
	assert_int_equal(count_fds(), rig->n_fds);
	if (emu.strict_count)
		assert_int_equal(emu.strict_count(), rig->n_strict);
	free(rig);
	return 0;
}

/* ---- The core's part -------------------------------------------------------------------------- */

static bool readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

static int wait_point(void *dev, struct svm_point point)
{
	uint64_t value = 0;

	for (;;) {
		int ret = ops->completed(dev, (enum svm_timeline)point.timeline, &value);

		/* A failure is told of one point, once: of ours, as the tests wait for each. */
		if (value >= point.value)
			return ret == -ENODEV ? 0 : ret;
		if (ret < 0)
			return ret;
		assert_true(readable(ops->event_fd(dev), WAIT_MS));
		ops->event_ack(dev);
	}
}

static int expect_lost(void *dev)
{
	uint64_t value;
	int ret;

	while ((ret = ops->completed(dev, SVM_TIMELINE_BIND, &value)) == 0) {
		assert_true(readable(ops->event_fd(dev), WAIT_MS));
		ops->event_ack(dev);
	}
	return ret;
}

static int copy_wait(void *dev, const struct svm_copy *copies, size_t n)
{
	struct svm_point point;
	int ret = ops->copy(dev, copies, n, 0, &point);

	return ret < 0 ? ret : wait_point(dev, point);
}

static int bind_wait(void *dev, const struct svm_bind *binds, size_t n)
{
	struct svm_point point;
	int ret = ops->bind(dev, binds, n, &point);

	return ret < 0 ? ret : wait_point(dev, point);
}

static int work_wait(void *dev, struct svm_work work)
{
	struct svm_point point;
	int ret = ops->work(dev, &work, &point);

	return ret < 0 ? ret : wait_point(dev, point);
}

static struct svm_copy_end host_end(void *host)
{
	return (struct svm_copy_end){ .host = host };
}

static struct svm_copy_end chunk_end(void *dev, uint64_t chunk, uint64_t offset)
{
	return (struct svm_copy_end){ .peer_dev = dev, .chunk = chunk, .offset = offset };
}

static int to_chunk(void *dev, uint64_t chunk, uint64_t offset, void *host, uint64_t size)
{
	struct svm_copy copy = { .dst = chunk_end(dev, chunk, offset),
				 .src = host_end(host),
				 .size = size };

	return copy_wait(dev, &copy, 1);
}

static int from_chunk(void *dev, void *host, uint64_t chunk, uint64_t offset, uint64_t size)
{
	struct svm_copy copy = { .dst = host_end(host),
				 .src = chunk_end(dev, chunk, offset),
				 .size = size };

	return copy_wait(dev, &copy, 1);
}

static uint64_t new_chunk(void *dev)
{
	uint64_t chunk = 0;

	assert_int_equal(ops->chunk_alloc(dev, &chunk), 0);
	assert_true(chunk != 0);
	return chunk;
}

static struct svm_bind bind_chunk(uint64_t addr, uint64_t size, uint32_t flags, uint64_t chunk,
				  uint64_t offset)
{
	return (struct svm_bind){
		.addr = addr, .size = size, .flags = flags, .chunk = chunk, .offset = offset
	};
}

static struct svm_bind bind_host(uint64_t addr, uint64_t size, uint32_t flags, void *alias)
{
	return (struct svm_bind){
		.addr = addr, .size = size, .flags = flags | SVM_BIND_HOST, .host_alias = alias
	};
}

static uint64_t word(uint64_t seed, uint64_t i)
{
	uint64_t x = (seed << 40) + i + 1;

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	return (x ^ (x >> 27)) | 1;
}

static void fill(void *addr, uint64_t size, uint64_t seed)
{
	uint64_t *words = addr;

	for (uint64_t i = 0; i < size / 8; i++)
		words[i] = word(seed, i);
}

static uint64_t count_wrong(const void *addr, uint64_t size, uint64_t seed)
{
	const uint64_t *words = addr;
	uint64_t n = 0;

	for (uint64_t i = 0; i < size / 8; i++)
		n += words[i] != word(seed, i);
	return n;
}

static bool is_all(const uint8_t *bytes, uint64_t size, uint8_t value)
{
	for (uint64_t i = 0; i < size; i++)
		if (bytes[i] != value)
			return false;
	return true;
}

static bool any_bytes(void *dev)
{
	const struct svm_xe_device *d = dev;

	return d->info.blitter.copy != SVM_XE_COPY_FAST;
}

/* ---- Names ------------------------------------------------------------------------------------ */

static void no_device_says_enoent(void **state)
{
	struct rig *rig = *state;
	struct svm_device_info info = { .size = sizeof(info) };
	void *dev;

	assert_int_equal(ops->enumerate(0, &info), -ENOENT);
	assert_int_equal(try_open(rig, "", &dev), -ENOENT);
	assert_non_null(strstr(rig->log, "no such device"));
	assert_int_equal(try_open(rig, "renderD190", &dev), -ENOENT);
	assert_non_null(strstr(rig->log, "renderD190: no such node"));
}

static void wrong_names_are_refused(void **state)
{
	static const char *const names[] = {
		"renderD",
		"renderD12",
		"renderD192",
		"renderDx",
		"card0",
		"-1",
		"200",
		":",
		"0:",
		"0:memory",
		"0:memory=",
		"0:memory=0",
		"0:memory=1",
		"0:memory=3M",
		"0:copy=gpu",
		"0:host=on",
		"0:colour=blue",
		"memory=2M:memory=2M",
		"0:0",
		"memory=2M:0",
		"0:memory=2M:",
		"99999999999999999999",
	};
	struct rig *rig = *state;
	void *dev;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int ret;

		rig->log[0] = '\0';
		ret = try_open(rig, names[i], &dev);
		/* A colon at the end is followed by nothing: that is no error for the soft device either. */
		if (ret == 0) {
			ops->close(dev);
			assert_int_equal(names[i][strlen(names[i]) - 1], ':');
			continue;
		}
		if (ret != -EINVAL && names[i][strlen(names[i]) - 1] != ':')
			fail_msg("'%s' gives %d", names[i], ret);
		if (ret == -EINVAL && !strstr(rig->log, "option '"))
			fail_msg("'%s' says '%s'", names[i], rig->log);
	}
}

static void devices_are_listed_and_open_by_name(void **state)
{
	struct rig *rig = *state;
	struct svm_device_info info = { .size = sizeof(info) };
	struct svm_backend_caps caps;
	void *dev;

	assert_int_equal(ops->enumerate(0, &info), 0);
	assert_string_equal(info.name, "xe:renderD128");
	assert_string_equal(info.backend, "xe");
	assert_true(info.memory_size > 0 && info.memory_size % BLOCK == 0);
	assert_true(info.caps & SVM_CAP_COPY_ENGINE);
	assert_false(info.caps & SVM_CAP_FAULTS);
	assert_int_equal(ops->enumerate(2, &info), -ENOENT);
	assert_int_equal(try_open(rig, "renderD128", &dev), 0);
	ops->caps(dev, &caps);
	assert_int_equal(caps.caps, info.caps);
	assert_int_equal(caps.memory_size, info.memory_size);
	assert_int_equal(caps.va_end, UINT64_C(1) << 47);
	ops->close(dev);
	assert_int_equal(try_open(rig, "renderD190", &dev), -ENOENT);
	assert_int_equal(try_open(rig, "7", &dev), -ENOENT);
	assert_int_equal(try_open(rig, "0:memory=512G", &dev), -EINVAL);
	assert_non_null(strstr(rig->log, "memory of"));
}

/* ---- Memory ----------------------------------------------------------------------------------- */

static void chunks_end_at_the_budget_and_come_again(void **state)
{
	struct rig *rig = *state;
	uint64_t chunks[32];
	uint64_t again;

	for (unsigned int i = 0; i < 32; i++)
		chunks[i] = new_chunk(rig->dev);
	assert_int_equal(ops->chunk_alloc(rig->dev, &again), -ENOSPC);
	ops->chunk_free(rig->dev, chunks[7]);
	assert_int_equal(ops->chunk_alloc(rig->dev, &again), 0);
	assert_int_equal(again, chunks[7]);
}

static void copies_bring_back_what_they_took(void **state)
{
	static const uint64_t sizes[] = { PAGE, 3 * PAGE, 64 * PAGE, BLOCK - PAGE, BLOCK };
	struct rig *rig = *state;
	uint64_t chunk = new_chunk(rig->dev);
	uint64_t other = new_chunk(rig->dev);
	struct svm_copy across = { .dst = chunk_end(rig->dev, other, 0),
				   .src = chunk_end(rig->dev, chunk, 0),
				   .size = BLOCK };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t offset = BLOCK - sizes[i];

		fill(rig->host + PAGE, sizes[i], i);
		assert_int_equal(to_chunk(rig->dev, chunk, offset, rig->host + PAGE, sizes[i]), 0);
		memset(rig->host + 2 * BLOCK, 0, BLOCK);
		assert_int_equal(
			from_chunk(rig->dev, rig->host + 2 * BLOCK, chunk, offset, sizes[i]), 0);
		assert_int_equal(count_wrong(rig->host + 2 * BLOCK, sizes[i], i), 0);
	}
	assert_int_equal(copy_wait(rig->dev, &across, 1), 0);
	assert_int_equal(from_chunk(rig->dev, rig->host, other, 0, BLOCK), 0);
	assert_int_equal(count_wrong(rig->host, BLOCK, 4), 0);
}

static void copies_of_nothing_are_zeros(void **state)
{
	struct rig *rig = *state;
	uint64_t chunk = new_chunk(rig->dev);
	struct svm_copy zero[2] = {
		{ .dst = chunk_end(rig->dev, chunk, PAGE), .size = 2 * PAGE },
		{ .dst = host_end(rig->host + BLOCK), .size = PAGE },
	};

	memset(rig->host, 0xab, 2 * BLOCK);
	assert_int_equal(to_chunk(rig->dev, chunk, 0, rig->host, BLOCK), 0);
	assert_int_equal(copy_wait(rig->dev, zero, 2), 0);
	assert_int_equal(from_chunk(rig->dev, rig->host, chunk, 0, BLOCK), 0);
	assert_true(is_all(rig->host, PAGE, 0xab));
	assert_true(is_all(rig->host + PAGE, 2 * PAGE, 0));
	assert_true(is_all(rig->host + 3 * PAGE, BLOCK - 3 * PAGE, 0xab));
	assert_true(is_all(rig->host + BLOCK, PAGE, 0));
	assert_true(is_all(rig->host + BLOCK + PAGE, BLOCK - PAGE, 0xab));
}

static void a_done_copy_leaves_host_memory_alone(void **state)
{
	struct rig *rig = *state;
	uint64_t chunk = new_chunk(rig->dev);
	uint8_t *page =
		mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t n;

	assert_ptr_not_equal(page, MAP_FAILED);
	fill(page, BLOCK, 1);
	assert_int_equal(to_chunk(rig->dev, chunk, 0, page, BLOCK), 0);
	assert_int_equal(munmap(page, BLOCK), 0);
	/* A job now would find memory that is gone, were it still mapped. */
	n = emu.ioctls(0, NR_BIND);
	assert_int_equal(from_chunk(rig->dev, rig->host, chunk, 0, BLOCK), 0);
	assert_int_equal(count_wrong(rig->host, BLOCK, 1), 0);
	assert_true(emu.ioctls(0, NR_BIND) - n >= 2);
}

static void copies_are_checked(void **state)
{
	struct rig *rig = *state;
	uint64_t chunk = new_chunk(rig->dev);
	struct svm_copy good = { .dst = chunk_end(rig->dev, chunk, 0),
				 .src = host_end(rig->host),
				 .size = PAGE };
	struct svm_copy bad[8];
	struct svm_point point;

	for (unsigned int i = 0; i < 8; i++)
		bad[i] = good;
	bad[0].size = 0;
	bad[1].size = PAGE + 1;
	bad[2].size = BLOCK + PAGE;
	bad[3].dst.chunk = chunk + 1;
	bad[4].dst.offset = BLOCK;
	bad[5].dst.peer_dev = rig;
	bad[6].src.host = rig->host + 1;
	bad[7].dst.offset = 1;
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(ops->copy(rig->dev, &bad[i], 1, 0, &point), -EINVAL);
	assert_int_equal(ops->copy(rig->dev, &good, 0, 0, &point), -EINVAL);
	assert_int_equal(ops->copy(rig->dev, &good, 1, 1u << 5, &point), -EINVAL);
	assert_int_equal(copy_wait(rig->dev, &good, 1), 0);
}

/* A stream of whole blocks: few ioctls, right bytes; -EAGAIN when the ring is full, and room after an event. */
static void streams_go_in_few_ioctls(void **state)
{
	enum { BLOCKS = 256 };
	struct rig *rig = *state;
	uint64_t chunks[16];
	struct svm_point point = { 0 };
	uint64_t before;
	uint64_t per_block;

	for (unsigned int i = 0; i < 16; i++)
		chunks[i] = new_chunk(rig->dev);
	for (unsigned int i = 0; i < 16; i++)
		fill(rig->host + i * BLOCK, BLOCK, i);
	before = emu.ioctls(0, -1);
	for (unsigned int i = 0; i < BLOCKS; i++) {
		struct svm_copy copy = { .dst = chunk_end(rig->dev, chunks[i % 16], 0),
					 .src = host_end(rig->host + i % 16 * BLOCK),
					 .size = BLOCK };
		int ret = ops->copy(rig->dev, &copy, 1, 0, &point);

		assert_int_equal(ret, 0);
		/* As the core does: 16 under way. */
		if (i % 16 == 15) {
			point.value -= 8;
			assert_int_equal(wait_point(rig->dev, point), 0);
			point.value += 8;
		}
	}
	assert_int_equal(wait_point(rig->dev, point), 0);
	per_block = (emu.ioctls(0, -1) - before) * 10 / BLOCKS;
	print_message("ioctls per block of 2 MiB: %u.%u\n", (unsigned int)(per_block / 10),
		      (unsigned int)(per_block % 10));
	assert_true(per_block <= 20);
	for (unsigned int i = 0; i < 16; i++) {
		assert_int_equal(from_chunk(rig->dev, rig->host, chunks[i], 0, BLOCK), 0);
		assert_int_equal(count_wrong(rig->host, BLOCK, i), 0);
	}
}

static void full_rings_say_again(void **state)
{
	struct rig *rig = *state;
	uint64_t chunk = new_chunk(rig->dev);
	struct svm_copy copies[SVM_COPY_BATCH];
	struct svm_point last = { 0 };
	struct svm_point point;
	int ret = 0;

	for (unsigned int i = 0; i < SVM_COPY_BATCH; i++)
		copies[i] = (struct svm_copy){ .dst = chunk_end(rig->dev, chunk, i % 512 * PAGE),
					       .src = host_end(rig->host + i % 512 * PAGE),
					       .size = PAGE };
	fill(rig->host, BLOCK, 9);
	for (unsigned int i = 0; i < 8 && ret == 0; i++) {
		ret = ops->copy(rig->dev, copies, SVM_COPY_BATCH, 0, &point);
		last = ret == 0 ? point : last;
	}
	assert_int_equal(ret, -EAGAIN);
	assert_int_equal(wait_point(rig->dev, last), 0);
	assert_int_equal(copy_wait(rig->dev, copies, SVM_COPY_BATCH), 0);
	assert_int_equal(from_chunk(rig->dev, rig->host + BLOCK, chunk, 0, BLOCK), 0);
	assert_int_equal(count_wrong(rig->host + BLOCK, BLOCK, 9), 0);
}

static void visible_chunks_are_mapped(void **state)
{
	struct rig *rig = *state;
	uint64_t chunk = new_chunk(rig->dev);
	struct svm_backend_caps caps;
	void *map;

	ops->caps(rig->dev, &caps);
	if (!(caps.caps & SVM_CAP_CPU_VISIBLE)) {
		assert_int_equal(ops->chunk_map(rig->dev, chunk, &map), -EOPNOTSUPP);
		return;
	}
	assert_int_equal(ops->chunk_map(rig->dev, chunk, &map), 0);
	fill(map, BLOCK, 5);
	assert_int_equal(from_chunk(rig->dev, rig->host, chunk, 0, BLOCK), 0);
	assert_int_equal(count_wrong(rig->host, BLOCK, 5), 0);
}

static void without_an_engine_memory_is_visible(void **state)
{
	struct rig *rig = *state;
	struct svm_backend_caps caps;
	struct svm_bind bind;
	uint64_t chunk;
	void *map;
	void *dev;

	assert_int_equal(try_open(rig, "0:copy=cpu:memory=16M", &dev), 0);
	ops->caps(dev, &caps);
	assert_int_equal(caps.caps & (SVM_CAP_COPY_ENGINE | SVM_CAP_WORK | SVM_CAP_CPU_VISIBLE),
			 SVM_CAP_CPU_VISIBLE);
	chunk = new_chunk(dev);
	assert_int_equal(ops->chunk_map(dev, chunk, &map), 0);
	fill(map, BLOCK, 5);
	assert_int_equal(count_wrong(map, BLOCK, 5), 0);
	bind = bind_chunk(WINDOW, BLOCK, SVM_BIND_WRITE, chunk, 0);
	assert_int_equal(bind_wait(dev, &bind, 1), 0);
	ops->close(dev);
}

/* ---- Binding and work ------------------------------------------------------------------------- */

static void work_reaches_chunks_by_shared_address(void **state)
{
	struct rig *rig = *state;
	uint64_t chunk = new_chunk(rig->dev);
	uint64_t other = new_chunk(rig->dev);
	struct svm_bind binds[2] = {
		bind_chunk(WINDOW, BLOCK, SVM_BIND_WRITE, chunk, 0),
		bind_chunk(WINDOW + 8 * BLOCK, BLOCK, SVM_BIND_WRITE, other, 0),
	};

	assert_int_equal(bind_wait(rig->dev, binds, 2), 0);
	fill(rig->host, BLOCK, 3);
	assert_int_equal(to_chunk(rig->dev, chunk, 0, rig->host, BLOCK), 0);
	assert_int_equal(work_wait(rig->dev, (struct svm_work){ .dst = WINDOW + 8 * BLOCK,
								.src = WINDOW,
								.size = BLOCK }),
			 0);
	assert_int_equal(from_chunk(rig->dev, rig->host, other, 0, BLOCK), 0);
	assert_int_equal(count_wrong(rig->host, BLOCK, 3), 0);
	assert_int_equal(work_wait(rig->dev, (struct svm_work){ .dst = WINDOW + PAGE,
								.size = PAGE,
								.is_fill = 1,
								.value = 0x5a }),
			 0);
	assert_int_equal(from_chunk(rig->dev, rig->host, chunk, 0, BLOCK), 0);
	assert_true(is_all(rig->host + PAGE, PAGE, 0x5a));
	fill(rig->host + BLOCK, BLOCK, 3);
	assert_memory_equal(rig->host, rig->host + BLOCK, PAGE);
	assert_memory_equal(rig->host + 2 * PAGE, rig->host + BLOCK + 2 * PAGE, BLOCK - 2 * PAGE);
}

/* Host memory in place, any alignment: against memmove and memset. */
static void work_is_exact_to_the_byte(void **state)
{
	static const uint64_t shapes[][3] = {
		{ 0, 0, 64 },	    { 4, 4, 8 },	   { 64, 128, 4096 },	{ 4, 8, 4000 },
		{ 60, 60, 300 },    { 128, 64, 70000 },	   { 1, 1, 1 },		{ 3, 5, 1 },
		{ 255, 255, 4099 }, { 1, 2, 300001 },	   { 4095, 17, 12345 }, { 256, 1, 65537 },
		{ 7, 7, 1048577 },  { 252, 252, 1048576 }, { 64, 64, 1048572 },
	};
	struct rig *rig = *state;
	uint8_t *dst = rig->host;
	uint8_t *src = rig->host + BLOCK;
	uint8_t *want = rig->host + 2 * BLOCK;
	struct svm_bind binds[2] = {
		bind_host(WINDOW, BLOCK, SVM_BIND_WRITE, dst),
		bind_host(WINDOW + BLOCK, BLOCK, 0, src),
	};

	assert_int_equal(bind_wait(rig->dev, binds, 2), 0);
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		const uint64_t *s = shapes[i];
		struct svm_work copy = { .dst = WINDOW + s[0],
					 .src = WINDOW + BLOCK + s[1],
					 .size = s[2] };
		struct svm_work set = {
			.dst = WINDOW + s[1], .size = s[2], .is_fill = 1, .value = (uint32_t)i + 1
		};
		bool exact = any_bytes(rig->dev) || (s[0] | s[1] | s[2]) % 4 == 0;

		fill(dst, BLOCK, i);
		fill(src, BLOCK, i + 100);
		memcpy(want, dst, BLOCK);
		assert_int_equal(work_wait(rig->dev, copy), exact ? 0 : -EOPNOTSUPP);
		if (exact)
			memcpy(want + s[0], src + s[1], s[2]);
		assert_memory_equal(dst, want, BLOCK);
		assert_int_equal(work_wait(rig->dev, set), exact ? 0 : -EOPNOTSUPP);
		if (exact)
			memset(want + s[1], (int)i + 1, s[2]);
		assert_memory_equal(dst, want, BLOCK);
	}
}

static void work_larger_than_a_batch_is_cut(void **state)
{
	struct rig *rig = *state;
	struct svm_bind binds[24];

	for (unsigned int i = 0; i < 24; i++)
		binds[i] =
			bind_host(WINDOW + i * BLOCK, BLOCK, SVM_BIND_WRITE, rig->host + i * BLOCK);
	assert_int_equal(bind_wait(rig->dev, binds, 24), 0);
	assert_int_equal(work_wait(rig->dev, (struct svm_work){ .dst = WINDOW,
								.size = 24 * BLOCK,
								.is_fill = 1,
								.value = 0x77 }),
			 0);
	assert_true(is_all(rig->host, 24 * BLOCK, 0x77));
	fill(rig->host, 12 * BLOCK, 2);
	assert_int_equal(work_wait(rig->dev, (struct svm_work){ .dst = WINDOW + 12 * BLOCK,
								.src = WINDOW,
								.size = 12 * BLOCK }),
			 0);
	assert_int_equal(count_wrong(rig->host + 12 * BLOCK, 12 * BLOCK, 2), 0);
}

/* The engine reads one address all the time while it is bound from here to there: it never meets a hole. */
static void binds_replace_without_a_hole(void **state)
{
	struct rig *rig = *state;
	uint64_t a = new_chunk(rig->dev);
	struct svm_bind target =
		bind_host(WINDOW + 4 * BLOCK, BLOCK, SVM_BIND_WRITE, rig->host + BLOCK);
	struct svm_point work_point = { 0 };
	uint64_t value;

	fill(rig->host, BLOCK, 6);
	assert_int_equal(to_chunk(rig->dev, a, 0, rig->host, BLOCK), 0);
	assert_int_equal(bind_wait(rig->dev, &target, 1), 0);
	for (unsigned int i = 0; i < 60; i++) {
		struct svm_work work = { .dst = WINDOW + 4 * BLOCK, .src = WINDOW, .size = BLOCK };
		struct svm_bind bind = i % 2 ? bind_host(WINDOW, BLOCK, 0, rig->host)
					     : bind_chunk(WINDOW, BLOCK, SVM_BIND_WRITE, a, 0);

		/* Parts, too: what is mapped on both sides of them stays. */
		if (i % 5 == 4)
			bind = bind_host(WINDOW + 8 * PAGE, 8 * PAGE, 0, rig->host + 8 * PAGE);
		assert_int_equal(bind_wait(rig->dev, &bind, 1), 0);
		assert_int_equal(ops->work(rig->dev, &work, &work_point), 0);
		assert_int_equal(ops->completed(rig->dev, SVM_TIMELINE_WORK, &value), 0);
	}
	assert_int_equal(wait_point(rig->dev, work_point), 0);
	assert_int_equal(count_wrong(rig->host + BLOCK, BLOCK, 6), 0);
}

#define MANY_BINDS 2000u

static void *acknowledge(void *data)
{
	const struct svm_point *end = data;
	uint64_t value = 0;
	void *dev = (void *)(uintptr_t)end->value;

	/* As the core's loop: at any time. */
	while (value < MANY_BINDS) {
		ops->event_ack(dev);
		assert_int_equal(ops->completed(dev, SVM_TIMELINE_BIND, &value), 0);
	}
	return NULL;
}

/* What is being bound is bound again, while another thread looks at what is done: it is taken, or has to wait. */
static void binds_may_follow_at_once(void **state)
{
	struct rig *rig = *state;
	uint64_t a = new_chunk(rig->dev);
	struct svm_point device = { .value = (uint64_t)(uintptr_t)rig->dev };
	struct svm_point point = { 0 };
	unsigned int n = 0;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, acknowledge, &device), 0);
	while (point.value < MANY_BINDS) {
		struct svm_bind bind = n++ % 2 ? bind_host(WINDOW, BLOCK, 0, rig->host)
					       : bind_chunk(WINDOW, BLOCK, SVM_BIND_WRITE, a, 0);
		int ret = ops->bind(rig->dev, &bind, 1, &point);

		assert_true(ret == 0 || ret == -EAGAIN);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* Busy, and when that is looked at it is over: with user fences that is no failure. */
	if (((struct svm_xe_device *)rig->dev)->mode != SVM_XE_MODE_JOBS) {
		struct svm_bind bind = bind_host(WINDOW, BLOCK, 0, rig->host);

		emu.inject(0, 1, EBUSY, NR_BIND);
		assert_int_equal(bind_wait(rig->dev, &bind, 1), 0);
	}
}

static void binds_are_checked(void **state)
{
	struct rig *rig = *state;
	uint64_t chunk = new_chunk(rig->dev);
	struct svm_bind good = bind_chunk(WINDOW, PAGE, SVM_BIND_WRITE, chunk, 0);
	struct svm_bind bad[10];
	struct svm_point point;

	for (unsigned int i = 0; i < 10; i++)
		bad[i] = good;
	bad[0].size = 0;
	bad[1].size = PAGE / 2;
	bad[2].addr += 1;
	bad[3].size = BLOCK + PAGE;
	bad[4].addr = WINDOW + BLOCK - PAGE;
	bad[4].size = 2 * PAGE;
	bad[5].flags = 1u << 9;
	bad[6].chunk = chunk + 1;
	bad[7].offset = BLOCK;
	bad[8].flags = SVM_BIND_UNBIND | SVM_BIND_WRITE;
	bad[9].addr = UINT64_C(1) << 47;
	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(ops->bind(rig->dev, &bad[i], 1, &point), -EINVAL);
	assert_int_equal(ops->bind(rig->dev, &good, 0, &point), -EINVAL);
	assert_int_equal(bind_wait(rig->dev, &good, 1), 0);
	good.flags = SVM_BIND_UNBIND;
	assert_int_equal(bind_wait(rig->dev, &good, 1), 0);
	assert_int_equal(bind_wait(rig->dev, &good, 1), 0);
}

static void a_thousand_binds_go_in_one_call(void **state)
{
	struct svm_bind binds[SVM_BIND_BATCH];
	struct rig *rig = *state;
	uint64_t chunk = new_chunk(rig->dev);
	uint64_t before;

	/* No two neighbours are alike. */
	for (unsigned int i = 0; i < SVM_BIND_BATCH; i++)
		binds[i] = bind_chunk(WINDOW + (uint64_t)i * PAGE, PAGE, i % 2 ? SVM_BIND_WRITE : 0,
				      chunk, i % 512 * PAGE);
	before = emu.ioctls(0, NR_BIND);
	assert_int_equal(bind_wait(rig->dev, binds, SVM_BIND_BATCH), 0);
	/* EINTR may make it two. */
	assert_true(emu.ioctls(0, NR_BIND) - before <= 4);
	emu.inject(0, 1, ENOBUFS, NR_BIND);
	before = emu.ioctls(0, NR_BIND);
	assert_int_equal(bind_wait(rig->dev, binds, SVM_BIND_BATCH), 0);
	assert_true(emu.ioctls(0, NR_BIND) - before >= 3);
}

/* The kernel puts back what a failed bind replaced: the old mapping must not survive. */
static void a_failed_bind_leaves_nothing_bound(void **state)
{
	struct rig *rig = *state;
	struct svm_bind good = bind_host(WINDOW, BLOCK, SVM_BIND_WRITE, rig->host);
	struct svm_bind hole = bind_host(WINDOW, BLOCK, SVM_BIND_WRITE, rig->host);
	struct svm_point point;
	uint64_t value;

	assert_int_equal(munmap(rig->host + rig->host_size - BLOCK, BLOCK), 0);
	rig->host_size -= BLOCK;
	hole.host_alias = rig->host + rig->host_size;
	assert_int_equal(bind_wait(rig->dev, &good, 1), 0);
	/* Told of its point, not before: until then what was bound there may be in use. */
	assert_int_equal(ops->bind(rig->dev, &hole, 1, &point), 0);
	assert_int_equal(wait_point(rig->dev, point), -EFAULT);
	assert_int_equal(ops->completed(rig->dev, SVM_TIMELINE_BIND, &value), 0);
	assert_int_equal(value, point.value);
	assert_int_equal(work_wait(rig->dev,
				   (struct svm_work){ .dst = WINDOW, .size = PAGE, .is_fill = 1 }),
			 -ENODEV);
	assert_int_equal(expect_lost(rig->dev), -ENODEV);
}

/* ---- Loss ------------------------------------------------------------------------------------- */

static void touching_nothing_loses_the_device(void **state)
{
	struct rig *rig = *state;
	struct svm_point point;
	uint64_t chunk;

	assert_int_equal(work_wait(rig->dev,
				   (struct svm_work){ .dst = WINDOW, .size = PAGE, .is_fill = 1 }),
			 -ENODEV);
	assert_int_equal(expect_lost(rig->dev), -ENODEV);
	assert_non_null(strstr(rig->log, "banned"));
	assert_int_equal(ops->chunk_alloc(rig->dev, &chunk), -ENODEV);
	assert_int_equal(ops->work(rig->dev,
				   &(struct svm_work){ .dst = WINDOW, .size = PAGE, .is_fill = 1 },
				   &point),
			 -ENODEV);
	ops->kill(rig->dev);
	assert_int_equal(ops->memory_kept(rig->dev), 0);
}

static void writing_read_only_memory_loses_the_device(void **state)
{
	struct rig *rig = *state;
	struct svm_bind bind = bind_host(WINDOW, BLOCK, 0, rig->host);

	fill(rig->host, BLOCK, 1);
	assert_int_equal(bind_wait(rig->dev, &bind, 1), 0);
	assert_int_equal(work_wait(rig->dev,
				   (struct svm_work){ .dst = WINDOW, .size = PAGE, .is_fill = 1 }),
			 -ENODEV);
	assert_int_equal(count_wrong(rig->host, BLOCK, 1), 0);
}

static void killed_devices_stop_writing(void **state)
{
	struct rig *rig = *state;
	struct svm_bind binds[40];
	struct svm_copy copy;
	struct svm_point point;
	uint64_t value;

	for (unsigned int i = 0; i < 40; i++)
		binds[i] =
			bind_host(WINDOW + i * BLOCK, BLOCK, SVM_BIND_WRITE, rig->host + i * BLOCK);
	copy = (struct svm_copy){ .dst = chunk_end(rig->dev, new_chunk(rig->dev), 0),
				  .src = host_end(rig->host),
				  .size = BLOCK };
	assert_int_equal(bind_wait(rig->dev, binds, 40), 0);
	assert_int_equal(ops->copy(rig->dev, &copy, 1, 0, &point), 0);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(ops->work(rig->dev,
					   &(struct svm_work){ .dst = WINDOW,
							       .size = 40 * BLOCK,
							       .is_fill = 1,
							       .value = 0x11 },
					   &point),
				 0);
	ops->kill(rig->dev);
	memset(rig->host, 0x22, 40 * BLOCK);
	assert_true(readable(ops->event_fd(rig->dev), 0));
	assert_int_equal(ops->completed(rig->dev, SVM_TIMELINE_WORK, &value), -ENODEV);
	assert_true(value < point.value);
	ops->kill(rig->dev);
	assert_int_equal(ops->bind(rig->dev, binds, 1, &point), -ENODEV);
	assert_int_equal(ops->copy(rig->dev, &copy, 1, 0, &point), -ENODEV);
	assert_true(is_all(rig->host, 40 * BLOCK, 0x22));
}

/* Under eintr= the count of calls is not that of binds. */
static void need_counted_ioctls(void)
{
	const char *options = getenv("EMU_OPTIONS");

	if (options && strstr(options, "eintr=")) {
		print_message("which ioctl fails is not to be told with eintr=\n");
		skip();
	}
}

/* The job runs, but taking its host memory away fails: the device is lost, and quiet only once the job is over. */
static void killed_devices_wait_for_half_a_batch(void **state)
{
	struct rig *rig = *state;
	uint64_t chunk = new_chunk(rig->dev);
	struct svm_copy copy = { .dst = host_end(rig->host),
				 .src = chunk_end(rig->dev, chunk, 0),
				 .size = BLOCK };
	struct svm_point point;

	need_counted_ioctls();
	fill(rig->host, BLOCK, 3);
	assert_int_equal(to_chunk(rig->dev, chunk, 0, rig->host, BLOCK), 0);
	emu.inject(0, 2, EIO, NR_BIND);
	(void)ops->copy(rig->dev, &copy, 1, 0, &point);
	emu.inject(0, 0, 0, 0);
	assert_non_null(strstr(rig->log, "given up: VM_BIND"));
	ops->kill(rig->dev);
	memset(rig->host, 0x22, BLOCK);
	ops->close(rig->dev);
	rig->dev = NULL;
	assert_true(is_all(rig->host, BLOCK, 0x22));
}

/* The same without a kill: the event says when it is over. */
static void lost_devices_settle_after_half_a_batch(void **state)
{
	struct rig *rig = *state;
	uint64_t chunk = new_chunk(rig->dev);
	struct svm_copy copy = { .dst = host_end(rig->host),
				 .src = chunk_end(rig->dev, chunk, 0),
				 .size = BLOCK };
	struct svm_point point;

	need_counted_ioctls();
	fill(rig->host, BLOCK, 3);
	assert_int_equal(to_chunk(rig->dev, chunk, 0, rig->host, BLOCK), 0);
	emu.inject(0, 2, EIO, NR_BIND);
	(void)ops->copy(rig->dev, &copy, 1, 0, &point);
	emu.inject(0, 0, 0, 0);
	assert_int_equal(expect_lost(rig->dev), -ENODEV);
	memset(rig->host, 0x22, BLOCK);
	ops->kill(rig->dev);
	assert_true(is_all(rig->host, BLOCK, 0x22));
}

static void gone(void **state, void (*make_it)(int device, bool on))
{
	struct rig *rig = *state;
	struct svm_bind bind = bind_host(WINDOW, BLOCK, SVM_BIND_WRITE, rig->host);
	struct svm_point point;

	assert_int_equal(bind_wait(rig->dev, &bind, 1), 0);
	make_it(0, true);
	assert_int_equal(ops->bind(rig->dev, &bind, 1, &point), -ENODEV);
	assert_int_equal(expect_lost(rig->dev), -ENODEV);
	ops->kill(rig->dev);
	/* So that the emulator sees everything given back. */
	make_it(0, false);
	ops->close(rig->dev);
	rig->dev = NULL;
}

static void wedged_devices_are_lost(void **state)
{
	gone(state, emu.wedge);
}

static void unplugged_devices_are_lost(void **state)
{
	gone(state, emu.unplug);
}

/* ---- Failures of any ioctl -------------------------------------------------------------------- */

/* Some of everything. 0 with the right bytes, or an error; never a hang. */
static int little_of_everything(struct rig *rig, void *dev)
{
	struct svm_bind bind[2];
	uint64_t chunk;
	int ret = ops->chunk_alloc(dev, &chunk);

	if (ret < 0)
		return ret;
	fill(rig->host, BLOCK, 8);
	memset(rig->host + BLOCK, 0, 2 * BLOCK);
	bind[0] = bind_chunk(WINDOW, BLOCK, SVM_BIND_WRITE, chunk, 0);
	bind[1] = bind_host(WINDOW + BLOCK, BLOCK, SVM_BIND_WRITE, rig->host + BLOCK);
	ret = to_chunk(dev, chunk, 0, rig->host, BLOCK);
	if (ret == 0)
		ret = bind_wait(dev, bind, 2);
	if (ret == 0)
		ret = work_wait(dev, (struct svm_work){
					     .dst = WINDOW + BLOCK, .src = WINDOW, .size = BLOCK });
	if (ret == 0)
		ret = from_chunk(dev, rig->host + 2 * BLOCK, chunk, 0, BLOCK);
	if (ret == 0) {
		assert_int_equal(count_wrong(rig->host + BLOCK, BLOCK, 8), 0);
		assert_int_equal(count_wrong(rig->host + 2 * BLOCK, BLOCK, 8), 0);
	}
	return ret;
}

static void any_ioctl_may_fail(void **state)
{
	static const int errors[] = {
		ENOMEM, EIO, ENODEV, ECANCELED, EFAULT, EINVAL, EBUSY, ENOSPC
	};
	struct rig *rig = *state;
	unsigned int n_good = 0;
	uint64_t total;
	void *dev;

	total = emu.ioctls(0, -1);
	assert_int_equal(try_open(rig, "0:memory=64M", &dev), 0);
	assert_int_equal(little_of_everything(rig, dev), 0);
	ops->close(dev);
	total = emu.ioctls(0, -1) - total;
	assert_true(total > 20);
	for (size_t e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
		for (uint64_t n = 1; n <= total; n++) {
			int ret;

			rig->log[0] = '\0';
			emu.inject(0, n, errors[e], 0);
			ret = try_open(rig, "0:memory=64M", &dev);
			if (ret == 0) {
				ret = little_of_everything(rig, dev);
				ops->close(dev);
			}
			emu.inject(0, 0, 0, 0);
			n_good += ret == 0;
			assert_true(ret <= 0);
			assert_int_equal(count_fds(), rig->n_fds);
		}
	}
	print_message("%u of %u runs succeeded all the same\n", n_good,
		      (unsigned int)(total * sizeof(errors) / sizeof(errors[0])));
}

/* The kernel cannot map host memory for the engine: where the CPU sees the chunk, it copies. */
static void copies_fall_back_to_the_cpu(void **state)
{
	struct rig *rig = *state;
	uint64_t chunk = new_chunk(rig->dev);
	struct svm_backend_caps caps;
	int ret;

	ops->caps(rig->dev, &caps);
	fill(rig->host, BLOCK, 4);
	/* Short of memory for a moment: tried again. */
	emu.inject(0, 1, ENOMEM, NR_BIND);
	assert_int_equal(to_chunk(rig->dev, chunk, 0, rig->host, BLOCK), 0);
	/* Memory that the kernel does not map. */
	emu.inject(0, 1, EFAULT, NR_BIND);
	ret = to_chunk(rig->dev, chunk, 0, rig->host, BLOCK);
	if (!(caps.caps & SVM_CAP_CPU_VISIBLE)) {
		assert_int_equal(ret, -ENODEV);
		return;
	}
	assert_int_equal(ret, 0);
	assert_int_equal(from_chunk(rig->dev, rig->host + BLOCK, chunk, 0, BLOCK), 0);
	assert_int_equal(count_wrong(rig->host + BLOCK, BLOCK, 4), 0);
}

/* ---- Common ----------------------------------------------------------------------------------- */

static void buffers_travel_as_fds(void **state)
{
	struct rig *rig = *state;
	struct svm_xe_device *dev = rig->dev;
	struct svm_xe_buffer buffer;
	uint32_t handle;
	int fd;

	assert_int_equal(svm_xe_buffer_create(dev, BLOCK, 1, SVM_XE_CACHING_WB, 0, &buffer), 0);
	assert_int_equal(svm_drm_prime_export(dev->fd, buffer.handle, &fd), 0);
	assert_int_equal(svm_drm_prime_import(dev->fd, fd, &handle), 0);
	assert_int_equal(handle, buffer.handle);
	assert_int_equal(svm_drm_prime_import(dev->fd, -1, &handle), -EBADF);
	assert_int_equal(svm_drm_prime_export(dev->fd, 4711, &fd), -ENOENT);
	assert_int_equal(close(fd), 0);
	svm_xe_buffer_destroy(dev, &buffer);
}

static bool find_emulator(void)
{
	*(void **)&emu.inject = dlsym(RTLD_DEFAULT, "emu_ctl_fail");
	*(void **)&emu.wedge = dlsym(RTLD_DEFAULT, "emu_ctl_wedge");
	*(void **)&emu.unplug = dlsym(RTLD_DEFAULT, "emu_ctl_unplug");
	*(void **)&emu.ioctls = dlsym(RTLD_DEFAULT, "emu_ctl_ioctls");
	*(void **)&emu.strict_count = dlsym(RTLD_DEFAULT, "emu_ctl_strict_count");
	return emu.inject && emu.wedge && emu.unplug && emu.ioctls && emu.strict_count;
}

#define BARE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define OPEN(test) cmocka_unit_test_setup_teardown(test, setup_open, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest bare[] = {
		BARE(no_device_says_enoent),
		BARE(wrong_names_are_refused),
	};
	const struct CMUnitTest emulated[] = {
		BARE(wrong_names_are_refused),
		BARE(devices_are_listed_and_open_by_name),
		OPEN(chunks_end_at_the_budget_and_come_again),
		OPEN(copies_bring_back_what_they_took),
		OPEN(copies_of_nothing_are_zeros),
		OPEN(a_done_copy_leaves_host_memory_alone),
		OPEN(copies_are_checked),
		OPEN(streams_go_in_few_ioctls),
		OPEN(full_rings_say_again),
		OPEN(visible_chunks_are_mapped),
		BARE(without_an_engine_memory_is_visible),
		OPEN(work_reaches_chunks_by_shared_address),
		OPEN(work_is_exact_to_the_byte),
		OPEN(work_larger_than_a_batch_is_cut),
		OPEN(binds_replace_without_a_hole),
		OPEN(binds_may_follow_at_once),
		OPEN(binds_are_checked),
		OPEN(a_thousand_binds_go_in_one_call),
		OPEN(a_failed_bind_leaves_nothing_bound),
		OPEN(touching_nothing_loses_the_device),
		OPEN(writing_read_only_memory_loses_the_device),
		OPEN(killed_devices_stop_writing),
		OPEN(killed_devices_wait_for_half_a_batch),
		OPEN(lost_devices_settle_after_half_a_batch),
		OPEN(wedged_devices_are_lost),
		OPEN(unplugged_devices_are_lost),
		OPEN(copies_fall_back_to_the_cpu),
		BARE(any_ioctl_may_fail),
		OPEN(buffers_travel_as_fds),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	if (!find_emulator())
		return cmocka_run_group_tests_name("xe_bare", bare, NULL, NULL);
	return cmocka_run_group_tests_name("xe", emulated, NULL, NULL);
}
