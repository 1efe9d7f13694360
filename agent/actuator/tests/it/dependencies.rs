//! The program that runs as root stays small enough to audit: no network, no async runtime, no store.

use std::process::Command;

/// Crates that must never be linked. A network stack or a large runtime has no place in a root helper.
const FORBIDDEN: [&str; 14] = [
    "tokio",
    "tonic",
    "hyper",
    "h2",
    "rustls",
    "reqwest",
    "prost",
    "rocksdb",
    "ring",
    "openssl",
    "mio",
    "async-std",
    "clap",
    "regex",
];

/// More than this is a reason to look at what came in.
const CRATES_MAX: usize = 130;

#[test]
fn the_dependency_list_holds_no_network_and_no_runtime() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            "mainstay-actuator",
            "-e",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut crates: Vec<&str> =
        text.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).collect();
    crates.sort_unstable();
    crates.dedup();
    assert!(crates.contains(&"zbus"), "the list is not what it should be: {crates:?}");
    let found: Vec<&&str> = crates.iter().filter(|name| FORBIDDEN.contains(name)).collect();
    assert!(found.is_empty(), "linked into the actuator: {found:?}");
    assert!(crates.len() <= CRATES_MAX, "{} crates (at most {CRATES_MAX})", crates.len());
}
