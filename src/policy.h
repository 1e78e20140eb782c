/* SPDX-License-Identifier: MIT */
/*
 * What to do with a page that an agent wants: a pure function of where it is, who asks why, the
 * hints, and what the agent can do. The order of precedence is: migration forbidden, read mostly,
 * preferred location, accessed by, heuristics.
 */
#ifndef SVM_POLICY_H
#define SVM_POLICY_H

#include "coherence.h"
#include "hints.h"

enum svm_cause {
	SVM_CAUSE_FAULT = 0,
	SVM_CAUSE_ACQUIRE = 1,
	SVM_CAUSE_PREFETCH = 2, /* explicit: obeyed whatever is preferred */
	SVM_CAUSE_PIN = 3,	/* explicit, and exclusive */
};

/* Where the bytes are, seen from the agent. */
enum svm_whereabouts {
	SVM_AT_NONE = 0, /* not populated */
	SVM_AT_OWN = 1,	 /* in its own memory (host memory, for the CPU) */
	SVM_AT_HOST = 2, /* devices only: in host memory and not in its own */
	SVM_AT_PEER = 3, /* in device memory only, of another agent */
};

struct svm_policy_in {
	uint32_t agent;
	enum svm_cause cause;
	enum svm_whereabouts at;
	bool write;
	bool reaches_host;   /* it can map this block's host storage in place */
	bool can_duplicate;  /* every agent concerned can trap a write to a read-only mapping */
	bool system_atomics; /* its atomics on host memory work together with the CPU's */
	uint16_t native; /* devices (by id) that reach managed memory through the CPU's page tables alone */
	bool thrashing; /* the page went back and forth: stop moving it */
	const struct svm_hints *hints;
};

struct svm_action {
	int error; /* 0, -EACCES or -ENOLINK */
	enum svm_coh_mode mode;
	bool spread; /* neighbours may come along, up to the granularity */
};

struct svm_action svm_policy(const struct svm_policy_in *in);

/* Thrash detection, per block; times in nanoseconds. The numbers are those UVM starts from
 * (uvm_perf_thrashing.c: lapse 500 us, threshold 3, pin 300 lapses, epoch 2000 lapses). */
#define SVM_THRASH_LAPSE_NS  UINT64_C(500000)
#define SVM_THRASH_THRESHOLD 3u
#define SVM_THRASH_PIN_NS    (300u * SVM_THRASH_LAPSE_NS)
#define SVM_THRASH_EPOCH_NS  (2000u * SVM_THRASH_LAPSE_NS)
/* A block that comes back so soon after it was evicted does not fit with the others. */
#define SVM_THRASH_REFAULT_NS (10u * SVM_THRASH_LAPSE_NS)
/* The documented back-off: pages of a thrashing block that cannot be mapped in place stay this long where they are
 * before another agent's fault takes them. */
#define SVM_THRASH_NAP_NS SVM_THRASH_LAPSE_NS

struct svm_history {
	uint64_t last_ns;    /* when pages of the block last changed place because of an access */
	uint64_t pinned_ns;  /* thrashing until then; 0: not */
	uint64_t evicted_ns; /* when pages last had to leave a device for others */
	uint32_t last_agent;
	uint32_t n_events; /* moves to and fro within a lapse of each other */
};

/* Pages of the block move to agent because it touched them. Returns true when this makes it thrash (once per pin). */
bool svm_history_moved(struct svm_history *history, uint32_t agent, uint64_t now_ns);
/* Pages of the block had to leave a device because its memory was full. */
void svm_history_evicted(struct svm_history *history, uint64_t now_ns);
/* Until when a fault that moves pages has to wait; 0: it need not. */
uint64_t svm_history_nap(const struct svm_history *history, uint32_t agent, uint64_t now_ns);
bool svm_history_thrashing(const struct svm_history *history, uint64_t now_ns);

#endif
