/* SPDX-License-Identifier: MIT */
/* Try what may never return from the kernel, in a process of its own. */
#ifndef SVM_TRIAL_H
#define SVM_TRIAL_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of stack that a trial needs. */
#define SVM_TRIAL_STACK ((size_t)64 << 10)

/*
 * Call fn(arg) in a process that shares all memory (not under ThreadSanitizer) and has copies of the files. Returns
 * what fn returned, 0 to 255; -ETIME if it took cpu_limit_us of CPU time, and was killed then, wherever it was;
 * -ECANCELED if another signal ended it; -EAGAIN if there is no thread or process for it. Time that passes while it
 * does not run does not count.
 *
 * stack is aligned to 16. fn must not touch what the C library keeps about threads and files. The calling thread
 * waits; others go on. No handler of the application's runs in the process, it gets no signal when that ends, and its
 * wait() does not see it. Any thread.
 */
int svm_trial_run(int (*fn)(void *arg), void *arg, void *stack, uint64_t cpu_limit_us);

#endif
