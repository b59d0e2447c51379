/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Delays that double, with a random half. */

#include "util/backoff.h"

#include "util/random.h"

uint64_t backoff_next(Backoff *backoff) {
        uint64_t noise = 0;

        if (!backoff->tried) {
                backoff->tried = true;
                return 0;
        }

        backoff->usec = backoff->usec == 0 ? BACKOFF_FIRST_USEC : 2 * backoff->usec;
        if (backoff->usec > backoff->max_usec)
                backoff->usec = backoff->max_usec;

        /* Where the kernel has no random number, the shortest will do. */
        (void)random_fill(&noise, sizeof(noise));
        return backoff->usec / 2 + noise % (backoff->usec / 2 + 1);
}

void backoff_reset(Backoff *backoff) {
        *backoff = BACKOFF_INIT(backoff->max_usec);
}
