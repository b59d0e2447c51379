/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the kernel has said. The driver speaks first and the driver core after it ("probe ... failed with
 * error -1", and for ENXIO and ENODEV not at all), so the core's line only counts where the driver's own does
 * not explain the same error already. Some of the driver's lines are printed once per boot: then a later
 * probe that fails for the same reason leaves the core's line alone, with an errno that tells.
 */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "host/kernel-log.h"
#include "host/kernel-messages.h"
#include "util/cleanup.h"
#include "util/parse.h"

#define DRIVER "arm_spe_pmu"

/* The driver's words, after "arm_spe_pmu DEVICE: ". @error: what the driver core says next; 0 if nothing. */
static const struct {
        const char *prefix;
        SpeMessage message;
        int error;
} driver_words[] = {
        {"probed ", SPE_PROBED, 0},
        {"profiling buffer inaccessible", SPE_KPTI, EPERM},
        {"IRQ index ", SPE_NO_INTERRUPT, 0},
        {"expected PPI but got SPI", SPE_NOT_PPI, EINVAL},
        {"failed to get PPI partition", SPE_NO_PARTITION, EINVAL},
        {"unsupported ID_AA64DFR0_EL1.PMSVer", SPE_NOT_IN_CPU, 0},
        {"profiling buffer owned by higher exception level", SPE_HIGHER_LEVEL, 0},
        {"unsupported PMBIDR.Align", SPE_ALIGNMENT, 0},
        {"unsupported PMSIDR_EL1.MaxSize", SPE_RECORD_SIZE, 0},
        {"failed to allocate name for pmu", SPE_NO_NAME, ENOMEM},
};

static const struct {
        const char *text;
        SpeMessage message;
} acpi_words[] = {
        {"ACPI: arm,spe-v1: must be homogeneous", SPE_NOT_HOMOGENEOUS},
        {"ACPI: SPE must be homogeneous", SPE_NOT_HOMOGENEOUS}, /* before 6.7 */
        {"ACPI: arm,spe-v1 Unable to register interrupt:", SPE_NO_GSI},
        {"ACPI: SPE Unable to register interrupt:", SPE_NO_GSI}, /* before 6.7 */
        {"ACPI: SPE: Unable to register device", SPE_NO_DEVICE},
};

static const struct {
        const char *prefix;
        KvmMessage message;
} kvm_words[] = {
        {"VHE mode initialized", KVM_VHE},
        {"VHE+NV2 mode initialized", KVM_VHE},
        {"Hyp mode initialized", KVM_NVHE}, /* before 5.19 */
        {"Hyp nVHE", KVM_NVHE},
        {"Hyp hVHE", KVM_NVHE},
        {"Protected nVHE", KVM_PROTECTED},
        {"Protected hVHE", KVM_PROTECTED},
        {"HYP mode not available", KVM_NO_HYP},
        {"KVM disabled from command line", KVM_DISABLED},
        {"error initializing Hyp mode", KVM_ERROR},
};

/* What follows @prefix in @text, or NULL. */
static const char *after(const char *text, const char *prefix) {
        size_t n = strlen(prefix);

        return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

static void quote(char buffer[static KERNEL_QUOTE_MAX], const char *text) {
        (void)snprintf(buffer, KERNEL_QUOTE_MAX, "%s", text);
}

/* The number that @text begins with, or -1. */
static int leading_number(const char *text) {
        char digits[16];
        uint64_t value;
        size_t n = strspn(text, "0123456789");

        if (n == 0 || n >= sizeof(digits))
                return -1;
        memcpy(digits, text, n);
        digits[n] = '\0';
        return parse_u64(digits, INT32_MAX, &value) == 0 ? (int)value : -1;
}

static int number_after(const char *text, const char *words) {
        const char *p = strstr(text, words);

        return p ? leading_number(p + strlen(words)) : -1;
}

/* The device's entry, made if it is new; NULL if there are too many, or the name is none. */
static SpeProbe *probe_of(KernelMessages *messages, const char *device, size_t n) {
        SpeProbe *probe;

        if (n == 0 || n >= sizeof(probe->device) || memchr(device, ' ', n))
                return NULL;
        for (size_t i = 0; i < messages->n_probes; i++) {
                probe = &messages->probes[i];
                if (strlen(probe->device) == n && memcmp(probe->device, device, n) == 0)
                        return probe;
        }
        if (messages->n_probes == KERNEL_MESSAGES_PROBE_MAX)
                return NULL;

        probe = &messages->probes[messages->n_probes++];
        *probe = (SpeProbe){.cpu = -1};
        memcpy(probe->device, device, n);
        return probe;
}

static void set_probe(SpeProbe *probe, SpeMessage message, int error, const char *text) {
        probe->message = message;
        probe->error = error;
        probe->cpu = number_after(text, "on CPU ");
        quote(probe->text, text);
}

/* The driver core's line: the probe failed with @error. */
static void take_probe_error(SpeProbe *probe, int error, const char *text) {
        for (size_t i = 0; i < ELEMENTS_OF(driver_words); i++)
                if (driver_words[i].message == probe->message && driver_words[i].error == error)
                        return;

        switch (error) {
        case EPERM: /* which nothing but KPTI makes */
                set_probe(probe, SPE_KPTI, 0, text);
                break;
        case ENOMEM:
                set_probe(probe, probe->message == SPE_PROBED ? SPE_NOT_REGISTERED : SPE_NO_MEMORY, error,
                          text);
                break;
        default:
                set_probe(probe, probe->message == SPE_PROBED ? SPE_NOT_REGISTERED : SPE_FAILED, error, text);
        }
}

/* "arm_spe_pmu: probe of arm,spe-v1 failed with error -1", the driver core before 6.13. */
static bool take_old_core(KernelMessages *messages, const char *text) {
        static const char failed[] = " failed with error -";
        const char *device = after(text, DRIVER ": probe of "), *end = device ? strstr(device, failed) : NULL;
        SpeProbe *probe = end ? probe_of(messages, device, (size_t)(end - device)) : NULL;
        int error = probe ? leading_number(end + strlen(failed)) : -1;

        if (error > 0)
                take_probe_error(probe, error, text);
        return error > 0;
}

/* dev_err_probe() puts the error before the text: "error -ENXIO: IRQ index 0 not found". */
static const char *skip_error(const char *words) {
        const char *p = after(words, "error -"), *colon = p ? strstr(p, ": ") : NULL;

        return colon ? colon + 2 : words;
}

static void take_driver(KernelMessages *messages, const char *text) {
        const char *device = after(text, DRIVER " "), *words = device ? strstr(device, ": ") : NULL, *error;
        SpeProbe *probe;

        if (!words)
                return;
        probe = probe_of(messages, device, (size_t)(words - device));
        if (!probe)
                return;

        words = skip_error(words + 2);
        error = after(words, "probe with driver " DRIVER " failed with error -");
        if (error && leading_number(error) > 0) {
                take_probe_error(probe, leading_number(error), text);
                return;
        }
        for (size_t i = 0; i < ELEMENTS_OF(driver_words); i++)
                if (after(words, driver_words[i].prefix)) {
                        set_probe(probe, driver_words[i].message, 0, text);
                        return;
                }
}

static void take_acpi(KernelMessages *messages, const char *text) {
        for (size_t i = 0; i < ELEMENTS_OF(acpi_words); i++) {
                if (!after(text, acpi_words[i].text))
                        continue;
                /* The last of the words also follows each of the others. */
                if (acpi_words[i].message != SPE_NO_DEVICE || messages->acpi.message == SPE_SILENT)
                        set_probe(&messages->acpi, acpi_words[i].message, 0, text);
                return;
        }
}

static void take_kvm(KernelMessages *messages, const char *text) {
        const char *p = after(text, "kvm ["), *words;

        if (!p)
                return;
        words = after(p + strspn(p, "0123456789"), "]: ");
        for (size_t i = 0; words && i < ELEMENTS_OF(kvm_words); i++)
                if (after(words, kvm_words[i].prefix)) {
                        messages->kvm = kvm_words[i].message;
                        quote(messages->kvm_text, text);
                        return;
                }
}

static void take_feature(KernelMessages *messages, const char *text) {
        const char *words = after(text, "CPU features: ");

        if (!words)
                return;
        messages->features = messages->features || after(words, "detected");
        if (after(words, "detected: Kernel page table isolation") ||
            after(words, "kernel page table isolation forced ON"))
                messages->kpti = KPTI_ON;
        else if (after(words, "kernel page table isolation forced OFF") ||
                 after(words, "kernel page table isolation disabled"))
                messages->kpti = KPTI_OFF;
}

void kernel_messages_take(const char *text, void *userdata) {
        KernelMessages *messages = userdata;

        if (after(text, "Booting Linux on physical CPU ")) /* a saved log may hold several boots */
                *messages = (KernelMessages){.acpi = {.cpu = -1}, .boot = true};
        if (take_old_core(messages, text))
                return;
        take_driver(messages, text);
        take_acpi(messages, text);
        take_kvm(messages, text);
        take_feature(messages, text);
}

int kernel_messages_read(int root_fd, bool foreign, KernelMessages *ret_messages) {
        KernelMessages messages = {.acpi = {.cpu = -1}};

        messages.outcome = kernel_log_read(root_fd, foreign, kernel_messages_take, &messages);
        if (messages.outcome < 0)
                return messages.outcome;
        *ret_messages = messages;
        return 0;
}

const SpeProbe *kernel_messages_failure(const KernelMessages *messages) {
        for (size_t i = 0; i < messages->n_probes; i++)
                if (messages->probes[i].message > SPE_PROBED)
                        return &messages->probes[i];
        return NULL;
}
