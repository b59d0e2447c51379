/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Who may do what: root and the groups of the configuration, against the kernel's word for the peer. Nothing
 * here asks a name service.
 */

#include <stdbool.h>

#include "broker/config.h"
#include "varlink/server/server.h"

/* Describe, List..., Watch: everyone who may connect, or ReadGroup. Whoever may acquire may read. */
bool access_may_read(const Config *config, const VarlinkPeer *peer);
/* Acquire, Query. */
bool access_may_acquire(const Config *config, const VarlinkPeer *peer);
/* Leases for processes of other users. */
bool access_is_orchestrator(const Config *config, const VarlinkPeer *peer);
/* io.spebroker.Admin, and names that count as an administrator's word. */
bool access_is_administrator(const Config *config, const VarlinkPeer *peer);
