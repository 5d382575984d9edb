//! The nearest spelling of a word that isn't known.

/// The candidate that `word` was most likely meant to be; `None` where none is near.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            *distance <= allowed(candidate.chars().count().max(lower.chars().count()))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Names for a hint: not more than a person reads.
pub(crate) fn listed(names: &[&str]) -> String {
    const MOST: usize = 12;
    let more = if names.len() > MOST { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(MOST)].join(", "))
}

/// One slip in a short word, a third of a long one.
fn allowed(length: usize) -> usize {
    match length {
        0..=2 => 0,
        3..=5 => 1,
        6..=8 => 2,
        _ => length / 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_spelling() {
        let check = |word: &str, expected: Option<&str>| {
            assert_eq!(nearest(word, ["timeout", "retries", "io", "nice", "env"]), expected, "{word}");
        };
        check("timout", Some("timeout"));
        check("Timeout", Some("timeout"));
        check("reties", Some("retries"));
        check("nic", Some("nice"));
        check("evn", Some("env"));
        check("oi", None);
        check("schedule", None);
    }
}
