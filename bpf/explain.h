/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Why BPF programs of ours are not in force, in words of what is missing, and what to do about it.
 */

#include <stdbool.h>

#define BPF_REASON_MAX 256U

enum {
        _BPF_E_SUCCESS,
        BPF_E_UNPROVED, /* an LSM program is attached, and the kernel does not do as it says */
};

typedef struct BpfExplanation {
        char reason[BPF_REASON_MAX]; /* a sentence; empty: none */
        const char *advice;          /* one line, or NULL */
} BpfExplanation;

/* What the programs are about. */
typedef struct BpfSubject {
        const char *watched; /* "perf events" */
        const char *refused; /* "an event in" */
        bool opens_events;   /* to prove that, a perf event is opened */
} BpfSubject;

/* Keeps why (@error: of the above, or -errno), unless that has been said already. */
void bpf_explain(const BpfSubject *subject, bool loaded, int error, BpfExplanation *explanation);
