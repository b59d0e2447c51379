/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Memory as arm64 may show it: a plain store waits in the store buffer of the CPU that made it, past any number of
 * later loads, and stores to different places reach memory in any order; a full barrier is what empties the buffer. Each
 * place has one side that stores to it, so that its buffer is kept by place: the value that waits, or NOTHING.
 * There are four.
 */

#define NOTHING 255

byte memory[4];
byte buffer[4] = NOTHING;

inline store(place, value)
{
	buffer[place] = value
}

#define load(place) memory[place]

/* What a full barrier does for one place. */
inline drain(place)
{
	d_step {
		if
		:: buffer[place] != NOTHING -> memory[place] = buffer[place]; buffer[place] = NOTHING
		:: else
		fi
	}
}

/* Without a barrier: some time. */
active proctype Memory()
{
end:
	do
	:: atomic { buffer[0] != NOTHING -> drain(0) }
	:: atomic { buffer[1] != NOTHING -> drain(1) }
	:: atomic { buffer[2] != NOTHING -> drain(2) }
	:: atomic { buffer[3] != NOTHING -> drain(3) }
	od
}
