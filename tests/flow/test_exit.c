/* SPDX-License-Identifier: MIT */
/*
 * Shown here: however a program ends, and whatever it was doing, its device processes end with it and
 * nothing hangs; and a space goes away in whatever order its parts do.
 */
#include "process.h"
#include "fixture.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define KIB  UINT64_C(1024)
#define MIB  (UINT64_C(1) << 20)
#define PAGE UINT64_C(4096)

/* ---- Programs that end ------------------------------------------------------------------------ */

enum stage {
	STAGE_IDLE,
	STAGE_KERNEL_RUNS,
	STAGE_PREFETCH_THERE,
	STAGE_PREFETCH_HOME,
	STAGE_DEVICE_FAULT_PENDING,
	STAGE_CPU_FAULT_PENDING,
	STAGE_HELD_AND_PINNED,
	STAGE_REGISTERED,
	STAGE_DEVICE_LOST,
	N_STAGES,
};

enum ending {
	ENDING_KILL,   /* SIGKILL from outside */
	ENDING_EXIT,   /* exit(): handlers run, threads are in the middle of things */
	ENDING_RETURN, /* _exit() */
	ENDING_ABORT,
	ENDING_EXEC,
	N_ENDINGS,
};

struct program {
	enum stage stage;
	enum ending ending;
	int out;	/* the pids of its devices go here, when the stage is reached */
	int go;		/* and a byte comes from here when it may end */
	uint32_t *flag; /* shared with its devices */
};

struct spin_args {
	uint32_t *flag;
};

static void kernel_spin(const void *args, uint64_t index, uint64_t count)
{
	uint32_t *flag = ((const struct spin_args *)args)->flag;

	(void)index;
	(void)count;
	__atomic_store_n(flag, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(flag, __ATOMIC_RELAXED))
		;
}

static void *touch_page(void *addr)
{
	*(volatile uint8_t *)addr = 1;
	return NULL;
}

static uint64_t n_faults(struct svm_space *space, bool device)
{
	struct svm_stats stats = { .size = sizeof(stats) };

	child_check(svm_stats_query(space, &stats) == 0);
	return device ? stats.device_faults : stats.cpu_faults;
}

static void reach_stage(const struct program *p, struct svm_space *space,
			struct svm_device **devices, uint8_t *data)
{
	struct svm_access_range access_range = { data, 4 * MIB, SVM_ACCESS_WRITE, 0 };
	struct svm_prefetch_range range = { data, 16 * MIB, svm_device_location(devices[0]) };
	struct svm_fixture_kernel fill = { .addr = (uint64_t)(uintptr_t)data, .pattern = 1 };
	struct svm_location host = { SVM_LOCATION_HOST, 0 };
	struct spin_args spin = { p->flag };
	struct svm_prefetch *prefetch;
	struct svm_access *access;
	struct svm_fence *done;
	uint64_t faults;
	pthread_t thread;
	uint8_t *map;

	switch (p->stage) {
	case STAGE_KERNEL_RUNS:
		*p->flag = 0;
		child_check(svm_soft_launch(devices[0], kernel_spin, &spin, sizeof(spin), 1, NULL,
					    &done) == 0);
		while (!__atomic_load_n(p->flag, __ATOMIC_SEQ_CST))
			sched_yield();
		break;
	case STAGE_PREFETCH_THERE:
		child_check(svm_prefetch_start(space, &range, 1, NULL, 0, &prefetch) == 0);
		break;
	case STAGE_PREFETCH_HOME:
		child_check(svm_prefetch(space, data, 2 * MIB, range.to, NULL) == 0);
		range.to = host;
		child_check(svm_prefetch_start(space, &range, 1, NULL, 0, &prefetch) == 0);
		break;
	case STAGE_DEVICE_FAULT_PENDING:
		faults = n_faults(space, true);
		child_check(svm_soft_launch(devices[0], fixture_kernel_fill, &fill, sizeof(fill),
					    4096, NULL, &done) == 0);
		while (n_faults(space, true) == faults)
			sched_yield();
		break;
	case STAGE_CPU_FAULT_PENDING:
		child_check(svm_acquire(devices[1], &access_range, 1, 0, &access, NULL) == 0);
		faults = n_faults(space, false);
		child_check(pthread_create(&thread, NULL, touch_page, data) == 0);
		while (n_faults(space, false) == faults)
			sched_yield();
		break;
	case STAGE_HELD_AND_PINNED:
		child_check(svm_acquire(devices[1], &access_range, 1, 0, &access, NULL) == 0);
		child_check(svm_pin(space, data + 8 * MIB, MIB, host) == 0);
		child_check(svm_pin(space, data + 10 * MIB, MIB, svm_device_location(devices[1])) ==
			    0);
		break;
	case STAGE_REGISTERED:
		map = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		child_check(map != MAP_FAILED && svm_register(space, map, MIB, 0) == 0);
		child_check(svm_prefetch(space, map, MIB, svm_device_location(devices[1]), NULL) ==
			    0);
		break;
	case STAGE_DEVICE_LOST:
		child_check(svm_soft_kill(devices[0]) == 0);
		break;
	case STAGE_IDLE:
	case N_STAGES:
		break;
	}
}

static _Noreturn void run_program(const struct program *p)
{
	static const char *const names[] = {
		"soft:memory=32M:bandwidth=20M:engines=2",
		"soft:memory=32M:faults=off",
	};
	char none[] = "true";
	char *argv[] = { none, NULL };
	struct svm_device *devices[2];
	struct svm_space *space;
	pid_t pids[4] = { 0 };
	uint8_t *data;
	void *addr;
	char c;

	/* CMocka's handlers would jump into a test that is not ours. */
	(void)signal(SIGABRT, SIG_DFL);
	(void)signal(SIGSEGV, SIG_DFL);
	(void)signal(SIGBUS, SIG_DFL);
	child_check(svm_space_create(NULL, &space) == 0);
	for (unsigned int i = 0; i < 2; i++)
		child_check(svm_device_open(space, names[i], &devices[i]) == 0);
	child_check(svm_alloc(space, 16 * MIB, 0, &addr) == 0);
	data = addr;
	memset(data, 1, 16 * MIB);
	child_check(process_devices(getpid(), pids, 4) == 2);
	child_check(write(p->out, pids, sizeof(pids)) == sizeof(pids));
	child_check(read(p->go, &c, 1) == 1);
	reach_stage(p, space, devices, data);
	child_check(write(p->out, &c, 1) == 1);
	switch (p->ending) {
	case ENDING_KILL:
		(void)!read(p->go, &c, 1);
		break;
	case ENDING_EXIT:
		exit(0);
	case ENDING_RETURN:
		_exit(0);
	case ENDING_ABORT:
		abort();
	case ENDING_EXEC:
		execv("/bin/true", argv);
		_exit(7);
	case N_ENDINGS:
		break;
	}
	_exit(8);
}

static void run_and_watch(struct svm_fixture *f, enum stage stage, enum ending ending)
{
	struct program p = { .stage = stage, .ending = ending, .flag = f->scratch };
	pid_t pids[4] = { 0 };
	int device_fds[2];
	int out[2];
	int go[2];
	int status;
	int pid_fd;
	char c = 0;
	pid_t pid;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		p.out = out[1];
		p.go = go[0];
		close(go[1]);
		run_program(&p);
	}
	assert_true(pid > 0);
	close(out[1]);
	close(go[0]);
	pid_fd = process_open(pid);
	assert_true(pid_fd >= 0);
	if (read(out[0], pids, sizeof(pids)) != sizeof(pids))
		fail_msg("stage %d ending %d: the program does not start", stage, ending);
	for (unsigned int i = 0; i < 2; i++) {
		device_fds[i] = process_open(pids[i]);
		assert_true(device_fds[i] >= 0);
	}
	assert_int_equal(write(go[1], &c, 1), 1);
	if (read(out[0], &c, 1) != 1)
		fail_msg("stage %d: is not reached", stage);
	if (ending == ENDING_KILL)
		assert_int_equal(process_kill(pid_fd), 0);
	if (!process_ended(pid_fd))
		fail_msg("stage %d ending %d: hangs", stage, ending);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (ending == ENDING_KILL)
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	else if (ending == ENDING_ABORT)
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	else
		assert_int_equal(status, 0);
	for (unsigned int i = 0; i < 2; i++) {
		if (!process_ended(device_fds[i]))
			fail_msg("stage %d ending %d: device %u lives on", stage, ending, i);
		close(device_fds[i]);
	}
	close(pid_fd);
	close(out[0]);
	close(go[1]);
}

static void killed(struct svm_fixture *f)
{
	for (enum stage stage = 0; stage < N_STAGES; stage++)
		run_and_watch(f, stage, ENDING_KILL);
}

static void exits(struct svm_fixture *f)
{
	for (enum stage stage = 0; stage < N_STAGES; stage++) {
		run_and_watch(f, stage, ENDING_EXIT);
		run_and_watch(f, stage, ENDING_RETURN);
	}
}

static void aborts(struct svm_fixture *f)
{
	for (enum stage stage = 0; stage < N_STAGES; stage++)
		run_and_watch(f, stage, ENDING_ABORT);
}

static void becomes_another_program(struct svm_fixture *f)
{
	for (enum stage stage = 0; stage < N_STAGES; stage++)
		run_and_watch(f, stage, ENDING_EXEC);
}

/* ---- Spaces that end -------------------------------------------------------------------------- */

static void destroy_with_everything_in_it(struct svm_fixture *f)
{
	struct svm_device *devices[3];
	uint8_t *registered =
		mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *data;

	assert_ptr_not_equal(registered, MAP_FAILED);
	fixture_space(f, NULL);
	for (unsigned int i = 0; i < 3; i++)
		devices[i] =
			fixture_open(f, i == 1 ? "soft:memory=4M:faults=off" : "soft:memory=4M");
	data = fixture_alloc(f, 8 * MIB, 0);
	fixture_alloc(f, 100, SVM_ALLOC_SHARED);
	fixture_fill(data, 8 * MIB, 1);
	assert_int_equal(svm_register(f->space, registered, MIB, 0), 0);
	fixture_fill_on(f, devices[2], registered, MIB, 2);
	fixture_check_on(f, devices[0], data, 4 * MIB, 1);
	fixture_space_end(f);
	/* The application's memory is the application's, with what the device wrote. */
	fixture_check(registered, MIB, 2);
	munmap(registered, MIB);
}

static void parts_go_in_any_order(struct svm_fixture *f)
{
	/* Each order of: free, close first device, close second device, unregister. */
	static const uint8_t orders[][4] = {
		{ 0, 1, 2, 3 }, { 3, 2, 1, 0 }, { 1, 0, 3, 2 }, { 2, 3, 0, 1 },
		{ 1, 2, 0, 3 }, { 3, 0, 2, 1 }, { 2, 1, 3, 0 }, { 0, 3, 1, 2 },
	};

	for (unsigned int i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		/* The last step is left to the space's end in every second round. */
		unsigned int n = i % 2 ? 4 : 3;
		uint8_t *registered =
			mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct svm_device *devices[2];
		uint8_t *data;

		assert_ptr_not_equal(registered, MAP_FAILED);
		fixture_space(f, NULL);
		devices[0] = fixture_open(f, "soft:memory=8M");
		devices[1] = fixture_open(f, "soft:memory=8M");
		data = fixture_alloc(f, 4 * MIB, 0);
		assert_int_equal(svm_register(f->space, registered, MIB, 0), 0);
		fixture_fill_on(f, devices[0], data, 2 * MIB, 1);
		fixture_fill_on(f, devices[1], data + 2 * MIB, 2 * MIB, 1);
		fixture_fill_on(f, devices[i % 2], registered, MIB, 2);
		for (unsigned int k = 0; k < n; k++) {
			if (orders[i][k] == 0)
				fixture_free(f, data);
			else if (orders[i][k] == 3)
				assert_int_equal(svm_unregister(f->space, registered, MIB), 0);
			else
				assert_int_equal(svm_device_close(devices[orders[i][k] - 1]), 0);
		}
		fixture_space_end(f);
		fixture_check(registered, MIB, 2);
		munmap(registered, MIB);
	}
}

/* What is held keeps the space; each time only the last of them to go lets it go. */
static void held_things_keep_it(struct svm_fixture *f)
{
	struct svm_location host = { SVM_LOCATION_HOST, 0 };
	struct svm_access_range access_range = { .size = PAGE, .access = SVM_ACCESS_WRITE };
	struct svm_prefetch_range prefetch_range = { .size = PAGE, .to = host };
	struct svm_prefetch *prefetch;
	struct svm_access *access;
	struct svm_device *device;
	struct svm_fence *fence;
	uint8_t *data;

	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=4M:faults=off");
	data = fixture_alloc(f, 4 * PAGE, 0);
	fixture_fill(data, 4 * PAGE, 1);
	access_range.addr = data;
	prefetch_range.addr = data + PAGE;
	assert_int_equal(svm_acquire(device, &access_range, 1, 0, &access, NULL), 0);
	assert_int_equal(svm_prefetch_start(f->space, &prefetch_range, 1, NULL, 0, &prefetch), 0);
	assert_int_equal(svm_prefetch_wait(prefetch, -1, NULL, 0), 0);
	assert_int_equal(svm_pin(f->space, data + 2 * PAGE, PAGE, host), 0);
	assert_int_equal(svm_host_acquire(f->space, data + 3 * PAGE, PAGE, SVM_ACCESS_WRITE, 0), 0);
	assert_int_equal(svm_fence_create(f->space, &fence), 0);

	assert_int_equal(svm_space_destroy(f->space), -EBUSY);
	assert_int_equal(svm_release(access, NULL), 0);
	assert_int_equal(svm_space_destroy(f->space), -EBUSY);
	svm_fence_unref(fence);
	assert_int_equal(svm_space_destroy(f->space), -EBUSY);
	assert_int_equal(svm_unpin(f->space, data + 2 * PAGE, PAGE, host), 0);
	assert_int_equal(svm_space_destroy(f->space), -EBUSY);
	assert_int_equal(svm_prefetch_destroy(prefetch), 0);
	assert_int_equal(svm_space_destroy(f->space), -EBUSY);
	/* Nothing was done by the refusals. */
	fixture_check(data, 4 * PAGE, 1);
	fixture_check_on(f, device, data, PAGE, 1);
	assert_int_equal(svm_host_release(f->space, data + 3 * PAGE, PAGE, SVM_ACCESS_WRITE), 0);
	fixture_space_end(f);
}

/* Work that nobody waits for: the end of the space does. */
static void work_under_way(struct svm_fixture *f)
{
	for (unsigned int i = 0; i < 5; i++) {
		struct svm_fixture_kernel kernel = { .pattern = 1 };
		struct svm_device *device;
		struct svm_fence *done;
		uint8_t *data;

		fixture_space(f, NULL);
		device = fixture_open(f, "soft:memory=4M:bandwidth=1G:engines=2");
		data = fixture_alloc(f, 8 * MIB, 0);
		kernel.addr = (uint64_t)(uintptr_t)data;
		fixture_fill(data, 8 * MIB, 9);
		if (fixture_has(device, SVM_CAP_LAUNCH))
			assert_int_equal(svm_soft_launch(device, fixture_kernel_fill, &kernel,
							 sizeof(kernel), 2048, NULL, &done),
					 0);
		else
			assert_int_equal(svm_device_fill(device, data, 7, 8 * MIB, NULL, &done), 0);
		svm_fence_unref(done);
		if (i % 2)
			assert_int_equal(svm_device_close(device), 0);
		fixture_space_end(f);
	}
}

/* The same for fills of a device that holds what it works on: closing waits for them, and their bytes come home. */
static void fills_under_way(struct svm_fixture *f)
{
	for (unsigned int i = 0; i < 5; i++) {
		struct svm_device *device;
		struct svm_fence *done;
		uint8_t *data;

		fixture_space(f, NULL);
		device = fixture_open(f, "soft:memory=16M:bandwidth=1G:faults=off");
		data = fixture_alloc(f, 8 * MIB, 0);
		fixture_fill(data, 8 * MIB, 9);
		assert_int_equal(svm_device_fill(device, data, 7, 8 * MIB, NULL, &done), 0);
		svm_fence_unref(done);
		if (i % 2) {
			assert_int_equal(svm_device_close(device), 0);
			for (uint64_t at = 0; at < 8 * MIB; at++)
				assert_int_equal(data[at], 7);
		}
		fixture_space_end(f);
	}
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(killed, FIXTURE_ONCE | FIXTURE_SOFT),
		FIXTURE_CASE(exits, FIXTURE_ONCE | FIXTURE_SOFT),
		FIXTURE_CASE(aborts, FIXTURE_ONCE | FIXTURE_SOFT),
		FIXTURE_CASE(becomes_another_program, FIXTURE_ONCE | FIXTURE_SOFT),
		FIXTURE_CASE(destroy_with_everything_in_it, FIXTURE_VARIANTS),
		FIXTURE_CASE(parts_go_in_any_order, FIXTURE_VARIANTS),
		FIXTURE_CASE(held_things_keep_it, FIXTURE_VARIANTS),
		FIXTURE_CASE(work_under_way, FIXTURE_VARIANTS | FIXTURE_SOFT),
		FIXTURE_CASE(fills_under_way, FIXTURE_VARIANTS),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
