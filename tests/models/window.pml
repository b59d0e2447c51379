/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Of a lease and a host session that race for a CPU at most one wins: the protocol of bpf/spe-arbiter.bpf.c (the hook)
 * and broker/arbitration.c (the broker), between two hooks on two CPUs and two leases.
 *
 * The hook enters the session in the table, counts the generation up (a value-returning atomic: a full barrier), tests
 * the closed set, and leaves if a CPU that it reaches is closed. The broker decides on its copy of the table, closes the
 * CPUs, has a full barrier, reads the generation and, if that is not its copy's, the table; it decides again, and
 * commits, or opens the CPUs again and waits for the table to change. So one of the two must see the other: whichever's
 * barrier is the later one.
 *
 * Checked: never a lease and an admitted session that reaches its CPUs; and a lease is granted on a copy of the table
 * that has every session that matters to it. That who waits is woken, is doorbell.pml's.
 *
 * Each mutation leaves one step out or turns two round, and must be found (CMakeLists.txt has them all). REACH=n fails
 * where that point of the model is reached, so that what is never let in is not taken for what is safe.
 */

#define HOOKS  2
#define CPUS   2
#define LEASES 2

/* The places: an entry of the table per hook (0: none; else the CPUs that the session reaches, as bits), and a CPU's
 * word of the closed set. */
#define ENTRY(hook) (hook)
#define CLOSED(cpu) (HOOKS + (cpu))
#include "memory.pml"

#define ENTERING 4 /* in an entry: the hook has not decided yet */
#define CPU_BITS 3

#ifndef REACH
#define REACH 0
#endif
#define SESSION_REFUSED      1
#define SECOND_DECISION_NO   2
#define SECOND_DECISION_YES  3
#define WAITER_GRANTED       4
#define ADMITTED_BESIDE      5 /* a session on the CPU that the lease does not have */
#define GRANTED_BESIDE_OTHER 6 /* a second lease, while the first is there */
#define reached(point)       assert(REACH != point)

/* Atomics are never in a buffer. Of the generation it matters only whether it was counted up since it was read last. */
bool newer;

/* What is true, whatever either side knows. */
byte admitted[HOOKS]; /* CPUs that the session reaches */
byte leased[LEASES];

inline check_safe()
{
	d_step {
		assert(((admitted[0] | admitted[1]) & (leased[0] | leased[1])) == 0);
		assert(REACH != ADMITTED_BESIDE || !((admitted[0] | admitted[1]) && (leased[0] | leased[1])))
	}
}

inline count(hook)
{
#ifdef NO_HOOK_BARRIER
	newer = true
#else
	d_step {
		drain(ENTRY(hook));
		newer = true
	}
#endif
}

proctype Hook(byte hook; byte rounds)
{
	byte reach;
	bool refused;

	do
	:: rounds > 0 ->
		atomic {
			rounds--;
			if
			:: reach = 1
			:: reach = 2 - hook
			:: reach = 3
			fi
#ifdef GENERATION_BEFORE_ENTRY
		}
		count(hook);
		atomic {
#endif
			store(ENTRY(hook), reach | ENTERING)
		}
#if defined(GENERATION_BEFORE_ENTRY) || defined(GENERATION_AFTER_TEST)
		drain(ENTRY(hook));
#else
		count(hook);
#endif
		refused = (reach & 1) && load(CLOSED(0));
		refused = refused || ((reach & 2) && load(CLOSED(1)));
#ifdef GENERATION_AFTER_TEST
		count(hook);
#endif
		if
		:: atomic { refused -> refused = false; reached(SESSION_REFUSED) }
		:: atomic {
			!refused ->
			admitted[hook] = reach;
			check_safe();
			store(ENTRY(hook), reach)
		}
		admitted[hook] = 0
		fi;
		reach = 0;
		store(ENTRY(hook), 0);
		count(hook)
	:: else -> break
	od
}

byte copy[HOOKS];

inline read_table()
{
#ifdef GENERATION_READ_LAST
	copy[0] = load(ENTRY(0));
	copy[1] = load(ENTRY(1));
	newer = false
#else
	newer = false;
	copy[0] = load(ENTRY(0));
	copy[1] = load(ENTRY(1))
#endif
}

#ifdef ENTERING_IGNORED
#define seen(hook) (copy[hook] & ENTERING -> 0 : copy[hook])
#else
#define seen(hook) (copy[hook] & CPU_BITS)
#endif
#define in_the_way(cpus) (((seen(0) | seen(1)) & (cpus)) != 0)

/* All that is closed from now on. */
inline close(cpus)
{
	d_step {
		store(CLOSED(0), ((cpus) & 1 -> 1 : 0));
		store(CLOSED(1), ((cpus) & 2 -> 1 : 0))
	}
}

inline open_again()
{
#ifdef OTHERS_OPENED
	close(0)
#else
	close(leased[0] | leased[1])
#endif
}

inline barrier()
{
#ifndef NO_BROKER_BARRIER
	d_step {
		drain(CLOSED(0));
		drain(CLOSED(1))
	}
#else
	skip
#endif
}

inline commit(lease, cpus)
{
	d_step {
		/* The copy that was decided on is not stale. */
		assert((admitted[0] & ~seen(0) & (cpus)) == 0 && (admitted[1] & ~seen(1) & (cpus)) == 0);
		leased[lease] = cpus;
		assert(REACH != GRANTED_BESIDE_OTHER || leased[1 - lease] == 0)
	}
	check_safe()
}

active proctype Broker()
{
	byte lease, wanted;
	bool waited;

	run Hook(0, 2);
	run Hook(1, 1);
	for (lease : 0 .. LEASES - 1) {
		if
		:: wanted = 1
		:: lease > 0 -> wanted = 2
		:: wanted = 3
		fi;
		do
		:: !in_the_way(wanted) ->
			close(leased[0] | leased[1] | wanted);
			barrier();
#ifndef NO_SECOND_DECISION
			if
			:: newer ->
				read_table();
				if
				:: in_the_way(wanted) ->
					reached(SECOND_DECISION_NO);
					open_again();
					goto refused
				:: else -> reached(SECOND_DECISION_YES)
				fi
			:: else
			fi;
#endif
			commit(lease, wanted);
			assert(REACH != WAITER_GRANTED || !waited);
			waited = false;
			break
		:: else ->
refused:
			if
			:: lease == LEASES - 1 ->
				waited = true;
end:
				newer;
				read_table()
			:: else -> break /* the first one gives up */
			fi
		od;
		if
		:: lease == 0 -> leased[0] = 0; open_again() /* it ends before the second, or it does not */
		:: wanted = 0
		fi
	}
}
