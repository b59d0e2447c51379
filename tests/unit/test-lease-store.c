/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The directory of leases. Where it has to fail, it lies on a file system of the test's own, in a mount
 * namespace of its own, which is full, or read-only.
 */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "broker/lease-store.h"
#include "tests/unit/lease-sample.h"
#include "tests/unit/tree.h"

#define DIRECTORY LEASE_STORE_PATH "/"
#define SAID      "/" LEASE_STORE_PATH "/"
#define ID_A      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B      "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ID_C      "cccccccccccccccccccccccccccccccc"
#define ID_D      "dddddddddddddddddddddddddddddddd"
#define ID_E      "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"

/* What a load has told, a line for each. */
typedef struct Seen {
        char found[1024];
        char problems[4096];
        LeaseStore *store;
        int answer;
} Seen;

static void add_line(char *text, size_t size, const char *line) {
        size_t n = strlen(text);

        assert_in_range(snprintf(text + n, size - n, "%s\n", line), 1, size - n - 1);
}

static int on_found(LeaseRecord *record, void *userdata) {
        Seen *seen = userdata;

        add_line(seen->found, sizeof(seen->found), record->id);
        return seen->answer;
}

static void on_problem(const char *sentence, void *userdata) {
        Seen *seen = userdata;

        add_line(seen->problems, sizeof(seen->problems), sentence);
}

static LeaseStore *store_of(const Tree *tree) {
        LeaseStore *store;

        assert_int_equal(lease_store_new(tree->fd, SAMPLE_BOOT, &store), 0);
        return store;
}

/* What a broker finds that starts now. */
static void load(const Tree *tree, const char *found, const char *problems) {
        _cleanup_(lease_store_freep) LeaseStore *store = store_of(tree);
        Seen seen = {0};

        assert_int_equal(lease_store_load(store, on_found, on_problem, &seen), 0);
        assert_string_equal(seen.found, found);
        assert_string_equal(seen.problems, problems);
        assert_int_equal(lease_store_flush(store), 0);
}

static int save(LeaseStore *store, const char *id, uint64_t since_usec) {
        _cleanup_(sample_freep) Sample *sample = sample_new();

        assert_int_equal(strlen(id), LEASE_ID_LENGTH);
        memcpy(sample->lease.id, id, LEASE_ID_LENGTH + 1);
        sample->lease.since_usec = since_usec;
        return lease_store_save(store, &sample->lease);
}

static bool is_there(const Tree *tree, const char *path) {
        struct stat st;

        return fstatat(tree->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static unsigned mode_of(const Tree *tree, const char *path) {
        struct stat st;

        assert_int_equal(fstatat(tree->fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
        return st.st_mode & 07777;
}

/* How many entries the directory has. */
static unsigned count(const Tree *tree) {
        int fd = openat(tree->fd, LEASE_STORE_PATH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_(closedirp) DIR *dir = fdopendir(fd);
        struct dirent *entry;
        unsigned n = 0;

        assert_non_null(dir);
        while (fs_readdir(dir, &entry) == 0 && entry)
                n += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
        return n;
}

static char *read_text(const Tree *tree, const char *path) {
        char *data;
        size_t n;

        assert_int_equal(fs_read_all(tree->fd, path, 1 << 20, &data, &n), 0);
        return data;
}

static void test_life(void **state) {
        const Tree *tree = *state;
        _cleanup_(lease_store_freep) LeaseStore *store = store_of(tree);
        _cleanup_(sample_freep) Sample *sample = sample_new();
        _cleanup_(freep) char *expected = NULL, *first = NULL, *second = NULL;

        load(tree, "", "");
        expected = sample_write(sample);
        assert_int_equal(lease_store_save(store, &sample->lease), 0);
        first = read_text(tree, DIRECTORY SAMPLE_ID);
        assert_string_equal(first, expected);
        load(tree, SAMPLE_ID "\n", "");

        /* Written again, it is still one. */
        sample->lease.restart_required = true;
        assert_int_equal(lease_store_save(store, &sample->lease), 0);
        second = read_text(tree, DIRECTORY SAMPLE_ID);
        assert_string_not_equal(second, expected);
        assert_int_equal(count(tree), 1);

        lease_store_remove(store, SAMPLE_ID);
        assert_int_equal(count(tree), 0);
        lease_store_remove(store, SAMPLE_ID);
        assert_int_equal(lease_store_flush(store), 0);
        load(tree, "", "");
}

/* What a request id is, is nobody's business but its owner's. */
static void test_modes(void **state) {
        const Tree *tree = *state;
        mode_t mask = umask(0);
        _cleanup_(lease_store_freep) LeaseStore *store = store_of(tree);

        assert_int_equal(save(store, ID_A, 1), 0);
        (void)umask(mask);
        assert_int_equal(mode_of(tree, "run/spe-broker"), 0755);
        assert_int_equal(mode_of(tree, LEASE_STORE_PATH), 0700);
        assert_int_equal(mode_of(tree, DIRECTORY ID_A), 0600);
}

static void test_not_a_directory(void **state) {
        const Tree *tree = *state;
        LeaseStore *store = NULL;

        tree_mkdir(tree, "elsewhere");
        tree_link(tree, LEASE_STORE_PATH, "../../elsewhere");
        assert_int_equal(lease_store_new(tree->fd, SAMPLE_BOOT, &store), -ENOTDIR);
        tree_unlink(tree, LEASE_STORE_PATH);
        tree_put(tree, LEASE_STORE_PATH, "x");
        assert_int_equal(lease_store_new(tree->fd, SAMPLE_BOOT, &store), -ENOTDIR);
        assert_null(store);
}

static void test_order(void **state) {
        const Tree *tree = *state;
        _cleanup_(lease_store_freep) LeaseStore *store = store_of(tree);

        assert_int_equal(save(store, ID_B, 5), 0);
        assert_int_equal(save(store, ID_D, 4), 0);
        assert_int_equal(save(store, ID_A, 6), 0);
        assert_int_equal(save(store, ID_C, 5), 0);
        assert_int_equal(save(store, ID_E, 5), 0);
        load(tree, ID_D "\n" ID_B "\n" ID_C "\n" ID_E "\n" ID_A "\n", "");
}

static void test_torn(void **state) {
        const Tree *tree = *state;
        _cleanup_(lease_store_freep) LeaseStore *store = store_of(tree);
        _cleanup_(freep) char *good = NULL, *kept = NULL;
        char torn[128];

        assert_int_equal(save(store, ID_A, 1), 0);
        assert_int_equal(save(store, ID_B, 2), 0);
        good = read_text(tree, DIRECTORY ID_A);
        (void)snprintf(torn, sizeof(torn), "%.100s", good);
        tree_put(tree, DIRECTORY ID_C, torn);
        tree_put(tree, DIRECTORY ID_D, good); /* a copy, with the name of another */
        load(tree, ID_A "\n" ID_B "\n",
             SAID ID_C ": not JSON; the lease does not count, the file is now called " ID_C ".bad\n" SAID ID_D
                       ": of another lease than its name says; the lease does not count, the file is now "
                       "called " ID_D ".bad\n");
        kept = read_text(tree, DIRECTORY ID_C ".bad");
        assert_string_equal(kept, torn);
        assert_false(is_there(tree, DIRECTORY ID_C));

        /* Told once, and left alone from then on. */
        load(tree, ID_A "\n" ID_B "\n", "");
        assert_int_equal(count(tree), 4);
}

/* A name that could be a lease's, of something that must not be opened, or followed. */
static void test_not_regular(void **state) {
        const Tree *tree = *state;
        _cleanup_(lease_store_freep) LeaseStore *store = store_of(tree);
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        Seen seen = {0};

        assert_int_equal(save(store, ID_A, 1), 0);
        tree_mkdir(tree, DIRECTORY ID_B);
        tree_fifo(tree, DIRECTORY ID_C);
        tree_link(tree, DIRECTORY ID_D, ID_A);
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/" DIRECTORY ID_E, tree->path);
        assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
        tree_link(tree, DIRECTORY SAMPLE_ID, "/dev/zero");

        assert_int_equal(lease_store_load(store, on_found, on_problem, &seen), 0);
        assert_string_equal(seen.found, ID_A "\n");
        for (const char *const *id = (const char *const[]){ID_B, ID_C, ID_D, ID_E, SAMPLE_ID, NULL}; *id;
             id++) {
                char line[256];

                (void)snprintf(line, sizeof(line),
                               SAID "%s: not a regular file; the lease does not count, the file is now "
                                    "called %s.bad\n",
                               *id, *id);
                assert_non_null(strstr(seen.problems, line));
        }
        assert_int_equal(count(tree), 6);
        assert_int_equal(lease_store_flush(store), 0);
        load(tree, ID_A "\n", "");
}

static void test_too_large(void **state) {
        static char text[LEASE_RECORD_MAX + 1];
        const Tree *tree = *state;

        memset(text, ' ', sizeof(text));
        tree_put_n(tree, DIRECTORY ID_A, text, sizeof(text));
        tree_put_n(tree, DIRECTORY ID_B, text, 0);
        load(tree, "",
             SAID ID_A ": too large; the lease does not count, the file is now called " ID_A
                       ".bad\n" SAID ID_B ": not JSON; the lease does not count, the file is now called " ID_B
                       ".bad\n");
}

/* What a writer leaves behind that dies before its rename; and what is somebody else's. */
static void test_others(void **state) {
        const Tree *tree = *state;
        _cleanup_(lease_store_freep) LeaseStore *store = store_of(tree);

        assert_int_equal(save(store, ID_A, 1), 0);
        tree_put(tree, DIRECTORY "." ID_B ".0123abcd", "{");
        tree_put(tree, DIRECTORY "." ID_A ".ffffffff", "");
        load(tree, ID_A "\n", "");
        assert_int_equal(count(tree), 1);

        tree_put(tree, DIRECTORY "README", "");
        load(tree, ID_A "\n",
             "/" LEASE_STORE_PATH ": left alone 1 file that is not the broker's, README among them\n");
        tree_unlink(tree, DIRECTORY "README");

        for (const char *const *name =
                     (const char *const[]){"." ID_B ".0123abc", "." ID_B, ID_B "0",
                                           "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", ID_B ".bak", NULL};
             *name; name++) {
                char path[128];

                (void)snprintf(path, sizeof(path), DIRECTORY "%s", *name);
                tree_put(tree, path, "");
        }
        tree_mkdir(tree, DIRECTORY "." ID_C ".0123abcd");
        {
                Seen seen = {0};

                assert_int_equal(lease_store_load(store, on_found, on_problem, &seen), 0);
                assert_string_equal(seen.found, ID_A "\n");
                assert_non_null(strstr(seen.problems, ": left alone 6 files that are not the broker's, "));
        }
        assert_int_equal(count(tree), 7);
}

static void test_other_boot(void **state) {
        const Tree *tree = *state;
        _cleanup_(lease_store_freep) LeaseStore *store = NULL;

        assert_int_equal(lease_store_new(tree->fd, SAMPLE_OTHER_BOOT, &store), 0);
        {
                _cleanup_(lease_store_freep) LeaseStore *earlier = store_of(tree);

                assert_int_equal(save(earlier, ID_A, 1), 0);
                assert_int_equal(save(earlier, ID_B, 1), 0);
        }
        {
                Seen seen = {0};

                assert_int_equal(lease_store_load(store, on_found, on_problem, &seen), 0);
                assert_string_equal(seen.found, "");
                assert_string_equal(seen.problems,
                                    "/" LEASE_STORE_PATH ": removed 2 leases of another boot\n");
        }
        assert_int_equal(count(tree), 0);
}

static int on_found_remove(LeaseRecord *record, void *userdata) {
        Seen *seen = userdata;

        (void)on_found(record, seen);
        if (strcmp(record->id, ID_A) == 0)
                lease_store_remove(seen->store, record->id);
        if (strcmp(record->id, ID_B) == 0)
                lease_store_set_aside(seen->store, record->id, "there is no such SPU", on_problem, seen);
        return 0;
}

/* Who takes over leases may find that one cannot be, or stop at one. */
static void test_found(void **state) {
        const Tree *tree = *state;
        _cleanup_(lease_store_freep) LeaseStore *store = store_of(tree);
        Seen seen = {.answer = -ENOMEM}, again = {.store = store};

        assert_int_equal(save(store, ID_A, 1), 0);
        assert_int_equal(save(store, ID_B, 2), 0);
        assert_int_equal(save(store, ID_C, 3), 0);
        assert_int_equal(lease_store_load(store, on_found, on_problem, &seen), -ENOMEM);
        assert_string_equal(seen.found, ID_A "\n");
        assert_int_equal(count(tree), 3);

        assert_int_equal(lease_store_load(store, on_found_remove, on_problem, &again), 0);
        assert_string_equal(again.found, ID_A "\n" ID_B "\n" ID_C "\n");
        assert_string_equal(again.problems, SAID ID_B ": there is no such SPU; the lease does not count, the "
                                                      "file is now called " ID_B ".bad\n");
        load(tree, ID_C "\n", "");
        assert_int_equal(count(tree), 2);
}

/* However many are torn, they do not fill the directory. */
static void test_many_bad(void **state) {
        const Tree *tree = *state;
        char path[128];

        for (unsigned i = 0; i < LEASE_STORE_BAD_MAX - 1; i++) {
                (void)snprintf(path, sizeof(path), DIRECTORY "%032x.bad", i);
                tree_put(tree, path, "");
        }
        tree_put(tree, DIRECTORY ID_A, "");
        load(tree, "",
             SAID ID_A ": not JSON; the lease does not count, the file is now called " ID_A ".bad\n");
        tree_put(tree, DIRECTORY ID_B, "");
        load(tree, "",
             SAID ID_B ": not JSON; the lease does not count, and the file is removed: 4096 such files are "
                       "kept already\n");
        assert_int_equal(count(tree), LEASE_STORE_BAD_MAX);
}

/* Mounts a file system of @options where the runtime directory is; small_teardown() takes it away. */
static void mount_small(Tree *tree, const char *options, char *path, size_t size) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
                print_message("no mount namespace: %s\n", strerror(errno));
                skip();
        }

        tree_mkdir(tree, "run/spe-broker");
        (void)snprintf(path, size, "%s/run/spe-broker", tree->path);
        if (mount("tmpfs", path, "tmpfs", 0, options) < 0) {
                print_message("no tmpfs: %s\n", strerror(errno));
                skip();
        }
        /* The old one sees the mounts of the namespace that it was opened in. */
        close(tree->fd);
        tree->fd = open(tree->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(tree->fd >= 0);
}

static int small_teardown(void **state) {
        const Tree *tree = *state;
        char path[64];

        (void)snprintf(path, sizeof(path), "%s/run/spe-broker", tree->path);
        (void)umount2(path, MNT_DETACH);
        return tree_teardown(state);
}

static void test_full(void **state) {
        Tree *tree = *state;
        _cleanup_(lease_store_freep) LeaseStore *store = NULL;
        _cleanup_(freep) char *before = NULL, *after = NULL;
        static char filling[1 << 20];
        char path[64];
        int fd;

        mount_small(tree, "size=1m", path, sizeof(path));
        store = store_of(tree);
        assert_int_equal(save(store, ID_A, 1), 0);
        before = read_text(tree, DIRECTORY ID_A);

        fd = openat(tree->fd, "run/spe-broker/filling", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(write(fd, filling, sizeof(filling)) > 0);
        assert_int_equal(save(store, ID_B, 2), -ENOSPC);
        assert_int_equal(save(store, ID_A, 3), -ENOSPC);
        /* Neither half a file, nor less than there was, nor anything beside it. */
        after = read_text(tree, DIRECTORY ID_A);
        assert_string_equal(after, before);
        assert_int_equal(count(tree), 1);
        load(tree, ID_A "\n", "");

        /* It recovers by itself. */
        assert_int_equal(ftruncate(fd, 0), 0);
        close(fd);
        assert_int_equal(save(store, ID_B, 2), 0);
        assert_int_equal(save(store, ID_A, 3), 0);
        load(tree, ID_B "\n" ID_A "\n", "");
}

static void test_read_only(void **state) {
        Tree *tree = *state;
        _cleanup_(lease_store_freep) LeaseStore *store = NULL, *next = NULL;
        Seen seen = {0};
        char path[64];

        mount_small(tree, "size=1m", path, sizeof(path));
        store = store_of(tree);
        assert_int_equal(save(store, ID_A, 1), 0);
        assert_int_equal(save(store, ID_B, 2), 0);
        assert_int_equal(save(store, ID_C, 3), 0);

        assert_int_equal(mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
        lease_store_remove(store, ID_A);
        lease_store_remove(store, ID_B);
        assert_int_equal(lease_store_flush(store), -EROFS);
        assert_int_equal(save(store, ID_D, 4), -EROFS);
        assert_true(is_there(tree, DIRECTORY ID_A));

        /* With room to write again, what has ended goes before anything else is written. */
        assert_int_equal(mount(NULL, path, NULL, MS_REMOUNT, NULL), 0);
        assert_int_equal(save(store, ID_D, 4), 0);
        assert_false(is_there(tree, DIRECTORY ID_A));
        assert_false(is_there(tree, DIRECTORY ID_B));
        load(tree, ID_C "\n" ID_D "\n", "");

        /* A start on a file system that takes nothing: what is bad does not count, and stands in the way. */
        tree_put(tree, DIRECTORY ID_E, "");
        assert_int_equal(mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
        next = store_of(tree);
        assert_int_equal(lease_store_load(next, on_found, on_problem, &seen), 0);
        assert_string_equal(seen.found, ID_C "\n" ID_D "\n");
        assert_string_equal(seen.problems, SAID ID_E
                            ": not JSON; the lease does not count, and the file cannot be renamed: Read-only "
                            "file system\n");
        assert_int_equal(lease_store_flush(next), -EROFS);
        assert_int_equal(mount(NULL, path, NULL, MS_REMOUNT, NULL), 0);
        assert_int_equal(lease_store_flush(next), 0);
        assert_false(is_there(tree, DIRECTORY ID_E));
}

/* A file that somebody else has removed is gone, and nothing to wait for. */
static void test_taken_away(void **state) {
        const Tree *tree = *state;
        _cleanup_(lease_store_freep) LeaseStore *store = store_of(tree);

        assert_int_equal(save(store, ID_A, 1), 0);
        tree_unlink(tree, DIRECTORY ID_A);
        lease_store_remove(store, ID_A);
        assert_int_equal(lease_store_flush(store), 0);
        assert_int_equal(save(store, ID_A, 1), 0);
        load(tree, ID_A "\n", "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_life, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_modes, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_not_a_directory, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_order, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_torn, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_not_regular, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_too_large, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_others, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_other_boot, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_found, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_many_bad, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_full, tree_setup, small_teardown),
                cmocka_unit_test_setup_teardown(test_read_only, tree_setup, small_teardown),
                cmocka_unit_test_setup_teardown(test_taken_away, tree_setup, tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
