/* SPDX-License-Identifier: MIT */
/*
 * Locks with ranks. A thread takes locks in rising rank; two of equal rank only where the list says
 * so. Builds with SVM_DEBUG check this per thread and abort on a breach; others pay nothing.
 */
#ifndef SVM_LOCK_H
#define SVM_LOCK_H

#include <pthread.h>

/* Outermost first: what each protects. */
enum svm_lock_rank {
	SVM_RANK_SPACE =
		1, /* the space's device list, open and close, register: held over calls that may block */
	SVM_RANK_NATIVE, /* hints of system memory, and telling devices of them: held over calls that may block */
	SVM_RANK_NEWS, /* rw: reading news of registered memory, and noting it, against mapping pages of it */
	SVM_RANK_RANGE_TREE, /* rw: allocations, registrations, block tables, hints. Faults read, alloc/free/advise write */
	SVM_RANK_BLOCK, /* one block's state, busy mark and queue. Never over a wait; never two at a time */
	SVM_RANK_STORE,	  /* a device's chunks, budget and use order; the host cache's order */
	SVM_RANK_ACCESS,  /* an access's or prefetch's progress */
	SVM_RANK_BACKEND, /* private to a backend */
	SVM_RANK_FENCE,	  /* a fence's or timeline's waiters */
	SVM_RANK_LOOP,	  /* a loop's posts and timers */
	SVM_RANK_LEAF,	  /* pools, trace, log */
};

struct svm_lock {
	pthread_mutex_t mutex;
	enum svm_lock_rank rank;
};

struct svm_rwlock {
	pthread_rwlock_t rwlock;
	enum svm_lock_rank rank;
};

void svm_lock_init(struct svm_lock *lock, enum svm_lock_rank rank);
void svm_lock_finish(struct svm_lock *lock);
void svm_lock(struct svm_lock *lock);
void svm_unlock(struct svm_lock *lock);
/* Abort (SVM_DEBUG builds) unless this thread holds the lock. */
void svm_lock_assert_held(const struct svm_lock *lock);

/* Writers are preferred, so a stream of faults cannot starve svm_free(). A thread must not take the
 * read side twice. */
void svm_rwlock_init(struct svm_rwlock *lock, enum svm_lock_rank rank);
void svm_rwlock_finish(struct svm_rwlock *lock);
void svm_rwlock_read(struct svm_rwlock *lock);
void svm_rwlock_write(struct svm_rwlock *lock);
void svm_rwlock_unlock(struct svm_rwlock *lock);

/* Abort (SVM_DEBUG builds) if this thread holds any lock: called where a thread is about to wait. */
void svm_lock_assert_none(void);

#endif
