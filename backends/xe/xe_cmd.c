// SPDX-License-Identifier: MIT
/*
 * Commands of the copy engine. Encodings from Linux 7.3: drivers/gpu/drm/xe/xe_migrate.c,
 * instructions/xe_gpu_commands.h and instructions/xe_mi_commands.h.
 */
#include "xe_internal.h"
#include <string.h>

#define MI_BATCH_BUFFER_END  0x05000000u
#define MI_STORE_DATA_DWORD  0x10000002u
#define MI_FLUSH_STORE_QWORD 0x13004003u
#define MI_COPY_MEM_MEM	     0x17000003u
#define MEM_COPY	     0x56800008u
#define MEM_COPY_PAGES	     (1u << 19)
#define MEM_COPY_MATRIX	     (1u << 17)
#define MEM_SET		     0x56c00005u
#define MEM_SET_MATRIX	     (1u << 17)
#define XY_FAST_COPY	     0x50800008u
#define XY_FAST_COPY_32BPP   (3u << 24)
#define XY_FAST_COPY_TILES   (3u << 30)
#define XY_FAST_COLOR	     0x51100000u /* 32 bits per pixel */
#define XY_COLOR_SYSTEM	     (1u << 31)

/* What the kernel moves by one command: about a millisecond, after which others get their turn. */
#define COMMAND_BYTES (UINT64_C(8) << 20)
#define ROW	      UINT64_C(4096)
#define LINEAR_MAX    (UINT64_C(1) << 18) /* width field of MEM_COPY and MEM_SET */
#define PAGE_UNIT     UINT64_C(256)
#define XY_ALIGN      UINT64_C(64)

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint32_t low(uint64_t addr)
{
	return (uint32_t)addr;
}

static uint32_t high(uint64_t addr)
{
	return (uint32_t)(addr >> 32);
}

bool svm_xe_cmd_fits(const struct svm_xe_blitter *b, uint64_t dst, uint64_t src, uint64_t size)
{
	return b->copy != SVM_XE_COPY_FAST || (dst | src | size) % 4 == 0;
}

/* ---- MEM_COPY and MEM_SET: any bytes ---------------------------------------------------------- */

static uint32_t mem_copy(const struct svm_xe_blitter *b, uint32_t *dw, uint64_t dst, uint64_t src,
			 uint64_t size, uint64_t *ret_done)
{
	bool pages = b->copy == SVM_XE_COPY_PAGES && (dst | src) % PAGE_UNIT == 0;

	memset(dw, 0, 10 * sizeof(*dw));
	dw[0] = MEM_COPY;
	if (pages && size >= PAGE_UNIT) {
		*ret_done = min_u64(size & ~(PAGE_UNIT - 1), COMMAND_BYTES);
		dw[0] |= MEM_COPY_PAGES;
		dw[1] = (uint32_t)(*ret_done / PAGE_UNIT - 1);
	} else if (b->copy == SVM_XE_COPY_MATRIX && size >= ROW) {
		*ret_done = min_u64(size & ~(ROW - 1), COMMAND_BYTES);
		dw[0] |= MEM_COPY_MATRIX;
		dw[1] = (uint32_t)(ROW - 1);
		dw[2] = (uint32_t)(*ret_done / ROW - 1);
		dw[3] = (uint32_t)(ROW - 1);
		dw[4] = (uint32_t)(ROW - 1);
	} else {
		*ret_done = min_u64(size, LINEAR_MAX);
		/* Up to where whole units can begin, if that is the same distance for both. */
		if (b->copy == SVM_XE_COPY_PAGES && dst % PAGE_UNIT == src % PAGE_UNIT && !pages)
			*ret_done = min_u64(*ret_done, PAGE_UNIT - dst % PAGE_UNIT);
		dw[1] = (uint32_t)(*ret_done - 1);
	}
	dw[5] = low(src);
	dw[6] = high(src);
	dw[7] = low(dst);
	dw[8] = high(dst);
	dw[9] = b->copy_mocs;
	return 10;
}

static uint32_t mem_set(const struct svm_xe_blitter *b, uint32_t *dw, uint64_t dst, uint64_t size,
			uint8_t value, uint64_t *ret_done)
{
	memset(dw, 0, 7 * sizeof(*dw));
	dw[0] = MEM_SET;
	if (size >= ROW) {
		*ret_done = min_u64(size & ~(ROW - 1), COMMAND_BYTES);
		dw[0] |= MEM_SET_MATRIX;
		dw[1] = (uint32_t)(ROW - 1);
		dw[2] = (uint32_t)(*ret_done / ROW - 1);
		dw[3] = (uint32_t)(ROW - 1);
	} else {
		*ret_done = size;
		dw[1] = (uint32_t)(size - 1);
	}
	dw[4] = low(dst);
	dw[5] = high(dst);
	dw[6] = (uint32_t)value << 24 | b->fill_mocs;
	return 7;
}

/* ---- XY commands: rectangles of dwords, 64-byte aligned --------------------------------------- */

/* Size is whole dwords: how many go into one rectangle, and its rows and width in dwords. */
static uint64_t rectangle(uint64_t size, uint32_t *ret_corner)
{
	uint64_t rows = min_u64(size / ROW, COMMAND_BYTES / ROW);

	if (rows == 0) {
		*ret_corner = 1u << 16 | (uint32_t)(size / 4);
		return size;
	}
	*ret_corner = (uint32_t)rows << 16 | (uint32_t)(ROW / 4);
	return rows * ROW;
}

static uint32_t copy_dword(uint32_t *dw, uint64_t dst, uint64_t src, uint64_t *ret_done)
{
	dw[0] = MI_COPY_MEM_MEM;
	dw[1] = low(dst);
	dw[2] = high(dst);
	dw[3] = low(src);
	dw[4] = high(src);
	*ret_done = 4;
	return 5;
}

static uint32_t fast_copy(const struct svm_xe_blitter *b, uint32_t *dw, uint64_t dst, uint64_t src,
			  uint64_t size, uint64_t *ret_done)
{
	if ((dst | src) % XY_ALIGN)
		return copy_dword(dw, dst, src, ret_done);
	memset(dw, 0, 10 * sizeof(*dw));
	dw[0] = XY_FAST_COPY;
	dw[1] = (uint32_t)ROW | XY_FAST_COPY_32BPP | (b->tile_bits ? XY_FAST_COPY_TILES : 0);
	*ret_done = rectangle(size, &dw[3]);
	dw[4] = low(dst);
	dw[5] = high(dst);
	dw[7] = (uint32_t)ROW;
	dw[8] = low(src);
	dw[9] = high(src);
	return 10;
}

static uint32_t fast_color(const struct svm_xe_blitter *b, uint32_t *dw, uint64_t dst,
			   uint64_t size, uint8_t value, bool system, uint64_t *ret_done)
{
	uint32_t pattern = value * 0x01010101u;

	if (dst % XY_ALIGN) {
		dw[0] = MI_STORE_DATA_DWORD;
		dw[1] = low(dst);
		dw[2] = high(dst);
		dw[3] = pattern;
		*ret_done = 4;
		return 4;
	}
	memset(dw, 0, b->color_dwords * sizeof(*dw));
	dw[0] = XY_FAST_COLOR | (b->color_dwords - 2);
	dw[1] = (uint32_t)(ROW - 1) | b->fill_mocs;
	*ret_done = rectangle(size, &dw[3]);
	dw[4] = low(dst);
	dw[5] = high(dst);
	dw[6] = system ? XY_COLOR_SYSTEM : 0;
	dw[7] = pattern;
	return b->color_dwords;
}

/* ---- Choice ----------------------------------------------------------------------------------- */

uint32_t svm_xe_cmd_copy(const struct svm_xe_blitter *b, uint32_t *dw, uint64_t dst, uint64_t src,
			 uint64_t size, uint64_t *ret_done)
{
	if (b->copy == SVM_XE_COPY_FAST)
		return fast_copy(b, dw, dst, src, size, ret_done);
	return mem_copy(b, dw, dst, src, size, ret_done);
}

uint32_t svm_xe_cmd_fill(const struct svm_xe_blitter *b, uint32_t *dw, uint64_t dst, uint64_t size,
			 uint8_t value, bool system, uint64_t *ret_done)
{
	if (b->color_dwords)
		return fast_color(b, dw, dst, size, value, system, ret_done);
	return mem_set(b, dw, dst, size, value, ret_done);
}

uint32_t svm_xe_cmd_end(uint32_t *dw, uint64_t addr, uint64_t value)
{
	dw[0] = MI_FLUSH_STORE_QWORD;
	dw[1] = low(addr);
	dw[2] = high(addr);
	dw[3] = low(value);
	dw[4] = high(value);
	dw[5] = MI_BATCH_BUFFER_END;
	return 6;
}
