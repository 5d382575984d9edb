//! The metrics of jobs and of their checks.

use std::fmt;

use jiff::Timestamp;

use super::families::*;
use super::samples::{Out, Samples};
use super::seen::{CheckSeen, DURATIONS, ENDS, JobSeen, LATENESSES};
use super::{Told, seconds};
use crate::config::JobSpec;
use crate::model::{CheckState, SkipReason, Unit};

/// Slots without a success are counted up to here.
const MOST_SLOTS: usize = 100;

pub(super) fn jobs(told: &Told, out: &mut Out<'_>) -> fmt::Result {
    let all = &told.snapshot.table.jobs;
    out.family(&JOB_INFO, |to| all.iter().try_for_each(|job| to.info(&[job.name.as_str(), job.kind.name])))?;
    let flag = |out: &mut Out<'_>, family, of: &dyn Fn(&JobSpec) -> bool| {
        out.family(family, |to| all.iter().try_for_each(|job| to.flag(&[job.name.as_str()], of(job))))
    };
    flag(out, &JOB_ENABLED, &|job| job.enabled)?;
    flag(out, &JOB_PAUSED, &|job| told.jobs.is_paused(&job.name))?;
    for (at, family) in [&JOB_RUNNING, &JOB_QUEUED].into_iter().enumerate() {
        let count = |job: &JobSpec| told.jobs.runs.get(&job.name).map_or(0, |runs| runs[at]);
        out.family(family, |to| {
            all.iter().try_for_each(|job| to.gauge(&[job.name.as_str()], whole(count(job))))
        })?;
    }
    out.family(&JOB_NEXT_SLOT, |to| {
        let slots = std::iter::zip(all, &told.snapshot.slots);
        let mut slots = slots.filter_map(|(job, slot)| Some((job.name.as_str(), (*slot)?)));
        slots.try_for_each(|(name, slot)| to.gauge(&[name], seconds(slot)))
    })?;
    ends(told, out)?;
    out.family(&JOB_SLOTS_SINCE_SUCCESS, |to| {
        let scheduled = all.iter().filter(|job| job.enabled && job.schedule.is_some());
        scheduled.clone().try_for_each(|job| to.gauge(&[job.name.as_str()], slots_since_success(told, job)))
    })?;
    counters(told, out)?;
    checks(told, out)
}

/// Calls `each` for what was seen of each job of the table, in its order.
fn each_seen<'a>(told: &'a Told, mut each: impl FnMut(&'a str, &'a JobSeen) -> fmt::Result) -> fmt::Result {
    let seen = |job: &'a std::sync::Arc<JobSpec>| Some((job.name.as_str(), &**told.seen.get(&job.name)?));
    told.snapshot.table.jobs.iter().filter_map(seen).try_for_each(|(name, seen)| each(name, seen))
}

fn ends(told: &Told, out: &mut Out<'_>) -> fmt::Result {
    out.family(&JOB_LAST_OUTCOME, |to| {
        each_seen(told, |name, seen| {
            let Some((_, outcome)) = seen.last else { return Ok(()) };
            ENDS.iter().try_for_each(|end| to.flag(&[name, end.word()], *end == outcome))
        })
    })?;
    let at = |to: &mut Samples<'_>, name: &str, at: Option<Timestamp>| {
        at.map_or(Ok(()), |at| to.gauge(&[name], seconds(at)))
    };
    out.family(&JOB_LAST_END, |to| {
        each_seen(told, |name, seen| at(to, name, seen.last.map(|(end, _)| end)))
    })?;
    out.family(&JOB_LAST_SUCCESS, |to| each_seen(told, |name, seen| at(to, name, seen.last_success)))
}

/// Where slots fall at uneven times, as on weekdays alone, a time since the last success would say nothing.
fn slots_since_success(told: &Told, job: &JobSpec) -> f64 {
    let Some(schedule) = &job.schedule else { return 0.0 };
    let success = told.seen.get(&job.name).and_then(|seen| seen.last_success);
    let now = told.now.checked_sub(job.jitter).unwrap_or(Timestamp::MIN);
    let slots =
        std::iter::successors(Some(success.unwrap_or(told.started_at)), |at| schedule.next_after(*at));
    let count = slots.skip(1).take_while(|slot| *slot <= now).take(MOST_SLOTS).count();
    whole(count as u64)
}

/// A series that is there from the start, at 0, shows its first increase.
fn counters(told: &Told, out: &mut Out<'_>) -> fmt::Result {
    let none = JobSeen::default();
    let all = || {
        told.snapshot
            .table
            .jobs
            .iter()
            .map(|job| (job.name.as_str(), told.seen.get(&job.name).map_or(&none, |seen| &**seen)))
    };
    out.family(&JOB_RUNS, |to| {
        all().try_for_each(|(name, seen)| {
            std::iter::zip(ENDS, seen.runs)
                .try_for_each(|(end, count)| to.counter(&[name, end.word()], count))
        })
    })?;
    out.family(&JOB_ATTEMPTS, |to| all().try_for_each(|(name, seen)| to.counter(&[name], seen.attempts)))?;
    out.family(&JOB_SKIPPED, |to| {
        all().try_for_each(|(name, seen)| {
            let mut reasons = std::iter::zip(SkipReason::ALL, seen.skipped);
            reasons.try_for_each(|(reason, count)| to.counter(&[name, reason.word()], count))
        })
    })?;
    out.family(&JOB_DURATION, |to| {
        each_seen(told, |name, seen| {
            seen.durations.as_ref().map_or(Ok(()), |times| to.histogram(&[name], &DURATIONS, times))
        })
    })?;
    out.family(&JOB_LATENESS, |to| {
        each_seen(told, |name, seen| {
            seen.latenesses.as_ref().map_or(Ok(()), |times| to.histogram(&[name], &LATENESSES, times))
        })
    })
}

fn checks(told: &Told, out: &mut Out<'_>) -> fmt::Result {
    let each = |to: &mut Samples<'_>, of: &dyn Fn(&mut Samples<'_>, &str, &CheckSeen) -> fmt::Result| {
        told.snapshot.table.jobs.iter().try_for_each(|job| {
            let seen = told.seen.get(&job.name).filter(|seen| seen.checks_of == job.kind.name);
            let mut checks = seen.into_iter().flat_map(|seen| &seen.checks);
            checks.try_for_each(|check| of(to, job.name.as_str(), check))
        })
    };
    out.family(&CHECK_STATE, |to| {
        each(to, &|to, job, check| {
            let mut states = CheckState::ALL.iter();
            states.try_for_each(|state| to.flag(&[job, &check.name, state.word()], *state == check.state))
        })
    })?;
    for (unit, value, threshold) in [
        (Unit::Ratio, &CHECK_VALUE_RATIO, &CHECK_THRESHOLD_RATIO),
        (Unit::Seconds, &CHECK_VALUE_SECONDS, &CHECK_THRESHOLD_SECONDS),
        (Unit::Bytes, &CHECK_VALUE_BYTES, &CHECK_THRESHOLD_BYTES),
        (Unit::Count, &CHECK_VALUE, &CHECK_THRESHOLD),
    ] {
        for (family, is_value) in [(value, true), (threshold, false)] {
            out.family(family, |to| {
                each(to, &|to, job, check| {
                    let of_unit = check.measures.iter().filter(|measure| measure.unit == unit);
                    of_unit.clone().try_for_each(|measure| {
                        let number = if is_value { measure.value } else { measure.threshold };
                        let labels = [job, &check.name, &measure.quantity];
                        number.map_or(Ok(()), |number| to.gauge(&labels, number))
                    })
                })
            })?;
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of what is on one host")]
fn whole(count: u64) -> f64 {
    count as f64
}
