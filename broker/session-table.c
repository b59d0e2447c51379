/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Ten thousand sessions are looked up at each ring of the doorbell, so they are found by address and by
 * target through buckets. The kernel hands out addresses in steps of its object size, which a multiplication
 * spreads.
 */

#include "broker/session-table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/session-walk.h"
#include "host/cgroup.h"
#include "util/clock.h"

/* Thousands of leases may ask of each of thousands of targets at a time. */
#define TARGET_LOOK_USEC USEC_PER_SEC

#define DELETE       0x7f
#define GOLDEN_RATIO UINT64_C(0x9e3779b97f4a7c15) /* 2^64 divided by it */
#define BUCKET_BITS  10
#define HASH_BITS    64

_Static_assert(1U << BUCKET_BITS == SESSION_BUCKETS, "a bucket per value");

static size_t hash(uint64_t value) {
        return (size_t)(value * GOLDEN_RATIO >> (HASH_BITS - BUCKET_BITS));
}

void session_table_init(SessionTable *table) {
        *table = (SessionTable){0};
        TAILQ_INIT(&table->all);
        TAILQ_INIT(&table->gone);
}

void session_table_deinit(SessionTable *table) {
        Session *session;

        while ((session = TAILQ_FIRST(&table->all))) {
                session->told = false;
                session_unlink(table, session);
        }
        while ((session = TAILQ_FIRST(&table->gone))) {
                TAILQ_REMOVE(&table->gone, session, link);
                session_free(session);
        }
}

SessionKind session_kind(const ArbiterSession *facts) {
        if (facts->target_thread == 0)
                return SESSION_KIND_CPU;

        return facts->cpu < 0 ? SESSION_KIND_TASK : SESSION_KIND_TASKCPU;
}

void session_clean(ArbiterSession *facts) {
        for (size_t i = 0; i < sizeof(facts->command) && facts->command[i]; i++)
                if ((unsigned char)facts->command[i] < ' ' || facts->command[i] == DELETE)
                        facts->command[i] = '?';
        facts->command[sizeof(facts->command) - 1] = '\0';
}

int session_new(const ArbiterSession *facts, Session **ret_session) {
        Session *session;

        session = calloc(1, sizeof(*session));
        if (!session)
                return -ENOMEM;

        session->facts = *facts;
        session->kind = session_kind(facts);

        *ret_session = session;
        return 0;
}

Session *session_free(Session *session) {
        free(session);
        return NULL;
}

/* Who has it may be another process at the next look, if nobody saw it being opened. */
static bool is_about(const Session *session, const ArbiterSession *facts) {
        return session->facts.id == facts->id && session->facts.opened_nsec == facts->opened_nsec &&
               session->facts.cpu == facts->cpu && session->facts.target_thread == facts->target_thread &&
               session->facts.target_process == facts->target_process &&
               strcmp(session->facts.pmu, facts->pmu) == 0;
}

Session *session_find(const SessionTable *table, const ArbiterSession *facts) {
        Session *session;

        LIST_FOREACH(session, &table->by_id[hash(facts->id)], bucket_link)
                if (is_about(session, facts))
                        return session;

        return NULL;
}

SessionTarget *session_target_find(const SessionTable *table, pid_t process) {
        SessionTarget *target;

        LIST_FOREACH(target, &table->by_process[hash((uint64_t)process)], link)
                if (target->process == process)
                        return target;

        return NULL;
}

void session_target_look(SessionTarget *target) {
        uint64_t now = clock_now_usec();
        char *path = NULL;

        if (target->cgroup_usec > 0 && now - target->cgroup_usec < TARGET_LOOK_USEC)
                return;

        (void)cgroup_path_of_process(target->process, &path); /* NULL: it is in none that counts */
        free(target->cgroup);
        target->cgroup = path;
        target->cgroup_usec = now;
}

static int target_get(SessionTable *table, pid_t process, SessionTarget **ret_target) {
        SessionTarget *target = session_target_find(table, process);

        if (!target) {
                target = calloc(1, sizeof(*target));
                if (!target)
                        return -ENOMEM;
                target->process = process;
                LIST_INSERT_HEAD(&table->by_process[hash((uint64_t)process)], target, link);
        }

        target->n++;
        *ret_target = target;
        return 0;
}

static void target_put(SessionTarget *target) {
        if (--target->n > 0)
                return;

        LIST_REMOVE(target, link);
        free(target->cgroup);
        free(target);
}

int session_link(SessionTable *table, Session *session) {
        if (session->kind != SESSION_KIND_CPU) {
                int r;

                r = target_get(table, session->facts.target_process, &session->target);
                if (r < 0)
                        return r;
        }

        LIST_INSERT_HEAD(&table->by_id[hash(session->facts.id)], session, bucket_link);
        session->serial = ++table->serial;
        TAILQ_INSERT_TAIL(&table->all, session, link);
        table->n++;
        return 0;
}

void session_unlink(SessionTable *table, Session *session) {
        session_walks_skip(table, session);
        pieces_note_end(&table->written, session->serial);
        LIST_REMOVE(session, bucket_link);
        TAILQ_REMOVE(&table->all, session, link);
        table->n--;
        if (session->target)
                target_put(session->target);
        session->target = NULL;

        if (session->told) {
                session->contended = false;
                TAILQ_INSERT_TAIL(&table->gone, session, link);
        } else
                session_free(session);
}
