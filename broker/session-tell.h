/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Tells whoever watches of the sessions that have come, gone, or become contended since the last time. */

typedef struct Manager Manager;

void sessions_tell(Manager *manager);
