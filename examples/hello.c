// SPDX-License-Identifier: MIT
/*
 * One pointer: the CPU writes a text, a device changes it in place, the CPU reads the result. Nothing
 * is copied by the program, and the address is the same for both.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <libsvm/libsvm.h>

#define GREETING "hello from one address space"

/* Runs on the device, once for each letter. args is a copy of what was given to the launch. */
static void shout(const void *args, uint64_t index, uint64_t count)
{
	char *text = *(char *const *)args;

	(void)count;
	if (text[index] >= 'a' && text[index] <= 'z')
		text[index] = (char)(text[index] - 'a' + 'A');
}

static int failed(const char *what, int err)
{
	fprintf(stderr, "hello: %s: %s\n", what, strerror(-err));
	return err;
}

/* Returns 0, or a negative errno that has been reported. */
static int say_hello(struct svm_space *space, struct svm_device *device)
{
	void *text;
	int err, ret = svm_alloc(space, sizeof(GREETING), 0, &text);

	if (ret)
		return failed("svm_alloc", ret);
	memcpy(text, GREETING, sizeof(GREETING));
	printf("the CPU wrote:      %s\n", (const char *)text);

	/* The device faults on the text, and the library brings it. Without a fence the call waits. */
	ret = svm_soft_launch(device, shout, &text, sizeof(text), strlen(GREETING), NULL, NULL);
	if (ret) {
		failed("svm_soft_launch", ret);
		goto err_free;
	}

	/* The CPU faults on it in turn, and gets what the device wrote. */
	printf("the device made it: %s\n", (const char *)text);
	if (strcmp(text, "HELLO FROM ONE ADDRESS SPACE") != 0)
		ret = failed("the text is wrong", -EIO);

err_free:
	err = svm_free(space, text);
	if (err)
		failed("svm_free", err);
	return ret ? ret : err;
}

int main(void)
{
	struct svm_space *space;
	struct svm_device *device;
	int err, ret = svm_space_create(NULL, &space);

	if (ret) {
		failed("svm_space_create", ret);
		return 1;
	}
	/* "soft" is a GPU made of a process: it has memory and page tables of its own. */
	ret = svm_device_open(space, "soft", &device);
	if (ret)
		failed("svm_device_open", ret);
	else
		ret = say_hello(space, device);

	/* This closes the device as well. */
	err = svm_space_destroy(space);
	if (err)
		failed("svm_space_destroy", err);
	return ret || err ? 1 : 0;
}
