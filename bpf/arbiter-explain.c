/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Why there is no better hook, in words of what is missing, and what to do about it. What the probe of single
 * programs finds (bpf/probe.h) is said as it says it; here is what only the whole shows.
 */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "bpf/arbiter-load.h"
#include "bpf/probe.h"
#include "util/parse.h"

#define LSM_LIST_PATH      "/sys/kernel/security/lsm"
#define LOCKDOWN_PATH      "/sys/kernel/security/lockdown"
#define PARANOID_PATH      "/proc/sys/kernel/perf_event_paranoid"
#define PARANOID_MAX_USUAL 2

/* Reads a short line of the kernel's. Empty: there is none. */
static void read_line(const char *path, char *line, size_t size) {
        _cleanup_(fclosep) FILE *file = fopen(path, "re");

        line[0] = '\0';
        if (file && fgets(line, (int)size, file))
                line[strcspn(line, "\n")] = '\0';
}

/* Whether a list of words with commas in between has @word. */
static bool list_has(const char *list, const char *word) {
        size_t n = strlen(word);

        for (const char *at = list; at; at = strchr(at, ',')) {
                at += *at == ',';
                if (strncmp(at, word, n) == 0 && (at[n] == ',' || at[n] == '\0'))
                        return true;
        }
        return false;
}

static void explain_unproved(Arbiter *arbiter) {
        char list[128] = "";

        read_line(LSM_LIST_PATH, list, sizeof(list));
        if (list_has(list, "bpf")) {
                (void)snprintf(
                        arbiter->reason, sizeof(arbiter->reason),
                        "The kernel lets an event in that a BPF program of type LSM refuses, as tried.");
                return;
        }
        (void)snprintf(arbiter->reason, sizeof(arbiter->reason),
                       "The kernel does not call BPF programs of type LSM: bpf is not among the active "
                       "security modules (%s).",
                       list[0] ? list : "their list cannot be read");
        arbiter->advice = "Add bpf to the list in lsm= on the kernel's command line, and boot anew.";
}

/* Kernels of Debian's and others' know more than the 2 of all kernels, and then do not ask for CAP_PERFMON.
 */
static bool explain_paranoid(Arbiter *arbiter) {
        char line[16];
        uint64_t level;

        read_line(PARANOID_PATH, line, sizeof(line));
        if (parse_u64(line, INT_MAX, &level) != 0 || level <= PARANOID_MAX_USUAL)
                return false;

        (void)snprintf(arbiter->reason, sizeof(arbiter->reason),
                       "Only CAP_SYS_ADMIN may open perf events here, which the broker needs to see its BPF "
                       "programs at work (kernel.perf_event_paranoid is %s).",
                       line);
        arbiter->advice = "sysctl kernel.perf_event_paranoid=2";
        return true;
}

void arbiter_explain(Arbiter *arbiter, bool loaded, int error) {
        char lockdown[64];
        BpfProbe probe;

        if (arbiter->reason[0])
                return;
        if (error == ARBITER_LOAD_E_UNPROVED) {
                explain_unproved(arbiter);
                return;
        }

        bpf_probe(&probe);
        if (probe.result != BPF_PROBE_ATTACHES) {
                (void)snprintf(arbiter->reason, sizeof(arbiter->reason), "%s", probe.reason);
                arbiter->advice = probe.advice;
                return;
        }
        read_line(LOCKDOWN_PATH, lockdown, sizeof(lockdown));
        if (strstr(lockdown, "[confidentiality]")) {
                (void)snprintf(arbiter->reason, sizeof(arbiter->reason),
                               "The kernel is locked down for confidentiality, so BPF programs may not read "
                               "its memory.");
                arbiter->advice = "Boot with lockdown=integrity, or without lockdown.";
                return;
        }
        if (loaded && error == -EACCES && explain_paranoid(arbiter))
                return;
        (void)snprintf(arbiter->reason, sizeof(arbiter->reason),
                       "BPF programs that watch perf events do not %s: %s.", loaded ? "attach" : "load",
                       strerror(-error));
}
