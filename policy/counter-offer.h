/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What to ask for instead. Part of decide(); nobody else needs it. */

#include "policy/decide.h"

/*
 * Looks for the nearest request to @request, which @decision has refused, that would be granted now, and
 * enters what it would get.
 */
void counter_offer_find(const Model *model, const PolicyRequest *request, const Claims *ahead,
                        Decision *decision);
