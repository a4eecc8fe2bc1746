//! What the daemon tells about itself.

use std::collections::BTreeMap;

use lab::daemon::Daemon;
use lab::{Error, Result};
use serde_json::Value;

/// What the daemon has counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// Sessions opened since its start.
    pub(crate) sessions: u64,
    /// Drops by reason, most first; reasons that did not occur are left out.
    pub(crate) drops: Vec<(String, u64)>,
}

/// Asks the daemon.
pub(crate) fn read(daemon: &Daemon) -> Result<Shown> {
    let guard = daemon.show("guard")?;
    let sessions = guard["sessions"]["opened"]
        .as_u64()
        .ok_or_else(|| Error::new(format!("no sessions.opened in show guard: {guard}")))?;
    let drops = daemon.show("drops")?;
    let mut drops = reasons(&drops);
    drops.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(Shown { sessions, drops })
}

/// The events of all workers together.
pub(crate) fn events(daemon: &Daemon) -> Result<BTreeMap<String, u64>> {
    let workers = daemon.show("workers")?;
    let mut sums = BTreeMap::new();
    let rows = workers["workers"].as_array().into_iter().flatten();
    for (name, count) in rows.filter_map(|row| row["events"].as_object()).flatten() {
        *sums.entry(name.clone()).or_default() += count.as_u64().unwrap_or_default();
    }
    Ok(sums)
}

fn reasons(drops: &Value) -> Vec<(String, u64)> {
    let rows = drops["drops"].as_array();
    rows.into_iter()
        .flatten()
        .filter_map(|row| {
            let reason = row["reason"].as_str()?.to_owned();
            Some((reason, row["count"].as_u64()?))
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}
