/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Numbers as people and the kernel write them: strict, bounded, no locale. One reader each for the
 * configuration and for speadm's options, so that both mean the same by "4M" and "10s".
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
        _PARSE_E_SUCCESS,
        PARSE_E_SYNTAX, /* not such a number */
        PARSE_E_RANGE,  /* such a number, but out of range */
};

/* Room for any size in words, "18014398509481983K" and its NUL. */
#define FORMAT_SIZE_MAX 24U

/* Decimal digits only: no sign, no space, no leading '+'. PARSE_E_RANGE above @max. */
int parse_u64(const char *text, uint64_t max, uint64_t *ret_value);

/* "4096", "64K", "4M", "2G", "1T": powers of 1024, one optional suffix, either case, at most INT64_MAX. */
int parse_size(const char *text, uint64_t *ret_bytes);

/* "5%" (ret_percent true, 1 to 100) or a size. */
int parse_size_or_percent(const char *text, uint64_t *ret_value, bool *ret_percent);

/* "10" (seconds), "250ms", "30s", "10m" or "10min", "2h", "1d", and sums of them ("1h 30m"); microseconds. */
int parse_duration(const char *text, uint64_t *ret_usec);

/* "yes", "no", "true", "false", "on", "off", "1", "0"; either case. */
int parse_bool(const char *text, bool *ret_value);

/* The shortest exact text, as parse_size() reads it: 4194304 is "4M", 5000 is "5000". Returns @buffer. */
char *format_size(uint64_t bytes, char buffer[static FORMAT_SIZE_MAX]);
