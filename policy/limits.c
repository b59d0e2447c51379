/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Which limits hold for one VM of one user: the general ones, then what the user's section says, then what
 * the VM's does, each key for itself.
 */

#include "policy/limits.h"

#include <string.h>

static const LimitOverride *find_user(const Limits *limits, uid_t uid) {
        for (size_t i = 0; i < limits->n_overrides; i++)
                if (!limits->overrides[i].vm && limits->overrides[i].uid == uid)
                        return limits->overrides + i;

        return NULL;
}

static const LimitOverride *find_vm(const Limits *limits, const char *vm, VmOrigin vm_origin) {
        if (vm_origin == VM_ORIGIN_CALLER)
                return NULL;

        for (size_t i = 0; i < limits->n_overrides; i++)
                if (limits->overrides[i].vm && strcmp(limits->overrides[i].vm, vm) == 0)
                        return limits->overrides + i;

        return NULL;
}

void limits_view(const Limits *limits, uid_t uid, const char *vm, VmOrigin vm_origin, LimitsView *ret_view) {
        const LimitOverride *of_user = find_user(limits, uid), *of_vm = find_vm(limits, vm, vm_origin);

        *ret_view = (LimitsView){
                .max_buffer_size = limits->max_buffer_size,
                .max_memory_per_vm = limits->max_memory_per_vm,
                .max_memory_per_user = limits->max_memory_per_user,
        };

        if (of_user && of_user->max_buffer_size > 0)
                ret_view->max_buffer_size = of_user->max_buffer_size;
        if (of_user && of_user->max_memory > 0)
                ret_view->max_memory_per_user = of_user->max_memory;
        if (of_vm && of_vm->max_buffer_size > 0)
                ret_view->max_buffer_size = of_vm->max_buffer_size;
        if (of_vm && of_vm->max_memory > 0)
                ret_view->max_memory_per_vm = of_vm->max_memory;
}
