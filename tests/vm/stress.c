/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Hammers both sides at once: a process whose threads open and close events on every CPU, CPU-wide and bound
 * to themselves, and one whose threads acquire and release leases of the same CPUs. Each thread keeps a book
 * of its own, in CLOCK_MONOTONIC, of what it has certainly had: from after the kernel's or the broker's word
 * to before it gives it back. The books are printed at the end, for somebody else to find that no two entries
 * contradict (guest/test_stress.py):
 *
 *   session cpu|task CPUS BEGIN END        CPUS: bits, hexadecimal; times in nanoseconds
 *   lease guest|exclusive CPUS BEGIN END
 *   refused session|lease COUNT
 *
 *   stress SOCKET SECONDS PMUTYPE...          the type of the SPU of CPU 0, of CPU 1, ...
 */

#include <errno.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CPUS_MAX     8U
#define THREADS      4U /* of each side */
#define ENTRIES_MAX  200000U
#define REPLY_MAX    8192U
#define HOLD_MAX     60U  /* rounds of sched_yield() */
#define PAUSE_MAX    200U /* between a thread's sessions, else no lease would ever come in between */
#define PERIOD       4096U
#define NSEC_PER_SEC UINT64_C(1000000000)

typedef struct Entry {
        const char *kind;
        unsigned cpus;
        uint64_t begin, end;
} Entry;

typedef struct Hammer {
        pthread_t thread;
        const char *what;
        Entry *book;
        size_t n;
        uint64_t refused;
        unsigned seed;
        bool broken;
} Hammer;

static const char *path;
static uint64_t deadline;
static unsigned n_cpus;
static uint32_t pmu_types[CPUS_MAX];

static uint64_t now(void) {
        struct timespec time;

        (void)clock_gettime(CLOCK_MONOTONIC, &time);
        return (uint64_t)time.tv_sec * NSEC_PER_SEC + (uint64_t)time.tv_nsec;
}

static unsigned below(Hammer *hammer, unsigned limit) {
        return (unsigned)rand_r(&hammer->seed) % limit;
}

static void pass(Hammer *hammer, unsigned limit) {
        for (unsigned n = below(hammer, limit); n > 0; n--)
                (void)sched_yield();
}

/* A second one of them makes a lease or a session of two CPUs of one SPU. */
static unsigned choose_cpus(Hammer *hammer) {
        unsigned cpu = below(hammer, n_cpus), other = below(hammer, n_cpus);

        return 1U << cpu | (pmu_types[other] == pmu_types[cpu] ? 1U << other : 0);
}

static void had(Hammer *hammer, const char *kind, unsigned cpus, uint64_t begin, uint64_t end) {
        hammer->book[hammer->n++] = (Entry){.kind = kind, .cpus = cpus, .begin = begin, .end = end};
}

static unsigned lowest(unsigned cpus) {
        return (unsigned)__builtin_ctz(cpus);
}

static void pin(unsigned cpus) {
        cpu_set_t set;

        CPU_ZERO(&set);
        for (unsigned cpu = 0; cpu < n_cpus; cpu++)
                if (cpus & 1U << cpu)
                        CPU_SET(cpu, &set);
        (void)sched_setaffinity(0, sizeof(set), &set);
}

static void *hammer_sessions(void *userdata) {
        Hammer *hammer = userdata;

        while (now() < deadline && hammer->n < ENTRIES_MAX) {
                struct perf_event_attr attr = {
                        .size = PERF_ATTR_SIZE_VER5, .sample_period = PERIOD, .disabled = 1};
                bool bound = below(hammer, 4) == 0;
                unsigned cpus = choose_cpus(hammer);
                uint64_t begin;
                long fd;

                attr.type = pmu_types[lowest(cpus)];
                if (bound)
                        pin(cpus);
                else
                        cpus = 1U << lowest(cpus);
                fd = syscall(SYS_perf_event_open, &attr, bound ? 0 : -1, bound ? -1 : (int)lowest(cpus), -1,
                             PERF_FLAG_FD_CLOEXEC);
                begin = now();
                if (fd >= 0) {
                        pass(hammer, HOLD_MAX);
                        had(hammer, bound ? "task" : "cpu", cpus, begin, now());
                        (void)close((int)fd);
                } else if (errno == EBUSY)
                        hammer->refused++;
                else
                        hammer->broken = true;
                pass(hammer, PAUSE_MAX);
        }
        return NULL;
}

/* One call; the reply without its NUL, or false. */
static bool call(int fd, const char *text, char *reply) {
        size_t n = 0;

        if (send(fd, text, strlen(text) + 1, MSG_NOSIGNAL) != (ssize_t)strlen(text) + 1)
                return false;
        do {
                ssize_t more = recv(fd, reply + n, REPLY_MAX - n, 0);

                if (more <= 0)
                        return false;
                n += (size_t)more;
        } while (reply[n - 1] != '\0' && n < REPLY_MAX);
        return reply[n - 1] == '\0';
}

static int connect_broker(void) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                return -1;
        return fd;
}

static bool take_lease(Hammer *hammer, int fd) {
        bool exclusive = below(hammer, 2) == 0;
        unsigned cpus = choose_cpus(hammer);
        char text[512], list[64] = "", reply[REPLY_MAX];
        const char *id;
        uint64_t begin;

        for (unsigned cpu = 0; cpu < n_cpus; cpu++)
                if (cpus & 1U << cpu)
                        (void)snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%u",
                                       *list ? "," : "", cpu);
        (void)snprintf(
                text, sizeof(text),
                "{\"method\":\"io.spebroker.Broker.Acquire\",\"parameters\":{\"request\":{\"vm\":\"%s-%u\","
                "\"vcpus\":1,\"bufferSize\":4096,\"cpus\":\"%s\",\"mode\":\"%s\"}}}",
                hammer->what, hammer->seed % 1000, list, exclusive ? "exclusive" : "guest");
        if (!call(fd, text, reply))
                return false;
        begin = now();
        if (strstr(reply, "\"error\"")) {
                hammer->refused++;
                return strstr(reply, "io.spebroker.Broker.Busy") != NULL;
        }
        id = strstr(reply, "\"leaseId\":\"");
        if (!id)
                return false;
        pass(hammer, HOLD_MAX);
        (void)snprintf(text, sizeof(text),
                       "{\"method\":\"io.spebroker.Broker.Release\",\"parameters\":{\"leaseId\":\"%.32s\"}}",
                       id + strlen("\"leaseId\":\""));
        had(hammer, exclusive ? "exclusive" : "guest", cpus, begin, now());
        return call(fd, text, reply) && !strstr(reply, "\"error\"");
}

static void *hammer_leases(void *userdata) {
        Hammer *hammer = userdata;
        int fd = connect_broker();

        hammer->broken = fd < 0;
        while (!hammer->broken && now() < deadline && hammer->n < ENTRIES_MAX)
                hammer->broken = !take_lease(hammer, fd);
        if (fd >= 0)
                (void)close(fd);
        return NULL;
}

/* Runs the threads of one side, waits for the process of the other (0: none), so that no line is torn, and
 * prints the books. */
static int run(const char *what, void *(*function)(void *), pid_t other) {
        Hammer hammers[THREADS] = {0};
        uint64_t refused = 0;
        bool broken = false;
        int status = 0;

        for (unsigned i = 0; i < THREADS; i++) {
                hammers[i] =
                        (Hammer){.seed = i + 1, .what = what, .book = calloc(ENTRIES_MAX, sizeof(Entry))};
                if (!hammers[i].book || pthread_create(&hammers[i].thread, NULL, function, &hammers[i]) != 0)
                        return EXIT_FAILURE;
        }
        for (unsigned i = 0; i < THREADS; i++)
                (void)pthread_join(hammers[i].thread, NULL);
        if (other != 0 && waitpid(other, &status, 0) != other)
                return EXIT_FAILURE;
        for (unsigned i = 0; i < THREADS; i++) {
                for (size_t n = 0; n < hammers[i].n; n++)
                        printf("%s %s %x %llu %llu\n", what, hammers[i].book[n].kind, hammers[i].book[n].cpus,
                               (unsigned long long)hammers[i].book[n].begin,
                               (unsigned long long)hammers[i].book[n].end);
                refused += hammers[i].refused;
                broken |= hammers[i].broken;
                free(hammers[i].book);
        }
        printf("refused %s %llu\n", what, (unsigned long long)refused);
        return fflush(stdout) != 0 || broken || status != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv) {
        pid_t other;

        if (argc < 4 || argc - 3 > (int)CPUS_MAX)
                return EXIT_FAILURE;

        path = argv[1];
        deadline = now() + strtoull(argv[2], NULL, 10) * NSEC_PER_SEC;
        for (int i = 3; i < argc; i++)
                pmu_types[n_cpus++] = (uint32_t)strtoul(argv[i], NULL, 10);

        other = fork();
        if (other < 0)
                return EXIT_FAILURE;
        return other == 0 ? run("session", hammer_sessions, 0) : run("lease", hammer_leases, other);
}
