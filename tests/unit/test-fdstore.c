/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * systemd's side is played by the test: a socket for notifications, and a table of what was stored. The
 * descriptors are eventfds, of an arbiter and a reserve that are scripted.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include <cmocka.h>

#include "broker/fdstore.h"
#include "tests/unit/notify-fixture.h"

#define STORED_MAX 16U
#define TEXT_MAX   1024U
#define HIGH       64 /* above what is handed over */
#define PMU_TYPE   8U

struct Arbiter {
        NamedFd kept[4];
        size_t n_kept;
};

struct Gate {
        NamedFd kept[2];
        size_t n_kept;
};

struct Reserve {
        CpuSet held;
        int fds[8];
        uint64_t generation;
};

typedef struct Stored {
        char name[TEXT_MAX];
        int fd;
} Stored;

static struct Fixture {
        int notify;
        sd_event *event;
        FdStore *store;
        Arbiter arbiter;
        Gate gate;
        Reserve reserve;
        unsigned n_dropped;

        Stored stored[STORED_MAX];
        size_t n_stored;
        int barrier; /* not passed yet; -1: there is none */
        unsigned n_messages;
} it;

size_t arbiter_get_kept(const Arbiter *arbiter, NamedFd *kept, size_t n) {
        for (size_t i = 0; i < arbiter->n_kept && i < n; i++)
                kept[i] = arbiter->kept[i];
        return arbiter->n_kept;
}

size_t gate_get_kept(const Gate *gate, NamedFd *kept, size_t n) {
        for (size_t i = 0; i < gate->n_kept && i < n; i++)
                kept[i] = gate->kept[i];
        return gate->n_kept;
}

const CpuSet *reserve_get_held(const Reserve *reserve) {
        return &reserve->held;
}

uint64_t reserve_get_generation(const Reserve *reserve) {
        return reserve->generation;
}

bool reserve_get_kept(const Reserve *reserve, unsigned cpu, char *name, int *ret_fd) {
        if (!cpuset_has(&reserve->held, cpu))
                return false;

        (void)snprintf(name, RESERVE_NAME_MAX, "reserve-%u-%u", PMU_TYPE, cpu);
        *ret_fd = reserve->fds[cpu];
        return true;
}

void reserve_release(Reserve *reserve, unsigned cpu) {
        assert_true(cpuset_has(&reserve->held, cpu));
        close(reserve->fds[cpu]);
        cpuset_remove(&reserve->held, cpu);
        reserve->generation++;
}

static void hold(unsigned cpu) {
        it.reserve.fds[cpu] = eventfd(0, EFD_CLOEXEC);
        assert_true(it.reserve.fds[cpu] >= 0);
        cpuset_add(&it.reserve.held, cpu);
        it.reserve.generation++;
}

static void keep(const char *name) {
        it.arbiter.kept[it.arbiter.n_kept++] = (NamedFd){.name = name, .fd = eventfd(0, EFD_CLOEXEC)};
}

static bool is_same(int a, int b) {
        return syscall(SYS_kcmp, (long)getpid(), (long)getpid(), (long)KCMP_FILE, (long)a, (long)b) == 0;
}

static void on_dropped(void *userdata) {
        assert_ptr_equal(userdata, &it);
        it.n_dropped++;
}

/* As systemd does: a name that is removed is removed as often as it is there. */
static void obey(const char *text, int fd) {
        char name[TEXT_MAX];

        it.n_messages++;
        if (sscanf(text, "FDSTOREREMOVE=1\nFDNAME=%1023[^\n]", name) == 1) {
                for (size_t i = 0; i < it.n_stored;) {
                        if (strcmp(it.stored[i].name, name) != 0) {
                                i++;
                                continue;
                        }
                        close(it.stored[i].fd);
                        it.stored[i] = it.stored[--it.n_stored];
                }
        } else if (strcmp(text, "BARRIER=1") == 0) {
                assert_int_equal(it.barrier, -1); /* one at a time */
                it.barrier = steal_fd(&fd);
        } else {
                char expected[2 * TEXT_MAX];

                assert_int_equal(sscanf(text, "FDSTORE=1\nFDNAME=%1023[^\n]", name), 1);
                (void)snprintf(expected, sizeof(expected), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
                assert_string_equal(text, expected);
                assert_true(fd >= 0 && it.n_stored < STORED_MAX);
                memcpy(it.stored[it.n_stored].name, name, sizeof(name));
                it.stored[it.n_stored++].fd = steal_fd(&fd);
        }

        if (fd >= 0)
                close(fd);
}

/* Reads what systemd was told; returns how many messages. */
static unsigned listen_to(void) {
        unsigned before = it.n_messages;

        (void)notify_receive(it.notify, obey);
        return it.n_messages - before;
}

static const Stored *find(const char *name) {
        const Stored *found = NULL;

        for (size_t i = 0; i < it.n_stored; i++)
                if (strcmp(it.stored[i].name, name) == 0) {
                        assert_null(found);
                        found = &it.stored[i];
                }

        return found;
}

static void assert_stored(const char *name, int fd) {
        const Stored *stored = find(name);

        assert_non_null(stored);
        assert_true(is_same(stored->fd, fd));
}

/* systemd comes to the barrier. */
static void pass_barrier(void) {
        unsigned before = it.n_dropped;

        assert_true(it.barrier >= 0);
        close(steal_fd(&it.barrier));
        while (it.n_dropped == before)
                assert_true(sd_event_run(it.event, 10000000) > 0);
}

static unsigned synchronise(const char *wanted) {
        CpuSet cpus;

        assert_int_equal(cpuset_parse(wanted, strlen(wanted), &cpus), 0);
        fdstore_sync(it.store, &it.arbiter, &it.gate, &it.reserve, &cpus);
        return listen_to();
}

static void assert_held(const char *expected) {
        char text[64];

        (void)cpuset_format(&it.reserve.held, text, sizeof(text));
        assert_string_equal(text, expected);
}

static void start(void) {
        assert_int_equal(sd_event_new(&it.event), 0);
        assert_int_equal(fdstore_new(it.event, on_dropped, &it, &it.store), 0);
}

/* Gives this process descriptors as systemd does, from 3 on; takes them over. */
static void hand_over(const char *names, const int *fds, int n) {
        char text[16];

        for (int i = 0; i < n; i++) {
                assert_int_equal(dup2(fds[i], SD_LISTEN_FDS_START + i), SD_LISTEN_FDS_START + i);
                close(fds[i]);
        }
        (void)snprintf(text, sizeof(text), "%i", getpid());
        assert_int_equal(setenv("LISTEN_PID", text, 1), 0);
        (void)snprintf(text, sizeof(text), "%i", n);
        assert_int_equal(setenv("LISTEN_FDS", text, 1), 0);
        assert_int_equal(setenv("LISTEN_FDNAMES", names, 1), 0);
}

static int move_high(int fd) {
        int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);

        assert_true(high >= 0);
        close(fd);
        return high;
}

static int setup(_unused_ void **state) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char name[sizeof(address.sun_path)];
        int length;

        memset(&it, 0, sizeof(it));
        it.barrier = -1;
        it.notify = move_high(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        length = snprintf(name, sizeof(name), "@test-fdstore-%i", getpid());
        memcpy(address.sun_path + 1, name + 1, (size_t)length - 1);
        assert_int_equal(bind(it.notify, (struct sockaddr *)&address,
                              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)length)),
                         0);
        assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
        assert_int_equal(unsetenv("FDSTORE"), 0);
        return 0;
}

static int teardown(_unused_ void **state) {
        fdstore_free(it.store);
        sd_event_unref(it.event);
        for (size_t i = 0; i < it.n_stored; i++)
                close(it.stored[i].fd);
        for (size_t i = 0; i < it.arbiter.n_kept; i++)
                close(it.arbiter.kept[i].fd);
        CPUSET_FOREACH(cpu, &it.reserve.held)
                close(it.reserve.fds[cpu]);
        if (it.barrier >= 0)
                close(it.barrier);
        close(it.notify);
        /* Nothing of it is left open. */
        for (int fd = SD_LISTEN_FDS_START; fd < 2 * HIGH; fd++)
                assert_int_equal(fcntl(fd, F_GETFD), -1);
        return 0;
}

static void test_stored_and_removed(_unused_ void **state) {
        start();
        fdstore_drop_rest(it.store);
        assert_false(fdstore_is_keeping(it.store)); /* nothing is known yet of what to keep */
        keep("link");
        keep("map");
        hold(0);
        hold(3);
        assert_int_equal(synchronise("0,3"), 4);
        assert_true(fdstore_is_keeping(it.store));
        assert_int_equal(it.n_stored, 4);
        assert_stored("link", it.arbiter.kept[0].fd);
        assert_stored("map", it.arbiter.kept[1].fd);
        assert_stored("reserve-8-0", it.reserve.fds[0]);
        assert_stored("reserve-8-3", it.reserve.fds[3]);

        /* Nothing has changed: nothing is said. */
        assert_int_equal(synchronise("0,3"), 0);

        /* Held until systemd has let go of it. */
        assert_int_equal(synchronise("0"), 2);
        assert_null(find("reserve-8-3"));
        assert_held("0,3");
        assert_int_equal(synchronise("0"), 0);
        assert_held("0,3");
        pass_barrier();
        assert_held("0,3"); /* that is for whoever knows what is wanted now */
        assert_int_equal(synchronise("0"), 0);
        assert_held("0");
        assert_stored("reserve-8-0", it.reserve.fds[0]);
        assert_true(fdstore_is_keeping(it.store));

        /* What the arbiter keeps no more goes, too. */
        close(it.arbiter.kept[--it.arbiter.n_kept].fd);
        assert_int_equal(synchronise("0"), 2);
        assert_null(find("map"));
        assert_int_equal(it.n_stored, 2);
        pass_barrier();
}

/* What the gate keeps is stored behind what the arbiter keeps, with or without that. */
static void test_gate(_unused_ void **state) {
        int fds[] = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};

        start();
        fdstore_drop_rest(it.store);
        keep("map");
        it.gate = (struct Gate){.kept = {{"gate-map", fds[0]}, {"gate-link", fds[1]}}, .n_kept = 2};
        assert_int_equal(synchronise(""), 3);
        assert_stored("map", it.arbiter.kept[0].fd);
        assert_stored("gate-map", fds[0]);
        assert_stored("gate-link", fds[1]);
        assert_int_equal(synchronise(""), 0);

        close(it.arbiter.kept[--it.arbiter.n_kept].fd);
        assert_int_equal(synchronise(""), 2);
        it.gate.n_kept = 0;
        pass_barrier();
        assert_int_equal(synchronise(""), 3);
        assert_int_equal(it.n_stored, 0);
        pass_barrier();
        close(fds[0]);
        close(fds[1]);
}

static void test_wanted_again(_unused_ void **state) {
        start();
        fdstore_drop_rest(it.store);
        hold(1);
        hold(2);
        assert_int_equal(synchronise("1-2"), 2);
        assert_int_equal(synchronise("2"), 2);

        /* Before systemd has said so: it never was free. */
        assert_int_equal(synchronise("1-2"), 1);
        assert_stored("reserve-8-1", it.reserve.fds[1]);
        pass_barrier();
        assert_int_equal(synchronise("1-2"), 0);
        assert_held("1-2");
        assert_stored("reserve-8-1", it.reserve.fds[1]);

        /* A removal behind the barrier takes one of its own. */
        assert_int_equal(synchronise("2"), 2);
        assert_int_equal(synchronise(""), 1);
        pass_barrier();
        assert_int_equal(synchronise(""), 1); /* the second barrier, sent when the first was passed */
        assert_held("2");
        pass_barrier();
        assert_int_equal(synchronise(""), 0);
        assert_held("");
        assert_int_equal(it.n_stored, 0);
}

/* Another file under the same name and number is another one. */
static void test_replaced(_unused_ void **state) {
        int number;

        start();
        fdstore_drop_rest(it.store);
        keep("link");
        hold(1);
        assert_int_equal(synchronise("1"), 2);

        number = it.reserve.fds[1];
        reserve_release(&it.reserve, 1);
        hold(1);
        assert_int_equal(it.reserve.fds[1], number);
        assert_int_equal(synchronise("1"), 2);
        assert_stored("reserve-8-1", it.reserve.fds[1]);

        number = it.arbiter.kept[0].fd;
        close(number);
        it.arbiter.n_kept = 0;
        keep("link");
        assert_int_equal(it.arbiter.kept[0].fd, number);
        assert_int_equal(synchronise("1"), 2);
        assert_stored("link", number);
        assert_int_equal(it.n_stored, 2);
        assert_int_equal(it.barrier, -1); /* nothing has to wait for it */
}

static void test_no_store(_unused_ void **state) {
        assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
        start();
        fdstore_drop_rest(it.store);
        keep("link");
        hold(1);
        hold(2);
        assert_int_equal(synchronise("1-2"), 0);
        assert_false(fdstore_is_keeping(it.store));
        assert_int_equal(synchronise("1"), 0);
        assert_held("1"); /* at once */
}

static void test_size_none(_unused_ void **state) {
        const char *sizes[] = {"0", "", "many", "-1"};

        for (size_t i = 0; i < ELEMENTS_OF(sizes); i++) {
                assert_int_equal(setenv("FDSTORE", sizes[i], 1), 0);
                start();
                fdstore_drop_rest(it.store);
                assert_int_equal(synchronise(""), 0);
                assert_false(fdstore_is_keeping(it.store));
                it.store = fdstore_free(it.store);
                it.event = sd_event_unref(it.event);
        }
}

/* The arbiter's first; and when there is room again, the others. */
static void test_full(_unused_ void **state) {
        assert_int_equal(setenv("FDSTORE", "2", 1), 0);
        start();
        fdstore_drop_rest(it.store);
        keep("zlink");
        hold(1);
        hold(2);
        assert_int_equal(synchronise("1-2"), 2);
        assert_false(fdstore_is_keeping(it.store));
        assert_stored("zlink", it.arbiter.kept[0].fd);
        assert_stored("reserve-8-1", it.reserve.fds[1]);
        assert_held("1-2");

        assert_int_equal(synchronise("2"), 3);
        assert_true(fdstore_is_keeping(it.store));
        assert_stored("reserve-8-2", it.reserve.fds[2]);
        assert_int_equal(it.n_stored, 2);
        pass_barrier();
        assert_int_equal(synchronise("2"), 0);
        assert_held("2");
}

/* Who listens has gone: it is not kept, and nobody waits for an answer. */
static void test_no_answer(_unused_ void **state) {
        start();
        fdstore_drop_rest(it.store);
        hold(1);
        hold(2);
        assert_int_equal(synchronise("1-2"), 2);
        assert_true(fdstore_is_keeping(it.store));
        assert_int_equal(setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1), 0);
        assert_int_equal(synchronise("1"), 0);
        assert_held("1");
        keep("link");
        assert_int_equal(synchronise("1"), 0);
        assert_false(fdstore_is_keeping(it.store));
}

static void test_handed_over(_unused_ void **state) {
        int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd, kept;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        NamedFd *handed;
        size_t n;

        assert_int_equal(bind(listening, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
        assert_int_equal(listen(listening, 1), 0);
        listening = move_high(listening);
        kept = move_high(eventfd(0, EFD_CLOEXEC));
        hand_over("link:varlink:stray:link:reserve-8-5:stray",
                  (int[]){kept, listening, move_high(eventfd(0, EFD_CLOEXEC)),
                          move_high(eventfd(0, EFD_CLOEXEC)), move_high(eventfd(0, EFD_CLOEXEC)),
                          move_high(socket(AF_UNIX, SOCK_STREAM, 0))},
                  6);
        start();
        assert_null(getenv("LISTEN_FDS"));

        fd = fdstore_take_socket(it.store);
        assert_int_equal(fd, SD_LISTEN_FDS_START + 1);
        assert_int_equal(fdstore_take_socket(it.store), -1);
        close(fd);

        handed = fdstore_get_handed(it.store, &n);
        assert_int_equal(n, 5);
        assert_string_equal(handed[0].name, "link");
        assert_string_equal(handed[1].name, "stray");
        assert_string_equal(handed[2].name, "link");
        assert_string_equal(handed[3].name, "reserve-8-5");

        /* The first of two, and a held event, are taken over. */
        it.arbiter.kept[it.arbiter.n_kept++] = (NamedFd){.name = "link", .fd = steal_fd(&handed[0].fd)};
        it.reserve.fds[5] = steal_fd(&handed[3].fd);
        cpuset_add(&it.reserve.held, 5);
        it.reserve.generation++;
        fdstore_drop_rest(it.store);
        assert_int_equal(listen_to(), 2); /* "link" and "stray", for good or to be stored anew */
        assert_int_equal(fcntl(SD_LISTEN_FDS_START + 2, F_GETFD), -1);
        assert_int_equal(fcntl(SD_LISTEN_FDS_START + 5, F_GETFD), -1);
        fdstore_get_handed(it.store, &n);
        assert_int_equal(n, 0);

        /* The held event is there already, and stays. */
        assert_int_equal(synchronise("5"), 1);
        assert_stored("link", it.arbiter.kept[0].fd);
        assert_true(fdstore_is_keeping(it.store));
        assert_int_equal(synchronise(""), 2);
        assert_held("5");
        pass_barrier();
        assert_int_equal(synchronise(""), 0);
        assert_held("");
}

/* Who took a name over may have found that it was not what it was called. */
static void test_handed_over_a_lie(_unused_ void **state) {
        NamedFd *handed;
        size_t n;

        hand_over("link", (int[]){move_high(eventfd(0, EFD_CLOEXEC))}, 1);
        start();
        handed = fdstore_get_handed(it.store, &n);
        assert_int_equal(n, 1);
        close(steal_fd(&handed[0].fd));
        keep("link"); /* most likely with the number of what was closed */
        fdstore_drop_rest(it.store);
        assert_int_equal(synchronise(""), 2);
        assert_stored("link", it.arbiter.kept[0].fd);
}

/* A name could be a line of its own to systemd. */
static void test_names_that_cannot_be_told(_unused_ void **state) {
        hand_over("a\nMAINPID=1:\xff:",
                  (int[]){move_high(eventfd(0, EFD_CLOEXEC)), move_high(eventfd(0, EFD_CLOEXEC)),
                          move_high(eventfd(0, EFD_CLOEXEC))},
                  3);
        start();
        fdstore_drop_rest(it.store);
        assert_int_equal(listen_to(), 0);
        for (int i = 0; i < 3; i++)
                assert_int_equal(fcntl(SD_LISTEN_FDS_START + i, F_GETFD), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_stored_and_removed),
                TEST(test_gate),
                TEST(test_wanted_again),
                TEST(test_replaced),
                TEST(test_no_store),
                TEST(test_size_none),
                TEST(test_full),
                TEST(test_no_answer),
                TEST(test_handed_over),
                TEST(test_handed_over_a_lie),
                TEST(test_names_that_cannot_be_told),
        };

        if (!is_same(0, 0)) {
                puts("this kernel, or the emulator, does not compare descriptors");
                return 77;
        }
        for (int fd = SD_LISTEN_FDS_START; fd < 2 * HIGH; fd++)
                close(fd); /* of whoever started this */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
