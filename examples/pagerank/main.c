// SPDX-License-Identifier: MIT
/*
 * pagerank: which headers of a tree matter most, computed by several devices and the CPU on one graph.
 *
 * The whole program at a glance:
 *   scan.c     reads the tree                            (no libsvm in it)
 *   session.c  a space, and devices opened in it         svm_space_*, svm_device_*
 *   graph.c    the graph, linked by pointers, in memory that all share   svm_alloc, svm_free
 *   place.c    hints and prefetch                        svm_advise, svm_prefetch_*
 *   rank.c     kernels on devices and the CPU in turn    svm_acquire, svm_soft_launch, svm_fence_*
 *   phase.c    what each phase cost                      svm_stats_query, svm_residency_query
 *   report.c   tables, JSON, progress
 *
 * The job runs once by CPU alone in ordinary memory, then on devices without and with hints; each
 * result must be the same to the last bit.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "graph.h"
#include "phase.h"
#include "place.h"
#include "rank.h"
#include "report.h"
#include "scan.h"
#include "session.h"
#include "util.h"

#define DEFAULT_DIRECTORY  "/usr/include"
#define DEFAULT_ITERATIONS 24u
/* Enough that a device sees dozens of 2 MiB blocks, little enough for a demonstration. */
#define DEFAULT_GRAPH_BYTES (64ull << 20)

struct options {
	const char *directory;
	const char *devices; /* NULL: choose */
	unsigned int n_iterations;
	uint32_t n_copies; /* 0: choose */
	int run[2];	   /* without hints, with hints */
	enum rank_access access;
	int engines_only;
	int json;
};

/* ---- Options --------------------------------------------------------------------------------- */

enum {
	OPTION_DEVICES = 256,
	OPTION_ITERATIONS,
	OPTION_SCALE,
	OPTION_HINTS,
	OPTION_NO_HINTS,
	OPTION_ACCESS,
	OPTION_ENGINES_ONLY,
	OPTION_JSON,
	OPTION_HELP,
};

static const struct option long_options[] = {
	{ "devices", required_argument, NULL, OPTION_DEVICES },
	{ "iterations", required_argument, NULL, OPTION_ITERATIONS },
	{ "scale", required_argument, NULL, OPTION_SCALE },
	{ "hints", no_argument, NULL, OPTION_HINTS },
	{ "no-hints", no_argument, NULL, OPTION_NO_HINTS },
	{ "access", required_argument, NULL, OPTION_ACCESS },
	{ "engines-only", no_argument, NULL, OPTION_ENGINES_ONLY },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ NULL, 0, NULL, 0 },
};

static void print_help(void)
{
	printf("usage: pagerank [OPTION]... [DIRECTORY]\n"
	       "Rank the C headers below DIRECTORY (%s) by who includes them, on devices and\n"
	       "the CPU in turn over one graph in shared memory, without and with hints.\n"
	       "\n"
	       "  --devices NAME[,NAME...]  devices to use; default: two, real ones first, else soft\n"
	       "  --iterations N            default %u\n"
	       "  --scale N                 rank N copies of the graph; default: about %llu MiB of them\n"
	       "  --hints, --no-hints       only the run with hints, only the one without\n"
	       "  --access HOW              faults: let device faults bring memory, where they work;\n"
	       "                            acquire: say beforehand what a kernel will use;\n"
	       "                            auto (default): acquire in the run with hints\n"
	       "  --engines-only            run no kernels: engines move memory, the CPU computes\n"
	       "  --json                    print one JSON object; progress goes to standard error\n"
	       "  --help                    this\n"
	       "\n"
	       "Exit status: 0 all results are identical, 1 failure, 2 wrong usage.\n",
	       DEFAULT_DIRECTORY, DEFAULT_ITERATIONS, DEFAULT_GRAPH_BYTES >> 20);
}

static int parse_number(const char *option, const char *text, unsigned long max, uint32_t *ret_n)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || n < 1 || n > max)
		return complain(-EINVAL, "--%s: '%s' is not a number from 1 to %lu", option, text,
				max);
	*ret_n = (uint32_t)n;
	return 0;
}

static int parse_access(const char *text, enum rank_access *ret_access)
{
	if (strcmp(text, "auto") == 0)
		*ret_access = RANK_ACCESS_AUTO;
	else if (strcmp(text, "faults") == 0)
		*ret_access = RANK_ACCESS_FAULTS;
	else if (strcmp(text, "acquire") == 0)
		*ret_access = RANK_ACCESS_ACQUIRE;
	else
		return complain(-EINVAL, "--access: '%s' is none of auto, faults, acquire", text);
	return 0;
}

static int parse_option(int option, struct options *options)
{
	switch (option) {
	case OPTION_DEVICES:
		options->devices = optarg;
		return 0;
	case OPTION_ITERATIONS:
		return parse_number("iterations", optarg, 100000, &options->n_iterations);
	case OPTION_SCALE:
		return parse_number("scale", optarg, 1000000, &options->n_copies);
	case OPTION_HINTS:
		options->run[0] = 0;
		options->run[1] = 1;
		return 0;
	case OPTION_NO_HINTS:
		options->run[0] = 1;
		options->run[1] = 0;
		return 0;
	case OPTION_ACCESS:
		return parse_access(optarg, &options->access);
	case OPTION_ENGINES_ONLY:
		options->engines_only = 1;
		return 0;
	case OPTION_JSON:
		options->json = 1;
		return 0;
	default: /* getopt_long() has said what is wrong */
		return -EINVAL;
	}
}

/* Returns 0, a negative errno, or 1 when help was asked for. */
static int parse_options(int argc, char **argv, struct options *ret_options)
{
	struct options options = {
		.directory = DEFAULT_DIRECTORY,
		.n_iterations = DEFAULT_ITERATIONS,
		.run = { 1, 1 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		int ret;

		if (option == OPTION_HELP)
			return 1;
		ret = parse_option(option, &options);
		if (ret)
			return ret;
	}
	if (optind < argc)
		options.directory = argv[optind++];
	if (optind < argc)
		return complain(-EINVAL, "more than one directory: '%s'", argv[optind]);
	*ret_options = options;
	return 0;
}

/* ---- The job --------------------------------------------------------------------------------- */

/* What all runs share. */
struct job {
	struct options options;
	struct device_list devices;
	struct scan scan;
	struct graph_options graph_options;
	double *expected; /* ranks by CPU alone */
	struct report report;
	struct progress progress;
};

/* Rank by CPU alone, in ordinary memory: neither the library nor a device is part of this. */
static int compute_expected(struct job *job)
{
	struct graph_options options = { .n_copies = job->graph_options.n_copies, .n_shares = 1 };
	struct graph graph;
	struct rank_job rank_job = { .graph = &graph, .n_iterations = job->options.n_iterations };
	struct rank_result result;
	uint64_t start;
	int ret = graph_build(NULL, &job->scan, &options, &graph);

	if (ret)
		return ret;
	start = now_ns();
	ret = rank_graph(&rank_job, &result);
	if (ret)
		goto err_free_graph;
	job->report.cpu_only_ns = now_ns() - start;
	job->report.n_nodes = graph.n_nodes;
	job->report.n_edges = graph.n_edges;
	job->expected = malloc(graph.n_nodes * sizeof(double));
	if (job->expected)
		memcpy(job->expected, result.rank, graph.n_nodes * sizeof(double));
	else
		ret = complain(-ENOMEM, "cannot keep the expected ranks");

err_free_graph:
	graph_free(&graph);
	return ret;
}

static int same_bits(double a, double b)
{
	uint64_t bits_a, bits_b;

	memcpy(&bits_a, &a, sizeof(bits_a));
	memcpy(&bits_b, &b, sizeof(bits_b));
	return bits_a == bits_b;
}

/* The last phase: the CPU reads what the devices wrote, and every bit should be right. */
static size_t count_wrong(const struct job *job, const struct graph *graph, const double *rank)
{
	size_t n_wrong = 0;

	for (size_t i = 0; i < graph->n_nodes; i++) {
		if (same_bits(rank[i], job->expected[i]))
			continue;
		if (n_wrong++ == 0)
			complain(0, "wrong rank of node %zu, %s: %.17g instead of %.17g", i,
				 graph->nodes[i].name, rank[i], job->expected[i]);
	}
	return n_wrong;
}

/* The phases of one run, on a graph that exists already. */
static int run_phases(struct job *job, const struct session *session, struct graph *graph,
		      struct run *run)
{
	struct rank_job rank_job = {
		.session = session,
		.graph = graph,
		.n_iterations = job->options.n_iterations,
		.access = job->options.access,
		.with_hints = run->with_hints,
		.engines_only = job->options.engines_only,
		.phases = &run->phases,
		.progress = progress_show,
		.progress_data = &job->progress,
	};
	struct rank_result result;
	struct phase_mark mark;
	int ret;

	if (run->with_hints) {
		ret = phase_begin(session, &mark);
		if (!ret)
			ret = place_graph(session, graph, &run->notes);
		if (!ret)
			ret = phase_end(session, graph, &mark, phase_get(&run->phases, "place"));
		if (ret)
			return ret;
	}

	ret = rank_graph(&rank_job, &result);
	if (ret)
		return ret;
	run->change = result.change;

	ret = phase_begin(session, &mark);
	if (ret)
		return ret;
	run->n_wrong = count_wrong(job, graph, result.rank);
	ret = phase_end(session, graph, &mark, phase_get(&run->phases, "read back"));
	if (ret)
		return ret;

	top_free(&job->report.top);
	return top_find(graph, result.rank, job->graph_options.n_copies, &job->report.top);
}

/* Build the graph in the session and run the job on it. */
static int run_session(struct job *job, const struct session *session, struct run *run)
{
	struct graph graph;
	struct phase_mark mark;
	int err, ret = phase_begin(session, &mark);

	if (ret)
		return ret;
	ret = graph_build(session->space, &job->scan, &job->graph_options, &graph);
	if (ret)
		return ret;
	ret = phase_end(session, &graph, &mark, phase_get(&run->phases, "build"));
	if (!ret)
		ret = run_phases(job, session, &graph, run);
	err = graph_free(&graph);
	return ret ? ret : err;
}

/* One run: a space of its own, so that the runs start alike. */
static int run_once(struct job *job, int with_hints)
{
	struct run *run = &job->report.runs[with_hints];
	struct session session;
	int err, ret = session_open(&job->devices, &session);

	if (ret)
		return ret;
	run->with_hints = with_hints;
	progress_start(&job->progress, with_hints ? "with hints" : "without hints", "iterations");
	ret = run_session(job, &session, run);
	err = session_close(&session);
	if (!ret && !err)
		run->done = 1;
	return ret ? ret : err;
}

/* Find out now, before the long part, whether all devices can be opened, and what they can do. */
static int choose_devices(struct job *job)
{
	struct report *report = &job->report;
	struct session session;
	int ret = device_list_choose(job->options.devices, &job->devices);

	if (!ret)
		ret = session_open(&job->devices, &session);
	if (ret)
		return ret;
	job->graph_options.n_shares = (uint32_t)session.n_devices;
	report->n_devices = session.n_devices;
	for (size_t i = 0; i < session.n_devices; i++) {
		report->devices[i] = session.infos[i];
		if (!rank_by_engine(&session.infos[i], job->options.engines_only))
			continue;
		report->by_engine |= 1u << i;
		job->graph_options.with_staging = 1;
	}
	return session_close(&session);
}

static int scan_directory(struct job *job)
{
	uint64_t start = now_ns();
	uint32_t n_copies = job->options.n_copies;
	int ret;

	progress_start(&job->progress, "reading headers", "files");
	ret = scan_tree(job->options.directory, progress_show, &job->progress, &job->scan);
	if (ret)
		return ret;
	job->report.scan_ns = now_ns() - start;
	if (n_copies == 0)
		n_copies = (uint32_t)(DEFAULT_GRAPH_BYTES / graph_bytes_per_copy(&job->scan)) + 1;
	job->graph_options.n_copies = n_copies;
	job->report.n_copies = n_copies;
	return 0;
}

static int run_job(struct job *job)
{
	int ret = choose_devices(job);

	if (!ret)
		ret = scan_directory(job);
	if (!ret)
		ret = compute_expected(job);
	if (ret)
		return ret;
	if (!job->options.json)
		report_print_job(&job->report);
	for (int with_hints = 0; with_hints < 2 && !ret; with_hints++) {
		if (!job->options.run[with_hints])
			continue;
		ret = run_once(job, with_hints);
		if (!ret && !job->options.json)
			report_print_run(&job->report, &job->report.runs[with_hints]);
	}
	if (ret)
		return ret;
	if (job->options.json)
		report_print_json(&job->report);
	else
		report_print_end(&job->report);
	if (fflush(stdout))
		return complain(-errno, "standard output");
	return job->report.runs[0].n_wrong || job->report.runs[1].n_wrong ? -EIO : 0;
}

int main(int argc, char **argv)
{
	struct job job = { 0 };
	int ret = parse_options(argc, argv, &job.options);

	if (ret > 0) {
		print_help();
		return EXIT_SUCCESS;
	}
	if (ret < 0)
		return 2;

	job.report.directory = job.options.directory;
	job.report.scan = &job.scan;
	job.report.n_iterations = job.options.n_iterations;
	job.report.hints_with_acquire = job.options.access == RANK_ACCESS_AUTO;
	progress_init(&job.progress, job.options.json ? stderr : stdout);
	ret = run_job(&job);

	top_free(&job.report.top);
	free(job.expected);
	scan_free(&job.scan);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
