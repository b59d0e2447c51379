/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the files of the gatekeeper share, and nobody else sees.
 */

#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "broker/gatekeeper.h"
#include "broker/lease.h"
#include "util/kvm-numbers.h"
#include "util/rate-limit.h"

/* What the kernel admits an owner to. */
typedef struct GateOwner {
        LIST_ENTRY(GateOwner) link;
        LeaseOwner *owner;
        GateGrant *grants;
        size_t n_grants;
} GateOwner;

struct Gatekeeper {
        Manager *manager;
        Gate *gate;        /* NULL: none is wanted, or it could not be made */
        char failure[128]; /* why it could not */
        sd_event_source *source;
        KvmNumbers numbers; /* that it goes by */

        GateLevel level;
        char reason[512];
        bool configured; /* once at least */
        bool admits;     /* what the kernel admits whom to is known, and follows */
        bool told;       /* that the kernel's table could not be changed */
        LIST_HEAD(, GateOwner) owners;

        RateLimit refusals;     /* that are looked into */
        uint64_t refusals_lost; /* those that were not */
        RateLimit journal;
};

/* gatekeeper-owner.c */

/* Brings the whole table in the kernel to what leases allow now. */
void gatekeeper_admit_all(Manager *manager);
/* Nothing is known of what the kernel admits whom to. */
void gatekeeper_forget_owners(Gatekeeper *gatekeeper);

/* gatekeeper-refusal.c */

/* A GateRefusalFn; @userdata is the manager. Without memory, it is not told of. */
void gatekeeper_refused(const GateRefusal *gate_refusal, void *userdata);
