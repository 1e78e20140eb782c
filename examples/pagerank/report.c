// SPDX-License-Identifier: MIT
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"
#include "util.h"

static double ms(uint64_t time_ns)
{
	return (double)time_ns / 1e6;
}

static double mib(uint64_t bytes)
{
	return (double)bytes / (1 << 20);
}

/* ---- Progress -------------------------------------------------------------------------------- */

void progress_init(struct progress *progress, FILE *out)
{
	*progress = (struct progress){
		.out = out,
		.is_terminal = isatty(fileno(out)),
	};
}

void progress_start(struct progress *progress, const char *title, const char *unit)
{
	progress->title = title;
	progress->unit = unit;
	progress->shown = 0;
}

static void show_bar(const struct progress *progress, const char *what, unsigned int done,
		     unsigned int total)
{
	char bar[PROGRESS_STEPS + 1];

	memset(bar, '.', PROGRESS_STEPS);
	memset(bar, '#', progress->shown);
	bar[PROGRESS_STEPS] = '\0';
	fprintf(progress->out, "\r%s [%s] %u/%u %-20s", progress->title, bar, done, total, what);
	if (done == total) /* wipe it: what follows is a result */
		fprintf(progress->out, "\r%*s\r", (int)(strlen(progress->title) + 78), "");
	fflush(progress->out);
}

void progress_show(void *progress_data, const char *what, unsigned int done, unsigned int total)
{
	struct progress *progress = progress_data;
	unsigned int before = progress->shown;

	progress->shown = (unsigned int)((uint64_t)PROGRESS_STEPS * done / total);
	if (progress->shown == before && total > PROGRESS_STEPS)
		return;
	if (progress->is_terminal) {
		show_bar(progress, what, done, total);
	} else if (before < PROGRESS_STEPS / 2 && progress->shown >= PROGRESS_STEPS / 2 &&
		   done < total) {
		fprintf(progress->out, "%s: %u of %u %s\n", progress->title, done, total,
			progress->unit);
		fflush(progress->out);
	}
}

/* ---- The top ten ----------------------------------------------------------------------------- */

/* Put a node into the list if it belongs there; equal ranks keep the order they come in. */
static void top_insert(const struct node **best, size_t *n, const struct node *node,
		       const double *rank)
{
	size_t at = *n;

	while (at > 0 && rank[node->index] > rank[best[at - 1]->index])
		at--;
	if (at == TOP_NODES)
		return;
	if (*n < TOP_NODES)
		(*n)++;
	for (size_t i = *n - 1; i > at; i--)
		best[i] = best[i - 1];
	best[at] = node;
}

int top_find(const struct graph *graph, const double *rank, uint32_t n_copies, struct top *ret_top)
{
	const struct node *best[TOP_NODES];
	struct top top = { 0 };
	size_t n = 0;

	for (size_t i = 0; i < graph->n_nodes / n_copies; i++)
		top_insert(best, &n, &graph->nodes[i], rank);
	for (size_t i = 0; i < n; i++) {
		top.nodes[i] = (struct top_node){
			.name = strdup(best[i]->name),
			.rank = rank[best[i]->index] * n_copies,
			.n_in = best[i]->n_in,
			.n_out = best[i]->n_out,
		};
		if (!top.nodes[i].name) {
			top_free(&top);
			return complain(-ENOMEM, "cannot keep the top ten");
		}
		top.n++;
	}
	*ret_top = top;
	return 0;
}

void top_free(struct top *top)
{
	for (size_t i = 0; i < top->n; i++)
		free(top->nodes[i].name);
	top->n = 0;
}

/* A file name may hold anything: control characters show as '?'. */
static void print_name(const char *name)
{
	for (; *name; name++)
		putchar((unsigned char)*name < 0x20 || *name == 0x7f ? '?' : *name);
}

static void print_top(const struct top *top)
{
	printf("top %zu\n%10s %8s %8s  file\n", top->n, "rank", "included", "includes");
	for (size_t i = 0; i < top->n; i++) {
		const struct top_node *node = &top->nodes[i];

		printf("%10.6f %8" PRIu32 " %8" PRIu32 "  ", node->rank, node->n_in, node->n_out);
		print_name(node->name);
		putchar('\n');
	}
}

/* ---- Tables ---------------------------------------------------------------------------------- */

static void print_devices(const struct report *report)
{
	for (size_t i = 0; i < report->n_devices; i++) {
		const struct svm_device_info *info = &report->devices[i];

		printf("device %zu: %s, %.0f MiB of memory, %s\n", i, info->name,
		       mib(info->memory_size),
		       info->caps & SVM_CAP_FAULTS ? "recoverable faults" : "no faults");
		if (report->by_engine & (1u << i))
			printf("device %zu: its engine moves and fills the vectors, the CPU does the arithmetic\n",
			       i);
	}
}

void report_print_job(const struct report *report)
{
	const struct scan *scan = report->scan;

	printf("%s: %zu headers, %zu includes among them, %zu that lead elsewhere (%.0f ms)\n",
	       report->directory, scan->n_files, scan->n_edges, scan->n_unresolved,
	       ms(report->scan_ns));
	if (scan->n_unreadable)
		printf("%zu files or directories could not be read\n", scan->n_unreadable);
	printf("graph: %" PRIu32 " x that: %" PRIu64 " nodes, %" PRIu64 " edges\n",
	       report->n_copies, report->n_nodes, report->n_edges);
	print_devices(report);
	printf("CPU alone, ordinary memory: %u iterations in %.1f ms\n", report->n_iterations,
	       ms(report->cpu_only_ns));
}

static void print_notes(const struct place_notes *notes)
{
	for (size_t i = 0; i < notes->n; i++) {
		const struct place_note *note = &notes->notes[i];

		printf("  hint: %s (%s): %s", note->hint, note->target,
		       place_status_name(note->outcome.status));
		if (note->outcome.reason != SVM_REASON_NONE)
			printf(": %s", place_reason_name(note->outcome.reason));
		putchar('\n');
	}
}

static void print_phase_header(const struct report *report)
{
	printf("  %-17s %9s %10s %13s %9s %9s %9s | %8s", "phase", "time, ms", "CPU faults",
	       "device faults", "host>dev", "dev>host", "dev>dev", "on host");
	for (size_t i = 0; i < report->n_devices; i++)
		printf("%*s%zu", i < 10 ? 9 : 8, "on dev ", i);
	printf("  (MiB)\n");
}

static void print_cost(const char *name, const struct phase_cost *cost)
{
	printf("  %-17s %9.1f %10" PRIu64 " %13" PRIu64 " %9.1f %9.1f %9.1f |", name,
	       ms(cost->time_ns), cost->cpu_faults, cost->device_faults, mib(cost->host_to_device),
	       mib(cost->device_to_host), mib(cost->device_to_device));
}

void report_print_run(const struct report *report, const struct run *run)
{
	struct phase_cost sum = phase_sum(&run->phases, "");

	printf("\n%s hints\n", run->with_hints ? "with" : "without");
	print_notes(&run->notes);
	print_phase_header(report);
	for (size_t i = 0; i < run->phases.n; i++) {
		const struct phase *phase = &run->phases.phases[i];

		print_cost(phase->name, &phase->cost);
		printf(" %8.1f", mib(phase->on_host));
		for (size_t d = 0; d < report->n_devices; d++)
			printf(" %9.1f", mib(phase->on_device[d]));
		putchar('\n');
	}
	print_cost("sum", &sum);
	putchar('\n');
	printf("  last change %.3e; ", run->change);
	if (run->n_wrong)
		printf("%zu ranks differ from those of the CPU alone\n", run->n_wrong);
	else
		printf("bit for bit what the CPU alone computed\n");
}

static void print_saved(const char *what, double without, double with)
{
	printf("  %-22s %12.1f %12.1f %12.1f", what, without, with, without - with);
	if (without > 0)
		printf(" %7.1f %%", 100.0 * (without - with) / without);
	putchar('\n');
}

/* Building the graph is the same in both runs; what placing it costs counts against the hints. */
static struct phase_cost cost_after_build(const struct run *run)
{
	struct phase_cost all = phase_sum(&run->phases, "");
	struct phase_cost build = phase_sum(&run->phases, "build");

	all.time_ns -= build.time_ns;
	all.cpu_faults -= build.cpu_faults;
	all.device_faults -= build.device_faults;
	all.host_to_device -= build.host_to_device;
	all.device_to_host -= build.device_to_host;
	all.device_to_device -= build.device_to_device;
	return all;
}

void report_print_end(const struct report *report)
{
	struct phase_cost without = cost_after_build(&report->runs[0]);
	struct phase_cost with = cost_after_build(&report->runs[1]);

	if (report->runs[0].done && report->runs[1].done) {
		printf("\nwhat hints saved, all phases after build\n");
		if (report->hints_with_acquire)
			printf("  (with hints a launch also says what it will use, so it meets no faults;"
			       " '--access faults' leaves that out)\n");
		printf("  %-22s %12s %12s %12s\n", "", "without", "with", "saved");
		print_saved("time, ms", ms(without.time_ns), ms(with.time_ns));
		print_saved("CPU faults", (double)without.cpu_faults, (double)with.cpu_faults);
		print_saved("device faults", (double)without.device_faults,
			    (double)with.device_faults);
		print_saved("host to device, MiB", mib(without.host_to_device),
			    mib(with.host_to_device));
		print_saved("device to host, MiB", mib(without.device_to_host),
			    mib(with.device_to_host));
		print_saved("device to device, MiB", mib(without.device_to_device),
			    mib(with.device_to_device));
	}
	putchar('\n');
	print_top(&report->top);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

/* Bytes that are not ASCII are written as the code point of that number: valid for any file name. */
static void json_string(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		unsigned char byte = (unsigned char)*text;

		if (byte < 0x20 || byte >= 0x7f)
			printf("\\u%04x", byte);
		else if (byte == '"' || byte == '\\')
			printf("\\%c", byte);
		else
			putchar(byte);
	}
	putchar('"');
}

static void json_devices(const struct report *report)
{
	printf("\"devices\":[");
	for (size_t i = 0; i < report->n_devices; i++) {
		const struct svm_device_info *info = &report->devices[i];

		printf("%s{\"name\":", i ? "," : "");
		json_string(info->name);
		printf(",\"memory_bytes\":%" PRIu64 ",\"faults\":%s,\"kernels\":%s}",
		       info->memory_size, info->caps & SVM_CAP_FAULTS ? "true" : "false",
		       report->by_engine & (1u << i) ? "false" : "true");
	}
	printf("]");
}

static void json_phase(const struct report *report, const struct phase *phase)
{
	const struct phase_cost *cost = &phase->cost;

	printf("{\"name\":");
	json_string(phase->name);
	printf(",\"time_ns\":%" PRIu64 ",\"cpu_faults\":%" PRIu64 ",\"device_faults\":%" PRIu64,
	       cost->time_ns, cost->cpu_faults, cost->device_faults);
	printf(",\"host_to_device_bytes\":%" PRIu64 ",\"device_to_host_bytes\":%" PRIu64
	       ",\"device_to_device_bytes\":%" PRIu64,
	       cost->host_to_device, cost->device_to_host, cost->device_to_device);
	printf(",\"on_host_bytes\":%" PRIu64 ",\"on_device_bytes\":[", phase->on_host);
	for (size_t i = 0; i < report->n_devices; i++)
		printf("%s%" PRIu64, i ? "," : "", phase->on_device[i]);
	printf("]}");
}

static void json_run(const struct report *report, const struct run *run)
{
	printf("{\"hints\":%s,\"identical\":%s,\"last_change\":%.17g,\"answers\":[",
	       run->with_hints ? "true" : "false", run->n_wrong ? "false" : "true", run->change);
	for (size_t i = 0; i < run->notes.n; i++) {
		const struct place_note *note = &run->notes.notes[i];

		printf("%s{\"hint\":\"%s\",\"target\":\"%s\",\"status\":\"%s\",\"reason\":\"%s\"}",
		       i ? "," : "", note->hint, note->target,
		       place_status_name(note->outcome.status),
		       place_reason_name(note->outcome.reason));
	}
	printf("],\"phases\":[");
	for (size_t i = 0; i < run->phases.n; i++) {
		printf("%s", i ? "," : "");
		json_phase(report, &run->phases.phases[i]);
	}
	printf("]}");
}

static void json_top(const struct top *top)
{
	printf("\"top\":[");
	for (size_t i = 0; i < top->n; i++) {
		const struct top_node *node = &top->nodes[i];

		printf("%s{\"file\":", i ? "," : "");
		json_string(node->name);
		printf(",\"rank\":%.17g,\"included_by\":%" PRIu32 ",\"includes\":%" PRIu32 "}",
		       node->rank, node->n_in, node->n_out);
	}
	printf("]");
}

void report_print_json(const struct report *report)
{
	const struct scan *scan = report->scan;
	const char *separator = "";

	printf("{\"directory\":");
	json_string(report->directory);
	printf(",\"files\":%zu,\"includes\":%zu,\"unresolved\":%zu,\"unreadable\":%zu",
	       scan->n_files, scan->n_edges, scan->n_unresolved, scan->n_unreadable);
	printf(",\"copies\":%" PRIu32 ",\"nodes\":%" PRIu64 ",\"edges\":%" PRIu64
	       ",\"iterations\":%u,\"cpu_only_ns\":%" PRIu64 ",",
	       report->n_copies, report->n_nodes, report->n_edges, report->n_iterations,
	       report->cpu_only_ns);
	json_devices(report);
	printf(",\"runs\":[");
	for (int i = 0; i < 2; i++) {
		if (!report->runs[i].done)
			continue;
		printf("%s", separator);
		json_run(report, &report->runs[i]);
		separator = ",";
	}
	printf("],");
	json_top(&report->top);
	printf("}\n");
}
