//! `after`: jobs that wait for each other in a circle would never run.

use std::collections::{HashMap, HashSet};

use crate::document::{Collected, Entry, Place, Problem, ProblemSeverity, Target, located};

/// That one job comes after another, and where it says so.
struct Edge<'a> {
    to: usize,
    place: Place,
    path: &'a str,
}

/// One problem for each circle, at the place where its first job (in the order of the file) names the next.
pub(super) fn cycles(jobs: &[Entry<'_>], collected: &Collected) -> Vec<Problem> {
    let edges = edges(jobs, collected);
    let mut told = HashSet::new();
    let mut problems = Vec::new();
    let mut finished = vec![false; jobs.len()];
    for start in 0..jobs.len() {
        // The way from `start` to where the search stands, each with the number of the edge to follow next. No
        // recursion: a chain may be 10 000 jobs long.
        let mut way = vec![(start, 0)];
        let mut on_way = HashSet::from([start]);
        while let Some((job, next)) = way.last_mut() {
            let job = *job;
            let edge = if finished[job] { None } else { edges[job].get(*next) };
            *next += 1;
            match edge {
                None => {
                    finished[job] = true;
                    on_way.remove(&job);
                    way.pop();
                }
                Some(edge) if on_way.contains(&edge.to) => {
                    let from = way.iter().position(|(job, _)| *job == edge.to).unwrap_or(0);
                    let circle: Vec<usize> = way[from..].iter().map(|(job, _)| *job).collect();
                    let circle = from_least(&circle);
                    if told.insert(circle.clone()) {
                        problems.extend(told_of(&circle, jobs, &edges));
                    }
                }
                Some(edge) if finished[edge.to] => {}
                Some(edge) => {
                    on_way.insert(edge.to);
                    way.push((edge.to, 0));
                }
            }
        }
    }
    problems
}

fn edges<'a>(jobs: &[Entry<'_>], collected: &'a Collected) -> Vec<Vec<Edge<'a>>> {
    let numbers: HashMap<&str, usize> = jobs.iter().enumerate().map(|(at, job)| (&*job.key, at)).collect();
    let mut edges: Vec<Vec<Edge<'_>>> = jobs.iter().map(|_| vec![]).collect();
    for reference in collected.references.iter().filter(|reference| reference.target == Target::Job) {
        let Some(to) = numbers.get(&*reference.text).copied() else { continue };
        let edge = || Edge { to, place: reference.place, path: &reference.path };
        if reference.path.starts_with("defaults.after.") {
            for (at, _) in jobs.iter().enumerate().filter(|(_, job)| job.node.get("after").is_none()) {
                edges[at].push(edge());
            }
        } else if let Some((job, _)) =
            reference.path.strip_prefix("jobs.").and_then(|path| path.rsplit_once(".after."))
            && let Some(at) = numbers.get(job)
        {
            edges[*at].push(edge());
        }
    }
    edges
}

fn from_least(circle: &[usize]) -> Vec<usize> {
    let least = circle.iter().enumerate().min_by_key(|(_, job)| **job).map_or(0, |(at, _)| at);
    circle[least..].iter().chain(&circle[..least]).copied().collect()
}

fn told_of(circle: &[usize], jobs: &[Entry<'_>], edges: &[Vec<Edge<'_>>]) -> Option<Problem> {
    let (first, second) = (*circle.first()?, *circle.get(1).or(circle.first())?);
    let edge = edges[first].iter().find(|edge| edge.to == second)?;
    let names: Vec<&str> = circle.iter().chain([&first]).map(|job| &*jobs[*job].key).collect();
    let message = match circle {
        [_] => format!("the job `{}` comes after itself", names[0]),
        _ => format!("jobs come after each other in a circle: {}", names.join(" -> ")),
    };
    Some(located(ProblemSeverity::Error, edge.place, edge.path, message, None))
}
