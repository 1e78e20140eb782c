// SPDX-License-Identifier: MIT
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "place.h"
#include "util.h"

static const enum graph_area constant_areas[] = { AREA_NODES, AREA_IN };
static const enum graph_area vector_areas[] = { AREA_RANK_A, AREA_RANK_B, AREA_PARTIALS };

#define N_CONSTANT (sizeof(constant_areas) / sizeof(constant_areas[0]))
#define N_VECTORS  (sizeof(vector_areas) / sizeof(vector_areas[0]))

static void note(struct place_notes *notes, const char *hint, const char *target,
		 struct svm_outcome outcome)
{
	/* The same hint on several areas or for several devices: the weakest answer is the one to know. */
	for (size_t i = 0; i < notes->n; i++) {
		struct place_note *old = &notes->notes[i];

		if (strcmp(old->hint, hint) != 0 || strcmp(old->target, target) != 0)
			continue;
		if (outcome.status > old->outcome.status)
			old->outcome = outcome;
		return;
	}
	assert(notes->n < MAX_PLACE_NOTES);
	notes->notes[notes->n++] = (struct place_note){ hint, target, outcome };
}

/* Set one hint of the graph's own kind, and "accessed by" for all devices, on a list of areas. */
static int advise(const struct session *session, const struct graph *graph,
		  const enum graph_area *areas, size_t n_areas, const struct svm_advice *first,
		  const char *hint, const char *target, struct place_notes *notes)
{
	struct svm_advice advice[1 + SVM_MAX_DEVICES] = { *first };
	struct svm_outcome outcomes[1 + SVM_MAX_DEVICES];
	size_t n = 1;

	for (size_t d = 0; d < session->n_devices; d++)
		advice[n++] = (struct svm_advice){
			.kind = SVM_ADVICE_ACCESSED_BY,
			.device = svm_device_id(session->devices[d]),
		};
	for (size_t i = 0; i < n_areas; i++) {
		const struct area *area = &graph->areas[areas[i]];
		int ret = svm_advise(session->space, area->addr, area->size, advice, n, outcomes);

		if (ret)
			return complain(ret, "cannot set hints on the %s", target);
		note(notes, hint, target, outcomes[0]);
		for (size_t d = 1; d < n; d++)
			note(notes, "accessed by", target, outcomes[d]);
	}
	return 0;
}

/* Give each device that runs kernels its copy of what it will read. All in one batch. */
static int prefetch_constant(const struct session *session, const struct graph *graph,
			     struct place_notes *notes)
{
	struct svm_prefetch_range ranges[SVM_MAX_DEVICES * N_CONSTANT];
	struct svm_prefetch_result results[SVM_MAX_DEVICES * N_CONSTANT];
	struct svm_prefetch *prefetch;
	size_t n = 0;
	int ret, err;

	for (size_t d = 0; d < session->n_devices; d++) {
		for (size_t i = 0; i < N_CONSTANT && session->infos[d].caps & SVM_CAP_LAUNCH; i++)
			ranges[n++] = (struct svm_prefetch_range){
				.addr = graph->areas[constant_areas[i]].addr,
				.size = graph->areas[constant_areas[i]].size,
				.to = svm_device_location(session->devices[d]),
			};
	}
	if (n == 0)
		return 0;
	ret = svm_prefetch_start(session->space, ranges, n, NULL, 0, &prefetch);
	if (ret)
		return complain(ret, "cannot prefetch the graph");
	ret = svm_prefetch_wait(prefetch, -1, results, n);
	err = svm_prefetch_destroy(prefetch);
	/* A device too small for its copy is no failure: the rest of the graph comes when it is touched. */
	if (ret && ret != -ENOSPC)
		return complain(ret, "cannot prefetch the graph");
	if (err)
		return complain(err, "cannot end the prefetch of the graph");
	for (size_t i = 0; i < n; i++)
		note(notes, "prefetch", "graph", results[i].outcome);
	return 0;
}

int place_graph(const struct session *session, const struct graph *graph,
		struct place_notes *ret_notes)
{
	const struct svm_advice read_mostly = {
		.kind = SVM_ADVICE_READ_MOSTLY,
		.value = 1,
	};
	const struct svm_advice prefer_host = {
		.kind = SVM_ADVICE_PREFERRED_LOCATION,
		.location = { .kind = SVM_LOCATION_HOST },
	};
	struct place_notes notes = { 0 };
	int ret;

	ret = advise(session, graph, constant_areas, N_CONSTANT, &read_mostly, "read mostly",
		     "graph", &notes);
	if (!ret)
		ret = prefetch_constant(session, graph, &notes);
	/* For a device that cannot reach the host, "prefer the host" would mean to move single pages. */
	if (!ret && session_all_can(session, SVM_CAP_HOST_ALIAS))
		ret = advise(session, graph, vector_areas, N_VECTORS, &prefer_host,
			     "preferred location host", "vectors", &notes);
	if (!ret)
		*ret_notes = notes;
	return ret;
}

const char *place_status_name(uint32_t status)
{
	switch (status) {
	case SVM_EFFECTIVE:
		return "effective";
	case SVM_DEGRADED:
		return "degraded";
	case SVM_REFUSED:
		return "refused";
	default:
		return "unknown";
	}
}

const char *place_reason_name(uint32_t reason)
{
	static const char *const names[] = {
		[SVM_REASON_NONE] = "",
		[SVM_REASON_NO_READ_ONLY_MAPS] = "a device has no read-only mappings",
		[SVM_REASON_NOT_REACHABLE] = "a device cannot reach host memory in place",
		[SVM_REASON_NO_DEVICE_ATOMICS] = "a device has no atomics there",
		[SVM_REASON_NO_SUCH_DEVICE] = "no such device",
		[SVM_REASON_NO_SUCH_NODE] = "no such NUMA node",
		[SVM_REASON_OVERRIDDEN] = "another hint goes first",
		[SVM_REASON_REGISTERED] = "registered memory keeps its storage",
		[SVM_REASON_NO_ENGINE] = "a device has no engine for it",
		[SVM_REASON_PINNED] = "pages are pinned",
		[SVM_REASON_NO_MEMORY] = "memory is full",
		[SVM_REASON_SINGLE_NODE] = "the kernel cannot place memory by node",
	};

	if (reason >= sizeof(names) / sizeof(names[0]) || !names[reason])
		return "unknown reason";
	return names[reason];
}
