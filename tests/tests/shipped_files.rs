//! Files that the packages bring along are what the programs accept.

use std::path::Path;

use mainstay_core::policy::Policy;

#[test]
fn every_shipped_policy_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/agent/usr/share/mainstay/policies");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let (name, text) = (path.file_name().unwrap().to_string_lossy(), std::fs::read_to_string(&path).unwrap());
        if let Err(problems) = Policy::parse(&[(&name, &text)]) {
            panic!("{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>());
        }
        seen += 1;
    }
    assert!(seen >= 3, "only {seen} policies are shipped");
}

#[test]
fn the_demos_policy_is_valid_in_both_modes() {
    for mode in ["observe", "auto"] {
        let text = include_str!("../src/demo/web.toml").replace("MODE", mode);
        if let Err(problems) = Policy::parse(&[("web.toml", &text)]) {
            panic!("{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>());
        }
    }
}
