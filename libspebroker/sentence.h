/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <spebroker/spebroker.h>

/* What an error says, in a sentence for people, on one line without control characters. -ENOMEM. */
int sentence_new(const struct spebroker_refusal *refusal, char **ret_text);
