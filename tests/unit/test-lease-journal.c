/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Leases that are taken back in thousands leave no thousands of lines; what each says is a test of the
 * daemon. */

#include <fcntl.h>
#include <sys/mman.h>

#include "broker/lease-journal.h"
#include "tests/unit/broker-fixture.h"

#define JOURNAL_MAX 200U
#define TEXT_MAX    (256U * 1024)

/* What @n times the same about @lease gives on stderr. */
static char *tell(Lease *lease, unsigned n, void (*say)(Lease *lease)) {
        int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10), fd = memfd_create("stderr", MFD_CLOEXEC);
        static char text[TEXT_MAX];
        ssize_t size;

        assert_true(saved >= 0 && fd >= 0);
        assert_true(dup2(fd, STDERR_FILENO) >= 0);
        while (n-- > 0)
                say(lease);
        assert_true(dup2(saved, STDERR_FILENO) >= 0);
        close(saved);
        size = pread(fd, text, sizeof(text) - 1, 0);
        close(fd);
        assert_true(size >= 0);
        text[size] = '\0';
        return text;
}

static unsigned count_lines(const char *text) {
        unsigned n = 0;

        for (; (text = strchr(text, '\n')); text++)
                n++;
        return n;
}

static void say_revoking(Lease *lease) {
        lease_journal_revoking(lease, 2500000, NULL);
}

static void say_ended(Lease *lease) {
        lease_journal_ended(lease, "it was released");
}

static void say_not_killed(Lease *lease) {
        lease_journal_killed(lease, SIGKILL, EPERM);
}

static void test_bounded(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "web", "0", "guest");
        RateLimit *limit = &broker->manager->lease_journal.limits[LEASE_JOURNAL_REVOKING];
        Lease *lease = find(broker, id);
        char *text, expected[512];

        text = tell(lease, JOURNAL_MAX + 50, say_revoking);
        assert_int_equal(count_lines(text), JOURNAL_MAX);
        assert_null(strstr(text, "left out"));
        /* Each kind has its own. */
        assert_int_equal(count_lines(tell(lease, 1, say_ended)), 1);

        limit->begin_usec = 0; /* long ago */
        lease_set_reason(lease, "maintenance");
        (void)snprintf(
                expected, sizeof(expected),
                "spe-broker: lease %s of VM web is taken back: maintenance; %s (pid %i) has 2.5 s to release "
                "it (before it, 50 like it were left out)\n",
                id.text, lease->owner->owner->command, (int)getpid());
        assert_string_equal(tell(lease, 1, say_revoking), expected);
}

static void test_not_killed(void **state) {
        Broker *broker = *state;
        _cleanup_(client_freep) Client *client = client_new(broker);
        LeaseId id = acquire_for(client, getpid(), "web", "0", "guest");

        assert_non_null(strstr(tell(find(broker, id), 1, say_not_killed),
                               "cannot be sent SIGKILL: Operation not permitted\n"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_bounded, broker_setup, broker_teardown),
                cmocka_unit_test_setup_teardown(test_not_killed, broker_setup, broker_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
