/* SPDX-License-Identifier: MIT */
/*
 * Shown here: lines reach the callback whole, cut at 255 bytes, by level, and not at all without
 * one.
 */
#include "log.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

struct seen {
	unsigned int n;
	int level;
	char line[512];
};

static void note(void *data, int level, const char *line)
{
	struct seen *seen = data;

	seen->n++;
	seen->level = level;
	strncpy(seen->line, line, sizeof(seen->line) - 1);
}

static void formats_a_line(void **state)
{
	struct seen seen = { 0 };
	const struct svm_log log = { .fn = note, .data = &seen, .level = SVM_LOG_DEBUG };

	(void)state;
	svm_warn(&log, "device %d of %s: %#llx, %u", -3, "soft:0", 0x1234567890abcdefull, 7u);
	assert_int_equal(seen.n, 1);
	assert_int_equal(seen.level, SVM_LOG_WARN);
	assert_string_equal(seen.line, "device -3 of soft:0: 0x1234567890abcdef, 7");
}

static void levels_above_the_limit_are_dropped(void **state)
{
	struct seen seen = { 0 };
	struct svm_log log = { .fn = note, .data = &seen, .level = SVM_LOG_WARN };

	(void)state;
	svm_info(&log, "info");
	svm_debug(&log, "debug");
	assert_int_equal(seen.n, 0);
	svm_warn(&log, "warn");
	svm_error(&log, "error");
	assert_int_equal(seen.n, 2);
	assert_int_equal(seen.level, SVM_LOG_ERROR);

	log.level = SVM_LOG_ERROR;
	svm_warn(&log, "warn");
	assert_int_equal(seen.n, 2);
	svm_error(&log, "error");
	assert_int_equal(seen.n, 3);
}

static void long_lines_are_cut(void **state)
{
	struct seen seen = { 0 };
	const struct svm_log log = { .fn = note, .data = &seen, .level = SVM_LOG_ERROR };
	char text[400];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	svm_error(&log, "%s", text);
	assert_int_equal(strlen(seen.line), 255);
	text[255] = '\0';
	assert_string_equal(seen.line, text);

	/* One byte less than the limit, and exactly the limit, arrive whole. */
	text[254] = '\0';
	svm_error(&log, "%s", text);
	assert_string_equal(seen.line, text);
}

static void nothing_without_a_callback(void **state)
{
	const struct svm_log log = { .level = SVM_LOG_DEBUG };

	(void)state;
	svm_error(&log, "%s", "nobody listens"); /* would crash if the callback were called */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats_a_line),
		cmocka_unit_test(levels_above_the_limit_are_dropped),
		cmocka_unit_test(long_lines_are_cut),
		cmocka_unit_test(nothing_without_a_callback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
