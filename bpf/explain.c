/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Words of what is missing. What the probe of single programs finds (bpf/probe.h) is said as it says it; here
 * is what only the whole shows.
 */

#include "bpf/explain.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "bpf/probe.h"
#include "util/cleanup.h"
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

static void explain_unproved(const BpfSubject *subject, BpfExplanation *explanation) {
        char list[128] = "";

        read_line(LSM_LIST_PATH, list, sizeof(list));
        if (list_has(list, "bpf")) {
                (void)snprintf(explanation->reason, sizeof(explanation->reason),
                               "The kernel lets %s that a BPF program of type LSM refuses, as tried.",
                               subject->refused);
                return;
        }
        (void)snprintf(explanation->reason, sizeof(explanation->reason),
                       "The kernel does not call BPF programs of type LSM: bpf is not among the active "
                       "security modules (%s).",
                       list[0] ? list : "their list cannot be read");
        explanation->advice = "Add bpf to the list in lsm= on the kernel's command line, and boot anew.";
}

/* Kernels of Debian's and others' know more than the 2 of all kernels, and then do not ask for CAP_PERFMON.
 */
static bool explain_paranoid(BpfExplanation *explanation) {
        char line[16];
        uint64_t level;

        read_line(PARANOID_PATH, line, sizeof(line));
        if (parse_u64(line, INT_MAX, &level) != 0 || level <= PARANOID_MAX_USUAL)
                return false;

        (void)snprintf(explanation->reason, sizeof(explanation->reason),
                       "Only CAP_SYS_ADMIN may open perf events here, which the broker needs to see its BPF "
                       "programs at work (kernel.perf_event_paranoid is %s).",
                       line);
        explanation->advice = "sysctl kernel.perf_event_paranoid=2";
        return true;
}

void bpf_explain(const BpfSubject *subject, bool loaded, int error, BpfExplanation *explanation) {
        char lockdown[64];
        BpfProbe probe;

        if (explanation->reason[0])
                return;
        if (error == BPF_E_UNPROVED) {
                explain_unproved(subject, explanation);
                return;
        }

        bpf_probe(&probe);
        if (probe.result != BPF_PROBE_ATTACHES) {
                (void)snprintf(explanation->reason, sizeof(explanation->reason), "%s", probe.reason);
                explanation->advice = probe.advice;
                return;
        }
        read_line(LOCKDOWN_PATH, lockdown, sizeof(lockdown));
        if (strstr(lockdown, "[confidentiality]")) {
                (void)snprintf(explanation->reason, sizeof(explanation->reason),
                               "The kernel is locked down for confidentiality, so BPF programs may not read "
                               "its memory.");
                explanation->advice = "Boot with lockdown=integrity, or without lockdown.";
                return;
        }
        if (subject->opens_events && loaded && error == -EACCES && explain_paranoid(explanation))
                return;
        (void)snprintf(explanation->reason, sizeof(explanation->reason),
                       "BPF programs that watch %s do not %s: %s.", subject->watched,
                       loaded ? "attach" : "load", strerror(-error));
}
