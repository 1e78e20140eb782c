/* SPDX-License-Identifier: MIT */
/*
 * Shown here: a process without privileges gets the same library. It takes the user-mode-only
 * userfaultfd by itself, says so in its capabilities, and every main flow works; only system calls
 * want svm_host_acquire() first.
 *
 * Each case runs in a child that has become nobody. Needs root to start from.
 */
#include "process.h"
#include "fixture.h"
#include <grp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define KIB    UINT64_C(1024)
#define MIB    (UINT64_C(1) << 20)
#define PAGE   UINT64_C(4096)
#define NOBODY 65534

struct flow {
	struct svm_fixture *f;
	void (*run)(struct svm_fixture *f);
	const struct svm_space_options *options;
};

static void become_nobody(void)
{
	assert_int_equal(setgroups(0, NULL), 0);
	assert_int_equal(setgid(NOBODY), 0);
	assert_int_equal(setuid(NOBODY), 0);
	assert_int_equal(setuid(0), -1);
	/* As a program that nobody has started: its /proc files are its own (PR_SET_DUMPABLE, prctl(2)). */
	assert_int_equal(prctl(PR_SET_DUMPABLE, 1), 0);
}

static bool is_denied(const struct svm_space_options *options)
{
	struct svm_space *space;
	int r = svm_space_create(options, &space);

	assert_true(r == 0 || r == -EOPNOTSUPP);
	return r < 0 || svm_space_destroy(space) < 0;
}

static void run_as_nobody(void *arg)
{
	const struct flow *flow = arg;

	become_nobody();
	if (is_denied(flow->options)) {
		print_message("io_uring is denied to an unprivileged user here: left out\n");
		return;
	}
	fixture_space(flow->f, flow->options);
	flow->run(flow->f);
	fixture_space_end(flow->f);
}

static void as_nobody(struct svm_fixture *f, void (*run)(struct svm_fixture *f))
{
	static const struct svm_space_options loops[] = {
		{ .size = sizeof(loops[0]), .loop = SVM_LOOP_IO_URING },
		{ .size = sizeof(loops[0]), .loop = SVM_LOOP_EPOLL },
	};
	static char text[4096];

	if (geteuid() != 0) {
		print_message(
			"not root: cannot become nobody; the other tests run unprivileged then\n");
		skip();
	}
	for (unsigned int i = 0; i < 2; i++) {
		struct flow flow = { f, run, &loops[i] };
		int status = fixture_in_child(run_as_nobody, &flow, text, sizeof(text));

		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			fail_msg("loop %u: status %x: %s", i, (unsigned int)status, text);
	}
}

/* May a process without privileges have a userfaultfd that serves the kernel's faults? */
static bool kernel_faults_for_all(void)
{
	char text[8] = "";
	FILE *file;

	if (access("/dev/userfaultfd", R_OK | W_OK) == 0)
		return true;
	file = fopen("/proc/sys/vm/unprivileged_userfaultfd", "re");
	if (file && !fgets(text, sizeof(text), file))
		text[0] = '\0';
	if (file)
		fclose(file);
	return text[0] == '1';
}

static void flow_capabilities(struct svm_fixture *f)
{
	struct svm_space_info info = { .size = sizeof(info) };

	assert_int_equal(svm_space_query(f->space, &info), 0);
	assert_int_equal((info.caps & SVM_SPACE_CAP_KERNEL_FAULTS) != 0, kernel_faults_for_all());
	assert_true(info.window_size >= MIB);
	assert_int_equal(info.n_threads, 1);
}

static void flow_faults_and_prefetch(struct svm_fixture *f)
{
	static const char *const names[] = { "soft:memory=8M", "soft:memory=8M:faults=off",
					     "soft:memory=8M:host=none:readonly=off:visible=off" };
	struct svm_location host = { SVM_LOCATION_HOST, 0 };

	for (unsigned int i = 0; i < 3; i++) {
		struct svm_device *device = fixture_open(f, names[i]);
		uint8_t *data = fixture_alloc(f, 6 * MIB, i % 2 ? SVM_ALLOC_SHARED : 0);

		fixture_fill(data, 6 * MIB, 1);
		fixture_check_on(f, device, data, 6 * MIB, 1);
		fixture_fill_on(f, device, data, 6 * MIB, 2);
		fixture_check(data, 6 * MIB, 2);
		assert_int_equal(svm_prefetch(f->space, data, 4 * MIB, svm_device_location(device),
					      NULL),
				 0);
		assert_int_equal(svm_prefetch(f->space, data, 4 * MIB, host, NULL), 0);
		fixture_check(data, 6 * MIB, 2);
		assert_int_equal(svm_device_close(device), 0);
		fixture_free(f, data);
	}
}

static void flow_hints_and_eviction(struct svm_fixture *f)
{
	struct svm_location host = { SVM_LOCATION_HOST, 0 };
	struct svm_advice read_mostly = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };
	struct svm_advice preferred = { .kind = SVM_ADVICE_PREFERRED_LOCATION, .location = host };
	struct svm_device *a = fixture_open(f, "soft:memory=4M");
	struct svm_device *b = fixture_open(f, "soft:memory=4M");
	uint8_t *data = fixture_alloc(f, 12 * MIB, 0);

	fixture_fill(data, 12 * MIB, 1);
	fixture_check_on(f, a, data, 12 * MIB, 1);
	fixture_fill_on(f, b, data, 12 * MIB, 2);
	fixture_check(data, 12 * MIB, 2);
	assert_int_equal(svm_advise(f->space, data, 4 * MIB, &read_mostly, 1, NULL), 0);
	assert_int_equal(svm_advise(f->space, data + 4 * MIB, 4 * MIB, &preferred, 1, NULL), 0);
	fixture_check_on(f, a, data, 8 * MIB, 2);
	fixture_check_on(f, b, data, 8 * MIB, 2);
	fixture_fill_on(f, b, data, 8 * MIB, 3);
	fixture_check(data, 8 * MIB, 3);
	assert_true(fixture_stats(f).pages_evicted > 0);
	assert_true(fixture_stats(f).pages_duplicated > 0);
	assert_true(fixture_stats(f).blocks_converted > 0);
}

static void flow_registered_memory(struct svm_fixture *f)
{
	struct svm_device *device;
	uint8_t *map =
		mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	/* Mapped before: a sanitizer's run-time in the device's process maps memory of its own wherever it is free. */
	device = fixture_open(f, "soft:memory=8M");
	fixture_fill(map, 4 * MIB, 1);
	assert_int_equal(svm_register(f->space, map, 4 * MIB, 0), 0);
	fixture_check_on(f, device, map, 4 * MIB, 1);
	fixture_fill_on(f, device, map, 4 * MIB, 2);
	fixture_check(map, 2 * MIB, 2);
	assert_int_equal(svm_unregister(f->space, map, 4 * MIB), 0);
	fixture_check(map, 4 * MIB, 2);
	munmap(map, 4 * MIB);
}

static void flow_system_calls(struct svm_fixture *f)
{
	struct svm_device *device = fixture_open(f, "soft:memory=8M");
	uint8_t *data = fixture_alloc(f, 64 * KIB, 0);
	int fd = memfd_create("test", MFD_CLOEXEC);
	bool serves = kernel_faults_for_all();
	ssize_t n;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 64 * 1024), 0);
	fixture_fill_on(f, device, data, 64 * KIB, 1);
	n = pwrite(fd, data, 64 * KIB, 0);
	if (!serves) {
		assert_int_equal(n, -1);
		assert_int_equal(errno, EFAULT);
		assert_int_equal(svm_host_acquire(f->space, data, 64 * KIB, SVM_ACCESS_READ, 0), 0);
		n = pwrite(fd, data, 64 * KIB, 0);
		assert_int_equal(svm_host_release(f->space, data, 64 * KIB, SVM_ACCESS_READ), 0);
	}
	assert_int_equal(n, 64 * KIB);
	fixture_fill(data, 64 * KIB, 2);
	assert_int_equal(svm_prefetch(f->space, data, 64 * KIB, svm_device_location(device), NULL),
			 0);
	assert_int_equal(svm_host_acquire(f->space, data, 64 * KIB, SVM_ACCESS_WRITE, 0), 0);
	assert_int_equal(pread(fd, data, 64 * KIB, 0), 64 * KIB);
	assert_int_equal(svm_host_release(f->space, data, 64 * KIB, SVM_ACCESS_WRITE), 0);
	fixture_check(data, 64 * KIB, 1);
	close(fd);
}

static void flow_loss(struct svm_fixture *f)
{
	struct svm_device *device = fixture_open(f, "soft:memory=8M");
	uint8_t *data = fixture_alloc(f, 2 * MIB, 0);
	uint8_t byte;

	fixture_fill_on(f, device, data, 2 * MIB, 1);
	fixture_kill(f, device);
	touch_install();
	assert_int_equal(touch_read(data, &byte), fixture_loss_signal(f));
	touch_remove();
	assert_int_equal(svm_discard(f->space, data, 2 * MIB, 0), 0);
	fixture_check_zero(data, 2 * MIB);
	assert_int_equal(svm_device_close(device), 0);
}

static void flow_pin_copy_fill(struct svm_fixture *f)
{
	struct svm_device *device = fixture_open(f, "soft:memory=8M");
	struct svm_location there = svm_device_location(device);
	struct svm_location host = { SVM_LOCATION_HOST, 0 };
	uint8_t *data = fixture_alloc(f, 4 * MIB, 0);

	fixture_fill(data, 2 * MIB, 1);
	assert_int_equal(svm_device_copy(device, data + 2 * MIB, data, 2 * MIB, NULL, NULL), 0);
	fixture_check(data + 2 * MIB, 2 * MIB, 1);
	assert_int_equal(svm_pin(f->space, data, MIB, there), 0);
	assert_int_equal(svm_unpin(f->space, data, MIB, there), 0);
	assert_int_equal(svm_pin(f->space, data, MIB, host), 0);
	fixture_check(data, 2 * MIB, 1);
	assert_int_equal(svm_unpin(f->space, data, MIB, host), 0);
	assert_int_equal(svm_device_fill(device, data, 7, 100, NULL, NULL), 0);
	assert_int_equal(data[99], 7);
}

static void capabilities(struct svm_fixture *f)
{
	as_nobody(f, flow_capabilities);
}

static void faults_and_prefetch(struct svm_fixture *f)
{
	as_nobody(f, flow_faults_and_prefetch);
}

static void hints_and_eviction(struct svm_fixture *f)
{
	as_nobody(f, flow_hints_and_eviction);
}

static void registered_memory(struct svm_fixture *f)
{
	as_nobody(f, flow_registered_memory);
}

static void system_calls(struct svm_fixture *f)
{
	as_nobody(f, flow_system_calls);
}

static void loss(struct svm_fixture *f)
{
	as_nobody(f, flow_loss);
}

static void pin_copy_fill(struct svm_fixture *f)
{
	as_nobody(f, flow_pin_copy_fill);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(capabilities, FIXTURE_ONCE),
		FIXTURE_CASE(faults_and_prefetch, FIXTURE_ONCE),
		FIXTURE_CASE(hints_and_eviction, FIXTURE_ONCE),
		FIXTURE_CASE(registered_memory, FIXTURE_ONCE),
		FIXTURE_CASE(system_calls, FIXTURE_ONCE),
		FIXTURE_CASE(loss, FIXTURE_ONCE),
		FIXTURE_CASE(pin_copy_fill, FIXTURE_ONCE),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
