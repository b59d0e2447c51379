/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "broker/listen.h"
#include "util/fs.h"

/* Long enough that the whole path does not fit into sockaddr_un. */
#define DEEP                                                                                 \
        "a-directory-whose-name-is-rather-long/another-directory-whose-name-is-even-longer/" \
        "and-one-more-to-be-sure"

typedef struct Fixture {
        char root[PATH_MAX];
        int root_fd;
} Fixture;

static int setup(void **state) {
        static Fixture fixture;
        char base[] = "/tmp/test-listen.XXXXXX";

        assert_non_null(mkdtemp(base));
        snprintf(fixture.root, sizeof(fixture.root), "%s/" DEEP, base);
        assert_int_equal(fs_mkdir_all(AT_FDCWD, fixture.root, 0755), 0);
        fixture.root_fd = open(fixture.root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        assert_true(fixture.root_fd >= 0);
        *state = &fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;
        char command[PATH_MAX + 16];

        close(fixture->root_fd);
        *strstr(fixture->root, "/" DEEP) = 0;
        snprintf(command, sizeof(command), "rm -rf '%s'", fixture->root);
        return system(command);
}

static bool exists(const Fixture *fixture, const char *path) {
        return faccessat(fixture->root_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_usual_place(void **state) {
        Fixture *fixture = *state;
        Listener listener = LISTENER_NULL(fixture->root_fd), second = LISTENER_NULL(fixture->root_fd);
        char target[PATH_MAX];
        struct stat st;
        ssize_t n;

        assert_int_equal(listener_open(&listener, fixture->root, NULL), 0);
        assert_int_equal(fstatat(fixture->root_fd, RUNTIME_DIRECTORY "/" SOCKET_NAME, &st, 0), 0);
        assert_true(S_ISSOCK(st.st_mode));
        assert_int_equal(st.st_mode & 0777, 0666);

        n = readlinkat(fixture->root_fd, REGISTRY_PATH "/io.spebroker.Admin", target, sizeof(target) - 1);
        assert_true(n > 0);
        target[n] = 0;
        assert_string_equal(target, listener.path);
        assert_true(exists(fixture, REGISTRY_PATH "/io.spebroker.Broker"));

        /* Somebody answers: not stale. */
        assert_int_equal(listener_open(&second, fixture->root, NULL), LISTENER_E_IN_USE);
        listener_deinit(&second);
        assert_true(exists(fixture, RUNTIME_DIRECTORY "/" SOCKET_NAME));

        listener_deinit(&listener);
        assert_false(exists(fixture, RUNTIME_DIRECTORY "/" SOCKET_NAME));
        assert_false(exists(fixture, REGISTRY_PATH "/io.spebroker.Broker"));
        assert_false(exists(fixture, REGISTRY_PATH "/io.spebroker.Admin"));
}

/* What a killed daemon left is replaced. */
static void test_stale(void **state) {
        Fixture *fixture = *state;
        Listener dead = LISTENER_NULL(fixture->root_fd), listener = LISTENER_NULL(fixture->root_fd);

        assert_int_equal(listener_open(&dead, fixture->root, NULL), 0);
        close(steal_fd(&dead.fd));
        assert_true(exists(fixture, RUNTIME_DIRECTORY "/" SOCKET_NAME));

        assert_int_equal(listener_open(&listener, fixture->root, NULL), 0);
        listener_deinit(&listener);
        free(dead.path);
}

static void test_path(void **state) {
        Fixture *fixture = *state;
        Listener listener = LISTENER_NULL(fixture->root_fd);
        char path[PATH_MAX + 64];

        snprintf(path, sizeof(path), "%s/private.sock", fixture->root);
        assert_int_equal(listener_open(&listener, NULL, path), 0);
        assert_true(exists(fixture, "private.sock"));
        assert_false(exists(fixture, REGISTRY_PATH));
        listener_deinit(&listener);
        assert_false(exists(fixture, "private.sock"));

        snprintf(path, sizeof(path), "%s/nowhere/private.sock", fixture->root);
        assert_int_equal(listener_open(&listener, NULL, path), -ENOENT);
        listener_deinit(&listener);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_usual_place, setup, teardown),
                cmocka_unit_test_setup_teardown(test_stale, setup, teardown),
                cmocka_unit_test_setup_teardown(test_path, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
