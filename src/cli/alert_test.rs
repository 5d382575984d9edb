//! `alert-test CONTACT`: a message that says that nothing is wrong, by each way that the contact is told by.

use std::io::Write;

use super::Context;
use super::args::AlertTestArgs;
use super::failure::{Failure, code};
use super::output::{self, Colour, Paint};
use crate::alert::{self, Asked};
use crate::api::name_of;
use crate::clock::{Clock, SystemClock};
use crate::config::{Contact, JobTable};
use crate::document::{listed, nearest};
use crate::host::procfs;
use crate::host::secret::SecretText;
use crate::model::Channel;

pub(super) fn run(context: &Context, args: &AlertTestArgs) -> Result<u8, Failure> {
    let table = context.table()?;
    let name = &args.contact;
    let Some(contact) = table.contacts.get(name) else {
        let known: Vec<&str> = table.contacts.keys().map(String::as_str).collect();
        let failure = Failure::wrong(format!("{} has no contact `{name}`", table.file.display()));
        return Err(failure.hint(match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "name people under `contacts:`".to_owned(),
            None => format!("it has {}", listed(&known)),
        }));
    };
    let (by, host, at) =
        (name_of(rustix::process::getuid().as_raw()), procfs::host_name(), SystemClock.now());
    let id = format!("test.{:x}.{:x}", at.as_microsecond(), std::process::id());
    let asked = Asked { by: &by, host: &host, at, id };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(code::FAILED, format!("the runtime can't be started: {error}")))?;
    let trials = runtime.block_on(alert::try_contact(&table, name, contact, &asked));
    let (mut out, paint) = (output::data(), Paint::stdout());
    let mut all_told = true;
    for (channel, result) in trials {
        let way = match channel {
            Channel::Email => "e-mail",
            Channel::Webhook => "webhook",
        };
        match result {
            Ok(place) => writeln!(out, "{}: {place}", paint.on(Colour::Green, &format!("told by {way}")))?,
            Err(reason) => {
                all_told = false;
                writeln!(out, "{}: {reason}", paint.on(Colour::Red, &format!("not told by {way}")))?;
            }
        }
    }
    out.flush()?;
    if lacks_credentials(&table, contact) {
        output::message(format!(
            "{} systemd gives credentials to the service alone: try it as a service too, with `systemd-run --pipe \
             --property=LoadCredential=NAME:PATH punk-eco-sched alert-test {name}`",
            paint.on(Colour::Bold, "hint:")
        ));
    }
    Ok(if all_told { code::DONE } else { code::FAILED })
}

/// Whether something that is needed would be there if systemd had started this process.
fn lacks_credentials(table: &JobTable, contact: &Contact) -> bool {
    let webhook = contact.webhook.iter().flat_map(|webhook| [Some(&webhook.url), webhook.token.as_ref()]);
    let smtp = table.alerts.as_ref().and_then(|alerts| alerts.smtp.as_ref());
    let password = contact.email.as_ref().and_then(|_| smtp?.password.as_ref());
    webhook.chain([password]).flatten().any(SecretText::lacks_credentials)
}
