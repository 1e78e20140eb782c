// SPDX-License-Identifier: MIT
/*
 * What a device is, by asking the kernel. Tables from Linux 7.3: drivers/gpu/drm/xe/xe_pci.c (platforms),
 * xe_pat.c (page attributes), xe_mocs.c (cache indices).
 */
#include "xe_internal.h"
#include <errno.h>
#include <stdlib.h>

/* The answer to a query in memory of its own, to be freed. */
static int query(int fd, uint32_t id, void **ret_data, size_t *ret_size)
{
	struct svm_xe_device_query arg = { .query = id };
	void *data;
	int ret = svm_drm_ioctl_sure(fd, SVM_XE_DEVICE_QUERY, &arg);

	if (ret < 0)
		return ret;
	data = calloc(1, arg.size ? arg.size : 1);
	if (!data)
		return -ENOMEM;
	arg.data = (uintptr_t)data;
	ret = svm_drm_ioctl_sure(fd, SVM_XE_DEVICE_QUERY, &arg);
	if (ret < 0) {
		free(data);
		return ret;
	}
	*ret_data = data;
	*ret_size = arg.size;
	return 0;
}

static bool holds(size_t size, size_t header, uint64_t n, size_t element)
{
	return size >= header && n <= (size - header) / element;
}

static int read_config(int fd, struct svm_xe_info *info)
{
	struct svm_xe_query_config *config;
	void *data;
	size_t size;
	int ret = query(fd, SVM_XE_QUERY_CONFIG, &data, &size);

	if (ret < 0)
		return ret;
	config = data;
	if (size < sizeof(*config) || config->n_params <= SVM_XE_CONFIG_VA_BITS ||
	    !holds(size, sizeof(*config), config->n_params, sizeof(uint64_t))) {
		ret = -EPROTO;
	} else {
		info->has_vram = config->info[SVM_XE_CONFIG_FLAGS] & SVM_XE_CONFIG_HAS_VRAM;
		info->has_mirror = config->info[SVM_XE_CONFIG_FLAGS] &
				   SVM_XE_CONFIG_HAS_CPU_ADDR_MIRROR;
		info->vram_64k = config->info[SVM_XE_CONFIG_ALIGNMENT] > SVM_PAGE_SIZE;
		info->va_bits = (uint32_t)config->info[SVM_XE_CONFIG_VA_BITS];
	}
	free(data);
	return ret;
}

/* The first main GT: its version, its number and the memory next to it. */
static int read_gt(int fd, struct svm_xe_info *info, uint16_t *ret_gt, uint64_t *ret_near)
{
	struct svm_xe_query_gt_list *list;
	void *data;
	size_t size;
	int ret = query(fd, SVM_XE_QUERY_GT_LIST, &data, &size);

	if (ret < 0)
		return ret;
	list = data;
	ret = -EPROTO;
	if (size < sizeof(*list) || !holds(size, sizeof(*list), list->n_gts, sizeof(list->gts[0])))
		list->n_gts = 0;
	for (uint32_t i = 0; i < list->n_gts; i++) {
		const struct svm_xe_gt *gt = &list->gts[i];

		if (gt->type != SVM_XE_GT_MAIN)
			continue;
		info->ip = gt->ip_ver_major * 100u + gt->ip_ver_minor;
		*ret_gt = gt->gt_id;
		*ret_near = gt->near_mem_regions;
		ret = 0;
		break;
	}
	free(data);
	return ret;
}

static int read_regions(int fd, uint64_t near, struct svm_xe_info *info)
{
	struct svm_xe_query_mem_regions *list;
	void *data;
	size_t size;
	int ret = query(fd, SVM_XE_QUERY_MEM_REGIONS, &data, &size);

	if (ret < 0)
		return ret;
	list = data;
	if (size < sizeof(*list) ||
	    !holds(size, sizeof(*list), list->n_regions, sizeof(list->regions[0])))
		ret = -EPROTO;
	for (uint32_t i = 0; ret == 0 && i < list->n_regions; i++) {
		const struct svm_xe_mem_region *region = &list->regions[i];

		if (region->instance >= 32)
			continue;
		if (region->mem_class == SVM_XE_MEM_SYSTEM) {
			info->system_size = region->total_size;
		} else if (info->vram_size == 0 && near & UINT64_C(1) << region->instance) {
			info->vram = region->instance;
			info->vram_size = region->total_size;
			info->vram_visible = region->cpu_visible_size;
		}
	}
	free(data);
	if (ret == 0 && info->has_vram && info->vram_size == 0)
		info->has_vram = false;
	return ret;
}

static int read_engines(int fd, uint16_t gt, struct svm_xe_info *info)
{
	struct svm_xe_query_engines *list;
	void *data;
	size_t size;
	int ret = query(fd, SVM_XE_QUERY_ENGINES, &data, &size);

	if (ret < 0)
		return ret;
	list = data;
	if (size < sizeof(*list) ||
	    !holds(size, sizeof(*list), list->n_engines, sizeof(list->engines[0])))
		ret = -EPROTO;
	for (uint32_t i = 0; ret == 0 && i < list->n_engines; i++) {
		const struct svm_xe_engine_instance *e = &list->engines[i].instance;

		if (e->engine_class != SVM_XE_ENGINE_COPY || e->gt_id != gt)
			continue;
		/* The lowest: those above may lack the XY commands. */
		if (info->n_copy == 0 || e->engine_instance < info->copy.engine_instance)
			info->copy = *e;
		info->n_copy++;
	}
	info->copy.pad = 0;
	free(data);
	return ret;
}

/* Platforms before Meteor Lake do not tell their version; other answers tell them apart. */
static uint32_t guess_ip(const struct svm_xe_info *info)
{
	if (info->va_bits == 57)
		return 1260;
	if (!info->has_vram)
		return 1200;
	return info->vram_64k ? 1255 : 1210;
}

#define MEM_COPY_MOCS_XE2(index) ((index) << 28 | (index) << 3)
#define MEM_SET_MOCS_XE2(index)	 ((index) << 3)
#define MEM_COPY_MOCS_PVC(index) ((index) << 26 | (index) << 1)
#define MEM_SET_MOCS_PVC(index)	 ((index) << 1)
#define COLOR_MOCS(index)	 ((index) << 22)

static const struct {
	uint32_t ip; /* from here on, up to the next */
	uint16_t pat;
	struct svm_xe_blitter blitter;
} platforms[] = {
	{ 1200, 0, { SVM_XE_COPY_FAST, false, 11, 0, COLOR_MOCS(3u) } },
	{ 1210, 0, { SVM_XE_COPY_FAST, false, 11, 0, COLOR_MOCS(1u) } },
	{ 1255, 0, { SVM_XE_COPY_FAST, true, 16, 0, COLOR_MOCS(1u) } },
	{ 1260, 3, { SVM_XE_COPY_MATRIX, true, 0, MEM_COPY_MOCS_PVC(1u), MEM_SET_MOCS_PVC(1u) } },
	{ 1270, 3, { SVM_XE_COPY_FAST, true, 16, 0, COLOR_MOCS(9u) } },
	{ 2000, 2, { SVM_XE_COPY_PAGES, true, 0, MEM_COPY_MOCS_XE2(3u), MEM_SET_MOCS_XE2(3u) } },
	{ 3511, 2, { SVM_XE_COPY_MATRIX, true, 0, MEM_COPY_MOCS_XE2(1u), MEM_SET_MOCS_XE2(1u) } },
	{ 3512, 2, { SVM_XE_COPY_PAGES, true, 0, MEM_COPY_MOCS_XE2(3u), MEM_SET_MOCS_XE2(3u) } },
};

static void choose_platform(struct svm_xe_info *info)
{
	for (size_t i = 0; i < sizeof(platforms) / sizeof(platforms[0]); i++) {
		if (info->ip < platforms[i].ip)
			break;
		info->pat = platforms[i].pat;
		info->blitter = platforms[i].blitter;
	}
}

int svm_xe_probe(int fd, struct svm_xe_info *ret_info, const char **ret_what)
{
	struct svm_xe_info info = { 0 };
	uint64_t timelines = 0;
	uint64_t near = 0;
	uint16_t gt = 0;
	int ret;

	*ret_what = "DEVICE_QUERY of the configuration";
	ret = read_config(fd, &info);
	if (ret < 0)
		return ret;
	*ret_what = "DEVICE_QUERY of the GTs";
	ret = read_gt(fd, &info, &gt, &near);
	if (ret < 0)
		return ret;
	*ret_what = "DEVICE_QUERY of memory regions";
	ret = read_regions(fd, near, &info);
	if (ret < 0)
		return ret;
	*ret_what = "DEVICE_QUERY of engines";
	ret = read_engines(fd, gt, &info);
	if (ret < 0)
		return ret;
	*ret_what = "timeline sync objects (Linux 5.2)";
	ret = svm_drm_cap(fd, SVM_DRM_CAP_SYNCOBJ_TIMELINE, &timelines);
	if (ret < 0 || !timelines)
		return ret < 0 ? ret : -EOPNOTSUPP;
	*ret_what = "SYNCOBJ_EVENTFD (Linux 6.6)";
	if (!svm_drm_has_timeline_event(fd))
		return -EOPNOTSUPP;
	*ret_what = "48 address bits";
	if (info.va_bits < 48)
		return -EOPNOTSUPP;
	if (info.ip == 0)
		info.ip = guess_ip(&info);
	*ret_what = "graphics of version 12.00 or later";
	if (info.ip < platforms[0].ip)
		return -EOPNOTSUPP;
	choose_platform(&info);
	*ret_info = info;
	return 0;
}
