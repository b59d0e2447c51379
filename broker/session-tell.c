/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Once per turn of the loop, so that of a session there is one event however often it was looked at
 * meanwhile, and none of one that came and went. How many at once a watcher gets is bounded as ever: beyond
 * its backlog it gets a snapshot instead, once it has read (events.h).
 */

#include "broker/session-tell.h"

#include "broker/events.h"
#include "broker/manager.h"
#include "broker/session-table.h"

static void tell(Manager *manager, Session *session) {
        if (session->facts.entering)
                return;

        if (!session->told)
                events_session(manager, session, "opened");
        else if (session->contended != session->told_contended)
                events_session(manager, session, session->contended ? "contended" : "uncontended");
        session->told = true;
        session->told_contended = session->contended;
}

void sessions_tell(Manager *manager) {
        SessionTable *table = &manager->sessions;
        Session *session;

        if (!table->news)
                return;

        table->news = false;
        while ((session = TAILQ_FIRST(&table->gone))) {
                events_session(manager, session, "closed");
                TAILQ_REMOVE(&table->gone, session, link);
                session_free(session);
        }
        TAILQ_FOREACH(session, &table->all, link)
                tell(manager, session);
}
