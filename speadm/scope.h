/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A systemd scope of its own for this process, and with it a control group that all its children are born
 * into, however they are made. It is gone with the last process in it.
 */

/*
 * Makes it, named after @vm, by the system's manager for root and else by the user's, and moves this process
 * there. Returns an exit status, having told why if that is not SPEADM_DONE. @ret_cgroup, as in the line
 * "0::PATH" of /proc/self/cgroup, is freed by the caller.
 */
int scope_enter(const char *vm, char **ret_cgroup);
