/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "tests/unit/config.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "broker/config-file.h"

/* What the library makes of odd files, and where we refuse instead. */
static void test_syntax(void **state) {
        static const struct {
                const char *text;
                unsigned line;
                const char *message;
        } bad[] = {
                {"[Limits]\nMaxLeases\n", 2, "Equal sign is missing"},
                {"[Limits]\n=1\n", 2, "Property name is missing"},
                {"[Limits\nMaxLeases=1\n", 1, "No closing bracket"},
                {"[]\n", 1, "Section name is missing"},
                {"[Limits] # x\n", 1, "No closing bracket"},
                {"[Limits]\nMaxLeases=1\n 2\n", 3, "Equal sign is missing"},
                {"[Limits]\n  # indented\n", 2, "Equal sign is missing"},
                {"/* x */\n[Limits]\n", 1, "Equal sign is missing"},
                {"[VM a!b]\nMaxMemory=1G\n", 1, "a section's name is printable ASCII without '!'"},
                {"\n[VM \xc3\xa9]\nMaxMemory=1G\n", 2, "a section's name is printable ASCII without '!'"},
                {"[Limits]\nMax\x01Leases=1\n", 2, "a key's name is printable ASCII without '!'"},
                {"[Limits]\nMaxLeases=\xff\xfe\n", 0, "not UTF-8 text"},
                {"\xff\xfe[Limits]\n", 0, "not UTF-8 text"},
        };
        const Tree *tree = *state;

        for (size_t i = 0; i < ELEMENTS_OF(bad); i++)
                assert_text_fault(tree, bad[i].text, bad[i].line, bad[i].message);

        tree_put_n(tree, CONF,
                   "[Limits]\nMaxLeases=1\0"
                   "2\n",
                   23);
        assert_fault(tree, "/" CONF, 2, "a NUL byte");
}

static void test_good_syntax(void **state) {
        static const char *const good[] = {
                "[Limits]\nMaxLeases=7",
                "[Limits]\r\nMaxLeases=7\r\n",
                "\xef\xbb\xbf[Limits]\nMaxLeases=7\n",
                "[ Limits ]\n\t MaxLeases\t =  7  \n",
                "[LIMITS]\nmaxleases=7\n",
                "\n\n#\n;\n[Limits]\n\n\nMaxLeases=7\n\n",
                "[Limits]\n[Policy]\nDefaultMode=guest\n[Limits]\nMaxLeases=7\n",
        };
        const Tree *tree = *state;

        for (size_t i = 0; i < ELEMENTS_OF(good); i++) {
                Config *config = load_text(tree, good[i]);

                assert_int_equal(config->limits.max_leases, 7);
                assert_string_equal(warnings, "");
                config_free(config);
        }
        config_free(load_text(tree, ""));
        assert_string_equal(warnings, "");
}

/* [VM web] and [VM Web] are two VMs, but one section to the library. */
static void test_case(void **state) {
        const Tree *tree = *state;

        assert_text_fault(tree, "[VM web]\nMaxMemory=1G\n\n[VM Web]\nMaxMemory=2G\n", 4,
                          "this section's name and that on line 1 differ only in case: "
                          "use one spelling, or two files");
}

static void test_hostile_files(void **state) {
        _cleanup_(freep) char *huge = malloc(2 * MIB);
        const Tree *tree = *state;
        size_t n = 0;

        assert_non_null(huge);
        memset(huge, '#', 2 * MIB);
        tree_put_n(tree, CONF, huge, MIB + 1);
        assert_fault(tree, "/" CONF, 0, "too large");
        tree_put_n(tree, CONF, huge, MIB);
        config_free(load(tree));

        for (unsigned i = 0; n < MIB - 32; i++)
                n += (size_t)sprintf(huge + n, "[VM v%u]\n", i);
        tree_put_n(tree, CONF, huge, n);
        assert_fault(tree, "/" CONF, 1025, "more than 1024 sections");
        for (n = 0; n < MIB - 32;)
                n += (size_t)sprintf(huge + n, "[VM v]\n");
        tree_put_n(tree, CONF, huge, n);
        assert_fault(tree, "/" CONF, 8194, "more than 8192 keys");
        for (n = 0; n < MIB - 32;)
                n += (size_t)sprintf(huge + n, "x=1\n");
        tree_put_n(tree, CONF, huge, n);
        assert_fault(tree, "/" CONF, 8193, "more than 8192 keys");

        tree_unlink(tree, CONF);
        tree_fifo(tree, CONF);
        assert_fault(tree, "/" CONF, 0, "not a regular file");
        tree_unlink(tree, CONF);
        tree_mkdir(tree, CONF);
        assert_fault(tree, "/" CONF, 0, "not a regular file");
        tree_unlink(tree, CONF);
        tree_link(tree, CONF, "spe-broker.conf");
        assert_fault(tree, "/" CONF, 0, "unreadable");
}

static void test_hostile_dropins(void **state) {
        const Tree *tree = *state;

        tree_fifo(tree, DROPIN "a.conf");
        assert_fault(tree, "/" DROPIN "a.conf", 0, "not a regular file");
        tree_unlink(tree, DROPIN "a.conf");
        tree_link(tree, DROPIN "a.conf", "missing");
        assert_fault(tree, "/" DROPIN "a.conf", 0, "not there");
        tree_unlink(tree, DROPIN "a.conf");
        for (unsigned i = 0; i < 65; i++) {
                char path[PATH_MAX];

                (void)snprintf(path, sizeof(path), DROPIN "%u.conf", i);
                tree_put(tree, path, "");
                if (i == 63)
                        config_free(load(tree));
        }
        assert_fault(tree, "/" CONF ".d", 0, "more than 64 files");
}

static void test_dropins_no_directory(void **state) {
        const Tree *tree = *state;

        tree_fifo(tree, CONF ".d");
        assert_fault(tree, "/" CONF ".d", 0, "Not a directory");
        tree_unlink(tree, CONF ".d");
        tree_link(tree, CONF ".d", "spe-broker.conf.d");
        assert_fault(tree, "/" CONF ".d", 0, "Too many levels of symbolic links");
}

static int ignore_entry(_unused_ const ConfigEntry *entry, _unused_ void *userdata,
                        _unused_ ConfigFault *fault) {
        return 0;
}

/* More address space than a process has that is not a sanitizer's, whose memory no limit can bound. */
#define ADDRESS_SPACE_MAX (UINT64_C(1) << 40)

/* How a process that may have so many more bytes ends which parses @text. */
static int parse_within(char *text, size_t n, rlim_t more) {
        static const ConfigFileSink sink = {.entry = ignore_entry};
        ConfigFault fault = CONFIG_FAULT_NULL;
        unsigned long pages;
        struct rlimit limit;
        pid_t child;
        FILE *file;
        int status;

        child = fork();
        assert_true(child >= 0);
        if (child > 0) {
                assert_int_equal(waitpid(child, &status, 0), child);
                return status;
        }

        file = fopen("/proc/self/statm", "re");
        if (!file || fscanf(file, "%lu", &pages) != 1) /* NOLINT(cert-err34-c): the kernel's own text */
                _exit(1);
        (void)fclose(file);
        limit.rlim_cur = limit.rlim_max = pages * (rlim_t)sysconf(_SC_PAGESIZE) + more;
        if (limit.rlim_cur > ADDRESS_SPACE_MAX || setrlimit(RLIMIT_AS, &limit) < 0 ||
            mmap(NULL, more + (1 << 20), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
                _exit(2); /* there is no such limit here */
        _exit(-config_file_parse("x", text, n, &sink, &fault));
}

/* However little memory there is, it is enough or it is too little: the library does not get to see that. */
static void test_memory(_unused_ void **state) {
        enum { KEYS = 2048, STEP = 1 << 18, MOST = 5 << 20 };
        unsigned n_fine = 0, n_failed = 0;
        char *text = malloc(KEYS * 16);
        size_t n;

        assert_non_null(text);
        n = (size_t)sprintf(text, "[Limits]\n");
        for (unsigned i = 0; i < KEYS; i++)
                n += (size_t)sprintf(text + n, "k%u=v\n", i);

        for (rlim_t more = 0; more < MOST; more += STEP) {
                int status = parse_within(text, n, more);

                assert_true(WIFEXITED(status));
                if (WEXITSTATUS(status) == 2) {
                        free(text);
                        skip();
                }
                assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == ENOMEM);
                n_fine += WEXITSTATUS(status) == 0;
                n_failed += WEXITSTATUS(status) == ENOMEM;
        }
        assert_true(n_fine > 0 && n_failed > 0);
        free(text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_syntax, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_good_syntax, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_case, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_hostile_files, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_hostile_dropins, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_dropins_no_directory, tree_setup, tree_teardown),
                cmocka_unit_test(test_memory),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
