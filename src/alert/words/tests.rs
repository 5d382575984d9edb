use super::*;

/// In English, and in French with no-break spaces as `~`.
fn check(said: impl Fn(&dyn Words) -> String, english: &str, french: &str) {
    assert_eq!(said(words(Language::En)), english);
    assert_eq!(said(words(Language::Fr)).replace('\u{a0}', "~"), french);
}

#[test]
fn what_becomes_of_a_job() {
    let job =
        |what, english: &str, french: &str| check(|words| words.job(what, "db-backup"), english, french);
    job(What::Failed, "db-backup failed", "db-backup a échoué");
    job(What::TimedOut, "db-backup timed out", "db-backup a dépassé son délai");
    job(What::Interrupted, "db-backup was interrupted", "db-backup~: exécution interrompue");
    job(What::Recovered, "db-backup recovered", "db-backup fonctionne de nouveau");
    job(What::Held, "db-backup is held", "db-backup~: lancements suspendus");
    job(What::Reminder, "db-backup still fails", "db-backup échoue toujours");
    job(
        What::Flapping,
        "db-backup fails and recovers by turns",
        "db-backup échoue et se rétablit tour à tour",
    );
    check(|words| words.ledger(false), "the ledger is in trouble", "le registre est en difficulté");
    check(|words| words.ledger(true), "the ledger is in order again", "le registre est de nouveau en ordre");
    check(|words| words.on_host("x", "web1"), "x on web1", "x sur web1");
}

#[test]
fn what_becomes_of_checks() {
    let one =
        |what, english: &str, french: &str| check(|words| words.check(what, "m", "page"), english, french);
    one(What::Failed, "m: page failed", "m~: page a échoué");
    one(What::Recovered, "m: page recovered", "m~: page fonctionne de nouveau");
    one(What::Reminder, "m: page still fails", "m~: page échoue toujours");
    one(What::Flapping, "m: page fails and recovers by turns", "m~: page échoue et se rétablit tour à tour");
    let many = |what, english: &str, french: &str| check(|words| words.checks(what, "m", 3), english, french);
    many(What::Failed, "m: 3 checks failed", "m~: 3 contrôles ont échoué");
    many(What::Recovered, "m: 3 checks recovered", "m~: 3 contrôles fonctionnent de nouveau");
    many(What::Reminder, "m: 3 checks still fail", "m~: 3 contrôles échouent toujours");
    many(
        What::Flapping,
        "m: 3 checks fail and recover by turns",
        "m~: 3 contrôles échouent et se rétablissent tour à tour",
    );
    check(
        |words| words.check_since(true, "T", 1),
        "it failed in 1 run, since T",
        "en échec lors d'1 exécution, depuis T",
    );
    check(
        |words| words.check_since(true, "T", 2),
        "it failed in 2 runs, since T",
        "en échec lors de 2 exécutions, depuis T",
    );
    check(|words| words.check_since(false, "T", 1), "since T", "depuis T");
    check(|words| words.check_since(false, "T", 2), "since T, in 2 runs", "depuis T, lors de 2 exécutions");
}

#[test]
fn what_is_counted_agrees_with_its_number() {
    use NoticeKind::{Failed, Flapping, Held, Recovered, Reminder};
    let each = |count| [Failed, Held, Reminder, Flapping, Recovered].map(|kind| (kind, count));
    check(
        |words| words.digest(&each(1)),
        "5 messages: 1 failed, 1 held, 1 still fails, 1 comes and goes, 1 recovered",
        "5 messages~: 1 échec, 1 suspension, 1 échec qui dure, 1 état instable, 1 rétablissement",
    );
    check(
        |words| words.digest(&each(2)),
        "10 messages: 2 failed, 2 held, 2 still fail, 2 come and go, 2 recovered",
        "10 messages~: 2 échecs, 2 suspensions, 2 échecs qui durent, 2 états instables, 2 rétablissements",
    );
    check(|words| words.attempts(1), "", "");
    check(|words| words.attempts(2), ", 2 attempts", ", 2 tentatives");
    check(|words| words.more(1), "and 1 more", "et 1 autre");
    check(|words| words.more(2), "and 2 more", "et 2 autres");
    check(
        |words| words.failing("T", 1, 7),
        "since T: 1 run failed, the first was run 7",
        "depuis T~: 1 exécution, la 7",
    );
    check(
        |words| words.failing("T", 2, 7),
        "since T: 2 runs failed, the first was run 7",
        "depuis T~: 2 exécutions, dont la première est la 7",
    );
}

#[test]
fn what_stands_at_the_end() {
    let note =
        |note, english: &str, french: &str| check(|words| words.note(note).to_owned(), english, french);
    note(
        Note::Failed,
        "Further failures are not told, but for a reminder now and then; its recovery will be.",
        "Les échecs suivants ne sont pas annoncés, hormis un rappel de temps en temps~; le rétablissement le sera.",
    );
    note(
        Note::LedgerFailed,
        "The jobs go on. The end of this trouble will be told.",
        "Les tâches continuent. La fin de cette difficulté sera annoncée.",
    );
    note(
        Note::Held,
        "Its slots are recorded as skipped until it is resumed; `run-now` starts it all the same.",
        "Ses échéances sont notées comme sautées jusqu'à sa reprise (`resume`)~; `run-now` la lance malgré tout.",
    );
    note(
        Note::Reminder,
        "This is told again while it lasts; its recovery will be told.",
        "Ce rappel revient tant que l'échec dure~; le rétablissement sera annoncé.",
    );
    note(
        Note::Flapping,
        "Nothing more is told until it has been well, or not, for half an hour.",
        "Plus rien n'est annoncé avant une demi-heure sans changement, en bon état ou en échec.",
    );
    note(
        Note::Test,
        "Nothing has failed. What fails will be told by this way.",
        "Rien n'a échoué. Les échecs seront annoncés par cette voie.",
    );
    note(
        Note::Digest,
        "They are one message because many came at once.",
        "Ils sont réunis en un seul, car beaucoup sont venus à la fois.",
    );
    check(
        |words| words.test().to_owned(),
        "test message: nothing is wrong",
        "message d'essai~: tout va bien",
    );
}

#[test]
fn what_stands_before_and_above() {
    use Label::{AskedBy, At, Began, Contact, Done, Ended, Failing, Reason, Run, Since, Until};
    let all = [Reason, Done, Since, Until, Run, At, Began, Ended, Failing, Contact, AskedBy];
    check(
        |words| all.map(|label| words.label(label)).join(", "),
        "reason, done, since, until, run, at, began, ended, failing, contact, asked by",
        "raison, fait, depuis, jusqu'à, exécution, heure, début, fin, en échec, contact, demandé par",
    );
    check(
        |words| [Title::Findings, Title::Log, Title::Next].map(|title| words.title(title)).join(" "),
        "What it found: The last lines of its log: What to type next:",
        "Ce qui a été constaté~: Les dernières lignes de son journal~: À taper ensuite~:",
    );
    check(
        |words| Severity::ALL.iter().map(|one| words.severity(*one)).collect::<Vec<_>>().join(", "),
        "info, warning, critical",
        "information, avertissement, critique",
    );
}

#[test]
fn one_line_of_many() {
    check(
        |words| words.in_digest("a failed", false, "T", Some("exit code 1")),
        "a failed, since T: exit code 1",
        "a failed, depuis T~: exit code 1",
    );
    check(
        |words| words.in_digest("a recovered", true, "T", None),
        "a recovered, it failed since T",
        "a recovered, en échec depuis T",
    );
}
