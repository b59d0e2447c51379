/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "host/midr.h"
#include "tests/unit/tree.h"

static void put(const Tree *tree, unsigned cpu, const char *text) {
        char path[PATH_MAX];

        (void)snprintf(path, sizeof(path), "sys/devices/system/cpu/cpu%u/regs/identification/midr_el1", cpu);
        tree_put(tree, path, text);
}

static void assert_cpus(const CpuSet *set, const char *expected) {
        char text[CPUSET_TEXT_MAX];

        (void)cpuset_format(set, text, sizeof(text));
        assert_string_equal(text, expected);
}

static MidrCores read_cores(const Tree *tree, unsigned n) {
        CpuSet cpus = CPUSET_NULL;
        MidrCores cores;

        cpuset_add_range(&cpus, 0, n - 1);
        assert_int_equal(midr_read(tree->fd, &cpus, &cores), 0);
        return cores;
}

static void test_cores(void **state) {
        const Tree *tree = *state;
        MidrCores cores;

        put(tree, 0, "0x00000000413fd0c1\n"); /* Neoverse N1 r3p1 */
        put(tree, 1, "0x00000000411fd401\n"); /* Neoverse V1 r1p1 */
        put(tree, 2, "0x00000000410fd083\n"); /* Cortex-A72 */
        put(tree, 3, "0x00000000410fd811\n"); /* Cortex-A720: may have it */
        put(tree, 4, "0x00000000481fd010\n"); /* TaiShan v110 */
        put(tree, 5, "0x00000000c00fac30\n"); /* AmpereOne */
        put(tree, 6, "0x00000000490fd0c1\n"); /* nobody's N1 */
        cores = read_cores(tree, 16);
        assert_string_equal(cores.with, "Neoverse N1");
        assert_string_equal(cores.without, "Cortex-A72");
        assert_cpus(&cores.cpus_with, "0-1,4-5");
        assert_cpus(&cores.cpus_without, "2");
        assert_cpus(&cores.cpus_other, "3,6");
}

static void test_bad(void **state) {
        static const char *const texts[] = {
                "",
                "\n",
                "413fd0c1\n",
                "0x\n",
                "0x413fd0c1x\n",
                "0x413fd0c1\n\n",
                "0x 1\n",
                "-1\n",
                "0x-1\n",
                "0x11111111111111111\n",
                "1234567890123456789012345678901234567890\n",
        };
        const Tree *tree = *state;

        for (size_t i = 0; i < ELEMENTS_OF(texts); i++) {
                MidrCores cores;

                put(tree, 0, texts[i]);
                cores = read_cores(tree, 1);
                assert_null(cores.with);
                assert_null(cores.without);
                assert_true(cpuset_is_empty(&cores.cpus_other));
        }
        put(tree, 0, "0x413fd0c1");
        assert_string_equal(read_cores(tree, 1).with, "Neoverse N1");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_cores, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_bad, tree_setup, tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
