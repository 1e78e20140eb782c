/* SPDX-License-Identifier: MIT */
/*
 * What the flow tests stand on: leak checks, a watchdog, a seed, spaces and soft devices in all
 * capability combinations, patterns, kernels.
 *
 * fixture_setup() and fixture_teardown() are the setup and teardown of a test. The test gets
 * `struct svm_fixture *` in *state. At teardown the process must have the fds, mappings, threads and
 * children that it had at setup; what is left over fails the test and is named. Under sanitizers and
 * valgrind, which map memory as they like, of the mappings only files (memfds) are compared.
 *
 * Each program that links this has malloc, calloc, realloc and free replaced by ones that abort with a
 * message while svm_service_depth is not 0 in the calling thread. Not under sanitizers: they have their own.
 *
 * A test program's main() is `return fixture_main(argc, argv, cases, n_cases);`: it runs each case once,
 * or once per device or space variant (see FIXTURE_*), each as a test of its own. An argument is a pattern
 * of the names to run (* and ?). Environment: SVM_TEST_SEED; SVM_TEST_SLOWER=N on machines that are N times
 * slower, for all that bounds time; SVM_TEST_QUICK=1 or 2 for few of what it runs over (see fixture_quick());
 * SVM_TEST_VARIANT=NAME makes that entry of fixture_variants the default one; SVM_TEST_DEVICES, names of devices of
 * another backend instead of fixture_devices, separated by blanks and without the part that says which:
 * "xe:memory=16M xe:host=none". Where a test asks for a soft device by name, it gets one of them, in turn over all
 * that are there; cases that are about soft devices (FIXTURE_SOFT) skip. Their engines do what kernels do otherwise.
 *
 * It brings <cmocka.h> and what that wants.
 */
#ifndef SVM_FIXTURE_H
#define SVM_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <libsvm/libsvm.h>

#define FIXTURE_PAGE  ((uint64_t)SVM_PAGE_SIZE)
#define FIXTURE_BLOCK ((uint64_t)SVM_BLOCK_SIZE)
#define FIXTURE_TIMEOUT \
	30u /* seconds; four times that under sanitizers, and SVM_TEST_SLOWER times */

/* Bytes of memory that the test and its devices share outside the space, for what a kernel reports. */
#define FIXTURE_SCRATCH 65536u

/* ---- What to run over ------------------------------------------------------------------------- */

/* faults x host x readonly x peer x visible: names for fixture_open(), of 16 MiB (8 blocks) each. */
#define FIXTURE_MAX_DEVICES 32u
extern const char *fixture_devices[FIXTURE_MAX_DEVICES];
extern unsigned int fixture_n_devices;
/* Are they soft devices, which run kernels and can be killed? */
bool fixture_soft(void);
/* Room for a device name with more options behind it. */
#define FIXTURE_NAME 192u

/* A rung of the kernel ladder, or a way to run the service. */
struct svm_fixture_variant {
	const char *name;
	uint32_t flags;	    /* SVM_SPACE_* */
	uint32_t loop;	    /* enum svm_loop_kind */
	uint32_t n_threads; /* 0: default */
};
extern const struct svm_fixture_variant fixture_variants[]; /* [0] is the default */
extern const unsigned int fixture_n_variants;

/* ---- Fixture ---------------------------------------------------------------------------------- */

#define FIXTURE_MAX_FDS	    512u
#define FIXTURE_MAX_MAPS    4096u
#define FIXTURE_MAX_THREADS 128u
#define FIXTURE_MAX_KIDS    128u

struct svm_fixture_map {
	uint64_t start;
	uint64_t end;
};

/* What the process has. */
struct svm_fixture_count {
	unsigned int n_fds;
	int fds[FIXTURE_MAX_FDS];
	unsigned int n_maps;
	struct svm_fixture_map maps[FIXTURE_MAX_MAPS]; /* by address, adjacent ones joined */
	unsigned int n_threads;
	int threads[FIXTURE_MAX_THREADS];
	unsigned int n_kids;
	int kids[FIXTURE_MAX_KIDS];
};

struct svm_fixture {
	/* The test's own. */
	const char *test; /* name, for messages */
	const char *
		device; /* of fixture_devices; the one with all capabilities where the case runs over none */
	const struct svm_fixture_variant *variant;
	uint64_t seed; /* of this program; fixture_random() starts from it anew in each test */
	void *scratch; /* FIXTURE_SCRATCH bytes, zero, shared with all devices opened later */
	struct svm_space
		*space; /* from fixture_space(); destroyed by teardown if it is still there */

	/* Private to the fixture. */
	uint64_t random;
	unsigned int n_opened;
	struct svm_fixture_count before;
};

int fixture_setup(void **state);
int fixture_teardown(void **state);

/* The watchdog ends the program after this many seconds from now (times four under sanitizers, times
 * fixture_slower()). */
void fixture_watchdog(unsigned int seconds);
/* The next number of this test's sequence. */
uint64_t fixture_random(struct svm_fixture *f);
/* One of [0, n). */
static inline uint64_t fixture_pick(struct svm_fixture *f, uint64_t n)
{
	return fixture_random(f) % n;
}

/* Compare with what setup found; prints each leftover to stderr. Returns how many. */
unsigned int fixture_leaks(struct svm_fixture *f);
/* What there is now is what setup found: for a child, in the beginning. */
void fixture_recount(struct svm_fixture *f);
/* Does the process run under a sanitizer? */
bool fixture_sanitized(void);
/* KiB of huge pages in the mappings that overlap the span (AnonHugePages of proc_pid_smaps(5)). */
unsigned long fixture_huge_kb(uint64_t addr, uint64_t size);

/* By how much this machine is slower than those for which times were chosen: SVM_TEST_SLOWER, 1 without it. */
unsigned int fixture_slower(void);
/*
 * SVM_TEST_QUICK. 1: cases over devices run on four of them only: with all capabilities, with faults alone, with all but
 * faults, with none. 2, where all is many times slower: on those with all and with none, cases over variants in four of
 * these, and what lets each call fail in turn leaves more and more of the later ones out. Else 0.
 */
unsigned int fixture_quick(void);
/* The call to fail after the nth: the next one, or in a run with SVM_TEST_QUICK=2 one further and further on. */
unsigned int fixture_next_failure(unsigned int nth);
/* Has the space all of SVM_SPACE_CAP_*? */
bool fixture_space_has(struct svm_fixture *f, uint32_t caps);
/* What a touch of a lost page raises. */
int fixture_loss_signal(struct svm_fixture *f);
/* Until the test ends the library's clock goes fixture_slower() times slower: for what the library does only where things
 * follow each other within a set time, which they do not on such a machine. Before the space is created. */
void fixture_slow_clock(void);
/* Does it run under valgrind? That knows no epoll_pwait2(2), pidfd_open(2) or io_uring, and runs one thread at a time. */
bool fixture_valgrind(void);

/* ---- Spaces and devices (all fail the test on error) ------------------------------------------ */

/* Create f->space as f->variant says, with what is set in options (may be NULL) on top. Skips the test, with the
 * reason, if the variant is not to be had here. Log lines up to level warn go to stderr. */
struct svm_space *fixture_space(struct svm_fixture *f, const struct svm_space_options *options);
/* Destroy f->space now; it must go without -EBUSY. */
void fixture_space_end(struct svm_fixture *f);
struct svm_device *fixture_open(struct svm_fixture *f, const char *name);
/* f->device with more options, as "memory=4M:engines=2" (those given replace the name's own). */
struct svm_device *fixture_open_with(struct svm_fixture *f, const char *more);
bool fixture_has(struct svm_device *device, uint32_t caps);
/* Can a page be on the device and on the host at a time? */
bool fixture_duplicates(struct svm_fixture *f, struct svm_device *device, const void *addr);
/* Skip the test unless the device has them; what says what they are. */
void fixture_need(struct svm_device *device, uint32_t caps, const char *what);
/* Have the device die, and the library notice. Its memory is gone. A soft device is killed, an emulated one wedged. */
void fixture_kill(struct svm_fixture *f, struct svm_device *device);
void *fixture_alloc(struct svm_fixture *f, uint64_t size, uint32_t flags);
void fixture_free(struct svm_fixture *f, void *addr);

/* Counters of the space now. */
struct svm_stats fixture_stats(struct svm_fixture *f);
/* How many events of a kind there have been, of those that the ring still has. */
unsigned int fixture_events(struct svm_fixture *f, enum svm_event_kind kind);
/* Residency of the page of addr. */
struct svm_page_residency fixture_page(struct svm_fixture *f, const void *addr);
/* Each page of the span is held by exactly these: device ids as bits, and the host. Fails the test otherwise. */
#define fixture_assert_at(f, addr, size, devices, host) \
	fixture_assert_at_(f, addr, size, devices, host, __FILE__, __LINE__)
void fixture_assert_at_(struct svm_fixture *f, const void *addr, uint64_t size, uint16_t devices,
			bool host, const char *file, int line);

/* ---- Bytes ------------------------------------------------------------------------------------ */

/* The byte at offset i of pattern number `pattern`, for whole words of 8 bytes: neither zero nor equal to the
 * neighbouring pages' or to another pattern's. */
static inline uint64_t fixture_word(uint64_t pattern, uint64_t index)
{
	uint64_t x = (pattern << 40) + index + 1u;

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (x ^ (x >> 31)) | 1u;
}

/* addr is page aligned and size whole words; a page's content depends on its distance from addr. */
void fixture_fill(void *addr, uint64_t size, uint64_t pattern);
/* Fails the test, naming the first wrong word. */
#define fixture_check(addr, size, pattern) fixture_check_(addr, size, pattern, __FILE__, __LINE__)
void fixture_check_(const void *addr, uint64_t size, uint64_t pattern, const char *file, int line);
#define fixture_check_zero(addr, size) fixture_check_zero_(addr, size, __FILE__, __LINE__)
void fixture_check_zero_(const void *addr, uint64_t size, const char *file, int line);

/* The same by a device's kernel, a page per index. Memory is acquired and released around it where the device
 * cannot fault. A device without kernels copies from or to memory that stays on the host. The first two return the error of acquire, launch or fence; the check adds what is wrong to
 * *ret_wrong (words), so it works for tests that expect failure. */
int fixture_try_fill_on(struct svm_fixture *f, struct svm_device *device, void *addr, uint64_t size,
			uint64_t pattern);
int fixture_try_check_on(struct svm_fixture *f, struct svm_device *device, const void *addr,
			 uint64_t size, uint64_t pattern, uint64_t *ret_wrong);
/* The same, failing the test. */
#define fixture_fill_on(f, device, addr, size, pattern) \
	assert_int_equal(fixture_try_fill_on(f, device, addr, size, pattern), 0)
#define fixture_check_on(f, device, addr, size, pattern)                                        \
	do {                                                                                    \
		uint64_t wrong_;                                                                \
		assert_int_equal(fixture_try_check_on(f, device, addr, size, pattern, &wrong_), \
				 0);                                                            \
		assert_int_equal(wrong_, 0);                                                    \
	} while (0)

/* Kernels for launches: run over n pages, index is the page. */
struct svm_fixture_kernel {
	uint64_t addr;
	uint64_t pattern;
	uint64_t *wrong; /* in scratch */
};
void fixture_kernel_fill(const void *args, uint64_t index, uint64_t count);
void fixture_kernel_check(const void *args, uint64_t index, uint64_t count);

/* ---- Children --------------------------------------------------------------------------------- */

/* Run body(arg) in a forked child that leaves with status 0 when body returns; a failed assertion in there aborts
 * it. Returns the wait status; text (may be NULL) gets what it wrote to stderr, as a string. */
int fixture_in_child(void (*body)(void *arg), void *arg, char *text, size_t text_size);

/* ---- Running ---------------------------------------------------------------------------------- */

enum svm_fixture_over {
	FIXTURE_ONCE = 0,
	FIXTURE_DEVICES = 1,  /* once per entry of fixture_devices */
	FIXTURE_VARIANTS = 2, /* once per entry of fixture_variants */
	FIXTURE_BOTH =
		3, /* once per device in the default space, and once per variant on the first device */
	/* With any of these. */
	FIXTURE_SOFT = 4, /* needs soft devices */
	FIXTURE_EXACT =
		8, /* counts what kernels move: where engines do their work, staging memory counts, too */
	FIXTURE_ROOM =
		16, /* fills the device's memory: where staging memory needs some of it, it does not work */
};

struct svm_fixture_case {
	const char *name;
	void (*body)(struct svm_fixture *f);
	unsigned int over; /* FIXTURE_* */
};
#define FIXTURE_CASE(body, over)  \
	{                         \
#body, body, over \
	}

int fixture_main(int argc, char **argv, const struct svm_fixture_case *cases, unsigned int n_cases);

/* Run body once per device name, within one test. */
#define fixture_for_each_device(name)                                             \
	for (unsigned int i_##name = 0; i_##name < fixture_n_devices; i_##name++) \
		for (const char *name = fixture_devices[i_##name]; name; name = NULL)

#endif
