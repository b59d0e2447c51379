/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The one blocking call.
 */

#include "libspebroker/context.h"

/*
 * Sends and waits, with the call's wait_usec more than the context's timeout. If the context may reconnect
 * and the connection is lost, connects anew and sends the call again: it must be one that may be carried out
 * twice, or says once. *@ret_repeated, if given, is set also on failure: true if it was sent before, on a
 * connection that was lost, so that it may have been carried out before what the reply says.
 */
int context_call(struct spebroker *context, const Call *call, VarlinkReply *ret_reply, bool *ret_repeated);
