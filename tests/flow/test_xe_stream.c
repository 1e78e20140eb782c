// SPDX-License-Identifier: MIT
/*
 * What streams cost on an emulated device: ioctls per block and batches under way, as the emulator counts them. Run by
 * emu_launch, with jobs slow enough that the next batch is always ready before the last one ends.
 */
#include "fixture.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define BLOCK FIXTURE_BLOCK
#define SIZE  (UINT64_C(1) << 30)
/* An emulated batch waits; the time is not what is measured. */
#define SECONDS 120

/* tests/emu/emu_ctl.h; there only under the emulator. */
static struct {
	uint64_t (*ioctls)(int device, int nr);
	uint64_t (*most_jobs)(int device);
} emu;

/* A word per page, so that the test does not take its time with bytes. */
static void mark(uint8_t *data, uint64_t seed)
{
	for (uint64_t at = 0; at < SIZE; at += FIXTURE_PAGE)
		*(uint64_t *)(data + at) = fixture_word(seed, at);
}

static void check_marks(const uint8_t *data, uint64_t seed)
{
	for (uint64_t at = 0; at < SIZE; at += FIXTURE_PAGE)
		if (*(const uint64_t *)(data + at) != fixture_word(seed, at))
			fail_msg("page %llu is wrong", (unsigned long long)(at / FIXTURE_PAGE));
}

static uint64_t count_prefetch(struct svm_fixture *f, uint8_t *data, struct svm_location to)
{
	struct svm_prefetch_result result;
	uint64_t before = emu.ioctls(0, -1);

	assert_int_equal(svm_prefetch(f->space, data, SIZE, to, &result), 0);
	assert_int_equal(result.bytes_moved, SIZE);
	return emu.ioctls(0, -1) - before;
}

static void a_gigabyte_takes_few_ioctls(struct svm_fixture *f)
{
	struct svm_location host = { .kind = SVM_LOCATION_HOST };
	const uint64_t n_blocks = SIZE / BLOCK;
	struct svm_device *device;
	uint8_t *data;
	uint64_t there;
	uint64_t home;

	fixture_watchdog(SECONDS);
	fixture_space(f, NULL);
	device = fixture_open(f, "xe:memory=1G");
	data = fixture_alloc(f, SIZE, 0);
	mark(data, 1);
	there = count_prefetch(f, data, svm_device_location(device));
	home = count_prefetch(f, data, host);
	check_marks(data, 1);
	print_message("per block of 2 MiB: %.2f ioctls there, %.2f home; %llu batches under way\n",
		      (double)there / (double)n_blocks, (double)home / (double)n_blocks,
		      (unsigned long long)emu.most_jobs(0));
	assert_true(there <= 3 * n_blocks);
	assert_true(home <= 3 * n_blocks);
	assert_int_equal(emu.most_jobs(0), 2);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(a_gigabyte_takes_few_ioctls, FIXTURE_ONCE),
	};

	*(void **)&emu.ioctls = dlsym(RTLD_DEFAULT, "emu_ctl_ioctls");
	*(void **)&emu.most_jobs = dlsym(RTLD_DEFAULT, "emu_ctl_most_jobs");
	if (!emu.ioctls || !emu.most_jobs) {
		(void)fputs("not under the emulator: run by emu_launch\n", stderr);
		return 77;
	}
	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
