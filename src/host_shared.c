/* SPDX-License-Identifier: MIT */
/*
 * Shared kind: pages of the space's memfd. The alias view always reaches them; the user view, which is
 * registered for missing, minor and write-protect faults, only says what the CPU may do.
 *
 * Kernel rules that shape this (mm/userfaultfd.c, mm/memory.c of Linux 6.18): MADV_DONTNEED keeps the
 * page in the memfd, but leaves a marker where a page was write-protected; UFFDIO_CONTINUE overwrites
 * such a marker and answers EFAULT where the memfd has a hole; punching a hole zaps the user view as
 * well, but leaves poison there.
 */
#include "host_kinds.h"
#include "sys.h"
#include "util.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

static int punch(struct svm_host *host, uint64_t alias, uint64_t size)
{
	int ret;

	do
		ret = svm_sys->fallocate(host->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					 alias - host->alias_base, size);
	while (ret == -EINTR);
	return ret;
}

static int shared_revoke(struct svm_host *host, struct svm_host_block *block,
			 const struct svm_mask *pages)
{
	(void)host;
	svm_host_for_each_run(pages, page, n)
	{
		int ret = svm_host_zap(svm_host_user(block, page), n * SVM_PAGE_BYTES);

		if (ret < 0)
			return ret;
		svm_mask_clear_range(&block->cpu, page, n);
		svm_mask_clear_range(&block->cpu_ro, page, n);
	}
	return 0;
}

static int fill_holes(struct svm_host_block *block, unsigned int page, unsigned int n)
{
	int ret = svm_sys->madvise(svm_ptr(svm_host_alias(block, page)), n * SVM_PAGE_BYTES,
				   MADV_POPULATE_WRITE);

	if (ret == 0)
		svm_mask_set_range(&block->back, page, n);
	return ret;
}

/* The user view has a page that the record did not know of: give it the right that is asked for. */
static int map_existing(const struct svm_uffd *uffd, uint64_t user, bool write)
{
	int ret = svm_uffd_protect(uffd, user, SVM_PAGE_BYTES, !write);

	return ret < 0 ? ret : svm_uffd_wake(uffd, user, SVM_PAGE_BYTES);
}

static int map_run(struct svm_host *host, struct svm_host_block *block, unsigned int page,
		   unsigned int n, bool write)
{
	const uint32_t flags = SVM_UFFD_EXCLUSIVE | (write ? 0 : SVM_UFFD_READ_ONLY);
	const unsigned int end = page + n;
	unsigned int filled = SVM_BLOCK_PAGES;

	while (page < end) {
		const uint64_t user = svm_host_user(block, page);
		unsigned int n_done;
		uint64_t done;
		int ret = svm_uffd_continue(&host->uffd, user, (end - page) * SVM_PAGE_BYTES, flags,
					    &done);

		n_done = (unsigned int)(done / SVM_PAGE_BYTES);
		if (ret == -EEXIST) {
			ret = map_existing(&host->uffd, user + done, write);
			if (ret == 0)
				n_done++;
		}
		svm_mask_set_range(&block->cpu, page, n_done);
		if (!write)
			svm_mask_set_range(&block->cpu_ro, page, n_done);
		page += n_done;
		if (ret == -EFAULT && filled != page) {
			/* The application has punched a hole (MADV_REMOVE): it reads as zero. */
			filled = page;
			ret = fill_holes(block, page, 1);
		}
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int shared_map(struct svm_host *host, struct svm_host_block *block,
		      const struct svm_mask *pages, bool write)
{
	assert(svm_mask_subset(pages, &block->back));
	if (!write && !svm_host_can_protect(host, block))
		return -EOPNOTSUPP;
	svm_host_for_each_run(pages, page, n)
	{
		int ret = map_run(host, block, page, n, write);

		if (ret < 0)
			return ret;
	}
	return 0;
}

static int shared_remap(struct svm_host *host, struct svm_host_block *block, unsigned int page)
{
	const bool write = !svm_mask_test(&block->cpu_ro, page);
	const uint32_t flags = SVM_UFFD_EXCLUSIVE | (write ? 0 : SVM_UFFD_READ_ONLY);
	const uint64_t user = svm_host_user(block, page);
	uint64_t done;
	int ret = svm_uffd_continue(&host->uffd, user, SVM_PAGE_BYTES, flags, &done);

	if (ret != -EFAULT)
		return ret;
	ret = fill_holes(block, page, 1);
	if (ret < 0)
		return ret;
	return svm_uffd_continue(&host->uffd, user, SVM_PAGE_BYTES, flags, &done);
}

static int shared_populate(struct svm_host *host, struct svm_host_block *block,
			   const struct svm_mask *pages, bool zero)
{
	struct svm_mask fresh = *pages;
	struct svm_mask stale = svm_mask_both(pages, &block->back);

	svm_mask_andnot(&fresh, &block->back);
	if (zero) {
		svm_host_for_each_run(&stale, page, n)
			memset(svm_ptr(svm_host_alias(block, page)), 0, n * SVM_PAGE_BYTES);
	}
	svm_host_for_each_run(&fresh, page, n)
	{
		int ret = fill_holes(block, page, n);

		if (ret < 0) {
			/* Some may have come; back says that none did. */
			punch(host, svm_host_alias(block, page), n * SVM_PAGE_BYTES);
			return ret;
		}
	}
	return 0;
}

static int shared_release(struct svm_host *host, struct svm_host_block *block,
			  const struct svm_mask *pages)
{
	svm_host_for_each_run(pages, page, n)
	{
		int ret = punch(host, svm_host_alias(block, page), n * SVM_PAGE_BYTES);

		if (ret < 0)
			return ret;
		svm_mask_clear_range(&block->back, page, n);
	}
	return 0;
}

const struct svm_host_ops svm_host_shared_ops = {
	.revoke = shared_revoke,
	.map = shared_map,
	.remap = shared_remap,
	.populate = shared_populate,
	.unmap = shared_revoke,
	.release = shared_release,
};

/* ---- Private to shared ------------------------------------------------------------------------ */

/* Copy the valid pages from the stash to the memfd. block is still private. */
static int copy_to_alias(struct svm_host_block *block, const struct svm_mask *valid)
{
	svm_host_for_each_run(valid, page, n)
	{
		void *alias = svm_ptr(svm_host_alias(block, page));
		int ret = svm_sys->madvise(alias, n * SVM_PAGE_BYTES, MADV_POPULATE_WRITE);

		if (ret < 0)
			return ret;
		memcpy(alias, svm_ptr(svm_host_stash(block, page)), n * SVM_PAGE_BYTES);
	}
	return 0;
}

/*
 * Which pages of the memfd exist besides the valid ones? CONTINUE can tell: it maps what is there and
 * answers EFAULT for a hole. What it maps is zapped by the caller.
 */
static int find_touched(struct svm_host *host, struct svm_host_block *block,
			const struct svm_mask *valid)
{
	for (unsigned int page = 0; page < SVM_BLOCK_PAGES; page++) {
		uint64_t done;
		int ret;

		if (svm_mask_test(valid, page))
			continue;
		ret = svm_uffd_continue(&host->uffd, svm_host_user(block, page), SVM_PAGE_BYTES,
					SVM_UFFD_NO_WAKE, &done);
		if (ret == 0)
			svm_mask_set(&block->back, page);
		else if (ret != -EFAULT)
			return ret;
	}
	return 0;
}

/* Which pages that are not valid have been written, after the memfd was in sight and is not any more? read(2) makes none of
 * those that do not exist. Pages that were only read are zero, as they will be when they are touched again. */
static void find_written(const struct svm_host *host, const struct svm_host_block *block,
			 const struct svm_mask *valid, struct svm_mask *ret_written)
{
	unsigned char bytes[SVM_PAGE_BYTES];

	svm_mask_zero(ret_written);
	for (unsigned int page = 0; page < SVM_BLOCK_PAGES; page++) {
		uint64_t offset = svm_host_alias(block, page) - host->alias_base;

		if (svm_mask_test(valid, page))
			continue;
		/* Not known: taken as written, true if wasteful. */
		if (svm_sys->pread(host->memfd, bytes, sizeof(bytes), offset) !=
			    (ssize_t)sizeof(bytes) ||
		    memcmp(bytes, svm_host_zeros, sizeof(bytes)) != 0)
			svm_mask_set(ret_written, page);
	}
}

/* The user view could not be made a shared one: be private again. Sets *ret_born as svm_host_convert(). */
static int back_to_private(struct svm_host *host, struct svm_host_block *block,
			   const struct svm_mask *valid, struct svm_mask *ret_born)
{
	struct svm_mask bytes;
	int ret;

	/*
	 * In the reservation a touch is a SIGSEGV, which is hard on the program, but an accessible view
	 * that is not yet registered would give it zeros for its data.
	 */
	ret = svm_host_reset(host, block->user, SVM_BLOCK_SIZE);
	if (ret == 0)
		ret = svm_uffd_register(&host->uffd, block->user, SVM_BLOCK_SIZE,
					SVM_UFFD_MISSING | SVM_UFFD_WP);
	if (ret == 0)
		ret = svm_sys->mprotect(svm_ptr(block->user), SVM_BLOCK_SIZE,
					PROT_READ | PROT_WRITE);
	if (ret < 0) {
		svm_error(host->log, "host: block 0x%llx is lost: cannot map it again: error %d",
			  (unsigned long long)block->user, -ret);
		return -EIO;
	}
	/* The program may have written to any page while the view was shared. */
	find_written(host, block, valid, ret_born);
	ret = svm_host_private_ops.populate(host, block, ret_born, false);
	if (ret < 0) {
		svm_error(host->log, "host: %u new pages at 0x%llx are lost: error %d",
			  svm_mask_count(ret_born), (unsigned long long)block->user, -ret);
		svm_mask_zero(ret_born);
	}
	bytes = *valid;
	svm_mask_or(&bytes, ret_born);
	svm_host_for_each_run(&bytes, page, n)
		memcpy(svm_ptr(svm_host_stash(block, page)), svm_ptr(svm_host_alias(block, page)),
		       n * SVM_PAGE_BYTES);
	return ret < 0 ? -EIO : 0;
}

/*
 * The order is: bytes into the memfd; map the memfd over the user view; register; zap the user view.
 *
 * Between mapping and registering a touch by the program is served by the kernel, from the memfd:
 * it reads the right bytes and its writes go to the memfd, so nothing is lost and nothing stale is
 * seen, if pages that are not valid have no bytes anywhere, which would read as zeros. The zap then
 * takes the mappings that it got, so that afterwards the record, no page mapped, is true. Pages that
 * were not valid, but touched just then, exist now and have content: they are born when this returns.
 *
 * (Registering at another address and mremap() over the view has no such moment, but the kernel
 * keeps the registration only with REMAP events, which have to be read before mremap() returns.)
 *
 * Threads that wait for a page of the old mapping go on waiting on the same userfaultfd, by
 * address, and the next grant wakes them.
 */
int svm_host_convert(struct svm_host *host, struct svm_host_block *block,
		     const struct svm_mask *valid, struct svm_mask *ret_born)
{
	const uint64_t size = SVM_BLOCK_SIZE;
	struct svm_mask stash = block->back;
	int ret;

	svm_mask_zero(ret_born);
	if (block->registered)
		return -EOPNOTSUPP;
	if (block->kind == SVM_HOST_SHARED)
		return 0;
	/* Poison does not survive the change of mapping, and a touch must not find zeros in between. */
	if (!svm_mask_empty(&block->poison))
		return -EIO;
	assert(svm_mask_empty(&block->cpu));
	assert(svm_mask_subset(valid, &block->back));

	block->alias = host->alias_base + (block->user - host->window_base);
	ret = svm_host_bind(host, block->alias, size, block->node);
	if (ret == 0)
		ret = copy_to_alias(block, valid);
	if (ret < 0)
		goto err_punch;
	/* A mapping that fails may have taken the old one away before (mmap(2), ENOMEM). */
	ret = svm_host_map_shared(host, block->user, size);
	if (ret == 0)
		ret = svm_uffd_register(&host->uffd, block->user, size,
					SVM_UFFD_MISSING | SVM_UFFD_MINOR | SVM_UFFD_WP);
	if (ret < 0)
		goto err_private;

	block->kind = SVM_HOST_SHARED;
	block->back = *valid;
	ret = find_touched(host, block, valid);
	if (ret < 0) {
		/* Not known, so all are made to exist: true, if wasteful. */
		ret = svm_sys->madvise(svm_ptr(block->alias), size, MADV_POPULATE_WRITE);
		svm_mask_fill(&block->back);
	}
	if (ret == 0)
		ret = svm_host_zap(block->user, size);
	if (ret < 0)
		goto err_mapped;

	*ret_born = block->back;
	svm_mask_andnot(ret_born, valid);
	/* The stash pages have become useless; what cannot be given back now goes with the window. */
	svm_host_for_each_run(&stash, page, n)
		svm_host_zap(svm_host_stash(block, page), n * SVM_PAGE_BYTES);
	return 0;

err_mapped:
	/* The stash has a page for each valid one; what was written since is taken from the memfd. */
	block->kind = SVM_HOST_PRIVATE;
	block->back = stash;
err_private:
	if (back_to_private(host, block, valid, ret_born) < 0)
		ret = -EIO;
err_punch:
	punch(host, block->alias, size);
	block->alias = 0;
	return ret;
}
