/* SPDX-License-Identifier: MIT */
#include "flow_model.h"

#include <stdlib.h>
#include <string.h>

bool flow_model_init(struct flow_model *model, uint64_t size)
{
	*model = (struct flow_model){
		.size = size,
		.value = calloc(1, size),
		.other = calloc(1, size),
		.state = calloc(1, size),
		.pages = calloc(1, size / FLOW_PAGE),
	};
	if (model->value && model->other && model->state && model->pages)
		return true;
	flow_model_finish(model);
	return false;
}

void flow_model_finish(struct flow_model *model)
{
	free(model->value);
	free(model->other);
	free(model->state);
	free(model->pages);
	*model = (struct flow_model){ 0 };
}

void flow_model_mark(struct flow_model *model, uint64_t offset, uint64_t size, uint8_t set,
		     uint8_t clear)
{
	for (uint64_t p = offset / FLOW_PAGE; p * FLOW_PAGE < offset + size; p++)
		model->pages[p] = (uint8_t)((model->pages[p] & ~clear) | set);
}

bool flow_model_marked(const struct flow_model *model, uint64_t offset, uint64_t size,
		       uint8_t marks)
{
	for (uint64_t p = offset / FLOW_PAGE; p * FLOW_PAGE < offset + size; p++)
		if (model->pages[p] & marks)
			return true;
	return false;
}

void flow_model_zero(struct flow_model *model, uint64_t offset, uint64_t size)
{
	memset(model->value + offset, 0, size);
	memset(model->state + offset, FLOW_KNOWN, size);
	flow_model_mark(model, offset, size, 0, FLOW_PAGE_VAGUE | FLOW_PAGE_LAZY | FLOW_PAGE_LOST);
}

/* The part of a span that lies in one page, from offset on. */
static uint64_t piece(uint64_t offset, uint64_t end)
{
	uint64_t stop = offset / FLOW_PAGE * FLOW_PAGE + FLOW_PAGE;

	return (stop < end ? stop : end) - offset;
}

void flow_model_write(struct flow_model *model, uint64_t offset, uint64_t size,
		      const uint8_t *bytes)
{
	uint64_t end = offset + size;
	uint64_t n;

	for (uint64_t at = offset; at < end; at += n, bytes += n) {
		n = piece(at, end);
		if (model->pages[at / FLOW_PAGE] & FLOW_PAGE_LAZY)
			continue;
		memcpy(model->value + at, bytes, n);
		memset(model->state + at, FLOW_KNOWN, n);
	}
}

void flow_model_maybe(struct flow_model *model, uint64_t offset, uint64_t size,
		      const uint8_t *bytes)
{
	for (uint64_t i = 0; i < size; i++) {
		uint64_t at = offset + i;

		if (model->state[at] == FLOW_ANY ||
		    (model->state[at] == FLOW_KNOWN && model->value[at] == bytes[i]))
			continue;
		model->state[at] = model->state[at] == FLOW_KNOWN ? FLOW_EITHER : FLOW_ANY;
		model->other[at] = bytes[i];
	}
	flow_model_mark(model, offset, size, FLOW_PAGE_VAGUE, 0);
}

void flow_model_forget(struct flow_model *model, uint64_t offset, uint64_t size)
{
	memset(model->state + offset, FLOW_ANY, size);
	flow_model_mark(model, offset, size, FLOW_PAGE_VAGUE, 0);
}

/* Compare within one page. */
static uint64_t check_vague(struct flow_model *model, uint64_t at, uint64_t n, const uint8_t *bytes)
{
	for (uint64_t i = 0; i < n; i++) {
		bool right =
			model->state[at + i] == FLOW_ANY || bytes[i] == model->value[at + i] ||
			(model->state[at + i] == FLOW_EITHER && bytes[i] == model->other[at + i]);

		if (!right)
			return i;
		model->value[at + i] = bytes[i];
		model->state[at + i] = FLOW_KNOWN;
	}
	if (n == FLOW_PAGE)
		model->pages[at / FLOW_PAGE] &= (uint8_t)~FLOW_PAGE_VAGUE;
	return n;
}

uint64_t flow_model_check(struct flow_model *model, uint64_t offset, uint64_t size,
			  const uint8_t *bytes)
{
	uint64_t n;

	for (uint64_t done = 0; done < size; done += n) {
		uint64_t at = offset + done;
		uint64_t good;
		uint8_t marks = model->pages[at / FLOW_PAGE];

		n = piece(at, offset + size);
		if (marks & FLOW_PAGE_LAZY)
			continue;
		if (!(marks & FLOW_PAGE_VAGUE) && memcmp(model->value + at, bytes + done, n) == 0)
			continue;
		good = check_vague(model, at, n, bytes + done);
		if (good < n)
			return done + good;
	}
	return size;
}
