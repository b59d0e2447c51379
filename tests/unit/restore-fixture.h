/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A broker (tests/unit/broker-fixture.h) whose leases are compared to their files, and over restarts.
 */

#include "tests/unit/broker-fixture.h"

#include <errno.h>
#include <fcntl.h>

#include "broker/lease-record.h"

_unused_ static void path_of(const Broker *broker, const char *id, char path[static 128]) {
        (void)snprintf(path, 128, "%s/" LEASE_STORE_PATH "/%s", broker->path, id);
}

_unused_ static bool is_on_record(const Broker *broker, LeaseId id) {
        char path[128];

        path_of(broker, id.text, path);
        return access(path, F_OK) == 0;
}

_unused_ static struct json_object *read_record(const Broker *broker, const char *id) {
        _cleanup_(freep) char *text = NULL;
        struct json_object *record;
        char path[128];
        size_t n;

        path_of(broker, id, path);
        assert_int_equal(fs_read_all(AT_FDCWD, path, LEASE_RECORD_MAX, &text, &n), 0);
        assert_int_equal(json_read(text, n, &record, NULL), 0);
        return record;
}

_unused_ static struct json_object *make_record(const Broker *broker, const Lease *lease) {
        _cleanup_(buffer_deinit) Buffer buffer = BUFFER_INIT(LEASE_RECORD_MAX);
        struct json_object *record;

        assert_int_equal(lease_record_write(lease, broker->manager->boot_id, &buffer), 0);
        assert_int_equal(json_read(buffer.data + buffer.start, buffer_pending(&buffer), &record, NULL), 0);
        return record;
}

/* Every charged lease has a file that says what it is, and there is no other file. */
_unused_ static void assert_on_record(const Broker *broker) {
        static const char *const members[] = {"/request", "/owner", "/state", "/bootId"};
        _cleanup_(closedirp) DIR *dir = NULL;
        unsigned n_files = 0, n_leases = 0;
        struct dirent *entry;
        char path[128];
        const Lease *lease;

        path_of(broker, "", path);
        dir = opendir(path);
        assert_non_null(dir);
        while ((entry = readdir(dir)))
                n_files += entry->d_name[0] != '.';

        TAILQ_FOREACH(lease, &broker->manager->leases.all, link) {
                struct json_object *said, *is;

                if (!lease_is_charged(lease))
                        continue;
                n_leases++;
                said = read_record(broker, lease->id);
                is = make_record(broker, lease);
                for (size_t i = 0; i < ELEMENTS_OF(members); i++)
                        if (!json_object_equal(at(said, members[i]), at(is, members[i])))
                                fail_msg("on record:\n%s\nis:\n%s", json_object_to_json_string(said),
                                         json_object_to_json_string(is));
                json_object_put(said);
                json_object_put(is);
        }
        assert_int_equal(n_files, n_leases);
}

_unused_ static void restart(Broker *broker) {
        broker_stop(broker);
        broker_start(broker);
}

/* The leases that there are, without what is left of their graces. */
_unused_ static struct json_object *list(Client *client) {
        struct json_object *leases;

        leases = json_object_get(at(client_call(client, BROKER "ListLeases", NULL), "/parameters/leases"));
        for (size_t i = 0; i < json_object_array_length(leases); i++)
                json_object_object_del(json_object_array_get_idx(leases, i), "remainingUSec");
        return leases;
}

_unused_ static struct json_object *find_in(struct json_object *leases, const char *id) {
        for (size_t i = 0; i < json_object_array_length(leases); i++) {
                struct json_object *lease = json_object_array_get_idx(leases, i);

                if (strcmp(text_at(lease, "/leaseId"), id) == 0)
                        return lease;
        }
        return NULL;
}

_unused_ static void assert_same(struct json_object *before, struct json_object *after) {
        size_t n = json_object_array_length(before);

        assert_int_equal(json_object_array_length(after), n);
        for (size_t i = 0; i < n; i++) {
                struct json_object *lease = json_object_array_get_idx(before, i);
                struct json_object *again = find_in(after, text_at(lease, "/leaseId"));

                if (!again || !json_object_equal(lease, again))
                        fail_msg("before:\n%s\nafter:\n%s", json_object_to_json_string(lease),
                                 again ? json_object_to_json_string(again) : "nothing");
        }
}

/* What is summed up over leases, to compare it. */
typedef struct Sums {
        Occupancy occupancy;
        LedgerAccount total;
        LedgerAccount user;
        uint64_t charge[2];
        unsigned n_leases[2];
        unsigned n_revoked;
} Sums;

_unused_ static void sum_up(const Broker *broker, Sums *ret_sums) {
        const Model *model = &broker->manager->model;

        *ret_sums = (Sums){
                .occupancy = model->occupancy,
                .total = model->ledger.total,
                .user = ledger_get_user(&model->ledger, getuid()),
                .n_revoked = broker->manager->leases.n_revoked,
        };
        for (size_t i = 0; i < 2; i++) {
                ret_sums->charge[i] = model->instances.entries[i]->charge;
                ret_sums->n_leases[i] = model->instances.entries[i]->n_leases;
        }
}
