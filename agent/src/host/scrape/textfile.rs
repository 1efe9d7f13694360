//! Collector `textfile`: series that other programs leave in files.
//!
//! Scripts written for node_exporter put them where Debian's package looks for them, so that is
//! where we look too. Anybody who may write there may name any series, except those that are
//! here already: what we measure ourselves is never overwritten.

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::parse::textfile;

use super::Found;
use super::tree::Tree;

/// Where Debian's node_exporter looks.
const FOLDER: &str = "var/lib/prometheus/node-exporter";

/// Families with these names would be taken for the agent's own.
const RESERVED: [&str; 3] = ["mainstay_", "process_", "node_scrape_"];

pub(super) fn textfile(tree: &Tree, out: &mut Exposition) -> super::Collected {
    let names = tree.names(FOLDER);
    // No folder is no mistake: nobody has to leave anything there.
    let mut failed = false;
    for name in names.unwrap_or_default().iter().filter(|name| name.ends_with(".prom")) {
        let path = format!("{FOLDER}/{name}");
        let Ok(Some(families)) = tree.parsed(&path, textfile::parse) else {
            failed = true;
            continue;
        };
        let mut part = Exposition::default();
        for family in families.iter().filter(|family| !RESERVED.iter().any(|prefix| family.name.starts_with(prefix))) {
            let mut series = part.family(&family.name, family.kind, &family.help);
            for one in &family.series {
                let mut labels: Vec<(&str, &str)> =
                    one.labels.iter().map(|(label, text)| (label.as_str(), text.as_str())).collect();
                labels.sort_unstable();
                series.add_part(one.suffix, &labels, one.value);
            }
        }
        failed |= !out.absorb_new(part);
        if let Some(modified) = tree.modified_seconds(&path) {
            out.family("node_textfile_mtime_seconds", FamilyKind::Gauge, "When a file was last written.")
                .add(&[("file", &format!("/{path}"))], modified);
        }
    }
    out.gauge(
        "node_textfile_scrape_error",
        "1 if a file could not be read or understood.",
        f64::from(u8::from(failed)),
    );
    Ok(Found::Data)
}
