//! `set` lines.

use dataplane::guard::config::{Mode, Unknown};
use dataplane::guard::cookie::CookieKey;

use super::language::parse_time;
use crate::appliance::ApplianceSettings;

/// Applies a `set` line.
pub(super) fn change(settings: &mut ApplianceSettings, words: &[String]) -> Result<(), String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| {
        word.parse::<u16>()
            .map_err(|_| format!("{word} is no number"))
    };
    match words[..] {
        ["mode", "always"] => settings.mode = Mode::Always,
        ["mode", "on-flood"] => settings.mode = Mode::OnFlood,
        ["mode", "monitor"] => settings.mode = Mode::Monitor,
        ["mode", "off"] => settings.mode = Mode::Off,
        ["unknown", "reset"] => settings.unknown = Unknown::Reset,
        ["unknown", "drop"] => settings.unknown = Unknown::Drop,
        ["key", number] => {
            let octet = number
                .parse()
                .map_err(|_| format!("{number} is no octet"))?;
            settings.keys.push(CookieKey {
                not_before_s: u64::MAX,
                secret: [octet; 16],
            });
        }
        ["keys", "fresh", octet] => {
            let octet = octet.parse().map_err(|_| format!("{octet} is no octet"))?;
            settings.keys = vec![CookieKey {
                not_before_s: 0,
                secret: [octet; 16],
            }];
        }
        ["half-open-per-source", count] => settings.half_open_per_source = number(count)?,
        ["capacity", count] => settings.capacity = number(count)?.into(),
        ["idle", time] => settings.timers.established_idle_ns = parse_time(time)?,
        ["closing-idle", time] => settings.timers.closing_idle_ns = parse_time(time)?,
        ["outside-mtu", mtu] => settings.outside.mtu_bytes = number(mtu)?,
        ["inside-mtu", mtu] => settings.inside.mtu_bytes = number(mtu)?,
        ["protect", "nothing"] => settings.protect.clear(),
        ["flood", enter, leave, hold] => {
            settings.flood.enter_syns_per_s = number(enter)?.into();
            settings.flood.leave_syns_per_s = number(leave)?.into();
            settings.flood.hold_ns = parse_time(hold)?;
        }
        _ => return Err(format!("what is {}?", words.join(" "))),
    }
    Ok(())
}
