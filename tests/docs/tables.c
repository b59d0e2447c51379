/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Prints what the manual must also say, from where the programs have it: a line per configuration key
 * (section, name, default) and per simulated host, with tabs between the fields.
 */

#include <stdio.h>
#include <stdlib.h>

#include "broker/config.h"
#include "host/simulate.h"

int main(void) {
        size_t i = 0;

        for (const ConfigKey *key; (key = config_key(i)); i++)
                printf("key\t%s\t%s\t%s\n", key->section, key->name, key->default_text);
        for (const char *const *name = simulate_names(); *name; name++)
                printf("simulate\t%s\n", *name);

        return EXIT_SUCCESS;
}
