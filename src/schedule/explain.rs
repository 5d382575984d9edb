//! An expression in plain words.

use super::expression::Expression;

pub(super) fn explain(_expression: &Expression) -> String {
    String::new()
}
