/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the files of arbitration share, and nobody else sees.
 */

#include <systemd/sd-event.h>

#include "broker/arbitration-level.h"
#include "broker/arbitration.h"
#include "broker/lease.h"
#include "policy/closed.h"
#include "policy/instance.h"

/* An instance by its name, as instances come and go. */
typedef struct ArbitrationPmu {
        ArbiterPmu facts;
        char instance[INSTANCE_NAME_MAX + 1];
} ArbitrationPmu;

struct Arbitration {
        Manager *manager;
        ArbitrationChoice choice;
        bool configured; /* once at least */
        bool told_hold;  /* that something could not be held, for another reason than a session */
        bool told_owner; /* that the kernel cannot take more owners */
        bool hold_anew;  /* instances or their CPUs are others: what is held may be nothing any more */
        bool retry_due;  /* the pause is over */

        Arbiter *arbiter;     /* NULL: none is wanted, or it has failed */
        ArbitrationPmu *pmus; /* of instances that are ready */
        size_t n_pmus;
        ArbiterHook highest; /* that the arbiter was made for */
        char failure[128];   /* why there is none, if one was wanted */
        uint64_t busy_read;  /* the run of settle() that has read the table again for a waiter's Busy */
        OwnerKey deciding;   /* an owner without leases yet, for which CPUs are closed; 0: none */

        CpuSet deciding_cpus; /* these */
        /* Of guest leases, whose own task-bound sessions are refused: those to be worked out anew. */
        LIST_HEAD(, LeaseOwner) stale_owners;
        ClosedCpus closed; /* in the kernel, now */
        bool closed_known; /* else the kernel may have more closed */

        Reserve *reserve;
        uint64_t tried_generation; /* of the copy of the table of sessions, when holding was tried last */
        sd_event_source *retry_timer;
        uint64_t retry_usec; /* the pause before the next try */
};

/* arbitration-setup.c */

/* The arbiter has failed with @r: from now on there is none. */
void arbitration_fail(Manager *manager, const char *what, int r);

/* arbitration-close.c */

/*
 * Closes the CPUs of @offer, for a lease of the owner @key (@known, if it has leases already), besides all
 * that is closed. RESERVE_E_BUSY: at level reserve the kernel does not let us, and the sums of sessions say
 * where.
 */
int arbitration_close(Manager *manager, const Offer *offer, LeaseOwner *known, OwnerKey key);
/* The arbiter is another one, or is to close now: all of it is closed anew. */
void arbitration_forget_closed(Manager *manager);

/* arbitration-owner.c: level enforce */

/* @cpus are closed to sessions on the owner's threads as soon as this returns, besides those that were. */
void arbitration_close_to_owner(Manager *manager, LeaseOwner *known, OwnerKey key, const CpuSet *cpus);
/* What leases @owner has is to be looked at by settle. */
void arbitration_mark_owner(Arbitration *arbitration, LeaseOwner *owner);
void arbitration_settle_owners(Manager *manager);
/* What an earlier process has closed to sessions of processes that own no guest lease is open again. */
void arbitration_open_other_owners(Manager *manager);

/* arbitration-hold.c: level reserve */

/* Holds the CPUs of @offer; RESERVE_E_BUSY: not all of them can be held. */
int arbitration_hold(Manager *manager, const Offer *offer);
/*
 * Holds @wanted, as far as SPUs have it on line; @waited: where others wait to hold. *@ret_kept: where what
 * is held is to stay; the rest is let go of by fdstore_sync().
 */
void arbitration_settle_held(Manager *manager, const CpuSet *wanted, const CpuSet *waited, CpuSet *ret_kept);
/* Asks the kernel again about those of @cpus on which somebody is whom nobody saw. True if one has gone. */
bool arbitration_ask_unseen(Manager *manager, const CpuSet *cpus);
int arbitration_on_retry(sd_event_source *source, uint64_t usec, void *userdata);
