/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The handlers of the two interfaces. A handler checks who may, prepares all that can fail, then commits
 * through grant, end or the assignments, and answers.
 */

#include "varlink/server/server.h"

typedef struct Manager Manager;

/* Registers both interfaces with @manager's server. */
int methods_register(Manager *manager);

int method_describe(VarlinkCall *call, struct json_object *parameters, void *userdata);
int method_check_host(VarlinkCall *call, struct json_object *parameters, void *userdata);
int method_list_instances(VarlinkCall *call, struct json_object *parameters, void *userdata);
int method_list_leases(VarlinkCall *call, struct json_object *parameters, void *userdata);
int method_list_sessions(VarlinkCall *call, struct json_object *parameters, void *userdata);
int method_list_refusals(VarlinkCall *call, struct json_object *parameters, void *userdata);
int method_watch(VarlinkCall *call, struct json_object *parameters, void *userdata);

int method_query(VarlinkCall *call, struct json_object *parameters, void *userdata);
int method_acquire(VarlinkCall *call, struct json_object *parameters, void *userdata);
int method_follow(VarlinkCall *call, struct json_object *parameters, void *userdata);
int method_update(VarlinkCall *call, struct json_object *parameters, void *userdata);
int method_release(VarlinkCall *call, struct json_object *parameters, void *userdata);

int method_assign(VarlinkCall *call, struct json_object *parameters, void *userdata);
int method_unassign(VarlinkCall *call, struct json_object *parameters, void *userdata);
int method_revoke(VarlinkCall *call, struct json_object *parameters, void *userdata);
int method_reload(VarlinkCall *call, struct json_object *parameters, void *userdata);
int method_rescan(VarlinkCall *call, struct json_object *parameters, void *userdata);
