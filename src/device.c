/* SPDX-License-Identifier: MIT */
#include "device.h"

#include "backend.h"
#include "sys.h"
#include <errno.h>
#include <string.h>

/* The watchdog looks this often within the time allowed. */
#define WATCHDOG_LOOKS 4u

static void run_waiters(struct svm_list *ready)
{
	svm_list_for_each_safe(node, tmp, ready) {
		struct svm_point_waiter *waiter =
			svm_list_entry(node, struct svm_point_waiter, node);

		svm_list_del(node);
		waiter->fn(waiter);
	}
}

/* LOCKING: device->lock. What a reached point ended with. */
static int result_of(const struct svm_timeline_state *state, uint64_t value)
{
	for (unsigned int i = 0; i < SVM_FAILURES; i++)
		if (value != 0 && state->failed[i] == value)
			return state->failure[i];
	return 0;
}

static void note_failure(struct svm_timeline_state *state, uint64_t value, int status)
{
	unsigned int i = (unsigned int)(state->n_failures++ % SVM_FAILURES);

	state->failed[i] = value;
	state->failure[i] = svm_backend_error(status);
}

/* LOCKING: device->lock. Move waiters whose point is reached to ready; woken: those who wait for any event, too. */
static void collect(struct svm_device *device, enum svm_timeline t, bool woken,
		    struct svm_list *ready)
{
	struct svm_timeline_state *state = &device->timelines[t];

	svm_list_for_each_safe(node, tmp, &state->waiters) {
		struct svm_point_waiter *waiter =
			svm_list_entry(node, struct svm_point_waiter, node);

		if (waiter->value > state->completed && !(woken && waiter->value == SVM_NEXT_EVENT))
			continue;
		/* Who waits for room has nothing to do with what the others' work came to. */
		waiter->status = waiter->for_room ? 0 : result_of(state, waiter->value);
		svm_list_del(node);
		svm_list_add_tail(ready, node);
	}
}

/* LOCKING: device->lock. All waiters end: whatever the reason, to them the device is gone. */
static void collect_all(struct svm_device *device, struct svm_list *ready)
{
	for (unsigned int t = 0; t < SVM_TIMELINES; t++) {
		struct svm_list *waiters = &device->timelines[t].waiters;

		svm_list_for_each(node, waiters)
			svm_list_entry(node, struct svm_point_waiter, node)->status = -ENODEV;
		svm_list_splice_tail(ready, waiters);
	}
}

/*
 * LOCKING: device->lock. Ask the backend how far it is. Returns -ENODEV if the device is lost, or 0.
 *
 * No point counts as reached before the call that submits it has returned, whatever the backend says: who waits for it
 * asks then. So a value out of the blue does no lasting harm.
 */
static int ask(struct svm_device *device, enum svm_timeline t)
{
	struct svm_timeline_state *state = &device->timelines[t];
	uint64_t value;
	bool news;
	int r;

	do {
		value = state->completed;
		r = device->ops.completed(device->dev, t, &value);
		/* Else it was told before. */
		news = value > state->completed;
		if (news && r < 0 && r != -ENODEV)
			note_failure(state, value, r);
		if (svm_min_u64(value, state->submitted) > state->completed) {
			state->completed = svm_min_u64(value, state->submitted);
			state->refused_ns = 0;
		}
	} while (r < 0 && r != -ENODEV && news && value <= state->submitted);
	return r == -ENODEV ? r : 0;
}

/* LOCKING: device->lock. The same, and who waited for what is reached moves to ready. */
static int look(struct svm_device *device, enum svm_timeline t, struct svm_list *ready)
{
	int r = ask(device, t);

	collect(device, t, false, ready);
	return r;
}

static uint64_t look_ns(const struct svm_device *device)
{
	return device->ctx->op_timeout_ns / WATCHDOG_LOOKS;
}

static void arm_watchdog(struct svm_device *device)
{
	if (atomic_load(&device->watched) || atomic_exchange(&device->watched, true))
		return;
	svm_loop_set_timer(device->loop, &device->watchdog, svm_sys->clock_ns() + look_ns(device));
}

/* LOCKING: device->lock. A clock that stands still while the process does. */
static uint64_t clock_of(const struct svm_device *device)
{
	return svm_sys->clock_ns() - device->stalled_ns;
}

/*
 * LOCKING: device->lock. When the oldest wait of the library's own timelines began, be it for a point or, through any number of
 * refusals, for room; UINT64_MAX: none. Work of the application may take as long as it likes. Refusals that nobody has met
 * since the last look, or waits on, are forgotten.
 */
static uint64_t look_for_oldest_wait(struct svm_device *device)
{
	uint64_t since = UINT64_MAX;

	for (unsigned int t = 0; t < SVM_TIMELINE_WORK; t++) {
		struct svm_timeline_state *state = &device->timelines[t];
		bool refused = state->refused_again;

		svm_list_for_each(node, &state->waiters) {
			const struct svm_point_waiter *w =
				svm_list_entry(node, struct svm_point_waiter, node);

			since = svm_min_u64(since, w->since_ns);
			refused |= w->for_room;
		}
		if (!refused)
			state->refused_ns = 0;
		if (state->refused_ns)
			since = svm_min_u64(since, state->refused_ns);
		state->refused_again = false;
	}
	return since;
}

static void give_up(struct svm_device *device, uint64_t ns)
{
	svm_trace_event(&device->ctx->trace, &(struct svm_event){ .kind = SVM_EVENT_WATCHDOG,
								  .device = device->id,
								  .value = ns / 1000000u });
	svm_error(&device->ctx->log, "device %s: an operation takes over %llu ms, given up",
		  device->name, (unsigned long long)(ns / 1000000u));
	svm_device_lose(device, -ENODEV);
}

/* All timelines, and who waited for what they have reached, or for any event (woken). Returns why the device is lost, or
 * 0. */
static int look_at_all(struct svm_device *device, bool woken)
{
	struct svm_list ready;
	int lost = 0;

	svm_list_init(&ready);
	svm_lock(&device->lock);
	for (unsigned int t = 0; t < SVM_TIMELINES; t++) {
		int r = ask(device, (enum svm_timeline)t);

		collect(device, (enum svm_timeline)t, woken, &ready);
		lost = lost ? lost : r;
	}
	device->n_events += woken;
	svm_unlock(&device->lock);
	/* Whoever is told of a failure that ended the device finds it lost. */
	if (lost)
		svm_device_lose(device, lost);
	run_waiters(&ready);
	return lost;
}

/*
 * Time counts only while the watchdog is about: where a look comes late by as much as looks are apart, the process stood
 * still, by a signal, under a debugger or with its machine, and so may have what serves the device.
 */
static void watchdog_fired(struct svm_timer *timer)
{
	struct svm_device *device = svm_container_of(timer, struct svm_device, watchdog);
	uint64_t late = svm_sys->clock_ns() - timer->deadline_ns;
	uint64_t since;
	uint64_t now;

	/* Before looking: who comes to wait later arms it again. */
	atomic_store(&device->watched, false);
	svm_lock(&device->lock);
	if (late > look_ns(device))
		device->stalled_ns += late;
	svm_unlock(&device->lock);
	/* What ended meanwhile is not waited for, though its event may be unread. */
	if (look_at_all(device, false) || svm_device_is_lost(device))
		return;
	svm_lock(&device->lock);
	since = look_for_oldest_wait(device);
	now = clock_of(device);
	svm_unlock(&device->lock);
	if (since == UINT64_MAX)
		return;
	if (now < since || now - since < device->ctx->op_timeout_ns)
		arm_watchdog(device);
	else
		give_up(device, now - since);
}

void svm_device_check(struct svm_device *device)
{
	int lost;

	if (svm_device_is_lost(device))
		return;
	svm_lock(&device->lock);
	/* Waiters stay for the event: to run them here would recurse, as many of them come here as well. */
	lost = ask(device, SVM_TIMELINE_BIND);
	svm_unlock(&device->lock);
	if (lost)
		svm_device_lose(device, lost);
}

static void handle_loss(struct svm_device *device)
{
	if (device->lost_handled)
		return;
	device->lost_handled = true;
	/* A dead device's fd may stay readable for ever. */
	svm_loop_remove_watch(device->loop, &device->event_watch);
	if (svm_device_has(device, SVM_CAP_FAULTS))
		svm_loop_remove_watch(device->loop, &device->fault_watch);
	device->on_lost(device);
}

static void event_ready(struct svm_watch *watch)
{
	struct svm_device *device = svm_container_of(watch, struct svm_device, event_watch);
	int lost;

	device->ops.event_ack(device->dev);
	lost = look_at_all(device, true);
	if (lost)
		svm_device_lose(device, lost);
	if (svm_device_is_lost(device))
		handle_loss(device);
}

/* The event of a loss may not come, if it was us who gave the device up. */
static void loss_fired(struct svm_timer *timer)
{
	handle_loss(svm_container_of(timer, struct svm_device, loss));
}

static void fault_ready(struct svm_watch *watch)
{
	struct svm_device *device = svm_container_of(watch, struct svm_device, fault_watch);

	device->on_faults(device);
}

void svm_device_lose(struct svm_device *device, int reason)
{
	struct svm_list ready;

	svm_list_init(&ready);
	svm_lock(&device->kill_lock);
	if (svm_device_is_lost(device)) {
		svm_unlock(&device->kill_lock);
		return;
	}
	/* Lost means that nothing of it writes memory any more: only then may others go on, and take
	 * the bytes or the storage. */
	device->ops.kill(device->dev);
	svm_lock(&device->lock);
	/* What ended before the end, and how. */
	for (unsigned int t = 0; t < SVM_TIMELINES; t++)
		(void)look(device, (enum svm_timeline)t, &ready);
	atomic_store(&device->lost, reason);
	collect_all(device, &ready);
	svm_unlock(&device->lock);
	svm_unlock(&device->kill_lock);
	svm_error(&device->ctx->log, "device %s: lost (error %d)", device->name, -reason);
	svm_trace_event(&device->ctx->trace, &(struct svm_event){ .kind = SVM_EVENT_DEVICE_LOST,
								  .device = device->id,
								  .value = (uint64_t)-reason });
	/* Leads to on_lost(), in the loop. */
	svm_loop_set_timer(device->loop, &device->loss, 0);
	run_waiters(&ready);
}

/* LOCKING: device->lock. Which point makes room where a call was refused. */
static uint64_t point_of_room(const struct svm_device *device, const struct svm_point *refused)
{
	const struct svm_timeline_state *state = &device->timelines[refused->timeline];

	if (state->submitted > state->completed)
		return state->submitted;
	/* Nothing is under way whose end would make room: the backend says when, or has said so since. */
	return device->n_events == refused->value ? SVM_NEXT_EVENT : state->completed;
}

static bool wait_for(struct svm_device *device, const struct svm_point *point, bool for_room,
		     struct svm_point_waiter *waiter)
{
	struct svm_timeline_state *state = &device->timelines[point->timeline];
	struct svm_list ready;
	bool done;
	int lost = 0;

	svm_list_init(&ready);
	waiter->for_room = for_room;
	svm_lock(&device->lock);
	waiter->since_ns = clock_of(device);
	waiter->value = for_room ? point_of_room(device, point) : point->value;
	if (waiter->value > state->completed)
		lost = look(device, point->timeline, &ready);
	done = waiter->value <= state->completed;
	waiter->status = done && !for_room ? result_of(state, waiter->value) : 0;
	if (!done && svm_device_is_lost(device)) {
		waiter->status = -ENODEV;
		done = true;
	}
	if (!done)
		svm_list_add_tail(&state->waiters, &waiter->node);
	svm_unlock(&device->lock);
	if (!done && point->timeline != SVM_TIMELINE_WORK)
		arm_watchdog(device);
	if (lost)
		svm_device_lose(device, lost);
	run_waiters(&ready);
	return done;
}

bool svm_device_wait(struct svm_device *device, const struct svm_point *point,
		     struct svm_point_waiter *waiter)
{
	return wait_for(device, point, false, waiter);
}

bool svm_device_wait_room(struct svm_device *device, const struct svm_point *refused,
			  struct svm_point_waiter *waiter)
{
	return wait_for(device, refused, true, waiter);
}

/* A call for a timeline begins: what is known of events before it. */
static uint64_t events_before(struct svm_device *device)
{
	uint64_t n;

	svm_lock(&device->lock);
	n = device->n_events;
	svm_unlock(&device->lock);
	return n;
}

/* The queue was full. The watchdog sees to it that it is not so for ever. */
static void note_refusal(struct svm_device *device, enum svm_timeline timeline)
{
	struct svm_timeline_state *state = &device->timelines[timeline];

	if (timeline == SVM_TIMELINE_WORK)
		return;
	svm_lock(&device->lock);
	if (state->refused_ns == 0)
		state->refused_ns = clock_of(device);
	state->refused_again = true;
	svm_unlock(&device->lock);
	arm_watchdog(device);
}

/* What came of a call for a timeline, before which there had been n_events. */
static int note(struct svm_device *device, enum svm_timeline timeline, uint64_t n_events, int r,
		struct svm_point *point)
{
	struct svm_timeline_state *state = &device->timelines[timeline];

	if (r >= 0 && point->timeline != (uint32_t)timeline) {
		svm_error(&device->ctx->log, "device %s: a point of timeline %u instead of %u",
			  device->name, point->timeline, (unsigned int)timeline);
		svm_device_lose(device, -EPROTO);
		r = -ENODEV;
	}
	if (r == -EAGAIN)
		note_refusal(device, timeline);
	/* A device that is dead refuses for any reason it likes, and the event that says so may come later: whoever decides by
	 * the error must find the device lost. */
	if (r < 0 && r != -EAGAIN && !svm_device_is_lost(device)) {
		int lost = look_at_all(device, false);

		if (lost || r == -ENODEV)
			svm_device_lose(device, lost ? lost : r);
	}
	if (r < 0 && svm_device_is_lost(device))
		r = -ENODEV;
	if (r < 0) {
		*point = (struct svm_point){ .timeline = timeline, .value = n_events };
		return r == -EAGAIN ? r : svm_backend_error(r);
	}
	svm_lock(&device->lock);
	state->refused_ns = 0;
	if (point->value > state->submitted)
		state->submitted = point->value;
	svm_unlock(&device->lock);
	return 0;
}

int svm_device_bind(struct svm_device *device, const struct svm_bind *binds, size_t n_binds,
		    struct svm_point *ret_point)
{
	uint64_t n_events = events_before(device);
	int r;

	svm_trace_count(&device->ctx->trace, SVM_COUNT_BINDS, n_binds);
	*ret_point = (struct svm_point){ .timeline = SVM_TIMELINE_BIND };
	r = device->ops.bind(device->dev, binds, n_binds, ret_point);
	return note(device, SVM_TIMELINE_BIND, n_events, r, ret_point);
}

int svm_device_copies(struct svm_device *device, const struct svm_copy *copies, size_t n_copies,
		      uint32_t flags, struct svm_point *ret_point)
{
	uint64_t n_events = events_before(device);
	int r;

	*ret_point = (struct svm_point){ .timeline = SVM_TIMELINE_COPY };
	r = device->ops.copy(device->dev, copies, n_copies, flags, ret_point);
	return note(device, SVM_TIMELINE_COPY, n_events, r, ret_point);
}

int svm_device_work(struct svm_device *device, const struct svm_work *work,
		    struct svm_point *ret_point)
{
	uint64_t n_events = events_before(device);
	int r;

	*ret_point = (struct svm_point){ .timeline = SVM_TIMELINE_WORK };
	r = device->ops.work(device->dev, work, ret_point);
	return note(device, SVM_TIMELINE_WORK, n_events, r, ret_point);
}

int svm_device_launch(struct svm_device *device,
		      void (*kernel)(const void *args, uint64_t index, uint64_t count),
		      const void *args, size_t args_size, uint64_t n, struct svm_point *ret_point)
{
	uint64_t n_events = events_before(device);
	int r;

	*ret_point = (struct svm_point){ .timeline = SVM_TIMELINE_WORK };
	r = device->ops.launch(device->dev, kernel, args, args_size, n, ret_point);
	return note(device, SVM_TIMELINE_WORK, n_events, r, ret_point);
}

static void forward_log(void *data, int level, const char *line)
{
	svm_log_line(data, level, "%s", line);
}

static int open_backend(struct svm_ctx *ctx, struct svm_device *device, const char *options,
			const struct svm_device_import *import)
{
	struct svm_backend_open args = {
		.size = sizeof(args),
		.options = options,
		.window_base = ctx->host.window_base,
		.window_size = ctx->host.window_size,
		.host_fd = ctx->host.memfd,
		.flags = (ctx->for_native ? SVM_OPEN_NATIVE : 0) |
			 (ctx->unit > SVM_PAGE_SIZE ? SVM_OPEN_64K_UNITS : 0),
		.log = forward_log,
		.log_data = &ctx->log,
		.import = import,
	};
	int r = device->ops.open(&args, &device->dev);

	if (r < 0)
		return r;
	device->ops.caps(device->dev, &device->caps);
	/* Faults of a driver are the kernel's own. */
	if (!ctx->host.uffd.kernel_faults)
		device->caps.caps &= ~SVM_CAP_NATIVE_UFFD;
	device->native_only = svm_backend_is_native_only(&device->ops);
	r = svm_backend_check_caps(&device->ops, &device->caps, &ctx->log);
	if (r == 0 && (device->caps.va_start > ctx->host.window_base ||
		       device->caps.va_end < ctx->host.window_base + ctx->host.window_size)) {
		svm_error(&ctx->log, "device %s: reaches [%llx, %llx), not the window",
			  device->name, (unsigned long long)device->caps.va_start,
			  (unsigned long long)device->caps.va_end);
		r = -ERANGE;
	}
	if (r < 0)
		device->ops.close(device->dev);
	return r;
}

int svm_device_new(struct svm_ctx *ctx, const char *name, const struct svm_device_import *import,
		   struct svm_device **ret_device)
{
	const char *colon = strchr(name, ':');
	size_t length = colon ? (size_t)(colon - name) : strlen(name);
	struct svm_device *device;
	int r;

	if (strlen(name) >= (size_t)SVM_NAME_LENGTH * 2u)
		return -EINVAL;
	device = svm_arena_map(sizeof(*device));
	if (!device)
		return -ENOMEM;
	device->ctx = ctx;
	strncpy(device->name, name, sizeof(device->name) - 1u);
	r = svm_backend_find(name, length, &ctx->log, &device->ops);
	if (r == 0)
		r = open_backend(ctx, device, colon ? colon + 1 : "", import);
	if (r < 0) {
		svm_arena_unmap(device, sizeof(*device));
		return r;
	}
	svm_lock_init(&device->lock, SVM_RANK_FENCE);
	svm_lock_init(&device->kill_lock, SVM_RANK_BACKEND);
	svm_lock_init(&device->blocks_lock, SVM_RANK_STORE);
	svm_list_init(&device->blocks);
	atomic_init(&device->n_users, 1u);
	sem_init(&device->unused, 0, 0);
	sem_init(&device->work_ended, 0, 0);
	for (unsigned int t = 0; t < SVM_TIMELINES; t++)
		svm_list_init(&device->timelines[t].waiters);
	svm_store_init(&device->store, &device->ops, device->dev, device->caps.memory_size);
	svm_arena_account(&ctx->arena, (int64_t)sizeof(*device));
	device->loop = ctx->loops[0];
	device->watchdog.fire = watchdog_fired;
	device->loss.fire = loss_fired;
	*ret_device = device;
	return 0;
}

int svm_device_start(struct svm_device *device)
{
	int r;

	device->event_watch.fd = device->ops.event_fd(device->dev);
	device->event_watch.ready = event_ready;
	r = svm_loop_add_watch(device->loop, &device->event_watch);
	if (r < 0 || !svm_device_has(device, SVM_CAP_FAULTS))
		return r;
	device->fault_watch.fd = device->ops.fault_fd(device->dev);
	device->fault_watch.ready = fault_ready;
	r = svm_loop_add_watch(device->loop, &device->fault_watch);
	if (r < 0)
		svm_loop_remove_watch(device->loop, &device->event_watch);
	return r;
}

void svm_device_stop(struct svm_device *device)
{
	svm_loop_remove_watch(device->loop, &device->event_watch);
	if (svm_device_has(device, SVM_CAP_FAULTS))
		svm_loop_remove_watch(device->loop, &device->fault_watch);
	svm_loop_cancel_timer(device->loop, &device->watchdog);
	svm_loop_cancel_timer(device->loop, &device->loss);
}

void svm_device_get(struct svm_device *device)
{
	atomic_fetch_add(&device->n_users, 1u);
}

void svm_device_put(struct svm_device *device)
{
	if (atomic_fetch_sub(&device->n_users, 1u) == 1u)
		sem_post(&device->unused);
}

void svm_device_begin_work(struct svm_device *device)
{
	atomic_fetch_add(&device->n_works, 1u);
}

void svm_device_end_work(struct svm_device *device)
{
	atomic_fetch_sub(&device->n_works, 1u);
	if (atomic_load(&device->no_work))
		(void)sem_post(&device->work_ended);
}

void svm_device_wait_works(struct svm_device *device)
{
	/* A post too many, of a work that was refused or of an earlier close, is one more look. */
	while (atomic_load(&device->n_works))
		(void)sem_wait(&device->work_ended);
}

void svm_device_drain(struct svm_device *device)
{
	svm_device_put(device);
	while (sem_wait(&device->unused) < 0)
		; /* EINTR: the only error there can be */
}

void svm_device_delete(struct svm_device *device)
{
	sem_destroy(&device->unused);
	sem_destroy(&device->work_ended);
	device->ops.close(device->dev);
	svm_store_finish(&device->store);
	svm_lock_finish(&device->lock);
	svm_lock_finish(&device->kill_lock);
	svm_lock_finish(&device->blocks_lock);
	svm_arena_account(&device->ctx->arena, -(int64_t)sizeof(*device));
	svm_arena_unmap(device, sizeof(*device));
}
