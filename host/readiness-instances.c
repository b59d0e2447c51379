/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The SPUs that came of the driver. One that is ready is enough for a guest, so CPUs without one are a
 * warning; none, or only half-registered ones, is a failure, unless it follows from one before.
 */

#include "host/readiness-checks.h"

#define PMUS_PATH "sys/bus/event_source/devices"

/* Some CPUs have an SPU, others not: those of another cluster, or their instance is not ready. */
static int say_incomplete(Readiness *readiness, const CpuSet *missing) {
        const SpeProbe *failure = kernel_messages_failure(&readiness->facts.log);
        const Spu *partial = readiness->facts.partial;
        char cpus[CPUSET_TEXT_MAX];
        int r;

        (void)cpuset_format(missing, cpus, sizeof(cpus));
        if (partial)
                r = readiness_say(readiness, CHECK_INSTANCES, CHECK_WARNING,
                                  "CPUs %s have no SPU that is ready: %s is partial: %s.", cpus,
                                  partial->name, partial->problem ?: "no reason is known");
        else if (failure)
                r = readiness_say(readiness, CHECK_INSTANCES, CHECK_WARNING,
                                  "CPUs %s have no SPU; the driver says \"%s\".", cpus, failure->text);
        else
                r = readiness_say(readiness, CHECK_INSTANCES, CHECK_WARNING,
                                  "CPUs %s have no SPU, and guests on them no SPE.", cpus);
        if (r < 0 || (failure && !partial))
                return r;
        return readiness_advise(readiness, CHECK_INSTANCES, ADVICE_READ_LOG);
}

static int say_ready(Readiness *readiness) {
        const Topology *topology = readiness->input->topology;
        CpuSet missing = topology->online;
        char cpus[CPUSET_TEXT_MAX];
        unsigned n = 0;

        cpuset_subtract(&missing, &readiness->facts.ready_cpus);
        if (!cpuset_is_empty(&missing))
                return say_incomplete(readiness, &missing);
        for (size_t i = 0; i < topology->n_spus; i++)
                n += topology->spus[i].ready;
        (void)cpuset_format(&readiness->facts.ready_cpus, cpus, sizeof(cpus));
        if (n == 1)
                return readiness_say(readiness, CHECK_INSTANCES, CHECK_OK, "%s is ready, on CPUs %s.",
                                     readiness->facts.ready->name, cpus);
        return readiness_say(readiness, CHECK_INSTANCES, CHECK_OK, "%u SPUs are ready, on CPUs %s.", n, cpus);
}

static int say_none(Readiness *readiness) {
        int r;

        if (host_facts_exists(&readiness->facts, PMUS_PATH) != ANSWER_YES)
                return readiness_say(readiness, CHECK_INSTANCES, CHECK_UNKNOWN,
                                     "The PMUs of the kernel are not to be seen here.");
        r = readiness_say(readiness, CHECK_INSTANCES, CHECK_FAILED, "No SPU is registered.");
        return r < 0 ? r : readiness_advise(readiness, CHECK_INSTANCES, ADVICE_READ_LOG);
}

int check_instances(Readiness *readiness) {
        const HostFacts *facts = &readiness->facts;
        int r;

        if (facts->ready)
                return say_ready(readiness);
        if (readiness_follows(readiness, CHECK_INSTANCES, CAUSES_OF_PROBE | CAUSE(CHECK_DRIVER_PROBE), &r))
                return r;
        if (!facts->partial)
                return say_none(readiness);

        r = readiness_say(readiness, CHECK_INSTANCES, CHECK_FAILED, "%s is partial: %s.",
                          facts->partial->name, facts->partial->problem ?: "no reason is known");
        if (r < 0)
                return r;
        return readiness_advise(readiness, CHECK_INSTANCES, "%s",
                                facts->build == DRIVER_BUILD_MODULE ? ADVICE_RELOAD : ADVICE_READ_LOG);
}
