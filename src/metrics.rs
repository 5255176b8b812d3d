//! Owns the counters, gauges and histograms, and their Prometheus text.
