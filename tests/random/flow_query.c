/* SPDX-License-Identifier: MIT */
#include "flow_state.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

void flow_op_residency(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	struct svm_page_residency *pages = (struct svm_page_residency *)w->buffer;
	uint64_t generation;
	uint64_t offset;
	uint64_t size;
	int e;

	if (!r)
		return;
	flow_pick_span(d, r, &offset, &size);
	flow_whole_pages(&offset, &size);
	e = svm_residency_query(flow.space, r->addr + offset, size, pages, size / FLOW_PAGE,
				&generation);
	flow_note(w, NULL, r, -1, offset, size, generation, e);
	flow_expect("svm_residency_query", e, 0);
	for (uint64_t i = 0; i < size / FLOW_PAGE; i++) {
		const struct svm_page_residency *p = &pages[i];

		if ((p->flags & SVM_PAGE_CPU_WRITE) && (p->devices || !(p->flags & SVM_PAGE_HOST)))
			flow_fail("page %llx: the CPU writes (flags %x) and devices %x hold it",
				  (unsigned long long)i, p->flags, p->devices);
		if ((p->flags & SVM_PAGE_CPU_READ) && !(p->flags & SVM_PAGE_HOST))
			flow_fail("page %llx: the CPU maps what the host does not hold (flags %x)",
				  (unsigned long long)i, p->flags);
		if ((p->flags & SVM_PAGE_POISONED) && (p->devices || (p->flags & SVM_PAGE_HOST)))
			flow_fail("page %llx: poisoned, and held (flags %x devices %x)",
				  (unsigned long long)i, p->flags, p->devices);
		if (p->flags & SVM_PAGE_POISONED)
			flow_take_loss(r, offset + i * FLOW_PAGE);
	}
}

void flow_op_pointer(struct worker *w, struct dice *d)
{
	struct region *r = flow_any_region(w, d);
	struct svm_pointer_info info = { .size = sizeof(info) };
	uint64_t offset;
	uint64_t size;

	if (!r)
		return;
	flow_pick_span(d, r, &offset, &size);
	flow_expect("svm_pointer_query", svm_pointer_query(flow.space, r->addr + offset, &info), 0);
	flow_note(w, NULL, r, -1, offset, size, info.id, 0);
	if (!info.is_svm || info.base != (uint64_t)(uintptr_t)r->addr || info.length != r->size ||
	    info.is_registered != r->registered)
		flow_fail("svm_pointer_query: base %llx length %llx registered %u",
			  (unsigned long long)info.base, (unsigned long long)info.length,
			  info.is_registered);
}

void flow_op_fork(struct worker *w, struct dice *d)
{
	pid_t child = fork();
	int status = 0;

	(void)d;
	if (child == 0) {
		struct svm_space_info info = { .size = sizeof(info) };

		_exit(svm_space_query(flow.space, &info) == -ECHILD ? 0 : 1);
	}
	flow_note(w, NULL, NULL, -1, 0, 0, (uint64_t)child, 0);
	if (child < 0)
		flow_fail("fork: %d", errno);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			flow_fail("waitpid: %d", errno);
	if (status != 0)
		flow_fail("the child ended with %x", (unsigned int)status);
}
