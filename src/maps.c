/* SPDX-License-Identifier: MIT */
#include "maps.h"

#include "sys.h"
#include <errno.h>
#include <fcntl.h>

/* "start-end perms offset dev inode name": as much of a line as is looked at. */
struct text {
	char line[128];
	size_t size;
};

static const char *parse_hex(const char *c, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (;; c++) {
		if (*c >= '0' && *c <= '9')
			value = value * 16 + (uint64_t)(*c - '0');
		else if (*c >= 'a' && *c <= 'f')
			value = value * 16 + (uint64_t)(*c - 'a' + 10);
		else
			break;
	}
	*ret_value = value;
	return c;
}

static const char *skip_field(const char *c)
{
	while (*c && *c != ' ')
		c++;
	while (*c == ' ')
		c++;
	return c;
}

static bool parse(const char *c, struct svm_maps_line *ret)
{
	c = parse_hex(c, &ret->start);
	if (*c++ != '-')
		return false;
	c = parse_hex(c, &ret->end);
	if (*c++ != ' ')
		return false;
	ret->perms = c;
	c = skip_field(skip_field(skip_field(c)));
	ret->inode = 0;
	for (; *c >= '0' && *c <= '9'; c++)
		ret->inode = ret->inode * 10 + (uint64_t)(*c - '0');
	ret->name = skip_field(c);
	return true;
}

int svm_maps_read(bool (*fn)(void *data, const struct svm_maps_line *line), void *data)
{
	struct text text = { .size = 0 };
	struct svm_maps_line line;
	bool more = true;
	char part[1024];
	ssize_t n = 0;
	int fd = svm_sys_open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return fd;
	while (more) {
		n = svm_sys->read(fd, part, sizeof(part));
		if (n == -EINTR)
			continue;
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n && more; i++) {
			if (part[i] != '\n') {
				if (text.size < sizeof(text.line) - 1)
					text.line[text.size++] = part[i];
				continue;
			}
			text.line[text.size] = '\0';
			text.size = 0;
			more = parse(text.line, &line) && fn(data, &line);
		}
	}
	svm_sys->close(fd);
	return n < 0 ? (int)n : 0;
}
