//! Owns the log that people read: levels, format, and the bounded queue between the reactor and stderr.
