/* SPDX-License-Identifier: MIT */
/* What is mapped in this process: /proc/self/maps, line by line. No allocation, no lock. */
#ifndef SVM_MAPS_H
#define SVM_MAPS_H

#include <stdbool.h>
#include <stdint.h>

struct svm_maps_line {
	uint64_t start;
	uint64_t end;
	uint64_t inode;
	const char *perms; /* "rw-p" and more */
	const char *name;  /* its beginning; "" for none */
};

/* Call fn for each mapping, by address, until it returns false. The errors of open() and read(), or 0. */
int svm_maps_read(bool (*fn)(void *data, const struct svm_maps_line *line), void *data);

#endif
