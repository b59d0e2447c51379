/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The one error scheme of this tree.
 *
 *   0         fine.
 *   positive  a named outcome, X_E_SOMETHING, listed in an enum at the top of the module's header. The
 *             direct caller handles it; it is never forwarded as a number.
 *   negative  -errno: nothing the caller can mend. It is only forwarded, up to the nearest boundary: a call
 *             (answered, state unchanged), a connection (closed), a rescan (stays dirty), start-up (exit).
 *
 * Outputs come last, are named ret_, and are untouched unless the function returned 0 (or says otherwise).
 */

#include <errno.h>

/* A positive outcome that this caller knows cannot happen becomes an error that is only forwarded. */
static inline int error_fold(int r) {
        return r > 0 ? -ENOTRECOVERABLE : r;
}
