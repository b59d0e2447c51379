/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Everything the daemon holds, and the order in which it changes. Only grant, end and settle change the
 * model. Everything else (a rescan, a reload, Assign, an owner's exit, a deadline) marks it dirty; settle()
 * then runs once per turn of the loop. All of it happens in one thread, so that a decision and its commit are
 * never apart.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "broker/arbitration.h"
#include "broker/check.h"
#include "broker/config.h"
#include "broker/fdstore.h"
#include "broker/gatekeeper.h"
#include "broker/guest.h"
#include "broker/host-events.h"
#include "broker/lease-journal.h"
#include "broker/lease-save.h"
#include "broker/lease-store.h"
#include "broker/lease.h"
#include "broker/misplaced.h"
#include "broker/owner-store.h"
#include "broker/refusal-log.h"
#include "broker/refusal.h"
#include "broker/session-doubt.h"
#include "broker/session.h"
#include "host/topology.h"
#include "policy/decide.h"
#include "varlink/server/server.h"

#define BOOT_ID_LENGTH 32U

/* Before anybody else is answered, but after owners that are gone. */
#define MANAGER_PRIORITY_SETTLE ((SD_EVENT_PRIORITY_IMPORTANT + SD_EVENT_PRIORITY_NORMAL) / 2)

/* What settle() has to look at again. */
typedef enum Dirty {
        DIRTY_INSTANCES = 1 << 0,   /* a new topology, or an instance that nothing holds any more */
        DIRTY_ASSIGNMENTS = 1 << 1, /* leases may have lost CPUs */
        DIRTY_DEADLINES = 1 << 2,   /* one of them has passed or is new */
        DIRTY_QUEUE = 1 << 3,       /* something was freed, or a waiter left */
        DIRTY_CONTENTION = 1 << 4,  /* a lease was revoked, or a revoked one ended */
        DIRTY_CLOSED = 1 << 5,      /* CPUs are to be closed to host sessions, or opened */
        DIRTY_UNSAVED = 1 << 6,     /* files of leases say what was */
        DIRTY_QUEUE_REST = 1 << 7,  /* what is left of the waiters of the last run */
} Dirty;

/* What only counts up; Describe's counters. */
typedef struct Counters {
        uint64_t leases_granted;
        uint64_t leases_ended;
        uint64_t leases_revoked;
        uint64_t requests_refused;
        uint64_t watch_losses;
        uint64_t rescans;
        uint64_t reloads;
} Counters;

/* What settle has found out of the waiters that it has looked at, while there are others. */
typedef struct QueuePass {
        Claims claims;
        Claims keeping;
        bool again;          /* something has changed meanwhile: another pass follows */
        bool incomplete;     /* one of them could be neither granted nor refused */
        uint64_t generation; /* the run of settle that did the last part of it */
} QueuePass;

/* What main was told. */
typedef struct ManagerOptions {
        const char *config;   /* --config, or NULL */
        const char *root;     /* --root, or NULL */
        const char *socket;   /* --socket, or NULL */
        const char *simulate; /* --simulate, or NULL */
} ManagerOptions;

typedef struct Manager {
        sd_event *event;
        ManagerOptions options;
        int root_fd;  /* etc/, run/, var/ and the host's facts are below it */
        int facts_fd; /* where sys/ is: root_fd, or the simulated tree's directory */
        bool foreign; /* --root or --simulate: the host looked at is not this machine */
        char boot_id[BOOT_ID_LENGTH + 1];

        Config *config;
        bool manages_memlock; /* the configuration says so, or leaves it to this machine's broker */
        Topology *topology;   /* with what KVM says of its SPUs */
        Guest guest;
        FdStore *fdstore;
        OwnerStore *owner_store;
        LeaseStore *lease_store;
        LeaseSaving saving;
        LeaseJournal lease_journal;
        HostEvents *host_events;
        HostCheck check;
        Model model;
        VarlinkServer *server;

        LeaseTable leases;
        OwnerTable owners;
        QueuePass queue_pass;
        Claims claims;  /* of all waiters */
        Claims keeping; /* of those for which CPUs are kept free of new host sessions */
        RefusalLog refusals;
        LIST_HEAD(, Watch) watches;
        unsigned n_watches;
        Quota watchers;
        LIST_HEAD(, AssignWait) assign_waits;
        Arbitration *arbitration;
        Gatekeeper *gatekeeper;
        SessionTable sessions;
        SessionDoubt *doubt; /* of some of them */
        Misplaced *misplaced;
        CpuSet reassigned; /* CPUs whose assignments have changed: news for whoever watches */
        Counters counters;

        unsigned dirty;
        unsigned dirty_later;       /* for the next run of settle(), in a moment */
        uint64_t settle_generation; /* counts runs of settle; leases remember the one that changed them */
        sd_event_source *settle_source;
        sd_event_source *deadline_timer; /* CLOCK_MONOTONIC: waits and graces */
        sd_event_source *expiry_timer;   /* CLOCK_REALTIME: assignments */
} Manager;

/* Takes what systemd has handed over, opens root and tree, reads the configuration, scans, reads saved
 * assignments. Logs what is odd. */
int manager_new(sd_event *event, const ManagerOptions *options, Manager **ret_manager);
Manager *manager_free(Manager *manager);
DEFINE_CLEANUP(Manager *, manager_free)

/* Serves on @fd, a listening socket, taken over on success. */
int manager_listen(Manager *manager, int fd);

/* Logs what stands in the way of each instance that is not ready, and of the scan. */
void manager_log_problems(const Manager *manager);

/* Scans the host again; a failed scan leaves the topology as it was. */
int manager_rescan(Manager *manager);

/* Reads the configuration again: CONFIG_E_INVALID with the fault, and the running one stays in force. */
int manager_reload(Manager *manager, ConfigFault *ret_fault);

/* Marks @what; settle() runs before the loop turns to anything else. */
void manager_mark_dirty(Manager *manager, unsigned what);

uint64_t manager_now_realtime(const Manager *manager);
uint64_t manager_now_monotonic(const Manager *manager);
