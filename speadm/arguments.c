/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The table of options and its reader. What can be judged without the broker (a number, a size, a time, a
 * cpulist, a word) is judged here, so that the sentence names the option; the rest is the broker's to refuse.
 */

#include <getopt.h>
#include <string.h>

#include "speadm/arguments.h"
#include "speadm/speadm.h"
#include "speadm/tell.h"
#include "speadm/words.h"
#include "util/cpuset.h"
#include "util/parse.h"
#include "varlink/utf8.h"

typedef struct Option {
        const char *name;
        char letter;           /* or 0 */
        const char *argument;  /* what it takes, or NULL */
        const char *parameter; /* the parameter that it sets, where it has another name */
        const char *help;
} Option;

static const Option options[_OPTION_MAX] = {
        [OPTION_SOCKET] = {"socket", 0, "PATH", NULL, "where the broker listens"},
        [OPTION_JSON] = {"json", 'j', NULL, NULL, "print JSON, as the broker sent it"},
        [OPTION_NO_LEGEND] = {"no-legend", 0, NULL, NULL, "print no headings and no remarks"},
        [OPTION_HELP] = {"help", 'h', NULL, NULL, "print this help"},
        [OPTION_VERSION] = {"version", 'V', NULL, NULL, "print the version"},
        [OPTION_LIST_VERBS] = {"list-verbs", 0, NULL, NULL, "print every verb, for completion"},
        [OPTION_LIST_OPTIONS] = {"list-options", 0, NULL, NULL, "print the verb's options, for completion"},
        [OPTION_VM] = {"vm", 0, "NAME", NULL, "the virtual machine"},
        [OPTION_VCPUS] = {"vcpus", 0, "N", NULL, "number of VCPUs"},
        [OPTION_CPUS] = {"cpus", 0, "LIST", NULL, "CPUs of the host, as in 0-3,8"},
        [OPTION_INSTANCE] = {"instance", 0, "NAME", NULL, "the SPU, as in arm_spe_0"},
        [OPTION_BUFFER] = {"buffer", 0, "SIZE", "bufferSize", "profiling buffer per VCPU, as in 4M"},
        [OPTION_EXACT] = {"exact", 0, NULL, NULL, "this buffer size or none"},
        [OPTION_MODE] = {"mode", 0, "MODE", NULL, "exclusive, guest or shared"},
        [OPTION_PID] = {"pid", 0, "PID", NULL, "the process, by its id"},
        [OPTION_CGROUP] = {"cgroup", 0, "PATH", NULL, "the control group, as in 0::PATH of /proc/PID/cgroup"},
        [OPTION_WAIT_TIME] = {"wait", 0, "TIME", "waitUSec", "wait that long while others are in the way"},
        [OPTION_WAIT] = {"wait", 0, NULL, NULL, "wait until nothing is in the way"},
        [OPTION_RUNTIME] = {"runtime", 0, NULL, NULL, "until reboot"},
        [OPTION_FOR] = {"for", 0, "TIME", "forUSec", "for that long, as in 30s or 2h; implies --runtime"},
        [OPTION_GRACE] = {"grace", 0, "TIME", "graceUSec", "how long the owner has to release it"},
        [OPTION_REASON] = {"reason", 0, "TEXT", NULL, "why, told to the owner"},
        [OPTION_KILL] = {"kill", 0, NULL, NULL, "kill the owner when the grace is over"},
        [OPTION_LIMIT] = {"limit", 0, "N", NULL, "the newest N only"},
        [OPTION_REQUIRE] = {"require", 0, "LEVEL", NULL, "fail below enforce, reserve, observe or none"},
        [OPTION_BEST_EFFORT] = {"best-effort", 0, NULL, NULL, "without a lease if there is none to be had"},
        [OPTION_SCOPE] = {"scope", 0, NULL, NULL, "in a systemd scope, which has the lease"},
};

static int parse_number(const Option *option, const char *text, uint64_t *ret_value) {
        uint64_t value;

        if (parse_u64(text, INT64_MAX, &value) != 0 || value == 0)
                return complain_usage("--%s takes a number above 0, not '%s'", option->name, text);
        *ret_value = value;
        return SPEADM_DONE;
}

static int parse_time(const Option *option, const char *text, uint64_t *ret_usec) {
        uint64_t usec;

        if (parse_duration(text, &usec) != 0 || usec > INT64_MAX)
                return complain_usage("--%s takes a time such as 250ms, 30s or '1h 30m', not '%s'",
                                      option->name, text);
        *ret_usec = usec;
        return SPEADM_DONE;
}

static int parse_buffer_size(const Option *option, const char *text, uint64_t *ret_bytes) {
        uint64_t bytes;

        if (parse_size(text, &bytes) != 0 || bytes == 0)
                return complain_usage("--%s takes a size such as 512K or 4M, not '%s'", option->name, text);
        *ret_bytes = bytes;
        return SPEADM_DONE;
}

static int parse_cpus(const Option *option, const char *text, const char **ret_cpus) {
        CpuSet set;
        int r;

        r = cpuset_parse(text, strlen(text), &set);
        if (r == CPUSET_E_RANGE)
                return complain_usage("--%s: CPUs are numbered below %u, not as in '%s'", option->name,
                                      CPUSET_MAX, text);
        if (r != 0 || cpuset_is_empty(&set))
                return complain_usage("--%s takes a list of CPUs such as 0-3,8, not '%s'", option->name,
                                      text);
        *ret_cpus = text;
        return SPEADM_DONE;
}

static int parse_mode(const Option *option, const char *text, const char **ret_mode) {
        if (strcmp(text, "exclusive") != 0 && strcmp(text, "guest") != 0 && strcmp(text, "shared") != 0)
                return complain_usage("--%s is exclusive, guest or shared, not '%s'", option->name, text);
        *ret_mode = text;
        return SPEADM_DONE;
}

static int parse_level(const Option *option, const char *text, const char **ret_level) {
        if (words_level_rank(text) < 0)
                return complain_usage("--%s is enforce, reserve, observe or none, not '%s'", option->name,
                                      text);
        *ret_level = text;
        return SPEADM_DONE;
}

static int parse_path(const Option *option, const char *text, const char **ret_path) {
        if (!*text)
                return complain_usage("--%s takes no empty %s", option->name, option->argument);
        *ret_path = text;
        return SPEADM_DONE;
}

static bool is_utf8(const char *text) {
        for (size_t n = strlen(text), length; n > 0; n -= length, text += length) {
                length = utf8_sequence(text, n);
                if (length == 0)
                        return false;
        }
        return true;
}

/* What the wire cannot carry would reach the broker as something else. */
static int parse_text(const Option *option, const char *text, const char **ret_text) {
        if (!is_utf8(text))
                return complain_usage("--%s takes UTF-8 text", option->name);
        return parse_path(option, text, ret_text);
}

static int arguments_take(Arguments *arguments, OptionId id, const char *text) {
        const Option *option = &options[id];

        arguments->given |= OPTION_BIT(id);
        switch (id) {
        case OPTION_SOCKET:
                return parse_path(option, text, &arguments->socket);
        case OPTION_VM:
                return parse_text(option, text, &arguments->vm);
        case OPTION_INSTANCE:
                return parse_text(option, text, &arguments->instance);
        case OPTION_REASON:
                return parse_text(option, text, &arguments->reason);
        case OPTION_CPUS:
                return parse_cpus(option, text, &arguments->cpus);
        case OPTION_REQUIRE:
                return parse_level(option, text, &arguments->require);
        case OPTION_MODE:
                return parse_mode(option, text, &arguments->mode);
        case OPTION_BUFFER:
                return parse_buffer_size(option, text, &arguments->buffer_size);
        case OPTION_VCPUS:
                return parse_number(option, text, &arguments->vcpus);
        case OPTION_PID:
                return parse_number(option, text, &arguments->pid);
        case OPTION_LIMIT:
                return parse_number(option, text, &arguments->limit);
        case OPTION_WAIT_TIME:
                return parse_time(option, text, &arguments->wait_usec);
        case OPTION_FOR:
                return parse_time(option, text, &arguments->for_usec);
        case OPTION_GRACE:
                return parse_time(option, text, &arguments->grace_usec);
        default:
                return SPEADM_DONE; /* a flag: given says it all */
        }
}

/* getopt_long()'s forms of the allowed options: letters stand for ids, so that both spellings yield one. */
typedef struct Getopt {
        struct option longs[_OPTION_MAX + 1];
        char shorts[2 * _OPTION_MAX + 3];
} Getopt;

#define GETOPT_FIRST 0x100 /* above any letter */

static void getopt_fill(Getopt *getopt, uint32_t allowed, bool stop_early) {
        char *letter = getopt->shorts;
        size_t n = 0;

        if (stop_early)
                *letter++ = '+';
        *letter++ = ':';
        for (OptionId id = 0; id < _OPTION_MAX; id++) {
                if (!(allowed & OPTION_BIT(id)))
                        continue;
                getopt->longs[n++] = (struct option){
                        .name = options[id].name,
                        .has_arg = options[id].argument ? required_argument : no_argument,
                        .val = GETOPT_FIRST + (int)id,
                };
                if (options[id].letter)
                        *letter++ = options[id].letter;
        }
        getopt->longs[n] = (struct option){0};
        *letter = '\0';
}

static OptionId option_of_letter(int letter) {
        OptionId id = 0;

        while (id < _OPTION_MAX && options[id].letter != letter)
                id++;
        return id;
}

/* What getopt_long() stumbled over: a long option that it knows in part, an unknown one, or a letter. */
static int complain_option(int c, const char *word) {
        if (c == ':')
                return complain_usage("option '%s' takes an argument", word);
        if (optopt >= GETOPT_FIRST)
                return complain_usage("option '%s' takes no argument", word);
        if (optopt)
                return complain_usage("there is no option '-%c' here", optopt);
        return complain_usage("there is no option '%s' here, or it stands for several", word);
}

int arguments_parse(Arguments *arguments, uint32_t allowed, bool stop_early, int argc, char **argv) {
        Getopt forms;
        int c, r;

        getopt_fill(&forms, allowed, stop_early);
        opterr = 0;
        optind = 0; /* glibc: begin anew */
        while ((c = getopt_long(argc, argv, forms.shorts, forms.longs, NULL)) != -1) {
                if (c == ':' || c == '?')
                        return complain_option(c, argv[optind - 1]);
                r = arguments_take(arguments,
                                   c >= GETOPT_FIRST ? (OptionId)(c - GETOPT_FIRST) : option_of_letter(c),
                                   optarg);
                if (r != SPEADM_DONE)
                        return r;
        }
        arguments->operands = argv + optind;
        arguments->n_operands = argc - optind;
        return SPEADM_DONE;
}

void arguments_print_help(FILE *file, uint32_t mask) {
        for (OptionId id = 0; id < _OPTION_MAX; id++) {
                const Option *option = &options[id];
                char form[32];

                if (!(mask & OPTION_BIT(id)))
                        continue;
                (void)snprintf(form, sizeof form, "%s%s%s", option->name, option->argument ? " " : "",
                               option->argument ? option->argument : "");
                if (option->letter)
                        fprintf(file, "  -%c, --%-18s %s\n", option->letter, form, option->help);
                else
                        fprintf(file, "      --%-18s %s\n", form, option->help);
        }
}

void arguments_print_words(FILE *file, uint32_t mask) {
        for (OptionId id = 0; id < _OPTION_MAX; id++)
                if (mask & OPTION_BIT(id))
                        fprintf(file, "--%s\n", options[id].name);
}

const char *arguments_option_of_parameter(const char *parameter) {
        for (OptionId id = OPTION_VM; id < _OPTION_MAX; id++)
                if (strcmp(options[id].parameter ? options[id].parameter : options[id].name, parameter) == 0)
                        return options[id].name;
        return NULL;
}
