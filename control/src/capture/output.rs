//! Where a capture is written: a file of the owner's alone, never one behind a link.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that packets will be written to. Nothing in it is touched before [`Output::begin`].
#[derive(Debug)]
pub enum Output {
    /// A pipe or a device, which has nothing to lose.
    Special(File),
    /// A file to be made anew, in the place of one that may be there.
    Fresh(PathBuf),
}

fn refused(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, why)
}

impl Output {
    /// Looks at what is there.
    ///
    /// # Errors
    /// When it is a link, a folder or a socket, or a pipe that cannot be opened.
    pub fn at(path: &Path) -> io::Result<Self> {
        let there = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self::Fresh(path.to_owned()));
            }
            there => there?,
        };
        let kind = there.file_type();
        if kind.is_symlink() {
            return Err(refused(
                "it is a link, and a link may lead to any file of the machine",
            ));
        }
        if kind.is_dir() {
            return Err(io::Error::from(ErrorKind::IsADirectory));
        }
        if kind.is_file() {
            return Ok(Self::Fresh(path.to_owned()));
        }
        if !kind.is_fifo() && !kind.is_char_device() {
            return Err(refused("it is neither a file nor a pipe"));
        }
        let file = OpenOptions::new().write(true).open(path)?;
        let opened = file.metadata()?;
        if (opened.dev(), opened.ino()) != (there.dev(), there.ino()) {
            return Err(refused("it has just become another file"));
        }
        Ok(Self::Special(file))
    }

    /// Makes the file, for its owner alone. What was there under its name goes, as a whole and
    /// unwritten: whoever still reads it reads on, and its other names keep it.
    ///
    /// # Errors
    /// When it cannot be made; then what was there is still there.
    pub fn begin(self) -> io::Result<File> {
        let path = match self {
            Self::Special(file) => return Ok(file),
            Self::Fresh(path) => path,
        };
        let name = path
            .file_name()
            .ok_or_else(|| refused("it is not the name of a file"))?;
        let mut beside = name.to_owned();
        beside.push(format!(".{}.part", std::process::id()));
        let beside = path.with_file_name(beside);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        match fs::rename(&beside, &path) {
            Ok(()) => Ok(file),
            Err(error) => {
                let _ = fs::remove_file(&beside);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    // I2
    #[test]
    fn i2_nothing_is_touched_before_the_capture_begins_and_nothing_behind_a_link_ever() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let precious = at("precious");
        fs::write(&precious, "precious").unwrap();
        fs::hard_link(&precious, at("other")).unwrap();
        symlink(&precious, at("link")).unwrap();
        symlink(at("nowhere"), at("loose")).unwrap();

        for name in ["link", "loose"] {
            let error = Output::at(&at(name)).unwrap_err();
            assert!(
                error.to_string().contains("it is a link"),
                "{name}: {error}"
            );
        }
        assert!(!at("nowhere").exists());
        assert!(Output::at(folder.path()).is_err());

        let output = Output::at(&precious).unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        drop(output);
        assert_eq!(fs::read(&precious).unwrap(), b"precious");

        let mut file = Output::at(&precious).unwrap().begin().unwrap();
        file.write_all(b"packets").unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"packets");
        assert_eq!(
            fs::read(at("other")).unwrap(),
            b"precious",
            "another name of it"
        );
        let mode = fs::metadata(&precious).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        // One that has become a link meanwhile is replaced, and what it leads to stays.
        let output = Output::at(&at("new")).unwrap();
        symlink(at("other"), at("new")).unwrap();
        output.begin().unwrap().write_all(b"packets").unwrap();
        assert_eq!(fs::read(at("other")).unwrap(), b"precious");
        assert!(fs::symlink_metadata(at("new")).unwrap().is_file());

        assert!(Output::at(&at("no/such/folder")).unwrap().begin().is_err());
        let names = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let left = names.filter(|name| name.to_string_lossy().ends_with(".part"));
        assert_eq!(left.count(), 0);
    }
}
