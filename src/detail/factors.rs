//! The ratios and prices that new-api recorded.

use serde::Serialize;
use utoipa::ToSchema;

use super::fields::Fields;

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Factor {
    /// new-api's name of it.
    pub factor: String,
    /// Ratios as they are; `model_price` in US dollars a request, prices of tools in US dollars for 1,000 calls
    /// (`image_generation_call_price`: for one), `audio_input_price` in US dollars for 1,000,000 tokens.
    pub amount: f64,
}

/// Those that stand on requests, in the order of the formula.
const KNOWN: &[&str] = &[
    "model_price",
    "model_ratio",
    "completion_ratio",
    "cache_ratio",
    "cache_creation_ratio",
    "cache_creation_ratio_5m",
    "cache_creation_ratio_1h",
    "image_ratio",
    "audio_ratio",
    "audio_completion_ratio",
    "audio_input_price",
    "web_search_price",
    "file_search_price",
    "image_generation_call_price",
    "group_ratio",
    "user_group_ratio",
];

/// Numbers on rows of tasks that multiply nothing.
const NO_FACTORS: &[&str] = &[
    "actual_pre_consumed_quota",
    "actual_quota",
    "cache_tokens",
    "channel_id",
    "channel_type",
    "fee_quota",
    "frt",
    "local_estimated_quota",
    "pre_consumed_quota",
    "status_code",
    "subscription_consumed",
    "subscription_id",
    "subscription_plan_id",
    "subscription_post_delta",
    "subscription_pre_consumed",
    "subscription_remain",
    "subscription_total",
    "subscription_used",
    "wallet_quota_deducted",
];

/// Most factors that are listed: forks may write what they like.
const MOST: usize = 64;

/// Everything that has an influence on the price, as far as the row tells.
pub(super) fn factors(fields: &Fields<'_>) -> Vec<Factor> {
    let mut factors: Vec<Factor> = KNOWN.iter().filter_map(|name| factor(fields, name)).collect();
    for tool in fields.objects("tool_surcharges") {
        if let (Some(name), Some(price)) = (tool.text("name"), tool.number("price")) {
            factors.push(Factor { factor: format!("tool_{name}_price"), amount: price });
        }
    }
    factors.extend(unknown(fields));
    factors.truncate(MOST);
    factors
}

/// Factors of forks and of tasks, such as `seconds`.
pub(super) fn unknown(fields: &Fields<'_>) -> Vec<Factor> {
    let of_task = is_of_task(fields);
    let names = fields.names().filter(|name| !KNOWN.contains(name) && !NO_FACTORS.contains(name));
    let names = names.filter(|name| of_task || name.ends_with("_ratio") || name.ends_with("_price"));
    names.filter_map(|name| factor(fields, name)).take(MOST).collect()
}

/// Whether the row is a task's submission, settlement or refund.
pub(super) fn is_of_task(fields: &Fields<'_>) -> bool {
    fields.flag("is_task") || fields.text("task_id").is_some()
}

/// Below 0 stands for "none".
fn factor(fields: &Fields<'_>, name: &str) -> Option<Factor> {
    let amount = fields.number(name).filter(|amount| *amount >= 0.0)?;
    Some(Factor { factor: name.to_owned(), amount })
}

/// The ratio that stands for the group: a user's own one goes before the group's.
pub(super) fn group_ratio(fields: &Fields<'_>) -> Option<f64> {
    let own = fields.number("user_group_ratio").filter(|ratio| *ratio >= 0.0);
    own.or_else(|| fields.number("group_ratio"))
}

/// Multipliers that new-api tells only in words: how many images, and what a task was asked for, the latter
/// rounded to two decimals.
pub(super) fn told(content: &str) -> Vec<Factor> {
    let number = |text: &str| -> Option<f64> {
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        text[..end].parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0)
    };
    let mut told = Vec::new();
    if let Some(amount) = content.split_once("生成数量 ").and_then(|(_, rest)| number(rest)) {
        told.push(Factor { factor: "n".to_owned(), amount });
    }
    if let Some((_, list)) = content.split_once("计算参数：") {
        for (name, rest) in list.split(", ").filter_map(|pair| pair.split_once(": ")).take(MOST) {
            told.extend(number(rest).map(|amount| Factor { factor: name.to_owned(), amount }));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(other: &str) -> Vec<(String, f64)> {
        factors(&Fields::parse(other)).into_iter().map(|factor| (factor.factor, factor.amount)).collect()
    }

    fn pair(name: &str, amount: f64) -> (String, f64) {
        (name.to_owned(), amount)
    }

    #[test]
    fn factors_come_in_the_order_of_the_formula_without_those_that_are_none() {
        let other = r#"{"cache_ratio":0.5,"completion_ratio":4,"frt":812,"group_ratio":1,"model_price":-1,
            "model_ratio":1.25,"user_group_ratio":-1,"channel_ratio":2,"seconds":4,
            "tool_surcharges":[{"name":"web_search","count":2,"price":10}]}"#;
        assert_eq!(
            names(other),
            [
                pair("model_ratio", 1.25),
                pair("completion_ratio", 4.0),
                pair("cache_ratio", 0.5),
                pair("group_ratio", 1.0),
                pair("tool_web_search_price", 10.0),
                pair("channel_ratio", 2.0)
            ]
        );
    }

    #[test]
    fn numbers_of_a_task_are_factors() {
        let other = r#"{"is_task":true,"model_price":0.1,"group_ratio":1,"seconds":4,"actual_quota":5}"#;
        assert_eq!(names(other), [pair("model_price", 0.1), pair("group_ratio", 1.0), pair("seconds", 4.0)]);
    }

    #[test]
    fn multipliers_are_read_from_words() {
        let told = |content| {
            told(content).into_iter().map(|factor| (factor.factor, factor.amount)).collect::<Vec<_>>()
        };
        assert_eq!(told("大小 1024x1024, 品质 standard, 生成数量 3"), [pair("n", 3.0)]);
        assert_eq!(
            told("操作 generate, 计算参数：seconds: 4.00, size: 1.67"),
            [pair("seconds", 4.0), pair("size", 1.67)]
        );
        assert_eq!(told("生成数量 x, 计算参数：a: ., b: 0"), []);
    }

    #[test]
    fn a_users_own_group_ratio_goes_first() {
        let ratio = |other| group_ratio(&Fields::parse(other));
        assert_eq!(ratio(r#"{"group_ratio":2,"user_group_ratio":-1}"#), Some(2.0));
        assert_eq!(ratio(r#"{"group_ratio":2,"user_group_ratio":0}"#), Some(0.0));
        assert_eq!(ratio("{}"), None);
    }
}
