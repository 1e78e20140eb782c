/* SPDX-License-Identifier: MIT */
#include "flow_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

struct flow_state flow;

static void make_config(uint64_t seed, struct config *c)
{
	struct dice d = { flow_mix(seed ^ 0x636f6e66) };

	*c = (struct config){ 0 };
	c->flags |= flow_chance(&d, 30) ? SVM_SPACE_NO_MOVE : 0;
	c->flags |= flow_chance(&d, 25) ? SVM_SPACE_DEFAULT_SHARED : 0;
	c->flags |= flow_chance(&d, 40) ? SVM_SPACE_NO_HUGE_PAGES : 0;
	c->flags |= flow_chance(&d, 20) ? SVM_SPACE_USER_MODE_ONLY : 0;
	c->flags |= flow_chance(&d, 15) ? SVM_SPACE_NO_POISON : 0;
	c->loop = flow_chance(&d, 50) ? SVM_LOOP_EPOLL : SVM_LOOP_IO_URING;
	c->n_service = 1u + (uint32_t)flow_pick(&d, 3);
	c->n_workers = 1u + (unsigned int)flow_pick(&d, 5);
	c->n_slots = 1u + (unsigned int)(flow_chance(&d, 75) ? flow_pick(&d, 3)
							     : flow_pick(&d, N_SLOTS));
	c->cache = flow_chance(&d, 30) ? UINT64_MAX : flow_chance(&d, 50) ? BLOCK : 0;
	c->kills = flow_chance(&d, 45);
	c->keep = flow_chance(&d, 40);
	c->hostile = flow_chance(&d, 15);
}

unsigned int flow_workers(uint64_t seed)
{
	struct config c;

	make_config(seed, &c);
	return c.n_workers;
}

void flow_describe(uint64_t seed, char *text, size_t size)
{
	struct config c;

	make_config(seed, &c);
	(void)snprintf(text, size,
		       "flags %x, loop %u, %u service threads, %u workers, %u devices%s%s%s",
		       c.flags, c.loop, c.n_service, c.n_workers, c.n_slots,
		       c.hostile ? ", some hostile" : "", c.kills ? ", kills" : "",
		       c.keep ? ", memory kept" : "");
}

/* Number of the first operation of the round. */
static unsigned int round_at;

static void *worker_thread(void *arg)
{
	struct worker *w = arg;

	for (unsigned int i = 0; i < flow.order->n_ops; i++)
		flow_do_op(w, round_at + i);
	flow_finish_worker(w);
	return NULL;
}

static void run_in_order(void)
{
	if (flow.order->ops) {
		for (size_t i = 0; i < flow.order->n_chosen; i++)
			if (flow.order->ops[i].worker < flow.config.n_workers)
				flow_do_op(&flow.workers[flow.order->ops[i].worker],
					   flow.order->ops[i].index);
	} else {
		for (unsigned int i = 0; i < flow.order->n_ops; i++)
			for (unsigned int k = 0; k < flow.config.n_workers; k++)
				flow_do_op(&flow.workers[k], round_at + i);
	}
	for (unsigned int k = 0; k < flow.config.n_workers; k++)
		flow_finish_worker(&flow.workers[k]);
}

static void log_line(void *data, int level, const char *line)
{
	struct iovec parts[] = { { (char *)"  log: ", 7 },
				 { (char *)line, strlen(line) },
				 { (char *)"\n", 1 } };

	(void)data;
	(void)level;
	(void)!writev(STDERR_FILENO, parts, 3);
}

static void setup(void)
{
	struct svm_space_options o = { .size = sizeof(o) };
	struct svm_space_info info = { .size = sizeof(info) };
	int e;

	flow_touch_init();
	flow_arena_init();
	for (unsigned int i = 0; i < flow.config.n_workers; i++) {
		struct worker *w = &flow.workers[i];

		w->number = i;
		w->scratch = flow_map_or_die(SCRATCH, MAP_SHARED);
		w->buffer = flow_map_or_die(WORKER_BYTES, MAP_PRIVATE);
		w->file = memfd_create("flow", MFD_CLOEXEC);
		if (w->file < 0)
			flow_fail("memfd_create: %d", errno);
		if (io_uring_queue_init(4, &w->ring, 0) < 0)
			w->ring.ring_fd = -1; /* denied here: its operations are left out */
	}
	o.flags = flow.config.flags;
	o.loop = flow.config.loop;
	o.n_threads = flow.config.n_service;
	o.host_cache_size = flow.config.cache;
	o.op_timeout_ms = 60000;
	o.log = log_line;
	o.log_level = flow.order->loud	  ? SVM_LOG_INFO
		      : flow.config.kills ? SVM_LOG_ERROR
					  : SVM_LOG_WARN;
	e = svm_space_create(&o, &flow.space);
	if (e == -EOPNOTSUPP && o.loop == SVM_LOOP_IO_URING) {
		o.loop = SVM_LOOP_EPOLL;
		e = svm_space_create(&o, &flow.space);
	}
	if (e < 0)
		flow_fail("svm_space_create: %d", e);
	e = svm_space_query(flow.space, &info);
	if (e < 0)
		flow_fail("svm_space_query: %d", e);
	flow.serves_kernel = info.caps & SVM_SPACE_CAP_KERNEL_FAULTS;
	flow.raises_sigbus = info.caps & SVM_SPACE_CAP_POISON;
	flow.hears_of_drops = info.caps & SVM_SPACE_CAP_MOVE;
	for (unsigned int i = 0; i < flow.config.n_slots; i++)
		(void)pthread_rwlock_init(&flow.slots[i].lock, NULL);
}

static void open_devices(void)
{
	for (unsigned int i = 0; i < flow.config.n_slots; i++)
		flow_open_slot(&flow.slots[i], flow_mix(flow.order->seed + round_at + i));
}

static void close_devices(void)
{
	for (unsigned int i = 0; i < flow.config.n_slots; i++)
		if (flow.slots[i].device)
			flow_close_slot(&flow.slots[i]);
	/* Nobody has bytes any more that could have been lost. */
	atomic_store(&flow.bytes_lost, false);
}

static void run_round(void)
{
	/* Devices that meet pages which a hostile one keeps to itself may die of that, and take bytes along. */
	if (flow.config.hostile && !flow.config.keep)
		atomic_store(&flow.bytes_lost, true);
	open_devices();
	if (flow.order->threads) {
		for (unsigned int i = 0; i < flow.config.n_workers; i++)
			if (pthread_create(&flow.workers[i].thread, NULL, worker_thread,
					   &flow.workers[i]) != 0)
				flow_fail("pthread_create");
		for (unsigned int i = 0; i < flow.config.n_workers; i++)
			(void)pthread_join(flow.workers[i].thread, NULL);
	} else {
		run_in_order();
	}
	close_devices();
	flow_arena_reset();
	round_at += flow.order->n_ops;
}

static void teardown(void)
{
	int e = svm_space_destroy(flow.space);

	if (e < 0)
		flow_fail("svm_space_destroy: %d", e);
	for (unsigned int i = 0; i < flow.config.n_workers; i++) {
		struct worker *w = &flow.workers[i];

		(void)munmap(w->scratch, SCRATCH);
		(void)munmap(w->buffer, WORKER_BYTES);
		(void)close(w->file);
		if (w->ring.ring_fd >= 0)
			io_uring_queue_exit(&w->ring);
	}
	flow_arena_finish();
}

void flow_run(const struct flow_order *given)
{
	flow.order = given;
	make_config(flow.order->seed, &flow.config);
	flow.config.hostile |= flow_lists_hostile();
	flow_watch_start();
	setup();
	do
		run_round();
	while (flow.order->again && flow.order->again(flow.order->data));
	teardown();
	flow_watch_end();
}
