/* SPDX-License-Identifier: MIT */
#include "flow_state.h"

#include <errno.h>
#include <string.h>

struct svm_location flow_pick_location(struct dice *d, struct slot **ret_slot)
{
	struct slot *s = NULL;

	*ret_slot = NULL;
	if (flow_chance(d, 70))
		s = flow_use_slot(d);
	if (!s)
		return (struct svm_location){ flow_chance(d, 80) ? SVM_LOCATION_HOST
								 : SVM_LOCATION_HOST_NUMA,
					      0 };
	*ret_slot = s;
	return svm_device_location(s->device);
}

void flow_op_advise(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	struct svm_advice advice = { .kind = (uint32_t)flow_pick(d, SVM_ADVICE_KINDS) };
	struct slot *s = NULL;
	struct svm_outcome outcome;
	uint64_t offset;
	uint64_t size;
	int e;

	if (!r)
		return;
	flow_pick_span(d, r, &offset, &size);
	switch (advice.kind) {
	case SVM_ADVICE_PREFERRED_LOCATION:
		advice.location = flow_pick_location(d, &s);
		break;
	case SVM_ADVICE_ACCESSED_BY:
	case SVM_ADVICE_ACCESS_IN_PLACE:
	case SVM_ADVICE_NO_ACCESS:
		s = flow_use_slot(d);
		if (!s || (advice.kind == SVM_ADVICE_NO_ACCESS && !flow_chance(d, 30))) {
			if (s)
				flow_leave_slot(s);
			return;
		}
		advice.device = s->id;
		break;
	case SVM_ADVICE_READ_MOSTLY:
		advice.value = flow_chance(d, 80);
		break;
	case SVM_ADVICE_ATOMICS:
		advice.value = flow_pick(d, 3);
		break;
	case SVM_ADVICE_GRANULARITY:
		advice.value = FLOW_PAGE << flow_pick(d, 10);
		break;
	default:
		advice.value = flow_chance(d, 15) ? SVM_MIGRATE_NEVER : flow_pick(d, 2);
		break;
	}
	e = svm_advise(flow.space, r->addr + offset, size, &advice, 1, &outcome);
	flow_note(w, NULL, r, s ? (int)(s - flow.slots) : -1, offset, size,
		  advice.kind << 16 | advice.value, e);
	flow_expect("svm_advise", e, 0);
	if (advice.kind == SVM_ADVICE_NO_ACCESS)
		r->forbidden |= 1u << advice.device;
	if (advice.kind == SVM_ADVICE_MIGRATION && advice.value == SVM_MIGRATE_NEVER)
		r->never = true;
	if (s)
		flow_leave_slot(s);
}

void flow_op_unadvise(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	uint32_t kinds = (uint32_t)(1u + flow_pick(d, (1u << SVM_ADVICE_KINDS) - 1u));
	uint64_t offset;
	uint64_t size;
	int e;

	if (!r)
		return;
	flow_pick_span(d, r, &offset, &size);
	if (flow_chance(d, 50)) {
		offset = 0;
		size = r->size;
		kinds = (1u << SVM_ADVICE_KINDS) - 1u;
		r->forbidden = 0;
		r->never = false;
	}
	e = svm_unadvise(flow.space, r->addr + offset, size, kinds);
	flow_note(w, NULL, r, -1, offset, size, kinds, e);
	flow_expect("svm_unadvise", e, 0);
}

static void expect_moved(struct region *r, struct slot *s, uint64_t offset, uint64_t size,
			 const char *what, int e)
{
	if (e == 0 || flow.config.hostile)
		return;
	if (e == -EIO && flow_find_losses(r, offset, size))
		return;
	if (e == -ENODEV && s) {
		flow_expect_lost(s, what, e);
		return;
	}
	if (e == -ENOSPC && s)
		return;
	flow_fail("%s: %d", what, e);
}

void flow_op_prefetch(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	struct svm_prefetch_result result = { 0 };
	struct slot *s;
	struct svm_location to;
	uint64_t offset;
	uint64_t size;
	int e;

	if (!r)
		return;
	to = flow_pick_location(d, &s);
	flow_pick_span(d, r, &offset, &size);
	if (flow_chance(d, 80))
		flow_settle(w, r, offset, size);
	e = svm_prefetch(flow.space, r->addr + offset, size, to, &result);
	flow_note(w, NULL, r, s ? (int)(s - flow.slots) : -1, offset, size, result.bytes_moved, e);
	expect_moved(r, s, offset, size, "svm_prefetch", e);
	flow_whole_pages(&offset, &size);
	if (e < 0 && flow.config.hostile) {
		if (s)
			flow_leave_slot(s);
		return;
	}
	if (result.bytes_moved + result.already_there + result.skipped_pinned + result.failed !=
	    size)
		flow_fail("prefetch result: %llu + %llu + %llu + %llu bytes are not %llu",
			  (unsigned long long)result.bytes_moved,
			  (unsigned long long)result.already_there,
			  (unsigned long long)result.skipped_pinned,
			  (unsigned long long)result.failed, (unsigned long long)size);
	if (e == 0 && result.skipped_pinned == 0 && result.failed == 0)
		flow_model_mark(&r->model, offset, size, 0, FLOW_PAGE_LAZY);
	if (s)
		flow_leave_slot(s);
}

void flow_op_prefetch_async(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	struct item *it = flow_new_item(w);
	struct svm_prefetch_range range;
	struct svm_fence *wait = NULL;
	struct slot *s;
	bool cancel = flow_chance(d, 30);
	uint64_t offset;
	uint64_t size;
	int e;

	if (!r || !it)
		return;
	flow_pick_span(d, r, &offset, &size);
	range.to = flow_pick_location(d, &s);
	range.addr = r->addr + offset;
	range.size = size;
	if (flow_chance(d, 30))
		flow_expect("svm_fence_create", svm_fence_create(flow.space, &wait), 0);
	e = svm_prefetch_start(flow.space, &range, 1, wait, 0, &it->prefetch);
	flow_note(w, wait ? "after a fence" : NULL, r, s ? (int)(s - flow.slots) : -1, offset, size,
		  cancel, e);
	flow_expect("svm_prefetch_start", e, 0);
	it->kind = ITEM_PREFETCH;
	it->region = r;
	it->offset = offset;
	it->size = size;
	it->slot = NULL;
	if (s)
		flow_leave_slot(s);
	if (wait) {
		flow_expect("svm_fence_signal", svm_fence_signal(wait, 0), 0);
		svm_fence_unref(wait);
	}
	if (cancel)
		flow_expect("svm_prefetch_cancel", svm_prefetch_cancel(it->prefetch), 0);
}

static void discard(struct worker *w, struct dice *d, bool lazy)
{
	struct region *r = flow_any_region(w, d);
	uint64_t offset;
	uint64_t size;
	bool held;
	int e;

	if (!r)
		return;
	flow_pick_span(d, r, &offset, &size);
	if (flow_chance(d, 70))
		flow_settle(w, r, offset, size);
	held = flow_is_held(w, r, offset, size);
	e = svm_discard(flow.space, r->addr + offset, size, lazy ? SVM_DISCARD_LAZY : 0);
	flow_note(w, NULL, r, -1, offset, size, held, e);
	if (held) {
		flow_expect("svm_discard of held memory", e, -EBUSY);
		return;
	}
	if (e < 0 && flow.config.hostile) {
		/* Some of it may be gone. */
		flow_whole_pages(&offset, &size);
		memset(w->buffer, 0, size);
		flow_model_maybe(&r->model, offset, size, w->buffer);
		return;
	}
	flow_expect("svm_discard", e, 0);
	flow_whole_pages(&offset, &size);
	if (lazy) {
		flow_model_forget(&r->model, offset, size);
		flow_model_mark(&r->model, offset, size, FLOW_PAGE_LAZY, 0);
	} else {
		flow_model_zero(&r->model, offset, size);
	}
}

void flow_op_pin(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	struct item *it = flow_new_item(w);
	struct slot *s;
	struct svm_location to;
	uint64_t offset;
	uint64_t size;
	int e;

	if (!r || !it)
		return;
	to = flow_pick_location(d, &s);
	flow_pick_span(d, r, &offset, &size);
	if (size > BLOCK / 2u)
		size = BLOCK / 2u;
	if (s && !flow_take_room(s, size)) {
		flow_leave_slot(s);
		return;
	}
	flow_settle(w, r, offset, size);
	flow_hold_begins();
	e = svm_pin(flow.space, r->addr + offset, size, to);
	if (e < 0)
		flow_hold_ends();
	flow_note(w, NULL, r, s ? (int)(s - flow.slots) : -1, offset, size, 0, e);
	if (e == -EACCES && s && (r->forbidden >> s->id & 1u))
		e = -ENOSPC;
	expect_moved(r, s, offset, size, "svm_pin", e);
	if (e == 0) {
		*it = (struct item){ .kind = ITEM_PIN,
				     .region = r,
				     .offset = offset,
				     .size = size,
				     .location = to,
				     .slot = s };
		if (s)
			atomic_fetch_add(&s->n_open, 1u);
	} else if (s) {
		flow_give_room(s, size);
	}
	if (s)
		flow_leave_slot(s);
	if (e == 0 && !s)
		flow_cpu_read(w, r, offset, size);
}

void flow_op_discard(struct worker *w, struct dice *d)
{
	discard(w, d, false);
}

void flow_op_discard_lazy(struct worker *w, struct dice *d)
{
	discard(w, d, true);
}
