// SPDX-License-Identifier: MIT
/*
 * The shared window is one PROT_NONE mapping; binding is one mmap(MAP_FIXED) of device memory or of
 * shared host storage over it, unbinding one of PROT_NONE. The kernel does each under the lock of the
 * address space, page faults of other threads wait for it, and it flushes their TLBs: an engine
 * sees the old mapping or the new one and never a moment between.
 *
 * Page tables cost more than all else here: 512 entries take 0.1 to 0.2 ms to fill, and as much to empty. But
 * mremap() of 2 MiB moves a whole table with one pointer (move_normal_pmd() in mm/mremap.c), in 5 us. So a block of device
 * memory that is mapped whole and writable takes its table along: from its home, a place that only this file knows, to
 * where it is bound, and home again. MREMAP_DONTUNMAP leaves the mapping where the table was: there is no moment
 * in which the address is free for others, and nothing to put back where it came from.
 */
#include "soft_mmu.h"
#include <errno.h>
#include <libsvm/types.h>
#include <stdbool.h>
#include <sys/mman.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4 /* Linux 5.7; of shared mappings 5.13 */
#endif

static struct {
	int memory_fd;
	int host_fd;
	uint64_t own_base;
	uint64_t home;
	struct svm_soft_chunk *chunks;
	uint32_t *heads; /* lists of chunks, by the address of the block that maps them */
	uint32_t n_chunks;
} mmu;

/* mmap() as the system call: a sanitizer's wrapper would map shadow for windows of any size. */
int svm_soft_map_fixed(uint64_t addr, uint64_t size, int prot, int flags, int fd, uint64_t offset)
{
	long ret = syscall(SYS_mmap, addr, size, prot, flags | MAP_FIXED, fd, offset);

	return ret == -1 ? -errno : 0;
}

static int map_nothing(uint64_t addr, uint64_t size)
{
	return svm_soft_map_fixed(addr, size, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/* ---- Limits ----------------------------------------------------------------------------------- */

/*
 * The kernel limits how many mappings a process has (vm.max_map_count), and at the limit mmap() refuses
 * even where it would replace one by one. munmap() of a whole mapping always works. So some are kept in
 * hand: single readable pages in the guard below the control thread's stacks.
 */
#define N_SPARES 4u

static uint64_t spare_page(uint32_t i)
{
	return svm_soft_guard_base(mmu.own_base, SVM_SOFT_CONTROL_STACK) +
	       (1u + 2u * i) * (uint64_t)SVM_PAGE_SIZE;
}

static int spares_take(void)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < N_SPARES; i++)
		ret = svm_soft_map_fixed(spare_page(i), SVM_PAGE_SIZE, PROT_READ,
					 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return ret;
}

static void spares_give(void)
{
	for (uint32_t i = 0; i < N_SPARES; i++)
		(void)syscall(SYS_munmap, spare_page(i), SVM_PAGE_SIZE);
}

/* ---- Page tables that move -------------------------------------------------------------------- */

static uint64_t home_of(uint32_t chunk)
{
	return mmu.home + (chunk - 1u) * (uint64_t)SVM_BLOCK_SIZE;
}

static uint32_t *list_of(uint64_t addr)
{
	/* Blocks in a row come to lists in a row. */
	return &mmu.heads[addr / SVM_BLOCK_SIZE & (svm_soft_n_heads(mmu.n_chunks) - 1u)];
}

static uint32_t chunk_at(uint64_t addr)
{
	uint32_t chunk = *list_of(addr);

	while (chunk && mmu.chunks[chunk].addr != addr)
		chunk = mmu.chunks[chunk].next;
	return chunk;
}

/* The block maps the chunk, and nothing else. */
static void remember(uint64_t addr, uint32_t chunk)
{
	uint32_t *list = list_of(addr);

	mmu.chunks[chunk].addr = addr;
	mmu.chunks[chunk].next = *list;
	*list = chunk;
}

static void forget(uint32_t chunk)
{
	struct svm_soft_chunk *c = &mmu.chunks[chunk];
	uint32_t *link;

	if (!c->addr)
		return;
	link = list_of(c->addr);
	while (*link != chunk)
		link = &mmu.chunks[*link].next;
	*link = c->next;
	c->addr = 0;
}

static int move_table(uint64_t from, uint64_t to)
{
	long ret = syscall(SYS_mremap, from, SVM_BLOCK_SIZE, SVM_BLOCK_SIZE,
			   MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to);

	return ret == -1 ? -errno : 0;
}

/* What is bound there is about to be replaced, by one mmap(). */
static void send_home(uint64_t addr)
{
	uint32_t chunk = chunk_at(addr);

	if (!chunk)
		return;
	forget(chunk);
	mmu.chunks[chunk].has_table = move_table(addr, home_of(chunk)) == 0;
	/* It may have taken away what was there before it found that it cannot. Where this fails as well, the next table that
	 * comes replaces whatever is there. */
	if (!mmu.chunks[chunk].has_table)
		(void)map_nothing(home_of(chunk), SVM_BLOCK_SIZE);
}

/* The same of part of a block, or of a range of them: their tables are not worth keeping. */
static void forget_range(uint64_t addr, uint64_t size)
{
	uint64_t block = addr & ~(uint64_t)(SVM_BLOCK_SIZE - 1u);

	if (size <= SVM_BLOCK_SIZE && addr + size <= block + SVM_BLOCK_SIZE) {
		uint32_t chunk = chunk_at(block);

		if (chunk)
			forget(chunk);
		return;
	}
	for (uint32_t i = 1; i <= mmu.n_chunks; i++)
		if (mmu.chunks[i].addr >= block && mmu.chunks[i].addr < addr + size)
			forget(i);
}

static bool is_whole(const struct svm_soft_bind_cmd *cmd)
{
	return cmd->size == SVM_BLOCK_SIZE && cmd->addr % SVM_BLOCK_SIZE == 0;
}

static void leave(const struct svm_soft_bind_cmd *cmd)
{
	if (is_whole(cmd))
		send_home(cmd->addr);
	else
		forget_range(cmd->addr, cmd->size);
}

/* ---- Binding ---------------------------------------------------------------------------------- */

/* The storage that was mapped there may be given away next: it must not stay reachable. */
static int unbind(uint64_t addr, uint64_t size)
{
	int ret = map_nothing(addr, size);

	if (ret < 0) {
		spares_give();
		ret = map_nothing(addr, size);
		/* Where that fails, the next unbind at the limit ends the device. */
		(void)spares_take();
	}
	return ret < 0 ? -ENOTRECOVERABLE : 0;
}

/*
 * The pages exist and are about to be used. Writes would meet them one fault at a time, so writable
 * bindings are populated; reads are served 16 pages a fault, which costs less than to populate
 * (measured on Linux 6.18: 0.95, 0.18 and 0.1 ms a block for lazy writes, populating, lazy reads).
 */
static int map_file(const struct svm_soft_bind_cmd *cmd, int fd)
{
	bool write = cmd->flags & SVM_SOFT_BIND_WRITE;

	return svm_soft_map_fixed(cmd->addr, cmd->size, write ? PROT_READ | PROT_WRITE : PROT_READ,
				  write ? MAP_SHARED | MAP_POPULATE : MAP_SHARED, fd, cmd->offset);
}

static int bind(const struct svm_soft_bind_cmd *cmd, int fd)
{
	int ret = map_file(cmd, fd);

	if (ret == 0)
		return 0;
	/* It may still fit, if it needs no more mappings than it replaces. */
	spares_give();
	ret = map_file(cmd, fd);
	if (ret == 0)
		ret = spares_take();
	if (ret < 0) {
		int error = unbind(cmd->addr, cmd->size);

		(void)spares_take();
		ret = error < 0 ? error : ret;
	}
	return ret;
}

static int bind_memory(const struct svm_soft_bind_cmd *cmd)
{
	uint32_t chunk = (uint32_t)(cmd->offset / SVM_BLOCK_SIZE) + 1u;
	bool keeps = is_whole(cmd) && cmd->flags & SVM_SOFT_BIND_WRITE &&
		     cmd->offset % SVM_BLOCK_SIZE == 0 && chunk <= mmu.n_chunks;
	int ret;

	if (keeps && mmu.chunks[chunk].addr == cmd->addr)
		return 0;
	leave(cmd);
	if (!keeps)
		return bind(cmd, mmu.memory_fd);
	forget(chunk);
	ret = mmu.chunks[chunk].has_table ? move_table(home_of(chunk), cmd->addr) : -ENOENT;
	mmu.chunks[chunk].has_table = false;
	if (ret < 0)
		ret = bind(cmd, mmu.memory_fd);
	if (ret == 0)
		remember(cmd->addr, chunk);
	return ret;
}

int svm_soft_mmu_run(const struct svm_soft_bind_cmd *cmd)
{
	switch (cmd->op) {
	case SVM_SOFT_BIND_MEMORY:
		return bind_memory(cmd);
	case SVM_SOFT_BIND_HOST:
		leave(cmd);
		return bind(cmd, mmu.host_fd);
	case SVM_SOFT_BIND_NONE:
		leave(cmd);
		return unbind(cmd->addr, cmd->size);
	case SVM_SOFT_BIND_SPAN_ADD:
		forget_range(cmd->addr, cmd->size);
		return map_nothing(cmd->addr, cmd->size);
	case SVM_SOFT_BIND_SPAN_REMOVE:
		forget_range(cmd->addr, cmd->size);
		return syscall(SYS_munmap, cmd->addr, cmd->size) ? -errno : 0;
	default:
		return -ENOTRECOVERABLE;
	}
}

int svm_soft_mmu_init(const struct svm_soft_proc_args *args)
{
	uint64_t table = args->home_base + args->n_chunks * (uint64_t)SVM_BLOCK_SIZE;
	int ret;

	mmu.memory_fd = args->memory_fd;
	mmu.host_fd = args->host_fd;
	mmu.own_base = args->own_base;
	mmu.home = args->home_base;
	mmu.n_chunks = args->n_chunks;
	mmu.chunks = (struct svm_soft_chunk *)(uintptr_t)table;
	mmu.heads = (uint32_t *)(mmu.chunks + mmu.n_chunks + 1u);
	ret = map_nothing(args->window_base, args->window_size);
	if (ret == 0)
		ret = svm_soft_map_fixed(table, svm_soft_table_size(mmu.n_chunks),
					 PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return ret < 0 ? ret : spares_take();
}
