/* SPDX-License-Identifier: MIT */
/*
 * Shown here: memory that the application brings keeps its bytes on the way in, through devices, and on
 * the way out; the application may go on doing to it what programs do to their memory; memory of other
 * kinds is refused and left alone.
 */
#include "process.h"
#include "fixture.h"
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define KIB  UINT64_C(1024)
#define MIB  (UINT64_C(1) << 20)
#define PAGE UINT64_C(4096)

static uint8_t *map_memory(uint64_t size)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	return map;
}

static bool has_events(struct svm_fixture *f)
{
	/* REMOVE events need MOVE: without it the library's own MADV_DONTNEED would raise them. */
	return fixture_space_has(f, SVM_SPACE_CAP_MOVE);
}

/* In, to the device, changed there, home, out; at sizes and places that fill blocks or do not. */
static void bytes_are_kept(struct svm_fixture *f)
{
	static const struct {
		uint64_t offset;
		uint64_t size;
	} spans[] = {
		{ 0, PAGE },	  { PAGE, 3 * PAGE }, { 0, 2 * MIB }, { 2 * MIB - PAGE, 2 * PAGE },
		{ MIB, 4 * MIB }, { 0, 6 * MIB },
	};
	struct svm_device *device;
	uint8_t *map = map_memory(10 * MIB);
	uint8_t *base = (uint8_t *)(((uintptr_t)map + 2 * MIB - 1) & ~(uintptr_t)(2 * MIB - 1));

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	for (unsigned int i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
		struct svm_pointer_info info = { .size = sizeof(info) };
		uint8_t *data = base + spans[i].offset;
		uint64_t size = spans[i].size;

		fixture_fill(base, 8 * MIB, 1);
		assert_int_equal(svm_register(f->space, data, size, 0), 0);
		assert_int_equal(svm_pointer_query(f->space, data + size - 1, &info), 0);
		assert_int_equal(info.is_svm, 1);
		assert_int_equal(info.is_registered, 1);
		assert_int_equal(info.is_shared, 0);
		assert_int_equal(info.base, (uint64_t)(uintptr_t)data);
		assert_int_equal(info.length, size);
		fixture_check(base, 8 * MIB, 1);
		assert_int_equal(
			svm_prefetch(f->space, data, size, svm_device_location(device), NULL), 0);
		fixture_assert_at(f, data, size, 1, false);
		fixture_check(base, 8 * MIB, 1);
		fixture_fill_on(f, device, data, size, 2);
		fixture_check(data, size, 2);
		fixture_fill_on(f, device, data, size, 3);
		assert_int_equal(svm_unregister(f->space, data, size), 0);
		fixture_check(data, size, 3);
		/* Its neighbours have nothing to do with it. */
		if (spans[i].offset)
			fixture_check(base, spans[i].offset & ~UINT64_C(4095), 1);
		assert_int_equal(svm_pointer_query(f->space, data, &info), 0);
		assert_int_equal(info.is_svm, 0);
	}
	munmap(map, 10 * MIB);
}

/* Pages that were never touched are zeros everywhere, those that were keep their bytes. */
static void partly_populated(struct svm_fixture *f)
{
	struct svm_device *device;
	uint8_t *data = map_memory(2 * MIB);
	uint64_t wrong = 0;

	madvise(data, 2 * MIB, MADV_NOHUGEPAGE);
	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	for (uint64_t at = 0; at < 2 * MIB; at += 8 * PAGE)
		data[at] = 5;
	assert_int_equal(svm_register(f->space, data, 2 * MIB, 0), 0);
	assert_int_equal(svm_prefetch(f->space, data, 2 * MIB, svm_device_location(device), NULL),
			 0);
	for (uint64_t at = 0; at < 2 * MIB; at += 64)
		wrong += data[at] != (at % (8 * PAGE) == 0 ? 5 : 0);
	assert_int_equal(wrong, 0);
	assert_int_equal(svm_unregister(f->space, data, 2 * MIB), 0);
	munmap(data, 2 * MIB);
}

static pid_t fork_sleeper(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

static void end_sleeper(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/*
 * Huge pages are the kernel's affair: one may lie across the edge of what is registered, and a child of the process map
 * the other part, or have mapped all of it. Pages of it move like any others.
 */
static void part_of_a_huge_page(struct svm_fixture *f)
{
	/* A child from before the registration, or one that has ended by then; and one from after it. */
	static const struct {
		bool before;
		bool ended;
		bool after;
	} children[] = {
		{ .after = true },
		{ .before = true },
		{ .ended = true },
		{ .ended = true, .after = true },
	};
	uint8_t *map = map_memory(4 * MIB);
	uint8_t *huge = (uint8_t *)(((uintptr_t)map + 2 * MIB - 1) & ~(uintptr_t)(2 * MIB - 1));
	uint8_t *data = huge + MIB / 2;
	struct svm_device *device;
	bool got = false;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	for (unsigned int c = 0; c < sizeof(children) / sizeof(children[0]); c++) {
		pid_t before = 0;
		pid_t after = 0;

		(void)madvise(huge, 2 * MIB, MADV_HUGEPAGE); /* whether it helped is asked below */
		fixture_fill(huge, 2 * MIB, 1);
		got |= fixture_huge_kb((uintptr_t)huge, 2 * MIB) > 0;
		if (children[c].before)
			before = fork_sleeper();
		if (children[c].ended) {
			end_sleeper(fork_sleeper());
			/* What was shared is ours alone again, page by page as it is written. */
			fixture_fill(data, MIB, 1);
		}
		assert_int_equal(svm_register(f->space, data, MIB, 0), 0);
		if (children[c].after)
			after = fork_sleeper();
		for (unsigned int i = 2; i < 4; i++) {
			assert_int_equal(svm_prefetch(f->space, data, MIB,
						      svm_device_location(device), NULL),
					 0);
			fixture_assert_at(f, data, MIB, 1, false);
			fixture_fill_on(f, device, data, MIB, i);
			fixture_check(data, MIB, i);
		}
		assert_int_equal(svm_unregister(f->space, data, MIB), 0);
		fixture_check(data, MIB, 3);
		fixture_check(huge, MIB / 2, 1);
		if (before)
			end_sleeper(before);
		if (after)
			end_sleeper(after);
		/* A new one. */
		assert_int_equal(madvise(huge, 2 * MIB, MADV_DONTNEED), 0);
	}
	munmap(map, 4 * MIB);
	if (!got) {
		print_message("the kernel gave no huge page\n");
		skip();
	}
}

static void several_in_one_block(struct svm_fixture *f)
{
	struct svm_advice advice = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };
	struct svm_device *device;
	uint8_t *map = map_memory(4 * MIB);
	uint8_t *base = (uint8_t *)(((uintptr_t)map + 2 * MIB - 1) & ~(uintptr_t)(2 * MIB - 1));

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	fixture_fill(base, MIB, 1);
	/* 64 KiB each, with gaps of 64 KiB that stay the program's own. */
	for (uint64_t at = 0; at < MIB; at += 128 * KIB)
		assert_int_equal(svm_register(f->space, base + at, 64 * KIB, 0), 0);
	assert_int_equal(svm_advise(f->space, base, 64 * KIB, &advice, 1, NULL), 0);
	assert_int_equal(svm_advise(f->space, base, 128 * KIB, &advice, 1, NULL), -ENOENT);
	for (uint64_t at = 0; at < MIB; at += 128 * KIB)
		assert_int_equal(svm_prefetch(f->space, base + at, 64 * KIB,
					      svm_device_location(device), NULL),
				 0);
	fixture_check(base, MIB, 1);
	/* They go one by one; the others stay. */
	for (uint64_t at = 0; at < MIB; at += 256 * KIB)
		assert_int_equal(svm_unregister(f->space, base + at, 64 * KIB), 0);
	for (uint64_t at = 128 * KIB; at < MIB; at += 256 * KIB)
		fixture_fill_on(f, device, base + at, 64 * KIB, 9);
	for (uint64_t at = 128 * KIB; at < MIB; at += 256 * KIB) {
		fixture_check(base + at, 64 * KIB, 9);
		assert_int_equal(svm_unregister(f->space, base + at, 64 * KIB), 0);
		fixture_check(base + at, 64 * KIB, 9);
	}
	munmap(map, 4 * MIB);
}

static void heap_memory(struct svm_fixture *f)
{
	struct svm_device *device;
	uint8_t *heap = aligned_alloc(PAGE, 256 * KIB);

	assert_non_null(heap);
	fixture_fill(heap, 256 * KIB, 4);
	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	assert_int_equal(svm_register(f->space, heap, 256 * KIB, 0), 0);
	fixture_check_on(f, device, heap, 256 * KIB, 4);
	fixture_fill_on(f, device, heap, 256 * KIB, 5);
	fixture_check(heap, 256 * KIB, 5);
	assert_int_equal(svm_unregister(f->space, heap, 256 * KIB), 0);
	fixture_check(heap, 256 * KIB, 5);
	free(heap);
}

/* ---- What is refused -------------------------------------------------------------------------- */

static void assert_kind_refused(struct svm_fixture *f, void *addr, uint64_t size, int error)
{
	struct svm_pointer_info info = { .size = sizeof(info) };
	struct svm_space_info before = { .size = sizeof(before) };
	struct svm_space_info after = { .size = sizeof(after) };
	int ret;

	assert_int_equal(svm_space_query(f->space, &before), 0);
	ret = svm_register(f->space, addr, size, 0);
	if (ret != -error)
		fail_msg("svm_register: %d, not %d", ret, -error);
	assert_int_equal(svm_pointer_query(f->space, addr, &info), 0);
	assert_int_equal(info.is_svm, 0);
	assert_int_equal(svm_space_query(f->space, &after), 0);
	assert_memory_equal(&before, &after, sizeof(before));
}

static void other_kinds_are_refused(struct svm_fixture *f)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	uint8_t *map;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 64 * 1024), 0);
	fixture_space(f, NULL);
	fixture_open(f, "soft:memory=4M");

	map = mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_kind_refused(f, map, 64 * KIB, EOPNOTSUPP);
	munmap(map, 64 * KIB);
	map = mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	assert_kind_refused(f, map, 64 * KIB, EOPNOTSUPP);
	munmap(map, 64 * KIB);
	map = mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_kind_refused(f, map, 64 * KIB, EOPNOTSUPP);
	munmap(map, 64 * KIB);
	map = mmap(NULL, 64 * KIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_kind_refused(f, map, 64 * KIB, EOPNOTSUPP);
	munmap(map, 64 * KIB);
	map = mmap(NULL, 64 * KIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_kind_refused(f, map, 64 * KIB, EOPNOTSUPP);
	munmap(map, 64 * KIB);
	assert_kind_refused(f, map, 64 * KIB, EOPNOTSUPP); /* nothing at all */
	/* A hole in the middle, and a piece with other rights. */
	map = map_memory(64 * KIB);
	munmap(map + 16 * KIB, PAGE);
	assert_kind_refused(f, map, 64 * KIB, EOPNOTSUPP);
	munmap(map, 64 * KIB);
	map = map_memory(64 * KIB);
	mprotect(map + 16 * KIB, PAGE, PROT_READ);
	assert_kind_refused(f, map, 64 * KIB, EOPNOTSUPP);
	/* What was refused is as it was: a child inherits it. */
	map[0] = 3;
	munmap(map, 64 * KIB);
	/* Code of this program. */
	assert_kind_refused(f, (void *)((uintptr_t)&other_kinds_are_refused & ~(uintptr_t)4095),
			    PAGE, EOPNOTSUPP);
	close(fd);
}

static void another_userfaultfd_has_it(struct svm_fixture *f)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	uint8_t *map = map_memory(64 * KIB);
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	fixture_space(f, NULL);
	fixture_open(f, "soft:memory=4M");
	memset(map, 5, 64 * KIB);
	reg.range.start = (uint64_t)(uintptr_t)map + 32 * KIB;
	reg.range.len = 4 * KIB;
	assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &reg), 0);
	assert_kind_refused(f, map, 64 * KIB, EBUSY);
	/* Memory of the other is still the other's, the rest may be registered. */
	assert_int_equal(ioctl(fd, UFFDIO_UNREGISTER, &reg.range), 0);
	assert_int_equal(svm_register(f->space, map, 64 * KIB, 0), 0);
	assert_int_equal(svm_unregister(f->space, map, 64 * KIB), 0);
	close(fd);
	munmap(map, 64 * KIB);
}

/* A second space in the process is somebody else. */
static void another_space_has_it(struct svm_fixture *f)
{
	struct svm_space *other;
	uint8_t *map = map_memory(64 * KIB);

	fixture_space(f, NULL);
	assert_int_equal(svm_space_create(NULL, &other), 0);
	assert_int_equal(svm_register(other, map, 64 * KIB, 0), 0);
	assert_kind_refused(f, map, 64 * KIB, EBUSY);
	assert_int_equal(svm_unregister(other, map, 64 * KIB), 0);
	assert_int_equal(svm_register(f->space, map, 64 * KIB, 0), 0);
	assert_int_equal(svm_unregister(f->space, map, 64 * KIB), 0);
	assert_int_equal(svm_space_destroy(other), 0);
	munmap(map, 64 * KIB);
}

static void held_is_busy(struct svm_fixture *f)
{
	struct svm_location host = { SVM_LOCATION_HOST, 0 };
	struct svm_access_range range = { .size = 64 * KIB, .access = SVM_ACCESS_WRITE };
	struct svm_access *access;
	struct svm_device *device;
	uint8_t *map = map_memory(64 * KIB);

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=4M:faults=off");
	fixture_fill(map, 64 * KIB, 1);
	assert_int_equal(svm_register(f->space, map, 64 * KIB, 0), 0);
	range.addr = map;
	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, NULL), 0);
	assert_int_equal(svm_unregister(f->space, map, 64 * KIB), -EBUSY);
	assert_int_equal(svm_release(access, NULL), 0);
	assert_int_equal(svm_pin(f->space, map, PAGE, host), 0);
	assert_int_equal(svm_unregister(f->space, map, 64 * KIB), -EBUSY);
	assert_int_equal(svm_unpin(f->space, map, PAGE, host), 0);
	fixture_check(map, 64 * KIB, 1);
	assert_int_equal(svm_unregister(f->space, map, 64 * KIB), 0);
	fixture_check(map, 64 * KIB, 1);
	munmap(map, 64 * KIB);
}

/* ---- What the application does to its memory -------------------------------------------------- */

static void dontneed_gives_zeros(struct svm_fixture *f)
{
	struct svm_device *device;
	uint8_t *map = map_memory(4 * MIB);

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	fixture_fill(map, 4 * MIB, 1);
	assert_int_equal(svm_register(f->space, map, 4 * MIB, 0), 0);
	/* On the host. */
	assert_int_equal(madvise(map, MIB, MADV_DONTNEED), 0);
	fixture_check_zero(map, MIB);
	if (has_events(f)) {
		/* On a device: what it has goes as well. */
		assert_int_equal(
			svm_prefetch(f->space, map, 4 * MIB, svm_device_location(device), NULL), 0);
		assert_int_equal(madvise(map + MIB, MIB, MADV_DONTNEED), 0);
		fixture_check_zero(map, 2 * MIB);
	}
	assert_int_equal(svm_unregister(f->space, map, 4 * MIB), 0);
	munmap(map, 4 * MIB);
}

static void unmapped_while_registered(struct svm_fixture *f)
{
	static struct svm_event events[4096];
	struct svm_device *device;
	uint64_t cursor = 0;
	unsigned int n_unmapped = 0;
	uint8_t *map = map_memory(4 * MIB);
	uint8_t *other;
	int n;

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	fixture_fill(map, 4 * MIB, 1);
	assert_int_equal(svm_register(f->space, map, 4 * MIB, 0), 0);
	assert_int_equal(svm_prefetch(f->space, map, 2 * MIB, svm_device_location(device), NULL),
			 0);
	/* A part on the device and a part on the host. */
	assert_int_equal(munmap(map + MIB, 2 * MIB), 0);
	fixture_check(map, MIB, 1);
	for (uint64_t at = 3 * MIB; at < 4 * MIB; at += 8)
		assert_int_equal(*(uint64_t *)(map + at), fixture_word(1, at / 8));
	do {
		n = svm_events_read(f->space, &cursor, events, 4096, NULL);
		for (int i = 0; i < n; i++)
			n_unmapped += events[i].kind == SVM_EVENT_UNMAPPED;
	} while (n > 0);
	assert_true(n_unmapped >= 1);
	/* Others use the address now; that is no business of the library's. Any thread may have been first. */
	other = mmap(map + MIB, 2 * MIB, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (other != MAP_FAILED)
		fixture_fill(other, 2 * MIB, 6);
	(void)svm_unregister(f->space, map, 4 * MIB);
	if (other != MAP_FAILED) {
		fixture_check(other, 2 * MIB, 6);
		munmap(other, 2 * MIB);
	}
	fixture_check(map, MIB, 1);
	munmap(map, MIB);
	munmap(map + 3 * MIB, MIB);
}

static void moved_while_registered(struct svm_fixture *f)
{
	uint8_t *map = map_memory(2 * MIB);
	uint8_t *moved;

	fixture_space(f, NULL);
	fixture_open(f, "soft:memory=16M");
	fixture_fill(map, 2 * MIB, 1);
	assert_int_equal(svm_register(f->space, map, 2 * MIB, 0), 0);
	moved = mremap(map, 2 * MIB, 4 * MIB, MREMAP_MAYMOVE);
	assert_ptr_not_equal(moved, MAP_FAILED);
	/* Resident pages went with it. */
	fixture_check(moved, 2 * MIB, 1);
	(void)svm_unregister(f->space, map, 2 * MIB);
	fixture_check(moved, 2 * MIB, 1);
	munmap(moved, 4 * MIB);
}

static void protected_while_registered(struct svm_fixture *f)
{
	struct svm_device *device;
	uint8_t *map = map_memory(2 * MIB);
	uint8_t byte;

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	fixture_fill(map, 2 * MIB, 1);
	assert_int_equal(svm_register(f->space, map, 2 * MIB, 0), 0);
	assert_int_equal(mprotect(map, 2 * MIB, PROT_READ), 0);
	fixture_check(map, 2 * MIB, 1);
	touch_install();
	assert_int_equal(touch_write(map, 1), SIGSEGV);
	assert_int_equal(mprotect(map, 2 * MIB, PROT_NONE), 0);
	assert_int_equal(touch_read(map, &byte), SIGSEGV);
	touch_remove();
	assert_int_equal(mprotect(map, 2 * MIB, PROT_READ | PROT_WRITE), 0);
	fixture_check_on(f, device, map, 2 * MIB, 1);
	fixture_fill_on(f, device, map, 2 * MIB, 2);
	fixture_check(map, 2 * MIB, 2);
	assert_int_equal(svm_unregister(f->space, map, 2 * MIB), 0);
	fixture_check(map, 2 * MIB, 2);
	munmap(map, 2 * MIB);
}

/* ---- Others at work --------------------------------------------------------------------------- */

struct user {
	uint8_t *map;
	_Atomic bool stop;
	_Atomic unsigned int n_rounds;
	_Atomic uint64_t n_wrong;
};

static void *use(void *arg)
{
	struct user *u = arg;

	while (!u->stop) {
		for (uint64_t at = 0; at < 2 * MIB; at += PAGE) {
			uint64_t *word = (uint64_t *)(u->map + at);

			if (__atomic_load_n(word, __ATOMIC_RELAXED) != fixture_word(1, at / 8))
				u->n_wrong++;
			__atomic_store_n(word, fixture_word(1, at / 8), __ATOMIC_RELAXED);
		}
		u->n_rounds++;
	}
	return NULL;
}

static void unregistered_while_in_use(struct svm_fixture *f)
{
	struct user u = { .map = map_memory(2 * MIB) };
	struct svm_device *device;
	pthread_t threads[2];

	fixture_fill(u.map, 2 * MIB, 1);
	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=16M");
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, use, &u), 0);
	for (unsigned int i = 0; i < 20; i++) {
		unsigned int rounds = u.n_rounds;

		assert_int_equal(svm_register(f->space, u.map, 2 * MIB, 0), 0);
		assert_int_equal(svm_prefetch(f->space, u.map, 2 * MIB, svm_device_location(device),
					      NULL),
				 0);
		if (i % 2)
			while (u.n_rounds == rounds)
				sched_yield();
		assert_int_equal(svm_unregister(f->space, u.map, 2 * MIB), 0);
	}
	u.stop = true;
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(u.n_wrong, 0);
	fixture_check(u.map, 2 * MIB, 1);
	munmap(u.map, 2 * MIB);
}

static void device_opened_later(struct svm_fixture *f)
{
	struct svm_device *device;
	uint8_t *map = map_memory(2 * MIB);

	fixture_space(f, NULL);
	fixture_fill(map, 2 * MIB, 1);
	assert_int_equal(svm_register(f->space, map, 2 * MIB, 0), 0);
	device = fixture_open(f, "soft:memory=16M");
	fixture_check_on(f, device, map, 2 * MIB, 1);
	fixture_fill_on(f, device, map, 2 * MIB, 2);
	assert_int_equal(svm_device_close(device), 0);
	fixture_check(map, 2 * MIB, 2);
	assert_int_equal(svm_unregister(f->space, map, 2 * MIB), 0);
	munmap(map, 2 * MIB);
}

static void every_kind_of_device(struct svm_fixture *f)
{
	struct svm_device *device;
	uint8_t *map = map_memory(4 * MIB);

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	fixture_fill(map, 4 * MIB, 1);
	assert_int_equal(svm_register(f->space, map, 4 * MIB, 0), 0);
	fixture_check_on(f, device, map, 4 * MIB, 1);
	fixture_fill_on(f, device, map, 4 * MIB, 2);
	fixture_check(map, 4 * MIB, 2);
	fixture_fill_on(f, device, map, 4 * MIB, 3);
	assert_int_equal(svm_unregister(f->space, map, 4 * MIB), 0);
	fixture_check(map, 4 * MIB, 3);
	munmap(map, 4 * MIB);
}

/* The 64 KiB at map without the four pages from the fifth on, where somebody else may have put something meanwhile. */
static void unmap_around_hole(uint8_t *map)
{
	assert_int_equal(munmap(map, 4 * PAGE), 0);
	assert_int_equal(munmap(map + 8 * PAGE, 8 * PAGE), 0);
}

/* The application unmaps a piece in the middle. What is around it is served as before, also where it was never touched, and
 * unregistering ends. */
static void memory_beside_a_hole_can_be_touched(struct svm_fixture *f)
{
	for (unsigned int discard = 0; discard < 2; discard++) {
		uint8_t *map;
		struct svm_device *device;

		fixture_space(f, NULL);
		device = fixture_open(f, f->device);
		map = map_memory(64 * KIB);
		fixture_fill(map, 64 * KIB, 5);
		assert_int_equal(svm_register(f->space, map, 64 * KIB, 0), 0);
		assert_int_equal(svm_prefetch(f->space, map, 64 * KIB, svm_device_location(device),
					      NULL),
				 0);
		if (discard)
			assert_int_equal(svm_discard(f->space, map, 64 * KIB, 0), 0);
		assert_int_equal(munmap(map + 4 * PAGE, 4 * PAGE), 0);
		for (unsigned int page = 0; page < 16; page++) {
			if (page >= 4 && page < 8)
				continue;
			if (discard)
				fixture_check_zero(map + page * PAGE, PAGE);
			else
				assert_int_equal(*(uint64_t *)(void *)(map + page * PAGE),
						 fixture_word(5, page * PAGE / 8));
		}
		assert_int_equal(svm_unregister(f->space, map, 64 * KIB), 0);
		fixture_space_end(f);
		unmap_around_hole(map);
	}
}

/* Pages of a hole that came home from a device are in nobody's memory once that has been noticed. */
static void a_hole_is_noticed_once(struct svm_fixture *f)
{
	struct svm_device *device;
	uint8_t *map;

	fixture_space(f, NULL);
	map = map_memory(64 * KIB);
	fixture_fill(map, 64 * KIB, 5);
	assert_int_equal(svm_register(f->space, map, 64 * KIB, 0), 0);
	assert_int_equal(munmap(map + 4 * PAGE, 4 * PAGE), 0);
	for (unsigned int round = 0; round < 3; round++) {
		device = fixture_open(f, f->device);
		assert_int_equal(svm_prefetch(f->space, map, round ? 4 * PAGE : 64 * KIB,
					      svm_device_location(device), NULL),
				 0);
		assert_int_equal(svm_device_close(device), 0);
		fixture_check(map, 4 * PAGE, 5);
	}
	assert_int_equal(*(uint64_t *)(void *)(map + 8 * PAGE), fixture_word(5, 8 * PAGE / 8));
	assert_int_equal(svm_unregister(f->space, map, 64 * KIB), 0);
	fixture_space_end(f);
	unmap_around_hole(map);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(bytes_are_kept, FIXTURE_VARIANTS),
		FIXTURE_CASE(partly_populated, FIXTURE_VARIANTS),
		FIXTURE_CASE(part_of_a_huge_page, FIXTURE_BOTH),
		FIXTURE_CASE(several_in_one_block, FIXTURE_VARIANTS),
		FIXTURE_CASE(heap_memory, FIXTURE_VARIANTS),
		FIXTURE_CASE(other_kinds_are_refused, FIXTURE_VARIANTS),
		FIXTURE_CASE(another_userfaultfd_has_it, FIXTURE_VARIANTS),
		FIXTURE_CASE(another_space_has_it, FIXTURE_VARIANTS),
		FIXTURE_CASE(held_is_busy, FIXTURE_VARIANTS),
		FIXTURE_CASE(dontneed_gives_zeros, FIXTURE_VARIANTS),
		FIXTURE_CASE(unmapped_while_registered, FIXTURE_VARIANTS),
		FIXTURE_CASE(moved_while_registered, FIXTURE_VARIANTS),
		FIXTURE_CASE(protected_while_registered, FIXTURE_VARIANTS),
		FIXTURE_CASE(unregistered_while_in_use, FIXTURE_VARIANTS),
		FIXTURE_CASE(device_opened_later, FIXTURE_VARIANTS),
		FIXTURE_CASE(every_kind_of_device, FIXTURE_DEVICES),
		FIXTURE_CASE(memory_beside_a_hole_can_be_touched, FIXTURE_BOTH),
		FIXTURE_CASE(a_hole_is_noticed_once, FIXTURE_BOTH),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
