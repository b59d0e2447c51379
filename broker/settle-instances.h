/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Brings the model's instances in line with the topology, and tells of those that changed. */

typedef struct Manager Manager;

/* -ENOMEM, with some of it done; it is to be called again. */
int settle_instances(Manager *manager);
