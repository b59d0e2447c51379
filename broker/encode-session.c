/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Host sessions as JSON.
 */

#include "broker/assign.h"
#include "broker/encode.h"
#include "broker/manager.h"

void encode_session(JsonWriter *w, const char *key, const Session *session) {
        const ArbiterSession *facts = &session->facts;

        json_write_object_begin(w, key);
        json_write_string(w, "kind", session_kind_to_string(session->kind));
        json_write_string(w, "instance", session->instance ? session->instance->name : facts->pmu);
        encode_int_or_null(w, "cpu", facts->cpu >= 0, (uint64_t)facts->cpu);
        encode_int_or_null(w, "task", session->kind != SESSION_KIND_CPU, (uint64_t)facts->target_thread);
        json_write_cpuset(w, "cpus", &session->reach);
        json_write_int(w, "pid", facts->pid);
        json_write_int(w, "uid", facts->uid);
        json_write_string(w, "command", facts->command);
        encode_int_or_null(w, "sinceUSec", session->since_usec > 0, session->since_usec);
        json_write_bool(w, "contended", session->contended);
        json_write_object_end(w);
}

void encode_draining(JsonWriter *w, const Manager *manager, const CpuSet *cpus) {
        const Session *session;
        CpuSet barred;

        assign_barred_to_sessions(manager, cpus, &barred);
        json_write_array_begin(w, "draining");
        TAILQ_FOREACH(session, &manager->sessions.all, link)
                if (cpuset_intersects(&session->reach, &barred) && !session->facts.entering)
                        encode_session(w, NULL, session);
        json_write_array_end(w);
}
