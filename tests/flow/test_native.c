/* SPDX-License-Identifier: MIT */
/*
 * Shown here, on the kernel's own test device (/dev/hmm_dmirror*, a guest has it: `./dev vm`): a native device uses
 * memory of all kinds without registration; it gets bytes that live on a soft device, through userfaultfd where the
 * kernel can and by placement where it cannot; pages migrate under CPU writers, fork(), munmap() and mremap(); full and
 * failing device memory, reclaim, swap and a cgroup's limit lose no byte and hang nobody.
 */
#include "fixture.h"

#include "space.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE	 FIXTURE_PAGE
#define MIB	 (UINT64_C(1) << 20)
#define HOST	 ((struct svm_location){ .kind = SVM_LOCATION_HOST })
#define KIND(k)	 (1u << SVM_ADVICE_##k)
#define BIT(dev) ((uint16_t)(1u << svm_device_id(dev)))

/* The driver's commands, for what the library does not do (lib/test_hmm_uapi.h, Linux 7.3). */
struct hmm_cmd {
	uint64_t addr;
	uint64_t ptr;
	uint64_t n_pages;
	uint64_t out[2];
};
#define HMM_READ  _IOWR('H', 0, struct hmm_cmd)
#define HMM_FLAGS _IOWR('H', 8, struct hmm_cmd)

static bool has_node(unsigned int minor)
{
	char node[32];

	(void)snprintf(node, sizeof(node), "/dev/hmm_dmirror%u", minor);
	if (access(node, R_OK | W_OK) == 0)
		return true;
	print_message("%s cannot be used: %s\n", node, strerror(errno));
	return false;
}

/* The space of a test and its first native device; without one the test is skipped. */
static struct svm_device *begin_with(struct svm_fixture *f, const char *name, uint32_t flags)
{
	struct svm_space_options options = { .size = sizeof(options), .flags = flags };

	if (!has_node(0))
		skip();
	fixture_space(f, &options);
	return fixture_open(f, name);
}

static struct svm_device *begin(struct svm_fixture *f, const char *name)
{
	return begin_with(f, name, 0);
}

static void *map(uint64_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static struct svm_prefetch_result prefetch(struct svm_fixture *f, void *p, uint64_t size,
					   struct svm_location to)
{
	struct svm_prefetch_result result;

	assert_int_equal(svm_prefetch(f->space, p, size, to, &result), 0);
	assert_int_equal(result.bytes_moved + result.already_there + result.skipped_pinned +
				 result.failed,
			 size);
	return result;
}

static struct svm_page_residency page_of(struct svm_fixture *f, const void *p)
{
	struct svm_page_residency page;

	assert_int_equal(svm_residency_query(f->space, p, 1, &page, 1, NULL), 0);
	return page;
}

/* How many pages of the span are in a device's memory. */
static uint64_t n_on(struct svm_fixture *f, struct svm_device *device, const void *p, uint64_t size)
{
	static struct svm_page_residency pages[4096];
	uint64_t n = 0;

	assert_int_equal(svm_residency_query(f->space, p, size, pages, size / PAGE, NULL), 0);
	for (uint64_t i = 0; i < size / PAGE; i++)
		n += (pages[i].devices & BIT(device)) != 0;
	return n;
}

/* ---- Managed memory --------------------------------------------------------------------------- */

/* Events of the space since *cursor, looked through for one of a kind at addr. False: none. */
static bool find_event(struct svm_fixture *f, uint64_t *cursor, uint32_t kind, uint64_t addr,
		       struct svm_event *ret)
{
	struct svm_event event;

	while (svm_events_read(f->space, cursor, &event, 1, NULL) == 1) {
		if (event.kind != kind || addr < event.addr || addr >= event.addr + event.size)
			continue;
		*ret = event;
		return true;
	}
	return false;
}

/* Bytes that live on a soft device, read by the native device in one of the two ways. */
static void check_delivery(struct svm_fixture *f, struct svm_device *native,
			   struct svm_device *soft, void *managed, const char *what, bool by_fault)
{
	const uint64_t size = 4 * PAGE;
	uint64_t addr = (uint64_t)(uintptr_t)managed;
	uint64_t cursor = 0;
	struct svm_event fault = { 0 };
	struct svm_event move;
	void *copy = map(size);
	bool faulted;

	fixture_fill_on(f, soft, managed, size, 77);
	fixture_assert_at(f, managed, size, BIT(soft), false);
	while (svm_events_read(f->space, &cursor, &move, 1, NULL) == 1)
		;
	assert_int_equal(svm_device_copy(native, copy, managed, size, NULL, NULL), 0);
	fixture_check(copy, size, 77);
	faulted = find_event(f, &(uint64_t){ cursor }, SVM_EVENT_CPU_FAULT, addr, &fault);
	assert_int_equal(faulted, by_fault);
	assert_true(find_event(f, &cursor, SVM_EVENT_MIGRATE, addr, &move));
	assert_int_equal(move.from, svm_device_id(soft) + 1u);
	assert_int_equal(move.to, 0);
	if (faulted)
		assert_true(fault.time_ns <= move.time_ns);
	print_message(
		"%s: native device %u reads %#llx -> %s -> soft device %u, %llu bytes moved to "
		"the host -> bytes delivered\n",
		what, svm_device_id(native), (unsigned long long)addr,
		faulted ? "userfaultfd event" : "placed before", svm_device_id(soft),
		(unsigned long long)move.size);
	/* And written by the native device, wherever the pages are. */
	fixture_fill_on(f, soft, managed, size, 78);
	fixture_fill(copy, size, 79);
	assert_int_equal(svm_device_copy(native, managed, copy, size, NULL, NULL), 0);
	fixture_check_on(f, soft, managed, size, 79);
	assert_int_equal(svm_device_fill(native, (char *)managed + 100, 5, PAGE, NULL, NULL), 0);
	assert_int_equal(((char *)managed)[99], ((char *)copy)[99]);
	assert_int_equal(((char *)managed)[100], 5);
	assert_int_equal(((char *)managed)[PAGE + 99], 5);
	assert_int_equal(((char *)managed)[PAGE + 100], ((char *)copy)[PAGE + 100]);
	munmap(copy, size);
}

static void check_deliveries(struct svm_fixture *f, struct svm_device *native, bool by_fault)
{
	struct svm_device *soft = fixture_open(f, "soft:memory=16M");
	void *registered = map(4 * PAGE);

	check_delivery(f, native, soft, fixture_alloc(f, MIB, 0), "allocated memory", by_fault);
	check_delivery(f, native, soft, fixture_alloc(f, MIB, SVM_ALLOC_SHARED), "shared memory",
		       by_fault);
	assert_int_equal(svm_register(f->space, registered, 4 * PAGE, 0), 0);
	check_delivery(f, native, soft, registered, "registered memory", by_fault);
	assert_int_equal(svm_unregister(f->space, registered, 4 * PAGE), 0);
	munmap(registered, 4 * PAGE);
}

static void a_fault_of_the_device_brings_the_bytes(struct svm_fixture *f)
{
	struct svm_device *native = begin(f, "hmm-mirror:0");

	if (!fixture_has(native, SVM_CAP_NATIVE_UFFD)) {
		print_message("faults of this kernel's test_hmm do not reach userfaultfd\n");
		skip();
	}
	check_deliveries(f, native, true);
}

static void placement_before_does_where_faults_cannot(struct svm_fixture *f)
{
	struct svm_device *native = begin(f, "hmm-mirror:0:uffd=off");

	assert_false(fixture_has(native, SVM_CAP_NATIVE_UFFD));
	check_deliveries(f, native, false);
}

/* The driver alone, without the library's placement: so an application's own work would fail. With user-mode faults
 * only, as an unprivileged process has them, it fails on all kernels. */
static void without_an_acquire_the_driver_fails(struct svm_fixture *f)
{
	struct svm_access_range range = { .size = PAGE, .access = SVM_ACCESS_READ };
	struct svm_device *native = begin_with(f, "hmm-mirror:0", SVM_SPACE_USER_MODE_ONLY);
	struct svm_access *access;
	uint64_t word = 0;
	char *bytes = map(PAGE);
	struct hmm_cmd cmd = { .ptr = (uintptr_t)bytes, .n_pages = 1 };
	uint64_t *managed;
	int fd;

	if (!has_node(1))
		skip();
	/* What the driver can is no help where our userfaultfd takes no faults of the kernel. */
	assert_false(fixture_has(native, SVM_CAP_NATIVE_UFFD));
	fd = open("/dev/hmm_dmirror1", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	managed = fixture_alloc(f, PAGE, 0);
	range.addr = managed;
	cmd.addr = (uintptr_t)managed;
	assert_int_equal(ioctl(fd, HMM_READ, &cmd), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(svm_acquire(native, &range, 1, 0, &access, NULL), 0);
	assert_int_equal(ioctl(fd, HMM_READ, &cmd), 0);
	memcpy(&word, bytes, sizeof(word));
	assert_int_equal(word, 0);
	assert_int_equal(svm_release(access, NULL), 0);
	close(fd);
	munmap(bytes, PAGE);
}

static void pages_that_a_native_device_uses_stay_on_the_host(struct svm_fixture *f)
{
	struct svm_device *native = begin(f, "hmm-mirror:0");
	struct svm_device *soft = fixture_open(f, "soft:memory=16M");
	struct svm_advice advice = { .kind = SVM_ADVICE_ACCESSED_BY,
				     .device = svm_device_id(native) };
	struct svm_outcome outcome;
	void *p = fixture_alloc(f, MIB, SVM_ALLOC_SHARED);

	assert_int_equal(svm_advise(f->space, p, MIB, &advice, 1, &outcome), 0);
	assert_int_equal(outcome.status, SVM_EFFECTIVE);
	fixture_fill(p, MIB, 3);
	fixture_check_on(f, soft, p, MIB, 3);
	fixture_assert_at(f, p, MIB, 0, true);
	fixture_fill_on(f, soft, p, MIB, 4);
	fixture_assert_at(f, p, MIB, 0, true);
	fixture_check(p, MIB, 4);
}

/* ---- System memory ---------------------------------------------------------------------------- */

static char in_data[2 * SVM_PAGE_SIZE] __attribute__((aligned(SVM_PAGE_SIZE)));

static void *map_file(int flags, int *ret_fd)
{
	char name[] = "/tmp/svm-native-XXXXXX";
	void *p;
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(ftruncate(fd, 2 * PAGE), 0);
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	*ret_fd = fd;
	return p;
}

/* Hints, a prefetch, writing and reading by the device, of two pages that nobody registered. */
static void check_kind(struct svm_fixture *f, struct svm_device *native, void *p, const char *what,
		       bool moves)
{
	struct svm_advice advice = { .kind = SVM_ADVICE_ACCESSED_BY,
				     .device = svm_device_id(native) };
	struct svm_prefetch_result result;
	struct svm_outcome outcome;
	/* Not next to p: with a page the driver forgets the one behind it, too, and then brings that home. */
	char *around = map(4 * PAGE);
	void *copy = around + PAGE;

	fixture_fill(p, 2 * PAGE, 11);
	assert_int_equal(svm_advise(f->space, p, 2 * PAGE, &advice, 1, &outcome), 0);
	assert_int_equal(outcome.status, SVM_EFFECTIVE);
	result = prefetch(f, p, 2 * PAGE, svm_device_location(native));
	print_message("%s: %llu of %llu bytes moved to the device\n", what,
		      (unsigned long long)result.bytes_moved, (unsigned long long)(2 * PAGE));
	assert_int_equal(result.bytes_moved, moves ? 2 * PAGE : 0);
	assert_int_equal(result.failed, moves ? 0 : 2 * PAGE);
	assert_int_equal(n_on(f, native, p, 2 * PAGE), moves ? 2 : 0);
	/* Read and written where they are. */
	assert_int_equal(svm_device_copy(native, copy, p, 2 * PAGE, NULL, NULL), 0);
	fixture_check(copy, 2 * PAGE, 11);
	assert_int_equal(n_on(f, native, p, 2 * PAGE), moves ? 2 : 0);
	fixture_fill(copy, 2 * PAGE, 12);
	assert_int_equal(svm_device_copy(native, p, copy, 2 * PAGE, NULL, NULL), 0);
	assert_int_equal(n_on(f, native, p, 2 * PAGE), moves ? 2 : 0);
	fixture_check(p, 2 * PAGE, 12);
	assert_int_equal(n_on(f, native, p, 2 * PAGE), 0);
	munmap(around, 4 * PAGE);
}

static void the_device_uses_memory_of_all_kinds(struct svm_fixture *f)
{
	struct svm_device *native = begin(f, "hmm-mirror:0");
	char on_stack[3 * PAGE];
	void *p;
	int fd;

	p = map(2 * PAGE);
	check_kind(f, native, p, "anonymous memory", true);
	munmap(p, 2 * PAGE);
	p = aligned_alloc(PAGE, 2 * PAGE);
	assert_non_null(p);
	check_kind(f, native, p, "malloc", true);
	free(p);
	check_kind(f, native, (void *)(((uintptr_t)on_stack + PAGE - 1u) / PAGE * PAGE),
		   "the stack", true);
	check_kind(f, native, in_data, "static data", true);
	p = map_file(MAP_PRIVATE, &fd);
	check_kind(f, native, p, "a private file mapping that was written", true);
	munmap(p, 2 * PAGE);
	close(fd);
	p = map_file(MAP_SHARED, &fd);
	check_kind(f, native, p, "a shared file mapping", false);
	munmap(p, 2 * PAGE);
	close(fd);
}

static void what_the_process_may_not_the_device_may_not(struct svm_fixture *f)
{
	struct svm_device *native = begin(f, "hmm-mirror:0");
	void *p = map(2 * PAGE);
	void *copy = map(2 * PAGE);

	fixture_fill(p, 2 * PAGE, 1);
	assert_int_equal(mprotect(p, 2 * PAGE, PROT_READ), 0);
	assert_int_equal(svm_device_copy(native, copy, p, 2 * PAGE, NULL, NULL), 0);
	fixture_check(copy, 2 * PAGE, 1);
	assert_true(svm_device_fill(native, p, 0, 2 * PAGE, NULL, NULL) < 0);
	assert_true(svm_device_fill(native, (char *)p + 8, 0, 8, NULL, NULL) < 0);
	fixture_check(p, 2 * PAGE, 1);
	assert_int_equal(mprotect(p, 2 * PAGE, PROT_NONE), 0);
	assert_true(svm_device_copy(native, copy, p, 2 * PAGE, NULL, NULL) < 0);
	/* The device is as well as before. */
	assert_int_equal(svm_device_fill(native, copy, 7, 2 * PAGE, NULL, NULL), 0);
	assert_int_equal(((char *)copy)[2 * PAGE - 1], 7);
	munmap(p, 2 * PAGE);
	munmap(copy, 2 * PAGE);
}

static void pages_go_to_the_device_and_come_home(struct svm_fixture *f)
{
	const uint64_t size = 8 * MIB;
	struct svm_device *native = begin(f, "hmm-mirror:0");
	struct svm_prefetch_result result;
	char *p = map(size);

	fixture_fill(p, size, 21);
	result = prefetch(f, p, size, svm_device_location(native));
	assert_int_equal(result.bytes_moved, size);
	assert_int_equal(n_on(f, native, p, size), size / PAGE);
	assert_int_equal(prefetch(f, p, size, svm_device_location(native)).already_there, size);
	assert_int_equal(page_of(f, p).flags & SVM_PAGE_HOST, 0);
	/* A touch of the CPU brings what it needs; the bytes are the same. */
	fixture_check(p, PAGE, 21);
	assert_int_equal(n_on(f, native, p, PAGE), 0);
	assert_true(n_on(f, native, p, size) < size / PAGE);
	result = prefetch(f, p, size, HOST);
	assert_int_equal(n_on(f, native, p, size), 0);
	fixture_check(p, size, 21);
	/* Memory that was never touched begins its life on the device, as zeros. */
	munmap(p, size);
	p = map(size);
	result = prefetch(f, p, MIB, svm_device_location(native));
	assert_int_equal(result.bytes_moved, MIB);
	fixture_check_zero(p, MIB);
	munmap(p, size);
}

static void two_devices_hand_pages_over(struct svm_fixture *f)
{
	const uint64_t size = 2 * MIB;
	struct svm_device *first = begin(f, "hmm-mirror:0");
	struct svm_device *second;
	void *copy;
	void *p;

	if (!has_node(1))
		skip();
	second = fixture_open(f, "hmm-mirror:1");
	copy = map(size);
	p = map(size);
	fixture_fill(p, size, 31);
	for (unsigned int i = 0; i < 4; i++) {
		struct svm_device *to = i % 2 ? second : first;
		struct svm_device *other = i % 2 ? first : second;

		assert_int_equal(prefetch(f, p, size, svm_device_location(to)).bytes_moved, size);
		assert_int_equal(n_on(f, to, p, size), size / PAGE);
		assert_int_equal(n_on(f, other, p, size), 0);
		/* The other one reads them from there: they come home for it. */
		assert_int_equal(svm_device_copy(other, copy, p, size, NULL, NULL), 0);
		fixture_check(copy, size, 31);
		assert_int_equal(prefetch(f, p, size, svm_device_location(to)).failed, 0);
		/* The owner reads its own. */
		assert_int_equal(svm_device_copy(to, copy, p, size, NULL, NULL), 0);
		fixture_check(copy, size, 31);
		assert_int_equal(n_on(f, to, p, size), size / PAGE);
	}
	fixture_check(p, size, 31);
	assert_int_equal(svm_device_close(first), 0);
	fixture_check(p, size, 31);
	munmap(p, size);
	munmap(copy, size);
}

static void outcomes_say_what_the_driver_can(struct svm_fixture *f)
{
	struct svm_device *native = begin(f, "hmm-mirror:0");
	uint32_t id = svm_device_id(native);
	const struct {
		struct svm_advice advice;
		uint32_t status;
		uint32_t reason;
	} rows[] = {
		{ { .kind = SVM_ADVICE_PREFERRED_LOCATION, .location = HOST }, SVM_EFFECTIVE, 0 },
		{ { .kind = SVM_ADVICE_PREFERRED_LOCATION,
		    .location = { SVM_LOCATION_DEVICE, id } },
		  SVM_DEGRADED,
		  SVM_REASON_DRIVER },
		{ { .kind = SVM_ADVICE_ACCESS_IN_PLACE, .device = id }, SVM_EFFECTIVE, 0 },
		{ { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 }, SVM_DEGRADED, SVM_REASON_DRIVER },
		{ { .kind = SVM_ADVICE_ATOMICS, .value = SVM_ATOMICS_SYSTEM }, SVM_EFFECTIVE, 0 },
	};
	struct svm_outcome outcome;
	void *p = map(2 * PAGE);
	void *shared;
	int fd;

	assert_true(fixture_has(native, SVM_CAP_SYSTEM_ATOMICS));
	fixture_fill(p, 2 * PAGE, 1);
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(svm_advise(f->space, p, 2 * PAGE, &rows[i].advice, 1, &outcome),
				 0);
		assert_int_equal(outcome.status, rows[i].status);
		assert_int_equal(outcome.reason, rows[i].reason);
		assert_int_equal(svm_unadvise(f->space, p, 2 * PAGE, 0xff), 0);
	}
	fixture_check(p, 2 * PAGE, 1);
	/* The driver takes no exclusive hold of pages of files. */
	shared = map_file(MAP_SHARED, &fd);
	fixture_fill(shared, 2 * PAGE, 2);
	assert_int_equal(svm_advise(f->space, shared, 2 * PAGE, &rows[4].advice, 1, &outcome), 0);
	assert_int_equal(outcome.status, SVM_DEGRADED);
	assert_int_equal(outcome.reason, SVM_REASON_NO_DEVICE_ATOMICS);
	munmap(shared, 2 * PAGE);
	munmap(p, 2 * PAGE);
	close(fd);
}

/* ---- Races ------------------------------------------------------------------------------------ */

#define N_COUNTERS 64u

struct writer {
	volatile uint64_t *counters; /* one a page */
	_Atomic bool stop;
	uint64_t rounds;
};

static void *count_up(void *arg)
{
	struct writer *writer = arg;

	do {
		for (unsigned int i = 0; i < N_COUNTERS; i++)
			writer->counters[i * PAGE / sizeof(uint64_t)]++;
		writer->rounds++;
	} while (!atomic_load(&writer->stop));
	return NULL;
}

static void no_write_is_lost_to_a_migration(struct svm_fixture *f)
{
	struct svm_device *native = begin(f, "hmm-mirror:0");
	struct writer writer = { .counters = map(N_COUNTERS * PAGE) };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, count_up, &writer), 0);
	for (unsigned int i = 0; i < 40; i++) {
		(void)prefetch(f, (void *)writer.counters, N_COUNTERS * PAGE,
			       i % 2 ? HOST : svm_device_location(native));
	}
	atomic_store(&writer.stop, true);
	pthread_join(thread, NULL);
	for (unsigned int i = 0; i < N_COUNTERS; i++)
		assert_int_equal(writer.counters[i * PAGE / sizeof(uint64_t)], writer.rounds);
	munmap((void *)writer.counters, N_COUNTERS * PAGE);
}

struct mover {
	struct svm_fixture *f;
	void *p;
	uint64_t size;
	struct svm_location to;
	_Atomic bool stop;
	_Atomic uint64_t n_rounds;
	uint64_t moved;
};

/* Migrations to and fro, whatever becomes of the memory meanwhile. */
static void *keep_moving(void *arg)
{
	struct mover *mover = arg;

	while (!atomic_load(&mover->stop)) {
		struct svm_prefetch_result result = { 0 };
		int r = svm_prefetch(mover->f->space, mover->p, mover->size, mover->to, &result);

		/* Gone, as a whole or in part; the rest has moved. */
		if (r < 0 && r != -ENOENT)
			abort();
		mover->moved += result.bytes_moved;
		(void)svm_prefetch(mover->f->space, mover->p, mover->size, HOST, NULL);
		atomic_fetch_add(&mover->n_rounds, 1u);
	}
	return NULL;
}

static void await_rounds(struct mover *mover, uint64_t n)
{
	uint64_t until = atomic_load(&mover->n_rounds) + n;

	while (atomic_load(&mover->n_rounds) < until)
		sched_yield();
}

static void fork_munmap_and_mremap_under_migration(struct svm_fixture *f)
{
	const uint64_t size = MIB;
	struct svm_device *native = begin(f, "hmm-mirror:0");
	struct mover mover = { .f = f, .size = size, .to = svm_device_location(native) };
	pthread_t thread;
	void *p = map(size);
	void *q;

	fixture_fill(p, size, 41);
	mover.p = p;
	assert_int_equal(pthread_create(&thread, NULL, keep_moving, &mover), 0);
	for (unsigned int i = 0; i < 5; i++) {
		pid_t pid;
		int status;

		await_rounds(&mover, 1);
		/* The child has its own copy, and sees all of it. */
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			uint64_t wrong = 0;

			for (uint64_t w = 0; w < size / 8; w++)
				wrong += ((uint64_t *)p)[w] == 0;
			((uint64_t *)p)[0] = 0;
			_exit(wrong != 0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		fixture_check(p, size, 41);
		/* The same bytes elsewhere, and back. */
		q = mremap(p, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
		assert_ptr_not_equal(q, MAP_FAILED);
		fixture_check(q, size, 41);
		assert_ptr_equal(mremap(q, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, p), p);
		fixture_check(p, size, 41);
		/* A part of it goes; what comes instead is zeros. */
		assert_int_equal(munmap((char *)p + size / 2, size / 2), 0);
		await_rounds(&mover, 1);
		assert_ptr_equal(mmap((char *)p + size / 2, size / 2, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
				 (char *)p + size / 2);
		fixture_check_zero((char *)p + size / 2, size / 2);
		fixture_check(p, size / 2, 41);
		fixture_fill(p, size, 41);
	}
	atomic_store(&mover.stop, true);
	pthread_join(thread, NULL);
	assert_true(mover.moved > 0);
	fixture_check(p, size, 41);
	munmap(p, size);
}

/* In a child: the process ends in the middle of it all. */
static void exit_in_the_middle(void *arg)
{
	struct svm_fixture *f = arg;
	static struct mover mover;
	struct svm_device *native;
	pthread_t thread;

	(void)fixture_space(f, NULL);
	native = fixture_open(f, "hmm-mirror:0");
	mover = (struct mover){
		.f = f, .p = map(4 * MIB), .size = 4 * MIB, .to = svm_device_location(native)
	};
	fixture_fill(mover.p, mover.size, 1);
	assert_int_equal(pthread_create(&thread, NULL, keep_moving, &mover), 0);
	await_rounds(&mover, 1);
	_exit(0);
}

static void a_process_may_end_in_a_migration(struct svm_fixture *f)
{
	if (!has_node(0))
		skip();
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(fixture_in_child(exit_in_the_middle, f, NULL, 0), 0);
}

/* ---- No memory -------------------------------------------------------------------------------- */

/* Much memory: a word on each page tells it from the others. */
static void stamp(void *p, uint64_t size, uint64_t pattern)
{
	for (uint64_t page = 0; page < size / PAGE; page++)
		((uint64_t *)p)[page * PAGE / 8] = fixture_word(pattern, page);
}

static void check_stamps(const void *p, uint64_t size, uint64_t pattern)
{
	for (uint64_t page = 0; page < size / PAGE; page++)
		if (((const uint64_t *)p)[page * PAGE / 8] != fixture_word(pattern, page))
			fail_msg("page %llu is wrong", (unsigned long long)page);
}

/* The backend's own file: the driver keeps flags by file. */
static int fd_of(const char *path)
{
	for (int fd = 0; fd < 1024; fd++) {
		char name[64];
		char target[64];
		ssize_t n;

		(void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		n = readlink(name, target, sizeof(target) - 1u);
		if (n < 0)
			continue;
		target[n] = '\0';
		if (strcmp(target, path) == 0)
			return fd;
	}
	return -1;
}

static void a_failed_allocation_fails_a_page(struct svm_fixture *f)
{
	const uint64_t size = 16 * PAGE;
	struct svm_device *native = begin(f, "hmm-mirror:0");
	struct hmm_cmd fail = { .addr = 0, .n_pages = 1 };
	struct svm_prefetch_result result;
	void *p = map(size);
	int fd = fd_of("/dev/hmm_dmirror0");

	assert_true(fd >= 0);
	fixture_fill(p, size, 51);
	assert_int_equal(ioctl(fd, HMM_FLAGS, &fail), 0);
	result = prefetch(f, p, size, svm_device_location(native));
	assert_int_equal(result.failed, PAGE);
	assert_int_equal(result.bytes_moved, size - PAGE);
	assert_int_equal(result.outcome.status, SVM_DEGRADED);
	result = prefetch(f, p, size, svm_device_location(native));
	assert_int_equal(result.bytes_moved, PAGE);
	fixture_check(p, size, 51);
	/* The way home fails once: told, and nothing is lost. */
	(void)prefetch(f, p, size, svm_device_location(native));
	assert_int_equal(ioctl(fd, HMM_FLAGS, &fail), 0);
	(void)svm_prefetch(f->space, p, size, HOST, &result);
	assert_int_equal(result.bytes_moved + result.failed, size);
	fixture_check(p, size, 51);
	munmap(p, size);
}

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return written;
}

static void a_full_device_takes_what_it_can(struct svm_fixture *f)
{
	const uint64_t size =
		256 * MIB + 8 * PAGE; /* the driver warns of each page it has no room for */
	struct svm_device *native;
	struct svm_prefetch_result result;
	void *p;

	if (!has_node(2)) {
		print_message("only coherent device memory has an end\n");
		skip();
	}
	fixture_space(f, NULL);
	native = fixture_open(f, "hmm-mirror:2");
	p = map(size);
	stamp(p, size, 61);
	/* For who reads the kernel's log. */
	(void)write_text("/dev/kmsg", "<5>svm-test: a device is filled on purpose\n");
	(void)svm_prefetch(f->space, p, size, svm_device_location(native), &result);
	(void)write_text("/dev/kmsg", "<5>svm-test: the device is full\n");
	print_message("of %llu MiB %llu moved\n", (unsigned long long)(size >> 20),
		      (unsigned long long)(result.bytes_moved >> 20));
	assert_true(result.bytes_moved > 0 && result.bytes_moved <= 256 * MIB);
	assert_int_equal(result.bytes_moved + result.failed, size);
	assert_int_equal(result.outcome.status, SVM_DEGRADED);
	check_stamps(p, size, 61);
	(void)prefetch(f, p, size, HOST);
	check_stamps(p, size, 61);
	munmap(p, size);
}

static uint64_t swap_mib(void)
{
	struct sysinfo info;

	assert_int_equal(sysinfo(&info), 0);
	return info.totalswap * info.mem_unit >> 20;
}

/* ---- A cgroup's limit ------------------------------------------------------------------------- */

#define CGROUP	     "/sys/fs/cgroup/svm-test"
#define CGROUP_LIMIT (64u * MIB)

/* A cgroup of little memory, with or without swap. */
static bool make_cgroup(bool swap)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)CGROUP_LIMIT);
	(void)write_text("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	if (mkdir(CGROUP, 0755) < 0 && errno != EEXIST)
		return false;
	(void)write_text(CGROUP "/memory.swap.max", swap ? "max" : "0"); /* absent without swap */
	return write_text(CGROUP "/memory.max", text);
}

/* In the cgroup: more than there is memory for. Pages of all kinds of storage are reclaimed and come back. */
static void use_swap(void *arg)
{
	const uint64_t size = CGROUP_LIMIT / 2u;
	struct svm_fixture *f = arg;
	struct svm_device *native;
	struct svm_device *soft;
	void *memory[3];

	assert_true(write_text(CGROUP "/cgroup.procs", "0"));
	(void)fixture_space(f, NULL);
	native = fixture_open(f, "hmm-mirror:0");
	soft = fixture_open(f, "soft:memory=16M");
	memory[0] = fixture_alloc(f, size, 0);
	memory[1] = fixture_alloc(f, size, SVM_ALLOC_SHARED);
	memory[2] = map(size);
	for (unsigned int i = 0; i < 3; i++)
		stamp(memory[i], size, 70 + i);
	for (unsigned int i = 0; i < 3; i++)
		check_stamps(memory[i], size, 70 + i);
	/* Devices at both ends of what is out by now. */
	for (unsigned int i = 0; i < 2; i++) {
		void *p = (char *)memory[i] + 2 * MIB;
		void *copy = map(2 * MIB);

		assert_int_equal(svm_device_copy(native, copy, p, 2 * MIB, NULL, NULL), 0);
		assert_memory_equal(copy, p, 2 * MIB);
		assert_int_equal(
			svm_prefetch(f->space, p, 2 * MIB, svm_device_location(soft), NULL), 0);
		assert_memory_equal(copy, p, 2 * MIB);
		munmap(copy, 2 * MIB);
	}
	(void)prefetch(f, memory[2], 4 * MIB, svm_device_location(native));
	for (unsigned int i = 0; i < 3; i++)
		check_stamps(memory[i], size, 70 + i);
}

/* Pages that the whole machine swapped out so far. */
static uint64_t swapped_out(void)
{
	char text[8192];
	int fd = open("/proc/vmstat", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1u);
	const char *found;

	assert_true(n > 0);
	close(fd);
	text[n] = '\0';
	found = strstr(text, "pswpout ");
	return found ? strtoull(found + 8, NULL, 10) : 0;
}

static void reclaim_and_swap_lose_nothing(struct svm_fixture *f)
{
	char text[4096] = "";
	uint64_t before;
	int status;

	if (!has_node(0))
		skip();
	if (swap_mib() < 2u * CGROUP_LIMIT / MIB || geteuid() != 0 || !make_cgroup(true)) {
		print_message("no memory cgroup with swap can be made here (%llu MiB of swap)\n",
			      (unsigned long long)swap_mib());
		skip();
	}
	before = swapped_out();
	status = fixture_in_child(use_swap, f, text, sizeof(text));
	if (status != 0)
		print_message("the child: %s\n", text);
	(void)rmdir(CGROUP);
	assert_int_equal(status, 0);
	print_message("%llu pages were swapped out\n",
		      (unsigned long long)(swapped_out() - before));
	assert_true(swapped_out() - before > 1000);
}

/* Without faults of its own the driver finds what the CPU's page tables hold, and from those the kernel may take pages
 * of shared storage at any time; private storage it swaps in again without a word to userfaultfd. */
static void reclaim_fails_the_touch_of_held_shared_memory(struct svm_fixture *f)
{
	const uint64_t size = 16 * PAGE;
	struct svm_access_range ranges[2] = { { .size = size, .access = SVM_ACCESS_WRITE },
					      { .size = size, .access = SVM_ACCESS_WRITE } };
	struct svm_device *native = begin_with(f, "hmm-mirror:0", SVM_SPACE_USER_MODE_ONLY);
	const struct svm_host *host = &f->space->ctx.host;
	struct hmm_cmd cmd = { .n_pages = size / PAGE };
	struct svm_access *access;
	char *memory[2];
	char *bytes;
	int fd;

	if (!has_node(1))
		skip();
	if (swap_mib() == 0) {
		print_message("no swap, where pages could go\n");
		skip();
	}
	fd = open("/dev/hmm_dmirror1", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	bytes = map(size);
	cmd.ptr = (uintptr_t)bytes;
	for (unsigned int i = 0; i < 2; i++) {
		memory[i] = fixture_alloc(f, size, i == 0 ? 0 : SVM_ALLOC_SHARED);
		fixture_fill(memory[i], size, 95 + i);
		ranges[i].addr = memory[i];
	}
	assert_int_equal(svm_acquire(native, ranges, 2, 0, &access, NULL), 0);
	for (unsigned int i = 0; i < 2; i++) {
		/* Pages that are mapped twice it leaves alone: not in the library's view, too. */
		if (i == 1)
			assert_int_equal(madvise(memory[i] + (host->alias_base - host->window_base),
						 size, MADV_DONTNEED),
					 0);
		assert_int_equal(madvise(memory[i], size, MADV_PAGEOUT), 0);
		cmd.addr = (uintptr_t)memory[i];
		errno = 0;
		assert_int_equal(ioctl(fd, HMM_READ, &cmd), i == 0 ? 0 : -1);
		assert_int_equal(errno, i == 0 ? 0 : EFAULT);
		/* The CPU's touch brings it, for the driver too. */
		fixture_check(memory[i], size, 95 + i);
		assert_int_equal(ioctl(fd, HMM_READ, &cmd), 0);
		fixture_check(bytes, size, 95 + i);
	}
	/* Locked memory stays. */
	assert_int_equal(mlock(memory[1], size), 0);
	(void)madvise(memory[1], size, MADV_PAGEOUT);
	assert_int_equal(ioctl(fd, HMM_READ, &cmd), 0);
	assert_int_equal(munlock(memory[1], size), 0);
	assert_int_equal(svm_release(access, NULL), 0);
	close(fd);
	munmap(bytes, size);
}

static volatile sig_atomic_t n_signals;

static void leave_touch(int signal)
{
	(void)signal;
	n_signals++;
	_exit(n_signals == 1 ? 0 : 1);
}

/* In a child that the kernel may not kill for memory: it gets errors instead. */
static void use_more_than_the_limit(void *arg)
{
	const uint64_t size =
		CGROUP_LIMIT + 16u * MIB; /* the kernel reports each block that has no room */
	struct svm_fixture *f = arg;
	struct svm_prefetch_result result;
	struct svm_device *soft;
	char *p;
	char *small;
	int r;

	assert_true(write_text("/proc/self/oom_score_adj", "-1000"));
	assert_true(write_text(CGROUP "/cgroup.procs", "0"));
	(void)fixture_space(f, NULL);
	soft = fixture_open(f, "soft:memory=16M");
	p = fixture_alloc(f, size, 0);
	r = svm_prefetch(f->space, p, size, HOST, &result);
	if (r != -ENOMEM || result.bytes_moved >= CGROUP_LIMIT || result.failed == 0 ||
	    result.bytes_moved + result.failed != size)
		abort();
	/* What is there is used; what goes makes room. */
	fixture_check_zero(p, PAGE);
	fixture_free(f, p);
	small = fixture_alloc(f, 16 * MIB, 0);
	fixture_fill(small, 16 * MIB, 91);
	fixture_check_on(f, soft, small, 4 * MIB, 91);
	fixture_check(small, 16 * MIB, 91);
	/* A touch that cannot be served ends in a signal. */
	p = fixture_alloc(f, size, 0);
	signal(SIGBUS, leave_touch);
	signal(SIGSEGV, leave_touch);
	for (uint64_t at = 0; at < size; at += PAGE)
		((volatile char *)p)[at] = 1;
	abort();
}

static void a_full_cgroup_is_an_error(struct svm_fixture *f)
{
	char text[4096] = "";
	int status;

	if (geteuid() != 0 || !make_cgroup(false)) {
		print_message("no memory cgroup can be made here: %s\n", strerror(errno));
		skip();
	}
	/* For who reads the kernel's log. */
	(void)write_text("/dev/kmsg", "<5>svm-test: memory runs out on purpose\n");
	status = fixture_in_child(use_more_than_the_limit, f, text, sizeof(text));
	(void)write_text("/dev/kmsg", "<5>svm-test: memory is there again\n");
	if (status != 0)
		print_message("the child: %s\n", text);
	(void)rmdir(CGROUP);
	assert_int_equal(status, 0);
}

/* ---- udmabuf ---------------------------------------------------------------------------------- */

struct udmabuf_create {
	uint32_t memfd;
	uint32_t flags;
	uint64_t offset;
	uint64_t size;
};
#define UDMABUF_CREATE _IOW('u', 0x42, struct udmabuf_create) /* include/uapi/linux/udmabuf.h */

/* Host storage as a dma-buf, which is how a device without access to addresses gets it. */
static void shared_storage_is_a_dmabuf_and_holes_in_it_are_new_pages(struct svm_fixture *f)
{
	const uint64_t size = 16 * PAGE;
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	struct udmabuf_create create = { .flags = 1 /* close on exec */, .size = size };
	struct svm_device *soft;
	void *view;
	void *p;
	int fd;

	if (device < 0) {
		print_message("/dev/udmabuf cannot be used: %s\n", strerror(errno));
		skip();
	}
	fixture_space(f, NULL);
	soft = fixture_open(f, "soft:memory=16M:host=none");
	p = fixture_alloc(f, 2 * MIB, SVM_ALLOC_SHARED);
	fixture_fill(p, size, 81);
	create.memfd = (uint32_t)f->space->ctx.host.memfd;
	create.offset = (uint64_t)(uintptr_t)p - f->space->ctx.host.window_base;
	fd = ioctl(device, UDMABUF_CREATE, &create);
	assert_true(fd >= 0);
	view = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(view, MAP_FAILED);
	/* The same pages. */
	fixture_check(view, size, 81);
	fixture_fill(p, size, 82);
	fixture_check(view, size, 82);
	fixture_fill(view, size, 83);
	fixture_check(p, size, 83);
	/* They are the same still when bytes have been on a device and come home. */
	fixture_fill_on(f, soft, p, size, 84);
	fixture_check(view, size, 83);
	fixture_check(p, size, 84);
	fixture_check(view, size, 84);
	/* A hole leaves the old pages to the dma-buf, and the memory has new ones: nothing old comes back. */
	assert_int_equal(svm_discard(f->space, p, size, 0), 0);
	fixture_check_zero(p, size);
	fixture_check(view, size, 84);
	fixture_fill(view, size, 85);
	fixture_check_zero(p, size);
	fixture_fill(p, size, 86);
	fixture_check(view, size, 85);
	munmap(view, size);
	close(fd);
	close(device);
	fixture_check(p, size, 86);
}

/* ---- Running ---------------------------------------------------------------------------------- */

static const struct svm_fixture_case cases[] = {
	FIXTURE_CASE(a_fault_of_the_device_brings_the_bytes, FIXTURE_ONCE),
	FIXTURE_CASE(placement_before_does_where_faults_cannot, FIXTURE_ONCE),
	FIXTURE_CASE(without_an_acquire_the_driver_fails, FIXTURE_ONCE),
	FIXTURE_CASE(pages_that_a_native_device_uses_stay_on_the_host, FIXTURE_ONCE),
	FIXTURE_CASE(the_device_uses_memory_of_all_kinds, FIXTURE_ONCE),
	FIXTURE_CASE(what_the_process_may_not_the_device_may_not, FIXTURE_ONCE),
	FIXTURE_CASE(pages_go_to_the_device_and_come_home, FIXTURE_ONCE),
	FIXTURE_CASE(two_devices_hand_pages_over, FIXTURE_ONCE),
	FIXTURE_CASE(outcomes_say_what_the_driver_can, FIXTURE_ONCE),
	FIXTURE_CASE(no_write_is_lost_to_a_migration, FIXTURE_ONCE),
	FIXTURE_CASE(fork_munmap_and_mremap_under_migration, FIXTURE_ONCE),
	FIXTURE_CASE(a_process_may_end_in_a_migration, FIXTURE_ONCE),
	FIXTURE_CASE(a_failed_allocation_fails_a_page, FIXTURE_ONCE),
	FIXTURE_CASE(a_full_device_takes_what_it_can, FIXTURE_ONCE),
	FIXTURE_CASE(reclaim_and_swap_lose_nothing, FIXTURE_ONCE),
	FIXTURE_CASE(reclaim_fails_the_touch_of_held_shared_memory, FIXTURE_ONCE),
	FIXTURE_CASE(a_full_cgroup_is_an_error, FIXTURE_ONCE),
	FIXTURE_CASE(shared_storage_is_a_dmabuf_and_holes_in_it_are_new_pages, FIXTURE_ONCE),
};

int main(int argc, char **argv)
{
	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
