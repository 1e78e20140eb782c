/* SPDX-License-Identifier: MIT */
#include "flow_state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RING	   512u
#define RING_SHOWN 120u

/* One line of the ring: what was called, and what came of it. */
struct line {
	atomic_ullong number; /* + 1 once written */
	uint16_t worker;
	uint16_t op;
	uint16_t kind;
	int16_t region;
	int32_t slot;
	int32_t result;
	uint64_t offset;
	uint64_t size;
	uint64_t value;
	const char *what;
};

__thread struct flow_current flow_current;

static struct line ring[RING];
static atomic_ullong ring_next;
static pthread_mutex_t fail_lock = PTHREAD_MUTEX_INITIALIZER;

static void print_line(const struct line *l)
{
	(void)fprintf(stderr, "  %llu w%u op %u %s",
		      (unsigned long long)atomic_load(&l->number) - 1u, l->worker, l->op,
		      flow_op_name(l->kind));
	if (l->what)
		(void)fprintf(stderr, " (%s)", l->what);
	if (l->region >= 0)
		(void)fprintf(stderr, " region %d %p + %llx, size %llx", l->region,
			      (void *)flow.workers[l->worker].regions[l->region].addr,
			      (unsigned long long)l->offset, (unsigned long long)l->size);
	if (l->slot >= 0)
		(void)fprintf(stderr, " device %d", l->slot);
	(void)fprintf(stderr, " value %llx -> %d\n", (unsigned long long)l->value, l->result);
}

static void print_ring(void)
{
	uint64_t end = atomic_load(&ring_next);
	uint64_t start = end > RING_SHOWN ? end - RING_SHOWN : 0;

	(void)fprintf(stderr, "last operations:\n");
	for (uint64_t i = start; i < end; i++)
		if (atomic_load(&ring[i % RING].number) == i + 1u)
			print_line(&ring[i % RING]);
}

_Noreturn void flow_fail(const char *format, ...)
{
	char text[512];
	va_list args;
	int n;

	(void)pthread_mutex_lock(&fail_lock);
	n = snprintf(text, sizeof(text), "worker %u, op %u (%s): ", flow_current.worker,
		     flow_current.op, flow_op_name(flow_current.kind));
	va_start(args, format);
	(void)vsnprintf(text + n, sizeof(text) - (size_t)n, format, args);
	va_end(args);
	(void)snprintf(flow.order->report->text, sizeof(flow.order->report->text), "%s", text);
	(void)fprintf(stderr, "FAILED: seed %llu: %s\n", (unsigned long long)flow.order->seed,
		      text);
	print_ring();
	if (getenv("SVM_TEST_HOLD")) {
		(void)fprintf(stderr, "held for a debugger: process %d\n", (int)getpid());
		for (;;)
			(void)pause();
	}
	_exit(1);
}

void flow_note(const struct worker *w, const char *what, const struct region *r, int slot,
	       uint64_t offset, uint64_t size, uint64_t value, int result)
{
	uint64_t i = atomic_fetch_add(&ring_next, 1u);
	struct line *l = &ring[i % RING];

	atomic_store(&l->number, 0);
	l->worker = (uint16_t)w->number;
	l->op = (uint16_t)flow_current.op;
	l->kind = (uint16_t)flow_current.kind;
	l->region = r ? (int16_t)(r - w->regions) : -1;
	l->slot = slot;
	l->result = result;
	l->offset = offset;
	l->size = size;
	l->value = value;
	l->what = what;
	atomic_store(&l->number, i + 1u);
	if (flow.order->loud)
		print_line(l);
}

uint64_t flow_n_notes(void)
{
	return atomic_load(&ring_next);
}

void flow_expect(const char *call, int result, int wanted)
{
	if (result != wanted)
		flow_fail("%s: %d, not %d", call, result, wanted);
}

/* What the library says of late about the block of a page. */
void flow_print_events(const uint8_t *addr)
{
	struct svm_event events[64];
	uint64_t block = (uint64_t)(uintptr_t)addr / BLOCK * BLOCK;
	uint64_t cursor = 0;
	int n;

	while ((n = svm_events_read(flow.space, &cursor, events, 64, NULL)) > 0)
		for (int i = 0; i < n; i++)
			if (events[i].device != ~0u || events[i].addr / BLOCK * BLOCK == block)
				(void)fprintf(
					stderr,
					"  event %u at %llx + %llx device %d value %llx, %u to %u\n",
					events[i].kind, (unsigned long long)events[i].addr,
					(unsigned long long)events[i].size, (int)events[i].device,
					(unsigned long long)events[i].value, events[i].from,
					events[i].to);
}

/* What the kernel has there. */
void flow_print_mapping(const uint8_t *addr)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	char line[256];
	bool here = false;

	while (file && fgets(line, sizeof(line), file)) {
		unsigned long start;
		unsigned long end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = (uintptr_t)addr >= start && (uintptr_t)addr < end;
		if (here && (strchr(line, '-') || strncmp(line, "VmFlags", 7) == 0))
			(void)fprintf(stderr, "  %s", line);
	}
	if (file)
		(void)fclose(file);
}
