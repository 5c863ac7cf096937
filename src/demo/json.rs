//! Writes the small JSON objects of the `other` column, fast and in the order given.
//!
//! new-api's come out sorted by name, so callers give names sorted. Nothing is escaped: all texts are our own.

use std::fmt::{Display, Write as _};

/// A JSON object under construction.
#[derive(Debug)]
pub struct Object(String);

impl Object {
    /// An empty one with room for `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        let mut text = String::with_capacity(capacity);
        text.push('{');
        Self(text)
    }

    /// A number, a boolean, or JSON that is ready.
    pub fn raw(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.name(name);
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    /// A ratio or price, to three decimals, which none of ours exceeds: much faster than floats in general.
    pub fn ratio(&mut self, name: &str, value: f64) -> &mut Self {
        let thousandths = super::dice::whole(value * 1000.0);
        self.name(name);
        if thousandths < 0 {
            self.0.push('-');
        }
        let size = thousandths.unsigned_abs();
        self.digits(size / 1000, 1);
        if !size.is_multiple_of(1000) {
            self.0.push('.');
            self.digits(size % 1000, 3);
            while self.0.ends_with('0') {
                self.0.pop();
            }
        }
        self
    }

    /// A whole number.
    pub fn int(&mut self, name: &str, value: i64) -> &mut Self {
        self.name(name);
        if value < 0 {
            self.0.push('-');
        }
        self.digits(value.unsigned_abs(), 1);
        self
    }

    /// At least `least` digits.
    fn digits(&mut self, mut value: u64, least: usize) {
        let mut digits = [b'0'; 20];
        let mut at = digits.len();
        while value > 0 || digits.len() - at < least {
            at -= 1;
            digits[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
            value /= 10;
        }
        for digit in &digits[at..] {
            self.0.push(char::from(*digit));
        }
    }

    /// A text that needs no escape.
    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.name(name);
        self.0.push('"');
        self.0.push_str(value);
        self.0.push('"');
        self
    }

    /// The object as text.
    pub fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(name);
        self.0.push_str("\":");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_writes_is_json_with_numbers_as_go_prints_them() {
        let mut object = Object::new(0);
        object
            .ratio("a", 1.0)
            .ratio("b", 0.075)
            .ratio("c", -1.0)
            .raw("d", true)
            .text("e", "x")
            .raw("f", "[1]");
        object.ratio("g", 8.33).ratio("h", 12.5).ratio("i", 0.0).int("j", -1000).int("k", 0);
        let text = object.finish();
        assert_eq!(
            text,
            r#"{"a":1,"b":0.075,"c":-1,"d":true,"e":"x","f":[1],"g":8.33,"h":12.5,"i":0,"j":-1000,"k":0}"#
        );
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }
}
