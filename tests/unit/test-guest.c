/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * When KVM is asked, and what becomes of the answer: a whole broker in this process, on a simulated host with
 * the model of KVM (tests/daemon/kvm-model.c), which counts the VMs that were made.
 */

#include <fcntl.h>
#include <sys/stat.h>

#include "broker/settle.h"
#include "tests/unit/broker-fixture.h"

#define FACTS   "/run/spe-broker/simulated/"
#define KVM     FACTS "dev/kvm"
#define ABLE    "capability 300 1\nfeature 9\ngroup 3\nirq 0\nspu 2\nmax 3\ninit 1\n"
#define NUMBERS "[KVM]\nCapability=300\nFeature=9\nGroup=3\nAttributeIrq=0\nAttributeSpu=2\nAttributeInit=1\n"
#define CONF    "/etc/spe-broker/spe-broker.conf"
#define NO_HOST "the host looked at is not this machine"
#define NO_TYPE "KVM is not asked before it is ready"
#define GUESSED "with guesses"

static void write_file(const Broker *broker, const char *path, const char *mode, const char *text) {
        char name[256], *slash;
        FILE *f;

        (void)snprintf(name, sizeof(name), "%s%s", broker->path, path);
        slash = strrchr(name, '/');
        *slash = '\0';
        assert_int_equal(fs_mkdir_all(AT_FDCWD, name, 0755), 0);
        *slash = '/';
        f = fopen(name, mode);
        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

static void remove_file(const Broker *broker, const char *path) {
        char name[256];

        (void)snprintf(name, sizeof(name), "%s%s", broker->path, path);
        assert_int_equal(unlink(name), 0);
}

static unsigned vms_made(const Broker *broker) {
        char name[256];
        struct stat st;

        (void)snprintf(name, sizeof(name), "%s" KVM ".vms", broker->path);
        return stat(name, &st) < 0 ? 0 : (unsigned)st.st_size;
}

static void look_again(Broker *broker, bool forget) {
        if (forget)
                guest_forget(broker->manager);
        assert_int_equal(manager_rescan(broker->manager), 0);
        settle(broker->manager);
}

static void expect(const Broker *broker, const char *name, GuestSupport guest, const char *reason) {
        const Instance *instance = instance_table_find(&broker->manager->model.instances, name);

        assert_non_null(instance);
        assert_non_null(instance->guest_reason);
        if (!strstr(instance->guest_reason, reason))
                fail_msg("%s: '%s' has no '%s'", name, instance->guest_reason, reason);
        assert_int_equal(instance->guest, guest);
}

/* The PMU types of the simulated host's SPUs, as the model takes them. */
static void put_kvm(const Broker *broker, const char *more, unsigned n_types) {
        const Topology *topology = broker->manager->topology;
        char text[512];
        int n = snprintf(text, sizeof(text), ABLE "%s", more);

        for (unsigned i = 0; i < n_types; i++)
                n += snprintf(text + n, sizeof(text) - (size_t)n, "%s%u", i ? " " : "types ",
                              topology->spus[i].pmu_type);
        write_file(broker, KVM, "we", text);
}

static void test_when(void **state) {
        Broker *broker = *state;

        expect(broker, "arm_spe_0", GUEST_SUPPORT_UNKNOWN, NO_HOST);

        /* What nobody told of is not looked for. */
        put_kvm(broker, "", 2);
        look_again(broker, false);
        expect(broker, "arm_spe_0", GUEST_SUPPORT_UNKNOWN, NO_HOST);
        assert_int_equal(vms_made(broker), 0);

        look_again(broker, true);
        expect(broker, "arm_spe_0", GUEST_SUPPORT_UNKNOWN, GUESSED);
        assert_int_equal(vms_made(broker), 2);

        /* New numbers, new question; only then. */
        write_file(broker, CONF, "ae", NUMBERS);
        assert_int_equal(manager_reload(broker->manager, &(ConfigFault){0}), 0);
        settle(broker->manager);
        expect(broker, "arm_spe_0", GUEST_SUPPORT_YES, "KVM takes it");
        expect(broker, "arm_spe_1", GUEST_SUPPORT_YES, "KVM takes it");
        assert_int_equal(vms_made(broker), 4);
        assert_int_equal(manager_reload(broker->manager, &(ConfigFault){0}), 0);
        settle(broker->manager);
        assert_int_equal(vms_made(broker), 4);

        /* A rescan asks for nobody whose answer still holds. */
        look_again(broker, false);
        look_again(broker, false);
        assert_int_equal(vms_made(broker), 4);
        expect(broker, "arm_spe_1", GUEST_SUPPORT_YES, "KVM takes it");
        look_again(broker, true);
        assert_int_equal(vms_made(broker), 6);
        look_again(broker, false);
        assert_int_equal(vms_made(broker), 6);
}

/* Another type, and an SPU that becomes ready: that one is asked for, and the other is not. */
static void test_changes(void **state) {
        Broker *broker = *state;
        char type[16];

        put_kvm(broker, "", 2);
        write_file(broker, CONF, "ae", NUMBERS);
        assert_int_equal(manager_reload(broker->manager, &(ConfigFault){0}), 0);
        settle(broker->manager);
        assert_int_equal(vms_made(broker), 2);
        (void)snprintf(type, sizeof(type), "%u\n", broker->manager->topology->spus[1].pmu_type);

        write_file(broker, FACTS "sys/bus/event_source/devices/arm_spe_1/type", "we", "99\n");
        look_again(broker, false);
        expect(broker, "arm_spe_0", GUEST_SUPPORT_YES, "KVM takes it");
        expect(broker, "arm_spe_1", GUEST_SUPPORT_NO, "KVM knows no SPU of this PMU type");
        assert_int_equal(vms_made(broker), 3);

        write_file(broker, FACTS "sys/bus/event_source/devices/arm_spe_1/type", "we", "\n");
        look_again(broker, false);
        expect(broker, "arm_spe_1", GUEST_SUPPORT_UNKNOWN, NO_TYPE);
        assert_int_equal(vms_made(broker), 3);

        write_file(broker, FACTS "sys/bus/event_source/devices/arm_spe_1/type", "we", type);
        look_again(broker, false);
        expect(broker, "arm_spe_1", GUEST_SUPPORT_YES, "KVM takes it");
        assert_int_equal(vms_made(broker), 4);

        /* Partial with its type, then ready with the same. */
        write_file(broker, FACTS "sys/bus/event_source/devices/arm_spe_1/cpumask", "we", "x\n");
        look_again(broker, false);
        expect(broker, "arm_spe_1", GUEST_SUPPORT_UNKNOWN, NO_TYPE);
        write_file(broker, FACTS "sys/bus/event_source/devices/arm_spe_1/cpumask", "we", "4-11\n");
        look_again(broker, false);
        expect(broker, "arm_spe_1", GUEST_SUPPORT_YES, "KVM takes it");
        assert_int_equal(vms_made(broker), 5);

        /* The driver is there in another way: whatever it told KVM may be different. */
        assert_int_equal(broker->manager->topology->driver, DRIVER_MODULE);
        remove_file(broker, FACTS "sys/module/arm_spe_pmu/initstate");
        look_again(broker, false);
        assert_int_not_equal(broker->manager->topology->driver, DRIVER_MODULE);
        assert_int_equal(vms_made(broker), 7);
}

/* Without an SPU that is ready, KVM as a whole has an answer; once. */
static void test_no_spu(void **state) {
        Broker *broker = *state;

        assert_null(broker->manager->guest.kvm.reason);
        put_kvm(broker, "fail-vm 19\n", 2);
        write_file(broker, FACTS "sys/bus/event_source/devices/arm_spe_0/type", "we", "\n");
        write_file(broker, FACTS "sys/bus/event_source/devices/arm_spe_1/type", "we", "\n");
        look_again(broker, false);
        assert_int_equal(broker->manager->guest.kvm.answer, GUEST_ANSWER_NO);
        assert_non_null(strstr(broker->manager->guest.kvm.reason, "KVM makes no VMs"));
        expect(broker, "arm_spe_0", GUEST_SUPPORT_UNKNOWN, NO_TYPE);

        put_kvm(broker, "", 0);
        look_again(broker, false);
        assert_int_equal(broker->manager->guest.kvm.answer, GUEST_ANSWER_NO);
        look_again(broker, true);
        assert_int_equal(broker->manager->guest.kvm.answer, GUEST_ANSWER_UNKNOWN);

        write_file(broker, FACTS "sys/bus/event_source/devices/arm_spe_0/type", "we", "8\n");
        look_again(broker, false);
        assert_null(broker->manager->guest.kvm.reason);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, broker_setup, broker_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {TEST(test_when), TEST(test_changes), TEST(test_no_spu)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
