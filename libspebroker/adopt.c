/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A lease that was taken for this process before it became the VMM. The environment is inherited by whatever
 * the VMM starts, so it says whom it is about, as it does of sockets that systemd passes: a child that took
 * its parent's lease for its own would enable SPE on it.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libspebroker/find.h"
#include "libspebroker/lease.h"

#define VARIABLE_LEASE "SPE_BROKER_LEASE"
#define VARIABLE_PID   "SPE_BROKER_PID"

static bool is_this_process(const char *pid) {
        char text[24];

        (void)snprintf(text, sizeof(text), "%" PRIdMAX, (intmax_t)getpid());
        return strcmp(text, pid) == 0;
}

/* Whoever set no pid has left it to the lease. One of a control group belongs to all that are in it. */
static bool is_own(const struct spebroker_lease *lease) {
        pid_t pid = spebroker_lease_get_owner_pid(lease);

        return pid < 0 || pid == getpid();
}

int spebroker_adopt(struct spebroker *context, struct spebroker_lease **ret_lease) {
        _cleanup_(spebroker_lease_unrefp) struct spebroker_lease *lease = NULL;
        const char *id = secure_getenv(VARIABLE_LEASE), *pid = secure_getenv(VARIABLE_PID);
        int r;

        if (context->stream.running)
                return -EBUSY;

        context_forget_refusal(context);
        if (!id || (pid && !is_this_process(pid)))
                return SPEBROKER_NO_LEASE;

        r = lease_find(context, NULL, id, &lease);
        if (r == SPEBROKER_ENDED)
                return SPEBROKER_NO_LEASE;
        if (r != 0)
                return r;
        if (!pid && !is_own(lease))
                return SPEBROKER_NO_LEASE;

        *ret_lease = steal_ptr(lease);
        return 0;
}
