/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Left to itself, systemd closes a descriptor that polls as hung up: a perf event without a buffer always
 * does, and a pidfd once its process is dead, when another may have its name already. So FDPOLL=0.
 */

#include "broker/fdstore-notify.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

int fdstore_tell_stored(const char *name, int fd) {
        char text[FDSTORE_NAME_MAX + sizeof("FDSTORE=1\nFDNAME=\nFDPOLL=0")];
        int r;

        (void)snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
        r = sd_pid_notify_with_fds(0, false, text, &fd, 1);
        return r == 0 ? -ENOTCONN : r < 0 ? r : 0;
}

void fdstore_tell_removed(const char *name) {
        (void)sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}
