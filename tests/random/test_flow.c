/* SPDX-License-Identifier: MIT */
/*
 * The random differential test: workers do whatever the library offers, on soft devices of all kinds, and
 * compare every byte they see with a flat array (flow_run.h, flow_model.h).
 *
 * Each round is a seed and a process of its own. A round that fails is run again in one thread, where
 * everything happens in one order; if it fails there too, operations are left out as long as it still
 * fails, and what is left is printed, and written to a file that repeats it.
 *
 * `random_flow --soak MINUTES` does that for long, beside one space that lives all the time, and wants what the processes
 * have to stay flat (flow_soak.h).
 *
 * Environment:
 *   SVM_TEST_SEED=N        start with round N
 *   SVM_TEST_SECONDS=N     how long to go on (60)
 *   SVM_TEST_SEED_FILE=F   run the sequence in this file, once, and print its operations
 *   SVM_TEST_DEVICES=L     names of devices to choose from, with spaces between; "soft" alone: any soft device
 *   SVM_TEST_KERNEL_MAY=W  those devices may be refused (W: refuse), or also die by themselves (kill)
 *   SVM_TEST_MISTAKE=N     every N-th piece of memory that the library moves loses a bit
 *   SVM_TEST_HOLD=1        a process that failed waits for a debugger
 */
#include "flow_run.h"
#include "flow_soak.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <fcntl.h>
#include <unistd.h>
#include <cmocka.h>

#define OPS_PER_WORKER	250u
#define DEFAULT_SECONDS 60u
#define SHRINK_SECONDS	90.0
#define SHRINK_PATIENCE 5u
/* In one thread, with few workers: the mistake comes where it came before. */
#define MISTAKEN_SEED "1004"
#define FILE_MAGIC    "random_flow 1"

static uint64_t first_seed;
static unsigned int seconds;
static struct flow_report *report;

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A number and nothing else. */
static bool parse_number(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 0);
	return errno == 0 && end != text && *end == '\0' && *text != '-';
}

/* ---- One run, in a process of its own --------------------------------------------------------- */

static void *nothing(void *arg)
{
	return arg;
}

static bool is_left_over(const struct flow_counts *before)
{
	struct flow_counts now_there = flow_count();

	return now_there.fds != before->fds || now_there.threads > before->threads ||
	       now_there.children;
}

/* What the process has open, for who looks for a leak. */
static void print_fds(void)
{
	for (int fd = 0; fd < 256; fd++) {
		char path[32];
		char name[128];
		ssize_t n;

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, name, sizeof(name) - 1u);
		if (n < 0)
			continue;
		name[n] = '\0';
		(void)fprintf(stderr, "fd %d: %s\n", fd, name);
	}
}

static _Noreturn void run_child(const struct flow_order *order)
{
	struct flow_counts before;
	struct flow_counts after;
	double patience;
	pthread_t first;

	/* A sanitizer starts a thread of its own with the first one. */
	if (pthread_create(&first, NULL, nothing, NULL) != 0 || pthread_join(first, NULL) != 0)
		exit(1);
	before = flow_count();
	flow_run(order);
	/* A thread that has been joined, or a child, may be listed for a moment yet: nothing tells when it is not. */
	patience = now() + 2.0;
	while (is_left_over(&before) && now() < patience)
		(void)sched_yield();
	if (is_left_over(&before)) {
		after = flow_count();
		(void)snprintf(report->text, sizeof(report->text),
			       "left over: %d fds, %d threads, %u children",
			       (int)after.fds - (int)before.fds,
			       (int)after.threads - (int)before.threads, after.children);
		(void)fprintf(stderr, "FAILED: seed %" PRIu64 ": %s\n", order->seed, report->text);
		print_fds();
		exit(1);
	}
	exit(0);
}

/* Returns whether it went well. */
static bool run(struct flow_order *order, bool quiet)
{
	pid_t child;
	int status;

	*report = (struct flow_report){ 0 };
	order->report = report;
	(void)fflush(NULL);
	child = fork();
	if (child == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (quiet) {
			int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

			if (null < 0 || dup2(null, STDERR_FILENO) < 0)
				_exit(2);
			(void)close(null);
		}
		run_child(order);
	}
	assert_true(child > 0);
	while (waitpid(child, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	if (WIFSIGNALED(status) && !report->text[0])
		(void)snprintf(report->text, sizeof(report->text), "signal %d", WTERMSIG(status));
	else if (status != 0 && !report->text[0])
		(void)snprintf(report->text, sizeof(report->text), "exit status %d",
			       WEXITSTATUS(status));
	return status == 0;
}

/* ---- Sequences in files ----------------------------------------------------------------------- */

static uint64_t add_to_sum(uint64_t sum, const char *text)
{
	while (*text)
		sum = (sum ^ (unsigned char)*text++) * UINT64_C(1099511628211);
	return sum;
}

/* One line per thing, and at the end a sum over all before: a file that was cut or changed is noticed. */
static bool save(const struct flow_order *order, const char *path)
{
	FILE *file = fopen(path, "we");
	uint64_t sum = 0;
	char line[128];

	if (!file)
		return false;
	(void)snprintf(line, sizeof(line), "%s\nseed %" PRIu64 "\nops %u\nthreads %d\n", FILE_MAGIC,
		       order->seed, order->n_ops, order->threads);
	sum = add_to_sum(sum, line);
	(void)fputs(line, file);
	for (size_t i = 0; order->ops && i < order->n_chosen; i++) {
		(void)snprintf(line, sizeof(line), "op %u %u\n", order->ops[i].worker,
			       order->ops[i].index);
		sum = add_to_sum(sum, line);
		(void)fputs(line, file);
	}
	(void)fprintf(file, "end %" PRIx64 "\n", sum);
	return fclose(file) == 0;
}

/* NULL, or what is wrong with the file. */
static const char *load(const char *path, struct flow_order *order, struct flow_op *ops,
			size_t n_ops)
{
	FILE *file = fopen(path, "re");
	uint64_t sum = 0;
	uint64_t given;
	char line[128];
	bool ended = false;
	unsigned int number = 0;
	const char *what = NULL;

	if (!file)
		return strerror(errno);
	*order = (struct flow_order){ .ops = ops };
	while (!what && !ended && fgets(line, sizeof(line), file)) {
		unsigned int worker;
		unsigned int index;
		int threads;
		int length = 0;

		if (number == 0 && strcmp(line, FILE_MAGIC "\n") != 0)
			what = "not a sequence of random_flow";
		else if (number == 1 &&
			 (sscanf(line, "seed %" SCNu64 "\n%n", &order->seed, &length) != 1 ||
			  line[length]))
			what = "no seed in line 2";
		else if (number == 2 && (sscanf(line, "ops %u\n%n", &order->n_ops, &length) != 1 ||
					 line[length] || order->n_ops > FLOW_OPS_MAX))
			what = "no number of operations in line 3";
		else if (number == 3 &&
			 (sscanf(line, "threads %d\n%n", &threads, &length) != 1 || line[length]))
			what = "no kind of run in line 4";
		else if (number == 3)
			order->threads = threads != 0;
		else if (number > 3 && sscanf(line, "end %" SCNx64 "\n%n", &given, &length) == 1 &&
			 !line[length])
			ended = true;
		else if (number > 3 &&
			 (sscanf(line, "op %u %u\n%n", &worker, &index, &length) != 2 ||
			  line[length] || worker >= FLOW_WORKERS || index >= FLOW_OPS_MAX ||
			  order->n_chosen == n_ops))
			what = "a line that is no operation";
		else if (number > 3)
			ops[order->n_chosen++] =
				(struct flow_op){ (uint16_t)worker, (uint16_t)index };
		if (!ended)
			sum = add_to_sum(sum, line);
		number++;
	}
	if (!what && !ended)
		what = "cut off";
	else if (!what && (given != sum || fgetc(file) != EOF))
		what = "its sum does not fit: it was changed";
	if (order->n_chosen == 0)
		order->ops = NULL;
	(void)fclose(file);
	return what;
}

/* ---- Shrinking -------------------------------------------------------------------------------- */

/* Leave out operations, in pieces that get smaller, as long as what is left fails. */
static size_t shrink(uint64_t seed, unsigned int n_ops, struct flow_op *ops, size_t n)
{
	static struct flow_op rest[FLOW_WORKERS * FLOW_OPS_MAX];
	double end = now() + SHRINK_SECONDS;
	unsigned int tries = 0;

	for (size_t piece = n / 2u; piece >= 1u; piece /= 2u) {
		for (size_t at = 0; at < n && now() < end;) {
			struct flow_order order = { .seed = seed,
						    .n_ops = n_ops,
						    .ops = rest,
						    .patience = SHRINK_PATIENCE };
			size_t gone = piece < n - at ? piece : n - at;

			memcpy(rest, ops, at * sizeof(*ops));
			memcpy(rest + at, ops + at + gone, (n - at - gone) * sizeof(*ops));
			order.n_chosen = n - gone;
			tries++;
			if (run(&order, true)) {
				at += gone;
				continue;
			}
			/* What comes after the failing one does not matter. */
			n = order.n_chosen;
			if (report->n_started && report->n_started < n)
				n = report->n_started;
			memcpy(ops, rest, n * sizeof(*ops));
		}
	}
	(void)fprintf(stderr, "shrunk to %zu operations in %u runs\n", n, tries);
	return n;
}

static size_t all_ops(uint64_t seed, unsigned int n_ops, struct flow_op *ops)
{
	unsigned int n_workers = flow_workers(seed);
	size_t n = 0;

	for (unsigned int i = 0; i < n_ops; i++)
		for (unsigned int w = 0; w < n_workers; w++)
			ops[n++] = (struct flow_op){ (uint16_t)w, (uint16_t)i };
	return n;
}

/* A round has failed with threads, or in order. Say as much about it as can be found out. */
static void explain(uint64_t seed, unsigned int n_ops, bool threads)
{
	static struct flow_op ops[FLOW_WORKERS * FLOW_OPS_MAX];
	struct flow_order order = { .seed = seed, .n_ops = n_ops };
	char path[64];
	size_t n;

	(void)fprintf(stderr, "SVM_TEST_SEED=%" PRIu64 " repeats it\n", seed);
	if (getenv("SVM_TEST_HOLD"))
		return;
	(void)snprintf(path, sizeof(path), "random_flow.%" PRIu64 ".seed", seed);
	if (threads && run(&order, true)) {
		(void)fprintf(stderr, "in one thread it does not fail: it needs threads\n");
		return;
	}
	if (threads)
		(void)fprintf(stderr, "in one thread it fails as well: %s\n", report->text);
	n = all_ops(seed, n_ops, ops);
	if (report->n_started && report->n_started < n)
		n = report->n_started;
	n = shrink(seed, n_ops, ops, n);
	order.ops = ops;
	order.n_chosen = n;
	order.loud = true;
	order.patience = SHRINK_PATIENCE;
	(void)fprintf(stderr, "the sequence that is left:\n");
	if (run(&order, false))
		(void)fprintf(stderr, "and this time it did not fail\n");
	if (save(&order, path))
		(void)fprintf(stderr, "SVM_TEST_SEED_FILE=%s repeats it\n", path);
}

/* ---- Tests ------------------------------------------------------------------------------------ */

static void agrees_with_flat_array(void **state)
{
	double start = now();
	uint64_t n_ops = 0;
	uint64_t n_lost = 0;
	uint64_t n_poisoned = 0;
	unsigned int rounds = 0;

	(void)state;
	(void)fprintf(stderr, "seed %" PRIu64 " (SVM_TEST_SEED=%" PRIu64 " repeats it)\n",
		      first_seed, first_seed);
	do {
		uint64_t seed = first_seed + rounds;
		struct flow_order order = { .seed = seed,
					    .n_ops = OPS_PER_WORKER,
					    .threads = seed % 4u != 0 };

		if (!run(&order, false)) {
			char text[160];

			flow_describe(seed, text, sizeof(text));
			(void)fprintf(stderr, "round %u, seed %" PRIu64 " (%s, %s): %s\n", rounds,
				      seed, text, order.threads ? "threads" : "one thread",
				      report->text);
			explain(seed, OPS_PER_WORKER, order.threads);
			fail_msg("seed %" PRIu64, seed);
		}
		n_ops += report->n_done;
		n_lost += report->n_lost;
		n_poisoned += report->n_poisoned;
		rounds++;
	} while (now() - start < (double)seconds);
	print_message("%u rounds, %" PRIu64 " operations, %" PRIu64 " devices lost, %" PRIu64
		      " pages lost with them\n",
		      rounds, n_ops, n_lost, n_poisoned);
}

/* Run this program with one variable set; text gets what it says. Returns its exit status. */
static int run_self(const char *name, const char *value, char *text, size_t size)
{
	int pipes[2];
	size_t n = 0;
	ssize_t got;
	int status;
	pid_t child;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	(void)fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (dup2(pipes[1], STDERR_FILENO) < 0 || dup2(pipes[1], STDOUT_FILENO) < 0 ||
		    setenv(name, value, 1) < 0)
			_exit(3);
		(void)execl("/proc/self/exe", "random_flow", (char *)NULL);
		_exit(3);
	}
	(void)close(pipes[1]);
	while (n < size - 1u && (got = read(pipes[0], text + n, size - 1u - n)) > 0)
		n += (size_t)got;
	text[n] = '\0';
	(void)close(pipes[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void expect_one_line(const char *name, const char *value)
{
	char text[4096];
	int status = run_self(name, value, text, sizeof(text));
	const char *line_end = strchr(text, '\n');

	assert_int_equal(status, 2);
	assert_non_null(line_end);
	assert_string_equal(line_end, "\n");
}

static void damaged_seed_is_refused(void **state)
{
	(void)state;
	expect_one_line("SVM_TEST_SEED", "");
	expect_one_line("SVM_TEST_SEED", "12x");
	expect_one_line("SVM_TEST_SEED", "-1");
	expect_one_line("SVM_TEST_SECONDS", "soon");
	expect_one_line("SVM_TEST_SEED_FILE", "/nonexistent");
	expect_one_line("SVM_TEST_DEVICES", "");
	expect_one_line("SVM_TEST_MISTAKE", "often");
	expect_one_line("SVM_TEST_DEVICES", "soft nosuch");
}

/* What grows is noticed, and what only wavers is not. */
static void growth_is_noticed(void **state)
{
	static struct flow_samples samples;
	struct flow_counts counts = {
		.rss = 100000, .maps = 200, .fds = 12, .threads = 3, .children = 1
	};
	char text[128];

	(void)state;
	for (unsigned int leak = 0; leak <= 5; leak++) {
		memset(&samples, 0, sizeof(samples));
		assert_non_null(flow_not_flat(&samples, text, sizeof(text)));
		for (unsigned int i = 0; i < 3u * FLOW_SAMPLES; i++) {
			struct flow_counts c = counts;

			c.rss += i % 7u * 1000u + (leak == 1 ? i * 10u : 0);
			c.maps += i % 5u + (leak == 2 ? i / 100u : 0);
			c.fds += i % 2u + (leak == 3 ? i / 2000u : 0);
			c.threads += leak == 4 ? i / 2000u : 0;
			c.children += leak == 5 ? i / 2000u : 0;
			flow_sample(&samples, &c);
		}
		if (leak)
			assert_non_null(flow_not_flat(&samples, text, sizeof(text)));
		else
			assert_null(flow_not_flat(&samples, text, sizeof(text)));
	}
}

/* A library that loses a bit now and then: it is noticed, the sequence gets short, and its file repeats that. */
static void a_mistake_is_found_and_gets_short(void **state)
{
	static char text[1 << 20];
	const char *at;
	unsigned long n_left;
	char directory[] = "/tmp/random_flow.XXXXXX";
	char path[64];
	struct stat before;
	int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	/* Where it runs it may not be allowed to leave a file. */
	assert_true(here >= 0);
	assert_non_null(mkdtemp(directory));
	assert_int_equal(chdir(directory), 0);
	assert_int_equal(setenv("SVM_TEST_SEED", MISTAKEN_SEED, 1), 0);
	assert_int_equal(setenv("SVM_TEST_SECONDS", "0", 1), 0);
	assert_int_equal(setenv("SVM_TEST_ONLY", "1", 1), 0);
	assert_int_not_equal(run_self("SVM_TEST_MISTAKE", "9", text, sizeof(text)), 0);
	assert_non_null(strstr(text, "FAILED: seed " MISTAKEN_SEED));
	at = strstr(text, "shrunk to ");
	assert_non_null(at);
	n_left = strtoul(at + strlen("shrunk to "), NULL, 10);
	print_message("%lu operations are left\n", n_left);
	assert_in_range(n_left, 1, 10);
	(void)snprintf(path, sizeof(path), "random_flow.%s.seed", MISTAKEN_SEED);
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(setenv("SVM_TEST_SEED_FILE", path, 1), 0);
	assert_int_equal(run_self("SVM_TEST_MISTAKE", "9", text, sizeof(text)), 1);
	assert_non_null(strstr(text, "FAILED: seed " MISTAKEN_SEED));
	/* Without the mistake there is nothing wrong with it. */
	assert_int_equal(run_self("SVM_TEST_SEED", MISTAKEN_SEED, text, sizeof(text)), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(fchdir(here), 0);
	assert_int_equal(rmdir(directory), 0);
	(void)close(here);
	assert_int_equal(unsetenv("SVM_TEST_SEED_FILE"), 0);
	assert_int_equal(unsetenv("SVM_TEST_SEED"), 0);
	assert_int_equal(unsetenv("SVM_TEST_SECONDS"), 0);
	assert_int_equal(unsetenv("SVM_TEST_ONLY"), 0);
}

/* A good file, and every way to cut it or to change one of its bytes. */
static void damaged_seed_file_is_refused(void **state)
{
	static const struct flow_op ops[] = { { 0, 3 }, { 1, 17 } };
	struct flow_order order = { .seed = 42, .n_ops = 20, .ops = ops, .n_chosen = 2 };
	struct flow_op found[8];
	struct flow_order got;
	char path[64];
	char bytes[512];
	ssize_t size;
	int fd = memfd_create("seed", MFD_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_true(save(&order, path));
	assert_null(load(path, &got, found, 8));
	assert_int_equal(got.seed, 42);
	assert_int_equal(got.n_chosen, 2);
	assert_int_equal(got.ops[1].index, 17);
	size = pread(fd, bytes, sizeof(bytes), 0);
	assert_true(size > 0 && size < (ssize_t)sizeof(bytes));
	for (ssize_t i = 0; i < size; i++) {
		assert_int_equal(ftruncate(fd, i), 0);
		/* Without the last newline nothing is missing that matters. */
		if (i < size - 1)
			assert_non_null(load(path, &got, found, 8));
		assert_int_equal(pwrite(fd, bytes, (size_t)size, 0), size);
	}
	for (ssize_t i = 0; i < size - 1; i++) {
		char other = (char)(bytes[i] ^ 1);

		assert_int_equal(pwrite(fd, &other, 1, i), 1);
		assert_non_null(load(path, &got, found, 8));
		assert_int_equal(pwrite(fd, &bytes[i], 1, i), 1);
	}
	assert_null(load(path, &got, found, 8));
	assert_int_equal(ftruncate(fd, 10), 0);
	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), fd);
	expect_one_line("SVM_TEST_SEED_FILE", path);
	(void)close(fd);
}

static int die(const char *format, const char *a, const char *b)
{
	(void)fprintf(stderr, format, a, b);
	return 2;
}

static int run_file(const char *path)
{
	static struct flow_op ops[FLOW_WORKERS * FLOW_OPS_MAX];
	struct flow_order order;
	const char *what = load(path, &order, ops, sizeof(ops) / sizeof(ops[0]));

	if (what)
		return die("random_flow: %s: %s\n", path, what);
	order.loud = true;
	return run(&order, false) ? 0 : 1;
}

/* ---- Soak --------------------------------------------------------------------------------------- */

static struct {
	double start;
	double end;
	double next; /* time of the next line */
	double every;
	const char *who;
	struct flow_samples samples;
} soak;

/* Returns whether to go on. */
static bool take_sample(void *data)
{
	struct flow_counts counts = flow_count();

	(void)data;
	flow_sample(&soak.samples, &counts);
	if (now() >= soak.next) {
		flow_print_counts(soak.who, now() - soak.start, &counts);
		soak.next = now() + soak.every;
	}
	return now() < soak.end;
}

static bool is_flat(void)
{
	char text[128];
	const char *what = flow_not_flat(&soak.samples, text, sizeof(text));

	if (what)
		(void)fprintf(stderr, "FAILED: %s: %s\n", soak.who, what);
	else
		(void)printf("%s: flat over %u samples\n", soak.who, soak.samples.n);
	(void)fflush(stdout);
	return !what;
}

/* One space for all of the time. */
static _Noreturn void soak_space(uint64_t seed)
{
	struct flow_order order = {
		.seed = seed, .n_ops = 40, .threads = true, .report = report, .again = take_sample
	};

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	soak.who = "space";
	flow_run(&order);
	exit(is_flat() ? 0 : 1);
}

/* Beside it, one space after the other, each in a child: what stays is this process. */
static bool soak_rounds(uint64_t seed)
{
	struct flow_report *own =
		mmap(NULL, sizeof(*own), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t n_ops = 0;
	unsigned int rounds = 0;

	if (own == MAP_FAILED)
		return false;
	report = own;
	soak.who = "rounds";
	do {
		struct flow_order order = { .seed = seed + rounds,
					    .n_ops = OPS_PER_WORKER,
					    .threads = (seed + rounds) % 4u != 0 };

		if (!run(&order, false)) {
			(void)fprintf(stderr, "seed %" PRIu64 ": %s\n", order.seed, report->text);
			explain(order.seed, OPS_PER_WORKER, order.threads);
			return false;
		}
		n_ops += report->n_done;
		rounds++;
	} while (take_sample(NULL));
	(void)printf("rounds: %u of them, %" PRIu64 " operations\n", rounds, n_ops);
	return is_flat();
}

static int run_soak(unsigned int minutes)
{
	int status = 0;
	pid_t child;
	bool good;

	soak.start = now();
	soak.end = soak.start + minutes * 60.0;
	soak.every = minutes * 60.0 / 20.0;
	(void)printf("seed %" PRIu64 ", %u minutes\n", first_seed, minutes);
	(void)fflush(NULL);
	child = fork();
	if (child == 0)
		soak_space(first_seed);
	if (child < 0)
		return die("random_flow: fork: %s%s\n", strerror(errno), "");
	good = soak_rounds(first_seed + 1u);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			status = 1;
	(void)printf("soak: %s\n", good && status == 0 ? "passed" : "FAILED");
	return good && status == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(damaged_seed_is_refused),
		cmocka_unit_test(damaged_seed_file_is_refused),
		cmocka_unit_test(growth_is_noticed),
		cmocka_unit_test(a_mistake_is_found_and_gets_short),
		cmocka_unit_test(agrees_with_flat_array),
	};
	const char *seed = getenv("SVM_TEST_SEED");
	const char *time_given = getenv("SVM_TEST_SECONDS");
	const char *file = getenv("SVM_TEST_SEED_FILE");
	const char *what;
	uint64_t n = DEFAULT_SECONDS;

	first_seed = (uint64_t)time(NULL) * 1000u;
	if (seed && !parse_number(seed, &first_seed))
		return die("random_flow: SVM_TEST_SEED=%s is not a number%s\n", seed, "");
	if (time_given && (!parse_number(time_given, &n) || n > 1000000u))
		return die("random_flow: SVM_TEST_SECONDS=%s is not a number of seconds%s\n",
			   time_given, "");
	seconds = (unsigned int)n;
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (report == MAP_FAILED)
		return die("random_flow: mmap: %s%s\n", strerror(errno), "");
	if (!flow_mistake_init())
		return die("random_flow: SVM_TEST_MISTAKE is not a number of pieces%s%s\n", "", "");
	what = flow_device_init();
	if (what)
		return die("random_flow: SVM_TEST_DEVICES %s%s\n", what, "");
	if (file)
		return run_file(file);
	if (argc > 1) {
		if (argc != 3 || strcmp(argv[1], "--soak") != 0)
			return die("random_flow: %s: the one argument there is: --soak MINUTES%s\n",
				   argv[1], "");
		if (!parse_number(argv[2], &n) || n < 1 || n > 100000)
			return die("random_flow: %s is not a number of minutes%s\n", argv[2], "");
		return run_soak((unsigned int)n);
	}
	/* The last test alone, for the others. */
	if (getenv("SVM_TEST_ONLY"))
		cmocka_set_test_filter("agrees_with_flat_array");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
