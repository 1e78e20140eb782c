// SPDX-License-Identifier: MIT
/*
 * Hints and what they say: a hint belongs to the memory, holds for all devices, moves nothing by
 * itself, and the library answers what became of it. Prefetch moves. Residency tells.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <libsvm/libsvm.h>

#define SIZE	(4u << 20)
#define N_PAGES (SIZE / SVM_PAGE_SIZE)

static int failed(const char *what, int err)
{
	fprintf(stderr, "advise: %s: %s\n", what, strerror(-err));
	return err;
}

/* Say where the pages are, and check it: each count is all pages or none. */
static int show(struct svm_space *space, const void *memory, struct svm_device *device,
		const char *when, int want_host, int want_device)
{
	static struct svm_page_residency pages[N_PAGES];
	unsigned int on_host = 0, on_device = 0;
	int ret = svm_residency_query(space, memory, SIZE, pages, N_PAGES, NULL);

	if (ret)
		return failed("svm_residency_query", ret);
	for (size_t i = 0; i < N_PAGES; i++) {
		on_host += (pages[i].flags & SVM_PAGE_HOST) != 0;
		on_device += (pages[i].devices >> svm_device_id(device)) & 1;
	}
	printf("%-32s %4u pages on the host, %4u on the device\n", when, on_host, on_device);
	if (on_host != (want_host ? N_PAGES : 0) || on_device != (want_device ? N_PAGES : 0))
		return failed("not where they should be", -EIO);
	return 0;
}

static int advise(struct svm_space *space, void *memory, struct svm_advice advice, const char *name,
		  uint32_t want)
{
	static const char *const status[] = { "effective", "degraded", "refused" };
	struct svm_outcome outcome;
	int ret = svm_advise(space, memory, SIZE, &advice, 1, &outcome);

	if (ret)
		return failed(name, ret);
	printf("hint: %-26s %s, reason %u\n", name, status[outcome.status], outcome.reason);
	return outcome.status == want ? 0 : failed("not the answer that was due", -EIO);
}

static int prefetch(struct svm_space *space, void *memory, struct svm_location to)
{
	struct svm_prefetch_result result;
	int ret = svm_prefetch(space, memory, SIZE, to, &result);

	if (ret)
		return failed("svm_prefetch", ret);
	printf("prefetch: %llu KiB moved, %llu KiB were there\n",
	       (unsigned long long)result.bytes_moved >> 10,
	       (unsigned long long)result.already_there >> 10);
	return 0;
}

static int use_hints(struct svm_space *space, struct svm_device *device, void *memory)
{
	const struct svm_advice read_mostly = { .kind = SVM_ADVICE_READ_MOSTLY, .value = 1 };
	const struct svm_advice prefer_device = { .kind = SVM_ADVICE_PREFERRED_LOCATION,
						  .location = svm_device_location(device) };
	const struct svm_advice in_place = { .kind = SVM_ADVICE_ACCESS_IN_PLACE,
					     .device = svm_device_id(device) };
	int ret;

	memset(memory, 1, SIZE);
	if ((ret = show(space, memory, device, "written by the CPU:", 1, 0)) ||
	    (ret = advise(space, memory, read_mostly, "read mostly", SVM_EFFECTIVE)) ||
	    (ret = show(space, memory, device, "a hint moves nothing:", 1, 0)) ||
	    (ret = prefetch(space, memory, svm_device_location(device))) ||
	    (ret = show(space, memory, device, "read mostly: one more copy:", 1, 1)))
		return ret;

	ret = svm_unadvise(space, memory, SIZE, 1u << SVM_ADVICE_READ_MOSTLY);
	if (ret)
		return failed("svm_unadvise", ret);
	memset(memory, 2, SIZE);
	if ((ret = show(space, memory, device, "a write leaves one copy:", 1, 0)) ||
	    /* This device cannot reach host memory in place, and the answer says so. */
	    (ret = advise(space, memory, in_place, "access in place", SVM_DEGRADED)) ||
	    (ret = advise(space, memory, prefer_device, "preferred location", SVM_EFFECTIVE)) ||
	    (ret = prefetch(space, memory, svm_device_location(device))))
		return ret;
	return show(space, memory, device, "without read mostly it moved:", 0, 1);
}

int main(void)
{
	struct svm_space *space;
	struct svm_device *device;
	void *memory;
	int err, ret = svm_space_create(NULL, &space);

	if (ret) {
		failed("svm_space_create", ret);
		return 1;
	}
	if ((ret = svm_device_open(space, "soft:memory=16M:host=none", &device)))
		failed("svm_device_open", ret);
	else if ((ret = svm_alloc(space, SIZE, 0, &memory)))
		failed("svm_alloc", ret);
	else
		ret = use_hints(space, device, memory);

	if ((err = svm_space_destroy(space))) /* closes the device and frees the memory */
		failed("svm_space_destroy", err);
	return ret || err ? 1 : 0;
}
