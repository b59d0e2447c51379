/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The level, and what goes with it. Numbers of KVM's that are guesses may mean something else in the kernel
 * that is running, so on them nothing is refused nor reported. What is new is in force before the old goes;
 * one that is not wanted any more is told to let all pass first, as systemd may have a copy that ends later.
 * Nothing here ends the daemon: a gate that cannot be had is level off, with that as its reason.
 */

#include "broker/gatekeeper.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "broker/gatekeeper-state.h"
#include "broker/log.h"
#include "broker/manager.h"
#include "util/clock.h"

/* Between two looks at what there is to tell: whoever is refused in a loop gets little of the broker's time.
 */
#define PAUSE_USEC (10 * USEC_PER_MSEC)

GateLevel gatekeeper_get_level(const Gatekeeper *gatekeeper) {
        return gatekeeper->level;
}

const char *gatekeeper_get_reason(const Gatekeeper *gatekeeper) {
        return gatekeeper->reason[0] != '\0' ? gatekeeper->reason : NULL;
}

void gatekeeper_get_counters(const Gatekeeper *gatekeeper, GateCounters *ret_counters) {
        *ret_counters = (GateCounters){0};
        if (gatekeeper->gate)
                gate_get_counters(gatekeeper->gate, ret_counters);
        ret_counters->lost += gatekeeper->refusals_lost;
}

Gate *gatekeeper_get_gate(const Gatekeeper *gatekeeper) {
        return gatekeeper->gate;
}

/* What the configuration asks for, whether it can be had or not. */
static GateLevel asked_level(const Manager *manager) {
        if (manager->config->gate != CONFIG_GATE_AUTO)
                return manager->config->gate;
        return manager->foreign ? GATE_LEVEL_OFF : GATE_LEVEL_LOG;
}

/* The same, as far as numbers allow it. */
static GateLevel wanted_level(const Manager *manager, const KvmNumbers *numbers) {
        return kvm_numbers_are_known(numbers) ? asked_level(manager) : GATE_LEVEL_OFF;
}

__attribute__((__format__(__printf__, 2, 3))) static void say(Gatekeeper *gatekeeper, const char *format,
                                                              ...) {
        va_list ap;

        va_start(ap, format);
        (void)vsnprintf(gatekeeper->reason, sizeof(gatekeeper->reason), format, ap);
        va_end(ap);
}

/* A sentence without its period. */
static int clause_length(const char *sentence) {
        size_t n = strlen(sentence);

        return (int)(n > 0 && sentence[n - 1] == '.' ? n - 1 : n);
}

static void say_no_gate(Gatekeeper *gatekeeper, GateLevel asked) {
        const char *name = gate_level_to_string(asked), *reason = gatekeeper->failure, *advice = NULL;

        if (gatekeeper->gate) {
                reason = gate_get_reason(gatekeeper->gate) ?: "the kernel has no hook for it";
                advice = gate_get_advice(gatekeeper->gate);
        }
        if (advice)
                say(gatekeeper, "level %s cannot be had: %.*s (%.*s)", name, clause_length(reason), reason,
                    clause_length(advice), advice);
        else
                say(gatekeeper, "level %s cannot be had: %.*s", name, clause_length(reason), reason);
}

static void say_off(Gatekeeper *gatekeeper) {
        const Manager *manager = gatekeeper->manager;

        if (manager->config->gate == GATE_LEVEL_OFF)
                say(gatekeeper, "the configuration says Gate=off");
        else if (asked_level(manager) == GATE_LEVEL_OFF)
                say(gatekeeper, "%s",
                    manager->options.simulate
                            ? "this host is simulated: nothing here is real hardware"
                            : "this is another host's tree (--root), and its configuration names no level");
        else
                say(gatekeeper,
                    "the numbers of KVM's attributes for SPE are guesses, by which nothing is refused or "
                    "reported (section [KVM] of spe-broker.conf)");
}

/* What there is now, and why it is no more than that. */
static void choose(Gatekeeper *gatekeeper, GateLevel wanted) {
        const Manager *manager = gatekeeper->manager;

        gatekeeper->reason[0] = '\0';
        gatekeeper->level = wanted;
        if (wanted == GATE_LEVEL_OFF) {
                say_off(gatekeeper);
        } else if (!gatekeeper->gate || !gate_is_attached(gatekeeper->gate)) {
                gatekeeper->level = GATE_LEVEL_OFF;
                say_no_gate(gatekeeper, wanted);
        } else if (wanted == GATE_LEVEL_LOG) {
                say(gatekeeper, "%s",
                    manager->config->gate == GATE_LEVEL_LOG
                            ? "the configuration says Gate=log"
                            : "what it would refuse is let through and reported, unless the configuration "
                              "says Gate=enforce");
        }
}

/* To the journal: another level than before, and one that was asked for by name and is not there. */
static void tell_level(const Gatekeeper *gatekeeper, GateLevel before) {
        const Manager *manager = gatekeeper->manager;
        bool lacking =
                manager->config->gate != CONFIG_GATE_AUTO && gatekeeper->level != manager->config->gate;
        const char *reason = gatekeeper_get_reason(gatekeeper);

        if (gatekeeper->configured && gatekeeper->level == before)
                return;

        if (lacking)
                log_message(LOG_WARNING, "gate: %s", reason);
        else if (gatekeeper->configured)
                log_message(LOG_NOTICE, "gate: level %s (was %s)%s%s",
                            gate_level_to_string(gatekeeper->level), gate_level_to_string(before),
                            reason ? ": " : "", reason ?: "");
}

/* No memory is the caller's affair, all else a reason. */
static int make_gate(Gatekeeper *gatekeeper, NamedFd *kept, size_t n_kept) {
        int r;

        r = gate_new(kept, n_kept, &gatekeeper->gate);
        if (r == -ENOMEM)
                return r;

        gatekeeper->failure[0] = '\0';
        if (r < 0) {
                (void)snprintf(gatekeeper->failure, sizeof(gatekeeper->failure),
                               "its BPF program cannot be set up: %s", strerror(-r));
                log_message(LOG_ERR, "gate: %s", gatekeeper->failure);
        }
        return 0;
}

static void drop_gate(Gatekeeper *gatekeeper) {
        static const GateRule none = {.action = GATE_ACTION_NONE};

        gatekeeper->source = sd_event_source_disable_unref(gatekeeper->source);
        if (gatekeeper->gate)
                gate_set_rule(gatekeeper->gate, &none);
        gatekeeper->gate = gate_free(gatekeeper->gate);
        gatekeeper->failure[0] = '\0';
        gatekeeper_forget_owners(gatekeeper);
}

static int on_refusals(_unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents,
                       void *userdata) {
        Manager *manager = userdata;

        (void)gate_process(manager->gatekeeper->gate, gatekeeper_refused, manager);
        return 0;
}

static int listen(Gatekeeper *gatekeeper) {
        int fd = gatekeeper->gate ? gate_get_fd(gatekeeper->gate) : -1, r;

        if (fd < 0 || gatekeeper->source)
                return 0;

        r = sd_event_add_io(gatekeeper->manager->event, &gatekeeper->source, fd, EPOLLIN, on_refusals,
                            gatekeeper->manager);
        if (r < 0)
                return r;

        return sd_event_source_set_ratelimit(gatekeeper->source, PAUSE_USEC, 1);
}

static void set_rule(Gatekeeper *gatekeeper) {
        const KvmNumbers *numbers = &gatekeeper->numbers;
        GateRule rule = {
                .action = gatekeeper->level == GATE_LEVEL_ENFORCE ? GATE_ACTION_REFUSE : GATE_ACTION_REPORT,
                .group = kvm_number(numbers, KVM_NUMBER_GROUP),
                .attribute_spu = kvm_number(numbers, KVM_NUMBER_ATTRIBUTE_SPU),
                .knows_size = kvm_number_is_known(numbers, KVM_NUMBER_ATTRIBUTE_MAX_BUFFER_SIZE),
                .attribute_size = kvm_number(numbers, KVM_NUMBER_ATTRIBUTE_MAX_BUFFER_SIZE),
        };

        gate_set_rule(gatekeeper->gate, &rule);
}

int gatekeeper_configure(Manager *manager) {
        Gatekeeper *gatekeeper = manager->gatekeeper;
        GateLevel before = gatekeeper->level, wanted;
        int r;

        gatekeeper->numbers = kvm_numbers(manager->config->kvm_numbers);
        wanted = wanted_level(manager, &gatekeeper->numbers);
        if (wanted == GATE_LEVEL_OFF) {
                drop_gate(gatekeeper);
        } else if (!gatekeeper->gate) {
                r = make_gate(gatekeeper, NULL, 0);
                if (r < 0)
                        return r;
        }

        choose(gatekeeper, wanted);
        if (gatekeeper->level != GATE_LEVEL_OFF) {
                r = listen(gatekeeper);
                if (r < 0)
                        return r;
                if (!gatekeeper->admits)
                        gatekeeper_admit_all(manager);
                set_rule(gatekeeper);
        }
        tell_level(gatekeeper, before);
        gatekeeper->configured = true;
        return 0;
}

int gatekeeper_new(Manager *manager, NamedFd *kept, size_t n_kept, Gatekeeper **ret_gatekeeper) {
        _cleanup_(gatekeeper_freep) Gatekeeper *gatekeeper = calloc(1, sizeof(*gatekeeper));
        int r;

        if (!gatekeeper)
                return -ENOMEM;

        gatekeeper->manager = manager;
        gatekeeper->numbers = kvm_numbers(manager->config->kvm_numbers);
        LIST_INIT(&gatekeeper->owners);
        if (wanted_level(manager, &gatekeeper->numbers) != GATE_LEVEL_OFF) {
                r = make_gate(gatekeeper, kept, n_kept);
                if (r < 0)
                        return r;
        }

        *ret_gatekeeper = steal_ptr(gatekeeper);
        return 0;
}

Gatekeeper *gatekeeper_free(Gatekeeper *gatekeeper) {
        if (!gatekeeper)
                return NULL;

        sd_event_source_disable_unref(gatekeeper->source);
        gate_free(gatekeeper->gate);
        gatekeeper_forget_owners(gatekeeper);
        free(gatekeeper);
        return NULL;
}
