// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session.h"
#include "util.h"

#define DEFAULT_DEVICES 2u
#define DEFAULT_SOFT	"soft:memory=256M"

/* Lines that the library has logged. */
static atomic_uint n_logged;

/* What the library has to say. It may come from the library's own threads, at any time: no stdio lock. */
static void log_line(void *log_data, int level, const char *line)
{
	(void)log_data;
	(void)level;
	atomic_fetch_add(&n_logged, 1);
	dprintf(STDERR_FILENO, "pagerank: libsvm: %s\n", line);
}

static int space_create(struct svm_space **ret_space)
{
	const struct svm_space_options options = {
		.size = sizeof(options),
		.log_level = SVM_LOG_WARN,
		.log = log_line,
	};
	int ret = svm_space_create(&options, ret_space);

	return ret ? complain(ret, "cannot create a shared address space") : 0;
}

static int space_destroy(struct svm_space *space)
{
	int ret = svm_space_destroy(space);

	return ret ? complain(ret, "cannot destroy the shared address space") : 0;
}

/* ---- Which devices --------------------------------------------------------------------------- */

static int list_add(struct device_list *list, const char *name, size_t length)
{
	if (length == 0)
		return complain(-EINVAL, "--devices: an empty name");
	if (length >= SVM_NAME_LENGTH)
		return complain(-ENAMETOOLONG, "--devices: '%.*s'", (int)length, name);
	if (list->n == SVM_MAX_DEVICES)
		return complain(-E2BIG, "--devices: more than %u names", SVM_MAX_DEVICES);
	memcpy(list->names[list->n], name, length);
	list->names[list->n][length] = '\0';
	list->n++;
	return 0;
}

static int list_parse(struct device_list *list, const char *names)
{
	for (;;) {
		size_t length = strcspn(names, ",");
		int ret = list_add(list, names, length);

		if (ret || names[length] == '\0')
			return ret;
		names += length + 1;
	}
}

/* Add the first real devices of the machine, up to DEFAULT_DEVICES. */
static int list_add_real(struct device_list *list, struct svm_space *space)
{
	struct svm_device_info infos[32];
	size_t n_infos = sizeof(infos) / sizeof(infos[0]);
	size_t room = n_infos;
	int ret;

	for (size_t i = 0; i < room; i++)
		infos[i] = (struct svm_device_info){ .size = sizeof(infos[i]) };
	ret = svm_device_enumerate(space, infos, &n_infos);
	if (ret)
		return complain(ret, "cannot list the devices");
	for (size_t i = 0; i < n_infos && i < room && list->n < DEFAULT_DEVICES && !ret; i++) {
		if (strcmp(infos[i].backend, "soft") != 0)
			ret = list_add(list, infos[i].name, strlen(infos[i].name));
	}
	return ret;
}

static int list_default(struct device_list *list)
{
	struct svm_space *space;
	int ret = space_create(&space);
	int err;

	if (ret)
		return ret;
	ret = list_add_real(list, space);
	err = space_destroy(space);
	while (!ret && list->n < DEFAULT_DEVICES)
		ret = list_add(list, DEFAULT_SOFT, strlen(DEFAULT_SOFT));
	return ret ? ret : err;
}

int device_list_choose(const char *names, struct device_list *ret_list)
{
	struct device_list list = { 0 };
	int ret = names ? list_parse(&list, names) : list_default(&list);

	if (!ret)
		*ret_list = list;
	return ret;
}

/* ---- The session ----------------------------------------------------------------------------- */

static const char *open_failure(int err)
{
	switch (err) {
	case -EINVAL:
		return "not a device name with options that its backend knows";
	case -ENODEV:
		return "no such backend";
	case -ENOENT:
		return "no such device";
	default:
		return strerror(-err);
	}
}

static int open_device(struct session *session, const char *name)
{
	size_t i = session->n_devices;
	unsigned int n_logged_before = atomic_load(&n_logged);
	int ret = svm_device_open(session->space, name, &session->devices[i]);

	if (ret) {
		/* What the library said is closer to the point: which key, which value. */
		if (atomic_load(&n_logged) == n_logged_before)
			complain(0, "cannot open device '%s': %s", name, open_failure(ret));
		return ret;
	}
	session->n_devices++;
	session->infos[i] = (struct svm_device_info){ .size = sizeof(session->infos[i]) };
	ret = svm_device_query(session->devices[i], &session->infos[i]);
	if (ret)
		return complain(ret, "cannot query device '%s'", name);
	if (!(session->infos[i].caps & (SVM_CAP_LAUNCH | SVM_CAP_WORK)))
		return complain(-EOPNOTSUPP, "device '%s' has no engine to work with", name);
	return 0;
}

int session_open(const struct device_list *list, struct session *ret_session)
{
	struct session session = { 0 };
	int ret = space_create(&session.space);

	if (ret)
		return ret;
	for (size_t i = 0; i < list->n && !ret; i++)
		ret = open_device(&session, list->names[i]);
	if (ret) {
		session_close(&session);
		return ret;
	}
	*ret_session = session;
	return 0;
}

int session_close(struct session *session)
{
	int err, ret = 0;

	/* svm_space_destroy() closes what is still open; this way a failure has a name. */
	for (size_t i = session->n_devices; i-- > 0;) {
		err = svm_device_close(session->devices[i]);
		if (err)
			ret = complain(err, "cannot close device %zu", i);
	}
	err = space_destroy(session->space);
	*session = (struct session){ 0 };
	return ret ? ret : err;
}

int session_all_can(const struct session *session, uint32_t caps)
{
	for (size_t i = 0; i < session->n_devices; i++) {
		if ((session->infos[i].caps & caps) != caps)
			return 0;
	}
	return 1;
}
