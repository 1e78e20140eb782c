/* SPDX-License-Identifier: MIT */
#include "flow_state.h"

#include <setjmp.h>
#include <signal.h>
#include <string.h>

static __thread volatile sig_atomic_t armed;
static __thread sigjmp_buf jump;

static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)context;
	if (armed) {
		armed = 0;
		siglongjmp(jump, number);
	}
	(void)signal(number, SIG_DFL);
	flow_fail("signal %d at %p", number, info->si_addr);
}

void flow_touch_init(void)
{
	struct sigaction action = { .sa_flags = SA_SIGINFO | SA_NODEFER };

	action.sa_sigaction = on_signal;
	(void)sigaction(SIGBUS, &action, NULL);
	(void)sigaction(SIGSEGV, &action, NULL);
}

/* 0, or the signal that it ended in. */
int flow_touch(void *to, const void *from, uint64_t size)
{
	int number = sigsetjmp(jump, 1);

	if (number == 0) {
		armed = 1;
		atomic_signal_fence(memory_order_seq_cst);
		memcpy(to, from, size);
		atomic_signal_fence(memory_order_seq_cst);
	}
	armed = 0;
	return number;
}

static uint64_t to_next_page(uint64_t offset, uint64_t end)
{
	uint64_t stop = offset / FLOW_PAGE * FLOW_PAGE + FLOW_PAGE;

	return (stop < end ? stop : end) - offset;
}

static bool is_poisoned(const struct region *r, uint64_t offset)
{
	struct svm_page_residency page;
	int e = svm_residency_query(flow.space, r->addr + offset, 1, &page, 1, NULL);

	if (e < 0)
		flow_fail("svm_residency_query: %d", e);
	return page.flags & SVM_PAGE_POISONED;
}

/* A page was said, or seen, to be lost: may it be? */
void flow_take_loss(struct region *r, uint64_t offset)
{
	if (!atomic_load(&flow.bytes_lost))
		flow_fail("page %p is lost though no device with bytes was",
			  (void *)(r->addr + offset));
	if (!flow_model_marked(&r->model, offset, 1, FLOW_PAGE_LOST))
		__atomic_fetch_add(&flow.order->report->n_poisoned, 1u, __ATOMIC_RELAXED);
	flow_model_mark(&r->model, offset, 1, FLOW_PAGE_LOST, 0);
}

/* False: a device did not give its bytes, and may give them when asked again. */
static bool after_signal(struct region *r, uint64_t offset, int number)
{
	if (number != SIGBUS && !(number == SIGSEGV && !flow.raises_sigbus))
		flow_fail("signal %d at %p", number, (void *)(r->addr + offset));
	if (!is_poisoned(r, offset) && flow.config.hostile)
		return false;
	if (!is_poisoned(r, offset)) {
		flow_print_events(r->addr + offset);
		flow_fail("signal %d at %p, which is not poisoned", number,
			  (void *)(r->addr + offset));
	}
	flow_take_loss(r, offset);
	return true;
}

/* The signal stays until the page is served. Not by a prefetch, which leaves what must not move where it is: as a touch
 * does, an access of the CPU gets it from anywhere. */
static void ask_again(void *addr)
{
	flow_hold_begins();
	if (svm_host_acquire(flow.space, addr, 1, SVM_ACCESS_READ, 0) == 0)
		flow_expect("svm_host_release",
			    svm_host_release(flow.space, addr, 1, SVM_ACCESS_READ), 0);
	flow_hold_ends();
}

/* Copy one page, or less, from or to a region. False: it is lost. */
static bool touch_region(struct region *r, uint64_t offset, void *to, const void *from,
			 uint64_t size)
{
	for (unsigned int i = 0; i < 1000u; i++) {
		int number = flow_touch(to, from, size);

		if (!number)
			return true;
		if (after_signal(r, offset, number))
			return false;
		ask_again(r->addr + offset);
	}
	flow_fail("page %p is with a hostile device that does not give it",
		  (void *)(r->addr + offset));
}

static void wrong(const struct worker *w, const struct region *r, uint64_t at, const uint8_t *bytes,
		  const char *who)
{
	struct svm_page_residency page = { 0 };

	(void)svm_residency_query(flow.space, r->addr + at, 1, &page, 1, NULL);
	flow_print_events(r->addr + at);
	flow_print_mapping(r->addr + at);
	flow_fail(
		"%s reads %02x %02x %02x %02x at region %d + %llx (%p), expected %02x (or %02x, state %u, page marks %x); now "
		"residency flags %x devices %x mapped %x",
		who, bytes[0], bytes[1], bytes[2], bytes[3], (int)(r - w->regions),
		(unsigned long long)at, (void *)(r->addr + at), r->model.value[at],
		r->model.other[at], r->model.state[at], r->model.pages[at / FLOW_PAGE], page.flags,
		page.devices, page.mapped);
}

void flow_check_bytes(struct worker *w, struct region *r, uint64_t offset, uint64_t size,
		      const uint8_t *bytes, const char *who)
{
	uint64_t good = flow_model_check(&r->model, offset, size, bytes);

	if (good < size)
		wrong(w, r, offset + good, bytes + good, who);
}

void flow_cpu_read(struct worker *w, struct region *r, uint64_t offset, uint64_t size)
{
	uint64_t end = offset + size;
	uint8_t *page = w->buffer;
	uint64_t n;

	for (uint64_t at = offset; at < end; at += n) {
		n = to_next_page(at, end);
		if (!touch_region(r, at, page, r->addr + at, n))
			continue;
		if (flow_model_marked(&r->model, at, 1, FLOW_PAGE_LOST))
			flow_fail("page %p was lost, and reads again", (void *)(r->addr + at));
		else
			flow_check_bytes(w, r, at, n, page, "the CPU");
	}
}

void flow_cpu_write(struct worker *w, struct region *r, uint64_t offset, uint64_t size,
		    uint64_t key)
{
	uint64_t end = offset + size;
	uint8_t *page = w->buffer;
	uint64_t n;

	for (uint64_t at = offset; at < end; at += n) {
		n = to_next_page(at, end);
		for (uint64_t i = 0; i < n; i++)
			page[i] = flow_pattern(key, at - offset + i);
		if (!touch_region(r, at, r->addr + at, page, n))
			continue;
		if (flow_model_marked(&r->model, at, 1, FLOW_PAGE_LOST))
			flow_fail("page %p was lost, and is written again", (void *)(r->addr + at));
		else
			flow_model_write(&r->model, at, n, page);
	}
}

/* Pages that the library says are lost. Returns whether there are any. */
bool flow_find_losses(struct region *r, uint64_t offset, uint64_t size)
{
	bool any = false;

	for (uint64_t at = offset / FLOW_PAGE * FLOW_PAGE; at < offset + size; at += FLOW_PAGE)
		if (is_poisoned(r, at)) {
			flow_take_loss(r, at);
			any = true;
		}
	return any;
}
