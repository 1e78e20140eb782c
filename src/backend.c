/* SPDX-License-Identifier: MIT */
#include "backend.h"

#include "bits.h"
#include "config.h"
#include <errno.h>
#include <string.h>

#ifdef SVM_WITH_SOFT
extern const struct svm_backend_ops svm_backend_soft;
#endif
#ifdef SVM_WITH_XE
extern const struct svm_backend_ops svm_backend_xe;
#endif
#ifdef SVM_WITH_HMM_MIRROR
extern const struct svm_backend_ops svm_backend_hmm_mirror;
#endif

static const struct svm_backend_ops *const linked_in[] = {
#ifdef SVM_WITH_SOFT
	&svm_backend_soft,
#endif
#ifdef SVM_WITH_XE
	&svm_backend_xe,
#endif
#ifdef SVM_WITH_HMM_MIRROR
	&svm_backend_hmm_mirror,
#endif
	NULL,
};

const struct svm_backend_ops *const *svm_backends = linked_in;

static int no_chunk_alloc(void *dev, uint64_t *ret_chunk)
{
	(void)dev;
	(void)ret_chunk;
	return -EOPNOTSUPP;
}

static void no_chunk_free(void *dev, uint64_t chunk)
{
	(void)dev;
	(void)chunk;
}

static int no_bind(void *dev, const struct svm_bind *binds, size_t n_binds,
		   struct svm_point *ret_point)
{
	(void)dev;
	(void)binds;
	(void)n_binds;
	(void)ret_point;
	return -EOPNOTSUPP;
}

static int no_memory_kept(void *dev)
{
	(void)dev;
	return 0;
}

static int no_native_advise(void *dev, uint64_t addr, uint64_t size,
			    const struct svm_native_hints *hints, struct svm_outcome *ret_outcome)
{
	(void)dev;
	(void)addr;
	(void)size;
	(void)hints;
	(void)ret_outcome;
	return -EOPNOTSUPP;
}

static int no_native_prefetch(void *dev, uint64_t addr, uint64_t size, enum svm_native_place to)
{
	(void)dev;
	(void)addr;
	(void)size;
	(void)to;
	return -EOPNOTSUPP;
}

static int no_native_query(void *dev, uint64_t addr, size_t n_pages, uint8_t *ret_pages)
{
	(void)dev;
	(void)addr;
	(void)n_pages;
	(void)ret_pages;
	return -EOPNOTSUPP;
}

static int no_chunk_map(void *dev, uint64_t chunk, void **ret_addr)
{
	(void)dev;
	(void)chunk;
	(void)ret_addr;
	return -EOPNOTSUPP;
}

static int no_span(void *dev, uint64_t addr, uint64_t size)
{
	(void)dev;
	(void)addr;
	(void)size;
	return 0; /* optional by its meaning: nothing to prepare */
}

static int no_copy(void *dev, const struct svm_copy *copies, size_t n_copies, uint32_t flags,
		   struct svm_point *ret_point)
{
	(void)dev;
	(void)copies;
	(void)n_copies;
	(void)flags;
	(void)ret_point;
	return -EOPNOTSUPP;
}

static int no_work(void *dev, const struct svm_work *work, struct svm_point *ret_point)
{
	(void)dev;
	(void)work;
	(void)ret_point;
	return -EOPNOTSUPP;
}

static int no_launch(void *dev, void (*kernel)(const void *args, uint64_t index, uint64_t count),
		     const void *args, size_t args_size, uint64_t n, struct svm_point *ret_point)
{
	(void)dev;
	(void)kernel;
	(void)args;
	(void)args_size;
	(void)n;
	(void)ret_point;
	return -EOPNOTSUPP;
}

static int no_fault_fd(void *dev)
{
	(void)dev;
	return -EOPNOTSUPP;
}

static int no_fault_read(void *dev, struct svm_device_fault *faults, size_t n_faults)
{
	(void)dev;
	(void)faults;
	(void)n_faults;
	return -EOPNOTSUPP;
}

static int no_fault_done(void *dev, const struct svm_device_fault *fault, int status)
{
	(void)dev;
	(void)fault;
	(void)status;
	return -EOPNOTSUPP;
}

/* A table that lacks a mandatory op, or is of another contract, is refused with one line. */
static int take(const struct svm_backend_ops *table, const struct svm_log *log,
		struct svm_backend_ops *ret_ops)
{
	int managed;

	if (table->abi != SVM_BACKEND_ABI || table->size != sizeof(*table)) {
		svm_error(log, "backend %s: contract %u of %u bytes, this library has %u of %zu",
			  table->name, table->abi, table->size, SVM_BACKEND_ABI, sizeof(*table));
		return -EPROTO;
	}
	managed = (table->chunk_alloc != NULL) + (table->chunk_free != NULL) +
		  (table->bind != NULL) + (table->memory_kept != NULL);
	if (!table->enumerate || !table->open || !table->close || !table->caps ||
	    !table->event_fd || !table->event_ack || !table->completed || !table->kill ||
	    (managed != 0 && managed != 4)) {
		svm_error(log, "backend %s: a mandatory op is missing", table->name);
		return -EPROTO;
	}
	*ret_ops = *table;
	if (managed == 0) {
		ret_ops->chunk_alloc = no_chunk_alloc;
		ret_ops->chunk_free = no_chunk_free;
		ret_ops->bind = no_bind;
		ret_ops->memory_kept = no_memory_kept;
	}
	if (!ret_ops->native_advise)
		ret_ops->native_advise = no_native_advise;
	if (!ret_ops->native_prefetch)
		ret_ops->native_prefetch = no_native_prefetch;
	if (!ret_ops->native_query)
		ret_ops->native_query = no_native_query;
	if (!ret_ops->chunk_map)
		ret_ops->chunk_map = no_chunk_map;
	if (!ret_ops->span_add)
		ret_ops->span_add = no_span;
	if (!ret_ops->span_remove)
		ret_ops->span_remove = no_span;
	if (!ret_ops->copy)
		ret_ops->copy = no_copy;
	if (!ret_ops->work)
		ret_ops->work = no_work;
	if (!ret_ops->launch)
		ret_ops->launch = no_launch;
	if (!ret_ops->fault_fd)
		ret_ops->fault_fd = no_fault_fd;
	if (!ret_ops->fault_read)
		ret_ops->fault_read = no_fault_read;
	if (!ret_ops->fault_done)
		ret_ops->fault_done = no_fault_done;
	return 0;
}

int svm_backend_nth(unsigned int i, const struct svm_log *log, struct svm_backend_ops *ret_ops)
{
	unsigned int n = 0;

	while (n < i && svm_backends[n])
		n++;
	return svm_backends[n] ? take(svm_backends[n], log, ret_ops) : -ENOENT;
}

int svm_backend_find(const char *name, size_t length, const struct svm_log *log,
		     struct svm_backend_ops *ret_ops)
{
	for (unsigned int i = 0; svm_backends[i]; i++) {
		if (strlen(svm_backends[i]->name) == length &&
		    memcmp(svm_backends[i]->name, name, length) == 0)
			return take(svm_backends[i], log, ret_ops);
	}
	return -ENODEV;
}

int svm_backend_error(int error)
{
	switch (error) {
	case 0:
	case -ENOMEM:
	case -ENOSPC:
	case -ENODEV:
	case -EOPNOTSUPP:
	case -EACCES: /* a hint forbids it: told to the device with fault_done(), and told back */
		return error;
	default:
		return -EIO;
	}
}

bool svm_backend_is_native_only(const struct svm_backend_ops *ops)
{
	return ops->bind == no_bind;
}

/* Which op each capability promises. */
int svm_backend_check_caps(const struct svm_backend_ops *ops, const struct svm_backend_caps *caps,
			   const struct svm_log *log)
{
	const char *wrong = NULL;

	if ((caps->caps & SVM_CAP_FAULTS) &&
	    (ops->fault_fd == no_fault_fd || ops->fault_read == no_fault_read ||
	     ops->fault_done == no_fault_done))
		wrong = "faults without fault ops";
	else if ((caps->caps & SVM_CAP_COPY_ENGINE) && ops->copy == no_copy)
		wrong = "a copy engine without copy()";
	else if (ops->bind == no_bind && !(caps->caps & SVM_CAP_NATIVE))
		wrong = "neither managed nor native memory";
	else if (ops->bind == no_bind &&
		 (caps->caps & (SVM_CAP_FAULTS | SVM_CAP_READ_ONLY | SVM_CAP_HOST_ALIAS |
				SVM_CAP_CPU_VISIBLE | SVM_CAP_PEER_COPY | SVM_CAP_COPY_ENGINE)))
		wrong = "what only managed memory has, without its ops";
	else if ((caps->caps & SVM_CAP_NATIVE_UFFD) && !(caps->caps & SVM_CAP_NATIVE))
		wrong = "native faults without native memory";
	else if (ops->bind != no_bind &&
		 !(caps->caps & (SVM_CAP_COPY_ENGINE | SVM_CAP_CPU_VISIBLE)))
		wrong = "neither a copy engine nor visible memory";
	else if ((caps->caps & SVM_CAP_CPU_VISIBLE) && ops->chunk_map == no_chunk_map)
		wrong = "visible memory without chunk_map()";
	else if ((caps->caps & SVM_CAP_WORK) && ops->work == no_work)
		wrong = "work without work()";
	else if ((caps->caps & SVM_CAP_LAUNCH) && ops->launch == no_launch)
		wrong = "launches without launch()";
	else if (caps->va_start >= caps->va_end)
		wrong = "an empty address range";
	else if (caps->memory_size % SVM_BLOCK_SIZE)
		wrong = "a memory size that is not in whole chunks";
	if (!wrong)
		return 0;
	svm_error(log, "backend %s: claims %s", ops->name, wrong);
	return -EPROTO;
}
