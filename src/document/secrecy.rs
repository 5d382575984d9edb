//! What must not be shown of a source line, where nothing but the spelling of a key tells that it holds a secret.

use super::nearest::nearest;
use super::problem::{Mask, source_lines};
use super::tree::{Node, Place, Value};

/// Parts of keys that hold secrets, misspelt ones included.
const TELLING: &[&str] = &[
    "pas",
    "pwd",
    "pw",
    "tok",
    "secret",
    "hook",
    "hok",
    "beat",
    "cred",
    "key",
    "auth",
    "env",
    "evn",
    "url",
    "uri",
    "link",
    "slack",
    "discord",
    "ntfy",
    "ping",
    "healthcheck",
    "bearer",
    "header",
    "mattermost",
];
/// Such names in whole.
const SHORT: &[&str] = &["hc", "hcio"];
/// The keys that hold secrets, for what is none of these and meant one.
const SECRETS: &[&str] = &["password", "token", "webhook", "heartbeat", "secret", "env", "url"];

pub(super) fn tells(key: &str) -> bool {
    let key = key.to_lowercase();
    let is_short = || key.split(['_', '-']).any(|word| SHORT.contains(&word));
    TELLING.iter().any(|part| key.contains(part))
        || is_short()
        || nearest(&key, SECRETS.iter().copied()).is_some()
}

/// Whether a URL is in it that may be a secret: with more than a host.
pub(super) fn has_address(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| rest.contains(['/', '@', '?', '#']))
}

/// A value that will never be read as what it is: its key is unknown, or here a second time.
pub(super) fn mask_secrets(key: &str, node: &Node<'_>, masks: &mut Vec<Mask>) {
    match &node.value {
        _ if tells(key) => mask_node(node, masks),
        Value::Map(entries) => entries.iter().for_each(|entry| mask_secrets(&entry.key, &entry.node, masks)),
        Value::List(items) => items.iter().for_each(|item| mask_secrets(key, item, masks)),
        Value::Plain(text) | Value::Text(text) if has_address(text) => mask_node(node, masks),
        Value::Plain(_) | Value::Text(_) => {}
    }
}

/// Addresses where nobody has a use for one that is no secret, whatever key they stand under.
pub(crate) fn mask_addresses(node: &Node<'_>, masks: &mut Vec<Mask>) {
    match &node.value {
        Value::Plain(text) | Value::Text(text) if has_address(text) => mask_node(node, masks),
        Value::Plain(_) | Value::Text(_) => {}
        Value::List(items) => items.iter().for_each(|item| mask_addresses(item, masks)),
        Value::Map(entries) => entries.iter().for_each(|entry| mask_addresses(&entry.node, masks)),
    }
}

/// A value that is a secret, unless it only refers to one.
pub(super) fn mask_node(node: &Node<'_>, masks: &mut Vec<Mask>) {
    match &node.value {
        Value::Plain(text) | Value::Text(text) if is_reference(text) => {}
        Value::Plain(_) | Value::Text(_) => masks.push(Mask { from: node.place, to: node.end }),
        Value::List(items) => items.iter().for_each(|item| mask_node(item, masks)),
        Value::Map(entries) => entries.iter().for_each(|entry| mask_node(&entry.node, masks)),
    }
}

/// One, and nothing beside it.
fn is_reference(text: &str) -> bool {
    text.starts_with("${") && text.find('}').is_some_and(|end| end + 1 == text.len())
}

/// A line that could not be read: what follows a telling key is blotted out.
pub(super) fn mask_text(text: &str, number: u32, masks: &mut Vec<Mask>) {
    let Some(line) = source_lines(text).nth((number as usize).saturating_sub(1)) else { return };
    let told = |line: &str| line.split([':', '{', ',', '-', ' ']).any(tells) || has_address(line);
    let Some(colon) = line.find(':').filter(|_| told(line)) else { return };
    let column =
        |bytes: usize| u32::try_from(line[..bytes].chars().count()).unwrap_or(u32::MAX).saturating_add(1);
    let from = Place { line: number, column: column(colon + 1) };
    masks.push(Mask { from, to: Place { line: number, column: column(line.len()) } });
}
