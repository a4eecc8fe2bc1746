//! The command line's side of the control socket.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::failure::Failure;
use crate::protocol::{Envelope, Request, Response, VERSION};

/// Names the socket for all commands of a shell.
pub const SOCKET_VARIABLE: &str = "TIDEGATE_SOCKET";
/// Where daemons put their sockets unless their profile says otherwise.
const FOLDER: &str = "/run/tidegate";
/// How long a daemon may think about a request. A reload under load takes seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The longest response, in octets: a hundred thousand sessions.
const MAXIMUM_RESPONSE_BYTES: u64 = 64 << 20;

/// Which socket is meant: the one that is named, else that of the environment, else the only one
/// in the usual folder.
///
/// # Errors
/// When there is none, or more than one.
pub fn find_socket(
    named: Option<&Path>,
    environment: Option<OsString>,
    folder: Option<&Path>,
) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    if let Some(path) = environment.filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let folder = folder.unwrap_or(Path::new(FOLDER));
    let is_socket = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_socket());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut sockets: Vec<PathBuf> = entries
        .filter(is_socket)
        .map(|entry| entry.path())
        .collect();
    sockets.sort();
    match sockets.len() {
        1 => Ok(sockets.remove(0)),
        0 => Err(Failure::new(
            format!("no daemon has a control socket in {}", folder.display()),
            "start one with `tidegate run PROFILE`, or name its socket with `--socket`",
        )),
        _ => {
            let names: Vec<_> = sockets
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            Err(Failure::new(
                format!("several daemons have control sockets: {}", names.join(", ")),
                "choose one with `--socket`",
            ))
        }
    }
}

/// What is wrong with a conversation.
fn wrong(path: &Path, error: &std::io::Error) -> Failure {
    let cause = format!("the daemon at {} does not answer: {error}", path.display());
    let cure = match error.kind() {
        ErrorKind::PermissionDenied => "run this as the daemon's user, or as root",
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            "start it with `tidegate run PROFILE`, or name another socket with `--socket`"
        }
        _ => "see its log",
    };
    Failure::new(cause, cure)
}

/// A request's line.
pub(crate) fn line_of(request: Request) -> String {
    let version = VERSION;
    let mut line = serde_json::to_string(&Envelope { version, request }).unwrap_or_default();
    line.push('\n');
    line
}

/// Asks the daemon at `path`. The outer error is that of the conversation, the inner one the
/// daemon's own.
///
/// # Errors
/// When nobody answers.
pub fn ask(path: &Path, request: Request) -> Result<Result<Value, String>, Failure> {
    ask_within(path, request, ANSWER_LIMIT)
}

/// Asks the daemon at `path`, and waits for so long.
///
/// # Errors
/// When nobody answers in time.
pub fn ask_within(
    path: &Path,
    request: Request,
    limit: Duration,
) -> Result<Result<Value, String>, Failure> {
    let talk = || {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(line_of(request).as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream.take(MAXIMUM_RESPONSE_BYTES)).read_line(&mut line)?;
        if line.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
    };
    let line = talk().map_err(|error| wrong(path, &error))?;
    Ok(outcome_of(&line))
}

/// What a response's line says.
pub(crate) fn outcome_of(line: &str) -> Result<Value, String> {
    serde_json::from_str::<Response>(line)
        .map_err(|error| format!("the daemon's response is not understood: {error}"))
        .and_then(Response::outcome)
}

/// The failure of a conversation that broke off.
pub(crate) fn broken(path: &Path, error: &std::io::Error) -> Failure {
    wrong(path, error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_socket_is_the_one_named_or_the_only_one() {
        let folder = tempfile::tempdir().unwrap();
        let find = |named: Option<&Path>, environment: Option<&str>| {
            find_socket(named, environment.map(Into::into), Some(folder.path()))
        };
        let none = find(None, None).unwrap_err().to_string();
        assert!(none.contains("tidegate run PROFILE"), "{none}");
        fs::write(folder.path().join("no-socket"), "").unwrap();
        let first = folder.path().join("a.sock");
        let _first = UnixListener::bind(&first).unwrap();
        assert_eq!(find(None, None), Ok(first.clone()));
        assert_eq!(find(None, Some("")), Ok(first));
        let _second = UnixListener::bind(folder.path().join("b.sock")).unwrap();
        let several = find(None, None).unwrap_err().to_string();
        assert!(
            several.contains("a.sock") && several.contains("b.sock"),
            "{several}"
        );
        assert_eq!(find(None, Some("/x.sock")), Ok("/x.sock".into()));
        assert_eq!(
            find(Some(Path::new("/y.sock")), Some("/x.sock")),
            Ok("/y.sock".into())
        );
    }

    #[test]
    fn a_daemon_that_is_gone_is_one_line_with_its_cure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let reload = Request::Reload {
            allow_unguarded: false,
        };
        let gone = ask(&path, reload.clone()).unwrap_err().to_string();
        assert!(
            gone.contains("does not answer") && gone.contains("start it with"),
            "{gone}"
        );
        // As after SIGKILL.
        drop(UnixListener::bind(&path).unwrap());
        let killed = ask(&path, reload).unwrap_err().to_string();
        assert!(
            killed.contains("refused") && killed.contains("start it with"),
            "{killed}"
        );
    }

    #[test]
    fn a_daemon_that_breaks_off_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).unwrap();
            line
        });
        assert!(
            ask(
                &path,
                Request::Reload {
                    allow_unguarded: false,
                },
            )
            .unwrap_err()
            .to_string()
            .contains("see its log")
        );
        assert_eq!(
            daemon.join().unwrap(),
            "{\"version\":1,\"request\":\"reload\"}\n"
        );
    }
}
