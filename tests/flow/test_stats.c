/* SPDX-License-Identifier: MIT */
/*
 * Shown here: counters and events say what happened, no more and no less; an idle space wakes nobody;
 * what the library keeps for itself is small beside what it manages, and flat over time.
 */
#include "process.h"
#include "fixture.h"
#include <sys/mman.h>

#define KIB  UINT64_C(1024)
#define MIB  (UINT64_C(1) << 20)
#define PAGE UINT64_C(4096)
#define HOST 0u

/* Events since the last look. */
struct seen {
	uint64_t cursor;
	size_t n;
	struct svm_event events[512];
};

static void look(struct svm_fixture *f, struct seen *seen)
{
	uint64_t lost = 99;
	int n = svm_events_read(f->space, &seen->cursor, seen->events, 512, &lost);

	assert_in_range(n, 0, 511);
	assert_int_equal(lost, 0);
	seen->n = (size_t)n;
}

static unsigned int count(const struct seen *seen, uint32_t kind)
{
	unsigned int n = 0;

	for (size_t i = 0; i < seen->n; i++)
		n += seen->events[i].kind == kind;
	return n;
}

/* Bytes of all events of a kind that went from one place to another: 0 the host, id + 1 a device. */
static uint64_t bytes(const struct seen *seen, uint32_t kind, uint32_t from, uint32_t to)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < seen->n; i++)
		if (seen->events[i].kind == kind && seen->events[i].from == from &&
		    seen->events[i].to == to)
			sum += seen->events[i].size;
	return sum;
}

static const struct svm_event *first(const struct seen *seen, uint32_t kind)
{
	for (size_t i = 0; i < seen->n; i++)
		if (seen->events[i].kind == kind)
			return &seen->events[i];
	fail_msg("no event of kind %u", kind);
	return NULL;
}

static void faults_and_moves(struct svm_fixture *f)
{
	static struct seen seen;
	struct svm_location host = { SVM_LOCATION_HOST, 0 };
	struct svm_device *device;
	struct svm_stats a;
	struct svm_stats b;
	uint8_t *data;

	memset(&seen, 0, sizeof(seen));
	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	data = fixture_alloc(f, 4 * MIB, 0);
	look(f, &seen);

	/* First touch of each block by the CPU. */
	a = fixture_stats(f);
	fixture_fill(data, 4 * MIB, 1);
	b = fixture_stats(f);
	look(f, &seen);
	assert_int_equal(b.bytes_populated - a.bytes_populated, 4 * MIB);
	assert_true(b.cpu_faults - a.cpu_faults >= 2);
	assert_int_equal(b.cpu_faults - a.cpu_faults, count(&seen, SVM_EVENT_CPU_FAULT));
	assert_int_equal(bytes(&seen, SVM_EVENT_POPULATE, HOST, HOST), 4 * MIB);
	assert_int_equal(first(&seen, SVM_EVENT_CPU_FAULT)->addr, (uint64_t)(uintptr_t)data);
	assert_int_equal(first(&seen, SVM_EVENT_CPU_FAULT)->value, 1);
	assert_int_equal(b.bytes_host_to_device, a.bytes_host_to_device);
	assert_int_equal(b.device_faults, 0);

	/* The device reads all of it: a fault a block at most, and all bytes move once. */
	a = b;
	fixture_check_on(f, device, data, 4 * MIB, 1);
	b = fixture_stats(f);
	look(f, &seen);
	assert_int_equal(b.bytes_host_to_device - a.bytes_host_to_device, 4 * MIB);
	assert_int_equal(b.bytes_device_to_host, a.bytes_device_to_host);
	assert_int_equal(b.bytes_populated, a.bytes_populated);
	assert_int_equal(b.pages_migrated - a.pages_migrated, 1024);
	assert_int_equal(b.device_faults - a.device_faults, count(&seen, SVM_EVENT_DEVICE_FAULT));
	assert_true(b.device_faults - a.device_faults >= 2);
	assert_int_equal(bytes(&seen, SVM_EVENT_MIGRATE, HOST, svm_device_id(device) + 1), 4 * MIB);
	assert_int_equal(first(&seen, SVM_EVENT_DEVICE_FAULT)->device, svm_device_id(device));
	assert_int_equal(first(&seen, SVM_EVENT_DEVICE_FAULT)->value, 0);
	assert_true(b.binds > a.binds);

	/* And home again. */
	a = b;
	fixture_check(data, 4 * MIB, 1);
	b = fixture_stats(f);
	look(f, &seen);
	assert_int_equal(b.bytes_device_to_host - a.bytes_device_to_host, 4 * MIB);
	assert_int_equal(b.bytes_host_to_device, a.bytes_host_to_device);
	assert_int_equal(bytes(&seen, SVM_EVENT_MIGRATE, svm_device_id(device) + 1, HOST), 4 * MIB);

	/* Resident memory is plain memory. (A touch goes on before the end of the transition that served it is
	 * counted: something that queues behind it waits for that.) */
	assert_int_equal(svm_prefetch(f->space, data, 4 * MIB, host, NULL), 0);
	a = fixture_stats(f);
	fixture_check(data, 4 * MIB, 1);
	fixture_fill(data, 4 * MIB, 2);
	b = fixture_stats(f);
	look(f, &seen);
	assert_int_equal(b.cpu_faults, a.cpu_faults);
	assert_int_equal(b.transitions, a.transitions);
	assert_int_equal(seen.n, 0);
}

static void prefetch_counts_itself(struct svm_fixture *f)
{
	static struct seen seen;
	struct svm_prefetch_result result;
	struct svm_device *device;
	struct svm_stats a;
	struct svm_stats b;
	uint8_t *data;

	memset(&seen, 0, sizeof(seen));
	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	data = fixture_alloc(f, 4 * MIB, 0);
	fixture_fill(data, 2 * MIB, 1);
	look(f, &seen);
	a = fixture_stats(f);
	assert_int_equal(
		svm_prefetch(f->space, data, 4 * MIB, svm_device_location(device), &result), 0);
	b = fixture_stats(f);
	look(f, &seen);
	assert_int_equal(result.bytes_moved, 4 * MIB);
	assert_int_equal(b.bytes_host_to_device - a.bytes_host_to_device, 2 * MIB);
	assert_int_equal(b.bytes_populated - a.bytes_populated, 2 * MIB);
	assert_int_equal(b.device_faults, a.device_faults);
	assert_int_equal(b.cpu_faults, a.cpu_faults);
	assert_int_equal(bytes(&seen, SVM_EVENT_POPULATE, svm_device_id(device) + 1,
			       svm_device_id(device) + 1),
			 2 * MIB);
	a = b;
	assert_int_equal(
		svm_prefetch(f->space, data, 4 * MIB, svm_device_location(device), &result), 0);
	b = fixture_stats(f);
	look(f, &seen);
	assert_int_equal(result.already_there, 4 * MIB);
	assert_int_equal(b.bytes_host_to_device, a.bytes_host_to_device);
	assert_int_equal(seen.n, 0);
}

static void duplicates_and_their_end(struct svm_fixture *f)
{
	static struct seen seen;
	struct svm_advice read_mostly = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };
	struct svm_device *device;
	struct svm_stats a;
	struct svm_stats b;
	uint8_t *data;

	memset(&seen, 0, sizeof(seen));
	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	data = fixture_alloc(f, 2 * MIB, 0);
	fixture_fill(data, 2 * MIB, 1);
	assert_int_equal(svm_advise(f->space, data, 2 * MIB, &read_mostly, 1, NULL), 0);
	look(f, &seen);
	a = fixture_stats(f);
	fixture_check_on(f, device, data, 2 * MIB, 1);
	b = fixture_stats(f);
	look(f, &seen);
	assert_int_equal(b.pages_duplicated - a.pages_duplicated, 512);
	assert_int_equal(b.pages_migrated, a.pages_migrated);
	assert_int_equal(bytes(&seen, SVM_EVENT_DUPLICATE, HOST, svm_device_id(device) + 1),
			 2 * MIB);
	a = b;
	data[0] = (uint8_t)(data[0] + 1);
	b = fixture_stats(f);
	assert_true(b.pages_invalidated > a.pages_invalidated);
	assert_true(b.pages_invalidated - a.pages_invalidated <= 512);
	assert_int_equal(b.bytes_device_to_host, a.bytes_device_to_host);
}

static void eviction_counts(struct svm_fixture *f)
{
	static struct seen seen;
	struct svm_device *device;
	struct svm_stats a;
	struct svm_stats b;
	uint8_t *data;

	memset(&seen, 0, sizeof(seen));
	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=4M");
	data = fixture_alloc(f, 8 * MIB, 0);
	fixture_fill(data, 8 * MIB, 1);
	look(f, &seen);
	a = fixture_stats(f);
	fixture_check_on(f, device, data, 8 * MIB, 1);
	b = fixture_stats(f);
	look(f, &seen);
	/* Two blocks of four fit; each of the others sends one home. */
	assert_int_equal(b.pages_evicted - a.pages_evicted, 1024);
	assert_int_equal(bytes(&seen, SVM_EVENT_EVICT, svm_device_id(device) + 1, HOST), 4 * MIB);
	assert_int_equal(b.bytes_host_to_device - a.bytes_host_to_device, 8 * MIB);
	assert_int_equal(b.bytes_device_to_host - a.bytes_device_to_host, 4 * MIB);
}

static void loss_and_poison(struct svm_fixture *f)
{
	static struct seen seen;
	struct svm_device *device;
	struct svm_stats a;
	struct svm_stats b;
	uint8_t value;
	uint8_t *data;
	uint64_t poisoned = 0;

	memset(&seen, 0, sizeof(seen));
	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	data = fixture_alloc(f, 4 * MIB, 0);
	fixture_fill_on(f, device, data, 4 * MIB, 1);
	look(f, &seen);
	a = fixture_stats(f);
	fixture_kill(f, device);
	touch_install();
	for (uint64_t at = 0; at < 4 * MIB; at += MIB)
		assert_int_equal(touch_read(data + at, &value), fixture_loss_signal(f));
	touch_remove();
	b = fixture_stats(f);
	look(f, &seen);
	assert_int_equal(b.pages_poisoned - a.pages_poisoned, 1024);
	assert_int_equal(count(&seen, SVM_EVENT_DEVICE_LOST), 1);
	assert_int_equal(first(&seen, SVM_EVENT_DEVICE_LOST)->device, svm_device_id(device));
	for (size_t i = 0; i < seen.n; i++)
		if (seen.events[i].kind == SVM_EVENT_POISON) {
			poisoned += seen.events[i].size;
			assert_int_equal(seen.events[i].device, svm_device_id(device));
		}
	assert_int_equal(poisoned, 4 * MIB);
}

static void conversion_counts(struct svm_fixture *f)
{
	static struct seen seen;
	struct svm_location host = { SVM_LOCATION_HOST, 0 };
	struct svm_advice advice = { .kind = SVM_ADVICE_PREFERRED_LOCATION, .location = host };
	struct svm_device *device;
	struct svm_stats a;
	struct svm_stats b;
	uint8_t *data;

	memset(&seen, 0, sizeof(seen));
	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	data = fixture_alloc(f, 4 * MIB, 0);
	fixture_fill(data, 4 * MIB, 1);
	assert_int_equal(svm_advise(f->space, data, 4 * MIB, &advice, 1, NULL), 0);
	look(f, &seen);
	a = fixture_stats(f);
	fixture_check_on(f, device, data, 4 * MIB, 1);
	b = fixture_stats(f);
	look(f, &seen);
	assert_int_equal(b.blocks_converted - a.blocks_converted, 2);
	assert_int_equal(count(&seen, SVM_EVENT_CONVERT), 2);
	assert_int_equal(b.bytes_host_to_device, a.bytes_host_to_device);
	fixture_assert_at(f, data, 4 * MIB, 0, true);
}

/* A reader that falls behind is told how much it missed, and continues in order. */
static void events_lost(struct svm_fixture *f)
{
	static struct svm_event events[256];
	struct svm_location device_at;
	struct svm_location host = { SVM_LOCATION_HOST, 0 };
	uint64_t cursor = 0;
	uint64_t lost = 0;
	uint64_t lost_now;
	uint64_t n = 0;
	uint64_t last = 0;
	uint64_t other = 0;
	uint8_t *data;
	int got;

	fixture_space(f, NULL);
	device_at = svm_device_location(fixture_open(f, "soft:memory=4M"));
	data = fixture_alloc(f, PAGE, 0);
	data[0] = 1;
	for (unsigned int i = 0; i < 4000; i++) {
		assert_int_equal(svm_prefetch(f->space, data, PAGE, device_at, NULL), 0);
		assert_int_equal(svm_prefetch(f->space, data, PAGE, host, NULL), 0);
	}
	while ((got = svm_events_read(f->space, &cursor, events, 256, &lost_now)) > 0) {
		lost += lost_now;
		n += (uint64_t)got;
		for (int i = 0; i < got; i++) {
			assert_true(events[i].time_ns >= last);
			last = events[i].time_ns;
		}
	}
	assert_int_equal(got, 0);
	/* Nothing vanishes untold: two moves a round, and the first touch with its fault. */
	assert_true(lost > 0);
	assert_int_equal(n + lost, 8002);
	/* A second reader of the same space sees the same. */
	got = svm_events_read(f->space, &other, events, 256, &lost_now);
	assert_int_equal(got, 256);
	assert_int_equal(lost_now, lost);
}

static void idle_is_asleep(struct svm_fixture *f)
{
	struct svm_fence *never;
	struct svm_device *device;
	struct svm_stats a;
	struct svm_stats b;
	uint8_t *data;

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=8M");
	data = fixture_alloc(f, 4 * MIB, 0);
	fixture_fill(data, 4 * MIB, 1);
	fixture_check_on(f, device, data, 4 * MIB, 1);
	assert_int_equal(svm_fence_create(f->space, &never), 0);
	/* What was under way comes to rest; then nothing happens for as long as nobody asks. */
	assert_int_equal(svm_fence_wait(never, INT64_C(100000000)), -ETIMEDOUT);
	a = fixture_stats(f);
	assert_int_equal(svm_fence_wait(never, INT64_C(300000000)), -ETIMEDOUT);
	b = fixture_stats(f);
	assert_int_equal(b.wakeups, a.wakeups);
	assert_memory_equal(&a, &b, sizeof(a));
	svm_fence_unref(never);
}

static void metadata_is_small(struct svm_fixture *f)
{
	const uint64_t size = 256 * MIB;
	struct svm_device *device;
	struct svm_stats empty;
	struct svm_stats touched;
	struct svm_stats moved;
	uint8_t *data;

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=512M");
	/* What the library takes once, whatever the size. */
	data = fixture_alloc(f, 4 * MIB, 0);
	fixture_fill(data, 4 * MIB, 1);
	fixture_check_on(f, device, data, 4 * MIB, 1);
	fixture_check(data, 4 * MIB, 1);
	empty = fixture_stats(f);
	data = fixture_alloc(f, size, 0);
	for (uint64_t at = 0; at < size; at += PAGE)
		data[at] = (uint8_t)(at >> 12);
	touched = fixture_stats(f);
	assert_int_equal(svm_prefetch(f->space, data, size, svm_device_location(device), NULL), 0);
	moved = fixture_stats(f);
	print_message("metadata: %.4f%% of managed bytes on the host, %.4f%% on a device\n",
		      100.0 * (double)(touched.metadata_bytes - empty.metadata_bytes) /
			      (double)size,
		      100.0 * (double)(moved.metadata_bytes - empty.metadata_bytes) / (double)size);
	assert_true(moved.metadata_bytes - empty.metadata_bytes <= size / 1000);
	/* Addresses that nobody touched cost nothing to speak of. */
	empty = fixture_stats(f);
	fixture_alloc(f, UINT64_C(64) << 30, 0);
	assert_true(fixture_stats(f).metadata_bytes - empty.metadata_bytes <= 64 * KIB);
}

/* What was used once is used again: the same work over and over takes no more. */
static void metadata_is_flat(struct svm_fixture *f)
{
	struct svm_location host = { SVM_LOCATION_HOST, 0 };
	struct svm_device *device;
	uint64_t warm = 0;

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=4M");
	for (unsigned int round = 0; round < 25; round++) {
		uint8_t *data = fixture_alloc(f, 6 * MIB, 0);
		uint8_t *small = fixture_alloc(f, 3 * PAGE, 0);
		struct svm_fence *fence;

		fixture_fill(data, 6 * MIB, round);
		fixture_fill(small, 3 * PAGE, round);
		fixture_check_on(f, device, data, 6 * MIB, round);
		fixture_check_on(f, device, small, 3 * PAGE, round);
		assert_int_equal(svm_pin(f->space, small, PAGE, host), 0);
		assert_int_equal(svm_unpin(f->space, small, PAGE, host), 0);
		assert_int_equal(svm_fence_create(f->space, &fence), 0);
		svm_fence_unref(fence);
		fixture_free(f, data);
		fixture_free(f, small);
		if (round == 4)
			warm = fixture_stats(f).metadata_bytes;
	}
	assert_true(fixture_stats(f).metadata_bytes <= warm + 64 * KIB);
}

static void host_cache_is_counted_and_bounded(struct svm_fixture *f)
{
	struct svm_space_options options = { .size = sizeof(options), .host_cache_size = 4 * MIB };
	struct svm_device *device;
	uint8_t *data;

	fixture_space(f, &options);
	device = fixture_open(f, "soft:memory=32M");
	data = fixture_alloc(f, 16 * MIB, 0);
	fixture_fill(data, 16 * MIB, 1);
	assert_int_equal(fixture_stats(f).host_cache_bytes, 0);
	fixture_fill_on(f, device, data, 16 * MIB, 2);
	assert_in_range(fixture_stats(f).host_cache_bytes, 2 * MIB, 4 * MIB);
	fixture_check(data, 16 * MIB, 2);
	assert_int_equal(fixture_stats(f).host_cache_bytes, 0);
	fixture_fill_on(f, device, data, 16 * MIB, 3);
	fixture_free(f, data);
	assert_int_equal(fixture_stats(f).host_cache_bytes, 0);
}

static void host_cache_can_be_off(struct svm_fixture *f)
{
	struct svm_space_options options = { .size = sizeof(options),
					     .host_cache_size = UINT64_MAX };
	struct svm_device *device;
	uint8_t *data;

	fixture_space(f, &options);
	device = fixture_open(f, "soft:memory=32M");
	data = fixture_alloc(f, 8 * MIB, 0);
	fixture_fill(data, 8 * MIB, 1);
	fixture_check_on(f, device, data, 8 * MIB, 1);
	assert_int_equal(fixture_stats(f).host_cache_bytes, 0);
	fixture_check(data, 8 * MIB, 1);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(faults_and_moves, FIXTURE_VARIANTS | FIXTURE_EXACT),
		FIXTURE_CASE(prefetch_counts_itself, FIXTURE_VARIANTS),
		FIXTURE_CASE(duplicates_and_their_end, FIXTURE_ONCE),
		FIXTURE_CASE(eviction_counts, FIXTURE_ONCE),
		FIXTURE_CASE(loss_and_poison, FIXTURE_ONCE),
		FIXTURE_CASE(conversion_counts, FIXTURE_ONCE | FIXTURE_EXACT),
		FIXTURE_CASE(events_lost, FIXTURE_ONCE),
		FIXTURE_CASE(idle_is_asleep, FIXTURE_VARIANTS),
		FIXTURE_CASE(metadata_is_small, FIXTURE_ONCE),
		FIXTURE_CASE(metadata_is_flat, FIXTURE_VARIANTS),
		FIXTURE_CASE(host_cache_is_counted_and_bounded, FIXTURE_ONCE),
		FIXTURE_CASE(host_cache_can_be_off, FIXTURE_ONCE),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
