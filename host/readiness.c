/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The list of checks: their names and order, and what they have in common. A check that cannot be asked
 * because an earlier one failed is unknown and names that one, so that a list has as many failures as there
 * are causes, and the first of them is the first thing to do.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/kernel-log.h"
#include "host/readiness-checks.h"
#include "host/readiness.h"

static const struct {
        const char *name;
        int (*check)(Readiness *readiness);
} checks[_CHECK_N] = {
        [CHECK_CPU] = {"cpu", check_cpu},
        [CHECK_FIRMWARE] = {"firmware", check_firmware},
        [CHECK_KPTI] = {"kpti", check_kpti},
        [CHECK_DRIVER_BUILT] = {"driver-built", check_driver_built},
        [CHECK_DRIVER_LOADED] = {"driver-loaded", check_driver_loaded},
        [CHECK_DRIVER_PROBE] = {"driver-probe", check_driver_probe},
        [CHECK_INSTANCES] = {"instances", check_instances},
        [CHECK_MEM_SAMPLING] = {"mem-sampling", check_mem_sampling},
        [CHECK_PERF_PARANOID] = {"perf-paranoid", check_perf_paranoid},
        [CHECK_KVM] = {"kvm", check_kvm},
        [CHECK_KVM_MODE] = {"kvm-mode", check_kvm_mode},
        [CHECK_GUEST] = {"guest", check_guest},
        [CHECK_MEMLOCK] = {"memlock", check_memlock},
        [CHECK_BTF] = {"btf", check_btf},
        [CHECK_BPF_LSM] = {"bpf-lsm", check_bpf_lsm},
        [CHECK_TRAMPOLINES] = {"trampolines", check_trampolines},
        [CHECK_LEVEL] = {"level", check_level},
};

const char *check_status_to_string(CheckStatus status) {
        switch (status) {
        case CHECK_OK:
                return "ok";
        case CHECK_WARNING:
                return "warning";
        case CHECK_FAILED:
                return "failed";
        default:
                return "unknown";
        }
}

__attribute__((__format__(__printf__, 2, 0))) static int replace(char **text, const char *format,
                                                                 va_list ap) {
        char *new;

        if (vasprintf(&new, format, ap) < 0)
                return -ENOMEM;
        free(*text);
        *text = new;
        return 0;
}

int readiness_say(Readiness *readiness, CheckId id, CheckStatus status, const char *format, ...) {
        va_list ap;
        int r;

        readiness->checks[id].status = status;
        va_start(ap, format);
        r = replace(&readiness->checks[id].reason, format, ap);
        va_end(ap);
        return r;
}

int readiness_advise(Readiness *readiness, CheckId id, const char *format, ...) {
        va_list ap;
        int r;

        va_start(ap, format);
        r = replace(&readiness->checks[id].advice, format, ap);
        va_end(ap);
        return r;
}

int readiness_advise_argument(Readiness *readiness, CheckId id, const char *argument, bool remove) {
        switch (readiness->facts.boot_tool) {
        case BOOT_TOOL_GRUBBY:
                return readiness_advise(readiness, id, "grubby --update-kernel=ALL --%s=%s && reboot",
                                        remove ? "remove-args" : "args", argument);
        case BOOT_TOOL_UPDATE_GRUB:
                if (!remove)
                        return readiness_advise(readiness, id,
                                                "echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX %s\"' >> "
                                                "/etc/default/grub && "
                                                "update-grub && reboot",
                                                argument);
                return readiness_advise(readiness, id,
                                        "Remove %s from /etc/default/grub, then: update-grub && reboot",
                                        argument);
        default:
                return readiness_advise(readiness, id, "%s %s %s the kernel's command line and reboot.",
                                        remove ? "Remove" : "Add", argument, remove ? "from" : "to");
        }
}

const char *readiness_log_problem(const Readiness *readiness) {
        switch (readiness->facts.log.outcome) {
        case 0:
                return NULL;
        case KERNEL_LOG_E_DENIED:
                return "the kernel log may not be read";
        case KERNEL_LOG_E_ABSENT:
                return "there is no kernel log";
        default:
                return "the kernel log cannot be read";
        }
}

int readiness_advise_log(Readiness *readiness, CheckId id) {
        if (readiness->facts.log.outcome != KERNEL_LOG_E_DENIED || readiness->input->foreign)
                return 0;
        return readiness_advise(readiness, id, "sysctl kernel.dmesg_restrict=0");
}

bool readiness_follows(Readiness *readiness, CheckId id, unsigned causes, int *ret_r) {
        for (CheckId cause = 0; cause < id; cause++) {
                if (!(causes & CAUSE(cause)) || readiness->checks[cause].status != CHECK_FAILED)
                        continue;
                *ret_r = readiness_say(readiness, id, CHECK_UNKNOWN, "Follows from %s.", checks[cause].name);
                return true;
        }
        return false;
}

const SpeProbe *readiness_find_message(const Readiness *readiness, SpeMessage message) {
        const KernelMessages *log = &readiness->facts.log;

        for (size_t i = 0; i < log->n_probes; i++)
                if (log->probes[i].message == message)
                        return &log->probes[i];
        return NULL;
}

static int run(Readiness *readiness) {
        for (CheckId id = 0; id < _CHECK_N; id++) {
                int r;

                readiness->checks[id].name = checks[id].name;
                r = checks[id].check(readiness);
                if (r < 0)
                        return r;
        }
        return 0;
}

int readiness_check(const ReadinessInput *input, Check **ret_checks, size_t *ret_n) {
        Readiness readiness = {.input = input};
        int r;

        readiness.checks = calloc(_CHECK_N, sizeof(*readiness.checks));
        if (!readiness.checks)
                return -ENOMEM;
        r = host_facts_gather(input, &readiness.facts);
        if (r == 0) {
                r = run(&readiness);
                host_facts_deinit(&readiness.facts);
        }
        if (r < 0) {
                readiness_free(readiness.checks, _CHECK_N);
                return r;
        }

        *ret_checks = readiness.checks;
        *ret_n = _CHECK_N;
        return 0;
}

void readiness_free(Check *list, size_t n) {
        if (!list)
                return;
        for (size_t i = 0; i < n; i++) {
                free(list[i].reason);
                free(list[i].advice);
        }
        free(list);
}
