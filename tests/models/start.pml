/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The start of bpf/arbiter.c against opens in flight: what is open when the first lease is granted is in the table,
 * though there was no program yet when some of it passed the hook's place in the kernel.
 *
 * The broker attaches the hook, watches the returns of perf_event_open(), waits until no CPU is where it was in the
 * kernel's code (membarrier(): who sleeps meanwhile is not waited for), looks at all descriptors, and stops watching.
 * An open passes the hook's place, may sleep, gets its descriptor, and returns. Who has slept is met as it returns, if
 * that is before the watch ends. OUTLASTS lets it sleep for longer than that, which the kernel does not exclude: found,
 * as the mutations are, since it is what this protocol leaves open until the event's end (counted as drift then).
 */

#define ENTRY(opener) (opener)
#include "memory.pml" /* two of the places are not used */

#define OPENERS 2

bool attached, watched, closed;
bool running[OPENERS]; /* past the hook's place without a program, on a CPU, without a descriptor */
bool slept[OPENERS];   /* the same, and it has slept */
bool has_descriptor[OPENERS];
bool admitted[OPENERS];
bool leased;

inline enter(opener)
{
	store(ENTRY(opener), 1);
	drain(ENTRY(opener)) /* the generation's barrier */
}

proctype Opener(byte opener)
{
	bool met;

	if
	:: atomic { attached -> met = true }
		enter(opener);
		if
		:: closed -> store(ENTRY(opener), 0); goto out
		:: else
		fi
	:: atomic { !attached -> running[opener] = true }
	fi;
	if
	:: !met -> d_step { running[opener] = false; slept[opener] = true }
	:: skip
	fi;
	has_descriptor[opener] = true;
	if
	:: watched -> enter(opener)
	:: else
	fi;
	d_step {
		running[opener] = false;
		slept[opener] = false;
		admitted[opener] = true;
		assert(!leased)
	}
out:
	skip
}

bool seen[OPENERS];

inline iterate()
{
	seen[0] = has_descriptor[0];
	seen[1] = has_descriptor[1]
}

active proctype Broker()
{
	run Opener(0);
	run Opener(1);
#ifdef ITERATED_FIRST
	iterate();
#endif
	attached = true;
#ifndef RETURNS_NOT_WATCHED
	watched = true;
#endif
#ifndef NO_WAIT
	!running[0];
	!running[1];
#endif
#ifndef ITERATED_FIRST
	iterate();
#endif
#ifndef OUTLASTS
	!slept[0] && !slept[1];
#endif
	watched = false;

	/* A grant, as in window.pml; hooks that have their barrier, and a broker that has its own. */
	closed = true;
	if
	:: load(ENTRY(0)) || load(ENTRY(1)) || seen[0] || seen[1]
	:: else ->
		leased = true;
		assert(!admitted[0] && !admitted[1])
	fi
}
