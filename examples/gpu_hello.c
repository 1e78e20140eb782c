// SPDX-License-Identifier: MIT
/*
 * One pointer, any GPU: the CPU writes, the device's own engine changes the bytes in place, the CPU reads. No
 * kernel is launched, so it runs on every backend. --device NAME; default: "soft".
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <libsvm/libsvm.h>

#define SIZE (UINT64_C(4) << 20)

static int failed(const char *what, int err)
{
	fprintf(stderr, "gpu_hello: %s: %s\n", what, strerror(-err));
	return err;
}

static void log_line(void *data, int level, const char *line)
{
	(void)data;
	(void)level;
	fprintf(stderr, "gpu_hello: %s\n", line);
}

static unsigned char written(uint64_t i)
{
	return (unsigned char)(i * 7 + (i >> 12));
}

/* The second quarter became '!', the last one a copy of the first, all else is as the CPU wrote it. */
static unsigned char wanted(uint64_t i)
{
	uint64_t quarter = SIZE / 4;

	if (i / quarter == 1)
		return '!';
	return written(i / quarter == 3 ? i - 3 * quarter : i);
}

static int work_in_place(struct svm_device *device, unsigned char *bytes)
{
	uint64_t n_wrong = 0;
	int ret;

	for (uint64_t i = 0; i < SIZE; i++)
		bytes[i] = written(i);
	printf("the CPU wrote %llu KiB at %p\n", (unsigned long long)(SIZE >> 10), (void *)bytes);

	/* The device gets the same pointers; the library brings the bytes. Without a fence the calls wait. */
	ret = svm_device_fill(device, bytes + SIZE / 4, '!', SIZE / 4, NULL, NULL);
	if (ret)
		return failed("svm_device_fill", ret);
	ret = svm_device_copy(device, bytes + 3 * (SIZE / 4), bytes, SIZE / 4, NULL, NULL);
	if (ret)
		return failed("svm_device_copy", ret);

	for (uint64_t i = 0; i < SIZE; i++)
		n_wrong += bytes[i] != wanted(i);
	printf("its engine changed them in place, the CPU reads: %llu bytes are wrong\n",
	       (unsigned long long)n_wrong);
	return n_wrong ? failed("bytes are wrong", -EIO) : 0;
}

static int run(struct svm_space *space, const char *name)
{
	struct svm_device *device;
	void *bytes;
	int err, ret = svm_device_open(space, name, &device);

	if (ret)
		return failed(name, ret);
	ret = svm_alloc(space, SIZE, 0, &bytes);
	if (ret)
		return failed("svm_alloc", ret);
	printf("device: %s\n", name);
	ret = work_in_place(device, bytes);
	err = svm_free(space, bytes);
	if (err)
		failed("svm_free", err);
	return ret ? ret : err;
}

int main(int argc, char **argv)
{
	struct svm_space_options options = { .size = sizeof(options),
					     .log = log_line,
					     .log_level = SVM_LOG_WARN };
	const char *name = "soft";
	struct svm_space *space;
	int err, ret;

	if (argc == 3 && strcmp(argv[1], "--device") == 0) {
		name = argv[2];
	} else if (argc != 1) {
		fprintf(stderr, "usage: gpu_hello [--device NAME]\n");
		return 2;
	}
	ret = svm_space_create(&options, &space);
	if (ret) {
		failed("svm_space_create", ret);
		return 1;
	}
	ret = run(space, name);
	/* This closes the device as well. */
	err = svm_space_destroy(space);
	if (err)
		failed("svm_space_destroy", err);
	return ret || err ? 1 : 0;
}
