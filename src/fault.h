/* SPDX-License-Identifier: MIT */
/* Faults: from userfaultfd and from devices. Turns each into a request on its block, and answers when that is done. */
#ifndef SVM_FAULT_H
#define SVM_FAULT_H

#include "serve.h"
#include <linux/userfaultfd.h>

#define SVM_FAULT_BATCH 16u

/* Reads one userfaultfd in one loop. */
struct svm_fault_source {
	struct svm_reader reader;
	struct svm_ctx *ctx;
	struct svm_loop *loop;
	struct svm_list noted; /* svm_news: blocks to run */
	struct uffd_msg messages[SVM_FAULT_BATCH];
};

int svm_fault_start(struct svm_fault_source *source, struct svm_ctx *ctx, struct svm_loop *loop,
		    int fd);
/* Not from the loop. */
void svm_fault_stop(struct svm_fault_source *source);

/* What a device's fault_fd and loss lead to: svm_device.on_faults and on_lost. */
void svm_fault_read_device(struct svm_device *device);
void svm_fault_device_lost(struct svm_device *device);

#endif
