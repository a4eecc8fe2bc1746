//! Key files that are read, and those that are refused. CASES 28.

use std::os::unix::fs::{PermissionsExt, chown, symlink};

use super::*;

const SECRET: &str = "00112233445566778899aabbccddeeff";

fn epoch(id: u32, not_before_s: u64) -> KeyEpoch {
    KeyEpoch {
        id,
        not_before_s,
        secret: [id as u8; 16],
    }
}

/// A folder with a key file of this text and mode.
fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cookie.key");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    (folder, path)
}

#[test]
fn what_is_stored_is_loaded() {
    let (_folder, path) = file("", 0o644);
    let epochs = vec![
        epoch(1, 0),
        epoch(7, 1_763_673_000),
        epoch(8, 1_763_673_000),
    ];
    store(&path, &epochs, true).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(load(&path).unwrap(), epochs);
    let refused = store(&path, &epochs, false).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn the_newest_key_whose_time_has_come_signs() {
    let epochs = [epoch(1, 100), epoch(2, 200), epoch(3, 300)];
    let signs = |now_s| signing_at(&epochs, now_s).unwrap().id;
    assert_eq!(
        [signs(0), signs(100), signs(199), signs(200), signs(999)],
        [1, 1, 1, 2, 3]
    );
    assert_eq!(signing_at::<16>(&[], 0), None);
}

#[test]
fn a_file_that_only_its_owner_may_read_is_taken() {
    let text = format!("version 1\nepoch 1 not_before 0 secret {SECRET}\n");
    for mode in [0o600, 0o400] {
        let (_folder, path) = file(&text, mode);
        assert_eq!(load(&path).unwrap().len(), 1, "{mode:o}");
    }
}

#[test]
fn modes_that_let_others_in_are_refused() {
    let text = format!("version 1\nepoch 1 not_before 0 secret {SECRET}\n");
    for mode in [0o644, 0o640, 0o620, 0o601, 0o700] {
        let (_folder, path) = file(&text, mode);
        let wrong = load(&path).unwrap_err();
        let said = format!("has the mode {mode:04o}, so others may read it");
        assert!(wrong.to_string().ends_with(&said), "{wrong}");
        assert_eq!(
            wrong.remedy(),
            format!("run `chmod 600 {}`", path.display())
        );
    }
}

#[test]
fn a_file_of_another_user_is_refused() {
    let text = format!("version 1\nepoch 1 not_before 0 secret {SECRET}\n");
    let (_folder, path) = file(&text, 0o600);
    // Only root can give a file away; to any other user the file is closed by its mode.
    if effective_user() == 0 {
        chown(&path, Some(65_534), None).unwrap();
        let wrong = load(&path).unwrap_err();
        assert!(
            matches!(
                wrong,
                KeyFileError::Owner {
                    owner: 65_534,
                    expected: 0,
                    ..
                }
            ),
            "{wrong}"
        );
        assert!(wrong.remedy().starts_with("run `chown 0 "));
    } else {
        assert_eq!(load(&path).unwrap().len(), 1);
    }
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_on() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.key");
    let wrong = load(&missing).unwrap_err();
    assert!(matches!(wrong, KeyFileError::Missing { .. }), "{wrong}");
    assert!(wrong.remedy().contains("tidegate keygen"));

    let wrong = load(folder.path()).unwrap_err();
    assert!(matches!(wrong, KeyFileError::NotAFile { .. }), "{wrong}");

    let (inner, path) = file("", 0o600);
    let below_a_file = path.join("cookie.key");
    let wrong = load(&below_a_file).unwrap_err();
    assert!(matches!(wrong, KeyFileError::Io { .. }), "{wrong}");

    let circle = inner.path().join("circle");
    symlink(&circle, &circle).unwrap();
    assert!(matches!(
        load(&circle).unwrap_err(),
        KeyFileError::Io { .. }
    ));
}

#[test]
fn wrong_content_is_placed_and_never_quoted() {
    let good = format!("epoch 1 not_before 0 secret {SECRET}");
    for (text, place, what) in [
        (String::new(), "1:1", "there is no key in the file"),
        ("version 1\n".into(), "1:1", "there is no key in the file"),
        (good.clone(), "1:1", "the first line must be `version 1`"),
        (
            format!("version 2\n{good}"),
            "1:9",
            "this version of key files is not known",
        ),
        (
            format!("version 1 x\n{good}"),
            "1:11",
            "nothing more is expected",
        ),
        (
            format!("# a\n\nversion 1\n{good} x"),
            "4:62",
            "nothing more is expected",
        ),
        (
            format!("version 1\n{good}ff"),
            "2:29",
            "32 hexadecimal digits",
        ),
        (
            "version 1\nepoch 1 not_before 0 secret 0x".into(),
            "2:29",
            "32 hexadecimal digits",
        ),
        (
            format!("version 1\nepoch 1 not_before 0 secret +{}", &SECRET[1..]),
            "2:29",
            "32 hex",
        ),
        (
            format!("version 1\nepoch 1 not_before -3 secret {SECRET}"),
            "2:20",
            "seconds since",
        ),
        (
            format!("version 1\nepoch one not_before 0 secret {SECRET}"),
            "2:7",
            "epoch's number",
        ),
        (
            format!("version 1\n{good}\n{good}"),
            "3:1",
            "epochs must ascend",
        ),
    ] {
        let (_folder, path) = file(&text, 0o600);
        let said = load(&path).unwrap_err().to_string();
        let expected = format!("{}:{place}: ", path.display());
        assert!(said.starts_with(&expected) && said.contains(what), "{said}");
        assert!(!said.contains("00112233"), "{said}");
    }
    let lines: String = (1..=17)
        .map(|id| format!("epoch {id} not_before 0 secret {SECRET}\n"))
        .collect();
    let (_folder, path) = file(&format!("version 1\n{lines}"), 0o600);
    assert!(
        load(&path)
            .unwrap_err()
            .to_string()
            .contains(":18:1: there are more than 16 epochs")
    );

    let (_folder, path) = file(&"#".repeat(65 * 1024), 0o600);
    assert!(load(&path).unwrap_err().to_string().contains("too large"));
}

#[test]
fn a_secret_is_not_shown() {
    let shown = format!("{:?} {:#?}", epoch(5, 9), vec![epoch(5, 9)]);
    assert!(
        shown.contains("id: 5") && !shown.contains("secret") && !shown.contains("5, 5"),
        "{shown}"
    );
}

#[test]
fn keys_of_the_other_kind_are_refused() {
    let (_folder, path) = file("", 0o600);
    let of_replication = vec![ReplicationEpoch {
        id: 3,
        not_before_s: 9,
        secret: [7; REPLICATION_SECRET_BYTES],
    }];
    store(&path, &of_replication, true).unwrap();
    assert_eq!(load_replication(&path).unwrap(), of_replication);
    let wrong = load(&path).unwrap_err();
    assert!(wrong.to_string().ends_with("32 hexadecimal digits"));
    assert!(wrong.remedy().contains("`tidegate keygen --force "));
    store(&path, &[epoch(1, 0)], true).unwrap();
    let wrong = load_replication(&path).unwrap_err();
    assert!(wrong.to_string().contains("64 hexadecimal digits"));
    assert!(wrong.remedy().contains("`tidegate keygen --replication "));
}
