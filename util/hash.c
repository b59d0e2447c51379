/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* FNV-1a, by Fowler, Noll and Vo. It stands in files and names, so it is the same on every machine. */

#include "util/hash.h"

#define PRIME UINT64_C(0x100000001b3)

uint64_t hash_add(uint64_t hash, const void *bytes, size_t n) {
        const unsigned char *p = bytes;

        for (size_t i = 0; i < n; i++)
                hash = (hash ^ p[i]) * PRIME;

        return hash;
}
