//! Owns the broker state machine: told events, returns effects.
