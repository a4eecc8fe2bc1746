//! One direction's settings, and changes of some of them.

use serde::{Deserialize, Deserializer};
use simulator::{Bursts, LinkSettings};

use crate::units;

/// Settings that are said; what is not stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Changes {
    #[serde(deserialize_with = "rate")]
    pub(super) rate: Option<u64>,
    #[serde(deserialize_with = "time")]
    pub(super) delay: Option<u64>,
    #[serde(deserialize_with = "time")]
    pub(super) jitter: Option<u64>,
    #[serde(deserialize_with = "share")]
    pub(super) loss: Option<f64>,
    #[serde(deserialize_with = "bursts_of_file")]
    pub(super) bursts: Option<Bursts>,
    #[serde(deserialize_with = "share")]
    pub(super) reorder: Option<f64>,
    #[serde(deserialize_with = "time")]
    pub(super) reorder_delay: Option<u64>,
    #[serde(deserialize_with = "share")]
    pub(super) duplicate: Option<f64>,
    #[serde(deserialize_with = "bytes")]
    pub(super) queue: Option<u64>,
}

impl Changes {
    /// Reads `rate=10mbit,delay=300ms`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut changes = Self::default();
        for pair in text.split(',') {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair:?} is no KEY=VALUE, such as rate=10mbit"))?;
            match key.trim() {
                "rate" => changes.rate = Some(units::rate(value)?),
                "delay" => changes.delay = Some(units::time(value)?),
                "jitter" => changes.jitter = Some(units::time(value)?),
                "loss" => changes.loss = Some(units::share(value)?),
                "bursts" => changes.bursts = Some(bursts(value)?),
                "reorder" => changes.reorder = Some(units::share(value)?),
                "reorder_delay" => changes.reorder_delay = Some(units::time(value)?),
                "duplicate" => changes.duplicate = Some(units::share(value)?),
                "queue" => changes.queue = Some(units::bytes(value)?),
                other => {
                    return Err(format!(
                        "there is no {other:?}; there are rate, delay, jitter, loss, bursts, \
                         reorder, reorder_delay, duplicate and queue"
                    ));
                }
            }
        }
        Ok(changes)
    }

    /// Puts what is said into a direction's settings.
    pub(super) fn apply(&self, to: &mut LinkSettings) {
        let Self {
            rate,
            delay,
            jitter,
            loss,
            bursts,
            reorder,
            reorder_delay,
            duplicate,
            queue,
        } = *self;
        to.rate_bits_per_second = rate.unwrap_or(to.rate_bits_per_second);
        to.delay_ns = delay.unwrap_or(to.delay_ns);
        to.jitter_ns = jitter.unwrap_or(to.jitter_ns);
        to.loss = loss.unwrap_or(to.loss);
        to.bursts = bursts.or(to.bursts);
        to.reorder = reorder.unwrap_or(to.reorder);
        to.reorder_delay_ns = reorder_delay.unwrap_or(to.reorder_delay_ns);
        to.duplicate = duplicate.unwrap_or(to.duplicate);
        to.queue_bytes = queue.unwrap_or(to.queue_bytes);
    }
}

/// Reads `0.1%:25%:100%`.
pub(super) fn bursts(text: &str) -> Result<Bursts, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let [enter, leave, loss] = parts[..] else {
        return Err(format!(
            "{text:?} is not ENTER:LEAVE:LOSS, such as 0.1%:25%:100%"
        ));
    };
    checked(Bursts {
        enter: units::share(enter)?,
        leave: units::share(leave)?,
        loss: units::share(loss)?,
    })
}

fn checked(bursts: Bursts) -> Result<Bursts, String> {
    if bursts.enter > 0.0 && bursts.leave == 0.0 {
        return Err(
            "a bad time that is never left; say `leave`, or lose everything by `loss: 100%`".into(),
        );
    }
    Ok(bursts)
}

/// A text of the file, by the reader of the option.
fn read<'de, D, T>(from: D, by: fn(&str) -> Result<T, String>) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    let text = String::deserialize(from)?;
    by(&text).map_err(serde::de::Error::custom)
}

fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    read(from, units::rate).map(Some)
}

pub(super) fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    read(from, units::time).map(Some)
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    read(from, units::bytes).map(Some)
}

fn share<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    read(from, units::share).map(Some)
}

fn bursts_of_file<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bursts>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct InFile {
        #[serde(deserialize_with = "share")]
        enter: Option<f64>,
        #[serde(deserialize_with = "share")]
        leave: Option<f64>,
        #[serde(default, deserialize_with = "share")]
        loss: Option<f64>,
    }
    let read = InFile::deserialize(from)?;
    let bursts = Bursts {
        enter: read.enter.unwrap_or_default(),
        leave: read.leave.unwrap_or_default(),
        loss: read.loss.unwrap_or(1.0),
    };
    checked(bursts).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_is_read_from_one_word() {
        let changes =
            Changes::parse("rate=10mbit,delay=300ms,loss=1%,bursts=0.1%:25%:100%").unwrap();
        let mut settings = LinkSettings::default();
        changes.apply(&mut settings);
        assert_eq!(settings.rate_bits_per_second, 10_000_000);
        assert_eq!(settings.delay_ns, 300_000_000);
        assert_eq!(settings.loss, 0.01);
        assert_eq!(settings.bursts.map(|bursts| bursts.leave), Some(0.25));
        assert_eq!(settings.queue_bytes, 1_000_000, "what is not said stays");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for (text, expected) in [
            ("rate", "KEY=VALUE"),
            ("speed=1mbit", "there are rate"),
            ("rate=fast", "50mbit"),
            ("bursts=1%", "ENTER:LEAVE:LOSS"),
            ("bursts=1%:0%:100%", "never left"),
        ] {
            let error = Changes::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
