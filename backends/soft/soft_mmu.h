/* SPDX-License-Identifier: MIT */
/* The MMU of a soft device: what its process maps where. In that process only, and of its control thread alone. */
#ifndef SVM_SOFT_MMU_H
#define SVM_SOFT_MMU_H

#include "soft_wire.h"

/* mmap() with MAP_FIXED. */
int svm_soft_map_fixed(uint64_t addr, uint64_t size, int prot, int flags, int fd, uint64_t offset);
/* Before threads run: nothing is bound. */
int svm_soft_mmu_init(const struct svm_soft_proc_args *args);
/* -ENOTRECOVERABLE: something stayed reachable that must not be; the device has to end. */
int svm_soft_mmu_run(const struct svm_soft_bind_cmd *cmd);

#endif
