/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "host/simulate.h"
#include "host/topology.h"
#include "tests/unit/tree.h"
#include "util/cpuset.h"
#include "util/error.h"

#define EXIT_SKIPPED 77

static Topology *simulate(const Tree *tree, const char *name) {
        Topology *topology = NULL;

        assert_int_equal(simulate_write(tree->fd, name), 0);
        assert_int_equal(topology_scan(tree->fd, &topology), 0);
        return topology;
}

static void assert_spu(const Topology *topology, const char *name, const char *cpus) {
        const Spu *spu = topology_find(topology, name);
        char text[CPUSET_TEXT_MAX];

        assert_non_null(spu);
        assert_true(spu->ready);
        assert_null(spu->problem);
        assert_int_equal(spu->pmu_type, 8 + spu->index);
        (void)cpuset_format(&spu->cpus, text, sizeof(text));
        assert_string_equal(text, cpus);
        assert_int_equal(spu->max_buffer_size, 0);
        assert_int_equal(spu->capabilities.min_interval, 1024);
        assert_int_equal(spu->capabilities.count_size, 12);
        assert_int_equal(spu->capabilities.arch_inst, 0);
        assert_int_equal(spu->capabilities.ernd, 1);
        assert_int_equal(spu->capabilities.n_formats, 9);
        assert_string_equal(spu->capabilities.formats[0], "branch_filter");
}

/* Every name of the list can be written, and nothing else. */
static void test_names(void **state) {
        const Tree *tree = *state;
        size_t n = 0;

        for (const char *const *name = simulate_names(); *name; name++, n++) {
                _cleanup_(topology_freep) Topology *topology = simulate(tree, *name);
                char text[64];
                size_t len;

                assert_null(topology->problem);
                assert_int_equal(topology->driver, DRIVER_MODULE);
                assert_true(topology->n_spus > 0);
                assert_true(cpuset_equal(&topology->possible, &topology->online));
                assert_int_equal(fs_read(tree->fd, "proc/meminfo", text, sizeof(text), &len), 0);
                assert_string_equal(text, "MemTotal:       67108864 kB\n");
        }
        assert_int_equal(n, 4);
        assert_int_equal(simulate_write(tree->fd, "unknown"), SIMULATE_E_UNKNOWN);
        assert_int_equal(simulate_write(tree->fd, ""), SIMULATE_E_UNKNOWN);
}

static void test_machines(void **state) {
        const Tree *tree = *state;
        Topology *topology;
        const Spu *spu;

        topology = simulate(tree, "neoverse-v1");
        assert_int_equal(topology->n_spus, 1);
        assert_spu(topology, "arm_spe_0", "0-63");
        assert_int_equal(cpuset_count(&topology->online), 64);
        topology_free(topology);

        topology = simulate(tree, "server");
        assert_int_equal(topology->n_spus, 16);
        assert_spu(topology, "arm_spe_0", "0-63");
        assert_spu(topology, "arm_spe_15", "960-1023");
        assert_int_equal(cpuset_count(&topology->online), 1024);
        topology_free(topology);

        /* Smaller than the one before it: nothing of that is left. */
        topology = simulate(tree, "biglittle");
        assert_int_equal(topology->n_spus, 2);
        assert_spu(topology, "arm_spe_0", "0-3");
        assert_spu(topology, "arm_spe_1", "4-11");
        assert_int_equal(cpuset_count(&topology->online), 12);
        topology_free(topology);

        topology = simulate(tree, "partial");
        assert_int_equal(topology->n_spus, 2);
        assert_spu(topology, "arm_spe_0", "0-3");
        spu = topology_find(topology, "arm_spe_1");
        assert_non_null(spu);
        assert_false(spu->ready);
        assert_string_equal(spu->problem, "type: not there; cpumask: not there; format: not there");
        topology_free(topology);
}

/* An unknown name leaves what is there; a known one removes the old tree, but nothing beside it, and nothing
 * that links lead to. */
static void test_old_tree(void **state) {
        _cleanup_(topology_freep) Topology *topology = NULL;
        const Tree *tree = *state;
        struct stat st;

        tree_put(tree, "state/kept", "");
        tree_put(tree, "sys/deep/er/old", "");
        tree_link(tree, "sys/link", "../state");
        tree_link(tree, "proc", "state");
        assert_int_equal(simulate_write(tree->fd, "unknown"), SIMULATE_E_UNKNOWN);
        assert_int_equal(fstatat(tree->fd, "sys/deep/er/old", &st, 0), 0);

        topology = simulate(tree, "biglittle");
        assert_int_equal(topology->n_spus, 2);
        assert_int_equal(fstatat(tree->fd, "state/kept", &st, 0), 0);
        assert_int_equal(fstatat(tree->fd, "sys/deep", &st, 0), -1);
        assert_int_equal(fstatat(tree->fd, "sys/link", &st, AT_SYMLINK_NOFOLLOW), -1);
        assert_int_equal(fstatat(tree->fd, "proc", &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_true(S_ISDIR(st.st_mode));
}

static int write_over_a_mount(const Tree *tree) {
        _cleanup_(closep) int fd = -1;
        struct stat st;

        if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return EXIT_SKIPPED;
        if (chdir(tree->path) < 0 || mount("none", "sys", "tmpfs", 0, NULL) < 0)
                return EXIT_SKIPPED;
        fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || mkdir("sys/kept", 0700) < 0)
                return EXIT_FAILURE;

        if (simulate_write(fd, "biglittle") != -EXDEV)
                return EXIT_FAILURE;
        return stat("sys/kept", &st) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* What is mounted there is not descended into: a mistaken directory does not cost a machine its /sys. */
static void test_mount(void **state) {
        const Tree *tree = *state;
        int status;
        pid_t pid;

        tree_mkdir(tree, "sys");
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                _exit(write_over_a_mount(tree));

        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == EXIT_SKIPPED)
                skip();
        assert_int_equal(WEXITSTATUS(status), EXIT_SUCCESS);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_names, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_machines, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_old_tree, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_mount, tree_setup, tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
