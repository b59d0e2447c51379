/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The books: bytes and leases per VM (keyed by user and name), per user, per instance and in all. What was
 * charged is held by a LedgerCharge, a token embedded in the lease; refunding the token is the only release
 * path, is idempotent, and a zeroed token is a legal, empty one. Users and VMs exist in the books only while
 * something is charged to them.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy/instance.h"

typedef struct LedgerAccount {
        uint64_t bytes;
        unsigned n_leases;
} LedgerAccount;

typedef struct Ledger {
        LedgerAccount total;
        void *users; /* tsearch() trees, private to ledger.c */
        void *vms;
} Ledger;

typedef struct LedgerCharge {
        Ledger *ledger; /* NULL: nothing is charged */
        struct LedgerUser *user;
        struct LedgerVm *vm;
        Instance *instance;
        uint64_t bytes;
} LedgerCharge;

#define LEDGER_NULL        ((Ledger){0})
#define LEDGER_CHARGE_NULL ((LedgerCharge){0})

void ledger_deinit(Ledger *ledger); /* asserts that all has been refunded */

/* Zero accounts where nothing is charged. */
LedgerAccount ledger_get_user(const Ledger *ledger, uid_t uid);
LedgerAccount ledger_get_vm(const Ledger *ledger, uid_t uid, const char *vm);

/*
 * Charges one lease. Limits are decide's business; this only books. -ENOMEM, or -EOVERFLOW for more bytes
 * than a sum can hold, with nothing booked.
 */
int ledger_charge(Ledger *ledger, uid_t uid, const char *vm, Instance *instance, uint64_t bytes,
                  LedgerCharge *ret_charge);
void ledger_refund(LedgerCharge *charge);
/* Books @bytes in place of what @charge, which is not empty, holds. -EOVERFLOW, never for fewer, with nothing
 * changed. */
int ledger_change(LedgerCharge *charge, uint64_t bytes);
/* Books what is charged on @instance from now on: the SPU has another name. Nothing else changes. */
void ledger_move(LedgerCharge *charge, Instance *instance);
