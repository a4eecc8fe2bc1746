//! Descriptions of traffic: every example loads and agrees with the schema, and what is wrong is
//! told with its place.

use std::fs;
use std::path::{Path, PathBuf};

use perf::traffic::{self, Direction, Kind, Shape};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/traffic")
}

fn examples() -> Vec<PathBuf> {
    let files = fs::read_dir(folder()).unwrap().flatten();
    let mut files: Vec<_> = files.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "yaml"));
    assert!(files.len() >= 4, "{files:?}");
    files
}

#[test]
fn every_example_loads_and_agrees_with_the_schema() {
    let schema: Value = serde_json::from_str(&traffic::json_schema_text()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for file in examples() {
        let traffic = traffic::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(!traffic.streams.is_empty());
        let value: Value = serde_yaml::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&value)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{}: {errors:?}", file.display());
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let readme = fs::read_to_string(folder().join("README.md")).unwrap();
        assert!(
            readme.contains(&format!("`{name}`")),
            "{name} is not in the README"
        );
    }
}

#[test]
fn the_schema_is_the_one_that_the_code_gives() {
    let committed = fs::read_to_string(folder().join("traffic.schema.json")).unwrap_or_default();
    assert!(
        committed == traffic::json_schema_text(),
        "run: cargo run -p tidegate-perf -- schema traffic > conf/traffic/traffic.schema.json"
    );
}

#[test]
fn an_example_means_what_it_says() {
    let traffic = traffic::load(&folder().join("streams.yaml")).unwrap();
    let of = |name: &'static str| {
        let streams = traffic.streams.iter();
        streams.filter(move |stream| stream.name == name)
    };
    assert_eq!((of("web").count(), of("tagged").count()), (2, 1));
    let [there, back] = [0, 1].map(|place| of("web").nth(place).unwrap());
    assert_eq!((there.flows, back.direction), (4096, Direction::Outward));
    let (Kind::Ip(there), Kind::Ip(back)) = (&there.kind, &back.kind) else {
        panic!("web is over IP");
    };
    assert_eq!(there.source, back.destination);
    assert_eq!(there.destination_port, back.source_port);
    assert!(matches!(of("six").next().unwrap().kind, Kind::Ip(ref packet) if packet.is_ipv6));
    let burst = of("bursts").next().unwrap();
    assert_eq!(burst.frames_per_s(0.0), 6400.0);
    let replay = traffic::load(&folder().join("replay.yaml")).unwrap();
    let Shape::Recorded(times_ns) = &replay.streams[0].shape else {
        panic!("a capture has its own timing");
    };
    assert_eq!((times_ns.len(), times_ns[1]), (40, 1_500_000));
}

fn refusal(text: &str) -> String {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    fs::write(file.path(), text).unwrap();
    let errors = traffic::load(file.path()).expect_err(text).to_string();
    let name = file.path().display().to_string();
    errors.replace(&name, "t.yaml")
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_a_remedy() {
    for (text, said) in [
        ("", "t.yaml:1:1: the file is empty; begin with"),
        (
            "streams: {}",
            "t.yaml:1:10: there is no stream; describe one",
        ),
        (
            "streams:\n  a:\n    packet: { kind: udb }\n",
            "t.yaml:3:21: `udb` is not a value of `kind`; did you mean `udp`?",
        ),
        (
            "streams:\n  a: { packet: { kind: udp }, rates: 1 pps }\n",
            "t.yaml:2:31: unknown key `rates`; did you mean `rate`?",
        ),
        (
            "streams:\n  a: { packet: { kind: udp }, rate: fast }\n",
            "t.yaml:2:37: `fast` is no rate; write one such as",
        ),
        (
            "streams:\n  a: { packet: { kind: udp, ipv6: true } }\n",
            "t.yaml:2:6: 64 octets have no room for the headers and the signature; write at least 84",
        ),
        (
            "streams:\n  a: { packet: { kind: udp, source: 10.0.0.1, destination: \"::1\" } }\n",
            "t.yaml:2:16: source and destination are of two families",
        ),
        (
            "streams:\n  a: { packet: { kind: udp, source: 10.0.0.9-10.0.0.1 } }\n",
            "ends before it begins; write an address",
        ),
        (
            "streams:\n  a: { packet: { kind: udp }, size: 12 }\n",
            "t.yaml:2:37: a frame has 64 to 9018 octets",
        ),
        (
            "streams:\n  a: { rate: 1 pps }\n",
            "either a `packet` or a `replay`",
        ),
        (
            "streams:\n  a: { direction: tx-to-rx, replay: { file: nosuch.pcap } }\n",
            "nosuch.pcap: No such file",
        ),
        (
            "streams:\n  a: { packet: { kind: udp }, flows: 2000000 }\n",
            "t.yaml:2:38: 2000000 flows are not possible; write a number from 1 to 1048576",
        ),
    ] {
        let errors = refusal(text);
        assert!(errors.contains(said), "{text}\n{errors}\n{said}");
    }
}

#[test]
fn j2_packets_without_times_need_a_rate() {
    let folder = tempfile::tempdir().unwrap();
    // A section, an Ethernet interface, and a simple packet of 60 bytes.
    let block = |kind: u32, body: &[u8]| {
        let length = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes(), &length, body, &length].concat()
    };
    let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[255; 8]].concat();
    let packet = [&60_u32.to_le_bytes()[..], &[7; 60]].concat();
    let interface = [1, 0, 0, 0, 0, 0, 0, 0];
    let file = [
        block(0x0a0d_0d0a, &section),
        block(1, &interface),
        block(3, &packet),
    ]
    .concat();
    fs::write(folder.path().join("simple.pcapng"), file).unwrap();
    let load = |rate: &str| {
        let text = format!(
            "streams:\n  a: {{ direction: tx-to-rx, {rate}replay: {{ file: simple.pcapng }} }}\n"
        );
        let path = folder.path().join("t.yaml");
        fs::write(&path, text).unwrap();
        traffic::load(&path)
    };
    let errors = load("").unwrap_err().to_string();
    assert!(
        errors.contains("1 of its packets have no time; give the stream a `rate`"),
        "{errors}"
    );
    assert!(load("rate: 1 kpps, ").is_ok());
}
