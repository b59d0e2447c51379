/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A picture of the broker's leases, SPUs and host sessions, kept by its events. Of the broker's events alone
 * nobody could say what has changed between two snapshots.
 */

#include "speadm/view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "speadm/event.h"
#include "speadm/field.h"
#include "util/cleanup.h"

/* "instance kind pid cpu task": the longest has a name and three numbers. */
#define SESSION_KEY_MAX 512

static void view_clear(View *view) {
        json_object_put(view->leases);
        json_object_put(view->instances);
        json_object_put(view->sessions);
        *view = VIEW_NULL;
}

void view_deinit(View *view) {
        view_clear(view);
}

static int view_init(View *view) {
        *view = (View){
                .leases = json_object_new_object(),
                .instances = json_object_new_object(),
                .sessions = json_object_new_object(),
        };
        if (view->leases && view->instances && view->sessions)
                return 0;

        view_clear(view);
        return -ENOMEM;
}

static int put(struct json_object *map, const char *key, const struct json_object *object) {
        struct json_object *value = json_object_get((struct json_object *)object);

        if (!key) {
                json_object_put(value);
                return 0;
        }
        if (json_object_object_add(map, key, value) == 0)
                return 0;

        json_object_put(value);
        return -ENOMEM;
}

static int note_lease(View *view, const struct json_object *lease) {
        const char *id = field_string(lease, "leaseId"), *state = field_string(lease, "state");

        if (id && state && strcmp(state, "ended") == 0) {
                json_object_object_del(view->leases, id);
                return 0;
        }
        return put(view->leases, id, lease);
}

static int note_instance(View *view, const struct json_object *instance) {
        const char *name = field_string(instance, "name"), *state = field_string(instance, "state");

        if (name && state && strcmp(state, "gone") == 0 && field_unsigned(instance, "leases") == 0) {
                json_object_object_del(view->instances, name);
                return 0;
        }
        return put(view->instances, name, instance);
}

/* What a session is to the kernel; when it was opened is forgotten by a broker that restarts. */
static int note_session(View *view, const struct json_object *session, bool closed) {
        const char *instance = field_string(session, "instance"), *kind = field_string(session, "kind");
        char key[SESSION_KEY_MAX];

        (void)snprintf(key, sizeof(key), "%s %s %" PRId64 " %" PRId64 " %" PRId64, instance ? instance : "",
                       kind ? kind : "", field_int(session, "pid", -1), field_int(session, "cpu", -1),
                       field_int(session, "task", -1));
        if (closed) {
                json_object_object_del(view->sessions, key);
                return 0;
        }
        return put(view->sessions, key, session);
}

static int view_init_from(View *view, const struct json_object *snapshot) {
        const struct json_object *leases = field_array(snapshot, "leases"),
                                 *instances = field_array(snapshot, "instances"),
                                 *sessions = field_array(snapshot, "sessions");
        int r;

        r = view_init(view);
        for (size_t i = 0; r == 0 && i < array_length(leases); i++)
                r = note_lease(view, json_object_array_get_idx(leases, i));
        for (size_t i = 0; r == 0 && i < array_length(instances); i++)
                r = note_instance(view, json_object_array_get_idx(instances, i));
        for (size_t i = 0; r == 0 && i < array_length(sessions); i++)
                r = note_session(view, json_object_array_get_idx(sessions, i), false);
        return r;
}

/* --- What is another --- */

static bool differs(const struct json_object *a, const struct json_object *b, const char *key) {
        return !json_object_equal(json_object_object_get(a, key), json_object_object_get(b, key));
}

/* The word for what has become of a lease; NULL: nothing but that time has passed. */
static const char *lease_change(const struct json_object *before, const struct json_object *after) {
        static const char *const others[] = {"instance", "pmuType", "reason", "restartRequired"};
        const char *state = field_string(after, "state");

        if (!state)
                state = "?";
        if (!before)
                return state;
        if (differs(before, after, "state"))
                return strcmp(state, "granted") == 0 ? "restored" : state;
        if (differs(before, after, "cpus"))
                return "cpus";
        if (differs(before, after, "contended"))
                return field_bool(after, "contended") ? "contended" : "uncontended";
        if (field_bool(before, "misplaced") != field_bool(after, "misplaced")) /* older brokers do not say */
                return field_bool(after, "misplaced") ? "misplaced" : "placed";
        for (size_t i = 0; i < ELEMENTS_OF(others); i++)
                if (differs(before, after, others[i]))
                        return "updated";
        return NULL;
}

static void print_leases(const struct json_object *before, const struct json_object *after) {
        json_object_object_foreach(before, id, lease) {
                if (!json_object_object_get_ex(after, id, NULL))
                        event_print_lease("ended", lease);
        }
        json_object_object_foreach(after, new_id, new_lease) {
                const char *change = lease_change(json_object_object_get(before, new_id), new_lease);

                if (change)
                        event_print_lease(change, new_lease);
        }
}

/* What it was like is over. */
static void print_gone(const char *name) {
        struct json_object *gone = json_object_new_object();

        if (gone && json_object_object_add(gone, "name", json_object_new_string(name)) == 0 &&
            json_object_object_add(gone, "state", json_object_new_string("gone")) == 0)
                event_print_instance(gone);
        json_object_put(gone);
}

static void print_instances(const struct json_object *before, const struct json_object *after) {
        json_object_object_foreach(before, name, instance) {
                (void)instance;
                if (!json_object_object_get_ex(after, name, NULL))
                        print_gone(name);
        }
        json_object_object_foreach(after, new_name, new_instance) {
                if (!json_object_equal(json_object_object_get(before, new_name), new_instance))
                        event_print_instance(new_instance);
        }
}

static void print_sessions(const struct json_object *before, const struct json_object *after) {
        json_object_object_foreach(before, key, session) {
                if (!json_object_object_get_ex(after, key, NULL))
                        event_print_session("closed", session);
        }
        json_object_object_foreach(after, new_key, new_session) {
                struct json_object *old;

                if (!json_object_object_get_ex(before, new_key, &old))
                        event_print_session("opened", new_session);
                else if (differs(old, new_session, "contended"))
                        event_print_session(field_bool(new_session, "contended") ? "contended"
                                                                                 : "uncontended",
                                            new_session);
        }
}

static int replace(View *view, const struct json_object *snapshot) {
        _cleanup_(view_deinit) View next = VIEW_NULL;
        View before;
        int r;

        r = view_init_from(&next, snapshot);
        if (r < 0)
                return r;

        if (view->leases) {
                print_instances(view->instances, next.instances);
                print_leases(view->leases, next.leases);
                print_sessions(view->sessions, next.sessions);
        }

        before = *view;
        *view = next;
        next = before;
        return 0;
}

int view_update(View *view, const struct json_object *event) {
        const struct json_object *snapshot = field_object(event, "snapshot"),
                                 *lease = field_object(field_object(event, "lease"), "lease"),
                                 *instance = field_object(event, "instance"),
                                 *session = field_object(event, "session");
        const char *change = field_string(session, "change");

        if (snapshot)
                return replace(view, snapshot);
        if (!view->leases)
                return 0;
        if (lease)
                return note_lease(view, lease);
        if (instance)
                return note_instance(view, instance);
        if (session)
                return note_session(view, field_object(session, "session"),
                                    change && strcmp(change, "closed") == 0);
        return 0;
}
