//! `show config`: the profile in force, with all that it leaves to defaults. Keys are not in it: they
//! stand in files of their own, of which it has the names.

use serde_json::{Value, json};

use super::control_loop::Control;
use crate::profile::Profile;

impl Control {
    /// What is in force, and where it was read.
    pub(super) fn config(&self) -> Result<Value, String> {
        Ok(json!({
            "file": self.file.display().to_string(),
            "read_unix_s": self.last_load.unix_s,
            "last_reload_was_refused": !self.last_load.is_good,
            "profile": in_force(&self.profile)?,
        }))
    }
}

fn in_force(profile: &Profile) -> Result<Value, String> {
    let mut value = serde_json::to_value(profile).map_err(|error| error.to_string())?;
    let names: Vec<&str> = profile.ports.iter().map(|port| &*port.name).collect();
    name_ports(&mut value, &names);
    Ok(value)
}

/// Puts the names of ports in the place of their indices.
fn name_ports(value: &mut Value, names: &[&str]) {
    let named = |index: &Value| {
        let index = usize::try_from(index.as_u64()?).ok()?;
        names.get(index).map(|name| Value::from(*name))
    };
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                if !["outside", "inside", "port", "parent"].contains(&key.as_str()) {
                    name_ports(inner, names);
                } else if let Value::Array(list) = inner {
                    for index in list {
                        *index = named(index).unwrap_or_default();
                    }
                } else if let Some(name) = named(inner) {
                    *inner = name;
                } else {
                    name_ports(inner, names);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| name_ports(inner, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::profile::{self, Machine, Strictness};

    // I6
    #[test]
    fn i6_what_is_in_force_is_shown_by_name_and_with_its_defaults() {
        let machine = Machine {
            cores: vec![0, 1],
            isolated_cores: Vec::new(),
        };
        let text = "ports:\n  a: { device: net_null0, address: 192.0.2.1/24 }\n  \
                    b: { device: net_null1, address: 10.0.0.1/24 }\n  c: { parent: b, vlan: 7 }\n\
                    routes: [ { to: default, via: 192.0.2.254 } ]\n\
                    guard: { outside: a, inside: b, mode: on-flood, protect: [ { server: 10.0.0.10, ports: [80, \"90-99\"] } ] }\n\
                    rules: [ { when: { port: [a, c], destination_port: 22 }, then: deny }, { default: guard } ]\n";
        let loaded = profile::parse(text, Path::new("p.yaml"), &machine, Strictness::Check);
        let value = in_force(&loaded.unwrap().profile).unwrap();
        let at = |pointer: &str| value.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(at("/guard/outside"), "a");
        assert_eq!(at("/guard/mode"), "on-flood");
        assert_eq!(at("/guard/on_flood/hold_s"), 10);
        assert_eq!(at("/guard/protect/0/ports/1"), "90-99");
        assert_eq!(at("/ports/2/link/parent"), "b");
        assert_eq!(at("/ports/0/addresses/0"), "192.0.2.1/24");
        assert_eq!(at("/routes/0/to"), "0.0.0.0/0");
        assert_eq!(at("/routes/0/port"), "a");
        assert_eq!(at("/runtime/sessions"), 262_144);
        let rule = at("/rules/0").to_string();
        assert!(
            rule.contains(r#""port":["a","c"]"#) && rule.contains(r#""destination_port":["22"]"#),
            "{rule}"
        );
    }
}
