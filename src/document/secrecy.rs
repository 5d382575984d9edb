//! What must not be shown of a source line, where nothing but the spelling of a key tells that it holds a secret.

use super::problem::{Mask, source_lines};
use super::tree::{Node, Place, Value};

/// Parts of keys that hold secrets, misspelt ones included.
const TELLING: &[&str] =
    &["pas", "pwd", "pw", "tok", "secret", "hook", "beat", "cred", "key", "auth", "env", "evn"];

pub(super) fn tells(key: &str) -> bool {
    let key = key.to_lowercase();
    TELLING.iter().any(|part| key.contains(part))
}

/// A value that will never be read as what it is: its key is unknown, or here a second time.
pub(super) fn mask_secrets(key: &str, node: &Node<'_>, masks: &mut Vec<Mask>) {
    match &node.value {
        _ if tells(key) => mask_node(node, masks),
        Value::Map(entries) => entries.iter().for_each(|entry| mask_secrets(&entry.key, &entry.node, masks)),
        Value::List(items) => items.iter().for_each(|item| mask_secrets(key, item, masks)),
        Value::Plain(_) | Value::Text(_) => {}
    }
}

/// A value that is a secret, unless it only refers to one.
pub(super) fn mask_node(node: &Node<'_>, masks: &mut Vec<Mask>) {
    match &node.value {
        Value::Plain(text) | Value::Text(text) if text.starts_with("${") => {}
        Value::Plain(_) | Value::Text(_) => masks.push(Mask { from: node.place, to: node.end }),
        Value::List(items) => items.iter().for_each(|item| mask_node(item, masks)),
        Value::Map(entries) => entries.iter().for_each(|entry| mask_node(&entry.node, masks)),
    }
}

/// A line that could not be read: what follows a telling key is blotted out.
pub(super) fn mask_text(text: &str, number: u32, masks: &mut Vec<Mask>) {
    let Some(line) = source_lines(text).nth((number as usize).saturating_sub(1)) else { return };
    let Some(colon) = line.find(':').filter(|_| tells(line)) else { return };
    let column =
        |bytes: usize| u32::try_from(line[..bytes].chars().count()).unwrap_or(u32::MAX).saturating_add(1);
    let from = Place { line: number, column: column(colon + 1) };
    masks.push(Mask { from, to: Place { line: number, column: column(line.len()) } });
}
