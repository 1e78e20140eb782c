/* SPDX-License-Identifier: MIT */
/*
 * The soft device: a GPU made of a process. Its page table is its own MMU context, its memory a set
 * size, its kernels native C functions that its engines (threads) run over a grid.
 *
 * Name for svm_device_open(): "soft" with any of these keys, for example "soft:memory=64M:faults=off"
 *   memory=SIZE     bytes of device memory, multiple of 2 MiB (K, M, G suffixes); default 256M
 *   faults=on|off   recoverable faults; off: touching what is not bound loses the device; default on
 *   host=alias|none whether it maps shared host memory in place; default alias
 *   readonly=on|off whether mappings can be read-only; default on
 *   peer=on|off     copies directly between soft devices; default on
 *   visible=on|off  whether the library may copy by CPU through its memory; default on
 *   engines=N       threads that run kernels, 1 to 16; default 1
 *   bandwidth=SIZE  bytes per second of its copy engine; default 0: as fast as it goes
 *   latency=NS      nanoseconds that each copy takes at least; default 0
 *   keep=on|off     whether memory survives loss of the process; default off
 *
 * A kernel runs in the device's process, a copy of the caller made when the device was opened: it may
 * use its arguments, managed memory, and code and constants of the program; it must not allocate,
 * lock, or use stdio.
 */
#ifndef LIBSVM_SOFT_H
#define LIBSVM_SOFT_H

#include <libsvm/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* Largest argument block of a kernel, in bytes. */
#define SVM_SOFT_ARGS_SIZE 256u

/*
 * Run kernel(args, i, n) for each i in [0, n), spread over the device's engines in runs of
 * consecutive i, once wait (may be NULL) has signalled. args_size bytes of args are copied by the
 * call. kernel must be code that was loaded when the device was opened. Without recoverable
 * faults the memory it touches must be acquired. *ret_done (may be NULL: then the call waits)
 * signals when all of the grid has run.
 *
 * Errors: -EINVAL (kernel NULL, n 0, args_size); -EOPNOTSUPP (not a soft device); -ENODEV (lost);
 * -ENOMEM; -ECHILD. The fence's status: 0, -ENODEV (lost while it ran), -EIO, -ENOSPC, -ENOMEM or -EACCES
 * (a fault that could not be served; the device is lost then).
 */
int svm_soft_launch(struct svm_device *device,
		    void (*kernel)(const void *args, uint64_t index, uint64_t count),
		    const void *args, size_t args_size, uint64_t n, struct svm_fence *wait,
		    struct svm_fence **ret_done);

/* Kill the device's process, as a reset or unplug would. The device is lost. Errors: -EOPNOTSUPP (not
 * a soft device), -ECHILD. */
int svm_soft_kill(struct svm_device *device);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
