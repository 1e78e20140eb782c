// SPDX-License-Identifier: MIT
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct topic {
	const char *name;
	const char *what;
	void (*run)(const struct bench *bench);
};

static const struct topic topics[] = {
	{ "fault", "a lone 4 KiB CPU fault, beside a raw userfaultfd loop", bench_fault },
	{ "readback", "sequential CPU read of what is on a device, beside memcpy and SIGSEGV",
	  bench_readback },
	{ "touch", "sequential first touch, beside the kernel's own", bench_first_touch },
	{ "resident", "access to resident memory, beside plain memory", bench_resident },
	{ "prefetch", "prefetch to a device and back, beside memcpy", bench_prefetches },
	{ "query", "hints and queries at 10^2, 10^4, 10^6 ranges", bench_queries },
	{ "threads", "2, 4 and 8 faulting threads, beside one", bench_threads },
	{ "metadata", "memory that the library takes for itself", bench_metadata },
	{ "job", "the demo's job, beside hand-written copies", bench_job },
	{ "syscalls", "system calls per fault and per streamed block", bench_syscalls },
	{ "idle", "wake-ups of a space that nobody uses", bench_idle },
};
#define N_TOPICS (sizeof(topics) / sizeof(topics[0]))

struct figure {
	char name[64];
	char unit[16];
	double value;
	double baseline;
	enum bench_rule rule;
	double limit;
};

#define MAX_FIGURES 256u

static struct figure figures[MAX_FIGURES];
static size_t n_figures;

void bench_fail(int error, const char *what)
{
	fprintf(stderr, "svm-bench: %s: %s\n", what, strerror(error));
	exit(EXIT_FAILURE);
}

void bench_check(int64_t ret, const char *what)
{
	if (ret < 0)
		bench_fail((int)-ret, what);
}

void bench_check_errno(int64_t ret, const char *what)
{
	if (ret < 0)
		bench_fail(errno, what);
}

void bench_note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("svm-bench: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

uint64_t bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t bench_random(uint64_t *state)
{
	/* xorshift64*, Vigna 2016 */
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

unsigned int bench_cpus(int cpus[2])
{
	unsigned int n = 0;
	cpu_set_t set;

	bench_check_errno(sched_getaffinity(0, sizeof(set), &set), "sched_getaffinity");
	for (int cpu = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[n++] = cpu;
	return n;
}

static cpu_set_t all_cpus;

void bench_bind(int cpu)
{
	cpu_set_t set = all_cpus;

	if (cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
	}
	bench_check(-pthread_setaffinity_np(pthread_self(), sizeof(set), &set),
		    "cannot bind a thread to a CPU");
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static int compare_samples(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

double bench_percentile(uint32_t *samples, size_t n, double p)
{
	qsort(samples, n, sizeof(*samples), compare_samples);
	return samples[(size_t)((double)(n - 1) * p / 100.0)];
}

void bench_add(struct bench_series *series, double value)
{
	if (series->n < BENCH_MAX_ROUNDS)
		series->v[series->n++] = value;
}

double bench_median(const struct bench_series *series)
{
	struct bench_series sorted = *series;

	qsort(sorted.v, sorted.n, sizeof(sorted.v[0]), compare_doubles);
	return sorted.n ? sorted.v[sorted.n / 2] : NAN;
}

void bench_figure(const char *name, const char *unit, double value, double baseline,
		  enum bench_rule rule, double limit)
{
	struct figure *figure = &figures[n_figures];

	if (n_figures == MAX_FIGURES)
		bench_check(-ENOSPC, "too many figures");
	n_figures++;
	snprintf(figure->name, sizeof(figure->name), "%s", name);
	snprintf(figure->unit, sizeof(figure->unit), "%s", unit);
	figure->value = value;
	figure->baseline = baseline;
	figure->rule = rule;
	figure->limit = limit;
}

void bench_compare(const char *name, const char *unit, const struct bench_series *own,
		   const struct bench_series *baseline, enum bench_rule rule, double limit)
{
	bench_figure(name, unit, bench_median(own), bench_median(baseline), rule, limit);
}

/* ---- Output ---- */

static double ratio_of(const struct figure *figure)
{
	return figure->value / figure->baseline; /* NAN without a baseline */
}

static bool has_target(const struct figure *figure)
{
	return figure->rule != BENCH_INFO;
}

static bool passes(const struct figure *figure)
{
	switch (figure->rule) {
	case BENCH_RATIO_MAX:
		return ratio_of(figure) <= figure->limit;
	case BENCH_RATIO_MIN:
		return ratio_of(figure) >= figure->limit;
	case BENCH_VALUE_MAX:
		return figure->value <= figure->limit;
	case BENCH_VALUE_MIN:
		return figure->value >= figure->limit;
	case BENCH_INFO:
		break;
	}
	return true;
}

static void format_target(const struct figure *figure, char *text, size_t size)
{
	static const char *const what[] = {
		[BENCH_RATIO_MAX] = "ratio <=",
		[BENCH_RATIO_MIN] = "ratio >=",
		[BENCH_VALUE_MAX] = "value <=",
		[BENCH_VALUE_MIN] = "value >=",
	};

	if (has_target(figure))
		snprintf(text, size, "%s %g", what[figure->rule], figure->limit);
	else
		snprintf(text, size, "-");
}

static void format_number(double value, char *text, size_t size)
{
	if (isnan(value))
		snprintf(text, size, "-");
	else if (value != 0 && (fabs(value) < 0.01 || fabs(value) >= 1e6))
		snprintf(text, size, "%.3g", value);
	else
		snprintf(text, size, fabs(value) < 10 ? "%.3f" : "%.1f", value);
}

static void print_figure(const struct figure *figure)
{
	char value[32];
	char baseline[32];
	char ratio[32];
	char target[32];

	format_number(figure->value, value, sizeof(value));
	format_number(figure->baseline, baseline, sizeof(baseline));
	format_number(ratio_of(figure), ratio, sizeof(ratio));
	format_target(figure, target, sizeof(target));
	printf("%-40s %10s %-8s %10s %8s  %-14s %s\n", figure->name, value, figure->unit, baseline,
	       ratio, target,
	       !has_target(figure) ? "-"
	       : passes(figure)	   ? "pass"
				   : "MISS");
	fflush(stdout);
}

static void print_number(const char *key, double value)
{
	/* JSON has no NAN. */
	if (isfinite(value))
		printf("\"%s\": %.9g, ", key, value);
	else
		printf("\"%s\": null, ", key);
}

static void print_json(void)
{
	printf("[");
	for (size_t i = 0; i < n_figures; i++) {
		const struct figure *figure = &figures[i];
		char target[32];

		format_target(figure, target, sizeof(target));
		printf("%s\n  {\"name\": \"%s\", ", i ? "," : "", figure->name);
		print_number("value", figure->value);
		printf("\"unit\": \"%s\", ", figure->unit);
		print_number("baseline", figure->baseline);
		print_number("ratio", ratio_of(figure));
		if (has_target(figure))
			printf("\"target\": \"%s\", \"pass\": %s}", target,
			       passes(figure) ? "true" : "false");
		else
			printf("\"target\": null, \"pass\": null}");
	}
	printf("\n]\n");
}

static void print_verdict(void)
{
	size_t n_targets = 0;
	size_t n_met = 0;

	for (size_t i = 0; i < n_figures; i++) {
		n_targets += has_target(&figures[i]);
		n_met += has_target(&figures[i]) && passes(&figures[i]);
	}
	printf("%zu of %zu targets met\n", n_met, n_targets);
}

static void print_help(void)
{
	printf("usage: svm-bench [--json] [--quick] [NAME]...\n"
	       "Measure all topics, or those named, on soft devices, each figure beside its baseline:\n"
	       "\n");
	for (size_t i = 0; i < N_TOPICS; i++)
		printf("  %-10s %s\n", topics[i].name, topics[i].what);
	printf("\n"
	       "  --json     print one JSON array of objects; progress goes to standard error\n"
	       "  --quick    small sizes and three rounds: shows that it works, not how fast\n"
	       "\n"
	       "Values are medians of 5 rounds, in which baseline and own take turns; ratio is value /\n"
	       "baseline. Exit status: 0 all was measured (a target that is missed is a verdict, not an\n"
	       "error), 1 something could not be measured, 2 wrong usage.\n");
}

static const struct topic *find_topic(const char *name)
{
	for (size_t i = 0; i < N_TOPICS; i++)
		if (strcmp(topics[i].name, name) == 0)
			return &topics[i];
	return NULL;
}

static int usage_error(const char *what, const char *which)
{
	fprintf(stderr, "svm-bench: %s '%s'; svm-bench --help lists what there is\n", what, which);
	return 2;
}

int main(int argc, char **argv)
{
	struct bench bench = { .rounds = 5, .shrink = 1 };
	bool chosen[N_TOPICS] = { false };
	bool any = false;
	bool json = false;

	for (int i = 1; i < argc; i++) {
		const struct topic *topic = find_topic(argv[i]);

		if (strcmp(argv[i], "--help") == 0) {
			print_help();
			return EXIT_SUCCESS;
		}
		if (strcmp(argv[i], "--json") == 0) {
			json = true;
		} else if (strcmp(argv[i], "--quick") == 0) {
			bench = (struct bench){ .rounds = 3, .shrink = 16 };
		} else if (topic) {
			chosen[topic - topics] = true;
			any = true;
		} else {
			return usage_error(argv[i][0] == '-' ? "no option" : "no topic", argv[i]);
		}
	}
	bench_check_errno(sched_getaffinity(0, sizeof(all_cpus), &all_cpus), "sched_getaffinity");
	if (!json)
		printf("%-40s %10s %-8s %10s %8s  %-14s %s\n", "name", "value", "unit", "baseline",
		       "ratio", "target", "verdict");
	for (size_t i = 0; i < N_TOPICS; i++) {
		size_t first = n_figures;

		if (any && !chosen[i])
			continue;
		if (json)
			fprintf(stderr, "svm-bench: %s: %s\n", topics[i].name, topics[i].what);
		topics[i].run(&bench);
		bench_bind(-1);
		for (size_t k = first; k < n_figures && !json; k++)
			print_figure(&figures[k]);
	}
	if (json)
		print_json();
	else
		print_verdict();
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
