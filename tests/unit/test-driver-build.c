/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "host/driver-build.h"
#include "tests/unit/tree.h"

#define RELEASE     "6.12.48+deb13-arm64"
#define MODULES     "lib/modules/" RELEASE "/"
#define FILE_MODULE "kernel/drivers/perf/arm_spe_pmu.ko"

static DriverBuild find_of(const Tree *tree, const char *release, DriverKind running) {
        _cleanup_(freep) char *config = NULL;
        DriverBuild build;

        assert_int_equal(kernel_config_read(tree->fd, release, &config), 0);
        assert_int_equal(driver_build_find(tree->fd, release, config, running, &build), 0);
        return build;
}

static DriverBuild find(const Tree *tree) {
        return find_of(tree, RELEASE, DRIVER_UNKNOWN);
}

/* depmod's lists alone. */
static void test_lists(void **state) {
        const Tree *tree = *state;

        assert_int_equal(find(tree), DRIVER_BUILD_UNKNOWN);
        tree_put(tree, MODULES "modules.dep", "kernel/drivers/perf/arm-cmn.ko.xz:\n");
        assert_int_equal(find(tree), DRIVER_BUILD_UNKNOWN); /* it may be built in */
        tree_put(tree, MODULES "modules.builtin", "kernel/fs/ext4.ko\n");
        assert_int_equal(find(tree), DRIVER_BUILD_NONE);
        tree_put(tree, MODULES "modules.dep", "kernel/arm-cmn.ko:\n" FILE_MODULE ".zst: kernel/x.ko\n");
        assert_int_equal(find(tree), DRIVER_BUILD_MODULE);
        tree_put(tree, MODULES "modules.dep", "updates/dkms/arm_spe_pmu.ko:\n");
        assert_int_equal(find(tree), DRIVER_BUILD_MODULE);
        tree_put(tree, MODULES "modules.builtin", FILE_MODULE "\n");
        assert_int_equal(find(tree), DRIVER_BUILD_BUILTIN);
        assert_int_equal(find_of(tree, "", DRIVER_UNKNOWN), DRIVER_BUILD_UNKNOWN);
        assert_int_equal(find_of(tree, "6.1", DRIVER_UNKNOWN), DRIVER_BUILD_UNKNOWN);
}

static void test_config(void **state) {
        const Tree *tree = *state;

        tree_put(tree, "boot/config-" RELEASE, "CONFIG_X=y\n# CONFIG_ARM_SPE_PMU is not set\n");
        assert_int_equal(find(tree), DRIVER_BUILD_NONE);
        tree_put(tree, "boot/config-" RELEASE, "CONFIG_ARM_SPE_PMU=y\n");
        assert_int_equal(find(tree), DRIVER_BUILD_BUILTIN);
        tree_put(tree, "boot/config-" RELEASE, "CONFIG_X=y\nCONFIG_ARM_SPE_PMU=m\n");
        assert_int_equal(find(tree), DRIVER_BUILD_MODULE); /* where it is, nobody says */
        tree_put(tree, MODULES "modules.dep", "kernel/drivers/perf/arm-cmn.ko.xz:\n");
        assert_int_equal(find(tree), DRIVER_BUILD_MISSING);
        tree_put(tree, MODULES "modules.dep", FILE_MODULE ":\n");
        assert_int_equal(find(tree), DRIVER_BUILD_MODULE);

        /* Fedora keeps it beside the modules; /boot comes first. */
        tree_put(tree, MODULES "config", "CONFIG_ARM_SPE_PMU=y\n");
        assert_int_equal(find(tree), DRIVER_BUILD_MODULE);
        tree_unlink(tree, "boot/config-" RELEASE);
        assert_int_equal(find(tree), DRIVER_BUILD_BUILTIN);
}

/* What runs is not guessed from what is installed. */
static void test_running(void **state) {
        const Tree *tree = *state;

        tree_put(tree, "boot/config-" RELEASE, "# CONFIG_ARM_SPE_PMU is not set\n");
        assert_int_equal(find_of(tree, RELEASE, DRIVER_MODULE), DRIVER_BUILD_MODULE);
        assert_int_equal(find_of(tree, RELEASE, DRIVER_BUILTIN), DRIVER_BUILD_BUILTIN);
        assert_int_equal(find_of(tree, "", DRIVER_MODULE), DRIVER_BUILD_MODULE);
}

static void test_options(_unused_ void **state) {
        static const char config[] =
                "CONFIG_A=y\nCONFIG_AB=m\nCONFIG_B=12\n# CONFIG_C is not set\nXCONFIG_D=y\n"
                "# CONFIG_E=y\nCONFIG_F=";

        assert_int_equal(kernel_config_option(config, "CONFIG_A"), KERNEL_OPTION_BUILTIN);
        assert_int_equal(kernel_config_option(config, "CONFIG_AB"), KERNEL_OPTION_MODULE);
        assert_int_equal(kernel_config_option(config, "CONFIG_B"), KERNEL_OPTION_OFF);
        assert_int_equal(kernel_config_option(config, "CONFIG_C"), KERNEL_OPTION_OFF);
        assert_int_equal(kernel_config_option(config, "CONFIG_D"), KERNEL_OPTION_OFF);
        assert_int_equal(kernel_config_option(config, "CONFIG_E"), KERNEL_OPTION_OFF);
        assert_int_equal(kernel_config_option(config, "CONFIG_F"), KERNEL_OPTION_OFF);
        assert_int_equal(kernel_config_option(config, "CONFIG_G"), KERNEL_OPTION_OFF);
        assert_int_equal(kernel_config_option(NULL, "CONFIG_A"), KERNEL_OPTION_UNKNOWN);
        assert_int_equal(kernel_config_option("", "CONFIG_A"), KERNEL_OPTION_OFF);
}

static void test_hostile(void **state) {
        const Tree *tree = *state;
        char release[400];

        tree_fifo(tree, "boot/config-" RELEASE);
        tree_fifo(tree, MODULES "modules.dep");
        tree_mkdir(tree, MODULES "modules.builtin");
        tree_mkdir(tree, MODULES "config");
        assert_int_equal(find(tree), DRIVER_BUILD_UNKNOWN);
        memset(release, 'x', sizeof(release));
        release[sizeof(release) - 1] = '\0';
        assert_int_equal(find_of(tree, release, DRIVER_UNKNOWN), DRIVER_BUILD_UNKNOWN);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_lists, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_config, tree_setup, tree_teardown),
                cmocka_unit_test_setup_teardown(test_running, tree_setup, tree_teardown),
                cmocka_unit_test(test_options),
                cmocka_unit_test_setup_teardown(test_hostile, tree_setup, tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
