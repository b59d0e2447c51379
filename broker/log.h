/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The journal, through stderr: with the priority in front where PID 1 reads it, plain for a person. Nothing
 * below the broker logs; it returns what there is to say.
 */

#include <syslog.h>

void log_message(int priority, const char *format, ...) __attribute__((__format__(__printf__, 2, 3)));

/* The same, after "FILE:LINE: "; after "FILE: " with a @line of 0, the file as a whole. */
void log_position(int priority, const char *file, unsigned line, const char *format, ...)
        __attribute__((__format__(__printf__, 4, 5)));
