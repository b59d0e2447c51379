/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * spe-broker(8): options, signals, sockets, and the loop. After start nothing exits but SIGTERM and SIGINT.
 */

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "bpf/probe.h"
#include "broker/descriptors.h"
#include "broker/fdstore.h"
#include "broker/listen.h"
#include "broker/log.h"
#include "broker/manager.h"
#include "broker/ready.h"
#include "broker/watchdog.h"
#include "host/simulate.h"

enum {
        EXIT_USAGE = 2,
};

/* How long the loop stands still if there is no memory to turn it. */
#define NO_MEMORY_PAUSE_MSEC 100

static void help(void) {
        printf("spe-broker [OPTIONS]\n\n"
               "Brokers Arm SPE between the host and its KVM guests.\n\n"
               "  --config FILE    read FILE (and FILE.d/*.conf) instead of /etc/spe-broker/spe-broker.conf\n"
               "  --root DIR       look at the host, and keep etc/, run/ and var/, below DIR\n"
               "  --socket PATH    listen at PATH\n"
               "  --simulate NAME  a built-in host, for a machine without SPE:");
        for (const char *const *name = simulate_names(); *name; name++)
                printf(" %s", *name);
        printf("\n  --help, --version\n\nSee spe-broker(8) and spe-broker.conf(5).\n");
}

static bool is_simulated_host(const char *word) {
        for (const char *const *name = simulate_names(); *name; name++)
                if (strcmp(*name, word) == 0)
                        return true;

        return false;
}

/* 0: go on; 1: done; -EINVAL: wrong usage, which has been told. */
static int parse_options(int argc, char **argv, ManagerOptions *ret_options) {
        enum {
                OPTION_CONFIG = 256,
                OPTION_ROOT,
                OPTION_SOCKET,
                OPTION_SIMULATE,
                OPTION_HELP,
                OPTION_VERSION,
        };
        static const struct option options[] = {
                {"config", required_argument, NULL, OPTION_CONFIG},
                {"root", required_argument, NULL, OPTION_ROOT},
                {"socket", required_argument, NULL, OPTION_SOCKET},
                {"simulate", required_argument, NULL, OPTION_SIMULATE},
                {"help", no_argument, NULL, OPTION_HELP},
                {"version", no_argument, NULL, OPTION_VERSION},
                {0},
        };
        int c;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (c) {
                case OPTION_CONFIG:
                        ret_options->config = optarg;
                        break;
                case OPTION_ROOT:
                        ret_options->root = optarg;
                        break;
                case OPTION_SOCKET:
                        ret_options->socket = optarg;
                        break;
                case OPTION_SIMULATE:
                        if (!is_simulated_host(optarg)) {
                                fprintf(stderr,
                                        "spe-broker: --simulate %s: there is no such built-in host; see "
                                        "--help\n",
                                        optarg);
                                return -EINVAL;
                        }
                        ret_options->simulate = optarg;
                        break;
                case 'h':
                case OPTION_HELP:
                        help();
                        return 1;
                case OPTION_VERSION:
                        printf("spe-broker " SPE_VERSION "\n");
                        return 1;
                default: /* getopt_long() has said what is wrong */
                        fprintf(stderr, "Try 'spe-broker --help'.\n");
                        return -EINVAL;
                }

        if (optind < argc) {
                fprintf(stderr, "spe-broker: %s: takes no arguments; see --help\n", argv[optind]);
                return -EINVAL;
        }

        return 0;
}

typedef struct Daemon {
        Manager *manager;
        Ready *ready;
} Daemon;

static int on_reload(_unused_ sd_event_source *source, _unused_ const struct signalfd_siginfo *info,
                     void *userdata) {
        _cleanup_(config_fault_deinit) ConfigFault fault = CONFIG_FAULT_NULL;
        Daemon *daemon = userdata;
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
                   (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
        /* What is wrong has been logged, and the running one stays. */
        (void)manager_reload(daemon->manager, &fault);
        ready_tell(daemon->ready, NULL);
        return 0;
}

/* SIGTERM and SIGINT end the loop, SIGHUP reloads. They are blocked: only the loop sees them. */
static int add_signals(sd_event *event, Daemon *daemon) {
        sigset_t mask;
        int r;

        /* A log that nobody reads any more is no reason to end. */
        if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
                return -errno;

        sigemptyset(&mask);
        sigaddset(&mask, SIGTERM);
        sigaddset(&mask, SIGINT);
        sigaddset(&mask, SIGHUP);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return -errno;

        r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
        if (r < 0)
                return r;
        r = sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
        if (r < 0)
                return r;

        return sd_event_add_signal(event, NULL, SIGHUP, on_reload, daemon);
}

/* Listens on what systemd handed over; 0 in *@ret_n if that was nothing. */
static int listen_activated(Manager *manager, int *ret_n) {
        int fd, n = 0, r;

        for (; (fd = fdstore_take_socket(manager->fdstore)) >= 0; n++) {
                r = manager_listen(manager, fd);
                if (r < 0) {
                        close(fd);
                        return r;
                }
        }

        *ret_n = n;
        return 0;
}

static int listen_own(Manager *manager, Listener *listener) {
        const ManagerOptions *options = &manager->options;
        int r;

        r = listener_open(listener, options->root, options->socket);
        if (r == LISTENER_E_IN_USE) {
                log_message(LOG_ERR, "another process listens there already: is spe-broker running?");
                return -EADDRINUSE;
        }
        if (r < 0) {
                log_message(LOG_ERR, "cannot listen at %s: %s",
                            options->socket ?: "/" RUNTIME_DIRECTORY "/" SOCKET_NAME, strerror(-r));
                return r;
        }

        r = manager_listen(manager, listener->fd);
        if (r < 0)
                return r;

        listener->fd = -1;
        return 0;
}

/* The journal's one line of a start, and 'systemctl status'. */
static void tell_ready(const Manager *manager, Ready *ready) {
        const char *simulated = manager->options.simulate;
        const char *level = arbitration_level_to_string(arbitration_get_level(manager->arbitration));
        size_t n = manager->model.instances.n;
        char status[128];

        if (n == 0)
                (void)snprintf(status, sizeof(status), "this host shows no SPU: 'speadm check' says why");
        else
                (void)snprintf(status, sizeof(status), "brokering %zu SPU%s%s%s, host sessions: %s", n,
                               n == 1 ? "" : "s", simulated ? " of the simulated host " : "", simulated ?: "",
                               level);
        log_message(LOG_INFO, "%s", status);
        ready_tell(ready, status);
}

/* And its one line of a stop; or of a restart, which looks the same from here. */
static void tell_stopping(const Manager *manager) {
        unsigned n = (unsigned)manager->model.ledger.total.n_leases;

        sd_notify(0, "STOPPING=1");
        if (n > 0)
                log_message(LOG_INFO, "stops; %u lease%s with %s", n, n == 1 ? " stays" : "s stay",
                            n == 1 ? "its owner" : "their owners");
        else
                log_message(LOG_INFO, "stops");
}

/*
 * As sd_event_loop(), but a turn that there is no memory for is no reason to end: nothing of it has happened,
 * and what it was about is still there in the next one.
 */
static int loop(sd_event *event) {
        bool told = false;
        int r, code = 0;

        while (sd_event_get_state(event) != SD_EVENT_FINISHED) {
                r = sd_event_run(event, UINT64_MAX);
                if (r < 0 && r != -ENOMEM)
                        return r;
                if (r < 0) {
                        if (!told)
                                log_message(LOG_WARNING, "out of memory: what happens is looked at later");
                        (void)poll(NULL, 0, NO_MEMORY_PAUSE_MSEC);
                }
                told = r < 0;
        }

        r = sd_event_get_exit_code(event, &code);
        return r < 0 ? r : code;
}

static int run(const ManagerOptions *options) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(manager_freep) Manager *manager = NULL;
        _cleanup_(ready_freep) Ready *ready = NULL;
        _cleanup_(sd_event_source_unrefp) sd_event_source *watchdog = NULL;
        _cleanup_(listener_deinit) Listener listener = LISTENER_NULL(-1);
        int r, n_activated;
        Daemon daemon;

        r = sd_event_new(&event); /* not the default one, which asks for its thread in every turn */
        if (r < 0)
                return r;
        r = manager_new(event, options, &manager);
        if (r < 0)
                return r;
        r = ready_new(event, &ready);
        if (r < 0)
                return r;
        daemon = (Daemon){manager, ready};
        r = add_signals(event, &daemon);
        if (r < 0)
                return r;
        r = watchdog_new(event, &watchdog);
        if (r < 0)
                return r;

        r = listen_activated(manager, &n_activated);
        if (r < 0)
                return r;
        listener.root_fd = manager->root_fd;
        if (n_activated == 0) {
                r = listen_own(manager, &listener);
                if (r < 0)
                        return r;
        }

        manager_log_problems(manager);
        tell_ready(manager, ready);
        r = loop(event);
        tell_stopping(manager);
        return r;
}

int main(int argc, char **argv) {
        ManagerOptions options = {0};
        int r;

        r = parse_options(argc, argv, &options);
        if (r > 0)
                return EXIT_SUCCESS;
        if (r < 0)
                return EXIT_USAGE;

        bpf_silence();
        descriptors_raise_limit();
        r = run(&options);
        if (r < 0) {
                log_message(LOG_ERR, "spe-broker ends: %s", strerror(-r));
                return EXIT_FAILURE;
        }

        return EXIT_SUCCESS;
}
