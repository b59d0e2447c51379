/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The unit's own numbers must fit the defaults of the configuration, on the largest host there can be. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "broker/descriptors.h"
#include "broker/fdstore.h"

#define UNIT SPE_SOURCE_DIR "/systemd/spe-broker.service"

static uint64_t unit_number(const char *key) {
        FILE *unit = fopen(UNIT, "re");
        char line[1024];
        uint64_t number = 0;

        assert_non_null(unit);
        while (fgets(line, sizeof(line), unit))
                if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == '=')
                        number = strtoull(line + strlen(key) + 1, NULL, 10);
        fclose(unit);
        assert_int_not_equal(number, 0);
        return number;
}

static uint64_t config_default(const char *name) {
        const ConfigKey *key;

        for (size_t i = 0; (key = config_key(i)); i++)
                if (strcmp(key->name, name) == 0)
                        return strtoull(key->default_text, NULL, 10);
        fail_msg("no key %s", name);
        return 0;
}

static Config config_of(uint64_t max_connections, uint64_t max_leases) {
        return (Config){
                .max_connections = (unsigned)max_connections,
                .limits.max_leases = (unsigned)max_leases,
        };
}

static void test_unit_fits_defaults(void **state) {
        Config config = config_of(config_default("MaxConnections"), config_default("MaxLeases"));
        DescriptorCount needed = descriptors_needed(&config, CPUSET_MAX, true);

        (void)state;
        assert_in_range(needed.process, 1, unit_number("LimitNOFILE"));
        assert_int_equal(needed.store, unit_number("FileDescriptorStoreMax"));
        /* What is taken back at start. */
        assert_in_range(needed.store, 1, FDSTORE_MAX);
}

static void test_each_counts(void **state) {
        Config few = config_of(1, 1), connections = config_of(11, 1), leases = config_of(1, 11);
        DescriptorCount base = descriptors_needed(&few, 1, true), n;

        (void)state;
        n = descriptors_needed(&connections, 1, true);
        assert_int_equal(n.process - base.process, 30);
        assert_int_equal(n.store, base.store);

        n = descriptors_needed(&leases, 1, true);
        assert_int_equal(n.process - base.process, 10);
        assert_int_equal(n.store - base.store, 10);

        n = descriptors_needed(&few, 11, true);
        assert_int_equal(n.process - base.process, 20);
        assert_int_equal(n.store - base.store, 10);

        n = descriptors_needed(&few, 1, false);
        assert_int_equal(n.store, 0);
        assert_int_equal(base.process - n.process, 1 + FDSTORE_PROGRAMS_MAX);
}

/* There is an end to what is kept. */
static void test_owners_kept(void **state) {
        Config all = config_of(1, FDSTORE_OWNERS_MAX), more = config_of(1, FDSTORE_OWNERS_MAX + 10);
        DescriptorCount a = descriptors_needed(&all, 1, true), b = descriptors_needed(&more, 1, true);

        (void)state;
        assert_int_equal(b.store, a.store);
        assert_int_equal(b.process - a.process, 10);
}

/* The largest that the configuration takes do not wrap. */
static void test_large(void **state) {
        Config config = config_of(UINT32_MAX, UINT32_MAX);

        (void)state;
        assert_true(descriptors_needed(&config, CPUSET_MAX, true).process > 2 * (uint64_t)UINT32_MAX);
}

static void test_raise(void **state) {
        struct rlimit before, lowered, after;

        (void)state;
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        lowered = before;
        lowered.rlim_cur = before.rlim_max / 2;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &lowered), 0);
        descriptors_raise_limit();
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &after), 0);
        assert_int_equal(after.rlim_cur, before.rlim_max);
        assert_int_equal(after.rlim_max, before.rlim_max);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_unit_fits_defaults),
                cmocka_unit_test(test_each_counts),
                cmocka_unit_test(test_owners_kept),
                cmocka_unit_test(test_large),
                cmocka_unit_test(test_raise),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
