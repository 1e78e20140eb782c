/* SPDX-License-Identifier: MIT */
/* Which header of a tree includes which: the raw material, in ordinary memory. */
#ifndef PAGERANK_SCAN_H
#define PAGERANK_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "util.h"

struct scan {
	char **paths;	      /* n_files of them, relative to the root, in the order of strcmp() */
	uint32_t *first_edge; /* n_files + 1: file i includes edges[first_edge[i]] and on */
	uint32_t *edges;      /* n_edges file numbers; each target once per file, never itself */
	size_t n_files;
	size_t n_edges;
	size_t n_unresolved; /* includes that lead out of the tree */
	size_t n_unreadable; /* files and directories that could not be read */
};

/*
 * Read all *.h files below root and resolve what they include to other files of the tree: "x" beside
 * the file that includes it, then <x> and "x" from the root or the directory above it, then as the
 * shortest path that ends in /x (compilers have more than one root: /usr/include/x86_64-linux-gnu
 * for example).
 * Symbolic links to directories are not followed. progress is called for each file that was read.
 * Complains, and returns a negative errno, when there is nothing to rank.
 */
int scan_tree(const char *root, progress_fn *progress, void *progress_data, struct scan *ret_scan);

/* Forget what scan_tree() found. */
void scan_free(struct scan *scan);

#endif
