//! What a row should have cost, from the factors that new-api recorded on it.
//!
//! new-api computes with decimals and rounds once, at the end; some of its versions and ways cut off instead. Here
//! it is floats, with a hair of tolerance at the points where rounding turns, which is the same for any amount
//! that somebody pays. Where versions differ, the way that leads to the recorded amount is taken, else the newest.

use super::entry::Reading;
use super::factors::{group_ratio, is_of_task, told, unknown};
use super::fields::Fields;
use super::why::why_not;
use crate::newapi::Entry;

/// How far a float may lie from the point that it stands for, relative to it.
const HAIR: f64 = 1e-13;

/// A recomputed amount, all in new-api's unit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Price {
    /// The whole amount.
    pub quota: f64,
    /// What it is made of; sums to it but for the last digits of floats.
    pub parts: Vec<(String, f64)>,
    /// What a reader should know about it.
    pub note: Option<String>,
}

/// One way to compute it.
#[derive(Debug, Default)]
struct Way {
    parts: Vec<(String, f64)>,
    /// Versions that cut off instead of rounding charged this way.
    cuts_off: bool,
    /// A positive price is at least 1.
    at_least_one: bool,
}

/// Computes what the row should have cost.
///
/// # Errors
/// Why that cannot be known.
pub(super) fn recompute(
    entry: &Entry,
    reading: &Reading,
    fields: &Fields<'_>,
    quota_per_unit: f64,
) -> Result<Price, String> {
    if let Some(why) = why_not(entry, &reading.class, fields) {
        return Err(why);
    }
    let group = group_ratio(fields).ok_or("new-api recorded no group_ratio")?;
    let formula = Formula { entry, reading, fields, group, quota_per_unit };
    let mut ways = formula.ways()?;
    let surcharges = formula.surcharges();
    // Tasks and Midjourney are paid without tokens; of other requests nothing was used.
    let unused = fields.number("completion_ratio").is_some() && formula.tokens() == 0.0;
    if unused && surcharges.iter().all(|(_, amount)| *amount == 0.0) {
        let note = Some("no tokens were used, so nothing is charged".to_owned());
        return Ok(Price { quota: 0.0, parts: Vec::new(), note });
    }
    for way in &mut ways {
        way.parts.extend(surcharges.iter().cloned());
    }
    let recorded = entry.quota as f64;
    let found =
        ways.iter().find_map(|way| way.wholes().find(|whole| *whole == recorded).map(|whole| (way, whole)));
    let newest = || ways.first().and_then(|way| way.wholes().next().map(|whole| (way, whole)));
    let (way, quota) = found.or_else(newest).ok_or("new-api recorded no price")?;
    if !quota.is_finite() || way.parts.iter().any(|(_, amount)| !amount.is_finite()) {
        return Err("the recorded factors are too large".to_owned());
    }
    let note = (quota != recorded).then(|| explain(quota, recorded, entry, fields));
    Ok(Price { quota, parts: way.finish(quota), note })
}

/// Words for a difference.
fn explain(quota: f64, recorded: f64, entry: &Entry, fields: &Fields<'_>) -> String {
    let mut note = format!("new-api charged {recorded}, the recorded factors give {quota}");
    let unknown: Vec<String> = unknown(fields).into_iter().map(|factor| factor.factor).collect();
    if !unknown.is_empty() {
        note += "; it may have used ";
        note += &unknown.join(", ");
        note += " too";
    }
    if told(&entry.content).iter().any(|factor| factor.amount.fract() != 0.0) {
        note += "; multipliers in the text are rounded to two decimals";
    }
    note
}

/// What all ways are computed from.
struct Formula<'a> {
    entry: &'a Entry,
    reading: &'a Reading,
    fields: &'a Fields<'a>,
    group: f64,
    quota_per_unit: f64,
}

impl Formula<'_> {
    /// Prompt and completion as written.
    fn tokens(&self) -> f64 {
        self.prompt() + self.completion()
    }

    fn prompt(&self) -> f64 {
        self.entry.prompt_tokens.max(0) as f64
    }

    fn completion(&self) -> f64 {
        self.entry.completion_tokens.max(0) as f64
    }

    /// The ratio of a kind of tokens; only one that is needed must be there.
    fn ratio(&self, name: &str, tokens: f64) -> Result<f64, String> {
        match self.fields.number(name) {
            Some(ratio) => Ok(ratio),
            None if tokens == 0.0 => Ok(0.0),
            None => Err(format!("new-api recorded no {name}")),
        }
    }

    fn ways(&self) -> Result<Vec<Way>, String> {
        let model_ratio = self.fields.number("model_ratio");
        // A free model has price 0 and no ratio.
        let is_priced = |price: &f64| *price > 0.0 || (*price == 0.0 && model_ratio.unwrap_or(0.0) == 0.0);
        let price = self.fields.number("model_price").filter(is_priced);
        let test = self.reading.class == crate::record::Class::ChannelTest;
        let mut ways = match (price, model_ratio) {
            (Some(price), _) if test => vec![self.fixed(price, 1.0), self.fixed(price, self.group)],
            (Some(price), _) => vec![self.fixed(price, self.group)],
            (None, None) => return Err("new-api recorded neither model_price nor model_ratio".to_owned()),
            // A task without a price costs half its ratio in US dollars.
            (None, Some(ratio)) if is_of_task(self.fields) => vec![self.fixed(ratio / 2.0, self.group)],
            (None, Some(ratio)) if test => vec![self.test(ratio, 1.0)?, self.test(ratio, self.group)?],
            (None, Some(ratio)) if self.fields.flag("audio") || self.fields.flag("ws") => {
                vec![self.audio(ratio)?]
            }
            (None, Some(ratio)) => {
                let beside = self.cache_is_beside();
                vec![self.text(ratio, beside)?, self.text(ratio, self.reading.other.anthropic)?]
            }
        };
        self.multiply(&mut ways);
        Ok(ways)
    }

    /// Adds what the multipliers make of the first way. Which versions apply them is not recorded.
    fn multiply(&self, ways: &mut Vec<Way>) {
        let of_task = is_of_task(self.fields);
        let recorded = if of_task { unknown(self.fields) } else { Vec::new() };
        for factors in [recorded, told(&self.entry.content)] {
            let by: f64 = factors.iter().map(|factor| factor.amount).filter(|amount| *amount > 0.0).product();
            let Some(first) = ways.first().filter(|_| by != 1.0) else { continue };
            let parts = first.parts.iter().map(|(kind, amount)| (kind.clone(), amount * by)).collect();
            let way = Way { parts, ..*first };
            // A task's multipliers always count; images may have been counted in the price already.
            let place = if of_task { 0 } else { ways.len() };
            ways.insert(place, way);
        }
    }

    fn fixed(&self, price: f64, group: f64) -> Way {
        let amount = price * self.quota_per_unit * group;
        Way { parts: vec![("fixed_price".to_owned(), amount)], cuts_off: true, at_least_one: false }
    }

    /// A channel test is charged without cache, and by most versions without the group.
    fn test(&self, model: f64, group: f64) -> Result<Way, String> {
        let completion_ratio = self.ratio("completion_ratio", self.completion())?;
        let output = round(self.completion() * completion_ratio);
        let ratio = model * group;
        let parts =
            vec![("fresh_input".to_owned(), self.prompt() * ratio), ("output".to_owned(), output * ratio)];
        Ok(Way { parts, cuts_off: false, at_least_one: ratio != 0.0 })
    }

    fn audio(&self, model: f64) -> Result<Way, String> {
        let count = |name: &str| self.fields.count(name);
        let (sound_in, sound_out, text_out) =
            (count("audio_input"), count("audio_output"), count("text_output"));
        let audio = self.ratio("audio_ratio", sound_in + sound_out)?;
        let audio_out = audio * self.ratio("audio_completion_ratio", sound_out)?;
        let ratio = model * self.group;
        let parts = [
            ("fresh_input", count("text_input")),
            ("audio_input", sound_in * audio),
            ("output", text_out * self.ratio("completion_ratio", text_out)?),
            ("audio_output", sound_out * audio_out),
        ];
        let parts = parts.map(|(kind, tokens)| (kind.to_owned(), tokens * ratio)).to_vec();
        Ok(Way { parts, cuts_off: false, at_least_one: ratio != 0.0 })
    }

    /// Whether `prompt_tokens` leaves out what was cached. Rows of Anthropic's in OpenAI's shape do so too; they
    /// have times to live and no total.
    fn cache_is_beside(&self) -> bool {
        let split =
            self.fields.count("cache_creation_tokens_5m") + self.fields.count("cache_creation_tokens_1h");
        self.reading.other.anthropic || (split > 0.0 && self.reading.other.input_tokens_total.is_none())
    }

    fn text(&self, model: f64, cache_is_beside: bool) -> Result<Way, String> {
        let ratio = model * self.group;
        let (read, image) = (self.fields.count("cache_tokens"), self.fields.count("image_output"));
        let (written, written_cost) = self.cache_writes(cache_is_beside)?;
        let audio = if self.fields.count("audio_input_price") > 0.0 {
            self.fields.count("audio_input_token_count")
        } else {
            0.0
        };
        let cached = if cache_is_beside { 0.0 } else { read + written };
        let fresh = (self.prompt() - cached - image - audio).max(0.0);
        let parts = [
            ("fresh_input", fresh),
            ("cache_read", read * self.ratio("cache_ratio", read)?),
            ("cache_write", written_cost),
            ("image_input", image * self.ratio("image_ratio", image)?),
            ("output", self.completion() * self.ratio("completion_ratio", self.completion())?),
        ];
        let parts = parts.map(|(kind, tokens)| (kind.to_owned(), tokens * ratio)).to_vec();
        Ok(Way { parts, cuts_off: self.reading.other.anthropic, at_least_one: ratio != 0.0 })
    }

    /// Tokens written to the cache, and how many fresh ones they cost as much as. They have prices by how long they
    /// live only where they stand beside the prompt.
    fn cache_writes(&self, by_time: bool) -> Result<(f64, f64), String> {
        let count = |name: &str| self.fields.count(name);
        let (short, long) = (count("cache_creation_tokens_5m"), count("cache_creation_tokens_1h"));
        let total = match self.fields.number("cache_creation_tokens") {
            None if short + long == 0.0 => count("cache_write_tokens"),
            total => total.unwrap_or(0.0).max(0.0),
        };
        if !by_time {
            return Ok((total, total * self.ratio("cache_creation_ratio", total)?));
        }
        let rest = (total - short - long).max(0.0);
        let cost = rest * self.ratio("cache_creation_ratio", rest)?
            + short * self.ratio("cache_creation_ratio_5m", short)?
            + long * self.ratio("cache_creation_ratio_1h", long)?;
        Ok((total, cost))
    }

    /// What is paid for tools, and for sound that has a price of its own.
    fn surcharges(&self) -> Vec<(String, f64)> {
        let unit = self.group * self.quota_per_unit;
        let count = |name: &str| self.fields.count(name);
        let mut parts = vec![
            (
                "web_search".to_owned(),
                count("web_search_price") * count("web_search_call_count") / 1000.0 * unit,
            ),
            (
                "file_search".to_owned(),
                count("file_search_price") * count("file_search_call_count") / 1000.0 * unit,
            ),
            ("image_generation".to_owned(), count("image_generation_call_price") * unit),
            (
                "audio_input".to_owned(),
                count("audio_input_price") / 1e6 * count("audio_input_token_count") * unit,
            ),
        ];
        for tool in self.fields.objects("tool_surcharges") {
            let kind = format!("tool_{}", tool.text("name").unwrap_or_default());
            parts.push((kind, tool.count("price") * tool.count("count") / 1000.0 * unit));
        }
        parts.retain(|(_, amount)| *amount != 0.0);
        parts
    }
}

impl Way {
    fn sum(&self) -> f64 {
        self.parts.iter().map(|(_, amount)| amount).sum()
    }

    /// Whole amounts that versions of new-api make of the sum, the newest first.
    fn wholes(&self) -> impl Iterator<Item = f64> {
        let sum = self.sum();
        let rounded = round(sum);
        let rounded = if self.at_least_one && rounded <= 0.0 { 1.0 } else { rounded };
        let cut = self.cuts_off.then_some(sum).into_iter();
        // Cutting off a float that lies a hair below a whole number takes a whole one away.
        std::iter::once(rounded).chain(cut.flat_map(|sum| [(sum * (1.0 + HAIR)).trunc(), sum.trunc()]))
    }

    /// The parts, with one for what rounding added or took away.
    fn finish(&self, whole: f64) -> Vec<(String, f64)> {
        let mut parts: Vec<(String, f64)> =
            self.parts.iter().filter(|(_, amount)| *amount != 0.0).cloned().collect();
        let rest = whole - self.sum();
        if rest.abs() > whole.abs() * HAIR {
            let least = self.at_least_one && whole == 1.0 && round(self.sum()) <= 0.0;
            parts.push((if least { "minimum_charge" } else { "rounding" }.to_owned(), rest));
        }
        parts
    }
}

/// Half goes away from zero, also where the float lies a hair below it.
fn round(amount: f64) -> f64 {
    (amount * (1.0 + HAIR)).round()
}

#[cfg(test)]
#[path = "price_tests.rs"]
mod tests;
