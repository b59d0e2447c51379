/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/uevent.h"
#include "util/clock.h"

#define DEADLINE_USEC UINT64_C(30000000)
#define NOBODY        65534U
#define CPU_UEVENT    "/sys/devices/system/cpu/cpu0/uevent"
#define CPU_MESSAGE                                                                    \
        "online@/devices/system/cpu/cpu0\0ACTION=online\0DEVPATH=/devices/system/cpu/" \
        "cpu0\0SUBSYSTEM=cpu\0SEQNUM=7"
#define DRIVER (UEVENT_TOPOLOGY | UEVENT_KVM)
#define ALL    (UEVENT_TOPOLOGY | UEVENT_KVM)

/* "add /devices/x cpu KEY=VALUE ..." as a message; its length in *@ret_n. */
static char *message_of(const char *text, size_t *ret_n) {
        char *copy = strdup(text), *save = NULL, *message = malloc(UEVENT_SIZE_MAX);
        const char *action, *devpath, *subsystem;
        size_t n;

        assert_non_null(copy);
        assert_non_null(message);
        action = strtok_r(copy, " ", &save);
        devpath = strtok_r(NULL, " ", &save);
        subsystem = strtok_r(NULL, " ", &save);
        n = (size_t)sprintf(message, "%s@%s%cACTION=%s%cDEVPATH=%s%cSUBSYSTEM=%s", action, devpath, 0, action,
                            0, devpath, 0, subsystem) +
            1;
        for (const char *key; (key = strtok_r(NULL, " ", &save));)
                n += (size_t)sprintf(message + n, "%s", key) + 1;
        n += (size_t)sprintf(message + n, "SEQNUM=4711") + 1;

        free(copy);
        *ret_n = n;
        return message;
}

static void assert_kinds(const char *text, unsigned expected) {
        unsigned kinds = ~0U;
        size_t n;
        char *message = message_of(text, &n);

        assert_int_equal(uevent_parse(message, n, &kinds), 0);
        if (kinds != expected)
                fail_msg("%s: %#x, not %#x", text, kinds, expected);
        free(message);
}

static void test_cpu(_unused_ void **state) {
        static const char *const actions[] = {"add", "remove", "online", "offline"};
        char text[128];

        for (size_t i = 0; i < ELEMENTS_OF(actions); i++) {
                (void)snprintf(text, sizeof(text),
                               "%s /devices/system/cpu/cpu12 cpu MODALIAS=cpu:type:aarch64", actions[i]);
                assert_kinds(text, UEVENT_TOPOLOGY);
        }
        assert_kinds("change /devices/system/cpu/cpu12 cpu", 0);
        assert_kinds("bind /devices/system/cpu/cpu12 cpu DRIVER=processor", 0);
        assert_kinds("online /devices/system/cpu/cpu12 cpufreq", 0);
        assert_kinds("online /devices/system/memory/memory1 memory", 0);
}

static void test_instances(_unused_ void **state) {
        assert_kinds("add /devices/arm_spe_0 event_source", DRIVER);
        assert_kinds("remove /devices/platform/arm,spe-v1/arm_spe_0 event_source", DRIVER);
        assert_kinds("change /devices/platform/spe/arm_spe_11 event_source", DRIVER);
        assert_kinds("add /devices/armv8_pmuv3_0 event_source", 0);
        assert_kinds("add /devices/arm_spe_0/power event_source", 0);
        assert_kinds("add /devices/platform/arm_spe_0 thermal", 0);
}

static void test_driver(_unused_ void **state) {
        assert_kinds("add /module/arm_spe_pmu module", DRIVER);
        assert_kinds("remove /module/arm_spe_pmu module", DRIVER);
        assert_kinds("add /module/arm_spe_pmu_other module", 0);
        assert_kinds("add /bus/platform/drivers/arm_spe_pmu drivers", DRIVER);
        assert_kinds("remove /bus/platform/drivers/arm_spe_pmu drivers", DRIVER);
        assert_kinds("add /bus/platform/drivers/arm-pmu drivers", 0);
}

/* Which device it is, the driver says while it is bound, and ACPI's name or the device tree's always. */
static void test_platform(_unused_ void **state) {
        assert_kinds("bind /devices/platform/spe platform DRIVER=arm_spe_pmu", DRIVER);
        assert_kinds("unbind /devices/platform/arm,spe-v1 platform MODALIAS=platform:arm,spe-v1", DRIVER);
        assert_kinds("unbind /devices/platform/spe platform OF_NAME=spe "
                     "MODALIAS=of:NspeT(null)Carm,statistical-profiling-extension-v1",
                     DRIVER);
        assert_kinds("bind /devices/platform/serial8250 platform DRIVER=serial8250", 0);
        assert_kinds("bind /devices/platform/x platform DRIVER=arm_spe_pmu2 MODALIAS=platform:x", 0);
        assert_kinds("add /devices/platform/spe platform", 0);
}

static void test_kvm(_unused_ void **state) {
        assert_kinds("add /module/kvm module", UEVENT_KVM);
        assert_kinds("remove /module/kvm_intel module", UEVENT_KVM);
        assert_kinds("add /module/xkvm module", 0);
        assert_kinds("add /devices/virtual/misc/kvm misc MAJOR=10 MINOR=232 DEVNAME=kvm", UEVENT_KVM);
        assert_kinds("remove /devices/virtual/misc/kvm misc MAJOR=10 MINOR=232 DEVNAME=kvm", UEVENT_KVM);
        assert_kinds("change /devices/virtual/misc/kvm misc SYNTH_UUID=0 MAJOR=10", UEVENT_KVM);
        assert_kinds("add /devices/virtual/misc/vhost-net misc DEVNAME=vhost-net", 0);
}

/* A probe of KVM makes a VM; if that meant 'probe again', it would never end. */
static void test_vms(_unused_ void **state) {
        assert_kinds("change /devices/virtual/misc/kvm misc CREATED=10 COUNT=3 EVENT=create PID=77",
                     UEVENT_VM);
        assert_kinds("change /devices/virtual/misc/kvm misc CREATED=10 COUNT=2 EVENT=destroy PID=77 "
                     "STATS_PATH=/sys/kernel/debug/kvm/77-11 MAJOR=10 MINOR=232 DEVNAME=kvm",
                     UEVENT_VM);
        assert_kinds("change /devices/virtual/misc/kvm misc EVENT=else", UEVENT_KVM);
        assert_kinds("add /devices/virtual/misc/kvm misc EVENT=create", UEVENT_KVM);
        assert_kinds("change /devices/virtual/misc/loop misc EVENT=create", 0);
}

/* The kernel's own keys come first: a driver's later ones do not say whose the message is. */
static void test_first_of_a_name(_unused_ void **state) {
        assert_kinds("add /devices/x input SUBSYSTEM=cpu ACTION=online DEVPATH=/devices/arm_spe_0", 0);
        assert_kinds("online /devices/system/cpu/cpu1 cpu SUBSYSTEM=input ACTION=change", UEVENT_TOPOLOGY);
}

/* What drivers write may hold about anything but NUL. */
static void test_odd_values(_unused_ void **state) {
        assert_kinds("online /devices/system/cpu/cpu0 cpu MODALIAS=cpu:feature:,0000\n X== Y=",
                     UEVENT_TOPOLOGY);
        assert_kinds("online /devices/system/cpu/cpu0 cpu X=\xff\xfe@", UEVENT_TOPOLOGY);
}

static void assert_malformed(const char *message, size_t n) {
        unsigned kinds = 77;

        /* Exactly as much memory as there is text: a sanitizer sees any look beyond. */
        char *copy = malloc(n ?: 1);

        assert_non_null(copy);
        memcpy(copy, message, n);
        assert_int_equal(uevent_parse(copy, n, &kinds), UEVENT_E_MALFORMED);
        assert_int_equal(kinds, 77);
        free(copy);
}

#define assert_malformed_text(text) assert_malformed(text, sizeof(text))

static void test_malformed(_unused_ void **state) {
        unsigned kinds;

        assert_int_equal(uevent_parse(CPU_MESSAGE, sizeof(CPU_MESSAGE), &kinds), 0);
        assert_malformed("", 0);
        assert_malformed_text("");
        assert_malformed_text("libudev\0\xfe\xed\xca\xfe");
        assert_malformed_text("add@/x");
        assert_malformed_text("add@/x\0ACTION=add\0DEVPATH=/x");
        assert_malformed_text("add@/x\0ACTION=add\0SUBSYSTEM=cpu");
        assert_malformed_text("add@/x\0DEVPATH=/x\0SUBSYSTEM=cpu");
        assert_malformed_text("add/x\0ACTION=add\0DEVPATH=/x\0SUBSYSTEM=cpu");
        assert_malformed_text("add@/x\0ACTION=add\0DEVPATH=/x\0SUBSYSTEM=cpu\0NOVALUE");
        assert_malformed_text("add@/x\0ACTION=add\0DEVPATH=/x\0SUBSYSTEM=cpu\0=value");
        assert_malformed_text("add@/x\0ACTION=add\0DEVPATH=/x\0SUBSYSTEM=cpu\0\0SEQNUM=1");
        /* Cut anywhere but behind a key that may be missing, it is none. */
        for (size_t n = 0; n < sizeof(CPU_MESSAGE) - sizeof("SEQNUM=7"); n++)
                assert_malformed(CPU_MESSAGE, n);
        assert_malformed(CPU_MESSAGE, sizeof(CPU_MESSAGE) - 1);
}

static void test_oversized(_unused_ void **state) {
        char *message = malloc(UEVENT_SIZE_MAX + 1);
        unsigned kinds;

        assert_non_null(message);
        memset(message, 'x', UEVENT_SIZE_MAX + 1);
        memcpy(message, CPU_MESSAGE, sizeof(CPU_MESSAGE));
        message[sizeof(CPU_MESSAGE) + 1] = '=';
        message[UEVENT_SIZE_MAX - 1] = '\0';
        assert_int_equal(uevent_parse(message, UEVENT_SIZE_MAX, &kinds), 0);
        assert_int_equal(kinds, UEVENT_TOPOLOGY);
        message[UEVENT_SIZE_MAX - 1] = 'x';
        message[UEVENT_SIZE_MAX] = '\0';
        assert_malformed(message, UEVENT_SIZE_MAX + 1);
        free(message);
}

/*
 * The monitor, in a network namespace of the test's own: the kernel's uevents come there, and nobody else's
 * messages do.
 */

typedef struct Fixture {
        UeventMonitor *monitor;
        int sender_fd;
} Fixture;

static void require_root(void) {
        if (geteuid() != 0 || access(CPU_UEVENT, W_OK) < 0)
                skip();
}

static int monitor_setup(void **state) {
        Fixture *fixture = calloc(1, sizeof(*fixture));
        const char *reason;

        if (!fixture)
                return -1;
        *state = fixture;
        fixture->sender_fd = -1;
        if (geteuid() == 0 && unshare(CLONE_NEWNET) < 0)
                return -1;
        fixture->sender_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
        return fixture->sender_fd < 0 || uevent_monitor_new(&fixture->monitor, &reason) ? -1 : 0;
}

static int monitor_teardown(void **state) {
        Fixture *fixture = *state;

        uevent_monitor_free(fixture->monitor);
        closep(&fixture->sender_fd);
        free(fixture);
        return 0;
}

static void add_news(UeventNews *sum, const UeventNews *news) {
        sum->kinds |= news->kinds;
        sum->n_host += news->n_host;
        sum->n_vms += news->n_vms;
        sum->n_spoofed += news->n_spoofed;
        sum->n_lost += news->n_lost;
}

/* All that is there now. */
static UeventNews drain(const Fixture *fixture) {
        struct pollfd fd = {.fd = uevent_monitor_fd(fixture->monitor), .events = POLLIN};
        UeventNews sum = {0}, news;

        do {
                uevent_monitor_receive(fixture->monitor, &news);
                add_news(&sum, &news);
        } while (poll(&fd, 1, 0) > 0);
        return sum;
}

static void write_text(const char *path, const char *text) {
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static uint32_t port_of(int fd) {
        struct sockaddr_nl address = {0};
        socklen_t n = sizeof(address);

        assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
        return address.nl_pid;
}

static int send_to(const Fixture *fixture, uint32_t port, uint32_t groups, const void *data, size_t n) {
        struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_pid = port, .nl_groups = groups};

        return sendto(fixture->sender_fd, data, n, 0, (struct sockaddr *)&to, sizeof(to)) < 0 ? -errno : 0;
}

/* Other tests of this machine may make the kernel speak, too: more than what was asked for may come. */
static void test_kernel(void **state) {
        UeventNews news;

        require_root();
        (void)drain(*state);
        write_text(CPU_UEVENT, "online");
        news = drain(*state);
        assert_true(news.kinds & UEVENT_TOPOLOGY);
        assert_true(news.n_host >= 1);
        assert_int_equal(news.n_spoofed, 0);
        assert_int_equal(news.n_lost, 0);
}

static void test_unicast(void **state) {
        const Fixture *fixture = *state;
        UeventNews news;

        require_root();
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(send_to(fixture, port_of(uevent_monitor_fd(fixture->monitor)), 0,
                                         CPU_MESSAGE, sizeof(CPU_MESSAGE)),
                                 0);
        news = drain(fixture);
        assert_int_equal(news.n_spoofed, 3);
        assert_int_equal(news.n_lost, 0);
}

static void test_multicast(void **state) {
        UeventNews news;

        require_root();
        assert_int_equal(send_to(*state, 0, 1, CPU_MESSAGE, sizeof(CPU_MESSAGE)), 0);
        news = drain(*state);
        assert_int_equal(news.n_spoofed, 1);
        assert_int_equal(news.n_lost, 0);
}

/* The kernel passes on what root of the namespace sends it: from port 0, to its group, of uid 0. */
static void test_injected(void **state) {
        struct {
                struct nlmsghdr header;
                char text[sizeof(CPU_MESSAGE)];
        } message = {
                .header = {.nlmsg_len = NLMSG_LENGTH(sizeof(CPU_MESSAGE)),
                           .nlmsg_type = NLMSG_MIN_TYPE,
                           .nlmsg_flags = NLM_F_REQUEST},
                .text = CPU_MESSAGE,
        };
        UeventNews news;

        require_root();
        assert_int_equal(send_to(*state, 0, 0, &message, message.header.nlmsg_len), 0);
        news = drain(*state);
        assert_int_equal(news.n_spoofed, 1);
        assert_int_equal(news.n_lost, 0);
}

/* Too large for us, and so truncated: whoever sent it is known all the same. */
static void test_spoofed_oversized(void **state) {
        static const char message[2 * UEVENT_SIZE_MAX] = CPU_MESSAGE;
        const Fixture *fixture = *state;
        UeventNews news;

        require_root();
        assert_int_equal(
                send_to(fixture, port_of(uevent_monitor_fd(fixture->monitor)), 0, message, sizeof(message)),
                0);
        assert_int_equal(send_to(fixture, 0, 1, message, sizeof(message)), 0);
        news = drain(fixture);
        assert_int_equal(news.n_spoofed, 2);
        assert_int_equal(news.n_lost, 0);
}

static void test_unprivileged(void **state) {
        const Fixture *fixture = *state;
        uint32_t port = port_of(uevent_monitor_fd(fixture->monitor));
        UeventNews news;
        int status;
        pid_t pid;

        require_root();
        (void)drain(fixture);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (setresuid(NOBODY, NOBODY, NOBODY) < 0)
                        _exit(1);
                _exit(send_to(fixture, port, 0, CPU_MESSAGE, sizeof(CPU_MESSAGE)) == -EPERM &&
                                      send_to(fixture, 0, 1, CPU_MESSAGE, sizeof(CPU_MESSAGE)) == -EPERM
                              ? 0
                              : 2);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        news = drain(fixture);
        assert_int_equal(news.n_spoofed, 0);
}

/* The buffer overflows. What the kernel says then is lost, and more may be until the queue is empty: so all
 * is assumed to have changed with every batch until then, and not any more after that. */
static void test_overrun(void **state) {
        const Fixture *fixture = *state;
        int size = 256 * 1024;
        UeventNews news;
        unsigned n = 0;

        require_root();
        assert_int_equal(
                setsockopt(uevent_monitor_fd(fixture->monitor), SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)),
                0);
        for (unsigned i = 0; i < 2000; i++)
                (void)send_to(fixture, 0, 1, CPU_MESSAGE, sizeof(CPU_MESSAGE));
        write_text(CPU_UEVENT, "online");

        uevent_monitor_receive(fixture->monitor, &news);
        assert_int_equal(news.n_lost, 1);
        assert_int_equal(news.kinds, ALL);
        for (uint64_t deadline = clock_now_usec() + DEADLINE_USEC; news.n_lost + news.n_spoofed > 0; n++) {
                assert_true(clock_now_usec() < deadline);
                uevent_monitor_receive(fixture->monitor, &news);
                assert_int_equal(news.n_lost, 0);
                if (n == 0 || news.n_spoofed > 0)
                        assert_int_equal(news.kinds & ALL, ALL);
        }
        assert_true(n > 1); /* several batches */

        assert_int_equal(send_to(fixture, 0, 1, CPU_MESSAGE, sizeof(CPU_MESSAGE)), 0);
        do
                uevent_monitor_receive(fixture->monitor, &news);
        while (news.n_host > 0);
        assert_int_equal(news.kinds & ALL, 0);
}

/* However many there are, one call takes but some. */
static void test_bounded(void **state) {
        const unsigned n_sent = 400; /* which the socket holds */
        uint64_t n = 0, n_calls = 0;
        UeventNews news;

        require_root();
        for (unsigned i = 0; i < n_sent; i++)
                assert_int_equal(send_to(*state, 0, 1, CPU_MESSAGE, sizeof(CPU_MESSAGE)), 0);
        for (uint64_t deadline = clock_now_usec() + DEADLINE_USEC; n < n_sent; n_calls++) {
                assert_true(clock_now_usec() < deadline);
                uevent_monitor_receive(((Fixture *)*state)->monitor, &news);
                assert_int_equal(news.n_lost, 0);
                n += news.n_spoofed;
        }
        assert_int_equal(n, n_sent);
        assert_true(n_calls > 1);
}

/* In a child: a user namespace of its own, in which it is root, and has a socket like any other. */
static void test_user_namespace(_unused_ void **state) {
        UeventMonitor *monitor = NULL;
        const char *reason = NULL;
        int status;
        pid_t pid;

        require_root();
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (uevent_monitor_new(&monitor, &reason) != 0)
                        _exit(1);
                uevent_monitor_free(monitor);
                if (unshare(CLONE_NEWUSER) < 0)
                        _exit(77);
                write_text("/proc/self/uid_map", "0 0 1");
                _exit(uevent_monitor_new(&monitor, &reason) == UEVENT_E_UNAVAILABLE && reason ? 0 : 2);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
                skip();
        assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_cpu),
                cmocka_unit_test(test_instances),
                cmocka_unit_test(test_driver),
                cmocka_unit_test(test_platform),
                cmocka_unit_test(test_kvm),
                cmocka_unit_test(test_vms),
                cmocka_unit_test(test_first_of_a_name),
                cmocka_unit_test(test_odd_values),
                cmocka_unit_test(test_malformed),
                cmocka_unit_test(test_oversized),
                cmocka_unit_test_setup_teardown(test_kernel, monitor_setup, monitor_teardown),
                cmocka_unit_test_setup_teardown(test_unicast, monitor_setup, monitor_teardown),
                cmocka_unit_test_setup_teardown(test_multicast, monitor_setup, monitor_teardown),
                cmocka_unit_test_setup_teardown(test_injected, monitor_setup, monitor_teardown),
                cmocka_unit_test_setup_teardown(test_spoofed_oversized, monitor_setup, monitor_teardown),
                cmocka_unit_test_setup_teardown(test_unprivileged, monitor_setup, monitor_teardown),
                cmocka_unit_test_setup_teardown(test_overrun, monitor_setup, monitor_teardown),
                cmocka_unit_test(test_user_namespace),
                cmocka_unit_test_setup_teardown(test_bounded, monitor_setup, monitor_teardown),
        };

        return cmocka_run_group_tests_name("uevent", tests, NULL, NULL);
}
