/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The kernel's log, message by message, from either of the forms that it is found in:
 *
 *   6,339,5140900,-;text        a record of /dev/kmsg; lines that begin with a space belong to the one before
 *   <6>[    5.140900] text      dmesg(1), with or without the level, a date for the time, a thread or CPU
 *                               after it; or nothing but the text
 *
 * Whoever can name a device or a process can have text in it. What is handed on is printable ASCII of bounded
 * length, begins where the message begins, and was written by the kernel as far as the form can tell: a
 * record that was written through /dev/kmsg says so, and is left out; dmesg's text does not say.
 */

#include <stdbool.h>
#include <stddef.h>

enum {
        _KERNEL_LOG_E_SUCCESS,
        KERNEL_LOG_E_ABSENT,     /* there is none here */
        KERNEL_LOG_E_DENIED,     /* the kernel lets only the privileged read it (kernel.dmesg_restrict) */
        KERNEL_LOG_E_UNREADABLE, /* it is there, and cannot be read */
};

/* The log of a tree that is not the running machine's, and the running one's; below the root. */
#define KERNEL_LOG_FILE   "var/log/kmsg"
#define KERNEL_LOG_DEVICE "dev/kmsg"

/* Longest message handed on, with its NUL; more of it is cut. */
#define KERNEL_LOG_TEXT_MAX 512U

/* So much of a log is read and not more: one that never ends does not hold us. */
#define KERNEL_LOG_BYTES_MAX (16U << 20)

/* One message, in the order of the log. */
typedef void (*KernelLogFn)(const char *text, void *userdata);

typedef struct KernelLogReader {
        KernelLogFn fn;
        void *userdata;
        size_t n;
        char line[2 * KERNEL_LOG_TEXT_MAX]; /* what is beyond it is passed over */
} KernelLogReader;

/* For text that comes in pieces of any size: feed them, then finish for a last line without its newline. */
void kernel_log_reader_init(KernelLogReader *reader, KernelLogFn fn, void *userdata);
void kernel_log_reader_feed(KernelLogReader *reader, const char *data, size_t n);
void kernel_log_reader_finish(KernelLogReader *reader);

/* For a non-blocking descriptor that gives one record for each read(), as /dev/kmsg does. */
int kernel_log_read_records(int fd, KernelLogFn fn, void *userdata);

/* Reads the log below @root_fd: KERNEL_LOG_FILE of a @foreign tree, KERNEL_LOG_DEVICE of this machine. */
int kernel_log_read(int root_fd, bool foreign, KernelLogFn fn, void *userdata);
