//! Each policy key: what it does alone, and with a default.

use super::*;

/// Reads one thing of the job `x` with these lines of its own and under `defaults:`.
#[track_caller]
fn of<T>(own: &str, defaults: &str, get: impl Fn(&JobSpec) -> T) -> T {
    let defaults = if defaults.is_empty() { String::new() } else { format!("defaults: {{ {defaults} }}\n") };
    let own = if own.is_empty() { String::new() } else { format!(", {own}") };
    let text = format!(
        "contacts: {{ me: {{ email: a@b }}, you: {{ email: c@d }} }}\n{defaults}jobs:\n  \
         x: {{ command: {{ shell: ls }}{own} }}\n  y: {{ command: {{ shell: ls }}, after: [] }}\n"
    );
    get(table(&text).job("x").unwrap())
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[test]
fn schedule_and_timezone() {
    let get = |job: &JobSpec| {
        let schedule = job.schedule.as_ref()?;
        Some((schedule.expressions().join(" | "), schedule.zone().iana_name().unwrap_or("UTC").to_owned()))
    };
    let some = |text: &str, zone: &str| Some((text.to_owned(), zone.to_owned()));
    assert_eq!(of("", "", get), None);
    assert_eq!(of("schedule: '0 1 * * *'", "", get), some("0 1 * * *", "UTC"));
    assert_eq!(of("schedule: ['0 1 * * *', '@hourly']", "", get), some("0 1 * * * | @hourly", "UTC"));
    assert_eq!(of("", "schedule: '@daily'", get), some("@daily", "UTC"));
    assert_eq!(of("timezone: Europe/Paris", "schedule: '@daily'", get), some("@daily", "Europe/Paris"));
    assert_eq!(
        of("schedule: '0 1 * * *'", "schedule: '@daily', timezone: Asia/Tokyo", get),
        some("0 1 * * *", "Asia/Tokyo")
    );
}

#[test]
fn plain_values() {
    assert_eq!((of("", "", |j| j.enabled), of("enabled: false", "", |j| j.enabled)), (true, false));
    assert!(of("enabled: true", "enabled: false", |j| j.enabled));
    assert!(!of("", "enabled: false", |j| j.enabled));
    assert_eq!(of("description: a", "description: b", |j| j.description.clone()), Some("a".into()));
    assert_eq!(of("", "description: b", |j| j.description.clone()), Some("b".into()));
    assert_eq!(of("", "", |j| j.timeout), seconds(3600));
    assert_eq!(of("", "timeout: 2m", |j| j.timeout), seconds(120));
    assert_eq!(of("timeout: 3m", "timeout: 2m", |j| j.timeout), seconds(180));
    assert_eq!(of("", "", |j| j.overlap), Overlap::Skip);
    assert_eq!(of("overlap: queue", "overlap: allow", |j| j.overlap), Overlap::Queue);
    assert_eq!(of("", "overlap: replace", |j| j.overlap), Overlap::Replace);
    assert_eq!(of("", "", |j| j.jitter), Duration::ZERO);
    assert_eq!(of("jitter: 5m", "jitter: 1m", |j| j.jitter), seconds(300));
    assert_eq!(of("", "group: g", |j| j.group.clone()), Some("g".into()));
    assert_eq!(of("group: h", "group: g", |j| j.group.clone()), Some("h".into()));
    assert_eq!(of("nice: 5", "nice: 19", |j| j.nice), 5);
    assert_eq!(of("", "nice: 19", |j| j.nice), 19);
    assert_eq!(of("io: idle", "", |j| j.io), Some(IoClass::Idle));
    assert_eq!(of("", "io: best_effort", |j| j.io), Some(IoClass::BestEffort));
    assert_eq!(of("user: nobody", "user: root", |j| j.user.clone()), Some("nobody".into()));
    assert_eq!(of("", "user: root", |j| j.user.clone()), Some("root".into()));
    assert_eq!(of("alert: [me]", "alert: [you]", |j| j.alert.clone()), ["me"]);
    assert_eq!(of("", "alert: [you]", |j| j.alert.clone()), ["you"]);
    let after = |j: &JobSpec| j.after.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(of("after: [y]", "", after), ["y"]);
}

#[test]
fn retries_are_merged_key_by_key_over_the_defaults_over_the_kinds() {
    let get = |job: &JobSpec| {
        (job.retries.attempts, job.retries.backoff.as_secs(), job.retries.max_backoff.as_secs())
    };
    assert_eq!(of("", "", get), (1, 30, 600));
    assert_eq!(of("", "retries: { attempts: 5 }", get), (5, 30, 600));
    assert_eq!(of("retries: { backoff: 1m }", "retries: { attempts: 5, backoff: 2m }", get), (5, 60, 600));
    assert_eq!(of("retries: { max_backoff: 20m }", "retries: { attempts: 5 }", get), (5, 30, 1200));
    assert_eq!(of("retries: { attempts: 2, backoff: 1h }", "", get), (2, 3600, 3600));
    let dump = table(
        "postgres: { app: { database: d, user: u } }\n\
         jobs: { x: { pg_dump: { connection: app, directory: /d }, retries: { backoff: 5s } } }\n",
    );
    assert_eq!(get(dump.job("x").unwrap()), (3, 5, 600));
}

#[test]
fn missed_is_a_word_or_a_map() {
    let missed = |policy, within: Option<u64>| Missed { policy, within: within.map(seconds) };
    assert_eq!(of("", "", |j| j.missed), missed(MissedPolicy::RunOnce, None));
    assert_eq!(of("missed: run_all", "", |j| j.missed), missed(MissedPolicy::RunAll, None));
    assert_eq!(of("missed: { within: 2h }", "", |j| j.missed), missed(MissedPolicy::RunOnce, Some(7200)));
    assert_eq!(
        of("missed: { within: 2h }", "missed: run_all", |j| j.missed),
        missed(MissedPolicy::RunAll, Some(7200))
    );
    assert_eq!(
        of("missed: skip", "missed: { policy: run_all, within: 1h }", |j| j.missed),
        missed(MissedPolicy::Skip, None)
    );
}

#[test]
fn interrupted_is_the_kinds_unless_said() {
    assert_eq!(of("", "", |j| j.interrupted), Interrupted::Leave);
    assert_eq!(of("", "interrupted: rerun", |j| j.interrupted), Interrupted::Rerun);
    assert_eq!(of("interrupted: leave", "interrupted: rerun", |j| j.interrupted), Interrupted::Leave);
}

#[test]
fn env_is_merged_name_by_name() {
    let get =
        |job: &JobSpec| job.env.iter().map(|(name, value)| format!("{name}={value:?}")).collect::<Vec<_>>();
    assert_eq!(
        of("env: { A: '${env:A}' }", "env: { A: '${env:X}', B: '${file:/b}' }", get),
        ["A=${env:A}", "B=${file:/b}"]
    );
    assert_eq!(
        of("env: { A: plain }", "", |j| j.env["A"].literal().map(str::to_owned)),
        Some("plain".into())
    );
}

#[test]
fn user_and_env_of_the_defaults_reach_commands_alone() {
    let table = table(
        "defaults: { user: nobody, env: { A: b } }\npostgres: { app: { database: d, user: u } }\n\
         jobs:\n  c: { command: { shell: ls } }\n  d: { pg_dump: { connection: app, directory: /d } }\n",
    );
    let of = |name: &str| {
        let job = table.job(name).unwrap();
        (job.user.clone(), job.env.len())
    };
    assert_eq!((of("c"), of("d")), ((Some("nobody".into()), 1), (None, 0)));
}

#[test]
fn an_address_may_refer_to_a_secret() {
    let table = table(
        "postgres: { app: { host: '${env:PGHOST}', database: d, user: u } }\n\
         jobs: { c: { command: { shell: ls } } }\n",
    );
    assert_eq!(table.connections["app"].host, "${env:PGHOST}");
    assert_eq!(job("").kind.name, "command");
}

#[test]
fn who_hears_of_a_job() {
    let check = |alerts: &str, defaults: &str, own: &str, expected: &[&str]| {
        let contacts = "contacts: { me: { webhook: 'http://a/' }, you: { webhook: 'http://b/' } }";
        let text =
            format!("{contacts}\n{alerts}\n{defaults}\njobs:\n  x: {{ command: {{ shell: ls }}{own} }}\n");
        assert_eq!(table(&text).job("x").unwrap().alert, expected, "{text}");
    };
    check("", "", "", &[]);
    check("alerts: { to: [me] }", "", "", &["me"]);
    check("alerts: { to: [me] }", "defaults: { alert: [you] }", "", &["you"]);
    check("alerts: { to: [me] }", "defaults: { alert: [you] }", ", alert: [me, you]", &["me", "you"]);
    check("alerts: { to: [me] }", "", ", alert: []", &[]);
}

#[test]
fn heartbeat() {
    let job = JobName::new("x").unwrap();
    let get = |spec: &JobSpec| {
        let heartbeat = spec.heartbeat.as_ref()?;
        let url = futures_util::FutureExt::now_or_never(heartbeat.url(&job)).unwrap().unwrap();
        Some((url.expose_secret().to_owned(), heartbeat.only_success))
    };
    let some = |url: &str, only_success: bool| Some((url.to_owned(), only_success));
    assert_eq!(of("", "", get), None);
    assert_eq!(of("heartbeat: 'https://a/'", "", get), some("https://a/", false));
    assert_eq!(of("", "heartbeat: 'https://a/{job}?k={job}'", get), some("https://a/x?k=x", false));
    assert_eq!(of("heartbeat: 'https://b/'", "heartbeat: 'https://a/'", get), some("https://b/", false));
    assert_eq!(of("heartbeat: none", "heartbeat: 'https://a/'", get), None);
    let whole = "heartbeat: { url: 'https://a/{job}', only: success }";
    assert_eq!(of(whole, "", get), some("https://a/x", true));
    assert_eq!(of("heartbeat: { url: 'https://a/' }", whole, get), some("https://a/", false));
}
