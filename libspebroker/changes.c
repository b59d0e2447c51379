/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Two states of a lease compared. Events were lost between the two, so what is told is not what happened, but
 * what is another: a lease that shrank and grew again has not changed.
 */

#include "libspebroker/changes.h"

#include <string.h>

#include "libspebroker/lease.h"

typedef struct Changes {
        const char **words;
        size_t n;
} Changes;

static void add(Changes *changes, const char *word) {
        changes->words[changes->n++] = word;
}

static bool differs(const char *a, const char *b) {
        return strcmp(a ? a : "", b ? b : "") != 0;
}

/* What only "updated" stands for. */
static bool is_updated(const struct spebroker_lease *before, const struct spebroker_lease *after) {
        return spebroker_lease_get_pmu_type(before) != spebroker_lease_get_pmu_type(after) ||
               spebroker_lease_is_restart_required(before) != spebroker_lease_is_restart_required(after) ||
               spebroker_lease_get_buffer_size(before) != spebroker_lease_get_buffer_size(after) ||
               spebroker_lease_get_charge(before) != spebroker_lease_get_charge(after) ||
               differs(spebroker_lease_get_instance(before), spebroker_lease_get_instance(after)) ||
               differs(spebroker_lease_get_state(before), spebroker_lease_get_state(after)) ||
               differs(spebroker_lease_get_mode(before), spebroker_lease_get_mode(after)) ||
               differs(spebroker_lease_get_vm(before), spebroker_lease_get_vm(after)) ||
               differs(spebroker_lease_get_reason(before), spebroker_lease_get_reason(after));
}

/* It can be used, and could not be, or not as it can now. */
static bool is_restored(const struct spebroker_lease *before, const struct spebroker_lease *after) {
        if (!lease_is(after, "granted") || spebroker_lease_get_pmu_type(after) < 0 ||
            spebroker_lease_is_restart_required(after))
                return false;

        return !lease_is(before, "granted") || spebroker_lease_is_restart_required(before) ||
               spebroker_lease_get_pmu_type(before) != spebroker_lease_get_pmu_type(after) ||
               differs(spebroker_lease_get_instance(before), spebroker_lease_get_instance(after));
}

static void compare_granted(const struct spebroker_lease *before, const struct spebroker_lease *after,
                            Changes *changes) {
        if (is_restored(before, after))
                add(changes, "restored");
        if (differs(spebroker_lease_get_cpus(before), spebroker_lease_get_cpus(after)))
                add(changes, "cpus");
        if (spebroker_lease_is_contended(before) != spebroker_lease_is_contended(after))
                add(changes, spebroker_lease_is_contended(after) ? "contended" : "uncontended");
        if (spebroker_lease_is_misplaced(before) != spebroker_lease_is_misplaced(after))
                add(changes, spebroker_lease_is_misplaced(after) ? "misplaced" : "placed");
        if (differs(spebroker_lease_get_state(before), spebroker_lease_get_state(after))) {
                if (lease_is(after, "revoking"))
                        add(changes, "revoking");
                if (lease_is(after, "revoked"))
                        add(changes, "revoked");
        }
        if (changes->n == 0 && is_updated(before, after))
                add(changes, "updated");
}

/* A request that waited was made anew: as another lease, at the end of the queue. */
static void compare_queued(const struct spebroker_lease *before, const struct spebroker_lease *after,
                           Changes *changes) {
        if (lease_is(after, "queued")) {
                if (differs(spebroker_lease_get_id(before), spebroker_lease_get_id(after)))
                        add(changes, "queued");
                return;
        }

        add(changes, "granted");
        if (lease_is(after, "revoking"))
                add(changes, "revoking");
        if (lease_is(after, "revoked"))
                add(changes, "revoked");
}

size_t changes_between(const struct spebroker_lease *before, const struct spebroker_lease *after,
                       const char *ret_changes[static CHANGES_MAX]) {
        Changes changes = {.words = ret_changes};

        if (!before)
                add(&changes, spebroker_lease_get_change(after));
        else if (lease_is(after, "ended"))
                add(&changes, "ended");
        else if (lease_is(before, "queued"))
                compare_queued(before, after, &changes);
        else
                compare_granted(before, after, &changes);

        return changes.n;
}
