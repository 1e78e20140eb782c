/* SPDX-License-Identifier: MIT */
#include "flow_state.h"

struct item *flow_new_item(struct worker *w)
{
	for (unsigned int i = 0; i < N_ITEMS; i++)
		if (w->items[i].kind == ITEM_NONE)
			return &w->items[i];
	return NULL;
}

static void end_prefetch(struct worker *w, struct item *it, bool cancel)
{
	uint64_t done;
	uint64_t total;
	struct svm_prefetch_result result;
	int e;

	if (cancel)
		flow_expect("svm_prefetch_cancel", svm_prefetch_cancel(it->prefetch), 0);
	e = svm_prefetch_wait(it->prefetch, -1, &result, 1);
	flow_note(w, "prefetch ends", NULL, -1, 0, result.bytes_moved, result.failed, e);
	flow_expect("svm_prefetch_progress", svm_prefetch_progress(it->prefetch, &done, &total), 0);
	if (result.bytes_moved + result.already_there + result.skipped_pinned + result.failed !=
	    total)
		flow_fail("prefetch: %llu + %llu + %llu + %llu bytes are not %llu",
			  (unsigned long long)result.bytes_moved,
			  (unsigned long long)result.already_there,
			  (unsigned long long)result.skipped_pinned,
			  (unsigned long long)result.failed, (unsigned long long)total);
	flow_expect("svm_prefetch_destroy", svm_prefetch_destroy(it->prefetch), 0);
}

void flow_end_item(struct worker *w, struct item *it)
{
	struct region *r = it->region;
	struct slot *s = it->slot;

	switch (it->kind) {
	case ITEM_NONE:
		return;
	case ITEM_PIN:
		flow_note(w, "unpin", r, s ? (int)(s - flow.slots) : -1, it->offset, it->size, 0,
			  0);
		flow_expect("svm_unpin",
			    svm_unpin(flow.space, r->addr + it->offset, it->size, it->location), 0);
		break;
	case ITEM_HOST:
		flow_note(w, "host release", r, -1, it->offset, it->size, it->access, 0);
		flow_expect("svm_host_release",
			    svm_host_release(flow.space, r->addr + it->offset, it->size,
					     it->access),
			    0);
		break;
	case ITEM_ACCESS:
		flow_note(w, "release", r, s ? (int)(s - flow.slots) : -1, it->offset, it->size, 0,
			  0);
		flow_expect("svm_release", svm_release(it->handle, NULL), 0);
		break;
	case ITEM_PREFETCH:
		end_prefetch(w, it, false);
		break;
	}
	if (s) {
		flow_give_room(s, it->size);
		atomic_fetch_sub(&s->n_open, 1u);
	}
	if (it->kind != ITEM_PREFETCH)
		flow_hold_ends();
	it->kind = ITEM_NONE;
}

static bool overlaps(const struct item *it, const struct region *r, uint64_t offset, uint64_t size)
{
	/* Pins and holds are of whole pages. */
	uint64_t start = it->offset / FLOW_PAGE * FLOW_PAGE;
	uint64_t end = (it->offset + it->size + FLOW_PAGE - 1u) / FLOW_PAGE * FLOW_PAGE;

	return it->kind != ITEM_NONE && it->kind != ITEM_PREFETCH && it->region == r &&
	       start < offset + size && offset / FLOW_PAGE * FLOW_PAGE < end;
}

bool flow_is_held(const struct worker *w, const struct region *r, uint64_t offset, uint64_t size)
{
	uint64_t end = (offset + size + FLOW_PAGE - 1u) / FLOW_PAGE * FLOW_PAGE;

	offset = offset / FLOW_PAGE * FLOW_PAGE;
	for (unsigned int i = 0; i < N_ITEMS; i++) {
		const struct item *it = &w->items[i];

		/* An access of a device that can fault holds nothing. */
		if (overlaps(it, r, offset, end - offset) &&
		    !(it->kind == ITEM_ACCESS && (it->slot->caps & SVM_CAP_FAULTS)))
			return true;
	}
	return false;
}

/* End what would stand in the way of an access to the span. */
void flow_settle(struct worker *w, const struct region *r, uint64_t offset, uint64_t size)
{
	uint64_t end = (offset + size + FLOW_PAGE - 1u) / FLOW_PAGE * FLOW_PAGE;

	offset = offset / FLOW_PAGE * FLOW_PAGE;
	for (unsigned int i = 0; i < N_ITEMS; i++)
		if (overlaps(&w->items[i], r, offset, end - offset))
			flow_end_item(w, &w->items[i]);
}

/* The CPU may touch what it holds itself. */
void flow_settle_for_cpu(struct worker *w, const struct region *r, uint64_t offset, uint64_t size)
{
	uint64_t end = (offset + size + FLOW_PAGE - 1u) / FLOW_PAGE * FLOW_PAGE;

	offset = offset / FLOW_PAGE * FLOW_PAGE;
	for (unsigned int i = 0; i < N_ITEMS; i++) {
		struct item *it = &w->items[i];

		if (overlaps(it, r, offset, end - offset) && it->slot)
			flow_end_item(w, it);
	}
}

static void end_items(struct worker *w, struct dice *d, unsigned int kinds)
{
	unsigned int first = (unsigned int)flow_pick(d, N_ITEMS);

	for (unsigned int i = 0; i < N_ITEMS; i++) {
		struct item *it = &w->items[(first + i) % N_ITEMS];

		if (it->kind != ITEM_NONE && (1u << it->kind & kinds)) {
			flow_end_item(w, it);
			return;
		}
	}
}

void flow_op_prefetch_end(struct worker *w, struct dice *d)
{
	end_items(w, d, 1u << ITEM_PREFETCH);
}

void flow_op_unpin(struct worker *w, struct dice *d)
{
	end_items(w, d, 1u << ITEM_PIN | 1u << ITEM_HOST);
}

void flow_op_release(struct worker *w, struct dice *d)
{
	end_items(w, d, 1u << ITEM_ACCESS);
}
