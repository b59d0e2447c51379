/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sentences on stderr. */

#include <stdarg.h>
#include <stdio.h>

#include "speadm/speadm.h"
#include "speadm/tell.h"

_printf_(1, 0) static void vcomplain(const char *format, va_list arguments) {
        fputs("speadm: ", stderr);
        vfprintf(stderr, format, arguments);
        fputc('\n', stderr);
}

void complain(const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        vcomplain(format, arguments);
        va_end(arguments);
}

int complain_usage(const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        vcomplain(format, arguments);
        va_end(arguments);
        fputs("Try 'speadm --help' or 'speadm VERB --help'.\n", stderr);
        return SPEADM_USAGE;
}

int complain_memory(void) {
        complain("out of memory");
        return SPEADM_FAILED;
}
