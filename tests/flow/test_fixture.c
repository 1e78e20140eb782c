// SPDX-License-Identifier: MIT
/*
 * The fixture itself: it must find each kind of leak, stop a test that hangs, and catch an allocation
 * in the service path. What must fail does so in a forked child.
 */
#include "fixture.h"

#include "arena.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static char text[65536];

/* Ends the child with status 3 if what setup found differs from now. */
static void leak_status(struct svm_fixture *f)
{
	if (fixture_leaks(f))
		_exit(3);
}

static void assert_leak(void (*body)(void *arg), struct svm_fixture *f, const char *word)
{
	int status = fixture_in_child(body, f, text, sizeof(text));

	if (!WIFEXITED(status) || WEXITSTATUS(status) != 3 || !strstr(text, word))
		print_error("status %x, said: %s\n", (unsigned int)status, text);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 3);
	assert_non_null(strstr(text, word));
}

/* The child counts anew: the fork changed threads and fds. */
static struct svm_fixture *start_anew(void *arg)
{
	struct svm_fixture *f = arg;
	const struct svm_fixture_variant *variant = f->variant;
	void *state = NULL;

	if (fixture_setup(&state))
		_exit(97);
	f = state;
	f->variant = variant;
	return f;
}

static void leak_nothing(void *arg)
{
	struct svm_fixture *f = start_anew(arg);

	fixture_space(f, NULL);
	fixture_open(f, f->device);
	fixture_fill(fixture_alloc(f, FIXTURE_BLOCK, 0), FIXTURE_BLOCK, 1);
	fixture_space_end(f);
	leak_status(f);
}

static void clean_child_is_clean(struct svm_fixture *f)
{
	int status = fixture_in_child(leak_nothing, f, text, sizeof(text));

	if (status)
		print_error("said: %s\n", text);
	assert_int_equal(status, 0);
}

static void leak_fd(void *arg)
{
	struct svm_fixture *f = start_anew(arg);

	if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0)
		_exit(96);
	leak_status(f);
}

static void finds_fd(struct svm_fixture *f)
{
	assert_leak(leak_fd, f, "(/dev/null)");
}

static void close_foreign_fd(void *arg)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct svm_fixture *f = start_anew(arg);

	(void)close(fd);
	leak_status(f);
}

static void finds_closed_fd(struct svm_fixture *f)
{
	assert_leak(close_foreign_fd, f, "was closed");
}

/* Beside another mapping, so that the kernel makes one of both; and the smallest there is. */
static void leak_page(void *arg)
{
	char *map = mmap(NULL, 2 * FIXTURE_PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct svm_fixture *f;

	if (map == MAP_FAILED || munmap(map + FIXTURE_PAGE, FIXTURE_PAGE))
		_exit(96);
	f = start_anew(arg);
	if (mmap(map + FIXTURE_PAGE, FIXTURE_PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		_exit(96);
	leak_status(f);
}

static void finds_anonymous_mapping(struct svm_fixture *f)
{
	if (fixture_sanitized()) {
		print_message("sanitizers map anonymous memory themselves: it is not compared\n");
		skip();
	}
	assert_leak(leak_page, f, "leak: mapping");
}

static void leak_file(void *arg)
{
	struct svm_fixture *f = start_anew(arg);
	int fd = memfd_create("left-over", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)FIXTURE_PAGE) ||
	    mmap(NULL, FIXTURE_PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED || close(fd))
		_exit(96);
	leak_status(f);
}

static void finds_file_mapping(struct svm_fixture *f)
{
	assert_leak(leak_file, f, "left-over");
}

static void *stay(void *arg)
{
	(void)pthread_setname_np(pthread_self(), "left-over");
	for (;;)
		pause();
	return arg;
}

static void leak_thread(void *arg)
{
	struct svm_fixture *f = start_anew(arg);
	pthread_t thread;

	if (pthread_create(&thread, NULL, stay, NULL))
		_exit(96);
	leak_status(f);
}

static void finds_thread(struct svm_fixture *f)
{
	assert_leak(leak_thread, f, "leak: thread");
}

static void leak_process(void *arg)
{
	struct svm_fixture *f = start_anew(arg);
	int pipe_fds[2];
	pid_t pid;
	int found;

	if (pipe(pipe_fds))
		_exit(96);
	pid = fork();
	if (pid == 0) {
		char c;

		/* Lives until its parent has died. */
		(void)close(STDERR_FILENO);
		(void)close(pipe_fds[1]);
		while (read(pipe_fds[0], &c, 1) > 0)
			;
		_exit(0);
	}
	(void)close(pipe_fds[0]);
	found = (int)fixture_leaks(f);
	_exit(pid > 0 && found ? 3 : 95);
}

static void finds_process(struct svm_fixture *f)
{
	assert_leak(leak_process, f, "leak: process");
}

static void leave_zombie(void *arg)
{
	struct svm_fixture *f = start_anew(arg);
	siginfo_t info;
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	if (pid < 0 || waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT))
		_exit(96);
	leak_status(f);
}

static void finds_zombie(struct svm_fixture *f)
{
	assert_leak(leave_zombie, f, "leak: process");
}

/* What the library makes is found, all of it. */
static void leak_space(void *arg)
{
	struct svm_fixture *f = start_anew(arg);

	fixture_space(f, NULL);
	fixture_open(f, f->device);
	leak_status(f);
}

static void finds_space(struct svm_fixture *f)
{
	assert_leak(leak_space, f, "leak: process");
	assert_non_null(strstr(text, "leak: fd"));
	assert_non_null(strstr(text, "userfaultfd"));
	assert_non_null(strstr(text, "leak: mapping"));
	assert_non_null(strstr(text, "svm-service"));
}

static void hang(void *arg)
{
	struct svm_fixture *f = start_anew(arg);

	(void)f;
	fixture_watchdog(1);
	for (;;)
		pause();
}

static void watchdog_ends_a_hang(struct svm_fixture *f)
{
	int status = fixture_in_child(hang, f, text, sizeof(text));

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_non_null(strstr(text, "watchdog: a test takes longer than"));
}

struct call {
	const char *name;
	void (*fn)(void *old);
};

static void call_malloc(void *old)
{
	void *volatile sink = malloc(16);

	(void)old;
	free(sink);
}

static void call_calloc(void *old)
{
	void *volatile sink = calloc(2, 16);

	(void)old;
	free(sink);
}

static void call_realloc(void *old)
{
	void *volatile sink = realloc(old, 1024);

	free(sink);
}

static void call_free(void *old)
{
	free(old);
}

static void allocate_in_service(void *arg)
{
	const struct call *call = arg;
	void *old = malloc(16);

	svm_service_depth = 1;
	call->fn(old);
	svm_service_depth = 0;
}

static void allocate_outside(void *arg)
{
	const struct call *call = arg;

	call->fn(malloc(16));
}

static void malloc_guard_fires(struct svm_fixture *f)
{
	static struct call calls[] = {
		{ "malloc()", call_malloc },
		{ "calloc()", call_calloc },
		{ "realloc()", call_realloc },
		{ "free()", call_free },
	};

	(void)f;
	if (fixture_sanitized()) {
		print_message("sanitizers bring their own malloc: it is not guarded\n");
		skip();
	}
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		int status = fixture_in_child(allocate_in_service, &calls[i], text, sizeof(text));

		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGABRT);
		assert_non_null(strstr(text, "in the service path"));
		assert_ptr_equal(strstr(text, calls[i].name), text);
		assert_int_equal(fixture_in_child(allocate_outside, &calls[i], text, sizeof(text)),
				 0);
	}
}

static void wrong_word(void *arg)
{
	struct svm_fixture *f = arg;
	uint64_t *words = f->scratch;

	fixture_fill(words, FIXTURE_SCRATCH, 7);
	fixture_check(words, FIXTURE_SCRATCH, 7);
	words[1000] ^= 1u;
	fixture_check(words, FIXTURE_SCRATCH, 7);
}

static void check_finds_one_bit(struct svm_fixture *f)
{
	int status = fixture_in_child(wrong_word, f, text, sizeof(text));

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_non_null(strstr(text, "word 1000 (page 1)"));
}

/* The checks on devices find what is wrong there, too. */
static void device_check_finds_one_bit(struct svm_fixture *f)
{
	struct svm_device *device;
	uint64_t *words;
	uint64_t wrong;

	fixture_space(f, NULL);
	device = fixture_open(f, f->device);
	words = fixture_alloc(f, FIXTURE_BLOCK, 0);
	fixture_fill(words, FIXTURE_BLOCK, 3);
	fixture_check_on(f, device, words, FIXTURE_BLOCK, 3);
	words[70000] ^= UINT64_C(1) << 63;
	assert_int_equal(fixture_try_check_on(f, device, words, FIXTURE_BLOCK, 3, &wrong), 0);
	assert_int_equal(wrong, 1);
	fixture_fill_on(f, device, words, FIXTURE_BLOCK, 4);
	fixture_check(words, FIXTURE_BLOCK, 4);
}

static void devices_have_what_their_names_say(struct svm_fixture *f)
{
	static const struct {
		const char *on;
		uint32_t cap;
	} words[] = {
		{ "faults=on", SVM_CAP_FAULTS },       { "host=alias", SVM_CAP_HOST_ALIAS },
		{ "readonly=on", SVM_CAP_READ_ONLY },  { "peer=on", SVM_CAP_PEER_COPY },
		{ "visible=on", SVM_CAP_CPU_VISIBLE },
	};
	uint32_t seen = 0;

	fixture_space(f, NULL);
	fixture_for_each_device(name)
	{
		struct svm_device *device = fixture_open(f, name);
		uint32_t caps = 0;

		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
			caps |= (uint32_t)fixture_has(device, words[i].cap) << i;
			assert_int_equal(strstr(name, words[i].on) != NULL, caps >> i & 1u);
		}
		assert_int_equal(seen >> caps & 1u, 0);
		seen |= 1u << caps;
		assert_int_equal(svm_device_close(device), 0);
	}
	assert_int_equal(seen, UINT32_MAX);
}

static void options_are_replaced(struct svm_fixture *f)
{
	struct svm_device_info info = { .size = sizeof(info) };

	fixture_space(f, NULL);
	assert_int_equal(svm_device_query(fixture_open_with(f, "memory=4M:engines=3"), &info), 0);
	assert_int_equal(info.memory_size, 4u << 20);
	assert_int_equal(info.n_engines, 3);
	assert_true(info.caps & SVM_CAP_HOST_ALIAS);
	assert_int_equal(svm_device_query(fixture_open_with(f, "host=none"), &info), 0);
	assert_int_equal(info.memory_size, 16u << 20);
	assert_false(info.caps & SVM_CAP_HOST_ALIAS);
}

static void random_is_repeatable(struct svm_fixture *f)
{
	uint64_t first[16];

	for (unsigned int i = 0; i < 16; i++)
		first[i] = fixture_random(f);
	f->random = 0;
	for (unsigned int i = 0; i < 16; i++) {
		assert_int_equal(fixture_random(f), first[i]);
		assert_int_not_equal(first[i], first[(i + 1) % 16]);
	}
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(clean_child_is_clean, FIXTURE_VARIANTS),
		FIXTURE_CASE(finds_fd, FIXTURE_ONCE),
		FIXTURE_CASE(finds_closed_fd, FIXTURE_ONCE),
		FIXTURE_CASE(finds_anonymous_mapping, FIXTURE_ONCE),
		FIXTURE_CASE(finds_file_mapping, FIXTURE_ONCE),
		FIXTURE_CASE(finds_thread, FIXTURE_ONCE),
		FIXTURE_CASE(finds_process, FIXTURE_ONCE),
		FIXTURE_CASE(finds_zombie, FIXTURE_ONCE),
		FIXTURE_CASE(finds_space, FIXTURE_ONCE),
		FIXTURE_CASE(watchdog_ends_a_hang, FIXTURE_ONCE),
		FIXTURE_CASE(malloc_guard_fires, FIXTURE_ONCE),
		FIXTURE_CASE(check_finds_one_bit, FIXTURE_ONCE),
		FIXTURE_CASE(device_check_finds_one_bit, FIXTURE_BOTH),
		FIXTURE_CASE(devices_have_what_their_names_say, FIXTURE_ONCE),
		FIXTURE_CASE(options_are_replaced, FIXTURE_ONCE),
		FIXTURE_CASE(random_is_repeatable, FIXTURE_ONCE),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
