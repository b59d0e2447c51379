/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The books. A charge is entered in four places at once (VM, user, instance, total) and remembers all of them
 * in its token, so that a refund cannot miss one or enter another. An account is in its tree exactly while it
 * has leases.
 */

#include "policy/ledger.h"

#include <assert.h>
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

typedef struct LedgerUser {
        uid_t uid;
        LedgerAccount account;
} LedgerUser;

typedef struct LedgerVm {
        uid_t uid;
        const char *name; /* of an entry: right behind it */
        LedgerAccount account;
} LedgerVm;

static int compare_uid(uid_t a, uid_t b) {
        return a < b ? -1 : a > b;
}

static int compare_users(const void *a, const void *b) {
        const LedgerUser *x = a, *y = b;

        return compare_uid(x->uid, y->uid);
}

static int compare_vms(const void *a, const void *b) {
        const LedgerVm *x = a, *y = b;
        int r = compare_uid(x->uid, y->uid);

        return r != 0 ? r : strcmp(x->name, y->name);
}

void ledger_deinit(Ledger *ledger) {
        assert(ledger->total.n_leases == 0);
        assert(ledger->total.bytes == 0);
        assert(!ledger->users);
        assert(!ledger->vms);

        *ledger = LEDGER_NULL;
}

LedgerAccount ledger_get_user(const Ledger *ledger, uid_t uid) {
        const LedgerUser key = {.uid = uid};
        LedgerUser **node = tfind(&key, &ledger->users, compare_users);

        return node ? (*node)->account : (LedgerAccount){0};
}

LedgerAccount ledger_get_vm(const Ledger *ledger, uid_t uid, const char *vm) {
        const LedgerVm key = {.uid = uid, .name = vm};
        LedgerVm **node = tfind(&key, &ledger->vms, compare_vms);

        return node ? (*node)->account : (LedgerAccount){0};
}

static int ref_user(Ledger *ledger, uid_t uid, LedgerUser **ret_user) {
        _cleanup_(freep) LedgerUser *fresh = NULL;
        LedgerUser **node;

        fresh = calloc(1, sizeof(*fresh));
        if (!fresh)
                return -ENOMEM;
        fresh->uid = uid;

        node = tsearch(fresh, &ledger->users, compare_users);
        if (!node)
                return -ENOMEM;

        *ret_user = *node;
        if (*node == fresh)
                fresh = NULL;
        return 0;
}

static int ref_vm(Ledger *ledger, uid_t uid, const char *name, LedgerVm **ret_vm) {
        _cleanup_(freep) LedgerVm *fresh = NULL;
        size_t size = strlen(name) + 1;
        LedgerVm **node;

        fresh = calloc(1, sizeof(*fresh) + size);
        if (!fresh)
                return -ENOMEM;
        fresh->uid = uid;
        fresh->name = memcpy(fresh + 1, name, size);

        node = tsearch(fresh, &ledger->vms, compare_vms);
        if (!node)
                return -ENOMEM;

        *ret_vm = *node;
        if (*node == fresh)
                fresh = NULL;
        return 0;
}

/* Takes an account without leases out of its tree. */
static void drop_user(Ledger *ledger, LedgerUser *user) {
        if (user->account.n_leases > 0)
                return;

        tdelete(user, &ledger->users, compare_users);
        free(user);
}

static void drop_vm(Ledger *ledger, LedgerVm *vm) {
        if (vm->account.n_leases > 0)
                return;

        tdelete(vm, &ledger->vms, compare_vms);
        free(vm);
}

static void account_enter(LedgerAccount *account, uint64_t bytes) {
        account->bytes += bytes;
        account->n_leases++;
}

static void account_leave(LedgerAccount *account, uint64_t bytes) {
        assert(account->n_leases > 0);
        assert(account->bytes >= bytes);

        account->bytes -= bytes;
        account->n_leases--;
}

static void enter_instance(Instance *instance, uint64_t bytes) {
        instance->charge += bytes;
        instance->n_leases++;
}

static void leave_instance(Instance *instance, uint64_t bytes) {
        assert(instance->n_leases > 0);
        assert(instance->charge >= bytes);

        instance->charge -= bytes;
        instance->n_leases--;
}

int ledger_charge(Ledger *ledger, uid_t uid, const char *vm, Instance *instance, uint64_t bytes,
                  LedgerCharge *ret_charge) {
        LedgerUser *user;
        LedgerVm *entry;
        uint64_t total;
        int r;

        /* No other account holds more than the total, so none of them can overflow either. */
        if (__builtin_add_overflow(ledger->total.bytes, bytes, &total))
                return -EOVERFLOW;

        r = ref_user(ledger, uid, &user);
        if (r)
                return r;

        r = ref_vm(ledger, uid, vm, &entry);
        if (r) {
                drop_user(ledger, user);
                return r;
        }

        account_enter(&ledger->total, bytes);
        account_enter(&user->account, bytes);
        account_enter(&entry->account, bytes);
        enter_instance(instance, bytes);

        *ret_charge = (LedgerCharge){
                .ledger = ledger,
                .user = user,
                .vm = entry,
                .instance = instance,
                .bytes = bytes,
        };
        return 0;
}

void ledger_refund(LedgerCharge *charge) {
        if (!charge->ledger)
                return;

        account_leave(&charge->ledger->total, charge->bytes);
        account_leave(&charge->user->account, charge->bytes);
        account_leave(&charge->vm->account, charge->bytes);
        leave_instance(charge->instance, charge->bytes);

        drop_user(charge->ledger, charge->user);
        drop_vm(charge->ledger, charge->vm);
        *charge = LEDGER_CHARGE_NULL;
}

int ledger_change(LedgerCharge *charge, uint64_t bytes) {
        Ledger *ledger = charge->ledger;
        uint64_t total;

        assert(ledger);
        if (__builtin_add_overflow(ledger->total.bytes - charge->bytes, bytes, &total))
                return -EOVERFLOW;

        ledger->total.bytes = total;
        charge->user->account.bytes += bytes - charge->bytes;
        charge->vm->account.bytes += bytes - charge->bytes;
        charge->instance->charge += bytes - charge->bytes;
        charge->bytes = bytes;
        return 0;
}

void ledger_move(LedgerCharge *charge, Instance *instance) {
        assert(charge->ledger);

        leave_instance(charge->instance, charge->bytes);
        enter_instance(instance, charge->bytes);
        charge->instance = instance;
}
