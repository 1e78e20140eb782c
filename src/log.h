/* SPDX-License-Identifier: MIT */
/* Lines for the application's log callback: formatted in a stack buffer, no malloc, no stdio streams. */
#ifndef SVM_LOG_H
#define SVM_LOG_H

#include <libsvm/space.h>
#include <stdint.h>

struct svm_log {
	void (*fn)(void *data, int level, const char *line);
	void *data;
	uint32_t level;
};

/* Any thread, any lock held below LEAF; lines longer than 255 bytes are cut. Nothing when fn is NULL. */
void svm_log_line(const struct svm_log *log, int level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define svm_error(log, ...) svm_log_line((log), SVM_LOG_ERROR, __VA_ARGS__)
#define svm_warn(log, ...)  svm_log_line((log), SVM_LOG_WARN, __VA_ARGS__)
#define svm_info(log, ...)  svm_log_line((log), SVM_LOG_INFO, __VA_ARGS__)
#define svm_debug(log, ...) svm_log_line((log), SVM_LOG_DEBUG, __VA_ARGS__)

#endif
