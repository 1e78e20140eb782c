/* SPDX-License-Identifier: MIT */
#include "flow_state.h"

#include <errno.h>
#include <unistd.h>

void flow_op_read(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	uint64_t offset;
	uint64_t size;

	if (!r)
		return;
	flow_pick_span(d, r, &offset, &size);
	flow_settle_for_cpu(w, r, offset, size);
	flow_note(w, NULL, r, -1, offset, size, 0, 0);
	flow_cpu_read(w, r, offset, size);
}

void flow_op_write(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	uint64_t key = flow_roll(d);
	uint64_t offset;
	uint64_t size;

	if (!r)
		return;
	flow_pick_span(d, r, &offset, &size);
	flow_settle_for_cpu(w, r, offset, size);
	flow_note(w, NULL, r, -1, offset, size, key, 0);
	flow_cpu_write(w, r, offset, size, key);
}

/* The kernel touches it for us: needs residency where it serves no faults. Returns what is to be released. */
static bool prepare_syscall(struct worker *w, struct dice *d, struct region *r, uint64_t offset,
			    uint64_t size, uint32_t access, bool *ret_held)
{
	int e;

	*ret_held = false;
	flow_settle(w, r, offset, size);
	if (flow.serves_kernel && flow_chance(d, 70))
		return true;
	flow_hold_begins();
	e = svm_host_acquire(flow.space, r->addr + offset, size, access,
			     flow_chance(d, 20) ? SVM_HOST_TRY : 0);
	if (e < 0)
		flow_hold_ends();
	flow_note(w, "host acquire", r, -1, offset, size, access, e);
	if (e == -EIO && flow_find_losses(r, offset, size))
		return false;
	if (e == -EBUSY)
		return false; /* TRY: something passes */
	if (e < 0 && flow.config.hostile)
		return false;
	flow_expect("svm_host_acquire", e, 0);
	*ret_held = true;
	return true;
}

/* What a system call or io_uring said of a span of n bytes of which `result` were dealt with. */
static void check_short(struct region *r, uint64_t offset, uint64_t size, const char *what,
			int result)
{
	if (result == (int)size || flow.config.hostile)
		return;
	if ((result == -EFAULT || result == -EHWPOISON || (result >= 0 && result < (int)size)) &&
	    flow_find_losses(r, offset, size))
		return;
	flow_fail("%s: %d of %llu", what, result, (unsigned long long)size);
}

static int uring_one(struct worker *w, bool write, void *addr, uint64_t size)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&w->ring);
	struct io_uring_cqe *cqe;
	int e;

	if (!sqe)
		flow_fail("io_uring is full");
	if (write)
		io_uring_prep_write(sqe, w->file, addr, (unsigned int)size, 0);
	else
		io_uring_prep_read(sqe, w->file, addr, (unsigned int)size, 0);
	e = io_uring_submit_and_wait(&w->ring, 1);
	if (e < 0 && e != -EINTR)
		flow_fail("io_uring_submit_and_wait: %d", e);
	do
		e = io_uring_wait_cqe(&w->ring, &cqe);
	while (e == -EINTR);
	if (e < 0)
		flow_fail("io_uring_wait_cqe: %d", e);
	e = cqe->res;
	io_uring_cqe_seen(&w->ring, cqe);
	return e;
}

/* Into managed memory (a file is read), or out of it. */
static void transfer(struct worker *w, struct dice *d, bool out, bool uring)
{
	struct region *r = flow_any_region(w, d);
	uint64_t key = flow_roll(d);
	uint64_t offset;
	uint64_t size;
	bool held;
	ssize_t n;
	int e;

	if (!r || (uring && w->ring.ring_fd < 0))
		return;
	flow_pick_span(d, r, &offset, &size);
	if (size > (UINT64_C(1) << 20))
		size = UINT64_C(1) << 20;
	if (!prepare_syscall(w, d, r, offset, size, out ? SVM_ACCESS_READ : SVM_ACCESS_WRITE,
			     &held))
		return;
	if (!out) {
		for (uint64_t i = 0; i < size; i++)
			w->buffer[i] = flow_pattern(key, i);
		if (pwrite(w->file, w->buffer, size, 0) != (ssize_t)size)
			flow_fail("pwrite to a memfd: %d", errno);
	}
	flow_note(w, out ? "out" : "in", r, -1, offset, size, key, 0);
	if (uring) {
		e = uring_one(w, out, r->addr + offset, size);
	} else {
		n = out ? pwrite(w->file, r->addr + offset, size, 0)
			: pread(w->file, r->addr + offset, size, 0);
		e = n < 0 ? -errno : (int)n;
	}
	flow_note(w, "done", r, -1, offset, size, key, e);
	check_short(r, offset, size, uring ? "io_uring" : out ? "pwrite" : "pread", e);
	if (!out) {
		/* Of a page at which it stopped, any part may have come. */
		uint64_t whole = e < 0 ? 0 : (uint64_t)e;

		flow_model_write(&r->model, offset, whole, w->buffer);
		if (whole < size)
			flow_model_maybe(&r->model, offset + whole, size - whole,
					 w->buffer + whole);
	} else if (e > 0) {
		if (pread(w->file, w->buffer, (size_t)e, 0) != e)
			flow_fail("pread from a memfd: %d", errno);
		flow_check_bytes(w, r, offset, (uint64_t)e, w->buffer,
				 uring ? "io_uring" : "pwrite");
	}
	if (held) {
		flow_expect("svm_host_release",
			    svm_host_release(flow.space, r->addr + offset, size,
					     out ? SVM_ACCESS_READ : SVM_ACCESS_WRITE),
			    0);
		flow_hold_ends();
	}
}

void flow_op_host_acquire(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	struct item *it = flow_new_item(w);
	uint32_t access = flow_chance(d, 50) ? SVM_ACCESS_READ : SVM_ACCESS_WRITE;
	uint64_t key = flow_roll(d);
	uint64_t offset;
	uint64_t size;
	int e;

	if (!r || !it)
		return;
	flow_pick_span(d, r, &offset, &size);
	flow_settle_for_cpu(w, r, offset, size);
	flow_hold_begins();
	e = svm_host_acquire(flow.space, r->addr + offset, size, access, 0);
	if (e < 0)
		flow_hold_ends();
	flow_note(w, NULL, r, -1, offset, size, access, e);
	if ((e == -EIO && flow_find_losses(r, offset, size)) || (e < 0 && flow.config.hostile))
		return;
	flow_expect("svm_host_acquire", e, 0);
	*it = (struct item){
		.kind = ITEM_HOST, .region = r, .offset = offset, .size = size, .access = access
	};
	if (access == SVM_ACCESS_WRITE && flow_chance(d, 50))
		flow_cpu_write(w, r, offset, size, key);
	else
		flow_cpu_read(w, r, offset, size);
}

void flow_op_sys_read(struct worker *w, struct dice *d)
{
	transfer(w, d, false, false);
}

void flow_op_sys_write(struct worker *w, struct dice *d)
{
	transfer(w, d, true, false);
}

void flow_op_uring(struct worker *w, struct dice *d)
{
	transfer(w, d, flow_chance(d, 50), true);
}
