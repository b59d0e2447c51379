/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A set of CPUs as a plain value of 4,096 bits: copied by assignment, embedded anywhere, never allocated.
 * Its text is the kernel's cpulist ("0-3,8"), always written in its one canonical form.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* CPUs 0..4095: CONFIG_NR_CPUS of the largest distribution kernels for arm64. */
#define CPUSET_MAX 4096U

/* Longest canonical text, with its NUL: every other CPU, "0,2,4,...,4094". */
#define CPUSET_TEXT_MAX 10240U

enum {
        _CPUSET_E_SUCCESS,
        CPUSET_E_SYNTAX, /* not a cpulist */
        CPUSET_E_RANGE,  /* a cpulist, but with a CPU number of CPUSET_MAX or above */
};

typedef struct CpuSet {
        uint64_t words[CPUSET_MAX / 64];
} CpuSet;

#define CPUSET_NULL ((CpuSet){0})

bool cpuset_is_empty(const CpuSet *set);
unsigned cpuset_count(const CpuSet *set);
bool cpuset_has(const CpuSet *set, unsigned cpu);
bool cpuset_equal(const CpuSet *a, const CpuSet *b);
bool cpuset_intersects(const CpuSet *a, const CpuSet *b);
bool cpuset_is_subset(const CpuSet *set, const CpuSet *of);

void cpuset_add(CpuSet *set, unsigned cpu);
/* Adds first..last, both included; both below CPUSET_MAX. */
void cpuset_add_range(CpuSet *set, unsigned first, unsigned last);
void cpuset_remove(CpuSet *set, unsigned cpu);
void cpuset_or(CpuSet *set, const CpuSet *other);
void cpuset_and(CpuSet *set, const CpuSet *other);
void cpuset_subtract(CpuSet *set, const CpuSet *other);

/* The lowest CPU of the set that is @from or above, or CPUSET_MAX. */
unsigned cpuset_next(const CpuSet *set, unsigned from);

#define CPUSET_FOREACH(cpu, set) \
        for (unsigned cpu = cpuset_next((set), 0); cpu < CPUSET_MAX; cpu = cpuset_next((set), cpu + 1))

/*
 * Reads a cpulist of @n bytes: "0-3,8". The empty text is the empty set. Nothing but digits, '-' and ',' is
 * accepted: no white space, no trailing newline, no "0-31:2/4". Numbers may come in any order and overlap.
 * Returns CPUSET_E_SYNTAX or CPUSET_E_RANGE otherwise.
 */
int cpuset_parse(const char *text, size_t n, CpuSet *ret_set);

/*
 * Writes the canonical text and a NUL to @buffer; @size is the buffer's size and CPUSET_TEXT_MAX always
 * suffices. Returns the text's length. A text that does not fit is cut at a whole range.
 */
size_t cpuset_format(const CpuSet *set, char *buffer, size_t size);
