// SPDX-License-Identifier: MIT
/*
 * Devices whose own memory is mapped in 64 KiB only (emulated DG2, Ponte Vecchio), in spaces of such units: memory is in
 * the device's own, and whatever the spans, no byte is lost and no bind is refused. On other devices the units are just larger.
 */
#include "fixture.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE  FIXTURE_PAGE
#define BLOCK FIXTURE_BLOCK
#define UNIT  (16 * PAGE)
#define SIZE  (3 * BLOCK + 5 * UNIT)

static const struct svm_space_options units = { .size = sizeof(units),
						.flags = SVM_SPACE_64K_UNITS };
static char lines[4096];

static void keep_line(void *data, int level, const char *line)
{
	size_t used = strlen(lines);

	(void)data;
	(void)level;
	(void)snprintf(lines + used, sizeof(lines) - used, "%s\n", line);
}

static void chunks_are_in_device_memory(struct svm_fixture *f)
{
	struct svm_space_options plain = { .size = sizeof(plain),
					   .log = keep_line,
					   .log_level = SVM_LOG_INFO };
	struct svm_space_options in_units = plain;

	in_units.flags = SVM_SPACE_64K_UNITS;
	lines[0] = '\0';
	fixture_space(f, &in_units);
	(void)fixture_open(f, "xe:memory=64M");
	assert_non_null(strstr(lines, "64 MiB of device memory"));
	fixture_space_end(f);
	lines[0] = '\0';
	fixture_space(f, &plain);
	(void)fixture_open(f, "xe:memory=64M");
	/* Else single pages would have to be mapped. */
	if (strstr(lines, "64 MiB of system memory"))
		assert_non_null(strstr(lines, "SVM_SPACE_64K_UNITS"));
	fixture_space_end(f);
}

static void spans_are_whole_units(struct svm_fixture *f)
{
	struct svm_space_options both = units;
	struct svm_page_residency pages[48];
	struct svm_device *device;
	struct svm_space *space;
	uint8_t *plain =
		mmap(NULL, 4 * UNIT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *aligned = (uint8_t *)(((uintptr_t)plain + UNIT - 1) / UNIT * UNIT);
	uint8_t *a;

	assert_ptr_not_equal(plain, MAP_FAILED);
	both.flags |= SVM_SPACE_NATIVE;
	assert_int_equal(svm_space_create(&both, &space), -EINVAL);
	fixture_space(f, &units);
	device = fixture_open(f, "xe:memory=64M");
	a = fixture_alloc(f, 3 * UNIT, 0);
	memset(a, 1, 3 * UNIT);
	/* One byte: its unit moves, and no other. */
	assert_int_equal(svm_prefetch(f->space, a + UNIT + 5 * PAGE, 1, svm_device_location(device),
				      NULL),
			 0);
	assert_int_equal(svm_residency_query(f->space, a, 3 * UNIT, pages, 48, NULL), 0);
	for (unsigned int i = 0; i < 48; i++)
		assert_int_equal(pages[i].devices != 0, i / 16 == 1);
	/* And comes back as a whole. */
	assert_int_equal(a[UNIT + 9 * PAGE], 1);
	a[UNIT + 9 * PAGE] = 2;
	assert_int_equal(svm_residency_query(f->space, a, 3 * UNIT, pages, 48, NULL), 0);
	for (unsigned int i = 0; i < 48; i++)
		assert_int_equal(pages[i].devices, 0);
	/* A discard takes nothing of what was not named. */
	assert_int_equal(svm_discard(f->space, a + PAGE, UNIT, 0), 0);
	assert_int_equal(a[0], 1);
	assert_int_equal(a[PAGE], 1);
	assert_int_equal(a[UNIT + 9 * PAGE], 2);
	assert_int_equal(svm_discard(f->space, a + PAGE, 2 * UNIT, 0), 0);
	assert_int_equal(a[UNIT - PAGE], 1);
	assert_int_equal(a[2 * UNIT], 1);
	/* Registered memory is the application's: it is not rounded. */
	assert_int_equal(svm_register(f->space, aligned + PAGE, UNIT, 0), -EINVAL);
	assert_int_equal(svm_register(f->space, aligned, UNIT + PAGE, 0), -EINVAL);
	assert_int_equal(svm_register(f->space, aligned, UNIT, 0), 0);
	assert_int_equal(svm_device_fill(device, aligned + 8, 7, 1024, NULL, NULL), 0);
	assert_int_equal(aligned[8], 7);
	assert_int_equal(svm_unregister(f->space, aligned, UNIT), 0);
	fixture_space_end(f);
	assert_int_equal(munmap(plain, 4 * UNIT), 0);
}

/* A held part keeps the whole unit, so that nothing is unmapped from under what works on the part. */
static void a_hold_is_of_the_unit(struct svm_fixture *f)
{
	struct svm_access_range range = { .size = 64, .access = SVM_ACCESS_WRITE };
	struct svm_access_range other = { .size = 64, .access = SVM_ACCESS_WRITE };
	struct svm_device *device;
	struct svm_access *access;
	uint8_t *a;

	fixture_space(f, &units);
	device = fixture_open(f, "xe:memory=64M");
	a = fixture_alloc(f, BLOCK, 0);
	memset(a, 3, BLOCK);
	range.addr = a + 2 * PAGE;
	other.addr = a + 9 * PAGE;
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, NULL), 0);
	assert_int_equal(svm_host_acquire(f->space, other.addr, 64, SVM_ACCESS_WRITE, SVM_HOST_TRY),
			 -EBUSY);
	assert_int_equal(svm_host_acquire(f->space, a + UNIT, 64, SVM_ACCESS_WRITE, SVM_HOST_TRY),
			 0);
	assert_int_equal(svm_host_release(f->space, a + UNIT, 64, SVM_ACCESS_WRITE), 0);
	assert_int_equal(svm_release(access, NULL), 0);
	assert_int_equal(svm_host_acquire(f->space, other.addr, 64, SVM_ACCESS_WRITE, SVM_HOST_TRY),
			 0);
	assert_int_equal(svm_host_release(f->space, other.addr, 64, SVM_ACCESS_WRITE), 0);
	fixture_space_end(f);
}

static unsigned int count_on_host(struct svm_fixture *f, const void *addr)
{
	struct svm_page_residency pages[16];
	unsigned int n = 0;

	assert_int_equal(svm_residency_query(f->space, addr, UNIT, pages, 16, NULL), 0);
	for (unsigned int i = 0; i < 16; i++)
		n += (pages[i].flags & SVM_PAGE_HOST) != 0;
	return n;
}

/* Where policy moves as little as it can, and where others keep what they hold. */
static void a_touch_brings_the_unit(struct svm_fixture *f)
{
	struct svm_access_range range = { .size = UNIT, .access = SVM_ACCESS_READ };
	struct svm_advice advice = { .kind = SVM_ADVICE_PREFERRED_LOCATION };
	struct svm_device *device;
	struct svm_access *access;
	volatile uint8_t *a;

	fixture_space(f, &units);
	device = fixture_open(f, "xe:memory=64M");
	a = fixture_alloc(f, BLOCK, 0);
	memset((void *)a, 4, BLOCK);
	advice.location = svm_device_location(device);
	assert_int_equal(svm_advise(f->space, (void *)a, BLOCK, &advice, 1, NULL), 0);
	assert_int_equal(svm_device_fill(device, (void *)a, 5, BLOCK, NULL, NULL), 0);
	assert_int_equal(count_on_host(f, (void *)(a + UNIT)), 0);
	a[UNIT + 3 * PAGE] = 6;
	assert_int_equal(count_on_host(f, (void *)(a + UNIT)), 16);
	assert_int_equal(count_on_host(f, (void *)(a + 2 * UNIT)), 0);
	assert_int_equal(svm_device_copy(device, (void *)(a + 4 * UNIT), (void *)(a + UNIT), UNIT,
					 NULL, NULL),
			 0);
	assert_int_equal(a[4 * UNIT + 3 * PAGE], 6);
	assert_int_equal(
		svm_unadvise(f->space, (void *)a, BLOCK, 1u << SVM_ADVICE_PREFERRED_LOCATION), 0);

	assert_int_equal(svm_device_fill(device, (void *)a, 7, BLOCK, NULL, NULL), 0);
	advice = (struct svm_advice){ .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };
	assert_int_equal(svm_advise(f->space, (void *)a, BLOCK, &advice, 1, NULL), 0);
	range.addr = (void *)(a + 5 * UNIT);
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, NULL), 0);
	assert_int_equal(a[5 * UNIT + 2 * PAGE], 7);
	assert_int_equal(count_on_host(f, (void *)(a + 5 * UNIT)), 16);
	assert_int_equal(
		svm_device_copy(device, (void *)a, (void *)(a + 5 * UNIT), UNIT, NULL, NULL), 0);
	assert_int_equal(svm_release(access, NULL), 0);
	assert_int_equal(a[PAGE], 7);
	fixture_space_end(f);
}

static uint64_t pick_span(struct svm_fixture *f, uint64_t *ret_size)
{
	uint64_t most = fixture_pick(f, 4) == 0 ? SIZE / 2 : 3 * PAGE;
	uint64_t size = (fixture_pick(f, most / 4) + 1) * 4;
	uint64_t at = fixture_pick(f, (SIZE - size) / 4 + 1) * 4;

	*ret_size = size;
	return at;
}

/* Whatever is done, at whatever spans, against a flat array. */
static void no_byte_is_lost(struct svm_fixture *f)
{
	static uint8_t want[SIZE];
	struct svm_device *device;
	uint8_t *a;

	memset(want, 0, SIZE);
	fixture_space(f, &units);
	device = fixture_open(f, "xe:memory=4M");
	a = fixture_alloc(f, SIZE, 0);
	for (unsigned int i = 0; i < 400; i++) {
		const struct svm_location host = { SVM_LOCATION_HOST, 0 };
		struct svm_advice advice = { .kind = SVM_ADVICE_READ_MOSTLY, .value = i / 7 % 2 };
		uint8_t value = (uint8_t)fixture_random(f);
		uint64_t size;
		uint64_t at = pick_span(f, &size);
		uint64_t from;

		switch (fixture_pick(f, 8)) {
		case 0:
			memset(a + at, value, size);
			memset(want + at, value, size);
			break;
		case 1:
		case 2:
			assert_int_equal(svm_device_fill(device, a + at, value, size, NULL, NULL),
					 0);
			memset(want + at, value, size);
			break;
		case 3:
			size = size / 2 / 4 * 4 + 4;
			at = at / 2 / 4 * 4;
			from = SIZE / 2 + fixture_pick(f, (SIZE / 2 - size) / 4) * 4;
			if (at + size > from)
				break;
			assert_int_equal(
				svm_device_copy(device, a + at, a + from, size, NULL, NULL), 0);
			memcpy(want + at, want + from, size);
			break;
		case 4:
			(void)svm_prefetch(f->space, a + at, size, svm_device_location(device),
					   NULL);
			break;
		case 5:
			assert_int_equal(svm_prefetch(f->space, a + at, size, host, NULL), 0);
			break;
		case 6:
			assert_int_equal(svm_advise(f->space, a + at, size, &advice, 1, NULL), 0);
			break;
		default:
			if (memcmp(a + at, want + at, size) != 0)
				fail_msg("operation %u: wrong bytes in [%llx, %llx)", i,
					 (unsigned long long)at, (unsigned long long)(at + size));
		}
	}
	assert_memory_equal(a, want, SIZE);
	fixture_space_end(f);
}

static const struct svm_fixture_case cases[] = {
	FIXTURE_CASE(chunks_are_in_device_memory, FIXTURE_ONCE),
	FIXTURE_CASE(spans_are_whole_units, FIXTURE_ONCE),
	FIXTURE_CASE(a_hold_is_of_the_unit, FIXTURE_ONCE),
	FIXTURE_CASE(a_touch_brings_the_unit, FIXTURE_ONCE),
	FIXTURE_CASE(no_byte_is_lost, FIXTURE_ONCE),
};

int main(int argc, char **argv)
{
	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
