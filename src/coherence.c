/* SPDX-License-Identifier: MIT */
#include "coherence.h"

static const struct svm_coh_agent nothing;

static const struct svm_coh_agent *agent_of(const struct svm_coh *coh, uint32_t agent)
{
	return coh->at[agent] ? coh->at[agent] : &nothing;
}

/* Mappings of an agent that point to location loc. */
static void maps_to(const struct svm_coh *coh, uint32_t agent, uint32_t loc, struct svm_mask *ret)
{
	const struct svm_coh_agent *a = agent_of(coh, agent);

	svm_mask_zero(ret);
	if (agent == loc) {
		*ret = a->map_r;
		svm_mask_andnot(ret, &a->remote);
	} else if (loc == SVM_LOC_HOST) {
		*ret = a->remote;
	}
}

/* Pages with one holder, and those with several. */
static void count_holders(const struct svm_coh *coh, struct svm_mask *ret_one,
			  struct svm_mask *ret_many)
{
	svm_mask_zero(ret_one);
	svm_mask_zero(ret_many);
	for (uint32_t l = 0; l < SVM_AGENTS; l++) {
		struct svm_mask again;

		if (!coh->at[l])
			continue;
		again = coh->at[l]->res;
		svm_mask_and(&again, ret_one);
		svm_mask_or(ret_many, &again);
		svm_mask_or(ret_one, &coh->at[l]->res);
	}
	svm_mask_andnot(ret_one, ret_many);
}

void svm_coh_populated(const struct svm_coh *coh, struct svm_mask *ret_pages)
{
	svm_mask_zero(ret_pages);
	for (uint32_t l = 0; l < SVM_AGENTS; l++)
		if (coh->at[l])
			svm_mask_or(ret_pages, &coh->at[l]->res);
}

void svm_coh_only(const struct svm_coh *coh, uint32_t loc, struct svm_mask *ret_pages)
{
	struct svm_mask many;

	count_holders(coh, ret_pages, &many);
	svm_mask_and(ret_pages, &agent_of(coh, loc)->res);
}

static uint32_t goal_dest(const struct svm_goal *goal)
{
	if (goal->kind == SVM_GOAL_LEAVE)
		return goal->dest;
	return goal->mode == SVM_COH_REMOTE ? SVM_LOC_HOST : goal->agent;
}

/* Locations whose bytes can be copied to dest: the host reaches everything and is reached from everywhere. */
static uint32_t sources_for(const struct svm_goal *goal, uint32_t dest)
{
	return dest == SVM_LOC_HOST ? ~0u : goal->can_copy | 1u << SVM_LOC_HOST;
}

static bool goal_exclusive(const struct svm_goal *goal)
{
	return goal->write || goal->mode != SVM_COH_DUPLICATE;
}

/* Agents other than X may keep mappings only to dest: pages where one points elsewhere. */
static void foreign_maps(const struct svm_coh *coh, uint32_t dest, struct svm_mask *ret)
{
	svm_mask_zero(ret);
	for (uint32_t a = 0; a < SVM_AGENTS; a++) {
		struct svm_mask m;
		struct svm_mask to;

		if (!coh->at[a])
			continue;
		m = coh->at[a]->map_r;
		maps_to(coh, a, dest, &to);
		svm_mask_andnot(&m, &to);
		svm_mask_or(ret, &m);
	}
}

static void access_satisfied(const struct svm_coh *coh, const struct svm_goal *goal,
			     struct svm_mask *ret)
{
	const struct svm_coh_agent *agent = agent_of(coh, goal->agent);
	uint32_t dest = goal_dest(goal);
	struct svm_mask m;

	/* Asking for bytes makes them wanted again: that takes a step even where nothing moves. */
	*ret = agent_of(coh, dest)->res;
	svm_mask_andnot(ret, &coh->discarded);
	if (goal->map) {
		maps_to(coh, goal->agent, dest, &m);
		svm_mask_and(ret, &m);
		if (goal->write)
			svm_mask_and(ret, &agent->map_w);
	}
	if (goal_exclusive(goal)) {
		svm_coh_only(coh, dest, &m);
		svm_mask_and(ret, &m);
	}
}

void svm_coh_satisfied(const struct svm_coh *coh, const struct svm_goal *goal,
		       struct svm_mask *ret_pages)
{
	struct svm_mask m;

	svm_mask_fill(ret_pages);
	switch (goal->kind) {
	case SVM_GOAL_ACCESS:
		access_satisfied(coh, goal, ret_pages);
		break;
	case SVM_GOAL_LEAVE:
		svm_mask_andnot(ret_pages, &agent_of(coh, goal->agent)->res);
		break;
	case SVM_GOAL_UNMAP:
		svm_mask_andnot(ret_pages, &agent_of(coh, goal->agent)->map_r);
		break;
	case SVM_GOAL_DISCARD:
		svm_coh_populated(coh, &m);
		svm_mask_andnot(ret_pages, &m);
		svm_mask_andnot(ret_pages, &coh->poisoned);
		break;
	}
	svm_mask_and(ret_pages, &goal->pages);
}

static void add_revoke(struct svm_step *step, uint32_t agent, const struct svm_mask *pages)
{
	if (svm_mask_empty(pages))
		return;
	svm_mask_or(&step->revoke[agent], pages);
	step->stops |= 1u << agent;
}

static void add_drop(struct svm_step *step, uint32_t loc, const struct svm_mask *pages)
{
	if (svm_mask_empty(pages))
		return;
	svm_mask_or(&step->drop[loc], pages);
	step->drops |= 1u << loc;
}

/* All mappings of pages that do not point to dest go. */
static void stop_foreign(const struct svm_coh *coh, struct svm_step *step, uint32_t dest,
			 const struct svm_mask *pages)
{
	for (uint32_t a = 0; a < SVM_AGENTS; a++) {
		struct svm_mask m;
		struct svm_mask to;

		if (!coh->at[a])
			continue;
		m = coh->at[a]->map_r;
		maps_to(coh, a, dest, &to);
		svm_mask_andnot(&m, &to);
		svm_mask_and(&m, pages);
		add_revoke(step, a, &m);
	}
}

/* Writers of pages become readers; who cannot be write-protected loses the mapping. */
static void stop_writers(const struct svm_coh *coh, struct svm_step *step, uint32_t can_protect,
			 const struct svm_mask *pages)
{
	for (uint32_t a = 0; a < SVM_AGENTS; a++) {
		struct svm_mask m;

		if (!coh->at[a])
			continue;
		m = coh->at[a]->map_w;
		svm_mask_and(&m, pages);
		svm_mask_andnot(&m, &step->revoke[a]);
		if (svm_mask_empty(&m))
			continue;
		if (can_protect & (1u << a)) {
			step->protect[a] = m;
			step->stops |= 1u << a;
		} else {
			add_revoke(step, a, &m);
		}
	}
}

/* Choose a source for each page of need, host memory first. */
static void choose_sources(const struct svm_coh *coh, struct svm_step *step, uint32_t sources,
			   struct svm_mask *need)
{
	for (uint32_t l = 0; l < SVM_AGENTS; l++) {
		struct svm_mask m;

		if (!coh->at[l] || l == step->dest || !(sources & (1u << l)))
			continue;
		m = coh->at[l]->res;
		svm_mask_and(&m, need);
		if (svm_mask_empty(&m))
			continue;
		step->copy[l] = m;
		step->copies |= 1u << l;
		svm_mask_andnot(need, &m);
	}
}

static void drop_others(const struct svm_coh *coh, struct svm_step *step,
			const struct svm_mask *pages)
{
	for (uint32_t l = 0; l < SVM_AGENTS; l++) {
		struct svm_mask m;

		if (!coh->at[l] || l == step->dest)
			continue;
		m = coh->at[l]->res;
		svm_mask_and(&m, pages);
		add_drop(step, l, &m);
	}
}

/* Bring pages to dest, as the only holder or a further one. */
static void plan_move(const struct svm_coh *coh, const struct svm_goal *goal, bool exclusive,
		      const struct svm_mask *pages, struct svm_step *step)
{
	struct svm_mask populated;
	struct svm_mask need = *pages;
	struct svm_mask shared;

	svm_coh_populated(coh, &populated);
	step->pages = *pages;
	step->populate = *pages;
	svm_mask_andnot(&step->populate, &populated);
	svm_mask_and(&need, &populated);
	svm_mask_andnot(&need, &agent_of(coh, step->dest)->res);
	choose_sources(coh, step, sources_for(goal, step->dest), &need);
	if (exclusive) {
		stop_foreign(coh, step, step->dest, pages);
		drop_others(coh, step, pages);
		return;
	}
	/* What will have two holders: all but fresh pages and those that dest alone holds. */
	svm_coh_only(coh, step->dest, &shared);
	svm_mask_or(&shared, &step->populate);
	for (unsigned int i = 0; i < SVM_MASK_WORDS; i++)
		shared.w[i] = pages->w[i] & ~shared.w[i];
	stop_writers(coh, step, goal->can_protect, &shared);
	step->duplicate = true;
}

static bool plan_access(const struct svm_coh *coh, const struct svm_goal *goal,
			struct svm_mask *pages, struct svm_step *step)
{
	bool exclusive = goal_exclusive(goal);
	uint32_t dest = goal_dest(goal);
	const struct svm_coh_agent *agent = agent_of(coh, goal->agent);
	struct svm_mask populated;
	struct svm_mask stuck;
	struct svm_mask m;

	/* Pages that no direct copy reaches go to the host first. */
	svm_coh_populated(coh, &populated);
	stuck = *pages;
	svm_mask_and(&stuck, &populated);
	svm_mask_andnot(&stuck, &agent_of(coh, dest)->res);
	for (uint32_t l = 0; l < SVM_AGENTS; l++)
		if (coh->at[l] && (sources_for(goal, dest) & (1u << l)))
			svm_mask_andnot(&stuck, &coh->at[l]->res);
	if (!svm_mask_empty(&stuck)) {
		step->agent = SVM_AGENT_NONE;
		step->dest = SVM_LOC_HOST;
		plan_move(coh, goal, exclusive, &stuck, step);
		return true;
	}

	step->agent = goal->agent;
	step->dest = dest;
	step->remote = goal->agent != SVM_AGENT_CPU && dest == SVM_LOC_HOST;
	/* The agent's own mapping of another place goes, also when it only reads: before anybody thinks of
	 * write-protecting it. */
	maps_to(coh, goal->agent, dest, &m);
	for (unsigned int i = 0; i < SVM_MASK_WORDS; i++)
		m.w[i] = agent->map_r.w[i] & ~m.w[i] & pages->w[i];
	add_revoke(step, goal->agent, &m);
	plan_move(coh, goal, exclusive, pages, step);
	if (!goal->map)
		return true;
	step->map = *pages;
	step->map_w = *pages;
	if (!exclusive) {
		/* Only what dest alone holds may be written without asking. */
		svm_coh_only(coh, dest, &m);
		svm_mask_or(&m, &step->populate);
		svm_mask_and(&step->map_w, &m);
	}
	return true;
}

static bool plan_leave(const struct svm_coh *coh, const struct svm_goal *goal,
		       const struct svm_mask *pages, struct svm_step *step)
{
	struct svm_mask only;
	struct svm_mask m;

	svm_coh_only(coh, goal->agent, &only);
	svm_mask_and(&only, pages);
	svm_mask_andnot(&only, &coh->discarded);
	step->agent = SVM_AGENT_NONE;
	step->dest = sources_for(goal, goal->dest) & (1u << goal->agent) ? goal->dest
									 : SVM_LOC_HOST;
	step->pages = *pages;
	if (!svm_mask_empty(&only)) {
		step->copy[goal->agent] = only;
		step->copies = 1u << goal->agent;
	}
	/* Host memory may be mapped by devices, too. */
	for (uint32_t a = 0; a < SVM_AGENTS; a++) {
		maps_to(coh, a, goal->agent, &m);
		svm_mask_and(&m, pages);
		add_revoke(step, a, &m);
	}
	add_drop(step, goal->agent, pages);
	return true;
}

static bool plan_discard(const struct svm_coh *coh, const struct svm_mask *pages,
			 struct svm_step *step)
{
	step->agent = SVM_AGENT_NONE;
	step->dest = SVM_LOC_HOST;
	step->discard = true;
	step->pages = *pages;
	for (uint32_t a = 0; a < SVM_AGENTS; a++) {
		struct svm_mask m;

		if (!coh->at[a])
			continue;
		m = coh->at[a]->map_r;
		svm_mask_and(&m, pages);
		add_revoke(step, a, &m);
		m = coh->at[a]->res;
		svm_mask_and(&m, pages);
		add_drop(step, a, &m);
	}
	return true;
}

static bool plan_unmap(const struct svm_goal *goal, const struct svm_mask *pages,
		       struct svm_step *step)
{
	step->agent = SVM_AGENT_NONE;
	step->dest = SVM_LOC_HOST;
	step->pages = *pages;
	add_revoke(step, goal->agent, pages);
	return true;
}

bool svm_coh_plan(const struct svm_coh *coh, const struct svm_goal *goal, struct svm_step *ret_step)
{
	struct svm_mask pages = goal->pages;
	struct svm_mask done;

	svm_coh_satisfied(coh, goal, &done);
	svm_mask_andnot(&pages, &done);
	if (goal->kind != SVM_GOAL_DISCARD)
		svm_mask_andnot(&pages, &coh->poisoned);
	if (svm_mask_empty(&pages))
		return false;
	memset(ret_step, 0, sizeof(*ret_step));
	switch (goal->kind) {
	case SVM_GOAL_ACCESS:
		return plan_access(coh, goal, &pages, ret_step);
	case SVM_GOAL_LEAVE:
		return plan_leave(coh, goal, &pages, ret_step);
	case SVM_GOAL_DISCARD:
		return plan_discard(coh, &pages, ret_step);
	case SVM_GOAL_UNMAP:
		return plan_unmap(goal, &pages, ret_step);
	}
	return false;
}

void svm_coh_grantable(const struct svm_coh *coh, const struct svm_mask *wanted,
		       struct svm_mask *ret_pages)
{
	const struct svm_coh_agent *cpu = agent_of(coh, SVM_AGENT_CPU);

	*ret_pages = *wanted;
	svm_mask_and(ret_pages, &cpu->res);
	svm_mask_andnot(ret_pages, &cpu->map_r);
	/* A page that is asked for is wanted again, which takes a step. */
	svm_mask_andnot(ret_pages, &coh->discarded);
	for (uint32_t a = 1; a < SVM_AGENTS; a++) {
		struct svm_mask elsewhere;

		if (!coh->at[a])
			continue;
		elsewhere = coh->at[a]->map_r;
		svm_mask_andnot(&elsewhere, &coh->at[a]->remote);
		svm_mask_andnot(ret_pages, &elsewhere);
		svm_mask_andnot(ret_pages, &coh->at[a]->res);
	}
}

void svm_coh_commit_grant(struct svm_coh *coh, const struct svm_mask *pages)
{
	struct svm_coh_agent *cpu = coh->at[SVM_AGENT_CPU];

	svm_mask_or(&cpu->map_r, pages);
	svm_mask_or(&cpu->map_w, pages);
}

void svm_coh_commit_stop(struct svm_coh *coh, const struct svm_step *step)
{
	for (uint32_t a = 0; a < SVM_AGENTS; a++) {
		struct svm_coh_agent *agent = coh->at[a];

		if (!(step->stops & (1u << a)) || !agent)
			continue;
		svm_mask_andnot(&agent->map_r, &step->revoke[a]);
		svm_mask_andnot(&agent->map_w, &step->revoke[a]);
		svm_mask_andnot(&agent->remote, &step->revoke[a]);
		svm_mask_andnot(&agent->map_w, &step->protect[a]);
	}
}

void svm_coh_commit_data(struct svm_coh *coh, const struct svm_step *step)
{
	struct svm_mask arrived = step->populate;

	for (uint32_t l = 0; l < SVM_AGENTS; l++)
		if (step->copies & (1u << l))
			svm_mask_or(&arrived, &step->copy[l]);
	if (!svm_mask_empty(&arrived))
		svm_mask_or(&coh->at[step->dest]->res, &arrived);
	for (uint32_t l = 0; l < SVM_AGENTS; l++)
		if ((step->drops & (1u << l)) && coh->at[l])
			svm_mask_andnot(&coh->at[l]->res, &step->drop[l]);
	/* Whoever asks for bytes or moves them makes them wanted again; what left without a copy is gone. */
	svm_mask_andnot(&coh->discarded, &step->pages);
	if (step->discard)
		svm_mask_andnot(&coh->poisoned, &step->pages);
}

void svm_coh_commit_map(struct svm_coh *coh, const struct svm_step *step)
{
	struct svm_coh_agent *agent;

	if (step->agent == SVM_AGENT_NONE || svm_mask_empty(&step->map))
		return;
	agent = coh->at[step->agent];
	svm_mask_or(&agent->map_r, &step->map);
	svm_mask_andnot(&agent->map_w, &step->map);
	svm_mask_or(&agent->map_w, &step->map_w);
	svm_mask_andnot(&agent->remote, &step->map);
	if (step->remote)
		svm_mask_or(&agent->remote, &step->map);
}

void svm_coh_lose(struct svm_coh *coh, uint32_t loc, struct svm_mask *ret_poisoned)
{
	struct svm_coh_agent *agent = coh->at[loc];

	svm_mask_zero(ret_poisoned);
	if (!agent)
		return;
	svm_coh_only(coh, loc, ret_poisoned);
	/* Content that nobody wanted is not lost: its pages are simply not populated any more. */
	svm_mask_andnot(ret_poisoned, &coh->discarded);
	svm_mask_andnot(&coh->discarded, &agent->res);
	memset(agent, 0, sizeof(*agent));
	svm_mask_or(&coh->poisoned, ret_poisoned);
}

const char *svm_coh_check(const struct svm_coh *coh)
{
	struct svm_mask one;
	struct svm_mask many;
	struct svm_mask foreign;

	count_holders(coh, &one, &many);
	for (uint32_t a = 0; a < SVM_AGENTS; a++) {
		const struct svm_coh_agent *agent = coh->at[a];
		struct svm_mask own;

		if (!agent)
			continue;
		if (!svm_mask_subset(&agent->map_w, &agent->map_r) ||
		    !svm_mask_subset(&agent->remote, &agent->map_r))
			return "mapping bits";
		own = agent->map_r;
		svm_mask_andnot(&own, &agent->remote);
		if (!svm_mask_subset(&own, &agent->res))
			return "I2";
		if (a == SVM_AGENT_CPU
			    ? !svm_mask_empty(&agent->remote)
			    : !svm_mask_subset(&agent->remote, &agent_of(coh, SVM_LOC_HOST)->res))
			return "I2";
		if (svm_mask_intersects(&agent->map_w, &many))
			return "I1";
		/* A writer and a mapping to another place. */
		foreign_maps(coh, a, &foreign);
		own = agent->map_w;
		svm_mask_andnot(&own, &agent->remote);
		if (svm_mask_intersects(&own, &foreign))
			return "I1";
		if (svm_mask_intersects(&agent->res, &coh->poisoned) ||
		    svm_mask_intersects(&agent->map_r, &coh->poisoned))
			return "I5";
	}
	return NULL;
}
