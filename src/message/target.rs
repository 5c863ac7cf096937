//! Where messages go.

use serde::{Deserialize, Serialize};

/// A configured chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A Telegram chat, through the Bot API.
    Telegram,
    /// A Feishu or Lark group, through its custom bot.
    Feishu,
    /// A WeCom group, through its bot.
    Wecom,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Telegram, Self::Feishu, Self::Wecom];

    /// The label value, and its name in monitor.db.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Telegram => "telegram",
            Self::Feishu => "feishu",
            Self::Wecom => "wecom",
        }
    }

    /// The target of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.as_str() == name)
    }
}
