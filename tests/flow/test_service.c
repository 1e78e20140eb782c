// SPDX-License-Identifier: MIT
/* Where the service threads run, and whether they sleep between faults: service_cpu, n_threads and spin_us. */
#include "fixture.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define PAGE	FIXTURE_PAGE
#define N_PAGES 256u

/* How many service threads there are, and how many of them are bound to this CPU alone. */
static void count_service(int cpu, unsigned int *ret_n, unsigned int *ret_bound)
{
	const struct dirent *entry;
	DIR *dir = opendir("/proc/self/task");

	assert_non_null(dir);
	*ret_n = 0;
	*ret_bound = 0;
	while ((entry = readdir(dir)) != NULL) {
		char path[64];
		char name[32] = "";
		cpu_set_t set;
		FILE *file;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%.16s/comm", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue; /* it has ended */
		if (!fgets(name, sizeof(name), file))
			name[0] = '\0';
		fclose(file);
		if (strncmp(name, "svm-service", strlen("svm-service")) != 0)
			continue;
		(*ret_n)++;
		assert_int_equal(sched_getaffinity((pid_t)strtol(entry->d_name, NULL, 10),
						   sizeof(set), &set),
				 0);
		*ret_bound += CPU_COUNT(&set) == 1 && CPU_ISSET(cpu, &set);
	}
	closedir(dir);
}

static void threads_run_on_the_cpu_that_is_asked_for(struct svm_fixture *f)
{
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		const struct svm_space_options options = { .service_cpu = cpu + 1, .n_threads = 3 };
		unsigned int n;
		unsigned int bound;
		char *p;

		if (!CPU_ISSET(cpu, &set))
			continue;
		fixture_space(f, &options);
		p = fixture_alloc(f, 4 * PAGE, 0);
		fixture_fill(p, 4 * PAGE, 1);
		fixture_check(p, 4 * PAGE, 1);
		count_service(cpu, &n, &bound);
		assert_int_equal(n, 3);
		assert_int_equal(bound, 3);
		fixture_space_end(f);
	}
}

static void by_default_they_run_anywhere(struct svm_fixture *f)
{
	cpu_set_t set;
	unsigned int n;
	unsigned int bound;

	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	if (CPU_COUNT(&set) < 2) {
		print_message("one CPU: bound or not is the same\n");
		skip();
	}
	fixture_space(f, NULL);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		count_service(cpu, &n, &bound);
		assert_int_equal(n, 1);
		assert_int_equal(bound, 0);
	}
}

/* Pages of their own for each touch: each is a fault. */
static char *alloc_single_pages(struct svm_fixture *f)
{
	const struct svm_advice advice = { .kind = SVM_ADVICE_GRANULARITY, .value = PAGE };
	char *p = fixture_alloc(f, N_PAGES * PAGE, 0);

	assert_int_equal(svm_advise(f->space, p, N_PAGES * PAGE, &advice, 1, NULL), 0);
	return p;
}

static void a_spinning_service_catches_the_next_fault(struct svm_fixture *f)
{
	/* Long enough that the next touch comes in time on any machine; if not, the watchdog says so. */
	const struct svm_space_options options = { .spin_us = 1000000 };
	uint64_t i = 0;
	char *p;

	fixture_space(f, &options);
	p = alloc_single_pages(f);
	while (fixture_stats(f).spins_hit == 0) {
		*(volatile char *)(p + i % N_PAGES * PAGE) = 1;
		if (++i % N_PAGES == 0)
			assert_int_equal(svm_discard(f->space, p, N_PAGES * PAGE, 0), 0);
	}
}

static void without_the_option_it_sleeps_at_once(struct svm_fixture *f)
{
	char *p;

	fixture_space(f, NULL);
	p = alloc_single_pages(f);
	fixture_fill(p, N_PAGES * PAGE, 1);
	assert_int_equal(fixture_stats(f).spins_hit, 0);
	assert_true(fixture_stats(f).wakeups > 0);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(threads_run_on_the_cpu_that_is_asked_for, FIXTURE_ONCE),
		FIXTURE_CASE(by_default_they_run_anywhere, FIXTURE_ONCE),
		FIXTURE_CASE(a_spinning_service_catches_the_next_fault, FIXTURE_ONCE),
		FIXTURE_CASE(without_the_option_it_sleeps_at_once, FIXTURE_ONCE),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
