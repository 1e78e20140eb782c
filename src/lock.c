/* SPDX-License-Identifier: MIT */
#include "lock.h"
#include <stdbool.h>
#include <stdlib.h>

#ifdef SVM_DEBUG
#include <string.h>
#include <unistd.h>

/* Ranks rise and none is taken twice, so a thread never holds more locks than there are ranks. */
#define MAX_HELD SVM_RANK_LEAF

struct held {
	const void *lock;
	enum svm_lock_rank rank;
};

static _Thread_local struct held held[MAX_HELD];
static _Thread_local unsigned int n_held;

/* Not through the log: the application's callback could wait for the very lock that is wrong. */
static void __attribute__((noreturn)) breach(const char *what)
{
	ssize_t n = write(STDERR_FILENO, what, strlen(what));

	(void)n; /* the abort says it as well */
	abort();
}

/* Before the lock is waited for, so that a wrong order is seen even where it would hang. */
static void note_take(const void *lock, enum svm_lock_rank rank)
{
	for (unsigned int i = 0; i < n_held; i++) {
		if (held[i].lock == lock)
			breach("libsvm: a lock is taken twice by one thread\n");
		if (held[i].rank >= rank)
			breach("libsvm: locks are taken in wrong order\n");
	}
	if (rank < SVM_RANK_SPACE || rank > SVM_RANK_LEAF)
		breach("libsvm: a lock has no rank\n");
	held[n_held].lock = lock;
	held[n_held].rank = rank;
	n_held++;
}

static bool is_held(const void *lock)
{
	for (unsigned int i = 0; i < n_held; i++) {
		if (held[i].lock == lock)
			return true;
	}
	return false;
}

static void note_release(const void *lock)
{
	for (unsigned int i = 0; i < n_held; i++) {
		if (held[i].lock == lock) {
			held[i] = held[--n_held];
			return;
		}
	}
	breach("libsvm: a lock is released that is not held\n");
}

void svm_lock_assert_held(const struct svm_lock *lock)
{
	if (!is_held(lock))
		breach("libsvm: a lock that is needed here is not held\n");
}

void svm_lock_assert_none(void)
{
	if (n_held)
		breach("libsvm: a thread is about to wait with a lock held\n");
}

#else

static inline void note_take(const void *lock, enum svm_lock_rank rank)
{
	(void)lock;
	(void)rank;
}

static inline void note_release(const void *lock)
{
	(void)lock;
}

void svm_lock_assert_held(const struct svm_lock *lock)
{
	(void)lock;
}

void svm_lock_assert_none(void)
{
}

#endif

/*
 * These calls fail on misuse only (a destroyed lock, a deadlock that was noticed): nothing could go
 * on safely after that.
 */
static void must(int error)
{
	if (error)
		abort();
}

void svm_lock_init(struct svm_lock *lock, enum svm_lock_rank rank)
{
	must(pthread_mutex_init(&lock->mutex, NULL));
	lock->rank = rank;
}

void svm_lock_finish(struct svm_lock *lock)
{
	must(pthread_mutex_destroy(&lock->mutex));
}

void svm_lock(struct svm_lock *lock)
{
	note_take(lock, lock->rank);
	must(pthread_mutex_lock(&lock->mutex));
}

/* Nothing here touches the lock after it is free: whoever takes it next may end its life. */
void svm_unlock(struct svm_lock *lock)
{
	note_release(lock);
	must(pthread_mutex_unlock(&lock->mutex));
}

void svm_rwlock_init(struct svm_rwlock *lock, enum svm_lock_rank rank)
{
	pthread_rwlockattr_t attr;

	must(pthread_rwlockattr_init(&attr));
	/* The other writer preference of glibc, without NONRECURSIVE, still prefers readers. */
	must(pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP));
	must(pthread_rwlock_init(&lock->rwlock, &attr));
	must(pthread_rwlockattr_destroy(&attr));
	lock->rank = rank;
}

void svm_rwlock_finish(struct svm_rwlock *lock)
{
	must(pthread_rwlock_destroy(&lock->rwlock));
}

void svm_rwlock_read(struct svm_rwlock *lock)
{
	note_take(lock, lock->rank);
	must(pthread_rwlock_rdlock(&lock->rwlock));
}

void svm_rwlock_write(struct svm_rwlock *lock)
{
	note_take(lock, lock->rank);
	must(pthread_rwlock_wrlock(&lock->rwlock));
}

void svm_rwlock_unlock(struct svm_rwlock *lock)
{
	note_release(lock);
	must(pthread_rwlock_unlock(&lock->rwlock));
}
