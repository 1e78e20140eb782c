/* SPDX-License-Identifier: MIT */
/* Device names of the hmm-mirror backend: "[N][:memory=SIZE][:uffd=on|off]", strict, each key at most once. */
#include "hmm_mirror_internal.h"
#include <errno.h>
#include <string.h>

#define MAX_MEMORY (UINT64_C(1) << 40)

static bool is_word(const char *s, size_t length, const char *word)
{
	return strlen(word) == length && memcmp(s, word, length) == 0;
}

/* Digits, and K, M or G behind them. */
static int parse_size(const char *s, size_t length, uint64_t *ret_value)
{
	uint64_t value = 0;
	unsigned int shift = 0;
	size_t i = 0;

	for (; i < length && s[i] >= '0' && s[i] <= '9'; i++) {
		if (value > MAX_MEMORY)
			return -EINVAL;
		value = value * 10u + (uint64_t)(s[i] - '0');
	}
	if (i == 0)
		return -EINVAL;
	if (i + 1 == length) {
		shift = s[i] == 'K' ? 10 : s[i] == 'M' ? 20 : s[i] == 'G' ? 30 : 0;
		i += shift ? 1 : 0;
	}
	if (i != length || value > MAX_MEMORY >> shift)
		return -EINVAL;
	*ret_value = value << shift;
	return 0;
}

static int parse_item(const char *s, size_t length, bool first, struct svm_hmm_options *options,
		      uint32_t *seen)
{
	uint32_t key;

	if (first && length == 1 && s[0] >= '0' && s[0] < (char)('0' + SVM_HMM_NODES)) {
		options->minor = (uint32_t)(s[0] - '0');
		return 0;
	}
	if (length > 7 && memcmp(s, "memory=", 7) == 0) {
		key = 1u;
		if (parse_size(s + 7, length - 7, &options->memory) < 0 || options->memory == 0 ||
		    options->memory % SVM_BLOCK_SIZE)
			return -EINVAL;
	} else if (is_word(s, length, "uffd=on") || is_word(s, length, "uffd=off")) {
		key = 2u;
		options->uffd = is_word(s, length, "uffd=on");
	} else {
		return -EINVAL;
	}
	if (*seen & key)
		return -EINVAL;
	*seen |= key;
	return 0;
}

int svm_hmm_options_parse(const char *string, struct svm_hmm_options *ret_options,
			  const char **ret_where)
{
	struct svm_hmm_options options = { .uffd = true };
	const char *item = string;
	uint32_t seen = 0;

	while (*string) {
		size_t length = strcspn(item, ":");

		if (parse_item(item, length, item == string, &options, &seen) < 0) {
			*ret_where = item;
			return -EINVAL;
		}
		item += length;
		if (!*item)
			break;
		item++;
	}
	*ret_options = options;
	return 0;
}
