/* SPDX-License-Identifier: MIT */
/*
 * What a test may ask of the emulator it runs under. The functions are in the preloaded library:
 * declare them weak (as here) or look them up with dlsym(); they are NULL without the emulator.
 */
#ifndef EMU_CTL_H
#define EMU_CTL_H

#include <stdbool.h>
#include <stdint.h>

#ifndef EMU_CTL
#define EMU_CTL __attribute__((weak))
#endif

/* The nth ioctl from now (1: the next; 0: none) of number nr (0: any) fails with err, once. */
EMU_CTL void emu_ctl_fail(int device, uint64_t nth, int err, unsigned nr);
EMU_CTL void emu_ctl_wedge(int device, bool on);
EMU_CTL void emu_ctl_unplug(int device, bool on);
/* Ioctls seen so far, all (nr -1) or of one number. */
EMU_CTL uint64_t emu_ctl_ioctls(int device, int nr);
/* The most jobs of one engine queue that were unfinished at a time. */
EMU_CTL uint64_t emu_ctl_most_jobs(int device);
EMU_CTL uint64_t emu_ctl_strict_count(void);
/* The calling thread is in an ioctl or a close that the emulator does: what it does there is the kernel's doing. */
EMU_CTL bool emu_ctl_at_work(void);
/* What the MMU notifier says when pages go in a way that the emulator cannot see. */
EMU_CTL void emu_invalidate(uint64_t start, uint64_t size);

#endif
