/* SPDX-License-Identifier: MIT */
/* Shown here: mappings are read line by line, however the kernel cuts the text up and whatever read() says. */
#include "maps.h"

#include "sys.h"
#include "util.h"
#include <libsvm/types.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#define PAGE ((uint64_t)SVM_PAGE_SIZE)
/* Not a descriptor of anybody. */
#define FAKE_FD 12345

/* ---- A file that says what a test wants --------------------------------------------------------- */

static struct {
	const char *text;
	size_t at;
	size_t piece;	      /* bytes that a read gives at most */
	int open_error;	      /* what open() says, 0: a file */
	int read_error;	      /* what read() says... */
	unsigned int fail_at; /* ...at this read, 0: never */
	unsigned int n_reads;
	int n_open;
} fake;

static int fake_open(const char *path, int flags)
{
	(void)flags;
	assert_string_equal(path, "/proc/self/maps");
	if (fake.open_error)
		return fake.open_error;
	fake.n_open++;
	return FAKE_FD;
}

static int fake_close(int fd)
{
	assert_int_equal(fd, FAKE_FD);
	fake.n_open--;
	return 0;
}

static ssize_t fake_read(int fd, void *buffer, size_t size)
{
	size_t n = strlen(fake.text) - fake.at;

	assert_int_equal(fd, FAKE_FD);
	if (++fake.n_reads == fake.fail_at)
		return fake.read_error;
	n = n < size ? n : size;
	n = fake.piece && n > fake.piece ? fake.piece : n;
	memcpy(buffer, fake.text + fake.at, n);
	fake.at += n;
	return (ssize_t)n;
}

static struct svm_sys fake_sys;

static int setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	fake_sys = svm_sys_real;
	fake_sys.open = fake_open;
	fake_sys.close = fake_close;
	fake_sys.read = fake_read;
	svm_sys = &fake_sys;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	svm_sys = &svm_sys_real;
	return fake.n_open;
}

/* ---- What was heard ----------------------------------------------------------------------------- */

struct heard {
	char text[4096];
	unsigned int n;
	unsigned int stop_at; /* that many lines are enough, 0: never */
};

static bool hear(void *data, const struct svm_maps_line *line)
{
	struct heard *heard = data;
	size_t used = strlen(heard->text);

	(void)snprintf(heard->text + used, sizeof(heard->text) - used, "%llx %llx %.4s %llu '%s'\n",
		       (unsigned long long)line->start, (unsigned long long)line->end, line->perms,
		       (unsigned long long)line->inode, line->name);
	return ++heard->n != heard->stop_at;
}

static const char some_maps[] =
	"00400000-00452000 r-xp 00000000 08:02 173521                             /usr/bin/a b\n"
	"7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n"
	"7f0000001000-7f0000003000 ---s 00001000 00:1f 18446744073709551615       /memfd:libsvm (deleted)\n"
	"7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]\n"
	"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

static const char some_heard[] =
	"400000 452000 r-xp 173521 '/usr/bin/a b'\n"
	"7f0000000000 7f0000001000 rw-p 0 ''\n"
	"7f0000001000 7f0000003000 ---s 18446744073709551615 '/memfd:libsvm (deleted)'\n"
	"7ffc00000000 7ffc00021000 rw-p 0 '[stack]'\n"
	"ffffffffff600000 ffffffffff601000 --xp 0 '[vsyscall]'\n";

static void each_field_is_read(void **state)
{
	struct heard heard = { .n = 0 };

	(void)state;
	fake.text = some_maps;
	assert_int_equal(svm_maps_read(hear, &heard), 0);
	assert_string_equal(heard.text, some_heard);
	assert_int_equal(heard.n, 5);
}

static void pieces_of_any_size_make_the_same_lines(void **state)
{
	(void)state;
	fake.text = some_maps;
	for (fake.piece = 1; fake.piece < sizeof(some_maps); fake.piece++) {
		struct heard heard = { .n = 0 };

		fake.at = 0;
		assert_int_equal(svm_maps_read(hear, &heard), 0);
		assert_string_equal(heard.text, some_heard);
	}
}

/* The name is cut off; the next line is whole. */
static void a_long_name_does_not_spill(void **state)
{
	struct heard heard = { .n = 0 };
	char text[4096];
	char name[2048];

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[0] = '/';
	name[sizeof(name) - 1] = '\0';
	(void)snprintf(text, sizeof(text), "1000-2000 rw-p 00000000 08:02 7 %s\n%s", name,
		       some_maps);
	fake.text = text;
	assert_int_equal(svm_maps_read(hear, &heard), 0);
	assert_int_equal(heard.n, 6);
	assert_memory_equal(heard.text, "1000 2000 rw-p 7 '/xxx", 21);
	assert_string_equal(strchr(heard.text, '\n') + 1, some_heard);
}

static void it_stops_when_told(void **state)
{
	struct heard heard = { .n = 0, .stop_at = 2 };

	(void)state;
	fake.text = some_maps;
	fake.piece = 100;
	assert_int_equal(svm_maps_read(hear, &heard), 0);
	assert_int_equal(heard.n, 2);
	/* What is behind is not even read. */
	assert_int_equal(fake.n_reads, 2);

	/* Nor are lines told that came with the last one. */
	heard = (struct heard){ .n = 0, .stop_at = 2 };
	fake.at = 0;
	fake.piece = 0;
	assert_int_equal(svm_maps_read(hear, &heard), 0);
	assert_int_equal(heard.n, 2);
}

static void interrupted_calls_are_made_again(void **state)
{
	(void)state;
	fake.text = some_maps;
	fake.piece = 64;
	fake.read_error = -EINTR;
	for (fake.fail_at = 1; fake.fail_at < 9; fake.fail_at++) {
		struct heard heard = { .n = 0 };

		fake.at = 0;
		fake.n_reads = 0;
		assert_int_equal(svm_maps_read(hear, &heard), 0);
		assert_string_equal(heard.text, some_heard);
	}
}

static void errors_come_back(void **state)
{
	struct heard heard = { .n = 0 };

	(void)state;
	fake.text = some_maps;
	fake.open_error = -EMFILE;
	assert_int_equal(svm_maps_read(hear, &heard), -EMFILE);
	assert_int_equal(heard.n, 0);
	fake.open_error = 0;
	fake.piece = 200;
	fake.read_error = -EIO;
	fake.fail_at = 2;
	assert_int_equal(svm_maps_read(hear, &heard), -EIO);
	assert_in_range(heard.n, 1, 4);
	assert_int_equal(fake.n_open, 0);
}

/* Nothing is made up of what is no line. */
static void what_is_no_line_ends_it(void **state)
{
	static const char *const bad[] = { "\n",      "hello\n",     "1000\n",
					   "1000-\n", "1000-2000\n", "1000_2000 rw-p 0 0:0 0\n" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct heard heard = { .n = 0 };

		fake.text = bad[i];
		fake.at = 0;
		assert_int_equal(svm_maps_read(hear, &heard), 0);
		assert_int_equal(heard.n, 0);
	}
	/* Fields that are not there are empty, not what is behind them in memory. */
	{
		struct heard heard = { .n = 0 };

		fake.text = "1000-2000 rw-p\n";
		fake.at = 0;
		assert_int_equal(svm_maps_read(hear, &heard), 0);
		assert_string_equal(heard.text, "1000 2000 rw-p 0 ''\n");
	}
	/* A last line that does not end is none. */
	{
		struct heard heard = { .n = 0 };

		fake.text = "1000-2000 rw-p 00000000 00:00 0";
		fake.at = 0;
		assert_int_equal(svm_maps_read(hear, &heard), 0);
		assert_int_equal(heard.n, 0);
	}
}

/* ---- This process ------------------------------------------------------------------------------- */

struct search {
	uint64_t start;
	uint64_t end;
	uint64_t last_end;
	unsigned int n;
};

static bool look(void *data, const struct svm_maps_line *line)
{
	struct search *search = data;

	/* By address, none over another. */
	assert_true(line->start >= search->last_end && line->end > line->start);
	search->last_end = line->end;
	if (line->start == search->start && line->end == search->end &&
	    strncmp(line->perms, "r--p", 4) == 0 && line->inode == 0)
		search->n++;
	return true;
}

static void this_process_is_read_as_it_is(void **state)
{
	struct search search = { .n = 0 };
	char *p = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	svm_sys = &svm_sys_real;
	assert_true(p != MAP_FAILED);
	assert_int_equal(mprotect(p + PAGE, PAGE, PROT_READ), 0);
	search.start = (uint64_t)(uintptr_t)p + PAGE;
	search.end = search.start + PAGE;
	assert_int_equal(svm_maps_read(look, &search), 0);
	assert_int_equal(search.n, 1);
	assert_int_equal(munmap(p, 3 * PAGE), 0);
	search.last_end = 0;
	assert_int_equal(svm_maps_read(look, &search), 0);
	assert_int_equal(search.n, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_field_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(pieces_of_any_size_make_the_same_lines, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_long_name_does_not_spill, setup, teardown),
		cmocka_unit_test_setup_teardown(it_stops_when_told, setup, teardown),
		cmocka_unit_test_setup_teardown(interrupted_calls_are_made_again, setup, teardown),
		cmocka_unit_test_setup_teardown(errors_come_back, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_no_line_ends_it, setup, teardown),
		cmocka_unit_test_setup_teardown(this_process_is_read_as_it_is, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
