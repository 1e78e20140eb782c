// SPDX-License-Identifier: MIT
/*
 * svm_device_import() on emulated xe devices: a runtime with an open file, a VM and a queue of its own has managed
 * memory bound into its VM, and its batches use the CPU's pointers. In VMs of each kind.
 */
#include "xe_app.h"
#include "xe_held.h"
#include <stdio.h>
#include <stdlib.h>

#define PAGE	FIXTURE_PAGE
#define BLOCK	FIXTURE_BLOCK
#define SIZE	(2 * BLOCK)
#define WORDS	1000u
#define STRIDE	(SIZE / WORDS / 4 * 4)
#define OPTIONS "xe:memory=64M"

static const struct {
	uint32_t mode;
	const char *name;
} modes[] = { { APP_JOBS, "jobs" }, { APP_LONG, "long" }, { APP_FAULTS, "faults" } };

#define for_each_mode(app)                                                     \
	for (unsigned int m_ = 0; m_ < sizeof(modes) / sizeof(modes[0]); m_++) \
		if (begin_mode(app, m_))

static bool begin_mode(struct app *app, unsigned int m)
{
	if (app_open(app, modes[m].mode))
		return true;
	print_message("no VM of kind '%s' on this device\n", modes[m].name);
	return false;
}

static struct svm_device_import options_of(const struct app *app, uint32_t flags)
{
	return (struct svm_device_import){ .size = sizeof(struct svm_device_import),
					   .fd = app->fd,
					   .vm_id = app->vm,
					   .flags = flags };
}

static struct svm_device *import(struct svm_fixture *f, const struct app *app, uint32_t flags)
{
	struct svm_device_import options = options_of(app, flags);
	struct svm_device *device;

	assert_int_equal(svm_device_import(f->space, OPTIONS, &options, &device), 0);
	return device;
}

static struct svm_access *acquire(struct svm_device *device, void *addr, uint64_t size, bool write)
{
	struct svm_access_range range = { .addr = addr,
					  .size = size,
					  .access = write ? SVM_ACCESS_WRITE : SVM_ACCESS_READ };
	struct svm_access *access;
	struct svm_fence *ready;
	struct pollfd p = { .events = POLLIN };

	assert_int_equal(svm_acquire(device, &range, 1, 0, &access, &ready), 0);
	/* As a runtime would: it polls. */
	assert_int_equal(svm_fence_export(ready, &p.fd), 0);
	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_int_equal(svm_fence_wait(ready, 0), 0);
	svm_fence_unref(ready);
	assert_int_equal(close(p.fd), 0);
	return access;
}

/* Give the memory back at the end of the batch that runs: by its sync_file, or by a fence that the application signals. */
static void release(struct svm_fixture *f, struct app *app, struct svm_access *access)
{
	struct app_syncobj_handle export = { .handle = app->syncobj, .flags = APP_SYNC_FILE };
	struct svm_fence *done;

	if (app->mode == APP_JOBS) {
		APP_DO(app, APP_SYNCOBJ_TO_FD, &export);
		assert_int_equal(svm_fence_import(f->space, export.fd, &done), 0);
		assert_int_equal(close(export.fd), 0);
		assert_int_equal(svm_release(access, done), 0);
	} else {
		assert_int_equal(svm_fence_create(f->space, &done), 0);
		assert_int_equal(svm_release(access, done), 0);
		assert_int_equal(svm_fence_signal(done, app_wait(app)), 0);
	}
	svm_fence_unref(done);
}

static uint32_t *word_at(void *base, unsigned int i)
{
	return (uint32_t *)((uint8_t *)base + (uint64_t)i * STRIDE);
}

/* The batch doubles the words' distance: dst[i] = src[n - i], and leaves its number at the start of dst. */
static void run_batch(struct svm_fixture *f, struct app *app, struct svm_device *device, void *dst,
		      const void *src, uint32_t number)
{
	struct svm_access *in = acquire(device, (void *)src, SIZE, false);
	struct svm_access *out = acquire(device, dst, SIZE, true);

	app_reset(app);
	for (unsigned int i = 1; i < WORDS; i++)
		app_copy(app, word_at(dst, i), word_at((void *)src, WORDS - i));
	app_store(app, dst, number);
	assert_int_equal(app_start(app), 0);
	release(f, app, in);
	release(f, app, out);
}

static void check_batch(uint32_t *dst, const uint32_t *src, uint32_t number)
{
	unsigned int n_wrong = 0;

	/* These touches wait for the batch. */
	assert_int_equal(*dst, number);
	for (unsigned int i = 1; i < WORDS; i++)
		n_wrong += *word_at(dst, i) != *word_at((void *)src, WORDS - i);
	assert_int_equal(n_wrong, 0);
}

static void set_words(void *base, uint32_t seed)
{
	for (unsigned int i = 0; i < WORDS; i++)
		*word_at(base, i) = (seed << 16) + i;
}

static void batches_use_the_cpus_pointers(struct svm_fixture *f)
{
	struct app app;

	for_each_mode(&app)
	{
		struct svm_device *device;
		void *a;
		void *b;

		fixture_space(f, NULL);
		device = import(f, &app, 0);
		a = fixture_alloc(f, SIZE, 0);
		b = fixture_alloc(f, SIZE, 0);
		for (uint32_t i = 1; i <= 20; i++) {
			set_words(a, i);
			run_batch(f, &app, device, b, a, i);
			if (i % 3 == 0) /* there and on: the CPU has not seen it in between */
				run_batch(f, &app, device, a, b, i);
			if (i % 3 != 0)
				check_batch(b, a, i);
			else
				check_batch(a, b, i);
		}
		fixture_free(f, a);
		fixture_free(f, b);
		fixture_space_end(f);
		app_close(&app);
	}
}

static void memory_moves_under_the_application(struct svm_fixture *f)
{
	struct app app;

	for_each_mode(&app)
	{
		struct svm_device *device;
		struct svm_location own;
		void *a;
		void *b;

		fixture_space(f, NULL);
		device = import(f, &app, 0);
		own = svm_device_location(device);
		a = fixture_alloc(f, SIZE, 0);
		b = fixture_alloc(f, SIZE, SVM_ALLOC_SHARED);
		for (uint32_t i = 1; i <= 6; i++) {
			set_words(a, i);
			assert_int_equal(svm_prefetch(f->space, a, SIZE, own, NULL), 0);
			run_batch(f, &app, device, b, a, i);
			assert_int_equal(svm_prefetch(f->space, b, SIZE, own, NULL), 0);
			run_batch(f, &app, device, a, b, i);
			check_batch(a, b, i);
		}
		fixture_free(f, a);
		fixture_free(f, b);
		fixture_space_end(f);
		app_close(&app);
	}
}

static void the_library_works_in_it_too(struct svm_fixture *f)
{
	struct app app;

	for_each_mode(&app)
	{
		struct svm_device *device;
		uint8_t *a;

		fixture_space(f, NULL);
		a = fixture_alloc(f, SIZE, 0);
		device = import(f, &app, 0);
		for (unsigned int i = 1; i <= 5; i++) {
			assert_int_equal(svm_device_fill(device, a, (uint8_t)i, BLOCK, NULL, NULL),
					 0);
			assert_int_equal(svm_device_copy(device, a + BLOCK, a, BLOCK, NULL, NULL),
					 0);
			assert_int_equal(a[2 * BLOCK - 1], i);
		}
		assert_int_equal(svm_device_close(device), 0);
		device = import(f, &app, SVM_IMPORT_NO_WORK);
		assert_int_equal(svm_device_fill(device, a, 9, BLOCK, NULL, NULL), -EOPNOTSUPP);
		assert_int_equal(svm_prefetch(f->space, a, SIZE, svm_device_location(device), NULL),
				 0);
		assert_int_equal(a[BLOCK], 5);
		fixture_space_end(f);
		app_close(&app);
	}
}

static void registered_memory_is_reached(struct svm_fixture *f)
{
	struct app app;

	for_each_mode(&app)
	{
		void *a = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			       0);
		struct svm_device *device;
		void *b;

		assert_ptr_not_equal(a, MAP_FAILED);
		fixture_space(f, NULL);
		device = import(f, &app, 0);
		b = fixture_alloc(f, SIZE, 0);
		set_words(a, 7);
		assert_int_equal(svm_register(f->space, a, SIZE, 0), 0);
		run_batch(f, &app, device, b, a, 7);
		run_batch(f, &app, device, a, b, 8);
		check_batch(a, b, 8);
		assert_int_equal(svm_unregister(f->space, a, SIZE), 0);
		if (app_areas(&app, (uintptr_t)a, SIZE) != -EINVAL)
			assert_int_equal(app_areas(&app, (uintptr_t)a, SIZE), 0);
		fixture_space_end(f);
		assert_int_equal(munmap(a, SIZE), 0);
		app_close(&app);
	}
}

/* What the application has in its VM is its own: it is there before, meanwhile and after. */
static void the_vm_stays_as_it_was(struct svm_fixture *f)
{
	struct app app;

	for_each_mode(&app)
	{
		struct svm_space_info info = { .size = sizeof(info) };
		volatile uint32_t *mine = (volatile uint32_t *)(app.map + (APP_DATA - APP_VA));
		struct svm_device *device;
		int areas = app_areas(&app, 0, UINT64_C(1) << 48);
		void *a;

		fixture_space(f, NULL);
		a = fixture_alloc(f, SIZE, 0);
		device = import(f, &app, 0);
		for (uint32_t i = 1; i <= 3; i++) {
			if (i == 2) {
				set_words(a, i);
				run_batch(f, &app, device, a, a, i);
				assert_int_equal(*(uint32_t *)a, i);
				assert_int_equal(svm_device_close(device), 0);
			}
			app_reset(&app);
			app_store(&app, (void *)(uintptr_t)APP_DATA, 100 + i);
			assert_int_equal(app_start(&app), 0);
			assert_int_equal(app_wait(&app), 0);
			assert_int_equal(*mine, 100 + i);
		}
		assert_int_equal(*(uint32_t *)a, 2);
		assert_int_equal(svm_space_query(f->space, &info), 0);
		if (areas >= 0) {
			assert_int_equal(areas, 1);
			assert_int_equal(app_areas(&app, 0, UINT64_C(1) << 48), 1);
		}
		/* And nothing of the window is left: a batch that touches it does not come through. */
		app_reset(&app);
		app_store(&app, a, 4711);
		app_store(&app, (void *)(uintptr_t)APP_DATA, 200);
		assert_int_equal(app_start(&app), 0);
		(void)app_wait(&app);
		if (app.mode == APP_JOBS) {
			/* A fence of what failed says so. */
			struct app_syncobj_handle export = { .handle = app.syncobj,
							     .flags = APP_SYNC_FILE };
			struct svm_fence *failed;

			APP_DO(&app, APP_SYNCOBJ_TO_FD, &export);
			assert_int_equal(svm_fence_import(f->space, export.fd, &failed), 0);
			assert_int_equal(svm_fence_wait(failed, -1), -EIO);
			svm_fence_unref(failed);
			assert_int_equal(close(export.fd), 0);
		}
		assert_int_equal(*mine, 103);
		assert_int_equal(*(uint32_t *)a, 2);
		fixture_space_end(f);
		app_close(&app);
	}
}

/* ---- Mirrored --------------------------------------------------------------------------------- */

static void a_mirrored_vm_is_shared(struct svm_fixture *f)
{
	struct svm_space_info info = { .size = sizeof(info) };
	uint32_t *plain =
		mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct svm_device_import options;
	struct svm_device *device;
	struct app app;
	void *a;

	assert_ptr_not_equal(plain, MAP_FAILED);
	if (!app_open(&app, APP_FAULTS) || app_mirror(&app) != 0) {
		if (app.vm)
			app_close(&app);
		assert_int_equal(munmap(plain, SIZE), 0);
		print_message("no mirroring on this device or kernel\n");
		skip();
	}
	fixture_space(f, NULL);
	options = options_of(&app, 0);
	/* The library's thread would wait for a lock that the kernel holds while it waits for that thread. */
	if (app_areas(&app, 0, PAGE) >= 0)
		assert_int_equal(svm_device_import(f->space, OPTIONS, &options, &device), -EEXIST);
	device = import(f, &app, SVM_IMPORT_MIRRORED);
	a = fixture_alloc(f, SIZE, 0);
	set_words(plain, 3);
	for (uint32_t i = 1; i <= 4; i++) {
		struct svm_access *out = acquire(device, a, SIZE, true);

		/* From the mirror to managed memory, and the other way round. */
		app_reset(&app);
		for (unsigned int w = 1; w < WORDS; w++)
			app_copy(&app, word_at(a, w), word_at(plain, w));
		app_store(&app, a, i);
		app_copy(&app, plain, a);
		assert_int_equal(app_start(&app), 0);
		release(f, &app, out);
		assert_int_equal(*(uint32_t *)a, i);
		assert_int_equal(*(volatile uint32_t *)plain, i);
		assert_int_equal(*word_at(a, WORDS - 1), *word_at(plain, WORDS - 1));
	}
	assert_int_equal(svm_space_query(f->space, &info), 0);
	assert_int_equal(svm_device_close(device), 0);
	/* The mirror is whole again. */
	if (app_areas(&app, 0, PAGE) >= 0) {
		assert_int_equal(app_areas(&app, info.window_base, info.window_size), 1);
		assert_int_equal(app_areas(&app, 0, UINT64_C(1) << 48), 2);
	}
	fixture_space_end(f);
	assert_int_equal(munmap(plain, SIZE), 0);
	app_close(&app);
}

/* A batch that touches managed memory without an acquire: were the window mirrored, the kernel would wait with the VM locked
 * for the service thread, which wants to bind there. As it is, the batch ends, and all others go on. */
static void a_stray_access_stops_nobody_else(struct svm_fixture *f)
{
	struct svm_device *device;
	struct app app;
	uint32_t *a;

	if (!app_open(&app, APP_FAULTS) || app_mirror(&app) != 0) {
		if (app.vm)
			app_close(&app);
		print_message("no mirroring on this device or kernel\n");
		skip();
	}
	fixture_space(f, NULL);
	device = import(f, &app, SVM_IMPORT_MIRRORED);
	a = fixture_alloc(f, SIZE, 0);
	set_words(a, 5);
	for (unsigned int i = 0; i < 4; i++) {
		app_reset(&app);
		app_store(&app, a + 1, 4711);
		if (app_start(&app) < 0) /* banned by the one before */
			break;
		assert_int_equal(svm_device_fill(device, (uint8_t *)a + BLOCK, (uint8_t)i, BLOCK,
						 NULL, NULL),
				 0);
		assert_int_equal(((uint8_t *)a)[BLOCK], i);
		assert_int_equal(app_wait(&app), -EIO);
	}
	assert_int_equal(*word_at(a, 3), (5u << 16) + 3);
	assert_int_not_equal(a[1], 4711);
	fixture_space_end(f);
	app_close(&app);
}

/* ---- The VM's lock ---------------------------------------------------------------------------- */

/* Where the application maps what it holds back, next to its own memory. */
#define HELD_VA (APP_VA + (UINT64_C(1) << 30))

struct binder {
	struct app *app;
	struct held *held;
	int result;
	_Atomic bool is_done;
};

static void *bind_held(void *data)
{
	struct binder *b = data;

	b->result = app_bind(b->app, (struct svm_xe_bind_op){ .op = SVM_XE_BIND_MAP_USERPTR,
							      .userptr = (uintptr_t)b->held->page,
							      .addr = HELD_VA,
							      .range = PAGE });
	b->is_done = true;
	return NULL;
}

static void unbind_held(struct app *app)
{
	assert_int_equal(app_bind(app, (struct svm_xe_bind_op){ .op = SVM_XE_BIND_UNMAP,
								.addr = HELD_VA,
								.range = PAGE }),
			 0);
}

/* Linux 7.3 waits for such a page with the VM locked; older ones say EFAULT. */
static bool kernel_waits(struct app *app)
{
	struct held held;
	struct binder binder = { .app = app, .held = &held };
	pthread_t thread;
	bool waits = false;

	if (!held_open(&held))
		return false;
	assert_int_equal(pthread_create(&thread, NULL, bind_held, &binder), 0);
	while (!waits && !binder.is_done)
		waits = held_poll(&held, 10);
	if (waits)
		held_serve(&held);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(binder.result, waits ? 0 : -EFAULT);
	if (waits)
		unbind_held(app);
	held_close(&held);
	return waits;
}

/* The application's own bind waits for a page, with the VM locked. */
static void a_bind_that_waits_stops_nobody_else(struct svm_fixture *f)
{
	struct app app;
	bool waits;

	assert_true(app_open(&app, APP_JOBS));
	waits = kernel_waits(&app);
	app_close(&app);
	if (!waits) {
		print_message("the driver of this kernel does not wait for a userfaultfd\n");
		skip();
	}
	for_each_mode(&app)
	{
		struct svm_device *device;
		struct held held;
		struct binder binder = { .app = &app, .held = &held };
		uint8_t *managed;
		pthread_t thread;

		fixture_space(f, NULL);
		device = import(f, &app, 0);
		managed = held_managed(f, device);
		for (unsigned int work = 0; work < 2; work++) {
			assert_int_equal(svm_device_fill(device, managed, 5, BLOCK, NULL, NULL), 0);
			assert_true(held_open(&held));
			assert_int_equal(pthread_create(&thread, NULL, bind_held, &binder), 0);
			held_wait(&held);
			held_serve_others(f, device, &held, managed, work);
			assert_int_equal(pthread_join(thread, NULL), 0);
			assert_int_equal(binder.result, 0);
			unbind_held(&app);
			held_close(&held);
		}
		fixture_space_end(f);
		app_close(&app);
	}
}

/* A fault of the application's batch waits for a page, with the VM locked. */
static void a_fault_that_waits_stops_nobody_else(struct svm_fixture *f)
{
	struct svm_device *device;
	uint8_t *managed;
	struct app app;

	if (!app_open(&app, APP_FAULTS) || app_mirror(&app) != 0 || !kernel_waits(&app)) {
		if (app.vm)
			app_close(&app);
		print_message("no mirroring on this device or kernel, or its faults do not wait\n");
		skip();
	}
	fixture_space(f, NULL);
	device = import(f, &app, SVM_IMPORT_MIRRORED);
	managed = held_managed(f, device);
	for (unsigned int work = 0; work < 2; work++) {
		struct held held;

		assert_int_equal(svm_device_fill(device, managed, 5, BLOCK, NULL, NULL), 0);
		assert_true(held_open(&held));
		app_reset(&app);
		app_store(&app, held.page, 4711);
		assert_int_equal(app_start(&app), 0);
		held_wait(&held);
		held_serve_others(f, device, &held, managed, work);
		assert_int_equal(app_wait(&app), 0);
		assert_int_equal(*(volatile uint32_t *)held.page, 4711);
		held_close(&held);
	}
	fixture_space_end(f);
	app_close(&app);
}

/* ---- What is refused -------------------------------------------------------------------------- */

static char lines[4096];

static void keep_line(void *data, int level, const char *line)
{
	size_t used = strlen(lines);

	(void)data;
	(void)level;
	(void)snprintf(lines + used, sizeof(lines) - used, "%s\n", line);
}

static void expect(struct svm_fixture *f, const char *name, const struct svm_device_import *options,
		   int error, const char *says)
{
	struct svm_device *device;
	int r;

	lines[0] = '\0';
	r = svm_device_import(f->space, name, options, &device);
	if (r != error || (says && !strstr(lines, says)))
		fail_msg("want %d and '%s', have %d and '%s'", error, says ? says : "", r, lines);
}

static void what_cannot_be_imported_is_named(struct svm_fixture *f)
{
	struct svm_space_options quiet = { .size = sizeof(quiet),
					   .log = keep_line,
					   .log_level = SVM_LOG_ERROR };
	struct svm_space_info info = { .size = sizeof(info) };
	struct svm_device_import good;
	struct svm_device_import bad;
	struct app other;
	struct app app;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int areas;

	assert_true(null >= 0);
	assert_true(app_open(&app, APP_JOBS));
	assert_true(app_open(&other, APP_JOBS));
	areas = app_areas(&app, 0, UINT64_C(1) << 48);
	fixture_space(f, &quiet);
	good = options_of(&app, 0);

	bad = good;
	bad.size = 1;
	expect(f, "xe", &bad, -EINVAL, NULL);
	bad = good;
	bad.flags = 1u << 9;
	expect(f, "xe", &bad, -EINVAL, NULL);
	bad = good;
	bad.reserved = 1;
	expect(f, "xe", &bad, -EINVAL, NULL);
	expect(f, "xe", NULL, -EINVAL, NULL);
	expect(f, "xe:renderD128", &good, -EINVAL, "option");
	expect(f, "xe:vm=long", &good, -EINVAL, "option");
	expect(f, "xe:colour=blue", &good, -EINVAL, "option");
	expect(f, "nobody", &good, -ENODEV, NULL);
	expect(f, "soft", &good, -EOPNOTSUPP, "no address space can be imported");
	bad = good;
	bad.fd = -1;
	expect(f, "xe", &bad, -EBADF, "cannot be duplicated");
	bad.fd = null;
	expect(f, "xe", &bad, -ENODEV, "not an open file of a DRM device");
	bad = good;
	bad.vm_id = 4711;
	expect(f, "xe", &bad, -ENOENT, "no VM 4711 in this open file");
	/* The other open file has a VM of that number, this one has not. */
	bad.vm_id = app.vm + 1;
	{
		struct svm_xe_vm_create vm = { 0 };
		struct svm_xe_vm_destroy destroy = { 0 };

		APP_DO(&other, SVM_XE_VM_CREATE, &vm);
		assert_int_equal(vm.vm_id, bad.vm_id);
		expect(f, "xe", &bad, -ENOENT, "a VM belongs to the one that made it");
		destroy.vm_id = vm.vm_id;
		APP_DO(&other, SVM_XE_VM_DESTROY, &destroy);
	}
	bad = good;
	bad.flags = SVM_IMPORT_MIRRORED;
	expect(f, "xe", &bad, -EOPNOTSUPP, "no CPU_ADDR_MIRROR");
	assert_int_equal(svm_space_query(f->space, &info), 0);
	if (areas >= 0) {
		assert_int_equal(app_bind_own(&app, info.window_base + BLOCK), 0);
		expect(f, "xe", &good, -EEXIST, "has 1 areas in the window");
		assert_int_equal(app_bind(&app,
					  (struct svm_xe_bind_op){ .op = SVM_XE_BIND_UNMAP,
								   .addr = info.window_base + BLOCK,
								   .range = APP_SIZE }),
				 0);
		assert_int_equal(app_areas(&app, 0, UINT64_C(1) << 48), areas);
	}
	fixture_space_end(f);
	app_close(&other);
	app_close(&app);
	assert_int_equal(close(null), 0);
}

/* Any ioctl of an import may fail: then the VM is as it was, and it works the next time. */
static void a_failed_import_leaves_nothing(struct svm_fixture *f)
{
	static const int errors[] = { ENOMEM, EIO, EINVAL };
	struct svm_space_options quiet = { .size = sizeof(quiet),
					   .log = keep_line,
					   .log_level = SVM_LOG_ERROR };
	unsigned int n_failed = 0;
	struct app app;

	for_each_mode(&app)
	{
		struct svm_device_import options = options_of(&app, 0);
		int areas = app_areas(&app, 0, UINT64_C(1) << 48);

		fixture_space(f, &quiet);
		for (size_t e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
			for (uint64_t n = 1; n <= 60; n++) {
				struct svm_device *device;
				int r;

				lines[0] = '\0';
				emu_ctl_fail(0, n, errors[e], 0);
				r = svm_device_import(f->space, OPTIONS, &options, &device);
				if (r == 0)
					assert_int_equal(svm_device_close(device), 0);
				emu_ctl_fail(0, 0, 0, 0);
				n_failed += r < 0;
				if (r < 0 && !lines[0])
					fail_msg("error %d without a line", r);
				assert_int_equal(app_areas(&app, 0, UINT64_C(1) << 48), areas);
			}
		}
		fixture_space_end(f);
		app_close(&app);
	}
	assert_true(n_failed > 30);
}

/* ---- The end ---------------------------------------------------------------------------------- */

static void a_lost_device_leaves_the_vm(struct svm_fixture *f)
{
	struct app app;

	for_each_mode(&app)
	{
		struct svm_space_options quiet = { .size = sizeof(quiet),
						   .log = keep_line,
						   .log_level = SVM_LOG_ERROR };
		volatile uint32_t *mine = (volatile uint32_t *)(app.map + (APP_DATA - APP_VA));
		struct svm_device_info info = { .size = sizeof(info) };
		int areas = app_areas(&app, 0, UINT64_C(1) << 48);
		struct svm_device *device;
		uint32_t *a;

		lines[0] = '\0';
		fixture_space(f, &quiet);
		device = import(f, &app, 0);
		a = fixture_alloc(f, SIZE, 0);
		set_words(a, 1);
		assert_int_equal(svm_prefetch(f->space, a, SIZE, svm_device_location(device), NULL),
				 0);
		/* The library's own queue does not come through: its device is lost, the application's is not. */
		emu_ctl_fail(0, 1, ECANCELED, 0x49);
		assert_int_equal(svm_device_fill(device, a, 1, PAGE, NULL, NULL), -ENODEV);
		assert_int_equal(svm_device_query(device, &info), 0);
		assert_int_equal(info.is_lost, 1);
		app_reset(&app);
		app_store(&app, (void *)(uintptr_t)APP_DATA, 300);
		assert_int_equal(app_start(&app), 0);
		assert_int_equal(app_wait(&app), 0);
		assert_int_equal(*mine, 300);
		assert_int_equal(svm_device_close(device), 0);
		assert_int_equal(app_areas(&app, 0, UINT64_C(1) << 48), areas);
		fixture_free(f, a);
		fixture_space_end(f);
		app_close(&app);
	}
}

static const struct svm_fixture_case cases[] = {
	FIXTURE_CASE(batches_use_the_cpus_pointers, FIXTURE_ONCE),
	FIXTURE_CASE(memory_moves_under_the_application, FIXTURE_ONCE),
	FIXTURE_CASE(the_library_works_in_it_too, FIXTURE_ONCE),
	FIXTURE_CASE(registered_memory_is_reached, FIXTURE_ONCE),
	FIXTURE_CASE(the_vm_stays_as_it_was, FIXTURE_ONCE),
	FIXTURE_CASE(a_mirrored_vm_is_shared, FIXTURE_ONCE),
	FIXTURE_CASE(a_stray_access_stops_nobody_else, FIXTURE_ONCE),
	FIXTURE_CASE(a_bind_that_waits_stops_nobody_else, FIXTURE_ONCE),
	FIXTURE_CASE(a_fault_that_waits_stops_nobody_else, FIXTURE_ONCE),
	FIXTURE_CASE(what_cannot_be_imported_is_named, FIXTURE_ONCE),
	FIXTURE_CASE(a_failed_import_leaves_nothing, FIXTURE_ONCE),
	FIXTURE_CASE(a_lost_device_leaves_the_vm, FIXTURE_ONCE),
};

int main(int argc, char **argv)
{
	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
