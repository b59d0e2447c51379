/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A cpulist: what is accepted has one canonical text, which means the same set and is its own canonical text.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/cpuset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
        if (!condition)
                abort();
}

/* Cut at any size, the text is a cpulist of CPUs of the set. */
static void check_cut(const CpuSet *set, size_t size) {
        char text[CPUSET_TEXT_MAX];
        CpuSet cut;
        size_t n;

        n = cpuset_format(set, text, size);
        require(n < size && strlen(text) == n);
        require(cpuset_parse(text, n, &cut) == 0 && cpuset_is_subset(&cut, set));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char text[CPUSET_TEXT_MAX], again[CPUSET_TEXT_MAX];
        CpuSet set, copy;
        unsigned count = 0;
        size_t n;
        int r;

        r = cpuset_parse((const char *)data, size, &set);
        require(r == 0 || r == CPUSET_E_SYNTAX || r == CPUSET_E_RANGE);
        if (r)
                return 0;

        n = cpuset_format(&set, text, sizeof(text));
        require(n < sizeof(text) && strlen(text) == n);
        require(cpuset_parse(text, n, &copy) == 0 && cpuset_equal(&set, &copy));
        require(cpuset_format(&copy, again, sizeof(again)) == n && strcmp(text, again) == 0);

        CPUSET_FOREACH(cpu, &set) {
                require(cpu < CPUSET_MAX && cpuset_has(&set, cpu));
                count++;
        }
        require(count == cpuset_count(&set) && (count == 0) == cpuset_is_empty(&set));
        check_cut(&set, 1 + size % 64);
        return 0;
}
