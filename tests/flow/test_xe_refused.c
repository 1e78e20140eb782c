// SPDX-License-Identifier: MIT
/*
 * What of the world outside keeps an xe device from being used, on emulated devices: a clear errno, and one line that names
 * what is missing. Each case wants a setting of the emulator of its own (tests/meson.build).
 */
#include "xe_app.h"
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#define NOBODY 65534

static char lines[4096];
static unsigned int n_lines;

static void keep_line(void *data, int level, const char *line)
{
	size_t used = strlen(lines);

	(void)data;
	(void)level;
	(void)snprintf(lines + used, sizeof(lines) - used, "%s\n", line);
	n_lines++;
}

static void space_with_log(struct svm_fixture *f)
{
	const struct svm_space_options options = { .size = sizeof(options),
						   .log = keep_line,
						   .log_level = SVM_LOG_ERROR };

	fixture_space(f, &options);
}

static void check(const char *name, int have, int error, const char *says)
{
	if (have != error || n_lines != 1 || !strstr(lines, says))
		fail_msg("%s: want %d and one line with '%s'; have %d and %u: %s", name, error,
			 says, have, n_lines, lines);
}

/* Refused in just this way, and nothing of it stays. */
static void expect_refused(struct svm_fixture *f, const char *name, int error, const char *says)
{
	struct svm_device *device = NULL;

	lines[0] = '\0';
	n_lines = 0;
	check(name, svm_device_open(f->space, name, &device), error, says);
	assert_null(device);
}

static unsigned int n_enumerated(struct svm_fixture *f)
{
	struct svm_device_info infos[8];
	size_t n = 8;
	unsigned int n_xe = 0;

	for (size_t i = 0; i < 8; i++)
		infos[i].size = sizeof(infos[i]);
	assert_int_equal(svm_device_enumerate(f->space, infos, &n), 0);
	for (size_t i = 0; i < n && i < 8; i++)
		n_xe += strcmp(infos[i].backend, "xe") == 0;
	return n_xe;
}

/* ---- Settings --------------------------------------------------------------------------------- */

/* mode=660 */
static void as_nobody(void *data)
{
	struct svm_fixture *f = data;

	assert_int_equal(setgroups(0, NULL), 0);
	assert_int_equal(setgid(NOBODY), 0);
	assert_int_equal(setuid(NOBODY), 0);
	space_with_log(f);
	assert_int_equal(access(APP_NODE, R_OK | W_OK), -1);
	expect_refused(f, "xe:renderD128", -EACCES, "no permission for /dev/dri/renderD128");
	expect_refused(f, "xe", -EACCES, "a node in /dev/dri cannot be opened (error 13)");
	assert_int_equal(n_enumerated(f), 0);
	fixture_space_end(f);
}

static void no_permission_on_the_node(struct svm_fixture *f)
{
	static char text[4096];
	int status;

	if (geteuid() != 0) {
		print_message("not root: cannot become nobody\n");
		skip();
	}
	status = fixture_in_child(as_nobody, f, text, sizeof(text));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("status %x: %s", (unsigned int)status, text);
	/* Whose node it is may. */
	space_with_log(f);
	assert_int_equal(n_enumerated(f), 1);
	fixture_open(f, "xe:renderD128:memory=16M");
	fixture_space_end(f);
}

/* xe,xe:driver@0=i915 */
static void a_node_of_another_driver(struct svm_fixture *f)
{
	struct svm_device_import import = { .size = sizeof(import), .vm_id = 1 };
	struct svm_device *device = NULL;

	space_with_log(f);
	assert_int_equal(n_enumerated(f), 1);
	expect_refused(f, "xe:renderD128", -ENODEV, "driven by 'i915', not by xe");
	expect_refused(f, "xe:renderD130", -ENOENT, "no such node in /dev/dri");
	expect_refused(f, "xe:1", -ENOENT, "no such device of this driver in /dev/dri");
	import.fd = open(APP_NODE, O_RDWR | O_CLOEXEC);
	assert_true(import.fd >= 0);
	lines[0] = '\0';
	n_lines = 0;
	check("import", svm_device_import(f->space, "xe", &import, &device), -ENODEV,
	      "driven by 'i915', not by xe");
	assert_int_equal(close(import.fd), 0);
	/* The other one is the first of this driver. */
	fixture_open(f, "xe:0:memory=16M");
	fixture_space_end(f);
}

/* kernel=6.5 */
static void a_kernel_without_what_is_needed(struct svm_fixture *f)
{
	struct svm_device_import import = { .size = sizeof(import) };
	struct svm_device *device = NULL;
	struct app app;

	space_with_log(f);
	assert_int_equal(n_enumerated(f), 0);
	expect_refused(f, "xe", -EOPNOTSUPP, "SYNCOBJ_EVENTFD (Linux 6.6)");
	assert_true(app_open(&app, APP_JOBS));
	import.fd = app.fd;
	import.vm_id = app.vm;
	lines[0] = '\0';
	n_lines = 0;
	check("import", svm_device_import(f->space, "xe", &import, &device), -EOPNOTSUPP,
	      "SYNCOBJ_EVENTFD (Linux 6.6)");
	app_close(&app);
	fixture_space_end(f);
}

/* profile=dg2 */
static void a_device_without_what_is_asked_for(struct svm_fixture *f)
{
	space_with_log(f);
	expect_refused(f, "xe:vm=faults", -EOPNOTSUPP, "a VM whose faults are served");
	expect_refused(f, "xe:memory=900G", -EINVAL, "memory of 966367641600 bytes");
	expect_refused(f, "xe:vm=quick", -EINVAL, "option 'vm=quick'");
	fixture_open(f, "xe:memory=16M");
	fixture_space_end(f);
}

static const struct svm_fixture_case cases[] = {
	FIXTURE_CASE(no_permission_on_the_node, FIXTURE_ONCE),
	FIXTURE_CASE(a_node_of_another_driver, FIXTURE_ONCE),
	FIXTURE_CASE(a_kernel_without_what_is_needed, FIXTURE_ONCE),
	FIXTURE_CASE(a_device_without_what_is_asked_for, FIXTURE_ONCE),
};

int main(int argc, char **argv)
{
	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
