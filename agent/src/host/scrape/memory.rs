//! Collectors `meminfo`, `vmstat` and `edac`.

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::parse::meminfo::{self, Amount};
use mainstay_core::parse::vmstat;

use super::tree::{ScrapeError, Tree, float};
use super::{Collected, Found};

pub(super) fn memory(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(bytes) = tree.bytes("proc/meminfo")? else { return Ok(Found::Nothing) };
    let amounts =
        meminfo::all(&bytes).map_err(|source| ScrapeError::Parse { path: "proc/meminfo".to_owned(), source })?;
    for (field, amount) in amounts {
        // `Active(anon)` is no name of a series: it becomes `Active_anon`.
        let plain = field.replace('(', "_").replace(')', "");
        let (name, value) = match amount {
            Amount::Bytes(bytes) => (format!("node_memory_{plain}_bytes"), bytes),
            Amount::Count(count) => (format!("node_memory_{plain}"), count),
        };
        out.gauge(&name, &format!("{field} of /proc/meminfo."), float(value));
    }
    Ok(Found::Data)
}

pub(super) fn vm(tree: &Tree, out: &mut Exposition) -> Collected {
    let Some(bytes) = tree.bytes("proc/vmstat")? else { return Ok(Found::Nothing) };
    let counters =
        vmstat::all(&bytes).map_err(|source| ScrapeError::Parse { path: "proc/vmstat".to_owned(), source })?;
    for (name, value) in counters.into_iter().filter(|(name, _)| is_shown(name)) {
        let help = format!("{name} of /proc/vmstat.");
        out.family(&format!("node_vmstat_{name}"), FamilyKind::Unknown, &help).add(&[], value);
    }
    Ok(Found::Data)
}

/// What node_exporter shows by default (paging, swapping, faults and kills), and what memory was taken back and moved together,
/// which it shows when it is told to.
fn is_shown(name: &str) -> bool {
    let fault = name.strip_prefix("pg").is_some_and(|rest| rest.contains("fault"));
    let shown = ["oom_kill", "pgpg", "pswp", "pgscan_", "pgsteal_", "allocstall", "compact_", "workingset_"];
    fault || shown.iter().any(|prefix| name.starts_with(prefix))
}

pub(super) fn edac(tree: &Tree, out: &mut Exposition) -> Collected {
    const CONTROLLERS: &str = "sys/devices/system/edac/mc";
    for (controller, number) in tree.numbered(CONTROLLERS, "mc") {
        let folder = format!("{CONTROLLERS}/{controller}");
        let number = number.to_string();
        for (kind, word) in [("ce", "correctable"), ("ue", "uncorrectable")] {
            let name = format!("node_edac_{word}_errors_total");
            let mut family = out.family(&name, FamilyKind::Counter, "Errors of memory, by controller.");
            if let Some(count) = tree.number(&format!("{folder}/{kind}_count")) {
                family.add(&[("controller", &number)], count);
            }
            let name = format!("node_edac_csrow_{word}_errors_total");
            let help = "Errors of memory, by row of chips; unknown where the controller does not tell.";
            let mut family = out.family(&name, FamilyKind::Counter, help);
            if let Some(count) = tree.number(&format!("{folder}/{kind}_noinfo_count")) {
                family.add(&[("controller", &number), ("csrow", "unknown")], count);
            }
            for (row, row_number) in tree.numbered(&folder, "csrow") {
                if let Some(count) = tree.number(&format!("{folder}/{row}/{kind}_count")) {
                    family.add(&[("controller", &number), ("csrow", &row_number.to_string())], count);
                }
            }
        }
    }
    Ok(Found::Data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_node_exporter_shows_of_vmstat_and_of_reclaim() {
        for name in ["oom_kill", "pgpgin", "pswpout", "pgfault", "pgmajfault"] {
            assert!(is_shown(name), "{name}");
        }
        for name in ["pgscan_direct", "pgsteal_kswapd", "allocstall_normal", "compact_stall", "workingset_refault_file"]
        {
            assert!(is_shown(name), "{name}");
        }
        for name in ["nr_free_pages", "thp_fault_alloc", "pgfree"] {
            assert!(!is_shown(name), "{name}");
        }
    }
}
