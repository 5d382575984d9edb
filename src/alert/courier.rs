//! Delivers notices: one lane for each contact and channel, so that nobody waits for somebody else's server.
//!
//! Hands each notice to its lane, tells the lanes of new tables, and gives them a last while. Sends nothing itself, and
//! writes nothing: the [`Desk`] does.

mod lane;
mod queue;
mod sending;
mod storm;
mod waiting;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::lane::Carrier;
pub use self::sending::mail_server;
pub(super) use self::sending::{Failure, deliver, judge};
pub use self::waiting::Waiting;
use super::{Desk, Order, Orders};
use crate::clock::Clock;
use crate::config::JobTable;
use crate::ledger::Notice;
use crate::model::Channel;

type Lane = (String, Channel);

/// What a courier works with.
pub struct Courier {
    pub table: Arc<JobTable>,
    pub desk: Arc<dyn Desk>,
    pub clock: Arc<dyn Clock>,
    pub waiting: Waiting,
    /// Its name, as messages of many notices say it.
    pub host: String,
}

impl Courier {
    /// Delivers until it is told to finish, or nobody is left to give orders.
    pub async fn run(self, orders: Orders) {
        let Orders(mut orders) = orders;
        let (table, tables) = watch::channel(self.table);
        let (finish, finishing) = watch::channel(false);
        let mut lanes: HashMap<Lane, UnboundedSender<Notice>> = HashMap::new();
        let mut running = JoinSet::new();
        let within = loop {
            match orders.recv().await {
                None => return,
                Some(Order::Finish(within)) => break within,
                Some(Order::Table(new)) => drop(table.send_replace(new)),
                Some(Order::Deliver(notices)) => {
                    for notice in notices {
                        let lane = (notice.contact.clone(), notice.channel);
                        let sender = lanes.entry(lane.clone()).or_insert_with(|| {
                            let (sender, receiver) = unbounded_channel();
                            let carrier = Carrier {
                                lane,
                                host: self.host.clone(),
                                desk: self.desk.clone(),
                                clock: self.clock.clone(),
                                waiting: self.waiting.clone(),
                                tables: tables.clone(),
                                finishing: finishing.clone(),
                            };
                            running.spawn(carrier.run(receiver));
                            sender
                        });
                        // A lane takes what comes for as long as its sender is kept here.
                        let _ = sender.send(notice);
                    }
                }
            }
        };
        finish.send_replace(true);
        drop(lanes);
        // What is cut off here is in the ledger, and sent again under the same id.
        let _ = tokio::time::timeout(within, async { while running.join_next().await.is_some() {} }).await;
        running.abort_all();
        self.desk.finished();
    }
}
