//! Why a row's price cannot be recomputed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::fields::Fields;
use super::mask;
use crate::newapi::Entry;
use crate::record::Class;

/// Longest expression that is quoted.
const LONGEST_EXPRESSION: usize = 1000;

/// The reason, or None if it may be tried.
pub(super) fn why_not(entry: &Entry, class: &Class, fields: &Fields<'_>) -> Option<String> {
    match class {
        Class::FailedAttempt { .. } => return Some("a failed attempt is not charged".to_owned()),
        Class::Refund { .. } => return Some(refund(fields)),
        Class::Settlement { .. } => return Some(settlement(entry, fields)),
        Class::Unrelated => return Some("the row is no request: new-api charges nothing for it".to_owned()),
        Class::Request(_) | Class::ChannelTest => {}
    }
    if entry.one_api {
        return Some("One API records no price factors".to_owned());
    }
    if fields.is_empty() {
        return Some("new-api recorded no price factors on this row".to_owned());
    }
    if let Some(mode) = fields.text("billing_mode").filter(|mode| mode != "ratio" && mode != "price") {
        return Some(expression(&mode, fields));
    }
    if !fields.object("admin_info").object("quota_saturation").is_empty() {
        return Some("the amount was beyond what new-api can hold, so it charged its largest one".to_owned());
    }
    None
}

fn refund(fields: &Fields<'_>) -> String {
    match (fields.text("task_id"), settled(fields)) {
        (Some(task), Some(settled)) => format!("task {task} cost less than was paid at first: {settled}"),
        (Some(task), None) => format!("what was paid for task {task} is given back"),
        (None, _) => "money given back".to_owned(),
    }
}

fn settlement(entry: &Entry, fields: &Fields<'_>) -> String {
    if fields.flag("violation_fee") {
        return "a fixed fee for a violation, charged in addition to an error".to_owned();
    }
    match (fields.text("task_id"), settled(fields)) {
        (Some(task), Some(settled)) => format!("the settlement of task {task}: {settled}"),
        (Some(task), None) => format!("the settlement of task {task}, without the amounts that it settles"),
        (None, _) if entry.quota < 0 => {
            "a negative charge gives money back; its reason is not recorded".to_owned()
        }
        (None, _) => "a settlement; what it settles is not recorded".to_owned(),
    }
}

/// What a task cost and what was paid before.
fn settled(fields: &Fields<'_>) -> Option<String> {
    let (actual, paid) = (fields.number("actual_quota")?, fields.number("pre_consumed_quota")?);
    Some(format!("it cost {actual} and {paid} had been paid"))
}

/// Tiers are an expression in a language of new-api's own.
fn expression(mode: &str, fields: &Fields<'_>) -> String {
    let tier = fields.text("matched_tier").map(|tier| format!(", tier {tier}")).unwrap_or_default();
    let mut why = format!("charged by new-api's expression ({mode}){tier}");
    let text = fields.text("expr_b64").and_then(|text| STANDARD.decode(text).ok());
    if let Some(text) = text.and_then(|text| String::from_utf8(text).ok()) {
        why += ": ";
        why.extend(mask::text(&text).chars().take(LONGEST_EXPRESSION));
    }
    why
}
