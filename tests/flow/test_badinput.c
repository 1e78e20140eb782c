/* SPDX-License-Identifier: MIT */
/*
 * Shown here: every public call refuses bad arguments with the documented errno, writes none of its
 * outputs, changes nothing and leaks nothing. Calls in a forked child are in test_fork.c.
 */
#include "process.h"
#include "fixture.h"
#include <sys/eventfd.h>
#include <sys/mman.h>

#define KIB	UINT64_C(1024)
#define MIB	(UINT64_C(1) << 20)
#define PAGE	SVM_PAGE_SIZE
#define N_PAGES 512u

/* Looks like a pointer that nobody returned. */
#define UNTOUCHED ((void *)(uintptr_t)0x5afe5afe)

struct memory {
	struct svm_space *space;
	struct svm_device *device; /* with faults */
	struct svm_device *fatal;  /* without: its accesses are held */
	uint8_t *data;		   /* 2 MiB: host, device, duplicated and untouched pages */
	uint8_t *small;		   /* three pages */
	uint8_t *hole;		   /* freed: between two allocations of one block */
	uint8_t *after;
	uint8_t *registered; /* 64 KiB */
};

/* What a refused call must leave as it was. */
struct snapshot {
	struct svm_page_residency data[N_PAGES];
	struct svm_page_residency small[3];
	struct svm_page_residency registered[16];
	uint64_t generation;
	struct svm_stats stats;
	struct svm_space_info space;
	struct svm_device_info devices[2];
	struct svm_pointer_info pointers[3];
	struct svm_advice_info advice[2];
	unsigned int fds;
};

static void snapshot(const struct memory *f, struct snapshot *s)
{
	memset(s, 0, sizeof(*s));
	assert_int_equal(svm_residency_query(f->space, f->data, 2 * MIB, s->data, N_PAGES,
					     &s->generation),
			 0);
	assert_int_equal(svm_residency_query(f->space, f->small, 3 * PAGE, s->small, 3, NULL), 0);
	assert_int_equal(
		svm_residency_query(f->space, f->registered, 64 * KIB, s->registered, 16, NULL), 0);
	s->stats.size = sizeof(s->stats);
	assert_int_equal(svm_stats_query(f->space, &s->stats), 0);
	/* Threads wake up as they like. */
	s->stats.wakeups = 0;
	s->stats.spins_hit = 0;
	s->space.size = sizeof(s->space);
	assert_int_equal(svm_space_query(f->space, &s->space), 0);
	s->devices[0].size = sizeof(s->devices[0]);
	s->devices[1].size = sizeof(s->devices[1]);
	assert_int_equal(svm_device_query(f->device, &s->devices[0]), 0);
	assert_int_equal(svm_device_query(f->fatal, &s->devices[1]), 0);
	for (unsigned int i = 0; i < 3; i++) {
		const void *addr[] = { f->data, f->small, f->registered };

		s->pointers[i].size = sizeof(s->pointers[i]);
		assert_int_equal(svm_pointer_query(f->space, addr[i], &s->pointers[i]), 0);
	}
	s->advice[0].size = sizeof(s->advice[0]);
	s->advice[1].size = sizeof(s->advice[1]);
	assert_int_equal(svm_advice_query(f->space, f->data, 2 * MIB, &s->advice[0]), 0);
	assert_int_equal(svm_advice_query(f->space, f->small, 3 * PAGE, &s->advice[1]), 0);
	s->fds = count_entries("/proc/self/fd");
}

static struct snapshot before;

/* What is different from before; NULL: nothing. */
static const char *first_change(const struct snapshot *after)
{
	static const struct {
		const char *name;
		size_t start;
	} parts[] = {
		{ "pages of the large allocation", offsetof(struct snapshot, data) },
		{ "pages of the small allocation", offsetof(struct snapshot, small) },
		{ "pages of registered memory", offsetof(struct snapshot, registered) },
		{ "the generation", offsetof(struct snapshot, generation) },
		{ "statistics", offsetof(struct snapshot, stats) },
		{ "the space", offsetof(struct snapshot, space) },
		{ "devices", offsetof(struct snapshot, devices) },
		{ "pointers", offsetof(struct snapshot, pointers) },
		{ "advice", offsetof(struct snapshot, advice) },
		{ "open files", offsetof(struct snapshot, fds) },
	};
	const char *a = (const char *)&before;
	const char *b = (const char *)after;
	const char *found = NULL;
	size_t at = 0;

	/* Padding is zero in both. */
	while (at < sizeof(before) && a[at] == b[at])
		at++;
	for (size_t i = 0; at < sizeof(before) && i < sizeof(parts) / sizeof(parts[0]); i++)
		if (at >= parts[i].start)
			found = parts[i].name;
	return found;
}

static void assert_refused(const struct memory *f, int ret, int error, const char *call, int line)
{
	struct snapshot after;
	const char *what;

	if (ret != -error)
		fail_msg("line %d: %s: returns %d, not %d", line, call, ret, -error);
	snapshot(f, &after);
	/* Counted memory grows by pool pages that the very first refusal of a kind may take; no more. */
	if (after.stats.metadata_bytes > before.stats.metadata_bytes + 256 * KIB)
		fail_msg("line %d: %s: takes memory", line, call);
	after.stats.metadata_bytes = before.stats.metadata_bytes;
	if (memcmp(&before.stats, &after.stats, sizeof(after.stats)) != 0)
		fail_msg("line %d: %s: something was done", line, call);
	after.stats = before.stats;
	what = first_change(&after);
	if (what)
		fail_msg("line %d: %s: changes what is told of %s", line, call, what);
}

#define refused(f, error, call)                                             \
	do {                                                                \
		int refused_ret;                                            \
		snapshot((f), &before);                                     \
		refused_ret = (call);                                       \
		assert_refused((f), refused_ret, (error), #call, __LINE__); \
	} while (0)

static struct svm_location host(void)
{
	return (struct svm_location){ SVM_LOCATION_HOST, 0 };
}

static void kernel_nothing(const void *args, uint64_t index, uint64_t count)
{
	(void)args;
	(void)index;
	(void)count;
}

/* Memory in all states that calls may meet. */
static struct memory *begin(struct svm_fixture *fixture)
{
	static struct memory f;
	struct svm_advice read_mostly = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };

	f.space = fixture_space(fixture, NULL);
	f.device = fixture_open(fixture, "soft:memory=8M");
	f.fatal = fixture_open(fixture, "soft:memory=8M:faults=off");
	f.data = fixture_alloc(fixture, 2 * MIB, 0);
	f.small = fixture_alloc(fixture, 3 * PAGE, 0);
	f.hole = fixture_alloc(fixture, 2 * PAGE, 0);
	f.after = fixture_alloc(fixture, 2 * PAGE, 0);
	fixture_free(fixture, f.hole);
	f.registered =
		mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(f.registered, MAP_FAILED);
	memset(f.registered, 7, 64 * KIB);
	assert_int_equal(svm_register(f.space, f.registered, 64 * KIB, 0), 0);

	memset(f.data, 1, MIB);
	memset(f.small, 2, (size_t)3 * PAGE);
	assert_int_equal(svm_advise(f.space, f.data, 256 * KIB, &read_mostly, 1, NULL), 0);
	assert_int_equal(
		svm_prefetch(f.space, f.data, 512 * KIB, svm_device_location(f.device), NULL), 0);
	return &f;
}

/* What was in it still is; leaks are the fixture's business. */
static void end(struct memory *f)
{
	for (unsigned int i = 0; i < MIB; i++)
		assert_int_equal(f->data[i], 1);
	for (unsigned int i = 0; i < 3 * PAGE; i++)
		assert_int_equal(f->small[i], 2);
	assert_int_equal(svm_unregister(f->space, f->registered, 64 * KIB), 0);
	for (unsigned int i = 0; i < 64 * KIB; i++)
		assert_int_equal(f->registered[i], 7);
	munmap(f->registered, 64 * KIB);
}

/* ---- Spaces ----------------------------------------------------------------------------------- */

static void create_refused(const struct svm_space_options *options, int error)
{
	struct svm_space *space = UNTOUCHED;
	unsigned int fds = count_entries("/proc/self/fd");
	unsigned int threads = count_entries("/proc/self/task");
	int ret = svm_space_create(options, &space);

	if (ret != -error)
		fail_msg("svm_space_create: %d, not %d", ret, -error);
	assert_ptr_equal(space, UNTOUCHED);
	assert_int_equal(count_entries("/proc/self/fd"), fds);
	/* One that was joined may still be on its way out. */
	for (unsigned int i = 0; i < 10000 && count_entries("/proc/self/task") > threads; i++)
		(void)poll(NULL, 0, 1);
	assert_in_range(count_entries("/proc/self/task"), 0, threads);
}

static void space_options(struct svm_fixture *fixture)
{
	const struct svm_space_options good = { .size = sizeof(good) };
	struct svm_space_options o = good;
	void *map;

	(void)fixture;
	assert_int_equal(svm_space_create(NULL, NULL), -EINVAL);
	o.size = 0;
	create_refused(&o, EINVAL);
	o.size = sizeof(o) - 8;
	create_refused(&o, EINVAL);
	o.size = sizeof(o) + 8;
	create_refused(&o, EINVAL);
	o = good;
	o.flags = 1u << 31;
	create_refused(&o, EINVAL);
	o.flags = 1u << 31;
	create_refused(&o, EINVAL);
	o = good;
	o.loop = SVM_LOOP_IO_URING + 1;
	create_refused(&o, EINVAL);
	o = good;
	o.n_threads = 17;
	create_refused(&o, EINVAL);
	o = good;
	o.service_cpu = -1;
	create_refused(&o, EINVAL);
	o.service_cpu = 1 << 20; /* no machine has it */
	create_refused(&o, EINVAL);
	o = good;
	o.log_level = SVM_LOG_DEBUG + 1;
	create_refused(&o, EINVAL);
	o = good;
	o.reserved = 1;
	create_refused(&o, EINVAL);
	o = good;
	o.window_size = 2 * MIB + PAGE;
	create_refused(&o, EINVAL);
	o.window_size = UINT64_C(1) << 62;
	create_refused(&o, EINVAL);
	o.window_size = UINT64_MAX - 2 * MIB + 1;
	create_refused(&o, EINVAL);
	o = good;
	o.window_base = PAGE;
	create_refused(&o, EINVAL);
	o.window_base = UINT64_C(1) << 47;
	create_refused(&o, EINVAL);
	o.window_base = (UINT64_C(1) << 47) - 2 * MIB;
	o.window_size = 4 * MIB;
	create_refused(&o, EINVAL);

	map = mmap(NULL, 8 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	o.window_base = ((uint64_t)(uintptr_t)map + 2 * MIB) & ~(2 * MIB - 1);
	o.window_size = 4 * MIB;
	create_refused(&o, EEXIST);
	munmap(map, 8 * MIB);
}

static void space_calls(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	struct svm_space_info info = { .size = 0 };
	struct svm_stats stats = { .size = sizeof(stats) + 1 };
	struct svm_event event;
	uint64_t cursor = 77;

	refused(f, EINVAL, svm_space_query(f->space, &info));
	info.size = sizeof(info) + 1;
	refused(f, EINVAL, svm_space_query(f->space, &info));
	assert_int_equal(info.window_size, 0);
	refused(f, EINVAL, svm_space_query(f->space, NULL));
	info.size = sizeof(info);
	refused(f, EINVAL, svm_space_query(NULL, &info));
	refused(f, EINVAL, svm_stats_query(f->space, &stats));
	refused(f, EINVAL, svm_stats_query(f->space, NULL));
	stats.size = sizeof(stats);
	refused(f, EINVAL, svm_stats_query(NULL, &stats));
	refused(f, EINVAL, svm_events_read(f->space, NULL, &event, 1, NULL));
	refused(f, EINVAL, svm_events_read(f->space, &cursor, NULL, 1, NULL));
	refused(f, EINVAL, svm_events_read(f->space, &cursor, &event, 0, NULL));
	refused(f, EINVAL, svm_events_read(NULL, &cursor, &event, 1, NULL));
	assert_int_equal(cursor, 77);
	assert_int_equal(svm_space_destroy(NULL), 0);
	end(f);
}

/* ---- Memory ----------------------------------------------------------------------------------- */

static void alloc_and_free(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	void *addr = UNTOUCHED;
	void *again;
	int on_stack;

	refused(f, EINVAL, svm_alloc(f->space, 0, 0, &addr));
	refused(f, EINVAL, svm_alloc(f->space, PAGE, 2, &addr));
	refused(f, EINVAL, svm_alloc(f->space, PAGE, 1u << 31, &addr));
	refused(f, EINVAL, svm_alloc(f->space, PAGE, 0, NULL));
	refused(f, EINVAL, svm_alloc(NULL, PAGE, 0, &addr));
	refused(f, ERANGE, svm_alloc(f->space, UINT64_C(1) << 45, 0, &addr));
	refused(f, ERANGE, svm_alloc(f->space, UINT64_MAX, 0, &addr));
	refused(f, ERANGE, svm_alloc(f->space, UINT64_MAX - PAGE + 2, SVM_ALLOC_SHARED, &addr));
	assert_ptr_equal(addr, UNTOUCHED);

	assert_int_equal(svm_free(f->space, NULL), 0);
	refused(f, EINVAL, svm_free(NULL, f->data));
	refused(f, ENOENT, svm_free(f->space, f->data + PAGE));
	refused(f, ENOENT, svm_free(f->space, f->data + 1));
	refused(f, ENOENT, svm_free(f->space, f->small + PAGE));
	refused(f, ENOENT, svm_free(f->space, f->hole));
	refused(f, ENOENT, svm_free(f->space, f->registered));
	refused(f, ENOENT, svm_free(f->space, &on_stack));
	refused(f, ENOENT, svm_free(f->space, (void *)UINTPTR_MAX));
	refused(f, ENOENT, svm_free(f->space, (void *)(uintptr_t)1));

	assert_int_equal(svm_alloc(f->space, 5 * MIB, 0, &again), 0);
	memset(again, 9, 5 * MIB);
	assert_int_equal(svm_free(f->space, again), 0);
	refused(f, ENOENT, svm_free(f->space, again));
	assert_int_equal(svm_alloc(f->space, PAGE, SVM_ALLOC_SHARED, &again), 0);
	assert_int_equal(svm_free(f->space, again), 0);
	refused(f, ENOENT, svm_free(f->space, again));
	end(f);
}

static void held_is_busy(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	struct svm_access_range range = { .addr = f->small,
					  .size = PAGE,
					  .access = SVM_ACCESS_READ };
	struct svm_access *access;

	assert_int_equal(svm_pin(f->space, f->small + PAGE, PAGE, host()), 0);
	refused(f, EBUSY, svm_free(f->space, f->small));
	refused(f, EBUSY, svm_discard(f->space, f->small, 2 * PAGE, 0));
	refused(f, EBUSY, svm_discard(f->space, f->small, 2 * PAGE, SVM_DISCARD_LAZY));
	refused(f, EBUSY, svm_space_destroy(f->space));
	assert_int_equal(svm_unpin(f->space, f->small + PAGE, PAGE, host()), 0);

	assert_int_equal(svm_host_acquire(f->space, f->small, PAGE, SVM_ACCESS_READ, 0), 0);
	refused(f, EBUSY, svm_free(f->space, f->small));
	refused(f, EBUSY, svm_space_destroy(f->space));
	assert_int_equal(svm_host_release(f->space, f->small, PAGE, SVM_ACCESS_READ), 0);

	assert_int_equal(svm_acquire(f->fatal, &range, 1, 0, &access, NULL), 0);
	refused(f, EBUSY, svm_free(f->space, f->small));
	refused(f, EBUSY, svm_discard(f->space, f->small, PAGE, 0));
	refused(f, EBUSY, svm_device_close(f->fatal));
	refused(f, EBUSY, svm_space_destroy(f->space));
	assert_int_equal(svm_release(access, NULL), 0);

	assert_int_equal(svm_pin(f->space, f->registered, PAGE, host()), 0);
	refused(f, EBUSY, svm_unregister(f->space, f->registered, 64 * KIB));
	assert_int_equal(svm_unpin(f->space, f->registered, PAGE, host()), 0);
	assert_int_equal(svm_pin(f->space, f->small, PAGE, svm_device_location(f->device)), 0);
	refused(f, EBUSY, svm_device_close(f->device));
	refused(f, EBUSY, svm_free(f->space, f->small));
	assert_int_equal(svm_unpin(f->space, f->small, PAGE, svm_device_location(f->device)), 0);
	end(f);
}

static void registering(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	uint8_t *r = f->registered;
	uint8_t *map =
		mmap(NULL, 16 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	refused(f, EINVAL, svm_register(NULL, map, 16 * KIB, 0));
	refused(f, EINVAL, svm_register(f->space, NULL, 16 * KIB, 0));
	refused(f, EINVAL, svm_register(f->space, map, 0, 0));
	refused(f, EINVAL, svm_register(f->space, map, 100, 0));
	refused(f, EINVAL, svm_register(f->space, map + 8, PAGE, 0));
	refused(f, EINVAL, svm_register(f->space, map, PAGE, 1));
	refused(f, EOVERFLOW, svm_register(f->space, map, UINT64_MAX - PAGE + 1, 0));
	refused(f, EOVERFLOW, svm_register(f->space, (void *)-(uintptr_t)PAGE, 2 * PAGE, 0));
	refused(f, EEXIST, svm_register(f->space, r, 64 * KIB, 0));
	refused(f, EEXIST, svm_register(f->space, r + PAGE, PAGE, 0));
	refused(f, EEXIST, svm_register(f->space, f->data, PAGE, 0));
	munmap(map + 4 * KIB, 4 * KIB);
	refused(f, EOPNOTSUPP, svm_register(f->space, map, 16 * KIB, 0));

	refused(f, EINVAL, svm_unregister(NULL, r, 64 * KIB));
	refused(f, ENOENT, svm_unregister(f->space, r, 60 * KIB));
	refused(f, ENOENT, svm_unregister(f->space, r + PAGE, 60 * KIB));
	refused(f, ENOENT, svm_unregister(f->space, r, 0));
	refused(f, ENOENT, svm_unregister(f->space, map, 4 * KIB));
	refused(f, ENOENT, svm_unregister(f->space, f->small, 3 * PAGE));
	assert_int_equal(svm_register(f->space, map, 4 * KIB, 0), 0);
	assert_int_equal(svm_unregister(f->space, map, 4 * KIB), 0);
	refused(f, ENOENT, svm_unregister(f->space, map, 4 * KIB));
	munmap(map, 16 * KIB);
	end(f);
}

/* Every call that takes a span, with whatever else it wants being right. */
enum span_call {
	CALL_DISCARD,
	CALL_DISCARD_LAZY,
	CALL_PIN,
	CALL_PIN_DEVICE,
	CALL_HOST_ACQUIRE,
	CALL_RESIDENCY,
	CALL_ADVISE,
	CALL_UNADVISE,
	CALL_ADVICE_QUERY,
	CALL_ENUMERATE,
	CALL_PREFETCH,
	CALL_PREFETCH_BATCH,
	CALL_ACQUIRE,
	CALL_ACQUIRE_BATCH,
	CALL_FILL,
	CALL_COPY_TO,
	CALL_COPY_FROM,
	N_SPAN_CALLS,
};

static int span_call(struct memory *f, enum span_call call, uint8_t *addr, uint64_t size)
{
	struct svm_page_residency pages[8];
	struct svm_advice advice = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };
	struct svm_advice_info info = { .size = sizeof(info) };
	struct svm_prefetch_range prefetch[2] = { { f->after, PAGE, host() },
						  { addr, size, host() } };
	struct svm_access_range ranges[2] = { { f->after, PAGE, SVM_ACCESS_READ, 0 },
					      { addr, size, SVM_ACCESS_WRITE, 0 } };
	struct svm_prefetch *p = UNTOUCHED;
	struct svm_access *access = UNTOUCHED;
	struct svm_fence *fence = UNTOUCHED;
	size_t n = 5;
	size_t record = 6;
	int ret = 0;

	switch (call) {
	case CALL_DISCARD:
		return svm_discard(f->space, addr, size, 0);
	case CALL_DISCARD_LAZY:
		return svm_discard(f->space, addr, size, SVM_DISCARD_LAZY);
	case CALL_PIN:
		return svm_pin(f->space, addr, size, host());
	case CALL_PIN_DEVICE:
		return svm_pin(f->space, addr, size, svm_device_location(f->device));
	case CALL_HOST_ACQUIRE:
		return svm_host_acquire(f->space, addr, size, SVM_ACCESS_READ, 0);
	case CALL_RESIDENCY:
		return svm_residency_query(f->space, addr, size, pages, 8, NULL);
	case CALL_ADVISE:
		return svm_advise(f->space, addr, size, &advice, 1, NULL);
	case CALL_UNADVISE:
		return svm_unadvise(f->space, addr, size, 1);
	case CALL_ADVICE_QUERY:
		ret = svm_advice_query(f->space, addr, size, &info);
		assert_int_equal(info.n_ranges, 0);
		return ret;
	case CALL_ENUMERATE:
		ret = svm_advice_enumerate(f->space, addr, size, NULL, &n, &record);
		assert_int_equal(n, 5);
		assert_int_equal(record, 6);
		return ret;
	case CALL_PREFETCH:
		return svm_prefetch(f->space, addr, size, host(), NULL);
	case CALL_PREFETCH_BATCH:
		ret = svm_prefetch_start(f->space, prefetch, 2, NULL, 0, &p);
		break;
	case CALL_ACQUIRE:
		ret = svm_acquire(f->device, &ranges[1], 1, 0, &access, NULL);
		break;
	case CALL_ACQUIRE_BATCH:
		ret = svm_acquire(f->fatal, ranges, 2, 0, &access, &fence);
		break;
	case CALL_FILL:
		ret = svm_device_fill(f->device, addr, 1, size, NULL, &fence);
		break;
	case CALL_COPY_TO:
		ret = svm_device_copy(f->device, addr, f->data, size, NULL, &fence);
		break;
	case CALL_COPY_FROM:
		ret = svm_device_copy(f->device, f->data, addr, size, NULL, &fence);
		break;
	case N_SPAN_CALLS:
		break;
	}
	assert_ptr_equal(p, UNTOUCHED);
	assert_ptr_equal(access, UNTOUCHED);
	assert_ptr_equal(fence, UNTOUCHED);
	return ret;
}

static void spans(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	uint8_t stack[PAGE];
	struct svm_space_info info = { .size = sizeof(info) };

	assert_int_equal(svm_space_query(f->space, &info), 0);
	for (enum span_call c = 0; c < N_SPAN_CALLS; c++) {
		bool is_copy = c == CALL_COPY_TO || c == CALL_COPY_FROM;
		uint8_t *last = (uint8_t *)(uintptr_t)(info.window_base + info.window_size);

		if (!is_copy) {
			/* Of a copy both ends would wrap, or overlap. */
			refused(f, EINVAL, span_call(f, c, f->small, 0));
			refused(f, EOVERFLOW, span_call(f, c, f->small, UINT64_MAX));
			refused(f, EOVERFLOW, span_call(f, c, f->small, UINT64_MAX - PAGE));
			refused(f, EOVERFLOW,
				span_call(f, c, (uint8_t *)-(uintptr_t)PAGE, 2 * PAGE));
		}
		refused(f, ENOENT, span_call(f, c, stack, 1));
		refused(f, ENOENT, span_call(f, c, NULL, 1));
		refused(f, ENOENT, span_call(f, c, f->hole, 1));
		/* Whole pages are meant: the last byte reaches into the hole. */
		refused(f, ENOENT, span_call(f, c, f->small + 1, 3 * PAGE));
		refused(f, ENOENT, span_call(f, c, f->small, 6 * PAGE));
		refused(f, ENOENT, span_call(f, c, f->registered + 60 * KIB, PAGE + 1));
		refused(f, ENOENT, span_call(f, c, last - PAGE, 2 * PAGE));
	}
	refused(f, EINVAL, svm_discard(NULL, f->small, PAGE, 0));
	refused(f, EINVAL, svm_discard(f->space, f->small, PAGE, 2));
	refused(f, EINVAL, svm_pin(NULL, f->small, PAGE, host()));
	end(f);
}

static void locations(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	const struct {
		struct svm_location location;
		int error;
	} bad[] = {
		{ { SVM_LOCATION_NONE, 0 }, EINVAL },
		{ { SVM_LOCATION_NONE, 1 }, EINVAL },
		{ { SVM_LOCATION_HOST, 1 }, EINVAL },
		{ { SVM_LOCATION_HOST_NUMA, 4096 }, EINVAL },
		{ { SVM_LOCATION_HOST_NUMA, UINT32_MAX }, EINVAL },
		{ { SVM_LOCATION_HOST_NUMA_CURRENT, 1 }, EINVAL },
		{ { 5, 0 }, EINVAL },
		{ { UINT32_MAX, 0 }, EINVAL },
		{ { SVM_LOCATION_DEVICE, 2 }, ENODEV },
		{ { SVM_LOCATION_DEVICE, SVM_MAX_DEVICES }, ENODEV },
		{ { SVM_LOCATION_DEVICE, UINT32_MAX }, ENODEV },
	};

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct svm_location to = bad[i].location;
		struct svm_prefetch_range range = { f->small, PAGE, to };
		struct svm_advice advice = { .kind = SVM_ADVICE_PREFERRED_LOCATION,
					     .location = to };
		struct svm_outcome outcome = { 99, 99 };
		struct svm_prefetch *prefetch = UNTOUCHED;

		refused(f, bad[i].error, svm_pin(f->space, f->small, PAGE, to));
		refused(f, ENOENT, svm_unpin(f->space, f->small, PAGE, to));
		refused(f, bad[i].error, svm_prefetch(f->space, f->small, PAGE, to, NULL));
		refused(f, bad[i].error,
			svm_prefetch_start(f->space, &range, 1, NULL, 0, &prefetch));
		assert_ptr_equal(prefetch, UNTOUCHED);
		if (to.kind == SVM_LOCATION_NONE && to.id == 0)
			continue; /* as a preference it is fine */
		refused(f, bad[i].error,
			svm_advise(f->space, f->small, PAGE, &advice, 1, &outcome));
		assert_int_equal(outcome.status, SVM_REFUSED);
		if (bad[i].error == ENODEV)
			assert_int_equal(outcome.reason, SVM_REASON_NO_SUCH_DEVICE);
		if (to.kind == SVM_LOCATION_HOST_NUMA)
			assert_int_equal(outcome.reason, SVM_REASON_NO_SUCH_NODE);
	}
	end(f);
}

static void pins_and_host_access(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);

	refused(f, ENOENT, svm_unpin(f->space, f->small, PAGE, host()));
	refused(f, EINVAL, svm_unpin(NULL, f->small, PAGE, host()));
	refused(f, EINVAL, svm_unpin(f->space, f->small, 0, host()));
	refused(f, EINVAL, svm_host_acquire(f->space, f->small, PAGE, 0, 0));
	refused(f, EINVAL, svm_host_acquire(f->space, f->small, PAGE, 3, 0));
	refused(f, EINVAL, svm_host_acquire(f->space, f->small, PAGE, SVM_ACCESS_READ, 2));
	refused(f, EINVAL, svm_host_acquire(NULL, f->small, PAGE, SVM_ACCESS_READ, 0));
	refused(f, ENOENT, svm_host_release(f->space, f->small, PAGE, SVM_ACCESS_READ));
	refused(f, EINVAL, svm_host_release(f->space, f->small, PAGE, 0));
	refused(f, EINVAL, svm_host_release(f->space, f->small, 0, SVM_ACCESS_READ));
	refused(f, EINVAL, svm_host_release(NULL, f->small, PAGE, SVM_ACCESS_READ));

	assert_int_equal(svm_pin(f->space, f->small, 2 * PAGE, host()), 0);
	refused(f, ENOENT, svm_unpin(f->space, f->small, PAGE, host()));
	refused(f, ENOENT, svm_unpin(f->space, f->small, 2 * PAGE, svm_device_location(f->device)));
	refused(f, ENOENT, svm_host_release(f->space, f->small, 2 * PAGE, SVM_ACCESS_WRITE));
	assert_int_equal(svm_unpin(f->space, f->small, 2 * PAGE, host()), 0);
	refused(f, ENOENT, svm_unpin(f->space, f->small, 2 * PAGE, host()));

	assert_int_equal(svm_host_acquire(f->space, f->small, PAGE, SVM_ACCESS_READ, 0), 0);
	refused(f, ENOENT, svm_host_release(f->space, f->small, PAGE, SVM_ACCESS_WRITE));
	refused(f, ENOENT, svm_unpin(f->space, f->small, PAGE, host()));
	assert_int_equal(svm_host_release(f->space, f->small, PAGE, SVM_ACCESS_READ), 0);
	end(f);
}

static void queries(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	struct svm_page_residency pages[4];
	struct svm_pointer_info info = { .size = sizeof(info) - 1 };
	uint64_t generation = 5;
	int on_stack;

	memset(pages, 0x11, sizeof(pages));
	refused(f, EINVAL,
		svm_residency_query(f->space, f->small, 3 * PAGE, pages, 4, &generation));
	refused(f, EINVAL,
		svm_residency_query(f->space, f->small, 3 * PAGE, pages, 2, &generation));
	refused(f, EINVAL, svm_residency_query(f->space, f->small, 3 * PAGE, NULL, 3, &generation));
	refused(f, EINVAL, svm_residency_query(NULL, f->small, 3 * PAGE, pages, 3, &generation));
	assert_int_equal(generation, 5);
	assert_int_equal(pages[0].flags, 0x11111111);

	refused(f, EINVAL, svm_pointer_query(f->space, f->small, &info));
	refused(f, EINVAL, svm_pointer_query(f->space, f->small, NULL));
	info.size = sizeof(info);
	refused(f, EINVAL, svm_pointer_query(NULL, f->small, &info));
	assert_int_equal(info.is_svm, 0);
	/* Any address may be asked about. */
	for (unsigned int i = 0; i < 4; i++) {
		const void *foreign[] = { NULL, &on_stack, (void *)UINTPTR_MAX, f->hole };

		memset(&info, 0xff, sizeof(info));
		info.size = sizeof(info);
		refused(f, 0, svm_pointer_query(f->space, foreign[i], &info));
		assert_int_equal(info.is_svm, 0);
		assert_int_equal(info.base, 0);
		assert_int_equal(info.length, 0);
		assert_int_equal(info.id, 0);
	}
	end(f);
}

/* ---- Hints and prefetch ----------------------------------------------------------------------- */

static void advice_values(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	const struct svm_location none = { 0, 0 };
	const struct {
		struct svm_advice advice;
		int error;
	} bad[] = {
		{ { SVM_ADVICE_KINDS, 0, 0, none }, EINVAL },
		{ { UINT32_MAX, 0, 0, none }, EINVAL },
		{ { SVM_ADVICE_PREFERRED_LOCATION, 1, 0, host() }, EINVAL },
		{ { SVM_ADVICE_PREFERRED_LOCATION, 0, 1, host() }, EINVAL },
		{ { SVM_ADVICE_ACCESSED_BY, 5, 0, none }, ENODEV },
		{ { SVM_ADVICE_ACCESSED_BY, UINT32_MAX, 0, none }, ENODEV },
		{ { SVM_ADVICE_ACCESSED_BY, 0, 1, none }, EINVAL },
		{ { SVM_ADVICE_ACCESSED_BY, 0, 0, { SVM_LOCATION_HOST, 0 } }, EINVAL },
		{ { SVM_ADVICE_ACCESS_IN_PLACE, 15, 0, none }, ENODEV },
		{ { SVM_ADVICE_NO_ACCESS, 16, 0, none }, ENODEV },
		{ { SVM_ADVICE_READ_MOSTLY, 0, 2, none }, EINVAL },
		{ { SVM_ADVICE_READ_MOSTLY, 1, 1, none }, EINVAL },
		{ { SVM_ADVICE_READ_MOSTLY, 0, 1, { SVM_LOCATION_HOST, 0 } }, EINVAL },
		{ { SVM_ADVICE_ATOMICS, 0, 3, none }, EINVAL },
		{ { SVM_ADVICE_GRANULARITY, 0, 0, none }, EINVAL },
		{ { SVM_ADVICE_GRANULARITY, 0, 2048, none }, EINVAL },
		{ { SVM_ADVICE_GRANULARITY, 0, 12288, none }, EINVAL },
		{ { SVM_ADVICE_GRANULARITY, 0, 4 * MIB, none }, EINVAL },
		{ { SVM_ADVICE_MIGRATION, 0, 3, none }, EINVAL },
	};
	struct svm_advice good = { .kind = SVM_ADVICE_ATOMICS, .value = SVM_ATOMICS_DEVICE };

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct svm_advice pair[2] = { good, bad[i].advice };
		struct svm_outcome outcomes[2] = { { 9, 9 }, { 9, 9 } };

		/* All or nothing: the good one before it is not set either. */
		refused(f, bad[i].error, svm_advise(f->space, f->small, PAGE, pair, 2, outcomes));
		assert_int_equal(outcomes[1].status, SVM_REFUSED);
		refused(f, bad[i].error, svm_advise(f->space, f->small, PAGE, pair, 2, NULL));
	}
	refused(f, EINVAL, svm_advise(f->space, f->small, PAGE, NULL, 1, NULL));
	refused(f, EINVAL, svm_advise(f->space, f->small, PAGE, &good, 0, NULL));
	refused(f, EINVAL, svm_advise(NULL, f->small, PAGE, &good, 1, NULL));
	refused(f, EINVAL, svm_unadvise(f->space, f->small, PAGE, 0));
	refused(f, EINVAL, svm_unadvise(f->space, f->small, PAGE, 1u << SVM_ADVICE_KINDS));
	refused(f, EINVAL, svm_unadvise(NULL, f->small, PAGE, 1));
	end(f);
}

static void advice_queries(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	struct svm_advice_info info = { .size = sizeof(info) - 1 };
	struct svm_advice_range ranges[2];
	size_t n = 2;
	size_t record = sizeof(ranges[0]);

	memset(ranges, 0x22, sizeof(ranges));
	refused(f, EINVAL, svm_advice_query(f->space, f->small, PAGE, &info));
	refused(f, EINVAL, svm_advice_query(f->space, f->small, PAGE, NULL));
	info.size = sizeof(info);
	refused(f, EINVAL, svm_advice_query(NULL, f->small, PAGE, &info));
	refused(f, EINVAL, svm_advice_enumerate(f->space, f->small, PAGE, ranges, NULL, &record));
	refused(f, EINVAL, svm_advice_enumerate(f->space, f->small, PAGE, ranges, &n, NULL));
	record--;
	refused(f, EINVAL, svm_advice_enumerate(f->space, f->small, PAGE, ranges, &n, &record));
	record++;
	refused(f, EINVAL, svm_advice_enumerate(NULL, f->small, PAGE, ranges, &n, &record));
	n = SIZE_MAX;
	refused(f, EINVAL, svm_advice_enumerate(f->space, f->small, PAGE, ranges, &n, &record));
	/* data has two ranges: the first of them read mostly. */
	n = 1;
	refused(f, ENOSPC, svm_advice_enumerate(f->space, f->data, 2 * MIB, ranges, &n, &record));
	assert_int_equal(n, 1);
	assert_int_equal(ranges[0].addr, UINT64_C(0x2222222222222222));
	end(f);
}

static void prefetch_calls(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	struct svm_prefetch_range range = { f->small, PAGE, host() };
	struct svm_prefetch_result results[2];
	struct svm_prefetch *p = UNTOUCHED;
	struct svm_fence *fence = UNTOUCHED;

	refused(f, EINVAL, svm_prefetch_start(NULL, &range, 1, NULL, 0, &p));
	refused(f, EINVAL, svm_prefetch_start(f->space, NULL, 1, NULL, 0, &p));
	refused(f, EINVAL, svm_prefetch_start(f->space, &range, 0, NULL, 0, &p));
	refused(f, EINVAL, svm_prefetch_start(f->space, &range, 1, NULL, 1, &p));
	refused(f, EINVAL, svm_prefetch_start(f->space, &range, 1, NULL, 0, NULL));
	refused(f, EINVAL, svm_prefetch_start(f->space, &range, SIZE_MAX / 8, NULL, 0, &p));
	refused(f, EINVAL, svm_prefetch(NULL, f->small, PAGE, host(), NULL));
	assert_ptr_equal(p, UNTOUCHED);
	refused(f, EINVAL, svm_prefetch_fence(NULL, &fence));
	refused(f, EINVAL, svm_prefetch_progress(NULL, NULL, NULL));
	refused(f, EINVAL, svm_prefetch_cancel(NULL));
	refused(f, EINVAL, svm_prefetch_wait(NULL, 0, NULL, 0));
	assert_int_equal(svm_prefetch_destroy(NULL), 0);

	assert_int_equal(svm_prefetch_start(f->space, &range, 1, NULL, 0, &p), 0);
	assert_int_equal(svm_prefetch_wait(p, -1, NULL, 0), 0);
	refused(f, EINVAL, svm_prefetch_fence(p, NULL));
	refused(f, EINVAL, svm_prefetch_wait(p, -1, results, 2));
	refused(f, EINVAL, svm_prefetch_wait(p, -1, results, 0));
	refused(f, EBUSY, svm_space_destroy(f->space));
	assert_int_equal(svm_prefetch_destroy(p), 0);
	end(f);
}

/* ---- Devices ---------------------------------------------------------------------------------- */

static void device_names(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	static const char *const bad[] = {
		"soft:memory",	   "soft:memory=",     "soft:memory=0",
		"soft:memory=3M",  "soft:memory=1000", "soft:memory=99999999999999999999",
		"soft:memory=-2M", "soft:memory=2Q",   "soft:faults=maybe",
		"soft:faults=on:", "soft:host=2",      "soft:engines=0",
		"soft:engines=17", "soft:bandwidth=x", "soft:latency=-1",
		"soft:bogus=1",	   "soft::faults=on",  "soft:FAULTS=on",
	};
	struct svm_device *device = UNTOUCHED;
	char name[4096];

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snapshot(f, &before);
		assert_refused(f, svm_device_open(f->space, bad[i], &device), EINVAL, bad[i],
			       __LINE__);
	}
	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	refused(f, EINVAL, svm_device_open(f->space, name, &device));
	refused(f, ENODEV, svm_device_open(f->space, "nosuch", &device));
	refused(f, ENODEV, svm_device_open(f->space, "sof", &device));
	refused(f, ENODEV, svm_device_open(f->space, "softer:memory=2M", &device));
	refused(f, ENODEV, svm_device_open(f->space, "", &device));
	refused(f, ENODEV, svm_device_open(f->space, "../soft", &device));
	refused(f, EINVAL, svm_device_open(f->space, NULL, &device));
	refused(f, EINVAL, svm_device_open(f->space, "soft", NULL));
	refused(f, EINVAL, svm_device_open(NULL, "soft", &device));
	assert_ptr_equal(device, UNTOUCHED);
	end(f);
}

static void device_limit(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	struct svm_device *devices[SVM_MAX_DEVICES];
	struct svm_device *device = UNTOUCHED;

	for (unsigned int i = 2; i < SVM_MAX_DEVICES; i++)
		assert_int_equal(svm_device_open(f->space, "soft:memory=2M", &devices[i]), 0);
	refused(f, ENOSPC, svm_device_open(f->space, "soft:memory=2M", &device));
	assert_ptr_equal(device, UNTOUCHED);
	for (unsigned int i = 2; i < SVM_MAX_DEVICES; i++)
		assert_int_equal(svm_device_close(devices[i]), 0);
	end(f);
}

static void device_queries(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	struct svm_device_info info = { .size = sizeof(info) + 1 };
	size_t n = 1;

	refused(f, EINVAL, svm_device_query(f->device, &info));
	refused(f, EINVAL, svm_device_query(f->device, NULL));
	info.size = sizeof(info);
	refused(f, EINVAL, svm_device_query(NULL, &info));
	info.size = 0;
	refused(f, EINVAL, svm_device_enumerate(f->space, &info, &n));
	assert_int_equal(n, 1);
	info.size = sizeof(info);
	refused(f, EINVAL, svm_device_enumerate(f->space, NULL, &n));
	refused(f, EINVAL, svm_device_enumerate(f->space, &info, NULL));
	refused(f, EINVAL, svm_device_enumerate(NULL, &info, &n));
	assert_int_equal(svm_device_close(NULL), 0);
	end(f);
}

static void acquire_calls(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	struct svm_access_range good = { f->small, PAGE, SVM_ACCESS_READ, 0 };
	struct svm_access_range range = good;
	struct svm_access_range *last;
	struct svm_access *access = UNTOUCHED;
	struct svm_fence *fence = UNTOUCHED;
	char *map =
		mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	refused(f, EINVAL, svm_acquire(NULL, &good, 1, 0, &access, &fence));
	refused(f, EINVAL, svm_acquire(f->fatal, NULL, 1, 0, &access, &fence));
	refused(f, EINVAL, svm_acquire(f->fatal, &good, 0, 0, &access, &fence));
	refused(f, EINVAL, svm_acquire(f->fatal, &good, 1, 2, &access, &fence));
	refused(f, EINVAL, svm_acquire(f->fatal, &good, 1, 0, NULL, &fence));
	/* Nothing is behind the first of so many. */
	assert_int_equal(mprotect(map + PAGE, PAGE, PROT_NONE), 0);
	last = (struct svm_access_range *)(void *)(map + PAGE) - 1;
	*last = good;
	refused(f, EINVAL, svm_acquire(f->fatal, last, SIZE_MAX / 8, 0, &access, &fence));
	assert_int_equal(munmap(map, 2 * PAGE), 0);
	range.access = 0;
	refused(f, EINVAL, svm_acquire(f->fatal, &range, 1, 0, &access, &fence));
	range.access = 3;
	refused(f, EINVAL, svm_acquire(f->fatal, &range, 1, 0, &access, NULL));
	range = good;
	range.reserved = 1;
	refused(f, EINVAL, svm_acquire(f->fatal, &range, 1, 0, &access, &fence));
	assert_ptr_equal(access, UNTOUCHED);
	assert_ptr_equal(fence, UNTOUCHED);
	assert_int_equal(svm_release(NULL, NULL), 0);
	end(f);
}

static void work_calls(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	uint8_t args[SVM_SOFT_ARGS_SIZE + 1] = { 0 };
	struct svm_fence *fence = UNTOUCHED;

	refused(f, EINVAL, svm_soft_launch(NULL, kernel_nothing, NULL, 0, 1, NULL, &fence));
	refused(f, EINVAL, svm_soft_launch(f->device, NULL, NULL, 0, 1, NULL, &fence));
	refused(f, EINVAL, svm_soft_launch(f->device, kernel_nothing, NULL, 0, 0, NULL, &fence));
	refused(f, EINVAL, svm_soft_launch(f->device, kernel_nothing, NULL, 1, 1, NULL, &fence));
	refused(f, EINVAL,
		svm_soft_launch(f->device, kernel_nothing, args, sizeof(args), 1, NULL, &fence));
	refused(f, EINVAL, svm_device_copy(NULL, f->data, f->small, PAGE, NULL, &fence));
	refused(f, EINVAL, svm_device_fill(NULL, f->small, 1, PAGE, NULL, &fence));
	/* Overlap, by one byte and in full, in both directions. */
	refused(f, EINVAL,
		svm_device_copy(f->device, f->data, f->data + PAGE - 1, PAGE, NULL, &fence));
	refused(f, EINVAL,
		svm_device_copy(f->device, f->data + PAGE - 1, f->data, PAGE, NULL, &fence));
	refused(f, EINVAL, svm_device_copy(f->device, f->data, f->data, 1, NULL, &fence));
	refused(f, EINVAL, svm_device_copy(f->device, f->data, f->small, 0, NULL, &fence));
	refused(f, EINVAL, svm_soft_kill(NULL));
	assert_ptr_equal(fence, UNTOUCHED);
	end(f);
}

static void no_access_hint(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	struct svm_advice advice = { .kind = SVM_ADVICE_NO_ACCESS,
				     .device = svm_device_id(f->fatal) };
	struct svm_access_range range = { f->small, 3 * PAGE, SVM_ACCESS_READ, 0 };
	struct svm_access *access = UNTOUCHED;

	assert_int_equal(svm_advise(f->space, f->small + PAGE, PAGE, &advice, 1, NULL), 0);
	refused(f, EACCES, svm_acquire(f->fatal, &range, 1, 0, &access, NULL));
	refused(f, EACCES, svm_device_fill(f->fatal, f->small, 0, 3 * PAGE, NULL, NULL));
	refused(f, EACCES, svm_device_copy(f->fatal, f->data, f->small, 3 * PAGE, NULL, NULL));
	assert_ptr_equal(access, UNTOUCHED);
	assert_int_equal(svm_unadvise(f->space, f->small, 3 * PAGE, 1u << SVM_ADVICE_NO_ACCESS), 0);
	end(f);
}

/* A device whose process is gone refuses everything but queries and close. */
static void lost_device(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	struct svm_device *lost;
	struct svm_device_info info = { .size = sizeof(info) };
	struct svm_access_range range = { f->small, PAGE, SVM_ACCESS_READ, 0 };
	struct svm_access *access = UNTOUCHED;
	struct svm_fence *fence = UNTOUCHED;
	struct svm_location to;

	assert_int_equal(svm_device_open(f->space, "soft:memory=4M", &lost), 0);
	assert_int_equal(svm_soft_kill(lost), 0);
	to = svm_device_location(lost);
	assert_int_equal(svm_device_query(lost, &info), 0);
	assert_int_equal(info.is_lost, 1);
	refused(f, ENODEV, svm_acquire(lost, &range, 1, 0, &access, &fence));
	refused(f, ENODEV, svm_acquire(lost, &range, 1, 0, &access, NULL));
	refused(f, ENODEV, svm_soft_launch(lost, kernel_nothing, NULL, 0, 1, NULL, &fence));
	refused(f, ENODEV, svm_soft_launch(lost, kernel_nothing, NULL, 0, 1, NULL, NULL));
	refused(f, ENODEV, svm_device_fill(lost, f->small, 0, PAGE, NULL, NULL));
	refused(f, ENODEV, svm_device_copy(lost, f->data, f->small, PAGE, NULL, &fence));
	refused(f, ENODEV, svm_pin(f->space, f->small, PAGE, to));
	refused(f, ENODEV, svm_prefetch(f->space, f->small, PAGE, to, NULL));
	refused(f, 0, svm_soft_kill(lost));
	assert_ptr_equal(access, UNTOUCHED);
	assert_ptr_equal(fence, UNTOUCHED);
	assert_int_equal(svm_device_close(lost), 0);
	/* Its number stands for nothing now. */
	refused(f, ENODEV, svm_pin(f->space, f->small, PAGE, to));
	refused(f, ENODEV, svm_prefetch(f->space, f->small, PAGE, to, NULL));
	end(f);
}

/* ---- Fences ----------------------------------------------------------------------------------- */

static void fence_calls(struct svm_fixture *fixture)
{
	struct memory *f = begin(fixture);
	struct svm_fence *fence = UNTOUCHED;
	struct svm_fence *imported;
	int fd = -77;
	int event = eventfd(0, EFD_CLOEXEC);
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	assert_true(event >= 0 && file >= 0);
	refused(f, EINVAL, svm_fence_create(NULL, &fence));
	refused(f, EINVAL, svm_fence_create(f->space, NULL));
	refused(f, EINVAL, svm_fence_import(NULL, event, &fence));
	refused(f, EINVAL, svm_fence_import(f->space, event, NULL));
	refused(f, EBADF, svm_fence_import(f->space, -1, &fence));
	refused(f, EBADF, svm_fence_import(f->space, 1 << 20, &fence));
	refused(f, EPERM, svm_fence_import(f->space, file, &fence));
	refused(f, EINVAL, svm_fence_signal(NULL, 0));
	refused(f, EINVAL, svm_fence_wait(NULL, 0));
	refused(f, EINVAL, svm_fence_export(NULL, &fd));
	assert_ptr_equal(fence, UNTOUCHED);
	assert_null(svm_fence_ref(NULL));
	svm_fence_unref(NULL);

	assert_int_equal(svm_fence_import(f->space, event, &imported), 0);
	refused(f, EINVAL, svm_fence_signal(imported, 0));
	refused(f, EBUSY, svm_space_destroy(f->space));
	svm_fence_unref(imported);

	assert_int_equal(svm_fence_create(f->space, &fence), 0);
	refused(f, EINVAL, svm_fence_signal(fence, 1));
	refused(f, ETIMEDOUT, svm_fence_wait(fence, 0));
	refused(f, EINVAL, svm_fence_export(fence, NULL));
	refused(f, EBUSY, svm_space_destroy(f->space));
	assert_int_equal(svm_fence_signal(fence, -EIO), 0);
	refused(f, EALREADY, svm_fence_signal(fence, 0));
	assert_int_equal(svm_fence_wait(fence, 0), -EIO);
	svm_fence_unref(fence);
	assert_int_equal(fd, -77);

	/* That of work is for the library to signal. */
	assert_int_equal(svm_device_fill(f->device, f->small, 2, PAGE, NULL, &fence), 0);
	assert_int_equal(svm_fence_signal(fence, 0), -EINVAL);
	assert_int_equal(svm_fence_wait(fence, -1), 0);
	svm_fence_unref(fence);
	close(event);
	close(file);
	end(f);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(space_options, FIXTURE_ONCE),
		FIXTURE_CASE(space_calls, FIXTURE_ONCE),
		FIXTURE_CASE(alloc_and_free, FIXTURE_ONCE),
		FIXTURE_CASE(held_is_busy, FIXTURE_ONCE),
		FIXTURE_CASE(registering, FIXTURE_ONCE),
		FIXTURE_CASE(spans, FIXTURE_ONCE),
		FIXTURE_CASE(locations, FIXTURE_ONCE),
		FIXTURE_CASE(pins_and_host_access, FIXTURE_ONCE),
		FIXTURE_CASE(queries, FIXTURE_ONCE),
		FIXTURE_CASE(advice_values, FIXTURE_ONCE),
		FIXTURE_CASE(advice_queries, FIXTURE_ONCE),
		FIXTURE_CASE(prefetch_calls, FIXTURE_ONCE),
		FIXTURE_CASE(device_names, FIXTURE_ONCE),
		FIXTURE_CASE(device_limit, FIXTURE_ONCE),
		FIXTURE_CASE(device_queries, FIXTURE_ONCE),
		FIXTURE_CASE(acquire_calls, FIXTURE_ONCE),
		FIXTURE_CASE(work_calls, FIXTURE_ONCE),
		FIXTURE_CASE(no_access_hint, FIXTURE_ONCE),
		FIXTURE_CASE(lost_device, FIXTURE_ONCE),
		FIXTURE_CASE(fence_calls, FIXTURE_ONCE),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
