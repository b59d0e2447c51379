/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What stderr gets; what the journal gets is a test of the booted system (tests/vm/). */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/log.h"

/* What @say writes to stderr, with JOURNAL_STREAM as @stream. */
static void expect(void (*say)(void), const char *stream, const char *expected) {
        int saved, pipe_fds[2];
        char text[8192];
        ssize_t n;

        assert_int_equal(pipe(pipe_fds), 0);
        saved = dup(STDERR_FILENO);
        assert_true(saved >= 0);
        assert_true(dup2(pipe_fds[1], STDERR_FILENO) >= 0);
        if (stream)
                setenv("JOURNAL_STREAM", stream, 1);
        else
                unsetenv("JOURNAL_STREAM");
        say();
        assert_true(dup2(saved, STDERR_FILENO) >= 0);
        close(saved);
        close(pipe_fds[1]);

        n = read(pipe_fds[0], text, sizeof(text) - 1);
        close(pipe_fds[0]);
        assert_true(n > 0);
        text[n] = '\0';
        assert_string_equal(text, expected);
}

static void say_message(void) {
        log_message(LOG_WARNING, "%s is %i", "this", 1);
}

static void say_line(void) {
        log_position(LOG_ERR, "a.conf", 3, "%s is %i", "this", 1);
}

static void say_file(void) {
        log_position(LOG_ERR, "a.conf", 0, "this");
}

static void say_event(void) {
        const LogField fields[] = {{"SPE_BROKER_VM", "web1"}, {"SPE_BROKER_LEASE", NULL}};

        log_event(LOG_NOTICE, "babfd7ad9bb4463c9d9b5dd899cf40bf", fields, 2, "%s is %i", "this", 1);
}

static void say_forged(void) {
        log_message(LOG_INFO, "%s may not", "qemu\nspe-broker: \033[2Jall is well\x7f");
}

static void say_forged_event(void) {
        log_event(LOG_INFO, "babfd7ad9bb4463c9d9b5dd899cf40bf", NULL, 0, "a%sb", "\r\n");
}

/* Names of processes and VMs stay in the line that is about them. */
static void test_one_line(void **state) {
        (void)state;
        expect(say_forged, NULL, "spe-broker: qemu?spe-broker: ?[2Jall is well? may not\n");
        expect(say_forged_event, NULL, "spe-broker: a??b\n");
}

static void test_lines(void **state) {
        (void)state;
        expect(say_message, NULL, "spe-broker: this is 1\n");
        expect(say_line, NULL, "spe-broker: a.conf:3: this is 1\n");
        expect(say_file, NULL, "spe-broker: a.conf: this\n");
        expect(say_event, NULL, "spe-broker: this is 1\n");
}

/* The variable is inherited by what a service starts with a stderr of its own. */
static void test_journal_of_another(void **state) {
        (void)state;
        expect(say_line, "1:2", "spe-broker: a.conf:3: this is 1\n");
        expect(say_line, "", "spe-broker: a.conf:3: this is 1\n");
        expect(say_line, "no numbers", "spe-broker: a.conf:3: this is 1\n");
}

static void say_long(void) {
        static char text[16384];

        memset(text, 'x', sizeof(text) - 1);
        log_message(LOG_INFO, "%s", text);
}

static void test_long(void **state) {
        char expected[2048 + 64] = "spe-broker: ";
        size_t n = strlen(expected);

        (void)state;
        memset(expected + n, 'x', 2047);
        memcpy(expected + n + 2047, "\n", sizeof("\n"));
        expect(say_long, NULL, expected);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lines),
                cmocka_unit_test(test_one_line),
                cmocka_unit_test(test_journal_of_another),
                cmocka_unit_test(test_long),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
