//! Owns typed settings, parsed once from the options.
