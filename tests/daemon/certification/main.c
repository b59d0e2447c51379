/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* org.varlink.certification in either role, for certification.py to run against an independent
 * implementation. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/daemon/certification/steps.h"

int main(int argc, char **argv) {
        if (argc == 4 && strcmp(argv[1], "serve") == 0)
                return certification_serve(argv[2], argv[3]);
        if (argc == 3 && strcmp(argv[1], "call") == 0)
                return certification_call(argv[2]);

        fprintf(stderr, "usage: certification serve SOCKET IDL | call SOCKET\n");
        return 2;
}
