/* SPDX-License-Identifier: MIT */
/*
 * A backend that keeps its bytes right and breaks about everything else: calls fail, points fail, fences come late or
 * never, queues are full for no reason, completed values and faults come out of the blue, the device dies at any time,
 * unasked and unannounced.
 *
 * "hostile:seed=N:lies=MASK:memory=N" (blocks); lies are HOSTILE_*. It does no work: what it is good for is to have
 * memory there and back. Nothing here calls malloc, so that ops may run in service threads.
 */
#ifndef SVM_HOSTILE_BACKEND_H
#define SVM_HOSTILE_BACKEND_H

#include <libsvm/backend.h>

#define HOSTILE_FAILS	    (1u << 0) /* a call fails now and then, with any errno */
#define HOSTILE_POINTS_FAIL (1u << 1) /* a point fails now and then: nothing of it was done */
#define HOSTILE_LATE	    (1u << 2) /* points are reached late */
#define HOSTILE_FULL \
	(1u << 3) /* -EAGAIN now and then, though nothing is queued; an event follows */
#define HOSTILE_FULL_FOREVER (1u << 4) /* from the 20th call on it is full, and no event follows */
#define HOSTILE_NEVER	     (1u << 5) /* from the 20th call on no point is reached */
#define HOSTILE_VALUES \
	(1u << 6) /* completed() says values from nowhere, when nothing is under way */
#define HOSTILE_NEWS	    (1u << 7) /* completed() tells of failures again and again */
#define HOSTILE_STORM	    (1u << 8) /* its event comes for nothing, very often */
#define HOSTILE_DIES	    (1u << 9) /* at the 40th call; it says that memory is kept, and maps none */
#define HOSTILE_QUIET	    (1u << 10) /* a kill raises no event */
#define HOSTILE_TIMELINE    (1u << 11) /* the 20th point is of a timeline that does not exist */
#define HOSTILE_FAULTS	    (1u << 12) /* faults of addresses that are nobody's, some of them twice */
#define HOSTILE_MANY_FAULTS (1u << 13) /* says it has read more faults than were asked for */
#define HOSTILE_MAPS	    (1u << 14) /* chunk_map() fails, or maps nothing */
#define HOSTILE_SAME_CHUNK \
	(1u << 15) /* every chunk has one handle: what is stored there is worth nothing */
#define HOSTILE_LIES 16u

/* The library finds "hostile" besides what it finds anyway. */
void hostile_plug(void);
void hostile_unplug(void);

#endif
