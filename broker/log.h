/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The journal where systemd runs the broker, stderr for a person. Nothing below the broker logs; it returns
 * what there is to say.
 */

#include <stddef.h>
#include <stdint.h>
#include <syslog.h>

void log_message(int priority, const char *format, ...) __attribute__((__format__(__printf__, 2, 3)));

/*
 * The same about a configuration file: after "FILE:LINE: ", or after "FILE: " with a @line of 0, the file as
 * a whole. The journal has these as CONFIG_FILE= and CONFIG_LINE=.
 */
void log_position(int priority, const char *file, unsigned line, const char *format, ...)
        __attribute__((__format__(__printf__, 4, 5)));

#define LOG_NUMBER_MAX   sizeof("-9223372036854775808")
#define LOG_LEFT_OUT_MAX sizeof(" (before it, 4294967295 like it were left out)")

/* What messages are made of. */
const char *log_number(int64_t value, char text[static LOG_NUMBER_MAX]);
/* What follows the message after @n that were too many; nothing for 0. */
const char *log_left_out(unsigned n, char text[static LOG_LEFT_OUT_MAX]);

/* A field of a message in the journal, "SPE_BROKER_VM"; one without a value is left out. */
typedef struct LogField {
        const char *name;
        const char *value;
} LogField;

/* An event that programs look for: by @message_id, 32 hexadecimal digits, and with @fields. On stderr, the
 * message alone. */
void log_event(int priority, const char *message_id, const LogField *fields, size_t n_fields,
               const char *format, ...) __attribute__((__format__(__printf__, 5, 6)));
