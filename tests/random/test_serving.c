/* SPDX-License-Identifier: MIT */
/*
 * One block and all that can come together on it: faults, acquires and releases, evictions, discards, changes of hints,
 * losses, in every order, also while a step is under way and between its parts. What to do is decided by the library's
 * own coherence.c and policy.c; who goes first and what stands in whose way are the rules of serve.c, written down
 * once more here, as values. test_coherence.c looks at the bytes; this at the requests:
 *
 *  - the invariants of coherence.h hold in each state, as recorded;
 *  - what is held stays mapped as it was promised, and nobody else writes it (I4);
 *  - who is told that he has something has it;
 *  - every request is answered: from each state, with nothing more asked for, releases and completions lead to an
 *    empty queue.
 *
 * Agent 0 is the CPU, 1 a device without recoverable faults, 2 one with.
 */
#include "coherence.h"
#include "policy.h"
#include "util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#define PAGES	  2u
#define AGENTS	  3u
#define BOTH	  ((1u << PAGES) - 1u)
#define QUEUE	  2u
#define TABLE	  (1u << 23)
#define DRAIN_MAX 200u

/* In different words of a mask. */
static const uint16_t page_number[PAGES] = { 63, 320 };

enum kind {
	NOTHING = 0,
	FAULT = 1,
	ACQUIRE = 2,
	LEAVE = 3, /* an eviction, which never waits */
	DISCARD = 4,
};

/* All of a state is in bytes without padding: states are compared and hashed as memory. */
struct request {
	uint8_t kind;
	uint8_t agent;
	uint8_t write;
	uint8_t pages; /* bit masks of pages */
	uint8_t left;
};

struct hold {
	uint8_t pages; /* 0: none */
	uint8_t write;
	uint8_t released;
};

enum part {
	IDLE = 0,
	STOPPING = 1,
	COPYING = 2,
	MAPPING = 3,
};

struct record {
	uint8_t res[PAGES]; /* bit a: agent or location a */
	uint8_t map_r[PAGES];
	uint8_t map_w[PAGES];
	uint8_t remote[PAGES];
	uint8_t poisoned;
	uint8_t discarded;
};

struct state {
	struct record now;
	struct record base; /* when the step under way was planned */
	struct request queue[QUEUE];
	struct hold holds[AGENTS];
	uint8_t part;	/* enum part, of the step for the request of this number: */
	uint8_t served; /* index in the queue */
	uint8_t goal_kind;
	uint8_t goal_mode;
	uint8_t goal_pages;
	uint8_t hints;
	uint8_t lost;  /* devices that died */
	uint8_t dealt; /* of them, those that the block knows to be dead */
};
_Static_assert(_Alignof(struct state) == 1, "states are compared as bytes");

/* What the devices of a run can do. */
struct setting {
	uint32_t n_agents;
	bool reaches_host;
	bool read_only;
	bool peers;
	unsigned int n_queue; /* requests at a time, with the one being served */
	unsigned int n_hints; /* of hint_sets, that are given */
	bool cpu_holds;	      /* the CPU acquires, too */
};

static const struct svm_hints hint_sets[] = {
	{ .granularity_shift = 21 },
	{ .granularity_shift = 21, .preferred = { .kind = SVM_LOCATION_HOST } },
	{ .granularity_shift = 21, .read_mostly = 1 },
};
#define N_HINTS SVM_ARRAY_SIZE(hint_sets)

static const char *const kind_name[] = { "nothing", "fault", "acquire", "leave", "discard" };
static const char *const part_name[] = { "idle", "stopping", "copying", "mapping" };

static struct {
	struct setting set;
	struct state *states;
	uint32_t *from;
	uint32_t *slots; /* 1 + number of a state */
	uint8_t *drains; /* from this state, what is asked for is answered */
	uint32_t n_states;
	uint32_t at;
	uint64_t n_steps;
	uint64_t n_answered;
	/* The state being made, as the library has it. */
	struct svm_coh coh;
	struct svm_coh_agent agents[AGENTS];
	const char *event;
} x;

/* ---- Reports ---------------------------------------------------------------------------------- */

static void print_state(const struct state *s)
{
	print_message("  %s", part_name[s->part]);
	if (s->part)
		print_message(" for request %u", s->served);
	print_message(", hints %u, lost %x dealt %x, poisoned %x, discarded %x\n", s->hints,
		      s->lost, s->dealt, s->now.poisoned, s->now.discarded);
	for (unsigned int p = 0; p < PAGES; p++)
		print_message("    page %u: held by %x, read %x, write %x, in place %x\n", p,
			      s->now.res[p], s->now.map_r[p], s->now.map_w[p], s->now.remote[p]);
	for (unsigned int i = 0; i < QUEUE && s->queue[i].kind; i++)
		print_message("    request %u: %s of %u, %s, pages %x, left %x\n", i,
			      kind_name[s->queue[i].kind], s->queue[i].agent,
			      s->queue[i].write ? "write" : "read", s->queue[i].pages,
			      s->queue[i].left);
	for (unsigned int a = 0; a < AGENTS; a++)
		if (s->holds[a].pages)
			print_message("    hold of %u: pages %x%s%s\n", a, s->holds[a].pages,
				      s->holds[a].write ? ", write" : "",
				      s->holds[a].released ? ", released" : "");
}

_Noreturn static void violation(const struct state *s, const char *what)
{
	uint32_t way[64];
	unsigned int n = 0;

	for (uint32_t at = x.at; n < SVM_ARRAY_SIZE(way); at = x.from[at]) {
		way[n++] = at;
		if (at == 0)
			break;
	}
	while (n > 0)
		print_state(&x.states[way[--n]]);
	print_message("then: %s\n", x.event);
	print_state(s);
	print_message("violation: %s\n", what);
	fail();
	__builtin_unreachable();
}

/* ---- Between bytes and masks ------------------------------------------------------------------ */

static void set_page(struct svm_mask *m, unsigned int p, bool on)
{
	if (on)
		svm_mask_set(m, page_number[p]);
}

static void to_mask(uint8_t pages, struct svm_mask *ret)
{
	svm_mask_zero(ret);
	for (unsigned int p = 0; p < PAGES; p++)
		set_page(ret, p, pages >> p & 1u);
}

static uint8_t of_mask(const struct svm_mask *m)
{
	uint8_t pages = 0;

	for (unsigned int p = 0; p < PAGES; p++)
		pages |= (uint8_t)(svm_mask_test(m, page_number[p]) << p);
	return pages;
}

static void load(const struct record *r)
{
	memset(&x.coh, 0, sizeof(x.coh));
	memset(x.agents, 0, sizeof(x.agents));
	to_mask(r->poisoned, &x.coh.poisoned);
	to_mask(r->discarded, &x.coh.discarded);
	for (uint32_t a = 0; a < x.set.n_agents; a++) {
		x.coh.at[a] = &x.agents[a];
		for (unsigned int p = 0; p < PAGES; p++) {
			set_page(&x.agents[a].res, p, r->res[p] >> a & 1u);
			set_page(&x.agents[a].map_r, p, r->map_r[p] >> a & 1u);
			set_page(&x.agents[a].map_w, p, r->map_w[p] >> a & 1u);
			set_page(&x.agents[a].remote, p, r->remote[p] >> a & 1u);
		}
	}
}

static void store(struct record *r)
{
	memset(r, 0, sizeof(*r));
	r->poisoned = of_mask(&x.coh.poisoned);
	r->discarded = of_mask(&x.coh.discarded);
	for (uint32_t a = 0; a < x.set.n_agents; a++) {
		const struct svm_coh_agent *agent = &x.agents[a];

		for (unsigned int p = 0; p < PAGES; p++) {
			r->res[p] |= (uint8_t)(svm_mask_test(&agent->res, page_number[p]) << a);
			r->map_r[p] |= (uint8_t)(svm_mask_test(&agent->map_r, page_number[p]) << a);
			r->map_w[p] |= (uint8_t)(svm_mask_test(&agent->map_w, page_number[p]) << a);
			r->remote[p] |=
				(uint8_t)(svm_mask_test(&agent->remote, page_number[p]) << a);
		}
	}
}

/* Pages that an agent maps as recorded. */
static uint8_t mapped(const struct state *s, uint32_t agent, bool write)
{
	uint8_t pages = 0;

	for (unsigned int p = 0; p < PAGES; p++)
		pages |=
			(uint8_t)(((write ? s->now.map_w[p] : s->now.map_r[p]) >> agent & 1u) << p);
	return pages;
}

/* ---- What must hold --------------------------------------------------------------------------- */

static void check(const struct state *s)
{
	const char *broken;

	load(&s->now);
	broken = svm_coh_check(&x.coh);
	if (broken)
		violation(s, broken);
	for (uint32_t a = 0; a < x.set.n_agents; a++) {
		const struct hold *h = &s->holds[a];

		/* A device that died uses nothing any more. */
		if (!h->pages || (s->lost & (1u << a)))
			continue;
		if (h->pages & ~mapped(s, a, h->write))
			violation(s, "I4: what is held is not mapped");
		for (uint32_t b = 0; b < a; b++)
			if ((h->pages & s->holds[b].pages) && (h->write || s->holds[b].write) &&
			    !(s->lost & (1u << b)))
				violation(s, "I4: what one agent holds to write, another holds");
	}
}

/* ---- The rules of serve.c --------------------------------------------------------------------- */

enum verdict {
	DONE,
	WAIT,
	START,
	AGAIN,
};

enum conflict {
	NO_CONFLICT,
	PASSES,
	HELD,
};

static uint8_t step_pages(const struct svm_step *step, uint32_t agent, bool protect)
{
	if (!(step->stops & (1u << agent)))
		return 0;
	return of_mask(protect ? &step->protect[agent] : &step->revoke[agent]);
}

static enum conflict find_conflict(const struct state *s, const struct svm_step *step)
{
	enum conflict found = NO_CONFLICT;

	for (uint32_t a = 0; a < AGENTS; a++) {
		const struct hold *h = &s->holds[a];
		uint8_t stops = step_pages(step, a, false);

		if (!h->pages || (s->dealt & (1u << a)))
			continue;
		if (h->write)
			stops |= step_pages(step, a, true);
		if (!(stops & h->pages))
			continue;
		if (!h->released)
			return HELD;
		found = PASSES;
	}
	return found;
}

static enum conflict hold_clash(const struct state *s, const struct request *r)
{
	enum conflict found = NO_CONFLICT;

	for (uint32_t a = 0; a < AGENTS; a++) {
		const struct hold *h = &s->holds[a];

		if (a == r->agent || !(h->pages & r->pages) || (s->dealt & (1u << a)) ||
		    (!h->write && !r->write))
			continue;
		if (!h->released)
			return HELD;
		found = PASSES;
	}
	return found;
}

static uint8_t held_by_others(const struct state *s, uint32_t agent)
{
	uint8_t pages = 0;

	for (uint32_t a = 0; a < AGENTS; a++)
		if (a != agent && !(s->dealt & (1u << a)))
			pages |= s->holds[a].pages;
	return pages;
}

/* Who waits, and who is told. */
static enum verdict conflict_verdict(const struct request *r, enum conflict conflict)
{
	if (r->kind == LEAVE)
		return DONE;
	return conflict == PASSES || r->kind == FAULT ? WAIT : DONE;
}

static uint32_t can_protect(void)
{
	return x.set.read_only ? ~0u : 1u;
}

/* The step of the goal under way, from what was recorded when it was planned. */
static bool plan(const struct state *s, const struct record *from, struct svm_step *ret_step)
{
	const struct request *r = &s->queue[s->served];
	struct svm_goal goal = { .kind = (enum svm_goal_kind)s->goal_kind,
				 .mode = (enum svm_coh_mode)s->goal_mode,
				 .agent = r->agent,
				 .write = r->write,
				 .map = r->kind == FAULT || r->kind == ACQUIRE,
				 .can_protect = can_protect(),
				 .can_copy = x.set.peers ? ~0u : 1u };

	to_mask(s->goal_pages, &goal.pages);
	load(from);
	return svm_coh_plan(&x.coh, &goal, ret_step);
}

static enum verdict start(struct state *s, unsigned int i, enum svm_goal_kind kind,
			  enum svm_coh_mode mode, uint8_t pages)
{
	struct svm_step step;
	enum conflict conflict;

	s->served = (uint8_t)i;
	s->goal_kind = (uint8_t)kind;
	s->goal_mode = (uint8_t)mode;
	s->goal_pages = pages;
	if (!plan(s, &s->now, &step)) {
		s->queue[i].left &= (uint8_t)~pages;
		return AGAIN;
	}
	conflict = find_conflict(s, &step);
	if (conflict != NO_CONFLICT)
		return conflict_verdict(&s->queue[i], conflict);
	s->base = s->now;
	s->part = STOPPING;
	x.n_steps++;
	return START;
}

static enum svm_whereabouts where_is(const struct state *s, uint32_t agent, unsigned int p)
{
	if (s->now.res[p] >> agent & 1u)
		return SVM_AT_OWN;
	if (agent && (s->now.res[p] & 1u))
		return SVM_AT_HOST;
	return s->now.res[p] ? SVM_AT_PEER : SVM_AT_NONE;
}

static enum verdict serve_group(struct state *s, unsigned int i)
{
	struct request *r = &s->queue[i];
	unsigned int page = r->left & 1u ? 0 : 1;
	enum svm_whereabouts at = where_is(s, r->agent, page);
	bool can_duplicate = x.set.read_only || r->agent == SVM_AGENT_CPU;
	struct svm_policy_in in = {
		.agent = r->agent,
		.cause = r->kind == FAULT ? SVM_CAUSE_FAULT : SVM_CAUSE_ACQUIRE,
		.at = at,
		.write = r->write,
		.reaches_host = r->agent != SVM_AGENT_CPU && x.set.reaches_host,
		.can_duplicate = can_duplicate,
		.hints = &hint_sets[s->hints],
	};
	struct svm_action action = svm_policy(&in);
	uint8_t others = held_by_others(s, r->agent);
	uint8_t group = 0;

	for (unsigned int p = 0; p < PAGES; p++)
		if (where_is(s, r->agent, p) == at)
			group |= (uint8_t)(1u << p);
	if (action.error)
		return DONE;
	if (r->kind == ACQUIRE && !r->write && action.mode == SVM_COH_MIGRATE && can_duplicate) {
		if (others >> page & 1u) {
			action.mode = SVM_COH_DUPLICATE;
			group &= others;
		} else {
			group &= (uint8_t)~others;
		}
	}
	if (r->kind == FAULT && action.spread)
		group = (uint8_t)((group & ~others) | 1u << page);
	else
		group &= r->left;
	return start(s, i, SVM_GOAL_ACCESS, action.mode, group);
}

static void finish(struct state *s, unsigned int i, bool success)
{
	struct request *r = &s->queue[i];

	if (success && (r->kind == FAULT || r->kind == ACQUIRE) &&
	    (r->pages & ~mapped(s, r->agent, r->write)))
		violation(s, "a request succeeds without what it asked for");
	if (success && r->kind == ACQUIRE)
		s->holds[r->agent] = (struct hold){ .pages = r->pages, .write = r->write };
	x.n_answered++;
	for (; i + 1u < QUEUE; i++)
		s->queue[i] = s->queue[i + 1u];
	memset(&s->queue[QUEUE - 1u], 0, sizeof(s->queue[0]));
}

/* Returns DONE with *ret_success, or what else is to happen. */
static enum verdict serve_one(struct state *s, unsigned int i, bool *ret_success)
{
	struct request *r = &s->queue[i];
	uint8_t pages = 0;

	*ret_success = false;
	switch (r->kind) {
	case LEAVE:
		for (unsigned int p = 0; p < PAGES; p++)
			pages |= (uint8_t)((s->now.res[p] >> r->agent & 1u) << p);
		r->left &= pages;
		*ret_success = r->left == 0;
		return r->left ? start(s, i, SVM_GOAL_LEAVE, SVM_COH_MIGRATE, r->left) : DONE;
	case DISCARD:
		*ret_success = r->left == 0;
		return r->left ? start(s, i, SVM_GOAL_DISCARD, SVM_COH_MIGRATE, r->left) : DONE;
	default:
		break;
	}
	if (s->lost & (1u << r->agent))
		return DONE;
	if (r->left & s->now.poisoned)
		return DONE;
	r->left &= (uint8_t)~mapped(s, r->agent, r->write);
	if (r->kind == ACQUIRE) {
		enum conflict clash = hold_clash(s, r);

		if (clash != NO_CONFLICT)
			return conflict_verdict(r, clash);
	}
	if (r->left)
		return serve_group(s, i);
	*ret_success = true;
	return DONE;
}

static void lose(struct state *s)
{
	for (uint32_t a = 1; a < x.set.n_agents; a++) {
		struct svm_mask poisoned;

		if (!(s->lost & ~s->dealt & (1u << a)))
			continue;
		load(&s->now);
		svm_coh_lose(&x.coh, a, &poisoned);
		store(&s->now);
		s->dealt |= (uint8_t)(1u << a);
	}
}

/* What a look at the block does: as much as can be done without waiting. */
static void look(struct state *s)
{
	unsigned int i = 0;

	if (s->part != IDLE)
		return;
	if (s->queue[0].kind)
		lose(s);
	while (i < QUEUE && s->queue[i].kind) {
		enum verdict verdict;
		bool success;

		if (s->queue[i].kind == ACQUIRE)
			s->queue[i].left = s->queue[i].pages;
		do {
			verdict = serve_one(s, i, &success);
		} while (verdict == AGAIN);
		if (verdict == START)
			return;
		if (verdict == DONE)
			finish(s, i, success);
		else
			i++;
	}
	/* Nothing of a step that did not start is kept. */
	s->served = s->goal_kind = s->goal_mode = s->goal_pages = 0;
}

/* Whom the step was for is looked at first: who has what he wants is told before others take it. */
static void served_goes_on(struct state *s)
{
	struct request r = s->queue[s->served];

	for (unsigned int i = s->served; i > 0; i--)
		s->queue[i] = s->queue[i - 1u];
	s->queue[0] = r;
	s->served = 0;
}

/* The part under way has happened. */
static void complete(struct state *s)
{
	struct svm_step step;

	if (!plan(s, &s->base, &step))
		violation(s, "the step under way has no plan");
	load(&s->now);
	switch (s->part) {
	case STOPPING:
		svm_coh_commit_stop(&x.coh, &step);
		s->part = COPYING;
		break;
	case COPYING:
		svm_coh_commit_data(&x.coh, &step);
		s->part = MAPPING;
		break;
	default:
		svm_coh_commit_map(&x.coh, &step);
		s->part = IDLE;
		break;
	}
	store(&s->now);
	if (s->part != IDLE)
		return;
	memset(&s->base, 0, sizeof(s->base));
	served_goes_on(s);
	look(s);
}

/* It failed instead: the rest is dropped. Who asked is told, unless it was for the loss of a device. */
static void give_up(struct state *s, bool by_loss)
{
	s->part = IDLE;
	memset(&s->base, 0, sizeof(s->base));
	if (!by_loss)
		finish(s, s->served, false);
	look(s);
}

/* Does the step under way need a device that died? */
static bool fails_by_loss(const struct state *s)
{
	struct svm_step step;
	uint32_t uses;

	if (!s->part || !plan(s, &s->base, &step))
		return false;
	uses = s->part == STOPPING ? step.stops : s->part == COPYING ? step.copies : 0;
	if (s->part == COPYING)
		uses |= 1u << step.dest;
	if (s->part == MAPPING && step.agent != SVM_AGENT_NONE)
		uses |= 1u << step.agent;
	return s->lost & ~s->dealt & uses & ~1u;
}

/* ---- Exploring -------------------------------------------------------------------------------- */

static void swap_bits(uint8_t *pages)
{
	*pages = (uint8_t)((*pages & 1u) << 1 | (*pages >> 1 & 1u));
}

static void swap_bytes(uint8_t *two)
{
	uint8_t t = two[0];

	two[0] = two[1];
	two[1] = t;
}

static void swap_record(struct record *r)
{
	swap_bytes(r->res);
	swap_bytes(r->map_r);
	swap_bytes(r->map_w);
	swap_bytes(r->remote);
	swap_bits(&r->poisoned);
	swap_bits(&r->discarded);
}

/* Of two states that differ in the order of pages one is enough. */
static void normalize(struct state *s)
{
	struct state other = *s;

	swap_record(&other.now);
	swap_record(&other.base);
	swap_bits(&other.goal_pages);
	for (unsigned int i = 0; i < QUEUE; i++) {
		swap_bits(&other.queue[i].pages);
		swap_bits(&other.queue[i].left);
	}
	for (unsigned int a = 0; a < AGENTS; a++)
		swap_bits(&other.holds[a].pages);
	if (memcmp(&other, s, sizeof(other)) < 0)
		*s = other;
}

static uint64_t hash(const struct state *s)
{
	const uint8_t *bytes = (const uint8_t *)s;
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	/* FNV-1a, and a shift for the low bits. */
	for (size_t i = 0; i < sizeof(*s); i++)
		h = (h ^ bytes[i]) * UINT64_C(0x100000001b3);
	return h ^ h >> 29;
}

/* Where a state is in the table; 0: nowhere. */
static uint32_t *find(const struct state *s)
{
	uint32_t slot = (uint32_t)hash(s) % TABLE;

	while (x.slots[slot] && memcmp(&x.states[x.slots[slot] - 1u], s, sizeof(*s)) != 0)
		slot = (slot + 1u) % TABLE;
	return &x.slots[slot];
}

static void arrive(const struct state *made, const char *event)
{
	struct state s = *made;
	uint32_t *slot;

	x.event = event;
	/* A dead device's hold is in nobody's way, and given back by its owner some time. */
	check(&s);
	normalize(&s);
	slot = find(&s);
	if (*slot)
		return;
	assert_true(x.n_states < TABLE / 4u * 3u);
	x.states[x.n_states] = s;
	x.from[x.n_states] = x.at;
	*slot = ++x.n_states;
}

static void ask(const struct state *from, const struct request *wanted)
{
	struct state s = *from;
	unsigned int i = 0;

	while (i < QUEUE && s.queue[i].kind) {
		/* A second of the same kind from one agent is nothing new. */
		if (s.queue[i].kind == wanted->kind && s.queue[i].agent == wanted->agent)
			return;
		i++;
	}
	if (i >= x.set.n_queue)
		return;
	s.queue[i] = *wanted;
	s.queue[i].left = wanted->pages;
	look(&s);
	arrive(&s, kind_name[wanted->kind]);
}

/* One kind of access of an agent: every choice of pages, to read and to write. */
static void accesses(const struct state *s, enum kind kind, uint32_t a)
{
	for (uint32_t write = 0; write < 2; write++) {
		for (uint32_t pages = 1; pages <= BOTH; pages++) {
			struct request r = { .kind = (uint8_t)kind,
					     .agent = (uint8_t)a,
					     .write = (uint8_t)write,
					     .pages = (uint8_t)pages };

			/* One touch is of one page that it cannot have. */
			if (kind == FAULT && (pages == BOTH || !(pages & ~mapped(s, a, write))))
				continue;
			ask(s, &r);
		}
	}
}

static void requests(const struct state *s)
{
	for (uint32_t a = 0; a < x.set.n_agents; a++) {
		if (s->lost & (1u << a))
			continue;
		if (a != 1)
			accesses(s, FAULT, a);
		/* An agent has one access open here. */
		if ((a == 1 || (a == 0 && x.set.cpu_holds)) && s->holds[a].pages == 0)
			accesses(s, ACQUIRE, a);
		if (a)
			ask(s,
			    &(struct request){ .kind = LEAVE, .agent = (uint8_t)a, .pages = BOTH });
	}
	for (uint32_t pages = 1; pages <= BOTH; pages++)
		ask(s, &(struct request){ .kind = DISCARD, .pages = (uint8_t)pages });
}

static void other_events(const struct state *from)
{
	struct state s;

	for (uint32_t a = 0; a < x.set.n_agents; a++) {
		const struct hold *h = &from->holds[a];

		/* The CPU's release has no fence to wait for. */
		if (h->pages && !h->released && a != SVM_AGENT_CPU) {
			s = *from;
			s.holds[a].released = 1;
			look(&s);
			arrive(&s, "release");
		} else if (h->pages) {
			s = *from;
			memset(&s.holds[a], 0, sizeof(s.holds[a]));
			look(&s);
			arrive(&s, a ? "the fence of a release signals" : "release by the CPU");
		}
		if (a == SVM_AGENT_CPU)
			continue;
		if (!(from->lost & (1u << a))) {
			s = *from;
			s.lost |= (uint8_t)(1u << a);
			look(&s);
			arrive(&s, "a device is lost");
		} else if (!(from->dealt & (1u << a)) && !from->part) {
			s = *from;
			lose(&s);
			look(&s);
			arrive(&s, "the block learns of a loss");
		}
	}
	for (unsigned int hints = 0; hints < x.set.n_hints; hints++) {
		if (hints == from->hints)
			continue;
		s = *from;
		s.hints = hints;
		arrive(&s, "other hints");
	}
	for (uint8_t pages = 1; pages <= BOTH && !from->part; pages++) {
		struct svm_mask populated;

		s = *from;
		load(&s.now);
		svm_coh_populated(&x.coh, &populated);
		s.now.discarded |= pages & of_mask(&populated);
		arrive(&s, "a lazy discard");
	}
	if (!from->part)
		return;
	s = *from;
	if (fails_by_loss(&s)) {
		give_up(&s, true);
		arrive(&s, "the step fails with its device");
		return;
	}
	complete(&s);
	arrive(&s, "the part under way completes");
	s = *from;
	give_up(&s, false);
	arrive(&s, "the step fails");
}

/* One move on with nothing new asked for and nothing failing: something held is given back, which waits for no step
 * of the block; else the part under way completes. */
static void progress(struct state *s)
{
	for (uint32_t a = 0; a < AGENTS; a++) {
		if (!s->holds[a].pages)
			continue;
		if (s->holds[a].released || a == SVM_AGENT_CPU)
			memset(&s->holds[a], 0, sizeof(s->holds[a]));
		else
			s->holds[a].released = 1;
		look(s);
		return;
	}
	if (!s->part)
		return;
	if (fails_by_loss(s))
		give_up(s, true);
	else
		complete(s);
}

/* From every state, such moves lead to an empty queue. They were all explored, so each state is walked from once. */
static void check_answers(void)
{
	for (uint32_t i = 0; i < x.n_states; i++) {
		struct state s = x.states[i];
		uint32_t at = i;

		for (unsigned int n = 0; s.queue[0].kind && !x.drains[at]; n++) {
			x.at = i;
			x.event = "nothing more is asked for";
			if (n == DRAIN_MAX)
				violation(&s, "a request is never answered");
			progress(&s);
			normalize(&s);
			at = *find(&s) - 1u;
			if (at == UINT32_MAX)
				violation(&s, "a move that was not explored");
		}
		/* The same way again, for those to come. */
		s = x.states[i];
		for (at = i; s.queue[0].kind && !x.drains[at]; at = *find(&s) - 1u) {
			x.drains[at] = 1;
			progress(&s);
			normalize(&s);
		}
		x.drains[i] = 1;
	}
}

/* While nothing comes from outside, no hold ends either: the steps come to an end. */
static void check_rest(void)
{
	for (uint32_t i = 0; i < x.n_states; i++) {
		struct state s = x.states[i];

		for (unsigned int n = 0; s.part; n++) {
			x.at = i;
			x.event = "steps go on and on";
			if (n == DRAIN_MAX)
				violation(&s, "requests take turns for ever");
			if (fails_by_loss(&s))
				give_up(&s, true);
			else
				complete(&s);
		}
	}
}

static void *table(size_t n, size_t size)
{
	void *map = mmap(NULL, n * size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	return map;
}

static void explore(const struct setting *set)
{
	struct state s;

	memset(&x, 0, sizeof(x));
	x.set = *set;
	x.states = table(TABLE, sizeof(*x.states));
	x.from = table(TABLE, sizeof(*x.from));
	x.slots = table(TABLE, sizeof(*x.slots));
	x.drains = table(TABLE, sizeof(*x.drains));
	memset(&s, 0, sizeof(s));
	arrive(&s, "start");
	for (x.at = 0; x.at < x.n_states; x.at++) {
		s = x.states[x.at];
		requests(&s);
		other_events(&s);
	}
	check_answers();
	check_rest();
	print_message(
		"%u agents, %u pages, host %s, read-only %s, peers %s: %u states, %llu steps, "
		"%llu requests answered\n",
		set->n_agents, PAGES, set->reaches_host ? "in place" : "no",
		set->read_only ? "yes" : "no", set->peers ? "yes" : "no", x.n_states,
		(unsigned long long)x.n_steps, (unsigned long long)x.n_answered);
	assert_true(x.n_states > 1000u);
	assert_int_equal(munmap(x.states, TABLE * sizeof(*x.states)), 0);
	assert_int_equal(munmap(x.from, TABLE * sizeof(*x.from)), 0);
	assert_int_equal(munmap(x.slots, TABLE * sizeof(*x.slots)), 0);
	assert_int_equal(munmap(x.drains, TABLE * sizeof(*x.drains)), 0);
}

static void with_2_agents(void **state)
{
	(void)state;
	explore(&(struct setting){ .n_agents = 2, .n_queue = 2, .n_hints = 1, .cpu_holds = true });
	explore(&(struct setting){ .n_agents = 2,
				   .reaches_host = true,
				   .read_only = true,
				   .n_queue = 2,
				   .n_hints = 2 });
}

static void with_3_agents(void **state)
{
	(void)state;
	explore(&(struct setting){ .n_agents = 3,
				   .reaches_host = true,
				   .read_only = true,
				   .peers = true,
				   .n_queue = 1,
				   .n_hints = 2 });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_2_agents),
		cmocka_unit_test(with_3_agents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
