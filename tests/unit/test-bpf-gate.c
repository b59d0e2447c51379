/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The gate on the running kernel, as far as that goes without VCPUs: that it is seen to refuse, what becomes
 * of what is handed over, and that a kernel without such programs is said to be one. What it does to VCPUs is
 * tested where there are some: tests/vm/guest/test_gate.py.
 */

#include <errno.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "bpf/gate.h"
#include "bpf/probe.h"
#include "util/cleanup.h"

#define KEPT_MAX 16U

static const GateRule refuse_all = {.action = GATE_ACTION_REFUSE,
                                    .group = 3,
                                    .attribute_spu = 2,
                                    .knows_size = true,
                                    .attribute_size = 3};

static Gate *make(NamedFd *kept, size_t n) {
        Gate *gate = NULL;

        assert_int_equal(gate_new(kept, n, &gate), 0);
        assert_non_null(gate);
        return gate;
}

static Gate *make_attached(void) {
        Gate *gate = make(NULL, 0);

        if (!gate_is_attached(gate)) {
                gate_free(gate);
                skip();
        }
        return gate;
}

/* What the command comes to on a file that is no VCPU. */
static int set_attribute(unsigned long argument) {
        _cleanup_(closep) int fd = eventfd(0, EFD_CLOEXEC);

        assert_true(fd >= 0);
        return ioctl(fd, KVM_SET_DEVICE_ATTR, argument) < 0 ? errno : 0;
}

static void test_reason(void **state) {
        _cleanup_(gate_freep) Gate *gate = make(NULL, 0);
        NamedFd kept[KEPT_MAX];

        (void)state;
        if (gate_is_attached(gate)) {
                assert_null(gate_get_reason(gate));
                assert_null(gate_get_advice(gate));
                assert_true(gate_get_fd(gate) >= 0);
                return;
        }

        print_message("[ not here ] %s\n", gate_get_reason(gate));
        assert_true(strlen(gate_get_reason(gate)) > 0);
        assert_int_equal(gate_get_fd(gate), -1);
        assert_int_equal(gate_get_kept(gate, kept, KEPT_MAX), 0);
}

static bool none_stays(OwnerKey owner, uint64_t pmu_type, void *userdata) {
        (void)owner;
        (void)pmu_type;
        ++*(unsigned *)userdata;
        return false;
}

static bool all_stay(OwnerKey owner, uint64_t pmu_type, void *userdata) {
        unsigned *n = userdata;

        assert_int_equal(owner, getpid());
        assert_true(pmu_type == GATE_SPU_ANY || pmu_type == 9);
        ++*n;
        return true;
}

static void allow(Gate *gate, uint64_t pmu_type) {
        const GateGrant grant = {
                .owner = (OwnerKey)getpid(), .start_ticks = 1, .pmu_type = pmu_type, .buffer_size = 4096};

        assert_int_equal(gate_allow(gate, &grant), 0);
}

static unsigned count(Gate *gate) {
        unsigned n = 0;

        assert_int_equal(gate_disallow_others(gate, all_stay, &n), 0);
        return n;
}

/* Whether it is attached or not. */
static void test_table(void **state) {
        _cleanup_(gate_freep) Gate *gate = make(NULL, 0);
        unsigned n = 0, all = gate_is_attached(gate) ? 2 : 0;

        (void)state;
        allow(gate, GATE_SPU_ANY);
        allow(gate, 9);
        allow(gate, 9);
        assert_int_equal(count(gate), all);
        assert_int_equal(gate_disallow(gate, getpid(), 9), 0);
        assert_int_equal(gate_disallow(gate, getpid(), 9), 0);
        assert_int_equal(count(gate), all / 2);
        allow(gate, 9);
        assert_int_equal(gate_disallow_others(gate, none_stays, &n), 0);
        assert_int_equal(n, all);
        assert_int_equal(count(gate), 0);
}

static void no_refusal(const GateRefusal *refusal, void *userdata) {
        (void)refusal;
        (void)userdata;
        fail_msg("nothing was refused");
}

static void test_other_files(void **state) {
        _cleanup_(gate_freep) Gate *gate = make_attached();
        struct kvm_device_attr attribute = {.group = refuse_all.group};
        GateCounters counters;

        (void)state;
        gate_set_rule(gate, &refuse_all);
        assert_int_equal(set_attribute(0), ENOTTY);
        assert_int_equal(set_attribute(1), ENOTTY);
        assert_int_equal(set_attribute((unsigned long)&attribute), ENOTTY);
        assert_int_equal(gate_process(gate, no_refusal, NULL), 0);
        gate_get_counters(gate, &counters);
        assert_int_equal(counters.refused + counters.reported + counters.lost, 0);
}

/* Another gate goes on where the first one was, whose end does not end it. */
static void test_kept(void **state) {
        Gate *first = make_attached(), *second;
        char names[KEPT_MAX][64];
        NamedFd kept[KEPT_MAX];
        size_t n;

        (void)state;
        n = gate_get_kept(first, kept, KEPT_MAX);
        assert_true(n > 0 && n <= KEPT_MAX);
        for (size_t i = 0; i < n; i++) {
                (void)snprintf(names[i], sizeof(names[i]), "%s", kept[i].name);
                kept[i] = (NamedFd){.name = names[i], .fd = dup(kept[i].fd)};
                assert_true(kept[i].fd >= 0);
        }
        allow(first, 9);
        gate_free(first);

        second = make(kept, n);
        assert_true(gate_is_attached(second));
        for (size_t i = 0; i < n; i++)
                assert_int_equal(kept[i].fd, -1);
        assert_int_equal(count(second), 1);
        gate_free(second);
}

/* Names that are right, on what is not: nothing of it is used. */
static void test_false_names(void **state) {
        Gate *first = make_attached(), *second;
        char names[KEPT_MAX][64];
        NamedFd kept[KEPT_MAX];
        size_t n;

        (void)state;
        n = gate_get_kept(first, kept, KEPT_MAX);
        for (size_t i = 0; i < n; i++) {
                (void)snprintf(names[i], sizeof(names[i]), "%s", kept[i].name);
                /* One is another's. */
                kept[i] = (NamedFd){.name = names[i], .fd = dup(kept[i == 0 ? n - 1 : i].fd)};
        }
        allow(first, 9);
        gate_free(first);

        second = make(kept, n);
        assert_true(gate_is_attached(second));
        assert_int_equal(count(second), 0);
        gate_free(second);
}

static void test_unknown_names(void **state) {
        NamedFd kept[] = {{.name = "gate-0-permits", .fd = eventfd(0, EFD_CLOEXEC)}};
        Gate *gate = make(kept, 1);

        (void)state;
        assert_true(kept[0].fd >= 0);
        gate_free(gate);
        close(kept[0].fd);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reason),      cmocka_unit_test(test_table),
                cmocka_unit_test(test_other_files), cmocka_unit_test(test_kept),
                cmocka_unit_test(test_false_names), cmocka_unit_test(test_unknown_names),
        };

        bpf_silence();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
