/* SPDX-License-Identifier: MIT */
/* svm-info: what this machine gives to libsvm, one "key value" per line: the kernel's features, the window, devices. */
#include <libsvm/libsvm.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MAX_DEVICES 64u

struct name {
	uint32_t bit;
	const char *text;
};

static const struct name space_caps[] = {
	{ SVM_SPACE_CAP_KERNEL_FAULTS, "kernel-faults" },
	{ SVM_SPACE_CAP_MOVE, "move" },
	{ SVM_SPACE_CAP_POISON, "poison" },
	{ SVM_SPACE_CAP_IO_URING, "io_uring" },
	{ SVM_SPACE_CAP_HUGE_PAGES, "huge-pages" },
	{ SVM_SPACE_CAP_SHARED_READ_ONLY, "shared-read-only" },
};

static const struct name device_caps[] = {
	{ SVM_CAP_FAULTS, "faults" },
	{ SVM_CAP_READ_ONLY, "read-only" },
	{ SVM_CAP_HOST_ALIAS, "host-alias" },
	{ SVM_CAP_CPU_VISIBLE, "cpu-visible" },
	{ SVM_CAP_PEER_COPY, "peer-copy" },
	{ SVM_CAP_COPY_ENGINE, "copy-engine" },
	{ SVM_CAP_WORK, "work" },
	{ SVM_CAP_LAUNCH, "launch" },
	{ SVM_CAP_ATOMICS, "atomics" },
	{ SVM_CAP_SYSTEM_ATOMICS, "system-atomics" },
	{ SVM_CAP_NATIVE, "native" },
	{ SVM_CAP_NATIVE_UFFD, "native-uffd" },
};

static void print_names(const struct name *names, size_t n, uint32_t bits)
{
	for (size_t i = 0; i < n; i++)
		if (bits & names[i].bit)
			printf(" %s", names[i].text);
	printf("\n");
}

static int print_space(struct svm_space *space)
{
	struct svm_space_info info = { .size = sizeof(info) };
	int r = svm_space_query(space, &info);

	if (r < 0)
		return r;
	printf("version %d.%d.%d\n", svm_version() / 10000, svm_version() / 100 % 100,
	       svm_version() % 100);
	printf("kernel");
	print_names(space_caps, sizeof(space_caps) / sizeof(space_caps[0]), info.caps);
	printf("window 0x%llx %llu MiB\n", (unsigned long long)info.window_base,
	       (unsigned long long)(info.window_size >> 20));
	printf("numa-nodes %u\n", info.n_numa_nodes);
	return 0;
}

static int print_devices(struct svm_space *space)
{
	struct svm_device_info infos[MAX_DEVICES] = { 0 };
	size_t n = MAX_DEVICES;
	int r;

	for (size_t i = 0; i < MAX_DEVICES; i++)
		infos[i].size = sizeof(infos[i]);
	r = svm_device_enumerate(space, infos, &n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n && i < MAX_DEVICES; i++) {
		printf("device %s memory %llu MiB engines %u:", infos[i].name,
		       (unsigned long long)(infos[i].memory_size >> 20), infos[i].n_engines);
		print_names(device_caps, sizeof(device_caps) / sizeof(device_caps[0]),
			    infos[i].caps);
	}
	if (n > MAX_DEVICES)
		printf("and %zu more devices\n", n - MAX_DEVICES);
	return 0;
}

static void print_log(void *data, int level, const char *line)
{
	(void)data;
	(void)level;
	fprintf(stderr, "svm-info: %s\n", line);
}

int main(int argc, char **argv)
{
	struct svm_space_options options = { .size = sizeof(options),
					     .log = print_log,
					     .log_level = SVM_LOG_WARN };
	struct svm_space *space;
	int r;

	if (argc > 1) {
		fprintf(stderr, "usage: svm-info (no arguments; '%s' is one)\n", argv[1]);
		return 2;
	}
	r = svm_space_create(&options, &space);
	if (r < 0) {
		fprintf(stderr, "svm-info: no space: %s\n", strerror(-r));
		return 1;
	}
	r = print_space(space);
	if (r == 0)
		r = print_devices(space);
	if (r < 0)
		fprintf(stderr, "svm-info: %s\n", strerror(-r));
	return svm_space_destroy(space) < 0 || r < 0;
}
