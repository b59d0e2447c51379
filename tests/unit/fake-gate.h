/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The kernel's side of bpf/gate.h as a table in the test's process. Linked in place of the real one
 * (target_sources in tests/unit/CMakeLists.txt).
 */

#include "bpf/gate.h"

#define FAKE_GRANTS_MAX 32U

typedef struct FakeGate {
        /* Set by a test. */
        const char *reason; /* why it does not attach; NULL: it does */
        const char *advice;
        int new_error;            /* what gate_new() fails with; 0: it works */
        int allow_error;          /* what gate_allow() fails with; 0: it works */
        void (*changed_fn)(void); /* called whenever a process is allowed something else than before */

        /* What the broker did; the table stays over gate_free(), as a copy that is kept would have it. */
        bool there; /* between gate_new() and gate_free() */
        unsigned n_made;
        GateRule rule;
        GateGrant grants[FAKE_GRANTS_MAX];
        size_t n_grants;
        unsigned n_changes;

        /* The kernel's. */
        GateRefusal refusals[FAKE_GRANTS_MAX]; /* not told yet */
        size_t n_refusals;
        GateCounters counters;
        int fd; /* an eventfd */
} FakeGate;

extern FakeGate fake_gate;

/* To be called before the broker starts, and after it has stopped. @reason: why it does not attach, or NULL.
 */
void fake_gate_reset(const char *reason);
/* NULL: it is allowed no such thing. */
const GateGrant *fake_gate_find(OwnerKey owner, uint64_t pmu_type);
/* Something is refused, or reported. */
void fake_gate_refuse(const GateRefusal *refusal);
