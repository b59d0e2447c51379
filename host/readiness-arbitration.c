/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What decides how well host sessions and guests are kept apart: other users of SPE, who may use perf,
 * whether BPF programs can refuse a session, and what the broker makes of that. None of it keeps a guest from
 * SPE, so the worst that these checks say is a warning, with what is lost; but a configuration may insist.
 */

#include <stdio.h>
#include <string.h>

#include "host/readiness-checks.h"
#include "util/parse.h"

#define LSM_LIST_MAX 512U

/* The kernel counts this one in, asked or not. */
#define LSM_ALWAYS "capability"

/* A number that may be below zero; false if it is none. */
static bool parse_level(const char *text, int *ret_level) {
        bool negative = text[0] == '-';
        uint64_t value;

        if (parse_u64(text + negative, 1000, &value))
                return false;
        *ret_level = negative ? -(int)value : (int)value;
        return true;
}

int check_mem_sampling(Readiness *readiness) {
        char text[FACT_TEXT_MAX];
        int r, level;

        r = host_facts_line(&readiness->facts, "proc/sys/kernel/mem_sampling_enable", text, sizeof(text));
        if (r < 0)
                return r;
        if (r != 0 && host_facts_exists(&readiness->facts, "proc/sys/kernel") == ANSWER_YES &&
            host_facts_exists(&readiness->facts, "proc/sys/kernel/mem_sampling_enable") == ANSWER_NO)
                return readiness_say(readiness, CHECK_MEM_SAMPLING, CHECK_OK,
                                     "This kernel has no memory sampling of its own that would use SPE.");
        if (r != 0 || !parse_level(text, &level))
                return readiness_say(readiness, CHECK_MEM_SAMPLING, CHECK_UNKNOWN,
                                     "kernel.mem_sampling_enable cannot be read here.");
        if (level == 0)
                return readiness_say(readiness, CHECK_MEM_SAMPLING, CHECK_OK,
                                     "The kernel's own memory sampling is off.");
        r = readiness_say(
                readiness, CHECK_MEM_SAMPLING, CHECK_WARNING,
                "The kernel itself samples memory with SPE (kernel.mem_sampling_enable is %d), which the "
                "broker can neither refuse nor see.",
                level);
        return r < 0 ? r
                     : readiness_advise(readiness, CHECK_MEM_SAMPLING, "sysctl kernel.mem_sampling_enable=0");
}

int check_perf_paranoid(Readiness *readiness) {
        char text[FACT_TEXT_MAX];
        int r, level;

        r = host_facts_line(&readiness->facts, "proc/sys/kernel/perf_event_paranoid", text, sizeof(text));
        if (r < 0)
                return r;
        if (r != 0 || !parse_level(text, &level))
                return readiness_say(readiness, CHECK_PERF_PARANOID, CHECK_UNKNOWN,
                                     "kernel.perf_event_paranoid cannot be read here.");
        if (level > 0)
                return readiness_say(readiness, CHECK_PERF_PARANOID, CHECK_OK,
                                     "Only users with CAP_PERFMON may profile whole CPUs "
                                     "(kernel.perf_event_paranoid is %d).",
                                     level);
        r = readiness_say(readiness, CHECK_PERF_PARANOID, CHECK_WARNING,
                          "Every user may profile whole CPUs, and keep guests off their SPUs "
                          "(kernel.perf_event_paranoid is %d).",
                          level);
        return r < 0 ? r
                     : readiness_advise(readiness, CHECK_PERF_PARANOID,
                                        "sysctl kernel.perf_event_paranoid=2");
}

int check_btf(Readiness *readiness) {
        int r;

        if (host_facts_exists(&readiness->facts, "sys/kernel/btf/vmlinux") == ANSWER_YES)
                return readiness_say(readiness, CHECK_BTF, CHECK_OK, "The kernel describes its types (BTF).");
        if (host_facts_exists(&readiness->facts, "sys/kernel") != ANSWER_YES ||
            host_facts_exists(&readiness->facts, "sys/kernel/btf/vmlinux") != ANSWER_NO)
                return readiness_say(readiness, CHECK_BTF, CHECK_UNKNOWN,
                                     "Nothing here says whether the kernel describes its types (BTF).");
        r = readiness_say(
                readiness, CHECK_BTF, CHECK_WARNING,
                "The kernel does not describe its types (BTF): host sessions can be neither seen nor "
                "refused with BPF programs.");
        return r < 0 ? r
                     : readiness_advise(readiness, CHECK_BTF,
                                        "Boot a kernel that is built with CONFIG_DEBUG_INFO_BTF=y.");
}

/* The names go into a command that is pasted. */
static bool is_lsm_list(const char *list) {
        return list[0] != '\0' && list[strspn(list, "abcdefghijklmnopqrstuvwxyz0123456789_,")] == '\0';
}

static bool is_name(const char *text, size_t n, const char *name) {
        return n == strlen(name) && memcmp(text, name, n) == 0;
}

/* Whether the list has "bpf"; @rest gets the others as the kernel's command line takes them, each with its
 * comma, without the one that is implied: at most one byte more than the list. */
static bool read_lsm_list(const char *list, char rest[static LSM_LIST_MAX + 1]) {
        bool found = false;
        size_t n = 0;

        rest[0] = '\0';
        while (*list) {
                size_t length = strcspn(list, ",");

                found = found || is_name(list, length, "bpf");
                if (length > 0 && !is_name(list, length, LSM_ALWAYS))
                        n += (size_t)snprintf(rest + n, LSM_LIST_MAX + 1 - n, "%.*s,", (int)length, list);
                list += length + (list[length] == ',');
        }
        return found;
}

static int say_no_bpf(Readiness *readiness, const char *list, const char *rest) {
        char argument[LSM_LIST_MAX + 16];
        int r;

        r = readiness_say(
                readiness, CHECK_BPF_LSM, CHECK_WARNING,
                "The security modules of this kernel are %s, without bpf: no BPF program is asked about a "
                "host session, so level enforce cannot be had.",
                list);
        if (r < 0)
                return r;
        if (kernel_config_option(readiness->facts.config, "CONFIG_BPF_LSM") == KERNEL_OPTION_OFF)
                return readiness_advise(readiness, CHECK_BPF_LSM,
                                        "Boot a kernel that is built with CONFIG_BPF_LSM=y.");
        (void)snprintf(argument, sizeof(argument), "lsm=%sbpf", rest);
        return readiness_advise_argument(readiness, CHECK_BPF_LSM, argument, false);
}

int check_bpf_lsm(Readiness *readiness) {
        char list[LSM_LIST_MAX], rest[LSM_LIST_MAX + 1];
        int r;

        r = host_facts_line(&readiness->facts, "sys/kernel/security/lsm", list, sizeof(list));
        if (r < 0)
                return r;
        if (r != 0 || !is_lsm_list(list))
                return readiness_say(
                        readiness, CHECK_BPF_LSM, CHECK_UNKNOWN,
                        "The list of security modules (/sys/kernel/security/lsm) cannot be read here.");
        if (!read_lsm_list(list, rest))
                return say_no_bpf(readiness, list, rest);
        return readiness_say(readiness, CHECK_BPF_LSM, CHECK_OK,
                             "The security modules of this kernel are %s.", list);
}

/* Hands on what others have found out. */
static int say_given(Readiness *readiness, CheckId id, CheckStatus status, const char *reason,
                     const char *advice) {
        int r;

        r = readiness_say(readiness, id, status, "%s", reason ?: "No reason is known.");
        return r < 0 || !advice ? r : readiness_advise(readiness, id, "%s", advice);
}

int check_trampolines(Readiness *readiness) {
        const ReadinessInput *input = readiness->input;
        CheckStatus status = input->trampolines == CHECK_FAILED ? CHECK_WARNING : input->trampolines;

        return say_given(readiness, CHECK_TRAMPOLINES, status, input->trampolines_reason,
                         input->trampolines_advice);
}

/* Fails where the configuration names a level that this host does not have: leases are refused then. */
int check_level(Readiness *readiness) {
        const ReadinessInput *input = readiness->input;

        return say_given(readiness, CHECK_LEVEL, input->level, input->level_reason, input->level_advice);
}
