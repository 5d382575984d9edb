//! `pg_dump` inside containers, and what is asked of containers: against a real engine.

mod round_trip;
