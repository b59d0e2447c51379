/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Holding, asking and adopting against a model of the kernel's rules for exclusive PMUs, which answers to
 * perf_event_open() in its place, and with every errno that it has. A last test has this machine's answer,
 * whose PMUs do not exclude. What a kernel with PMUs that do says: tests/vm/guest/test_reserve.py.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bpf/reserve.h"
#include "tests/unit/perf-model.h"
#include "util/parse.h"

static Reserve *new_reserve(void) {
        Reserve *reserve = NULL;

        assert_int_equal(reserve_new(&reserve), 0);
        assert_true(cpuset_is_empty(reserve_get_held(reserve)));
        return reserve;
}

static void assert_held(const Reserve *reserve, const char *expected) {
        char text[CPUSET_TEXT_MAX];

        (void)cpuset_format(reserve_get_held(reserve), text, sizeof(text));
        assert_string_equal(text, expected);
}

static CpuSet cpus(const char *text) {
        CpuSet set;

        assert_int_equal(cpuset_parse(text, strlen(text), &set), 0);
        return set;
}

static int reset(void **state) {
        (void)state;
        kernel = (struct Kernel){0};
        return 0;
}

static void test_hold(void **state) {
        _cleanup_(reserve_freep) Reserve *reserve = new_reserve();

        (void)state;
        assert_int_equal(reserve_hold(reserve, SPU, 2), 0);
        assert_held(reserve, "2");
        assert_true(reserve_has(reserve, SPU, 2));
        assert_false(reserve_has(reserve, OTHER_SPU, 2));
        assert_false(reserve_has(reserve, SPU, 1));
        assert_int_equal(open_foreign(SPU, 2), -1);
        assert_int_equal(errno, EBUSY);

        /* Once more is nothing more. */
        kernel.n_calls = 0;
        assert_int_equal(reserve_hold(reserve, SPU, 2), 0);
        assert_int_equal(kernel.n_calls, 0);
        assert_int_equal(reserve_hold(reserve, SPU, 0), 0);
        assert_held(reserve, "0,2");
        assert_int_equal(count_open(), 2);

        reserve_release(reserve, 2);
        reserve_release(reserve, 2);
        reserve_release(reserve, 3);
        assert_held(reserve, "0");
        assert_int_equal(count_open(), 1);
        assert_int_equal(reserve_free(steal_ptr(reserve)), NULL);
        assert_int_equal(count_open(), 0);
}

static void test_busy(void **state) {
        _cleanup_(reserve_freep) Reserve *reserve = new_reserve();
        _cleanup_(closep) int foreign = open_foreign(SPU, 1);

        (void)state;
        assert_int_equal(reserve_hold(reserve, SPU, 1), RESERVE_E_BUSY);
        assert_held(reserve, "");
        assert_int_equal(reserve_ask(reserve, SPU, 1), RESERVE_E_BUSY);
        assert_int_equal(reserve_ask(reserve, SPU, 0), 0);
        assert_int_equal(reserve_hold(reserve, SPU, 0), 0);
        assert_int_equal(count_open(), 2);

        /* What is held is not asked for. */
        kernel.n_calls = 0;
        assert_int_equal(reserve_ask(reserve, SPU, 0), 0);
        assert_int_equal(kernel.n_calls, 0);

        close(steal_fd(&foreign));
        assert_int_equal(reserve_ask(reserve, SPU, 1), 0);
        assert_int_equal(count_open(), 1);
        kernel.task_bound = true;
        assert_int_equal(reserve_ask(reserve, SPU, 1), RESERVE_E_BUSY);
        assert_int_equal(reserve_ask(reserve, OTHER_SPU, 5), 0);
}

/* One CPU, and the type of its SPU is another now. */
static void test_another_type(void **state) {
        _cleanup_(reserve_freep) Reserve *reserve = new_reserve();
        char name[RESERVE_NAME_MAX];
        int fd, before;

        (void)state;
        assert_int_equal(reserve_hold(reserve, SPU, 1), 0);
        assert_true(reserve_get_kept(reserve, 1, name, &before));

        /* Refused: what is held stays. */
        assert_int_equal(reserve_hold(reserve, OTHER_SPU, 1), RESERVE_E_OFF_LINE);
        assert_true(reserve_get_kept(reserve, 1, name, &fd));
        assert_int_equal(fd, before);
        assert_true(fcntl(fd, F_GETFD) >= 0);
        assert_string_equal(name, "reserve-8-1");

        /* Its PMU is back as another; the old event is not in the way. */
        take_off_line(1);
        kernel.offline = CPUSET_NULL;
        kernel.moved = 20;
        assert_int_equal(reserve_hold(reserve, 20, 1), 0);
        assert_true(reserve_get_kept(reserve, 1, name, &fd));
        assert_string_equal(name, "reserve-20-1");
        assert_held(reserve, "1");
        assert_int_equal(count_open(), 1);
        assert_false(reserve_get_kept(reserve, 0, name, &fd));
}

static void test_each_error(void **state) {
        static const struct {
                int error, outcome;
        } cases[] = {
                {EBUSY, RESERVE_E_BUSY},
                {ENODEV, RESERVE_E_OFF_LINE},
                {ENOENT, RESERVE_E_OFF_LINE},
                {EINVAL, RESERVE_E_OFF_LINE},
                {ESRCH, RESERVE_E_OFF_LINE},
                {EOPNOTSUPP, RESERVE_E_SHARED},
                {EACCES, RESERVE_E_DENIED},
                {EPERM, RESERVE_E_DENIED},
                {ENOSYS, RESERVE_E_DENIED},
                {EMFILE, -EMFILE},
                {ENFILE, -ENFILE},
                {ENOMEM, -ENOMEM},
                {ENOSPC, -ENOSPC},
        };
        _cleanup_(reserve_freep) Reserve *reserve = new_reserve();

        (void)state;
        for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
                kernel.error = cases[i].error;
                kernel.fail_n = 0;
                assert_int_equal(reserve_hold(reserve, SPU, 0), cases[i].outcome);
                assert_int_equal(reserve_ask(reserve, SPU, 0), cases[i].outcome);
                assert_int_equal(reserve_try(SPU, 0), cases[i].outcome);
                assert_held(reserve, "");

                /* The second of the two; only this is what it wants. */
                kernel.n_calls = 0;
                kernel.fail_n = 2;
                assert_int_equal(reserve_try(SPU, 0), cases[i].error == EBUSY ? 0 : cases[i].outcome);
                assert_int_equal(kernel.n_calls, 2);
                assert_int_equal(count_open(), 0);
        }
        kernel.error = 0;
        assert_int_equal(reserve_hold(reserve, SPU, 0), 0);
}

static void test_try(void **state) {
        (void)state;
        assert_int_equal(reserve_try(SPU, 0), 0);
        assert_int_equal(reserve_try(NOT_A_LOCK, 0), RESERVE_E_SHARED);
        assert_int_equal(reserve_try(NO_SAMPLING, 0), RESERVE_E_SHARED);
        assert_int_equal(reserve_try(SPU, 4), RESERVE_E_OFF_LINE);
        kernel.task_bound = true;
        assert_int_equal(reserve_try(SPU, 0), RESERVE_E_BUSY);
        assert_int_equal(count_open(), 0);
}

/* Of several task-bound ones, which threads have one. */
static void test_ask_thread(void **state) {
        _cleanup_(reserve_freep) Reserve *reserve = new_reserve();

        (void)state;
        assert_int_equal(reserve_ask_thread(SPU, THREAD, -1), 0);
        assert_int_equal(reserve_ask_thread(SPU, THREAD_GONE, -1), RESERVE_E_OFF_LINE);
        assert_int_equal(reserve_ask_thread(OTHER_SPU, THREAD, -1), RESERVE_E_OFF_LINE);
        assert_int_equal(reserve_ask_thread(SPU, THREAD, 4), RESERVE_E_OFF_LINE);

        kernel.task_bound = true;
        kernel.thread = THREAD;
        assert_int_equal(reserve_ask_thread(SPU, THREAD, -1), RESERVE_E_BUSY);
        assert_int_equal(reserve_ask_thread(SPU, THREAD, 2), RESERVE_E_BUSY);
        assert_int_equal(reserve_ask_thread(SPU, THREAD + 10, -1), 0);

        kernel.task_bound = false;
        assert_int_equal(reserve_hold(reserve, SPU, 1), 0);
        assert_int_equal(reserve_ask_thread(SPU, THREAD, 2), RESERVE_E_BUSY);
        assert_int_equal(count_open(), 1);
        kernel.error = EMFILE;
        assert_int_equal(reserve_ask_thread(SPU, THREAD, 2), -EMFILE);
}

/* There is no such CPU, and no place for it either. */
static void test_beyond(void **state) {
        static const unsigned beyond[] = {CPUSET_MAX, CPUSET_MAX + 1, (unsigned)INT32_MAX + 1, UINT32_MAX};
        _cleanup_(reserve_freep) Reserve *reserve = new_reserve();
        char name[RESERVE_NAME_MAX];
        int fd;

        (void)state;
        for (size_t i = 0; i < ELEMENTS_OF(beyond); i++) {
                assert_int_equal(reserve_hold(reserve, NOT_A_LOCK, beyond[i]), RESERVE_E_OFF_LINE);
                assert_int_equal(reserve_ask(reserve, NOT_A_LOCK, beyond[i]), RESERVE_E_OFF_LINE);
                assert_int_equal(reserve_try(NOT_A_LOCK, beyond[i]), RESERVE_E_OFF_LINE);
                assert_false(reserve_get_kept(reserve, beyond[i], name, &fd));
                reserve_release(reserve, beyond[i]);
        }
        assert_int_equal(kernel.n_calls, 0);
        assert_int_equal(reserve_hold(reserve, NOT_A_LOCK, CPUSET_MAX - 1), 0);
        assert_held(reserve, "4095");
}

/* Off line, and off and on again: what is held there locks nothing any more. */
static void test_look(void **state) {
        _cleanup_(reserve_freep) Reserve *reserve = new_reserve();
        CpuSet online = cpus("0-7");

        (void)state;
        for (unsigned cpu = 0; cpu < 4; cpu++)
                assert_int_equal(reserve_hold(reserve, SPU, cpu), 0);
        assert_int_equal(reserve_hold(reserve, OTHER_SPU, 4), 0);
        reserve_look(reserve, &online);
        assert_held(reserve, "0-4");
        assert_int_equal(count_open(), 5);

        take_off_line(1);
        take_off_line(2);
        cpuset_remove(&kernel.offline, 2);
        cpuset_remove(&online, 1);
        reserve_look(reserve, &online);
        assert_held(reserve, "0,3-4");
        assert_int_equal(count_open(), 3);
        assert_int_equal(reserve_hold(reserve, SPU, 1), RESERVE_E_OFF_LINE);
        assert_int_equal(reserve_hold(reserve, SPU, 2), 0);

        /* The PMU has gone, and is back under another type. */
        kernel.moved = 20;
        reserve_look(reserve, &online);
        assert_held(reserve, "4");
        assert_int_equal(count_open(), 1);
}

/* An answer that says nothing of the event is no reason to let go of it. */
static void test_look_in_vain(void **state) {
        static const int errors[] = {EMFILE, ENOMEM, EACCES, EPERM, EBUSY};
        _cleanup_(reserve_freep) Reserve *reserve = new_reserve();
        CpuSet online = cpus("0-7");

        (void)state;
        assert_int_equal(reserve_hold(reserve, SPU, 3), 0);
        for (size_t i = 0; i < ELEMENTS_OF(errors); i++) {
                kernel.error = errors[i];
                reserve_look(reserve, &online);
                assert_held(reserve, "3");
        }
        kernel.error = EOPNOTSUPP;
        reserve_look(reserve, &online);
        assert_held(reserve, "");
}

/* What one run gives away, the next takes over. */
static void test_adopt(void **state) {
        _cleanup_(reserve_freep) Reserve *first = new_reserve(), *second = new_reserve();
        char names[2][RESERVE_NAME_MAX];
        NamedFd kept[2];
        int fd;

        (void)state;
        assert_int_equal(reserve_hold(first, SPU, 3), 0);
        assert_int_equal(reserve_hold(first, OTHER_SPU, 4), 0);
        for (unsigned i = 0; i < 2; i++) {
                assert_true(reserve_get_kept(first, 3 + i, names[i], &kept[i].fd));
                kept[i].name = names[i];
                /* systemd's come without. */
                assert_int_equal(fcntl(kept[i].fd, F_SETFD, 0), 0);
        }
        assert_string_equal(names[0], "reserve-8-3");
        assert_string_equal(names[1], "reserve-9-4");

        fd = kept[0].fd;
        reserve_adopt(second, kept, 2);
        assert_held(second, "3-4");
        assert_int_equal(kept[0].fd, -1);
        assert_int_equal(kept[1].fd, -1);
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        assert_int_equal(reserve_ask(second, SPU, 3), 0);
        /* They were the same descriptors: the first must not close them. */
        reserve_release(second, 3);
        assert_int_equal(open_foreign(SPU, 4), -1);
        reserve_release(second, 4);
        free(steal_ptr(first));
}

/* Of one CPU, the one that is a lock; of two that are, the first. */
static void test_adopt_two(void **state) {
        _cleanup_(reserve_freep) Reserve *reserve = new_reserve();
        _cleanup_(closep) int dead = open_foreign(SPU, 1), dead_type = -1;
        NamedFd kept[4];

        (void)state;
        take_off_line(1);
        kernel.offline = CPUSET_NULL;
        dead_type = open_foreign(OTHER_SPU, 5);
        kept[0] = (NamedFd){"reserve-8-5", dead_type}; /* there is no such CPU of this PMU */
        kept[1] = (NamedFd){"reserve-9-5", open_foreign(NOT_A_LOCK, 5)};
        kept[2] = (NamedFd){"reserve-9-5", open_foreign(NOT_A_LOCK, 5)};
        kept[3] = (NamedFd){"reserve-8-1", dead};
        reserve_adopt(reserve, kept, 4);
        assert_held(reserve, "5");
        assert_int_equal(kept[0].fd, dead_type);
        assert_int_equal(kept[1].fd, -1);
        assert_true(kept[2].fd >= 0);
        assert_int_equal(kept[3].fd, dead);
        close(kept[2].fd);
}

static void test_adopt_garbage(void **state) {
        static const char *const names[] = {
                "",
                "reserve",
                "reserve-",
                "reserve-8",
                "reserve-8-",
                "reserve--3",
                "reserve-8-3-",
                "Reserve-12-3",
                "reserve-8-3 ",
                " reserve-8-3",
                "reserve- 8-3",
                "reserve-+8-3",
                "reserve-8--3",
                "reserve-8-03",
                "reserve-08-3",
                "reserve-0x8-3",
                "reserve-8-4096",
                "reserve-4294967296-3",
                "reserve-4294967304-3", /* 8, if it wrapped around */
                "reserve-8-4294967299",
                "reserve-8-18446744073709551619",
                "reserve-0000000000000000000000000000000000000000008-3",
                "link-12-3",
        };
        _cleanup_(reserve_freep) Reserve *reserve = new_reserve();
        _cleanup_(closep) int event = open_foreign(SPU, 3), file = open("/dev/zero", O_RDONLY | O_CLOEXEC);

        (void)state;
        for (size_t i = 0; i < ELEMENTS_OF(names); i++) {
                NamedFd kept = {names[i], event};

                reserve_adopt(reserve, &kept, 1);
                if (kept.fd != event || !cpuset_is_empty(reserve_get_held(reserve)))
                        fail_msg("'%s' was taken", names[i]);
        }

        /* A good name, and no event behind it. */
        reserve_adopt(reserve, (NamedFd[]){{"reserve-8-3", -1}, {"reserve-8-3", file}}, 2);
        assert_held(reserve, "");
        reserve_adopt(reserve, NULL, 0);

        reserve_adopt(reserve, (NamedFd[]){{"reserve-8-3", event}}, 1);
        assert_held(reserve, "3");
        (void)steal_fd(&event);
}

/* This machine's: the number of a PMU that is here, and that lets two on one CPU. */
static void test_here(void **state) {
        _cleanup_(reserve_freep) Reserve *reserve = new_reserve();
        _cleanup_(fclosep) FILE *file = fopen("/sys/bus/event_source/devices/msr/type", "re");
        char text[16], name[RESERVE_NAME_MAX];
        NamedFd kept = {name, -1};
        uint64_t type;
        int r, fd;

        (void)state;
        kernel.real = true;
        if (!file)
                skip();
        assert_non_null(fgets(text, sizeof(text), file));
        text[strcspn(text, "\n")] = '\0';
        assert_int_equal(parse_u64(text, UINT32_MAX, &type), 0);
        r = reserve_try((uint32_t)type, 0);
        if (r == RESERVE_E_DENIED)
                skip();
        assert_int_equal(r, RESERVE_E_SHARED);

        assert_int_equal(reserve_ask(reserve, UINT32_MAX, 0), RESERVE_E_OFF_LINE);
        assert_int_equal(reserve_ask(reserve, (uint32_t)type, CPUSET_MAX - 1), RESERVE_E_OFF_LINE);
        assert_int_equal(reserve_hold(reserve, (uint32_t)type, 0), 0);
        assert_true(reserve_get_kept(reserve, 0, name, &fd));
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);

        /* An event, but no lock: not to be taken for one. A file is not even that. */
        kept.fd = fd;
        reserve_adopt(reserve, &kept, 1);
        assert_int_equal(kept.fd, fd);
        reserve_look(reserve, &(CpuSet){{1}});
        assert_held(reserve, "");
        kept.fd = fileno(file);
        reserve_adopt(reserve, &kept, 1);
        assert_int_equal(kept.fd, fileno(file));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_hold, reset),
                cmocka_unit_test_setup(test_busy, reset),
                cmocka_unit_test_setup(test_another_type, reset),
                cmocka_unit_test_setup(test_each_error, reset),
                cmocka_unit_test_setup(test_try, reset),
                cmocka_unit_test_setup(test_ask_thread, reset),
                cmocka_unit_test_setup(test_beyond, reset),
                cmocka_unit_test_setup(test_look, reset),
                cmocka_unit_test_setup(test_look_in_vain, reset),
                cmocka_unit_test_setup(test_adopt, reset),
                cmocka_unit_test_setup(test_adopt_two, reset),
                cmocka_unit_test_setup(test_adopt_garbage, reset),
                cmocka_unit_test_setup(test_here, reset),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
