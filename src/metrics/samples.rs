//! Hands the families to the encoder, each with its samples: a thin layer over what the crate wants.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::registry::Unit;

use super::families::Family;
use super::seen::Histogram;
use super::{Scrape, hosts, jobs};

#[derive(Debug)]
pub(super) struct All(pub(super) Scrape);

impl Collector for All {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        hosts::daemon(&self.0.0, &mut out)?;
        jobs::jobs(&self.0.0, &mut out)?;
        hosts::rest(&self.0.0, &mut out)
    }
}

pub(super) struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    /// The family's description, then the samples that `each` adds; none are fine too.
    pub(super) fn family(
        &mut self,
        family: &Family,
        each: impl FnOnce(&mut Samples<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let unit = family.unit.map(|unit| Unit::Other(unit.to_owned()));
        let kind = family.r#type.of_the_encoder();
        let encoder = self.0.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
        each(&mut Samples { encoder, labels: family.labels })
    }
}

pub(super) struct Samples<'a> {
    encoder: MetricEncoder<'a>,
    labels: &'static [&'static str],
}

impl Samples<'_> {
    /// `values`: of the labels, in their order.
    pub(super) fn gauge(&mut self, values: &[&str], value: f64) -> fmt::Result {
        if self.labels.is_empty() {
            return number(&mut self.encoder, value);
        }
        let labels = self.with(values);
        number(&mut self.encoder.encode_family(&labels)?, value)
    }

    pub(super) fn flag(&mut self, values: &[&str], value: bool) -> fmt::Result {
        self.gauge(values, f64::from(u8::from(value)))
    }

    pub(super) fn counter(&mut self, values: &[&str], value: u64) -> fmt::Result {
        let labels = self.with(values);
        self.encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    pub(super) fn info(&mut self, values: &[&str]) -> fmt::Result {
        let labels = self.with(values);
        self.encoder.encode_info(&labels)
    }

    pub(super) fn histogram<const N: usize>(
        &mut self,
        values: &[&str],
        bounds: &[f64; N],
        histogram: &Histogram<N>,
    ) -> fmt::Result {
        let labels = self.with(values);
        let mut buckets = [(0.0, 0); N];
        for (bucket, (bound, count)) in buckets.iter_mut().zip(std::iter::zip(bounds, histogram.counts)) {
            *bucket = (*bound, count);
        }
        let count = histogram.counts.iter().sum();
        let mut encoder = self.encoder.encode_family(&labels)?;
        encoder.encode_histogram::<NoLabelSet>(histogram.sum, count, &buckets, None)
    }

    fn with<'v>(&self, values: &[&'v str]) -> Vec<(&'static str, &'v str)> {
        debug_assert_eq!(self.labels.len(), values.len(), "{:?}: {values:?}", self.labels);
        self.labels.iter().copied().zip(values.iter().copied()).collect()
    }
}

/// `1`, where `1.0` would be the same.
fn number(encoder: &mut MetricEncoder<'_>, value: f64) -> fmt::Result {
    #[expect(clippy::cast_possible_truncation, reason = "whole, and small enough")]
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return encoder.encode_gauge(&(value as i64));
    }
    encoder.encode_gauge(&value)
}
