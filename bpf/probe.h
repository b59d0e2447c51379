/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Whether host sessions can be watched and refused by BPF programs on the running kernel. No configuration or
 * version tells: arm64 before 6.4 loads the programs and then cannot attach them, and a security module or a
 * seccomp filter may refuse either step. So it is tried, with programs that do nothing.
 */

#include <stddef.h>

#define BPF_PROBE_REASON_MAX 256U

typedef enum BpfProbeResult {
        BPF_PROBE_ATTACHES, /* programs of all types that are needed load and attach */
        BPF_PROBE_REFUSED,  /* the kernel refuses one of them */
        BPF_PROBE_UNKNOWN,  /* it could not be tried */
} BpfProbeResult;

typedef struct BpfProbe {
        BpfProbeResult result;
        char reason[BPF_PROBE_REASON_MAX]; /* a sentence: what was found, or which step failed, and why */
        const char *advice;                /* one line, or NULL: nothing to do */
} BpfProbe;

/*
 * Loads and attaches a program of type fentry on security_perf_event_free() and one of type LSM on
 * perf_event_alloc, and takes each away at once. Costs some ten milliseconds; what it finds holds until the
 * process changes its privileges or the machine is booted anew. Needs CAP_BPF and CAP_PERFMON.
 *
 * That an LSM program attaches does not say that the kernel calls it: for that, "bpf" is to be in its list of
 * security modules.
 */
void bpf_probe(BpfProbe *ret_probe);

/* libbpf prints to stderr until told otherwise, for the whole process: main() calls this once. */
void bpf_silence(void);
