/* SPDX-License-Identifier: MIT */
/* Values that several headers share: locations, outcomes, opaque handles. */
#ifndef LIBSVM_TYPES_H
#define LIBSVM_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One shared address space (space.h). */
struct svm_space;
/* An attached agent other than the CPU (device.h). */
struct svm_device;
/* Something that signals once (fence.h). */
struct svm_fence;

/* Unit of placement state: the host page. */
#define SVM_PAGE_SIZE 4096u
/* Unit of transition and of device storage. */
#define SVM_BLOCK_SIZE (2u << 20)
/* Devices that one space may have open at the same time. */
#define SVM_MAX_DEVICES 15u

/* Where bytes are stored. */
enum svm_location_kind {
	SVM_LOCATION_NONE = 0,	    /* no preference; id is 0 */
	SVM_LOCATION_HOST = 1,	    /* host memory, any NUMA node; id is 0 */
	SVM_LOCATION_HOST_NUMA = 2, /* host memory of NUMA node id */
	SVM_LOCATION_HOST_NUMA_CURRENT =
		3,		 /* the node of the calling thread, resolved in the call; id is 0 */
	SVM_LOCATION_DEVICE = 4, /* memory of the device whose svm_device_id() is id */
};

struct svm_location {
	uint32_t kind; /* enum svm_location_kind */
	uint32_t id;
};

/* What became of a request that the library may obey fully, in part, or not at all. */
enum svm_outcome_status {
	SVM_EFFECTIVE = 0, /* as asked, on every device of the space */
	SVM_DEGRADED = 1,  /* stored, with a weaker effect: see the reason */
	SVM_REFUSED = 2,   /* not stored: see the reason */
};

enum svm_outcome_reason {
	SVM_REASON_NONE = 0,
	SVM_REASON_NO_READ_ONLY_MAPS =
		1, /* a device, or the CPU (shared memory before Linux 6.4), can neither trap nor be write-protected */
	SVM_REASON_NOT_REACHABLE = 2,	  /* a device cannot reach host memory in place */
	SVM_REASON_NO_DEVICE_ATOMICS = 3, /* a device has no atomics on that memory */
	SVM_REASON_NO_SUCH_DEVICE = 4,	  /* not open in this space */
	SVM_REASON_NO_SUCH_NODE = 5,	  /* no such NUMA node, or no memory on it */
	SVM_REASON_OVERRIDDEN =
		6, /* another hint on the span goes first (contract: pinned, read mostly, preferred) */
	SVM_REASON_REGISTERED =
		7, /* memory the application brought cannot change to shared storage */
	SVM_REASON_NO_ENGINE = 8,    /* the device has no engine to do it with */
	SVM_REASON_PINNED = 9,	     /* pages are pinned or held elsewhere */
	SVM_REASON_NO_MEMORY = 10,   /* the target memory is full */
	SVM_REASON_SINGLE_NODE = 11, /* the kernel cannot place memory by node here */
	SVM_REASON_DRIVER =
		12, /* system memory: the device's driver has nothing like it, or refused it */
};

struct svm_outcome {
	uint32_t status; /* enum svm_outcome_status */
	uint32_t reason; /* enum svm_outcome_reason */
};

/* How an agent is about to use memory. */
enum svm_access_mode {
	SVM_ACCESS_READ = 1,
	SVM_ACCESS_WRITE = 2, /* reads too: what is not written keeps its bytes */
};

#ifdef __cplusplus
}
#endif

#endif
