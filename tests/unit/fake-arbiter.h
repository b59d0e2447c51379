/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The kernel's side of bpf/arbiter.h as a table in the test's process: a test opens and closes events, and
 * the fake enters, refuses and rings as the programs do. Linked in place of the real one (target_sources in
 * tests/unit/CMakeLists.txt).
 */

#include "bpf/arbiter.h"

#define FAKE_OWNERS_MAX  16U
#define FAKE_HOLDERS_MAX 16U

typedef struct FakeOwner {
        OwnerKey owner;
        CpuSet cpus;
} FakeOwner;

typedef struct FakeArbiter {
        /* Set by a test. */
        ArbiterHook hook; /* the best that this kernel has */
        int new_error;    /* what arbiter_new() fails with; 0: it works */
        int read_error;   /* what arbiter_read() fails with; 0: it works */
        bool keeps;    /* what was closed stays so after arbiter_free(), and when arbiter_new() takes over */
        bool entering; /* events that open stay undecided until fake_decide() */
        void (*read_fn)(void);    /* called within arbiter_read(), before the table is looked at */
        void (*iterate_fn)(void); /* called within arbiter_iterate(): what it finds */
        void (*closed_fn)(void);  /* called within arbiter_close(), when the CPUs are closed: a race */
        void (*changed_fn)(void); /* called whenever other CPUs are closed than before, or to another owner */

        /* What the broker did. */
        bool there; /* between arbiter_new() and arbiter_free() */
        ArbiterClosed closed;
        FakeOwner owners[FAKE_OWNERS_MAX];
        size_t n_owners;
        ArbiterPmu *pmus;
        size_t n_pmus;
        unsigned n_reads;
        unsigned n_closes;
        unsigned n_iterations;

        /* The kernel's. */
        ArbiterHook used;
        pid_t holders[FAKE_HOLDERS_MAX];
        size_t n_holders;
        ArbiterSession *sessions;
        size_t n_sessions;
        ArbiterRefusal *refusals; /* not told yet */
        size_t n_refusals;
        uint64_t generation;
        uint64_t last_id;
        int bell; /* an eventfd */
        ArbiterCounters counters;
} FakeArbiter;

extern FakeArbiter fake_arbiter;

/* A kernel with @hook, and no events. To be called before the broker starts, and after it has stopped. */
void fake_arbiter_reset(ArbiterHook hook);

/* What the kernel calls the PMU that has @cpu; "arm_spe_0", if the broker has named none. */
const char *fake_pmu_of(unsigned cpu);

/*
 * Opens an event as @wanted says (its id is the fake's; of opened_nsec 0, it is now) and rings. At hook LSM
 * it is refused if its CPU, or one that its target may run on, is closed: 0, with the bell rung for that.
 */
uint64_t fake_open(ArbiterSession wanted);
/* As fake_open(), without a look at what is closed: an event that was there first. */
uint64_t fake_put(ArbiterSession wanted);
/* An event that was refused, for whatever reason. */
void fake_refuse(const ArbiterRefusal *refusal);
/* Events that the hook has not decided on are let in; nobody is told. */
void fake_decide(void);
void fake_close(uint64_t id);
/* Those that are open. */
size_t fake_count(void);
void fake_ring(void);
