/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/unit/tree.h"
#include "util/error.h"
#include "util/fs.h"

static void test_read(void **state) {
        Tree *tree = *state;
        char buffer[8];
        size_t n = 0;

        tree_put_n(tree, "seven",
                   "1234\0"
                   "67",
                   7);
        assert_int_equal(fs_read(tree->fd, "seven", buffer, sizeof(buffer), &n), 0);
        assert_int_equal(n, 7);
        assert_memory_equal(buffer,
                            "1234\0"
                            "67\0",
                            8);

        /* The bound is exact: one byte more does not fit. */
        n = 99;
        tree_put_n(tree, "eight", "12345678", 8);
        assert_int_equal(fs_read(tree->fd, "eight", buffer, sizeof(buffer), &n), FS_E_TOO_LARGE);
        assert_int_equal(n, 99);

        tree_put_n(tree, "empty", "", 0);
        assert_int_equal(fs_read(tree->fd, "empty", buffer, sizeof(buffer), &n), 0);
        assert_int_equal(n, 0);
        assert_string_equal(buffer, "");
        assert_int_equal(fs_read(tree->fd, "empty", buffer, 0, &n), -EINVAL);

        /* A good link is followed. */
        assert_int_equal(symlinkat("seven", tree->fd, "link"), 0);
        assert_int_equal(fs_read(tree->fd, "link", buffer, sizeof(buffer), &n), 0);
        assert_int_equal(n, 7);
}

static void test_read_line(void **state) {
        Tree *tree = *state;
        char buffer[16];
        size_t n = 0;

        tree_put_n(tree, "line", "8\n", 2);
        assert_int_equal(fs_read_line(tree->fd, "line", buffer, sizeof(buffer), &n), 0);
        assert_int_equal(n, 1);
        assert_string_equal(buffer, "8");

        tree_put_n(tree, "line", "8\n\n", 3);
        assert_int_equal(fs_read_line(tree->fd, "line", buffer, sizeof(buffer), &n), 0);
        assert_string_equal(buffer, "8\n");

        tree_put_n(tree, "line", "8\0\n", 3);
        assert_int_equal(fs_read_line(tree->fd, "line", buffer, sizeof(buffer), &n), FS_E_UNREADABLE);
        tree_put_n(tree, "line", "\n", 1);
        assert_int_equal(fs_read_line(tree->fd, "line", buffer, sizeof(buffer), &n), 0);
        assert_int_equal(n, 0);
}

/* Everything that is not a readable regular file has its outcome, at once, from all three readers. */
static void test_not_a_file(void **state) {
        static const struct {
                const char *path;
                int outcome;
        } cases[] = {
                {"absent", FS_E_NOT_FOUND},      {"absent/below", FS_E_NOT_FOUND},
                {"file/below", FS_E_NOT_FOUND},  {"dangling", FS_E_NOT_FOUND},
                {"directory", FS_E_NOT_REGULAR}, {"fifo", FS_E_NOT_REGULAR},
                {"socket", FS_E_NOT_REGULAR},    {"to-fifo", FS_E_NOT_REGULAR},
                {"loop", FS_E_UNREADABLE},       {"device", FS_E_NOT_REGULAR},
        };
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        Tree *tree = *state;
        _cleanup_(closep) int socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        tree_put_n(tree, "file", "", 0);
        assert_int_equal(mkdirat(tree->fd, "directory", 0700), 0);
        assert_int_equal(mkfifoat(tree->fd, "fifo", 0600), 0);
        assert_int_equal(symlinkat("nowhere", tree->fd, "dangling"), 0);
        assert_int_equal(symlinkat("fifo", tree->fd, "to-fifo"), 0);
        assert_int_equal(symlinkat("loop", tree->fd, "loop"), 0);
        assert_int_equal(symlinkat("/dev/zero", tree->fd, "device"), 0);
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", tree->path);
        assert_int_equal(bind(socket_fd, (struct sockaddr *)&address, sizeof(address)), 0);

        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                char buffer[16], *data = NULL;
                size_t n = 99;

                assert_int_equal(fs_read(tree->fd, cases[i].path, buffer, sizeof(buffer), &n),
                                 cases[i].outcome);
                assert_int_equal(fs_read_line(tree->fd, cases[i].path, buffer, sizeof(buffer), &n),
                                 cases[i].outcome);
                assert_int_equal(fs_read_all(tree->fd, cases[i].path, 16, &data, &n), cases[i].outcome);
                assert_int_equal(n, 99);
                assert_null(data);
        }
}

static void test_read_all(void **state) {
        enum { SIZE = 100000 };
        _cleanup_(freep) char *data = NULL, *none = NULL, *big = malloc(SIZE);
        Tree *tree = *state;
        size_t n = 0;

        assert_non_null(big);
        for (size_t i = 0; i < SIZE; i++)
                big[i] = (char)(i * 7);
        tree_put_n(tree, "big", big, SIZE);

        assert_int_equal(fs_read_all(tree->fd, "big", SIZE, &data, &n), 0);
        assert_int_equal(n, SIZE);
        assert_memory_equal(data, big, SIZE);
        assert_int_equal(data[SIZE], 0);
        assert_int_equal(fs_read_all(tree->fd, "big", SIZE - 1, &none, &n), FS_E_TOO_LARGE);
        assert_null(none);

        tree_put_n(tree, "big", "", 0);
        assert_int_equal(fs_read_all(tree->fd, "big", 0, &none, &n), 0);
        assert_int_equal(n, 0);
        assert_string_equal(none, "");
}

static unsigned count_entries(const char *path) {
        _cleanup_(closedirp) DIR *dir = opendir(path);
        unsigned n = 0;

        assert_non_null(dir);
        for (struct dirent *entry; (entry = readdir(dir));)
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        n++;
        return n;
}

typedef int (*WriteFn)(int dir_fd, const char *path, const char *data, size_t n, unsigned mode);

static void assert_writes(const Tree *tree, WriteFn write_file) {
        char buffer[16];
        struct stat st;
        mode_t mask;
        size_t n;

        mask = umask(0077);
        assert_int_equal(write_file(tree->fd, "state", "one", 3, 0644), 0);
        (void)umask(mask);
        assert_int_equal(fs_read(tree->fd, "state", buffer, sizeof(buffer), &n), 0);
        assert_string_equal(buffer, "one");
        assert_int_equal(fstatat(tree->fd, "state", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0644);

        assert_int_equal(write_file(tree->fd, "state", "", 0, 0600), 0);
        assert_int_equal(fs_read(tree->fd, "state", buffer, sizeof(buffer), &n), 0);
        assert_int_equal(n, 0);
        assert_int_equal(count_entries(tree->path), 1);

        /* Below a subdirectory; one that is absent is not made. */
        assert_int_equal(mkdirat(tree->fd, "sub", 0700), 0);
        assert_int_equal(write_file(tree->fd, "sub/state", "two", 3, 0600), 0);
        assert_int_equal(fs_read(tree->fd, "sub/state", buffer, sizeof(buffer), &n), 0);
        assert_string_equal(buffer, "two");
        assert_int_equal(write_file(tree->fd, "absent/state", "x", 1, 0600), -ENOENT);
        assert_int_equal(write_file(tree->fd, "sub/", "x", 1, 0600), -EISDIR);

        /* What cannot be replaced stays, and the temporary file does not. */
        assert_int_equal(mkdirat(tree->fd, "sub/directory", 0700), 0);
        assert_int_equal(write_file(tree->fd, "sub/directory", "x", 1, 0600), -EISDIR);
        assert_int_equal(fstatat(tree->fd, "sub/directory", &st, 0), 0);
        assert_true(S_ISDIR(st.st_mode));
        assert_int_equal(fchdir(tree->fd), 0);
        assert_int_equal(count_entries("sub"), 2);
        assert_int_equal(chdir("/"), 0);

        /* A link is replaced, not written through. */
        assert_int_equal(symlinkat("state", tree->fd, "link"), 0);
        assert_int_equal(write_file(tree->fd, "link", "three", 5, 0600), 0);
        assert_int_equal(fs_read(tree->fd, "state", buffer, sizeof(buffer), &n), 0);
        assert_int_equal(n, 0);
}

static void test_write_atomic(void **state) {
        assert_writes(*state, fs_write_atomic);
}

static void test_write_transient(void **state) {
        assert_writes(*state, fs_write_transient);
}

/* What a writer leaves that dies between its two steps can be told from everything else. */
static void test_temporary(void **state) {
        static const char *const others[] = {"",
                                             ".",
                                             "..",
                                             "a",
                                             ".12345678",
                                             "a.12345678",
                                             ".a.1234567",
                                             ".a.123456789",
                                             ".a.1234567g",
                                             ".a.12345678.",
                                             "a.b.12345678",
                                             ".a.ABCDEF12"};
        const Tree *tree = *state;

        assert_true(fs_is_temporary(".a.12345678"));
        assert_true(fs_is_temporary(".a.b.abcdef09"));
        for (size_t i = 0; i < ELEMENTS_OF(others); i++)
                assert_false(fs_is_temporary(others[i]));

        /* Those of one file are removed. */
        tree_put(tree, "d/state", "");
        tree_put(tree, "d/.state.01234567", "");
        tree_put(tree, "d/.state.89abcdef", "");
        tree_put(tree, "d/.state.12", "");
        tree_put(tree, "d/.other.01234567", "");
        tree_put(tree, "d/.state.a.01234567", "");
        tree_put(tree, "d/.stat.01234567", "");
        assert_int_equal(fs_remove_temporary(tree->fd, "d/state"), 0);
        assert_int_equal(fchdir(tree->fd), 0);
        assert_int_equal(count_entries("d"), 5);
        assert_int_equal(chdir("/"), 0);
        assert_int_equal(faccessat(tree->fd, "d/.state.01234567", F_OK, 0), -1);
        assert_int_equal(fs_remove_temporary(tree->fd, "absent/state"), -ENOENT);
        tree_mkdir(tree, "d/.state.22222222");
        assert_int_equal(fs_remove_temporary(tree->fd, "d/state"), -EISDIR);
}

static void test_mkdir_all(void **state) {
        char path[PATH_MAX + 2];
        Tree *tree = *state;
        struct stat st;

        assert_int_equal(fs_mkdir_all(tree->fd, "a/b/c", 0700), 0);
        assert_int_equal(fstatat(tree->fd, "a/b/c", &st, 0), 0);
        assert_true(S_ISDIR(st.st_mode));
        assert_int_equal(fs_mkdir_all(tree->fd, "a/b/c", 0700), 0);
        assert_int_equal(fs_mkdir_all(tree->fd, "a/b//d/", 0700), 0);
        assert_int_equal(fstatat(tree->fd, "a/b/d", &st, 0), 0);

        tree_put_n(tree, "a/file", "", 0);
        assert_int_equal(fs_mkdir_all(tree->fd, "a/file", 0700), -ENOTDIR);
        assert_int_equal(fs_mkdir_all(tree->fd, "a/file/b", 0700), -ENOTDIR);
        memset(path, 'x', sizeof(path) - 1);
        path[sizeof(path) - 1] = '\0';
        assert_int_equal(fs_mkdir_all(tree->fd, path, 0700), -ENAMETOOLONG);
}

/* An error is not the end. */
static void test_readdir(void **state) {
        Tree *tree = *state;
        struct dirent *entry;
        bool found = false;
        DIR *dir;
        int file;

        tree_put(tree, "full/file", "");
        dir = fdopendir(openat(tree->fd, "full", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        assert_non_null(dir);
        for (int n = 0; n < 3; n++) {
                assert_int_equal(fs_readdir(dir, &entry), 0);
                found = found || strcmp(entry->d_name, "file") == 0;
        }
        assert_true(found);
        errno = EIO; /* of something else, earlier */
        assert_int_equal(fs_readdir(dir, &entry), 0);
        assert_null(entry);

        /* What is below it is not a directory any more. */
        file = openat(tree->fd, "full/file", O_RDONLY | O_CLOEXEC);
        assert_true(file >= 0);
        rewinddir(dir);
        assert_int_equal(dup2(file, dirfd(dir)), dirfd(dir));
        assert_int_equal(fs_readdir(dir, &entry), -ENOTDIR);
        assert_null(entry);
        closedir(dir);
        close(file);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_read, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_read_line, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_not_a_file, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_read_all, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_write_atomic, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_write_transient, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_temporary, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_mkdir_all, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_readdir, tree_setup, tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
