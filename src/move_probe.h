/* SPDX-License-Identifier: MIT */
/* Does UFFDIO_MOVE of this kernel end? */
#ifndef SVM_MOVE_PROBE_H
#define SVM_MOVE_PROBE_H

/*
 * 1: moving a piece of a huge page that somebody holds a reference to (DMA, a pipe) spins in the kernel until the
 * process is killed, where it should answer EBUSY. 0: it ends, or this kernel makes no huge pages. -EAGAIN: it could not
 * be tried now, for want of memory, of a process or of file descriptors; so it is not to be used.
 * Tries until it has an answer, once per process, in a process of its own, which takes a millisecond, or 100 where it
 * spins. Any thread.
 */
int svm_move_probe(void);

#endif
