/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * bpf/reserve.h at the command of a test, a line each: "hold TYPE CPU", "ask TYPE CPU", "try TYPE CPU",
 * "ask-thread TYPE THREAD", "release CPU", "look CPUS", "held". Answers with the outcome as one word, or the
 * set; ends with its input.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bpf/reserve.h"
#include "util/cleanup.h"
#include "util/cpuset.h"

static const char *word_of(int r) {
        static const char *const words[] = {
                [_RESERVE_E_SUCCESS] = "ok",       [RESERVE_E_BUSY] = "busy",
                [RESERVE_E_OFF_LINE] = "off-line", [RESERVE_E_SHARED] = "shared",
                [RESERVE_E_DENIED] = "denied",
        };

        return r < 0 ? strerrorname_np(-r) : words[r];
}

static void say_held(const Reserve *reserve) {
        char text[CPUSET_TEXT_MAX];

        (void)cpuset_format(reserve_get_held(reserve), text, sizeof(text));
        puts(text);
}

static bool obey(Reserve *reserve, const char *line) {
        unsigned type, cpu;
        char word[16], rest[128] = "";
        CpuSet online;

        if (sscanf(line, "%15s %127[^\n]", word, rest) < 1) /* NOLINT(cert-err34-c) */
                return false;
        if (strcmp(word, "held") == 0) {
                say_held(reserve);
                return true;
        }
        if (strcmp(word, "look") == 0) {
                if (cpuset_parse(rest, strlen(rest), &online))
                        return false;
                reserve_look(reserve, &online);
                say_held(reserve);
                return true;
        }
        if (strcmp(word, "release") == 0) {
                if (sscanf(rest, "%u", &cpu) != 1) /* NOLINT(cert-err34-c) */
                        return false;
                reserve_release(reserve, cpu);
                say_held(reserve);
                return true;
        }
        if (sscanf(rest, "%u %u", &type, &cpu) != 2) /* NOLINT(cert-err34-c) */
                return false;
        if (strcmp(word, "hold") == 0)
                puts(word_of(reserve_hold(reserve, type, cpu)));
        else if (strcmp(word, "ask") == 0)
                puts(word_of(reserve_ask(reserve, type, cpu)));
        else if (strcmp(word, "try") == 0)
                puts(word_of(reserve_try(type, cpu)));
        else if (strcmp(word, "ask-thread") == 0)
                puts(word_of(reserve_ask_thread(type, (pid_t)cpu, /* cpu= */ -1)));
        else
                return false;
        return true;
}

int main(void) {
        _cleanup_(reserve_freep) Reserve *reserve = NULL;
        char line[160];

        if (reserve_new(&reserve) < 0)
                return 1;
        setvbuf(stdout, NULL, _IOLBF, 0);
        while (fgets(line, sizeof(line), stdin))
                if (!obey(reserve, line)) {
                        (void)fprintf(stderr, "what is: %s", line);
                        return 2;
                }
        return 0;
}
