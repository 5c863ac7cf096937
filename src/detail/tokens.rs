//! Tokens by kind. The kinds always sum to the total.

use serde::Serialize;
use utoipa::ToSchema;

use super::fields::Fields;
use crate::record::Request;

/// Tokens of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Tokens {
    /// Input and output tokens.
    pub total: u64,
    /// Input tokens, cached ones included for every provider.
    pub input: u64,
    /// Output tokens, reasoning included.
    pub output: u64,
    /// The same by kind; they sum to `total`. Kinds without tokens are left out.
    pub parts: Vec<TokenPart>,
}

/// Tokens of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TokenPart {
    /// `fresh_input`, `cache_read`, `cache_write`, `image_input`, `audio_input`, `output` or `audio_output`.
    pub kind: &'static str,
    /// Tokens.
    pub tokens: u64,
}

impl Tokens {
    /// Parts are taken from the totals one after the other, so that they sum up even where the row contradicts
    /// itself.
    pub(super) fn new(request: &Request, fields: &Fields<'_>) -> Self {
        let (input, output) = (request.input_tokens, request.output_tokens);
        let audio_in = fields.count("audio_input").max(fields.count("audio_input_token_count"));
        // new-api calls the image part of the input `image_output`.
        let image_in = fields.count("image_output");
        let mut parts = Vec::new();
        let mut fresh = input;
        let inputs = [
            ("cache_read", request.cache_read_tokens),
            ("cache_write", request.cache_write_tokens),
            ("image_input", whole(image_in)),
            ("audio_input", whole(audio_in)),
        ];
        for (kind, tokens) in inputs {
            let tokens = tokens.min(fresh);
            fresh -= tokens;
            parts.push(TokenPart { kind, tokens });
        }
        parts.insert(0, TokenPart { kind: "fresh_input", tokens: fresh });
        let audio_out = whole(fields.count("audio_output")).min(output);
        parts.push(TokenPart { kind: "output", tokens: output - audio_out });
        parts.push(TokenPart { kind: "audio_output", tokens: audio_out });
        parts.retain(|part| part.tokens > 0);
        Self { total: input.saturating_add(output), input, output, parts }
    }
}

fn whole(number: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of a float saturates"
    )]
    let whole = number as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detail::Entry;

    fn parts(prompt: i64, completion: i64, other: &str) -> Vec<(&'static str, u64)> {
        let entry = Entry {
            kind: 2,
            prompt_tokens: prompt,
            completion_tokens: completion,
            other: other.to_owned(),
            ..Entry::default()
        };
        let tokens = Tokens::new(&entry.read().request, &Fields::parse(other));
        assert_eq!(tokens.parts.iter().map(|part| part.tokens).sum::<u64>(), tokens.total);
        tokens.parts.iter().map(|part| (part.kind, part.tokens)).collect()
    }

    #[test]
    fn cached_tokens_are_inside_the_prompt_for_openai_and_beside_it_for_anthropic() {
        let other = r#"{"cache_tokens":300,"cache_creation_tokens":50}"#;
        assert_eq!(
            parts(1000, 40, other),
            [("fresh_input", 650), ("cache_read", 300), ("cache_write", 50), ("output", 40)]
        );
        let other = r#"{"claude":true,"cache_tokens":300,"cache_creation_tokens":50}"#;
        assert_eq!(
            parts(1000, 40, other),
            [("fresh_input", 1000), ("cache_read", 300), ("cache_write", 50), ("output", 40)]
        );
    }

    #[test]
    fn sound_and_images_are_kinds_of_their_own() {
        let other = r#"{"audio":true,"audio_input":60,"text_input":40,"audio_output":20,"text_output":10}"#;
        assert_eq!(
            parts(100, 30, other),
            [("fresh_input", 40), ("audio_input", 60), ("output", 10), ("audio_output", 20)]
        );
        assert_eq!(
            parts(100, 0, r#"{"image":true,"image_output":30}"#),
            [("fresh_input", 70), ("image_input", 30)]
        );
    }

    #[test]
    fn rows_that_contradict_themselves_still_sum_up() {
        assert_eq!(parts(10, 0, r#"{"cache_tokens":300}"#), [("cache_read", 10)]);
        let other = r#"{"cache_tokens":7,"cache_creation_tokens":8,"image_output":9,"audio_input":4}"#;
        assert_eq!(parts(10, 0, other), [("cache_read", 7), ("cache_write", 3)]);
        assert_eq!(parts(-5, -7, r#"{"audio_output":9}"#), []);
    }
}
