/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A broker for libspebroker's tests that plays a script on a thread of its own. In what it hears, "@I" stands
 * for a request id of the library's, the same as before, "@J" for another one than before (or the first), and
 * "@N" for a number that is positive and smaller than the one before.
 */

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/connect.h"
#include "util/cleanup.h"

typedef enum Action {
        END,
        ACCEPT,
        HEAR,      /* a message, which must be this text */
        HEAR_NONE, /* the client closes without a word */
        SAY,
        CLOSE, /* the connection */
        STOP,  /* listening, and the socket's name with it */
        LISTEN,
        BLOCK, /* whoever connects: the queue of those who wait to be accepted is full */
} Action;

typedef struct Step {
        Action action;
        const char *text;
} Step;

typedef struct Script {
        const Step *steps;
        char directory[32];
        char path[64];
        int listener;
        int blocker;
        pthread_t thread;
        char id[33];
        unsigned long long number;
        char problem[8192];
} Script;

static int script_listen(Script *script) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_(closep) int fd = -1;

        memcpy(address.sun_path, script->path, strlen(script->path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0)
                return -errno;

        return steal_fd(&fd);
}

/* Reads one message; what it is, or nothing at the end of the connection. */
static void script_hear(int connection, char *buffer, size_t size) {
        static const struct timeval timeout = {.tv_sec = 10};
        size_t n = 0;

        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
        while (n + 1 < size && recv(connection, buffer + n, 1, 0) == 1)
                if (buffer[n++] == 0)
                        return;
        buffer[n] = 0;
}

static bool script_matches_id(Script *script, const char **heard, bool same) {
        if (strspn(*heard, "0123456789abcdef") != sizeof(script->id) - 1)
                return false;
        if ((strncmp(*heard, script->id, sizeof(script->id) - 1) == 0) != same)
                return false;

        memcpy(script->id, *heard, sizeof(script->id) - 1);
        *heard += sizeof(script->id) - 1;
        return true;
}

static bool script_matches_number(Script *script, const char **heard) {
        unsigned long long before = script->number;
        char *end;

        script->number = strtoull(*heard, &end, 10);
        *heard = end;
        return script->number > 0 && script->number < before;
}

static bool script_matches(Script *script, const char *text, const char *heard) {
        for (; *text; text++) {
                if (*text != '@') {
                        if (*heard++ != *text)
                                return false;
                        continue;
                }
                text++;
                if (*text == 'N' ? !script_matches_number(script, &heard)
                                 : !script_matches_id(script, &heard, *text == 'I'))
                        return false;
        }

        return !*heard;
}

static void script_step(Script *script, const Step *step, int *connection) {
        char buffer[2048];

        switch (step->action) {
        case ACCEPT:
                *connection = accept(script->listener, NULL, NULL);
                break;
        case HEAR:
        case HEAR_NONE:
                script_hear(*connection, buffer, sizeof(buffer));
                if (!script_matches(script, step->text ? step->text : "", buffer))
                        snprintf(script->problem, sizeof(script->problem), "expected %s, heard %s",
                                 step->text ? step->text : "nothing", buffer);
                break;
        case SAY:
                if (send(*connection, step->text, strlen(step->text) + 1, MSG_NOSIGNAL) < 0)
                        snprintf(script->problem, sizeof(script->problem), "cannot say %s", step->text);
                break;
        case CLOSE:
                close(*connection);
                *connection = -1;
                break;
        case STOP:
                close(script->listener);
                script->listener = -1;
                unlink(script->path);
                break;
        case LISTEN:
                script->listener = script_listen(script);
                break;
        case BLOCK:
                if (connect_unix(script->path, &script->blocker) < 0 || listen(script->listener, 0) < 0)
                        snprintf(script->problem, sizeof(script->problem), "cannot block");
                break;
        case END:
                break;
        }
}

static void *script_run(void *userdata) {
        Script *script = userdata;
        int connection = -1;

        for (const Step *step = script->steps; step->action != END && !script->problem[0]; step++)
                script_step(script, step, &connection);
        if (connection >= 0)
                close(connection);

        return NULL;
}

static void script_start(Script *script, const Step *steps) {
        *script = (Script){.steps = steps, .blocker = -1, .number = ULLONG_MAX};
        snprintf(script->directory, sizeof(script->directory), "/tmp/libspebroker-XXXXXX");
        assert_non_null(mkdtemp(script->directory));
        snprintf(script->path, sizeof(script->path), "%s/socket", script->directory);
        script->listener = script_listen(script);
        assert_true(script->listener >= 0);
        assert_int_equal(pthread_create(&script->thread, NULL, script_run, script), 0);
}

/* Waits until the script has come to its end as written. */
static void script_finish(Script *script) {
        assert_int_equal(pthread_join(script->thread, NULL), 0);
        closep(&script->blocker);
        if (script->listener >= 0)
                close(script->listener);
        unlink(script->path);
        rmdir(script->directory);
        assert_string_equal(script->problem, "");
}

#define SCRIPT(name, ...) static const Step name[] = {__VA_ARGS__, {END, NULL}}
