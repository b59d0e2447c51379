/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The broker's side of the table and the closed sets. Both lie in the kernel; nothing is remembered here.
 *
 * No window (the broker's half of the argument; the hook's is in spe-arbiter.bpf.c): arbiter_close() stores
 * the sets, plainly, into memory that it shares with the programs, and then has a sequentially consistent
 * fence (`dmb ish` on arm64, `mfence` or a locked instruction on x86). What is loaded after it, the
 * generation by arbiter_get_generation() and the table, under its buckets' locks, by arbiter_read(), cannot
 * be older than what a hook has stored before its own barrier if that hook did not see the sets.
 *
 */

#include "bpf/arbiter.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bpf/arbiter-load.h"
#include "bpf/shared.h"

static_assert(sizeof(ArbiterWords) == sizeof(CpuSet), "a set of CPUs is the same on both sides");
static_assert(ARBITER_NAME_BYTES == ARBITER_PMU_NAME, "so is a PMU's name");
static_assert(ARBITER_COMM_BYTES == ARBITER_COMMAND_MAX, "and a command's");

/* A CPU number may be beyond what a CpuSet has; the kernel wants room for all it knows. */
static void read_affinity(pid_t thread, CpuSet *ret_set) {
        uint64_t words[4 * ARBITER_SET_WORDS] = {0};

        *ret_set = CPUSET_NULL;
        if (syscall(SYS_sched_getaffinity, thread, sizeof(words), words) > 0)
                memcpy(ret_set->words, words, sizeof(ret_set->words));
}

static int take_notice(void *userdata, void *data, size_t size) {
        Arbiter *arbiter = userdata;
        const ArbiterNotice *notice = data;
        ArbiterRefusal refusal = {0};

        if (size < sizeof(*notice) || !arbiter->refused)
                return shared_taken(&arbiter->n_taken); /* the bell */

        refusal.cause = (ArbiterCause)notice->cause;
        arbiter_to_session(&notice->entry, &refusal.session);
        refusal.session.entering = false;
        if (refusal.session.target_thread != 0)
                read_affinity(refusal.session.target_thread, &refusal.affinity);
        arbiter->refused(&refusal, arbiter->userdata);
        return shared_taken(&arbiter->n_taken);
}

/*
 * What was open before the programs were attached, the iterator finds by its descriptor. An open that was
 * past the hook's place when the programs came, and has no descriptor yet when the iterator looks, is met as
 * it returns.
 */
static int find_open(Arbiter *arbiter) {
        int r;

        (void)arbiter_watch_returns(arbiter); /* without it, the next look at all files finds them */
        /* Waits until each CPU has been scheduled or idle, so that what ran in the kernel past the hook's
         * place, without a program, has its descriptor, or sleeps and is met as it returns. Refused with
         * nohz_full; then the returns alone have to do. Every order is in tests/models/start.pml. */
        (void)syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
        r = arbiter_iterate(arbiter, 0);
        arbiter_unwatch_returns(arbiter);
        return r;
}

static int start(Arbiter *arbiter) {
        /* Who had it before may have heard the bell, and ended before it said so. */
        shared_store(&arbiter->control->rung, 0);
        arbiter->keys = calloc(ARBITER_READ_MAX, sizeof(*arbiter->keys));
        arbiter->entries = calloc(ARBITER_READ_MAX, sizeof(*arbiter->entries));
        if (!arbiter->keys || !arbiter->entries)
                return -ENOMEM;
        arbiter->doorbell =
                ring_buffer__new(arbiter_map(arbiter, ARBITER_PART_DOORBELL), take_notice, arbiter,
                                 /* opts= */ NULL);
        if (!arbiter->doorbell)
                return -errno;

        return find_open(arbiter);
}

int arbiter_new(ArbiterHook highest, NamedFd *kept, size_t n_kept, Arbiter **ret_arbiter) {
        _cleanup_(arbiter_freep) Arbiter *arbiter = calloc(1, sizeof(*arbiter));
        int r;

        if (!arbiter)
                return -ENOMEM;

        for (size_t i = 0; i < ELEMENTS_OF(arbiter->fds); i++)
                arbiter->fds[i] = -1;
        r = arbiter_load(arbiter, highest, kept, n_kept);
        if (r < 0)
                return r;
        if (arbiter->hook != ARBITER_HOOK_NONE) {
                r = start(arbiter);
                if (r < 0)
                        return r;
        }

        *ret_arbiter = steal_ptr(arbiter);
        return 0;
}

Arbiter *arbiter_free(Arbiter *arbiter) {
        if (!arbiter)
                return NULL;

        ring_buffer__free(arbiter->doorbell);
        arbiter_unload(arbiter);
        free(arbiter->keys);
        free(arbiter->entries);
        free(arbiter);
        return NULL;
}

ArbiterHook arbiter_get_hook(const Arbiter *arbiter) {
        return arbiter->hook;
}

const char *arbiter_get_reason(const Arbiter *arbiter) {
        return arbiter->explanation.reason[0] ? arbiter->explanation.reason : NULL;
}

const char *arbiter_get_advice(const Arbiter *arbiter) {
        return arbiter->explanation.advice;
}

void arbiter_get_counters(const Arbiter *arbiter, ArbiterCounters *ret_counters) {
        const ArbiterControl *control = arbiter->control;

        *ret_counters = (ArbiterCounters){0};
        if (!control)
                return;

        *ret_counters = (ArbiterCounters){
                .opened = shared_load(&control->opened),
                .closed = shared_load(&control->closed),
                .refused = shared_load(&control->refused),
                .full = shared_load(&control->full),
                .drifted = shared_load(&control->drifted),
                .lost = shared_load(&control->lost),
        };
}

size_t arbiter_get_kept(const Arbiter *arbiter, NamedFd *kept, size_t n) {
        size_t n_kept = 0;

        if (arbiter->hook == ARBITER_HOOK_NONE)
                return 0;

        for (ArbiterPart part = 0; part < _ARBITER_PART_MAX; part++) {
                int fd = part < _ARBITER_PART_MAPS ? arbiter_map(arbiter, part) : arbiter->fds[part];

                if (fd < 0)
                        continue;
                if (n_kept < n)
                        kept[n_kept] = (NamedFd){.name = arbiter->names[part], .fd = fd};
                n_kept++;
        }
        return n_kept;
}

int arbiter_get_fd(const Arbiter *arbiter) {
        return arbiter->doorbell ? ring_buffer__epoll_fd(arbiter->doorbell) : -1;
}

int arbiter_process(Arbiter *arbiter, ArbiterRefusalFn refused, void *userdata) {
        int r;

        if (!arbiter->doorbell)
                return 0;

        arbiter->refused = refused;
        arbiter->userdata = userdata;
        r = shared_take(arbiter->doorbell, &arbiter->n_taken);

        /* Before the table is read: who changes it after that rings again. But after bells were taken out of
         * the ring: one that came between would be, too, and `rung` stay set (tests/models/doorbell.pml).
         * What is left in the ring keeps it readable, whether there is a bell in it or not. */
        shared_store(&arbiter->control->rung, 0);
        atomic_thread_fence(memory_order_seq_cst);
        return r;
}

static bool is_spu_name(const char *name) {
        return strncmp(name, ARBITER_SPU_PREFIX, strlen(ARBITER_SPU_PREFIX)) == 0;
}

static bool is_named(const ArbiterPmu *pmus, size_t n_pmus, const char *name) {
        for (size_t i = 0; i < n_pmus; i++)
                if (strncmp(pmus[i].name, name, ARBITER_PMU_NAME) == 0)
                        return true;

        return false;
}

/* Takes out the PMUs that are not among @pmus. */
static int remove_pmus(int map, const ArbiterPmu *pmus, size_t n_pmus) {
        char name[ARBITER_PMU_NAME], next[ARBITER_PMU_NAME];
        int r = bpf_map_get_next_key(map, NULL, next);

        while (r == 0) {
                memcpy(name, next, sizeof(name));
                r = bpf_map_get_next_key(map, name, next);
                if (!is_named(pmus, n_pmus, name))
                        (void)bpf_map_delete_elem(map, name);
        }
        return r == -ENOENT ? 0 : r;
}

int arbiter_set_pmus(Arbiter *arbiter, const ArbiterPmu *pmus, size_t n_pmus) {
        bool look = false;
        uint64_t named = 0;
        int r, map;

        if (arbiter->hook == ARBITER_HOOK_NONE)
                return 0;

        map = arbiter_map(arbiter, ARBITER_PART_PMUS);
        for (size_t i = 0; i < n_pmus; i++) {
                char name[ARBITER_PMU_NAME] = {0};
                ArbiterWords old;

                memcpy(name, pmus[i].name, strnlen(pmus[i].name, sizeof(name) - 1));
                if (!is_spu_name(name)) {
                        named++;
                        look = look || bpf_map_lookup_elem(map, name, &old) < 0;
                }
                r = bpf_map_update_elem(map, name, &pmus[i].cpus, BPF_ANY);
                if (r < 0)
                        return r;
        }
        r = remove_pmus(map, pmus, n_pmus);
        if (r < 0)
                return r;

        shared_store(&arbiter->control->named, named);
        return look ? arbiter_iterate(arbiter, 0) : 0;
}

void arbiter_close(Arbiter *arbiter, const ArbiterClosed *closed) {
        ArbiterControl *control = arbiter->control;

        if (control)
                for (size_t i = 0; i < ARBITER_SET_WORDS; i++) {
                        __atomic_store_n(&control->cpu_wide.words[i], closed->cpu_wide.words[i],
                                         __ATOMIC_RELAXED);
                        __atomic_store_n(&control->task_bound.words[i], closed->task_bound.words[i],
                                         __ATOMIC_RELAXED);
                }
        atomic_thread_fence(memory_order_seq_cst);
}

int arbiter_close_owner(Arbiter *arbiter, OwnerKey owner, const CpuSet *cpus) {
        __u64 key = owner;
        int r, map;

        if (arbiter->hook == ARBITER_HOOK_NONE)
                return 0;

        map = arbiter_map(arbiter, ARBITER_PART_OWNERS);
        if (cpuset_is_empty(cpus)) {
                r = bpf_map_delete_elem(map, &key);
                r = r == -ENOENT ? 0 : r;
        } else
                r = bpf_map_update_elem(map, &key, cpus, BPF_ANY);
        atomic_thread_fence(memory_order_seq_cst);
        return r;
}

int arbiter_open_owners(Arbiter *arbiter, ArbiterStaysFn stays, void *userdata) {
        __u64 key, last = 0;
        bool behind = false;
        int r, map;

        if (arbiter->hook == ARBITER_HOOK_NONE)
                return 0;

        /* Behind one that stays, never behind one that has been taken out: that would begin anew. */
        map = arbiter_map(arbiter, ARBITER_PART_OWNERS);
        while ((r = bpf_map_get_next_key(map, behind ? &last : NULL, &key)) == 0) {
                if (stays(key, userdata)) {
                        last = key;
                        behind = true;
                        continue;
                }
                r = bpf_map_delete_elem(map, &key);
                if (r < 0)
                        return r;
        }
        return r == -ENOENT ? 0 : r;
}
