/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What every verb gets and what it answers with. A verb returns the program's exit status, having told on
 * stderr why if that is not SPEADM_DONE.
 */

#include "speadm/arguments.h"
#include "varlink/client.h"

/* The exit status: fixed, scripts rely on it (speadm(1), EXIT STATUS). */
enum {
        SPEADM_DONE = 0,
        SPEADM_FAILED = 1,
        SPEADM_USAGE = 2,
        SPEADM_REFUSED = 3,   /* busy, limit, assignment, permission, size: another time or another request */
        SPEADM_NO_BROKER = 4, /* nobody listens, or nobody any more */
        SPEADM_HOST_CANNOT = 77, /* not ready, no guest support, no arbitration, no SPU */
        SPEADM_CANNOT_EXECUTE = 126,
        SPEADM_COMMAND_NOT_FOUND = 127,
};

typedef struct Speadm {
        Arguments arguments;
        VarlinkClient *client; /* connected by the first call */
        const char *method;    /* of the last call, for sentences about it */
} Speadm;
