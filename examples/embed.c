// SPDX-License-Identifier: MIT
/*
 * A runtime embeds the library: it has an open file, a VM and a queue of its own on an xe device (embed.h), gives the VM
 * to the library, and its batches then read and write managed memory at the CPU's pointers.
 *
 * The protocol for each batch: svm_acquire() what it touches, wait for (or poll) the fence, submit, and svm_release() with
 * the batch's own fence. Where the bytes are meanwhile, in device memory or in the host's, is the library's business.
 */
#include "embed.h"
#include <libsvm/libsvm.h>
#include <stdio.h>
#include <string.h>

#define WORDS 512u

static int failed(const char *what, int err)
{
	fprintf(stderr, "embed: %s: %s\n", what, strerror(-err));
	return err;
}

/* Commands that turn the words of from round, into to: the engine does it, at the CPU's addresses. */
static void write_batch(uint32_t *dw, const uint32_t *from, const uint32_t *to)
{
	for (unsigned int i = 0; i < WORDS; i++) {
		uint64_t dst = (uintptr_t)&to[i];
		uint64_t src = (uintptr_t)&from[WORDS - 1 - i];

		*dw++ = COPY_DWORD;
		*dw++ = (uint32_t)dst;
		*dw++ = (uint32_t)(dst >> 32);
		*dw++ = (uint32_t)src;
		*dw++ = (uint32_t)(src >> 32);
	}
	*dw = END_OF_BATCH;
}

static int run(struct svm_space *space, struct svm_device *device, struct runtime *rt,
	       uint32_t *from, uint32_t *to)
{
	struct svm_access_range ranges[] = {
		{ .addr = from, .size = WORDS * sizeof(*from), .access = SVM_ACCESS_READ },
		{ .addr = to, .size = WORDS * sizeof(*to), .access = SVM_ACCESS_WRITE },
	};
	struct svm_access *access;
	struct svm_fence *done = NULL;
	int fd = -1;
	/* Without a fence the call waits until the memory is bound; with one, svm_fence_export() gives an fd to poll. */
	int r = svm_acquire(device, ranges, 2, 0, &access, NULL);

	if (r < 0)
		return failed("svm_acquire", r);
	write_batch(rt->batch, from, to);
	r = runtime_run(rt, &fd);
	if (r < 0)
		failed("EXEC", r);
	else
		r = svm_fence_import(space, fd, &done);
	/* The batch runs still: the memory is free to move once its fence has signalled, and a CPU touch waits for that. */
	svm_release(access, done);
	svm_fence_unref(done);
	if (fd >= 0)
		close(fd);
	return r;
}

static int embed(struct svm_space *space, struct svm_device *device, struct runtime *rt)
{
	uint32_t *words, *turned;
	void *memory;
	int r = svm_alloc(space, 2 * SVM_BLOCK_SIZE, 0, &memory);

	if (r < 0)
		return failed("svm_alloc", r);
	words = memory;
	turned = words + SVM_BLOCK_SIZE / sizeof(*words);
	for (uint32_t i = 0; i < WORDS; i++)
		words[i] = i;
	/* Into device memory, to show that the batch finds the words there too. */
	r = svm_prefetch(space, words, SVM_BLOCK_SIZE, svm_device_location(device), NULL);
	if (r == 0)
		r = run(space, device, rt, words, turned);
	for (uint32_t i = 0; r == 0 && i < WORDS; i++)
		if (turned[i] != WORDS - 1 - i)
			r = failed("a word is wrong", -EIO);
	if (r == 0)
		printf("the CPU wrote %u to %u, the runtime's batch turned them round in place: %u to %u\n",
		       words[0], words[WORDS - 1], turned[0], turned[WORDS - 1]);
	svm_free(space, memory);
	return r;
}

int main(int argc, char **argv)
{
	const char *node = argc > 1 ? argv[1] : "/dev/dri/renderD128";
	struct svm_device_import import = { .size = sizeof(import) };
	struct runtime rt = { .fd = -1 };
	struct svm_space *space;
	struct svm_device *device;
	int r = runtime_open(&rt, node);

	if (r < 0)
		return failed(node, r), 1;
	r = svm_space_create(NULL, &space);
	if (r < 0)
		return failed("svm_space_create", r), 1;
	import.fd = rt.fd;
	import.vm_id = rt.vm;
	r = svm_device_import(space, "xe", &import, &device);
	if (r < 0)
		failed("svm_device_import", r);
	else
		r = embed(space, device, &rt);
	svm_space_destroy(
		space); /* closes the device: nothing of the library is in the VM any more */
	runtime_close(&rt);
	return r < 0;
}
