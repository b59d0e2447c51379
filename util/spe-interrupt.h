/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The guest's buffer interrupt, a PPI: what Arm's base system architecture gives to SPE, and kvmtool's choice
 * too. KVM is asked with the one that every lease names.
 */
#define SPE_INTERRUPT 21
