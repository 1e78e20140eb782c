// SPDX-License-Identifier: MIT
/*
 * Emulated xe devices that are wedged or unplugged at a moment that the test chooses: what only they had is lost and says so,
 * everything else has its bytes, nothing hangs, other devices go on, and a device that is back can be opened again.
 */
#include "../emu/emu_ctl.h"
#include "process.h"
#include "fixture.h"
#include <errno.h>
#include <pthread.h>
#include <string.h>

#define PAGE  FIXTURE_PAGE
#define BLOCK FIXTURE_BLOCK
#define SIZE  (4 * BLOCK)
#define NAME  "xe:0:memory=32M"
#define OTHER "xe:1:memory=32M"

enum death {
	WEDGED,
	UNPLUGGED,
	N_DEATHS,
};

static void strike(enum death death, bool on)
{
	if (death == WEDGED)
		emu_ctl_wedge(0, on);
	else
		emu_ctl_unplug(0, on);
}

static void quiet(void *data, int level, const char *line)
{
	(void)data;
	(void)level;
	(void)line;
}

static struct svm_device *begin(struct svm_fixture *f)
{
	const struct svm_space_options options = { .size = sizeof(options), .log = quiet };

	fixture_space(f, &options);
	return fixture_open(f, NAME);
}

/* The driver of a device that does nothing says nothing: whoever asks next learns it. */
static void await_loss(struct svm_device *device, void *some)
{
	struct svm_device_info info = { .size = sizeof(info) };

	assert_int_equal(svm_device_fill(device, some, 0, PAGE, NULL, NULL), -ENODEV);
	do {
		sched_yield();
		assert_int_equal(svm_device_query(device, &info), 0);
	} while (!info.is_lost);
}

/* Pages whose touch raises a signal; the others must have the byte. */
static unsigned int count_lost(const uint8_t *data, uint64_t size, uint8_t byte)
{
	unsigned int n = 0;

	touch_install();
	for (uint64_t at = 0; at < size; at += PAGE) {
		uint8_t have = 0;

		if (touch_read(data + at, &have))
			n++;
		else if (have != byte)
			fail_msg("page %llu: %#x instead of %#x", (unsigned long long)(at / PAGE),
				 have, byte);
	}
	touch_remove();
	return n;
}

static void only_what_it_had_is_lost(struct svm_fixture *f)
{
	for (enum death d = 0; d < N_DEATHS; d++) {
		struct svm_device *device = begin(f);
		struct svm_device *other = fixture_open(f, OTHER);
		const struct svm_advice mostly = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };
		uint8_t *data = fixture_alloc(f, SIZE, 0);
		uint8_t *twice = fixture_alloc(f, SIZE, 0);
		uint8_t *here = fixture_alloc(f, SIZE, SVM_ALLOC_SHARED);
		uint8_t *there = fixture_alloc(f, SIZE, 0);

		memset(data, 1, SIZE);
		memset(twice, 2, SIZE);
		memset(here, 3, SIZE);
		assert_int_equal(svm_advise(f->space, twice, SIZE, &mostly, 1, NULL), 0);
		assert_int_equal(svm_prefetch(f->space, data, SIZE / 2, svm_device_location(device),
					      NULL),
				 0);
		assert_int_equal(
			svm_prefetch(f->space, twice, SIZE, svm_device_location(device), NULL), 0);
		assert_int_equal(svm_device_fill(other, there, 4, SIZE, NULL, NULL), 0);
		strike(d, true);
		await_loss(device, here);
		assert_int_equal(count_lost(data, SIZE, 1), SIZE / 2 / PAGE);
		assert_int_equal(count_lost(twice, SIZE, 2), 0);
		assert_int_equal(count_lost(here, SIZE, 3), 0);
		/* The other one does not mind. */
		assert_int_equal(svm_device_copy(other, here, there, SIZE, NULL, NULL), 0);
		assert_int_equal(count_lost(here, SIZE, 4), 0);
		assert_int_equal(count_lost(there, SIZE, 4), 0);
		assert_int_equal(svm_device_close(device), 0);
		/* Back again, and as good as new. */
		strike(d, false);
		device = fixture_open(f, NAME);
		assert_int_equal(svm_device_fill(device, here, 5, SIZE, NULL, NULL), 0);
		assert_int_equal(count_lost(here, SIZE, 5), 0);
		fixture_space_end(f);
	}
}

struct touch {
	const uint8_t *at;
	int signal;
	uint8_t byte;
};

static void *touch(void *data)
{
	struct touch *t = data;

	t->signal = touch_read(t->at, &t->byte);
	return NULL;
}

/* Memory that a device holds when it goes: who waits for it is told. */
static void who_waits_for_it_is_told(struct svm_fixture *f)
{
	for (enum death d = 0; d < N_DEATHS; d++) {
		struct svm_device *device = begin(f);
		uint8_t *data = fixture_alloc(f, SIZE, 0);
		uint8_t *spare = fixture_alloc(f, SIZE, 0);
		struct svm_access_range range = { data, BLOCK, SVM_ACCESS_WRITE, 0 };
		struct touch waiter = { .at = data };
		struct svm_access *access;
		pthread_t thread;

		memset(data, 7, SIZE);
		assert_int_equal(
			svm_prefetch(f->space, data, BLOCK, svm_device_location(device), NULL), 0);
		assert_int_equal(svm_acquire(device, &range, 1, 0, &access, NULL), 0);
		touch_install();
		assert_int_equal(pthread_create(&thread, NULL, touch, &waiter), 0);
		strike(d, true);
		await_loss(device, spare);
		assert_int_equal(pthread_join(thread, NULL), 0);
		touch_remove();
		assert_int_not_equal(waiter.signal, 0);
		assert_int_equal(svm_release(access, NULL), 0);
		assert_int_equal(count_lost(data, SIZE, 7), BLOCK / PAGE);
		strike(d, false);
		fixture_space_end(f);
	}
}

struct mover {
	struct svm_fixture *f;
	struct svm_device *device;
	uint8_t *data;
	int there;
	int home;
};

static void *move(void *data)
{
	const struct svm_location host = { SVM_LOCATION_HOST, 0 };
	struct mover *m = data;

	do {
		m->there = svm_prefetch(m->f->space, m->data, SIZE, svm_device_location(m->device),
					NULL);
		m->home = svm_prefetch(m->f->space, m->data, SIZE, host, NULL);
	} while (m->there == 0 && m->home == 0);
	return NULL;
}

/* At the n-th ioctl of a stream there and back: each page has its byte, or is lost. */
static void at_any_moment_of_a_prefetch(struct svm_fixture *f)
{
	unsigned int n_lost = 0;

	for (unsigned int n = 1; n <= 24; n++) {
		const struct timespec pause = { .tv_nsec = 20000 };
		struct svm_device *device = begin(f);
		uint8_t *data = fixture_alloc(f, SIZE, 0);
		struct mover mover = { .f = f, .device = device, .data = data };
		uint64_t start;
		pthread_t thread;

		memset(data, (int)n, SIZE);
		start = emu_ctl_ioctls(0, -1);
		assert_int_equal(pthread_create(&thread, NULL, move, &mover), 0);
		while (emu_ctl_ioctls(0, -1) < start + n * 3)
			(void)nanosleep(&pause, NULL);
		strike(n % N_DEATHS, true);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_true(mover.there < 0 || mover.home < 0);
		n_lost += count_lost(data, SIZE, (uint8_t)n);
		strike(n % N_DEATHS, false);
		fixture_space_end(f);
	}
	print_message("%u pages were lost\n", n_lost);
}

static const struct svm_fixture_case cases[] = {
	FIXTURE_CASE(only_what_it_had_is_lost, FIXTURE_ONCE),
	FIXTURE_CASE(who_waits_for_it_is_told, FIXTURE_ONCE),
	FIXTURE_CASE(at_any_moment_of_a_prefetch, FIXTURE_ONCE),
};

int main(int argc, char **argv)
{
	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
