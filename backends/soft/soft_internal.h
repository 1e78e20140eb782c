/* SPDX-License-Identifier: MIT */
/*
 * The library's side of a soft device.
 *
 * Locks: all are private to the device, of rank BACKEND in the core's order, held for short stretches
 * without waiting except life_lock and span_op_lock, which only ops that may block hold over a wait.
 * Order where two are held: life_lock > copy.lock; span_op_lock > span_lock; span_op_lock > a line's lock.
 */
#ifndef SVM_SOFT_INTERNAL_H
#define SVM_SOFT_INTERNAL_H

#include "soft_wire.h"
#include <libsvm/backend.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#define SVM_SOFT_DEFAULT_MEMORY (UINT64_C(256) << 20)
#define SVM_SOFT_MAX_MEMORY	(UINT64_C(1) << 40)
#define SVM_SOFT_MAX_LATENCY	UINT64_C(10000000000)
/* What a process reaches, above what no mapping may use: 47 bits on every machine. */
#define SVM_SOFT_VA_START UINT64_C(0x10000)
#define SVM_SOFT_VA_END	  (UINT64_C(1) << 47)
#define SVM_SOFT_COPIES	  1024u /* entries of the copy ring, a power of two */

struct svm_soft_options {
	uint64_t memory;
	uint64_t bandwidth; /* bytes per second, 0: no limit */
	uint64_t latency_ns;
	uint32_t n_engines;
	bool faults;
	bool host;
	bool read_only;
	bool peer;
	bool visible;
	bool keep;
};

/* What follows "soft:" in a device name. -EINVAL: *ret_why says what is wrong (static text) and
 * *ret_where points to the offending part of the string. */
int svm_soft_options_parse(const char *string, struct svm_soft_options *ret_options,
			   const char **ret_why, const char **ret_where);
uint32_t svm_soft_options_caps(const struct svm_soft_options *options);

/* One timeline as its submitters and completed() see it. */
struct svm_soft_timeline {
	pthread_mutex_t lock;
	uint64_t submitted; /* lock */
	uint64_t reported;  /* lock: completed() has told all up to here */
	uint32_t n_entries;
	_Atomic uint64_t *done;	 /* advanced by who carries the work out */
	_Atomic int32_t *status; /* one per entry, valid up to done */
};

struct svm_soft_copy_cmd {
	struct svm_copy copy;
	bool is_last; /* the caller's point: gets the status of its whole batch */
};

/* The copy engine: a thread of the library. */
struct svm_soft_copier {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work;  /* an entry, stop, or the device died */
	pthread_cond_t still; /* n_running fell to 0 */
	bool has_thread;
	bool stop;	    /* lock */
	bool dead;	    /* lock: the process is gone, start no more */
	uint32_t n_running; /* lock: copies that run now, here or in a caller */
	uint64_t head;	    /* the thread's own: next entry */
	uint64_t free_ns; /* the thread's own: when the modelled engine is done with what it did */
	_Atomic uint64_t done;
	_Atomic int32_t status[SVM_SOFT_COPIES];
	struct svm_soft_copy_cmd ring[SVM_SOFT_COPIES];
};

struct svm_soft_span {
	uint64_t start;
	uint64_t end;
};

struct svm_soft_device {
	uint64_t magic; /* of an open device: tells a peer from a foreign pointer */
	struct svm_soft_options options;
	uint32_t caps;
	uint64_t window_base;
	uint64_t window_size;
	void (*log)(void *log_data, int level, const char *line);
	void *log_data;

	struct svm_soft_ctl *ctl;
	uint8_t *memory;    /* all of the device's memory, 2 MiB aligned */
	uint64_t own_base;  /* addresses kept free for the process */
	uint64_t home_base; /* and for its page tables */

	pid_t pid;
	int pid_fd;
	int epoll_fd; /* holds event_fd and pid_fd */
	int event_fd;
	int fault_fd;
	int sync_fd;
	int life_fd; /* write end: closed with us */

	pthread_mutex_t life_lock; /* reaping */
	_Atomic bool is_dead;	   /* the process is reaped */
	_Atomic bool is_killed;	   /* by kill(): nobody waits for how work failed */

	struct svm_soft_timeline timelines[SVM_TIMELINES];
	struct svm_soft_copier copier;

	pthread_mutex_t memory_lock;
	uint64_t n_chunks;
	uint64_t n_fresh;      /* memory_lock: chunks from here on were never used */
	uint64_t n_free;       /* memory_lock: entries of free_chunks */
	uint32_t *free_chunks; /* used before: warm pages, last in first out */
	_Atomic uint8_t *chunk_used;

	pthread_mutex_t span_op_lock; /* one span op at a time, over its wait */
	pthread_mutex_t span_lock;    /* the table */
	struct svm_soft_span *spans;  /* sorted, neither overlapping nor touching */
	size_t n_spans;
	size_t max_spans;
};

/* soft.c */
extern const struct svm_backend_ops svm_backend_soft;
/* LOCKING: timeline's lock held. 0 if n entries fit besides n_spare, or -EAGAIN. */
int svm_soft_timeline_reserve(struct svm_soft_timeline *timeline, uint32_t n, uint32_t n_spare);
/* Wake the consumer of a ring of the process, after `submitted` was advanced. */
void svm_soft_line_kick(struct svm_soft_line *line);
/* Make event_fd readable, unless it is or soon will be. Any thread of the library. */
void svm_soft_signal(struct svm_soft_device *dev);

/* soft_life.c */
int svm_soft_open(const struct svm_backend_open *args, void **ret_dev);
void svm_soft_close(void *device);
void svm_soft_kill_device(void *device);
void svm_soft_event_ack(void *device);
/* The process is gone and the copy engine still: what was not reached never will be. */
bool svm_soft_stopped(struct svm_soft_device *dev);
/* Wait (may block) for the answer to a SYNC command, or for the end of the process. */
int svm_soft_sync_wait(struct svm_soft_device *dev);

/* soft_birth.c */
/* (may block) Fork the process; args->threads is filled in. *ret_pid is the child, to be ended by the
 * caller, or -1, also where an error is returned. */
int svm_soft_fork(struct svm_soft_proc_args *args, pid_t *ret_pid);

/* soft_mem.c */
int svm_soft_mem_init(struct svm_soft_device *dev);
void svm_soft_mem_finish(struct svm_soft_device *dev);
int svm_soft_chunk_alloc(void *device, uint64_t *ret_chunk);
void svm_soft_chunk_free(void *device, uint64_t chunk);
int svm_soft_chunk_map(void *device, uint64_t chunk, void **ret_addr);
bool svm_soft_chunk_valid(const struct svm_soft_device *dev, uint64_t chunk);
uint64_t svm_soft_chunk_offset(uint64_t chunk);
int svm_soft_span_add(void *device, uint64_t addr, uint64_t size);
int svm_soft_span_remove(void *device, uint64_t addr, uint64_t size);
/* [addr, addr + size) is within the window or within spans. */
bool svm_soft_covers(struct svm_soft_device *dev, uint64_t addr, uint64_t size);

/* soft_copy.c */
int svm_soft_copier_init(struct svm_soft_device *dev);
int svm_soft_copier_start(struct svm_soft_device *dev);
/* The process is gone: finish the copy that runs, start no more. Does not wait. */
void svm_soft_copier_halt(struct svm_soft_device *dev);
/* After halt (may block): nothing runs when it returns. */
void svm_soft_copier_drain(struct svm_soft_device *dev);
void svm_soft_copier_finish(struct svm_soft_device *dev);
int svm_soft_copy(void *device, const struct svm_copy *copies, size_t n_copies, uint32_t flags,
		  struct svm_point *ret_point);

#endif
