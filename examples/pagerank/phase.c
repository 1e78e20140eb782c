// SPDX-License-Identifier: MIT
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "phase.h"
#include "util.h"

struct phase *phase_get(struct phase_list *list, const char *name)
{
	struct phase *phase;

	for (size_t i = 0; i < list->n; i++) {
		if (strcmp(list->phases[i].name, name) == 0)
			return &list->phases[i];
	}
	assert(list->n < MAX_PHASES);
	phase = &list->phases[list->n++];
	*phase = (struct phase){ 0 };
	snprintf(phase->name, sizeof(phase->name), "%s", name);
	return phase;
}

static int read_stats(const struct session *session, struct svm_stats *ret_stats)
{
	int ret;

	*ret_stats = (struct svm_stats){ .size = sizeof(*ret_stats) };
	ret = svm_stats_query(session->space, ret_stats);
	return ret ? complain(ret, "cannot read the counters") : 0;
}

int phase_begin(const struct session *session, struct phase_mark *ret_mark)
{
	int ret = read_stats(session, &ret_mark->stats);

	ret_mark->time_ns = now_ns();
	return ret;
}

/* Count the pages of one area by location. */
static int count_residency(const struct session *session, const struct area *area,
			   struct phase *phase)
{
	size_t n_pages = (area->size + SVM_PAGE_SIZE - 1) / SVM_PAGE_SIZE;
	struct svm_page_residency *pages = calloc(n_pages, sizeof(*pages));
	int ret;

	if (!pages)
		return -ENOMEM;
	ret = svm_residency_query(session->space, area->addr, area->size, pages, n_pages, NULL);
	for (size_t i = 0; i < n_pages && !ret; i++) {
		if (pages[i].flags & SVM_PAGE_HOST)
			phase->on_host += SVM_PAGE_SIZE;
		for (size_t d = 0; d < session->n_devices; d++) {
			if (pages[i].devices & (1u << session->infos[d].id))
				phase->on_device[d] += SVM_PAGE_SIZE;
		}
	}
	free(pages);
	return ret;
}

static int note_residency(const struct session *session, const struct graph *graph,
			  struct phase *phase)
{
	int ret = 0;

	phase->on_host = 0;
	memset(phase->on_device, 0, sizeof(phase->on_device));
	for (int i = 0; i < N_AREAS && !ret; i++) {
		if (graph->areas[i].size)
			ret = count_residency(session, &graph->areas[i], phase);
	}
	return ret ? complain(ret, "cannot ask where the graph is") : 0;
}

int phase_end(const struct session *session, const struct graph *graph,
	      const struct phase_mark *mark, struct phase *phase)
{
	struct phase_cost *cost = &phase->cost;
	const struct svm_stats *then = &mark->stats;
	struct svm_stats now;
	int ret;

	cost->time_ns += now_ns() - mark->time_ns;
	ret = read_stats(session, &now);
	if (ret)
		return ret;
	cost->cpu_faults += now.cpu_faults - then->cpu_faults;
	cost->device_faults += now.device_faults - then->device_faults;
	cost->host_to_device += now.bytes_host_to_device - then->bytes_host_to_device;
	cost->device_to_host += now.bytes_device_to_host - then->bytes_device_to_host;
	cost->device_to_device += now.bytes_device_to_device - then->bytes_device_to_device;
	return note_residency(session, graph, phase);
}

struct phase_cost phase_sum(const struct phase_list *list, const char *prefix)
{
	struct phase_cost sum = { 0 };

	for (size_t i = 0; i < list->n; i++) {
		const struct phase_cost *cost = &list->phases[i].cost;

		if (strncmp(list->phases[i].name, prefix, strlen(prefix)) != 0)
			continue;
		sum.time_ns += cost->time_ns;
		sum.cpu_faults += cost->cpu_faults;
		sum.device_faults += cost->device_faults;
		sum.host_to_device += cost->host_to_device;
		sum.device_to_host += cost->device_to_host;
		sum.device_to_device += cost->device_to_device;
	}
	return sum;
}
