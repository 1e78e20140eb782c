// SPDX-License-Identifier: MIT
#include "emu_alloc.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "emu_util.h"

#define ARENA_SIZE (8ull << 30)
#define MIN_SHIFT  5
#define N_CLASSES  30
#define MAGIC_LIVE 0x656d756c
#define MAGIC_DEAD 0x64656164

/* Before each block; the block's class is the power of two that holds header and payload. */
struct header {
	uint32_t magic;
	uint32_t shift;
	struct header *next;
};

_Static_assert(sizeof(struct header) == 16, "payload stays 16-byte aligned");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *arena;
static uint64_t arena_used;
static struct header *free_list[N_CLASSES];

int emu_alloc_init(void)
{
	long p;

	p = syscall(SYS_mmap, NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == -1)
		return -errno;
	arena = (char *)p;
	return 0;
}

static unsigned class_of(size_t size)
{
	unsigned shift = MIN_SHIFT;

	while (((size_t)1 << shift) < size + sizeof(struct header))
		shift++;
	return shift;
}

static struct header *take(unsigned shift)
{
	struct header *h = free_list[shift];

	if (h) {
		free_list[shift] = h->next;
		return h;
	}
	if (!arena || ARENA_SIZE - arena_used < ((uint64_t)1 << shift))
		return NULL;
	h = (struct header *)(arena + arena_used);
	arena_used += (uint64_t)1 << shift;
	h->magic = 0;
	return h;
}

void *emu_alloc(size_t size)
{
	unsigned shift;
	struct header *h;
	bool fresh;

	if (size > ((size_t)1 << (N_CLASSES - 2)))
		return NULL;
	shift = class_of(size);
	pthread_mutex_lock(&lock);
	h = take(shift);
	pthread_mutex_unlock(&lock);
	if (!h)
		return NULL;
	fresh = h->magic == 0;
	h->magic = MAGIC_LIVE;
	h->shift = shift;
	h->next = NULL;
	if (!fresh)
		memset(h + 1, 0, size);
	return h + 1;
}

void emu_free(void *ptr)
{
	struct header *h;

	if (!ptr)
		return;
	h = (struct header *)ptr - 1;
	if (h->magic != MAGIC_LIVE)
		__builtin_trap();
	h->magic = MAGIC_DEAD;
	/* A big block gives its pages back; the header's page stays. */
	if (h->shift >= 18) {
		char *from = (char *)emu_align_up((uint64_t)(h + 1), EMU_PAGE);
		char *to =
			(char *)emu_align_down((uint64_t)h + ((uint64_t)1 << h->shift), EMU_PAGE);

		if (syscall(SYS_madvise, from, to - from, MADV_DONTNEED) != 0)
			memset(from, 0, (size_t)(to - from));
	}
	pthread_mutex_lock(&lock);
	h->next = free_list[h->shift];
	free_list[h->shift] = h;
	pthread_mutex_unlock(&lock);
}

char *emu_strdup(const char *s)
{
	size_t n = strlen(s) + 1;
	char *p = emu_alloc(n);

	if (p)
		memcpy(p, s, n);
	return p;
}

void emu_alloc_lock(void)
{
	pthread_mutex_lock(&lock);
}

void emu_alloc_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

void emu_alloc_reset_lock(void)
{
	pthread_mutex_init(&lock, NULL);
}
