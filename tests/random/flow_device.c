/* SPDX-License-Identifier: MIT */
#include "flow_state.h"

#include "hostile_backend.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What can be a device of a run. A line here is all that a further kind takes. */
struct flow_device_kind {
	const char *backend;
	/* Options by chance, with the backend's name in front; NULL: the name is all there is to say. */
	void (*choose)(struct dice *d, struct slot *s);
	/* It dies, as if by itself; NULL: nobody can make it. */
	int (*kill)(struct svm_device *device);
	/* It breaks its contract: any call about it may fail, and it may die by itself. */
	bool hostile;
};

static void choose_soft(struct dice *d, struct slot *s)
{
	static const unsigned int sizes[] = { 4, 6, 8, 12, 16, 32 };
	unsigned int memory = sizes[flow_pick(d, 6)];
	bool visible = flow.config.keep || flow_chance(d, 60);
	bool keep = flow.config.keep || flow_chance(d, 25);

	(void)snprintf(
		s->name, sizeof(s->name),
		"soft:memory=%uM:faults=%s:host=%s:readonly=%s:peer=%s:visible=%s:engines=%u:keep=%s%s",
		memory, flow_chance(d, 60) ? "on" : "off", flow_chance(d, 60) ? "alias" : "none",
		flow_chance(d, 70) ? "on" : "off", flow_chance(d, 60) ? "on" : "off",
		visible ? "on" : "off", 1u + (unsigned int)flow_pick(d, 3), keep ? "on" : "off",
		flow_chance(d, 10) ? ":latency=200000" : "");
	s->lossy = !(keep && visible);
}

/* Lies that harm only those who trust it: what it says it has done, it has done. */
static void choose_hostile(struct dice *d, struct slot *s)
{
	uint32_t lies = (uint32_t)flow_pick(d, 1u << HOSTILE_LIES) &
			(HOSTILE_FAILS | HOSTILE_POINTS_FAIL | HOSTILE_LATE | HOSTILE_FULL |
			 HOSTILE_VALUES | HOSTILE_NEWS | HOSTILE_STORM | HOSTILE_MAPS);

	if (flow.config.kills && !flow.config.keep && flow_chance(d, 40))
		lies |= HOSTILE_DIES;
	(void)snprintf(s->name, sizeof(s->name), "hostile:seed=%llu:lies=%u:memory=%u",
		       (unsigned long long)flow_roll(d), lies, 2u + (unsigned int)flow_pick(d, 6));
	s->lossy = true;
	if (lies & HOSTILE_DIES)
		atomic_store(&flow.bytes_lost, true);
}

static const struct flow_device_kind device_kinds[] = {
	{ "soft", choose_soft, svm_soft_kill, false },
	{ "hostile", choose_hostile, NULL, true },
	{ "xe", NULL, NULL, false },
};
#define N_DEVICE_KINDS (sizeof(device_kinds) / sizeof(device_kinds[0]))

#define MAX_NAMES 16u

/* Names to choose from: of a kind, or of a device with its options. */
static struct {
	const struct flow_device_kind *kind;
	bool with_options;
	char text[128];
} names[MAX_NAMES] = { { &device_kinds[0], false, "soft" } };
static unsigned int n_names = 1;
static bool listed; /* names come from the environment */

/* What their kernel may do to listed devices, by itself. */
static enum {
	NOTHING,
	REFUSE /* to open them */,
	KILL /* them, at any time, or refuse */
} kernel_may;

static const char *add_name(const char *text, size_t length)
{
	const char *colon = memchr(text, ':', length);
	size_t head = colon ? (size_t)(colon - text) : length;

	if (n_names == MAX_NAMES || length >= sizeof(names[0].text))
		return "too many devices, or a name that is too long";
	for (unsigned int i = 0; i < N_DEVICE_KINDS; i++) {
		if (strlen(device_kinds[i].backend) != head ||
		    strncmp(device_kinds[i].backend, text, head) != 0)
			continue;
		names[n_names].kind = &device_kinds[i];
		names[n_names].with_options = colon || !device_kinds[i].choose;
		memcpy(names[n_names].text, text, length);
		names[n_names].text[length] = '\0';
		n_names++;
		return NULL;
	}
	return "names a device of no known kind";
}

bool flow_lists_hostile(void)
{
	bool any = false;

	for (unsigned int i = 0; i < n_names; i++)
		any |= names[i].kind->hostile;
	return any;
}

bool flow_is_hostile(const struct slot *s)
{
	return s && s->kind->hostile;
}

const char *flow_device_init(void)
{
	const char *list = getenv("SVM_TEST_DEVICES");

	const char *may = getenv("SVM_TEST_KERNEL_MAY");

	hostile_plug();
	if (may) {
		kernel_may = strcmp(may, "kill") == 0	  ? KILL
			     : strcmp(may, "refuse") == 0 ? REFUSE
							  : NOTHING;
		if (kernel_may == NOTHING || !list)
			return "goes with SVM_TEST_KERNEL_MAY, which is refuse or kill";
	}
	if (!list)
		return NULL;
	n_names = 0;
	listed = true;
	while (*list) {
		size_t length = strcspn(list, " ");
		const char *what = length ? add_name(list, length) : NULL;

		if (what)
			return what;
		list += length + (list[length] == ' ');
	}
	return n_names ? NULL : "names no device";
}

static void choose_name(struct dice *d, struct slot *s)
{
	/* The first is chosen without a roll, so that a list of one changes nothing. */
	uint64_t i = n_names > 1 ? flow_pick(d, n_names) : 0;

	/* Now and then one that cannot be trusted, where no list says what there is. */
	if (!listed && flow.config.hostile && flow_chance(d, 35)) {
		s->kind = &device_kinds[1];
		s->kind->choose(d, s);
		return;
	}
	s->kind = names[i].kind;
	if (!names[i].with_options) {
		s->kind->choose(d, s);
		return;
	}
	(void)snprintf(s->name, sizeof(s->name), "%s", names[i].text);
	s->lossy = true;
}

struct slot *flow_use_slot(struct dice *d)
{
	struct slot *s = &flow.slots[flow_pick(d, flow.config.n_slots)];

	(void)pthread_rwlock_rdlock(&s->lock);
	if (s->device)
		return s;
	(void)pthread_rwlock_unlock(&s->lock);
	return NULL;
}

void flow_leave_slot(struct slot *s)
{
	(void)pthread_rwlock_unlock(&s->lock);
}

static void mark_killed(struct slot *s)
{
	if (s->lossy)
		atomic_store(&flow.bytes_lost, true);
	atomic_store(&s->killed, true);
	__atomic_fetch_add(&flow.order->report->n_lost, 1u, __ATOMIC_RELAXED);
}

/* A call says that the device is lost: is it? One that can fault dies of a fault on lost memory, too. */
void flow_expect_lost(struct slot *s, const char *what, int error)
{
	struct svm_device_info info = { .size = sizeof(info) };
	const struct timespec pause = { .tv_nsec = 1000000 };
	int e = svm_device_query(s->device, &info);

	if (atomic_load(&s->killed) || flow_is_hostile(s))
		return;
	/* Its driver, or a fence of what it did last, knew first. */
	for (unsigned int i = 0; i < 10000u && e == 0 && !info.is_lost; i++) {
		(void)nanosleep(&pause, NULL);
		e = svm_device_query(s->device, &info);
	}
	if (s->mortal && e == 0) {
		mark_killed(s);
		return;
	}
	if (e < 0 || !info.is_lost)
		flow_fail("%s on device %d: %d, but it is not lost", what, (int)(s - flow.slots),
			  error);
	if (!(s->caps & SVM_CAP_FAULTS) || !(atomic_load(&flow.bytes_lost) || flow.config.hostile))
		flow_fail("%s: device %d (%s) is lost, and nobody killed it (%d)", what,
			  (int)(s - flow.slots), s->name, error);
	mark_killed(s);
}

void flow_open_slot(struct slot *s, uint64_t key)
{
	struct svm_device_info info = { .size = sizeof(info) };
	struct dice d = { key };
	int e;

	choose_name(&d, s);
	atomic_store(&s->killed, false);
	s->mortal = kernel_may == KILL && !s->kind->choose;
	if (s->mortal)
		atomic_store(&flow.bytes_lost, true);
	e = svm_device_open(flow.space, s->name, &s->device);
	if (e < 0 && kernel_may != NOTHING && !s->kind->choose) {
		s->device = NULL;
		return;
	}
	if (e < 0)
		flow_fail("svm_device_open(%s): %d", s->name, e);
	e = svm_device_query(s->device, &info);
	if (e < 0)
		flow_fail("svm_device_query: %d", e);
	s->id = svm_device_id(s->device);
	s->caps = info.caps;
	s->blocks = info.memory_size / BLOCK;
	if (flow.order->loud)
		(void)fprintf(stderr, "  device %d (id %u): %s\n", (int)(s - flow.slots), s->id,
			      s->name);
}

void flow_close_slot(struct slot *s)
{
	int e = svm_device_close(s->device);

	/* A hostile one may refuse to give bytes back, but not for ever. */
	for (unsigned int i = 0; i < 1000u && e < 0 && flow_is_hostile(s); i++)
		e = svm_device_close(s->device);
	if (e < 0)
		flow_fail("svm_device_close(%s) at the end: %d", s->name, e);
	s->device = NULL;
}

static uint64_t blocks_of(uint64_t size)
{
	return size / BLOCK + 2u;
}

bool flow_take_room(struct slot *s, uint64_t size)
{
	uint64_t n = blocks_of(size);

	if (atomic_fetch_add(&s->n_taken, n) + n + 1u <= s->blocks / 2u)
		return true;
	atomic_fetch_sub(&s->n_taken, n);
	return false;
}

void flow_give_room(struct slot *s, uint64_t size)
{
	atomic_fetch_sub(&s->n_taken, blocks_of(size));
}

void flow_op_kill(struct worker *w, struct dice *d)
{
	struct slot *s;
	int e;

	if (!flow.config.kills)
		return;
	s = flow_use_slot(d);
	if (s && s->kind->kill) {
		mark_killed(s);
		e = s->kind->kill(s->device);
		flow_note(w, NULL, NULL, (int)(s - flow.slots), 0, 0, s->lossy, e);
		flow_expect("kill", e, 0);
	}
	if (s)
		flow_leave_slot(s);
}

void flow_op_reopen(struct worker *w, struct dice *d)
{
	struct slot *s = &flow.slots[flow_pick(d, flow.config.n_slots)];
	uint64_t key = flow_roll(d);
	bool others = flow_chance(d, 50);
	int e = 0;

	if (pthread_rwlock_trywrlock(&s->lock) != 0)
		return;
	if (s->device && (atomic_load(&s->killed) || others)) {
		unsigned int n_open = atomic_load(&s->n_open);

		e = svm_device_close(s->device);
		flow_note(w, "close", NULL, (int)(s - flow.slots), 0, 0, n_open, e);
		if (e == 0)
			s->device = NULL;
		else if (!flow_is_hostile(s) && (e != -EBUSY || n_open == 0))
			flow_fail("svm_device_close with %u open: %d", n_open, e);
	}
	if (!s->device && (others || flow_chance(d, 60))) {
		flow_open_slot(s, key);
		if (s->device)
			flow_note(w, "open", NULL, (int)(s - flow.slots), 0, s->blocks, s->caps, 0);
	}
	(void)pthread_rwlock_unlock(&s->lock);
}
