/* SPDX-License-Identifier: MIT */
/*
 * svm-bench: what shared memory costs, beside what the same would cost without the library. Public
 * headers only; every baseline is code in this directory, measured in the same run.
 *
 * A topic is one file with one function. It measures in rounds, baseline and own in turns, and hands the
 * medians over as figures.
 */
#ifndef SVM_BENCH_H
#define SVM_BENCH_H

#include <libsvm/libsvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KIB   (UINT64_C(1) << 10)
#define MIB   (UINT64_C(1) << 20)
#define GIB   (UINT64_C(1) << 30)
#define PAGE  ((uint64_t)SVM_PAGE_SIZE)
#define BLOCK ((uint64_t)SVM_BLOCK_SIZE)

#define BENCH_MAX_ROUNDS 15u

/* ---- Harness (bench.c) ---- */

struct bench {
	unsigned int rounds; /* how often each thing is measured: odd, for the median */
	unsigned int shrink; /* sizes and counts are divided by this: 1, or more for a quick run */
};

/* What a figure is held to. The limit is on the ratio (value / baseline) or on the value. */
enum bench_rule {
	BENCH_RATIO_MAX,
	BENCH_RATIO_MIN,
	BENCH_VALUE_MAX,
	BENCH_VALUE_MIN,
	BENCH_INFO, /* to nothing */
};

/* One number per round. */
struct bench_series {
	double v[BENCH_MAX_ROUNDS];
	unsigned int n;
};

void bench_add(struct bench_series *series, double value);
double bench_median(const struct bench_series *series);

/* Report a figure. baseline NAN: it has none. name is copied. */
void bench_figure(const char *name, const char *unit, double value, double baseline,
		  enum bench_rule rule, double limit);
/* The medians of two series. */
void bench_compare(const char *name, const char *unit, const struct bench_series *own,
		   const struct bench_series *baseline, enum bench_rule rule, double limit);
/* A line about what could not be measured here, and why: nothing is silently left out. */
void bench_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* End the program with one line: without its set-up there is nothing to measure. error is an errno. */
void bench_fail(int error, const char *what) __attribute__((noreturn));
/* The same if ret is negative, as the library returns it. */
void bench_check(int64_t ret, const char *what);
/* The same for calls that set errno. */
void bench_check_errno(int64_t ret, const char *what);

uint64_t bench_now(void); /* CLOCK_MONOTONIC, ns */
/* p in percent; sorts the samples. */
double bench_percentile(uint32_t *samples, size_t n, double p);
/* A sequence of pseudo-random numbers; state is not 0. */
uint64_t bench_random(uint64_t *state);
/* The first and the second CPU that this process may run on. Returns how many there are. */
unsigned int bench_cpus(int cpus[2]);
/* Bind the calling thread; -1: to any of the process's CPUs again. */
void bench_bind(int cpu);

/* ---- Memory without the library (memory.c) ---- */

/* Anonymous memory, 2 MiB aligned; huge pages asked for, or refused. */
char *bench_map(uint64_t size, bool huge);
/* The pages of a memfd, 2 MiB aligned. */
char *bench_map_memfd(uint64_t size, int *ret_fd);
char *bench_map_fd(int fd, uint64_t size);
void bench_unmap(char *map, uint64_t size);
/* Write every page once. */
void bench_touch(char *map, uint64_t size);
/* Read one word of every page, in order; returns their sum. */
uint64_t bench_read_pages(const char *map, uint64_t size);
/* Bytes of [map, map + size) in huge pages, by /proc/self/smaps. */
uint64_t bench_huge_bytes(const void *map, uint64_t size);
/* A value in kB of /proc/self/status. */
uint64_t bench_status_kb(const char *key);

/* ---- Faults without the library (raw.c) ---- */

enum bench_storage {
	BENCH_PRIVATE, /* pages move from a stash (UFFDIO_MOVE; UFFDIO_COPY where the kernel has none) */
	BENCH_SHARED, /* pages of a memfd are mapped (UFFDIO_CONTINUE) */
};

/* A thread that serves faults one page at a time and does nothing else. */
struct bench_raw;

/* cpu -1: not bound. spin_us: read again and again for so long after a fault before the next poll(). The
 * pages hold bytes, and none is mapped at the address that bench_raw_memory() tells. */
struct bench_raw *bench_raw_start(enum bench_storage storage, uint64_t size, int cpu,
				  uint32_t spin_us);
char *bench_raw_memory(const struct bench_raw *raw);
void bench_raw_stop(struct bench_raw *raw);

/* ---- Set-ups with the library (own.c) ---- */

struct svm_space *bench_space(const struct svm_space_options *options);
/* A soft device with room for size bytes. */
struct svm_device *bench_device(struct svm_space *space, uint64_t size, const char *more_options);
char *bench_alloc(struct svm_space *space, enum bench_storage storage, uint64_t size);
void bench_prefetch(struct svm_space *space, char *map, uint64_t size, struct svm_location to);
/* Memory whose bytes are on the host while no page is mapped for the CPU; faults bring one page. */
char *bench_alloc_unmapped(struct svm_space *space, enum bench_storage storage, uint64_t size);
const char *bench_storage_name(enum bench_storage storage);

/* ---- Topics ---- */

void bench_fault(const struct bench *bench);
void bench_readback(const struct bench *bench);
void bench_first_touch(const struct bench *bench);
void bench_resident(const struct bench *bench);
void bench_prefetches(const struct bench *bench);
void bench_queries(const struct bench *bench);
void bench_threads(const struct bench *bench);
void bench_metadata(const struct bench *bench);
void bench_job(const struct bench *bench);
void bench_syscalls(const struct bench *bench);
void bench_idle(const struct bench *bench);

#endif
