//! Owns the write-ahead log on disk.
