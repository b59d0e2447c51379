/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What fault-shim.c does to a call, by the rules that it documents. */

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#define CALL_MEMORY "malloc"

/* What follows in the search of symbols: the C library's, or a sanitizer's. */
#define NEXT(name)                                                  \
        ({                                                          \
                static __typeof__(&name) next_;                     \
                                                                    \
                if (!next_)                                         \
                        *(void **)&next_ = dlsym(RTLD_NEXT, #name); \
                next_;                                              \
        })

typedef enum Action {
        ACTION_PASS,
        ACTION_FAIL,
        ACTION_SHORT,
        ACTION_KILL_BEFORE,
        ACTION_KILL_AFTER,
        ACTION_TORN,
        ACTION_STOP_BEFORE,
        ACTION_STOP_AFTER,
} Action;

/* What a call is about: a path, or two; a descriptor; bytes. */
typedef struct Subject {
        const char *path, *other_path;
        const struct iovec *data;
        size_t n_data;
        const char *word;
        int fd, other_fd;
} Subject;

typedef struct Verdict {
        Action action;
        int error;
} Verdict;

/* What becomes of this call; what is to happen before it has happened then. */
Verdict rules_judge(const char *call, const Subject *subject);
/* Whether there are rules now, the new ones where they have changed. */
bool rules_look(void);
/* False: this allocation is no rule's business. Asked for each of them, so it does no more than that. */
bool rules_may_be_about_memory(void);

/* True: the call fails, errno says with what. */
bool verdict_fails(const Verdict *verdict);
/* What is to happen after the call. */
void verdict_finish(const Verdict *verdict);
/* So many of @n bytes. */
size_t verdict_part(const Verdict *verdict, size_t n);
