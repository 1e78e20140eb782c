/* SPDX-License-Identifier: MIT */
/*
 * Shared by the emulator's own tests: ioctls as 0 or negative errno, rows of the fact sheet, and
 * the few objects that nearly every test needs.
 */
#ifndef EMU_TEST_H
#define EMU_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants those before it. */
#include <cmocka.h>

#include "../emu_ctl.h"
#include "../emu_drm_uapi.h"
#include "../emu_xe_uapi.h"

#define KIB 1024ull
#define MIB (1024ull * KIB)

int t_ioctl(int fd, unsigned long cmd, const void *arg);
int t_open(int device);

/*
 * One row of the sheet: what is wrong, the errno, the call. Counted; the first miss fails. With
 * EMU_ROWS set to a file, the rows are listed there: README's table is made of it.
 */
void t_row(const char *what, int want, int got, const char *fn, int line);
#define ROW(what, want, call) t_row(what, -(want), call, __func__, __LINE__)
/* A row about one struct: a good one, made bad by a statement on `a`. */
#define BAD(what, want, fd, cmd, good, change)         \
	do {                                           \
		__typeof__(good) a = (good);           \
		change;                                \
		ROW(what, want, t_ioctl(fd, cmd, &a)); \
	} while (0)

#define t_ok(call)                                      \
	do {                                            \
		int t_r = (call);                       \
		if (t_r < 0)                            \
			fail_msg("%s: %d", #call, t_r); \
	} while (0)

/* Ends the test; counted and said. */
#define t_skip(why)               \
	do {                      \
		t_note_skip(why); \
		skip();           \
	} while (0)
void t_note_skip(const char *why);

/* What the device under test is. */
struct t_device {
	uint64_t flags, va_bits, min_align;
	uint32_t wb; /* PAT index to use */
	bool vram, usm;
	uint32_t copy; /* instance of the first copy engine */
};
void t_query(int fd, struct t_device *ret_d);
const char *t_option(const char *name);

uint32_t t_vm(int fd, uint32_t flags);
int t_vm_destroy(int fd, uint32_t vm);
uint32_t t_bo(int fd, uint64_t size, uint32_t placement, uint32_t vm);
void *t_map(int fd, uint32_t bo, uint64_t size);
int t_bo_close(int fd, uint32_t bo);

struct emu_xe_vm_bind t_bind_bo(uint32_t vm, uint32_t bo, uint64_t offset, uint64_t addr,
				uint64_t size, uint32_t pat);
struct emu_xe_vm_bind t_bind_user(uint32_t vm, const void *p, uint64_t addr, uint64_t size,
				  uint32_t pat);
struct emu_xe_vm_bind t_bind_op(uint32_t vm, uint32_t op, uint64_t addr, uint64_t size,
				uint32_t pat);
/* Binds and waits with a syncobj (or a user fence on VMs that know nothing else). */
int t_bind_wait(int fd, struct emu_xe_vm_bind b, bool lr);

uint32_t t_queue(int fd, uint32_t vm, uint16_t class, uint16_t instance);
int t_queue_destroy(int fd, uint32_t queue);
uint32_t t_syncobj(int fd, bool signaled);
int t_syncobj_destroy(int fd, uint32_t handle);
int t_syncobj_wait(int fd, uint32_t handle, int64_t timeout_ns);
uint64_t t_now(void);

/* A VM with a batch buffer and a copy queue, in any mode. */
struct t_gpu {
	int fd;
	struct t_device d;
	uint32_t vm, queue, bo, flags, sync;
	uint64_t batch_addr;
	uint32_t *batch;
	uint64_t *fence; /* for user fences: a page of the batch BO */
	uint64_t fence_value;
};
void t_gpu_open(struct t_gpu *g, int device, uint32_t vm_flags);
void t_gpu_close(struct t_gpu *g);
/* Runs the batch as it stands; 0, or the errno of EXEC or of the wait. */
int t_run(struct t_gpu *g);
/* Submits without waiting. */
int t_submit(struct t_gpu *g);
int t_wait(struct t_gpu *g, int64_t timeout_ns);
bool t_banned(struct t_gpu *g);
/* Writes one command sequence for "store 32 bits" and the end. */
void t_batch_store(struct t_gpu *g, uint64_t addr, uint32_t value);
/* Copy and fill with the command that the platform has. Sizes in whole pages. */
void t_batch_copy(struct t_gpu *g, uint64_t dst, uint64_t src, uint64_t size);
void t_batch_fill(struct t_gpu *g, uint64_t dst, uint64_t size, uint8_t byte);

/* Prints the closing line that a run's reader counts by. */
int t_main(const struct CMUnitTest *tests, size_t n);
#define T_MAIN(tests) t_main(tests, sizeof(tests) / sizeof((tests)[0]))

#endif
