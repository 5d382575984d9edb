//! Who hears of what: incidents, the messages about them, the courier that delivers these; heartbeats.
//!
//! The engine asks [`Incidents`] what the end of a run changes and writes the [`Notice`]s with that end, in one
//! transaction; the courier takes them from there. Never knows why a job ran, and never holds the engine up.

mod courier;
mod digest;
mod forms;
mod heartbeat;
mod incidents;
mod message;
mod said;
mod story;
mod tail;
mod trial;
mod words;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use self::courier::{Courier, Waiting, mail_server};
pub use self::heartbeat::Heartbeats;
pub use self::incidents::{Change, End, Incidents};
pub use self::message::{Message, cut};
pub use self::story::Story;
pub use self::trial::{Asked, Trial, try_contact};
use crate::config::{JobSpec, JobTable};
use crate::ledger::Notice;
use crate::model::Channel;

/// Where the courier says what became of a notice; the engine writes it down.
pub trait Desk: Send + Sync {
    fn delivered(&self, id: String);
    /// It will not be tried again. `detail` is for the ledger's events.
    fn given_up(&self, id: String, detail: serde_json::Value);
    /// After [`Dispatch::finish`]: nothing is under way any more.
    fn finished(&self);
}

/// The engine's way to the courier. What is told to a courier that is gone stays in the ledger.
#[derive(Clone)]
pub struct Dispatch(UnboundedSender<Order>);

pub struct Orders(UnboundedReceiver<Order>);

enum Order {
    Deliver(Vec<Notice>),
    Table(Arc<JobTable>),
    Finish(Duration),
}

/// The two ends; [`Courier::run`] takes the second.
pub fn dispatch() -> (Dispatch, Orders) {
    let (sender, receiver) = unbounded_channel();
    (Dispatch(sender), Orders(receiver))
}

impl Dispatch {
    /// What is already in the ledger; each notice once.
    pub fn deliver(&self, notices: Vec<Notice>) {
        if !notices.is_empty() {
            let _ = self.0.send(Order::Deliver(notices));
        }
    }

    /// Contacts and servers from now on, for what waits too.
    pub fn table(&self, table: Arc<JobTable>) {
        let _ = self.0.send(Order::Table(table));
    }

    /// Tries what waits once more, for at most so long, then says [`Desk::finished`]. Whether there is a courier
    /// to do so.
    pub fn finish(&self, within: Duration) -> bool {
        self.0.send(Order::Finish(within)).is_ok()
    }
}

/// Whom a job's notices go to, and by which channels.
pub fn routes(table: &JobTable, spec: &JobSpec) -> Vec<(String, Channel)> {
    routes_to(table, &spec.alert)
}

/// The same for what concerns the daemon itself.
pub fn own_routes(table: &JobTable) -> Vec<(String, Channel)> {
    routes_to(table, table.alerts.as_ref().map_or(&[], |alerts| &alerts.to))
}

/// Every contact with its channels, whoever is told of what.
pub fn channels(table: &JobTable) -> Vec<(String, Channel)> {
    let contacts: Vec<String> = table.contacts.keys().cloned().collect();
    routes_to(table, &contacts)
}

fn routes_to(table: &JobTable, contacts: &[String]) -> Vec<(String, Channel)> {
    let has_mail = table.alerts.as_ref().is_some_and(|alerts| alerts.smtp.is_some());
    let mut routes = Vec::new();
    for name in contacts {
        let Some(contact) = table.contacts.get(name) else { continue };
        let mail = (contact.email.is_some() && has_mail).then_some(Channel::Email);
        let webhook = contact.webhook.is_some().then_some(Channel::Webhook);
        for channel in mail.into_iter().chain(webhook) {
            let route = (name.clone(), channel);
            if !routes.contains(&route) {
                routes.push(route);
            }
        }
    }
    routes
}
