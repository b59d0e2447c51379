/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Before the driver: whether the CPUs have SPE, whether the firmware describes its interrupt, and whether
 * KPTI is in the way. An SPU that is registered proves all three. Otherwise only the driver can say for
 * certain what the CPUs have, since the register that tells is masked for user space; and no sign of KPTI is
 * no proof that it is off, because KASLR turns it on where sysfs says "Not affected".
 */

#include <stdio.h>
#include <string.h>

#include "host/midr.h"
#include "host/readiness-checks.h"
#include "util/cleanup.h"

/* Whether the driver got so far that it has seen SPE in a CPU: its words are about more than that. */
static bool driver_saw_spe(const Readiness *readiness) {
        static const SpeMessage seen[] = {SPE_PROBED,      SPE_HIGHER_LEVEL, SPE_ALIGNMENT,
                                          SPE_RECORD_SIZE, SPE_NO_NAME,      SPE_NOT_REGISTERED};

        for (size_t i = 0; i < ELEMENTS_OF(seen); i++)
                if (readiness_find_message(readiness, seen[i]))
                        return true;
        return false;
}

/* The core types are a hint, and only where no hypervisor stands before them. */
static int check_core_types(Readiness *readiness) {
        char cpus[CPUSET_TEXT_MAX];
        MidrCores cores;
        int r;

        r = midr_read(readiness->facts.root_fd, &readiness->input->topology->possible, &cores);
        if (r < 0)
                return r;
        if (cores.with && !readiness->facts.hypervisor) {
                (void)cpuset_format(&cores.cpus_with, cpus, sizeof(cpus));
                return readiness_say(readiness, CHECK_CPU, CHECK_OK, "CPUs %s are %s cores, which have SPE.",
                                     cpus, cores.with);
        }
        if (cores.without && !cores.with && cpuset_is_empty(&cores.cpus_other))
                return readiness_say(readiness, CHECK_CPU, CHECK_FAILED,
                                     "%s cores are older than SPE, which needs Armv8.2.", cores.without);
        if (readiness->facts.hypervisor)
                return readiness_say(
                        readiness, CHECK_CPU, CHECK_UNKNOWN,
                        "This is a virtual machine (%s), and only the driver can tell whether it has "
                        "SPE.",
                        readiness->facts.hypervisor);
        return readiness_say(readiness, CHECK_CPU, CHECK_UNKNOWN,
                             "Only the driver can tell whether these CPUs have SPE, and it has not.");
}

static int check_arm_cpu(Readiness *readiness) {
        const SpeProbe *probe = readiness_find_message(readiness, SPE_NOT_IN_CPU);
        const char *hypervisor = readiness->facts.hypervisor;

        if (driver_saw_spe(readiness))
                return readiness_say(readiness, CHECK_CPU, CHECK_OK, "The driver has found SPE in the CPUs.");
        if (probe && hypervisor)
                return readiness_say(readiness, CHECK_CPU, CHECK_FAILED,
                                     "This is a virtual machine (%s), and its hypervisor hides SPE from it.",
                                     hypervisor);
        if (probe)
                return readiness_say(readiness, CHECK_CPU, CHECK_FAILED, "The driver found no SPE: \"%s\".",
                                     probe->text);
        if (hypervisor && readiness->facts.device == ANSWER_NO && readiness->facts.nodes.n == 0)
                return readiness_say(
                        readiness, CHECK_CPU, CHECK_FAILED,
                        "This is a virtual machine (%s), and its hypervisor does not give it SPE.",
                        hypervisor);
        return check_core_types(readiness);
}

int check_cpu(Readiness *readiness) {
        const HostFacts *facts = &readiness->facts;

        if (facts->ready) {
                char cpus[CPUSET_TEXT_MAX];

                (void)cpuset_format(&facts->ready_cpus, cpus, sizeof(cpus));
                return readiness_say(readiness, CHECK_CPU, CHECK_OK, "CPUs %s have SPE: %s is registered.",
                                     cpus, facts->ready->name);
        }
        switch (facts->arm64) {
        case ANSWER_YES:
                return check_arm_cpu(readiness);
        case ANSWER_NO:
                return readiness_say(readiness, CHECK_CPU, CHECK_FAILED,
                                     "SPE is a part of Arm's 64-bit CPUs, and this machine is %s.",
                                     facts->architecture);
        default:
                return readiness_say(readiness, CHECK_CPU, CHECK_UNKNOWN,
                                     "The kind of CPU is not told here.");
        }
}

#define ADVICE_NODE_INTERRUPT \
        "Update the firmware: its device tree must give the SPE node one interrupt, a PPI."

/* What the kernel said of the firmware's description, with what to do. */
static const struct {
        SpeMessage message;
        const char *reason;
        const char *advice;
} firmware_words[] = {
        {SPE_NOT_HOMOGENEOUS,
         "ACPI describes the SPE interrupt or the core type differently for some CPUs, and Linux takes it "
         "only if "
         "all agree",
         "Update the firmware: its MADT must name one SPE interrupt for all CPUs, and its PPTT one core "
         "type."},
        {SPE_NO_GSI, "ACPI names an SPE interrupt that it cannot register",
         "Update the firmware: the SPE interrupt in its MADT must be a PPI (16 to 31)."},
        {SPE_NO_DEVICE, "it could not make a device of what ACPI says about SPE",
         "Update the firmware: all entries of its MADT for CPUs must be long enough to name the SPE "
         "interrupt."},
        {SPE_NO_INTERRUPT, "the firmware's description of SPE has no interrupt", ADVICE_NODE_INTERRUPT},
        {SPE_NOT_PPI, "the firmware describes an SPE interrupt that is not one of each CPU (a PPI)",
         "Update the firmware: the SPE interrupt must be a PPI."},
        {SPE_NO_PARTITION, "the firmware does not say which CPUs the SPE interrupt is of",
         "Update the firmware: the SPE node's interrupt must name a partition of the PPI's CPUs."},
};

/* Says it if the kernel did; *@ret_said tells. */
static int check_firmware_words(Readiness *readiness, bool *ret_said) {
        *ret_said = false;
        for (size_t i = 0; i < ELEMENTS_OF(firmware_words); i++) {
                const SpeProbe *probe =
                        readiness->facts.log.acpi.message == firmware_words[i].message
                                ? &readiness->facts.log.acpi
                                : readiness_find_message(readiness, firmware_words[i].message);
                int r;

                if (!probe)
                        continue;
                *ret_said = true;
                r = readiness_say(readiness, CHECK_FIRMWARE, CHECK_FAILED, "The kernel says that %s: \"%s\".",
                                  firmware_words[i].reason, probe->text);
                return r < 0 ? r
                             : readiness_advise(readiness, CHECK_FIRMWARE, "%s", firmware_words[i].advice);
        }
        return 0;
}

static int check_device_tree(Readiness *readiness) {
        const DeviceTreeNodes *nodes = &readiness->facts.nodes;
        Answer device = readiness->facts.device;
        int r;

        if (device == ANSWER_YES && nodes->n_no_interrupt == nodes->n - nodes->n_disabled) {
                r = readiness_say(readiness, CHECK_FIRMWARE, CHECK_FAILED,
                                  "The device tree has %s, without an interrupt.", nodes->first);
                return r < 0 ? r : readiness_advise(readiness, CHECK_FIRMWARE, ADVICE_NODE_INTERRUPT);
        }
        if (device == ANSWER_YES)
                return readiness_say(readiness, CHECK_FIRMWARE, CHECK_OK, "The device tree has %s.",
                                     nodes->first);
        if (device == ANSWER_UNKNOWN)
                return readiness_say(readiness, CHECK_FIRMWARE, CHECK_UNKNOWN,
                                     "The device tree cannot be looked through as a whole.");
        if (nodes->n > 0) {
                r = readiness_say(readiness, CHECK_FIRMWARE, CHECK_FAILED,
                                  "The device tree has %s, disabled.", nodes->first);
                return r < 0 ? r
                             : readiness_advise(
                                       readiness, CHECK_FIRMWARE,
                                       "Set status = \"okay\" in node %s of the device tree, or update the "
                                       "firmware.",
                                       nodes->first);
        }
        r = readiness_say(readiness, CHECK_FIRMWARE, CHECK_FAILED,
                          "The device tree does not describe SPE: no node is compatible with " SPE_COMPATIBLE
                          ".");
        return r < 0 ? r
                     : readiness_advise(readiness, CHECK_FIRMWARE,
                                        "Add a node with compatible = \"" SPE_COMPATIBLE
                                        "\" and the CPUs' SPE interrupt to the device tree.");
}

static int check_acpi(Readiness *readiness) {
        Answer device = readiness->facts.device;
        int r;

        if (device == ANSWER_YES)
                return readiness_say(readiness, CHECK_FIRMWARE, CHECK_OK,
                                     "ACPI describes the SPE interrupt: the device arm,spe-v1 is there.");
        if (device == ANSWER_UNKNOWN)
                return readiness_say(readiness, CHECK_FIRMWARE, CHECK_UNKNOWN,
                                     "The kernel looks for SPE in the ACPI tables only with the driver "
                                     "built, and only root may "
                                     "read them.");
        r = readiness_say(
                readiness, CHECK_FIRMWARE, CHECK_FAILED,
                "ACPI does not describe the SPE interrupt: the kernel, which has the driver, made no device "
                "of it.");
        return r < 0 ? r
                     : readiness_advise(
                               readiness, CHECK_FIRMWARE,
                               "Update the firmware, or switch SPE on in its settings: its MADT must name "
                               "the SPE interrupt.");
}

int check_firmware(Readiness *readiness) {
        const HostFacts *facts = &readiness->facts;
        bool said;
        int r;

        if (facts->ready)
                return readiness_say(readiness, CHECK_FIRMWARE, CHECK_OK,
                                     "The firmware describes the SPE interrupt: %s is registered.",
                                     facts->ready->name);
        if (readiness_follows(readiness, CHECK_FIRMWARE, CAUSE(CHECK_CPU), &r))
                return r;
        r = check_firmware_words(readiness, &said);
        if (r < 0 || said)
                return r;

        switch (facts->firmware) {
        case FIRMWARE_ACPI:
                return check_acpi(readiness);
        case FIRMWARE_DEVICE_TREE:
                return check_device_tree(readiness);
        default:
                return readiness_say(readiness, CHECK_FIRMWARE, CHECK_UNKNOWN,
                                     "Neither ACPI nor a device tree is to be seen here.");
        }
}

static int say_kpti_on(Readiness *readiness, const char *evidence) {
        int r;

        r = readiness_say(readiness, CHECK_KPTI, CHECK_FAILED,
                          "KPTI unmaps the kernel, and with it SPE's buffer, while user code runs: %s.",
                          evidence);
        return r < 0 ? r : readiness_advise_argument(readiness, CHECK_KPTI, "kpti=off", false);
}

int check_kpti(Readiness *readiness) {
        const HostFacts *facts = &readiness->facts;
        const SpeProbe *probe = readiness_find_message(readiness, SPE_KPTI);
        char meltdown[FACT_TEXT_MAX] = "", evidence[KERNEL_QUOTE_MAX + FACT_TEXT_MAX];
        int r;

        if (facts->ready)
                return readiness_say(readiness, CHECK_KPTI, CHECK_OK,
                                     "KPTI is not in the way: %s is registered.", facts->ready->name);
        if (readiness_follows(readiness, CHECK_KPTI, CAUSE(CHECK_CPU), &r))
                return r;
        if (probe) {
                (void)snprintf(evidence, sizeof(evidence), "\"%s\"", probe->text);
                return say_kpti_on(readiness, evidence);
        }

        r = host_facts_line(facts, "sys/devices/system/cpu/vulnerabilities/meltdown", meltdown,
                            sizeof(meltdown));
        if (r < 0)
                return r;
        if (r == 0 && strcmp(meltdown, "Mitigation: PTI") == 0)
                return say_kpti_on(readiness, "the kernel mitigates Meltdown with it");
        if (facts->log.kpti == KPTI_ON)
                return say_kpti_on(readiness, "the kernel says so as it boots");

        if (r == 0 && strcmp(meltdown, "Vulnerable") == 0)
                return readiness_say(readiness, CHECK_KPTI, CHECK_OK,
                                     "KPTI is off: the kernel calls itself vulnerable to Meltdown.");
        if (host_facts_argument(facts, "kpti", "off") || host_facts_argument(facts, "kpti", "0"))
                return readiness_say(readiness, CHECK_KPTI, CHECK_OK,
                                     "KPTI is off by the kernel's command line.");
        if (facts->log.kpti == KPTI_OFF || (facts->log.boot && facts->log.features))
                return readiness_say(
                        readiness, CHECK_KPTI, CHECK_OK,
                        "KPTI is not among the features that the kernel says it uses as it boots.");
        return readiness_say(
                readiness, CHECK_KPTI, CHECK_UNKNOWN, "Nothing here says whether KPTI is on: %s.",
                readiness_log_problem(readiness) ?: "the kernel log does not reach back to the boot");
}
