/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is said to systemd of its store of file descriptors. It reads in order. */

#define FDSTORE_NAME_MAX 255U

/* Has it keep a copy of @fd, however that polls: 0, or -errno: that could not be said. */
int fdstore_tell_stored(const char *name, int fd);
/* Has it close all that is called so. */
void fdstore_tell_removed(const char *name);
