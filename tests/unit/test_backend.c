/* SPDX-License-Identifier: MIT */
/*
 * Shown here: which tables are refused, what the missing optional ops do, which capabilities need which
 * ops, and that a bad table among good ones harms nobody.
 */
#include "fixture.h"

#include "backend.h"
#include "fake_backend.h"
#include <errno.h>
#include <string.h>

static char last_line[256];
static unsigned int n_lines;

static void keep_line(void *data, int level, const char *line)
{
	(void)data;
	assert_int_equal(level, SVM_LOG_ERROR);
	(void)strncpy(last_line, line, sizeof(last_line) - 1u);
	n_lines++;
}

static const struct svm_log loud = { .fn = keep_line, .level = SVM_LOG_ERROR };
static struct svm_backend_ops table;
static const struct svm_backend_ops *const only_table[] = { &table, NULL };

static int set_up(void **state)
{
	(void)state;
	fake_reset();
	table = fake_backend;
	svm_backends = only_table;
	memset(last_line, 0, sizeof(last_line));
	n_lines = 0;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fake_unplug();
	return 0;
}

static int find(const char *name, struct svm_backend_ops *ret_ops)
{
	return svm_backend_find(name, strlen(name), &loud, ret_ops);
}

static void found_by_its_whole_name(void **state)
{
	struct svm_backend_ops ops;

	(void)state;
	assert_int_equal(find("fake", &ops), 0);
	assert_ptr_equal(ops.bind, table.bind);
	assert_int_equal(svm_backend_find("fake:memory=1", 4, &loud, &ops), 0);
	assert_int_equal(find("fak", &ops), -ENODEV);
	assert_int_equal(find("fakes", &ops), -ENODEV);
	assert_int_equal(find("", &ops), -ENODEV);
	assert_int_equal(n_lines, 0);
	assert_int_equal(svm_backend_nth(0, &loud, &ops), 0);
	assert_int_equal(svm_backend_nth(1, &loud, &ops), -ENOENT);
	assert_int_equal(svm_backend_nth(7, &loud, &ops), -ENOENT);
}

static void another_contract_is_refused_with_both_numbers(void **state)
{
	struct svm_backend_ops ops = { .abi = 77 };

	(void)state;
	table.abi = SVM_BACKEND_ABI + 41u;
	assert_int_equal(find("fake", &ops), -EPROTO);
	assert_int_equal(n_lines, 1);
	assert_non_null(strstr(last_line, "contract 43"));
	assert_non_null(strstr(last_line, "has 2"));
	table = fake_backend;
	table.size--;
	assert_int_equal(svm_backend_nth(0, &loud, &ops), -EPROTO);
	assert_int_equal(n_lines, 2);
	/* Written on success only. */
	assert_int_equal(ops.abi, 77);
}

#define MANDATORY(op)                                     \
	{                                                 \
#op, offsetof(struct svm_backend_ops, op) \
	}

static void each_mandatory_op_is_wanted(void **state)
{
	static const struct {
		const char *name;
		size_t offset;
	} mandatory[] = {
		MANDATORY(enumerate), MANDATORY(open),	      MANDATORY(close),
		MANDATORY(caps),      MANDATORY(chunk_alloc), MANDATORY(chunk_free),
		MANDATORY(bind),      MANDATORY(event_fd),    MANDATORY(event_ack),
		MANDATORY(completed), MANDATORY(kill),	      MANDATORY(memory_kept),
	};
	struct svm_backend_ops ops;

	(void)state;
	for (size_t i = 0; i < sizeof(mandatory) / sizeof(mandatory[0]); i++) {
		table = fake_backend;
		memset((char *)&table + mandatory[i].offset, 0, sizeof(void (*)(void)));
		memset(&ops, 0, sizeof(ops));
		if (find("fake", &ops) != -EPROTO)
			fail_msg("a table without %s() is taken", mandatory[i].name);
		assert_null(ops.name);
		assert_int_equal(n_lines, i + 1u);
	}
}

static void missing_optional_ops_have_defaults(void **state)
{
	static const struct svm_device_fault fault;
	static const struct svm_work work;
	struct svm_backend_ops ops;
	struct svm_device_fault faults[1];
	struct svm_point point;
	void *map;

	(void)state;
	table.chunk_map = NULL;
	table.span_add = NULL;
	table.span_remove = NULL;
	table.copy = NULL;
	table.work = NULL;
	table.launch = NULL;
	table.fault_fd = NULL;
	table.fault_read = NULL;
	table.fault_done = NULL;
	table.native_advise = NULL;
	table.native_prefetch = NULL;
	table.native_query = NULL;
	assert_int_equal(find("fake", &ops), 0);
	assert_int_equal(ops.native_advise(NULL, 0, 4096, NULL, NULL), -EOPNOTSUPP);
	assert_int_equal(ops.native_prefetch(NULL, 0, 4096, SVM_NATIVE_OWN), -EOPNOTSUPP);
	assert_int_equal(ops.native_query(NULL, 0, 1, NULL), -EOPNOTSUPP);
	assert_int_equal(ops.chunk_map(NULL, 0, &map), -EOPNOTSUPP);
	assert_int_equal(ops.span_add(NULL, 0, 4096), 0);
	assert_int_equal(ops.span_remove(NULL, 0, 4096), 0);
	assert_int_equal(ops.copy(NULL, NULL, 0, 0, &point), -EOPNOTSUPP);
	assert_int_equal(ops.work(NULL, &work, &point), -EOPNOTSUPP);
	assert_int_equal(ops.launch(NULL, NULL, NULL, 0, 1, &point), -EOPNOTSUPP);
	assert_int_equal(ops.fault_fd(NULL), -EOPNOTSUPP);
	assert_int_equal(ops.fault_read(NULL, faults, 1), -EOPNOTSUPP);
	assert_int_equal(ops.fault_done(NULL, &fault, 0), -EOPNOTSUPP);
}

/* Take ops away and see whether caps are still believed. */
static int check(uint32_t caps, void (*take_away)(void))
{
	struct svm_backend_caps c = { .caps = caps,
				      .va_end = UINT64_C(1) << 47,
				      .memory_size = SVM_BLOCK_SIZE };
	struct svm_backend_ops ops;
	unsigned int before;
	int r;

	table = fake_backend;
	if (take_away)
		take_away();
	assert_int_equal(find("fake", &ops), 0);
	before = n_lines;
	r = svm_backend_check_caps(&ops, &c, &loud);
	assert_int_equal(n_lines - before, r < 0);
	return r;
}

static void no_fault_fd(void)
{
	table.fault_fd = NULL;
}

static void no_fault_read(void)
{
	table.fault_read = NULL;
}

static void no_fault_done(void)
{
	table.fault_done = NULL;
}

static void no_copy(void)
{
	table.copy = NULL;
}

static void no_chunk_map(void)
{
	table.chunk_map = NULL;
}

static void no_work(void)
{
	table.work = NULL;
}

static void no_managed_memory(void)
{
	table.chunk_alloc = NULL;
	table.chunk_free = NULL;
	table.bind = NULL;
	table.memory_kept = NULL;
}

static void only_native_devices_do_without_managed_memory(void **state)
{
	struct svm_backend_ops ops;
	struct svm_point point;
	uint64_t chunk;

	(void)state;
	assert_int_equal(check(SVM_CAP_NATIVE, no_managed_memory), 0);
	assert_int_equal(
		check(SVM_CAP_NATIVE | SVM_CAP_NATIVE_UFFD | SVM_CAP_WORK, no_managed_memory), 0);
	assert_int_equal(check(0, no_managed_memory), -EPROTO);
	assert_int_equal(check(SVM_CAP_COPY_ENGINE, no_managed_memory), -EPROTO);
	assert_int_equal(check(SVM_CAP_NATIVE | SVM_CAP_HOST_ALIAS, no_managed_memory), -EPROTO);
	assert_int_equal(check(SVM_CAP_COPY_ENGINE | SVM_CAP_NATIVE_UFFD, NULL), -EPROTO);
	assert_int_equal(check(SVM_CAP_COPY_ENGINE | SVM_CAP_NATIVE, NULL), 0);
	assert_int_equal(find("fake", &ops), 0);
	assert_false(svm_backend_is_native_only(&ops));
	no_managed_memory();
	assert_int_equal(find("fake", &ops), 0);
	assert_true(svm_backend_is_native_only(&ops));
	assert_int_equal(ops.chunk_alloc(NULL, &chunk), -EOPNOTSUPP);
	assert_int_equal(ops.bind(NULL, NULL, 0, &point), -EOPNOTSUPP);
	assert_int_equal(ops.memory_kept(NULL), 0);
}

static void capabilities_need_their_ops(void **state)
{
	const uint32_t copies = SVM_CAP_COPY_ENGINE;

	(void)state;
	assert_int_equal(check(FAKE_CAPS_ALL, NULL), 0);
	assert_int_equal(check(copies, NULL), 0);
	assert_int_equal(check(SVM_CAP_CPU_VISIBLE, NULL), 0);
	assert_int_equal(check(SVM_CAP_CPU_VISIBLE, no_copy), 0);
	assert_int_equal(check(copies, no_chunk_map), 0);
	assert_int_equal(check(copies, no_fault_read), 0);
	/* Bytes must be able to get there. */
	assert_int_equal(check(SVM_CAP_FAULTS, NULL), -EPROTO);
	assert_int_equal(check(copies | SVM_CAP_FAULTS, no_fault_fd), -EPROTO);
	assert_int_equal(check(copies | SVM_CAP_FAULTS, no_fault_read), -EPROTO);
	assert_int_equal(check(copies | SVM_CAP_FAULTS, no_fault_done), -EPROTO);
	assert_int_equal(check(copies, no_copy), -EPROTO);
	assert_int_equal(check(SVM_CAP_CPU_VISIBLE, no_chunk_map), -EPROTO);
	assert_int_equal(check(copies | SVM_CAP_WORK, NULL), 0);
	assert_int_equal(check(copies | SVM_CAP_WORK, no_work), -EPROTO);
	assert_int_equal(check(copies | SVM_CAP_LAUNCH, NULL), -EPROTO);
}

static void capabilities_are_sane_numbers(void **state)
{
	const struct svm_backend_caps good = { .caps = SVM_CAP_COPY_ENGINE,
					       .va_start = 1,
					       .va_end = 2,
					       .memory_size = 3 * SVM_BLOCK_SIZE };
	struct svm_backend_caps caps = good;
	struct svm_backend_ops ops;

	(void)state;
	assert_int_equal(find("fake", &ops), 0);
	assert_int_equal(svm_backend_check_caps(&ops, &caps, &loud), 0);
	caps.va_end = 1;
	assert_int_equal(svm_backend_check_caps(&ops, &caps, &loud), -EPROTO);
	caps = good;
	caps.memory_size++;
	assert_int_equal(svm_backend_check_caps(&ops, &caps, &loud), -EPROTO);
	assert_int_equal(n_lines, 2);
}

static void a_bad_table_harms_nobody(void **state)
{
	static const struct svm_backend_ops *const both[] = { &table, &fake_backend, NULL };
	struct svm_space_options options = { .size = sizeof(options),
					     .window_size = 16u * SVM_BLOCK_SIZE,
					     .log = keep_line };
	struct svm_device_info info = { .size = sizeof(info) };
	struct svm_space *space;
	struct svm_device *device;
	size_t n = 1;

	(void)state;
	table.abi++;
	table.name = "bad";
	svm_backends = both;
	assert_int_equal(svm_space_create(&options, &space), 0);
	assert_true(n_lines >= 1);
	assert_int_equal(svm_device_enumerate(space, &info, &n), 0);
	assert_int_equal(n, 1);
	assert_string_equal(info.name, "fake");
	assert_int_equal(svm_device_open(space, "bad", &device), -EPROTO);
	assert_int_equal(svm_device_open(space, "unknown", &device), -ENODEV);
	assert_int_equal(svm_device_open(space, "fake", &device), 0);
	assert_int_equal(svm_device_close(device), 0);
	assert_int_equal(svm_space_destroy(space), 0);
	assert_int_equal(fake_wrong(), 0);
}

/* One device that reaches a part of the addresses, which sanitizers leave to programs, and one that shares nothing with it. */
#define REACH_START UINT64_C(0x7e9000000000)
#define REACH_END   UINT64_C(0x7ea000000000)

static int enumerate_two(unsigned int i, struct svm_device_info *ret_info)
{
	int r = fake_backend.enumerate(0, ret_info);

	if (i > 1)
		return -ENOENT;
	ret_info->va_start = i == 0 ? REACH_START : 0;
	ret_info->va_end = i == 0 ? REACH_END : SVM_BLOCK_SIZE;
	return r;
}

static void a_space_lies_where_devices_reach(void **state)
{
	struct svm_space_options options = { .size = sizeof(options),
					     .window_size = 16u * SVM_BLOCK_SIZE };
	struct svm_space_info info = { .size = sizeof(info) };
	struct svm_space *space;

	(void)state;
	table.enumerate = enumerate_two;
	assert_int_equal(svm_space_create(&options, &space), 0);
	assert_int_equal(svm_space_query(space, &info), 0);
	assert_true(info.window_base >= REACH_START);
	assert_true(info.window_base + info.window_size <= REACH_END);
	assert_int_equal(svm_space_destroy(space), 0);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(found_by_its_whole_name),
		TEST(another_contract_is_refused_with_both_numbers),
		TEST(each_mandatory_op_is_wanted),
		TEST(missing_optional_ops_have_defaults),
		TEST(only_native_devices_do_without_managed_memory),
		TEST(capabilities_need_their_ops),
		TEST(capabilities_are_sane_numbers),
		TEST(a_bad_table_harms_nobody),
		TEST(a_space_lies_where_devices_reach),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
