/* SPDX-License-Identifier: MIT */
/*
 * One run of the random differential test: a space, devices and workers that follow from a seed, and a
 * sequence of operations that is either all of them or a chosen part.
 *
 * Operation i of worker w is a function of the seed, w and i alone. What it does depends on the state it
 * meets, so that leaving operations out leaves a sequence that makes sense.
 */
#ifndef FLOW_RUN_H
#define FLOW_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLOW_WORKERS 6u
#define FLOW_OPS_MAX 4096u

struct flow_op {
	uint16_t worker;
	uint16_t index;
};

/* What a run told before it ended, in memory that outlives its process. */
struct flow_report {
	uint64_t n_started; /* operations, in order, when it runs in one thread */
	uint64_t n_done;
	uint64_t n_lost;     /* devices lost */
	uint64_t n_poisoned; /* pages seen to be lost */
	char text[512];	     /* what was wrong */
};

struct flow_order {
	uint64_t seed;
	uint32_t n_ops;		   /* of each worker */
	bool threads;		   /* a thread per worker; else one thread does all, in order */
	bool loud;		   /* print each operation */
	unsigned int patience;	   /* seconds without progress that mean a hang; 0: default */
	const struct flow_op *ops; /* chosen ones, in order; NULL: all */
	size_t n_chosen;
	struct flow_report *report; /* shared */
	/* The same space lives through many rounds: called after each, when all memory is given back and all devices are
	 * closed. False: it was the last. NULL: one round. */
	bool (*again)(void *data);
	void *data;
};

/* Read the list of devices from the environment. NULL, or what is wrong with it. */
const char *flow_device_init(void);
/* Make the mistake that the environment asks for, if any (flow_mistake.c). False: it makes no sense. */
bool flow_mistake_init(void);
/* How many workers the seed asks for. */
unsigned int flow_workers(uint64_t seed);
/* Describe what follows from the seed. */
void flow_describe(uint64_t seed, char *text, size_t size);

/* Run it in this process, which has one thread. Returns only if all went well; else the process ends with
 * a report on stderr. */
void flow_run(const struct flow_order *given);

#endif
