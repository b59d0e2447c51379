/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A 'no' in full: the facts of a decision with names and sentences, independent of the model from then on.
 * The same object answers Query, Acquire and ListRefusals; the last 1,024 that were answered are kept.
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

#define REFUSALS_MAX      1024U
#define REFUSAL_ID_LENGTH 32U
/* A kept refusal names at most so many holders; the answer itself names all. */
#define REFUSAL_HOLDERS_KEPT 16U

typedef struct RefusalHolder {
        char lease_id[REFUSAL_ID_LENGTH + 1];
        char *vm;
        pid_t pid;
        uid_t uid;
        char *command;
        char *cpus;
} RefusalHolder;

typedef struct RefusalInstance {
        char *name;
        char *cpus;
} RefusalInstance;

typedef struct Refusal {
        TAILQ_ENTRY(Refusal) link;
        char id[REFUSAL_ID_LENGTH + 1];
        RefusalKind kind;
        char *message;
        uint64_t when_usec;
        char *vm;
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
} Refusal;

typedef struct RefusalLog {
        TAILQ_HEAD(RefusalList, Refusal) entries; /* newest first */
        unsigned n;
} RefusalLog;

/* Makes the refusal of @request that @facts say. Leases are walked only here, to name who stands in the way.
 */
int refusal_new(const Manager *manager, const LeaseRequest *request, const RefusalFacts *facts,
                Refusal **ret_refusal);
Refusal *refusal_free(Refusal *refusal);
DEFINE_CLEANUP(Refusal *, refusal_free)

void refusal_log_init(RefusalLog *log);
void refusal_log_deinit(RefusalLog *log);
/* Takes over @refusal. */
void refusal_log_add(RefusalLog *log, Refusal *refusal);
