//! `tidegate keygen FILE`: makes, or rotates, the file of the cookie keys or of the replication
//! keys.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};

use super::{Outcome, Streams};
use crate::profile::keys::{
    self, COOKIE_SECRET_BYTES, Epoch, KeyFileError, MAXIMUM_EPOCHS, REPLICATION_SECRET_BYTES,
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The file, which is made with mode 0600
    file: PathBuf,
    /// Make keys for what guards tell each other, in place of cookie keys
    #[arg(long)]
    replication: bool,
    /// Replace the file's keys: cookies made with the old ones are refused from then on
    #[arg(long, conflicts_with = "rotate")]
    force: bool,
    /// Add a new key to the file and keep the one that signs now, so that its cookies stay valid
    /// for a while; then `tidegate reload`
    #[arg(long)]
    rotate: bool,
    /// With --rotate: the new key signs only after so many seconds, time to copy the file to the
    /// other guards
    #[arg(long, value_name = "SECONDS", default_value_t = 0, requires = "rotate")]
    delay: u32,
}

pub(super) fn run(arguments: &Arguments, streams: &mut Streams<'_>) -> Outcome {
    let written = if arguments.replication {
        write_keys::<REPLICATION_SECRET_BYTES>(arguments)
    } else {
        write_keys::<COOKIE_SECRET_BYTES>(arguments)
    };
    match written {
        Ok(id) => {
            writeln!(streams.out, "{}: epoch {id}", arguments.file.display())?;
            Ok(0)
        }
        Err(error) => {
            writeln!(streams.err, "tidegate: {error}")?;
            Ok(1)
        }
    }
}

/// Writes the file and gives the number of its newest epoch.
fn write_keys<const BYTES: usize>(arguments: &Arguments) -> Result<u32, String> {
    let file = &arguments.file;
    let cannot = |error: io::Error| format!("cannot write {}: {error}", file.display());
    let now_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let mut epochs = if arguments.rotate {
        kept::<BYTES>(file, now_s)?
    } else {
        Vec::new()
    };
    let (id, earliest_s) = match epochs.last() {
        Some(last) => {
            let full = || format!("{} has no number left for an epoch", file.display());
            (last.id.checked_add(1).ok_or_else(full)?, last.not_before_s)
        }
        None => (1, 0),
    };
    let mut epoch = Epoch {
        id,
        not_before_s: earliest_s.max(now_s + u64::from(arguments.delay)),
        secret: [0; BYTES],
    };
    SystemRandom::new()
        .fill(&mut epoch.secret)
        .map_err(|_| "the system gives no random numbers".to_owned())?;
    epochs.push(epoch);
    make_folder(file).map_err(cannot)?;
    let replace = arguments.rotate || arguments.force;
    keys::store(file, &epochs, replace).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            format!(
                "{} exists; --rotate adds a key to it, --force replaces all of its keys",
                file.display()
            )
        } else {
            cannot(error)
        }
    })?;
    Ok(id)
}

/// What is kept of the file's epochs: the one that signs now, and those that will.
fn kept<const BYTES: usize>(file: &Path, now_s: u64) -> Result<Vec<Epoch<BYTES>>, String> {
    let wrong = |error: KeyFileError| format!("{error}; {}", error.remedy());
    let mut epochs = keys::load_epochs::<BYTES>(file).map_err(wrong)?;
    let signing = keys::signing_at(&epochs, now_s).map(|epoch| epoch.id);
    epochs.retain(|epoch| Some(epoch.id) >= signing);
    if epochs.len() >= MAXIMUM_EPOCHS {
        return Err(format!(
            "{} has {MAXIMUM_EPOCHS} keys that wait for their time",
            file.display()
        ));
    }
    Ok(epochs)
}

fn make_folder(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::cli::tests::shell;

    fn keygen(words: &[&str], file: &Path) -> (u8, String, String) {
        let words: Vec<&str> = ["keygen"].iter().chain(words).copied().collect();
        shell(&[&words[..], &[file.to_str().unwrap()]].concat())
    }

    #[test]
    fn a_new_file_is_private_and_is_not_replaced_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys/cookie.key");
        let (code, out, _) = keygen(&[], &file);
        assert_eq!((code, out), (0, format!("{}: epoch 1\n", file.display())));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(
            fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o777,
            0o700
        );
        let first = keys::load(&file).unwrap();

        let (code, _, err) = keygen(&[], &file);
        assert_eq!(code, 1);
        assert!(err.contains("exists; --rotate adds a key to it"), "{err}");
        assert_eq!(keys::load(&file).unwrap(), first);

        assert_eq!(keygen(&["--force"], &file).0, 0);
        let second = keys::load(&file).unwrap();
        assert_eq!(second.len(), 1);
        assert_ne!(second[0].secret, first[0].secret);
        // Nothing but the file is left in its folder.
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn rotation_keeps_the_key_that_signs() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cookie.key");
        assert_eq!(
            keygen(&["--rotate"], &file).0,
            1,
            "there is nothing to rotate yet"
        );
        keygen(&[], &file);
        let first = keys::load(&file).unwrap().remove(0);

        assert_eq!(keygen(&["--rotate", "--delay", "1000"], &file).0, 0);
        let epochs = keys::load(&file).unwrap();
        assert_eq!(epochs[0], first);
        assert_eq!((epochs.len(), epochs[1].id), (2, 2));
        assert!(epochs[1].not_before_s >= first.not_before_s + 1000);

        // The second does not sign yet, so the first is kept still.
        assert_eq!(keygen(&["--rotate", "--delay", "2000"], &file).0, 0);
        let ids: Vec<u32> = keys::load(&file)
            .unwrap()
            .iter()
            .map(|epoch| epoch.id)
            .collect();
        assert_eq!(ids, [1, 2, 3]);
    }

    #[test]
    fn replication_keys_are_of_their_own_kind() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("replication.key");
        assert_eq!(keygen(&["--replication"], &file).0, 0);
        let first = keys::load_replication(&file).unwrap().remove(0);
        assert_eq!(keygen(&["--replication", "--rotate"], &file).0, 0);
        let epochs = keys::load_replication(&file).unwrap();
        assert_eq!((epochs.len(), &epochs[0]), (2, &first));
        let (code, _, err) = keygen(&["--rotate"], &file);
        assert_eq!(code, 1, "it holds keys of another kind");
        assert!(err.contains("32 hexadecimal digits"), "{err}");
        assert_eq!(keys::load_replication(&file).unwrap(), epochs);
    }

    #[test]
    fn what_cannot_be_written_is_said_in_one_line() {
        let (code, _, err) = keygen(&[], Path::new("/proc/nowhere/cookie.key"));
        assert_eq!(code, 1);
        assert!(
            err.starts_with("tidegate: cannot write /proc/nowhere/cookie.key: "),
            "{err}"
        );
        assert_eq!(err.lines().count(), 1);
    }
}
