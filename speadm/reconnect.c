/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Connecting anew. What is told goes to stderr, so that what is printed stays what it is.
 */

#include "speadm/reconnect.h"

#include <poll.h>

#include "speadm/tell.h"
#include "util/clock.h"

/* True if @wake_fd has something to read before @usec are over. */
static bool sleep_usec(uint64_t usec, int wake_fd) {
        struct pollfd pfd = {.fd = wake_fd, .events = POLLIN};
        const struct timespec ts = clock_timespec(usec);

        return ppoll(&pfd, 1, &ts, NULL) > 0;
}

bool reconnect(Reconnect *reconnect, Speadm *speadm, int wake_fd, uint64_t deadline) {
        speadm->client = varlink_client_free(speadm->client);
        if (!reconnect->away)
                complain("the broker at %s has gone: waiting for it to come back", speadm->arguments.socket);
        reconnect->away = true;

        do {
                uint64_t delay = backoff_next(&reconnect->backoff), left = clock_left(deadline);

                if (sleep_usec(delay < left ? delay : left, wake_fd))
                        return false;
                /* Whatever it is that fails: a socket that is being made cannot be opened for a moment. */
                if (varlink_client_new_path_within(speadm->arguments.socket, 0, &speadm->client) == 0)
                        return true;
        } while (clock_left(deadline) > 0);

        return false;
}

void reconnect_done(Reconnect *reconnect) {
        if (reconnect->away)
                complain("the broker is back");
        *reconnect = RECONNECT_INIT;
}
