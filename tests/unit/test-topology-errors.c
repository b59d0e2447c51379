/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Directories that fail in the middle. */

#include <dirent.h>
#include <errno.h>

#include "host/topology.h"
#include "tests/unit/tree.h"

/* How many names of directories can be read before that fails; -1: all. */
static int names_left = -1;

/* In the place of libc's. */
struct dirent *readdir(DIR *dir) {
        if (names_left == 0) {
                errno = EIO;
                return NULL;
        }
        if (names_left > 0)
                names_left--;

        return (struct dirent *)readdir64(dir);
}

static void put_spu(const Tree *tree, const char *name, const char *type, const char *cpus) {
        char path[PATH_MAX];

        (void)snprintf(path, sizeof(path), "sys/bus/event_source/devices/%s/type", name);
        tree_put(tree, path, type);
        (void)snprintf(path, sizeof(path), "sys/bus/event_source/devices/%s/cpumask", name);
        tree_put(tree, path, cpus);
        (void)snprintf(path, sizeof(path), "sys/bus/event_source/devices/%s/format/ts_enable", name);
        tree_put(tree, path, "config:0\n");
}

/* A directory that cannot be read to its end is not one with fewer SPUs. */
static void test_readdir_fails(void **state) {
        _cleanup_(topology_freep) Topology *topology = NULL;
        const Tree *tree = *state;
        int n;

        tree_put(tree, "sys/devices/system/cpu/online", "0-7\n");
        put_spu(tree, "arm_spe_0", "8\n", "0-3\n");
        put_spu(tree, "arm_spe_1", "9\n", "4-7\n");
        for (n = 0; n < 5; n++) { /* ".", "..", both SPUs, and that it ends */
                names_left = n;
                assert_int_equal(topology_scan(tree->fd, &topology), -EIO);
        }

        /* The first SPU's format/ follows, and is its own problem. */
        names_left = n;
        assert_int_equal(topology_scan(tree->fd, &topology), 0);
        assert_int_equal(topology->n_spus, 2);
        assert_false(topology->spus[0].ready);
        assert_string_equal(topology->spus[0].problem, "format: unreadable");
        topology = topology_free(topology);

        names_left = -1;
        assert_int_equal(topology_scan(tree->fd, &topology), 0);
        assert_true(topology->spus[0].ready && topology->spus[1].ready);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_readdir_fails, tree_setup, tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
