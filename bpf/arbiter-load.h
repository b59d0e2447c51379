/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How the programs of spe-arbiter.bpf.c get into the kernel: the best hook that it has, found by trying.
 */

#include <linux/types.h>
#include <stdint.h>

#include "bpf/arbiter.h"
#include "bpf/explain.h"
#include "bpf/kept.h"
#include "bpf/spe-arbiter.h"

/* What is kept over a restart: the maps, then the links by which programs stay attached. */
typedef enum ArbiterPart {
        ARBITER_PART_SESSIONS,
        ARBITER_PART_PMUS,
        ARBITER_PART_OWNERS,
        ARBITER_PART_HOLDERS,
        ARBITER_PART_DOORBELL,
        ARBITER_PART_CONTROL,
        _ARBITER_PART_MAPS,
        /* In the order in which they are attached: no event is entered whose end would not be seen. */
        ARBITER_PART_FREEING = _ARBITER_PART_MAPS,
        ARBITER_PART_FREED,
        ARBITER_PART_ALLOCATED,
        ARBITER_PART_REFUSE,
        ARBITER_PART_RETURNING,
        _ARBITER_PART_MAX,
} ArbiterPart;

/* Room for one pass over the table: what goes behind its back and comes in front of it is met twice. */
#define ARBITER_READ_MAX (2U * ARBITER_SESSIONS)

struct spe_arbiter;
struct ring_buffer;

struct Arbiter {
        ArbiterHook hook;
        BpfExplanation explanation;

        struct spe_arbiter *programs;
        ArbiterControl *control; /* mapped; NULL without a hook */
        int fds[_ARBITER_PART_MAX];
        char names[_ARBITER_PART_MAX][KEPT_NAME_MAX];

        struct ring_buffer *doorbell;
        ArbiterRefusalFn refused; /* while arbiter_process() runs */
        void *userdata;
        unsigned n_taken;

        /* For one arbiter_read(): what the kernel writes. */
        uint64_t *keys;
        ArbiterEntry *entries;
};

/* Loads, attaches and proves the best hook up to @highest. Without one: 0 too, and hook is NONE. */
int arbiter_load(Arbiter *arbiter, ArbiterHook highest, NamedFd *kept, size_t n_kept);
void arbiter_unload(Arbiter *arbiter);
/* The descriptor of a map. */
int arbiter_map(const Arbiter *arbiter, ArbiterPart part);
/* Looks at each perf_event_open() that returns, also where the hook does without. */
int arbiter_watch_returns(Arbiter *arbiter);
void arbiter_unwatch_returns(Arbiter *arbiter);
/* Runs the iterator over the files of @process (0: all). */
int arbiter_run_iterator(Arbiter *arbiter, pid_t process);

/* Whether the kernel does what an LSM program says: it is had refuse one event. Or BPF_E_UNPROVED. */
int arbiter_prove_refusal(Arbiter *arbiter);
/* Shows the iterator a file of a perf event, to know others by, and by its process the broker. */
int arbiter_teach_iterator(Arbiter *arbiter);

/* An entry of the table, as others see it; but for its id. */
void arbiter_to_session(const ArbiterEntry *entry, ArbiterSession *ret_session);
