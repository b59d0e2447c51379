/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * CPU sets: word-wise set algebra, and the kernel's cpulist text both ways. The parser keeps every number
 * below CPUSET_MAX before it touches a bit, so that no input can reach beyond the value.
 */

#include "util/cpuset.h"

#include <string.h>

#define N_WORDS (CPUSET_MAX / 64)

bool cpuset_is_empty(const CpuSet *set) {
        for (size_t i = 0; i < N_WORDS; i++)
                if (set->words[i])
                        return false;

        return true;
}

unsigned cpuset_count(const CpuSet *set) {
        unsigned n = 0;

        for (size_t i = 0; i < N_WORDS; i++)
                n += (unsigned)__builtin_popcountll(set->words[i]);

        return n;
}

bool cpuset_has(const CpuSet *set, unsigned cpu) {
        return cpu < CPUSET_MAX && (set->words[cpu / 64] >> (cpu % 64) & 1);
}

bool cpuset_equal(const CpuSet *a, const CpuSet *b) {
        return memcmp(a->words, b->words, sizeof(a->words)) == 0;
}

bool cpuset_intersects(const CpuSet *a, const CpuSet *b) {
        for (size_t i = 0; i < N_WORDS; i++)
                if (a->words[i] & b->words[i])
                        return true;

        return false;
}

bool cpuset_is_subset(const CpuSet *set, const CpuSet *of) {
        for (size_t i = 0; i < N_WORDS; i++)
                if (set->words[i] & ~of->words[i])
                        return false;

        return true;
}

void cpuset_add(CpuSet *set, unsigned cpu) {
        set->words[cpu / 64] |= UINT64_C(1) << (cpu % 64);
}

void cpuset_add_range(CpuSet *set, unsigned first, unsigned last) {
        for (unsigned cpu = first; cpu <= last; cpu++)
                cpuset_add(set, cpu);
}

void cpuset_remove(CpuSet *set, unsigned cpu) {
        set->words[cpu / 64] &= ~(UINT64_C(1) << (cpu % 64));
}

void cpuset_or(CpuSet *set, const CpuSet *other) {
        for (size_t i = 0; i < N_WORDS; i++)
                set->words[i] |= other->words[i];
}

void cpuset_and(CpuSet *set, const CpuSet *other) {
        for (size_t i = 0; i < N_WORDS; i++)
                set->words[i] &= other->words[i];
}

void cpuset_subtract(CpuSet *set, const CpuSet *other) {
        for (size_t i = 0; i < N_WORDS; i++)
                set->words[i] &= ~other->words[i];
}

unsigned cpuset_next(const CpuSet *set, unsigned from) {
        size_t i = from / 64;
        uint64_t word;

        if (i >= N_WORDS)
                return CPUSET_MAX;

        word = set->words[i] & ~UINT64_C(0) << (from % 64);
        while (!word) {
                if (++i == N_WORDS)
                        return CPUSET_MAX;
                word = set->words[i];
        }

        return (unsigned)(i * 64) + (unsigned)__builtin_ctzll(word);
}

/* One decimal number at *p; leading zeros are accepted, as the kernel does. */
static int parse_cpu(const char **p, const char *end, unsigned *ret_cpu) {
        unsigned cpu = 0;
        const char *start = *p;

        for (; *p < end && **p >= '0' && **p <= '9'; (*p)++)
                if (cpu < CPUSET_MAX) /* saturates just above the limit: still out of range, never wraps */
                        cpu = cpu * 10 + (unsigned)(**p - '0');

        if (*p == start)
                return CPUSET_E_SYNTAX;

        *ret_cpu = cpu;
        return 0;
}

int cpuset_parse(const char *text, size_t n, CpuSet *ret_set) {
        const char *p = text, *end = text + n;
        bool out_of_range = false;
        CpuSet set = CPUSET_NULL;

        while (n > 0) {
                unsigned first, last;
                int r;

                r = parse_cpu(&p, end, &first);
                if (r)
                        return r;
                last = first;

                if (p < end && *p == '-') {
                        p++;
                        r = parse_cpu(&p, end, &last);
                        if (r)
                                return r;
                        if (last < first)
                                return CPUSET_E_SYNTAX;
                }

                if (last >= CPUSET_MAX)
                        out_of_range = true; /* but a syntax error further on is the worse fault */
                else
                        cpuset_add_range(&set, first, last);

                if (p == end)
                        break;
                if (*p++ != ',')
                        return CPUSET_E_SYNTAX;
        }

        if (out_of_range)
                return CPUSET_E_RANGE;

        *ret_set = set;
        return 0;
}

/* Decimal digits of @v, most significant first; returns how many. */
static size_t format_cpu(char *out, unsigned v) {
        char digits[10];
        size_t n = 0;

        do
                digits[n++] = (char)('0' + v % 10);
        while (v /= 10);

        for (size_t i = 0; i < n; i++)
                out[i] = digits[n - 1 - i];

        return n;
}

size_t cpuset_format(const CpuSet *set, char *buffer, size_t size) {
        size_t length = 0;

        for (unsigned first = cpuset_next(set, 0), last; first < CPUSET_MAX;
             first = cpuset_next(set, last + 1)) {
                char range[32];
                size_t n = 0;

                for (last = first; cpuset_has(set, last + 1); last++)
                        ;

                if (length > 0)
                        range[n++] = ',';
                n += format_cpu(range + n, first);
                if (last > first) {
                        range[n++] = '-';
                        n += format_cpu(range + n, last);
                }

                if (length + n >= size)
                        break;
                memcpy(buffer + length, range, n);
                length += n;
        }

        if (size > 0)
                buffer[length] = 0;
        return length;
}
