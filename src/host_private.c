/* SPDX-License-Identifier: MIT */
/*
 * Private kind: anonymous pages that are in the user view or in the stash.
 *
 * What is true between calls: a page of block->cpu has its bytes in the user view; a page that is in
 * block->back and not in block->cpu has them in the stash. A page in both masks (only when the user
 * view held a page that the record did not know of) has stale bytes in the stash. The stash holds
 * exactly the pages of block->back: MOVE refuses to overwrite, so no page may come to be there
 * unasked. That is why single pages are made with UFFDIO_COPY (a plain touch of an empty 2 MiB may
 * give a huge page), why nobody should read a stash page that is not in block->back, and why the stash
 * is registered: khugepaged leaves registered memory alone. Pages that are in the way all the same
 * are stale, because the record says where the bytes are, and are dropped.
 *
 * Kernel rules that shape this (mm/userfaultfd.c of Linux 6.18): MOVE needs both ends in one VMA
 * each with equal access and lock flags (EINVAL), a source page that is there (ENOENT), that this
 * process alone has and nobody has pinned (EBUSY), and a free destination (EEXIST); a moved page
 * arrives writable.
 */
#include "host_kinds.h"
#include "sys.h"
#include "uffd_uapi.h"
#include "util.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

/* The memory is not there (any more): the application has unmapped it, or dropped the page. */
static bool is_gone(int error)
{
	return error == -ENOENT || error == -EFAULT || error == -ESRCH;
}

static void forget_mapping(struct svm_host_block *block, unsigned int page, unsigned int n)
{
	svm_mask_clear_range(&block->cpu, page, n);
	svm_mask_clear_range(&block->cpu_ro, page, n);
}

/* Give stash pages back. On error they stay in block->back. */
static int zap_stash(struct svm_host_block *block, unsigned int page, unsigned int n)
{
	int ret = svm_host_zap(svm_host_stash(block, page), n * SVM_PAGE_BYTES);

	if (ret == 0)
		svm_mask_clear_range(&block->back, page, n);
	return ret;
}

static int zap_stash_mask(struct svm_host_block *block, const struct svm_mask *pages)
{
	svm_host_for_each_run(pages, page, n)
	{
		int ret = zap_stash(block, page, n);

		if (ret < 0)
			return ret;
	}
	return 0;
}

/*
 * Zero pages for the stash, where it has none, one by one: never a huge page, which would bring
 * others along.
 */
static int populate_small(struct svm_host *host, struct svm_host_block *block, unsigned int page,
			  unsigned int n)
{
	bool cleared = false;

	while (n > 0) {
		unsigned int want = n < SVM_HOST_ZERO_PAGES ? n : SVM_HOST_ZERO_PAGES;
		unsigned int n_done;
		uint64_t done;
		int ret = svm_uffd_copy(&host->uffd, svm_host_stash(block, page), svm_host_zeros,
					want * SVM_PAGE_BYTES,
					SVM_UFFD_NO_WAKE | SVM_UFFD_EXCLUSIVE, &done);

		n_done = (unsigned int)(done / SVM_PAGE_BYTES);
		svm_mask_set_range(&block->back, page, n_done);
		page += n_done;
		n -= n_done;
		if (ret == -EEXIST && !cleared) {
			cleared = true;
			ret = zap_stash(block, page, n);
		}
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Pages that the application's memory is copied by at a time: on the stack of a service thread. */
#define BOUNCE_PAGES 4u

/*
 * Copy pages of the user view to the stash. The application may drop a page of its own memory at any time, and a fault of
 * ours there would come to the thread that waits in the copy. Reading /proc/self/mem never waits for a userfaultfd
 * (access_remote_vm(), mm/memory.c): of a page that is not there it says EIO.
 */
static int copy_application(struct svm_host *host, int mem_fd, uint64_t stash, uint64_t user,
			    uint64_t size, uint64_t *ret_done)
{
	char bounce[BOUNCE_PAGES * SVM_PAGE_BYTES];
	int r = 0;

	*ret_done = 0;
	while (*ret_done < size && r == 0) {
		uint64_t want = svm_min_u64(size - *ret_done, sizeof(bounce));
		ssize_t n = svm_sys->pread(mem_fd, bounce, want, user + *ret_done);
		uint64_t done = 0;

		if (n == -EINTR)
			continue;
		if (n < (ssize_t)SVM_PAGE_BYTES)
			return n < 0 && n != -EIO ? (int)n : -ENOENT;
		r = svm_uffd_copy(&host->uffd, stash + *ret_done, bounce,
				  svm_align_down((uint64_t)n, SVM_PAGE_BYTES),
				  SVM_UFFD_NO_WAKE | SVM_UFFD_EXCLUSIVE, &done);
		*ret_done += done;
	}
	return r;
}

static int copy_to_stash(struct svm_host *host, const struct svm_host_block *block,
			 unsigned int page, unsigned int n, uint64_t *ret_done)
{
	const uint64_t user = svm_host_user(block, page);
	const uint64_t stash = svm_host_stash(block, page);
	const uint64_t size = n * SVM_PAGE_BYTES;
	int fd = block->registered ? svm_sys_open("/proc/self/mem", O_RDONLY | O_CLOEXEC) : -1;
	int ret;

	/* Without /proc there is no other way. */
	if (fd < 0)
		return svm_uffd_copy(&host->uffd, stash, svm_ptr(user), size,
				     SVM_UFFD_NO_WAKE | SVM_UFFD_EXCLUSIVE, ret_done);
	ret = copy_application(host, fd, stash, user, size, ret_done);
	svm_sys->close(fd);
	return ret;
}

/*
 * Take [page, page + n) out of the user view by copying: no writer, copy, zap. For kernels without
 * MOVE and for pages that it refuses. When copying fails the pages stay mapped read-only.
 */
static int copy_out(struct svm_host *host, struct svm_host_block *block, unsigned int page,
		    unsigned int n)
{
	const struct svm_uffd *uffd = svm_host_uffd(host, block);
	const uint64_t user = svm_host_user(block, page);
	uint64_t done;
	unsigned int n_done;
	int zap_ret;
	int ret;

	/*
	 * Missing pages (dropped by the application) become zero, as they would at the next touch. Before
	 * the protection, so that nobody writes them unseen.
	 */
	ret = svm_uffd_zero(uffd, user, n * SVM_PAGE_BYTES, SVM_UFFD_NO_WAKE, &done);
	if (ret == 0)
		ret = svm_uffd_protect(uffd, user, n * SVM_PAGE_BYTES, true);
	if (ret < 0)
		return ret;
	svm_mask_set_range(&block->cpu_ro, page, n);

	ret = copy_to_stash(host, block, page, n, &done);
	n_done = (unsigned int)(done / SVM_PAGE_BYTES);
	if (n_done == 0)
		return ret;
	svm_mask_set_range(&block->back, page, n_done);
	zap_ret = svm_host_zap(user, done);
	if (zap_ret < 0) {
		/* Still mapped, so what is in the stash is stale. */
		zap_stash(block, page, n_done);
		return zap_ret;
	}
	forget_mapping(block, page, n_done);
	return ret;
}

/* Pages that turn out to be gone are added to *gone, and stay in block->cpu. */
static int revoke_by_copy(struct svm_host *host, struct svm_host_block *block, unsigned int page,
			  unsigned int n, struct svm_mask *gone)
{
	int ret = copy_out(host, block, page, n);
	int first_error = 0;

	if (!is_gone(ret) && ret != -EEXIST)
		return ret;
	/* Some pages are gone, or in the stash unasked, perhaps not all. */
	for (unsigned int p = page; p < page + n; p++) {
		if (!svm_mask_test(&block->cpu, p))
			continue;
		ret = zap_stash(block, p, 1);
		if (ret == 0)
			ret = copy_out(host, block, p, 1);
		if (is_gone(ret))
			svm_mask_set(gone, p);
		else if (ret < 0 && first_error == 0)
			first_error = ret;
	}
	return first_error;
}

/*
 * Pages from page on were EBUSY. A fork that happened before the memory was registered leaves pages
 * that a child maps too; a write fault gives us our own. Only pages that may be written are touched,
 * and what the application has dropped meanwhile is not waited for: that event would be served by the
 * thread that waits. Returns how many pages were treated.
 */
static unsigned int break_sharing(struct svm_host_block *block, unsigned int page, unsigned int end)
{
	unsigned int n = 0;

	/* The next MOVE tells whether it helped. */
	for (; page + n < end && !svm_mask_test(&block->cpu_ro, page + n); n++)
		(void)svm_sys->write_nothing(svm_ptr(svm_host_user(block, page + n)));
	return n;
}

/* One page that MOVE does not take (EINVAL): locked in memory, or protected by the application. */
static int revoke_refused(struct svm_host *host, struct svm_host_block *block, unsigned int page,
			  struct svm_mask *gone)
{
	if (!svm_host_can_zap(host, block))
		return -EBUSY;
	return revoke_by_copy(host, block, page, 1, gone);
}

/*
 * Two things besides pins are EBUSY. Pages that a child maps, too, from a fork before they were registered: break_sharing().
 * And pages of a huge page whose first page a child maps, or has mapped: the kernel asks the first one whether all are ours
 * (Linux 7.3, mm/userfaultfd.c:move_pages_ptes()). A write to it would not help where it is not of this memory, so the huge
 * page is split.
 */
static int revoke_by_move(struct svm_host *host, struct svm_host_block *block, unsigned int first,
			  unsigned int n, struct svm_mask *gone)
{
	const unsigned int end = first + n;
	unsigned int page = first;
	unsigned int step = n;	     /* pages to ask for at once */
	unsigned int broken = first; /* sharing was broken, or tried to be, up to here */
	bool cleared = false;	     /* pages that were in the stash unasked are gone */
	bool split = false;	     /* tried since a page was last moved */
	int first_error = 0;

	while (page < end) {
		unsigned int want = step < end - page ? step : end - page;
		unsigned int n_done;
		uint64_t done;
		int ret = svm_uffd_move(&host->uffd, svm_host_stash(block, page),
					svm_host_user(block, page), want * SVM_PAGE_BYTES,
					SVM_UFFD_NO_WAKE | SVM_UFFD_EXCLUSIVE, &done);

		n_done = (unsigned int)(done / SVM_PAGE_BYTES);
		forget_mapping(block, page, n_done);
		svm_mask_set_range(&block->back, page, n_done);
		page += n_done;
		want -= n_done;
		step = SVM_BLOCK_PAGES;
		split = split && n_done == 0;
		if (ret == 0)
			continue;

		if (is_gone(ret)) {
			svm_mask_set(gone, page);
			page++;
			continue;
		}
		if (ret == -EEXIST && !cleared) {
			cleared = true;
			ret = zap_stash(block, page, end - page);
			if (ret == 0)
				continue;
		}
		if (ret == -EBUSY && page >= broken) {
			broken = page + break_sharing(block, page, page + want);
			if (broken > page)
				continue;
		}
		if (ret == -EBUSY && !split) {
			split = true;
			svm_host_split_huge(svm_host_user(block, page));
			continue;
		}
		/* From here on page by page, as long as pages refuse. */
		step = 1;
		if (ret == -EBUSY && want > 1)
			continue;
		if (ret == -EINVAL)
			ret = revoke_refused(host, block, page, gone);
		if (ret == -EAGAIN) {
			/*
			 * EAGAIN that lasts is a huge page that cannot be split, because a piece of it
			 * is pinned. The rest of the run is, most likely, of that same page.
			 */
			first_error = -EBUSY;
			break;
		}
		if (ret < 0 && ret != -EBUSY)
			return ret;
		if (ret < 0)
			first_error = ret;
		page++;
	}
	return first_error;
}

/* Whatever the stash holds for mapped pages is stale, and in the way. */
static int take_pages(struct svm_host *host, struct svm_host_block *block,
		      const struct svm_mask *pages, struct svm_mask *ret_gone)
{
	const struct svm_mask stale = svm_mask_both(pages, &block->back);
	int first_error = 0;
	int ret = zap_stash_mask(block, &stale);

	if (ret < 0)
		return ret;
	svm_host_for_each_run(pages, page, n)
	{
		ret = svm_uffd_has_move(&host->uffd)
			      ? revoke_by_move(host, block, page, n, ret_gone)
			      : revoke_by_copy(host, block, page, n, ret_gone);
		if (ret < 0 && first_error == 0)
			first_error = ret;
	}
	return first_error;
}

/*
 * Pages that the application dropped meanwhile read as zero, so that is what the stash gets: after
 * success every page of the set is there. (Pages that it unmapped as well: nobody will look.)
 */
static int private_revoke(struct svm_host *host, struct svm_host_block *block,
			  const struct svm_mask *pages)
{
	struct svm_mask gone;
	int first_error;

	svm_mask_zero(&gone);
	first_error = take_pages(host, block, pages, &gone);
	svm_host_for_each_run(&gone, page, n)
	{
		int ret = populate_small(host, block, page, n);

		if (ret < 0 && first_error == 0)
			first_error = ret;
	}
	/* Without memory for the zeros a page stays on record as mapped, to be repaired. */
	svm_mask_and(&gone, &block->back);
	svm_mask_andnot(&block->cpu, &gone);
	svm_mask_andnot(&block->cpu_ro, &gone);
	return first_error;
}

/* The user view has a page that the record did not know of: make the rest of the record true. */
static int map_existing(struct svm_host *host, struct svm_host_block *block, unsigned int page,
			bool write)
{
	const struct svm_uffd *uffd = svm_host_uffd(host, block);
	const uint64_t user = svm_host_user(block, page);
	int ret = svm_uffd_protect(uffd, user, SVM_PAGE_BYTES, !write);

	if (ret < 0)
		return ret;
	svm_mask_set(&block->cpu, page);
	if (!write)
		svm_mask_set(&block->cpu_ro, page);
	return svm_uffd_wake(uffd, user, SVM_PAGE_BYTES);
}

/* Map by copying; the stash pages are given back, so that no byte is kept twice. */
static int copy_in(struct svm_host *host, struct svm_host_block *block, unsigned int page,
		   unsigned int n, bool write, unsigned int *ret_n_done)
{
	uint64_t done;
	unsigned int n_done;
	int zap_ret = 0;
	int ret;

	ret = svm_uffd_copy(svm_host_uffd(host, block), svm_host_user(block, page),
			    svm_ptr(svm_host_stash(block, page)), n * SVM_PAGE_BYTES,
			    SVM_UFFD_EXCLUSIVE | (write ? 0 : SVM_UFFD_READ_ONLY), &done);
	n_done = (unsigned int)(done / SVM_PAGE_BYTES);
	svm_mask_set_range(&block->cpu, page, n_done);
	if (!write)
		svm_mask_set_range(&block->cpu_ro, page, n_done);
	if (n_done > 0)
		zap_ret = zap_stash(block, page, n_done);
	*ret_n_done = n_done;
	return ret < 0 ? ret : zap_ret;
}

static int move_in(struct svm_host *host, struct svm_host_block *block, unsigned int page,
		   unsigned int n, unsigned int *ret_n_done)
{
	uint64_t done;
	unsigned int n_done;
	int ret = svm_uffd_move(svm_host_uffd(host, block), svm_host_user(block, page),
				svm_host_stash(block, page), n * SVM_PAGE_BYTES, SVM_UFFD_EXCLUSIVE,
				&done);

	n_done = (unsigned int)(done / SVM_PAGE_BYTES);
	svm_mask_set_range(&block->cpu, page, n_done);
	svm_mask_clear_range(&block->back, page, n_done);
	*ret_n_done = n_done;
	return ret;
}

static int map_run(struct svm_host *host, struct svm_host_block *block, unsigned int first,
		   unsigned int n, bool write)
{
	/* MOVE has no write-protect mode, and protecting after it would leave a moment to write in. A copy replaces poison,
	 * a move does not. */
	const bool move = write && svm_uffd_has_move(svm_host_uffd(host, block)) &&
			  !svm_mask_test(&block->poison, first);
	const unsigned int end = first + n;
	unsigned int page = first;
	unsigned int step = n;
	bool gone = false;

	while (page < end) {
		unsigned int want = step < end - page ? step : end - page;
		unsigned int n_done = 0;
		int ret;

		ret = move ? move_in(host, block, page, want, &n_done)
			   : copy_in(host, block, page, want, write, &n_done);
		page += n_done;
		/* As long as pages refuse to move, ask for one at a time. */
		step = ret == 0 ? SVM_BLOCK_PAGES : 1;
		if (move && (ret == -EBUSY || ret == -EAGAIN || ret == -EINVAL || ret == -ENOENT)) {
			/*
			 * The stash page is pinned, or the views differ in lock or access flags. ENOENT may
			 * be about either end; a copy tells.
			 */
			ret = copy_in(host, block, page, 1, true, &n_done);
			page += n_done;
		}
		if (ret == -EEXIST) {
			ret = map_existing(host, block, page, write);
			page++;
		}
		if (ret == -ENOENT && block->registered) {
			/* The application has unmapped it: it needs no bytes. Its neighbours do. */
			gone = true;
			ret = zap_stash(block, page, 1);
			page++;
		}
		if (ret < 0)
			return is_gone(ret) ? -ENOENT : ret;
	}
	return gone ? -ENOENT : 0;
}

/* All of the pages carry poison, or none. */
static int map_runs(struct svm_host *host, struct svm_host_block *block,
		    const struct svm_mask *pages, bool write)
{
	int first_error = 0;

	svm_host_for_each_run(pages, page, n)
	{
		int ret = map_run(host, block, page, n, write);

		if (ret < 0 && first_error == 0)
			first_error = ret;
		/* Whoever waits for memory that is gone gets its SIGSEGV. */
		if (ret == -ENOENT)
			svm_uffd_wake(svm_host_uffd(host, block), svm_host_user(block, page),
				      n * SVM_PAGE_BYTES);
	}
	return first_error;
}

static int private_map(struct svm_host *host, struct svm_host_block *block,
		       const struct svm_mask *pages, bool write)
{
	struct svm_mask poisoned = svm_mask_both(pages, &block->poison);
	struct svm_mask plain = *pages;
	bool all = true;
	int poisoned_ret;
	int ret;

	assert(svm_mask_subset(pages, &block->back));
	if (block->registered) {
		svm_rwlock_read(&host->news_lock);
		all = !svm_mask_intersects(pages, &block->dropped);
		svm_mask_andnot(&plain, &block->dropped);
		svm_mask_andnot(&poisoned, &block->dropped);
	}
	svm_mask_andnot(&plain, &poisoned);
	ret = map_runs(host, block, &plain, write);
	poisoned_ret = map_runs(host, block, &poisoned, write);
	if (block->registered)
		svm_rwlock_unlock(&host->news_lock);
	svm_mask_andnot(&block->poison, &block->cpu);
	ret = ret < 0 ? ret : poisoned_ret;
	return ret < 0 || all ? ret : -EAGAIN;
}

static int private_remap(struct svm_host *host, struct svm_host_block *block, unsigned int page)
{
	const bool write = !svm_mask_test(&block->cpu_ro, page);
	uint64_t done;

	/* What was dropped reads as zero. Swapped pages do not come here: the kernel brings them itself. */
	return svm_uffd_copy(svm_host_uffd(host, block), svm_host_user(block, page), svm_host_zeros,
			     SVM_PAGE_BYTES, SVM_UFFD_EXCLUSIVE | (write ? 0 : SVM_UFFD_READ_ONLY),
			     &done);
}

static int populate_whole(struct svm_host_block *block)
{
	int ret = svm_sys->madvise(svm_ptr(block->stash), SVM_BLOCK_SIZE, MADV_POPULATE_WRITE);

	if (ret < 0) {
		/* Some pages may have come; back says none did. */
		svm_host_zap(block->stash, SVM_BLOCK_SIZE);
		return ret;
	}
	svm_mask_fill(&block->back);
	return 0;
}

static int private_populate(struct svm_host *host, struct svm_host_block *block,
			    const struct svm_mask *pages, bool zero)
{
	struct svm_mask fresh = *pages;
	struct svm_mask stale = svm_mask_both(pages, &block->back);
	int ret;

	svm_mask_andnot(&fresh, &block->back);
	if (zero) {
		svm_host_for_each_run(&stale, page, n)
			memset(svm_ptr(svm_host_stash(block, page)), 0, n * SVM_PAGE_BYTES);
	}
	svm_host_for_each_run(&fresh, page, n)
	{
		if (n == SVM_BLOCK_PAGES)
			ret = populate_whole(block);
		else
			ret = populate_small(host, block, page, n);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int private_unmap(struct svm_host *host, struct svm_host_block *block,
			 const struct svm_mask *pages)
{
	struct svm_mask unmapped = *pages;
	struct svm_mask gone;
	int first_error = 0;
	int ret;

	if (svm_host_can_zap(host, block)) {
		svm_host_for_each_run(pages, page, n)
		{
			ret = svm_host_zap(svm_host_user(block, page), n * SVM_PAGE_BYTES);
			if (ret == 0)
				forget_mapping(block, page, n);
			else if (first_error == 0)
				first_error = ret;
		}
		return first_error;
	}
	svm_mask_zero(&gone);
	first_error = take_pages(host, block, pages, &gone);
	svm_mask_andnot(&block->cpu, &gone);
	svm_mask_andnot(&block->cpu_ro, &gone);
	svm_mask_andnot(&unmapped, &block->cpu);
	svm_mask_and(&unmapped, &block->back);
	ret = zap_stash_mask(block, &unmapped);
	return first_error ? first_error : ret;
}

static int private_release(struct svm_host *host, struct svm_host_block *block,
			   const struct svm_mask *pages)
{
	(void)host;
	return zap_stash_mask(block, pages);
}

const struct svm_host_ops svm_host_private_ops = {
	.revoke = private_revoke,
	.map = private_map,
	.remap = private_remap,
	.populate = private_populate,
	.unmap = private_unmap,
	.release = private_release,
};
