// SPDX-License-Identifier: MIT
/* DEVICE_QUERY (xe_query.c of the driver). */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "emu_alloc.h"
#include "emu_mem.h"
#include "emu_sys.h"
#include "emu_xe.h"

/* Engines that a program may use; those the kernel keeps are not listed. */
uint32_t emu_xe_listed_engines(struct emu_xe_device *x, struct emu_xe_engine *out)
{
	uint32_t n = 0;

	for (unsigned t = 0; t < x->n_tiles; t++) {
		/* Some parts compute only. */
		if (x->prof->first_service && x->prof->ip != 1260)
			out[n++].instance =
				(struct emu_xe_engine_class_instance){ EMU_XE_RENDER, 0, t, 0 };
		for (uint16_t i = 0; i < x->prof->n_copy; i++)
			out[n++].instance =
				(struct emu_xe_engine_class_instance){ EMU_XE_COPY, i, t, 0 };
		for (uint16_t i = 0; i < 2; i++)
			out[n++].instance =
				(struct emu_xe_engine_class_instance){ EMU_XE_VIDEO_DECODE, i, t,
								       0 };
		out[n++].instance =
			(struct emu_xe_engine_class_instance){ EMU_XE_VIDEO_ENHANCE, 0, t, 0 };
		out[n++].instance =
			(struct emu_xe_engine_class_instance){ EMU_XE_COMPUTE, 0, t, 0 };
	}
	return n;
}

/* What each list begins with. */
struct count {
	uint32_t n, pad;
};

/* size 0 asks for the size, anything but that size is wrong. 1: the data is to be copied. */
static int two_calls(struct emu_xe_device_query *q, uint32_t size)
{
	if (!q->size) {
		q->size = size;
		return 0;
	}
	return q->size == size ? 1 : -EINVAL;
}

static int answer(struct emu_xe_device_query *q, const void *data, uint32_t size)
{
	int r = two_calls(q, size);

	if (r <= 0)
		return r;
	return size ? emu_user_write(q->data, data, size) : 0;
}

static int query_engines(struct emu_xe_device *x, struct emu_xe_device_query *q)
{
	struct {
		struct count head;
		struct emu_xe_engine e[EMU_XE_MAX_TILES * 16];
	} buf = { 0 };

	buf.head.n = emu_xe_listed_engines(x, buf.e);
	return answer(q, &buf, (uint32_t)(sizeof(buf.head) + buf.head.n * sizeof(buf.e[0])));
}

static int query_mem_regions(struct emu_xe_device *x, struct emu_xe_device_query *q)
{
	struct {
		struct count head;
		struct emu_xe_mem_region m[1 + EMU_XE_MAX_TILES];
	} buf = { 0 };
	int r;

	emu_lock();
	for (uint16_t i = 0; i <= x->n_tiles && x->region_mask & 1u << i; i++) {
		const struct emu_xe_region *rg = &x->region[i];
		struct emu_xe_mem_region *m = &buf.m[buf.head.n++];

		m->mem_class = i > 0;
		m->instance = i;
		m->min_page_size = i && x->prof->vram_64k ? 0x10000 : 0x1000;
		m->total_size = rg->size;
		m->used = rg->visible_used + rg->hidden_used;
		m->cpu_visible_size = i ? rg->visible_size : 0;
		m->cpu_visible_used = i ? rg->visible_used : 0;
	}
	emu_unlock();
	r = answer(q, &buf, (uint32_t)(sizeof(buf.head) + buf.head.n * sizeof(buf.m[0])));
	return r == -EFAULT ? -ENOSPC : r;
}

static int query_config(struct emu_xe_device *x, struct emu_xe_device_query *q)
{
	struct emu_xe_query_config c = { .num_params = 5 };

	c.info[0] = x->prof->devid | (uint64_t)x->prof->rev << 16;
	c.info[1] = EMU_XE_CONFIG_HAS_LOW_LATENCY;
	if (x->prof->dgfx)
		c.info[1] |= EMU_XE_CONFIG_HAS_VRAM;
	if (x->svm)
		c.info[1] |= EMU_XE_CONFIG_HAS_CPU_ADDR_MIRROR;
	if (x->prof->ip >= 2000 && x->dev->kernel >= EMU_KERNEL(7, 0))
		c.info[1] |= EMU_XE_CONFIG_HAS_NO_COMPRESSION;
	if (x->dev->kernel >= EMU_KERNEL(7, 0))
		c.info[1] |= EMU_XE_CONFIG_HAS_DISABLE_STATE_CACHE_PERF_FIX;
	if (x->dev->kernel >= EMU_KERNEL(7, 2))
		c.info[1] |= EMU_XE_CONFIG_HAS_PURGING;
	c.info[2] = x->prof->vram_64k ? 0x10000 : 0x1000;
	c.info[3] = x->prof->va_bits;
	c.info[4] = x->nice ? 2 : 1;
	return answer(q, &c, sizeof(c));
}

static int query_gt_list(struct emu_xe_device *x, struct emu_xe_device_query *q)
{
	struct {
		struct count head;
		struct emu_xe_gt gt[EMU_XE_MAX_TILES];
	} buf = { 0 };

	buf.head.n = x->n_tiles;
	for (unsigned t = 0; t < x->n_tiles; t++) {
		struct emu_xe_gt *g = &buf.gt[t];
		uint64_t near = x->prof->dgfx ? 1ull << (t + 1) : 1;

		g->tile_id = (uint16_t)t;
		g->gt_id = (uint16_t)t;
		g->reference_clock = 19200000;
		g->near_mem_regions = near;
		g->far_mem_regions = x->region_mask & ~near;
		if (x->prof->gmdid) {
			g->ip_ver_major = (uint16_t)(x->prof->ip / 100);
			g->ip_ver_minor = (uint16_t)(x->prof->ip % 100);
		}
	}
	return answer(q, &buf, (uint32_t)(sizeof(buf.head) + x->n_tiles * sizeof(buf.gt[0])));
}

/* Key, length, value: a few entries of the table that the firmware holds. */
static int query_hwconfig(struct emu_xe_device_query *q)
{
	static const uint32_t table[] = { 1, 1, 1, 2, 1, 4, 3, 1, 8, 64, 1, 1 };

	return answer(q, table, sizeof(table));
}

static int query_topology(struct emu_xe_device *x, struct emu_xe_device_query *q)
{
	struct one {
		struct emu_xe_query_topology_mask head;
		uint8_t mask[8];
	} buf[EMU_XE_MAX_TILES * 4] = { 0 };
	/* DSS for geometry and compute, L3 banks, EUs: those of 16 lanes from graphics 20 on. */
	uint16_t types[] = { 1, 2, 3, x->prof->ip >= 2000 ? 5 : 4 };
	uint32_t n = 0;

	for (unsigned t = 0; t < x->n_tiles; t++) {
		for (size_t i = 0; i < EMU_ARRAY_SIZE(types); i++) {
			buf[n].head.gt_id = (uint16_t)t;
			buf[n].head.type = types[i];
			buf[n].head.num_bytes = sizeof(buf[n].mask);
			buf[n].mask[0] = 0xff;
			n++;
		}
	}
	return answer(q, buf, (uint32_t)(n * sizeof(buf[0])));
}

static bool clock_known(int32_t id)
{
	return id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_RAW || id == CLOCK_REALTIME ||
	       id == CLOCK_BOOTTIME || id == CLOCK_TAI;
}

static int query_cycles(struct emu_xe_device *x, struct emu_xe_device_query *q)
{
	struct emu_xe_query_engine_cycles c;
	struct emu_xe_engine e[EMU_XE_MAX_TILES * 16];
	uint32_t n = emu_xe_listed_engines(x, e);
	struct timespec ts;
	bool found = false;
	int r = two_calls(q, sizeof(c));

	if (r <= 0)
		return r;
	if (emu_user_read(&c, q->data, sizeof(c)) < 0)
		return -EFAULT;
	if (!clock_known(c.clockid))
		return -EINVAL;
	for (uint32_t i = 0; i < n; i++)
		found |= !memcmp(&e[i].instance, &c.eci, sizeof(c.eci));
	if (!found)
		return -EINVAL;
	if (clock_gettime(c.clockid, &ts) < 0)
		return -EINVAL;
	c.width = 36;
	c.cpu_timestamp = (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
	c.engine_cycles = (emu_now_ns() * 12 / 625) & ((1ull << 36) - 1);
	c.cpu_delta = 100;
	return emu_user_write(q->data, &c, sizeof(c));
}

static int query_uc(struct emu_xe_device_query *q)
{
	struct emu_xe_query_uc_fw_version v;
	int r = two_calls(q, sizeof(v));

	if (r <= 0)
		return r;
	if (emu_user_read(&v, q->data, sizeof(v)) < 0)
		return -EFAULT;
	if (v.pad || v.pad2 || v.reserved)
		return -EINVAL;
	if (v.uc_type == 1)
		return -ENODEV; /* no video firmware runs */
	if (v.uc_type)
		return -EINVAL;
	v.branch_ver = 0;
	v.major_ver = 1;
	v.minor_ver = 20;
	v.patch_ver = 0;
	return emu_user_write(q->data, &v, sizeof(v));
}

static int query_oa(struct emu_xe_device_query *q)
{
	uint32_t none[2] = { 0 };

	return answer(q, none, sizeof(none));
}

/* No profile has protected content; the size is told all the same. */
static int query_pxp(struct emu_xe_device_query *q)
{
	int r = two_calls(q, 2 * sizeof(uint32_t));

	return r <= 0 ? r : -ENODEV;
}

int emu_xe_query_ioctl(struct emu_file *file, void *arg)
{
	struct emu_xe_device *x = emu_xe_dev(file->dev);
	struct emu_xe_device_query *q = arg;

	if (q->extensions || q->reserved[0] || q->reserved[1])
		return -EINVAL;
	switch (q->query) {
	case EMU_XE_QUERY_ENGINES:
		return query_engines(x, q);
	case EMU_XE_QUERY_MEM_REGIONS:
		return query_mem_regions(x, q);
	case EMU_XE_QUERY_CONFIG:
		return query_config(x, q);
	case EMU_XE_QUERY_GT_LIST:
		return query_gt_list(x, q);
	case EMU_XE_QUERY_HWCONFIG:
		return query_hwconfig(q);
	case EMU_XE_QUERY_GT_TOPOLOGY:
		return query_topology(x, q);
	case EMU_XE_QUERY_ENGINE_CYCLES:
		return query_cycles(x, q);
	case EMU_XE_QUERY_UC_FW_VERSION:
		return query_uc(q);
	case EMU_XE_QUERY_OA_UNITS:
		return query_oa(q);
	case EMU_XE_QUERY_PXP_STATUS:
		return query_pxp(q);
	case EMU_XE_QUERY_EU_STALL:
		return -ENODEV; /* hardware that no profile has */
	default:
		return -EINVAL;
	}
}
