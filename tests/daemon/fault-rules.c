/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The rules, and which of them a call meets. What is here is called from within any call of the daemon, so it
 * allocates nothing, and makes its own system calls past the wrappers.
 */

#include "tests/daemon/fault-rules.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RULES_MAX    64U
#define SUBJECT_SIZE 16384U
#define ERRNO_MAX    200

typedef struct Rule {
        char call[32];
        char text[256];
        unsigned first, last;
        bool odd;
        Action action;
        int error;
        unsigned n; /* calls that fitted */
} Rule;

static const char *rules_path;
static int log_fd = -1;
static struct stat rules_stat;
static Rule rules[RULES_MAX];
static unsigned n_rules;
static bool enabled, about_memory;

static const char *const action_names[] = {
        [ACTION_PASS] = "pass",
        [ACTION_SHORT] = "short",
        [ACTION_KILL_BEFORE] = "kill-before",
        [ACTION_KILL_AFTER] = "kill-after",
        [ACTION_TORN] = "torn",
        [ACTION_STOP_BEFORE] = "stop-before",
        [ACTION_STOP_AFTER] = "stop-after",
};

/* A rule that is not understood would never fire. */
__attribute__((__noreturn__)) static void reject(const char *line) {
        static const char text[] = "fault-shim: this is no rule: ";

        (void)!NEXT(write)(STDERR_FILENO, text, sizeof(text) - 1);
        (void)!NEXT(write)(STDERR_FILENO, line, strlen(line));
        (void)!NEXT(write)(STDERR_FILENO, "\n", 1);
        abort();
}

static void parse_action(const char *word, const char *line, Rule *rule) {
        for (size_t i = 0; i < sizeof(action_names) / sizeof(*action_names); i++)
                if (action_names[i] && strcmp(action_names[i], word) == 0) {
                        rule->action = (Action)i;
                        return;
                }
        for (int i = 1; i < ERRNO_MAX; i++)
                if (strerrorname_np(i) && strcmp(strerrorname_np(i), word) == 0) {
                        rule->action = ACTION_FAIL;
                        rule->error = i;
                        return;
                }
        reject(line);
}

static void parse_which(const char *word, const char *line, Rule *rule) {
        char *end;

        rule->first = 1;
        rule->last = UINT32_MAX;
        rule->odd = strcmp(word, "odd") == 0;
        if (rule->odd || strcmp(word, "*") == 0)
                return;

        rule->first = rule->last = (unsigned)strtoul(word, &end, 10);
        if (strcmp(end, "+") == 0)
                rule->last = UINT32_MAX;
        else if (*end == '-')
                rule->last = (unsigned)strtoul(end + 1, &end, 10);
        if (rule->first == 0 || (*end != '\0' && *end != '+'))
                reject(line);
}

/* Cuts @line at its last colon and returns what is behind it. */
static char *cut_last(char *line) {
        char *colon = strrchr(line, ':');

        if (colon)
                *colon++ = '\0';
        return colon;
}

/* The text may have colons itself. */
static void parse_rule(char *line) {
        char copy[512], *text, *which, *action;
        Rule *rule = &rules[n_rules];

        (void)snprintf(copy, sizeof(copy), "%s", line);
        action = cut_last(copy);
        which = cut_last(copy);
        text = strchr(copy, ':');
        if (n_rules == RULES_MAX || !action || !which || !text)
                reject(line);
        *text++ = '\0';

        *rule = (Rule){0};
        if (strlen(copy) >= sizeof(rule->call) || strlen(text) >= sizeof(rule->text))
                reject(line);
        (void)snprintf(rule->call, sizeof(rule->call), "%.31s", copy);
        (void)snprintf(rule->text, sizeof(rule->text), "%.255s", text);
        parse_which(which, line, rule);
        parse_action(action, line, rule);
        about_memory = about_memory || strcmp(rule->call, CALL_MEMORY) == 0;
        n_rules++;
}

static void load_rules(void) {
        static char text[RULES_MAX * 512];
        int fd = NEXT(open)(rules_path, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        n_rules = 0;
        about_memory = false;
        if (fd < 0) { /* there is no descriptor left, or the file has just gone: it is looked at again */
                rules_stat = (struct stat){0};
                return;
        }
        n = NEXT(read)(fd, text, sizeof(text) - 1);
        (void)NEXT(close)(fd);
        text[n > 0 ? n : 0] = '\0';
        for (char *line = text, *end; *line; line = end) {
                end = line + strcspn(line, "\n");
                if (*end)
                        *end++ = '\0';
                if (*line)
                        parse_rule(line);
        }
}

__attribute__((__constructor__)) static void set_up(void) {
        const char *program = getenv("SPE_FAULTS_PROGRAM"), *log = getenv("SPE_FAULTS_LOG");

        rules_path = getenv("SPE_FAULTS");
        enabled = rules_path && program && strcmp(program, program_invocation_short_name) == 0;
        if (enabled && log) {
                int fd = NEXT(open)(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);

                log_fd = NEXT(fcntl)(fd, F_DUPFD_CLOEXEC, 900); /* out of the way of what systemd passes */
                (void)NEXT(close)(fd);
        }
}

bool rules_look(void) {
        static bool looking;
        struct stat st;
        int saved = errno;

        if (!enabled || looking)
                return false;

        looking = true;
        if (NEXT(syscall)(SYS_newfstatat, (long)AT_FDCWD, (long)rules_path, (long)&st, 0L, 0L, 0L) < 0) {
                n_rules = 0;
                rules_stat = (struct stat){0};
        } else if (st.st_ino != rules_stat.st_ino ||
                   memcmp(&st.st_ctim, &rules_stat.st_ctim, sizeof(st.st_ctim)) != 0) {
                rules_stat = st;
                load_rules();
        }
        looking = false;
        errno = saved;
        return n_rules > 0;
}

static size_t add_link(char *text, size_t n, int fd) {
        char path[64];
        long k;

        if (fd < 0)
                return n;
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%i", fd);
        k = NEXT(syscall)(SYS_readlinkat, (long)AT_FDCWD, (long)path, (long)(text + n),
                          (long)(SUBJECT_SIZE - n - 1), 0L, 0L);
        return n + (size_t)(k > 0 ? k : 0);
}

static size_t add(char *text, size_t n, const char *data, size_t n_data) {
        if (n_data > SUBJECT_SIZE - n - 1)
                n_data = SUBJECT_SIZE - n - 1;
        for (size_t i = 0; i < n_data; i++)
                text[n++] = data[i] < ' ' ? ' ' : data[i];
        return n;
}

static size_t add_path(char *text, size_t n, int dir_fd, const char *path) {
        if (path[0] != '/' && dir_fd >= 0) {
                n = add_link(text, n, dir_fd);
                n = add(text, n, "/", 1);
        }
        return add(text, n, path, strlen(path));
}

static const char *describe(const Subject *s) {
        static char text[SUBJECT_SIZE];
        size_t n = 0;

        if (s->word) {
                n = add(text, n, s->word, strlen(s->word));
                n = add(text, n, " ", 1);
        }
        if (s->path)
                n = add_path(text, n, s->fd, s->path);
        else if (!s->data)
                n = add_link(text, n, s->fd);
        if (s->other_path) {
                n = add(text, n, " ", 1);
                n = add_path(text, n, s->other_fd, s->other_path);
        }
        for (size_t i = 0; s->data && i < s->n_data; i++)
                n = add(text, n, s->data[i].iov_base, s->data[i].iov_len);
        text[n] = '\0';
        return text;
}

static bool fits(const Rule *rule, const char *call, const char **subject, const Subject *s) {
        if (strcmp(rule->call, call) != 0 && (strcmp(rule->call, "*") != 0 || strcmp(call, CALL_MEMORY) == 0))
                return false;
        if (!*subject)
                *subject = describe(s);
        return strstr(*subject, rule->text);
}

static bool is_due(const Rule *rule) {
        return rule->n >= rule->first && rule->n <= rule->last && (!rule->odd || rule->n % 2 == 1);
}

static void tell(unsigned i, const char *call, const char *subject) {
        char line[1024];
        int n = snprintf(line, sizeof(line), "%u %s %.900s\n", i, call, subject);

        if (log_fd >= 0 && NEXT(write)(log_fd, line, (size_t)n) != n)
                abort();
}

static void end_it(void) {
        (void)raise(SIGKILL);
}

Verdict rules_judge(const char *call, const Subject *s) {
        Verdict verdict = {.action = ACTION_PASS};
        const char *subject = NULL;
        const Rule *found = NULL;
        int saved = errno;

        if (!rules_look())
                return verdict;

        for (unsigned i = 0; i < n_rules; i++) {
                Rule *rule = &rules[i];

                if (!fits(rule, call, &subject, s))
                        continue;
                rule->n++;
                if (found || !is_due(rule))
                        continue;
                found = rule;
                tell(i, call, subject);
        }
        if (found) {
                verdict = (Verdict){.action = found->action, .error = found->error};
                if (found->action == ACTION_KILL_BEFORE)
                        end_it();
                if (found->action == ACTION_STOP_BEFORE)
                        (void)raise(SIGSTOP);
        }
        errno = saved;
        return verdict;
}

bool verdict_fails(const Verdict *verdict) {
        if (verdict->action != ACTION_FAIL)
                return false;
        errno = verdict->error;
        return true;
}

void verdict_finish(const Verdict *verdict) {
        int saved = errno;

        if (verdict->action == ACTION_KILL_AFTER || verdict->action == ACTION_TORN)
                end_it();
        if (verdict->action == ACTION_STOP_AFTER)
                (void)raise(SIGSTOP);
        errno = saved;
}

size_t verdict_part(const Verdict *verdict, size_t n) {
        if (verdict->action != ACTION_SHORT && verdict->action != ACTION_TORN)
                return n;
        return n > 1 ? n / 2 : n;
}

bool rules_may_be_about_memory(void) {
        return enabled && (about_memory || n_rules == 0);
}
