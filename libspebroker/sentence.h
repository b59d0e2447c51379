/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <spebroker/spebroker.h>

/* Puts a '?' for each character that must not reach a terminal. */
void sentence_clean(char *text);

/* What an error says, in a sentence for people that is clean. -ENOMEM. */
int sentence_new(const struct spebroker_refusal *refusal, char **ret_text);
