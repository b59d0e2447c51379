/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The daemon's copy of the kernel's table of host sessions, with what it adds: the instance's name as the
 * interface has it, the reach as it is now, whether a lease is contended. It may lag: who is about to grant a
 * lease closes its CPUs first and then has it brought up to date (arbitration.h).
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "bpf/arbiter.h"
#include "broker/pieces.h"
#include "host/owner.h"
#include "policy/instance.h"
#include "policy/session.h"
#include "util/cpuset.h"
#include "util/rate-limit.h"

typedef struct Manager Manager;
typedef struct SessionTarget SessionTarget;
typedef struct SessionWalk SessionWalk;

typedef struct Session {
        LIST_ENTRY(Session) bucket_link; /* SessionTable.by_id */
        TAILQ_ENTRY(Session) link;       /* SessionTable.all, or .gone */
        uint64_t serial;                 /* counts those that there were: in the order of SessionTable.all */
        ArbiterSession facts;
        SessionKind kind;
        SessionTarget *target; /* NULL: CPU-wide */
        const Instance
                *instance;   /* NULL: none that is there now has this PMU, so it conflicts with nothing */
        CpuSet reach;        /* empty: dead, its CPU is off line or its PMU gone */
        bool detached;       /* CPU-wide, and its CPU was off line: perf has let go of it for good */
        uint64_t since_usec; /* CLOCK_REALTIME; 0: it was open before the broker looked */
        bool suspected;      /* it may be dead: no process was seen to have it */
        bool contended;      /* it stands against a lease */
        bool told;           /* whoever watches knows of it, */
        bool told_contended; /* and that it is contended */
        bool met;            /* by the read that goes on */
        bool doubted;        /* suspected, and whether it is dead the kernel cannot say (session-doubt.c) */
} Session;

/* A process on whose threads there are sessions. */
struct SessionTarget {
        LIST_ENTRY(SessionTarget) link; /* SessionTable.by_process */
        pid_t process;
        char *cgroup;         /* the control group that it is in, or NULL: as it was at */
        uint64_t cgroup_usec; /* CLOCK_MONOTONIC; 0: nobody has asked yet */
        unsigned n;           /* sessions */
        CpuSet reach;         /* of all of them */
        CpuSet admitted;      /* of those that the kernel has decided on */
        CpuSet leased;        /* held by leases of this process that sessions stand against */
};

#define SESSION_BUCKETS 1024U

typedef struct SessionTable {
        TAILQ_HEAD(SessionList, Session) all; /* by age */
        struct SessionList gone;              /* those of which it has not been told yet that they are */
        unsigned n;
        uint64_t serial; /* of the last one */
        LIST_HEAD(, SessionWalk) walks;
        PiecesList written;        /* snapshots that are being written */
        uint64_t generation;       /* of the kernel's table that this is a copy of */
        bool current;              /* it is a copy of that whole table, and all was decided there */
        SessionOccupancy admitted; /* model.sessions without those that may still be refused */
        bool news;                 /* something has not been told yet */
        /*
         * CPUs on which the kernel let the broker have no event, so that somebody has one, while none was
         * seen there. Written by arbitration; sessions_place() is to be called then.
         */
        CpuSet unseen;
        uint64_t look_usec; /* CLOCK_MONOTONIC: not before that are targets' affinities read anew */
        LIST_HEAD(SessionBucket, Session) by_id[SESSION_BUCKETS];
        LIST_HEAD(SessionTargetBucket, SessionTarget) by_process[SESSION_BUCKETS];

        sd_event_source *bell; /* the arbiter's doorbell (session-bell.h) */
        sd_event_source *bell_timer;
        bool failed; /* the last read, and that was logged */

        RateLimit refusals;     /* of sessions, that are looked into */
        uint64_t refusals_lost; /* those that were not */
        RateLimit refusal_journal;
        RateLimit lease_journal;
        RateLimit wait_journal;
} SessionTable;

void session_table_init(SessionTable *table);
void session_table_deinit(SessionTable *table);

/*
 * Brings manager->sessions and manager->model.sessions to what the kernel's table says now. What is new or
 * gone is told to whoever watches, by the end of this turn, and marks dirty what depends on it. True in
 * *@ret_changed if there are other sessions now, or they reach other CPUs. If it fails, the last copy stays.
 */
int sessions_read(Manager *manager, bool *ret_changed);
/* Works out instance, reach and occupancy anew: instances, CPUs on line, or the level are others. */
void sessions_place(Manager *manager);
/* @instance is about to be freed; sessions_place() follows. */
void sessions_forget_instance(Manager *manager, const Instance *instance);
/* Where task-bound sessions reach whose target is @owner, or in it. */
void sessions_of_owner(const Manager *manager, const Owner *owner, CpuSet *ret_cpus);
/* Whether the target of a task-bound session is @owner, or in it: of a control group as it was within the
 * last second. */
bool session_is_of(const Session *session, const Owner *owner);
