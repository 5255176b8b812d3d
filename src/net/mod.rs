//! Owns sockets, the reactor and the wiring of threads.
