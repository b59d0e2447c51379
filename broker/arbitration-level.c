/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The order is enforce, reserve, observe, none. A level that is named and cannot be had falls to observe and
 * not to reserve: who asks for enforce by name may not want to pay reserve's price, and leases that would
 * need protection are refused anyway.
 */

#include "broker/arbitration-level.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bpf/reserve.h"
#include "broker/manager.h"

ArbitrationLevel arbitration_wanted(const Manager *manager) {
        ArbitrationLevel wanted = manager->config->level;

        return manager->foreign && wanted == CONFIG_LEVEL_AUTO ? ARBITRATION_LEVEL_NONE : wanted;
}

ArbiterHook arbitration_wanted_hook(ArbitrationLevel wanted) {
        switch (wanted) {
        case ARBITRATION_LEVEL_NONE:
                return ARBITER_HOOK_NONE;
        case ARBITRATION_LEVEL_OBSERVE:
        case ARBITRATION_LEVEL_RESERVE:
                return ARBITER_HOOK_TRAMPOLINES;
        default:
                return ARBITER_HOOK_LSM;
        }
}

/* Adds a clause. What does not fit is cut. */
__attribute__((__format__(__printf__, 2, 3))) static void say(ArbitrationChoice *choice, const char *format,
                                                              ...) {
        size_t n = strlen(choice->reason);
        va_list ap;

        if (n > 0)
                n += (size_t)snprintf(choice->reason + n, sizeof(choice->reason) - n, "; ");
        if (n >= sizeof(choice->reason))
                return;

        va_start(ap, format);
        (void)vsnprintf(choice->reason + n, sizeof(choice->reason) - n, format, ap);
        va_end(ap);
}

/* The length of a sentence without its period. */
static int clause_length(const char *sentence) {
        size_t n = strlen(sentence);

        return (int)(n > 0 && sentence[n - 1] == '.' ? n - 1 : n);
}

/* Why @level is not to be had, and what to do about it, in brackets. */
static void say_no(ArbitrationChoice *choice, ArbitrationLevel level, const char *reason,
                   const char *advice) {
        const char *name = arbitration_level_to_string(level);

        if (advice)
                say(choice, "level %s cannot be had: %.*s (%.*s)", name, clause_length(reason), reason,
                    clause_length(advice), advice);
        else
                say(choice, "level %s cannot be had: %.*s", name, clause_length(reason), reason);
}

/* What the arbiter says of its hooks. */
static void say_no_hook(ArbitrationChoice *choice, ArbitrationLevel level, const Arbiter *arbiter,
                        const char *failure) {
        if (arbiter)
                say_no(choice, level, arbiter_get_reason(arbiter) ?: "the kernel has no hook for it",
                       arbiter_get_advice(arbiter));
        else
                say_no(choice, level, failure, NULL);
}

static void say_no_lock(ArbitrationChoice *choice, const Instance *instance, unsigned cpu, int r) {
        const char *advice = NULL;
        char reason[160];

        switch (r) {
        case RESERVE_E_SHARED:
                (void)snprintf(reason, sizeof(reason),
                               "the PMU of %s is no lock: it takes two events on one CPU", instance->name);
                break;
        case RESERVE_E_OFF_LINE:
                (void)snprintf(reason, sizeof(reason), "perf has no CPU %u on the PMU of %s (type %u)", cpu,
                               instance->name, instance->pmu_type);
                break;
        case RESERVE_E_DENIED:
                (void)snprintf(reason, sizeof(reason), "the broker may not open CPU-wide perf events on %s",
                               instance->name);
                advice = "Run spe-broker with CAP_PERFMON, and if kernel.perf_event_paranoid is above 2 with "
                         "CAP_SYS_ADMIN.";
                break;
        default:
                (void)snprintf(reason, sizeof(reason), "a perf event on CPU %u of %s: %s", cpu,
                               instance->name, strerror(-r));
        }

        say_no(choice, ARBITRATION_LEVEL_RESERVE, reason, advice);
}

/* Tries the first CPU of @instance that perf has: those that go off line may be gone there before that is
 * news here. */
static int try_instance(const Instance *instance, unsigned *ret_cpu) {
        CPUSET_FOREACH(cpu, &instance->effective) {
                int r = reserve_try(instance->pmu_type, cpu);

                if (r != RESERVE_E_OFF_LINE) {
                        *ret_cpu = cpu;
                        return r;
                }
        }

        return RESERVE_E_OFF_LINE;
}

/*
 * True if every PMU that leases can be on is a lock. An event of somebody's that refuses ours shows that as
 * well. A PMU that perf does not have (any more) takes nothing from the others: nobody can have an event
 * there.
 */
static bool can_reserve(const Manager *manager, ArbitrationChoice *choice) {
        const InstanceTable *table = &manager->model.instances;
        const Instance *absent = NULL;
        size_t n = 0;

        for (size_t i = 0; i < table->n; i++) {
                const Instance *instance = table->entries[i];
                unsigned cpu = 0;
                int r;

                if (instance->state != INSTANCE_STATE_READY || cpuset_is_empty(&instance->effective))
                        continue;

                r = try_instance(instance, &cpu);
                if (r == RESERVE_E_OFF_LINE) {
                        absent = absent ?: instance;
                        continue;
                }
                if (r != 0 && r != RESERVE_E_BUSY) {
                        say_no_lock(choice, instance, cpu, r);
                        return false;
                }
                n++;
        }

        if (n == 0 && absent)
                say_no_lock(choice, absent, cpuset_next(&absent->effective, 0), RESERVE_E_OFF_LINE);
        else if (n == 0)
                say_no(choice, ARBITRATION_LEVEL_RESERVE, "there is no SPU to try it on", NULL);
        return n > 0;
}

/* The level, and why no higher one where something is missing. */
static ArbitrationLevel choose(const Manager *manager, ArbitrationLevel wanted, const Arbiter *arbiter,
                               const char *failure, ArbitrationChoice *choice) {
        ArbiterHook hook = arbiter ? arbiter_get_hook(arbiter) : ARBITER_HOOK_NONE;
        bool any = wanted == CONFIG_LEVEL_AUTO;

        if (any || wanted == ARBITRATION_LEVEL_ENFORCE) {
                if (hook == ARBITER_HOOK_LSM)
                        return ARBITRATION_LEVEL_ENFORCE;
                say_no_hook(choice, ARBITRATION_LEVEL_ENFORCE, arbiter, failure);
        }
        if ((any || wanted == ARBITRATION_LEVEL_RESERVE) && can_reserve(manager, choice))
                return ARBITRATION_LEVEL_RESERVE;
        if (hook != ARBITER_HOOK_NONE)
                return ARBITRATION_LEVEL_OBSERVE;
        if (wanted == ARBITRATION_LEVEL_RESERVE || wanted == ARBITRATION_LEVEL_OBSERVE)
                say_no_hook(choice, ARBITRATION_LEVEL_OBSERVE, arbiter, failure);
        return ARBITRATION_LEVEL_NONE;
}

void arbitration_choose(const Manager *manager, ArbitrationLevel wanted, const Arbiter *arbiter,
                        const char *failure, ArbitrationChoice *ret_choice) {
        bool named = manager->config->level != CONFIG_LEVEL_AUTO;

        *ret_choice = (ArbitrationChoice){.level = ARBITRATION_LEVEL_NONE};
        if (wanted != ARBITRATION_LEVEL_NONE)
                ret_choice->level = choose(manager, wanted, arbiter, failure, ret_choice);

        ret_choice->unprotected = named && ret_choice->level != wanted;
        if (named && ret_choice->level == wanted && wanted != ARBITRATION_LEVEL_ENFORCE)
                say(ret_choice, "the configuration says Level=%s", arbitration_level_to_string(wanted));
        else if (!named && manager->foreign)
                say(ret_choice, "%s",
                    manager->options.simulate
                            ? "this host is simulated: nothing here is real hardware"
                            : "this is another host's tree (--root), and its configuration names no level");
}
