//! French. A no-break space (U+00A0) stands before a colon and a semicolon, as French typography has it.

use super::{Label, Note, Title, What, Words};
use crate::model::{NoticeKind, Severity};

pub(super) struct French;

impl Words for French {
    fn job(&self, what: What, job: &str) -> String {
        // The name of a job has no gender: no participle agrees with it.
        match what {
            What::Failed => format!("{job} a échoué"),
            What::TimedOut => format!("{job} a dépassé son délai"),
            What::Interrupted => format!("{job}\u{a0}: exécution interrompue"),
            What::Recovered => format!("{job} fonctionne de nouveau"),
            What::Held => format!("{job}\u{a0}: lancements suspendus"),
            What::Reminder => format!("{job} échoue toujours"),
            What::Flapping => format!("{job} échoue et se rétablit tour à tour"),
        }
    }

    fn check(&self, what: What, job: &str, check: &str) -> String {
        let what = match what {
            What::Recovered => "fonctionne de nouveau",
            What::Reminder => "échoue toujours",
            What::Flapping => "échoue et se rétablit tour à tour",
            What::Failed | What::TimedOut | What::Interrupted | What::Held => "a échoué",
        };
        format!("{job}\u{a0}: {check} {what}")
    }

    fn checks(&self, what: What, job: &str, count: usize) -> String {
        let what = match what {
            What::Recovered => "fonctionnent de nouveau",
            What::Reminder => "échouent toujours",
            What::Flapping => "échouent et se rétablissent tour à tour",
            What::Failed | What::TimedOut | What::Interrupted | What::Held => "ont échoué",
        };
        format!("{job}\u{a0}: {count} contrôles {what}")
    }

    fn ledger(&self, recovered: bool) -> String {
        let what = if recovered { "est de nouveau en ordre" } else { "est en difficulté" };
        format!("le registre {what}")
    }

    fn digest(&self, kinds: &[(NoticeKind, usize)]) -> String {
        let counted = |(kind, count): &(NoticeKind, usize)| match (kind, count) {
            (NoticeKind::Failed, 1) => "1 échec".to_owned(),
            (NoticeKind::Failed, count) => format!("{count} échecs"),
            (NoticeKind::Recovered, 1) => "1 rétablissement".to_owned(),
            (NoticeKind::Recovered, count) => format!("{count} rétablissements"),
            (NoticeKind::Held, 1) => "1 suspension".to_owned(),
            (NoticeKind::Held, count) => format!("{count} suspensions"),
            (NoticeKind::Reminder, 1) => "1 échec qui dure".to_owned(),
            (NoticeKind::Reminder, count) => format!("{count} échecs qui durent"),
            (NoticeKind::Flapping, 1) => "1 état instable".to_owned(),
            (NoticeKind::Flapping, count) => format!("{count} états instables"),
        };
        let all: usize = kinds.iter().map(|(_, count)| count).sum();
        let kinds: Vec<String> = kinds.iter().map(counted).collect();
        format!("{all} messages\u{a0}: {}", kinds.join(", "))
    }

    fn test(&self) -> &'static str {
        "message d'essai\u{a0}: tout va bien"
    }

    fn on_host(&self, what: &str, host: &str) -> String {
        format!("{what} sur {host}")
    }

    fn label(&self, label: Label) -> &'static str {
        match label {
            Label::Reason => "raison",
            Label::Done => "fait",
            Label::Since => "depuis",
            Label::Until => "jusqu'à",
            Label::Run => "exécution",
            Label::At => "heure",
            Label::Began => "début",
            Label::Ended => "fin",
            Label::Failing => "en échec",
            Label::Contact => "contact",
            Label::AskedBy => "demandé par",
        }
    }

    fn title(&self, title: Title) -> &'static str {
        match title {
            Title::Findings => "Ce qui a été constaté\u{a0}:",
            Title::Log => "Les dernières lignes de son journal\u{a0}:",
            Title::Next => "À taper ensuite\u{a0}:",
        }
    }

    fn note(&self, note: Note) -> &'static str {
        match note {
            Note::Failed => {
                "Les échecs suivants ne sont pas annoncés, hormis un rappel de temps en temps\u{a0}; le \
                 rétablissement le sera."
            }
            Note::LedgerFailed => "Les tâches continuent. La fin de cette difficulté sera annoncée.",
            Note::Held => {
                "Ses échéances sont notées comme sautées jusqu'à sa reprise (`resume`)\u{a0}; `run-now` la lance \
                 malgré tout."
            }
            Note::Reminder => {
                "Ce rappel revient tant que l'échec dure\u{a0}; le rétablissement sera annoncé."
            }
            Note::Flapping => {
                "Plus rien n'est annoncé avant une demi-heure sans changement, en bon état ou en échec."
            }
            Note::Test => "Rien n'a échoué. Les échecs seront annoncés par cette voie.",
            Note::Digest => "Ils sont réunis en un seul, car beaucoup sont venus à la fois.",
        }
    }

    fn severity(&self, severity: Severity) -> &'static str {
        match severity {
            Severity::Info => "information",
            Severity::Warning => "avertissement",
            Severity::Critical => "critique",
        }
    }

    fn colon(&self) -> &'static str {
        "\u{a0}: "
    }

    fn attempts(&self, count: u32) -> String {
        match count {
            0 | 1 => String::new(),
            many => format!(", {many} tentatives"),
        }
    }

    fn failing(&self, since: &str, failures: u64, first_run: i64) -> String {
        match failures {
            0 | 1 => format!("depuis {since}\u{a0}: 1 exécution, la {first_run}"),
            many => format!("depuis {since}\u{a0}: {many} exécutions, dont la première est la {first_run}"),
        }
    }

    fn check_since(&self, recovered: bool, since: &str, failures: u64) -> String {
        match (recovered, failures) {
            (true, 0 | 1) => format!("en échec lors d'1 exécution, depuis {since}"),
            (true, many) => format!("en échec lors de {many} exécutions, depuis {since}"),
            (false, 0 | 1) => format!("depuis {since}"),
            (false, many) => format!("depuis {since}, lors de {many} exécutions"),
        }
    }

    fn consequences(&self, names: &str) -> String {
        format!("par conséquent aussi\u{a0}: {names}")
    }

    fn more(&self, count: usize) -> String {
        match count {
            1 => "et 1 autre".to_owned(),
            many => format!("et {many} autres"),
        }
    }

    fn in_digest(&self, what: &str, recovered: bool, since: &str, reason: Option<&str>) -> String {
        let since = if recovered { format!("en échec depuis {since}") } else { format!("depuis {since}") };
        let reason = reason.map(|reason| format!("\u{a0}: {reason}")).unwrap_or_default();
        format!("{what}, {since}{reason}")
    }
}
