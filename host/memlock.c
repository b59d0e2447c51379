/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * prlimit(2). It takes a pid and no pidfd, and neither compares nor says before what it would replace: so the
 * pidfd is asked again afterwards, and what was there before is looked at.
 */

#include "host/memlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/fs.h"
#include "util/parse.h"

/* Bytes of /proc/PID/limits: sixteen lines of less than a hundred. */
#define LIMITS_MAX 8192U

bool memlock_limit_equal(const MemlockLimit *a, const MemlockLimit *b) {
        return a->soft == b->soft && a->hard == b->hard;
}

static uint64_t from_kernel(rlim_t value) {
        return value == RLIM_INFINITY ? MEMLOCK_UNLIMITED : value;
}

static rlim_t to_kernel(uint64_t value) {
        return value == MEMLOCK_UNLIMITED ? RLIM_INFINITY : value;
}

/* Sets @limit, if given, and says what was there. */
static int exchange(pid_t pid, const MemlockLimit *limit, MemlockLimit *ret_limit) {
        struct rlimit fresh, old;

        if (limit)
                fresh = (struct rlimit){.rlim_cur = to_kernel(limit->soft),
                                        .rlim_max = to_kernel(limit->hard)};
        if (prlimit(pid, RLIMIT_MEMLOCK, limit ? &fresh : NULL, &old) < 0)
                switch (errno) {
                case ESRCH:
                        return MEMLOCK_E_NO_PROCESS;
                case EPERM:
                case EACCES: /* a security module */
                        return MEMLOCK_E_NOT_PERMITTED;
                default:
                        return -errno;
                }

        *ret_limit = (MemlockLimit){.soft = from_kernel(old.rlim_cur), .hard = from_kernel(old.rlim_max)};
        return 0;
}

/* "8388608" or "unlimited", behind white space. */
static bool parse_value(const char **text, uint64_t *ret_value) {
        const char *p = *text + strspn(*text, " ");
        size_t n = strcspn(p, " \n");
        char value[24];

        if (n == 0 || n >= sizeof(value))
                return false;
        memcpy(value, p, n);
        value[n] = '\0';
        *text = p + n;
        if (strcmp(value, "unlimited") == 0)
                *ret_value = MEMLOCK_UNLIMITED;
        else if (parse_u64(value, MEMLOCK_UNLIMITED - 1, ret_value))
                return false;
        return true;
}

/* Whom prlimit() does not tell may still read it: "Max locked memory     8388608      unlimited      bytes".
 */
static int read_file(pid_t pid, MemlockLimit *ret_limit) {
        static const char label[] = "\nMax locked memory ";
        _cleanup_(freep) char *text = NULL;
        char path[32];
        const char *p;
        size_t n;
        int r;

        (void)snprintf(path, sizeof(path), "/proc/%d/limits", pid);
        r = fs_read_all(AT_FDCWD, path, LIMITS_MAX, &text, &n);
        if (r)
                return r < 0 ? r : MEMLOCK_E_NOT_PERMITTED;
        p = strstr(text, label);
        if (!p)
                return MEMLOCK_E_NOT_PERMITTED;
        p += strlen(label);
        return parse_value(&p, &ret_limit->soft) && parse_value(&p, &ret_limit->hard)
                       ? 0
                       : MEMLOCK_E_NOT_PERMITTED;
}

int memlock_limit_read(const Owner *owner, MemlockLimit *ret_limit) {
        MemlockLimit limit = {0};
        int r;

        if (owner->pid <= 0) /* a control group; and to the kernel, whoever asks */
                return MEMLOCK_E_NO_PROCESS;
        r = exchange(owner->pid, NULL, &limit);
        if (r == MEMLOCK_E_NOT_PERMITTED)
                r = read_file(owner->pid, &limit);
        if (r == 0 && !owner_is_alive(owner))
                r = MEMLOCK_E_NO_PROCESS;
        if (r)
                return r;

        *ret_limit = limit;
        return 0;
}

/* What was set by mistake is as it was, unless somebody has changed that, too. */
static void give_back(pid_t pid, const MemlockLimit *set, const MemlockLimit *before) {
        MemlockLimit now = {0};

        if (exchange(pid, NULL, &now) == 0 && memlock_limit_equal(&now, set))
                (void)exchange(pid, before, &now);
}

int memlock_limit_replace(const Owner *owner, const MemlockLimit *expected, const MemlockLimit *limit) {
        MemlockLimit before = {0};
        int r;

        r = memlock_limit_read(owner, &before);
        if (r == 0 && expected && !memlock_limit_equal(&before, expected))
                r = MEMLOCK_E_CHANGED;
        if (r)
                return r;

        r = exchange(owner->pid, limit, &before);
        if (r)
                return r;
        if (!owner_is_alive(owner)) {
                give_back(owner->pid, limit, &before);
                return MEMLOCK_E_NO_PROCESS;
        }
        if (expected && !memlock_limit_equal(&before, expected)) {
                give_back(owner->pid, limit, &before);
                return MEMLOCK_E_CHANGED;
        }
        return 0;
}

bool memlock_limit_is_able(void) {
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {0};

        if (syscall(SYS_capget, &header, sets) < 0)
                return false;

        return sets[CAP_TO_INDEX(CAP_SYS_RESOURCE)].effective & CAP_TO_MASK(CAP_SYS_RESOURCE);
}
