/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Whole connections to the real manager: what two peers say, in which order, and when they leave. One is an
 * administrator, the other a user of its own where this runs as root. An input is lines of
 *
 *   CONNECTION VERB REST
 *
 * 'a' or 'b' is a connection, made when it is first used; as a capital, what follows is sent behind it before
 * the broker looks. A verb of the table below is a call; '+' behind it wants more, '-' is oneway; the rest
 * are its parameters, or a digit for some that make sense. '!' sends the rest as it is, '$' with a NUL; 'x'
 * hangs up, '>' sends no more, '<' reads; '~' and a digit is so many times half a millisecond of the
 * processor that turns take from now on. "%0" to "%9" are the ids of the leases there are.
 *
 * After each line no CPU is held twice that may not be, and the books say what the leases say. At the end,
 * when all have hung up, what has no owner any more is gone; and when the leases have been released as well,
 * nothing is left of them: no charge, no CPU, no file, no descriptor.
 */

#include <assert.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <ftw.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/assign.h"
#include "broker/end.h"
#include "broker/lease-store.h"
#include "broker/manager.h"
#include "tests/unit/no-uevents.h"
#include "varlink/json-read.h"

#define BROKER         "io.spebroker.Broker."
#define ADMIN          "io.spebroker.Admin."
#define SERVICE        "org.varlink.service."
#define TENANT         65534
#define TENANTS_GROUP  54321
#define STOCK          32U /* connections that are made at once: to wait for another process takes longer */
#define LINES_MAX      64U
#define LINE_MAX_      2048 /* as it stands in the input */
#define MESSAGE_MAX    8192U
#define REPLIES_MAX    (1U << 20)
#define DEADLINE_USEC  4000000U
#define NSEC_PER_SEC   UINT64_C(1000000000)
#define LONG_TURN_NSEC UINT64_C(500000)
#define TURNS_MAX      100000U /* of the loop, without anything that comes from outside */
#define CONFIG                                                                                \
        "[Policy]\nAdminGroup=%u\nAcquireGroup=54321\nRevokeGraceSec=3600\nGoneGraceSec=60\n" \
        "[Limits]\nMaxMemory=3G\nMaxLeasesPerUser=20\n"

typedef struct Verb {
        char letter;
        const char *method;
        const char *parameters[6];
} Verb;

static const Verb verbs[] = {
        {'A',
         BROKER "Acquire",
         {"{\"request\":{\"vm\":\"v\",\"vcpus\":1,\"cpus\":\"0-1\",\"requestId\":\"r\"}}",
          "{\"request\":{\"vm\":\"w\",\"vcpus\":2,\"instance\":\"arm_spe_1\"}}",
          "{\"request\":{\"vm\":\"x\",\"vcpus\":1,\"cpus\":\"1\",\"mode\":\"exclusive\"},\"waitUSec\":9999}",
          "{\"request\":{\"vm\":\"y\",\"vcpus\":1,\"cpus\":\"4-11\",\"mode\":\"shared\"},\"waitUSec\":1}",
          "{\"request\":{\"vm\":\"z\",\"vcpus\":1,\"cpus\":\"0\"},\"waitUSec\":60000000}",
          "{\"request\":{\"vm\":\"v\",\"vcpus\":4096,\"bufferSize\":1073741824,\"exact\":true}}"}},
        {'Q',
         BROKER "Query",
         {"{\"request\":{\"vm\":\"v\",\"vcpus\":1}}",
          "{\"request\":{\"vm\":\"v\",\"vcpus\":1,\"cpus\":\"3-4\"}}"}},
        {'U',
         BROKER "Update",
         {"{\"leaseId\":\"%0\",\"cpus\":\"1\"}", "{\"leaseId\":\"%0\",\"cpus\":\"0-3\"}",
          "{\"leaseId\":\"%1\"}", "{\"leaseId\":\"%1\",\"cpus\":\"5\"}"}},
        {'R', BROKER "Release", {"{\"leaseId\":\"%0\"}", "{\"leaseId\":\"%1\"}", "{\"leaseId\":\"%2\"}"}},
        {'F', BROKER "Follow", {"{\"leaseId\":\"%0\"}", "{\"leaseId\":\"%1\"}"}},
        {'W', BROKER "Watch", {"{}"}},
        {'D', BROKER "Describe", {"{}"}},
        {'I', BROKER "ListInstances", {"{}"}},
        {'L', BROKER "ListLeases", {"{}", "{\"vm\":\"v\"}"}},
        {'S', BROKER "ListSessions", {"{}"}},
        {'N', BROKER "ListRefusals", {"{}", "{\"vm\":\"v\",\"limit\":2}"}},
        {'C', BROKER "CheckHost", {"{}"}},
        {'s',
         ADMIN "Assign",
         {"{\"cpus\":\"0-1\",\"owner\":\"host\",\"runtime\":true}",
          "{\"cpus\":\"1\",\"owner\":\"guest\",\"vm\":\"v\"}",
          "{\"instance\":\"arm_spe_0\",\"owner\":\"none\"}",
          "{\"cpus\":\"0\",\"owner\":\"any\",\"forUSec\":1000}"}},
        {'u', ADMIN "Unassign", {"{\"cpus\":\"0-11\"}", "{\"instance\":\"arm_spe_1\"}"}},
        {'k',
         ADMIN "Revoke",
         {"{\"leaseId\":\"%0\"}", "{\"leaseId\":\"%0\",\"graceUSec\":0}",
          "{\"leaseId\":\"%1\",\"graceUSec\":0,\"kill\":true,\"reason\":\"z\"}"}},
        {'o', ADMIN "Reload", {"{}"}},
        {'c', ADMIN "Rescan", {"{}"}},
        {'g', SERVICE "GetInfo", {"{}"}},
        {'d', SERVICE "GetInterfaceDescription", {"{\"interface\":\"io.spebroker.Admin\"}"}},
};

typedef struct Peer {
        int fd;               /* -1: there is no connection */
        int maker;            /* to a process that makes its connections, or -1: this one does */
        pid_t pid;            /* of that process */
        int stock[2 * STOCK]; /* pairs that it has made and that are not in use yet */
        unsigned n_stock;     /* of these descriptors */
        char *replies;
        size_t n_replies;
} Peer;

/* It is the same one for all inputs: to make it takes longer than most of them. */
typedef struct Fuzz {
        char path[32];
        sd_event *event;
        Manager *manager;
        Peer peers[2];
        unsigned n_fds; /* open while nothing is going on */
        uint64_t cpu_nsec, turn_nsec;
} Fuzz;

static Fuzz fuzz = {.peers = {{.fd = -1, .maker = -1}, {.fd = -1, .maker = -1}}};

/* An administrator can have a lease for any process of this machine, and have it killed: not by this one. */
__attribute__((__visibility__("default"))) long syscall(long number, ...) {
        static long (*next)(long number, ...);
        long a[6];
        va_list ap;

        if (number == SYS_pidfd_send_signal)
                return 0;

        va_start(ap, number);
        for (unsigned i = 0; i < 6; i++)
                a[i] = va_arg(ap, long); /* NOLINT(clang-analyzer-valist.Uninitialized): version 14's error */
        va_end(ap);
        if (!next)
                *(void **)&next = dlsym(RTLD_NEXT, "syscall");
        return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* The processor's time is what the input says: a sanitizer's turns are so long that their users would rest
 * most of the time. */
int __real_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time) {
        if (clock != CLOCK_THREAD_CPUTIME_ID)
                return __real_clock_gettime(clock, ret_time);

        fuzz.cpu_nsec += fuzz.turn_nsec;
        *ret_time = (struct timespec){.tv_sec = (time_t)(fuzz.cpu_nsec / NSEC_PER_SEC),
                                      .tv_nsec = (long)(fuzz.cpu_nsec % NSEC_PER_SEC)};
        return 0;
}

static unsigned count_entries(const char *path) {
        DIR *dir = opendir(path);
        unsigned n = 0;

        assert(dir);
        for (const struct dirent *entry; (entry = readdir(dir));)
                n += entry->d_name[0] != '.';
        closedir(dir);
        return n;
}

/* But for what is in stock, and for pipes, by which a fuzzer has its symbols looked up. */
static unsigned count_fds(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        assert(dir);
        for (const struct dirent *entry; (entry = readdir(dir));) {
                char link[8] = "";

                (void)!readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);
                n += link[0] != '\0' && strncmp(link, "pipe:", 5) != 0;
        }
        closedir(dir);
        for (size_t i = 0; i < ELEMENTS_OF(fuzz.peers); i++)
                n -= fuzz.peers[i].n_stock;
        return n;
}

static void pump(void) {
        int r;

        for (unsigned i = 0; (r = sd_event_run(fuzz.event, 0)) > 0; i++)
                assert(i < TURNS_MAX);
        assert(r == 0);
}

/* Set up, once. */

static void write_config(void) {
        char path[64];
        FILE *f;

        (void)snprintf(path, sizeof(path), "%s/etc", fuzz.path);
        assert(mkdir(path, 0755) == 0);
        (void)snprintf(path, sizeof(path), "%s/etc/spe-broker", fuzz.path);
        assert(mkdir(path, 0755) == 0);
        (void)snprintf(path, sizeof(path), "%s/etc/spe-broker/spe-broker.conf", fuzz.path);
        f = fopen(path, "we");
        assert(f);
        (void)fprintf(f, CONFIG, (unsigned)getgid());
        assert(fclose(f) == 0);
}

static void send_stock(int socket, const int fds[static 2 * STOCK]) {
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(2 * STOCK * sizeof(int))] = {0};
        struct iovec iov = {.iov_base = (char[]){0}, .iov_len = 1};
        struct msghdr message = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);

        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(2 * STOCK * sizeof(int));
        memcpy(CMSG_DATA(header), fds, 2 * STOCK * sizeof(int));
        if (sendmsg(socket, &message, 0) != 1)
                _exit(EXIT_FAILURE);
}

static void receive_stock(Peer *peer) {
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(peer->stock))] = {0};
        struct iovec iov = {.iov_base = (char[]){0}, .iov_len = 1};
        struct msghdr message = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
        ssize_t n;

        assert(write(peer->maker, "", 1) == 1);
        do
                n = recvmsg(peer->maker, &message, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR); /* a fuzzer has its alarms */
        assert(n == 1 && CMSG_FIRSTHDR(&message));
        memcpy(peer->stock, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(peer->stock));
        peer->n_stock = ELEMENTS_OF(peer->stock);
}

/* The kernel tells the peer of whoever made the pair. */
__attribute__((__noreturn__)) static void make_connections(int socket) {
        gid_t group = TENANTS_GROUP;
        char byte;

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (setgroups(1, &group) < 0 || setresgid(TENANT, TENANT, TENANT) < 0 ||
            setresuid(TENANT, TENANT, TENANT) < 0)
                _exit(EXIT_FAILURE);
        while (read(socket, &byte, 1) == 1) {
                int fds[2 * STOCK];

                for (unsigned i = 0; i < STOCK; i++)
                        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, &fds[2 * i]) < 0)
                                _exit(EXIT_FAILURE);
                send_stock(socket, fds);
                for (unsigned i = 0; i < ELEMENTS_OF(fds); i++)
                        close(fds[i]);
        }
        _exit(EXIT_SUCCESS);
}

static void become_two(Peer *peer) {
        int way[2];

        if (geteuid() != 0)
                return; /* two administrators then */

        assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, way) == 0);
        peer->pid = fork();
        assert(peer->pid >= 0);
        if (peer->pid == 0) {
                close(way[0]);
                make_connections(way[1]);
        }
        close(way[1]);
        peer->maker = way[0];
}

static int remove_one(const char *path, _unused_ const struct stat *st, _unused_ int type,
                      _unused_ struct FTW *ftw) {
        return remove(path);
}

static void tear_down(void) {
        if (getpid() != fuzz.peers[0].pid)
                return;
        fuzz.manager = manager_free(fuzz.manager);
        fuzz.event = sd_event_unref(fuzz.event);
        for (size_t i = 0; i < ELEMENTS_OF(fuzz.peers); i++) {
                free(fuzz.peers[i].replies);
                while (fuzz.peers[i].n_stock > 0)
                        close(fuzz.peers[i].stock[--fuzz.peers[i].n_stock]);
                if (fuzz.peers[i].maker < 0)
                        continue;
                close(fuzz.peers[i].maker);
                (void)waitpid(fuzz.peers[i].pid, NULL, 0);
        }
        (void)nftw(fuzz.path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void set_up(void) {
        ManagerOptions options = {.root = fuzz.path, .simulate = "biglittle"};

        if (fuzz.manager)
                return;

        /* The broker's own words; whoever finds a fault writes to the descriptor. */
        stderr = fopen("/dev/null", "we");
        assert(stderr);
        (void)signal(SIGPIPE, SIG_IGN);
        (void)unsetenv("NOTIFY_SOCKET");
        (void)snprintf(fuzz.path, sizeof(fuzz.path), "%s/spe-fuzz-XXXXXX",
                       access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        assert(mkdtemp(fuzz.path));
        write_config();
        fuzz.peers[0].pid = getpid();
        become_two(&fuzz.peers[1]);
        for (size_t i = 0; i < ELEMENTS_OF(fuzz.peers); i++) {
                fuzz.peers[i].replies = malloc(REPLIES_MAX);
                assert(fuzz.peers[i].replies);
        }
        assert(sd_event_new(&fuzz.event) >= 0);
        assert(manager_new(fuzz.event, &options, &fuzz.manager) == 0);
        assert(atexit(tear_down) == 0);
        pump();
        fuzz.n_fds = count_fds();
}

/* What holds at any time. */

static void check_books(void) {
        const Model *model = &fuzz.manager->model;
        CpuSet held[_LEASE_MODE_MAX] = {0};
        uint64_t bytes = 0;
        unsigned n = 0;
        const Lease *lease, *other;

        TAILQ_FOREACH(lease, &fuzz.manager->leases.all, link) {
                assert((lease->charge.ledger != NULL) == lease_is_charged(lease));
                bytes += lease->charge.bytes;
                n += lease_is_charged(lease);
                if (!lease_is_holding(lease))
                        continue;
                cpuset_or(&held[lease->request.policy.mode], &lease->cpus);
                if (lease->request.policy.mode != LEASE_MODE_EXCLUSIVE)
                        continue;
                TAILQ_FOREACH(other, &fuzz.manager->leases.all, link)
                        assert(other == lease || !lease_is_holding(other) ||
                               !cpuset_intersects(&other->cpus, &lease->cpus));
        }
        assert(bytes == model->ledger.total.bytes && n == model->ledger.total.n_leases);
        for (size_t i = 0; i < _LEASE_MODE_MAX; i++)
                assert(cpuset_equal(&held[i], &model->occupancy.held[i]));
}

static unsigned count_connections(void) {
        VarlinkServerCounters counters;

        varlink_server_get_counters(fuzz.manager->server, &counters);
        return counters.connections;
}

/* And when all have hung up, which is seen when it is their turn. */
static void check_deserted(void) {
        const Manager *manager = fuzz.manager;
        const Lease *lease;

        while (count_connections() > 0)
                assert(sd_event_run(fuzz.event, DEADLINE_USEC) > 0);
        assert(manager->n_watches == 0 && LIST_EMPTY(&manager->watches));
        assert(LIST_EMPTY(&manager->assign_waits));
        assert(manager->leases.n_waiting == 0);
        TAILQ_FOREACH(lease, &manager->leases.all, link)
                assert(lease_is_charged(lease) && LIST_EMPTY(&lease->streams));
}

static void check_idle(void) {
        const Manager *manager = fuzz.manager;
        char path[sizeof(fuzz.path) + sizeof(LEASE_STORE_PATH)];

        assert(manager->leases.n == 0 && manager->leases.n_revoked == 0);
        assert(!manager->owners.by_key);
        assert(!manager->model.ledger.users && !manager->model.ledger.vms);
        assert(LIST_EMPTY(&manager->leases.unsaved));
        (void)snprintf(path, sizeof(path), "%s/" LEASE_STORE_PATH, fuzz.path);
        assert(count_entries(path) == 0);
        assert(count_fds() == fuzz.n_fds);
}

/* The lines. */

static void connect_peer(Peer *peer) {
        int fds[2];

        if (peer->fd >= 0)
                return;
        if (peer->maker < 0)
                assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
        else {
                if (peer->n_stock == 0)
                        receive_stock(peer);
                fds[0] = peer->stock[--peer->n_stock];
                fds[1] = peer->stock[--peer->n_stock];
        }
        peer->fd = fds[0];
        peer->n_replies = 0;
        assert(varlink_server_add_connection_fd(fuzz.manager->server, fds[1]) == 0);
}

static void check_reply(const char *text, size_t n) {
        _cleanup_(json_object_putp) struct json_object *reply = NULL;

        assert(json_read(text, n, &reply, NULL) == 0);
        assert(json_object_is_type(reply, json_type_object));
}

/* Messages that are there; the rest of one stays. */
static void read_replies(Peer *peer) {
        size_t begin = 0;
        ssize_t n;

        if (peer->fd < 0)
                return;
        n = recv(peer->fd, peer->replies + peer->n_replies, REPLIES_MAX - peer->n_replies, MSG_DONTWAIT);
        if (n > 0)
                peer->n_replies += (size_t)n;
        for (const char *end; (end = memchr(peer->replies + begin, '\0', peer->n_replies - begin));) {
                check_reply(peer->replies + begin, (size_t)(end - peer->replies) - begin);
                begin = (size_t)(end - peer->replies) + 1;
        }
        peer->n_replies -= begin;
        memmove(peer->replies, peer->replies + begin, peer->n_replies);
        assert(peer->n_replies < REPLIES_MAX);
}

static void close_peer(Peer *peer) {
        read_replies(peer);
        closep(&peer->fd);
        peer->fd = -1;
}

static void send_text(Peer *peer, const char *text, size_t n) {
        connect_peer(peer);
        (void)!send(peer->fd, text, n, MSG_DONTWAIT | MSG_NOSIGNAL); /* it may have been hung up on */
}

/* Of the lease that is so far down the list. */
static const char *find_id(unsigned i) {
        const Lease *lease;

        TAILQ_FOREACH(lease, &fuzz.manager->leases.all, link)
                if (i-- == 0)
                        return lease->id;
        return "00000000000000000000000000000000";
}

/* Writes @rest to @text with the ids in it. */
static size_t expand(const char *rest, size_t n_rest, char *text, size_t size) {
        size_t n = 0;

        for (size_t i = 0; i < n_rest && n + LEASE_ID_LENGTH < size; i++)
                if (rest[i] == '%' && i + 1 < n_rest && rest[i + 1] >= '0' && rest[i + 1] <= '9') {
                        memcpy(text + n, find_id((unsigned)(rest[++i] - '0')), LEASE_ID_LENGTH);
                        n += LEASE_ID_LENGTH;
                } else
                        text[n++] = rest[i];
        return n;
}

static void call(Peer *peer, const Verb *verb, const char *rest, size_t n_rest) {
        char message[MESSAGE_MAX], parameters[MESSAGE_MAX / 2];
        const char *how = "";
        size_t n;
        int k;

        if (n_rest > 0 && (*rest == '+' || *rest == '-')) {
                how = *rest == '+' ? ",\"more\":true" : ",\"oneway\":true";
                rest++;
                n_rest--;
        }
        if (n_rest <= 1) {
                size_t i = n_rest == 1 ? (size_t)(*rest - '0') : 0;

                rest = i < ELEMENTS_OF(verb->parameters) && verb->parameters[i] ? verb->parameters[i]
                                                                                : verb->parameters[0];
                assert(rest); /* each has at least one */
                n_rest = strlen(rest);
        }

        n = expand(rest, n_rest, parameters, sizeof(parameters));
        k = snprintf(message, sizeof(message), "{\"method\":\"%s\"%s,\"parameters\":", verb->method, how);
        assert(k > 0 && (size_t)k + n + 2 <= sizeof(message));
        memcpy(message + k, parameters, n);
        memcpy(message + k + n, "}", 2);
        send_text(peer, message, (size_t)k + n + 2);
}

static void say(Peer *peer, char verb, const char *rest, size_t n_rest) {
        char text[MESSAGE_MAX];
        size_t n;

        switch (verb) {
        case '!':
        case '$':
                n = expand(rest, n_rest, text, sizeof(text) - 1);
                text[n] = '\0';
                send_text(peer, text, n + (verb == '$'));
                return;
        case 'x':
                close_peer(peer);
                return;
        case '>':
                if (peer->fd >= 0)
                        (void)shutdown(peer->fd, SHUT_WR);
                return;
        case '<':
                read_replies(peer);
                return;
        case '~':
                fuzz.turn_nsec = n_rest == 1 && *rest >= '0' && *rest <= '9'
                                         ? (uint64_t)(*rest - '0') * LONG_TURN_NSEC
                                         : 0;
                return;
        default:
                for (size_t i = 0; i < ELEMENTS_OF(verbs); i++)
                        if (verbs[i].letter == verb)
                                call(peer, &verbs[i], rest, n_rest);
        }
}

/* Leases do not end with their connections, nor assignments. */
static void clean(void) {
        CpuSet all = CPUSET_NULL;
        Lease *lease;

        for (size_t i = 0; i < ELEMENTS_OF(fuzz.peers); i++)
                close_peer(&fuzz.peers[i]);
        pump();
        check_deserted();
        check_books();

        while ((lease = TAILQ_FIRST(&fuzz.manager->leases.all)))
                lease_end(fuzz.manager, lease, "the input is over");
        cpuset_add_range(&all, 0, CPUSET_MAX - 1);
        if (fuzz.manager->model.assignments.n > 0)
                assert(assign_clear(fuzz.manager, &all) == 0);
        pump();
        check_books();
        check_idle();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const char *line = (const char *)data, *stop = line + size, *end;

        set_up();
        fuzz.turn_nsec = 0;
        for (unsigned i = 0; line < stop && i < LINES_MAX; i++, line = end + 1) {
                end = memchr(line, '\n', (size_t)(stop - line)) ?: stop;
                if (end - line < 2 || end - line > LINE_MAX_ || !strchr("abAB", *line))
                        continue;
                say(&fuzz.peers[*line == 'b' || *line == 'B'], line[1], line + 2, (size_t)(end - line) - 2);
                if (*line == 'A' || *line == 'B')
                        continue;
                pump();
                check_books();
        }

        clean();
        return 0;
}
