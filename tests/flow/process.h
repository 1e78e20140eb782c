/* SPDX-License-Identifier: MIT */
/*
 * For flow tests about processes: pidfds, the processes of soft devices, touches that may end in a signal.
 *
 * A child of fork() must not come back into CMocka: it checks by child_check() and ends by _exit().
 */
#ifndef FLOW_PROCESS_H
#define FLOW_PROCESS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* No step of a test takes longer, sanitizers included: what does, hangs. */
#define PROCESS_LIMIT_MS 60000

#define child_check(condition)                                                                   \
	do {                                                                                     \
		if (!(condition)) {                                                              \
			fprintf(stderr, "# child: %s:%d: %s\n", __FILE__, __LINE__, #condition); \
			_exit(1);                                                                \
		}                                                                                \
	} while (0)

static inline int process_open(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* Wait until the process has ended; false: it has not in time. */
static inline bool process_ended(int pid_fd)
{
	struct pollfd fd = { .fd = pid_fd, .events = POLLIN };
	int n;

	do
		n = poll(&fd, 1, PROCESS_LIMIT_MS);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

static inline int process_kill(int pid_fd)
{
	return (int)syscall(SYS_pidfd_send_signal, pid_fd, SIGKILL, NULL, 0);
}

/* Children of process parent that are soft devices: by their name and /proc/PID/stat (proc_pid_stat(5)). */
static inline size_t process_devices(pid_t parent, pid_t *pids, size_t room)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	size_t n = 0;

	if (!dir)
		return 0;
	while ((entry = readdir(dir)) != NULL) {
		char path[64];
		char text[256];
		char *rest;
		FILE *file;
		long pid = strtol(entry->d_name, &rest, 10);
		long ppid;

		if (pid <= 0 || *rest)
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (!fgets(text, sizeof(text), file))
			text[0] = '\0';
		fclose(file);
		rest = strstr(text, "(svm-soft) ");
		if (!rest)
			continue;
		/* "PID (NAME) STATE PPID": a zombie has ended. */
		rest += strlen("(svm-soft) ");
		ppid = strtol(rest + 1, NULL, 10);
		if (*rest == 'Z' || ppid != (long)parent)
			continue;
		if (n < room)
			pids[n] = (pid_t)pid;
		n++;
	}
	closedir(dir);
	return n;
}

/* The device process that is not among the n known ones: 0 if there is not exactly one. */
static inline pid_t process_new_device(const pid_t *known, size_t n_known)
{
	pid_t now[32];
	size_t n = process_devices(getpid(), now, 32);
	pid_t found = 0;

	for (size_t i = 0; i < n && i < 32; i++) {
		bool is_known = false;

		for (size_t k = 0; k < n_known; k++)
			is_known |= known[k] == now[i];
		if (is_known)
			continue;
		if (found)
			return 0;
		found = now[i];
	}
	return found;
}

static inline unsigned int count_entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned int n = 0;

	if (!dir)
		return 0;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* ---- Touches that may end in a signal --------------------------------------------------------- */

static _Thread_local sigjmp_buf touch_env;
static _Thread_local volatile sig_atomic_t touch_armed;

static inline void touch_signal(int signal)
{
	if (!touch_armed)
		_exit(100 + signal);
	siglongjmp(touch_env, signal);
}

static struct sigaction touch_old[2];

/* From here on touches may be tried, until touch_remove(): the test runner has handlers of its own. */
static inline void touch_install(void)
{
	struct sigaction action = { .sa_handler = touch_signal, .sa_flags = SA_NODEFER };

	sigemptyset(&action.sa_mask);
	(void)sigaction(SIGBUS, &action, &touch_old[0]);
	(void)sigaction(SIGSEGV, &action, &touch_old[1]);
}

static inline void touch_remove(void)
{
	(void)sigaction(SIGBUS, &touch_old[0], NULL);
	(void)sigaction(SIGSEGV, &touch_old[1], NULL);
}

/* Read the byte at addr into *ret_value. Returns 0, or the signal that the touch raised. */
static inline int touch_read(const void *addr, uint8_t *ret_value)
{
	int signal = sigsetjmp(touch_env, 1);

	if (signal == 0) {
		touch_armed = 1;
		*ret_value = *(const volatile uint8_t *)addr;
	}
	touch_armed = 0;
	return signal;
}

static inline int touch_write(void *addr, uint8_t value)
{
	int signal = sigsetjmp(touch_env, 1);

	if (signal == 0) {
		touch_armed = 1;
		*(volatile uint8_t *)addr = value;
	}
	touch_armed = 0;
	return signal;
}

#endif
