/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "broker/access.h"

enum {
        GID_READ = 101,
        GID_ACQUIRE,
        GID_ORCHESTRATOR,
        GID_ADMIN,
        GID_OTHER,
};

static gid_t gids[] = {GID_READ, GID_ACQUIRE, GID_ORCHESTRATOR, GID_ADMIN};

static const Config config = {
        .read_group = {.gids = &gids[0], .n = 1},
        .acquire_group = {.gids = &gids[1], .n = 1},
        .orchestrator_group = {.gids = &gids[2], .n = 1},
        .admin_group = {.gids = &gids[3], .n = 1},
};

static unsigned rights(const Config *c, uid_t uid, gid_t gid, gid_t supplementary) {
        const VarlinkPeer peer = {
                .uid = uid, .gid = gid, .pidfd = -1, .groups = &supplementary, .n_groups = 1};

        return (unsigned)access_may_read(c, &peer) | (unsigned)access_may_acquire(c, &peer) << 1 |
               (unsigned)access_is_orchestrator(c, &peer) << 2 |
               (unsigned)access_is_administrator(c, &peer) << 3;
}

/* Each group has its own right and those below it, as the primary group and as a supplementary one. */
static void test_groups(_unused_ void **state) {
        static const unsigned expected[] = {0x1, 0x3, 0x7, 0xf, 0x0};

        for (gid_t gid = GID_READ; gid <= GID_OTHER; gid++) {
                assert_int_equal(rights(&config, 1000, gid, GID_OTHER), expected[gid - GID_READ]);
                assert_int_equal(rights(&config, 1000, GID_OTHER, gid), expected[gid - GID_READ]);
        }
        assert_int_equal(rights(&config, 0, GID_OTHER, GID_OTHER), 0xf);
}

static void test_everyone_reads(_unused_ void **state) {
        Config open = config;

        open.read_group = (GroupList){.everyone = true};
        assert_int_equal(rights(&open, 1000, GID_OTHER, GID_OTHER), 0x1);
}

/* Empty lists give nobody anything, but root. */
static void test_empty(_unused_ void **state) {
        const Config empty = {0};

        assert_int_equal(rights(&empty, 1000, 0, 0), 0x0);
        assert_int_equal(rights(&empty, 0, 0, 0), 0xf);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_groups),
                cmocka_unit_test(test_everyone_reads),
                cmocka_unit_test(test_empty),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
