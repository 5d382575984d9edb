//! `/metrics` of a real daemon: held against what its jobs did, read by promtool and by a real Prometheus.

mod http;
mod prometheus;
mod shipped;
mod values;
