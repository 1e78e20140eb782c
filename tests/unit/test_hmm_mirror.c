/* SPDX-License-Identifier: MIT */
/*
 * Shown here, with and without the kernel's test device: which names the hmm-mirror backend takes, what an absent node
 * gives, that a device is opened once in a process, and that its numbers are those of the kernel's header.
 */
#include "fixture.h"

#include "../../backends/hmm-mirror/hmm_mirror_internal.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int parse(const char *string, struct svm_hmm_options *options)
{
	const char *where = NULL;
	int r = svm_hmm_options_parse(string, options, &where);

	/* Told exactly when it is wrong. */
	assert_int_equal(r < 0, where != NULL);
	return r;
}

static void names_are_strict(struct svm_fixture *f)
{
	static const char *const bad[] = {
		"4",	     "00",
		"-1",	     "0:0",
		"x",	     "0:",
		"memory",    "memory=",
		"memory=0",  "memory=3M",
		"memory=1T", "memory=4M:memory=4M",
		"uffd=",     "uffd=yes",
		"uffd=on:1", "uffd=on:uffd=off",
		":",	     "memory=99999999G",
	};
	struct svm_hmm_options options;

	(void)f;
	assert_int_equal(parse("", &options), 0);
	assert_int_equal(options.minor, 0);
	assert_int_equal(options.memory, 0);
	assert_true(options.uffd);
	assert_int_equal(parse("3:memory=64M:uffd=off", &options), 0);
	assert_int_equal(options.minor, 3);
	assert_int_equal(options.memory, UINT64_C(64) << 20);
	assert_false(options.uffd);
	assert_int_equal(parse("uffd=on", &options), 0);
	assert_true(options.uffd);
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (parse(bad[i], &options) != -EINVAL)
			fail_msg("'%s' is taken", bad[i]);
	}
}

static void numbers_are_the_kernels(struct svm_fixture *f)
{
	(void)f;
	assert_int_equal(SVM_HMM_READ, 0xC0284800u);
	assert_int_equal(SVM_HMM_WRITE, 0xC0284801u);
	assert_int_equal(SVM_HMM_MIGRATE_TO_DEV, 0xC0284802u);
	assert_int_equal(SVM_HMM_MIGRATE_TO_SYS, 0xC0284803u);
	assert_int_equal(SVM_HMM_SNAPSHOT, 0xC0284804u);
	assert_int_equal(SVM_HMM_EXCLUSIVE, 0xC0284805u);
	assert_int_equal(SVM_HMM_READ_UNLOCKED, 0xC0284809u);
}

static void nodes_that_are_absent_or_taken(struct svm_fixture *f)
{
	struct svm_device *first;
	struct svm_device *second;
	char name[32];

	fixture_space(f, NULL);
	assert_int_equal(svm_device_open(f->space, "hmm-mirror:9", &first), -EINVAL);
	for (unsigned int minor = 0; minor < SVM_HMM_NODES; minor++) {
		char node[32];

		(void)snprintf(name, sizeof(name), "hmm-mirror:%u", minor);
		(void)snprintf(node, sizeof(node), "/dev/hmm_dmirror%u", minor);
		if (access(node, R_OK | W_OK) < 0) {
			assert_true(svm_device_open(f->space, name, &first) < 0);
			continue;
		}
		assert_int_equal(svm_device_open(f->space, name, &first), 0);
		assert_int_equal(svm_device_open(f->space, name, &second), -EBUSY);
		assert_int_equal(svm_device_close(first), 0);
		assert_int_equal(svm_device_open(f->space, name, &first), 0);
		assert_int_equal(svm_device_close(first), 0);
	}
}

static const struct svm_fixture_case cases[] = {
	FIXTURE_CASE(names_are_strict, FIXTURE_ONCE),
	FIXTURE_CASE(numbers_are_the_kernels, FIXTURE_ONCE),
	FIXTURE_CASE(nodes_that_are_absent_or_taken, FIXTURE_ONCE),
};

int main(int argc, char **argv)
{
	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
