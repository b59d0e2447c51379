/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A 'no' in full: the facts of a decision with names and sentences, independent of the model from then on.
 * The same object answers Query, Acquire and ListRefusals (broker/refusal-log.h).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "policy/decide.h"
#include "util/cleanup.h"

typedef struct Manager Manager;
typedef struct LeaseRequest LeaseRequest;
typedef struct RefusalUser RefusalUser;

#define REFUSAL_ID_LENGTH 32U
/* A kept refusal names at most so many holders; the answer itself names all. */
#define REFUSAL_HOLDERS_KEPT 16U

/* A lease, or a host session. */
typedef struct RefusalHolder {
        bool session;
        char lease_id[REFUSAL_ID_LENGTH + 1]; /* of a lease */
        char *vm;                             /* of a lease */
        pid_t pid;                            /* 0: a session of somebody who could not be seen */
        uid_t uid;
        char *command;
        char *cpus;
} RefusalHolder;

typedef struct RefusalInstance {
        char *name;
        char *cpus;
} RefusalInstance;

/* Of Refusal.kind: an attribute of a VCPU was set by a process without a lease. No decision says so. */
#define REFUSAL_NO_SUCH_LEASE _REFUSAL_MAX

/* An attribute of a VCPU that the gate refused, or let through and told of; those that are the same are
 * counted as one. */
typedef struct RefusedAttribute {
        uint64_t number;
        uint64_t value;
        bool let_through;
        unsigned times;       /* 0: it is something else that was refused */
        uint64_t looked_usec; /* CLOCK_MONOTONIC: when it was found out what stood in the way */
} RefusedAttribute;

/* A perf event that the kernel refused; those that are the same are counted as one. */
typedef struct RefusedOpen {
        SessionKind kind;
        int cpu;              /* -1: any */
        pid_t thread;         /* 0: CPU-wide */
        unsigned times;       /* 0: it is something else that was refused */
        uint64_t looked_usec; /* CLOCK_MONOTONIC: when it was found out what stood in the way */
} RefusedOpen;

typedef struct Refusal {
        TAILQ_ENTRY(Refusal) link;
        RefusalUser *user; /* while it is kept */
        char id[REFUSAL_ID_LENGTH + 1];
        RefusalKind kind;
        char *message;
        uint64_t when_usec;
        char *vm; /* NULL: a host session was refused, or an attribute of a VCPU of nobody known */
        pid_t pid;
        uid_t uid;

        /* The fields of its error; NULL where it has none. */
        char *instance;
        RefusalInstance *instances;
        size_t n_instances;
        const char *state;
        char *reason;
        char *cpus;
        const char *owner;
        char *assigned_vm;
        const char *limit;
        uint64_t requested;
        uint64_t available;
        uint64_t nearest;
        RefusalHolder *holders;
        size_t n_holders;

        /* Of a host session, or an attribute. */
        char *allowed; /* NULL: nothing */
        RefusedOpen open;
        RefusedAttribute attribute;
} Refusal;

/* Makes the refusal of @request that @facts say. Leases and sessions are walked only here, to name who stands
 * in the way. */
int refusal_new(const Manager *manager, const LeaseRequest *request, const RefusalFacts *facts,
                Refusal **ret_refusal);
/* Says before everything else why it is one only now. 0 or -ENOMEM. */
int refusal_say_first(Refusal *refusal, const char *why);
Refusal *refusal_free(Refusal *refusal);
/* The name of its error, without the interface's. */
const char *refusal_get_error(const Refusal *refusal);
DEFINE_CLEANUP(Refusal *, refusal_free)
