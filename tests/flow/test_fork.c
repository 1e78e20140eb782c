/* SPDX-License-Identifier: MIT */
/*
 * Shown here: a forked child has no managed memory and gets -ECHILD from every call, nothing of the
 * library survives exec, registered memory is not inherited while it is registered, and the parent goes
 * on as if nothing had happened, also when it forks in the middle of things.
 */
#include "process.h"
#include "fixture.h"
#include <pthread.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define KIB  UINT64_C(1024)
#define MIB  (UINT64_C(1) << 20)
#define PAGE UINT64_C(4096)

#define UNTOUCHED ((void *)(uintptr_t)0x5afe5afe)

struct objects {
	struct svm_space *space;
	struct svm_device *device;
	struct svm_access *access;
	struct svm_prefetch *prefetch;
	struct svm_fence *fence;
	uint8_t *data;	     /* 4 MiB */
	uint8_t *registered; /* 64 KiB */
	uint8_t *plain;	     /* 64 KiB of the program's own */
};

static void kernel_nothing(const void *args, uint64_t index, uint64_t count)
{
	(void)args;
	(void)index;
	(void)count;
}

static void begin(struct svm_fixture *f, struct objects *o)
{
	struct svm_access_range access = { .size = PAGE, .access = SVM_ACCESS_READ };
	struct svm_prefetch_range prefetch = { .size = PAGE, .to = { SVM_LOCATION_HOST, 0 } };

	o->space = fixture_space(f, NULL);
	o->device = fixture_open(f, "soft:memory=16M:faults=off");
	o->data = fixture_alloc(f, 4 * MIB, 0);
	fixture_fill(o->data, 4 * MIB, 1);
	o->registered =
		mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	o->plain = mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(o->registered, MAP_FAILED);
	assert_ptr_not_equal(o->plain, MAP_FAILED);
	fixture_fill(o->registered, 64 * KIB, 2);
	fixture_fill(o->plain, 64 * KIB, 3);
	assert_int_equal(svm_register(o->space, o->registered, 64 * KIB, 0), 0);
	assert_int_equal(svm_fence_create(o->space, &o->fence), 0);
	access.addr = o->data;
	assert_int_equal(svm_acquire(o->device, &access, 1, 0, &o->access, NULL), 0);
	prefetch.addr = o->data + MIB;
	assert_int_equal(svm_prefetch_start(o->space, &prefetch, 1, NULL, 0, &o->prefetch), 0);
}

static void end(struct svm_fixture *f, struct objects *o)
{
	assert_int_equal(svm_prefetch_wait(o->prefetch, -1, NULL, 0), 0);
	assert_int_equal(svm_prefetch_destroy(o->prefetch), 0);
	assert_int_equal(svm_release(o->access, NULL), 0);
	svm_fence_unref(o->fence);
	fixture_check(o->data, 4 * MIB, 1);
	fixture_check_on(f, o->device, o->data, 4 * MIB, 1);
	fixture_fill_on(f, o->device, o->registered, 64 * KIB, 4);
	fixture_check(o->registered, 64 * KIB, 4);
	fixture_check(o->plain, 64 * KIB, 3);
	assert_int_equal(svm_unregister(o->space, o->registered, 64 * KIB), 0);
	fixture_check(o->registered, 64 * KIB, 4);
	fixture_space_end(f);
	munmap(o->registered, 64 * KIB);
	munmap(o->plain, 64 * KIB);
}

/* Every call, each with arguments that are right in the parent. */
static void call_everything(void *arg)
{
	struct objects *o = arg;
	struct svm_location host = { SVM_LOCATION_HOST, 0 };
	struct svm_space_info space_info = { .size = sizeof(space_info) };
	struct svm_stats stats = { .size = sizeof(stats) };
	struct svm_device_info device_info = { .size = sizeof(device_info) };
	struct svm_pointer_info pointer_info = { .size = sizeof(pointer_info) };
	struct svm_advice_info advice_info = { .size = sizeof(advice_info) };
	struct svm_advice advice = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };
	struct svm_outcome outcome = { 9, 9 };
	struct svm_access_range access_range = { o->data, PAGE, SVM_ACCESS_READ, 0 };
	struct svm_prefetch_range prefetch_range = { o->data, PAGE, host };
	struct svm_prefetch_result result = { .bytes_moved = 77 };
	struct svm_advice_range advice_range = { .addr = 77 };
	struct svm_page_residency page = { .flags = 77 };
	struct svm_device *device = UNTOUCHED;
	struct svm_access *access = UNTOUCHED;
	struct svm_prefetch *prefetch = UNTOUCHED;
	struct svm_fence *fence = UNTOUCHED;
	struct svm_event event = { .kind = 77 };
	int event_fd = eventfd(0, EFD_CLOEXEC);
	void *addr = UNTOUCHED;
	uint64_t cursor = 0;
	uint64_t generation = 77;
	uint64_t lost = 77;
	size_t n = 1;
	size_t record = sizeof(advice_range);
	int fd = -77;

#define CHILD(call) assert_int_equal(call, -ECHILD)
	CHILD(svm_space_query(o->space, &space_info));
	CHILD(svm_stats_query(o->space, &stats));
	CHILD(svm_events_read(o->space, &cursor, &event, 1, &lost));
	CHILD(svm_alloc(o->space, PAGE, 0, &addr));
	CHILD(svm_free(o->space, o->data));
	CHILD(svm_free(o->space, NULL));
	CHILD(svm_register(o->space, o->plain, 64 * KIB, 0));
	CHILD(svm_unregister(o->space, o->registered, 64 * KIB));
	CHILD(svm_discard(o->space, o->data, PAGE, 0));
	CHILD(svm_discard(o->space, o->data, PAGE, SVM_DISCARD_LAZY));
	CHILD(svm_pin(o->space, o->data, PAGE, host));
	CHILD(svm_unpin(o->space, o->data, PAGE, host));
	CHILD(svm_host_acquire(o->space, o->data, PAGE, SVM_ACCESS_READ, 0));
	CHILD(svm_host_release(o->space, o->data, PAGE, SVM_ACCESS_READ));
	CHILD(svm_residency_query(o->space, o->data, PAGE, &page, 1, &generation));
	CHILD(svm_pointer_query(o->space, o->data, &pointer_info));
	CHILD(svm_advise(o->space, o->data, PAGE, &advice, 1, &outcome));
	CHILD(svm_unadvise(o->space, o->data, PAGE, 1));
	CHILD(svm_advice_query(o->space, o->data, PAGE, &advice_info));
	CHILD(svm_advice_enumerate(o->space, o->data, PAGE, &advice_range, &n, &record));
	CHILD(svm_prefetch_start(o->space, &prefetch_range, 1, NULL, 0, &prefetch));
	CHILD(svm_prefetch(o->space, o->data, PAGE, host, &result));
	CHILD(svm_prefetch_fence(o->prefetch, &fence));
	CHILD(svm_prefetch_progress(o->prefetch, NULL, NULL));
	CHILD(svm_prefetch_cancel(o->prefetch));
	CHILD(svm_prefetch_wait(o->prefetch, -1, &result, 1));
	CHILD(svm_prefetch_destroy(o->prefetch));
	CHILD(svm_device_enumerate(o->space, &device_info, &n));
	CHILD(svm_device_open(o->space, "soft", &device));
	CHILD(svm_device_query(o->device, &device_info));
	CHILD(svm_acquire(o->device, &access_range, 1, 0, &access, NULL));
	CHILD(svm_release(o->access, NULL));
	CHILD(svm_device_copy(o->device, o->data, o->data + MIB, PAGE, NULL, &fence));
	CHILD(svm_device_fill(o->device, o->data, 1, PAGE, NULL, &fence));
	CHILD(svm_soft_launch(o->device, kernel_nothing, NULL, 0, 1, NULL, &fence));
	CHILD(svm_soft_kill(o->device));
	CHILD(svm_fence_create(o->space, &fence));
	CHILD(svm_fence_import(o->space, event_fd, &fence));
	CHILD(svm_fence_signal(o->fence, 0));
	CHILD(svm_fence_wait(o->fence, -1));
	CHILD(svm_fence_export(o->fence, &fd));
	CHILD(svm_device_close(o->device));
	CHILD(svm_space_destroy(o->space));
#undef CHILD
	assert_ptr_equal(svm_fence_ref(o->fence), o->fence);
	svm_fence_unref(o->fence);
	svm_fence_unref(o->fence);
	assert_true(svm_version() > 0);

	assert_ptr_equal(addr, UNTOUCHED);
	assert_ptr_equal(device, UNTOUCHED);
	assert_ptr_equal(access, UNTOUCHED);
	assert_ptr_equal(prefetch, UNTOUCHED);
	assert_ptr_equal(fence, UNTOUCHED);
	assert_int_equal(fd, -77);
	assert_int_equal(event.kind, 77);
	assert_int_equal(page.flags, 77);
	assert_int_equal(generation, 77);
	assert_int_equal(lost, 77);
	assert_int_equal(outcome.status, 9);
	assert_int_equal(result.bytes_moved, 77);
	assert_int_equal(advice_range.addr, 77);
	assert_int_equal(space_info.window_size, 0);
}

static void assert_child_ok(int status, const char *text)
{
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("child: status %x: %s", (unsigned int)status, text);
}

static void every_call_says_echild(struct svm_fixture *f)
{
	static char text[4096];
	struct objects o;

	begin(f, &o);
	assert_child_ok(fixture_in_child(call_everything, &o, text, sizeof(text)), text);
	end(f, &o);
}

/* Not even by accident: the addresses are not mapped. */
static bool is_mapped(const void *addr, uint64_t size)
{
	unsigned char pages[16];

	return mincore((void *)addr, size, pages) == 0 || errno != ENOMEM;
}

static void look_at_memory(void *arg)
{
	struct objects *o = arg;
	uint8_t value;

	touch_install();
	for (uint64_t at = 0; at < 4 * MIB; at += MIB) {
		assert_false(is_mapped(o->data + at, PAGE));
		assert_int_equal(touch_read(o->data + at, &value), SIGSEGV);
		assert_int_equal(touch_write(o->data + at, 1), SIGSEGV);
	}
	for (uint64_t at = 0; at < 64 * KIB; at += PAGE) {
		assert_false(is_mapped(o->registered + at, PAGE));
		assert_int_equal(touch_read(o->registered + at, &value), SIGSEGV);
	}
	/* What is the program's own is there as after any fork. */
	for (uint64_t at = 0; at < 64 * KIB; at += 8)
		if (*(uint64_t *)(o->plain + at) != fixture_word(3, at / 8))
			_exit(3);
	memset(o->plain, 0, 64 * KIB);
}

static void child_has_no_managed_memory(struct svm_fixture *f)
{
	static char text[4096];
	struct objects o;

	begin(f, &o);
	assert_child_ok(fixture_in_child(look_at_memory, &o, text, sizeof(text)), text);
	end(f, &o);
}

static void look_at_given_back(void *arg)
{
	uint8_t *memory = arg;

	for (uint64_t at = 0; at < 64 * KIB; at += 8)
		assert_int_equal(*(uint64_t *)(memory + at), fixture_word(5, at / 8));
	memset(memory, 0, 64 * KIB);
}

static void registered_is_inherited_again(struct svm_fixture *f)
{
	static char text[4096];
	struct svm_device *device;
	uint8_t *memory =
		mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=8M");
	assert_int_equal(svm_register(f->space, memory, 64 * KIB, 0), 0);
	fixture_fill_on(f, device, memory, 64 * KIB, 5);
	assert_int_equal(svm_unregister(f->space, memory, 64 * KIB), 0);
	assert_child_ok(fixture_in_child(look_at_given_back, memory, text, sizeof(text)), text);
	fixture_check(memory, 64 * KIB, 5);
	munmap(memory, 64 * KIB);
}

/* A child that lives on, made before the memory was registered, shares its pages. */
static void child_shares_pages_registered_later(struct svm_fixture *f)
{
	struct svm_device *device;
	uint8_t *memory =
		mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int pipe_fds[2];
	int status;
	pid_t pid;

	assert_ptr_not_equal(memory, MAP_FAILED);
	fixture_fill(memory, MIB, 6);
	assert_int_equal(pipe(pipe_fds), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		char c;

		close(pipe_fds[1]);
		child_check(read(pipe_fds[0], &c, 1) == 0);
		for (uint64_t at = 0; at < MIB; at += 8)
			child_check(*(uint64_t *)(memory + at) == fixture_word(6, at / 8));
		_exit(0);
	}
	assert_true(pid > 0);
	close(pipe_fds[0]);
	fixture_space(f, NULL);
	device = fixture_open(f, "soft:memory=8M");
	assert_int_equal(svm_register(f->space, memory, MIB, 0), 0);
	fixture_check_on(f, device, memory, MIB, 6);
	fixture_fill_on(f, device, memory, MIB, 7);
	fixture_check(memory, MIB, 7);
	close(pipe_fds[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(svm_unregister(f->space, memory, MIB), 0);
	fixture_check(memory, MIB, 7);
	munmap(memory, MIB);
}

/* ---- exec ------------------------------------------------------------------------------------- */

/* Runs with the fds that came through exec: all of them are named on the command line. */
static int count_fds(int argc, char **argv)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	int n_foreign = 0;

	while (dir && (entry = readdir(dir)) != NULL) {
		bool known = entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(dir);

		for (int i = 2; i < argc; i++)
			known |= strcmp(argv[i], entry->d_name) == 0;
		n_foreign += !known;
	}
	if (dir)
		closedir(dir);
	return dir ? n_foreign : 99;
}

static void nothing_survives_exec(struct svm_fixture *f)
{
	char name[] = "test_fork";
	char option[] = "--count-fds";
	char *argv[64] = { name, option };
	char numbers[60][16];
	unsigned int n = 2;
	struct objects o;
	int status;
	int fd;
	pid_t pid;

	/* Those the program had before the library came. */
	for (fd = 0; fd < 1024 && n < 62; fd++)
		if (fcntl(fd, F_GETFD) >= 0) {
			(void)snprintf(numbers[n - 2], sizeof(numbers[0]), "%d", fd);
			argv[n] = numbers[n - 2];
			n++;
		}
	argv[n] = NULL;
	begin(f, &o);
	assert_int_equal(svm_fence_export(o.fence, &fd), 0);
	assert_int_equal(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fd);
	end(f, &o);
}

/* ---- Forks in the middle of things ------------------------------------------------------------ */

struct busy {
	struct svm_fixture *f;
	struct svm_device *device;
	uint8_t *data; /* 8 MiB */
	_Atomic bool stop;
	_Atomic unsigned int n_rounds;
	_Atomic int error;
};

/* To the device and back, with faults and with prefetches. */
static void *move_about(void *arg)
{
	struct svm_location host = { SVM_LOCATION_HOST, 0 };
	struct busy *b = arg;

	while (!b->stop && !b->error) {
		struct svm_location to = svm_device_location(b->device);

		if (svm_prefetch(b->f->space, b->data, 4 * MIB, to, NULL) ||
		    svm_prefetch(b->f->space, b->data, 2 * MIB, host, NULL))
			b->error = 1;
		for (uint64_t at = 0; at < 8 * MIB; at += 64 * KIB) {
			uint64_t word = *(volatile uint64_t *)(b->data + at);

			if (word != fixture_word(8, at / 8))
				b->error = 2;
			*(volatile uint64_t *)(b->data + at) = word;
		}
		b->n_rounds++;
	}
	return NULL;
}

static void first_calls(void *arg)
{
	struct busy *b = arg;
	struct svm_stats stats = { .size = sizeof(stats) };
	void *addr;

	assert_int_equal(svm_stats_query(b->f->space, &stats), -ECHILD);
	assert_int_equal(svm_alloc(b->f->space, PAGE, 0, &addr), -ECHILD);
	assert_int_equal(svm_device_close(b->device), -ECHILD);
	assert_int_equal(svm_space_destroy(b->f->space), -ECHILD);
	assert_false(is_mapped(b->data, PAGE));
}

static void fork_while_transitions_run(struct svm_fixture *f)
{
	static char text[4096];
	struct busy b = { .f = f };
	pthread_t thread;
	unsigned int n_forks = 0;

	fixture_space(f, NULL);
	b.device = fixture_open(f, "soft:memory=8M:bandwidth=2G");
	b.data = fixture_alloc(f, 8 * MIB, 0);
	fixture_fill(b.data, 8 * MIB, 8);
	assert_int_equal(pthread_create(&thread, NULL, move_about, &b), 0);
	while (n_forks < 10 || b.n_rounds < 3) {
		assert_child_ok(fixture_in_child(first_calls, &b, text, sizeof(text)), text);
		n_forks++;
		assert_int_equal(b.error, 0);
	}
	b.stop = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(b.error, 0);
	fixture_check(b.data, 8 * MIB, 8);
	fixture_check_on(f, b.device, b.data, 8 * MIB, 8);
}

/* A device opened after others and with managed memory around: its process inherits none of it. */
static void device_opened_in_the_middle(struct svm_fixture *f)
{
	struct busy b = { .f = f };
	pthread_t thread;

	fixture_space(f, NULL);
	b.device = fixture_open(f, "soft:memory=8M:bandwidth=2G");
	b.data = fixture_alloc(f, 8 * MIB, 0);
	fixture_fill(b.data, 8 * MIB, 8);
	assert_int_equal(pthread_create(&thread, NULL, move_about, &b), 0);
	for (unsigned int i = 0; i < 8 || b.n_rounds < 2; i++) {
		struct svm_device *other = fixture_open(f, "soft:memory=8M");
		uint8_t *own = fixture_alloc(f, 2 * MIB, 0);

		fixture_fill(own, 2 * MIB, i);
		fixture_check_on(f, other, own, 2 * MIB, i);
		assert_int_equal(svm_device_close(other), 0);
		fixture_check(own, 2 * MIB, i);
		fixture_free(f, own);
	}
	b.stop = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(b.error, 0);
	fixture_check(b.data, 8 * MIB, 8);
}

/* The child may make a space of its own: only what came from the parent is off limits. */
static void own_space(void *arg)
{
	struct svm_space *space;
	struct svm_device *device;
	struct svm_fence *done;
	uint8_t *bytes;
	void *addr;

	(void)arg;
	assert_int_equal(svm_space_create(NULL, &space), 0);
	assert_int_equal(svm_device_open(space, "soft:memory=4M", &device), 0);
	assert_int_equal(svm_alloc(space, PAGE, 0, &addr), 0);
	bytes = addr;
	bytes[0] = 1;
	assert_int_equal(svm_device_fill(device, bytes, 7, PAGE, NULL, &done), 0);
	assert_int_equal(svm_fence_wait(done, -1), 0);
	svm_fence_unref(done);
	assert_int_equal(bytes[PAGE - 1], 7);
	assert_int_equal(svm_space_destroy(space), 0);
}

static void child_makes_its_own_space(struct svm_fixture *f)
{
	static char text[4096];
	struct objects o;

	begin(f, &o);
	assert_child_ok(fixture_in_child(own_space, NULL, text, sizeof(text)), text);
	end(f, &o);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(every_call_says_echild, FIXTURE_VARIANTS),
		FIXTURE_CASE(child_has_no_managed_memory, FIXTURE_VARIANTS),
		FIXTURE_CASE(registered_is_inherited_again, FIXTURE_VARIANTS),
		FIXTURE_CASE(child_shares_pages_registered_later, FIXTURE_VARIANTS),
		FIXTURE_CASE(nothing_survives_exec, FIXTURE_ONCE),
		FIXTURE_CASE(fork_while_transitions_run, FIXTURE_VARIANTS),
		FIXTURE_CASE(device_opened_in_the_middle, FIXTURE_ONCE),
		FIXTURE_CASE(child_makes_its_own_space, FIXTURE_VARIANTS),
	};

	if (argc > 1 && strcmp(argv[1], "--count-fds") == 0)
		return count_fds(argc, argv);
	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
