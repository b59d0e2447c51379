/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How many may connect, what happens when there are no descriptors for them, and that none is left behind. */

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/un.h>

#include "tests/unit/server-fixture.h"

#define CALL_EMPTY "{\"method\":\"org.example.test.Empty\"}"
#define CALL_LATER "{\"method\":\"org.example.test.Later\",\"more\":true}"

/* A socket in the abstract namespace, on which the server listens. */
static struct sockaddr_un listen_abstract(Fixture *f, socklen_t *ret_n) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        socklen_t n = sizeof(address);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)),
                         0); /* the kernel names it */
        assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
        assert_int_equal(listen(fd, 128), 0);
        assert_int_equal(varlink_server_listen_fd(f->server, fd), 0);
        *ret_n = n;
        return address;
}

static int connect_abstract(const struct sockaddr_un *address, socklen_t n) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (const struct sockaddr *)address, n), 0);
        return fd;
}

static void test_connection_limits(void **state) {
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;
        struct sockaddr_un address;
        Fixture *f = *state;
        int fds[60];
        socklen_t n;

        closep(&f->peer);
        pump(f);
        address = listen_abstract(f, &n);
        limits.connections_per_user_max = 40;
        varlink_server_set_limits(f->server, &limits);
        for (unsigned i = 0; i < ELEMENTS_OF(fds); i++)
                fds[i] = connect_abstract(&address, n);
        pump(f);
        assert_int_equal(get_counters(f).connections, 40);
        assert_int_equal(get_counters(f).refused_connections, 20);

        f->peer = fds[59];
        expect_closed(f);
        f->eof = false;
        f->peer = fds[39];
        send_message(f, CALL_EMPTY);
        expect_message(f, "{}");

        /* One goes, one may come; then the limit in all says the same. */
        closep(&fds[0]);
        pump(f);
        fds[0] = connect_abstract(&address, n);
        pump(f);
        assert_int_equal(get_counters(f).connections, 40);
        limits.connections_per_user_max = 1000;
        limits.connections_max = 41;
        varlink_server_set_limits(f->server, &limits);
        closep(&fds[50]);
        closep(&fds[51]);
        fds[50] = connect_abstract(&address, n);
        fds[51] = connect_abstract(&address, n);
        pump(f);
        assert_int_equal(get_counters(f).connections, 41);
        assert_int_equal(get_counters(f).refused_connections, 21);

        for (unsigned i = 0; i < ELEMENTS_OF(fds); i++)
                closep(&fds[i]);
        pump(f);
        assert_int_equal(get_counters(f).connections, 0);
        f->peer = -1;
}

static int connect_as(uid_t uid, const struct sockaddr_un *address, socklen_t n) {
        int fd;

        assert_int_equal(seteuid(uid), 0);
        fd = connect_abstract(address, n);
        assert_int_equal(seteuid(0), 0);
        return fd;
}

/* What is kept for root, others do not get, and what root has beyond it, it does not take from them. */
static void test_kept_for_root(void **state) {
        VarlinkServerLimits limits = VARLINK_SERVER_LIMITS_DEFAULT;
        struct sockaddr_un address;
        Fixture *f = *state;
        int users[50], root[8];
        socklen_t n;

        if (geteuid() != 0)
                skip();
        address = listen_abstract(f, &n);
        limits.connections_max = 40;
        limits.connections_for_root = 3;
        varlink_server_set_limits(f->server, &limits);
        for (unsigned i = 0; i < ELEMENTS_OF(users); i++)
                users[i] = connect_as(1 + i % 2, &address, n);
        pump(f);
        assert_int_equal(get_counters(f).connections, 1 + 37);
        assert_int_equal(get_counters(f).refused_connections, 13);

        for (unsigned i = 0; i < 3; i++)
                root[i] = connect_abstract(&address, n);
        pump(f);
        assert_int_equal(get_counters(f).connections, 40);
        assert_int_equal(get_counters(f).refused_connections, 14);

        closep(&f->peer);
        f->peer = root[1];
        send_message(f, CALL_EMPTY);
        expect_message(f, "{}");
        f->peer = root[2];
        expect_closed(f);
        f->eof = false;

        /* Of root's connections, only those beyond what is kept are in anybody's way. */
        for (unsigned i = 0; i < 10; i++)
                closep(&users[i]);
        pump(f);
        for (unsigned i = 3; i < ELEMENTS_OF(root); i++)
                root[i] = connect_abstract(&address, n);
        pump(f);
        assert_int_equal(get_counters(f).connections, 27 + 7);
        for (unsigned i = 0; i < 10; i++)
                users[i] = connect_as(1, &address, n);
        pump(f);
        assert_int_equal(get_counters(f).connections, 40);
        assert_int_equal(get_counters(f).refused_connections, 14 + 4);

        /* Of few there is none to be kept. */
        for (unsigned i = 0; i < ELEMENTS_OF(users); i++)
                closep(&users[i]);
        f->peer = -1;
        for (unsigned i = 0; i < ELEMENTS_OF(root); i++)
                closep(&root[i]);
        pump(f);
        limits.connections_max = 7;
        varlink_server_set_limits(f->server, &limits);
        for (unsigned i = 0; i < 8; i++)
                users[i] = connect_as(1, &address, n);
        pump(f);
        assert_int_equal(get_counters(f).connections, 7);
        for (unsigned i = 0; i < 8; i++)
                closep(&users[i]);
}

#define FLOOD 100

/* Whoever waits in the queue behind many waits for a few turns, not for theirs; and what they said is carried
 * out, although they have gone. */
static void test_short_connections(void **state) {
        struct sockaddr_un address;
        Fixture *f = *state;
        unsigned n_turns = 0;
        socklen_t n;
        int last;

        if (geteuid() != 0)
                skip();
        address = listen_abstract(f, &n);
        for (unsigned i = 0; i < FLOOD; i++) {
                int fd = connect_as(1, &address, n);

                assert_int_equal(send(fd, CALL_EMPTY, sizeof(CALL_EMPTY), MSG_NOSIGNAL), sizeof(CALL_EMPTY));
                closep(&fd);
        }
        last = connect_abstract(&address, n);
        assert_int_equal(send(last, CALL_EMPTY, sizeof(CALL_EMPTY), MSG_NOSIGNAL), sizeof(CALL_EMPTY));
        for (char reply[3]; recv(last, reply, sizeof(reply), MSG_DONTWAIT) < 0; n_turns++)
                assert_true(sd_event_run(f->event, 0) > 0);
        assert_in_range(n_turns, FLOOD / 8, FLOOD);
        assert_true(f->n_handled < FLOOD);
        pump(f);
        assert_int_equal(f->n_handled, FLOOD + 1);
        assert_int_equal(get_counters(f).refused_connections, 0);
        assert_int_equal(get_counters(f).connections, 2);
        closep(&last);
}

/* Without a descriptor left, a peer is hung up on rather than left waiting, and the loop comes to rest. */
static void test_out_of_descriptors(void **state) {
        struct rlimit old, low;
        struct sockaddr_un address;
        Fixture *f = *state;
        int waiting, filler[64];
        unsigned n_filler = 0;
        socklen_t n;

        address = listen_abstract(f, &n);
        waiting = connect_abstract(&address, n);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        low = (struct rlimit){.rlim_cur = 40, .rlim_max = old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        while (n_filler < ELEMENTS_OF(filler) &&
               (filler[n_filler] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
                n_filler++;
        assert_int_equal(errno, EMFILE);

        pump(f);
        assert_int_equal(get_counters(f).refused_connections, 1);
        assert_int_equal(get_counters(f).connections, 1);

        while (n_filler > 0)
                closep(&filler[--n_filler]);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        closep(&waiting);
        waiting = connect_abstract(&address, n);
        pump(f);
        assert_int_equal(get_counters(f).connections, 2);
        closep(&waiting);
}

/* Not even the reserve helps: listening pauses, and the loop comes to rest, until there are descriptors
 * again. */
static void test_no_descriptors_at_all(void **state) {
        struct rlimit old, low;
        struct sockaddr_un address;
        Fixture *f = *state;
        int waiting;
        socklen_t n;

        address = listen_abstract(f, &n);
        waiting = connect_abstract(&address, n);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        low = (struct rlimit){.rlim_cur = 3, .rlim_max = old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        pump(f);
        assert_int_equal(get_counters(f).connections, 1);
        assert_int_equal(get_counters(f).refused_connections, 0);

        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        run_until_connections(f, 2);
        closep(&f->peer);
        f->peer = waiting;
        send_message(f, CALL_EMPTY);
        expect_message(f, "{}");
}

/* Three quarters of the descriptors, whatever the configuration says. */
static void test_descriptor_share(void **state) {
        struct rlimit old, low;
        struct sockaddr_un address;
        Fixture *f = *state;
        int fds[70];
        socklen_t n;

        address = listen_abstract(f, &n);
        for (unsigned i = 0; i < ELEMENTS_OF(fds); i++) {
                int fd = connect_abstract(&address, n);

                fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 200); /* out of the way of those to be accepted */
                assert_true(fds[i] >= 200);
                closep(&fd);
        }
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        low = (struct rlimit){.rlim_cur = 80, .rlim_max = old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        pump(f);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_int_equal(get_counters(f).connections, 60);
        assert_int_equal(get_counters(f).refused_connections, 11);
        for (unsigned i = 0; i < ELEMENTS_OF(fds); i++)
                closep(&fds[i]);
}

static void send_descriptor(int socket_fd, const void *bytes, size_t n, int fd) {
        union {
                char buffer[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = {0};
        struct iovec iov = {.iov_base = (void *)bytes, .iov_len = n};
        struct msghdr message = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);

        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(header), &fd, sizeof(fd));
        /* A kernel with SO_PASSRIGHTS refuses them at once, which is just as well. */
        if (sendmsg(socket_fd, &message, MSG_NOSIGNAL) < 0) {
                assert_int_equal(errno, EPERM);
                assert_int_equal(send(socket_fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
        }
}

static void assert_peer_is_this_process(const VarlinkPeer *peer) {
        assert_int_equal(peer->pid, getpid());
        assert_int_equal(peer->uid, getuid());
        assert_int_equal(peer->gid, getgid());
        assert_true(peer->accepted_boottime_usec > 0);
        assert_int_equal(peer->n_groups, getgroups(0, NULL));
}

static void test_no_descriptor_leak(void **state) {
        Fixture *f = *state;
        unsigned before = count_fds();

        for (unsigned i = 0; i < 20; i++) {
                int peer = add_peer(f);

                send_descriptor(peer, CALL_LATER, sizeof(CALL_LATER), peer);
                pump(f);
                assert_non_null(f->later);
                assert_peer_is_this_process(varlink_call_get_peer(f->later));
                assert_ptr_equal(varlink_call_get_peer(f->later), varlink_call_get_peer(f->later));
                closep(&peer);
                pump(f);
                assert_null(f->later);
        }
        assert_int_equal(count_fds(), before);
        assert_int_equal(get_counters(f).connections, 1);
}

/* A socket that somebody else has a copy of stays open when the server closes it: it hears of it no
 * more. A sanitizer sees if it does. */
static void test_shared_socket(void **state) {
        Fixture *f = *state;
        int fds[2], copy, r = 1;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        copy = fcntl(fds[1], F_DUPFD_CLOEXEC, 3);
        assert_true(copy >= 0);
        assert_int_equal(varlink_server_add_connection_fd(f->server, fds[1]), 0);
        assert_int_equal(send(fds[0], "no call", sizeof("no call"), MSG_NOSIGNAL), sizeof("no call"));
        run_until_connections(f, 1);

        assert_int_equal(send(fds[0], "more", 4, MSG_NOSIGNAL), 4);
        for (unsigned i = 0; i < 100 && r > 0; i++)
                r = sd_event_run(f->event, 0);
        assert_int_equal(r, 0);
        close(fds[0]);
        close(copy);
        pump(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_connection_limits),  TEST(test_kept_for_root),         TEST(test_short_connections),
                TEST(test_out_of_descriptors), TEST(test_no_descriptors_at_all), TEST(test_descriptor_share),
                TEST(test_no_descriptor_leak), TEST(test_shared_socket),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
