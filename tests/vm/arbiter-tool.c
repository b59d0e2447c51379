/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The arbiter (bpf/arbiter.h) by hand: a command on each line of the input, an object of JSON on a line of
 * the output for each.
 *
 *   new HOOK             attaches it: none, tracepoints, trampolines, lsm
 *   again HOOK           another one, of what the first has kept, which is then let go
 *   pmus NAME=CPUS...    the PMUs that are SPUs
 *   close CPUS CPUS      to CPU-wide events, to task-bound ones; "-" is no CPU
 *   owner PID CPUS
 *   read, counters, process
 *   iterate PID          0: all processes
 *   forget ID
 *   own PMUTYPE CPU      holds an event of its own
 *   disown               lets all of these go
 *   wait MILLISECONDS    for the doorbell
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/arbiter.h"
#include "bpf/probe.h"
#include "bpf/reserve.h"

#define WORDS_MAX 64U
#define KEPT_MAX  32U

static const char *const hooks[_ARBITER_HOOK_MAX] = {"none", "tracepoints", "trampolines", "lsm"};
static const char *const causes[] = {"cpu_wide", "task_bound", "owner", "full"};

static void fail(const char *what, int r) {
        (void)printf("{\"error\": \"%s: %s\"}\n", what, strerror(-r));
}

static void parse_cpus(const char *text, CpuSet *ret_cpus) {
        *ret_cpus = CPUSET_NULL;
        if (text && strcmp(text, "-") != 0 && cpuset_parse(text, strlen(text), ret_cpus) != 0)
                exit(2);
}

static long number(const char *text) {
        return text ? strtol(text, NULL, 10) : 0;
}

static void say_hook(const Arbiter *arbiter, size_t left) {
        const char *reason = arbiter_get_reason(arbiter), *advice = arbiter_get_advice(arbiter);

        (void)printf("{\"hook\": \"%s\", \"reason\": \"%s\", \"advice\": \"%s\", \"left\": %zu}\n",
                     hooks[arbiter_get_hook(arbiter)], reason ?: "", advice ?: "", left);
}

static ArbiterHook parse_hook(const char *text) {
        for (size_t i = 0; i < _ARBITER_HOOK_MAX; i++)
                if (text && strcmp(text, hooks[i]) == 0)
                        return (ArbiterHook)i;

        exit(2);
}

static void do_new(Arbiter **arbiter, const char *hook) {
        int r;

        *arbiter = arbiter_free(*arbiter);
        r = arbiter_new(parse_hook(hook), NULL, 0, arbiter);
        if (r < 0)
                fail("new", r);
        else
                say_hook(*arbiter, 0);
}

static void do_again(Arbiter **arbiter, const char *hook) {
        char names[KEPT_MAX][64];
        NamedFd kept[KEPT_MAX];
        Arbiter *next;
        size_t n = arbiter_get_kept(*arbiter, kept, KEPT_MAX), left = 0;
        int r;

        for (size_t i = 0; i < n; i++) {
                (void)snprintf(names[i], sizeof(names[i]), "%s", kept[i].name);
                kept[i] = (NamedFd){.name = names[i], .fd = dup(kept[i].fd)};
        }
        *arbiter = arbiter_free(*arbiter);
        r = arbiter_new(parse_hook(hook), kept, n, &next);
        for (size_t i = 0; i < n; i++)
                if (kept[i].fd >= 0) {
                        close(kept[i].fd);
                        left++;
                }
        if (r < 0) {
                fail("again", r);
                return;
        }
        *arbiter = next;
        say_hook(next, left);
}

static void do_pmus(Arbiter *arbiter, char *const *words, size_t n) {
        ArbiterPmu pmus[WORDS_MAX] = {0};
        int r;

        for (size_t i = 0; i < n; i++) {
                char *equals = strchr(words[i], '=');

                if (!equals)
                        exit(2);
                *equals = '\0';
                (void)snprintf(pmus[i].name, sizeof(pmus[i].name), "%s", words[i]);
                parse_cpus(equals + 1, &pmus[i].cpus);
        }
        r = arbiter_set_pmus(arbiter, pmus, n);
        if (r < 0)
                fail("pmus", r);
        else
                (void)printf("{}\n");
}

static void do_close(Arbiter *arbiter, const char *cpu_wide, const char *task_bound) {
        ArbiterClosed closed;

        parse_cpus(cpu_wide, &closed.cpu_wide);
        parse_cpus(task_bound, &closed.task_bound);
        arbiter_close(arbiter, &closed);
        (void)printf("{}\n");
}

/* "PID", or "cgroup:ID". */
static OwnerKey parse_owner(const char *text) {
        static const char prefix[] = "cgroup:";
        size_t n = strlen(prefix);

        return text && strncmp(text, prefix, n) == 0 ? OWNER_KEY_CGROUP(number(text + n))
                                                     : (OwnerKey)number(text);
}

static void do_owner(Arbiter *arbiter, const char *owner, const char *text) {
        CpuSet cpus;
        int r;

        parse_cpus(text, &cpus);
        r = arbiter_close_owner(arbiter, parse_owner(owner), &cpus);
        if (r < 0)
                fail("owner", r);
        else
                (void)printf("{}\n");
}

static void say_session(const ArbiterSession *session) {
        (void)printf("{\"id\": %" PRIu64 ", \"pmu\": \"%s\", \"cpu\": %i, \"thread\": %i, \"process\": %i, "
                     "\"pid\": %i, \"uid\": %u, \"command\": \"%s\", \"opened\": %" PRIu64
                     ", \"entering\": %s, \"unseen\": %s}",
                     session->id, session->pmu, session->cpu, session->target_thread, session->target_process,
                     session->pid, session->uid, session->command, session->opened_nsec,
                     session->entering ? "true" : "false", session->unseen ? "true" : "false");
}

static void do_read(const Arbiter *arbiter) {
        _cleanup_(freep) ArbiterSession *sessions = NULL;
        uint64_t generation = arbiter_get_generation(arbiter);
        size_t n = 0;
        int r = arbiter_read(arbiter, &sessions, &n);

        if (r < 0) {
                fail("read", r);
                return;
        }
        (void)printf("{\"generation\": %" PRIu64 ", \"sessions\": [", generation);
        for (size_t i = 0; i < n; i++) {
                (void)printf("%s", i ? ", " : "");
                say_session(&sessions[i]);
        }
        (void)printf("]}\n");
}

static void say_refusal(const ArbiterRefusal *refusal, void *userdata) {
        char cpus[CPUSET_TEXT_MAX];
        bool *first = userdata;

        (void)cpuset_format(&refusal->affinity, cpus, sizeof(cpus));
        (void)printf("%s{\"cause\": \"%s\", \"affinity\": \"%s\", \"session\": ", *first ? "" : ", ",
                     causes[refusal->cause], cpus);
        say_session(&refusal->session);
        (void)printf("}");
        *first = false;
}

static bool is_rung(const Arbiter *arbiter) {
        struct pollfd doorbell = {.fd = arbiter_get_fd(arbiter), .events = POLLIN};

        return poll(&doorbell, 1, 0) > 0;
}

static void do_process(Arbiter *arbiter) {
        bool first = true;
        int r;

        (void)printf("{\"refusals\": [");
        do
                r = arbiter_process(arbiter, say_refusal, &first);
        while (r == 0 && is_rung(arbiter));
        (void)printf("], \"result\": %i}\n", r);
}

static void do_counters(const Arbiter *arbiter) {
        ArbiterCounters counters;

        arbiter_get_counters(arbiter, &counters);
        (void)printf("{\"opened\": %" PRIu64 ", \"closed\": %" PRIu64 ", \"refused\": %" PRIu64
                     ", \"full\": %" PRIu64 ", \"drifted\": %" PRIu64 ", \"lost\": %" PRIu64 "}\n",
                     counters.opened, counters.closed, counters.refused, counters.full, counters.drifted,
                     counters.lost);
}

static void do_iterate(Arbiter *arbiter, const char *process) {
        int r = arbiter_iterate(arbiter, (pid_t)number(process));

        if (r < 0)
                fail("iterate", r);
        else
                (void)printf("{}\n");
}

static Reserve *reserve;

static void do_disown(void) {
        reserve = reserve_free(reserve);
        (void)printf("{}\n");
}

static void do_own(const char *pmu_type, const char *cpu) {
        int r = reserve ? 0 : reserve_new(&reserve);

        if (r == 0)
                r = reserve_hold(reserve, (uint32_t)number(pmu_type), (unsigned)number(cpu));
        (void)printf("{\"result\": %i}\n", r);
}

static void do_wait(const Arbiter *arbiter, const char *milliseconds) {
        struct pollfd doorbell = {.fd = arbiter_get_fd(arbiter), .events = POLLIN};
        int r = poll(&doorbell, 1, (int)number(milliseconds));

        (void)printf("{\"rung\": %s}\n", r > 0 ? "true" : "false");
}

static void obey(Arbiter **arbiter, char *const *words, size_t n) {
        const char *verb = words[0], *first = n > 1 ? words[1] : NULL, *second = n > 2 ? words[2] : NULL;

        if (strcmp(verb, "new") == 0) {
                do_new(arbiter, first);
                return;
        }
        if (!*arbiter)
                exit(2);

        if (strcmp(verb, "again") == 0)
                do_again(arbiter, first);
        else if (strcmp(verb, "pmus") == 0)
                do_pmus(*arbiter, words + 1, n - 1);
        else if (strcmp(verb, "close") == 0)
                do_close(*arbiter, first, second);
        else if (strcmp(verb, "owner") == 0)
                do_owner(*arbiter, first, second);
        else if (strcmp(verb, "read") == 0)
                do_read(*arbiter);
        else if (strcmp(verb, "process") == 0)
                do_process(*arbiter);
        else if (strcmp(verb, "counters") == 0)
                do_counters(*arbiter);
        else if (strcmp(verb, "iterate") == 0)
                do_iterate(*arbiter, first);
        else if (strcmp(verb, "disown") == 0)
                do_disown();
        else if (strcmp(verb, "own") == 0)
                do_own(first, second);
        else if (strcmp(verb, "wait") == 0)
                do_wait(*arbiter, first);
        else if (strcmp(verb, "forget") == 0 && first) {
                arbiter_forget(*arbiter, strtoull(first, NULL, 10));
                (void)printf("{}\n");
        } else
                exit(2);
}

int main(int argc, char **argv) {
        _cleanup_(arbiter_freep) Arbiter *arbiter = NULL;
        char line[4096];

        /* -v: what libbpf has to say. */
        if (argc < 2 || strcmp(argv[1], "-v") != 0)
                bpf_silence();
        while (fgets(line, sizeof(line), stdin)) {
                char *words[WORDS_MAX], *position = NULL;
                size_t n = 0;

                for (char *word = strtok_r(line, " \n", &position); word && n < WORDS_MAX;
                     word = strtok_r(NULL, " \n", &position))
                        words[n++] = word;
                if (n > 0)
                        obey(&arbiter, words, n);
                (void)fflush(stdout);
        }
        return 0;
}
