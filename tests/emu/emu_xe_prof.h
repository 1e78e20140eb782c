/* SPDX-License-Identifier: MIT */
/*
 * What differs between the platforms that the xe driver drives.
 */
#ifndef EMU_XE_PROF_H
#define EMU_XE_PROF_H

#include <stdbool.h>
#include <stdint.h>

struct emu_xe_profile {
	const char *name;
	unsigned ip; /* graphics version, major * 100 + minor */
	unsigned va_bits;
	unsigned n_tiles;
	unsigned n_pat;
	uint32_t pat_coherent, pat_2way, pat_compressed, pat_reserved; /* bit per index */
	unsigned n_copy;					       /* copy engines listed */
	unsigned first_service; /* copy engines from here on know no XY commands */
	unsigned color_dwords;	/* XY_FAST_COLOR_BLT */
	uint16_t devid;
	uint8_t rev;
	bool gmdid; /* tells its version in GT_LIST */
	bool dgfx;
	bool vram_64k;
	bool usm;	     /* recoverable faults */
	bool scratch_faults; /* SCRATCH_PAGE with FAULT_MODE */
	bool flat_ccs;
	bool smem_atomics;
	bool xy_blt, mem_copy;
};

const struct emu_xe_profile *emu_xe_profile(const char *name);

#endif
