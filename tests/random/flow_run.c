/* SPDX-License-Identifier: MIT */
#include "flow_run.h"

#include "flow_model.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <libsvm/libsvm.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define N_REGIONS    6u
#define N_ITEMS	     6u
#define N_SLOTS	     8u
#define RING	     512u
#define RING_SHOWN   50u
#define SCRATCH	     (UINT64_C(64) << 10)
#define ARENA	     (UINT64_C(48) << 20)
#define BLOCK	     ((uint64_t)SVM_BLOCK_SIZE)
#define WORKER_BYTES (UINT64_C(16) << 20)

enum op_kind {
	OP_ALLOC,
	OP_FREE,
	OP_REGISTER,
	OP_UNREGISTER,
	OP_READ,
	OP_WRITE,
	OP_ADVISE,
	OP_UNADVISE,
	OP_PREFETCH,
	OP_PREFETCH_ASYNC,
	OP_PREFETCH_END,
	OP_DISCARD,
	OP_DISCARD_LAZY,
	OP_PIN,
	OP_UNPIN,
	OP_HOST_ACQUIRE,
	OP_ACQUIRE,
	OP_RELEASE,
	OP_LAUNCH_FILL,
	OP_LAUNCH_XOR,
	OP_LAUNCH_ADD,
	OP_LAUNCH_READ,
	OP_TWO_READERS,
	OP_DEVICE_COPY,
	OP_DEVICE_FILL,
	OP_SYS_READ,
	OP_SYS_WRITE,
	OP_URING,
	OP_RESIDENCY,
	OP_POINTER,
	OP_FORK,
	OP_APP_DISCARD,
	OP_KILL,
	OP_REOPEN,
	OP_KINDS,
};

static const struct op_info {
	const char *name;
	unsigned int weight;
} op_info[OP_KINDS] = {
	[OP_ALLOC] = { "alloc", 12 },
	[OP_FREE] = { "free", 7 },
	[OP_REGISTER] = { "register", 5 },
	[OP_UNREGISTER] = { "unregister", 4 },
	[OP_READ] = { "cpu_read", 26 },
	[OP_WRITE] = { "cpu_write", 26 },
	[OP_ADVISE] = { "advise", 14 },
	[OP_UNADVISE] = { "unadvise", 5 },
	[OP_PREFETCH] = { "prefetch", 12 },
	[OP_PREFETCH_ASYNC] = { "prefetch_start", 6 },
	[OP_PREFETCH_END] = { "prefetch_end", 4 },
	[OP_DISCARD] = { "discard", 5 },
	[OP_DISCARD_LAZY] = { "discard_lazy", 3 },
	[OP_PIN] = { "pin", 5 },
	[OP_UNPIN] = { "unpin", 4 },
	[OP_HOST_ACQUIRE] = { "host_acquire", 5 },
	[OP_ACQUIRE] = { "acquire", 5 },
	[OP_RELEASE] = { "release", 5 },
	[OP_LAUNCH_FILL] = { "launch_fill", 14 },
	[OP_LAUNCH_XOR] = { "launch_xor", 14 },
	[OP_LAUNCH_ADD] = { "launch_add", 8 },
	[OP_LAUNCH_READ] = { "launch_read", 16 },
	[OP_TWO_READERS] = { "two_readers", 6 },
	[OP_DEVICE_COPY] = { "device_copy", 8 },
	[OP_DEVICE_FILL] = { "device_fill", 8 },
	[OP_SYS_READ] = { "sys_read", 6 },
	[OP_SYS_WRITE] = { "sys_write", 6 },
	[OP_URING] = { "io_uring", 5 },
	[OP_RESIDENCY] = { "residency", 5 },
	[OP_POINTER] = { "pointer", 3 },
	[OP_FORK] = { "fork", 1 },
	[OP_APP_DISCARD] = { "app_dontneed", 2 },
	[OP_KILL] = { "kill", 2 },
	[OP_REOPEN] = { "reopen", 3 },
};

struct config {
	uint32_t flags;
	uint32_t loop;
	uint32_t n_service;
	unsigned int n_workers;
	unsigned int n_slots;
	uint64_t cache;
	bool kills;
	bool keep; /* all devices keep their memory: no loss of bytes is right */
};

struct region {
	bool live;
	bool registered;
	uint8_t *addr;
	uint64_t size;
	struct flow_model model;
	uint32_t forbidden; /* device ids that may have a no-access hint here */
	bool never;	    /* some of it may have a migrate-never hint */
};

enum item_kind {
	ITEM_NONE = 0,
	ITEM_PIN,
	ITEM_HOST,
	ITEM_ACCESS,
	ITEM_PREFETCH,
};

/* Something that stays open from one operation to a later one. */
struct item {
	enum item_kind kind;
	struct region *region;
	uint64_t offset;
	uint64_t size;
	struct svm_location location;
	uint32_t access;
	struct svm_access *handle;
	struct svm_prefetch *prefetch;
	struct slot *slot; /* counted in its n_open */
};

struct slot {
	pthread_rwlock_t lock; /* read by users of the device, written by who closes and opens it */
	struct svm_device *device;
	uint32_t id;
	uint32_t caps;
	uint64_t blocks;
	bool lossy;
	atomic_bool killed;
	atomic_uint n_open;
	atomic_ullong n_taken; /* blocks that pins and holds keep there */
	char name[160];
};

struct worker {
	unsigned int number;
	struct region regions[N_REGIONS];
	struct item items[N_ITEMS];
	uint64_t bytes;
	uint8_t *scratch; /* SCRATCH bytes, shared with devices */
	uint8_t *buffer;  /* WORKER_BYTES */
	struct io_uring ring;
	int file; /* memfd for reads and writes */
	struct {
		unsigned int op;
		unsigned int kind;
	} doing; /* read by the watchdog as it is */
	pthread_t thread;
};

/* One line of the ring: what was called, and what came of it. */
struct line {
	atomic_ullong number; /* + 1 once written */
	uint16_t worker;
	uint16_t op;
	uint16_t kind;
	int16_t region;
	int32_t slot;
	int32_t result;
	uint64_t offset;
	uint64_t size;
	uint64_t value;
	const char *what;
};

static struct config config;
static struct svm_space *space;
static struct slot slots[N_SLOTS];
static struct worker workers[FLOW_WORKERS];
static struct line ring[RING];
static atomic_ullong ring_next;
static atomic_bool bytes_lost;	 /* a device that keeps nothing was lost */
static atomic_uint n_host_holds; /* pins and acquires of host memory that are open */
static const struct flow_order *order;
static uint8_t *arena;
static uint64_t arena_at;
static pthread_mutex_t arena_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t fail_lock = PTHREAD_MUTEX_INITIALIZER;

static __thread struct {
	unsigned int worker;
	unsigned int op;
	enum op_kind kind;
} current;

static __thread volatile sig_atomic_t armed;
static __thread sigjmp_buf jump;

/* ---- Failure ---------------------------------------------------------------------------------- */

static void print_line(const struct line *l)
{
	(void)fprintf(stderr, "  %llu w%u op %u %s",
		      (unsigned long long)atomic_load(&l->number) - 1u, l->worker, l->op,
		      op_info[l->kind].name);
	if (l->what)
		(void)fprintf(stderr, " (%s)", l->what);
	if (l->region >= 0)
		(void)fprintf(stderr, " region %d %p + %llx, size %llx", l->region,
			      (void *)workers[l->worker].regions[l->region].addr,
			      (unsigned long long)l->offset, (unsigned long long)l->size);
	if (l->slot >= 0)
		(void)fprintf(stderr, " device %d", l->slot);
	(void)fprintf(stderr, " value %llx -> %d\n", (unsigned long long)l->value, l->result);
}

static void print_ring(void)
{
	uint64_t end = atomic_load(&ring_next);
	uint64_t start = end > RING_SHOWN ? end - RING_SHOWN : 0;

	(void)fprintf(stderr, "last operations:\n");
	for (uint64_t i = start; i < end; i++)
		if (atomic_load(&ring[i % RING].number) == i + 1u)
			print_line(&ring[i % RING]);
}

static _Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void fail(const char *format, ...)
{
	char text[512];
	va_list args;
	int n;

	(void)pthread_mutex_lock(&fail_lock);
	n = snprintf(text, sizeof(text), "worker %u, op %u (%s): ", current.worker, current.op,
		     op_info[current.kind].name);
	va_start(args, format);
	(void)vsnprintf(text + n, sizeof(text) - (size_t)n, format, args);
	va_end(args);
	(void)snprintf(order->report->text, sizeof(order->report->text), "%s", text);
	(void)fprintf(stderr, "FAILED: seed %llu: %s\n", (unsigned long long)order->seed, text);
	print_ring();
	if (getenv("SVM_TEST_HOLD")) {
		(void)fprintf(stderr, "held for a debugger: process %d\n", (int)getpid());
		for (;;)
			(void)pause();
	}
	_exit(1);
}

static void note(const struct worker *w, const char *what, const struct region *r, int slot,
		 uint64_t offset, uint64_t size, uint64_t value, int result)
{
	uint64_t i = atomic_fetch_add(&ring_next, 1u);
	struct line *l = &ring[i % RING];

	atomic_store(&l->number, 0);
	l->worker = (uint16_t)w->number;
	l->op = (uint16_t)current.op;
	l->kind = (uint16_t)current.kind;
	l->region = r ? (int16_t)(r - w->regions) : -1;
	l->slot = slot;
	l->result = result;
	l->offset = offset;
	l->size = size;
	l->value = value;
	l->what = what;
	atomic_store(&l->number, i + 1u);
	if (order->loud)
		print_line(l);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)context;
	if (armed) {
		armed = 0;
		siglongjmp(jump, number);
	}
	(void)signal(number, SIG_DFL);
	fail("signal %d at %p", number, info->si_addr);
}

/* ---- Random numbers --------------------------------------------------------------------------- */

struct dice {
	uint64_t state;
};

static uint64_t roll(struct dice *d)
{
	d->state += UINT64_C(0x9e3779b97f4a7c15);
	return flow_mix(d->state);
}

static uint64_t pick(struct dice *d, uint64_t n)
{
	return roll(d) % n;
}

static bool chance(struct dice *d, unsigned int percent)
{
	return pick(d, 100) < percent;
}

/* ---- What follows from the seed --------------------------------------------------------------- */

static void make_config(uint64_t seed, struct config *c)
{
	struct dice d = { flow_mix(seed ^ 0x636f6e66) };

	*c = (struct config){ 0 };
	c->flags |= chance(&d, 30) ? SVM_SPACE_NO_MOVE : 0;
	c->flags |= chance(&d, 25) ? SVM_SPACE_DEFAULT_SHARED : 0;
	c->flags |= chance(&d, 40) ? SVM_SPACE_NO_HUGE_PAGES : 0;
	c->flags |= chance(&d, 20) ? SVM_SPACE_USER_MODE_ONLY : 0;
	c->flags |= chance(&d, 15) ? SVM_SPACE_NO_POISON : 0;
	c->loop = chance(&d, 50) ? SVM_LOOP_EPOLL : SVM_LOOP_AUTO;
	c->n_service = 1u + (uint32_t)pick(&d, 3);
	c->n_workers = 1u + (unsigned int)pick(&d, 5);
	c->n_slots = 1u + (unsigned int)(chance(&d, 75) ? pick(&d, 3) : pick(&d, N_SLOTS));
	c->cache = chance(&d, 30) ? UINT64_MAX : chance(&d, 50) ? BLOCK : 0;
	c->kills = chance(&d, 45);
	c->keep = chance(&d, 40);
}

static void device_name(struct dice *d, char *name, size_t size, const struct config *c,
			bool *ret_lossy, uint64_t *ret_blocks)
{
	static const unsigned int sizes[] = { 4, 6, 8, 12, 16, 32 };
	unsigned int memory = sizes[pick(d, 6)];
	bool visible = c->keep || chance(d, 60);
	bool keep = c->keep || chance(d, 25);

	(void)snprintf(
		name, size,
		"soft:memory=%uM:faults=%s:host=%s:readonly=%s:peer=%s:visible=%s:engines=%u:keep=%s%s",
		memory, chance(d, 60) ? "on" : "off", chance(d, 60) ? "alias" : "none",
		chance(d, 70) ? "on" : "off", chance(d, 60) ? "on" : "off", visible ? "on" : "off",
		1u + (unsigned int)pick(d, 3), keep ? "on" : "off",
		chance(d, 10) ? ":latency=200000" : "");
	*ret_lossy = !(keep && visible);
	*ret_blocks = memory / 2u;
}

unsigned int flow_workers(uint64_t seed)
{
	struct config c;

	make_config(seed, &c);
	return c.n_workers;
}

void flow_describe(uint64_t seed, char *text, size_t size)
{
	struct config c;

	make_config(seed, &c);
	(void)snprintf(text, size,
		       "flags %x, loop %u, %u service threads, %u workers, %u devices%s%s", c.flags,
		       c.loop, c.n_service, c.n_workers, c.n_slots, c.kills ? ", kills" : "",
		       c.keep ? ", memory kept" : "");
}

/* ---- Touching memory -------------------------------------------------------------------------- */

/* 0, or the signal that it ended in. */
static int touch(void *to, const void *from, uint64_t size)
{
	int number = sigsetjmp(jump, 1);

	if (number == 0) {
		armed = 1;
		atomic_signal_fence(memory_order_seq_cst);
		memcpy(to, from, size);
		atomic_signal_fence(memory_order_seq_cst);
	}
	armed = 0;
	return number;
}

static uint64_t to_next_page(uint64_t offset, uint64_t end)
{
	uint64_t stop = offset / FLOW_PAGE * FLOW_PAGE + FLOW_PAGE;

	return (stop < end ? stop : end) - offset;
}

static bool is_poisoned(const struct region *r, uint64_t offset)
{
	struct svm_page_residency page;
	int e = svm_residency_query(space, r->addr + offset, 1, &page, 1, NULL);

	if (e < 0)
		fail("svm_residency_query: %d", e);
	return page.flags & SVM_PAGE_POISONED;
}

/* A page was said, or seen, to be lost: may it be? */
static void take_loss(struct region *r, uint64_t offset)
{
	if (!atomic_load(&bytes_lost))
		fail("page %p is lost though no device with bytes was", (void *)(r->addr + offset));
	if (!flow_model_marked(&r->model, offset, 1, FLOW_PAGE_LOST))
		__atomic_fetch_add(&order->report->n_poisoned, 1u, __ATOMIC_RELAXED);
	flow_model_mark(&r->model, offset, 1, FLOW_PAGE_LOST, 0);
}

/* What the library says of late about the block of a page. */
static void print_events(const uint8_t *addr)
{
	struct svm_event events[64];
	uint64_t block = (uint64_t)(uintptr_t)addr / BLOCK * BLOCK;
	uint64_t cursor = 0;
	int n;

	while ((n = svm_events_read(space, &cursor, events, 64, NULL)) > 0)
		for (int i = 0; i < n; i++)
			if (events[i].device != ~0u || events[i].addr / BLOCK * BLOCK == block)
				(void)fprintf(
					stderr,
					"  event %u at %llx + %llx device %d value %llx, %u to %u\n",
					events[i].kind, (unsigned long long)events[i].addr,
					(unsigned long long)events[i].size, (int)events[i].device,
					(unsigned long long)events[i].value, events[i].from,
					events[i].to);
}

/* What the kernel has there. */
static void print_mapping(const uint8_t *addr)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	char line[256];
	bool here = false;

	while (file && fgets(line, sizeof(line), file)) {
		unsigned long start;
		unsigned long end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = (uintptr_t)addr >= start && (uintptr_t)addr < end;
		if (here && (strchr(line, '-') || strncmp(line, "VmFlags", 7) == 0))
			(void)fprintf(stderr, "  %s", line);
	}
	if (file)
		(void)fclose(file);
}

static void after_signal(struct region *r, uint64_t offset, int number)
{
	if (number != SIGBUS && !(number == SIGSEGV && (config.flags & SVM_SPACE_NO_POISON)))
		fail("signal %d at %p", number, (void *)(r->addr + offset));
	if (!is_poisoned(r, offset)) {
		print_events(r->addr + offset);
		fail("signal %d at %p, which is not poisoned", number, (void *)(r->addr + offset));
	}
	take_loss(r, offset);
}

static void wrong(const struct worker *w, const struct region *r, uint64_t at, const uint8_t *bytes,
		  const char *who)
{
	struct svm_page_residency page = { 0 };

	(void)svm_residency_query(space, r->addr + at, 1, &page, 1, NULL);
	fail("%s reads %02x %02x %02x %02x at region %d + %llx (%p), expected %02x (or %02x, state %u, page marks %x); now "
	     "residency flags %x devices %x mapped %x",
	     who, bytes[0], bytes[1], bytes[2], bytes[3], (int)(r - w->regions),
	     (unsigned long long)at, (void *)(r->addr + at), r->model.value[at], r->model.other[at],
	     r->model.state[at], r->model.pages[at / FLOW_PAGE], page.flags, page.devices,
	     page.mapped);
}

static void check_bytes(struct worker *w, struct region *r, uint64_t offset, uint64_t size,
			const uint8_t *bytes, const char *who)
{
	uint64_t good = flow_model_check(&r->model, offset, size, bytes);

	if (good < size)
		wrong(w, r, offset + good, bytes + good, who);
}

static void cpu_read(struct worker *w, struct region *r, uint64_t offset, uint64_t size)
{
	uint64_t end = offset + size;
	uint8_t *page = w->buffer;
	uint64_t n;

	for (uint64_t at = offset; at < end; at += n) {
		int number;

		n = to_next_page(at, end);
		number = touch(page, r->addr + at, n);
		if (number)
			after_signal(r, at, number);
		else if (flow_model_marked(&r->model, at, 1, FLOW_PAGE_LOST))
			fail("page %p was lost, and reads again", (void *)(r->addr + at));
		else
			check_bytes(w, r, at, n, page, "the CPU");
	}
}

static void cpu_write(struct worker *w, struct region *r, uint64_t offset, uint64_t size,
		      uint64_t key)
{
	uint64_t end = offset + size;
	uint8_t *page = w->buffer;
	uint64_t n;

	for (uint64_t at = offset; at < end; at += n) {
		int number;

		n = to_next_page(at, end);
		for (uint64_t i = 0; i < n; i++)
			page[i] = flow_pattern(key, at - offset + i);
		number = touch(r->addr + at, page, n);
		if (number)
			after_signal(r, at, number);
		else if (flow_model_marked(&r->model, at, 1, FLOW_PAGE_LOST))
			fail("page %p was lost, and is written again", (void *)(r->addr + at));
		else
			flow_model_write(&r->model, at, n, page);
	}
}

/* Pages that the library says are lost. Returns whether there are any. */
static bool find_losses(struct region *r, uint64_t offset, uint64_t size)
{
	bool any = false;

	for (uint64_t at = offset / FLOW_PAGE * FLOW_PAGE; at < offset + size; at += FLOW_PAGE)
		if (is_poisoned(r, at)) {
			take_loss(r, at);
			any = true;
		}
	return any;
}

/* ---- Devices ---------------------------------------------------------------------------------- */

static struct slot *use_slot(struct dice *d)
{
	struct slot *s = &slots[pick(d, config.n_slots)];

	(void)pthread_rwlock_rdlock(&s->lock);
	if (s->device)
		return s;
	(void)pthread_rwlock_unlock(&s->lock);
	return NULL;
}

static void leave_slot(struct slot *s)
{
	(void)pthread_rwlock_unlock(&s->lock);
}

static void mark_killed(struct slot *s)
{
	if (s->lossy)
		atomic_store(&bytes_lost, true);
	atomic_store(&s->killed, true);
	__atomic_fetch_add(&order->report->n_lost, 1u, __ATOMIC_RELAXED);
}

/* A call says that the device is lost: is it? One that can fault dies of a fault on lost memory, too. */
static void expect_lost(struct slot *s, const char *what, int error)
{
	struct svm_device_info info = { .size = sizeof(info) };
	int e = svm_device_query(s->device, &info);

	if (atomic_load(&s->killed))
		return;
	if (e < 0 || !info.is_lost)
		fail("%s on device %d: %d, but it is not lost", what, (int)(s - slots), error);
	if (!(s->caps & SVM_CAP_FAULTS) || !atomic_load(&bytes_lost))
		fail("%s: device %d (%s) is lost, and nobody killed it (%d)", what,
		     (int)(s - slots), s->name, error);
	mark_killed(s);
}

static void open_slot(struct slot *s, uint64_t key)
{
	struct svm_device_info info = { .size = sizeof(info) };
	struct dice d = { key };
	int e;

	device_name(&d, s->name, sizeof(s->name), &config, &s->lossy, &s->blocks);
	atomic_store(&s->killed, false);
	e = svm_device_open(space, s->name, &s->device);
	if (e < 0)
		fail("svm_device_open(%s): %d", s->name, e);
	e = svm_device_query(s->device, &info);
	if (e < 0)
		fail("svm_device_query: %d", e);
	s->id = svm_device_id(s->device);
	s->caps = info.caps;
	if (order->loud)
		(void)fprintf(stderr, "  device %d (id %u): %s\n", (int)(s - slots), s->id,
			      s->name);
}

/* ---- Kernels ---------------------------------------------------------------------------------- */

struct kernel_args {
	uint8_t *dst;
	const uint8_t *src;
	uint64_t size;
	uint64_t key;
};

static void share(uint64_t size, uint64_t index, uint64_t count, uint64_t *ret_from,
		  uint64_t *ret_to)
{
	*ret_from = size * index / count;
	*ret_to = size * (index + 1u) / count;
}

static void kernel_fill(const void *args, uint64_t index, uint64_t count)
{
	const struct kernel_args *a = args;
	uint64_t from;
	uint64_t to;

	share(a->size, index, count, &from, &to);
	for (uint64_t i = from; i < to; i++)
		a->dst[i] = flow_pattern(a->key, i);
}

static void kernel_xor(const void *args, uint64_t index, uint64_t count)
{
	const struct kernel_args *a = args;
	uint64_t from;
	uint64_t to;

	share(a->size, index, count, &from, &to);
	for (uint64_t i = from; i < to; i++)
		a->dst[i] ^= (uint8_t)a->key;
}

static void kernel_add(const void *args, uint64_t index, uint64_t count)
{
	const struct kernel_args *a = args;
	uint64_t from;
	uint64_t to;

	share(a->size, index, count, &from, &to);
	for (uint64_t i = from; i < to; i++)
		a->dst[i] = (uint8_t)(a->src[i] + a->key);
}

/* ---- Items ------------------------------------------------------------------------------------ */

static struct item *new_item(struct worker *w)
{
	for (unsigned int i = 0; i < N_ITEMS; i++)
		if (w->items[i].kind == ITEM_NONE)
			return &w->items[i];
	return NULL;
}

static void expect(const struct worker *w, const char *call, int result, int wanted)
{
	(void)w;
	if (result != wanted)
		fail("%s: %d, not %d", call, result, wanted);
}

static uint64_t blocks_of(uint64_t size)
{
	return size / BLOCK + 2u;
}

static void end_prefetch(struct worker *w, struct item *it, bool cancel)
{
	uint64_t done;
	uint64_t total;
	struct svm_prefetch_result result;
	int e;

	if (cancel)
		expect(w, "svm_prefetch_cancel", svm_prefetch_cancel(it->prefetch), 0);
	e = svm_prefetch_wait(it->prefetch, -1, &result, 1);
	note(w, "prefetch ends", NULL, -1, 0, result.bytes_moved, result.failed, e);
	expect(w, "svm_prefetch_progress", svm_prefetch_progress(it->prefetch, &done, &total), 0);
	if (result.bytes_moved + result.already_there + result.skipped_pinned + result.failed !=
	    total)
		fail("prefetch: %llu + %llu + %llu + %llu bytes are not %llu",
		     (unsigned long long)result.bytes_moved,
		     (unsigned long long)result.already_there,
		     (unsigned long long)result.skipped_pinned, (unsigned long long)result.failed,
		     (unsigned long long)total);
	expect(w, "svm_prefetch_destroy", svm_prefetch_destroy(it->prefetch), 0);
}

static void end_item(struct worker *w, struct item *it)
{
	struct region *r = it->region;
	struct slot *s = it->slot;

	switch (it->kind) {
	case ITEM_NONE:
		return;
	case ITEM_PIN:
		note(w, "unpin", r, s ? (int)(s - slots) : -1, it->offset, it->size, 0, 0);
		expect(w, "svm_unpin",
		       svm_unpin(space, r->addr + it->offset, it->size, it->location), 0);
		break;
	case ITEM_HOST:
		note(w, "host release", r, -1, it->offset, it->size, it->access, 0);
		expect(w, "svm_host_release",
		       svm_host_release(space, r->addr + it->offset, it->size, it->access), 0);
		break;
	case ITEM_ACCESS:
		note(w, "release", r, s ? (int)(s - slots) : -1, it->offset, it->size, 0, 0);
		expect(w, "svm_release", svm_release(it->handle, NULL), 0);
		break;
	case ITEM_PREFETCH:
		end_prefetch(w, it, false);
		break;
	}
	if (s) {
		atomic_fetch_sub(&s->n_taken, blocks_of(it->size));
		atomic_fetch_sub(&s->n_open, 1u);
	} else if (it->kind != ITEM_PREFETCH) {
		atomic_fetch_sub(&n_host_holds, 1u);
	}
	it->kind = ITEM_NONE;
}

static bool overlaps(const struct item *it, const struct region *r, uint64_t offset, uint64_t size)
{
	/* Pins and holds are of whole pages. */
	uint64_t start = it->offset / FLOW_PAGE * FLOW_PAGE;
	uint64_t end = (it->offset + it->size + FLOW_PAGE - 1u) / FLOW_PAGE * FLOW_PAGE;

	return it->kind != ITEM_NONE && it->kind != ITEM_PREFETCH && it->region == r &&
	       start < offset + size && offset / FLOW_PAGE * FLOW_PAGE < end;
}

static bool is_held(const struct worker *w, const struct region *r, uint64_t offset, uint64_t size)
{
	uint64_t end = (offset + size + FLOW_PAGE - 1u) / FLOW_PAGE * FLOW_PAGE;

	offset = offset / FLOW_PAGE * FLOW_PAGE;
	for (unsigned int i = 0; i < N_ITEMS; i++) {
		const struct item *it = &w->items[i];

		/* An access of a device that can fault holds nothing. */
		if (overlaps(it, r, offset, end - offset) &&
		    !(it->kind == ITEM_ACCESS && (it->slot->caps & SVM_CAP_FAULTS)))
			return true;
	}
	return false;
}

/* End what would stand in the way of an access to the span. */
static void settle(struct worker *w, const struct region *r, uint64_t offset, uint64_t size)
{
	uint64_t end = (offset + size + FLOW_PAGE - 1u) / FLOW_PAGE * FLOW_PAGE;

	offset = offset / FLOW_PAGE * FLOW_PAGE;
	for (unsigned int i = 0; i < N_ITEMS; i++)
		if (overlaps(&w->items[i], r, offset, end - offset))
			end_item(w, &w->items[i]);
}

/* The CPU may touch what it holds itself. */
static void settle_for_cpu(struct worker *w, const struct region *r, uint64_t offset, uint64_t size)
{
	uint64_t end = (offset + size + FLOW_PAGE - 1u) / FLOW_PAGE * FLOW_PAGE;

	offset = offset / FLOW_PAGE * FLOW_PAGE;
	for (unsigned int i = 0; i < N_ITEMS; i++) {
		struct item *it = &w->items[i];

		if (overlaps(it, r, offset, end - offset) && it->slot)
			end_item(w, it);
	}
}

/* ---- Regions ---------------------------------------------------------------------------------- */

static struct region *free_region(struct worker *w)
{
	for (unsigned int i = 0; i < N_REGIONS; i++)
		if (!w->regions[i].live)
			return &w->regions[i];
	return NULL;
}

static struct region *any_region(struct worker *w, struct dice *d)
{
	unsigned int first = (unsigned int)pick(d, N_REGIONS);

	for (unsigned int i = 0; i < N_REGIONS; i++) {
		struct region *r = &w->regions[(first + i) % N_REGIONS];

		if (r->live)
			return r;
	}
	return NULL;
}

static uint64_t pick_size(struct dice *d)
{
	switch (pick(d, 10)) {
	case 0:
	case 1:
	case 2:
		return (1u + pick(d, 8)) * FLOW_PAGE;
	case 3:
	case 4:
	case 5:
		return (1u + pick(d, 64)) * FLOW_PAGE;
	case 6:
	case 7:
		return (1u + pick(d, 300)) * FLOW_PAGE;
	case 8:
		return BLOCK;
	default:
		return (1u + pick(d, 1300)) * FLOW_PAGE;
	}
}

/* A span of a region: bytes, pages, or much of it. */
static void pick_span(struct dice *d, const struct region *r, uint64_t *ret_offset,
		      uint64_t *ret_size)
{
	uint64_t kind = pick(d, 10);
	uint64_t size;
	uint64_t offset;

	if (kind < 2)
		size = 1u + pick(d, 200);
	else if (kind < 5)
		size = 1u + pick(d, 4u * FLOW_PAGE);
	else if (kind < 8)
		size = (1u + pick(d, 32)) * FLOW_PAGE;
	else
		size = r->size;
	if (size > r->size)
		size = r->size;
	offset = pick(d, r->size - size + 1u);
	if (kind >= 5 && size < r->size)
		offset = offset / FLOW_PAGE * FLOW_PAGE;
	*ret_offset = offset;
	*ret_size = size;
}

static void whole_pages(const struct region *r, uint64_t *offset, uint64_t *size)
{
	uint64_t end = (*offset + *size + FLOW_PAGE - 1u) / FLOW_PAGE * FLOW_PAGE;

	(void)r;
	*offset = *offset / FLOW_PAGE * FLOW_PAGE;
	*size = end - *offset;
}

static void op_alloc(struct worker *w, struct dice *d)
{
	struct region *r = free_region(w);
	uint64_t size = pick_size(d);
	uint64_t asked = size - (chance(d, 30) ? pick(d, FLOW_PAGE) : 0);
	uint32_t flags = chance(d, 30) ? SVM_ALLOC_SHARED : 0;
	void *addr;
	int e;

	if (!r || w->bytes + size > WORKER_BYTES)
		return;
	e = svm_alloc(space, asked, flags, &addr);
	if (e < 0)
		fail("svm_alloc(%llx): %d", (unsigned long long)asked, e);
	*r = (struct region){ .live = true, .addr = addr, .size = size };
	if (!flow_model_init(&r->model, size))
		fail("no memory for the model");
	w->bytes += size;
	note(w, flags ? "shared" : NULL, r, -1, 0, size, 0, e);
}

static void drop_region(struct worker *w, struct region *r)
{
	for (unsigned int i = 0; i < N_ITEMS; i++)
		if (w->items[i].region == r && w->items[i].kind == ITEM_PREFETCH)
			end_item(w, &w->items[i]);
	w->bytes -= r->size;
	flow_model_finish(&r->model);
	r->live = false;
}

static void do_free(struct worker *w, struct region *r)
{
	int e = svm_free(space, r->addr);
	bool held = is_held(w, r, 0, r->size);

	note(w, NULL, r, -1, 0, r->size, held, e);
	if (held) {
		expect(w, "svm_free of held memory", e, -EBUSY);
		settle(w, r, 0, r->size);
		e = svm_free(space, r->addr);
	}
	expect(w, "svm_free", e, 0);
	/* Prefetches that are still under way find nothing there, or something else: either is fine. */
	drop_region(w, r);
}

static void op_free(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);

	if (!r || r->registered)
		return;
	if (chance(d, 60))
		settle(w, r, 0, r->size);
	if (chance(d, 30)) {
		settle_for_cpu(w, r, 0, r->size);
		cpu_read(w, r, 0, r->size);
	}
	do_free(w, r);
}

/* Memory of the arena is given out once; page neighbours belong to any worker. */
static uint8_t *take_arena(uint64_t size)
{
	uint8_t *addr = NULL;

	(void)pthread_mutex_lock(&arena_lock);
	if (arena_at + size <= ARENA) {
		addr = arena + arena_at;
		arena_at += size;
	}
	(void)pthread_mutex_unlock(&arena_lock);
	return addr;
}

static void op_register(struct worker *w, struct dice *d)
{
	struct region *r = free_region(w);
	uint64_t size = (1u + pick(d, chance(d, 80) ? 100 : 900)) * FLOW_PAGE;
	uint64_t key = roll(d);
	uint64_t written = pick(d, 3);
	uint8_t *addr;
	int e;

	if (!r || w->bytes + size > WORKER_BYTES)
		return;
	addr = take_arena(size);
	if (!addr)
		return;
	*r = (struct region){ .live = true, .registered = true, .addr = addr, .size = size };
	if (!flow_model_init(&r->model, size))
		fail("no memory for the model");
	w->bytes += size;
	/* Nothing, half or all of it exists. */
	if (written) {
		uint64_t n = size / (3u - written);

		for (uint64_t i = 0; i < n; i++)
			w->buffer[i] = flow_pattern(key, i);
		memcpy(addr, w->buffer, n);
		flow_model_write(&r->model, 0, n, w->buffer);
	}
	e = svm_register(space, addr, size, 0);
	note(w, NULL, r, -1, 0, size, written, e);
	expect(w, "svm_register", e, 0);
}

static void do_unregister(struct worker *w, struct region *r)
{
	bool held = is_held(w, r, 0, r->size);
	bool lost;
	int e;

	if (held) {
		expect(w, "svm_unregister of held memory", svm_unregister(space, r->addr, r->size),
		       -EBUSY);
		settle(w, r, 0, r->size);
	}
	lost = atomic_load(&bytes_lost);
	e = svm_unregister(space, r->addr, r->size);
	note(w, NULL, r, -1, 0, r->size, lost, e);
	lost |= atomic_load(&bytes_lost);
	if (e != 0 && !(e == -EIO && lost))
		fail("svm_unregister: %d", e);
	if (e == 0 && flow_model_marked(&r->model, 0, r->size, FLOW_PAGE_LOST))
		fail("svm_unregister: 0, though pages are lost");
	for (uint64_t at = 0; at < r->size; at += FLOW_PAGE) {
		int number = touch(w->buffer, r->addr + at, FLOW_PAGE);

		if (number && e == 0)
			fail("page %p of unregistered memory: signal %d", (void *)(r->addr + at),
			     number);
		flow_model_mark(&r->model, at, 1, 0, FLOW_PAGE_LAZY);
		if (!number)
			check_bytes(w, r, at, FLOW_PAGE, w->buffer, "the CPU (unregistered)");
	}
	drop_region(w, r);
}

static void op_unregister(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);

	if (!r || !r->registered)
		return;
	if (chance(d, 60))
		settle(w, r, 0, r->size);
	do_unregister(w, r);
}

/* ---- CPU -------------------------------------------------------------------------------------- */

static void op_read(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	uint64_t offset;
	uint64_t size;

	if (!r)
		return;
	pick_span(d, r, &offset, &size);
	settle_for_cpu(w, r, offset, size);
	note(w, NULL, r, -1, offset, size, 0, 0);
	cpu_read(w, r, offset, size);
}

static void op_write(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	uint64_t key = roll(d);
	uint64_t offset;
	uint64_t size;

	if (!r)
		return;
	pick_span(d, r, &offset, &size);
	settle_for_cpu(w, r, offset, size);
	note(w, NULL, r, -1, offset, size, key, 0);
	cpu_write(w, r, offset, size, key);
}

/* The kernel touches it for us: needs residency where it serves no faults. Returns what is to be released. */
static bool prepare_syscall(struct worker *w, struct dice *d, struct region *r, uint64_t offset,
			    uint64_t size, uint32_t access, bool *ret_held)
{
	bool must = config.flags & SVM_SPACE_USER_MODE_ONLY;
	int e;

	*ret_held = false;
	settle(w, r, offset, size);
	if (!must && chance(d, 70))
		return true;
	e = svm_host_acquire(space, r->addr + offset, size, access,
			     chance(d, 20) ? SVM_HOST_TRY : 0);
	note(w, "host acquire", r, -1, offset, size, access, e);
	if (e == -EIO && find_losses(r, offset, size))
		return false;
	if (e == -EBUSY)
		return false; /* TRY: something passes */
	expect(w, "svm_host_acquire", e, 0);
	*ret_held = true;
	return true;
}

/* What a system call or io_uring said of a span of n bytes of which `result` were dealt with. */
static void check_short(struct region *r, uint64_t offset, uint64_t size, const char *what,
			int result)
{
	if (result == (int)size)
		return;
	if ((result == -EFAULT || result == -EHWPOISON || (result >= 0 && result < (int)size)) &&
	    find_losses(r, offset, size))
		return;
	fail("%s: %d of %llu", what, result, (unsigned long long)size);
}

static int uring_one(struct worker *w, bool write, void *addr, uint64_t size)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&w->ring);
	struct io_uring_cqe *cqe;
	int e;

	if (!sqe)
		fail("io_uring is full");
	if (write)
		io_uring_prep_write(sqe, w->file, addr, (unsigned int)size, 0);
	else
		io_uring_prep_read(sqe, w->file, addr, (unsigned int)size, 0);
	e = io_uring_submit_and_wait(&w->ring, 1);
	if (e < 0 && e != -EINTR)
		fail("io_uring_submit_and_wait: %d", e);
	do
		e = io_uring_wait_cqe(&w->ring, &cqe);
	while (e == -EINTR);
	if (e < 0)
		fail("io_uring_wait_cqe: %d", e);
	e = cqe->res;
	io_uring_cqe_seen(&w->ring, cqe);
	return e;
}

/* Into managed memory (a file is read), or out of it. */
static void op_transfer(struct worker *w, struct dice *d, bool out, bool uring)
{
	struct region *r = any_region(w, d);
	uint64_t key = roll(d);
	uint64_t offset;
	uint64_t size;
	bool held;
	ssize_t n;
	int e;

	if (!r || (uring && w->ring.ring_fd < 0))
		return;
	pick_span(d, r, &offset, &size);
	if (size > (UINT64_C(1) << 20))
		size = UINT64_C(1) << 20;
	if (!prepare_syscall(w, d, r, offset, size, out ? SVM_ACCESS_READ : SVM_ACCESS_WRITE,
			     &held))
		return;
	if (!out) {
		for (uint64_t i = 0; i < size; i++)
			w->buffer[i] = flow_pattern(key, i);
		if (pwrite(w->file, w->buffer, size, 0) != (ssize_t)size)
			fail("pwrite to a memfd: %d", errno);
	}
	note(w, out ? "out" : "in", r, -1, offset, size, key, 0);
	if (uring) {
		e = uring_one(w, out, r->addr + offset, size);
	} else {
		n = out ? pwrite(w->file, r->addr + offset, size, 0)
			: pread(w->file, r->addr + offset, size, 0);
		e = n < 0 ? -errno : (int)n;
	}
	note(w, "done", r, -1, offset, size, key, e);
	check_short(r, offset, size, uring ? "io_uring" : out ? "pwrite" : "pread", e);
	if (!out) {
		/* Of a page at which it stopped, any part may have come. */
		uint64_t whole = e < 0 ? 0 : (uint64_t)e;

		flow_model_write(&r->model, offset, whole, w->buffer);
		if (whole < size)
			flow_model_maybe(&r->model, offset + whole, size - whole,
					 w->buffer + whole);
	} else if (e > 0) {
		if (pread(w->file, w->buffer, (size_t)e, 0) != e)
			fail("pread from a memfd: %d", errno);
		check_bytes(w, r, offset, (uint64_t)e, w->buffer, uring ? "io_uring" : "pwrite");
	}
	if (held)
		expect(w, "svm_host_release",
		       svm_host_release(space, r->addr + offset, size,
					out ? SVM_ACCESS_READ : SVM_ACCESS_WRITE),
		       0);
}

static void op_host_acquire(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	struct item *it = new_item(w);
	uint32_t access = chance(d, 50) ? SVM_ACCESS_READ : SVM_ACCESS_WRITE;
	uint64_t key = roll(d);
	uint64_t offset;
	uint64_t size;
	int e;

	if (!r || !it)
		return;
	pick_span(d, r, &offset, &size);
	settle_for_cpu(w, r, offset, size);
	e = svm_host_acquire(space, r->addr + offset, size, access, 0);
	note(w, NULL, r, -1, offset, size, access, e);
	if (e == -EIO && find_losses(r, offset, size))
		return;
	expect(w, "svm_host_acquire", e, 0);
	*it = (struct item){
		.kind = ITEM_HOST, .region = r, .offset = offset, .size = size, .access = access
	};
	atomic_fetch_add(&n_host_holds, 1u);
	if (access == SVM_ACCESS_WRITE && chance(d, 50))
		cpu_write(w, r, offset, size, key);
	else
		cpu_read(w, r, offset, size);
}

/* ---- Hints ------------------------------------------------------------------------------------ */

static struct svm_location pick_location(struct dice *d, struct slot **ret_slot)
{
	struct slot *s = NULL;

	*ret_slot = NULL;
	if (chance(d, 70))
		s = use_slot(d);
	if (!s)
		return (struct svm_location){ chance(d, 80) ? SVM_LOCATION_HOST
							    : SVM_LOCATION_HOST_NUMA,
					      0 };
	*ret_slot = s;
	return svm_device_location(s->device);
}

static void op_advise(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	struct svm_advice advice = { .kind = (uint32_t)pick(d, SVM_ADVICE_KINDS) };
	struct slot *s = NULL;
	struct svm_outcome outcome;
	uint64_t offset;
	uint64_t size;
	int e;

	if (!r)
		return;
	pick_span(d, r, &offset, &size);
	switch (advice.kind) {
	case SVM_ADVICE_PREFERRED_LOCATION:
		advice.location = pick_location(d, &s);
		break;
	case SVM_ADVICE_ACCESSED_BY:
	case SVM_ADVICE_ACCESS_IN_PLACE:
	case SVM_ADVICE_NO_ACCESS:
		s = use_slot(d);
		if (!s || (advice.kind == SVM_ADVICE_NO_ACCESS && !chance(d, 30))) {
			if (s)
				leave_slot(s);
			return;
		}
		advice.device = s->id;
		break;
	case SVM_ADVICE_READ_MOSTLY:
		advice.value = chance(d, 80);
		break;
	case SVM_ADVICE_ATOMICS:
		advice.value = pick(d, 3);
		break;
	case SVM_ADVICE_GRANULARITY:
		advice.value = FLOW_PAGE << pick(d, 10);
		break;
	default:
		advice.value = chance(d, 15) ? SVM_MIGRATE_NEVER : pick(d, 2);
		break;
	}
	e = svm_advise(space, r->addr + offset, size, &advice, 1, &outcome);
	note(w, NULL, r, s ? (int)(s - slots) : -1, offset, size, advice.kind << 16 | advice.value,
	     e);
	expect(w, "svm_advise", e, 0);
	if (advice.kind == SVM_ADVICE_NO_ACCESS)
		r->forbidden |= 1u << advice.device;
	if (advice.kind == SVM_ADVICE_MIGRATION && advice.value == SVM_MIGRATE_NEVER)
		r->never = true;
	if (s)
		leave_slot(s);
}

static void op_unadvise(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	uint32_t kinds = (uint32_t)(1u + pick(d, (1u << SVM_ADVICE_KINDS) - 1u));
	uint64_t offset;
	uint64_t size;
	int e;

	if (!r)
		return;
	pick_span(d, r, &offset, &size);
	if (chance(d, 50)) {
		offset = 0;
		size = r->size;
		kinds = (1u << SVM_ADVICE_KINDS) - 1u;
		r->forbidden = 0;
		r->never = false;
	}
	e = svm_unadvise(space, r->addr + offset, size, kinds);
	note(w, NULL, r, -1, offset, size, kinds, e);
	expect(w, "svm_unadvise", e, 0);
}

/* ---- Prefetch, discard, pin ------------------------------------------------------------------- */

static void expect_moved(struct worker *w, struct region *r, struct slot *s, uint64_t offset,
			 uint64_t size, const char *what, int e)
{
	(void)w;
	if (e == 0)
		return;
	if (e == -EIO && find_losses(r, offset, size))
		return;
	if (e == -ENODEV && s) {
		expect_lost(s, what, e);
		return;
	}
	if (e == -ENOSPC && s)
		return;
	fail("%s: %d", what, e);
}

static void op_prefetch(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	struct svm_prefetch_result result = { 0 };
	struct slot *s;
	struct svm_location to;
	uint64_t offset;
	uint64_t size;
	int e;

	if (!r)
		return;
	to = pick_location(d, &s);
	pick_span(d, r, &offset, &size);
	if (chance(d, 80))
		settle(w, r, offset, size);
	e = svm_prefetch(space, r->addr + offset, size, to, &result);
	note(w, NULL, r, s ? (int)(s - slots) : -1, offset, size, result.bytes_moved, e);
	expect_moved(w, r, s, offset, size, "svm_prefetch", e);
	whole_pages(r, &offset, &size);
	if (result.bytes_moved + result.already_there + result.skipped_pinned + result.failed !=
	    size)
		fail("prefetch result: %llu + %llu + %llu + %llu bytes are not %llu",
		     (unsigned long long)result.bytes_moved,
		     (unsigned long long)result.already_there,
		     (unsigned long long)result.skipped_pinned, (unsigned long long)result.failed,
		     (unsigned long long)size);
	if (e == 0 && result.skipped_pinned == 0 && result.failed == 0)
		flow_model_mark(&r->model, offset, size, 0, FLOW_PAGE_LAZY);
	if (s)
		leave_slot(s);
}

static void op_prefetch_async(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	struct item *it = new_item(w);
	struct svm_prefetch_range range;
	struct svm_fence *wait = NULL;
	struct slot *s;
	bool cancel = chance(d, 30);
	uint64_t offset;
	uint64_t size;
	int e;

	if (!r || !it)
		return;
	pick_span(d, r, &offset, &size);
	range.to = pick_location(d, &s);
	range.addr = r->addr + offset;
	range.size = size;
	if (chance(d, 30))
		expect(w, "svm_fence_create", svm_fence_create(space, &wait), 0);
	e = svm_prefetch_start(space, &range, 1, wait, 0, &it->prefetch);
	note(w, wait ? "after a fence" : NULL, r, s ? (int)(s - slots) : -1, offset, size, cancel,
	     e);
	expect(w, "svm_prefetch_start", e, 0);
	it->kind = ITEM_PREFETCH;
	it->region = r;
	it->offset = offset;
	it->size = size;
	it->slot = NULL;
	if (s)
		leave_slot(s);
	if (wait) {
		expect(w, "svm_fence_signal", svm_fence_signal(wait, 0), 0);
		svm_fence_unref(wait);
	}
	if (cancel)
		expect(w, "svm_prefetch_cancel", svm_prefetch_cancel(it->prefetch), 0);
}

static void end_items(struct worker *w, struct dice *d, unsigned int kinds)
{
	unsigned int first = (unsigned int)pick(d, N_ITEMS);

	for (unsigned int i = 0; i < N_ITEMS; i++) {
		struct item *it = &w->items[(first + i) % N_ITEMS];

		if (it->kind != ITEM_NONE && (1u << it->kind & kinds)) {
			end_item(w, it);
			return;
		}
	}
}

static void op_discard(struct worker *w, struct dice *d, bool lazy)
{
	struct region *r = any_region(w, d);
	uint64_t offset;
	uint64_t size;
	bool held;
	int e;

	if (!r)
		return;
	pick_span(d, r, &offset, &size);
	if (chance(d, 70))
		settle(w, r, offset, size);
	held = is_held(w, r, offset, size);
	e = svm_discard(space, r->addr + offset, size, lazy ? SVM_DISCARD_LAZY : 0);
	note(w, NULL, r, -1, offset, size, held, e);
	if (held) {
		expect(w, "svm_discard of held memory", e, -EBUSY);
		return;
	}
	expect(w, "svm_discard", e, 0);
	whole_pages(r, &offset, &size);
	if (lazy) {
		flow_model_forget(&r->model, offset, size);
		flow_model_mark(&r->model, offset, size, FLOW_PAGE_LAZY, 0);
	} else {
		flow_model_zero(&r->model, offset, size);
	}
}

/* The application asks the kernel for zeros itself, in memory of its own. */
static void op_app_discard(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	uint64_t offset;
	uint64_t size;

	/* Without MOVE the library does not hear of it (memory.h). */
	if (!r || !r->registered || (config.flags & SVM_SPACE_NO_MOVE))
		return;
	pick_span(d, r, &offset, &size);
	whole_pages(r, &offset, &size);
	settle(w, r, offset, size);
	if (flow_model_marked(&r->model, offset, size, FLOW_PAGE_LOST) || atomic_load(&bytes_lost))
		return;
	note(w, NULL, r, -1, offset, size, 0, 0);
	if (madvise(r->addr + offset, size, MADV_DONTNEED) < 0)
		fail("madvise: %d", errno);
	flow_model_zero(&r->model, offset, size);
	/* The library hears of it before a touch that comes later, not before other calls. */
	cpu_read(w, r, offset, size);
}

/* Room on a device for what stays there until somebody gives it back: others must always find some. */
static bool take_room(struct slot *s, uint64_t size)
{
	uint64_t n = blocks_of(size);

	if (atomic_fetch_add(&s->n_taken, n) + n + 1u <= s->blocks / 2u)
		return true;
	atomic_fetch_sub(&s->n_taken, n);
	return false;
}

static void op_pin(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	struct item *it = new_item(w);
	struct slot *s;
	struct svm_location to;
	uint64_t offset;
	uint64_t size;
	int e;

	if (!r || !it)
		return;
	to = pick_location(d, &s);
	pick_span(d, r, &offset, &size);
	if (size > BLOCK / 2u)
		size = BLOCK / 2u;
	if (s && !take_room(s, size)) {
		leave_slot(s);
		return;
	}
	settle(w, r, offset, size);
	e = svm_pin(space, r->addr + offset, size, to);
	note(w, NULL, r, s ? (int)(s - slots) : -1, offset, size, 0, e);
	if (e == -EACCES && s && (r->forbidden >> s->id & 1u))
		e = -ENOSPC;
	expect_moved(w, r, s, offset, size, "svm_pin", e);
	if (e == 0) {
		*it = (struct item){ .kind = ITEM_PIN,
				     .region = r,
				     .offset = offset,
				     .size = size,
				     .location = to,
				     .slot = s };
		if (s)
			atomic_fetch_add(&s->n_open, 1u);
		else
			atomic_fetch_add(&n_host_holds, 1u);
	} else if (s) {
		atomic_fetch_sub(&s->n_taken, blocks_of(size));
	}
	if (s)
		leave_slot(s);
	if (e == 0 && !s)
		cpu_read(w, r, offset, size);
}

/* ---- Devices at work -------------------------------------------------------------------------- */

struct work_span {
	struct region *region;
	uint64_t offset;
	uint64_t size;
	uint32_t access;
};

/* What acquire may answer besides 0. True: it did, and nothing more can be done. */
static bool acquire_refused(struct slot *s, const struct work_span *spans, unsigned int n,
			    const char *what, int e)
{
	bool forbidden = false;
	bool never = false;
	bool lost = false;

	if (e == 0)
		return false;
	for (unsigned int i = 0; i < n; i++) {
		forbidden |= spans[i].region->forbidden >> s->id & 1u;
		never |= spans[i].region->never;
	}
	if (e == -EIO || e == -ENODEV)
		for (unsigned int i = 0; i < n; i++)
			lost |= find_losses(spans[i].region, spans[i].offset, spans[i].size);
	if ((e == -EACCES && forbidden) || (e == -ENOLINK && never) || (e == -EIO && lost) ||
	    e == -ENOSPC)
		return true;
	/* What must not move can only change kind, and neighbours that the CPU holds keep it from that. */
	if (e == -EBUSY && never && atomic_load(&n_host_holds))
		return true;
	if (e == -ENODEV) {
		expect_lost(s, what, e);
		return true;
	}
	for (unsigned int i = 0; i < n; i++) {
		struct svm_page_residency page = { 0 };

		(void)svm_residency_query(space, spans[i].region->addr + spans[i].offset, 1, &page,
					  1, NULL);
		(void)fprintf(stderr, "span %u at %p: flags %x devices %x mapped %x\n", i,
			      (void *)(spans[i].region->addr + spans[i].offset), page.flags,
			      page.devices, page.mapped);
		print_events(spans[i].region->addr + spans[i].offset);
		print_mapping(spans[i].region->addr + spans[i].offset);
	}
	fail("%s on device %d (%s): %d", what, (int)(s - slots), s->name, e);
}

/* A device that can fault must not meet memory that it cannot have: it would be lost. */
static bool safe_to_touch(const struct slot *s, const struct work_span *spans, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		struct region *r = spans[i].region;

		if ((s->caps & SVM_CAP_FAULTS) && ((r->forbidden >> s->id & 1u) || r->never))
			return false;
		if (atomic_load(&bytes_lost) && find_losses(r, spans[i].offset, spans[i].size))
			return false;
	}
	return true;
}

static int acquire(struct worker *w, struct dice *d, struct slot *s, const struct work_span *spans,
		   unsigned int n, struct svm_access **ret_access)
{
	struct svm_access_range ranges[2];
	struct svm_fence *ready;
	int e;

	for (unsigned int i = 0; i < n; i++)
		ranges[i] =
			(struct svm_access_range){ .addr = spans[i].region->addr + spans[i].offset,
						   .size = spans[i].size,
						   .access = spans[i].access };
	if (chance(d, 50))
		return svm_acquire(s->device, ranges, n, 0, ret_access, NULL);
	e = svm_acquire(s->device, ranges, n, 0, ret_access, &ready);
	if (e < 0)
		return e;
	e = svm_fence_wait(ready, -1);
	svm_fence_unref(ready);
	if (e < 0) {
		expect(w, "svm_release after a failed acquire", svm_release(*ret_access, NULL), 0);
		*ret_access = NULL;
	}
	return e;
}

/* Run a kernel with what it takes around it. 0: it ran; 1: it did not start; negative: it did not end well. */
static int launch(struct worker *w, struct dice *d, struct slot *s, const struct work_span *spans,
		  unsigned int n, void (*kernel)(const void *args, uint64_t index, uint64_t count),
		  const struct kernel_args *args)
{
	struct svm_access *access = NULL;
	struct svm_fence *wait = NULL;
	struct svm_fence *done = NULL;
	uint64_t grid = 1u + pick(d, chance(d, 50) ? 4 : 64);
	bool sync = chance(d, 40);
	int e;

	if (!safe_to_touch(s, spans, n))
		return 1;
	if (!(s->caps & SVM_CAP_FAULTS) || chance(d, 40)) {
		e = acquire(w, d, s, spans, n, &access);
		note(w, "acquire", spans[0].region, (int)(s - slots), spans[0].offset,
		     spans[0].size, spans[0].access, e);
		if (acquire_refused(s, spans, n, "svm_acquire", e))
			return 1;
	}
	if (!sync && chance(d, 30))
		expect(w, "svm_fence_create", svm_fence_create(space, &wait), 0);
	e = svm_soft_launch(s->device, kernel, args, sizeof(*args), grid, wait,
			    sync ? NULL : &done);
	if (e == 0 && !sync && access && chance(d, 70)) {
		expect(w, "svm_release", svm_release(access, done), 0);
		access = NULL;
	}
	if (wait) {
		expect(w, "svm_fence_signal", svm_fence_signal(wait, 0), 0);
		svm_fence_unref(wait);
	}
	if (e == 0 && !sync) {
		e = svm_fence_wait(done, -1);
		svm_fence_unref(done);
	}
	if (access)
		expect(w, "svm_release", svm_release(access, NULL), 0);
	note(w, "launch", spans[0].region, (int)(s - slots), spans[0].offset, spans[0].size, grid,
	     e);
	if (e == 0)
		return 0;
	if (e != -ENODEV && e != -EIO)
		fail("launch on device %d (%s): %d", (int)(s - slots), s->name, e);
	expect_lost(s, "launch", e);
	return e;
}

/* What a kernel wrote, in w->buffer: for sure, or perhaps. */
static void wrote(struct worker *w, const struct work_span *span, int status)
{
	if (status == 0)
		flow_model_write(&span->region->model, span->offset, span->size, w->buffer);
	else if (status < 0)
		flow_model_maybe(&span->region->model, span->offset, span->size, w->buffer);
}

static void op_launch_fill(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	struct slot *s = r ? use_slot(d) : NULL;
	struct work_span span = { .region = r, .access = SVM_ACCESS_WRITE };
	struct kernel_args args = { .key = roll(d) };
	int e;

	if (!s)
		return;
	pick_span(d, r, &span.offset, &span.size);
	settle(w, r, span.offset, span.size);
	args.dst = r->addr + span.offset;
	args.size = span.size;
	e = launch(w, d, s, &span, 1, kernel_fill, &args);
	for (uint64_t i = 0; i < span.size && e <= 0; i++)
		w->buffer[i] = flow_pattern(args.key, i);
	wrote(w, &span, e);
	leave_slot(s);
}

/* Bytes of the model, as they are known; false: some are not. */
static bool known_bytes(const struct work_span *span, uint8_t *bytes)
{
	const struct flow_model *m = &span->region->model;

	if (flow_model_marked(m, span->offset, span->size, FLOW_PAGE_VAGUE | FLOW_PAGE_LAZY))
		return false;
	memcpy(bytes, m->value + span->offset, span->size);
	return true;
}

static void op_launch_xor(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	struct slot *s = r ? use_slot(d) : NULL;
	struct work_span span = { .region = r, .access = SVM_ACCESS_WRITE };
	struct kernel_args args = { .key = roll(d) | 1u };
	bool known;
	int e;

	if (!s)
		return;
	pick_span(d, r, &span.offset, &span.size);
	settle(w, r, span.offset, span.size);
	args.dst = r->addr + span.offset;
	args.size = span.size;
	e = launch(w, d, s, &span, 1, kernel_xor, &args);
	known = known_bytes(&span, w->buffer);
	for (uint64_t i = 0; i < span.size && known; i++)
		w->buffer[i] ^= (uint8_t)args.key;
	if (known)
		wrote(w, &span, e);
	else if (e <= 0)
		flow_model_forget(&r->model, span.offset, span.size);
	leave_slot(s);
}

/* Two spans of one worker that have no page in common. */
static bool pick_pair(struct worker *w, struct dice *d, struct work_span *src,
		      struct work_span *dst)
{
	uint64_t size;

	src->region = any_region(w, d);
	dst->region = any_region(w, d);
	if (!src->region)
		return false;
	pick_span(d, src->region, &src->offset, &src->size);
	pick_span(d, dst->region, &dst->offset, &dst->size);
	size = src->size < dst->size ? src->size : dst->size;
	src->size = size;
	dst->size = size;
	src->access = SVM_ACCESS_READ;
	dst->access = SVM_ACCESS_WRITE;
	if (src->region != dst->region)
		return true;
	return src->offset + size + FLOW_PAGE <= dst->offset ||
	       dst->offset + size + FLOW_PAGE <= src->offset;
}

static void op_launch_add(struct worker *w, struct dice *d)
{
	struct work_span spans[2];
	struct slot *s;
	struct kernel_args args = { .key = roll(d) & 0xffu };
	bool known;
	int e;

	if (!pick_pair(w, d, &spans[1], &spans[0]))
		return;
	s = use_slot(d);
	if (!s)
		return;
	for (unsigned int i = 0; i < 2; i++)
		settle(w, spans[i].region, spans[i].offset, spans[i].size);
	args.dst = spans[0].region->addr + spans[0].offset;
	args.src = spans[1].region->addr + spans[1].offset;
	args.size = spans[0].size;
	e = launch(w, d, s, spans, 2, kernel_add, &args);
	known = known_bytes(&spans[1], w->buffer);
	for (uint64_t i = 0; i < args.size && known; i++)
		w->buffer[i] = (uint8_t)(w->buffer[i] + args.key);
	if (known)
		wrote(w, &spans[0], e);
	else if (e <= 0)
		flow_model_forget(&spans[0].region->model, spans[0].offset, spans[0].size);
	leave_slot(s);
}

/* The device reads, into memory that it shares with the test outside the space. */
static void op_launch_read(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	struct slot *s = r ? use_slot(d) : NULL;
	struct work_span span = { .region = r, .access = SVM_ACCESS_READ };
	struct kernel_args args = { .dst = w->scratch };
	int e;

	if (!s)
		return;
	pick_span(d, r, &span.offset, &span.size);
	if (span.size > SCRATCH)
		span.size = SCRATCH;
	settle(w, r, span.offset, span.size);
	args.src = r->addr + span.offset;
	args.size = span.size;
	e = launch(w, d, s, &span, 1, kernel_add, &args);
	if (e == 0)
		check_bytes(w, r, span.offset, span.size, w->scratch, s->name);
	leave_slot(s);
}

/* Two devices read the same at the same time. */
static void op_two_readers(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	struct work_span span = { .region = r, .access = SVM_ACCESS_READ };
	struct slot *s[2] = { NULL, NULL };
	struct svm_access *access;
	struct svm_fence *done[2] = { NULL, NULL };
	bool ran[2] = { false, false };
	int e;

	if (!r || config.n_slots < 2)
		return;
	pick_span(d, r, &span.offset, &span.size);
	if (span.size > SCRATCH / 2u)
		span.size = SCRATCH / 2u;
	settle(w, r, span.offset, span.size);
	/* In the order of the slots, so that nobody waits in a circle for who closes one. */
	s[0] = &slots[pick(d, config.n_slots - 1u)];
	s[1] = s[0] + 1;
	for (unsigned int i = 0; i < 2; i++) {
		struct kernel_args args = { .dst = w->scratch + i * SCRATCH / 2u,
					    .src = r->addr + span.offset,
					    .size = span.size };

		(void)pthread_rwlock_rdlock(&s[i]->lock);
		if (!s[i]->device || !safe_to_touch(s[i], &span, 1))
			continue;
		e = acquire(w, d, s[i], &span, 1, &access);
		note(w, "acquire", r, (int)(s[i] - slots), span.offset, span.size, span.access, e);
		/* Without read-only mappings or duplicates, the first holds it alone. */
		if (e == -EBUSY && i == 1)
			continue;
		if (acquire_refused(s[i], &span, 1, "svm_acquire", e))
			continue;
		e = svm_soft_launch(s[i]->device, kernel_add, &args, sizeof(args), 1u + pick(d, 4),
				    NULL, &done[i]);
		ran[i] = e == 0;
		/* Now: a device that can fault may wait for the other one, which must not wait for us. */
		expect(w, "svm_release", svm_release(access, done[i]), 0);
		if (e < 0) {
			if (e != -ENODEV)
				fail("svm_soft_launch: %d", e);
			expect_lost(s[i], "svm_soft_launch", e);
		}
	}
	for (unsigned int i = 0; i < 2; i++) {
		if (ran[i]) {
			e = svm_fence_wait(done[i], -1);
			note(w, "launch", r, (int)(s[i] - slots), span.offset, span.size, i, e);
			svm_fence_unref(done[i]);
			if (e == 0)
				check_bytes(w, r, span.offset, span.size,
					    w->scratch + i * SCRATCH / 2u, s[i]->name);
			else if (e != -ENODEV && e != -EIO)
				fail("launch on device %d (%s): %d", (int)(s[i] - slots),
				     s[i]->name, e);
			else
				expect_lost(s[i], "launch", e);
		}
	}
	leave_slot(s[1]);
	leave_slot(s[0]);
}

static int work_ends(struct slot *s, const struct work_span *spans, unsigned int n,
		     const char *what, int e, struct svm_fence *done)
{
	if (e == 0 && done) {
		e = svm_fence_wait(done, -1);
		svm_fence_unref(done);
	}
	acquire_refused(s, spans, n, what, e);
	return e;
}

static void op_device_copy(struct worker *w, struct dice *d)
{
	struct work_span spans[2];
	struct svm_fence *done = NULL;
	struct slot *s;
	bool sync = chance(d, 50);
	bool known;
	int e;

	if (!pick_pair(w, d, &spans[1], &spans[0]))
		return;
	s = use_slot(d);
	if (!s)
		return;
	for (unsigned int i = 0; i < 2; i++)
		settle(w, spans[i].region, spans[i].offset, spans[i].size);
	if (safe_to_touch(s, spans, 2)) {
		e = svm_device_copy(s->device, spans[0].region->addr + spans[0].offset,
				    spans[1].region->addr + spans[1].offset, spans[0].size, NULL,
				    sync ? NULL : &done);
		e = work_ends(s, spans, 2, "svm_device_copy", e, done);
		note(w, "dst", spans[0].region, (int)(s - slots), spans[0].offset, spans[0].size,
		     spans[1].offset, e);
		known = known_bytes(&spans[1], w->buffer);
		if (known)
			wrote(w, &spans[0], e);
		else
			flow_model_forget(&spans[0].region->model, spans[0].offset, spans[0].size);
	}
	leave_slot(s);
}

static void op_device_fill(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	struct slot *s = r ? use_slot(d) : NULL;
	struct work_span span = { .region = r, .access = SVM_ACCESS_WRITE };
	struct svm_fence *done = NULL;
	uint8_t value = (uint8_t)roll(d);
	bool sync = chance(d, 50);
	int e;

	if (!s)
		return;
	pick_span(d, r, &span.offset, &span.size);
	settle(w, r, span.offset, span.size);
	if (safe_to_touch(s, &span, 1)) {
		e = svm_device_fill(s->device, r->addr + span.offset, value, span.size, NULL,
				    sync ? NULL : &done);
		e = work_ends(s, &span, 1, "svm_device_fill", e, done);
		note(w, NULL, r, (int)(s - slots), span.offset, span.size, value, e);
		memset(w->buffer, value, span.size);
		wrote(w, &span, e);
	}
	leave_slot(s);
}

/* An access that stays open. */
static void op_acquire(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	struct item *it = new_item(w);
	struct slot *s = r && it ? use_slot(d) : NULL;
	struct work_span span = { .region = r,
				  .access = chance(d, 50) ? SVM_ACCESS_READ : SVM_ACCESS_WRITE };
	struct svm_access *access;
	int e;

	if (!s)
		return;
	pick_span(d, r, &span.offset, &span.size);
	if (span.size > BLOCK / 2u)
		span.size = BLOCK / 2u;
	if (!take_room(s, span.size)) {
		leave_slot(s);
		return;
	}
	settle(w, r, span.offset, span.size);
	e = acquire(w, d, s, &span, 1, &access);
	note(w, NULL, r, (int)(s - slots), span.offset, span.size, span.access, e);
	if (acquire_refused(s, &span, 1, "svm_acquire", e)) {
		atomic_fetch_sub(&s->n_taken, blocks_of(span.size));
	} else {
		*it = (struct item){ .kind = ITEM_ACCESS,
				     .region = r,
				     .offset = span.offset,
				     .size = span.size,
				     .access = span.access,
				     .handle = access,
				     .slot = s };
		atomic_fetch_add(&s->n_open, 1u);
	}
	leave_slot(s);
}

static void op_kill(struct dice *d, struct worker *w)
{
	struct slot *s;
	int e;

	if (!config.kills)
		return;
	s = use_slot(d);
	if (!s)
		return;
	mark_killed(s);
	e = svm_soft_kill(s->device);
	note(w, NULL, NULL, (int)(s - slots), 0, 0, s->lossy, e);
	expect(w, "svm_soft_kill", e, 0);
	leave_slot(s);
}

static void op_reopen(struct worker *w, struct dice *d)
{
	struct slot *s = &slots[pick(d, config.n_slots)];
	uint64_t key = roll(d);
	bool others = chance(d, 50);
	int e = 0;

	if (pthread_rwlock_trywrlock(&s->lock) != 0)
		return;
	if (s->device && (atomic_load(&s->killed) || others)) {
		unsigned int n_open = atomic_load(&s->n_open);

		e = svm_device_close(s->device);
		note(w, "close", NULL, (int)(s - slots), 0, 0, n_open, e);
		if (e == 0)
			s->device = NULL;
		else if (e != -EBUSY || n_open == 0)
			fail("svm_device_close with %u open: %d", n_open, e);
	}
	if (!s->device && (others || chance(d, 60))) {
		open_slot(s, key);
		note(w, "open", NULL, (int)(s - slots), 0, s->blocks, s->caps, 0);
	}
	(void)pthread_rwlock_unlock(&s->lock);
}

/* ---- Questions -------------------------------------------------------------------------------- */

static void op_residency(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	struct svm_page_residency *pages = (struct svm_page_residency *)w->buffer;
	uint64_t generation;
	uint64_t offset;
	uint64_t size;
	int e;

	if (!r)
		return;
	pick_span(d, r, &offset, &size);
	whole_pages(r, &offset, &size);
	e = svm_residency_query(space, r->addr + offset, size, pages, size / FLOW_PAGE,
				&generation);
	note(w, NULL, r, -1, offset, size, generation, e);
	expect(w, "svm_residency_query", e, 0);
	for (uint64_t i = 0; i < size / FLOW_PAGE; i++) {
		const struct svm_page_residency *p = &pages[i];

		if ((p->flags & SVM_PAGE_CPU_WRITE) && (p->devices || !(p->flags & SVM_PAGE_HOST)))
			fail("page %llx: the CPU writes (flags %x) and devices %x hold it",
			     (unsigned long long)i, p->flags, p->devices);
		if ((p->flags & SVM_PAGE_CPU_READ) && !(p->flags & SVM_PAGE_HOST))
			fail("page %llx: the CPU maps what the host does not hold (flags %x)",
			     (unsigned long long)i, p->flags);
		if ((p->flags & SVM_PAGE_POISONED) && (p->devices || (p->flags & SVM_PAGE_HOST)))
			fail("page %llx: poisoned, and held (flags %x devices %x)",
			     (unsigned long long)i, p->flags, p->devices);
		if (p->flags & SVM_PAGE_POISONED)
			take_loss(r, offset + i * FLOW_PAGE);
	}
}

static void op_pointer(struct worker *w, struct dice *d)
{
	struct region *r = any_region(w, d);
	struct svm_pointer_info info = { .size = sizeof(info) };
	uint64_t offset;
	uint64_t size;

	if (!r)
		return;
	pick_span(d, r, &offset, &size);
	expect(w, "svm_pointer_query", svm_pointer_query(space, r->addr + offset, &info), 0);
	note(w, NULL, r, -1, offset, size, info.id, 0);
	if (!info.is_svm || info.base != (uint64_t)(uintptr_t)r->addr || info.length != r->size ||
	    info.is_registered != r->registered)
		fail("svm_pointer_query: base %llx length %llx registered %u",
		     (unsigned long long)info.base, (unsigned long long)info.length,
		     info.is_registered);
}

static void op_fork(struct worker *w)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		struct svm_space_info info = { .size = sizeof(info) };

		_exit(svm_space_query(space, &info) == -ECHILD ? 0 : 1);
	}
	note(w, NULL, NULL, -1, 0, 0, (uint64_t)child, 0);
	if (child < 0)
		fail("fork: %d", errno);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			fail("waitpid: %d", errno);
	if (status != 0)
		fail("the child ended with %x", (unsigned int)status);
}

/* ---- The sequence ----------------------------------------------------------------------------- */

static enum op_kind pick_kind(struct dice *d)
{
	unsigned int total = 0;
	uint64_t n;

	for (unsigned int k = 0; k < OP_KINDS; k++)
		total += op_info[k].weight;
	n = pick(d, total);
	for (unsigned int k = 0; k < OP_KINDS; k++) {
		if (n < op_info[k].weight)
			return (enum op_kind)k;
		n -= op_info[k].weight;
	}
	return OP_READ;
}

static void do_kind(struct worker *w, struct dice *d, enum op_kind kind)
{
	switch (kind) {
	case OP_ALLOC:
		op_alloc(w, d);
		break;
	case OP_FREE:
		op_free(w, d);
		break;
	case OP_REGISTER:
		op_register(w, d);
		break;
	case OP_UNREGISTER:
		op_unregister(w, d);
		break;
	case OP_READ:
		op_read(w, d);
		break;
	case OP_WRITE:
		op_write(w, d);
		break;
	case OP_ADVISE:
		op_advise(w, d);
		break;
	case OP_UNADVISE:
		op_unadvise(w, d);
		break;
	case OP_PREFETCH:
		op_prefetch(w, d);
		break;
	case OP_PREFETCH_ASYNC:
		op_prefetch_async(w, d);
		break;
	case OP_PREFETCH_END:
		end_items(w, d, 1u << ITEM_PREFETCH);
		break;
	case OP_DISCARD:
		op_discard(w, d, false);
		break;
	case OP_DISCARD_LAZY:
		op_discard(w, d, true);
		break;
	case OP_PIN:
		op_pin(w, d);
		break;
	case OP_UNPIN:
		end_items(w, d, 1u << ITEM_PIN | 1u << ITEM_HOST);
		break;
	case OP_HOST_ACQUIRE:
		op_host_acquire(w, d);
		break;
	case OP_ACQUIRE:
		op_acquire(w, d);
		break;
	case OP_RELEASE:
		end_items(w, d, 1u << ITEM_ACCESS);
		break;
	case OP_LAUNCH_FILL:
		op_launch_fill(w, d);
		break;
	case OP_LAUNCH_XOR:
		op_launch_xor(w, d);
		break;
	case OP_LAUNCH_ADD:
		op_launch_add(w, d);
		break;
	case OP_LAUNCH_READ:
		op_launch_read(w, d);
		break;
	case OP_TWO_READERS:
		op_two_readers(w, d);
		break;
	case OP_DEVICE_COPY:
		op_device_copy(w, d);
		break;
	case OP_DEVICE_FILL:
		op_device_fill(w, d);
		break;
	case OP_SYS_READ:
		op_transfer(w, d, false, false);
		break;
	case OP_SYS_WRITE:
		op_transfer(w, d, true, false);
		break;
	case OP_URING:
		op_transfer(w, d, chance(d, 50), true);
		break;
	case OP_RESIDENCY:
		op_residency(w, d);
		break;
	case OP_POINTER:
		op_pointer(w, d);
		break;
	case OP_FORK:
		op_fork(w);
		break;
	case OP_APP_DISCARD:
		op_app_discard(w, d);
		break;
	case OP_KILL:
		op_kill(d, w);
		break;
	case OP_REOPEN:
		op_reopen(w, d);
		break;
	case OP_KINDS:
		break;
	}
}

static void do_op(struct worker *w, unsigned int index)
{
	struct dice d = { flow_mix(flow_mix(order->seed) ^
				   ((uint64_t)(w->number + 1u) << 32 | index)) };
	enum op_kind kind = pick_kind(&d);

	current.worker = w->number;
	current.op = index;
	current.kind = kind;
	__atomic_store_n(&w->doing.op, index, __ATOMIC_RELAXED);
	__atomic_store_n(&w->doing.kind, kind, __ATOMIC_RELAXED);
	__atomic_fetch_add(&order->report->n_started, 1u, __ATOMIC_RELAXED);
	do_kind(w, &d, kind);
	__atomic_fetch_add(&order->report->n_done, 1u, __ATOMIC_RELAXED);
}

/* Everything is read, and given back. */
static void finish_worker(struct worker *w)
{
	current.worker = w->number;
	current.op = order->n_ops;
	current.kind = OP_READ;
	for (unsigned int i = 0; i < N_ITEMS; i++)
		end_item(w, &w->items[i]);
	for (unsigned int i = 0; i < N_REGIONS; i++) {
		struct region *r = &w->regions[i];

		if (!r->live)
			continue;
		note(w, "at the end", r, -1, 0, r->size, 0, 0);
		cpu_read(w, r, 0, r->size);
		if (r->registered)
			do_unregister(w, r);
		else
			do_free(w, r);
	}
}

static void *worker_thread(void *arg)
{
	struct worker *w = arg;

	for (unsigned int i = 0; i < order->n_ops; i++)
		do_op(w, i);
	finish_worker(w);
	return NULL;
}

static void run_in_order(void)
{
	if (order->ops) {
		for (size_t i = 0; i < order->n_chosen; i++)
			if (order->ops[i].worker < config.n_workers)
				do_op(&workers[order->ops[i].worker], order->ops[i].index);
	} else {
		for (unsigned int i = 0; i < order->n_ops; i++)
			for (unsigned int k = 0; k < config.n_workers; k++)
				do_op(&workers[k], i);
	}
	for (unsigned int k = 0; k < config.n_workers; k++)
		finish_worker(&workers[k]);
}

/* ---- Watchdog --------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PATIENCE 80
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PATIENCE 80
#endif
#endif
#ifndef PATIENCE
#define PATIENCE 20 /* seconds without an operation that ends */
#endif

static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t watch_cond = PTHREAD_COND_INITIALIZER;
static bool watch_ends;

/* What each worker was doing, and where in the kernel each thread is. */
static void print_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *entry;

	for (unsigned int i = 0; i < config.n_workers; i++)
		(void)fprintf(
			stderr, "worker %u: op %u (%s)\n", i,
			__atomic_load_n(&workers[i].doing.op, __ATOMIC_RELAXED),
			op_info[__atomic_load_n(&workers[i].doing.kind, __ATOMIC_RELAXED)].name);
	while (tasks && (entry = readdir(tasks)) != NULL) {
		char path[300];
		char text[3][200] = { "", "", "" };
		static const char *const files[] = { "comm", "wchan", "syscall" };

		if (entry->d_name[0] == '.')
			continue;
		for (unsigned int i = 0; i < 3; i++) {
			ssize_t n;
			int fd;

			(void)snprintf(path, sizeof(path), "/proc/self/task/%s/%s", entry->d_name,
				       files[i]);
			fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd < 0)
				continue;
			n = read(fd, text[i], sizeof(text[i]) - 1u);
			text[i][n > 0 ? n : 0] = '\0';
			text[i][strcspn(text[i], "\n")] = '\0';
			(void)close(fd);
		}
		(void)fprintf(stderr, "thread %s %s: %s, %s\n", entry->d_name, text[0], text[1],
			      text[2]);
	}
	if (tasks)
		(void)closedir(tasks);
}

static void *watchdog(void *arg)
{
	uint64_t before = UINT64_MAX;

	(void)arg;
	(void)pthread_mutex_lock(&watch_lock);
	while (!watch_ends) {
		uint64_t now = __atomic_load_n(&order->report->n_done, __ATOMIC_RELAXED) +
			       atomic_load(&ring_next);
		uint64_t started = __atomic_load_n(&order->report->n_started, __ATOMIC_RELAXED);
		uint64_t done = __atomic_load_n(&order->report->n_done, __ATOMIC_RELAXED);
		struct timespec until;

		unsigned int patience = order->patience ? order->patience : PATIENCE;

		if (now == before) {
			print_threads();
			fail("nothing has moved for %u seconds: %llu operations of %llu under way",
			     patience, (unsigned long long)(started - done),
			     (unsigned long long)started);
		}
		before = now;
		(void)clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += patience;
		(void)pthread_cond_timedwait(&watch_cond, &watch_lock, &until);
	}
	(void)pthread_mutex_unlock(&watch_lock);
	return NULL;
}

/* ---- A run ------------------------------------------------------------------------------------ */

static void log_line(void *data, int level, const char *line)
{
	struct iovec parts[] = { { (char *)"  log: ", 7 },
				 { (char *)line, strlen(line) },
				 { (char *)"\n", 1 } };

	(void)data;
	(void)level;
	(void)!writev(STDERR_FILENO, parts, 3);
}

static void *map_or_die(uint64_t size, int flags)
{
	void *addr = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		fail("mmap of %llx bytes: %d", (unsigned long long)size, errno);
	return addr;
}

static void setup(void)
{
	struct svm_space_options o = { .size = sizeof(o) };
	struct sigaction action = { .sa_flags = SA_SIGINFO | SA_NODEFER };
	int e;

	action.sa_sigaction = on_signal;
	(void)sigaction(SIGBUS, &action, NULL);
	(void)sigaction(SIGSEGV, &action, NULL);
	arena = map_or_die(ARENA, MAP_PRIVATE);
	for (unsigned int i = 0; i < config.n_workers; i++) {
		struct worker *w = &workers[i];

		w->number = i;
		w->scratch = map_or_die(SCRATCH, MAP_SHARED);
		w->buffer = map_or_die(WORKER_BYTES, MAP_PRIVATE);
		w->file = memfd_create("flow", MFD_CLOEXEC);
		if (w->file < 0)
			fail("memfd_create: %d", errno);
		if (io_uring_queue_init(4, &w->ring, 0) < 0)
			w->ring.ring_fd = -1; /* denied here: its operations are left out */
	}
	o.flags = config.flags;
	o.loop = config.loop;
	o.n_threads = config.n_service;
	o.host_cache_size = config.cache;
	o.op_timeout_ms = 60000;
	o.log = log_line;
	o.log_level = order->loud ? SVM_LOG_INFO : config.kills ? SVM_LOG_ERROR : SVM_LOG_WARN;
	e = svm_space_create(&o, &space);
	if (e < 0)
		fail("svm_space_create: %d", e);
	for (unsigned int i = 0; i < config.n_slots; i++) {
		(void)pthread_rwlock_init(&slots[i].lock, NULL);
		open_slot(&slots[i], flow_mix(order->seed + i));
	}
}

static void teardown(void)
{
	int e;

	for (unsigned int i = 0; i < config.n_slots; i++)
		if (slots[i].device) {
			e = svm_device_close(slots[i].device);
			if (e < 0)
				fail("svm_device_close at the end: %d", e);
		}
	e = svm_space_destroy(space);
	if (e < 0)
		fail("svm_space_destroy: %d", e);
	for (unsigned int i = 0; i < config.n_workers; i++) {
		struct worker *w = &workers[i];

		(void)munmap(w->scratch, SCRATCH);
		(void)munmap(w->buffer, WORKER_BYTES);
		(void)close(w->file);
		if (w->ring.ring_fd >= 0)
			io_uring_queue_exit(&w->ring);
	}
	(void)munmap(arena, ARENA);
}

void flow_run(const struct flow_order *given)
{
	pthread_t watch;

	order = given;
	make_config(order->seed, &config);
	if (pthread_create(&watch, NULL, watchdog, NULL) != 0)
		fail("pthread_create");
	setup();
	if (order->threads) {
		for (unsigned int i = 0; i < config.n_workers; i++)
			if (pthread_create(&workers[i].thread, NULL, worker_thread, &workers[i]) !=
			    0)
				fail("pthread_create");
		for (unsigned int i = 0; i < config.n_workers; i++)
			(void)pthread_join(workers[i].thread, NULL);
	} else {
		run_in_order();
	}
	teardown();
	(void)pthread_mutex_lock(&watch_lock);
	watch_ends = true;
	(void)pthread_cond_signal(&watch_cond);
	(void)pthread_mutex_unlock(&watch_lock);
	(void)pthread_join(watch, NULL);
}
