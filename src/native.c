/* SPDX-License-Identifier: MIT */
#include "native.h"

#include "coherence.h"
#include "maps.h"
#include "sys.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

#define KIND(k)	  (1u << (k))
#define ALL_KINDS (KIND(SVM_ADVICE_KINDS) - 1u)
#define DEVICE_KINDS                                                       \
	(KIND(SVM_ADVICE_ACCESSED_BY) | KIND(SVM_ADVICE_ACCESS_IN_PLACE) | \
	 KIND(SVM_ADVICE_NO_ACCESS))

bool svm_native_wanted(const struct svm_ctx *ctx)
{
	return ctx->for_native || atomic_load(&((struct svm_ctx *)ctx)->n_native) != 0;
}

/* ---- What is mapped --------------------------------------------------------------------------- */

/* 0: all of it is mapped. msync() with MS_ASYNC does nothing else but find that out (mm/msync.c). */
static int is_mapped(uint64_t start, uint64_t end)
{
	int r = svm_sys->msync(svm_ptr(start), end - start, MS_ASYNC);

	return r == -ENOMEM ? -ENOENT : r;
}

int svm_native_check(struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	for (uint64_t addr = start; addr < end;) {
		struct svm_piece piece;
		int r;

		svm_rwlock_read(&ctx->tree_lock);
		r = svm_range_piece(ctx, addr, end, &piece);
		svm_rwlock_unlock(&ctx->tree_lock);
		if (r == 0 && piece.system)
			r = is_mapped(piece.start, piece.end);
		if (r < 0)
			return r;
		addr = piece.end;
	}
	return 0;
}

/* A walk through the mappings that looks for what is between them. */
struct holes {
	struct svm_ctx *ctx;
	uint64_t next; /* up to here it has been looked at */
	uint64_t end;
};

/* LOCKING: NATIVE. */
static void forget(struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	int r;

	svm_rwlock_write(&ctx->tree_lock);
	r = svm_system_update(ctx, start, end, NULL, 0, ALL_KINDS);
	svm_rwlock_unlock(&ctx->tree_lock);
	if (r == 0)
		(void)svm_native_tell(ctx, start, end, ALL_KINDS, ~0u);
}

static bool next_mapping(void *data, const struct svm_maps_line *line)
{
	struct holes *holes = data;

	if (line->end <= holes->next)
		return true;
	if (line->start > holes->next) {
		forget(holes->ctx, holes->next, svm_min_u64(line->start, holes->end));
	}
	holes->next = line->end;
	return holes->next < holes->end;
}

void svm_native_forget_unmapped(struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	struct svm_tree_node *node = svm_tree_find_from(&ctx->system, start);

	while (node && node->start < end) {
		/* All of the run: who asks for a part of it may ask for the rest when other memory is there. */
		struct holes holes = { .ctx = ctx, .next = node->start, .end = node->end };

		if (is_mapped(holes.next, holes.end) == -ENOENT) {
			uint64_t stop = holes.end;

			if (svm_maps_read(next_mapping, &holes) == 0 && holes.next < stop)
				forget(ctx, holes.next, stop);
			node = svm_tree_find_from(&ctx->system, stop);
		} else {
			node = svm_tree_next(node);
		}
	}
}

/* ---- Hints ------------------------------------------------------------------------------------ */

static uint32_t access_of(const struct svm_hints *hints, uint32_t id)
{
	if (hints->no_access >> id & 1u)
		return SVM_NATIVE_FORBIDDEN;
	if (hints->in_place >> id & 1u)
		return SVM_NATIVE_IN_PLACE;
	return hints->accessed_by >> id & 1u ? SVM_NATIVE_MAPPED : SVM_NATIVE_ON_FAULT;
}

/* LOCKING: NATIVE, which keeps the devices that are found. */
static struct svm_native_hints resolve(const struct svm_device *device,
				       const struct svm_hints *hints, uint32_t kinds)
{
	struct svm_native_hints out = {
		.kinds = kinds,
		.numa_node = -1,
		.access = access_of(hints, device->id),
		.read_mostly = hints->read_mostly,
		.atomics = hints->atomics,
		.migration = hints->migration,
		.granularity = 1u << hints->granularity_shift,
	};
	const struct svm_device *peer;

	switch (hints->preferred.kind) {
	case SVM_LOCATION_HOST_NUMA:
		out.numa_node = (int32_t)hints->preferred.id;
		out.place = SVM_NATIVE_HOST;
		break;
	case SVM_LOCATION_HOST:
		out.place = SVM_NATIVE_HOST;
		break;
	case SVM_LOCATION_DEVICE:
		if (hints->preferred.id == device->id) {
			out.place = SVM_NATIVE_OWN;
			break;
		}
		out.place = SVM_NATIVE_OTHER;
		peer = svm_device_of(device->ctx, hints->preferred.id + 1u);
		if (peer && peer->ops.open == device->ops.open)
			out.peer_dev = peer->dev;
		break;
	default:
		break;
	}
	return out;
}

static struct svm_outcome failure(int error)
{
	struct svm_outcome outcome = { SVM_DEGRADED, SVM_REASON_DRIVER };

	if (error == -ENOMEM || error == -ENOSPC)
		outcome.reason = SVM_REASON_NO_MEMORY;
	else if (error == -ENOLINK)
		outcome.reason = SVM_REASON_NOT_REACHABLE;
	return outcome;
}

/* LOCKING: NATIVE. One device, one run of equal hints. */
static struct svm_outcome tell(const struct svm_device *device, uint64_t start, uint64_t end,
			       const struct svm_hints *hints, uint32_t kinds)
{
	struct svm_native_hints resolved = resolve(device, hints, kinds);
	struct svm_outcome outcome = { SVM_EFFECTIVE, SVM_REASON_NONE };
	int r;

	start = svm_max_u64(start, device->caps.va_start);
	end = svm_min_u64(end, device->caps.va_end);
	if (start >= end || svm_device_is_lost(device))
		return outcome;
	r = device->ops.native_advise(device->dev, start, end - start, &resolved, &outcome);
	/* An answer that is none counts as a refusal. */
	if (r > 0 || (r == 0 && outcome.status > SVM_DEGRADED))
		r = -EPROTO;
	if (r == 0)
		return outcome;
	if (r != -EOPNOTSUPP && r != -ENODEV)
		svm_warn(&device->ctx->log, "device %s: hints of [%llx, %llx) refused (error %d)",
			 device->name, (unsigned long long)start, (unsigned long long)end, -r);
	return failure(r);
}

static void worst(struct svm_outcome *outcome, struct svm_outcome other)
{
	if (other.status > outcome->status)
		*outcome = other;
}

struct svm_outcome svm_native_tell(struct svm_ctx *ctx, uint64_t start, uint64_t end,
				   uint32_t kinds, uint32_t device)
{
	struct svm_outcome outcome = { SVM_EFFECTIVE, SVM_REASON_NONE };
	uint64_t stop;

	/* The runs stay as they are, and the devices open, under NATIVE. */
	for (uint64_t addr = start; addr < end; addr = stop) {
		const struct svm_hints *hints = svm_system_run(ctx, addr, end, &stop);

		for (uint32_t a = 1; a < SVM_AGENTS; a++) {
			const struct svm_device *to = svm_device_of(ctx, a);

			if (!to || !svm_device_has(to, SVM_CAP_NATIVE) ||
			    (device != ~0u && device != to->id))
				continue;
			worst(&outcome, tell(to, addr, stop, hints, kinds));
		}
	}
	return outcome;
}

/* The kinds of a run that are not at their defaults. */
static uint32_t kinds_set(const struct svm_hints *hints)
{
	const struct svm_hints *none = &svm_hints_none;
	uint32_t kinds = 0;

	kinds |= hints->preferred.kind ? KIND(SVM_ADVICE_PREFERRED_LOCATION) : 0;
	kinds |= hints->accessed_by ? KIND(SVM_ADVICE_ACCESSED_BY) : 0;
	kinds |= hints->in_place ? KIND(SVM_ADVICE_ACCESS_IN_PLACE) : 0;
	kinds |= hints->no_access ? KIND(SVM_ADVICE_NO_ACCESS) : 0;
	kinds |= hints->read_mostly ? KIND(SVM_ADVICE_READ_MOSTLY) : 0;
	kinds |= hints->atomics ? KIND(SVM_ADVICE_ATOMICS) : 0;
	kinds |= hints->migration ? KIND(SVM_ADVICE_MIGRATION) : 0;
	if (hints->granularity_shift != none->granularity_shift)
		kinds |= KIND(SVM_ADVICE_GRANULARITY);
	return kinds;
}

void svm_native_attach(struct svm_device *device)
{
	struct svm_tree_node *node = svm_tree_find_from(&device->ctx->system, 0);

	for (; node; node = svm_tree_next(node)) {
		const struct svm_hints *hints = &svm_range_of(node)->hints;
		uint32_t kinds = kinds_set(hints);

		/* What names other devices alone is nothing to this one. */
		if (access_of(hints, device->id) == SVM_NATIVE_ON_FAULT)
			kinds &= ~DEVICE_KINDS;
		if (kinds)
			(void)tell(device, node->start, node->end, hints, kinds);
	}
}

void svm_native_forget_device(struct svm_ctx *ctx, uint32_t id)
{
	struct svm_tree_node *node = svm_tree_find_from(&ctx->system, 0);

	while (node) {
		uint64_t start = node->start;
		uint64_t end = node->end;
		uint32_t kinds;

		svm_rwlock_write(&ctx->tree_lock);
		kinds = svm_system_forget_device(ctx, node, id);
		svm_rwlock_unlock(&ctx->tree_lock);
		/* The masks of the other devices are as they were. */
		kinds &= KIND(SVM_ADVICE_PREFERRED_LOCATION);
		if (kinds)
			(void)svm_native_tell(ctx, start, end, kinds, ~0u);
		node = svm_tree_find_from(&ctx->system, end);
	}
}

int svm_native_adopt(struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	int r = 0;

	for (uint64_t addr = start, stop; addr < end && r == 0; addr = stop) {
		const struct svm_hints *hints = svm_system_run(ctx, addr, end, &stop);

		if (hints != &svm_hints_none)
			r = svm_range_inherit(ctx, addr, stop, hints);
	}
	return r;
}

void svm_native_adopted(struct svm_ctx *ctx, uint64_t start, uint64_t end)
{
	const struct svm_tree_node *node = svm_tree_find_from(&ctx->system, start);

	if (node && node->start < end)
		forget(ctx, start, end);
}

/* ---- Where pages are -------------------------------------------------------------------------- */

#define PAGEMAP_SWAPPED (UINT64_C(1) << 62) /* Documentation/admin-guide/mm/pagemap.rst */

/* The next native device from agent *a on, kept for the caller; NULL: no more. */
static struct svm_device *next_device(struct svm_ctx *ctx, uint32_t *a)
{
	struct svm_device *device = NULL;

	svm_rwlock_read(&ctx->tree_lock);
	for (; *a < SVM_AGENTS && !device; (*a)++) {
		device = svm_device_of(ctx, *a);
		if (!device || !svm_device_has(device, SVM_CAP_NATIVE) ||
		    svm_device_is_lost(device))
			device = NULL;
		else
			svm_device_get(device);
	}
	svm_rwlock_unlock(&ctx->tree_lock);
	return device;
}

/* Pages that the CPU would have to wait for although they are in memory: what pagemap calls swapped is in a device's
 * memory if mincore() calls it resident (mm/mincore.c: entries that are not swap count as such). */
static void find_away(uint64_t addr, size_t n_pages, const unsigned char *resident, bool *ret_away)
{
	uint64_t entries[64];
	int fd = svm_sys_open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	memset(ret_away, 0, n_pages * sizeof(*ret_away));
	for (size_t i = 0; fd >= 0 && i < n_pages;) {
		size_t n = svm_min_u64(n_pages - i, SVM_ARRAY_SIZE(entries));
		ssize_t size = svm_sys->pread(fd, entries, n * sizeof(entries[0]),
					      ((addr >> SVM_PAGE_SHIFT) + i) * sizeof(entries[0]));

		if (size == -EINTR)
			continue;
		if (size <= 0)
			break;
		n = (size_t)size / sizeof(entries[0]);
		for (size_t k = 0; k < n; k++, i++)
			ret_away[i] = (entries[k] & PAGEMAP_SWAPPED) && (resident[i] & 1u);
	}
	if (fd >= 0)
		svm_sys->close(fd);
}

static int find_resident(uint64_t addr, size_t n_pages, unsigned char *ret_pages)
{
	int r = svm_sys->mincore(svm_ptr(addr), n_pages << SVM_PAGE_SHIFT, ret_pages);

	/* A hole: what is there is told page by page. */
	for (size_t i = 0; r == -ENOMEM && i < n_pages; i++) {
		r = svm_sys->mincore(svm_ptr(addr + (i << SVM_PAGE_SHIFT)), SVM_PAGE_SIZE,
				     &ret_pages[i]);
		if (r == -ENOMEM)
			ret_pages[i] = 0;
		else if (r == 0)
			r = -ENOMEM;
	}
	return r == -ENOMEM ? 0 : r;
}

int svm_native_where(struct svm_ctx *ctx, uint64_t addr, size_t n_pages,
		     struct svm_page_residency *pages)
{
	unsigned char resident[SVM_NATIVE_BATCH_PAGES];
	uint8_t found[SVM_NATIVE_BATCH_PAGES];
	bool away[SVM_NATIVE_BATCH_PAGES];
	struct svm_device *device;
	uint32_t silent = 0;
	uint32_t a = 1;
	int r = find_resident(addr, n_pages, resident);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n_pages; i++)
		pages[i] = (struct svm_page_residency){ .flags = SVM_PAGE_SYSTEM };
	while ((device = next_device(ctx, &a)) != NULL) {
		r = device->ops.native_query(device->dev, addr, n_pages, found);
		for (size_t i = 0; i < n_pages && r == 0; i++) {
			if (found[i] & SVM_NATIVE_PAGE_OWN)
				pages[i].devices |= (uint16_t)(1u << device->id);
			if (found[i] & SVM_NATIVE_PAGE_MAPPED)
				pages[i].mapped |= (uint16_t)(1u << device->id);
		}
		if (r == -EOPNOTSUPP)
			silent |= 1u << device->id;
		else if (r < 0 && r != -ENODEV)
			svm_warn(&ctx->log,
				 "device %s: where pages of %llx are is not told (error %d)",
				 device->name, (unsigned long long)addr, -r);
		svm_device_put(device);
	}
	if (silent)
		find_away(addr, n_pages, resident, away);
	for (size_t i = 0; i < n_pages; i++) {
		if (silent && away[i] && !pages[i].devices)
			pages[i].devices = (uint16_t)silent;
		if (!pages[i].devices && (resident[i] & 1u))
			pages[i].flags |= SVM_PAGE_HOST;
	}
	return 0;
}

/* ---- Moving ----------------------------------------------------------------------------------- */

/* Bring home what devices of the mask have of a span. */
static int bring_home(struct svm_ctx *ctx, uint64_t start, uint64_t end, uint32_t from)
{
	struct svm_device *device;
	uint32_t a = 1;
	int error = 0;

	while ((device = next_device(ctx, &a)) != NULL) {
		int r = -EOPNOTSUPP;

		if (from >> device->id & 1u) {
			r = device->ops.native_prefetch(device->dev, start, end - start,
							SVM_NATIVE_HOST);
			if (r == -EOPNOTSUPP)
				/* A touch does it: the driver has to give the pages back. */
				r = svm_sys->madvise(svm_ptr(start), end - start,
						     MADV_POPULATE_READ);
			error = error ? error : r > 0 ? -EPROTO : r;
		}
		svm_device_put(device);
	}
	return error;
}

static int bring_to(struct svm_ctx *ctx, uint64_t start, uint64_t end, uint32_t agent)
{
	uint32_t a = agent;
	struct svm_device *device = next_device(ctx, &a);
	int r = -ENODEV;

	if (device && device->agent == agent)
		r = device->ops.native_prefetch(device->dev, start, end - start, SVM_NATIVE_OWN);
	if (device)
		svm_device_put(device);
	return r > 0 ? -EPROTO : r;
}

static bool is_there(const struct svm_page_residency *page, uint32_t agent)
{
	return agent == SVM_AGENT_CPU ? page->devices == 0 : page->devices >> (agent - 1u) & 1u;
}

/* One run of equal hints. */
static void move_run(struct svm_ctx *ctx, uint64_t start, uint64_t end, uint32_t agent,
		     bool forbidden, struct svm_native_moved *ret)
{
	struct svm_page_residency before[SVM_NATIVE_BATCH_PAGES];
	struct svm_page_residency after[SVM_NATIVE_BATCH_PAGES];
	size_t n_pages = (size_t)((end - start) >> SVM_PAGE_SHIFT);
	uint32_t elsewhere = 0;
	uint64_t missing = 0;
	uint64_t arrived = 0;
	int error;
	int r = svm_native_where(ctx, start, n_pages, before);

	if (r < 0) {
		ret->failed += end - start;
		ret->error = ret->error ? ret->error : r;
		worst(&ret->outcome, failure(r));
		return;
	}
	for (size_t i = 0; i < n_pages; i++) {
		if (is_there(&before[i], agent))
			continue;
		missing++;
		elsewhere |= before[i].devices;
	}
	ret->already_there += (n_pages - missing) << SVM_PAGE_SHIFT;
	if (missing == 0)
		return;
	if (forbidden) {
		ret->skipped += missing << SVM_PAGE_SHIFT;
		worst(&ret->outcome, (struct svm_outcome){ SVM_DEGRADED, SVM_REASON_PINNED });
		return;
	}
	/* From one device to another by way of the host: no driver takes pages of another. */
	if (elsewhere)
		r = bring_home(ctx, start, end, elsewhere);
	if (r == 0 && agent != SVM_AGENT_CPU)
		r = bring_to(ctx, start, end, agent);
	error = r;
	r = svm_native_where(ctx, start, n_pages, after);
	for (size_t i = 0; i < n_pages && r == 0; i++)
		arrived += is_there(&after[i], agent) && !is_there(&before[i], agent);
	ret->bytes_moved += arrived << SVM_PAGE_SHIFT;
	if (arrived >= missing)
		return;
	ret->failed += (missing - arrived) << SVM_PAGE_SHIFT;
	worst(&ret->outcome, failure(error));
	if (!ret->error)
		ret->error = error ? error : r;
}

void svm_native_move(struct svm_ctx *ctx, uint64_t start, uint64_t end, uint32_t agent,
		     struct svm_native_moved *ret)
{
	*ret = (struct svm_native_moved){ 0 };
	for (uint64_t addr = start, stop; addr < end; addr = stop) {
		const struct svm_hints *hints;
		struct svm_piece piece = { .end = end };
		bool forbidden = false;
		int r;

		svm_rwlock_read(&ctx->tree_lock);
		r = svm_range_piece(ctx, addr, end, &piece);
		stop = piece.end;
		if (r == 0 && piece.system) {
			hints = svm_system_run(ctx, addr, piece.end, &stop);
			forbidden =
				hints->migration == SVM_MIGRATE_NEVER ||
				(agent != SVM_AGENT_CPU && hints->no_access >> (agent - 1u) & 1u);
		}
		svm_rwlock_unlock(&ctx->tree_lock);
		if (r == 0 && piece.system) {
			move_run(ctx, addr, stop, agent, forbidden, ret);
			continue;
		}
		/* It has become managed since. */
		ret->failed += stop - addr;
		ret->error = ret->error ? ret->error : -ENOENT;
		worst(&ret->outcome, failure(-ENOENT));
	}
}
