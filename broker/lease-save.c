/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Writes the files of leases, and tells the journal when that does not work: once, and once again when it
 * does, however many leases there are and however often it is tried.
 */

#include "broker/lease-save.h"

#include <errno.h>
#include <string.h>

#include "broker/lease-store.h"
#include "broker/log.h"
#include "broker/manager.h"

/* A file system that is nearly full may fail and work by turns. */
#define TELL_PAUSE_USEC UINT64_C(60000000)

/* What to do about it, as the end of a sentence. */
static const char *get_advice(int error) {
        switch (-error) {
        case ENOSPC:
        case EDQUOT:
                return ": make room on its file system";
        case EACCES:
        case EPERM:
        case EROFS:
                return ": see that spe-broker may write there";
        default:
                return "";
        }
}

static void tell(Manager *manager, int r) {
        uint64_t now = manager_now_monotonic(manager);
        LeaseSaving *saving = &manager->saving;
        bool failing = r < 0;

        if (failing == saving->failing)
                return;

        /* That it works again is told if that it does not was. */
        if (failing && saving->told_usec != 0 && now - saving->told_usec < TELL_PAUSE_USEC)
                return;

        saving->failing = failing;
        if (!failing) {
                log_message(LOG_NOTICE, "/" LEASE_STORE_PATH ": can be written again");
                return;
        }
        saving->told_usec = now;
        log_message(LOG_ERR,
                    "/" LEASE_STORE_PATH ": cannot be written: %s; no lease is granted until it can%s",
                    strerror(-r), get_advice(r));
}

int leases_save(Manager *manager) {
        Lease *lease;
        int r;

        r = lease_store_flush(manager->lease_store);
        while (r == 0 && (lease = LIST_FIRST(&manager->leases.unsaved)))
                r = lease_save(manager, lease);

        tell(manager, r);
        return r;
}

int lease_save(Manager *manager, Lease *lease) {
        int r;

        r = lease_store_save(manager->lease_store, lease);
        if (r == 0)
                lease_unmark_unsaved(lease);

        tell(manager, r);
        return r;
}

void lease_save_end(Manager *manager, Lease *lease) {
        lease_unmark_unsaved(lease);
        lease_store_remove(manager->lease_store, lease->id);
        if (lease_store_flush(manager->lease_store) < 0)
                manager_mark_dirty(manager, DIRTY_UNSAVED);
}
