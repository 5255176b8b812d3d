//! Owns the program that hands the target `logs` to libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chronik_fuzz::check("logs", input));
