//! The `runtime` section: cores, memory, sockets, logs.

use std::net::SocketAddr;

use super::{Checker, NAME_REMEDY, is_name};
use crate::profile::model::{HugePages, Log, LogFormat, LogLevel, Poll, Runtime};
use crate::profile::raw::{
    RawCoreDumps, RawHugePages, RawLog, RawLogFormat, RawLogLevel, RawPoll, RawRuntime,
};
use crate::profile::raw_words::Word;
use crate::profile::{MAXIMUM_WORKERS, parse_core_list};
use yaml::Node;

/// The longest path that fits `sockaddr_un`, its closing zero left out.
const MAXIMUM_SOCKET_PATH_BYTES: usize = 107;

pub(super) fn resolve(
    raw: &RawRuntime,
    name: &str,
    node: &Node,
    checker: &mut Checker<'_>,
) -> Runtime {
    let (workers, workers_are_automatic) = match raw.workers.0.as_slice() {
        [Word(word)] if word == "auto" => (automatic_workers(raw, checker), true),
        words => (written_workers(words, node.get("workers"), checker), false),
    };
    let control_core = control_core(raw, &workers, node, checker);
    if let Some(memory_mib) = raw.memory_mib {
        checker.in_range(node, "memory_mib", memory_mib, 64..=1 << 20);
    }
    checker.in_range(node, "sessions", raw.sessions, 1024..=1 << 26);
    let file_prefix = raw
        .file_prefix
        .clone()
        .unwrap_or_else(|| format!("tidegate-{name}"));
    if raw.file_prefix.is_some() && !is_name(&file_prefix) {
        let mark = node.get("file_prefix").mark;
        checker.error(
            mark,
            format!("`{file_prefix}` cannot be a file prefix"),
            NAME_REMEDY,
        );
    }
    Runtime {
        workers,
        workers_are_automatic,
        control_core,
        poll: match raw.poll {
            RawPoll::Adaptive => Poll::Adaptive,
            RawPoll::Busy => Poll::Busy,
        },
        huge_pages: match raw.huge_pages {
            RawHugePages::Auto => HugePages::Auto,
            RawHugePages::On => HugePages::On,
            RawHugePages::Off => HugePages::Off,
        },
        memory_mib: raw.memory_mib,
        file_prefix,
        control_socket: control_socket(raw, name, node, checker),
        metrics: metrics(raw, node, checker),
        log: log(raw.log),
        sessions: raw.sessions,
        core_dumps: matches!(raw.core_dumps, RawCoreDumps::On),
    }
}

/// The isolated cores if there are any, else all but the control core; never none.
fn automatic_workers(raw: &RawRuntime, checker: &Checker<'_>) -> Vec<u32> {
    let machine = checker.machine;
    let candidates = if machine.isolated_cores.is_empty() {
        let control = raw.control_core.or(machine.cores.first().copied());
        machine
            .cores
            .iter()
            .copied()
            .filter(|core| Some(*core) != control)
            .collect()
    } else {
        machine.isolated_cores.clone()
    };
    let mut workers: Vec<u32> = candidates
        .into_iter()
        .filter(|core| Some(*core) != raw.control_core)
        .collect();
    workers.truncate(MAXIMUM_WORKERS);
    if workers.is_empty() {
        workers.push(machine.cores.first().copied().unwrap_or(0));
    }
    workers
}

fn written_workers(words: &[Word], node: &Node, checker: &mut Checker<'_>) -> Vec<u32> {
    let mut workers: Vec<u32> = Vec::new();
    for (index, Word(word)) in words.iter().enumerate() {
        let mark = node.item(index).mark;
        let cores = match parse_core_list(word) {
            Some(cores) if !cores.is_empty() => cores,
            _ => {
                checker.error(
                    mark,
                    format!("`{word}` is not a core"),
                    "write core numbers like `[2, 3]`, ranges like `[\"2-5\"]`, or `auto`",
                );
                continue;
            }
        };
        for core in cores {
            if workers.contains(&core) {
                checker.error(
                    mark,
                    format!("core {core} has two workers"),
                    "give each worker a core of its own",
                );
            } else {
                absent_core(core, mark, checker);
                workers.push(core);
            }
        }
    }
    if words.is_empty() {
        checker.error(
            node.mark,
            "there is no worker",
            "write core numbers like `[1]`, or `auto`",
        );
    }
    if workers.len() > MAXIMUM_WORKERS {
        checker.error(
            node.mark,
            format!("{} workers are too many", workers.len()),
            format!("write at most {MAXIMUM_WORKERS} cores"),
        );
    }
    workers
}

fn absent_core(core: u32, mark: crate::profile::Mark, checker: &mut Checker<'_>) {
    if checker.machine.cores.contains(&core) {
        return;
    }
    let cores: Vec<String> = checker.machine.cores.iter().map(u32::to_string).collect();
    checker.unfit(
        mark,
        format!("this machine has no core {core} that the process may use"),
        format!("it has {}; write one of them, or `auto`", cores.join(", ")),
    );
}

fn control_core(raw: &RawRuntime, workers: &[u32], node: &Node, checker: &mut Checker<'_>) -> u32 {
    let cores = &checker.machine.cores;
    let free = cores.iter().copied().find(|core| !workers.contains(core));
    let Some(core) = raw.control_core else {
        return free.or(cores.first().copied()).unwrap_or(0);
    };
    let mark = node.get("control_core").mark;
    let only_core = cores.len() == 1;
    absent_core(core, mark, checker);
    if workers.contains(&core) && !only_core {
        let remedy = match free {
            Some(free) => format!("write another core, such as {free}, or leave the key out"),
            None => "take a core from the workers".into(),
        };
        checker.error(
            mark,
            format!("core {core} is a worker's, so it cannot be the control core"),
            remedy,
        );
    }
    core
}

fn control_socket(
    raw: &RawRuntime,
    name: &str,
    node: &Node,
    checker: &mut Checker<'_>,
) -> std::path::PathBuf {
    let text = raw
        .control_socket
        .clone()
        .unwrap_or_else(|| format!("/run/tidegate/{name}.sock"));
    let path = checker.path(&text);
    let length = path.as_os_str().len();
    let mark = node.get("control_socket").mark;
    if text.is_empty() || text.ends_with('/') || text.contains('\0') {
        checker.error(
            mark,
            format!("`{text}` is not the path of a socket"),
            format!("write one like `/run/tidegate/{name}.sock`"),
        );
    } else if length > MAXIMUM_SOCKET_PATH_BYTES {
        checker.error(
            mark,
            format!("the path of the control socket has {length} bytes"),
            format!(
                "write one of at most {MAXIMUM_SOCKET_PATH_BYTES} bytes: the kernel takes no more"
            ),
        );
    }
    path
}

fn metrics(raw: &RawRuntime, node: &Node, checker: &mut Checker<'_>) -> Option<SocketAddr> {
    if raw.metrics.0 == "off" {
        return None;
    }
    let address = raw
        .metrics
        .0
        .parse::<SocketAddr>()
        .ok()
        .filter(|address| address.port() > 0);
    if address.is_none() {
        checker.error(
            node.get("metrics").mark,
            format!("`{}` is not an address and port", raw.metrics.0),
            "write one like `\"127.0.0.1:9464\"` or `\"[::1]:9464\"`, or `off`",
        );
    }
    address
}

fn log(raw: RawLog) -> Log {
    Log {
        format: match raw.format {
            RawLogFormat::Human => LogFormat::Human,
            RawLogFormat::Json => LogFormat::Json,
        },
        level: match raw.level {
            RawLogLevel::Error => LogLevel::Error,
            RawLogLevel::Warn => LogLevel::Warn,
            RawLogLevel::Info => LogLevel::Info,
            RawLogLevel::Debug => LogLevel::Debug,
            RawLogLevel::Trace => LogLevel::Trace,
        },
    }
}
