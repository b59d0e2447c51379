/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The table of verbs, what is printed from it, and the guess at a verb that was mistyped. */

#include <string.h>

#include "speadm/verb.h"

#define WHERE (OPTION_BIT(OPTION_CPUS) | OPTION_BIT(OPTION_INSTANCE))
#define TERM  (OPTION_BIT(OPTION_RUNTIME) | OPTION_BIT(OPTION_FOR) | OPTION_BIT(OPTION_WAIT))
#define DEMAND                                                                                  \
        (WHERE | OPTION_BIT(OPTION_VM) | OPTION_BIT(OPTION_VCPUS) | OPTION_BIT(OPTION_BUFFER) | \
         OPTION_BIT(OPTION_EXACT) | OPTION_BIT(OPTION_MODE))

#define LEASE_IS "LEASE is an id from 'speadm leases', or the beginning of one."

static const Verb verbs[] = {
        {
                .name = "list",
                .synopsis = "",
                .help = "The SPUs of this host (the default)",
                .run = verb_list,
        },
        {
                .name = "leases",
                .synopsis = "[--vm NAME]",
                .help = "The leases, waiting ones too",
                .run = verb_leases,
                .options = OPTION_BIT(OPTION_VM),
        },
        {
                .name = "sessions",
                .synopsis = "",
                .help = "The host's own perf events on SPUs",
                .run = verb_sessions,
        },
        {
                .name = "refusals",
                .synopsis = "[--vm NAME] [--pid PID] [--limit N]",
                .help = "What was refused lately, newest first",
                .more = "Leases, and perf events of the host, which have no VM. With --pid also who stood in "
                        "the\n"
                        "way of such an event, and what would be allowed.",
                .run = verb_refusals,
                .options = OPTION_BIT(OPTION_VM) | OPTION_BIT(OPTION_PID) | OPTION_BIT(OPTION_LIMIT),
        },
        {
                .name = "status",
                .synopsis = "",
                .help = "The broker, its limits and counters",
                .run = verb_status,
        },
        {
                .name = "check",
                .synopsis = "[--require LEVEL]",
                .help = "Say whether a guest can have SPE on this host, and why not",
                .more = "Prints every check in the order in which they depend on each other, with what can "
                        "be done.\n"
                        "Exit status 0 if none failed, 1 if something is to be done first, 77 if this host "
                        "cannot.",
                .run = verb_check,
                .options = OPTION_BIT(OPTION_REQUIRE),
        },
        {
                .name = "query",
                .synopsis = "--vcpus N [OPTIONS]",
                .help = "Say whether a lease would be granted, and why not",
                .more = "Takes nothing. Exit status 0 if it would be granted; else that of the first "
                        "refusal.\n"
                        "Prints every reason against it, and the nearest request that would be granted.",
                .run = verb_query,
                .options = DEMAND | OPTION_BIT(OPTION_PID) | OPTION_BIT(OPTION_CGROUP),
        },
        {
                .name = "assign",
                .synopsis = "host|guest|any|none [--cpus LIST] [--instance NAME] [OPTIONS]",
                .help = "Decide whose CPUs they are",
                .more = "host: no leases. guest: no host sessions. any: whoever comes first. none: neither.\n"
                        "Needs --cpus, --instance, or both. Holds at once, and until 'speadm unassign' or "
                        "its\n"
                        "term is over.",
                .run = verb_assign,
                .min_operands = 1,
                .max_operands = 1,
                .options = WHERE | TERM | OPTION_BIT(OPTION_VM),
        },
        {
                .name = "unassign",
                .synopsis = "[--cpus LIST] [--instance NAME]",
                .help = "Go back to what the configuration says",
                .run = verb_unassign,
                .options = WHERE,
        },
        {
                .name = "drain",
                .synopsis = "[--cpus LIST] [--instance NAME] [OPTIONS]",
                .help = "No new leases: assign none",
                .run = verb_drain,
                .options = WHERE | TERM,
        },
        {
                .name = "release",
                .synopsis = "LEASE",
                .help = "End a lease whose VM does not use SPE (any more)",
                .more = LEASE_IS,
                .run = verb_release,
                .min_operands = 1,
                .max_operands = 1,
        },
        {
                .name = "revoke",
                .synopsis = "LEASE [OPTIONS]",
                .help = "Take a lease back",
                .more = "Its owner is told, and has the grace to release it.\n" LEASE_IS,
                .run = verb_revoke,
                .min_operands = 1,
                .max_operands = 1,
                .options = OPTION_BIT(OPTION_GRACE) | OPTION_BIT(OPTION_REASON) | OPTION_BIT(OPTION_KILL),
        },
        {
                .name = "run",
                .synopsis = "--vcpus N [OPTIONS] [--] COMMAND...",
                .help = "Run a VMM under a lease",
                .more = "Takes the lease for this process, keeps it to the lease's CPUs, exports "
                        "SPE_BROKER_LEASE,\n"
                        "SPE_BROKER_PID, SPE_BROKER_PMU_TYPE, SPE_BROKER_CPUS, SPE_BROKER_BUFFER_SIZE and\n"
                        "SPE_BROKER_INTERRUPT, and executes COMMAND. The lease ends with it; with --scope,\n"
                        "with the last process that it leaves behind.",
                .run = verb_run,
                .min_operands = 1,
                .max_operands = VERB_OPERANDS_ANY,
                .options = DEMAND | OPTION_BIT(OPTION_WAIT_TIME) | OPTION_BIT(OPTION_BEST_EFFORT) |
                           OPTION_BIT(OPTION_SCOPE),
        },
        {
                .name = "monitor",
                .synopsis = "",
                .help = "Print what changes, until interrupted",
                .run = verb_monitor,
        },
        {
                .name = "rescan",
                .synopsis = "",
                .help = "Have the broker look at the host's SPUs again",
                .run = verb_rescan,
        },
        {
                .name = "reload",
                .synopsis = "",
                .help = "Have the broker read its configuration again",
                .run = verb_reload,
        },
};

const Verb *verb_find(const char *name) {
        if (!name)
                return &verbs[0];
        for (size_t i = 0; i < ELEMENTS_OF(verbs); i++)
                if (strcmp(verbs[i].name, name) == 0)
                        return &verbs[i];
        return NULL;
}

/* Names are short: a longer word is no typing error of one. */
#define NAME_MAX_LENGTH 15U
/* Letters wrong, missing, too many or swapped, beyond which it is another word. */
#define DISTANCE_MAX 2U

static unsigned min3(unsigned a, unsigned b, unsigned c) {
        unsigned m = a < b ? a : b;

        return m < c ? m : c;
}

/* Letters to insert, delete, replace, or swap with their neighbour, to make @a of @b. */
static unsigned distance(const char *a, size_t n_a, const char *b, size_t n_b) {
        unsigned d[NAME_MAX_LENGTH + 1][NAME_MAX_LENGTH + 1];

        for (size_t i = 0; i <= n_a; i++)
                d[i][0] = (unsigned)i;
        for (size_t j = 0; j <= n_b; j++)
                d[0][j] = (unsigned)j;
        for (size_t i = 1; i <= n_a; i++)
                for (size_t j = 1; j <= n_b; j++) {
                        d[i][j] = min3(d[i - 1][j] + 1, d[i][j - 1] + 1,
                                       d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                            d[i - 2][j - 2] + 1 < d[i][j])
                                d[i][j] = d[i - 2][j - 2] + 1;
                }
        return d[n_a][n_b];
}

const Verb *verb_nearest(const char *name) {
        unsigned best = DISTANCE_MAX + 1;
        const Verb *nearest = NULL;
        size_t n = strlen(name);

        if (n > NAME_MAX_LENGTH)
                return NULL;
        for (size_t i = 0; i < ELEMENTS_OF(verbs); i++) {
                unsigned d = distance(verbs[i].name, strlen(verbs[i].name), name, n);

                if (d < best) {
                        best = d;
                        nearest = &verbs[i];
                }
        }
        return nearest;
}

void verb_print_all(FILE *file) {
        for (size_t i = 0; i < ELEMENTS_OF(verbs); i++)
                fprintf(file, "  %-10s %s\n", verbs[i].name, verbs[i].help);
}

void verb_print_names(FILE *file) {
        for (size_t i = 0; i < ELEMENTS_OF(verbs); i++)
                fprintf(file, "%s\n", verbs[i].name);
}

void verb_print_help(const Verb *verb, FILE *file) {
        fprintf(file, "speadm %s%s%s\n\n%s.\n", verb->name, *verb->synopsis ? " " : "", verb->synopsis,
                verb->help);
        if (verb->more)
                fprintf(file, "\n%s\n", verb->more);
        fputs("\nOptions:\n", file);
        arguments_print_help(file, verb->options);
        arguments_print_help(file, OPTIONS_COMMON);
}
