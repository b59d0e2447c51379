/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Control groups of the machine that the tests run on, each test's own, removed at its end. Where none can be
 * made, for lack of root or as nothing is writable there, the test is skipped.
 */

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <linux/magic.h>

#include "host/cgroup.h"

#define CGROUP_DEADLINE_MSEC 30000

/* Where the unified hierarchy is, or NULL. */
static inline const char *cgroups_mount(void) {
        static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
        struct statfs st;

        for (size_t i = 0; i < ELEMENTS_OF(mounts); i++)
                if (statfs(mounts[i], &st) == 0 && st.f_type == CGROUP2_SUPER_MAGIC)
                        return mounts[i];
        return NULL;
}

typedef struct TestGroup {
        char path[64];       /* as cgroup_new() takes it */
        char directory[128]; /* where it is */
} TestGroup;

/* A group of this test's, "" or below an own one; it must not be there yet. */
static inline TestGroup group_name(const char *name) {
        TestGroup group;

        (void)snprintf(group.path, sizeof(group.path), "/spe-broker-test-%i%s", (int)getpid(), name);
        (void)snprintf(group.directory, sizeof(group.directory), "%s%s", cgroups_mount() ?: "", group.path);
        return group;
}

_unused_ static TestGroup group_new(const char *name) {
        TestGroup group = group_name(name);

        if (!cgroups_mount())
                skip();
        if (mkdir(group.directory, 0755) < 0) {
                if (errno == EACCES || errno == EPERM || errno == EROFS)
                        skip();
                fail_msg("%s: %s", group.directory, strerror(errno));
        }
        return group;
}

_unused_ static void group_remove(const TestGroup *group) {
        if (rmdir(group->directory) < 0)
                fail_msg("%s: %s", group->directory, strerror(errno));
}

_unused_ static void group_move(const TestGroup *group, pid_t pid) {
        char path[sizeof(group->directory) + sizeof("/cgroup.procs")];
        FILE *file;

        (void)snprintf(path, sizeof(path), "%s/cgroup.procs", group->directory);
        file = fopen(path, "we");
        if (!file || fprintf(file, "%i\n", (int)pid) < 0 || fclose(file) != 0)
                fail_msg("%s: %s", path, strerror(errno));
}

/* A process in the group, which waits to be killed. */
_unused_ static pid_t group_fork(const TestGroup *group) {
        pid_t pid = fork();

        if (pid == 0) {
                if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
                        _exit(EXIT_FAILURE);
                for (;;)
                        pause();
        }
        assert_true(pid > 0);
        group_move(group, pid);
        return pid;
}

/* How it ended. */
_unused_ static int group_reap(pid_t pid) {
        int status;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

_unused_ static void group_kill(pid_t pid) {
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(group_reap(pid), SIGKILL);
}
