//! Owns the one table of options that feeds parser, --help, man page and environment.
