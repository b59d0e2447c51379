/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A thousand leases take a millisecond or two to write, which others should not wait for, as often as
 * somebody begins to watch. So they are written some at a time, and what changes meanwhile is put right at
 * the end (pieces.h): no lease that is gone is in a snapshot, none is missing, and no two are in conflict.
 *
 * Instances are few, and their figures change with every lease: they are written at the end.
 */

#include "broker/snapshot.h"

#include <stdlib.h>

#include "broker/encode.h"
#include "broker/lease-walk.h"
#include "broker/manager.h"
#include "broker/pieces.h"
#include "broker/session-tell.h"
#include "broker/session-walk.h"

typedef enum SnapshotStep {
        SNAPSHOT_BEGIN,
        SNAPSHOT_LEASES,
        SNAPSHOT_SESSIONS,
} SnapshotStep;

struct Snapshot {
        Manager *manager;
        SnapshotStep step;
        LeaseWalk lease_walk;
        Pieces leases;
        SessionWalk session_walk;
        Pieces sessions;
};

static void write_lease(JsonWriter *w, const void *subject) {
        encode_lease(w, NULL, subject);
}

/* One that the kernel has not decided on yet may never have been. */
static void write_session(JsonWriter *w, const void *subject) {
        const Session *session = subject;

        if (!session->facts.entering)
                encode_session(w, NULL, session);
}

Snapshot *snapshot_new(Manager *manager) {
        Snapshot *snapshot = calloc(1, sizeof(*snapshot));

        if (!snapshot)
                return NULL;

        snapshot->manager = manager;
        lease_walk_begin(&snapshot->lease_walk, &manager->leases);
        pieces_init(&snapshot->leases, &manager->leases.written, write_lease);
        session_walk_begin(&snapshot->session_walk, &manager->sessions);
        pieces_init(&snapshot->sessions, &manager->sessions.written, write_session);
        return snapshot;
}

Snapshot *snapshot_free(Snapshot *snapshot) {
        if (!snapshot)
                return NULL;

        lease_walk_end(&snapshot->lease_walk);
        pieces_deinit(&snapshot->leases);
        session_walk_end(&snapshot->session_walk);
        pieces_deinit(&snapshot->sessions);
        free(snapshot);
        return NULL;
}

/* False: that was all, as far as anybody has gone through it. */
static bool write_next(Snapshot *snapshot, JsonWriter *w) {
        const Session *session;
        const Lease *lease;

        if (snapshot->step == SNAPSHOT_BEGIN) {
                json_write_object_begin(w, "snapshot");
                pieces_array_begin(&snapshot->leases, w, "leases");
                snapshot->step = SNAPSHOT_LEASES;
        }
        if (snapshot->step == SNAPSHOT_LEASES) {
                lease = lease_walk_next(&snapshot->lease_walk);
                if (lease) {
                        pieces_add(&snapshot->leases, w, lease->serial, lease);
                        return true;
                }
                pieces_array_end(&snapshot->leases, w);
                pieces_array_begin(&snapshot->sessions, w, "sessions");
                snapshot->step = SNAPSHOT_SESSIONS;
        }

        session = session_walk_next(&snapshot->session_walk);
        if (session)
                pieces_add(&snapshot->sessions, w, session->serial, session);
        return session;
}

/* Has it say what is so now. */
static void finish(Snapshot *snapshot, JsonWriter *w) {
        const Lease *lease;

        sessions_tell(snapshot->manager); /* to the others: this one has them in its snapshot */
        pieces_array_end(&snapshot->sessions, w);
        while ((lease = lease_walk_next(&snapshot->lease_walk)))
                pieces_add_late(&snapshot->leases, w, lease->serial, lease);

        /* The last ones first: what is behind those that are put right moves. */
        pieces_put_right(&snapshot->sessions, w);
        pieces_put_right(&snapshot->leases, w);
        encode_instances(w, snapshot->manager);
        json_write_object_end(w);
}

bool snapshot_write_part(Snapshot *snapshot, JsonWriter *w) {
        size_t full = buffer_pending(w->buffer) + PART_SIZE;

        for (unsigned i = 0; i < PART_ENTRIES_MAX && buffer_pending(w->buffer) < full; i++) {
                if (w->error < 0)
                        return true;
                if (!write_next(snapshot, w)) {
                        finish(snapshot, w);
                        return true;
                }
        }

        return false;
}
