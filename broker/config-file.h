/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One configuration file as a sequence of entries, each with its line. What is a section, a key and a value
 * is libini-config's business; what they mean is the caller's.
 */

#include <stddef.h>

#include "broker/config.h"

#define CONFIG_SECTIONS_MAX 1024U /* in one file: libini-config takes quadratic time in them */
#define CONFIG_ENTRIES_MAX  8192U /* keys, and headings of sections begun before, in one file */

typedef struct ConfigEntry {
        const char *file;
        unsigned line;
        const char *section;
        const char *key;   /* as it is written there; NULL: the section itself begins */
        const char *value; /* NULL if key is */
} ConfigEntry;

/* Returns 0, CONFIG_E_INVALID with *@ret_fault set, or -errno; the parser stops and returns what is not 0. */
typedef int (*ConfigEntryFn)(const ConfigEntry *entry, void *userdata, ConfigFault *ret_fault);

typedef struct ConfigFileSink {
        ConfigEntryFn entry;
        ConfigWarningFn warn; /* may be NULL */
        void *userdata;       /* of entry */
        void *warn_userdata;
} ConfigFileSink;

/*
 * Parses @n bytes (and a NUL behind them) of the file called @file. Sections come in the order in which they
 * first stand in the file, each first by itself, then with its keys. A key that stands more than once in a
 * section comes once, with its last value, and is warned of. Keys before the first section are warned of and
 * skipped.
 */
int config_file_parse(const char *file, char *data, size_t n, const ConfigFileSink *sink,
                      ConfigFault *ret_fault);

/* Sets *@fault and returns CONFIG_E_INVALID, or -ENOMEM. */
int config_fault_set(ConfigFault *fault, const char *file, unsigned line, const char *format, ...)
        __attribute__((__format__(__printf__, 4, 5)));
