/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Pidfds of owners with systemd, whose side is played by the test: it reads in order, removes a name as often
 * as it is there, and keeps each descriptor that it does not have yet.
 */

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "broker/owner-store.h"
#include "tests/unit/notify-fixture.h"

#define ROOM       8U
#define BYTES      4096U
#define STORED_MAX 128U
#define TEXT_MAX   256U

typedef struct Stored {
        char name[TEXT_MAX];
        int fd;
} Stored;

static struct Fixture {
        int notify;
        sd_event *event;
        OwnerStore *store;
        Stored stored[STORED_MAX];
        size_t n_stored;
} it;

static void let_go(size_t i) {
        close(it.stored[i].fd);
        it.stored[i] = it.stored[--it.n_stored];
}

static void obey(const char *text, int fd) {
        char name[TEXT_MAX], expected[2 * TEXT_MAX];

        if (sscanf(text, "FDSTOREREMOVE=1\nFDNAME=%255[^\n]", name) == 1) {
                assert_int_equal(fd, -1);
                for (size_t i = it.n_stored; i > 0; i--)
                        if (strcmp(it.stored[i - 1].name, name) == 0)
                                let_go(i - 1);
                return;
        }

        assert_int_equal(sscanf(text, "FDSTORE=1\nFDNAME=%255[^\n]", name), 1);
        (void)snprintf(expected, sizeof(expected), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
        assert_string_equal(text, expected);
        assert_true(fd >= 0 && it.n_stored < STORED_MAX);
        memcpy(it.stored[it.n_stored].name, name, sizeof(name));
        it.stored[it.n_stored++].fd = fd;
}

/* Reads what systemd was told; returns how many messages. */
static unsigned listen_to(void) {
        return notify_receive(it.notify, obey);
}

static int setup(_unused_ void **state) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        static unsigned n;

        it.notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        (void)snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "spe-owner-store-%i-%u", getpid(),
                       n++);
        if (it.notify < 0 ||
            bind(it.notify, (struct sockaddr *)&address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(address.sun_path + 1))) < 0)
                return -1;

        address.sun_path[0] = '@';
        (void)setenv("NOTIFY_SOCKET", address.sun_path, 1);
        return sd_event_new(&it.event);
}

static int teardown(_unused_ void **state) {
        it.store = owner_store_free(it.store);
        while (it.n_stored > 0)
                let_go(0);
        it.event = sd_event_unref(it.event);
        close(it.notify);
        (void)unsetenv("NOTIFY_SOCKET");
        return 0;
}

/* A broker that is handed what is stored; room of 0: without a store. */
static void begin(size_t room, size_t bytes) {
        NamedFd handed[STORED_MAX];
        char names[STORED_MAX][TEXT_MAX];

        for (size_t i = 0; i < it.n_stored; i++) {
                memcpy(names[i], it.stored[i].name, TEXT_MAX);
                handed[i] = (NamedFd){.name = names[i], .fd = dup(it.stored[i].fd)};
                assert_true(handed[i].fd >= 0);
        }
        assert_int_equal(owner_store_new(it.event, room, bytes, handed, it.n_stored, &it.store), 0);
        for (size_t i = 0; i < it.n_stored; i++)
                assert_int_equal(handed[i].fd < 0, owner_store_is_name(names[i]));
}

static void begin_again(void) {
        it.store = owner_store_free(it.store);
        assert_int_equal(listen_to(), 0);
        begin(ROOM, BYTES);
}

static Owner *process_new(void) {
        Owner *owner;
        pid_t pid;

        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;)
                        pause();
        }
        assert_int_equal(owner_new(pid, &owner), 0);
        return owner;
}

static void end_process(const Owner *owner) {
        assert_int_equal(kill(owner->pid, SIGKILL), 0);
        assert_int_equal(waitpid(owner->pid, NULL, 0), owner->pid);
}

static void process_free(Owner *owner) {
        end_process(owner);
        owner_free(owner);
}

static void name_of(const Owner *owner, char name[static TEXT_MAX]) {
        (void)snprintf(name, TEXT_MAX, "owner-%i-%" PRIu64, (int)owner->pid, owner->start_time);
}

/* How often it is stored. */
static unsigned count_stored(const Owner *owner) {
        char name[TEXT_MAX];
        unsigned n = 0;

        name_of(owner, name);
        for (size_t i = 0; i < it.n_stored; i++)
                n += strcmp(it.stored[i].name, name) == 0;
        return n;
}

static void store_by_hand(const Owner *owner, int fd) {
        name_of(owner, it.stored[it.n_stored].name);
        it.stored[it.n_stored++].fd = dup(fd);
}

/* Until what lingers is gone. */
static void wait_until_gone(const Owner *owner) {
        listen_to();
        while (count_stored(owner) > 0) {
                assert_true(sd_event_run(it.event, UINT64_C(10000000)) > 0);
                listen_to();
        }
}

static void test_names(_unused_ void **state) {
        static const char *const bad[] = {
                "",
                "owner",
                "owner-",
                "owner-1",
                "owner-1-",
                "owner--1",
                "owner-0-5",
                "owner-01-5",
                "owner-1-05",
                "owner-1-5 ",
                "owner-1-5x",
                "owner-1-5-6",
                "owner-2147483648-5",
                "owner-1-18446744073709551616",
                "Owner-1-5",
                "owner-+1-5",
                "owner-1-5555555555555555555555555555555555555555555555555555555555555555",
        };

        assert_true(owner_store_is_name("owner-1-0"));
        assert_true(owner_store_is_name("owner-2147483647-18446744073709551615"));
        for (size_t i = 0; i < ELEMENTS_OF(bad); i++)
                assert_false(owner_store_is_name(bad[i]));
}

/* There before anybody is told of a lease, and known by the next broker, which tells systemd nothing. */
static void test_kept(_unused_ void **state) {
        Owner *owner = process_new(), *found;

        begin(ROOM, BYTES);
        assert_int_equal(owner_store_find(it.store, owner->pid, owner->start_time, &found),
                         OWNER_STORE_E_NONE);
        owner_store_add(it.store, owner);
        owner_store_add(it.store, owner);
        assert_int_equal(listen_to(), 1);
        assert_int_equal(count_stored(owner), 1);

        begin_again();
        assert_int_equal(owner_store_find(it.store, owner->pid, owner->start_time + 1, &found),
                         OWNER_STORE_E_NONE);
        assert_int_equal(owner_store_find(it.store, owner->pid, owner->start_time, &found), 0);
        assert_int_equal(found->pid, owner->pid);
        assert_int_equal(found->start_time, owner->start_time);
        owner_store_add(it.store, found);
        owner_store_drop_rest(it.store);
        assert_int_equal(listen_to(), 0);
        owner_free(found);
        process_free(owner);
}

/* Who acquires and releases all the time is told of once. */
static void test_lingers(_unused_ void **state) {
        Owner *owner = process_new(), *again;

        begin(ROOM, BYTES);
        owner_store_add(it.store, owner);
        for (unsigned i = 0; i < 100; i++) {
                owner_store_remove(it.store, owner);
                assert_int_equal(owner->pidfd, -1); /* the store's now */
                assert_int_equal(owner_new(owner->pid, &again), 0);
                owner_free(owner);
                owner = again;
                owner_store_add(it.store, owner);
        }
        assert_int_equal(listen_to(), 1);
        assert_int_equal(count_stored(owner), 1);

        owner_store_remove(it.store, owner);
        assert_int_equal(listen_to(), 0);
        wait_until_gone(owner);
        /* And it may come again. */
        assert_int_equal(owner_new(owner->pid, &again), 0);
        owner_store_add(it.store, again);
        assert_int_equal(listen_to(), 1);
        assert_int_equal(count_stored(owner), 1);
        owner_free(again);
        process_free(owner);
}

/* A process that is dead goes at once, and a successor of the same name is stored instead. */
static void test_dead(_unused_ void **state) {
        Owner *owner = process_new(), *other = process_new();

        begin(ROOM, BYTES);
        owner_store_add(it.store, owner);
        end_process(owner);
        owner_store_remove(it.store, owner);
        assert_int_equal(listen_to(), 2);
        assert_int_equal(it.n_stored, 0);

        /* One that has died while it lingered. */
        owner->pid = other->pid;
        owner->start_time = other->start_time;
        owner->pidfd = (int)syscall(SYS_pidfd_open, other->pid, 0);
        owner_store_add(it.store, owner);
        owner_store_remove(it.store, owner);
        end_process(other);
        owner->pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0); /* stands for the successor */
        owner_store_add(it.store, owner);
        assert_int_equal(listen_to(), 3);
        assert_int_equal(it.n_stored, 1);
        owner_free(owner);
        owner_free(other);
}

/* What was handed over: a name is no proof. */
static void test_handed(_unused_ void **state) {
        Owner *dead = process_new(), *other = process_new(), *alive = process_new(), *found;
        int fds[2];

        assert_int_equal(pipe(fds), 0);
        store_by_hand(dead, dead->pidfd);
        end_process(dead);
        store_by_hand(other, alive->pidfd); /* another process */
        store_by_hand(alive, fds[0]);       /* no process at all */
        begin(ROOM, BYTES);
        assert_int_equal(owner_store_find(it.store, dead->pid, dead->start_time, &found), OWNER_STORE_E_NONE);
        assert_int_equal(owner_store_find(it.store, other->pid, other->start_time, &found),
                         OWNER_STORE_E_NONE);
        assert_int_equal(owner_store_find(it.store, alive->pid, alive->start_time, &found),
                         OWNER_STORE_E_NONE);
        owner_store_add(it.store, other); /* found otherwise */
        owner_store_drop_rest(it.store);
        assert_int_equal(listen_to(), 4);
        assert_int_equal(it.n_stored, 1);
        assert_int_equal(count_stored(other), 1);
        begin_again();
        assert_int_equal(owner_store_find(it.store, other->pid, other->start_time, &found), 0);
        owner_free(found);

        owner_free(dead);
        process_free(other);
        process_free(alive);
        close(fds[0]);
        close(fds[1]);
}

/* Twice under one name: one is looked at, and it is stored once in the end. */
static void test_twice(_unused_ void **state) {
        Owner *owner = process_new(), *found;

        store_by_hand(owner, owner->pidfd);
        store_by_hand(owner, owner->pidfd);
        begin(ROOM, BYTES);
        assert_int_equal(owner_store_find(it.store, owner->pid, owner->start_time, &found), 0);
        owner_store_add(it.store, found);
        owner_store_drop_rest(it.store);
        assert_int_equal(listen_to(), 2);
        assert_int_equal(count_stored(owner), 1);
        owner_free(found);
        process_free(owner);
}

/* Strangers are left to whoever knows them. */
static void test_strangers(_unused_ void **state) {
        strcpy(it.stored[it.n_stored].name, "owner-x-5");
        it.stored[it.n_stored++].fd = dup(0);
        strcpy(it.stored[it.n_stored].name, "arbiter-0");
        it.stored[it.n_stored++].fd = dup(0);
        begin(ROOM, BYTES);
        owner_store_drop_rest(it.store);
        assert_int_equal(listen_to(), 0);
        assert_int_equal(it.n_stored, 2);
}

static void test_room(_unused_ void **state) {
        Owner *owners[ROOM + 1];

        for (size_t i = 0; i < ELEMENTS_OF(owners); i++)
                owners[i] = process_new();
        begin(ROOM, BYTES);
        for (size_t i = 0; i < ELEMENTS_OF(owners); i++)
                owner_store_add(it.store, owners[i]);
        assert_int_equal(listen_to(), ROOM);
        assert_int_equal(count_stored(owners[ROOM]), 0);
        /* One that lingers makes room. */
        owner_store_remove(it.store, owners[ROOM]);
        owner_store_remove(it.store, owners[3]);
        owner_store_add(it.store, owners[ROOM]);
        assert_int_equal(listen_to(), 2);
        assert_int_equal(count_stored(owners[ROOM]), 1);
        assert_int_equal(count_stored(owners[3]), 0);
        assert_int_equal(it.n_stored, ROOM);
        for (size_t i = 0; i < ELEMENTS_OF(owners); i++)
                process_free(owners[i]);
}

/* All names together go into the environment of the next broker. */
static void test_bytes(_unused_ void **state) {
        Owner *owners[4];
        char name[TEXT_MAX];

        for (size_t i = 0; i < ELEMENTS_OF(owners); i++)
                owners[i] = process_new();
        name_of(owners[0], name);
        begin(ROOM, 2 * (strlen(name) + 1) + 48); /* two, and the longest that there can be */
        for (size_t i = 0; i < ELEMENTS_OF(owners); i++)
                owner_store_add(it.store, owners[i]);
        assert_int_equal(listen_to(), 3);
        for (size_t i = 0; i < ELEMENTS_OF(owners); i++)
                process_free(owners[i]);
}

/* Without a store nobody is told anything, and nothing is held. */
static void test_no_store(_unused_ void **state) {
        Owner *owner = process_new();

        begin(0, BYTES);
        owner_store_add(it.store, owner);
        owner_store_remove(it.store, owner);
        assert_true(owner->pidfd >= 0);
        assert_int_equal(listen_to(), 0);
        process_free(owner);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test_setup_teardown(test_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_lingers, setup, teardown),
                cmocka_unit_test_setup_teardown(test_dead, setup, teardown),
                cmocka_unit_test_setup_teardown(test_handed, setup, teardown),
                cmocka_unit_test_setup_teardown(test_twice, setup, teardown),
                cmocka_unit_test_setup_teardown(test_strangers, setup, teardown),
                cmocka_unit_test_setup_teardown(test_room, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bytes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_store, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
