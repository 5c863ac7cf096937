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

    /// A ratio or price. Most are whole or have few digits, which is faster than what floats take in general.
    pub fn ratio(&mut self, name: &str, value: f64) -> &mut Self {
        let thousandths = super::dice::whole(value * 1000.0);
        if thousandths % 1000 == 0 { self.raw(name, thousandths / 1000) } else { self.raw(name, value) }
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
        let text = object.finish();
        assert_eq!(text, r#"{"a":1,"b":0.075,"c":-1,"d":true,"e":"x","f":[1]}"#);
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }
}
