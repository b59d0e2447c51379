/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* systemd hears that all is well from a loop that gets to its clients, and from no other. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "broker/manager.h"
#include "broker/watchdog.h"
#include "util/clock.h"

#define PATIENCE_USEC 100000U
#define DEADLINE_USEC (10 * USEC_PER_SEC)

typedef struct World {
        sd_event *event;
        sd_event_source *watchdog;
        int fd; /* where systemd listens */
        unsigned n_others;
} World;

static int setup(void **state) {
        static World world;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char path[64];
        int n = snprintf(path, sizeof(path), "@spe-watchdog-%i", (int)getpid());

        world = (World){.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
        assert_true(world.fd >= 0);
        memcpy(address.sun_path + 1, path + 1, (size_t)n - 1);
        assert_int_equal(bind(world.fd, (struct sockaddr *)&address,
                              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n)),
                         0);
        setenv("NOTIFY_SOCKET", path, 1);
        setenv("WATCHDOG_USEC", "100000", 1);
        assert_true(sd_event_new(&world.event) >= 0);
        *state = &world;
        return 0;
}

static int teardown(void **state) {
        World *world = *state;

        sd_event_source_disable_unref(world->watchdog);
        sd_event_unref(world->event);
        close(world->fd);
        unsetenv("NOTIFY_SOCKET");
        unsetenv("WATCHDOG_USEC");
        return 0;
}

/* How many messages there are. */
static unsigned hear(World *world) {
        char text[64];
        unsigned n = 0;
        ssize_t size;

        while ((size = recv(world->fd, text, sizeof(text) - 1, 0)) >= 0) {
                text[size] = '\0';
                assert_string_equal(text, "WATCHDOG=1");
                n++;
        }
        assert_int_equal(errno, EAGAIN);
        return n;
}

static int on_other(sd_event_source *source, void *userdata) {
        World *world = userdata;

        (void)source;
        world->n_others++;
        return 0;
}

/* Has a source that is never done, and turns the loop for some of systemd's patience: how often it is heard.
 */
static unsigned turn_beside(World *world, int64_t priority, unsigned patience) {
        uint64_t end = clock_now_usec() + patience * PATIENCE_USEC;
        sd_event_source *other;

        assert_true(sd_event_add_defer(world->event, &other, on_other, world) >= 0);
        assert_true(sd_event_source_set_priority(other, priority) >= 0);
        assert_true(sd_event_source_set_enabled(other, SD_EVENT_ON) >= 0);
        assert_int_equal(watchdog_new(world->event, &world->watchdog), 0);
        while (clock_now_usec() < end)
                assert_true(sd_event_run(world->event, DEADLINE_USEC) >= 0);
        sd_event_source_disable_unref(other);
        assert_true(world->n_others > 0);
        return hear(world);
}

static void test_idle(void **state) {
        World *world = *state;
        uint64_t begin = clock_now_usec(), last = begin;

        assert_int_equal(watchdog_new(world->event, &world->watchdog), 0);
        for (unsigned n = 0; n < 4;) {
                assert_true(sd_event_run(world->event, DEADLINE_USEC) >= 0);
                if (hear(world) > 0) {
                        n++;
                        last = clock_now_usec();
                }
        }
        /* The first at once, each of the others after half of the time: no more often than that. */
        assert_true(last - begin >= 3 * (PATIENCE_USEC / 2));
}

/* However many clients ask: whoever looks after them says that it does. */
static void test_clients(void **state) {
        World *world = *state;

        assert_true(turn_beside(world, SD_EVENT_PRIORITY_NORMAL, 10) >= 2);
}

/* Work of the broker's own that comes before them, and is never done. */
static void test_never_done(void **state) {
        World *world = *state;

        assert_int_equal(turn_beside(world, MANAGER_PRIORITY_SETTLE, 4), 0);
        /* When it is done after all, it is heard again. */
        assert_true(sd_event_run(world->event, DEADLINE_USEC) >= 0);
        assert_int_equal(hear(world), 1);
}

static void test_nobody_wants_it(void **state) {
        World *world = *state;

        unsetenv("WATCHDOG_USEC");
        assert_int_equal(watchdog_new(world->event, &world->watchdog), 0);
        assert_null(world->watchdog);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_idle, setup, teardown),
                cmocka_unit_test_setup_teardown(test_clients, setup, teardown),
                cmocka_unit_test_setup_teardown(test_never_done, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nobody_wants_it, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
