/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * VmLck of a process. It is asked by pid, so the pidfd is asked afterwards whether the pid was the owner's
 * all along. A process that has exited and was not waited for has no memory and no such line.
 */

#include "host/locked-memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "util/fs.h"
#include "util/parse.h"

/* "VmLck:\t       0 kB". The command's line before it is escaped, so no name can forge this one. */
static int parse_status(const char *text, uint64_t *ret_bytes) {
        static const char label[] = "\nVmLck:\t", unit[] = " kB\n";
        const char *line = strstr(text, label);
        char number[24];
        uint64_t kib;
        size_t n;

        if (!line)
                return OWNER_E_NO_PROCESS;
        line += strlen(label);
        line += strspn(line, " ");
        n = strspn(line, "0123456789");
        if (n >= sizeof(number) || strncmp(line + n, unit, strlen(unit)) != 0)
                return OWNER_E_NO_PROCESS;

        memcpy(number, line, n);
        number[n] = '\0';
        if (parse_u64(number, UINT64_MAX / 1024, &kib))
                return OWNER_E_NO_PROCESS;

        *ret_bytes = kib * 1024;
        return 0;
}

int locked_memory_read(const Owner *owner, uint64_t *ret_bytes) {
        _cleanup_(freep) char *status = NULL;
        char path[32];
        uint64_t bytes;
        size_t n;
        int r;

        (void)snprintf(path, sizeof(path), "/proc/%d/status", owner->pid);
        r = fs_read_all(AT_FDCWD, path, OWNER_STATUS_MAX, &status, &n);
        if (r < 0)
                return r;
        if (r > 0 || parse_status(status, &bytes) || !owner_is_alive(owner))
                return OWNER_E_NO_PROCESS;

        *ret_bytes = bytes;
        return 0;
}
