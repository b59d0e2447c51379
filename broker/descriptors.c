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

/* Its socket, and the pidfd of its peer; the call that waits in it, for another process perhaps, has that
 * one's pidfd. */
#define PER_CONNECTION 3U
/* The pidfd of its owner. */
#define PER_LEASE 1U
/* The event that is held there. */
#define PER_CPU 1U
/* Of what systemd keeps: the descriptor to use, which is counted where it belongs, and one to know it by. */
#define PER_KEPT 1U
/* What is there in any case: the loop, its signals and timers, sockets that listen, files while they are
 * read. */
#define OTHERS 64U

#define DROP_IN "in section [Service] of a drop-in ('systemctl edit spe-broker')"

static uint64_t min_u64(uint64_t a, uint64_t b) {
        return a < b ? a : b;
}

DescriptorCount descriptors_needed(const Config *config, unsigned n_cpus, bool is_kept) {
        uint64_t n_connections = config->max_connections, n_leases = config->limits.max_leases;
        DescriptorCount needed;

        needed.store = is_kept ? min_u64(n_leases, FDSTORE_OWNERS_MAX) * PER_LEASE + n_cpus * PER_CPU +
                                         FDSTORE_ARBITER_MAX
                               : 0;
        needed.process = n_connections * PER_CONNECTION + n_leases * PER_LEASE + (uint64_t)n_cpus * PER_CPU +
                         FDSTORE_ARBITER_MAX + needed.store * PER_KEPT + OTHERS;
        return needed;
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
                    "of what is more, a restart finds owners of leases by their pids, and may for a moment "
                    "keep no host sessions off; set FileDescriptorStoreMax=%ju " DROP_IN
                    ", or a lower MaxLeases=",
                    config->limits.max_leases, (uintmax_t)needed, (uintmax_t)room, (uintmax_t)needed);
}

void descriptors_warn(const Manager *manager) {
        size_t room = fdstore_get_room(manager->fdstore);
        DescriptorCount needed =
                descriptors_needed(manager->config, cpuset_count(&manager->topology->possible), room > 0);

        warn_process(manager->config, needed.process);
        warn_store(manager->config, needed.store, room);
}
