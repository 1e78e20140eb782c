// SPDX-License-Identifier: MIT
#include "emu_opt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct emu_opt emu_opts[] = {
	{ "strict", EMU_OPT_WORD, "report", "off|report|abort",
	  "what happens when the program does what the kernel lets pass but no correct program does" },
	{ "log", EMU_OPT_WORD, "report", "quiet|report|trace", "how much is written to stderr" },
	{ "check", EMU_OPT_BOOL, "off", NULL,
	  "the launcher fails (exit 3) after strict reports or objects left open" },
	{ "kernel", EMU_OPT_TEXT, "7.3", NULL,
	  "kernel version whose ioctls, flags and errnos are given" },
	{ "driver", EMU_OPT_TEXT, "", NULL, "what the node says its driver is called" },
	{ "mode", EMU_OPT_TEXT, "666", NULL,
	  "octal permissions of the render node, which is root's" },
	{ "uffd", EMU_OPT_WORD, "auto", "auto|event|efault",
	  "a driver's page walk that meets a userfaultfd-missing page; auto: by kernel" },
	{ "fail", EMU_OPT_TEXT, "", NULL,
	  "N:ERRNO[:NR] the N-th ioctl (of number NR, hexadecimal) fails once" },
	{ "eintr", EMU_OPT_NUMBER, "0", NULL, "every N-th ioctl fails with EINTR" },
	{ "eagain", EMU_OPT_NUMBER, "0", NULL, "every N-th ioctl fails with EAGAIN" },
	{ "enomem", EMU_OPT_NUMBER, "0", NULL, "every N-th ioctl fails with ENOMEM" },
	{ "wedge", EMU_OPT_NUMBER, "0", NULL, "the device is wedged from the N-th ioctl on" },
	{ "unplug", EMU_OPT_NUMBER, "0", NULL, "the device is unplugged from the N-th ioctl on" },
	{ "profile", EMU_OPT_TEXT, "bmg", NULL,
	  "xe: tgl, dg1, dg2, pvc, mtl, lnl, bmg, ptl, nvlp or cri" },
	{ "vram", EMU_OPT_SIZE, "1G", NULL, "device memory of a tile" },
	{ "bar", EMU_OPT_TEXT, "full", NULL, "device memory that the CPU sees: full or a size" },
	{ "sysmem", EMU_OPT_SIZE, "16G", NULL, "system memory that the device may use" },
	{ "tiles", EMU_OPT_NUMBER, "0", NULL, "xe: number of tiles; 0: the profile's" },
	{ "p2p", EMU_OPT_BOOL, "on", NULL, "devices reach each other's memory" },
	{ "svm", EMU_OPT_BOOL, "on", NULL, "the kernel is built with support for mirroring" },
	{ "nice", EMU_OPT_BOOL, "off", NULL, "the caller has CAP_SYS_NICE" },
	{ "reset", EMU_OPT_WORD, "queue", "queue|device",
	  "a GPU fault bans its queue, or resets the device and bans all" },
	{ "binds", EMU_OPT_WORD, "async", "async|prompt",
	  "a bind that waits for nothing is done later, by its queue, or before the ioctl returns" },
	{ "bind-delay", EMU_OPT_NUMBER, "0", NULL, "microseconds before a bind takes effect" },
	{ "exec-delay", EMU_OPT_NUMBER, "0", NULL, "microseconds before a batch starts" },
	{ "job-timeout", EMU_OPT_NUMBER, "5000", NULL, "milliseconds until a hung job is banned" },
	{ "hang", EMU_OPT_NUMBER, "0", NULL, "the N-th job of the device never ends" },
	{ "svm-retry", EMU_OPT_NUMBER, "2000", NULL,
	  "milliseconds after which an unresolvable mirror fault is reported and nacked" },
};
const size_t emu_n_opts = sizeof(emu_opts) / sizeof(emu_opts[0]);

static const struct {
	const char *name;
	int value;
} errnos[] = {
	{ "EPERM", EPERM },	    { "ENOENT", ENOENT },
	{ "EINTR", EINTR },	    { "EIO", EIO },
	{ "ENXIO", ENXIO },	    { "E2BIG", E2BIG },
	{ "EBADF", EBADF },	    { "EAGAIN", EAGAIN },
	{ "ENOMEM", ENOMEM },	    { "EACCES", EACCES },
	{ "EFAULT", EFAULT },	    { "EBUSY", EBUSY },
	{ "EEXIST", EEXIST },	    { "ENODEV", ENODEV },
	{ "EINVAL", EINVAL },	    { "EMFILE", EMFILE },
	{ "ENOSPC", ENOSPC },	    { "EDEADLK", EDEADLK },
	{ "ENOBUFS", ENOBUFS },	    { "ETIME", ETIME },
	{ "ECANCELED", ECANCELED }, { "EOPNOTSUPP", EOPNOTSUPP },
};

int emu_opt_errno(const char *name)
{
	for (size_t i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++)
		if (!strcmp(errnos[i].name, name))
			return errnos[i].value;
	return 0;
}

bool emu_opt_parse_size(const char *s, uint64_t *ret_size)
{
	char *end;
	unsigned long long v;

	if (*s < '0' || *s > '9')
		return false;
	v = strtoull(s, &end, 0);
	switch (*end) {
	case 'k':
	case 'K':
		v <<= 10;
		end++;
		break;
	case 'm':
	case 'M':
		v <<= 20;
		end++;
		break;
	case 'g':
	case 'G':
		v <<= 30;
		end++;
		break;
	default:
		break;
	}
	if (*end)
		return false;
	*ret_size = v;
	return true;
}

/* One "name[@dev]=value" of the text. */
struct item {
	char name[32];
	char value[64];
	int device;
};

/* Reads the item at *pos; false at the end. A malformed item has an empty name. */
static bool next_item(const char **pos, struct item *it)
{
	const char *p = *pos, *end, *eq, *at;
	size_t n;

	while (*p == ',')
		p++;
	if (!*p)
		return false;
	end = p + strcspn(p, ",");
	*pos = end;
	memset(it, 0, sizeof(*it));
	it->device = -1;
	eq = memchr(p, '=', (size_t)(end - p));
	if (!eq)
		return true;
	at = memchr(p, '@', (size_t)(eq - p));
	n = (size_t)((at ? at : eq) - p);
	if (n >= sizeof(it->name) || (size_t)(end - eq - 1) >= sizeof(it->value))
		return true;
	memcpy(it->name, p, n);
	memcpy(it->value, eq + 1, (size_t)(end - eq - 1));
	if (at)
		it->device = atoi(at + 1);
	return true;
}

static const struct emu_opt *find(const char *name)
{
	for (size_t i = 0; i < emu_n_opts; i++)
		if (!strcmp(emu_opts[i].name, name))
			return &emu_opts[i];
	return NULL;
}

static bool word_allowed(const char *words, const char *value)
{
	size_t n = strlen(value);

	for (const char *p = words; p; p = strchr(p, '|'), p = p ? p + 1 : NULL)
		if (n && !strncmp(p, value, n) && (p[n] == '|' || !p[n]))
			return true;
	return false;
}

static bool value_fits(const struct emu_opt *o, const char *value)
{
	uint64_t size;

	switch (o->kind) {
	case EMU_OPT_WORD:
		return word_allowed(o->words, value);
	case EMU_OPT_BOOL:
		return word_allowed("on|off", value);
	case EMU_OPT_SIZE:
	case EMU_OPT_NUMBER:
		return emu_opt_parse_size(value, &size);
	case EMU_OPT_TEXT:
		return true;
	}
	return false;
}

bool emu_opt_check(const char *text, int n_devices, char *why, size_t why_size)
{
	const char *pos = text;
	struct item it;

	while (next_item(&pos, &it)) {
		const struct emu_opt *o = find(it.name);

		if (!it.name[0]) {
			snprintf(why, why_size, "option without '=' or too long near '%.20s'",
				 pos > text ? text : pos);
			return false;
		}
		if (!o) {
			snprintf(why, why_size, "unknown option '%s'", it.name);
			return false;
		}
		if (!value_fits(o, it.value)) {
			snprintf(why, why_size, "option %s: bad value '%s'", it.name, it.value);
			return false;
		}
		if (it.device >= n_devices) {
			snprintf(why, why_size, "option %s: no device %d", it.name, it.device);
			return false;
		}
	}
	return true;
}

void emu_opt_value(const char *text, int device, const char *name, char *buf, size_t size)
{
	const struct emu_opt *o = find(name);
	const char *pos = text;
	struct item it;

	if (!o)
		__builtin_trap();
	snprintf(buf, size, "%s", o->def);
	while (text && next_item(&pos, &it))
		if (!strcmp(it.name, name) && (it.device == -1 || it.device == device))
			snprintf(buf, size, "%s", it.value);
}

uint64_t emu_opt_u64(const char *text, int device, const char *name)
{
	char buf[64];
	uint64_t v = 0;

	emu_opt_value(text, device, name, buf, sizeof(buf));
	if (!emu_opt_parse_size(buf, &v))
		return 0;
	return v;
}

bool emu_opt_bool(const char *text, int device, const char *name)
{
	char buf[64];

	emu_opt_value(text, device, name, buf, sizeof(buf));
	return !strcmp(buf, "on");
}
