/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Why a guest can have SPE on this host now, or what the first thing in its way is: one list of checks in
 * dependency order, made from facts that an unprivileged reader of the machine can have. A fact that cannot
 * be had makes its check unknown; nothing is guessed from what a later check says.
 */

#include <stdbool.h>
#include <stddef.h>

#include "host/topology.h"
#include "util/cleanup.h"

typedef enum CheckStatus {
        CHECK_OK,
        CHECK_WARNING, /* works, but not as it could */
        CHECK_FAILED,  /* keeps guests from SPE, or the broker from what it is configured to do */
        CHECK_UNKNOWN, /* the fact cannot be had here; the reason says why */
} CheckStatus;

const char *check_status_to_string(CheckStatus status);

typedef struct Check {
        const char *name; /* a documented word, "driver-loaded" */
        CheckStatus status;
        char *reason; /* one sentence */
        /* One line: a command to paste where a command can fix it, else what to do. NULL: nothing to do, or,
         * if it failed, nothing that can be done on this host. */
        char *advice;
} Check;

/* What others have found out; everything else is read below root_fd. */
typedef struct ReadinessInput {
        /* Holds sys/, proc/, etc/, boot/, lib/modules/, usr/sbin/, and dev/kmsg or, if foreign, var/log/kmsg.
         */
        int root_fd;
        bool foreign;             /* --root or --simulate: what only the running kernel can say is unknown */
        const Topology *topology; /* of the last scan */
        /* Whether KVM gives these SPUs to guests, as probed (a warning: some of them), and why. */
        CheckStatus guest;
        const char *guest_reason;
        const char *guest_advice; /* or NULL */
        CheckStatus
                trampolines; /* whether BPF programs of type fentry and LSM attach, as tried, and why not */
        const char *trampolines_reason;
        const char *trampolines_advice; /* or NULL */
        CheckStatus level;              /* how well host sessions are kept off, and why no better */
        const char *level_reason;
        const char *level_advice; /* or NULL */
        bool memlock_managed;     /* the broker raises RLIMIT_MEMLOCK itself, */
        bool memlock_able;        /* and has the capability to */
} ReadinessInput;

/* The checks, in dependency order; the array and its strings are the caller's (readiness_free()). */
int readiness_check(const ReadinessInput *input, Check **ret_checks, size_t *ret_n);
void readiness_free(Check *checks, size_t n);
