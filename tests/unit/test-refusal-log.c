/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whose refusals are kept when there are too many, and which of them the journal gets. */

#include <fcntl.h>
#include <sys/mman.h>

#include "broker/refusal-fill.h"
#include "broker/refusal-journal.h"
#include "broker/refusal-log.h"
#include "tests/unit/broker-fixture.h"

#define MINUTE       USEC_PER_MIN
#define SOME_TIME    (1000 * MINUTE)
#define LINES_TEXT   (256U * 1024)
#define PER_LIKE     5U
#define PER_USER     60U
#define ALL_TOGETHER 300U

static Refusal *refusal_of(uid_t uid, const char *vm, RefusalKind kind) {
        Refusal *refusal = calloc(1, sizeof(*refusal));

        assert_non_null(refusal);
        refusal->kind = kind;
        refusal->uid = uid;
        refusal->pid = 12;
        memset(refusal->id, 'a', REFUSAL_ID_LENGTH);
        assert_int_equal(refusal_copy(vm, &refusal->vm), 0);
        assert_int_equal(refusal_say(refusal, "it may not"), 0);
        return refusal;
}

static unsigned count(const RefusalLog *log, uid_t uid) {
        const Refusal *refusal;
        unsigned n = 0;

        TAILQ_FOREACH(refusal, &log->entries, link)
                n += refusal->uid == uid;
        return n;
}

static void add(RefusalLog *log, uid_t uid, unsigned n) {
        for (unsigned i = 0; i < n; i++)
                assert_int_equal(refusal_log_add(log, refusal_of(uid, "vm", REFUSAL_BUSY)), 0);
}

/* Who is alone has all the room; who has few keeps them, however many another has. */
static void test_fair(void **state) {
        RefusalLog log;

        (void)state;
        refusal_log_init(&log);
        add(&log, 2, 3);
        add(&log, 1, 5 * REFUSALS_MAX);
        assert_int_equal(log.n, REFUSALS_MAX);
        assert_int_equal(count(&log, 2), 3);
        assert_int_equal(count(&log, 1), REFUSALS_MAX - 3);

        /* Two who want all share it. */
        for (unsigned i = 0; i < 3 * REFUSALS_MAX; i++)
                add(&log, 1 + i % 2, 1);
        assert_int_equal(log.n, REFUSALS_MAX);
        assert_int_equal(count(&log, 1), REFUSALS_MAX / 2);
        assert_int_equal(count(&log, 2), REFUSALS_MAX / 2);
        refusal_log_deinit(&log);
        assert_true(LIST_EMPTY(&log.users));
}

/* Whoever goes through them while others come and go. */
static void test_walk(void **state) {
        Refusal *third, *second, *first;
        RefusalWalk walk, other;
        RefusalLog log;

        (void)state;
        refusal_log_init(&log);
        refusal_walk_begin(&other, &log);
        add(&log, 1, 3);
        third = TAILQ_FIRST(&log.entries);
        second = TAILQ_NEXT(third, link);
        first = TAILQ_NEXT(second, link);

        refusal_walk_begin(&walk, &log);
        assert_ptr_equal(refusal_walk_next(&walk), third);
        add(&log, 1, 1);
        refusal_log_remove(&log, third);
        refusal_log_remove(&log, second);
        assert_ptr_equal(refusal_walk_next(&walk), first);
        assert_null(refusal_walk_next(&walk));
        assert_null(refusal_walk_next(&other));
        refusal_walk_end(&walk);

        refusal_walk_begin(&walk, &log);
        refusal_log_deinit(&log);
        assert_null(refusal_walk_next(&walk));
        refusal_walk_end(&walk);
        refusal_walk_end(&other);
        assert_true(LIST_EMPTY(&log.walks));
}

/* As many users as there is room for: the oldest goes, and nothing is left of its user. */
static void test_many_users(void **state) {
        unsigned n_users = 0;
        RefusalUser *user;
        RefusalLog log;

        (void)state;
        refusal_log_init(&log);
        for (uid_t uid = 0; uid < REFUSALS_MAX + 100; uid++)
                add(&log, uid, 1);
        assert_int_equal(log.n, REFUSALS_MAX);
        assert_int_equal(count(&log, 99), 0);
        assert_int_equal(count(&log, 100), 1);
        LIST_FOREACH(user, &log.users, link)
                n_users++;
        assert_int_equal(n_users, REFUSALS_MAX);

        /* What was left out of it is not forgotten with it. */
        TAILQ_LAST(&log.entries, RefusalList)->user->rates.like[3].limit.left_out = 7;
        add(&log, 5000, 1);
        assert_int_equal(log.journal.left_out, 7);
        refusal_log_deinit(&log);
        assert_true(TAILQ_EMPTY(&log.entries));
}

/* What is written to stderr from now on is @lines. */
typedef struct Lines {
        int saved;
        int fd;
        char text[LINES_TEXT];
} Lines;

static void lines_begin(Lines *lines) {
        lines->saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
        lines->fd = memfd_create("stderr", MFD_CLOEXEC);
        assert_true(lines->saved >= 0 && lines->fd >= 0);
        assert_true(dup2(lines->fd, STDERR_FILENO) >= 0);
}

/* How many there were. */
static unsigned lines_end(Lines *lines) {
        unsigned n_lines = 0;
        ssize_t n;

        assert_true(dup2(lines->saved, STDERR_FILENO) >= 0);
        close(lines->saved);
        n = pread(lines->fd, lines->text, sizeof(lines->text) - 1, 0);
        close(lines->fd);
        assert_true(n >= 0);
        lines->text[n] = '\0';
        for (const char *p = lines->text; (p = strchr(p, '\n')); p++)
                n_lines++;
        return n_lines;
}

static unsigned tell(Lines *lines, unsigned n, const char *vm, RefusalKind kind, uint64_t now,
                     RefusalRates *rates, RateLimit *all) {
        _cleanup_(refusal_freep) Refusal *refusal = refusal_of(1000, vm, kind);

        lines_begin(lines);
        for (unsigned i = 0; i < n; i++)
                refusal_journal(refusal, now, rates, all);
        return lines_end(lines);
}

/* Of one VM with one error a few per minute, and the next one says how many there were. */
static void test_one_vm(void **state) {
        RefusalRates rates = {0};
        RateLimit all = {0};
        static Lines lines;

        (void)state;
        assert_int_equal(tell(&lines, 1, "web", REFUSAL_BUSY, SOME_TIME, &rates, &all), 1);
        assert_string_equal(lines.text, "spe-broker: VM web (pid 12) was refused with Busy: it may not\n");
        assert_int_equal(tell(&lines, 100, "web", REFUSAL_BUSY, SOME_TIME + 1, &rates, &all), PER_LIKE - 1);
        assert_null(strstr(lines.text, "left out"));
        /* Another error, and another VM, have limits of their own. */
        assert_int_equal(tell(&lines, 1, "web", REFUSAL_NOT_ASSIGNED, SOME_TIME + 2, &rates, &all), 1);
        assert_int_equal(tell(&lines, 1, "db", REFUSAL_BUSY, SOME_TIME + 2, &rates, &all), 1);
        assert_int_equal(tell(&lines, 1, "web", REFUSAL_BUSY, SOME_TIME + MINUTE - 1, &rates, &all), 0);

        assert_int_equal(tell(&lines, 1, "web", REFUSAL_BUSY, SOME_TIME + MINUTE, &rates, &all), 1);
        assert_non_null(strstr(lines.text, "it may not (before it, 97 like it were left out)\n"));
        assert_int_equal(tell(&lines, 1, "web", REFUSAL_BUSY, SOME_TIME + MINUTE, &rates, &all), 1);
        assert_null(strstr(lines.text, "left out"));
}

/* Who makes up names gets no more into the journal, and nothing of it is lost count of. */
static void test_many_names(void **state) {
        RefusalRates rates = {0};
        RateLimit all = {0};
        static Lines lines;
        unsigned n = 0;

        (void)state;
        for (unsigned i = 0; i < 1000; i++) {
                char vm[32];

                (void)snprintf(vm, sizeof(vm), "vm%u", i);
                n += tell(&lines, 10, vm, REFUSAL_BUSY, SOME_TIME, &rates, &all);
        }
        assert_int_equal(n, PER_USER);

        /* The next line tells of all but those that 31 other pairs of VM and error still count. */
        assert_int_equal(tell(&lines, 1, "new", REFUSAL_BUSY, SOME_TIME + MINUTE, &rates, &all), 1);
        for (unsigned i = 1; i < REFUSAL_RATES_MAX; i++)
                n += rates.like[i].limit.left_out;
        (void)snprintf(lines.text, sizeof(lines.text), "%s", strstr(lines.text, "before it, "));
        assert_int_equal(n + strtoul(lines.text + strlen("before it, "), NULL, 10), 10000);
}

/* However many users there are. */
static void test_all(void **state) {
        RateLimit all = {0};
        static Lines lines;
        unsigned n = 0;

        (void)state;
        for (unsigned i = 0; i < 1000; i++) {
                RefusalRates rates = {0};

                n += tell(&lines, 1, "web", REFUSAL_BUSY, SOME_TIME, &rates, &all);
        }
        assert_int_equal(n, ALL_TOGETHER);
        assert_int_equal(all.left_out, 1000 - ALL_TOGETHER);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_fair),       cmocka_unit_test(test_walk),
                cmocka_unit_test(test_many_users), cmocka_unit_test(test_one_vm),
                cmocka_unit_test(test_many_names), cmocka_unit_test(test_all),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
