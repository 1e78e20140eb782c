/* SPDX-License-Identifier: MIT */
#include "flow_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct kernel_args {
	uint8_t *dst;
	const uint8_t *src;
	uint64_t size;
	uint64_t key;
};

static void share(uint64_t size, uint64_t index, uint64_t count, uint64_t *ret_from,
		  uint64_t *ret_to)
{
	*ret_from = size * index / count;
	*ret_to = size * (index + 1u) / count;
}

static void kernel_fill(const void *args, uint64_t index, uint64_t count)
{
	const struct kernel_args *a = args;
	uint64_t from;
	uint64_t to;

	share(a->size, index, count, &from, &to);
	for (uint64_t i = from; i < to; i++)
		a->dst[i] = flow_pattern(a->key, i);
}

static void kernel_xor(const void *args, uint64_t index, uint64_t count)
{
	const struct kernel_args *a = args;
	uint64_t from;
	uint64_t to;

	share(a->size, index, count, &from, &to);
	for (uint64_t i = from; i < to; i++)
		a->dst[i] ^= (uint8_t)a->key;
}

static void kernel_add(const void *args, uint64_t index, uint64_t count)
{
	const struct kernel_args *a = args;
	uint64_t from;
	uint64_t to;

	share(a->size, index, count, &from, &to);
	for (uint64_t i = from; i < to; i++)
		a->dst[i] = (uint8_t)(a->src[i] + a->key);
}

struct work_span {
	struct region *region;
	uint64_t offset;
	uint64_t size;
	uint32_t access;
};

/* What acquire may answer besides 0. True: it did, and nothing more can be done. */
static bool acquire_refused(struct slot *s, const struct work_span *spans, unsigned int n,
			    const char *what, int e)
{
	bool forbidden = false;
	bool never = false;
	bool lost = false;

	if (e == 0)
		return false;
	if (flow.config.hostile)
		return true;
	for (unsigned int i = 0; i < n; i++) {
		forbidden |= spans[i].region->forbidden >> s->id & 1u;
		never |= spans[i].region->never;
	}
	if (e == -EIO || e == -ENODEV)
		for (unsigned int i = 0; i < n; i++)
			lost |= flow_find_losses(spans[i].region, spans[i].offset, spans[i].size);
	/* A bind that the kernel refused. */
	if (e == -EIO && s->mortal)
		return true;
	if ((e == -EACCES && forbidden) || (e == -ENOLINK && never) || (e == -EIO && lost) ||
	    e == -ENOSPC)
		return true;
	/* What must not move can only change kind, all of the block at once, and who holds a neighbour keeps it from that. */
	if (e == -EBUSY && never && flow_was_held())
		return true;
	if (e == -ENODEV) {
		flow_expect_lost(s, what, e);
		return true;
	}
	for (unsigned int i = 0; i < n; i++) {
		struct svm_page_residency page = { 0 };

		(void)svm_residency_query(flow.space, spans[i].region->addr + spans[i].offset, 1,
					  &page, 1, NULL);
		(void)fprintf(stderr, "span %u at %p: flags %x devices %x mapped %x\n", i,
			      (void *)(spans[i].region->addr + spans[i].offset), page.flags,
			      page.devices, page.mapped);
		flow_print_events(spans[i].region->addr + spans[i].offset);
		flow_print_mapping(spans[i].region->addr + spans[i].offset);
	}
	flow_fail("%s on device %d (%s): %d", what, (int)(s - flow.slots), s->name, e);
}

/* A device that can fault must not meet memory that it cannot have: it would be lost. */
static bool safe_to_touch(const struct slot *s, const struct work_span *spans, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		struct region *r = spans[i].region;

		if ((s->caps & SVM_CAP_FAULTS) && ((r->forbidden >> s->id & 1u) || r->never))
			return false;
		if (atomic_load(&flow.bytes_lost) &&
		    flow_find_losses(r, spans[i].offset, spans[i].size))
			return false;
	}
	return true;
}

/* A hold of the operation's own, which explains nothing that it is refused. */
static void own_hold_begins(void)
{
	flow_hold_begins();
	flow_current.n_begun++;
}

static void release(struct svm_access *access, struct svm_fence *done)
{
	flow_expect("svm_release", svm_release(access, done), 0);
	flow_hold_ends();
}

static int try_acquire(struct dice *d, struct slot *s, const struct work_span *spans,
		       unsigned int n, struct svm_access **ret_access)
{
	struct svm_access_range ranges[2];
	struct svm_fence *ready;
	int e;

	for (unsigned int i = 0; i < n; i++)
		ranges[i] =
			(struct svm_access_range){ .addr = spans[i].region->addr + spans[i].offset,
						   .size = spans[i].size,
						   .access = spans[i].access };
	if (flow_chance(d, 50))
		return svm_acquire(s->device, ranges, n, 0, ret_access, NULL);
	e = svm_acquire(s->device, ranges, n, 0, ret_access, &ready);
	if (e < 0)
		return e;
	e = svm_fence_wait(ready, -1);
	svm_fence_unref(ready);
	if (e < 0) {
		flow_expect("svm_release after a failed acquire", svm_release(*ret_access, NULL),
			    0);
		*ret_access = NULL;
	}
	return e;
}

/* A launch has not ended well: with memory that could not be had, or its device, it is lost. What a hostile device answers
 * where its pages are wanted is passed on, as far as it is an error of the interface. */
static void launch_failed(struct slot *s, int e)
{
	bool passed_on = flow.config.hostile && (e == -ENOSPC || e == -ENOMEM);

	if (e != -ENODEV && e != -EIO && !passed_on)
		flow_fail("launch on device %d (%s): %d", (int)(s - flow.slots), s->name, e);
	flow_expect_lost(s, "launch", e);
}

/* To be ended with release(). */
static int acquire(struct dice *d, struct slot *s, const struct work_span *spans, unsigned int n,
		   struct svm_access **ret_access)
{
	int e;

	own_hold_begins();
	e = try_acquire(d, s, spans, n, ret_access);
	if (e < 0)
		flow_hold_ends();
	return e;
}

/* A device that runs functions of this program. */
static struct slot *use_launcher(struct dice *d)
{
	struct slot *s = flow_use_slot(d);

	if (!s || (s->caps & SVM_CAP_LAUNCH))
		return s;
	flow_leave_slot(s);
	return NULL;
}

/* Run a kernel with what it takes around it. 0: it ran; 1: it did not start; negative: it did not end well. */
static int launch(struct worker *w, struct dice *d, struct slot *s, const struct work_span *spans,
		  unsigned int n, void (*kernel)(const void *args, uint64_t index, uint64_t count),
		  const struct kernel_args *args)
{
	struct svm_access *access = NULL;
	struct svm_fence *wait = NULL;
	struct svm_fence *done = NULL;
	uint64_t grid = 1u + flow_pick(d, flow_chance(d, 50) ? 4 : 64);
	bool sync = flow_chance(d, 40);
	int e;

	if (!safe_to_touch(s, spans, n))
		return 1;
	if (!(s->caps & SVM_CAP_FAULTS) || flow_chance(d, 40)) {
		e = acquire(d, s, spans, n, &access);
		flow_note(w, "acquire", spans[0].region, (int)(s - flow.slots), spans[0].offset,
			  spans[0].size, spans[0].access, e);
		if (acquire_refused(s, spans, n, "svm_acquire", e))
			return 1;
	}
	if (!sync && flow_chance(d, 30))
		flow_expect("svm_fence_create", svm_fence_create(flow.space, &wait), 0);
	e = svm_soft_launch(s->device, kernel, args, sizeof(*args), grid, wait,
			    sync ? NULL : &done);
	if (e == 0 && !sync && access && flow_chance(d, 70)) {
		release(access, done);
		access = NULL;
	}
	if (wait) {
		flow_expect("svm_fence_signal", svm_fence_signal(wait, 0), 0);
		svm_fence_unref(wait);
	}
	if (e == 0 && !sync) {
		e = svm_fence_wait(done, -1);
		svm_fence_unref(done);
	}
	if (access)
		release(access, NULL);
	flow_note(w, "launch", spans[0].region, (int)(s - flow.slots), spans[0].offset,
		  spans[0].size, grid, e);
	if (e == 0)
		return 0;
	launch_failed(s, e);
	return e;
}

/* What a kernel wrote, in w->buffer: for sure, or perhaps. */
static void wrote(struct worker *w, const struct work_span *span, int status)
{
	if (status == 0)
		flow_model_write(&span->region->model, span->offset, span->size, w->buffer);
	else if (status < 0)
		flow_model_maybe(&span->region->model, span->offset, span->size, w->buffer);
}

void flow_op_launch_fill(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	struct slot *s = r ? use_launcher(d) : NULL;
	struct work_span span = { .region = r, .access = SVM_ACCESS_WRITE };
	struct kernel_args args = { .key = flow_roll(d) };
	int e;

	if (!s)
		return;
	flow_pick_span(d, r, &span.offset, &span.size);
	flow_settle(w, r, span.offset, span.size);
	args.dst = r->addr + span.offset;
	args.size = span.size;
	e = launch(w, d, s, &span, 1, kernel_fill, &args);
	for (uint64_t i = 0; i < span.size && e <= 0; i++)
		w->buffer[i] = flow_pattern(args.key, i);
	wrote(w, &span, e);
	flow_leave_slot(s);
}

/* Bytes of the model, as they are known; false: some are not. */
static bool known_bytes(const struct work_span *span, uint8_t *bytes)
{
	const struct flow_model *m = &span->region->model;

	if (flow_model_marked(m, span->offset, span->size, FLOW_PAGE_VAGUE | FLOW_PAGE_LAZY))
		return false;
	memcpy(bytes, m->value + span->offset, span->size);
	return true;
}

void flow_op_launch_xor(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	struct slot *s = r ? use_launcher(d) : NULL;
	struct work_span span = { .region = r, .access = SVM_ACCESS_WRITE };
	struct kernel_args args = { .key = flow_roll(d) | 1u };
	bool known;
	int e;

	if (!s)
		return;
	flow_pick_span(d, r, &span.offset, &span.size);
	flow_settle(w, r, span.offset, span.size);
	args.dst = r->addr + span.offset;
	args.size = span.size;
	e = launch(w, d, s, &span, 1, kernel_xor, &args);
	known = known_bytes(&span, w->buffer);
	for (uint64_t i = 0; i < span.size && known; i++)
		w->buffer[i] ^= (uint8_t)args.key;
	if (known)
		wrote(w, &span, e);
	else if (e <= 0)
		flow_model_forget(&r->model, span.offset, span.size);
	flow_leave_slot(s);
}

/* Two spans of one worker that have no page in common. */
static bool pick_pair(struct worker *w, struct dice *d, struct work_span *src,
		      struct work_span *dst)
{
	uint64_t size;

	src->region = flow_any_region(w, d);
	dst->region = flow_any_region(w, d);
	if (!src->region)
		return false;
	flow_pick_span(d, src->region, &src->offset, &src->size);
	flow_pick_span(d, dst->region, &dst->offset, &dst->size);
	size = src->size < dst->size ? src->size : dst->size;
	src->size = size;
	dst->size = size;
	src->access = SVM_ACCESS_READ;
	dst->access = SVM_ACCESS_WRITE;
	if (src->region != dst->region)
		return true;
	return src->offset + size + FLOW_PAGE <= dst->offset ||
	       dst->offset + size + FLOW_PAGE <= src->offset;
}

void flow_op_launch_add(struct worker *w, struct dice *d)
{
	struct work_span spans[2];
	struct slot *s;
	struct kernel_args args = { .key = flow_roll(d) & 0xffu };
	bool known;
	int e;

	if (!pick_pair(w, d, &spans[1], &spans[0]))
		return;
	s = use_launcher(d);
	if (!s)
		return;
	for (unsigned int i = 0; i < 2; i++)
		flow_settle(w, spans[i].region, spans[i].offset, spans[i].size);
	args.dst = spans[0].region->addr + spans[0].offset;
	args.src = spans[1].region->addr + spans[1].offset;
	args.size = spans[0].size;
	e = launch(w, d, s, spans, 2, kernel_add, &args);
	known = known_bytes(&spans[1], w->buffer);
	for (uint64_t i = 0; i < args.size && known; i++)
		w->buffer[i] = (uint8_t)(w->buffer[i] + args.key);
	if (known)
		wrote(w, &spans[0], e);
	else if (e <= 0)
		flow_model_forget(&spans[0].region->model, spans[0].offset, spans[0].size);
	flow_leave_slot(s);
}

/* The device reads, into memory that it shares with the test outside the space. */
void flow_op_launch_read(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	struct slot *s = r ? use_launcher(d) : NULL;
	struct work_span span = { .region = r, .access = SVM_ACCESS_READ };
	struct kernel_args args = { .dst = w->scratch };
	int e;

	if (!s)
		return;
	flow_pick_span(d, r, &span.offset, &span.size);
	if (span.size > SCRATCH)
		span.size = SCRATCH;
	flow_settle(w, r, span.offset, span.size);
	args.src = r->addr + span.offset;
	args.size = span.size;
	e = launch(w, d, s, &span, 1, kernel_add, &args);
	if (e == 0)
		flow_check_bytes(w, r, span.offset, span.size, w->scratch, s->name);
	flow_leave_slot(s);
}

/* Two devices read the same at the same time. */
void flow_op_two_readers(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	struct work_span span = { .region = r, .access = SVM_ACCESS_READ };
	struct slot *s[2] = { NULL, NULL };
	struct svm_access *access;
	struct svm_fence *done[2] = { NULL, NULL };
	bool ran[2] = { false, false };
	int e;

	if (!r || flow.config.n_slots < 2)
		return;
	flow_pick_span(d, r, &span.offset, &span.size);
	if (span.size > SCRATCH / 2u)
		span.size = SCRATCH / 2u;
	flow_settle(w, r, span.offset, span.size);
	/* In the order of the slots, so that nobody waits in a circle for who closes one. */
	s[0] = &flow.slots[flow_pick(d, flow.config.n_slots - 1u)];
	s[1] = s[0] + 1;
	for (unsigned int i = 0; i < 2; i++) {
		struct kernel_args args = { .dst = w->scratch + i * SCRATCH / 2u,
					    .src = r->addr + span.offset,
					    .size = span.size };

		(void)pthread_rwlock_rdlock(&s[i]->lock);
		if (!s[i]->device || !(s[i]->caps & SVM_CAP_LAUNCH) ||
		    !safe_to_touch(s[i], &span, 1))
			continue;
		e = acquire(d, s[i], &span, 1, &access);
		flow_note(w, "acquire", r, (int)(s[i] - flow.slots), span.offset, span.size,
			  span.access, e);
		/* Without read-only mappings or duplicates, the first holds it alone. */
		if (e == -EBUSY && i == 1)
			continue;
		if (acquire_refused(s[i], &span, 1, "svm_acquire", e))
			continue;
		e = svm_soft_launch(s[i]->device, kernel_add, &args, sizeof(args),
				    1u + flow_pick(d, 4), NULL, &done[i]);
		ran[i] = e == 0;
		/* Now: a device that can fault may wait for the other one, which must not wait for us. */
		release(access, done[i]);
		if (e < 0) {
			if (e != -ENODEV)
				flow_fail("svm_soft_launch: %d", e);
			flow_expect_lost(s[i], "svm_soft_launch", e);
		}
	}
	for (unsigned int i = 0; i < 2; i++) {
		if (ran[i]) {
			e = svm_fence_wait(done[i], -1);
			flow_note(w, "launch", r, (int)(s[i] - flow.slots), span.offset, span.size,
				  i, e);
			svm_fence_unref(done[i]);
			if (e == 0)
				flow_check_bytes(w, r, span.offset, span.size,
						 w->scratch + i * SCRATCH / 2u, s[i]->name);
			else
				launch_failed(s[i], e);
		}
	}
	flow_leave_slot(s[1]);
	flow_leave_slot(s[0]);
}

static int work_ends(struct slot *s, const struct work_span *spans, unsigned int n,
		     const char *what, int e, struct svm_fence *done)
{
	if (e == 0 && done) {
		e = svm_fence_wait(done, -1);
		svm_fence_unref(done);
	}
	acquire_refused(s, spans, n, what, e);
	return e;
}

void flow_op_device_copy(struct worker *w, struct dice *d)
{
	struct work_span spans[2];
	struct svm_fence *done = NULL;
	struct slot *s;
	bool sync = flow_chance(d, 50);
	bool known;
	int e;

	if (!pick_pair(w, d, &spans[1], &spans[0]))
		return;
	s = flow_use_slot(d);
	if (!s)
		return;
	for (unsigned int i = 0; i < 2; i++)
		flow_settle(w, spans[i].region, spans[i].offset, spans[i].size);
	if ((s->caps & SVM_CAP_WORK) && safe_to_touch(s, spans, 2)) {
		own_hold_begins();
		e = svm_device_copy(s->device, spans[0].region->addr + spans[0].offset,
				    spans[1].region->addr + spans[1].offset, spans[0].size, NULL,
				    sync ? NULL : &done);
		e = work_ends(s, spans, 2, "svm_device_copy", e, done);
		flow_hold_ends();
		flow_note(w, "dst", spans[0].region, (int)(s - flow.slots), spans[0].offset,
			  spans[0].size, spans[1].offset, e);
		known = known_bytes(&spans[1], w->buffer);
		if (known)
			wrote(w, &spans[0], e);
		else
			flow_model_forget(&spans[0].region->model, spans[0].offset, spans[0].size);
	}
	flow_leave_slot(s);
}

void flow_op_device_fill(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	struct slot *s = r ? flow_use_slot(d) : NULL;
	struct work_span span = { .region = r, .access = SVM_ACCESS_WRITE };
	struct svm_fence *done = NULL;
	uint8_t value = (uint8_t)flow_roll(d);
	bool sync = flow_chance(d, 50);
	int e;

	if (!s)
		return;
	flow_pick_span(d, r, &span.offset, &span.size);
	flow_settle(w, r, span.offset, span.size);
	if ((s->caps & SVM_CAP_WORK) && safe_to_touch(s, &span, 1)) {
		own_hold_begins();
		e = svm_device_fill(s->device, r->addr + span.offset, value, span.size, NULL,
				    sync ? NULL : &done);
		e = work_ends(s, &span, 1, "svm_device_fill", e, done);
		flow_hold_ends();
		flow_note(w, NULL, r, (int)(s - flow.slots), span.offset, span.size, value, e);
		memset(w->buffer, value, span.size);
		wrote(w, &span, e);
	}
	flow_leave_slot(s);
}

/* An access that stays open. */
void flow_op_acquire(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	struct item *it = flow_new_item(w);
	struct slot *s = r && it ? flow_use_slot(d) : NULL;
	struct work_span span = { .region = r,
				  .access = flow_chance(d, 50) ? SVM_ACCESS_READ
							       : SVM_ACCESS_WRITE };
	struct svm_access *access;
	int e;

	if (!s)
		return;
	flow_pick_span(d, r, &span.offset, &span.size);
	if (span.size > BLOCK / 2u)
		span.size = BLOCK / 2u;
	if (!flow_take_room(s, span.size)) {
		flow_leave_slot(s);
		return;
	}
	flow_settle(w, r, span.offset, span.size);
	e = acquire(d, s, &span, 1, &access);
	flow_note(w, NULL, r, (int)(s - flow.slots), span.offset, span.size, span.access, e);
	if (acquire_refused(s, &span, 1, "svm_acquire", e)) {
		flow_give_room(s, span.size);
	} else {
		*it = (struct item){ .kind = ITEM_ACCESS,
				     .region = r,
				     .offset = span.offset,
				     .size = span.size,
				     .access = span.access,
				     .handle = access,
				     .slot = s };
		atomic_fetch_add(&s->n_open, 1u);
	}
	flow_leave_slot(s);
}
