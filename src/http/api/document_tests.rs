//! The document says what is routed, and what is routed is what it says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::params::Param;
use super::tests::api;
use super::*;

fn document() -> Value {
    serde_json::to_value(openapi::document(&routes::routes())).unwrap()
}

/// Operations of the document, with their paths.
fn operations(document: &Value) -> Vec<(String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let one = |item: &Value| item.get("get").or_else(|| item.get("post")).unwrap().clone();
    paths.iter().map(|(path, item)| (path.clone(), one(item))).collect()
}

/// Names of an operation's parameters at `place`.
fn parameters(operation: &Value, place: &str) -> Vec<String> {
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let here = parameters.iter().filter(|parameter| parameter["in"] == place);
    here.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_route_is_documented_and_nothing_else_is() {
    let (api, document) = (api(), document());
    assert_eq!(document["openapi"], "3.1.0");
    let operations = operations(&document);
    let documented: BTreeSet<String> = operations.iter().map(|(path, _)| path.clone()).collect();
    let routed: BTreeSet<String> = api.routes.iter().map(|route| format!("{BASE}{}", route.path)).collect();
    assert_eq!(documented, routed);
    let ids: BTreeSet<&str> =
        operations.iter().map(|(_, operation)| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), routed.len());
    for (path, operation) in &operations {
        let in_path = parameters(operation, "path");
        let named: Vec<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
        assert_eq!(in_path, named, "{path}");
        let posted = document["paths"][path].get("post").is_some();
        let own: &[&str] = if posted { &["202", "408", "409", "413", "415", "502"] } else { &["304"] };
        for status in ["200", "400", "401", "403", "414", "429", "500", "503"].iter().chain(own) {
            assert!(operation["responses"].get(status).is_some(), "{path} does not document {status}");
        }
        assert_eq!(operation["responses"].get("404").is_some(), !in_path.is_empty() && !posted, "{path}");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{path}");
        assert!(!operation["description"].as_str().unwrap().is_empty(), "{path}");
    }
}

#[test]
fn a_documented_parameter_is_accepted_and_no_other() {
    let (api, document) = (api(), document());
    let known = Known {
        now: "2026-01-31T12:00:00Z".parse().unwrap(),
        today: Duration::from_secs(12 * 3600),
        history: api.history,
        known_from: Timestamp::MIN,
    };
    for route in &api.routes {
        let path = format!("{BASE}{}", route.path);
        let documented = operations(&document).into_iter().find(|(known, _)| *known == path).unwrap().1;
        let documented = parameters(&documented, "query");
        for param in Param::ALL {
            // Two parameters each are called `state` and `request_id`, of different routes.
            let namesake = |other: &&Param| **other != param && other.name() == param.name();
            if route.accepts.params.iter().any(|other| namesake(&other)) {
                continue;
            }
            let query = format!("{}={}", param.name(), param.declaration().example);
            let read = Query::parse(route.id, &route.accepts, &query, known);
            let accepted = documented.iter().any(|name| name == param.name());
            assert_eq!(read.is_ok(), accepted, "{path}?{query}: {read:?}");
        }
    }
}

#[test]
fn every_parameter_has_words_bounds_and_an_example() {
    for (path, operation) in operations(&document()) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            assert!(parameter["description"].as_str().unwrap().len() > 15, "{path} {name}");
            assert!(parameter.get("example").is_some() || name == "cursor", "{path} {name}");
            let schema = &parameter["schema"];
            let bounded = ["anyOf", "enum", "maxLength", "maximum", "pattern"];
            assert!(bounded.iter().any(|key| schema.get(key).is_some()), "{path} {name}: {schema}");
        }
    }
}

/// Whether `value` is what `schema` says, as far as this document goes.
fn fits(document: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let pointer = name.trim_start_matches('#');
        let target = document.pointer(pointer).ok_or(format!("{place}: {name} is not there"))?;
        return fits(document, target, value, place);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        fits(document, part, value, place)?;
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let hits = choices.iter().filter(|choice| fits(document, choice, value, place).is_ok()).count();
        return if hits == 1 { Ok(()) } else { Err(format!("{place}: {hits} of oneOf fit {value}")) };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |kind: &&str| match *kind {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        _ => value.is_object(),
    };
    if !types.is_empty() && !types.iter().any(is) {
        return Err(format!("{place}: {value} is not {types:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        value.get(name).ok_or(format!("{place}: {name} is missing"))?;
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            fits(document, property, value, &format!("{place}.{name}"))?;
        }
    }
    for item in value.as_array().into_iter().flatten() {
        fits(document, &schema["items"], item, place)?;
    }
    Ok(())
}

/// Names of all fields that a schema knows.
fn fields(document: &Value, schema: &Value) -> BTreeSet<String> {
    let target = schema["$ref"].as_str().and_then(|name| document.pointer(name.trim_start_matches('#')));
    let schema = target.unwrap_or(schema);
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let own = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
    parts.flat_map(|part| fields(document, part)).chain(own).collect()
}

#[test]
fn every_example_is_what_its_schema_says() {
    let document = document();
    for (path, operation) in operations(&document) {
        let content = &operation["responses"]["200"]["content"]["application/json"];
        let Some(example) = content.get("example") else {
            assert!(path.ends_with("openapi.json"), "{path} has no example");
            continue;
        };
        fits(&document, &content["schema"], example, &path).unwrap();
        let known = fields(&document, &content["schema"]);
        let shown: BTreeSet<String> = example.as_object().unwrap().keys().cloned().collect();
        assert!(shown.is_subset(&known), "{path} shows {:?}", shown.difference(&known));
    }
    for (name, response) in document["components"]["responses"].as_object().unwrap() {
        let content = &response["content"]["application/problem+json"];
        fits(&document, &content["schema"], &content["example"], name).unwrap();
    }
}

#[test]
fn no_two_schemas_have_one_name() {
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    for (name, schema) in routes::routes().into_iter().flat_map(|route| route.schemas) {
        let schema = serde_json::to_value(schema).unwrap();
        assert_eq!(known.entry(name.clone()).or_insert_with(|| schema.clone()), &schema, "{name}");
    }
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    let document = document();
    let text = document.to_string();
    let mut references = 0;
    for name in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(name).is_some(), "{name}");
        references += 1;
    }
    assert!(references > 30, "{references}");
}

#[test]
fn a_schema_that_is_wrong_is_noticed() {
    let document = document();
    let schema = serde_json::json!({"$ref": "#/components/schemas/Measures"});
    let mut value = serde_json::to_value(Measures::example(1)).unwrap();
    assert_eq!(fits(&document, &schema, &value, "x"), Ok(()));
    value["requests"] = "many".into();
    assert!(fits(&document, &schema, &value, "x").is_err());
    value.as_object_mut().unwrap().remove("requests");
    assert!(fits(&document, &schema, &value, "x").is_err());
}
