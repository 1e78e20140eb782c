/* SPDX-License-Identifier: MIT */
#include "flow_state.h"

/* Each kind of operation, and how often it is meant to come. */
static const struct {
	const char *name;
	unsigned int weight;
	void (*run)(struct worker *w, struct dice *d);
} kinds[] = {
	{ "alloc", 12, flow_op_alloc },
	{ "free", 7, flow_op_free },
	{ "register", 5, flow_op_register },
	{ "unregister", 4, flow_op_unregister },
	{ "cpu_read", 26, flow_op_read },
	{ "cpu_write", 26, flow_op_write },
	{ "advise", 14, flow_op_advise },
	{ "unadvise", 5, flow_op_unadvise },
	{ "prefetch", 12, flow_op_prefetch },
	{ "prefetch_start", 6, flow_op_prefetch_async },
	{ "prefetch_end", 4, flow_op_prefetch_end },
	{ "discard", 5, flow_op_discard },
	{ "discard_lazy", 3, flow_op_discard_lazy },
	{ "pin", 5, flow_op_pin },
	{ "unpin", 4, flow_op_unpin },
	{ "host_acquire", 5, flow_op_host_acquire },
	{ "acquire", 5, flow_op_acquire },
	{ "release", 5, flow_op_release },
	{ "launch_fill", 14, flow_op_launch_fill },
	{ "launch_xor", 14, flow_op_launch_xor },
	{ "launch_add", 8, flow_op_launch_add },
	{ "launch_read", 16, flow_op_launch_read },
	{ "two_readers", 6, flow_op_two_readers },
	{ "device_copy", 8, flow_op_device_copy },
	{ "device_fill", 8, flow_op_device_fill },
	{ "sys_read", 6, flow_op_sys_read },
	{ "sys_write", 6, flow_op_sys_write },
	{ "io_uring", 5, flow_op_uring },
	{ "residency", 5, flow_op_residency },
	{ "pointer", 3, flow_op_pointer },
	{ "fork", 1, flow_op_fork },
	{ "app_dontneed", 2, flow_op_app_discard },
	{ "app_munmap", 2, flow_op_app_unmap },
	{ "app_mprotect", 3, flow_op_app_protect },
	{ "kill", 2, flow_op_kill },
	{ "reopen", 3, flow_op_reopen },
};
#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

const char *flow_op_name(unsigned int kind)
{
	return kind < N_KINDS ? kinds[kind].name : "end";
}

static unsigned int pick_kind(struct dice *d)
{
	unsigned int total = 0;
	uint64_t n;

	for (unsigned int k = 0; k < N_KINDS; k++)
		total += kinds[k].weight;
	n = flow_pick(d, total);
	for (unsigned int k = 0; k < N_KINDS; k++) {
		if (n < kinds[k].weight)
			return k;
		n -= kinds[k].weight;
	}
	return 0;
}

void flow_do_op(struct worker *w, unsigned int index)
{
	struct dice d = { flow_mix(flow_mix(flow.order->seed) ^
				   ((uint64_t)(w->number + 1u) << 32 | index)) };
	unsigned int kind = pick_kind(&d);

	flow_current.worker = w->number;
	flow_current.op = index;
	flow_current.kind = kind;
	flow_current.n_begun = atomic_load(&flow.n_holds_begun);
	flow_current.held = atomic_load(&flow.n_holds) != 0;
	__atomic_store_n(&w->doing.op, index, __ATOMIC_RELAXED);
	__atomic_store_n(&w->doing.kind, kind, __ATOMIC_RELAXED);
	__atomic_fetch_add(&flow.order->report->n_started, 1u, __ATOMIC_RELAXED);
	kinds[kind].run(w, &d);
	__atomic_fetch_add(&flow.order->report->n_done, 1u, __ATOMIC_RELAXED);
}

void flow_finish_worker(struct worker *w)
{
	flow_current.worker = w->number;
	flow_current.op = flow.order->n_ops;
	flow_current.kind = N_KINDS;
	for (unsigned int i = 0; i < N_ITEMS; i++)
		flow_end_item(w, &w->items[i]);
	for (unsigned int i = 0; i < N_REGIONS; i++)
		if (w->regions[i].live)
			flow_end_region(w, &w->regions[i]);
}
