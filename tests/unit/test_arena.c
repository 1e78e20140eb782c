/* SPDX-License-Identifier: MIT */
/*
 * Shown here: pool objects are zeroed, aligned, distinct and reused; memory is accounted, untouched
 * mappings cost nothing, and a kernel without memory gives NULL.
 */
#include "arena.h"
#include "fixture.h"
#include "sys.h"
#include "util.h"
#include <errno.h>
#include <libsvm/types.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#endif

static struct svm_arena arena;
static struct svm_pool pool;

static uint64_t accounted(void)
{
	return atomic_load(&arena.bytes);
}

static void objects_are_zeroed_aligned_and_distinct(void **state)
{
	static const size_t sizes[] = { 1, 16, 17, 100, 4096, 100000 };
	unsigned char *objects[50];

	(void)state;
	for (unsigned int s = 0; s < SVM_ARRAY_SIZE(sizes); s++) {
		svm_pool_init(&pool, &arena, sizes[s]);
		for (unsigned int round = 0; round < 2; round++) {
			for (unsigned int i = 0; i < SVM_ARRAY_SIZE(objects); i++) {
				objects[i] = svm_pool_get(&pool);
				assert_non_null(objects[i]);
				assert_int_equal(svm_addr(objects[i]) % 16u, 0);
				for (size_t b = 0; b < sizes[s]; b++)
					assert_int_equal(objects[i][b], 0);
				memset(objects[i], (int)i + 1, sizes[s]);
			}
			for (unsigned int i = 0; i < SVM_ARRAY_SIZE(objects); i++) {
				for (size_t b = 0; b < sizes[s]; b++)
					assert_int_equal(objects[i][b], i + 1);
				svm_pool_put(&pool, objects[i]);
			}
		}
		svm_pool_finish(&pool);
		assert_int_equal(accounted(), 0);
	}
}

static void put_accepts_null(void **state)
{
	(void)state;
	svm_pool_init(&pool, &arena, 32);
	svm_pool_put(&pool, NULL);
	assert_int_equal(pool.n_used, 0);
	svm_pool_finish(&pool);
}

static void reuse_takes_no_more_memory(void **state)
{
	uint64_t after_first;

	(void)state;
	svm_pool_init(&pool, &arena, 64);
	svm_pool_put(&pool, svm_pool_get(&pool));
	after_first = accounted();
	assert_true(after_first > 0);
	for (int i = 0; i < 100000; i++) {
		void *object = svm_pool_get(&pool);

		assert_non_null(object);
		svm_pool_put(&pool, object);
	}
	assert_int_equal(accounted(), after_first);
	svm_pool_finish(&pool);
	assert_int_equal(accounted(), 0);
}

static unsigned int n_maps_made;

static int counted_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
			void **ret_addr)
{
	n_maps_made++;
	return svm_sys_real.mmap(addr, size, prot, flags, fd, offset, ret_addr);
}

/* A space has a dozen pools, most with a handful of objects. */
static void a_pool_takes_as_much_as_it_holds(void **state)
{
	static const size_t sizes[] = { 48, 1072, 5392 };
	struct svm_sys counting = svm_sys_real;

	(void)state;
	counting.mmap = counted_mmap;
	svm_sys = &counting;
	for (unsigned int s = 0; s < SVM_ARRAY_SIZE(sizes); s++) {
		static void *objects[2000];

		n_maps_made = 0;
		svm_pool_init(&pool, &arena, sizes[s]);
		for (unsigned int i = 0; i < SVM_ARRAY_SIZE(objects); i++) {
			uint64_t used = (i + 1u) * sizes[s];

			objects[i] = svm_pool_get(&pool);
			assert_non_null(objects[i]);
			/* What a few objects need where there are few, and a slab more where there are many. */
			assert_in_range(accounted(), used,
					svm_max_u64(8u * sizes[s],
						    svm_min_u64(3u * used,
								used + used / 8u + (64u << 10))) +
						2u * SVM_PAGE_SIZE);
		}
		assert_in_range(n_maps_made, 1,
				8u + SVM_ARRAY_SIZE(objects) * sizes[s] / (40u << 10));
		for (unsigned int i = 0; i < SVM_ARRAY_SIZE(objects); i++)
			svm_pool_put(&pool, objects[i]);
		svm_pool_finish(&pool);
		assert_int_equal(accounted(), 0);
	}
	svm_sys = &svm_sys_real;
}

/* A mapping that is asked for is zero, and takes memory only where it is touched. */
static void maps_are_lazy(void **state)
{
	const size_t size = (size_t)1 << 36;
	unsigned char present[1];
	unsigned char *map;

	(void)state;
	if (fixture_valgrind()) {
		print_message("valgrind has no 64 GiB of addresses to give\n");
		skip();
	}
	map = svm_arena_map(size);
	assert_non_null(map);
	map[0] = 1;
	assert_int_equal(map[size - 1], 0);
	/* Far from both, for a huge page may have come. */
	assert_int_equal(mincore(map + size / 2, SVM_PAGE_SIZE, present), 0);
	assert_int_equal(present[0] & 1, 0);
	svm_arena_unmap(map, size);
	svm_arena_unmap(NULL, size);

	/* A size that is not whole pages goes back whole. */
	map = svm_arena_map(SVM_PAGE_SIZE + 1);
	assert_non_null(map);
	map[SVM_PAGE_SIZE] = 1;
	svm_arena_unmap(map, SVM_PAGE_SIZE + 1);
	assert_int_equal(mincore(map, SVM_PAGE_SIZE, present), -1);
	assert_int_equal(errno, ENOMEM);
	assert_int_equal(mincore(map + SVM_PAGE_SIZE, SVM_PAGE_SIZE, present), -1);
	assert_int_equal(errno, ENOMEM);
}

static void accounting_goes_both_ways(void **state)
{
	(void)state;
	svm_arena_account(&arena, 1000);
	svm_arena_account(&arena, -400);
	assert_int_equal(accounted(), 600);
	svm_arena_account(&arena, -600);
	assert_int_equal(accounted(), 0);
}

static unsigned int n_maps_left;

static int scarce_mmap(void *addr, size_t size, int prot, int flags, int fd, uint64_t offset,
		       void **ret_addr)
{
	if (n_maps_left == 0)
		return -ENOMEM;
	n_maps_left--;
	return svm_sys_real.mmap(addr, size, prot, flags, fd, offset, ret_addr);
}

static void out_of_memory_gives_null(void **state)
{
	struct svm_sys scarce = svm_sys_real;
	void *objects[64] = { NULL };
	unsigned int n = 0;

	(void)state;
	scarce.mmap = scarce_mmap;
	svm_sys = &scarce;
	n_maps_left = 0;
	assert_null(svm_arena_map(4096));

	svm_pool_init(&pool, &arena, 4096);
	assert_null(svm_pool_get(&pool));
	assert_int_equal(accounted(), 0);
	n_maps_left = 1;
	while (n < SVM_ARRAY_SIZE(objects) && (objects[n] = svm_pool_get(&pool)) != NULL)
		n++;
	/* The one slab is used up, nothing is lost, and what is put back can be had again. */
	assert_in_range(n, 8, SVM_ARRAY_SIZE(objects) - 1);
	assert_int_equal(pool.n_used, n);
	svm_pool_put(&pool, objects[n - 1]);
	assert_ptr_equal(svm_pool_get(&pool), objects[n - 1]);
	while (n)
		svm_pool_put(&pool, objects[--n]);
	svm_pool_finish(&pool);
	svm_sys = &svm_sys_real;
}

/* Returns arg when an object is missing or not zeroed. */
static void *get_and_put(void *arg)
{
	void *objects[32];

	for (int round = 0; round < 500; round++) {
		for (unsigned int i = 0; i < SVM_ARRAY_SIZE(objects); i++) {
			objects[i] = svm_pool_get(&pool);
			if (!objects[i])
				return arg;
			if (((char *)objects[i])[10] != 0)
				return arg;
			((char *)objects[i])[10] = 1;
		}
		for (unsigned int i = 0; i < SVM_ARRAY_SIZE(objects); i++)
			svm_pool_put(&pool, objects[i]);
	}
	return NULL;
}

static void threads_share_a_pool(void **state)
{
	pthread_t threads[4];

	(void)state;
	svm_pool_init(&pool, &arena, 48);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, get_and_put, &pool), 0);
	for (unsigned int i = 0; i < 4; i++) {
		void *failed;

		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	assert_int_equal(pool.n_used, 0);
	svm_pool_finish(&pool);
}

static void freed_objects_are_poisoned(void **state)
{
	(void)state;
#ifdef WITH_ASAN
	char *a;
	char *b;

	svm_pool_init(&pool, &arena, 64);
	a = svm_pool_get(&pool);
	b = svm_pool_get(&pool);
	assert_null(__asan_region_is_poisoned(a, 64));
	svm_pool_put(&pool, a);
	for (unsigned int i = 0; i < 64; i++)
		assert_true(__asan_address_is_poisoned(a + i));
	assert_null(__asan_region_is_poisoned(b, 64));
	assert_ptr_equal(svm_pool_get(&pool), a);
	assert_null(__asan_region_is_poisoned(a, 64));
	svm_pool_put(&pool, a);
	svm_pool_put(&pool, b);
	svm_pool_finish(&pool);
	/* The addresses may be mapped again by others. */
	assert_null(__asan_region_is_poisoned(a, 64));
#else
	print_message("not built with AddressSanitizer\n");
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_are_zeroed_aligned_and_distinct),
		cmocka_unit_test(put_accepts_null),
		cmocka_unit_test(reuse_takes_no_more_memory),
		cmocka_unit_test(a_pool_takes_as_much_as_it_holds),
		cmocka_unit_test(maps_are_lazy),
		cmocka_unit_test(accounting_goes_both_ways),
		cmocka_unit_test(out_of_memory_gives_null),
		cmocka_unit_test(threads_share_a_pool),
		cmocka_unit_test(freed_objects_are_poisoned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
