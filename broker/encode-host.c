/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Describe's object: the broker about itself; and CheckHost's: what is with the host.
 */

#include "broker/encode.h"
#include "broker/manager.h"

/* Optional members and methods that this version has; a client that needs one looks here before it asks. */
static const char *const features[] = {
        "Request.pid", "Request.cgroup",        "Request.requestId", "Acquire.waitUSec",
        "Update.cpus", "Update.memlockMissing", "Revoke.kill",       "Assign.forUSec",
        "CheckHost",   "ListSessions",          "Lease.misplaced",
};

static void encode_limits(JsonWriter *w, const Config *config) {
        const Limits *limits = &config->limits;

        json_write_object_begin(w, "limits");
        json_write_int(w, "defaultBufferSize", (int64_t)limits->default_buffer_size);
        json_write_int(w, "maxBufferSize", (int64_t)limits->max_buffer_size);
        json_write_int(w, "maxMemoryPerVM", (int64_t)limits->max_memory_per_vm);
        json_write_int(w, "maxMemoryPerUser", (int64_t)limits->max_memory_per_user);
        json_write_int(w, "maxMemory", (int64_t)limits->max_memory);
        json_write_int(w, "maxLeases", limits->max_leases);
        json_write_int(w, "maxLeasesPerUser", limits->max_leases_per_user);
        json_write_int(w, "maxConnections", config->max_connections);
        json_write_int(w, "maxConnectionsPerUser", config->max_connections_per_user);
        json_write_object_end(w);
}

static void encode_counter(JsonWriter *w, const char *name, uint64_t value) {
        json_write_object_begin(w, NULL);
        json_write_string(w, "name", name);
        json_write_int(w, "value", (int64_t)value);
        json_write_object_end(w);
}

static void encode_counters(JsonWriter *w, const Manager *manager, const VarlinkServerCounters *server) {
        const HostEventsCounters *events = host_events_counters(manager->host_events);
        const Counters *counters = &manager->counters;
        ArbiterCounters sessions;
        GateCounters gate;

        arbitration_get_counters(manager->arbitration, &sessions);
        gatekeeper_get_counters(manager->gatekeeper, &gate);
        json_write_array_begin(w, "counters");
        encode_counter(w, "leases-granted", counters->leases_granted);
        encode_counter(w, "leases-ended", counters->leases_ended);
        encode_counter(w, "leases-revoked", counters->leases_revoked);
        encode_counter(w, "requests-refused", counters->requests_refused);
        encode_counter(w, "watch-losses", counters->watch_losses);
        encode_counter(w, "rescans", counters->rescans);
        encode_counter(w, "reloads", counters->reloads);
        encode_counter(w, "uevents", events->uevents);
        encode_counter(w, "uevents-of-vms", events->uevents_of_vms);
        encode_counter(w, "uevents-spoofed", events->uevents_spoofed);
        encode_counter(w, "uevent-losses", events->uevent_losses);
        encode_counter(w, "calls", server->calls);
        encode_counter(w, "call-errors", server->errors);
        encode_counter(w, "connections-refused", server->refused_connections);
        encode_counter(w, "connections-malformed", server->malformed);
        encode_counter(w, "connections-overflowed", server->overflows);
        encode_counter(w, "sessions-opened", sessions.opened);
        encode_counter(w, "sessions-closed", sessions.closed);
        encode_counter(w, "sessions-refused", sessions.refused);
        encode_counter(w, "session-table-full", sessions.full);
        encode_counter(w, "session-drift", sessions.drifted);
        encode_counter(w, "session-refusals-lost", sessions.lost + manager->sessions.refusals_lost);
        encode_counter(w, "gate-refused", gate.refused);
        encode_counter(w, "gate-reported", gate.reported);
        encode_counter(w, "gate-refusals-lost", gate.lost);
        json_write_array_end(w);
}

static void encode_counts(JsonWriter *w, const Manager *manager, const VarlinkServerCounters *server) {
        json_write_object_begin(w, "counts");
        json_write_int(w, "instances", (int64_t)manager->model.instances.n);
        json_write_int(w, "leases", manager->model.ledger.total.n_leases);
        json_write_int(w, "waiting", manager->leases.n_waiting);
        json_write_int(w, "connections", server->connections);
        json_write_int(w, "watchers", manager->n_watches);
        json_write_int(w, "sessions", manager->sessions.n);
        json_write_object_end(w);
}

/* Those that are known: who is told a guess might ask KVM for something else with it. */
static void encode_kvm_numbers(JsonWriter *w, const Manager *manager) {
        KvmNumbers numbers = kvm_numbers(manager->config->kvm_numbers);

        json_write_array_begin(w, "kvmNumbers");
        for (KvmNumber i = 0; i < _KVM_NUMBER_MAX; i++) {
                if (!kvm_number_is_known(&numbers, i))
                        continue;
                json_write_object_begin(w, NULL);
                json_write_string(w, "name", kvm_number_to_string(i));
                json_write_int(w, "value", kvm_number(&numbers, i));
                json_write_string(w, "origin", kvm_origin_to_string(numbers.of[i].origin));
                json_write_object_end(w);
        }
        json_write_array_end(w);
}

void encode_host(JsonWriter *w, const char *key, const Manager *manager) {
        VarlinkServerCounters server;

        varlink_server_get_counters(manager->server, &server);

        json_write_object_begin(w, key);
        json_write_string(w, "version", SPE_VERSION);
        json_write_array_begin(w, "features");
        for (size_t i = 0; i < ELEMENTS_OF(features); i++)
                json_write_string(w, NULL, features[i]);
        json_write_array_end(w);
        json_write_string(w, "level",
                          arbitration_level_to_string(arbitration_get_level(manager->arbitration)));
        json_write_string(w, "levelReason", arbitration_get_reason(manager->arbitration));
        json_write_bool(w, "levelKept",
                        arbitration_get_level(manager->arbitration) >= ARBITRATION_LEVEL_RESERVE &&
                                fdstore_is_keeping(manager->fdstore));
        json_write_string(w, "gate", gate_level_to_string(gatekeeper_get_level(manager->gatekeeper)));
        json_write_string(w, "gateReason", gatekeeper_get_reason(manager->gatekeeper));
        json_write_object_begin(w, "memlock");
        json_write_bool(w, "manage", manager->manages_memlock);
        json_write_bool(w, "able", manager->manages_memlock && memlock_limit_is_able());
        json_write_object_end(w);
        encode_kvm_numbers(w, manager);
        encode_limits(w, manager->config);
        json_write_int(w, "charge", (int64_t)manager->model.ledger.total.bytes);
        encode_counts(w, manager, &server);
        encode_counters(w, manager, &server);
        json_write_int(w, "nowUSec", (int64_t)manager_now_realtime(manager));
        json_write_string(w, "bootId", manager->boot_id);
        json_write_object_end(w);
}

void encode_checks(JsonWriter *w, const Check *checks, size_t n) {
        json_write_array_begin(w, "checks");
        for (size_t i = 0; i < n; i++) {
                json_write_object_begin(w, NULL);
                json_write_string(w, "name", checks[i].name);
                json_write_string(w, "status", check_status_to_string(checks[i].status));
                json_write_string(w, "reason", checks[i].reason);
                json_write_string(w, "advice", checks[i].advice);
                json_write_object_end(w);
        }
        json_write_array_end(w);
}
