/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What has become of a lease while nobody listened, in the words that the broker would have said.
 */

#include <spebroker/spebroker.h>
#include <stddef.h>

/* At the same time: of its state, of its CPUs, of contention, of its threads' place. */
#define CHANGES_MAX 4U

/*
 * The changes from @before to @after, in the order in which they are to be told; none if all that differs is
 * what differs with time. Without @before: the one that came with @after, which may be NULL. The words are
 * literals, or @after's.
 */
size_t changes_between(const struct spebroker_lease *before, const struct spebroker_lease *after,
                       const char *ret_changes[static CHANGES_MAX]);
