/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A small host to ask decisions of, for the tests of the decision's rules. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "policy/charge.h"
#include "policy/decide.h"
#include "util/cleanup.h"

#define KIB(n)    ((uint64_t)(n) << 10)
#define MIB(n)    ((uint64_t)(n) << 20)
#define GIB(n)    ((uint64_t)(n) << 30)
#define HOST_PAGE UINT64_C(4096)
#define NEVER     UINT64_MAX

/* The host of most tests: arm_spe_0 on 0-3, arm_spe_1 on 4-11. */
typedef struct Host {
        Model model;
        Instance *zero, *one;
        LedgerCharge charges[8];
        size_t n_charges;
        Decision decision;
} Host;

static Host host;

_unused_ static CpuSet cpus(const char *text) {
        CpuSet set;

        assert_int_equal(cpuset_parse(text, strlen(text), &set), 0);
        return set;
}

_unused_ static void assert_cpus(const CpuSet *set, const char *text) {
        char buffer[CPUSET_TEXT_MAX];

        cpuset_format(set, buffer, sizeof(buffer));
        assert_string_equal(buffer, text);
}

_unused_ static Instance *add_instance(unsigned index, const char *text) {
        char name[INSTANCE_NAME_MAX + 1];
        Instance *instance = NULL;

        snprintf(name, sizeof(name), "arm_spe_%u", index);
        assert_int_equal(instance_new(name, index, &instance), 0);
        instance->state = INSTANCE_STATE_READY;
        instance->cpus = instance->effective = cpus(text);
        assert_int_equal(instance_table_add(&host.model.instances, instance), 0);
        return instance;
}

_unused_ static int set_up_empty(_unused_ void **state) {
        memset(&host, 0, sizeof(host));
        host.model.assignments = ASSIGNMENT_TABLE_NULL;
        host.model.limits = (Limits){
                .default_buffer_size = MIB(4),
                .max_buffer_size = MIB(64),
                .max_memory_per_vm = GIB(2),
                .max_memory_per_user = GIB(3),
                .max_memory = GIB(4),
                .max_leases = 6,
                .max_leases_per_user = 4,
                .host_page_size = HOST_PAGE,
        };
        return 0;
}

_unused_ static int set_up(void **state) {
        set_up_empty(state);
        host.zero = add_instance(0, "0-3");
        host.one = add_instance(1, "4-11");
        return 0;
}

_unused_ static int tear_down(_unused_ void **state) {
        for (size_t i = 0; i < host.n_charges; i++)
                ledger_refund(&host.charges[i]);
        ledger_deinit(&host.model.ledger);
        assignment_table_deinit(&host.model.assignments);
        instance_table_deinit(&host.model.instances);
        return 0;
}

_unused_ static PolicyRequest request(const char *text) {
        PolicyRequest r = {
                .uid = 1000,
                .vm = "web",
                .vm_origin = VM_ORIGIN_UNIT,
                .vcpus = 2,
                .buffer_size = MIB(4),
                .mode = LEASE_MODE_GUEST,
        };

        if (text) {
                r.has_cpus = true;
                r.cpus = cpus(text);
        }
        return r;
}

_unused_ static void charge(uid_t uid, const char *vm, Instance *instance, uint64_t bytes) {
        assert_true(host.n_charges < ELEMENTS_OF(host.charges));
        assert_int_equal(
                ledger_charge(&host.model.ledger, uid, vm, instance, bytes, &host.charges[host.n_charges++]),
                0);
}

_unused_ static void occupy(LeaseMode mode, const char *text) {
        CpuSet set = cpus(text);

        occupancy_add(&host.model.occupancy, mode, &set);
}

_unused_ static void assign(const char *text, AssignmentOwner owner, const char *vm) {
        CpuSet set = cpus(text);

        assert_int_equal(assignment_table_set(&host.model.assignments, &set, owner, vm,
                                              ASSIGNMENT_ORIGIN_PERSISTENT, NEVER),
                         0);
}

_unused_ static const Decision *ask_after(const PolicyRequest *r, const Claims *ahead) {
        memset(&host.decision, 0xa5, sizeof(host.decision));
        decide(&host.model, r, ahead, true, &host.decision);
        return &host.decision;
}

_unused_ static const Decision *ask(const PolicyRequest *r) {
        return ask_after(r, NULL);
}

_unused_ static void assert_offer(const Offer *offer, const Instance *instance, const char *text,
                                  uint64_t size) {
        assert_ptr_equal(offer->instance, instance);
        assert_cpus(&offer->cpus, text);
        assert_int_equal(offer->buffer_size, size);
}

_unused_ static void assert_granted(const PolicyRequest *r, const Instance *instance, const char *text) {
        const Decision *d = ask(r);

        assert_true(d->granted);
        assert_true(d->has_offer);
        assert_int_equal(d->n_refusals, 0);
        assert_false(d->has_counter_offer);
        assert_offer(&d->offer, instance, text, r->buffer_size);
        assert_int_equal(d->offer.mode, r->mode);
        assert_int_equal(d->offer.charge, charge_lease(r->vcpus, r->buffer_size, HOST_PAGE));
        assert_null(d->offer.limited_by);
}

/* Refused for this one reason. */
_unused_ static const RefusalFacts *assert_refused(const PolicyRequest *r, RefusalKind kind) {
        const Decision *d = ask(r);

        assert_false(d->granted);
        assert_int_equal(d->n_refusals, 1);
        assert_int_equal(d->refusals[0].kind, kind);
        assert_int_equal(d->has_offer, kind == REFUSAL_BUSY);
        return &d->refusals[0];
}

_unused_ static void assert_counter(const Instance *instance, const char *text, uint64_t size,
                                    LeaseMode mode) {
        assert_true(host.decision.has_counter_offer);
        assert_offer(&host.decision.counter_offer, instance, text, size);
        assert_int_equal(host.decision.counter_offer.mode, mode);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
