//! The schema of `report.json`.

use schemars::generate::SchemaSettings;

use super::Report;

/// The schema as it is published in `perf/report.schema.json`.
///
/// # Panics
/// Never: a schema is a JSON value without keys that are no strings.
#[must_use]
pub fn json_schema_text() -> String {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let schema = settings.into_generator().into_root_schema_for::<Report>();
    serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::report::{Cost, Measured, Series, TIDEGATE};

    #[test]
    fn the_published_schema_is_the_one_that_the_code_gives() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/report.schema.json");
        assert!(
            std::fs::read_to_string(path).unwrap() == json_schema_text(),
            "run: cargo run -p tidegate-perf -- schema > perf/report.schema.json"
        );
    }

    #[test]
    fn a_report_agrees_with_the_schema_and_a_wrong_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::new(0, false);
        report.add(Measured::new("loop", "ns_per_packet", &[20.0, 21.0], 10.0, 1.15).note("a"));
        report.add(Measured::alone("ndr", "frames_per_s", &[f64::NAN]).of("testpmd-mac"));
        report.add(Measured::alone("ndr", "frames_per_s", &[1e6]).of_frames(60.0));
        report.plot(Series::new(
            "ndr",
            TIDEGATE,
            "x",
            "y",
            vec![[1.0, f64::INFINITY], [1.0, 2.0]],
        ));
        report.cost(Cost::new("loop", [("parse", 3.0)]));
        report.devices(["net_null0"], false);
        report.parameter("seed", 1);
        report.partial("interrupted");
        report.write_all(folder.path()).unwrap();
        let schema: Value = serde_json::from_str(&json_schema_text()).unwrap();
        assert!(jsonschema::meta::is_valid(&schema));
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let text = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
        let mut written: Value = serde_json::from_str(&text).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&written)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(written["results"].as_array().unwrap().len(), 2);
        assert_eq!(written["notes"][0], "ndr: no frames_per_s was measured.");
        written["results"][0]["value"] = "20".into();
        assert!(!validator.is_valid(&written));
    }
}
