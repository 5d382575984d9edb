//! What waits to be said of one job: its newest end, and the start after it. Pure.

use std::time::Duration;

use super::ping::Said;
use crate::config::Heartbeat;
use crate::model::RunId;

/// One request that is to be made.
#[derive(Clone, Debug)]
pub(super) struct Beat {
    pub(super) run: RunId,
    pub(super) heartbeat: Heartbeat,
    pub(super) said: Said,
    /// When it came, since boot.
    pub(super) since: Duration,
}

#[derive(Default)]
pub(super) struct Waiting {
    end: Option<Beat>,
    start: Option<Beat>,
}

impl Waiting {
    /// A start that a newer one follows, or its own end, need not be said any more; an end is, until a newer end comes.
    pub(super) fn push(&mut self, beat: Beat) {
        if beat.said.is_start() {
            self.start = Some(beat);
        } else {
            self.forget_start(beat.run);
            self.end = Some(beat);
        }
    }

    /// Of a run that is neither a success nor a failure.
    pub(super) fn forget_start(&mut self, run: RunId) {
        self.start.take_if(|start| start.run == run);
    }

    pub(super) fn take(&mut self) -> Option<Beat> {
        self.end.take().or_else(|| self.start.take())
    }

    /// Whether what is being tried need not be said any more.
    pub(super) fn outdates(&self, tried: &Beat) -> bool {
        let ends = |beat: &&Beat| !tried.said.is_start() || beat.run == tried.run;
        self.end.as_ref().filter(ends).is_some() || (tried.said.is_start() && self.start.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::secret::SecretText;
    use crate::model::{Outcome, Trigger};

    fn beat(word: &str) -> Beat {
        let (what, run) = word.split_at(1);
        let said = match what {
            "s" => Said::began(Trigger::Schedule),
            "e" => Said::ended(Outcome::Succeeded, None, None),
            other => panic!("{other}"),
        };
        let heartbeat = Heartbeat::new(SecretText::from("http://x/"), false);
        Beat { run: RunId(run.parse().unwrap()), heartbeat, said, since: Duration::ZERO }
    }

    fn waiting(words: &str) -> Waiting {
        let mut waiting = Waiting::default();
        words.split_whitespace().for_each(|word| waiting.push(beat(word)));
        waiting
    }

    #[test]
    fn only_the_newest_state_waits() {
        let check = |words: &str, expected: &str| {
            let mut waiting = waiting(words);
            let mut taken = vec![];
            while let Some(Beat { run, said, .. }) = waiting.take() {
                taken.push(format!("{}{run}", if said.is_start() { "s" } else { "e" }));
            }
            assert_eq!(taken.join(" "), expected, "{words}");
        };
        check("", "");
        check("s1", "s1");
        check("s1 e1", "e1");
        check("e1 s2", "e1 s2");
        check("s1 e1 s2", "e1 s2");
        check("s1 e1 s2 e2", "e2");
        check("s1 e1 s2 e2 s3", "e2 s3");
        // Two at once.
        check("s1 s2 e1", "e1 s2");
        check("s1 s2 e1 e2", "e2");
    }

    #[test]
    fn what_is_tried_goes_on_until_it_is_outdated() {
        let check = |words: &str, tried: &str, expected: bool| {
            assert_eq!(waiting(words).outdates(&beat(tried)), expected, "{words} while {tried} is tried");
        };
        check("", "s1", false);
        check("", "e1", false);
        check("e1", "s1", true);
        check("s2", "s1", true);
        check("s2", "e1", false);
        check("e2", "e1", true);
        // Another run that goes on beside it.
        check("e1", "s2", false);
    }

    #[test]
    fn the_start_of_a_run_that_was_cancelled_is_not_said() {
        let mut waiting = waiting("e1 s2");
        waiting.forget_start(RunId(1));
        assert!(waiting.start.is_some());
        waiting.forget_start(RunId(2));
        assert!(waiting.start.is_none() && waiting.end.is_some());
    }
}
