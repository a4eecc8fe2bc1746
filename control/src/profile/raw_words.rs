//! Values that a profile may write in more than one way.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// An enum of words, whose errors name all of them.
macro_rules! words {
    ($name:ident as $title:literal { $($(#[$meta:meta])* $variant:ident = $word:literal,)* }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
        #[schemars(rename = $title)]
        #[schemars(transform = crate::profile::schema::switches)]
        pub(super) enum $name {
            $($(#[$meta])* #[serde(rename = $word)] $variant,)*
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct WordVisitor;
                impl serde::de::Visitor<'_> for WordVisitor {
                    type Value = $name;
                    fn expecting(
                        &self,
                        formatter: &mut std::fmt::Formatter<'_>,
                    ) -> std::fmt::Result {
                        formatter.write_str(concat!("one of" $(, " `", $word, "`")*))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        match text {
                            $($word => Ok($name::$variant),)*
                            _ => match crate::profile::raw_words::truth_of(text) {
                                Some(truth) if Self::switch(truth).is_some() => self.visit_bool(truth),
                                _ => Err(E::unknown_variant(text, &[$($word),*])),
                            },
                        }
                    }
                    fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<$name, E> {
                        let found = serde::de::Unexpected::Bool(truth);
                        Self::switch(truth).ok_or_else(|| E::invalid_type(found, &self))
                    }
                }
                impl WordVisitor {
                    /// What is meant by a word that a tool has taken for a truth: YAML 1.1 reads
                    /// `on` and `off` as such.
                    fn switch(truth: bool) -> Option<$name> {
                        match if truth { "on" } else { "off" } {
                            $($word => Some($name::$variant),)*
                            _ => None,
                        }
                    }
                }
                deserializer.deserialize_any(WordVisitor)
            }
        }
    };
}
pub(super) use words;

/// What YAML 1.1 takes for true, and for false, written small.
const TRUE: [&str; 4] = ["true", "yes", "on", "y"];
const FALSE: [&str; 4] = ["false", "no", "off", "n"];
/// The same as a pattern, in the three ways in which YAML 1.1 writes them.
pub(super) const TRUTH_PATTERN: &str = "^(true|True|TRUE|yes|Yes|YES|on|On|ON|y|Y\
     |false|False|FALSE|no|No|NO|off|Off|OFF|n|N)$";
/// Those of them that are false.
pub(super) const FALSE_PATTERN: &str = "^(false|False|FALSE|no|No|NO|off|Off|OFF|n|N)$";

/// The truth that a text stands for in YAML 1.1: as it is written small, large, or with a capital.
pub(super) fn truth_of(text: &str) -> Option<bool> {
    let small = text.to_ascii_lowercase();
    let rest = text.get(1..)?;
    let is_even = text == small || *text == small.to_ascii_uppercase();
    if !is_even && rest != &small[1..] {
        return None;
    }
    match &*small {
        word if TRUE.contains(&word) => Some(true),
        word if FALSE.contains(&word) => Some(false),
        _ => None,
    }
}

/// True or false, in any way in which YAML 1.1 or 1.2 writes it, in quotation marks or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Truth(pub(super) bool);

impl<'de> Deserialize<'de> for Truth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TruthVisitor;
        impl Visitor<'_> for TruthVisitor {
            type Value = Truth;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("`true` or `false`")
            }
            fn visit_bool<E: Error>(self, truth: bool) -> Result<Truth, E> {
                Ok(Truth(truth))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Truth, E> {
                let found = serde::de::Unexpected::Str(text);
                let truth = truth_of(text).ok_or_else(|| E::invalid_type(found, &self));
                truth.map(Truth)
            }
        }
        deserializer.deserialize_any(TruthVisitor)
    }
}

impl JsonSchema for Truth {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Truth".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "boolean" }, { "type": "string", "pattern": TRUTH_PATTERN }] })
    }
}

/// A text, or `off` in any way in which YAML writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct TextOrOff(pub(super) String);

impl<'de> Deserialize<'de> for TextOrOff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl Visitor<'_> for TextVisitor {
            type Value = TextOrOff;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text (in quotation marks if it looks like a number)")
            }
            fn visit_bool<E: Error>(self, truth: bool) -> Result<TextOrOff, E> {
                match truth {
                    false => Ok(TextOrOff("off".into())),
                    true => Err(E::invalid_type(serde::de::Unexpected::Bool(truth), &self)),
                }
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<TextOrOff, E> {
                Ok(TextOrOff(match truth_of(text) {
                    Some(false) => "off".into(),
                    _ => text.to_owned(),
                }))
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

/// A number or a word, kept as its text: `80`, `8000-8099`, `tcp`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Word(pub(super) String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordVisitor;
        impl Visitor<'_> for WordVisitor {
            type Value = Word;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number or a word")
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }
            fn visit_bool<E: Error>(self, truth: bool) -> Result<Word, E> {
                match truth {
                    false => Ok(Word("off".into())),
                    true => Err(E::invalid_type(serde::de::Unexpected::Bool(truth), &self)),
                }
            }
        }
        deserializer.deserialize_any(WordVisitor)
    }
}

impl JsonSchema for Word {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Word".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "minimum": 0 })
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

struct OneOrManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
    type Value = OneOrMany<T>;
    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("one value, or a list of values")
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        T::deserialize(number.into_deserializer()).map(|one| OneOrMany(vec![one]))
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        T::deserialize(number.into_deserializer()).map(|one| OneOrMany(vec![one]))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        T::deserialize(text.into_deserializer()).map(|one| OneOrMany(vec![one]))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one.clone(), { "type": "array", "minItems": 1, "items": one }] })
    }
}

/// Things by name, in the order in which the profile has them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Named<T>(pub(super) Vec<(String, T)>);

struct NamedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
    type Value = Named<T>;
    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map of names")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry::<String, T>()? {
            entries.push(entry);
        }
        Ok(Named(entries))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Named_{}", T::schema_name()).into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({
            "type": "object",
            "propertyNames": { "pattern": super::NAME_PATTERN },
            "minProperties": 1,
            "additionalProperties": value,
        })
    }
}
