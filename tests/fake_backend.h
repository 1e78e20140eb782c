/* SPDX-License-Identifier: MIT */
/*
 * A backend on plain memory that does what a test says: completes work at once, by a thread of its own, or
 * on command; fails the n-th call of an op; answers that its queue is full; dies. One device at a time.
 *
 * It is strict: a call that breaks the contract (a chunk that is freed while the device maps it or copies
 * it, a bind that leaves its block, an op after close) is printed and counted in fake_wrong().
 *
 * Nothing here calls malloc, so that ops may run in service threads.
 */
#ifndef SVM_FAKE_BACKEND_H
#define SVM_FAKE_BACKEND_H

#include <libsvm/backend.h>
#include <stdbool.h>
#include <stdint.h>

/* Ops that can be counted and made to fail. */
enum fake_op {
	FAKE_OPEN,
	FAKE_CHUNK_ALLOC,
	FAKE_CHUNK_MAP,
	FAKE_BIND,
	FAKE_COPY,
	FAKE_WORK,
	FAKE_FAULT_READ,
	FAKE_FAULT_DONE,
	FAKE_NATIVE_ADVISE,
	FAKE_NATIVE_PREFETCH,
	FAKE_NATIVE_QUERY,
	FAKE_OPS,
};
extern const char *const fake_op_names[FAKE_OPS];

enum fake_pace {
	FAKE_AT_ONCE = 0,    /* done when the call returns */
	FAKE_BY_THREAD = 1,  /* soon after */
	FAKE_ON_COMMAND = 2, /* by fake_complete(); until then it never signals */
};

#define FAKE_CAPS_ALL                                                                    \
	(SVM_CAP_FAULTS | SVM_CAP_READ_ONLY | SVM_CAP_HOST_ALIAS | SVM_CAP_CPU_VISIBLE | \
	 SVM_CAP_COPY_ENGINE | SVM_CAP_WORK)
#define FAKE_MAX_CHUNKS 8u

/* How the device is; set between fake_reset() and open. */
struct fake_config {
	uint32_t caps;
	_Atomic uint32_t n_chunks; /* may change later */
	uint64_t memory_size;	   /* what caps() says; 0: n_chunks */
	uint64_t va_start;
	uint64_t va_end;
	_Atomic enum fake_pace pace; /* likewise */
	uint32_t queue; /* calls of bind(), copy() and work() that wait at a time, each; 0: any number */
	bool keep;	/* memory survives loss */
	bool corpse; /* it does not, but can be mapped and shows something */
};
extern struct fake_config fake;

/* The table, whose name is "fake". */
extern const struct svm_backend_ops fake_backend;
/* The same device without managed memory of its own, as "fake-native": what it works on it reaches as the process does. */
extern const struct svm_backend_ops fake_native_backend;

/* What native_advise() was told. */
struct fake_advice {
	uint64_t addr;
	uint64_t size;
	struct svm_native_hints hints;
};
#define FAKE_MAX_ADVICE 64u
/* How often since fake_reset(), and the i-th. */
unsigned int fake_n_advice(void);
struct fake_advice fake_advice(unsigned int i);
/* What native_advise() answers from now on. */
void fake_answer_advice(struct svm_outcome outcome);
/* Native prefetches to the device do nothing to pages of [addr, addr + size), as drivers do where they cannot move one. */
void fake_stick(uint64_t addr, uint64_t size);

/* Everything as new, and the library finds "fake" and nothing else (see svm_backends). */
void fake_reset(void);
/* The library finds its own backends again. */
void fake_unplug(void);

/* Calls of an op from now on: the nth (1 is the next), and n_times - 1 after it, fail with error. -EAGAIN is followed by
 * the event that the contract wants. */
void fake_fail(enum fake_op op, unsigned int nth, int error, unsigned int n_times);
/* The nth call from now on is taken, and its point fails with error: nothing of it was done but, for a bind, taking the old
 * mappings away. For FAKE_BIND, FAKE_COPY, FAKE_WORK. */
void fake_fail_point(enum fake_op op, unsigned int nth, int error);
/* The same, and the device dies of it. */
void fake_fail_point_and_die(enum fake_op op, unsigned int nth, int error);
/* The nth call from now on finds the device dead. */
void fake_die_at(enum fake_op op, unsigned int nth);
/* No call fails by command any more. */
void fake_heal(void);
/* Calls since fake_reset(), whatever came of them. */
unsigned int fake_calls(enum fake_op op);
/* Wait until the op was called n times in all. */
void fake_await_calls(enum fake_op op, unsigned int n);

/* Carry out what is queued, at most n calls, in order per timeline; returns how many. */
unsigned int fake_complete(unsigned int n);
/* The device dies now. */
void fake_die(void);

/* An access of the device by its page table. A miss is a fault, for which it waits; without SVM_CAP_FAULTS the device dies
 * of it. 0, or why not: what fault_done() said, -ENODEV. addr is a multiple of 8. */
int fake_read(uint64_t addr, uint64_t *ret_value);
int fake_write(uint64_t addr, uint64_t value);

/* The fd of faults becomes readable, though there is none: another reader may have had it. */
void fake_tell_of_no_fault(void);

unsigned int fake_n_open(void);
unsigned int fake_n_chunks(void);
/* Pages that the device maps. */
unsigned int fake_n_mapped(void);
/* Breaches of the contract by the library. */
unsigned int fake_wrong(void);

#endif
