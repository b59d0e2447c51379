/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A lease, and the calls that follow it. A lease is in the table from the moment it is asked for
 * (queued) or granted until it ends; it belongs to one owner, which exists as long as it has leases. grant
 * and end move leases between states; this file only keeps the structures consistent.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "broker/lease-owner.h"
#include "broker/pieces.h"
#include "broker/quota.h"
#include "broker/request.h"
#include "policy/decide.h"
#include "policy/ledger.h"
#include "policy/words.h"
#include "varlink/server/server.h"

#define LEASE_ID_LENGTH 32U

typedef struct Manager Manager;
typedef struct Lease Lease;
typedef struct LeaseStream LeaseStream;
typedef struct LeaseWalk LeaseWalk;

/* A call that is answered as its lease changes. */
typedef enum LeaseStreamKind {
        LEASE_STREAM_WAIT,    /* Acquire without 'more': one reply, when it is granted or refused */
        LEASE_STREAM_ACQUIRE, /* Acquire with 'more' */
        LEASE_STREAM_FOLLOW,  /* Follow: does not keep a queued lease alive */
} LeaseStreamKind;

struct LeaseStream {
        LIST_ENTRY(LeaseStream) link;
        Manager *manager;
        Lease *lease;
        VarlinkCall *call;
        LeaseStreamKind kind;
        bool behind; /* it reads too slowly, and has missed changes */
};

struct Lease {
        LIST_ENTRY(Lease) bucket_link;    /* LeaseTable.by_id */
        TAILQ_ENTRY(Lease) link;          /* LeaseTable.all, by age */
        TAILQ_ENTRY(Lease) waiting_link;  /* LeaseTable.waiting, if queued */
        LIST_ENTRY(Lease) revoking_link;  /* LeaseTable.revoking, if revoking or being killed */
        LIST_ENTRY(Lease) away_link;      /* LeaseTable.away, if it holds CPUs and is away */
        LIST_ENTRY(Lease) unclaimed_link; /* LeaseTable.unclaimed, if nobody is in its control group yet */
        LIST_ENTRY(Lease) unsaved_link;   /* LeaseTable.unsaved, if its file says what was */
        LIST_ENTRY(Lease) owner_link;
        LIST_HEAD(, LeaseStream) streams;

        char id[LEASE_ID_LENGTH + 1];
        uint64_t serial; /* counts those that there were: in the order of LeaseTable.all */
        LeaseOwner *owner;
        LeaseRequest request; /* as asked, defaults filled in */

        LeaseState state;
        char *reason; /* NULL or a sentence */

        /* What was granted; while queued, what it waits for. */
        char instance_name[INSTANCE_NAME_MAX + 1];
        Instance *instance;    /* NULL while queued */
        uint32_t pmu_type;     /* of the SPU that its VM may have enabled */
        uint32_t now_pmu_type; /* of the instance, when it was there last */
        CpuSet cpus;           /* held, on line or not */
        CpuSet usable;         /* what it is told: those on line; all of them while none can be used */
        uint64_t buffer_size;
        const char *limited_by; /* a LIMIT_ name, or NULL */
        LedgerCharge charge;
        QuotaToken waiting; /* while it is in LeaseTable.waiting */

        uint64_t since_usec;         /* CLOCK_REALTIME */
        uint64_t deadline_usec;      /* CLOCK_MONOTONIC: end of the wait, or of the grace; UINT64_MAX: none */
        uint64_t away_deadline_usec; /* CLOCK_MONOTONIC: it is revoked if still away; UINT64_MAX: never */
        uint64_t unclaimed_deadline_usec; /* CLOCK_MONOTONIC: it ends if still unclaimed; UINT64_MAX: never */
        uint64_t grace_usec;              /* the grace that was given, for the second one of a kill */
        uint64_t keep_usec; /* CLOCK_MONOTONIC: while it waits, its CPUs are kept free of new sessions so long
                             */
        bool told_kept;     /* the journal knows that it waits for a session longer than that */
        bool barred;        /* it is revoking because assignments left it no CPU, and for no other reason */
        bool kill;          /* when the grace is over, the owner is killed */
        bool terminated;    /* SIGTERM has been sent; SIGKILL follows */
        bool revoking_linked;
        bool away; /* none of its CPUs can be used: no SPU has any, or they are off line */
        bool away_linked;
        bool unclaimed_linked;
        bool unsaved;
        bool restart_required; /* its SPU is another one now, and its VM may have enabled the old one */
        bool contended;
        bool contention_untold;    /* contended since its grant, or not any more */
        char *contention;          /* by which host session, a sentence; NULL: by none */
        char *contention_by_lease; /* and by which other lease, as one of the two is revoked */
        char *misplacement; /* which VCPU threads may run elsewhere, a sentence; NULL: none is known to */
        uint64_t affected_generation; /* the settle run in which an assignment took CPUs from it */
        struct json_object *unknown;  /* members of its state file that another build has written, or NULL */
};

/*
 * A tree of four thousand leases costs a cache miss a level, thrice for each lease; ids are random, so their
 * first digits spread them evenly.
 */
#define LEASE_BUCKETS 1024U

/* So many may wait, of one user and in all. */
#define WAITERS_PER_USER_MAX 256U
#define WAITERS_MAX          1024U

typedef struct LeaseTable {
        TAILQ_HEAD(LeaseList, Lease) all;
        TAILQ_HEAD(LeaseQueue, Lease) waiting; /* in the order in which they asked */
        LIST_HEAD(, Lease) revoking;
        LIST_HEAD(, Lease) away;
        LIST_HEAD(, Lease) unclaimed;
        LIST_HEAD(, Lease) unsaved;
        unsigned n; /* all */
        unsigned n_waiting;
        Quota waiters;
        uint64_t serial; /* of the last one */
        LIST_HEAD(, LeaseWalk) walks;
        PiecesList written; /* snapshots that are being written */
        Lease *next_waiter; /* where settle goes on in the queue; NULL: it is through */
        unsigned n_revoked;
        LIST_HEAD(LeaseBucket, Lease) by_id[LEASE_BUCKETS];
} LeaseTable;

void lease_table_init(LeaseTable *table);

/*
 * Makes a queued lease of @request (taken over on success) and links it to its owner. It is in table->all but
 * not waiting; nothing is charged.
 */
int lease_new(Manager *manager, LeaseRequest *request, Lease **ret_lease);
/* The same for one that had an id before the broker was restarted. */
int lease_new_with_id(Manager *manager, LeaseRequest *request, const char *id, Lease **ret_lease);
/* Unlinks and frees it, and its owner with the last one. Its charge must have been refunded, its streams
 * answered. */
Lease *lease_free(Lease *lease);
Lease *lease_find(const LeaseTable *table, const char *id);

/* Takes over @token, of LeaseTable.waiters. */
void lease_link_waiting(Lease *lease, QuotaToken *token);
void lease_unlink_waiting(Lease *lease);
void lease_link_revoking(Lease *lease);
void lease_unlink_revoking(Lease *lease);
/* Away from now on, to be revoked at @deadline_usec; a lease that is away already keeps its deadline. */
void lease_link_away(Lease *lease, uint64_t deadline_usec);
void lease_unlink_away(Lease *lease);
/* Ends at @deadline_usec, as nobody has come into its control group. */
void lease_link_unclaimed(Lease *lease, uint64_t deadline_usec);
void lease_unlink_unclaimed(Lease *lease);
/* Its file says what was: settle writes it anew. Only of a charged lease, others have none. */
void lease_mark_unsaved(Lease *lease);
void lease_unmark_unsaved(Lease *lease);
/* When something happens to it by itself, CLOCK_MONOTONIC, or UINT64_MAX. */
uint64_t lease_get_deadline(const Lease *lease);
/* Takes over what @offer says of instance, CPUs and size: what a queued lease waits for, or a new one gets.
 */
void lease_set_wanted(Lease *lease, const Offer *offer);
/* Replaces the reason; a sentence that cannot be copied is left out rather than failing. */
void lease_set_reason(Lease *lease, const char *reason);
/* True while it holds its CPUs: granted or revoking. */
bool lease_is_holding(const Lease *lease);
/* True while it is charged: granted, revoking or revoked. */
bool lease_is_charged(const Lease *lease);

/* Follows @lease with @call from now on. */
int lease_stream_new(Lease *lease, VarlinkCall *call, LeaseStreamKind kind);
LeaseStream *lease_stream_free(LeaseStream *stream);
