/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One line per message, in one write, so that lines of two processes never mix. JOURNAL_STREAM says that PID
 * 1 reads stderr and takes "<4>" as a priority (sd-daemon(3)).
 */

#include "broker/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void log_message(int priority, const char *format, ...) {
        char line[2048];
        va_list ap;

        va_start(ap, format);
        vsnprintf(line, sizeof(line), format, ap);
        va_end(ap);

        if (getenv("JOURNAL_STREAM"))
                fprintf(stderr, "<%i>%s\n", priority, line);
        else
                fprintf(stderr, "spe-broker: %s\n", line);
}
