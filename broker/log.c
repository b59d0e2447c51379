/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One line per message, in one write, so that lines of two processes never mix. Where stderr is the
 * journal's, the message goes there by its own protocol instead: with its priority, and a position in a
 * configuration file as fields to search by, named as systemd's own.
 */

#include "broker/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION /* it would always be this file's */
#include <systemd/sd-journal.h>
#include <systemd/sd-messages.h>

#define DELETE     0x7f
#define LINE_SIZE  2048U
#define FIELDS_MAX 13U /* of one event, its own three included */

/* "NAME=" and its value. */
typedef struct FieldText {
        char text[LINE_SIZE + 32];
} FieldText;

/* Of what PID 1 connected stderr to, JOURNAL_STREAM tells device and inode; it may be redirected since then.
 */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        char mine[2 * sizeof("18446744073709551615")];
        struct stat st;

        if (!stream || fstat(STDERR_FILENO, &st) < 0)
                return false;

        (void)snprintf(mine, sizeof(mine), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
        return strcmp(stream, mine) == 0;
}

/* The fields end with the first NULL: without @file, no position; with a @line of 0, no line. */
static int send_to_journal(int priority, const char *file, unsigned line, const char *text) {
        return sd_journal_send("MESSAGE=%s", text, "PRIORITY=%i", priority,
                               file ? "MESSAGE_ID=" SD_MESSAGE_INVALID_CONFIGURATION_STR : NULL,
                               "CONFIG_FILE=%s", file, line > 0 ? "CONFIG_LINE=%u" : NULL, line, NULL);
}

/* A process calls itself what it likes, and shall not write lines of ours. */
static void clean(char *text) {
        for (; *text; text++)
                if ((unsigned char)*text < ' ' || *text == DELETE)
                        *text = '?';
}

/* As sd-daemon(3) has it. */
static void write_prefixed(int priority, const char *text) {
        fprintf(stderr, "<%i>%s\n", priority, text);
}

__attribute__((__format__(__printf__, 4, 0))) static void
write_line(int priority, const char *file, unsigned line, const char *format, va_list ap) {
        char message[LINE_SIZE], text[2 * LINE_SIZE];

        (void)vsnprintf(message, sizeof(message), format, ap);
        clean(message);
        if (file && line > 0)
                (void)snprintf(text, sizeof(text), "%s:%u: %s", file, line, message);
        else
                (void)snprintf(text, sizeof(text), "%s%s%s", file ?: "", file ? ": " : "", message);

        if (!stderr_is_journal())
                fprintf(stderr, "spe-broker: %s\n", text);
        else if (send_to_journal(priority, file, line, text) < 0)
                write_prefixed(priority, text);
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

const char *log_number(int64_t value, char text[static LOG_NUMBER_MAX]) {
        (void)snprintf(text, LOG_NUMBER_MAX, "%" PRIi64, value);
        return text;
}

const char *log_left_out(unsigned n, char text[static LOG_LEFT_OUT_MAX]) {
        *text = '\0';
        if (n > 0)
                (void)snprintf(text, LOG_LEFT_OUT_MAX, " (before it, %u like it were left out)", n);
        return text;
}

static struct iovec make_field(FieldText *field, const char *name, const char *value) {
        int n = snprintf(field->text, sizeof(field->text), "%s=%s", name, value);
        size_t length = n < 0 ? 0 : (size_t)n;

        return (struct iovec){field->text, length < sizeof(field->text) ? length : sizeof(field->text) - 1};
}

static int send_event(int priority, const char *message_id, const LogField *fields, size_t n_fields,
                      const char *message) {
        char digit[] = {(char)('0' + priority), '\0'};
        FieldText texts[FIELDS_MAX];
        struct iovec iov[FIELDS_MAX];
        int n = 0;

        assert(n_fields + 3 <= FIELDS_MAX);
        iov[n] = make_field(&texts[n], "MESSAGE", message);
        n++;
        iov[n] = make_field(&texts[n], "PRIORITY", digit);
        n++;
        iov[n] = make_field(&texts[n], "MESSAGE_ID", message_id);
        n++;
        for (size_t i = 0; i < n_fields; i++)
                if (fields[i].value) {
                        iov[n] = make_field(&texts[n], fields[i].name, fields[i].value);
                        n++;
                }

        return sd_journal_sendv(iov, n);
}

void log_event(int priority, const char *message_id, const LogField *fields, size_t n_fields,
               const char *format, ...) {
        char message[LINE_SIZE];
        va_list ap;

        va_start(ap, format);
        (void)vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);
        clean(message);

        if (!stderr_is_journal())
                fprintf(stderr, "spe-broker: %s\n", message);
        else if (send_event(priority, message_id, fields, n_fields, message) < 0)
                write_prefixed(priority, message);
}
