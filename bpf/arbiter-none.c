/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The arbiter of a build without BPF (SPE_BPF=OFF): sees nothing, refuses nothing, and says why. Leases can
 * still be protected by bpf/reserve.h.
 */

#include <errno.h>
#include <stdlib.h>

#include "bpf/arbiter.h"

struct Arbiter {
        uint64_t generation; /* stays 0: the table is empty */
};

int arbiter_new(_unused_ ArbiterHook highest, _unused_ NamedFd *kept, _unused_ size_t n_kept,
                Arbiter **ret_arbiter) {
        Arbiter *arbiter = calloc(1, sizeof(*arbiter));

        if (!arbiter)
                return -ENOMEM;

        *ret_arbiter = arbiter;
        return 0;
}

Arbiter *arbiter_free(Arbiter *arbiter) {
        free(arbiter);
        return NULL;
}

ArbiterHook arbiter_get_hook(_unused_ const Arbiter *arbiter) {
        return ARBITER_HOOK_NONE;
}

const char *arbiter_get_reason(_unused_ const Arbiter *arbiter) {
        return "this spe-broker was built without BPF";
}

const char *arbiter_get_advice(_unused_ const Arbiter *arbiter) {
        return "Install a spe-broker that was built with SPE_BPF=ON.";
}

void arbiter_get_counters(_unused_ const Arbiter *arbiter, ArbiterCounters *ret_counters) {
        *ret_counters = (ArbiterCounters){0};
}

size_t arbiter_get_kept(_unused_ const Arbiter *arbiter, _unused_ NamedFd *kept, _unused_ size_t n) {
        return 0;
}

int arbiter_get_fd(_unused_ const Arbiter *arbiter) {
        return -1;
}

int arbiter_process(_unused_ Arbiter *arbiter, _unused_ ArbiterRefusalFn refused, _unused_ void *userdata) {
        return 0;
}

int arbiter_set_pmus(_unused_ Arbiter *arbiter, _unused_ const ArbiterPmu *pmus, _unused_ size_t n_pmus) {
        return 0;
}

void arbiter_close(_unused_ Arbiter *arbiter, _unused_ const ArbiterClosed *closed) {
}

int arbiter_close_owner(_unused_ Arbiter *arbiter, _unused_ OwnerKey owner, _unused_ const CpuSet *cpus) {
        return 0;
}

int arbiter_open_owners(_unused_ Arbiter *arbiter, _unused_ ArbiterStaysFn stays, _unused_ void *userdata) {
        return 0;
}

uint64_t arbiter_get_generation(const Arbiter *arbiter) {
        return arbiter->generation;
}

int arbiter_read(_unused_ const Arbiter *arbiter, ArbiterSession **ret_sessions, size_t *ret_n) {
        *ret_sessions = NULL;
        *ret_n = 0;
        return 0;
}

int arbiter_iterate(_unused_ Arbiter *arbiter, _unused_ pid_t process) {
        return 0;
}

int arbiter_read_holders(_unused_ const Arbiter *arbiter, pid_t **ret_processes, size_t *ret_n) {
        *ret_processes = NULL;
        *ret_n = 0;
        return 0;
}

void arbiter_forget_holder(_unused_ Arbiter *arbiter, _unused_ pid_t process) {
}

void arbiter_forget(_unused_ Arbiter *arbiter, _unused_ uint64_t id) {
}
