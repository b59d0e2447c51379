/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Instances and their table: a sorted array of pointers, since leases point at instances and there are few of
 * them. The order (index, then name) is the one in which ties between instances are broken.
 */

#include "policy/instance.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int instance_new(const char *name, unsigned index, Instance **ret_instance) {
        size_t length = strlen(name);
        Instance *instance;

        if (length > INSTANCE_NAME_MAX)
                return -ENAMETOOLONG;

        instance = calloc(1, sizeof(*instance));
        if (!instance)
                return -ENOMEM;

        memcpy(instance->name, name, length + 1);
        instance->index = index;
        instance->state = INSTANCE_STATE_PARTIAL; /* until it is known to be more */
        instance->guest = GUEST_SUPPORT_UNKNOWN;

        *ret_instance = instance;
        return 0;
}

Instance *instance_free(Instance *instance) {
        if (!instance)
                return NULL;

        assert(instance->n_leases == 0);
        assert(instance->charge == 0);

        free(instance->guest_reason);
        free(instance->problem);
        free(instance);
        return NULL;
}

void instance_table_deinit(InstanceTable *table) {
        for (size_t i = 0; i < table->n; i++)
                instance_free(table->entries[i]);

        free(table->entries);
        *table = INSTANCE_TABLE_NULL;
}

static bool sorts_before(const Instance *a, const Instance *b) {
        if (a->index != b->index)
                return a->index < b->index;

        return strcmp(a->name, b->name) < 0;
}

int instance_table_add(InstanceTable *table, Instance *instance) {
        Instance **entries;
        size_t i;

        if (instance_table_find(table, instance->name))
                return -EEXIST;

        entries = reallocarray(table->entries, table->n + 1, sizeof(Instance *));
        if (!entries)
                return -ENOMEM;
        table->entries = entries;

        for (i = table->n; i > 0 && sorts_before(instance, entries[i - 1]); i--)
                entries[i] = entries[i - 1];
        entries[i] = instance;
        table->n++;
        return 0;
}

void instance_table_remove(InstanceTable *table, Instance *instance) {
        for (size_t i = 0; i < table->n; i++) {
                if (table->entries[i] != instance)
                        continue;

                table->n--;
                memmove(table->entries + i, table->entries + i + 1, (table->n - i) * sizeof(Instance *));
                instance_free(instance);
                return;
        }
}

Instance *instance_table_find(const InstanceTable *table, const char *name) {
        for (size_t i = 0; i < table->n; i++)
                if (strcmp(table->entries[i]->name, name) == 0)
                        return table->entries[i];

        return NULL;
}
