/* SPDX-License-Identifier: MIT */
/* A space with some devices open in it: what one run of the ranking happens in. */
#ifndef PAGERANK_SESSION_H
#define PAGERANK_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include <libsvm/libsvm.h>

/* Which devices to use, as svm_device_open() takes them. */
struct device_list {
	size_t n;
	char names[SVM_MAX_DEVICES][SVM_NAME_LENGTH];
};

struct session {
	struct svm_space *space;
	size_t n_devices;
	struct svm_device *devices[SVM_MAX_DEVICES];
	struct svm_device_info infos[SVM_MAX_DEVICES];
};

/*
 * Make a list from NAME[,NAME...]; or, when names is NULL, of two devices: the first real ones of the
 * machine, and soft ones for what is missing. Complains on failure.
 */
int device_list_choose(const char *names, struct device_list *ret_list);

/* Create a space and open the devices of the list in it. Complains on failure. */
int session_open(const struct device_list *list, struct session *ret_session);

/* Close all of it. Complains on failure. */
int session_close(struct session *session);

/* 1 if all devices of the session have all of these SVM_CAP_*. */
int session_all_can(const struct session *session, uint32_t caps);

#endif
