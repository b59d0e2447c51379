/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The kernel's log. A line is cut to a fixed buffer as it comes in, so nothing is allocated whatever the log
 * holds; then its head is taken off once, and what is left is made printable. An escaped newline stays within
 * its message: text that somebody smuggled into one cannot begin another.
 */

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "host/kernel-log.h"
#include "util/cleanup.h"

#define FILE_CHUNK 16384U

/* The kernel's own bound for a record is 8 KiB. */
#define RECORD_MAX 16384U

/* Each record counts for at least so much of KERNEL_LOG_BYTES_MAX, which bounds their number too. */
#define RECORD_COST 64U

/* A syslog priority is a facility times 8, plus a level; facility 0 is the kernel itself. */
#define LEVELS 8U

#define REPLACEMENT '?'

static const char *skip_digits(const char *p, unsigned *ret_value) {
        unsigned value = 0;

        while (isdigit((unsigned char)*p)) {
                value = value < 100000 ? value * 10 + (unsigned)(*p - '0') : value;
                p++;
        }
        if (ret_value)
                *ret_value = value;
        return p;
}

/* "6,339,5140900,-;" of a record, and whatever stands in it after the flags. NULL: not a record's head. */
static const char *skip_record_head(const char *p, unsigned *ret_priority) {
        for (unsigned field = 0; field < 3; field++) {
                const char *end = skip_digits(p, field == 0 ? ret_priority : NULL);

                if (end == p || *end != ',')
                        return NULL;
                p = end + 1;
        }
        p = strchr(p, ';');
        return p ? p + 1 : NULL;
}

/* What is between brackets is all of @accept, with a digit at its end. */
static bool is_number_in_brackets(const char *p, const char *accept) {
        const char *end = p + 1 + strspn(p + 1, accept);

        return *p == '[' && *end == ']' && isdigit((unsigned char)end[-1]);
}

/* As dmesg -T has it, which is ctime(3)'s: "[Mon Nov 23 10:02:11 2026]". */
static bool is_date_in_brackets(const char *p) {
        static const char shape[] = "[Aaa Aaa 00 00:00:00 0000]";

        for (const char *s = shape; *s; s++, p++) {
                if (*s == 'A' || *s == 'a' ? !isalpha((unsigned char)*p)
                    : *s == '0'            ? !isdigit((unsigned char)*p) && *p != ' '
                                           : *p != *s)
                        return false;
        }
        return true;
}

/* The time, then perhaps, right after it, the thread or CPU that spoke: "[    T1]". A text that itself begins
 * with a bracket keeps it. */
static const char *skip_times(const char *p) {
        if (!is_number_in_brackets(p, " .0123456789") && !is_date_in_brackets(p))
                return p;
        p = strchr(p, ']') + 1;
        if (is_number_in_brackets(p, " TC0123456789"))
                p = strchr(p, ']') + 1;
        return *p == ' ' ? p + 1 : p;
}

static const char *skip_level(const char *p, unsigned *ret_priority) {
        const char *end;

        *ret_priority = 0;
        if (*p != '<')
                return p;
        end = skip_digits(p + 1, ret_priority);
        return end > p + 1 && *end == '>' ? end + 1 : p;
}

static int hex_value(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return -1;
}

/* A record's "\x22" is one byte. */
static unsigned char unescape(const char **p) {
        const char *s = *p;
        int high, low;

        if (s[0] != '\\' || s[1] != 'x' || (high = hex_value(s[2])) < 0 || (low = hex_value(s[3])) < 0) {
                (*p)++;
                return (unsigned char)s[0];
        }
        *p += 4;
        return (unsigned char)(high << 4 | low);
}

static void hand_on(const KernelLogReader *reader, const char *p, bool escaped) {
        char text[KERNEL_LOG_TEXT_MAX];
        size_t n = 0;

        while (*p && n < sizeof(text) - 1) {
                unsigned char c = escaped ? unescape(&p) : (unsigned char)*p++;

                text[n++] = c >= ' ' && c <= '~' ? (char)c : REPLACEMENT;
        }
        text[n] = '\0';
        if (n > 0)
                reader->fn(text, reader->userdata);
}

static void end_line(KernelLogReader *reader) {
        const char *p;
        unsigned priority;

        /* A NUL would hide the rest of the line from everybody but the next reader. */
        for (size_t i = 0; i < reader->n; i++)
                if (reader->line[i] == '\0')
                        reader->line[i] = REPLACEMENT;
        reader->line[reader->n] = '\0';
        reader->n = 0;

        if (reader->line[0] == ' ') /* of the record before: its device */
                return;
        p = skip_record_head(reader->line, &priority);
        if (p) {
                if (priority < LEVELS)
                        hand_on(reader, p, true);
                return;
        }
        p = skip_level(reader->line, &priority);
        if (priority < LEVELS)
                hand_on(reader, skip_times(p), false);
}

void kernel_log_reader_init(KernelLogReader *reader, KernelLogFn fn, void *userdata) {
        reader->fn = fn;
        reader->userdata = userdata;
        reader->n = 0;
}

void kernel_log_reader_feed(KernelLogReader *reader, const char *data, size_t n) {
        for (const char *end = data + n; data < end;) {
                const char *newline = memchr(data, '\n', (size_t)(end - data));
                size_t length = (size_t)((newline ?: end) - data),
                       room = sizeof(reader->line) - 1 - reader->n;

                if (length > room)
                        length = room;
                memcpy(reader->line + reader->n, data, length);
                reader->n += length;
                if (!newline)
                        return;
                end_line(reader);
                data = newline + 1;
        }
}

void kernel_log_reader_finish(KernelLogReader *reader) {
        if (reader->n > 0)
                end_line(reader);
}

static int outcome_of_errno(int error) {
        switch (error) {
        case ENOENT:
        case ENOTDIR:
        case ENXIO:
        case ENODEV:
                return KERNEL_LOG_E_ABSENT;
        case EACCES:
        case EPERM:
                return KERNEL_LOG_E_DENIED;
        case ENOMEM:
        case EMFILE:
        case ENFILE:
                return -error;
        default:
                return KERNEL_LOG_E_UNREADABLE;
        }
}

static int read_file(int fd, KernelLogFn fn, void *userdata) {
        KernelLogReader reader;
        char chunk[FILE_CHUNK];

        kernel_log_reader_init(&reader, fn, userdata);
        for (size_t total = 0; total < KERNEL_LOG_BYTES_MAX;) {
                ssize_t n = read(fd, chunk, sizeof(chunk));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return outcome_of_errno(errno);
                if (n == 0)
                        break;
                kernel_log_reader_feed(&reader, chunk, (size_t)n);
                total += (size_t)n;
        }
        kernel_log_reader_finish(&reader);
        return 0;
}

int kernel_log_read_records(int fd, KernelLogFn fn, void *userdata) {
        KernelLogReader reader;
        char record[RECORD_MAX];

        kernel_log_reader_init(&reader, fn, userdata);
        for (size_t total = 0; total < KERNEL_LOG_BYTES_MAX; total += RECORD_COST) {
                ssize_t n = read(fd, record, sizeof(record));

                if (n < 0 && errno == EAGAIN)
                        return 0;
                /* EPIPE: records were overwritten before they were read; the next read goes on after them.
                 * EINVAL: one did not fit, and is passed over. */
                if (n < 0 && (errno == EINTR || errno == EPIPE || errno == EINVAL))
                        continue;
                if (n < 0)
                        return outcome_of_errno(errno);
                if (n == 0)
                        return 0;
                kernel_log_reader_feed(&reader, record, (size_t)n);
                kernel_log_reader_finish(&reader);
                total += (size_t)n;
        }
        return 0;
}

int kernel_log_read(int root_fd, bool foreign, KernelLogFn fn, void *userdata) {
        _cleanup_(closep) int fd = openat(root_fd, foreign ? KERNEL_LOG_FILE : KERNEL_LOG_DEVICE,
                                          O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        struct stat st;

        if (fd < 0)
                return outcome_of_errno(errno);
        if (fstat(fd, &st) < 0)
                return outcome_of_errno(errno);
        if (foreign)
                return S_ISREG(st.st_mode) ? read_file(fd, fn, userdata) : KERNEL_LOG_E_UNREADABLE;
        return S_ISCHR(st.st_mode) ? kernel_log_read_records(fd, fn, userdata) : KERNEL_LOG_E_UNREADABLE;
}
