/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The sum of what each limit stands for. It is what can come together and not what usually does, so that a
 * configuration that fits never runs out of descriptors: nobody's connection or lease then depends on what
 * others have.
 */

#include "broker/descriptors.h"

#include <sys/resource.h>

#include "broker/fdstore.h"
#include "broker/log.h"

/* Its socket, and the pidfd of its peer. */
#define PER_CONNECTION 2U
/* The pidfd of whom the lease is to be for; a connection waits for one at a time. */
#define PER_WAITER 1U
/* The pidfd of its owner. */
#define PER_LEASE 1U
/* The event that is held there; where systemd keeps it, that is known by another one. So it is with BPF's. */
#define PER_CPU      1U
#define PER_CPU_KEPT 2U
/* What is there in any case: the loop, its signals and timers, sockets that listen, files while they are
 * read, and a few owners whose leases have just ended. */
#define OTHERS 128U

#define DROP_IN "in section [Service] of a drop-in ('systemctl edit spe-broker')"

static uint64_t min_u64(uint64_t a, uint64_t b) {
        return a < b ? a : b;
}

DescriptorCount descriptors_needed(const Config *config, size_t n_cpus, bool is_kept) {
        uint64_t n_connections = config->max_connections, n_leases = config->limits.max_leases;
        uint64_t n_keeping = n_cpus + FDSTORE_PROGRAMS_MAX;

        return (DescriptorCount){
                .process = n_connections * PER_CONNECTION + min_u64(n_connections, WAITERS_MAX) * PER_WAITER +
                           n_leases * PER_LEASE + n_keeping * (is_kept ? PER_CPU_KEPT : PER_CPU) + OTHERS,
                .store = is_kept ? min_u64(n_leases, FDSTORE_OWNERS_MAX) + n_keeping : 0,
        };
}

void descriptors_raise_limit(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
                return;

        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* if not, what there is is compared to what is needed */
}

static void warn_process(const Config *config, uint64_t needed) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= needed)
                return;

        log_message(LOG_WARNING,
                    "MaxConnections=%u and MaxLeases=%u can take %ju file descriptors on this host, and this "
                    "process may have %ju: when they are used up, connections and leases are refused that "
                    "these limits allow; set LimitNOFILE=%ju " DROP_IN ", or lower limits",
                    config->max_connections, config->limits.max_leases, (uintmax_t)needed,
                    (uintmax_t)limit.rlim_cur, (uintmax_t)needed);
}

static void warn_store(const Config *config, uint64_t needed, uint64_t room) {
        if (room >= needed)
                return;

        log_message(LOG_WARNING,
                    "MaxLeases=%u can have systemd keep %ju file descriptors on this host, and it keeps %ju: "
                    "after a restart, owners of more leases are found by their pids and start times alone; "
                    "set FileDescriptorStoreMax=%ju " DROP_IN ", or a lower MaxLeases=",
                    config->limits.max_leases, (uintmax_t)needed, (uintmax_t)room, (uintmax_t)needed);
}

void descriptors_warn(const Manager *manager) {
        size_t room = fdstore_get_room(manager->fdstore);
        DescriptorCount needed = descriptors_needed(manager->config, fdstore_count_cpus(), room > 0);

        warn_process(manager->config, needed.process);
        warn_store(manager->config, needed.store, room);
}
