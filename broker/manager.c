/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The manager: puts the parts together at start, in the order in which they depend on each other, and takes
 * them apart in the reverse. In between it holds the facts (topology, configuration) and runs settle() when
 * something is dirty.
 */

#include "broker/manager.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-id128.h>

#include "broker/assign.h"
#include "broker/descriptors.h"
#include "broker/end.h"
#include "broker/events.h"
#include "broker/guest.h"
#include "broker/log.h"
#include "broker/methods.h"
#include "broker/restore.h"
#include "broker/session-bell.h"
#include "broker/settle.h"
#include "host/simulate.h"
#include "util/error.h"
#include "util/fs.h"

#define SIMULATED_PATH "run/spe-broker/simulated"

/* So that there is always one to revoke leases with. */
#define CONNECTIONS_FOR_ROOT 16U

static const VarlinkServiceInfo service_info = {
        .vendor = "The spe-broker authors",
        .product = "spe-broker",
        .version = SPE_VERSION,
        .url = "https://spebroker.io",
};

uint64_t manager_now_realtime(const Manager *manager) {
        uint64_t usec = 0;

        (void)sd_event_now(manager->event, CLOCK_REALTIME, &usec);
        return usec;
}

uint64_t manager_now_monotonic(const Manager *manager) {
        uint64_t usec = 0;

        (void)sd_event_now(manager->event, CLOCK_MONOTONIC, &usec);
        return usec;
}

void manager_mark_dirty(Manager *manager, unsigned what) {
        manager->dirty |= what;
        (void)sd_event_source_set_enabled(manager->settle_source, SD_EVENT_ONESHOT);
}

static int on_settle(_unused_ sd_event_source *source, void *userdata) {
        settle(userdata);
        return 0;
}

/* What is not wanted any more can be let go of now. */
static void on_dropped(void *userdata) {
        manager_mark_dirty(userdata, DIRTY_CLOSED);
}

static int on_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        Manager *manager = userdata;

        manager_mark_dirty(manager, manager->leases.next_waiter ? DIRTY_QUEUE_REST : DIRTY_DEADLINES);
        return 0;
}

static int add_sources(Manager *manager) {
        int r;

        r = sd_event_add_defer(manager->event, &manager->settle_source, on_settle, manager);
        if (r < 0)
                return r;
        r = sd_event_source_set_priority(manager->settle_source, MANAGER_PRIORITY_SETTLE);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(manager->settle_source, SD_EVENT_OFF);
        if (r < 0)
                return r;

        r = sd_event_add_time(manager->event, &manager->deadline_timer, CLOCK_MONOTONIC, UINT64_MAX, 1,
                              on_timer, manager);
        if (r < 0)
                return r;

        return sd_event_add_time(manager->event, &manager->expiry_timer, CLOCK_REALTIME, UINT64_MAX, 1,
                                 on_timer, manager);
}

/* Opens the root and, below it, the tree to scan. */
static int open_trees(Manager *manager) {
        const ManagerOptions *options = &manager->options;
        int r;

        manager->root_fd = open(options->root ?: "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (manager->root_fd < 0) {
                r = -errno;
                log_message(LOG_ERR, "--root %s: %s", options->root ?: "/", strerror(-r));
                return r;
        }

        manager->foreign = options->root || options->simulate;
        if (!options->simulate) {
                manager->facts_fd = manager->root_fd;
                return 0;
        }

        r = fs_mkdir_all(manager->root_fd, SIMULATED_PATH, 0755);
        if (r == 0) {
                manager->facts_fd =
                        openat(manager->root_fd, SIMULATED_PATH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                r = manager->facts_fd < 0 ? -errno
                                          : error_fold(simulate_write(manager->facts_fd, options->simulate));
        }
        if (r < 0) {
                log_message(LOG_ERR, "cannot write the simulated host below %s/" SIMULATED_PATH ": %s",
                            options->root ?: "", strerror(-r));
                return r;
        }

        log_message(LOG_WARNING, "SIMULATED HOST %s: no lease granted here means anything for real hardware",
                    options->simulate);
        return 0;
}

static void warn_config(const char *file, unsigned line, const char *message, _unused_ void *userdata) {
        log_position(LOG_WARNING, file, line, "%s", message);
}

static int load_config(Manager *manager, Config **ret_config, ConfigFault *ret_fault) {
        return config_load(manager->root_fd, manager->facts_fd, manager->options.config, warn_config, NULL,
                           ret_config, ret_fault);
}

/* From now on @config holds (taken over): limits at once, assignments with the next settle. */
static void apply_config(Manager *manager, Config *config) {
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;

        config_free(manager->config);
        manager->config = config;
        manager->model.limits = config->limits;
        manager->manages_memlock = manager->foreign ? config->manage_memlock == CONFIG_SWITCH_YES
                                                    : config->manage_memlock != CONFIG_SWITCH_NO;

        limits.connections_max = config->max_connections;
        limits.connections_for_root = CONNECTIONS_FOR_ROOT;
        limits.connections_per_user_max = config->max_connections_per_user;
        varlink_server_set_limits(manager->server, &limits);
        manager_mark_dirty(manager, DIRTY_INSTANCES | DIRTY_ASSIGNMENTS | DIRTY_QUEUE);
}

int manager_reload(Manager *manager, ConfigFault *ret_fault) {
        ConfigFault fault = CONFIG_FAULT_NULL;
        bool other_numbers;
        Config *config;
        int r;

        r = load_config(manager, &config, &fault);
        if (r > 0) {
                log_position(LOG_ERR, fault.file, fault.line, "%s; the running configuration stays in force",
                             fault.message);
                *ret_fault = fault;
                return CONFIG_E_INVALID;
        }
        if (r < 0) {
                log_message(LOG_ERR, "cannot read the configuration: %s; the running one stays in force",
                            strerror(-r));
                return r;
        }

        other_numbers =
                memcmp(manager->config->kvm_numbers, config->kvm_numbers, sizeof(config->kvm_numbers)) != 0;
        apply_config(manager, config);
        if (other_numbers) {
                guest_forget(manager);
                r = manager_rescan(manager);
                if (r < 0)
                        log_message(LOG_WARNING, "cannot ask KVM with the new numbers: %s", strerror(-r));
        }
        assign_warn_unmatched(manager);
        descriptors_warn(manager);
        manager->counters.reloads++;
        return 0;
}

int manager_rescan(Manager *manager) {
        _cleanup_(topology_freep) Topology *topology = NULL;
        int r;

        r = topology_scan(manager->facts_fd, &topology);
        if (r == 0)
                r = guest_ask(manager, topology);
        if (r == 0) {
                topology_mark_news(topology, manager->topology);
                topology_free(manager->topology);
                manager->topology = steal_ptr(topology);
                host_check_forget(&manager->check);
                manager->counters.rescans++;
                manager_mark_dirty(manager, DIRTY_INSTANCES);
        }

        host_events_scanned(manager->host_events, r);
        return r;
}

void manager_log_problems(const Manager *manager) {
        const Topology *topology = manager->topology;

        if (topology->problem)
                log_message(LOG_WARNING, "%s", topology->problem);

        for (size_t i = 0; i < topology->n_spus; i++)
                if (topology->spus[i].problem)
                        log_message(LOG_WARNING, "%s%s: %s", topology->spus[i].name,
                                    topology->spus[i].ready ? "" : " cannot be leased",
                                    topology->spus[i].problem);
}

static int first_config(Manager *manager) {
        _cleanup_(config_fault_deinit) ConfigFault fault = CONFIG_FAULT_NULL;
        Config *config;
        int r;

        r = load_config(manager, &config, &fault);
        if (r > 0) {
                log_position(LOG_ERR, fault.file, fault.line, "%s", fault.message);
                return -EINVAL;
        }
        if (r < 0) {
                log_message(LOG_ERR, "cannot read the configuration: %s", strerror(-r));
                return r;
        }

        apply_config(manager, config);
        return 0;
}

static int open_leases(Manager *manager) {
        int r;

        r = lease_store_new(manager->root_fd, manager->boot_id, &manager->lease_store);
        if (r < 0)
                log_message(LOG_ERR, "/" LEASE_STORE_PATH ": cannot be made or opened: %s", strerror(-r));
        return r;
}

static int read_boot_id(Manager *manager) {
        sd_id128_t boot_id;
        int r;

        r = sd_id128_get_boot(&boot_id);
        if (r < 0)
                return r;

        sd_id128_to_string(boot_id, manager->boot_id);
        return 0;
}

/* What systemd kept while there was no broker. */
static int take_kept(Manager *manager) {
        size_t n_owners, room, bytes;
        NamedFd *owners;
        int r;

        r = fdstore_new(manager->event, on_dropped, manager, &manager->fdstore);
        if (r < 0)
                return r;

        owners = fdstore_get_owners(manager->fdstore, &n_owners);
        room = fdstore_get_owner_room(manager->fdstore, &bytes);
        return owner_store_new(manager->event, room, bytes, owners, n_owners, &manager->owner_store);
}

static int add_server(Manager *manager) {
        int r;

        r = varlink_server_new(manager->event, &service_info, &manager->server);
        return r ? error_fold(r) : methods_register(manager);
}

/* What sees host sessions, and keeps them off. */
static int add_arbitration(Manager *manager) {
        NamedFd *handed;
        size_t n_handed;
        int r;

        r = session_doubt_new(manager, &manager->doubt);
        if (r < 0)
                return r;

        handed = fdstore_get_handed(manager->fdstore, &n_handed);
        return arbitration_new(manager, handed, n_handed, &manager->arbitration);
}

/* What sees VCPUs that are given SPE. Before KVM is asked, as that sets attributes of VCPUs, too. */
static int add_gatekeeper(Manager *manager) {
        NamedFd *handed;
        size_t n_handed;

        handed = fdstore_get_handed(manager->fdstore, &n_handed);
        return gatekeeper_new(manager, handed, n_handed, &manager->gatekeeper);
}

static int add_host_events(Manager *manager) {
        return host_events_new(manager, &manager->host_events);
}

static int add_misplaced(Manager *manager) {
        return misplaced_new(manager, &manager->misplaced);
}

/* Makes one of what there is now and what an earlier process has left, which is in force until that is done.
 */
static int reconcile(Manager *manager) {
        int r;

        r = leases_restore(manager);
        if (r < 0)
                return r;
        settle(manager);
        if (manager->dirty & DIRTY_INSTANCES) /* what was left stays in force */
                return -ENOMEM;

        fdstore_drop_rest(manager->fdstore);
        arbitration_settle(manager);
        misplaced_look_at_all(manager->misplaced);
        assign_warn_unmatched(manager);
        descriptors_warn(manager);
        return 0;
}

int manager_new(sd_event *event, const ManagerOptions *options, Manager **ret_manager) {
        static int (*const steps[])(Manager * manager) = {
                read_boot_id,  add_sources,    take_kept,       open_trees,     add_server,
                first_config,  assign_load,    add_arbitration, add_gatekeeper, add_host_events,
                add_misplaced, manager_rescan, open_leases,     reconcile,
        };
        _cleanup_(manager_freep) Manager *manager = NULL;

        manager = calloc(1, sizeof(*manager));
        if (!manager)
                return -ENOMEM;

        manager->event = sd_event_ref(event);
        manager->options = *options;
        manager->root_fd = -1;
        manager->facts_fd = -1;
        manager->model.assignments = ASSIGNMENT_TABLE_NULL;
        lease_table_init(&manager->leases);
        refusal_log_init(&manager->refusals);
        session_table_init(&manager->sessions);
        LIST_INIT(&manager->watches);
        manager->watchers = QUOTA_INIT(WATCHERS_PER_USER_MAX, WATCHERS_MAX);
        LIST_INIT(&manager->assign_waits);

        for (size_t i = 0; i < ELEMENTS_OF(steps); i++) {
                int r = steps[i](manager);

                if (r < 0)
                        return r;
        }

        *ret_manager = steal_ptr(manager);
        return 0;
}

/*
 * Connections go first, and with them all calls, and the leases that wait; then what they were about. Granted
 * leases go on: their files, what systemd keeps and what the kernel refuses stay as they are, since nobody
 * here knows whether there will be another broker in a moment.
 */
Manager *manager_free(Manager *manager) {
        Lease *lease;

        if (!manager)
                return NULL;

        manager->server = varlink_server_free(manager->server);
        while (!LIST_EMPTY(&manager->watches))
                watch_free(LIST_FIRST(&manager->watches));
        while (!LIST_EMPTY(&manager->assign_waits))
                assign_wait_free(LIST_FIRST(&manager->assign_waits));

        sessions_deafen(manager);
        session_doubt_free(manager->doubt);
        manager->arbitration = arbitration_free(manager->arbitration);
        manager->gatekeeper = gatekeeper_free(manager->gatekeeper);
        manager->owner_store = owner_store_free(manager->owner_store);
        while ((lease = TAILQ_FIRST(&manager->leases.all)))
                lease_drop(lease);
        misplaced_free(manager->misplaced);
        lease_store_free(manager->lease_store);
        host_events_free(manager->host_events);
        fdstore_free(manager->fdstore);
        sd_event_source_disable_unref(manager->settle_source);
        sd_event_source_disable_unref(manager->deadline_timer);
        sd_event_source_disable_unref(manager->expiry_timer);
        session_table_deinit(&manager->sessions);
        quota_deinit(&manager->watchers);
        quota_deinit(&manager->leases.waiters);
        refusal_log_deinit(&manager->refusals);
        assignment_table_deinit(&manager->model.assignments);
        ledger_deinit(&manager->model.ledger);
        instance_table_deinit(&manager->model.instances);
        host_check_deinit(&manager->check);
        topology_free(manager->topology);
        guest_deinit(&manager->guest);
        config_free(manager->config);
        if (manager->facts_fd >= 0 && manager->facts_fd != manager->root_fd)
                close(manager->facts_fd);
        if (manager->root_fd >= 0)
                close(manager->root_fd);
        sd_event_unref(manager->event);
        free(manager);
        return NULL;
}

int manager_listen(Manager *manager, int fd) {
        return error_fold(varlink_server_listen_fd(manager->server, fd));
}
