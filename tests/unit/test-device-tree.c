/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <sys/resource.h>

#include "host/device-tree.h"
#include "tests/unit/tree.h"

#define WORD "arm,statistical-profiling-extension-v1"

static void put_node(const Tree *tree, const char *path, const char *property, const void *text, size_t n) {
        char name[PATH_MAX];

        (void)snprintf(name, sizeof(name), DEVICE_TREE_PATH "%s/%s", path, property);
        tree_put_n(tree, name, text, n);
}

#define PUT(tree, path, property, text) put_node(tree, path, property, text, sizeof(text))

static DeviceTreeNodes find(const Tree *tree) {
        DeviceTreeNodes nodes;

        assert_int_equal(device_tree_find(tree->fd, WORD, &nodes), 0);
        return nodes;
}

static void test_find(void **state) {
        const Tree *tree = *state;
        DeviceTreeNodes nodes = find(tree);

        assert_int_equal(nodes.n, 0);
        assert_false(nodes.partly);

        PUT(tree, "", "compatible", "vendor,board\0vendor,soc");
        PUT(tree, "/soc/uart@1000", "compatible", "arm,pl011\0arm,primecell");
        nodes = find(tree);
        assert_int_equal(nodes.n, 0);
        assert_false(nodes.partly);

        /* The whole word, anywhere in the list. */
        PUT(tree, "/spe-a", "compatible", WORD "x");
        PUT(tree, "/spe-b", "compatible", "x" WORD);
        PUT(tree, "/spe-c", "model", WORD);
        assert_int_equal(find(tree).n, 0);
        PUT(tree, "/soc/spe", "compatible", "vendor,spe\0" WORD);
        nodes = find(tree);
        assert_int_equal(nodes.n, 1);
        assert_int_equal(nodes.n_disabled, 0);
        assert_string_equal(nodes.first, "/soc/spe");
}

static void test_status(void **state) {
        const Tree *tree = *state;
        DeviceTreeNodes nodes;

        PUT(tree, "/spe-0", "compatible", WORD);
        PUT(tree, "/spe-0", "status", "disabled");
        nodes = find(tree);
        assert_int_equal(nodes.n, 1);
        assert_int_equal(nodes.n_disabled, 1);
        assert_string_equal(nodes.first, "/spe-0");

        /* One that counts is told before one that does not. */
        PUT(tree, "/spe-1", "compatible", WORD);
        PUT(tree, "/spe-1", "status", "okay");
        nodes = find(tree);
        assert_int_equal(nodes.n, 2);
        assert_int_equal(nodes.n_disabled, 1);
        assert_string_equal(nodes.first, "/spe-1");
        PUT(tree, "/spe-0", "status", "ok");
        assert_int_equal(find(tree).n_disabled, 0);
        PUT(tree, "/spe-0", "status", "fail");
        assert_int_equal(find(tree).n_disabled, 1);
}

static void test_interrupts(void **state) {
        const Tree *tree = *state;

        PUT(tree, "/spe-0", "compatible", WORD);
        PUT(tree, "/spe-1", "compatible", WORD);
        PUT(tree, "/spe-2", "compatible", WORD);
        PUT(tree, "/spe-2", "status", "disabled");
        assert_int_equal(find(tree).n_no_interrupt, 2);
        PUT(tree, "/spe-0", "interrupts", "x");
        assert_int_equal(find(tree).n_no_interrupt, 1);
        PUT(tree, "/spe-1", "interrupts-extended", "x");
        assert_int_equal(find(tree).n_no_interrupt, 0);
}

static void test_hostile(void **state) {
        const Tree *tree = *state;
        char path[DEVICE_TREE_NODE_MAX + 64] = "", large[4096];
        DeviceTreeNodes nodes;

        /* Links are not followed, what is no file is no property. */
        PUT(tree, "/a", "x", "y");
        tree_link(tree, DEVICE_TREE_PATH "/a/loop", "..");
        tree_fifo(tree, DEVICE_TREE_PATH "/b/compatible");
        tree_mkdir(tree, DEVICE_TREE_PATH "/c/compatible");
        memset(large, 'x', sizeof(large));
        put_node(tree, "/d", "compatible", large, sizeof(large));
        put_node(tree, "/e", "compatible", "", 0);
        put_node(tree, "/f", "compatible", WORD, strlen(WORD)); /* without its NUL */
        nodes = find(tree);
        assert_int_equal(nodes.n, 1);
        assert_string_equal(nodes.first, "/f");
        assert_false(nodes.partly);

        /* Deeper than any: what was not seen is not called absent. */
        for (int i = 0; i < 12; i++)
                memcpy(path + strlen(path), "/n", sizeof("/n"));
        PUT(tree, path, "compatible", WORD);
        nodes = find(tree);
        assert_int_equal(nodes.n, 1);
        assert_true(nodes.partly);
}

static void test_long_names(void **state) {
        const Tree *tree = *state;
        char path[DEVICE_TREE_NODE_MAX + 64];

        path[0] = '/';
        memset(path + 1, 'n', 200);
        path[201] = '/';
        memset(path + 202, 'm', 100);
        path[302] = '\0';
        PUT(tree, path, "compatible", WORD);
        assert_int_equal(find(tree).n, 0);
        assert_true(find(tree).partly);
}

static void test_machine(void **state) {
        const Tree *tree = *state;
        bool is = true;

        assert_int_equal(device_tree_machine_is(tree->fd, "linux,dummy-virt", &is), 0);
        assert_false(is);
        PUT(tree, "", "compatible", "linux,dummy-virt");
        assert_int_equal(device_tree_machine_is(tree->fd, "linux,dummy-virt", &is), 0);
        assert_true(is);
        assert_int_equal(device_tree_machine_is(tree->fd, "linux,dummy", &is), 0);
        assert_false(is);
}

/* Running out of descriptors is no answer. */
static void test_no_descriptors(void **state) {
        const Tree *tree = *state;
        struct rlimit limit, few;
        DeviceTreeNodes nodes;
        int r[4];
        bool is;

        PUT(tree, "/soc/spe", "compatible", WORD);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        for (unsigned i = 0; i < ELEMENTS_OF(r); i++) {
                few = (struct rlimit){.rlim_cur = (rlim_t)tree->fd + 1 + i, .rlim_max = limit.rlim_max};
                assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
                r[i] = device_tree_find(tree->fd, WORD, &nodes);
                if (i == 0)
                        assert_int_equal(device_tree_machine_is(tree->fd, WORD, &is), -EMFILE);
                assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        }
        for (unsigned i = 0; i < ELEMENTS_OF(r); i++)
                assert_int_equal(r[i], -EMFILE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_find, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_status, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_interrupts, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_hostile, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_long_names, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_machine, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_no_descriptors, tree_setup, tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
