//! When a lane sends one message, and when it gathers many into one. Pure: knows how many wait and what time it is.
//!
//! Nobody reads the eleventh message within ten minutes: from then on what comes is gathered, for half a minute at
//! first and longer each time while the storm lasts, and told in one.

use std::collections::VecDeque;
use std::time::Duration;

/// Messages to one contact by one channel that are sent one by one within this time.
pub(super) const BURST: usize = 10;
const WINDOW: Duration = Duration::from_secs(600);

/// How long is gathered: the first time, since a storm comes within seconds, and at the most.
const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);
/// After a digest, a storm that comes so soon is still the same one.
const SAME: Duration = Duration::from_secs(1200);

#[derive(Debug, Default)]
pub(super) struct Storm {
    /// When messages were sent within the window, oldest first.
    sent: VecDeque<Duration>,
    gathering: Option<Gathering>,
    /// When the last digest was sent, and how long it was gathered for.
    last: Option<(Duration, Duration)>,
}

#[derive(Clone, Copy, Debug)]
struct Gathering {
    length: Duration,
    until: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Of those that wait, one is to be sent.
    One,
    /// Nothing before that, whatever comes.
    Gather { until: Duration },
    /// All that wait are to be sent as one.
    All,
}

impl Storm {
    /// `waiting`: at least one. `now`: since boot.
    pub(super) fn next(&mut self, waiting: usize, now: Duration) -> Step {
        while self.sent.front().is_some_and(|sent| now.saturating_sub(*sent) >= WINDOW) {
            self.sent.pop_front();
        }
        // What comes as soon after a digest as that was gathered for belongs to the same storm.
        let goes_on = self.last.is_some_and(|(sent, length)| now.saturating_sub(sent) < length);
        let room = if goes_on { 0 } else { BURST.saturating_sub(self.sent.len()) };
        if self.gathering.is_none() && waiting > room {
            let length = match self.last {
                Some((sent, length)) if now.saturating_sub(sent) < SAME => (length * 2).min(LONGEST),
                _ => FIRST,
            };
            self.gathering = Some(Gathering { length, until: now + length });
        }
        match self.gathering {
            None => Step::One,
            Some(Gathering { until, .. }) if now < until => Step::Gather { until },
            Some(_) => Step::All,
        }
    }

    /// There is no more time to gather.
    pub(super) fn hurry(&mut self, now: Duration) {
        if let Some(gathering) = &mut self.gathering {
            gathering.until = gathering.until.min(now);
        }
    }

    /// A message was delivered, of one notice or of all that waited.
    pub(super) fn sent(&mut self, now: Duration) {
        self.sent.push_back(now);
        if let Some(Gathering { length, .. }) = self.gathering.take() {
            self.last = Some((now, length));
        }
    }

    /// Nothing waits any more, though nothing was sent.
    pub(super) fn calm(&mut self) {
        self.gathering = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a lane sends, `second: notices`, to which notices come at these seconds; a message takes no time.
    fn sends(come: &[(u64, usize)]) -> Vec<String> {
        let (mut storm, mut told, mut waiting) = (Storm::default(), vec![], 0);
        let mut come = come.iter().copied().peekable();
        let mut now = 0;
        while waiting > 0 || come.peek().is_some() {
            while let Some((_, more)) = come.next_if(|(at, _)| *at <= now) {
                waiting += more;
            }
            let next = come.peek().map(|(at, _)| *at);
            let step = if waiting > 0 { Some(storm.next(waiting, Duration::from_secs(now))) } else { None };
            let many = match step {
                None => {
                    now = next.unwrap();
                    continue;
                }
                Some(Step::Gather { until }) => {
                    now = next.map_or(until.as_secs(), |next| next.min(until.as_secs()));
                    continue;
                }
                Some(Step::One) => 1,
                Some(Step::All) => waiting,
            };
            told.push(format!("{now}: {many}"));
            waiting -= many;
            storm.sent(Duration::from_secs(now));
        }
        told
    }

    #[test]
    fn ten_within_ten_minutes_are_sent_one_by_one_and_what_is_more_is_gathered() {
        let check = |come: &[(u64, usize)], expected: &[&str]| assert_eq!(sends(come), expected, "{come:?}");
        check(&[(0, 1)], &["0: 1"]);
        check(&[(0, 3), (5, 1)], &["0: 1", "0: 1", "0: 1", "5: 1"]);
        check(&[(0, 10)], &["0: 1"; 10]);
        // More than ten at once are a storm from the first one on.
        check(&[(0, 11)], &["30: 11"]);
        check(&[(0, 1000)], &["30: 1000"]);
        // It may come while the first ones are being sent.
        check(&[(0, 1), (1, 1), (2, 998)], &["0: 1", "1: 1", "32: 998"]);
        check(&[(0, 1), (1, 20), (29, 70), (31, 1)], &["0: 1", "31: 91"]);
        // The eleventh of a slow storm.
        let slow: Vec<(u64, usize)> = (0..13).map(|number| (number * 50, 1)).collect();
        let told = sends(&slow);
        assert_eq!(told[..2], ["0: 1", "50: 1"]);
        assert_eq!(told[8..], ["400: 1", "450: 1", "530: 1", "610: 2"]);
    }

    #[test]
    fn a_storm_that_lasts_is_told_less_and_less_often() {
        let hour: Vec<(u64, usize)> = (0..3600).map(|second| (second, 5)).collect();
        let told = sends(&hour);
        // At last once in ten minutes.
        let digests = [
            "32: 155",
            "93: 305",
            "214: 605",
            "455: 1205",
            "936: 2405",
            "1537: 3005",
            "2138: 3005",
            "2739: 3005",
            "3340: 3005",
            "3941: 1295",
        ];
        assert_eq!(told[10..], digests, "{told:?}");
        assert!(told[..10].iter().all(|told| told.ends_with(": 1")), "{told:?}");
    }

    #[test]
    fn after_a_calm_the_next_storm_is_told_soon_again() {
        assert_eq!(sends(&[(0, 50), (100, 50)]), ["30: 50", "160: 50"]);
        assert_eq!(sends(&[(0, 50), (1300, 50)]), ["30: 50", "1330: 50"]);
        // And what is no storm is told at once, as soon as the window has room.
        assert_eq!(sends(&[(0, 50), (100, 3)]), ["30: 50", "100: 1", "100: 1", "100: 1"]);
    }

    #[test]
    fn who_has_no_time_gathers_no_longer() {
        let (mut storm, now) = (Storm::default(), Duration::from_secs(7));
        assert_eq!(storm.next(50, now), Step::Gather { until: Duration::from_secs(37) });
        storm.hurry(now);
        assert_eq!(storm.next(50, now), Step::All);
        storm.sent(now);
        storm.calm();
        assert_eq!(storm.next(1, now + FIRST), Step::One);
    }
}
