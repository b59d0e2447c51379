/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <sys/socket.h>

#include "host/kernel-log.h"
#include "tests/unit/tree.h"

#define TEXTS_MAX 64U

typedef struct Texts {
        char *texts[TEXTS_MAX];
        size_t n;   /* of all messages */
        size_t max; /* the longest */
} Texts;

static void take(const char *text, void *userdata) {
        Texts *texts = userdata;

        if (texts->n < TEXTS_MAX)
                texts->texts[texts->n] = strdup(text);
        texts->n++;
        if (strlen(text) > texts->max)
                texts->max = strlen(text);
}

static void texts_done(Texts *texts) {
        for (size_t i = 0; i < texts->n && i < TEXTS_MAX; i++)
                free(texts->texts[i]);
        *texts = (Texts){0};
}

static void parse(const char *log, size_t n, size_t piece, Texts *ret_texts) {
        KernelLogReader reader;

        *ret_texts = (Texts){0};
        kernel_log_reader_init(&reader, take, ret_texts);
        for (size_t i = 0; i < n; i += piece)
                kernel_log_reader_feed(&reader, log + i, n - i < piece ? n - i : piece);
        kernel_log_reader_finish(&reader);
}

/* What becomes of one line, whatever the pieces are that it comes in. NULL: nothing. */
static void assert_line(const char *line, const char *expected) {
        static const size_t pieces[] = {1, 7, 4096};

        for (size_t i = 0; i < ELEMENTS_OF(pieces); i++) {
                Texts texts;

                parse(line, strlen(line), pieces[i], &texts);
                assert_int_equal(texts.n, expected ? 1 : 0);
                if (expected)
                        assert_string_equal(texts.texts[0], expected);
                texts_done(&texts);
        }
}

static void test_records(_unused_ void **state) {
        assert_line("6,339,5140900,-;probed for CPUs 0-63", "probed for CPUs 0-63");
        assert_line("4,1,0,c;continued", "continued");
        assert_line("6,1,0,-,caller=T1;who spoke", "who spoke");
        assert_line("6,1,0,-;a; b", "a; b");
        /* The driver core's dictionary is no message. */
        assert_line("6,1,0,-;text\n SUBSYSTEM=platform\n DEVICE=+platform:arm,spe-v1\n", "text");
        /* Written by a process through /dev/kmsg: facility 1 and above. */
        assert_line("7,1,0,-;text", "text");
        assert_line("8,1,0,-;text", NULL);
        assert_line("12,1,0,-;text", NULL);
        assert_line("4294967302,1,0,-;text", NULL);
        /* Escapes; an escaped newline begins no message. */
        assert_line("6,1,0,-;a \\x22b\\x22 \\x5c \\x0akvm [1]: x", "a \"b\" \\ ?kvm [1]: x");
        assert_line("6,1,0,-;\\x", "\\x");
        assert_line("6,1,0,-;\\x4", "\\x4");
        assert_line("6,1,0,-;\\xzz\\X41", "\\xzz\\X41");
        assert_line("6,1,0,-;\\x00\\x1b[31m\\xff", "??[31m?");
        assert_line("6,1,0,-;", NULL);
        /* Not quite a record: text. */
        assert_line("6,1,0", "6,1,0");
        assert_line("6,1,,-;x", "6,1,,-;x");
        assert_line("6,1,0,-", "6,1,0,-");
}

static void test_dmesg(_unused_ void **state) {
        assert_line("[    5.140900] text", "text");
        assert_line("[12345.678901] text", "text");
        assert_line("[    5.140900][    T1] text", "text");
        assert_line("[    5.140900][  C12] text", "text");
        assert_line("[Mon Nov 23 10:02:11 2026] text", "text");
        assert_line("[Sun Nov  1 00:02:11 2026] text", "text");
        assert_line("<6>[    5.140900] text", "text");
        assert_line("<12>[    5.140900] text", NULL);
        assert_line("text", "text");
        assert_line("", NULL);
        assert_line("\n\n", NULL);
        /* The text's own brackets are its own. */
        assert_line("[    5.140900] [drm] text", "[drm] text");
        assert_line("[    5.140900] [    1.000000] text", "[    1.000000] text");
        assert_line("[drm] text", "[drm] text");
        assert_line("[] text", "[] text");
        assert_line("[   ] text", "[   ] text");
        assert_line("[    5.140900", "[    5.140900");
        assert_line("<x> text", "<x> text");
        assert_line("<> text", "<> text");
        assert_line("[Mon Nov 23 10:02:11 2026", "[Mon Nov 23 10:02:11 2026");
        assert_line("[Mon", "[Mon");
        /* Not escaped by dmesg: left as it is. */
        assert_line("[    5.140900] \\x22", "\\x22");
        assert_line("[    5.140900] tab\there \x1b[31m \xc3\xa9 \xff", "tab?here ?[31m ?? ?");
}

static void test_bounds(_unused_ void **state) {
        static char line[100000];
        static const char nul[] = "kvm [1]: a\0b\nnext";
        Texts texts;

        memset(line, 'x', sizeof(line));
        line[sizeof(line) - 5] = '\n';
        parse(line, sizeof(line), 333, &texts);
        assert_int_equal(texts.n, 2);
        assert_int_equal(strlen(texts.texts[0]), KERNEL_LOG_TEXT_MAX - 1);
        assert_string_equal(texts.texts[1], "xxxx");
        texts_done(&texts);

        /* Nothing but heads is as good as nothing. */
        memset(line, '[', sizeof(line));
        parse(line, sizeof(line), sizeof(line), &texts);
        assert_int_equal(texts.n, 1);
        texts_done(&texts);

        parse(nul, sizeof(nul) - 1, 100, &texts);
        assert_int_equal(texts.n, 2);
        assert_string_equal(texts.texts[0], "kvm [1]: a?b");
        assert_string_equal(texts.texts[1], "next");
        texts_done(&texts);
}

static void test_file(void **state) {
        const Tree *tree = *state;
        Texts texts = {0};

        assert_int_equal(kernel_log_read(tree->fd, true, take, &texts), KERNEL_LOG_E_ABSENT);
        tree_put(tree, KERNEL_LOG_FILE, "[    1.000000] one\n6,2,3,-;two\n DEVICE=x\nthree");
        assert_int_equal(kernel_log_read(tree->fd, true, take, &texts), 0);
        assert_int_equal(texts.n, 3);
        assert_string_equal(texts.texts[0], "one");
        assert_string_equal(texts.texts[1], "two");
        assert_string_equal(texts.texts[2], "three");
        texts_done(&texts);

        tree_unlink(tree, KERNEL_LOG_FILE);
        tree_fifo(tree, KERNEL_LOG_FILE);
        assert_int_equal(kernel_log_read(tree->fd, true, take, &texts), KERNEL_LOG_E_UNREADABLE);
        tree_unlink(tree, KERNEL_LOG_FILE);
        tree_mkdir(tree, KERNEL_LOG_FILE);
        assert_int_equal(kernel_log_read(tree->fd, true, take, &texts), KERNEL_LOG_E_UNREADABLE);
        /* The running machine's is a device, and its file is not looked at. */
        tree_put(tree, KERNEL_LOG_DEVICE, "x\n");
        assert_int_equal(kernel_log_read(tree->fd, false, take, &texts), KERNEL_LOG_E_UNREADABLE);
        assert_int_equal(texts.n, 0);
}

/* A device that never ends: read within the bound, and no message is longer than its own. */
static void test_endless(void **state) {
        const Tree *tree = *state;
        Texts texts = {0};

        tree_link(tree, KERNEL_LOG_DEVICE, "/dev/zero");
        assert_int_equal(kernel_log_read(tree->fd, false, take, &texts), 0);
        assert_in_range(texts.n, 1, KERNEL_LOG_BYTES_MAX / 1024);
        assert_in_range(texts.max, 1, KERNEL_LOG_TEXT_MAX - 1);
        texts_done(&texts);
}

static void test_denied(void **state) {
        const Tree *tree = *state;
        uid_t user = geteuid();
        Texts texts = {0};

        tree_put(tree, KERNEL_LOG_FILE, "x\n");
        assert_int_equal(fchmodat(tree->fd, KERNEL_LOG_FILE, 0, 0), 0);
        /* root may read all; nobody gets as far as the file. */
        assert_int_equal(fchmod(tree->fd, 0755), 0);
        assert_int_equal(fchmodat(tree->fd, "var", 0755, 0), 0);
        assert_int_equal(fchmodat(tree->fd, "var/log", 0755, 0), 0);
        if (user == 0)
                assert_int_equal(seteuid(65534), 0);
        assert_int_equal(kernel_log_read(tree->fd, true, take, &texts), KERNEL_LOG_E_DENIED);
        assert_int_equal(seteuid(user), 0);
}

/* One record for each read, until there is none. */
static void test_device(_unused_ void **state) {
        static const char *const records[] = {"6,1,0,-;one\n DEVICE=x\n", "6,2,0,-;two, without its newline",
                                              "6,3,0,-;three\n"};
        int fds[2];
        Texts texts = {0};

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
        for (size_t i = 0; i < ELEMENTS_OF(records); i++)
                assert_int_equal(send(fds[1], records[i], strlen(records[i]), 0), strlen(records[i]));
        assert_int_equal(kernel_log_read_records(fds[0], take, &texts), 0);
        assert_int_equal(texts.n, 3);
        assert_string_equal(texts.texts[0], "one");
        assert_string_equal(texts.texts[1], "two, without its newline");
        assert_string_equal(texts.texts[2], "three");
        texts_done(&texts);
        close(fds[0]);
        close(fds[1]);
        assert_int_equal(kernel_log_read_records(fds[0], take, &texts), KERNEL_LOG_E_UNREADABLE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_records),
                cmocka_unit_test(test_dmesg),
                cmocka_unit_test(test_bounds),
                cmocka_unit_test_setup_teardown(test_file, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_endless, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_denied, tree_setup, tree_teardown),
                cmocka_unit_test(test_device),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
