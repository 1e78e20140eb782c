/* SPDX-License-Identifier: MIT */
#include "fake_backend.h"

#include "backend.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE	     ((uint64_t)SVM_PAGE_SIZE)
#define BLOCK	     ((uint64_t)SVM_BLOCK_SIZE)
#define MAX_PAGES    32768u /* of the window */
#define MAX_COMMANDS 8192u  /* per timeline */
#define MAX_FAULTS   16u
#define MAX_OWN	     4096u
#define WORK_FAULT   (MAX_FAULTS - 1u) /* slot of the work at the head of its queue */
/* Handles of chunks do not look like indices. */
#define HANDLE(i) (UINT64_C(0xc0de0000) + (i))

const char *const fake_op_names[FAKE_OPS] = {
	"open",		"chunk_alloc", "chunk_map",  "bind",	      "copy",
	"work",		"fault_read",  "fault_done", "native_advise", "native_prefetch",
	"native_query",
};

struct fake_config fake;

/* What a queued call consists of; only the last entry has a point. */
struct command {
	uint64_t value; /* 0: more of the same call follows */
	bool fails;
	union {
		struct svm_bind bind;
		struct svm_copy copy;
		struct svm_work work;
	};
};

struct queue {
	struct command commands[MAX_COMMANDS];
	unsigned int head; /* next to carry out */
	unsigned int tail;
	uint64_t submitted;
	uint64_t completed;
	uint64_t failed; /* the point that fails */
	int error;	 /* how, until it was told */
};

struct pte {
	char *at;
	bool write;
};

enum plan_kind { PLAN_FAIL, PLAN_FAIL_POINT, PLAN_FAIL_POINT_AND_DIE, PLAN_DIE };

enum fault_state { FAULT_FREE = 0, FAULT_NEW, FAULT_READ, FAULT_ANSWERED };

struct fault {
	enum fault_state state;
	uint64_t addr;
	uint32_t access;
	int status;
};

static struct device {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool is_open;
	bool is_dead;
	bool closing;
	bool has_thread;
	pthread_t thread;
	int event_fd;
	int fault_fd;
	uint64_t window_base;
	uint64_t window_size;
	char *memory;
	bool chunk_used[FAKE_MAX_CHUNKS];
	struct pte ptes[MAX_PAGES];
	struct queue queues[SVM_TIMELINES];
	struct fault faults[MAX_FAULTS];
	unsigned int calls[FAKE_OPS];
	/* What is to fail. */
	struct {
		enum fake_op op;
		unsigned int first; /* number of the call; 0: none */
		unsigned int n_times;
		int error;
		enum plan_kind kind;
	} plan;
	/* System memory that the device says it has; nothing is really moved. */
	uint64_t own[MAX_OWN];
	unsigned int n_own;
	uint64_t stuck;
	uint64_t stuck_end;
	struct fake_advice advice[FAKE_MAX_ADVICE];
	unsigned int n_advice;
	struct svm_outcome answer;
	int point_error; /* of the call that is being taken */
	bool dies_after; /* that call */
	unsigned int n_wrong;
} dev = { .lock = PTHREAD_MUTEX_INITIALIZER,
	  .changed = PTHREAD_COND_INITIALIZER,
	  .event_fd = -1,
	  .fault_fd = -1 };

/* LOCKING: dev.lock, here and in all static functions unless they say otherwise. */
static void wrong(const char *what)
{
	static const char lead[] = "fake backend: breach of the contract: ";

	dev.n_wrong++;
	(void)!write(STDERR_FILENO, lead, sizeof(lead) - 1u);
	(void)!write(STDERR_FILENO, what, strlen(what));
	(void)!write(STDERR_FILENO, "\n", 1);
}

static void raise_fd(int fd)
{
	static const uint64_t one = 1;

	if (fd >= 0)
		(void)!write(fd, &one, sizeof(one));
}

static void clear_fd(int fd)
{
	uint64_t count;

	(void)!read(fd, &count, sizeof(count));
}

static void die(void)
{
	if (dev.is_dead)
		return;
	dev.is_dead = true;
	if (fake.corpse)
		memset(dev.memory, 0xdd, FAKE_MAX_CHUNKS * BLOCK);
	/* Nothing that is queued happens any more. */
	for (unsigned int t = 0; t < SVM_TIMELINES; t++)
		dev.queues[t].head = dev.queues[t].tail;
	memset(dev.ptes, 0, sizeof(dev.ptes));
	for (unsigned int i = 0; i < MAX_FAULTS; i++) {
		if (dev.faults[i].state == FAULT_FREE)
			continue;
		dev.faults[i].state = i == WORK_FAULT ? FAULT_FREE : FAULT_ANSWERED;
		dev.faults[i].status = -ENODEV;
	}
	raise_fd(dev.event_fd);
	pthread_cond_broadcast(&dev.changed);
}

/* Count a call. Negative: it fails so. */
static int enter(enum fake_op op)
{
	unsigned int n = ++dev.calls[op];

	pthread_cond_broadcast(&dev.changed);
	if (op != FAKE_OPEN && !dev.is_open)
		wrong("an op of a device that is not open");
	if (dev.plan.first && dev.plan.op == op && n >= dev.plan.first &&
	    n - dev.plan.first < dev.plan.n_times) {
		if (dev.plan.kind == PLAN_DIE) {
			die();
		} else if (dev.plan.kind != PLAN_FAIL) {
			dev.point_error = dev.plan.error;
			dev.dies_after = dev.plan.kind == PLAN_FAIL_POINT_AND_DIE;
		} else {
			if (dev.plan.error == -EAGAIN)
				raise_fd(dev.event_fd);
			return dev.plan.error;
		}
	}
	return dev.is_dead ? -ENODEV : 0;
}

/* ---- Life ------------------------------------------------------------------------------------- */

static int fake_enumerate(unsigned int i, struct svm_device_info *ret_info)
{
	if (i > 0)
		return -ENOENT;
	*ret_info = (struct svm_device_info){ .size = sizeof(*ret_info),
					      .name = "fake",
					      .backend = "fake",
					      .caps = fake.caps,
					      .memory_size = fake.n_chunks * BLOCK,
					      .va_start = fake.va_start,
					      .va_end = fake.va_end,
					      .n_engines = 1 };
	return 0;
}

static unsigned int complete_locked(unsigned int n);

static void *work_on(void *arg)
{
	pthread_mutex_lock(&dev.lock);
	while (!dev.closing) {
		if (fake.pace == FAKE_ON_COMMAND || complete_locked(1) == 0)
			pthread_cond_wait(&dev.changed, &dev.lock);
	}
	pthread_mutex_unlock(&dev.lock);
	return arg;
}

static int fake_open(const struct svm_backend_open *args, void **ret_dev)
{
	int r;

	pthread_mutex_lock(&dev.lock);
	r = enter(FAKE_OPEN);
	if (r == 0 && (dev.is_open || args->window_size / PAGE > MAX_PAGES ||
		       fake.n_chunks > FAKE_MAX_CHUNKS))
		r = -ENOSPC;
	if (r < 0)
		goto unlock;
	dev.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	dev.fault_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	dev.memory = mmap(NULL, FAKE_MAX_CHUNKS * BLOCK, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (dev.event_fd < 0 || dev.fault_fd < 0 || dev.memory == MAP_FAILED) {
		r = -ENOMEM;
		goto unlock;
	}
	dev.window_base = args->window_base;
	dev.window_size = args->window_size;
	dev.is_open = true;
	dev.closing = false;
	if (fake.pace == FAKE_BY_THREAD) {
		dev.has_thread = pthread_create(&dev.thread, NULL, work_on, NULL) == 0;
		if (!dev.has_thread)
			wrong("no thread: the test cannot work");
	}
	*ret_dev = &dev;
unlock:
	pthread_mutex_unlock(&dev.lock);
	return r;
}

static void fake_close(void *device)
{
	pthread_mutex_lock(&dev.lock);
	if (device != &dev || !dev.is_open)
		wrong("close of what is not open");
	dev.closing = true;
	pthread_cond_broadcast(&dev.changed);
	pthread_mutex_unlock(&dev.lock);
	if (dev.has_thread)
		pthread_join(dev.thread, NULL);
	pthread_mutex_lock(&dev.lock);
	for (unsigned int i = 0; i < FAKE_MAX_CHUNKS; i++)
		if (dev.chunk_used[i])
			wrong("close with a chunk in use");
	dev.has_thread = false;
	dev.is_open = false;
	dev.is_dead = false;
	close(dev.event_fd);
	close(dev.fault_fd);
	dev.event_fd = -1;
	dev.fault_fd = -1;
	munmap(dev.memory, FAKE_MAX_CHUNKS * BLOCK);
	memset(dev.ptes, 0, sizeof(dev.ptes));
	memset(dev.chunk_used, 0, sizeof(dev.chunk_used));
	memset(dev.queues, 0, sizeof(dev.queues));
	pthread_mutex_unlock(&dev.lock);
}

static void fake_caps(void *device, struct svm_backend_caps *ret_caps)
{
	(void)device;
	*ret_caps = (struct svm_backend_caps){
		.caps = fake.caps,
		.n_engines = 1,
		.va_start = fake.va_start,
		.va_end = fake.va_end,
		.memory_size = fake.memory_size ? fake.memory_size : fake.n_chunks * BLOCK,
	};
}

static void fake_kill(void *device)
{
	(void)device;
	pthread_mutex_lock(&dev.lock);
	die();
	raise_fd(dev.event_fd);
	pthread_mutex_unlock(&dev.lock);
}

static int fake_memory_kept(void *device)
{
	(void)device;
	return fake.keep;
}

/* ---- Chunks ----------------------------------------------------------------------------------- */

static char *chunk_at(uint64_t handle)
{
	uint64_t i = handle - HANDLE(0);

	if (i >= FAKE_MAX_CHUNKS || !dev.chunk_used[i]) {
		wrong("no such chunk");
		return dev.memory;
	}
	return dev.memory + i * BLOCK;
}

static int fake_chunk_alloc(void *device, uint64_t *ret_chunk)
{
	unsigned int i = 0;
	int r;

	(void)device;
	pthread_mutex_lock(&dev.lock);
	r = enter(FAKE_CHUNK_ALLOC);
	while (i < fake.n_chunks && dev.chunk_used[i])
		i++;
	if (r == 0 && i == fake.n_chunks)
		r = -ENOSPC;
	if (r == 0) {
		dev.chunk_used[i] = true;
		/* Content is undefined: not what was there, and not zeros. */
		memset(dev.memory + i * BLOCK, 0x5a, BLOCK);
		*ret_chunk = HANDLE(i);
	}
	pthread_mutex_unlock(&dev.lock);
	return r;
}

static bool is_in(const char *at, const char *chunk)
{
	return at >= chunk && at < chunk + BLOCK;
}

static void check_unused(uint64_t handle, const char *chunk)
{
	const struct queue *copies = &dev.queues[SVM_TIMELINE_COPY];

	for (unsigned int i = 0; i < MAX_PAGES; i++) {
		if (is_in(dev.ptes[i].at, chunk)) {
			wrong("a chunk is freed while the device maps it");
			break;
		}
	}
	for (unsigned int i = copies->head; i != copies->tail; i++) {
		const struct svm_copy *copy = &copies->commands[i % MAX_COMMANDS].copy;

		if ((copy->dst.peer_dev && copy->dst.chunk == handle) ||
		    (copy->src.peer_dev && copy->src.chunk == handle)) {
			wrong("a chunk is freed while it is copied");
			break;
		}
	}
}

static void fake_chunk_free(void *device, uint64_t handle)
{
	char *chunk;

	(void)device;
	pthread_mutex_lock(&dev.lock);
	chunk = chunk_at(handle);
	check_unused(handle, chunk);
	dev.chunk_used[(chunk - dev.memory) / (long)BLOCK] = false;
	pthread_mutex_unlock(&dev.lock);
}

static int fake_chunk_map(void *device, uint64_t handle, void **ret_addr)
{
	int r;

	(void)device;
	pthread_mutex_lock(&dev.lock);
	r = enter(FAKE_CHUNK_MAP);
	if (r == -ENODEV && dev.is_dead && (fake.keep || fake.corpse))
		r = 0;
	if (!(fake.caps & SVM_CAP_CPU_VISIBLE))
		r = -EOPNOTSUPP;
	if (r == 0)
		*ret_addr = chunk_at(handle);
	pthread_mutex_unlock(&dev.lock);
	return r;
}

/* ---- Work ------------------------------------------------------------------------------------- */

static void do_bind(const struct svm_bind *bind, bool fails)
{
	uint64_t first = (bind->addr - dev.window_base) / PAGE;

	for (uint64_t i = 0; i < bind->size / PAGE; i++) {
		struct pte *pte = &dev.ptes[first + i];

		pte->write = (bind->flags & SVM_BIND_WRITE) != 0;
		if ((bind->flags & SVM_BIND_UNBIND) || fails)
			pte->at = NULL;
		else if (bind->flags & SVM_BIND_HOST)
			pte->at = (char *)bind->host_alias + i * PAGE;
		else
			pte->at = chunk_at(bind->chunk) + bind->offset + i * PAGE;
	}
}

static char *end_at(const struct svm_copy_end *end)
{
	return end->host ? end->host : chunk_at(end->chunk) + end->offset;
}

static void do_copy(const struct svm_copy *copy)
{
	if (!copy->src.host && !copy->src.peer_dev)
		memset(end_at(&copy->dst), 0, copy->size);
	else
		memcpy(end_at(&copy->dst), end_at(&copy->src), copy->size);
}

static bool is_native_only;

/* An address as the device's page tables have it; for what a native device reaches, as the process has. */
static char *translate(uint64_t addr, bool write)
{
	uint64_t i = (addr - dev.window_base) / PAGE;
	const struct pte *pte = &dev.ptes[i % MAX_PAGES];

	if (is_native_only ||
	    ((fake.caps & SVM_CAP_NATIVE) && addr - dev.window_base >= dev.window_size))
		return (char *)(uintptr_t)addr;
	if (i >= MAX_PAGES || !pte->at || (write && !pte->write))
		return NULL;
	return pte->at + addr % PAGE;
}

static void work_misses(uint64_t addr, bool write)
{
	struct fault *fault = &dev.faults[WORK_FAULT];

	if (!(fake.caps & SVM_CAP_FAULTS)) {
		die();
		return;
	}
	if (fault->state != FAULT_FREE)
		return;
	*fault = (struct fault){ .state = FAULT_NEW,
				 .addr = addr,
				 .access = write ? SVM_ACCESS_WRITE : SVM_ACCESS_READ };
	raise_fd(dev.fault_fd);
}

/* False: it waits for a page, and is done once more when that is there. */
static bool do_work(const struct svm_work *work)
{
	for (uint64_t i = 0; i < work->size; i++) {
		char *dst = translate(work->dst + i, true);
		const char *src = work->is_fill ? NULL : translate(work->src + i, false);

		if (!dst || (!work->is_fill && !src)) {
			work_misses(dst ? work->src + i : work->dst + i, !dst);
			return false;
		}
		*dst = work->is_fill ? (char)work->value : *src;
	}
	return true;
}

/* One call of one timeline. */
static bool complete_one(enum svm_timeline timeline)
{
	struct queue *queue = &dev.queues[timeline];
	uint64_t value = 0;

	while (value == 0) {
		const struct command *command = &queue->commands[queue->head % MAX_COMMANDS];

		if (queue->head == queue->tail)
			return false;
		if (timeline == SVM_TIMELINE_BIND)
			do_bind(&command->bind, command->fails);
		else if (command->fails)
			(void)command; /* nothing of it is done */
		else if (timeline == SVM_TIMELINE_COPY)
			do_copy(&command->copy);
		else if (!do_work(&command->work))
			return false;
		value = command->value;
		queue->head++;
	}
	queue->completed = value;
	raise_fd(dev.event_fd);
	pthread_cond_broadcast(&dev.changed);
	return true;
}

static unsigned int complete_locked(unsigned int n)
{
	unsigned int n_done = 0;
	bool any = true;

	while (any && n_done < n) {
		any = false;
		for (unsigned int t = 0; t < SVM_TIMELINES && n_done < n; t++) {
			if (!complete_one((enum svm_timeline)t))
				continue;
			any = true;
			n_done++;
		}
	}
	return n_done;
}

/* The end of a submission: entries from head on make one call. */
static int submit(enum svm_timeline timeline, struct svm_point *ret_point)
{
	struct queue *queue = &dev.queues[timeline];

	queue->commands[(queue->tail - 1u) % MAX_COMMANDS].value = ++queue->submitted;
	if (dev.point_error) {
		queue->failed = queue->submitted;
		queue->error = dev.point_error;
		dev.point_error = 0;
	}
	*ret_point = (struct svm_point){ .timeline = timeline, .value = queue->submitted };
	if (fake.pace == FAKE_AT_ONCE || dev.dies_after)
		complete_locked(~0u);
	if (dev.dies_after)
		die();
	dev.dies_after = false;
	pthread_cond_broadcast(&dev.changed);
	return 0;
}

static struct command *add(enum svm_timeline timeline)
{
	struct queue *queue = &dev.queues[timeline];
	struct command *command = &queue->commands[queue->tail % MAX_COMMANDS];

	if (queue->tail - queue->head == MAX_COMMANDS)
		wrong("more than the fake can hold: the test cannot work");
	queue->tail++;
	command->value = 0;
	command->fails = dev.point_error != 0;
	return command;
}

static int enter_queue(enum fake_op op, enum svm_timeline timeline)
{
	const struct queue *queue = &dev.queues[timeline];
	int r = enter(op);

	/* The event comes with the completion that makes room. */
	if (r == 0 && fake.queue && queue->submitted - queue->completed >= fake.queue)
		r = -EAGAIN;
	return r;
}

static void check_bind(const struct svm_bind *bind)
{
	if (bind->size == 0 || (bind->addr | bind->size | bind->offset) % PAGE)
		wrong("a bind that is not in pages");
	if (bind->addr / BLOCK != (bind->addr + bind->size - 1u) / BLOCK)
		wrong("a bind that leaves its block");
	if (bind->addr - dev.window_base >= dev.window_size)
		wrong("a bind outside the window");
	if (bind->flags & SVM_BIND_UNBIND) {
		if (bind->flags != SVM_BIND_UNBIND)
			wrong("an unbind with other flags");
		return;
	}
	if (!(bind->flags & SVM_BIND_WRITE) && !(fake.caps & SVM_CAP_READ_ONLY))
		wrong("a read-only bind");
	if (bind->flags & SVM_BIND_HOST) {
		if (!(fake.caps & SVM_CAP_HOST_ALIAS) || !bind->host_alias ||
		    bind->offset != bind->addr - dev.window_base)
			wrong("a bind of host memory that cannot be");
	} else if (bind->offset + bind->size > BLOCK) {
		wrong("a bind that leaves its chunk");
	} else {
		(void)chunk_at(bind->chunk);
	}
}

static int fake_bind(void *device, const struct svm_bind *binds, size_t n_binds,
		     struct svm_point *ret_point)
{
	int r;

	(void)device;
	pthread_mutex_lock(&dev.lock);
	if (n_binds == 0 || n_binds > SVM_BIND_BATCH)
		wrong("a bind of too many or none");
	for (size_t i = 0; i < n_binds; i++)
		check_bind(&binds[i]);
	r = enter_queue(FAKE_BIND, SVM_TIMELINE_BIND);
	if (r == 0) {
		for (size_t i = 0; i < n_binds; i++)
			add(SVM_TIMELINE_BIND)->bind = binds[i];
		r = submit(SVM_TIMELINE_BIND, ret_point);
	}
	pthread_mutex_unlock(&dev.lock);
	return r;
}

static void check_end(const struct svm_copy_end *end, uint64_t size)
{
	if (end->host)
		return;
	if (end->peer_dev != &dev || end->offset + size > BLOCK)
		wrong("a copy outside a chunk");
	else
		(void)chunk_at(end->chunk);
}

static int fake_copy(void *device, const struct svm_copy *copies, size_t n_copies, uint32_t flags,
		     struct svm_point *ret_point)
{
	int r;

	(void)device;
	pthread_mutex_lock(&dev.lock);
	if (n_copies == 0 || n_copies > SVM_COPY_BATCH || (flags & ~SVM_COPY_URGENT))
		wrong("a copy of too many or none, or its flags");
	for (size_t i = 0; i < n_copies; i++) {
		check_end(&copies[i].dst, copies[i].size);
		if (copies[i].src.host || copies[i].src.peer_dev)
			check_end(&copies[i].src, copies[i].size);
	}
	r = enter_queue(FAKE_COPY, SVM_TIMELINE_COPY);
	if (r == 0) {
		for (size_t i = 0; i < n_copies; i++)
			add(SVM_TIMELINE_COPY)->copy = copies[i];
		r = submit(SVM_TIMELINE_COPY, ret_point);
	}
	pthread_mutex_unlock(&dev.lock);
	return r;
}

static int fake_work(void *device, const struct svm_work *work, struct svm_point *ret_point)
{
	int r;

	(void)device;
	pthread_mutex_lock(&dev.lock);
	r = enter_queue(FAKE_WORK, SVM_TIMELINE_WORK);
	if (r == 0) {
		add(SVM_TIMELINE_WORK)->work = *work;
		r = submit(SVM_TIMELINE_WORK, ret_point);
	}
	pthread_mutex_unlock(&dev.lock);
	return r;
}

/* ---- News ------------------------------------------------------------------------------------- */

static int fake_event_fd(void *device)
{
	(void)device;
	return dev.event_fd;
}

static void fake_event_ack(void *device)
{
	(void)device;
	pthread_mutex_lock(&dev.lock);
	/* A dead device's fd stays readable. */
	if (!dev.is_dead)
		clear_fd(dev.event_fd);
	pthread_mutex_unlock(&dev.lock);
}

static int fake_completed(void *device, enum svm_timeline timeline, uint64_t *ret_value)
{
	struct queue *queue = &dev.queues[timeline];
	int r = 0;

	(void)device;
	pthread_mutex_lock(&dev.lock);
	if (!dev.is_open)
		wrong("completed() of a device that is not open");
	*ret_value = queue->completed;
	if (queue->error && queue->failed <= queue->completed) {
		*ret_value = queue->failed;
		r = queue->error;
		queue->error = 0;
		/* There is more to tell. */
		raise_fd(dev.event_fd);
	} else if (dev.is_dead) {
		r = -ENODEV;
	}
	pthread_mutex_unlock(&dev.lock);
	return r;
}

/* ---- Faults ----------------------------------------------------------------------------------- */

static int fake_fault_fd(void *device)
{
	(void)device;
	return dev.fault_fd;
}

static int fake_fault_read(void *device, struct svm_device_fault *faults, size_t n_faults)
{
	unsigned int n = 0;
	int r;

	(void)device;
	pthread_mutex_lock(&dev.lock);
	r = enter(FAKE_FAULT_READ);
	if (r == 0)
		clear_fd(dev.fault_fd);
	for (unsigned int i = 0; i < MAX_FAULTS && r == 0; i++) {
		if (dev.faults[i].state != FAULT_NEW)
			continue;
		if (n == n_faults) {
			raise_fd(dev.fault_fd);
			break;
		}
		dev.faults[i].state = FAULT_READ;
		faults[n++] = (struct svm_device_fault){ .addr = dev.faults[i].addr / PAGE * PAGE,
							 .access = dev.faults[i].access,
							 .cookie = i };
	}
	pthread_mutex_unlock(&dev.lock);
	return r < 0 ? r : (int)n;
}

/* The work goes on, or dies with the device. */
static void work_fault_done(int status)
{
	dev.faults[WORK_FAULT].state = FAULT_FREE;
	if (status < 0)
		die();
	else if (fake.pace == FAKE_AT_ONCE)
		complete_locked(~0u);
}

static int fake_fault_done(void *device, const struct svm_device_fault *fault, int status)
{
	int r;

	(void)device;
	pthread_mutex_lock(&dev.lock);
	r = enter(FAKE_FAULT_DONE);
	if (fault->cookie >= MAX_FAULTS ||
	    (!dev.is_dead && dev.faults[fault->cookie].state != FAULT_READ)) {
		wrong("an answer to no fault");
	} else if (r == 0) {
		dev.faults[fault->cookie].state = FAULT_ANSWERED;
		dev.faults[fault->cookie].status = status;
		if (fault->cookie == WORK_FAULT)
			work_fault_done(status);
		pthread_cond_broadcast(&dev.changed);
	}
	pthread_mutex_unlock(&dev.lock);
	return r;
}

static int miss(uint64_t addr, bool write)
{
	struct fault *fault = NULL;
	int status;

	if (!(fake.caps & SVM_CAP_FAULTS)) {
		die();
		return -EFAULT;
	}
	for (unsigned int i = 0; i < WORK_FAULT && !fault; i++)
		if (dev.faults[i].state == FAULT_FREE)
			fault = &dev.faults[i];
	if (!fault)
		return -EMFILE;
	*fault = (struct fault){ .state = FAULT_NEW,
				 .addr = addr,
				 .access = write ? SVM_ACCESS_WRITE : SVM_ACCESS_READ };
	raise_fd(dev.fault_fd);
	while (fault->state != FAULT_ANSWERED)
		pthread_cond_wait(&dev.changed, &dev.lock);
	status = fault->status;
	fault->state = FAULT_FREE;
	return status;
}

static int access_word(uint64_t addr, bool write, uint64_t *value)
{
	uint64_t *word = NULL;
	int r = 0;

	pthread_mutex_lock(&dev.lock);
	while (!word && r == 0) {
		if (dev.is_dead)
			r = -ENODEV;
		else if (!(word = (uint64_t *)(void *)translate(addr, write)))
			r = miss(addr, write);
	}
	if (word && write)
		*word = *value;
	else if (word)
		*value = *word;
	pthread_mutex_unlock(&dev.lock);
	return r;
}

int fake_read(uint64_t addr, uint64_t *ret_value)
{
	return access_word(addr, false, ret_value);
}

int fake_write(uint64_t addr, uint64_t value)
{
	return access_word(addr, true, &value);
}

/* ---- System memory ---------------------------------------------------------------------------- */

static unsigned int find_own(uint64_t addr)
{
	unsigned int i = 0;

	while (i < dev.n_own && dev.own[i] != addr)
		i++;
	return i;
}

static void check_system(uint64_t addr, uint64_t size)
{
	if (size == 0 || (addr | size) % PAGE)
		wrong("system memory that is not in pages");
	if (addr < dev.window_base + dev.window_size && dev.window_base < addr + size)
		wrong("the window as system memory");
	if (!(fake.caps & SVM_CAP_NATIVE))
		wrong("a native op of a device that is not native");
}

static int fake_native_advise(void *device, uint64_t addr, uint64_t size,
			      const struct svm_native_hints *hints, struct svm_outcome *ret_outcome)
{
	int r;

	(void)device;
	pthread_mutex_lock(&dev.lock);
	check_system(addr, size);
	r = enter(FAKE_NATIVE_ADVISE);
	if (dev.n_advice < FAKE_MAX_ADVICE)
		dev.advice[dev.n_advice++] = (struct fake_advice){ addr, size, *hints };
	if (r == 0)
		*ret_outcome = dev.answer;
	pthread_mutex_unlock(&dev.lock);
	return r;
}

static int fake_native_prefetch(void *device, uint64_t addr, uint64_t size,
				enum svm_native_place to)
{
	int r;

	(void)device;
	pthread_mutex_lock(&dev.lock);
	check_system(addr, size);
	if (size / PAGE > SVM_NATIVE_BATCH_PAGES || (to != SVM_NATIVE_OWN && to != SVM_NATIVE_HOST))
		wrong("a prefetch of too much, or to nowhere");
	r = enter(FAKE_NATIVE_PREFETCH);
	for (uint64_t a = addr; a < addr + size && r == 0; a += PAGE) {
		unsigned int i = find_own(a);

		if (to == SVM_NATIVE_HOST && i < dev.n_own)
			dev.own[i] = dev.own[--dev.n_own];
		else if (to == SVM_NATIVE_OWN && i == dev.n_own && i < MAX_OWN &&
			 (a < dev.stuck || a >= dev.stuck_end))
			dev.own[dev.n_own++] = a;
	}
	pthread_mutex_unlock(&dev.lock);
	return r;
}

static int fake_native_query(void *device, uint64_t addr, size_t n_pages, uint8_t *ret_pages)
{
	int r;

	(void)device;
	pthread_mutex_lock(&dev.lock);
	check_system(addr, n_pages * PAGE);
	r = enter(FAKE_NATIVE_QUERY);
	for (size_t i = 0; i < n_pages && r == 0; i++)
		ret_pages[i] = find_own(addr + i * PAGE) < dev.n_own
				       ? SVM_NATIVE_PAGE_OWN | SVM_NATIVE_PAGE_MAPPED
				       : 0;
	pthread_mutex_unlock(&dev.lock);
	return r;
}

unsigned int fake_n_advice(void)
{
	unsigned int n;

	pthread_mutex_lock(&dev.lock);
	n = dev.n_advice;
	pthread_mutex_unlock(&dev.lock);
	return n;
}

struct fake_advice fake_advice(unsigned int i)
{
	struct fake_advice advice;

	pthread_mutex_lock(&dev.lock);
	advice = dev.advice[i % FAKE_MAX_ADVICE];
	pthread_mutex_unlock(&dev.lock);
	return advice;
}

void fake_answer_advice(struct svm_outcome outcome)
{
	pthread_mutex_lock(&dev.lock);
	dev.answer = outcome;
	pthread_mutex_unlock(&dev.lock);
}

void fake_stick(uint64_t addr, uint64_t size)
{
	pthread_mutex_lock(&dev.lock);
	dev.stuck = addr;
	dev.stuck_end = addr + size;
	pthread_mutex_unlock(&dev.lock);
}

/* ---- Command ---------------------------------------------------------------------------------- */

const struct svm_backend_ops fake_backend = {
	.abi = SVM_BACKEND_ABI,
	.size = sizeof(struct svm_backend_ops),
	.name = "fake",
	.enumerate = fake_enumerate,
	.open = fake_open,
	.close = fake_close,
	.caps = fake_caps,
	.chunk_alloc = fake_chunk_alloc,
	.chunk_free = fake_chunk_free,
	.chunk_map = fake_chunk_map,
	.bind = fake_bind,
	.copy = fake_copy,
	.work = fake_work,
	.event_fd = fake_event_fd,
	.event_ack = fake_event_ack,
	.completed = fake_completed,
	.fault_fd = fake_fault_fd,
	.fault_read = fake_fault_read,
	.fault_done = fake_fault_done,
	.kill = fake_kill,
	.memory_kept = fake_memory_kept,
	.native_advise = fake_native_advise,
	.native_prefetch = fake_native_prefetch,
	.native_query = fake_native_query,
};

static int fake_native_open(const struct svm_backend_open *args, void **ret_dev)
{
	is_native_only = true;
	return fake_open(args, ret_dev);
}

const struct svm_backend_ops fake_native_backend = {
	.abi = SVM_BACKEND_ABI,
	.size = sizeof(struct svm_backend_ops),
	.name = "fake-native",
	.enumerate = fake_enumerate,
	.open = fake_native_open,
	.close = fake_close,
	.caps = fake_caps,
	.work = fake_work,
	.event_fd = fake_event_fd,
	.event_ack = fake_event_ack,
	.completed = fake_completed,
	.kill = fake_kill,
	.native_advise = fake_native_advise,
	.native_prefetch = fake_native_prefetch,
	.native_query = fake_native_query,
};

static const struct svm_backend_ops *const *own_backends;

void fake_reset(void)
{
	static const struct svm_backend_ops *const list[] = { &fake_backend, &fake_native_backend,
							      NULL };

	if (!own_backends)
		own_backends = svm_backends;
	svm_backends = list;
	fake = (struct fake_config){ .caps = FAKE_CAPS_ALL,
				     .n_chunks = 2,
				     .va_end = UINT64_C(1) << 47 };
	pthread_mutex_lock(&dev.lock);
	memset(dev.calls, 0, sizeof(dev.calls));
	memset(dev.faults, 0, sizeof(dev.faults));
	dev.plan.first = 0;
	dev.n_wrong = 0;
	dev.n_own = 0;
	dev.n_advice = 0;
	dev.stuck = dev.stuck_end = 0;
	dev.answer = (struct svm_outcome){ 0 };
	is_native_only = false;
	pthread_mutex_unlock(&dev.lock);
}

void fake_unplug(void)
{
	if (own_backends)
		svm_backends = own_backends;
}

static void make_plan(enum fake_op op, unsigned int nth, int error, unsigned int n_times,
		      enum plan_kind kind)
{
	pthread_mutex_lock(&dev.lock);
	dev.plan.op = op;
	dev.plan.first = nth ? dev.calls[op] + nth : 0;
	dev.plan.error = error;
	dev.plan.n_times = n_times;
	dev.plan.kind = kind;
	pthread_mutex_unlock(&dev.lock);
}

void fake_fail(enum fake_op op, unsigned int nth, int error, unsigned int n_times)
{
	make_plan(op, nth, error, n_times, PLAN_FAIL);
}

void fake_fail_point(enum fake_op op, unsigned int nth, int error)
{
	make_plan(op, nth, error, 1, PLAN_FAIL_POINT);
}

void fake_fail_point_and_die(enum fake_op op, unsigned int nth, int error)
{
	make_plan(op, nth, error, 1, PLAN_FAIL_POINT_AND_DIE);
}

void fake_die_at(enum fake_op op, unsigned int nth)
{
	make_plan(op, nth, 0, 1, PLAN_DIE);
}

void fake_heal(void)
{
	make_plan(FAKE_OPEN, 0, 0, 0, PLAN_FAIL);
}

unsigned int fake_calls(enum fake_op op)
{
	unsigned int n;

	pthread_mutex_lock(&dev.lock);
	n = dev.calls[op];
	pthread_mutex_unlock(&dev.lock);
	return n;
}

void fake_await_calls(enum fake_op op, unsigned int n)
{
	pthread_mutex_lock(&dev.lock);
	while (dev.calls[op] < n)
		pthread_cond_wait(&dev.changed, &dev.lock);
	pthread_mutex_unlock(&dev.lock);
}

unsigned int fake_complete(unsigned int n)
{
	pthread_mutex_lock(&dev.lock);
	n = complete_locked(n);
	pthread_mutex_unlock(&dev.lock);
	return n;
}

void fake_die(void)
{
	pthread_mutex_lock(&dev.lock);
	die();
	pthread_mutex_unlock(&dev.lock);
}

void fake_tell_of_no_fault(void)
{
	pthread_mutex_lock(&dev.lock);
	raise_fd(dev.fault_fd);
	pthread_mutex_unlock(&dev.lock);
}

unsigned int fake_n_open(void)
{
	return dev.is_open;
}

unsigned int fake_n_chunks(void)
{
	unsigned int n = 0;

	pthread_mutex_lock(&dev.lock);
	for (unsigned int i = 0; i < FAKE_MAX_CHUNKS; i++)
		n += dev.chunk_used[i];
	pthread_mutex_unlock(&dev.lock);
	return n;
}

unsigned int fake_n_mapped(void)
{
	unsigned int n = 0;

	pthread_mutex_lock(&dev.lock);
	for (unsigned int i = 0; i < MAX_PAGES; i++)
		n += dev.ptes[i].at != NULL;
	pthread_mutex_unlock(&dev.lock);
	return n;
}

unsigned int fake_wrong(void)
{
	unsigned int n;

	pthread_mutex_lock(&dev.lock);
	n = dev.n_wrong;
	pthread_mutex_unlock(&dev.lock);
	return n;
}
