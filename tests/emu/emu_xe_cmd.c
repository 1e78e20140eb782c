// SPDX-License-Identifier: MIT
/*
 * Command streams of the copy, render and compute engines: the part that moves bytes. Encodings
 * from the driver's instructions/xe_mi_commands.h, xe_gpu_commands.h and xe_migrate.c, legality
 * per platform as its profile says. A command that is not known stops the engine.
 */
#include <errno.h>
#include <string.h>

#include "emu_alloc.h"
#include "emu_log.h"
#include "emu_sys.h"
#include "emu_xe.h"

#define PIECE	   (256u << 10)
#define MAX_DWORDS 24
/* How long an engine that goes in circles rests before it looks again. */
#define SPIN_NS 200000

struct stream {
	struct emu_xe_queue *q;
	const struct emu_xe_profile *prof;
	uint64_t at; /* of the command */
	uint64_t bad;
	uint32_t dw[MAX_DWORDS];
	char *bounce;
	bool end, jumped;
	uint64_t deadline;
};

/* ---- memory ---- */

static int fault_mode_fault(struct emu_xe_vm *vm, uint64_t va, bool write)
{
	struct emu_xe_vma *v;
	struct emu_pte pte;
	int r = -EINVAL;

	emu_xe_vm_lock(vm);
	v = emu_xe_vma_of(emu_tree_at(&vm->vmas, va));
	if (!v || vm->closed)
		goto out;
	if (v->kind == EMU_XE_VMA_MIRROR) {
		r = emu_xe_svm_fault(vm, v, va, write);
		goto out;
	}
	r = write && v->readonly ? -EPERM : 0;
	if (r == 0 && v->kind == EMU_XE_VMA_USER) {
		atomic_store(&v->invalid, false);
		r = emu_xe_vma_pin(v);
	}
	if (r == 0 && v->kind == EMU_XE_VMA_BO && emu_xe_bo(v->bo)->purge != EMU_XE_WILLNEED)
		r = -EACCES;
	if (r < 0)
		goto out;
	emu_xe_vma_pte(v, &pte);
	r = emu_pt_map(&vm->pt, v->node.start, v->node.end - v->node.start, &pte);
	if (v->kind == EMU_XE_VMA_USER && atomic_load(&v->invalid))
		emu_pt_unmap(&vm->pt, v->node.start, v->node.end - v->node.start);
out:
	emu_xe_vm_unlock(vm);
	return r;
}

/* Preempted: the worker pins what went, then the engine goes on. */
static int wait_resumed(struct emu_xe_queue *q)
{
	bool was = false;

	for (;;) {
		uint64_t seen = emu_sync_sequence();

		if (!atomic_load(&q->vm->suspended) || atomic_load(&q->q.killed) || q->q.stop)
			return was && !atomic_load(&q->q.killed) ? 0 : -EFAULT;
		was = true;
		emu_sync_wait_change(seen, UINT64_MAX);
	}
}

static int gpu_fault(void *ctx, uint64_t va, bool write)
{
	struct emu_xe_queue *q = ctx;
	struct emu_pte pte;
	bool present;
	uint64_t run;
	int r = -EFAULT;

	if (q->vm->mode == EMU_XE_PREEMPT)
		r = wait_resumed(q);
	pthread_rwlock_rdlock(&q->vm->pt.lock);
	present = emu_pt_lookup(&q->vm->pt, va, &pte, &run);
	pthread_rwlock_unlock(&q->vm->pt.lock);
	/* A write to what is mapped read-only stays wrong, whoever maps. */
	if (q->vm->mode == EMU_XE_FAULTING && !(present && write && pte.readonly))
		r = fault_mode_fault(q->vm, va, write);
	if (r < 0)
		emu_xe_vm_log_fault(q->vm, va, write, present);
	return r;
}

static int gpu_access(struct stream *s, uint64_t va, void *p, size_t n, bool write)
{
	struct emu_xe_vm *vm = s->q->vm;
	uint64_t mask = (1ull << s->prof->va_bits) - 1;

	if (atomic_load(&s->q->q.killed))
		return -ECANCELED;
	/* Addresses in commands are canonical: the page table knows the lower bits. */
	return emu_pt_access(&vm->pt, va & mask, p, n, write, gpu_fault, s->q, &s->bad);
}

int emu_xe_gpu_write(struct emu_xe_queue *q, uint64_t va, const void *p, size_t n,
		     uint64_t *ret_bad)
{
	struct stream s = { .q = q, .prof = emu_xe_dev(q->dev)->prof };
	int r = gpu_access(&s, va, (void *)p, n, true);

	*ret_bad = s.bad;
	return r;
}

static uint64_t addr48(uint32_t lo, uint32_t hi)
{
	return (uint64_t)hi << 32 | lo;
}

static int illegal(struct stream *s, const char *why)
{
	emu_log(EMU_REPORT, "command %#010x at %#llx: %s", s->dw[0], (unsigned long long)s->at,
		why);
	s->bad = s->at;
	return -EFAULT;
}

static int copy_linear(struct stream *s, uint64_t dst, uint64_t src, uint64_t size)
{
	int r = 0;

	while (size && r == 0) {
		size_t n = emu_min(size, PIECE);

		r = gpu_access(s, src, s->bounce, n, false);
		if (r == 0)
			r = gpu_access(s, dst, s->bounce, n, true);
		src += n;
		dst += n;
		size -= n;
	}
	return r;
}

static int copy_rows(struct stream *s, uint64_t dst, uint64_t src, uint32_t width, uint32_t rows,
		     uint32_t dst_pitch, uint32_t src_pitch)
{
	int r = 0;

	if (width == dst_pitch && width == src_pitch)
		return copy_linear(s, dst, src, (uint64_t)width * rows);
	for (uint32_t y = 0; y < rows && r == 0; y++)
		r = copy_linear(s, dst + (uint64_t)y * dst_pitch, src + (uint64_t)y * src_pitch,
				width);
	return r;
}

static void fill_pattern(char *buf, size_t n, uint32_t value)
{
	for (size_t i = 0; i + 4 <= n; i += 4)
		memcpy(buf + i, &value, 4);
}

static int fill_linear(struct stream *s, uint64_t dst, uint64_t size)
{
	int r = 0;

	while (size && r == 0) {
		size_t n = emu_min(size, PIECE);

		r = gpu_access(s, dst, s->bounce, n, true);
		dst += n;
		size -= n;
	}
	return r;
}

static int fill_rows(struct stream *s, uint64_t dst, uint32_t width, uint32_t rows, uint32_t pitch,
		     uint32_t value)
{
	int r = 0;

	fill_pattern(s->bounce, PIECE, value);
	if (width == pitch)
		return fill_linear(s, dst, (uint64_t)width * rows);
	for (uint32_t y = 0; y < rows && r == 0; y++)
		r = fill_linear(s, dst + (uint64_t)y * pitch, width);
	return r;
}

/* ---- MI commands ---- */

static int store_data(struct stream *s)
{
	bool qword = s->dw[0] & 1u << 21;

	return gpu_access(s, addr48(s->dw[1], s->dw[2]), &s->dw[3], qword ? 8 : 4, true);
}

static int flush_dw(struct stream *s)
{
	uint32_t op = s->dw[0] >> 14 & 3, len = s->dw[0] & 0x3f;

	if (op == 0)
		return 0;
	if (op != 1)
		return illegal(s, "post-sync operation not modelled");
	/* Bit 2 chooses the global table, which no program's batch may use. */
	if (s->dw[1] & 4)
		return illegal(s, "global address in a batch");
	return gpu_access(s, addr48(s->dw[1], s->dw[2]), &s->dw[3], len == 3 ? 8 : 4, true);
}

static int copy_mem_mem(struct stream *s)
{
	uint32_t v;
	int r = gpu_access(s, addr48(s->dw[3], s->dw[4]), &v, 4, false);

	return r < 0 ? r : gpu_access(s, addr48(s->dw[1], s->dw[2]), &v, 4, true);
}

/* PIPE_CONTROL: bits 15:14 of dword 1 choose the post-sync operation, 1 being a qword. */
static int pipe_control(struct stream *s)
{
	uint32_t op = s->dw[1] >> 14 & 3;

	if (s->q->class == EMU_XE_COPY)
		return illegal(s, "not for a copy engine");
	if (op == 0)
		return 0;
	if (op != 1)
		return illegal(s, "post-sync operation not modelled");
	return gpu_access(s, addr48(s->dw[2], s->dw[3]), &s->dw[4], 8, true);
}

/* A jump back is how programs keep an engine busy until they change the batch. */
static int batch_start(struct stream *s)
{
	uint64_t now = emu_now_ns(), to = addr48(s->dw[1] & ~3u, s->dw[2]);

	if (to <= s->at) {
		if (now >= s->deadline)
			return -ETIME;
		emu_queue_pause(&s->q->q, now + SPIN_NS);
		if (s->q->q.stop || atomic_load(&s->q->q.killed))
			return -ECANCELED;
	}
	s->at = to;
	s->jumped = true;
	return 0;
}

/* Goes on while the dword in memory is greater than the one in the command. */
static int conditional_end(struct stream *s)
{
	uint32_t v;
	int r;

	if (!(s->dw[0] & 1u << 21))
		return illegal(s, "no comparison asked for");
	r = gpu_access(s, addr48(s->dw[2], s->dw[3]), &v, 4, false);
	if (r == 0 && v <= s->dw[1])
		s->end = true;
	return r;
}

/* ---- copy and fill ---- */

static bool copy_engine(const struct stream *s)
{
	return s->q->class == EMU_XE_COPY;
}

static int check_xy(struct stream *s)
{
	if (!copy_engine(s))
		return illegal(s, "not on this engine class");
	if (!s->prof->xy_blt || s->q->instance >= s->prof->first_service)
		return illegal(s, "XY commands do not exist on this copy engine");
	return 0;
}

#define TILE_4_BITS (3u << 30)

static int fast_copy(struct stream *s)
{
	const uint32_t *d = s->dw;
	uint32_t dst_pitch = d[1] & 0xffff, src_pitch = d[7] & 0xffff;
	uint32_t x2 = d[3] & 0xffff, y2 = d[3] >> 16;
	uint64_t dst = addr48(d[4], d[5]), src = addr48(d[8], d[9]);
	bool tiles = (d[1] & TILE_4_BITS) == TILE_4_BITS;
	int r = check_xy(s);

	if (r < 0)
		return r;
	if ((d[1] >> 24 & 7) != 3)
		return illegal(s, "colour depth is not 32 bits");
	if (tiles != (s->prof->ip >= 1250))
		return illegal(s, "bits 31:30 of dword 1 do not fit the platform");
	if (dst_pitch % 4 || src_pitch % 4 || !dst_pitch || !src_pitch)
		return illegal(s, "pitch is not a multiple of 4");
	if (d[2] || d[6])
		return illegal(s, "only whole rectangles from the origin are modelled");
	if (x2 > 32767 || y2 > 32767 || dst % 64 || src % 64)
		return illegal(s, "rectangle or address out of limits");
	return copy_rows(s, dst, src, x2 * 4, y2, dst_pitch, src_pitch);
}

static int fast_color(struct stream *s)
{
	const uint32_t *d = s->dw;
	uint32_t pitch = (d[1] & 0x3ffff) + 1, x2 = d[3] & 0xffff, y2 = d[3] >> 16;
	int r = check_xy(s);

	if (r < 0)
		return r;
	if ((d[0] & 0xff) + 2 != s->prof->color_dwords)
		return illegal(s, "length does not fit the platform");
	if (d[2] || x2 > 32767 || y2 > 32767)
		return illegal(s, "rectangle out of limits");
	return fill_rows(s, addr48(d[4], d[5]), x2 * 4, y2, pitch, d[7]);
}

#define COPY_PAGE_MODE (1u << 19)
#define COPY_MATRIX    (1u << 17)

static int mem_copy(struct stream *s)
{
	const uint32_t *d = s->dw;
	uint64_t src = addr48(d[5], d[6]), dst = addr48(d[7], d[8]), width;

	if (!copy_engine(s) || !s->prof->mem_copy)
		return illegal(s, "not on this engine");
	if (d[0] & COPY_PAGE_MODE) {
		width = ((uint64_t)(d[1] & 0xffffff) + 1) * 256;
		if (src % 256 || dst % 256)
			return illegal(s, "page mode wants 256-byte alignment");
		return copy_linear(s, dst, src, width);
	}
	if (d[1] >> 18)
		return illegal(s, "width out of limits");
	width = (d[1] & 0x3ffff) + 1;
	if (!(d[0] & COPY_MATRIX))
		return copy_linear(s, dst, src, width);
	return copy_rows(s, dst, src, (uint32_t)width, (d[2] & 0x3ffff) + 1, (d[4] & 0x3ffff) + 1,
			 (d[3] & 0x3ffff) + 1);
}

static int mem_set(struct stream *s)
{
	const uint32_t *d = s->dw;
	uint64_t dst = addr48(d[4], d[5]);
	uint32_t value = (d[6] >> 24) * 0x01010101u;

	if (!copy_engine(s) || !s->prof->mem_copy)
		return illegal(s, "not on this engine");
	if (!(d[0] & COPY_MATRIX))
		return fill_rows(s, dst, (d[1] & 0xffffff) + 1, 1, 0, value);
	if (d[1] >> 18 || d[2] >> 18 || d[3] >> 18)
		return illegal(s, "width, height or pitch out of limits");
	return fill_rows(s, dst, d[1] + 1, d[2] + 1, d[3] + 1, value);
}

/* ---- decoding ---- */

struct command {
	uint32_t mask, value;
	uint32_t dwords; /* 0: the length field plus two */
	int (*run)(struct stream *s);
};

static int nothing(struct stream *s)
{
	(void)s;
	return 0;
}

static int end(struct stream *s)
{
	s->end = true;
	return 0;
}

static const struct command commands[] = {
	{ 0xff800000, 0x00000000, 1, nothing },		/* MI_NOOP */
	{ 0xff800000, 0x05000000, 1, end },		/* MI_BATCH_BUFFER_END */
	{ 0xff800000, 0x04000000, 1, nothing },		/* MI_ARB_ON_OFF */
	{ 0xff800000, 0x02800000, 1, nothing },		/* MI_ARB_CHECK */
	{ 0xffdffffe, 0x10000002, 0, store_data },	/* MI_STORE_DATA_IMM, dword or qword */
	{ 0xff800000, 0x13000000, 0, flush_dw },	/* MI_FLUSH_DW */
	{ 0xff8000ff, 0x17000003, 5, copy_mem_mem },	/* MI_COPY_MEM_MEM */
	{ 0xff8000ff, 0x18800001, 3, batch_start },	/* MI_BATCH_BUFFER_START */
	{ 0xff8000ff, 0x1b000002, 4, conditional_end }, /* MI_COND_BATCH_BUFFER_END */
	{ 0xffff0000, 0x7a000000, 6, pipe_control },
	{ 0xffc000ff, 0x50800008, 10, fast_copy },
	{ 0xffc00000, 0x51000000, 0, fast_color },
	{ 0xffc000ff, 0x56800008, 10, mem_copy },
	{ 0xffc000ff, 0x56c00005, 7, mem_set },
};

static const struct command *find(uint32_t dw0)
{
	for (size_t i = 0; i < EMU_ARRAY_SIZE(commands); i++)
		if ((dw0 & commands[i].mask) == commands[i].value)
			return &commands[i];
	return NULL;
}

static int step(struct stream *s)
{
	const struct command *c;
	uint32_t n;
	int r = gpu_access(s, s->at, s->dw, 4, false);

	if (r < 0)
		return r;
	c = find(s->dw[0]);
	if (!c)
		return illegal(s, "not known");
	n = c->dwords ? c->dwords : (s->dw[0] & 0xff) + 2;
	if (n > MAX_DWORDS)
		return illegal(s, "too long");
	if (n > 1)
		r = gpu_access(s, s->at + 4, s->dw + 1, (n - 1) * sizeof(uint32_t), false);
	if (r < 0)
		return r;
	s->jumped = false;
	r = c->run(s);
	if (!s->jumped)
		s->at += n * 4ull;
	return r;
}

int emu_xe_batch(struct emu_xe_queue *q, uint64_t addr, uint64_t *ret_bad)
{
	struct stream s = { .q = q, .prof = emu_xe_dev(q->dev)->prof, .at = addr, .bad = addr };
	bool limited = q->vm->mode == EMU_XE_DMA_FENCE;
	int r = 0;

	s.deadline = limited ? emu_now_ns() + emu_xe_dev(q->dev)->job_timeout_ns : UINT64_MAX;
	if (addr % 4 || !(s.bounce = emu_alloc(PIECE)))
		return -EFAULT;
	while (r == 0 && !s.end) {
		if (q->vm->mode == EMU_XE_PREEMPT && atomic_load(&q->vm->suspended))
			wait_resumed(q);
		r = step(&s);
	}
	emu_free(s.bounce);
	*ret_bad = s.bad;
	return r;
}
