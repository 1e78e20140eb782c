// SPDX-License-Identifier: MIT
/*
 * Native mode on emulated xe devices: their engines work on any pointer, beside managed memory in the same VM; hints go to
 * the driver, and what it drops is told; prefetches are checked. XE_TEST_NATIVE says what the setting must have:
 * "none", "native", "uffd" (and faults that wait for a userfaultfd), "early" (a kernel without hints).
 */
#include "../emu/emu_ctl.h"
#include "fixture.h"
#include "xe_held.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif
#include <sys/mman.h>
#include <unistd.h>

#define PAGE  FIXTURE_PAGE
#define BLOCK FIXTURE_BLOCK
#define SIZE  (2 * BLOCK)

static const char *expected(void)
{
	const char *want = getenv("XE_TEST_NATIVE");

	return want ? want : "uffd";
}

static bool expects(const char *what)
{
	return strcmp(expected(), what) == 0;
}

/* A device as native as the setting is; skips the test where that is not at all. */
static struct svm_device *open_native(struct svm_fixture *f)
{
	const struct svm_space_options options = { .size = sizeof(options),
						   .flags = SVM_SPACE_NATIVE };

	fixture_space(f, &options);
	if (!expects("none"))
		return fixture_open(f, "xe:memory=64M");
	print_message("no mirroring in this setting\n");
	skip();
	return NULL;
}

static bool is_discrete(struct svm_device *device)
{
	/* Atomics on host memory in place are what integrated devices have. */
	return !fixture_has(device, SVM_CAP_SYSTEM_ATOMICS);
}

static uint8_t *map_plain(uint64_t size, int flags)
{
	/* Whole blocks: the kernel moves 2 MiB where the mapping lets it. */
	uint8_t *all =
		mmap(NULL, size + BLOCK, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
	uint8_t *start;

	assert_ptr_not_equal(all, MAP_FAILED);
	start = (uint8_t *)(((uintptr_t)all + BLOCK - 1) / BLOCK * BLOCK);
	if (start > all)
		assert_int_equal(munmap(all, (size_t)(start - all)), 0);
	assert_int_equal(munmap(start + size, (size_t)(all + BLOCK - start)), 0);
#ifdef __SANITIZE_ADDRESS__
	/* A thread that has ended may have had its stack here. */
	__asan_unpoison_memory_region(start, size);
#endif
	return start;
}

static uint8_t *plain_memory(uint64_t size)
{
	uint8_t *addr = map_plain(size, MAP_PRIVATE);

	memset(addr, 0x11, size);
	return addr;
}

static bool is_all(const uint8_t *bytes, uint64_t size, uint8_t value)
{
	for (uint64_t i = 0; i < size; i++)
		if (bytes[i] != value)
			return false;
	return true;
}

static unsigned int count_on(struct svm_fixture *f, struct svm_device *device, const void *addr,
			     uint64_t size)
{
	struct svm_page_residency pages[512];
	unsigned int n = 0;

	assert_int_equal(size % BLOCK, 0);
	for (uint64_t at = 0; at < size; at += BLOCK) {
		assert_int_equal(svm_residency_query(f->space, (const uint8_t *)addr + at, BLOCK,
						     pages, 512, NULL),
				 0);
		for (size_t i = 0; i < 512; i++)
			n += pages[i].devices >> svm_device_id(device) & 1u;
	}
	return n;
}

static struct svm_outcome advise(struct svm_fixture *f, void *addr, uint64_t size,
				 struct svm_advice advice)
{
	struct svm_outcome outcome;

	assert_int_equal(svm_advise(f->space, addr, size, &advice, 1, &outcome), 0);
	return outcome;
}

#define expect_outcome(o, s, r)                   \
	do {                                      \
		struct svm_outcome o_ = (o);      \
		assert_int_equal(o_.status, (s)); \
		assert_int_equal(o_.reason, (r)); \
	} while (0)

/* ---- Which devices are native ----------------------------------------------------------------- */

static void capabilities_are_as_the_kernel_says(struct svm_fixture *f)
{
	const struct svm_space_options options = { .size = sizeof(options),
						   .flags = SVM_SPACE_NATIVE };
	struct svm_device *device;

	fixture_space(f, &options);
	device = fixture_open(f, "xe:memory=64M");
	assert_int_equal(fixture_has(device, SVM_CAP_NATIVE), !expects("none"));
	assert_int_equal(fixture_has(device, SVM_CAP_NATIVE_UFFD), expects("uffd"));
	assert_false(fixture_has(device, SVM_CAP_FAULTS));
	fixture_space_end(f);
	/* Only where it is asked for. */
	fixture_space(f, NULL);
	device = fixture_open(f, "xe:memory=64M");
	assert_false(fixture_has(device, SVM_CAP_NATIVE));
	assert_int_equal(svm_device_fill(device, &f->seed, 0, 8, NULL, NULL), -ENOENT);
}

/* ---- Work ------------------------------------------------------------------------------------- */

static void engines_work_on_any_pointer(struct svm_fixture *f)
{
	struct svm_device *device = open_native(f);
	uint8_t *plain = plain_memory(SIZE);
	uint8_t *managed = fixture_alloc(f, SIZE, 0);

	for (unsigned int i = 1; i <= 6; i++) {
		memset(plain, (int)i, SIZE);
		/* System memory to managed memory, which the CPU then touches, and back. */
		assert_int_equal(svm_device_copy(device, managed, plain, SIZE, NULL, NULL), 0);
		assert_true(is_all(managed, SIZE, (uint8_t)i));
		memset(managed + BLOCK, (int)i + 100, BLOCK);
		assert_int_equal(svm_device_copy(device, plain, managed + BLOCK, BLOCK, NULL, NULL),
				 0);
		assert_int_equal(svm_device_fill(device, plain + BLOCK + 5 * PAGE, 0xee, PAGE, NULL,
						 NULL),
				 0);
		assert_true(is_all(plain, BLOCK, (uint8_t)(i + 100)));
		assert_true(is_all(plain + BLOCK + 5 * PAGE, PAGE, 0xee));
		assert_true(is_all(plain + BLOCK + 6 * PAGE, BLOCK - 6 * PAGE, (uint8_t)i));
	}
	fixture_free(f, managed);
	fixture_space_end(f);
	assert_int_equal(munmap(plain, SIZE), 0);
}

static void memory_may_go_and_come(struct svm_fixture *f)
{
	struct svm_device *device = open_native(f);
	uint8_t *plain = plain_memory(SIZE);

	for (unsigned int i = 1; i <= 4; i++) {
		assert_int_equal(svm_device_fill(device, plain, (uint8_t)i, SIZE, NULL, NULL), 0);
		assert_true(is_all(plain, SIZE, (uint8_t)i));
		assert_int_equal(munmap(plain, SIZE), 0);
		assert_ptr_equal(mmap(plain, SIZE, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
				 plain);
	}
	assert_true(is_all(plain, SIZE, 0));
	fixture_space_end(f);
	assert_int_equal(munmap(plain, SIZE), 0);
}

/* ---- Registered memory ------------------------------------------------------------------------ */

static void registered_memory_leaves_the_mirror(struct svm_fixture *f)
{
	struct svm_device *device = open_native(f);
	uint8_t *fresh = plain_memory(SIZE);
	uint8_t *used = plain_memory(SIZE);

	/* Before the device has touched it: it is managed, moves to the device and back, and is system memory again. */
	assert_int_equal(svm_register(f->space, fresh, SIZE, 0), 0);
	assert_int_equal(svm_device_fill(device, fresh, 0x31, SIZE, NULL, NULL), 0);
	assert_true(is_all(fresh, SIZE, 0x31));
	assert_int_equal(svm_unregister(f->space, fresh, SIZE), 0);
	assert_int_equal(svm_device_fill(device, fresh, 0x32, SIZE, NULL, NULL), 0);
	assert_true(is_all(fresh, SIZE, 0x32));
	/* The driver gives no part of a mirror away that it uses (xe_vm.c:vm_bind_ioctl_ops_parse()). */
	assert_int_equal(svm_device_fill(device, used, 0x33, SIZE, NULL, NULL), 0);
	assert_int_equal(svm_register(f->space, used, SIZE, 0), -EBUSY);
	assert_int_equal(svm_device_fill(device, used, 0x34, SIZE, NULL, NULL), 0);
	assert_true(is_all(used, SIZE, 0x34));
	fixture_space_end(f);
	assert_int_equal(munmap(fresh, SIZE), 0);
	assert_int_equal(munmap(used, SIZE), 0);
}

/* ---- The VM's lock ---------------------------------------------------------------------------- */

static void *fill_held(void *data)
{
	struct held_job *job = data;

	job->result = svm_device_fill(job->device, (void *)job->at, 0x77, FIXTURE_PAGE, NULL, NULL);
	return NULL;
}

/* A fault of the device waits for a page that a userfaultfd holds back, with the VM locked; who serves it touches managed
 * memory. */
static void a_fault_that_waits_stops_nobody_else(struct svm_fixture *f)
{
	struct svm_device *device = open_native(f);
	struct held_job job = { .f = f, .device = device };
	struct held held = { 0 };
	uint8_t *managed;
	pthread_t thread;

	if (!expects("uffd")) {
		fixture_space_end(f);
		print_message("the driver of this kernel does not wait for a userfaultfd\n");
		skip();
	}
	managed = held_managed(f, device);
	assert_true(held_open(&held));
	job.at = held.page;
	assert_int_equal(pthread_create(&thread, NULL, fill_held, &job), 0);
	held_wait(&held);
	held_serve_others(f, device, &held, managed, false);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(job.result, 0);
	assert_int_equal(held.page[FIXTURE_PAGE - 1], 0x77);
	fixture_space_end(f);
	held_close(&held);
}

/* ---- Hints ------------------------------------------------------------------------------------ */

static void hints_say_what_the_driver_makes_of_them(struct svm_fixture *f)
{
	struct svm_device *device = open_native(f);
	uint8_t *plain = plain_memory(SIZE);
	uint32_t good = expects("early") ? SVM_DEGRADED : SVM_EFFECTIVE;
	uint32_t why = expects("early") ? SVM_REASON_DRIVER : SVM_REASON_NONE;

	expect_outcome(advise(f, plain, SIZE,
			      (struct svm_advice){ .kind = SVM_ADVICE_PREFERRED_LOCATION,
						   .location = svm_device_location(device) }),
		       good, why);
	expect_outcome(advise(f, plain, SIZE,
			      (struct svm_advice){ .kind = SVM_ADVICE_PREFERRED_LOCATION,
						   .location = { SVM_LOCATION_HOST, 0 } }),
		       good, why);
	expect_outcome(advise(f, plain, SIZE,
			      (struct svm_advice){ .kind = SVM_ADVICE_ATOMICS,
						   .value = SVM_ATOMICS_DEVICE }),
		       good, why);
	expect_outcome(advise(f, plain, SIZE,
			      (struct svm_advice){ .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 }),
		       SVM_DEGRADED, SVM_REASON_DRIVER);
	expect_outcome(
		advise(f, plain, SIZE,
		       (struct svm_advice){ .kind = SVM_ADVICE_GRANULARITY, .value = 65536 }),
		SVM_DEGRADED, SVM_REASON_DRIVER);
	assert_int_equal(svm_unadvise(f->space, plain, SIZE, (1u << SVM_ADVICE_KINDS) - 1), 0);
	fixture_space_end(f);
	assert_int_equal(munmap(plain, SIZE), 0);
}

static void the_preferred_location_counts_at_a_fault(struct svm_fixture *f)
{
	struct svm_device *device = open_native(f);
	uint8_t *plain = plain_memory(SIZE);

	if (!is_discrete(device) || expects("early")) {
		print_message("one memory only, or no hints in this setting\n");
		fixture_space_end(f);
		assert_int_equal(munmap(plain, SIZE), 0);
		skip();
	}
	expect_outcome(advise(f, plain, BLOCK,
			      (struct svm_advice){ .kind = SVM_ADVICE_PREFERRED_LOCATION,
						   .location = { SVM_LOCATION_HOST, 0 } }),
		       SVM_EFFECTIVE, SVM_REASON_NONE);
	assert_int_equal(svm_device_fill(device, plain, 0x21, SIZE, NULL, NULL), 0);
	assert_int_equal(count_on(f, device, plain, BLOCK), 0);
	assert_int_equal(count_on(f, device, plain + BLOCK, BLOCK), BLOCK / PAGE);
	assert_true(is_all(plain, SIZE, 0x21));
	fixture_space_end(f);
	assert_int_equal(munmap(plain, SIZE), 0);
}

static void another_device_is_preferred_if_it_can_be_reached(struct svm_fixture *f)
{
	struct svm_device *device = open_native(f);
	uint8_t *plain = plain_memory(SIZE);
	bool far = getenv("XE_TEST_P2P") && strcmp(getenv("XE_TEST_P2P"), "off") == 0;
	struct svm_device *other;

	if (svm_device_open(f->space, "xe:1:memory=64M", &other) < 0 || expects("early") ||
	    !is_discrete(device)) {
		print_message("one device, one memory, or no hints in this setting\n");
		fixture_space_end(f);
		assert_int_equal(munmap(plain, SIZE), 0);
		skip();
	}
	expect_outcome(advise(f, plain, SIZE,
			      (struct svm_advice){ .kind = SVM_ADVICE_PREFERRED_LOCATION,
						   .location = svm_device_location(other) }),
		       far ? SVM_DEGRADED : SVM_EFFECTIVE,
		       far ? SVM_REASON_NOT_REACHABLE : SVM_REASON_NONE);
	assert_int_equal(svm_device_fill(device, plain, 0x41, SIZE, NULL, NULL), 0);
	assert_true(is_all(plain, SIZE, 0x41));
	assert_int_equal(svm_device_close(other), 0);
	assert_int_equal(svm_device_fill(device, plain, 0x42, SIZE, NULL, NULL), 0);
	assert_true(is_all(plain, SIZE, 0x42));
	fixture_space_end(f);
	assert_int_equal(munmap(plain, SIZE), 0);
}

/* ---- Prefetch --------------------------------------------------------------------------------- */

static void prefetches_count_what_moved(struct svm_fixture *f)
{
	struct svm_device *device = open_native(f);
	const struct svm_location host = { SVM_LOCATION_HOST, 0 };
	struct svm_location own = svm_device_location(device);
	struct svm_prefetch_result result;
	uint8_t *plain = plain_memory(SIZE);
	uint8_t *shared = map_plain(SIZE, MAP_SHARED);

	if (!is_discrete(device)) {
		assert_int_equal(svm_prefetch(f->space, plain, SIZE, host, &result), 0);
		assert_int_equal(result.already_there, SIZE);
		goto out;
	}
	assert_int_equal(svm_prefetch(f->space, plain, SIZE, own, &result), 0);
	assert_int_equal(result.bytes_moved, SIZE);
	assert_int_equal(result.outcome.status, SVM_EFFECTIVE);
	assert_int_equal(count_on(f, device, plain, SIZE), SIZE / PAGE);
	assert_int_equal(svm_prefetch(f->space, plain, SIZE, own, &result), 0);
	assert_int_equal(result.already_there, SIZE);
	assert_int_equal(svm_device_fill(device, plain, 0x51, SIZE, NULL, NULL), 0);
	assert_int_equal(svm_prefetch(f->space, plain, SIZE, host, &result), 0);
	assert_int_equal(result.bytes_moved, SIZE);
	assert_int_equal(count_on(f, device, plain, SIZE), 0);
	assert_true(is_all(plain, SIZE, 0x51));

	/* What the driver never moves, and says nothing of. */
	memset(shared, 0x61, SIZE);
	(void)svm_prefetch(f->space, shared, SIZE, own, &result);
	assert_int_equal(result.bytes_moved, 0);
	assert_int_equal(result.failed, SIZE);
	assert_int_equal(result.outcome.status, SVM_DEGRADED);
	assert_true(is_all(shared, SIZE, 0x61));

	/* One part that cannot be moved does not keep the others from it. */
	assert_int_equal(mprotect(plain, BLOCK, PROT_READ), 0);
	(void)svm_prefetch(f->space, plain, SIZE, own, &result);
	assert_int_equal(result.bytes_moved, BLOCK);
	assert_int_equal(result.failed, BLOCK);
	assert_int_equal(count_on(f, device, plain, BLOCK), 0);
	assert_int_equal(count_on(f, device, plain + BLOCK, BLOCK), BLOCK / PAGE);
	assert_int_equal(mprotect(plain, BLOCK, PROT_READ | PROT_WRITE), 0);
out:
	fixture_space_end(f);
	assert_int_equal(munmap(plain, SIZE), 0);
	assert_int_equal(munmap(shared, SIZE), 0);
}

/* ---- Failures --------------------------------------------------------------------------------- */

static void quiet(void *data, int level, const char *line)
{
	(void)data;
	(void)level;
	(void)line;
}

static void any_ioctl_may_fail(struct svm_fixture *f)
{
	const struct svm_space_options options = { .size = sizeof(options),
						   .flags = SVM_SPACE_NATIVE,
						   .log = quiet };
	uint8_t *plain = plain_memory(SIZE);
	unsigned int n_good = 0;

	if (expects("none"))
		print_message("(not native in this setting)\n");
	fixture_space(f, &options);
	for (uint64_t n = 1; n <= 90; n++) {
		struct svm_advice advice = { .kind = SVM_ADVICE_PREFERRED_LOCATION,
					     .location = { SVM_LOCATION_HOST, 0 } };
		struct svm_device *device;
		int r;

		emu_ctl_fail(0, n, n % 2 ? ENOMEM : EIO, 0);
		r = svm_device_open(f->space, "xe:memory=64M", &device);
		if (r == 0 && fixture_has(device, SVM_CAP_NATIVE)) {
			(void)svm_advise(f->space, plain, SIZE, &advice, 1, NULL);
			(void)svm_prefetch(f->space, plain, SIZE, svm_device_location(device),
					   NULL);
			r = svm_device_fill(device, plain, (uint8_t)n, PAGE, NULL, NULL);
			if (r == 0)
				assert_true(is_all(plain, PAGE, (uint8_t)n));
			n_good += r == 0;
		}
		emu_ctl_fail(0, 0, 0, 0);
		/* Opened or not, lost or not: nothing stays. */
		fixture_space_end(f);
		fixture_space(f, &options);
	}
	if (!expects("none"))
		assert_true(n_good > 20);
	fixture_space_end(f);
	assert_int_equal(munmap(plain, SIZE), 0);
}

static const struct svm_fixture_case cases[] = {
	FIXTURE_CASE(capabilities_are_as_the_kernel_says, FIXTURE_ONCE),
	FIXTURE_CASE(engines_work_on_any_pointer, FIXTURE_ONCE),
	FIXTURE_CASE(memory_may_go_and_come, FIXTURE_ONCE),
	FIXTURE_CASE(registered_memory_leaves_the_mirror, FIXTURE_ONCE),
	FIXTURE_CASE(a_fault_that_waits_stops_nobody_else, FIXTURE_ONCE),
	FIXTURE_CASE(hints_say_what_the_driver_makes_of_them, FIXTURE_ONCE),
	FIXTURE_CASE(the_preferred_location_counts_at_a_fault, FIXTURE_ONCE),
	FIXTURE_CASE(another_device_is_preferred_if_it_can_be_reached, FIXTURE_ONCE),
	FIXTURE_CASE(prefetches_count_what_moved, FIXTURE_ONCE),
	FIXTURE_CASE(any_ioctl_may_fail, FIXTURE_ONCE),
};

int main(int argc, char **argv)
{
	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
