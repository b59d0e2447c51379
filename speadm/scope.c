/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * As systemd-run --scope does it: StartTransientUnit with this very process, and the answer is the removal of
 * the job that comes of it. Only then is the process where it is to be.
 */

#include "speadm/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "speadm/speadm.h"
#include "speadm/tell.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/random.h"

#define DESTINATION "org.freedesktop.systemd1"
#define PATH        "/org/freedesktop/systemd1"
#define INTERFACE   "org.freedesktop.systemd1.Manager"

/* systemd starts a scope at once, unless it is busy with much else. */
#define TIMEOUT_USEC (UINT64_C(30) * USEC_PER_SEC)

/* Of the 255 bytes that a unit's name may have, these are for the VM's; what makes it unique is behind. */
#define VM_PART_MAX 160U
#define UNIT_SIZE   256U

#define CGROUP_TEXT_MAX 16384U

typedef struct Job {
        char *path;
        char *result; /* NULL until it is over */
        int error;
} Job;

static void job_deinit(Job *job) {
        free(job->path);
        free(job->result);
}

/* "spe-web1-0123...scope": what a unit's name may not have is escaped, as systemd-escape(1) does. */
static void write_unit(const char *vm, const char *id, char unit[static UNIT_SIZE]) {
        static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_.-";
        char escaped[VM_PART_MAX + sizeof("\\x00")];
        size_t n = 0;

        for (const char *c = vm; *c && n < VM_PART_MAX; c++)
                if (strchr(plain, *c))
                        escaped[n++] = *c;
                else
                        n += (size_t)snprintf(escaped + n, sizeof escaped - n, "\\x%02x", (unsigned char)*c);
        escaped[n] = '\0';
        (void)snprintf(unit, UNIT_SIZE, "spe-%s-%s.scope", escaped, id);
}

static int on_job_removed(sd_bus_message *message, void *userdata, _unused_ sd_bus_error *ret_error) {
        const char *path, *unit, *result;
        Job *job = userdata;
        uint32_t id;

        if (sd_bus_message_read(message, "uoss", &id, &path, &unit, &result) < 0 || job->result ||
            strcmp(job->path, path) != 0)
                return 0;
        job->result = strdup(result);
        if (!job->result)
                job->error = -ENOMEM;
        return 0;
}

static int start_unit(sd_bus *bus, const char *vm, const char *unit, sd_bus_error *error, char **ret_job) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL, *reply = NULL;
        const char *job;
        int r;

        r = sd_bus_message_new_method_call(bus, &message, DESTINATION, PATH, INTERFACE, "StartTransientUnit");
        if (r < 0)
                return r;
        r = sd_bus_message_append(message, "ssa(sv)a(sa(sv))", unit, "fail", 3, "Description", "s", vm,
                                  "CollectMode", "s", "inactive-or-failed", "PIDs", "au", 1,
                                  (uint32_t)getpid(), 0);
        if (r < 0)
                return r;
        r = sd_bus_call(bus, message, TIMEOUT_USEC, error, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "o", &job);
        if (r < 0)
                return r;

        *ret_job = strdup(job);
        return *ret_job ? 0 : -ENOMEM;
}

/* Signals that came before the answer to the call are handled after it. */
static int wait_for_job(sd_bus *bus, const Job *job) {
        uint64_t deadline = clock_deadline(TIMEOUT_USEC);
        int r;

        while (!job->result) {
                if (job->error < 0)
                        return job->error;
                r = sd_bus_process(bus, NULL);
                if (r < 0)
                        return r;
                if (r > 0)
                        continue;
                if (clock_left(deadline) == 0)
                        return -ETIMEDOUT;
                r = sd_bus_wait(bus, clock_left(deadline));
                if (r < 0 && r != -EINTR)
                        return r;
        }

        return 0;
}

/* Where this process is now: in the unit, or the kernel has no cgroup2. */
static int read_cgroup(const char *unit, char **ret_cgroup) {
        _cleanup_(freep) char *text = NULL;
        char *path, *last;
        size_t n;
        int r;

        r = fs_read_all(AT_FDCWD, "/proc/self/cgroup", CGROUP_TEXT_MAX, &text, &n);
        if (r < 0)
                return r;
        path = r == 0 ? strstr(text, "0::/") : NULL;
        if (!path || (path != text && path[-1] != '\n'))
                return -ENOENT;
        path += strlen("0::");
        path[strcspn(path, "\n")] = '\0';
        last = strrchr(path, '/') + 1;
        if (strcmp(last, unit) != 0)
                return -ENOENT;

        *ret_cgroup = strdup(path);
        return *ret_cgroup ? 0 : -ENOMEM;
}

static int complain_scope(const char *unit, int r, const sd_bus_error *error) {
        complain("cannot make %s: %s", unit, error->message ?: strerror(-r));
        return SPEADM_FAILED;
}

int scope_enter(const char *vm, char **ret_cgroup) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(job_deinit) Job job = {0};
        char unit[UNIT_SIZE], id[RANDOM_ID_SIZE];
        int r;

        r = random_id(id);
        if (r < 0) {
                complain("there are no random numbers: %s", strerror(-r));
                return SPEADM_FAILED;
        }
        r = geteuid() == 0 ? sd_bus_open_system(&bus) : sd_bus_open_user(&bus);
        if (r < 0) {
                complain("--scope needs systemd, whose %s bus cannot be connected to: %s",
                         geteuid() == 0 ? "system" : "user", strerror(-r));
                return SPEADM_FAILED;
        }

        write_unit(vm, id, unit);
        r = sd_bus_match_signal(bus, NULL, DESTINATION, PATH, INTERFACE, "JobRemoved", on_job_removed, &job);
        if (r >= 0)
                r = start_unit(bus, vm, unit, &error, &job.path);
        if (r >= 0)
                r = wait_for_job(bus, &job);
        if (r < 0)
                return complain_scope(unit, r, &error);
        if (strcmp(job.result, "done") != 0) {
                complain("cannot make %s: systemd says '%s'", unit, job.result);
                return SPEADM_FAILED;
        }

        r = read_cgroup(unit, ret_cgroup);
        return r < 0 ? complain_scope(unit, r, &error) : SPEADM_DONE;
}
