/* SPDX-License-Identifier: MIT */
/*
 * The options of `name=value[,name=value...]`, each for all devices or, as `name@1=value`, for
 * one. Declared once; the launcher checks and lists them, the preloaded library reads them.
 */
#ifndef EMU_OPT_H
#define EMU_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum emu_opt_kind { EMU_OPT_WORD, EMU_OPT_SIZE, EMU_OPT_NUMBER, EMU_OPT_BOOL, EMU_OPT_TEXT };

struct emu_opt {
	const char *name;
	enum emu_opt_kind kind;
	const char *def;
	const char *words; /* EMU_OPT_WORD: those allowed, separated by '|' */
	const char *help;
};

extern const struct emu_opt emu_opts[];
extern const size_t emu_n_opts;

/* Checks a whole option text; on failure the reason is in why. */
bool emu_opt_check(const char *text, int n_devices, char *why, size_t why_size);

/* The value for a device (-1: any), the default when it is not given. Unknown names trap. */
void emu_opt_value(const char *text, int device, const char *name, char *buf, size_t size);
uint64_t emu_opt_u64(const char *text, int device, const char *name);
bool emu_opt_bool(const char *text, int device, const char *name);

/* "64K", "2M", "1G", "4096"; false when it is no size. */
bool emu_opt_parse_size(const char *s, uint64_t *ret_size);
/* "EIO" -> 5; 0 when unknown. */
int emu_opt_errno(const char *name);

#endif
