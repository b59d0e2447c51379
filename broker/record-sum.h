/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The sum under which state files stand: the FNV-1a hash (64 bits, in hexadecimal) of an object with all that
 * a restart goes by, written without white space. It is no secret: it tells damage, not forgery.
 */

#include "varlink/json-write.h"

#define RECORD_SUM_LENGTH 16U

/*
 * Ends the object that @w writes, which its buffer holds and nothing else, and says its sum. 0, or what
 * json_writer_finish() says.
 */
int record_sum_finish(JsonWriter *w, char ret_sum[static RECORD_SUM_LENGTH + 1]);
