//! What stands in the stand-in: channels, models with prices, users and tokens. Constant; the seed changes only
//! the traffic between them.
//!
//! Every secret here is fake and contains [`SECRET_MARK`], so that a test can look for leaks of any of them.

pub use super::people::{TOKENS, Token, USERS, User};

/// Stands in every key, password and access token of the stand-in.
pub const SECRET_MARK: &str = "demo-secret";

/// Access token of user 1, who is root. 32 characters, as new-api's are.
pub const ADMIN_TOKEN: &str = "demo-secret-access-token-0000001";

/// Access token of a user without any rights.
pub const USER_TOKEN: &str = "demo-secret-access-token-0000003";

/// Quota units in a dollar, new-api's default.
pub const QUOTA_PER_USD: f64 = 500_000.0;

/// Billing groups and what they multiply prices by.
pub const GROUPS: [(&str, f64); 2] = [("default", 1.0), ("vip", 0.8)];

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Chat completions and messages.
    Chat,
    /// Vectors: no output tokens, never streamed.
    Embedding,
    /// Pictures at a fixed price.
    Image,
    /// Films: submitted, later settled or refunded.
    Task,
}

/// A model with its price and manner.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// As clients ask for it.
    pub name: &'static str,
    /// What it does.
    pub work: Work,
    /// Quota per prompt token: 1 is 2 dollars a million.
    pub ratio: f64,
    /// Output tokens cost this many times as much.
    pub completion_ratio: f64,
    /// Cached tokens cost this many times as much.
    pub cache_ratio: f64,
    /// Dollars a call, or -1 if tokens are charged.
    pub price: f64,
    /// Share of requests, in percent.
    pub share: f64,
    /// Median milliseconds to the first token.
    pub first_ms: f64,
    /// Median output tokens a second.
    pub speed: f64,
    /// Median prompt tokens.
    pub prompt: f64,
    /// Median output tokens.
    pub completion: f64,
}

impl Model {
    /// Whether it is Anthropic's, whose own API counts cached tokens beside the prompt.
    pub fn is_claude(&self) -> bool {
        self.name.starts_with("claude")
    }
}

const CHAT: Model = Model {
    name: "",
    work: Work::Chat,
    ratio: 1.0,
    completion_ratio: 4.0,
    cache_ratio: 0.25,
    price: -1.0,
    share: 1.0,
    first_ms: 600.0,
    speed: 70.0,
    prompt: 900.0,
    completion: 260.0,
};

const CLAUDE: Model =
    Model { completion_ratio: 5.0, cache_ratio: 0.1, first_ms: 1100.0, prompt: 2600.0, ..CHAT };

/// All models, [`CHANNELS`] refer to them by name.
pub const MODELS: [Model; 15] = [
    Model {
        name: "gpt-4o-mini",
        ratio: 0.075,
        cache_ratio: 0.5,
        share: 22.0,
        speed: 90.0,
        first_ms: 450.0,
        ..CHAT
    },
    Model { name: "gpt-4o", ratio: 1.25, cache_ratio: 0.5, share: 14.0, ..CHAT },
    Model { name: "gpt-4.1", share: 7.0, prompt: 1400.0, ..CHAT },
    Model { name: "gpt-4", ratio: 15.0, completion_ratio: 2.0, cache_ratio: 1.0, share: 0.6, ..CHAT },
    Model { name: "o3", first_ms: 6500.0, share: 1.6, completion: 900.0, ..CHAT },
    Model { name: "claude-sonnet-4-5", ratio: 1.5, share: 15.0, ..CLAUDE },
    Model { name: "claude-opus-4-1", ratio: 7.5, share: 1.2, speed: 40.0, ..CLAUDE },
    Model { name: "claude-haiku-4-5", ratio: 0.5, share: 6.0, first_ms: 600.0, speed: 120.0, ..CLAUDE },
    Model {
        name: "gemini-2.5-pro",
        ratio: 0.625,
        completion_ratio: 8.0,
        share: 6.0,
        first_ms: 2400.0,
        ..CHAT
    },
    Model { name: "gemini-2.5-flash", ratio: 0.15, completion_ratio: 8.33, share: 9.0, speed: 160.0, ..CHAT },
    Model { name: "deepseek-chat", ratio: 0.135, share: 8.0, speed: 35.0, first_ms: 1300.0, ..CHAT },
    Model { name: "deepseek-reasoner", ratio: 0.275, share: 3.0, speed: 30.0, completion: 800.0, ..CHAT },
    Model {
        name: "text-embedding-3-small",
        work: Work::Embedding,
        ratio: 0.01,
        completion_ratio: 1.0,
        cache_ratio: 1.0,
        share: 5.6,
        first_ms: 160.0,
        prompt: 420.0,
        completion: 0.0,
        ..CHAT
    },
    Model {
        name: "gpt-image-1",
        work: Work::Image,
        price: 0.04,
        share: 0.7,
        first_ms: 14_000.0,
        prompt: 60.0,
        ..CHAT
    },
    Model { name: "sora-2", work: Work::Task, price: 0.8, share: 0.3, first_ms: 900.0, prompt: 0.0, ..CHAT },
];

/// `channels.status`.
pub mod status {
    /// In use.
    pub const ENABLED: i64 = 1;
    /// Switched off by a person (or by an administrator's token).
    pub const MANUALLY_DISABLED: i64 = 2;
    /// Switched off by new-api itself.
    pub const AUTO_DISABLED: i64 = 3;
}

/// A provider's account.
#[derive(Debug, Clone, Copy)]
pub struct Channel {
    /// Primary key.
    pub id: i64,
    /// `channels.type`, the kind of provider.
    pub kind: i64,
    /// What people call it. Without characters that JSON would escape.
    pub name: &'static str,
    /// At the beginning, see [`status`].
    pub status: i64,
    /// Higher ones are tried first.
    pub priority: i64,
    /// Among channels of one priority.
    pub weight: i64,
    /// Billing groups, comma-separated.
    pub groups: &'static str,
    /// Models, comma-separated.
    pub models: &'static str,
    /// Asked for, and what the provider is asked for instead.
    pub mapping: Option<(&'static str, &'static str)>,
    /// Free text for grouping.
    pub tag: Option<&'static str>,
    /// More than 1 makes it a multi-key channel, whose last key is disabled.
    pub keys: usize,
    /// Dollars left at the provider, 0 if it does not tell.
    pub balance: f64,
    /// Share of attempts that fail on an ordinary day.
    pub error_rate: f64,
    /// How much slower than usual for the model.
    pub slowness: f64,
}

const CHANNEL: Channel = Channel {
    id: 0,
    kind: 1,
    name: "",
    status: status::ENABLED,
    priority: 10,
    weight: 10,
    groups: "default,vip",
    models: "",
    mapping: None,
    tag: None,
    keys: 1,
    balance: 0.0,
    error_rate: 0.016,
    slowness: 1.0,
};

/// `channels.type` of Anthropic.
pub const ANTHROPIC: i64 = 14;
/// `channels.type` of Amazon Bedrock.
pub const AWS: i64 = 33;
/// `channels.type` of Gemini.
pub const GEMINI: i64 = 24;
/// `channels.type` of Vertex AI.
pub const VERTEX: i64 = 41;

/// All channels. Every model of the expensive ones stands in another channel too, so that switching one of them
/// off never leaves a model without a channel; sora-2 is there for the opposite.
pub const CHANNELS: [Channel; 12] = [
    Channel {
        id: 1,
        name: "openai-main",
        weight: 30,
        models: "gpt-4o-mini,gpt-4o,gpt-4.1,gpt-4,o3,text-embedding-3-small,gpt-image-1",
        tag: Some("openai"),
        keys: 4,
        ..CHANNEL
    },
    Channel {
        id: 2,
        kind: 3,
        name: "azure-eu",
        models: "gpt-4o-mini,gpt-4o,gpt-4.1,gpt-4,text-embedding-3-small",
        mapping: Some(("gpt-4", "gpt-4o")),
        tag: Some("openai"),
        error_rate: 0.02,
        slowness: 1.2,
        ..CHANNEL
    },
    Channel {
        id: 3,
        kind: 20,
        name: "openrouter",
        priority: 0,
        models: "gpt-4o-mini,gpt-4o,o3,gpt-image-1,claude-sonnet-4-5,claude-opus-4-1,claude-haiku-4-5,\
                 gemini-2.5-pro,gemini-2.5-flash,deepseek-chat,deepseek-reasoner",
        balance: 212.4,
        slowness: 1.4,
        ..CHANNEL
    },
    Channel {
        id: 4,
        kind: ANTHROPIC,
        name: "anthropic-main",
        weight: 20,
        models: "claude-sonnet-4-5,claude-opus-4-1,claude-haiku-4-5",
        tag: Some("claude"),
        ..CHANNEL
    },
    Channel {
        id: 5,
        kind: AWS,
        name: "aws-bedrock",
        models: "claude-sonnet-4-5,claude-opus-4-1,claude-haiku-4-5",
        tag: Some("claude"),
        error_rate: 0.025,
        slowness: 1.3,
        ..CHANNEL
    },
    Channel { id: 6, kind: GEMINI, name: "gemini", models: "gemini-2.5-pro,gemini-2.5-flash", ..CHANNEL },
    Channel {
        id: 7,
        kind: VERTEX,
        name: "vertex",
        priority: 5,
        models: "gemini-2.5-pro,gemini-2.5-flash",
        ..CHANNEL
    },
    Channel {
        id: 8,
        kind: 43,
        name: "deepseek",
        models: "deepseek-chat,deepseek-reasoner",
        balance: 38.15,
        error_rate: 0.03,
        ..CHANNEL
    },
    Channel {
        id: 9,
        kind: 40,
        name: "siliconflow",
        priority: 5,
        models: "deepseek-chat,deepseek-reasoner",
        balance: 9.6,
        slowness: 1.5,
        ..CHANNEL
    },
    Channel { id: 10, kind: 55, name: "sora", models: "sora-2", ..CHANNEL },
    Channel {
        id: 11,
        kind: 8,
        name: "old-proxy",
        status: status::MANUALLY_DISABLED,
        groups: "default",
        models: "gpt-4o-mini,gpt-4o",
        ..CHANNEL
    },
    Channel {
        id: 12,
        kind: 3,
        name: "azure-us",
        status: status::AUTO_DISABLED,
        models: "gpt-4o,gpt-4.1",
        tag: Some("openai"),
        ..CHANNEL
    },
];

/// The model of that name, as an index into [`MODELS`].
pub fn model(name: &str) -> Option<usize> {
    MODELS.iter().position(|model| model.name == name)
}

/// The channel of that id, as an index into [`CHANNELS`].
pub fn channel(id: i64) -> Option<usize> {
    CHANNELS.iter().position(|channel| channel.id == id)
}

/// The group of that name, as an index into [`GROUPS`].
pub fn group(name: &str) -> Option<usize> {
    GROUPS.iter().position(|(group, _)| *group == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_refer_to_each_other_exist_and_need_no_escape() {
        for channel in CHANNELS {
            assert!(!channel.name.contains(['"', '\\']));
            assert!(channel.models.split(',').all(|name| model(name).is_some()), "{}", channel.models);
            assert!(channel.groups.split(',').all(|name| group(name).is_some()), "{}", channel.groups);
        }
        for token in TOKENS {
            assert_eq!(GROUPS[token.group].0, USERS[token.user].group);
        }
        assert!((MODELS.iter().map(|model| model.share).sum::<f64>() - 100.0).abs() < 0.01);
    }

    #[test]
    fn access_tokens_look_like_new_apis() {
        for token in USERS.iter().filter_map(|user| user.access_token) {
            assert_eq!(token.len(), 32);
            assert!(token.contains(SECRET_MARK) && !token.starts_with("sk-"));
        }
    }

    #[test]
    fn an_expensive_channel_can_be_spared() {
        let enabled = || CHANNELS.iter().filter(|channel| channel.status == status::ENABLED);
        for id in [1, 2, 4, 5] {
            let channel = enabled().find(|channel| channel.id == id).unwrap();
            for name in channel.models.split(',') {
                let others =
                    enabled().filter(|other| other.id != id && other.models.split(',').any(|m| m == name));
                assert!(others.count() > 0, "{name} would vanish with channel {id}");
            }
        }
    }
}
