/* SPDX-License-Identifier: MIT */
/*
 * Shown here: a device that dies at any instant costs what only it held, and nothing else. Nothing hangs,
 * no byte is stale: a page has its last bytes, or says that they are lost. Others keep working.
 *
 * Each test runs with the two ways to die (svm_soft_kill() and SIGKILL from outside), with memory that is
 * lost and with memory that survives.
 */
#include "process.h"
#include "fixture.h"
#include <pthread.h>
#include <sys/mman.h>

#define KIB	 UINT64_C(1024)
#define MIB	 (UINT64_C(1) << 20)
#define PAGE	 UINT64_C(4096)
#define LIMIT_NS (INT64_C(60) * 1000 * 1000 * 1000)

enum death {
	DEATH_CALL,
	DEATH_SIGNAL,
	N_DEATHS,
};

struct victim {
	struct svm_device *device;
	int pid_fd;
	bool keeps;
};

static struct victim open_victim(struct svm_fixture *f, const char *name)
{
	struct victim v;
	pid_t known[32];
	size_t n = process_devices(getpid(), known, 32);
	pid_t pid;

	v.device = fixture_open(f, name);
	pid = process_new_device(known, n);
	assert_true(pid > 0);
	v.pid_fd = process_open(pid);
	assert_true(v.pid_fd >= 0);
	v.keeps = strstr(name, "keep=on") != NULL;
	return v;
}

static void strike(struct victim *v, enum death death)
{
	if (death == DEATH_CALL)
		assert_int_equal(svm_soft_kill(v->device), 0);
	else
		assert_int_equal(process_kill(v->pid_fd), 0);
}

/* The process is gone and the library knows: work for it is refused. */
static void assert_dead(struct victim *v)
{
	assert_true(process_ended(v->pid_fd));
	close(v->pid_fd);
}

static void kernel_nothing(const void *args, uint64_t index, uint64_t count)
{
	(void)args;
	(void)index;
	(void)count;
}

/* Waits until the library has noticed: a launch that was under way ends then, a new one is refused. */
static void await_loss(struct victim *v)
{
	struct svm_device_info info = { .size = sizeof(info) };
	int ret;

	do
		ret = svm_soft_launch(v->device, kernel_nothing, NULL, 0, 1, NULL, NULL);
	while (ret == 0);
	assert_int_equal(ret, -ENODEV);
	/* The backend may know a moment earlier than the library. */
	do {
		sched_yield();
		assert_int_equal(svm_device_query(v->device, &info), 0);
	} while (!info.is_lost);
}

/* Each page has the bytes of one of the patterns, whole, or is lost; residency tells the same. Returns how many
 * are lost. */
static uint64_t count_lost(struct svm_fixture *f, uint8_t *data, uint64_t size, uint64_t pattern,
			   uint64_t other)
{
	uint64_t n_lost = 0;

	touch_install();
	for (uint64_t at = 0; at < size; at += PAGE) {
		struct svm_page_residency page;
		uint8_t byte = 0;
		int signal = touch_read(data + at, &byte);
		uint64_t use = pattern;

		page = fixture_page(f, data + at);
		if (signal) {
			assert_int_equal(signal, fixture_loss_signal(f));
			assert_true(page.flags & SVM_PAGE_POISONED);
			assert_int_equal(page.devices, 0);
			assert_false(page.flags & SVM_PAGE_HOST);
			n_lost++;
			continue;
		}
		assert_false(page.flags & SVM_PAGE_POISONED);
		if (*(uint64_t *)(data + at) == fixture_word(other, at / 8))
			use = other;
		for (uint64_t i = 0; i < PAGE; i += 8)
			if (*(uint64_t *)(data + at + i) != fixture_word(use, (at + i) / 8)) {
				touch_remove();
				fail_msg("page %llu: stale, torn or foreign bytes",
					 (unsigned long long)(at / PAGE));
			}
	}
	touch_remove();
	return n_lost;
}

/* Discard gives lost pages back, and they work as new ones. */
static void assert_usable_after_discard(struct svm_fixture *f, struct svm_device *other,
					uint8_t *data, uint64_t size)
{
	assert_int_equal(svm_discard(f->space, data, size, 0), 0);
	fixture_check_zero(data, size);
	fixture_fill(data, size, 77);
	fixture_check_on(f, other, data, size, 77);
	fixture_check(data, size, 77);
}

/* ---- One kind of state at a time -------------------------------------------------------------- */

static const char *const memories[] = {
	"soft:memory=16M:keep=off",
	"soft:memory=16M:keep=on",
	"soft:memory=16M:keep=on:visible=off",
	"soft:memory=16M:keep=off:faults=off",
	"soft:memory=16M:keep=on:faults=off",
};
#define N_MEMORIES (sizeof(memories) / sizeof(memories[0]))

static bool saves(const char *name)
{
	return strstr(name, "keep=on") && !strstr(name, "visible=off");
}

static void only_copy(struct svm_fixture *f)
{
	fixture_space(f, NULL);
	for (unsigned int m = 0; m < N_MEMORIES; m++)
		for (enum death death = 0; death < N_DEATHS; death++) {
			struct svm_device *other = fixture_open(f, "soft:memory=16M");
			struct victim v = open_victim(f, memories[m]);
			struct svm_location host = { SVM_LOCATION_HOST, 0 };
			struct svm_location there = svm_device_location(other);
			struct svm_access_range range = { .size = PAGE, .access = SVM_ACCESS_READ };
			struct svm_access *access;
			uint8_t *data = fixture_alloc(f, 4 * MIB, 0);
			uint8_t *home = fixture_alloc(f, 2 * MIB, 0);
			uint64_t wrong;

			fixture_fill(home, 2 * MIB, 2);
			fixture_fill_on(f, v.device, data, 4 * MIB, 1);
			fixture_assert_at(f, data, 4 * MIB,
					  (uint16_t)(1u << svm_device_id(v.device)), false);
			strike(&v, death);
			await_loss(&v);
			if (saves(memories[m])) {
				fixture_check(data, 2 * MIB, 1);
				fixture_check_on(f, other, data, 4 * MIB, 1);
				assert_int_equal(count_lost(f, data, 4 * MIB, 1, 1), 0);
			} else {
				range.addr = data;
				assert_int_equal(svm_acquire(other, &range, 1, 0, &access, NULL),
						 -EIO);
				assert_int_equal(svm_prefetch(f->space, data, PAGE, host, NULL),
						 -EIO);
				assert_int_equal(svm_prefetch(f->space, data, PAGE, there, NULL),
						 -EIO);
				assert_int_equal(svm_pin(f->space, data, PAGE, host), -EIO);
				assert_int_equal(svm_host_acquire(f->space, data, PAGE,
								  SVM_ACCESS_READ, 0),
						 -EIO);
				assert_int_equal(svm_device_fill(other, data, 1, PAGE, NULL, NULL),
						 -EIO);
				assert_int_equal(count_lost(f, data, 4 * MIB, 1, 1), 1024);
				assert_int_equal(count_lost(f, data, 4 * MIB, 1, 1), 1024);
			}
			/* What it did not hold is untouched. */
			fixture_check(home, 2 * MIB, 2);
			assert_usable_after_discard(f, other, data, 4 * MIB);
			assert_dead(&v);
			assert_int_equal(svm_device_close(v.device), 0);

			v = open_victim(f, memories[m]);
			fixture_fill_on(f, v.device, data, 4 * MIB, 3);
			assert_int_equal(
				fixture_try_check_on(f, v.device, data, 4 * MIB, 3, &wrong), 0);
			assert_int_equal(wrong, 0);
			fixture_check(data, 4 * MIB, 3);
			assert_int_equal(svm_device_close(v.device), 0);
			close(v.pid_fd);
			assert_int_equal(svm_device_close(other), 0);
			fixture_free(f, data);
			fixture_free(f, home);
		}
}

/* Freed, closed or destroyed without a look at what was lost: no order is wrong. */
static void lost_and_never_looked_at(struct svm_fixture *f)
{
	for (unsigned int order = 0; order < 6; order++) {
		struct victim v;
		uint8_t *data;

		fixture_space(f, NULL);
		v = open_victim(f, "soft:memory=16M");
		data = fixture_alloc(f, 4 * MIB, 0);
		fixture_fill_on(f, v.device, data, 4 * MIB, 1);
		strike(&v, order % 2 ? DEATH_SIGNAL : DEATH_CALL);
		assert_true(process_ended(v.pid_fd));
		close(v.pid_fd);
		if (order / 2 == 0)
			fixture_free(f, data);
		if (order / 2 < 2)
			assert_int_equal(svm_device_close(v.device), 0);
		fixture_space_end(f);
	}
}

static void duplicates_survive(struct svm_fixture *f)
{
	struct svm_advice advice = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };

	fixture_space(f, NULL);
	for (enum death death = 0; death < N_DEATHS; death++) {
		struct svm_device *other = fixture_open(f, "soft:memory=16M");
		struct victim v = open_victim(f, "soft:memory=16M");
		uint8_t *data = fixture_alloc(f, 4 * MIB, 0);

		fixture_fill(data, 4 * MIB, 1);
		assert_int_equal(svm_advise(f->space, data, 4 * MIB, &advice, 1, NULL), 0);
		fixture_check_on(f, v.device, data, 4 * MIB, 1);
		fixture_check_on(f, other, data, 2 * MIB, 1);
		strike(&v, death);
		await_loss(&v);
		assert_int_equal(count_lost(f, data, 4 * MIB, 1, 1), 0);
		fixture_check_on(f, other, data, 4 * MIB, 1);
		assert_int_equal(fixture_stats(f).pages_poisoned, 0);
		assert_dead(&v);
		assert_int_equal(svm_device_close(v.device), 0);
		assert_int_equal(svm_device_close(other), 0);
		fixture_free(f, data);
	}
}

static void host_memory_in_place_survives(struct svm_fixture *f)
{
	struct svm_location host = { SVM_LOCATION_HOST, 0 };
	struct svm_advice advice = { .kind = SVM_ADVICE_PREFERRED_LOCATION, .location = host };

	fixture_space(f, NULL);
	for (enum death death = 0; death < N_DEATHS; death++) {
		struct svm_device *other = fixture_open(f, "soft:memory=16M");
		struct victim v = open_victim(f, "soft:memory=16M");
		uint8_t *data = fixture_alloc(f, 2 * MIB, SVM_ALLOC_SHARED);

		assert_int_equal(svm_advise(f->space, data, 2 * MIB, &advice, 1, NULL), 0);
		fixture_fill(data, 2 * MIB, 1);
		fixture_fill_on(f, v.device, data, 2 * MIB, 2);
		strike(&v, death);
		await_loss(&v);
		assert_int_equal(count_lost(f, data, 2 * MIB, 2, 2), 0);
		fixture_check_on(f, other, data, 2 * MIB, 2);
		assert_dead(&v);
		assert_int_equal(svm_device_close(v.device), 0);
		assert_int_equal(svm_device_close(other), 0);
		fixture_free(f, data);
	}
}

/* ---- In the middle of things ------------------------------------------------------------------ */

struct spin {
	uint32_t *flag; /* scratch: raised by the kernel, which then never ends */
	uint8_t *data;
};

static void kernel_spin(const void *args, uint64_t index, uint64_t count)
{
	const struct spin *spin = args;

	(void)index;
	(void)count;
	__atomic_store_n(spin->flag, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(spin->flag, __ATOMIC_RELAXED))
		;
}

static void during_a_launch(struct svm_fixture *f)
{
	fixture_space(f, NULL);
	for (enum death death = 0; death < N_DEATHS; death++) {
		struct victim v = open_victim(f, "soft:memory=16M:engines=2");
		struct spin spin = { .flag = f->scratch };
		struct svm_fence *done;
		struct svm_fence *behind;
		int fd;

		*spin.flag = 0;
		assert_int_equal(svm_soft_launch(v.device, kernel_spin, &spin, sizeof(spin), 2,
						 NULL, &done),
				 0);
		assert_int_equal(
			svm_soft_launch(v.device, kernel_nothing, NULL, 0, 1, NULL, &behind), 0);
		assert_int_equal(svm_fence_export(behind, &fd), 0);
		while (!__atomic_load_n(spin.flag, __ATOMIC_SEQ_CST))
			sched_yield();
		assert_int_equal(svm_fence_wait(done, 0), -ETIMEDOUT);
		strike(&v, death);
		assert_int_equal(svm_fence_wait(done, LIMIT_NS), -ENODEV);
		assert_int_equal(svm_fence_wait(behind, LIMIT_NS), -ENODEV);
		assert_true(process_ended(fd)); /* it polls as a pidfd does */
		close(fd);
		svm_fence_unref(done);
		svm_fence_unref(behind);
		assert_dead(&v);
		assert_int_equal(svm_device_close(v.device), 0);
	}
}

/* An instant that differs from run to run: as long as it takes to wait for nothing. */
static void wait_up_to(struct svm_fixture *f, int64_t ns)
{
	struct svm_fence *never;

	assert_int_equal(svm_fence_create(f->space, &never), 0);
	assert_int_equal(svm_fence_wait(never, (int64_t)fixture_pick(f, (uint64_t)ns)), -ETIMEDOUT);
	svm_fence_unref(never);
}

static void during_a_prefetch_there(struct svm_fixture *f)
{
	static const char *const names[] = {
		"soft:memory=16M:bandwidth=400M:keep=off",
		"soft:memory=16M:bandwidth=400M:keep=on",
		"soft:memory=16M:bandwidth=400M:keep=off:faults=off",
	};

	fixture_space(f, NULL);
	for (unsigned int i = 0; i < 6; i++) {
		const char *name = names[i % 3];
		struct svm_device *other = fixture_open(f, "soft:memory=16M");
		struct victim v = open_victim(f, name);
		uint8_t *data = fixture_alloc(f, 8 * MIB, 0);
		struct svm_prefetch_range range = { data, 8 * MIB, svm_device_location(v.device) };
		struct svm_prefetch_result result;
		struct svm_prefetch *prefetch;
		uint64_t n_lost;
		int ret;

		fixture_fill(data, 8 * MIB, 1);
		assert_int_equal(svm_prefetch_start(f->space, &range, 1, NULL, 0, &prefetch), 0);
		wait_up_to(f, 30000000);
		strike(&v, i / 3 % 2 ? DEATH_SIGNAL : DEATH_CALL);
		ret = svm_prefetch_wait(prefetch, LIMIT_NS, &result, 1);
		assert_true(ret == 0 || ret == -ENODEV || ret == -EIO);
		assert_int_equal(result.bytes_moved + result.already_there + result.skipped_pinned +
					 result.failed,
				 8 * MIB);
		assert_int_equal(svm_prefetch_destroy(prefetch), 0);
		await_loss(&v);
		n_lost = count_lost(f, data, 8 * MIB, 1, 1);
		if (saves(name))
			assert_int_equal(n_lost, 0);
		else
			assert_true(n_lost * PAGE <= result.bytes_moved);
		assert_usable_after_discard(f, other, data, 4 * MIB);
		assert_dead(&v);
		assert_int_equal(svm_device_close(v.device), 0);
		assert_int_equal(svm_device_close(other), 0);
		fixture_free(f, data);
	}
}

/* From the victim to the host, or to another device: which is none the worse for it. */
static void prefetch_away(struct svm_fixture *f, bool to_peer)
{
	static const char *const names[] = {
		"soft:memory=16M:bandwidth=400M:keep=off",
		"soft:memory=16M:bandwidth=400M:keep=on",
	};

	fixture_space(f, NULL);
	for (unsigned int i = 0; i < 4; i++) {
		const char *name = names[i % 2];
		struct svm_location host = { SVM_LOCATION_HOST, 0 };
		/* The engine of the destination copies between devices. */
		struct svm_device *other = fixture_open(
			f, to_peer ? "soft:memory=16M:bandwidth=400M" : "soft:memory=16M");
		struct victim v = open_victim(f, name);
		uint8_t *data = fixture_alloc(f, 8 * MIB, 0);
		struct svm_prefetch_range range = { data, 8 * MIB, host };
		struct svm_device_info info = { .size = sizeof(info) };
		struct svm_prefetch_result result;
		struct svm_prefetch *prefetch;
		uint64_t n_lost;
		int ret;

		if (to_peer)
			range.to = svm_device_location(other);
		fixture_fill_on(f, v.device, data, 8 * MIB, 1);
		assert_int_equal(svm_prefetch_start(f->space, &range, 1, NULL, 0, &prefetch), 0);
		wait_up_to(f, 30000000);
		strike(&v, i / 2 % 2 ? DEATH_SIGNAL : DEATH_CALL);
		ret = svm_prefetch_wait(prefetch, LIMIT_NS, &result, 1);
		assert_true(ret == 0 || ret == -ENODEV || ret == -EIO);
		assert_int_equal(svm_prefetch_destroy(prefetch), 0);
		await_loss(&v);
		assert_int_equal(svm_device_query(other, &info), 0);
		assert_int_equal(info.is_lost, 0);
		n_lost = count_lost(f, data, 8 * MIB, 1, 1);
		if (saves(name))
			assert_int_equal(n_lost, 0);
		else
			assert_int_equal(n_lost * PAGE + result.bytes_moved, 8 * MIB);
		assert_usable_after_discard(f, other, data, 4 * MIB);
		assert_dead(&v);
		assert_int_equal(svm_device_close(v.device), 0);
		assert_int_equal(svm_device_close(other), 0);
		fixture_free(f, data);
	}
}

static void during_a_prefetch_home(struct svm_fixture *f)
{
	prefetch_away(f, false);
}

static void during_a_prefetch_to_a_peer(struct svm_fixture *f)
{
	prefetch_away(f, true);
}

static void during_an_acquire(struct svm_fixture *f)
{
	fixture_space(f, NULL);
	for (unsigned int i = 0; i < 4; i++) {
		struct svm_device *other = fixture_open(f, "soft:memory=16M");
		struct victim v = open_victim(f, "soft:memory=16M:bandwidth=400M:faults=off");
		uint8_t *data = fixture_alloc(f, 8 * MIB, 0);
		struct svm_access_range range = { data, 8 * MIB, SVM_ACCESS_WRITE, 0 };
		struct svm_access *access;
		struct svm_fence *ready;
		int ret;

		fixture_fill(data, 8 * MIB, 1);
		assert_int_equal(svm_acquire(v.device, &range, 1, 0, &access, &ready), 0);
		wait_up_to(f, 25000000);
		strike(&v, i % 2 ? DEATH_SIGNAL : DEATH_CALL);
		ret = svm_fence_wait(ready, LIMIT_NS);
		assert_true(ret == 0 || ret == -ENODEV);
		svm_fence_unref(ready);
		await_loss(&v);
		/* Still acquired, by a device that is no more: that stands in nobody's way. */
		(void)count_lost(f, data, 8 * MIB, 1, 1);
		assert_int_equal(svm_release(access, NULL), 0);
		assert_usable_after_discard(f, other, data, 8 * MIB);
		assert_dead(&v);
		assert_int_equal(svm_device_close(v.device), 0);
		assert_int_equal(svm_device_close(other), 0);
		fixture_free(f, data);
	}
}

/* A CPU thread waits for a page that the device holds: it is let go, with a signal, when the device dies. */
struct waiter {
	uint8_t *addr;
	int signal;
};

static void *wait_for_page(void *arg)
{
	struct waiter *w = arg;
	uint8_t value;

	w->signal = touch_read(w->addr, &value);
	return NULL;
}

static void while_the_cpu_waits(struct svm_fixture *f)
{
	fixture_space(f, NULL);
	touch_install();
	for (enum death death = 0; death < N_DEATHS; death++) {
		struct victim v = open_victim(f, "soft:memory=16M:faults=off");
		uint8_t *data = fixture_alloc(f, 2 * MIB, 0);
		struct svm_access_range range = { data, 2 * MIB, SVM_ACCESS_WRITE, 0 };
		struct waiter waiter = { .addr = data + MIB };
		struct svm_access *access;
		uint64_t faults;
		pthread_t thread;

		fixture_fill(data, 2 * MIB, 1);
		assert_int_equal(svm_acquire(v.device, &range, 1, 0, &access, NULL), 0);
		faults = fixture_stats(f).cpu_faults;
		assert_int_equal(pthread_create(&thread, NULL, wait_for_page, &waiter), 0);
		while (fixture_stats(f).cpu_faults == faults)
			sched_yield();
		strike(&v, death);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(waiter.signal, fixture_loss_signal(f));
		assert_int_equal(svm_release(access, NULL), 0);
		assert_dead(&v);
		assert_int_equal(svm_device_close(v.device), 0);
		fixture_free(f, data);
	}
	touch_remove();
}

/* The device waits for a page, slowly copied, when it dies: with a fault pending, and queued behind others. */
static void with_a_fault_pending(struct svm_fixture *f)
{
	fixture_space(f, NULL);
	for (unsigned int i = 0; i < 4; i++) {
		struct svm_device *other = fixture_open(f, "soft:memory=16M");
		struct victim v =
			open_victim(f, i % 2 ? "soft:memory=16M:latency=20000000:engines=4"
					     : "soft:memory=4M:bandwidth=200M:engines=4:keep=on");
		uint8_t *data = fixture_alloc(f, 8 * MIB, 0);
		struct svm_fixture_kernel kernel = { .addr = (uint64_t)(uintptr_t)data,
						     .pattern = 2 };
		struct svm_fence *done;
		uint64_t faults;
		int ret;

		fixture_fill(data, 8 * MIB, 1);
		faults = fixture_stats(f).device_faults;
		assert_int_equal(svm_soft_launch(v.device, fixture_kernel_fill, &kernel,
						 sizeof(kernel), 2048, NULL, &done),
				 0);
		while (fixture_stats(f).device_faults == faults)
			sched_yield();
		wait_up_to(f, 20000000);
		strike(&v, i / 2 % 2 ? DEATH_SIGNAL : DEATH_CALL);
		ret = svm_fence_wait(done, LIMIT_NS);
		assert_true(ret == -ENODEV || ret == 0);
		svm_fence_unref(done);
		await_loss(&v);
		/* A page that the kernel was writing may be half done where memory survives: not looked at then. */
		if (i % 2)
			(void)count_lost(f, data, 8 * MIB, 1, 2);
		assert_usable_after_discard(f, other, data, 8 * MIB);
		assert_dead(&v);
		assert_int_equal(svm_device_close(v.device), 0);
		assert_int_equal(svm_device_close(other), 0);
		fixture_free(f, data);
	}
}

/* Another device works on other memory all the time, and on memory that comes from the one that dies. */
struct worker {
	struct svm_fixture *f;
	struct svm_device *device;
	uint8_t *own; /* 4 MiB */
	_Atomic bool stop;
	_Atomic unsigned int n_rounds;
	_Atomic int error;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t n = 1;

	while (!w->stop && !w->error) {
		struct svm_fixture_kernel kernel = { .addr = (uint64_t)(uintptr_t)w->own,
						     .pattern = n };

		if (svm_soft_launch(w->device, fixture_kernel_fill, &kernel, sizeof(kernel), 1024,
				    NULL, NULL))
			w->error = 1;
		for (uint64_t at = 0; at < 4 * MIB; at += PAGE)
			if (*(volatile uint64_t *)(w->own + at) != fixture_word(n, at / 8))
				w->error = 2;
		w->n_rounds++;
		n++;
	}
	return NULL;
}

static void others_keep_working(struct svm_fixture *f)
{
	struct worker w = { .f = f };
	pthread_t thread;

	fixture_space(f, NULL);
	w.device = fixture_open(f, "soft:memory=4M");
	w.own = fixture_alloc(f, 4 * MIB, 0);
	assert_int_equal(pthread_create(&thread, NULL, work, &w), 0);
	for (unsigned int i = 0; i < 4; i++) {
		struct victim v = open_victim(f, "soft:memory=8M");
		uint8_t *data = fixture_alloc(f, 4 * MIB, 0);
		unsigned int rounds;

		fixture_fill_on(f, v.device, data, 4 * MIB, i);
		strike(&v, i % 2 ? DEATH_SIGNAL : DEATH_CALL);
		assert_dead(&v);
		rounds = w.n_rounds;
		while (w.n_rounds < rounds + 2 && !w.error)
			sched_yield();
		assert_int_equal(w.error, 0);
		assert_int_equal(svm_device_close(v.device), 0);
		assert_int_equal(count_lost(f, data, 4 * MIB, i, i), 1024);
		fixture_free(f, data);
	}
	w.stop = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(w.error, 0);
}

/* Registered memory is the application's: what is lost stays poisoned, the rest comes home. */
static void registered_memory(struct svm_fixture *f)
{
	fixture_space(f, NULL);
	for (enum death death = 0; death < N_DEATHS; death++) {
		/* Whole blocks: a fault of the device takes one with it. */
		uint8_t *map = mmap(NULL, 6 * MIB, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		uint8_t *data = map + (2 * MIB - (uintptr_t)map % (2 * MIB));
		struct victim v;
		uint8_t byte;

		assert_ptr_not_equal(map, MAP_FAILED);
		/* Opened later: a sanitizer's run-time in the device maps memory of its own wherever it is free. */
		v = open_victim(f, "soft:memory=16M");
		fixture_fill(data, 4 * MIB, 1);
		assert_int_equal(svm_register(f->space, data, 4 * MIB, 0), 0);
		fixture_check_on(f, v.device, data, 2 * MIB, 1);
		strike(&v, death);
		await_loss(&v);
		assert_int_equal(svm_unregister(f->space, data, 4 * MIB), -EIO);
		touch_install();
		for (uint64_t at = 0; at < 4 * MIB; at += PAGE) {
			int signal = touch_read(data + at, &byte);

			if (signal != (at < 2 * MIB ? fixture_loss_signal(f) : 0))
				fail_msg("death %u: signal %d at page %u", death, signal,
					 (unsigned int)(at / PAGE));
			if (signal == 0)
				assert_int_equal(*(uint64_t *)(data + at), fixture_word(1, at / 8));
		}
		touch_remove();
		munmap(map, 6 * MIB);
		assert_dead(&v);
		assert_int_equal(svm_device_close(v.device), 0);
	}
}

/* A dead device cannot be told of memory. Who uses it next hears of its death, not of a mistake. */
static void registered_after_the_death(struct svm_fixture *f)
{
	fixture_space(f, NULL);
	for (unsigned int round = 0; round < 30; round++) {
		uint8_t *data =
			mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct svm_access_range range = { .addr = data,
						  .size = MIB,
						  .access = SVM_ACCESS_READ };
		struct svm_access *access = NULL;
		struct victim v;

		assert_ptr_not_equal(data, MAP_FAILED);
		v = open_victim(f, "soft:memory=16M:faults=off");
		strike(&v, DEATH_SIGNAL);
		assert_int_equal(svm_register(f->space, data, MIB, 0), 0);
		assert_int_equal(svm_acquire(v.device, &range, 1, 0, &access, NULL), -ENODEV);
		assert_int_equal(svm_unregister(f->space, data, MIB), 0);
		munmap(data, MIB);
		close(v.pid_fd);
		assert_int_equal(svm_device_close(v.device), 0);
	}
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(only_copy, FIXTURE_VARIANTS),
		FIXTURE_CASE(lost_and_never_looked_at, FIXTURE_ONCE),
		FIXTURE_CASE(duplicates_survive, FIXTURE_ONCE),
		FIXTURE_CASE(host_memory_in_place_survives, FIXTURE_ONCE),
		FIXTURE_CASE(during_a_launch, FIXTURE_ONCE),
		FIXTURE_CASE(during_a_prefetch_there, FIXTURE_VARIANTS),
		FIXTURE_CASE(during_a_prefetch_home, FIXTURE_VARIANTS),
		FIXTURE_CASE(during_a_prefetch_to_a_peer, FIXTURE_ONCE),
		FIXTURE_CASE(during_an_acquire, FIXTURE_VARIANTS),
		FIXTURE_CASE(while_the_cpu_waits, FIXTURE_VARIANTS),
		FIXTURE_CASE(with_a_fault_pending, FIXTURE_VARIANTS),
		FIXTURE_CASE(others_keep_working, FIXTURE_VARIANTS),
		FIXTURE_CASE(registered_memory, FIXTURE_VARIANTS),
		FIXTURE_CASE(registered_after_the_death, FIXTURE_ONCE),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
