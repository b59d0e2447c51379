/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Sentences on stderr: what, why, what to do. One line each. */

#define _printf_(format, arguments) __attribute__((__format__(__printf__, format, arguments)))

/* "speadm: SENTENCE". */
_printf_(1, 2) void complain(const char *format, ...);
/* The same, with a word on where help is; returns SPEADM_USAGE. */
_printf_(1, 2) int complain_usage(const char *format, ...);
/* Returns SPEADM_FAILED. */
int complain_memory(void);
