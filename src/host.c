/* SPDX-License-Identifier: MIT */
/*
 * Host storage: the three views of a window, registered memory, and what both kinds have in common.
 *
 * The user view is reserved without access; arming a piece changes its protection (private) or maps
 * the memfd over it (shared). All advice is given to the whole reservation, so that armed neighbours
 * stay one mapping: the kernel allows 65530 of them (vm.max_map_count).
 */
#include "host.h"
#include "host_kinds.h"
#include "maps.h"
#include "sys.h"
#include "uffd_uapi.h"
#include "util.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000 /* Linux 4.17, include/uapi/asm-generic/mman-common.h */
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* Linux 5.18, include/uapi/asm-generic/mman-common.h */
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3, include/uapi/linux/memfd.h */
#endif

#define BLOCK ((uint64_t)SVM_BLOCK_SIZE)
/* How many places to try when the kernel's own choice lies outside the limits. */
#define PLACES 64u
/* Tries of calls that say EAGAIN. */
#define TRIES	  16u
#define MAX_NODES 1024u
/* Pages per call of move_pages(2). */
#define MOVE_BATCH 64u

/* Never written. Not const, so that it takes no room in the file. */
char svm_host_zeros[SVM_HOST_ZERO_PAGES * SVM_PAGE_SIZE];

static const struct svm_host_ops *ops_of(const struct svm_host_block *block)
{
	return block->kind == SVM_HOST_SHARED ? &svm_host_shared_ops : &svm_host_private_ops;
}

const struct svm_uffd *svm_host_uffd(const struct svm_host *host,
				     const struct svm_host_block *block)
{
	return block->registered ? &host->reg_uffd : &host->uffd;
}

bool svm_host_can_zap(const struct svm_host *host, const struct svm_host_block *block)
{
	return !svm_uffd_has_remove_events(svm_host_uffd(host, block));
}

/* ---- Small files of the kernel ---------------------------------------------------------------- */

/* Read the start of a small file as a string. */
static int read_file(const char *path, char *text, size_t size)
{
	ssize_t n;
	int fd = svm_sys_open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return fd;
	do
		n = svm_sys->read(fd, text, size - 1);
	while (n == -EINTR);
	svm_sys->close(fd);
	if (n < 0)
		return (int)n;
	text[n] = '\0';
	return 0;
}

static bool kernel_has_huge_pages(void)
{
	char text[64];

	return read_file("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text)) == 0 &&
	       strstr(text, "[never]") == NULL;
}

/* The list looks like "0-3,8": nodes count up to the highest number in it. */
static int count_nodes(void)
{
	char text[256];
	unsigned int highest = 0;
	unsigned int number = 0;

	if (read_file("/sys/devices/system/node/online", text, sizeof(text)) < 0)
		return 1;
	for (const char *c = text; *c; c++) {
		number = *c >= '0' && *c <= '9' ? number * 10u + (unsigned int)(*c - '0') : 0;
		if (number > highest)
			highest = number;
		if (highest >= MAX_NODES)
			return MAX_NODES;
	}
	return (int)highest + 1;
}

/* ---- Mappings --------------------------------------------------------------------------------- */

static int retry_madvise(uint64_t addr, uint64_t size, int advice)
{
	int ret = -EAGAIN;

	for (unsigned int i = 0; i < TRIES && (ret == -EAGAIN || ret == -EINTR); i++)
		ret = svm_sys->madvise(svm_ptr(addr), size, advice);
	return ret;
}

int svm_host_zap(uint64_t addr, uint64_t size)
{
	int ret = retry_madvise(addr, size, MADV_DONTNEED);

	if (ret == -EINVAL)
		ret = retry_madvise(addr, size, MADV_DONTNEED_LOCKED);
	/* The kernel goes on behind a hole and says so at the end (madvise(2)). */
	return ret == -ENOMEM ? 0 : ret;
}

/* Advice for a view of the library's: not in a child, huge or not, and for the storage not in core dumps. */
static int advise_view(const struct svm_host *host, uint64_t addr, uint64_t size, bool storage)
{
	int ret = retry_madvise(addr, size, MADV_DONTFORK);

	if (ret == 0 && storage)
		ret = retry_madvise(addr, size, MADV_DONTDUMP);
	if (ret < 0)
		return ret;
	/* Fails only on kernels that are built without huge pages. */
	retry_madvise(addr, size, host->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return 0;
}

static int reserve_at(uint64_t addr, uint64_t size, int fixed)
{
	void *map;
	int ret = svm_sys->mmap(svm_ptr(addr), size, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0, &map);

	if (ret < 0)
		return ret;
	if (svm_addr(map) != addr) {
		svm_sys->munmap(map, size);
		return -EEXIST;
	}
	return 0;
}

/* Reserve wherever the kernel likes, so that the result is phase beyond a 2 MiB boundary. */
static int reserve_anywhere(uint64_t size, uint64_t phase, uint64_t *ret_addr)
{
	const uint64_t room = size + 2 * BLOCK;
	uint64_t start;
	uint64_t addr;
	void *map;
	int ret;

	if (room < size)
		return -ENOMEM;
	ret = svm_sys->mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			    0, &map);
	if (ret < 0)
		return ret;
	start = svm_addr(map);
	addr = svm_align_up(start, BLOCK) + phase;
	if (addr > start)
		ret = svm_sys->munmap(svm_ptr(start), addr - start);
	if (ret == 0)
		ret = svm_sys->munmap(svm_ptr(addr + size), start + room - (addr + size));
	if (ret < 0) {
		/* Pieces that are gone already do not hurt: munmap() skips holes. */
		svm_sys->munmap(svm_ptr(start), room);
		return ret;
	}
	*ret_addr = addr;
	return 0;
}

static int reserve_within(uint64_t size, uint64_t min, uint64_t max, uint64_t *ret_addr)
{
	/* A privileged process could map address 0. */
	const uint64_t lowest = svm_max_u64(svm_align_up(min, BLOCK), BLOCK);
	uint64_t addr = 0;
	uint64_t step;
	int ret = reserve_anywhere(size, 0, &addr);

	if (ret < 0)
		return ret;
	if (addr >= min && addr + size <= max) {
		*ret_addr = addr;
		return 0;
	}
	svm_sys->munmap(svm_ptr(addr), size);

	if (max < size || svm_align_down(max - size, BLOCK) < lowest)
		return -ENOMEM;
	addr = svm_align_down(max - size, BLOCK);
	step = svm_max_u64(svm_align_down((addr - lowest) / PLACES, BLOCK), BLOCK);
	for (unsigned int i = 0; i < PLACES && addr >= lowest; i++) {
		ret = reserve_at(addr, size, MAP_FIXED_NOREPLACE);
		if (ret == 0) {
			*ret_addr = addr;
			return 0;
		}
		if (addr - lowest < step)
			break;
		addr -= step;
	}
	return -ENOMEM;
}

static int open_memfd(const struct svm_host *host, uint64_t size, int *ret_fd)
{
	struct rlimit limit;
	int fd;
	int ret;

	/* Beyond the limit ftruncate() would kill the process by SIGXFSZ. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    size > limit.rlim_cur) {
		svm_error(
			host->log,
			"host: window of %llu bytes is above the file size limit of %llu (ulimit -f)",
			(unsigned long long)size, (unsigned long long)limit.rlim_cur);
		return -EFBIG;
	}

	fd = svm_sys->memfd_create("libsvm", MFD_CLOEXEC | MFD_NOEXEC_SEAL | MFD_ALLOW_SEALING);
	if (fd == -EINVAL)
		fd = svm_sys->memfd_create("libsvm", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return fd;
	do
		ret = svm_sys->ftruncate(fd, size);
	while (ret == -EINTR);
	/* udmabuf takes a memfd only when it cannot shrink. */
	if (ret == 0)
		ret = svm_sys->fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (ret < 0) {
		svm_sys->close(fd);
		return ret;
	}
	*ret_fd = fd;
	return 0;
}

static int map_memfd(const struct svm_host *host, uint64_t addr, uint64_t offset, uint64_t size)
{
	void *map;

	return svm_sys->mmap(svm_ptr(addr), size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			     host->memfd, offset, &map);
}

int svm_host_map_shared(struct svm_host *host, uint64_t addr, uint64_t size)
{
	int ret = map_memfd(host, addr, addr - host->window_base, size);

	if (ret < 0)
		return ret;
	return retry_madvise(addr, size, MADV_DONTFORK);
}

int svm_host_reset(struct svm_host *host, uint64_t addr, uint64_t size)
{
	int ret = reserve_at(addr, size, MAP_FIXED);

	if (ret < 0)
		return ret;
	return advise_view(host, addr, size, false);
}

/* ---- Window ----------------------------------------------------------------------------------- */

static uint32_t uffd_flags(uint32_t space_flags)
{
	uint32_t flags = 0;

	if (space_flags & SVM_SPACE_USER_MODE_ONLY)
		flags |= SVM_UFFD_USER_MODE_ONLY;
	if (space_flags & SVM_SPACE_NO_MOVE)
		flags |= SVM_UFFD_NO_MOVE;
	if (space_flags & SVM_SPACE_NO_POISON)
		flags |= SVM_UFFD_NO_POISON;
	return flags;
}

int svm_host_init(struct svm_host *host, uint64_t base, uint64_t size, uint64_t min, uint64_t max,
		  uint32_t flags, const struct svm_log *log)
{
	int ret;

	assert(base % BLOCK == 0 && size % BLOCK == 0 && size > 0);

	*host = (struct svm_host){
		.uffd = { .fd = -1 },
		.reg_uffd = { .fd = -1 },
		.log = log,
		.window_size = size,
		.memfd = -1,
		.flags = flags,
		.huge = !(flags & SVM_SPACE_NO_HUGE_PAGES) && kernel_has_huge_pages(),
		.n_nodes = count_nodes(),
	};
	svm_rwlock_init(&host->news_lock, SVM_RANK_NEWS);
	ret = svm_uffd_open(&host->uffd, uffd_flags(flags), log);
	if (ret < 0)
		goto err_lock;
	ret = open_memfd(host, size, &host->memfd);
	if (ret < 0)
		goto err_close_uffd;

	if (base == 0) {
		ret = reserve_within(size, min, max, &host->window_base);
	} else if (base < min || base + size < base || base + size > max) {
		ret = -EINVAL;
	} else {
		ret = reserve_at(base, size, MAP_FIXED_NOREPLACE);
		host->window_base = base;
	}
	if (ret < 0)
		goto err_close_memfd;
	ret = reserve_anywhere(size, 0, &host->stash_base);
	if (ret < 0)
		goto err_unmap_window;
	ret = reserve_anywhere(size, 0, &host->alias_base);
	if (ret < 0)
		goto err_unmap_stash;

	ret = map_memfd(host, host->alias_base, 0, size);
	if (ret == 0)
		ret = advise_view(host, host->window_base, size, false);
	if (ret == 0)
		ret = advise_view(host, host->stash_base, size, true);
	if (ret == 0)
		ret = retry_madvise(host->alias_base, size, MADV_DONTFORK);
	if (ret == 0)
		ret = retry_madvise(host->alias_base, size, MADV_DONTDUMP);
	if (ret < 0)
		goto err_unmap_alias;
	return 0;

err_unmap_alias:
	svm_sys->munmap(svm_ptr(host->alias_base), size);
err_unmap_stash:
	svm_sys->munmap(svm_ptr(host->stash_base), size);
err_unmap_window:
	svm_sys->munmap(svm_ptr(host->window_base), size);
err_close_memfd:
	svm_sys->close(host->memfd);
err_close_uffd:
	svm_uffd_close(&host->uffd);
	host->memfd = -1;
err_lock:
	svm_rwlock_finish(&host->news_lock);
	return ret;
}

void svm_host_finish(struct svm_host *host)
{
	if (host->memfd < 0)
		return;
	svm_sys->munmap(svm_ptr(host->window_base), host->window_size);
	svm_sys->munmap(svm_ptr(host->stash_base), host->window_size);
	svm_sys->munmap(svm_ptr(host->alias_base), host->window_size);
	/* Last, because this lets go of whoever still waits for a page: it finds nothing there. */
	svm_uffd_close(&host->uffd);
	svm_uffd_close(&host->reg_uffd);
	svm_sys->close(host->memfd);
	host->memfd = -1;
	svm_rwlock_finish(&host->news_lock);
}

static uint64_t stash_of(const struct svm_host *host, uint64_t addr)
{
	return host->stash_base + (addr - host->window_base);
}

static void assert_in_window(const struct svm_host *host, uint64_t addr, uint64_t size)
{
	assert(addr % BLOCK == 0 && size % BLOCK == 0 && size > 0);
	assert(addr >= host->window_base && addr - host->window_base + size <= host->window_size);
	(void)host;
	(void)addr;
	(void)size;
}

static int arm_private(struct svm_host *host, uint64_t addr, uint64_t size)
{
	const uint64_t stash = stash_of(host, addr);
	int ret = svm_sys->mprotect(svm_ptr(stash), size, PROT_READ | PROT_WRITE);

	if (ret == 0)
		ret = svm_uffd_register(&host->uffd, stash, size, SVM_UFFD_WP);
	/* Registered before it becomes accessible: no touch slips through. */
	if (ret == 0)
		ret = svm_uffd_register(&host->uffd, addr, size, SVM_UFFD_MISSING | SVM_UFFD_WP);
	if (ret == 0)
		ret = svm_sys->mprotect(svm_ptr(addr), size, PROT_READ | PROT_WRITE);
	return ret;
}

static int arm_shared(struct svm_host *host, uint64_t addr, uint64_t size)
{
	int ret = svm_host_map_shared(host, addr, size);

	if (ret == 0)
		ret = svm_uffd_register(&host->uffd, addr, size,
					SVM_UFFD_MISSING | SVM_UFFD_MINOR | SVM_UFFD_WP);
	return ret;
}

int svm_host_arm(struct svm_host *host, uint64_t addr, uint64_t size, enum svm_host_kind kind)
{
	int ret;

	assert_in_window(host, addr, size);
	ret = kind == SVM_HOST_SHARED ? arm_shared(host, addr, size)
				      : arm_private(host, addr, size);
	if (ret < 0)
		svm_host_disarm(host, addr, size);
	return ret;
}

int svm_host_disarm(struct svm_host *host, uint64_t addr, uint64_t size)
{
	const uint64_t offset = addr - host->window_base;
	int first_error;
	int ret;

	assert_in_window(host, addr, size);
	/* Blocks of one piece may differ in kind: clear all three views, whatever they are. */
	first_error = svm_host_reset(host, addr, size);
	ret = reserve_at(host->stash_base + offset, size, MAP_FIXED);
	if (ret == 0)
		ret = advise_view(host, host->stash_base + offset, size, true);
	if (ret < 0 && first_error == 0)
		first_error = ret;
	do
		ret = svm_sys->fallocate(host->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					 offset, size);
	while (ret == -EINTR);
	if (ret < 0 && first_error == 0)
		first_error = ret;
	/* Who waited for a page finds nothing there now. */
	ret = svm_uffd_wake(&host->uffd, addr, size);
	return first_error ? first_error : ret;
}

/* ---- Registered memory ------------------------------------------------------------------------ */

/* How far a span has been found to be private anonymous read-write memory. */
struct check {
	uint64_t next;
	uint64_t end;
};

static bool check_line(void *data, const struct svm_maps_line *line)
{
	struct check *check = data;
	const char *name = line->name;

	if (line->end <= check->next)
		return true;
	if (line->start > check->next || strncmp(line->perms, "rw-p", 4) != 0 || line->inode != 0)
		return false;
	/* No name, or one of those that anonymous memory has. */
	if (*name != '\0' && strncmp(name, "[heap]", 6) != 0 && strncmp(name, "[anon:", 6) != 0)
		return false;
	check->next = line->end;
	return line->end < check->end;
}

int svm_host_check(struct svm_host *host, uint64_t addr, uint64_t size)
{
	struct check check = { .next = addr, .end = addr + size };
	int ret = svm_maps_read(check_line, &check);

	if (ret == -EACCES || ret == -ENOENT || ret == -EPERM) {
		svm_error(
			host->log,
			"host: cannot read /proc/self/maps (error %d), so no memory can be registered",
			-ret);
		return -EOPNOTSUPP;
	}
	if (ret < 0)
		return ret;
	return check.next >= check.end ? 0 : -EOPNOTSUPP;
}

static int map_stash(const struct svm_host *host, uint64_t addr, uint64_t size, uint64_t *ret_stash)
{
	uint64_t stash;
	int ret = reserve_anywhere(size, addr % BLOCK, &stash);

	if (ret < 0)
		return ret;
	ret = advise_view(host, stash, size, true);
	if (ret == 0)
		ret = svm_sys->mprotect(svm_ptr(stash), size, PROT_READ | PROT_WRITE);
	if (ret == 0)
		ret = svm_uffd_register(&host->uffd, stash, size, SVM_UFFD_WP);
	if (ret < 0) {
		svm_sys->munmap(svm_ptr(stash), size);
		return ret;
	}
	*ret_stash = stash;
	return 0;
}

/* -ENOMEM from madvise() on the application's memory is a hole. */
static int advise_memory(uint64_t addr, uint64_t size, int advice)
{
	int ret = retry_madvise(addr, size, advice);

	return ret == -ENOMEM ? -EOPNOTSUPP : ret;
}

/*
 * Split the huge page that this page is a part of, unless another process maps it, too: what MADV_COLD does where it gets
 * only a part of one (Linux 7.3, mm/madvise.c:madvise_cold_or_pageout_pte_range()). It is not bad where that fails: locked
 * memory has EINVAL.
 */
void svm_host_split_huge(uint64_t addr)
{
	(void)svm_sys->madvise(svm_ptr(addr), SVM_PAGE_BYTES, MADV_COLD);
}

int svm_host_register(struct svm_host *host, uint64_t addr, uint64_t size, uint64_t *ret_stash)
{
	uint64_t stash;
	int ret;

	assert(addr % SVM_PAGE_BYTES == 0 && size % SVM_PAGE_BYTES == 0 && size > 0);

	ret = svm_host_check(host, addr, size);
	if (ret < 0)
		return ret;
	if (host->reg_uffd.fd < 0) {
		ret = svm_uffd_open(&host->reg_uffd, uffd_flags(host->flags) | SVM_UFFD_EVENTS,
				    host->log);
		if (ret < 0)
			return ret;
	}
	ret = map_stash(host, addr, size, &stash);
	if (ret < 0)
		return ret;
	ret = advise_memory(addr, size, MADV_DONTFORK);
	if (ret < 0)
		goto err_unmap_stash;
	/* Huge pages that lie across the edges: a process forked from now on would share their other part, see
	 * host_private.c:revoke_by_move(). */
	if (addr % BLOCK)
		svm_host_split_huge(addr);
	if ((addr + size) % BLOCK)
		svm_host_split_huge(addr + size - SVM_PAGE_BYTES);
	ret = svm_uffd_register(&host->reg_uffd, addr, size, SVM_UFFD_MISSING | SVM_UFFD_WP);
	if (ret < 0) {
		/* Other errors than these are about the memory: it vanished, or has a special kind. */
		if (ret != -EBUSY && ret != -ENOMEM)
			ret = -EOPNOTSUPP;
		goto err_dofork;
	}
	*ret_stash = stash;
	return 0;

err_dofork:
	/* Not after EBUSY, where nothing was registered: part of it belongs to somebody else. */
	if (ret != -EBUSY)
		svm_uffd_unregister(&host->reg_uffd, addr, size);
	advise_memory(addr, size, MADV_DOFORK);
err_unmap_stash:
	svm_sys->munmap(svm_ptr(stash), size);
	return ret;
}

int svm_host_unregister(struct svm_host *host, uint64_t addr, uint64_t size, uint64_t stash)
{
	int first_error = svm_uffd_unregister(&host->reg_uffd, addr, size);
	int ret;

	/* The application may have unmapped it, or mapped something else there. */
	if (first_error == -EINVAL || first_error == -ENOENT || first_error == -ENOMEM)
		first_error = 0;
	ret = advise_memory(addr, size, MADV_DOFORK);
	if (ret < 0 && ret != -EOPNOTSUPP && first_error == 0)
		first_error = ret;
	ret = svm_sys->munmap(svm_ptr(stash), size);
	return first_error ? first_error : ret;
}

/* ---- Which pages exist ------------------------------------------------------------------------ */

/* Of <linux/fs.h>, Linux 6.7. */
struct pagemap_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

struct pagemap_scan {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end; /* out */
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

#define PAGEMAP_SCAN_IOCTL _IOWR('f', 16, struct pagemap_scan)
#define PAGEMAP_PRESENT	   (UINT64_C(1) << 3)
#define PAGEMAP_SWAPPED	   (UINT64_C(1) << 4)

static int scan_run(int fd, const struct svm_host_block *block, unsigned int page, unsigned int n,
		    struct svm_mask *present)
{
	struct pagemap_region regions[32];
	const uint64_t end = svm_host_user(block, page + n);
	uint64_t start = svm_host_user(block, page);

	while (start < end) {
		struct pagemap_scan scan = {
			.size = sizeof(scan),
			.start = start,
			.end = end,
			.vec = svm_addr(regions),
			.vec_len = SVM_ARRAY_SIZE(regions),
			.category_anyof_mask = PAGEMAP_PRESENT | PAGEMAP_SWAPPED,
			.return_mask = PAGEMAP_PRESENT | PAGEMAP_SWAPPED,
		};
		int ret = svm_sys->ioctl(fd, PAGEMAP_SCAN_IOCTL, &scan);

		if (ret == -EINTR)
			continue;
		if (ret < 0)
			return ret;
		for (int i = 0; i < ret; i++)
			svm_mask_set_range(
				present,
				(unsigned int)((regions[i].start - block->user) / SVM_PAGE_BYTES),
				(unsigned int)((regions[i].end - regions[i].start) /
					       SVM_PAGE_BYTES));
		if (scan.walk_end <= start)
			return -EIO;
		start = scan.walk_end;
	}
	return 0;
}

/* Bits of an entry of the page map (Documentation/admin-guide/mm/pagemap.rst). */
#define PAGEMAP_ENTRY_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_ENTRY_SWAPPED (UINT64_C(1) << 62)

/* For kernels before 6.7: the page map itself, an entry per page. */
static int read_run(int fd, const struct svm_host_block *block, unsigned int page, unsigned int n,
		    struct svm_mask *present)
{
	uint64_t entries[64];
	const unsigned int end = page + n;

	while (page < end) {
		uint64_t want = svm_min_u64(end - page, SVM_ARRAY_SIZE(entries));
		ssize_t ret = svm_sys->pread(fd, entries, want * sizeof(entries[0]),
					     svm_host_user(block, page) / SVM_PAGE_BYTES *
						     sizeof(entries[0]));

		if (ret == -EINTR)
			continue;
		if (ret < 0)
			return (int)ret;
		if ((size_t)ret < sizeof(entries[0]))
			return -EIO;
		for (size_t i = 0; i < (size_t)ret / sizeof(entries[0]); i++, page++)
			if (entries[i] & (PAGEMAP_ENTRY_PRESENT | PAGEMAP_ENTRY_SWAPPED))
				svm_mask_set(present, page);
	}
	return 0;
}

/*
 * For processes without /proc: make all of them exist. The shared zero page takes no memory, and pages
 * that are there are left alone.
 */
static int fill_run(struct svm_host *host, const struct svm_host_block *block, unsigned int page,
		    unsigned int n, struct svm_mask *present)
{
	uint64_t done;
	int ret = svm_uffd_zero(svm_host_uffd(host, block), svm_host_user(block, page),
				n * SVM_PAGE_BYTES, 0, &done);

	svm_mask_set_range(present, page, (unsigned int)(done / SVM_PAGE_BYTES));
	return ret;
}

int svm_host_present(struct svm_host *host, const struct svm_host_block *block,
		     const struct svm_mask *pages, struct svm_mask *ret_present)
{
	struct svm_mask present;
	int fd = svm_sys_open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int ret = fd < 0 ? fd : 0;

	svm_mask_zero(&present);
	svm_host_for_each_run(pages, page, n)
	{
		if (ret == 0)
			ret = scan_run(fd, block, page, n, &present);
		if (ret == -ENOTTY || ret == -EINVAL)
			ret = read_run(fd, block, page, n, &present);
	}
	if (fd >= 0)
		svm_sys->close(fd);
	if (ret < 0) {
		svm_host_for_each_run(pages, page, n)
		{
			ret = fill_run(host, block, page, n, &present);
			if (ret < 0)
				return ret;
		}
	}
	*ret_present = present;
	return 0;
}

/* ---- Rights of the CPU ------------------------------------------------------------------------ */

int svm_host_revoke(struct svm_host *host, struct svm_host_block *block,
		    const struct svm_mask *pages)
{
	const struct svm_mask mapped = svm_mask_both(pages, &block->cpu);

	return ops_of(block)->revoke(host, block, &mapped);
}

/* Set or lift protection of [page, page + n), all mapped. Pages of memory that is gone are forgotten. */
static int protect_run(struct svm_host *host, struct svm_host_block *block, unsigned int page,
		       unsigned int n, bool protect)
{
	const struct svm_uffd *uffd = svm_host_uffd(host, block);
	int ret = svm_uffd_protect(uffd, svm_host_user(block, page), n * SVM_PAGE_BYTES, protect);

	if (ret == 0) {
		if (protect)
			svm_mask_set_range(&block->cpu_ro, page, n);
		else
			svm_mask_clear_range(&block->cpu_ro, page, n);
		return 0;
	}
	if (ret != -ENOENT || !block->registered)
		return ret;
	if (n == 1) {
		svm_mask_clear(&block->cpu, page);
		svm_mask_clear(&block->cpu_ro, page);
		/* Whoever waits there finds out. */
		return protect ? 0
			       : svm_uffd_wake(uffd, svm_host_user(block, page), SVM_PAGE_BYTES);
	}
	for (unsigned int p = page; p < page + n; p++) {
		ret = protect_run(host, block, p, 1, protect);
		if (ret < 0)
			return ret;
	}
	return 0;
}

bool svm_host_can_protect(const struct svm_host *host, const struct svm_host_block *block)
{
	return block->kind == SVM_HOST_PRIVATE || svm_uffd_has_continue_wp(&host->uffd);
}

int svm_host_protect(struct svm_host *host, struct svm_host_block *block,
		     const struct svm_mask *pages)
{
	struct svm_mask writable = svm_mask_both(pages, &block->cpu);

	if (!svm_host_can_protect(host, block))
		return -EOPNOTSUPP;
	svm_mask_andnot(&writable, &block->cpu_ro);
	svm_host_for_each_run(&writable, page, n)
	{
		int ret = protect_run(host, block, page, n, true);

		if (ret < 0)
			return ret;
	}
	return 0;
}

int svm_host_grant(struct svm_host *host, struct svm_host_block *block,
		   const struct svm_mask *pages, bool write)
{
	const struct svm_uffd *uffd = svm_host_uffd(host, block);
	struct svm_mask mapped = svm_mask_both(pages, &block->cpu);
	struct svm_mask missing = *pages;
	int ret;

	svm_mask_andnot(&missing, &block->cpu);
	if (write) {
		const struct svm_mask read_only = svm_mask_both(pages, &block->cpu_ro);

		svm_host_for_each_run(&read_only, page, n)
		{
			ret = protect_run(host, block, page, n, false);
			if (ret < 0)
				return ret;
		}
		/* Lifting has woken. */
		svm_mask_andnot(&mapped, &read_only);
	}
	svm_host_for_each_run(&mapped, page, n)
	{
		ret = svm_uffd_wake(uffd, svm_host_user(block, page), n * SVM_PAGE_BYTES);
		if (ret < 0)
			return ret;
	}
	return ops_of(block)->map(host, block, &missing, write);
}

int svm_host_repair(struct svm_host *host, struct svm_host_block *block, unsigned int page)
{
	const struct svm_uffd *uffd = svm_host_uffd(host, block);
	const uint64_t user = svm_host_user(block, page);
	int ret;

	assert(svm_mask_test(&block->cpu, page));
	ret = ops_of(block)->remap(host, block, page);
	if (ret != -EEXIST)
		return ret;
	/* It is there. If it is protected against the record, that is what the fault was for; lifting wakes. */
	if (!svm_mask_test(&block->cpu_ro, page))
		return svm_uffd_protect(uffd, user, SVM_PAGE_BYTES, false);
	return svm_uffd_wake(uffd, user, SVM_PAGE_BYTES);
}

/* ---- Storage ---------------------------------------------------------------------------------- */

static uint64_t storage_of(const struct svm_host_block *block, unsigned int page)
{
	return block->kind == SVM_HOST_SHARED ? svm_host_alias(block, page)
					      : svm_host_stash(block, page);
}

/* From the first to the last page of a set. */
static void hull_of(const struct svm_mask *pages, unsigned int *ret_first, unsigned int *ret_n)
{
	unsigned int first = 0;
	unsigned int end = 0;

	svm_host_for_each_run(pages, page, n)
	{
		if (end == 0)
			first = page;
		end = page + n;
	}
	*ret_first = first;
	*ret_n = end - first;
}

int svm_host_bind(const struct svm_host *host, uint64_t addr, uint64_t size, int node)
{
	unsigned long nodes[MAX_NODES / (8 * sizeof(unsigned long))] = { 0 };
	int ret;

	(void)host;
	if (node < 0)
		return 0;
	nodes[(unsigned int)node / (8 * sizeof(unsigned long))] |=
		1ul << ((unsigned int)node % (8 * sizeof(unsigned long)));
	/* One more than the bits in use, as mbind(2) counts. */
	ret = svm_sys->mbind(svm_ptr(addr), size, MPOL_PREFERRED, nodes, MAX_NODES, 0);
	/* EPERM: a seccomp filter, as containers have. */
	return ret == -ENOSYS || ret == -EPERM ? -EOPNOTSUPP : ret;
}

void *svm_host_addr(const struct svm_host *host, const struct svm_host_block *block,
		    unsigned int page)
{
	(void)host;
	if (block->kind == SVM_HOST_PRIVATE && svm_mask_test(&block->cpu, page))
		return svm_ptr(svm_host_user(block, page));
	return svm_ptr(storage_of(block, page));
}

int svm_host_drop(struct svm_host *host, struct svm_host_block *block, const struct svm_mask *pages,
		  bool unmap)
{
	const struct svm_mask mapped = svm_mask_both(pages, &block->cpu);
	struct svm_mask stored;
	int ret;

	if (unmap) {
		ret = svm_host_unpoison(host, block, pages);
		if (ret < 0)
			return ret;
		ret = ops_of(block)->unmap(host, block, &mapped);
		if (ret < 0)
			return ret;
	}
	stored = svm_mask_both(pages, &block->back);
	svm_mask_andnot(&stored, &block->cpu);
	return ops_of(block)->release(host, block, &stored);
}

int svm_host_forget(struct svm_host *host, struct svm_host_block *block,
		    const struct svm_mask *pages)
{
	struct svm_mask stored;

	svm_mask_andnot(&block->cpu, pages);
	svm_mask_andnot(&block->cpu_ro, pages);
	svm_mask_andnot(&block->poison, pages);
	stored = svm_mask_both(pages, &block->back);
	return ops_of(block)->release(host, block, &stored);
}

static int ask_to_move(void **addresses, unsigned int n, int node)
{
	int nodes[MOVE_BATCH];
	int status[MOVE_BATCH];
	int ret;

	for (unsigned int i = 0; i < MOVE_BATCH; i++) {
		nodes[i] = node;
		status[i] = -ENOENT;
	}
	ret = svm_sys->move_pages(0, n, addresses, nodes, status, MPOL_MF_MOVE);
	if (ret < 0)
		return ret == -ENOSYS || ret == -EPERM ? -EOPNOTSUPP : ret;
	for (unsigned int i = 0; i < n; i++) {
		/* EACCES: mapped by a child as well. ENOENT: not there, so nothing to move. */
		if (status[i] == -EBUSY || status[i] == -EACCES)
			return -EBUSY;
		if (status[i] < 0 && status[i] != -ENOENT && status[i] != -EFAULT)
			return status[i];
	}
	return 0;
}

/* Move pages that exist. addresses are those of one mapping each. */
static int move_pages_to(void **addresses, unsigned int n, int node)
{
	int ret = ask_to_move(addresses, n, node);

	/*
	 * The second page of a huge page is called busy, because the first has put it on the list of what
	 * is to be moved (mm/migrate.c, do_pages_move()). By now it has moved.
	 */
	return ret == -EBUSY ? ask_to_move(addresses, n, node) : ret;
}

/*
 * The kernel moves a page only if it is mapped, and mapped once. A shared page may be mapped in both
 * views, so the alias view gives up its mapping, which it gets back by a touch, or takes one.
 */
static void *address_to_move(const struct svm_host_block *block, unsigned int page)
{
	void *alias;

	if (block->kind == SVM_HOST_PRIVATE)
		return svm_mask_test(&block->cpu, page) ? svm_ptr(svm_host_user(block, page))
							: svm_ptr(svm_host_stash(block, page));
	alias = svm_ptr(svm_host_alias(block, page));
	if (svm_mask_test(&block->cpu, page)) {
		svm_sys->madvise(alias, SVM_PAGE_BYTES, MADV_DONTNEED);
		return svm_ptr(svm_host_user(block, page));
	}
	svm_sys->madvise(alias, SVM_PAGE_BYTES, MADV_POPULATE_READ);
	return alias;
}

static int bind_view(const struct svm_host *host, uint64_t addr, uint64_t size, int node)
{
	int ret;

	if (node >= 0)
		return svm_host_bind(host, addr, size, node);
	ret = svm_sys->mbind(svm_ptr(addr), size, MPOL_DEFAULT, NULL, 0, 0);
	return ret == -ENOSYS || ret == -EPERM ? -EOPNOTSUPP : ret;
}

/* Pages of the block that will come to be in [page, page + n) are to be on the node, whichever view they are made in. */
static int bind_views(const struct svm_host *host, const struct svm_host_block *block,
		      unsigned int page, unsigned int n, int node)
{
	int ret = bind_view(host, storage_of(block, page), n * SVM_PAGE_BYTES, node);

	if (ret < 0 || block->kind != SVM_HOST_PRIVATE)
		return ret;
	/* What is granted by copy is a new page of the user view; registered memory may have holes by now. */
	ret = bind_view(host, svm_host_user(block, page), n * SVM_PAGE_BYTES, node);
	return ret == -EFAULT ? 0 : ret;
}

/* Move those of the pages that exist. */
static int move_existing(const struct svm_host_block *block, const struct svm_mask *pages, int node)
{
	struct svm_mask existing = block->cpu;
	void *addresses[MOVE_BATCH];
	unsigned int n_addresses = 0;
	int first_error = 0;

	svm_mask_or(&existing, &block->back);
	svm_mask_and(&existing, pages);
	for (unsigned int page = 0; page < SVM_BLOCK_PAGES; page++) {
		int ret;

		if (svm_mask_test(&existing, page))
			addresses[n_addresses++] = address_to_move(block, page);
		if (n_addresses == 0 ||
		    (n_addresses < SVM_ARRAY_SIZE(addresses) && page + 1 < SVM_BLOCK_PAGES))
			continue;
		ret = move_pages_to(addresses, n_addresses, node);
		if (ret < 0 && first_error == 0)
			first_error = ret;
		n_addresses = 0;
	}
	return first_error;
}

int svm_host_populate(struct svm_host *host, struct svm_host_block *block,
		      const struct svm_mask *pages, bool zero)
{
	struct svm_mask unmapped = *pages;
	int ret;

	svm_mask_andnot(&unmapped, &block->cpu);
	if (host->n_nodes > 1 && block->node >= 0 && !svm_mask_empty(&unmapped)) {
		unsigned int first;
		unsigned int n;

		hull_of(&unmapped, &first, &n);
		ret = bind_views(host, block, first, n, block->node);
		/* Stale pages were kept where they were. */
		if (ret == 0)
			ret = move_existing(block, &unmapped, block->node);
		/* Placement is a wish. */
		if (ret < 0)
			svm_debug(host->log, "host: node %d for block 0x%llx: error %d",
				  block->node, (unsigned long long)block->user, -ret);
	}
	ret = ops_of(block)->populate(host, block, &unmapped, zero);
	/* MADV_POPULATE_WRITE says EFAULT where a touch would raise SIGBUS: no memory for the memfd. */
	return ret == -EFAULT ? -ENOMEM : ret;
}

int svm_host_place(struct svm_host *host, struct svm_host_block *block,
		   const struct svm_mask *pages, int node)
{
	unsigned int first;
	unsigned int n_hull;
	int ret;

	if (node < -1 || node >= host->n_nodes)
		return -EINVAL;
	hull_of(pages, &first, &n_hull);
	if (n_hull > 0) {
		ret = bind_views(host, block, first, n_hull, node);
		if (ret < 0)
			return ret;
	}
	block->node = node;
	return node < 0 ? 0 : move_existing(block, pages, node);
}

/* ---- Poison ----------------------------------------------------------------------------------- */

static int poison_run(struct svm_host *host, struct svm_host_block *block, unsigned int page,
		      unsigned int n)
{
	const struct svm_uffd *uffd = svm_host_uffd(host, block);
	const uint64_t user = svm_host_user(block, page);
	const uint64_t size = n * SVM_PAGE_BYTES;
	uint64_t done;
	int ret;

	if (!svm_uffd_has_poison(uffd)) {
		ret = svm_sys->mprotect(svm_ptr(user), size, PROT_NONE);
		if (ret == 0)
			svm_mask_set_range(&block->poison, page, n);
		return ret == 0 ? svm_uffd_wake(uffd, user, size) : ret;
	}
	/* Write protection may have left markers, over which the kernel puts no poison. */
	if (block->kind == SVM_HOST_SHARED) {
		ret = svm_uffd_protect(uffd, user, size, false);
		if (ret < 0)
			return ret;
	}
	ret = svm_uffd_poison(uffd, user, size, SVM_UFFD_EXCLUSIVE, &done);
	svm_mask_set_range(&block->poison, page, (unsigned int)(done / SVM_PAGE_BYTES));
	return ret;
}

/* Memory of the application that is gone needs no poison. */
static int ignore_gone(const struct svm_host_block *block, int error)
{
	return block->registered && (error == -ENOENT || error == -ENOMEM) ? 0 : error;
}

static int mark_again(struct svm_host *host, struct svm_host_block *block, unsigned int page,
		      unsigned int n)
{
	const struct svm_uffd *uffd = svm_host_uffd(host, block);
	uint64_t done;

	if (!svm_uffd_has_poison(uffd))
		return poison_run(host, block, page, n);
	/* Wakes also where the marks are there. */
	return svm_uffd_poison(uffd, svm_host_user(block, page), n * SVM_PAGE_BYTES, 0, &done);
}

int svm_host_poison(struct svm_host *host, struct svm_host_block *block,
		    const struct svm_mask *pages)
{
	const struct svm_mask marked = svm_mask_both(pages, &block->poison);
	struct svm_mask todo = *pages;

	assert(!svm_mask_intersects(pages, &block->cpu));
	/*
	 * There is a touch that the mark has not ended. Its thread faulted just before the mark came, and began to wait just
	 * after: for the kernel a marker is still a missing page (fs/userfaultfd.c, userfaultfd_must_wait()), and nobody else
	 * will wake it. Or the application took the mark away (mprotect(), MADV_DONTNEED of its own memory).
	 */
	svm_host_for_each_run(&marked, page, n)
	{
		int ret = ignore_gone(block, mark_again(host, block, page, n));

		if (ret < 0)
			return ret;
	}
	svm_mask_andnot(&todo, &block->poison);
	svm_host_for_each_run(&todo, page, n)
	{
		int ret = ignore_gone(block, poison_run(host, block, page, n));

		if (ret < 0)
			return ret;
	}
	return 0;
}

bool svm_host_grant_unpoisons(const struct svm_host *host, const struct svm_host_block *block)
{
	return block->kind == SVM_HOST_PRIVATE && svm_uffd_has_poison(svm_host_uffd(host, block)) &&
	       !svm_host_can_zap(host, block);
}

/*
 * Poison is a marker in the page table, and MADV_DONTNEED clears it; where that would wait for the reader
 * of events, a page is copied over the marker, write-protected, and moved away again.
 */
static int replace_marker(struct svm_host *host, struct svm_host_block *block, unsigned int page)
{
	const bool stored = svm_mask_test(&block->back, page);
	struct svm_mask one;
	uint64_t done;
	int ret;

	/*
	 * What is not moved away again stays in sight, and is stale. So ask first: of a mapping whose pages may not be moved
	 * (the application protected it) the kernel says EINVAL before it looks at the page, of a marker EFAULT, and EEXIST if
	 * there is a page in the stash (mm/userfaultfd.c, validate_move_areas() and move_pages_ptes()).
	 */
	ret = svm_uffd_move(&host->uffd, svm_host_stash(block, page), svm_host_user(block, page),
			    SVM_PAGE_BYTES, SVM_UFFD_NO_WAKE | SVM_UFFD_EXCLUSIVE, &done);
	if (ret == -EINVAL)
		return -EBUSY;
	if (ret == 0) {
		/* The application had taken the mark away itself. */
		svm_mask_clear(&block->poison, page);
		svm_mask_set(&block->back, page);
		return 0;
	}
	svm_mask_zero(&one);
	svm_mask_set(&one, page);
	ret = svm_uffd_copy(svm_host_uffd(host, block), svm_host_user(block, page),
			    stored ? svm_ptr(svm_host_stash(block, page)) : svm_host_zeros,
			    SVM_PAGE_BYTES,
			    SVM_UFFD_NO_WAKE | SVM_UFFD_READ_ONLY | SVM_UFFD_EXCLUSIVE, &done);
	if (ret < 0)
		return ret;
	svm_mask_clear(&block->poison, page);
	svm_mask_set(&block->cpu, page);
	svm_mask_set(&block->cpu_ro, page);
	/* Gives the stash page back first: the copy has its bytes. */
	ret = svm_host_private_ops.revoke(host, block, &one);
	if (ret < 0)
		return ret;
	return stored ? 0 : svm_host_private_ops.release(host, block, &one);
}

static int unpoison_run(struct svm_host *host, struct svm_host_block *block, unsigned int page,
			unsigned int n)
{
	const uint64_t user = svm_host_user(block, page);
	struct svm_mask run;
	int ret;

	if (!svm_uffd_has_poison(svm_host_uffd(host, block))) {
		ret = svm_sys->mprotect(svm_ptr(user), n * SVM_PAGE_BYTES, PROT_READ | PROT_WRITE);
	} else if (svm_host_can_zap(host, block)) {
		ret = svm_host_zap(user, n * SVM_PAGE_BYTES);
	} else {
		ret = 0;
		svm_rwlock_read(&host->news_lock);
		for (unsigned int p = page; p < page + n && ret == 0; p++)
			ret = svm_mask_test(&block->dropped, p)
				      ? -EAGAIN
				      : ignore_gone(block, replace_marker(host, block, p));
		svm_rwlock_unlock(&host->news_lock);
		if (ret < 0)
			return ret;
	}
	ret = ignore_gone(block, ret);
	if (ret < 0)
		return ret;
	svm_mask_zero(&run);
	svm_mask_set_range(&run, page, n);
	svm_mask_andnot(&block->poison, &run);
	return 0;
}

int svm_host_unpoison(struct svm_host *host, struct svm_host_block *block,
		      const struct svm_mask *pages)
{
	const struct svm_mask todo = svm_mask_both(pages, &block->poison);

	svm_host_for_each_run(&todo, page, n)
	{
		int ret = unpoison_run(host, block, page, n);

		if (ret < 0)
			return ret;
	}
	return 0;
}
