// SPDX-License-Identifier: MIT
/* Device names of the xe backend: "[renderD128 or index][:KEY=VALUE...]", strict, each key at most once. */
#include "xe_internal.h"
#include <errno.h>
#include <string.h>

#define MAX_MEMORY (UINT64_C(1) << 40)
#define N_KEYS	   5u

static bool is_word(const char *s, size_t length, const char *word)
{
	return strlen(word) == length && memcmp(s, word, length) == 0;
}

/* Digits, and K, M or G behind them where suffix says so. */
static int parse_number(const char *s, size_t length, bool suffix, uint64_t *ret_value)
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
	if (suffix && i + 1 == length) {
		shift = s[i] == 'K' ? 10 : s[i] == 'M' ? 20 : s[i] == 'G' ? 30 : 0;
		i += shift ? 1 : 0;
	}
	if (i != length || value > MAX_MEMORY >> shift)
		return -EINVAL;
	*ret_value = value << shift;
	return 0;
}

static int parse_which(const char *s, size_t length, struct svm_xe_options *options)
{
	static const char prefix[] = "renderD";
	bool is_node = length > sizeof(prefix) - 1 && memcmp(s, prefix, sizeof(prefix) - 1) == 0;
	size_t skip = is_node ? sizeof(prefix) - 1 : 0;
	uint64_t value;

	if (parse_number(s + skip, length - skip, false, &value) < 0)
		return -EINVAL;
	if (!is_node) {
		if (value > SVM_DRM_RENDER_LAST)
			return -EINVAL;
		options->index = (uint32_t)value;
		return 0;
	}
	if (value < SVM_DRM_RENDER_FIRST || value > SVM_DRM_RENDER_LAST)
		return -EINVAL;
	options->minor = (int32_t)value;
	return 0;
}

static int parse_choice(const char *s, size_t length, const char *no, const char *yes,
			bool *ret_value)
{
	if (!is_word(s, length, no) && !is_word(s, length, yes))
		return -EINVAL;
	*ret_value = is_word(s, length, yes);
	return 0;
}

static int parse_mode(const char *s, size_t length, struct svm_xe_options *options)
{
	static const char *const modes[] = {
		[SVM_XE_MODE_JOBS] = "jobs", [SVM_XE_MODE_LONG] = "long", [SVM_XE_MODE_FAULTS] = "faults"
	};

	for (unsigned int i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (is_word(s, length, modes[i])) {
			options->mode = (enum svm_xe_mode)i;
			options->has_mode = true;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_key(const char *s, size_t length, struct svm_xe_options *options, uint32_t *seen)
{
	static const char *const keys[] = { "memory", "copy", "host", "placement", "vm" };
	const char *equal = memchr(s, '=', length);
	size_t key_length = equal ? (size_t)(equal - s) : 0;
	const char *value = equal ? equal + 1 : s;
	size_t value_length = length - key_length - 1;
	uint32_t key = 0;

	if (!equal)
		return -EINVAL;
	while (key < N_KEYS && !is_word(s, key_length, keys[key]))
		key++;
	if (key == N_KEYS || *seen & 1u << key)
		return -EINVAL;
	*seen |= 1u << key;
	if (key == 1)
		return parse_choice(value, value_length, "cpu", "engine", &options->engine);
	if (key == 2)
		return parse_choice(value, value_length, "none", "alias", &options->host);
	if (key == 3)
		return parse_choice(value, value_length, "vram", "system", &options->system);
	if (key == 4)
		return parse_mode(value, value_length, options);
	if (parse_number(value, value_length, true, &options->memory) < 0)
		return -EINVAL;
	return options->memory == 0 || options->memory % SVM_BLOCK_SIZE ? -EINVAL : 0;
}

int svm_xe_options_parse(const char *string, struct svm_xe_options *ret_options,
			 const char **ret_where)
{
	struct svm_xe_options options = { .minor = -1, .engine = true, .host = true };
	const char *item = string;
	uint32_t seen = 0;
	int ret = 0;

	while (*string) {
		size_t length = strcspn(item, ":");

		if (item == string && !memchr(item, '=', length)) {
			ret = parse_which(item, length, &options);
			options.which = true;
		} else {
			ret = parse_key(item, length, &options, &seen);
		}
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
