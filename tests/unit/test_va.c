/* SPDX-License-Identifier: MIT */
/*
 * Shown here: which addresses of the window are given out: small runs packed into blocks of their kind,
 * the rest in whole blocks; that nothing is given out twice, that the window can be filled and all
 * of it comes back; what happens when the kernel refuses. The window is numbers only: no memory.
 */
#include "fixture.h"

#include "sys.h"
#include "va.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE	  FIXTURE_PAGE
#define BLOCK	  FIXTURE_BLOCK
#define BASE	  UINT64_C(0x100000000000)
#define N_BLOCKS  16u
#define SIZE	  (N_BLOCKS * BLOCK)
#define VIEWS_END (BASE + 3u * SIZE) /* user view, stash, alias */

static struct svm_sys fake_sys;
static struct svm_arena arena;
static struct svm_host host;
static struct svm_va va;
static struct {
	int window_error; /* of what is done to the window */
	int pool_error;
	unsigned int n_window; /* calls that concerned it */
} os;

static bool is_window(const void *addr)
{
	return svm_addr(addr) >= BASE && svm_addr(addr) < VIEWS_END;
}

static int touch_window(void)
{
	os.n_window++;
	return os.window_error;
}

static int fake_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		     void **ret_addr)
{
	int r;

	if (!is_window(addr))
		return os.pool_error
			       ? os.pool_error
			       : svm_sys_real.mmap(addr, size, prot, flags, fd, offset, ret_addr);
	r = touch_window();
	if (r == 0)
		*ret_addr = addr;
	return r;
}

static int fake_mprotect(void *addr, size_t size, int prot)
{
	(void)size;
	(void)prot;
	assert_true(is_window(addr));
	return touch_window();
}

static int fake_madvise(void *addr, size_t size, int advice)
{
	(void)size;
	(void)advice;
	assert_true(is_window(addr));
	return touch_window();
}

static int fake_munmap(void *addr, size_t size)
{
	return is_window(addr) ? touch_window() : svm_sys_real.munmap(addr, size);
}

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
	(void)request;
	(void)arg;
	assert_int_equal(fd, 1000);
	return touch_window();
}

static int fake_fallocate(int fd, int mode, uint64_t offset, uint64_t size)
{
	(void)mode;
	assert_int_equal(fd, 1001);
	assert_true(offset + size <= SIZE);
	return touch_window();
}

static int set_up(void **state)
{
	static const struct svm_log quiet;

	(void)state;
	memset(&os, 0, sizeof(os));
	fake_sys = svm_sys_real;
	fake_sys.mmap = fake_mmap;
	fake_sys.mprotect = fake_mprotect;
	fake_sys.madvise = fake_madvise;
	fake_sys.munmap = fake_munmap;
	fake_sys.ioctl = fake_ioctl;
	fake_sys.fallocate = fake_fallocate;
	svm_sys = &fake_sys;
	host = (struct svm_host){
		.uffd = { .fd = 1000 },
		.reg_uffd = { .fd = -1 },
		.log = &quiet,
		.window_base = BASE,
		.window_size = SIZE,
		.stash_base = BASE + SIZE,
		.alias_base = BASE + 2u * SIZE,
		.memfd = 1001,
		.n_nodes = 1,
	};
	memset(&va, 0, sizeof(va));
	memset(&arena, 0, sizeof(arena));
	return svm_va_init(&va, &arena, &host);
}

static int tear_down(void **state)
{
	(void)state;
	svm_va_finish(&va);
	svm_sys = &svm_sys_real;
	return atomic_load(&arena.bytes) ? -1 : 0;
}

static uint64_t alloc(uint64_t size, enum svm_host_kind kind)
{
	uint64_t addr = 0;

	assert_int_equal(svm_va_alloc(&va, size, kind, &addr), 0);
	assert_int_equal(addr % PAGE, 0);
	assert_true(addr >= BASE && addr + size <= BASE + SIZE);
	return addr;
}

static void small_ones_share_a_block(void **state)
{
	uint64_t a = alloc(PAGE, SVM_HOST_PRIVATE);
	uint64_t b = alloc(3u * PAGE, SVM_HOST_PRIVATE);
	uint64_t c = alloc(BLOCK / 2u, SVM_HOST_PRIVATE);

	(void)state;
	assert_int_equal(a / BLOCK, b / BLOCK);
	assert_int_equal(a / BLOCK, c / BLOCK);
	assert_int_equal(b, a + PAGE);
	assert_int_equal(va.free_bytes, SIZE - BLOCK);
	/* The first hole that is large enough. */
	svm_va_free(&va, a, PAGE);
	assert_int_equal(alloc(2u * PAGE, SVM_HOST_PRIVATE), c + BLOCK / 2u);
	assert_int_equal(alloc(PAGE, SVM_HOST_PRIVATE), a);
	/* No room: another block. */
	assert_int_not_equal(alloc(BLOCK / 2u, SVM_HOST_PRIVATE) / BLOCK, a / BLOCK);
}

static void kinds_do_not_mix(void **state)
{
	uint64_t a = alloc(PAGE, SVM_HOST_PRIVATE);
	uint64_t b = alloc(PAGE, SVM_HOST_SHARED);
	enum svm_host_kind kind;

	(void)state;
	assert_int_not_equal(a / BLOCK, b / BLOCK);
	assert_int_equal(svm_va_packed_kind(&va, a + 100u * PAGE, &kind), 0);
	assert_int_equal(kind, SVM_HOST_PRIVATE);
	assert_int_equal(svm_va_packed_kind(&va, b, &kind), 0);
	assert_int_equal(kind, SVM_HOST_SHARED);
	assert_int_equal(svm_va_packed_kind(&va, alloc(BLOCK, SVM_HOST_SHARED), &kind), -ENOENT);
}

static void more_than_half_a_block_is_aligned_to_blocks(void **state)
{
	uint64_t a = alloc(BLOCK / 2u + PAGE, SVM_HOST_PRIVATE);
	uint64_t b = alloc(2u * BLOCK + PAGE, SVM_HOST_SHARED);

	(void)state;
	assert_int_equal(a % BLOCK, 0);
	assert_int_equal(b % BLOCK, 0);
	assert_int_equal(va.free_bytes, SIZE - 4u * BLOCK);
	svm_va_free(&va, b, 2u * BLOCK + PAGE);
	svm_va_free(&va, a, BLOCK / 2u + PAGE);
	assert_int_equal(va.free_bytes, SIZE);
	assert_int_equal(va.free.n_nodes, 1);
}

static void a_packed_block_is_full_and_comes_back(void **state)
{
	uint64_t pages[512];
	enum svm_host_kind kind;

	(void)state;
	for (unsigned int i = 0; i < 512; i++)
		pages[i] = alloc(PAGE, SVM_HOST_PRIVATE);
	assert_int_equal(va.free_bytes, SIZE - BLOCK);
	assert_int_not_equal(alloc(PAGE, SVM_HOST_PRIVATE) / BLOCK, pages[0] / BLOCK);
	svm_va_free(&va, pages[77], PAGE);
	assert_int_equal(alloc(PAGE, SVM_HOST_PRIVATE), pages[77]);
	for (unsigned int i = 0; i < 512; i++)
		svm_va_free(&va, pages[i], PAGE);
	/* Empty, it stays open for the next small one. */
	assert_int_equal(svm_va_packed_kind(&va, pages[0], &kind), 0);
	assert_int_equal(alloc(PAGE, SVM_HOST_PRIVATE) / BLOCK, pages[0] / BLOCK);
}

static void the_window_can_be_filled(void **state)
{
	uint64_t addr = 77;
	uint64_t all;

	(void)state;
	all = alloc(SIZE, SVM_HOST_PRIVATE);
	assert_int_equal(all, BASE);
	assert_int_equal(va.free_bytes, 0);
	assert_int_equal(svm_va_alloc(&va, BLOCK, SVM_HOST_PRIVATE, &addr), -ERANGE);
	assert_int_equal(svm_va_alloc(&va, PAGE, SVM_HOST_SHARED, &addr), -ERANGE);
	assert_int_equal(addr, 77);
	svm_va_free(&va, all, SIZE);
	assert_int_equal(svm_va_alloc(&va, SIZE + PAGE, SVM_HOST_PRIVATE, &addr), -ERANGE);
	assert_int_equal(va.free_bytes, SIZE);
}

static void neighbours_grow_together(void **state)
{
	uint64_t blocks[N_BLOCKS];

	(void)state;
	for (unsigned int i = 0; i < N_BLOCKS; i++)
		blocks[i] = alloc(BLOCK, SVM_HOST_PRIVATE);
	for (unsigned int i = 0; i < N_BLOCKS; i += 2)
		svm_va_free(&va, blocks[i], BLOCK);
	assert_int_equal(va.free.n_nodes, N_BLOCKS / 2u);
	for (unsigned int i = N_BLOCKS - 1u; i < N_BLOCKS; i -= 2)
		svm_va_free(&va, blocks[i], BLOCK);
	assert_int_equal(va.free.n_nodes, 1);
	assert_int_equal(va.free_bytes, SIZE);
	assert_int_equal(alloc(SIZE, SVM_HOST_SHARED), BASE);
}

static void what_cannot_be_armed_is_free_again(void **state)
{
	uint64_t addr = 77;

	(void)state;
	os.window_error = -ENOMEM;
	assert_int_equal(svm_va_alloc(&va, BLOCK, SVM_HOST_SHARED, &addr), -ENOMEM);
	assert_int_equal(svm_va_alloc(&va, 2u * BLOCK, SVM_HOST_PRIVATE, &addr), -ENOMEM);
	assert_int_equal(svm_va_alloc(&va, PAGE, SVM_HOST_PRIVATE, &addr), -ENOMEM);
	assert_int_equal(addr, 77);
	assert_int_equal(va.free_bytes, SIZE);
	assert_int_equal(va.packed_pool.n_used, 0);
	os.window_error = 0;
	assert_int_equal(alloc(SIZE, SVM_HOST_PRIVATE), BASE);
}

static void what_cannot_be_disarmed_is_not_given_out_again(void **state)
{
	uint64_t addr = alloc(BLOCK, SVM_HOST_PRIVATE);

	(void)state;
	os.window_error = -ENOMEM;
	svm_va_free(&va, addr, BLOCK);
	os.window_error = 0;
	assert_int_equal(va.free_bytes, SIZE - BLOCK);
	for (unsigned int i = 1; i < N_BLOCKS; i++)
		assert_int_not_equal(alloc(BLOCK, SVM_HOST_PRIVATE), addr);
	assert_int_equal(svm_va_alloc(&va, BLOCK, SVM_HOST_PRIVATE, &addr), -ERANGE);
}

static void without_memory_for_the_record(void **state)
{
	static void *taken[65536];
	uint64_t blocks[3];
	uint64_t small = 77;
	unsigned int n_spans = 0;
	unsigned int n_all;

	(void)state;
	for (unsigned int i = 0; i < 3; i++)
		blocks[i] = alloc(BLOCK, SVM_HOST_PRIVATE);
	os.pool_error = -ENOMEM;
	while (n_spans < 60000 && (taken[n_spans] = svm_pool_get(&va.span_pool)) != NULL)
		n_spans++;
	n_all = n_spans;
	while (n_all < 65536 && (taken[n_all] = svm_pool_get(&va.packed_pool)) != NULL)
		n_all++;
	assert_int_equal(svm_va_alloc(&va, PAGE, SVM_HOST_PRIVATE, &small), -ENOMEM);
	assert_int_equal(small, 77);
	/* A span by itself needs a node: without, it is lost, but never given out twice. */
	svm_va_free(&va, blocks[1], BLOCK);
	assert_int_equal(va.free_bytes, SIZE - 3u * BLOCK);
	/* One beside a free span needs none. */
	svm_va_free(&va, blocks[2], BLOCK);
	assert_int_equal(va.free_bytes, SIZE - 2u * BLOCK);
	os.pool_error = 0;
	while (n_all > n_spans)
		svm_pool_put(&va.packed_pool, taken[--n_all]);
	while (n_spans > 0)
		svm_pool_put(&va.span_pool, taken[--n_spans]);
	assert_int_equal(alloc(BLOCK, SVM_HOST_PRIVATE), blocks[2]);
}

/* ---- Against a model ---------------------------------------------------------------------------- */

#define MAX_LIVE 256u

static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state += UINT64_C(0x9e3779b97f4a7c15);
	return fixture_word(5, random_state) >> 8;
}

/* Who has each page: 0 nobody, else 1 + slot. And of which kind a block with small runs is: 0 none, else kind + 1. */
static uint16_t owner[N_BLOCKS * 512u];
static uint8_t packed[N_BLOCKS];

static void nothing_is_given_out_twice(void **state)
{
	const char *given = getenv("SVM_TEST_SEED");
	struct {
		uint64_t addr;
		uint64_t size;
	} live[MAX_LIVE] = { { 0, 0 } };
	unsigned int n_refused = 0;

	(void)state;
	random_state = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
	print_message("SVM_TEST_SEED=%llu\n", (unsigned long long)random_state);
	memset(owner, 0, sizeof(owner));
	memset(packed, 0, sizeof(packed));
	for (unsigned int round = 0; round < 20000; round++) {
		unsigned int i = (unsigned int)(next_random() % MAX_LIVE);
		enum svm_host_kind kind = (enum svm_host_kind)(next_random() % 2u);
		uint64_t n = 1u + next_random() % (next_random() % 8u == 0 ? 2000u : 40u);
		uint64_t addr;
		uint64_t first;
		uint64_t length;
		int r;

		if (live[i].size) {
			bool small = live[i].size <= BLOCK / 2u;

			length = small ? live[i].size : svm_align_up(live[i].size, BLOCK);
			first = (live[i].addr - BASE) / PAGE;
			for (uint64_t p = first; p < first + length / PAGE; p++) {
				assert_int_equal(owner[p], i + 1u);
				owner[p] = 0;
			}
			svm_va_free(&va, live[i].addr, live[i].size);
			live[i].size = 0;
			continue;
		}
		r = svm_va_alloc(&va, n * PAGE, kind, &addr);
		if (r < 0) {
			assert_int_equal(r, -ERANGE);
			n_refused++;
			continue;
		}
		live[i].addr = addr;
		live[i].size = n * PAGE;
		first = (addr - BASE) / PAGE;
		length = n * PAGE <= BLOCK / 2u ? n * PAGE : svm_align_up(n * PAGE, BLOCK);
		assert_true(addr >= BASE && addr + length <= BASE + SIZE);
		if (length > BLOCK / 2u) {
			assert_int_equal(addr % BLOCK, 0);
		} else {
			uint8_t *of = &packed[first / 512u];

			assert_int_equal(first / 512u, (first + n - 1u) / 512u);
			assert_true(*of == 0 || *of == kind + 1u);
			*of = (uint8_t)(kind + 1u);
		}
		for (uint64_t p = first; p < first + length / PAGE; p++) {
			assert_int_equal(owner[p], 0);
			assert_true(length <= BLOCK / 2u || packed[p / 512u] == 0);
			owner[p] = (uint16_t)(i + 1u);
		}
		assert_true(svm_tree_validate(&va.free));
	}
	/* It was full now and then, and not always. */
	assert_true(n_refused > 0 && n_refused < 15000);
	for (unsigned int i = 0; i < MAX_LIVE; i++)
		if (live[i].size)
			svm_va_free(&va, live[i].addr, live[i].size);
	assert_int_equal(va.free_bytes, SIZE - va.packed.n_nodes * BLOCK);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(small_ones_share_a_block),
		TEST(kinds_do_not_mix),
		TEST(more_than_half_a_block_is_aligned_to_blocks),
		TEST(a_packed_block_is_full_and_comes_back),
		TEST(the_window_can_be_filled),
		TEST(neighbours_grow_together),
		TEST(what_cannot_be_armed_is_free_again),
		TEST(what_cannot_be_disarmed_is_not_given_out_again),
		TEST(without_memory_for_the_record),
		TEST(nothing_is_given_out_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
