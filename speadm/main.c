/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * speadm: the operator's command. This file finds the verb, reads its options and runs it; what a verb prints
 * is complete only if it could be written, so the last act is to look at stdout.
 */

#include <locale.h>
#include <spebroker/spebroker.h>
#include <stdio.h>

#include "speadm/speadm.h"
#include "speadm/tell.h"
#include "speadm/verb.h"

static void print_help(void) {
        puts("speadm [OPTIONS] [VERB] [...]\n\n"
             "Shows and administers the Arm SPE hardware that spe-broker(8) brokers between host and "
             "guests.\n\n"
             "Verbs:");
        verb_print_all(stdout);
        puts("\nOptions:");
        arguments_print_help(stdout, OPTIONS_COMMON | OPTION_BIT(OPTION_VERSION));
        puts("\nExit status: 0 done, 1 failed, 2 usage, 3 refused, 4 no broker, 77 this host cannot.\n"
             "'speadm VERB --help' says more; so does speadm(1).");
}

static int complain_verb(const char *name) {
        const Verb *nearest = verb_nearest(name);

        if (nearest)
                return complain_usage("there is no verb '%s'; did you mean '%s'?", name, nearest->name);
        return complain_usage("there is no verb '%s'", name);
}

static int complain_operands(const Verb *verb, const Arguments *arguments) {
        if (arguments->n_operands < verb->min_operands)
                return complain_usage("something is missing: speadm %s %s", verb->name, verb->synopsis);
        return complain_usage("'%s' is too much: speadm %s%s%s", arguments->operands[verb->max_operands],
                              verb->name, *verb->synopsis ? " " : "", verb->synopsis);
}

/* @argv[0] is the verb's name. */
static int run_verb(Speadm *speadm, const Verb *verb, int argc, char **argv) {
        Arguments *arguments = &speadm->arguments;
        bool takes_command = verb->max_operands == VERB_OPERANDS_ANY;
        int r;

        r = arguments_parse(arguments, OPTIONS_COMMON | OPTION_BIT(OPTION_LIST_OPTIONS) | verb->options,
                            takes_command, argc, argv);
        if (r != SPEADM_DONE)
                return r;
        if (arguments_has(arguments, OPTION_HELP)) {
                verb_print_help(verb, stdout);
                return SPEADM_DONE;
        }
        if (arguments_has(arguments, OPTION_LIST_OPTIONS)) {
                arguments_print_words(stdout, OPTIONS_COMMON | verb->options);
                return SPEADM_DONE;
        }
        if (arguments->n_operands < verb->min_operands ||
            (!takes_command && arguments->n_operands > verb->max_operands))
                return complain_operands(verb, arguments);
        return verb->run(speadm);
}

static int run(Speadm *speadm, int argc, char **argv) {
        static char default_name[] = "list";
        char *default_argv[] = {default_name, NULL};
        Arguments *arguments = &speadm->arguments;
        const Verb *verb;
        int r;

        r = arguments_parse(arguments, OPTIONS_GLOBAL, /* stop_early= */ true, argc, argv);
        if (r != SPEADM_DONE)
                return r;
        if (arguments_has(arguments, OPTION_VERSION)) {
                puts("speadm " SPE_VERSION);
                return SPEADM_DONE;
        }
        if (arguments_has(arguments, OPTION_LIST_VERBS)) {
                verb_print_names(stdout);
                return SPEADM_DONE;
        }
        if (arguments_has(arguments, OPTION_HELP)) {
                print_help();
                return SPEADM_DONE;
        }
        if (arguments->n_operands == 0)
                return run_verb(speadm, verb_find(NULL), 1, default_argv);
        verb = verb_find(arguments->operands[0]);
        if (!verb)
                return complain_verb(arguments->operands[0]);
        return run_verb(speadm, verb, arguments->n_operands, arguments->operands);
}

int main(int argc, char **argv) {
        Speadm speadm = {.arguments = {.socket = SPEBROKER_SOCKET}};
        int r;

        (void)setlocale(LC_ALL, ""); /* the width of VM names, and nothing else */
        r = run(&speadm, argc, argv);
        varlink_client_free(speadm.client);
        if (fflush(stdout) != 0 || ferror(stdout)) {
                complain("cannot write to standard output: %m");
                return r == SPEADM_DONE ? SPEADM_FAILED : r;
        }
        return r;
}
