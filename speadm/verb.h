/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The verbs: one table, from which dispatch, help and the shell's completion come. One file per family. */

#include <stdint.h>
#include <stdio.h>

#include "speadm/speadm.h"

#define VERB_OPERANDS_ANY (-1)

typedef struct Verb {
        const char *name;
        const char *synopsis; /* what follows the name */
        const char *help;     /* one line */
        const char *more;     /* for --help of the verb, or NULL */
        int (*run)(Speadm *speadm);
        int min_operands, max_operands; /* max may be VERB_OPERANDS_ANY: a command, which ends the options */
        uint32_t options;               /* beyond OPTIONS_COMMON */
} Verb;

/* The verb of that name, or NULL. Without a name: the default, list. */
const Verb *verb_find(const char *name);
/* The verb that was perhaps meant, or NULL. */
const Verb *verb_nearest(const char *name);

void verb_print_all(FILE *file);
void verb_print_names(FILE *file);
void verb_print_help(const Verb *verb, FILE *file);

int verb_list(Speadm *speadm);
int verb_leases(Speadm *speadm);
int verb_sessions(Speadm *speadm);
int verb_refusals(Speadm *speadm);
int verb_status(Speadm *speadm);
int verb_check(Speadm *speadm);
int verb_query(Speadm *speadm);
int verb_assign(Speadm *speadm);
int verb_unassign(Speadm *speadm);
int verb_drain(Speadm *speadm);
int verb_release(Speadm *speadm);
int verb_revoke(Speadm *speadm);
int verb_run(Speadm *speadm);
int verb_monitor(Speadm *speadm);
int verb_rescan(Speadm *speadm);
int verb_reload(Speadm *speadm);
