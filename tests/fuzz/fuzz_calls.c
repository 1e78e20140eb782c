/* SPDX-License-Identifier: MIT */
#include "fuzz_calls.h"

#include <errno.h>
#include <libsvm/libsvm.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE	   ((uint64_t)SVM_PAGE_SIZE)
#define BLOCK	   ((uint64_t)SVM_BLOCK_SIZE)
#define N_SPANS	   4u
#define N_DEVICES  3u
#define N_FENCES   3u
#define N_ACCESSES 3u
#define CALLS_MAX  200u
#define WINDOW	   (64u * BLOCK)
/* A wait never lasts longer: nobody may signal what a sequence waits for. */
#define WAIT_NS INT64_C(2000000)

/* What the sequence has. */
struct span {
	uint8_t *addr; /* NULL: none */
	uint64_t size;
	bool registered;
};

static struct {
	struct svm_space *space;
	struct span spans[N_SPANS];
	struct svm_device *devices[N_DEVICES];
	struct svm_fence *fences[N_FENCES];
	struct svm_access *accesses[N_ACCESSES];
	struct svm_prefetch *prefetch;
} f;

static __thread sigjmp_buf touch_failed;
static __thread volatile sig_atomic_t touching;

static void on_fault(int signal)
{
	if (touching)
		siglongjmp(touch_failed, 1);
	/* Not a touch of the sequence's: the library's own fault. */
	(void)!write(STDERR_FILENO, "fuzz: a fault outside of a touch\n", 33);
	(void)raise(signal);
	abort();
}

void fuzz_start(void)
{
	const struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };

	if (sigaction(SIGBUS, &action, NULL) || sigaction(SIGSEGV, &action, NULL))
		abort();
}

uint64_t fuzz_take(struct fuzz_input *input, unsigned int bytes)
{
	uint64_t value = 0;

	while (bytes-- > 0 && input->size > 0) {
		value = value << 8 | *input->data++;
		input->size--;
	}
	return value;
}

bool fuzz_ended(const struct fuzz_input *input)
{
	return input->size == 0;
}

static unsigned int pick(struct fuzz_input *in, unsigned int n)
{
	return (unsigned int)(fuzz_take(in, 1) % n);
}

/* Mostly part of a span, sometimes anything. */
static void *some_addr(struct fuzz_input *in, uint64_t *ret_size)
{
	unsigned int how = pick(in, 16);
	const struct span *span = &f.spans[how % N_SPANS];
	uint64_t offset;

	if (how == 15 || !span->addr) {
		*ret_size = fuzz_take(in, 8);
		return (void *)(uintptr_t)fuzz_take(in, 8);
	}
	if (how == 14) {
		/* About the edges of a span. */
		*ret_size = fuzz_take(in, 3);
		return span->addr + (int64_t)(int16_t)fuzz_take(in, 2);
	}
	offset = fuzz_take(in, 3) % span->size;
	*ret_size = 1u + fuzz_take(in, 3) % (span->size - offset);
	return span->addr + offset;
}

static struct svm_location some_location(struct fuzz_input *in)
{
	struct svm_location location = { .kind = pick(in, 6) };

	if (location.kind == SVM_LOCATION_DEVICE || pick(in, 16) == 0)
		location.id = pick(in, N_DEVICES + 1u);
	return location;
}

static struct svm_device *some_device(struct fuzz_input *in)
{
	return f.devices[pick(in, N_DEVICES)];
}

static void keep_fence(struct fuzz_input *in, struct svm_fence *fence)
{
	unsigned int i = pick(in, N_FENCES);

	svm_fence_unref(f.fences[i]);
	f.fences[i] = fence;
}

/* ---- Calls ------------------------------------------------------------------------------------ */

static void call_alloc(struct fuzz_input *in)
{
	struct span *span = &f.spans[pick(in, N_SPANS)];
	uint64_t size = pick(in, 8) ? 1u + fuzz_take(in, 3) % (4u * BLOCK) : fuzz_take(in, 8);
	void *addr = NULL;

	if (span->addr)
		return;
	if (svm_alloc(f.space, size, (uint32_t)pick(in, 3), &addr) == 0)
		*span = (struct span){ .addr = addr, .size = size };
}

static void call_free(struct fuzz_input *in)
{
	struct span *span = &f.spans[pick(in, N_SPANS)];
	uint64_t size;

	if (pick(in, 8) == 0) {
		void *addr = some_addr(in, &size);
		bool ours = false;

		/* Freeing what a span starts at is known here. */
		for (unsigned int i = 0; i < N_SPANS; i++)
			ours |= f.spans[i].addr == addr;
		if (!ours)
			(void)svm_free(f.space, addr);
		return;
	}
	if (!span->addr || span->registered)
		return;
	if (svm_free(f.space, span->addr) == 0)
		*span = (struct span){ 0 };
}

static void call_register(struct fuzz_input *in)
{
	struct span *span = &f.spans[pick(in, N_SPANS)];
	uint64_t size = (1u + pick(in, 64)) * PAGE;
	void *addr;

	if (span->addr) {
		if (span->registered && svm_unregister(f.space, span->addr, span->size) == 0) {
			(void)munmap(span->addr, span->size);
			*span = (struct span){ 0 };
		}
		return;
	}
	addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (addr == MAP_FAILED)
		return;
	if (svm_register(f.space, addr, size, pick(in, 8) == 0) == 0)
		*span = (struct span){ .addr = addr, .size = size, .registered = true };
	else
		(void)munmap(addr, size);
}

/* A few bytes by the CPU, where the memory is ours. */
static void call_touch(struct fuzz_input *in)
{
	const struct span *span = &f.spans[pick(in, N_SPANS)];
	bool write = pick(in, 2);
	uint64_t offset = fuzz_take(in, 3);

	if (!span->addr)
		return;
	/* What an acquire holds would wait for its release, which nobody but this thread would do. */
	for (unsigned int i = 0; i < N_ACCESSES; i++)
		if (f.accesses[i])
			return;
	if (sigsetjmp(touch_failed, 1) == 0) {
		volatile uint8_t *byte = span->addr + offset % span->size;

		touching = 1;
		if (write)
			*byte = (uint8_t)offset;
		else
			(void)*byte;
	}
	touching = 0;
}

static void call_open(struct fuzz_input *in, const struct fuzz_devices *devices)
{
	unsigned int i = pick(in, N_DEVICES);

	if (f.devices[i])
		return;
	(void)svm_device_open(f.space, devices->names[pick(in, devices->n_names)], &f.devices[i]);
}

static void call_close(struct fuzz_input *in)
{
	unsigned int i = pick(in, N_DEVICES);

	if (f.devices[i] && svm_device_close(f.devices[i]) == 0)
		f.devices[i] = NULL;
}

static void call_acquire(struct fuzz_input *in)
{
	struct svm_device *device = some_device(in);
	unsigned int i = pick(in, N_ACCESSES);
	struct svm_access_range ranges[3] = { 0 };
	unsigned int n = pick(in, 4);
	struct svm_fence *ready = NULL;
	bool with_fence = pick(in, 2);

	if (!device || f.accesses[i])
		return;
	for (unsigned int r = 0; r < n; r++) {
		ranges[r].addr = some_addr(in, &ranges[r].size);
		ranges[r].access = pick(in, 5);
	}
	if (svm_acquire(device, ranges, n, SVM_ACQUIRE_TRY | (pick(in, 16) == 0 ? 2u : 0u),
			&f.accesses[i], with_fence ? &ready : NULL) == 0 &&
	    with_fence) {
		(void)svm_fence_wait(ready, WAIT_NS);
		keep_fence(in, ready);
	}
}

static void call_release(struct fuzz_input *in)
{
	unsigned int i = pick(in, N_ACCESSES);

	/* Not with a fence of the sequence's: it might never signal. */
	if (f.accesses[i] && svm_release(f.accesses[i], NULL) == 0)
		f.accesses[i] = NULL;
}

static void call_work(struct fuzz_input *in)
{
	struct svm_device *device = some_device(in);
	struct svm_fence *done = NULL;
	uint64_t size;
	uint64_t other;
	void *dst = some_addr(in, &size);
	void *src = some_addr(in, &other);
	int r;

	if (!device)
		return;
	if (size > BLOCK)
		size %= BLOCK;
	if (pick(in, 2))
		r = svm_device_copy(device, dst, src, size, NULL, &done);
	else
		r = svm_device_fill(device, dst, (uint8_t)size, size, NULL, &done);
	if (r == 0) {
		(void)svm_fence_wait(done, WAIT_NS);
		keep_fence(in, done);
	}
}

static void call_advise(struct fuzz_input *in)
{
	struct svm_advice advice[2] = { 0 };
	struct svm_outcome outcomes[2];
	unsigned int n = pick(in, 3);
	uint64_t size;
	void *addr = some_addr(in, &size);

	for (unsigned int i = 0; i < n; i++) {
		advice[i].kind = pick(in, 9);
		advice[i].device = pick(in, 8) < 6 ? 0 : pick(in, N_DEVICES + 1u);
		advice[i].value = pick(in, 2) ? pick(in, 4) : PAGE << pick(in, 12);
		if (advice[i].kind == SVM_ADVICE_PREFERRED_LOCATION) {
			advice[i].value = 0;
			advice[i].location = some_location(in);
		} else if (advice[i].kind >= SVM_ADVICE_ACCESSED_BY &&
			   advice[i].kind <= SVM_ADVICE_NO_ACCESS) {
			advice[i].value = 0;
			advice[i].device = pick(in, N_DEVICES);
		}
	}
	if (pick(in, 4) == 0)
		(void)svm_unadvise(f.space, addr, size, (uint32_t)fuzz_take(in, 2));
	else
		(void)svm_advise(f.space, addr, size, advice, n, pick(in, 2) ? outcomes : NULL);
}

static void call_query(struct fuzz_input *in)
{
	struct svm_advice_range ranges[4];
	struct svm_page_residency pages[8];
	struct svm_advice_info advice = { .size = sizeof(advice) };
	struct svm_pointer_info pointer = { .size = sizeof(pointer) };
	struct svm_stats stats = { .size = sizeof(stats) };
	size_t n = pick(in, 5);
	size_t record = sizeof(ranges[0]);
	uint64_t generation;
	uint64_t size;
	const void *addr = some_addr(in, &size);

	(void)svm_advice_query(f.space, addr, size, &advice);
	(void)svm_advice_enumerate(f.space, addr, size, pick(in, 4) ? ranges : NULL, &n, &record);
	(void)svm_residency_query(f.space, addr, size, pages, pick(in, 9), &generation);
	(void)svm_pointer_query(f.space, addr, &pointer);
	if (svm_stats_query(f.space, &stats) != 0)
		abort();
}

static void call_prefetch(struct fuzz_input *in)
{
	struct svm_prefetch_range ranges[3] = { 0 };
	struct svm_prefetch_result results[3];
	unsigned int n = pick(in, 4);
	uint64_t done;
	uint64_t total;

	if (f.prefetch) {
		(void)svm_prefetch_progress(f.prefetch, &done, &total);
		if (pick(in, 2))
			(void)svm_prefetch_cancel(f.prefetch);
		(void)svm_prefetch_wait(f.prefetch, WAIT_NS, results, n < 3 ? n : 3);
		if (svm_prefetch_destroy(f.prefetch) == 0)
			f.prefetch = NULL;
		return;
	}
	for (unsigned int i = 0; i < n; i++) {
		ranges[i].addr = some_addr(in, &ranges[i].size);
		ranges[i].to = some_location(in);
	}
	(void)svm_prefetch_start(f.space, ranges, n, NULL, pick(in, 16) == 0, &f.prefetch);
}

static void call_pin(struct fuzz_input *in)
{
	struct svm_location location = some_location(in);
	uint64_t size;
	void *addr = some_addr(in, &size);

	/* Given back at once: a pin would keep memory and space from going. */
	if (svm_pin(f.space, addr, size, location) == 0)
		(void)svm_unpin(f.space, addr, size, location);
	else if (pick(in, 4) == 0)
		(void)svm_unpin(f.space, addr, size, location); /* which is not pinned */
}

static void call_host(struct fuzz_input *in)
{
	uint32_t access = pick(in, 4);
	uint64_t size;
	void *addr = some_addr(in, &size);

	if (pick(in, 4) == 0)
		(void)svm_host_release(f.space, addr, size, access);
	else if (svm_host_acquire(f.space, addr, size, access, SVM_HOST_TRY) == 0)
		(void)svm_host_release(f.space, addr, size, access);
}

static void call_fence(struct fuzz_input *in)
{
	unsigned int i = pick(in, N_FENCES);
	int fd = -1;

	switch (pick(in, 5)) {
	case 0:
		svm_fence_unref(f.fences[i]);
		f.fences[i] = NULL;
		if (svm_fence_create(f.space, &f.fences[i]) != 0)
			f.fences[i] = NULL;
		break;
	case 1:
		if (f.fences[i])
			(void)svm_fence_signal(f.fences[i], pick(in, 2) ? 0 : -EIO);
		break;
	case 2:
		if (f.fences[i])
			(void)svm_fence_wait(f.fences[i], pick(in, 2) ? 0 : WAIT_NS);
		break;
	case 3:
		if (f.fences[i] && svm_fence_export(f.fences[i], &fd) == 0)
			(void)close(fd);
		break;
	default:
		fd = eventfd(pick(in, 2), EFD_CLOEXEC | EFD_NONBLOCK);
		svm_fence_unref(f.fences[i]);
		f.fences[i] = NULL;
		if (fd >= 0 && svm_fence_import(f.space, fd, &f.fences[i]) != 0)
			f.fences[i] = NULL;
		if (fd >= 0)
			(void)close(fd);
		break;
	}
}

static void call_discard(struct fuzz_input *in)
{
	uint64_t size;
	void *addr = some_addr(in, &size);

	(void)svm_discard(f.space, addr, size, pick(in, 3));
}

static void call_kill(struct fuzz_input *in)
{
	struct svm_device *device = some_device(in);

	if (device && pick(in, 4) == 0)
		(void)svm_soft_kill(device);
}

static void call(struct fuzz_input *in, const struct fuzz_devices *devices)
{
	switch (pick(in, 16)) {
	case 0:
		call_alloc(in);
		break;
	case 1:
		call_free(in);
		break;
	case 2:
		call_register(in);
		break;
	case 3:
		call_open(in, devices);
		break;
	case 4:
		call_close(in);
		break;
	case 5:
		call_acquire(in);
		break;
	case 6:
		call_release(in);
		break;
	case 7:
		call_work(in);
		break;
	case 8:
		call_advise(in);
		break;
	case 9:
		call_query(in);
		break;
	case 10:
		call_prefetch(in);
		break;
	case 11:
		call_pin(in);
		break;
	case 12:
		call_host(in);
		break;
	case 13:
		call_fence(in);
		break;
	case 14:
		if (pick(in, 2))
			call_discard(in);
		else
			call_kill(in);
		break;
	default:
		call_touch(in);
		break;
	}
}

/* ---- A sequence ------------------------------------------------------------------------------- */

/* Everything goes, whatever is in flight: with the space, in the end, if something still holds memory. */
static void give_back(void)
{
	if (f.prefetch) {
		(void)svm_prefetch_cancel(f.prefetch);
		(void)svm_prefetch_destroy(f.prefetch);
	}
	for (unsigned int i = 0; i < N_ACCESSES; i++)
		if (f.accesses[i])
			(void)svm_release(f.accesses[i], NULL);
	for (unsigned int i = 0; i < N_FENCES; i++)
		svm_fence_unref(f.fences[i]);
	for (unsigned int i = 0; i < N_DEVICES; i++)
		if (f.devices[i])
			(void)svm_device_close(f.devices[i]);
	for (unsigned int i = 0; i < N_SPANS; i++) {
		struct span *span = &f.spans[i];

		if (span->registered) {
			(void)svm_unregister(f.space, span->addr, span->size);
			(void)munmap(span->addr, span->size);
		} else if (span->addr) {
			(void)svm_free(f.space, span->addr);
		}
	}
}

void fuzz_calls(struct fuzz_input *input, const struct fuzz_devices *devices)
{
	struct svm_space_options options = { .size = sizeof(options), .window_size = WINDOW };
	int r;

	memset(&f, 0, sizeof(f));
	options.flags = (uint32_t)fuzz_take(input, 1) & 0x1fu;
	options.loop = pick(input, 4);
	options.n_threads = pick(input, 4);
	options.op_timeout_ms = 1000;
	r = svm_space_create(&options, &f.space);
	if (r < 0)
		return;
	for (unsigned int n = 0; n < CALLS_MAX && !fuzz_ended(input); n++)
		call(input, devices);
	give_back();
	/* A fence or a hold that is left says EBUSY; there is nothing left. */
	r = svm_space_destroy(f.space);
	if (r < 0) {
		(void)fprintf(stderr, "fuzz: the space is not destroyed: %s\n", strerror(-r));
		abort();
	}
}
