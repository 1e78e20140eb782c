/* SPDX-License-Identifier: MIT */
/*
 * A transition: one step of the coherence machine, executed. The only caller of moving and binding
 * ops of backends and of host grant, revoke and drop. It goes through its stages until it has to wait for
 * a device, and is resumed from there by the event; it holds no lock while it works or waits.
 *
 * stop writers -> storage at the destination -> copy -> commit, give storage back -> map
 */
#ifndef SVM_TRANSITION_H
#define SVM_TRANSITION_H

#include "block.h"

enum svm_transition_kind {
	SVM_TRANSITION_STEP = 0, /* transition->step */
	SVM_TRANSITION_CONVERT =
		1, /* step stops the CPU on all pages; then private storage becomes shared */
	SVM_TRANSITION_POISON = 2, /* CPU touches of step.pages raise a signal */
	SVM_TRANSITION_REPAIR = 3, /* the CPU touched step.pages, which are mapped on record */
	SVM_TRANSITION_PLACE = 4,  /* host pages of step.pages go to the block's NUMA node */
};

enum svm_stage {
	SVM_STAGE_STOP = 0,
	SVM_STAGE_STOPPING, /* devices unbind */
	SVM_STAGE_COPY,
	SVM_STAGE_COPYING,
	SVM_STAGE_MAP,
	SVM_STAGE_MAPPING,
	SVM_STAGE_DONE,
};

struct svm_transition {
	struct svm_block *block;
	struct svm_request *request; /* on whose behalf; it stays in the block's queue */
	enum svm_transition_kind kind;
	enum svm_stage stage;
	bool urgent;   /* somebody waits for this block alone */
	bool for_loss; /* made because a device died, not for what the request wants */
	bool again;    /* a queue was full: redo the stage after the wait */
	int error;
	uint64_t chunk; /* storage for the destination, attached when needed */
	bool has_chunk;
	_Atomic uint32_t pending; /* waits under way, plus one for who sets them up */
	struct svm_point_waiter waiters[SVM_AGENTS];
	int refused[SVM_AGENTS]; /* why a device did not take all that the stage had for it; 0: it did */
	struct svm_step step;
	/* Called when it ends after having waited; block->busy is still set. */
	void (*done)(struct svm_transition *transition);
};

/* Execute. Returns true if it ended within the call (done() is not called then). */
bool svm_transition_run(struct svm_transition *transition);

#endif
