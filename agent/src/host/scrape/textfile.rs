//! Collector `textfile`: series that other programs leave in files.
//!
//! Scripts written for node_exporter put them where Debian's package looks for them, so that is
//! where we look too. Anybody who may write there may name any series, except those that are
//! here already: what we measure ourselves is never overwritten.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::parse::textfile::{self, TextFamily};

use super::Found;
use super::tree::Tree;

/// Where Debian's node_exporter looks.
const FOLDER: &str = "var/lib/prometheus/node-exporter";

/// Families with these names would be taken for the agent's own.
const RESERVED: [&str; 4] = ["mainstay_", "process_", "node_scrape_", "node_textfile_"];

/// What tells a series from others of its family: suffix and sorted labels.
type SeriesId = (&'static str, Vec<(String, String)>);

/// What the files have so far: by family its kind, and every series.
type Seen = BTreeMap<String, (FamilyKind, BTreeSet<SeriesId>)>;

pub(super) fn textfile(tree: &Tree, out: &mut Exposition) -> super::Collected {
    // No folder is no mistake: nobody has to leave anything there.
    let names = tree.names(FOLDER).unwrap_or_default();
    let mut seen = Seen::new();
    let mut whole = true;
    for name in names.iter().filter(|name| name.ends_with(".prom")) {
        let path = format!("{FOLDER}/{name}");
        let Ok(Some(families)) = tree.parsed(&path, textfile::parse) else {
            whole = false;
            continue;
        };
        for family in families.into_iter().filter(|family| !RESERVED.iter().any(|name| family.name.starts_with(name))) {
            whole &= add(family, &mut seen, out);
        }
        if let Some(modified) = tree.modified_seconds(&path) {
            out.family("node_textfile_mtime_seconds", FamilyKind::Gauge, "When a file was last written.")
                .add(&[("file", &format!("/{path}"))], modified);
        }
    }
    let help = "1 if a file could not be read or understood.";
    out.gauge("node_textfile_scrape_error", help, f64::from(u8::from(!whole)));
    Ok(Found::Data)
}

/// Adds a family, or its series to those of another file. `false` if some of it was left out: it is
/// of another kind there, or a series stands there already.
fn add(family: TextFamily, seen: &mut Seen, out: &mut Exposition) -> bool {
    let (kind, known) = seen.entry(family.name.clone()).or_insert_with(|| (family.kind, BTreeSet::new()));
    if *kind != family.kind {
        return false;
    }
    let mut series = out.family(&family.name, family.kind, &family.help);
    let mut whole = true;
    for mut one in family.series {
        one.labels.sort_unstable();
        if known.contains(&(one.suffix, one.labels.clone())) {
            whole = false;
            continue;
        }
        let labels: Vec<(&str, &str)> =
            one.labels.iter().map(|(label, text)| (label.as_str(), text.as_str())).collect();
        series.add_part(one.suffix, &labels, one.value);
        known.insert((one.suffix, one.labels));
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::fs;

    use mainstay_core::exposition::Format;

    use super::*;

    fn shown(files: &[(&str, &str)]) -> String {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(FOLDER)).unwrap();
        for (name, text) in files {
            fs::write(root.path().join(FOLDER).join(name), text).unwrap();
        }
        let mut out = Exposition::default();
        textfile(&Tree::at(root.path()).unwrap(), &mut out).unwrap();
        out.render(Format::Prometheus)
    }

    #[test]
    fn two_files_may_share_a_family_but_no_series() {
        let text =
            shown(&[("a.prom", "smart{disk=\"a\"} 1\n"), ("b.prom", "smart{disk=\"b\"} 2\n"), ("c.txt", "no 1\n")]);
        assert!(text.contains("# TYPE smart untyped\nsmart{disk=\"a\"} 1\nsmart{disk=\"b\"} 2\n"), "{text}");
        assert!(text.contains("\nnode_textfile_scrape_error 0\n") && !text.contains("\nno 1"), "{text}");
        let text = shown(&[("a.prom", "smart 1\n"), ("b.prom", "smart 2\nother 3\n")]);
        assert!(text.contains("\nsmart 1\n") && !text.contains("smart 2") && text.contains("\nother 3\n"), "{text}");
        assert!(text.contains("\nnode_textfile_scrape_error 1\n"), "{text}");
    }

    #[test]
    fn a_file_with_a_mistake_is_left_out_and_said_and_our_own_names_are_not_taken() {
        let text = shown(&[("a.prom", "x 1\nbroken\n"), ("b.prom", "mainstay_agent_held 1\ny 2\n")]);
        assert!(text.contains("\nnode_textfile_scrape_error 1\n") && text.contains("y 2\n"), "{text}");
        assert!(!text.contains("x 1") && !text.contains("mainstay_agent_held"), "{text}");
    }
}
