/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Telling: the followers of a lease, and the watchers of everything. A watcher that reads too slowly loses
 * events, is told so, and gets a fresh snapshot once it has caught up; nothing is stored for it meanwhile.
 * A snapshot is written in parts (snapshot.h), and what changes until it is whole is in it.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "broker/quota.h"
#include "policy/instance.h"
#include "varlink/server/server.h"

typedef struct Manager Manager;
typedef struct Lease Lease;
typedef struct LeaseStream LeaseStream;
typedef struct Refusal Refusal;
typedef struct Session Session;
typedef struct Snapshot Snapshot;

/* Beyond so many unread bytes a watcher (not counting its snapshot), or the follower of one lease, is behind.
 */
#define WATCH_BACKLOG_MAX  (128U * 1024)
#define FOLLOW_BACKLOG_MAX (64U * 1024)

/* Each change is written to each watcher, so there are only so many, of one user and in all. */
#define WATCHERS_PER_USER_MAX 64U
#define WATCHERS_MAX          512U

/* The changes of a lease, by their words in the interface. */
typedef enum LeaseChange {
        LEASE_CHANGE_NONE, /* no change: the present state */
        LEASE_CHANGE_QUEUED,
        LEASE_CHANGE_GRANTED,
        LEASE_CHANGE_UPDATED,
        LEASE_CHANGE_CPUS,
        LEASE_CHANGE_CONTENDED,
        LEASE_CHANGE_UNCONTENDED,
        LEASE_CHANGE_MISPLACED,
        LEASE_CHANGE_PLACED,
        LEASE_CHANGE_REVOKING,
        LEASE_CHANGE_REVOKED,
        LEASE_CHANGE_RESTORED,
        LEASE_CHANGE_ENDED,
        _LEASE_CHANGE_MAX,
} LeaseChange;

/* NULL for LEASE_CHANGE_NONE. */
const char *lease_change_to_string(LeaseChange change);

typedef struct Watch {
        LIST_ENTRY(Watch) link;
        Manager *manager;
        VarlinkCall *call;
        QuotaToken token;
        int64_t sequence;
        size_t backlog_max; /* its last snapshot may be larger than all that may pile up behind it */
        bool lost;
        Snapshot *snapshot; /* that is being written; it is told nothing else meanwhile */
} Watch;

/* Begins a Watch stream: the snapshot, and all that follows. QUOTA_E_USER or QUOTA_E_ALL: there are too many.
 */
int watch_new(Manager *manager, VarlinkCall *call);
Watch *watch_free(Watch *watch);

/* Tells @lease's followers and the watchers. Streams that it answers for good are freed. */
void events_lease(Manager *manager, Lease *lease, LeaseChange change);
/* A follower has read all that it was told: it gets the present state, if it has missed any. */
void events_stream_drained(LeaseStream *stream);
void events_instance(Manager *manager, const Instance *instance);
/* @change: opened, closed, contended or uncontended. */
void events_session(Manager *manager, const Session *session, const char *change);
void events_refusal(Manager *manager, const Refusal *refusal);
