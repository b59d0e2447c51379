/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One kernel per test program. */

#include "tests/unit/fake-gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

FakeGate fake_gate = {.fd = -1};

struct Gate {
        FakeGate *kernel;
};

static struct Gate the_gate;

void fake_gate_reset(const char *reason) {
        assert_false(fake_gate.there);
        closep(&fake_gate.fd);
        fake_gate = (FakeGate){.reason = reason, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
        assert_true(fake_gate.fd >= 0);
}

static GateGrant *find(OwnerKey owner, uint64_t pmu_type) {
        for (size_t i = 0; i < fake_gate.n_grants; i++)
                if (fake_gate.grants[i].owner == owner && fake_gate.grants[i].pmu_type == pmu_type)
                        return &fake_gate.grants[i];
        return NULL;
}

const GateGrant *fake_gate_find(OwnerKey owner, uint64_t pmu_type) {
        return find(owner, pmu_type);
}

static void changed(void) {
        fake_gate.n_changes++;
        if (fake_gate.changed_fn)
                fake_gate.changed_fn();
}

void fake_gate_refuse(const GateRefusal *refusal) {
        assert_true(fake_gate.n_refusals < FAKE_GRANTS_MAX);
        fake_gate.refusals[fake_gate.n_refusals++] = *refusal;
        if (refusal->refused)
                fake_gate.counters.refused++;
        else
                fake_gate.counters.reported++;
        assert_int_equal(eventfd_write(fake_gate.fd, 1), 0);
}

int gate_new(_unused_ NamedFd *kept, _unused_ size_t n_kept, Gate **ret_gate) {
        if (fake_gate.new_error != 0)
                return fake_gate.new_error;

        assert_false(fake_gate.there);
        fake_gate.there = true;
        fake_gate.n_made++;
        the_gate.kernel = &fake_gate;
        *ret_gate = &the_gate;
        return 0;
}

Gate *gate_free(Gate *gate) {
        if (gate) {
                assert_true(fake_gate.there);
                fake_gate.there = false;
        }
        return NULL;
}

bool gate_is_attached(const Gate *gate) {
        return !gate->kernel->reason;
}

const char *gate_get_reason(const Gate *gate) {
        return gate->kernel->reason;
}

const char *gate_get_advice(const Gate *gate) {
        return gate->kernel->advice;
}

void gate_get_counters(const Gate *gate, GateCounters *ret_counters) {
        *ret_counters = gate->kernel->counters;
}

size_t gate_get_kept(_unused_ const Gate *gate, _unused_ NamedFd *kept, _unused_ size_t n) {
        return 0;
}

void gate_set_rule(Gate *gate, const GateRule *rule) {
        gate->kernel->rule = *rule;
}

int gate_allow(Gate *gate, const GateGrant *grant) {
        GateGrant *known = find(grant->owner, grant->pmu_type);

        if (gate->kernel->allow_error != 0)
                return gate->kernel->allow_error;

        if (!known) {
                assert_true(gate->kernel->n_grants < FAKE_GRANTS_MAX);
                known = &gate->kernel->grants[gate->kernel->n_grants++];
        }
        *known = *grant;
        changed();
        return 0;
}

int gate_disallow(Gate *gate, OwnerKey owner, uint64_t pmu_type) {
        GateGrant *known = find(owner, pmu_type);

        if (!known)
                return 0;

        *known = gate->kernel->grants[--gate->kernel->n_grants];
        changed();
        return 0;
}

int gate_disallow_others(Gate *gate, GateStaysFn stays, void *userdata) {
        for (size_t i = 0; i < gate->kernel->n_grants;) {
                const GateGrant *grant = &gate->kernel->grants[i];

                if (stays(grant->owner, grant->pmu_type, userdata))
                        i++;
                else
                        (void)gate_disallow(gate, grant->owner, grant->pmu_type);
        }
        return 0;
}

int gate_get_fd(const Gate *gate) {
        return gate->kernel->reason ? -1 : gate->kernel->fd;
}

int gate_process(Gate *gate, GateRefusalFn refused, void *userdata) {
        eventfd_t n;

        (void)eventfd_read(gate->kernel->fd, &n);
        for (size_t i = 0; i < gate->kernel->n_refusals; i++)
                refused(&gate->kernel->refusals[i], userdata);
        gate->kernel->n_refusals = 0;
        return 0;
}
