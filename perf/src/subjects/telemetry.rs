//! What a DPDK program tells by its telemetry socket: one command a message, one JSON answer.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use lab::{Error, Result};
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

/// The longest answer, as DPDK bounds it.
const ANSWER_BYTES: usize = 16 << 10;
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// A connection to a running program.
#[derive(Debug)]
pub(super) struct Telemetry {
    socket: Socket,
    /// The program's DPDK, as it says.
    pub(super) version: String,
}

impl Telemetry {
    /// Connects, and is greeted.
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| Error::because(path.display(), error);
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).map_err(failed)?;
        socket.set_read_timeout(Some(LIMIT)).map_err(failed)?;
        socket
            .connect(&SockAddr::unix(path).map_err(failed)?)
            .map_err(failed)?;
        let mut telemetry = Self {
            socket,
            version: String::new(),
        };
        let greeting = telemetry.answer("greeting")?;
        greeting["version"]
            .as_str()
            .unwrap_or("DPDK of an unknown version")
            .clone_into(&mut telemetry.version);
        Ok(telemetry)
    }

    /// What it answers to a command, such as `/ethdev/stats,0`.
    pub(super) fn ask(&mut self, command: &str) -> Result<Value> {
        self.socket
            .write_all(command.as_bytes())
            .map_err(|error| Error::because(command, error))?;
        let name = command.split(',').next().unwrap_or_default();
        let mut answer = self.answer(command)?;
        match answer[name].take() {
            Value::Null => Err(Error::new(format!("{command}: nothing was answered"))),
            value => Ok(value),
        }
    }

    fn answer(&mut self, to: &str) -> Result<Value> {
        let mut buffer = vec![0; ANSWER_BYTES];
        let length = self
            .socket
            .read(&mut buffer)
            .map_err(|error| Error::because(to, error))?;
        serde_json::from_slice(&buffer[..length]).map_err(|error| Error::because(to, error))
    }
}
