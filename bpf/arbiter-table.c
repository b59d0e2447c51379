/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The kernel's table of sessions as it is read, and brought to what the iterator over open files finds.
 *
 * Its entries are whole when they appear, as the kernel's hash table publishes copies; only `open` and `seen`
 * change later, a word each.
 */

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bpf/arbiter-load.h"
#include "bpf/shared.h"

#define NSEC_PER_SEC UINT64_C(1000000000)

static uint64_t now_nsec(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_BOOTTIME, &now);
        return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

void arbiter_to_session(const ArbiterEntry *entry, ArbiterSession *ret_session) {
        *ret_session = (ArbiterSession){
                .cpu = entry->cpu,
                .target_thread = (pid_t)entry->target_thread,
                .target_process = (pid_t)entry->target_process,
                .pid = (pid_t)entry->process,
                .uid = entry->uid,
                .opened_nsec = entry->opened_nsec,
                .entering = entry->open == 0,
        };
        memcpy(ret_session->pmu, entry->pmu, sizeof(ret_session->pmu) - 1);
        memcpy(ret_session->command, entry->command, sizeof(ret_session->command) - 1);
}

uint64_t arbiter_get_generation(const Arbiter *arbiter) {
        return arbiter->control ? shared_load(&arbiter->control->generation) : 0;
}

/* The whole table, bucket by bucket: what is there all the while is found, whatever comes and goes. */
static int copy_table(const Arbiter *arbiter, size_t *ret_n) {
        int map = arbiter_map(arbiter, ARBITER_PART_SESSIONS);
        __u32 batch, n = 0;
        bool begun = false;

        for (;;) {
                __u32 count = ARBITER_READ_MAX - n;
                int r = bpf_map_lookup_batch(map, begun ? &batch : NULL, &batch, arbiter->keys + n,
                                             arbiter->entries + n, &count, /* opts= */ NULL);

                if (count == 0 && r == 0)
                        return -ENOBUFS; /* less than all is nothing to go by */
                if (r < 0 && r != -ENOENT)
                        return r;
                n += count;
                if (r == -ENOENT)
                        break;
                begun = true;
        }

        *ret_n = n;
        return 0;
}

static bool is_unseen(const Arbiter *arbiter, const ArbiterEntry *entry) {
        return entry->seen < shared_load(&arbiter->control->iteration) &&
               entry->opened_nsec < shared_load(&arbiter->control->iterated_nsec);
}

int arbiter_read(const Arbiter *arbiter, ArbiterSession **ret_sessions, size_t *ret_n) {
        ArbiterSession *sessions;
        size_t n = 0;
        int r;

        if (arbiter->hook != ARBITER_HOOK_NONE) {
                r = copy_table(arbiter, &n);
                if (r < 0)
                        return r;
        }
        if (n == 0) {
                *ret_sessions = NULL;
                *ret_n = 0;
                return 0;
        }

        sessions = calloc(n, sizeof(*sessions));
        if (!sessions)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                const ArbiterEntry *entry = &arbiter->entries[i];

                arbiter_to_session(entry, &sessions[i]);
                sessions[i].id = arbiter->keys[i];
                sessions[i].unseen = is_unseen(arbiter, entry);
        }

        *ret_sessions = sessions;
        *ret_n = n;
        return 0;
}

int arbiter_iterate(Arbiter *arbiter, pid_t process) {
        if (arbiter->hook == ARBITER_HOOK_NONE)
                return 0;

        if (process == 0) {
                /* What opens from here on may be missed without being gone. */
                shared_store(&arbiter->control->iterated_nsec, now_nsec());
                __atomic_fetch_add(&arbiter->control->iteration, 1, __ATOMIC_SEQ_CST);
        }
        return arbiter_run_iterator(arbiter, process);
}

int arbiter_read_holders(const Arbiter *arbiter, pid_t **ret_processes, size_t *ret_n) {
        _cleanup_(freep) pid_t *processes = NULL;
        __u32 key, *last = NULL;
        size_t n = 0;
        int map;

        if (arbiter->hook != ARBITER_HOOK_TRACEPOINTS) {
                *ret_processes = NULL;
                *ret_n = 0;
                return 0;
        }

        processes = calloc(ARBITER_HOLDERS, sizeof(*processes));
        if (!processes)
                return -ENOMEM;

        /* Bounded, as one that goes meanwhile has the kernel begin anew. */
        map = arbiter_map(arbiter, ARBITER_PART_HOLDERS);
        while (n < ARBITER_HOLDERS && bpf_map_get_next_key(map, last, &key) == 0) {
                processes[n++] = (pid_t)key;
                last = &key;
        }

        *ret_processes = steal_ptr(processes);
        *ret_n = n;
        return 0;
}

void arbiter_forget_holder(Arbiter *arbiter, pid_t process) {
        __u32 key = (__u32)process;

        if (arbiter->hook == ARBITER_HOOK_TRACEPOINTS)
                (void)bpf_map_delete_elem(arbiter_map(arbiter, ARBITER_PART_HOLDERS), &key);
}

void arbiter_forget(Arbiter *arbiter, uint64_t id) {
        ArbiterEntry entry;
        int map;

        if (arbiter->hook == ARBITER_HOOK_NONE)
                return;
        map = arbiter_map(arbiter, ARBITER_PART_SESSIONS);
        /* The address may be another event's by now. */
        if (bpf_map_lookup_elem(map, &id, &entry) < 0 || !is_unseen(arbiter, &entry) ||
            bpf_map_delete_elem(map, &id) < 0)
                return;

        __atomic_fetch_add(&arbiter->control->drifted, 1, __ATOMIC_SEQ_CST);
        __atomic_fetch_add(&arbiter->control->generation, 1, __ATOMIC_SEQ_CST);
}
