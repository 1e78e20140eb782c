/* SPDX-License-Identifier: MIT */
/*
 * A mistake to be found: of the pages that the library moves or copies between its views every n-th loses a bit. Asked
 * for by SVM_TEST_MISTAKE=N, to see that a run notices it, and how short the sequence gets that is left of one.
 */
#include "flow_state.h"

#include "sys.h"
#include "uffd_uapi.h"
#include <linux/userfaultfd.h>
#include <stdlib.h>

static struct svm_sys mistaken;
static unsigned long every;
static atomic_ulong n_pages;

static int mistaken_ioctl(int fd, unsigned long request, void *arg)
{
	int r = svm_sys_real.ioctl(fd, request, arg);
	const struct uffdio_copy *copy = arg; /* MOVE has the same shape */

	if (r != 0 || (request != UFFDIO_COPY && request != SVM_UFFDIO_MOVE))
		return r;
	/* Not where it would be a fault. */
	if (request == UFFDIO_COPY && (copy->mode & UFFDIO_COPY_MODE_WP))
		return r;
	if (atomic_fetch_add(&n_pages, 1u) % every == every - 1u)
		*(volatile uint8_t *)(uintptr_t)copy->dst ^= 0x20;
	return r;
}

bool flow_mistake_init(void)
{
	const char *text = getenv("SVM_TEST_MISTAKE");
	char *end;

	if (!text)
		return true;
	every = strtoul(text, &end, 10);
	if (every == 0 || *end)
		return false;
	mistaken = svm_sys_real;
	mistaken.ioctl = mistaken_ioctl;
	svm_sys = &mistaken;
	return true;
}
