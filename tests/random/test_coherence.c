/* SPDX-License-Identifier: MIT */
/*
 * The coherence code on a world that can tell right from wrong (coherence_model.h), twice:
 *
 * explore_*: every state that 2 and 3 agents with 2 pages can reach, by every goal, discard and loss, each
 * step taken apart into its phases, with losses, failures and writes in between. Ends at the first
 * violation and prints the way there.
 * walk: random goals on whole blocks with up to 16 agents, with a seed.
 *
 * usage: random_coherence [--seed N] [--only FILTER]
 */
#include "coherence_model.h"
#include "util.h"

#include <stdlib.h>
#include <time.h>

/* A goal takes a second step when bytes have to pass through the host first, and never more. */
#define STEPS_MAX 2u

static const char *const kind_name[] = { "access", "leave", "discard", "unmap" };
static const char *const mode_name[] = { "migrate", "duplicate", "remote" };

static void print_goal(const struct svm_goal *goal)
{
	print_message("%s", kind_name[goal->kind]);
	if (goal->kind != SVM_GOAL_DISCARD)
		print_message(" agent %u", goal->agent);
	if (goal->kind == SVM_GOAL_LEAVE)
		print_message(" to %u", goal->dest);
	if (goal->kind == SVM_GOAL_ACCESS)
		print_message(" %s%s%s, protect %x", mode_name[goal->mode],
			      goal->write ? " write" : " read", goal->map ? " map" : "",
			      goal->can_protect);
	print_message(", copy %x", goal->can_copy);
}

/* ---- Explorer --------------------------------------------------------------------------------- */

#define X_AGENTS      3u
#define X_PAGES	      2u
#define X_PAGE_STATES 512u
#define X_GOALS	      512u
#define X_KEY_BITS    (4u * X_AGENTS + 2u)

/* In different words of a mask, at the edges of them. */
static const uint16_t x_page_number[X_PAGES] = { 63, 320 };

enum x_event {
	X_START = 0,
	X_DONE = 1,	 /* the step was carried out */
	X_DROPPED = 2,	 /* it was given up half way */
	X_LOST = 3,	 /* a device was lost half way, and the rest given up */
	X_IDLE_LOST = 4, /* a device was lost between steps */
	X_LAZY = 5,	 /* pages were lazily discarded */
};

/* Some way in which a state was reached first. */
struct x_way {
	uint32_t from; /* state */
	uint16_t goal;
	uint8_t event; /* enum x_event */
	uint8_t what;  /* device that was lost, or pages */
};

struct explorer {
	uint32_t n_agents;
	struct svm_goal goals[X_GOALS];
	uint32_t n_goals;
	/* States of one page, numbered as they turn up; a state is a pair of them. */
	uint16_t page_key[X_PAGE_STATES];
	uint16_t page_id[1u << X_KEY_BITS]; /* 1 + number, 0: not seen */
	uint32_t n_page_states;
	uint32_t index[X_PAGE_STATES * X_PAGE_STATES]; /* 1 + number, 0: not seen */
	uint32_t state[X_PAGE_STATES * X_PAGE_STATES];
	struct x_way way[X_PAGE_STATES * X_PAGE_STATES];
	uint32_t n_states;
	uint64_t n_steps;
	uint64_t n_moments; /* worlds checked */
	/* Under way. */
	uint32_t at;
	uint32_t goal;
	const struct svm_goal *running;
};

static struct explorer explorer;

static void x_print_way(const struct x_way *way)
{
	static const char *const event_name[] = { "", "", ", dropped half way",
						  ", half way lost device " };

	if (way->event == X_IDLE_LOST) {
		print_message("lost device %u", way->what);
	} else if (way->event == X_LAZY) {
		print_message("lazily discarded pages %x", way->what);
	} else {
		const struct svm_goal *goal = &explorer.goals[way->goal];

		print_goal(goal);
		print_message(", pages %x%s",
			      svm_mask_test(&goal->pages, x_page_number[0]) |
				      svm_mask_test(&goal->pages, x_page_number[1]) << 1,
			      event_name[way->event]);
		if (way->event == X_LOST)
			print_message("%u", way->what);
	}
	print_message("\n");
}

static void x_describe(const void *data)
{
	const struct explorer *x = data;
	uint32_t way[64];
	uint32_t n = 0;

	for (uint32_t s = x->at; s && n < SVM_ARRAY_SIZE(way); s = x->way[s].from)
		way[n++] = s;
	print_message("the way there, with %u agents:\n", x->n_agents);
	while (n-- > 0)
		x_print_way(&x->way[way[n]]);
	if (x->running) {
		print_goal(x->running);
		print_message(", pages %x: during this\n",
			      svm_mask_test(&x->running->pages, x_page_number[0]) |
				      svm_mask_test(&x->running->pages, x_page_number[1]) << 1);
	}
}

static uint32_t x_page_key(const struct world *w, uint32_t pi)
{
	unsigned int n = x_page_number[pi];
	uint32_t key = svm_mask_test(&w->coh.poisoned, n) |
		       (uint32_t)svm_mask_test(&w->coh.discarded, n) << 1;

	for (uint32_t a = 0; a < w->n_agents; a++) {
		const struct svm_coh_agent *agent = &w->agents[a];
		uint32_t bits = svm_mask_test(&agent->res, n) |
				(uint32_t)svm_mask_test(&agent->map_r, n) << 1 |
				(uint32_t)svm_mask_test(&agent->map_w, n) << 2 |
				(uint32_t)svm_mask_test(&agent->remote, n) << 3;

		key |= bits << (2u + 4u * a);
	}
	return key;
}

static uint32_t x_page_id(struct explorer *x, uint32_t key)
{
	if (!x->page_id[key]) {
		assert_true(x->n_page_states < X_PAGE_STATES);
		x->page_key[x->n_page_states++] = (uint16_t)key;
		x->page_id[key] = (uint16_t)x->n_page_states;
	}
	return x->page_id[key] - 1u;
}

static void x_check(struct explorer *x, struct world *w, bool exact)
{
	world_check(w, exact);
	x->n_moments++;
}

/* The world has come to rest: is this a state not seen before? */
static void x_arrive(struct explorer *x, struct world *w, enum x_event event, uint32_t what)
{
	uint32_t a;
	uint32_t b;
	uint32_t state;

	x_check(x, w, true);
	/* The goals are the same for both pages, so of two states that differ in their order one is enough. */
	a = x_page_id(x, x_page_key(w, 0));
	b = x_page_id(x, x_page_key(w, 1));
	state = a < b ? a * X_PAGE_STATES + b : b * X_PAGE_STATES + a;
	if (x->index[state])
		return;
	/* All that is ever recorded arrives here: what is recorded half way, by way of a dropped step. */
	world_check_record(w);
	x->state[x->n_states] = state;
	x->way[x->n_states] = (struct x_way){ .from = x->at,
					      .goal = (uint16_t)x->goal,
					      .event = (uint8_t)event,
					      .what = (uint8_t)what };
	x->index[state] = ++x->n_states;
}

static void x_set(struct svm_mask *m, unsigned int page, bool set)
{
	if (set)
		svm_mask_set(m, page);
}

static void x_unpack_page(struct world *w, uint32_t pi, uint32_t key)
{
	unsigned int n = x_page_number[pi];
	struct model_page *p = &w->page[pi];

	x_set(&w->coh.poisoned, n, key & 1u);
	x_set(&w->coh.discarded, n, key & 2u);
	p->loose = key & 2u;
	p->latest = 2;
	for (uint32_t a = 0; a < w->n_agents; a++) {
		uint32_t bits = key >> (2u + 4u * a);
		struct svm_coh_agent *agent = &w->agents[a];

		x_set(&agent->res, n, bits & 1u);
		x_set(&agent->map_r, n, bits & 2u);
		x_set(&agent->map_w, n, bits & 4u);
		x_set(&agent->remote, n, bits & 8u);
		p->bytes[a] = bits & 1u ? p->latest : 0;
		p->map[a] = bits & 4u ? MAP_WRITE : bits & 2u ? MAP_READ : MAP_NONE;
		p->target[a] = bits & 8u ? SVM_LOC_HOST : (uint8_t)a;
	}
	/* At rest, holders have the latest bytes and nobody else has any; without holders they are zeros. */
	p->zero = n_holders(w, pi) ? 1 : p->latest;
}

static void x_unpack(const struct explorer *x, uint32_t state, struct world *w,
		     struct model_page *page)
{
	world_init(w, x->n_agents, X_PAGES, x_page_number, page);
	w->describe = x_describe;
	w->describe_data = x;
	x_unpack_page(w, 0, x->page_key[state / X_PAGE_STATES]);
	x_unpack_page(w, 1, x->page_key[state % X_PAGE_STATES]);
	world_records(w, NULL);
}

/* A moment between two phases: the step may be dropped here, or a device lost. */
static void x_moment(struct explorer *x, const struct world *w)
{
	struct model_page page[X_PAGES];
	struct world other;

	for (uint32_t lost = 1; lost < w->n_agents; lost++) {
		world_copy(&other, w, page);
		world_lose(&other, lost);
		world_abandon(&other);
		x_arrive(x, &other, X_LOST, lost);
	}
	world_copy(&other, w, page);
	world_abandon(&other);
	x_arrive(x, &other, X_DROPPED, 0);
}

static void x_finish(struct explorer *x, struct world *w, const struct svm_step *step)
{
	world_data(w, step);
	x_check(x, w, false);
	if (!svm_mask_empty(&step->map))
		x_moment(x, w);
	if (step->agent == SVM_AGENT_CPU) {
		svm_coh_commit_map(&w->coh, step);
		x_check(x, w, false);
		x_moment(x, w);
		world_grant(w, step);
	} else {
		world_grant(w, step);
		svm_coh_commit_map(&w->coh, step);
	}
	x_arrive(x, w, X_DONE, 0);
}

/* Pages where a write would make a difference now, and who would do it. While one place alone has bytes, one
 * version is as good as the next. */
static uint32_t x_writable(const struct world *w, uint32_t *ret_writer)
{
	uint32_t writable = 0;

	for (uint32_t pi = 0; pi < X_PAGES; pi++) {
		const struct model_page *p = &w->page[pi];

		for (uint32_t a = 0; a < w->n_agents; a++) {
			if (!can_write(p, a))
				continue;
			for (uint32_t l = 0; l < w->n_agents; l++) {
				if (l != p->target[a] && p->bytes[l]) {
					writable |= 1u << pi;
					ret_writer[pi] = a;
				}
			}
		}
	}
	return writable;
}

/* Transfers that are still to be done (bit l, bit SVM_AGENT_NONE for the zero pages) complete in any order, and
 * whoever may write does so or not after each. */
static void x_transfers(struct explorer *x, struct world *w, const struct svm_step *step,
			uint32_t todo)
{
	struct model_page page[X_PAGES];
	struct world next;

	if (!todo) {
		x_finish(x, w, step);
		return;
	}
	for (uint32_t l = 0; l <= SVM_AGENT_NONE; l++) {
		struct model_page copied_page[X_PAGES];
		struct world copied;
		uint32_t writer[X_PAGES] = { 0 };
		uint32_t writable;

		if (!(todo & (1u << l)))
			continue;
		world_copy(&copied, w, copied_page);
		world_transfer(&copied, step, l);
		writable = x_writable(&copied, writer);
		for (uint32_t written = 0; written < 1u << X_PAGES; written++) {
			if (written & ~writable)
				continue;
			world_copy(&next, &copied, page);
			for (uint32_t pi = 0; pi < X_PAGES; pi++)
				if (written & (1u << pi))
					agent_writes(&next, pi, writer[pi]);
			x_check(x, &next, false);
			x_moment(x, &next);
			x_transfers(x, &next, step, todo & ~(1u << l));
		}
	}
}

/* Without anybody in between, the goal is reached. */
static void x_reach(struct world *w, const struct svm_goal *goal)
{
	struct model_page page[X_PAGES];
	struct world before;
	struct svm_step step;
	uint32_t n = 0;

	world_copy(&before, w, page);
	while (svm_coh_plan(&w->coh, goal, &step)) {
		if (n++ == STEPS_MAX)
			world_violation(w, "a goal is not reached", SVM_BLOCK_PAGES, goal->agent);
		check_step(w, goal, &step);
		world_records(w, &step);
		world_stop(w, &step);
		for (uint32_t l = 0; l <= SVM_AGENT_NONE; l++)
			if (l == SVM_AGENT_NONE || (step.copies & (1u << l)))
				world_transfer(w, &step, l);
		world_data(w, &step);
		svm_coh_commit_map(&w->coh, &step);
		world_grant(w, &step);
		world_check(w, true);
		world_check_record(w);
		world_records(w, NULL);
	}
	check_reached(w, &before, goal);
}

static void x_goal(struct explorer *x, const struct world *start, const struct svm_goal *goal)
{
	struct model_page page[X_PAGES];
	struct world w;
	struct svm_step step;
	uint32_t todo;

	world_copy(&w, start, page);
	x->running = goal;
	if (!svm_coh_plan(&w.coh, goal, &step)) {
		check_reached(&w, &w, goal);
		return;
	}
	x->n_steps++;
	check_step(&w, goal, &step);
	world_records(&w, &step);
	/* A loss before anything happened is a loss between steps. */
	world_stop(&w, &step);
	x_check(x, &w, false);
	if (step.stops)
		x_moment(x, &w);
	todo = step.copies | (svm_mask_empty(&step.populate) ? 0 : 1u << SVM_AGENT_NONE);
	x_transfers(x, &w, &step, todo);

	world_copy(&w, start, page);
	x_reach(&w, goal);
	x->running = NULL;
}

/* Things that happen to a world at rest without a goal. */
static void x_events(struct explorer *x, const struct world *start)
{
	struct model_page page[X_PAGES];
	struct world w;

	x->running = NULL;
	for (uint32_t lost = 1; lost < x->n_agents; lost++) {
		world_copy(&w, start, page);
		world_lose(&w, lost);
		x_arrive(x, &w, X_IDLE_LOST, lost);
	}
	for (uint32_t pages = 1; pages < 1u << X_PAGES; pages++) {
		struct svm_mask m;

		svm_mask_zero(&m);
		for (uint32_t pi = 0; pi < X_PAGES; pi++)
			x_set(&m, x_page_number[pi], pages & (1u << pi));
		world_copy(&w, start, page);
		world_discard_lazily(&w, &m);
		x_arrive(x, &w, X_LAZY, pages);
	}
}

/* Add the goal for each choice of pages. */
static void x_add(struct explorer *x, struct svm_goal goal)
{
	for (uint32_t pages = 1; pages < 1u << X_PAGES; pages++) {
		assert_true(x->n_goals < X_GOALS);
		svm_mask_zero(&goal.pages);
		for (uint32_t pi = 0; pi < X_PAGES; pi++)
			x_set(&goal.pages, x_page_number[pi], pages & (1u << pi));
		x->goals[x->n_goals++] = goal;
	}
}

/* Every access that agent can ask for. What it can copy matters where another device may be the source, what
 * can be protected matters to duplicates. */
static void x_add_access(struct explorer *x, uint32_t agent)
{
	bool peers = agent != SVM_AGENT_CPU && x->n_agents > 2;

	for (uint32_t mode = 0; mode < SVM_ARRAY_SIZE(mode_name); mode++) {
		for (uint32_t bits = 0; bits < 16; bits++) {
			struct svm_goal goal = { .kind = SVM_GOAL_ACCESS,
						 .mode = (enum svm_coh_mode)mode,
						 .agent = agent,
						 .write = bits & 1u,
						 .map = bits & 2u,
						 .can_protect = bits & 4u ? 0 : ~0u,
						 .can_copy = bits & 8u ? 0 : ~0u };
			bool shares = mode == SVM_COH_DUPLICATE && !goal.write;

			if ((!goal.can_protect && !shares) || (!goal.can_copy && !peers))
				continue;
			x_add(x, goal);
		}
	}
}

static void x_add_goals(struct explorer *x)
{
	for (uint32_t a = 0; a < x->n_agents; a++) {
		x_add_access(x, a);
		x_add(x, (struct svm_goal){ .kind = SVM_GOAL_UNMAP, .agent = a });
		for (uint32_t d = 0; d < x->n_agents; d++) {
			if (d == a)
				continue;
			x_add(x, (struct svm_goal){ .kind = SVM_GOAL_LEAVE,
						    .agent = a,
						    .dest = d,
						    .can_copy = ~0u });
			if (a && d)
				x_add(x, (struct svm_goal){
						 .kind = SVM_GOAL_LEAVE, .agent = a, .dest = d });
		}
	}
	x_add(x, (struct svm_goal){ .kind = SVM_GOAL_DISCARD });
}

static void explore(uint32_t n_agents)
{
	struct explorer *x = &explorer;
	struct model_page page[X_PAGES];
	struct world w;

	memset(x, 0, sizeof(*x));
	x->n_agents = n_agents;
	x_add_goals(x);
	x_page_id(x, 0);
	x_unpack(x, 0, &w, page);
	x_arrive(x, &w, X_START, 0);
	for (x->at = 0; x->at < x->n_states; x->at++) {
		x_unpack(x, x->state[x->at], &w, page);
		x_events(x, &w);
		for (x->goal = 0; x->goal < x->n_goals; x->goal++)
			x_goal(x, &w, &x->goals[x->goal]);
	}
	print_message(
		"%u agents, %u pages: %u states at rest (%u of one page), %llu steps, %llu moments checked\n",
		n_agents, X_PAGES, x->n_states, x->n_page_states, (unsigned long long)x->n_steps,
		(unsigned long long)x->n_moments);
	/* That it went everywhere: what one page can be, the other can be beside it. */
	assert_int_equal(x->n_states, x->n_page_states * (x->n_page_states + 1u) / 2u);
	assert_true(x->n_page_states > 10u);
}

static void explore_2_agents(void **state)
{
	(void)state;
	explore(2);
}

static void explore_3_agents(void **state)
{
	(void)state;
	explore(3);
}

/* ---- Random walk ------------------------------------------------------------------------------ */

#define WALKS	   20u
#define WALK_MOVES 400u

static uint64_t seed;

struct walk {
	uint64_t random;
	uint32_t number;
	uint32_t move;
	const struct svm_goal *goal;
	struct world w;
	struct model_page page[MODEL_PAGES];
};

static uint16_t all_pages[MODEL_PAGES];

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014) */
static uint64_t random_next(struct walk *walk)
{
	uint64_t z = walk->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint32_t random_below(struct walk *walk, uint32_t n)
{
	return (uint32_t)(((random_next(walk) >> 32) * n) >> 32);
}

static void walk_describe(const void *data)
{
	const struct walk *walk = data;

	print_message("walk %u, move %u of --seed %llu", walk->number, walk->move,
		      (unsigned long long)seed);
	if (walk->goal) {
		print_message(": ");
		print_goal(walk->goal);
	}
	print_message("\n");
}

/* A run, single pages, or all. */
static void random_pages(struct walk *walk, struct svm_mask *ret_pages)
{
	uint32_t first = random_below(walk, SVM_BLOCK_PAGES);

	svm_mask_zero(ret_pages);
	switch (random_below(walk, 8)) {
	case 0:
		svm_mask_fill(ret_pages);
		break;
	case 1:
		for (uint32_t i = 0; i < SVM_MASK_WORDS; i++)
			ret_pages->w[i] = random_next(walk);
		break;
	default:
		svm_mask_set_range(ret_pages, first,
				   1u + random_below(walk, SVM_BLOCK_PAGES - first));
		break;
	}
}

static void random_goal(struct walk *walk, struct svm_goal *ret_goal)
{
	uint32_t n_agents = walk->w.n_agents;
	uint32_t kind = random_below(walk, 16);
	struct svm_goal goal = {
		.kind = kind < 3   ? SVM_GOAL_LEAVE
			: kind < 4 ? SVM_GOAL_UNMAP
			: kind < 5 ? SVM_GOAL_DISCARD
				   : SVM_GOAL_ACCESS,
		.mode = (enum svm_coh_mode)random_below(walk, 3),
		.agent = random_below(walk, n_agents),
		.write = random_below(walk, 2),
		.map = random_below(walk, 4) != 0,
		.can_protect = (uint32_t)random_next(walk),
		.can_copy = (uint32_t)random_next(walk),
	};

	goal.dest = (goal.agent + 1u + random_below(walk, n_agents - 1u)) % n_agents;
	random_pages(walk, &goal.pages);
	*ret_goal = goal;
}

static void walk_writes(struct walk *walk)
{
	struct world *w = &walk->w;

	for (uint32_t n = random_below(walk, 64); n > 0; n--) {
		uint32_t pi = random_below(walk, w->n_pages);
		uint32_t a = random_below(walk, w->n_agents);

		if (can_write(&w->page[pi], a))
			agent_writes(w, pi, a);
	}
	world_check(w, false);
	world_check_record(w);
}

/* Between two phases. Returns false when the step ends here. */
static bool walk_moment(struct walk *walk)
{
	struct world *w = &walk->w;

	walk_writes(walk);
	switch (random_below(walk, 32)) {
	case 0:
		world_abandon(w);
		return false;
	case 1:
		world_lose(w, 1u + random_below(walk, w->n_agents - 1u));
		world_abandon(w);
		return false;
	default:
		return true;
	}
}

/* Transfers in some order, agents at work after each. */
static bool walk_transfers(struct walk *walk, const struct svm_step *step)
{
	uint32_t todo = step->copies | 1u << SVM_AGENT_NONE;

	while (todo) {
		uint32_t l = random_below(walk, SVM_AGENT_NONE + 1u);

		if (!(todo & (1u << l)))
			continue;
		todo &= ~(1u << l);
		world_transfer(&walk->w, step, l);
		if (!walk_moment(walk))
			return false;
	}
	return true;
}

static bool walk_step(struct walk *walk, const struct svm_step *step)
{
	struct world *w = &walk->w;

	world_records(w, step);
	if (!walk_moment(walk))
		return false;
	world_stop(w, step);
	if (!walk_moment(walk) || !walk_transfers(walk, step))
		return false;
	world_data(w, step);
	if (!walk_moment(walk))
		return false;
	if (step->agent != SVM_AGENT_CPU) {
		world_grant(w, step);
		svm_coh_commit_map(&w->coh, step);
		return true;
	}
	svm_coh_commit_map(&w->coh, step);
	if (!walk_moment(walk))
		return false;
	world_grant(w, step);
	return true;
}

static void walk_goal(struct walk *walk)
{
	static struct model_page page[MODEL_PAGES];
	static struct world before;
	struct world *w = &walk->w;
	struct svm_goal goal;
	struct svm_step step;
	uint32_t n = 0;
	bool done = true;

	random_goal(walk, &goal);
	walk->goal = &goal;
	world_copy(&before, w, page);
	while (done && svm_coh_plan(&w->coh, &goal, &step)) {
		if (n++ == STEPS_MAX)
			world_violation(w, "a goal is not reached", SVM_BLOCK_PAGES, goal.agent);
		check_step(w, &goal, &step);
		done = walk_step(walk, &step);
		world_records(w, NULL);
		world_check(w, true);
		world_check_record(w);
	}
	if (done)
		check_reached(w, &before, &goal);
	walk->goal = NULL;
}

static void walk_once(uint32_t number)
{
	static struct walk walk;
	struct world *w = &walk.w;

	walk.random = seed + number;
	walk.number = number;
	walk.goal = NULL;
	world_init(w, 2u + random_below(&walk, SVM_AGENTS - 1u), MODEL_PAGES, all_pages, walk.page);
	w->describe = walk_describe;
	w->describe_data = &walk;
	for (walk.move = 0; walk.move < WALK_MOVES; walk.move++) {
		struct svm_mask pages;

		world_records(w, NULL);
		switch (random_below(&walk, 16)) {
		case 0:
			random_pages(&walk, &pages);
			world_discard_lazily(w, &pages);
			break;
		case 1:
			if (random_below(&walk, 4) == 0)
				world_lose(w, 1u + random_below(&walk, w->n_agents - 1u));
			break;
		default:
			walk_goal(&walk);
			break;
		}
		world_records(w, NULL);
		world_check(w, true);
		world_check_record(w);
	}
}

static void walk_on_whole_blocks(void **state)
{
	(void)state;
	print_message("--seed %llu\n", (unsigned long long)seed);
	for (uint16_t i = 0; i < MODEL_PAGES; i++)
		all_pages[i] = i;
	for (uint32_t number = 0; number < WALKS; number++)
		walk_once(number);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(explore_2_agents),
		cmocka_unit_test(explore_3_agents),
		cmocka_unit_test(walk_on_whole_blocks),
	};
	struct timespec now;

	if (clock_gettime(CLOCK_REALTIME, &now)) {
		perror("clock_gettime");
		return 1;
	}
	seed = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	for (int i = 1; i < argc; i += 2) {
		if (i + 1 < argc && strcmp(argv[i], "--seed") == 0) {
			seed = strtoull(argv[i + 1], NULL, 0);
		} else if (i + 1 < argc && strcmp(argv[i], "--only") == 0) {
			cmocka_set_test_filter(argv[i + 1]);
		} else {
			fprintf(stderr, "usage: random_coherence [--seed N] [--only FILTER]\n");
			return 2;
		}
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
