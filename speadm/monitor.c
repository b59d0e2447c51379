/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * speadm monitor: the broker's Watch stream, a line per event, until interrupted. A broker that goes away
 * once it has been heard is waited for: its first word is then a snapshot again, and what is another in it is
 * told as if it had been heard.
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

#include "speadm/call.h"
#include "speadm/event.h"
#include "speadm/field.h"
#include "speadm/output.h"
#include "speadm/reconnect.h"
#include "speadm/tell.h"
#include "speadm/verb.h"
#include "speadm/view.h"

typedef struct Monitor {
        Speadm *speadm;
        Reconnect reconnect;
        View view;  /* of what was printed as text */
        bool heard; /* there is a broker at that socket */
} Monitor;

static void monitor_deinit(Monitor *monitor) {
        view_deinit(&monitor->view);
}

static int print_one(Monitor *monitor, const struct json_object *event) {
        if (arguments_has(&monitor->speadm->arguments, OPTION_JSON))
                json_print_line((struct json_object *)event);
        else {
                event_print(event);
                if (view_update(&monitor->view, event) < 0)
                        return complain_memory();
        }
        return fflush(stdout) == 0 ? SPEADM_DONE : SPEADM_FAILED; /* main() tells */
}

/* Every event that is here already; CALL_LOST once there are no more to come. */
static int print_events(Monitor *monitor) {
        for (;;) {
                _cleanup_(varlink_reply_deinit) VarlinkReply reply = VARLINK_REPLY_NULL;
                int r;

                r = varlink_client_process(monitor->speadm->client, &reply);
                if (r == VARLINK_CLIENT_E_AGAIN)
                        return SPEADM_DONE;
                if (r == VARLINK_CLIENT_E_CLOSED && monitor->heard)
                        return CALL_LOST;
                r = call_check(monitor->speadm, r, &reply);
                if (r != SPEADM_DONE)
                        return r;
                monitor->heard = true;
                reconnect_done(&monitor->reconnect);
                r = print_one(monitor, field_object(reply.parameters, "event"));
                if (r != SPEADM_DONE)
                        return r;
                if (!reply.continues) {
                        complain("the broker ended the stream of events");
                        return SPEADM_NO_BROKER;
                }
        }
}

/* SIGINT and SIGTERM as a file descriptor: they end the loop between two events, never inside a line. */
static int open_signals(void) {
        sigset_t signals;

        if (sigemptyset(&signals) < 0 || sigaddset(&signals, SIGINT) < 0 ||
            sigaddset(&signals, SIGTERM) < 0 || sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                return -1;
        return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int watch(Speadm *speadm) {
        JsonWriter *writer;
        int r;

        r = call_begin(speadm, BROKER "Watch", VARLINK_CALL_MORE, &writer);
        return r == SPEADM_DONE ? call_send(speadm) : r;
}

/* Until something goes wrong, or there is a signal. */
static int monitor_run(Monitor *monitor, int signals) {
        for (;;) {
                struct pollfd fds[] = {
                        {.fd = signals, .events = POLLIN},
                        {.fd = varlink_client_get_fd(monitor->speadm->client), .events = 0},
                };
                int r;

                r = print_events(monitor);
                if (r == CALL_LOST) {
                        if (!reconnect(&monitor->reconnect, monitor->speadm, signals, UINT64_MAX))
                                return SPEADM_DONE;
                        r = watch(monitor->speadm);
                        if (r != SPEADM_DONE)
                                return r;
                        continue;
                }
                if (r != SPEADM_DONE)
                        return r;
                fds[1].events = varlink_client_get_events(monitor->speadm->client);
                if (poll(fds, ELEMENTS_OF(fds), /* timeout= */ -1) < 0 && errno != EINTR) {
                        complain("cannot wait for events: %m");
                        return SPEADM_FAILED;
                }
                if (fds[0].revents & POLLIN)
                        return SPEADM_DONE;
        }
}

int verb_monitor(Speadm *speadm) {
        _cleanup_(monitor_deinit) Monitor monitor = {.speadm = speadm, .reconnect = RECONNECT_INIT};
        _cleanup_(closep) int signals = -1;
        int r;

        signals = open_signals();
        if (signals < 0) {
                complain("cannot wait for signals: %m");
                return SPEADM_FAILED;
        }
        r = watch(speadm);
        return r == SPEADM_DONE ? monitor_run(&monitor, signals) : r;
}
