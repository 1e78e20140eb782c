/* SPDX-License-Identifier: MIT */
/*
 * What the emulator says: lines on stderr, written with one write(2), no stdio, no malloc.
 */
#ifndef EMU_LOG_H
#define EMU_LOG_H

enum emu_level { EMU_QUIET, EMU_REPORT, EMU_TRACE };

extern enum emu_level emu_log_level;

__attribute__((format(printf, 2, 3))) void emu_log(enum emu_level level, const char *fmt, ...);

/*
 * The program did what the kernel lets pass or cannot tell, but what no correct program does.
 * Counted, written, and fatal by option.
 */
__attribute__((format(printf, 1, 2))) void emu_strict(const char *fmt, ...);

#endif
