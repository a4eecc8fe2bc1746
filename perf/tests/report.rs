//! What a run leaves: the report, its table and its page.

use std::fs;
use std::process::Command;

use serde_json::Value;

const TOOL: &str = env!("CARGO_BIN_EXE_tidegate-perf");

#[test]
fn a_run_leaves_a_report_that_agrees_with_the_published_schema() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let run = || {
        let mut tool = Command::new(TOOL);
        tool.args([
            "bench",
            "floor.read",
            "--rounds",
            "1",
            "--frames",
            "4096",
            "--output",
        ]);
        let output = tool.arg(&path).output().unwrap();
        let progress = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{progress}");
        assert!(progress.starts_with("bench\n"), "{progress}");
    };
    run();
    let report: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/report.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(schema).unwrap()).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&report)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(report["results"][0]["scenario"], "floor.read");
    assert_eq!(report["is_partial"], false);
    assert_eq!(report["command"][0], "tidegate-perf");

    let table = fs::read_to_string(folder.path().join("report.csv")).unwrap();
    assert_eq!(table.lines().count(), 2, "{table}");
    let page = || fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page().starts_with("<!DOCTYPE html>"));
    assert!(!page().contains("Earlier runs of this machine"));
    // Runs are told apart by the second in which they began.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    run();
    assert!(page().contains("Earlier runs of this machine"));
}

#[test]
fn the_schema_is_printed_as_it_is_published() {
    let output = Command::new(TOOL).arg("schema").output().unwrap();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/report.schema.json");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        fs::read_to_string(schema).unwrap()
    );
}
