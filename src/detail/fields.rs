//! Single fields of the `other` column, read when they are asked for.
//!
//! What a row counts as is read by [`crate::newapi::other`]; these are the many fields that only a detail shows.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::mask;

/// The fields of one JSON object, values unread: nothing nests, whatever they hold.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    values: BTreeMap<String, &'a RawValue>,
}

impl<'a> Fields<'a> {
    /// None of what is no JSON object.
    pub fn parse(text: &'a str) -> Self {
        Self { values: serde_json::from_str(text).unwrap_or_default() }
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Names of all fields, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The field, unless it is null.
    fn raw(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).map(|value| value.get()).filter(|value| *value != "null")
    }

    fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_str(self.raw(name)?).ok()
    }

    /// A finite number, or a text that is one.
    pub fn number(&self, name: &str) -> Option<f64> {
        let number = self.get::<f64>(name).or_else(|| self.get::<String>(name)?.trim().parse().ok());
        number.filter(|number: &f64| number.is_finite())
    }

    /// A number of tokens or calls: not negative, 0 where there is none.
    pub fn count(&self, name: &str) -> f64 {
        self.number(name).unwrap_or(0.0).max(0.0)
    }

    /// A text, or a number as text: some versions write codes as numbers. Empty ones are absent. All texts come
    /// without credentials, because what is read is shown.
    pub fn text(&self, name: &str) -> Option<String> {
        let text = self.get::<String>(name).or_else(|| {
            self.get::<f64>(name)?;
            self.raw(name).map(str::to_owned)
        });
        text.filter(|text| !text.is_empty()).map(|text| mask::text(&text).into_owned())
    }

    /// Whether the field is `true`.
    pub fn flag(&self, name: &str) -> bool {
        self.raw(name) == Some("true")
    }

    /// The texts of a list.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let texts: Vec<String> = self.get(name).unwrap_or_default();
        texts.iter().map(|text| mask::text(text).into_owned()).collect()
    }

    /// An object in the field, an empty one where there is none.
    pub fn object(&self, name: &str) -> Self {
        self.raw(name).map(Self::parse).unwrap_or_default()
    }

    /// The objects of a list.
    pub fn objects(&self, name: &str) -> Vec<Self> {
        let list: Vec<&'a RawValue> =
            self.raw(name).and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default();
        list.into_iter().map(|item| Self::parse(item.get())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_leniently() {
        let fields = Fields::parse(
            r#"{"f":1.25,"s":"0.5","n":null,"b":true,"t":"x","code":404,"list":["1","2"],
                "o":{"inner":3},"os":[{"price":1},5],"neg":-2,"secret":["sk-abc"],"bad":"abc","empty":"","inf":1e999}"#,
        );
        assert_eq!(fields.number("f"), Some(1.25));
        assert_eq!(fields.number("s"), Some(0.5));
        assert_eq!((fields.number("n"), fields.number("bad"), fields.number("inf")), (None, None, None));
        assert_eq!((fields.count("neg"), fields.count("none"), fields.count("f")), (0.0, 0.0, 1.25));
        assert_eq!(fields.text("code").as_deref(), Some("404"));
        assert_eq!((fields.text("empty"), fields.text("b"), fields.text("n")), (None, None, None));
        assert!(fields.flag("b") && !fields.flag("t"));
        assert_eq!(
            (fields.texts("list"), fields.texts("secret")),
            (vec!["1".into(), "2".into()], vec!["sk-***".into()])
        );
        assert_eq!(fields.object("o").number("inner"), Some(3.0));
        assert_eq!(fields.objects("os").iter().map(|o| o.count("price")).collect::<Vec<_>>(), [1.0, 0.0]);
        assert!(Fields::parse("[1]").is_empty() && Fields::parse("").is_empty());
    }

    #[test]
    fn depth_does_not_matter() {
        let deep = format!(r#"{{"deep":{}{},"model_ratio":2}}"#, "[".repeat(400_000), "]".repeat(400_000));
        assert_eq!(Fields::parse(&deep).number("model_ratio"), Some(2.0));
    }
}
