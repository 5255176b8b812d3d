//! Owns every bound of the program, in one place, asserted against each other at compile time.
