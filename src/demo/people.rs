//! Who uses the stand-in: users and their tokens. A part of [`super::world`].

use super::world::{ADMIN_TOKEN, USER_TOKEN};

/// A person with an account.
#[derive(Debug, Clone, Copy)]
pub struct User {
    /// Primary key.
    pub id: i64,
    /// Login name.
    pub name: &'static str,
    /// 1 ordinary, 10 administrator, 100 root.
    pub role: i64,
    /// 1 enabled, 2 disabled.
    pub status: i64,
    /// Billing group.
    pub group: &'static str,
    /// For the admin API.
    pub access_token: Option<&'static str>,
}

/// All users; the first is root.
pub const USERS: [User; 8] = [
    User { id: 1, name: "root", role: 100, status: 1, group: "default", access_token: Some(ADMIN_TOKEN) },
    User { id: 2, name: "ops", role: 10, status: 1, group: "default", access_token: None },
    User { id: 3, name: "alice", role: 1, status: 1, group: "vip", access_token: Some(USER_TOKEN) },
    User { id: 4, name: "bob", role: 1, status: 1, group: "default", access_token: None },
    User { id: 5, name: "chen", role: 1, status: 1, group: "default", access_token: None },
    User { id: 6, name: "dora", role: 1, status: 1, group: "vip", access_token: None },
    User { id: 7, name: "erik", role: 1, status: 1, group: "default", access_token: None },
    User { id: 8, name: "mallory", role: 1, status: 2, group: "default", access_token: None },
];

/// An API key that makes requests.
#[derive(Debug, Clone, Copy)]
pub struct Token {
    /// Primary key.
    pub id: i64,
    /// Index into [`USERS`].
    pub user: usize,
    /// Not unique.
    pub name: &'static str,
    /// Index into [`GROUPS`].
    pub group: usize,
    /// Share of requests, in percent.
    pub share: f64,
}

/// All tokens. The first makes no requests of its own: [`super::episodes`] lets it run away.
pub const TOKENS: [Token; 9] = [
    Token { id: 1, user: 0, name: "nightly-agent", group: 0, share: 0.0 },
    Token { id: 2, user: 2, name: "app-prod", group: 1, share: 38.0 },
    Token { id: 3, user: 2, name: "app-staging", group: 1, share: 4.0 },
    Token { id: 4, user: 3, name: "ide", group: 0, share: 18.0 },
    Token { id: 5, user: 4, name: "batch", group: 0, share: 15.0 },
    Token { id: 6, user: 4, name: "ide", group: 0, share: 7.0 },
    Token { id: 7, user: 5, name: "chatbot", group: 1, share: 12.0 },
    Token { id: 8, user: 6, name: "default", group: 0, share: 5.0 },
    Token { id: 9, user: 1, name: "default", group: 0, share: 1.0 },
];
