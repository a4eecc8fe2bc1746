//! The control socket's place in the file system: made for its owner alone, and taken over from a
//! daemon that is no more.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::failure::Failure;

/// Connections that may wait to be taken; the kernel takes no more of them than its own limit.
const BACKLOG: i32 = 1024;

/// Device, inode and the time of its last change: an inode's number alone is soon used again.
type Identity = (u64, u64, i64, i64);

fn identity(metadata: &Metadata) -> Identity {
    (
        metadata.dev(),
        metadata.ino(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

/// A socket that listens. Dropped, its file is removed, if it is still the same one.
pub(super) struct ControlSocket {
    path: PathBuf,
    identity: Identity,
}

impl ControlSocket {
    /// Binds the socket.
    ///
    /// # Errors
    /// When another daemon answers there, or the file cannot be made.
    pub(super) fn bind(path: &Path) -> Result<(Self, UnixListener), Failure> {
        let cannot = |error: std::io::Error| {
            Failure::new(
                format!(
                    "the control socket {} cannot be made: {error}",
                    path.display()
                ),
                "choose another `runtime.control_socket`, or see that this user may write there",
            )
        };
        if let Some(folder) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)
                .map_err(cannot)?;
        }
        clear(path)?;
        let listener = listen(path).map_err(cannot)?;
        let metadata = fs::symlink_metadata(path).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let socket = Self {
            path: path.to_owned(),
            identity: identity(&metadata),
        };
        Ok((socket, listener))
    }
}

/// Binds a socket whose file is its owner's alone from its first moment: the kernel gives it the mode
/// that the descriptor has by then.
fn listen(path: &Path) -> std::io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let descriptor = File::from(OwnedFd::from(socket.try_clone()?));
    descriptor.set_permissions(Permissions::from_mode(0o600))?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

/// Removes the socket of a daemon that was killed.
fn clear(path: &Path) -> Result<(), Failure> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(Failure::new(
            format!("{} exists and is no socket", path.display()),
            "remove it, or choose another `runtime.control_socket`",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|error| {
                Failure::new(
                    format!(
                        "the stale socket {} cannot be removed: {error}",
                        path.display()
                    ),
                    "remove it",
                )
            }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // One that listens, or whose queue is full: alive.
        _ => Err(Failure::new(
            format!(
                "a running daemon answers on the control socket {}",
                path.display()
            ),
            "stop it, or give this appliance another `runtime.control_socket`",
        )),
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| identity(&metadata) == self.identity);
        if is_ours {
            // What cannot be removed is taken over by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // CASES 29: what a killed daemon left does not stop the next one.
    #[test]
    fn a_stale_socket_is_taken_over_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/a.sock");
        let (socket, listener) = ControlSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let refused = ControlSocket::bind(&path).err().unwrap().to_string();
        assert!(
            refused.starts_with("a running daemon answers on"),
            "{refused}"
        );
        assert!(path.exists());

        // As after SIGKILL: nobody listens, and the file is there.
        drop(listener);
        std::mem::forget(socket);
        assert!(path.exists());
        let (socket, _listener) = ControlSocket::bind(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        let refused = ControlSocket::bind(&path).err().unwrap().to_string();
        assert!(refused.contains("is no socket; remove it"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }

    #[test]
    fn a_socket_that_another_daemon_has_made_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let (first, listener) = ControlSocket::bind(&path).unwrap();
        drop(listener);
        let (second, _listener) = ControlSocket::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    // F7: whoever watches the folder never sees the socket with another mode.
    #[test]
    fn f7_the_socket_is_its_owners_from_the_first_moment() {
        use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

        let folder = tempfile::tempdir().unwrap();
        let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ATTRIB;
        watch.add_watch(folder.path(), flags).unwrap();
        let path = folder.path().join("a.sock");
        let _held = ControlSocket::bind(&path).unwrap();
        let events = watch.read_events().unwrap();
        let seen: Vec<_> = events.iter().map(|event| event.mask).collect();
        assert_eq!(seen, [AddWatchFlags::IN_CREATE], "its mode was changed");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
