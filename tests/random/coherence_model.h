/* SPDX-License-Identifier: MIT */
/*
 * What the coherence code is about, as a world small enough to check after every move: who really maps
 * what, and which version of each page's bytes lies where. Steps are carried out on this world as a
 * transition would on the machine, from the data in the step alone; agents read and write through
 * what is really mapped. The recorded state (struct svm_coh) is then held against it.
 *
 * Every check that fails ends the test by way of world_violation().
 */
#ifndef COHERENCE_MODEL_H
#define COHERENCE_MODEL_H

#include "coherence.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define MODEL_PAGES SVM_BLOCK_PAGES

enum model_map {
	MAP_NONE = 0,
	MAP_READ = 1,
	MAP_WRITE = 2,
};

/* Versions count the contents of a page; 0 is no storage. Zeros are a version like others. */
struct model_page {
	uint32_t latest;
	uint32_t zero;		    /* the version that a zero page shows */
	uint32_t bytes[SVM_AGENTS]; /* by location */
	uint8_t map[SVM_AGENTS];    /* by agent: enum model_map */
	uint8_t target[SVM_AGENTS]; /* location that the mapping points to */
	bool loose;		    /* lazily discarded: content may go */
};

struct world {
	struct svm_coh coh;
	struct svm_coh_agent agents[SVM_AGENTS];
	uint32_t n_agents;
	uint32_t n_pages;
	const uint16_t *page_number; /* place of each page in the block */
	struct model_page *page;
	/* How the world came to be, for whoever reads the failure. */
	void (*describe)(const void *describe_data);
	const void *describe_data;
};

_Noreturn static inline void world_violation(const struct world *w, const char *what, uint32_t pi,
					     uint32_t agent)
{
	if (w->describe)
		w->describe(w->describe_data);
	for (uint32_t i = 0; i < w->n_pages && w->n_pages <= 4; i++) {
		const struct model_page *p = &w->page[i];

		print_message("page %u: latest %u zero %u%s\n", i, p->latest, p->zero,
			      p->loose ? " loose" : "");
		for (uint32_t a = 0; a < w->n_agents; a++)
			print_message(
				"  %u: holds %u version %u, maps %u to %u, recorded r%u w%u remote%u\n",
				a, svm_mask_test(&w->agents[a].res, w->page_number[i]), p->bytes[a],
				p->map[a], p->target[a],
				svm_mask_test(&w->agents[a].map_r, w->page_number[i]),
				svm_mask_test(&w->agents[a].map_w, w->page_number[i]),
				svm_mask_test(&w->agents[a].remote, w->page_number[i]));
	}
	print_message("violation: %s (page %u, agent %u)\n", what, pi, agent);
	fail();
	__builtin_unreachable();
}

static inline bool agent_empty(const struct svm_coh_agent *a)
{
	return svm_mask_empty(&a->res) && svm_mask_empty(&a->map_r);
}

/* As in the library, an agent that holds and maps nothing has no record until a step needs one. */
static inline void world_records(struct world *w, const struct svm_step *step)
{
	for (uint32_t a = 0; a < w->n_agents; a++)
		w->coh.at[a] = agent_empty(&w->agents[a]) ? NULL : &w->agents[a];
	if (!step)
		return;
	w->coh.at[step->dest] = &w->agents[step->dest];
	if (step->agent != SVM_AGENT_NONE)
		w->coh.at[step->agent] = &w->agents[step->agent];
}

static inline void world_init(struct world *w, uint32_t n_agents, uint32_t n_pages,
			      const uint16_t *page_number, struct model_page *page)
{
	memset(w, 0, sizeof(*w));
	w->n_agents = n_agents;
	w->n_pages = n_pages;
	w->page_number = page_number;
	w->page = page;
	memset(page, 0, n_pages * sizeof(*page));
	for (uint32_t i = 0; i < n_pages; i++)
		page[i].latest = page[i].zero = 1;
}

/* page: storage for the pages of dst. */
static inline void world_copy(struct world *dst, const struct world *src, struct model_page *page)
{
	memcpy(page, src->page, src->n_pages * sizeof(*page));
	memcpy(dst->agents, src->agents, src->n_agents * sizeof(dst->agents[0]));
	dst->coh = src->coh;
	for (uint32_t a = 0; a < src->n_agents; a++)
		dst->coh.at[a] = src->coh.at[a] ? &dst->agents[a] : NULL;
	dst->n_agents = src->n_agents;
	dst->n_pages = src->n_pages;
	dst->page_number = src->page_number;
	dst->page = page;
	dst->describe = src->describe;
	dst->describe_data = src->describe_data;
}

static inline bool holds(const struct world *w, uint32_t loc, uint32_t pi)
{
	return svm_mask_test(&w->agents[loc].res, w->page_number[pi]);
}

static inline bool poisoned(const struct world *w, uint32_t pi)
{
	return svm_mask_test(&w->coh.poisoned, w->page_number[pi]);
}

static inline uint32_t n_holders(const struct world *w, uint32_t pi)
{
	uint32_t n = 0;

	for (uint32_t l = 0; l < w->n_agents; l++)
		n += holds(w, l, pi);
	return n;
}

/* Nobody wants the old content any more: zeros are the newest version. */
static inline void page_becomes_zero(struct model_page *p)
{
	p->zero = ++p->latest;
	p->loose = false;
}

/* ---- What agents do --------------------------------------------------------------------------- */

static inline bool can_write(const struct model_page *p, uint32_t agent)
{
	return p->map[agent] == MAP_WRITE;
}

static inline void agent_writes(struct world *w, uint32_t pi, uint32_t agent)
{
	struct model_page *p = &w->page[pi];

	if (!p->bytes[p->target[agent]])
		world_violation(w, "writes to storage that was given back", pi, agent);
	p->bytes[p->target[agent]] = ++p->latest;
}

/* Every agent reads through every mapping it has. */
static inline void agents_read(const struct world *w, uint32_t pi)
{
	const struct model_page *p = &w->page[pi];

	for (uint32_t a = 0; a < w->n_agents; a++)
		if (p->map[a] && p->bytes[p->target[a]] != p->latest)
			world_violation(w, "I5: reads an old version", pi, a);
}

/* ---- What must hold between any two moves ----------------------------------------------------- */

static inline void check_mapping(const struct world *w, uint32_t pi, uint32_t a, bool exact)
{
	const struct model_page *p = &w->page[pi];
	const struct svm_coh_agent *agent = &w->agents[a];
	unsigned int n = w->page_number[pi];
	bool r = svm_mask_test(&agent->map_r, n);
	bool remote = svm_mask_test(&agent->remote, n);
	enum model_map recorded = svm_mask_test(&agent->map_w, n) ? MAP_WRITE
				  : r				  ? MAP_READ
								  : MAP_NONE;

	if ((recorded == MAP_WRITE && !r) || (remote && (!r || a == SVM_AGENT_CPU)))
		world_violation(w, "record contradicts itself", pi, a);
	if (p->map[a] > recorded || (exact && p->map[a] != recorded))
		world_violation(w, "mapping and record differ", pi, a);
	if (p->map[a] && p->target[a] != (remote ? SVM_LOC_HOST : a))
		world_violation(w, "mapping points elsewhere than recorded", pi, a);
	if (r && !holds(w, remote ? SVM_LOC_HOST : a, pi))
		world_violation(w, "I2: maps a location without the bytes", pi, a);
}

static inline void check_writers(const struct world *w, uint32_t pi)
{
	const struct model_page *p = &w->page[pi];

	for (uint32_t a = 0; a < w->n_agents; a++) {
		if (p->map[a] != MAP_WRITE)
			continue;
		if (n_holders(w, pi) != 1)
			world_violation(w, "I1: a writer and several holders", pi, a);
		for (uint32_t b = 0; b < w->n_agents; b++)
			if (p->map[b] && p->target[b] != p->target[a])
				world_violation(w, "I1: a writer and a mapping elsewhere", pi, b);
	}
}

/* exact: no step is under way, so what is recorded is also true, and nothing lies about. */
static inline void world_check(struct world *w, bool exact)
{
	for (uint32_t i = 0; i < w->n_pages; i++) {
		struct model_page *p = &w->page[i];

		for (uint32_t a = 0; a < w->n_agents; a++) {
			check_mapping(w, i, a, exact);
			if (holds(w, a, i) && p->bytes[a] != p->latest)
				world_violation(w, "I3: a holder lacks the current bytes", i, a);
			if (exact && !holds(w, a, i) && p->bytes[a])
				world_violation(w, "storage is kept without use", i, a);
			if (poisoned(w, i) && (holds(w, a, i) || p->map[a]))
				world_violation(w, "I5: poisoned, yet held or mapped", i, a);
		}
		check_writers(w, i);
		agents_read(w, i);
		if (!p->loose && svm_mask_test(&w->coh.discarded, w->page_number[i]))
			world_violation(w, "marks as discarded what nobody discarded", i,
					SVM_AGENT_NONE);
		/* The code may keep what it was allowed to lose; from then on it must. */
		p->loose = svm_mask_test(&w->coh.discarded, w->page_number[i]);
	}
}

/* The library's own check agrees. */
static inline void world_check_record(const struct world *w)
{
	const char *broken = svm_coh_check(&w->coh);

	if (broken)
		world_violation(w, broken, SVM_BLOCK_PAGES, SVM_AGENT_NONE);
}

/* ---- A step, as a transition carries it out --------------------------------------------------- */

static inline void mask_within(const struct world *w, const struct svm_mask *m,
			       const struct svm_mask *in, const char *what)
{
	if (!svm_mask_subset(m, in))
		world_violation(w, what, SVM_BLOCK_PAGES, SVM_AGENT_NONE);
}

static inline void mask_apart(const struct world *w, const struct svm_mask *a,
			      const struct svm_mask *b, const char *what)
{
	if (svm_mask_intersects(a, b))
		world_violation(w, what, SVM_BLOCK_PAGES, SVM_AGENT_NONE);
}

/* The parts of a step about agent and location l. */
static inline void check_step_of(const struct world *w, const struct svm_goal *goal,
				 const struct svm_step *step, uint32_t l, struct svm_mask *arrives)
{
	const struct svm_coh_agent *at = &w->agents[l];
	bool stops = !svm_mask_empty(&step->revoke[l]) || !svm_mask_empty(&step->protect[l]);
	bool direct = l == SVM_LOC_HOST || step->dest == SVM_LOC_HOST ||
		      (goal->can_copy & (1u << l));

	if (stops != !!(step->stops & (1u << l)) ||
	    svm_mask_empty(&step->copy[l]) == !!(step->copies & (1u << l)) ||
	    svm_mask_empty(&step->drop[l]) == !!(step->drops & (1u << l)))
		world_violation(w, "step: summary bits differ from the masks", SVM_BLOCK_PAGES, l);
	mask_within(w, &step->revoke[l], &at->map_r, "step: revokes what is not mapped");
	mask_within(w, &step->protect[l], &at->map_w, "step: protects what is not writable");
	mask_apart(w, &step->protect[l], &step->revoke[l],
		   "step: revokes and protects the same page");
	if (!svm_mask_empty(&step->protect[l]) && !(goal->can_protect & (1u << l)))
		world_violation(w, "step: protects an agent that cannot be", SVM_BLOCK_PAGES, l);
	mask_within(w, &step->copy[l], &at->res, "step: copies from where the bytes are not");
	mask_apart(w, &step->copy[l], &w->agents[step->dest].res,
		   "step: copies to where the bytes are");
	mask_apart(w, &step->copy[l], arrives, "step: copies a page twice");
	if (!svm_mask_empty(&step->copy[l]) && (l == step->dest || !direct))
		world_violation(w, "step: copies over a path that does not exist", SVM_BLOCK_PAGES,
				l);
	svm_mask_or(arrives, &step->copy[l]);
	mask_within(w, &step->drop[l], &at->res, "step: drops what is not held");
	if (l == step->dest && !step->discard && (step->drops & (1u << l)))
		world_violation(w, "step: drops what has just arrived", SVM_BLOCK_PAGES, l);
	mask_within(w, &step->revoke[l], &step->pages, "step: revokes other pages");
	mask_within(w, &step->protect[l], &step->pages, "step: protects other pages");
	mask_within(w, &step->copy[l], &step->pages, "step: copies other pages");
	mask_within(w, &step->drop[l], &step->pages, "step: drops other pages");
}

/* What whoever carries the step out relies on. */
static inline void check_step(const struct world *w, const struct svm_goal *goal,
			      const struct svm_step *step)
{
	struct svm_mask arrives = step->populate;
	struct svm_mask populated;

	if (svm_mask_empty(&step->pages))
		world_violation(w, "step: about nothing", SVM_BLOCK_PAGES, SVM_AGENT_NONE);
	mask_within(w, &step->pages, &goal->pages, "step: about other pages than the goal");
	svm_coh_populated(&w->coh, &populated);
	mask_apart(w, &step->populate, &populated, "step: zeroes a page with content");
	mask_apart(w, &step->populate, &w->coh.poisoned, "step: zeroes a poisoned page");
	mask_within(w, &step->populate, &step->pages, "step: populates other pages");
	for (uint32_t l = 0; l < w->n_agents; l++)
		check_step_of(w, goal, step, l, &arrives);
	mask_within(w, &step->map, &step->pages, "step: maps other pages");
	mask_within(w, &step->map_w, &step->map, "step: writable pages it does not map");
	if (step->agent == SVM_AGENT_NONE && !svm_mask_empty(&step->map))
		world_violation(w, "step: maps for nobody", SVM_BLOCK_PAGES, SVM_AGENT_NONE);
}

static inline void world_stop(struct world *w, const struct svm_step *step)
{
	for (uint32_t i = 0; i < w->n_pages; i++) {
		for (uint32_t a = 0; a < w->n_agents; a++) {
			if (!(step->stops & (1u << a)))
				continue;
			if (svm_mask_test(&step->revoke[a], w->page_number[i]))
				w->page[i].map[a] = MAP_NONE;
			if (svm_mask_test(&step->protect[a], w->page_number[i]))
				w->page[i].map[a] = MAP_READ;
		}
	}
	svm_coh_commit_stop(&w->coh, step);
}

/* from == SVM_AGENT_NONE: the zero pages. */
static inline void world_transfer(struct world *w, const struct svm_step *step, uint32_t from)
{
	const struct svm_mask *pages = from == SVM_AGENT_NONE ? &step->populate : &step->copy[from];

	for (uint32_t i = 0; i < w->n_pages; i++) {
		struct model_page *p = &w->page[i];

		if (svm_mask_test(pages, w->page_number[i]))
			p->bytes[step->dest] = from == SVM_AGENT_NONE ? p->zero : p->bytes[from];
	}
}

static inline void world_data(struct world *w, const struct svm_step *step)
{
	svm_coh_commit_data(&w->coh, step);
	for (uint32_t i = 0; i < w->n_pages; i++) {
		struct model_page *p = &w->page[i];
		unsigned int n = w->page_number[i];
		bool had_bytes = false;
		bool has_bytes = false;

		for (uint32_t l = 0; l < w->n_agents; l++) {
			had_bytes |= p->bytes[l] != 0;
			if ((step->drops & (1u << l)) && svm_mask_test(&step->drop[l], n))
				p->bytes[l] = 0;
			has_bytes |= p->bytes[l] != 0;
		}
		if (step->discard && svm_mask_test(&step->pages, n)) {
			page_becomes_zero(p);
		} else if (had_bytes && !has_bytes) {
			if (!p->loose)
				world_violation(w, "I3: the last copy is dropped", i,
						SVM_AGENT_NONE);
			page_becomes_zero(p);
		}
	}
}

static inline void world_grant(struct world *w, const struct svm_step *step)
{
	if (step->agent == SVM_AGENT_NONE)
		return;
	for (uint32_t i = 0; i < w->n_pages; i++) {
		struct model_page *p = &w->page[i];
		uint8_t target = step->remote ? SVM_LOC_HOST : (uint8_t)step->agent;

		if (!svm_mask_test(&step->map, w->page_number[i]))
			continue;
		/* A driver may refuse to replace a binding. */
		if (p->map[step->agent] && p->target[step->agent] != target)
			world_violation(w, "step: maps over a mapping of another place", i,
					step->agent);
		p->map[step->agent] = svm_mask_test(&step->map_w, w->page_number[i]) ? MAP_WRITE
										     : MAP_READ;
		p->target[step->agent] = target;
	}
}

/* The rest of a step is dropped: what was fetched and not recorded is given back. A CPU mapping that is recorded and
 * was not granted counts as granted: that is the stronger adversary. */
static inline void world_abandon(struct world *w)
{
	for (uint32_t i = 0; i < w->n_pages; i++) {
		struct model_page *p = &w->page[i];

		for (uint32_t l = 0; l < w->n_agents; l++)
			if (!holds(w, l, i))
				p->bytes[l] = 0;
		if (svm_mask_test(&w->agents[SVM_AGENT_CPU].map_r, w->page_number[i])) {
			p->map[SVM_AGENT_CPU] =
				svm_mask_test(&w->agents[SVM_AGENT_CPU].map_w, w->page_number[i])
					? MAP_WRITE
					: MAP_READ;
			p->target[SVM_AGENT_CPU] = SVM_LOC_HOST;
		}
	}
}

/* Device memory loc is gone. In the middle of a step, world_abandon() follows. */
static inline void world_lose(struct world *w, uint32_t loc)
{
	struct svm_mask lost;
	struct svm_mask had = w->agents[loc].res;
	struct svm_mask before = w->coh.poisoned;

	svm_coh_lose(&w->coh, loc, &lost);
	for (uint32_t i = 0; i < w->n_pages; i++) {
		struct model_page *p = &w->page[i];
		unsigned int n = w->page_number[i];
		bool gone;

		p->bytes[loc] = 0;
		p->map[loc] = MAP_NONE;
		gone = svm_mask_test(&had, n) && n_holders(w, i) == 0;
		if (svm_mask_test(&lost, n) != (gone && !p->loose))
			world_violation(w, "I5: a loss is reported wrongly", i, loc);
		if (poisoned(w, i) != (svm_mask_test(&before, n) || svm_mask_test(&lost, n)))
			world_violation(w, "I5: a lost page is not poisoned", i, loc);
		if (gone && p->loose)
			page_becomes_zero(p);
	}
}

/* Lazy discard, as its caller does it: pages with content may lose it. */
static inline void world_discard_lazily(struct world *w, const struct svm_mask *pages)
{
	struct svm_mask m;

	svm_coh_populated(&w->coh, &m);
	svm_mask_and(&m, pages);
	svm_mask_or(&w->coh.discarded, &m);
	for (uint32_t i = 0; i < w->n_pages; i++)
		if (svm_mask_test(&m, w->page_number[i]))
			w->page[i].loose = true;
}

/* ---- What a goal promises --------------------------------------------------------------------- */

static inline void check_access(const struct world *w, const struct world *before,
				const struct svm_goal *goal, uint32_t pi)
{
	const struct model_page *p = &w->page[pi];
	const struct model_page *old = &before->page[pi];
	uint32_t dest = goal->mode == SVM_COH_REMOTE ? SVM_LOC_HOST : goal->agent;
	bool shares = goal->mode == SVM_COH_DUPLICATE && !goal->write;
	bool was_alone = holds(before, dest, pi) && n_holders(before, pi) == 1;

	if (!holds(w, dest, pi))
		world_violation(w, "access: the bytes are not there", pi, goal->agent);
	if (goal->map && (!p->map[goal->agent] || p->target[goal->agent] != dest))
		world_violation(w, "access: not mapped", pi, goal->agent);
	if (goal->map && goal->write && p->map[goal->agent] != MAP_WRITE)
		world_violation(w, "access: may not write", pi, goal->agent);
	if (!shares && n_holders(w, pi) != 1)
		world_violation(w, "access: not the only holder", pi, goal->agent);
	if (svm_mask_test(&w->coh.discarded, w->page_number[pi]))
		world_violation(w, "access: bytes that are wanted again may still go", pi,
				goal->agent);
	for (uint32_t a = 0; a < w->n_agents; a++) {
		bool writer_goes = shares && !was_alone && old->map[a] == MAP_WRITE;
		enum model_map least =
			writer_goes ? (goal->can_protect & (1u << a) ? MAP_READ : MAP_NONE)
				    : old->map[a];

		if (shares && holds(before, a, pi) && !holds(w, a, pi))
			world_violation(w, "access: a duplicate took a copy away", pi, a);
		if (a == goal->agent || (!shares && old->target[a] != dest))
			continue;
		if (p->map[a] < least)
			world_violation(w, "access: another agent lost a mapping that could stay",
					pi, a);
	}
}

static inline void check_leave(const struct world *w, const struct world *before,
			       const struct svm_goal *goal, uint32_t pi)
{
	const struct model_page *p = &w->page[pi];
	const struct model_page *old = &before->page[pi];
	bool direct = goal->agent == SVM_LOC_HOST || goal->dest == SVM_LOC_HOST ||
		      (goal->can_copy & (1u << goal->agent));
	bool was_alone = holds(before, goal->agent, pi) && n_holders(before, pi) == 1;

	if (holds(w, goal->agent, pi))
		world_violation(w, "leave: still there", pi, goal->agent);
	if (was_alone && !old->loose && !holds(w, direct ? goal->dest : SVM_LOC_HOST, pi))
		world_violation(w, "leave: did not arrive", pi, goal->dest);
	if (was_alone && old->loose && n_holders(w, pi))
		world_violation(w, "leave: discarded bytes were copied", pi, goal->dest);
	for (uint32_t a = 0; a < w->n_agents; a++) {
		if (a != goal->agent && holds(before, a, pi) && !holds(w, a, pi))
			world_violation(w, "leave: another holder lost its bytes", pi, a);
		if (old->map[a] && old->target[a] != goal->agent && p->map[a] != old->map[a])
			world_violation(w, "leave: a mapping of another place changed", pi, a);
	}
}

static inline void check_unmap(const struct world *w, const struct world *before,
			       const struct svm_goal *goal, uint32_t pi)
{
	for (uint32_t a = 0; a < w->n_agents; a++) {
		if (holds(w, a, pi) != holds(before, a, pi))
			world_violation(w, "unmap: bytes moved", pi, a);
		if (w->page[pi].map[a] != (a == goal->agent ? MAP_NONE : before->page[pi].map[a]))
			world_violation(w, "unmap: wrong mapping afterwards", pi, a);
	}
}

static inline void check_discard(const struct world *w, uint32_t pi)
{
	if (n_holders(w, pi) || poisoned(w, pi) ||
	    svm_mask_test(&w->coh.discarded, w->page_number[pi]))
		world_violation(w, "discard: something is left", pi, SVM_AGENT_NONE);
}

static inline void check_frame_of(const struct world *w, const struct svm_mask *now,
				  const struct svm_mask *old, const struct svm_goal *goal,
				  uint32_t agent)
{
	for (uint32_t i = 0; i < SVM_MASK_WORDS; i++)
		if ((now->w[i] ^ old->w[i]) & ~goal->pages.w[i])
			world_violation(w, "a page outside the goal changed", i * 64u, agent);
}

/* Pages that the goal is not about are as they were. */
static inline void check_frame(const struct world *w, const struct world *before,
			       const struct svm_goal *goal)
{
	for (uint32_t a = 0; a < w->n_agents; a++) {
		check_frame_of(w, &w->agents[a].res, &before->agents[a].res, goal, a);
		check_frame_of(w, &w->agents[a].map_r, &before->agents[a].map_r, goal, a);
		check_frame_of(w, &w->agents[a].map_w, &before->agents[a].map_w, goal, a);
		check_frame_of(w, &w->agents[a].remote, &before->agents[a].remote, goal, a);
	}
	check_frame_of(w, &w->coh.poisoned, &before->coh.poisoned, goal, SVM_AGENT_NONE);
	check_frame_of(w, &w->coh.discarded, &before->coh.discarded, goal, SVM_AGENT_NONE);
}

/* The goal was set in before and svm_coh_plan() sees nothing left to do for it in w. */
static inline void check_reached(const struct world *w, const struct world *before,
				 const struct svm_goal *goal)
{
	struct svm_mask satisfied;
	struct svm_mask expected = goal->pages;

	for (uint32_t i = 0; i < w->n_pages; i++) {
		if (!svm_mask_test(&goal->pages, w->page_number[i]))
			continue;
		switch (goal->kind) {
		case SVM_GOAL_ACCESS:
			/* There is no way to get at these; whoever asks is told. */
			if (poisoned(before, i) && poisoned(w, i))
				svm_mask_clear(&expected, w->page_number[i]);
			else
				check_access(w, before, goal, i);
			break;
		case SVM_GOAL_LEAVE:
			check_leave(w, before, goal, i);
			break;
		case SVM_GOAL_UNMAP:
			check_unmap(w, before, goal, i);
			break;
		case SVM_GOAL_DISCARD:
			check_discard(w, i);
			break;
		}
	}
	svm_coh_satisfied(&w->coh, goal, &satisfied);
	if (!svm_mask_equal(&satisfied, &expected))
		world_violation(w, "svm_coh_satisfied() does not say what is true", SVM_BLOCK_PAGES,
				goal->agent);
	check_frame(w, before, goal);
}

#endif
