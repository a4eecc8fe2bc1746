//! The files of the cookie keys and of the replication keys.
//!
//! Each is a text file: a line `version 1`, then a line `epoch ID not_before SECONDS secret HEX` for each
//! epoch, ascending. The newest epoch whose `not_before` has passed signs; the one before it is
//! accepted for a bounded time. Empty lines and those that begin with `#` say nothing. Two guards
//! with the same file of cookie keys accept each other's cookies; those with the same file of
//! replication keys, whose secrets are twice as long, share their sessions.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bindings::system::effective_user;
use zeroize::{Zeroize, Zeroizing};

/// Epochs in one file.
pub const MAXIMUM_EPOCHS: usize = 16;
const MAXIMUM_FILE_BYTES: u64 = 64 * 1024;
const VERSION: &str = "1";
/// Not in the way of a daemon that runs as another user than root, and of no one else.
const FORBIDDEN_MODE: u32 = 0o177;

/// Octets of a cookie key.
pub const COOKIE_SECRET_BYTES: usize = 16;
/// Octets of a replication key.
pub const REPLICATION_SECRET_BYTES: usize = 32;

/// A cookie key and when it begins to sign.
pub type KeyEpoch = Epoch<COOKIE_SECRET_BYTES>;
/// A replication key and when it begins to seal.
pub type ReplicationEpoch = Epoch<REPLICATION_SECRET_BYTES>;

/// A key and when it begins to be used. Its secret is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Epoch<const BYTES: usize> {
    /// The epoch's number; each is greater than the one before.
    pub id: u32,
    /// When it begins to sign, in seconds since 1970-01-01 00:00 UTC.
    pub not_before_s: u64,
    /// The key.
    pub secret: [u8; BYTES],
}

impl<const BYTES: usize> fmt::Debug for Epoch<BYTES> {
    /// All but the secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Epoch")
            .field("id", &self.id)
            .field("not_before_s", &self.not_before_s)
            .finish_non_exhaustive()
    }
}

impl<const BYTES: usize> Drop for Epoch<BYTES> {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// What a file's keys are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Cookies.
    Cookie,
    /// What guards tell each other.
    Replication,
}

impl KeyKind {
    /// The kind whose secrets have so many octets.
    const fn of(bytes: usize) -> Self {
        match bytes {
            REPLICATION_SECRET_BYTES => Self::Replication,
            _ => Self::Cookie,
        }
    }

    /// The command that makes such a file.
    fn keygen(self) -> &'static str {
        match self {
            Self::Cookie => "tidegate keygen",
            Self::Replication => "tidegate keygen --replication",
        }
    }

    /// What is said of a secret of another length.
    const fn wrong_secret(self) -> &'static str {
        match self {
            Self::Cookie => "the secret must be 32 hexadecimal digits",
            Self::Replication => {
                "the secret must be 64 hexadecimal digits, as `tidegate keygen --replication` makes it"
            }
        }
    }

    /// What stands at the top of a file.
    fn heading(self) -> &'static str {
        match self {
            Self::Cookie => {
                "# Cookie keys of Tidegate: keep them secret, and give them to every guard\n\
                 # that must accept the others' cookies.\n"
            }
            Self::Replication => {
                "# Replication keys of Tidegate: keep them secret, and give them to every guard\n\
                 # that shares its sessions, and to nobody else.\n"
            }
        }
    }
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is no such file.
    #[error("the key file {} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What its keys are for.
        kind: KeyKind,
    },
    /// It cannot be read, or written.
    #[error("the key file {} cannot be used: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// It is a folder, a pipe or the like.
    #[error("the key file {} is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// What its keys are for.
        kind: KeyKind,
    },
    /// Others than its owner can read or change it.
    #[error("the key file {} has the mode {mode:04o}, so others may read it", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to someone else.
    #[error("the key file {} belongs to user {owner}, not to user {expected} or root", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user of this process.
        expected: u32,
    },
    /// What stands in it is wrong. What is said never quotes the file.
    #[error("{}:{line}:{column}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong.
        what: &'static str,
        /// What its keys are for.
        kind: KeyKind,
    },
}

impl KeyFileError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Missing { path, kind } => format!(
                "make it with `{} {}`; `run` refuses without it",
                kind.keygen(),
                path.display()
            ),
            Self::Io { .. } => "see that this user may read it".into(),
            Self::NotAFile { path, kind } => {
                format!(
                    "name another file, or make one with `{} {}`",
                    kind.keygen(),
                    path.display()
                )
            }
            Self::Permissions { path, .. } => format!("run `chmod 600 {}`", path.display()),
            Self::Owner { path, expected, .. } => {
                format!("run `chown {expected} {}`", path.display())
            }
            Self::Content { path, kind, .. } => format!(
                "restore the file, or make new keys with `{} --force {}`",
                kind.keygen(),
                path.display()
            ),
        }
    }
}

/// Reads a file of cookie keys: its epochs, ascending, at least one.
///
/// # Errors
/// When the file is missing, can be read by others than its owner, belongs to neither this user
/// nor root, or is not what a key file should be.
pub fn load(path: &Path) -> Result<Vec<KeyEpoch>, KeyFileError> {
    load_epochs(path)
}

/// Reads a file of replication keys: its epochs, ascending, at least one.
///
/// # Errors
/// As [`load`].
pub fn load_replication(path: &Path) -> Result<Vec<ReplicationEpoch>, KeyFileError> {
    load_epochs(path)
}

/// Reads a key file of either kind, by the length of its secrets.
///
/// # Errors
/// As [`load`].
pub fn load_epochs<const BYTES: usize>(path: &Path) -> Result<Vec<Epoch<BYTES>>, KeyFileError> {
    let kind = KeyKind::of(BYTES);
    let io_error = |source: io::Error| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            KeyFileError::Missing { path, kind }
        } else {
            KeyFileError::Io { path, source }
        }
    };
    // A pipe in the file's place must not be waited on.
    if !fs::metadata(path).map_err(io_error)?.is_file() {
        return Err(KeyFileError::NotAFile {
            path: path.to_owned(),
            kind,
        });
    }
    let file = File::open(path).map_err(io_error)?;
    let metadata = file.metadata().map_err(io_error)?;
    if metadata.mode() & FORBIDDEN_MODE != 0 {
        let mode = metadata.mode() & 0o7777;
        return Err(KeyFileError::Permissions {
            path: path.to_owned(),
            mode,
        });
    }
    let expected = effective_user();
    if ![0, expected].contains(&metadata.uid()) {
        let owner = metadata.uid();
        return Err(KeyFileError::Owner {
            path: path.to_owned(),
            owner,
            expected,
        });
    }
    // Room for the whole at once: a buffer that grows would leave copies of the secrets.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAXIMUM_FILE_BYTES as usize + 1));
    file.take(MAXIMUM_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io_error)?;
    parse(&bytes).map_err(|(line, column, what)| KeyFileError::Content {
        path: path.to_owned(),
        line,
        column,
        what,
        kind,
    })
}

type Wrong = (usize, usize, &'static str);

fn parse<const BYTES: usize>(bytes: &[u8]) -> Result<Vec<Epoch<BYTES>>, Wrong> {
    if bytes.len() as u64 > MAXIMUM_FILE_BYTES {
        return Err((1, 1, "the file is too large for a key file"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| (1, 1, "the file is not text"))?;
    let mut has_version = false;
    let mut epochs: Vec<Epoch<BYTES>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = Words {
            line,
            rest: line,
            number: index + 1,
        };
        if !has_version {
            words.expect("version", "the first line must be `version 1`")?;
            words.expect(
                VERSION,
                "this version of key files is not known: update tidegate",
            )?;
            has_version = true;
        } else {
            let epoch = words.epoch()?;
            if epochs
                .last()
                .is_some_and(|last| last.id >= epoch.id || last.not_before_s > epoch.not_before_s)
            {
                return Err((index + 1, 1, "epochs must ascend in number and in time"));
            }
            if epochs.len() == MAXIMUM_EPOCHS {
                return Err((index + 1, 1, "there are more than 16 epochs"));
            }
            epochs.push(epoch);
        }
        words.end()?;
    }
    if epochs.is_empty() {
        return Err((1, 1, "there is no key in the file"));
    }
    Ok(epochs)
}

/// The words of a line; they are never quoted in an error, for one may be a secret.
struct Words<'a> {
    line: &'a str,
    rest: &'a str,
    number: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> (usize, &'a str) {
        let rest = self.rest.trim_start();
        let column = self.line.len() - rest.len() + 1;
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.rest = rest;
        (column, word)
    }

    fn expect(&mut self, wanted: &str, what: &'static str) -> Result<(), Wrong> {
        let (column, word) = self.next();
        if word == wanted {
            Ok(())
        } else {
            Err((self.number, column, what))
        }
    }

    fn number<N: std::str::FromStr>(&mut self, what: &'static str) -> Result<N, Wrong> {
        let (column, word) = self.next();
        word.parse().map_err(|_| (self.number, column, what))
    }

    fn epoch<const BYTES: usize>(&mut self) -> Result<Epoch<BYTES>, Wrong> {
        self.expect("epoch", "`epoch` is expected here")?;
        let id = self.number("the epoch's number is expected here")?;
        self.expect("not_before", "`not_before` is expected here")?;
        let not_before_s = self.number("seconds since 1970 are expected here")?;
        self.expect("secret", "`secret` is expected here")?;
        let (column, word) = self.next();
        let wrong = (self.number, column, KeyKind::of(BYTES).wrong_secret());
        let mut epoch = Epoch {
            id,
            not_before_s,
            secret: [0; BYTES],
        };
        if word.len() != 2 * epoch.secret.len() || !word.is_ascii() {
            return Err(wrong);
        }
        for (index, byte) in epoch.secret.iter_mut().enumerate() {
            let digits = &word[2 * index..2 * index + 2];
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(wrong);
            }
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong)?;
        }
        Ok(epoch)
    }

    fn end(&mut self) -> Result<(), Wrong> {
        let (column, word) = self.next();
        if word.is_empty() {
            Ok(())
        } else {
            Err((self.number, column, "nothing more is expected on this line"))
        }
    }
}

/// The epoch that signs at a time: the newest whose `not_before_s` has passed, else the first.
#[must_use]
pub fn signing_at<const BYTES: usize>(
    epochs: &[Epoch<BYTES>],
    now_s: u64,
) -> Option<&Epoch<BYTES>> {
    epochs
        .iter()
        .rfind(|epoch| epoch.not_before_s <= now_s)
        .or(epochs.first())
}

fn text_of<const BYTES: usize>(epochs: &[Epoch<BYTES>]) -> Zeroizing<String> {
    use fmt::Write as _;
    // Room for all of it at once, as when it is read.
    let mut text = Zeroizing::new(String::with_capacity(512 + (96 + 2 * BYTES) * epochs.len()));
    text.push_str(KeyKind::of(BYTES).heading());
    text.push_str("version 1\n");
    for epoch in epochs {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "epoch {} not_before {} secret ",
            epoch.id, epoch.not_before_s
        );
        for byte in epoch.secret {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    text
}

/// Writes a key file with mode 0600: whole or not at all.
///
/// # Errors
/// When the file exists and `replace` is false, or the system refuses.
pub fn store<const BYTES: usize>(
    path: &Path,
    epochs: &[Epoch<BYTES>],
    replace: bool,
) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other("the path names no file"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", std::process::id()));
    let temporary = folder.join(temporary);
    let written = write_new(&temporary, &text_of(epochs)).and_then(|()| {
        if replace {
            fs::rename(&temporary, path)
        } else {
            fs::hard_link(&temporary, path)
        }
    });
    // After a rename it is gone already.
    let _ = fs::remove_file(&temporary);
    written?;
    File::open(folder)?.sync_all()
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
