/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "host/kernel-messages.h"
#include "util/cleanup.h"

#define DEVICE   "arm_spe_pmu arm,spe-v1: "
#define OLD_CORE "arm_spe_pmu: probe of arm,spe-v1 failed with error -"
#define NEW_CORE DEVICE "probe with driver arm_spe_pmu failed with error -"
#define PROBED   DEVICE "probed SPEv1.1 for CPUs 0-63 [max_record_sz 64, align 64, features 0x17]"
#define KPTI     "arm_spe_pmu arm,spe-v1: profiling buffer inaccessible"

static KernelMessages *take_all(KernelMessages *messages, const char *const *texts) {
        *messages = (KernelMessages){.acpi = {.cpu = -1}};
        for (; *texts; texts++)
                kernel_messages_take(*texts, messages);
        return messages;
}

#define TAKE(messages, ...) take_all(messages, (const char *const[]){__VA_ARGS__, NULL})

/* All rows of the table of probe failures, and what a probe that is good says. */
static void test_driver(_unused_ void **state) {
        static const struct {
                const char *text;
                SpeMessage message;
                int cpu;
        } rows[] = {
                {PROBED, SPE_PROBED, -1},
                {DEVICE "probed for CPUs 0-95 [max_record_sz 128, align 4, features 0x7]", SPE_PROBED, -1},
                {KPTI ". Try passing \"kpti=off\" on the kernel command line", SPE_KPTI, -1},
                {DEVICE "IRQ index 0 not found", SPE_NO_INTERRUPT, -1},
                {DEVICE "error -ENXIO: IRQ index 0 not found", SPE_NO_INTERRUPT, -1},
                {DEVICE "expected PPI but got SPI (37)", SPE_NOT_PPI, -1},
                {DEVICE "failed to get PPI partition (21)", SPE_NO_PARTITION, -1},
                {DEVICE "unsupported ID_AA64DFR0_EL1.PMSVer [0] on CPU 4", SPE_NOT_IN_CPU, 4},
                {DEVICE "profiling buffer owned by higher exception level", SPE_HIGHER_LEVEL, -1},
                {DEVICE "unsupported PMBIDR.Align [12] on CPU 0", SPE_ALIGNMENT, 0},
                {DEVICE "unsupported PMSIDR_EL1.MaxSize [12] on CPU 4095", SPE_RECORD_SIZE, 4095},
                {DEVICE "failed to allocate name for pmu 3", SPE_NO_NAME, -1},
        };
        KernelMessages messages;

        for (size_t i = 0; i < ELEMENTS_OF(rows); i++) {
                TAKE(&messages, rows[i].text);
                assert_int_equal(messages.n_probes, 1);
                assert_string_equal(messages.probes[0].device, "arm,spe-v1");
                assert_int_equal(messages.probes[0].message, rows[i].message);
                assert_int_equal(messages.probes[0].cpu, rows[i].cpu);
                assert_string_equal(messages.probes[0].text, rows[i].text);
                if (rows[i].message == SPE_PROBED)
                        assert_null(kernel_messages_failure(&messages));
                else
                        assert_ptr_equal(kernel_messages_failure(&messages), &messages.probes[0]);
        }
}

/* The driver core's line, in both its forms, after what the driver said, or alone. */
static void test_core(_unused_ void **state) {
        static const struct {
                const char *before;
                const char *error;
                SpeMessage message;
                int number;
        } rows[] = {
                {KPTI, "1", SPE_KPTI, 0},
                {"", "1", SPE_KPTI, 0},
                {"", "12", SPE_NO_MEMORY, ENOMEM},
                {DEVICE "failed to allocate name for pmu 3", "12", SPE_NO_NAME, 0},
                {DEVICE "expected PPI but got SPI (37)", "22", SPE_NOT_PPI, 0},
                {DEVICE "failed to get PPI partition (21)", "22", SPE_NO_PARTITION, 0},
                {PROBED, "16", SPE_NOT_REGISTERED, EBUSY},
                {PROBED, "12", SPE_NOT_REGISTERED, ENOMEM},
                {"", "22", SPE_FAILED, EINVAL},
                /* Of another probe: what was said before does not explain it. */
                {DEVICE "unsupported PMBIDR.Align [12] on CPU 0", "22", SPE_FAILED, EINVAL},
                {KPTI, "12", SPE_NO_MEMORY, ENOMEM},
        };
        KernelMessages messages;

        for (size_t i = 0; i < ELEMENTS_OF(rows); i++) {
                static const char *const forms[] = {OLD_CORE, NEW_CORE};

                for (size_t k = 0; k < ELEMENTS_OF(forms); k++) {
                        char text[256];

                        (void)snprintf(text, sizeof(text), "%s%s", forms[k], rows[i].error);
                        TAKE(&messages, rows[i].before, text);
                        assert_int_equal(messages.n_probes, 1);
                        assert_string_equal(messages.probes[0].device, "arm,spe-v1");
                        assert_int_equal(messages.probes[0].message, rows[i].message);
                        assert_int_equal(messages.probes[0].error, rows[i].number);
                }
        }
}

/* A later probe of the same device counts, another device's does not; a later boot does away with all. */
static void test_order(_unused_ void **state) {
        KernelMessages messages;

        TAKE(&messages, KPTI, NEW_CORE "1", PROBED);
        assert_int_equal(messages.probes[0].message, SPE_PROBED);
        assert_null(kernel_messages_failure(&messages));

        TAKE(&messages, PROBED, NEW_CORE "12");
        assert_int_equal(messages.probes[0].message, SPE_NOT_REGISTERED);

        TAKE(&messages, "arm_spe_pmu spe-0: probed for CPUs 0-3 [x]",
             "arm_spe_pmu spe-1: unsupported ID_AA64DFR0_EL1.PMSVer [0] on CPU 4",
             "arm_spe_pmu spe-0: probed for CPUs 0-3 [x]");
        assert_int_equal(messages.n_probes, 2);
        assert_int_equal(messages.probes[0].message, SPE_PROBED);
        assert_string_equal(kernel_messages_failure(&messages)->device, "spe-1");

        TAKE(&messages, KPTI, "ACPI: SPE must be homogeneous", "kvm [1]: HYP mode not available",
             "Booting Linux on physical CPU 0x0000000000 [0x413fd0c1]",
             "kvm [1]: VHE mode initialized successfully");
        assert_int_equal(messages.n_probes, 0);
        assert_int_equal(messages.acpi.message, SPE_SILENT);
        assert_int_equal(messages.kvm, KVM_VHE);
        assert_true(messages.boot);
        TAKE(&messages, "CPU features: detected: Spectre-v2");
        assert_false(messages.boot);
}

static void test_acpi(_unused_ void **state) {
        KernelMessages messages;

        TAKE(&messages, "ACPI: arm,spe-v1: must be homogeneous", "ACPI: SPE: Unable to register device");
        assert_int_equal(messages.acpi.message, SPE_NOT_HOMOGENEOUS);
        assert_string_equal(messages.acpi.text, "ACPI: arm,spe-v1: must be homogeneous");
        TAKE(&messages, "ACPI: SPE must be homogeneous");
        assert_int_equal(messages.acpi.message, SPE_NOT_HOMOGENEOUS);
        TAKE(&messages, "ACPI: arm,spe-v1 Unable to register interrupt: 21",
             "ACPI: SPE: Unable to register device");
        assert_int_equal(messages.acpi.message, SPE_NO_GSI);
        TAKE(&messages, "ACPI: SPE Unable to register interrupt: 21");
        assert_int_equal(messages.acpi.message, SPE_NO_GSI);
        TAKE(&messages, "ACPI: SPE: Unable to register device");
        assert_int_equal(messages.acpi.message, SPE_NO_DEVICE);
        TAKE(&messages, "ACPI: TRBE: Unable to register device", "ACPI: arm,trbe-v1: must be homogeneous");
        assert_int_equal(messages.acpi.message, SPE_SILENT);
        assert_int_equal(messages.n_probes, 0);
}

static void test_kvm(_unused_ void **state) {
        static const struct {
                const char *text;
                KvmMessage message;
        } rows[] = {
                {"kvm [1]: VHE mode initialized successfully", KVM_VHE},
                {"kvm [1]: VHE+NV2 mode initialized successfully", KVM_VHE},
                {"kvm [12]: Hyp mode initialized successfully", KVM_NVHE},
                {"kvm [1]: Hyp nVHE mode initialized successfully", KVM_NVHE},
                {"kvm [1]: Hyp hVHE mode initialized successfully", KVM_NVHE},
                {"kvm [1]: Protected nVHE mode initialized successfully", KVM_PROTECTED},
                {"kvm [1]: Protected hVHE mode initialized successfully", KVM_PROTECTED},
                {"kvm [1]: HYP mode not available", KVM_NO_HYP},
                {"kvm [1]: KVM disabled from command line", KVM_DISABLED},
                {"kvm [1]: error initializing Hyp mode: -12", KVM_ERROR},
                {"kvm [1]: IPA Size Limit: 48 bits", KVM_SILENT},
                {"kvm: HYP mode not available", KVM_SILENT},
                {"kvm [x]: HYP mode not available", KVM_SILENT},
                {"x kvm [1]: HYP mode not available", KVM_SILENT},
        };
        KernelMessages messages;

        for (size_t i = 0; i < ELEMENTS_OF(rows); i++) {
                TAKE(&messages, rows[i].text);
                assert_int_equal(messages.kvm, rows[i].message);
                assert_string_equal(messages.kvm_text, rows[i].message == KVM_SILENT ? "" : rows[i].text);
        }
}

static void test_features(_unused_ void **state) {
        KernelMessages messages;

        TAKE(&messages, "CPU features: detected: Spectre-v2");
        assert_true(messages.features);
        assert_int_equal(messages.kpti, KPTI_SILENT);
        TAKE(&messages, "CPU features: kernel page table isolation forced ON by KASLR");
        assert_int_equal(messages.kpti, KPTI_ON);
        TAKE(&messages, "CPU features: detected: Kernel page table isolation (KPTI)");
        assert_int_equal(messages.kpti, KPTI_ON);
        TAKE(&messages, "CPU features: kernel page table isolation forced OFF by kpti command line option");
        assert_int_equal(messages.kpti, KPTI_OFF);
        assert_false(messages.features);
        TAKE(&messages, "CPU features: kernel page table isolation disabled by kernel configuration");
        assert_int_equal(messages.kpti, KPTI_OFF);
}

/* Words in the wrong place, of another driver, or about no device, are nobody's. */
static void test_hostile(_unused_ void **state) {
        static const char *const texts[] = {
                ("usb 1-1: Product: " KPTI),
                (" " KPTI),
                "arm_spe_pmu_fake arm,spe-v1: profiling buffer inaccessible",
                "arm_spe_pmu : profiling buffer inaccessible",
                "arm_spe_pmu a b: profiling buffer inaccessible",
                "arm_spe_pmu arm,spe-v1:profiling buffer inaccessible",
                "arm_spe_pmu: probe of  failed with error -1",
                "arm_spe_pmu: probe of arm,spe-v1 failed with error 1",
                "arm_spe_pmu: probe of arm,spe-v1 failed with error -0",
                "arm_spe_pmu: probe of arm,spe-v1 failed with error -99999999999999999999",
                "arm_spe_pmu: Unexpected buffer fault on CPU 3 [PMBSR=0x0]",
                "x ACPI: SPE must be homogeneous",
                "",
        };
        KernelMessages messages, *all = &messages;
        char text[256];

        *all = (KernelMessages){.acpi = {.cpu = -1}};
        for (size_t i = 0; i < ELEMENTS_OF(texts); i++) {
                kernel_messages_take(texts[i], all);
                assert_null(kernel_messages_failure(all));
                assert_int_equal(all->acpi.message, SPE_SILENT);
                assert_int_equal(all->kpti, KPTI_SILENT);
        }

        /* As many devices as nobody has: the first count. A name that is too long is none. */
        for (unsigned i = 0; i < 2 * KERNEL_MESSAGES_PROBE_MAX; i++) {
                (void)snprintf(text, sizeof(text), "arm_spe_pmu many-%u: probed for CPUs 0 [x]", i);
                kernel_messages_take(text, all);
        }
        assert_int_equal(all->n_probes, KERNEL_MESSAGES_PROBE_MAX);
        (void)snprintf(text, sizeof(text), "arm_spe_pmu %0100d: probed for CPUs 0 [x]", 0);
        TAKE(all, text);
        assert_int_equal(all->n_probes, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_driver),  cmocka_unit_test(test_core), cmocka_unit_test(test_order),
                cmocka_unit_test(test_acpi),    cmocka_unit_test(test_kvm),  cmocka_unit_test(test_features),
                cmocka_unit_test(test_hostile),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
