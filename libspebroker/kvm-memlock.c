/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * By how much RLIMIT_MEMLOCK is too low. It is only asked after KVM has refused, and what is asked of the
 * broker is charged to the lease, so it is to be no more than what is missing.
 */

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>

#include "libspebroker/kvm.h"
#include "util/fs.h"
#include "util/parse.h"

#define KIB UINT64_C(1024)

/* Of /proc/self/status: some lines, of which a few are as long as the machine has CPUs and nodes. */
#define STATUS_MAX 16384

/* The bytes that this process locks, by its own word for it: "VmLck:\t       0 kB". */
static bool read_locked(uint64_t *ret_bytes) {
        static const char label[] = "\nVmLck:";
        char status[STATUS_MAX], *digits, *end;
        uint64_t kib;
        size_t n;

        if (fs_read(AT_FDCWD, "/proc/self/status", status, sizeof(status), &n) != 0)
                return false;
        digits = strstr(status, label);
        if (!digits)
                return false;
        digits += strlen(label);
        digits += strspn(digits, "\t ");
        end = strstr(digits, " kB\n");
        if (!end)
                return false;
        *end = '\0';
        if (parse_u64(digits, UINT64_MAX / KIB, &kib) != 0)
                return false;

        *ret_bytes = kib * KIB;
        return true;
}

uint64_t kvm_memlock_missing(uint64_t size) {
        struct rlimit limit;
        uint64_t locked, needed;

        if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
                return size;
        if (limit.rlim_cur == RLIM_INFINITY)
                return 0;
        if (!read_locked(&locked) || __builtin_add_overflow(locked, size, &needed))
                return size;

        return needed > limit.rlim_cur ? needed - limit.rlim_cur : 0;
}
