//! Making metrics: a name, what it tells, and one for each combination of labels. All are there from the start, at zero, so that a
//! scrape shows what could be counted before it is.

use std::marker::PhantomData;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use metrics::{describe_counter, describe_gauge, describe_histogram};

use super::labels::Labels;

/// A metric for each combination of labels.
#[derive(Debug)]
pub struct Family<L, M> {
    /// In the order of the labels.
    each: Vec<M>,
    labels: PhantomData<fn(L)>,
}

impl<L: Labels, M> Family<L, M> {
    fn new(make: impl Fn(L) -> M) -> Self {
        Self { each: L::all().into_iter().map(make).collect(), labels: PhantomData }
    }

    /// The one with these labels.
    pub fn of(&self, labels: L) -> &M {
        &self.each[labels.index()]
    }
}

pub(super) fn counter(name: &'static str, tells: &'static str) -> Counter {
    describe_counter!(name, tells);
    counter!(name)
}

pub(super) fn counters<L: Labels>(name: &'static str, tells: &'static str) -> Family<L, Counter> {
    describe_counter!(name, tells);
    Family::new(|labels: L| counter!(name, labels.labels()))
}

pub(super) fn gauge(name: &'static str, tells: &'static str) -> Gauge {
    describe_gauge!(name, tells);
    gauge!(name)
}

pub(super) fn gauges<L: Labels>(name: &'static str, tells: &'static str) -> Family<L, Gauge> {
    describe_gauge!(name, tells);
    Family::new(|labels: L| gauge!(name, labels.labels()))
}

pub(super) fn histogram(name: &'static str, tells: &'static str) -> Histogram {
    describe_histogram!(name, tells);
    histogram!(name)
}

pub(super) fn histograms<L: Labels>(name: &'static str, tells: &'static str) -> Family<L, Histogram> {
    describe_histogram!(name, tells);
    Family::new(|labels: L| histogram!(name, labels.labels()))
}
