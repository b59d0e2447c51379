/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The command line as one value. Every option stands once, in the table of arguments.c: its name, what it
 * takes, its help. An option means the same to every verb that takes it; a verb says which with a mask.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum OptionId {
        OPTION_SOCKET,
        OPTION_JSON,
        OPTION_NO_LEGEND,
        OPTION_HELP,
        OPTION_VERSION,
        OPTION_LIST_VERBS,
        OPTION_LIST_OPTIONS,
        OPTION_VM,
        OPTION_VCPUS,
        OPTION_CPUS,
        OPTION_INSTANCE,
        OPTION_BUFFER,
        OPTION_EXACT,
        OPTION_MODE,
        OPTION_PID,
        OPTION_CGROUP,
        OPTION_WAIT_TIME, /* --wait TIME */
        OPTION_WAIT,      /* --wait */
        OPTION_RUNTIME,
        OPTION_FOR,
        OPTION_GRACE,
        OPTION_REASON,
        OPTION_KILL,
        OPTION_LIMIT,
        OPTION_REQUIRE,
        OPTION_BEST_EFFORT,
        OPTION_SCOPE,
        _OPTION_MAX,
} OptionId;

#define OPTION_BIT(id) (UINT32_C(1) << (id))

/* What every verb takes; and what stands only before the verb. */
#define OPTIONS_COMMON                                                                        \
        (OPTION_BIT(OPTION_SOCKET) | OPTION_BIT(OPTION_JSON) | OPTION_BIT(OPTION_NO_LEGEND) | \
         OPTION_BIT(OPTION_HELP))
#define OPTIONS_GLOBAL (OPTIONS_COMMON | OPTION_BIT(OPTION_VERSION) | OPTION_BIT(OPTION_LIST_VERBS))

typedef struct Arguments {
        uint32_t given; /* OPTION_BIT() of each option that stands on the command line */

        const char *socket;
        const char *vm;
        const char *cpus; /* a cpulist that parses and is not empty */
        const char *instance;
        const char *mode;
        const char *cgroup;
        const char *reason;
        const char *require; /* a level */
        uint64_t vcpus;
        uint64_t buffer_size;
        uint64_t pid;
        uint64_t wait_usec;
        uint64_t for_usec;
        uint64_t grace_usec;
        uint64_t limit;

        char **operands; /* what follows the verb and its options, NULL-terminated */
        int n_operands;
} Arguments;

static inline bool arguments_has(const Arguments *arguments, OptionId id) {
        return arguments->given & OPTION_BIT(id);
}

/*
 * Reads the options of @allowed from @argv[1] on. Operands may stand between options, except if @stop_early:
 * then the first operand ends them (what comes before the verb; run's command). Returns SPEADM_DONE, or
 * SPEADM_USAGE with the reason told.
 */
int arguments_parse(Arguments *arguments, uint32_t allowed, bool stop_early, int argc, char **argv);

/* For --help: one line per option of @options. */
void arguments_print_help(FILE *file, uint32_t options);
/* For the shell's completion: one word per line. */
void arguments_print_words(FILE *file, uint32_t options);

/* The long option that sets @parameter of a call, "--buffer" for "bufferSize"; NULL for none. */
const char *arguments_option_of_parameter(const char *parameter);
