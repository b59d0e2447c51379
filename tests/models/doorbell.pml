/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Who waits for a session to end is woken when it has: the doorbell of bpf/spe-arbiter.bpf.c and bpf/arbiter.c.
 *
 * A hook changes the table, counts the generation up (a full barrier), and rings, unless `rung` says that the bell is in
 * the ring and has not been heard. The broker, woken by the bell, empties the ring, clears `rung`, has a full barrier,
 * and reads the table if the generation is another; and waits again if a session is still there. Where the ring has more
 * than it takes in one turn, the bell may be left in it, and wakes it again. Checked: it does not wait for ever, which
 * would be a state in which nothing can happen and the broker has not ended.
 */

#define ENTRY(hook) (hook)
#define RUNG        2
#include "memory.pml" /* the last place is not used */

#define HOOKS 2

bool newer; /* the generation was counted up since it was read last */
bool bell;  /* there is one in the ring: the broker is woken */

inline count(hook)
{
	d_step {
		drain(ENTRY(hook));
		newer = true
	}
}

inline ring()
{
	if
	:: load(RUNG) -> skip
	:: else ->
		if
		:: atomic { load(RUNG) -> skip }
		:: atomic { !load(RUNG) -> memory[RUNG] = 1 } /* compare and swap */
			bell = true
		fi
	fi
}

proctype Hook(byte hook)
{
	store(ENTRY(hook), 1);
	count(hook);
	ring();
#ifdef RUNG_BEFORE_FREE
	ring();
#endif
	store(ENTRY(hook), 0);
#ifndef FREE_NOT_COUNTED
	count(hook);
#else
	drain(ENTRY(hook));
#endif
#ifndef RUNG_BEFORE_FREE
	ring()
#endif
}

inline clear_rung()
{
	store(RUNG, 0);
#ifndef NO_RUNG_BARRIER
	drain(RUNG)
#endif
}

byte copy[HOOKS];

active proctype Broker()
{
	run Hook(0);
	run Hook(1);
	newer; /* a session is there, and in the way */
	newer = false;
	copy[0] = load(ENTRY(0));
	copy[1] = load(ENTRY(1));
	do
	:: copy[0] || copy[1] ->
		bell;
#ifdef CLEARED_BEFORE_EMPTIED
		clear_rung();
#endif
#ifndef EMPTIED_AFTER_READ
		if
		:: bell = false
		:: skip /* there were so many refusals before it */
		fi;
#endif
#if !defined(CLEARED_BEFORE_EMPTIED) && !defined(CLEARED_AFTER_READ)
		clear_rung();
#endif
		if
		:: newer ->
			newer = false;
			copy[0] = load(ENTRY(0));
			copy[1] = load(ENTRY(1))
		:: else
		fi;
#ifdef EMPTIED_AFTER_READ
		bell = false;
#endif
#ifdef CLEARED_AFTER_READ
		clear_rung();
#endif
	:: else -> break
	od
}
