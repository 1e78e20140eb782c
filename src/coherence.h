/* SPDX-License-Identifier: MIT */
/*
 * The coherence state machine of one block, as values: no locks, no system calls, no time.
 *
 * Agents and locations share one numbering: 0 is the CPU and host memory, i + 1 is device i and its
 * memory. A goal says what somebody wants; svm_coh_plan() turns state and goal into one step, as
 * data; who executes the step calls the three commits in order, each when what it records has
 * become true outside. Between any two of them the state is valid (I1 to I5 below), so a step
 * that fails half way needs no undo.
 *
 *  I1  a writable mapping exists only where one location holds the bytes, and all mappings point there
 *  I2  a mapping points to a location that holds the current bytes
 *  I3  a location loses the bytes only when another has them, or by discard or loss
 *  I4  a device without recoverable faults keeps a writable mapping only while it holds the page (the
 *      caller's part: see holds in block.h)
 *  I5  no agent sees older bytes; a page whose only copy is lost is poisoned, never zero or stale
 */
#ifndef SVM_COHERENCE_H
#define SVM_COHERENCE_H

#include "bits.h"

#define SVM_AGENT_CPU  0u
#define SVM_LOC_HOST   0u
#define SVM_AGENTS     (SVM_MAX_DEVICES + 1u)
#define SVM_AGENT_NONE SVM_AGENTS

/* What one agent maps, and what its own memory holds. */
struct svm_coh_agent {
	struct svm_mask res;   /* its memory holds the current bytes */
	struct svm_mask map_r; /* it has a valid mapping */
	struct svm_mask map_w; /* subset of map_r: it may write through it */
	struct svm_mask remote; /* subset of map_r, devices only: the mapping points to host memory */
};

struct svm_coh {
	struct svm_coh_agent *at[SVM_AGENTS]; /* NULL: holds and maps nothing */
	struct svm_mask poisoned;	      /* the only copy was lost */
	struct svm_mask discarded; /* lazily discarded: content may go instead of being evicted */
};

enum svm_coh_mode {
	SVM_COH_MIGRATE = 0, /* the agent's memory becomes the only holder */
	SVM_COH_DUPLICATE =
		1, /* the agent's memory becomes a further holder, all mappings read-only */
	SVM_COH_REMOTE = 2, /* host memory becomes the only holder, the agent maps it in place */
};

enum svm_goal_kind {
	SVM_GOAL_ACCESS = 0,  /* agent gets pages as mode says, and a mapping if map is set */
	SVM_GOAL_LEAVE = 1,   /* pages leave the memory of agent, for dest */
	SVM_GOAL_DISCARD = 2, /* pages are unmapped everywhere and hold nothing */
	SVM_GOAL_UNMAP = 3,   /* agent loses its mapping of pages; bytes stay */
};

struct svm_goal {
	enum svm_goal_kind kind;
	enum svm_coh_mode mode;
	uint32_t agent;
	uint32_t dest; /* LEAVE: location that takes the bytes (the host does where can_copy forbids it) */
	bool write;	      /* ACCESS: the agent will write */
	bool map;	      /* ACCESS: it gets a mapping, too */
	uint32_t can_protect; /* bit a: agent a's mappings can be made read-only in place */
	uint32_t can_copy; /* bit l: bytes of device memory l can be copied straight to the target; otherwise they
			       * go by way of the host. Copies from and to the host always can */
	struct svm_mask pages;
};

/* One step, to be executed in this order: stop, copy, drop, map. */
struct svm_step {
	uint32_t agent;		  /* gets the mapping */
	uint32_t dest;		  /* gets the bytes */
	uint32_t stops;		  /* bit a: revoke[a] or protect[a] has pages */
	uint32_t copies;	  /* bit l: copy[l] has pages */
	uint32_t drops;		  /* bit l: drop[l] has pages */
	bool remote;		  /* the mapping points to host memory */
	bool discard;		  /* pages hold nothing afterwards; poison is lifted */
	bool duplicate;		  /* for the record: a copy was added, nothing was moved */
	struct svm_mask pages;	  /* all that the step is about */
	struct svm_mask populate; /* zero pages made at dest */
	struct svm_mask map;	  /* pages mapped for agent at the end */
	struct svm_mask map_w;	  /* those of them that it may write */
	struct svm_mask revoke[SVM_AGENTS];
	struct svm_mask protect[SVM_AGENTS];
	struct svm_mask copy[SVM_AGENTS]; /* from that location to dest */
	struct svm_mask drop[SVM_AGENTS]; /* that location's bytes go */
};

/* Pages with at least one holder. */
void svm_coh_populated(const struct svm_coh *coh, struct svm_mask *ret_pages);
/* Pages whose only holder is loc. */
void svm_coh_only(const struct svm_coh *coh, uint32_t loc, struct svm_mask *ret_pages);
/* Pages for which the goal is reached already. */
void svm_coh_satisfied(const struct svm_coh *coh, const struct svm_goal *goal,
		       struct svm_mask *ret_pages);

/* The next step towards the goal for those of goal->pages that are not there yet; poisoned pages are left
 * out. Several steps may be needed: plan again after each. Returns false if there is nothing to do. */
bool svm_coh_plan(const struct svm_coh *coh, const struct svm_goal *goal,
		  struct svm_step *ret_step);

/* Pages of wanted that the CPU may get a writable mapping of with nothing to be done first: host memory alone holds
 * them, and nobody maps them elsewhere. Pages that it maps already are not among them. */
void svm_coh_grantable(const struct svm_coh *coh, const struct svm_mask *wanted,
		       struct svm_mask *ret_pages);
/* It gets that mapping. */
void svm_coh_commit_grant(struct svm_coh *coh, const struct svm_mask *pages);

/* The stops of the step have happened. at[] of the step's agent and dest exist, here and below. */
void svm_coh_commit_stop(struct svm_coh *coh, const struct svm_step *step);
/* Bytes have arrived at dest; what is dropped holds nothing from now on. */
void svm_coh_commit_data(struct svm_coh *coh, const struct svm_step *step);
/* The mapping is made. */
void svm_coh_commit_map(struct svm_coh *coh, const struct svm_step *step);

/* Device memory loc is lost, with its mappings. *ret_poisoned gets the pages that had no other holder. */
void svm_coh_lose(struct svm_coh *coh, uint32_t loc, struct svm_mask *ret_poisoned);

/* NULL if all invariants hold, else the name of the first that does not. */
const char *svm_coh_check(const struct svm_coh *coh);

#endif
