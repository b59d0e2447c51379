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

static void write_line(int priority, const char *line) {
        if (getenv("JOURNAL_STREAM"))
                fprintf(stderr, "<%i>%s\n", priority, line);
        else
                fprintf(stderr, "spe-broker: %s\n", line);
}

void log_message(int priority, const char *format, ...) {
        char line[LINE_SIZE];
        va_list ap;

        va_start(ap, format);
        vsnprintf(line, sizeof(line), format, ap);
        va_end(ap);
        write_line(priority, line);
}

void log_position(int priority, const char *file, unsigned line, const char *format, ...) {
        char message[LINE_SIZE];
        va_list ap;

        va_start(ap, format);
        vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);

        if (line > 0)
                log_message(priority, "%s:%u: %s", file, line, message);
        else
                log_message(priority, "%s: %s", file, message);
}
