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

#include "bpf/arbiter.h"
#include "policy/instance.h"
#include "policy/session.h"
#include "util/cpuset.h"

typedef struct Manager Manager;

typedef struct Session {
        TAILQ_ENTRY(Session) link;
        ArbiterSession facts;
        SessionKind kind;
        const Instance
                *instance;   /* NULL: none that is there now has this PMU, so it conflicts with nothing */
        CpuSet reach;        /* empty: dead, its CPU is off line or its PMU gone */
        uint64_t since_usec; /* CLOCK_REALTIME; 0: it was open before the broker looked */
        bool suspected;      /* it may be dead: no process was seen to have it */
        bool contended;      /* it stands against a lease */
} Session;

typedef struct SessionTable {
        TAILQ_HEAD(SessionList, Session) all; /* by age */
        unsigned n;
        uint64_t generation; /* of the kernel's table that this is a copy of */
} SessionTable;

void session_table_init(SessionTable *table);
void session_table_deinit(SessionTable *table);

/*
 * Brings manager->sessions and manager->model.sessions to what the kernel's table says now. What is new or
 * gone is told to whoever watches, and marks dirty what depends on it. True in *@ret_changed if
 * model.sessions did.
 */
int sessions_read(Manager *manager, bool *ret_changed);
/* Works out instance, reach and occupancy anew: instances, CPUs on line, or the level are others. */
void sessions_place(Manager *manager);
/* Where task-bound sessions reach whose target is @process. */
void sessions_of_process(const Manager *manager, pid_t process, CpuSet *ret_cpus);
