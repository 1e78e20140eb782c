/* SPDX-License-Identifier: MIT */
#include "policy.h"

#include <errno.h>

static const struct svm_action move_unit = { .mode = SVM_COH_MIGRATE, .spread = true };
static const struct svm_action move_page = { .mode = SVM_COH_MIGRATE, .spread = false };
static const struct svm_action map_in_place = { .mode = SVM_COH_REMOTE, .spread = true };
static const struct svm_action add_copy = { .mode = SVM_COH_DUPLICATE, .spread = true };
static const struct svm_action no_access = { .error = -EACCES };
static const struct svm_action no_link = { .error = -ENOLINK };

static bool in_set(uint16_t set, uint32_t agent)
{
	return agent != SVM_AGENT_CPU && (set >> (agent - 1u)) & 1u;
}

/* Host memory is the place nearest to a device that reaches managed memory through the CPU's page tables. */
static bool prefers_host(const struct svm_policy_in *in)
{
	const struct svm_hints *hints = in->hints;

	switch (hints->preferred.kind) {
	case SVM_LOCATION_HOST:
	case SVM_LOCATION_HOST_NUMA:
		return true;
	case SVM_LOCATION_DEVICE:
		return in->native >> hints->preferred.id & 1u;
	default:
		return (hints->accessed_by | hints->in_place) & in->native;
	}
}

static bool prefers_device(const struct svm_policy_in *in)
{
	return in->hints->preferred.kind == SVM_LOCATION_DEVICE && !prefers_host(in);
}

static bool prefers_agent(const struct svm_policy_in *in, uint32_t agent)
{
	return prefers_device(in) && in->hints->preferred.id == agent - 1u;
}

/* The bytes may not move because of this access: in place, or as given. */
static struct svm_action stay(const struct svm_policy_in *in, struct svm_action otherwise)
{
	bool on_host = in->at == SVM_AT_HOST || in->at == SVM_AT_NONE;

	if (in->at == SVM_AT_OWN)
		return move_unit; /* it is there: only the mapping is missing */
	if (on_host && in->reaches_host)
		return map_in_place;
	return otherwise;
}

static struct svm_action cpu_policy(const struct svm_policy_in *in)
{
	const struct svm_hints *hints = in->hints;

	/* A CPU touch always gets its page: there is no errno for a load. */
	if (hints->read_mostly && !in->write && in->can_duplicate &&
	    hints->atomics != SVM_ATOMICS_SYSTEM)
		return add_copy;
	if (in->at == SVM_AT_OWN || in->at == SVM_AT_NONE)
		return move_unit;
	if (hints->migration != SVM_MIGRATE_ON_ACCESS || prefers_device(in))
		return move_page; /* no neighbours away from where they should be */
	return move_unit;
}

static struct svm_action device_policy(const struct svm_policy_in *in)
{
	const struct svm_hints *hints = in->hints;
	/* Where a hint keeps pages on the host, one that thrashes goes back there instead of on to the next device. */
	struct svm_action move = in->thrashing && in->reaches_host ? map_in_place : move_page;

	if (hints->migration == SVM_MIGRATE_NEVER)
		return stay(in, in->at == SVM_AT_NONE ? move_unit : no_link);
	if (hints->atomics == SVM_ATOMICS_SYSTEM)
		return in->reaches_host && in->system_atomics ? map_in_place : move_unit;
	if (hints->read_mostly && !in->write && in->can_duplicate)
		return add_copy;
	if (hints->migration == SVM_MIGRATE_ON_PREFETCH)
		return stay(in, move);
	if (prefers_agent(in, in->agent))
		return move_unit;
	if (prefers_host(in))
		return stay(in, move);
	if (in_set(hints->in_place, in->agent))
		return stay(in, move);
	if (prefers_device(in) && in->at == SVM_AT_PEER)
		return move_page;
	if (in->thrashing)
		return in->reaches_host ? map_in_place : move_unit;
	return move_unit;
}

struct svm_action svm_policy(const struct svm_policy_in *in)
{
	const struct svm_hints *hints = in->hints;

	if (in_set(hints->no_access, in->agent))
		return no_access;
	if (in->cause == SVM_CAUSE_PIN)
		return move_unit;
	if (in->cause == SVM_CAUSE_PREFETCH) {
		if (hints->migration == SVM_MIGRATE_NEVER && in->at != SVM_AT_OWN &&
		    in->at != SVM_AT_NONE)
			return no_link;
		if (hints->read_mostly && in->can_duplicate && hints->atomics != SVM_ATOMICS_SYSTEM)
			return add_copy;
		return move_unit;
	}
	return in->agent == SVM_AGENT_CPU ? cpu_policy(in) : device_policy(in);
}

bool svm_history_moved(struct svm_history *history, uint32_t agent, uint64_t now_ns)
{
	bool to_and_fro = history->last_ns != 0 && history->last_agent != agent &&
			  now_ns - history->last_ns <= SVM_THRASH_LAPSE_NS;
	bool no_room = history->evicted_ns != 0 &&
		       now_ns - history->evicted_ns <= SVM_THRASH_REFAULT_NS;
	bool starts = false;

	if (now_ns - history->last_ns > SVM_THRASH_EPOCH_NS)
		history->n_events = 0;
	if ((to_and_fro || no_room) && ++history->n_events >= SVM_THRASH_THRESHOLD) {
		starts = now_ns >= history->pinned_ns;
		history->pinned_ns = now_ns + SVM_THRASH_PIN_NS;
		history->n_events = 0;
	}
	history->last_ns = now_ns;
	history->last_agent = agent;
	return starts;
}

void svm_history_evicted(struct svm_history *history, uint64_t now_ns)
{
	history->evicted_ns = now_ns;
}

bool svm_history_thrashing(const struct svm_history *history, uint64_t now_ns)
{
	return now_ns < history->pinned_ns;
}

uint64_t svm_history_nap(const struct svm_history *history, uint32_t agent, uint64_t now_ns)
{
	uint64_t end = history->last_ns + SVM_THRASH_NAP_NS;

	if (!svm_history_thrashing(history, now_ns) || history->last_agent == agent ||
	    now_ns >= end)
		return 0;
	return end;
}
