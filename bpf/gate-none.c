/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The gate of a build without BPF (SPE_BPF=OFF): is not there, and says why.
 */

#include <errno.h>
#include <stdlib.h>

#include "bpf/gate.h"

struct Gate {
        int fd; /* -1: there is never anything to tell */
};

int gate_new(_unused_ NamedFd *kept, _unused_ size_t n_kept, Gate **ret_gate) {
        Gate *gate = calloc(1, sizeof(*gate));

        if (!gate)
                return -ENOMEM;

        gate->fd = -1;
        *ret_gate = gate;
        return 0;
}

Gate *gate_free(Gate *gate) {
        free(gate);
        return NULL;
}

bool gate_is_attached(_unused_ const Gate *gate) {
        return false;
}

const char *gate_get_reason(_unused_ const Gate *gate) {
        return "This spe-broker was built without BPF.";
}

const char *gate_get_advice(_unused_ const Gate *gate) {
        return "Install a spe-broker that was built with SPE_BPF=ON.";
}

void gate_get_counters(_unused_ const Gate *gate, GateCounters *ret_counters) {
        *ret_counters = (GateCounters){0};
}

size_t gate_get_kept(_unused_ const Gate *gate, _unused_ NamedFd *kept, _unused_ size_t n) {
        return 0;
}

void gate_set_rule(_unused_ Gate *gate, _unused_ const GateRule *rule) {
}

int gate_allow(_unused_ Gate *gate, _unused_ const GateGrant *grant) {
        return 0;
}

int gate_disallow(_unused_ Gate *gate, _unused_ OwnerKey owner, _unused_ uint64_t pmu_type) {
        return 0;
}

int gate_disallow_others(_unused_ Gate *gate, _unused_ GateStaysFn stays, _unused_ void *userdata) {
        return 0;
}

int gate_get_fd(const Gate *gate) {
        return gate->fd;
}

int gate_process(_unused_ Gate *gate, _unused_ GateRefusalFn refused, _unused_ void *userdata) {
        return 0;
}
