/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Control groups, real ones: found by their paths, told apart by their ids, empty or not. */

#include "tests/unit/cgroup-fixture.h"

#include <fcntl.h>
#include <poll.h>

#include "host/owner.h"

static void test_path(_unused_ void **state) {
        static const char *const good[] = {"/a", "/a/b", "/a.slice/b:c.scope", "/..a", "/a..", "/...", "/ "};
        static const char *const bad[] = {"",   "/",   "a",    "a/b",   "//a",   "/a/",  "/a//b",
                                          "/.", "/..", "/a/.", "/a/..", "/../a", "/./a", "/a/../b"};
        char longest[CGROUP_PATH_MAX + 2];

        for (size_t i = 0; i < ELEMENTS_OF(good); i++)
                if (!cgroup_path_is_valid(good[i]))
                        fail_msg("refused: %s", good[i]);
        for (size_t i = 0; i < ELEMENTS_OF(bad); i++)
                if (cgroup_path_is_valid(bad[i]))
                        fail_msg("taken: %s", bad[i]);

        memset(longest, 'x', sizeof(longest));
        longest[0] = '/';
        longest[CGROUP_PATH_MAX + 1] = '\0';
        assert_false(cgroup_path_is_valid(longest));
        longest[CGROUP_PATH_MAX] = '\0';
        assert_true(cgroup_path_is_valid(longest));
}

static void test_unit(_unused_ void **state) {
        static const struct {
                const char *path, *unit;
        } cases[] = {
                {"/system.slice/a.service", "a.service"},
                {"/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt/emulator",
                 "machine-qemu\\x2d1\\x2dweb.scope"},
                {"/a.slice/a-b.slice/c.scope/d.scope", "c.scope"},
                {"/user.slice/user-1.slice/user@1.service/app.slice/x.service", "user@1.service"},
                {"/a.slice/_cgroup.service", "cgroup.service"},
                {"/a.service", "a.service"},
                {"/a/b.service", NULL},
                {"/a.slice", NULL},
                {"/a.slice/b", NULL},
                {"/.service", NULL},
                {"/_", NULL},
                {"/.slice/a.scope", NULL},
        };

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                _cleanup_(freep) char *unit = NULL;

                assert_int_equal(cgroup_get_unit(cases[i].path, &unit), 0);
                if (cases[i].unit)
                        assert_string_equal(unit ?: "none", cases[i].unit);
                else
                        assert_null(unit);
        }
}

static void test_has_path(_unused_ void **state) {
        Cgroup *cgroup = calloc(1, sizeof(*cgroup) + sizeof("/a/b"));

        memcpy(cgroup->path, "/a/b", sizeof("/a/b"));
        assert_true(cgroup_has_path(cgroup, "/a/b"));
        assert_true(cgroup_has_path(cgroup, "/a/b/c"));
        assert_false(cgroup_has_path(cgroup, "/a/bc"));
        assert_false(cgroup_has_path(cgroup, "/a"));
        assert_false(cgroup_has_path(cgroup, "/"));
        assert_false(cgroup_has_path(cgroup, "/a/b (deleted)"));
        free(cgroup);
}

static void assert_populated(const Cgroup *cgroup, bool expected) {
        bool populated = !expected;

        assert_int_equal(cgroup_read_populated(cgroup, &populated), 0);
        assert_int_equal(populated, expected);
}

static bool is_ringing(const Cgroup *cgroup, int timeout_msec) {
        struct pollfd p = {.fd = cgroup->events_fd, .events = POLLPRI};

        return poll(&p, 1, timeout_msec) == 1;
}

/* From empty to empty, by way of one below; it rings each time, and is quiet once that has been read. */
static void test_life(_unused_ void **state) {
        TestGroup group = group_new(""), below = group_new("/below");
        _cleanup_(cgroup_freep) Cgroup *cgroup = NULL, *again = NULL;
        bool populated;
        uint64_t id;
        pid_t pid;

        assert_int_equal(cgroup_new(group.path, &cgroup), 0);
        assert_string_equal(cgroup->path, group.path);
        assert_int_equal(cgroup->uid, getuid());
        assert_true(fcntl(cgroup->events_fd, F_GETFD) & FD_CLOEXEC);
        assert_populated(cgroup, false);
        assert_false(is_ringing(cgroup, 0));

        pid = group_fork(&below);
        assert_true(is_ringing(cgroup, CGROUP_DEADLINE_MSEC));
        assert_populated(cgroup, true);
        assert_false(is_ringing(cgroup, 0));

        group_kill(pid);
        assert_true(is_ringing(cgroup, CGROUP_DEADLINE_MSEC));
        assert_populated(cgroup, false);

        /* Removed, it rings, and is none; made anew, it is another one. */
        id = cgroup->id;
        group_remove(&below);
        group_remove(&group);
        assert_true(is_ringing(cgroup, CGROUP_DEADLINE_MSEC));
        assert_int_equal(cgroup_read_populated(cgroup, &populated), CGROUP_E_NONE);
        assert_int_equal(cgroup_new(group.path, &again), CGROUP_E_NONE);
        assert_null(again);
        group = group_new("");
        assert_int_equal(cgroup_new(group.path, &again), 0);
        assert_true(again->id != id);
        assert_int_equal(cgroup_read_populated(cgroup, &populated), CGROUP_E_NONE);
        group_remove(&group);
}

static void test_none(_unused_ void **state) {
        TestGroup group = group_new("");
        static const char *const ends[] = {"/../..", "/cgroup.procs", "/none", "/", "/."};
        Cgroup *cgroup = NULL;
        char path[128];

        for (size_t i = 0; i < ELEMENTS_OF(ends); i++) {
                (void)snprintf(path, sizeof(path), "%s%s", group.path, ends[i]);
                assert_int_equal(cgroup_new(path, &cgroup), CGROUP_E_NONE);
        }
        assert_int_equal(cgroup_new("/", &cgroup), CGROUP_E_NONE);
        assert_int_equal(cgroup_new("", &cgroup), CGROUP_E_NONE);
        assert_null(cgroup);
        group_remove(&group);
}

/* Threads of a process above: who is in it cannot be said. */
static void test_threaded(_unused_ void **state) {
        TestGroup group = group_new(""), threaded = group_new("/threaded");
        Cgroup *cgroup = NULL;
        pid_t *pids = NULL;
        char path[160];
        FILE *file;
        size_t n;

        (void)snprintf(path, sizeof(path), "%s/cgroup.type", threaded.directory);
        file = fopen(path, "we");
        assert_non_null(file);
        assert_true(fputs("threaded", file) >= 0 && fclose(file) == 0);
        assert_int_equal(cgroup_new(threaded.path, &cgroup), CGROUP_E_NONE);
        /* The one above is whole. */
        assert_int_equal(cgroup_new(group.path, &cgroup), 0);
        assert_int_equal(cgroup_list(cgroup, &pids, &n), 0);
        assert_int_equal(n, 0);
        free(pids);
        cgroup_free(cgroup);
        group_remove(&threaded);
        group_remove(&group);
}

static void test_process(_unused_ void **state) {
        TestGroup group = group_new(""), below = group_new("/below");
        pid_t pid = group_fork(&below);
        _cleanup_(freep) char *path = NULL;
        char *none = NULL;

        assert_int_equal(cgroup_path_of_process(pid, &path), 0);
        assert_string_equal(path, below.path);
        group_kill(pid);
        assert_int_equal(cgroup_path_of_process(pid, &none), CGROUP_E_NONE);
        assert_null(none);
        group_remove(&below);
        group_remove(&group);
}

static void test_list(_unused_ void **state) {
        TestGroup group = group_new(""), below = group_new("/below"), beside = group_new("-beside");
        _cleanup_(cgroup_freep) Cgroup *cgroup = NULL;
        _cleanup_(freep) pid_t *pids = NULL;
        pid_t first = group_fork(&below), second = group_fork(&group), other = group_fork(&beside);
        pid_t *none = NULL;
        size_t n;

        assert_int_equal(cgroup_new(group.path, &cgroup), 0);
        assert_int_equal(cgroup_list(cgroup, &pids, &n), 0);
        assert_int_equal(n, 2);
        assert_true(pids[0] < pids[1]);
        assert_true((pids[0] == first && pids[1] == second) || (pids[0] == second && pids[1] == first));

        assert_int_equal(cgroup_kill(cgroup, SIGTERM), 0);
        assert_int_equal(group_reap(first), SIGTERM);
        assert_int_equal(group_reap(second), SIGTERM);
        assert_int_equal(waitpid(other, NULL, WNOHANG), 0);
        assert_int_equal(cgroup_kill(cgroup, SIGTERM), CGROUP_E_NONE);

        group_remove(&below);
        group_remove(&group);
        assert_int_equal(cgroup_list(cgroup, &none, &n), CGROUP_E_NONE);
        group = group_new("");
        group_move(&group, other);
        assert_int_equal(cgroup_list(cgroup, &none, &n), CGROUP_E_NONE); /* it is another one */
        assert_int_equal(cgroup_kill(cgroup, SIGKILL), CGROUP_E_NONE);
        assert_null(none);
        assert_int_equal(waitpid(other, NULL, WNOHANG), 0);
        group_kill(other);
        group_remove(&group);
        group_remove(&beside);
}

static void test_owner(_unused_ void **state) {
        TestGroup group = group_new("");
        _cleanup_(owner_freep) Owner *owner = NULL, *process = NULL;
        Owner *none = NULL;
        char text[OWNER_TEXT_MAX], expected[OWNER_TEXT_MAX];
        CpuSet cpus;

        assert_int_equal(owner_new_cgroup(group.path, &owner), 0);
        assert_int_equal(owner->pid, 0);
        assert_int_equal(owner->pidfd, -1);
        assert_int_equal(owner->uid, getuid());
        assert_string_equal(owner->command, "");
        assert_null(owner->unit);
        assert_null(owner->machine);
        assert_true(owner_is_alive(owner));
        assert_int_equal(owner_get_affinity(owner, &cpus), OWNER_E_NO_PROCESS);
        (void)snprintf(expected, sizeof(expected), "cgroup %s", group.path);
        assert_string_equal(owner_format(owner, text), expected);
        assert_string_equal(owner_format_short(owner, text), expected);

        assert_int_equal(owner_new(getpid(), &process), 0);
        (void)snprintf(expected, sizeof(expected), "%s (pid %i)", process->command, (int)getpid());
        assert_string_equal(owner_format(process, text), expected);
        (void)snprintf(expected, sizeof(expected), "pid %i", (int)getpid());
        assert_string_equal(owner_format_short(process, text), expected);

        group_remove(&group);
        assert_false(owner_is_alive(owner));
        assert_int_equal(owner_new_cgroup(group.path, &none), OWNER_E_NO_CGROUP);
        assert_null(none);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_path),    cmocka_unit_test(test_unit), cmocka_unit_test(test_has_path),
                cmocka_unit_test(test_life),    cmocka_unit_test(test_none), cmocka_unit_test(test_threaded),
                cmocka_unit_test(test_process), cmocka_unit_test(test_list), cmocka_unit_test(test_owner),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
