/* SPDX-License-Identifier: MIT */
/*
 * The steps that the coherence code plans, on single pages and on mixed blocks, and what they leave.
 *
 * A page is written as one word per agent (CPU, device 0, device 1): - nothing, B holds the bytes, r or
 * w maps its own memory, @r or @w maps host memory; "!" in front: poisoned, "~": lazily discarded.
 * A step is written in the order in which it is carried out, agents and locations by number.
 */
#include "coherence.h"
#include "util.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define N_AGENTS 3u
#define CPU	 0u
#define DEV0	 1u
#define DEV1	 2u
#define EVERYONE (~0u)

struct block {
	struct svm_coh coh;
	struct svm_coh_agent agents[N_AGENTS];
};

struct text {
	char s[160];
	size_t used;
};

static void add(struct text *text, const char *word, uint32_t a, const char *between, uint32_t b)
{
	int n = snprintf(text->s + text->used, sizeof(text->s) - text->used, "%s%s",
			 text->used ? " " : "", word);

	assert_true(n > 0);
	text->used += (size_t)n;
	if (a != SVM_AGENT_NONE)
		text->used += (size_t)snprintf(text->s + text->used, sizeof(text->s) - text->used,
					       "%u%s", a, between);
	if (b != SVM_AGENT_NONE)
		text->used += (size_t)snprintf(text->s + text->used, sizeof(text->s) - text->used,
					       "%u", b);
	assert_true(text->used < sizeof(text->s));
}

static void block_init(struct block *b)
{
	memset(b, 0, sizeof(*b));
	for (uint32_t a = 0; a < N_AGENTS; a++)
		b->coh.at[a] = &b->agents[a];
}

static void page_set_agent(struct svm_coh_agent *agent, unsigned int page, const char **p)
{
	for (; **p && **p != ' '; (*p)++) {
		switch (**p) {
		case 'B':
			svm_mask_set(&agent->res, page);
			break;
		case '@':
			svm_mask_set(&agent->remote, page);
			break;
		case 'w':
			svm_mask_set(&agent->map_w, page);
			svm_mask_set(&agent->map_r, page);
			break;
		case 'r':
			svm_mask_set(&agent->map_r, page);
			break;
		default:
			assert_int_equal(**p, '-');
			break;
		}
	}
}

static void page_set(struct block *b, unsigned int page, const char *p)
{
	for (; *p == '!' || *p == '~'; p++)
		svm_mask_set(*p == '!' ? &b->coh.poisoned : &b->coh.discarded, page);
	for (uint32_t a = 0; a < N_AGENTS; a++) {
		page_set_agent(&b->agents[a], page, &p);
		p += *p == ' ';
	}
	assert_int_equal(*p, 0);
}

static void page_print(const struct block *b, unsigned int page, char *ret)
{
	if (svm_mask_test(&b->coh.poisoned, page))
		*ret++ = '!';
	if (svm_mask_test(&b->coh.discarded, page))
		*ret++ = '~';
	for (uint32_t a = 0; a < N_AGENTS; a++) {
		const struct svm_coh_agent *agent = &b->agents[a];
		char *start = ret;

		if (svm_mask_test(&agent->res, page))
			*ret++ = 'B';
		if (svm_mask_test(&agent->remote, page))
			*ret++ = '@';
		if (svm_mask_test(&agent->map_r, page))
			*ret++ = svm_mask_test(&agent->map_w, page) ? 'w' : 'r';
		if (ret == start)
			*ret++ = '-';
		*ret++ = ' ';
	}
	ret[-1] = 0;
}

static void step_print(const struct svm_step *step, unsigned int page, struct text *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (uint32_t a = 0; a < SVM_AGENTS; a++) {
		if ((step->stops & (1u << a)) && svm_mask_test(&step->revoke[a], page))
			add(ret, "revoke ", a, "", SVM_AGENT_NONE);
		if ((step->stops & (1u << a)) && svm_mask_test(&step->protect[a], page))
			add(ret, "protect ", a, "", SVM_AGENT_NONE);
	}
	if (svm_mask_test(&step->populate, page))
		add(ret, "zero ", step->dest, "", SVM_AGENT_NONE);
	for (uint32_t l = 0; l < SVM_AGENTS; l++)
		if ((step->copies & (1u << l)) && svm_mask_test(&step->copy[l], page))
			add(ret, "copy ", l, ">", step->dest);
	for (uint32_t l = 0; l < SVM_AGENTS; l++)
		if ((step->drops & (1u << l)) && svm_mask_test(&step->drop[l], page))
			add(ret, "drop ", l, "", SVM_AGENT_NONE);
	if (svm_mask_test(&step->map, page)) {
		add(ret, svm_mask_test(&step->map_w, page) ? "write " : "read ", step->agent, "",
		    SVM_AGENT_NONE);
		if (step->remote)
			add(ret, "in place", SVM_AGENT_NONE, "", SVM_AGENT_NONE);
	}
}

static void commit(struct block *b, const struct svm_step *step)
{
	svm_coh_commit_stop(&b->coh, step);
	assert_null(svm_coh_check(&b->coh));
	svm_coh_commit_data(&b->coh, step);
	assert_null(svm_coh_check(&b->coh));
	svm_coh_commit_map(&b->coh, step);
	assert_null(svm_coh_check(&b->coh));
}

/* From before, the goal plans this step ("": none), which leaves after. */
static void expect(const char *before, struct svm_goal goal, const char *expected,
		   const char *after)
{
	const unsigned int page = 70;
	char left[64];
	struct text text;
	struct block b;
	struct svm_step step;

	memset(&step, 0, sizeof(step));
	block_init(&b);
	page_set(&b, page, before);
	assert_null(svm_coh_check(&b.coh));
	svm_mask_set(&goal.pages, page);
	if (svm_coh_plan(&b.coh, &goal, &step))
		commit(&b, &step);
	else
		assert_string_equal(expected, "");
	step_print(&step, page, &text);
	assert_string_equal(text.s, expected);
	page_print(&b, page, left);
	assert_string_equal(left, after);
}

static struct svm_goal read_by(uint32_t agent, enum svm_coh_mode mode)
{
	return (struct svm_goal){ .kind = SVM_GOAL_ACCESS,
				  .mode = mode,
				  .agent = agent,
				  .map = true,
				  .can_protect = EVERYONE,
				  .can_copy = EVERYONE };
}

static struct svm_goal write_by(uint32_t agent, enum svm_coh_mode mode)
{
	struct svm_goal goal = read_by(agent, mode);

	goal.write = true;
	return goal;
}

static struct svm_goal bring_to(uint32_t agent, enum svm_coh_mode mode)
{
	struct svm_goal goal = read_by(agent, mode);

	goal.map = false;
	return goal;
}

static struct svm_goal leave(uint32_t agent, uint32_t dest)
{
	return (struct svm_goal){
		.kind = SVM_GOAL_LEAVE, .agent = agent, .dest = dest, .can_copy = EVERYONE
	};
}

static struct svm_goal unmap(uint32_t agent)
{
	return (struct svm_goal){ .kind = SVM_GOAL_UNMAP, .agent = agent };
}

static const struct svm_goal discard = { .kind = SVM_GOAL_DISCARD };

/* ---- Access ----------------------------------------------------------------------------------- */

static void first_touch_makes_a_zero_page_where_it_is_wanted(void **state)
{
	(void)state;
	expect("- - -", read_by(CPU, SVM_COH_MIGRATE), "zero 0 write 0", "Bw - -");
	expect("- - -", read_by(DEV0, SVM_COH_MIGRATE), "zero 1 write 1", "- Bw -");
	expect("- - -", read_by(DEV0, SVM_COH_DUPLICATE), "zero 1 write 1", "- Bw -");
	expect("- - -", read_by(DEV0, SVM_COH_REMOTE), "zero 0 write 1 in place", "B @w -");
	expect("- - -", bring_to(DEV0, SVM_COH_MIGRATE), "zero 1", "- B -");
}

static void migration_takes_mapping_and_bytes_from_the_others(void **state)
{
	(void)state;
	expect("Bw - -", read_by(DEV0, SVM_COH_MIGRATE), "revoke 0 copy 0>1 drop 0 write 1",
	       "- Bw -");
	expect("- Bw -", write_by(CPU, SVM_COH_MIGRATE), "revoke 1 copy 1>0 drop 1 write 0",
	       "Bw - -");
	expect("- Bw -", write_by(DEV1, SVM_COH_MIGRATE), "revoke 1 copy 1>2 drop 1 write 2",
	       "- - Bw");
	expect("Bw @w @w", write_by(DEV0, SVM_COH_MIGRATE),
	       "revoke 0 revoke 1 revoke 2 copy 0>1 drop 0 write 1", "- Bw -");
	expect("Bw - -", bring_to(DEV0, SVM_COH_MIGRATE), "revoke 0 copy 0>1 drop 0", "- B -");
}

static void in_place_all_agents_may_write_the_same_host_page(void **state)
{
	(void)state;
	expect("Bw - -", write_by(DEV0, SVM_COH_REMOTE), "write 1 in place", "Bw @w -");
	expect("Bw @w -", write_by(DEV1, SVM_COH_REMOTE), "write 2 in place", "Bw @w @w");
	expect("- Bw -", write_by(DEV1, SVM_COH_REMOTE),
	       "revoke 1 copy 1>0 drop 1 write 2 in place", "B - @w");
	expect("- Bw -", read_by(DEV0, SVM_COH_REMOTE), "revoke 1 copy 1>0 drop 1 write 1 in place",
	       "B @w -");
	expect("B @w -", read_by(CPU, SVM_COH_MIGRATE), "write 0", "Bw @w -");
}

static void what_is_there_already_needs_no_step(void **state)
{
	(void)state;
	expect("Bw - -", write_by(CPU, SVM_COH_MIGRATE), "", "Bw - -");
	expect("Bw @w -", write_by(DEV0, SVM_COH_REMOTE), "", "Bw @w -");
	expect("- Bw -", bring_to(DEV0, SVM_COH_MIGRATE), "", "- Bw -");
	expect("Br Br -", read_by(DEV0, SVM_COH_DUPLICATE), "", "Br Br -");
	expect("Br Br -", bring_to(CPU, SVM_COH_DUPLICATE), "", "Br Br -");
}

static void a_missing_mapping_is_made_without_a_copy(void **state)
{
	(void)state;
	expect("- B -", read_by(DEV0, SVM_COH_MIGRATE), "write 1", "- Bw -");
	expect("Br B -", read_by(DEV0, SVM_COH_DUPLICATE), "read 1", "Br Br -");
	expect("B - -", read_by(CPU, SVM_COH_DUPLICATE), "write 0", "Bw - -");
}

static void what_is_there_in_part_is_completed(void **state)
{
	(void)state;
	/* A reader that wants to write, a holder that wants to be the only one. */
	expect("Br - -", write_by(CPU, SVM_COH_MIGRATE), "write 0", "Bw - -");
	expect("B @r -", write_by(DEV0, SVM_COH_REMOTE), "write 1 in place", "B @w -");
	expect("Br Br -", bring_to(CPU, SVM_COH_MIGRATE), "revoke 1 drop 1", "Br - -");
	expect("Br Br @r", bring_to(DEV0, SVM_COH_MIGRATE), "revoke 0 revoke 2 drop 0", "- Br -");
}

static void only_a_shared_copy_counts_as_a_duplicate(void **state)
{
	struct svm_goal copy = read_by(DEV0, SVM_COH_DUPLICATE);
	struct svm_goal move = read_by(DEV0, SVM_COH_MIGRATE);
	struct svm_step step;
	struct block b;

	(void)state;
	block_init(&b);
	page_set(&b, 0, "Bw - -");
	svm_mask_set(&copy.pages, 0);
	svm_mask_set(&move.pages, 0);
	assert_true(svm_coh_plan(&b.coh, &copy, &step));
	assert_true(step.duplicate);
	assert_true(svm_coh_plan(&b.coh, &move, &step));
	assert_false(step.duplicate);
}

static void bytes_without_a_direct_path_stop_at_the_host(void **state)
{
	struct svm_goal move = write_by(DEV1, SVM_COH_MIGRATE);
	struct svm_goal copy = read_by(DEV1, SVM_COH_DUPLICATE);

	(void)state;
	move.can_copy = 0;
	copy.can_copy = 0;
	expect("- Bw -", move, "revoke 1 copy 1>0 drop 1", "B - -");
	expect("B - -", move, "copy 0>2 drop 0 write 2", "- - Bw");
	expect("- Bw -", copy, "protect 1 copy 1>0", "B Br -");
	expect("B Br -", copy, "copy 0>2 read 2", "B Br Br");
	/* Bytes that are there already take no path. */
	expect("- Br Br", move, "revoke 1 drop 1 write 2", "- - Bw");
}

/* I4 is the caller's part: it takes the mapping away when the device is done. */
static void unmap_takes_one_mapping_and_no_bytes(void **state)
{
	(void)state;
	expect("Bw @w -", unmap(CPU), "revoke 0", "B @w -");
	expect("Bw @w -", unmap(DEV0), "revoke 1", "Bw - -");
	expect("Br Br -", unmap(DEV0), "revoke 1", "Br B -");
	expect("Br B -", unmap(DEV0), "", "Br B -");
}

/* ---- Contract rows ---------------------------------------------------------------------------- */

static void contract_3_3_row_4_page_that_leaves_loses_the_mapping_there(void **state)
{
	(void)state;
	expect("- Bw -", leave(DEV0, CPU), "revoke 1 copy 1>0 drop 1", "B - -");
	expect("- Bw -", leave(DEV0, DEV1), "revoke 1 copy 1>2 drop 1", "- - B");
	expect("Br Br -", leave(DEV0, CPU), "revoke 1 drop 1", "Br - -");
	expect("B - -", leave(DEV0, CPU), "", "B - -");
}

static void leaving_the_host_takes_mappings_of_host_memory_along(void **state)
{
	(void)state;
	expect("Bw @w @r", leave(CPU, DEV0), "revoke 0 revoke 1 revoke 2 copy 0>1 drop 0", "- B -");
	expect("Br Br @r", leave(CPU, DEV0), "revoke 0 revoke 2 drop 0", "- Br -");
}

static void leaving_without_a_direct_path_ends_at_the_host(void **state)
{
	struct svm_goal goal = leave(DEV0, DEV1);

	(void)state;
	goal.can_copy = 0;
	expect("- Bw -", goal, "revoke 1 copy 1>0 drop 1", "B - -");
}

static void contract_3_5_read_makes_a_copy_and_all_mappings_read_only(void **state)
{
	(void)state;
	expect("Bw - -", read_by(DEV0, SVM_COH_DUPLICATE), "protect 0 copy 0>1 read 1", "Br Br -");
	expect("Br Br -", read_by(DEV1, SVM_COH_DUPLICATE), "copy 0>2 read 2", "Br Br Br");
	expect("Bw @w -", read_by(DEV1, SVM_COH_DUPLICATE), "protect 0 protect 1 copy 0>2 read 2",
	       "Br @r Br");
	expect("- Bw -", read_by(CPU, SVM_COH_DUPLICATE), "protect 1 copy 1>0 read 0", "Br Br -");
}

static void contract_3_5_who_cannot_be_protected_loses_the_mapping(void **state)
{
	struct svm_goal goal = read_by(DEV1, SVM_COH_DUPLICATE);

	(void)state;
	goal.can_protect = 1u << CPU;
	expect("Bw @w -", goal, "protect 0 revoke 1 copy 0>2 read 2", "Br - Br");
	expect("- Bw -", goal, "revoke 1 copy 1>2 read 2", "- B Br");
}

static void contract_3_5_write_drops_all_other_copies(void **state)
{
	(void)state;
	expect("Br Br Br", write_by(DEV0, SVM_COH_MIGRATE),
	       "revoke 0 revoke 2 drop 0 drop 2 write 1", "- Bw -");
	expect("Br Br -", write_by(CPU, SVM_COH_DUPLICATE), "revoke 1 drop 1 write 0", "Bw - -");
	expect("Br Br @r", write_by(DEV1, SVM_COH_REMOTE), "revoke 1 drop 1 write 2 in place",
	       "Br - @w");
}

static void contract_3_5_prefetch_under_read_mostly_takes_nothing_away(void **state)
{
	(void)state;
	expect("Br - -", bring_to(DEV0, SVM_COH_DUPLICATE), "copy 0>1", "Br B -");
	expect("- Br B", bring_to(CPU, SVM_COH_DUPLICATE), "copy 1>0", "B Br B");
}

static void duplicating_for_an_agent_that_mapped_in_place_only_revokes_it(void **state)
{
	(void)state;
	/* Never revoked and write-protected: the second would bring the mapping back. */
	expect("Bw @w -", read_by(DEV0, SVM_COH_DUPLICATE), "protect 0 revoke 1 copy 0>1 read 1",
	       "Br Br -");
}

static void contract_3_5_discard_leaves_nothing_and_lifts_poison(void **state)
{
	(void)state;
	expect("Bw @w -", discard, "revoke 0 revoke 1 drop 0", "- - -");
	expect("Br Br -", discard, "revoke 0 revoke 1 drop 0 drop 1", "- - -");
	expect("!- - -", discard, "", "- - -");
	expect("~- Bw -", discard, "revoke 1 drop 1", "- - -");
	expect("- - -", discard, "", "- - -");
}

static void contract_3_5_eviction_of_discarded_pages_skips_the_copy(void **state)
{
	(void)state;
	expect("~- Bw -", leave(DEV0, CPU), "revoke 1 drop 1", "- - -");
}

static void contract_3_5_prefetch_makes_discarded_pages_valid_again(void **state)
{
	(void)state;
	expect("~- Bw -", bring_to(CPU, SVM_COH_MIGRATE), "revoke 1 copy 1>0 drop 1", "B - -");
	/* Also where nothing has to move. */
	expect("~- Bw -", bring_to(DEV0, SVM_COH_MIGRATE), "", "- Bw -");
}

static void contract_3_8_one_writer_or_any_number_of_readers(void **state)
{
	struct block b;

	(void)state;
	block_init(&b);
	page_set(&b, 3, "Bw Br -");
	assert_string_equal(svm_coh_check(&b.coh), "I1");
	block_init(&b);
	page_set(&b, 3, "Br Br @r");
	assert_null(svm_coh_check(&b.coh));
}

static void contract_3_9_loss_poisons_what_had_no_other_copy(void **state)
{
	struct svm_mask lost;
	struct block b;
	char left[64];

	(void)state;
	block_init(&b);
	page_set(&b, 0, "- Bw -");
	page_set(&b, 1, "Br Br -");
	page_set(&b, 2, "Bw @w -");
	page_set(&b, 3, "~- Bw -");
	page_set(&b, 4, "- - Bw");
	page_set(&b, 5, "!- - -");
	svm_coh_lose(&b.coh, DEV0, &lost);
	assert_null(svm_coh_check(&b.coh));
	assert_int_equal(svm_mask_count(&lost), 1);
	assert_true(svm_mask_test(&lost, 0));
	page_print(&b, 0, left);
	assert_string_equal(left, "!- - -");
	page_print(&b, 1, left);
	assert_string_equal(left, "Br - -");
	page_print(&b, 2, left);
	assert_string_equal(left, "Bw - -");
	page_print(&b, 3, left);
	assert_string_equal(left, "- - -");
	page_print(&b, 4, left);
	assert_string_equal(left, "- - Bw");
	page_print(&b, 5, left);
	assert_string_equal(left, "!- - -");
}

static void contract_3_9_poisoned_pages_are_left_out_of_access(void **state)
{
	(void)state;
	expect("!- - -", read_by(CPU, SVM_COH_MIGRATE), "", "!- - -");
	expect("!- - -", write_by(DEV0, SVM_COH_REMOTE), "", "!- - -");
	expect("!- - -", leave(DEV0, CPU), "", "!- - -");
}

static void losing_an_agent_without_a_record_loses_nothing(void **state)
{
	struct svm_mask lost;
	struct block b;

	(void)state;
	block_init(&b);
	page_set(&b, 0, "Bw - -");
	b.coh.at[DEV0] = NULL;
	svm_mask_fill(&lost);
	svm_coh_lose(&b.coh, DEV0, &lost);
	assert_true(svm_mask_empty(&lost));
	assert_true(svm_mask_empty(&b.coh.poisoned));
}

/* ---- Whole blocks ----------------------------------------------------------------------------- */

static void one_step_serves_pages_in_different_states(void **state)
{
	static const struct {
		unsigned int page;
		const char *before;
		const char *step;
	} rows[] = {
		{ 0, "- - -", "zero 1 write 1" },
		{ 63, "Bw - -", "revoke 0 copy 0>1 drop 0 write 1" },
		{ 64, "- - Bw", "revoke 2 copy 2>1 drop 2 write 1" },
		{ 128, "Br Br -", "revoke 0 drop 0 write 1" },
		{ 200, "- Bw -", "" },
		{ 201, "!- - -", "" },
		{ 511, "- B -", "write 1" },
	};
	struct svm_goal goal = write_by(DEV0, SVM_COH_MIGRATE);
	struct svm_mask satisfied;
	struct svm_step step;
	struct block b;

	(void)state;
	block_init(&b);
	for (size_t i = 0; i < SVM_ARRAY_SIZE(rows); i++) {
		page_set(&b, rows[i].page, rows[i].before);
		svm_mask_set(&goal.pages, rows[i].page);
	}
	svm_coh_satisfied(&b.coh, &goal, &satisfied);
	assert_int_equal(svm_mask_count(&satisfied), 1);
	assert_true(svm_mask_test(&satisfied, 200));
	assert_true(svm_coh_plan(&b.coh, &goal, &step));
	assert_int_equal(svm_mask_count(&step.pages), 5);
	for (size_t i = 0; i < SVM_ARRAY_SIZE(rows); i++) {
		struct text text;

		step_print(&step, rows[i].page, &text);
		assert_string_equal(text.s, rows[i].step);
	}
	commit(&b, &step);
	assert_int_equal(svm_mask_count(&b.agents[DEV0].map_w), 6);
	assert_int_equal(svm_mask_count(&b.agents[DEV0].res), 6);
	assert_false(svm_coh_plan(&b.coh, &goal, &step));
}

static void pages_outside_the_goal_stay(void **state)
{
	struct {
		const char *pages;
		struct svm_goal goal;
	} rows[] = {
		{ "Bw @w -", discard },
		{ "Bw @w -", unmap(CPU) },
		{ "Bw @w -", write_by(DEV0, SVM_COH_MIGRATE) },
		{ "Bw @w -", read_by(DEV1, SVM_COH_DUPLICATE) },
		{ "- - Bw", read_by(DEV0, SVM_COH_REMOTE) },
		{ "Br Br Br", write_by(DEV0, SVM_COH_MIGRATE) },
		{ "- Bw -", leave(DEV0, CPU) },
		{ "Br Br @r", leave(CPU, DEV0) },
		{ "~- Bw -", bring_to(DEV0, SVM_COH_MIGRATE) },
		{ "!- - -", discard },
	};

	(void)state;
	for (size_t i = 0; i < SVM_ARRAY_SIZE(rows); i++) {
		struct svm_mask satisfied;
		struct svm_step step;
		struct block b;
		char left[64];

		block_init(&b);
		page_set(&b, 9, rows[i].pages);
		page_set(&b, 10, rows[i].pages);
		svm_mask_set(&rows[i].goal.pages, 10);
		assert_true(svm_coh_plan(&b.coh, &rows[i].goal, &step));
		assert_true(svm_mask_equal(&step.pages, &rows[i].goal.pages));
		commit(&b, &step);
		page_print(&b, 9, left);
		assert_string_equal(left, rows[i].pages);
		svm_coh_satisfied(&b.coh, &rows[i].goal, &satisfied);
		assert_true(svm_mask_equal(&satisfied, &rows[i].goal.pages));
	}
}

static void agents_need_a_record_only_once_a_step_names_them(void **state)
{
	struct svm_goal goal = write_by(DEV0, SVM_COH_MIGRATE);
	struct svm_mask m;
	struct svm_step step;
	struct block b;

	(void)state;
	block_init(&b);
	for (uint32_t a = 0; a < N_AGENTS; a++)
		b.coh.at[a] = NULL;
	assert_null(svm_coh_check(&b.coh));
	svm_coh_populated(&b.coh, &m);
	assert_true(svm_mask_empty(&m));
	svm_mask_set(&goal.pages, 1);
	assert_true(svm_coh_plan(&b.coh, &goal, &step));
	assert_int_equal(step.agent, DEV0);
	assert_int_equal(step.dest, DEV0);
	b.coh.at[DEV0] = &b.agents[DEV0];
	commit(&b, &step);
	svm_coh_only(&b.coh, DEV0, &m);
	assert_int_equal(svm_mask_count(&m), 1);
	svm_coh_only(&b.coh, CPU, &m);
	assert_true(svm_mask_empty(&m));
}

/* One of the ways in which an agent can be concerned with a page. */
static void agent_set(struct svm_coh_agent *agent, unsigned int page, uint32_t way)
{
	if (way & 1u)
		svm_mask_set(&agent->res, page);
	if (way & 2u)
		svm_mask_set(&agent->map_r, page);
	if (way & 4u)
		svm_mask_set(&agent->map_w, page);
	if (way & 8u)
		svm_mask_set(&agent->remote, page);
}

/* In every valid state of a page: it is grantable if and only if the step that gives it to the CPU does nothing
 * but map it, and then the grant leaves what the step would leave. */
static void grantable_is_what_takes_a_mapping_and_nothing_else(void **state)
{
	const unsigned int page = 77;
	unsigned int n_valid = 0;
	unsigned int n_grantable = 0;

	(void)state;
	for (uint32_t all = 0; all < 1u << 14; all++) {
		struct block b;
		struct block by_step;
		struct svm_goal goal = { .kind = SVM_GOAL_ACCESS,
					 .agent = CPU,
					 .mode = SVM_COH_MIGRATE,
					 .write = true,
					 .map = true,
					 .can_protect = EVERYONE,
					 .can_copy = EVERYONE };
		struct svm_step step;
		struct svm_mask grantable;
		bool only_maps;

		block_init(&b);
		for (uint32_t a = 0; a < N_AGENTS; a++)
			agent_set(&b.agents[a], page, all >> (4u * a) & 15u);
		if (all >> 12 & 1u)
			svm_mask_set(&b.coh.poisoned, page);
		if (all >> 13 & 1u)
			svm_mask_set(&b.coh.discarded, page);
		if (svm_coh_check(&b.coh))
			continue;
		n_valid++;
		svm_mask_zero(&goal.pages);
		svm_mask_set(&goal.pages, page);
		svm_coh_grantable(&b.coh, &goal.pages, &grantable);
		only_maps = svm_coh_plan(&b.coh, &goal, &step) && !step.stops && !step.copies &&
			    !step.drops && svm_mask_empty(&step.populate) &&
			    svm_mask_test(&step.map_w, page) &&
			    !svm_mask_test(&b.agents[CPU].map_r, page) &&
			    !svm_mask_test(&b.coh.discarded, page);
		assert_int_equal(svm_mask_test(&grantable, page), only_maps);
		if (!only_maps)
			continue;
		n_grantable++;
		by_step = b;
		for (uint32_t a = 0; a < N_AGENTS; a++)
			by_step.coh.at[a] = &by_step.agents[a];
		svm_coh_commit_stop(&by_step.coh, &step);
		svm_coh_commit_data(&by_step.coh, &step);
		svm_coh_commit_map(&by_step.coh, &step);
		svm_coh_commit_grant(&b.coh, &grantable);
		assert_memory_equal(b.agents, by_step.agents, sizeof(b.agents));
		assert_null(svm_coh_check(&b.coh));
	}
	assert_true(n_valid > 30);
	/* Held by the host, and by each device mapped in place for reading, for writing, or not. */
	assert_int_equal(n_grantable, 9);
}

static void check_names_the_broken_invariant(void **state)
{
	static const struct {
		const char *page;
		const char *broken;
	} rows[] = {
		{ "Bw r -", "I1" },	     { "Bw - B", "I1" },  { "B @w B", "I1" },
		{ "Br Bw -", "I1" },	     { "Bw Br -", "I1" }, { "- r -", "I2" },
		{ "r - -", "I2" },	     { "- B @r", "I2" },  { "B@r - -", "I2" },
		{ "!B - -", "I5" },	     { "!- @r -", "I2" }, { "!- B -", "I5" },
		{ "B @ -", "mapping bits" },
	};

	(void)state;
	for (size_t i = 0; i < SVM_ARRAY_SIZE(rows); i++) {
		struct block b;

		block_init(&b);
		page_set(&b, 300, rows[i].page);
		assert_non_null(svm_coh_check(&b.coh));
		assert_string_equal(svm_coh_check(&b.coh), rows[i].broken);
	}
}

static void check_sees_a_writer_that_is_no_reader(void **state)
{
	struct block b;

	(void)state;
	block_init(&b);
	page_set(&b, 300, "B - -");
	svm_mask_set(&b.agents[CPU].map_w, 300);
	assert_string_equal(svm_coh_check(&b.coh), "mapping bits");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_touch_makes_a_zero_page_where_it_is_wanted),
		cmocka_unit_test(migration_takes_mapping_and_bytes_from_the_others),
		cmocka_unit_test(in_place_all_agents_may_write_the_same_host_page),
		cmocka_unit_test(what_is_there_already_needs_no_step),
		cmocka_unit_test(a_missing_mapping_is_made_without_a_copy),
		cmocka_unit_test(what_is_there_in_part_is_completed),
		cmocka_unit_test(only_a_shared_copy_counts_as_a_duplicate),
		cmocka_unit_test(bytes_without_a_direct_path_stop_at_the_host),
		cmocka_unit_test(unmap_takes_one_mapping_and_no_bytes),
		cmocka_unit_test(contract_3_3_row_4_page_that_leaves_loses_the_mapping_there),
		cmocka_unit_test(leaving_the_host_takes_mappings_of_host_memory_along),
		cmocka_unit_test(leaving_without_a_direct_path_ends_at_the_host),
		cmocka_unit_test(contract_3_5_read_makes_a_copy_and_all_mappings_read_only),
		cmocka_unit_test(contract_3_5_who_cannot_be_protected_loses_the_mapping),
		cmocka_unit_test(contract_3_5_write_drops_all_other_copies),
		cmocka_unit_test(contract_3_5_prefetch_under_read_mostly_takes_nothing_away),
		cmocka_unit_test(duplicating_for_an_agent_that_mapped_in_place_only_revokes_it),
		cmocka_unit_test(contract_3_5_discard_leaves_nothing_and_lifts_poison),
		cmocka_unit_test(contract_3_5_eviction_of_discarded_pages_skips_the_copy),
		cmocka_unit_test(contract_3_5_prefetch_makes_discarded_pages_valid_again),
		cmocka_unit_test(contract_3_8_one_writer_or_any_number_of_readers),
		cmocka_unit_test(contract_3_9_loss_poisons_what_had_no_other_copy),
		cmocka_unit_test(contract_3_9_poisoned_pages_are_left_out_of_access),
		cmocka_unit_test(losing_an_agent_without_a_record_loses_nothing),
		cmocka_unit_test(one_step_serves_pages_in_different_states),
		cmocka_unit_test(pages_outside_the_goal_stay),
		cmocka_unit_test(agents_need_a_record_only_once_a_step_names_them),
		cmocka_unit_test(grantable_is_what_takes_a_mapping_and_nothing_else),
		cmocka_unit_test(check_names_the_broken_invariant),
		cmocka_unit_test(check_sees_a_writer_that_is_no_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
