// SPDX-License-Identifier: MIT
#include "emu_log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "emu_core.h"

enum emu_level emu_log_level = EMU_REPORT;

static void vline(const char *prefix, const char *fmt, va_list ap)
{
	char line[512];
	int n, m;

	n = snprintf(line, sizeof(line), "%s", prefix);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	if (m < 0)
		return;
	n += m;
	if (n > (int)sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n++] = '\n';
	/* A closed stderr is the program's choice; there is nobody to tell. */
	if (syscall(SYS_write, STDERR_FILENO, line, n) < 0)
		return;
}

void emu_log(enum emu_level level, const char *fmt, ...)
{
	va_list ap;
	int saved = errno;

	if (level > emu_log_level)
		return;
	va_start(ap, fmt);
	vline("emu: ", fmt, ap);
	va_end(ap);
	errno = saved;
}

void emu_strict(const char *fmt, ...)
{
	va_list ap;
	int saved = errno;

	if (emu.strict == EMU_STRICT_OFF)
		return;
	atomic_fetch_add(&emu.n_strict, 1);
	va_start(ap, fmt);
	vline("emu: strict: ", fmt, ap);
	va_end(ap);
	if (emu.strict == EMU_STRICT_ABORT)
		abort();
	errno = saved;
}
