//! One request from the first attempt to its rows: routing, failures, latency, tokens, money.
//!
//! Pure: chance comes from the [`Dice`] given, time is the second given, nothing is read or written.

use super::charge::{self, Usage};
use super::detail::{self, Ending, Serving};
use super::dice::{Dice, whole};
use super::episodes::{Episode, FAILING, SLOWDOWN, Spell};
use super::failure::Failure;
use super::routes::Routes;
use super::row::{Row, Text, kind};
use super::world::{ANTHROPIC, AWS, CHANNELS, GROUPS, MODELS, Model, TOKENS, USERS, Work};

/// Attempts after the first, the stand-in's option `RetryTimes`.
pub const RETRIES: usize = 2;
/// No request takes longer, in milliseconds.
pub const LONGEST_MS: i64 = 900_000;

/// A row and the millisecond it is written at.
#[derive(Debug)]
pub struct Event {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// With `created_at` in the same second.
    pub row: Row,
}

/// Everything that requests of one second share.
pub struct Moment<'a> {
    /// This second's chance.
    pub dice: Dice,
    /// Unix seconds.
    pub second: i64,
    /// Names the gateway's process in request ids, 8 hex digits.
    pub node: &'a str,
    /// Who serves what.
    pub routes: &'a Routes,
    /// What is wrong just now.
    pub spells: &'a [Spell],
    /// Where rows go, in no order.
    pub out: &'a mut Vec<Event>,
    stamp: String,
}

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Index into [`TOKENS`].
    pub token: usize,
    /// Index into [`MODELS`].
    pub model: usize,
    /// The channel it insists on, as administrators may.
    pub pinned: Option<usize>,
}

/// A request under way.
pub(super) struct Call {
    pub ask: Ask,
    pub model: &'static Model,
    pub group_ratio: f64,
    pub stream: bool,
    pub path: &'static str,
    pub start_ms: i64,
    pub elapsed_ms: i64,
    request_id: String,
    /// Ids of the channels tried, each quoted, as they stand between the brackets of `use_channel`.
    pub tried: String,
}

impl<'a> Moment<'a> {
    /// The requests of `second` will draw from the dice of the seed for it.
    pub fn new(
        seed: u64,
        second: i64,
        node: &'a str,
        routes: &'a Routes,
        spells: &'a [Spell],
        out: &'a mut Vec<Event>,
    ) -> Self {
        Self { dice: Dice::new(seed, second), second, node, routes, spells, out, stamp: String::new() }
    }

    /// Makes one request with all its rows. Nothing is logged if no channel serves the model, as in new-api.
    pub fn request(&mut self, ask: Ask) {
        let mut call = self.call(ask);
        for attempt in 0..=RETRIES {
            let Some(channel) = self.route(&call, attempt) else { return };
            if !call.tried.is_empty() {
                call.tried.push(',');
            }
            call.tried.extend(["\"", &CHANNELS[channel].id.to_string(), "\""]);
            let Some(failure) = self.failure(channel) else {
                self.answer(&mut call, channel);
                return;
            };
            call.elapsed_ms += whole(self.dice.lognormal(failure.after_ms, 0.6)).clamp(5, 120_000);
            self.fail(&call, channel, failure);
            // An attempt on a channel that was asked for by name is the only one.
            if !failure.retried() || ask.pinned.is_some() {
                return;
            }
        }
    }

    pub(super) fn call(&mut self, ask: Ask) -> Call {
        let start_ms = self.second * 1000 + i64::try_from(self.dice.below(1000)).unwrap_or(0);
        let model = &MODELS[ask.model];
        let path = match model.work {
            Work::Chat if model.is_claude() && self.dice.chance(0.6) => "/v1/messages",
            Work::Chat => "/v1/chat/completions",
            Work::Embedding => "/v1/embeddings",
            Work::Image => "/v1/images/generations",
            Work::Task => "/v1/videos",
        };
        Call {
            ask,
            model,
            group_ratio: GROUPS[TOKENS[ask.token].group].1,
            stream: model.work == Work::Chat && self.dice.chance(0.72),
            path,
            start_ms,
            elapsed_ms: 0,
            request_id: self.request_id(start_ms),
            tried: String::new(),
        }
    }

    fn route(&mut self, call: &Call, attempt: usize) -> Option<usize> {
        let (group, model) = (TOKENS[call.ask.token].group, call.ask.model);
        match call.ask.pinned {
            Some(channel) => self.routes.allows(group, model, channel).then_some(channel),
            None => self.routes.pick(&mut self.dice, group, model, attempt),
        }
    }

    fn suffers(&self, channel: usize, kind: Episode) -> bool {
        self.spells.iter().any(|spell| spell.kind == kind && spell.channel == channel)
    }

    fn failure(&mut self, channel: usize) -> Option<&'static Failure> {
        let burst = self.suffers(channel, Episode::Errors) && self.dice.chance(FAILING);
        let failed = burst || self.dice.chance(CHANNELS[channel].error_rate);
        failed.then(|| Failure::draw(&mut self.dice, CHANNELS[channel].kind, burst))
    }

    fn fail(&mut self, call: &Call, channel: usize, failure: &'static Failure) {
        let key = self.key(channel);
        let from_upstream = failure.error_type != "new_api_error";
        let upstream_request_id = if from_upstream { self.upstream_id() } else { String::new() };
        let mut row = Self::row(call, kind::ERROR, channel);
        row.content = format!("status_code={}, {}", failure.status, failure.message).into();
        row.upstream_request_id = upstream_request_id.into();
        row.other = detail::error(call, channel, key, failure).into();
        self.emit(call, row);
        if failure.violation() {
            let mut row = Self::row(call, kind::CONSUME, channel);
            row.content = Text::Borrowed("Violation fee charged");
            row.quota = whole(2500.0 * call.group_ratio);
            row.other = detail::violation_fee(call, failure, row.quota).into();
            self.emit(call, row);
        }
    }

    fn answer(&mut self, call: &mut Call, channel: usize) {
        match call.model.work {
            Work::Chat | Work::Embedding => self.answer_tokens(call, channel),
            Work::Image => self.answer_image(call, channel),
            Work::Task => self.answer_task(call, channel),
        }
    }

    fn answer_tokens(&mut self, call: &mut Call, channel: usize) {
        let mut usage = self.usage(call, channel);
        let ending = self.ending(call, channel);
        if matches!(ending, Ending::ClientGone | Ending::Cut) {
            // Counted by the gateway itself, which knows nothing of caches.
            let done = self.dice.between(0.02, 0.9);
            usage.prompt += usage.written + if usage.anthropic { usage.cached } else { 0 };
            (usage.cached, usage.written) = (0, 0);
            usage.completion = whole(usage.completion as f64 * done);
        }
        let empty = self.dice.chance(0.0005);
        if empty {
            usage = Usage { anthropic: usage.anthropic, ..Usage::default() };
        }
        let first_ms = call.elapsed_ms + self.first_ms(call.model, channel);
        call.elapsed_ms = first_ms + self.writing_ms(call.model, channel, usage.completion);
        if ending == Ending::Timeout {
            call.elapsed_ms += 60_000;
        }
        call.elapsed_ms = call.elapsed_ms.min(LONGEST_MS);

        let frt_ms = if call.stream { first_ms.min(LONGEST_MS) } else { -1000 };
        let serving = Serving { channel, key: self.key(channel), usage, ending, frt_ms };
        let upstream_request_id = self.upstream_id();
        let mut row = Self::row(call, kind::CONSUME, channel);
        if empty {
            row.content = Text::Borrowed("上游没有返回计费信息，无法扣费（可能是上游超时）");
        }
        row.quota = usage.quota(call.model, call.group_ratio);
        row.prompt_tokens = usage.prompt;
        row.completion_tokens = usage.completion;
        row.upstream_request_id = upstream_request_id.into();
        row.other = detail::tokens(call, &serving).into();
        self.emit(call, row);
    }

    fn answer_image(&mut self, call: &mut Call, channel: usize) {
        call.elapsed_ms = (call.elapsed_ms + self.first_ms(call.model, channel)).min(LONGEST_MS);
        let key = self.key(channel);
        let prompt = whole(self.dice.lognormal(call.model.prompt, 0.5)).max(1);
        let mut row = Self::row(call, kind::CONSUME, channel);
        row.quota = charge::fixed(call.model, call.group_ratio);
        row.prompt_tokens = prompt;
        row.other = detail::fixed_price(call, key).into();
        self.emit(call, row);
    }

    /// A task is paid when it is submitted. Minutes later some are given back and some cost more after all.
    fn answer_task(&mut self, call: &mut Call, channel: usize) {
        call.elapsed_ms += self.first_ms(call.model, channel).min(60_000);
        let task_id = format!("task_{:016x}{:016x}", self.dice.bits(), self.dice.bits());
        let paid = charge::fixed(call.model, call.group_ratio);
        let mut row = Self::row(call, kind::CONSUME, channel);
        row.use_time = 0;
        row.content = Text::Borrowed("操作 generate");
        row.quota = paid;
        row.other = detail::task_submitted(call, &task_id).into();
        self.emit(call, row);

        let fate = self.dice.unit();
        call.elapsed_ms += whole(self.dice.between(60_000.0, 600_000.0));
        call.stream = false;
        call.request_id = self.request_id(call.start_ms + call.elapsed_ms);
        let kind = if fate < 0.12 { kind::REFUND } else { kind::CONSUME };
        let mut row = Self::row(call, kind, channel);
        row.use_time = 0;
        if fate < 0.12 {
            row.quota = paid;
            row.other = detail::task_refunded(call, &task_id).into();
            self.emit(call, row);
        } else if fate < 0.22 {
            row.quota = paid / 4;
            row.other = detail::task_settled(call, &task_id, paid, paid + row.quota).into();
            self.emit(call, row);
        }
    }

    fn usage(&mut self, call: &Call, channel: usize) -> Usage {
        let model = call.model;
        let burning = call.ask.pinned.is_some();
        let prompt = if burning {
            self.dice.between(20_000.0, 60_000.0)
        } else {
            self.dice.lognormal(model.prompt, 1.2).clamp(1.0, 180_000.0)
        };
        let completion = match (model.work, burning) {
            (Work::Embedding, _) => 0.0,
            (_, true) => self.dice.between(600.0, 2400.0),
            (_, false) => self.dice.lognormal(model.completion, 0.9).clamp(1.0, 16_000.0),
        };
        let anthropic = model.is_claude() && [ANTHROPIC, AWS].contains(&CHANNELS[channel].kind);
        let mut usage =
            Usage { prompt: whole(prompt), completion: whole(completion), anthropic, ..Usage::default() };
        if prompt > 1024.0 && model.cache_ratio < 1.0 && self.dice.chance(0.45) {
            // Providers cache in blocks.
            usage.cached = whole(prompt * self.dice.between(0.3, 0.9)) / 128 * 128;
        }
        if anthropic {
            if prompt > 1024.0 && self.dice.chance(0.3) {
                usage.written = whole((prompt - usage.cached as f64) * self.dice.between(0.2, 0.8));
            }
            usage.prompt -= usage.cached + usage.written;
        }
        usage
    }

    fn ending(&mut self, call: &Call, channel: usize) -> Ending {
        if !call.stream {
            return Ending::Whole;
        }
        let fate = self.dice.unit();
        // Waiting eight times as long, more people give up.
        let patience = if self.suffers(channel, Episode::Slow) { 0.12 } else { 0.018 };
        match fate {
            fate if fate < 0.003 => Ending::Timeout,
            fate if fate < 0.009 => Ending::Cut,
            fate if fate < 0.009 + patience => Ending::ClientGone,
            // Anthropic's streams have no closing `[DONE]`.
            _ if call.model.is_claude() => Ending::Eof,
            _ => Ending::Done,
        }
    }

    fn slowness(&self, channel: usize) -> f64 {
        CHANNELS[channel].slowness * if self.suffers(channel, Episode::Slow) { SLOWDOWN } else { 1.0 }
    }

    pub(super) fn first_ms(&mut self, model: &Model, channel: usize) -> i64 {
        let outlier = if self.dice.chance(0.012) { self.dice.between(3.0, 15.0) } else { 1.0 };
        let ms = self.dice.lognormal(model.first_ms, 0.45) * outlier * self.slowness(channel);
        whole(ms).clamp(20, LONGEST_MS)
    }

    fn writing_ms(&mut self, model: &Model, channel: usize, completion: i64) -> i64 {
        if completion == 0 {
            return 0;
        }
        let speed = self.dice.lognormal(model.speed, 0.3);
        whole(completion as f64 / speed * 1000.0 * self.slowness(channel))
    }

    /// Which of its keys a multi-key channel takes. The last is disabled.
    pub(super) fn key(&mut self, channel: usize) -> Option<usize> {
        let keys = CHANNELS[channel].keys;
        (keys > 1).then(|| self.dice.below(keys - 1))
    }

    pub(super) fn row(call: &Call, kind: i64, channel: usize) -> Row {
        let token = &TOKENS[call.ask.token];
        let user = &USERS[token.user];
        Row {
            user_id: user.id,
            kind,
            username: Text::Borrowed(user.name),
            token_name: Text::Borrowed(token.name),
            model_name: Text::Borrowed(call.model.name),
            // new-api takes the difference of whole seconds, so 50 ms over the turn of a second count as 1.
            use_time: (call.start_ms + call.elapsed_ms) / 1000 - call.start_ms / 1000,
            is_stream: call.stream,
            channel_id: CHANNELS[channel].id,
            token_id: token.id,
            group: Text::Borrowed(GROUPS[token.group].0),
            request_id: Text::Owned(call.request_id.clone()),
            ..Row::default()
        }
    }

    pub(super) fn emit(&mut self, call: &Call, row: Row) {
        self.push(call.start_ms + call.elapsed_ms, row);
    }

    /// Adds a row that ends at this millisecond.
    pub(super) fn push(&mut self, at_ms: i64, mut row: Row) {
        row.created_at = at_ms / 1000;
        self.out.push(Event { at_ms, row });
    }

    /// As new-api makes them: the time down to nanoseconds in UTC, its process, and eight characters of chance.
    pub(super) fn request_id(&mut self, at_ms: i64) -> String {
        let second = at_ms / 1000;
        if second != self.second || self.stamp.is_empty() {
            let stamp = detail::stamp(second);
            if second == self.second {
                self.stamp.clone_from(&stamp);
            }
            return self.finish_id(&stamp, at_ms);
        }
        let stamp = std::mem::take(&mut self.stamp);
        let id = self.finish_id(&stamp, at_ms);
        self.stamp = stamp;
        id
    }

    fn finish_id(&mut self, stamp: &str, at_ms: i64) -> String {
        detail::request_id(stamp, at_ms % 1000, self.node, self.dice.bits())
    }

    pub(super) fn upstream_id(&mut self) -> String {
        format!("req_{:016x}", self.dice.bits())
    }
}
