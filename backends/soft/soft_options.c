// SPDX-License-Identifier: MIT
/* Device names of the soft backend: "KEY=VALUE[:KEY=VALUE...]", strict, each key at most once. */
#include "soft_internal.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>

enum option_kind {
	OPTION_SIZE,   /* digits with an optional K, M or G */
	OPTION_NUMBER, /* digits */
	OPTION_CHOICE, /* one of two words */
};

struct option {
	const char *key;
	enum option_kind kind;
	size_t offset; /* of its field: uint64_t for sizes, uint32_t or uint64_t for numbers, bool */
	size_t size;
	uint64_t min;
	uint64_t max;
	uint64_t multiple;
	const char *words[2]; /* for false and true */
	const char *why;      /* what is said about a wrong value */
};

#define FIELD(name) \
	offsetof(struct svm_soft_options, name), sizeof(((struct svm_soft_options *)0)->name)
#define SWITCH(k, field, no, yes)                                                           \
	{                                                                                   \
		k, OPTION_CHOICE, FIELD(field), 0, 1, 1, { no, yes }, "want " yes " or " no \
	}

static const struct option options_table[] = {
	{ "memory",
	  OPTION_SIZE,
	  FIELD(memory),
	  SVM_BLOCK_SIZE,
	  SVM_SOFT_MAX_MEMORY,
	  SVM_BLOCK_SIZE,
	  { NULL },
	  "want a multiple of 2M up to 1024G" },
	SWITCH("faults", faults, "off", "on"),
	SWITCH("host", host, "none", "alias"),
	SWITCH("readonly", read_only, "off", "on"),
	SWITCH("peer", peer, "off", "on"),
	SWITCH("visible", visible, "off", "on"),
	{ "engines",
	  OPTION_NUMBER,
	  FIELD(n_engines),
	  1,
	  SVM_SOFT_MAX_ENGINES,
	  1,
	  { NULL },
	  "want 1 to 16" },
	{ "bandwidth",
	  OPTION_SIZE,
	  FIELD(bandwidth),
	  0,
	  UINT64_C(1) << 50,
	  1,
	  { NULL },
	  "want bytes per second" },
	{ "latency",
	  OPTION_NUMBER,
	  FIELD(latency_ns),
	  0,
	  SVM_SOFT_MAX_LATENCY,
	  1,
	  { NULL },
	  "want nanoseconds up to 10000000000" },
	SWITCH("keep", keep, "off", "on"),
};

#define N_OPTIONS (sizeof(options_table) / sizeof(options_table[0]))

/* The largest value is far below where another digit or suffix could wrap 64 bits. */
static int parse_number(const char *s, size_t length, bool suffix, uint64_t *ret_value)
{
	uint64_t value = 0;
	size_t i = 0;

	for (; i < length && s[i] >= '0' && s[i] <= '9'; i++) {
		if (value > (UINT64_C(1) << 56))
			return -EINVAL;
		value = value * 10u + (uint64_t)(s[i] - '0');
	}
	if (i == 0)
		return -EINVAL;
	if (suffix && i + 1 == length) {
		unsigned int shift = s[i] == 'K' ? 10 : s[i] == 'M' ? 20 : s[i] == 'G' ? 30 : 0;

		if (shift == 0 || value > UINT64_MAX >> shift)
			return -EINVAL;
		value <<= shift;
		i++;
	}
	if (i != length)
		return -EINVAL;
	*ret_value = value;
	return 0;
}

static bool is_word(const char *s, size_t length, const char *word)
{
	return strlen(word) == length && memcmp(s, word, length) == 0;
}

static int parse_value(const struct option *o, const char *s, size_t length, uint64_t *ret_value)
{
	uint64_t value;

	if (o->kind == OPTION_CHOICE) {
		if (is_word(s, length, o->words[0]))
			*ret_value = 0;
		else if (is_word(s, length, o->words[1]))
			*ret_value = 1;
		else
			return -EINVAL;
		return 0;
	}
	if (parse_number(s, length, o->kind == OPTION_SIZE, &value))
		return -EINVAL;
	if (value < o->min || value > o->max || value % o->multiple)
		return -EINVAL;
	*ret_value = value;
	return 0;
}

static void store(struct svm_soft_options *options, const struct option *o, uint64_t value)
{
	void *field = (char *)options + o->offset;

	if (o->kind == OPTION_CHOICE)
		*(bool *)field = value != 0;
	else if (o->size == sizeof(uint32_t))
		*(uint32_t *)field = (uint32_t)value;
	else
		*(uint64_t *)field = value;
}

static const struct option *find(const char *key, size_t length)
{
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (is_word(key, length, options_table[i].key))
			return &options_table[i];
	}
	return NULL;
}

/* One KEY=VALUE of length bytes; seen has a bit per key met so far. */
static int parse_item(const char *item, size_t length, struct svm_soft_options *options,
		      uint32_t *seen, const char **ret_why)
{
	const char *equal = memchr(item, '=', length);
	size_t key_length = equal ? (size_t)(equal - item) : length;
	const struct option *o = find(item, key_length);
	uint64_t value;
	uint32_t bit;

	if (!o || !equal) {
		*ret_why = o ? "want KEY=VALUE" : "no such key";
		return -EINVAL;
	}
	bit = UINT32_C(1) << (o - options_table);
	if (*seen & bit) {
		*ret_why = "given twice";
		return -EINVAL;
	}
	*seen |= bit;
	if (parse_value(o, equal + 1, length - key_length - 1, &value)) {
		*ret_why = o->why;
		return -EINVAL;
	}
	store(options, o, value);
	return 0;
}

int svm_soft_options_parse(const char *string, struct svm_soft_options *ret_options,
			   const char **ret_why, const char **ret_where)
{
	struct svm_soft_options options = {
		.memory = SVM_SOFT_DEFAULT_MEMORY,
		.n_engines = 1,
		.faults = true,
		.host = true,
		.read_only = true,
		.peer = true,
		.visible = true,
	};
	uint32_t seen = 0;
	const char *item = string;

	while (*string) {
		size_t length = strcspn(item, ":");
		int ret = parse_item(item, length, &options, &seen, ret_why);

		if (ret < 0) {
			*ret_where = item;
			return ret;
		}
		item += length;
		if (!*item)
			break;
		item++;
	}
	*ret_options = options;
	return 0;
}

uint32_t svm_soft_options_caps(const struct svm_soft_options *options)
{
	/* Its memory is shared memory of the machine: the CPU's own atomics work on all of it. */
	uint32_t caps = SVM_CAP_COPY_ENGINE | SVM_CAP_WORK | SVM_CAP_LAUNCH | SVM_CAP_ATOMICS;

	caps |= options->faults ? SVM_CAP_FAULTS : 0;
	caps |= options->read_only ? SVM_CAP_READ_ONLY : 0;
	caps |= options->host ? SVM_CAP_HOST_ALIAS | SVM_CAP_SYSTEM_ATOMICS : 0;
	caps |= options->visible ? SVM_CAP_CPU_VISIBLE : 0;
	caps |= options->peer ? SVM_CAP_PEER_COPY : 0;
	return caps;
}
