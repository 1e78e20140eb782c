/* SPDX-License-Identifier: MIT */
#include "log.h"
#include <stdarg.h>
#include <stdio.h>

#define LINE_SIZE 256

/*
 * vsnprintf() writes to no stream. In glibc it allocates only for floating point, wide characters
 * and very large widths or precisions; our formats are integers, characters and strings, so the
 * service path may log.
 */
void svm_log_line(const struct svm_log *log, int level, const char *format, ...)
{
	char line[LINE_SIZE];
	va_list args;
	int n;

	if (!log->fn || level < 0 || (uint32_t)level > log->level)
		return;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (n < 0)
		return;

	log->fn(log->data, level, line);
}
