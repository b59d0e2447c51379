/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One line per message, in one write, so that lines of two processes never mix. JOURNAL_STREAM says that PID
 * 1 reads stderr and takes "<4>" as a priority (sd-daemon(3)).
 */

#include "broker/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LINE_SIZE 2048U

__attribute__((__format__(__printf__, 4, 0))) static void
write_line(int priority, const char *file, unsigned line, const char *format, va_list ap) {
        char message[LINE_SIZE], position[LINE_SIZE] = "";

        (void)vsnprintf(message, sizeof(message), format, ap);
        if (file && line > 0)
                (void)snprintf(position, sizeof(position), "%s:%u: ", file, line);
        else if (file)
                (void)snprintf(position, sizeof(position), "%s: ", file);

        if (getenv("JOURNAL_STREAM"))
                fprintf(stderr, "<%i>%s%s\n", priority, position, message);
        else
                fprintf(stderr, "spe-broker: %s%s\n", position, message);
}

void log_message(int priority, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        write_line(priority, NULL, 0, format, ap);
        va_end(ap);
}

void log_position(int priority, const char *file, unsigned line, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        write_line(priority, file, line, format, ap);
        va_end(ap);
}
