// SPDX-License-Identifier: MIT
/*
 * Pointers inside shared memory: the CPU builds a linked list, two devices walk and change it in turn,
 * each following the very pointers that the CPU stored.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <libsvm/libsvm.h>

#define N_ITEMS 10000u

struct item {
	struct item *next;
	uint64_t value;
};

struct step {
	struct item *first;
	uint64_t factor;
	uint64_t addend;
};

/* Runs on a device, once: a list has one beginning. */
static void change_all(const void *args, uint64_t index, uint64_t count)
{
	const struct step *step = args;

	(void)index;
	(void)count;
	for (struct item *item = step->first; item; item = item->next)
		item->value = item->value * step->factor + step->addend;
}

/* Values 0, 1, 2, ... along the list, which jumps around in memory. Returns the first item. */
static struct item *build_list(struct item *items)
{
	struct item *next = NULL;

	for (uint64_t i = N_ITEMS; i-- > 0;) {
		struct item *item = &items[i * 7919 % N_ITEMS]; /* a prime: each item once */

		*item = (struct item){ .next = next, .value = i };
		next = item;
	}
	return next;
}

static uint64_t sum_of(const struct item *item)
{
	uint64_t sum = 0;

	for (; item; item = item->next)
		sum += item->value;
	return sum;
}

static int failed(const char *what, int err)
{
	fprintf(stderr, "two_devices: %s: %s\n", what, strerror(-err));
	return err;
}

static int use_list(struct svm_device **devices, struct item *items)
{
	struct step steps[] = { { .factor = 3, .addend = 0 }, { .factor = 1, .addend = 7 } };
	struct item *first = build_list(items);
	uint64_t expected = sum_of(first);

	printf("the CPU built a list, its sum is %llu\n", (unsigned long long)expected);
	for (int i = 0; i < 2; i++) {
		int ret;

		steps[i].first = first;
		ret = svm_soft_launch(devices[i], change_all, &steps[i], sizeof(steps[i]), 1, NULL,
				      NULL);
		if (ret)
			return failed("svm_soft_launch", ret);
		expected = expected * steps[i].factor + N_ITEMS * steps[i].addend;
		printf("device %d: each value times %llu plus %llu, the sum is %llu\n", i,
		       (unsigned long long)steps[i].factor, (unsigned long long)steps[i].addend,
		       (unsigned long long)sum_of(first));
		if (sum_of(first) != expected)
			return failed("the sum is wrong", -EIO);
	}
	return 0;
}

int main(void)
{
	struct svm_space *space;
	struct svm_device *devices[2];
	void *items;
	int err, ret = svm_space_create(NULL, &space);

	if (ret) {
		failed("svm_space_create", ret);
		return 1;
	}
	for (int i = 0; i < 2 && !ret; i++) {
		ret = svm_device_open(space, "soft:memory=16M", &devices[i]);
		if (ret)
			failed("svm_device_open", ret);
	}
	if (!ret && (ret = svm_alloc(space, N_ITEMS * sizeof(struct item), 0, &items)))
		failed("svm_alloc", ret);
	if (!ret)
		ret = use_list(devices, items);

	/* Closes the devices and frees the memory. */
	err = svm_space_destroy(space);
	if (err)
		failed("svm_space_destroy", err);
	return ret || err ? 1 : 0;
}
