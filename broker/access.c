/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Rights as group membership. They nest: an administrator may do what an orchestrator may, who may do what
 * AcquireGroup may, and whoever may acquire may read.
 */

#include "broker/access.h"

static bool group_list_has(const GroupList *list, gid_t gid) {
        for (size_t i = 0; i < list->n; i++)
                if (list->gids[i] == gid)
                        return true;

        return false;
}

static bool is_member(const GroupList *list, const VarlinkPeer *peer) {
        if (peer->uid == 0 || list->everyone || group_list_has(list, peer->gid))
                return true;

        for (size_t i = 0; i < peer->n_groups; i++)
                if (group_list_has(list, peer->groups[i]))
                        return true;

        return false;
}

bool access_is_administrator(const Config *config, const VarlinkPeer *peer) {
        return is_member(&config->admin_group, peer);
}

bool access_is_orchestrator(const Config *config, const VarlinkPeer *peer) {
        return is_member(&config->orchestrator_group, peer) || access_is_administrator(config, peer);
}

bool access_may_acquire(const Config *config, const VarlinkPeer *peer) {
        return is_member(&config->acquire_group, peer) || access_is_orchestrator(config, peer);
}

bool access_may_read(const Config *config, const VarlinkPeer *peer) {
        return is_member(&config->read_group, peer) || access_may_acquire(config, peer);
}
